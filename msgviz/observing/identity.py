"""Identity: which message this is, which one caused it, and which story it belongs to.

It travels in one attribute, ``Msgviz-Id: <conversation>.<message>.<parent>``, the parent empty for a
message that no other caused.
"""

from __future__ import annotations

import os
import secrets
from contextvars import ContextVar
from itertools import count

from msgviz.attributes import Values
from msgviz.message import Message

ID_ATTRIBUTE = "Msgviz-Id"

receiving: ContextVar[tuple[str, str, str] | None] = ContextVar("msgviz_receiving", default=None)
"""The identity of the message being received here. Tasks and worker threads inherit it, so that what
they publish is known to be caused by it."""

publishing: ContextVar[str | None] = ContextVar("msgviz_publishing", default=None)
"""The identity that an outer observer gave to the message being published, for observers further in."""

_HEX = frozenset("0123456789abcdefABCDEF")
_LONGEST = 400  # characters; it came from outside, and is kept for every event

_prefix = ""
_numbers = count(1)


def _renew() -> None:
    global _prefix, _numbers  # noqa: PLW0603  a process of its own, after a fork too
    _prefix = secrets.token_hex(4) + "-"
    _numbers = count(1)


_renew()
os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """An id that no other message has, of this process or another."""
    return f"{_prefix}{next(_numbers)}"


def conversation_of(values: Values, message_id: str) -> str:
    """The conversation a first message opens: its trace id where it carries one, else its own id.

    Source: W3C Trace Context, ``traceparent``: version, 32 hex digits of trace id, span id, flags.
    """
    trace = values.get("Traceparent")
    if isinstance(trace, str) and len(trace) >= 55 and trace[2] == trace[35] == "-":
        trace_id = trace[3:35]
        if _HEX.issuperset(trace_id) and trace_id.strip("0"):
            return trace_id
    return message_id


def read_identity(values: Values) -> tuple[str, str, str] | None:
    """Conversation, message and parent, as a message carries them; None where it carries nothing sound."""
    identity = values.get(ID_ATTRIBUTE)
    if identity is None:
        return None
    if isinstance(identity, tuple):
        identity = identity[0]
    if len(identity) > _LONGEST or not identity.isascii() or not identity.isprintable():
        return None
    try:
        conversation, message_id, parent = identity.split(".")
    except ValueError:
        return None
    return (conversation, message_id, parent) if conversation and message_id else None


def identify(message: Message) -> tuple[str, str, str]:
    """The identity of a message that carries none: its tag, which it keeps through all its attempts."""
    if message.tag is None:
        message_id = new_id()
        tag = f"{conversation_of(message.freeze(), message_id)}.{message_id}."
        layer: Message | None = message
        while layer is not None:  # what the server gave is delivered again, not what a decoder made of it
            layer.tag = tag
            layer = getattr(layer, "made_from", None)
    else:
        tag = message.tag
    conversation, message_id, parent = tag.split(".")
    return conversation, message_id, parent
