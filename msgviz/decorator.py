"""What a decorator is, and how a list of them becomes a chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgviz.receiver import Receiver
from msgviz.topic import Topic


def check_decorators(decorators: Iterable[Any]) -> tuple[Any, ...]:
    """The decorators as a tuple; `TypeError` for what is none.

    A decorator has an ``encoder(topic)``, a ``decoder(receiver)``, or both as a mirrored pair: a module
    like `msgviz.decorators.lz4`, or any object with such methods.
    """
    if hasattr(decorators, "encoder") or hasattr(decorators, "decoder"):
        raise TypeError("decorators is a list of decorators: write decorators=(lz4,) for one")
    checked = tuple(decorators)
    for decorator in checked:
        if not hasattr(decorator, "encoder") and not hasattr(decorator, "decoder"):
            raise TypeError(f"{decorator!r} is no decorator: it has neither an encoder nor a decoder")
    return checked


def decorate_topic(topic: Topic, decorators: Sequence[Any]) -> Topic:
    """Wrap a topic so that a body meets the decorators in this order on its way out."""
    for decorator in reversed(decorators):
        if hasattr(decorator, "encoder"):
            topic = decorator.encoder(topic)
    return topic


def decorate_receiver(receiver: Receiver, decorators: Sequence[Any]) -> Receiver:
    """Wrap a receiver so that a body meets the decorators in the opposite order on its way in."""
    for decorator in decorators:
        if hasattr(decorator, "decoder"):
            receiver = decorator.decoder(receiver)
    return receiver
