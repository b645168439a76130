"""A backend that is closed while it is at something: nothing of it goes on afterwards, or stays open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgviz as mv


async def closed_meanwhile(connect: Callable[[], mv.Backend], name: str, *, connected: bool) -> None:
    """Close it while it makes topics, and, unless it is `connected` before, while it connects.

    For client libraries with tasks of their own, which go on for as long as something is open.
    """
    before = asyncio.all_tasks()
    for turns in (5, 10, 20):
        backend = connect()
        if connected:
            await backend.declare(name)
        declaring = [asyncio.create_task(backend.declare(f"{name}-{turns}-{n}", "a")) for n in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await backend.close()
        for result in await asyncio.gather(*declaring, return_exceptions=True):
            assert result is None or isinstance(result, mv.BackendClosed)
        async with asyncio.timeout(15):
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.02)
