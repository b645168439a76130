"""circuit_breaker: after failures in a row, spares a receiver for a while what would fail as well."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from msgviz.decorators._errors import told
from msgviz.decorators._limits import span, whole
from msgviz.errors import MsgvizError
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator


class CircuitOpen(MsgvizError):
    """The circuit is open: the receiver was not called. `seconds` is the time until the next trial."""

    def __init__(self, failures: int, seconds: float, last: str) -> None:
        self.failures = failures
        self.seconds = seconds
        again = f"tried again in {seconds:.3g} s" if seconds > 0 else "being tried again now"
        super().__init__(f"the receiver failed {failures} times in a row, and is {again}; last: {last}")


def decoder(receiver: Receiver, *, failures: int = 5, seconds: float | timedelta = 30.0) -> Receiver:
    """A receiver that is left alone for `seconds` after so many failures in a row.

    Meanwhile each message is refused with `CircuitOpen`. Then one message is a trial: if it goes well the
    circuit is closed again, else it stays open for as long again. A cancellation is neither failure nor
    success. A refusal counts as an attempt with the server: give it a back-off of that order, or
    ``max_attempts=None``.
    """
    return Decoder(receiver, failures=failures, seconds=seconds)


class Decoder(ReceiverDecorator):
    """Refuses while the circuit is open."""

    layer = "circuit_breaker"

    def __init__(self, next: Receiver, *, failures: int = 5, seconds: float | timedelta = 30.0) -> None:
        super().__init__(next)
        self.failures = whole(failures, "failures")
        self.seconds = span(seconds, "seconds")
        self._circuit = _Circuit(self.failures, self.seconds)

    async def __call__(self, message: Message) -> None:
        """Hand the message on, or refuse it."""
        circuit = self._circuit
        period = circuit.enter()
        try:
            await self.receive(message)
        except Exception as error:
            circuit.failed(period, error)
            raise
        except BaseException:
            circuit.left(period)
            raise
        else:
            circuit.succeeded(period)


class _Circuit:
    """Closed, open, or half open: with a trial under way.

    A period begins whenever it opens or closes. What began in an earlier one says nothing of this.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._period = 0
        self._failures = 0  # in a row
        self._until: float | None = None  # when open: the time of the next trial
        self._trying = False
        self._last = ""

    def enter(self) -> int:
        """The period in which a message is handed on; `CircuitOpen` where it is not."""
        if self._until is not None:
            left = self._until - asyncio.get_running_loop().time()
            if left > 0 or self._trying:
                raise CircuitOpen(self._failures, max(left, 0.0), self._last)
            self._trying = True
        return self._period

    def left(self, period: int) -> None:
        """It ended without saying anything: the next one may be the trial."""
        if period == self._period:
            self._trying = False

    def succeeded(self, period: int) -> None:
        """It went well."""
        if period == self._period:
            self._failures = 0
            if self._until is not None:
                self._begin(None)

    def failed(self, period: int, error: Exception) -> None:
        """It did not."""
        if period == self._period:
            self._failures += 1
            self._last = told(error)
            if self._failures >= self._most:
                self._begin(asyncio.get_running_loop().time() + self._seconds)

    def _begin(self, until: float | None) -> None:
        self._period += 1
        self._until = until
        self._trying = False
