"""MessageLog.load of what is no saved log, or is no more: it says so, and does nothing else."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from tests.flows import Kept, accept, refuse


def rewritten(path: Path, **columns: Any) -> None:
    """Write the file again with other columns."""
    table = pq.read_table(path)
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = table.remove_column(at) if values is None else table.set_column(at, name, values)
    pq.write_table(table, path)


def with_head(path: Path, change: Any) -> None:
    """Write the file again with another head."""
    table = pq.read_table(path)
    head = json.loads(table.schema.metadata[b"msgviz"])
    head = change(head) or head
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    pq.write_table(table.replace_schema_metadata({b"msgviz": raw}), path)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("time,operation\n"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros in it": lambda path: path.write_bytes(b"PAR1" + bytes(path.stat().st_size - 8) + b"PAR1"),
    "no head": lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata({}), path),
    "another table": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "a head that is no JSON": lambda path: with_head(path, lambda head: b"{"),
    "a head that is a list": lambda path: with_head(path, lambda head: [1]),
    "a head that is a number": lambda path: with_head(path, lambda head: b"1"),
    "no format": lambda path: with_head(path, lambda head: head.pop("format") and None),
    "an odd format": lambda path: with_head(path, lambda head: head.update(format="one")),
    "format 0": lambda path: with_head(path, lambda head: head.update(format=0)),
    "no places": lambda path: with_head(path, lambda head: head.update(places=[])),
    "places that are no places": lambda path: with_head(path, lambda head: head.update(places=[1, 2])),
    "places of no kind": lambda path: with_head(path, lambda head: head["places"][0].update(operation="x")),
    "places with lists for names": lambda path: with_head(
        path, lambda head: head["places"][0].update(topic=["t"])
    ),
    "one place twice": lambda path: with_head(
        path, lambda head: head["places"].append(head["places"][0])
    ),
    "expected where there is no place": lambda path: with_head(
        path, lambda head: head["places"][-1].update(expected=[10**15])
    ),
    "no next id": lambda path: with_head(path, lambda head: head.pop("next_event_id") and None),
    "a next id that is none": lambda path: with_head(path, lambda head: head.update(next_event_id="x")),
    "a next id beyond all counting": lambda path: with_head(
        path, lambda head: head.update(next_event_id=float("inf"))
    ),
    "a column missing": lambda path: rewritten(path, body=None),
    "another column missing": lambda path: rewritten(path, time=None),
    "attributes that are no JSON": lambda path: rewritten(path, attributes=pa.array(["{"] * 3)),
    "attributes nested without end": lambda path: rewritten(path, attributes=pa.array(["[" * 100_000] * 3)),
    "attributes that are none": lambda path: rewritten(path, attributes=pa.array(["[1]"] * 3)),
    "attributes that are numbers": lambda path: rewritten(path, attributes=pa.array(['{"a": 1}'] * 3)),
    "no attributes at all": lambda path: rewritten(path, attributes=pa.nulls(3)),
    "a place too many": lambda path: rewritten(path, place=pa.array([0, 1, 99], pa.int32())),
    "a place below": lambda path: rewritten(path, place=pa.array([0, 1, -1], pa.int32())),
    "an outcome too many": lambda path: rewritten(path, outcome=pa.array([0, 1, 9], pa.int8())),
    "ids out of order": lambda path: rewritten(path, event_id=pa.array([2, 1, 0])),
    "an id twice": lambda path: rewritten(path, event_id=pa.array([0, 0, 1])),
    "words for times": lambda path: rewritten(path, time=pa.array(["now"] * 3)),
    "words for sizes": lambda path: rewritten(path, size=pa.array(["x"] * 3)),
    "no sizes": lambda path: rewritten(path, size=pa.nulls(3, pa.int64())),
    "no ids": lambda path: rewritten(path, message_id=pa.nulls(3, pa.large_string())),
    "text that is no UTF-8": lambda path: rewritten(
        path, conversation_id=pa.array([b"\xff"] * 3, pa.large_binary()).view(pa.large_string())
    ),
    "numbers for bodies": lambda path: rewritten(path, body=pa.array([1, 2, 3])),
    "attempts beyond all counting": lambda path: rewritten(path, attempt=pa.array([2**40] * 3)),
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A saved log of three events."""
    log, path = mv.MessageLog(), tmp_path / "log.parquet"

    async def flow() -> None:
        wire = Kept("t")
        await mv.observe(wire, log).publish(b"x" * 300)
        await mv.observe(accept, log)(wire.sent[0])
        with pytest.raises(ValueError, match="not"):
            await mv.observe(refuse, log)(mv.Message(b"y"))

    asyncio.run(flow())
    log.save(path)
    return path


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_damaged_is_told_by_its_name(small: Path, damage: str):
    DAMAGE[damage](small)
    with pytest.raises(mv.LogFileError) as caught:
        mv.MessageLog.load(small)
    assert str(small) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_file_of_a_newer_msgviz_says_to_update(small: Path):
    with_head(small, lambda head: head.update(format=99, places="something new"))
    with pytest.raises(mv.LogFileError, match=r"format 99.*update msgviz"):
        mv.MessageLog.load(small)


def test_a_folder_is_no_saved_log(tmp_path: Path, small: Path):
    with pytest.raises(mv.LogFileError):
        mv.MessageLog.load(tmp_path)


@pytest.fixture(scope="module")
def sound() -> bytes:
    """The bytes of a saved log."""
    log = mv.MessageLog()

    async def flow() -> None:
        topic = mv.observe(Kept("t"), log)
        for number in range(5):
            await topic.publish(b"body %d" % number, attributes={"A": "1"})

    asyncio.run(flow())
    with tempfile.TemporaryDirectory() as folder:
        log.save(f"{folder}/log.parquet")
        return Path(folder, "log.parquet").read_bytes()


@settings(max_examples=80)
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3
    )
)
def test_a_file_with_bytes_changed_is_loaded_or_refused_and_nothing_else(
    sound: bytes, changes: list[tuple[float, int]]
):
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
        assert len(loaded.events) == len(loaded)
        assert loaded.messages is not None
        assert loaded.failures is not None
        assert loaded._repr_html_()


@pytest.mark.parametrize("circle", [1, 2])
def test_replays_that_go_round_in_circles_are_no_trap(tmp_path: Path, circle: int):
    log, path = mv.MessageLog(), tmp_path / "log.parquet"

    async def flow() -> None:
        for _ in range(circle):
            with pytest.raises(ValueError, match="not"):
                await mv.observe(refuse, log)(mv.Message(b"x"))

    asyncio.run(flow())
    log.save(path)
    ids = log.messages.index.tolist()
    rewritten(path, replay_of=pa.array(ids[1:] + ids[:1], pa.large_string()))
    loaded = mv.MessageLog.load(path)
    assert len(loaded.messages) == circle
    assert loaded.detail(ids[0]).replay_of == ids[-1]
