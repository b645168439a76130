"""corrupt: some bodies arrive with a wrong byte. For teaching: which layer notices?"""

from __future__ import annotations

from msgviz.decorators._chance import Chance, check_rate
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator


def encoder(topic: Topic, *, rate: float = 0.1, seed: int | None = 0) -> Topic:
    """A topic that changes one byte in the body of the share `rate`, 0 to 1, of all messages.

    The same `seed` changes the same bytes; None others every time. An empty body has none to change.
    """
    return Encoder(topic, rate=rate, seed=seed)


def decoder(receiver: Receiver, *, rate: float = 0.1, seed: int | None = 0) -> Receiver:
    """A receiver that changes one byte in some bodies; what is delivered again is drawn again.

    Options as for the `encoder`.
    """
    return Decoder(receiver, rate=rate, seed=seed)


class Encoder(TopicDecorator):
    """Damages some bodies on the way out."""

    def __init__(self, next: Topic, *, rate: float = 0.1, seed: int | None = 0) -> None:
        super().__init__(next)
        self.rate = check_rate(rate)
        self.layer = f"corrupt {self.rate:.0%}"
        self._chance = Chance(seed, "publish")

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, perhaps damaged."""
        if self._chance.happens(self.rate):
            message = _damaged(message, self._chance)
        await self.next.send(message, delay)


class Decoder(ReceiverDecorator):
    """Damages some bodies on the way in."""

    def __init__(self, next: Receiver, *, rate: float = 0.1, seed: int | None = 0) -> None:
        super().__init__(next)
        self.rate = check_rate(rate)
        self.layer = f"corrupt {self.rate:.0%}"
        self._chance = Chance(seed, "receive")

    async def __call__(self, message: Message) -> None:
        """Hand the message on, perhaps damaged."""
        if self._chance.happens(self.rate):
            message = _damaged(message, self._chance)
        await self.receive(message)


def _damaged(message: Message, chance: Chance) -> Message:
    if not message.body:
        return message
    body = bytearray(message.body)
    body[chance.randrange(len(body))] ^= chance.randrange(1, 256)
    return message.with_body(bytes(body))
