"""nats:// and other clients of NATS; limits, and names."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

import msgviz as mv
from msgviz.backends.nats.link import Link
from msgviz.backends.nats.names import covers, plain
from tests.backends.closing import closed_meanwhile
from tests.backends.nats_inbox import received
from tests.systems import system_fixture
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


async def test_message_of_another_client(backend: mv.Backend, client: Any, name: str) -> None:
    await backend.declare(name, "default")
    await client.publish(name, b"plain")
    await client.publish(name, b"", headers={"content-type": "text/plain", "Nats-Msg-Id": "1"})
    await client.publish(name, b"status", headers={"Status": "503", "Description": "No Responders"})
    await client.publish(name, b"broken", headers={"Msgviz-Attributes": "{no json", "Msgviz-Tried": "-1"})
    await client.publish(name, b"wrong", headers={"Msgviz-Attributes": '{"A": [1]}'})
    first, second, third, fourth, fifth = await received(backend, name, 5)
    assert (first.body, first.attributes.to_dict(), first.attempt) == (b"plain", {}, 1)
    assert (second.body, second.attributes.to_dict()) == (b"", {"Content-Type": ["text/plain"]})
    assert third.body == b"status"
    assert (fourth.attributes.to_dict(), fourth.attempt) == ({"Msgviz-Attributes": ["{no json"]}, 1)
    assert fifth.attributes.to_dict() == {"Msgviz-Attributes": ['{"A": [1]}']}


async def test_headers_that_came_more_than_once(backend: mv.Backend, system: NatsSystem, name: str) -> None:
    await backend.declare(name, "default")
    lines = [
        b"NATS/1.0",
        b"Color: red",
        b"Color: green",
        b"Size: L",
        b"\xff\xfe: x",
        b"no header",
        b"Bad: \xff",
    ]
    headers = b"\r\n".join([*lines, b"", b""])
    reader, writer = await asyncio.open_connection("127.0.0.1", system.port)
    body = b"\x00body"
    command = f"HPUB {name} {len(headers)} {len(headers) + len(body)}\r\n".encode()
    writer.write(b'CONNECT {"headers":true}\r\n' + command + headers + body + b"\r\nPING\r\n")
    while not (await reader.readline()).startswith(b"PONG"):
        pass
    writer.close()
    await writer.wait_closed()
    [message] = await received(backend, name, 1)
    assert message.body == body
    assert message.attributes.get_all("Color") == ["red", "green"]
    assert message.attributes["Size"] == "L"


async def test_another_client_reads_ours(backend: mv.Backend, js: Any, name: str) -> None:
    await backend.declare(name)
    await backend.topic(name).publish(
        b"\xff",
        attributes={"source": "wéb", "Color": ["a", "b"], "Odd key": "x", "Nats-TTL": "1", "Status": "200"},
    )
    sub = await js.pull_subscribe(name, durable="other", stream=name)
    [message] = await sub.fetch(1, timeout=10)
    assert message.data == b"\xff"
    assert message.headers["Source"] == "wéb"
    assert message.headers["Nats-Msg-Id"]
    assert json.loads(message.headers["Msgviz-Attributes"]) == {
        "Color": ["a", "b"],
        "Odd key": ["x"],
        "Nats-Ttl": ["1"],
        "Status": ["200"],
    }
    assert set(message.headers) == {"Source", "Nats-Msg-Id", "Msgviz-Attributes"}
    await sub.unsubscribe()
    [ours] = await received(backend, name, 1)
    assert ours.attributes["Nats-TTL"] == "1"
    assert ours.attributes.get_all("Color") == ["a", "b"]


async def test_delay_is_the_servers(backend: mv.Backend, js: Any, name: str) -> None:
    await backend.declare(name, "a", "b")
    topic = backend.topic(name)
    attributes = {"A": ["1", "2"], "B": "b"}
    await topic.publish(b"all", attributes=attributes, delay=0.4)
    await topic.to_subscription("a").publish(b"one", attributes=attributes, delay=0.4)
    info = await js.stream_info(name, subjects_filter=">")
    assert sorted(subject.split(".")[2] for subject in info.state.subjects) == ["later", "later"]
    for message in await received(backend, name, 2, subscription="a"):
        assert message.attributes.to_dict() == {"A": ["1", "2"], "B": ["b"]}
    await topic.publish(b"last")
    assert [m.body for m in await received(backend, name, 2, subscription="b")] == [b"all", b"last"]
    info = await js.stream_info(name)
    assert info.state.messages == 3  # nothing is left of what waited


async def test_a_publish_that_is_repeated_doubles_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "ANSWER", 0.2)
    server = NatsSystem(tmp_path)
    server.start()
    try:
        async with mv.connect(server.url) as backend, await nats.connect(server.url) as bare:
            await backend.declare(name)
            seen = await bare.subscribe(name)  # of what is sent, stored or not
            await bare.flush()
            server.pause()
            publishing = asyncio.create_task(backend.topic(name).publish(b"once"))
            await asyncio.sleep(1)
            server.resume()
            await publishing
            await bare.flush()
            assert seen.pending_msgs > 1
            info = await bare.jetstream().stream_info(name)
            assert info.state.messages == 1
    finally:
        server.resume()
        server.stop()


async def test_largest_message_counts_headers(backend: Any, name: str) -> None:
    await backend.declare(name, "default")
    topic = backend.topic(name)
    assert backend.features.max_body == 1024 * 1024 - 16384
    body = bytes(backend.features.max_body)
    overhead = len("NATS/1.0\r\n\r\n") + len("Fill: \r\n") + len(f"Nats-Msg-Id: {uuid.uuid4().hex}\r\n")
    fill = 16384 - overhead
    await topic.publish(body, attributes={"Fill": "x" * fill})
    with pytest.raises(ValueError, match="1048576 bytes"):
        await topic.publish(body, attributes={"Fill": "x" * (fill + 1)})
    with pytest.raises(ValueError, match="64 KiB"):
        await topic.publish(b"", attributes={"Fill": "x" * 65536})
    with pytest.raises(ValueError, match=str(len(body))):
        await topic.publish(body + b"1")
    [message] = await received(backend, name, 1)
    assert message.body == body
    assert message.attributes["Fill"] == "x" * fill


async def test_limits_of_this_server_and_letters_that_are_too_large(tmp_path: Path, name: str) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 65536")
    server = NatsSystem(tmp_path, "-c", str(config))
    server.start()

    async def fail(message: mv.Message) -> None:
        raise ValueError("no")

    try:
        async with mv.connect(server.url) as backend:
            await backend.declare(name, "default")
            assert backend.features.max_body == 65536 - 16384
            bare = await nats.connect(server.url)
            await bare.publish(name, bytes(65536))
            await bare.publish(name, bytes(65000), headers={"A": "b" * 400})
            await bare.close()
            async with backend.server(name, max_attempts=1).running(fail):
                first, second = await received(backend, f"{name}.default.dead", 2, max_attempts=None)
            assert (len(first.body), first.attributes.to_dict()) == (65536, {})
            assert (len(second.body), second.attributes.to_dict()) == (65000, {"A": ["b" * 400]})
    finally:
        server.stop()


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a\n",
        "orders.*",
        "orders.>",
        "a*",
        ".a",
        "a.",
        "a..b",
        "$JS.API",
        "_msgviz.x",
        "\ud800",
        "x" * 256,
    ],
)
async def test_names_that_nats_does_not_take(backend: mv.Backend, name: str) -> None:
    with pytest.raises(ValueError, match="NATS"):
        backend.topic(name)
    with pytest.raises(ValueError, match="NATS"):
        backend.server(name)
    with pytest.raises(ValueError, match="NATS"):
        await backend.declare(name)
    if not name.startswith(("$", "_msgviz")):
        with pytest.raises(ValueError, match="NATS"):
            backend.server("orders", subscription=name)
        with pytest.raises(ValueError, match="NATS"):
            await backend.declare("orders", name)


def test_names_of_streams_are_reversible() -> None:
    names = [
        "orders",
        "orders.paid",
        "orders~paid",
        "orders%7Epaid",
        "orders_paid",
        "Zahlungen.für",
        "a/b",
        "a\\b",
    ]
    coded = [plain(name, "topic") for name in names]
    assert len(set(coded)) == len(names)
    assert coded[:2] == ["orders", "orders~paid"]
    assert all(c not in code for code in coded for c in ". */\\>")


@pytest.mark.parametrize(
    ("pattern", "subject", "does"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*", "a.b", False),
        ("a.b.c", "a.b", False),
        (">", "a", True),
    ],
)
def test_covers(pattern: str, subject: str, does: bool) -> None:
    assert covers(["x", pattern], subject) is does


async def test_names_beyond_ascii(backend: mv.Backend, client: Any, name: str) -> None:
    topic = f"{name}.Größe/µ.💡"
    await backend.declare(topic, "für.alle")
    await client.publish(topic, b"there")
    assert [m.body for m in await received(backend, topic, 1, subscription="für.alle")] == [b"there"]


async def test_a_backend_that_is_closed_while_it_connects(system: NatsSystem, name: str) -> None:
    await closed_meanwhile(lambda: mv.connect(system.url), name, connected=False)
