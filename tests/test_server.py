"""The life of a server: serving, swapping its receiver, and how it shares the loop."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

import msgviz as mv
from tests.flows import accept, until
from tests.queues import Holding, bodies_left


@pytest.fixture
def backend() -> mv.Backend:
    return mv.connect("memory://")


async def test_serve_blocks_until_shutdown(backend: mv.Backend) -> None:
    server = backend.server("t")
    assert not server.serving
    receiver = Holding()
    serving = asyncio.create_task(server.serve(receiver))
    await backend.topic("t").publish(b"1")
    await receiver.entered.wait()
    assert server.serving
    assert not serving.done()
    ending = asyncio.create_task(server.shutdown())
    await backend.topic("t").publish(b"2")
    await asyncio.sleep(0)
    assert not ending.done()  # the one in flight is to finish
    assert not serving.done()
    receiver.leave.set()
    await ending
    await serving
    assert receiver.done == [b"1"]
    assert receiver.cancelled == 0
    assert not server.serving
    assert await bodies_left(backend) == [b"2"]


async def test_an_idle_server_shuts_down(backend: mv.Backend) -> None:
    server = backend.server("t", concurrency=3)
    serving = asyncio.create_task(server.serve(accept))
    await until(lambda: server.serving)
    await server.shutdown(timeout=30)
    await serving


async def test_running_serves_in_its_block(backend: mv.Backend) -> None:
    receiver = Holding()
    receiver.leave.set()
    server = backend.server("t")
    async with server.running(receiver) as same:
        assert same is server
        await backend.topic("t").publish(b"1")
        await receiver.entered.wait()
    assert not server.serving
    await backend.topic("t").publish(b"2")
    assert receiver.done == [b"1"]
    assert await bodies_left(backend) == [b"2"]


async def test_running_shows_the_error_of_its_block(backend: mv.Backend) -> None:
    server = backend.server("t", backoff=lambda attempt: 1 // 0)
    failing = asyncio.Event()

    async def receive(message: mv.Message) -> None:
        failing.set()
        raise ValueError("no")

    await backend.topic("t").publish(b"x")

    async def run() -> None:
        async with server.running(receive):
            await failing.wait()
            raise KeyError("of the block")

    with pytest.raises(KeyError, match="of the block"):
        await run()
    assert not server.serving
    with pytest.raises(mv.ServerClosed):
        server.start(accept)


async def test_start_swaps_the_receiver_for_what_follows(backend: mv.Backend) -> None:
    first, second = Holding(), Holding()
    second.leave.set()
    server = backend.server("t", concurrency=2)
    server.start(first)
    await backend.topic("t").publish(b"1")
    await first.entered.wait()
    server.start(second)
    await backend.topic("t").publish(b"2")
    await second.entered.wait()
    assert (first.done, second.done) == ([], [b"2"])
    first.leave.set()  # what is in flight stays with the receiver it had
    await server.shutdown()
    assert (first.done, second.done) == ([b"1"], [b"2"])


async def test_start_then_shutdown_at_once(backend: mv.Backend) -> None:
    server = backend.server("t")
    await backend.topic("t").publish(b"1")
    server.start(accept)
    await server.shutdown()
    assert not server.serving
    with pytest.raises(mv.ServerClosed):
        await server.serve(accept)


async def test_a_server_that_was_shut_down(backend: mv.Backend) -> None:
    for server in (backend.server("t"), backend.server("t")):
        await server.shutdown()
        await server.shutdown()
        for use in (server.serve, server.start):
            with pytest.raises(mv.ServerClosed, match="t/default"):
                await use(accept)  # type: ignore[misc]
        with pytest.raises(mv.ServerClosed):
            async with server.running(accept):
                pass


async def test_one_server_serves_once_at_a_time(backend: mv.Backend) -> None:
    server = backend.server("t")
    server.start(accept)
    with pytest.raises(mv.MsgvizError, match="already"):
        await server.serve(accept)  # before the background had its turn
    await asyncio.sleep(0)
    with pytest.raises(mv.MsgvizError, match="already"):
        await server.serve(accept)
    await server.shutdown()

    server = backend.server("t")
    serving = asyncio.create_task(server.serve(accept))
    await until(lambda: server.serving)
    with pytest.raises(mv.MsgvizError, match="already"):
        await server.serve(accept)
    with pytest.raises(mv.MsgvizError, match="already"):
        server.start(accept)
    await server.shutdown()
    await serving


@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("plain", [True, False])
async def test_no_more_than_concurrency_at_a_time(backend: mv.Backend, concurrency: int, plain: bool) -> None:
    count = 60
    lock = threading.Lock()
    now = most = done = 0

    def enter(by: int) -> None:
        nonlocal now, most, done
        with lock:
            now += by
            most = max(most, now)
            done += by < 0

    async def receive(message: mv.Message) -> None:
        enter(1)
        for _ in range(3):
            await asyncio.sleep(0)
        enter(-1)
        if message.attempt == 1 and message.body[-1:] in b"357":
            raise ValueError("again")

    together = threading.Barrier(concurrency)

    def receive_plain(message: mv.Message) -> None:
        enter(1)
        together.wait(timeout=30)
        enter(-1)

    server = backend.server("t", concurrency=concurrency, backoff=0)
    if plain:
        count = 6 * concurrency
    total = count if plain else count + count * 3 // 10
    async with server.running(receive_plain if plain else receive):
        for number in range(count):
            await backend.topic("t").publish(b"%d" % number)
        await until(lambda: done == total)
    assert most == concurrency


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "2", None])
def test_what_is_no_concurrency(backend: mv.Backend, concurrency: Any) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        backend.server("t", concurrency=concurrency)


async def test_the_loop_has_its_turn_under_full_load(backend: mv.Backend) -> None:
    count = 200_000
    received = 0
    all_in = asyncio.Event()

    async def receive(message: mv.Message) -> None:  # never suspends
        nonlocal received
        received += 1
        if received == count:
            all_in.set()

    topic = backend.topic("t")
    published = 0
    turns_of_publishing: list[int] = []
    turns_of_receiving: list[int] = []

    async def tick() -> None:
        while not all_in.is_set():
            (turns_of_receiving if received else turns_of_publishing).append(received or published)
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    for _ in range(count):
        await topic.publish(b"x")
        published += 1
    async with backend.server("t", concurrency=4).running(receive):
        await all_in.wait()
    await ticking
    # Others ran again and again, and never had to wait for a large part of the messages.
    for turns in (turns_of_publishing, turns_of_receiving):
        gaps = [after - before for before, after in zip([0, *turns], [*turns, count], strict=True)]
        assert max(gaps) < count // 4


async def test_a_flow_through_receivers_gives_the_loop_its_turn(backend: mv.Backend) -> None:
    """Receivers that publish what they receive, none of which ever waits."""
    hops = 100_000
    ended = asyncio.Event()
    hop = 0

    async def receive(message: mv.Message) -> None:
        nonlocal hop
        hop += 1
        if hop < hops:
            await topic.publish(message.body)
        else:
            ended.set()

    topic = backend.topic("t")
    turns: list[int] = []

    async def tick() -> None:
        while not ended.is_set():
            turns.append(hop)
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    async with backend.server("t").running(receive):
        await topic.publish(b"x")
        await ended.wait()
    await ticking
    assert max(after - before for before, after in zip([0, *turns], [*turns, hops], strict=True)) < hops // 4


def test_backoff() -> None:
    backoff = mv.Backoff(first=0.5, factor=3, maximum=10)
    assert [backoff(attempt) for attempt in (1, 2, 3, 4, 5, 10**6)] == [0.5, 1.5, 4.5, 10, 10, 10]
    assert mv.Backoff()(1) == 0.01
    assert mv.Backoff(first=0, factor=1e300)(3) == 0
    assert mv.Backoff(first=1e-9, factor=1e300)(3) == 10
    for wrong in ({"first": -1}, {"factor": 0.5}, {"maximum": -1}, {"first": math.nan}, {"factor": math.nan}):
        with pytest.raises(ValueError, match="back-off"):
            mv.Backoff(**wrong)


async def test_repr_and_names(backend: mv.Backend) -> None:
    server = backend.server("orders", subscription="billing")
    assert (server.topic, server.subscription, server.concurrency) == ("orders", "billing", 1)
    assert repr(server) == "<MemoryServer orders/billing idle>"
    async with server.running(accept):
        assert repr(server) == "<MemoryServer orders/billing serving>"
        assert server.receiver is accept
    assert repr(server) == "<MemoryServer orders/billing closed>"
