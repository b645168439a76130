"""AmqpBackend and AmqpTopic: exchanges, queues, and publishing to them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar, Self, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import (
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)

from msgviz.backend import Features
from msgviz.backends.amqp import wire
from msgviz.backends.amqp.connection import alive, dial, explain, hang_up, unless_cancelled
from msgviz.backends.amqp.server import AmqpServer
from msgviz.client import ClientBackend, ClientTopic
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import MsgvizError, NotFound
from msgviz.message import Message, Source
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic
from msgviz.urls import Url, read_url, without_password

T = TypeVar("T")

logger = logging.getLogger("msgviz")

WEEK = 7 * 24 * 3600
_SAFELY: dict[str, Any] = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
"""A message that RabbitMQ moves leaves its queue when the other has stored it."""
_UNCLAIMED: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-max-length": 10_000,
    "x-overflow": "reject-publish",
}
"""What is published before its topic has a subscription waits for the first: so many messages."""
LETTER = 8192  # bytes of headers that a message may gain: why it is dead, and where from


def _of_letters(topic: str) -> bool:
    return topic.endswith(".dead")


class AmqpTopic(ClientTopic):
    """A topic's exchange; or the queue of one subscription alone."""

    async def put(self, message: Message, delay: float) -> None:
        """Publish one message; returns when RabbitMQ has stored it."""
        backend: AmqpBackend = self.backend
        outgoing = wire.outgoing(message.body, message.freeze())
        backend.check_size(outgoing, LETTER)
        if self.subscription is None:
            exchange = wire.exchange_name(self.name)
            if not await backend.post(outgoing, delay, exchange=exchange):
                raise NotFound(  # others have made it, without a place where messages wait for one
                    f"the topic {self.name!r} has no subscription: {backend.safe_url} would drop the message"
                )
            return
        queue = wire.queue_name(self.name, self.subscription)
        if await backend.post(outgoing, delay, queue=queue):
            return
        await backend.make(self.name, [Source(self.name, self.subscription)])  # or say that it is not there
        if not await backend.post(outgoing, delay, queue=queue):
            raise NotFound(f"{self.name}/{self.subscription} has no queue {queue!r} at {backend.safe_url}")


