"""Which events of a log a table shows: found once, and after that only among the new ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from msgviz.observing import ID_ATTRIBUTE
from msgviz.observing.expression import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

FACETS = ("topic", "operation", "outcome", "error_type")
_IDS = ("message_id", "parent_id", "conversation_id", "replay_of")


@dataclass(frozen=True)
class Condition:
    """What is asked of each event, beside its facets: a text somewhere in it, and a pandas expression."""

    search: str = ""
    query: str = ""

    def __bool__(self) -> bool:
        return bool(self.search or self.query)

    def check(self, events: pd.DataFrame) -> None:
        """Raise QueryError if the expression is wrong for such events."""
        if self.query:
            evaluate(self.query, events)

    def mask(self, events: pd.DataFrame) -> NDArray[np.bool_]:
        """Whether each of the events meets it; QueryError if the expression fails on these."""
        mask = np.ones(len(events), np.bool_)
        if self.query:
            mask = evaluate(self.query, events)
        if self.search:
            mask[mask] = _contains(events[mask], self.search)
        return mask


class Matches:
    """The events that meet a condition and, among them, those of the chosen facets; by id, ascending."""

    def __init__(self, condition: Condition, facets: Mapping[str, Iterable[str]]) -> None:
        self.condition = condition
        self.facets = _chosen(facets)
        self.next = 0
        """The first event that was not looked at yet."""
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
        """Per facet and value, among what meets the condition: how many there were if it were chosen."""
        self._met = _Ids()
        self._ids = _Ids()

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the events to show. Never changed in place."""
        return self._ids.view()

    def add(self, events: pd.DataFrame) -> None:
        """Look at the next events of the log."""
        if events.empty:
            return
        self.next = int(events.index[-1]) + 1
        if self.condition:
            events = events[self.condition.mask(events)]
        self._met.extend(events.index.to_numpy())
        self._choose_from(events)

    def choose(self, facets: Mapping[str, Iterable[str]], log: pd.DataFrame) -> None:
        """Choose other facets. `log`: all events; what is gone from it is gone from here too."""
        self.facets = _chosen(facets)
        met = self._met.view()
        events = log if len(met) == len(log) else log[np.isin(log.index.to_numpy(), met, assume_unique=True)]
        self._met, self._ids = _Ids(), _Ids()
        self._met.extend(events.index.to_numpy())
        self.counts = {name: Counter(dict.fromkeys(old, 0)) for name, old in self.counts.items()}
        self._choose_from(events)

    def _choose_from(self, events: pd.DataFrame) -> None:
        chosen = {name: events[name].isin(values).to_numpy(np.bool_) for name, values in self.facets.items()}
        for name, counter in self.counts.items():
            others = [mask for other, mask in chosen.items() if other != name]
            counts = _count(events[name])
            if others:
                counter.update(dict.fromkeys(counts, 0))
                counts = _count(events[name][np.logical_and.reduce(others)])
            counter.update(counts)
        ids = events.index.to_numpy()
        self._ids.extend(ids[np.logical_and.reduce(list(chosen.values()))] if chosen else ids)


class _Ids:
    """Event ids in an array that grows at its end; what was handed out is never written to again."""

    def __init__(self) -> None:
        self._whole: NDArray[np.int64] = np.empty(1024, np.int64)
        self._size = 0

    def extend(self, ids: NDArray[np.int64]) -> None:
        end = self._size + len(ids)
        if end > len(self._whole):
            larger = np.empty(max(end, 2 * len(self._whole)), np.int64)
            larger[: self._size] = self._whole[: self._size]
            self._whole = larger
        self._whole[self._size : end] = ids
        self._size = end

    def view(self) -> NDArray[np.int64]:
        return self._whole[: self._size]


def _chosen(facets: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    unknown = sorted(set(facets) - set(FACETS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no facet: they are {', '.join(FACETS)}")
    chosen = {name: list(values) for name, values in facets.items()}
    return {name: values for name, values in chosen.items() if values}


def _count(values: pd.Series[Any]) -> dict[str, int]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()
        counts = np.bincount(codes[codes >= 0], minlength=len(values.cat.categories))
        return {
            str(name): count
            for name, count in zip(values.cat.categories, counts.tolist(), strict=True)
            if count
        }
    return Counter(values.dropna().tolist())


def _contains(events: pd.DataFrame, search: str) -> NDArray[np.bool_]:
    """Whether the text is in the ids, the place, the error, the attributes or the body; in any case."""
    found = np.zeros(len(events), np.bool_)
    for name in (*_IDS, "error_type", "error"):
        column = events[name]
        found |= column.str.contains(search, case=False, regex=False, na=False).to_numpy(np.bool_)
    wanted = search.lower()
    for name in ("topic", "subscription"):
        names = [value for value in events[name].cat.categories if wanted in str(value).lower()]
        if names:
            found |= events[name].isin(names).to_numpy(np.bool_)
    rest = np.flatnonzero(~found)
    bodies = events["body"].to_numpy()[rest]
    attributes = events["attributes"].to_numpy()[rest]
    in_body = _body_search(search)
    known: dict[str, bool] = {}
    found[rest] = [
        in_body(body) or _in_attributes(values, wanted, known)
        for body, values in zip(bodies, attributes, strict=True)
    ]
    return found


def _body_search(search: str) -> Callable[[bytes | None], bool]:
    wanted = search.lower()
    if search.isascii():
        needle = wanted.encode()
        return lambda body: body is not None and needle in body.lower()
    escaped = json.dumps(wanted)[1:-1].encode()  # JSON may spell what is not ASCII so

    def found(body: bytes | None) -> bool:
        return body is not None and (
            wanted in body.decode(errors="replace").lower() or escaped in body.lower()
        )

    return found


def _in_attributes(attributes: dict[str, list[str]], wanted: str, known: dict[str, bool]) -> bool:
    """Whether a key or a value has the text in it; `known` remembers the answers, as few values are new."""
    # Without the lists that a look at a FrozenAttributes makes: this runs millions of times.
    for key, values in dict.items(attributes):
        if key == ID_ATTRIBUTE:
            continue  # the ids in it have columns of their own
        for text in (key, values) if isinstance(values, str) else (key, *values):
            found = known.get(text)
            if found is None:
                found = known[text] = wanted in text.lower()
            if found:
                return True
    return False
