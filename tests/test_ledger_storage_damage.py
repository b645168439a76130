"""MessageLog.load of layers that are damaged: it says so, and does nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, lz4
from tests.flows import Kept, refuse
from tests.test_ledger_storage import as_shown, full_log
from tests.test_storage import assert_same
from tests.test_storage_damage import rewritten, with_head


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A saved log of two events, of three crossings each."""
    log, path = mv.MessageLog(), tmp_path / "log.parquet"

    async def flow() -> None:
        wire = Kept("t")
        await mv.observe(lz4.encoder(base64.encoder(wire)), log, layers=True).publish(b"x" * 300)
        with pytest.raises(ValueError, match="not"):
            await mv.observe(base64.decoder(lz4.decoder(refuse)), log, layers=True)(wire.sent[0])

    asyncio.run(flow())
    log.save(path)
    return path


def test_a_file_from_before_there_were_layers_is_loaded(small: Path) -> None:
    whole = mv.MessageLog.load(small)
    rewritten(small, layers=None)
    with_head(small, lambda head: head.pop("ledger") and None)
    loaded = mv.MessageLog.load(small)
    assert_same(whole, loaded)
    assert loaded.layers.empty
    assert not loaded.ledger.layers


def changed(path: Path, change: Any) -> None:
    """Write the file again, with the first passage changed, and all of its crossings."""
    column = pq.read_table(path)["layers"]
    rows = column.to_pylist()
    passage = rows[0][0]
    rows[0][0] = change(passage, passage["crossings"]) or passage
    rewritten(path, layers=pa.array(rows, column.type))


def of_passage(**fields: Any) -> Any:
    return lambda path: changed(path, lambda passage, crossings: passage.update(fields))


def of_crossing(at: int, **fields: Any) -> Any:
    return lambda path: changed(path, lambda passage, crossings: crossings[at].update(fields))


def of_head(change: Any) -> Any:
    return lambda path: with_head(path, lambda head: change(head["ledger"]) and None)


def deep(path: Path) -> None:
    """A passage of crossings one in another, without end."""

    def change(passage: Any, crossings: Any) -> None:
        crossings += [{**crossings[1], "outer": n} for n in range(2, 5000)]

    changed(path, change)


LATER, EARLIER = pd.Timestamp("2200-01-01", tz="UTC"), pd.Timestamp("1971-01-01", tz="UTC")
DAMAGE = {
    "numbers for passages": lambda path: rewritten(path, layers=pa.array([1, 2])),
    "words for passages": lambda path: rewritten(path, layers=pa.array(["x", "y"])),
    "passages of another kind": lambda path: rewritten(path, layers=pa.array([[{"a": 1}], None])),
    "a passage that is null": lambda path: rewritten(
        path, layers=pa.array([[None], None], pq.read_table(path)["layers"].type)
    ),
    "a passage without crossings": lambda path: changed(path, lambda p, c: c.clear()),
    "crossings that are null": of_passage(crossings=None),
    "a crossing that is null": lambda path: changed(path, lambda p, c: c.append(None)),
    "a passage twice": of_passage(number=1),
    "a passage without a number": of_passage(number=None),
    "a passage without a message": of_passage(message_id=None),
    "a passage without an attempt": of_passage(attempt=None),
    "a chain too many": of_passage(chain=2),
    "a chain below": of_passage(chain=-1),
    "no chain": of_passage(chain=None),
    "an outer crossing of the first": of_crossing(0, outer=0),
    "two that are first": of_crossing(1, outer=None),
    "one that is its own outer": of_crossing(1, outer=1),
    "an outer that comes later": of_crossing(1, outer=2),
    "an outer that is none": of_crossing(2, outer=99),
    "an outer below": of_crossing(2, outer=-1),
    "no body to begin with": of_crossing(0, body=None),
    "no attributes to begin with": of_crossing(0, attributes=None),
    "attributes that are no JSON": of_crossing(0, attributes="{"),
    "attributes that are empty": of_crossing(0, attributes=""),
    "attributes that are a list": of_crossing(0, attributes="[1]"),
    "attributes that are numbers": of_crossing(2, attributes='{"a": 1}'),
    "attributes nested without end": of_crossing(0, attributes="[" * 100_000),
    "no layer": of_crossing(1, layer=None),
    "no depth": of_crossing(1, depth=None),
    "no time": of_crossing(1, began=None),
    "a time before all times": of_crossing(1, began=pd.Timestamp(-1, tz="UTC")),
    "an end before the beginning": of_crossing(1, ended=EARLIER),
    "a beginning after the end": of_crossing(1, began=LATER),
    "no end, and no time when it was saved": of_crossing(1, ended=None),
    "saved before it began": lambda path: changed(
        path, lambda p, c: p.update(until=EARLIER) or c[0].update(ended=None)
    ),
    "a pause below": of_crossing(1, paused=-pd.Timedelta("1ns")),
    "no pause": of_crossing(1, paused=None),
    "not known whether it was edited": of_crossing(1, edited=None),
    "no outcome": of_crossing(1, outcome=None),
    "an outcome too many": of_crossing(1, outcome=3),
    "an outcome below": of_crossing(1, outcome=-1),
    "nested without end": deep,
    "no head": lambda path: with_head(path, lambda head: head.pop("ledger") and None),
    "a head that is a list": lambda path: with_head(path, lambda head: head.update(ledger=[])),
    "a head that is nothing": lambda path: with_head(path, lambda head: head.update(ledger=None)),
    "no chains": of_head(lambda head: head.pop("chains")),
    "chains that are none": of_head(lambda head: head.update(chains=[1, 2]) or 1),
    "a chain that goes nowhere": of_head(lambda head: head["chains"][0].update(direction="up")),
    "a chain with numbers for names": of_head(lambda head: head["chains"][0].update(layers=[[1, 1]])),
    "a chain with words for numbers": of_head(lambda head: head["chains"][0].update(layers=[["1", "1"]])),
    "a chain of a topic that is none": of_head(lambda head: head["chains"][0].update(topic=["t"])),
    "no layers": of_head(lambda head: head.pop("layers")),
    "layers that are none": of_head(lambda head: head.update(layers=[["up", "lz4", 1]])),
    "layers of another kind": of_head(lambda head: head.update(layers=[["publish", ["lz4"], 1]])),
    "how many were dropped not known": of_head(lambda head: head.pop("dropped")),
    "fewer than none dropped": of_head(lambda head: head.update(dropped=-1)),
    "words for how many were dropped": of_head(lambda head: head.update(dropped="1")),
    "text that is no UTF-8": lambda path: rewritten(path, layers=broken_text(pq.read_table(path))),
}  # fmt: skip


