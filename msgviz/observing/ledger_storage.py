"""The layer ledger in a saved log: one more column, `layers`, with the passages of each event.

A passage stands in the row of its event. One whose event was dropped, or that has none of its own, as a
batch has none, stands in the row of one that happened then: each says itself whose passage it is. What is
the same for many, the chains with the names of their layers, is in the head of the file.

One that has not ended and has no event is not saved: the log it is loaded into would never hear its end.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from msgviz.attributes import Attributes, FrozenAttributes, Values
from msgviz.observing.breakpoints import SIDES
from msgviz.observing.columns import OUTCOMES, Columns, no_collection
from msgviz.observing.failure import Failure
from msgviz.observing.ledger import DIRECTIONS, OUT, Crossing, Ledger, ObservedChain, Passage
from msgviz.observing.places import Places
from msgviz.observing.probes import layer_name

COLUMN = "layers"
_HEAD = "ledger"
_DEEPEST = 500
"""Crossings one in another: a message cannot be sent through more, Python's stack has no room for them."""

_TIME = pa.timestamp("ns", "UTC")
_CROSSING = pa.struct(
    {
        "layer": pa.large_string(),
        "depth": pa.int32(),
        "outer": pa.int32(),  # its place among the crossings of the passage; null for the first
        "began": _TIME,
        "ended": _TIME,  # null: the message was still there when it was saved
        "body": pa.large_binary(),  # null: that of the outer one
        "attributes": pa.large_string(),  # JSON; null: those of the outer one
        "outcome": pa.int8(),
        "error_type": pa.large_string(),
        "error": pa.large_string(),
        "traceback": pa.large_string(),
        "given_back": pa.bool_(),
        "edited": pa.bool_(),
        "paused": pa.duration("ns"),
    }
)
_PASSAGE = pa.struct(
    {
        "number": pa.int64(),  # counts up in the order they began
        "chain": pa.int32(),  # its place in the head
        "message_id": pa.large_string(),
        "attempt": pa.int64(),
        "until": _TIME,  # when it was saved, where not all crossings had ended
        "crossings": pa.large_list(_CROSSING),
    }
)
_TYPE = pa.large_list(_PASSAGE)
_MAY_BE_NULL = ("outer", "ended", "body", "attributes", "error_type", "error", "traceback", "until")
_TIMES = ("began", "ended", "paused", "until")


class _Chain(NamedTuple):
    """What is saved of a chain, and of the way that messages take through it."""

    direction: int
    topic: str | None
    subscription: str | None
    layers: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, passage: Passage) -> _Chain:
        layers = sorted((depth, layer_name(layer)) for depth, layer in list(passage.chain.behind.items()))
        return cls(passage.direction, passage.topic, passage.subscription, tuple(layers))

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "direction": DIRECTIONS[self.direction]}

    @classmethod
    def from_json(cls, saved: Any) -> _Chain:
        texts = (saved["topic"], saved["subscription"])
        layers = tuple((depth, name) for depth, name in saved["layers"])
        names = all(isinstance(text, str | None) for text in texts)
        if not names or not all(isinstance(d, int) and isinstance(n, str) for d, n in layers):
            raise ValueError("a chain whose names are no text")
        return cls(DIRECTIONS.index(saved["direction"]), *texts, layers)


