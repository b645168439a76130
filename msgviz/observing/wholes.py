"""Observing whole servers and backends: every topic and receiver made from them is observed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from msgviz.backend import Backend, BackendDecorator
from msgviz.decorator import check_decorators
from msgviz.errors import MsgvizError
from msgviz.observing.observers import ObservedReceiver, ObservedTopic, Outer
from msgviz.observing.probes import Probe, probe_decoders, probe_encoders, probe_receiver, probe_topic
from msgviz.observing.recorder import Recorder
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic

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
            inner.decorators = (*inner.decorators, Outer(log))
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
        return tuple(d for d in self.next.decorators if not isinstance(d, (Outer, Probe)))

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


class ObservedBackend(BackendDecorator):
    """A backend every topic and server of which is observed."""

    def __init__(self, next: Backend, log: Recorder, *, propagate: bool = True, layers: bool = False) -> None:
        super().__init__(next)
        self.observed_by = log
        self._propagate = propagate
        self._layers = layers

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

    async def close(self) -> None:
        """Close the backend inside. What breakpoints hold goes on."""
        stops = self.observed_by.stops
        for place in self.observed_by.places.all:
            if place.topic is not None and place.subscription is not None:
                stops.end(place.topic, place.subscription)
        if stops.held:
            stops.release()
            await asyncio.sleep(0)
        await super().close()

    def __repr__(self) -> str:
        return f"<observed {self.next!r}>"
