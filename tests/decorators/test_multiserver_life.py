"""multiserver: how it begins and ends, and that no message is lost."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.multiserver import multiserver
from tests.decorators.servers import full
from tests.flows import Gate, accept, until
from tests.queues import Holding, Taking, bodies_left, publish, turns


async def test_a_shutdown_finishes_what_is_queued() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 10, "b": 10}, concurrency=4)
        holding = Holding()
        whole = multiserver([(servers[0], 1), (servers[1], 1)], concurrency=1)
        whole.start(holding)
        await holding.entered.wait()
        await turns()
        ending = asyncio.create_task(whole.shutdown())
        await turns()
        assert not ending.done()
        assert not whole.serving or whole.stopping
        holding.leave.set()
        await ending
        # The one that was being received, and the seven that had been taken and waited their turn.
        assert sorted(holding.done) == [b"a0", b"a1", b"a2", b"a3", b"b0", b"b1", b"b2", b"b3"]
        assert holding.most == 1
        assert len(await bodies_left(backend, "a")) == len(await bodies_left(backend, "b")) == 6
        for server in (whole, *servers):
            with pytest.raises(mv.ServerClosed):
                await server.serve(accept)


@pytest.mark.parametrize("stubborn", [False, True])
async def test_past_its_time_a_shutdown_gives_back_what_is_not_done(stubborn: bool) -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 5, "b": 5}, concurrency=3)
        holding = Holding(stubborn=stubborn)
        whole = multiserver([(servers[0], 1), (servers[1], 1)], concurrency=2)
        whole.start(holding)
        await until(lambda: holding.now == 2)
        try:
            with pytest.raises(TimeoutError, match=r"of a\+b/default .* 0.01 s: 2 receiver.* given back"):
                await whole.shutdown(0.01)
            for name in "ab":
                left = await bodies_left(backend, name)
                assert sorted(left) == [b"%s%d" % (name.encode(), n) for n in range(5)]
        finally:
            holding.leave.set()
        await until(lambda: not holding.now)
        await whole.shutdown()  # twice is no error


async def test_cancelling_serve_gives_all_back() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 5, "b": 5}, concurrency=3)
        holding = Holding()
        whole = multiserver([(servers[0], 1), (servers[1], 1)])
        task = asyncio.create_task(whole.serve(holding))
        await holding.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        got = Taking()
        async with whole.running(got):  # it was not shut down: it can serve again
            await until(lambda: len(got.messages) == 10)
        assert Counter(got.bodies) == Counter(b"%s%d" % (n, i) for n in (b"a", b"b") for i in range(5))


@pytest.mark.parametrize("later", range(10))
async def test_a_turn_that_came_as_it_was_cancelled_is_free_again(later: int) -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 5, "b": 5}, concurrency=3)
        holding, got = Holding(), Taking()
        whole = multiserver([(servers[0], 1), (servers[1], 1)])
        task = asyncio.create_task(whole.serve(holding))
        await holding.entered.wait()
        await turns()
        holding.leave.set()
        await turns(later)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with whole.running(got):
            await until(lambda: len(got.messages) + len(holding.done) == 10)


@pytest.mark.parametrize("later", range(6))
async def test_a_shutdown_may_come_at_any_moment_after_the_start(later: int) -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 5, "b": 5})
        got = Taking()
        whole = multiserver([(servers[0], 1), (servers[1], 1)])
        whole.start(got)
        await turns(later)
        await whole.shutdown()
        left = [body for name in "ab" for body in await bodies_left(backend, name)]
        assert len(got.messages) + len(left) == 10


async def test_starting_again_swaps_the_receiver() -> None:
    async with mv.connect("memory://") as backend:
        gate, second = Gate(), Taking()
        servers = await full(backend, {"a": 1, "b": 0})
        whole = multiserver([(server, 1) for server in servers])
        whole.start(gate)
        await gate.begun.wait()
        whole.start(second)
        await publish(backend.topic("b"), b"x")
        gate.orders.put_nowait(None)
        await until(lambda: second.messages)
        assert second.bodies == [b"x"]
        assert whole.receiver is second
        assert servers[0].serving
        await whole.shutdown()


class Breaking(mv.Server):
    """A server whose connection fails when it is told to."""

    def __init__(self) -> None:
        super().__init__(mv.Source("broken", "default"))
        self.fail = asyncio.Event()

    async def work(self, slot: int) -> None:
        await self.fail.wait()
        raise mv.ConnectionFailed("the line is cut")


async def test_a_server_that_fails_ends_it_and_says_so() -> None:
    async with mv.connect("memory://") as backend:
        (server,) = await full(backend, {"a": 3})
        breaking, holding = Breaking(), Holding()
        whole = multiserver([(server, 1), (breaking, 1)])
        serving = asyncio.create_task(whole.serve(holding))
        await holding.entered.wait()
        breaking.fail.set()
        with pytest.raises(mv.ConnectionFailed, match="the line is cut"):
            await serving
        assert holding.cancelled == 1
        await whole.shutdown()
        with pytest.raises(mv.ServerClosed):
            await server.serve(accept)  # it is shut down with the whole
        assert sorted(await bodies_left(backend, "a")) == [b"a0", b"a1", b"a2"]


async def test_a_background_failure_is_told_by_the_shutdown() -> None:
    log = mv.MessageLog()
    breaking = Breaking()
    whole = mv.observe(multiserver([(breaking, 1)]), log)
    whole.start(accept)
    await turns()
    breaking.fail.set()
    await until(lambda: whole.failed)
    with pytest.raises(mv.ConnectionFailed, match="the line is cut"):
        await whole.shutdown()


async def test_one_that_never_served_shuts_its_servers_down() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 1, "b": 1})
        await multiserver([(server, 1) for server in servers]).shutdown()
        for server in servers:
            with pytest.raises(mv.ServerClosed):
                await server.serve(accept)


async def test_a_server_that_is_served_elsewhere_is_refused() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 0, "b": 0})
        servers[0].start(accept)
        with pytest.raises(mv.MsgvizError, match="served already"):
            await multiserver([(server, 1) for server in servers]).serve(accept)
        assert servers[0].serving
        await servers[0].shutdown()


async def test_whether_it_looks_empty() -> None:
    async with mv.connect("memory://") as backend:
        servers = await full(backend, {"a": 0, "b": 1})
        whole = multiserver([(server, 1) for server in servers])
        assert whole.looks_empty() is False
        async with whole.running(accept):
            await until(whole.looks_empty)
        assert multiserver([(servers[0], 1), (Breaking(), 1)]).looks_empty() is None


@given(
    st.lists(st.tuples(st.sampled_from(["publish", "turn", "fail", "swap"]), st.integers(0, 9)), max_size=30),
    st.integers(1, 3),
    st.booleans(),
)
@settings(max_examples=60)
def test_whatever_happens_no_message_is_lost(
    steps: list[tuple[str, int]], concurrency: int, hurried: bool
) -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:
            servers = [backend.server(name, concurrency=2, max_attempts=None, backoff=0) for name in "abc"]
            done: list[bytes] = []
            failing = 0
            sent: list[bytes] = []

            async def receive(message: mv.Message) -> None:
                nonlocal failing
                await turns(len(message.body) % 3)
                if failing:
                    failing -= 1
                    raise ValueError("not now")
                done.append(message.body)

            whole = multiserver(zip(servers, (1, 2, 5), strict=True), concurrency=concurrency)
            whole.start(receive)
            for step, number in steps:
                if step == "publish":
                    sent.append(b"%d" % len(sent))
                    await backend.topic("abc"[number % 3]).publish(sent[-1])
                elif step == "turn":
                    await turns(number)
                elif step == "fail":
                    failing = number
                else:
                    whole.start(receive)
            if hurried:
                await asyncio.gather(whole.shutdown(0), return_exceptions=True)
            else:
                await whole.shutdown()
            left = [body for name in "abc" for body in await bodies_left(backend, name)]
            assert sorted(done + left, key=int) == sent

    asyncio.run(run())
