"""A consumer of Kafka is killed in mid-stream. The broker of the tests keeps nothing: no crash of it here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.backends.crash import consumer_killed
from tests.systems import record_crash, system_fixture
from tests.systems.kafka import KafkaSystem

kafka = system_fixture(KafkaSystem)


@pytest.mark.timeout(120)
async def test_consumer_killed(kafka: KafkaSystem, record_property: Callable[[str, object], None]) -> None:
    crash = await consumer_killed(kafka.url, "Kafka (tansu)", session=6)
    record_crash(record_property, crash)
    assert crash.lost == 0
