"""Check that msgviz with none of its extras carries messages, and says which extra brings the rest."""

from __future__ import annotations

import asyncio

import msgviz as mv


async def main() -> None:
    """Send one message through memory, then ask for what needs an extra."""
    received: asyncio.Queue[mv.Message] = asyncio.Queue()
    async with mv.connect("memory://") as backend, asyncio.timeout(10):
        backend.server("greetings").start(received.put)
        await backend.topic("greetings").publish(json={"hello": "world"})
        message = await received.get()
    assert message.json() == {"hello": "world"}
    try:
        mv.MessageLog()
    except mv.MissingExtra as error:
        print(f"no extras: one message carried; MessageLog says: {error}")
    else:
        raise SystemExit("MessageLog was made without pandas")


asyncio.run(main())
