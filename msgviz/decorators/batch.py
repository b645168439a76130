r"""batch: messages that are published at about the same time travel as one.

The one carries the attribute ``Msgviz-Batch: <number of messages>``, and this body, version 1:

    b"MVB\x01", then for each message, in the order they were published:
    4 bytes   length of the attributes (unsigned, big-endian)
    …         the attributes: a JSON object of key to list of values, in ASCII
    4 bytes   length of the body (unsigned, big-endian)
    …         the body

What a system routes, orders or filters by an attribute, it cannot see in here. A system that carries no
binary wants base64 after it. go-msg has no such decorator.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections import OrderedDict
from contextlib import suppress
from contextvars import Context
from datetime import timedelta

from msgviz.attributes import Attributes, Values
from msgviz.decorators._limits import whole
from msgviz.errors import DecodeError
from msgviz.message import Message, wrap
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator, as_seconds

_KEY = "Msgviz-Batch"
_VERSION_1 = b"MVB\x01"
_LENGTH = struct.Struct(">I")
_LARGEST = 128 * 1024  # with base64 after it, and attributes, within the 256 KiB of the narrowest systems
_MOST_REMEMBERED = 1000


def encoder(
    topic: Topic, *, size: int = 100, wait: float | timedelta = 0.05, max_bytes: int = _LARGEST
) -> Topic:
    """A topic that sends messages together.

    A batch leaves when it has `size` messages, when the next would make it larger than `max_bytes`, or
    `wait` seconds after its first message; one that is larger by itself travels alone. Messages of
    different delays do not travel together.

    Each publish returns when the system has taken its batch, or raises what the system said. One that
    is cancelled before the batch leaves is not sent; later, it may be. A batch that nobody waits for
    any more is cancelled.
    """
    return Encoder(topic, size=size, wait=wait, max_bytes=max_bytes)


def decoder(receiver: Receiver) -> Receiver:
    """A receiver that hands the messages of a batch on, one after the other, in their order.

    All are tried. If some fail, the batch has failed and is delivered again whole: those that had
    succeeded come again, so that each comes at least once. The error is that of the one that failed, or
    an `ExceptionGroup` of all. `DecodeError` for a batch that is damaged; none of it is handed on then.
    """
    return Decoder(receiver)


class Encoder(TopicDecorator):
    """Collects messages, and sends them together."""

    def __init__(
        self,
        next: Topic,
        *,
        size: int = 100,
        wait: float | timedelta = 0.05,
        max_bytes: int = _LARGEST,
    ) -> None:
        super().__init__(next)
        self.size = whole(size, "size")
        self.wait = as_seconds(wait, "wait")
        self.max_bytes = whole(max_bytes, "max_bytes")
        self.layer = f"batch ≤{self.size}"
        # Publishers may be threads with loops of their own: what is collected stays on one loop.
        self._open: dict[tuple[asyncio.AbstractEventLoop, float], _Batch] = {}

    async def send(self, message: Message, delay: float) -> None:
        """Send the message in a batch; returns when the system has taken it."""
        packed = pack(message)
        key = (asyncio.get_running_loop(), delay)
        batch = self._open.get(key)
        if batch is not None and batch.bytes + len(packed) > self.max_bytes:
            self._leave(key)
            batch = None
        if batch is None:
            batch = self._open[key] = _Batch(key[0])
            # In no context: it is no part of what one of its publishers is doing.
            batch.task = key[0].create_task(self._send(batch, key), context=Context())
            batch.task.add_done_callback(batch.tell)
        waiter = batch.add(packed)
        if len(batch.messages) >= self.size:
            self._leave(key)
        try:
            await waiter
        except asyncio.CancelledError:
            if not batch.wanted():
                if self._open.get(key) is batch:
                    self._leave(key)
                batch.task.cancel()
                await asyncio.wait([batch.task])
            raise

    def to_subscription(self, subscription: str) -> Topic:
        """The same layer around the next topic's; it collects for itself."""
        next = self.next.to_subscription(subscription)
        return Encoder(next, size=self.size, wait=self.wait, max_bytes=self.max_bytes)

    def _leave(self, key: tuple[asyncio.AbstractEventLoop, float]) -> None:
        self._open.pop(key).full.set()

    async def _send(self, batch: _Batch, key: tuple[asyncio.AbstractEventLoop, float]) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.wait):
                    await batch.full.wait()
        finally:
            if self._open.get(key) is batch:
                self._leave(key)
        packed = [one for one, waiter in batch.messages if not waiter.done()]
        if packed:
            await self.next.send(
                wrap(b"".join([_VERSION_1, *packed]), {_KEY: str(len(packed))}), delay=key[1]
            )


