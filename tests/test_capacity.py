"""memory:// under pressure: who waits for room, who publishes from which thread, and who closes it all."""

from __future__ import annotations

import asyncio

import pytest

import msgviz as mv
from tests.flows import accept, refuse, until
from tests.queues import Taking, bodies_left, numbered, publish, turns


@pytest.fixture
def backend() -> mv.Backend:
    return mv.connect("memory://")


@pytest.mark.parametrize("subscriptions", [["a"], ["a", "b"]])
async def test_a_publisher_waits_for_room(subscriptions: list[str]) -> None:
    backend = mv.connect("memory://", capacity=2)
    await backend.declare("t", *subscriptions)
    topic = backend.topic("t")
    publishing = [asyncio.create_task(topic.publish(body)) for body in numbered(6)]
    await turns()
    assert [task.done() for task in publishing] == [True] * 2 + [False] * 4
    publishing[3].cancel()
    await turns()
    assert publishing[3].cancelled()
    kept = [Taking() for _ in subscriptions]
    servers = [backend.server("t", subscription=name) for name in subscriptions]
    for server, receiver in zip(servers, kept, strict=True):
        server.start(receiver)
    await asyncio.wait(publishing)
    await until(lambda: all(len(receiver.bodies) == 5 for receiver in kept))
    for receiver in kept:
        assert sorted(receiver.bodies) == [b"0", b"1", b"2", b"4", b"5"]  # who was cancelled sent nothing
    await backend.close()


async def test_no_more_than_the_capacity_is_ready() -> None:
    """Five publishers pass a subscription that has room, and wait for another that has none."""
    backend = mv.connect("memory://", capacity=1)
    await backend.declare("t", "slow", "quick")
    topic = backend.topic("t")
    await topic.to_subscription("quick").publish(b"first")
    publishing = [asyncio.create_task(topic.publish(body)) for body in numbered(5)]
    await turns()
    kept = Taking()
    async with backend.server("t", subscription="quick").running(kept):
        await until(lambda: len(kept.bodies) == 2)
        await turns(30)
        assert sum(task.done() for task in publishing) == 1
        assert len(kept.bodies) == 2
        slow = Taking()
        async with backend.server("t", subscription="slow").running(slow):
            await asyncio.gather(*publishing)
            await until(lambda: len(slow.bodies) == 5)
    assert kept.bodies[1:] == slow.bodies


async def test_room_that_one_publisher_cannot_use_is_for_the_next() -> None:
    backend = mv.connect("memory://", capacity=1)
    await backend.declare("t", "a", "b")
    topic = backend.topic("t")
    await publish(topic, b"0")
    both = asyncio.create_task(topic.publish(b"for both"))
    await turns()
    one = asyncio.create_task(topic.to_subscription("a").publish(b"for a"))
    await turns()
    assert not one.done()
    assert await bodies_left(backend, "t", "a") == [b"0", b"for a"]  # b is full, a is not
    await one
    both.cancel()
    await asyncio.gather(both, return_exceptions=True)
    assert await bodies_left(backend, "t", "b") == [b"0"]


async def test_room_that_was_given_to_one_who_goes_is_for_the_next() -> None:
    backend = mv.connect("memory://", capacity=1)
    await backend.declare("t", "default")
    topic = backend.topic("t")
    await publish(topic, b"0")
    first = asyncio.create_task(topic.publish(b"1"))
    second = asyncio.create_task(topic.publish(b"2"))
    await turns()
    leave = asyncio.Event()

    async def receive(message: mv.Message) -> None:
        first.cancel()  # it has been woken, but had no turn yet
        await leave.wait()

    async with backend.server("t").running(receive):
        await until(second.done)
        assert first.cancelled()
        leave.set()


async def test_what_is_delayed_or_redelivered_does_not_wait() -> None:
    backend = mv.connect("memory://", capacity=1)
    await backend.declare("t", "default")
    topic = backend.topic("t")
    for body in numbered(3):
        await topic.publish(body, delay=3600)
    await topic.publish(b"ready")
    seen: list[int] = []

    async def receive(message: mv.Message) -> None:
        seen.append(message.attempt)
        if len(seen) == 1:
            await topic.publish(b"more")  # the queue is full when the first comes again
        if message.attempt == 1:
            raise ValueError("once")

    async with backend.server("t", backoff=0).running(receive):
        await until(lambda: len(seen) == 4)
    assert seen == [1, 1, 2, 2]


