"""Streaming pull against a server that keeps to flow control, as the vendor's emulator does not.

The server here is a stand-in that speaks just enough of the protocol; it says nothing of Google's own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

import msgviz as mv


class Stand:
    """One subscription: messages that are ready, and those that are lent, with the stream that has them."""

    def __init__(self) -> None:
        self.ready: deque[tuple[bytes, int]] = deque()
        self.lent: dict[str, tuple[bytes, int, object]] = {}
        self.subscription = types.Subscription()
        self.limits: list[int] = []  # of the streams
        self.pulls: list[int] = []
        self.most = 0  # messages that one stream had at once
        self.acknowledged: list[bytes] = []
        self.broken = asyncio.Event()
        self._ids = itertools.count()

    def lend(self, count: int, stream: object) -> list[types.ReceivedMessage]:
        given = []
        for _ in range(min(count, len(self.ready))):
            body, attempt = self.ready.popleft()
            ack_id = f"ack-{next(self._ids)}"
            self.lent[ack_id] = (body, attempt, stream)
            message = types.PubsubMessage(data=body, message_id=ack_id)
            given.append(types.ReceivedMessage(ack_id=ack_id, message=message, delivery_attempt=attempt))
        return given

    def with_stream(self, stream: object) -> int:
        return sum(holder is stream for _, _, holder in self.lent.values())

    async def streaming_pull(self, requests: Any, context: Any) -> AsyncIterator[types.StreamingPullResponse]:
        first, stream = await anext(aiter(requests)), object()
        limit = first.max_outstanding_messages
        self.limits.append(limit)
        closed = asyncio.ensure_future(self._read_on(requests))
        try:
            while not closed.done():
                if self.broken.is_set():
                    self.broken.clear()
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
                given = self.lend(limit - self.with_stream(stream), stream)
                self.most = max(self.most, self.with_stream(stream))
                if given:
                    yield types.StreamingPullResponse(received_messages=given)
                await asyncio.sleep(0.005)
        finally:
            closed.cancel()

    @staticmethod
    async def _read_on(requests: Any) -> None:
        async for _ in requests:
            pass

    async def pull(self, request: types.PullRequest, context: Any) -> types.PullResponse:
        self.pulls.append(request.max_messages)
        while not self.ready:
            await asyncio.sleep(0.005)
        return types.PullResponse(received_messages=self.lend(request.max_messages, None))

    async def acknowledge(self, request: types.AcknowledgeRequest, context: Any) -> Empty:
        self.acknowledged += [self.lent.pop(ack_id)[0] for ack_id in request.ack_ids]
        return Empty()

    async def modify(self, request: types.ModifyAckDeadlineRequest, context: Any) -> Empty:
        if not request.ack_deadline_seconds:
            for ack_id in request.ack_ids:
                body, attempt, _ = self.lent.pop(ack_id)
                self.ready.append((body, attempt + 1))
        return Empty()

    async def create_subscription(self, request: types.Subscription, context: Any) -> types.Subscription:
        if request.name.endswith(".billing"):
            self.subscription = request
        return request

    async def get_subscription(self, request: Any, context: Any) -> types.Subscription:
        return self.subscription

    async def topic(self, request: Any, context: Any) -> types.Topic:
        return types.Topic(name="there")

    def handlers(self) -> tuple[Any, ...]:
        def unary(behavior: Any, request: Any, *, empty: bool = False) -> Any:
            write = Empty.SerializeToString if empty else lambda answer: type(answer).serialize(answer)
            return grpc.unary_unary_rpc_method_handler(behavior, request.deserialize, write)

        subscriber = {
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self.streaming_pull,
                types.StreamingPullRequest.deserialize,
                types.StreamingPullResponse.serialize,
            ),
            "Pull": unary(self.pull, types.PullRequest),
            "Acknowledge": unary(self.acknowledge, types.AcknowledgeRequest, empty=True),
            "ModifyAckDeadline": unary(self.modify, types.ModifyAckDeadlineRequest, empty=True),
            "CreateSubscription": unary(self.create_subscription, types.Subscription),
            "GetSubscription": unary(self.get_subscription, types.GetSubscriptionRequest),
        }
        publisher = {
            "CreateTopic": unary(self.topic, types.Topic),
            "GetTopic": unary(self.topic, types.GetTopicRequest),
        }
        return (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
        )


@pytest.fixture
async def stand() -> AsyncIterator[tuple[Stand, str]]:
    stand, server = Stand(), grpc.aio.server()
    server.add_generic_rpc_handlers(stand.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield stand, f"gcp://project?emulator=127.0.0.1:{port}&streaming=yes"
    finally:
        await server.stop(None)


async def until(condition: Any) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_stream_is_asked_for_as_many_messages_as_there_are_workers(stand: tuple[Stand, str]) -> None:
    pubsub, url = stand
    pubsub.ready.extend((b"%d" % number, 1) for number in range(20))
    going = asyncio.Event()

    async def receive(message: mv.Message) -> None:
        await going.wait()

    async with (
        mv.connect(url) as backend,
        backend.server("orders", subscription="billing", concurrency=3).running(receive),
    ):
        await until(lambda: len(pubsub.lent) == 3)
        going.set()
        await until(lambda: len(pubsub.acknowledged) == 20)
    assert pubsub.limits == [3]
    assert pubsub.most == 3
    assert pubsub.pulls == []


async def test_messages_that_wait_for_another_attempt_hold_up_no_stream(stand: tuple[Stand, str]) -> None:
    pubsub, url = stand
    pubsub.ready.extend((b"bad-%d" % number, 1) for number in range(4))
    tried: list[str] = []

    async def receive(message: mv.Message) -> None:
        tried.append(message.text)
        if message.text.startswith("bad"):
            raise ValueError("on purpose")

    async with mv.connect(url) as backend:
        server = backend.server("orders", subscription="billing", concurrency=2, backoff=60)
        async with server.running(receive):
            await until(lambda: len(tried) == 4)
            pubsub.ready.extend((b"good-%d" % number, 1) for number in range(4))
            await until(lambda: len(pubsub.acknowledged) == 4)
    assert sorted(tried) == [f"{kind}-{number}" for kind in ("bad", "good") for number in range(4)]
    # Given back when the server ended, each as its next attempt.
    assert sorted(pubsub.ready) == [(b"bad-%d" % number, 2) for number in range(4)]


async def test_a_stream_that_breaks_is_opened_again(stand: tuple[Stand, str]) -> None:
    pubsub, url = stand
    got: list[str] = []

    async def receive(message: mv.Message) -> None:
        got.append(message.text)

    async with (
        mv.connect(url) as backend,
        backend.server("orders", subscription="billing").running(receive),
    ):
        pubsub.ready.append((b"before", 1))
        await until(lambda: got == ["before"])
        pubsub.broken.set()
        await until(lambda: len(pubsub.limits) == 2)
        pubsub.ready.append((b"after", 1))
        await until(lambda: got == ["before", "after"])
    assert pubsub.acknowledged == [b"before", b"after"]
