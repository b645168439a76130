"""Rows of `log.events` as the browser takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_PREVIEW = 200  # bytes of a body, or characters of an error, that a row shows
_NULLABLE = ("subscription", "error_type", "error")
_COLUMNS = ("operation", "topic", "message_id", "attempt", "outcome", "size", "body", *_NULLABLE)


def rows_content(
    ids: NDArray[np.int64], events: pd.DataFrame, selection: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return one dict per id; for an event that is not in the frame (the log dropped it) only its id.

    `events` is a part of `log.events`, `ids` and `selection` are ascending.
    """
    places = np.searchsorted(events.index.to_numpy(), ids)
    there = places < len(events)
    there[there] = events.index.to_numpy()[places[there]] == ids[there]
    places = places[there]
    if len(places):
        # Taking rows out of a slice is cheap; out of a million, text columns are copied.
        events = events.iloc[places[0] : places[-1] + 1]
        places = places - places[0]
    found = events if len(places) == len(events) else events.iloc[places]
    columns = {name: found[name].tolist() for name in _COLUMNS}
    columns["time"] = (found["time"].to_numpy("M8[us]").astype(np.int64) / 1000).tolist()
    columns["duration"] = (found["duration"].to_numpy("m8[ns]").astype(np.int64) / 1e9).tolist()
    columns["body"] = [preview(body) for body in columns["body"]]
    rows: dict[int, dict[str, Any]] = {}
    for event_id, *values in zip(found.index.tolist(), *columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        for name in _NULLABLE:
            if not isinstance(row[name], str):
                del row[name]
        if "error" in row:
            row["error"] = row["error"][:_PREVIEW]
        rows[event_id] = {**row, "event_id": event_id}
    selected = set(ids[np.isin(ids, selection)].tolist())
    return [{**rows.get(i, {"event_id": i}), "selected": i in selected} for i in ids.tolist()]


def preview(body: bytes | None) -> str | None:
    """Return the beginning of a body in one line: text, or its bytes in hex; None for one not kept."""
    if body is None:
        return None
    start = body[:_PREVIEW]
    # A cut may fall inside a character: at most three bytes of it are left over.
    for end in range(len(start), max(len(start) - 4, -1), -1):
        try:
            text = start[:end].decode()
        except UnicodeDecodeError:
            if len(body) <= _PREVIEW:
                break
            continue
        if all(character.isprintable() or character.isspace() for character in text):
            return " ".join(text.split())
        break
    return start[:64].hex(" ")
