"""Events as columns: growing arrays, from which a DataFrame is made without copying them."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from msgviz.attributes import FrozenAttributes
from msgviz.observing.failure import Failure
from msgviz.observing.places import OPERATIONS, Place

FIELDS = 10
(TIME, END, PLACE, ID, PARENT, CONVERSATION, ATTEMPT, FAILURE, VALUES, BODY) = range(FIELDS)
"""The fields of an event as it is recorded; BODY is the body or, where it was not kept, its size."""

_MANY_CHUNKS = 64
_BLOCK = 8192  # events turned into columns at a time: what they hold is then still in the processor's cache

OUTCOMES = ("ok", "error", "cancelled")
STR: Any = pd.StringDtype("pyarrow", na_value=np.nan)

EVENT_COLUMNS = (
    "time", "operation", "topic", "subscription", "message_id", "parent_id", "conversation_id", "attempt",
    "outcome", "error_type", "error", "duration", "size", "attributes", "body", "replay_of",
)  # fmt: skip


@contextmanager
def no_collection() -> Iterator[None]:
    """Making a million dicts and lists that all live on: the garbage collector would look in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_freeze_count() == 0:
                # To the oldest generation with all of them: else the next collection goes through each.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


class _Array:
    """A numpy array that grows at its end. What was handed out is never written to again."""

    __slots__ = ("_series", "_size", "_whole")

    def __init__(self, dtype: Any) -> None:
        self._whole: NDArray[Any] = np.empty(1024, dtype)
        self._size = 0
        self._series: pd.Series[Any] | None = None

    def reserve(self, count: int) -> None:
        end = self._size + count
        if end > len(self._whole):
            larger = np.empty(max(end, 2 * len(self._whole)), self._whole.dtype)
            larger[: self._size] = self._whole[: self._size]
            self._whole, self._series = larger, None

    def extend(self, items: NDArray[Any]) -> None:
        self.reserve(len(items))
        end = self._size + len(items)
        self._whole[self._size : end] = items
        self._size = end

    def view(self, start: int = 0) -> NDArray[Any]:
        return self._whole[start : self._size]

    def column(self, index: pd.Index[Any], start: int) -> pd.Series[Any]:
        # pandas copies before it writes only while it knows of another owner: this Series is the log's own.
        if self._series is None:
            self._series = pd.Series(self._whole, dtype=self._whole.dtype, copy=False)
        column = self._series.iloc[start : self._size]
        column.index = index
        return column

    def keep(self, mask: NDArray[np.bool_]) -> None:
        whole = self.view()
        kept = np.concatenate([whole[: len(mask)][mask], whole[len(mask) :]])
        self._whole, self._size, self._series = kept, len(kept), None


