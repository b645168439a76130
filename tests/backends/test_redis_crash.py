"""What Redis and Valkey keep when a consumer, or they themselves, are killed in mid-stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.backends import crash
from tests.systems import record_crash, system_fixture
from tests.systems.redis import RedisSystem, ValkeySystem

redis = system_fixture(RedisSystem)
valkey = system_fixture(ValkeySystem)

Record = Callable[[str, object], None]


@pytest.fixture(params=["redis", "valkey"])
def system(request: pytest.FixtureRequest) -> RedisSystem:
    found: RedisSystem = request.getfixturevalue(request.param)
    return found


async def test_a_killed_consumer_loses_nothing(system: RedisSystem, record_property: Record) -> None:
    result = await crash.consumer_killed(system.url, system.name, lease=2.0)
    record_crash(record_property, result)
    assert result.acknowledged == 500
    assert result.lost == 0


async def test_a_killed_server_that_syncs_always_loses_nothing(
    system: RedisSystem, record_property: Record
) -> None:
    result = await crash.broker_restarted(
        system.url, f"{system.name} with appendfsync always", system.restart, lease=2.0
    )
    record_crash(record_property, result)
    assert result.acknowledged == 500
    assert result.lost == 0
