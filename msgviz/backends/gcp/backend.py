"""GcpBackend: the connection to Google Cloud Pub/Sub."""

from __future__ import annotations

import asyncio
import os
import string
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Self

import google.auth
import google.auth.exceptions
import google.auth.transport.requests
import grpc
from google.api_core import exceptions as api
from google.api_core import retry_async
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports.grpc_asyncio import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports.grpc_asyncio import SubscriberGrpcAsyncIOTransport

from msgviz.backend import Features
from msgviz.backends.gcp import wire
from msgviz.backends.gcp.server import GcpServer
from msgviz.backends.gcp.topic import GcpTopic
from msgviz.client import ClientBackend
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import ConnectionFailed, MsgvizError, NotFound, Unsupported
from msgviz.message import Source
from msgviz.server import BackoffLike, Server
from msgviz.urls import read_url, switch

_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # a server that is there again should be found soon
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # what one attempt to connect may take
]
_BROKEN = (
    api.ServerError,
    api.Unauthorized,
    api.Forbidden,
    api.TooManyRequests,
    api.Aborted,
    api.Cancelled,
    api.RetryError,
    google.auth.exceptions.GoogleAuthError,
    grpc.RpcError,
    grpc.aio.UsageError,
)
_LOGIN = (
    "The account is found as Google's own libraries do: run `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS to a key file; for the emulator, set PUBSUB_EMULATOR_HOST"
)


