"""Consumer groups under redis://: what dies, what is trimmed, what is given back, what others take."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from redis import asyncio as client

import msgviz as mv
from tests.backends.redis_lab import backend, bare, name, receive, redis, system, until, valkey
from tests.systems.redis import RedisSystem

__all__ = ["backend", "bare", "name", "redis", "system", "valkey"]


async def pending(bare: Any, name: str, group: str = "default") -> int:
    found = await bare.execute_command("XPENDING", name, group)
    return int(found[0] if isinstance(found, list) else found["pending"])


async def test_the_message_of_a_consumer_that_fell_silent(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.declare(name, "default")
    await backend.topic(name).publish(b"1")
    await bare.xreadgroup("default", "ghost", {name: ">"})
    (message,) = await receive(backend, name)
    assert (message.body, message.attempt) == (b"1", 2)
    assert await pending(bare, name) == 0


async def test_a_message_that_kills_its_consumers_dies(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.declare(name, "default")
    await backend.topic(name).publish(b"1")
    await bare.xreadgroup("default", "ghost", {name: ">"})
    ((entry, _),) = await bare.xrange(name)
    await bare.execute_command("XCLAIM", name, "default", "ghost", 0, entry, "RETRYCOUNT", 5, "IDLE", 5000)
    got: list[mv.Message] = []
    async with backend.server(name).running(got.append):
        (letter,) = await receive(backend, f"{name}.default.dead")
    assert got == []
    assert "ended without a word" in letter.attributes["Dead-Letter-Reason"]
    assert letter.attributes["Dead-Letter-Attempts"] == "5"


async def test_a_server_that_ends_gives_back_and_leaves(system: RedisSystem, bare: Any, name: str) -> None:
    """A message given back is the next server's at once, long before its lease ends, as the same attempt."""
    async with mv.connect(system.url, lease=60) as backend:
        began = asyncio.Event()

        async def hang(message: mv.Message) -> None:
            began.set()
            await asyncio.Event().wait()

        server = backend.server(name)
        server.start(hang)
        await backend.topic(name).publish(b"1")
        await began.wait()
        (consumer,) = await bare.xinfo_consumers(name, "default")
        assert consumer["name"].startswith(b"msgviz-")
        with pytest.raises(TimeoutError, match="given back"):
            await server.shutdown(0)
        assert [c["name"] for c in await bare.xinfo_consumers(name, "default")] == [b"msgviz-released"]
        async with asyncio.timeout(5):
            (message,) = await receive(backend, name)
        assert (message.body, message.attempt) == (b"1", 1)
        assert [c["name"] for c in await bare.xinfo_consumers(name, "default")] == [b"msgviz-released"]


async def test_what_came_while_a_server_ended_is_given_back(system: RedisSystem, name: str) -> None:
    """Servers end while messages arrive: each is received once, and none waits for a lease."""
    async with mv.connect(system.url, lease=60) as backend:
        got: list[bytes] = []
        topic = backend.topic(name)
        await backend.declare(name, "default")

        async def publish() -> None:
            for n in range(300):
                await topic.publish(b"%d" % n)
                await asyncio.sleep(0.002)

        publishing = asyncio.create_task(publish())
        while not publishing.done():
            server = backend.server(name, concurrency=3)
            server.start(lambda message: got.append(message.body))
            await asyncio.sleep(0.02)
            await server.shutdown()
        await publishing
        async with asyncio.timeout(15), backend.server(name).running(lambda m: got.append(m.body)):
            await until(lambda: len(got) >= 300)
        assert sorted(got, key=int) == [b"%d" % n for n in range(300)]


async def test_a_message_that_another_has_taken_over_is_not_moved(
    backend: mv.Backend, bare: Any, name: str
) -> None:
    failed = asyncio.Event()

    async def lose(message: mv.Message) -> None:
        ((entry, _),) = await bare.xrange(name)
        await bare.execute_command("XCLAIM", name, "default", "thief", 0, entry)
        failed.set()
        raise ValueError("too late")

    async with backend.server(name, max_attempts=None, backoff=0).running(lose):
        await backend.topic(name).publish(b"1")
        await failed.wait()
    assert await pending(bare, name) == 1
    assert await bare.xlen(f"{{{name}}}:only:default") == 0


async def test_retries_keep_nobody_waiting(backend: mv.Backend, name: str) -> None:
    """One worker, and messages that fail for ever at once: the others get their turn."""
    got: list[bytes] = []

    async def fail(message: mv.Message) -> None:
        if message.body == b"bad":
            raise ValueError("for ever")
        got.append(message.body)

    async with backend.server(name, max_attempts=None, backoff=0).running(fail):
        for _ in range(3):
            await backend.topic(name).publish(b"bad")
        for n in range(20):
            await backend.topic(name).publish(b"%d" % n)
        await until(lambda: len(got) == 20)
    assert got == [b"%d" % n for n in range(20)]


