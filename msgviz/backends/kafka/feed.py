"""Feed: the one consumer of a subscription that the servers of a backend share."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from msgviz.backends.kafka.offsets import OffsetTracker
from msgviz.backends.kafka.records import Headers, read_retry
from msgviz.errors import MsgvizError
from msgviz.message import Source

if TYPE_CHECKING:
    from msgviz.backends.kafka.backend import KafkaBackend

logger = logging.getLogger("msgviz")


async def hang_up(client: Any) -> None:
    """Close the connections of a consumer, a producer or an admin client.

    Its own `close` asks its task once to end, and while it cannot connect that task may not hear it.
    """
    task = client._sync_task
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
    await client.close()


class Held:
    """A record that was fetched and is not finished."""

    __slots__ = ("attempt", "due", "headers", "record", "tracker")

    def __init__(
        self, record: Any, tracker: OffsetTracker[Held], headers: Headers, attempt: int, due: float
    ) -> None:
        self.record = record
        self.tracker = tracker
        self.headers = headers
        self.attempt = attempt
        self.due = due


class Feed(ConsumerRebalanceListener):  # type: ignore[misc]
    """Fetches the records of a subscription, its retries among them, and commits what is finished.

    One consumer for all servers that a backend has of the subscription: Kafka gives a partition to one
    consumer, and they compete for what that one fetches. What is finished is committed every
    `COMMIT` seconds. Retries whose time has not come wait here, uncommitted; when there are too many, no
    more are fetched for a while.
    """

    COMMIT = 0.05
    CHUNK = 100  # records that are fetched ahead
    LATER = 1000  # retries that may wait here,
    LATER_BYTES = 64 << 20  # and their bytes
    GRACE = 1.0  # seconds in which receivers may finish before their partitions go to somebody else
    QUIET = 0.4  # seconds without a record, at the end of each partition, until there is none to take
    PING = 2.0  # seconds without a message after which the brokers are asked whether they are there

    def __init__(self, backend: KafkaBackend, source: Source, retry: str | None) -> None:
        self.source = source
        self.retry = retry
        self.users = 0
        self.failure: Exception | None = None
        self._backend = backend
        self._consumer: Any = None
        self._trackers: dict[TopicPartition, OffsetTracker[Held]] = {}
        self._ready: deque[Held] = deque()
        self._later: list[tuple[float, int, Held]] = []
        self._later_bytes = 0
        self._paused = False
        self._order = count()
        self._flying: set[Held] = set()  # with receivers
        self._landed = asyncio.Event()
        self._assigned = False  # False while partitions change hands
        self._wanted = 0
        self._pinged = time.monotonic()
        self._demand = asyncio.Event()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._changed = asyncio.Event()  # there may be something to commit

    async def start(self) -> None:
        """Join the consumer group; returns before partitions are given out, which takes seconds."""
        source = self.source
        self._consumer = AIOKafkaConsumer(
            group_id=f"{source.topic}.{source.subscription}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=2**31 - 1,  # a receiver may take its time: heartbeats go on beside it
            **self._backend.consumer_options,
        )
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        topics = [source.topic] if self.retry is None else [source.topic, self.retry]
        self._consumer.subscribe(topics, listener=self)
        self._tasks = [asyncio.create_task(self._fetch()), asyncio.create_task(self._commit_often())]

    # Records come in.

    async def _fetch(self) -> None:
        try:
            while True:
                await self._demand.wait()
                missing = self._wanted - len(self._ready)
                if missing <= 0:
                    self._demand.clear()
                    continue
                fetched = await self._consumer.getmany(timeout_ms=200, max_records=missing + self.CHUNK)
                for place, records in fetched.items():
                    await self._accept(place, records)
                if fetched:
                    self._wake()
        except Exception as error:  # noqa: BLE001  whoever takes is told
            self.failure = error
            self._wake()

    async def _accept(self, place: TopicPartition, records: list[Any]) -> None:
        tracker = self._trackers.get(place)
        if tracker is not None and records[0].offset < tracker.position:
            # Either fetched just before `on_partitions_assigned` told where to go on, and so known, or
            # the topic was deleted and made again.
            if not self._assigned or await self._consumer.position(place) >= tracker.position:
                records = [record for record in records if record.offset >= tracker.position]
            else:
                tracker = None
        now = time.time()
        for record in records:
            if tracker is None:
                tracker = self._trackers[place] = OffsetTracker(record.offset)
                self._forget_lost()
            held = Held(record, tracker, record.headers, 1, 0.0)
            if place.topic == self.retry:
                held.headers, held.attempt, held.due = read_retry(record.headers)
            tracker.add(record.offset, held)
            if held.due > now:
                self._postpone(held)
            else:
                self._ready.append(held)

    def _postpone(self, held: Held) -> None:
        heapq.heappush(self._later, (held.due, next(self._order), held))
        self._later_bytes += len(held.record.value or b"")
        self._regulate()

    def _promote(self) -> None:
        """Move what has become due to the end of what is ready."""
        now = time.time()
        while self._later and self._later[0][0] <= now:
            held = heapq.heappop(self._later)[2]
            self._later_bytes -= len(held.record.value or b"")
            self._ready.append(held)
        self._regulate()

    def _regulate(self) -> None:
        full = len(self._later) >= self.LATER or self._later_bytes >= self.LATER_BYTES
        if full is not self._paused and self.retry is not None and self._assigned:
            self._paused = full
            places = [p for p in self._consumer.assignment() if p.topic == self.retry]
            (self._consumer.pause if full else self._consumer.resume)(*places)

    def _forget_lost(self) -> None:
        """Drop what waits here of partitions that are none of ours any more."""
        self._ready = deque(held for held in self._ready if self.has(held))
        self._later = [entry for entry in self._later if self.has(entry[2])]
        heapq.heapify(self._later)
        self._later_bytes = sum(len(held.record.value or b"") for _, _, held in self._later)

    # Servers take, and tell what became of it.

    async def take(self, most: int) -> list[Held]:
        """From 1 to `most` records; none where there was none for a moment."""
        began = time.monotonic()
        while True:
            if self.failure is not None:
                raise self.failure
            if self._later:
                self._promote()
            if self._ready and self._assigned:
                taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
                self._flying.update(taken)
                return taken
            now = time.monotonic()
            if now - self._pinged >= self.PING:
                self._pinged = now
                await self._backend.ping(self.source.topic)
                continue
            if now - began >= self.QUIET and await self._looks_empty():
                return []
            await self._sleep(most)

    async def _sleep(self, most: int) -> None:
        seconds = 0.25
        if self._later:
            seconds = min(seconds, max(self._later[0][0] - time.time(), 0.001))
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        self._wanted += most
        self._demand.set()
        try:
            await asyncio.wait([sleeper], timeout=seconds)
        finally:
            self._wanted -= most
            self._sleepers.discard(sleeper)
            sleeper.cancel()

    def _wake(self) -> None:
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def _looks_empty(self) -> bool:
        """Whether every partition we have was fetched to its end."""
        if not self._assigned:
            return False
        for place in self._consumer.assignment():
            if place.topic == self.retry and self._paused:
                continue
            end = self._consumer.highwater(place)
            if end is None or await self._consumer.position(place) < end:
                return False
        return self._assigned and not self._ready

    def has(self, held: Held) -> bool:
        """Whether a record is still ours to settle; if not, its partition's new owner delivers it."""
        place = TopicPartition(held.record.topic, held.record.partition)
        return self._trackers.get(place) is held.tracker and held.record.offset in held.tracker.unfinished

    def finish(self, held: Held) -> None:
        """It is done with."""
        held.tracker.finish(held.record.offset)
        self._land(held)
        self._changed.set()

    def give_back(self, held: Held) -> None:
        """Nobody processed it: it is the next one."""
        self._land(held)
        if self.has(held):
            self._ready.appendleft(held)
            self._wake()

    def again(self, held: Held, attempt: int, delay: float) -> None:
        """It comes again from here, without leaving its partition; a crash forgets the attempts so far."""
        self._land(held)
        if self.has(held):
            held.attempt = attempt
            held.due = time.time() + delay
            self._postpone(held)
            self._wake()

    def _land(self, held: Held) -> None:
        self._flying.discard(held)
        if not self._flying:
            self._landed.set()

    # Offsets go out.

    async def _commit_often(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(self.COMMIT)
            if self._assigned:
                self._changed.clear()
                await self._commit(self._trackers)

    async def _commit(self, places: Iterable[TopicPartition]) -> None:
        """Commit what is finished of these partitions. Where it fails, messages come again: none is lost."""
        offsets = {}
        for place in places:
            tracker = self._trackers.get(place)
            if tracker is not None and tracker.committable > tracker.committed:
                offsets[place] = tracker.committable
        if not offsets:
            return
        trackers = {place: self._trackers[place] for place in offsets}
        try:
            async with asyncio.timeout(self._backend.timeout):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            logger.info("%s: not committed, for partitions changed hands: %s", self.source, error)
        except (KafkaError, OSError, TimeoutError) as error:
            logger.warning("%s: not committed: %s", self.source, error or type(error).__name__)
            self._changed.set()
        else:
            for place, offset in offsets.items():
                trackers[place].committed = max(offset, trackers[place].committed)

    # Partitions come and go. Kafka takes all of them away first, even those that come back.

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Let receivers finish for a moment, and commit what is done."""
        self._assigned = False
        if self._flying:
            self._landed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self.GRACE, self._backend.session / 4)):
                    await self._landed.wait()
        await self._commit(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Go on where we were in partitions that came back; forget those that went."""
        for place in self._trackers.keys() - set(assigned):
            del self._trackers[place]
        for place, tracker in list(self._trackers.items()):
            try:
                async with asyncio.timeout(self._backend.timeout):
                    committed = await self._consumer.committed(place) or 0
                if tracker.committed > max(committed, tracker.first):
                    del self._trackers[place]  # what we committed is gone: the topic began anew
                else:
                    tracker.advance(committed)
                    self._consumer.seek(place, tracker.position)
            except (KafkaError, IllegalStateError, TimeoutError):
                self._trackers.pop(place, None)  # messages in flight come twice, for we cannot know better
        self._forget_lost()
        self._paused = False
        self._assigned = True
        self._regulate()
        self._changed.set()
        self._wake()

    async def close(self) -> None:
        """Leave the group. What is not finished comes again, to whoever has the partition next."""
        if self._closed:
            return
        self._closed = True
        began = time.monotonic()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._assigned and self.failure is None:
            with suppress(TimeoutError):  # the brokers may be away
                async with asyncio.timeout(0.4 * self._backend.timeout):
                    await self._give_up_gaps()
                    await self._commit(list(self._trackers))
        self._assigned = False
        self._trackers.clear()
        self._ready.clear()
        self._later.clear()
        await self._stop(began + 0.8 * self._backend.timeout)

    async def _stop(self, deadline: float) -> None:
        """Stop the consumer, whose own way of doing so may fail, or take as long as brokers are away."""
        consumer = self._consumer
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.wait([stopping], timeout=deadline - time.monotonic())
        if not stopping.done():  # it waits for a group that is sorting itself out, or for nobody
            await hang_up(consumer._client)
            await asyncio.wait([stopping], timeout=0.1 * self._backend.timeout)
            stopping.cancel()
        failed = await asyncio.gather(stopping, return_exceptions=True)
        if failed[0] is not None:  # half-way
            await asyncio.gather(consumer._fetcher.close(), return_exceptions=True)
            await hang_up(consumer._client)

    async def _give_up_gaps(self) -> None:
        """Send unfinished messages through the retry topic that later ones, finished, are behind of.

        Those would else be delivered a second time, for what is committed is one number.
        """
        for tracker in self._trackers.values():
            for held in tracker.overtaken():
                try:
                    await self._backend.republish(self, held, held.attempt, max(held.due - time.time(), 0.0))
                except (KafkaError, OSError, TimeoutError, MsgvizError):
                    return
                tracker.finish(held.record.offset)
