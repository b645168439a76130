"""Replayer: what failed, grouped by error; to look at, edit, and send again."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Literal

from msgviz import html
from msgviz.widgets._base import STATIC, Widget
from msgviz.widgets._cases import Cases
from msgviz.widgets._history import case_content
from msgviz.widgets._rows import preview
from msgviz.widgets._run import Run, check, choose, make_edit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from msgviz.log import MessageLog
    from msgviz.widgets._cases import Case
    from msgviz.widgets._run import Chosen

EMPTY = "Nothing has failed. Messages that fail show up here, grouped by error."

MAX_GROUPS = 100
MAX_ROWS = 1000
MAX_CHECKED = 2000
"""Messages that are looked at beforehand; those beyond are looked at when their turn comes."""

_PAUSE = 0.25  # seconds between two updates of the browser
_SHARE = 10  # and at least so many times as long as an update took

Filter = Literal["open", "resolved", "ok", "all"]


class Replayer(Widget):
    """The failed messages of a log, grouped by error and place, to send again as they were or edited.

    A replay goes to the subscription that failed alone. It is a new message, the original stays as it was;
    what was changed stays in the history of the message.
    """

    _esm = STATIC / "replayer.js"
    _css = STATIC / "replayer.css"

    def __init__(self, log: MessageLog) -> None:
        super().__init__()
        self._log = log
        self._cases = Cases(log)
        self._run: Run | None = None
        self._asked = 0
        self._sent: tuple[object, ...] = ()
        self.handle("groups", self._groups)
        self.handle("rows", self._rows)
        self.handle("case", self._case)
        self.handle("check", self._check)
        self.handle("replay", self._replay)
        self.handle("stop", self.stop)
        self.handle("forget", self._forget_run)
        self.bridge.on_change(self._revision, self._flush)

    @property
    def run(self) -> Run | None:
        """The replays that were started last."""
        return self._run

    def replay(self, message_ids: Sequence[str]) -> None:
        """Start to send these messages again, and show how it goes; `RuntimeError` while others are sent."""
        self._start([(None, message_id) for message_id in message_ids], None, None)

    def stop(self) -> None:
        """Send nothing more."""
        if self._run is not None:
            self._run.stop()

    # -- following the log -----------------------------------------------------------------------------

    def _revision(self) -> tuple[int, int]:
        return self._log.revision, self._run.changes if self._run else 0

    async def _flush(self) -> None:
        if not self.shown and self._run is None:
            return
        began = time.perf_counter()
        await self._cases.update()
        if self._run is not None:
            self._run.follow()
        now = (self._cases.version, id(self._run), self._run.changes if self._run else 0)
        if now != self._sent and self.shown:
            self._sent = now
            self.send({"op": "groups", "value": self._content()})
        # The next one waits for this to return: a large log must not keep the kernel busy.
        await asyncio.sleep(max(_PAUSE, _SHARE * (time.perf_counter() - began)))

    async def _groups(self) -> dict[str, Any]:
        await self._cases.update()
        return self._content()

    def _content(self) -> dict[str, Any]:
        groups = self._cases.to_groups()
        return {
            "groups": groups[:MAX_GROUPS],
            "more": max(0, len(groups) - MAX_GROUPS),
            "counts": {
                "open": sum(group["open"] for group in groups),
                "resolved": sum(group["counts"].get("resolved", 0) for group in groups),
                "ok": sum(group["counts"].get("ok", 0) for group in groups),
            },
            "run": self._run.content() if self._run else None,
        }

    def _rows(self, *, group: int, filter: Filter, count: int) -> dict[str, Any]:  # noqa: A002
        found = self._cases.groups.get(group)
        rows: list[dict[str, Any]] = []
        more = 0
        for case in found.cases.values() if found else ():
            if filter in ("all", "open" if case.is_open else case.status):
                if len(rows) < min(count, MAX_ROWS):
                    rows.append(self._row(case))
                else:
                    more += 1
        return {"rows": rows, "more": more}

    def _row(self, case: Case) -> dict[str, Any]:
        if case.preview is None:
            try:
                body = self._log.detail(case.latest).body
            except KeyError:
                body = None
            case.preview = "(body not kept)" if body is None else preview(body) or ""
        return {
            "key": case.key,
            "messageId": case.root,
            "status": case.status,
            "error": case.error[:300],
            "time": case.last,
            "replays": len(case.tries) - 1,
            "preview": case.preview,
        }

    def _case(self, *, key: int) -> dict[str, Any] | None:
        """Return all of a case; None for one that the log has dropped."""
        case = self._cases.all.get(key)
        try:
            return case_content(self._log, case) if case is not None else None
        except KeyError:
            return None

    # -- replaying -------------------------------------------------------------------------------------

    async def _check(self, **selection: Any) -> dict[str, Any]:
        """Say what of a selection can be replayed, where it goes, and why the rest cannot."""
        await self._cases.update()
        chosen = choose(self._cases, **selection)
        some = chosen[:MAX_CHECKED]
        places = {(case.topic, case.subscription): None for case, _ in chosen if case is not None}
        return {
            "total": len(chosen),
            "unchecked": len(chosen) - len(some),
            "places": ["/".join(part for part in place if part) for place in places][:5],
            **await check(self._log, some),
        }

    async def _replay(
        self, *, edit: Mapping[str, Any] | None = None, rate: float | None = None, **selection: Any
    ) -> int:
        """Start to replay a selection and return how many messages it has."""
        await self._cases.update()
        chosen = choose(self._cases, **selection)
        if not chosen:
            raise ValueError("these messages are not in the log any more")
        self._start(chosen, edit, rate)
        return len(chosen)

    def _start(self, chosen: list[Chosen], edit: Mapping[str, Any] | None, rate: float | None) -> None:
        if self._run is not None and self._run.running:
            raise RuntimeError("a replay is running: wait for it, or stop it")
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"the rate is a number of messages per second above 0, not {rate}")
        self._run = Run(self._log, self._cases, chosen, make_edit(edit or {}), rate)
        self.bridge.spawn(self._run.go())

    def _forget_run(self) -> None:
        if self._run is not None and not self._run.running:
            self._run = None

    def _repr_html_(self) -> str:
        failures = self._log.failures
        if failures.empty:
            return html.card("Replayer", html.quiet(EMPTY))
        rows = [
            (
                html.code(row["error_type"]),
                "/".join(part for part in (row["topic"], row["subscription"]) if isinstance(part, str)),
                f"{row['messages']:,}",
                html.state("dead") if row["dead"] else "",
                f"{row['dead']:,}",
                row["first"].strftime("%H:%M:%S"),
                row["last"].strftime("%H:%M:%S"),
                html.code(str(row["error"])[:200]),
            )
            for row in failures.head(20).to_dict("records")
        ]
        head = ("error", "where", "messages", "", "dead", "first", "last", "the last one says")
        more = len(failures) - len(rows)
        return html.card(
            f"Replayer: {html.plural(len(failures), 'kind')} of failure",
            html.table(head, rows),
            html.quiet(f"and {more} more kinds") if more else "",
            html.quiet("Run this notebook to edit them and send them again."),
        )
