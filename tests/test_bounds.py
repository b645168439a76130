"""A log that is full: what stays, what goes, and that it grows no further."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from tests.flows import Kept, accept, columns, observed


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n in ("max_events", "max_bytes") for v in (0, -1, 1.5, "9", True, None)]
    + [("max_body", v) for v in (-1, 0.5, "9", True)],
)
def test_a_wrong_bound_is_a_value_error(name: str, value: Any):
    with pytest.raises(ValueError, match=name):
        mv.MessageLog(**{name: value})


async def test_a_log_holds_as_many_events_as_it_says_and_drops_the_oldest_beyond():
    log = mv.MessageLog(max_events=100)
    topic = mv.observe(Kept(), log)
    for number in range(100):
        await topic.publish(b"body %d" % number)
    assert (len(log), log.dropped) == (100, 0)
    await topic.publish(b"one more")
    assert log.dropped > 0
    assert len(log) + log.dropped == 101
    events = log.events
    assert events["body"].iloc[-1] == b"one more"
    assert events.index.tolist() == list(range(log.dropped, 101))


@settings(max_examples=30)
@given(
    max_events=st.integers(1, 40),
    max_bytes=st.integers(1, 30_000),
    sizes=st.lists(st.sampled_from([0, 1, 10, 600, 5000, 40_000]), max_size=120),
    look=st.sets(st.integers(0, 120)),
)
def test_the_bounds_hold_after_every_event(max_events: int, max_bytes: int, sizes: list[int], look: set[int]):
    log = mv.MessageLog(max_events=max_events, max_bytes=max_bytes)
    topic = mv.observe(Kept(), log)

    async def flow() -> None:
        seen: list[int] = []
        for number, size in enumerate(sizes):
            await topic.publish(b"x" * size)
            assert len(log) <= max_events
            assert len(log) + log.dropped == number + 1 == log.next_event_id
            if number in look:
                events = log.events
                assert len(events) == len(log)
                assert events["size"].sum() + 512 * len(events) <= max_bytes
                assert events.index.is_unique
                assert events.index.is_monotonic_increasing
                assert set(log.messages.index) == set(events["message_id"])
                seen += events.index.tolist()
        assert max(seen, default=0) < max(len(sizes), 1)

    asyncio.run(flow())


async def test_failed_messages_are_the_last_to_go():
    log, backend = observed(max_events=64)

    async def receiver(message: mv.Message) -> None:
        if message.body.startswith(b"bad"):
            raise ValueError

    topic = backend.topic("t")
    async with backend.server("t", max_attempts=2, backoff=0).running(receiver):
        for number in range(10):
            await topic.publish(b"bad %d" % number)
        await log.settled(5)
        for _ in range(200):
            await topic.publish(b"good")
            await log.settled(5)
            assert len(log) <= 64
    assert log.dropped > 300
    messages = log.messages
    assert (messages["state"] == "dead").sum() == 10
    assert (messages.loc[messages["state"] == "dead", "attempts"] == 2).all()
    report = await log.replay(dry_run=True)
    assert len(report.ready) == 10  # none of their bodies is gone


async def test_when_all_have_failed_the_oldest_go():
    log, topic = mv.MessageLog(max_events=8), None
    topic = mv.observe(Kept(error=ValueError("no")), log)
    for number in range(30):
        with pytest.raises(ValueError, match="no"):
            await topic.publish(b"%d" % number)
    bodies = [int(body) for body in log.events["body"]]
    assert bodies == list(range(bodies[0], 30))
    assert len(bodies) <= 8


async def test_event_ids_are_never_given_twice():
    log = mv.MessageLog(max_events=10)
    topic = mv.observe(Kept(), log)
    by_id: dict[int, bytes] = {}
    for number in range(100):
        await topic.publish(b"%d" % number)
        for event_id, body in log.events["body"].items():
            assert by_id.setdefault(event_id, body) == body
    assert by_id == {number: b"%d" % number for number in range(100)}


async def test_a_large_body_is_not_kept_but_its_event_is():
    log, wire = mv.MessageLog(max_body=10), Kept()
    topic = mv.observe(wire, log)
    await topic.publish(b"x" * 10, attributes={"A": "1"})
    await topic.publish(b"y" * 11, attributes={"A": "1"})
    assert columns(log, "size", "body") == [(10, b"x" * 10), (11, None)]
    assert [a["A"] for a in log.events["attributes"]] == [["1"], ["1"]]
    assert log.messages["size"].tolist() == [10, 11]
    assert [message.body for message in wire.sent] == [b"x" * 10, b"y" * 11]
    small, large = log.messages.index
    assert log.message(small).body == b"x" * 10
    assert log.detail(large).body is None
    with pytest.raises(LookupError, match="11 bytes"):
        log.message(large)
    none = mv.MessageLog(max_body=0)
    await mv.observe(Kept(), none).publish(b"")
    await mv.observe(Kept(), none).publish(b"x")
    assert none.events["body"].tolist() == [b"", None]


async def test_a_body_that_is_not_kept_takes_no_room():
    log = mv.MessageLog(max_body=10, max_bytes=100_000)
    topic = mv.observe(Kept(), log)
    for number in range(100):
        await topic.publish(b"x" * 50_000)
        assert len(log.events) == number + 1
    assert (len(log), log.dropped) == (100, 0)


@pytest.mark.parametrize("max_events", [1, 2, 3])
async def test_the_newest_event_stays_however_small_the_log(max_events: int):
    log = mv.MessageLog(max_events=max_events)
    topic = mv.observe(Kept(), log)
    for number in range(10):
        await topic.publish(b"%d" % number)
        assert log.events["body"].iloc[-1] == b"%d" % number
        assert len(log) <= max_events


async def test_a_bounded_log_that_runs_long_does_not_grow():
    log, bare = mv.MessageLog(max_events=32), mv.connect("memory://")
    backend = mv.observe(bare, log)
    topic = backend.topic("t")

    async def run(messages: int) -> None:
        for number in range(messages):
            await topic.publish(b"x" if number % 3 else b"bad")
            if number % 30 == 0:
                await log.settled(5)
                await log.replay()
                await log.settled(5)
        await log.settled(5)
        assert len(log.messages) <= 32

    async def receiver(message: mv.Message) -> None:
        if message.body == b"bad":
            raise ValueError

    dead_letters = bare.server("t.default.dead")  # they would pile up there
    async with backend.server("t", max_attempts=1).running(receiver), dead_letters.running(accept):
        await run(100)
        tracemalloc.start()
        try:
            await run(100)
            before, _ = tracemalloc.get_traced_memory()
            await run(800)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(log) <= 32
    assert after - before < 60_000  # 100 bytes a message would be more
