"""nats:// does what every backend must, on a NATS server with JetStream."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance
from tests.systems import free_port, system_fixture
from tests.systems.nats import NatsWithPassword

system = system_fixture(NatsWithPassword)


class NatsHarness(testing.Harness):
    """A server that keeps its streams on disk."""

    name = "NATS"
    tested_on = "NATS JetStream 2.15, real broker"
    short_lease: ClassVar[dict[str, Any]] = {"lease": 1.5}
    lease = 1.5

    def __init__(self, system: NatsWithPassword) -> None:
        self.system = system

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect(self.system.url, **options)

    def restart(self) -> None:
        self.system.restart()

    def unreachable(self) -> str:
        return f"nats://someone:secret@127.0.0.1:{free_port()}"

    def refused(self) -> str:
        return f"nats://someone:secret@127.0.0.1:{self.system.port}"


@pytest.fixture
def harness(system: NatsWithPassword) -> testing.Harness:
    return NatsHarness(system)


test_conformance = conformance("harness", at_once=6)