@pytest.mark.parametrize("subscriptions", [["a"], ["a", "b"]])
async def test_closing_releases_who_waits(subscriptions: list[str]) -> None:
    backend = mv.connect("memory://", capacity=1)
    await backend.declare("t", *subscriptions)
    topic = backend.topic("t")
    await publish(topic, b"x")
    waiting = [asyncio.create_task(topic.publish(b"y")) for _ in range(3)]
    await turns()
    await backend.close()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, mv.BackendClosed)


async def test_a_receiver_that_waits_for_room_does_not_hold_up_closing() -> None:
    backend = mv.connect("memory://", capacity=1)
    await publish(backend.topic("full"), b"x")
    entered = asyncio.Event()

    async def receive(message: mv.Message) -> None:
        entered.set()
        await backend.topic("full").publish(b"y")

    backend.server("t").start(receive)
    await publish(backend.topic("t"), b"x")
    await entered.wait()
    await turns()
    await backend.close()


@pytest.mark.parametrize("capacity", [None, 3])
@pytest.mark.parametrize("subscriptions", [["a"], ["a", "b"]])
async def test_threads_publish_from_loops_of_their_own(
    capacity: int | None, subscriptions: list[str]
) -> None:
    backend = mv.connect("memory://", capacity=capacity)
    kept = [Taking() for _ in subscriptions]
    for name, receiver in zip(subscriptions, kept, strict=True):
        backend.server("t", subscription=name, concurrency=2).start(receiver)
    topic = backend.topic("t")

    async def flow(who: int) -> None:
        for number in range(200):
            await topic.publish(b"%d %d" % (who, number), delay=0.0001 if number % 50 == 49 else 0)

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, flow(who)) for who in range(4)))
    await until(lambda: all(len(receiver.bodies) == 800 for receiver in kept))
    await backend.close()
    for receiver in kept:
        assert set(receiver.bodies) == {b"%d %d" % (w, n) for w in range(4) for n in range(200)}


@pytest.mark.parametrize("how", ["its own loop", "the server's loop"])
async def test_plain_receivers_publish(backend: mv.Backend, how: str) -> None:
    loop = asyncio.get_running_loop()
    topic = backend.topic("next")

    def receive(message: mv.Message) -> None:
        if how == "its own loop":
            asyncio.run(topic.publish(message.body + b"!"))
        else:
            asyncio.run_coroutine_threadsafe(topic.publish(message.body + b"!"), loop).result(timeout=30)

    kept = Taking()
    async with backend.server("t", concurrency=5).running(receive), backend.server("next").running(kept):
        await publish(backend.topic("t"), *numbered(20))
        await until(lambda: len(kept.bodies) == 20)
    assert sorted(kept.bodies) == sorted(body + b"!" for body in numbered(20))


async def test_a_closed_backend_is_closed(backend: mv.Backend) -> None:
    topic, one = backend.topic("t"), backend.topic("t").to_subscription("a")
    kept = Taking()
    server = backend.server("t")
    server.start(kept)
    await publish(topic, b"x")
    await until(lambda: kept.bodies)
    async with backend as same:
        assert same is backend
    assert not server.serving
    await backend.close()
    for use in (topic.publish, one.publish):
        for delay in (0, 1):
            with pytest.raises(mv.BackendClosed, match="memory"):
                await use(b"x", delay=delay)
    for make in (backend.topic, backend.server):
        with pytest.raises(mv.BackendClosed):
            make("t")
    with pytest.raises(mv.BackendClosed):
        await backend.declare("t")
    with pytest.raises(mv.ServerClosed):
        await server.serve(accept)
    assert repr(backend) == "<MemoryBackend closed>"


async def test_closing_lets_what_is_in_flight_finish(backend: mv.Backend) -> None:
    entered, leave, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def receive(message: mv.Message) -> None:
        entered.set()
        await leave.wait()
        left.set()

    backend.server("t").start(receive)
    await publish(backend.topic("t"), b"x")
    await entered.wait()
    closing = asyncio.create_task(backend.close())
    await turns()
    assert not closing.done()
    leave.set()
    await closing
    assert left.is_set()


async def test_closing_tells_what_made_a_server_fail(backend: mv.Backend) -> None:
    server = backend.server("t", backoff=lambda attempt: 1 // 0)
    server.start(refuse)
    await publish(backend.topic("t"), b"x")
    await until(lambda: not server.serving)
    with pytest.raises(ZeroDivisionError):
        await backend.close()
    await backend.close()
