"""multiserver: several servers into one receiver, in the ratio of their weights."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import lz4
from msgviz.multiserver import MultiServer, multiserver
from tests.decorators import clock
from tests.decorators.servers import Counting, full
from tests.flows import accept, observed, until
from tests.queues import Taking, letters, numbered, publish

NAMES = "abcdefgh"


# -- the ratio


@pytest.mark.parametrize("each", [1, 2, 10])
@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (5, 3, 2), (0.75, 0.25), (1, 9)])
async def test_numbers_are_in_the_ratio_of_the_weights(weights: tuple[float, ...], each: int) -> None:
    async with mv.connect("memory://") as backend:
        names = NAMES[: len(weights)]
        servers = await full(backend, dict.fromkeys(names, 1000), concurrency=each)
        counting = Counting(1000)
        whole = multiserver(zip(servers, weights, strict=True), concurrency=1)
        async with whole.running(counting):
            await until(lambda: len(counting.topics) >= 1000)
    total = sum(weights)
    for name, weight in zip(names, weights, strict=True):
        expected = 1000 * weight / total
        assert abs(counting.counts[name] - expected) <= 0.1 * expected
    assert counting.most == 1


@pytest.mark.parametrize("concurrency", [2, 7])
async def test_the_ratio_with_several_receivers(concurrency: int) -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 1000, "b": 1000}, concurrency=concurrency + 1)
        counting = Counting(1000, lambda: asyncio.sleep(0.0005))
        async with multiserver([(servers[0], 3), (servers[1], 1)], concurrency=concurrency, wait=0.1).running(
            counting
        ):
            await until(lambda: len(counting.topics) >= 1000)
    assert abs(counting.counts["a"] - 750) <= 75
    assert abs(counting.counts["b"] - 250) <= 25
    assert counting.most == concurrency


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 60)), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 4),
)
@settings(max_examples=40)
def test_every_message_is_received_once_and_no_server_is_ahead(
    lanes: list[tuple[int, int]], concurrency: int, each: int
) -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:
            names = NAMES[: len(lanes)]
            counts = {name: count for name, (_, count) in zip(names, lanes, strict=True)}
            servers = await full(backend, counts, concurrency=concurrency + each)
            counting = Counting(0)
            weights = [weight for weight, _ in lanes]
            pairs = zip(servers, weights, strict=True)
            async with multiserver(pairs, concurrency=concurrency, wait=0.02).running(counting):
                await until(lambda: len(counting.topics) == sum(counts.values()))
            assert Counter(counting.topics) == Counter({n: c for n, c in counts.items() if c})
            assert counting.most <= concurrency
            # While two have messages, neither is ahead by more than one message over its weight, the bound
            # of start-time fair queueing; and by what one brought before the other had begun.
            for one, (first, count) in zip(names, lanes, strict=True):
                for other, (second, most) in zip(names, lanes, strict=True):
                    had = Counter[str]()
                    limit = (1 + concurrency) / first + 1 / second
                    for topic in counting.topics:
                        if had[one] >= count - concurrency - each or had[other] >= most - concurrency - each:
                            break
                        had[topic] += 1
                        assert had[one] / first - had[other] / second <= limit + 1e-9

    asyncio.run(run())


async def test_the_share_of_an_idle_server_is_the_others() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 0, "b": 300, "c": 300})
        counting = Counting(200)
        whole = multiserver([(servers[0], 100), (servers[1], 1), (servers[2], 1)], concurrency=1)
        async with whole.running(counting):
            await until(lambda: len(counting.topics) == 600)
            # and it has saved nothing up: one message does not have the others wait for its share
            await publish(backend.topic("a"), *numbered(3))
            await until(lambda: len(counting.topics) == 603)
    assert abs(counting.counts["b"] - 100) <= 10
    assert counting.topics[600:] == ["a"] * 3


async def test_a_server_that_was_idle_has_its_share_and_no_more() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 0, "b": 2000})
        counting = Counting(0)
        async with multiserver([(servers[0], 1), (servers[1], 1)], concurrency=1).running(counting):
            await until(lambda: len(counting.topics) >= 500)
            begun = len(counting.topics)
            await publish(backend.topic("a"), *numbered(500))
            await until(lambda: len(counting.topics) >= begun + 400)
        after = Counter(counting.topics[begun : begun + 400])
    assert abs(after["a"] - 200) <= 20


def test_a_free_receiver_waits_no_longer_than_it_says() -> None:
    async def run() -> tuple[list[str], float]:
        async with mv.connect("memory://") as backend:
            servers = await full(backend, {"a": 1, "b": 2})
            counting = Counting(0)
            whole = multiserver([(servers[0], 100), (servers[1], 1)], concurrency=1, wait=5)
            began = clock.now()
            async with whole.running(counting):
                await until_all(lambda: len(counting.topics) == 3)
                return counting.topics, clock.now() - began

    async def until_all(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.1)

    topics, took = clock.run(run())
    assert topics == ["a", "b", "b"]
    assert 5 <= took <= 5.2  # once for a, whose turn it was; it has not come, so nobody waits again


# -- results go back


async def test_what_the_receiver_raises_goes_back_to_its_server() -> None:
    async with mv.connect("memory://") as backend:
        a = backend.server("a", max_attempts=3, backoff=0, concurrency=2)
        b = backend.server("b", subscription="s", max_attempts=2, backoff=0, concurrency=2)
        await backend.declare("b", "s")
        got: list[tuple[str, bytes, int]] = []

        async def receive(message: mv.Message) -> None:
            assert message.source is not None
            got.append((str(message.source), message.body, message.attempt))
            if message.body == b"bad":
                raise ValueError(f"bad from {message.source.topic}")

        async with multiserver([(a, 1), (b, 1)], concurrency=3).running(receive):
            for name in "ab":
                await publish(backend.topic(name), b"good", b"bad")
            await until(lambda: len(got) == 1 + 3 + 1 + 2)
        expected = [("a/default", b"good", 1), *(("a/default", b"bad", n) for n in (1, 2, 3)),
                    ("b/s", b"good", 1), *(("b/s", b"bad", n) for n in (1, 2))]  # fmt: skip
        assert sorted(got) == sorted(expected)
        for name, subscription in (("a", "default"), ("b", "s")):
            (letter,) = await letters(backend, name, subscription)
            assert letter.attributes["Dead-Letter-Reason"] == f"ValueError: bad from {name}"


async def test_a_receiver_that_is_cancelled_by_itself_has_failed_alone() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 1, "b": 3}, max_attempts=1)
        got = Taking()

        async def receive(message: mv.Message) -> None:
            if message.body == b"a0":
                raise asyncio.CancelledError
            await got(message)

        async with multiserver([(s, 1) for s in servers]).running(receive):
            await until(lambda: len(got.messages) == 3)
        assert len(await letters(backend, "a")) == 1


async def test_plain_functions_and_decorators() -> None:
    async with mv.connect("memory://") as backend:
        got: list[bytes] = []

        def receive(message: mv.Message) -> None:
            got.append(message.body)

        inner = backend.server("a", decorators=[lz4])
        plain = backend.server("b")
        whole = multiserver([(inner, 1), (plain, 1)], decorators=[lz4])
        await backend.topic("a", decorators=[lz4, lz4]).publish(b"twice")
        await backend.topic("b", decorators=[lz4]).publish(b"once")
        async with whole.running(receive):
            await until(lambda: len(got) == 2)
            assert mv.chain(whole).names == ["lz4", receive.__qualname__.rpartition(".")[2]]
            assert mv.chain(inner).names == ["lz4", "multiserver", "lz4", "receive"]
    assert sorted(got) == [b"once", b"twice"]


# -- observed


async def test_observed_as_a_whole() -> None:
    log, backend = observed()
    bare = backend.next  # type: ignore[attr-defined]
    servers = [bare.server(name, concurrency=2) for name in "ab"]
    whole = mv.observe(multiserver([(servers[0], 2), (servers[1], 1)]), log)
    got = Taking()
    async with whole.running(got):
        await asyncio.gather(*(backend.topic(n).publish(b"x") for n in "abab"))
        await until(lambda: len(got.messages) == 4)
        await log.settled(5)
    received = log.events.query("operation == 'receive'")
    assert Counter(received["topic"]) == {"a": 2, "b": 2}
    assert set(received["subscription"]) == {"default"}
    assert set(log.messages["state"]) == {"ok"}


async def test_with_servers_that_are_observed() -> None:
    log, backend = observed()
    servers = [backend.server(name, concurrency=2) for name in "ab"]
    got = Taking()
    async with multiserver([(servers[0], 2), (servers[1], 1)], concurrency=2).running(got):
        await asyncio.gather(*(backend.topic(n).publish(b"x") for n in "abab"))
        await log.settled(5)
    assert len(got.messages) == 4
    assert Counter(log.events.query("operation == 'receive'")["topic"]) == {"a": 2, "b": 2}
    assert set(log.messages["state"]) == {"ok"}


# -- options


def test_wrong_options() -> None:
    backend = mv.connect("memory://")
    a, b = backend.server("a"), backend.server("b", subscription="s")
    for wrong, error, match in (
        ([], ValueError, "not empty"),
        ([(a, 0)], ValueError, "weight"),
        ([(a, -1)], ValueError, "weight"),
        ([(a, float("nan"))], ValueError, "weight"),
        ([(a, float("inf"))], ValueError, "weight"),
        ([(a, "1")], TypeError, "weight"),
        ([(a, True)], TypeError, "weight"),
        ([(accept, 1)], TypeError, "list of"),
        ([(a, 1), (b, 1), (a, 2)], ValueError, "twice"),
    ):
        with pytest.raises(error, match=match):
            multiserver(wrong)  # type: ignore[arg-type]
    for option, value, error in (
        ("concurrency", 0, ValueError),
        ("wait", -1, ValueError),
        ("wait", "1", TypeError),
        ("decorators", [3], TypeError),
    ):
        with pytest.raises(error):
            multiserver([(a, 1)], **{option: value})  # type: ignore[arg-type]
    whole = multiserver([(a, 1), (b, 2.5)], concurrency=3)
    assert isinstance(whole, MultiServer)
    assert whole.servers == (a, b)
    assert (whole.topic, whole.subscription, whole.concurrency) == ("a+b", "default+s", 3)
    assert repr(whole) == "<MultiServer a+b/default+s idle>"
