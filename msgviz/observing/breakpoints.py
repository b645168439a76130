"""Breakpoints: a live message that matches is held where it is, to be looked at, edited, let go or failed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import count, islice
from types import TracebackType
from typing import NamedTuple, Self

import pandas as pd

from msgviz.attributes import Attributes, canonical_key
from msgviz.errors import MsgvizError
from msgviz.message import Message, wrap
from msgviz.observing.columns import STR
from msgviz.observing.expression import QueryError, evaluate, required_texts
from msgviz.observing.failure import Dropped
from msgviz.observing.identity import ID_ATTRIBUTE, read_identity

PUBLISH, RECEIVE = "publish", "receive"
SIDES = (PUBLISH, RECEIVE)

RESUMED, EDITED, DROPPED, FAILED, TIMED_OUT, RELEASED, CANCELLED = (
    "resumed", "edited", "dropped", "failed", "timed out", "released", "cancelled",
)  # fmt: skip
_MOST_ENDED = 10_000
_TEXTS = ("topic", "subscription", "layer", "message_id", "attributes")


Walk = tuple[str, str, int, str | None]


class Held:
    """One message that is held at a breakpoint. It goes on by one of the four methods, or by itself."""

    def __init__(self, at_point: Breakpoint, message: Message, at: At) -> None:
        self.number = next(at_point.stops.numbers)
        """Tells it from all others that this log's breakpoints held."""
        self.breakpoint = at_point
        self.message = message
        self.message_id = at.message_id
        self.side = at.side
        self.walk = at.walk
        self.layer = at.layer
        """The layer it is held in front of: the first one, where the breakpoint names none."""
        self.depth = at.depth
        self.next_layer: str | None = at.further[0] if at.further else None
        """The layer that `step` goes to; None where there is none, or where layers are not observed."""
        self._next_depth = at.further[1] if at.further else -1
        self.topic = at.topic
        self.subscription = at.subscription
        self.since = time.time()
        """Seconds since 1970."""
        self.ended: str | None = None
        """How it went on: resumed, edited, dropped, failed, timed out, released (the server or the backend
        ended, or the breakpoint was removed), cancelled (whoever waited for it gave up); None while held."""
        self.lasted = 0.0
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def resume(self, message: Message | None = None) -> None:
        """Let it go on: as it is, or as this message instead."""
        if message is not None and not isinstance(message, Message):
            raise TypeError(f"resume takes a Message, not {type(message).__name__}")
        edited = message is not None and message is not self.message
        self._end(EDITED if edited else RESUMED, message)

    @property
    def seconds_left(self) -> float:
        """How long it is until it goes on by itself."""
        return max(0.0, self.breakpoint.timeout - (time.time() - self.since))

    def step(self, message: Message | None = None) -> None:
        """Let it go on to the next layer of its chain, and hold it there; to the end, where there is none."""
        if self.ended is None and self.next_layer is not None:
            self.breakpoint.stops.stepping[self.walk] = (self.breakpoint, self._next_depth)
        self.resume(message)

    def drop(self) -> None:
        """Let it vanish: its publisher, or its server, is told that all went well."""
        self._end(DROPPED, None, Dropped())

    def fail(self, error: BaseException) -> None:
        """Have it fail with this error, as if the layer had raised it."""
        if not isinstance(error, Exception):
            raise TypeError(f"fail takes an exception, such as ValueError('…'), not {error!r}")
        self._end(FAILED, None, error)

    def _end(self, how: str, message: Message | None, error: BaseException | None = None) -> None:
        with self._lock:
            if self.ended is not None:
                raise MsgvizError(f"{self.message_id} is not held any more: it was {self.ended}")
            self.ended = how
        self.lasted = time.time() - self.since
        if message is not None:
            self.message = self._as_held(message)
        self._error = error
        self._loop.call_soon_threadsafe(self._wake)

    def let_go(self, how: str) -> None:
        """Let it go on by itself; nothing happens if somebody was faster."""
        with suppress(MsgvizError):
            self._end(how, None)

    def _wake(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    def _as_held(self, edited: Message) -> Message:
        """An edited message, as the delivery or the publish that it stands for."""
        held = self.message
        message = wrap(edited.body, edited.freeze())
        identity = held.freeze().get(ID_ATTRIBUTE)
        if identity is not None and ID_ATTRIBUTE not in message.freeze():
            message.attributes.set_all(ID_ATTRIBUTE, [identity] if isinstance(identity, str) else identity)
        message.attempt, message.source, message.tag = held.attempt, held.source, held.tag
        return message

    async def wait(self) -> Message:
        """Wait until it goes on; gives the message to go on with, or raises what it is to fail with."""
        try:
            async with asyncio.timeout(self.breakpoint.timeout):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self.let_go(TIMED_OUT)
        except asyncio.CancelledError:
            self.let_go(CANCELLED)
            raise
        if self._error is not None:
            raise self._error
        return self.message

    def __repr__(self) -> str:
        where = "/".join(p for p in (self.topic, self.subscription) if p)
        return f"<Held {self.message_id} {self.side} {where} before {self.layer}: {self.ended or 'held'}>"


class At:
    """Where a message is when it might be held."""

    __slots__ = ("attempt", "depth", "further", "layer", "message_id", "side", "subscription", "topic")

    def __init__(
        self,
        side: str,
        layer: str,
        depth: int,
        topic: str | None,
        subscription: str | None,
        message_id: str,
        attempt: int = 1,
        further: tuple[str, int] | None = None,
    ) -> None:
        self.side = side
        self.layer = layer
        self.depth = depth
        self.topic = topic
        self.subscription = subscription
        self.message_id = message_id
        self.attempt = attempt
        self.further = further  # the name and the depth of the layer after this one

    @property
    def walk(self) -> Walk:
        """What tells one way through a chain from others: stepping ends where it does."""
        return (self.message_id, self.side, self.attempt, self.subscription if self.side == RECEIVE else None)


class Hold(NamedTuple):
    """A message that was held and went on since: what `Recorder.holds` says of it."""

    number: int
    since: float
    message_id: str
    side: str
    topic: str | None
    subscription: str | None
    layer: str
    ended: str
    lasted: float


class Breakpoint:
    """A place to hold messages at, as long as a condition is true; see `MessageLog.breakpoint`."""

    def __init__(
        self, stops: Stops, condition: str, side: str | None, layer: str | int | None, timeout: float
    ) -> None:
        if side is not None and side not in SIDES:
            raise ValueError(f"side is 'publish' or 'receive', or None for both, not {side!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e9:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
        if condition:
            evaluate(condition, _FIELDS)
        self._required = required_texts(condition, _TEXTS)
        self.stops = stops
        self.number = next(stops.numbers)
        """Tells it from all other breakpoints of its log."""
        self.condition = condition
        self.side = side
        self.layer = layer
        self.timeout = timeout
        self.hits = 0
        """How often a message came that it was to hold; steps are not counted."""
        self.error: str | None = None
        """Why its condition could not be judged for some message, which then was not held."""
        self._waiting: deque[Held] = deque()
        self._callers: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> list[Held]:
        """The messages it holds now, the oldest first."""
        return [held for held in self.stops.held if held.breakpoint is self and held.ended is None]

    async def next(self, timeout: float | None = None) -> Held:
        """The next message that is held and was not given yet; waits for one. `TimeoutError` in time."""
        async with asyncio.timeout(timeout):
            while True:
                while self._waiting:
                    held = self._waiting.popleft()
                    if held.ended is None:
                        return held
                loop = asyncio.get_running_loop()
                caller = (loop, loop.create_future())
                self._callers.append(caller)
                try:
                    await caller[1]
                finally:
                    if caller in self._callers:
                        self._callers.remove(caller)

    def remove(self) -> None:
        """Hold no more; what is held goes on. Removing twice is no error."""
        self.stops.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def matches(self, message: Message, at: At) -> bool:
        """Whether a message is to be held where it is."""
        if self.side is not None and at.side != self.side:
            return False
        if self.layer is None:
            if at.depth >= 0:
                return False
        elif at.depth < 0 or self.layer not in (at.layer, at.depth):
            return False
        if not self.condition:
            return True
        for field, key, texts in self._required:  # cheap to ask: most messages are not meant
            text = message.attributes.get(key) if field == "attributes" else getattr(at, field)
            if text not in texts:
                return False
        try:
            return bool(evaluate(self.condition, _as_frame(message, at))[0])
        except QueryError as error:  # of this message: it is not the publisher's to be told
            self.error = str(error)
            return False

    def take(self, held: Held) -> None:
        """Hold a message, and give it to whoever waits for one."""
        while self._waiting and self._waiting[0].ended is not None:  # nobody may ever ask for them
            self._waiting.popleft()
        self._waiting.append(held)
        while self._callers:
            loop, caller = self._callers.popleft()
            try:
                loop.call_soon_threadsafe(_finish, caller)
            except RuntimeError:  # its loop was closed
                continue
            return

    def __repr__(self) -> str:
        parts = [repr(self.condition) if self.condition else "every message"]
        if self.side is not None:
            parts.append(f"side={self.side!r}")
        if self.layer is not None:
            parts.append(f"layer={self.layer!r}")
        return f"<Breakpoint {', '.join(parts)}: {len(self.held)} held, {self.hits} so far>"


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Stops:
    """The breakpoints of one log. It is false while there are none, which is all that observers look at."""

    def __init__(self) -> None:
        self.breakpoints: tuple[Breakpoint, ...] = ()
        self.held: list[Held] = []
        self.numbers = count(1)
        self.stepping: dict[Walk, tuple[Breakpoint, int]] = {}
        """The messages that a step leads to the layer of this depth."""
        self.ending: set[tuple[str | None, str | None]] = set()
        """Subscriptions whose server is ending: it is not to wait for what a person does."""
        self._ended: deque[Hold] = deque(maxlen=_MOST_ENDED)
        self._lock = threading.Lock()
        self.changes = 0
        """Grows whenever a message is held or goes on."""

    def __bool__(self) -> bool:
        return bool(self.breakpoints)

    def add(self, point: Breakpoint) -> None:
        """Hold what matches from now on."""
        with self._lock:
            self.breakpoints = (*self.breakpoints, point)
            self.changes += 1

    def remove(self, point: Breakpoint) -> None:
        """Hold no more at this one."""
        with self._lock:
            self.breakpoints = tuple(b for b in self.breakpoints if b is not point)
            self.stepping = {w: step for w, step in self.stepping.items() if step[0] is not point}
            self.changes += 1
        self.release(point.held)

    def release(self, held: Iterable[Held] | None = None) -> None:
        """Let these go on, or all."""
        for one in list(self.held if held is None else held):
            one.let_go(RELEASED)

    def end(self, topic: str, subscription: str) -> None:
        """The server of a subscription is ending: what it holds goes on, and nothing more is held."""
        self.ending.add((topic, subscription))
        self.release(h for h in self.held if (h.topic, h.subscription) == (topic, subscription))

    async def hold(self, message: Message, at: At) -> Message:
        """Hold the message where a breakpoint wants it; gives the message to go on with.

        Raises `Dropped`, or whatever it is to fail with.
        """
        if at.side == RECEIVE and (at.topic, at.subscription) in self.ending:
            return message
        found, depth = self.stepping.get(at.walk, (None, -1))
        if found is not None:
            if at.depth != depth:
                return message
            self.stepping.pop(at.walk, None)
        else:
            found = next((b for b in self.breakpoints if b.matches(message, at)), None)
            if found is None:
                return message
            found.hits += 1
        held = Held(found, message, at)
        with self._lock:
            self.held.append(held)
            self.changes += 1
        found.take(held)
        try:
            return await held.wait()
        finally:
            with self._lock:
                self.held.remove(held)
                self._ended.append(
                    Hold(
                        held.number, held.since, held.message_id, held.side, held.topic, held.subscription,
                        held.layer, held.ended or CANCELLED, held.lasted,
                    )
                )  # fmt: skip
                self.changes += 1

    def lately(self, most: int) -> list[Hold]:
        """What was held and went on since: the last ones, the newest first."""
        with self._lock:
            return list(islice(reversed(self._ended), most))

    def frame(self) -> pd.DataFrame:
        """One row per message that was held and went on; see `Recorder.holds`."""
        rows = [hold[1:] for hold in self.lately(_MOST_ENDED)[::-1]]
        names = ("time", "message_id", "side", "topic", "subscription", "layer", "ended", "lasted")
        frame = pd.DataFrame(rows, columns=[*names])
        frame["time"] = pd.to_datetime((frame["time"].astype("float64") * 1e9).astype("int64"), utc=True)
        frame["lasted"] = pd.to_timedelta(frame["lasted"].astype("float64"), unit="s")
        for name in names[1:-1]:
            frame[name] = frame[name].astype(STR)
        return frame


class _FirstValues(dict[str, str]):
    """Attributes for a condition: ``attributes.str['Source']`` is the first value, in any spelling."""

    def __init__(self, attributes: Attributes) -> None:
        super().__init__((key, attributes[key]) for key in attributes)

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        """The first value, as `Series.str[key]` asks for it."""
        return super().get(canonical_key(key), default)


class _AnyValue(dict[str, str]):
    """Attributes of which each is there: what a condition is tried on when it is made."""

    def get(self, key: str, default: object = None) -> str:
        """A text that is also a number."""
        return "0"


def _as_frame(message: Message, at: At) -> pd.DataFrame:
    identity = read_identity(message.freeze())
    return pd.DataFrame(
        {
            "operation": [at.side],
            "topic": [at.topic],
            "subscription": [at.subscription],
            "layer": [at.layer],
            "depth": [at.depth],
            "message_id": [at.message_id],
            "conversation_id": [identity[0] if identity else at.message_id],
            "attempt": [message.attempt],
            "size": [len(message.body)],
            "attributes": [_FirstValues(message.attributes)],
            "body": [message.body],
            "text": [message.body.decode("utf-8", "replace")],
        }
    )


_FIELDS = _as_frame(Message(b""), At(PUBLISH, "", 0, "", "", ""))
_FIELDS["attributes"] = pd.Series([_AnyValue(a="0")], dtype=object)

CONDITION_FIELDS = tuple(str(name) for name in _FIELDS.columns)
"""What a condition may speak of."""
