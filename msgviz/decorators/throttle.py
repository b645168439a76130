"""throttle: at most so many messages a second; the others wait their turn, and none is dropped."""

from __future__ import annotations

import asyncio

from msgviz.decorators._limits import number, whole
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator


def decoder(receiver: Receiver, *, rate: float, burst: int = 1) -> Receiver:
    """A receiver that is given at most `rate` messages a second, first come, first served.

    After a pause, up to `burst` of them at once. A message that waits occupies a worker of its server. One
    that is cancelled while it waits leaves its turn to the next.
    """
    return Decoder(receiver, rate=rate, burst=burst)


class Decoder(ReceiverDecorator):
    """Hands on at a limited rate: a token bucket, on the loop's clock."""

    def __init__(self, next: Receiver, *, rate: float, burst: int = 1) -> None:
        super().__init__(next)
        self.rate = number(rate, "rate", 0)
        if not self.rate:
            raise ValueError(f"rate is a number of messages a second above 0, not {rate!r}")
        self.burst = whole(burst, "burst")
        self.layer = f"throttle {self.rate:g}/s"
        self._bucket = _Bucket(self.rate, self.burst)

    async def __call__(self, message: Message) -> None:
        """Hand the message on when it is its turn."""
        await self._bucket.take()
        await self.receive(message)


class _Bucket:
    """A bucket of `burst` tokens that gets `rate` of them a second.

    Kept as the time at which it is full again (the generic cell rate algorithm): nothing to refill.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._full = 0.0
        self._turn = asyncio.Lock()  # serves in the order of asking

    async def take(self) -> None:
        """Take one token; wait for it where there is none."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            wait = self._full - self._slack - clock()
            if wait > 0:
                await asyncio.sleep(wait)
            self._full = max(self._full, clock()) + self._interval