class GcpBackend(ClientBackend):
    """A project of Google Cloud Pub/Sub, ``gcp://project``, or the emulator at ``PUBSUB_EMULATOR_HOST``.

    Pub/Sub counts as an attempt what was given back unprocessed, too. A message for one subscription alone
    has the attribute `Msgviz-To`; the filters of subscriptions made here, and servers, see to the rest.

    Options, beside those of all backends:
    `emulator`: host and port of an emulator; in place of the environment variable.
    `ack_deadline`: seconds, 10 to 600, for which a message is lent to a consumer, who keeps extending them;
    so long it takes until another gets it after a crash. For subscriptions that are made here.
    `ordering_key`: the attribute whose value is the ordering key. Messages of one key are received in their
    order, one at a time; subscriptions are then made with message ordering.
    `subscription_name`: what a subscription is called in the project; ``"{subscription}"`` to serve one made
    elsewhere under its own name.
    `streaming`: take messages by streaming pull (else by pull). It is on, except on the emulator, which
    sends a stream all it has, whatever flow control says.
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **ClientBackend.OPTIONS,
        "emulator": str,
        "ack_deadline": int,
        "ordering_key": str,
        "subscription_name": str,
        "streaming": switch,
    }
    MAX_ATTEMPTS = 100
    """The most attempts that a dead-letter policy counts."""

    name = "gcp"
    features = Features(
        ordered=False,
        persistent=True,
        max_delay=0,
        multi_valued_attributes=True,
        max_attributes=wire.MAX_ATTRIBUTES,
        max_body=wire.MAX_BODY,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=False,
    )

    def __init__(
        self,
        project: str,
        *,
        emulator: str | None = None,
        ack_deadline: int = 20,
        ordering_key: str | None = None,
        subscription_name: str = "{topic}.{subscription}",
        streaming: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(f"gcp://{project}", **options)
        if not 10 <= ack_deadline <= 600:
            raise ValueError(f"ack_deadline is a number of seconds from 10 to 600, not {ack_deadline!r}")
        fields = [field for _, field, _, _ in string.Formatter().parse(subscription_name)]
        if "subscription" not in fields or not {*fields} <= {"subscription", "topic", None}:
            raise ValueError(
                "subscription_name is a text with {subscription}, and {topic} if you like, "
                f"not {subscription_name!r}"
            )
        self.project = project
        self.emulator = emulator or os.environ.get("PUBSUB_EMULATOR_HOST") or None
        self.ack_deadline = ack_deadline
        self.ordering_key = wire.canonical(ordering_key)
        self.subscription_name = subscription_name
        self.streaming = streaming if streaming is not None else self.emulator is None
        self.retry: Any = None  # an emulator that does not answer is not there
        if self.emulator is None:
            self.retry = retry_async.AsyncRetry(
                predicate=retry_async.if_exception_type(
                    api.ServiceUnavailable, api.InternalServerError, api.Aborted, api.TooManyRequests
                ),
                initial=0.1,
                maximum=1.0,
                timeout=0.8 * self.timeout,
            )
        self._channel: grpc.aio.Channel | None = None
        self._known: dict[str, dict[str, Source]] = {}  # topics with the subscriptions made here
        self._mending = asyncio.Lock()
        self._filtered: dict[str, bool] = {}  # subscriptions, and whether their filter is ours
        self._addressable: dict[str, float] = {}  # topics, and until when that is taken to be so
        self._keys: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """The backend of ``gcp://project``."""
        read = read_url(url, cls.OPTIONS, options)
        if not read.host or len(read.hosts) > 1 or read.port is not None or read.user is not None:
            raise ValueError(f"{read.safe}: a URL of Pub/Sub is gcp:// and the id of a project, no more")
        if read.path.strip("/"):
            raise ValueError(f"{read.safe}: a URL of Pub/Sub has no path: name topics with backend.topic()")
        return cls(read.host, **read.options)

    async def open(self) -> None:
        """Connect, and ask for a topic that need not be there."""
        channel = await self._connect()
        self._channel = channel
        self.publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        self.subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        try:
            with suppress(api.NotFound, api.Forbidden):  # some may publish, and not look
                await self.publisher.get_topic(topic=self._topic("msgviz-connects"), retry=self.retry)
        except BaseException:
            await self.disconnect()
            raise

    async def _connect(self) -> grpc.aio.Channel:
        if self.emulator is not None:
            # An emulator is near: not behind a proxy that the environment names.
            options = [*_CHANNEL, ("grpc.enable_http_proxy", 0)]
            return grpc.aio.insecure_channel(self.emulator, options=options)
        scopes = PublisherGrpcAsyncIOTransport.AUTH_SCOPES
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=scopes, request=_QuickRequest())
        return PublisherGrpcAsyncIOTransport.create_channel(credentials=credentials, options=_CHANNEL)

    async def disconnect(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            del self.publisher, self.subscriber  # the last who know the channel: its thread ends with it
            await channel.close()

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """The error of google-cloud-pubsub, google-auth or grpc in our words."""
        where = (
            self.safe_url if self.emulator is None else f"{self.safe_url} on the emulator at {self.emulator}"
        )
        if isinstance(error, api.NotFound):
            return NotFound(f"{where}: {error.message}")
        if isinstance(error, api.InvalidArgument):
            return ValueError(f"{where}: {error.message}")
        if isinstance(error, google.auth.exceptions.GoogleAuthError | api.Unauthorized | api.Forbidden):
            return ConnectionFailed(f"{where}: {str(error).rstrip('. ')}. {_LOGIN}")
        if isinstance(error, _BROKEN):
            return ConnectionFailed(f"{where}: {getattr(error, 'message', None) or error}")
        if isinstance(error, api.GoogleAPICallError):
            return MsgvizError(f"{where}: {error.message}")
        if isinstance(error, TimeoutError) and not self._connected and self.emulator is None:
            return ConnectionFailed(f"{where} did not answer within {self.timeout:g} s. {_LOGIN}")
        return None

    def open_topic(self, name: str) -> GcpTopic:
        """The bare topic of this name."""
        wire.topic_resource(name)
        return GcpTopic(self, name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server of one subscription; `Unsupported` for more attempts than Pub/Sub counts."""
        self.check_names(source)
        if source.max_attempts is not None and source.max_attempts > self.MAX_ATTEMPTS:
            raise Unsupported(
                self.name, f"counts at most {self.MAX_ATTEMPTS} attempts, not {source.max_attempts}"
            )
        server = GcpServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        return self.add(server)

    def check_names(self, source: Source) -> None:
        """Refuse, with `ValueError`, names that Pub/Sub cannot have."""
        wire.topic_resource(source.topic)
        self.subscription_path(source)
        wire.subscription_filter(source.subscription)
        if source.max_attempts is not None:
            self.check_names(Source(dead_letter_topic(source), "default"))

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing."""
        wire.topic_resource(topic)
        for subscription in subscriptions:
            self.check_names(Source(topic, subscription))
        await super().declare(topic, *subscriptions)

    def want_once(self, source: Source) -> None:
        """Have a subscription made, unless it was."""
        if source.subscription not in {
            **self._known.get(source.topic, {}),
            **self._wanted.get(source.topic, {}),
        }:
            self.want(source)

    def _topic(self, name: str) -> str:
        return f"projects/{self.project}/topics/{wire.topic_resource(name)}"

    def subscription_path(self, source: Source) -> str:
        """The full name of a subscription."""
        name = wire.subscription_resource(self.subscription_name, source.topic, source.subscription)
        return f"projects/{self.project}/subscriptions/{name}"

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Make a topic and some of its subscriptions, with what takes their dead letters."""
        known = self._known.setdefault(topic, {})
        if not self.create:
            await self._look(topic, sources)
        else:
            await self._make_topic(topic)
            for source in sources:
                await self._make_subscription(source)
        known.update({source.subscription: source for source in sources})

    async def _look(self, topic: str, sources: list[Source]) -> None:
        try:
            await self.publisher.get_topic(topic=self._topic(topic), retry=self.retry)
        except api.NotFound as error:
            raise NotFound(f"{self.safe_url}: there is no topic {self._topic(topic)}") from error
        for source in sources:
            await self.look_up(source)

    async def look_up(self, source: Source) -> types.Subscription:
        """A subscription as it is; `NotFound` where it is missing, or is one of another topic."""
        path = self.subscription_path(source)
        try:
            found = await self.subscriber.get_subscription(subscription=path, retry=self.retry)
        except api.NotFound as error:
            raise NotFound(f"{self.safe_url}: there is no subscription {path}") from error
        topic = self._topic(source.topic)
        if found.topic != topic:
            raise NotFound(f"{self.safe_url}: {path} is a subscription of {found.topic}, not of {topic}")
        return found

    async def _make_topic(self, topic: str) -> None:
        with suppress(api.AlreadyExists):
            await self.publisher.create_topic(name=self._topic(topic), retry=self.retry)

    async def _make_subscription(self, source: Source) -> None:
        wanted = types.Subscription(
            name=self.subscription_path(source),
            topic=self._topic(source.topic),
            ack_deadline_seconds=self.ack_deadline,
            filter=wire.subscription_filter(source.subscription),
            enable_message_ordering=self.ordering_key is not None,
        )
        attempts = self._policy(source)
        if attempts:
            letters = Source(dead_letter_topic(source), "default")
            await self._make_topic(letters.topic)
            await self._make_subscription(letters)  # or what goes there would be lost
            wanted.dead_letter_policy = types.DeadLetterPolicy(
                dead_letter_topic=self._topic(letters.topic), max_delivery_attempts=attempts
            )
        try:
            await self.subscriber.create_subscription(request=wanted, retry=self.retry)
        except api.AlreadyExists:
            there = await self.look_up(source)
            # That of dead letters gets its policy when it is first served. Those of others stay as they are.
            if attempts and there.filter == wanted.filter and not there.dead_letter_policy.dead_letter_topic:
                mask = FieldMask(paths=["dead_letter_policy"])
                await self.subscriber.update_subscription(
                    request=types.UpdateSubscriptionRequest(subscription=wanted, update_mask=mask),
                    retry=self.retry,
                )

    def _policy(self, source: Source) -> int:
        """The attempts of a subscription's dead-letter policy, without which none are counted; 0 for none."""
        if source.max_attempts is not None:
            # A little more than ours, which tells why: this one is for those that nobody came to bury.
            return min(max(source.max_attempts + 5, 5), self.MAX_ATTEMPTS)
        return 0 if source.topic.endswith(".dead") else self.MAX_ATTEMPTS

    async def mend(self) -> None:
        """Make anew all that was made here: the emulator forgets it when it ends."""
        async with self._mending:
            for topic, sources in list(self._known.items()):
                await self.make(topic, list(sources.values()))

    async def publish(self, topic: str, message: types.PubsubMessage) -> None:
        """Publish one message, after those of the same ordering key."""
        if message.ordering_key:
            key = (topic, message.ordering_key)
            lock = self._keys.get(key) or self._keys.setdefault(key, asyncio.Lock())
            async with lock:
                await self._publish(topic, message)
        else:
            await self._publish(topic, message)

    async def _publish(self, topic: str, message: types.PubsubMessage) -> None:
        request = types.PublishRequest(topic=self._topic(topic), messages=[message])
        try:
            await self.publisher.publish(request=request, retry=self.retry)
        except api.NotFound:
            if not self.create:
                raise
            await self.mend()
            await self.publisher.publish(request=request, retry=self.retry)

    async def check_addressable(self, topic: str, subscription: str) -> None:
        """Refuse, with `Unsupported`, a topic with a subscription that gets what is for another one alone."""
        if self._addressable.get(topic, 0.0) > time.monotonic():
            return
        found = await self.publisher.list_topic_subscriptions(topic=self._topic(topic), retry=self.retry)
        async for path in found:
            if path not in self._filtered:
                there = await self.subscriber.get_subscription(subscription=path, retry=self.retry)
                self._filtered[path] = there.filter.startswith(f"NOT attributes:{wire.TO} OR ")
            if not self._filtered[path] and path != self.subscription_path(Source(topic, subscription)):
                raise Unsupported(
                    self.name,
                    f"cannot send to {subscription!r} of {topic!r} alone: {path} was made elsewhere, without "
                    f"a filter on the attribute {wire.TO}, and would get it too",
                )
        self._addressable[topic] = time.monotonic() + 5.0


class _QuickRequest(google.auth.transport.requests.Request):
    """Asks for the machine's own account, which answers at once or is not there."""

    def __call__(self, url: str, **options: Any) -> Any:  # type: ignore[override]
        ask: Any = super().__call__
        return ask(url, **{**options, "timeout": 1.0})
