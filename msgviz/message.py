"""Message: a body and its attributes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from msgviz import html
from msgviz.attributes import Attributes, AttributesLike, Values


@dataclass(frozen=True, slots=True)
class Source:
    """Where a message was delivered from, and how often it may be.

    `max_attempts` is None where the system never gives up on a message.
    """

    topic: str
    subscription: str
    max_attempts: int | None = None

    def __str__(self) -> str:
        return f"{self.topic}/{self.subscription}"


class Message:
    """A discrete message: a `body` of bytes and its `attributes`. Source: go-msg's ``Message``.

    `attempt` is the number of this delivery, 1 for the first. `source` tells where the message was
    delivered from; it is None for one that was not delivered. Reading a body never drains it.
    """

    __slots__ = ("_attributes", "_values", "attempt", "body", "made_from", "source", "tag")

    body: bytes
    attempt: int
    source: Source | None
    tag: str | None
    """What tells this message from others where no attribute may be used; the same on every attempt."""

    made_from: Message
    """The message that `with_body` made this one from, and only then: a tag given here is for both."""

    # The attributes it came with, frozen. An Attributes object around them is made when somebody asks
    # for one: most messages pass through most layers without anybody doing so.
    _values: Values
    _attributes: Attributes | None

    def __init__(self, body: bytes, attributes: AttributesLike | None = None) -> None:
        self.body = body if isinstance(body, bytes) else as_bytes(body)
        self._values = {} if attributes is None else Attributes(attributes).freeze()
        self._attributes = None
        self.attempt = 1
        self.source = None
        self.tag = None

    @property
    def attributes(self) -> Attributes:
        """The attributes; a change of them is a change of this message alone."""
        attributes = self._attributes
        if attributes is None:
            attributes = self._attributes = Attributes.from_frozen(self._values)
        return attributes

    @attributes.setter
    def attributes(self, attributes: AttributesLike) -> None:
        self._attributes = Attributes(attributes)

    def freeze(self) -> Values:
        """The attributes as they are now, as values that nobody may change any more."""
        if self._attributes is not None:
            self._values = self._attributes.freeze()
        return self._values

    @property
    def text(self) -> str:
        """The body decoded as UTF-8; `UnicodeDecodeError` where it is not."""
        return self.body.decode("utf-8")

    def json(self) -> Any:
        """The body parsed as JSON; `ValueError` (`json.JSONDecodeError`) where it is not."""
        return json.loads(self.body)

    def with_body(self, body: bytes) -> Message:
        """This message with another body and its own copy of the attributes."""
        other = wrap(body if isinstance(body, bytes) else as_bytes(body), self.freeze())
        other.attempt = self.attempt
        other.source = self.source
        other.tag = self.tag
        other.made_from = self
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.body == other.body and self.attributes == other.attributes

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        body = repr(self.body) if len(self.body) <= 60 else f"{self.body[:60]!r}… ({len(self.body)} bytes)"
        attempt = f", attempt={self.attempt}" if self.attempt != 1 else ""
        return f"Message({body}, {self.attributes!r}{attempt})"

    def _repr_html_(self) -> str:
        rows = [(key, html.code(", ".join(values))) for key, values in self.attributes.to_dict().items()]
        return html.card(
            f"Message, {html.size(len(self.body))}, attempt {self.attempt}",
            html.table(("attribute", "value"), rows) if rows else html.quiet("no attributes"),
            html.block(preview(self.body, 4000)),
        )


_new = object.__new__


def wrap(body: bytes, values: Values) -> Message:
    """A message around a body and frozen attributes, neither checked nor copied: for inner layers."""
    message = _new(Message)
    message.body = body
    message._values = values
    message._attributes = None
    message.attempt = 1
    message.source = None
    message.tag = None
    return message


def as_bytes(body: object) -> bytes:
    """A body as bytes; `TypeError` for what is not bytes-like, with what to do instead."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    hint = " (encode it: text.encode())" if isinstance(body, str) else ""
    raise TypeError(f"a body is bytes, not {type(body).__name__}{hint}")


def _printable(text: str) -> bool:
    return all(c.isprintable() or c in "\t\r\n" for c in text)


def preview(body: bytes, limit: int = 200) -> str:
    """A body for a person to read: indented JSON, text, or a hex dump; at most `limit` bytes of it."""
    cut = body[:limit]
    more = f"… {len(body) - limit} bytes more" if len(body) > limit else ""
    try:
        if not more and body.lstrip()[:1] in (b"{", b"["):
            value = json.loads(body)
            pretty = json.dumps(value, indent=2, ensure_ascii=False)
            if not _printable(pretty):
                pretty = json.dumps(value, indent=2)
            if len(pretty) <= 16 * limit:  # deep nesting would be mostly indentation
                return pretty
    except (ValueError, RecursionError):
        pass
    try:
        # a cut may fall inside a character: at most three bytes of it are left over
        text = cut.decode("utf-8", "strict" if not more else "ignore")
    except UnicodeDecodeError:
        text = ""
    if (text or not cut) and _printable(text):
        return text + more
    lines = [cut[i : i + 16] for i in range(0, len(cut), 16)]
    dump = "\n".join(
        f"{i * 16:06x}  {line.hex(' '):<47}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in line)}"
        for i, line in enumerate(lines)
    )
    return dump + ("\n" + more if more else "")
