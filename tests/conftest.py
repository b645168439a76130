"""What all tests share."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("msgviz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("msgviz")

BROWSER = "tests/browser/"


class OneBrowser(LoadFileScheduling):
    """A file's tests run in one worker, and all of the browser's, so that JupyterLab begins once."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneBrowser:
    """Share the tests among the workers so."""
    return OneBrowser(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes one worker the longest, so that no worker is left alone with it at the end."""
    long = (BROWSER, "tests/test_testing.py", "tests/backends/test_aws_conformance.py")

    def rank(item: pytest.Item) -> int:
        return next((at for at, start in enumerate(long) if item.nodeid.startswith(start)), len(long))

    items.sort(key=rank)


def require(condition: object, reason: str) -> None:
    """Skip the test where something it needs is missing; with MSGVIZ_REQUIRE=all, as in CI, fail it.

    `reason` says what is missing.
    """
    if condition:
        return
    if os.environ.get("MSGVIZ_REQUIRE") == "all":
        pytest.fail(f"MSGVIZ_REQUIRE=all: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests recorded with `record_property`: figures of crash tests, checks that do not apply."""
    told: dict[str, list[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                told.setdefault(name, []).append(str(value))
    for name, title in (
        ("crash", "crash tests on real servers"),
        ("not applicable", "conformance checks that do not apply"),
    ):
        if name in told:
            terminalreporter.section(title)
            for line in sorted(set(told[name])):
                terminalreporter.write_line(line)
