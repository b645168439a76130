"""MessageTable: the events of a log as they happen, to search, filter and select."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import traitlets

from msgviz.observing.expression import QueryError
from msgviz.widgets._base import STATIC, Widget
from msgviz.widgets._matches import Condition, Matches
from msgviz.widgets._rows import rows_content

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from msgviz.log import MessageLog

TAIL = 100
"""Rows sent unasked: more than a view shows at once."""

MAX_ROWS = 500
"""Rows of one answer."""

_SLICES = {"search": 1 << 12, "query": 1 << 15, "": 1 << 18}
"""Events looked at between two looks at the clock, by the slowest thing asked of them: each a few ms."""

_TURN = 0.01  # seconds of searching before the event loop gets its turn
_PROGRESS = 0.2  # seconds between two words about how far the search is

Mode = Literal["only", "toggle", "range", "all", "none"]


class MessageTable(Widget):
    """A live table of all events of a log, however many they are.

    It shows what meets all of `search` (a text in the body, attributes, ids, place or error), `query` (a
    pandas expression on the columns of `log.events`) and `facets` (chosen values of topic, operation,
    outcome and error_type). While `paused`, later events wait. `selected` are the rows a person selected;
    observe `message_id` to follow the one in focus. All of these can be set from Python as well.
    """

    _esm = STATIC / "table.js"
    _css = STATIC / "table.css"

    search = traitlets.Unicode("").tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    facets = traitlets.Dict(value_trait=traitlets.List(traitlets.Unicode())).tag(sync=True)
    paused = traitlets.Bool(default_value=False).tag(sync=True)
    height = traitlets.Int(320, min=120).tag(sync=True)
    message_id = traitlets.Unicode(None, allow_none=True)
    """The message of the row in focus; None where none is."""
    _query_problem = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self, log: MessageLog, *, search: str = "", query: str = "", paused: bool = False, height: int = 320
    ) -> None:
        """Show the events of `log`, in a window of `height` pixels."""
        super().__init__(search=search, query=query, paused=paused, height=height)
        self._log = log
        self._condition = Condition()
        self._matches = Matches(self._condition, {})
        self._latest = log.since(log.next_event_id)
        """The events that were read last, for the rows among them."""
        self._generation = 0
        self._changes = 0
        self._dropped = log.dropped
        self._sent = -1
        self._sent_count = 0
        self._paused_at: int | None = log.next_event_id if paused else None
        self._selection: NDArray[np.int64] = np.empty(0, np.int64)
        self._set_condition(None)
        self.handle("rows", self._send_rows)
        self.handle("select", self._select)
        for name in ("search", "query"):
            self.handle_trait(name, self._set_condition)
        self.handle_trait("facets", self._set_facets)
        self.handle_trait("paused", self._set_paused)
        self.bridge.on_change(lambda: (log.revision, self._changes), self._flush)

    @property
    def selected(self) -> pd.DataFrame:
        """The selected rows: a slice of `log.events`, without those that the log dropped since."""
        events = self._log.events
        return events[events.index.isin(self._selection)]

    def _set_view(self, *, view: str, shown: bool) -> None:
        super()._set_view(view=view, shown=shown)
        self._restart()

    def _restart(self) -> None:
        """What the views have is out of date: with the next flush they begin anew."""
        self._generation += 1
        self._changes += 1

    def _set_condition(self, _value: object) -> None:
        condition = Condition(self.search.strip(), self.query.strip())
        try:
            condition.check(self._log.since(self._log.next_event_id - TAIL))
        except QueryError as error:
            self._query_problem = str(error)
            condition = Condition(condition.search, self._condition.query)
        else:
            self._query_problem = ""
        if condition != self._condition:
            self._condition = condition
            self._changes += 1

    def _set_facets(self, _value: object) -> None:
        self._matches.choose(self.facets, self._log.events)
        self._restart()

    def _set_paused(self, paused: bool) -> None:
        self._paused_at = self._log.next_event_id if paused else None
        self._changes += 1

    # -- following the log -----------------------------------------------------------------------------

    async def _flush(self) -> None:
        if not self.shown:
            return
        matches = self._matches
        if matches.condition != self._condition:
            matches = Matches(self._condition, self.facets)
        if not await self._catch_up(matches):
            return
        if matches is not self._matches:
            if matches.facets != self._matches.facets:  # they changed during the search
                matches.choose(self.facets, self._log.events)
            self._matches = matches
            self._generation += 1
        elif self._log.dropped != self._dropped:
            self._dropped = self._log.dropped
            matches.choose(self.facets, self._log.events)
            self._generation += 1
        self._push()

    async def _catch_up(self, matches: Matches) -> bool:
        """Look at all events that `matches` has not seen; False if the condition changed meanwhile."""
        told = turn = time.perf_counter()
        step = _SLICES[("search" if matches.condition.search else "query") if matches.condition else ""]
        while matches.next < self._log.next_event_id:
            events = self._latest = self._log.since(matches.next)
            if events.empty:
                break
            for start in range(0, len(events), step):
                self._add(matches, events.iloc[start : start + step])
                now = time.perf_counter()
                if now - turn < _TURN:
                    continue
                if now - told > _PROGRESS:
                    self.send({"op": "progress", "done": matches.next, "total": self._log.next_event_id})
                    told = now
                await asyncio.sleep(0)
                turn = time.perf_counter()
                if matches.condition != self._condition:
                    return False
        return True

    def _add(self, matches: Matches, events: pd.DataFrame) -> None:
        try:
            matches.add(events)
        except QueryError as error:
            self._query_problem = f"Some events are left out: {error}"
            matches.next = int(events.index[-1]) + 1

    def _shown_ids(self) -> NDArray[np.int64]:
        ids = self._matches.ids
        return ids if self._paused_at is None else ids[: np.searchsorted(ids, self._paused_at)]

    # -- the views -------------------------------------------------------------------------------------

    def _push(self) -> None:
        ids = self._shown_ids()
        anew = self._sent != self._generation
        first = max(0 if anew else min(self._sent_count, len(ids)), len(ids) - TAIL)
        self._sent, self._sent_count = self._generation, len(ids)
        counts = {name: list(counter.items()) for name, counter in self._matches.counts.items()}
        self.send(
            {
                "op": "state",
                "generation": self._generation,
                "total": len(self._log),
                "matched": len(ids),
                "waiting": len(self._matches.ids) - len(ids),
                "counts": {name: sorted(values) for name, values in counts.items()},
                "dropped": self._dropped,
                "selected": len(self._selection),
                "first": first,
                "rows": self._rows(ids[first:]),
            }
        )

    def _rows(self, ids: NDArray[np.int64]) -> list[dict[str, Any]]:
        if not len(ids):
            return []
        events = self._latest
        if events.empty or events.index[0] > ids[0]:
            events = self._log.since(int(ids[0]))
        return rows_content(ids, events, self._selection)

    def _send_rows(self, *, generation: int, first: int, count: int) -> dict[str, Any]:
        """Return a window of rows; none where the view speaks of rows that are not there any more."""
        if generation != self._generation:
            return {"generation": self._generation, "first": first, "rows": []}
        ids = self._shown_ids()[max(first, 0) : first + min(count, MAX_ROWS)]
        return {"generation": generation, "first": max(first, 0), "rows": self._rows(ids)}

    def _select(
        self, *, view: str, mode: Mode, event_id: int | None = None, anchor: int | None = None
    ) -> int:
        """Select rows by event id and return how many are selected now."""
        ids = self._shown_ids()
        match mode:
            case "none":
                self._selection = ids[:0]
            case "all":
                self._selection = ids
            case "only":
                self._selection = np.array([event_id], np.int64)
            case "toggle":
                self._selection = np.setxor1d(self._selection, [event_id])
            case "range":
                low, high = sorted(i for i in (anchor, event_id) if i is not None)
                self._selection = ids[np.searchsorted(ids, low) : np.searchsorted(ids, high, "right")]
        if event_id is None:
            self.message_id = None
        else:
            focused = self._log.since(event_id).iloc[:1]
            self.message_id = focused["message_id"].iloc[0] if list(focused.index) == [event_id] else None
        self.send({"op": "selection", "view": view, "count": len(self._selection)})
        return len(self._selection)

    def _repr_html_(self) -> str:
        return self._log._repr_html_()
