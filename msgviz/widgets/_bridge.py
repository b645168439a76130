"""The way from a browser's callbacks to the event loop of the notebook."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

INTERVAL = 1 / 20
"""Seconds between two looks at whether there is something new to show."""


class Bridge:
    """Runs one widget's handlers on the event loop of the cell that made the widget.

    A notebook may deliver widget messages on another thread, with another event loop, than its cells run on.
    Whatever thread a handler is called for, `run` brings it to the loop of the cell, where topics, servers
    and logs are at home. Errors go to `report`, on that loop: a handler has no caller that could catch them.
    """

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: dict[Callable[[], object], asyncio.TimerHandle] = {}
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the cell; RuntimeError where there was none."""
        if self._loop is None:
            raise RuntimeError(
                "this widget was made where no event loop runs: make it in a notebook cell, "
                "or inside a coroutine that asyncio.run() runs"
            )
        return self._loop

    @property
    def has_loop(self) -> bool:
        """Whether the widget was made where an event loop runs."""
        return self._loop is not None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def run(
        self,
        handler: Callable[..., object],
        *args: object,
        report: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Call `handler(*args)` on the loop, from any thread; await what it returns if that is awaitable.

        Errors go to `report`, by default to the bridge's. After `close` this does nothing.
        """
        if not self._closed:
            self.loop.call_soon_threadsafe(self._start, handler, args, report)

    def _start(
        self,
        handler: Callable[..., object],
        args: tuple[object, ...] = (),
        report: Callable[[BaseException], None] | None = None,
    ) -> None:
        if not self._closed:
            self.spawn(_call(handler, args), report=report)

    def spawn(
        self, work: Coroutine[Any, Any, object], *, report: Callable[[BaseException], None] | None = None
    ) -> asyncio.Task[object]:
        """Run a coroutine as a task of the bridge: its error is reported, `close` cancels it. Loop only."""
        task = self.loop.create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None and not self._closed:
                (report or self._report)(error)

        task.add_done_callback(ended)
        return task

    def on_change(self, revision: Callable[[], object], flush: Callable[[], object]) -> None:
        """Call `flush` on the loop whenever `revision()` gives another value, at most 20 times a second.

        While nothing changes this costs one comparison a time. An asynchronous flush is awaited before the
        next. Without a loop (a widget made in a plain script) nothing is ever flushed.
        """
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._look, revision, flush, None, None)

    def _look(
        self,
        revision: Callable[[], object],
        flush: Callable[[], object],
        seen: object,
        running: asyncio.Task[object] | None,
    ) -> None:
        if self._closed:
            return
        if running is None or running.done():
            now = revision()
            if now != seen:
                seen = now
                running = self.spawn(_call(flush, ()))
        self._timers[flush] = self.loop.call_later(INTERVAL, self._look, revision, flush, seen, running)

    def close(self) -> None:
        """Stop flushing, cancel the tasks and ignore what still comes. From any thread; once is enough."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()


async def _call(handler: Callable[..., object], args: tuple[object, ...]) -> object:
    result = handler(*args)
    return await result if inspect.isawaitable(result) else result
