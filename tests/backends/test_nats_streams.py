"""nats:// and the server: streams and consumers made by others, options, and what goes away meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.errors import NotFoundError

import msgviz as mv
from msgviz.backends.nats.names import plain
from tests.backends.nats_inbox import Inbox, received
from tests.systems import free_port, system_fixture
from tests.systems.nats import NatsSystem

system = system_fixture(NatsSystem)


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def backend(system: NatsSystem) -> AsyncIterator[Any]:
    async with mv.connect(system.url) as connected:
        yield connected


@pytest.fixture
async def client(system: NatsSystem) -> AsyncIterator[Any]:
    bare = await nats.connect(system.url)
    yield bare
    await bare.close()


@pytest.fixture
def js(client: Any) -> Any:
    return client.jetstream()


async def test_stream_of_others_is_used_as_it_is(backend: mv.Backend, js: Any, name: str) -> None:
    await js.add_stream(name=f"{name}-ALL", subjects=[f"{name}.>"], max_msgs=1000)
    orders = backend.topic(f"{name}.orders")
    await orders.publish(b"1", attributes={"A": ["x", "y"]})
    with pytest.raises(mv.Unsupported, match="--allow-schedules"):
        await orders.publish(b"late", delay=1)
    with pytest.raises(mv.Unsupported, match=rf"--subjects \"{name}\.>,_msgviz\.{name}~orders\.>\""):
        await orders.to_subscription("default").publish(b"one")
    with pytest.raises(NotFoundError):
        await js.stream_info(plain(orders.name, "topic"))
    info = await js.stream_info(f"{name}-ALL")
    assert info.config.max_msgs == 1000
    assert not info.config.allow_msg_schedules
    assert info.state.messages == 1
    info.config.allow_msg_schedules = True
    info.config.subjects.append(f"_msgviz.{name}~orders.>")
    await js.update_stream(info.config)
    await orders.publish(b"2", delay=0.1)
    await orders.to_subscription("default").publish(b"3")
    messages = await received(backend, orders.name, 3)
    assert sorted(m.body for m in messages) == [b"1", b"2", b"3"]


async def test_stream_in_the_way(backend: mv.Backend, js: Any, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.other"])
    with pytest.raises(mv.MsgvizError, match="another one is in the way"):
        await backend.topic(name).publish(b"lost")


async def test_consumer_of_others_is_used_as_it_is(backend: mv.Backend, js: Any, name: str) -> None:
    await backend.declare(name, "default")
    await js.add_consumer(name, durable_name="narrow", filter_subject=name, ack_wait=7)
    await js.add_consumer(name, durable_name="wide")
    await js.add_consumer(name, durable_name="push", deliver_subject="somewhere")
    topic = backend.topic(name)
    with pytest.raises(mv.Unsupported, match="nats consumer edit"):
        await topic.to_subscription("narrow").publish(b"lost")
    await topic.to_subscription("default").publish(b"not for it")
    await topic.publish(b"late", delay=0.2)
    await topic.to_subscription("wide").publish(b"for it")
    await topic.publish(b"for all")
    wide, narrow = Inbox(), Inbox()
    server = backend.server(name, subscription="narrow")
    async with backend.server(name, subscription="wide").running(wide), server.running(narrow):
        await wide.wait(3)
        await narrow.wait(2)
        assert server.lease == 7  # type: ignore[attr-defined]
    assert wide.bodies == [b"for it", b"for all", b"late"]
    assert narrow.bodies == [b"for all", b"late"]
    with pytest.raises(mv.MsgvizError, match="pull consumer"):
        await backend.server(name, subscription="push").serve(Inbox())


async def test_options_of_streams(system: NatsSystem, js: Any, name: str) -> None:
    url = f"{system.url}?storage=memory&max_age=60&max_bytes=100000&lease=3"
    async with mv.connect(url) as backend:
        await backend.declare(name, "default")
        config = (await js.stream_info(name)).config
        assert (config.storage, config.max_age, config.max_bytes) == ("memory", 60, 100000)
        assert (config.retention, config.num_replicas, config.subjects[0]) == ("limits", 1, name)
        assert config.duplicate_window == 60
        consumer = (await js.consumer_info(name, "default")).config
        assert (consumer.ack_wait, consumer.max_deliver) == (3, -1)
    async with mv.connect(system.url, replicas=3) as backend:
        assert backend.features.persistent
        with pytest.raises(mv.ConnectionFailed, match="replicas > 1 not supported"):
            await backend.declare(f"{name}-replicas")


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("storage=tape", {}),
        ("", {"retention": "workqueue"}),
        ("replicas=0", {}),
        ("", {"replicas": 6}),
        ("max_age=0", {}),
        ("max_bytes=-1", {}),
        ("", {"deliver": "last"}),
        ("lease=0", {}),
        ("patience=nan", {}),
        ("timeout=0", {}),
        ("replicas=three", {}),
        ("color=red", {}),
    ],
)
def test_wrong_options(query: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        mv.connect(f"nats://localhost?{query}", **options)


@pytest.mark.parametrize("url", ["nats://", "nats://localhost/orders", "nats://localhost:port"])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        mv.connect(url)


async def test_retention_by_interest(system: NatsSystem, js: Any, name: str) -> None:
    async with mv.connect(system.url, retention="interest") as backend:
        assert not backend.features.keeps_unsubscribed
        topic = backend.topic(name)
        await topic.publish(b"nobody")
        await backend.declare(name, "default")
        await topic.publish(b"1")
        await topic.to_subscription("default").publish(b"2")
        with pytest.raises(mv.Unsupported, match="delay"):
            await topic.publish(b"late", delay=1)
        assert [m.body for m in await received(backend, name, 2)] == [b"1", b"2"]
    assert (await js.stream_info(name)).state.messages == 0


async def test_new_subscription(system: NatsSystem, name: str) -> None:
    async with mv.connect(system.url) as backend, mv.connect(system.url, deliver="new") as new:
        await backend.topic(name).publish(b"old")
        assert not new.features.keeps_unsubscribed
        await new.declare(name, "new")
        await backend.topic(name).publish(b"new")
        assert [m.body for m in await received(new, name, 1, subscription="new")] == [b"new"]
        assert [m.body for m in await received(backend, name, 2, subscription="all")] == [b"old", b"new"]


async def test_the_last_attempt_given_back_is_no_dead_letter(backend: mv.Backend, name: str) -> None:
    started = asyncio.Event()

    async def hold(message: mv.Message) -> None:
        started.set()
        await asyncio.Event().wait()

    server = backend.server(name, max_attempts=1)
    server.start(hold)
    await backend.topic(name).publish(b"held", attributes={"A": ["1", "2"]})
    await started.wait()
    with pytest.raises(TimeoutError):
        await server.shutdown(timeout=0)
    [message] = await received(backend, name, 1, max_attempts=1)
    assert (message.body, message.attempt) == (b"held", 1)
    assert message.attributes.to_dict() == {"A": ["1", "2"]}
    assert await backend.redrive(name) == 0


async def test_servers_that_come_and_go_keep_nothing_back(backend: mv.Backend, name: str) -> None:
    """What was on its way to a server that ended is there at once, not when its lease of 30 s is over."""
    inbox = Inbox()
    await backend.declare(name, "default")
    topic = backend.topic(name)

    async def publish() -> None:
        for number in range(300):
            await topic.publish(str(number).encode())

    publishing = asyncio.create_task(publish())
    while not publishing.done():
        server = backend.server(name, concurrency=8, max_attempts=None)
        server.start(inbox)
        await asyncio.sleep(0.003)
        await server.shutdown()
    await publishing
    async with backend.server(name, max_attempts=None).running(inbox), asyncio.timeout(10):
        while len(set(inbox.bodies)) < 300:
            await asyncio.sleep(0.01)


async def test_what_was_deleted_is_made_again(backend: mv.Backend, js: Any, name: str) -> None:
    inbox = Inbox()
    async with backend.server(name).running(inbox):
        await backend.topic(name).publish(b"1")
        await inbox.wait(1)
        await js.delete_stream(name)
        await backend.topic(name).publish(b"2")
        await inbox.wait(2)
        await js.delete_consumer(name, "default")
        await backend.topic(name).publish(b"3")
        async with asyncio.timeout(15):
            while b"3" not in inbox.bodies:
                await asyncio.sleep(0.01)


async def test_memory_streams_are_made_again_after_a_restart(tmp_path: Path, name: str) -> None:
    server = NatsSystem(tmp_path)
    server.start()
    try:
        inbox = Inbox()
        async with (
            mv.connect(server.url, storage="memory", timeout=10) as backend,
            backend.server(name).running(inbox),
        ):
            await backend.topic(name).publish(b"1")
            await inbox.wait(1)
            await asyncio.to_thread(server.restart)
            await backend.topic(name).publish(b"2")
            await inbox.wait(2)
    finally:
        server.stop()


async def test_no_jetstream(tmp_path: Path, name: str) -> None:
    server = NatsSystem(tmp_path, jetstream=False)
    server.start()
    try:
        async with mv.connect(server.url) as backend:
            with pytest.raises(mv.ConnectionFailed, match="-js"):
                await backend.topic(name).publish(b"lost")
    finally:
        server.stop()


async def test_token_and_a_cluster_with_a_node_that_is_down(tmp_path: Path, name: str) -> None:
    server = NatsSystem(tmp_path, "--auth", "s3cret")
    server.start()
    try:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{server.port}"
        async with mv.connect(f"nats://s3cret@{hosts}") as backend:
            await backend.topic(name).publish(b"there")
            assert [m.body for m in await received(backend, name, 1)] == [b"there"]
        async with mv.connect(f"nats://user:wr0ng@{hosts}") as backend:
            with pytest.raises(mv.ConnectionFailed, match="refused the user or the password") as caught:
                await backend.topic(name).publish(b"lost")
            assert "wr0ng" not in str(caught.value)
    finally:
        server.stop()


async def test_what_a_user_may_not_do(tmp_path: Path, name: str) -> None:
    config = tmp_path / "nats.conf"
    user = f'{{user: u, password: p, permissions: {{publish: {{deny: "{name}"}}}}}}'
    config.write_text(f"authorization: {{users: [{user}]}}")
    server = NatsSystem(tmp_path, "-c", str(config))
    server.start()
    try:
        async with mv.connect(f"nats://u:p@127.0.0.1:{server.port}") as backend:
            with pytest.raises(mv.ConnectionFailed, match="permissions violation"):
                await backend.topic(name).publish(b"lost")
            await backend.topic(f"{name}.other").publish(b"there")
    finally:
        server.stop()


async def test_server_away(tmp_path: Path, name: str) -> None:
    server = NatsSystem(tmp_path)
    server.start()
    try:
        async with mv.connect(server.url, patience=0.5) as backend:
            await backend.topic(name).publish(b"1")
            server.kill()
            with pytest.raises(mv.ConnectionFailed) as caught:
                await backend.topic(name).publish(b"lost")
            assert caught.value.__cause__ is not None
            server.start()
            async with asyncio.timeout(15):
                while True:
                    try:
                        await backend.topic(name).publish(b"2")
                        break
                    except mv.ConnectionFailed:
                        pass
            inbox = Inbox()
            async with backend.server(name).running(inbox), asyncio.timeout(15):
                while not {b"1", b"2"} <= set(inbox.bodies):
                    await asyncio.sleep(0.01)
    finally:
        server.stop()


async def test_delayed_message_outlives_the_server(tmp_path: Path, name: str) -> None:
    server = NatsSystem(tmp_path)
    server.start()
    try:
        async with mv.connect(server.url, timeout=10) as backend:
            await backend.declare(name, "default")
            await backend.topic(name).publish(b"late", attributes={"A": ["1", "2"]}, delay=0.5)
            await asyncio.to_thread(server.restart)
            [message] = await received(backend, name, 1)
            assert (message.body, message.attributes.get_all("A")) == (b"late", ["1", "2"])
            await backend.topic(name).publish(b"next")
            assert [m.body for m in await received(backend, name, 1)] == [b"next"]
    finally:
        server.stop()


async def test_close_leaves_nothing_behind(system: NatsSystem, name: str) -> None:
    before = asyncio.all_tasks()
    backend = mv.connect(system.url)
    inbox = Inbox()
    backend.server(name, concurrency=3).start(inbox)
    await backend.topic(name).publish(b"1")
    await inbox.wait(1)
    await backend.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
