"""A messaging system in this process that several connections share, with leases, passwords and restarts.

Its backend is written like those of real systems, on `ClientBackend` and `PullServer`. It is what the
conformance suite is tested on: whole it passes, and each of its faults is caught (see tests/mutants.py).
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import msgviz as mv
from msgviz import testing
from msgviz.client import ClientBackend, ClientTopic
from msgviz.message import Source, wrap
from msgviz.pull import Delivery, PullServer
from msgviz.server import BackoffLike
from msgviz.urls import read_url


class BrokerError(Exception):
    """What the client library of this system would raise."""


class MissingError(Exception):
    """What it would raise for a topic that does not exist."""


@dataclass(eq=False)
class Kept:
    """One message of one subscription."""

    body: bytes
    values: Any
    ready: float
    attempt: int = 1
    lent_until: float | None = None


@dataclass(eq=False)
class Broker:
    """The system."""

    PASSWORD: ClassVar[str] = "right"
    hosts: ClassVar[dict[str, Broker]] = {}

    topics: dict[str, dict[str, list[Kept]]] = field(default_factory=dict)
    unclaimed: dict[str, list[Kept]] = field(default_factory=dict)
    up: bool = True
    epoch: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Counter[str] = field(default_factory=Counter)
    host: str = field(default_factory=lambda: f"host-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.hosts[self.host] = self

    def tick(self, what: str) -> int:
        """How often this was asked about this, this time included."""
        self.counts[what] += 1
        return self.counts[what]

    def subscribe(self, topic: str, subscription: str) -> None:
        queues = self.topics[topic]
        if subscription not in queues:
            queues[subscription] = [] if queues else self.unclaimed.pop(topic, [])

    def publish(self, topic: str, message: mv.Message, delay: float, only: str | None) -> None:
        queues = self.topics[topic]
        targets = list(queues.values()) if only is None else [queues[only]]
        if not targets:
            targets = [self.unclaimed.setdefault(topic, [])]
        for queue in targets:
            queue.append(Kept(message.body, message.freeze(), time.monotonic() + delay))
        self.changed.set()

    def lend(self, source: Source, count: int, seconds: float) -> list[Kept]:
        now = time.monotonic()
        lent = []
        for kept in self.queue(source):
            if len(lent) < count and kept.ready <= now and (kept.lent_until or 0) <= now:
                kept.attempt += kept.lent_until is not None  # somebody had it, and said nothing
                kept.lent_until = now + seconds
                lent.append(kept)
        return lent

    def queue(self, source: Source) -> list[Kept]:
        return self.topics[source.topic][source.subscription]

    def done(self, source: Source, kept: Kept) -> None:
        with suppress(ValueError):
            self.queue(source).remove(kept)

    def again(self, source: Source, kept: Kept, delay: float, *, attempt: int, first: bool = False) -> None:
        self.done(source, kept)
        queue = self.queue(source)
        queue.insert(0 if first else len(queue), kept)
        kept.lent_until, kept.ready, kept.attempt = None, time.monotonic() + delay, attempt
        self.changed.set()

    async def restart(self) -> None:
        self.up = False
        self.epoch += 1
        for queues in self.topics.values():
            for kept in [kept for queue in queues.values() for kept in queue]:
                kept.lent_until = None
        await asyncio.sleep(0.05)
        self.up = True


class BrokerTopic(ClientTopic):
    """A topic of the system."""

    async def put(self, message: mv.Message, delay: float) -> None:
        self.backend.check_link()
        await asyncio.sleep(0)
        self.backend.broker.publish(self.name, message, delay, self.subscription)


class BrokerServer(PullServer):
    """Takes messages that are lent."""

    async def open(self) -> None:
        self.backend.check_link()
        self.epoch = self.broker.epoch
        self.lease = self.backend.lease

    @property
    def broker(self) -> Broker:
        broker: Broker = self.backend.broker
        return broker

    async def take(self, count: int) -> Sequence[Delivery]:
        deadline = time.monotonic() + 0.05
        while True:
            self.check_epoch()
            lent = self.broker.lend(self.source, count, self.lease)
            if lent or time.monotonic() > deadline:
                return [self.delivery(kept) for kept in lent]
            self.broker.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.broker.changed.wait(), 0.005)

    def delivery(self, kept: Kept) -> Delivery:
        message = wrap(kept.body, kept.values)
        message.attempt = kept.attempt
        return Delivery(message, kept)

    def check_epoch(self) -> None:
        if not self.broker.up or self.epoch != self.broker.epoch:
            raise BrokerError("the connection was lost")

    async def ack(self, delivery: Delivery) -> None:
        self.check_epoch()
        self.broker.done(self.source, delivery.handle)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        self.check_epoch()
        attempt = delivery.message.attempt + 1
        self.broker.again(self.source, delivery.handle, delay, attempt=attempt)

    async def release(self, delivery: Delivery) -> None:
        self.check_epoch()
        attempt = delivery.message.attempt
        self.broker.again(self.source, delivery.handle, 0.0, attempt=attempt, first=True)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            delivery.handle.lent_until = time.monotonic() + self.lease


class BrokerBackend(ClientBackend):
    """A connection to the system."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {**ClientBackend.OPTIONS, "lease": float}
    name = "broker"
    features = mv.Features(
        ordered=True,
        persistent=True,
        max_delay=math.inf,
        multi_valued_attributes=True,
        max_attributes=None,
        max_body=None,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=True,
    )
    topic_class: type[BrokerTopic] = BrokerTopic
    server_class: type[BrokerServer] = BrokerServer

    def __init__(self, safe_url: str, host: str, password: str | None, *, lease: float = 30.0, **rest: Any):
        super().__init__(safe_url, **rest)
        self.host, self.password, self.lease = host, password, lease

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        parts = read_url(url, cls.OPTIONS, options)
        return cls(parts.safe, parts.host, parts.password, **parts.options)

    @property
    def broker(self) -> Broker:
        return Broker.hosts[self.host]

    def check_link(self) -> None:
        if not self.broker.up:
            raise BrokerError("the connection was refused")

    async def open(self) -> None:
        if self.host not in Broker.hosts:
            raise BrokerError("nobody listens there")
        if self.password != Broker.PASSWORD:
            raise BrokerError("access denied")
        self.check_link()

    async def make(self, topic: str, sources: list[Source]) -> None:
        self.check_link()
        await asyncio.sleep(0)
        if not self.create:
            made = self.broker.topics.get(topic)
            missing = [s.subscription for s in sources if made is None or s.subscription not in made]
            if made is None or missing:
                raise MissingError(f"{topic} {' '.join(missing)}")
        self.broker.topics.setdefault(topic, {})
        for source in sources:
            self.broker.subscribe(topic, source.subscription)

    async def disconnect(self) -> None:
        pass

    def explain(self, error: Exception) -> mv.MsgvizError | ValueError | None:
        if isinstance(error, BrokerError):
            return mv.ConnectionFailed(f"{self.safe_url}: {error}")
        if isinstance(error, MissingError):
            return mv.NotFound(f"{self.safe_url}: there is no {error}")
        return None

    def open_topic(self, name: str) -> mv.Topic:
        self.check_open()
        return self.topic_class(self, name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> mv.Server:
        return self.add(
            self.server_class(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )


class BrokerHarness(testing.Harness):
    """The system, whole, or with a part of it replaced by a broken one."""

    name = "broker"
    tested_on = "this process"
    short_lease: ClassVar[Mapping[str, Any]] = {"lease": 0.6}
    lease = 0.6

    def __init__(self, part: type | None = None, *, features: Mapping[str, Any] | None = None, **rest: Any):
        self.broker = part() if part is not None and issubclass(part, Broker) else Broker()
        backend = part if part is not None and issubclass(part, BrokerBackend) else BrokerBackend
        classes = {"features": replace(BrokerBackend.features, **(features or {}))}
        for name, base in (("topic_class", BrokerTopic), ("server_class", BrokerServer)):
            if part is not None and issubclass(part, base):
                classes[name] = part
        self.backend: Any = type(backend.__name__, (backend,), classes)
        for name, value in rest.items():
            setattr(self, name, value)

    async def connect(self, **options: Any) -> mv.Backend:
        backend: mv.Backend = self.backend.from_url(f"broker://me:right@{self.broker.host}", **options)
        return backend

    async def restart(self) -> None:
        await self.broker.restart()

    def unreachable(self) -> str | None:
        return "broker://me:s%65cret@nowhere:7?timeout=0.3"

    def refused(self) -> str | None:
        return f"broker://me:wrong@{self.broker.host}?timeout=0.3"
