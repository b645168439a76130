"""Resume: a recorded message is sent on from one layer of its chain, as if it had just come there."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgviz.message import Message, wrap
from msgviz.observing.breakpoints import PUBLISH, SIDES
from msgviz.observing.identity import ID_ATTRIBUTE, new_id, read_identity
from msgviz.observing.ledger import IN, OUT, Crossing
from msgviz.observing.probes import Gate, ReceiverProbe, TopicProbe

if TYPE_CHECKING:
    from msgviz.observing.recorder import Recorder


async def resume(
    log: Recorder,
    message_id: str,
    layer: int | str | None,
    side: str,
    edit: Callable[[Message], Message | None] | None,
) -> str:
    """See `MessageLog.resume`."""
    if side not in SIDES:
        raise ValueError(f"side is 'publish' or 'receive', not {side!r}")
    crossing = _find(log, message_id, layer, OUT if side == PUBLISH else IN)
    passage = crossing.passage
    if passage.chain.loaded:
        raise LookupError(
            f"what the layers made of {message_id} was loaded from a file, the layers themselves were not: "
            "replay publishes it again"
        )
    message = wrap(crossing.body, crossing.values)
    if edit is not None:
        edited = edit(message)
        if inspect.isawaitable(edited):
            raise TypeError("edit is a plain function, not an async one")
        if edited is not None:
            if not isinstance(edited, Message):
                raise TypeError(f"edit returns a Message, or None to change it in place, not {edited!r}")
            message = edited
        message = wrap(message.body, message.freeze())
    old = read_identity(crossing.values)
    conversation, parent = (old[0], old[2]) if old else (message_id, "")
    again = new_id()
    log.note_replay(again, message_id)
    gate = Gate(log.ledger, passage.chain, passage.direction, crossing.depth, first=True)
    behind = passage.chain.behind[crossing.depth]
    if passage.direction == OUT:
        observer = log.topics.get(str(passage.topic))
        if observer is None:
            raise LookupError(f"the topic {passage.topic!r} is not observed here: its messages were loaded")
        sender = copy.copy(observer)
        sender.next = TopicProbe(behind, gate)
        await sender.send_as(message, 0.0, conversation, again, parent)
    else:
        identity = f"{conversation}.{again}.{parent}"
        if old is not None:
            message.attributes[ID_ATTRIBUTE] = identity
        message.tag = identity
        message.source = passage.source
        await ReceiverProbe(behind, gate)(message)
    return again


def _find(log: Recorder, message_id: str, layer: int | str | None, direction: int) -> Crossing:
    passages = [p for p in log.ledger.passages(message_id) if p.direction == direction]
    if not passages:
        if message_id not in log.messages.index:
            raise KeyError(message_id)
        raise LookupError(
            f"what the layers made of {message_id} is not known: observe its chain with layers=True"
        )
    crossings: list[Any] = list(passages[-1].crossings())
    if layer is None:
        return crossings[0]  # type: ignore[no-any-return]
    for crossing in reversed(crossings):
        if layer in (crossing.layer, crossing.depth):
            return crossing  # type: ignore[no-any-return]
    came = ", ".join(f"{c.depth} {c.layer}" for c in crossings)
    raise LookupError(f"{message_id} did not come to a layer {layer!r}; it came to {came}")
