"""A receiver for tests of nats://, and what a subscription gets."""

from __future__ import annotations

import asyncio
from typing import Any

import msgviz as mv


class Inbox:
    """A receiver that keeps what it received."""

    def __init__(self) -> None:
        self.messages: list[mv.Message] = []
        self._news = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        self.messages.append(message)
        self._news.set()

    async def wait(self, count: int = 1) -> list[mv.Message]:
        async with asyncio.timeout(15):
            while len(self.messages) < count:
                self._news.clear()
                await self._news.wait()
        return self.messages

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


async def received(backend: mv.Backend, topic: str, count: int, **options: Any) -> list[mv.Message]:
    """The first messages that a subscription gets."""
    inbox = Inbox()
    async with backend.server(topic, **options).running(inbox):
        return list(await inbox.wait(count))
