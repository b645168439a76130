"""Breakpoints hold live messages: looked at, edited, let go, dropped or failed, and never for ever."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4
from msgviz.observing.breakpoints import At, Held
from msgviz.observing.expression import QueryError
from tests.flows import columns, observed, states
from tests.queues import Taking

CHAIN = (lz4, base64)


@asynccontextmanager
async def flow(receiver: Any = None, **options: Any) -> AsyncIterator[tuple[mv.MessageLog, mv.Topic, Any]]:
    """Topic t with one server, whose layers are observed; and what was received."""
    taking = receiver or Taking()
    log = mv.MessageLog()
    async with asyncio.timeout(20), mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        backend.server("t", decorators=CHAIN, concurrency=4, backoff=0, **options).start(taking)
        yield log, backend.topic("t", decorators=CHAIN), taking


async def test_what_matches_is_held_and_the_others_pass() -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint("topic == 't' and attributes.str['source'] == 'web'", side="publish")
        publishing = asyncio.create_task(topic.publish(b"held", attributes={"source": "web"}))
        held = await bp.next()
        await topic.publish(b"passes", attributes={"Source": "till"})
        await topic.publish(b"passes too")
        assert held.message.body == b"held"
        assert (held.side, held.topic, held.layer) == ("publish", "t", "lz4")
        assert not publishing.done()
        held.resume()
        await publishing
        await log.settled(5)
        assert taking.bodies == [b"passes", b"passes too", b"held"]
        assert list(log.holds["ended"]) == ["resumed"]
        assert bp.hits == 1
        assert bp.held == []


@pytest.mark.parametrize(
    "condition",
    [
        "topic == 'a'",
        "topic == 'a' and size > 1",
        "size > 1 and (topic == 'a' and layer == 'gzip')",
        "(topic == 'a') & (size > 1)",
        "topic == 'a' & size > 1",
        "topic == 'a' or size > 1",
        "not topic == 'a'",
        "topic != 'a' and size > 1",
        "'a' == topic and size > 1",
        "topic in ['a', 'b'] and size > 1",
        "topic not in ('a', 'b')",
        "subscription == 's'",
        "attributes.str['Source'] == 'web'",
        "attributes.str['source'] in ['web', 'till'] and topic == 'a'",
        "attributes.str['Source'] == 'web' or topic == 'b'",
        "text == 'xx' and topic == 'a'",
    ],
)
def test_what_is_asked_first_changes_no_answer(condition: str) -> None:
    """A condition that is asked for its texts first, and the same one where nothing can be asked first."""
    log = mv.MessageLog()
    quick, plain = log.breakpoint(condition, layer=None), log.breakpoint(f"not (not ({condition}))")
    answers = set()
    for topic, subscription, layer, source, body in itertools.product(
        ("a", "b", "c"), (None, "s"), ("gzip", "lz4"), ("web", "till", None), (b"x", b"xx")
    ):
        message = mv.Message(body, {"Source": source} if source else {})
        at = At("receive" if subscription else "publish", layer, -1, topic, subscription, "m-1")
        answers.add(quick.matches(message, at))
        assert quick.matches(message, at) == plain.matches(message, at), (topic, subscription, layer, source)
    assert answers == {True, False}
    assert quick.error is plain.error is None


@pytest.mark.parametrize("side", ["publish", "receive"])
async def test_an_edited_message_goes_on_in_its_place(side: str) -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint(side=side)
        publishing = asyncio.create_task(topic.publish(b"{}", attributes={"A": "1"}))
        held = await bp.next()
        held.resume(mv.Message(b"edited", {"B": "2"}))
        await publishing
        await log.settled(5)
        (message,) = taking.messages
        assert message.body == b"edited"
        assert {k: v for k, v in message.attributes.items() if k != "Msgviz-Id"} == {"B": "2"}
        assert message.attempt == 1
        assert states(log) == {b"edited" if side == "publish" else b"{}": "ok"}
        assert len(log.messages) == 1  # it is the same message still
        assert list(log.holds["ended"]) == ["edited"]


async def test_a_dropped_publish_goes_well_for_the_publisher_and_nowhere_else() -> None:
    async with flow() as (log, topic, taking):
        with log.breakpoint(side="publish") as bp:
            publishing = asyncio.create_task(topic.publish(b"x"))
            (await bp.next()).drop()
            await publishing
        await log.settled(5)
        assert taking.bodies == []
        assert columns(log, "operation", "outcome", "error") == [
            ("publish", "error", "dropped at a breakpoint")
        ]
        assert states(log) == {b"x": "dead"}  # and so it can be replayed
        await log.replay()
        await log.settled(5)
        assert taking.bodies == [b"x"]


async def test_a_dropped_receive_is_settled_and_comes_no_more() -> None:
    async with flow() as (log, topic, taking):
        with log.breakpoint(side="receive") as bp:
            await topic.publish(b"x")
            (await bp.next()).drop()
            await log.settled(5)
        assert taking.bodies == []
        assert states(log) == {b"x": "dead"}
        assert columns(log, "operation", "attempt", "error")[1:] == [
            ("receive", 1, "dropped at a breakpoint")
        ]


async def test_a_failed_publish_raises_for_the_publisher() -> None:
    async with flow() as (log, topic, taking):
        with log.breakpoint(side="publish") as bp:
            publishing = asyncio.create_task(topic.publish(b"x"))
            (await bp.next()).fail(ValueError("by hand"))
            with pytest.raises(ValueError, match="by hand"):
                await publishing
        assert taking.bodies == []
        assert columns(log, "outcome", "error_type", "error") == [("error", "ValueError", "by hand")]


async def test_a_failed_receive_is_delivered_again() -> None:
    async with flow() as (log, topic, taking):
        with log.breakpoint("attempt == 1", side="receive") as bp:
            await topic.publish(b"x")
            (await bp.next()).fail(ValueError("by hand"))
            await log.settled(5)
        (message,) = taking.messages
        assert message.attempt == 2
        assert columns(log, "operation", "error")[1][1] == "by hand"


@pytest.mark.parametrize(
    ("side", "layer", "body"),
    [
        ("publish", "base64", b"\x04\x22\x4d\x18"),
        ("publish", 3, b"BCJNGG"),
        ("receive", "base64", b"BCJNGG"),
        ("receive", "lz4", b"\x04\x22\x4d\x18"),
        ("receive", 0, b"hello"),
    ],
)
async def test_at_a_layer_it_is_held_in_front_of_it(side: str, layer: Any, body: bytes) -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint("topic == 't'", side=side, layer=layer)
        publishing = asyncio.create_task(topic.publish(b"hello"))
        held = await bp.next()
        assert layer in (held.layer, held.depth)
        assert held.message.body.startswith(body)
        held.resume()
        await publishing
        await log.settled(5)
        assert taking.bodies == [b"hello"]
        assert log.layers["problem"].isna().all()


async def test_it_steps_from_layer_to_layer() -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint("text == 'hello'", side="publish")
        publishing = asyncio.create_task(topic.publish(b"hello"))
        held = await bp.next()
        seen: list[Any] = [held.layer]
        for _ in range(2):
            expected = held.next_layer
            held.step()
            held = await bp.next()
            assert held.layer == expected
            seen.append((held.layer, held.depth))
        assert held.next_layer is None
        held.step()  # there is no further layer
        await publishing
        await log.settled(5)
        assert seen == ["lz4", ("base64", 2), ("memory t", 3)]
        assert taking.bodies == [b"hello"]
        assert bp.hits == 1
        assert not log.stops.stepping


async def test_a_receive_steps_inward_in_its_own_subscription_alone() -> None:
    log = mv.MessageLog()
    async with asyncio.timeout(20), mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        taken = {"one": Taking(), "other": Taking()}
        for name, taking in taken.items():
            backend.server("t", subscription=name, decorators=CHAIN).start(taking)
        bp = log.breakpoint(side="receive", layer="base64")
        await backend.topic("t", decorators=CHAIN).publish(b"hello")
        first, second = await bp.next(), await bp.next()
        assert (first.next_layer, second.next_layer) == ("lz4", "lz4")
        first.step()
        second.resume()
        held = await bp.next()
        assert (held.subscription, held.layer) == (first.subscription, "lz4")
        held.step()
        held = await bp.next()
        assert (held.depth, held.next_layer) == (0, None)
        held.resume()
        await log.settled(5)
        assert [taking.bodies for taking in taken.values()] == [[b"hello"]] * 2
        assert not log.stops.stepping


async def test_without_observed_layers_there_is_none_to_step_to() -> None:
    log, backend = observed()
    bp = log.breakpoint(side="publish")
    publishing = asyncio.create_task(backend.topic("t", decorators=CHAIN).publish(b"x"))
    held = await bp.next()
    assert held.next_layer is None
    held.step()
    await publishing
    await backend.close()


async def test_what_went_on_is_told_but_not_kept() -> None:
    async with flow() as (log, topic, taking):
        kept: list[weakref.ref[Held]] = []
        bp = log.breakpoint(side="receive")
        for number in range(3):
            await topic.publish(b"%d" % number)
            async with asyncio.timeout(5):
                while not bp.held:
                    await asyncio.sleep(0)
            (held,) = bp.held
            kept.append(weakref.ref(held))
            assert 0 < held.seconds_left <= 60
            held.resume()
            del held
            await log.settled(5)
        gc.collect()
        assert [there() is None for there in kept] == [True, True, False]  # nobody asked for the last one yet
        assert [hold.ended for hold in log.stops.lately(2)] == ["resumed"] * 2
        numbers = [hold.number for hold in log.stops.lately(9)]
        assert numbers == sorted(numbers, reverse=True)
        assert taking.bodies == [b"0", b"1", b"2"]


async def test_an_edit_between_two_layers_shows_in_the_ledger() -> None:
    async with flow(max_attempts=1) as (log, topic, _):
        with log.breakpoint(side="receive", layer="lz4") as bp:
            await topic.publish(b"hello" * 20)
            held = await bp.next()
            held.resume(held.message.with_body(b"spoiled"))
            await log.settled(5)
        told = log.layers[log.layers["problem"].notna()]
        assert list(told["layer"]) == ["lz4"]
        assert states(log) == {b"hello" * 20: "dead"}


async def test_a_failure_by_hand_is_not_blamed_on_a_layer() -> None:
    async with flow(max_attempts=1) as (log, topic, _):
        with log.breakpoint(side="receive", layer="lz4") as bp:
            await topic.publish(b"hello")
            (await bp.next()).fail(ValueError("by hand"))
            await log.settled(5)
        assert list(log.layers["problem"].dropna()) == [
            "was failed at a breakpoint behind it with ValueError: by hand"
        ]
        assert states(log) == {b"hello": "dead"}


async def test_a_drop_at_a_layer_is_told_and_settled() -> None:
    async with flow() as (log, topic, taking):
        with log.breakpoint(side="receive", layer="base64") as bp:
            await topic.publish(b"x")
            (await bp.next()).drop()
            await log.settled(5)
        with log.breakpoint(side="publish", layer="base64") as bp:
            publishing = asyncio.create_task(topic.publish(b"y"))
            (await bp.next()).drop()
            await publishing
            await log.settled(5)
        assert taking.bodies == []
        assert states(log) == {b"x": "dead", b"y": "dead"}


async def test_it_goes_on_by_itself_in_time() -> None:
    async with flow() as (log, topic, taking):
        log.breakpoint(side="publish", timeout=0.02)
        await topic.publish(b"x")
        await log.settled(5)
        assert taking.bodies == [b"x"]
        assert list(log.holds["ended"]) == ["timed out"]
        assert log.holds["lasted"].iloc[0].total_seconds() >= 0.019


async def test_a_removed_breakpoint_lets_go() -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint(side="publish")
        publishing = [asyncio.create_task(topic.publish(b"%d" % n)) for n in range(3)]
        while len(bp.held) < 3:
            await asyncio.sleep(0)
        bp.remove()
        bp.remove()
        await asyncio.gather(*publishing)
        await log.settled(5)
        assert sorted(taking.bodies) == [b"0", b"1", b"2"]
        assert set(log.holds["ended"]) == {"released"}


async def test_a_shutdown_releases_what_it_waits_for() -> None:
    log, backend = observed()
    taking = Taking()
    server = backend.server("t", concurrency=2)
    server.start(taking)
    bp = log.breakpoint(side="receive")
    await backend.topic("t").publish(b"x")
    await bp.next()
    async with asyncio.timeout(5):
        await server.shutdown()
    assert taking.bodies == [b"x"]
    assert list(log.holds["ended"]) == ["released"]
    await backend.close()


async def test_closing_the_backend_releases_all() -> None:
    log, backend = observed()
    taking = Taking()
    backend.server("t").start(taking)
    bp = log.breakpoint()
    publishing = asyncio.create_task(backend.topic("t").publish(b"x"))
    (await bp.next()).resume()
    await publishing
    await bp.next()  # being received
    async with asyncio.timeout(5):
        await backend.close()
    assert taking.bodies == [b"x"]


async def test_a_publisher_who_gives_up_is_not_held_for() -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint(side="publish")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await topic.publish(b"x")
        assert bp.held == []
        assert list(log.holds["ended"]) == ["cancelled"]
        assert taking.bodies == []


async def test_it_goes_on_once() -> None:
    async with flow() as (log, topic, _):
        bp = log.breakpoint(side="publish")
        publishing = asyncio.create_task(topic.publish(b"x"))
        held = await bp.next()
        held.resume()
        for again in (held.resume, held.drop, held.step, lambda: held.fail(ValueError())):
            with pytest.raises(mv.MsgvizError, match="not held any more: it was resumed"):
                again()
        await publishing


async def test_another_thread_may_let_it_go() -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint(side="publish")
        publishing = asyncio.create_task(topic.publish(b"x"))
        held = await bp.next()
        thread = threading.Thread(target=held.resume, args=[held.message.with_body(b"y")])
        thread.start()
        await publishing
        thread.join()
        await log.settled(5)
        assert taking.bodies == [b"y"]


async def test_next_waits_no_longer_than_told() -> None:
    bp = mv.MessageLog().breakpoint("size > 3")
    with pytest.raises(TimeoutError):
        await bp.next(timeout=0.01)


async def test_two_callers_get_different_messages() -> None:
    async with flow() as (log, topic, _):
        bp = log.breakpoint(side="publish")
        both = asyncio.gather(bp.next(), bp.next())
        publishing = [asyncio.create_task(topic.publish(b"%d" % n)) for n in range(2)]
        first, second = await both
        assert {first.message.body, second.message.body} == {b"0", b"1"}
        bp.remove()
        await asyncio.gather(*publishing)


async def test_a_condition_that_fails_on_a_message_does_not_hold_it() -> None:
    async with flow() as (log, topic, taking):
        bp = log.breakpoint("attributes.str['N'].astype('int') > 3", side="publish")
        await topic.publish(b"no number", attributes={"N": "four"})
        await log.settled(5)
        assert taking.bodies == [b"no number"]
        assert "four" in (bp.error or "")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"condition": "tpoic == 't'"}, QueryError, "tpoic"),
        ({"condition": "topic =="}, QueryError, "Not an expression"),
        ({"condition": "'t'"}, QueryError, "not true or false"),
        ({"side": "both"}, ValueError, "side is 'publish' or 'receive'"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"layer": "gzip"}, ValueError, "no layer 'gzip'; there are none: observe a chain with layers=True"),
    ],
)
def test_what_cannot_be_a_breakpoint(arguments: Any, error: type[Exception], words: str) -> None:
    log = mv.MessageLog()
    with pytest.raises(error, match=words):
        log.breakpoint(**arguments)
    assert not log.stops


async def test_a_layer_that_is_not_there_is_named_with_those_that_are() -> None:
    async with flow() as (log, _, _taking):
        with pytest.raises(ValueError, match="no layer 'gzip'; there are base64, lz4, memory t"):
            log.breakpoint(layer="gzip", side="publish")


def test_fail_wants_an_exception_and_resume_a_message() -> None:
    async def run() -> None:
        async with flow() as (log, topic, _):
            bp = log.breakpoint(side="publish")
            publishing = asyncio.create_task(topic.publish(b"x"))
            held = await bp.next()
            with pytest.raises(TypeError, match="fail takes an exception"):
                held.fail("no")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="resume takes a Message"):
                held.resume(b"no")  # type: ignore[arg-type]
            held.resume()
            await publishing

    asyncio.run(run())
