"""Receivers: what runs on the loop, what runs in a thread, and what wraps them."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import msgviz as mv
from tests.flows import Backwards, accept, until
from tests.queues import letters

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


async def deliver(receiver: mv.Receiver, *bodies: bytes, **options: Any) -> mv.Backend:
    """Publish these bodies, and return when the receiver has been through all of them."""
    backend = mv.connect("memory://")
    server = backend.server("t", max_attempts=1, **options)
    ended = 0

    class Counted(mv.ReceiverDecorator):
        async def __call__(self, message: mv.Message) -> None:
            nonlocal ended
            try:
                await self.receive(message)
            finally:
                ended += 1

    async with server.running(Counted(receiver)):
        for body in bodies:
            await backend.topic("t").publish(body)
        await until(lambda: ended == len(bodies))
    return backend


async def test_async_def_runs_on_the_loop() -> None:
    loops: list[Any] = []

    async def receive(message: mv.Message) -> None:
        loops.append((asyncio.get_running_loop(), threading.get_ident()))

    await deliver(receive, b"x")
    assert loops == [(asyncio.get_running_loop(), threading.get_ident())]


async def test_def_runs_in_a_thread() -> None:
    threads: list[int] = []

    def receive(message: mv.Message) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.append(threading.get_ident())

    backend = await deliver(receive, b"x")
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert await letters(backend) == []


class Instance:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def method(self, message: mv.Message) -> None:
        await asyncio.sleep(0)
        self.bodies.append(message.body)

    def plain_method(self, message: mv.Message) -> None:
        self.bodies.append(message.body)

    async def with_more(self, more: int, message: mv.Message) -> None:
        self.bodies.append(message.body)

    async def __call__(self, message: mv.Message) -> None:
        await asyncio.sleep(0)
        self.bodies.append(message.body)


@pytest.mark.parametrize("number", range(6))
async def test_all_callables_are_receivers(number: int) -> None:
    it = Instance()
    receivers: list[mv.Receiver] = [
        it,
        it.method,
        it.plain_method,
        functools.partial(it.with_more, 1),
        lambda message: it.method(message),  # noqa: PLW0108  a plain function that gives a coroutine
        lambda message: it.bodies.append(message.body),
    ]
    backend = await deliver(receivers[number], b"x", b"y")
    assert it.bodies == [b"x", b"y"]
    assert await letters(backend) == []


async def test_a_lambda_that_gives_a_coroutine_is_awaited_on_the_loop() -> None:
    thread = 0

    async def charge(message: mv.Message) -> None:
        nonlocal thread
        await asyncio.sleep(0)
        thread = threading.get_ident()
        raise ValueError("from the coroutine")

    backend = await deliver(lambda message: charge(message), b"x")  # noqa: PLW0108
    assert thread == threading.get_ident()
    assert [letter.attributes["Dead-Letter-Reason"] for letter in await letters(backend)] == [
        "ValueError: from the coroutine"
    ]


async def test_plain_receivers_run_as_many_at_a_time_as_asked() -> None:
    many = (os.cpu_count() or 1) + 4 + 20  # asyncio's own pool has cores + 4 threads, at most 32
    many = max(many, 40)
    together = threading.Barrier(many)

    def receive(message: mv.Message) -> None:
        together.wait(timeout=30)  # broken, and so a dead letter, when fewer ever run at a time

    backend = await deliver(receive, *(b"%d" % number for number in range(many)), concurrency=many)
    assert await letters(backend) == []


async def test_plain_receivers_do_not_hold_up_the_loop() -> None:
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def receive(message: mv.Message) -> None:
        loop.call_soon_threadsafe(entered.set)
        assert leave.wait(timeout=30)

    working = asyncio.create_task(deliver(receive, b"x"))
    await entered.wait()
    await asyncio.sleep(0)  # the loop has its turn while the receiver is in its thread
    leave.set()
    assert await letters(await working) == []


async def test_a_thread_sees_the_context_of_its_task() -> None:
    seen: list[str] = []

    class As(mv.ReceiverDecorator):
        async def __call__(self, message: mv.Message) -> None:
            token = user.set(message.text)
            try:
                await self.receive(message)
            finally:
                user.reset(token)

    def receive(message: mv.Message) -> None:
        seen.append(user.get())
        user.set("changed in the thread")

    await deliver(As(receive), b"ann", b"bob")
    assert seen == ["ann", "bob"]
    assert user.get() == "nobody"


@pytest.mark.parametrize("error", [ValueError, StopIteration, StopAsyncIteration, TimeoutError])
@pytest.mark.parametrize("plain", [True, False])
async def test_whatever_is_raised_means_not_processed(error: type[Exception], plain: bool) -> None:
    def receive(message: mv.Message) -> None:
        raise error("so")

    async def receive_async(message: mv.Message) -> None:
        receive(message)

    backend = await deliver(receive if plain else receive_async, b"x")
    (letter,) = await letters(backend)
    assert letter.body == b"x"
    assert ("so" in letter.attributes["Dead-Letter-Reason"]) or error is StopIteration


async def test_threads_end_when_receivers_are_swapped() -> None:
    backend = mv.connect("memory://")
    server = backend.server("t")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threads: list[threading.Thread] = []

    def receiver() -> mv.Receiver:
        def receive(message: mv.Message) -> None:
            threads.append(threading.current_thread())
            loop.call_soon_threadsafe(ended.set)

        return receive

    for _ in range(5):
        server.start(receiver())
        await backend.topic("t").publish(b"x")
        await ended.wait()
        ended.clear()
    server.start(accept)
    await backend.topic("t").publish(b"x")
    await server.shutdown()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert len(threads) == 5


@pytest.mark.parametrize("wrong", [None, 1, "receiver", b"x", [accept]])
def test_what_is_no_receiver(wrong: Any) -> None:
    server = mv.connect("memory://").server("t")
    with pytest.raises(TypeError, match="callable"):
        server.start(wrong)
    with pytest.raises(TypeError, match="callable"):
        Backwards.decoder(wrong)
    assert not server.serving


async def generator(message: mv.Message) -> AsyncIterator[int]:
    yield 1


def plain_generator(message: mv.Message) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("wrong", [generator, plain_generator])
def test_a_generator_would_never_run(wrong: Any) -> None:
    with pytest.raises(TypeError, match="yield"):
        mv.connect("memory://").server("t").start(wrong)


async def test_a_decorator_keeps_what_it_wraps() -> None:
    def plain(message: mv.Message) -> None: ...

    for receiver in (accept, plain):
        decorated = Backwards.decoder(receiver)
        assert isinstance(decorated, mv.ReceiverDecorator)
        assert decorated.next is receiver
    assert repr(Backwards.decoder(accept)) == "<_Decoder around accept>"
    assert repr(Backwards.decoder(Backwards.decoder(plain))) == "<_Decoder around _Decoder>"


async def test_a_decorated_receiver_can_be_called_by_hand() -> None:
    bodies: list[bytes] = []
    message = mv.Message(b"cba", {"Direction": "backwards"})
    receiver: Any = Backwards.decoder(lambda message: bodies.append(message.body))
    await receiver(message)
    assert bodies == [b"abc"]
    assert message == mv.Message(b"cba", {"Direction": "backwards"})
