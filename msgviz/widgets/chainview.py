"""ChainView: a message on its way down a chain to the system, and up again to the receiver."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import traitlets

from msgviz import html
from msgviz.observing.ledger import IN, OUT
from msgviz.widgets import _steps
from msgviz.widgets._base import STATIC, Widget, body_piece

if TYPE_CHECKING:
    from msgviz.log import MessageLog
    from msgviz.observing.ledger import Passage

MOST_WAYS = 200
"""Ways of one message that are told, the newest ones."""

MOST_RECENT = 50
"""Messages offered at a time."""

_LOOK_BACK = 2000  # passages looked at to find what went wrong with those that are offered
_AT_ONCE = 10_000  # passages looked at without leaving the event loop
_STATIC_WAYS = 10

EMPTY = (
    "No layers were observed yet. Observe a chain with layers=True, such as "
    "mv.observe(backend, log, layers=True), then publish a message."
)


class ChainView(Widget):
    """One message of a log on its way through its chain, layer by layer: down to the system, and up again.

    At each layer its size, the time in that layer alone, the attributes that came, went or changed, and the
    body before and after. A layer that failed, or whose decoder did not undo its encoder, is marked in
    words. For what is observed with ``layers=True``. `message_id` says which message; it may be set at any
    time. What is shown follows the log.
    """

    _esm = STATIC / "chainview.js"
    _css = STATIC / "chainview.css"

    message_id = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The id of the message that is shown; None for none."""

    def __init__(self, log: MessageLog, message_id: str | None = None) -> None:
        super().__init__(message_id=message_id)
        self._log = log
        self._of: str | None = None
        self._ways: dict[int, Passage] = {}
        """The ways of the message `_of`, by their numbers in the ledger."""
        self._older = 0
        self._next = 0
        self._told: dict[str, Any] | None = None
        self._begun = -1
        self._problems: dict[str, tuple[object, str | None]] = {}
        self.handle("show", self._show)
        self.handle("way", self._way)
        self.handle("body", self._body)
        self.handle("recent", self._recent)
        self.handle_trait("message_id", self._select)
        self.bridge.on_change(self._revision, self._flush)

    # -- following the log -----------------------------------------------------------------------------

    def _count(self) -> int:
        """How many passages have begun."""
        return self._log.ledger.dropped + len(self._log.ledger)

    def _revision(self) -> object:
        open_ways = [_steps.version(p) for p in self._ways.values() if _steps.outcome(p.first) == "running"]
        return self._log.revision, self._count(), self._log.stops.changes, open_ways

    async def _select(self, _message_id: str | None) -> None:
        if self.shown:
            self._told = await self._content()
            self.send({"op": "walk", "value": self._told})

    async def _show(self) -> dict[str, Any]:
        return await self._content()

    async def _flush(self) -> None:
        if not self.shown:
            return
        if self._begun != (begun := self._count()):
            self._begun = begun
            self.send({"op": "begun", "value": begun})
        if self.message_id is None:
            return
        content = await self._content()
        if content != self._told:
            self._told = content
            self.send({"op": "walk", "value": content})

    async def _content(self) -> dict[str, Any]:
        """What the browser shows of the message: all of its ways, and the steps of the newest two."""
        message_id = self.message_id
        if message_id is None:
            return {"message_id": None, "any": bool(self._count())}
        await self._catch_up(message_id)
        if self.message_id != message_id:
            return await self._content()
        state = self._state(message_id)
        if not self._ways:
            return {"message_id": message_id, "state": state, "missing": self._missing(message_id, state)}
        out = self._went_out()
        newest = {p.direction: number for number, p in self._ways.items()}
        return {
            "message_id": message_id,
            "state": state,
            "topic": _topic(self._ways.values()),
            "ways": [_steps.describe_way(number, p, out) for number, p in self._ways.items()],
            "older": self._older,
            "dropped": self._log.ledger.dropped > 0,
            "steps": {n: _steps.describe_steps(self._ways[n], out) for n in newest.values()},
            "held": self._held(message_id),
        }

    async def _catch_up(self, message_id: str) -> None:
        """Find the ways of this message, or those that are new."""
        ledger = self._log.ledger
        start = self._next if self._of == message_id else 0
        if self._count() - start > _AT_ONCE:
            new, until = await asyncio.to_thread(self._find, message_id, start)
            if self.message_id != message_id or (start and self._of != message_id):
                return
        else:
            new, until = self._find(message_id, start)
        known = self._ways if self._of == message_id else {}
        kept = {n: p for n, p in (known | new).items() if n >= ledger.dropped}
        surplus = [n for n, p in kept.items() if p.direction == IN][:-MOST_WAYS]
        self._ways = {n: p for n, p in kept.items() if n not in surplus}
        self._older = (self._older if known else 0) + len(known | new) - len(self._ways)
        self._of, self._next = message_id, until

    def _find(self, message_id: str, start: int) -> tuple[dict[int, Passage], int]:
        """The ways of a message from a number on, and the number that comes after all that are there."""
        first, found = self._log.ledger.since(start)
        return {first + i: p for i, p in enumerate(found) if p.message_id == message_id}, first + len(found)

    def _went_out(self) -> _steps.WentOut:
        return _steps.went_out(self._ways.values())

    def _state(self, message_id: str) -> str | None:
        """The state of a message; None for one that is not in the log, such as before its publish ended."""
        try:
            return self._log.states([message_id])[message_id]
        except KeyError:
            return None

    def _held(self, message_id: str) -> str | None:
        """Where the message is held right now, in words."""
        for held in self._log.stops.held:
            if held.message_id == message_id:
                way = "out" if held.side == "publish" else "in"
                return f"Held at a breakpoint on its way {way}, in front of {held.layer}."
        return None

    def _missing(self, message_id: str, state: str | None) -> str:
        dropped = self._log.ledger.dropped
        told = (
            f" Or it is among the {html.plural(dropped, 'older passage')} through layers that were dropped "
            "to stay within the log's bounds (max_bytes)."
            if dropped
            else ""
        )
        if state is None:
            return f"The log has no message {message_id}.{told}"
        return (
            f"The layers of {message_id} were not observed: it is in the log, but not what each layer made "
            "of it. Observe its topic and its server with layers=True, such as "
            f"mv.observe(backend, log, layers=True), and publish again.{told}"
        )

    # -- what the browser asks for ---------------------------------------------------------------------

    def _passage(self, number: int) -> Passage:
        passage = self._ways.get(number)
        if passage is None or number < self._log.ledger.dropped:
            raise LookupError("what the layers made of it was dropped, to stay within the log's bounds")
        return passage

    def _way(self, *, number: int) -> list[dict[str, Any]]:
        return _steps.describe_steps(self._passage(number), self._went_out())

    def _body(self, *, number: int, path: str, side: str, at: int) -> dict[str, Any] | None:
        """A piece of the body as it came to a step, or as it went on from there."""
        crossing = _steps.find(self._passage(number), path)
        if side == "before":
            return body_piece(crossing.body, at)
        return body_piece(crossing.inner[-1].body if crossing.inner else None, at)

    async def _recent(self, *, search: str = "") -> dict[str, Any]:
        """The newest messages whose layers were observed, or those of them whose id has this text."""
        begun = self._count()
        found, more = await asyncio.to_thread(self._find_recent, search.strip().lower())
        items = [
            {
                "id": message_id,
                "topic": _topic(passages),
                "state": self._state(message_id),
                "problem": self._problem_of(message_id, passages),
                **{k: v for k, v in _steps.describe_way(0, passages[0], {}).items() if k in ("time", "size")},
            }
            for message_id, passages in found.items()
        ]
        self._problems = {i: self._problems[i] for i in found}
        return {"items": items, "more": more, "begun": begun}

    def _find_recent(self, search: str) -> tuple[dict[str, list[Passage]], bool]:
        """The passages of the newest messages, the newest message first; and whether there are more."""
        ledger, more = self._log.ledger, False
        found: dict[str, list[Passage]] = {}
        start = 0 if search else max(0, self._count() - _LOOK_BACK)
        for passage in reversed(ledger.since(start)[1]):
            message_id = passage.message_id
            if message_id in found:
                found[message_id].append(passage)
            elif search not in message_id.lower():
                continue
            elif len(found) < MOST_RECENT:
                found[message_id] = [passage]
            else:
                more = True
        # By when they began, so that a new attempt moves nothing.
        newest = sorted(found, key=lambda i: _began(found[i][-1]), reverse=True)
        return {i: found[i][::-1] for i in newest}, more or (not search and start > ledger.dropped)

    def _problem_of(self, message_id: str, passages: list[Passage]) -> str | None:
        """The layer in which something went wrong last; judged again only where the message got further."""
        seen = [_steps.version(p) for p in passages]
        known = self._problems.get(message_id)
        if known is None or known[0] != seen:
            out = _steps.went_out(passages)
            problems = [_steps.first_problem(p, out) for p in passages]
            known = (seen, next((layer for layer in reversed(problems) if layer is not None), None))
            self._problems[message_id] = known
        return known[1]

    # -- without a kernel ------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        message_id = self.message_id
        if message_id is None:
            said = "No message is selected." if self._count() else EMPTY
            return html.card("ChainView", html.quiet(said))
        state = self._state(message_id)
        passages = self._log.ledger.passages(message_id)
        if not passages:
            return html.card("ChainView", html.quiet(self._missing(message_id, state)))
        out = _steps.went_out(passages)
        shown = [p for p in passages if p.direction == OUT][-1:]
        ways_in = [p for p in passages if p.direction == IN]
        shown += ways_in[-_STATIC_WAYS:]
        parts: list[object] = []
        for passage in shown:
            parts += [html.Html(f"<strong>{html.text(_title(passage))}</strong>"), _steps.table(passage, out)]
        hidden = len(ways_in) - _STATIC_WAYS
        return html.card(
            html.Html(f"{html.state(state) if state else ''} {html.code(message_id)}"),
            *parts,
            html.quiet(f"{html.plural(hidden, 'older way')} in not shown") if hidden > 0 else "",
        )


def _topic(passages: Iterable[Passage]) -> str | None:
    return next((p.topic for p in passages if p.topic), None)


def _began(passage: Passage) -> float:
    return math.inf if passage.first is None else passage.first.began


def _title(passage: Passage) -> str:
    if passage.direction == OUT:
        return f"Out, down to the system: {passage.topic or 'no topic'}"
    return f"In, up to the receiver: {passage.subscription or 'received'}, attempt {passage.attempt}"
