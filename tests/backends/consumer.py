"""A consumer in a process of its own, to be killed: ``python -m tests.backends.consumer URL TOPIC FILE``.

It appends a line with each body to FILE once the receiver has returned its work to the disk, then acks.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgviz as mv


async def consume(url: str, topic: str, path: str, options: dict[str, Any]) -> None:
    """Serve the subscription "crash" of a topic until killed, or until told to end on standard input."""
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def receive(message: mv.Message) -> None:
        os.write(out, message.body + b"\n")
        await asyncio.sleep(0.001)

    async with mv.connect(url, **options) as backend:
        server = backend.server(topic, subscription="crash", concurrency=4, max_attempts=None)
        async with server.running(receive):
            await asyncio.to_thread(sys.stdin.read)


def received(path: Path) -> list[str]:
    """The bodies that consumers have noted so far; a line that a kill cut off is none."""
    if not path.exists():
        return []
    return path.read_bytes().decode().split("\n")[:-1]


if __name__ == "__main__":
    asyncio.run(consume(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
