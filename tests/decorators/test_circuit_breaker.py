"""circuit_breaker: closed, open, and half open."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import circuit_breaker, with_options
from msgviz.decorators.circuit_breaker import CircuitOpen
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered
from tests.queues import letters, turns


class Told:
    """A receiver that does what its message says, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.leave = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        self.calls += 1
        match message.body:
            case b"fail":
                raise ValueError("refused")
            case b"cancel":
                raise asyncio.CancelledError
            case b"fail late":
                await self.leave.wait()
                raise ValueError("late")
            case b"succeed late":
                await self.leave.wait()


async def outcome(receiver: mv.Receiver, body: bytes) -> str:
    try:
        await receiver(delivered(body))
    except CircuitOpen:
        return "open"
    except ValueError:
        return "fail"
    except asyncio.CancelledError:
        return "cancel"
    return "ok"


@given(
    failures=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from(["ok", "fail", "cancel"]), st.sampled_from([0, 1, 6, 10]))),
)
@settings(max_examples=150)
def test_one_after_the_other_as_a_model_says(failures: int, steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        told = Told()
        receiver = circuit_breaker.decoder(told, failures=failures, seconds=10)
        in_a_row, until = 0, None
        for step, pause in steps:
            await asyncio.sleep(pause)
            calls = told.calls
            seen = await outcome(receiver, step.encode())
            if until is not None and clock.now() < until:
                assert (seen, told.calls) == ("open", calls)
                continue
            assert (seen, told.calls) == (step, calls + 1)
            if step == "ok":
                in_a_row, until = 0, None
            elif step == "fail":
                in_a_row += 1
                if in_a_row >= failures:
                    until = clock.now() + 10

    clock.run(run())


def test_one_trial_at_a_time() -> None:
    async def run() -> None:
        told = Told()
        receiver = circuit_breaker.decoder(told, failures=1, seconds=10)
        assert await outcome(receiver, b"fail") == "fail"
        await asyncio.sleep(10)
        trial = asyncio.create_task(outcome(receiver, b"succeed late"))
        await turns()
        assert [await outcome(receiver, b"ok") for _ in range(3)] == ["open"] * 3
        with pytest.raises(CircuitOpen, match="is being tried again now") as raised:
            await receiver(delivered())
        assert raised.value.seconds == 0
        assert told.calls == 2
        told.leave.set()
        assert await trial == "ok"
        assert await outcome(receiver, b"ok") == "ok"

    clock.run(run())


@pytest.mark.parametrize("how", ["cancel", "task"])
def test_a_trial_that_is_cancelled_says_nothing(how: str) -> None:
    async def run() -> None:
        told = Told()
        receiver = circuit_breaker.decoder(told, failures=1, seconds=10)
        await outcome(receiver, b"fail")
        await asyncio.sleep(10)
        if how == "cancel":
            assert await outcome(receiver, b"cancel") == "cancel"
        else:
            trial = asyncio.create_task(receiver(delivered(b"succeed late")))
            await turns()
            trial.cancel()
            await asyncio.wait([trial])
        assert await outcome(receiver, b"ok") == "ok"  # it is the trial now, at once
        assert await outcome(receiver, b"ok") == "ok"

    clock.run(run())


@pytest.mark.parametrize(("late", "after"), [(b"fail late", "ok"), (b"succeed late", "open")])
def test_what_began_before_it_opened_says_nothing_after(late: bytes, after: str) -> None:
    async def run() -> None:
        told = Told()
        receiver = circuit_breaker.decoder(told, failures=1, seconds=10)
        old = asyncio.create_task(outcome(receiver, late))
        await turns()
        assert await outcome(receiver, b"fail") == "fail"
        if after == "ok":  # closed again meanwhile: its failure is of the time before
            await asyncio.sleep(10)
            assert await outcome(receiver, b"ok") == "ok"
        told.leave.set()
        await old
        assert await outcome(receiver, b"ok") == after

    clock.run(run())


def test_what_it_says() -> None:
    async def run() -> None:
        async def refuse(message: mv.Message) -> None:
            raise ValueError("x" * 1000)

        receiver = circuit_breaker.decoder(refuse, failures=2, seconds=10)
        for _ in range(2):
            with pytest.raises(ValueError, match="xxx"):
                await receiver(delivered())
        await asyncio.sleep(4)
        with pytest.raises(mv.MsgvizError) as raised:
            await receiver(delivered())
        assert isinstance(raised.value, CircuitOpen)
        assert raised.value.failures == 2
        assert raised.value.seconds == pytest.approx(6)
        told = str(raised.value)
        assert told.startswith(
            "the receiver failed 2 times in a row, and is tried again in 6 s; last: ValueError: xxx"
        )
        assert len(told) < 300

    clock.run(run())


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:

            def act(message: mv.Message) -> None:
                if len(taken.messages) <= 2:
                    raise ValueError

            taken = Taken(act)
            chain = [with_options(circuit_breaker, failures=2, seconds=0.5)]
            server = backend.server("t", decorators=chain, max_attempts=4, backoff=0)
            async with server.running(taken):
                await backend.topic("t").publish(b"x")
                await taken.count(2)
                while await backend_letters(backend) == []:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
                await backend.topic("t").publish(b"y")
                await taken.count(3)
            # Two failures and two refusals were the four attempts of the first.
            assert taken.bodies == [b"x", b"x", b"y"]

    async def backend_letters(backend: mv.Backend) -> list[mv.Message]:
        return await letters(backend)

    clock.run(run())
