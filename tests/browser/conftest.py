"""Fixtures of the browser tests: each runs in a JupyterLab page, under both ways its messages can travel."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.conftest import require

from .lab import BROWSER_ARGUMENTS, Lab, LabServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

# Playwright's synchronous interface keeps an event loop running in its thread, in which no asyncio test could
# run any more; so all that touches the browser, the tests included, happens in this one thread.
BROWSER_THREAD = ThreadPoolExecutor(1, thread_name_prefix="browser")

SETTINGS = ["perCommTarget", "disabled"]
"""Of commsOverSubshells, the way that widgets' messages travel: JupyterLab's own first."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of the browser at every setting; one that is marked `looks`, at JupyterLab's own."""
    if "lab" in metafunc.fixturenames:
        once = metafunc.definition.get_closest_marker("looks")
        metafunc.parametrize("setting", SETTINGS[:1] if once else SETTINGS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run the tests that use the browser in the browser's thread."""
    if "lab" not in pyfuncitem.fixturenames:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    BROWSER_THREAD.submit(pyfuncitem.obj, **arguments).result()
    return True


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; without it the test is skipped, or fails where MSGVIZ_REQUIRE=all."""
    chromium = shutil.which("chromium")
    require(chromium, "chromium is not installed")
    playwright = BROWSER_THREAD.submit(sync_playwright().start).result()
    browser = BROWSER_THREAD.submit(
        playwright.chromium.launch, executable_path=chromium, args=BROWSER_ARGUMENTS
    ).result()
    yield browser
    BROWSER_THREAD.submit(browser.close).result()
    BROWSER_THREAD.submit(playwright.stop).result()


@pytest.fixture(scope="session")
def labs(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Lab]]:
    """Gives the JupyterLab of a setting, begun when it is first asked for and used by all tests."""
    begun: dict[str, tuple[LabServer, Lab]] = {}

    def lab_at(setting: str) -> Lab:
        if setting not in begun:
            server = LabServer(tmp_path_factory.mktemp("lab"), setting)
            try:
                server.wait()
                begun[setting] = server, BROWSER_THREAD.submit(Lab, browser, server).result()
            except BaseException:
                server.stop()
                raise
        return begun[setting][1]

    yield lab_at
    for server, lab in begun.values():
        BROWSER_THREAD.submit(lab.page.close).result()
        server.stop()


@pytest.fixture
def lab(setting: str, labs: Callable[[str], Lab]) -> Iterator[Lab]:
    """JupyterLab in its light theme, with no notebook open."""
    lab = labs(setting)
    BROWSER_THREAD.submit(lab.reset).result()
    yield lab
    BROWSER_THREAD.submit(lab.close).result()
    assert lab.failures == []
