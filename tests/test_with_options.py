"""Decorators take options where they are named once for both sides."""

from __future__ import annotations

import asyncio

import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4, with_options
from tests.flows import Kept, accept


def test_each_side_gets_its_own() -> None:
    chain = with_options(lz4, level=9, max_size=10)
    assert chain.encoder(Kept()).level == 9
    assert chain.decoder(accept).max_size == 10
    assert repr(chain) == "with_options(lz4, level=9, max_size=10)"


async def test_in_a_list_of_decorators() -> None:
    async with mv.connect("memory://") as backend:
        got: list[bytes] = []
        chain = (with_options(lz4, max_size=5), base64)
        server = backend.server("t", decorators=chain, max_attempts=1)

        async def receive(message: mv.Message) -> None:
            got.append(message.body)

        server.start(receive)
        await backend.topic("t", decorators=chain).publish(b"small")
        await backend.topic("t", decorators=chain).publish(b"too large")
        await backend.topic("t", decorators=chain).publish(b"again")
        while len(got) < 2:
            await asyncio.sleep(0)
    assert got == [b"small", b"again"]


def test_an_option_that_neither_side_has() -> None:
    with pytest.raises(TypeError, match="lz4 has no option speed; there are level, max_size"):
        with_options(lz4, speed=1)
    with pytest.raises(TypeError, match="base64 has no option level; there are none"):
        with_options(base64, level=1)


def test_what_is_no_decorator() -> None:
    with pytest.raises(TypeError, match="is no decorator"):
        with_options(3, level=1)


def test_a_wrong_value_is_refused_by_the_decorator() -> None:
    with pytest.raises(ValueError, match="lz4: a level is"):
        with_options(lz4, level=99).encoder(Kept())
