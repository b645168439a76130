"""sqlite:// does what every backend must."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance


class SqliteHarness(testing.Harness):
    """A file; whoever opens it sees what is in it."""

    name = "SQLite"
    tested_on = f"SQLite {sqlite3.sqlite_version} of the standard library, a file"
    short_lease: ClassVar = {"lease": 1.5}
    lease = 1.5

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def connect(self, **options: Any) -> mv.Backend:
        if not options.get("create", True):  # of what may be missing, the file is not meant
            async with await self.connect() as backend:
                await backend.declare("another")
        return mv.connect(f"sqlite:///{self.folder}/flow.db", **options)

    def unreachable(self) -> str:
        return f"sqlite:///{self.folder}/missing/flow.db"


@pytest.fixture
def harness(tmp_path: Path) -> testing.Harness:
    return SqliteHarness(tmp_path)


test_conformance = conformance("harness")
