"""A real JupyterLab with a real browser in front of it, for tests."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from playwright.sync_api import expect

from .kernels import spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
KERNEL = "forked"  # not python3, which Jupyter keeps for the kernel it knows itself
BROWSER_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
VIEWPORT = {"width": 1400, "height": 1000}

EXPECT_SECONDS = 15

expect.set_options(timeout=EXPECT_SECONDS * 1000)


class LabServer:
    """A JupyterLab process that keeps all it writes in one folder.

    `subshells` is the setting commsOverSubshells, which decides on which thread of the kernel a widget's
    messages arrive.
    """

    def __init__(self, folder: Path, subshells: str) -> None:
        self.notebooks = folder / "notebooks"
        self._log = folder / "lab.log"
        config = folder / "config"
        self.notebooks.mkdir(parents=True)
        (config / "labconfig").mkdir(parents=True)
        overrides = {
            "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": subshells},
            "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
            "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
        }
        (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(overrides))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{port}/lab?token={token}"
        self._ready_url = f"http://127.0.0.1:{port}/api/status?token={token}"
        places = {
            "JUPYTER_CONFIG_DIR": config,
            "JUPYTER_DATA_DIR": folder / "data",
            "JUPYTER_RUNTIME_DIR": folder / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
            "IPYTHONDIR": folder / "ipython",
        }
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {
            **os.environ,
            **{name: str(place) for name, place in places.items()},
            "PYTHONPATH": path,
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        kernels = folder / "kernels"
        (folder / "data" / "kernels" / KERNEL).mkdir(parents=True)
        (folder / "data" / "kernels" / KERNEL / "kernel.json").write_text(json.dumps(spec(kernels)))
        for module, *arguments in (
            (
                *("jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"),
                *("--ServerApp.port_retries=0", "--allow-root", "--LabApp.expose_app_in_browser=True"),
                *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={self.notebooks}"),
            ),
            ("tests.browser.kernels", str(kernels)),
        ):
            with self._log.open("ab") as log:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", module, *arguments],
                        env=environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        self._kernels = kernels

    def wait(self) -> None:
        """Return when the server answers; RuntimeError with its log if it does not come up."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and all(process.poll() is None for process in self._processes):
            try:
                with urllib.request.urlopen(self._ready_url, timeout=5):
                    if self._kernels.exists():
                        return
                    time.sleep(0.1)
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{self._log.read_text()[-4000:]}")

    def stop(self) -> None:
        """End the server and its kernels."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


class Lab:
    """One page of JupyterLab. `run` opens a notebook in it, one at a time."""

    def __init__(self, browser: Browser, server: LabServer) -> None:
        self._server = server
        self._count = 0
        self._book: Notebook | None = None
        self.failures: list[str] = []
        """What the page threw and nobody caught, since the last `reset`."""
        self.page = browser.new_page(viewport=VIEWPORT)
        self.page.on("pageerror", self._note)
        self.page.goto(server.url)
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate("() => window.jupyterapp.restored")
        if self.page.locator("#jp-left-stack:visible").count():
            self.command("application:toggle-left-area")
        self._width = self.page.add_style_tag(content="/* width() */")

    def _note(self, error: Any) -> None:
        text = str(error.stack or error)
        frames = [line for line in text.splitlines() if line.lstrip().startswith("at ")]
        # JupyterLab itself, now and then, removes a cell's output that has gone already: none of our code.
        if "removeChild" in text and frames and all("/static/lab/" in frame for frame in frames):
            return
        self.failures.append(text)

    def command(self, name: str, **arguments: Any) -> Any:
        """Execute a command of JupyterLab."""
        return self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(x => x === true)",
            [name, arguments],
        )

    def run(self, cells: Sequence[str], *, fails: bool = False) -> Notebook:
        """Write a notebook of code cells, open it and run it to its end; the one before is closed.

        AssertionError with the traceback of the cell that failed, or, with `fails`, if none did.
        """
        self.close()
        self._count += 1
        name = f"test-{self._count}.ipynb"
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": KERNEL, "display_name": KERNEL}},
        )
        nbformat.write(book, self._server.notebooks / name)
        self.page.evaluate(OPEN, name)
        self._book = Notebook(self.page)
        good = self.command("notebook:run-all-cells")
        if fails:
            assert not good, "no cell failed"
        else:
            assert good, self._book.tracebacks()
        return self._book

    def reset(self) -> None:
        """Go back to the state every test starts in."""
        self.close()
        self.theme("light")
        self.width(None)
        self.page.set_viewport_size(VIEWPORT)
        self.failures.clear()

    def close(self) -> None:
        """Close the notebook and end its kernel."""
        if self._book is not None:
            self._book = None
            self.page.evaluate(CLOSE)

    def theme(self, name: str) -> None:
        """Switch to the `light` or `dark` theme."""
        theme = f"JupyterLab {name.title()}"
        if self.page.get_attribute("body", "data-jp-theme-name") != theme:
            self.command("apputils:change-theme", theme=theme)
            expect(self.page.locator(f'body[data-jp-theme-name="{theme}"]')).to_be_attached()

    def width(self, pixels: int | None) -> None:
        """Make the outputs that wide; None: as wide as the window has room for."""
        rule = (
            "" if pixels is None else f".jp-OutputArea-output {{ flex: none !important; width: {pixels}px; }}"
        )
        self._width.evaluate("(style, rule) => { style.textContent = rule }", rule)

    def screenshot(self, target: Locator, name: str) -> None:
        """Keep a picture of `target` in the folder that MSGVIZ_SCREENSHOTS names; without it, keep none."""
        if folder := os.environ.get("MSGVIZ_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            target.screenshot(path=Path(folder) / f"{name}.png")


class Notebook:
    """The open notebook, after all its cells have run."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def widget(self, name: str) -> Locator:
        """Return the msgviz widgets of that name (`table`, `publisher`, …) in the outputs."""
        return self.output.get_by_test_id(f"mv-{name}")

    @property
    def output(self) -> Locator:
        """The outputs of all cells."""
        return self.panel.locator(".jp-Cell-outputArea")

    def execute(self, code: str) -> None:
        """Run code in the kernel as a cell would (`await` works); AssertionError if it raises."""
        self._request(code, "None")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the kernel; it must be JSON."""
        return self._request("", f"__import__('json').dumps({expression})")

    def expect(self, expression: str, value: Any) -> None:
        """Wait until an expression in the kernel has this value: a click takes a moment to arrive there."""
        deadline = time.monotonic() + EXPECT_SECONDS
        while (now := self.evaluate(expression)) != value and time.monotonic() < deadline:
            time.sleep(0.05)
        assert now == value

    def _request(self, code: str, expression: str) -> Any:
        reply = self.page.evaluate(EXECUTE, [code, expression])
        assert reply["status"] == "ok", "\n".join(plain(line) for line in reply["traceback"])
        value = reply["user_expressions"]["value"]
        assert value["status"] == "ok", f"{expression}: {value.get('ename')}: {value.get('evalue')}"
        text = value["data"]["text/plain"]
        return None if text == "None" else json.loads(eval(text))  # a str in its repr form

    def tracebacks(self) -> str:
        """Return what the failed cells say."""
        return "\n".join(
            self.output.locator('[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts()
        )


def plain(text: str) -> str:
    """Return text without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


OPEN = """async path => {
    const panel = await window.jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
    await panel.context.ready;
    await panel.revealed;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    window.testPanel = panel;
}"""

CLOSE = """async () => {
    const panel = window.testPanel;
    await panel.sessionContext.shutdown();
    await panel.context.save();
    panel.dispose();
}"""

EXECUTE = """async ([code, expression]) => {
    const kernel = window.testPanel.sessionContext.session.kernel;
    const future = kernel.requestExecute(
        {code, silent: false, store_history: false, user_expressions: {value: expression}});
    return (await future.done).content;
}"""
