"""amqp://: what is particular to RabbitMQ, on the real broker."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest

import msgviz as mv
from msgviz.backends.amqp import wire
from tests.backends.closing import closed_meanwhile
from tests.systems import free_port, system_fixture
from tests.systems.rabbitmq import RabbitmqSystem

system = system_fixture(RabbitmqSystem)


@pytest.fixture
def name() -> str:
    return f"amqp-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def backend(system: RabbitmqSystem) -> AsyncIterator[mv.Backend]:
    async with mv.connect(system.url) as backend:
        yield backend


@asynccontextmanager
async def bare(system: RabbitmqSystem) -> AsyncIterator[Any]:
    """A channel of aio-pika alone."""
    connection = await aio_pika.connect(system.url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


class Inbox:
    """A receiver that keeps what it got; `fails` says which it fails on."""

    def __init__(self, fails: Callable[[mv.Message], bool] = lambda message: False) -> None:
        self.got: list[mv.Message] = []
        self.fails = fails

    async def __call__(self, message: mv.Message) -> None:
        self.got.append(message)
        if self.fails(message):
            raise ValueError("no such customer")

    async def count(self, number: int) -> list[mv.Message]:
        try:
            async with asyncio.timeout(30):
                while len(self.got) < number:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"{number} messages expected, not {[(m.body, m.attempt) for m in self.got]}")
        return self.got


async def test_a_message_of_another_program(system: RabbitmqSystem, backend: mv.Backend, name: str) -> None:
    inbox = Inbox(fails=lambda message: message.attempt == 1)
    backend.server(name, subscription="billing").start(inbox)
    await backend.declare(name)
    headers: Any = {
        "content-language": "de",
        "several": ["a", "b"],
        "number": 7,
        "flag": True,
        "nothing": None,
        "time": datetime(2026, 5, 17, 12, tzinfo=UTC),
        "bytes": bytearray(b"caf\xc3\xa9 \xff"),
        "table": {"deep": [1, {"er": "x"}]},
        "x-msgviz-attempts": "hostile",
        "x-death": "hostile",
        "x-custom": "kept",
    }
    async with bare(system) as channel:
        exchange = await channel.get_exchange(name)
        await exchange.publish(
            aio_pika.Message(
                b"\x00\xff",
                headers=headers,
                content_type="text/plain",
                correlation_id="c-1",
                reply_to="answers",
                message_id="m-1",
                expiration=60,
                timestamp=1.7e9,
            ),
            routing_key="anything",
        )
    first, second = await inbox.count(2)
    for message in (first, second):
        assert message.body == b"\x00\xff"
        assert message.attributes.to_dict() == {
            "Content-Language": ["de"],
            "Several": ["a", "b"],
            "Number": ["7"],
            "Flag": ["true"],
            "Nothing": [""],
            "Time": ["2026-05-17T12:00:00+00:00"],
            "Bytes": ["café \\xff"],
            "Table": ['{"deep": [1, {"er": "x"}]}'],
            "X-Custom": ["kept"],
            "Content-Type": ["text/plain"],
            "Correlation-Id": ["c-1"],
            "Reply-To": ["answers"],
            "Message-Id": ["m-1"],
        }
    assert [m.attempt for m in (first, second)] == [1, 2]


async def test_our_message_in_another_program(system: RabbitmqSystem, backend: mv.Backend, name: str) -> None:
    await backend.declare(name, "other")
    attributes = {"content-type": "application/json", "Tag": ["a", "b"], "größe": "ü", "k" * 300: "long"}
    await backend.topic(name).publish(b"{}", attributes=attributes)
    async with bare(system) as channel:
        queue = await channel.get_queue(f"{name}.other")
        message = await queue.get()
        await message.ack()
    assert message.body == b"{}"
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.app_id == "msgviz"
    assert message.content_type == "application/json"
    message.headers.pop("x-delivery-count", None)  # the queue's
    rest = message.headers.pop("Msgviz-Attributes")
    assert message.headers == {"Content-Type": "application/json", "Tag": ["a", "b"], "größe": "ü"}
    assert rest == f'{{"{"K" + "k" * 299}": "long"}}'


async def test_subscriptions_are_quorum_queues_with_a_limit(
    system: RabbitmqSystem, backend: mv.Backend, name: str
) -> None:
    await backend.declare(name, "billing")
    async with bare(system) as channel:
        await channel.declare_queue(
            f"{name}.billing",
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": 20,
                "x-dead-letter-exchange": f"{name}.billing.dead",
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )


async def test_attributes_that_fill_a_frame_are_refused(backend: mv.Backend, name: str) -> None:
    inbox = Inbox(fails=lambda message: message.body == b"large")
    letters = Inbox()
    backend.server(name, max_attempts=2).start(inbox)
    backend.server(f"{name}.default.dead").start(letters)
    topic = backend.topic(name)
    with pytest.raises(ValueError, match=r"attributes of a message take at most \d+ bytes"):
        await topic.publish(b"too large", attributes={"Key": "ü" * 65_000})
    large = {"Key": "x" * 120_000}
    await topic.publish(b"large", attributes=large)
    await topic.publish(b"small")
    [letter] = await letters.count(1)
    assert letter.attributes["Key"] == large["Key"]
    assert "no such customer" in letter.attributes["Dead-Letter-Reason"]
    assert b"too large" not in [m.body for m in inbox.got]


async def test_a_body_that_is_too_large_is_refused(backend: mv.Backend, name: str) -> None:
    assert backend.features.max_body == 128 * 1024 * 1024
    with pytest.raises(ValueError, match="at most 134217728 bytes"):
        await backend.topic(name).publish(bytes(128 * 1024 * 1024 + 1))


@pytest.mark.parametrize(
    ("topic", "subscription"),
    [
        ("amq.topic", "x"),
        ("größe #1\n", "日本"),
        ("a.b", "c"),
        ("a", "b.c"),
        ("a.b.c", "💥"),
        (" x%y~", "##"),
    ],
)
async def test_names_of_any_kind(backend: mv.Backend, name: str, topic: str, subscription: str) -> None:
    inbox, others = Inbox(), Inbox()
    topic = f"{topic}{name}"
    backend.server(topic, subscription=subscription).start(inbox)
    backend.server(f"a{name}", subscription="neighbour").start(others)
    await backend.topic(topic).publish(b"now", delay=0.01)
    assert [m.body for m in await inbox.count(1)] == [b"now"]
    assert len(others.got) == (topic == f"a{name}")


def test_names_with_dots_do_not_meet() -> None:
    assert wire.queue_name("a.b", "c") != wire.queue_name("a", "b.c")
    assert wire.exchange_name("amq.x") != wire.exchange_name("#61mq.x") != "amq.x"
    assert wire.queue_name("orders.eu", "billing") == "orders.eu.billing"


async def test_a_name_that_is_too_long_is_refused(backend: mv.Backend) -> None:
    with pytest.raises(ValueError, match="too long"):
        backend.topic("t" * 221)
    with pytest.raises(ValueError, match="too long"):
        backend.server("t" * 150, subscription="s" * 60)


async def test_what_exists_is_used_as_it_is(
    system: RabbitmqSystem, backend: mv.Backend, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bare(system) as channel:
        await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
        await channel.declare_queue(f"{name}.old", durable=True)  # a classic one
    inbox, letters = Inbox(fails=lambda message: True), Inbox()
    with caplog.at_level(logging.WARNING, logger="msgviz"):
        backend.server(name, subscription="old", max_attempts=3).start(inbox)
        backend.server(f"{name}.old.dead").start(letters)
        await backend.topic(name).publish(b"x")
    assert caplog.text.count("is used as it is") == 2
    await letters.count(1)
    assert [m.attempt for m in inbox.got] == [1, 2, 3]


async def test_servers_with_other_limits_share_a_subscription(system: RabbitmqSystem, name: str) -> None:
    inbox = Inbox()
    async with mv.connect(system.url, delivery_limit=3) as one, mv.connect(system.url) as other:
        one.server(name, max_attempts=2).start(inbox)
        await one.topic(name).publish(b"1")
        other.server(name, max_attempts=None).start(inbox)
        await other.topic(name).publish(b"2")
        await inbox.count(2)


async def test_a_message_that_kills_its_consumers_ends_as_a_dead_letter(
    system: RabbitmqSystem, name: str
) -> None:
    async with mv.connect(f"{system.url}?delivery_limit=2") as backend:
        await backend.declare(name, "default")
        await backend.topic(name).publish(b"poison", attributes={"Source": "web"})
        for _ in range(3):
            async with bare(system) as channel:  # takes it and ends without a word
                queue = await channel.get_queue(f"{name}.default")
                while await queue.get(fail=False) is None:
                    await asyncio.sleep(0.01)
        letters = Inbox()
        backend.server(f"{name}.default.dead").start(letters)
        [letter] = await letters.count(1)
        assert letter.body == b"poison"
        assert letter.attempt == 1
        assert letter.attributes["Source"] == "web"
        assert "ended without a word" in letter.attributes["Dead-Letter-Reason"]
        assert letter.attributes["Dead-Letter-Topic"] == name
        assert letter.attributes["Dead-Letter-Subscription"] == "default"


class Unreadable(aio_pika.Message):
    """A message with a header's key that is no UTF-8, which aiormq cannot read."""

    @property
    def properties(self) -> Any:
        properties = super().properties
        plain = properties.marshal
        properties.__class__ = type(
            "Odd", (type(properties),), {"marshal": lambda _: plain().replace(b"odd", b"\xff\xfe\xfd")}
        )
        return properties


