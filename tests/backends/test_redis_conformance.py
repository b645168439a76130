"""redis:// does what every backend must, on Redis and on Valkey."""

from __future__ import annotations

from typing import Any

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance
from tests.systems import free_port, system_fixture
from tests.systems.redis import RedisSystem, ValkeySystem

redis = system_fixture(RedisSystem)
valkey = system_fixture(ValkeySystem)


class RedisHarness(testing.Harness):
    """A server that keeps every command on disk."""

    lease = 1.5

    def __init__(self, system: RedisSystem) -> None:
        self.short_lease = {"lease": self.lease}
        self.system = system
        self.name = system.name
        self.tested_on = f"{system.name}, real server"

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect(self.system.url, **options)

    def restart(self) -> None:
        self.system.restart()

    def unreachable(self) -> str:
        return f"redis://someone:secret@127.0.0.1:{free_port()}"

    def refused(self) -> str:
        return f"redis://someone:secret@127.0.0.1:{self.system.port}"


@pytest.fixture
def on_redis(redis: RedisSystem) -> testing.Harness:
    return RedisHarness(redis)


@pytest.fixture
def on_valkey(valkey: RedisSystem) -> testing.Harness:
    return RedisHarness(valkey)


test_redis = conformance("on_redis", at_once=8)
test_valkey = conformance("on_valkey", at_once=8)
