"""chain: the layers of a topic or a receiver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgviz import html
from msgviz.receiver import receiver_name
from msgviz.server import Server
from msgviz.topic import Topic

_BOX = (
    "display:inline-block;padding:2px 10px;border:1px solid var(--jp-border-color1,#bbb);border-radius:4px;"
    "background:var(--jp-layout-color1,transparent);color:var(--jp-ui-font-color1,inherit);"
    "overflow-wrap:anywhere"
)
_END = _BOX + ";border-color:var(--jp-brand-color1,#1976d2);border-width:2px"
_NOTE = "color:var(--jp-ui-font-color2,#666)"


# They are how it is done, not what was asked for.
_NO_LAYERS = ("_ThreadReceiver", "OuterObserver", "TopicProbe", "ReceiverProbe")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a chain: its name, and the object itself."""

    name: str
    thing: Any

    def __repr__(self) -> str:
        return self.name


class Chain(Sequence[Layer]):
    """The layers of a topic or a receiver, outermost first; the last is what they are wrapped around."""

    def __init__(self, layers: Sequence[Layer], *, outgoing: bool) -> None:
        self._layers = tuple(layers)
        self.outgoing = outgoing

    def __getitem__(self, index: Any) -> Any:
        return self._layers[index]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    @property
    def names(self) -> list[str]:
        """The names of the layers, outermost first."""
        return [layer.name for layer in self._layers]

    def __repr__(self) -> str:
        return " → ".join(["publish" if self.outgoing else "server", *self.names])

    def _repr_html_(self) -> str:
        first = "publish" if self.outgoing else "server"
        arrow = f'<span aria-hidden="true" style="{_NOTE}">→</span>'
        boxes = [f'<span style="{_NOTE}">{first}</span>']
        for number, layer in enumerate(self._layers):
            style = _END if number == len(self) - 1 else _BOX
            title = html.text(repr(layer.thing))
            boxes.append(f'<span style="{style}" title="{title}">{html.text(layer.name)}</span>')
        return (
            '<div class="msgviz" style="display:flex;flex-wrap:wrap;gap:6px;align-items:center;'
            'font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px">'
            f"{arrow.join(boxes)}</div>"
        )


def chain(thing: Any) -> Chain:
    """The layers of a topic, of a receiver, or of the receiver that a server serves; outermost first.

    A message meets them in this order: on its way out from the application to the system, or on its way
    in from the server to the receiver.
    """
    if isinstance(thing, Topic):
        return Chain([*_layers(thing)], outgoing=True)
    if isinstance(thing, Server):
        while isinstance(getattr(thing, "next", None), Server):
            thing = thing.next  # type: ignore[attr-defined]
        if thing.receiver is None:
            raise ValueError(f"{thing!r} has no receiver yet: serve or start it first")
        return Chain([*_layers(thing.whole_receiver)], outgoing=False)
    if callable(thing) and not isinstance(thing, type):
        return Chain([*_layers(thing)], outgoing=False)
    raise TypeError(f"a chain is that of a topic, a receiver or a server, not of a {type(thing).__name__}")


def _layers(thing: Any) -> Iterator[Layer]:
    while thing is not None:
        inner = getattr(thing, "next", None)
        if type(thing).__name__ not in _NO_LAYERS:
            yield Layer(_name(thing), thing)
        thing = inner


def _name(thing: Any) -> str:
    layer = getattr(thing, "layer", "")
    if isinstance(layer, str) and layer:
        return layer
    if isinstance(thing, Topic):
        kind = type(thing).__name__.removesuffix("Topic").lower()
        return f"{kind} {thing.name}".strip()
    return receiver_name(thing)
