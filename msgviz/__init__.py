"""msgviz: an X-ray for message flows, in a notebook.

The primitives of go-msg for Python and asyncio, observing decorators that log every publish and receive
into a DataFrame, and widgets on that log. Importing this imports no third-party package: what needs one
is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgviz.attributes import Attributes, canonical_key
from msgviz.backend import Backend, Features
from msgviz.connect import connect
from msgviz.errors import (
    BackendClosed,
    ConnectionFailed,
    DecodeError,
    LogFileError,
    MissingExtra,
    MsgvizError,
    NotFound,
    ServerClosed,
    UnknownBackend,
    Unsupported,
    WriterClosed,
)
from msgviz.message import Message, Source
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.server import Backoff, Server
from msgviz.topic import MessageWriter, Topic, TopicDecorator

if TYPE_CHECKING:
    from msgviz.chains import chain
    from msgviz.log import MessageLog
    from msgviz.observing import observe
    from msgviz.order_lab import try_orders
    from msgviz.widgets import (
        ChainView,
        Dashboard,
        FlowGraph,
        Inspector,
        Interceptor,
        MessageTable,
        Publisher,
        Replayer,
        Timeline,
    )

__version__ = "0.1.0"

__all__ = [
    "Attributes",
    "Backend",
    "BackendClosed",
    "Backoff",
    "ChainView",
    "ConnectionFailed",
    "Dashboard",
    "DecodeError",
    "Features",
    "FlowGraph",
    "Inspector",
    "Interceptor",
    "LogFileError",
    "Message",
    "MessageLog",
    "MessageTable",
    "MessageWriter",
    "MissingExtra",
    "MsgvizError",
    "NotFound",
    "Publisher",
    "Receiver",
    "ReceiverDecorator",
    "Replayer",
    "Server",
    "ServerClosed",
    "Source",
    "Timeline",
    "Topic",
    "TopicDecorator",
    "UnknownBackend",
    "Unsupported",
    "WriterClosed",
    "canonical_key",
    "chain",
    "connect",
    "observe",
    "try_orders",
]

# name -> (module, the extra that brings what the module imports)
_LAZY = {
    "ChainView": ("msgviz.widgets", "notebook"),
    "Dashboard": ("msgviz.widgets", "notebook"),
    "FlowGraph": ("msgviz.widgets", "notebook"),
    "Inspector": ("msgviz.widgets", "notebook"),
    "Interceptor": ("msgviz.widgets", "notebook"),
    "MessageLog": ("msgviz.log", "log"),
    "MessageTable": ("msgviz.widgets", "notebook"),
    "Publisher": ("msgviz.widgets", "notebook"),
    "Replayer": ("msgviz.widgets", "notebook"),
    "Timeline": ("msgviz.widgets", "notebook"),
    "chain": ("msgviz.chains", "log"),
    "observe": ("msgviz.observing", "log"),
    "try_orders": ("msgviz.order_lab", "log"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'msgviz' has no attribute {name!r}")
    module, extra = _LAZY[name]
    try:
        value = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("msgviz"):
            raise
        raise MissingExtra(f"msgviz.{name}", extra) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
