"""base64: a body as text, for systems that carry no binary. ``Content-Transfer-Encoding: base64``.

On the wire as go-msg's ``decorators/base64``: the standard alphabet of RFC 4648, padded, no line breaks
written, line breaks accepted. Only a message that carries the attribute is decoded.
"""

from __future__ import annotations

import binascii

from msgviz.decorators._coding import outermost, pop, push
from msgviz.errors import DecodeError
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

try:
    from pybase64 import b64decode, b64encode
except ImportError:  # 4 to 40 times as slow, and the same
    from base64 import b64decode, b64encode  # type: ignore[assignment]

_KEY = "Content-Transfer-Encoding"
_CODING = "base64"


def encoder(topic: Topic) -> Topic:
    """A topic that encodes every body."""
    return Encoder(topic)


def decoder(receiver: Receiver) -> Receiver:
    """A receiver that decodes every body that is encoded; `DecodeError` for one that is not base64."""
    return Decoder(receiver)


class Encoder(TopicDecorator):
    """Encodes on the way out."""

    layer = "base64"

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, encoded."""
        await self.next.send(push(message, _KEY, _CODING, encode(message.body)), delay)


class Decoder(ReceiverDecorator):
    """Decodes on the way in."""

    layer = "base64"

    async def __call__(self, message: Message) -> None:
        """Hand the message on, decoded."""
        if outermost(message, _KEY) == _CODING:
            message = pop(message, _KEY, decode(message.body))
        await self.receive(message)


def encode(body: bytes) -> bytes:
    """The base64 of some bytes, in one line."""
    encoded: bytes = b64encode(body)
    return encoded


def decode(body: bytes) -> bytes:
    """The bytes behind base64; `DecodeError` where it is not."""
    plain = body.translate(None, b"\r\n")
    try:
        if len(plain) % 4 or plain.endswith(
            b"==="
        ):  # the standard library lets a surplus = pass, pybase64 and Go do not
            raise binascii.Error("Incorrect padding")
        return b64decode(plain, validate=True)
    except binascii.Error as error:
        raise DecodeError(
            "base64", f"the body says it is base64, but {_said(error)}: {body[:40]!r}"
        ) from error


def _said(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:].rstrip(".")
