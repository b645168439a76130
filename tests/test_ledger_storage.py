"""The layers in a saved log: what was saved is what is loaded, and what is damaged is told."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, batch, lz4, retry
from tests.flows import Backwards, Kept, accept, observed, until
from tests.test_ledger import sloppy
from tests.test_storage import assert_same, saved_and_loaded

CHAIN = (lz4, base64)


class Again:
    """Tries a receiver three times."""

    decoder = staticmethod(partial(retry.decoder, attempts=3, first=0))


class Together:
    """Two messages travel as one."""

    encoder = staticmethod(partial(batch.encoder, size=2))
    decoder = staticmethod(batch.decoder)


async def as_shown(log: mv.MessageLog, message_id: str) -> Any:
    """What a ChainView shows of a message, but for its times, which only the kernel's clock knows."""
    view = mv.ChainView(log, message_id)
    try:
        content = await view._content()
        return view._repr_html_(), [{**way, "time": None} for way in content.pop("ways", [])], content
    finally:
        view.close()


def assert_same_layers(one: mv.MessageLog, two: mv.MessageLog) -> None:
    """All that can be seen of the layers of two logs is the same."""
    assert_same(one, two)
    pd.testing.assert_frame_equal(one.layers, two.layers)
    assert one.ledger.layers == two.ledger.layers
    assert one.ledger.dropped == two.ledger.dropped
    assert one.ledger._bytes == two.ledger._bytes


async def full_log() -> mv.MessageLog:
    """Redelivery, fan-out, a layer that hands on again, one that raises, a batch, an edit by a person."""
    log = mv.MessageLog()
    mended = False

    async def fails(message: mv.Message) -> None:
        if not mended:
            raise ValueError("not yet \ud800")

    async with mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        one = backend.server("t", subscription="one", decorators=(Again, *CHAIN), max_attempts=2, backoff=0)
        one.start(fails)
        two = backend.server("t", subscription="two", decorators=CHAIN, max_attempts=1)
        two.start(accept)
        wrong = backend.server("u", decorators=(base64, lz4), max_attempts=2, backoff=0)
        wrong.start(accept)
        batched = backend.server("b", decorators=(Together, lz4))
        batched.start(accept)
        backend.server("plain").start(accept)
        backend.server("sloppy", decorators=(sloppy,)).start(accept)
        topic = backend.topic("t", decorators=CHAIN)
        await topic.publish(b"x" * 500, attributes={"A": ["1", "2"], "\ud800": "é"})
        await topic.publish(b"")
        await backend.topic("u", decorators=CHAIN).publish(b"in the wrong order")
        together = backend.topic("b", decorators=(Together, lz4))
        await asyncio.gather(together.publish(b"first"), together.publish(b"second"))
        await backend.topic("plain").publish(b"plain")
        await backend.topic("sloppy", decorators=(sloppy,)).publish(b"sloppy")
        await log.settled(5)
        mended = True
        await log.replay()
        await log.settled(5)
        with log.breakpoint(side="publish", layer="base64"):
            sending = asyncio.create_task(backend.topic("held", decorators=CHAIN).publish(b"held"))
            await until(lambda: log.stops.held)
            log.stops.held[0].resume(mv.Message(b"edited"))
            await sending
        await until(lambda: all(p.first.ended is not None for p in log.ledger.passages()))
    with pytest.raises(ConnectionError):
        await mv.observe(
            base64.encoder(Kept("lost \ud800", ConnectionError("down"))), log, layers=True
        ).publish(b"lost")
    return log


@pytest.fixture(scope="module")
def full() -> mv.MessageLog:
    return asyncio.run(full_log())


def test_the_layers_are_loaded_as_they_were_saved(full: mv.MessageLog) -> None:
    layers = full.layers
    assert {1, 2, 3} <= set(layers["passes"])
    assert {"one", "two"} <= set(layers["subscription"].dropna())
    assert {1, 2} <= set(layers["attempt"])
    assert layers["problem"].str.contains("on the way out base64 stood in its place").any()
    loaded = saved_and_loaded(full)
    assert_same_layers(full, loaded)
    assert_same_layers(full, saved_and_loaded(loaded))


