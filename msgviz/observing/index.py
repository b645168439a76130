"""What became of each message, told event by event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from msgviz.observing.columns import STR, Codes, Columns, categorical
from msgviz.observing.failure import DROPPED, Failure
from msgviz.observing.places import PUBLISH, Place

STATES = ("pending", "in_flight", "ok", "retrying", "dead", "replayed", "resolved")
PENDING, IN_FLIGHT, OK, RETRYING, DEAD, REPLAYED, RESOLVED = range(len(STATES))
ENDED = frozenset({OK, DEAD, REPLAYED, RESOLVED})

MESSAGE_COLUMNS = (
    "topic", "published", "state", "attempts", "latency", "last_error", "parent_id", "conversation_id",
    "size",
)  # fmt: skip


class _Row:
    """One message. Slots of numbers and text only."""

    __slots__ = (
        "attempts", "conversation", "dead", "events", "first", "first_ok", "id", "last_error",
        "lost", "ok", "original", "parent", "published", "replays", "retrying", "seen", "size", "state",
        "topic", "waits_for",
    )  # fmt: skip

    def __init__(
        self, first: int, message_id: str, parent: str | None, conversation: str, topic: str | None
    ) -> None:
        self.first = first  # the id of its first event
        self.id = message_id
        self.parent = parent
        self.conversation = conversation
        self.topic = topic
        self.published = self.first_ok = 0  # nanoseconds since 1970; 0 for never
        self.size = -1
        self.attempts = self.events = 0
        self.seen = self.ok = self.retrying = self.dead = 0
        self.waits_for = 0
        self.lost = False  # its publish failed
        self.last_error: str | None = None
        self.original: str | None = None
        self.replays: tuple[str, ...] = ()
        self.state = PENDING


class MessageIndex:
    """One row a message: its state, attempts and errors, kept up to date as events are told to it.

    The places a message was seen at are bits of a number, one bit a place: `seen`, and of those `ok`,
    `retrying` and `dead`, by the last attempt there.
    """

    def __init__(self, places: Sequence[Place], replays: dict[str, str]) -> None:
        self._places = places
        self._replays = replays
        self.rows: dict[str, _Row] = {}
        self.unsettled: set[str] = set()
        self.counts = [0] * len(STATES)
        """How many messages are in each state; none is in flight here: that only the places know."""

    def tell(self, columns: Columns, start: int) -> None:
        """Take in the events from this position on."""
        places, rows = self._places, self.rows
        for event, number, message_id, parent, conversation, attempt, failure, time, duration, size in zip(
            columns.event_id.view()[start:].tolist(),
            columns.place.view()[start:].tolist(),
            columns.message_id.tail(start),
            columns.parent_id.tail(start),
            columns.conversation_id.tail(start),
            columns.attempt.view()[start:].tolist(),
            columns.failure.view()[start:].tolist(),
            columns.time.view()[start:].tolist(),
            columns.duration.view()[start:].tolist(),
            columns.size.view()[start:].tolist(),
            strict=True,
        ):
            place = places[number]
            row = rows.get(message_id)
            if row is None:
                row = self._row(event, message_id, parent, conversation, place.topic)
            row.events += 1
            if place.operation == PUBLISH:
                row.topic = place.topic
                row.published = time
                row.size = size
                if failure is not None:
                    row.lost = True
                    row.waits_for = 0
                    row.last_error = _line(failure)
                elif place.tracked:
                    row.waits_for = _bits(place.expected) or _ANY
            else:
                if row.size < 0:
                    row.size = size
                bit = 1 << place.at
                row.seen |= bit
                row.attempts += 1
                row.ok &= ~bit
                row.retrying &= ~bit
                row.dead &= ~bit
                if failure is None:
                    row.ok |= bit
                    row.first_ok = row.first_ok or time + duration
                else:
                    row.last_error = _line(failure)
                    limit = place.max_attempts
                    if failure.error_type == DROPPED:
                        row.dead |= bit
                    elif limit is None or attempt < limit or failure.given_back:
                        row.retrying |= bit
                    else:
                        row.dead |= bit
            self._judge(row)
            while row.original is not None:  # the states of the messages it replays follow
                original = rows.get(row.original)
                if original is None or original.state not in (DEAD, REPLAYED, RESOLVED):
                    break
                if original.first >= row.first:  # only a made-up file has replays that go round in circles
                    break
                row = original
                self._judge(row)

    def _row(
        self, event: int, message_id: str, parent: str | None, conversation: str, topic: str | None
    ) -> _Row:
        row = _Row(event, message_id, parent, conversation, topic)
        self.counts[row.state] += 1
        row.original = self._replays.get(message_id)
        self.rows[message_id] = row
        if row.original is not None:
            first = self.rows.get(row.original)
            if first is not None:
                first.replays = (*first.replays, message_id)
        return row

    def _judge(self, row: _Row) -> None:
        """Settle on a state."""
        if row.retrying:
            state = RETRYING
        elif row.waits_for and (not row.seen if row.waits_for == _ANY else row.waits_for & ~row.seen):
            state = PENDING
        elif row.dead or (row.lost and not row.seen):  # what arrived was not lost, whatever its publisher saw
            state = DEAD if not row.replays else RESOLVED if self._is_resolved(row) else REPLAYED
        else:
            state = OK
        if state in (PENDING, RETRYING):
            self.unsettled.add(row.id)
        else:
            self.unsettled.discard(row.id)
        if state == DEAD and row.original is not None:
            original = self.rows.get(row.original)
            if original is not None and original.state == RESOLVED:
                state = RESOLVED  # by another replay of the same message
        self.counts[row.state] -= 1
        self.counts[state] += 1
        settles = state == RESOLVED != row.state
        row.state = state
        if settles:
            for replay in row.replays:
                other = self.rows.get(replay)
                if other is not None and other.state == DEAD:
                    self._judge(other)

    def _is_resolved(self, row: _Row) -> bool:
        """Whether replays of it have succeeded wherever it had failed."""
        open_at = row.dead
        for message_id in row.replays:
            replay = self.rows.get(message_id)
            if replay is None or replay.state not in (OK, RESOLVED):
                continue
            if replay.topic != row.topic or row.lost or not replay.seen & row.dead:
                return True  # sent elsewhere by a person, and it went well there
            open_at &= ~(replay.ok | (replay.dead if replay.state == RESOLVED else 0))
        return open_at == 0 and not row.lost

    def forget(self, message_ids: Iterable[str]) -> None:
        """One event of each of these is no longer kept; a message without any is forgotten."""
        for message_id in message_ids:
            row = self.rows.get(message_id)
            if row is not None:
                row.events -= 1
                if row.events <= 0:
                    del self.rows[message_id]
                    self.counts[row.state] -= 1
                    self.unsettled.discard(message_id)
                    self._replays.pop(message_id, None)

    def frame(self, in_flight: Iterable[str]) -> pd.DataFrame:
        """One row a message, in the order they were first seen."""
        rows = list(self.rows.values())
        count = len(rows)
        state = np.fromiter((row.state for row in rows), np.int8, count)
        now = set(in_flight)
        if now:
            state[[i for i, row in enumerate(rows) if row.id in now]] = IN_FLIGHT
        published = np.fromiter((row.published or _NAT for row in rows), np.int64, count)
        first_ok = np.fromiter((row.first_ok for row in rows), np.int64, count)
        known = (first_ok != 0) & (published != _NAT)
        topics = Codes()
        topic = [topics.code(row.topic) for row in rows]
        columns: dict[str, Any] = {
            "topic": categorical(topic, topics.names),
            "published": pd.DatetimeIndex(published.view("M8[ns]"), tz="UTC"),
            "state": categorical(state, list(STATES)),
            "attempts": np.fromiter((row.attempts for row in rows), np.int32, count),
            "latency": np.where(known, first_ok - published, _NAT).view("m8[ns]"),
            "last_error": pd.array([row.last_error for row in rows], dtype=STR),
            "parent_id": pd.array([row.parent for row in rows], dtype=STR),
            "conversation_id": pd.array([row.conversation for row in rows], dtype=STR),
            "size": np.fromiter((row.size for row in rows), np.int64, count),
        }
        index = pd.Index([row.id for row in rows], dtype=STR, name="message_id")
        return pd.DataFrame({name: columns[name] for name in MESSAGE_COLUMNS}, index=index, copy=False)


_NAT = np.iinfo(np.int64).min
_ANY = -1  # a message that was published before its topic had a subscription waits for whichever comes


def _line(failure: Failure) -> str:
    return f"{failure.error_type}: {failure.error}" if failure.error else failure.error_type


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)
