"""ClientBackend and ClientTopic: what all backends share that talk to a system through a client library.

The connection is made when it is first needed, and so are topics and subscriptions: `backend.server(...)`
only notes that its subscription is wanted, and the next publish to its topic waits until it is there. So a
flow that runs on memory:// runs here, cell by cell, unchanged.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from msgviz.backend import Backend, Features, check_name
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import BackendClosed, ConnectionFailed, MsgvizError
from msgviz.message import Message, Source
from msgviz.server import Server
from msgviz.topic import Topic
from msgviz.urls import switch

T = TypeVar("T")


class ClientBackend(Backend):
    """A backend on a client library. To write one, define the methods below that are abstract.

    `safe_url` is what errors show: a URL without its password. An operation that takes longer than
    `timeout` seconds raises `ConnectionFailed`. With `create` false nothing is made, and what is missing
    raises `NotFound`.
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {"timeout": float, "create": switch}
    """The options that every one of these has, and how to read each from the text of a URL."""
    publish_timeout: float | None = None
    """Seconds that one publish may take; None for `timeout`."""

    def __init__(self, safe_url: str, *, timeout: float = 5.0, create: bool = True) -> None:
        super().__init__()
        if not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
        self.safe_url = safe_url
        self.timeout = timeout
        self.create = create
        self._servers: list[Server] = []
        self._made: set[str] = set()  # topics
        self._wanted: dict[str, dict[str, Source]] = {}  # topic -> subscriptions that are not made yet
        self._connected = False
        self._let_go = False  # nobody disconnects any more what is connected from now on
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()
        self._sending = 0
        self._sent: asyncio.Event = asyncio.Event()

    @abstractmethod
    async def open(self) -> None:
        """Connect. Called once before all else, and again after it failed."""

    @abstractmethod
    async def make(self, topic: str, sources: list[Source]) -> None:
        """Make a topic and some of its subscriptions where they are missing.

        Where `create` is false, raise `NotFound` for the first that is missing instead.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """Let go of the system; called once, after a successful `open`, when all servers have ended."""

    @abstractmethod
    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """The client library's error in the words of `msgviz.errors`; None for one that is not its own."""

    async def call(self, action: Awaitable[T], *, timeout: float | None = None) -> T:
        """Await something of the client library, within `timeout` seconds, its errors explained."""
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                return await action
        except MsgvizError:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._let_go and task is not None and not task.cancelling():
                raise BackendClosed(self.name) from error  # nobody cancelled but the client, as it closed
            raise
        except Exception as error:
            if (known := self.explain(error)) is not None:
                raise known from error
            if isinstance(error, TimeoutError):
                raise ConnectionFailed(f"{self.safe_url} did not answer within {limit:g} s") from error
            raise

    def want(self, source: Source) -> None:
        """Have a subscription made before the next message is published to its topic."""
        self._wanted.setdefault(source.topic, {})[source.subscription] = source

    async def ready(self, topic: str) -> None:
        """Connect, and make the topic and what is wanted of it, unless that was done before."""
        if topic in self._made and topic not in self._wanted and asyncio.get_running_loop() is self._loop:
            return
        self.check_open()
        await self.connected()
        async with self._making:
            while topic not in self._made or topic in self._wanted:
                if self._let_go:
                    self.check_open()
                wanted = dict(self._wanted.get(topic, {}))
                await self.call(self.make(topic, list(wanted.values())), timeout=2 * self.timeout)
                self._made.add(topic)
                left = self._wanted.get(topic, {})
                for name, source in wanted.items():  # one that was asked for meanwhile stays
                    if left.get(name) is source:
                        del left[name]
                if not left:
                    self._wanted.pop(topic, None)

    @property
    def reached(self) -> bool:
        """Whether it has connected before: what fails now may be over in a moment."""
        return self._connected

    async def connected(self) -> None:
        """Connect, unless that was done before."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise MsgvizError(f"{self.safe_url} is in use on another event loop: connect once for each loop")
        async with self._making:
            if not self._connected:
                self.check_open()
                await self.call(self.open())
                self._connected = True
                if self._let_go:  # closed meanwhile, by somebody who saw nothing to let go of
                    await self.call(self.disconnect())
                    self.check_open()

    def add(self, server: Server) -> Server:
        """Keep a server, to shut down on `close`, and want its subscription and its dead letters'."""
        source = server.source
        self.want(source)
        if source.max_attempts is not None:
            self.want(Source(dead_letter_topic(source), "default", None))
        self._servers = [s for s in self._servers if not s._closed]
        self._servers.append(server)
        return server

    async def declare(self, topic: str, *subscriptions: str) -> None:
        """Make the topic and its subscriptions where they are missing."""
        self.check_open()
        check_name(topic, "topic")
        for subscription in subscriptions:
            if subscription not in self._wanted.get(topic, {}):
                self.want(Source(topic, check_name(subscription, "subscription")))
        try:
            await self.ready(topic)
        except Exception as error:
            if self.closed and not isinstance(error, BackendClosed):
                raise BackendClosed(self.name) from error
            raise

    async def send(self, topic: ClientTopic, message: Message, delay: float) -> None:
        """Publish one message; see `Topic.send`."""
        self.check_open()
        self._sending += 1
        try:
            await self.ready(topic.name)
            await self.call(topic.put(message, delay), timeout=self.publish_timeout)
        except Exception as error:
            if self.closed and not isinstance(error, BackendClosed):
                raise BackendClosed(self.name) from error
            raise
        finally:
            self._sending -= 1
            if not self._sending:
                self._sent.set()

    async def close(self) -> None:
        """Shut down the servers, let what is being published end, and disconnect.

        Cancelled, it waits for neither: receivers are cancelled, and their messages given back.
        """
        if self.closed:
            return
        self.closed = True
        try:
            results = await asyncio.gather(*(s.shutdown() for s in self._servers), return_exceptions=True)
            with suppress(TimeoutError):  # whoever publishes is told by an error of its own
                async with asyncio.timeout(self.timeout):
                    while self._sending:
                        self._sent.clear()
                        await self._sent.wait()
        except BaseException:  # cancelled: closed at once, for there is no second time
            await asyncio.gather(*(s.shutdown(0) for s in self._servers), return_exceptions=True)
            with suppress(MsgvizError):
                await self._let_all_go()
            raise
        await self._let_all_go()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _let_all_go(self) -> None:
        self._let_go = True
        if self._connected:
            await self.call(self.disconnect())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.safe_url}{' closed' if self.closed else ''}>"


class ClientTopic(Topic):
    """A topic of a `ClientBackend`, or one of its subscriptions alone. To write one, define `put`."""

    def __init__(self, backend: ClientBackend, name: str, subscription: str | None = None) -> None:
        self.name = name
        self.subscription = subscription
        self.backend: Any = backend

    @property
    def features(self) -> Features:
        """What can be sent here."""
        features: Features = self.backend.features
        return features

    @abstractmethod
    async def put(self, message: Message, delay: float) -> None:
        """Hand a checked message to the system; returns when it is stored."""

    async def send(self, message: Message, delay: float) -> None:
        """Take one message; see `Topic.send`."""
        self.features.check(self.backend.name, message, delay)
        await self.backend.send(self, message, delay)

    def to_subscription(self, subscription: str) -> Topic:
        """This topic, for one of its subscriptions alone, where the system can address one."""
        if not self.backend.features.addressable_subscriptions:
            return super().to_subscription(subscription)
        return type(self)(self.backend, self.name, check_name(subscription, "subscription"))
