"""MessageLog: a record of a message flow, and what a person does with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from msgviz import html
from msgviz.errors import LogFileError
from msgviz.lineage import Lineage, lineage
from msgviz.message import Message, preview
from msgviz.observing import detail as details
from msgviz.observing import storage
from msgviz.observing.breakpoints import Breakpoint
from msgviz.observing.detail import MessageDetail
from msgviz.observing.recorder import Recorder
from msgviz.receiver import Receiver
from msgviz.replay import Edit, Progress, ReplayReport, replay
from msgviz.resume import resume
from msgviz.topic import Topic


class MessageLog(Recorder):
    """Records every publish and receive that its observers see, and shows them as DataFrames.

    Made with ``mv.observe(thing, log)``. Thread-safe, append-only and bounded: past `max_events` events,
    or about `max_bytes` bytes of them (1 GiB), the oldest are dropped, failed messages last, and
    `dropped` says how many. A body of more than `max_body` bytes is not kept; its event is.
    """

    def detail(self, message_id: str) -> MessageDetail:
        """All that is known of one message; `KeyError` for an unknown one."""
        return self._detail(message_id)

    def _detail(self, message_id: str, *, with_children: bool = True) -> MessageDetail:
        with self._lock:
            self._tell()
            columns = self._columns
            row = self._index.rows.get(message_id)
            if row is None:
                raise KeyError(message_id)
            at = details.positions(columns, "message_id", message_id, row.first, row.events)
            attempts = details.attempts(columns, self.places.all, at)
            # Any event may be a child's, one that ended before the first of its parent's too.
            caused = details.positions(columns, "parent_id", message_id, 0) if with_children else []
            children = [columns.message_id.at(position) for position in caused]
            state = self.states([message_id])[message_id]
        published = next((a for a in attempts if a.operation == "publish"), None)
        said = published or attempts[0]
        first_ok = min(
            (a.time + a.duration for a in attempts if a.operation == "receive" and a.outcome == "ok"),
            default=None,
        )
        return MessageDetail(
            message_id=message_id,
            topic=row.topic,
            state=state,
            published=published.time if published else None,
            latency=first_ok - published.time if published and first_ok else None,
            size=row.size,
            parent_id=row.parent,
            conversation_id=row.conversation,
            replay_of=row.original,
            replays=list(row.replays),
            children=[i for i in dict.fromkeys(children) if i not in (row.replays)],
            attributes=said.attributes,
            body=said.body,
            attempts=attempts,
        )

    def message(self, message_id: str) -> Message:
        """The message as the application published it; `KeyError` for an unknown one.

        `LookupError` where its body was not kept.
        """
        detail = self.detail(message_id)
        if detail.body is None:
            raise LookupError(f"the body of {message_id}, {detail.size} bytes, was not kept")
        return Message(detail.body, detail.attributes)

    async def replay(
        self,
        selection: Any = None,
        *,
        to: Topic | Receiver | None = None,
        edit: Edit | None = None,
        rate: float | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ReplayReport:
        """Send recorded messages again, and tell what became of each.

        `selection`: event ids, message ids, a slice of one of the frames, or nothing for all dead ones.
        What the application published is published again through the same chain, as a new message of the
        same conversation whose `replay_of` is the old one; where the system can address one subscription
        it goes to the ones that failed alone. `to`: another topic, or a receiver to call directly.
        `edit`: a function from `Message` to the message to send instead. `rate`: messages per second.
        `dry_run`: send nothing, only tell what can be sent. `progress`: called with (done, total) instead
        of showing a bar. A message that cannot be replayed is skipped, with the reason in the report.
        """
        return await replay(
            self,
            partial(self._detail, with_children=False),
            selection,
            to=to,
            edit=edit,
            rate=rate,
            dry_run=dry_run,
            progress=progress,
        )

    def lineage(self, message_id: str) -> Lineage:
        """The whole conversation of a message as a tree: a DataFrame that draws itself.

        `KeyError` for an unknown message.
        """
        return lineage(self, message_id)

    async def resume(
        self,
        message_id: str,
        *,
        layer: int | str | None = None,
        side: str = "publish",
        edit: Callable[[Message], Message | None] | None = None,
    ) -> str:
        """Send a recorded message on from a layer of its chain, as it came there; returns its new id.

        `layer`: a name or a depth in `layers`, the outermost where there is none. `side`: "publish", or
        "receive" to call that layer of the receiver, and raise what it raises. `edit`: a function that
        changes the message, or gives another to send instead. `KeyError` for an unknown message,
        `LookupError` for one whose layers were not observed, or that did not come to this one.
        """
        return await resume(self, message_id, layer, side, edit)

    def breakpoint(
        self,
        condition: str = "",
        *,
        side: str | None = None,
        layer: str | int | None = None,
        timeout: float = 60.0,
    ) -> Breakpoint:
        """Hold every live message that matches, and let all others pass.

        `condition`: an expression over `topic`, `subscription`, `operation`, `message_id`, `attempt`,
        `size`, `text`, `body`, `attributes` (``attributes.str['Source']`` is the first value) and others, as
        `DataFrame.query` takes it; nothing for every message. `side`: "publish", "receive", or both. `layer`:
        the name or the depth of a layer, for a chain observed with ``layers=True``; the message is held in
        front of it. A held message goes on by itself after `timeout` seconds, and when its server shuts
        down; `holds` tells. Give it back with `remove`, or use it as ``with log.breakpoint(…) as bp:``.
        """
        if layer is not None:
            known = {n: d for s, n, d in sorted(self.ledger.layers) if side in (None, s)}
            if layer not in known and layer not in known.values():
                there = ", ".join(sorted(known)) or "none: observe a chain with layers=True"
                raise ValueError(f"there is no layer {layer!r}; there are {there}")
        point = Breakpoint(self.stops, condition, side, layer, timeout)
        self.stops.add(point)
        return point

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all events to a Parquet file, which `load` reads and any other tool can.

        With them goes what `layers` shows of the messages whose publish or receive has ended.
        """
        with self._lock:
            self._tell()
            extra = {"next_event_id": self._next_id, "dropped": self._dropped}
            storage.save(path, self._columns, self.places, self.ledger, extra)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """A log as it was saved; it can go on recording. Of its layers, `resume` can call none.

        `LogFileError` for a file that is not a saved log, is damaged, or was written by a newer msgviz.
        """
        log = cls()
        head = storage.load(path, log._columns, log.places, log.ledger)
        try:
            log._resume(int(head["next_event_id"]), int(head["dropped"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LogFileError(f"{os.fspath(path)} is a saved log, but damaged: {error}") from error
        return log

    def __repr__(self) -> str:
        dropped = f", {self._dropped} dropped" if self._dropped else ""
        return f"<MessageLog {len(self)} events{dropped}>"

    def _repr_html_(self) -> str:
        counts = {state: n for state, n in self.count_states().items() if n}
        if not len(self):
            return html.card(
                "MessageLog: no events yet",
                html.quiet("Observe a backend with mv.observe(backend, log), then publish a message."),
            )
        tail = self.events.tail(10)
        rows = [
            (
                event["time"].strftime("%H:%M:%S.%f")[:-3],
                event["operation"],
                "/".join(p for p in (event["topic"], event["subscription"]) if isinstance(p, str)),
                html.code(event["message_id"]),
                event["attempt"],
                html.state(event["outcome"]),
                event["error_type"] if isinstance(event["error_type"], str) else "",
                html.size(event["size"]),
                html.code(preview(event["body"], 60) if event["body"] is not None else "not kept"),
            )
            for _, event in tail.iterrows()
        ]
        head = ("time", "operation", "where", "message", "attempt", "outcome", "error", "size", "body")
        states = html.Html(" &nbsp; ".join(f"{html.state(s)} {n:,}" for s, n in counts.items()))
        failed = [
            html.Html(
                html.state("failed") + html.text(f" the server of {source}: {why.error_type}: {why.error}")
            )
            for source, why in self.server_failures.items()
        ]
        dropped = html.quiet(f"{html.plural(self._dropped, 'older event')} dropped") if self._dropped else ""
        shown = html.quiet(f"the last {len(rows)}:") if len(self) > len(rows) else ""
        title = f"MessageLog: {html.plural(len(self), 'event')}"
        return html.card(title, states, *failed, dropped, shown, html.table(head, rows))
