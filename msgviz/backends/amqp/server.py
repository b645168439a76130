"""AmqpServer: consumes a subscription's queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, InvalidFrameError

from msgviz.backends.amqp import wire
from msgviz.backends.amqp.connection import alive, hang_up, unless_cancelled
from msgviz.errors import ConnectionFailed, MsgvizError
from msgviz.message import Message, wrap
from msgviz.pull import Delivery, PullServer


class _Inbox(deque[AbstractIncomingMessage]):
    """What one consumer was sent and nobody took yet; `broke` says why there will be no more."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()
        self.broke: BaseException | None = None

    async def receive(self, message: AbstractIncomingMessage) -> None:
        self.append(message)
        self.news.set()

    def ended(self, _: Any, error: BaseException | None = None) -> None:
        if self.broke is None:
            self.broke = error or ConnectionFailed("the connection was closed")
        self.news.set()


class AmqpServer(PullServer):
    """Consumes on a connection of its own, at most as many messages at once as it has workers."""

    _IDLE = 0.3  # seconds without a message after which there seems to be none
    _MOST_UNREADABLE = 100  # how often in a row a message that cannot be read may break the connection

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._queue = wire.queue_name(self.topic, self.subscription)
        self._connection: aio_pika.Connection | None = None
        self._inbox = _Inbox()
        self._unreadable = 0
        self._consumer: tuple[AbstractQueue, str] | None = None
        self._ceasing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to consume."""
        await hang_up(self._connection)
        self._connection = self._consumer = None
        connection = await self.backend.dial(f"msgviz {self.source}")
        inbox = _Inbox()
        try:
            with unless_cancelled(self.backend.safe_url):
                channel = await connection.channel(publisher_confirms=False)
                channel.close_callbacks.add(inbox.ended)
                connection.close_callbacks.add(inbox.ended)
                # Each loss of the connection counts as an attempt of all that was sent: only of that one.
                await channel.set_qos(prefetch_count=1 if self._unreadable else self.concurrency)
                queue = await channel.get_queue(self._queue, ensure=False)
                underlay = await channel.get_underlay_channel()
                cancelled: Any = getattr(underlay, "on_consumer_cancel_callbacks", None)
                if cancelled is not None:  # the queue was deleted
                    cancelled.add(inbox.ended)
                tag = await queue.consume(inbox.receive)
        except BaseException:
            await hang_up(connection)
            raise
        self._connection, self._inbox = connection, inbox
        self._consumer = (queue, tag)
        if self._stopping:
            await self._cease()

    async def _cease(self) -> None:
        """Have nothing more sent: what is given back would come again, and count as another attempt."""
        if self._consumer is not None:
            (queue, tag), self._consumer = self._consumer, None
            with unless_cancelled(self.backend.safe_url):
                await queue.cancel(tag)

    async def _cease_soon(self) -> None:
        with suppress(Exception):  # where the connection broke nothing is sent either
            await self.backend.call(self._cease())

    def wake(self) -> None:
        """Have nothing more sent, and see `Server.wake`."""
        super().wake()
        if self._consumer is not None:
            self._ceasing = asyncio.create_task(self._cease_soon())

    async def take(self, count: int) -> Sequence[Delivery]:
        """Take what came; waits a moment for it."""
        inbox = self._inbox
        if not inbox and inbox.broke is None:
            inbox.news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._IDLE):
                    await inbox.news.wait()
        # From here on nothing suspends, so that a cancelling finds all of it in the inbox.
        taken = [self._delivery(inbox.popleft()) for _ in range(min(count, len(inbox)))]
        if taken:
            self._unreadable = 0
        elif inbox.broke is not None:
            await self._mend(inbox.broke)
        return taken

    async def _mend(self, broke: BaseException) -> None:
        """Consume again where a message could not be read; raise what broke the connection otherwise.

        aiormq ends a connection when it cannot read a header. The queue counts that as an attempt, so
        that in the end it makes such a message a dead letter.
        """
        if isinstance(broke, InvalidFrameError) or not isinstance(
            broke, (AMQPError, OSError, EOFError, ChannelInvalidStateError, asyncio.CancelledError)
        ):
            self._unreadable += 1
            if self._unreadable > self._MOST_UNREADABLE:
                raise MsgvizError(
                    f"{self.source}: aiormq cannot read what is next in the queue {self._queue!r}: {broke!r}"
                ) from broke
            await self.backend.call(self.open())
            return
        if isinstance(broke, Exception):
            raise broke
        raise ConnectionFailed(f"the connection to {self.backend.safe_url} broke") from broke

    def _delivery(self, message: AbstractIncomingMessage) -> Delivery:
        read = wrap(message.body, wire.incoming(message))
        letter = wire.broker_letter(message)
        if letter:
            read.attributes.update(letter)
        read.attempt = wire.attempt(message)
        return Delivery(read, message)

    def _check(self, delivery: Delivery) -> AbstractIncomingMessage:
        """What was sent on a connection that broke comes again: it must not be sent on as well."""
        message: AbstractIncomingMessage = delivery.handle
        with suppress(ChannelInvalidStateError):
            if not message.channel.is_closed and alive(self._connection):
                return message
        raise ConnectionFailed(f"the connection to {self.backend.safe_url} broke")

    async def ack(self, delivery: Delivery) -> None:
        """It was processed."""
        with unless_cancelled(self.backend.safe_url):
            await delivery.handle.ack()

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """It was not processed: it goes to the end of the queue, after the delay."""
        await self._again(delivery, delay, delivery.message.attempt)

    async def release(self, delivery: Delivery) -> None:
        """Nobody processed it: it goes back to its place, or, where that could cost its life, to the end.

        The queue counts what is given back as attempts, so a message that has one already or may have no
        more is sent again, with its number.
        """
        message = self._check(delivery)
        limit = self.source.max_attempts
        await self._settle_consumer()
        if not message.redelivered and (limit is None or delivery.message.attempt < limit):
            with unless_cancelled(self.backend.safe_url):
                await message.reject(requeue=True)
            return
        await self._again(delivery, 0.0, delivery.message.attempt - 1)

    async def _settle_consumer(self) -> None:
        await self._cease()
        if self._ceasing is not None:
            await asyncio.wait([self._ceasing])

    async def _again(self, delivery: Delivery, delay: float, attempts: int) -> None:
        message = self._check(delivery)
        again = wire.outgoing(delivery.body, delivery.values, attempts=attempts, like=message)
        try:
            self.backend.check_size(again)
        except ValueError:  # somebody else's, with headers that fill a frame
            with unless_cancelled(self.backend.safe_url):
                await message.reject(requeue=True)
            return
        async with self._or_requeue(message):
            await self.backend.post(again, delay, queue=self._queue)
        await self.ack(delivery)

    @asynccontextmanager
    async def _or_requeue(self, message: AbstractIncomingMessage) -> AsyncIterator[None]:
        """Give a message back that could not be sent on: nobody else does while the connection lasts."""
        try:
            yield
        except ValueError:
            raise
        except BaseException:
            with suppress(Exception):
                await message.reject(requeue=True)
            raise

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """It used up its attempts: the letter goes to the dead-letter topic, and it is gone."""
        message = self._check(delivery)
        try:
            async with self._or_requeue(message):
                await super().bury(delivery, letter)
        except ValueError:  # the letter is too large: RabbitMQ can move the message as it is
            with unless_cancelled(self.backend.safe_url):
                await message.reject(requeue=False)

    async def shut(self) -> None:
        """Give back what nobody took, and end consuming."""
        inbox, connection = self._inbox, self._connection
        self._connection = None
        try:
            if alive(connection):
                self._connection = connection
                for _ in range(len(inbox)):
                    await self.release(self._delivery(inbox.popleft()))
        finally:
            self._connection = self._consumer = None
            if self._ceasing is not None:
                self._ceasing.cancel()
                self._ceasing = None
            await hang_up(connection)
