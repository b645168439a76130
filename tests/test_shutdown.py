"""How a server ends: in time, out of time, cancelled, failed. On memory://, nothing is ever lost."""

from __future__ import annotations

import asyncio
import gc

import pytest

import msgviz as mv
from tests.flows import until
from tests.queues import Holding, bodies_left, drained, letters


@pytest.fixture
def backend() -> mv.Backend:
    return mv.connect("memory://")


async def test_shutdown_past_its_timeout_loses_nothing(backend: mv.Backend) -> None:
    receiver = Holding()
    server = backend.server("t", concurrency=2)
    server.start(receiver)
    for body in (b"1", b"2", b"3"):
        await backend.topic("t").publish(body)
    await until(lambda: receiver.now == 2)
    with pytest.raises(TimeoutError, match=r"2 receiver\(s\)"):
        await server.shutdown(timeout=0)
    assert receiver.cancelled == 2
    assert not server.serving
    await server.shutdown()  # once more is no error
    left = await drained(backend, "t")
    assert sorted(message.body for message in left) == [b"1", b"2", b"3"]
    assert [message.attempt for message in left] == [1, 1, 1]  # given back, not failed
    assert await letters(backend) == []


async def test_what_a_shutdown_gives_back_goes_to_the_others(backend: mv.Backend) -> None:
    first, second = Holding(), Holding()
    second.leave.set()
    one, other = backend.server("t"), backend.server("t")
    one.start(first)
    await backend.topic("t").publish(b"1")
    await first.entered.wait()
    other.start(second)  # idle, asleep
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await one.shutdown(timeout=0)
    await second.entered.wait()
    await other.shutdown()
    assert second.done == [b"1"]


