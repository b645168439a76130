"""What is particular to redis://: entries that other programs write and read, names, options, refusals."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

import msgviz as mv
from tests.backends.redis_lab import backend, bare, name, receive, redis, system, until, valkey
from tests.conftest import require
from tests.systems.redis import RedisSystem

__all__ = ["backend", "bare", "name", "redis", "system", "valkey"]


async def test_other_programs_read_what_is_published(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.topic(name).publish(b"\xff\x00", attributes={"Source": "web", "Tag": ["a", "b"], "ö d": ""})
    # by way of a script, because the client library makes a dict of the fields
    ((_, fields),) = await bare.eval("return redis.call('XRANGE', KEYS[1], '-', '+')", 1, name)
    assert list(zip(fields[::2], fields[1::2], strict=True)) == [
        (b"body", b"\xff\x00"),
        (b"Source", b"web"),
        (b"Tag", b"a"),
        (b"Tag", b"b"),
        ("ö d".encode(), b""),
    ]


async def test_what_other_programs_publish_is_read(backend: mv.Backend, bare: Any, name: str) -> None:
    await bare.execute_command(
        "XADD", name, "*", "content-type", "text", "body", "hi", "tag", "a", "tag", "b"
    )
    (message,) = await receive(backend, name)
    assert message.body == b"hi"
    assert message.attributes.to_dict() == {"Content-Type": ["text"], "Tag": ["a", "b"]}


@pytest.mark.parametrize(
    ("fields", "body", "attributes"),
    [
        (["payload", b"\xff"], b"\xff", {"Redis-Field": ["payload"]}),
        (["t", "21", "tag", "a", "tag", "b", "tag", "c"], {"t": "21", "tag": ["a", "b", "c"]}, {}),
        (["a", b"\xff", "b", ""], {"a": "\udcff", "b": ""}, {}),
        (["body", "x", "body", "y"], b"x", {"Body": ["y"]}),
        (["body", "x", b"\xff", b"\xfe"], b"x", {"\udcff": ["\udcfe"]}),
        (["body", "x", "msgviz-attributes", "{"], b"x", {"Msgviz-Attributes": ["{"]}),
        (["body", "x", "msgviz-attributes", "[" * 100_000], b"x", {"Msgviz-Attributes": ["[" * 100_000]}),
        (["body", "x", "msgviz-attributes", '{"a": 1}'], b"x", {"Msgviz-Attributes": ['{"a": 1}']}),
        (["body", "x", "msgviz-attributes", '{"a": [], "b": "c"}'], b"x", {"B": ["c"]}),
        (["body", "x", "msgviz-attempt", "99"], b"x", {}),
        (["body", "x", "msgviz-attempt", "-"], b"x", {}),
    ],
)
async def test_entries_of_any_kind_are_received_and_come_again_as_they_were(
    backend: mv.Backend, bare: Any, name: str, fields: list[Any], body: Any, attributes: dict[str, list[str]]
) -> None:
    await bare.execute_command("XADD", name, "*", *fields)
    got: list[mv.Message] = []

    async def fail_once(message: mv.Message) -> None:
        got.append(message)
        if message.attempt == 1:
            raise ValueError("once")

    async with backend.server(name).running(fail_once):
        await until(lambda: len(got) == 2)
    for attempt, message in enumerate(got, 1):
        assert message.attempt == attempt
        assert (message.body if isinstance(body, bytes) else message.json()) == body
        assert message.attributes.to_dict() == attributes


async def test_attributes_beyond_what_a_script_can_carry(backend: mv.Backend, name: str) -> None:
    many = {f"K{n}": str(n) for n in range(3000)} | {"Many": [str(n) for n in range(3000)]}
    topic = backend.topic(name)
    attempts = []

    async def fail_twice(message: mv.Message) -> None:
        assert message.attributes == many
        attempts.append(message.attempt)
        if message.attempt < 3:
            raise ValueError("not yet")

    async with backend.server(name).running(fail_twice):
        await topic.publish(b"now", attributes=many)
        await topic.publish(b"later", attributes=many, delay=0.01)
        await until(lambda: sorted(attempts) == [1, 1, 2, 2, 3, 3])


async def test_the_field_of_the_body_can_be_another(system: RedisSystem, bare: Any, name: str) -> None:
    async with mv.connect(f"{system.url}?body_field=Data") as backend:
        await bare.execute_command("XADD", name, "*", "Data", "theirs", "body", "an attribute")
        await backend.topic(name).publish(b"ours", attributes={"Data": ["x", "y"], "B": "z"})
        theirs, ours = await receive(backend, name, 2)
    assert (theirs.body, theirs.attributes.to_dict()) == (b"theirs", {"Body": ["an attribute"]})
    assert (ours.body, ours.attributes.to_dict()) == (b"ours", {"Data": ["x", "y"], "B": ["z"]})


async def test_the_first_subscription_gets_what_is_there_and_the_next_what_follows(
    backend: mv.Backend, name: str
) -> None:
    await backend.topic(name).publish(b"1")
    assert [m.body for m in await receive(backend, name, subscription="first")] == [b"1"]
    backend.server(name, subscription="second")
    await backend.topic(name).publish(b"2")
    assert [m.body for m in await receive(backend, name, subscription="second")] == [b"2"]


async def test_what_is_sent_to_a_subscription_waits_for_it(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.topic(name).to_subscription("billing").publish(b"1")
    assert await bare.xlen(f"{{{name}}}:only:billing") == 1
    assert [m.body for m in await receive(backend, name, subscription="billing")] == [b"1"]


async def test_a_prefix_and_a_database(system: RedisSystem, bare: Any, name: str) -> None:
    async with mv.connect(f"{system.url}/3?prefix=app:") as backend:
        await backend.topic(name).publish(b"1")
        await bare.select(3)
        assert await bare.xlen(f"app:{name}") == 1
        assert (await receive(backend, name))[0].body == b"1"


@pytest.mark.parametrize("topic", ["{a}", "a}b", "\ud800"])
async def test_names_that_cannot_be(topic: str) -> None:
    async with mv.connect("redis://localhost:1") as backend:
        for use in (backend.topic, backend.server, lambda t: backend.server("a", subscription=t)):
            with pytest.raises(ValueError, match=r"redis: .*(topic|subscription)"):
                use(topic)
        with pytest.raises(ValueError, match="redis: "):
            await backend.declare(topic)
        with pytest.raises(ValueError, match="redis: "):
            await backend.declare("a", topic)


async def test_odd_names(backend: mv.Backend, name: str) -> None:
    topic, subscription = f"{name} ö:*\n", "a:later 🎈"
    backend.server(topic, subscription=subscription)
    await backend.topic(topic).publish(b"1")
    await backend.topic(topic).to_subscription(subscription).publish(b"2")
    got = await receive(backend, topic, 2, subscription=subscription)
    assert sorted(m.body for m in got) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/first", "the number of a database"),
        ("redis://h1,h2", "name one server"),
        ("redis://h?maxlen=0", "maxlen"),
        ("redis://h?maxlen=x", "maxlen"),
        ("redis://h?lease=0", "lease"),
        ("redis://h?trim=perhaps", "trim"),
        ("redis://h?body_field=", "body_field"),
        ("redis://h?body_field=msgviz-attempt", "body_field"),
        ("redis://h?prefix={a}", "prefix"),
        ("redis://h?colour=red", "colour"),
        ("redis://h:port", "port"),
    ],
)
def test_urls_that_cannot_be(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mv.connect(url)


async def test_a_password(tmp_path: Path) -> None:
    system = RedisSystem(tmp_path, "--requirepass", "secret-1")
    reason = system.missing()
    require(reason is None, reason or "")
    system.start()
    try:
        async with mv.connect(f"redis://:secret-1@127.0.0.1:{system.port}") as backend:
            await backend.topic("orders").publish(b"1")
            assert (await receive(backend, "orders"))[0].body == b"1"
        for login in ("", ":wrong-2@", "someone:wrong-2@"):
            async with mv.connect(f"redis://{login}127.0.0.1:{system.port}", timeout=2) as backend:
                with pytest.raises(mv.ConnectionFailed, match=f":{system.port} refused the login") as caught:
                    await backend.topic("orders").publish(b"1")
                assert "wrong-2" not in str(caught.value)
                assert caught.value.__cause__ is not None
                server = backend.server("orders")
                with pytest.raises(mv.ConnectionFailed, match="refused the login"):
                    await server.serve(print)
    finally:
        system.stop()


async def test_a_server_that_never_answers() -> None:
    ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        began = time.monotonic()
        async with mv.connect(f"redis://127.0.0.1:{port}", timeout=0.3) as backend:
            with pytest.raises(mv.ConnectionFailed, match=f"redis://127.0.0.1:{port} did not answer"):
                await backend.topic("orders").publish(b"1")
        assert time.monotonic() - began < 5
        await ended.wait()


async def test_a_key_that_is_no_stream(backend: mv.Backend, bare: Any, name: str) -> None:
    await bare.set(name, "a string")
    with pytest.raises(mv.MsgvizError, match="is no stream"):
        await backend.topic(name).publish(b"1")
    with pytest.raises(mv.MsgvizError, match="is no stream"):
        await backend.server(name).serve(print)


async def test_a_user_who_may_not(system: RedisSystem, bare: Any, name: str) -> None:
    await bare.execute_command("ACL", "SETUSER", "looker", "on", ">pw", "~*", "+@all", "-xadd")
    try:
        async with mv.connect(f"redis://looker:pw@127.0.0.1:{system.port}") as backend:
            with pytest.raises(mv.MsgvizError, match="may not do this") as caught:
                await backend.topic(name).publish(b"1")
            assert not isinstance(caught.value, mv.ConnectionFailed)
    finally:
        await bare.execute_command("ACL", "DELUSER", "looker")


async def test_a_user_who_may_not_unblock_others(system: RedisSystem, bare: Any, name: str) -> None:
    await bare.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-client|unblock")
    try:
        async with mv.connect(f"redis://plain:pw@127.0.0.1:{system.port}") as backend:
            await backend.topic(name).publish(b"1")
            assert (await receive(backend, name))[0].body == b"1"
    finally:
        await bare.execute_command("ACL", "DELUSER", "plain")


async def test_no_memory_left(backend: mv.Backend, bare: Any, name: str) -> None:
    """Publishers are told, and receivers go on: nothing is lost, not what fails meanwhile either."""
    got: list[tuple[bytes, int]] = []
    seen, go = asyncio.Event(), asyncio.Event()

    async def fail_once(message: mv.Message) -> None:
        got.append((message.body, message.attempt))
        seen.set()
        await go.wait()
        if message.body == b"bad" and message.attempt == 1:
            raise ValueError("once")

    await backend.declare(name, "default")
    for body in (b"bad", b"good"):
        await backend.topic(name).publish(body)
    async with backend.server(name).running(fail_once):
        await seen.wait()
        await bare.config_set("maxmemory", "1")
        try:
            go.set()
            with pytest.raises(mv.ConnectionFailed, match="no memory left"):
                await backend.topic(name).publish(b"more")
            await until(lambda: (b"good", 1) in got)
        finally:
            await bare.config_set("maxmemory", "0")
        await until(lambda: (b"bad", 2) in got)
        await backend.topic(name).publish(b"more")
        await until(lambda: (b"more", 1) in got)


async def test_a_replica(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.declare(name)
    await bare.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(mv.ConnectionFailed, match="replica"):
            await backend.topic(name).publish(b"1")
    finally:
        await bare.execute_command("REPLICAOF", "NO", "ONE")
    await backend.topic(name).publish(b"1")


async def test_what_is_missing_and_not_to_be_made(system: RedisSystem, bare: Any, name: str) -> None:
    async with mv.connect(f"{system.url}?create=false") as backend:
        with pytest.raises(mv.NotFound, match=name):
            await backend.topic(name).publish(b"1")
        await bare.xadd(name, {"body": "1"})
        with pytest.raises(mv.NotFound, match="'billing'"):
            await backend.server(name, subscription="billing").serve(print)
    async with mv.connect(f"{system.url}?create=false") as backend:
        topic = backend.topic(name)
        await topic.publish(b"2")
        for delay in (0, 0.1):
            with pytest.raises(mv.NotFound, match="'billing'"):
                await topic.to_subscription("billing").publish(b"2", delay=delay)
        await bare.xgroup_create(name, "billing", "0")
        got = await receive(backend, name, 2, subscription="billing", max_attempts=None)
        assert [m.body for m in got] == [b"1", b"2"]
        await bare.delete(name)
        with pytest.raises(mv.NotFound, match=name):
            await topic.publish(b"3")


async def test_the_longest_delay_there_is(backend: mv.Backend, bare: Any, name: str) -> None:
    await backend.topic(name).publish(b"never", delay=1.7e308)
    await backend.topic(name).publish(b"soon", delay=0.05)
    assert [m.body for m in await receive(backend, name)] == [b"soon"]
    assert await bare.zcard(f"{{{name}}}:later") == 1


async def test_what_is_due_waits_for_a_server(system: RedisSystem, name: str) -> None:
    async with mv.connect(system.url) as backend:
        for body in (b"1", b"2", b"3"):
            await backend.topic(name).publish(body, delay=0.01)
    await asyncio.sleep(0.05)
    async with mv.connect(system.url) as backend:
        assert [m.body for m in await receive(backend, name, 3)] == [b"1", b"2", b"3"]


async def test_dead_letters_are_entries_like_any_other(backend: mv.Backend, bare: Any, name: str) -> None:
    def fail(message: mv.Message) -> None:
        raise ValueError("no")

    async with backend.server(name, subscription="billing", max_attempts=1).running(fail):
        await backend.topic(name).publish(json={"a": 1})
        ((_, letter),) = await until(lambda: bare.xrange(f"{name}.billing.dead"))
    assert json.loads(letter[b"body"]) == {"a": 1}
    assert letter[b"Dead-Letter-Reason"] == b"ValueError: no"
