"""Crashes in mid-stream: what was acknowledged to the publisher is received, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgviz as mv
from tests.backends.consumer import received
from tests.systems import Crash


async def consumer_killed(url: str, system: str, *, count: int = 500, **options: Any) -> Crash:
    """Kill a consumer with SIGKILL when it has a third of `count` messages; another one takes over."""
    topic = f"crash-{uuid.uuid4().hex[:8]}"
    async with _notes() as notes, mv.connect(url, **options) as backend:
        await backend.declare(topic, "crash")
        publishing = asyncio.create_task(_publish(backend, topic, count))
        async with _consumer(url, topic, notes, options) as first:
            await _until(lambda: len(received(notes)) >= count // 3)
            first.kill()
            await first.wait()
        acknowledged = await publishing
        async with _consumer(url, topic, notes, options):
            await _until(lambda: acknowledged <= set(received(notes)), or_fail=False)
        return _count(system, "consumer killed", acknowledged, received(notes))


async def broker_restarted(
    url: str,
    system: str,
    restart: Callable[[], None],
    *,
    count: int = 500,
    what: str = "broker killed and started again",
    **options: Any,
) -> Crash:
    """Call `restart`, in a thread, when a third of `count` messages have come; the flow goes on by itself."""
    topic = f"crash-{uuid.uuid4().hex[:8]}"
    bodies: list[str] = []

    async def receive(message: mv.Message) -> None:
        bodies.append(message.text)
        await asyncio.sleep(0.001)

    async with mv.connect(url, **options) as backend:
        server = backend.server(topic, subscription="crash", concurrency=4, max_attempts=None)
        async with server.running(receive):
            publishing = asyncio.create_task(_publish(backend, topic, count))
            await _until(lambda: len(bodies) >= count // 3)
            await asyncio.to_thread(restart)
            acknowledged = await publishing
            await _until(lambda: acknowledged <= set(bodies), or_fail=False)
        return _count(system, what, acknowledged, bodies)


async def _publish(backend: mv.Backend, topic: str, count: int) -> set[str]:
    """Publish until `count` are acknowledged; one that was not is published again, as a publisher would."""
    acknowledged = set()
    orders = backend.topic(topic)
    for number in range(count):
        while True:
            try:
                await orders.publish(str(number).encode())
            except mv.ConnectionFailed:
                await asyncio.sleep(0.05)
            else:
                break
        acknowledged.add(str(number))
        await asyncio.sleep(0.002)
    return acknowledged


@contextlib.asynccontextmanager
async def _notes() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "received"


@contextlib.asynccontextmanager
async def _consumer(
    url: str, topic: str, notes: Path, options: dict[str, Any]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.backends.consumer", url, topic, str(notes), json.dumps(options)),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None and process.stdin is not None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _until(condition: Callable[[], bool], *, seconds: float = 30, or_fail: bool = True) -> None:
    with contextlib.nullcontext() if or_fail else contextlib.suppress(TimeoutError):  # a loss is counted
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)


def _count(system: str, what: str, acknowledged: set[str], bodies: list[str]) -> Crash:
    times = Counter(bodies)
    return Crash(
        system,
        what,
        acknowledged=len(acknowledged),
        lost=len(acknowledged - times.keys()),
        twice=sum(n - 1 for body, n in times.items() if body in acknowledged),
    )
