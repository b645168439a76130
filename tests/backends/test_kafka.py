"""What is particular to Kafka: its records, retries, partitions and consumer groups."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import msgviz as mv
from tests.backends.closing import closed_meanwhile
from tests.systems import system_fixture
from tests.systems.kafka import KafkaSystem

aiokafka = pytest.importorskip("aiokafka")

kafka = system_fixture(KafkaSystem)


class Kept:
    """A receiver that keeps what it is given, and then does what `act` does."""

    def __init__(self, act: Callable[[mv.Message], Any] | None = None) -> None:
        self.messages: list[mv.Message] = []
        self.act = act
        self._more = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        self.messages.append(message)
        self._more.set()
        if self.act is not None:
            await self.act(message)
            self._more.set()

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not done():
                self._more.clear()
                await self._more.wait()

    async def count(self, number: int) -> list[mv.Message]:
        await self.until(lambda: len(self.messages) >= number)
        return self.messages


def new_name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def bare_producer(kafka: KafkaSystem, **options: Any) -> AsyncIterator[Any]:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{kafka.port}", **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def bare_records(kafka: KafkaSystem, topic: str, number: int) -> list[Any]:
    """The first records of a topic, as they stand there."""
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=f"127.0.0.1:{kafka.port}", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(number)]
    finally:
        await consumer.stop()


async def test_another_client_reads_what_is_published(kafka: KafkaSystem) -> None:
    name = new_name()
    async with mv.connect(kafka.url) as backend:
        await backend.topic(name).publish(
            b"\xff\x00", attributes={"Source": "web", "Tag": ["a", "b"], "a key\n": "ü", "Kafka-Key": "k1"}
        )
        await backend.topic(name).publish(b"")
        await backend.topic(name).to_subscription("billing").publish(b"one")
    first, second = await bare_records(kafka, name, 2)
    assert (first.value, first.key) == (b"\xff\x00", b"k1")
    assert list(first.headers) == [
        ("Source", b"web"), ("Tag", b"a"), ("Tag", b"b"), ("a key\n", "ü".encode()), ("Kafka-Key", b"k1"),
    ]  # fmt: skip
    assert (second.value, second.key, list(second.headers)) == (b"", None, [])
    [direct] = await bare_records(kafka, f"{name}.billing.retry", 1)
    assert direct.value == b"one"


async def test_what_another_client_published_arrives_and_keeps_its_bytes(kafka: KafkaSystem) -> None:
    """In a retry and as a dead letter too, though some of it is no text."""
    name = new_name()
    headers = [
        ("source", b"web"),
        ("source", b"app"),
        ("bin", b"\xff\xfe"),
        ("none", None),
        ("Msgviz-Attempt", b"7"),
    ]

    async def fail(message: mv.Message) -> None:
        message.attributes["source"] = "changed by the receiver"
        raise ValueError("no")

    async with mv.connect(kafka.url) as backend, bare_producer(kafka) as producer:
        await backend.declare(name, "default")
        await producer.send_and_wait(name, b"\x00", key=b"\xfa", headers=headers)
        await producer.send_and_wait(name, None, key=b"gone")
        kept = Kept(fail)
        backend.server(name, max_attempts=2, backoff=0).start(kept)
        await kept.count(4)
        letters = Kept()
        backend.server(f"{name}.default.dead", max_attempts=None).start(letters)
        await letters.count(2)
    assert Counter((m.body, m.attempt) for m in kept.messages) == Counter(
        {(b"\x00", 1): 1, (b"\x00", 2): 1, (b"", 1): 1, (b"", 2): 1}
    )
    letter = next(m for m in letters.messages if m.body)
    assert letter.attributes.get_all("Source") == ["web", "app"]
    assert letter.attributes.to_dict().items() >= {
        "Bin": ["ÿþ"], "None": [""], "Msgviz-Attempt": ["7"], "Kafka-Key": ["ú"],
        "Dead-Letter-Reason": ["ValueError: no"], "Dead-Letter-Attempts": ["2"],
    }.items()  # fmt: skip
    records = await bare_records(kafka, f"{name}.default.dead", 2)
    record = next(r for r in records if r.key == b"\xfa")
    assert (record.value, list(record.headers)[: len(headers)]) == (b"\x00", headers)
    assert next(r for r in records if r.key == b"gone").value is None


async def test_the_key_is_the_attribute_one_chose(kafka: KafkaSystem) -> None:
    name = new_name()
    async with mv.connect(kafka.url, key="order-id", partitions=3) as backend:
        for number in range(12):
            await backend.topic(name).publish(b"%d" % number, attributes={"Order-Id": f"o{number % 4}"})
    places: dict[bytes, set[int]] = {}
    for record in await bare_records(kafka, name, 12):
        places.setdefault(record.key, set()).add(record.partition)
    assert places.keys() == {b"o0", b"o1", b"o2", b"o3"}
    assert all(len(partitions) == 1 for partitions in places.values())


async def test_what_is_too_large_is_refused_before_it_is_sent(kafka: KafkaSystem) -> None:
    name = new_name()
    async with mv.connect(kafka.url) as backend:
        topic, most = backend.topic(name), backend.features.max_body
        assert most is not None
        with pytest.raises(ValueError, match=str(most)):
            await topic.publish(bytes(most + 1))
        with pytest.raises(ValueError, match="with its attributes"):
            await topic.publish(bytes(most), attributes={"A": "x" * 60_000})
        await topic.publish(bytes(most), attributes={"A": "x" * 40_000})
    [record] = await bare_records(kafka, name, 1)
    assert len(record.value) == most


async def test_a_message_that_leaves_no_room_for_a_header_is_retried_and_dies(kafka: KafkaSystem) -> None:
    name, body = new_name(), bytes(1_048_576 - 100)

    async def fail(message: mv.Message) -> None:
        raise ValueError

    async with mv.connect(kafka.url) as backend, bare_producer(kafka) as producer:
        await backend.declare(name, "default")
        await producer.send_and_wait(name, body)
        kept, letters = Kept(fail), Kept()
        backend.server(name, max_attempts=3, backoff=0).start(kept)
        backend.server(f"{name}.default.dead", max_attempts=None).start(letters)
        await letters.count(1)
    assert [m.attempt for m in kept.messages] == [1, 2, 3]
    assert letters.bodies == [body]


async def test_a_receiver_longer_than_the_session_keeps_its_partition(kafka: KafkaSystem) -> None:
    name = new_name()

    async def work(message: mv.Message) -> None:
        if message.body == b"long":
            await asyncio.sleep(5)

    async with mv.connect(kafka.url, session=2) as backend:
        kept = Kept(work)
        backend.server(name).start(kept)
        await backend.topic(name).publish(b"long")
        await backend.topic(name).publish(b"next")
        await kept.count(2)
    async with mv.connect(kafka.url, session=2) as backend:
        again = Kept()
        backend.server(name).start(again)
        await backend.topic(name).publish(b"last")
        await again.count(1)
    assert (kept.bodies, again.bodies) == ([b"long", b"next"], [b"last"])


async def test_servers_of_one_connection_share_a_partition(kafka: KafkaSystem) -> None:
    """One is busy; the other has the rest, and at the end what the busy one gave back."""
    name = new_name()
    forever = asyncio.Event()

    async def hold(message: mv.Message) -> None:
        await forever.wait()

    async with mv.connect(kafka.url) as backend:
        busy, idle = Kept(hold), Kept()
        server = backend.server(name)
        server.start(busy)
        for number in range(6):
            await backend.topic(name).publish(b"%d" % number)
        await busy.count(1)
        backend.server(name).start(idle)
        await idle.count(5)
        with pytest.raises(TimeoutError):
            await server.shutdown(timeout=0)
        await idle.count(6)
    assert (busy.bodies, idle.bodies) == ([b"0"], [b"1", b"2", b"3", b"4", b"5", b"0"])
    assert [m.attempt for m in idle.messages] == [1] * 6


async def test_a_shutdown_gives_back_one_message_and_keeps_those_after_it(kafka: KafkaSystem) -> None:
    """Kafka commits one number for a partition; what is before it and not done takes another way."""
    name = new_name()
    forever = asyncio.Event()

    async def hold_the_first(message: mv.Message) -> None:
        if message.body == b"0":
            await forever.wait()

    async with mv.connect(kafka.url) as backend:
        kept = Kept(hold_the_first)
        server = backend.server(name, concurrency=2)
        server.start(kept)
        for number in range(6):
            await backend.topic(name).publish(b"%d" % number, attributes={"N": str(number)})
        await kept.count(6)
        with pytest.raises(TimeoutError):
            await server.shutdown(timeout=0.05)
    async with mv.connect(kafka.url) as backend:
        again = Kept()
        backend.server(name).start(again)
        await backend.topic(name).publish(b"last")
        await again.count(2)
    assert sorted(again.bodies) == [b"0", b"last"]
    given_back = next(m for m in again.messages if m.body == b"0")
    assert (given_back.attempt, given_back.attributes.to_dict()) == (1, {"N": ["0"]})


async def test_dead_letters_are_served_where_nothing_may_be_made(kafka: KafkaSystem) -> None:
    """Without a retry topic a failed message is tried again from where it is."""
    name = new_name()

    async def fail_twice(message: mv.Message) -> None:
        if message.attempt < 3:
            raise ValueError

    async with mv.connect(kafka.url) as backend:
        backend.server(name)
        await backend.topic(name).publish(b"")
        await backend.declare(f"{name}.default.dead")
        await backend.topic(f"{name}.default.dead").publish(b"letter")
    async with mv.connect(kafka.url, create=False) as backend:
        kept = Kept(fail_twice)
        backend.server(f"{name}.default.dead", max_attempts=None, backoff=0.01).start(kept)
        await kept.count(3)
    assert [m.attempt for m in kept.messages] == [1, 2, 3]


async def test_partitions_that_change_hands_lose_nothing(kafka: KafkaSystem) -> None:
    """Consumers come and go while messages flow and some of them fail."""
    name, number = new_name(), 400
    done: Counter[bytes] = Counter()
    failed: set[bytes] = set()

    async def receive(message: mv.Message) -> None:
        await asyncio.sleep(0.002)
        if int(message.body) % 7 == 0 and message.body not in failed:
            failed.add(message.body)
            raise ValueError
        done[message.body] += 1

    first = mv.connect(kafka.url, session=6, partitions=4)
    second = mv.connect(kafka.url, session=6, partitions=4)
    third = mv.connect(kafka.url, session=6, partitions=4)
    async with first, third:
        one, two = Kept(receive), Kept(receive)
        first.server(name, concurrency=3).start(one)
        topic = first.topic(name)

        async def publish() -> None:
            for count in range(number):
                await topic.publish(b"%d" % count)
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish())
        await one.count(1)
        async with second:
            second.server(name, concurrency=3).start(two)
            await two.count(10)
            before = len(one.messages)
            await one.until(lambda: len(one.messages) > before)
        third.server(name, concurrency=3).start(one)
        await publishing
        await one.until(lambda: len(done) >= number)
    assert sorted(map(int, done)) == list(range(number))
    assert sum(done.values()) - number <= 20  # those in flight while partitions changed hands


async def test_a_broker_that_comes_back_empty(kafka: KafkaSystem, tmp_path: Path) -> None:
    """Publishing fails while it is away and works again after; a running server goes on by itself."""
    system, name = KafkaSystem(tmp_path), new_name()
    system.start()
    try:
        async with mv.connect(system.url, session=3, timeout=2) as backend:
            kept = Kept()
            server = backend.server(name)
            server.start(kept)
            await backend.topic(name).publish(b"before")
            await kept.count(1)
            await asyncio.sleep(0.5)  # its offset is committed by now
            system.kill()
            with pytest.raises(mv.ConnectionFailed):
                await backend.topic(name).publish(b"lost")
            system.start()
            # More than one: its consumer may be back after the first, and takes it for the one it has read.
            async with asyncio.timeout(40):
                while b"after" not in kept.bodies:
                    with contextlib.suppress(mv.ConnectionFailed):
                        await backend.topic(name).publish(b"after")
                    await asyncio.sleep(0.2)
            assert server.serving
    finally:
        system.stop()


async def test_closing_while_the_broker_is_away_leaves_nothing(kafka: KafkaSystem, tmp_path: Path) -> None:
    system, name = KafkaSystem(tmp_path), new_name()
    system.start()
    try:
        async with mv.connect(system.url, timeout=2) as backend:
            kept = Kept()
            backend.server(name).start(kept)
            await backend.topic(name).publish(b"")
            await kept.count(1)
            system.kill()
    finally:
        system.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_producer_that_the_broker_cannot_have(kafka: KafkaSystem) -> None:
    """tansu has no idempotent producer: the connection fails, and leaves nothing open."""
    async with mv.connect(kafka.url, idempotent=True) as backend:
        with pytest.raises(mv.ConnectionFailed) as failed:
            await backend.topic(new_name()).publish(b"")
        assert isinstance(failed.value.__cause__, aiokafka.errors.KafkaError)


@pytest.mark.parametrize("connected", [False, True])
async def test_a_backend_that_is_closed_meanwhile(kafka: KafkaSystem, connected: bool) -> None:
    await closed_meanwhile(lambda: mv.connect(kafka.url), new_name(), connected=connected)
