"""MessageLog.save and load: what was saved is what is loaded, and what is no saved log is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from tests.flows import Kept, accept, observed, refuse


def assert_same(one: mv.MessageLog, two: mv.MessageLog) -> None:
    """All that can be seen of two logs is the same."""
    for name in ("events", "messages", "failures"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name))
    for message_id in one.messages.index:
        assert one.detail(message_id) == two.detail(message_id)
    assert one.count_states() == two.count_states()
    assert (len(one), one.dropped, one.next_event_id) == (len(two), two.dropped, two.next_event_id)


def saved_and_loaded(log: mv.MessageLog) -> mv.MessageLog:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        log.save(path)
        assert list(Path(folder).iterdir()) == [path]
        return mv.MessageLog.load(path)


async def full_log() -> tuple[mv.MessageLog, mv.Backend]:
    """A log with each kind of event and each state in it but one in flight."""
    log, backend = observed(max_body=40)
    mended = False

    async def receiver(message: mv.Message) -> None:
        if message.body == b"parent":
            await backend.topic("children").publish(b"child", attributes={"\ud800": ["\udfff", "é"]})
        if message.body.startswith(b"bad") and not mended:
            raise ValueError("bad \ud800") from KeyError("cause")

    server = backend.server("t", subscription="s", max_attempts=2, backoff=0)
    server.start(receiver)
    for body in (b"", b"parent", b"bad 1", b"bad 2", b"x" * 100, bytes(range(40))):
        await backend.topic("t").publish(body, attributes={"A": ["1", "2"]})
    await asyncio.sleep(0)
    children = backend.server("children")
    children.start(accept)
    await log.settled(5)
    mended = True
    await log.replay(log.messages.query("state == 'dead'").index[0])
    await log.settled(5)
    mended = False
    await log.replay(log.messages.query("state == 'dead'").index[0])
    await log.settled(5)
    with pytest.raises(ConnectionError):
        await mv.observe(Kept("lost", ConnectionError("down")), log).publish(b"lost")
    await backend.topic("nobody").publish(b"pending")
    cancelled = backend.server("slow", max_attempts=1)
    begun = asyncio.Event()

    async def slow(message: mv.Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    cancelled.start(slow)
    await backend.topic("slow").publish(b"given back")
    await begun.wait()
    with pytest.raises(TimeoutError):
        await cancelled.shutdown(timeout=0)
    await server.shutdown()
    await children.shutdown()
    return log, backend


async def test_a_log_is_loaded_as_it_was_saved():
    log, _ = await full_log()
    states = set(log.messages["state"])
    assert states == {"ok", "dead", "replayed", "resolved", "pending", "retrying"}
    loaded = saved_and_loaded(log)
    assert_same(log, loaded)
    assert_same(log, saved_and_loaded(loaded))
    failed = loaded.detail(loaded.events.query("outcome == 'error'")["message_id"].iloc[0])
    assert "KeyError: 'cause'" in failed.attempts[1].traceback


async def test_an_empty_log_can_be_saved():
    assert_same(mv.MessageLog(), saved_and_loaded(mv.MessageLog()))


async def test_a_loaded_log_goes_on_recording():
    log, backend = await full_log()
    loaded = saved_and_loaded(log)
    before = loaded.events.copy(deep=True)
    assert loaded.next_event_id == len(before)
    ours = mv.observe(backend.next, loaded)
    server = ours.server("nobody")
    server.start(accept)  # what was pending when it was saved
    again = ours.server("slow", max_attempts=1)
    again.start(accept)  # what was given back
    await loaded.settled(5)
    await ours.topic("new topic").publish(b"new")
    await server.shutdown()
    await again.shutdown()
    assert loaded.events.index.tolist() == list(range(len(before) + 3))
    pd.testing.assert_frame_equal(
        loaded.events.loc[before.index].astype({"topic": str}), before.astype({"topic": str})
    )
    by_body = {loaded.detail(i).body: state for i, state in loaded.messages["state"].items()}
    assert (by_body[b"pending"], by_body[b"given back"], by_body[b"new"]) == ("ok", "ok", "pending")
    assert loaded.events["message_id"].iloc[-1] not in set(before["message_id"])


async def test_a_replay_in_a_loaded_log_resolves_what_had_failed_before():
    log, backend = observed()
    server = backend.server("t", max_attempts=1)
    server.start(refuse)
    await backend.topic("t").publish(b"x")
    await log.settled(5)
    loaded = saved_and_loaded(log)
    server.start(mv.observe(accept, loaded))
    mv.observe(backend.next, loaded).topic("t")
    await loaded.replay()
    await loaded.settled(5)
    await server.shutdown()
    assert loaded.messages["state"].tolist() == ["resolved", "ok"]
    assert_same(loaded, saved_and_loaded(loaded))


async def test_what_was_dropped_stays_dropped():
    log = mv.MessageLog(max_events=20)
    topic = mv.observe(Kept(), log)
    for number in range(50):
        await topic.publish(b"%d" % number)
    loaded = saved_and_loaded(log)
    assert log.dropped > 0
    assert_same(log, loaded)
    await mv.observe(Kept(), loaded).publish(b"next")
    assert loaded.events.index[-1] == 50


async def test_a_log_of_dead_messages_whose_events_were_partly_dropped():
    log, backend = observed(max_events=30)

    async def receiver(message: mv.Message) -> None:
        if int(message.body) % 2:
            raise ValueError

    async with backend.server("t", max_attempts=3, backoff=0).running(receiver):
        for number in range(60):
            await backend.topic("t").publish(b"%d" % number)
            await log.settled(5)
    loaded = saved_and_loaded(log)
    pd.testing.assert_frame_equal(log.events, loaded.events)
    pd.testing.assert_series_equal(log.messages["state"], loaded.messages["state"])


async def test_a_loaded_log_keeps_all_of_it_though_it_is_larger_than_a_log_usually_is():
    class Small(mv.MessageLog):
        def __init__(self) -> None:
            super().__init__(max_events=5, max_bytes=4000)

    log = mv.MessageLog()
    topic = mv.observe(Kept(), log)
    for _ in range(10):
        await topic.publish(b"x" * 1000)
    with tempfile.TemporaryDirectory() as folder:
        log.save(f"{folder}/log.parquet")
        loaded = Small.load(f"{folder}/log.parquet")
    assert isinstance(loaded, Small)
    assert len(loaded.events) == 10
    for _ in range(10):
        await mv.observe(Kept(), loaded).publish(b"x" * 1000)
        assert 8 <= len(loaded) <= 10
    assert loaded.next_event_id == 20


text = st.text(st.characters(), max_size=8)  # lone surrogates too
key = text | st.sampled_from(["Msgviz-Id", "Traceparent", "a", "content-type"])
attributes = st.dictionaries(key, text | st.lists(text, min_size=1, max_size=3), max_size=3)
bodies = st.binary(max_size=30) | st.sampled_from([b"", b"\0", b"\xff\xfe", b"null"])
steps = st.lists(
    st.tuples(
        st.sampled_from(["sent", "lost", "ok", "error", "cancelled", "replay"]), bodies, attributes, text
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(steps=steps, max_body=st.none() | st.integers(0, 20), name=text)
def test_whatever_was_recorded_is_loaded_as_it_was(
    steps: list[tuple[str, bytes, Any, str]], max_body: int | None, name: str
):
    log = mv.MessageLog(max_body=max_body)
    wire = Kept(name)
    topic = mv.observe(wire, log)

    async def receive(how: str, problem: str, message: mv.Message) -> None:
        async def receiver(message: mv.Message) -> None:
            await topic.publish(message.body)
            if how == "error":
                raise ValueError(problem)
            if how == "cancelled":
                raise asyncio.CancelledError(problem)

        with contextlib.suppress(ValueError, asyncio.CancelledError):
            await mv.observe(receiver, log)(message)

    async def flow() -> None:
        for what, body, said, problem in steps:
            wire.error = None
            if what == "replay":
                await log.replay(to=wire)
            elif what in ("sent", "lost"):
                wire.error = OSError(problem) if what == "lost" else None
                with contextlib.suppress(OSError):
                    await topic.publish(body, attributes=said)
            else:
                await receive(what, problem, mv.Message(body, said))

    asyncio.run(flow())
    assert_same(log, saved_and_loaded(log))


async def test_a_receive_that_was_in_flight_when_the_log_was_saved_is_pending_when_it_is_loaded():
    log, backend = observed()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def receiver(message: mv.Message) -> None:
        begun.set()
        await go_on.wait()

    async with backend.server("t").running(receiver):
        await backend.topic("t").publish(b"x")
        await begun.wait()
        assert log.messages["state"].tolist() == ["in_flight"]
        loaded = saved_and_loaded(log)
        go_on.set()
    assert loaded.messages["state"].tolist() == ["pending"]


async def test_the_file_is_a_table_that_other_tools_read(tmp_path: Path):
    log, _ = await full_log()
    log.save(tmp_path / "flow.parquet")
    table = pd.read_parquet(tmp_path / "flow.parquet")
    events = log.events
    assert len(table) == len(events)
    for name in ("message_id", "parent_id", "error", "replay_of"):
        assert table[name].fillna("").tolist() == events[name].fillna("").tolist()
    assert (table["time"].to_numpy() == events["time"].to_numpy()).all()
    assert table["body"].tolist() == events["body"].tolist()
    assert [json.loads(a) for a in table["attributes"]] == [dict(a.items()) for a in events["attributes"]]


@pytest.mark.parametrize("name", ["flow.parquet", "_hidden", ".dot", "a=1", "no suffix é", "x:y"])
@pytest.mark.parametrize("folder", [".", "attempt=5", "_sub/body=1"])
@pytest.mark.parametrize("kind", [str, Path])
def test_any_file_name_will_do(tmp_path: Path, folder: str, name: str, kind: Any):
    log = mv.MessageLog()
    asyncio.run(mv.observe(Kept(), log).publish(b"x"))
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    path = kind(tmp_path / folder / name)
    log.save(path)
    assert_same(log, mv.MessageLog.load(path))


def test_saving_again_replaces_the_file(tmp_path: Path):
    log, path = mv.MessageLog(), tmp_path / "log.parquet"
    log.save(path)
    asyncio.run(mv.observe(Kept(), log).publish(b"x"))
    log.save(path)
    assert len(mv.MessageLog.load(path)) == 1


@pytest.mark.parametrize("where", ["write_table", "replace"])
def test_a_save_that_fails_leaves_the_old_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    log, path = mv.MessageLog(), tmp_path / "log.parquet"
    asyncio.run(mv.observe(Kept(), log).publish(b"old"))
    log.save(path)
    before = path.read_bytes()
    asyncio.run(mv.observe(Kept(), log).publish(b"new"))

    def fails(*arguments: Any, **options: Any) -> None:
        if where == "write_table":
            Path(arguments[1]).write_bytes(b"half of a fi")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(pq if where == "write_table" else Path, where, fails)
        with pytest.raises(OSError, match="disk full"):
            log.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert len(mv.MessageLog.load(path)) == 1
    log.save(path)
    assert len(mv.MessageLog.load(path)) == 2


def test_a_file_that_is_not_there_is_said_not_to_be(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        mv.MessageLog.load(tmp_path / "nothing.parquet")
    with pytest.raises(FileNotFoundError):
        mv.MessageLog().save(tmp_path / "no folder" / "log.parquet")
