"""Interceptor: breakpoints by mouse. Hold live messages, look at them, edit them, let them go on or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import traitlets

from msgviz import html
from msgviz.errors import MsgvizError
from msgviz.observing.breakpoints import Breakpoint, Held
from msgviz.observing.expression import QueryError
from msgviz.widgets._base import STATIC, Widget, body_piece
from msgviz.widgets._condition import explain
from msgviz.widgets._history import editable
from msgviz.widgets._rows import preview
from msgviz.widgets._run import make_edit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgviz.log import MessageLog
    from msgviz.message import Message
    from msgviz.observing.breakpoints import Hold

EMPTY = (
    "Nothing is held. Set a breakpoint here, or with log.breakpoint(…): the messages that match it wait here "
    "until you let them go on."
)

MOST_HELD = 200
"""Held messages that a browser is told one by one."""

MOST_LATELY = 20
MOST_LAYERS = 200

_PAUSE = 0.1  # seconds between two updates of the browser
_STEP = 1.0  # seconds in which a message that stepped is waited for


class Interceptor(Widget):
    """The breakpoints of a log and the live messages they hold, to edit, let go on, drop, fail or step.

    A held message goes on by itself in time, as each breakpoint says. `close` takes away the breakpoints that
    were set here, and lets go what they hold; those set elsewhere stay.
    """

    _esm = STATIC / "interceptor.js"
    _css = STATIC / "interceptor.css"

    newest_first = traitlets.Bool(False).tag(sync=True)
    """Whether the newest of the held messages comes first."""

    def __init__(self, log: MessageLog) -> None:
        super().__init__()
        self._log = log
        self._own: list[Breakpoint] = []
        self.handle("state", self._state)
        self.handle("set", self._set)
        self.handle("remove", self._remove)
        self.handle("detail", self._detail)
        self.handle("body", self._body)
        self.handle("act", self._act)
        self.handle("continue_all", self._continue_all)
        self.handle_trait("newest_first", lambda _: self._tell())
        self.bridge.on_change(self._revision, self._flush)

    @property
    def breakpoints(self) -> list[Breakpoint]:
        """The breakpoints that were set here and not removed since."""
        return [point for point in self._own if point in self._log.stops.breakpoints]

    def close(self) -> None:
        """Take away the breakpoints set here, let go what they hold, and take the widget off the page."""
        for point in vars(self).get("_own", ()):
            point.remove()
        super().close()

    # -- what the browser shows ------------------------------------------------------------------------

    def _revision(self) -> object:
        stops = self._log.stops
        errors = tuple(point.error for point in stops.breakpoints)
        return stops.changes, len(self._log.ledger.layers), errors

    async def _flush(self) -> None:
        self._tell()
        await asyncio.sleep(_PAUSE)  # the next one waits for this to return

    def _tell(self) -> None:
        if self.shown:
            self.send({"op": "state", "value": self._state()})

    def _state(self) -> Any:
        stops = self._log.stops
        held = [one for one in stops.held if one.ended is None]
        if self.newest_first:
            held.reverse()
        return _sendable(
            {
                "breakpoints": [self._point(point) for point in stops.breakpoints],
                "held": [_row(one) for one in held[:MOST_HELD]],
                "numbers": [one.number for one in held],
                "lately": [_past(hold) for hold in stops.lately(MOST_LATELY)],
                "layers": self._layers(),
            }
        )

    def _point(self, point: Breakpoint) -> dict[str, Any]:
        return {
            "number": point.number,
            "condition": point.condition,
            "side": point.side,
            "layer": point.layer,
            "timeout": point.timeout,
            "hits": point.hits,
            "held": len(point.held),
            "error": point.error,
            "own": point in self._own,
        }

    def _layers(self) -> list[dict[str, Any]]:
        """The names of the layers there are and the sides they are on, the outermost first."""
        found: dict[str, list[str]] = {}
        for _, side, name in sorted((d, side, name) for side, name, d in list(self._log.ledger.layers)):
            sides = found.setdefault(name, [])
            if side not in sides:
                sides.append(side)
        return [{"name": name, "sides": sides} for name, sides in list(found.items())[:MOST_LAYERS]]

    # -- what a person does ----------------------------------------------------------------------------

    def _set(self, *, condition: str, side: str | None, layer: str | None, timeout: float) -> dict[str, Any]:
        """Set a breakpoint; gives its number, or the field that is wrong and why."""
        try:
            point = self._log.breakpoint(condition.strip(), side=side, layer=layer, timeout=timeout)
        except QueryError as error:
            return {"field": "condition", "problem": explain(condition, error)}
        except ValueError as error:
            return {"field": "timeout" if "timeout" in str(error) else "layer", "problem": str(error)}
        self._own.append(point)
        return {"number": point.number}

    def _remove(self, *, number: int) -> None:
        for point in self._log.stops.breakpoints:
            if point.number == number:
                point.remove()

    def _detail(self, *, number: int) -> Any:
        """All of a held message; None where it has gone on."""
        held = self._find(number)
        if held is None:
            return None
        body = held.message.body
        return _sendable(
            {
                **_row(held),
                "next": held.next_layer,
                "attributes": held.message.attributes.to_dict(),
                "body": body_piece(body, 0),
                **editable(body),
            }
        )

    def _body(self, *, number: int, at: int) -> dict[str, Any] | None:
        held = self._find(number)
        if held is None:
            raise LookupError("this message is not held any more")
        return body_piece(held.message.body, at)

    async def _act(
        self, *, number: int, action: str, edit: Mapping[str, Any] | None = None, error: str = ""
    ) -> dict[str, Any]:
        """Let a held message go on; says how it had gone on already, where it had.

        `action`: continue, step, drop, or fail (with this `error`). A step gives the number it is held under
        then.
        """
        held = self._find(number)
        if held is None:
            return {"gone": self._how(number)}
        try:
            match action:
                case "continue":
                    held.resume(_edited(held, edit))
                case "step":
                    held.step(_edited(held, edit))
                case "drop":
                    held.drop()
                case "fail":
                    held.fail(RuntimeError(error))
                case _:
                    raise ValueError(f"there is no action {action!r}")
        except MsgvizError:
            return {"gone": held.ended}
        return {"next": await self._next_stop(held) if action == "step" else None}

    async def _next_stop(self, held: Held) -> int | None:
        if held.next_layer is None:
            return None
        loop = asyncio.get_running_loop()
        end = loop.time() + _STEP
        while loop.time() < end:
            for one in list(self._log.stops.held):
                if one.walk == held.walk and one.number > held.number:
                    return one.number
            await asyncio.sleep(0.01)
        return None

    def _continue_all(self) -> None:
        for held in list(self._log.stops.held):
            try:
                held.resume()
            except MsgvizError:  # it has just gone on
                continue

    def _find(self, number: int) -> Held | None:
        return next((h for h in list(self._log.stops.held) if h.number == number and h.ended is None), None)

    def _how(self, number: int) -> str | None:
        """How a message went on; None where that is long ago."""
        stops = self._log.stops
        known: list[Held | Hold] = [*stops.held, *stops.lately(1000)]
        return next((one.ended for one in known if one.number == number), None)

    # -- without a kernel ------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        stops = self._log.stops
        points, held = stops.breakpoints, [one for one in stops.held if one.ended is None]
        if not points and not held:
            return html.card("Interceptor", html.quiet(EMPTY))
        rows = [
            (
                html.code(point.condition) if point.condition else "every message",
                point.side or "publish and receive",
                "" if point.layer is None else html.code(point.layer),
                f"{point.timeout:g} s",
                point.hits,
                len(point.held),
            )
            for point in points
        ]
        waiting = [
            (
                f"{one.side} {_place(one)}",
                html.code(one.layer),
                html.code(one.message_id),
                f"{one.seconds_left:.0f} s",
                html.code(preview(one.message.body) or ""),
            )
            for one in held[:20]
        ]
        more = len(held) - len(waiting)
        head = ("condition", "side", "layer", "goes on after", "hits", "held")
        counts = f"{html.plural(len(points), 'breakpoint')}, {html.plural(len(held), 'message')} held"
        return html.card(
            f"Interceptor: {counts}",
            html.table(head, rows),
            html.table(("held", "in front of", "message", "goes on in", "body"), waiting) if held else "",
            html.quiet(f"and {html.plural(more, 'more message')}") if more else "",
            html.quiet("Run this notebook to let them go on, edit, drop or fail them."),
        )


def _row(held: Held) -> dict[str, Any]:
    return {
        "number": held.number,
        "breakpoint": held.breakpoint.number,
        "messageId": held.message_id,
        "side": held.side,
        "topic": held.topic,
        "subscription": held.subscription,
        "layer": held.layer,
        "attempt": held.message.attempt,
        "since": held.since * 1000,
        "left": held.seconds_left,
        "timeout": held.breakpoint.timeout,
        "size": len(held.message.body),
        "preview": preview(held.message.body) or "",
    }


def _past(hold: Hold) -> dict[str, Any]:
    return {
        "number": hold.number,
        "messageId": hold.message_id,
        "side": hold.side,
        "topic": hold.topic,
        "subscription": hold.subscription,
        "layer": hold.layer,
        "time": (hold.since + hold.lasted) * 1000,
        "ended": hold.ended,
        "lasted": hold.lasted,
    }


def _place(held: Held) -> str:
    return "/".join(part for part in (held.topic, held.subscription) if part)


def _edited(held: Held, wish: Mapping[str, Any] | None) -> Message | None:
    """The message as a person wished it, or None for the one there is, which is left as it was."""
    edit = make_edit(wish or {})
    message = held.message
    return None if edit is None else edit(message.with_body(message.body))


def _sendable(value: Any) -> Any:
    """The same, where no text has a lone surrogate: a kernel can send none."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(item) for key, item in value.items()}
    return [_sendable(item) for item in value] if isinstance(value, list) else value
