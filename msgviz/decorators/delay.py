"""delay: every message of a topic is delivered later."""

from __future__ import annotations

from datetime import timedelta

from msgviz.message import Message
from msgviz.topic import Topic, TopicDecorator, as_seconds


def encoder(topic: Topic, *, seconds: float | timedelta) -> Topic:
    """A topic that adds `seconds` to the delay a message is sent with.

    It adds, so that what a publisher asked for holds as well: several of these make the sum. Publishing
    raises `Unsupported` where the system cannot delay a message for so long.
    """
    return Encoder(topic, seconds=seconds)


class Encoder(TopicDecorator):
    """Adds to the delay of what is sent."""

    def __init__(self, next: Topic, *, seconds: float | timedelta) -> None:
        super().__init__(next)
        self.seconds = as_seconds(seconds, "seconds")
        self.layer = f"delay {self.seconds:g} s"

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, to be delivered later."""
        await self.next.send(message, delay + self.seconds)
