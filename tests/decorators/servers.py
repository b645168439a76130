"""What the tests of multiserver share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgviz as mv
from tests.queues import publish


async def full(backend: mv.Backend, counts: dict[str, int], **options: Any) -> list[mv.Server]:
    """A server for each topic, with so many messages waiting."""
    servers = []
    for name, count in counts.items():
        servers.append(backend.server(name, **options))
        await publish(backend.topic(name), *(b"%s%d" % (name.encode(), n) for n in range(count)))
    return servers


class Counting:
    """A receiver that counts topics, among the first so many messages; each takes a while."""

    def __init__(self, first: int, act: Callable[[], Any] = lambda: asyncio.sleep(0)) -> None:
        self.first = first
        self.act = act
        self.topics: list[str] = []
        self.now = self.most = 0

    async def __call__(self, message: mv.Message) -> None:
        assert message.source is not None
        self.topics.append(message.source.topic)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.act()
        finally:
            self.now -= 1

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.topics[: self.first])
