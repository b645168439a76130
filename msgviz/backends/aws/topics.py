"""Topics on SNS, and queues that are sent to directly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from msgviz.backend import Features
from msgviz.backends.aws import wire
from msgviz.client import ClientTopic
from msgviz.message import Message, Source, wrap
from msgviz.topic import Topic

MAX_DELAY = 900.0


class _AwsTopic(ClientTopic):
    """What is sent, to a topic or to a queue."""

    async def send(self, message: Message, delay: float) -> None:
        """Take one message; see `Topic.send`. The attributes of msgviz do not count among its ten."""
        counted = wrap(message.body, wire.application_attributes(message.freeze()))
        self.features.check(self.backend.name, counted, delay)
        await self.backend.send(self, message, delay)

    def pack(self, message: Message, limit: int) -> wire.Packed:
        """The message as it is sent, checked."""
        return wire.pack(
            self.backend.name, message.body, message.freeze(), base64=self.backend.base64, limit=limit
        )


class AwsTopic(_AwsTopic):
    """An SNS topic."""

    async def put(self, message: Message, delay: float) -> None:
        """Publish a checked message; returns when SNS has stored it."""
        packed = self.pack(message, wire.SNS_LIMIT)
        await self.backend.connection.sns.publish(
            TopicArn=await self.backend.topic_arn(self.name),
            Message=packed.body,
            MessageAttributes=packed.attributes,
        )

    def to_subscription(self, subscription: str) -> Topic:
        """The queue of one subscription; it takes a delay of up to 900 s, and larger bodies."""
        self.backend.check_subscription(self.name, subscription)
        return AwsQueue(self.backend, self.name, subscription)


class AwsQueue(_AwsTopic):
    """An SQS queue, sent to directly: of one subscription, or of dead letters."""

    def __init__(self, backend: Any, name: str, subscription: str) -> None:
        super().__init__(backend, name, subscription)
        self.source = Source(name, subscription)

    @property
    def features(self) -> Features:
        """What can be sent here."""
        return queue_features(self.backend)

    async def put(self, message: Message, delay: float) -> None:
        """Send a checked message; returns when SQS has stored it."""
        queue = await self.backend.queue(self.source)
        packed = self.pack(message, min(queue.max_size, wire.SQS_LIMIT))
        await self.backend.connection.sqs.send_message(
            QueueUrl=queue.url,
            MessageBody=packed.body,
            MessageAttributes=packed.attributes,
            DelaySeconds=math.ceil(delay),
        )

    def to_subscription(self, subscription: str) -> Topic:
        """The queue of dead letters is its only subscription."""
        self.backend.check_subscription(self.name, subscription)
        return self


def queue_features(backend: Any) -> Features:
    """What a queue can do that is sent to directly."""
    features: Features = backend.features
    return replace(
        features,
        max_delay=MAX_DELAY,
        max_body=wire.largest_body(wire.SQS_LIMIT, base64=backend.base64),
        keeps_unsubscribed=True,
    )
