"""Timeline: a conversation as a live sequence diagram."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from msgviz import html, lineage
from msgviz.drawing import svg
from msgviz.drawing.timeline import Conversation
from msgviz.drawing.timeline_picture import draw
from msgviz.widgets._base import STATIC, Widget
from msgviz.widgets.inspector import Inspector

if TYPE_CHECKING:
    from msgviz.log import MessageLog

MOST_RECENT = 50
"""Conversations offered at a time."""

_LOOK_BACK = 5000  # events looked at for the conversations that are offered
_AT_ONCE = 1000  # events taken in without leaving the event loop
_SHORT = 50  # steps drawn without leaving it
_PAUSE = 0.2  # seconds between two pictures
_PER_LETTER = 2e-6  # seconds more for each letter of a picture: a large one comes less often
_REST = 4  # times as long as it took to make a picture, there is none: a slow one comes less often, too
_STATIC_RECENT = 10
_WORST = ("dead", "retrying", "in_flight", "pending", "replayed", "resolved", "ok")

EMPTY = (
    "Nothing was observed yet. Observe a backend with mv.observe(backend, log), then publish a message: "
    "its conversation appears here to be chosen."
)


class Timeline(Widget):
    """The conversation of a message as a sequence diagram: who published to which topic, and who received.

    A lifeline for the application, each topic and each receiver; time flows down, an arrow for each publish
    and each delivery, a box for the time spent in a receiver. Retries, replays, failures and dead messages
    are marked. `message_id` is the message that is selected, by a click on an arrow or a box; it may be set
    at any time and says which conversation is drawn. With an `inspector` of the same log, that shows the
    message. `waterfall`: the conversation as a tree with a bar of time for each message instead.
    """

    _esm = STATIC / "timeline.js"
    _css = STATIC / "timeline.css"

    message_id = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The id of the selected message; None for none."""
    waterfall = traitlets.Bool(False).tag(sync=True)
    """Whether the conversation is drawn as a tree with bars of time."""

    def __init__(
        self, log: MessageLog, message_id: str | None = None, *, inspector: Inspector | None = None
    ) -> None:
        """Draw the conversation of `message_id`. `ValueError` for an `inspector` of another log."""
        if inspector is not None and not isinstance(inspector, Inspector):
            raise TypeError(f"inspector is an Inspector, not {type(inspector).__name__}")
        if inspector is not None and inspector._log is not log:
            raise ValueError("this inspector shows another log: make it with Inspector(log)")
        super().__init__(message_id=message_id)
        self._log = log
        self._inspector = inspector
        self._conversation: Conversation | None = None
        self._refreshing = asyncio.Lock()
        self._told: dict[str, Any] | None = None
        self._drawn: tuple[object, str] = (None, "")
        self._begun = -1
        self.handle("show", self._show)
        self.handle("select", self._select)
        self.handle("recent", self._recent)
        self.handle_trait("message_id", self._choose)
        self.handle_trait("waterfall", self._tell)
        self.bridge.on_change(lambda: log.revision, self._flush)
        if inspector is not None and message_id is not None:
            inspector.message_id = message_id

    def to_svg(self) -> str:
        """The picture as it is now, as an SVG document."""
        if self.message_id is None:
            return _said("No conversation is chosen.")
        conversation = self._follow(self.message_id)
        conversation.update()
        if conversation.conversation_id is None:
            return _said(self._missing(self.message_id))
        return self._draw(self.message_id, conversation, self.waterfall)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture into an SVG file."""
        Path(path).write_text(self.to_svg(), "utf-8")

    # -- following the log -----------------------------------------------------------------------------

    def _follow(self, message_id: str) -> Conversation:
        """The conversation of a message: the one that is drawn, where the message is in it."""
        now = self._conversation
        if now is None or (message_id != now.message_id and message_id not in now.timeline.messages):
            now = self._conversation = Conversation(self._log, message_id)
        return now

    def _draw(
        self, message_id: str, conversation: Conversation, waterfall: bool, *, live: bool = False
    ) -> str:
        if not waterfall:
            with conversation.lock:
                return draw(conversation.timeline, live=live).to_text()
        tree = self._log.lineage(message_id)
        picture = lineage.draw(tree)
        style = picture.root.attrib["style"]
        picture.root.set("style", style.replace("max-width:100%", "display:block;max-width:none"))
        drawn = [e for e in picture.root if "data-message" in e.attrib]
        if len(drawn) < len(tree):
            more = html.plural(len(tree) - len(drawn), "more message")
            picture.text(0, picture.height - 4, f"and {more}, not drawn", fill=svg.QUIET)
        for number, part in enumerate(drawn):
            part.set("data-key", f"m{number}")
            part.set("data-of", str(conversation.timeline.messages.get(str(tree.index[number]), "")))
            part.set("data-name", part.attrib["data-message"])
        return picture.to_text()

    async def _choose(self, message_id: str | None) -> None:
        if self._inspector is not None:
            self._inspector.message_id = message_id
        await self._tell()

    async def _tell(self, _change: object = None) -> None:
        if self.shown:
            self._told = await self._content()
            self.send({"op": "content", "value": self._told})

    async def _show(self) -> dict[str, Any]:
        self._told = await self._content()
        return self._told

    async def _flush(self) -> None:
        if not self.shown:
            return
        if self._begun != (begun := self._log.next_event_id):
            self._begun = begun
            self.send({"op": "begun", "value": begun})
        began = time.monotonic()
        content = await self._content()
        if content != self._told:
            self._told = content
            self.send({"op": "content", "value": content})
        pause = _PAUSE + _PER_LETTER * len(content.get("picture", ""))
        await asyncio.sleep(max(pause, _REST * (time.monotonic() - began)))

    async def _content(self) -> dict[str, Any]:
        """What the browser shows."""
        async with self._refreshing:
            message_id = self.message_id
            if message_id is None:
                return {"message_id": None}
            conversation = self._follow(message_id)
            if conversation.behind > _AT_ONCE:
                await asyncio.to_thread(conversation.update)
            else:
                conversation.update()
            if conversation.conversation_id is None:
                return {"message_id": message_id, "missing": self._missing(message_id)}
            try:
                waterfall, picture = await self._picture(message_id, conversation)
            except KeyError:  # it was dropped since it was drawn
                return {"message_id": message_id, "missing": self._missing(message_id)}
            timeline = conversation.timeline
            return {
                "message_id": message_id,
                "conversation": conversation.conversation_id,
                "selected": str(timeline.messages[message_id]),
                "messages": len(timeline.messages),
                "events": timeline.events,
                "waterfall": waterfall,
                "picture": picture,
            }

    async def _picture(self, message_id: str, conversation: Conversation) -> tuple[bool, str]:
        """Whether it is a waterfall, and the picture: made anew only where that would be another one."""
        timeline, waterfall = conversation.timeline, self.waterfall
        if waterfall:
            seen: object = (conversation, timeline.events, len(timeline.steps), message_id)
        else:
            seen = (conversation, timeline.changes)
        if self._drawn[0] != seen:
            drawing = partial(self._draw, message_id, conversation, waterfall, live=True)
            far = waterfall or len(timeline.steps) > _SHORT
            self._drawn = (seen, await asyncio.to_thread(drawing) if far else drawing())
        return waterfall, self._drawn[1]

    def _missing(self, message_id: str) -> str:
        said = f"The log has no message {message_id}."
        if self._log.dropped:
            said += (
                f" It may be among the {html.plural(self._log.dropped, 'older event')} that were dropped "
                "to stay within the log's bounds (max_events, max_bytes)."
            )
        return said

    # -- what the browser asks for ---------------------------------------------------------------------

    def _select(self, *, of: str) -> None:
        """Select a message of the conversation by its number."""
        if self._conversation is not None:
            for message_id, number in self._conversation.timeline.messages.items():
                if str(number) == of:
                    self.set_trait("message_id", message_id)

    async def _recent(self) -> dict[str, Any]:
        """The newest conversations, the newest first."""
        begun = self._log.next_event_id
        items = await asyncio.to_thread(self._find_recent)
        return {"items": items, "begun": begun, "more": max(0, begun - _LOOK_BACK) > 0}

    def _find_recent(self) -> list[dict[str, Any]]:
        events = self._log.since(max(0, self._log.next_event_id - _LOOK_BACK))
        columns = (events[c].tolist() for c in ("conversation_id", "message_id", "topic", "outcome"))
        parts: dict[str, list[tuple[int, str, object, str]]] = defaultdict(list)
        for at, conversation, *row in zip(events["time"].array.asi8.tolist(), *columns, strict=True):
            parts[conversation].append((at, *row))
        firsts = {conversation: min(part, key=lambda e: e[0]) for conversation, part in parts.items()}
        newest = sorted(firsts, key=lambda conversation: firsts[conversation][0], reverse=True)[:MOST_RECENT]
        items = []
        for conversation in newest:
            began, _, topic, _ = firsts[conversation]
            ids = list(dict.fromkeys(message_id for _, message_id, _, _ in parts[conversation]))
            items.append(
                {
                    "id": conversation if conversation in ids else ids[0],
                    "topic": topic if isinstance(topic, str) else None,
                    "time": began / 1e6,
                    "messages": len(ids),
                    "failed": sum(outcome == "error" for _, _, _, outcome in parts[conversation]),
                    "state": self._worst(ids),
                }
            )
        return items

    def _worst(self, message_ids: list[str]) -> str | None:
        try:
            found = set(self._log.states(message_ids).values())
        except KeyError:  # one of them was dropped since
            found = set()
            for message_id in message_ids:
                with suppress(KeyError):
                    found |= set(self._log.states([message_id]).values())
        return next((state for state in _WORST if state in found), None)

    # -- without a kernel ------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        if self.message_id is not None:
            conversation = self._follow(self.message_id)
            conversation.update()
            if conversation.conversation_id is None:
                return html.card("Timeline", html.quiet(self._missing(self.message_id)))
            picture = self._draw(self.message_id, conversation, self.waterfall)
            return f'<div class="msgviz" style="overflow-x:auto">{picture}</div>'
        recent = self._find_recent()[:_STATIC_RECENT]
        if not recent:
            return html.card("Timeline", html.quiet(EMPTY))
        rows = [
            (html.state(i["state"] or "unknown"), i["topic"] or "no topic", i["messages"], html.code(i["id"]))
            for i in recent
        ]
        said = html.quiet("No conversation is chosen. The newest:")
        return html.card("Timeline", said, html.table(("state", "topic", "messages", "message"), rows))


def _said(text: str) -> str:
    picture = svg.Svg(640, 40, "no conversation")
    picture.text(14, 24, text, width=612, fill=svg.QUIET)
    return picture.to_text()
