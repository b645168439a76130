"""Replay: a person sends recorded messages again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, TypeAlias

import pandas as pd

from msgviz import html
from msgviz.attributes import Attributes
from msgviz.errors import Unsupported
from msgviz.message import Message, Source
from msgviz.observing.detail import MessageDetail
from msgviz.observing.identity import ID_ATTRIBUTE, new_id
from msgviz.observing.observers import ObservedReceiver, ObservedTopic
from msgviz.observing.recorder import Recorder
from msgviz.receiver import Receiver, receiver_name
from msgviz.topic import Topic

Status: TypeAlias = Literal["ready", "sent", "skipped", "failed"]
Edit: TypeAlias = Callable[[Message], Message]
Progress: TypeAlias = Callable[[int, int], None]

_UNDER_WAY = ("pending", "in_flight", "retrying")


@dataclass(frozen=True, slots=True)
class ReplayEntry:
    """What became of one message: to one subscription, or (None) to the whole topic or another place."""

    message_id: str
    subscription: str | None
    status: Status
    reason: str | None = None
    """Why it was skipped, or why it failed."""
    replay_id: str | None = None
    """The id of the new message, once it was sent."""


class ReplayReport(Sequence[ReplayEntry]):
    """What a replay did, or (dry run) would do, message by message."""

    def __init__(self, entries: Sequence[ReplayEntry], *, dry_run: bool = False) -> None:
        self._entries = tuple(entries)
        self.dry_run = dry_run

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ReplayEntry]:
        return iter(self._entries)

    def _with(self, status: Status) -> list[ReplayEntry]:
        return [entry for entry in self._entries if entry.status == status]

    @property
    def ready(self) -> list[ReplayEntry]:
        """Those that a dry run found can be replayed."""
        return self._with("ready")

    @property
    def sent(self) -> list[ReplayEntry]:
        """Those that were sent; whether they are received well, the log tells."""
        return self._with("sent")

    @property
    def skipped(self) -> list[ReplayEntry]:
        """Those that cannot be replayed, each with its reason."""
        return self._with("skipped")

    @property
    def failed(self) -> list[ReplayEntry]:
        """Those whose edit or publish raised, each with its reason."""
        return self._with("failed")

    def to_frame(self) -> pd.DataFrame:
        """One row an entry: `message_id`, `subscription`, `status`, `reason`, `replay_id`."""
        names = ["message_id", "subscription", "status", "reason", "replay_id"]
        return pd.DataFrame([[getattr(e, n) for n in names] for e in self._entries], columns=names)

    @property
    def summary(self) -> str:
        """One line: how many of each."""
        counts = ((s, len(self._with(s))) for s in ("ready", "sent", "skipped", "failed"))
        said = ", ".join(f"{count} {status}" for status, count in counts if count)
        return f"{'dry run: ' if self.dry_run else ''}{said or 'nothing to replay'}"

    def __repr__(self) -> str:
        return f"<ReplayReport {self.summary}>"

    def _repr_html_(self) -> str:
        shown = sorted(self._entries, key=lambda e: ("failed", "skipped", "ready", "sent").index(e.status))[
            :50
        ]
        rows = [
            (html.code(e.message_id), e.subscription or "", html.state(e.status), e.reason or "",
             html.code(e.replay_id or ""))
            for e in shown
        ]  # fmt: skip
        more = len(self) - len(shown)
        return html.card(
            f"Replay: {self.summary}",
            html.table(("message", "subscription", "status", "reason", "new message"), rows) if rows else "",
            html.quiet(f"and {more} more: .to_frame() has them all") if more else "",
        )


@dataclass(frozen=True, slots=True)
class _Job:
    entry: ReplayEntry
    detail: MessageDetail | None = None
    topic: Topic | None = None


async def replay(
    log: Recorder,
    detail: Callable[[str], MessageDetail],
    selection: Any = None,
    *,
    to: Topic | Receiver | None = None,
    edit: Edit | None = None,
    rate: float | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ReplayReport:
    """Send recorded messages again; see `msgviz.MessageLog.replay`."""
    if rate is not None and not rate > 0:
        raise ValueError(f"rate is a number of messages per second above 0, not {rate!r}")
    if edit is not None and not callable(edit):
        raise TypeError(f"edit is a function from Message to Message, not {type(edit).__name__}")
    if to is not None and not isinstance(to, Topic) and not callable(to):
        raise TypeError(f"to is a topic or a receiver, not {type(to).__name__}")
    planned = (job for chosen in _select(log, selection) for job in _plan(log, detail, chosen, to))
    jobs = list({job.entry: job for job in planned}.values())  # each message to each place once
    if dry_run:
        return ReplayReport([job.entry for job in jobs], dry_run=True)
    entries: list[ReplayEntry] = []
    with _Progress(len(jobs), progress) as advance:
        due = time.monotonic()
        for job in jobs:
            if job.entry.status == "ready":
                if rate is not None:
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    due = max(due, time.monotonic()) + 1 / rate
                entries.append(await _send(log, job, to, edit))
            else:
                entries.append(job.entry)
            advance()
    return ReplayReport(entries)


@dataclass(frozen=True, slots=True)
class _Chosen:
    message_id: str
    subscription: str | None = None  # chosen by an event of this subscription
    topic: str | None = None  # of this topic: a dead letter is received from another than it was sent to
    reason: str | None = None  # why it cannot be replayed


def _select(log: Recorder, selection: Any) -> list[_Chosen]:
    """The messages of a selection, each once, in its order."""
    if selection is None:
        states = log.messages["state"]
        selection = states.index[states == "dead"]
    if isinstance(selection, (str, Integral)):  # the ids in a frame are numpy's integers
        selection = [selection]
    if isinstance(selection, pd.DataFrame):
        if "message_ids" in selection.columns:
            selection = [i for ids in selection["message_ids"] for i in ids]
        elif selection.index.name in ("event_id", "message_id"):
            selection = selection.index
        elif "message_id" in selection.columns:
            selection = selection["message_id"].tolist()
        else:
            raise TypeError(
                "this DataFrame is no slice of a log's frame: it has no event_id and no message_id"
            )
    if isinstance(selection, pd.Series):
        if pd.api.types.is_bool_dtype(selection.dtype):
            raise TypeError("a selection is rows, not a mask: write log.messages[mask]")
        if selection.name != "message_id" and selection.index.name in ("event_id", "message_id"):
            selection = selection.index
    if isinstance(selection, ReplayReport):
        selection = [entry.message_id for entry in selection]
    try:
        items = list(selection)
    except TypeError:
        raise _no_selection(selection) from None
    chosen = [_choose(log, item) for item in items]
    by_event = {c.message_id for c in chosen if c.subscription is None}
    # A message chosen as a whole is not chosen once more by one of its events.
    kept = [c for c in chosen if c.subscription is None or c.message_id not in by_event]
    return list(dict.fromkeys(kept))


def _no_selection(item: Any) -> TypeError:
    return TypeError(
        "a selection is event ids, message ids, a slice of a log's frame, or nothing for all dead messages, "
        f"not {type(item).__name__}"
    )


def _choose(log: Recorder, item: Any) -> _Chosen:
    if isinstance(item, str):
        return _Chosen(item)
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise _no_selection(item)
    events = log.events
    event_id = int(item)
    if event_id not in events.index:
        return _Chosen(
            f"event {event_id}", reason=f"the log has no event {event_id}: it was dropped, or never was"
        )
    subscription = events.at[event_id, "subscription"]  # null for a publish
    message_id = str(events.at[event_id, "message_id"])
    if not isinstance(subscription, str):
        return _Chosen(message_id)
    return _Chosen(message_id, subscription, str(events.at[event_id, "topic"]))


def _plan(
    log: Recorder, detail_of: Callable[[str], MessageDetail], chosen: _Chosen, to: Topic | Receiver | None
) -> list[_Job]:
    """For each place a message is to go: whether it can, and a reason when not."""

    def skip(reason: str) -> list[_Job]:
        return [_Job(ReplayEntry(chosen.message_id, chosen.subscription, "skipped", reason))]

    if chosen.reason is not None:
        return skip(chosen.reason)
    try:
        detail = detail_of(chosen.message_id)
    except KeyError:
        return skip("the log has no message of this id: it was dropped, or never was")
    if detail.body is None:
        return skip(f"its body of {detail.size} bytes was not kept (MessageLog(max_body={log.max_body}))")
    if to is not None:
        return [_Job(ReplayEntry(chosen.message_id, None, "ready"), detail)]
    if detail.state in _UNDER_WAY:
        return skip(f"it is {detail.state.replace('_', ' ')} still: it would be received twice")
    topic = log.topics.get(detail.topic or "")
    if topic is None:
        return skip(
            f"this log cannot publish to the topic {detail.topic!r}: make it from an observed backend, "
            "backend.topic(...), or name another place with to=…"
        )
    at_event = chosen.subscription is not None and chosen.topic == detail.topic
    failed_at = [chosen.subscription] if at_event else _failed_at(detail)
    jobs = []
    for subscription in failed_at or [None]:
        there: Topic = topic
        if subscription is not None:
            try:
                there = topic.to_subscription(subscription)
            except Unsupported:
                return [_Job(ReplayEntry(chosen.message_id, None, "ready"), detail, topic)]
        jobs.append(_Job(ReplayEntry(chosen.message_id, subscription, "ready"), detail, there))
    return jobs


def _failed_at(detail: MessageDetail) -> list[str | None]:
    """The subscriptions at which the last attempt at a message failed."""
    last = {
        a.subscription: a.outcome
        for a in detail.attempts
        if a.operation == "receive" and a.topic == detail.topic
    }
    return [subscription for subscription, outcome in last.items() if outcome != "ok"]


async def _send(log: Recorder, job: _Job, to: Topic | Receiver | None, edit: Edit | None) -> ReplayEntry:
    detail = job.detail
    assert detail is not None  # noqa: S101  an entry that is ready has one
    assert detail.body is not None  # noqa: S101
    try:
        message = _edited(detail, edit)
    except Exception as error:  # noqa: BLE001  a person's function: whatever it raises is told in the report
        return replace(job.entry, status="failed", reason=f"edit raised {_said(error)}")
    message_id = new_id()
    parent = detail.parent_id or ""
    log.note_replay(message_id, detail.message_id)
    try:
        if to is None or isinstance(to, Topic):
            topic = job.topic if to is None else _observed(to, log)
            assert isinstance(topic, ObservedTopic)  # noqa: S101  so it was planned
            await topic.send_as(message, 0.0, detail.conversation_id, message_id, parent)
        else:
            if isinstance(to, ObservedReceiver) and to.observed_by is log:
                to = to.next
            failed_at = _failed_at(detail)
            message.source = Source(
                detail.topic or "replay", (failed_at and failed_at[0]) or receiver_name(to), max_attempts=1
            )
            message.attributes[ID_ATTRIBUTE] = f"{detail.conversation_id}.{message_id}.{parent}"
            await ObservedReceiver(to, log, served=False)(message)
    except Exception as error:  # noqa: BLE001  told in the report, and recorded in the log
        return replace(job.entry, status="failed", reason=_said(error), replay_id=message_id)
    return replace(job.entry, status="sent", replay_id=message_id)


def _edited(detail: MessageDetail, edit: Edit | None) -> Message:
    attributes = Attributes({k: v for k, v in detail.attributes.items() if k != ID_ATTRIBUTE})
    message = Message(detail.body or b"", attributes)
    if edit is None:
        return message
    edited = edit(message)
    if not isinstance(edited, Message):
        raise TypeError(f"it gave back {type(edited).__name__}, not a Message")
    edited.attributes.pop(ID_ATTRIBUTE, None)
    return Message(edited.body, edited.attributes)


def _observed(topic: Topic, log: Recorder) -> ObservedTopic:
    if isinstance(topic, ObservedTopic) and topic.observed_by is log:
        return topic
    known = log.topics.get(topic.name)
    observed = ObservedTopic(topic, log)
    if known is not None:
        log.topics[topic.name] = known  # sending one message there does not make it the topic of that name
    return observed


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Progress:
    """Tells a callback, or else a progress bar that shows only when the work takes long."""

    def __init__(self, total: int, callback: Progress | None) -> None:
        self._total, self._callback, self._done = total, callback, 0
        self._bar: Any = None

    def __enter__(self) -> Callable[[], None]:
        if self._callback is None and self._total:
            from tqdm.auto import tqdm  # noqa: PLC0415  it looks for a notebook when imported

            self._bar = tqdm(total=self._total, desc="replay", unit="message", delay=0.5, leave=False)
        return self._advance

    def _advance(self) -> None:
        self._done += 1
        if self._callback is not None:
            self._callback(self._done, self._total)
        elif self._bar is not None:
            self._bar.update()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
