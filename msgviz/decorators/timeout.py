"""timeout: a receiver that takes too long is cancelled, and its message has failed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from msgviz.decorators._limits import span
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator


def decoder(receiver: Receiver, *, seconds: float | timedelta = 30.0) -> Receiver:
    """A receiver that is cancelled after so many seconds; `TimeoutError` says so.

    A `TimeoutError` of the receiver's own passes unchanged. A plain ``def`` cannot be cancelled: its message
    is given up, and its thread runs on. A receiver that ignores its cancellation is waited for.
    """
    return Decoder(receiver, seconds=seconds)


class Decoder(ReceiverDecorator):
    """Cancels what takes too long."""

    def __init__(self, next: Receiver, *, seconds: float | timedelta = 30.0) -> None:
        super().__init__(next)
        self.seconds = span(seconds, "seconds")
        self.layer = f"timeout {self.seconds:g} s"

    async def __call__(self, message: Message) -> None:
        """Hand the message on, for so long."""
        own: TimeoutError | None = None
        try:
            async with asyncio.timeout(self.seconds):
                try:
                    await self.receive(message)
                except TimeoutError as error:
                    own = error
                    raise
        except TimeoutError as error:
            if error is own:
                raise
            raise TimeoutError(f"the receiver did not end within {self.seconds:g} s") from error.__cause__
