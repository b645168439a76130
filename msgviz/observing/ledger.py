"""The layer ledger: what each layer of a chain made of each message, one row a message and layer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast

import numpy as np
import pandas as pd

from msgviz.attributes import FrozenAttributes, Values
from msgviz.message import Source
from msgviz.observing.breakpoints import Stops
from msgviz.observing.columns import OUTCOMES, STR, Codes, categorical
from msgviz.observing.failure import Failure

PER_CROSSING = 256  # bytes a crossing is counted as, beside its body
OUT, IN = 0, 1
DIRECTIONS = ("out", "in")

LAYER_COLUMNS = (
    "message_id", "direction", "depth", "layer", "topic", "subscription", "attempt", "time", "duration",
    "size_in", "size_out", "added", "removed", "changed", "body_in", "body_out", "passes", "outcome",
    "error_type", "error", "problem",
)  # fmt: skip


class Crossing:
    """A message as it entered one layer, how long it took and how it ended; `inner` is what went further."""

    __slots__ = (
        "began", "body", "depth", "edited", "ended", "failure", "inner", "layer", "passage", "paused",
        "values",
    )  # fmt: skip

    def __init__(self, passage: Passage, depth: int, layer: str, body: bytes, values: Values) -> None:
        self.passage = passage
        self.depth = depth
        self.layer = layer
        self.body = body
        self.values = values
        self.inner: list[Crossing] = []
        self.failure: Failure | None = None
        self.began = time.perf_counter_ns()
        self.ended: int | None = None
        self.edited = False  # or failed, by a person, at a breakpoint behind this layer
        self.paused = 0  # nanoseconds that the message was held at a breakpoint behind this layer

    @property
    def raised_here(self) -> bool:
        """Whether its error began in this layer, and not further in."""
        return self.failure is not None and not any(
            c.failure is not None and c.failure.error_type == self.failure.error_type for c in self.inner[-1:]
        )

    def walk(self) -> Iterator[Crossing]:
        """This crossing and all further in, in their order."""
        yield self
        for crossing in self.inner:
            yield from crossing.walk()


class ObservedChain:
    """The chain of a topic or of a receiver between whose layers probes stand."""

    __slots__ = ("behind",)

    loaded = False
    """Whether it was read from a file, so that there are but the names of its layers."""

    def __init__(self) -> None:
        self.behind: dict[int, Any] = {}
        """By depth: the layer there, with all that is further in; the newest receiver."""


class Passage:
    """One way of a message through a chain: out when it was published, in on each attempt to receive it."""

    __slots__ = (
        "attempt", "chain", "direction", "first", "message_id", "source", "subscription", "time", "topic",
        "until",
    )  # fmt: skip

    def __init__(
        self,
        chain: ObservedChain,
        direction: int,
        message_id: str,
        topic: str | None,
        source: Source | None,
        attempt: int,
    ) -> None:
        self.chain = chain  # by which probes know that a crossing is of their own chain
        self.direction = direction
        self.message_id = message_id
        self.topic = topic if source is None else source.topic
        self.source = source
        self.subscription = None if source is None else source.subscription
        self.attempt = attempt
        self.first: Crossing | None = None
        self.time = time.time_ns()  # when it began, since 1970: a process may live longer than its clock
        self.until: int | None = None  # of one that was loaded: when it was saved

    @property
    def clock(self) -> int:
        """What makes nanoseconds since 1970 of the times of its crossings, added to them."""
        return 0 if self.first is None else self.time - self.first.began

    def now(self) -> int:
        """Until when what has not ended is known to have lasted, as the crossings count it."""
        return time.perf_counter_ns() if self.until is None else self.until

    def crossings(self) -> Iterator[Crossing]:
        """All crossings, outermost first."""
        if self.first is not None:
            yield from self.first.walk()


class Ledger:
    """The passages that a log keeps; past `max_bytes` the oldest are dropped."""

    def __init__(self, max_bytes: int, stops: Stops) -> None:
        self.max_bytes = max_bytes
        self.stops = stops
        self.layers: set[tuple[str, str, int]] = set()
        """The layers there are: side, name and depth."""
        self.dropped = 0
        self._passages: deque[Passage] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._passages)

    def begin(self, passage: Passage) -> None:
        """Keep a passage that begins."""
        self._passages.append(passage)

    def enter(self, outer: Crossing | None, crossing: Crossing) -> None:
        """Keep a crossing, inside another or as the first of its passage."""
        if outer is None:
            crossing.passage.first = crossing
        else:
            outer.inner.append(crossing)
        self._bytes += _price(outer, crossing)
        if self._bytes > self.max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        with self._lock:
            while self._bytes > self.max_bytes * 15 // 16 and len(self._passages) > 1:
                gone = self._passages.popleft()
                self.dropped += 1
                self._bytes -= _price_of(gone.first)

    def passages(self, message_id: str | None = None) -> list[Passage]:
        """The passages that are kept, of one message or of all, the oldest first."""
        kept = list(self._passages)
        return kept if message_id is None else [p for p in kept if p.message_id == message_id]

    def since(self, number: int) -> tuple[int, list[Passage]]:
        """The passages from this number on that are kept, the oldest first, and the number of the first one.

        They are numbered from 0 in the order they began. It costs what they are, not what is kept.
        """
        with self._lock:  # nothing is dropped meanwhile; others may begin
            while True:
                kept = len(self._passages)
                count = min(kept, max(0, self.dropped + kept - number))
                found = list(islice(reversed(self._passages), count))
                if len(self._passages) == kept:
                    return self.dropped + kept - count, found[::-1]

    def restore(self, passages: Iterable[Passage], layers: set[tuple[str, str, int]], dropped: int) -> None:
        """Go on from what was saved; past `max_bytes` the oldest are dropped."""
        self.layers |= layers
        self.dropped += dropped
        for passage in passages:
            self._passages.append(passage)
            self._bytes += _price_of(passage.first)
        if self._bytes > self.max_bytes:
            self._make_room()

    def frame(self, message_id: str | None = None) -> pd.DataFrame:
        """One row per message and layer; see `Recorder.layers`."""
        topics, subscriptions, layers = Codes(), Codes(), Codes()
        rows: list[tuple[Any, ...]] = []
        went_out: dict[tuple[str, int], Crossing] = {}
        for passage in self.passages(message_id):
            where = (topics.code(passage.topic), subscriptions.code(passage.subscription), passage.attempt)
            clock = passage.clock
            for crossing in passage.crossings():
                if passage.direction == OUT:
                    went_out[passage.message_id, crossing.depth] = crossing
                rows.append(
                    (
                        passage.message_id,
                        passage.direction,
                        crossing.depth,
                        layers.code(crossing.layer),
                        *where,
                        crossing.began + clock,
                        *_row(crossing),
                        problem(crossing, went_out.get((passage.message_id, crossing.depth))),
                    )
                )
        columns: dict[str, Any] = dict(
            zip(LAYER_COLUMNS, zip(*rows, strict=True) if rows else [()] * len(LAYER_COLUMNS), strict=True)
        )
        for name, names in (
            ("direction", DIRECTIONS),
            ("layer", layers.names),
            ("topic", topics.names),
            ("subscription", subscriptions.names),
            ("outcome", OUTCOMES),
        ):
            columns[name] = categorical(np.array(columns[name], np.int32), names)
        for name in ("message_id", "error_type", "error", "problem"):
            columns[name] = pd.array(list(columns[name]), dtype=STR)
        for name in ("depth", "attempt", "size_in", "passes"):
            columns[name] = np.array(columns[name], np.int64)
        columns["time"] = pd.DatetimeIndex(np.array(columns["time"], np.int64).view("M8[ns]"), tz="UTC")
        columns["duration"] = np.array(columns["duration"], np.int64).view("m8[ns]")
        columns["size_out"] = pd.array(list(columns["size_out"]), dtype="Int64")
        for name in ("added", "removed", "changed", "body_in", "body_out"):
            columns[name] = np.fromiter(columns[name], object, len(rows))
        return pd.DataFrame(columns)


def _row(crossing: Crossing) -> tuple[Any, ...]:
    after = crossing.inner[-1] if crossing.inner else None
    failure = crossing.failure
    added, removed, changed = difference(crossing.values, crossing.values if after is None else after.values)
    return (
        time_alone(crossing),
        len(crossing.body),
        None if after is None else len(after.body),
        added,
        removed,
        changed,
        crossing.body,
        None if after is None else after.body,
        len(crossing.inner),
        0 if failure is None else OUTCOMES.index(failure.outcome),
        None if failure is None else failure.error_type,
        None if failure is None else failure.error,
    )


def time_alone(crossing: Crossing) -> int:
    """Nanoseconds that a message spent in this layer, those further in left out; so far, if it is there."""
    now = crossing.passage.now()
    inside = sum(_lasted(c, now) for c in crossing.inner)
    return max(_lasted(crossing, now) - inside - crossing.paused, 0)


def _lasted(crossing: Crossing, now: int) -> int:
    return (now if crossing.ended is None else crossing.ended) - crossing.began


Changes = tuple[dict[str, list[str]], dict[str, list[str]], dict[str, tuple[list[str], list[str]]]]


def difference(before: Values, after: Values) -> Changes:
    """The attributes added, removed, and changed (with their values before and after)."""
    if before is after:
        return {}, {}, {}
    old, new = FrozenAttributes(cast("Any", before)), FrozenAttributes(cast("Any", after))
    added = {key: new[key] for key in after if key not in before}
    removed = {key: old[key] for key in before if key not in after}
    changed = {k: (old[k], new[k]) for k in after if k in before and before[k] != after[k]}
    return added, removed, changed


def problem(crossing: Crossing, out: Crossing | None) -> str | None:
    """What went wrong in this layer, in words; None where nothing did.

    `out` is the same message at the same depth on its way out: what a decoder gives back is compared with
    what its encoder was given.
    """
    failure = crossing.failure
    mirrored = crossing.passage.direction == IN and out is not None and bool(out.inner)
    if failure is not None and failure.outcome == "error" and crossing.raised_here:
        said = f": {failure.error}" if failure.error else ""
        if crossing.edited and not crossing.inner:
            return f"was failed at a breakpoint behind it with {failure.error_type}{said}"
        other = ""
        if mirrored and out is not None and out.layer != crossing.layer and crossing.depth:
            other = (
                f"; on the way out {out.layer} stood in its place: is the order of the two sides the same?"
            )
        return f"raised {failure.error_type}{said}{other}"
    if mirrored and out is not None and crossing.inner and not (crossing.edited or out.edited):
        wire, given = out.inner[-1], crossing.inner[-1]
        if crossing.body == wire.body and given.body != out.body:
            return (
                f"did not undo what {out.layer} did on the way out: that was given {len(out.body)} bytes, "
                f"and this gave back {len(given.body)} that are not the same"
            )
    return None


def _price(outer: Crossing | None, crossing: Crossing) -> int:
    same = outer is not None and outer.body is crossing.body
    return PER_CROSSING + (0 if same else len(crossing.body))


def _price_of(first: Crossing | None) -> int:
    if first is None:
        return 0
    return _price(None, first) + sum(_price(c, inner) for c in first.walk() for inner in c.inner)
