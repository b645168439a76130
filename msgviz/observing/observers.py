"""The observing decorators: around a topic, a receiver, a server or a whole backend.

They record what passes where they stand, and are the only way events get into a log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from time import perf_counter_ns
from typing import Any, Self, TypeVar, cast, overload

from msgviz.backend import Backend
from msgviz.decorator import check_decorators
from msgviz.errors import MsgvizError
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
    Probe,
    layer_name,
    probe_decoders,
    probe_encoders,
    probe_receiver,
    probe_topic,
    second_layer,
)
from msgviz.observing.recorder import PER_EVENT, Recorder
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic, TopicDecorator

T = TypeVar("T", Topic, Server, Backend)


@overload
def observe(thing: T, log: Recorder, *, propagate: bool = True, layers: bool = False) -> T: ...
@overload
def observe(
    thing: Receiver, log: Recorder, *, propagate: bool = True, layers: bool = False
) -> ReceiverDecorator: ...
def observe(thing: Any, log: Recorder, *, propagate: bool = True, layers: bool = False) -> Any:
    """The same thing, a topic, receiver, server or backend, with what passes it recorded in `log`.

    Around a backend it stands outside the backend's own decorators: the log shows what the application
    published and received. With ``propagate=False`` no attribute is added to messages; what was
    published is then linked to what was received in memory only. With ``layers=True`` what each layer of
    the chain makes of a message is recorded too, in ``log.layers``.
    """
    if not isinstance(log, Recorder):
        raise TypeError(f"observe records into a MessageLog, not {type(log).__name__}")
    if getattr(thing, "observed_by", None) is log:
        return thing
    if isinstance(thing, Topic):
        if layers:
            thing = probe_topic(thing, log.ledger)
        return ObservedTopic(thing, log, propagate=propagate)
    if isinstance(thing, Backend):
        return ObservedBackend(thing, log, propagate=propagate, layers=layers)
    if isinstance(thing, Server):
        return ObservedServer(thing, log, layers=layers)
    if callable(thing):
        return ObservedReceiver(probe_receiver(thing, log.ledger) if layers else thing, log)
    raise TypeError(f"observe takes a topic, a receiver, a server or a backend, not {type(thing).__name__}")


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
        if log.stops:
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
            size = len(body)  # from here on as Recorder.record
            kept: bytes | int = body
            if size > log.largest_body:
                kept, size = size, 0
            number = self._number
            log.extend((began, ended, number, message_id, parent, conversation, 1, failure, values, kept))
            log.allowance -= size + PER_EVENT
            if log.allowance < 0:
                log.make_room()

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
        if self.observed_by.stops:
            where = (place.topic, place.subscription, message_id, message.attempt)
            at = At(RECEIVE, layer_name(self.next), -1, *where)
            held = await _hold(self.observed_by, message, at, place.number, identity)
            if held is None:
                return
            message = held
            values = message.freeze()
        body = message.body
        failure = None
        token = receiving.set(identity)
        began = perf_counter_ns()
        place.in_flight[message_id] = began
        try:
            await self.receive(message)
        except BaseException as error:
            failure = Failure.of(error)
            if not isinstance(error, Dropped):
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


class UndecodedObserver(ReceiverDecorator):
    """Around a server's decorators: records what fails in one of them and never reaches the one inside."""

    def __init__(self, next: Receiver, log: Recorder) -> None:
        super().__init__(next)
        self._log = log

    async def __call__(self, message: Message) -> None:
        """Hand the message on; record it if it got no further than a decorator."""
        began = perf_counter_ns()
        try:
            await self.receive(message)
        except BaseException as error:
            source = message.source
            if source is not None and not _was_recorded(error, self._log):
                ended = perf_counter_ns()
                values, log = message.freeze(), self._log
                identity = None if message.tag is not None else read_identity(values)
                conversation, message_id, parent = identity or identify(message)
                place = log.places.receive(source.topic, source.subscription, source.max_attempts)
                log.record(
                    (began, ended, place.number, message_id, parent, conversation, message.attempt,
                     Failure.of(error), values, message.body)
                )  # fmt: skip
            if not isinstance(error, Dropped):
                raise


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


