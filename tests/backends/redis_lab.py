"""What the tests of redis:// share: the servers, a connection, and the bare client library beside it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis import asyncio as client

import msgviz as mv
from tests.systems import system_fixture
from tests.systems.redis import RedisSystem, ValkeySystem

redis = system_fixture(RedisSystem)
valkey = system_fixture(ValkeySystem)


@pytest.fixture(params=["redis", "valkey"])
def system(request: pytest.FixtureRequest) -> RedisSystem:
    found: RedisSystem = request.getfixturevalue(request.param)
    return found


@pytest_asyncio.fixture
async def backend(system: RedisSystem) -> AsyncIterator[mv.Backend]:
    async with mv.connect(system.url, lease=1.0) as connected:
        yield connected


@pytest_asyncio.fixture
async def bare(system: RedisSystem) -> AsyncIterator[Any]:
    """The client library alone, as another program has it."""
    async with client.Redis(port=system.port, protocol=2) as connected:
        yield connected


@pytest.fixture
def name() -> str:
    return f"orders-{uuid.uuid4().hex[:8]}"


async def until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    """Return the first true value of a condition, which may be async."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.02)


async def receive(backend: mv.Backend, topic: str, count: int = 1, **options: Any) -> list[mv.Message]:
    """Serve until `count` messages have come; gives them."""
    got: list[mv.Message] = []
    enough = asyncio.Event()

    async def keep(message: mv.Message) -> None:
        got.append(message)
        if len(got) >= count:
            enough.set()

    async with backend.server(topic, **options).running(keep), asyncio.timeout(15):
        await enough.wait()
    return got