class _Batch:
    """Messages that will travel together, and who waits for each of them."""

    task: asyncio.Task[None]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.messages: list[tuple[bytes, asyncio.Future[None]]] = []
        self.bytes = len(_VERSION_1)
        self.full = asyncio.Event()
        self._loop = loop

    def add(self, packed: bytes) -> asyncio.Future[None]:
        waiter = self._loop.create_future()
        self.messages.append((packed, waiter))
        self.bytes += len(packed)
        return waiter

    def wanted(self) -> bool:
        return any(not waiter.done() for _, waiter in self.messages)

    def tell(self, task: asyncio.Task[None]) -> None:
        """Tell all who wait how it ended."""
        error = None if task.cancelled() else task.exception()
        for _, waiter in self.messages:
            if waiter.done():
                continue
            if task.cancelled():
                waiter.cancel()
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(None)


class Decoder(ReceiverDecorator):
    """Hands the messages of a batch on."""

    layer = "batch"

    def __init__(self, next: Receiver) -> None:
        super().__init__(next)
        # What messages were called by observers, for those that carry nothing to tell them by: a batch
        # that is delivered again brings the same messages, not new ones.
        self._tags: OrderedDict[bytes, list[str | None]] = OrderedDict()

    async def __call__(self, message: Message) -> None:
        """Hand the messages on, all of them; raises if any failed."""
        if _KEY not in message.freeze():
            await self.receive(message)
            return
        body = message.body
        messages = unpack(body, message.attributes[_KEY])
        digest = hashlib.sha256(body).digest() if message.attempt > 1 else b""
        for one, tag in zip(messages, self._tags.pop(digest, [None] * len(messages)), strict=True):
            one.attempt, one.source, one.tag = message.attempt, message.source, tag
        try:
            await self._hand_on(messages)
        except BaseException:
            if any(one.tag is not None for one in messages):
                self._tags[digest or hashlib.sha256(body).digest()] = [one.tag for one in messages]
                if len(self._tags) > _MOST_REMEMBERED:
                    self._tags.popitem(last=False)
            raise

    async def _hand_on(self, messages: list[Message]) -> None:
        errors: list[Exception] = []
        stop: BaseException | None = None
        for one in messages:
            try:
                await self.receive(one)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                raise
            except Exception as error:  # noqa: BLE001  raised below, when all were tried
                errors.append(error)
            except BaseException as error:  # noqa: BLE001  such as that a person dropped this one
                stop = error
        if len(errors) == 1:
            raise errors[0]
        if errors:
            problem = f"{len(errors)} of the {len(messages)} messages of a batch failed"
            raise ExceptionGroup(problem, errors) from errors[0]
        if stop is not None:
            raise stop


def pack(message: Message) -> bytes:
    """One message as it stands in a batch."""
    attributes = json.dumps(_lists(message.freeze()), separators=(",", ":")).encode("ascii")
    return b"".join(
        [_LENGTH.pack(len(attributes)), attributes, _LENGTH.pack(len(message.body)), message.body]
    )


def unpack(body: bytes, count: str) -> list[Message]:
    """The messages of a batch; `DecodeError` where it is none, is damaged, or has not so many."""
    if not body.startswith(_VERSION_1):
        what = "of a version this msgviz does not know" if body.startswith(_VERSION_1[:3]) else "no batch"
        raise DecodeError("batch", f"the message says it is a batch, but is {what}: {body[:8]!r}")
    messages: list[Message] = []
    at = len(_VERSION_1)
    while at < len(body):
        attributes, at = _piece(body, at)
        inside, at = _piece(body, at)
        messages.append(Message(inside, _attributes(attributes)))
    if not messages or count != str(len(messages)):
        raise DecodeError("batch", f"a batch of {len(messages)} messages says it has {count[:20]!r}")
    return messages


def _piece(body: bytes, at: int) -> tuple[bytes, int]:
    begin = at + _LENGTH.size
    if begin <= len(body):
        end = begin + _LENGTH.unpack_from(body, at)[0]
        if end <= len(body):
            return body[begin:end], end
    raise DecodeError("batch", "the message says it is a batch, but is cut short")


def _attributes(data: bytes) -> Attributes:
    try:
        found = json.loads(data.decode("ascii"))
        return Attributes(found)
    except (ValueError, TypeError, RecursionError) as error:
        raise DecodeError("batch", f"the attributes of a message in a batch are damaged: {error}") from error


def _lists(values: Values) -> dict[str, list[str]]:
    return {key: [value] if isinstance(value, str) else list(value) for key, value in values.items()}
