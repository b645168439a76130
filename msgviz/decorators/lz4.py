"""lz4: a smaller body, in the LZ4 frame format. ``Content-Encoding: lz4``.

On the wire as go-msg's ``decorators/lz4``, which reads what this writes and writes what this reads. Only
a message that carries the attribute is decoded. A system that carries no binary wants base64 after it.
"""

from __future__ import annotations

from msgviz.decorators._compression import LARGEST, Compressor, Decompressor, Unfolded
from msgviz.errors import DecodeError, MissingExtra
from msgviz.receiver import Receiver
from msgviz.topic import Topic

try:
    from lz4 import frame
except ImportError as error:
    raise MissingExtra("the lz4 decorator", "lz4") from error


def encoder(topic: Topic, *, level: int = 0) -> Topic:
    """A topic that compresses every body; `level` is 0 (fast) to 16 (small)."""
    return Encoder(topic, level=level)


def decoder(receiver: Receiver, *, max_size: int = LARGEST) -> Receiver:
    """A receiver that decompresses every body that is compressed.

    `DecodeError` for a body that is no LZ4 frame, one that is cut short, and one that would be larger
    than `max_size` bytes: a few kilobytes can unfold into gigabytes.
    """
    return Decoder(receiver, max_size=max_size)


class Encoder(Compressor):
    """Compresses on the way out."""

    layer = "lz4"
    levels = range(17)
    levels_in_words = "0 (fast) to 16 (small)"

    def encode(self, body: bytes) -> bytes:
        """One LZ4 frame."""
        frames: bytes = frame.compress(body, compression_level=self.level, content_checksum=True)
        return frames


class Decoder(Decompressor):
    """Decompresses on the way in."""

    layer = "lz4"

    def decode(self, body: bytes) -> bytes:
        """What the frames hold."""
        return decode(body, self.max_size)


def decode(body: bytes, max_size: int = LARGEST) -> bytes:
    """The bytes behind LZ4 frames; `DecodeError` where it is none, cut short, or too large.

    Nothing at all is an empty body: so go-msg's reader takes it.
    """
    context = frame.create_decompression_context()
    unfolded = Unfolded("lz4", max_size)
    ended = True
    rest = memoryview(body)
    while rest or not ended:
        # Room for what is likely: the room itself has a price, and a bomb asks for all of it.
        room = min(max(4 * len(rest), 65536), unfolded.room + 1)
        try:
            part, read, ended = frame.decompress_chunk(context, rest, max_length=room)
        except RuntimeError as error:
            raise DecodeError("lz4", f"the body says it is lz4, but is no LZ4 frame: {error}") from error
        unfolded.add(part)
        if not (part or read or ended):
            raise DecodeError("lz4", "the body says it is lz4, but its frame is cut short")
        rest = rest[read:]
    return unfolded.body()
