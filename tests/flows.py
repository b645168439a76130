"""Small parts of message flows that several tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgviz as mv


class Kept(mv.Topic):
    """A topic that keeps what it is sent, or refuses it with an error."""

    def __init__(self, name: str = "kept", error: BaseException | None = None) -> None:
        self.name = name
        self.error = error
        self.sent: list[mv.Message] = []
        self.delays: list[float] = []

    async def send(self, message: mv.Message, delay: float) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        self.delays.append(delay)


class Backwards:
    """A decorator pair: a body travels from its end to its beginning, and says so."""

    @staticmethod
    def encoder(topic: mv.Topic) -> mv.Topic:
        return _Encoder(topic)

    @staticmethod
    def decoder(receiver: mv.Receiver) -> mv.Receiver:
        return _Decoder(receiver)


class _Encoder(mv.TopicDecorator):
    layer = "backwards"

    async def send(self, message: mv.Message, delay: float) -> None:
        turned = message.with_body(message.body[::-1])
        turned.attributes.add("Direction", "backwards")
        await self.next.send(turned, delay)


class _Decoder(mv.ReceiverDecorator):
    layer = "backwards"

    async def __call__(self, message: mv.Message) -> None:
        if message.attributes.get("Direction") != "backwards":
            raise ValueError("this body does not travel backwards")
        turned = message.with_body(message.body[::-1])
        turned.attributes.set_all("Direction", turned.attributes.get_all("Direction")[1:])
        await self.receive(turned)


class Gate:
    """A receiver that waits until it is let on, and then does as told."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.orders: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def __call__(self, message: mv.Message) -> None:
        self.begun.set()
        order = await self.orders.get()
        self.begun.clear()
        if order is not None:
            raise order


def observed(**limits: Any) -> tuple[mv.MessageLog, mv.Backend]:
    """A log, and a memory backend that it observes."""
    log = mv.MessageLog(**limits)
    return log, mv.observe(mv.connect("memory://"), log)


BAD = [b"bad 1", b"bad 2"]


class Flow:
    """Topic t of an observed backend; receivers refuse what begins with "bad" until `mended`."""

    def __init__(self, *subscriptions: str, **limits: Any) -> None:
        self.log, self.backend = observed(**limits)
        self.topic = self.backend.topic("t")
        self.subscriptions = subscriptions or ("default",)
        self.mended: set[str] = set()
        self.got: list[tuple[str, bytes]] = []
        self.messages: list[mv.Message] = []

    async def __aenter__(self) -> Flow:
        self.stack = AsyncExitStack()
        for name in self.subscriptions:
            server = self.backend.server("t", subscription=name, max_attempts=1)
            await self.stack.enter_async_context(server.running(self.receiver(name)))
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.stack.aclose()

    def receiver(self, name: str) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            self.got.append((name, message.body))
            self.messages.append(message)
            if message.body.startswith(b"bad") and name not in self.mended:
                raise ValueError("bad")

        return receive

    async def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            await self.topic.publish(body, attributes={"A": ["1", "2"], "Of": body.decode()})
        await self.log.settled(5)
        self.got.clear()
        self.messages.clear()

    async def replay(self, *selection: Any, **options: Any) -> Any:
        report = await self.log.replay(*selection, **options)
        await self.log.settled(5)
        return report

    def id_of(self, body: bytes) -> str:
        return next(i for i in self.log.messages.index if self.log.detail(i).body == body)


async def accept(message: mv.Message) -> None:
    """A receiver that is content with everything."""


async def refuse(message: mv.Message) -> None:
    """A receiver that is content with nothing."""
    raise ValueError(f"not {message.body.decode(errors='replace')}")


def columns(log: mv.MessageLog, *names: str) -> list[tuple[Any, ...]]:
    """The events, as tuples of these columns."""
    return list(log.events[list(names)].itertuples(index=False, name=None))


def states(log: mv.MessageLog) -> dict[bytes, str]:
    """The state of each message that was published, by the body it was published with."""
    return {log.detail(i).body: state for i, state in log.messages["state"].items()}


async def until(condition: Callable[[], Any]) -> None:
    """Let the others run until this is so; `TimeoutError` where it never comes to be."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def statuses(report: Any) -> list[str]:
    return [entry.status for entry in report]
