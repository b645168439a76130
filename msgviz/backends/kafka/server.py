"""KafkaServer: serves one subscription, as a member of its consumer group."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError

from msgviz.backends.kafka.feed import Feed
from msgviz.backends.kafka.records import to_headers, to_message
from msgviz.dead_letters import LETTER_ATTRIBUTES, dead_letter_topic
from msgviz.message import Message
from msgviz.pull import Delivery, PullServer


class KafkaServer(PullServer):
    """Takes the records that a `Feed` fetched. A failed one goes to the retry topic, and out of the way."""

    feed: Feed | None = None

    async def open(self) -> None:
        """Join the feed of the subscription; it goes on by itself after a connection broke."""
        self.feed = await self.backend.join(self.source, self.feed)

    async def take(self, count: int) -> Sequence[Delivery]:
        """What was fetched, or what comes within about a second."""
        feed = self._fed()
        deliveries = []
        for held in await feed.take(count):
            delivery = Delivery(to_message(held.record, held.headers, self.backend.key), held)
            delivery.message.attempt = held.attempt
            deliveries.append(delivery)
        return deliveries

    async def ack(self, delivery: Delivery) -> None:
        """It is committed with those before it, within a second."""
        self._fed().finish(delivery.handle)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Send it to the retry topic; where that fails, try it again from here."""
        feed, held = self._fed(), delivery.handle
        attempt = delivery.message.attempt + 1
        if not feed.has(held) or feed.retry is None:
            feed.again(held, attempt, delay)
            return
        try:
            await self.backend.republish(feed, held, attempt, delay)
        except MessageSizeTooLargeError:
            feed.again(held, attempt, delay)
        except BaseException:
            feed.again(held, attempt, delay)
            raise
        else:
            feed.finish(held)

    async def release(self, delivery: Delivery) -> None:
        """Another server of this backend has it next, or the next owner of its partition."""
        self._fed().give_back(delivery.handle)

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """Send the record to the dead-letter topic as it is, with what the letter says beside it."""
        feed, held = self._fed(), delivery.handle
        if not feed.has(held):
            feed.finish(held)
            return
        said = letter.freeze()
        why = to_headers({key: said[key] for key in LETTER_ATTRIBUTES if key in said})
        old = [header for header in held.headers if header[0] not in LETTER_ATTRIBUTES]
        topic = dead_letter_topic(self.source)
        try:
            try:
                await self.backend.produce(topic, held.record.value, held.record.key, [*old, *why])
            except MessageSizeTooLargeError:  # by another's publisher, which left no room for it
                await self.backend.produce(topic, held.record.value, held.record.key, held.headers)
        except BaseException:
            feed.again(held, delivery.message.attempt, 1.0)
            raise
        feed.finish(held)

    async def shut(self) -> None:
        """Leave the feed; the last one to leave it ends it."""
        if self.feed is not None:
            feed, self.feed = self.feed, None
            await self.backend.leave(feed)

    def looks_empty(self) -> bool:
        """Whether nothing was there at the last look; joining a group takes seconds, and is no look."""
        return bool(self._looks_empty)

    def _fed(self) -> Feed:
        if self.feed is None:
            raise RuntimeError(f"{self.source} is not open")
        return self.feed
