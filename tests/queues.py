"""Receivers and queues of memory://, for tests that end with nothing under way."""

from __future__ import annotations

import asyncio

import msgviz as mv

_END = b"-- the end of the queue --"


async def drained(backend: mv.Backend, topic: str, subscription: str = "default") -> list[mv.Message]:
    """Take all messages that are ready, in their order. The queue is first in, first out."""
    kept: list[mv.Message] = []
    ended = asyncio.Event()

    async def receive(message: mv.Message) -> None:
        if message.body == _END:
            ended.set()
        else:
            kept.append(message)

    server = backend.server(topic, subscription=subscription)
    async with server.running(receive):
        await backend.topic(topic).to_subscription(subscription).publish(_END)
        await ended.wait()
    return kept


async def letters(backend: mv.Backend, topic: str = "t", subscription: str = "default") -> list[mv.Message]:
    """The dead letters of a subscription."""
    return await drained(backend, f"{topic}.{subscription}.dead")


async def bodies_left(backend: mv.Backend, topic: str = "t", subscription: str = "default") -> list[bytes]:
    """The bodies of all messages that are ready."""
    return [message.body for message in await drained(backend, topic, subscription)]


def numbered(count: int) -> list[bytes]:
    """Bodies to tell apart."""
    return [b"%d" % number for number in range(count)]


async def publish(topic: mv.Topic, *bodies: bytes) -> None:
    """Publish these, one after the other."""
    for body in bodies:
        await topic.publish(body)


async def turns(count: int = 10) -> None:
    """Let whoever can run, run."""
    for _ in range(count):
        await asyncio.sleep(0)


class Taking:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[mv.Message] = []

    async def __call__(self, message: mv.Message) -> None:
        self.messages.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


class Holding:
    """A receiver that says when it was entered, and leaves when told to."""

    def __init__(self, *, stubborn: bool = False, error: BaseException | None = None) -> None:
        self.stubborn = stubborn
        self.error = error
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.cancelled = 0
        self.now = self.most = 0
        self.done: list[bytes] = []

    async def __call__(self, message: mv.Message) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.entered.set()
        try:
            while not self.leave.is_set():
                try:
                    await self.leave.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    if not self.stubborn:
                        raise
            if self.error is not None:
                raise self.error
            self.done.append(message.body)
        finally:
            self.now -= 1
