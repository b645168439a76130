"""At least once: whatever publishers, servers, receivers and shutdowns do, no message is lost.

Random flows through memory://. Every message is, for every subscription, received without an error or a
dead letter in the end; it is either of them more than once only where a receiver was cancelled.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, note, settings
from hypothesis import strategies as st

import msgviz as mv


@dataclass(frozen=True)
class Slot:
    """One place for servers of a subscription, which follow each other."""

    subscription: str
    concurrency: int
    lives: list[tuple[int, float | None, str]]
    """How many receives each but the last server lives for, the timeout of its end, and how it ends."""


@dataclass(frozen=True)
class Flow:
    """What happens in one example."""

    seed: int
    capacity: int | None
    max_attempts: int | None
    subscriptions: list[str]
    publishers: list[int]
    in_threads: bool
    early: bool
    """Whether all is published before the first server is made, if there is room."""
    slots: list[Slot]


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    subscriptions = ["a", "b", "c"][: draw(st.integers(1, 3))]
    capacity = draw(st.sampled_from([None, None, 1, 3]))
    life = st.tuples(
        st.integers(0, 12),
        st.sampled_from([None, None, 0.0, 0.002]),
        st.sampled_from(["shutdown", "shutdown", "cancel"]),
    )
    slots = [
        Slot(name, draw(st.integers(1, 5)), draw(st.lists(life, max_size=4)))
        for name in subscriptions
        for _ in range(draw(st.integers(1, 2)))
    ]
    return Flow(
        seed=draw(st.integers(0, 2**32)),
        capacity=capacity,
        max_attempts=draw(st.sampled_from([1, 2, 4, None])),
        subscriptions=subscriptions,
        publishers=draw(st.lists(st.integers(0, 25), min_size=1, max_size=4)),
        in_threads=draw(st.booleans()),
        early=capacity is None and draw(st.booleans()),
        slots=slots,
    )


class Failed(Exception):
    """What receivers raise."""


@dataclass
class Told:
    """What was seen of one subscription."""

    ok: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    cancelled: set[str] = field(default_factory=set)


class World:
    """One flow, under way."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.backend = mv.connect("memory://", capacity=flow.capacity)
        self.topic = self.backend.topic("t")
        self.random = Random(flow.seed)
        self.told = {name: Told() for name in flow.subscriptions}
        self.expected = {f"{who}.{n}" for who, count in enumerate(flow.publishers) for n in range(count)}
        self.moved = asyncio.Event()
        self.wrong: list[str] = []
        """What receivers saw that must not be: for them to raise it would be one failure more."""

    def done(self) -> bool:
        return all(told.ok.keys() | told.dead.keys() == self.expected for told in self.told.values())

    def step(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    async def publish(self, who: int, count: int) -> None:
        random = Random(self.flow.seed + who)
        for number in range(count):
            delay = random.choice([0, 0, 0, 0.001, 0.003])
            name = f"{who}.{number}"
            if random.random() < 0.5:
                await self.topic.publish(name.encode(), attributes={"Name": name}, delay=delay)
            else:
                async with self.topic.new_writer() as writer:
                    writer.attributes["name"] = name
                    writer.write(name.encode())
                    writer.set_delay(delay)

    async def receive(self, told: Told, message: mv.Message) -> None:
        name = message.text
        if message.attributes != {"Name": name}:
            self.wrong.append(f"an earlier attempt shows: {message!r}")
        message.attributes["Touched"] = str(message.attempt)
        try:
            await self.behave(message)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                told.cancelled.add(name)
            else:
                told.failed[name] += 1
            raise
        except BaseException:
            told.failed[name] += 1
            raise
        told.ok[name] += 1

    async def behave(self, message: mv.Message) -> None:
        way = self.random.random()
        # Without a limit a message comes until it is taken, so it is to be taken in the end.
        trouble = 0.5 if message.attempt < 6 else 0
        if way < 0.3:
            await asyncio.sleep(0)
        elif way < 0.4:
            await asyncio.sleep(0.001)
        way = self.random.random()
        if way < trouble * 0.5:
            raise Failed(message.text)
        if way < trouble * 0.7:
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        if way < trouble * 0.85:
            other = asyncio.ensure_future(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(other.cancel)
            await other
        if way < trouble:
            raise asyncio.CancelledError

    async def live(self, slot: Slot) -> None:
        """The servers of one slot, one after the other; the last until all is done."""
        told = self.told[slot.subscription]
        for receives, timeout, end in [*slot.lives, (-1, None, "shutdown")]:
            server = self.backend.server(
                "t",
                subscription=slot.subscription,
                concurrency=slot.concurrency,
                max_attempts=self.flow.max_attempts,
                backoff=lambda attempt: 0.0005 * (attempt % 3),
            )
            count = now = 0

            async def receive(message: mv.Message, server: mv.Server = server) -> None:
                nonlocal count, now
                count, now = count + 1, now + 1
                if now > server.concurrency:
                    self.wrong.append(f"{now} receivers at a time, not {server.concurrency}")
                try:
                    await self.receive(told, message)
                finally:
                    now -= 1
                    self.step()

            serving = asyncio.create_task(server.serve(receive))
            await asyncio.sleep(0)
            while not self.done() and not 0 <= receives <= count:
                await self.moved.wait()
            if end == "cancel":
                serving.cancel()
                await asyncio.wait([serving])
                assert serving.cancelled()
                again = asyncio.create_task(server.serve(receive))  # the same one once more
                await asyncio.sleep(0)
                await server.shutdown()
                await again
                continue
            try:
                await server.shutdown(timeout)
            except TimeoutError:
                assert timeout is not None
            await serving

    async def count_the_dead(self, subscription: str) -> None:
        """Counts dead letters until it is cancelled."""
        told = self.told[subscription]

        async def receive(message: mv.Message) -> None:
            name = message.text
            message.attributes.pop("Dead-Letter-Reason")
            if message.attributes != {
                "Name": name,
                "Dead-Letter-Topic": "t",
                "Dead-Letter-Subscription": subscription,
                "Dead-Letter-Attempts": str(self.flow.max_attempts),
            }:
                self.wrong.append(f"an odd dead letter: {message!r}")
            told.dead[name] += 1
            self.step()

        await self.backend.server(f"t.{subscription}.dead", max_attempts=None).serve(receive)

    async def run(self) -> None:
        flow = self.flow
        if len(flow.subscriptions) > 1 or not flow.early:
            await self.backend.declare("t", *flow.subscriptions)
        jobs = [self.publish(who, count) for who, count in enumerate(flow.publishers)]
        if flow.in_threads:
            publishing = [asyncio.create_task(asyncio.to_thread(asyncio.run, job)) for job in jobs]
        else:
            publishing = [asyncio.create_task(job) for job in jobs]
        if flow.early:
            await asyncio.gather(*publishing)
        async with asyncio.timeout(20):  # far more than any flow takes: a message is lost
            burying = [asyncio.create_task(self.count_the_dead(name)) for name in flow.subscriptions]
            await asyncio.gather(*(self.live(slot) for slot in flow.slots))
            await asyncio.gather(*publishing)
        for task in burying:
            task.cancel()
        await asyncio.gather(*burying, return_exceptions=True)

    def check(self) -> None:
        assert self.wrong == []
        limit = self.flow.max_attempts
        for told in self.told.values():
            assert told.ok.keys() | told.dead.keys() == self.expected
            for name in self.expected - told.cancelled:
                assert told.ok[name] + told.dead[name] == 1, name
                if limit is None:
                    assert not told.dead[name]
                elif told.dead[name]:
                    assert told.failed[name] == limit
                else:
                    assert told.failed[name] < limit


@given(flows())
@settings(max_examples=120)
def test_no_message_is_lost(flow: Flow) -> None:
    async def run() -> World:
        world = World(flow)
        try:
            await world.run()
        finally:
            for name, told in world.told.items():
                note(f"{name}: missing {sorted(world.expected - told.ok.keys() - told.dead.keys())}")
        return world

    asyncio.run(run()).check()
