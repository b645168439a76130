"""Which receiver published a message: a publish says which message caused it, but not who received that.

It was the receiver that had the cause at that time. Where several had, each of them comes into question.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from msgviz.drawing.tally import Batch, sums

_KEPT = 50_000
"""Receives that ended and are kept, for what a task that they left behind publishes later."""

_SLACK = 10_000_000  # nanoseconds by which two readings of the clock may be apart
_NEVER = np.iinfo(np.int64).max

Found = tuple[tuple[int, ...], int, int, Batch]
"""Numbers of the places that come into question, of the topic, of the first event, and what to count."""


@dataclass(slots=True)
class Receives:
    """Receives: their messages, when they began and ended (nanoseconds), and the numbers of their places."""

    message_id: Any
    began: NDArray[np.int64]
    ended: NDArray[np.int64]
    place: NDArray[np.int64]

    def tail(self, count: int) -> Receives:
        """A copy of the last of them."""
        ids = self.message_id.take(pa.array(np.arange(len(self.began) - count, len(self.began))))
        return Receives(ids, *(c[-count:].copy() for c in (self.began, self.ended, self.place)))


@dataclass(slots=True)
class Publishes:
    """Publishes that another message caused; `looks` says how often its receive was looked for in vain."""

    parent_id: Any
    began: NDArray[np.int64]
    topic: NDArray[np.int64]
    outcome: NDArray[np.int64]
    bucket: NDArray[np.int64]
    event_id: NDArray[np.int64]
    looks: NDArray[np.int64]

    def at(self, rows: NDArray[Any]) -> Publishes:
        """Some of them."""
        columns = (self.began, self.topic, self.outcome, self.bucket, self.event_id, self.looks)
        return Publishes(self.parent_id.filter(pa.array(rows)), *(column[rows] for column in columns))


def texts(column: Any) -> pa.Array:
    """A column of ids, as Arrow has it."""
    made = pa.array(column, pa.large_string())
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made


class Causes:
    """Finds out who published what."""

    def __init__(self) -> None:
        self._pending: list[Publishes] = []
        self._receives: deque[Receives] = deque()
        self._kept = 0

    @property
    def pending(self) -> bool:
        """Whether there are publishes of which nothing is said yet."""
        return bool(self._pending)

    def add(self, publishes: Publishes) -> None:
        """Take in what is to be found out."""
        self._pending.append(publishes)

    def resolve(
        self, receives: Receives | None, in_flight: Sequence[tuple[str, int, int]]
    ) -> Iterator[Found]:
        """Say what can be said, once and for all.

        `receives` ended since the last time; `in_flight` are those that have not ended: message, when it
        began, and place.
        """
        if receives is not None and len(receives.began):
            self._receives.append(receives)
            self._kept += len(receives.began)
        if self._pending:
            yield from self._resolve(in_flight)
        if receives is not None and len(receives.began) > _KEPT:
            self._receives[-1] = receives.tail(_KEPT)
            self._kept -= len(receives.began) - _KEPT
        while self._receives and self._kept - len(self._receives[0].began) >= _KEPT:
            self._kept -= len(self._receives.popleft().began)

    def _resolve(self, in_flight: Sequence[tuple[str, int, int]]) -> Iterator[Found]:
        all_ = _join(self._pending)
        parents = all_.parent_id.unique()
        parent = pc.index_in(all_.parent_id, parents).to_numpy(zero_copy_only=False)
        found = _Candidates(len(all_.began))
        code, began, ended, place = self._of(parents, in_flight)
        for number in np.unique(place).tolist():
            here = place == number
            theirs = _ByMessage(code[here], began[here], ended[here], len(parents))
            rows, distance = theirs.distance(parent, all_.began, 0)
            found.add(number, rows, distance)
            rows, distance = theirs.distance(parent, all_.began, _SLACK)
            found.nearest(number, rows, distance)
        all_.looks += 1
        known = found.count > 0
        last = ~known & (all_.looks > 1)  # nobody was receiving the cause: a task that was left behind
        for which, label, places in (
            (known, found.label, found.set_of),
            (last, found.near, found.nearest_of),
        ):
            at = np.flatnonzero(which)
            labels, group = np.unique(label[at], return_inverse=True)
            pair = group.astype(np.int64) << 32 | all_.topic[at]
            for both, batch in sums(pair, all_.outcome[at], all_.bucket[at]):
                first = int(all_.event_id[at[batch.first]])
                yield places(int(labels[both >> 32])), both & 0xFFFFFFFF, first, batch
        left = ~(known | last)
        self._pending = [all_.at(left)] if left.any() else []

    def _of(
        self, parents: pa.Array, in_flight: Sequence[tuple[str, int, int]]
    ) -> tuple[NDArray[np.int64], ...]:
        """The receives of these messages: which of them, when it began and ended, and where."""
        now = Receives(
            pa.array([i for i, _, _ in in_flight], pa.large_string()),
            np.array([began for _, began, _ in in_flight], np.int64),
            np.full(len(in_flight), _NEVER),
            np.array([place for _, _, place in in_flight], np.int64),
        )
        parts = []
        for part in (*self._receives, now):
            codes = pc.index_in(part.message_id, parents).fill_null(-1)
            code = codes.to_numpy(zero_copy_only=False).astype(np.int64)
            at = np.flatnonzero(code >= 0)
            parts.append((code[at], part.began[at], part.ended[at], part.place[at]))
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


class _ByMessage:
    """The receives at one place, by message and time."""

    def __init__(
        self, code: NDArray[np.int64], began: NDArray[np.int64], ended: NDArray[np.int64], messages: int
    ) -> None:
        order = np.lexsort((began, code))
        self._code, self._began, self._ended = code[order], began[order], ended[order]
        self._known = np.zeros(messages, np.bool_)
        self._known[code] = True

    def distance(
        self, code: NDArray[Any], time: NDArray[np.int64], slack: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For which publishes there is a receive that began before, and how long they came after its end.

        0 for a publish during the receive.
        """
        rows = np.flatnonzero(self._known[code])
        wanted, at = code[rows].astype(np.int64), time[rows]
        # Receives and publishes in one order: the last receive in front of a publish is the one.
        count = len(self._code)
        kind = np.repeat([0, 1], [count, len(rows)])
        order = np.lexsort(
            (kind, np.concatenate([self._began, at + slack]), np.concatenate([self._code, wanted]))
        )
        before = np.maximum.accumulate(np.where(order < count, order, -1))
        publishes = order >= count
        receive = np.empty(len(rows), np.int64)
        receive[order[publishes] - count] = before[publishes]
        good = receive >= 0
        good[good] = self._code[receive[good]] == wanted[good]
        rows, receive, at = rows[good], receive[good], at[good]
        late = np.maximum(at - self._ended[receive], 0)
        early = np.maximum(self._began[receive] - at, 0)
        return rows, late + early


