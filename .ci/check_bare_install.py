"""Check that msgviz with none of its extras carries messages, and says which extra brings the rest."""

from __future__ import annotations

import asyncio
import tempfile

import msgviz as mv

NEED_EXTRAS = {
    "nats://h": "nats",
    "amqp://h": "amqp",
    "redis://h": "redis",
    "aws://eu-west-1": "aws",
    "gcp://project": "gcp",
    "kafka://h": "kafka",
}


async def carry(url: str) -> None:
    """Send one message."""
    received: asyncio.Queue[mv.Message] = asyncio.Queue()
    async with mv.connect(url) as backend, asyncio.timeout(10):
        backend.server("greetings").start(received.put)
        await backend.topic("greetings").publish(json={"hello": "world"})
        message = await received.get()
    assert message.json() == {"hello": "world"}


async def main() -> None:
    """Send one message through memory and one through a file, then ask for what needs an extra."""
    await carry("memory://")
    with tempfile.TemporaryDirectory() as folder:
        await carry(f"sqlite:///{folder}/flow.db")
    for url, extra in NEED_EXTRAS.items():
        try:
            mv.connect(url)
        except mv.MissingExtra as error:
            if error.extra != extra:
                raise
        else:
            raise SystemExit(f"{url} was connected to without its client library")
    try:
        mv.MessageLog()
    except mv.MissingExtra as error:
        print(f"no extras: memory and SQLite carry messages; MessageLog says: {error}")
    else:
        raise SystemExit("MessageLog was made without pandas")


asyncio.run(main())
