"""dead_letter: what fails goes to a topic of your own, with the reason, and the message counts as processed.

The attributes are those of every dead letter here (``Dead-Letter-Reason``, ``-Topic``, ``-Subscription``,
``-Attempts``).
"""

from __future__ import annotations

import logging

from msgviz.dead_letters import dead_letter_attributes
from msgviz.decorators._errors import told
from msgviz.decorators._limits import whole
from msgviz.message import Message, Source
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic

logger = logging.getLogger("msgviz")

_NOWHERE = Source("", "")


def decoder(receiver: Receiver, *, topic: Topic, after: int | None = None) -> Receiver:
    """A receiver whose failed messages go to `topic`, as they came to this layer.

    With `after`, only from that delivery attempt on: before, the error is raised, so that the server tries
    again. Where the letter cannot be published the receiver's error is raised, with a note of why: the
    message is not lost. A cancellation is no failure.
    """
    return Decoder(receiver, topic=topic, after=after)


class Decoder(ReceiverDecorator):
    """Publishes what failed."""

    def __init__(self, next: Receiver, *, topic: Topic, after: int | None = None) -> None:
        super().__init__(next)
        if not isinstance(topic, Topic):
            raise TypeError(f"topic is the Topic that takes dead letters, not {topic!r}")
        self.topic = topic
        self.after = None if after is None else whole(after, "after")
        self.layer = f"dead_letter {topic.name}"

    async def __call__(self, message: Message) -> None:
        """Hand the message on; publish it as a letter where it failed."""
        letter = message.with_body(message.body)  # as it came, whatever the receiver does to it
        try:
            await self.receive(message)
        except Exception as error:
            if self.after is not None and letter.attempt < self.after:
                raise
            if not await self._send(letter, error):
                raise

    async def _send(self, letter: Message, error: Exception) -> bool:
        why = dead_letter_attributes(letter.source or _NOWHERE, letter.attempt, error)
        letter.attributes.update({key: value for key, value in why.items() if value})
        letter.attempt = 1
        letter.source = None
        try:
            await self.topic.send(letter, 0.0)
        except Exception as problem:
            error.add_note(f"its dead letter could not be published to {self.topic.name!r}: {told(problem)}")
            logger.warning("a dead letter could not be published to %r", self.topic.name, exc_info=problem)
            return False
        return True
