"""RedisBackend and RedisTopic: messages as entries of a stream, subscriptions as its consumer groups."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self
from uuid import uuid4

from redis import exceptions

from msgviz.backend import ANY_DELAY, Features, check_name
from msgviz.backends.redis import scripts
from msgviz.backends.redis.commands import Commands
from msgviz.backends.redis.server import RedisServer
from msgviz.backends.redis.wire import ATTEMPT, ATTRIBUTES, to_fields
from msgviz.client import ClientBackend, ClientTopic
from msgviz.errors import ConnectionFailed, MsgvizError, NotFound
from msgviz.message import Message, Source
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic
from msgviz.urls import Url, read_url, switch

_PASSING = ("BUSY", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN")
"""Refusals that may be over soon."""
_MAX_BODY = 512 * 1024 * 1024  # proto-max-bulk-len, as it is by default


class RedisTopic(ClientTopic):
    """A stream, or the stream beside it that one subscription reads alone."""

    async def put(self, message: Message, delay: float) -> None:
        """Add an entry to the stream, now or when its time has come."""
        backend: RedisBackend = self.backend
        bound: tuple[str | int, ...] = ()
        if self.subscription is not None:
            key = backend.own_stream(self.name, self.subscription)
        else:
            key = backend.stream(self.name)
            if backend.maxlen is not None:
                bound = ("MAXLEN", "~", backend.maxlen)
        fields = to_fields(message.body, message.freeze(), backend.body_field)
        if delay:
            if not backend.create and not await backend.commands.command("EXISTS", key):
                self._missing()
            await backend.commands.script(
                scripts.DELAY,
                [backend.later(self.name)],
                [repr(delay * 1e6), uuid4().hex[:16], key, *bound, "*", *fields],
            )
            backend.tend(self.name)
            return
        must = () if backend.create else ("NOMKSTREAM",)
        if await backend.commands.batched("XADD", key, *must, *bound, "*", *fields) is None:
            self._missing()

    def _missing(self) -> NoReturn:
        what = f"the topic {self.name!r}"
        if self.subscription is not None:
            what = f"the subscription {self.subscription!r} of {what}"
        raise NotFound(f"{self.backend.safe_url}: {what} is not there")


class RedisBackend(ClientBackend):
    """Redis 7 or newer, or Valkey: ``redis://[user:password@]host[:port][/db]``, ``rediss://`` for TLS.

    A topic is a stream, a subscription a consumer group of it. Options:

    - `prefix`: put before the name of every stream.
    - `lease` (30): seconds after which the message of a consumer that fell silent goes to another.
    - `trim`: remove what every subscription has acknowledged. By default from the streams that were made
      here, and not from those that were there before; true or false for all.
    - `maxlen`: keep about so many entries of a topic at most, read or not: the oldest are lost.
    - `body_field` ("body"): the field of an entry that is the body.

    How well messages are kept is the server's affair: see its ``appendonly`` and ``appendfsync``.
    """

    name = "redis"
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **ClientBackend.OPTIONS,
        "prefix": str,
        "lease": float,
        "trim": switch,
        "maxlen": int,
        "body_field": str,
    }
    features = Features(
        ordered=True,
        persistent=True,
        max_delay=ANY_DELAY,
        multi_valued_attributes=True,
        max_attributes=None,
        max_body=_MAX_BODY,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=True,
    )

    def __init__(
        self,
        url: Url,
        *,
        prefix: str = "",
        lease: float = 30.0,
        trim: bool | None = None,
        maxlen: int | None = None,
        body_field: str = "body",
        **options: Any,
    ) -> None:
        super().__init__(url.safe, **options)
        if not 0.1 <= lease <= 1e6:
            raise ValueError(f"lease is a number of seconds from 0.1 to a million, not {lease!r}")
        if maxlen is not None and (isinstance(maxlen, bool) or not isinstance(maxlen, int) or maxlen < 1):
            raise ValueError(f"maxlen is a whole number from 1 on, or None for no bound, not {maxlen!r}")
        if not body_field or body_field.encode() in (ATTEMPT, ATTRIBUTES):
            raise ValueError(f"body_field is the name of a field of your own, not {body_field!r}")
        _check_key(prefix, "prefix")
        self.prefix = prefix
        self.lease = float(lease)
        self.trim = trim
        self.maxlen = maxlen
        self.body_field = body_field
        self._url = url
        self._commands: Commands | None = None
        self._connection = {
            "host": url.host or "localhost",
            "port": url.port or 6379,
            "username": url.user,
            "password": url.password,
            "db": _database(url),
            "tls": url.scheme == "rediss",
        }

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``redis://[user:password@]host[:port][/db]``, options in its query or beside it."""
        read = read_url(url, cls.OPTIONS, options)
        if len(read.hosts) > 1:
            raise ValueError(f"{read.safe}: name one server, the primary: clusters are not supported")
        return cls(read, **read.options)

    @property
    def commands(self) -> Commands:
        """What talks to the server, from `open` on."""
        if self._commands is None:
            raise ConnectionFailed(f"{self.safe_url} is not connected")
        return self._commands

    def stream(self, topic: str) -> bytes:
        """The key of a topic's stream."""
        return f"{self.prefix}{topic}".encode()

    # All keys of a topic have its stream's key as their hash tag, so a cluster keeps them together.

    def own_stream(self, topic: str, subscription: str) -> bytes:
        """The stream that one subscription reads alone: what is sent to it, and what failed."""
        return f"{{{self.prefix}{topic}}}:only:{subscription}".encode()

    def later(self, topic: str) -> bytes:
        """The sorted set of what is delayed, by the time when it is due."""
        return f"{{{self.prefix}{topic}}}:later".encode()

    def mark(self, topic: str) -> bytes:
        """The key that says that the stream was made here."""
        return f"{{{self.prefix}{topic}}}:made".encode()

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""
        _check_key(name, "topic")
        return RedisTopic(self, name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server of one consumer group."""
        _check_key(source.topic, "topic")
        _check_key(source.subscription, "subscription")
        return self.add(
            RedisServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the stream and its consumer groups where they are missing."""
        _check_key(check_name(topic, "topic"), "topic")
        for subscription in subscriptions:
            _check_key(check_name(subscription, "subscription"), "subscription")
        await super().declare(topic, *subscriptions)

    async def open(self) -> None:
        """Connect, and see that the server lets us."""
        commands = Commands(timeout=self.timeout, **self._connection)
        try:
            await commands.command("PING")
        except BaseException:
            await commands.close()
            raise
        self._commands = commands

    async def disconnect(self) -> None:
        """Close the connections."""
        await self.commands.close()

    async def make(self, topic: str, sources: Sequence[Source], *, ours: bool = False) -> None:
        """Make a stream's groups where they are missing: the first from its beginning, others from now on.

        `ours` says of a stream that it was made here, though it may be there.
        """
        names = [source.subscription for source in sources]
        missing = await self.commands.script(
            scripts.MAKE,
            [self.stream(topic), self.mark(topic), *(self.own_stream(topic, name) for name in names)],
            [int(self.create), int(ours), *(name.encode() for name in names)],
        )
        if missing == [b"topic"]:
            raise NotFound(f"{self.safe_url}: there is no stream {self.prefix + topic!r}")
        if missing:
            raise NotFound(
                f"{self.safe_url}: the stream {self.prefix + topic!r} has no consumer group "
                f"{missing[1].decode()!r}"
            )

    def tend(self, topic: str) -> None:
        """Have the servers of a topic here look at what is delayed."""
        for server in self._servers:
            if isinstance(server, RedisServer) and server.topic == topic:
                server.look()

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """The error of the client library, or of the server, in our words."""
        if isinstance(error, exceptions.AuthenticationError):
            return ConnectionFailed(f"{self.safe_url} refused the login: {error}")
        if isinstance(error, exceptions.TimeoutError):
            return ConnectionFailed(f"{self.safe_url} did not answer within {self.timeout:g} s: {error}")
        if isinstance(error, exceptions.OutOfMemoryError):
            return ConnectionFailed(f"{self.safe_url} has no memory left (see its maxmemory): {error}")
        if isinstance(error, exceptions.ReadOnlyError):
            return ConnectionFailed(f"{self.safe_url} is a replica, which can only be read: {error}")
        if isinstance(error, exceptions.ConnectionError):
            return ConnectionFailed(f"{self.safe_url} cannot be reached: {error}")
        if isinstance(error, exceptions.ResponseError):
            return self._refusal(error)
        if isinstance(error, exceptions.RedisError | ssl.SSLError | ConnectionError):
            return ConnectionFailed(f"{self.safe_url}: {error}")
        return None

    def _refusal(self, error: Exception) -> MsgvizError:
        text = str(error)
        code = text.partition(" ")[0]
        if code in _PASSING:
            return ConnectionFailed(f"{self.safe_url} does not take it now: {text}")
        if code == "NOGROUP":
            return NotFound(f"{self.safe_url}: {text.removeprefix('NOGROUP ')}")
        if code == "WRONGTYPE":
            return MsgvizError(f"{self.safe_url}: a key of the topic is no stream: {text}")
        if isinstance(error, exceptions.NoPermissionError):
            return MsgvizError(f"{self.safe_url}: the user may not do this: {text}")
        return MsgvizError(f"{self.safe_url}: {text}")


def _check_key(name: str, what: str) -> None:
    if "{" in name or "}" in name:
        raise ValueError(f"redis: a {what} has no braces, which mark keys that belong together: {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"redis: the name of a {what} has to be UTF-8 text, not {name!r}") from error


def _database(url: Url) -> int:
    path = url.path.strip("/")
    if path and not (path.isascii() and path.isdecimal()):
        raise ValueError(f"{url.safe}: the path is the number of a database, not {path!r}")
    return int(path or 0)
