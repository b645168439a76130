"""SqliteBackend: what waits, on asyncio, for a queue file."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from msgviz.backend import ANY_DELAY, Features
from msgviz.backends.sqlite.committer import Committer
from msgviz.backends.sqlite.file import QueueFile, encode
from msgviz.client import ClientBackend, ClientTopic
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import ConnectionFailed, MsgvizError
from msgviz.message import Message, Source
from msgviz.pull import Delivery, PullServer
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic
from msgviz.urls import read_url

_LARGEST = 1_000_000_000 - 1_000_000
"""Bytes of a body and its attributes: what SQLite can hold in a row, less what a dead letter says."""

# What SQLite's errors mean: first those that may be over another time, then those that never are.
_FAILED = {
    sqlite3.SQLITE_BUSY: "another process kept it locked for too long",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_FULL: "there is no room left",
    sqlite3.SQLITE_READONLY: "it cannot be written to",
}
_WRONG = {
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, and was left as it is",
}


class SqliteBackend(ClientBackend):
    """Topics and subscriptions in a file, which several processes of one machine may share.

    Options, besides `timeout` and `create`:

    `lease`: seconds after which a message that was taken comes again when its consumer died; as long as
    the consumer lives it is prolonged. `synchronous`: with ``full``, what was published survives a power
    cut; with ``normal`` it survives the death of every process, but a power cut may undo the last moments.
    """

    name = "sqlite"
    features = Features(
        ordered=True,
        persistent=True,
        max_delay=ANY_DELAY,
        multi_valued_attributes=True,
        max_attributes=None,
        max_body=_LARGEST,
        binary_body=True,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=True,
    )
    OPTIONS: ClassVar = {**ClientBackend.OPTIONS, "lease": float, "synchronous": str}

    def __init__(
        self, path: str | Path, *, lease: float = 30.0, synchronous: str = "full", **options: Any
    ) -> None:
        path = Path(path).absolute()
        super().__init__(f"sqlite:///{path}", **options)
        if not 0 < lease < math.inf:
            raise ValueError(f"lease is a number of seconds above 0, not {lease!r}")
        if synchronous not in ("full", "normal"):
            raise ValueError(f"synchronous is 'full' or 'normal', not {synchronous!r}")
        self.lease = lease
        self.path = path
        self._synchronous = synchronous
        self._committer: Committer | None = None
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``."""
        parts = read_url(url, cls.OPTIONS, options)
        path = parts.path.removeprefix("/")
        if parts.hosts or parts.user or not path or path == ":memory:" or "#" in url:
            raise ValueError(
                f"{parts.safe!r} names no file: write sqlite:///flow.db for one in this folder, "
                "sqlite:////tmp/flow.db for one elsewhere (and %23 for a #); memory:// needs no file"
            )
        return cls(path, **parts.options)

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""
        return SqliteTopic(self, _check_name(name))

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server; its subscription exists when the next message is published."""
        _check_name(source.topic)
        _check_name(source.subscription)
        return self.add(
            SqliteServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )

    async def open(self) -> None:
        """Open the file."""
        file = QueueFile(
            self.path, create=self.create, synchronous=self._synchronous, patience=0.8 * self.timeout
        )
        committer = Committer(file, self._wake_all)
        await committer.start()
        self._committer = committer

    @property
    def committer(self) -> Committer:
        """The thread that uses the file."""
        if self._committer is None:
            raise ConnectionFailed(f"{self.safe_url} is not open")
        return self._committer

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Make a topic and its subscriptions, all in one transaction."""
        names = [_check_name(source.subscription) for source in sources]
        _check_name(topic)
        await self.committer.run(lambda file: file.declare(topic, names), durable=True)

    async def disconnect(self) -> None:
        """Close the file, and end the thread."""
        await self.committer.stop()

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """SQLite's error, with the path of the file."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code in _WRONG:
            return ValueError(f"{self.safe_url}: {_WRONG[code]}")
        if code == sqlite3.SQLITE_CANTOPEN and not self.path.parent.is_dir():
            return ConnectionFailed(f"{self.safe_url}: there is no folder {self.path.parent}")
        if isinstance(error, sqlite3.OperationalError):
            return ConnectionFailed(f"{self.safe_url}: {_FAILED.get(code, error)}")
        return None

    def listen(self, topic: str, news: asyncio.Event) -> None:
        """Set an event whenever there may be something to take from a topic."""
        self._waiting[topic].add(news)
        self.committer.watched = True

    def unlisten(self, topic: str, news: asyncio.Event) -> None:
        """Do so no more."""
        self._waiting[topic].discard(news)
        self.committer.watched = any(self._waiting.values())

    def wake(self, topic: str) -> None:
        """Tell who waits for messages of a topic."""
        for news in self._waiting.get(topic, ()):
            news.set()

    def _wake_all(self) -> None:
        for topic in self._waiting:
            self.wake(topic)


class SqliteTopic(ClientTopic):
    """A topic in a file; with a subscription, one that reaches it alone."""

    async def put(self, message: Message, delay: float) -> None:
        """Store a message; returns when it is on the disk."""
        attributes = encode(message.freeze())
        if len(message.body) + len(attributes) > _LARGEST:
            raise ValueError(f"sqlite: a body and its attributes have at most {_LARGEST} bytes together")
        backend: SqliteBackend = self.backend
        await backend.committer.run(
            lambda file: file.publish(self.name, self.subscription, message, attributes, delay),
            durable=True,
        )
        backend.wake(self.name)

    def to_subscription(self, subscription: str) -> Topic:
        """This topic, for one of its subscriptions alone."""
        return super().to_subscription(_check_name(subscription))


class SqliteServer(PullServer):
    """Workers that take messages from a file, and sleep until there is one.

    A publish in this process wakes them at once, one in another process within 50 ms.
    """

    LOOK = 1.0  # seconds after which a server looks again, whatever it was told

    def __init__(self, backend: SqliteBackend, source: Source, **options: Any) -> None:
        super().__init__(backend, source, **options)
        self.lease = backend.lease
        self._news = asyncio.Event()
        self._giving_back: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen for what is published."""
        self.backend.listen(self.topic, self._news)

    async def take(self, count: int) -> Sequence[Delivery]:
        """Take what is ready, or wait until something is."""
        end = time.monotonic() + self.LOOK
        while True:
            self._news.clear()
            taken, due = await self._claim(count)
            left = end - time.monotonic()
            if taken or left <= 0:
                return taken
            self._looks_empty = True  # told now, not when the wait is over
            if due is not None:
                left = min(left, due - time.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()

    async def _claim(self, count: int) -> tuple[list[Delivery], float | None]:
        claiming = asyncio.ensure_future(
            self.backend.committer.run(
                lambda file: file.claim(self.topic, self.subscription, count, self.lease)
            )
        )
        try:
            taken, due = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            task = asyncio.create_task(self._give_back(claiming))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise
        return [Delivery(message, handle=delivery) for delivery, message in taken], due

    async def _give_back(self, claiming: asyncio.Future[Any]) -> None:
        """What was taken when nobody waited for it any more."""
        with suppress(MsgvizError, sqlite3.Error):  # else it comes again when its lease ends
            taken, _ = await claiming
            for delivery, message in taken:
                await self.release(Delivery(message, handle=delivery))

    async def ack(self, delivery: Delivery) -> None:
        """It was processed."""
        await self.backend.committer.run(lambda file: file.ack(delivery.handle))

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """It was not: it comes again at the end of the line, after `delay` seconds."""
        tag = delivery.message.tag
        await self.backend.committer.run(lambda file: file.retry(delivery.handle, delay, tag))
        self.backend.wake(self.topic)

    async def release(self, delivery: Delivery) -> None:
        """Nobody processed it: it comes again at once, as the same attempt."""
        tag = delivery.message.tag
        await self.backend.committer.run(lambda file: file.release(delivery.handle, tag))
        self.backend.wake(self.topic)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Prolong the lease of these."""
        handles = [delivery.handle for delivery in deliveries]
        await self.backend.committer.run(lambda file: file.extend(handles, self.lease))

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """It is dead: in one transaction it becomes a letter, so that there is exactly one."""
        letter.tag = delivery.message.tag
        attributes = encode(letter.freeze())
        topic = dead_letter_topic(self.source)

        def become_letter(file: QueueFile) -> None:
            file.publish(topic, None, letter, attributes, 0.0)
            file.ack(delivery.handle)

        await self.backend.committer.run(become_letter, durable=True)
        self.backend.wake(topic)

    async def shut(self) -> None:
        """Listen no more."""
        self.backend.unlisten(self.topic, self._news)
        if self._giving_back:
            await asyncio.wait(self._giving_back)


def _check_name(name: str) -> str:
    """A name that the file can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"sqlite: a name is text that UTF-8 has, not {name!r}") from None
    return name
