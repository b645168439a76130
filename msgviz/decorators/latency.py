"""latency: every publish and every receive takes longer. For teaching: what waits for what?"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from msgviz.decorators._chance import Chance
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator, as_seconds

Seconds = float | timedelta
SecondsLike = Seconds | tuple[Seconds, Seconds]
"""Seconds, or the least and the most of them."""


def encoder(topic: Topic, *, seconds: SecondsLike = 0.1, seed: int | None = 0) -> Topic:
    """A topic that waits before it sends a message on.

    `seconds` is how long, or a pair of the least and the most, between which the `seed` draws evenly:
    the same times in the same order, with None others every time.
    """
    return Encoder(topic, seconds=seconds, seed=seed)


def decoder(receiver: Receiver, *, seconds: SecondsLike = 0.1, seed: int | None = 0) -> Receiver:
    """A receiver that waits before it hands a message on. Options as for the `encoder`."""
    return Decoder(receiver, seconds=seconds, seed=seed)


class Encoder(TopicDecorator):
    """Waits on the way out."""

    def __init__(self, next: Topic, *, seconds: SecondsLike = 0.1, seed: int | None = 0) -> None:
        super().__init__(next)
        self._waiting = _Waiting(seconds, seed, "publish")
        self.layer = self._waiting.layer

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, after a while."""
        await asyncio.sleep(self._waiting.draw())
        await self.next.send(message, delay)


class Decoder(ReceiverDecorator):
    """Waits on the way in."""

    def __init__(self, next: Receiver, *, seconds: SecondsLike = 0.1, seed: int | None = 0) -> None:
        super().__init__(next)
        self._waiting = _Waiting(seconds, seed, "receive")
        self.layer = self._waiting.layer

    async def __call__(self, message: Message) -> None:
        """Hand the message on, after a while."""
        await asyncio.sleep(self._waiting.draw())
        await self.receive(message)


class _Waiting:
    def __init__(self, seconds: SecondsLike, seed: int | None, side: str) -> None:
        if isinstance(seconds, tuple):
            if len(seconds) != 2:
                raise ValueError(f"seconds is a number, or the pair (least, most), not {seconds!r}")
            self.least, self.most = (as_seconds(one, "seconds") for one in seconds)
            if self.least > self.most:
                raise ValueError(f"seconds is the pair (least, most), in this order, not {seconds!r}")
        else:
            self.least = self.most = as_seconds(seconds, "seconds")
        upto = f" to {self.most:g}" if self.most > self.least else ""
        self.layer = f"latency {self.least:g}{upto} s"
        self._chance = Chance(seed, side)

    def draw(self) -> float:
        return self._chance.uniform(self.least, self.most)
