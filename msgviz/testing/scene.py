"""Scene: what a check works with, and what takes it all down again."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from msgviz.backend import Backend, Features
from msgviz.dead_letters import dead_letter_topic
from msgviz.message import Message, Source
from msgviz.server import Server
from msgviz.testing.harness import Harness
from msgviz.topic import Topic


class CheckFailed(AssertionError):
    """A backend does not do what it must; the text says what was wrong."""


@dataclass(frozen=True, slots=True)
class Got:
    """One delivery, as it was before a receiver could change it."""

    body: bytes
    attributes: dict[str, list[str]]
    attempt: int
    time: float
    source: Source | None


class Inbox:
    """A receiver that keeps what it is given, and then does what `act` does."""

    def __init__(
        self,
        scene: Scene,
        name: str = "the receiver",
        act: Callable[[Message], Awaitable[None]] | None = None,
    ) -> None:
        self.scene = scene
        self.name = name
        self.act = act
        self.got: list[Got] = []
        self.passed: list[bytes] = []
        """The bodies of those it did not fail on."""
        self.now = self.most = 0

    async def __call__(self, message: Message) -> None:
        """Keep a message."""
        self.keep(message)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.act is not None:
                await self.act(message)
            self.passed.append(message.body)
        finally:
            self.now -= 1
            self.scene.touch()

    def keep(self, message: Message) -> Got:
        """Note a delivery."""
        got = Got(
            message.body, message.attributes.to_dict(), message.attempt, time.monotonic(), message.source
        )
        self.got.append(got)
        self.scene.touch()
        return got

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of all deliveries."""
        return [got.body for got in self.got]

    def of(self, body: bytes) -> list[Got]:
        """The deliveries of one message."""
        return [got for got in self.got if got.body == body]

    async def count(self, number: int) -> None:
        """Wait for this many deliveries."""
        await self.scene.until(
            lambda: len(self.got) >= number,
            lambda: f"{self.name} was given {len(self.got)} messages, not {number}: {shown(self.bodies)}",
        )

    async def arrive(self, bodies: Collection[bytes]) -> None:
        """Wait until each of these messages was received without an error, once or more often."""
        wanted = set(bodies)
        await self.scene.until(lambda: wanted <= set(self.passed), lambda: self.missing(bodies))

    async def passes(self, bodies: Collection[bytes]) -> None:
        """Wait until each of these messages was received without an error; none other, and none twice."""
        await self.arrive(bodies)
        self.exactly(bodies)

    def missing(self, bodies: Collection[bytes]) -> str:
        """Which of these were not received, in words."""
        return f"{self.name}: {difference(bodies, self.passed)}"

    def exactly(self, bodies: Collection[bytes]) -> None:
        """That just these messages were received without an error, each once."""
        wrong = difference(bodies, self.passed)
        self.scene.expect(not wrong, f"{self.name}: {wrong}")

    async def nothing_more(self, why: str = "after all was received") -> None:
        """That nothing comes for a moment."""
        before = len(self.got)
        await self.scene.moment()
        more = self.bodies[before:]
        self.scene.expect(not more, f"{self.name} was given more {why}: {shown(more)}")


