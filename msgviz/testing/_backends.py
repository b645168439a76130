"""Checks of a backend's life: closing it, and systems that are not there, refuse, or are restarted."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import unquote, urlsplit

from msgviz.backend import Backend
from msgviz.errors import BackendClosed, ConnectionFailed, NotFound
from msgviz.testing.check import PERSISTENT, SHARED, Need, check
from msgviz.testing.harness import bare
from msgviz.testing.scene import Scene, numbered
from msgviz.urls import without_password

_CREATES = Need(lambda h, f: h.creates, "topics need not be made")
_UNREACHABLE = Need(lambda h, f: h.unreachable(), "there is no server to reach")
_REFUSES = Need(lambda h, f: h.refused(), "nobody is refused")
_RESTARTS = Need(lambda h, f: h.can_restart, "its server cannot be restarted here")

_SECONDS = 10.0
"""Within which somebody must be told that there is no server."""


@check("closed backend")
async def _closed(scene: Scene) -> None:
    """After `close`, whatever is asked of a backend raises BackendClosed; closing twice is no error."""
    name, inbox = scene.name_of(), scene.inbox()
    backend = scene.backend
    topic, server = backend.topic(name), scene.start(name, inbox)
    await topic.publish(b"one")
    await inbox.passes([b"one"])
    await backend.close()
    scene.expect(backend.closed, "after close() a backend does not say that it is closed")
    scene.expect(not server.serving, "after close() a server still serves")
    await backend.close()

    uses: dict[str, Callable[[], object]] = {
        "publishing": lambda: topic.publish(b"two"),
        "publishing with a delay of 0": lambda: topic.publish(b"two", delay=0.0),
        "declaring": lambda: backend.declare(name),
        "a topic": lambda: backend.topic(name),
        "a server": lambda: backend.server(name),
        "redriving": lambda: backend.redrive(name),
    }
    for what, use in uses.items():
        await scene.raises(BackendClosed, use, f"after close(), {what}")


@check("closed unused")
async def _closed_unused(scene: Scene) -> None:
    """A backend that was never used, or whose servers never served, closes without an error."""
    other = await scene.connect(new=True)
    await other.close()
    third = await scene.connect(new=True)
    third.topic(scene.name_of())
    third.server(scene.name_of())
    await scene.within(scene.harness.timeout, third.close(), "closing an unused backend")


@check("closing while publishing")
async def _closing_while_publishing(scene: Scene) -> None:
    """Whoever publishes while a backend is closed is told BackendClosed, or the message is there."""
    name = scene.name_of()
    await scene.backend.declare(name, "default")
    closing = await scene.connect(new=True) if scene.harness.shared else scene.backend
    topic = closing.topic(name)
    sent: list[bytes] = []
    started = asyncio.Event()

    async def publish(who: int) -> None:
        for body in numbered(10_000, f"publisher-{who}"):
            try:
                await topic.publish(body)
            except BackendClosed:
                return
            sent.append(body)
            started.set()
            await asyncio.sleep(0)

    publishers = [asyncio.create_task(publish(who)) for who in range(5)]
    try:
        await scene.within(scene.harness.timeout, started.wait(), "the first publish")
        await scene.within(scene.harness.timeout, closing.close(), "closing while publishing")
        done, late = await asyncio.wait(publishers, timeout=scene.harness.timeout)
    finally:
        for task in publishers:
            task.cancel()
    scene.expect(not late, f"{len(late)} publishers were told nothing when the backend was closed")
    for task in done:
        if (error := task.exception()) is not None:
            raise error
    if scene.harness.shared:
        inbox = scene.inbox()
        scene.start(name, inbox, concurrency=8)
        await inbox.arrive(sent)


@check("closing while serving", SHARED, PERSISTENT)
async def _closing_while_serving(scene: Scene) -> None:
    """Closing a backend lets its receivers finish; what they did not take waits for others."""
    name = scene.name_of()
    await scene.backend.declare(name, "default")
    bodies = numbered(20)
    await scene.publish(name, *bodies)
    closing = await scene.connect()
    inbox = scene.inbox("the two connections together", lambda message: asyncio.sleep(0.01))
    scene.start(name, inbox, backend=closing, concurrency=3)
    await inbox.count(4)
    await scene.within(scene.harness.timeout, closing.close(), "closing while serving")
    scene.expect(len(inbox.passed) == len(inbox.got), "closing did not let the receivers in flight finish")
    scene.start(name, inbox, concurrency=3)
    await inbox.passes(bodies)
    await inbox.nothing_more()
    inbox.exactly(bodies)


@check("publishing after a failure")
async def _after_a_failure(scene: Scene) -> None:
    """After publishes that were refused or cancelled, the next ones go through."""
    name, inbox = scene.name_of(), scene.inbox()
    scene.start(name, inbox)
    topic = scene.backend.topic(name)
    await scene.raises(ValueError, lambda: topic.publish(b"wrong", delay=-1), "a negative delay")
    await scene.raises(TypeError, lambda: topic.publish("text"), "a body that is a str")  # type: ignore[arg-type]
    cancelled = numbered(5, "cancelled")
    for turns, body in enumerate(cancelled):
        task = asyncio.create_task(topic.publish(body))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    bodies = numbered(5)
    await scene.publish(topic, *bodies)
    await scene.until(lambda: set(bodies) <= set(inbox.passed), lambda: inbox.missing(bodies))
    strange = [body for body in inbox.bodies if body not in (*bodies, *cancelled)]
    scene.expect(not strange, f"what was refused was sent: {strange}")
    twice = [body for body in cancelled if len(inbox.of(body)) > 1]
    scene.expect(not twice, f"a cancelled publish was delivered twice: {twice}")


@check("a topic that does not exist", _CREATES)
async def _missing(scene: Scene) -> None:
    """With ``create=False`` a missing topic or subscription raises NotFound, which names it."""
    name, inbox = scene.name_of(), scene.inbox()
    backend = await scene.connect(create=False)
    uses: dict[str, Callable[[], object]] = {
        "publishing to a missing topic": lambda: backend.topic(name).publish(b"lost"),
        "declaring a missing topic": lambda: backend.declare(name),
        "serving a missing topic": lambda: backend.server(name, max_attempts=None).serve(inbox),
    }
    for what, action in uses.items():
        error = await scene.raises(NotFound, action, what)
        scene.expect(name in str(error), f"{what}: the error does not name it: {error}")
    await scene.backend.declare(name, "default")
    later = await scene.connect(create=False)
    missing = later.server(name, subscription="missing", max_attempts=None)
    error = await scene.raises(NotFound, lambda: missing.serve(inbox), "serving a missing subscription")
    scene.expect("missing" in str(error), f"the error does not name the missing subscription: {error}")
    existing = await scene.connect(create=False)
    scene.start(name, inbox, backend=existing, max_attempts=None)
    await existing.topic(name).publish(b"found")
    await inbox.passes([b"found"])


async def _told(scene: Scene, url: str) -> None:
    """That whoever uses this URL is told ConnectionFailed, soon, and not its password."""
    parts = urlsplit(url)

    def connect() -> Backend:
        return scene.keep(scene.harness.wrap(type(bare(scene.backend)).from_url(url)))

    uses: dict[str, Callable[[Backend, str], object]] = {
        "publishing": lambda backend, name: backend.topic(name).publish(b"lost"),
        "declaring": lambda backend, name: backend.declare(name, "default"),
        "serving": lambda backend, name: backend.server(name).serve(scene.inbox()),
    }
    for what, use in uses.items():
        backend = connect()
        began = time.monotonic()
        error = await scene.raises(ConnectionFailed, partial(use, backend, scene.name_of()), what)
        took, text = time.monotonic() - began, str(error)
        scene.expect(took < _SECONDS, f"{what}: it took {took:.1f} s to tell, more than {_SECONDS:g} s")
        named = getattr(bare(backend), "safe_url", without_password(url))
        scene.expect(named in text, f"{what}: the error does not name {named}: {text}")
        for secret in {parts.password, unquote(parts.password or "")} - {None, ""}:
            scene.expect(str(secret) not in text, f"{what}: the error shows the password: {text}")
        scene.expect(error.__cause__ is not None, f"{what}: the error has no __cause__: {text}")
        await scene.within(_SECONDS, backend.close(), "closing a backend that never connected")


@check("no server", _UNREACHABLE)
async def _no_server(scene: Scene) -> None:
    """Where nobody listens, ConnectionFailed says so within seconds and names the URL, not its password."""
    await _told(scene, scene.harness.unreachable() or "")


@check("wrong credentials", _REFUSES)
async def _refused(scene: Scene) -> None:
    """Wrong credentials raise ConnectionFailed within seconds, which names the URL, not the password."""
    await _told(scene, scene.harness.refused() or "")


@check("server restarted", _RESTARTS, PERSISTENT, patience=8.0, alone=True)
async def _restarted(scene: Scene) -> None:
    """When its server is killed and comes back, a backend goes on, and no message it took is lost."""
    name, inbox = scene.name_of(), scene.inbox()
    scene.start(name, inbox, concurrency=4)
    topic = (await scene.connect()).topic(name)
    tried: list[bytes] = []
    sent: list[bytes] = []
    back = asyncio.Event()

    async def publish() -> None:
        after = 0
        while after < 10:
            body = f"m-{len(tried)}".encode()
            tried.append(body)
            await _until_taken(scene, topic.publish, body)
            sent.append(body)
            after += back.is_set()
            await asyncio.sleep(0.002)

    publishing = asyncio.create_task(publish())
    try:
        await scene.until(
            lambda: (len(sent) >= 20 and inbox.passed) or publishing.done(),
            lambda: f"{len(sent)} messages could be published and {len(inbox.passed)} were received",
        )
        again = scene.harness.restart if inspect.iscoroutinefunction(scene.harness.restart) else None
        result = await again() if again else await asyncio.to_thread(scene.harness.restart)
        if inspect.isawaitable(result):
            await result
        back.set()
        await scene.within(4 * scene.harness.timeout, publishing, "publishing after the restart")
    finally:
        publishing.cancel()
    await inbox.arrive(sent)
    strange = set(inbox.bodies) - set(tried)
    scene.expect(not strange, f"after the restart came what nobody sent: {sorted(strange)}")


async def _until_taken(scene: Scene, publish: Callable[[bytes], Awaitable[None]], body: bytes) -> None:
    deadline = time.monotonic() + 3 * scene.harness.timeout
    while True:
        try:
            return await publish(body)
        except ConnectionFailed:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
