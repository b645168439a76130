"""Topic and MessageWriter: one writer a message."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import msgviz as mv
from tests.flows import Backwards, Kept, until


def uses(writer: mv.MessageWriter) -> list[Callable[[], Any]]:
    return [lambda: writer.write(b"x"), lambda: writer.set_delay(1), writer.close]


async def test_a_writer_publishes_once_closed() -> None:
    topic = Kept()
    writer = topic.new_writer()
    assert writer.write(b"one ") == 4
    assert writer.write(b"") == 0
    assert writer.write(b"two") == 3
    writer.attributes["k"] = "v"
    assert topic.sent == []
    await writer.close()
    assert topic.sent == [mv.Message(b"one two", {"K": "v"})]


async def test_any_bytes_are_taken_as_they_are_now() -> None:
    topic = Kept()
    writer = topic.new_writer()
    buffer: Any = bytearray(b"abc")
    more: Any = memoryview(b"d")
    writer.write(buffer)
    buffer[:] = b"xyz"
    writer.write(more)
    await writer.close()
    assert topic.sent[0].body == b"abcd"
    assert type(topic.sent[0].body) is bytes


@pytest.mark.parametrize("written", [True, False])
async def test_a_closed_writer_is_closed(written: bool) -> None:
    topic = Kept()
    writer = topic.new_writer()
    if written:
        writer.write(b"x")
    await writer.close()
    for use in uses(writer) * 2:
        with pytest.raises(mv.WriterClosed):
            use()
    assert len(topic.sent) == written


async def test_a_writer_made_by_hand_is_the_same() -> None:
    topic = Kept()
    writer = mv.MessageWriter(topic)
    writer.attributes["k"] = "v"
    writer.write(b"x")
    await writer.close()
    assert topic.sent == [mv.Message(b"x", {"K": "v"})]
    for use in uses(writer):
        with pytest.raises(mv.WriterClosed):
            use()


async def test_never_written_publishes_nothing() -> None:
    topic = Kept()
    writer = topic.new_writer()
    writer.attributes["k"] = "v"
    writer.set_delay(1)
    await writer.close()
    async with topic.new_writer():
        pass
    assert topic.sent == []


async def test_an_empty_body_is_a_message() -> None:
    topic = Kept()
    async with topic.new_writer() as writer:
        writer.write(b"")
    await topic.publish(b"")
    assert [message.body for message in topic.sent] == [b"", b""]


async def test_leaving_the_block_publishes() -> None:
    topic = Kept()
    async with topic.new_writer() as writer:
        writer.write(b"x")
        writer.set_delay(2)
        assert topic.sent == []
    assert (topic.sent, topic.delays) == ([mv.Message(b"x")], [2.0])
    for use in uses(writer):
        with pytest.raises(mv.WriterClosed):
            use()


async def test_a_block_may_close_by_itself() -> None:
    topic = Kept()
    async with topic.new_writer() as writer:
        writer.write(b"x")
        await writer.close()
    assert len(topic.sent) == 1


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_a_block_that_raised_publishes_nothing(error: BaseException) -> None:
    topic = Kept()
    writer = topic.new_writer()

    async def raise_inside() -> None:
        async with writer:
            writer.write(b"x")
            raise error

    with pytest.raises(type(error)):
        await raise_inside()
    for use in uses(writer):
        with pytest.raises(mv.WriterClosed):
            use()
    assert topic.sent == []


async def test_attributes_can_be_assigned() -> None:
    topic = Kept()
    shared: Any = {"k": ["v", "w"]}
    for _ in range(2):
        async with topic.new_writer() as writer:
            writer.write(b"x")
            writer.attributes = shared
    shared["k"].append("x")
    assert [message.attributes for message in topic.sent] == [{"K": ["v", "w"]}] * 2


async def test_attributes_of_one_writer_do_not_reach_another() -> None:
    topic = Kept()
    attributes = mv.Attributes({"k": "v"})
    for number in range(2):
        async with topic.new_writer() as writer:
            writer.write(b"x")
            writer.attributes = attributes
            writer.attributes.add("number", str(number))
    attributes["late"] = "1"
    assert [message.attributes.get_all("Number") for message in topic.sent] == [["0"], ["0", "1"]]
    assert "Late" not in topic.sent[1].attributes


async def test_attributes_that_are_none() -> None:
    topic = Kept()
    writer = topic.new_writer()
    writer.write(b"x")
    writer.attributes = {"k": 1}  # type: ignore[assignment]
    with pytest.raises(TypeError):
        await writer.close()
    with pytest.raises(TypeError):
        await topic.publish(b"x", attributes={"k": 1})  # type: ignore[dict-item]
    assert topic.sent == []


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"]])
async def test_what_cannot_be_written(data: Any) -> None:
    topic = Kept()
    async with topic.new_writer() as writer:
        writer.write(b"x")
        with pytest.raises(TypeError):
            writer.write(data)
    with pytest.raises(TypeError):
        await topic.publish(data)
    assert [message.body for message in topic.sent] == [b"x"]


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(0, 0.0), (3, 3.0), (0.25, 0.25), (timedelta(minutes=2, microseconds=5), 120.000005)],
)
async def test_delays(delay: Any, seconds: float) -> None:
    topic = Kept()
    async with topic.new_writer() as writer:
        writer.set_delay(99)
        writer.set_delay(delay)
        writer.write(b"x")
    await topic.publish(b"x", delay=delay)
    assert topic.delays == [seconds, seconds]
    assert all(type(one) is float for one in topic.delays)


@pytest.mark.parametrize(
    ("delay", "error"),
    [
        (-1, ValueError),
        (timedelta(seconds=-1), ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**400, ValueError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
async def test_what_is_no_delay(delay: Any, error: type[Exception]) -> None:
    topic = Kept()
    with pytest.raises(error, match="delay"):
        topic.new_writer().set_delay(delay)
    with pytest.raises(error, match="delay"):
        await topic.publish(b"x", delay=delay)
    assert topic.sent == []


async def test_publish() -> None:
    topic = Kept()
    attributes = {"k": ["v", "w"]}
    await topic.publish(b"x", attributes=attributes, delay=timedelta(seconds=1))
    attributes["k"].append("x")
    await topic.publish(json={"amount": 12, "at": "Zürich"})
    await topic.publish(json=None)
    assert topic.sent == [
        mv.Message(b"x", {"K": ["v", "w"]}),
        mv.Message('{"amount":12,"at":"Zürich"}'.encode()),
        mv.Message(b"null"),
    ]
    assert topic.delays == [1.0, 0.0, 0.0]


async def test_publish_takes_one_body() -> None:
    topic = Kept()
    with pytest.raises(TypeError, match="one of them"):
        await topic.publish()
    with pytest.raises(TypeError, match="one of them"):
        await topic.publish(b"x", json=1)
    assert topic.sent == []


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
async def test_json_has_no_nan(value: Any) -> None:
    topic = Kept()
    with pytest.raises(ValueError, match="JSON"):
        await topic.publish(json=value)
    assert topic.sent == []


async def test_json_that_cannot_be_written() -> None:
    topic = Kept()
    with pytest.raises(TypeError):
        await topic.publish(json=object())
    assert topic.sent == []


async def test_an_error_of_the_system_reaches_the_publisher() -> None:
    topic = Kept(error=mv.Unsupported("kept", "no delay over 900 s"))
    with pytest.raises(mv.Unsupported, match="kept: no delay") as caught:
        await topic.publish(b"x")
    assert (caught.value.backend, caught.value.limit) == ("kept", "no delay over 900 s")
    writer = topic.new_writer()
    writer.write(b"x")
    with pytest.raises(mv.Unsupported):
        await writer.close()
    with pytest.raises(mv.WriterClosed):
        await writer.close()


async def test_one_subscription_where_there_are_none() -> None:
    with pytest.raises(mv.Unsupported, match="billing"):
        Kept().to_subscription("billing")


async def test_one_subscription_through_the_same_layers() -> None:
    backend = mv.connect("memory://")
    bodies: dict[str, list[bytes]] = {"a": [], "b": []}
    servers = []
    for name, kept in bodies.items():
        server = backend.server("t", subscription=name)

        async def receive(message: mv.Message, kept: list[bytes] = kept) -> None:
            kept.append(message.body)

        server.start(receive)
        servers.append(server)
    whole = Backwards.encoder(Backwards.encoder(Backwards.encoder(backend.topic("t"))))
    one = whole.to_subscription("b")
    await one.publish(b"abc")
    await whole.publish(b"xyz")
    await until(lambda: len(bodies["b"]) == 2 and len(bodies["a"]) == 1)
    assert bodies == {"a": [b"zyx"], "b": [b"cba", b"zyx"]}
    assert one.name == "t"
    assert mv.chain(one).names == mv.chain(whole).names
    for server in servers:
        await server.shutdown()


@pytest.mark.parametrize("wrong", [None, "t", object(), Kept])
def test_a_decorator_wraps_a_topic(wrong: Any) -> None:
    with pytest.raises(TypeError, match="wraps a Topic"):
        Backwards.encoder(wrong)


def test_repr() -> None:
    assert repr(Kept("orders")) == "<Kept 'orders'>"
    assert repr(Backwards.encoder(Kept("orders"))) == "<_Encoder 'orders'>"
