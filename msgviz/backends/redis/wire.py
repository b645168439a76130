"""What a message looks like as an entry of a stream.

An entry is a list of field-value pairs, of any bytes, and a field may repeat. The body is the field
``body``; each value of an attribute is a pair of its own. A canonical attribute key never is a lower-case
word, so ``body`` and the fields of our own never clash with one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from msgviz.attributes import Values, canonical_key

ATTEMPT = b"msgviz-attempt"
"""The field that says which attempt an entry is that was moved after a failed one."""
ATTRIBUTES = b"msgviz-attributes"
"""The field with all attributes as JSON, where they cannot be fields."""
FOREIGN = "Redis-Field"
"""The attribute that names the one field of an entry that has no body."""
MOST_FIELDS = 1000  # a script can pass on some thousands of arguments at most
_MOST_ATTEMPTS = 1_000_000_000


class Entry(NamedTuple):
    """A message as it was read, and which attempt the entry began with."""

    body: bytes
    values: Values
    attempt: int


def encode(text: str) -> bytes:
    """A key or value as bytes; a lone surrogate, which has no UTF-8, as if it had."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """The key or value that bytes are; bytes that are no text become lone surrogates."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


def to_fields(body: bytes, values: Values, body_field: str, attempt: int = 1) -> list[bytes]:
    """The fields and values of an entry, one behind the other."""
    fields = [encode(body_field), body]
    count = sum(1 if isinstance(value, str) else len(value) for value in values.values())
    if count > MOST_FIELDS or body_field in values:
        fields += ATTRIBUTES, json.dumps(values).encode()
    else:
        for key, value in values.items():
            name = encode(key)
            for one in (value,) if isinstance(value, str) else value:
                fields += name, encode(one)
    if attempt > 1:
        fields += ATTEMPT, b"%d" % attempt
    return fields


def from_fields(fields: Sequence[bytes], body_field: str) -> Entry:
    """The message of an entry, whoever made it; no entry is refused.

    Without a body field, the value of an only field is the body, and several become a JSON object.
    """
    body_name = encode(body_field)
    body: bytes | None = None
    attempt = 1
    found: dict[str, list[str]] = {}
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    for name, value in pairs:
        if name == body_name and body is None:
            body = value
        elif name == ATTEMPT:
            if value.isdigit() and len(value) < 10:
                attempt = min(max(int(value), 1), _MOST_ATTEMPTS)
        elif name != ATTRIBUTES or not _add_json(found, value):
            found.setdefault(canonical_key(decode(name)), []).append(decode(value))
    if body is None:
        return _foreign([pair for pair in pairs if pair[0] != ATTEMPT], attempt)
    return Entry(body, _values(found), attempt)


def _add_json(found: dict[str, list[str]], data: bytes) -> bool:
    """Add attributes that are JSON; false where it is not ours."""
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(read, dict):
        return False
    lists = [[value] if isinstance(value, str) else value for value in read.values()]
    if not all(isinstance(value, list) and all(isinstance(v, str) for v in value) for value in lists):
        return False
    for key, several in zip(read, lists, strict=True):
        if several:
            found.setdefault(canonical_key(key), []).extend(several)
    return True


def _foreign(pairs: Sequence[tuple[bytes, bytes]], attempt: int) -> Entry:
    if len(pairs) == 1:
        name, value = pairs[0]
        return Entry(value, {FOREIGN: decode(name)}, attempt)
    texts: dict[str, str | list[str]] = {}
    for name, value in pairs:
        key, text = decode(name), decode(value)
        there = texts.get(key)
        if there is None:
            texts[key] = text
        elif isinstance(there, list):
            there.append(text)
        else:
            texts[key] = [there, text]
    return Entry(json.dumps(texts).encode(), {}, attempt)


def _values(found: dict[str, list[str]]) -> Values:
    return {key: several[0] if len(several) == 1 else tuple(several) for key, several in found.items()}
