"""retry: in place, with growing pauses, and then the server's turn."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import retry, with_options
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered, told
from tests.queues import letters


class Failing:
    """Fails so often, spoiling its message, and notes when it was called."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls: list[float] = []
        self.got: list[object] = []
        self.errors: list[ValueError] = []

    async def __call__(self, message: mv.Message) -> None:
        self.calls.append(clock.now())
        self.got.append(told(message))
        message.body = b"spoilt"
        message.attributes["Spoilt"] = "1"
        message.attempt, message.source = 99, None
        if self.left:
            self.left -= 1
            self.errors.append(ValueError(f"failure {len(self.calls)}"))
            raise self.errors[-1]


@given(attempts=st.integers(1, 6), failures=st.integers(0, 8))
@settings(max_examples=60)
def test_as_often_as_it_says_and_each_attempt_as_it_came(attempts: int, failures: int) -> None:
    async def run() -> None:
        receiver = Failing(failures)
        message = delivered(b"body", K="v")
        before = told(message)
        decorated = retry.decoder(receiver, attempts=attempts, first=3600, maximum=3600)
        if failures < attempts:
            await decorated(message)
        else:
            with pytest.raises(ValueError, match=f"failure {attempts}") as raised:
                await decorated(message)
            assert raised.value is receiver.errors[-1]
        assert receiver.got == [before] * min(attempts, failures + 1)
        assert told(message) == before

    clock.run(run())


@given(
    first=st.floats(0, 10),
    factor=st.floats(1, 10),
    maximum=st.floats(0, 100),
    jitter=st.floats(0, 1),
)
@settings(max_examples=100)
def test_pauses_grow_up_to_the_maximum(first: float, factor: float, maximum: float, jitter: float) -> None:
    async def run() -> list[float]:
        receiver = Failing(4)
        await retry.decoder(receiver, attempts=5, first=first, factor=factor, maximum=maximum, jitter=jitter)(
            delivered()
        )
        return [b - a for a, b in zip(receiver.calls, receiver.calls[1:], strict=False)]

    for number, pause in enumerate(clock.run(run())):
        whole = min(first * factor**number, maximum)
        assert whole * (1 - jitter) - 1e-6 <= pause <= whole + 1e-6


def test_jitter_is_random() -> None:
    async def run() -> set[float]:
        receiver = Failing(5)
        await retry.decoder(receiver, attempts=6, first=100, factor=1, maximum=100)(delivered())
        return {round(b - a, 6) for a, b in zip(receiver.calls, receiver.calls[1:], strict=False)}

    assert len(clock.run(run())) == 5


def test_cancelled_between_attempts() -> None:
    async def run() -> int:
        receiver = Failing(9)
        task = asyncio.create_task(retry.decoder(receiver, first=100, maximum=100)(delivered()))
        await asyncio.sleep(1)
        assert len(receiver.calls) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1000)
        return len(receiver.calls)

    assert clock.run(run()) == 1


def test_many_messages_retry_beside_each_other() -> None:
    async def run() -> tuple[list[bytes], float]:
        seen: dict[bytes, int] = {}
        done: list[bytes] = []

        async def receive(message: mv.Message) -> None:
            seen[message.body] = seen.get(message.body, 0) + 1
            if seen[message.body] <= int(message.body) % 4:
                raise ValueError
            done.append(message.body)

        receiver = retry.decoder(receive, attempts=4, first=1, factor=1, jitter=0)
        await asyncio.gather(*(receiver(delivered(b"%d" % number)) for number in range(40)))
        assert seen == {b"%d" % number: number % 4 + 1 for number in range(40)}
        return sorted(done), clock.now() - 1000

    done, took = clock.run(run())
    assert done == sorted(b"%d" % number for number in range(40))
    assert took < 3.5  # they waited at the same time


def test_on_a_server() -> None:
    """Attempts in place do not count with the server: the message dies after its two deliveries."""

    async def run() -> None:
        async with mv.connect("memory://") as backend:

            def act(message: mv.Message) -> None:
                if message.body == b"bad" or len(taken.messages) == 1:
                    raise ValueError("no")

            taken = Taken(act)
            chain = [with_options(retry, attempts=3, first=0.5)]
            server = backend.server("t", decorators=chain, max_attempts=2, backoff=0)
            async with server.running(taken):
                await backend.topic("t").publish(b"good")
                await backend.topic("t").publish(b"bad")
                await taken.count(2 + 6)
            assert taken.bodies == [b"good"] * 2 + [b"bad"] * 6
            assert [m.attempt for m in taken.messages] == [1] * 5 + [2] * 3
            (letter,) = await letters(backend)
            assert letter.body == b"bad"
            assert letter.attributes["Dead-Letter-Attempts"] == "2"

    clock.run(run())