class Scene:
    """The connections, servers and topics of one check."""

    def __init__(self, harness: Harness, name: str) -> None:
        self.harness = harness
        self.name = name
        self.backend: Backend
        self.features: Features
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._backends: list[Backend] = []
        self._servers: list[Server] = []

    async def __aenter__(self) -> Self:
        self.backend = await self.connect(new=True)
        self.features = self.backend.features
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures: list[Exception] = []
        for backend in reversed(self._backends):
            try:
                async with asyncio.timeout(self.harness.timeout):
                    await backend.close()
            except Exception as failure:  # noqa: BLE001  the others are closed first
                failures.append(failure)
        if failures and error is None:
            raise CheckFailed(f"closing the backend failed: {failures[0]!r}") from failures[0]

    async def connect(self, *, new: bool = False, **options: Any) -> Backend:
        """Another connection to the same topics: where each is its own system, the one there is."""
        if self._backends and not new and not self.harness.shared:
            return self.backend
        backend = self.harness.wrap(await self.harness.connect(**options))
        return self.keep(backend)

    def keep(self, backend: Backend) -> Backend:
        """Have a backend closed in the end."""
        self._backends.append(backend)
        return backend

    def name_of(self, what: str = "") -> str:
        """A topic's name that nobody has used."""
        return self.harness.topic(what or self.name)

    def inbox(
        self, name: str = "the receiver", act: Callable[[Message], Awaitable[None]] | None = None
    ) -> Inbox:
        """A receiver that keeps what it is given."""
        return Inbox(self, name, act)

    def server(self, topic: str, *, backend: Backend | None = None, **options: Any) -> Server:
        """A server whose failing fails the check."""
        options.setdefault("backoff", 0.01)
        server = (backend or self.backend).server(topic, **options)
        self._servers.append(server)
        return server

    def start(self, topic: str, receiver: Any, **options: Any) -> Server:
        """A server, and start it."""
        server = self.server(topic, **options)
        server.start(receiver)
        return server

    async def publish(self, topic: str | Topic, *bodies: bytes) -> None:
        """Publish these, one after the other."""
        if isinstance(topic, str):
            topic = self.backend.topic(topic)
        for body in bodies:
            await topic.publish(body)

    def letters(self, topic: str, subscription: str = "default", **options: Any) -> Inbox:
        """A receiver, served, of the dead letters of a subscription."""
        inbox = self.inbox(f"the server of the dead letters of {topic}/{subscription}")
        self.start(dead_letter_topic(Source(topic, subscription)), inbox, **options)
        return inbox

    def touch(self) -> None:
        """Have `until` look again; may be called in any thread."""
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, done: Callable[[], object], otherwise: Callable[[], str] | str) -> None:
        """Wait for something; past the harness's `timeout` the check fails."""
        timeout = self.harness.timeout
        deadline = time.monotonic() + timeout
        while not done():
            self._look_at_servers()
            left = deadline - time.monotonic()
            if left <= 0:
                text = otherwise if isinstance(otherwise, str) else otherwise()
                raise CheckFailed(f"after {timeout:g} s: {text}")
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.1)):
                    await self._changed.wait()

    def _look_at_servers(self) -> None:
        for server in self._servers:
            if server.failed is not None:
                raise CheckFailed(
                    f"the server of {server.source} ended by itself: {server.failed!r}"
                ) from server.failed

    def size(self, wanted: int) -> int:
        """A size of a body that the system takes, this one or less, with room for a few attributes."""
        room = self.features.max_body
        return wanted if room is None else min(wanted, max(room - 2000, room // 2))

    async def pace(self, topic: str, inbox: Inbox) -> float:
        """Seconds from publishing a message to its receipt by this running receiver; forgets it again."""
        for body in (b"first", b"second"):  # the first one has to connect
            began = time.monotonic()
            await self.publish(topic, body)
            await inbox.arrive([body])
        inbox.got.clear()
        inbox.passed.clear()
        return time.monotonic() - began

    async def moment(self) -> None:
        """Wait as long as it takes to see that nothing comes."""
        await asyncio.sleep(self.harness.quiet)
        self._look_at_servers()

    def expect(self, condition: object, otherwise: str) -> None:
        """Fail the check unless the condition holds."""
        if not condition:
            raise CheckFailed(otherwise)

    async def together(self, *actions: Coroutine[Any, Any, Any]) -> None:
        """Await all of these at the same time; raises the first error when all have ended."""
        for result in await asyncio.gather(*actions, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def within(self, seconds: float, action: Awaitable[Any], what: str) -> Any:
        """Await something that must not take long."""
        try:
            async with asyncio.timeout(seconds) as limit:
                return await action
        except TimeoutError as error:
            if limit.expired():
                raise CheckFailed(f"{what} did not end within {seconds:g} s") from error
            raise

    async def raises(
        self, kinds: type[Exception] | tuple[type[Exception], ...], action: Callable[[], Any], what: str
    ) -> Exception:
        """Call, and await, something that must raise one of these; gives the error."""
        names = " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
        try:
            result = action()
            if inspect.isawaitable(result):
                await self.within(self.harness.timeout, result, what)
        except CheckFailed:
            raise
        except kinds as error:
            return error
        except Exception as error:
            raise CheckFailed(f"{what} raised {error!r}, and no {names}") from error
        raise CheckFailed(f"{what} raised nothing, and no {names}")

    def same(self, got: Got, body: bytes, attributes: dict[str, list[str]], what: str) -> None:
        """That a message arrived as it was sent."""
        self.expect(
            got.body == body, f"{what}: the body arrived as {clipped(got.body)}, not as {clipped(body)}"
        )
        added = {key.lower() for key in self.harness.added_attributes}
        arrived = {k: v for k, v in got.attributes.items() if k.lower() not in added or k in attributes}
        wrong = [
            f"{key!r} as {clipped(arrived.get(key))}, not as {clipped(attributes.get(key))}"
            for key in sorted({*arrived, *attributes})
            if arrived.get(key) != attributes.get(key)
        ]
        self.expect(not wrong, f"{what}: these attributes arrived otherwise: {'; '.join(wrong)}")


def numbered(count: int, what: str = "m") -> list[bytes]:
    """Bodies to tell apart."""
    return [f"{what}-{number}".encode() for number in range(count)]


def shown(bodies: Iterable[bytes], most: int = 12) -> str:
    """Bodies for a person to read."""
    texts = [clipped(body) if len(body) > 40 else body.decode("utf-8", "replace") for body in bodies]
    if not texts:
        return "none"
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def clipped(value: object, most: int = 80) -> str:
    """A value for a person to read, not too long."""
    text = repr(value[: 2 * most] if isinstance(value, (bytes, str)) else value)
    size = f" ({len(value)} bytes)" if isinstance(value, bytes) else ""
    return text if len(text) <= most else f"{text[:most]}…{size}"


def difference(wanted: Iterable[bytes], got: Iterable[bytes]) -> str:
    """What is wrong with what came, in words; empty where nothing is."""
    want, have = Counter(wanted), Counter(got)
    lost = [body for body in want if body not in have]
    often = [body for body in want if have[body] > want[body]]
    strange = [body for body in have if body not in want]
    parts = []
    if lost:
        parts.append(f"{len(lost)} of {len(want)} messages never came: {shown(lost)}")
    if often:
        parts.append(f"{len(often)} came more than once: {shown(often)}")
    if strange:
        parts.append(f"{len(strange)} came that nobody sent here: {shown(strange)}")
    return "; ".join(parts)
