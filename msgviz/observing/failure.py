"""Failure: what is kept of an exception, so that the log holds no frame, and nothing a frame refers to."""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType

_LONGEST = 10_000  # characters of an error's text, and of its traceback
_MOST_STACKS = 1_000
_stacks: dict[tuple[tuple[str, int], ...], str] = {}


class Dropped(BaseException):
    """A person dropped the message at a breakpoint. An observer takes it: nobody else gets to see it.

    No layer is to handle it, so it is no `Exception`.
    """

    def __init__(self) -> None:
        super().__init__("dropped at a breakpoint")


DROPPED = f"{Dropped.__module__}.{Dropped.__qualname__}"


class Failure:
    """How a publish or a receive did not end well: the outcome, the error's class, text and stack."""

    __slots__ = ("error", "error_type", "given_back", "outcome", "stack")

    def __init__(
        self, outcome: str, error_type: str, error: str, stack: str = "", given_back: bool = False
    ) -> None:
        self.outcome = outcome
        self.error_type = error_type
        self.error = error
        self.stack = stack
        # The server is ending and took the message back: it was not the message that failed.
        self.given_back = given_back

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What is kept of an exception that was caught by an observer."""
        kind = type(error)
        name = (
            kind.__qualname__
            if kind.__module__ in ("builtins", "__main__")
            else f"{kind.__module__}.{kind.__qualname__}"
        )
        cancelled = isinstance(error, asyncio.CancelledError)
        given_back = False
        if cancelled:
            task = asyncio.current_task()
            given_back = task is not None and task.cancelling() > 0
        try:
            text = str(error)
        except Exception:  # noqa: BLE001  an error whose own __str__ fails is still to be logged
            text = "(its text could not be made)"
        return cls(
            "cancelled" if cancelled else "error", _clean(name), _clean(text), _stack(error), given_back
        )

    @property
    def traceback(self) -> str:
        """The traceback, as Python prints it; the observer's own frame left out."""
        if not self.stack:
            return ""
        last = f"{self.error_type}: {self.error}" if self.error else self.error_type
        return f"{self.stack}{last}"


def _clean(text: str) -> str:
    """Text that any encoder takes, and of bounded length."""
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _stack(error: BaseException) -> str:
    """All of a printed traceback but its last line. One site that fails a million times is formatted once."""
    trace: TracebackType | None = error.__traceback__
    trace = trace.tb_next if trace is not None else None  # without the observer's own frame
    plain = error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    if not plain or isinstance(error, BaseExceptionGroup):
        lines = traceback.format_exception(type(error), error, trace, limit=-30)
        return _clean("".join(lines[:-1]))
    sites = []
    step = trace
    while step is not None:
        sites.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    key = tuple(sites)
    text = _stacks.get(key)
    if text is None:
        if len(_stacks) >= _MOST_STACKS:
            _stacks.clear()
        text = _clean("Traceback (most recent call last):\n" + "".join(traceback.format_tb(trace, limit=-30)))
        _stacks[key] = text
    return text
