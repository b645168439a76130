"""Attributes as NATS headers, and back.

An attribute with one printable value is a header of its own, which every client reads. The rest, several
values of a key, odd keys and values, and names that the server takes for its own, go into one more header,
as JSON: ``Msgviz-Attributes: {"Key": ["a", "b"]}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client as NatsClient

from msgviz.attributes import Attributes, Values

MESSAGE_ID = "Nats-Msg-Id"
SCHEDULE = "Nats-Schedule"
TARGET = "Nats-Schedule-Target"
ATTRIBUTES = "Msgviz-Attributes"
TRIED = "Msgviz-Tried"
"""On a message that was put back: how many attempts it had before."""

LARGEST = 65535  # a stream refuses more
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OURS = frozenset({"status", "description", ATTRIBUTES.lower(), TRIED.lower()})  # the first two: nats-py's


def encode(values: Values) -> dict[str, str]:
    """The headers for these attributes."""
    headers: dict[str, str] = {}
    rest: dict[str, list[str]] = {}
    for key, value in values.items():
        if isinstance(value, str) and _fits(key, value):
            headers[key] = value
        else:
            rest[key] = [value] if isinstance(value, str) else list(value)
    if rest:
        headers[ATTRIBUTES] = json.dumps(rest, separators=(",", ":"))
    return headers


def _fits(key: str, value: str) -> bool:
    return (
        value.isprintable()
        and value == value.strip()
        and _TOKEN.fullmatch(key) is not None
        and not _is_ours(key)
    )


def _is_ours(key: str) -> bool:
    low = key.lower()
    return low.startswith("nats-") or low in _OURS


def decode(headers: Mapping[str, str] | None) -> Values:
    """The attributes of these headers; without those by which the server does its work."""
    if not headers:
        return {}
    attributes = Attributes()
    several = headers.several if isinstance(headers, Headers) else {}
    for key, value in headers.items():
        if not _is_ours(key):
            for one in several.get(key, (value,)):
                attributes.add(key, one)
    packed = headers.get(ATTRIBUTES)
    if packed is not None:
        try:
            for key, values in Attributes(json.loads(packed)).to_dict().items():
                attributes.set_all(key, values)
        except (ValueError, TypeError, RecursionError):  # not from here: delivered as it stands
            attributes[ATTRIBUTES] = packed
    return attributes.freeze()


def tried(headers: Mapping[str, str] | None) -> int:
    """How many attempts a message had before it was put back; 0 for one that was not."""
    text = (headers or {}).get(TRIED, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0


def size(headers: Mapping[str, str]) -> int:
    """The bytes that these headers take in a message."""
    if not headers:
        return 0
    return len(b"NATS/1.0\r\n\r\n") + sum(len(k.encode()) + len(v.encode()) + 4 for k, v in headers.items())


class Headers(dict[str, str]):
    """Headers as they came; `several` has the values of those that came more than once."""

    several: dict[str, list[str]]


class Client(NatsClient):
    """nats-py's client, which keeps the last only of several values of a header: here they are kept."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        last: dict[str, str] = NatsClient._parse_header_lines(raw)
        lines = [line for line in bytes(raw).split(b"\r\n") if line]
        if len(lines) <= len(last):
            return last
        headers = Headers(last)
        headers.several = {}
        for line in lines:
            one: Any = NatsClient._parse_header_lines(line)
            for key, value in one.items():
                headers.several.setdefault(key, []).append(value)
        return headers
