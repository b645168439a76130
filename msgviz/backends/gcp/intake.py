"""Intake: how messages of a subscription come in, by streaming pull or by pull."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as api
from google.pubsub_v1 import types

if TYPE_CHECKING:
    from msgviz.backends.gcp.backend import GcpBackend

_HEARTBEAT = 30.0  # seconds between signs of life on a stream
_LONG = 60.0  # seconds after which a stream that ends has done its time: Pub/Sub closes each some day
_PAUSE = 0.05  # seconds after an answer that there is nothing
_LAST_CALL = 2.0  # seconds for what is on its way already


class Intake:
    """Asks Pub/Sub for messages, and hands what comes to `receive`.

    A stream has a limit of as many messages, received and not settled, as there are workers. Where those
    that wait for another attempt use it up, the idle workers' messages come by pull meanwhile.
    """

    def __init__(
        self,
        backend: GcpBackend,
        path: str,
        limit: int,
        deadline: int,
        receive: Callable[[Iterable[types.ReceivedMessage], bool], None],
    ) -> None:
        self._backend = backend
        self._path = path
        self._routing = (("x-goog-request-params", f"subscription={path}"),)
        self._limit = limit
        self._deadline = deadline
        self._receive = receive
        self._stream: asyncio.Task[None] | None = None
        self._pull: asyncio.Task[None] | None = None
        self._half_closed = asyncio.Event()
        self._failure: Exception | None = None

    def check(self) -> None:
        """Raise what made a request fail since the last look."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def ask(self, count: int, streamed: int, arrived: asyncio.Event) -> None:
        """See that `count` messages may come; `streamed` ones of those that are lent came by stream."""
        if self._backend.streaming:
            if self._stream is None:
                self._stream = self._start(self._run_stream(), arrived)
            count -= max(0, self._limit - streamed)
        if count > 0 and self._pull is None:
            self._pull = self._start(self._run_pull(count), arrived)

    def _start(self, work: Any, arrived: asyncio.Event) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            if task is self._stream:
                self._stream = None
            if task is self._pull:
                self._pull = None
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                self._failure = error
            arrived.set()

        task.add_done_callback(ended)
        return task

    async def _run_pull(self, count: int) -> None:
        # The emulator still lends messages to a request that was cancelled meanwhile: there, none waits.
        at_once = self._backend.emulator is not None
        request = types.PullRequest(subscription=self._path, max_messages=count, return_immediately=at_once)
        try:
            # Not by the client's own method, which warns of the flag, in vain for an emulator.
            ask: Any = self._backend.subscriber.transport.pull
            answer = await ask(request, metadata=self._routing, timeout=90.0)
        except grpc.RpcError as error:
            known: Exception = api.from_grpc_error(error)  # type: ignore[no-untyped-call]
            if isinstance(known, api.DeadlineExceeded):
                return
            raise known from error
        if answer.received_messages:
            self._receive(answer.received_messages, False)
        elif not self._half_closed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._half_closed.wait()

    async def _run_stream(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            stream = await self._backend.subscriber.streaming_pull(
                requests=self._requests(),
                metadata=self._routing,
                retry=None,
                timeout=None,
            )
            async for answer in stream:
                self._receive(answer.received_messages, True)
        except (api.ServiceUnavailable, api.Aborted, api.InternalServerError, api.DeadlineExceeded):
            if loop.time() - began < _LONG:
                raise
        if not self._half_closed.is_set():
            await asyncio.sleep(_PAUSE)

    async def _requests(self) -> AsyncIterator[types.StreamingPullRequest]:
        yield types.StreamingPullRequest(
            subscription=self._path,
            stream_ack_deadline_seconds=self._deadline,
            max_outstanding_messages=self._limit,
        )
        while not self._half_closed.is_set():
            try:
                async with asyncio.timeout(_HEARTBEAT):
                    await self._half_closed.wait()
            except TimeoutError:
                yield types.StreamingPullRequest()

    async def end(self) -> None:
        """Ask for no more; what is on its way is still received."""
        self._half_closed.set()
        tasks = [task for task in (self._stream, self._pull) if task is not None]
        if self._pull is not None:
            await asyncio.wait([self._pull], timeout=_LAST_CALL if self._backend.emulator else 0.05)
        if self._stream is not None:
            await asyncio.wait([self._stream], timeout=_LAST_CALL)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
