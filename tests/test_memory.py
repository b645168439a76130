"""memory://: who gets what, when, how often; and who waits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import msgviz as mv
from tests.flows import refuse, until
from tests.queues import Taking, bodies_left, drained, letters, numbered, publish, turns


@pytest.fixture
def backend() -> mv.Backend:
    return mv.connect("memory://")


# Who gets what


async def test_what_comes_before_a_subscription_waits_for_the_first(backend: mv.Backend) -> None:
    topic = backend.topic("t")
    await publish(topic, b"1", b"2")
    await backend.declare("t")  # a topic alone is no subscription
    first = backend.server("t", subscription="first")
    backend.server("t", subscription="second")
    await publish(backend.topic("t"), b"3")
    assert await bodies_left(backend, "t", "first") == [b"1", b"2", b"3"]
    assert await bodies_left(backend, "t", "second") == [b"3"]
    await first.shutdown()


async def test_what_is_delayed_before_a_subscription_waits_for_it_too(backend: mv.Backend) -> None:
    await backend.topic("t").publish(b"x", delay=0.01)
    kept = Taking()
    async with backend.server("t").running(kept):
        await until(lambda: kept.bodies == [b"x"])


async def test_a_publish_under_way_when_the_first_subscription_comes_reaches_it(backend: mv.Backend) -> None:
    topic = backend.topic("t")
    publishing = [asyncio.create_task(topic.publish(b"x")) for _ in range(3)]
    await turns(1)  # the first of a topic gives the loop a turn before it goes on
    await backend.declare("t", "default")
    await asyncio.gather(*publishing)
    assert await bodies_left(backend) == [b"x"] * 3


async def test_each_subscription_gets_every_message_in_order(backend: mv.Backend) -> None:
    names = ["a", "b", "c"]
    await backend.declare("t", *names)
    await publish(backend.topic("t"), *numbered(50))
    for name in names:
        assert await bodies_left(backend, "t", name) == numbered(50)


async def test_declaring_twice_changes_nothing(backend: mv.Backend) -> None:
    await backend.declare("t", "a")
    await publish(backend.topic("t"), b"x")
    await backend.declare("t", "a", "b")
    backend.server("t", subscription="a")
    assert await bodies_left(backend, "t", "a") == [b"x"]
    assert await bodies_left(backend, "t", "b") == []


async def test_servers_of_a_subscription_compete(backend: mv.Backend) -> None:
    together = asyncio.Barrier(3)
    taken: list[tuple[int, bytes]] = []

    def receiver(who: int) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            taken.append((who, message.body))
            await together.wait()  # passes only with one message in each server at the same time

        return receive

    servers = [backend.server("t") for _ in range(3)]
    for who, server in enumerate(servers):
        server.start(receiver(who))
    await publish(backend.topic("t"), *numbered(30))
    await until(lambda: len(taken) == 30)
    for server in servers:
        await server.shutdown()
    assert sorted(body for _, body in taken) == sorted(numbered(30))
    assert {who for who, _ in taken} == {0, 1, 2}


async def test_backends_do_not_meet() -> None:
    one, other = mv.connect("memory://"), mv.connect("memory://")
    await other.declare("t", "default")
    await publish(one.topic("t"), b"x")
    assert await bodies_left(other) == []


async def test_one_subscription_alone(backend: mv.Backend) -> None:
    await backend.declare("t", "a", "b")
    only = backend.topic("t").to_subscription("b")
    assert only.name == "t"
    await publish(only, b"1")
    await publish(backend.topic("t"), b"2")
    await only.publish(b"3", attributes={"k": ["v", "w"]})
    assert await bodies_left(backend, "t", "a") == [b"2"]
    left = await drained(backend, "t", "b")
    assert left == [mv.Message(b"1"), mv.Message(b"2"), mv.Message(b"3", {"k": ["v", "w"]})]
    with pytest.raises(ValueError, match="subscription"):
        backend.topic("t").to_subscription("")


# When it comes


async def test_a_delay_delays(backend: mv.Backend) -> None:
    came: dict[bytes, float] = {}

    async def receive(message: mv.Message) -> None:
        came[message.body] = time.monotonic()

    topic = backend.topic("t")
    async with backend.server("t", concurrency=2).running(receive):
        began = time.monotonic()
        await topic.publish(b"late", delay=0.06)
        await topic.publish(b"soon", delay=0.03)
        await topic.publish(b"now")
        await until(lambda: len(came) == 3)
    assert list(came) == [b"now", b"soon", b"late"]
    assert came[b"soon"] - began >= 0.03
    assert came[b"late"] - began >= 0.06


async def test_equal_delays_keep_their_order(backend: mv.Backend) -> None:
    kept = Taking()
    await backend.declare("t", "default", "other")
    for body in numbered(20):
        await backend.topic("t").publish(body, delay=0.01)
    async with backend.server("t").running(kept):
        await until(lambda: len(kept.bodies) == 20)
    assert kept.bodies == numbered(20)


async def test_who_watches_the_clock_may_go(backend: mv.Backend) -> None:
    kept = Taking()
    serving = [asyncio.create_task(backend.server("t").serve(kept)) for _ in range(2)]
    await turns()
    await backend.topic("t").publish(b"x", delay=0.02)  # wakes one, which sets its alarm
    await turns()
    serving[0].cancel()
    await until(lambda: kept.bodies == [b"x"])
    serving[1].cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def test_delayed_messages_that_come_due_together_use_all_workers(backend: mv.Backend) -> None:
    together = asyncio.Barrier(3)
    passed = 0

    async def receive(message: mv.Message) -> None:
        nonlocal passed
        await together.wait()
        passed += 1

    async with backend.server("t", concurrency=3).running(receive):
        await turns()
        for body in numbered(6):
            await backend.topic("t").publish(body, delay=0.01)
        await until(lambda: passed == 6)


# How often it comes


async def test_a_failed_message_comes_again_at_the_end(backend: mv.Backend) -> None:
    seen: list[tuple[bytes, int]] = []

    async def receive(message: mv.Message) -> None:
        seen.append((message.body, message.attempt))
        if message.body == b"0" and message.attempt < 3:
            raise ValueError("not yet")

    await backend.declare("t", "default")
    await publish(backend.topic("t"), *numbered(3))
    async with backend.server("t", backoff=0).running(receive):
        await until(lambda: len(seen) == 5)
    assert seen == [(b"0", 1), (b"1", 1), (b"2", 1), (b"0", 2), (b"0", 3)]


async def test_the_backoff_is_asked_with_the_attempt_that_failed(backend: mv.Backend) -> None:
    asked: list[int] = []
    times: list[float] = []

    def backoff(attempt: int) -> float:
        asked.append(attempt)
        return 0.02 if attempt == 2 else 0

    async def receive(message: mv.Message) -> None:
        times.append(time.monotonic())
        raise ValueError("no")

    async with backend.server("t", max_attempts=4, backoff=backoff).running(receive):
        await publish(backend.topic("t"), b"x")
        await until(lambda: len(times) == 4)
    assert asked == [1, 2, 3]  # the last one is not followed by any
    assert times[2] - times[1] >= 0.02


async def test_a_receivers_own_cancelled_error_is_a_failure(backend: mv.Backend) -> None:
    attempts: list[int] = []

    async def receive(message: mv.Message) -> None:
        attempts.append(message.attempt)
        other = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(other.cancel)
        await other

    async with backend.server("t", max_attempts=2, backoff=0).running(receive):
        await publish(backend.topic("t"), b"x")
        await until(lambda: len(attempts) == 2)
    assert attempts == [1, 2]
    (letter,) = await letters(backend)
    assert letter.attributes["Dead-Letter-Reason"].startswith("CancelledError")


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_dead_letters(backend: mv.Backend, limit: int) -> None:
    server = backend.server("orders", subscription="billing", max_attempts=limit, backoff=0)
    attempts: list[int] = []

    async def receive(message: mv.Message) -> None:
        attempts.append(message.attempt)
        raise KeyError("<amount>")

    async with server.running(receive):
        await backend.topic("orders").publish(b"x", attributes={"k": ["v", "w"], "dead-letter-topic": "old"})
        await until(lambda: len(attempts) == limit)
    assert attempts == list(range(1, limit + 1))
    assert await drained(backend, "orders", "billing") == []
    assert await letters(backend, "orders", "billing") == [
        mv.Message(
            b"x",
            {
                "K": ["v", "w"],
                "Dead-Letter-Reason": "KeyError: '<amount>'",
                "Dead-Letter-Topic": "orders",
                "Dead-Letter-Subscription": "billing",
                "Dead-Letter-Attempts": str(limit),
            },
        )
    ]


async def test_dead_letters_are_served_like_any_message(backend: mv.Backend) -> None:
    kept, again = Taking(), Taking()
    dead = backend.server("t.default.dead", max_attempts=1)
    dead.start(kept)
    server = backend.server("t", max_attempts=1)
    server.start(refuse)
    await publish(backend.topic("t"), b"1")
    await until(lambda: kept.bodies == [b"1"])
    assert (kept.messages[0].attempt, str(kept.messages[0].source)) == (1, "t.default.dead/default")
    dead.start(refuse)
    await publish(backend.topic("t"), b"2")
    async with backend.server("t.default.dead.default.dead").running(again):
        await until(lambda: again.bodies == [b"2"])
    assert again.messages[0].attributes["Dead-Letter-Topic"] == "t.default.dead"
    await backend.close()


async def test_each_subscription_has_its_own_dead_letters(backend: mv.Backend) -> None:
    kept = Taking()
    servers = [backend.server("t", subscription=name, max_attempts=1) for name in ("a", "b")]
    servers[0].start(refuse)
    servers[1].start(kept)
    await publish(backend.topic("t"), b"x")
    dead = Taking()
    async with backend.server("t.a.dead").running(dead):
        await until(lambda: dead.bodies == kept.bodies == [b"x"])
    for server in servers:
        await server.shutdown()
    assert await letters(backend, "t", "b") == []


async def test_without_a_limit_there_are_no_dead_letters(backend: mv.Backend) -> None:
    seen: list[int] = []

    async def receive(message: mv.Message) -> None:
        seen.append(message.attempt)
        assert message.source == mv.Source("t", "default", None)
        if message.attempt < 100:
            raise ValueError("no")

    async with backend.server("t", max_attempts=None, backoff=0).running(receive):
        await publish(backend.topic("t"), b"x")
        await until(lambda: len(seen) == 100)
    assert seen == list(range(1, 101))
    assert await letters(backend) == []


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(), "ValueError: "),
        (Unprintable(), "Unprintable"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 987 + "…"),
    ],
)
async def test_reasons(backend: mv.Backend, error: Exception, reason: str) -> None:
    server = backend.server("t", max_attempts=1)

    async def receive(message: mv.Message) -> None:
        raise error

    dead = Taking()
    async with server.running(receive), backend.server("t.default.dead").running(dead):
        await publish(backend.topic("t"), b"x")
        await until(lambda: dead.messages)
    assert dead.messages[0].attributes["Dead-Letter-Reason"] == reason


class Stamps(mv.TopicDecorator):
    """Changes a message in place, as it is the topic's."""

    async def send(self, message: mv.Message, delay: float) -> None:
        message.attributes["Stamp"] = "1"
        await self.next.send(message, delay)