def broken_text(table: pa.Table) -> pa.Array:
    """The column with the name of a layer as bytes that are no text."""
    row = table["layers"].combine_chunks()
    passages = row.flatten()
    crossings = passages.field("crossings").flatten()
    names = pa.array([b"\xff"] * len(crossings), pa.large_binary()).view(pa.large_string())
    fields = [names, *crossings.flatten()[1:]]
    crossings = pa.StructArray.from_arrays(fields, fields=list(crossings.type))
    nested = pa.LargeListArray.from_arrays(passages.field("crossings").offsets, crossings)
    passages = pa.StructArray.from_arrays([*passages.flatten()[:-1], nested], fields=list(passages.type))
    return pa.LargeListArray.from_arrays(row.offsets, passages)


@pytest.mark.parametrize("damage", DAMAGE)
def test_layers_that_are_damaged_are_told_by_the_name_of_the_file(small: Path, damage: str) -> None:
    mv.MessageLog.load(small)
    DAMAGE[damage](small)
    with pytest.raises(mv.LogFileError) as caught:
        mv.MessageLog.load(small)
    assert str(small) in str(caught.value)


@pytest.mark.parametrize("name", ["observe", "_ThreadReceiver", "f.<locals>.g", ""])
async def test_whatever_a_layer_is_called_it_is_shown(small: Path, name: str) -> None:
    layers = [[1, "lz4"], [2, "base64"], [3, "kept t"], [4, name]]
    with_head(small, lambda head: head["ledger"]["chains"][0].update(layers=layers))
    loaded = mv.MessageLog.load(small)
    assert "not reached" in (await as_shown(loaded, loaded.messages.index[0]))[0]


async def test_as_many_layers_as_python_bears_are_shown(small: Path) -> None:
    def change(passage: Any, crossings: Any) -> None:
        crossings += [{**crossings[2], "outer": n, "body": None} for n in range(2, 499)]

    changed(small, change)
    loaded = mv.MessageLog.load(small)
    assert len(loaded.layers) == 503
    assert await as_shown(loaded, loaded.messages.index[0])


@pytest.fixture(scope="module")
def sound() -> bytes:
    """The bytes of a saved log with layers."""
    full = asyncio.run(full_log())
    with tempfile.TemporaryDirectory() as folder:
        full.save(f"{folder}/log.parquet")
        return Path(folder, "log.parquet").read_bytes()


@settings(max_examples=80)
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3
    )
)
def test_a_file_with_bytes_changed_is_loaded_or_refused_and_nothing_else(
    sound: bytes, changes: list[tuple[float, int]]
) -> None:
    raw = bytearray(sound)
    for place, byte in changes:
        raw[int(place * len(raw))] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        path.write_bytes(raw)
        try:
            loaded = mv.MessageLog.load(path)
        except mv.LogFileError:
            return
        layers = loaded.layers
        for message_id in layers["message_id"].unique()[:3]:
            assert asyncio.run(as_shown(loaded, message_id))
