"""transactional: what a receiver publishes goes out when it returns, and nothing of it when it raises.

A pair: `encoder` around the topics that it publishes to, `decoder` around the receiver. It is at least once,
not exactly once: where publishing fails halfway, or the message is given back after it, the message is
delivered again, and so is what had gone out already.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextvars import Context, ContextVar

from msgviz.errors import MsgvizError
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator, unsent


class TransactionEnded(MsgvizError):
    """A task published through a transactional topic after the receiver that it came from had ended."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"the receiver in which this was published to {topic!r} has ended: it was not sent; "
            "have the receiver await the tasks that it starts"
        )


class RolledBack(MsgvizError):
    """Why a message was not sent that was published in a receiver which raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"rolled back: its receiver raised {type(error).__name__}")


def encoder(topic: Topic) -> Topic:
    """A topic that keeps what is published inside a transactional receiver until that returns.

    Outside of one it publishes at once. A delay counts from the time it goes out, and what the system
    refuses is refused then. An observer around it records what was published, one inside of it what went
    out. Raises `TransactionEnded` in a task that outlived its receiver.
    """
    return Encoder(topic)


def decoder(receiver: Receiver) -> Receiver:
    """A receiver what is published in which goes out when it returns, in order, over all topics.

    In its threads and tasks too. Raises what made publishing fail. With `retry`, name that after this one
    in a list of decorators: each attempt is a transaction of its own then.
    """
    return Decoder(receiver)


class Encoder(TopicDecorator):
    """Keeps what is published in a transaction."""

    layer = "transactional"
    defers = True

    async def send(self, message: Message, delay: float) -> None:
        """Keep the message for later, or send it on where there is nothing to wait for."""
        transaction = _current.get()
        if transaction is None:
            await self.next.send(message, delay)
        else:
            transaction.keep(_Kept(self.next, message, delay))


class Decoder(ReceiverDecorator):
    """Publishes what was kept, or forgets it."""

    layer = "transactional"

    async def __call__(self, message: Message) -> None:
        """Hand the message on, and publish what was published meanwhile."""
        transaction = _Transaction()
        token = _current.set(transaction)
        try:
            await self.receive(message)
        except BaseException as error:
            for one in transaction.end():
                one.give_up(error)
            raise
        finally:
            _current.reset(token)
        kept = transaction.end()
        for number, one in enumerate(kept):
            try:
                await one.send()
            except BaseException as error:
                for left in kept[number:]:
                    left.give_up(error)
                if number:
                    error.add_note(f"{number} of {len(kept)} messages of this receiver had gone out before")
                raise


class _Kept:
    """A message on its way to a topic, and the context it was published in: what caused it stands there."""

    __slots__ = ("context", "delay", "message", "topic")

    def __init__(self, topic: Topic, message: Message, delay: float) -> None:
        self.topic = topic
        self.message = message
        self.delay = delay
        self.context: Context = contextvars.copy_context()

    async def send(self) -> None:
        """Send it on, as if it were published now."""
        await asyncio.create_task(self._send(), context=self.context)

    def give_up(self, error: BaseException) -> None:
        """It is not sent: the observer that saw it published is to know."""
        tell = self.context.get(unsent)
        if tell is not None:
            tell(RolledBack(error))

    async def _send(self) -> None:
        _current.set(None)  # for another of these around the same topic
        await self.topic.send(self.message, self.delay)


class _Transaction:
    """What was published in one receiver, until that has ended. Publishers may be threads."""

    def __init__(self) -> None:
        self._kept: list[_Kept] | None = []
        self._lock = threading.Lock()

    def keep(self, kept: _Kept) -> None:
        """Keep a message; `TransactionEnded` where nobody would send it any more."""
        with self._lock:
            if self._kept is None:
                raise TransactionEnded(kept.topic.name)
            self._kept.append(kept)

    def end(self) -> list[_Kept]:
        """What was kept; there will be no more."""
        with self._lock:
            kept, self._kept = self._kept or [], None
            return kept


_current: ContextVar[_Transaction | None] = ContextVar("msgviz_transaction", default=None)
