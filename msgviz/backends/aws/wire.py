"""Messages as they travel through SNS and SQS, as go-aws-msg writes and reads them.

A body is base64, and says so in ``Content-Transfer-Encoding: base64``; attributes are Strings, several
values of one key joined by a comma. What AWS cannot carry so travels, as JSON, in one attribute more,
``Msgviz-Attributes``: keys and values of other characters, empty values, several values one by one, and
what is beyond the 10 attributes that AWS allows. An empty body, which AWS refuses, is ``-`` with
``Msgviz-Body: empty``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgviz.attributes import Attributes, Values
from msgviz.decorators.base64 import decode as decode_base64
from msgviz.decorators.base64 import encode as encode_base64
from msgviz.errors import DecodeError, Unsupported

MAX_ATTRIBUTES = 10
SNS_LIMIT = 256 * 1024
SQS_LIMIT = 1024 * 1024

_CODING = "Content-Transfer-Encoding"
_EXTRA = "Msgviz-Attributes"
_BODY = "Msgviz-Body"
_OURS = ("Dead-Letter-", "Msgviz-")
_TYPE = "String"
_ROOM = 64  # the part of a largest message that is left to attributes, and in a request to what is around it

_NAME = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


class TooLarge(ValueError):
    """A message is larger, as sent, than the system takes."""


class Packed(NamedTuple):
    """A message to send: `attributes` in the form both services take."""

    body: str
    attributes: dict[str, dict[str, str]]


def largest_body(limit: int, *, base64: bool) -> int:
    """The most bytes a body may have where all of a message has at most `limit`, beside some attributes."""
    room = limit - limit // _ROOM
    return (room - _size(_CODING, "base64")) // 4 * 3 if base64 else room


def application_attributes(values: Values) -> Values:
    """The attributes that count as the application's; ours find room beside ten of them."""
    return {key: value for key, value in values.items() if not key.startswith(_OURS)}


def pack(backend: str, body: bytes, values: Values, *, base64: bool, limit: int) -> Packed:
    """A message as it is sent; `TooLarge` beyond `limit` bytes, `Unsupported` for a body that is no text."""
    text = _text(body)
    if text is None and not base64:
        raise Unsupported(
            backend, "with base64=False a body is UTF-8 text, and of the characters XML 1.0 allows"
        )
    packed = _pack(text, body, values, base64=base64)
    size = _size_of(packed)
    if size > limit and base64 and text:  # a foreign message that came as text goes on as such
        packed = _pack(text, body, values, base64=False, mark=True)
        size = min(size, _size_of(packed))
    if size > limit:
        raise TooLarge(
            f"{backend}: body and attributes have at most {limit} bytes as they are sent"
            f"{' (in base64)' if base64 else ''}, not {size}: send a reference to where it is kept instead"
        )
    return packed


def _pack(text: str | None, body: bytes, values: Values, *, base64: bool, mark: bool = False) -> Packed:
    fixed: dict[str, str] = {}
    if not body:
        fixed[_BODY], wire = "empty", "-"
    elif base64 or text is None:
        fixed[_CODING], wire = "base64", encode_base64(body).decode("ascii")
    else:
        wire = text
        if not values and _envelope(text) is not None:  # it shall not be taken for one
            fixed[_BODY] = "text"
    native: dict[str, str] = {}
    extra: dict[str, str | tuple[str, ...]] = {}
    for key, value in values.items():
        joined = value if isinstance(value, str) else ",".join(value)
        hidden = key in (_EXTRA, _BODY) or (key == _CODING and (base64 or mark))
        if hidden or not _carried(key, joined):
            extra[key] = value
            continue
        native[key] = joined
        if joined is not value:
            extra[key] = value
    # Ours are the first to make room, then the last of the application's.
    movable = sorted(native, key=lambda key: key.startswith(_OURS))
    while len(native) + len(fixed) + bool(extra) > MAX_ATTRIBUTES:
        key = movable.pop()
        extra.setdefault(key, values[key])
        del native[key]
    if extra:
        fixed[_EXTRA] = json.dumps(extra, separators=(",", ":"))
    return Packed(
        wire,
        {key: {"DataType": _TYPE, "StringValue": value} for key, value in (native | fixed).items()},
    )


def unpack(raw: Mapping[str, Any], *, base64: bool) -> tuple[bytes, Attributes]:
    """Body and attributes of a message as SQS gave it, delivered raw or in an SNS envelope; never fails."""
    text = str(raw.get("Body", ""))
    named = {str(key): _value(value) for key, value in (raw.get("MessageAttributes") or {}).items()}
    if not named and (inner := _envelope(text)) is not None:
        text, named = inner
    extra = named.get(_EXTRA)
    hidden = None if extra is None else _read_extra(extra)
    if hidden is not None:
        del named[_EXTRA]
    state = named.get(_BODY)
    body = text.encode("utf-8", "surrogatepass")
    if state == "empty":
        body = b""
    if state in ("empty", "text"):
        del named[_BODY]
    attributes = Attributes(named)
    if base64 and attributes.get(_CODING) == "base64":
        try:
            body = decode_base64(body)
        except DecodeError:  # it says so, but is not: the receiver gets what there is
            pass
        else:
            attributes.set_all(_CODING, attributes.get_all(_CODING)[1:])
    if hidden is not None:
        attributes.update(hidden)
    return body, attributes


def _text(body: bytes) -> str | None:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if not text or _TEXT.fullmatch(text) else None


def _carried(key: str, value: str) -> bool:
    return len(key) <= 256 and _NAME.fullmatch(key) is not None and _TEXT.fullmatch(value) is not None


def _size(key: str, value: str) -> int:
    return len(key.encode()) + len(_TYPE) + len(value.encode())


def _size_of(packed: Packed) -> int:
    return len(packed.body.encode()) + sum(_size(k, v["StringValue"]) for k, v in packed.attributes.items())


def _value(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if (text := value.get("StringValue")) is not None:
        return str(text)
    binary = bytes(value.get("BinaryValue") or b"")
    try:
        return binary.decode("utf-8")
    except UnicodeDecodeError:
        return str(encode_base64(binary), "ascii")


def _envelope(text: str) -> tuple[str, dict[str, str]] | None:
    """What an SNS notification holds; None for any other text."""
    if '"Notification"' not in text or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("Type") != "Notification" or "TopicArn" not in found:
        return None
    message, attributes = found.get("Message"), found.get("MessageAttributes") or {}
    if not isinstance(message, str) or not isinstance(attributes, dict):
        return None
    return message, {
        key: str(value.get("Value", "")) for key, value in attributes.items() if isinstance(value, dict)
    }


def _read_extra(text: str) -> dict[str, list[str]] | None:
    """The attributes of a ``Msgviz-Attributes``; None where it is not as we write it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    read = {}
    for key, value in found.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            return None
        read[key] = values
    return read
