"""What the tests of the batch decorator share."""

from __future__ import annotations

import asyncio
from typing import Any

import msgviz as mv
from msgviz.decorators import batch
from tests.flows import Kept


def sizes(kept: Kept) -> list[int]:
    return [len(unpacked(message)) for message in kept.sent]


def unpacked(message: mv.Message) -> list[mv.Message]:
    return batch.unpack(message.body, message.attributes["Msgviz-Batch"])


async def together(topic: mv.Topic, *bodies: bytes, delay: float = 0.0) -> list[Any]:
    """Publish these at the same time; what became of each."""
    publishing = [topic.publish(body, delay=delay) for body in bodies]
    return await asyncio.gather(*publishing, return_exceptions=True)


async def enveloped(*bodies: bytes) -> mv.Message:
    """A batch, as a server delivers one."""
    kept = Kept()
    await together(batch.encoder(kept, wait=0), *bodies)
    (wire,) = kept.sent
    wire.attempt, wire.source = 2, mv.Source("t", "s", 5)
    return wire
