"""gzip: a smaller body, in the format of RFC 1952. ``Content-Encoding: gzip``.

As HTTP names it (RFC 9110); go-msg has none. The same body at the same level gives the same bytes: no
time and no name is written. Only a message that carries the attribute is decoded. A system that carries
no binary wants base64 after it.
"""

from __future__ import annotations

import struct
import zlib

from msgviz.decorators._coding import outermost, pop, push
from msgviz.decorators._limits import whole
from msgviz.errors import DecodeError
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

_KEY = "Content-Encoding"
_CODING = "gzip"
_LARGEST = 256 * 1024 * 1024
_RAW, _MEMBER = -zlib.MAX_WBITS, 16 + zlib.MAX_WBITS  # what zlib calls the two formats
_EFFORT = {1: 4, 9: 2}  # the header's XFL: the fastest, the smallest
_UNKNOWN_SYSTEM = 255


def encoder(topic: Topic, *, level: int = 6) -> Topic:
    """A topic that compresses every body; `level` is 0 (not at all), 1 (fast) to 9 (small)."""
    return Encoder(topic, level=level)


def decoder(receiver: Receiver, *, max_size: int = _LARGEST) -> Receiver:
    """A receiver that decompresses every body that is compressed.

    `DecodeError` for a body that is not gzip, is damaged or cut short, has anything after its end, or
    would be larger than `max_size` bytes: a few kilobytes can unfold into gigabytes.
    """
    return Decoder(receiver, max_size=max_size)


class Encoder(TopicDecorator):
    """Compresses on the way out."""

    layer = "gzip"

    def __init__(self, next: Topic, *, level: int = 6) -> None:
        super().__init__(next)
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"level is a whole number, not {level!r}")
        if not 0 <= level <= 9:
            raise ValueError(f"a gzip level is 0 (not at all), 1 (fast) to 9 (small), not {level!r}")
        self.level = level

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, compressed."""
        body = encode(message.body, self.level)
        await self.next.send(push(message, _KEY, _CODING, body), delay)


class Decoder(ReceiverDecorator):
    """Decompresses on the way in."""

    layer = "gzip"

    def __init__(self, next: Receiver, *, max_size: int = _LARGEST) -> None:
        super().__init__(next)
        self.max_size = whole(max_size, "max_size")

    async def __call__(self, message: Message) -> None:
        """Hand the message on, decompressed."""
        if outermost(message, _KEY) == _CODING:
            message = pop(message, _KEY, decode(message.body, self.max_size))
        await self.receive(message)


def encode(body: bytes, level: int = 6) -> bytes:
    """One gzip member. Its header is the same on every system and Python, which that of `gzip` is not."""
    header = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 0, 0, _EFFORT.get(level, 0), _UNKNOWN_SYSTEM)
    packed = zlib.compress(body, level, _RAW)
    return b"%b%b%b" % (header, packed, struct.pack("<2I", zlib.crc32(body), len(body) & 0xFFFFFFFF))


def decode(body: bytes, max_size: int = _LARGEST) -> bytes:
    """The bytes behind one or several gzip members; `DecodeError` where they are none, cut or too large."""
    parts: list[bytes] = []
    size = 0
    rest = body
    while True:
        member = zlib.decompressobj(_MEMBER)
        try:
            part = member.decompress(rest, max_size - size + 1)
        except zlib.error as error:
            raise DecodeError(
                "gzip", f"the body says it is gzip, but is damaged, or no gzip: {error}"
            ) from error
        parts.append(part)
        size += len(part)
        if size > max_size:
            raise DecodeError("gzip", f"the body would unfold to more than {max_size} bytes")
        if not member.eof:
            raise DecodeError("gzip", "the body says it is gzip, but is cut short")
        rest = member.unused_data
        if not rest:
            return b"".join(parts)
