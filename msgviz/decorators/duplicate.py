"""duplicate: some messages come twice, as every system may have it. For teaching: does it matter?"""

from __future__ import annotations

from msgviz.decorators._chance import Chance, again, check_rate
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator


def encoder(topic: Topic, *, rate: float = 0.1, seed: int | None = 0) -> Topic:
    """A topic that sends the share `rate`, 0 to 1, of all messages twice, the second after the first.

    A publish of which either fails has failed. The same `seed` doubles the same ones; None others every
    time.
    """
    return Encoder(topic, rate=rate, seed=seed)


def decoder(receiver: Receiver, *, rate: float = 0.1, seed: int | None = 0) -> Receiver:
    """A receiver that hands some messages on twice, the second after the first.

    A receive of which either fails has failed. Options as for the `encoder`.
    """
    return Decoder(receiver, rate=rate, seed=seed)


class Encoder(TopicDecorator):
    """Sends some messages twice."""

    def __init__(self, next: Topic, *, rate: float = 0.1, seed: int | None = 0) -> None:
        super().__init__(next)
        self.rate = check_rate(rate)
        self.layer = f"duplicate {self.rate:.0%}"
        self._chance = Chance(seed, "publish")

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, once or twice."""
        if not self._chance.happens(self.rate):
            await self.next.send(message, delay)
            return
        # What was sent is the next topic's: it may have changed it, or still hold it.
        second = again(message, message.body, message.freeze())
        await self.next.send(message, delay)
        await self.next.send(second, delay)


class Decoder(ReceiverDecorator):
    """Hands some messages on twice."""

    def __init__(self, next: Receiver, *, rate: float = 0.1, seed: int | None = 0) -> None:
        super().__init__(next)
        self.rate = check_rate(rate)
        self.layer = f"duplicate {self.rate:.0%}"
        self._chance = Chance(seed, "receive")

    async def __call__(self, message: Message) -> None:
        """Hand the message on, once or twice."""
        if not self._chance.happens(self.rate):
            await self.receive(message)
            return
        body, values = message.body, message.freeze()
        await self.receive(message)
        # Made only now, so that it has the tag that an observer gave the first.
        await self.receive(again(message, body, values))