async def test_a_message_that_cannot_be_read_ends_as_a_dead_letter(
    system: RabbitmqSystem, backend: mv.Backend, name: str
) -> None:
    inbox = Inbox()
    server = backend.server(name, concurrency=4)
    server.start(inbox)
    topic = backend.topic(name)
    await topic.publish(b"before")
    async with bare(system) as channel:
        exchange = await channel.get_exchange(name)
        await exchange.publish(Unreadable(b"unreadable", headers={"odd": "x"}), routing_key="")
    await topic.publish(b"after")
    async with asyncio.timeout(15):  # what was received when the connection broke comes again
        while {m.body for m in inbox.got} != {b"before", b"after"}:
            await asyncio.sleep(0.01)
    assert server.failed is None
    async with bare(system) as channel, asyncio.timeout(15):
        while not (
            await channel.declare_queue(f"{name}.default.dead.default", passive=True)
        ).declaration_result.message_count:
            await asyncio.sleep(0.05)


async def test_giving_back_does_not_use_up_attempts(system: RabbitmqSystem, name: str) -> None:
    async with mv.connect(system.url) as backend:
        await backend.declare(name, "default")
        await backend.topic(name).publish(b"held")
        for limit in (1, 2, 2, 2):
            held = asyncio.Event()

            async def hold(message: mv.Message, held: asyncio.Event = held) -> None:
                held.set()
                await asyncio.Event().wait()

            server = backend.server(name, max_attempts=limit)
            server.start(hold)
            async with asyncio.timeout(15):
                await held.wait()
            with pytest.raises(TimeoutError):
                await server.shutdown(timeout=0)
        inbox = Inbox()
        backend.server(name, max_attempts=2).start(inbox)
        [message] = await inbox.count(1)
        assert message.attempt <= 2


