"""deduplicate: a message that was processed before is not processed again.

Systems deliver at least once: a receiver that must not do a thing twice wants this. It knows what passed
this one decorated receiver in this process, and no more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import timedelta

from msgviz.decorators._limits import span, whole
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator

logger = logging.getLogger("msgviz")

Key = str | Callable[[Message], Hashable]

_ID = "Msgviz-Id"  # <conversation>.<message>.<parent>
_LONGEST = 64  # characters of a key that is kept as it is; of a longer one its digest


def decoder(
    receiver: Receiver, *, key: Key | None = None, size: int = 10_000, seconds: float | timedelta = 3600.0
) -> Receiver:
    """A receiver that skips a message whose key it has processed successfully.

    `key` is the name of an attribute, or a function of the message; a message without that attribute, or
    for which the function gives None, is processed in any case. Without `key` it is the message id in
    ``Msgviz-Id``, or, where a message has none, a digest of its body and attributes. The last `size` keys
    are remembered, for `seconds`; of a message that failed, none. Of two that come at once, the second
    waits, and is processed only if the first fails.
    """
    return Decoder(receiver, key=key, size=size, seconds=seconds)


class Decoder(ReceiverDecorator):
    """Skips what was processed before."""

    layer = "deduplicate"

    def __init__(
        self,
        next: Receiver,
        *,
        key: Key | None = None,
        size: int = 10_000,
        seconds: float | timedelta = 3600.0,
    ) -> None:
        super().__init__(next)
        if key is not None and not callable(key) and not isinstance(key, str):
            raise TypeError(f"key is the name of an attribute or a function of a message, not {key!r}")
        if key == "":
            raise ValueError("key is the name of an attribute: it is not empty")
        self.key = key
        self.size = whole(size, "size")
        self.seconds = span(seconds, "seconds")
        self._processed = _Memory(self.size, self.seconds)
        self._running: dict[Hashable, _Run] = {}

    async def __call__(self, message: Message) -> None:
        """Hand the message on, unless that was done before."""
        key = self._key(message)
        if key is None:
            await self.receive(message)
            return
        while (running := self._running.get(key)) is not None:
            await running.ended.wait()
            if running.went_well:
                self._skip(message)
                return
        if key in self._processed:
            self._skip(message)
            return
        run = self._running[key] = _Run()
        try:
            await self.receive(message)
            self._processed.add(key)
            run.went_well = True
        finally:
            del self._running[key]
            run.ended.set()

    def _key(self, message: Message) -> Hashable | None:
        key = self.key
        if key is None:
            return _short(_message_id(message) or _digest(message))
        if isinstance(key, str):
            values = message.attributes.get_all(key)
            return tuple(_short(value) for value in values) or None
        return _short(key(message))

    @staticmethod
    def _skip(message: Message) -> None:
        logger.debug("skipped a message of %s: it was processed before", message.source)


class _Run:
    """A message that is being processed."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.went_well = False


class _Memory:
    """The keys used last, each for some seconds, on the loop's clock."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if asyncio.get_running_loop().time() >= until:
            del self._until[key]
            return False
        self._until.move_to_end(key)
        return True

    def add(self, key: Hashable) -> None:
        """Remember a key, and forget the one that was not used for longest."""
        self._until[key] = asyncio.get_running_loop().time() + self._seconds
        if len(self._until) > self._size:
            self._until.popitem(last=False)


def _message_id(message: Message) -> str | None:
    parts = message.attributes.get(_ID, "").split(".")
    return parts[1] or None if len(parts) == 3 else None


def _digest(message: Message) -> bytes:
    kept = repr(sorted(message.attributes.to_dict().items())).encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%d:%b%b" % (len(message.body), message.body, kept)).digest()


def _short(key: Hashable) -> Hashable:
    """The key, or its digest: what is remembered may have been made to fill the memory."""
    if isinstance(key, str) and len(key) > _LONGEST:
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    if isinstance(key, bytes) and len(key) > _LONGEST:
        return hashlib.sha256(key).digest()
    return key
