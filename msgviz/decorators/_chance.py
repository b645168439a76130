"""What the teaching decorators share: chance that is the same every time, and copies of a message."""

from __future__ import annotations

import random

from msgviz.attributes import Attributes, Values
from msgviz.decorators._limits import number
from msgviz.message import Message


def check_rate(rate: float) -> float:
    """A share from 0 (never) to 1 (always); `TypeError` or `ValueError` for another."""
    return number(rate, "rate", 0, 1)


class Chance(random.Random):
    """Draws that are the same for the same seed; each side of a decorator has draws of its own.

    None as the seed: other ones every time.
    """

    def __init__(self, seed: int | None, side: str) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise TypeError(f"seed is a whole number, or None for another one every time, not {seed!r}")
        # Were both sides to draw the same, what fails at one could never be seen to fail at the other.
        super().__init__(None if seed is None else f"{side} {seed}")

    def happens(self, rate: float) -> bool:
        """Whether this time is one of those: so many of all, at this rate."""
        return self.random() < rate


def again(message: Message, body: bytes, values: Values) -> Message:
    """The same message once more, as it was: with this body and these frozen attributes."""
    copy = message.with_body(body)
    copy.attributes = Attributes.from_frozen(values)
    return copy
