"""memory:// does what every backend must."""

from __future__ import annotations

from typing import Any

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance


class MemoryHarness(testing.Harness):
    """Each connection is a system of its own; there is no server to reach."""

    name = "memory"
    tested_on = "this process"
    shared = False
    creates = False

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect("memory://", **options)


@pytest.fixture
def harness() -> testing.Harness:
    return MemoryHarness()


test_conformance = conformance("harness")
