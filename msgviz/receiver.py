"""Receiver: what processes a message, and what wraps one."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, cast

from msgviz.message import Message

Receiver: TypeAlias = Callable[[Message], Awaitable[None] | None]
"""Any callable that takes a `Message`. An ``async def`` runs on the loop, a plain ``def`` in a worker
thread. Returning says that the message was processed; raising, that it was not, and is to be
delivered again. Source: go-msg's ``Receiver``."""

AsyncReceiver: TypeAlias = Callable[[Message], Awaitable[None]]


class ReceiverDecorator(ABC):
    """A receiver around another, kept as `next`. To write one, define `__call__` and await `self.receive`.

    `layer` is the name by which a chain shows it.
    """

    layer: str = ""

    def __init__(self, next: Receiver) -> None:
        self.receive = as_async(next)
        self.next: Receiver = next

    @abstractmethod
    async def __call__(self, message: Message) -> None:
        """Process one message."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {receiver_name(self.next)}>"


class _ThreadReceiver:
    """Runs a plain function in worker threads, in the context of the task that called it."""

    _MOST_THREADS = 256

    def __init__(self, function: Callable[[Message], Any]) -> None:
        self.next = function
        # Its own pool: the loop's default one has cores + 4 threads, fewer than a server's concurrency.
        # Threads are made when needed and end with this object.
        self._pool = ThreadPoolExecutor(self._MOST_THREADS, thread_name_prefix="msgviz-receiver")

    async def __call__(self, message: Message) -> None:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._pool, context.run, self._call, message)
        if inspect.isawaitable(result):  # a plain function, a lambda say, that gave back a coroutine
            await result

    def _call(self, message: Message) -> Any:
        try:
            return self.next(message)
        except StopIteration as error:  # no future can carry one: the worker would wait for ever
            raise RuntimeError("the receiver raised StopIteration") from error


def as_async(receiver: Receiver) -> AsyncReceiver:
    """A receiver as something to await: an ``async def`` as it is, a plain ``def`` in a worker thread."""
    if not callable(receiver):
        raise TypeError(f"a receiver is a callable that takes a Message, not {type(receiver).__name__}")
    if inspect.isgeneratorfunction(receiver) or inspect.isasyncgenfunction(receiver):
        raise TypeError(f"a receiver returns, it does not yield: {receiver_name(receiver)} would never run")
    if isinstance(receiver, ReceiverDecorator):
        return receiver.__call__  # the method itself: faster to call than the object
    if inspect.iscoroutinefunction(receiver) or inspect.iscoroutinefunction(
        getattr(type(receiver), "__call__", None)  # noqa: B004
    ):
        return cast("AsyncReceiver", receiver)
    return _ThreadReceiver(receiver)


def receiver_name(receiver: object) -> str:
    """The name a person gave a receiver."""
    name = getattr(receiver, "__qualname__", None) or getattr(receiver, "__name__", None)
    return str(name).rpartition("<locals>.")[2] if name else type(receiver).__name__
