"""RabbitMQ: nothing acknowledged is lost when a consumer or the broker is killed."""

from __future__ import annotations

from collections.abc import Callable

from tests.backends.crash import broker_restarted, consumer_killed
from tests.systems import record_crash, system_fixture
from tests.systems.rabbitmq import RabbitmqSystem

system = system_fixture(RabbitmqSystem)
Record = Callable[[str, object], None]


async def test_consumer_killed(system: RabbitmqSystem, record_property: Record) -> None:
    crash = await consumer_killed(system.url, "RabbitMQ")
    record_crash(record_property, crash)
    assert crash.acknowledged == 500
    assert crash.lost == 0


async def test_broker_killed(system: RabbitmqSystem, record_property: Record) -> None:
    crash = await broker_restarted(system.url, "RabbitMQ", system.restart, count=1500)
    record_crash(record_property, crash)
    assert crash.acknowledged == 1500
    assert crash.lost == 0
