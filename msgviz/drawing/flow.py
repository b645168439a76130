"""The flow that a log recorded, as a graph: who publishes to which topic, and who receives from it.

It is counted event by event as they come, so that a look costs what is new. Which receiver published a
message is not recorded: it is the one that was receiving the message's cause at that moment.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msgviz.chains import chain
from msgviz.dead_letters import dead_letter_topic
from msgviz.drawing.causes import Causes, Publishes, Receives, texts
from msgviz.drawing.tally import ERROR, Numbers, Received, Tally, recent, sums
from msgviz.message import Source
from msgviz.observing.columns import OUTCOMES
from msgviz.observing.failure import DROPPED
from msgviz.observing.places import RECEIVE

if TYPE_CHECKING:
    from msgviz.drawing.tally import Batch
    from msgviz.observing.recorder import Recorder

MOST_NODES = 80
"""Topics and subscriptions in one graph."""

_COLUMNS = [
    "time", "operation", "topic", "subscription", "message_id", "parent_id", "attempt", "outcome",
    "error_type", "duration", "replay_of",
]  # fmt: skip
_MOST_ASKED = 1000  # messages whose state is asked for at a time
_CANCELLED = OUTCOMES.index("cancelled")

Place = tuple[str | None, str | None]
"""A topic and a subscription; both None for a receiver that was called directly."""
Key = tuple[str | None, ...]
"""What a node stands for: its kind, topic, and subscription."""

APPLICATION: Key = ("application",)

Seen = list[tuple[int, Key, Key | None]]
"""By event id: a node that appears there, and the one it follows."""


@dataclass(frozen=True, slots=True)
class Node:
    """The application, a topic or a subscription."""

    key: Key
    kind: str
    """application, topic, subscription, dead (a topic of dead letters), direct (a receiver without one)."""
    name: str
    layers: tuple[str, ...] = ()
    """What a message passes there, in its order; for a subscription the last is the receiver."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What went from one node to another; `count` surely, and at most `most`."""

    source: Key
    target: Key
    kind: str
    """publish, receive, or dead."""
    count: int
    most: int
    failed: int = 0
    retries: int = 0
    died: int = 0
    cancelled: int = 0
    in_flight: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Graph:
    """The flow at one moment: its nodes in the order they were first seen, each with where it follows."""

    nodes: list[Node]
    edges: list[Edge]
    follows: dict[Key, Key | None]
    hidden: int
    """Topics and subscriptions that are left out."""
    missed: int
    """Events that the log had dropped before they could be counted."""


