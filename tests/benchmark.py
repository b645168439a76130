"""What msgviz costs, as ratios within one run: ``python -m tests.benchmark``.

Each figure is the median of paired rounds, so that a noisy machine slows both sides of a ratio alike.
A message is 100 bytes with three attributes, written as go-msg does: new_writer, attributes, write,
close; at most 1024 of them wait. The receiver does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pandas as pd

import msgviz as mv

BODY = b"x" * 100
WAITING = 1024
now = time.perf_counter


class Count:
    """A receiver that counts."""

    def __init__(self) -> None:
        self.number = 0

    async def receive(self, message: Any) -> None:
        self.number += 1

    async def reach(self, number: int) -> None:
        while self.number < number:
            await asyncio.sleep(0)


# -- the floors: a pool of workers that pop a deque, and nothing else --------------------------------------


class Pool(mv.Topic):
    """The least that N workers on one deque can do: no retries, no delay, no shutdown, no fairness."""

    name = "pool"

    def __init__(self, workers: int, receive: Callable[[Any], Awaitable[None]]) -> None:
        self.waiting: deque[Any] = deque()
        self.idle: list[asyncio.Future[None]] = []
        self.full: asyncio.Future[None] | None = None
        self.receive = receive
        self.tasks = [asyncio.create_task(self.work()) for _ in range(workers)]

    async def work(self) -> None:
        waiting = self.waiting
        while True:
            if not waiting:
                idle = asyncio.get_running_loop().create_future()
                self.idle.append(idle)
                if self.full is not None and not self.full.done():
                    self.full.set_result(None)
                await idle
                continue
            message = waiting.popleft()
            try:
                await self.receive(message)
            except Exception:  # noqa: BLE001
                waiting.append(message)

    async def send(self, message: Any, delay: float) -> None:
        if len(self.waiting) >= WAITING:
            self.full = asyncio.get_running_loop().create_future()
            await self.full
        self.waiting.append(message)
        if self.idle:
            self.idle.pop().set_result(None)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class BareMessage:
    """A message whose attributes are a dict: no canonical keys, no several values, no checks."""

    __slots__ = ("attributes", "body")

    def __init__(self, body: bytes, attributes: dict[str, str]) -> None:
        self.body = body
        self.attributes = attributes


class BareWriter:
    """A writer whose attributes are a dict."""

    __slots__ = ("attributes", "closed", "parts", "pool")

    def __init__(self, pool: Pool) -> None:
        self.attributes: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.closed = False
        self.pool = pool

    def write(self, data: bytes) -> int:
        if self.closed:
            raise ValueError
        self.parts.append(data)
        return len(data)

    def close(self) -> Any:
        if self.closed:
            raise ValueError
        self.closed = True
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        return self.pool.send(BareMessage(body, self.attributes), 0.0)


async def publish_many(new_writer: Callable[[], Any], number: int) -> None:
    for _ in range(number):
        writer = new_writer()
        attributes = writer.attributes
        attributes["Source"] = "web"
        attributes["Kind"] = "order"
        attributes["Tenant"] = "one"
        writer.write(BODY)
        await writer.close()


async def bare_floor(number: int, concurrency: int) -> float:
    count = Count()
    pool = Pool(concurrency, count.receive)
    await asyncio.sleep(0)
    began = now()
    await publish_many(lambda: BareWriter(pool), number)
    await count.reach(number)
    taken = now() - began
    await pool.close()
    return taken / number


async def floor(number: int, concurrency: int) -> float:
    """The pool under msgviz's own messages: what is left is the backend."""
    count = Count()
    pool = Pool(concurrency, count.receive)
    await asyncio.sleep(0)
    began = now()
    await publish_many(pool.new_writer, number)
    await count.reach(number)
    taken = now() - began
    await pool.close()
    return taken / number


