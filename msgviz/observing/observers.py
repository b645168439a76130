"""The observing decorators: around a topic, a receiver, a server or a whole backend.

They record what passes where they stand, and are the only way events get into a log.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from functools import partial
from time import perf_counter_ns
from typing import Any, cast

from msgviz.attributes import Values
from msgviz.message import Message, Source
from msgviz.observing.breakpoints import PUBLISH, RECEIVE, At
from msgviz.observing.failure import Dropped, Failure
from msgviz.observing.identity import (
    ID_ATTRIBUTE,
    conversation_of,
    identify,
    new_id,
    publishing,
    read_identity,
    receiving,
)
from msgviz.observing.places import Place
from msgviz.observing.probes import (
    layer_name,
    second_layer,
)
from msgviz.observing.recorder import PER_EVENT, Recorder
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator, unsent


class ObservedTopic(TopicDecorator):
    """Records every message published to a topic."""

    layer = "observe"

    def __init__(
        self,
        next: Topic,
        log: Recorder,
        *,
        propagate: bool = True,
        only: str | None = None,
    ) -> None:
        super().__init__(next)
        self.observed_by = log
        self._propagate = propagate
        self._only = only
        self._settle_in()
        self._observers_inside = any(isinstance(layer, ObservedTopic) for layer in _layers(next))
        self._defers = any(getattr(layer, "defers", False) for layer in _layers(next))
        if only is None:
            log.topics[self.name] = self

    def send(self, message: Message, delay: float) -> Coroutine[Any, Any, None]:
        """Send the message on and record it, under an identity of its own."""
        values = message._values if message._attributes is None else message.freeze()
        if ID_ATTRIBUTE in values or message.tag is not None:
            outer = publishing.get()
            if outer is not None and outer in (values.get(ID_ATTRIBUTE), message.tag):
                # An observer further out has given this very message its identity.
                return self.send_as(message, delay, *outer.split("."))
        message_id = new_id()
        cause = receiving.get()
        if cause is None:
            conversation = conversation_of(values, message_id) if "Traceparent" in values else message_id
            return self.send_as(message, delay, conversation, message_id, "")
        conversation, parent, _ = cause
        return self.send_as(message, delay, conversation, message_id, parent)

    async def send_as(
        self, message: Message, delay: float, conversation: str, message_id: str, parent: str
    ) -> None:
        """Send a message on and record it, under this identity."""
        log = self.observed_by
        if self._version != log.places.version:
            self._settle_in()
        if log.stops.breakpoints:
            further = second_layer(self.next, log.ledger)
            at = At(PUBLISH, layer_name(self.next), -1, self.name, self._only, message_id, 1, further)
            held = await _hold(log, message, at, self._number, (conversation, message_id, parent))
            if held is None:
                return
            message = held
            message.freeze()
        values = message._values
        body = message.body
        message.tag = identity = f"{conversation}.{message_id}.{parent}"
        if self._propagate:
            message._values = values = {**values, ID_ATTRIBUTE: identity}
            message._attributes = None
        failure = None
        token = publishing.set(identity) if self._observers_inside else None
        deferred = None
        if self._defers:
            deferred = unsent.set(partial(self._note_unsent, message_id, parent, conversation, values, body))
        began = perf_counter_ns()
        try:
            await self.next.send(message, delay)
        except BaseException as error:
            failure = Failure.of(error)
            if not isinstance(error, Dropped):
                raise
        finally:
            ended = perf_counter_ns()
            if token is not None:
                publishing.reset(token)
            if deferred is not None:
                unsent.reset(deferred)
            size = len(body)  # from here on as Recorder.record
            kept: bytes | int = body
            if size > log.largest_body:
                kept, size = size, 0
            number = self._number
            log.extend((began, ended, number, message_id, parent, conversation, 1, failure, values, kept))
            log.allowance -= size + PER_EVENT
            if log.allowance < 0:
                log.make_room()

    def _note_unsent(
        self, message_id: str, parent: str, conversation: str, values: Values, body: bytes, error: Exception
    ) -> None:
        """A layer that had kept the message, to send it later, gave it up."""
        now = perf_counter_ns()
        failure = Failure.of(error)
        self.observed_by.record(
            (now, now, self._number, message_id, parent, conversation, 1, failure, values, body)
        )

    def _settle_in(self) -> None:
        places = self.observed_by.places
        self._version = places.version
        self._number = places.publish(self.name, only=self._only, tracked=self._propagate).number

    def to_subscription(self, subscription: str) -> Topic:
        """The observed topic, for one subscription alone."""
        return ObservedTopic(
            self.next.to_subscription(subscription),
            self.observed_by,
            propagate=self._propagate,
            only=subscription,
        )


class ObservedReceiver(ReceiverDecorator):
    """Records every message that a receiver is given, and how it ended."""

    layer = "observe"

    def __init__(self, next: Receiver, log: Recorder, *, served: bool = True) -> None:
        super().__init__(next)
        self.observed_by = log
        self._served = served  # by a server: what is published to its topic is then expected here
        self._source: Source | None = None
        self._place: Place = log.places.receive(None, None, 0)

    async def __call__(self, message: Message) -> None:
        """Hand the message on and record how it went."""
        values = message._values if message._attributes is None else message.freeze()
        # The tag first: without propagation, an identity that came along is that of another message.
        identity = None if message.tag is not None else read_identity(values)
        if identity is None:
            identity = identify(message)
        conversation, message_id, parent = identity
        if message.source is not self._source:
            self._settle_in(message.source)
        place = self._place
        if self.observed_by.stops.breakpoints:
            where = (place.topic, place.subscription, message_id, message.attempt)
            at = At(RECEIVE, layer_name(self.next), -1, *where)
            try:
                held = await _hold(self.observed_by, message, at, place.number, identity)
            except BaseException as error:
                _see(self.observed_by, error)
                raise
            if held is None:
                _see(self.observed_by, None)
                return
            message = held
            values = message.freeze()
        body = message.body
        failure = raised = None
        token = receiving.set(identity)
        began = perf_counter_ns()
        place.in_flight[message_id] = began
        try:
            await self.receive(message)
        except BaseException as error:
            failure = Failure.of(error)
            if not isinstance(error, Dropped):
                raised = error
                raise
        finally:
            ended = perf_counter_ns()
            receiving.reset(token)
            log, attempt = self.observed_by, message.attempt
            size = len(body)  # from here on as Recorder.record
            kept: bytes | int = body
            if size > log.largest_body:
                kept, size = size, 0
            log.extend(
                (began, ended, place.number, message_id, parent, conversation, attempt, failure, values, kept)
            )
            log.allowance -= size + PER_EVENT
            if log.allowance < 0:
                log.make_room()
            if _seen.get() is not None:
                _see(log, raised)
            raised = None  # an error that its own frame holds lives until the garbage collector comes
            # Last, so that at no time a message is neither in flight nor in the log.
            place.in_flight.pop(message_id, None)

    def _settle_in(self, source: Source | None) -> None:
        places = self.observed_by.places
        self._source = source
        if source is None:
            self._place = places.receive(None, None, 0)
        else:
            self._place = places.receive(source.topic, source.subscription, source.max_attempts)
            if self._served:
                places.expect(self._place)


class OuterObserver(ReceiverDecorator):
    """Around a server's decorators: records how a receive ended, where the observer inside saw it otherwise.

    A body that does not decode never reaches the one inside; a decorator may swallow an error, or skip a
    message; one may raise when the receiver has returned. What the server is told is what counts.
    """

    def __init__(self, next: Receiver, log: Recorder) -> None:
        super().__init__(next)
        self._log = log

    async def __call__(self, message: Message) -> None:
        """Hand the message on."""
        began = perf_counter_ns()
        seen = _Seen(self._log, _seen.get())
        token = _seen.set(seen)
        failure = None
        told = False
        try:
            await self.receive(message)
            told = seen.well
        except BaseException as error:
            failure = Failure.of(error)
            told = seen.knows(error)
            if not isinstance(error, Dropped):
                raise
        finally:
            _seen.reset(token)
            source = message.source
            if source is not None and not told:
                ended = perf_counter_ns()
                values, log = message.freeze(), self._log
                identity = None if message.tag is not None else read_identity(values)
                conversation, message_id, parent = identity or identify(message)
                place = log.places.receive(source.topic, source.subscription, source.max_attempts)
                log.record(
                    (began, ended, place.number, message_id, parent, conversation, message.attempt,
                     failure, values, message.body)
                )  # fmt: skip
            seen.errors.clear()


class _Seen:
    """What the observers of one log saw inside of a server's decorators."""

    __slots__ = ("errors", "log", "outer", "well")

    def __init__(self, log: Recorder, outer: _Seen | None) -> None:
        self.log = log
        self.outer = outer  # of another log, which observes the same server
        self.well = False  # whether the last receive went well
        self.errors: list[BaseException] = []

    def knows(self, error: BaseException | None) -> bool:
        """Whether this error was seen, or the one it was raised from, or one of its group."""
        while error is not None:
            if any(error is seen for seen in self.errors):
                return True
            if isinstance(error, BaseExceptionGroup) and any(self.knows(e) for e in error.exceptions):
                return True
            error = error.__cause__ or error.__context__
        return False


