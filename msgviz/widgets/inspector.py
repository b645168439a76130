"""Inspector: all that a log knows of one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import traitlets

from msgviz import html
from msgviz.message import preview
from msgviz.widgets._base import STATIC, Widget, body_piece

if TYPE_CHECKING:
    from msgviz.log import MessageLog
    from msgviz.observing.detail import Attempt, MessageDetail

MOST_ATTEMPTS = 200
MOST_LINKS = 50
_LINE = 300  # characters of an error shown in the list of attempts


class Inspector(Widget):
    """One message of a log: its body and attributes, each attempt at it, and the messages around it.

    `message_id` says which; it may be set at any time, and follows the links that are clicked. What is
    shown follows the log.
    """

    _esm = STATIC / "inspector.js"
    _css = STATIC / "inspector.css"

    message_id = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The id of the message that is shown; None for none."""
    _copies = traitlets.Bool(False).tag(sync=True)

    def __init__(self, log: MessageLog, message_id: str | None = None) -> None:
        super().__init__(message_id=message_id)
        self._log = log
        self._on_copy: Callable[[MessageDetail], object] | None = None
        self._seen = 0
        self._links: list[str] = []
        self._states: dict[str, str | None] = {}
        self._told: tuple[str | None, int | None] = (None, None)
        self.handle("show", self._show)
        self.handle("body", self._body)
        self.handle("error", self._error)
        self.handle("replay", self._replay)
        self.handle("copy", self._copy)
        self.handle_trait("message_id", self._select)
        self.bridge.on_change(lambda: log.revision, self._flush)

    def on_copy(self, callback: Callable[[MessageDetail], object] | None) -> None:
        """Show the button "Copy into the form", which calls `callback` with the `MessageDetail`.

        `Publisher.fill` is such a callback; it may be a coroutine function. None takes the button away.
        """
        self._on_copy = callback
        self._copies = callback is not None

    # -- what the browser shows ------------------------------------------------------------------------

    async def _select(self, _message_id: str | None) -> None:
        if self.shown:
            self.send({"op": "detail", "value": await self._show()})

    async def _show(self) -> dict[str, Any]:
        return await self._content(with_body=True)

    async def _flush(self) -> None:
        if not self.shown or self.message_id is None or not self._has_changed(self.message_id):
            return
        with_body = self._told[0] != self.message_id
        self.send({"op": "detail", "value": await self._content(with_body=with_body)})

    def _has_changed(self, message_id: str) -> bool:
        """Whether something was recorded of the message or about it since the last time."""
        new = self._log.since(self._seen)
        if len(new):
            self._seen = int(new.index[-1]) + 1
            if any((new[column] == message_id).any() for column in ("message_id", "parent_id", "replay_of")):
                return True
        return self._read_states() != self._states

    def _read_states(self) -> dict[str, str | None]:
        return {i: self._state(i) for i in self._links}

    def _state(self, message_id: str) -> str | None:
        try:
            return self._log.states([message_id])[message_id]
        except KeyError:
            return None

    async def _content(self, *, with_body: bool) -> dict[str, Any]:
        """What the browser shows of the message; without its body, the browser keeps the one it has."""
        message_id = self.message_id
        self._seen = self._log.next_event_id
        if message_id is None:
            return {"message_id": None}
        try:
            detail = self._log.detail(message_id)
        except KeyError:
            self._links, self._states, self._told = [], {}, (None, None)
            return {"message_id": message_id, "missing": self._missing(message_id)}
        around = [detail.parent_id, detail.conversation_id, detail.replay_of]
        children, replays = detail.children[:MOST_LINKS], detail.replays[-MOST_LINKS:]
        self._links = [i for i in (message_id, *around, *children, *replays) if i]
        self._states = self._read_states()
        told = (message_id, None if detail.body is None else len(detail.body))
        content = _describe(detail, lambda i: {"id": i, "state": self._states.get(i)})
        content["replay"] = await self._can_replay(message_id)
        if with_body or told != self._told:
            content["body"] = body_piece(detail.body, 0)
        self._told = told
        return content

    def _missing(self, message_id: str) -> str:
        said = f"The log has no message {message_id}."
        if self._log.dropped:
            said += (
                f" It may be among the {html.plural(self._log.dropped, 'older event')} that were dropped "
                "to stay within the log's bounds (max_events, max_bytes)."
            )
        return said

    async def _can_replay(self, message_id: str) -> dict[str, Any]:
        entry = (await self._log.replay(message_id, dry_run=True))[0]
        return {"ready": entry.status == "ready", "reason": entry.reason}

    # -- what the browser asks for ---------------------------------------------------------------------

    def _body(self, *, message_id: str, at: int) -> dict[str, Any] | None:
        return body_piece(self._detail(message_id).body, at)

    def _error(self, *, message_id: str, event_id: int) -> dict[str, Any]:
        for attempt in self._detail(message_id).attempts:
            if attempt.event_id == event_id:
                return {"error": attempt.error, "traceback": attempt.traceback}
        raise LookupError(f"event {event_id} is no longer in the log")

    async def _replay(self, *, message_id: str) -> list[dict[str, Any]]:
        report = await self._log.replay(message_id, progress=lambda _done, _total: None)
        return [
            {"subscription": e.subscription, "status": e.status, "reason": e.reason, "replay_id": e.replay_id}
            for e in report
        ]

    async def _copy(self, *, message_id: str) -> None:
        if self._on_copy is not None:
            result = self._on_copy(self._detail(message_id))
            if hasattr(result, "__await__"):
                await result

    def _detail(self, message_id: str) -> MessageDetail:
        try:
            return self._log.detail(message_id)
        except KeyError:
            raise LookupError(self._missing(message_id)) from None

    def _repr_html_(self) -> str:
        if self.message_id is None:
            return html.card("Inspector", html.quiet("No message is selected."))
        try:
            detail = self._log.detail(self.message_id)
        except KeyError:
            return html.card("Inspector", html.quiet(self._missing(self.message_id)))
        return _static(detail)


