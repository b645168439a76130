"""What the encoding decorators share: how a coding is written into, and read from, an attribute."""

from __future__ import annotations

from msgviz.message import Message


def push(message: Message, key: str, coding: str, body: bytes) -> Message:
    """The message with an encoded body, and the coding as the first value of the attribute.

    The outermost coding comes first, where go-msg's decoders look for it; a value the application had
    set itself comes after, and is back in its place when the body is decoded.
    """
    attributes = message.attributes
    attributes.set_all(key, (coding, *attributes.get_all(key)))
    return message.with_body(body)


def outermost(message: Message, key: str) -> str | None:
    """The coding that was applied last."""
    return message.attributes.get(key)


def pop(message: Message, key: str, body: bytes) -> Message:
    """The message with its decoded body, and without the coding that `push` wrote."""
    decoded = message.with_body(body)
    decoded.attributes.set_all(key, message.attributes.get_all(key)[1:])
    return decoded
