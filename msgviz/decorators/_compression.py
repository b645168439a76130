"""What lz4, gzip and zstd share: a body made smaller, said in ``Content-Encoding``, unfolded with care."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from msgviz.decorators._coding import outermost, pop, push
from msgviz.decorators._limits import whole
from msgviz.errors import DecodeError
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

KEY = "Content-Encoding"
LARGEST = 256 * 1024 * 1024
"""Bytes that a body may unfold to, unless its author says otherwise."""


class Compressor(TopicDecorator):
    """Compresses on the way out; `layer` is the coding's name, and `levels` those it has."""

    levels: ClassVar[range]
    levels_in_words: ClassVar[str]

    def __init__(self, next: Topic, *, level: int) -> None:
        super().__init__(next)
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"level is a whole number, not {level!r}")
        if level not in self.levels:
            raise ValueError(f"{self.layer}: a level is {self.levels_in_words}, not {level!r}")
        self.level = level

    @abstractmethod
    def encode(self, body: bytes) -> bytes:
        """The smaller body."""

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, compressed."""
        await self.next.send(push(message, KEY, self.layer, self.encode(message.body)), delay)


class Decompressor(ReceiverDecorator):
    """Decompresses on the way in; `layer` is the coding's name."""

    def __init__(self, next: Receiver, *, max_size: int = LARGEST) -> None:
        super().__init__(next)
        self.max_size = whole(max_size, "max_size")

    @abstractmethod
    def decode(self, body: bytes) -> bytes:
        """The body as it was; `DecodeError` where there is none, or one of more than `max_size` bytes."""

    async def __call__(self, message: Message) -> None:
        """Hand the message on, decompressed."""
        if outermost(message, KEY) == self.layer:
            message = pop(message, KEY, self.decode(message.body))
        await self.receive(message)


class Unfolded:
    """A body that is unfolded part by part, because a few bytes may stand for gigabytes."""

    def __init__(self, layer: str, max_size: int) -> None:
        self.layer = layer
        self.max_size = max_size
        self.size = 0
        self._parts: list[bytes] = []

    @property
    def room(self) -> int:
        """Bytes there is room for."""
        return self.max_size - self.size

    def add(self, part: bytes) -> None:
        """Take the next part; `DecodeError` where there is no room for it."""
        self._parts.append(part)
        self.size += len(part)
        if self.size > self.max_size:
            raise DecodeError(self.layer, f"the body would unfold to more than {self.max_size} bytes")

    def body(self) -> bytes:
        """All parts."""
        return b"".join(self._parts)