def _was_recorded(error: BaseException | None, log: Recorder) -> bool:
    """Whether an error, or the one it was raised from, passed a receiver that this log observes."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code is _OBSERVED and frame.f_locals["self"].observed_by is log:
                return True
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return False


_OBSERVED = ObservedReceiver.__call__.__code__


class _Undecoded:
    """The decorator of `UndecodedObserver`."""

    shown = False

    def __init__(self, log: Recorder) -> None:
        self.log = log

    def decoder(self, receiver: Receiver) -> Receiver:
        return UndecodedObserver(receiver, self.log)


class ObservedServer(Server):
    """Serves through another server, with its receivers observed."""

    def __init__(self, next: Server, log: Recorder, *, layers: bool = False) -> None:
        # Its life is that of the server inside: nothing of the base class's own state is used.
        self.next = next
        self.source = next.source
        self.observed_by = log
        inner = next
        while isinstance(inner, ObservedServer):  # by another log
            inner = inner.next
        if layers:
            inner.decorators = probe_decoders(inner.decorators, log.ledger)
        if inner.decorators:
            inner.decorators = (*inner.decorators, _Undecoded(log))
        log.servers[next.source] = self
        log.stops.ending.discard((next.source.topic, next.source.subscription))
        log.places.expect(
            log.places.receive(next.source.topic, next.source.subscription, next.source.max_attempts)
        )

    @property
    def concurrency(self) -> int:  # type: ignore[override]
        """How many receivers run at a time."""
        return self.next.concurrency

    @property
    def decorators(self) -> tuple[Any, ...]:  # type: ignore[override]
        """What receivers are wrapped in, inside the server."""
        return tuple(d for d in self.next.decorators if not isinstance(d, (_Undecoded, Probe)))

    @property
    def receiver(self) -> Receiver | None:  # type: ignore[override]
        """The observed receiver it serves now."""
        return self.next.receiver

    @property
    def stopping(self) -> bool:
        """Whether it takes no more messages."""
        return self.next.stopping

    @property
    def serving(self) -> bool:
        """Whether it is serving now."""
        return self.next.serving

    @property
    def failed(self) -> BaseException | None:
        """What made the background server end before its shutdown, if anything did."""
        return self.next.failed

    async def work(self, slot: int) -> None:
        """The server inside has the workers."""
        raise MsgvizError("an observed server has no workers of its own")

    def set_receiver(self, receiver: Receiver) -> None:
        """The receiver for the messages that follow."""
        self.next.set_receiver(observe(receiver, self.observed_by))

    async def serve(self, receiver: Receiver) -> None:
        """Serve until `shutdown`."""
        try:
            await self.next.serve(observe(receiver, self.observed_by))
        except Exception as error:
            self._note_failure(error)
            raise

    def start(self, receiver: Receiver) -> None:
        """Serve in the background; called again, swap the receiver."""
        swapping = self.next.serving
        self.observed_by.server_failures.pop(self.source, None)
        self.next.start(observe(receiver, self.observed_by))
        if not swapping:
            self.next.on_end(self._note_failure)

    def _note_failure(self, error: BaseException | None) -> None:
        if error is not None:
            self.observed_by.note_server_failure(self.source, error)

    def on_end(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call back when the background server ends."""
        self.next.on_end(callback)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Take no more messages, let those in flight finish, and end. What breakpoints hold goes on."""
        self.observed_by.stops.end(self.source.topic, self.source.subscription)
        await self.next.shutdown(timeout)

    def __repr__(self) -> str:
        return f"<observed {self.next!r}>"


class ObservedBackend(Backend):
    """A backend every topic and server of which is observed."""

    def __init__(self, next: Backend, log: Recorder, *, propagate: bool = True, layers: bool = False) -> None:
        self.next = next
        self.name = next.name
        self.features = next.features
        self.observed_by = log
        self._propagate = propagate
        self._layers = layers

    @property
    def closed(self) -> bool:  # type: ignore[override]
        """Whether it was closed."""
        return self.next.closed

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Backends are connected first, and then observed."""
        raise MsgvizError("connect a backend, then observe it: observe(connect(url), log)")

    def topic(self, name: str, *, decorators: Iterable[Any] = ()) -> Topic:
        """A topic, observed outside its decorators."""
        if self._layers:
            decorators = probe_encoders(check_decorators(decorators), self.observed_by.ledger)
        return ObservedTopic(
            self.next.topic(name, decorators=decorators), self.observed_by, propagate=self._propagate
        )

    def server(
        self,
        topic: str,
        *,
        subscription: str = "default",
        concurrency: int = 1,
        max_attempts: int | None = 5,
        backoff: BackoffLike | None = None,
        decorators: Iterable[Any] = (),
    ) -> Server:
        """A server whose receivers are observed inside its decorators."""
        options: dict[str, Any] = {} if backoff is None else {"backoff": backoff}
        server = self.next.server(
            topic,
            subscription=subscription,
            concurrency=concurrency,
            max_attempts=max_attempts,
            decorators=decorators,
            **options,
        )
        return ObservedServer(server, self.observed_by, layers=self._layers)

    def open_topic(self, name: str) -> Topic:
        """The bare topic, not observed."""
        return self.next.open_topic(name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """The bare server, not observed."""
        return self.next.open_server(source, concurrency=concurrency, backoff=backoff, decorators=decorators)

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing."""
        await self.next.declare(topic, *subscriptions)

    async def close(self) -> None:
        """Close the backend inside. What breakpoints hold goes on."""
        stops = self.observed_by.stops
        for place in self.observed_by.places.all:
            if place.topic is not None and place.subscription is not None:
                stops.end(place.topic, place.subscription)
        if stops.held:
            stops.release()
            await asyncio.sleep(0)
        await self.next.close()

    def __repr__(self) -> str:
        return f"<observed {self.next!r}>"


def _layers(thing: Any) -> Iterable[Any]:
    while thing is not None:
        yield thing
        thing = cast("Any", getattr(thing, "next", None))