_seen: ContextVar[_Seen | None] = ContextVar("msgviz_seen", default=None)


def _see(log: Recorder, error: BaseException | None) -> None:
    """Tell the observer outside of the decorators how a receive ended."""
    seen = _seen.get()
    while seen is not None:
        if seen.log is log:
            seen.well = error is None
            if error is not None:
                seen.errors.append(error)
        seen = seen.outer


async def _hold(
    log: Recorder, message: Message, at: At, number: int, identity: tuple[str, str, str]
) -> Message | None:
    """Hold a message where a breakpoint wants it; gives the one to go on with, None for none.

    Where it goes no further, this is the event that says so.
    """
    began = perf_counter_ns()
    try:
        return await log.stops.hold(message, at)
    except BaseException as error:
        conversation, message_id, parent = identity
        log.record(
            (began, perf_counter_ns(), number, message_id, parent, conversation, message.attempt,
             Failure.of(error), message.freeze(), message.body)
        )  # fmt: skip
        if isinstance(error, Dropped):
            return None
        raise


class Outer:
    """The decorator of `OuterObserver`."""

    shown = False  # it is no layer that a person asked for

    def __init__(self, log: Recorder) -> None:
        self.log = log

    def decoder(self, receiver: Receiver) -> Receiver:
        """An observer around a receiver in all its decorators."""
        return OuterObserver(receiver, self.log)


def _layers(thing: Any) -> Iterable[Any]:
    while thing is not None:
        yield thing
        thing = cast("Any", getattr(thing, "next", None))