class Flow:
    """Counts what a log records, for a graph of it."""

    def __init__(self, log: Recorder) -> None:
        self._log = log
        self._next = 0
        self._missed = 0
        self._lock = threading.Lock()
        self._topics, self._places = Numbers(), Numbers()
        self._causes = Causes()
        self._outside: dict[str, Tally] = {}
        self._received: dict[Place, Received] = {}
        self._in_flight: dict[Place, int] = {}
        self._caused: dict[tuple[Place, str], Tally] = {}
        self._perhaps: dict[tuple[frozenset[Place], str], Tally] = {}
        self._follows: dict[Key, Key | None] = {}
        self._hidden: set[Key] = set()
        self._layers: dict[Key, tuple[str, ...]] = {}

    @property
    def behind(self) -> int:
        """How many events were recorded since the last update."""
        return self._log.next_event_id - self._next

    def update(self) -> None:
        """Count what is new. From any thread."""
        with self._lock:
            self._look()
            if self._causes.pending:
                # What was being received at the first look is in flight now, or in the log at the second.
                self._look()

    # -- counting --------------------------------------------------------------------------------------

    def _look(self) -> None:
        events = self._log.since(self._next)[_COLUMNS]
        clock = time.time_ns() - time.perf_counter_ns()
        in_flight = [
            (message_id, began + clock, _place(place))
            for place in list(self._log.places.all)
            if place.in_flight
            for message_id, began in list(place.in_flight.items())
        ]
        self._in_flight = dict(Counter(place for _, _, place in in_flight))
        seen: Seen = []
        receives = None
        if len(events):
            last = int(events.index[-1])
            self._missed += last + 1 - self._next - len(events)
            self._next = last + 1
            receives = self._count(events, seen)
        numbered = [(message_id, began, self._places.number(place)) for message_id, began, place in in_flight]
        for places, topic, event_id, batch in self._causes.resolve(receives, numbered):
            self._count_caused([self._places.names[p] for p in places], topic, event_id, batch, seen)
        for _, key, follows in sorted(seen, key=lambda s: s[0]):
            self._put(key, follows)
        for place in self._in_flight:
            self._put(_key(place), None)
        self._put_silent()

    def _count(self, events: Any, seen: Seen) -> Receives:
        """Count these events; the receives among them may be what caused others."""
        ids = events.index.to_numpy()
        began = events["time"].array.asi8
        ended = began + events["duration"].to_numpy().view(np.int64)
        outcome = events["outcome"].cat.codes.to_numpy()
        topic, bucket = self._topics.of(events["topic"]), recent(ended)
        publish = events["operation"].cat.codes.to_numpy() != RECEIVE
        caused = publish & events["parent_id"].notna().to_numpy() & events["replay_of"].isna().to_numpy()
        at = np.flatnonzero(publish & ~caused)
        for number, batch in sums(topic[at], outcome[at], bucket[at]):
            name = self._topics.names[number]
            self._outside.setdefault(name, Tally()).add(batch)
            seen.append((int(ids[at[batch.first]]), _topic(name), APPLICATION))
        at = np.flatnonzero(caused)
        if len(at):
            parents = texts(events["parent_id"].iloc[at])
            columns = (began[at], topic[at], outcome[at], bucket[at], ids[at], np.zeros(len(at), np.int64))
            self._causes.add(Publishes(parents, *columns))
        at = np.flatnonzero(~publish)
        pair = topic[at] << 32 | self._topics.of(events["subscription"])[at]
        pairs, group = np.unique(pair, return_inverse=True)
        names = [(self._topics.names[p >> 32], self._topics.names[p & 0xFFFFFFFF]) for p in pairs.tolist()]
        received = events.iloc[at]
        self._count_received(received, outcome[at], group, names, bucket[at], seen)
        numbers = np.array([self._places.number(name) for name in names], np.int64)
        return Receives(texts(received["message_id"]), began[at], ended[at], numbers[group])

    def _count_received(
        self,
        events: Any,
        outcome: NDArray[Any],
        group: NDArray[np.int64],
        names: list[Place],
        bucket: NDArray[np.int64],
        seen: Seen,
    ) -> None:
        limits = {_place(p): p.max_attempts for p in list(self._log.places.all) if p.operation == RECEIVE}
        limit = np.array([np.inf if (m := limits.get(n)) is None else m for n in names])[group]
        attempt = events["attempt"].to_numpy()
        dropped = np.zeros(len(events), np.bool_)
        wrong = np.flatnonzero(outcome == ERROR)
        dropped[wrong] = (events["error_type"].iloc[wrong] == DROPPED).to_numpy(np.bool_)
        letter = (outcome == ERROR) & ~dropped & (attempt >= limit)
        # The last attempt was cancelled: by its server, which gives it back, or the message died of it.
        at = np.flatnonzero((outcome == _CANCELLED) & (attempt >= limit))[-_MOST_ASKED:]
        if len(at):
            letter[at] = self._have_died(events["message_id"].iloc[at])
        ids = events.index.to_numpy()
        retries, letters, drops, cancelled = (
            np.bincount(group[mask], minlength=len(names)).tolist()
            for mask in (attempt > 1, letter, dropped, (outcome == _CANCELLED) & ~letter)
        )
        for number, batch in sums(group, outcome, bucket):
            name = names[number]
            tally = self._received.setdefault(name, Received())
            tally.add(batch)
            tally.retries += retries[number]
            tally.died += letters[number] + drops[number]
            tally.cancelled += cancelled[number]
            seen.append((int(ids[batch.first]), _key(name), None))
            if letters[number] and name[0] is not None and limits.get(name):
                tally.letters += letters[number]
                first = np.flatnonzero(letter & (group == number))[0]
                seen.append((int(ids[first]), _letters(name), _key(name)))

    def _have_died(self, message_ids: Iterable[str]) -> list[bool]:
        found = []
        for message_id in message_ids:
            try:
                state = self._log.states([message_id])[message_id]
            except KeyError:  # dropped since
                state = ""
            found.append(state in ("dead", "replayed", "resolved"))
        return found

    def _count_caused(
        self, places: list[Place], number: int, event_id: int, batch: Batch, seen: Seen
    ) -> None:
        """Count what was published by the receiver at one of these places; by the application, if by none."""
        topic = self._topics.names[number]
        if not places:
            tally = self._outside.setdefault(topic, Tally())
            seen.append((event_id, _topic(topic), APPLICATION))
        else:
            if len(places) == 1:
                tally = self._caused.setdefault((places[0], topic), Tally())
            else:
                tally = self._perhaps.setdefault((frozenset(places), topic), Tally())
            seen += [(event_id, _key(places[0]), None), (event_id, _topic(topic), _key(places[0]))]
        tally.add(batch)

    # -- the order of appearance -----------------------------------------------------------------------

    def _put(self, key: Key, follows: Key | None) -> None:
        """Give a node its place in the order, once."""
        if key in self._follows:
            return
        if key[0] == "subscription":
            follows = APPLICATION if key[1] is None else _topic(key[1])
            self._put(follows, None)
        if follows is not None and follows not in self._follows and follows not in self._hidden:
            self._put(follows, None)
        if key in self._follows:  # it was put along with its topic
            return
        if len(self._follows) >= MOST_NODES:
            self._hidden.add(key)
            return
        self._follows[key] = follows
        if key[0] == "topic":
            for place in self._known_places():
                if place[0] == key[1]:
                    self._put(_key(place), key)

    def _put_silent(self) -> None:
        """Subscriptions of a topic that received nothing yet."""
        for place in self._known_places():
            if _topic(place[0]) in self._follows:
                self._put(_key(place), None)

    def _known_places(self) -> list[Place]:
        return [
            _place(p)
            for p in list(self._log.places.all)
            if p.operation == RECEIVE and p.topic is not None and p.number == p.at
        ]

    # -- the graph -------------------------------------------------------------------------------------

    def graph(self, *, live: bool = True) -> Graph:
        """What was counted. Without `live` it says nothing of the last seconds."""
        with self._lock:
            now = time.time_ns()
            edges = [e for e in self._edges(now) if e.source in self._follows and e.target in self._follows]
            if not live:
                edges = [replace(edge, rate=0.0, in_flight=0) for edge in edges]
            self._read_layers()
            letters = {_letters(place) for place, tally in self._received.items() if tally.letters}
            nodes = [self._node(key, letters) for key in self._follows]
            return Graph(nodes, edges, dict(self._follows), len(self._hidden), self._missed)

    def _edges(self, now: int) -> Iterator[Edge]:
        for topic, tally in self._outside.items():
            yield _publish(APPLICATION, topic, tally, now)
        for key in self._follows:
            if key[0] != "subscription":
                continue
            place = (key[1], key[2])
            got = self._received.get(place) or Received()
            source = APPLICATION if place[0] is None else _topic(place[0])
            yield Edge(
                source, key, "receive", got.count, got.count, got.failed, got.retries, got.died,
                got.cancelled, self._in_flight.get(place, 0), got.rate(now),
            )  # fmt: skip
            if got.letters:
                yield Edge(key, _letters(place), "dead", got.letters, got.letters)
        yield from self._caused_edges(now)

    def _caused_edges(self, now: int) -> Iterator[Edge]:
        """What receivers published: surely, and at most where several of them come into question."""
        perhaps: Counter[tuple[Place, str]] = Counter()
        for (places, topic), tally in self._perhaps.items():
            perhaps.update({(place, topic): tally.count for place in places})
        for place, topic in sorted(
            {*self._caused, *perhaps}, key=lambda c: (self._places.number(c[0]), str(c[1]))
        ):
            sure = self._caused.get((place, topic)) or Tally()
            most = sure.count + perhaps[place, topic]
            yield replace(_publish(_key(place), topic, sure, now), most=most)

    def _node(self, key: Key, letters: set[Key]) -> Node:
        kind, name = str(key[0]), str(key[-1])
        if key == APPLICATION:
            name = "application"
        elif kind == "subscription" and key[1] is None:
            kind, name = "direct", "receiver"
        elif key in letters:
            kind = "dead"
        return Node(key, kind, name, self._layers.get(key, ()))

    def _read_layers(self) -> None:
        """The layers of the topics and servers there are now; of those that are gone, the last known."""
        for name, topic in list(self._log.topics.items()):
            if (key := _topic(_shown(name))) in self._follows:
                self._layers[key] = tuple(_names(topic)[:-1])
        for server in list(self._log.servers.values()):
            if (key := _key(_place(server.source))) in self._follows and server.receiver is not None:
                self._layers[key] = tuple(_names(server))


def _publish(source: Key, topic: str, tally: Tally, now: int) -> Edge:
    return Edge(
        source, _topic(topic), "publish", tally.count, tally.count, tally.failed, rate=tally.rate(now)
    )


def _names(thing: Any) -> list[str]:
    return [name for name in chain(thing).names if name != "observe"]


def _topic(name: str | None) -> Key:
    return ("topic", name)


def _place(where: Any) -> Place:
    """A place, or the source of a message, with its names as the frames of a log have them."""
    return (_shown(where.topic), _shown(where.subscription))


def _key(place: Place) -> Key:
    return ("subscription", *place)


def _letters(place: Place) -> Key:
    return _topic(dead_letter_topic(Source(str(place[0]), str(place[1]))))


def _shown(name: str | None) -> str | None:
    return None if name is None else str(name).encode("utf-8", "backslashreplace").decode()
