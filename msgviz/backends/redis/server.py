"""RedisServer: a consumer of one group."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError, ResponseError

from msgviz.backends.redis import scripts
from msgviz.backends.redis.wire import from_fields, to_fields
from msgviz.errors import ConnectionFailed, MsgvizError
from msgviz.message import Source, wrap
from msgviz.pull import Delivery, PullServer
from msgviz.server import BackoffLike

if TYPE_CHECKING:
    from msgviz.backends.redis.backend import RedisBackend

logger = logging.getLogger("msgviz")


class Handle(NamedTuple):
    """What an entry is known by: which of the two streams it is in, its id, and its attempt."""

    stream: int
    id: bytes
    attempt: int


class RedisServer(PullServer):
    """A consumer that reads the topic's stream and the subscription's own, each in its turn."""

    BLOCK = 0.5
    """Seconds that one look for a message takes at most, and between two looks at what has to be tended."""
    TRIM = 1.0
    """Seconds from one trimming to the next."""

    backend: RedisBackend

    def __init__(
        self,
        backend: RedisBackend,
        source: Source,
        *,
        concurrency: int,
        backoff: BackoffLike,
        decorators: tuple[Any, ...],
    ) -> None:
        super().__init__(backend, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        topic, name = source.topic, source.subscription
        self.lease = backend.lease
        self.group = name.encode()
        self.consumer = f"msgviz-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._streams = [backend.stream(topic), backend.own_stream(topic, name)]
        self._later = backend.later(topic)
        self._block = min(self.BLOCK, backend.timeout / 2)
        self._turn = 0  # which stream is read first, so that neither keeps the other waiting
        self._looked = -math.inf  # when it last looked for what others let go
        self._connection: Any = None
        self._id = 0  # of the connection
        self._leaving = False
        self._ours: bool | None = None  # whether the stream was made here
        self._tender: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._acked = False

    async def open(self) -> None:
        """Connect, give back what was delivered to a connection that broke, and begin to tend the topic."""
        await self._hang_up()
        self._leaving = False
        connection = self.backend.commands.connection()
        try:
            await connection.connect()
            await connection.send_command("CLIENT", "ID")
            self._id = await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        try:
            held = [d.handle for d in (*self._held, *self._taken) if d is not None and not d.settled]
            await self._give_up("stay", held)
            if self._ours is None:
                made = await self.backend.commands.command("EXISTS", self.backend.mark(self.source.topic))
                self._ours = bool(made)
        except BaseException:
            await self._hang_up()
            raise
        self._looked = -math.inf
        if self._tender is None:
            self._tender = asyncio.create_task(self._tend())

    async def take(self, count: int) -> Sequence[Delivery]:
        """Take from 1 to `count` entries; none where none came within half a second.

        What it has begun to ask for comes, and so it is not cancelled: the server is told to answer at once.
        """
        taking = asyncio.create_task(self._take_some(count))
        waiting: set[asyncio.Task[Any]] = {taking}
        while not all(task.done() for task in waiting):
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError:
                if not self._leaving:
                    self._leaving = True
                    waiting.add(asyncio.create_task(self._unblock(taking)))
        if self._leaving and not taking.cancelled() and taking.exception() is not None:
            return []
        return taking.result()

    async def _unblock(self, taking: asyncio.Task[Any]) -> None:
        while not taking.done():
            with suppress(RedisError, OSError):  # it then answers by itself, after `BLOCK` seconds
                await self.backend.commands.command("CLIENT", "UNBLOCK", self._id)
            await asyncio.wait([taking], timeout=0.02)

    async def _take_some(self, count: int) -> list[Delivery]:
        try:
            taken = await self._take_ready(count)
            if not taken and not self._leaving:
                taken = await self._take_next(count)
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")) or not self.backend.create:
                raise
            logger.warning("%s: its consumer group is gone, and made again: %s", self.source, error)
            await self.backend.call(
                self.backend.make(self.source.topic, [self.source], ours=bool(self._ours))
            )
            return []
        for more in taken[count:]:  # one of each stream may come where one was asked for
            await self.release(more)
            self._looked = -math.inf
        return taken[:count]

    async def _take_ready(self, count: int) -> list[Delivery]:
        """What is there now, and what others let go or held for too long."""
        first = self._turn
        self._turn = 1 - first
        claim = time.monotonic() - self._looked >= self._block
        rows = await self.backend.commands.script(
            scripts.TAKE,
            [self._streams[first], self._streams[1 - first]],
            [self.group, self.consumer, count, int(self.lease * 1000), int(claim)],
        )
        if claim and sum(deliveries > 0 for _, _, deliveries, _ in rows) < count:
            self._looked = time.monotonic()
        return [
            self._delivery(first if place == 1 else 1 - first, entry_id, max(deliveries, 1), fields)
            for place, entry_id, deliveries, fields in rows
        ]

    async def _take_next(self, count: int) -> list[Delivery]:
        """What comes next."""
        connection = self._connection
        if connection is None or not connection.is_connected:
            raise ConnectionLost("the connection was closed")
        await connection.send_command(
            *("XREADGROUP", "GROUP", self.group, self.consumer, "COUNT", count),
            *("BLOCK", max(1, int(self._block * 1000)), "STREAMS", *self._streams, ">", ">"),
        )
        read = await connection.read_response()
        return [
            self._delivery(self._streams.index(stream), entry_id, 1, fields)
            for stream, entries in read or ()
            for entry_id, fields in entries
        ]

    def _delivery(self, stream: int, entry_id: bytes, deliveries: int, fields: Sequence[bytes]) -> Delivery:
        entry = from_fields(fields, self.backend.body_field)
        message = wrap(entry.body, entry.values)
        message.attempt = (entry.attempt if stream else 1) + deliveries - 1
        return Delivery(message, Handle(stream, entry_id, message.attempt))

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledge it: it is removed when all other groups have acknowledged it too."""
        handle: Handle = delivery.handle
        await self.backend.commands.batched("XACK", self._streams[handle.stream], self.group, handle.id)
        self._acked = True

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Move it to the subscription's own stream, now or when its time has come."""
        handle: Handle = delivery.handle
        fields = to_fields(delivery.body, delivery.values, self.backend.body_field, handle.attempt + 1)
        await self.backend.commands.script(
            scripts.RETRY,
            [self._streams[handle.stream], self._streams[1], self._later],
            [self.group, self.consumer, handle.id, repr(delay * 1e6), uuid4().hex[:16], *fields],
        )
        self._acked = True
        if delay:
            self.backend.tend(self.source.topic)

    async def release(self, delivery: Delivery) -> None:
        """Let others have it, as the same attempt."""
        handle: Handle = delivery.handle
        await self.backend.commands.script(
            scripts.RELEASE, [self._streams[handle.stream]], [self.group, self.consumer, handle.id]
        )

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Begin their lease anew."""
        places = [part for d in deliveries for part in (d.handle.stream + 1, d.handle.id)]
        await self.backend.commands.script(
            scripts.EXTEND, self._streams, [self.group, self.consumer, *places]
        )

    def look(self) -> None:
        """Look now at what is delayed."""
        self._due.set()

    async def _tend(self) -> None:
        """Move what is due to its stream, and remove what all have acknowledged."""
        trimmed = -math.inf
        silent = False
        # Cancelling may not be enough: the client library awaits with `wait_for`, which before Python 3.12
        # loses a cancelling that comes together with what it waits for.
        while self._tender is asyncio.current_task():
            wait = self.BLOCK
            try:
                self._due.clear()
                next_due = await self.backend.call(self._promote())
                if next_due >= 0:
                    wait = min(wait, next_due / 1e6)
                if self._acked and time.monotonic() - trimmed >= self.TRIM:
                    trimmed = time.monotonic()
                    await self.backend.call(self._trim())
                silent = False
            except ConnectionFailed:
                wait = self.BLOCK  # whoever takes messages says so
            except MsgvizError as error:
                if not silent:
                    logger.warning("%s: what is delayed was not delivered: %s", self.source, error)
                silent = True
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._due.wait()

    async def _promote(self) -> int:
        return int(await self.backend.commands.script(scripts.PROMOTE, [self._later]))

    async def _trim(self) -> None:
        self._acked = False
        ours = self._ours if self.backend.trim is None else self.backend.trim
        await self.backend.commands.script(scripts.TRIM, self._streams if ours else self._streams[1:])

    async def _give_up(self, what: str, held: Sequence[Handle] = ()) -> None:
        await self.backend.commands.script(
            scripts.GIVE_UP,
            self._streams,
            [self.group, self.consumer, what, *(b"%d:%s" % (h.stream + 1, h.id) for h in held)],
        )

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def shut(self) -> None:
        """Give back what was delivered and never seen, and leave the group."""
        try:
            tender, self._tender = self._tender, None
            if tender is not None:
                tender.cancel()
                self.look()  # at once, where the cancelling is lost
                await asyncio.wait([tender])
            await self._hang_up()
            await self._give_up("leave")
            if self._acked:
                await self._trim()
        finally:
            await self._hang_up()
