"""NatsBackend: topics are JetStream streams, subscriptions are durable pull consumers."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from nats import errors
from nats.js.errors import APIError

from msgviz.backend import Features, check_name
from msgviz.backends.nats import headers as _headers
from msgviz.backends.nats.link import Link, is_passing, is_refusal
from msgviz.backends.nats.names import check_subject, covers, later_subject, only_subject, plain, subjects_of
from msgviz.backends.nats.server import NatsServer
from msgviz.client import ClientBackend, ClientTopic
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import ConnectionFailed, MsgvizError, NotFound, Unsupported
from msgviz.message import Message, Source
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic
from msgviz.urls import Url, read_url

_CENTURY = 100 * 365.25 * 86400
_HEADERS = 16384  # of the largest message the server takes, kept free for headers, and those of a dead letter
_NO_STREAM, _NO_CONSUMER = 10059, 10014  # err_code
_NAME_IN_USE, _OVERLAP = 10058, 10065
_NO_JETSTREAM = (10039, 10076)
_TOO_LARGE = (10054, 10097)


@dataclass(frozen=True)
class Stream:
    """What a topic's stream can do."""

    name: str
    subjects: tuple[str, ...]
    only: bool
    """It takes messages for one subscription alone."""
    later: bool
    """It delays messages."""
    interest: bool
    """It drops what no consumer is to have, and so what is to be delayed."""

    @classmethod
    def of(cls, topic: str, config: Mapping[str, Any]) -> Stream:
        """From the configuration that JetStream tells."""
        subjects = tuple(config.get("subjects") or ())
        private = covers(subjects, later_subject(topic, "x"))
        interest = config.get("retention") == "interest"
        later = private and config.get("allow_msg_schedules") is True and not interest
        return cls(config["name"], subjects, only=private, later=later, interest=interest)

    def lacks(self, topic: str, what: str) -> str:
        """Why it does not do this, and how to have it do so."""
        if self.interest and self.only:
            return f"the stream {self.name} drops what it should delay, since it has retention=interest"
        edit = [] if self.only else [f'--subjects "{",".join((*self.subjects, subjects_of(topic)[1]))}"']
        edit += ["--allow-schedules"] if "delay" in what else []
        return (
            f"the stream {self.name} {what} (from NATS 2.12 on) after: "
            f"nats stream edit {self.name} {' '.join(edit)}"
        )


class NatsTopic(ClientTopic):
    """A subject that a stream keeps; with `subscription`, one that a single consumer reads."""

    async def put(self, message: Message, delay: float) -> None:
        """Store a message; asks again, with the same message id, until the stream has answered."""
        await self.send_as(message, delay, _headers.encode(message.freeze()))

    async def send_as(self, message: Message, delay: float, headers: dict[str, str]) -> None:
        """Store a message with these headers."""
        backend: NatsBackend = self.backend
        stream = await backend.stream(self.name)
        subject, message_id = self.name, uuid.uuid4().hex
        headers[_headers.MESSAGE_ID] = message_id
        if self.subscription is not None:
            if not stream.only and not (stream := await backend.stream(self.name, again=True)).only:
                raise Unsupported(backend.name, stream.lacks(self.name, "can send to one subscription alone"))
            subject = only_subject(self.name, self.subscription)
            await backend.check_addressable(stream, self.name, self.subscription)
        if delay > 0:
            if not stream.later and not (stream := await backend.stream(self.name, again=True)).later:
                raise Unsupported(backend.name, stream.lacks(self.name, "can delay a message"))
            at = datetime.now(UTC) + timedelta(seconds=min(delay, _CENTURY))
            headers[_headers.SCHEDULE] = f"@at {at:%Y-%m-%dT%H:%M:%S.%fZ}"
            headers[_headers.TARGET] = subject
            subject = later_subject(self.name, message_id)
        await backend.publish(self.name, subject, message.body, headers)