class _Candidates:
    """The places that come into question for each publish: a label stands for a set of them."""

    def __init__(self, count: int) -> None:
        self.count = np.zeros(count, np.int64)
        self.label = np.zeros(count, np.uint64)
        self.near = np.full(count, -1, np.int64)
        self._distance = np.full(count, _NEVER)
        self._sets: dict[int, tuple[int, ...]] = {0: ()}

    def add(self, number: int, rows: NDArray[np.int64], distance: NDArray[np.int64]) -> None:
        """A place comes into question where the distance is 0."""
        inside = rows[distance == 0]
        self.count[inside] += 1
        mark = np.uint64(random.Random(number).getrandbits(64))  # noqa: S311  a label, no secret
        for label in np.unique(self.label[inside]).tolist():
            self._sets[int(np.uint64(label) ^ mark)] = (*self._sets[label], number)
        self.label[inside] ^= mark

    def nearest(self, number: int, rows: NDArray[np.int64], distance: NDArray[np.int64]) -> None:
        """A place whose receive was that far away."""
        closer = distance < self._distance[rows]
        self._distance[rows[closer]] = distance[closer]
        self.near[rows[closer]] = number

    def set_of(self, label: int) -> tuple[int, ...]:
        """The places that a label stands for."""
        return self._sets[label]

    @staticmethod
    def nearest_of(number: int) -> tuple[int, ...]:
        """The nearest place, if there is any."""
        return () if number < 0 else (number,)


def _join(parts: list[Publishes]) -> Publishes:
    if len(parts) == 1:
        return parts[0]
    names = ("began", "topic", "outcome", "bucket", "event_id", "looks")
    return Publishes(
        pa.concat_arrays([part.parent_id for part in parts]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names),
    )
