"""Probes stand between the layers of a chain, and write into the ledger what passes from one to the next."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, cast

from msgviz.message import Message
from msgviz.observing.breakpoints import SIDES, At
from msgviz.observing.failure import Failure
from msgviz.observing.identity import identify, read_identity
from msgviz.observing.ledger import IN, OUT, Crossing, Ledger, ObservedChain, Passage
from msgviz.receiver import Receiver, ReceiverDecorator, as_async, receiver_name
from msgviz.topic import Topic, TopicDecorator

_inside: ContextVar[Crossing | None] = ContextVar("msgviz_inside", default=None)
"""The crossing that what happens here happens in."""


class Gate:
    """What a probe writes down of each message, and where."""

    def __init__(
        self, ledger: Ledger, chain: ObservedChain, direction: int, depth: int, *, first: bool
    ) -> None:
        self.ledger = ledger
        self.chain = chain  # all gates of one chain have the same
        self.direction = direction
        self.depth = depth  # of the layer behind the gate
        self.first = first
        self.layer = ""

    def leads_to(self, layer: Topic | Receiver) -> None:
        """Say what is behind the gate."""
        self.layer = layer_name(layer)
        self.chain.behind[self.depth] = layer
        self.ledger.layers.add((SIDES[self.direction], self.layer, self.depth))

    def further(self) -> tuple[str, int] | None:
        """The name and the depth of the layer that a message comes to after the one behind the gate."""
        sign = 1 if self.direction == OUT else -1
        after = [depth for depth in self.chain.behind if (depth - self.depth) * sign > 0]
        if not after:
            return None
        depth = min(after, key=lambda depth: abs(depth - self.depth))
        return layer_name(self.chain.behind[depth]), depth

    async def hold(self, message: Message, topic: str | None) -> Message:
        """Hold the message where a breakpoint wants it; see `Stops.hold`."""
        outer = None if self.first else _inside.get()
        if outer is not None and outer.passage.chain is not self.chain:
            outer = None
        source = message.source if self.direction == IN else None
        at = At(
            SIDES[self.direction],
            self.layer,
            self.depth,
            topic if source is None else source.topic,
            None if source is None else source.subscription,
            outer.passage.message_id if outer else (read_identity(message.freeze()) or identify(message))[1],
            message.attempt,
            self.further(),
        )
        began = time.perf_counter_ns()
        try:
            held = await self.ledger.stops.hold(message, at)
        except BaseException:
            if outer is not None:
                outer.edited = True
            raise
        else:
            if outer is not None and held is not message:
                outer.edited = True
            return held
        finally:
            if outer is not None:
                outer.paused += time.perf_counter_ns() - began

    def passing(self, message: Message, topic: str | None) -> _Passing:
        """The message enters the layer behind; it has left it at the end of the ``with`` block."""
        values = message.freeze()
        outer = None
        if self.first:
            source = message.source if self.direction == IN else None
            passage = Passage(
                self.chain,
                self.direction,
                (read_identity(values) or identify(message))[1],
                topic,
                source,
                message.attempt,
            )
            self.ledger.begin(passage)
        else:
            outer = _inside.get()
            if outer is None or outer.passage.chain is not self.chain:
                return _Passing(None)  # a layer sends it from a task of its own
            passage = outer.passage
        crossing = Crossing(passage, self.depth, self.layer, message.body, values)
        self.ledger.enter(outer, crossing)
        return _Passing(crossing)


class _Passing:
    """The time that a message is in the layers behind a gate."""

    __slots__ = ("_crossing", "_token")

    def __init__(self, crossing: Crossing | None) -> None:
        self._crossing = crossing
        self._token: Token[Crossing | None] | None = None

    def __enter__(self) -> None:
        if self._crossing is not None:
            self._token = _inside.set(self._crossing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        crossing = self._crossing
        if crossing is not None and self._token is not None:
            if error is not None:
                crossing.failure = Failure.of(error)
            crossing.ended = time.perf_counter_ns()
            _inside.reset(self._token)


class TopicProbe(TopicDecorator):
    """In front of one layer of a topic, or of the topic of the backend."""

    def __init__(self, next: Topic, gate: Gate) -> None:
        super().__init__(next)
        gate.leads_to(next)
        self.gate = gate

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on; write down what it was."""
        if self.gate.ledger.stops.breakpoints:
            message = await self.gate.hold(message, self.name)
        with self.gate.passing(message, self.name):
            await self.next.send(message, delay)