def _describe(detail: MessageDetail, link: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    attempts = detail.attempts[-MOST_ATTEMPTS:]
    return {
        "message_id": detail.message_id,
        "topic": detail.topic,
        "state": detail.state,
        "published": _epoch(detail.published),
        "latency": _seconds(detail.latency),
        "size": detail.size,
        "conversation": link(detail.conversation_id),
        "parent": link(detail.parent_id) if detail.parent_id else None,
        "children": [link(i) for i in detail.children[:MOST_LINKS]],
        "children_count": len(detail.children),
        "replay_of": link(detail.replay_of) if detail.replay_of else None,
        "replays": [link(i) for i in detail.replays[-MOST_LINKS:]],
        "replays_count": len(detail.replays),
        "attributes": detail.attributes,
        "attempts": [_describe_attempt(attempt, detail) for attempt in attempts],
        "attempts_count": len(detail.attempts),
        "kept": detail.body is not None,
    }


def _describe_attempt(attempt: Attempt, detail: MessageDetail) -> dict[str, Any]:
    error = attempt.error or ""
    return {
        "event_id": attempt.event_id,
        "operation": attempt.operation,
        "topic": attempt.topic if attempt.topic != detail.topic else None,
        "subscription": attempt.subscription,
        "attempt": attempt.attempt,
        "time": _epoch(attempt.time),
        "duration": _seconds(attempt.duration),
        "outcome": attempt.outcome,
        "error_type": attempt.error_type,
        "error": error if len(error) <= _LINE else error[: _LINE - 1] + "…",
        "folded": attempt.traceback is not None or len(error) > _LINE,
        "attributes": attempt.attributes if attempt.attributes != detail.attributes else None,
        "body_differs": attempt.body != detail.body,
    }


def _epoch(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp() * 1000


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _static(detail: MessageDetail) -> str:
    """The message on a page without a kernel."""
    facts = [detail.topic or "no topic", html.size(detail.size)]
    if detail.published is not None:
        facts.append(f"published {detail.published.isoformat(' ', 'milliseconds')}")
    if detail.latency is not None:
        facts.append(f"{detail.latency.total_seconds() * 1000:.3g} ms to the first success")
    around = (
        ("conversation", [detail.conversation_id]),
        ("caused by", [detail.parent_id]),
        ("caused", detail.children),
        ("replay of", [detail.replay_of]),
        ("replayed as", detail.replays),
    )
    rows = [
        (
            attempt.time.strftime("%H:%M:%S.%f")[:-3],
            f"{attempt.operation} {attempt.subscription or ''}",
            attempt.attempt,
            html.state(attempt.outcome),
            f"{attempt.duration.total_seconds() * 1000:.3g} ms",
            html.code(f"{attempt.error_type}: {attempt.error}") if attempt.error_type else "",
        )
        for attempt in detail.attempts[-MOST_ATTEMPTS:]
    ]
    attributes = [(key, html.code(", ".join(values))) for key, values in detail.attributes.items()]
    body = "" if detail.body is None else html.block(preview(detail.body, 4000))
    return html.card(
        html.Html(f"{html.state(detail.state)} {html.code(detail.message_id)}"),
        html.quiet(", ".join(facts)),
        html.table(("attribute", "value"), attributes) if attributes else html.quiet("no attributes"),
        body or html.quiet("its body was not kept"),
        html.table(("time", "operation", "attempt", "outcome", "duration", "error"), rows),
        html.table(("related", "messages"), [(name, _ids(ids)) for name, ids in around if any(ids)]),
    )


def _ids(ids: Iterable[str | None]) -> html.Html:
    known = [i for i in ids if i]
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return html.Html(", ".join(html.code(i) for i in known[:10]) + more)
