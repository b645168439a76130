"""The emulator of Google Cloud Pub/Sub for tests: the vendor's, which keeps all in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.systems import end, free_port, wait_for_port

PACKAGE = "google-cloud-cli-pubsub-emulator"


def _jar() -> Path | None:
    """The emulator's jar: the one named by the environment, or that of an installed SDK."""
    if named := os.environ.get("PUBSUB_EMULATOR_JAR"):
        return Path(named)
    found = sorted(jar for folder in _folders() for jar in folder.glob("*pubsub-emulator*.jar"))
    return found[-1] if found else None


def _folders() -> list[Path]:
    inside = Path("platform", "pubsub-emulator", "lib")
    roots = [Path(root) for name in ("CLOUDSDK_ROOT_DIR", "CLOUDSDK_ROOT") if (root := os.environ.get(name))]
    if gcloud := shutil.which("gcloud"):
        roots += Path(gcloud).resolve().parents[1:2]
    folders = [root / inside for root in roots]
    if dpkg := shutil.which("dpkg"):
        listed = subprocess.run([dpkg, "-L", PACKAGE], capture_output=True, text=True, check=False)
        folders += [Path(line).parent for line in listed.stdout.splitlines() if line.endswith(".jar")]
    return [folder for folder in folders if folder.is_dir()]


class PubSubSystem:
    """The emulator on a free port of loopback; restarted, it has its port and has forgotten the rest."""

    project = "msgviz-tests"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.emulator = f"127.0.0.1:{self.port}"
        self.url = f"gcp://{self.project}?emulator={self.emulator}"
        self._process: subprocess.Popen[Any] | None = None

    @staticmethod
    def missing() -> str | None:
        if find_spec("google") is None or find_spec("google.pubsub_v1") is None:
            return "no client for Pub/Sub: pip install google-cloud-pubsub"
        if shutil.which("java") is None:
            return "no java, which the Pub/Sub emulator wants"
        jar = _jar()
        if jar is None or not jar.is_file():
            return f"no Pub/Sub emulator: apt-get install {PACKAGE}, or name its jar in PUBSUB_EMULATOR_JAR"
        return None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(shutil.which("java")), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-jar", str(_jar())),
                    *("--host=127.0.0.1", f"--port={self.port}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for_port(self.port, self._process, 60, said=self.folder / "log")
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self, seconds: float = 60) -> None:
        """Return when it answers, which is some time after it listens."""
        ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        until = time.monotonic() + seconds
        while True:
            try:
                with ask(f"http://{self.emulator}/", timeout=seconds) as answer:
                    answer.read()
            except (OSError, HTTPException):
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            end(self._process, kill=kill)
            self._process = None

    def kill(self) -> None:
        self.stop(kill=True)

    def restart(self) -> None:
        """Kill it and start it again; topics, subscriptions and messages are gone."""
        self.kill()
        self.start()
