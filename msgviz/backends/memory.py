"""memory://: topics and subscriptions in this process.

A message that is published before its topic has a subscription waits for the first one. A failed
message comes again at the end of its queue, and goes to the dead-letter topic when its attempts are
used up. With a `capacity`, a publisher waits while a subscription holds that many messages that are
ready; delayed messages and redeliveries do not count. Publishers may be threads with loops of their
own; the servers run on one loop.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from msgviz.attributes import Values
from msgviz.backend import ANY_DELAY, Backend, Features, check_name
from msgviz.dead_letters import dead_letter_attributes, dead_letter_topic
from msgviz.message import Message, Source, wrap
from msgviz.server import BackoffLike, Server, Turn, as_backoff
from msgviz.topic import Topic

_Sleeper = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]
_Held = tuple[Message, bytes, Values]  # a message that is being received, and what it was before


class _Sleepers(deque[_Sleeper]):
    """Tasks that wait, on whatever loop, to be woken one at a time."""

    def enter(self) -> _Sleeper:
        """Join; from here on `wake` can reach the caller, who looks once more and then sleeps."""
        loop = asyncio.get_running_loop()
        sleeper = (loop, loop.create_future())
        self.append(sleeper)
        return sleeper

    def leave(self, sleeper: _Sleeper, *, woken: bool) -> None:
        """Go; a wake that reached a sleeper who was cancelled meanwhile goes to the next one."""
        try:
            self.remove(sleeper)
        except ValueError:
            if not woken:
                self.wake()

    def wake(self) -> None:
        """Wake the one that has waited longest."""
        while self:
            try:
                loop, future = self.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                running = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if running is loop:
                if not future.done():
                    future.set_result(None)
                    return
            else:
                try:
                    loop.call_soon_threadsafe(_finish, future)
                except RuntimeError:  # its loop was closed
                    continue
                return

    def wake_all(self) -> None:
        """Wake all of them."""
        for _ in range(len(self)):
            self.wake()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Queue(deque[Message]):
    """The messages of one subscription that are ready, and, in `later`, those whose time has not come."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[float, int, Message]] = []
        self.workers = _Sleepers()
        self.publishers = _Sleepers()
        self.closed = False
        self._lock = threading.Lock()
        self._order = count()

    def put(self, message: Message, delay: float = 0.0) -> None:
        if delay > 0:
            with self._lock:
                heapq.heappush(self.later, (time.monotonic() + delay, next(self._order), message))
        else:
            self.append(message)
        self.workers.wake()

    def give_back(self, message: Message) -> None:
        """To the front: it was taken, but not tried."""
        self.appendleft(message)
        self.workers.wake()

    def promote(self) -> None:
        """Move what has become due to the end of what is ready."""
        now = time.monotonic()
        with self._lock:
            while self.later and self.later[0][0] <= now:
                self.append(heapq.heappop(self.later)[2])

    async def wait_for_room(self, capacity: int) -> None:
        while len(self) >= capacity and not self.closed:
            sleeper = self.publishers.enter()
            woken = False
            try:
                if len(self) >= capacity and not self.closed:
                    await sleeper[1]
                woken = True
            finally:
                self.publishers.leave(sleeper, woken=woken)

    async def wait_for_message(self, server: Server) -> None:
        sleeper = self.workers.enter()
        timer = None
        woken = False
        try:
            if not self and not server.stopping:
                if self.later:
                    loop, future = sleeper
                    due = self.later[0][0] - time.monotonic()
                    timer = loop.call_later(max(0.0, due), _finish, future)
                await sleeper[1]
            woken = True
        finally:
            self.workers.leave(sleeper, woken=woken)
            if timer is not None:
                timer.cancel()
                if not woken:  # somebody else has to watch the clock
                    self.workers.wake()