class _LoadedLayer:
    """Stands where a layer stood of which there is but the name."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name  # what `layer_name` goes by, whatever the name is


class _LoadedChain(ObservedChain):
    __slots__ = ("names",)

    loaded = True

    def __init__(self, saved: _Chain) -> None:
        super().__init__()
        self.behind = {depth: _LoadedLayer(name) for depth, name in saved.layers}
        self.names = {(depth, _text(name)): name for depth, name in saved.layers}
        """What the layers are called, by what the column has for it."""


# -- saving --------------------------------------------------------------------------------------------


def pack(ledger: Ledger, columns: Columns, places: Places, fields: dict[str, Any]) -> dict[str, Any]:
    """Add the column, where there is anything in it; gives what is to be said in the head."""
    if not ledger.layers:
        return {}
    chains: dict[_Chain, int] = {}
    with no_collection():
        kept = _rows(ledger.passages(), columns, places)
        if kept:
            fields[COLUMN] = _column(kept, len(columns), chains)
    head = {
        "layers": sorted(list(ledger.layers)),  # noqa: C414  other threads may add to it
        "dropped": ledger.dropped,
        "chains": [chain.to_json() for chain in chains],
    }
    return {_HEAD: head}


def _rows(passages: list[Passage], columns: Columns, places: Places) -> list[tuple[int, int, Passage]]:
    """The passages that are saved, each with its row and its number, in the order of the rows."""
    events: dict[tuple[Any, ...], deque[int]] = defaultdict(deque)
    wanted = {passage.message_id for passage in passages}
    count = len(columns)
    where = [(p.operation, p.topic, p.subscription) for p in places.all]
    ids, at = columns.message_id.tail(0), columns.place.view().tolist()
    every = zip(ids, at, columns.attempt.view().tolist(), strict=True)
    for row, (message_id, place, attempt) in enumerate(every):
        if message_id in wanted:
            events[_key(message_id, where[place], attempt)].append(row)
    times = columns.time.view()
    by_time = np.argsort(times, kind="stable")
    found = []
    # Of two with one key, the event is that of the one that has ended.
    numbered = ((n, p, p.first) for n, p in enumerate(passages))
    begun = [(n, p, first) for n, p, first in numbered if first is not None]
    for number, passage, first in sorted(begun, key=lambda item: item[2].ended is None):
        own = events.get(_key(passage.message_id, _way(passage), passage.attempt))
        if own:
            found.append((own.popleft(), number, passage))
        elif first.ended is not None and count:
            next_begun = int(np.searchsorted(times, passage.time, sorter=by_time))
            found.append((int(by_time[min(next_begun, count - 1)]), number, passage))
    return sorted(found, key=lambda item: item[:2])


def _way(passage: Passage) -> tuple[int, str | None, str | None]:
    return passage.direction, passage.topic, passage.subscription


def _key(message_id: str, way: tuple[int, str | None, str | None], attempt: int) -> tuple[Any, ...]:
    # What was received may be sent on, and carries its attempt on its way out: its event says 1.
    return message_id, way, 1 if way[0] == OUT else attempt


def _column(kept: list[tuple[int, int, Passage]], rows: int, chains: dict[_Chain, int]) -> pa.Array:
    known: dict[tuple[Any, ...], int] = {}
    of_row = np.zeros(rows, np.int64)
    passages: list[tuple[Any, ...]] = []
    crossings: list[tuple[Any, ...]] = []
    lengths = []
    for row, number, passage in kept:
        of_row[row] += 1
        flat = list(_flat(passage))
        crossings += flat
        lengths.append(len(flat))
        way = (passage.chain, *_way(passage))
        chain = known.get(way)
        if chain is None:
            chain = known[way] = chains.setdefault(_Chain.of(passage), len(chains))
        open_still = any(ended is None for _, _, _, _, ended, *_ in flat)
        until = passage.now() + passage.clock if open_still else None
        passages.append((number, chain, passage.message_id, passage.attempt, until))
    inner = pa.LargeListArray.from_arrays(_offsets(lengths), _structs(crossings, _CROSSING))
    return pa.LargeListArray.from_arrays(
        pa.array(_offsets(of_row), pa.int64(), mask=np.append(of_row == 0, False)),
        _structs(passages, _PASSAGE, inner),
    )


def _flat(passage: Passage) -> Iterator[tuple[Any, ...]]:
    """The crossings of a passage as they are saved, outermost first. They may go on meanwhile."""
    clock = passage.clock
    todo: list[tuple[int | None, Crossing | None, Crossing]] = []
    if passage.first is not None:
        todo.append((None, None, passage.first))
    count = 0
    while todo:
        at, outer, crossing = todo.pop()
        ended, failure = crossing.ended, crossing.failure  # in this order, or an error may be missed
        yield (
            _text(crossing.layer),
            crossing.depth,
            at,
            crossing.began + clock,
            None if ended is None else ended + clock,
            None if outer is not None and outer.body is crossing.body else crossing.body,
            None
            if outer is not None and outer.values is crossing.values
            else json.dumps(FrozenAttributes(crossing.values)),  # type: ignore[arg-type]
            *(
                (0, None, None, None, False)
                if failure is None
                else (
                    OUTCOMES.index(failure.outcome),
                    failure.error_type,
                    failure.error,
                    failure.stack,
                    failure.given_back,
                )
            ),
            crossing.edited,
            crossing.paused,
        )
        todo += [(count, crossing, inner) for inner in crossing.inner[::-1]]
        count += 1


def _text(name: str) -> str:
    """A name as text that Arrow takes: without lone surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


def _structs(items: list[tuple[Any, ...]], kind: pa.StructType, *last: pa.Array) -> pa.Array:
    fields = list(kind)
    columns = zip(*items, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=False)]
    return pa.StructArray.from_arrays([*arrays, *last], fields=fields)


def _offsets(lengths: Any) -> Any:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


# -- loading -------------------------------------------------------------------------------------------


