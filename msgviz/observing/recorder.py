"""Recorder: a bounded, append-only, thread-safe record of events, and the DataFrames of it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from msgviz.errors import MsgvizError
from msgviz.message import Source
from msgviz.observing.breakpoints import Stops
from msgviz.observing.columns import FIELDS, STR, Columns, no_collection
from msgviz.observing.failure import Failure
from msgviz.observing.index import OK, RESOLVED, STATES, MessageIndex
from msgviz.observing.ledger import Ledger
from msgviz.observing.places import Places

if TYPE_CHECKING:
    from msgviz.observing.observers import ObservedTopic
    from msgviz.observing.wholes import ObservedServer

PER_EVENT = 512  # bytes an event is counted as, beside its body
_BITE = 65_536  # events that a full log seals at once
_SETTLED_POLL = 0.01
_FAILURE_DTYPES = dict.fromkeys(("error_type", "topic", "subscription"), STR) | {
    "count": "int64", "messages": "int64", "dead": "int64", "first": "datetime64[ns, UTC]",
    "last": "datetime64[ns, UTC]", "error": STR, "message_ids": "object",
}  # fmt: skip


class Recorder:
    """The part of a `MessageLog` that observers write to.

    Recording an event costs about what appending a tuple costs: its fields go to the end of one flat
    list, and become columns when somebody looks. Nothing that the garbage collector tracks is kept for
    an event that went well.
    """

    def __init__(
        self, max_events: int = 1_000_000, max_bytes: int = 1 << 30, *, max_body: int | None = None
    ) -> None:
        """Keep at most this many events, and about this many bytes: an event counts as its body and 512 more.

        A body of more than `max_body` bytes is not kept; its event is.
        """
        for name, value in (("max_events", max_events), ("max_bytes", max_bytes), ("max_body", max_body)):
            if name == "max_body" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < (name != "max_body"):
                raise ValueError(f"{name} is a whole number, not {value!r}")
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.max_body = max_body
        self.topics: dict[str, ObservedTopic] = {}
        """The observed topics that this log can publish to again, by name."""
        self.servers: dict[Source, ObservedServer] = {}
        """The newest observed server of each source."""
        self.stops = Stops()
        """The breakpoints, and what they hold."""
        self.ledger = Ledger(max_bytes, self.stops)
        """What each layer of a chain made of each message, where that is observed."""
        self.places = Places()
        self._flat: list[Any] = []
        self.extend = self._flat.extend
        """Adds the fields of one event, in the order of `msgviz.observing.columns`: see `record`."""
        self.largest_body = sys.maxsize if max_body is None else max_body
        self._lock = threading.RLock()
        self._reset()

    def _reset(self) -> None:
        self._replays: dict[str, str] = {}
        self._columns = Columns(self.places.all)
        self._index = MessageIndex(self.places.all, self._replays)
        self._told = 0
        self._next_id = 0
        self._bytes = 0
        self._dropped = 0
        self._frame: pd.DataFrame | None = None
        self._messages: tuple[int, pd.DataFrame] | None = None
        self.server_failures: dict[Source, Failure] = {}
        """The background servers that ended with an error, and were not started again since."""
        self._unsealed = 0
        self._granted = self.allowance = 0
        self._grant()

    def _resume(self, next_id: int, dropped: int) -> None:
        """Go on from events that were read into the columns."""
        columns = self._columns
        ids, originals = columns.message_id.tail(0), columns.replay_of.tail(0)
        self._replays.update({i: o for i, o in zip(ids, originals, strict=True) if o is not None})
        event_ids = columns.event_id.view()
        self._next_id = max(next_id, int(event_ids[-1]) + 1 if len(event_ids) else 0)
        self._dropped = dropped
        self._bytes = int(columns.kept_bytes().sum()) + len(columns) * PER_EVENT
        self.max_events = max(self.max_events, len(columns))
        self.max_bytes = max(self.max_bytes, self._bytes)
        self._grant()

    # -- writing ---------------------------------------------------------------------------------------

    def record(self, event: tuple[Any, ...]) -> None:
        """Record one event: its fields in the order of `msgviz.observing.columns`.

        Observers do this in place: a call for each event would be a twentieth of what they cost.
        """
        size = len(event[9])
        if size > self.largest_body:
            event, size = (*event[:9], size), 0
        self.extend(event)
        self.allowance -= size + PER_EVENT
        if self.allowance < 0:
            self.make_room()

    def note_replay(self, message_id: str, replay_of: str) -> None:
        """Remember that a message that is about to be published replays another."""
        with self._lock:
            self._replays[message_id] = replay_of

    def note_server_failure(self, source: Source, error: BaseException) -> None:
        """Remember that a background server ended with an error."""
        self.server_failures[source] = Failure.of(error)

    def _used(self) -> int:
        """The bytes of all events. What is not sealed yet is known by what of the allowance is gone."""
        return self._bytes + self._unsealed + self._granted - self.allowance

    def _grant(self) -> None:
        """Say how much may be recorded before `make_room` is to take stock again."""
        used = self._used()
        # Every event takes at least PER_EVENT of it, so that it is used up before either bound is passed.
        left = min(self.max_bytes - used, (self.max_events - len(self)) * PER_EVENT)
        self._unsealed = used - self._bytes
        self._granted = self.allowance = max(0, left)

    def _seal(self, most: int | None = None) -> None:
        """Turn what was recorded, or the oldest events of it, into columns. The caller holds the lock."""
        flat = self._flat
        count = len(flat) // FIELDS
        count = count if most is None else min(count, most)
        if not count:
            return
        clock = time.time_ns() - time.perf_counter_ns()
        with no_collection():
            kept = self._columns.extend(flat, count, self._next_id, clock, self._replays)
            # Threads may go on recording meanwhile: they only add to the end.
            del flat[: count * FIELDS]
        self._next_id += count
        sealed = kept + count * PER_EVENT
        self._bytes += sealed
        self._unsealed -= sealed
        if not flat:
            # Threads that count at the same moment may lose a little: here it is put right.
            self._unsealed = self.allowance - self._granted
        self._frame = None
        self._grant()

    def _tell(self) -> None:
        """Bring the index of messages up to date. The caller holds the lock."""
        self._seal()
        self._tell_sealed()

    def _tell_sealed(self) -> None:
        if self._told < len(self._columns):
            with no_collection():
                self._index.tell(self._columns, self._told)
            self._told = len(self._columns)
            self._messages = None

    def make_room(self) -> None:
        """Take stock, and where a bound is passed drop a sixteenth, the oldest first.

        What has not gone well goes last. A full log does this in bites, not to hold up the loop for long.
        """
        with self._lock:
            while (over := self._over()) is not None:
                drop, free = over
                if len(self._columns) < 2 * drop:
                    self._seal(_BITE)
                self._tell_sealed()
                if not self._evict(drop, free):
                    self._seal(_BITE)
            self._grant()

    def _over(self) -> tuple[int, int] | None:
        """How many events, and how many bytes, are to go; None where both bounds are kept."""
        events, used = len(self), self._used()
        if events <= self.max_events and used <= self.max_bytes:
            return None
        return max(events - max(self.max_events * 15 // 16, 1), 1), used - self.max_bytes * 15 // 16

    def _evict(self, drop: int, free: int) -> bool:
        """Drop the oldest sealed events; gives whether any could be, before more are sealed."""
        columns = self._columns
        count = len(columns)
        head = min(count, max(2 * drop, 1024))
        while True:
            ids = columns.message_id.head(head)
            rows = self._index.rows
            done = np.fromiter((rows[i].state in (OK, RESOLVED) for i in ids), np.bool_, head)
            order = np.flatnonzero(done)
            if head == count and not self._flat:
                order = np.concatenate([order, np.flatnonzero(~done)])
            freed = np.cumsum(columns.kept_bytes()[order] + PER_EVENT)
            enough = max(drop, int(np.searchsorted(freed, free)) + 1)
            if head == count or enough <= len(order):
                break
            head = min(count, head * 4)
        gone = order[:enough]
        if not len(gone):
            return False
        keep = np.ones(head, np.bool_)
        keep[gone] = False
        self._bytes -= int(freed[len(gone) - 1])
        self._index.forget(ids[i] for i in gone.tolist())
        columns.keep(keep)
        self._told = len(columns)
        self._dropped += len(gone)
        self._frame = self._messages = None
        return True

    # -- reading ---------------------------------------------------------------------------------------

    @property
    def next_event_id(self) -> int:
        """The id that the next event will get; ids count up from 0 and are never given twice."""
        return self._next_id + len(self._flat) // FIELDS

    @property
    def revision(self) -> int:
        """A number that changes whenever an event is recorded or a receive begins or ends."""
        return self.next_event_id * 1_000_003 + sum(len(place.in_flight) for place in self.places.all)

    @property
    def dropped(self) -> int:
        """How many events were dropped to stay within the bounds."""
        return self._dropped

    def __len__(self) -> int:
        return len(self._columns) + len(self._flat) // FIELDS

    def _events(self) -> pd.DataFrame:
        with self._lock:
            self._seal()
            if self._frame is None:
                self._frame = self._columns.frame()
            return self._frame

    @property
    def events(self) -> pd.DataFrame:
        """One row per publish and per receive, index `event_id`, in the order they ended.

        `time` (datetime64[ns, UTC], when it began), `operation` (publish, receive), `topic`,
        `subscription`, `message_id`, `parent_id`, `conversation_id`, `attempt`, `outcome` (ok, error,
        cancelled), `error_type`, `error`, `duration` (timedelta64[ns]), `size` (bytes), `attributes`
        (dict of str to list of str), `body` (bytes; None where it was not kept), `replay_of`.
        """
        return self._events().copy(deep=False)

    def since(self, event_id: int) -> pd.DataFrame:
        """The events from this id on. It costs what they are, not what the log holds."""
        with self._lock:
            self._seal()
            start = int(np.searchsorted(self._columns.event_id.view(), event_id))
            if self._frame is None:
                return self._columns.frame(start)
            return self._frame.iloc[start:].copy(deep=False)

    @property
    def messages(self) -> pd.DataFrame:
        """One row per message, index `message_id`, in the order they were first seen.

        `topic`, `published`, `state` (pending, in_flight, ok, retrying, dead, replayed, resolved),
        `attempts`, `latency` (from publish to the first success), `last_error`, `parent_id`,
        `conversation_id`, `size` (bytes).
        """
        with self._lock:
            revision = self.revision
            self._tell()
            if self._messages is None or self._messages[0] != revision:
                self._messages = (revision, self._index.frame(self.places.in_flight()))
            return self._messages[1].copy(deep=False)

    @property
    def failures(self) -> pd.DataFrame:
        """Failures grouped by error type and place, the most frequent first.

        `error_type`, `topic`, `subscription`, `count` (events), `messages`, `dead` (messages now dead),
        `first`, `last` (times), `error` (the last text), `message_ids` (list).
        """
        with self._lock:
            events = self._events()
            failed = events[events["outcome"] != "ok"]
            states = self.states(failed["message_id"].unique())
        keys = ["error_type", "topic", "subscription"]
        groups = failed.groupby(keys, observed=True, dropna=False, sort=False)
        rows = []
        for key, group in groups:
            ids = list(dict.fromkeys(group["message_id"]))
            dead = sum(states[i] == "dead" for i in ids)
            last = group.iloc[-1]
            rows.append(
                (*key, len(group), len(ids), dead, group["time"].min(), last["time"], last["error"], ids)
            )
        frame = pd.DataFrame(rows, columns=[*_FAILURE_DTYPES]).astype(_FAILURE_DTYPES)
        return frame.sort_values("count", ascending=False, kind="stable", ignore_index=True)

    @property
    def layers(self) -> pd.DataFrame:
        """One row per message and layer, for what is observed with ``layers=True``, in the order it passed.

        `message_id`, `direction` (out, in), `depth` (1 is the layer next to the application, which is 0
        itself), `layer` (its name), `topic`, `subscription`, `attempt`, `time`, `duration` (in this layer
        alone), `size_in` and `size_out` (bytes), `added`, `removed` (dict of str to list of str) and
        `changed` (dict of str to the lists before and after) attributes, `body_in`, `body_out`, `passes`
        (how often it handed the message on), `outcome`, `error_type`, `error`, `problem` (what went wrong
        in this layer, in words, or null).
        """
        return self.ledger.frame()

    @property
    def holds(self) -> pd.DataFrame:
        """One row per message that a breakpoint held and that went on since, the last ten thousand.

        `time`, `message_id`, `side` (publish, receive), `topic`, `subscription`, `layer` (the one it was
        held in front of), `ended` (resumed, edited, dropped, failed, timed out, released when its server or
        backend ended, cancelled), `lasted` (timedelta64[ns]).
        """
        return self.stops.frame()

    def states(self, message_ids: Iterable[str]) -> dict[str, str]:
        """The state of each of these messages; an unknown one is a `KeyError`."""
        with self._lock:
            self._tell()
            now = set(self.places.in_flight())
            rows = self._index.rows
            return {i: "in_flight" if i in now else STATES[rows[i].state] for i in message_ids}

    def count_states(self) -> Mapping[str, int]:
        """How many messages are in each state. Unlike `messages`, this costs only what is new."""
        with self._lock:
            self._tell()
            counts = dict(zip(STATES, self._index.counts, strict=True))
            for message_id in set(self.places.in_flight()):
                row = self._index.rows.get(message_id)
                if row is not None:
                    counts[STATES[row.state]] -= 1
                    counts["in_flight"] += 1
            return counts

    def _unsettled(self) -> list[str]:
        """The ids of a few messages that have not ended; none when all have."""
        with self._lock:
            self._tell()
            return [*islice(self._index.unsettled, 3), *self.places.in_flight()[:3]]

    async def settled(self, timeout: float | None = None) -> None:
        """Wait until no observed message is pending, in flight or retrying.

        `TimeoutError` after `timeout` seconds, which says what is still under way. `MsgvizError` where a
        background server has failed, so that its messages would wait for ever.
        """
        try:
            async with asyncio.timeout(timeout):
                # One turn of the loop lets a publish that has just returned be received at once.
                await asyncio.sleep(0)
                pause = 0.0005
                while True:
                    if not self._unsettled():
                        return
                    for source, failure in self.server_failures.items():
                        raise MsgvizError(
                            f"the server of {source} has failed ({failure.error_type}: {failure.error}): "
                            "mend it and start it again"
                        )
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _SETTLED_POLL)
        except TimeoutError:
            if not self._unsettled():
                return
            raise TimeoutError(self._why_unsettled(timeout)) from None

    def _why_unsettled(self, timeout: float | None) -> str:
        counts = self.messages["state"].value_counts()
        parts = [f"{counts[s]} {s}" for s in ("pending", "in_flight", "retrying") if counts.get(s)]
        return (
            f"not settled after {timeout} s: {', '.join(parts) or 'nothing any more'} "
            f"(such as {', '.join(self._unsettled()[:3])}). Is a server running for every subscription?"
        )
