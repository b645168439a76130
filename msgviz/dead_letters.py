"""Dead letters: what a subscription gave up on, and the way back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress

from msgviz.message import Message, Source, wrap
from msgviz.server import Server
from msgviz.topic import Topic


def dead_letter_topic(source: Source) -> str:
    """The name of the topic that takes what a subscription gave up on."""
    return f"{source.topic}.{source.subscription}.dead"


def dead_letter_attributes(source: Source, attempts: int, error: BaseException) -> dict[str, str]:
    """The attributes that tell, on a dead letter, where it comes from and why it is dead."""
    reason = type(error).__name__
    with suppress(Exception):  # an error whose own __str__ fails is still a reason
        reason = f"{reason}: {error}"
    return {
        "Dead-Letter-Reason": reason if len(reason) <= 1000 else reason[:999] + "…",
        "Dead-Letter-Topic": source.topic,
        "Dead-Letter-Subscription": source.subscription,
        "Dead-Letter-Attempts": str(attempts),
    }


LETTER_ATTRIBUTES = (
    "Dead-Letter-Reason",
    "Dead-Letter-Topic",
    "Dead-Letter-Subscription",
    "Dead-Letter-Attempts",
)
REDRIVEN = "Dead-Letter-Redriven"
"""The attribute in which a redriven message names the run that moved it."""


class _DiedAgain(Exception):
    """A letter that this run has moved already: it stays a letter."""


class Redrive:
    """One run that moves dead letters to `target`; see `Backend.redrive`."""

    WAIT = 1.0  # seconds until a letter that stays is there again
    IDLE = 1.0  # seconds without a letter after which a server that cannot tell is taken to have no more

    def __init__(
        self,
        target: Topic,
        *,
        limit: int | None = None,
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ValueError(f"limit is a whole number from 0 on, or None, not {limit!r}")
        if rate is not None and not rate > 0:
            raise ValueError(f"rate is a number of messages a second above 0, or None, not {rate!r}")
        self._target = target
        self._limit = limit
        self._interval = 0.0 if rate is None else 1 / rate
        self._progress = progress
        self._run = os.urandom(6).hex()
        self._moved = 0
        self._unmarked: set[bytes] = set()
        self._busy = False
        self._looked = time.monotonic()  # when it last had a letter
        self._stayed: float | None = None  # since when all letters were such as stay
        self._failure: BaseException | None = None
        self._done = asyncio.Event()

    async def run(self, server: Server) -> int:
        """Take letters from this server until there are no more; shuts it down."""
        if self._limit == 0:
            await server.shutdown()
            return 0
        server.start(self._move)
        try:
            while not self._done.is_set() and server.serving:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self._done.wait()
                if not self._busy and self._no_more(server):
                    break
        finally:
            # A letter past the limit waits in its receiver: the shutdown gives it back.
            with suppress(TimeoutError):
                await server.shutdown(0 if self._done.is_set() else None)
        if self._failure is not None:
            raise self._failure
        return self._moved

    def _no_more(self, server: Server) -> bool:
        # Those that stay come again and again, so that a server that waits for them never finds nothing.
        if self._stayed is not None and time.monotonic() - self._stayed > 2 * self.WAIT:
            return True
        empty = server.looks_empty()
        if empty is None:
            return time.monotonic() - self._looked > self.IDLE
        return empty

    async def _move(self, letter: Message) -> None:
        if self._done.is_set():
            await _given_back()
        self._busy = True
        began = time.monotonic()
        try:
            if letter.attributes.get(REDRIVEN) == self._run or (
                self._unmarked and _digest(letter) in self._unmarked
            ):
                self._stayed = self._stayed or began
                raise _DiedAgain
            self._stayed = None
            message = wrap(letter.body, letter.freeze())
            for key in LETTER_ATTRIBUTES:
                message.attributes.pop(key, None)
            message.attributes[REDRIVEN] = self._run
            try:
                await self._send(message)
            except Exception as error:  # noqa: BLE001  whatever it is, the caller of redrive gets it
                self._fail(error)
                await _given_back()
            self._moved += 1
            if self._progress is not None:
                try:
                    self._progress(self._moved)
                except Exception as error:  # noqa: BLE001  the letter was moved: it must not be moved again
                    self._fail(error)
            if self._moved == self._limit:
                self._done.set()
            if self._interval and not self._done.is_set():
                await asyncio.sleep(max(0.0, began + self._interval - time.monotonic()))
        finally:
            self._looked = time.monotonic()
            self._busy = False

    async def _send(self, message: Message) -> None:
        try:
            await self._target.send(message, 0.0)
        except ValueError:
            # It may have as many attributes as there can be: by what it is we know it again, then.
            del message.attributes[REDRIVEN]
            await self._target.send(message, 0.0)
            self._unmarked.add(_digest(message))

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._done.set()


def _digest(message: Message) -> bytes:
    """What a message is, apart from what the dead-letter topic and a redrive wrote on it."""
    attributes = message.attributes.to_dict()
    for key in (REDRIVEN, *LETTER_ATTRIBUTES):
        attributes.pop(key, None)
    kept = repr(sorted(attributes.items())).encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%d:%b%b" % (len(message.body), message.body, kept)).digest()


async def _given_back() -> None:
    """Wait for the shutdown, which cancels this and so gives the letter back, as if nobody had taken it."""
    await asyncio.Event().wait()
