"""Counting events by what they belong to, many at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 5.0
"""Seconds that a rate looks back."""

ERROR = 1  # the code of an outcome

_BUCKET = 500_000_000  # nanoseconds
_BUCKETS = int(WINDOW * 1e9) // _BUCKET
_MANY = 2 * _BUCKETS


@dataclass(slots=True)
class Batch:
    """What is added to one tally: `first` is the position of the first of them."""

    count: int
    failed: int
    recent: dict[int, int]
    first: int


class Tally:
    """How many there were, how many failed, and how many lately."""

    __slots__ = ("count", "failed", "recent")

    def __init__(self) -> None:
        self.count = self.failed = 0
        self.recent: Counter[int] = Counter()

    def add(self, batch: Batch) -> None:
        """Count some more."""
        self.count += batch.count
        self.failed += batch.failed
        if batch.recent:
            self.recent.update(batch.recent)

    def rate(self, now: int) -> float:
        """How many a second, over the last seconds; `now` in nanoseconds since 1970."""
        last = now // _BUCKET
        for bucket in [b for b in self.recent if b <= last - _BUCKETS]:
            del self.recent[bucket]
        return sum(self.recent.values()) / WINDOW


class Received(Tally):
    """What a subscription received; `letters` are those of the dead that a topic of dead letters took."""

    __slots__ = ("cancelled", "died", "letters", "retries")

    def __init__(self) -> None:
        super().__init__()
        self.retries = self.died = self.letters = self.cancelled = 0


class Numbers:
    """Numbers for names, in the order they come."""

    def __init__(self) -> None:
        self.names: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, name: Any) -> int:
        """The number of a name."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number

    def of(self, column: Any) -> NDArray[np.int64]:
        """The numbers of a categorical column of names; null is a name too."""
        table = [self.number(name) for name in column.cat.categories]
        made: NDArray[np.int64] = np.array([*table, self.number(None)], np.int64)[column.cat.codes]
        return made


def recent(ended: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of time in which each event of the last seconds ended; 0 for those before."""
    now = time.time_ns() // _BUCKET
    bucket = np.minimum(ended // _BUCKET, now)
    kept: NDArray[np.int64] = np.where(bucket > now - _BUCKETS, bucket, 0)
    return kept


def sums(
    groups: NDArray[np.int64], outcome: NDArray[Any], bucket: NDArray[np.int64]
) -> Iterator[tuple[int, Batch]]:
    """By group: how many, how many failed, and how many of late."""
    names, first, inverse, counts = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    failed = np.bincount(inverse[outcome == ERROR], minlength=len(names)).tolist()
    late: list[dict[int, int]] = [{} for _ in names]
    at = np.flatnonzero(bucket)
    newest = int(bucket.max(initial=0))
    pairs, numbers = np.unique(inverse[at] * _MANY + (newest - bucket[at]), return_counts=True)
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        late[pair // _MANY][newest - pair % _MANY] = number
    for group, name in enumerate(names.tolist()):
        yield name, Batch(int(counts[group]), failed[group], late[group], int(first[group]))
