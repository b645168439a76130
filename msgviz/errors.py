"""Every error msgviz raises by itself, in one tree.

    MsgvizError
    ├── WriterClosed        a MessageWriter was used after close()
    ├── ServerClosed        a Server was served after shutdown()
    ├── BackendClosed       a Backend was used after close()
    ├── Unsupported         the backend cannot do what was asked (names the backend and the limit)
    ├── UnknownBackend      no backend answers to this URL scheme (also a ValueError)
    ├── MissingExtra        a client library is not installed (also an ImportError)
    ├── ConnectionFailed    the system could not be reached, or refused (also a ConnectionError)
    ├── NotFound            a topic or subscription does not exist (also a LookupError)
    ├── DecodeError         a layer could not undo its encoding of a body (also a ValueError)
    └── LogFileError        a saved log could not be read (also a ValueError)

A wrong argument is a plain TypeError or ValueError. An error of a client library arrives as one of
these, with the original as its ``__cause__``.
"""

from __future__ import annotations


class MsgvizError(Exception):
    """The root of the tree: catches all that msgviz raises by itself."""


class WriterClosed(MsgvizError):
    """A `MessageWriter` was used after `close()` (go-msg's ``ErrClosedMessageWriter``)."""

    def __init__(self) -> None:
        super().__init__("this MessageWriter is closed: a writer carries one message, take a new one")


class ServerClosed(MsgvizError):
    """A `Server` was served after `shutdown()` (go-msg's ``ErrServerClosed``)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the server of {name} was shut down: make a new one with backend.server(...)")


class BackendClosed(MsgvizError):
    """A `Backend` was used after `close()`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the {name} backend is closed: connect again with msgviz.connect(...)")


class Unsupported(MsgvizError):
    """The backend cannot do what was asked; nothing was sent."""

    def __init__(self, backend: str, limit: str) -> None:
        self.backend = backend
        self.limit = limit
        super().__init__(f"{backend}: {limit}")


class UnknownBackend(MsgvizError, ValueError):
    """No backend answers to the scheme of a URL."""


class MissingExtra(MsgvizError, ImportError):
    """A part of msgviz needs a library that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f'{what} needs an extra: pip install "msgviz[{extra}]"')


class ConnectionFailed(MsgvizError, ConnectionError):
    """The messaging system could not be reached, or turned us away."""


class NotFound(MsgvizError, LookupError):
    """A topic or subscription does not exist, and was not to be made."""


class DecodeError(MsgvizError, ValueError):
    """A layer could not undo its encoding of a body.

    `layer` is the name of the decorator. The message is given back to the server like any that failed.
    """

    def __init__(self, layer: str, problem: str) -> None:
        self.layer = layer
        super().__init__(f"{layer}: {problem}")


class LogFileError(MsgvizError, ValueError):
    """A file is not a saved log, is damaged, or comes from a newer msgviz."""
