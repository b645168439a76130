"""AwsServer: takes messages from an SQS queue, and settles them by their visibility timeout."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from msgviz.backends.aws import wire
from msgviz.backends.aws.backend import MAX_RECEIVES, Queue
from msgviz.backends.aws.connection import GONE, code_of
from msgviz.backends.aws.names import is_dead_letter_topic, read_queue_name
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import ConnectionFailed, MsgvizError
from msgviz.message import Message, wrap
from msgviz.pull import Delivery, PullServer
from msgviz.topic import as_seconds

logger = logging.getLogger("msgviz")

MOST_INVISIBLE = 43_200.0  # seconds: SQS hides no message for longer after it was received
_BATCH = 10


class Throttle(MsgvizError):
    """Raised by a receiver: take no more messages for `seconds`, then try this one again.

    The message has not failed: it comes again as the same attempt. Source: go-msg's ``ErrServerThrottled``.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = as_seconds(seconds, "the seconds of a Throttle")
        super().__init__(f"the server takes no messages for {self.seconds:g} s")


class _Receipt:
    """How SQS knows a message that was taken."""

    __slots__ = ("handle", "taken")

    def __init__(self, handle: str) -> None:
        self.handle = handle
        self.taken = time.monotonic()


class AwsServer(PullServer):
    """Serves the messages of one queue."""

    def __init__(self, backend: Any, *args: Any, **options: Any) -> None:
        super().__init__(backend, *args, **options)
        self.lease = float(backend.visibility_timeout)
        self._queue: Queue | None = None
        self._resume = 0.0  # no message is received before
        self._asides: set[asyncio.Task[None]] = set()  # what goes on beside the workers
        self._sources: dict[str, int | None] = {}  # ARN of a queue -> after how many receives it buries

    async def open(self) -> None:
        """Find the queue."""
        self._queue = await self.backend.queue(self.source)
        if self.source.max_attempts is None and self._queue.receives is not None and self.backend.create:
            await self.backend.bury_after(self.source, self._queue, MAX_RECEIVES)

    @property
    def queue(self) -> Queue:
        """The queue, once it is open."""
        if self._queue is None:
            raise MsgvizError(f"the server of {self.source} is not open")
        return self._queue

    async def take(self, count: int) -> Sequence[Delivery]:
        """Take up to ten messages; waits long only where there was none a second ago."""
        await asyncio.sleep(max(0.0, self._resume - time.monotonic()))
        wait = self.backend.wait if self.looks_empty() else min(self.backend.wait, 1)
        poll = asyncio.ensure_future(self._poll(min(count, _BATCH), wait))
        try:
            # A request that was sent may be given messages: its answer is always heard.
            taken = await asyncio.shield(poll)
        except asyncio.CancelledError:
            self._aside(self._give_back(poll))
            raise
        return taken

    async def _poll(self, count: int, wait: int) -> list[Delivery]:
        answer = await self.backend.connection.sqs.receive_message(
            QueueUrl=self.queue.url,
            MaxNumberOfMessages=count,
            WaitTimeSeconds=wait,
            VisibilityTimeout=int(self.lease),
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount", "DeadLetterQueueSourceArn"],
        )
        return [await self._delivery(raw) for raw in answer.get("Messages") or ()]

    async def _delivery(self, raw: dict[str, Any]) -> Delivery:
        body, attributes = wire.unpack(raw, base64=self.backend.base64)
        system = raw.get("Attributes") or {}
        attempt = int(system.get("ApproximateReceiveCount", 1))
        origin = system.get("DeadLetterQueueSourceArn")
        foreign = is_dead_letter_topic(self.source.topic) and "Dead-Letter-Reason" not in attributes
        if origin or foreign:  # SQS itself buried it, and counts on
            buried_after = await self._receives_of(origin) if origin else None
            if buried_after is not None and attempt > buried_after:
                attempt -= buried_after
            elif self.source.max_attempts is not None:
                attempt = min(attempt, self.source.max_attempts)
            if origin and "Dead-Letter-Reason" not in attributes:
                attributes.update(_letter_of_sqs(origin, buried_after))
        message = wrap(body, attributes.freeze())
        message.attempt = attempt
        return Delivery(message, _Receipt(raw["ReceiptHandle"]))

    async def _receives_of(self, arn: str) -> int | None:
        if arn not in self._sources:
            found = None
            try:
                *_, account, name = arn.split(":")
                url = await self.backend.connection.sqs.get_queue_url(
                    QueueName=name, QueueOwnerAWSAccountId=account
                )
                found = (await self.backend.look_at(url["QueueUrl"])).receives
            except Exception as error:  # noqa: BLE001  the queue may be gone, or not be ours to look at
                logger.info("%s: the source of its dead letters, %s: %s", self.source, arn, error)
            self._sources[arn] = found
        return self._sources[arn]

    async def ack(self, delivery: Delivery) -> None:
        """Delete it."""
        await self._tell(
            self.backend.connection.sqs.delete_message(
                QueueUrl=self.queue.url, ReceiptHandle=delivery.handle.handle
            )
        )

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Have it come again after a visibility timeout of about `delay` seconds, and some jitter."""
        delay *= 1 + self.backend.jitter * random.random()  # noqa: S311  it spreads load, it hides nothing
        if delay < 1:  # SQS knows whole seconds only
            self._aside(self._show_later(delivery, delay))
        else:
            await self._show(delivery, delay)

    async def release(self, delivery: Delivery) -> None:
        """Have it come again at once; SQS counts it as received all the same."""
        await self._show(delivery, 0.0)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Hide these for another visibility timeout."""
        for start in range(0, len(deliveries), _BATCH):
            batch = deliveries[start : start + _BATCH]
            answer = await self.backend.connection.sqs.change_message_visibility_batch(
                QueueUrl=self.queue.url,
                Entries=[
                    {
                        "Id": str(number),
                        "ReceiptHandle": delivery.handle.handle,
                        "VisibilityTimeout": self._hidden(delivery, self.lease),
                    }
                    for number, delivery in enumerate(batch)
                ],
            )
            for failed in answer.get("Failed") or ():
                if not batch[int(failed["Id"])].settled:
                    logger.warning("%s: a lease was not extended: %s", self.source, failed.get("Message"))

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """Send the letter to the queue of dead letters, then delete the message.

        Where the letter is too large with all it says, it says less: it is never lost for that.
        """
        topic = self.backend.open_topic(dead_letter_topic(self.source))
        brief = wrap(letter.body, letter.freeze())
        brief.attributes["Dead-Letter-Reason"] = brief.attributes["Dead-Letter-Reason"][:40]
        for form in (letter, brief, wrap(delivery.body, delivery.values)):
            try:
                await topic.put(form, 0.0)
            except wire.TooLarge as error:
                too_large = error
            else:
                await self.ack(delivery)
                return
        logger.error("%s: SQS will bury a message, after some receives more: %s", self.source, too_large)

    async def shut(self) -> None:
        """Hear what was still asked for, and give it back."""
        if self._asides:
            await asyncio.gather(*self._asides)

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        if isinstance(error, Throttle):
            await self._throttle(delivery, error.seconds)
        else:
            await super()._failed(delivery, error)

    async def _throttle(self, delivery: Delivery, seconds: float) -> None:
        """Hold a message, its lease extended, and have it received again."""
        self._resume = max(self._resume, time.monotonic() + seconds)
        try:
            while not self._stopping and (left := self._resume - time.monotonic()) > 0:
                await self._pause(left)
        except BaseException:
            await self._settle(delivery, self.release(delivery))
            raise
        if self._stopping:
            await self._settle(delivery, self.release(delivery))
            return
        again = Delivery(wrap(delivery.body, delivery.values), delivery.handle)
        again.message.attempt = delivery.message.attempt
        delivery.settled = True  # by being in `again`
        self._taken.appendleft(again)

    def _aside(self, action: Awaitable[None]) -> None:
        task = asyncio.ensure_future(action)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def _give_back(self, poll: asyncio.Future[list[Delivery]]) -> None:
        try:
            for delivery in await poll:
                await self._quietly(self.release(delivery))
        except Exception as error:  # noqa: BLE001  what was taken comes again when its lease ends
            logger.info("%s: the last request failed: %s", self.source, error)

    async def _show_later(self, delivery: Delivery, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._quietly(self._show(delivery, 0.0))

    async def _quietly(self, action: Awaitable[None]) -> None:
        try:
            await self.backend.call(action)
        except ConnectionFailed as error:
            logger.warning("%s: a message comes again only when its lease ends: %s", self.source, error)

    async def _show(self, delivery: Delivery, delay: float) -> None:
        await self._tell(
            self.backend.connection.sqs.change_message_visibility(
                QueueUrl=self.queue.url,
                ReceiptHandle=delivery.handle.handle,
                VisibilityTimeout=self._hidden(delivery, delay),
            )
        )

    def _hidden(self, delivery: Delivery, seconds: float) -> int:
        """Whole seconds, as many as SQS still allows."""
        age: float = time.monotonic() - delivery.handle.taken
        return math.ceil(max(0.0, min(seconds, MOST_INVISIBLE - age - 2)))

    async def _tell(self, action: Awaitable[Any]) -> None:
        try:
            await action
        except Exception as error:
            if code_of(error) not in GONE:
                raise
            logger.warning("%s: a message is not ours any more, and may come again: %s", self.source, error)


def _letter_of_sqs(origin: str, receives: int | None) -> dict[str, str]:
    topic, subscription = read_queue_name(origin.rpartition(":")[2])
    times = "too often" if receives is None else f"{receives} times"
    said = {
        "Dead-Letter-Reason": f"SQS: it was received {times}, and never deleted",
        "Dead-Letter-Topic": topic,
        "Dead-Letter-Subscription": subscription,
    }
    return said if receives is None else {**said, "Dead-Letter-Attempts": str(receives)}