class _Strings:
    """A column of text in Arrow's chunks; few of them, so that adding a little costs a little."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: list[pa.Array] = []

    def extend(self, items: Sequence[str | None] | pa.Array) -> None:
        self._chunks.append(items if isinstance(items, pa.Array) else pa.array(items, pa.large_string()))
        if len(self._chunks) >= _MANY_CHUNKS:
            self._merge()

    def _merge(self) -> None:
        """Few chunks again, each at least twice as long as the next: a text is copied few times in all."""
        merged: list[pa.Array] = []
        pending: list[pa.Array] = []
        length = 0
        for chunk in reversed(self._chunks):
            if pending and len(chunk) >= 2 * length:
                merged.append(pa.concat_arrays(pending[::-1]))
                pending, length = [], 0
            pending.append(chunk)
            length += len(chunk)
        merged.append(pa.concat_arrays(pending[::-1]))
        self._chunks = merged[::-1]

    def whole(self) -> pa.ChunkedArray:
        return pa.chunked_array(self._chunks, pa.large_string())

    def at(self, position: int) -> Any:
        return self.whole()[position].as_py()

    def head(self, count: int) -> list[Any]:
        return self.whole().slice(0, count).to_pylist()  # type: ignore[no-any-return]

    def tail(self, start: int) -> list[Any]:
        return self.whole().slice(start).to_pylist()  # type: ignore[no-any-return]

    def view(self, start: int = 0) -> Any:
        return pd.arrays.ArrowStringArray(self.whole().slice(start), dtype=STR)  # type: ignore[call-arg]

    def keep(self, mask: NDArray[np.bool_]) -> None:
        whole, head = self.whole(), len(mask)
        self._chunks = [*whole.slice(0, head).filter(pa.array(mask)).chunks, *whole.slice(head).chunks]


class Columns:
    """All events of a log that are kept, one array a column."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self.event_id = _Array(np.int64)
        self.time = _Array(np.int64)
        self.place = _Array(np.int32)
        self.attempt = _Array(np.int32)
        self.outcome = _Array(np.int8)
        self.duration = _Array(np.int64)
        self.size = _Array(np.int64)
        self.failure = _Array(object)
        self.attributes = _Array(object)
        self.body = _Array(object)
        self.message_id = _Strings()
        self.parent_id = _Strings()
        self.conversation_id = _Strings()
        self.replay_of = _Strings()
        self.error_type = _Strings()
        self.error = _Strings()

    def __len__(self) -> int:
        return len(self.time.view())

    def extend(self, flat: list[Any], count: int, first_id: int, clock: int, replays: dict[str, str]) -> int:
        """Add the first `count` of the events that were recorded; gives the bytes of their bodies.

        Their times and `clock` add up to nanoseconds since 1970.
        """
        for column in vars(self).values():
            if isinstance(column, _Array):
                column.reserve(count)
        kept = 0
        for start in range(0, count, _BLOCK):
            end = min(start + _BLOCK, count)
            block = flat[start * FIELDS : end * FIELDS]
            kept += self._extend_block(block, first_id + start, clock, replays)
        return kept

    def _extend_block(self, flat: list[Any], first_id: int, clock: int, replays: dict[str, str]) -> int:
        count = len(flat) // FIELDS
        began = np.fromiter(flat[TIME::FIELDS], np.int64, count)
        ids: list[str] = flat[ID::FIELDS]
        self.event_id.extend(np.arange(first_id, first_id + count))
        self.time.extend(began + clock)
        self.duration.extend(np.fromiter(flat[END::FIELDS], np.int64, count) - began)
        self.place.extend(np.fromiter(flat[PLACE::FIELDS], np.int32, count))
        self.attempt.extend(np.fromiter(flat[ATTEMPT::FIELDS], np.int32, count))
        texts = pa.array(ids, pa.large_string())
        conversations = flat[CONVERSATION::FIELDS]
        self.message_id.extend(texts)
        # A message that no other caused is a conversation's first, and its id that of both.
        self.conversation_id.extend(texts if conversations == ids else conversations)
        self.parent_id.extend(_none_for_empty(flat[PARENT::FIELDS]))
        self.replay_of.extend([replays.get(i) for i in ids] if replays else _nones(count))
        self._extend_failures(flat[FAILURE::FIELDS], count)
        bodies = flat[BODY::FIELDS]
        try:
            sizes = np.fromiter(map(len, bodies), np.int64, count)
            kept = int(sizes.sum())
        except TypeError:  # some were too large to be kept: their size stands in their place
            sizes = np.array([b if b.__class__ is int else len(b) for b in bodies], np.int64)
            bodies = [None if b.__class__ is int else b for b in bodies]
            kept = sum(len(b) for b in bodies if b is not None)
        self.size.extend(sizes)
        self.body.extend(_objects(bodies))
        self.attributes.extend(np.fromiter(map(FrozenAttributes, flat[VALUES::FIELDS]), object, count))
        return kept

    def _extend_failures(self, failures: list[Failure | None], count: int) -> None:
        if not any(failures):
            self.failure.extend(np.empty(count, object))
            self.outcome.extend(np.zeros(count, np.int8))
            self.error_type.extend(_nones(count))
            self.error.extend(_nones(count))
            return
        self.failure.extend(_objects(failures))
        self.outcome.extend(
            np.fromiter((0 if f is None else OUTCOMES.index(f.outcome) for f in failures), np.int8, count)
        )
        self.error_type.extend([None if f is None else f.error_type for f in failures])
        self.error.extend([None if f is None else f.error for f in failures])

    def kept_bytes(self, start: int = 0) -> NDArray[np.int64]:
        """The bytes of each body that is kept, from this position on."""
        lost = self.body.view()[start:] == None  # noqa: E711  element by element
        kept: NDArray[np.int64] = np.where(lost, 0, self.size.view()[start:])
        return kept

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Of the first events, as many as the mask is long, keep these; keep all that follow."""
        for column in vars(self).values():
            if isinstance(column, (_Array, _Strings)):
                column.keep(mask)

    def frame(self, start: int = 0) -> pd.DataFrame:
        """The events from a position on, one row each; what is written into it does not come back here."""
        topics, subscriptions = Codes(), Codes()
        operation = np.array([p.operation for p in self._places], np.int8)
        topic = np.array([topics.code(p.topic) for p in self._places], np.int32)
        subscription = np.array([subscriptions.code(p.subscription) for p in self._places], np.int32)
        place = self.place.view(start)
        index = pd.Index(self.event_id.view(start), name="event_id", copy=False)
        columns: dict[str, Any] = {
            "time": pd.DatetimeIndex(self.time.view(start).view("M8[ns]"), tz="UTC", copy=True),
            "operation": categorical(operation[place], OPERATIONS),
            "topic": categorical(topic[place], topics.names),
            "subscription": categorical(subscription[place], subscriptions.names),
            "message_id": self.message_id.view(start),
            "parent_id": self.parent_id.view(start),
            "conversation_id": self.conversation_id.view(start),
            "attempt": self.attempt.column(index, start),
            "outcome": categorical(self.outcome.view(start).copy(), OUTCOMES),
            "error_type": self.error_type.view(start),
            "error": self.error.view(start),
            "duration": self.duration.view(start).astype("m8[ns]"),
            "size": self.size.column(index, start),
            "attributes": self.attributes.column(index, start),
            "body": self.body.column(index, start),
            "replay_of": self.replay_of.view(start),
        }
        return pd.DataFrame({name: columns[name] for name in EVENT_COLUMNS}, index=index, copy=False)


def categorical(codes: Any, names: Sequence[str]) -> pd.Categorical[Any]:
    """A categorical column from numbers and the names they stand for; -1 is null."""
    made: pd.Categorical[Any] = pd.Categorical.from_codes(codes, pd.Index(names, dtype=STR))
    return made


class Codes:
    """Numbers for names, as a categorical has them: -1 for none."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str | None, int] = {None: -1}

    def code(self, name: str | None) -> int:
        """The number of a name."""
        code = self._codes.get(name)
        if code is None:
            # pandas keeps no lone surrogates
            shown = str(name).encode("utf-8", "backslashreplace").decode()
            if shown not in self.names:
                self.names.append(shown)
            code = self._codes[name] = self.names.index(shown)
        return code


def _none_for_empty(items: list[str]) -> Any:
    return [item or None for item in items] if any(items) else _nones(len(items))


def _nones(count: int) -> Any:
    return pa.nulls(count, pa.large_string())


def _objects(items: Sequence[Any]) -> NDArray[Any]:
    return np.fromiter(items, object, len(items))
