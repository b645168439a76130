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
    from collections.abc import Iterator

    from playwright.sync_api import Browser

# Playwright's synchronous interface keeps an event loop running in its thread, in which no asyncio test could
# run any more; so all that touches the browser, the tests included, happens in this one thread.
BROWSER_THREAD = ThreadPoolExecutor(1, thread_name_prefix="browser")


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


@pytest.fixture(scope="session", params=["perCommTarget", "disabled"])
def lab_page(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """One JupyterLab per way the widgets' messages travel, used by all tests."""
    server = LabServer(tmp_path_factory.mktemp("lab"), request.param)
    try:
        server.wait()
        lab = BROWSER_THREAD.submit(Lab, browser, server).result()
        yield lab
        BROWSER_THREAD.submit(lab.page.close).result()
    finally:
        server.stop()


@pytest.fixture
def lab(lab_page: Lab) -> Iterator[Lab]:
    """JupyterLab in its light theme, with no notebook open."""
    BROWSER_THREAD.submit(lab_page.reset).result()
    yield lab_page
    BROWSER_THREAD.submit(lab_page.close).result()
    assert lab_page.failures == []
