"""A conversation in rows: a lifeline for who takes part in it, and time that flows down.

What was placed keeps its place: rows and lifelines are only added, so that a picture that follows the log
does not jump.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from msgviz.observing.failure import DROPPED

if TYPE_CHECKING:
    from msgviz.observing.recorder import Recorder

MOST_EVENTS = 300
"""Events in one picture."""

_COLUMNS = [
    "time", "operation", "topic", "subscription", "message_id", "parent_id", "conversation_id", "attempt",
    "outcome", "error_type", "error", "duration", "size", "replay_of",
]  # fmt: skip
_ENDED = ("dead", "replayed", "resolved")
_PUBLISH, _BEGIN, _END = range(3)
_MOST_LINKS = 16  # of causes that are followed where times contradict them

Key = tuple[str | None, ...]
"""What a lifeline stands for: its kind, topic and subscription."""
Place = tuple[str, str | None, str | None]
"""A message at a subscription."""

APPLICATION: Key = ("application",)


@dataclass(slots=True)
class Event:
    """A publish, or a receive; one that has not ended yet has no `outcome` and no `ended`. Times in ns."""

    operation: str
    topic: str | None
    subscription: str | None
    message_id: str
    parent_id: str | None = None
    attempt: int = 0
    outcome: str | None = None
    error: str = ""
    error_type: str = ""
    began: int = 0
    ended: int | None = None
    size: int = 0
    replay_of: str | None = None
    died: bool = False

    @property
    def place(self) -> Place:
        """The message, and where it is received."""
        return self.message_id, self.topic, self.subscription


@dataclass(slots=True)
class Step:
    """An arrow from one lifeline to another in a row, and for a receive the box down to its last row."""

    number: int
    event: Event
    source: int
    target: int
    row: int
    last_row: int
    message: int
    """The number of its message in this conversation."""
    level: int = 0
    """How many receives the lifeline was busy with when this one began."""
    perhaps: list[int] = field(default_factory=list)
    """Other lifelines that come into question as the publisher."""


class Timeline:
    """Places the events of a conversation in rows, and who takes part in it on lifelines."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self.most = most
        self.lifelines: list[Key] = []
        self.steps: list[Step] = []
        self.rows: list[int] = []
        """When each row was, in nanoseconds since 1970."""
        self.messages: dict[str, int] = {}
        """The messages of the conversation, numbered from 1 in the order they appear."""
        self.hidden = 0
        """Events that are not drawn."""
        self.events = 0
        self.changes = 0
        """Grows whenever something is drawn differently; not with what is only counted."""
        self.open: list[Step] = []
        """Receives that have not ended."""
        self._active: dict[str, list[Step]] = defaultdict(list)
        self._receives: dict[str, list[Step]] = defaultdict(list)
        self._sure: set[tuple[int, str | None]] = set()
        self._first: dict[str, dict[str, int]] = {"publish": {}, "receive": {}}

    def add(self, events: Iterable[Event], in_flight: Iterable[Event] = ()) -> None:
        """Place what is new, in the order of time; `in_flight`: all receives that have not ended now."""
        events, in_flight = list(events), list(in_flight)
        began = self._began([*events, *in_flight])
        moments: list[tuple[int, int, int, Event]] = []
        for count, event in enumerate(events):
            self.events += 1
            begins = _PUBLISH if event.operation == "publish" else _BEGIN
            step = None if begins == _PUBLISH else self._in_flight(event.place)
            if step is not None:
                step.event = event
                self.changes += 1
            else:
                moments.append((began[count], begins, count, event))
            if begins == _BEGIN:
                moments.append((max(event.ended or 0, began[count]), _END, count, event))
        for count, event in enumerate(in_flight, len(events)):
            if self._in_flight(event.place) is None:
                moments.append((began[count], _BEGIN, count, event))
        for at, what, _, event in sorted(moments, key=lambda m: m[:3]):
            if what == _END:
                self._end(event, at)
            elif len(self.steps) < self.most:
                self._place(event, at)
            elif event.outcome is not None:
                self.messages.setdefault(event.message_id, len(self.messages) + 1)
                self.changes += self.hidden == 0
                self.hidden += 1

    def _began(self, events: list[Event]) -> list[int]:
        """When each of these began: after what caused it, though clocks are read with some slack."""
        began = [event.began for event in events]
        for _ in range(_MOST_LINKS):
            firsts = {operation: dict(known) for operation, known in self._first.items()}
            for event, at in zip(events, began, strict=True):
                first = firsts[event.operation]
                first[event.message_id] = min(at, first.get(event.message_id, at))
            changed = False
            for number, event in enumerate(events):
                if event.operation == "receive":
                    cause = firsts["publish"].get(event.message_id)
                else:
                    cause = None if event.replay_of else firsts["receive"].get(event.parent_id or "")
                if cause is not None and began[number] <= cause:
                    began[number] = cause + 1
                    changed = True
            if not changed:
                break
        self._first = firsts
        return began

    def _place(self, event: Event, at: int) -> None:
        """A new row with an arrow in it."""
        perhaps: list[int] = []
        if event.operation == "publish":
            source, perhaps = self._publisher(event)
            target = self._lifeline(("topic", event.topic))
        else:
            source = self._lifeline(APPLICATION if event.topic is None else ("topic", event.topic))
            target = self._lifeline(("receiver", event.topic, event.subscription))
        self.rows.append(at)
        self.changes += 1
        row = len(self.rows) - 1
        message = self.messages.setdefault(event.message_id, len(self.messages) + 1)
        step = Step(len(self.steps), event, source, target, row, row, message, perhaps=perhaps)
        self.steps.append(step)
        if event.operation == "receive":
            busy = {s.level for s in self.open if s.target == target}
            step.level = next(level for level in range(len(busy) + 1) if level not in busy)
            self.open.append(step)
            self._active[event.message_id].append(step)
            self._receives[event.message_id].append(step)

    def _end(self, event: Event, at: int) -> None:
        """The box of a receive ends: in a new row, if there is one below that in which it began."""
        step = next((s for s in self.open if s.event is event), None)
        if step is None:  # it is not drawn
            return
        self.open.remove(step)
        self._active[event.message_id].remove(step)
        self.changes += 1
        if step.row < len(self.rows) - 1:
            self.rows.append(at)
            step.last_row = len(self.rows) - 1

    def _in_flight(self, place: Place) -> Step | None:
        return next((s for s in self.open if s.event.ended is None and s.event.place == place), None)

    def _publisher(self, event: Event) -> tuple[int, list[int]]:
        """Who published this: the receiver that had its cause, or the application."""
        if event.parent_id is None or event.replay_of is not None:
            return self._lifeline(APPLICATION), []
        # A task that a receiver left behind publishes after its end: then it was the last one, most likely.
        found = self._active[event.parent_id] or self._receives[event.parent_id][-1:]
        able = list(dict.fromkeys(step.target for step in found))
        if not able:
            return self._lifeline(APPLICATION), []
        if len(able) == 1:
            self._sure.add((able[0], event.topic))
            return able[0], []
        sure = [one for one in able if (one, event.topic) in self._sure]
        chosen = sure[0] if len(sure) == 1 else able[-1]
        return chosen, [one for one in able if one != chosen]

    def _lifeline(self, key: Key) -> int:
        if key not in self.lifelines:
            self.lifelines.append(key)
        return self.lifelines.index(key)


