"""multiserver: several servers into one receiver, in the ratio of their weights.

As go-msg's ``x/multiserver``, with start-time fair queueing (Goyal, Vin and Cheng, 1996): each message has
a virtual start, 1/weight after the one before it of the same server, and the earliest goes first. A server
that has nothing takes no share and saves none up: the others have it. Unlike go-msg's, a shutdown
finishes what is queued, and no attribute tells the server: `Message.source` does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from msgviz.decorator import check_decorators
from msgviz.errors import ServerClosed
from msgviz.message import Message, Source
from msgviz.receiver import ReceiverDecorator
from msgviz.server import Server
from msgviz.topic import as_seconds


def multiserver(
    servers: Iterable[tuple[Server, float]],
    *,
    concurrency: int = 1,
    wait: float = 0.001,
    decorators: Iterable[Any] = (),
) -> MultiServer:
    """A server of several ``(server, weight)``: at most `concurrency` receivers at a time run for all.

    While all have messages, their numbers are in the ratio of the weights. A server takes no more
    messages at a time than its own concurrency: for its share of the receivers it needs as many, and to
    have its next message at hand, one more. For one that has not, a free receiver waits `wait` seconds at
    most after each of its messages; then the others get it. Each message stays with its server: what the
    receiver raises goes back there. Receivers are wrapped in `decorators`, outside those of the servers.
    """
    return MultiServer(servers, concurrency=concurrency, wait=wait, decorators=decorators)


class MultiServer(Server):
    """Serves several servers. A server that fails ends it, with that error; the others are cancelled."""

    _GRACE = Server._GRACE + 2.0  # those inside have theirs

    def __init__(
        self,
        servers: Iterable[tuple[Server, float]],
        *,
        concurrency: int = 1,
        wait: float = 0.001,
        decorators: Iterable[Any] = (),
    ) -> None:
        lanes = [_Lane(self, server, weight) for server, weight in servers]
        if not lanes:
            raise ValueError("servers is a list of (server, weight), and not empty")
        if len({id(lane.server) for lane in lanes}) < len(lanes):
            raise ValueError("servers has one of them twice: add its weights")
        sources = [lane.server.source for lane in lanes]
        source = Source(_joined([s.topic for s in sources]), _joined([s.subscription for s in sources]))
        super().__init__(source, concurrency=concurrency, decorators=check_decorators(decorators))
        self.servers = tuple(lane.server for lane in lanes)
        self._wait = as_seconds(wait, "wait")
        self._lanes = lanes
        self._running = 0
        self._cut = 0  # receivers that were running when it was cancelled
        self._now = 0.0  # virtual: the start of the message that went last
        self._timer: asyncio.TimerHandle | None = None
        self._shutdowns: list[asyncio.Task[None]] = []

    async def work(self, slot: int) -> None:
        """Serve all servers; only the first worker has something to do."""
        if slot:
            return
        serving = [asyncio.create_task(self._serve(lane)) for lane in self._lanes]
        try:
            done, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            self._cut = self._running
            raise
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
        for task in done:
            task.result()

    async def _serve(self, lane: _Lane) -> None:
        try:
            await lane.server.serve(lane)
        except ServerClosed:
            if not self._closing:  # else the shutdown came before it had begun
                raise

    def wake(self) -> None:
        """Have all servers shut down: they finish what they hold, queued or being received."""
        self._shutdowns = [asyncio.create_task(server.shutdown()) for server in self.servers]

    async def shutdown(self, timeout: float | None = None) -> None:
        """Take no more messages, let those that are queued or in flight finish, and end.

        Past `timeout` seconds it cancels their receivers, gives their messages back, and raises
        `TimeoutError`. Raises what made a server fail.
        """
        failure: Exception | None = None
        try:
            await super().shutdown(timeout)
        except Exception as error:  # noqa: BLE001  raised below, when all are shut down
            failure = error
        # Also those that never served, or whose serving ended with the failure of another.
        ends = self._shutdowns or [asyncio.create_task(server.shutdown()) for server in self.servers]
        await asyncio.gather(*ends, return_exceptions=True)
        if isinstance(failure, TimeoutError) and failure is not self.failed:
            raise TimeoutError(
                f"the servers of {self.source} did not end within {timeout} s: "
                f"{self._cut} receiver(s) cancelled, their messages given back"
            )
        if failure is not None:
            raise failure

    async def end(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def looks_empty(self) -> bool | None:
        """Whether no server had a message at its last look; None where one cannot tell."""
        looks = [server.looks_empty() for server in self.servers]
        if False in looks:
            return False
        return None if None in looks else True

    # What follows is for the lanes.

    async def enter(self, lane: _Lane) -> None:
        """Wait for this lane's turn, and for a receiver to be free."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not lane.queue:
            lane.start = max(self._now, lane.finish)
        lane.queue.append(turn)
        lane.expected = None
        self._dispatch()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # a dispatch may have met it already
                    lane.queue.remove(turn)
                self._dispatch()
            else:  # its turn came at the moment it was cancelled
                self.leave(lane)
            raise

    def leave(self, lane: _Lane) -> None:
        """A receiver is free again, and the lane will soon bring its next message."""
        self._running -= 1
        if not lane.queue and not self._stopping:
            lane.expected = asyncio.get_running_loop().time() + self._wait
            lane.start = max(self._now, lane.finish)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._running < self.concurrency and any(lane.queue for lane in self._lanes):
            first = min((lane for lane in self._lanes if lane.queue or lane.expected is not None), key=_start)
            if first.queue:
                turn = first.queue.popleft()
                if turn.done():  # it was cancelled, and has not noticed yet
                    continue
                self._now = first.start
                first.start = first.finish = first.start + 1 / first.weight
                self._running += 1
                turn.set_result(None)
            elif not self._waits_for(first):
                first.expected = None
            else:
                return

    def _waits_for(self, lane: _Lane) -> bool:
        """Whether to wait for a lane whose turn it is, and look again in time."""
        loop = asyncio.get_running_loop()
        if lane.expected is None or lane.expected <= loop.time():
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(lane.expected, self._dispatch)
        return True


class _Lane(ReceiverDecorator):
    """What a server is served to: a message waits here for its turn, and then for the receiver."""

    layer = "multiserver"

    def __init__(self, whole: MultiServer, server: Server, weight: float) -> None:
        if not isinstance(server, Server):
            raise TypeError(f"servers is a list of (server, weight), not of {type(server).__name__}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise TypeError(f"weight is a number, not {weight!r}")
        if not 1e-9 <= weight <= 1e9:
            raise ValueError(f"weight is a number above 0, from 1e-9 to 1e9, not {weight!r}")
        self.whole = whole
        self.server = server
        self.weight = weight
        self.queue: deque[asyncio.Future[None]] = deque()
        # While the next message may be on its way, the last having ended: until then, on the loop's clock.
        self.expected: float | None = None
        self.start = self.finish = 0.0  # virtual: of the first that is queued, of the last that went

    @property
    def next(self) -> Any:  # type: ignore[override]
        """What all servers are served to."""
        return self.whole.whole_receiver

    async def __call__(self, message: Message) -> None:
        """Hand the message on when its turn has come."""
        await self.whole.enter(self)
        try:
            await self.whole.receive(message)
        finally:
            self.whole.leave(self)


def _start(lane: _Lane) -> float:
    return lane.start


def _joined(names: Sequence[str]) -> str:
    return "+".join(dict.fromkeys(names))