async def test_a_chain_view_shows_the_same(full: mv.MessageLog) -> None:
    loaded = saved_and_loaded(full)
    notes = ""
    for message_id in full.layers["message_id"].unique():
        shown = await as_shown(loaded, message_id)
        assert shown == await as_shown(full, message_id)
        assert shown[1]
        notes += shown[0]
    for said in ("Handed the message on 3 times", "A person edited the message", "Held for", "did not undo"):
        assert said in notes, said


def test_an_event_of_the_file_has_its_own_passage(full: mv.MessageLog, tmp_path: Path) -> None:
    full.save(tmp_path / "log.parquet")
    table = pq.read_table(tmp_path / "log.parquet")
    known = set(full.messages.index)
    alone = set()
    for event, passages in zip(full.events.itertuples(), table["layers"].to_pylist(), strict=True):
        for passage in passages or []:
            if passage["message_id"] in known:
                assert (passage["message_id"], passage["attempt"]) == (event.message_id, event.attempt)
                alone.add((event.message_id, event.operation, str(event.subscription), event.attempt))
    ways = full.events.query("not (topic == 'b' and operation == 'receive')").itertuples()
    assert alone == {(e.message_id, e.operation, str(e.subscription), e.attempt) for e in ways}
    pd.read_parquet(tmp_path / "log.parquet")


steps = st.lists(
    st.tuples(
        st.sampled_from(["ok", "error", "lost", "changed", "cancelled"]),
        st.binary(min_size=5, max_size=30),  # there is but one object of a byte, whoever made it
        st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.lists(st.text(max_size=5)), max_size=2),
    ),
    max_size=8,
)


@settings(max_examples=25)
@given(steps=steps, layers=st.lists(st.sampled_from([lz4, base64, Backwards]), max_size=3), name=st.text())
def test_whatever_went_through_a_chain_is_loaded_as_it_was(
    steps: list[tuple[str, bytes, Any]], layers: list[Any], name: str
) -> None:
    log = mv.MessageLog()
    wire = Kept(name)
    whole: mv.Topic = wire
    for layer in reversed(layers):
        whole = layer.encoder(whole)
    topic = mv.observe(whole, log, layers=True)

    async def receive(how: str, message: mv.Message) -> None:
        async def receiver(message: mv.Message) -> None:
            if how == "error":
                raise ValueError(how)
            if how == "cancelled":
                raise asyncio.CancelledError(how)

        inside: mv.Receiver = receiver
        for layer in layers:
            inside = layer.decoder(inside)
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await mv.observe(inside, log, layers=True)(message)

    async def flow() -> None:
        for how, body, said in steps:
            wire.error = OSError(how) if how == "lost" else None
            with contextlib.suppress(OSError):
                await topic.publish(body, attributes=said)
                sent = copy.copy(wire.sent[-1])
                await receive(how, sent.with_body(sent.body[:-1]) if how == "changed" else sent)

    asyncio.run(flow())
    assert_same_layers(log, saved_and_loaded(log))


async def test_a_receive_that_is_under_way_is_loaded_without_it() -> None:
    log = mv.MessageLog()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def receiver(message: mv.Message) -> None:
        begun.set()
        await go_on.wait()

    async with mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        backend.server("t", decorators=CHAIN).start(receiver)
        await backend.topic("t", decorators=CHAIN).publish(b"x")
        await begun.wait()
        loaded = saved_and_loaded(log)
        go_on.set()
        await log.settled(5)
    assert list(loaded.layers["direction"]) == ["out"] * 3
    assert_same(loaded, saved_and_loaded(loaded))


