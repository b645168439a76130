"""deduplicate: what was processed is skipped, what failed is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import deduplicate, with_options
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered
from tests.queues import bodies_left, turns


def by_body(message: mv.Message) -> bytes:
    return message.body


steps = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c", b"d"]),
        st.sampled_from([False, False, True]),
        st.just(0.0) | st.floats(0, 3),
    ),
    max_size=40,
)


@given(steps=steps, size=st.integers(1, 3), seconds=st.floats(1, 5))
@settings(max_examples=100)
def test_one_after_the_other_as_a_model_says(
    steps: list[tuple[bytes, bool, float]], size: int, seconds: float
) -> None:
    async def run() -> None:
        called: list[bytes] = []
        fails = False

        async def receive(message: mv.Message) -> None:
            called.append(message.body)
            if fails:
                raise ValueError

        receiver = deduplicate.decoder(receive, key=by_body, size=size, seconds=seconds)
        known: dict[bytes, float] = {}  # the key used last stands last
        for body, fails, pause in steps:
            await asyncio.sleep(pause)
            expected = list(called)
            if body in known and clock.now() >= known[body]:
                del known[body]
            if body in known:
                known[body] = known.pop(body)
            else:
                expected.append(body)
            try:
                await receiver(delivered(body))
            except ValueError:
                assert fails
            assert called == expected
            if called and called[-1] == body and body not in known and not fails:
                known[body] = clock.now() + seconds
                if len(known) > size:
                    del known[next(iter(known))]

    clock.run(run())


@given(st.lists(st.sampled_from(["ok", "fails", "is cancelled"]), min_size=1, max_size=8))
@settings(max_examples=60)
def test_of_those_that_come_at_once_one_is_processed_at_a_time_until_it_goes_well(fates: list[str]) -> None:
    async def run() -> None:
        calls: list[str] = []
        inside = 0

        async def receive(message: mv.Message) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            fate = message.attributes["Fate"]
            calls.append(fate)
            try:
                await asyncio.sleep(1)
                if fate == "fails":
                    raise ValueError
                if fate == "is cancelled":
                    raise asyncio.CancelledError
            finally:
                inside -= 1

        receiver = deduplicate.decoder(receive, key=by_body)
        messages = [delivered(b"same", Fate=fate) for fate in fates]
        results = await asyncio.gather(*map(receiver, messages), return_exceptions=True)
        processed = fates[: fates.index("ok") + 1] if "ok" in fates else fates
        assert calls == processed
        kinds = {"ok": type(None), "fails": ValueError, "is cancelled": asyncio.CancelledError}
        assert [type(result) for result in results] == [
            kinds[fate] if number < len(processed) else type(None) for number, fate in enumerate(fates)
        ]
        assert receiver._running == {}

    clock.run(run())


def test_one_that_is_cancelled_while_it_waits_leaves_the_others_alone() -> None:
    async def run() -> None:
        leave = asyncio.Event()
        calls: list[bytes] = []

        async def receive(message: mv.Message) -> None:
            calls.append(message.body)
            await leave.wait()
            if len(calls) == 1:
                raise ValueError

        receiver = deduplicate.decoder(receive, key=by_body)
        first, second, third = (asyncio.create_task(receiver(delivered(b"x"))) for _ in range(3))
        await turns()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not first.done()
        assert not third.done()
        leave.set()
        with pytest.raises(ValueError):  # noqa: PT011
            await first
        await third
        assert calls == [b"x", b"x"]

    clock.run(run())


def test_the_outcome_counts_even_where_nothing_can_be_remembered() -> None:
    async def run() -> None:
        calls: list[bytes] = []

        async def receive(message: mv.Message) -> None:
            calls.append(message.body)
            await asyncio.sleep(1 if message.body == b"x" else 0.5)

        receiver = deduplicate.decoder(receive, key=by_body, size=1, seconds=1e-300)
        await asyncio.gather(*(receiver(delivered(body)) for body in (b"x", b"x", b"y", b"y")))
        assert sorted(calls) == [b"x", b"y"]

    clock.run(run())


@pytest.mark.parametrize(
    ("options", "first", "second", "same"),
    [
        ({}, ("x", {"Msgviz-Id": "c.1."}), ("y", {"Msgviz-Id": "d.1.p", "K": "v"}), True),
        ({}, ("x", {"Msgviz-Id": "c.1."}), ("x", {"Msgviz-Id": "c.2."}), False),
        ({}, ("x", {"K": ["1", "2"]}), ("x", {"k": ["1", "2"]}), True),
        ({}, ("x", {"A": "1", "B": "2"}), ("x", {"B": "2", "A": "1"}), True),
        ({}, ("x", {"K": ["1", "2"]}), ("x", {"K": ["2", "1"]}), False),
        ({}, ("x", {}), ("y", {}), False),
        ({}, ("x", {}), ("x", {"K": "\ud800"}), False),
        ({}, ("x", {"Msgviz-Id": "no identity"}), ("x", {"Msgviz-Id": "no identity"}), True),
        ({}, ("x", {"Msgviz-Id": "c.."}), ("y", {"Msgviz-Id": "c.."}), False),
        ({"key": "order"}, ("x", {"Order": "1"}), ("y", {"Order": "1"}), True),
        ({"key": "order"}, ("x", {"Order": ["1", "2"]}), ("y", {"Order": ["1", "3"]}), False),
        ({"key": "order"}, ("x", {"Order": "1" * 999}), ("y", {"Order": "1" * 999}), True),
        ({"key": "order"}, ("x", {"Order": "1" * 999}), ("y", {"Order": "1" * 998}), False),
        ({"key": "order"}, ("x", {}), ("x", {}), False),
        ({"key": lambda m: None}, ("x", {}), ("x", {}), False),
        ({"key": lambda m: (m.body, 3)}, ("x", {"A": "1"}), ("x", {}), True),
        ({"key": lambda m: m.body * 99}, ("x", {}), ("x", {}), True),
    ],
)
async def test_what_makes_two_messages_the_same(options: Any, first: Any, second: Any, same: bool) -> None:
    taken = Taken()
    receiver = deduplicate.decoder(taken, **options)
    for body, attributes in (first, second):
        await receiver(mv.Message(body.encode(), attributes))
    assert len(taken.messages) == (1 if same else 2)


async def test_a_key_that_cannot_be_made_fails_the_message() -> None:
    taken = Taken()
    with pytest.raises(ValueError, match="Expecting value"):
        await deduplicate.decoder(taken, key=lambda m: m.json()["id"])(mv.Message(b""))
    assert taken.messages == []


def test_what_is_remembered_is_bounded() -> None:
    async def run() -> None:
        taken = Taken()
        receiver = deduplicate.decoder(taken, size=100, key="K")
        for number in range(1000):
            await receiver(delivered(b"x", K=f"{number:0>5000}"))
        assert len(receiver._processed._until) == 100
        for number in range(900, 1000):
            await receiver(delivered(b"x", K=f"{number:0>5000}"))
        assert len(taken.messages) == 1000
        await receiver(delivered(b"x", K=f"{0:0>5000}"))
        assert len(taken.messages) == 1001

    clock.run(run())


async def test_the_key_that_was_not_used_for_longest_goes_first() -> None:
    taken = Taken()
    receiver = deduplicate.decoder(taken, key=by_body, size=2)
    for body in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await receiver(delivered(body))
    assert taken.bodies == [b"a", b"b", b"c", b"b"]


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:

            def act(message: mv.Message) -> None:
                if message.body == b"fails at first" and message.attempt == 1:
                    raise ValueError

            taken = Taken(act)
            chain = [with_options(deduplicate, key="Order")]
            server = backend.server("t", decorators=chain, concurrency=3, backoff=0)
            topic = backend.topic("t")
            async with server.running(taken):
                for body, order in [(b"1", "a"), (b"2", "b"), (b"3", "a"), (b"fails at first", "c")]:
                    await topic.publish(body, attributes={"Order": order})
                await taken.count(4)
            assert taken.bodies == [b"1", b"2", b"fails at first", b"fails at first"]
            assert await bodies_left(backend) == []

    clock.run(run())
