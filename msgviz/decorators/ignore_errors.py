"""ignore_errors: errors of the types listed are logged, and their messages count as processed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator

logger = logging.getLogger("msgviz")

Types = type[Exception] | Sequence[type[Exception]]


def decoder(receiver: Receiver, *, types: Types = (Exception,)) -> Receiver:
    """A receiver whose errors of these types are logged (``logging``, "msgviz") and go no further.

    Other errors pass. What is no `Exception`, a cancellation above all, cannot be ignored: `TypeError`.
    """
    return Decoder(receiver, types=types)


class Decoder(ReceiverDecorator):
    """Logs errors and goes on."""

    def __init__(self, next: Receiver, *, types: Types = (Exception,)) -> None:
        super().__init__(next)
        listed = (types,) if isinstance(types, type) else tuple(types)
        if not listed:
            raise ValueError("types lists no error: there is nothing to ignore")
        for one in listed:
            if not isinstance(one, type) or not issubclass(one, Exception):
                raise TypeError(f"types lists classes of Exception; {one!r} is none, and cannot be ignored")
        self.types = listed
        self.layer = "ignore_errors"

    async def __call__(self, message: Message) -> None:
        """Hand the message on; log what it fails with."""
        source, attempt = message.source, message.attempt
        try:
            await self.receive(message)
        except self.types as error:
            logger.warning(
                "ignored %s of a message of %s, attempt %d",
                type(error).__name__, source or "no source", attempt, exc_info=error,
            )  # fmt: skip
