"""MessageDetail: all that a log knows of one message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from msgviz.observing.columns import OUTCOMES, Columns
from msgviz.observing.failure import Failure
from msgviz.observing.places import OPERATIONS, Place


@dataclass(frozen=True, slots=True)
class Attempt:
    """One event of a message: its publish, or one time it was received."""

    event_id: int
    operation: str
    topic: str | None
    subscription: str | None
    attempt: int
    time: datetime
    duration: timedelta
    outcome: str
    error_type: str | None
    error: str | None
    traceback: str | None
    attributes: dict[str, list[str]]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class MessageDetail:
    """One message: what the application published, and each time it was published or received."""

    message_id: str
    topic: str | None
    state: str
    published: datetime | None
    latency: timedelta | None
    size: int
    parent_id: str | None
    conversation_id: str
    replay_of: str | None
    replays: list[str]
    children: list[str]
    attributes: dict[str, list[str]]
    body: bytes | None
    """None where it was not kept."""
    attempts: list[Attempt]


def positions(
    columns: Columns, column: str, value: str, first_event: int, most: int | None = None
) -> list[int]:
    """Where a value stands in a column of text, from an event on; with `most`, so many of them.

    The events of a message mostly lie close together, so it looks at a few rows first, and then at more.
    """
    whole = getattr(columns, column).whole()
    start = int(columns.event_id.view().searchsorted(first_event))
    found: list[int] = []
    rows = 1024
    while start < len(whole) and (most is None or len(found) < most):
        same = pc.equal(whole.slice(start, rows), pa.scalar(value, pa.large_string()))
        found += (pc.indices_nonzero(same).to_numpy() + start).tolist()
        start += rows
        rows *= 8
    return found


def attempts(columns: Columns, places: Sequence[Place], at: list[int]) -> list[Attempt]:
    """The events at these positions, in the order they began."""
    result = []
    for position in at:
        place = places[columns.place.view()[position]]
        failure: Failure | None = columns.failure.view()[position]
        values: dict[str, list[str]] = columns.attributes.view()[position]
        result.append(
            Attempt(
                event_id=int(columns.event_id.view()[position]),
                operation=OPERATIONS[place.operation],
                topic=place.topic,
                subscription=place.subscription,
                attempt=int(columns.attempt.view()[position]),
                time=pd.Timestamp(columns.time.view()[position], tz="UTC").to_pydatetime(warn=False),
                duration=pd.Timedelta(columns.duration.view()[position], "ns").to_pytimedelta(),
                outcome=OUTCOMES[columns.outcome.view()[position]],
                error_type=failure.error_type if failure else None,
                error=failure.error if failure else None,
                traceback=(failure.traceback or None) if failure else None,
                attributes={key: list(said) for key, said in values.items()},
                body=columns.body.view()[position],
            )
        )
    return sorted(result, key=lambda attempt: (attempt.time, attempt.event_id))
