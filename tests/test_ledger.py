"""The layer ledger: what each layer made of each message, and where it went wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, lz4
from tests.flows import Backwards, Kept, accept, refuse

CHAIN = (lz4, base64)


async def flow(
    bodies: list[bytes], out: Any = CHAIN, back: Any = CHAIN, receiver: Any = accept, **options: Any
) -> mv.MessageLog:
    """Publish these through a chain whose layers are observed, and wait until all have ended."""
    log = mv.MessageLog(**options)
    async with mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        backend.server("t", decorators=back, max_attempts=2, backoff=0).start(receiver)
        topic = backend.topic("t", decorators=out)
        for body in bodies:
            await topic.publish(body, attributes={"A": "1"})
        await log.settled(5)
    return log


def walk(layers: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return list(layers[list(columns)].itertuples(index=False, name=None))


async def test_a_message_walks_down_and_up_again() -> None:
    log = await flow([b"hello" * 100])
    layers = log.layers
    assert walk(layers, "direction", "depth", "layer") == [
        ("out", 1, "lz4"),
        ("out", 2, "base64"),
        ("out", 3, "memory t"),
        ("in", 2, "base64"),
        ("in", 1, "lz4"),
        ("in", 0, "accept"),
    ]
    assert set(layers["message_id"]) == set(log.messages.index)
    assert layers["size_in"].iloc[0] == 500 == layers["size_in"].iloc[-1]
    assert list(layers["size_in"][1:5]) == list(layers["size_in"][4:0:-1])  # there and back
    assert layers["added"].iloc[0] == {"Content-Encoding": ["lz4"]}
    assert layers["removed"].iloc[4] == {"Content-Encoding": ["lz4"]}
    assert layers["body_out"].iloc[4] == b"hello" * 100
    assert layers["body_out"].iloc[5] is None
    assert layers["problem"].isna().all()
    assert (layers["outcome"] == "ok").all()


async def test_times_are_those_of_each_layer_alone() -> None:
    async def slow(message: mv.Message) -> None:
        await asyncio.sleep(0.05)

    layers = (await flow([b"x"], receiver=slow)).layers.query("direction == 'in'")
    alone = dict(walk(layers, "layer", "duration"))
    assert alone["slow"] >= pd.Timedelta("49ms")
    assert alone["lz4"] < pd.Timedelta("25ms")


async def test_every_attempt_is_a_way_in() -> None:
    log = await flow([b"x"], receiver=refuse)
    layers = log.layers.query("direction == 'in'")
    assert walk(layers, "attempt", "depth") == [(1, 2), (1, 1), (1, 0), (2, 2), (2, 1), (2, 0)]
    assert list(layers["problem"].dropna()) == ["raised ValueError: not x"] * 2
    assert list(layers["layer"][layers["problem"].notna()]) == ["refuse"] * 2


async def test_a_wrong_order_is_named() -> None:
    log = await flow([b"x" * 100], back=(base64, lz4))
    told = log.layers["problem"].dropna().iloc[0]
    assert "raised msgviz.errors.DecodeError" in told
    assert "on the way out base64 stood in its place" in told


class Sloppy(mv.ReceiverDecorator):
    """Gives back less than it was given."""

    layer = "sloppy"

    async def __call__(self, message: mv.Message) -> None:
        await self.receive(message.with_body(message.body[:-1]))


class Padded(mv.TopicDecorator):
    layer = "sloppy"

    async def send(self, message: mv.Message, delay: float) -> None:
        await self.next.send(message.with_body(message.body + b"??"), delay)


class sloppy:  # noqa: N801  used as a module is
    encoder, decoder = Padded, Sloppy


async def test_a_decoder_that_does_not_undo_its_encoder_is_named() -> None:
    layers = (await flow([b"abc"], out=(lz4, sloppy), back=(lz4, sloppy), receiver=accept)).layers
    told = layers[layers["problem"].notna()]
    assert walk(told[:1], "layer", "direction") == [("sloppy", "in")]
    assert "did not undo what sloppy did on the way out" in told["problem"].iloc[0]


async def test_changed_attributes_stand_with_both_values() -> None:
    class Change(mv.TopicDecorator):
        layer = "change"

        async def send(self, message: mv.Message, delay: float) -> None:
            changed = message.with_body(message.body)
            changed.attributes["A"] = "2"
            await self.next.send(changed, delay)

    class change:  # noqa: N801
        encoder = Change

    layers = (await flow([b"x"], out=(change,), back=())).layers
    assert layers["changed"].iloc[0] == {"A": (["1"], ["2"])}


async def test_layers_of_one_side_keep_their_depth() -> None:
    class Stamp(mv.TopicDecorator):
        layer = "stamp"

        async def send(self, message: mv.Message, delay: float) -> None:
            await self.next.send(message.with_body(message.body), delay)

    class outward:  # noqa: N801
        encoder = Stamp

    layers = (await flow([b"x"], out=(lz4, outward, base64), back=(lz4, outward, base64))).layers
    assert walk(layers.query("depth > 0"), "direction", "depth", "layer") == [
        ("out", 1, "lz4"),
        ("out", 2, "stamp"),
        ("out", 3, "base64"),
        ("out", 4, "memory t"),
        ("in", 3, "base64"),
        ("in", 1, "lz4"),
    ]


async def test_chains_composed_by_hand_are_taken_apart() -> None:
    log = mv.MessageLog()
    kept = Kept()
    whole = lz4.encoder(base64.encoder(kept))
    topic = mv.observe(whole, log, layers=True)
    assert mv.chain(topic).names == ["observe", "lz4", "base64", "kept kept"]
    await topic.publish(b"hello")
    receiver = mv.observe(base64.decoder(lz4.decoder(accept)), log, layers=True)
    (message,) = kept.sent
    await receiver(message)
    assert walk(log.layers, "direction", "depth", "layer") == [
        ("out", 1, "lz4"),
        ("out", 2, "base64"),
        ("out", 3, "kept kept"),
        ("in", 2, "base64"),
        ("in", 1, "lz4"),
        ("in", 0, "accept"),
    ]
    await whole.publish(b"not observed")
    assert len(log.layers) == 6


async def test_off_nothing_stands_in_between() -> None:
    log = mv.MessageLog()
    async with mv.observe(mv.connect("memory://"), log) as backend:
        topic = backend.topic("t", decorators=CHAIN)
        assert type(topic.next).__module__ == "msgviz.decorators.lz4"  # type: ignore[attr-defined]
        await topic.publish(b"x")
    assert log.layers.empty
    assert list(log.layers.columns) == list((await flow([b"x"])).layers.columns)


async def test_a_layer_that_sends_twice_says_so() -> None:
    class Twice(mv.TopicDecorator):
        layer = "twice"

        async def send(self, message: mv.Message, delay: float) -> None:
            for _ in range(2):
                await self.next.send(message.with_body(message.body), delay)

    class twice:  # noqa: N801
        encoder = Twice

    layers = (await flow([b"x"], out=(twice, lz4), back=(twice, lz4))).layers.query("direction == 'out'")
    assert walk(layers, "depth", "passes") == [(1, 2), (2, 1), (3, 0), (2, 1), (3, 0)]


async def test_many_at_once_do_not_mix() -> None:
    log = mv.MessageLog()
    async with mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        backend.server("t", decorators=CHAIN, concurrency=8).start(accept)
        topic = backend.topic("t", decorators=CHAIN)
        await asyncio.gather(*(topic.publish(b"%d" % n * 50) for n in range(50)))
        await log.settled(5)
    for _, layers in log.layers.groupby("message_id"):
        assert list(layers["depth"]) == [1, 2, 3, 2, 1, 0]
        assert layers["body_in"].iloc[0] == layers["body_in"].iloc[-1]


async def test_a_full_ledger_drops_the_oldest() -> None:
    bodies = [b"%04d" % n * 250 for n in range(100)]
    log = await flow(bodies, out=(Backwards,), back=(Backwards,), max_bytes=50_000)
    assert log.ledger.dropped > 0
    kept = list(log.layers["body_in"][log.layers["layer"] == "accept"])
    assert kept[-1] == bodies[-1]
    assert 1 <= len(kept) < 50


async def test_it_agrees_without_propagation() -> None:
    log = mv.MessageLog()
    async with mv.observe(mv.connect("memory://"), log, layers=True, propagate=False) as backend:
        backend.server("t", decorators=CHAIN).start(accept)
        await backend.topic("t", decorators=CHAIN).publish(b"x")
        await log.settled(5)
        while len(log.layers) < 6:
            await asyncio.sleep(0)
    assert set(log.layers["message_id"]) == set(log.messages.index)


@given(body=st.binary(max_size=200), layers=st.lists(st.sampled_from([lz4, base64, Backwards]), max_size=4))
async def test_whatever_the_chain_each_layer_is_undone(body: bytes, layers: list[Any]) -> None:
    log = await flow([body], out=layers, back=layers)
    ledger = log.layers
    assert ledger["problem"].isna().all()
    out = ledger.query("direction == 'out'").sort_values("depth")
    back = ledger.query("direction == 'in'").sort_values("depth")
    assert list(out["size_in"]) == list(back["size_in"])
    assert list(out["body_in"]) == list(back["body_in"])


def test_layers_is_a_plain_frame_that_can_be_asked() -> None:
    layers = mv.MessageLog().layers
    assert layers.query("layer == 'lz4'")["size_out"].sum() == 0
    with pytest.raises(KeyError):
        layers["nothing"]
