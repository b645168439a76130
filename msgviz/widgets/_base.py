"""What every msgviz widget is: an anywidget with a bridge, named messages and a static form."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from msgviz import html
from msgviz.widgets._bridge import Bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STATIC = Path(__file__).parent / "static"
"""Where the built modules and stylesheets are."""

MAX_BODY = 64 * 1024
"""Bytes of a body that travel to the browser."""

PIECE = 3 * 64 * 1024
"""Bytes of a body that travel at a time: a multiple of 3, so that pieces in base64 can be joined."""


class Widget(anywidget.AnyWidget):
    """Base of the widgets.

    The browser calls a handler with a message `{"op": name, **arguments}`; with an `id` in it, it gets what
    the handler returns. `handle` registers each handler by name. Handlers run on the loop of the cell that
    made the widget. An error goes back to the request, or else is shown on top of the widget.
    """

    _problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: object) -> None:
        unknown = sorted(set(traits) - set(self.trait_names()))
        if unknown:
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {unknown[0]!r}")
        self._handlers: dict[str, Callable[..., object]] = {}
        self._views: set[str] = set()
        self.bridge = Bridge(self.report)
        super().__init__(**traits)
        self.handle("view", self._set_view)
        self.on_msg(self._receive)

    @property
    def shown(self) -> bool:
        """Whether a browser shows this widget; what is not shown need not be kept up to date."""
        return bool(self._views)

    def handle(self, op: str, handler: Callable[..., object]) -> None:
        """Let the browser call `handler(**arguments)` as `op`.

        The handler may be a coroutine function. What it returns must be JSON.
        """
        self._handlers[op] = handler

    def handle_trait(self, name: str, handler: Callable[[Any], object]) -> None:
        """Call `handler(new_value)` on the loop when the trait changes, whoever changed it, on any thread."""
        if self.bridge.has_loop:
            self.observe(lambda change: self.bridge.run(handler, change["new"]), name)
        else:
            self.observe(lambda change: handler(change["new"]), name)

    def report(self, error: BaseException) -> None:
        """Show an error on top of the widget."""
        self._problem = describe(error)

    def close(self) -> None:
        """Stop following the log and take the widget off the page."""
        if "bridge" in vars(self):  # not where the constructor refused its arguments
            self.bridge.close()
        super().close()

    def _receive(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        if "op" in content:
            identity = content.get("id")
            report = None if identity is None else partial(self._refuse, identity)
            self.bridge.run(self._answer, content, report=report)

    async def _answer(self, content: Mapping[str, Any]) -> None:
        arguments = {key: value for key, value in content.items() if key not in {"op", "id"}}
        value = self._handlers[content["op"]](**arguments)
        if hasattr(value, "__await__"):
            value = await value
        if "id" in content:
            self.send({"op": "reply", "id": content["id"], "value": value})

    def _refuse(self, identity: object, error: BaseException) -> None:
        self.send({"op": "reply", "id": identity, "error": describe(error)})

    def _set_view(self, *, view: str, shown: bool) -> None:
        if shown:
            self._views.add(view)
        else:
            self._views.discard(view)

    def _repr_html_(self) -> str:
        """Return what a page without a kernel shows."""
        return html.card(type(self).__name__, html.quiet("Run this notebook to use it."))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self._repr_html_()}, metadata


def describe(error: BaseException) -> str:
    """Return an error in one line of words: its class, and what it says."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def body_content(body: bytes | None, limit: int = MAX_BODY) -> dict[str, Any] | None:
    """Return a body as the browser's BodyView takes it; None for a body that was not kept."""
    if body is None:
        return None
    return {"base64": base64.b64encode(body[:limit]).decode(), "size": len(body)}


def body_piece(body: bytes | None, at: int) -> dict[str, Any] | None:
    """Return the part of a body that begins at this byte, as the browser's LongBody takes it."""
    if body is None:
        return None
    return {"base64": base64.b64encode(body[at : at + PIECE]).decode(), "size": len(body)}
