"""FlowGraph: topics, decorators, subscriptions and receivers as a live picture."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import traitlets

from msgviz import html
from msgviz.drawing import svg
from msgviz.drawing.flow import APPLICATION, Edge, Flow, Graph, Key
from msgviz.drawing.flow_picture import Layout, draw
from msgviz.drawing.tally import WINDOW
from msgviz.widgets._base import STATIC, Widget
from msgviz.widgets.table import MessageTable

if TYPE_CHECKING:
    from msgviz.log import MessageLog

_PAUSE = 0.2  # seconds between two pictures
_PER_LETTER = 2e-6  # seconds more for each letter of a picture: a large one comes less often
_AT_ONCE = 5000  # events counted without leaving the event loop
_SETTLING = int(WINDOW) + 2  # seconds after which all rates are at rest

EMPTY = (
    "Nothing was observed yet. Observe a backend with mv.observe(backend, log), then publish a message: "
    "topics, subscriptions and receivers appear here as messages pass."
)

Choice = dict[str, str]

_CAUSES = {
    "application": "(parent_id.isnull() or replay_of.notnull())",
    "receiver": "(parent_id.notnull() and replay_of.isnull())",
}


class FlowGraph(Widget):
    """Who publishes to which topic, and who receives from it, as a live picture of what a log observed.

    On each edge: how many messages, how many a second over the last 5 seconds, and what failed, was retried
    or died. What has a place keeps it. `selection` is what a person selected, by a click on a node or an
    edge; it may be set at any time, and None clears it. With a `table` of the same log, the selection
    filters that.
    """

    _esm = STATIC / "flowgraph.js"
    _css = STATIC / "flowgraph.css"

    selection = traitlets.Dict(default_value=None, allow_none=True)
    """Such as {"topic": "orders", "subscription": "billing", "operation": "receive"}; None for all."""
    _selected = traitlets.Unicode("").tag(sync=True)
    _filters = traitlets.Bool(False).tag(sync=True)

    def __init__(self, log: MessageLog, *, table: MessageTable | None = None) -> None:
        """Show the flow in `log`. `ValueError` for a `table` of another log."""
        if table is not None and not isinstance(table, MessageTable):
            raise TypeError(f"table is a MessageTable, not {type(table).__name__}")
        if table is not None and table._log is not log:
            raise ValueError("this table shows another log: make it with MessageTable(log)")
        super().__init__(_filters=table is not None)
        self._log = log
        self._table = table
        self._flow = Flow(log)
        self._layout = Layout()
        self._choices: dict[str, Choice] = {}
        self._asked: tuple[dict[str, list[str]], str] | None = None
        self._refreshing = asyncio.Lock()
        self._told = ""
        self._moved = 0.0
        self.handle("show", self._show)
        self.handle("select", self._select)
        self.handle_trait("selection", self._apply)
        if table is not None and self.bridge.has_loop:
            table.observe(lambda _change: self.bridge.run(self._compare), ["facets", "query"])
        self.bridge.on_change(self._revision, self._flush)

    def to_svg(self) -> str:
        """The picture as it is now, as an SVG document; rates and messages in flight are left out."""
        self._flow.update()
        graph = self._flow.graph(live=False)
        if not graph.nodes:
            picture = svg.Svg(640, 40, "an empty flow")
            picture.text(14, 24, "Nothing was observed yet.", fill=svg.QUIET)
            return picture.to_text()
        return draw(graph, self._layout).to_text()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture into an SVG file."""
        Path(path).write_text(self.to_svg(), "utf-8")

    # -- following the log -----------------------------------------------------------------------------

    def _revision(self) -> object:
        # Rates sink while nothing happens: then the clock counts as news, until they are at rest.
        now = time.monotonic()
        return self._log.revision, int(now) if now - self._moved < _SETTLING else 0

    async def _flush(self) -> None:
        if not self.shown:
            return
        picture = await self._refresh()
        if picture != self._told:
            self._told = picture
            self.send({"op": "picture", "value": picture})
        await asyncio.sleep(_PAUSE + _PER_LETTER * len(picture))

    async def _show(self) -> str:
        self._told = await self._refresh()
        return self._told

    async def _refresh(self) -> str:
        """The picture now; empty where there is nothing to show."""
        async with self._refreshing:
            if self._flow.behind:
                self._moved = time.monotonic()
            if self._flow.behind > _AT_ONCE:
                await asyncio.to_thread(self._flow.update)
            else:
                self._flow.update()
            graph = self._flow.graph()
            if not graph.nodes:
                return ""
            picture = draw(graph, self._layout).to_text()
            self._choices = _choices(graph, self._layout)
            if self.selection is not None:
                self._selected = self._key_of(self.selection)
            return picture

    # -- selecting -------------------------------------------------------------------------------------

    def _select(self, *, key: str) -> None:
        """Select a node or an edge; the one that is selected, or "", is selected no more."""
        chosen = None if not key or key == self._selected else self._choices.get(key)
        self.set_trait("selection", chosen)

    def _apply(self, selection: Mapping[str, str] | None) -> None:
        self._selected = "" if selection is None else self._key_of(selection)
        if self._table is None or (selection is None and self._asked is None):
            return
        self._asked = None if selection is None else filters(selection)
        self._table.facets, self._table.query = self._asked or ({}, "")

    def _key_of(self, selection: Mapping[str, str]) -> str:
        if self._choices.get(self._selected) == selection:
            return str(self._selected)
        return next((key for key, choice in self._choices.items() if choice == selection), "")

    def _compare(self) -> None:
        """Whoever filters the table otherwise has done with the selection."""
        if self._asked is not None and self._table is not None:
            chosen = {name: values for name, values in self._table.facets.items() if values}
            if (chosen, self._table.query) != self._asked:
                self._asked = None
                self.set_trait("selection", None)

    def _repr_html_(self) -> str:
        self._flow.update()
        graph = self._flow.graph(live=False)
        if not graph.nodes:
            return html.card("FlowGraph", html.quiet(EMPTY))
        return f'<div class="msgviz" style="overflow-x:auto">{draw(graph, self._layout).to_text()}</div>'


