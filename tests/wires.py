"""What tests of decorators share: either base64, and what passes through a chain."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

import msgviz as mv
from msgviz.decorators import base64
from tests.flows import Kept


def without_pybase64() -> ModuleType:
    """The base64 decorator as it is where pybase64 is not installed."""
    assert base64.__file__ is not None
    spec = importlib.util.spec_from_file_location("base64_of_the_standard_library", base64.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pybase64", None)
        spec.loader.exec_module(module)
    return module


FALLBACK = without_pybase64()


def sent_through(topic: Callable[[mv.Topic], mv.Topic], message: mv.Message) -> mv.Message:
    """What the system gets of a message that is published to this topic."""
    kept = Kept()
    asyncio.run(topic(kept).publish(message.body, attributes=message.attributes))
    (wire,) = kept.sent
    return wire


def received_through(receiver: Callable[[mv.Receiver], mv.Receiver], wire: mv.Message) -> mv.Message:
    """What the application gets of a message that comes from the system."""
    kept: list[mv.Message] = []

    async def receive(message: mv.Message) -> None:
        kept.append(message)

    async def run() -> None:
        result = receiver(receive)(wire)
        assert result is not None
        await result

    asyncio.run(run())
    (message,) = kept
    return message
