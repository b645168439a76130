"""Checks of failing receivers: redelivery, attempts, and the wait between them."""

from __future__ import annotations

import asyncio

from msgviz.message import Message
from msgviz.testing.check import COUNTS, check
from msgviz.testing.scene import Inbox, Scene, numbered, shown


class Failing:
    """Fails on the first `times` deliveries of each message, as `fail` does."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.times = times
        self.error = error
        self.tries: dict[bytes, int] = {}

    async def __call__(self, message: Message) -> None:
        """Fail, or not any more."""
        tries = self.tries[message.body] = self.tries.get(message.body, 0) + 1
        if tries <= self.times:
            raise self.error or ValueError(f"failing, {tries} of {self.times}")


async def _redelivered(scene: Scene, inbox: Inbox, times: int) -> None:
    """That each of some messages is delivered `times` + 1 times, and passes then."""
    name = scene.name_of()
    scene.start(name, inbox, concurrency=2)
    bodies = numbered(5)
    await scene.publish(name, *bodies)
    await inbox.passes(bodies)
    for body in bodies:
        count = len(inbox.of(body))
        scene.expect(
            count == times + 1, f"{shown([body])} failed {times} times and was delivered {count} times"
        )
    await inbox.nothing_more()


@check("redelivery on error")
async def _on_error(scene: Scene) -> None:
    """A message whose receiver raised is delivered again, and not again when it passed."""
    await _redelivered(scene, scene.inbox(act=Failing(2)), 2)


@check("redelivery on cancellation")
async def _on_cancellation(scene: Scene) -> None:
    """A message whose receiver was cancelled is delivered again; the server goes on."""
    await _redelivered(scene, scene.inbox(act=Failing(1, asyncio.CancelledError())), 1)


@check("redelivery on time-out")
async def _on_timeout(scene: Scene) -> None:
    """A message whose receiver ran out of time is delivered again."""
    late: set[bytes] = set()

    async def act(message: Message) -> None:
        async with asyncio.timeout(0.01):
            if message.body not in late:
                late.add(message.body)
                await asyncio.Event().wait()

    await _redelivered(scene, scene.inbox(act=act), 1)


@check("attempts are counted", COUNTS)
async def _attempts(scene: Scene) -> None:
    """`attempt` is 1 on the first delivery and one more after each that failed."""
    name = scene.name_of()
    inbox = scene.inbox(act=Failing(3))
    scene.start(name, inbox)
    await scene.publish(name, b"tried", b"other")
    await inbox.passes([b"tried", b"other"])
    for body in (b"tried", b"other"):
        attempts = [got.attempt for got in inbox.of(body)]
        scene.expect(attempts == [1, 2, 3, 4], f"the deliveries were the attempts {attempts}, not 1, 2, 3, 4")


@check("attempts outlive a connection", COUNTS)
async def _attempts_outlive(scene: Scene) -> None:
    """The attempts of one server count for the next, on whatever connection it is."""
    name = scene.name_of()
    first = scene.inbox("the first server", Failing(1000))
    connection = await scene.connect()
    server = scene.start(name, first, backend=connection, max_attempts=None, backoff=0.05)
    await connection.declare(name, "default")  # the publisher, on another one, cannot know of it
    await scene.publish(name, b"tried")
    await first.count(2)
    await server.shutdown()
    if connection is not scene.backend:
        await connection.close()
    second = scene.inbox("the second server")
    scene.start(name, second, backend=await scene.connect(), max_attempts=None)
    await second.passes([b"tried"])
    before, attempt = len(first.got), second.got[0].attempt
    # A system may count that it was taken and given back when the first server ended.
    scene.expect(
        before < attempt <= before + 2,
        f"after {before} attempts at one server, the next was given it as attempt {attempt}",
    )


@check("waiting between attempts")
async def _waiting(scene: Scene) -> None:
    """A failed message waits as long as `backoff` says, and other messages do not wait for it."""
    name, inbox = scene.name_of(), scene.inbox(act=Failing(1))
    inbox.act = _failing_on(b"failed")
    wait = 0.4
    scene.start(name, inbox, backoff=lambda attempt: wait)
    wait = max(wait, 6 * await scene.pace(name, inbox))
    await scene.publish(name, b"failed")
    await inbox.count(1)
    bodies = numbered(5)
    await scene.publish(name, *bodies)
    await inbox.passes([b"failed", *bodies])
    first, second = inbox.of(b"failed")[:2]
    waited = second.time - first.time
    scene.expect(
        waited >= wait - 0.02, f"a message that was to wait {wait:g} s came again after {waited:.3f} s"
    )
    scene.expect(
        inbox.passed[0] != b"failed",  # a slow system may not get to all of them meanwhile
        f"messages waited for one that had failed: they were received as {shown(inbox.passed)}",
    )


def _failing_on(body: bytes) -> Failing:
    failing = Failing(0)
    failing.tries[body] = -1
    return failing


@check("back-off by attempt", COUNTS)
async def _by_attempt(scene: Scene) -> None:
    """A `backoff` function is asked once for each failed attempt, with its number."""
    name, inbox = scene.name_of(), scene.inbox(act=Failing(3))
    asked: list[int] = []

    def backoff(attempt: int) -> float:
        asked.append(attempt)
        return 0.01

    scene.start(name, inbox, backoff=backoff)
    await scene.publish(name, b"failed")
    await inbox.passes([b"failed"])
    scene.expect(asked == [1, 2, 3], f"after the attempts 1, 2, 3 it was asked for {asked}")


@check("never given up")
async def _never_given_up(scene: Scene) -> None:
    """With ``max_attempts=None`` a message is delivered until it passes."""
    name, inbox = scene.name_of(), scene.inbox(act=Failing(8))
    scene.start(name, inbox, max_attempts=None, backoff=0.001)
    await scene.publish(name, b"stubborn", b"other")
    await inbox.passes([b"stubborn", b"other"])
    count = len(inbox.of(b"stubborn"))
    scene.expect(count == 9, f"it failed 8 times and was delivered {count} times")


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this error cannot be shown")


@check("any error")
async def _any_error(scene: Scene) -> None:
    """Whatever a receiver raises, the server goes on and the message comes again."""
    name = scene.name_of()
    errors: dict[bytes, BaseException] = {
        b"plain": Exception(),
        b"grouped": ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
        b"unspeakable": _Unspeakable(),
        b"stop": StopAsyncIteration(),
        b"time": TimeoutError(),
        b"system": ConnectionResetError("not the broker's"),
        b"long": ValueError("x" * 100_000 + "\n\x00ü"),
    }

    async def act(message: Message) -> None:
        error = errors.pop(message.body, None)
        if error is not None:
            raise error

    inbox = scene.inbox(act=act)
    scene.start(name, inbox, concurrency=2)
    bodies = list(errors)
    await scene.publish(name, *bodies)
    await inbox.passes(bodies)
    scene.expect(len(inbox.got) == 2 * len(bodies), f"each failed once, and came as {shown(inbox.bodies)}")


@check("continue after errors")
async def _continue_after_errors(scene: Scene) -> None:
    """Servers that fail on everything, one after the other, lose nothing for the one that does not."""
    name = scene.name_of()
    await scene.backend.declare(name, "default")
    bodies = numbered(20)
    await scene.publish(name, *bodies)
    for number in range(1, 3):
        failing = scene.inbox(f"failing server {number}", Failing(1000))
        server = scene.start(
            name, failing, max_attempts=None, concurrency=2, backoff=0.001, backend=await scene.connect()
        )
        await failing.count(30)
        await server.shutdown()
    inbox = scene.inbox("the server that does not fail")
    scene.start(name, inbox, max_attempts=None, concurrency=2)
    await inbox.passes(bodies)
    await inbox.nothing_more()


@check("a flow with failures")
async def _flow(scene: Scene) -> None:
    """Publishers, servers and failures all at once: every subscription passes every message just once."""
    name = scene.name_of()
    other = await scene.connect()
    bodies = numbered(60)
    inboxes = {which: scene.inbox(f"the subscription {which}") for which in ("a", "b")}
    for number, (which, inbox) in enumerate(inboxes.items()):
        failing = Failing(0)
        failing.tries = {body: -(index % 3) for index, body in enumerate(bodies[number:])}
        inbox.act = failing
        scene.start(name, inbox, subscription=which, concurrency=3)
        scene.start(name, inbox, subscription=which, concurrency=2, backend=other)
    await scene.backend.declare(name, "a", "b")
    topics = scene.backend.topic(name), other.topic(name)
    await scene.together(*(scene.publish(topics[n % 2], *bodies[n::4]) for n in range(4)))
    for inbox in inboxes.values():
        await inbox.passes(bodies)
    await scene.moment()
    for inbox in inboxes.values():
        inbox.exactly(bodies)
