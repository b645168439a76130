"""Cases: the messages of a log that failed, each followed through its replays, grouped by error and place."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from msgviz.log import MessageLog

CLOSED = frozenset({"ok", "resolved"})
"""What a case may end as: it went well on a later attempt of its own, or a replay of it did."""

UNDER_WAY = frozenset({"pending", "in_flight", "retrying"})

_SLICE = 10_000  # events or cases looked at before the event loop gets its turn

Place = tuple[str, "str | None", "str | None"]


class Group:
    """Cases that failed at one place with one type of error."""

    def __init__(self, key: int, error_type: str, topic: str | None, subscription: str | None) -> None:
        self.key = key
        self.error_type = error_type
        self.topic = topic
        self.subscription = subscription
        self.error = ""
        self.failures = 0
        self.first = self.last = 0.0
        self.counts: Counter[str] = Counter()
        self.cases: dict[int, Case] = {}
        self.version = 0
        """Grows with every change."""

    @property
    def open(self) -> int:
        """How many of its cases have not ended well."""
        return sum(count for status, count in self.counts.items() if status not in CLOSED)


class Case:
    """One message that failed at one place, and what was sent there again for it."""

    __slots__ = (
        "error", "error_type", "event_id", "failures", "group", "key", "last", "latest", "ok",
        "preview", "root", "status", "subscription", "topic", "tries", "waiting",
    )  # fmt: skip

    def __init__(self, key: int, root: str, topic: str | None, subscription: str | None) -> None:
        self.key = key
        self.root = root  # the message as it was first published
        self.topic = topic
        self.subscription = subscription
        self.latest = root  # what was last tried here: itself or a replay of it
        self.tries = [root]
        self.waiting: list[str] = []  # replays that have not been settled
        self.failures = 0
        self.ok = False
        self.error_type = self.error = ""
        self.event_id = -1  # its last failure
        self.last = 0.0
        self.status = ""
        self.group: Group | None = None
        self.preview: str | None = None  # of the body of `latest`; for whoever shows it

    @property
    def is_open(self) -> bool:
        """Whether it has not ended well."""
        return self.status not in CLOSED


class Cases:
    """All cases of a log. `update` takes in what is new, and costs only that."""

    def __init__(self, log: MessageLog) -> None:
        self.log = log
        self.groups: dict[int, Group] = {}
        self.all: dict[int, Case] = {}
        self.version = 0
        self._group_keys: dict[Place, int] = {}
        self._by_place: dict[Place, Case] = {}
        self._by_root: dict[str, list[Case]] = {}
        self._roots: dict[str, str] = {}  # every message that is followed -> the message it stems from
        self._unsettled: set[int] = set()
        self._next = 0
        self._dropped = log.dropped
        self._keys = 0
        self._lock: asyncio.Lock = asyncio.Lock()

    async def update(self) -> bool:
        """Look at what happened since the last time; whether anything changed here."""
        async with self._lock:
            before = self.version
            touched: set[int] = set()
            while self._next < self.log.next_event_id:
                events = self.log.since(self._next)
                if events.empty:
                    self._next = self.log.next_event_id
                    break
                for start in range(0, len(events), _SLICE):
                    self._take(events.iloc[start : start + _SLICE], touched)
                    if len(events) > _SLICE:
                        await asyncio.sleep(0)
                self._next = int(events.index[-1]) + 1
            if self.log.dropped != self._dropped:
                self._dropped = self.log.dropped
                touched.update(self.all)
            keys = list(touched | self._unsettled)
            for start in range(0, len(keys), _SLICE):
                self._judge([self.all[key] for key in keys[start : start + _SLICE]], touched)
                if len(keys) > _SLICE:
                    await asyncio.sleep(0)
            return self.version != before

    def of(self, message_id: str) -> list[Case]:
        """The cases of a message, or of the message that it replays: one for each place."""
        return list(self._by_root.get(self._roots.get(message_id, message_id), ()))

    def whereabouts(self, case: Case) -> int | str:
        """What to hand to `log.replay`, to replay this case alone."""
        return case.event_id if len(self._by_root[case.root]) > 1 else case.latest

    # -- taking in events ------------------------------------------------------------------------------

    def _take(self, events: pd.DataFrame, touched: set[int]) -> None:
        ids: list[str] = events["message_id"].tolist()
        bad = (events["outcome"] != "ok").to_numpy()
        replays = events["replay_of"].notna().to_numpy()
        roots = self._roots
        for at in bad.nonzero()[0]:
            roots.setdefault(ids[at], "")
        marked = (bad | replays).tolist()
        chosen = [at for at, message_id in enumerate(ids) if marked[at] or message_id in roots]
        if not chosen:
            return
        part = events.iloc[chosen]
        times = part["time"].to_numpy("M8[us]").astype("int64") / 1000
        columns = ["operation", "topic", "subscription", "message_id", "error_type", "error", "replay_of"]
        for event_id, failed, time, values in zip(
            part.index.tolist(),
            bad[chosen].tolist(),
            times.tolist(),
            part[columns].astype(object).itertuples(index=False, name=None),
            strict=True,
        ):
            operation, topic, subscription, message_id, error_type, error, original = (
                value if isinstance(value, str) else None for value in values
            )
            assert message_id is not None  # noqa: S101  every event has one
            root = self._root(message_id, original)
            place = (root, topic, subscription)
            case = self._by_place.get(place)
            if failed:
                case = case or self._new_case(place)
                self._fail(case, message_id, event_id, time, error_type or "", error or "")
            elif case is not None and (operation == "receive" or message_id != root):
                case.ok = True
                _try(case, message_id)
            if message_id != root:
                for other in self._by_root.get(root, ()):
                    touched.add(other.key)
                    if message_id not in other.waiting and operation == "publish":
                        other.waiting.append(message_id)
            if case is not None:
                touched.add(case.key)

    def _root(self, message_id: str, original: str | None) -> str:
        root = self._roots.get(message_id)
        if not root:
            # A replay of what is not followed (it had gone well, or was dropped) stands for itself.
            root = (original and self._roots.get(original)) or message_id
            self._roots[message_id] = root
        return root

    def _new_case(self, place: Place) -> Case:
        case = Case(self._keys, *place)
        self._keys += 1
        self.all[case.key] = self._by_place[place] = case
        self._by_root.setdefault(case.root, []).append(case)
        return case

    def _fail(
        self, case: Case, message_id: str, event_id: int, time: float, error_type: str, error: str
    ) -> None:
        _try(case, message_id)
        case.ok = False
        case.failures += 1
        case.error_type, case.error = error_type, error
        case.event_id, case.last = event_id, time
        group = self._group(case)
        group.error = error
        group.failures += 1
        group.first = group.first or time
        group.last = max(group.last, time)

    def _group(self, case: Case) -> Group:
        place = (case.error_type, case.topic, case.subscription)
        key = self._group_keys.setdefault(place, len(self._group_keys))
        if key not in self.groups:
            self.groups[key] = Group(key, *place)
        return self.groups[key]

    # -- what has become of them -----------------------------------------------------------------------

    def _judge(self, cases: list[Case], touched: set[int]) -> None:
        states = self.states({i for case in cases for i in (case.root, case.latest, *case.waiting)})
        for case in cases:
            if case.latest not in states:
                self._forget(case)
                continue
            case.waiting = [i for i in case.waiting if states.get(i) in UNDER_WAY]
            status = _status(case, states)
            if status in CLOSED or status == "dead":
                self._unsettled.discard(case.key)
            else:
                self._unsettled.add(case.key)
            if case.key in touched or status != case.status:
                self._put(case, self._group(case), status)

    def _put(self, case: Case, group: Group | None, status: str) -> None:
        """Put a case in a group (or, for None, in none any more)."""
        old = case.group
        if old is not None:
            old.counts[case.status] -= 1
            old.version += 1
            if old is not group:
                del old.cases[case.key]
        case.group, case.status = group, status
        if group is not None:
            group.cases[case.key] = case
            group.counts[status] += 1
            group.version += 1
        self.version += 1

    def states(self, message_ids: Iterable[str]) -> dict[str, str]:
        """The states of those of the messages that the log still has."""
        ids = list(message_ids)
        try:
            return self.log.states(ids)
        except KeyError:
            return dict(self._known_states(ids))

    def _known_states(self, ids: list[str]) -> Iterator[tuple[str, str]]:
        for message_id in ids:
            try:
                yield message_id, self.log.states([message_id])[message_id]
            except KeyError:
                continue

    def _forget(self, case: Case) -> None:
        self._put(case, None, "")
        del self.all[case.key]
        del self._by_place[case.root, case.topic, case.subscription]
        self._unsettled.discard(case.key)
        self._by_root[case.root].remove(case)
        if not self._by_root[case.root]:
            del self._by_root[case.root]
            for message_id in case.tries:
                self._roots.pop(message_id, None)

    def to_groups(self) -> list[dict[str, Any]]:
        """What a browser needs of each group that has cases."""
        return [
            {
                "key": group.key,
                "version": group.version,
                "errorType": group.error_type,
                "topic": group.topic,
                "subscription": group.subscription,
                "error": group.error[:400],
                "failures": group.failures,
                "first": group.first,
                "last": group.last,
                "open": group.open,
                "counts": {status: count for status, count in sorted(group.counts.items()) if count},
            }
            for group in self.groups.values()
            if group.cases
        ]


def _try(case: Case, message_id: str) -> None:
    if case.latest != message_id:
        case.latest, case.preview = message_id, None
    if message_id not in case.tries:
        case.tries.append(message_id)


def _status(case: Case, states: dict[str, str]) -> str:
    if case.waiting:
        return "replayed"
    if case.ok:
        return "resolved" if len(case.tries) > 1 else "ok"
    if states.get(case.root) == "resolved" or states[case.latest] == "resolved":
        return "resolved"
    return states[case.latest] if states[case.latest] in UNDER_WAY else "dead"
