"""fail_randomly: some publishes and some receives fail. For teaching: what does the rest make of it?"""

from __future__ import annotations

from collections.abc import Callable

from msgviz.decorators._chance import Chance, check_rate
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator


class RandomFailure(Exception):
    """Nothing is wrong: `fail_randomly` was asked to raise this."""


ErrorLike = Callable[[str], BaseException]
"""An exception class, or any callable that makes an exception of a text."""


def encoder(
    topic: Topic, *, rate: float = 0.1, seed: int | None = 0, error: ErrorLike = RandomFailure
) -> Topic:
    """A topic that fails the share `rate`, 0 to 1, of all publishes, and sends nothing then.

    It raises ``error(text)``. The same `seed` fails the same ones; None others every time.
    """
    return Encoder(topic, rate=rate, seed=seed, error=error)


def decoder(
    receiver: Receiver, *, rate: float = 0.1, seed: int | None = 0, error: ErrorLike = RandomFailure
) -> Receiver:
    """A receiver that fails the share `rate`, 0 to 1, of all receives, and hands nothing on then.

    It raises ``error(text)``. The same `seed` fails the same ones; None others every time.
    """
    return Decoder(receiver, rate=rate, seed=seed, error=error)


class Encoder(TopicDecorator):
    """Fails some publishes."""

    def __init__(
        self, next: Topic, *, rate: float = 0.1, seed: int | None = 0, error: ErrorLike = RandomFailure
    ) -> None:
        super().__init__(next)
        self.rate, self.error = check_rate(rate), _checked(error)
        self.layer = f"fail {self.rate:.0%}"
        self._chance = Chance(seed, "publish")

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, or fail."""
        if self._chance.happens(self.rate):
            raise self.error("fail_randomly failed this publish")
        await self.next.send(message, delay)


class Decoder(ReceiverDecorator):
    """Fails some receives."""

    def __init__(
        self, next: Receiver, *, rate: float = 0.1, seed: int | None = 0, error: ErrorLike = RandomFailure
    ) -> None:
        super().__init__(next)
        self.rate, self.error = check_rate(rate), _checked(error)
        self.layer = f"fail {self.rate:.0%}"
        self._chance = Chance(seed, "receive")

    async def __call__(self, message: Message) -> None:
        """Hand the message on, or fail."""
        if self._chance.happens(self.rate):
            raise self.error("fail_randomly failed this receive")
        await self.receive(message)


def _checked(error: ErrorLike) -> ErrorLike:
    if not callable(error):
        raise TypeError(f"error is an exception class, or a function of a text that makes one, not {error!r}")
    return error
