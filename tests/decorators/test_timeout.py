"""timeout: who takes too long is cancelled."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import timeout, with_options
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered


@given(seconds=st.floats(0.001, 1e5), takes=st.floats(0, 1e5))
@settings(max_examples=60)
def test_ends_after_its_seconds_and_not_before(seconds: float, takes: float) -> None:
    async def run() -> None:
        ended: list[str] = []

        async def receive(message: mv.Message) -> None:
            try:
                await asyncio.sleep(takes)
                ended.append("returned")
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        began = clock.now()
        error = None
        try:
            await timeout.decoder(receive, seconds=seconds)(delivered())
        except TimeoutError as raised:
            error = str(raised)
        if ended == ["returned"]:
            assert error is None
            assert takes < seconds + 1e-6
        else:
            assert ended == ["cancelled"]
            assert error == f"the receiver did not end within {seconds:g} s"
            assert takes > seconds - 1e-6
            assert clock.now() - began == pytest.approx(seconds)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    clock.run(run())


def test_the_error_of_a_receiver_that_minds_its_cancellation_passes() -> None:
    async def run() -> None:
        own = TimeoutError("my own")

        async def receive(message: mv.Message) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise own from None

        with pytest.raises(TimeoutError) as raised:
            await timeout.decoder(receive, seconds=1)(delivered())
        assert raised.value is own

    clock.run(run())


def test_a_cancellation_from_outside_in_its_last_moment_is_one() -> None:
    async def run() -> None:
        async def receive(message: mv.Message) -> None:
            await asyncio.sleep(100)

        task = asyncio.create_task(timeout.decoder(receive, seconds=1)(delivered()))
        asyncio.get_running_loop().call_later(1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(run())


def test_seconds_are_a_timedelta_too() -> None:
    async def receive(message: mv.Message) -> None:
        await asyncio.sleep(61)

    with pytest.raises(TimeoutError, match="within 60 s"):
        clock.run(timeout.decoder(receive, seconds=timedelta(minutes=1))(delivered()))


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:
            taken = Taken()

            async def receive(message: mv.Message) -> None:
                await taken(message)
                if len(taken.messages) == 1:
                    await asyncio.Event().wait()

            server = backend.server("t", decorators=[with_options(timeout, seconds=5)], backoff=0)
            async with server.running(receive):
                await backend.topic("t").publish(b"slow at first")
                await taken.count(2)
            assert [message.attempt for message in taken.messages] == [1, 2]

    clock.run(run())


async def test_a_plain_function_is_given_up() -> None:
    leave = threading.Event()
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        await timeout.decoder(lambda message: leave.wait(60) and None, seconds=0.01)(delivered())
    leave.set()
