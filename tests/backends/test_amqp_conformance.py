"""amqp:// does what every backend must, on RabbitMQ."""

from __future__ import annotations

from typing import Any

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance
from tests.systems import free_port, system_fixture
from tests.systems.rabbitmq import RabbitmqSystem

system = system_fixture(RabbitmqSystem)


class AmqpHarness(testing.Harness):
    """One node, with quorum queues."""

    name = "RabbitMQ"
    tested_on = "RabbitMQ 3.10, real broker"

    def __init__(self, system: RabbitmqSystem) -> None:
        self.system = system

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect(self.system.url, **options)

    def restart(self) -> None:
        self.system.restart()

    def unreachable(self) -> str:
        return f"amqp://someone:secret@127.0.0.1:{free_port()}/"

    def refused(self) -> str:
        return f"amqp://guest:secret@127.0.0.1:{self.system.port}/"


@pytest.fixture
def harness(system: RabbitmqSystem) -> testing.Harness:
    return AmqpHarness(system)


test_conformance = conformance("harness", at_once=6)
