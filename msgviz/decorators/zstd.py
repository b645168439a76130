"""zstd: a smaller body, in the Zstandard format of RFC 8878. ``Content-Encoding: zstd``.

As HTTP names it (RFC 8878); go-msg has none. Only a message that carries the attribute is decoded. A
system that carries no binary wants base64 after it.
"""

from __future__ import annotations

from msgviz.decorators._coding import outermost, pop, push
from msgviz.decorators._limits import whole
from msgviz.errors import DecodeError, MissingExtra
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

try:
    import zstandard
except ImportError as error:
    raise MissingExtra("the zstd decorator", "zstd") from error

_KEY = "Content-Encoding"
_CODING = "zstd"
_LARGEST = 256 * 1024 * 1024
_MOST_PER_BYTE = 32 * 1024  # four bytes make a block of 128 KiB
_LEAST_LEVEL, _MOST_LEVEL = -7, zstandard.MAX_COMPRESSION_LEVEL


def encoder(topic: Topic, *, level: int = 3) -> Topic:
    """A topic that compresses every body; `level` is -7 (fast) to 22 (small)."""
    return Encoder(topic, level=level)


def decoder(receiver: Receiver, *, max_size: int = _LARGEST) -> Receiver:
    """A receiver that decompresses every body that is compressed.

    `DecodeError` for a body that is not zstd, is damaged or cut short, has anything after its end, or
    would be larger than `max_size` bytes: a few bytes can unfold into gigabytes.
    """
    return Decoder(receiver, max_size=max_size)


class Encoder(TopicDecorator):
    """Compresses on the way out."""

    layer = "zstd"

    def __init__(self, next: Topic, *, level: int = 3) -> None:
        super().__init__(next)
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"level is a whole number, not {level!r}")
        if not _LEAST_LEVEL <= level <= _MOST_LEVEL:
            raise ValueError(f"a zstd level is {_LEAST_LEVEL} (fast) to {_MOST_LEVEL} (small), not {level!r}")
        self.level = level

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, compressed."""
        # One for each message: a compressor is not for two threads, and publishers may be threads.
        body = zstandard.ZstdCompressor(level=self.level, write_checksum=True).compress(message.body)
        await self.next.send(push(message, _KEY, _CODING, body), delay)


class Decoder(ReceiverDecorator):
    """Decompresses on the way in."""

    layer = "zstd"

    def __init__(self, next: Receiver, *, max_size: int = _LARGEST) -> None:
        super().__init__(next)
        self.max_size = whole(max_size, "max_size")

    async def __call__(self, message: Message) -> None:
        """Hand the message on, decompressed."""
        if outermost(message, _KEY) == _CODING:
            message = pop(message, _KEY, decode(message.body, self.max_size))
        await self.receive(message)


def decode(body: bytes, max_size: int = _LARGEST) -> bytes:
    """The bytes behind one or several zstd frames; `DecodeError` where they are none, cut or too large."""
    decompressor = zstandard.ZstdDecompressor()
    parts: list[bytes] = []
    size = at = 0
    while True:
        frame = decompressor.decompressobj()
        while not frame.eof:
            # No more at a time than can unfold to little more than there is room for.
            piece = body[at : at + max(64, (max_size - size) // _MOST_PER_BYTE)]
            if not piece:
                raise DecodeError("zstd", "the body says it is zstd, but is cut short")
            try:
                part = frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise DecodeError(
                    "zstd", f"the body says it is zstd, but is damaged, or no zstd: {error}"
                ) from error
            at += len(piece)
            parts.append(part)
            size += len(part)
            if size > max_size:
                raise DecodeError("zstd", f"the body would unfold to more than {max_size} bytes")
        at -= len(frame.unused_data)
        if at == len(body):
            return b"".join(parts)
