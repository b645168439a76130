"""GcpServer: takes the messages of one subscription, and keeps them lent while they are worked on."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api
from google.pubsub_v1 import types

from msgviz.backends.gcp import wire
from msgviz.backends.gcp.intake import Intake
from msgviz.client import ClientBackend
from msgviz.dead_letters import dead_letter_topic
from msgviz.message import Message, Source
from msgviz.pull import Delivery, PullServer
from msgviz.server import BackoffLike

if TYPE_CHECKING:
    from msgviz.backends.gcp.backend import GcpBackend

logger = logging.getLogger("msgviz")

_AT_ONCE = 1000  # acknowledgements in one request


@dataclass(slots=True, eq=False)
class Lent:
    """A message that Pub/Sub has lent to us."""

    ack_id: str
    message: types.PubsubMessage
    attempt: int  # as Pub/Sub counts; 0 where it does not
    streamed: bool
    again: asyncio.TimerHandle | None = field(default=None)  # while it waits for its next attempt


class GcpServer(PullServer):
    """Workers on one subscription.

    All that is lent to it, received or waiting for another attempt, is extended every third of the
    subscription's deadline. Of messages with an ordering key it works on one at a time, and tries a failed
    one again itself, so that none of its key overtakes it.
    """

    backend: GcpBackend
    BLOCKED = 100
    """Messages that wait behind others of their ordering key, after which no more are taken."""
    RENEW = 90
    """The attempt after which a message without a limit is published anew: at 100 it would be dead."""

    def __init__(
        self,
        backend: ClientBackend,
        source: Source,
        *,
        concurrency: int,
        backoff: BackoffLike,
        decorators: tuple[Any, ...],
    ) -> None:
        super().__init__(backend, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        self._path = self.backend.subscription_path(source)
        self._lent: dict[str, Lent] = {}
        self._ready: deque[Lent] = deque()
        self._busy: set[str] = set()  # ordering keys
        self._failures: dict[str, int] = {}  # of messages whose attempts Pub/Sub does not count
        self._intake: Intake | None = None
        self._arrived = asyncio.Event()
        self._extending: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._told: set[asyncio.Task[None]] = set()  # what is said to Pub/Sub in the background

    async def open(self) -> None:
        """Look the subscription up, and begin to extend what it lends."""
        try:
            found = await self.backend.look_up(self.source)
        except LookupError:
            if not self.backend.create:
                raise
            await self.backend.mend()
            found = await self.backend.look_up(self.source)
        if self._extending is None:
            self._deadline = found.ack_deadline_seconds or 10
            self._extending = asyncio.create_task(self._extend())
            self._ending = None
            self._intake = Intake(self.backend, self._path, self.concurrency, self._deadline, self._receive)

    def _receive(self, received: Iterable[types.ReceivedMessage], streamed: bool) -> None:
        not_ours = []
        for one in received:
            lent = Lent(one.ack_id, one.message, one.delivery_attempt, streamed)
            if not wire.is_for(one.message.attributes, self.source.subscription):
                not_ours.append(one.ack_id)
                continue
            self._lent[lent.ack_id] = lent
            self._ready.append(lent)
        if not_ours:
            self._tell(self._ack(not_ours))
        self._arrived.set()

    async def take(self, count: int) -> Sequence[Delivery]:
        """Take from what has come; none where none comes within a second."""
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.0
        intake = self._intake
        while intake is not None and self._ending is None:
            self._arrived.clear()
            taken = self._pick(count)
            if taken:
                return taken
            try:
                intake.check()
                if len(self._ready) < self.BLOCKED:
                    intake.ask(count, sum(lent.streamed for lent in self._lent.values()), self._arrived)
            except api.NotFound:
                if not self.backend.create:
                    raise
                await self.backend.mend()
            left = until - loop.time()
            if left <= 0:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrived.wait()
        return ()

    def _pick(self, count: int) -> list[Delivery]:
        taken: list[Delivery] = []
        blocked: list[Lent] = []
        while self._ready and len(taken) < count:
            lent = self._ready.popleft()
            key = lent.message.ordering_key
            if key and key in self._busy:
                blocked.append(lent)
                continue
            if key:
                self._busy.add(key)
            taken.append(self._delivery(lent))
        self._ready.extendleft(reversed(blocked))
        return taken

    def _delivery(self, lent: Lent) -> Delivery:
        message = wire.decode(lent.message)
        before = wire.attempts_before(lent.message) + self._failures.get(lent.message.message_id, 0)
        message.attempt = before + max(lent.attempt, 1)
        return Delivery(message, lent)

    async def ack(self, delivery: Delivery) -> None:
        """It was processed."""
        lent: Lent = delivery.handle
        self._failures.pop(lent.message.message_id, None)
        try:
            await self._ack([lent.ack_id])
        finally:
            self._forget(lent)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Keep it lent for the delay, and give it back then."""
        lent: Lent = delivery.handle
        if not lent.attempt or lent.message.ordering_key:
            self._count_failure(lent.message.message_id)
        if self._ending is not None:
            await self.release(delivery)
            return
        lent.again = asyncio.get_running_loop().call_later(delay, self._again, lent)

    def _count_failure(self, message_id: str) -> None:
        self._failures[message_id] = self._failures.pop(message_id, 0) + 1
        if len(self._failures) > 10_000:
            del self._failures[next(iter(self._failures))]

    def _again(self, lent: Lent) -> None:
        if self._ending is not None:
            return  # it is given back with the others
        lent.again = None
        if lent.message.ordering_key:  # Pub/Sub would send those behind it, and maybe before it
            self._busy.discard(lent.message.ordering_key)
            self._ready.appendleft(lent)
            self._arrived.set()
        else:
            self._forget(lent)
            self._tell(self._renew(lent) if self._wears_out(lent) else self._nack([lent.ack_id]))

    def _wears_out(self, lent: Lent) -> bool:
        return self.source.max_attempts is None and lent.attempt >= self.RENEW

    async def _renew(self, lent: Lent) -> None:
        attempts = wire.attempts_before(lent.message) + lent.attempt
        try:
            await self.backend.check_addressable(self.source.topic, self.source.subscription)
            message = wire.anew(lent.message, attempts, self.source.subscription)
            await self.backend.publish(self.source.topic, message)
        except Exception:
            await self._nack([lent.ack_id])
            raise
        await self._ack([lent.ack_id])

    async def release(self, delivery: Delivery) -> None:
        """Give it back now; Pub/Sub counts that as an attempt."""
        lent: Lent = delivery.handle
        try:
            if self._stopping:
                self._end()
            if self._ending is not None:  # or it would come here again
                await asyncio.shield(self._ending)
            await self._nack([lent.ack_id])
        finally:
            self._forget(lent)

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """Publish the letter, then acknowledge; one that cannot be published goes by the policy."""
        reason = letter.attributes["Dead-Letter-Reason"]
        letter.attributes["Dead-Letter-Reason"] = wire.shortened(reason)
        topic = self.backend.open_topic(dead_letter_topic(self.source))
        try:
            await topic.put_letter(letter)
        except ValueError as error:
            logger.warning("%s: a dead letter that cannot be sent is given back: %s", self.source, error)
            await self.retry(delivery, 10.0)
        else:
            await self.ack(delivery)

    def _forget(self, lent: Lent) -> None:
        self._lent.pop(lent.ack_id, None)
        if lent.message.ordering_key:
            self._busy.discard(lent.message.ordering_key)
        self._arrived.set()

    async def _ack(self, ids: list[str]) -> None:
        for at in range(0, len(ids), _AT_ONCE):
            with suppress(api.NotFound, api.InvalidArgument):  # nobody knows it any more: it comes again
                await self.backend.subscriber.acknowledge(
                    subscription=self._path, ack_ids=ids[at : at + _AT_ONCE], retry=self.backend.retry
                )

    async def _nack(self, ids: list[str]) -> None:
        await self._lend(ids, 0)

    async def _lend(self, ids: list[str], seconds: int) -> None:
        for at in range(0, len(ids), _AT_ONCE):
            with suppress(api.NotFound, api.InvalidArgument):
                await self.backend.subscriber.modify_ack_deadline(
                    subscription=self._path,
                    ack_ids=ids[at : at + _AT_ONCE],
                    ack_deadline_seconds=seconds,
                    retry=self.backend.retry,
                )

    def _tell(self, action: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._say_safely(action))
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _say_safely(self, action: Coroutine[Any, Any, None]) -> None:
        try:
            await self._say(action)
        except Exception as error:  # noqa: BLE001  nobody waits for it; what is lent comes again
            logger.warning("%s: %s", self.source, error)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._deadline / 3)
            if self._lent:
                try:
                    await self.backend.call(self._lend(list(self._lent), self._deadline))
                except Exception as error:  # noqa: BLE001  the next round may do
                    logger.warning("%s: leases were not extended: %s", self.source, error)

    def wake(self) -> None:
        """Take no more, and give back at once what no worker has."""
        super().wake()
        self._end()

    def _end(self) -> None:
        if self._intake is not None and self._ending is None:
            self._ending = asyncio.create_task(self._end_intake(self._intake))

    async def _end_intake(self, intake: Intake) -> None:
        await intake.end()  # first: what is given back before would come here again
        self._give_back()

    def _give_back(self) -> None:
        given = list(self._ready)
        self._ready.clear()
        for lent in self._lent.values():
            if lent.again is not None:
                lent.again.cancel()
                lent.again = None
                given.append(lent)
        for lent in given:
            self._forget(lent)
        if given:
            self._tell(self._nack([lent.ack_id for lent in given]))

    async def shut(self) -> None:
        """End taking, give back what is left, and let go."""
        self._end()
        if self._ending is not None:
            await self._ending
            self._give_back()
            self._intake = None
        if self._extending is not None:
            self._extending.cancel()
            await asyncio.wait([self._extending])
            self._extending = None
        if self._told:
            await asyncio.wait(self._told)
        self._lent.clear()
        self._busy.clear()
