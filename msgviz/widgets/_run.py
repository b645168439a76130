"""One run of replays: message after message, so that it can be watched and stopped."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from msgviz.observing.identity import ID_ATTRIBUTE
from msgviz.replay import ReplayEntry
from msgviz.widgets._cases import UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from msgviz.attributes import Attributes
    from msgviz.log import MessageLog
    from msgviz.message import Message
    from msgviz.replay import Edit
    from msgviz.widgets._cases import Case, Cases

SHOWN = 100
"""Outcomes that a browser is told one by one; of more it gets the numbers."""

BUSY = "a replay of it is under way"

Chosen = tuple["Case | None", "int | str"]
"""What to replay: a case, if there is one, and what to hand to `log.replay`."""


def choose(
    cases: Cases,
    keys: Sequence[int] = (),
    *,
    marked: Sequence[int] = (),
    groups: Sequence[Mapping[str, Any]] = (),
) -> list[Chosen]:
    """Return the cases of these keys, those marked that are open, and the open ones of some groups.

    A group is `{"group": key, "except": [keys]}`.
    """
    found: dict[int, Case] = {}
    for choice in groups:
        group = cases.groups.get(choice["group"])
        out = set(choice.get("except", ()))
        for case in group.cases.values() if group else ():
            if case.is_open and case.key not in out:
                found[case.key] = case
    found |= {key: cases.all[key] for key in marked if key in cases.all and cases.all[key].is_open}
    found |= {key: cases.all[key] for key in keys if key in cases.all}
    return [(case, cases.whereabouts(case)) for case in found.values()]


async def check(log: MessageLog, chosen: Sequence[Chosen]) -> dict[str, Any]:
    """Say how many of these can be replayed, and for what reasons the others cannot."""
    reasons: Counter[str] = Counter()
    ready = 0
    for start in range(0, len(chosen), 50):
        some = chosen[start : start + 50]
        busy = sum(case is not None and bool(case.waiting) for case, _ in some)
        reasons.update({BUSY: busy} if busy else {})
        free = [where for case, where in some if case is None or not case.waiting]
        for entry in await log.replay(free, dry_run=True):
            if entry.status == "ready":
                ready += 1
            else:
                reasons[entry.reason or "it cannot be replayed"] += 1
        await asyncio.sleep(0)
    return {
        "ready": ready,
        "reasons": [{"reason": reason, "count": count} for reason, count in reasons.most_common(5)],
        "skipped": reasons.total(),
    }


class Run:
    """Replays of chosen messages, one after the other, at most `rate` a second."""

    def __init__(
        self, log: MessageLog, cases: Cases, chosen: Sequence[Chosen], edit: Edit | None, rate: float | None
    ) -> None:
        self.log = log
        self.total = len(chosen)
        self.done = 0
        self.edited = edit is not None
        self.running = True
        self.stopped = False
        self.counts: Counter[str] = Counter()
        self.changes = 0
        """Grows with every change."""
        self._cases = cases
        self._chosen = chosen
        self._edit = edit
        self._rate = rate
        self._outcomes: dict[int, dict[str, Any]] = {}
        self._open: dict[int, str] = {}  # outcomes that are not known yet: number -> id of the replay
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Send nothing more."""
        self.stopped = True
        self._stop.set()

    async def go(self) -> None:
        """Send them all, until stopped."""
        due = time.monotonic()
        try:
            for case, where in self._chosen:
                if self._rate is not None and not self.stopped:
                    await self._pause(due - time.monotonic())
                    due = max(due, time.monotonic()) + 1 / self._rate
                else:
                    await asyncio.sleep(0)
                if self.stopped:
                    return
                await self._replay(case, where)
                self.done += 1
                self.changes += 1
        finally:
            self.running = False
            self.changes += 1

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._stop.wait()
        except TimeoutError:
            pass

    async def _replay(self, case: Case | None, where: int | str) -> None:
        if case is not None and case.waiting:
            # What is under way was perhaps edited: both must not be received.
            self._add(case, ReplayEntry(case.latest, case.subscription, "skipped", BUSY))
            return
        for entry in await self.log.replay([where], edit=self._edit, progress=_quietly):
            self._add(case, entry)

    def _add(self, case: Case | None, entry: ReplayEntry) -> None:
        number = len(self._outcomes)
        outcome = "under_way" if entry.status == "sent" else entry.status
        self._outcomes[number] = {
            "number": number,
            "case": case.key if case else None,
            "messageId": case.root if case else entry.message_id,
            "replayId": entry.replay_id,
            "subscription": entry.subscription,
            "outcome": outcome,
            "reason": entry.reason,
        }
        self.counts[outcome] += 1
        if outcome == "under_way":
            self._open[number] = entry.replay_id or ""

    def follow(self) -> None:
        """Look up what became of the replays that are under way."""
        states = self._cases.states(self._open.values())
        for number, replay_id in list(self._open.items()):
            state = states.get(replay_id, "dropped")
            if state in UNDER_WAY:
                continue
            outcome = "ok" if state in ("ok", "resolved") else "dropped" if state == "dropped" else "dead"
            del self._open[number]
            self.counts["under_way"] -= 1
            self.counts[outcome] += 1
            entry = self._outcomes[number]
            entry["outcome"] = outcome
            entry["reason"] = last_error(self.log, replay_id) if outcome == "dead" else None
            self.changes += 1

    def content(self) -> dict[str, Any]:
        """What a browser shows of it: what went wrong first."""
        ranks = {"dead": 0, "failed": 0, "skipped": 1, "dropped": 1, "under_way": 2, "ok": 3}
        rows = list(self._outcomes.values())
        if len(rows) > SHOWN:
            rows.sort(key=lambda row: ranks[row["outcome"]])
        return {
            "total": self.total,
            "done": self.done,
            "running": self.running,
            "stopped": self.stopped,
            "edited": self.edited,
            "counts": {outcome: count for outcome, count in self.counts.items() if count},
            "rows": [dict(row) for row in rows[:SHOWN]],
            "more": max(0, len(rows) - SHOWN),
        }


