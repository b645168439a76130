"""What a queue file keeps when processes that use it are killed in mid-stream, and when several share it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

import msgviz as mv
from tests.backends import crash
from tests.backends.consumer import received
from tests.queues import bodies_left, drained
from tests.systems import Crash, record_crash

Record = Callable[[str, object], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flow.db"


async def publish_and_tell(url: str, name: str, count: int) -> None:
    """Publish to topic t, ten at a time, and print each body once it is acknowledged."""

    async def publish(who: int) -> None:
        for number in range(who, count, 10):
            body = f"{name}-{number}"
            await topic.publish(body.encode())
            print(body, flush=True)

    async with mv.connect(url) as backend:
        topic = backend.topic("t")
        await asyncio.gather(*(publish(who) for who in range(10)))


async def take_and_hang(url: str) -> None:
    """Take a message, print its attempt, and never end."""

    async def receive(message: mv.Message) -> None:
        print(message.attempt, flush=True)
        await asyncio.Event().wait()

    async with mv.connect(url, lease=0.5) as backend:
        await backend.server("t", subscription="crash").serve(receive)


@asynccontextmanager
async def process(module: str, *arguments: str) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=Path(__file__).parents[2],
        stdin=PIPE,
        stdout=PIPE,
        limit=2**20,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


def publisher(path: Path, name: str, count: int) -> AbstractAsyncContextManager[Process]:
    return process(__name__, "publish", f"sqlite:///{path}", name, str(count))


async def told(running: Process) -> list[str]:
    """All whole lines that are left to read."""
    assert running.stdout is not None
    return (await running.stdout.read()).decode().split("\n")[:-1]


def check(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return found


def counted(what: str, acknowledged: list[str], bodies: list[str]) -> Crash:
    times = Counter(bodies)
    return Crash(
        "SQLite",
        what,
        acknowledged=len(acknowledged),
        lost=len(set(acknowledged) - times.keys()),
        twice=sum(count - 1 for count in times.values()),
    )


async def test_a_killed_consumer_loses_nothing(path: Path, record_property: Record) -> None:
    result = await crash.consumer_killed(f"sqlite:///{path}", "SQLite", lease=1.0)
    record_crash(record_property, result)
    assert result.acknowledged == 500
    assert result.lost == 0
    assert check(path) == "ok"


async def test_killed_publishers_lose_nothing(path: Path, record_property: Record) -> None:
    acknowledged: list[str] = []
    for round_ in range(3):
        async with publisher(path, f"{round_}", 1_000_000) as running:
            assert running.stdout is not None
            head = b"".join([await running.stdout.readline() for _ in range(300)])
            running.kill()
            acknowledged += [*head.decode().splitlines(), *await told(running)]
        assert check(path) == "ok"
    async with mv.connect(f"sqlite:///{path}") as backend:
        bodies = [body.decode() for body in await bodies_left(backend)]
    result = counted("publisher killed, three times", acknowledged, bodies)
    record_crash(record_property, result)
    assert result.acknowledged >= 900
    assert (result.lost, result.twice) == (0, 0)


async def test_several_processes_share_a_file(path: Path, record_property: Record) -> None:
    url, count = f"sqlite:///{path}", 500
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "received"
        async with mv.connect(url) as backend, AsyncExitStack() as stack:
            await backend.declare("t", "crash")
            consumers = [
                await stack.enter_async_context(
                    process("tests.backends.consumer", url, "t", str(notes), "{}")
                )
                for _ in range(3)
            ]
            publishers = [await stack.enter_async_context(publisher(path, n, count)) for n in "ab"]
            acknowledged = [body for running in publishers for body in await told(running)]
            async with asyncio.timeout(60):
                while len(received(notes)) < 2 * count:
                    await asyncio.sleep(0.02)
            for consumer in consumers:
                assert consumer.stdin is not None
                consumer.stdin.close()
            assert [await consumer.wait() for consumer in consumers] == [0, 0, 0]
            assert await drained(backend, "t", "crash") == []
        result = counted("three consumers, two publishers, no crash", acknowledged, received(notes))
    record_crash(record_property, result)
    assert result.acknowledged == 2 * count
    assert (result.lost, result.twice) == (0, 0)


async def test_processes_that_make_the_same_file_at_once(path: Path) -> None:
    async with AsyncExitStack() as stack:
        publishers = [await stack.enter_async_context(publisher(path, str(n), 10)) for n in range(6)]
        for running in publishers:
            await told(running)
        assert [await running.wait() for running in publishers] == [0] * 6
    async with mv.connect(f"sqlite:///{path}") as backend:
        assert len(await bodies_left(backend)) == 60


async def test_attempts_are_counted_when_consumers_die(path: Path) -> None:
    url = f"sqlite:///{path}"
    async with mv.connect(url, lease=0.5) as backend:
        await backend.declare("t", "crash")
        await backend.topic("t").publish(b"deadly")
        async with process(__name__, "take", url) as running:
            assert running.stdout is not None
            assert await running.stdout.readline() == b"1\n"
            running.kill()
        attempts: list[int] = []
        again = asyncio.Event()

        async def receive(message: mv.Message) -> None:
            attempts.append(message.attempt)
            again.set()

        async with backend.server("t", subscription="crash").running(receive), asyncio.timeout(15):
            await again.wait()
    assert attempts == [2]


if __name__ == "__main__":
    match sys.argv[1:]:
        case "publish", url, name, count:
            asyncio.run(publish_and_tell(url, name, int(count)))
        case "take", url:
            asyncio.run(take_and_hang(url))