@pytest.mark.parametrize("error", [None, ValueError("late"), asyncio.CancelledError()])
async def test_a_receiver_that_ignores_its_cancelling(
    backend: mv.Backend, error: BaseException | None
) -> None:
    receiver = Holding(stubborn=True, error=error)

    async def receive(message: mv.Message) -> None:
        message.body = b"changed"
        message.attributes["Leaked"] = "1"
        message.with_body(b"other")
        await receiver(message)

    server = backend.server("t", max_attempts=1)
    serving = asyncio.create_task(server.serve(receive))
    await backend.topic("t").publish(b"1", attributes={"k": "v"})
    await receiver.entered.wait()
    with pytest.raises(TimeoutError):
        await server.shutdown(timeout=0)
    assert serving.done()
    assert receiver.cancelled == 1
    assert receiver.now == 1  # it still works, on a message that is not its own any more
    assert await drained(backend, "t") == [mv.Message(b"1", {"k": "v"})]
    receiver.leave.set()
    await until(lambda: receiver.now == 0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert await drained(backend, "t") == []
    assert await letters(backend) == []


async def test_shutdown_may_be_cancelled_and_called_again(backend: mv.Backend) -> None:
    receiver = Holding()
    server = backend.server("t")
    server.start(receiver)
    await backend.topic("t").publish(b"1")
    await receiver.entered.wait()
    ending = asyncio.create_task(server.shutdown())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert server.serving
    both = [asyncio.create_task(server.shutdown()), asyncio.create_task(server.shutdown(timeout=30))]
    await asyncio.sleep(0)
    receiver.leave.set()
    await asyncio.gather(*both)
    assert receiver.done == [b"1"]


async def test_a_server_that_ends_just_when_its_time_is_up(backend: mv.Backend) -> None:
    for turns in range(12):
        receiver = Holding()
        server = backend.server("t")
        server.start(receiver)
        await backend.topic("t").publish(b"1")
        await receiver.entered.wait()
        ending = asyncio.create_task(server.shutdown())
        receiver.leave.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            await server.shutdown(timeout=0)
        except TimeoutError:
            assert receiver.cancelled == 1
            assert await bodies_left(backend) == [b"1"]
        else:
            assert receiver.done == [b"1"]
        await ending
        assert not server.serving


async def test_serve_that_is_cancelled_gives_back_and_can_serve_again(backend: mv.Backend) -> None:
    receiver = Holding()
    server = backend.server("t")
    await backend.topic("t").publish(b"1")
    await backend.topic("t").publish(b"2")
    for round_ in range(3):
        serving = asyncio.create_task(server.serve(receiver))
        await receiver.entered.wait()
        receiver.entered.clear()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert receiver.cancelled == round_ + 1
        assert not server.serving
    receiver.leave.set()
    async with server.running(receiver):
        await until(lambda: len(receiver.done) == 2)
    assert receiver.done == [b"1", b"2"]


async def test_serve_under_a_deadline(backend: mv.Backend) -> None:
    receiver = Holding()
    await backend.topic("t").publish(b"1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await backend.server("t").serve(receiver)
    assert receiver.cancelled == 1
    assert await bodies_left(backend) == [b"1"]


async def test_serve_that_is_cancelled_twice(backend: mv.Backend) -> None:
    receiver = Holding(stubborn=True)
    server = backend.server("t")
    await backend.topic("t").publish(b"1")
    serving = asyncio.create_task(server.serve(receiver))
    await receiver.entered.wait()
    serving.cancel()
    await until(lambda: receiver.cancelled == 1)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.serving
    assert await bodies_left(backend) == [b"1"]
    await server.shutdown()
    receiver.leave.set()
    await until(lambda: receiver.now == 0)


async def test_who_was_left_behind_takes_no_more_messages(backend: mv.Backend) -> None:
    stuck, receiver = Holding(stubborn=True), Holding()
    server = backend.server("t")
    await backend.topic("t").publish(b"1")
    serving = asyncio.create_task(server.serve(stuck))
    await stuck.entered.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    server.start(receiver)  # a new worker, while the old one is still in its receiver
    await receiver.entered.wait()
    stuck.leave.set()
    await backend.topic("t").publish(b"2")
    await backend.topic("t").publish(b"3")
    await until(lambda: stuck.now == 0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert receiver.now == 1
    receiver.leave.set()
    await until(lambda: len(receiver.done) == 3)
    await server.shutdown()
    assert receiver.most == 1
    assert receiver.done == [b"1", b"2", b"3"]


async def test_a_background_that_fails_says_so(backend: mv.Backend) -> None:
    def backoff(attempt: int) -> float:
        raise LookupError("no backoff")

    server = backend.server("t", backoff=backoff, concurrency=2)
    ends: list[BaseException | None] = []

    async def receive(message: mv.Message) -> None:
        raise ValueError("no")

    server.start(receive)
    server.on_end(ends.append)
    await backend.topic("t").publish(b"1")
    await until(lambda: not server.serving)
    await asyncio.sleep(0)
    assert isinstance(server.failed, LookupError)
    assert ends == [server.failed]
    with pytest.raises(LookupError, match="no backoff"):
        await server.shutdown()
    await server.shutdown()
    (message,) = await drained(backend, "t")
    assert message.body == b"1"
    assert message.attempt > 1


async def test_a_background_that_failed_can_start_again(
    backend: mv.Backend, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Holding()
    receiver.leave.set()
    # The backoff gives no number: both workers fail, each with its own message.
    server = backend.server("t", concurrency=2, backoff=lambda attempt: "soon")  # type: ignore[arg-type,return-value]

    async def receive(message: mv.Message) -> None:
        raise ValueError("no")

    await backend.topic("t").publish(b"1")
    await backend.topic("t").publish(b"2")
    server.start(receive)
    await until(lambda: not server.serving)
    assert isinstance(server.failed, ValueError)
    server.start(receiver)
    await until(lambda: len(receiver.done) == 2)
    await server.shutdown()
    assert sorted(receiver.done) == [b"1", b"2"]
    gc.collect()
    assert caplog.records == []  # no worker's error is reported as lost


async def test_serve_raises_what_made_it_fail(backend: mv.Backend) -> None:
    server = backend.server("t", backoff=lambda attempt: 1 // 0)

    async def receive(message: mv.Message) -> None:
        raise ValueError("no")

    await backend.topic("t").publish(b"1")
    with pytest.raises(ZeroDivisionError):
        await server.serve(receive)
    assert not server.serving
    assert await bodies_left(backend) == [b"1"]
