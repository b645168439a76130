"""The conformance suite on Kafka's protocol."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance
from tests.systems import free_port, system_fixture
from tests.systems.kafka import KafkaSystem

kafka = system_fixture(KafkaSystem)


class KafkaHarness(testing.Harness):
    name = "Kafka"
    tested_on = "tansu 0.6, third-party emulation in memory"
    shares_work = False  # with one partition, between connections; servers of one connection do
    timeout = 25.0
    exempt: ClassVar = {
        "subscribing at once": "tansu leaves a group leaderless whose leader goes while others join"
    }

    def __init__(self, system: KafkaSystem) -> None:
        self.system = system

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect(self.system.url, session=6, **options)

    def unreachable(self) -> str:
        return f"kafka://somebody:secret@127.0.0.1:{free_port()}"

    def refused(self) -> str:
        return f"kafka://somebody:wrong@127.0.0.1:{self.system.port}"


@pytest.fixture
def harness(kafka: KafkaSystem) -> testing.Harness:
    return KafkaHarness(kafka)


test_conformance = conformance("harness", at_once=10)  # joining a group takes seconds
