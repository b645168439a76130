"""Live widgets on a message log, for notebooks: each is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msgviz.widgets.chainview import ChainView
    from msgviz.widgets.dashboard import Dashboard
    from msgviz.widgets.flowgraph import FlowGraph
    from msgviz.widgets.inspector import Inspector
    from msgviz.widgets.interceptor import Interceptor
    from msgviz.widgets.publisher import Publisher
    from msgviz.widgets.replayer import Replayer
    from msgviz.widgets.table import MessageTable
    from msgviz.widgets.timeline import Timeline

__all__ = [
    "ChainView",
    "Dashboard",
    "FlowGraph",
    "Inspector",
    "Interceptor",
    "MessageTable",
    "Publisher",
    "Replayer",
    "Timeline",
]

_MODULES = {
    "ChainView": "chainview",
    "Dashboard": "dashboard",
    "FlowGraph": "flowgraph",
    "Inspector": "inspector",
    "Interceptor": "interceptor",
    "MessageTable": "table",
    "Publisher": "publisher",
    "Replayer": "replayer",
    "Timeline": "timeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