class ReceiverProbe(ReceiverDecorator):
    """In front of one layer of a receiver, or of the receiver itself."""

    def __init__(self, next: Receiver, gate: Gate) -> None:
        super().__init__(next)
        gate.leads_to(next)
        self.gate = gate

    async def __call__(self, message: Message) -> None:
        """Hand the message on; write down what it was."""
        if self.gate.ledger.stops.breakpoints:
            message = await self.gate.hold(message, None)
        with self.gate.passing(message, None):
            await self.receive(message)


class Probe:
    """A probe's place in a list of decorators."""

    shown = False  # it is no layer that a person asked for

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def encoder(self, topic: Topic) -> Topic:
        """A probe in front of a topic."""
        return TopicProbe(topic, self.gate)

    def decoder(self, receiver: Receiver) -> Receiver:
        """A probe in front of a receiver."""
        return ReceiverProbe(receiver, self.gate)


def probe_encoders(decorators: Sequence[Any], ledger: Ledger) -> tuple[Any, ...]:
    """The decorators of a topic, with probes between them.

    The depth of a layer is its place in the whole list, from 1 on, so that it is the same on both sides.
    """
    chain = ObservedChain()
    found: list[Any] = []
    for depth, decorator in enumerate(decorators, 1):
        if hasattr(decorator, "encoder"):
            found += [Probe(Gate(ledger, chain, OUT, depth, first=not found)), decorator]
    return (*found, Probe(Gate(ledger, chain, OUT, len(decorators) + 1, first=not found)))


def probe_decoders(decorators: Sequence[Any], ledger: Ledger) -> tuple[Any, ...]:
    """The decorators of a receiver, with probes between them; the receiver itself has depth 0."""
    chain = ObservedChain()
    last = Probe(Gate(ledger, chain, IN, 0, first=False))
    found: list[Any] = [last]
    for depth, decorator in enumerate(decorators, 1):
        if getattr(decorator, "shown", True) and hasattr(decorator, "decoder"):
            last = Probe(Gate(ledger, chain, IN, depth, first=False))
            found += [decorator, last]
        else:
            found.append(decorator)
    last.gate.first = True  # a message comes from the side of the system
    return tuple(found)


def probe_topic(topic: Topic, ledger: Ledger) -> Topic:
    """A topic composed by hand, taken apart and put together again with probes between its layers."""
    layers = []
    while isinstance(topic, TopicDecorator):
        layers.append(topic)
        topic = topic.next
    chain = ObservedChain()
    whole: Topic = TopicProbe(topic, Gate(ledger, chain, OUT, len(layers) + 1, first=not layers))
    for depth, layer in reversed(list(enumerate(layers, 1))):
        again = copy.copy(layer)
        again.next = whole
        whole = TopicProbe(again, Gate(ledger, chain, OUT, depth, first=depth == 1))
    return whole


def probe_receiver(receiver: Receiver, ledger: Ledger) -> Receiver:
    """A receiver composed by hand, taken apart and put together again with probes between its layers."""
    layers = []
    while isinstance(receiver, ReceiverDecorator):
        layers.append(receiver)
        receiver = receiver.next
    chain = ObservedChain()
    whole: Receiver = ReceiverProbe(receiver, Gate(ledger, chain, IN, 0, first=not layers))
    for depth, layer in enumerate(reversed(layers), 1):
        again = copy.copy(layer)
        again.next = whole
        again.receive = as_async(whole)
        whole = ReceiverProbe(again, Gate(ledger, chain, IN, depth, first=depth == len(layers)))
    return whole


def second_layer(topic: Topic, ledger: Ledger) -> tuple[str, int] | None:
    """The name and the depth of the layer after a topic's first one, as far as this ledger observes them."""
    while isinstance(topic, TopicProbe) or getattr(topic, "layer", "") == "observe":
        if isinstance(topic, TopicProbe) and topic.gate.ledger is ledger:
            return topic.gate.further()
        topic = cast("TopicDecorator", topic).next
    return None


def layer_name(thing: Any) -> str:
    """The name by which a chain shows a layer, a backend's topic or a receiver."""
    while (
        isinstance(thing, (TopicProbe, ReceiverProbe))
        or type(thing).__name__ == "_ThreadReceiver"
        or getattr(thing, "layer", "") == "observe"
    ):
        thing = thing.next
    layer = getattr(thing, "layer", "")
    if isinstance(layer, str) and layer:
        return layer
    if isinstance(thing, Topic):
        kind = type(thing).__name__.removesuffix("Topic").lower()
        return f"{kind} {thing.name}".strip()
    return receiver_name(thing)
