"""Topics of Google Cloud Pub/Sub."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgviz.backend import Features, check_name
from msgviz.backends.gcp import wire
from msgviz.client import ClientTopic
from msgviz.message import Message, Source
from msgviz.topic import Topic

if TYPE_CHECKING:
    from msgviz.backends.gcp.backend import GcpBackend


class GcpTopic(ClientTopic):
    """A topic, or one of its subscriptions alone: the one whose filter lets the message through."""

    backend: GcpBackend

    @property
    def features(self) -> Features:
        """What can be sent here. A letter that is moved back has more attributes than were sent."""
        features = self.backend.features
        return features if self.subscription is None else replace(features, max_attributes=None)

    async def put(self, message: Message, delay: float) -> None:
        """Publish; returns when Pub/Sub has stored it."""
        made = wire.encode(message, to=self.subscription, ordering=self.backend.ordering_key)
        if self.subscription is not None:
            await self.backend.check_addressable(self.name, self.subscription)
        await self.backend.publish(self.name, made)

    async def put_letter(self, letter: Message) -> None:
        """Publish a dead letter, which may be somewhat larger than what can be sent."""
        made = wire.encode(letter, ordering=self.backend.ordering_key, letter=True)
        await self.backend.publish(self.name, made)

    def to_subscription(self, subscription: str) -> Topic:
        """This topic, for one of its subscriptions alone; it is made where it is missing."""
        source = Source(self.name, check_name(subscription, "subscription"))
        self.backend.check_names(source)
        self.backend.want_once(source)
        return GcpTopic(self.backend, self.name, subscription)