async def test_what_a_layer_still_did_when_it_was_saved_stays_as_it_was_then() -> None:
    log = mv.MessageLog()
    received, go_on = asyncio.Event(), asyncio.Event()

    class Lingering(mv.ReceiverDecorator):
        layer = "lingering"

        async def __call__(self, message: mv.Message) -> None:
            await self.receive(message)
            received.set()
            await go_on.wait()

    class lingering:  # noqa: N801  used as a module is
        decoder = Lingering

    async with mv.observe(mv.connect("memory://"), log, layers=True) as backend:
        backend.server("t", decorators=(lingering,)).start(accept)
        await backend.topic("t").publish(b"x")
        await received.wait()
        loaded = saved_and_loaded(log)
        lasted = log.layers["duration"].iloc[1]
        go_on.set()
    assert list(loaded.layers["layer"]) == ["memory t", "lingering", "accept"]
    assert loaded.layers["duration"].iloc[1] <= lasted
    assert_same_layers(loaded, saved_and_loaded(loaded))
    assert "running" in (await as_shown(loaded, loaded.messages.index[0]))[0]


async def test_events_that_were_dropped_leave_their_layers() -> None:
    log = mv.MessageLog(max_events=20)
    topic = mv.observe(base64.encoder(Kept()), log, layers=True)
    for number in range(50):
        await topic.publish(b"%d" % number)
    assert log.dropped > 0
    assert len(log.layers) == 100
    assert_same_layers(log, saved_and_loaded(log))


async def test_a_loaded_log_goes_on_and_keeps_to_its_bound() -> None:
    class Small(mv.MessageLog):
        def __init__(self) -> None:
            super().__init__(max_bytes=20_000)

    log = mv.MessageLog()
    wire = Kept()
    for number in range(20):
        await mv.observe(base64.encoder(wire), log, layers=True).publish(b"%04d" % number * 300)
    with tempfile.TemporaryDirectory() as folder:
        log.save(f"{folder}/log.parquet")
        loaded = Small.load(f"{folder}/log.parquet")
    assert len(loaded.events) == 20
    kept = len(loaded.ledger)
    assert 1 < kept < 20
    assert loaded.ledger.dropped == 20 - kept
    assert loaded.layers["body_in"].iloc[-2] == b"0019" * 300
    await mv.observe(base64.encoder(wire), loaded, layers=True).publish(b"new" * 400)
    assert loaded.layers["body_in"].iloc[-2] == b"new" * 400
    assert loaded.ledger._bytes <= 20_000


async def test_what_was_loaded_cannot_be_resumed_and_says_so(full: mv.MessageLog) -> None:
    loaded = saved_and_loaded(full)
    before = loaded.layers
    message_id = full.messages.index[0]
    async with mv.observe(mv.connect("memory://"), loaded, layers=True) as backend:
        backend.topic("t", decorators=CHAIN)
        for side in ("publish", "receive"):
            with pytest.raises(LookupError, match=r"was loaded from a file.*replay publishes it again"):
                await loaded.resume(message_id, side=side)
        with pytest.raises(LookupError, match="it came to 1 lz4, 2 base64, 3 memory t"):
            await loaded.resume(message_id, layer="gzip")
        await loaded.replay([message_id])
    pd.testing.assert_frame_equal(loaded.layers[: len(before)][["message_id", "time", "duration"]],
                                  before[["message_id", "time", "duration"]])  # fmt: skip
    assert len(loaded.layers) == len(before) + 3


async def test_a_log_without_layers_has_no_column(tmp_path: Path) -> None:
    log, backend = observed()
    await backend.topic("t").publish(b"x")
    log.save(tmp_path / "log.parquet")
    table = pq.read_table(tmp_path / "log.parquet")
    assert "layers" not in table.column_names
    assert "ledger" not in json.loads(table.schema.metadata[b"msgviz"])
    mv.observe(backend.next, log, layers=True).topic("t")
    log.save(tmp_path / "log.parquet")
    assert "layers" not in pq.read_table(tmp_path / "log.parquet").column_names
    assert mv.MessageLog.load(tmp_path / "log.parquet").ledger.layers == log.ledger.layers
    assert_same(log, saved_and_loaded(log))