def last_error(log: MessageLog, message_id: str) -> str:
    """Return the last error of a message in one line, or nothing."""
    try:
        attempts = log.detail(message_id).attempts
    except KeyError:
        return ""
    for attempt in reversed(attempts):
        if attempt.error_type:
            return f"{attempt.error_type}: {attempt.error}" if attempt.error else attempt.error_type
    return ""


def make_edit(wish: Mapping[str, Any]) -> Edit | None:
    """Return the function that edits a message as a person wished it in the browser.

    `body` ({"text": …} or {"hex": …}) and `attributes` replace what there is; `set` ([[key, value], …]) and
    `remove` ([key, …]) change single attributes. `ValueError` in plain words for a wish that makes no sense.
    """
    body = _body(wish.get("body"))
    attributes: dict[str, list[str]] | None = wish.get("attributes")
    changes: list[list[str]] = wish.get("set") or []
    removals: list[str] = wish.get("remove") or []
    for key in [*(attributes or ()), *(key for key, _ in changes), *removals]:
        if not key:
            raise ValueError("an attribute needs a name")
        if key.lower() == ID_ATTRIBUTE.lower():
            raise ValueError(f"{ID_ATTRIBUTE} is msgviz's own: it links the replay to its original")
    if body is None and attributes is None and not changes and not removals:
        return None

    def edit(message: Message) -> Message:
        edited = message if body is None else message.with_body(body)
        if attributes is not None:
            edited.attributes.clear()
            for key, values in attributes.items():
                _add_all(edited.attributes, key, values)
        for key in removals:
            edited.attributes.pop(key, None)
        for key, value in changes:
            edited.attributes[key] = value
        return edited

    return edit


def _add_all(attributes: Attributes, key: str, values: Sequence[str]) -> None:
    for value in values:
        attributes.add(key, value)


def _body(wish: Mapping[str, Any] | None) -> bytes | None:
    if wish is None:
        return None
    if "text" in wish:
        text = str(wish["text"])
        return (text.replace("\n", "\r\n") if wish.get("crlf") else text).encode()
    try:
        return bytes.fromhex(str(wish["hex"]))
    except ValueError:
        raise ValueError("the body is no hex: write two digits (0-9, a-f) for each byte") from None


def _quietly(_done: int, _total: int) -> None:
    """Instead of a progress bar below the cell: the widget has its own."""