class NatsBackend(ClientBackend):
    """JetStream. A topic is a stream that takes the subject of that name; a subscription, a durable consumer.

    Options, besides `timeout` and `create`. A stream or consumer that is there is used as it is; these are
    for those that it makes:

    - `replicas`: how many nodes of a cluster keep each message.
    - `storage`: ``file``, or ``memory``.
    - `retention`: ``limits`` keeps messages that were processed (as long as `max_age` and `max_bytes` allow),
      and a new subscription gets them all; ``interest`` drops them, those that nobody subscribed to, too.
    - `max_age` in seconds, `max_bytes`: what is older or too much goes, read or not. None for no limit.
    - `deliver`: a new subscription begins with ``all`` that the stream has, or with what is ``new``.
    - `lease`: seconds after which the message of a consumer that died comes again (``ack_wait``).

    And for publishing:

    - `patience`: seconds for which a publish is tried, with one message id, while the stream does not answer;
      `timeout` where not given, and at least 15 with replicas, so that another node can take over.
    """

    name = "nats"
    features = Features(
        ordered=True,
        persistent=True,
        max_delay=_CENTURY,
        multi_valued_attributes=True,
        max_attributes=None,
        max_body=1024 * 1024 - _HEADERS,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=True,
    )
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **ClientBackend.OPTIONS,
        "replicas": int,
        "storage": str,
        "retention": str,
        "max_age": float,
        "max_bytes": int,
        "deliver": str,
        "lease": float,
        "patience": float,
    }

    def __init__(
        self,
        url: Url,
        *,
        timeout: float = 5.0,
        create: bool = True,
        replicas: int = 1,
        storage: str = "file",
        retention: str = "limits",
        max_age: float | None = None,
        max_bytes: int | None = None,
        deliver: str = "all",
        lease: float = 30.0,
        patience: float | None = None,
    ) -> None:
        super().__init__(url.safe, timeout=timeout, create=create)
        _check("storage", storage, storage in ("file", "memory"), "file or memory")
        _check("retention", retention, retention in ("limits", "interest"), "limits or interest")
        _check("deliver", deliver, deliver in ("all", "new"), "all or new")
        _check("replicas", replicas, replicas in range(1, 6), "a whole number from 1 to 5")
        _check("max_age", max_age, max_age is None or max_age >= 0.1, "0.1 or more seconds")
        _check("max_bytes", max_bytes, max_bytes is None or max_bytes > 0, "a number above 0")
        _check("lease", lease, 0.1 <= lease < _CENTURY, "0.1 or more seconds")
        _check(
            "patience", patience, patience is None or 0 < patience < _CENTURY, "a number of seconds above 0"
        )
        self.config: dict[str, Any] = {
            "retention": retention,
            "storage": storage,
            "num_replicas": replicas,
            "max_age": _nanoseconds(max_age or 0),
            "max_bytes": -1 if max_bytes is None else max_bytes,
            "discard": "old",
            "duplicate_window": _nanoseconds(min(120.0, max_age or math.inf)),
        }
        self.deliver = deliver
        self.lease = lease
        self.patience = max(timeout, 15.0 if replicas > 1 else 0.0) if patience is None else patience
        self.publish_timeout = self.patience + 1  # by then it has said itself what went wrong
        self.features = replace(
            type(self).features,
            max_delay=_CENTURY if retention == "limits" else 0.0,
            keeps_unsubscribed=retention == "limits" and deliver == "all",
        )
        self.link = Link(url, timeout)
        self._streams: dict[str, Stream] = {}
        self._consumers: dict[tuple[str, str], dict[str, Any]] = {}
        self._addressable: set[tuple[str, str]] = set()
        self._mending = asyncio.Lock()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``nats://localhost``, or ``nats://user:password@one:4222,two:4222?replicas=3``."""
        read = read_url(url, cls.OPTIONS, options)
        if not read.host:
            raise ValueError(f"{read.safe}: name a server, as in nats://localhost:4222")
        if read.path.strip("/"):
            raise ValueError(f"{read.safe}: a NATS URL has no path, as {read.path!r}")
        return cls(read, **read.options)

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""
        return NatsTopic(self, check_subject(name, "topic"))

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server of one subscription."""
        self._check_source(source)
        return self.add(
            NatsServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )

    def _check_source(self, source: Source) -> None:
        check_subject(source.topic, "topic")
        check_subject(source.subscription, "subscription")
        if source.max_attempts is not None:
            check_subject(dead_letter_topic(source), "topic (of its dead letters)")

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing."""
        for subscription in subscriptions:
            self._check_source(Source(check_name(topic, "topic"), check_name(subscription, "subscription")))
        check_subject(check_name(topic, "topic"), "topic")
        await super().declare(topic, *subscriptions)

    async def open(self) -> None:
        """Connect, and learn what this server can do."""
        client = await self.link.open()
        largest = client.max_payload
        version = client.connected_server_version
        self.features = replace(
            self.features,
            max_body=max(largest - _HEADERS, largest // 2),
            max_delay=self.features.max_delay if (version.major, version.minor) >= (2, 12) else 0.0,
        )

    async def disconnect(self) -> None:
        """Send what is left to send, and let go."""
        await self.link.close()

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Make the stream and the consumers that are missing."""
        stream = await self._find(topic)
        if stream is None:
            if not self.create:
                raise NotFound(f"{self.safe_url}: no stream takes the subject {topic!r}")
            stream = await self._make_stream(topic)
        self._streams[topic] = stream
        for source in sources:
            await self.consumer(source, again=True)

    async def _find(self, topic: str) -> Stream | None:
        found = await self.link.ask("STREAM.NAMES", {"subject": topic})
        for name in found.get("streams") or ():
            with suppress(APIError):
                return Stream.of(topic, (await self.link.ask(f"STREAM.INFO.{name}"))["config"])
        return None

    async def _make_stream(self, topic: str) -> Stream:
        name = plain(topic, "topic")
        config = {**self.config, "name": name, "subjects": subjects_of(topic)}
        if self.features.max_delay:
            config["allow_msg_schedules"] = True
        try:
            return Stream.of(topic, (await self.link.ask(f"STREAM.CREATE.{name}", config))["config"])
        except APIError as error:
            if error.err_code not in (_NAME_IN_USE, _OVERLAP):
                raise
            stream = await self._find(topic)  # somebody else was faster
            if stream is None:
                raise MsgvizError(
                    f"{self.safe_url}: the topic {topic} needs a stream {name} with the subjects "
                    f"{', '.join(subjects_of(topic))}, and another one is in the way: {error.description}"
                ) from error
            return stream

    async def consumer(self, source: Source, *, again: bool = False) -> dict[str, Any]:
        """The configuration of a subscription's consumer; asked for `again`, made where it is missing."""
        known = self._consumers.get((source.topic, source.subscription))
        if known is not None and not again:
            return known
        stream = await self.stream(source.topic)
        name = plain(source.subscription, "subscription")
        try:
            found = await self.link.ask(f"CONSUMER.INFO.{stream.name}.{name}")
        except APIError as error:
            if error.err_code not in (_NO_CONSUMER, _NO_STREAM):
                raise
            if not self.create:
                raise NotFound(
                    f"{self.safe_url}: the stream {stream.name} has no consumer {name!r} for {source}"
                ) from error
            if error.err_code == _NO_STREAM:  # it was deleted, or was in the memory of a server that ended
                await self.make(source.topic, [])
                stream = await self.stream(source.topic)
            subjects = [source.topic]
            if stream.only:
                subjects.append(only_subject(source.topic, source.subscription))
            config = {
                "name": name,
                "durable_name": name,
                "filter_subjects": subjects,
                "ack_policy": "explicit",
                "ack_wait": _nanoseconds(self.lease),
                "max_ack_pending": -1,  # messages that wait to be retried are to hold up no others
                "max_deliver": -1,
                "deliver_policy": self.deliver,
                "replay_policy": "instant",
            }
            found = await self.link.ask(
                f"CONSUMER.CREATE.{stream.name}.{name}", {"stream_name": stream.name, "config": config}
            )
        config = found["config"]
        if config.get("deliver_subject") or config.get("ack_policy") != "explicit":
            raise MsgvizError(
                f"{self.safe_url}: the consumer {name} of the stream {stream.name} has to be a pull consumer "
                "with explicit acks to serve a subscription"
            )
        self._consumers[source.topic, source.subscription] = config
        return dict(config)

    async def check_addressable(self, stream: Stream, topic: str, subscription: str) -> None:
        """Raise `Unsupported` where a consumer that others have made would not get what is for it alone."""
        if (topic, subscription) in self._addressable:
            return
        name, subject = plain(subscription, "subscription"), only_subject(topic, subscription)
        try:
            config = (await self.link.ask(f"CONSUMER.INFO.{stream.name}.{name}"))["config"]
        except APIError as error:
            if error.err_code != _NO_CONSUMER:
                raise
            return  # the one that is made then will
        wants = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        if not covers(wants, subject):
            raise Unsupported(
                self.name,
                f"the consumer {name} gets what is for it alone after: "
                f"nats consumer edit {stream.name} {name} "
                + " ".join(f'--filter "{one}"' for one in (*wants, subject)),
            )
        self._addressable.add((topic, subscription))

    async def stream(self, topic: str, *, again: bool = False) -> Stream:
        """The stream of a topic; asked for `again`, it may have been changed."""
        if again or topic not in self._streams:
            await self.make(topic, [])
        return self._streams[topic]

    async def publish(self, topic: str, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Store a message; `ValueError` for one that is too large with its headers."""
        client = await self.link.live(self.patience)
        size = _headers.size(headers)
        if size > _headers.LARGEST:
            raise ValueError(
                f"NATS: the attributes of a message have at most 64 KiB as headers, not {size} bytes"
            )
        if size + len(body) > client.max_payload:
            raise ValueError(
                f"NATS: this server takes messages of at most {client.max_payload} bytes, and this one has "
                f"{len(body)} in its body and {size} in its headers: send a reference to it instead"
            )

        async def nobody() -> bool:
            """Make again what was deleted, or was in the memory of a server that ended."""
            async with self._mending:
                try:
                    found = await self.link.ask("STREAM.NAMES", {"subject": topic}, seconds=1.0)
                except Exception as error:
                    if not is_passing(error):
                        raise
                    return False  # a cluster without a leader, that cannot tell
                if not found.get("streams"):
                    await self.make(topic, [Source(*which) for which in self._consumers if which[0] == topic])
                return True

        await self.link.request(subject, body, headers, self.patience, nobody)

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """nats-py's error in the words of `msgviz.errors`."""
        url = self.safe_url
        if isinstance(error, APIError):
            text = f"{error.description} (JetStream error {error.err_code})"
            if error.err_code in _NO_JETSTREAM:
                return ConnectionFailed(f"{url}: JetStream is not enabled there: start the server with -js")
            if error.err_code in _TOO_LARGE:
                return ValueError(f"NATS: {text}")
            if error.code == 404:
                return NotFound(f"{url}: {text}")
            return ConnectionFailed(f"{url}: {text}")
        if isinstance(error, errors.NoRespondersError):
            return ConnectionFailed(
                f"{url}: no stream answers: is JetStream enabled there (nats-server -js)?"
            )
        if isinstance(error, errors.MaxPayloadError):
            return ValueError(f"NATS: {error}")
        if is_refusal(error):
            return ConnectionFailed(f"{url} refused the user or the password: {error}")
        if isinstance(error, TimeoutError):
            return ConnectionFailed(f"{url} did not answer in time")
        if isinstance(error, (errors.Error, OSError)):
            return ConnectionFailed(f"{url}: {str(error) or type(error).__name__}")
        return None


def _check(option: str, value: object, fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"nats:// takes {option}={what}, not {value!r}")


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
