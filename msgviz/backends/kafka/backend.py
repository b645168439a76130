"""KafkaBackend and KafkaTopic: the connection, topics, and what is published."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from msgviz.attributes import canonical_key
from msgviz.backend import Features
from msgviz.backends.kafka.feed import Feed, Held, hang_up
from msgviz.backends.kafka.records import check_kafka_name, retry_headers, size, to_headers
from msgviz.backends.kafka.server import KafkaServer
from msgviz.client import ClientBackend, ClientTopic
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import ConnectionFailed, MsgvizError, NotFound
from msgviz.message import Message, Source
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic
from msgviz.urls import Url, read_url, switch

RESERVE = 16_384  # bytes of a message that are kept for what retries and dead letters say beside it


def retry_topic(topic: str, subscription: str) -> str:
    """The name of the topic that takes what a subscription is to try again."""
    return f"{topic}.{subscription}.retry"


class KafkaTopic(ClientTopic):
    """A Kafka topic; with a subscription, the retry topic of that one."""

    async def put(self, message: Message, delay: float) -> None:
        """Publish; returns when all replicas that are in sync have it."""
        backend: KafkaBackend = self.backend
        values = message.freeze()
        headers = to_headers(values)
        key = None
        if backend.key is not None and (value := values.get(backend.key)) is not None:
            key = (value if isinstance(value, str) else value[0]).encode()
        takes = size(message.body, key, headers)
        if takes > backend.max_message - RESERVE:
            raise ValueError(
                f"kafka: a message with its attributes has at most {backend.max_message - RESERVE} bytes, "
                f"not {takes}"
            )
        name = self.name
        if self.subscription is not None:
            name = retry_topic(self.name, self.subscription)
            headers = retry_headers(headers, 1, 0.0)
            await backend.ensure(name)
        await backend.produce(name, message.body, key, headers)


class KafkaBackend(ClientBackend):
    """Topics of a Kafka cluster: ``kafka://host:port[,host:port]``.

    A subscription is a consumer group, ``<topic>.<subscription>``. New topics get `partitions` (one: more
    let more processes share the work of a subscription, and end the order between partitions) and
    `replication_factor` (None: as many as there are brokers, at most 3). The value of the attribute
    `key` is the record's key, and the other way round. `max_message` is what the cluster allows for one
    message. A consumer that says nothing for `session` seconds loses its partitions. With `idempotent`,
    the producer's own retries never make two messages of one. ``tls=true``, `ssl_context`, user and
    password in the URL, and `sasl_mechanism` are for clusters that want them.
    """

    name = "kafka"
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **ClientBackend.OPTIONS,
        "partitions": int,
        "replication_factor": int,
        "key": str,
        "max_message": int,
        "session": float,
        "idempotent": switch,
        "tls": switch,
        "ssl_context": str,
        "sasl_mechanism": str,
    }

    def __init__(
        self,
        url: Url,
        *,
        partitions: int = 1,
        replication_factor: int | None = None,
        key: str | None = "Kafka-Key",
        max_message: int = 1_048_576,
        session: float = 10.0,
        idempotent: bool = False,
        tls: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        sasl_mechanism: str = "PLAIN",
        **common: Any,
    ) -> None:
        super().__init__(url.safe, **common)
        if isinstance(partitions, bool) or not isinstance(partitions, int) or partitions < 1:
            raise ValueError(f"partitions is a whole number from 1 on, not {partitions!r}")
        if not max_message >= 8 * RESERVE:
            raise ValueError(f"max_message is a number of bytes from {8 * RESERVE} on, not {max_message!r}")
        if not session > 0:
            raise ValueError(f"session is a number of seconds above 0, not {session!r}")
        if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
            raise TypeError(f"ssl_context is an ssl.SSLContext, not {type(ssl_context).__name__}")
        self.partitions = partitions
        self.replication_factor = replication_factor
        self.key = canonical_key(key) if key else None
        self.max_message = max_message
        self.session = session
        self.idempotent = idempotent
        self.features = Features(
            ordered=partitions == 1,
            persistent=True,
            max_delay=0.0,
            multi_valued_attributes=True,
            max_attributes=None,
            max_body=max_message - 4 * RESERVE,
            binary_body=True,
            counts_attempts=True,
            dead_letter=True,
            addressable_subscriptions=True,
            keeps_unsubscribed=True,
        )
        self._options: dict[str, Any] = {
            "bootstrap_servers": [
                f"[{host}]:{port or 9092}" if ":" in host else f"{host}:{port or 9092}"
                for host, port in url.hosts
            ],
            "request_timeout_ms": max(int(self.timeout * 900), 1),
            "client_id": "msgviz",
            "metadata_max_age_ms": 60_000,
            "security_protocol": "PLAINTEXT",
        }
        if url.user is not None:
            self._options |= {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": sasl_mechanism,
                "sasl_plain_username": url.user,
                "sasl_plain_password": url.password or "",
            }
        if tls or ssl_context is not None:
            self._options["security_protocol"] = "SASL_SSL" if url.user is not None else "SSL"
            self._options["ssl_context"] = ssl_context or ssl.create_default_context()
        self._producer: Any = None
        self._admin: Any = None
        self._there: set[str] = set()  # Kafka topics that were seen or made
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._joining = asyncio.Lock()
        self._ending: list[asyncio.Task[None]] = []

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``kafka://host:port[,host:port]``."""
        read = read_url(url, cls.OPTIONS, options)
        if not read.hosts or read.path.strip("/"):
            raise ValueError(f"{read.safe}: write kafka://host:port, or several hosts separated by commas")
        return cls(read, **read.options)

    @property
    def consumer_options(self) -> dict[str, Any]:
        """What an `AIOKafkaConsumer` is made with, beside its group."""
        session = int(self.session * 1000)
        return {
            **self._options,
            # A commit or a heartbeat may have to wait for a rebalance, which takes as long as a session.
            "request_timeout_ms": session + self._options["request_timeout_ms"],
            "session_timeout_ms": session,
            "heartbeat_interval_ms": max(session // 10, 100),
            "max_partition_fetch_bytes": self.max_message,
            "fetch_max_wait_ms": 100,
        }

    async def open(self) -> None:
        """Connect a producer and an admin client."""
        admin = AIOKafkaAdminClient(**self._options)
        producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=self.idempotent,
            max_request_size=self.max_message,
            **self._options,
        )
        try:
            await admin.start()
            await producer.start()
        except BaseException:
            await producer.stop()
            await admin.close()
            raise
        self._admin, self._producer = admin, producer

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Make the topic, and the retry topics by which its subscriptions are known to be there.

        Consumer groups need no making: a new one begins with the first message.
        """
        retries = {retry_topic(topic, source.subscription): source for source in sources}
        if topic.endswith(".dead"):  # few are ever read
            retries = {}
        self._there -= {topic, *retries}
        await self.ensure(topic)
        for name, source in retries.items():
            await self.ensure(name, f"the subscription {source}: there is no topic {name!r}")

    async def ensure(self, name: str, what: str = "") -> None:
        """Make a Kafka topic where it is missing; `NotFound`, naming `what`, where `create` is false."""
        if name in self._there:
            return
        if not self.create:
            if name not in await self._admin.list_topics():
                raise NotFound(f"{self.safe_url} does not have {what or f'the topic {name!r}'}")
        else:
            copies = self.replication_factor
            if copies is None:
                copies = min(3, len((await self._admin.describe_cluster())["brokers"]))
            made = await self._admin.create_topics([NewTopic(name, self.partitions, copies)])
            for _, code, *text in made.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(*filter(None, text))
            while (await self._admin.describe_topics([name]))[0]["error_code"]:  # noqa: ASYNC110  no event
                await asyncio.sleep(0.05)  # not all brokers know of it
        self._there.add(name)

    async def ping(self, topic: str) -> None:
        """Raise `ConnectionFailed` where no broker answers."""
        await self.call(self._admin.describe_topics([topic]))

    async def produce(self, topic: str, body: bytes | None, key: bytes | None, headers: Any) -> None:
        """Publish a record; returns when it is stored."""
        if body is None and key is None:
            body = b""
        try:
            await self._producer.send_and_wait(topic, body, key=key, headers=list(headers))
        except MessageSizeTooLargeError:
            raise
        except BaseException:
            self._there.discard(topic)  # it may have been deleted, or the broker was emptied
            self._made.discard(topic)
            raise

    async def republish(self, feed: Feed, held: Held, attempt: int, delay: float) -> None:
        """Send a record to the retry topic of its subscription, as it came."""
        if feed.retry is None:
            raise NotFound(f"{feed.source} has no retry topic")
        await self.ensure(feed.retry)
        record = held.record
        await self.produce(feed.retry, record.value, record.key, retry_headers(held.headers, attempt, delay))

    async def join(self, source: Source, last: Feed | None) -> Feed:
        """The feed of a subscription, for one more server; `last` is the one that server had before."""
        place = (source.topic, source.subscription)
        async with self._joining:
            await self.ping(source.topic)
            feed = self._feeds.get(place)
            if feed is not None and feed.failure is not None:
                del self._feeds[place]
                self._ending.append(asyncio.create_task(feed.close()))
                feed = None
            if feed is None:
                retry: str | None = retry_topic(*place)
                try:
                    await self.ensure(source.topic)
                    await self.ensure(retry_topic(*place))
                except NotFound:  # of dead letters: `make` has seen to all others
                    retry = None
                feed = Feed(self, source, retry)
                await feed.start()
                self._feeds[place] = feed
            if feed is not last:
                feed.users += 1
            return feed

    async def leave(self, feed: Feed) -> None:
        """A server has no more use of a feed; the last one ends it."""
        async with self._joining:
            feed.users -= 1
            place = (feed.source.topic, feed.source.subscription)
            if feed.users or self._feeds.get(place) is not feed:
                return
            del self._feeds[place]
        await feed.close()

    async def disconnect(self) -> None:
        """End what is left of feeds, and publish what is on its way."""
        feeds = list(self._feeds.values())
        self._feeds.clear()
        await asyncio.gather(*self._ending, *(feed.close() for feed in feeds))
        with suppress(KafkaError, OSError):
            await hang_up(self._producer.client)
            await self._producer.stop()
        await hang_up(self._admin._client)
        await self._admin.close()

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""
        return KafkaTopic(self, check_kafka_name(name))

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server of one subscription."""
        check_kafka_name(source.topic)
        check_kafka_name(source.subscription, "subscription")
        check_kafka_name(retry_topic(source.topic, source.subscription))
        if source.max_attempts is not None:
            check_kafka_name(dead_letter_topic(source))
        return self.add(
            KafkaServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """What an error of aiokafka means."""
        if isinstance(error, (MessageSizeTooLargeError, InvalidTopicError)):
            return ValueError(f"kafka: {error}")
        if isinstance(error, UnknownTopicOrPartitionError):
            return NotFound(f"{self.safe_url}: {error}")
        if isinstance(error, KafkaConnectionError) and "sasl_mechanism" in self._options:
            return ConnectionFailed(f"{self.safe_url} was not reached, or turned this user away: {error}")
        if isinstance(error, (KafkaError, OSError)):
            return ConnectionFailed(f"{self.safe_url}: {error}")
        return None
