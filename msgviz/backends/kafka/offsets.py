"""OffsetTracker: which offset of a partition may be committed while its messages end in any order."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class OffsetTracker(Generic[T]):
    """The messages of one partition that were fetched, and which of them are finished.

    Kafka keeps one number for each partition: all before it is done. So what may be committed is the
    offset of the first message that is not finished, however many after it are.
    """

    __slots__ = ("_highest", "_order", "committed", "first", "position", "unfinished")

    def __init__(self, position: int) -> None:
        self.first = position
        """The offset it began with."""
        self.position = position
        """The offset from which to fetch on."""
        self.committed = position
        """What was committed last."""
        self.unfinished: dict[int, T] = {}
        self._order: deque[int] = deque()  # offsets as they were fetched; finished ones leave at its front
        self._highest = position - 1  # of those finished

    def add(self, offset: int, item: T) -> None:
        """A message was fetched. Offsets rise, and some may be missing (a log can be compacted)."""
        if offset < self.position:
            raise ValueError(f"offset {offset} was fetched already: {self.position} comes next")
        self.unfinished[offset] = item
        self._order.append(offset)
        self.position = offset + 1

    def finish(self, offset: int) -> None:
        """A message is done with; telling so twice is no error."""
        if self.unfinished.pop(offset, None) is not None and offset > self._highest:
            self._highest = offset

    @property
    def committable(self) -> int:
        """The offset to commit: no unfinished message is before it."""
        order = self._order
        while order and order[0] not in self.unfinished:
            order.popleft()
        return order[0] if order else self.position

    def overtaken(self) -> list[T]:
        """The unfinished messages that keep finished ones behind them from being committed."""
        return [self.unfinished[o] for o in self._order if o in self.unfinished and o < self._highest]

    def advance(self, offset: int) -> None:
        """Somebody else has committed this: what is before it is none of ours any more."""
        for old in [o for o in self.unfinished if o < offset]:
            del self.unfinished[old]
        self.position = max(self.position, offset)
        self.committed = max(self.committed, offset)
