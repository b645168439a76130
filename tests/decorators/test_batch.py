"""batch: messages that are published at about the same time travel as one."""

from __future__ import annotations

import asyncio
import struct
import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, batch, lz4, with_options
from tests.decorators import clock, laws
from tests.decorators.batches import sizes, together, unpacked
from tests.flows import Kept, accept, until
from tests.queues import Taking, drained, numbered, turns

ANY_BODY = st.binary(max_size=20) | st.sampled_from([b"MVB\x01", b"\0" * 4])


class Held(Kept):
    """A topic that takes a message when it is told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(error=error)
        self.waiting = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def send(self, message: mv.Message, delay: float) -> None:
        self.waiting += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await turns()  # to let go of what it holds takes a while
            self.cancelled += 1
            raise
        await super().send(message, delay)


# -- what travels


@given(st.lists(laws.deliveries(ANY_BODY), min_size=1, max_size=8), st.integers(1, 8))
@settings(max_examples=100)
def test_every_message_comes_out_as_it_went_in(messages: list[mv.Message], size: int) -> None:
    before = [laws.told(message) for message in messages]

    async def run() -> tuple[Kept, list[mv.Message]]:
        kept, taking = Kept(), Taking()
        topic = batch.encoder(kept, size=size, wait=0)
        await asyncio.gather(*(topic.send(message, 0.0) for message in messages))
        receiver: Any = batch.decoder(taking)
        for wire in kept.sent:
            wire.attempt, wire.source = 3, mv.Source("t", "s", 5)
            await receiver(wire)
        return kept, taking.messages

    kept, got = asyncio.run(run())
    assert [(one.body, one.attributes.to_dict()) for one in got] == [one[:2] for one in before]
    assert {(one.attempt, one.source, one.tag) for one in got} == {(3, mv.Source("t", "s", 5), None)}
    assert [laws.told(message) for message in messages] == before
    whole, rest = divmod(len(messages), size)
    assert sizes(kept) == [size] * whole + [rest] * bool(rest)


def test_the_envelope_is_as_it_is_written_down() -> None:
    attributes = b'{"A":["1","\\u2605"],"B":["x"]}'
    body = b"".join([b"MVB\x01", struct.pack(">I", len(attributes)), attributes, b"\0\0\0\x02\xff\0",
                     b"\0\0\0\x02{}", b"\0\0\0\x00"])  # fmt: skip

    async def run() -> mv.Message:
        kept = Kept()
        topic = batch.encoder(kept, wait=0)
        await asyncio.gather(
            topic.publish(b"\xff\0", attributes={"a": ["1", "★"], "B": "x"}), topic.publish(b"")
        )
        return kept.sent[0]

    wire = asyncio.run(run())
    assert wire == mv.Message(body, {"Msgviz-Batch": "2"})
    assert unpacked(wire) == [mv.Message(b"\xff\0", {"A": ["1", "★"], "B": "x"}), mv.Message(b"")]


async def test_attributes_that_are_no_unicode_text() -> None:
    kept = Kept()
    await batch.encoder(kept, wait=0).publish(b"x", attributes={"k\udc80": "\ud800"})
    assert unpacked(kept.sent[0]) == [mv.Message(b"x", {"k\udc80": "\ud800"})]


@pytest.mark.parametrize(
    ("chain", "number"),
    [((batch,), 3), ((lz4, batch, base64), 3), ((batch, lz4), 3), ((batch, batch), 1)],  # of 3 batches
)
async def test_in_a_chain_through_a_server(chain: Any, number: int) -> None:
    async with mv.connect("memory://") as backend:
        got = Taking()
        topic = backend.topic("t", decorators=chain)
        server = backend.server("t", decorators=chain)
        async with server.running(got):
            assert await together(topic, *numbered(250)) == [None] * 250
            await until(lambda: len(got.messages) == 250)
        assert got.bodies == numbered(250)
        assert [m.attributes for m in got.messages] == [{}] * 250
        await together(topic, *numbered(250))
        assert len(await drained(backend, "t")) == number


async def test_what_is_no_batch_passes_untouched() -> None:
    got = Taking()
    message = laws.delivered(b"MVB\x01")
    receiver: Any = batch.decoder(got)
    await receiver(message)
    assert got.messages[0] is message


# -- when a batch leaves


def test_a_batch_leaves_when_it_is_full_or_in_time() -> None:
    async def run() -> None:
        kept = Kept()
        topic = batch.encoder(kept, size=3, wait=timedelta(seconds=10))
        began = clock.now()
        await together(topic, *numbered(6))
        assert (clock.now() - began, sizes(kept)) == (0, [3, 3])
        first = asyncio.create_task(topic.publish(b"first"))
        await asyncio.sleep(9)
        await topic.publish(b"second")
        await first
        assert clock.now() - began == pytest.approx(10)
        assert sizes(kept) == [3, 3, 2]

    clock.run(run())


async def test_without_a_wait_what_is_published_in_one_go_travels_together() -> None:
    kept = Kept()
    topic = batch.encoder(kept, wait=0)
    await together(topic, *numbered(5))
    await topic.publish(b"alone")
    assert sizes(kept) == [5, 1]


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 120))
@settings(max_examples=100)
def test_no_batch_is_too_large_but_of_one_that_is(lengths: list[int], max_bytes: int) -> None:
    async def run() -> Kept:
        kept = Kept()
        await together(batch.encoder(kept, wait=0, max_bytes=max_bytes), *(b"x" * n for n in lengths))
        return kept

    kept = asyncio.run(run())
    assert [len(one.body) for wire in kept.sent for one in unpacked(wire)] == lengths
    each = [(len(wire.body), len(unpacked(wire))) for wire in kept.sent]
    assert all(size <= max_bytes or number == 1 for size, number in each)
    # and none is smaller than it need be
    for (size, _), wire in zip(each, kept.sent[1:], strict=False):
        assert size + len(batch.pack(unpacked(wire)[0])) > max_bytes


async def test_different_delays_do_not_travel_together() -> None:
    kept = Kept()
    topic = batch.encoder(kept, wait=0.001)
    await asyncio.gather(*(topic.publish(b"%d" % n, delay=n % 3) for n in range(9)))
    assert sorted(kept.delays) == [0, 1, 2]
    for wire, delay in zip(kept.sent, kept.delays, strict=True):
        assert [int(one.body) % 3 for one in unpacked(wire)] == [delay] * 3


async def test_each_subscription_collects_for_itself() -> None:
    async with mv.connect("memory://") as backend:
        await backend.declare("t", "a", "b")
        topic = batch.encoder(backend.topic("t"), size=7, wait=0.001)
        a, b = topic.to_subscription("a"), topic.to_subscription("b")
        assert mv.chain(a).names == ["batch ≤7", "memory t"]
        await asyncio.gather(topic.publish(b"all"), a.publish(b"for a"), b.publish(b"for b"))
        for name in ("a", "b"):
            got = [one.body for wire in await drained(backend, "t", name) for one in unpacked(wire)]
            assert sorted(got) == [b"all", b"for %b" % name.encode()]


def test_publishers_in_threads() -> None:
    kept = Kept()
    topic = batch.encoder(kept, size=4, wait=0.001)
    threads = [threading.Thread(target=lambda: asyncio.run(together(topic, *numbered(10)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.body for wire in kept.sent for one in unpacked(wire)) == sorted(numbered(10) * 5)


# -- how a publish ends


async def test_laws() -> None:
    quick = with_options(batch, wait=0)
    await laws.forwards_the_delay(quick)
    await laws.raises_what_the_topic_raises(quick)
    await laws.lets_a_publish_be_cancelled(quick)
    for message in (laws.delivered(), mv.Message(b"x")):
        await laws.hands_on_what_came(batch, message)
        await laws.raises_what_the_receiver_raises(batch, message)
        await laws.lets_cancellation_through(batch, message)
        await laws.leaves_the_receivers_own_timeout_alone(batch, message)
    await laws.takes_many_at_once(batch)
    await laws.decorates_plain_functions(batch)


async def test_a_publish_returns_when_the_system_has_taken_its_batch() -> None:
    topic = Held()
    tasks = [asyncio.create_task(batch.encoder(topic, wait=0).publish(b"x")) for _ in range(1)]
    await until(lambda: topic.waiting)
    await turns()
    assert not any(task.done() for task in tasks)
    topic.go.set()
    await asyncio.gather(*tasks)
    assert sizes(topic) == [1]


async def test_all_publishers_of_a_batch_are_told_its_error() -> None:
    error = ConnectionError("gone")
    kept = Kept(error=error)
    topic = batch.encoder(kept, size=3, wait=0)
    assert await together(topic, *numbered(3)) == [error] * 3
    kept.error = None
    assert await together(topic, *numbered(3)) == [None] * 3  # the next batch knows nothing of it
    assert sizes(kept) == [3]


async def test_who_is_cancelled_in_time_is_not_sent_and_harms_nobody() -> None:
    kept = Kept()
    topic = batch.encoder(kept, size=4, wait=0.02)
    tasks = [asyncio.create_task(topic.publish(body)) for body in numbered(3)]
    await turns(3)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, False]
    assert tasks[0].exception() is tasks[2].exception() is None
    assert [one.body for one in unpacked(kept.sent[0])] == [b"0", b"2"]


async def test_who_is_cancelled_on_the_way_harms_nobody() -> None:
    topic = Held()
    outer = batch.encoder(topic, size=3)
    tasks = [asyncio.create_task(outer.publish(body)) for body in numbered(3)]
    await until(lambda: topic.waiting)
    tasks[0].cancel()
    await turns()
    assert [task.done() for task in tasks] == [True, False, False]
    topic.go.set()
    assert await asyncio.gather(*tasks[1:]) == [None, None]
    assert tasks[0].cancelled()
    assert sizes(topic) == [3]
    assert topic.cancelled == 0


async def test_a_batch_that_nobody_waits_for_any_more_is_cancelled() -> None:
    topic = Held()
    outer = batch.encoder(topic, size=2)
    tasks = [asyncio.create_task(outer.publish(body)) for body in numbered(2)]
    await until(lambda: topic.waiting)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert topic.cancelled == 1  # by now: the last publisher has waited for it
    # while it collects, too
    lonely = asyncio.create_task(outer.publish(b"x"))
    await turns()
    lonely.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lonely
    topic.go.set()
    assert await together(outer, *numbered(2)) == [None, None]
    assert sizes(topic) == [2]


async def test_a_timeout_of_one_publisher_is_its_own() -> None:
    topic = Held()
    outer = batch.encoder(topic, size=2)
    patient = asyncio.create_task(outer.publish(b"patient"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await outer.publish(b"impatient")
    topic.go.set()
    await patient
    assert sizes(topic) == [2]


@given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "cancel", "turn", "fail"]), st.integers(0, 30)), max_size=40
    ),
    st.integers(1, 4),
)
@settings(max_examples=100)
def test_whatever_happens_each_message_is_sent_once_or_its_publisher_told(
    steps: list[tuple[str, int]], size: int
) -> None:
    async def run() -> None:
        kept = Kept()
        topic = batch.encoder(kept, size=size, wait=0)
        tasks: list[asyncio.Task[None]] = []
        for step, number in steps:
            if step == "publish":
                tasks.append(asyncio.create_task(topic.publish(b"%d" % len(tasks))))
            elif step == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif step == "turn":
                await turns(number % 4)
            else:
                kept.error = ConnectionError("gone") if number % 2 else None
        await asyncio.gather(*tasks, return_exceptions=True)
        sent = [int(one.body) for wire in kept.sent for one in unpacked(wire)]
        assert len(sent) == len(set(sent))
        for number, task in enumerate(tasks):
            if not task.cancelled():
                assert (task.exception() is None) == (number in sent)
        assert len(asyncio.all_tasks()) == 1  # nothing is left behind

    asyncio.run(run())


# -- options


@pytest.mark.parametrize("option", ["size", "max_bytes", "wait"])
def test_wrong_options(option: str) -> None:
    for wrong in (-1, float("nan")) if option == "wait" else (0, -1):
        with pytest.raises(ValueError, match=option):
            batch.encoder(Kept(), **{option: wrong})
    for wrong in ("1", None, True):
        with pytest.raises(TypeError, match=option):
            batch.encoder(Kept(), **{option: wrong})


def test_the_layers() -> None:
    assert mv.chain(batch.encoder(Kept(), size=5)).names == ["batch ≤5", "kept kept"]
    assert mv.chain(batch.decoder(accept)).names == ["batch", "accept"]
