"""throttle: so many a second, in the order of their coming."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import throttle, with_options
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered
from tests.queues import numbered, turns


class Times(Taken):
    """Keeps when it was called, too."""

    def __init__(self) -> None:
        super().__init__(lambda message: self.times.append(clock.now()))
        self.times: list[float] = []


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 5),
    pauses=st.lists(st.floats(0, 10) | st.just(0.0), min_size=1, max_size=30),
)
@settings(max_examples=100)
def test_never_more_than_the_bucket_holds_and_never_later_than_it_must(
    rate: float, burst: int, pauses: list[float]
) -> None:
    async def run() -> None:
        times = Times()
        receiver = throttle.decoder(times, rate=rate, burst=burst)
        tasks, came = [], []
        for number, pause in enumerate(pauses):
            await asyncio.sleep(pause)
            came.append(clock.now())
            tasks.append(asyncio.create_task(receiver(delivered(b"%d" % number))))
        await asyncio.gather(*tasks)
        assert times.bodies == numbered(len(pauses))  # first come, first served
        # In any span of time: no more than the burst and what the rate gives.
        for i, begin in enumerate(times.times):
            for j in range(i + burst, len(times.times)):
                assert times.times[j] - begin >= (j - i - burst + 1) / rate - 1e-6
        # A bucket as in the books, refilled step by step, lets them pass at the same times.
        tokens, last = float(burst), came[0]
        for arrival, passed in zip(came, times.times, strict=True):
            at = max(arrival, last)
            tokens = min(burst, tokens + (at - last) * rate)
            if tokens < 1:
                at, tokens = at + (1 - tokens) / rate, 1.0
            tokens, last = tokens - 1, at
            assert passed == pytest.approx(at, abs=1e-4)

    clock.run(run())


@given(st.sets(st.integers(0, 9)))
@settings(max_examples=50)
def test_one_that_is_cancelled_gives_its_turn_to_the_next(gone: set[int]) -> None:
    async def run() -> None:
        times = Times()
        receiver = throttle.decoder(times, rate=1)
        await receiver(delivered(b"first"))
        tasks = [asyncio.create_task(receiver(delivered(body))) for body in numbered(10)]
        await turns()
        for number in gone:
            tasks[number].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(r, asyncio.CancelledError) for r in results] == [n in gone for n in range(10)]
        assert times.bodies == [b"first", *(b"%d" % n for n in range(10) if n not in gone)]
        assert [round(t - times.times[0], 6) for t in times.times] == [
            float(n) for n in range(11 - len(gone))
        ]

    clock.run(run())


def test_one_that_is_cancelled_when_it_is_its_turn() -> None:
    async def run() -> None:
        times = Times()
        receiver = throttle.decoder(times, rate=1)
        await receiver(delivered(b"first"))
        second = asyncio.create_task(receiver(delivered(b"second")))
        asyncio.get_running_loop().call_later(1, second.cancel)
        third = asyncio.create_task(receiver(delivered(b"third")))
        await third
        assert second.cancelled()
        assert times.bodies == [b"first", b"third"]
        assert times.times[1] - times.times[0] == pytest.approx(1)

    clock.run(run())


def test_those_in_the_receiver_do_not_hold_up_the_next() -> None:
    async def run() -> None:
        began: list[float] = []

        async def receive(message: mv.Message) -> None:
            began.append(clock.now() - 1000)
            await asyncio.sleep(1000)

        receiver = throttle.decoder(receive, rate=2)
        await asyncio.gather(*(receiver(delivered()) for _ in range(4)))
        assert began == pytest.approx([0, 0.5, 1, 1.5])

    clock.run(run())


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:
            times = Times()
            chain = [with_options(throttle, rate=10, burst=2)]
            server = backend.server("t", decorators=chain, concurrency=4)
            topic = backend.topic("t")
            async with server.running(times):
                for body in numbered(6):
                    await topic.publish(body)
                await times.count(6)
            assert times.bodies == numbered(6)
            assert [t - times.times[0] for t in times.times] == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])

    clock.run(run())


async def test_not_before_on_a_real_clock() -> None:
    times = Times()
    receiver = throttle.decoder(times, rate=100)
    await asyncio.gather(*(receiver(delivered()) for _ in range(4)))
    assert times.times[-1] - times.times[0] >= 0.03 - 1e-6
