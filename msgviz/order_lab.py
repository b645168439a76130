"""The order lab: one message through a chain in every order of its layers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice, permutations
from math import factorial
from typing import Any

import pandas as pd

from msgviz.backends.memory import MemoryBackend
from msgviz.decorator import check_decorators
from msgviz.message import Message
from msgviz.observing import observe
from msgviz.observing.columns import STR
from msgviz.observing.recorder import Recorder
from msgviz.receiver import Receiver, ReceiverDecorator, receiver_name

_MOST = 200

Orders = Iterable[tuple[Sequence[Any], Sequence[Any]]]


async def try_orders(
    topic_layers: Sequence[Any],
    receiver_layers: Sequence[Any],
    message: Message | bytes,
    *,
    orders: Orders | None = None,
    timeout: float = 5.0,
) -> pd.DataFrame:
    """Send a message through memory://, with its layers in every order on both sides, and tell how it went.

    Both lists are lists of decorators, in the order in which a body meets them on its way out; ``orders``
    are pairs of such lists to try instead of all. One row per pair, the best first: `out` and `back` (the
    layers in the order the body meets them), `outcome` (ok, changed: what arrived is not what was sent,
    error), `problem` (which layer, and why), `on_the_wire` (bytes), `text` (whether the body on the wire is
    text, as some systems want it), `attributes` (on the wire), `time_out`, `time_in` (timedelta64[ns]).

    `ValueError` for more than 200 pairs: name some with `orders`.
    """
    sent = message if isinstance(message, Message) else Message(message)
    out, back = check_decorators(topic_layers), check_decorators(receiver_layers)
    if orders is None:
        count = factorial(len(out)) * factorial(len(back))
        if count > _MOST:
            raise ValueError(
                f"{len(out)} and {len(back)} layers have {count} pairs of orders, more than {_MOST}: "
                "name those to try with orders=[(topic layers, receiver layers), …]"
            )
        orders = ((o, b) for o in permutations(out) for b in permutations(back))
    pairs = [(check_decorators(o), check_decorators(b)) for o, b in islice(orders, _MOST + 1)]
    if len(pairs) > _MOST:
        raise ValueError(f"orders has more than {_MOST} pairs")
    rows = [await _try(o, b, sent, timeout) for o, b in pairs]
    rows.sort(key=lambda row: (("ok", "changed", "error").index(row["outcome"]), row["on_the_wire"]))
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return frame.astype({"out": STR, "back": STR, "outcome": STR, "problem": STR, "on_the_wire": "Int64"})


_COLUMNS = [
    "out", "back", "outcome", "problem", "on_the_wire", "text", "attributes", "time_out", "time_in",
]  # fmt: skip


async def _try(out: Sequence[Any], back: Sequence[Any], sent: Message, timeout: float) -> dict[str, Any]:
    log = Recorder()
    received: list[Message] = []
    wire: list[Message] = []

    class Wire:
        """Where the body is as the system carries it."""

        @staticmethod
        def decoder(receiver: Receiver) -> Receiver:
            return _Look(receiver, wire)

    async def receive(message: Message) -> None:
        received.append(message)

    raised: BaseException | None = None
    async with observe(MemoryBackend(), log, layers=True) as backend:
        backend.server("lab", decorators=(*back, Wire), max_attempts=1).start(receive)
        topic = backend.topic("lab", decorators=out)
        try:
            async with asyncio.timeout(timeout):
                await topic.publish(sent.body, attributes=sent.attributes)
                await log.settled()
        except TimeoutError as error:
            raised = TimeoutError(f"it did not end within {timeout:g} s")
            raised.__cause__ = error
        except Exception as error:  # noqa: BLE001  a layer's, which is what is to be found out
            raised = error
    layers = log.layers
    layers = layers[layers["layer"] != _Look.layer]
    told = layers[layers["problem"].notna()]
    problem = f"{told['layer'].iloc[0]} {told['problem'].iloc[0]}" if len(told) else None
    if problem is None and raised is not None:
        problem = f"{type(raised).__name__}: {raised}"
    same = [m.body for m in received] == [sent.body]
    outcome = "error" if raised is not None or not received else "ok" if same else "changed"
    if outcome == "changed" and problem is None:
        problem = (
            f"arrived {len(received)} times" if len(received) != 1 else "what arrived is not what was sent"
        )
    if outcome == "error" and problem is None:
        problem = log.messages["last_error"].iloc[0] if len(log) else "nothing was sent"
    times = layers.groupby("direction", observed=False)["duration"].sum()
    on_the_wire = wire[0] if wire else None
    return {
        "out": _names(out),
        "back": _names(reversed(back)),
        "outcome": outcome,
        "problem": problem,
        "on_the_wire": None if on_the_wire is None else len(on_the_wire.body),
        "text": on_the_wire is not None and _is_text(on_the_wire.body),
        "attributes": {} if on_the_wire is None else _own(on_the_wire),
        "time_out": times["out"],
        "time_in": times["in"],
    }


class _Look(ReceiverDecorator):
    """Keeps what passes."""

    layer = "(the wire)"

    def __init__(self, next: Receiver, seen: list[Message]) -> None:
        super().__init__(next)
        self.seen = seen

    async def __call__(self, message: Message) -> None:
        """Hand the message on."""
        self.seen.append(message.with_body(message.body))
        await self.receive(message)


def _own(message: Message) -> dict[str, list[str]]:
    values = message.attributes.to_dict()
    return {key: value for key, value in values.items() if key != "Msgviz-Id"}


def _is_text(body: bytes) -> bool:
    try:
        return all(c.isprintable() or c in "\t\r\n" for c in body.decode())
    except UnicodeDecodeError:
        return False


def _names(decorators: Iterable[Any]) -> str:
    names = []
    for decorator in decorators:
        inner = getattr(decorator, "decorator", decorator)  # of with_options
        names.append(receiver_name(inner).rpartition(".")[2])
    return " → ".join(names) or "none"
