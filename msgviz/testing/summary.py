"""For a ``conftest.py``: ``pytest_plugins = ["msgviz.testing.summary"]`` lists what did not apply.

Needs nothing of pytest itself: a hook is a function with the right name.
"""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the checks that do not apply, by name, each with its reason."""
    told = {
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "not applicable"
    }
    if told:
        terminalreporter.section("conformance checks that do not apply")
        for line in sorted(told):
            terminalreporter.write_line(line)