async def test_what_waited_for_a_subscription_comes_in_order(backend: mv.Backend, name: str) -> None:
    topic = backend.topic(name)
    bodies = [b"%d" % number for number in range(250)]
    await asyncio.gather(*(topic.publish(body) for body in bodies))
    first, second = Inbox(), Inbox()
    backend.server(name, subscription="first").start(first)
    await topic.publish(b"last")
    backend.server(name, subscription="second").start(second)
    await topic.publish(b"for both")
    assert [m.body for m in await first.count(252)] == [*bodies, b"last", b"for both"]
    assert [m.body for m in await second.count(1)] == [b"for both"]


async def test_what_rabbitmq_would_drop_is_an_error(
    system: RabbitmqSystem, backend: mv.Backend, name: str
) -> None:
    async with bare(system) as channel:
        await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT, durable=True)
    with pytest.raises(mv.NotFound, match=f"{name}.*no subscription"):
        await backend.topic(name).publish(b"x")


async def test_a_deleted_queue_fails_its_server(
    system: RabbitmqSystem, backend: mv.Backend, name: str
) -> None:
    inbox = Inbox()
    server = backend.server(name)
    server.start(inbox)
    await backend.topic(name).publish(b"x")
    await inbox.count(1)
    async with bare(system) as channel:
        await channel.queue_delete(f"{name}.default")
    async with asyncio.timeout(15):
        while server.failed is None:
            await asyncio.sleep(0.01)
    with pytest.raises(mv.NotFound, match=f"{name}.default"):
        await server.shutdown()


