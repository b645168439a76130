"""MessageLog.settled: it waits for what is under way, and says what that is."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

import msgviz as mv
from tests.flows import Gate, Kept, accept, observed, refuse, states, until


async def test_settled_returns_at_once_where_nothing_is_under_way():
    log, _ = observed()
    await log.settled()
    await log.settled(timeout=0)
    with pytest.raises(ConnectionError):
        await mv.observe(Kept(error=ConnectionError("down")), log).publish(b"x")
    await log.settled(timeout=0)


async def test_settled_waits_for_messages_that_messages_cause():
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        left = int(message.body)
        if left:
            await asyncio.sleep(0)
            await backend.topic("t").publish(b"%d" % (left - 1))

    async with backend.server("t").running(receiver):
        await backend.topic("t").publish(b"20")
        await log.settled(5)
        assert len(log.messages) == 21
        assert set(log.messages["state"]) == {"ok"}


async def test_settled_says_what_is_still_under_way():
    log, backend = observed()
    backend.server("t")
    topic = backend.topic("t")
    await topic.publish(b"1")
    await topic.publish(b"2")
    gate = Gate()
    server = backend.server("u")
    server.start(gate)
    await backend.topic("u").publish(b"3")
    await gate.begun.wait()
    with pytest.raises(TimeoutError) as caught:
        await log.settled(timeout=0.01)
    text = str(caught.value)
    assert "0.01 s" in text
    assert "2 pending" in text
    assert "1 in_flight" in text
    assert log.messages.index[0] in text
    assert "server running" in text
    with pytest.raises(TimeoutError):
        await log.settled(timeout=0)
    gate.orders.put_nowait(None)
    await server.shutdown()


async def test_messages_published_before_their_subscription_exists_are_waited_for():
    log, backend = observed()
    await backend.topic("t").publish(b"1")
    await backend.topic("t").publish(b"2")
    assert log.messages["state"].tolist() == ["pending", "pending"]
    with pytest.raises(TimeoutError, match="2 pending"):
        await log.settled(timeout=0.01)
    async with backend.server("t").running(accept):
        await log.settled(5)
    assert log.messages["state"].tolist() == ["ok", "ok"]


async def test_settled_waits_for_a_receive_that_is_in_flight_though_its_message_was_never_published_here():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    gate = Gate()
    async with mv.observe(bare, log).server("t").running(gate):
        await bare.topic("t").publish(b"x")
        await gate.begun.wait()
        with pytest.raises(TimeoutError):
            await log.settled(timeout=0.01)
        gate.orders.put_nowait(None)
        await log.settled(5)
    assert log.messages["state"].tolist() == ["ok"]


async def test_settled_does_not_wait_for_a_server_that_has_failed():
    log, backend = observed()
    server = backend.server("t", backoff=lambda attempt: attempt / 0)
    server.start(refuse)
    await backend.topic("t").publish(b"x")
    with pytest.raises(mv.MsgvizError, match=re.escape("t/default has failed (ZeroDivisionError")):
        await log.settled(5)
    with pytest.raises(ZeroDivisionError):
        await server.shutdown()


async def test_a_cancelled_settled_is_cancelled():
    log, backend = observed()
    await backend.topic("t").publish(b"x")
    task = asyncio.create_task(log.settled())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_settled_can_wait_for_what_other_threads_do():
    log, backend = observed()
    started = threading.Event()

    async def serve() -> None:
        async with backend.server("t").running(accept):
            started.set()
            await until(lambda: len(log) == 20)

    def publish() -> None:
        async def many() -> None:
            for _ in range(10):
                await backend.topic("t").publish(b"x")

        asyncio.run(many())

    server, publisher = (
        threading.Thread(target=lambda: asyncio.run(serve())),
        threading.Thread(target=publish),
    )
    server.start()
    started.wait()
    publisher.start()
    publisher.join()
    asyncio.run(log.settled(10))
    assert len(log) == 20
    server.join()
    assert set(states(log).values()) == {"ok"}
