"""lz4: a smaller body, in the LZ4 frame format. ``Content-Encoding: lz4``.

On the wire as go-msg's ``decorators/lz4``, which reads what this writes and writes what this reads. Only
a message that carries the attribute is decoded. A system that carries no binary wants base64 after it.
"""

from __future__ import annotations

from msgviz.decorators._coding import outermost, pop, push
from msgviz.errors import DecodeError, MissingExtra
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

try:
    from lz4 import frame
except ImportError as error:
    raise MissingExtra("the lz4 decorator", "lz4") from error

_KEY = "Content-Encoding"
_CODING = "lz4"
_LARGEST = 256 * 1024 * 1024


def encoder(topic: Topic, *, level: int = 0) -> Topic:
    """A topic that compresses every body; `level` is 0 (fast) to 16 (small)."""
    return Encoder(topic, level=level)


def decoder(receiver: Receiver, *, max_size: int = _LARGEST) -> Receiver:
    """A receiver that decompresses every body that is compressed.

    `DecodeError` for a body that is no LZ4 frame, one that is cut short, and one that would be larger
    than `max_size` bytes: a few kilobytes can unfold into gigabytes.
    """
    return Decoder(receiver, max_size=max_size)


class Encoder(TopicDecorator):
    """Compresses on the way out."""

    layer = "lz4"

    def __init__(self, next: Topic, *, level: int = 0) -> None:
        super().__init__(next)
        if not 0 <= level <= 16:
            raise ValueError(f"an lz4 level is 0 (fast) to 16 (small), not {level!r}")
        self.level = level

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, compressed."""
        body = frame.compress(message.body, compression_level=self.level, content_checksum=True)
        await self.next.send(push(message, _KEY, _CODING, body), delay)


class Decoder(ReceiverDecorator):
    """Decompresses on the way in."""

    layer = "lz4"

    def __init__(self, next: Receiver, *, max_size: int = _LARGEST) -> None:
        super().__init__(next)
        self.max_size = max_size

    async def __call__(self, message: Message) -> None:
        """Hand the message on, decompressed."""
        if outermost(message, _KEY) == _CODING:
            message = pop(message, _KEY, decode(message.body, self.max_size))
        await self.receive(message)


def decode(body: bytes, max_size: int = _LARGEST) -> bytes:
    """The bytes behind LZ4 frames; `DecodeError` where it is none, cut short, or too large.

    Nothing at all is an empty body: so go-msg's reader takes it.
    """
    context = frame.create_decompression_context()
    parts: list[bytes] = []
    size = 0
    ended = True
    rest = memoryview(body)
    while rest or not ended:
        # Room for what is likely: the room itself has a price, and a bomb asks for all of it.
        room = min(max(4 * len(rest), 65536), max_size - size + 1)
        try:
            part, read, ended = frame.decompress_chunk(context, rest, max_length=room)
        except RuntimeError as error:
            raise DecodeError("lz4", f"the body says it is lz4, but is no LZ4 frame: {error}") from error
        parts.append(part)
        size += len(part)
        if size > max_size:
            raise DecodeError("lz4", f"the body would unfold to more than {max_size} bytes")
        if not (part or read or ended):
            raise DecodeError("lz4", "the body says it is lz4, but its frame is cut short")
        rest = rest[read:]
    return b"".join(parts)
