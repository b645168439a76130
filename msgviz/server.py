"""Server: serves the messages of one subscription to a receiver."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from msgviz.decorator import decorate_receiver
from msgviz.errors import MsgvizError, ServerClosed
from msgviz.message import Message, Source
from msgviz.receiver import AsyncReceiver, Receiver, as_async


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed message waits: `first` seconds, then `factor` times as long, at most `maximum`."""

    first: float = 0.01
    factor: float = 2.0
    maximum: float = 10.0

    def __post_init__(self) -> None:
        if not (self.first >= 0 and self.maximum >= 0 and self.factor >= 1):
            raise ValueError(f"a back-off has first and maximum from 0 on and a factor from 1 on: {self}")

    def __call__(self, attempt: int) -> float:
        """Seconds to wait after this attempt, the first being 1, failed."""
        try:
            return min(self.first * self.factor ** (attempt - 1), self.maximum)
        except OverflowError:
            return self.maximum if self.first else 0.0


BackoffLike: TypeAlias = Callable[[int], float] | float
"""Seconds between attempts: a number, or a function of the attempt that failed."""


def as_backoff(backoff: BackoffLike) -> Callable[[int], float]:
    """A back-off as a function of the attempt that failed."""
    if callable(backoff):
        return backoff
    return Backoff(first=backoff, factor=1.0, maximum=backoff)


async def _no_receiver(message: Message) -> None:
    raise AssertionError("a worker ran before its server had a receiver")


