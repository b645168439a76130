"""Places: where an event happened. A log knows few of them, so an event carries the number of its place."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

PUBLISH, RECEIVE = 0, 1
OPERATIONS = ("publish", "receive")


@dataclass(slots=True)
class Place:
    """A topic that is published to, or a subscription that is received from."""

    number: int
    at: int
    """The number of the first place of this topic and subscription: the same whatever its attempts."""
    operation: int
    topic: str | None
    subscription: str | None
    max_attempts: int | None = None
    """For a receive: attempts after which a message is dead; None for no limit, 0 where nothing is
    delivered again."""
    expected: frozenset[int] = frozenset()
    """For a publish: the places, by their `at`, that are to receive what is published here."""
    tracked: bool = True
    """For a publish: whether the messages carry their identity, so that their receives are recognised."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """For a receive: message id -> when it began, of the receives that have not ended."""

    def to_json(self) -> dict[str, Any]:
        """What a saved log keeps of it."""
        return {
            "operation": self.operation,
            "topic": self.topic,
            "subscription": self.subscription,
            "max_attempts": self.max_attempts,
            "expected": sorted(self.expected),
            "tracked": self.tracked,
        }


class Places:
    """The places of a log; they are only added to."""

    def __init__(self) -> None:
        self.all: list[Place] = []
        self._lock = threading.Lock()
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._at: dict[tuple[int, str | None, str | None], int] = {}
        self._receives: dict[str | None, frozenset[int]] = {}
        self.version = 0
        """Grows with the places that receive, so that a publisher sees when more of them are expected."""

    def _get(
        self,
        operation: int,
        topic: str | None,
        subscription: str | None,
        max_attempts: int | None,
        expected: frozenset[int],
        tracked: bool,
    ) -> Place:
        key = (operation, topic, subscription, max_attempts, expected, tracked)
        with self._lock:
            number = self._numbers.get(key)
            if number is None:
                number = len(self.all)
                at = self._at.setdefault((operation, topic, subscription), number)
                self.all.append(
                    Place(number, at, operation, topic, subscription, max_attempts, expected, tracked)
                )
                self._numbers[key] = number
            return self.all[number]

    def receive(self, topic: str | None, subscription: str | None, max_attempts: int | None) -> Place:
        """The place of a subscription."""
        return self._get(RECEIVE, topic, subscription, max_attempts, frozenset(), True)

    def expect(self, place: Place) -> None:
        """From now on, what is published to the topic is expected at this place."""
        with self._lock:
            before = self._receives.get(place.topic, frozenset())
            if place.at not in before:
                self._receives[place.topic] = before | {place.at}
                self.version += 1

    def publish(self, topic: str, *, only: str | None = None, tracked: bool = True) -> Place:
        """The place of a topic, as things stand; with `only`, of one of its subscriptions."""
        expected = self._receives.get(topic, frozenset())
        if only is not None:
            expected = frozenset(n for n in expected if self.all[n].subscription == only)
        return self._get(PUBLISH, topic, None, None, expected, tracked)

    def in_flight(self) -> list[str]:
        """The ids of the messages being received now."""
        return [message_id for place in self.all if place.in_flight for message_id in list(place.in_flight)]

    def restore(self, saved: list[dict[str, Any]]) -> None:
        """The places of a saved log, under the numbers they had."""
        for number, one in enumerate(saved):
            made = self._get(
                int(one["operation"]),
                one["topic"],
                one["subscription"],
                one["max_attempts"],
                frozenset(int(n) for n in one["expected"]),
                bool(one["tracked"]),
            )
            if made.number != number or not all(0 <= n < len(saved) for n in made.expected):
                raise ValueError(f"place {number} stands twice, or expects what is no place")