async def task_per_message(number: int, concurrency: int) -> float:
    count = Count()
    limit = asyncio.Semaphore(concurrency)
    tasks: set[asyncio.Task[None]] = set()

    async def one(message: Any) -> None:
        try:
            await count.receive(message)
        finally:
            limit.release()

    class Spawning(mv.Topic):
        name = "spawning"

        async def send(self, message: Any, delay: float) -> None:
            await limit.acquire()
            task = asyncio.create_task(one(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    topic = Spawning()
    began = now()
    await publish_many(topic.new_writer, number)
    await count.reach(number)
    return (now() - began) / number


async def memory(number: int, concurrency: int, log: mv.MessageLog | None = None) -> float:
    count = Count()
    backend = mv.connect("memory://", capacity=WAITING)
    if log is not None:
        backend = mv.observe(backend, log)
    topic = backend.topic("benchmark")
    server = backend.server("benchmark", concurrency=concurrency)
    server.start(count.receive)
    await asyncio.sleep(0.01)
    began = now()
    await publish_many(topic.new_writer, number)
    await count.reach(number)
    taken = now() - began
    await backend.close()
    return taken / number


async def observed(number: int, concurrency: int) -> float:
    return await memory(number, concurrency, mv.MessageLog())


# -- the log -------------------------------------------------------------------------------------------------


def events(number: int) -> list[tuple[Any, ...]]:
    """Events as observers record them, one publish and one receive a message."""
    made: list[tuple[Any, ...]] = []
    clock = time.perf_counter_ns()
    for i in range(number // 2):
        message_id = f"bench-{i}"
        values = {"Source": "web", "Kind": "order", "Msgviz-Id": f"{message_id}.{message_id}."}
        for place in (1, 0):
            made.append(  # noqa: PERF401
                (clock + i, clock + i + 500, place, message_id, "", message_id, 1, None, values, BODY)
            )
    return made


def new_log() -> mv.MessageLog:
    log = mv.MessageLog(max_events=2_000_000, max_bytes=1 << 40)
    log.places.receive("benchmark", "default", 5)
    log.places.publish("benchmark")
    return log


def cost_of_an_event(total: int, last: int = 10_000) -> float:
    """Seconds an event costs when `total` of them are in the log: recording the last ones of them."""
    log = new_log()
    made = events(total)
    record = log.record
    for event in made[: total - last]:
        record(event)
    began = now()
    for event in made[total - last :]:
        record(event)
    return (now() - began) / last


def frame_of_log(number: int) -> tuple[float, float]:
    """Seconds to make the events frame: from a log, and from a list of tuples of the same values."""
    log = new_log()
    for event in events(number):
        log.record(event)
    gc.collect()
    began = now()
    frame = log.events
    ours = now() - began
    columns = list(frame.columns)
    tuples = list(zip(*(frame[c].astype(object).where(frame[c].notna(), None) for c in columns), strict=True))
    del frame, log
    gc.collect()
    began = now()
    pd.DataFrame(tuples, columns=columns)
    return ours, now() - began


def bytes_per_event(number: int) -> float:
    gc.collect()
    tracemalloc.start()
    log = new_log()
    clock = time.perf_counter_ns()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(number // 2):
        message_id = f"bench-{i}"
        values = {"Source": "web", "Kind": "order", "Msgviz-Id": f"{message_id}.{message_id}."}
        body = bytes(100)
        for place in (1, 0):
            log.record((clock + i, clock + i + 500, place, message_id, "", message_id, 1, None, values, body))
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / number


# -- layers --------------------------------------------------------------------------------------------------

LAYERS = 8


class Sink(mv.Topic):
    """A topic that forgets."""

    name = "sink"

    async def send(self, message: mv.Message, delay: float) -> None:
        """Do nothing."""


class Pass(mv.TopicDecorator):
    """A layer that only sends on."""

    layer = "pass"

    async def send(self, message: mv.Message, delay: float) -> None:
        """Send it on."""
        await self.next.send(message, delay)


async def seconds_of_a_publish(number: int, layers: int, ledger: bool | None) -> float:
    """Through so many layers; observed with the ledger on or off, or (None) not observed at all."""
    topic: mv.Topic = Sink()
    for _ in range(layers):
        topic = Pass(topic)
    if ledger is not None:
        log = mv.MessageLog(max_events=2 * number, max_bytes=100_000_000)
        topic = mv.observe(topic, log, layers=ledger)
    start = now()
    await publish_many(topic.new_writer, number)
    return (now() - start) / number


def layers_in_one_round(number: int) -> tuple[float, float, float]:
    """Observed: the ledger off against the sum of the parts; on against off; what it costs a layer."""

    def seconds(layers: int, ledger: bool | None) -> float:
        gc.collect()
        return asyncio.run(seconds_of_a_publish(number, layers, ledger))

    observing = seconds(0, ledger=False)
    layers = seconds(LAYERS, ledger=None) - seconds(0, ledger=None)
    off, on = seconds(LAYERS, ledger=False), seconds(LAYERS, ledger=True)
    return off / (observing + layers), on / off, (on - off) / LAYERS


# -- importing -----------------------------------------------------------------------------------------------


def seconds_of_an_import(module: str) -> float:
    """In a new interpreter, all that the module imports included."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    (match,) = re.findall(rf"^import time:\s+\d+ \|\s+(\d+) \| {module}$", told, flags=re.MULTILINE)
    return int(match) / 1e6


# -- the report ----------------------------------------------------------------------------------------------


def paired(
    number: int, concurrency: int, rounds: int, *sides: Callable[[int, int], Any]
) -> list[list[float]]:
    """Seconds per message of each side, round by round."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, times in zip(sides, taken, strict=True):
            gc.collect()
            times.append(asyncio.run(side(number, concurrency)))
    return taken


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def line(what: str, value: str, reach: str = "") -> None:
    print(f"{what:<66} {value:>9}  {reach}".rstrip(), flush=True)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description="What msgviz costs, as ratios within one run.")
    parser.add_argument("--messages", type=int, default=50_000, help="messages a round (default 50000)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default 9)")
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the log (default 1000000)")
    options = parser.parse_args()
    number, rounds = options.messages, options.rounds
    imports = [(seconds_of_an_import("msgviz"), seconds_of_an_import("asyncio")) for _ in range(rounds)]
    line("import msgviz", f"{statistics.median(a for a, _ in imports) * 1000:.0f} ms", "(to reach: 100 ms)")
    line("  against import asyncio", f"{statistics.median(a / b for a, b in imports):.2f}")
    for concurrency in (1, 10):
        at = f"concurrency {concurrency}"
        sides = (bare_floor, floor, memory, task_per_message, observed)
        bare, low, ours, tasks, seen = paired(number, concurrency, rounds, *sides)
        line(f"publish to receive, {at}", f"{statistics.median(ours) * 1e6:.2f} µs")
        line(
            "  against a bare pool of workers under the same messages",
            f"{ratio(ours, low):.2f}",
            "(to reach: 1.4)",
        )
        line("  against a bare pool under messages with a plain dict", f"{ratio(ours, bare):.2f}")
        line("  against a task per message under the same messages", f"{ratio(ours, tasks):.2f}")
        line("  observed against unobserved", f"{ratio(seen, ours):.2f}", "(to reach: 2.7)")
    off, on, layer = (
        statistics.median(of)
        for of in zip(*(layers_in_one_round(number // 2) for _ in range(rounds)), strict=True)
    )
    line(
        f"publish through {LAYERS} layers, observed, the ledger off, against none",
        f"{off:.2f}",
        "(to reach: 1.02)",
    )
    line("  the ledger on, against off", f"{on:.1f}")
    line("  what the ledger costs a layer", f"{layer * 1e6:.1f} µs")
    many, few = options.events, 10_000
    costs = [(cost_of_an_event(many), cost_of_an_event(few)) for _ in range(3)]
    line(
        f"an event in a log of {many:,}, against one of {few:,}",
        f"{statistics.median(a / b for a, b in costs):.2f}",
        "(to reach: 1.2)",
    )
    frames = [frame_of_log(many) for _ in range(3)]
    line(f"{many:,} events to a DataFrame", f"{statistics.median(a for a, _ in frames):.2f} s")
    line(
        "  against DataFrame(list of tuples)",
        f"{statistics.median(a / b for a, b in frames):.2f}",
        "(to reach: 0.33)",
    )
    line("an event in memory, its body of 100 bytes included", f"{bytes_per_event(100_000):.0f} B")


if __name__ == "__main__":
    main()
