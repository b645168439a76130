"""Messages as Kafka's records: attributes as headers, and what a retry says beside them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from msgviz.attributes import Attributes, Values
from msgviz.message import Message, wrap

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

ATTEMPT = "Msgviz-Attempt"
"""The header of a record in a retry topic with the number of the attempt that comes."""
NOT_BEFORE = "Msgviz-Not-Before"
"""The header of a record in a retry topic with the time from which it may be delivered, in ms since 1970."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def check_kafka_name(name: str, what: str = "topic") -> str:
    """A name that Kafka takes for a topic; `ValueError` with its rule for one that it does not."""
    if _NAME.fullmatch(name) is None or name in (".", ".."):
        raise ValueError(
            f"kafka: the name of a {what} has letters, digits, '.', '_' and '-' only, not {name!r}"
        )
    if len(name) > 249:
        raise ValueError(f"kafka: the name of a topic has at most 249 characters, not {len(name)}: {name!r}")
    return name


def to_headers(values: Values) -> list[tuple[str, bytes | None]]:
    """Attributes as headers, one for each value; `ValueError` for what is no Unicode text."""
    headers: list[tuple[str, bytes | None]] = []
    try:
        for key, value in values.items():
            key.encode()
            if isinstance(value, str):
                headers.append((key, value.encode()))
            else:
                headers.extend((key, one.encode()) for one in value)
    except UnicodeEncodeError as error:
        raise ValueError(f"kafka: an attribute is text that UTF-8 can write: {error}") from error
    return headers


def text(raw: bytes | None) -> str:
    """What a header says: UTF-8, or else one character for each byte; empty where it has no value."""
    if raw is None:
        return ""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def to_message(record: Any, headers: Headers, key: str | None) -> Message:
    """A record as a message. Its key becomes the attribute `key`, unless there is one already."""
    attributes = Attributes()
    for name, raw in headers:
        attributes.add(name, text(raw))
    if key is not None and record.key is not None and key not in attributes:
        attributes[key] = text(record.key)
    return wrap(record.value or b"", attributes.freeze())


def retry_headers(headers: Headers, attempt: int, delay: float) -> list[tuple[str, bytes | None]]:
    """The headers of a record in a retry topic."""
    due = time.time() + delay
    return [*headers, (ATTEMPT, b"%d" % attempt), (NOT_BEFORE, b"%d" % (due * 1000))]


def read_retry(headers: Headers) -> tuple[Headers, int, float]:
    """The headers as they were, the number of the attempt, and when it is due, in seconds since 1970.

    Only what stands last is read, because a message may have attributes of these names.
    """
    found = {ATTEMPT: 1, NOT_BEFORE: 0}
    left = list(headers)
    for name in (NOT_BEFORE, ATTEMPT):
        if left and left[-1][0] == name:
            raw = left[-1][1] or b""
            if not (raw.isdigit() and len(raw) < 16):
                break
            found[name] = int(raw)
            left.pop()
    return left, max(found[ATTEMPT], 1), found[NOT_BEFORE] / 1000


def size(body: bytes, key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """No less than the bytes a record takes, alone in its batch."""
    return (
        len(body)
        + len(key or b"")
        + sum(len(name.encode()) + len(raw or b"") + 10 for name, raw in headers)
        + 128
    )
