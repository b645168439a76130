"""Checks of a server's life: how many receivers at a time, swapping them, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from msgviz.errors import ServerClosed
from msgviz.message import Message
from msgviz.testing.check import Need, check
from msgviz.testing.scene import Inbox, Scene, numbered, shown

_LENDS = Need(lambda h, f: h.lease is not None, "a message is lent without a limit of time")


class Holding:
    """What receivers do: wait until let go, and keep whom they were cancelled on."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.cancelled: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        """Wait."""
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled.append(message.body)
            raise


async def _the_rest(scene: Scene, name: str, bodies: list[bytes], who: str) -> Inbox:
    """A new server, on another connection where it can be, that gets just these."""
    inbox = scene.inbox(who)
    scene.start(name, inbox, backend=await scene.connect(), concurrency=2)
    await inbox.passes(bodies)
    await inbox.nothing_more()
    return inbox


@check("concurrency")
async def _concurrency(scene: Scene) -> None:
    """As many receivers as `concurrency` run at a time: that many, and never more."""
    name, holding = scene.name_of(), Holding()
    inbox = scene.inbox(act=holding)
    scene.start(name, inbox, concurrency=4)
    bodies = numbered(12)
    await scene.publish(name, *bodies)
    await scene.until(lambda: inbox.now >= 4, lambda: f"{inbox.now} receivers run at a time, not 4")
    await scene.moment()
    holding.free.set()
    await inbox.passes(bodies)
    scene.expect(inbox.most == 4, f"{inbox.most} receivers ran at a time, not 4")


@check("plain function")
async def _plain_function(scene: Scene) -> None:
    """A receiver that is a plain function runs in a thread; what it raises is a failure like any."""
    name, inbox = scene.name_of(), scene.inbox()
    threads, failed = set(), set()

    def receive(message: Message) -> None:
        threads.add(threading.current_thread())
        inbox.keep(message)
        if message.body not in failed:
            failed.add(message.body)
            raise ValueError("once")
        inbox.passed.append(message.body)
        scene.touch()

    scene.start(name, receive, concurrency=2)
    bodies = numbered(6)
    await scene.publish(name, *bodies)
    await inbox.passes(bodies)
    scene.expect(threading.current_thread() not in threads, "a plain function ran in the loop's own thread")
    scene.expect(len(inbox.got) == 12, f"6 messages that failed once were delivered {len(inbox.got)} times")


@check("swap of a receiver")
async def _swap(scene: Scene) -> None:
    """Starting a server that serves swaps its receiver for the messages that follow, and loses none."""
    name, holding = scene.name_of(), Holding()
    first, second = scene.inbox("the first receiver", holding), scene.inbox("the second receiver")
    server = scene.start(name, first, concurrency=2)
    await scene.publish(name, b"before")
    await first.count(1)
    server.start(second)
    bodies = numbered(10, "after")
    await scene.publish(name, *bodies)
    await second.passes(bodies)
    holding.free.set()
    await first.passes([b"before"])


@check("server closed")
async def _server_closed(scene: Scene) -> None:
    """Serving after a shutdown raises ServerClosed; shutting down twice, or what never ran, is no error."""
    name, inbox = scene.name_of(), scene.inbox()
    server = scene.start(name, inbox)
    await scene.publish(name, b"one")
    await inbox.passes([b"one"])
    await scene.within(scene.harness.timeout, server.shutdown(), "the shutdown of an idle server")
    scene.expect(not server.serving, "after its shutdown a server says that it is serving")
    await server.shutdown()
    await scene.raises(ServerClosed, lambda: server.serve(inbox), "serving after a shutdown")
    await scene.raises(ServerClosed, lambda: server.start(inbox), "starting after a shutdown")
    await scene.server(name).shutdown()


@check("graceful shutdown")
async def _graceful(scene: Scene) -> None:
    """A shutdown lets the receivers in flight finish, takes no more, and leaves the rest to others."""
    name, holding = scene.name_of(), Holding()
    first = scene.inbox("the server that was shut down", holding)
    server = scene.start(name, first, concurrency=2)
    bodies = numbered(8)
    await scene.publish(name, *bodies)
    await scene.until(lambda: first.now == 2, lambda: f"{first.now} receivers run at a time, not 2")
    ending = asyncio.create_task(server.shutdown())
    done, _ = await asyncio.wait([ending], timeout=0.05)
    scene.expect(not done, "the shutdown did not wait for the receivers in flight")
    holding.free.set()
    await scene.within(scene.harness.timeout, ending, "the shutdown")
    scene.expect(
        len(first.passed) == len(first.got) == 2,
        f"after the shutdown began {len(first.got) - 2} more were taken: {shown(first.bodies)}",
    )
    scene.expect(not holding.cancelled, f"receivers were cancelled: {shown(holding.cancelled)}")
    await _the_rest(scene, name, [b for b in bodies if b not in first.passed], "the next server")


@check("timed-out shutdown")
async def _timed_out(scene: Scene) -> None:
    """Past its time-out a shutdown cancels receivers, gives their messages back, raises TimeoutError."""
    name, holding = scene.name_of(), Holding()
    first = scene.inbox("the server that was shut down", holding)
    server = scene.start(name, first, concurrency=2)
    bodies = numbered(8)
    await scene.publish(name, *bodies)
    await scene.until(lambda: first.now == 2, lambda: f"{first.now} receivers run at a time, not 2")
    await scene.raises(TimeoutError, lambda: server.shutdown(timeout=0.05), "a shutdown past its time-out")
    scene.expect(
        sorted(holding.cancelled) == sorted(first.bodies),
        f"of the receivers of {shown(first.bodies)} were cancelled: {shown(holding.cancelled)}",
    )
    scene.expect(not server.serving, "after its shutdown a server says that it is serving")
    await _the_rest(scene, name, bodies, "the next server")


@check("shutdown gives back at once")
async def _gives_back(scene: Scene) -> None:
    """What a shutdown gives back goes at once to a server that runs already, and is no failed attempt."""
    name, holding = scene.name_of(), Holding()
    first = scene.inbox("the server that was shut down", holding)
    server = scene.start(name, first, max_attempts=2)
    await scene.publish(name, b"held")
    await first.count(1)
    second = scene.inbox("the other server")
    scene.start(name, second, backend=await scene.connect(), max_attempts=2)
    await scene.raises(TimeoutError, lambda: server.shutdown(timeout=0), "a shutdown past its time-out")
    await second.passes([b"held"])


@check("a receiver that will not end")
async def _stubborn(scene: Scene) -> None:
    """The message of a receiver that ignores its cancelling is given back all the same."""
    name, free = scene.name_of(), asyncio.Event()

    async def ignore(message: Message) -> None:
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()

    first = scene.inbox("the server that was shut down", ignore)
    server = scene.start(name, first)
    bodies = numbered(3)
    await scene.publish(name, *bodies)
    await first.count(1)
    try:
        await scene.raises(TimeoutError, lambda: server.shutdown(timeout=0), "a shutdown past its time-out")
        second = scene.inbox("the next server")
        scene.start(name, second, backend=await scene.connect())
        await second.passes(bodies)
    finally:
        free.set()
    await second.nothing_more("when the first receiver had ended after all")


@check("cancelled serving")
async def _cancelled(scene: Scene) -> None:
    """Cancelling `serve` gives the messages in flight back; the server may serve again."""
    name, holding = scene.name_of(), Holding()
    first = scene.inbox("the cancelled server", holding)
    server = scene.server(name, concurrency=2)
    serving = asyncio.create_task(server.serve(first))
    bodies = numbered(6)
    await scene.publish(name, *bodies)
    await scene.until(
        lambda: first.now == 2 or serving.done(), lambda: f"{first.now} receivers run at a time, not 2"
    )
    if serving.done():
        await serving
    serving.cancel()
    await asyncio.wait([serving], timeout=scene.harness.timeout)
    scene.expect(serving.cancelled(), f"a cancelled serve() ended otherwise: {serving!r}")
    again = scene.inbox("the same server, serving again")
    server.start(again)
    await again.passes(bodies)


@check("a long receiver", _LENDS, patience=20.0)
async def _long_receiver(scene: Scene) -> None:
    """A message whose receiver works longer than the message is lent for is not delivered twice."""
    harness, name = scene.harness, scene.name_of()
    lease = harness.lease or 0.0

    async def act(message: Message) -> None:
        if message.body == b"long":
            await asyncio.sleep(lease * 2.2)

    inbox = scene.inbox("the two servers together", act)
    for _ in range(2):
        backend = await scene.connect(new=True, **(harness.short_lease or {}))
        scene.start(name, inbox, backend=backend)
        await backend.declare(name, "default")  # the publisher, on another connection, cannot know of it
    await scene.publish(name, b"long")
    await inbox.count(1)
    await scene.publish(name, b"short")
    await asyncio.sleep(lease * 2.2)
    await inbox.passes([b"long", b"short"])
    await inbox.nothing_more()
    count = len(inbox.of(b"long"))
    scene.expect(
        count == 1,
        f"lent for {lease:g} s and worked on for {lease * 2.2:g} s, it was delivered {count} times",
    )
