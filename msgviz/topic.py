"""Topic and MessageWriter: where messages are sent."""

from __future__ import annotations

import copy
import json as _json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from msgviz.attributes import Attributes, AttributesLike
from msgviz.errors import Unsupported, WriterClosed
from msgviz.message import Message, as_bytes, wrap

_UNSET: Any = object()
_new = object.__new__


class MessageWriter:
    """Writes one message to a topic; used once. Source: go-msg's ``MessageWriter``.

    Used by every backend and decorator. After `close`, every `write`, `set_delay` and `close` raises
    `WriterClosed`. As ``async with topic.new_writer() as w:`` it publishes on leaving, and publishes
    nothing when the block raised. A writer that was never written to publishes nothing.
    """

    __slots__ = ("_body", "_delay", "_topic", "attributes")

    def __init__(self, topic: Topic) -> None:
        self.attributes = Attributes()
        self._topic: Topic | None = topic  # None once closed
        self._body: bytes | list[bytes] | None = None
        self._delay = 0.0

    def write(self, data: bytes) -> int:
        """Append to the body; gives the number of bytes written."""
        if self._topic is None:
            raise WriterClosed
        if not isinstance(data, bytes):
            data = as_bytes(data)
        body = self._body
        if body is None:
            self._body = data
        elif isinstance(body, list):
            body.append(data)
        else:
            self._body = [body, data]
        return len(data)

    def set_delay(self, delay: float | timedelta) -> None:
        """Ask for delivery no sooner than after this many seconds.

        A backend that cannot do it raises `Unsupported` when the writer is closed.
        """
        if self._topic is None:
            raise WriterClosed
        self._delay = as_seconds(delay, "delay")

    def close(self) -> Coroutine[Any, Any, None]:
        """Publish what was written; returns when the system has taken the message."""
        topic = self._topic
        if topic is None:
            raise WriterClosed
        self._topic = None
        body = self._body
        if body is None:
            return _nothing()
        if isinstance(body, list):
            body = b"".join(body)
        attributes = self.attributes
        if attributes.__class__ is not Attributes:  # somebody assigned a mapping of their own
            attributes = Attributes(attributes)
        attributes._shared = True  # freeze(), without the price of a call
        return topic.send(wrap(body, attributes._values), self._delay)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._topic = None
        elif self._topic is not None:
            await self.close()


async def _nothing() -> None:
    """A writer that was never written to publishes nothing."""


class Topic(ABC):
    """Where messages are sent. Any number of tasks may publish to it at once. Source: go-msg's ``Topic``.

    To write one, say its `name` and how to `send` a message; the rest comes with it.
    """

    name: str

    @abstractmethod
    async def send(self, message: Message, delay: float) -> None:
        """Take one message, to be delivered no sooner than after `delay` seconds; it is the topic's now.

        Returns when the system has taken it. Raises `Unsupported` for a delay it cannot keep.
        """

    def new_writer(self) -> MessageWriter:
        """A writer for one message."""
        # As MessageWriter(self), without the two calls of __init__: they are a tenth of a publish.
        writer = _new(MessageWriter)
        attributes = writer.attributes = _new(Attributes)
        attributes._values = {}
        attributes._shared = False
        writer._topic = self
        writer._body = None
        writer._delay = 0.0
        return writer

    async def publish(
        self,
        body: bytes = _UNSET,
        *,
        json: Any = _UNSET,
        attributes: AttributesLike | None = None,
        delay: float | timedelta = 0.0,
    ) -> None:
        """Publish one message: a `body` of bytes, or `json`, any value the json module can write."""
        if (body is _UNSET) == (json is _UNSET):
            raise TypeError("publish takes either a body or json=…, and one of them")
        if json is not _UNSET:
            body = _json.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        await self.send(Message(body, attributes), as_seconds(delay, "delay"))

    def to_subscription(self, subscription: str) -> Topic:
        """This topic, through the same chain, but for one of its subscriptions alone.

        Raises `Unsupported` where the system cannot address one.
        """
        raise Unsupported(type(self).__name__, f"cannot send to the one subscription {subscription!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


unsent: ContextVar[Callable[[Exception], None] | None] = ContextVar("msgviz_unsent", default=None)
"""Whom a layer that `defers` is to tell, with the reason, where it gives up a message it had taken."""


class TopicDecorator(Topic):
    """A topic around another, kept as `next`. To write one, override `send` and end it in ``self.next.send``.

    `layer` is the name by which a chain shows it.
    """

    layer: str = ""
    defers: bool = False
    """Whether its `send` may return before the message was sent on, and the message be given up then."""

    def __init__(self, next: Topic) -> None:
        if not isinstance(next, Topic):
            raise TypeError(f"{type(self).__name__} wraps a Topic, not {type(next).__name__}")
        self.next = next
        self.name = next.name

    def to_subscription(self, subscription: str) -> Topic:
        """The same layer around the next topic's `to_subscription`."""
        again = copy.copy(self)
        again.next = self.next.to_subscription(subscription)
        return again


def as_seconds(value: float | timedelta, what: str) -> float:
    """A time span in seconds; `ValueError` for one that is negative or no number."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} is a number of seconds or a timedelta, not {type(value).__name__}")
    if not 0 <= seconds <= sys.float_info.max:
        raise ValueError(f"{what} is a number of seconds from 0 on, not {value!r}")
    return float(seconds)
