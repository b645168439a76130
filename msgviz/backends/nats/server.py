"""NatsServer: takes messages from a durable pull consumer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nats import errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from msgviz.backends.nats import headers as _headers
from msgviz.backends.nats.names import PRIVATE, only_subject, plain
from msgviz.dead_letters import LETTER_ATTRIBUTES, dead_letter_topic
from msgviz.errors import ConnectionFailed, MsgvizError
from msgviz.message import Message, wrap
from msgviz.pull import Delivery, PullServer

_ACK, _NAK, _WORKING = b"+ACK", b"-NAK", b"+WPI"
_NOTHING = ("404", "408")  # status: no message was there, none came
_YEAR = 365 * 86400.0


class NatsServer(PullServer):
    """Asks its consumer for as many messages as there are idle workers, and waits for them on an inbox.

    A message that is given back counts as an attempt, since it is the consumer that counts them; one on its
    last attempt is therefore put back as a new message, and is not dead for it.
    """

    EXPIRES = 1.0  # seconds that a request waits at the server
    LATE = 3.0  # seconds that its end may come later

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lease = self.backend.lease
        self._next = ""  # the subject to ask on
        self._only = only_subject(self.source.topic, self.source.subscription)
        self._client: Any = None
        self._inbox: Subscription | None = None
        self._arrived: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._waits = True  # whether to ask for what may come yet; otherwise only for what is there
        self._asked = 0  # messages that the request which waits at the server may still bring
        self._request = 0
        self._reply = ""
        self._ended_by: tuple[str, str] | None = None
        self._until = 0.0
        self._gone = False  # nobody takes messages any more: what comes is given back

    async def open(self) -> None:
        """Listen on an inbox, and see that the consumer is there."""
        client = await self.backend.link.live(self.backend.timeout)
        config = await self.backend.consumer(self.source, again=self._inbox is not None)
        self.lease = config.get("ack_wait", 30e9) / 1e9
        stream = await self.backend.stream(self.source.topic)
        self._next = (
            f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{plain(self.source.subscription, 'subscription')}"
        )
        if self._client is not client:
            self._client = client
            self._asked = 0
            inbox = client.new_inbox()
            self._reply = inbox
            self._inbox = await client.subscribe(f"{inbox}.*", cb=self._on_message)
            self.backend.link.broken.add(self._on_broken)

    async def take(self, count: int) -> Sequence[Delivery]:
        """Take what came; ask for it where nothing is asked for."""
        self._gone = False
        try:
            while not self._arrived:
                if not self._client.is_connected:
                    raise errors.ConnectionReconnectingError
                self._news.clear()
                if not self._asked:
                    await self._ask(count)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                        await self._news.wait()
                if self._arrived or not self._client.is_connected:
                    continue
                if self._ended_by is not None:
                    (code, text), self._ended_by = self._ended_by, None
                    if code in _NOTHING:
                        self._waits = True
                        return []
                    raise ConnectionFailed(f"{self.backend.safe_url}: {self.source}: {code} {text}")
                if time.monotonic() >= self._until:
                    self._asked = 0
                    self.backend.link.check_allowed(self._next)
                    raise errors.TimeoutError
            self._waits = False
            return [self._arrived.popleft() for _ in range(min(count, len(self._arrived)))]
        except asyncio.CancelledError:
            self._gone = True
            with suppress(MsgvizError, errors.Error, OSError, TimeoutError):  # it comes after its lease, then
                await self._give_back()
            raise

    async def _ask(self, count: int) -> None:
        self._request += 1
        self._asked = count
        self._ended_by = None
        self._until = time.monotonic() + self.EXPIRES + self.LATE
        wait = {"expires": int(self.EXPIRES * 1e9)} if self._waits else {"no_wait": True}
        body = json.dumps({"batch": count, **wait}).encode()
        await self._client.publish(self._next, body, reply=f"{self._reply}.{self._request}")

    async def _on_message(self, msg: Msg) -> None:
        if not msg.reply:
            if msg.subject == f"{self._reply}.{self._request}":
                headers = msg.headers or {}
                self._asked = 0
                self._ended_by = headers.get("Status", ""), headers.get("Description", "")
                self._news.set()
            return
        try:
            delivered = msg.metadata.num_delivered
        except (errors.Error, ValueError):  # somebody wrote to the inbox
            return
        self._asked = max(0, self._asked - 1)
        if msg.subject.startswith(f"{PRIVATE}.") and msg.subject != self._only:
            await self._tell(msg.reply, _ACK)  # a consumer made by others has no filter: this is not for it
            self._news.set()
            return
        message = wrap(msg.data, _headers.decode(msg.headers))
        message.attempt = delivered + _headers.tried(msg.headers)
        self._arrived.append(Delivery(message, msg.reply))
        self._news.set()
        if self._gone:
            await self._give_back()

    def _on_broken(self) -> None:
        self._asked = 0
        self._until = 0.0
        self._news.set()

    async def _give_back(self) -> None:
        while self._arrived:
            delivery = self._arrived.popleft()
            try:
                await self.release(delivery)
            except BaseException:
                self._arrived.appendleft(delivery)
                raise

    async def _tell(self, reply: str, what: bytes) -> None:
        await self.backend.link.publish(reply, what)

    async def ack(self, delivery: Delivery) -> None:
        """It was processed."""
        await self._tell(delivery.handle, _ACK)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """The consumer delivers it again after the delay."""
        wait = int(max(0.0, min(delay, _YEAR)) * 1e9)
        await self._tell(delivery.handle, b'%s {"delay": %d}' % (_NAK, wait) if wait else _NAK)

    async def release(self, delivery: Delivery) -> None:
        """It comes again at once, as the next attempt; on its last one, as a copy that has this one still."""
        attempt, limit = delivery.message.attempt, self.source.max_attempts
        if limit is not None and attempt >= limit:
            stream = await self.backend.stream(self.source.topic)
            if stream.only:
                copy = wrap(delivery.body, delivery.values)
                headers = {**_headers.encode(delivery.values), _headers.TRIED: str(attempt - 1)}
                topic = self.backend.open_topic(self.source.topic).to_subscription(self.source.subscription)
                with suppress(ValueError):  # the copy would be too large
                    await topic.send_as(copy, 0.0, headers)
                    await self.ack(delivery)
                    return
        await self._tell(delivery.handle, _NAK)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the consumer that somebody works on these."""
        for delivery in deliveries:
            await self._tell(delivery.handle, _WORKING)

    async def bury(self, delivery: Delivery, letter: Message) -> None:
        """Send the letter; one that is too large with its reason goes without, rather than not at all."""
        brief = wrap(letter.body, letter.freeze())
        for key in LETTER_ATTRIBUTES:
            brief.attributes.pop(key, None)
        topic = self.backend.open_topic(dead_letter_topic(self.source))
        for attempt in (letter, brief):
            try:
                await topic.put(attempt, 0.0)
                break
            except ValueError:
                continue
        else:
            await self.backend.publish(topic.name, topic.name, letter.body, {})
        await self.ack(delivery)

    async def shut(self) -> None:
        """Stop listening; what arrives until then is given back."""
        self._gone = True
        self.backend.link.broken.discard(self._on_broken)
        inbox, client = self._inbox, self._client
        self._inbox = self._client = None
        await self._give_back()
        if inbox is None or client.is_closed:
            return
        if not client.is_connected:
            await inbox.unsubscribe()
            return
        await inbox.drain()  # type: ignore[no-untyped-call]  # hears out what the server had sent before it knew
        await self._give_back()
        await client.flush()
