"""Connections under redis://: whatever is cut short, and at whatever moment, none of them stays open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLost

import msgviz as mv
from msgviz.backends.redis.commands import Commands
from tests.backends.redis_lab import bare, name, receive, redis, system, until, valkey
from tests.systems.cut import Cut
from tests.systems.redis import RedisSystem

__all__ = ["bare", "name", "redis", "system", "valkey"]


async def only(bare: Any) -> None:
    """Wait until nobody else has a connection."""

    async def alone() -> bool:
        return len(await bare.client_list()) == 1

    await until(alone)


async def at_rest() -> None:
    """Wait until nothing goes on in the background."""
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def commands_to(system: RedisSystem) -> Commands:
    return Commands(
        timeout=5.0, host="127.0.0.1", port=system.port, username=None, password=None, db=0, tls=False
    )


async def turn(times: int) -> None:
    """Let the loop run this many times."""
    for _ in range(times):
        await asyncio.sleep(0)


async def test_a_backend_that_is_closed_while_it_connects(system: RedisSystem, bare: Any, name: str) -> None:
    for turns in range(0, 50, 2):
        backend = mv.connect(system.url)
        declaring = [asyncio.create_task(backend.declare(f"{name}-{turns}-{n}", "a")) for n in range(3)]
        await turn(turns)
        await backend.close()
        for result in await asyncio.gather(*declaring, return_exceptions=True):
            assert result is None or isinstance(result, mv.BackendClosed)
        await only(bare)


@pytest.mark.parametrize("turns", [1, 2, 10])
async def test_a_close_that_is_cancelled(system: RedisSystem, bare: Any, name: str, turns: int) -> None:
    """It closes all the same, at once, and what was being received comes again."""
    began = asyncio.Event()

    async def hang(message: mv.Message) -> None:
        began.set()
        await asyncio.Event().wait()

    backend = mv.connect(system.url, lease=60)
    backend.server(name).start(hang)
    await backend.topic(name).publish(b"1")
    await began.wait()
    closing = asyncio.create_task(backend.close())
    await turn(turns)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await at_rest()
    await only(bare)
    async with mv.connect(system.url, lease=60) as other:
        assert [message.body for message in await receive(other, name)] == [b"1"]


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10])
async def test_a_server_that_ends_just_when_something_may_be_due(
    system: RedisSystem, bare: Any, name: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mv.connect(system.url) as backend:
        server: Any = backend.server(name)
        shut = server.shut

        async def look_and_shut() -> None:
            server.look()
            await turn(turns)
            await shut()

        monkeypatch.setattr(server, "shut", look_and_shut)
        await backend.topic(name).publish(b"1")
        got: list[mv.Message] = []
        async with server.running(got.append):
            await until(lambda: got)
        await at_rest()
        assert await bare.xinfo_consumers(name, "default") == []
    await only(bare)


@pytest.mark.parametrize("turns", [0, 1, 5, 10, 20])
async def test_a_server_that_is_cancelled_twice(
    system: RedisSystem, bare: Any, name: str, turns: int
) -> None:
    async with mv.connect(system.url) as backend:
        got: list[mv.Message] = []
        serving = asyncio.create_task(backend.server(name).serve(got.append))
        await backend.topic(name).publish(b"1")
        await until(lambda: got)
        serving.cancel()
        await turn(turns)
        serving.cancel()
        await asyncio.wait([serving])
    await only(bare)


@pytest.mark.parametrize("closed", [False, True])
async def test_a_server_that_connects_after_it_ended(
    system: RedisSystem, bare: Any, name: str, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client library may lose a cancelling, and be slow: the server does not wait for it for ever."""
    began, go = asyncio.Event(), asyncio.Event()
    backend = mv.connect(system.url)
    server: Any = backend.server(name)
    connect = server.open

    async def connect_all_the_same() -> None:
        began.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        await connect()

    monkeypatch.setattr(server, "open", connect_all_the_same)
    async with backend:
        serving = asyncio.create_task(server.serve(print))
        await began.wait()
        serving.cancel()
        await asyncio.wait([serving])
        if closed:
            await backend.close()
        go.set()
        await at_rest()
    await only(bare)


async def test_a_server_that_ends_while_it_extends_a_lease(
    system: RedisSystem, bare: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above: what extends leases ends though it was not cancelled."""
    began = asyncio.Event()

    async def extend_all_the_same(_: Any) -> None:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with mv.connect(system.url, lease=0.3) as backend:
        server = backend.server(name)
        monkeypatch.setattr(server, "extend", extend_all_the_same)
        server.start(lambda message: began.wait())
        await backend.topic(name).publish(b"1")
        await began.wait()
        await server.shutdown()
        await at_rest()
    await only(bare)


async def test_who_waits_for_a_reply_when_all_is_closed_is_told(
    system: RedisSystem, bare: Any, name: str
) -> None:
    commands = commands_to(system)
    asked = asyncio.create_task(commands.command("BLPOP", name, 0))

    async def blocked() -> bool:
        return any(client["cmd"] == "blpop" for client in await bare.client_list())

    await until(blocked)
    await commands.close()
    with pytest.raises(ConnectionLost):
        await asked
    await only(bare)


async def test_commands_that_are_closed_stay_closed(system: RedisSystem, bare: Any) -> None:
    for turns in range(50):
        commands = commands_to(system)
        asked = [asyncio.create_task(commands.command("PING")) for _ in range(3)]
        await turn(turns)
        await commands.close()
        for reply in await asyncio.gather(*asked, return_exceptions=True):
            assert reply is True or isinstance(reply, ConnectionLost)
        for ask in (commands.command, commands.batched):
            with pytest.raises(ConnectionLost):
                await ask("PING")
        with pytest.raises(ConnectionLost):
            commands.connection()
        await only(bare)


async def test_what_was_given_up_is_not_sent_on(system: RedisSystem, bare: Any, name: str) -> None:
    """A body that does not fit what is buffered between us and the server, which does not read."""
    with Cut(system.port) as way:
        async with mv.connect(f"redis://127.0.0.1:{way.port}") as backend:
            await backend.declare(name)
            way.hold()
            publishing = asyncio.create_task(backend.topic(name).publish(bytes(32 << 20)))
            await turn(50)
            publishing.cancel()
        way.go()
        await only(bare)
    assert await bare.xlen(name) == 0
