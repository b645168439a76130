"""gzip: a smaller body, in the format of RFC 1952. ``Content-Encoding: gzip``.

As HTTP names it (RFC 9110); go-msg has none. The same body at the same level gives the same bytes: no
time and no name is written. Only a message that carries the attribute is decoded. A system that carries
no binary wants base64 after it.
"""

from __future__ import annotations

import struct
import zlib

from msgviz.decorators._compression import LARGEST, Compressor, Decompressor, Unfolded
from msgviz.errors import DecodeError
from msgviz.receiver import Receiver
from msgviz.topic import Topic

_RAW, _MEMBER = -zlib.MAX_WBITS, 16 + zlib.MAX_WBITS  # what zlib calls the two formats
_EFFORT = {1: 4, 9: 2}  # the header's XFL: the fastest, the smallest
_UNKNOWN_SYSTEM = 255


def encoder(topic: Topic, *, level: int = 6) -> Topic:
    """A topic that compresses every body; `level` is 0 (not at all), 1 (fast) to 9 (small)."""
    return Encoder(topic, level=level)


def decoder(receiver: Receiver, *, max_size: int = LARGEST) -> Receiver:
    """A receiver that decompresses every body that is compressed.

    `DecodeError` for a body that is not gzip, is damaged or cut short, has anything after its end, or
    would be larger than `max_size` bytes: a few kilobytes can unfold into gigabytes.
    """
    return Decoder(receiver, max_size=max_size)


class Encoder(Compressor):
    """Compresses on the way out."""

    layer = "gzip"
    levels = range(10)
    levels_in_words = "0 (not at all), 1 (fast) to 9 (small)"

    def encode(self, body: bytes) -> bytes:
        """One gzip member."""
        return encode(body, self.level)


class Decoder(Decompressor):
    """Decompresses on the way in."""

    layer = "gzip"

    def decode(self, body: bytes) -> bytes:
        """What the members hold."""
        return decode(body, self.max_size)


def encode(body: bytes, level: int = 6) -> bytes:
    """One gzip member. Its header is the same on every system and Python, which that of `gzip` is not."""
    header = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 0, 0, _EFFORT.get(level, 0), _UNKNOWN_SYSTEM)
    packed = zlib.compress(body, level, _RAW)
    return b"%b%b%b" % (header, packed, struct.pack("<2I", zlib.crc32(body), len(body) & 0xFFFFFFFF))


def decode(body: bytes, max_size: int = LARGEST) -> bytes:
    """The bytes behind one or several gzip members; `DecodeError` where they are none, cut or too large."""
    unfolded = Unfolded("gzip", max_size)
    rest = body
    while True:
        member = zlib.decompressobj(_MEMBER)
        try:
            unfolded.add(member.decompress(rest, unfolded.room + 1))
        except zlib.error as error:
            raise DecodeError(
                "gzip", f"the body says it is gzip, but is damaged, or no gzip: {error}"
            ) from error
        if not member.eof:
            raise DecodeError("gzip", "the body says it is gzip, but is cut short")
        rest = member.unused_data
        if not rest:
            return unfolded.body()
