"""Faults that a backend may have: each a part of the broker's backend that does one thing wrong.

Each names the checks of the conformance suite that catch it, and what they say of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgviz as mv
from msgviz.message import Source, wrap
from msgviz.pull import Delivery
from tests.broker import Broker, BrokerBackend, BrokerServer, BrokerTopic, Kept


@dataclass(frozen=True)
class Mutant:
    """One fault. `part` stands in for the base class of its kind."""

    what: str
    checks: tuple[str, ...]
    says: str
    part: type
    harness: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.what


MUTANTS: list[Mutant] = []


def fault(what: str, *checks: str, says: str, **harness: Any) -> Callable[[type], type]:
    """Register a fault, the checks that catch it, and a pattern of what they say."""

    def register(part: type) -> type:
        MUTANTS.append(Mutant(what, checks, says, part, harness))
        return part

    return register


def text(message: mv.Message, body: bytes) -> mv.Message:
    return wrap(body, message.freeze())


# What is in a message


@fault("strips the ends of a body", "text bodies", says="the body arrived as")
class StripsTheEnds(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        await super().put(text(message, message.body.strip()), delay)


@fault("sends no empty body", "empty body", says="an empty body with an attribute never came")
class SendsNoEmpty(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        if message.body:
            await super().put(message, delay)


@fault("takes a body for text", "binary bodies", says="the body arrived as .*, not as")
class TakesABody(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        await super().put(text(message, message.body.decode(errors="replace").encode()), delay)


@fault("cuts a large body short", "largest body", says="the body arrived as .*500000 bytes")
class CutsALarge(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        await super().put(text(message, message.body[:500_000]), delay)


class _Unchecked(BrokerTopic):
    async def send(self, message: mv.Message, delay: float) -> None:
        await self.backend.send(self, message, delay)


fault("does not mind its limit of a body", "too large a body", says="raised nothing, and no ValueError",
      features={"max_body": 1000})(_Unchecked)  # fmt: skip
fault("does not mind its limit of attributes", "too many attributes", says="raised nothing",
      features={"max_attributes": 9})(_Unchecked)  # fmt: skip
fault("does not mind that a body is text", "binary bodies are refused", says="raised nothing",
      features={"binary_body": False})(_Unchecked)  # fmt: skip
fault("does not mind a second value", "several values are refused", says="raised nothing",
      features={"multi_valued_attributes": False})(_Unchecked)  # fmt: skip
fault("does not mind too long a delay", "too long a delay", says="raised nothing, and no Unsupported",
      features={"max_delay": 5})(_Unchecked)  # fmt: skip


class _Attributes(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        kept = {k: v for key, value in message.freeze().items() for k, v in self.changed(key, value)}
        await super().put(wrap(message.body, kept), delay)

    def changed(self, key: str, value: Any) -> Iterable[tuple[str, Any]]:
        raise NotImplementedError


@fault("loses the second value of an attribute", "several values", says="'Color' as .*'red'.*not as")
class LosesTheSecond(_Attributes):
    def changed(self, key: str, value: Any) -> Iterable[tuple[str, Any]]:
        return [(key, value if isinstance(value, str) else value[0])]


@fault("writes keys in small letters", "attributes", says="these attributes arrived otherwise")
class WritesKeysIn(_Attributes):
    def changed(self, key: str, value: Any) -> Iterable[tuple[str, Any]]:
        return [(key.lower(), value)]


@fault("keeps no empty value", "odd attributes", says="'Odd' as None")
class KeepsNoEmpty(_Attributes):
    def changed(self, key: str, value: Any) -> Iterable[tuple[str, Any]]:
        return [(key, value)] if value else []


@fault("takes a key for its own", "odd attributes", says="the key 'Subject'")
class TakesAKey(_Attributes):
    def changed(self, key: str, value: Any) -> Iterable[tuple[str, Any]]:
        return [(key, value)] if key != "Subject" else []


@fault("keeps ten attributes", "many attributes", says="arrived otherwise")
class KeepsTenAttributes(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        await super().put(wrap(message.body, dict(list(message.freeze().items())[:10])), delay)


@fault("delivers again what a receiver made of it", "messages are apart", says="delivery 2: .*black")
class DeliversAgainWhat(BrokerServer):
    async def retry(self, delivery: Delivery, delay: float) -> None:
        delivery.handle.values = delivery.message.freeze()
        await super().retry(delivery, delay)


class _PublishesAlways(mv.MessageWriter):
    __slots__ = ()

    def close(self) -> Any:
        self.write(b"")
        return super().close()


@fault("publishes what was never written", "writer", says="came that nobody sent")
class PublishesWhatWas(BrokerTopic):
    def new_writer(self) -> mv.MessageWriter:
        return _PublishesAlways(self)


# Delivery


@fault("drops every tenth message", "publish and receive", "publishing at once", "fan-out",
       "many publishers and servers", "competing consumers",
       says="of .* messages never came: .*-.*9")  # fmt: skip
class DropsEveryTenth(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        if self.backend.broker.tick("put") % 10:
            await super().put(message, delay)


@fault("delivers every seventh message twice", "publish and receive", "competing consumers",
       "many publishers and servers", says="more than once|given more")  # fmt: skip
class DeliversEverySeventh(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        if not self.backend.broker.tick("put") % 7:
            await super().put(message, delay)
        await super().put(message, delay)


@fault("makes a subscription when it is first served", "publish before serving", says="never came")
class MakesASubscription(BrokerBackend):
    def want(self, source: Source) -> None:
        pass

    class server_class(BrokerServer):  # noqa: N801  it is that attribute
        async def open(self) -> None:
            self.broker.unclaimed.clear()
            self.broker.subscribe(self.source.topic, self.source.subscription)
            await super().open()


@fault("forgets what has no subscription", "publish before subscribing", says="20 of 20 .* never came")
class ForgetsWhatHas(Broker):
    def publish(self, topic: str, message: mv.Message, delay: float, only: str | None) -> None:
        super().publish(topic, message, delay, only)
        self.unclaimed.clear()


@fault("cannot publish where nobody has subscribed", "nobody subscribed", says="no such queue")
class CannotPublishWhere(Broker):
    def publish(self, topic: str, message: mv.Message, delay: float, only: str | None) -> None:
        if not self.topics[topic]:
            raise ValueError("no such queue")
        super().publish(topic, message, delay, only)


@fault("declares the first subscription only", "declare", says="the subscription second: .* never came")
class DeclaresTheFirst(BrokerBackend):
    async def declare(self, topic: str, *subscriptions: str) -> None:
        await super().declare(topic, *subscriptions[:1])


@fault("has one queue for all subscriptions", "fan-out", says="never came")
class HasOneQueue(BrokerServer):
    def __init__(self, backend: Any, source: Source, **options: Any) -> None:
        super().__init__(backend, source, **options)
        backend.want(Source(source.topic, "default"))

    async def take(self, count: int) -> Sequence[Delivery]:
        self.source = Source(self.source.topic, "default", self.source.max_attempts)
        return await super().take(count)


@fault("lends a message to everybody", "competing consumers", says="more than once")
class LendsAMessage(Broker):
    def lend(self, source: Source, count: int, seconds: float) -> list[Kept]:
        for kept in self.queue(source):
            kept.lent_until = None
        return super().lend(source, count, seconds)


@fault("takes more than it can receive", "a busy server holds up nobody", says="the idle server got")
class TakesMoreThan(BrokerServer):
    async def take(self, count: int) -> Sequence[Delivery]:
        return await super().take(count + 5)


@fault("gives the newest first", "order", says="messages came out of order")
class GivesTheNewest(Broker):
    def publish(self, topic: str, message: mv.Message, delay: float, only: str | None) -> None:
        super().publish(topic, message, delay, only)
        for queue in self.topics[topic].values():
            queue.sort(key=lambda kept: -kept.ready)


@fault("takes a dot for a dash", "topics do not mix", says="messages never came")
class TakesADot(BrokerBackend):
    def open_topic(self, name: str) -> mv.Topic:
        return super().open_topic(name if name.endswith(".dead") else name.replace(".", "-"))


@fault("knows no dots in names", "names", says="no dots")
class KnowsNoDots(BrokerBackend):
    async def make(self, topic: str, sources: list[Source]) -> None:
        if ".v1." in topic:
            raise ValueError("no dots, please")
        await super().make(topic, sources)


@fault("says that all is well, and acknowledges nothing", "done is done", says="came that nobody sent here")
class SaysThatAll(BrokerServer):
    async def ack(self, delivery: Delivery) -> None:
        self.mine = [*getattr(self, "mine", []), delivery]

    async def shut(self) -> None:
        for delivery in getattr(self, "mine", []):
            delivery.handle.lent_until = None


@fault("forgets a subscription when its server ends", "continue after a close", "subscribing at once",
       "graceful shutdown", says="never came|not 16")  # fmt: skip
class ForgetsASubscription(BrokerServer):
    async def shut(self) -> None:
        self.broker.topics[self.source.topic].pop(self.source.subscription, None)

    async def take(self, count: int) -> Sequence[Delivery]:
        self.broker.subscribe(self.source.topic, self.source.subscription)
        return await super().take(count)


@fault("sends to all for one", "to one subscription", "redrive", "replay",
       says="given more .*another subscription|nobody sent here|more than once")  # fmt: skip
class SendsToAll(BrokerTopic):
    def to_subscription(self, subscription: str) -> mv.Topic:
        return self


@fault("sends to all where it cannot send to one", "one subscription is refused", "redrive is refused",
       says="raised nothing, and no Unsupported", features={"addressable_subscriptions": False})  # fmt: skip
class SendsToAllWhere(BrokerTopic):
    def to_subscription(self, subscription: str) -> mv.Topic:
        return self


@fault("swallows a delay", "delay", says=r"a message delayed by 0\.4 s came after 0\.[0-3]")
class SwallowsADelay(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        await super().put(message, 0.0)


@fault("has all wait for a delayed one", "delay", says="before one published after it", timeout=1.5)
class HasAllMessages(Broker):
    def publish(self, topic: str, message: mv.Message, delay: float, only: str | None) -> None:
        super().publish(topic, message, delay, only)
        for queue in self.topics[topic].values():
            last = 0.0
            for kept in queue:
                last = kept.ready = max(kept.ready, last)


# What a receiver fails on


@fault("acknowledges before a message is processed", "redelivery on error", "redelivery on cancellation",
       "redelivery on time-out", "plain function", "any error", "never given up", "continue after errors",
       "a flow with failures", says="never came|not 30")  # fmt: skip
class AcknowledgesBeforeA(BrokerServer):
    async def take(self, count: int) -> Sequence[Delivery]:
        taken = await super().take(count)
        for delivery in taken:
            await self.ack(delivery)
        return taken

    async def retry(self, delivery: Delivery, delay: float) -> None:
        pass


class _Forgives(BrokerServer):
    kind: type[BaseException] = Exception

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        if isinstance(error, self.kind):
            await self._settle(delivery, self.ack(delivery))
        else:
            await super()._failed(delivery, error)


@fault("takes a cancelled receiver for a done one", "redelivery on cancellation", says="never came")
class TakesACancelled(_Forgives):
    kind = asyncio.CancelledError


@fault("takes a time-out for success", "redelivery on time-out", says="never came")
class TakesATime(_Forgives):
    kind = TimeoutError


@fault("ends on an error that it did not expect", "any error", says="ended by itself|it raised")
class EndsOnAn(BrokerServer):
    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        if str(error):
            await super()._failed(delivery, error)


@fault("does not count attempts", "attempts are counted", "attempts outlive a connection", "dead letters",
       "back-off by attempt", "observed", says="attempt|messages never came|the log has")  # fmt: skip
class DoesNotCount(BrokerServer):
    def delivery(self, kept: Kept) -> Delivery:
        kept.attempt = 1
        return super().delivery(kept)


@fault("counts the attempts of one server only", "attempts outlive a connection", says="as attempt 1")
class CountsTheAttempts(BrokerServer):
    async def shut(self) -> None:
        for kept in self.broker.queue(self.source):
            kept.attempt = 1


@fault("tries again at once", "waiting between attempts", says=r"to wait 0.4 s came again after 0\.0")
class TriesAgainAt(BrokerServer):
    async def retry(self, delivery: Delivery, delay: float) -> None:
        await super().retry(delivery, 0.0)


@fault(
    "has the others wait for a failed message",
    "waiting between attempts",
    says="messages waited",
    timeout=1.5,
)
class HasTheOthers(BrokerServer):
    async def retry(self, delivery: Delivery, delay: float) -> None:
        attempt = delivery.message.attempt + 1
        self.broker.again(self.source, delivery.handle, 0.0, attempt=attempt, first=True)
        self.paused = time.monotonic() + delay

    async def take(self, count: int) -> Sequence[Delivery]:
        if time.monotonic() < getattr(self, "paused", 0.0):
            await asyncio.sleep(max(0.0, self.paused - time.monotonic()))
        return await super().take(count)
