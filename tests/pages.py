"""The browser's end of a widget, without a browser."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any


class Refused(Exception):
    """The kernel answered a request with this error."""


class Page:
    """A view of a widget: asks its kernel, and keeps what that sends by itself in `told`."""

    def __init__(self, widget: Any) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._widget = widget
        self._numbers = count()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        widget.send = self._take

    def _take(self, content: Any, buffers: Any = None) -> None:
        content = json.loads(json.dumps(content, allow_nan=False))
        if content["op"] != "reply":
            self.told.put_nowait(content)
        elif "error" in content:
            self._waiting.pop(content["id"]).set_exception(Refused(content["error"]))
        else:
            self._waiting.pop(content["id"]).set_result(content["value"])

    async def ask(self, op: str, **arguments: Any) -> Any:
        """What the kernel answers; `Refused` with its error."""
        number = str(next(self._numbers))
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self._widget._handle_custom_msg({"op": op, "id": number, **arguments}, [])
        return await asyncio.wait_for(self._waiting[number], 10)

    async def show(self) -> None:
        """Open the view."""
        await self.ask("view", view="a", shown=True)

    async def until(self, condition: Any) -> Any:
        """The first value the kernel sends of which the condition holds."""
        async with asyncio.timeout(10):
            while True:
                value = (await self.told.get())["value"]
                if condition(value):
                    return value