class Conversation:
    """The timeline of a message's conversation in a log. `update` takes in what is new, and costs that."""

    def __init__(self, log: Recorder, message_id: str, most: int = MOST_EVENTS) -> None:
        self.message_id = message_id
        self.conversation_id: str | None = None
        """None as long as the log does not know the message."""
        self.timeline = Timeline(most)
        self.lock = threading.Lock()
        """Held while the timeline changes: whoever draws it in another thread holds it too."""
        self._log = log
        self._next = 0

    @property
    def behind(self) -> int:
        """How many events were recorded since the last update."""
        return self._log.next_event_id - self._next

    def update(self) -> None:
        """Take in what is new. From any thread."""
        with self.lock:
            events = self._read()
            if self.conversation_id is None:
                found = events[events["message_id"] == self.message_id]
                if found.empty:
                    return
                self.conversation_id = str(found["conversation_id"].iloc[0])
                self._next = 0
                events = self._read()
            events = events[events["conversation_id"] == self.conversation_id]
            clock = time.time_ns() - time.perf_counter_ns()
            known = {*self.timeline.messages, *events["message_id"]}
            in_flight = [
                Event("receive", p.topic, p.subscription, i, began=began + clock)
                for p in list(self._log.places.all)
                if p.in_flight
                for i, began in list(p.in_flight.items())
                if i in known
            ]
            self.timeline.add(self._events(events), in_flight)

    def _read(self) -> Any:
        events = self._log.since(self._next)[_COLUMNS]
        if len(events):
            self._next = int(events.index[-1]) + 1
        return events

    def _events(self, frame: Any) -> list[Event]:
        limits = {(p.topic, p.subscription): p.max_attempts for p in list(self._log.places.all)}
        made = []
        began = frame["time"].array.asi8
        took = frame["duration"].to_numpy().view(np.int64)
        columns = (c for c in _COLUMNS if c not in ("time", "duration", "conversation_id"))
        rows = zip(began.tolist(), took.tolist(), *(frame[c].tolist() for c in columns), strict=True)
        for at, duration, operation, topic, subscription, message_id, parent, attempt, outcome, *rest in rows:
            error_type, error, size, replay_of = rest
            event = Event(
                operation, _text(topic), _text(subscription), message_id, _text(parent), attempt, outcome,
                _text(error) or "", _text(error_type) or "", at, at + duration, size, _text(replay_of),
            )  # fmt: skip
            limit = limits.get((event.topic, event.subscription))
            event.died = self._has_died(event, limit)
            made.append(event)
        return made

    def _has_died(self, event: Event, limit: int | None) -> bool:
        if event.outcome == "ok" or event.operation == "publish":
            return False
        if event.error_type == DROPPED:
            return True
        if limit is None or event.attempt < limit:
            return False
        if event.outcome == "error":
            return True
        # Cancelled: by its server, which gives it back, or the message died of it.
        try:
            return self._log.states([event.message_id])[event.message_id] in _ENDED
        except KeyError:
            return False


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