def unpack(ledger: Ledger, head: dict[str, Any], table: pa.Table) -> None:
    """Read into an empty ledger what a file has of one; nothing, where it has nothing.

    Any of the errors that `storage.load` knows for what is damaged.
    """
    has_column = COLUMN in table.column_names
    if _HEAD not in head and not has_column:
        return
    saved = head[_HEAD]
    layers = {(side, name, depth) for side, name, depth in saved["layers"]}
    if not all(s in SIDES and isinstance(n, str) and isinstance(d, int) for s, n, d in layers):
        raise ValueError("a layer that is none")
    dropped = saved["dropped"]
    if not isinstance(dropped, int) or dropped < 0:
        raise ValueError(f"{dropped!r} passages dropped")
    passages: list[tuple[int, Passage]] = []
    if has_column:
        chains = [_Chain.from_json(one) for one in saved["chains"]]
        column = table[COLUMN].cast(_TYPE)
        column.validate(full=True)
        with no_collection():
            reader = _Reader(chains)
            for chunk in column.chunks:
                passages += reader.passages(chunk)
    if len({number for number, _ in passages}) < len(passages):
        raise ValueError("a passage stands twice")
    passages.sort(key=lambda item: item[0])
    ledger.restore((passage for _, passage in passages), layers, dropped)


class _Reader:
    """Makes passages of what was saved."""

    def __init__(self, chains: list[_Chain]) -> None:
        self._chains = [(saved, _LoadedChain(saved)) for saved in chains]
        # The times of crossings are those of this process' clock, whatever it was that wrote them.
        self._clock = time.time_ns() - time.perf_counter_ns()

    def passages(self, chunk: Any) -> Iterator[tuple[int, Passage]]:
        """The passages of some rows, with their numbers."""
        passages = _lists(chunk.flatten(), leave="crossings")
        nested = passages.pop("crossings")
        crossings = zip(*_lists(nested.flatten()).values(), strict=True)
        lengths = nested.value_lengths().to_pylist()
        for number, chain, message_id, attempt, until, length in zip(
            *passages.values(), lengths, strict=True
        ):
            if not 0 <= chain < len(self._chains):
                raise ValueError("a passage through a chain that the file does not name")
            saved, loaded = self._chains[chain]
            passage = Passage(loaded, saved.direction, message_id, saved.topic, None, attempt)
            passage.subscription = saved.subscription
            if until is not None:
                passage.until = until - self._clock
            self._fill(passage, loaded.names, list(islice(crossings, length)))
            yield number, passage

    def _fill(
        self, passage: Passage, names: dict[tuple[int, str], str], saved: list[tuple[Any, ...]]
    ) -> None:
        if not saved:
            raise ValueError("a passage that came to no layer")
        made: list[tuple[int, Crossing]] = []
        for at, (layer, depth, outer, began, ended, body, attributes, *rest) in enumerate(saved):
            level, outside = 0, None
            if outer is not None:
                if not 0 <= outer < at:
                    raise ValueError("a crossing inside of one that does not come before it")
                level, outside = made[outer][0] + 1, made[outer][1]
            elif at:
                raise ValueError("a passage that begins twice")
            if level >= _DEEPEST:
                raise ValueError("crossings nested deeper than any chain")
            crossing = self._crossing(
                passage, names.get((depth, layer), layer), depth, outside, body, attributes
            )
            crossing.began = began - self._clock
            crossing.ended = None if ended is None else ended - self._clock
            end = passage.until if crossing.ended is None else crossing.ended
            *error, crossing.edited, crossing.paused = rest
            if end is None or began < 0 or end < crossing.began or crossing.paused < 0:
                raise ValueError("a crossing that ended before it began")
            crossing.failure = _failure(*error)
            if outside is None:
                passage.first = crossing
                passage.time = began
            else:
                outside.inner.append(crossing)
            made.append((level, crossing))

    def _crossing(
        self,
        passage: Passage,
        layer: str,
        depth: int,
        outer: Crossing | None,
        body: bytes | None,
        attributes: str | None,
    ) -> Crossing:
        if outer is not None:
            body = outer.body if body is None else body
            values = outer.values if attributes is None else _values(attributes)
        elif body is None or attributes is None:
            raise ValueError("a passage that begins without a body, or without attributes")
        else:
            values = _values(attributes)
        return Crossing(passage, depth, layer, body, values)


def _lists(structs: Any, leave: str = "") -> dict[str, Any]:
    """The fields of structs by their names, as lists, `leave` as it is; none that must not be is null."""
    if structs.null_count:
        raise ValueError("a passage or a crossing that is null")
    fields: dict[str, Any] = {}
    for field, array in zip(structs.type, structs.flatten(), strict=True):
        name = field.name
        if name not in _MAY_BE_NULL and array.null_count:
            raise ValueError(f"a passage or a crossing without its {name}")
        if name in _TIMES:
            array = array.cast(pa.int64())  # noqa: PLW2901
        fields[name] = array if name == leave else array.to_pylist()
    return fields


def _failure(code: int, kind: str | None, text: str | None, stack: str | None, back: bool) -> Failure | None:
    if not 0 <= code < len(OUTCOMES):
        raise ValueError("a crossing has an outcome this format does not know")
    return Failure(OUTCOMES[code], kind or "", text or "", stack or "", back) if code else None


def _values(saved: str) -> Values:
    return Attributes(json.loads(saved)).freeze()