def filters(selection: Mapping[str, str]) -> tuple[dict[str, list[str]], str]:
    """The facets and the query by which a table shows what is selected."""
    unknown = sorted(set(selection) - {"topic", "subscription", "operation", "outcome", "cause"})
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} cannot be selected: topic, subscription, operation, outcome and cause can"
        )
    facets = {n: [str(selection[n])] for n in ("topic", "operation", "outcome") if n in selection}
    query = []
    if "subscription" in selection:
        query.append(f"subscription == {str(selection['subscription'])!r}")
    if "cause" in selection:
        query.append(_CAUSES[str(selection["cause"])])
    return facets, " and ".join(query)


def _choices(graph: Graph, layout: Layout) -> dict[str, Choice]:
    """What each node and edge of the picture selects."""
    letters = {edge.target: edge for edge in graph.edges if edge.kind == "dead"}
    chosen = {}
    for node in graph.nodes:
        own = node.key not in letters or any(edge.source == node.key for edge in graph.edges)
        chosen[layout.identity(node.key)] = _node_choice(node.key) if own else _edge_choice(letters[node.key])
    return chosen | {layout.identity((e.source, e.target)): _edge_choice(e) for e in graph.edges}


def _node_choice(key: Key) -> Choice:
    if key == APPLICATION:
        return {"operation": "publish", "cause": "application"}
    names = dict(zip(("topic", "subscription"), key[1:], strict=False))
    return {n: v for n, v in names.items() if v is not None} or {"operation": "receive"}


def _edge_choice(edge: Edge) -> Choice:
    if edge.kind == "publish":
        cause = "application" if edge.source == APPLICATION else "receiver"
        return {"topic": str(edge.target[1]), "operation": "publish", "cause": cause}
    place = _node_choice(edge.target if edge.kind == "receive" else edge.source)
    return {**place, "operation": "receive"} | ({"outcome": "error"} if edge.kind == "dead" else {})
