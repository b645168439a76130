"""Committer: the one thread that uses a queue file. What waits for it together is committed together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from msgviz.backends.sqlite.file import QueueFile
from msgviz.errors import ConnectionFailed

T = TypeVar("T")

MOST = 256  # operations in one transaction: other processes want the file too
SOON, LATE = 0.01, 0.05  # seconds between two looks for what other processes did, after news and without
IDLE = 1.0  # seconds between two looks whether the loop is still there


@dataclass(slots=True, eq=False)
class _Job:
    """An operation that somebody waits for. The first of all opens the file, the last one closes it."""

    operation: Callable[[QueueFile], Any]
    durable: bool
    waiting: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    @property
    def last(self) -> bool:
        return self.operation is QueueFile.close

    def tell(self) -> None:
        if self.waiting.done():  # nobody waits any more
            return
        if self.error is not None:
            self.waiting.set_exception(self.error)
        else:
            self.waiting.set_result(self.result)


class Committer:
    """Carries out operations on a queue file, in their order.

    While `watched` is true it calls `news`, on the loop, when another process has changed the file.
    """

    def __init__(self, file: QueueFile, news: Callable[[], None]) -> None:
        self.watched = False
        self._file = file
        self._news = news
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=f"msgviz {file.name}", daemon=True)
        self._ended = False

    async def start(self) -> None:
        """Open the file; raises what keeps it from being opened."""
        opening = self._add(QueueFile.open)
        self._thread.start()
        try:
            await opening
        except BaseException:
            self._add(QueueFile.close)  # it may still be opening it
            raise

    async def run(self, operation: Callable[[QueueFile], T], *, durable: bool = False) -> T:
        """Have an operation carried out, in a transaction; returns what it returns, once committed.

        One that is not `durable` may be undone by a power cut. When cancelled, it may have been carried out.
        """
        if self._ended:
            raise ConnectionFailed(f"{self._file.name} was closed")
        result: T = await self._add(operation, durable=durable)
        return result

    async def stop(self) -> None:
        """Carry out what still waits, and close the file; the thread has ended then."""
        await self._add(QueueFile.close)
        self._thread.join()

    def _add(self, operation: Callable[[QueueFile], Any], *, durable: bool = False) -> asyncio.Future[Any]:
        job = _Job(operation, durable, self._loop.create_future())
        self._ended = self._ended or job.last
        self._jobs.put(job)
        return job.waiting

    # In the thread

    def _main(self) -> None:
        first = self._jobs.get()
        try:
            self._file.open()
        except Exception as error:  # noqa: BLE001  whoever opens it is told
            first.error = error
        self._tell([first])
        if first.error is not None:
            return
        last: list[_Job] = []
        try:
            last = self._serve()
        finally:
            self._file.close()
            self._tell(last)

    def _serve(self) -> list[_Job]:
        """Carry out jobs until the last one, which is returned; or until the loop they came from is gone."""
        pause = SOON
        while not self._loop.is_closed():
            jobs = self._next(pause if self.watched else IDLE)
            self._commit([job for job in jobs if not job.last and not job.waiting.cancelled()])
            if jobs and jobs[-1].last:
                self._tell(jobs[:-1])
                return jobs[-1:]
            self._tell(jobs)
            changed = self.watched and self._file.changed()
            if changed:
                self._call(self._news)
            pause = SOON if jobs or changed else min(2 * pause, LATE)
        return []

    def _next(self, timeout: float) -> list[_Job]:
        """The jobs that wait, up to the last of all; none where none came in time."""
        jobs: list[_Job] = []
        with suppress(Empty):
            jobs.append(self._jobs.get(timeout=timeout))
            while not jobs[-1].last and len(jobs) < MOST:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _commit(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        try:
            with self._file.transaction(durable=any(job.durable for job in jobs)):
                for job in jobs:
                    self._carry_out(job)
        except Exception as error:  # noqa: BLE001  nothing was stored: everybody is told
            for job in jobs:
                job.error = error

    def _carry_out(self, job: _Job) -> None:
        try:
            with self._file.part():
                job.result = job.operation(self._file)
        except Exception as error:
            if not self._file.in_transaction:
                raise
            job.error = error

    def _tell(self, jobs: list[_Job]) -> None:
        def tell() -> None:
            for job in jobs:
                job.tell()

        if jobs:
            self._call(tell)

    def _call(self, action: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop was closed, and with it went all who waited
            self._loop.call_soon_threadsafe(action)
