"""The conformance suite: what every backend of msgviz must do, to run against your own.

Write a harness, which says how to connect to the system, and run every check on it:

    import pytest
    from msgviz import testing

    class FolderHarness(testing.Harness):
        name = "folder"
        tested_on = "a folder of this machine"

        async def connect(self, **options):
            return FolderBackend(ROOT, **options)

    @pytest.mark.parametrize("check", testing.checks(), ids=str)
    @pytest.mark.parametrize("variant", testing.VARIANTS)
    async def test_conformance(check, variant, record_property):
        await check.run(testing.VARIANTS[variant](FolderHarness()), record_property)

Or, without pytest, ``print(await testing.run(FolderHarness()))``; or from the command line, for whoever
set up a broker: ``python -m msgviz.testing nats://127.0.0.1:4222``.

Which checks apply follows from the backend's `features` and from the harness; one that does not is told
to `record_property`, and stands in the report by name. ``pytest_plugins = ["msgviz.testing.summary"]`` in
a ``conftest.py`` has pytest list them. `Harness` documents all that one can say; worth giving are
`unreachable()`, `refused()`, `restart()` and, where messages are lent for a time, `short_lease` with
`lease`. Every check makes its own connections and topics, so that they can run at the same time.
"""

from __future__ import annotations

from msgviz.testing import _backends as _backends
from msgviz.testing import _bodies as _bodies
from msgviz.testing import _dead_letters as _dead_letters
from msgviz.testing import _delivery as _delivery
from msgviz.testing import _failures as _failures
from msgviz.testing import _observed as _observed
from msgviz.testing import _servers as _servers
from msgviz.testing.check import Check, checks
from msgviz.testing.harness import Harness
from msgviz.testing.report import Report, Result, run
from msgviz.testing.scene import CheckFailed
from msgviz.testing.variants import VARIANTS

__all__ = ["VARIANTS", "Check", "CheckFailed", "Harness", "Report", "Result", "checks", "run"]