async def test_what_all_have_acknowledged_is_removed(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.declare(name, "fast", "slow")
    for n in range(250):
        await backend.topic(name).publish(b"%d" % n)
    await receive(backend, name, 250, subscription="fast", concurrency=10)
    assert await bare.xlen(name) == 250
    slow = backend.server(name, subscription="slow")
    seen: list[bytes] = []
    held = asyncio.Event()

    async def stop_at_100(message: mv.Message) -> None:
        seen.append(message.body)
        if len(seen) == 101:
            held.set()
            await asyncio.Event().wait()

    slow.start(stop_at_100)
    await held.wait()
    await until(lambda: _is(bare.xlen(name), 150))  # while it runs
    with contextlib.suppress(TimeoutError):
        await slow.shutdown(0)
    got = await receive(backend, name, 150, subscription="slow", concurrency=10)
    assert sorted(int(m.body) for m in got) == list(range(100, 250))
    assert await bare.xlen(name) == 0
    await bare.execute_command("XADD", name, "*", "body", "next")
    assert [m.body for m in await receive(backend, name, subscription="slow")] == [b"next"]


async def _is(found: Any, expected: int) -> bool:
    return bool(await found == expected)


async def test_what_failed_and_was_moved_is_removed_too(backend: mv.Backend, bare: Any, name: str) -> None:
    done: list[int] = []

    async def fail_once(message: mv.Message) -> None:
        if message.attempt == 1:
            raise ValueError("once")
        done.append(message.attempt)

    async with backend.server(name, concurrency=5).running(fail_once):
        for _ in range(20):
            await backend.topic(name).publish(b"1")
        await until(lambda: len(done) == 20)
    assert await bare.xlen(name) == await bare.xlen(f"{{{name}}}:only:default") == 0
    assert await bare.zcard(f"{{{name}}}:later") == 0


async def test_a_stream_of_somebody_else_keeps_what_is_in_it(
    system: RedisSystem, bare: Any, name: str
) -> None:
    for trim, left in ((None, 3), (False, 3), (True, 0)):
        stream = f"{name}-{trim}"
        for n in range(3):
            await bare.xadd(stream, {"body": str(n)})
        async with mv.connect(system.url, trim=trim) as backend:
            await receive(backend, stream, 3)
        assert await bare.xlen(stream) == left
    async with mv.connect(f"{system.url}?trim=false") as backend:
        await backend.topic(name).publish(b"1")
        await receive(backend, name)
    assert await bare.xlen(name) == 1


async def test_a_stream_with_a_bound(system: RedisSystem, bare: Any, name: str) -> None:
    async with mv.connect(f"{system.url}?maxlen=100") as backend:
        for n in range(500):
            await backend.topic(name).publish(b"%d" % n)
        assert 100 <= await bare.xlen(name) < 300


async def test_what_was_deleted_while_it_was_pending_is_passed_over(
    backend: mv.Backend, bare: Any, name: str
) -> None:
    await backend.declare(name, "default")
    for body in (b"1", b"2"):
        await backend.topic(name).publish(body)
    await bare.xreadgroup("default", "ghost", {name: ">"})
    await bare.xdel(name, (await bare.xrange(name))[0][0])
    (message,) = await receive(backend, name)
    assert message.body == b"2"
    assert await pending(bare, name) == 0


async def test_all_is_flushed_under_a_running_server(system: RedisSystem, name: str, tmp_path: Any) -> None:
    own = type(system)(tmp_path)
    own.start()
    try:
        async with mv.connect(own.url) as backend:
            got: list[bytes] = []
            async with backend.server(name).running(lambda message: got.append(message.body)):
                await backend.topic(name).publish(b"1")
                await until(lambda: got == [b"1"])
                async with client.Redis(port=own.port) as other:
                    await other.flushall()
                await backend.topic(name).publish(b"2")
                await until(lambda: got == [b"1", b"2"])
    finally:
        own.stop()


async def test_what_a_broken_connection_carried_comes_at_once(
    system: RedisSystem, bare: Any, name: str
) -> None:
    """An answer that was lost with its connection: the server gives back what it does not know of."""
    async with mv.connect(system.url, lease=60) as backend:
        got: list[tuple[bytes, int]] = []
        server = backend.server(name, concurrency=2)
        held = asyncio.Event()

        async def receive_two(message: mv.Message) -> None:
            got.append((message.body, message.attempt))
            if message.body == b"held":
                await held.wait()

        async with server.running(receive_two):
            await backend.topic(name).publish(b"held")
            await until(lambda: got)
            (consumer,) = await bare.xinfo_consumers(name, "default")
            # in a script, so that the server itself, which waits for it, comes too late
            script = """
                redis.call('XADD', KEYS[1], '*', 'body', 'lost')
                return redis.call('XREADGROUP', 'GROUP', 'default', ARGV[1], 'STREAMS', KEYS[1], '>')
            """
            assert await bare.eval(script, 1, name, consumer["name"])
            await bare.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            try:
                await until(lambda: len(got) == 2, seconds=5)
            finally:
                held.set()
        assert got == [(b"held", 1), (b"lost", 1)]
        assert await pending(bare, name) == 0