@pytest.mark.parametrize("subscriptions", [["a"], ["a", "b"]])
async def test_what_a_layer_changed_comes_every_time(backend: mv.Backend, subscriptions: list[str]) -> None:
    await backend.declare("t", *subscriptions)
    seen: list[mv.Message] = []

    async def receive(message: mv.Message) -> None:
        seen.append(mv.Message(message.body, message.attributes))
        raise ValueError("no")

    async with backend.server("t", subscription="a", max_attempts=2, backoff=0).running(receive):
        await Stamps(backend.topic("t")).publish(b"x", attributes={"k": "v"})
        await until(lambda: len(seen) == 2)
    assert seen == [mv.Message(b"x", {"k": "v", "Stamp": "1"})] * 2


async def test_what_a_receiver_changes_does_not_come_again(backend: mv.Backend) -> None:
    seen: list[mv.Message] = []
    other = Taking()

    async def receive(message: mv.Message) -> None:
        seen.append(mv.Message(message.body, message.attributes))
        message.attributes["Leaked"] = "1"
        message.attributes.add("k", "leaked")
        del message.attributes["gone"]
        message.with_body(b"")
        message.body = b"leaked"
        if message.attempt == 2:
            message.attributes = {"all": "new"}
        raise ValueError("no")

    sent = mv.Message(b"x", {"k": ["v"], "gone": "no"})
    first = backend.server("t", subscription="a", max_attempts=3, backoff=0)
    second = backend.server("t", subscription="b")
    attributes = mv.Attributes(sent.attributes)
    async with first.running(receive), second.running(other):
        await backend.topic("t").publish(sent.body, attributes=attributes)
        attributes["late"] = "1"
        await until(lambda: len(seen) == 3 and other.messages)
    assert seen == [sent] * 3
    assert other.messages == [sent]
    (letter,) = await letters(backend, "t", "a")
    assert letter.body == b"x"
    assert {key for key in letter.attributes if not key.startswith("Dead-Letter-")} == {"K", "Gone"}
    assert letter.attributes.get_all("k") == ["v"]


# What is no argument


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), (" \t", ValueError), (None, TypeError), (b"t", TypeError)]
)
async def test_names(backend: mv.Backend, name: Any, error: type[Exception]) -> None:
    for use in (backend.topic, backend.server, lambda name: backend.server("t", subscription=name)):
        with pytest.raises(error, match="name of a"):
            use(name)
    for declare in (backend.declare(name), backend.declare("t", name)):
        with pytest.raises(error, match="name of a"):
            await declare


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3"])
def test_what_is_no_max_attempts(backend: mv.Backend, wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        backend.server("t", max_attempts=wrong)


def test_what_is_no_backoff(backend: mv.Backend) -> None:
    with pytest.raises(ValueError, match="back-off"):
        backend.server("t", backoff=-1)
    with pytest.raises(TypeError):
        backend.server("t", backoff="1")  # type: ignore[arg-type]


async def test_features(backend: mv.Backend) -> None:
    features = backend.features
    assert features.ordered
    assert features.max_delay == float("inf")
    assert features.addressable_subscriptions
    assert not features.persistent
    with pytest.raises(AttributeError):
        features.ordered = False  # type: ignore[misc]
