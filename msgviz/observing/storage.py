"""A saved log: one Parquet file, with a format version.

The columns are those of `MessageLog.events`, with the attributes as JSON and a `traceback`; what a frame
does not show (the places, what was dropped) is JSON in the file's own metadata. One more column, `layers`,
has what the layers made of the messages, where that was observed: see `ledger_storage`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from msgviz.attributes import Attributes, FrozenAttributes
from msgviz.errors import LogFileError
from msgviz.observing import ledger_storage
from msgviz.observing.columns import OUTCOMES, Columns
from msgviz.observing.failure import Failure
from msgviz.observing.ledger import Ledger
from msgviz.observing.places import Places

FORMAT = 1
_KEY = b"msgviz"

_NUMBERS = ("event_id", "time", "place", "attempt", "outcome", "duration", "size")
_TEXTS = ("message_id", "parent_id", "conversation_id", "replay_of", "error_type", "error")
_NEVER_NULL = (*_NUMBERS, "message_id", "conversation_id", "attributes")
_SCHEMA = pa.schema(
    {
        "event_id": pa.int64(),
        "time": pa.timestamp("ns", "UTC"),
        "place": pa.int32(),
        "attempt": pa.int32(),
        "outcome": pa.int8(),
        "duration": pa.duration("ns"),
        "size": pa.int64(),
        **dict.fromkeys((*_TEXTS, "attributes"), pa.large_string()),
        "body": pa.large_binary(),
        "traceback": pa.large_string(),
        "given_back": pa.bool_(),
    }
)


_DAMAGE = (
    pa.ArrowException, ValueError, KeyError, TypeError, IndexError,
    OverflowError,  # numbers beyond all bounds
    RecursionError,  # JSON that is nested without end
)  # fmt: skip


def save(
    path: str | os.PathLike[str], columns: Columns, places: Places, ledger: Ledger, extra: dict[str, Any]
) -> None:
    """Write a log. The file appears whole, or not at all."""
    fields: dict[str, Any] = {name: pa.array(getattr(columns, name).view()) for name in _NUMBERS}
    fields |= {name: getattr(columns, name).whole() for name in _TEXTS}
    fields["time"] = fields["time"].cast(pa.timestamp("ns", "UTC"))
    fields["duration"] = fields["duration"].cast(pa.duration("ns"))
    fields["attributes"] = pa.array(
        [json.dumps(a) for a in columns.attributes.view().tolist()], pa.large_string()
    )
    fields["body"] = pa.array(columns.body.view().tolist(), pa.large_binary())
    failures: list[Failure | None] = columns.failure.view().tolist()
    fields["traceback"] = pa.array([f.stack if f else None for f in failures], pa.large_string())
    fields["given_back"] = pa.array([bool(f and f.given_back) for f in failures])
    head = {"format": FORMAT, "places": [place.to_json() for place in places.all], **extra}
    head |= ledger_storage.pack(ledger, columns, places, fields)
    table = pa.table(fields).replace_schema_metadata({_KEY: json.dumps(head).encode()})
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    try:
        pq.write_table(table, part, compression="zstd")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], columns: Columns, places: Places, ledger: Ledger) -> dict[str, Any]:
    """Read a log into empty columns, places and an empty ledger; gives what else was saved.

    `LogFileError` for a file that is not a saved log, is damaged, or has a newer format.
    """
    name = os.fspath(path)
    try:
        # Not read_table: it would take the directory's name for a column, and a directory for a file.
        with pq.ParquetFile(name) as file:
            table = file.read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LogFileError(
            f"{name} cannot be read: it is no Parquet file, or it is damaged ({error})"
        ) from error
    raw = (table.schema.metadata or {}).get(_KEY)
    if raw is None:
        raise LogFileError(f"{name} is a Parquet file, but not one that MessageLog.save wrote")
    try:
        head: dict[str, Any] = json.loads(raw)
        version = head["format"]
        if isinstance(version, int) and version > FORMAT:
            raise LogFileError(
                f"{name} has format {version}, and this msgviz reads up to {FORMAT}: "
                "update msgviz to read it (pip install -U msgviz)"
            )
        if version != FORMAT:
            raise ValueError(f"format {version!r}")
        places.restore(head["places"])
        _fill(columns, table, len(places.all))
        ledger_storage.unpack(ledger, head, table)
    except LogFileError:
        raise
    except _DAMAGE as error:
        raise LogFileError(f"{name} is a saved log, but damaged: {type(error).__name__}: {error}") from error
    return head


def _fill(columns: Columns, table: pa.Table, places: int) -> None:
    table = table.select(_SCHEMA.names).cast(_SCHEMA)
    table.validate(full=True)  # that its text is UTF-8, among others
    for name in _NEVER_NULL:
        if table[name].null_count:
            raise ValueError(f"an event without its {name}")
    table = table.set_column(
        table.column_names.index("time"), "time", table["time"].cast(pa.int64())
    ).set_column(table.column_names.index("duration"), "duration", table["duration"].cast(pa.int64()))
    for name in _NUMBERS:
        getattr(columns, name).extend(table[name].to_numpy())
    place, outcome = columns.place.view(), columns.outcome.view()
    if len(place) and not (place.min() >= 0 and place.max() < places):
        raise ValueError("an event happened at a place the file does not name")
    if len(outcome) and not (outcome.min() >= 0 and outcome.max() < len(OUTCOMES)):
        raise ValueError("an event has an outcome this format does not know")
    if (np.diff(columns.event_id.view()) <= 0).any():
        raise ValueError("the event ids do not count up")
    for name in _TEXTS:
        getattr(columns, name).extend(table[name].cast(pa.large_string()).combine_chunks())
    columns.attributes.extend(_objects([_attributes(a) for a in table["attributes"].to_pylist()]))
    columns.body.extend(_objects(table["body"].to_pylist()))
    errors = zip(
        outcome.tolist(),
        table["error_type"].to_pylist(),
        table["error"].to_pylist(),
        table["traceback"].to_pylist(),
        table["given_back"].to_pylist(),
        strict=True,
    )
    columns.failure.extend(
        _objects(
            [
                Failure(OUTCOMES[code], kind or "", text or "", stack or "", bool(back)) if code else None
                for code, kind, text, stack, back in errors
            ]
        )
    )


def _attributes(saved: str) -> FrozenAttributes:
    return FrozenAttributes(Attributes(json.loads(saved)).freeze())  # type: ignore[arg-type]


def _objects(items: list[Any]) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array
