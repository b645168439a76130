"""The order lab tells which order of a chain is right, and what each costs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4, with_options
from tests.flows import Backwards

BODY = b'{"amount": 12}' * 50


def orders(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return list(frame[list(columns)].itertuples(index=False, name=None))


async def test_every_order_of_both_sides() -> None:
    frame = await mv.try_orders([lz4, base64], [lz4, base64], BODY)
    assert orders(frame, "out", "back", "outcome", "text") == [
        ("lz4 → base64", "base64 → lz4", "ok", True),
        ("base64 → lz4", "lz4 → base64", "ok", False),
        ("lz4 → base64", "lz4 → base64", "error", True),
        ("base64 → lz4", "base64 → lz4", "error", False),
    ]
    assert frame["on_the_wire"][0] < frame["on_the_wire"][1] < len(BODY)  # base64 before lz4 costs
    assert frame["problem"].isna().tolist() == [True, True, False, False]
    assert frame["problem"][2].startswith("lz4 raised msgviz.errors.DecodeError")
    assert set(frame["attributes"][0]) == {"Content-Encoding", "Content-Transfer-Encoding"}
    assert (frame["time_out"] > pd.Timedelta(0)).all()


async def test_a_chosen_few() -> None:
    frame = await mv.try_orders([], [], BODY, orders=[([lz4], [lz4]), ([lz4], []), ([], [])])
    assert orders(frame, "out", "back", "outcome") == [  # the smallest first
        ("lz4", "lz4", "ok"),
        ("none", "none", "ok"),
        ("lz4", "none", "changed"),
    ]
    assert frame["problem"].iloc[-1] == "what arrived is not what was sent"


async def test_a_message_keeps_its_attributes_and_is_not_changed() -> None:
    message = mv.Message(b"hello", {"A": ["1", "2"]})
    frame = await mv.try_orders([Backwards], [Backwards], message)
    assert frame["attributes"][0] == {"A": ["1", "2"], "Direction": ["backwards"]}
    assert message == mv.Message(b"hello", {"A": ["1", "2"]})


async def test_a_layer_that_refuses_to_send_is_named() -> None:
    class Refuse(mv.TopicDecorator):
        layer = "refuse"

        async def send(self, message: mv.Message, delay: float) -> None:
            raise ValueError("not today")

    class refuse:  # noqa: N801
        encoder = Refuse

    frame = await mv.try_orders([lz4, refuse], [lz4], b"x")
    assert set(frame["outcome"]) == {"error"}
    assert set(frame["problem"]) == {"refuse raised ValueError: not today"}
    assert frame["on_the_wire"].isna().all()


async def test_a_layer_that_never_ends_ends_in_time() -> None:
    class Hang(mv.TopicDecorator):
        async def send(self, message: mv.Message, delay: float) -> None:
            await mv.connect("memory://").server("t").serve(lambda _: None)

    class hang:  # noqa: N801
        encoder = Hang

    frame = await mv.try_orders([hang], [], b"x", timeout=0.05)
    assert frame["problem"][0] == "TimeoutError: it did not end within 0.05 s"


async def test_options_stay() -> None:
    frame = await mv.try_orders([with_options(lz4, level=9)], [with_options(lz4, max_size=3)], b"long" * 9)
    assert frame["out"][0] == "lz4"
    assert "more than 3 bytes" in frame["problem"][0]


async def test_too_many_orders() -> None:
    with pytest.raises(ValueError, match="4 and 4 layers have 576 pairs of orders, more than 200"):
        await mv.try_orders([lz4] * 4, [lz4] * 4, b"x")
    with pytest.raises(TypeError, match="is no decorator"):
        await mv.try_orders([3], [], b"x")
