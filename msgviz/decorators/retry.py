"""retry: tries a receiver again in place, a few times, before the server hears of an error.

For errors that are gone in a moment: the message keeps its place, and its delivery counts as one attempt.
tenacity does the work.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from msgviz.decorators._limits import number, whole
from msgviz.errors import MissingExtra
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import as_seconds

try:
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
    from tenacity.wait import wait_exponential
except ImportError as error:
    raise MissingExtra("the retry decorator", "retry") from error


def decoder(
    receiver: Receiver,
    *,
    attempts: int = 3,
    first: float | timedelta = 0.1,
    factor: float = 2.0,
    maximum: float | timedelta = 10.0,
    jitter: float = 0.5,
) -> Receiver:
    """A receiver that is tried up to `attempts` times; the last error is raised as it is.

    Between them it waits `first` seconds, then `factor` times as long, at most `maximum`; a random share of
    that, up to `jitter` (0 to 1), is left out, so that those who failed together do not come back together.
    Each attempt gets the message as it came. A cancellation ends it at once.
    """
    return Decoder(receiver, attempts=attempts, first=first, factor=factor, maximum=maximum, jitter=jitter)


class Decoder(ReceiverDecorator):
    """Tries again."""

    def __init__(
        self,
        next: Receiver,
        *,
        attempts: int = 3,
        first: float | timedelta = 0.1,
        factor: float = 2.0,
        maximum: float | timedelta = 10.0,
        jitter: float = 0.5,
    ) -> None:
        super().__init__(next)
        self.attempts = whole(attempts, "attempts")
        self.first = as_seconds(first, "first")
        self.factor = number(factor, "factor", 1)
        self.maximum = as_seconds(maximum, "maximum")
        self.jitter = number(jitter, "jitter", 0, 1)
        self.layer = f"retry ×{attempts}"  # noqa: RUF001  a multiplication sign it is
        exponential = wait_exponential(multiplier=self.first, exp_base=self.factor, max=self.maximum)

        def wait(state: RetryCallState) -> float:
            return exponential(state) * random.uniform(1 - self.jitter, 1)  # noqa: S311  no secret

        self._retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            stop=stop_after_attempt(self.attempts),
            wait=wait,
            retry=retry_if_exception_type(Exception),
            reraise=True,
        )

    async def __call__(self, message: Message) -> None:
        """Hand the message on until that goes well, or went wrong often enough."""
        # A copy, as in tenacity's own wrapper: a retrying keeps the state of one call.
        await self._retrying.copy()(self._attempt, message)

    async def _attempt(self, message: Message) -> None:
        # The message itself is never handed on: whatever an attempt does to its own, this is as it came.
        await self.receive(message.with_body(message.body))
