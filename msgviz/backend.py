"""Backend: one messaging system, and what it can do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from msgviz.dead_letters import Redrive, dead_letter_topic
from msgviz.decorator import check_decorators, decorate_topic
from msgviz.errors import BackendClosed, MsgvizError, Unsupported
from msgviz.message import Message, Source
from msgviz.server import Backoff, BackoffLike, Server
from msgviz.topic import Topic


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a messaging system can do. Asking for more raises `Unsupported`."""

    ordered: bool
    """One worker receives the messages of one publisher in the order they were published."""
    persistent: bool
    """Messages outlive the process that published them."""
    max_delay: float
    """The longest delay of a message, in seconds: 0 for none, infinite for any."""
    multi_valued_attributes: bool
    """An attribute may have several values."""
    max_attributes: int | None
    """The most attributes of one message; None for no limit."""
    max_body: int | None
    """The largest body, in bytes; None for no limit."""
    binary_body: bool
    """A body may be any bytes, not only text."""
    counts_attempts: bool
    """`Message.attempt` counts deliveries."""
    dead_letter: bool
    """A message that used up its attempts goes to a dead-letter topic."""
    addressable_subscriptions: bool
    """A message can be sent to one subscription of a topic alone (`Topic.to_subscription`)."""
    keeps_unsubscribed: bool
    """A message published before its topic has a subscription waits for the first one."""

    def check(self, backend: str, message: Message, delay: float) -> None:
        """Refuse what the system would: `Unsupported` for what it cannot do, `ValueError` for too much."""
        if delay > self.max_delay:
            limit = (
                f"the longest delay of a message is {self.max_delay:g} s, not {delay:g} s"
                if self.max_delay
                else "cannot delay a message"
            )
            raise Unsupported(backend, limit)
        if self.max_body is not None and len(message.body) > self.max_body:
            raise ValueError(
                f"{backend}: a body has at most {self.max_body} bytes, not {len(message.body)}: "
                "send a reference to where it is kept instead"
            )
        if not self.binary_body:
            try:
                message.body.decode("utf-8")
            except UnicodeDecodeError as error:
                limit = "a body is text in UTF-8: have the base64 decorator encode other bytes"
                raise Unsupported(backend, limit) from error
        values = message.freeze()
        if not self.multi_valued_attributes:
            for key, value in values.items():
                if not isinstance(value, str):
                    raise Unsupported(backend, f"an attribute has one value; {key!r} has {len(value)}")
        if self.max_attributes is not None and len(values) > self.max_attributes:
            raise ValueError(
                f"{backend}: a message has at most {self.max_attributes} attributes, not {len(values)}: "
                f"{', '.join(list(values)[:20])}"
            )


class Backend(ABC):
    """One messaging system: makes topics and servers. Made by `msgviz.connect`.

    To write one, say its `features` and define `open_topic`, `open_server`, `declare` and `close`.
    """

    name: str
    features: Features

    def __init__(self) -> None:
        self.closed = False

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """The backend a URL names; `ValueError` for a URL it cannot read."""

    @abstractmethod
    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""

    @abstractmethod
    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server of one subscription, to wrap its receivers in `decorators`."""

    @abstractmethod
    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing, before anything is published."""

    @abstractmethod
    async def close(self) -> None:
        """Shut down the servers made here, and let go of the system. Closing twice is no error."""

    def topic(self, name: str, *, decorators: Iterable[Any] = ()) -> Topic:
        """A topic to publish to. A body meets the `decorators` in their order on its way out."""
        self.check_open()
        return decorate_topic(self.open_topic(check_name(name, "topic")), check_decorators(decorators))

    def server(
        self,
        topic: str,
        *,
        subscription: str = "default",
        concurrency: int = 1,
        max_attempts: int | None = 5,
        backoff: BackoffLike = Backoff(),  # noqa: B008  frozen
        decorators: Iterable[Any] = (),
    ) -> Server:
        """A server of one subscription of a topic.

        Each subscription gets every message; servers of one subscription compete for them. A message
        waits ``backoff(attempt)`` seconds after a failed attempt; after `max_attempts` of them (None:
        no limit) it goes to the subscription's dead-letter topic.
        """
        self.check_open()
        if max_attempts is not None and (
            isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1
        ):
            raise ValueError(f"max_attempts is a whole number from 1 on, or None, not {max_attempts!r}")
        source = Source(check_name(topic, "topic"), check_name(subscription, "subscription"), max_attempts)
        return self.open_server(
            source, concurrency=concurrency, backoff=backoff, decorators=check_decorators(decorators)
        )

    async def redrive(
        self,
        topic: str | Server,
        *,
        subscription: str = "default",
        limit: int | None = None,
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
        to_topic: bool = False,
    ) -> int:
        """Move the dead letters of a subscription back to it; returns how many were moved.

        `topic` may be the server of the subscription. Moves at most `limit` letters, at most `rate` of
        them a second, and calls `progress` with their number after each. A letter leaves the dead-letter
        topic when the system has taken it at its source: none is lost. One that dies again meanwhile is
        not moved again.

        Raises `Unsupported` where a subscription cannot be addressed; `to_topic` then sends its letters to
        the whole topic, where every subscription gets them.
        """
        self.check_open()
        if isinstance(topic, Server):
            source = Source(topic.topic, topic.subscription)
        else:
            source = Source(check_name(topic, "topic"), check_name(subscription, "subscription"))
        target = self.open_topic(source.topic)
        if not to_topic:
            target = target.to_subscription(source.subscription)
        server = self.open_server(
            Source(dead_letter_topic(source), "default"), concurrency=1, backoff=Redrive.WAIT, decorators=()
        )
        return await Redrive(target, limit=limit, rate=rate, progress=progress).run(server)

    def check_open(self) -> None:
        """Raise `BackendClosed` after `close`."""
        if self.closed:
            raise BackendClosed(self.name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self.closed else ''}>"


class BackendDecorator(Backend):
    """A backend around another, kept as `next`. To write one, override `topic` and `server`."""

    def __init__(self, next: Backend) -> None:
        # Whether it is closed is told by the backend inside: nothing of the base class's state is used.
        self.next = next
        self.name = next.name
        self.features = next.features

    @property
    def closed(self) -> bool:  # type: ignore[override]
        """Whether it was closed."""
        return self.next.closed

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Raises `MsgvizError`: there has to be a backend first."""
        raise MsgvizError(f"connect a backend first: {cls.__name__} goes around one")

    def open_topic(self, name: str) -> Topic:
        """The bare topic of the backend inside."""
        return self.next.open_topic(name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """The bare server of the backend inside."""
        return self.next.open_server(source, concurrency=concurrency, backoff=backoff, decorators=decorators)

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing."""
        await self.next.declare(topic, *subscriptions)

    async def close(self) -> None:
        """Close the backend inside."""
        await self.next.close()


def check_name(name: str, what: str) -> str:
    """A topic's or subscription's name; `TypeError` or `ValueError` for one that cannot be one."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} is a str, not {type(name).__name__}")
    if not name.strip():
        raise ValueError(f"the name of a {what} is not empty")
    return name


ANY_DELAY = math.inf