class AmqpBackend(ClientBackend):
    """RabbitMQ at ``amqp://user:password@host:port/vhost``, or several hosts of one cluster, by commas.

    Options: `timeout` and `create`, as everywhere; `heartbeat`, the seconds after which a silent
    connection is looked into; `delivery_limit`, after how many deaths of its consumers RabbitMQ itself
    makes a message a dead letter, a limit for new queues that `max_attempts` is usually below. Exchanges
    and queues that exist already are used as they are. A topic without a subscription keeps 10,000
    messages for the first one, and refuses more.
    """

    name = "amqp"
    features = Features(
        ordered=True,
        persistent=True,
        max_delay=30 * 24 * 3600.0,
        multi_valued_attributes=True,
        max_attributes=None,
        max_body=128 * 1024 * 1024,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=True,
    )
    OPTIONS: ClassVar = {**ClientBackend.OPTIONS, "delivery_limit": int, "heartbeat": int}

    def __init__(self, url: Url, *, delivery_limit: int = 20, heartbeat: int = 10, **options: Any) -> None:
        super().__init__(url.safe, **options)
        for name, value in (("delivery_limit", delivery_limit), ("heartbeat", heartbeat)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is a whole number from 1 on, not {value!r}")
        self.delivery_limit = delivery_limit
        self.heartbeat = heartbeat
        self._url = url
        self._connection: aio_pika.Connection | None = None
        self._publishing: AbstractChannel | None = None
        self._declaring: AbstractChannel | None = None
        self._connecting = asyncio.Lock()
        self._one_by_one = asyncio.Lock()
        self._frame = 131072  # bytes of the largest frame
        self._waiting: set[str] = set()  # queues for delayed messages that are there
        self._period = 0  # the week in which these were made

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``amqp://user:password@host:port/vhost``; the vhost is "/" where none is named."""
        parts = read_url(url, cls.OPTIONS, options)
        if "/" in parts.path[1:].rstrip("/") and "%2f" not in url.lower():
            raise ValueError(f"{without_password(url)}: a / in the name of a vhost is written %2F")
        return cls(parts, **parts.options)

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name; `ValueError` for a name longer than RabbitMQ takes."""
        wire.exchange_name(name)
        return AmqpTopic(self, name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server; its queue is there before the next message is published to its topic."""
        wire.queue_name(source.topic, source.subscription)
        if source.max_attempts is not None:
            wire.queue_name(dead_letter_topic(source), "default")
        return self.add(
            AmqpServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )

    async def dial(self, name: str) -> aio_pika.Connection:
        """A connection of its own, which its user closes."""
        return await dial(self._url, name=name, heartbeat=self.heartbeat)

    async def open(self) -> None:
        """Connect, to publish."""
        await self._channel_to_publish()

    async def disconnect(self) -> None:
        """Close the connection; those of the servers are closed already."""
        await hang_up(self._connection)
        self._connection = self._publishing = self._declaring = None

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """An error of aio-pika in our words."""
        return explain(error, self.safe_url)

    async def _connected_now(self) -> aio_pika.Connection:
        if not alive(self._connection):
            broken, self._connection = self._connection, None
            self._publishing = self._declaring = None
            self._waiting.clear()
            await hang_up(broken)
            self._connection = await self.dial("msgviz")
            if self._connection.transport is not None:
                tune = self._connection.transport.connection.connection_tune
                self._frame = tune.frame_max or self._frame
        assert self._connection is not None  # noqa: S101  for the type checker
        return self._connection

    async def _channel_to_publish(self) -> AbstractChannel:
        channel = self._publishing
        if channel is not None and not channel.is_closed and alive(self._connection):
            return channel
        async with self._connecting:
            connection = await self._connected_now()
            if self._publishing is None or self._publishing.is_closed:
                self._publishing = await connection.channel(on_return_raises=True)
            return self._publishing

    async def _declare(self, action: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        """Do something on a channel that what fails may close."""
        async with self._one_by_one:
            async with self._connecting:
                connection = await self._connected_now()
                if self._declaring is None or self._declaring.is_closed:
                    self._declaring = await connection.channel(publisher_confirms=False)
                channel = self._declaring
            with unless_cancelled(self.safe_url):
                return await action(channel)

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Declare a topic's exchange and some of its subscriptions' queues."""
        await self._make_exchange(topic)
        for source in sources:
            letters = None
            if self.create and not _of_letters(topic):
                # First, so that nothing dies before there is a place for it.
                letters = dead_letter_topic(source)
                await self._make_exchange(letters)
                await self._make_queue(Source(letters, "default"), None)
            await self._make_queue(source, letters)

    async def _make_exchange(self, topic: str) -> None:
        name = wire.exchange_name(topic)

        async def declare(channel: AbstractChannel) -> None:
            arguments: dict[str, Any] = {}
            if not _of_letters(topic):  # these have a queue before anything is published to them
                unclaimed = wire.unclaimed_name(name)
                spare = await channel.declare_exchange(unclaimed, aio_pika.ExchangeType.FANOUT, durable=True)
                queue = await channel.declare_queue(unclaimed, durable=True, arguments=_UNCLAIMED)
                await queue.bind(spare, "")
                arguments = {"alternate-exchange": unclaimed}
            await channel.declare_exchange(
                name, aio_pika.ExchangeType.FANOUT, durable=True, arguments=arguments
            )

        async def use(channel: AbstractChannel) -> None:
            await channel.declare_exchange(name, passive=True)

        try:
            await self._declare(declare if self.create else use)
        except ChannelNotFoundEntity as error:
            raise NotFound(
                f"there is no topic {topic!r}: {self.safe_url} has no exchange {name!r}"
            ) from error
        except ChannelPreconditionFailed as error:
            logger.warning("%s: the exchange %r is used as it is: %s", self.safe_url, name, error)

    async def _make_queue(self, source: Source, letters: str | None) -> None:
        name = wire.queue_name(source.topic, source.subscription)
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
        if letters is not None:
            arguments = {
                "x-queue-type": "quorum",
                "x-delivery-limit": self.delivery_limit,
                "x-dead-letter-exchange": wire.exchange_name(letters),
                **_SAFELY,
            }
        try:
            await self._declare(
                lambda c: c.declare_queue(name, durable=True, arguments=arguments, passive=not self.create)
            )
        except ChannelNotFoundEntity as error:
            raise NotFound(
                f"there is no subscription {source.subscription!r} of {source.topic!r}: "
                f"{self.safe_url} has no queue {name!r}"
            ) from error
        except ChannelPreconditionFailed as error:
            logger.warning("%s: the queue %r is used as it is: %s", self.safe_url, name, error)
        if self.create:
            await self._bind(source.topic, name)

    async def _bind(self, topic: str, name: str) -> None:
        """Have a queue get what is published to a topic, after what waited there for a subscription."""
        exchange = wire.exchange_name(topic)
        unclaimed = wire.unclaimed_name(exchange)
        waiting = None if _of_letters(topic) else await self._length(unclaimed)
        async with self._connecting:
            channel = await (await self._connected_now()).channel(publisher_confirms=False)
        try:
            if waiting:  # first, to keep the order; but more may come for as long as nothing is bound
                await self._move(channel, unclaimed, name, waiting)
            queue = await channel.get_queue(name, ensure=False)
            await queue.bind(exchange, "#")  # all there is, should it be a topic exchange
            if waiting is not None:
                await self._move(channel, unclaimed, name)
        finally:  # what was not acknowledged goes back
            with suppress(Exception):
                await channel.close()

    async def _length(self, name: str) -> int | None:
        try:
            queue = await self._declare(lambda c: c.declare_queue(name, passive=True))
        except ChannelNotFoundEntity:
            return None
        return queue.declaration_result.message_count or 0

    async def _move(self, channel: AbstractChannel, name: str, to: str, most: float = math.inf) -> None:
        """Move messages to another queue, until there are none, or about so many."""
        source = await channel.get_queue(name, ensure=False)
        while most > 0:
            messages: list[AbstractIncomingMessage] = []
            while len(messages) < 100 and (message := await source.get(fail=False)) is not None:
                messages.append(message)
            if not messages:
                return
            await asyncio.gather(*(self._publish("", to, wire.copy(m)) for m in messages))
            await messages[-1].ack(multiple=True)
            most -= len(messages)

    def check_size(self, message: aio_pika.Message, reserve: int = 0) -> None:
        """`ValueError` for headers that do not fit into one frame, as AMQP has it."""
        used = wire.size(message.headers)
        most = self._frame - 2048 - reserve
        if used > most:
            raise ValueError(
                f"amqp: the attributes of a message take at most {most} bytes, not {used}: one frame"
            )

    async def post(
        self, message: aio_pika.Message, delay: float, *, exchange: str = "", queue: str = ""
    ) -> bool:
        """Publish to an exchange or a queue; returns, when it is stored, whether there is a queue for it."""
        if not delay > 0:
            return await self._publish(exchange, queue or exchange, message)
        step = wire.as_step(min(delay, self.features.max_delay))
        # The queue has it too, but not in its first moments, and a message that stays would hold up all.
        message.expiration = (step + 0.5) / 1000
        waiting = await self._waiting_queue(exchange, queue or exchange, step)
        if not await self._publish("", waiting, message):  # somebody has deleted it
            self._waiting.discard(waiting)
            waiting = await self._waiting_queue(exchange, queue or exchange, step)
            return await self._publish("", waiting, message)
        return True

    async def _publish(self, exchange: str, key: str, message: aio_pika.Message) -> bool:
        again = False
        pauses = [0.05, 0.1, 0.2]
        while True:
            channel = await self._channel_to_publish()
            place = (
                await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            )
            try:
                with unless_cancelled(self.safe_url):
                    await place.publish(message, routing_key=key, mandatory=True)
            except PublishError:  # it was returned
                return False
            except DeliveryError:
                # A queue that was made this very moment, by somebody else, takes nothing yet.
                if not pauses:
                    raise
                await asyncio.sleep(pauses.pop(0))
            except (ChannelClosed, ChannelInvalidStateError) as error:
                # One message that RabbitMQ refuses closes the channel, and takes others with it.
                if again or f"'{exchange}'" in str(error) or f"size {len(message.body)} " in str(error):
                    raise
                again = True
            else:
                return True

    async def _waiting_queue(self, exchange: str, key: str, milliseconds: int) -> str:
        """The queue from which a message goes on to an exchange, or to the queue `key`, after a time.

        Nobody uses one made in an earlier week, and it is deleted when another has passed since the last
        message has left it.
        """
        period = int(time.time() // WEEK)
        name = wire.waiting_name("topic" if exchange else "queue", exchange or key, milliseconds, period)
        if self._period != period:
            self._period = period
            self._waiting.clear()
        if name not in self._waiting:
            arguments: dict[str, Any] = {
                "x-queue-type": "quorum",
                "x-message-ttl": milliseconds,
                "x-expires": milliseconds + 2 * WEEK * 1000,
                "x-dead-letter-exchange": exchange,
                "x-dead-letter-routing-key": key,
                **_SAFELY,
            }
            await self._declare(lambda c: c.declare_queue(name, durable=True, arguments=arguments))
            # RabbitMQ says that it is there while another connection's declaration still sets it up.
            await asyncio.sleep(0.1)
            self._waiting.add(name)
        return name
