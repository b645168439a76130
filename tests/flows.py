"""Small parts of message flows that several tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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


def observed(**limits: Any) -> tuple[mv.MessageLog, mv.Backend]:
    """A log, and a memory backend that it observes."""
    log = mv.MessageLog(**limits)
    return log, mv.observe(mv.connect("memory://"), log)


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
