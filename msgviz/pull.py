"""PullServer: a server whose messages are taken from a system, and settled there one by one."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from msgviz.attributes import Values
from msgviz.client import ClientBackend
from msgviz.dead_letters import dead_letter_attributes, dead_letter_topic
from msgviz.errors import BackendClosed, ConnectionFailed, MsgvizError
from msgviz.message import Message, Source, wrap
from msgviz.server import Backoff, BackoffLike, Server, Turn, as_backoff

logger = logging.getLogger("msgviz")

_TRIES = 4  # to begin, where the system has been reached before


@dataclass(slots=True, eq=False)
class Delivery:
    """A message that was taken and is not settled yet. `handle` is what the system knows it by."""

    message: Message
    handle: Any = None
    body: bytes = field(init=False)
    values: Values = field(init=False)  # body and attributes as they were taken, whatever a receiver does
    settled: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.body = self.message.body
        self.values = self.message.freeze()


class UsedUp(MsgvizError):
    """Why a message is dead whose consumers ended before they could say what happened."""


class PullServer(Server):
    """Workers that take messages and settle them. To write one, define the methods that are abstract.

    A worker takes no message before it can receive it, so nothing waits behind a slow receiver. Where a
    taken message is lent for a time only, say so in `lease`: it is extended for as long as its receiver
    works. A connection that breaks is opened again for up to `patience` seconds; the server fails then.
    """

    lease: float = math.inf
    """Seconds for which a message is lent; `extend` is called every third of it."""
    patience: float = 60.0

    def __init__(
        self,
        backend: ClientBackend,
        source: Source,
        *,
        concurrency: int,
        backoff: BackoffLike,
        decorators: tuple[Any, ...],
    ) -> None:
        super().__init__(source, concurrency=concurrency, decorators=decorators)
        self.backend: Any = backend
        self.backoff = as_backoff(backoff)
        self._held: list[Delivery | None] = [None] * concurrency
        self._taken: deque[Delivery] = deque()
        self._idle = 0  # workers that wait for a message
        self._taking: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None
        self._open = False
        self._opening: asyncio.Lock | None = None
        self._ends = 0  # how often it has ended
        self._keeper: asyncio.Task[None] | None = None
        self._last_words: set[asyncio.Task[None]] = set()
        self._looks_empty: bool | None = None

    @abstractmethod
    async def open(self) -> None:
        """Begin to consume. The topic and its subscription exist. Called again after a connection broke."""

    @abstractmethod
    async def take(self, count: int) -> Sequence[Delivery]:
        """Take from 1 to `count` messages; none where none came within about a second (or longer).

        Sets `attempt` of each. When cancelled, gives back what it took meanwhile, or returns it.
        """

    @abstractmethod
    async def ack(self, delivery: Delivery) -> None:
        """It was processed."""

    @abstractmethod
    async def retry(self, delivery: Delivery, delay: float) -> None:
        """It was not processed: it comes again, as the next attempt, after about `delay` seconds."""

    @abstractmethod
    async def release(self, delivery: Delivery) -> None:
        """Nobody processed it: it comes again at once; as the same attempt where the system can."""

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Prolong the lease of these by another `lease` seconds."""

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """It used up its attempts: `letter`, which says why, goes to the dead-letter topic, and it is gone.

        In this order: at worst there are two letters, never none.
        """
        topic = self.backend.open_topic(dead_letter_topic(self.source))
        await topic.put(letter, 0.0)
        await self.ack(delivery)

    async def shut(self) -> None:
        """End consuming; all deliveries are settled, or given up."""

    async def work(self, slot: int) -> None:
        """Take messages and settle them until told to stop; see `Server.work`."""
        if self._opening is None:
            self._opening = asyncio.Lock()
            self._stop = asyncio.Event()
        ends = self._ends
        async with self._opening:
            if not self._open and not await self._begin(ends):
                return
        turn = Turn(self.concurrency)
        left = turn.begin()
        while not self._stopping:
            if self._taken:
                delivery = self._taken.popleft()
            else:
                await self._wait()
                left = turn.begin()
                continue
            self._held[slot] = delivery
            await self._process(delivery)
            self._held[slot] = None
            left -= 1
            if not left:
                left = turn.look()
                if not left:
                    await asyncio.sleep(0)
                    left = turn.begin()

    async def _begin(self, ends: int) -> bool:
        """Have all there is to have, and begin to consume; false where the server ends before.

        `ends` is how often it had ended when this worker began.
        """
        backoff = Backoff(first=0.1, maximum=2.0)
        for tries in count(1):
            try:
                await self.backend.ready(self.source.topic)
                if self.source.max_attempts is not None:
                    await self.backend.ready(dead_letter_topic(self.source))
                await self.backend.call(self.open())
            except BackendClosed:
                if self._stopping or self.backend.closed:  # before it came to serving
                    return False
                raise
            except ConnectionFailed as error:
                if not self.backend.reached or tries >= _TRIES:
                    raise
                logger.warning("%s: %s; trying again", self.source, error)
                await self._pause(backoff(tries))
                if self._stopping:
                    return False
            else:
                break
        if self._ends > ends:  # nobody waited any longer for this worker, and so nobody else shuts it
            with suppress(ConnectionFailed):
                await self.backend.call(self.shut())
            return False
        self._open = True
        if self._keeper is None and self.lease < math.inf:
            self._keeper = asyncio.create_task(self._keep())
        return True

    async def _wait(self) -> None:
        """Wait until there may be something to take; one task takes for all workers that wait."""
        self._idle += 1
        try:
            if self._taking is None:
                self._taking = asyncio.create_task(self._take())
            await asyncio.wait([self._taking])
            failed = self._taking is not None and self._taking.done() and not self._taking.cancelled()
            if failed and self._taking is not None and (error := self._taking.exception()) is not None:
                raise error
        finally:
            self._idle -= 1
            if self._taking is not None and self._taking.done():
                self._taking = None

    async def _take(self) -> None:
        """Take what the idle workers can receive; try again where the connection broke."""
        await asyncio.sleep(0)  # others that are idle join in
        backoff = Backoff(first=0.05, maximum=2.0)
        broke = 0.0
        tries = 0
        while not self._stopping:
            try:
                if tries:
                    await self.backend.call(self.open())
                taken = await self.take(max(self._idle, 1))
            except Exception as error:
                known = error if isinstance(error, MsgvizError) else self.backend.explain(error)
                if not isinstance(known, ConnectionFailed):
                    if known is None or known is error:
                        raise
                    raise known from error
                if not tries:
                    broke = time.monotonic()
                    logger.warning("%s: %s; trying again for %g s", self.source, known, self.patience)
                elif time.monotonic() - broke > self.patience:
                    raise known from error
                tries += 1
                await self._pause(backoff(tries))
            else:
                self._looks_empty = not taken
                self._taken.extend(taken)
                return

    async def _pause(self, seconds: float) -> None:
        if self._stop is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stop.wait()

    async def _process(self, delivery: Delivery) -> None:
        message, source = delivery.message, self.source
        message.source = source
        limit = source.max_attempts
        if limit is not None and message.attempt > limit:
            why = UsedUp(f"{limit} consumers took it and ended without a word")
            await self._settle(delivery, self._bury(delivery, limit, why))
            return
        try:
            await self.receive(message)
        except Exception as error:  # noqa: BLE001  whatever a receiver raises means: not processed
            await self._failed(delivery, error)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not self.ends_worker():
                await self._failed(delivery, error)
            else:
                await self._settle(delivery, self.release(delivery))
                raise
        else:
            await self._settle(delivery, self.ack(delivery))

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        attempt, limit = delivery.message.attempt, self.source.max_attempts
        if limit is not None and attempt >= limit:
            await self._settle(delivery, self._bury(delivery, attempt, error))
            return
        try:
            delay = float(self.backoff(attempt))
        except BaseException:
            await self._settle(delivery, self.release(delivery))
            raise
        await self._settle(delivery, self.retry(delivery, delay))

    async def _bury(self, delivery: Delivery, attempts: int, error: BaseException) -> None:
        letter = wrap(delivery.body, delivery.values)
        letter.attributes.update(dead_letter_attributes(self.source, attempts, error))
        await self.bury(delivery, letter)

    async def _settle(self, delivery: Delivery, action: Coroutine[Any, Any, None]) -> None:
        """Tell the system what became of a message; whoever is cancelled meanwhile still does so."""
        if delivery.settled:  # given back while its receiver went on
            action.close()
            return
        delivery.settled = True
        task = asyncio.create_task(self._say(action))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._last_words.add(task)
            raise

    async def _say(self, action: Coroutine[Any, Any, None]) -> None:
        try:
            await self.backend.call(action)
        except ConnectionFailed as error:
            # The system did not hear it, and so gives the message to somebody again: nothing is lost.
            logger.warning("%s: a message could not be settled, and will come again: %s", self.source, error)

    async def _keep(self) -> None:
        """Extend the lease of what is held, three times in the length of one."""
        while self._keeper is asyncio.current_task():  # a client library may lose a cancelling
            await asyncio.sleep(self.lease / 3)
            held = [d for d in (*self._held, *self._taken) if d is not None and not d.settled]
            if held:
                try:
                    await self.backend.call(self.extend(held))
                except Exception as error:  # noqa: BLE001  the next round may do
                    logger.warning("%s: leases were not extended: %s", self.source, error)

    def looks_empty(self) -> bool | None:
        """Whether the last attempt to take a message gave none."""
        return self._looks_empty

    def wake(self) -> None:
        """Make workers that wait for a message look at `stopping`."""
        if self._stop is not None:
            self._stop.set()
        if self._taking is not None:
            self._taking.cancel()

    def abandon(self, slots: Sequence[int]) -> None:
        """Give back the messages of workers that did not end when cancelled."""
        for slot in slots:
            held = self._held[slot]
            if held is not None and not held.settled:
                held.settled = True
                self._last_words.add(asyncio.create_task(self._say(self.release(held))))

    async def end(self) -> None:
        """Give back what no worker received, hear out what is being settled, and end consuming."""
        self._ends += 1
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        try:
            if self._taking is not None:
                self._taking.cancel()
                await asyncio.wait([self._taking])
                self._taking = None
            for delivery in self._taken:
                self._last_words.add(asyncio.create_task(self._say(self.release(delivery))))
            self._taken.clear()
            if self._last_words:
                await asyncio.wait(self._last_words, timeout=self.backend.timeout)
        finally:  # also when it is cancelled a second time
            self._last_words.clear()
            if self._open:
                self._open = False
                with suppress(ConnectionFailed):
                    await self.backend.call(self.shut())
