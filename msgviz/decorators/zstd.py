"""zstd: a smaller body, in the Zstandard format of RFC 8878. ``Content-Encoding: zstd``.

As HTTP names it (RFC 8878); go-msg has none. Only a message that carries the attribute is decoded. A
system that carries no binary wants base64 after it.
"""

from __future__ import annotations

from msgviz.decorators._compression import LARGEST, Compressor, Decompressor, Unfolded
from msgviz.errors import DecodeError, MissingExtra
from msgviz.receiver import Receiver
from msgviz.topic import Topic

try:
    import zstandard
except ImportError as error:
    raise MissingExtra("the zstd decorator", "zstd") from error

_MOST_PER_BYTE = 32 * 1024  # four bytes make a block of 128 KiB
_LEAST_LEVEL, _MOST_LEVEL = -7, zstandard.MAX_COMPRESSION_LEVEL


def encoder(topic: Topic, *, level: int = 3) -> Topic:
    """A topic that compresses every body; `level` is -7 (fast) to 22 (small)."""
    return Encoder(topic, level=level)


def decoder(receiver: Receiver, *, max_size: int = LARGEST) -> Receiver:
    """A receiver that decompresses every body that is compressed.

    `DecodeError` for a body that is not zstd, is damaged or cut short, has anything after its end, or
    would be larger than `max_size` bytes: a few bytes can unfold into gigabytes.
    """
    return Decoder(receiver, max_size=max_size)


class Encoder(Compressor):
    """Compresses on the way out."""

    layer = "zstd"
    levels = range(_LEAST_LEVEL, _MOST_LEVEL + 1)
    levels_in_words = f"{_LEAST_LEVEL} (fast) to {_MOST_LEVEL} (small)"

    def encode(self, body: bytes) -> bytes:
        """One Zstandard frame."""
        # One for each message: a compressor is not for two threads, and publishers may be threads.
        return zstandard.ZstdCompressor(level=self.level, write_checksum=True).compress(body)


class Decoder(Decompressor):
    """Decompresses on the way in."""

    layer = "zstd"

    def decode(self, body: bytes) -> bytes:
        """What the frames hold."""
        return decode(body, self.max_size)


def decode(body: bytes, max_size: int = LARGEST) -> bytes:
    """The bytes behind one or several zstd frames; `DecodeError` where they are none, cut or too large."""
    decompressor = zstandard.ZstdDecompressor()
    unfolded = Unfolded("zstd", max_size)
    at = 0
    while True:
        frame = decompressor.decompressobj()
        while not frame.eof:
            # No more at a time than can unfold to little more than there is room for.
            piece = body[at : at + max(64, unfolded.room // _MOST_PER_BYTE)]
            if not piece:
                raise DecodeError("zstd", "the body says it is zstd, but is cut short")
            try:
                unfolded.add(frame.decompress(piece))
            except zstandard.ZstdError as error:
                raise DecodeError(
                    "zstd", f"the body says it is zstd, but is damaged, or no zstd: {error}"
                ) from error
            at += len(piece)
        at -= len(frame.unused_data)
        if at == len(body):
            return unfolded.body()