class _Hub:
    """What the topics of one name share: a queue for each subscription."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, _Queue] = {}
        unclaimed = _Queue()
        self._unclaimed: _Queue | None = unclaimed
        self.queues: tuple[_Queue, ...] = (unclaimed,)
        self.single: _Queue | None = unclaimed
        """The one queue there is; None where there are several, or the backend is closed."""

    def subscribe(self, name: str) -> _Queue:
        """The queue of a subscription; the first takes over what waited for one."""
        with self._lock:
            queue = self._by_name.get(name)
            if queue is None:
                # An empty queue is false, and may still have delayed messages and publishers on their way.
                queue = _Queue() if self._unclaimed is None else self._unclaimed
                self._unclaimed = None
                self._by_name[name] = queue
                self.queues = tuple(self._by_name.values())
                self.single = queue if len(self.queues) == 1 else None
            return queue


class MemoryTopic(Topic):
    """A topic in memory; with `only`, one that reaches a single subscription."""

    def __init__(self, backend: MemoryBackend, name: str, only: str | None = None) -> None:
        self.name = name
        self._backend = backend
        self._hub = backend.hub(name)
        self._only = only
        self._capacity = backend.capacity or sys.maxsize
        self._turn = Turn()

    async def send(self, message: Message, delay: float) -> None:
        """Queue a message for every subscription, or for the one; waits while any of them is full."""
        queue = self._hub.single
        if queue is None or delay or self._only is not None:
            await self._send_to_each(message, delay)
            return
        if message._attributes is not None:
            message.freeze()
        waiting = len(queue)
        # A publisher that never waits would starve the loop; its queue tells how far it has come.
        if not waiting & 15 and not self._turn.look():
            await asyncio.sleep(0)
            self._turn.begin()
        if waiting >= self._capacity:
            await queue.wait_for_room(self._capacity)
            self._backend.check_open()
        # Nothing suspends from here on, so that a publish has returned before its message is received.
        queue.append(message)
        if queue.workers:
            queue.workers.wake()

    async def _send_to_each(self, message: Message, delay: float) -> None:
        self._backend.check_open()
        queues = self._hub.queues if self._only is None else (self._hub.subscribe(self._only),)
        if not self._turn.look():
            await asyncio.sleep(0)
            self._turn.begin()
        full = self._full(queues)
        while full is not None:
            await full.wait_for_room(self._capacity)
            self._backend.check_open()
            left, full = full, self._full(queues)
            if full is not None:
                left.publishers.wake()  # its room is not used yet: somebody else may
        # Nothing suspends from here on: all subscriptions get it, or none.
        values = message.freeze()
        for queue in queues:
            queue.put(_message(message.body, values, message.tag), delay)

    def _full(self, queues: Sequence[_Queue]) -> _Queue | None:
        return next((queue for queue in queues if len(queue) >= self._capacity), None)

    def to_subscription(self, subscription: str) -> Topic:
        """This topic, for one of its subscriptions alone."""
        return MemoryTopic(self._backend, self.name, check_name(subscription, "subscription"))


def _message(body: bytes, values: Values, tag: str | None, attempt: int = 1) -> Message:
    message = wrap(body, values)
    message.tag = tag
    message.attempt = attempt
    return message


class MemoryServer(Server):
    """Workers that take messages from one queue: as many as its concurrency, not one a message."""

    def __init__(
        self,
        backend: MemoryBackend,
        source: Source,
        *,
        concurrency: int,
        backoff: BackoffLike,
        decorators: tuple[Any, ...],
    ) -> None:
        super().__init__(source, concurrency=concurrency, decorators=decorators)
        self._backend = backend
        self._backoff = as_backoff(backoff)
        self._queue = backend.hub(source.topic).subscribe(source.subscription)
        self._held: list[_Held | None] = [None] * concurrency

    async def work(self, slot: int) -> None:
        """Take messages until told to stop; see `Server.work`."""
        queue, source, held = self._queue, self.source, self._held
        turn = Turn(self.concurrency)
        left = turn.begin()
        while not self._stopping and held is self._held:
            if queue.later:
                queue.promote()
            if not queue:
                await queue.wait_for_message(self)
                left = turn.begin()
                continue
            message = queue.popleft()
            if queue.publishers:
                queue.publishers.wake()
            body, values = message.body, message._values  # what comes again is what was sent
            held[slot] = (message, body, values)
            message.source = source
            try:
                await self.receive(message)
            except Exception as error:  # noqa: BLE001  whatever a receiver raises means: not processed
                if held is self._held:
                    self._again(message, body, values, error)
            except BaseException as error:
                if held is not self._held:
                    raise
                if isinstance(error, asyncio.CancelledError) and not self.ends_worker():
                    # The receiver's own: it, or what it awaited, was cancelled. It failed like any other.
                    self._again(message, body, values, error)
                else:
                    queue.give_back(_message(body, values, message.tag, message.attempt))
                    raise
            left -= 1
            if not left:
                left = turn.look()
                if not left:
                    await asyncio.sleep(0)
                    left = turn.begin()

    def _again(self, message: Message, body: bytes, values: Values, error: BaseException) -> None:
        """Have a failed message delivered again, or make it a dead letter."""
        attempt = message.attempt
        limit = self.source.max_attempts
        if limit is None or attempt < limit:
            try:
                delay = float(self._backoff(attempt))
            except BaseException:
                self._queue.give_back(_message(body, values, message.tag, attempt + 1))
                raise
            self._queue.put(_message(body, values, message.tag, attempt + 1), delay)
            return
        letter = _message(body, values, message.tag)
        letter.attributes.update(dead_letter_attributes(self.source, attempt, error))
        for queue in self._backend.hub(dead_letter_topic(self.source)).queues:
            queue.put(_message(body, letter.freeze(), message.tag))

    def looks_empty(self) -> bool:
        """Whether no message is ready."""
        return not self._queue

    def wake(self) -> None:
        """Make idle workers look at `stopping`."""
        self._queue.workers.wake_all()

    def abandon(self, slots: Sequence[int]) -> None:
        """Give back what cancelled workers still hold; what becomes of them is of no account."""
        held, self._held = self._held, [None] * self.concurrency  # by which they see it
        for slot in slots:
            holds = held[slot]
            if holds is not None:
                message, body, values = holds
                self._queue.give_back(_message(body, values, message.tag, message.attempt))


class MemoryBackend(Backend):
    """Topics and subscriptions in this process; each connection has its own."""

    name = "memory"
    features = Features(
        ordered=True,
        persistent=False,
        max_delay=ANY_DELAY,
        multi_valued_attributes=True,
        max_attributes=None,
        max_body=None,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=True,
    )

    def __init__(self, *, capacity: int | None = None) -> None:
        super().__init__()
        if capacity is not None and (
            isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1
        ):
            raise ValueError(f"capacity is a whole number from 1 on, or None for no bound, not {capacity!r}")
        self.capacity = capacity
        self._hubs: dict[str, _Hub] = {}
        self._lock = threading.Lock()
        self._servers: list[MemoryServer] = []

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``memory://``, or ``memory://?capacity=1000``."""
        parts = urlsplit(url)
        if parts.netloc or parts.path or parts.fragment:
            raise ValueError(
                f"memory:// names no place: write memory:// or memory://?capacity=1000, not {url!r}"
            )
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            if key != "capacity" or not value.isdecimal():
                raise ValueError(f"{url!r}: memory:// takes capacity=<a whole number>, not {key}={value}")
            options.setdefault("capacity", int(value))
        unknown = sorted(options.keys() - {"capacity"})
        if unknown:
            raise TypeError(f"memory:// takes the option capacity, not {', '.join(unknown)}")
        return cls(**options)

    def hub(self, topic: str) -> _Hub:
        """The subscriptions of a topic."""
        hub = self._hubs.get(topic)
        if hub is None:
            with self._lock:
                hub = self._hubs.setdefault(topic, _Hub())
        return hub

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""
        return MemoryTopic(self, name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server; its subscription exists from here on."""
        server = MemoryServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        self._servers.append(server)
        return server

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing."""
        self.check_open()
        hub = self.hub(check_name(topic, "topic"))
        for subscription in subscriptions:
            hub.subscribe(check_name(subscription, "subscription"))

    async def close(self) -> None:
        """Shut down the servers and forget all messages."""
        if self.closed:
            return
        self.closed = True
        for hub in self._hubs.values():
            hub.single = None
            for queue in hub.queues:
                queue.closed = True
                queue.publishers.wake_all()
        results = await asyncio.gather(*(s.shutdown() for s in self._servers), return_exceptions=True)
        self._hubs.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result