class Server(ABC):
    """Serves messages to a receiver, at most `concurrency` at a time. Source: go-msg's ``Server``.

    A message whose receiver raised is given back and delivered again. To write one, define `work`; the
    life cycle is here, the same for every backend.
    """

    _GRACE = 1.0  # seconds a cancelled receiver has to end before its message is given back without it

    def __init__(self, source: Source, *, concurrency: int = 1, decorators: Sequence[Any] = ()) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ValueError(f"concurrency is a whole number from 1 on, not {concurrency!r}")
        self.source = source
        self.concurrency = concurrency
        self.decorators = tuple(decorators)
        self.receiver: Receiver | None = None
        self.whole_receiver: Receiver | None = None  # in its decorators
        self.receive: AsyncReceiver = _no_receiver
        self._stopping = False  # workers are to take no more messages
        self._closing = False  # shutdown was called
        self._closed = False
        self._workers: list[asyncio.Task[None]] = []
        self._background: asyncio.Task[None] | None = None
        self._quit: asyncio.Future[None] | None = None  # while serving: set, it ends it at once
        self._ended: asyncio.Event | None = None

    @property
    def topic(self) -> str:
        """The name of the topic it serves."""
        return self.source.topic

    @property
    def subscription(self) -> str:
        """The name of the subscription it serves."""
        return self.source.subscription

    @abstractmethod
    async def work(self, slot: int) -> None:
        """Be worker number `slot` of `concurrency`: take messages and await ``self.receive(message)``.

        Returns soon after `stopping` became true and `wake` was called. When cancelled, gives back the
        message it holds.
        """

    def wake(self) -> None:
        """Make workers that wait for a message look at `stopping`."""

    def abandon(self, slots: Sequence[int]) -> None:
        """Give back the messages of workers that did not end when cancelled."""

    async def end(self) -> None:
        """Let go of what the workers shared; called when all of them have ended."""

    def looks_empty(self) -> bool | None:
        """Whether no message was there at the last look; None where nobody can tell."""
        return None

    @property
    def stopping(self) -> bool:
        """Whether workers should take no more messages."""
        return self._stopping

    @property
    def serving(self) -> bool:
        """Whether it is serving now, in the background or not."""
        return self._quit is not None or (self._background is not None and not self._background.done())

    def set_receiver(self, receiver: Receiver) -> None:
        """The receiver for the messages that follow; those in flight stay with theirs."""
        as_async(receiver)  # a wrong one is refused here, before it is wrapped
        self.whole_receiver = decorate_receiver(receiver, self.decorators)
        self.receive = as_async(self.whole_receiver)
        self.receiver = receiver

    async def serve(self, receiver: Receiver) -> None:
        """Serve until `shutdown`. Cancelling it gives the messages in flight back.

        Raises `ServerClosed` after a shutdown, and whatever made the system's connection fail.
        """
        if self._closing:
            raise ServerClosed(str(self.source))
        if self.serving and asyncio.current_task() is not self._background:
            raise MsgvizError(
                f"{self.source} is being served already: swap its receiver with start(receiver)"
            )
        self.set_receiver(receiver)
        self._stopping = False
        self._quit = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._workers = [asyncio.create_task(self.work(slot)) for slot in range(self.concurrency)]
        all_ended = asyncio.ensure_future(asyncio.wait(self._workers, return_when=asyncio.FIRST_EXCEPTION))
        try:
            either: list[asyncio.Future[Any]] = [all_ended, self._quit]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                await self._end_workers()
            finally:  # also when it is cancelled a second time
                all_ended.cancel()
                self._quit = None
                self._ended.set()
        for worker in self._workers:
            if worker.done() and not worker.cancelled():
                worker.result()

    async def _end_workers(self) -> None:
        """Cancel what still works; give back what a receiver that ignores its cancelling holds."""
        self._stopping = True
        for worker in self._workers:
            worker.cancel()
        try:
            await asyncio.wait(self._workers, timeout=self._GRACE)
        finally:
            stuck = [slot for slot, worker in enumerate(self._workers) if not worker.done()]
            if stuck:
                self.abandon(stuck)
            await self.end()

    def ends_worker(self) -> bool:
        """Whether a cancellation is the server's; one that a receiver asked for itself is taken back."""
        task = asyncio.current_task()
        if task is None or (self._stopping and task.cancelling()):
            return True
        while task.cancelling():
            task.uncancel()
        return False

    def start(self, receiver: Receiver) -> None:
        """Serve in the background of the running loop; called again, swap the receiver.

        A server that fails says so in `shutdown`, and in the log that observes it.
        """
        if self._closing:
            raise ServerClosed(str(self.source))
        if self._background is not None and not self._background.done():
            self.set_receiver(receiver)
            return
        if self._quit is not None:
            raise MsgvizError(f"{self.source} is being served already, by serve()")
        self.set_receiver(receiver)
        self._background = asyncio.get_running_loop().create_task(self._serve_started())
        # Retrieved here so that it is never reported as lost: `failed` and `shutdown` tell it.
        self._background.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _serve_started(self) -> None:
        if self.receiver is not None and not self._closing:
            await self.serve(self.receiver)

    @property
    def failed(self) -> BaseException | None:
        """What made the background server end before its shutdown, if anything did."""
        task = self._background
        if task is None or not task.done() or task.cancelled():
            return None
        return task.exception()

    def on_end(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call back when the background server ends, with what made it fail or None."""
        task = self._background
        if task is not None:
            task.add_done_callback(lambda t: callback(None if t.cancelled() else t.exception()))

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncIterator[Server]:
        """Serve inside an ``async with`` block, and shut down on leaving it."""
        self.start(receiver)
        try:
            yield self
        except BaseException:
            # The block's own error is the one to show; what the shutdown would say comes second.
            await asyncio.gather(self.shutdown(), return_exceptions=True)
            raise
        else:
            await self.shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Take no more messages, let those in flight finish, and end.

        Past `timeout` seconds it cancels their receivers, gives their messages back, and raises
        `TimeoutError`. Raises what made a background server fail. Shutting down twice is no error.
        """
        if self._closed:
            return
        self._closing = self._stopping = True
        late = 0
        if self._quit is not None and self._ended is not None:
            self.wake()
            try:
                async with asyncio.timeout(timeout):
                    await self._ended.wait()
            except TimeoutError:
                late = sum(not worker.done() for worker in self._workers)
                if self._quit is not None and not self._quit.done():  # it may have ended just now
                    self._quit.set_result(None)
                await self._ended.wait()
        if self._background is not None:
            await asyncio.wait([self._background])
        self._closed = True
        if self.failed is not None:
            raise self.failed
        if late:
            raise TimeoutError(
                f"the server of {self.source} did not end within {timeout} s: "
                f"{late} receiver(s) cancelled, their messages given back"
            )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "serving" if self.serving else "idle"
        return f"<{type(self).__name__} {self.source} {state}>"


class Turn:
    """Tells a busy worker when to give the loop its turn.

    A pool whose receivers never suspend would starve the loop, and freeze the notebook. Reading the
    clock for each message would cost more than it is worth, so the next reading is planned from how
    long the last messages took: at most `SLICE` seconds pass between two turns of one worker.
    """

    SLICE = 0.003

    __slots__ = ("_began", "_share", "_step")

    def __init__(self, workers: int = 1) -> None:
        # Workers take their turns one behind the other, so they share the time.
        self._share = max(self.SLICE / workers, 0.0002)
        self.begin()

    def begin(self) -> int:
        """A turn begins: the loop has just run. Gives the number of messages until the next `look`."""
        self._began = time.perf_counter()
        self._step = 1
        return 1

    def look(self) -> int:
        """The number of messages until the next look; 0 when the loop should have its turn now."""
        spent = time.perf_counter() - self._began
        if spent >= self._share:
            return 0
        # At most double: a run of slow messages must not hide behind quick ones.
        if spent * 4 < self._share:
            self._step = min(self._step * 2, 64)
        else:
            self._step = max(self._step // 2, 1)
        return self._step