def test_delays_are_never_shorter_and_at_most_a_ninth_longer() -> None:
    steps = set()
    for number in range(1, 200_000):
        milliseconds = number * 0.7
        step = wire.as_step(milliseconds / 1000)
        assert milliseconds - 1e-3 <= step <= max(milliseconds * 10 / 9, milliseconds + 1)
        steps.add(step)
    assert len(steps) < 150
    for exact in (0.01, 0.5, 1, 10, 30, 60, 300, 3600):
        assert wire.as_step(exact) == exact * 1000
    assert wire.as_step(1e-9) == 1


async def test_a_delay_for_one_subscription(backend: mv.Backend, name: str) -> None:
    one, other = Inbox(), Inbox()
    backend.server(name, subscription="one").start(one)
    backend.server(name, subscription="other").start(other)
    topic = backend.topic(name)
    await topic.to_subscription("one").publish(b"late", delay=0.05)
    await topic.publish(b"now")
    assert {m.body for m in await one.count(2)} == {b"late", b"now"}
    assert [m.body for m in other.got] == [b"now"]


async def test_an_unknown_vhost_or_password(system: RabbitmqSystem, name: str) -> None:
    for url, said in (
        (f"amqp://guest:guest@127.0.0.1:{system.port}/nowhere", "nowhere"),
        (f"amqp://guest:s3cret@127.0.0.1:{system.port}/", "refused the user or the password"),
        (f"amqp://guest:s3cret@127.0.0.1:{free_port()}/", "Connect call failed"),
    ):
        async with mv.connect(url) as backend:
            with pytest.raises(mv.ConnectionFailed, match=said) as told:
                await backend.topic(name).publish(b"x")
            assert "s3cret" not in str(told.value)


async def test_the_nodes_of_a_cluster_are_tried_in_turn(system: RabbitmqSystem, name: str) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{system.port}"
    async with mv.connect(f"amqp://guest:guest@{hosts}/%2F") as backend:
        await backend.declare(name, "default")
        await backend.topic(name).publish(b"x")


def test_options_that_cannot_be() -> None:
    for url in ("amqp://h/?delivery_limit=0", "amqp://h/?heartbeat=x", "amqp://h/?unknown=1", "amqp://h/a/b"):
        with pytest.raises(ValueError, match=r"amqp://h|delivery_limit"):
            mv.connect(url)
    with pytest.raises(TypeError, match="unknown"):
        mv.connect("amqp://h/", unknown=1)


async def test_a_restart(system: RabbitmqSystem, name: str) -> None:
    inbox = Inbox(fails=lambda message: message.body == b"retried" and message.attempt == 1)
    async with mv.connect(system.url) as backend:
        server = backend.server(name, backoff=4)
        server.start(inbox)
        topic = backend.topic(name)
        await topic.publish(b"delayed", delay=4)
        await topic.publish(b"retried")
        await topic.publish(b"next")
        await inbox.count(2)  # the queue in which the first one waits is there
        await asyncio.to_thread(system.settle)
        await asyncio.to_thread(system.kill)
        with pytest.raises(mv.ConnectionFailed):
            await topic.publish(b"away")
        await asyncio.to_thread(system.start)
        await topic.publish(b"after")
        assert {m.body for m in await inbox.count(5)} == {b"delayed", b"retried", b"next", b"after"}
        assert server.failed is None


@pytest.mark.parametrize("connected", [False, True])
async def test_a_backend_that_is_closed_meanwhile(system: RabbitmqSystem, name: str, connected: bool) -> None:
    await closed_meanwhile(lambda: mv.connect(system.url), name, connected=connected)
