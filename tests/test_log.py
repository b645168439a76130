"""MessageLog.events and failures: what they hold, that they stay as given, bounds, and many threads."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

import msgviz as mv
from tests.flows import Kept, accept, observed, refuse, until

EVENT_DTYPES = {
    "time": "datetime64[ns, UTC]",
    "operation": "category",
    "topic": "category",
    "subscription": "category",
    "message_id": "str",
    "parent_id": "str",
    "conversation_id": "str",
    "attempt": "int32",
    "outcome": "category",
    "error_type": "str",
    "error": "str",
    "duration": "timedelta64[ns]",
    "size": "int64",
    "attributes": "object",
    "body": "object",
    "replay_of": "str",
}
FAILURE_DTYPES = {
    "error_type": "str",
    "topic": "str",
    "subscription": "str",
    "count": "int64",
    "messages": "int64",
    "dead": "int64",
    "first": "datetime64[ns, UTC]",
    "last": "datetime64[ns, UTC]",
    "error": "str",
    "message_ids": "object",
}


async def busy_log() -> mv.MessageLog:
    """A log with a bit of everything in it."""
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        if message.body == b"bad":
            raise ValueError("no")
        if message.body == b"parent":
            await backend.topic("second").publish(b"child")

    async with backend.server("first", max_attempts=2, backoff=0).running(receiver):
        topic = backend.topic("first")
        for body in (b"good", b"bad", b"parent"):
            await topic.publish(body, attributes={"Kind": ["a", "b"]})
        async with backend.server("second").running(accept):
            await log.settled(5)
            await log.replay()
            await log.settled(5)
    return log


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


# -- the frame ---------------------------------------------------------------------------------------


async def test_events_have_exactly_these_columns_and_types():
    events = (await busy_log()).events
    assert dtypes(events) == EVENT_DTYPES
    assert list(events.columns) == list(EVENT_DTYPES)
    assert events.index.name == "event_id"
    assert str(events.index.dtype) == "int64"
    assert events.index.tolist() == list(range(len(events)))
    for name, of in (("operation", {"publish", "receive"}), ("outcome", {"ok", "error", "cancelled"})):
        assert set(events[name].cat.categories) == of


async def test_each_column_means_what_it_says():
    before = datetime.now(UTC)
    events = (await busy_log()).events
    after = datetime.now(UTC)
    slack = timedelta(seconds=1)  # two clocks, read one after the other
    assert events["time"].between(before - slack, after + slack).all()
    assert (events["duration"] >= pd.Timedelta(0)).all()
    published, received = (events[events["operation"] == name] for name in ("publish", "receive"))
    assert published["subscription"].isna().all()
    assert set(received["subscription"]) == {"default"}
    assert set(events["topic"]) == {"first", "second"}
    assert (events["size"] == events["body"].map(len)).all()
    assert all(a["Kind"] == ["a", "b"] for a in events.loc[events["topic"] == "first", "attributes"])
    ok = events["outcome"] == "ok"
    assert events.loc[ok, ["error_type", "error"]].isna().all(axis=None)
    assert set(events.loc[~ok, "error_type"]) == {"ValueError"}
    assert set(events.loc[~ok, "error"]) == {"no"}
    bad = received[received["body"] == b"bad"]
    assert bad["attempt"].tolist() == [1, 2, 1, 2]
    [child] = set(events.loc[events["topic"] == "second", "message_id"])
    [parent] = set(events.loc[events["body"] == b"parent", "message_id"])
    assert set(events.loc[events["message_id"] == child, "parent_id"]) == {parent}
    assert set(events.loc[events["message_id"] == child, "conversation_id"]) == {parent}
    original, replayed = dict.fromkeys(events.loc[events["body"] == b"bad", "message_id"])
    assert set(events.loc[events["message_id"] == replayed, "replay_of"]) == {original}
    assert events.loc[events["message_id"] != replayed, "replay_of"].isna().all()


def test_an_empty_log_has_the_same_columns_and_types():
    log = mv.MessageLog()
    assert dtypes(log.events) == EVENT_DTYPES
    assert dtypes(log.failures) == FAILURE_DTYPES
    assert (len(log), len(log.events), len(log.messages), len(log.failures)) == (0, 0, 0, 0)
    assert log.events.index.name == "event_id"
    assert (log.next_event_id, log.dropped) == (0, 0)


async def test_an_empty_log_and_a_full_one_can_be_put_together():
    log = await busy_log()
    for name in ("events", "messages", "failures"):
        full = getattr(log, name)
        empty = getattr(mv.MessageLog(), name)
        assert dtypes(empty) == dtypes(full)
        assert str(empty.index.dtype) == str(full.index.dtype) or name == "failures"
        assert len(pd.concat([empty, full])) == len(full)
        for column in full.columns:
            if str(full[column].dtype) == "category":
                assert empty[column].cat.categories.dtype == full[column].cat.categories.dtype


async def test_frames_can_be_queried_grouped_and_joined():
    log = await busy_log()
    events = log.events
    assert len(events.query("topic == 'first' and outcome == 'error'")) == 4
    counts = events.groupby(["operation", "outcome"], observed=True).size().to_dict()
    assert counts == {("publish", "ok"): 5, ("receive", "ok"): 3, ("receive", "error"): 4}
    joined = events.join(log.messages[["state"]], on="message_id")
    assert joined["state"].notna().all()


def changed(frame: pd.DataFrame) -> pd.DataFrame:
    """Write over all of a frame, in every way pandas offers."""
    frame.loc[frame.index[0], "size"] = 99
    frame.at[frame.index[0], "body"] = b"written"
    frame.iloc[0, frame.columns.get_loc("attempt")] = 77
    frame.loc[frame.index[0], "time"] = pd.Timestamp("2001-01-01", tz="UTC")
    frame.loc[frame.index[0], "duration"] = pd.Timedelta(days=1).as_unit("ns")
    frame.loc[frame.index[0], "outcome"] = "cancelled"
    frame.loc[frame.index[0], "operation"] = "receive"
    frame.loc[frame.index[0], "topic"] = frame["topic"].iloc[-1]
    frame.loc[frame.index[0], "message_id"] = "written"
    frame.loc[frame.index[0], "error"] = "written"
    frame.at[frame.index[0], "attributes"] = {"Written": ["x"]}
    frame["replay_of"] = "written"
    return frame


@pytest.mark.parametrize("how", ["now", "after more events", "after more frames", "after growing"])
async def test_what_is_written_into_a_frame_stays_there(how: str):
    log = await busy_log()
    topic = mv.observe(Kept("second"), log)
    before = log.events.copy(deep=True)
    ours, slice_ = log.events, log.since(0)
    if how == "after more events":
        await topic.publish(b"more")
    elif how == "after more frames":
        await topic.publish(b"more")
        assert len(log.events) == len(before) + 1
    elif how == "after growing":
        for _ in range(1500):
            await topic.publish(b"more")
        assert len(log.events) == len(before) + 1500
    theirs = log.events.copy(deep=True)
    changed(ours)
    changed(slice_)
    changed(log.events.iloc[:3])
    pd.testing.assert_frame_equal(log.events, theirs)
    pd.testing.assert_frame_equal(log.events.loc[before.index], before)
    pd.testing.assert_frame_equal(log.since(0), theirs)
    detail = log.detail(before["message_id"].iloc[0])
    assert detail.body == before["body"].iloc[0]
    assert detail.attributes["Kind"] == ["a", "b"]


WRITES: dict[str, Callable[[Any], Any]] = {
    "set": lambda cell: cell.__setitem__("Kind", ["written"]),
    "append": lambda cell: cell["Kind"].append("written"),
    "append to a value": lambda cell: next(iter(cell.values())).append("written"),
    "append to an item": lambda cell: next(iter(cell.items()))[1].append("written"),
    "append to what get gives": lambda cell: cell.get("Kind").append("written"),
    "delete": lambda cell: cell.__delitem__("Kind"),
    "pop": lambda cell: cell.pop("Kind"),
    "popitem": lambda cell: cell.popitem(),
    "clear": lambda cell: cell.clear(),
    "update": lambda cell: cell.update(Kind=["written"]),
    "setdefault": lambda cell: cell.setdefault("New", ["written"]),
    "or": lambda cell: cell.__ior__({"Kind": ["written"]}),
    "change a copy": lambda cell: cell.copy()["Kind"].append("written"),
}


@pytest.mark.parametrize("name", WRITES)
async def test_what_is_done_to_the_attributes_of_a_cell_does_not_reach_the_log(name: str):
    log = await busy_log()
    cells = [log.events["attributes"].iloc[0], log.detail(log.messages.index[0]).attributes]
    wanted = copy.deepcopy(dict(cells[0].items()))
    for cell in cells:
        with contextlib.suppress(TypeError):  # to be refused is as good
            WRITES[name](cell)
    assert log.events["attributes"].iloc[0] == wanted
    assert dict(log.since(0)["attributes"].iloc[0].items()) == wanted
    assert log.detail(log.messages.index[0]).attributes == wanted
    assert log.message(log.messages.index[0]).attributes.to_dict() == wanted


async def test_attributes_are_dicts_of_lists():
    for cell in (await busy_log()).events["attributes"]:
        assert isinstance(cell, dict)
        for key, values in cell.items():
            assert isinstance(key, str)
            assert isinstance(values, list)
            assert cell.get(key) == values
            assert all(isinstance(value, str) for value in values)


async def test_what_is_written_into_messages_stays_there():
    log = await busy_log()
    before = log.messages.copy(deep=True)
    frame = log.messages
    frame["state"] = "pending"
    frame.loc[frame.index[0], ["attempts", "topic"]] = (99, "second")
    frame.iloc[0, frame.columns.get_loc("size")] = 99
    pd.testing.assert_frame_equal(log.messages, before)


async def test_a_frame_once_given_never_changes():
    log, backend = observed()
    topic = backend.topic("t")
    await topic.publish(b"0", attributes={"A": "1"})
    given_frames = []
    for number in range(20):
        for name in ("events", "messages", "failures"):
            frame = getattr(log, name)
            given_frames.append((frame, frame.copy(deep=True)))
        for _ in range(number):
            await topic.publish(b"x" * number, attributes={"A": "2"})
        with pytest.raises(ValueError, match="not"):
            await mv.observe(refuse, log)(mv.Message(b"x"))
    for frame, as_given in given_frames:
        pd.testing.assert_frame_equal(frame, as_given)


async def test_a_frame_does_not_change_when_its_events_are_dropped():
    log = mv.MessageLog(max_events=16)
    topic = mv.observe(Kept(), log)
    for number in range(10):
        await topic.publish(b"%d" % number)
    frame = log.events
    as_given = frame.copy(deep=True)
    for _ in range(100):
        await topic.publish(b"later")
    assert log.dropped > 16
    pd.testing.assert_frame_equal(frame, as_given)


async def test_since_gives_the_events_from_an_id_on():
    log, wire = mv.MessageLog(), Kept()
    topic = mv.observe(wire, log)
    assert len(log.since(0)) == 0
    assert dtypes(log.since(0)) == EVENT_DTYPES
    for number in range(5):
        start = log.next_event_id
        assert start == number
        await topic.publish(b"%d" % number)
        new = log.since(start)
        assert new.index.tolist() == [number]
        assert new["body"].tolist() == [b"%d" % number]
    pd.testing.assert_frame_equal(log.since(2), log.events.loc[2:])
    pd.testing.assert_frame_equal(log.since(0), log.events)
    assert len(log.since(log.next_event_id)) == 0
    assert len(log.since(10**12)) == 0


async def test_since_finds_its_way_where_events_were_dropped():
    log = mv.MessageLog(max_events=10)
    topic = mv.observe(Kept(), log)
    for _ in range(23):
        await topic.publish(b"x")
    first = log.events.index[0]
    assert first > 5
    assert log.since(3).index.tolist() == log.events.index.tolist()
    assert log.since(first + 2).index[0] == first + 2


async def test_the_revision_changes_with_every_event_and_with_every_receive_that_begins():
    log, backend = observed()
    revisions = [log.revision]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def receiver(message: mv.Message) -> None:
        begun.set()
        await go_on.wait()

    await backend.topic("t").publish(b"x")
    revisions.append(log.revision)
    assert log.revision == revisions[-1]
    async with backend.server("t").running(receiver):
        await begun.wait()
        revisions.append(log.revision)
        go_on.set()
        await log.settled(5)
        revisions.append(log.revision)
    assert len(set(revisions)) == 4
    assert log.events is not None
    assert log.revision == revisions[-1]  # looking changes nothing


async def test_an_events_time_is_when_it_began_and_the_order_is_that_of_the_ends():
    log, backend = observed()
    go_on = asyncio.Event()

    async def receiver(message: mv.Message) -> None:
        if message.body == b"slow":
            await go_on.wait()

    topic = backend.topic("t")
    async with backend.server("t", concurrency=2).running(receiver):
        await topic.publish(b"slow")
        await topic.publish(b"quick")
        await until(lambda: len(log) == 3)
        go_on.set()
        await log.settled(5)
    received = log.events[log.events["operation"] == "receive"]
    assert received["body"].tolist() == [b"quick", b"slow"]
    assert received["time"].is_monotonic_decreasing
    ends = received["time"] + received["duration"]
    assert ends.is_monotonic_increasing


async def test_an_error_is_kept_as_text_whatever_it_is():
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    Odd.__qualname__ = "Odd\ud800"
    log = mv.MessageLog()
    errors = [
        Odd(),
        ValueError(),
        ValueError("lone \ud800 surrogate"),
        KeyError("x" * 1_000_000),
        ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
        OSError(2, "No such file"),
    ]
    for error in errors:
        topic = mv.observe(Kept(error=error), log)
        with pytest.raises(type(error)):
            await topic.publish(b"x")
    events = log.events
    assert events["error"].str.len().max() <= 10_000
    assert events["error_type"].iloc[0].endswith("Odd\\ud800")
    assert events["error"].iloc[1] == ""
    assert events["error"].iloc[2] == "lone \\ud800 surrogate"
    assert events["error_type"].iloc[4] == "ExceptionGroup"
    assert log.messages["last_error"].iloc[5] == "FileNotFoundError: [Errno 2] No such file"
    group = log.detail(events["message_id"].iloc[4]).attempts[0].traceback
    assert "ValueError: one" in group
    assert "TypeError: two" in group


async def test_a_traceback_tells_where_and_why():
    log = mv.MessageLog()

    async def inner_function() -> None:
        raise KeyError("deep")

    async def receiver(message: mv.Message) -> None:
        try:
            await inner_function()
        except KeyError as error:
            raise ValueError("outside") from error

    with pytest.raises(ValueError, match="outside"):
        await mv.observe(receiver, log)(mv.Message(b"x"))
    [attempt] = log.detail(log.messages.index[0]).attempts
    assert attempt.traceback.startswith("Traceback")
    assert "inner_function" in attempt.traceback
    assert "direct cause" in attempt.traceback
    assert attempt.traceback.rstrip().endswith("ValueError: outside")
    assert "observers.py" not in attempt.traceback


async def test_a_log_keeps_no_exception_and_nothing_that_one_refers_to():
    import gc  # noqa: PLC0415
    import weakref  # noqa: PLC0415

    class Big:
        pass

    log, held = mv.MessageLog(), []

    async def receiver(message: mv.Message) -> None:
        big = Big()
        held.append(weakref.ref(big))
        raise ValueError(big)

    with pytest.raises(ValueError, match="Big"):
        await mv.observe(receiver, log)(mv.Message(b"x"))
    gc.collect()
    assert [ref() for ref in held] == [None]
    assert log.events["error"].str.contains("Big").all()


async def test_odd_topic_names_do_not_break_the_log():
    log = mv.MessageLog()
    names = ["", " ", "a\x00b", "\ud800", "\\ud800", "é" * 3000, "<script>", "nan", "None"]
    for name in names:
        await mv.observe(Kept(name), log).publish(b"x")
    assert len(log.events) == len(log.messages) == len(names)
    assert log.events["topic"].notna().all()
    assert set(log.events["topic"]) == {name.replace("\ud800", "\\ud800") for name in names}


async def test_failures_are_grouped_by_error_type_and_place():
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        if message.body.startswith(b"type"):
            raise TypeError(f"a {message.text}")
        if message.body != b"fine" and message.attempt == 1:
            raise ValueError(f"first {message.text}")

    async with (
        backend.server("t", subscription="one", max_attempts=3, backoff=0).running(receiver),
        backend.server("t", subscription="two").running(accept),
    ):
        topic = backend.topic("t")
        for body in (b"type 1", b"value 1", b"fine", b"type 2", b"value 2"):
            await topic.publish(body)
        await log.settled(5)
    with pytest.raises(ConnectionError):
        await mv.observe(Kept("lost", ConnectionError("down")), log).publish(b"x")
    failures = log.failures
    assert dtypes(failures) == FAILURE_DTYPES
    assert list(failures.columns) == list(FAILURE_DTYPES)
    by_type = failures.set_index("error_type")
    assert by_type["count"].to_dict() == {"TypeError": 6, "ValueError": 2, "ConnectionError": 1}
    assert failures["count"].is_monotonic_decreasing
    assert by_type["messages"].to_dict() == {"TypeError": 2, "ValueError": 2, "ConnectionError": 1}
    assert by_type["dead"].to_dict() == {"TypeError": 2, "ValueError": 0, "ConnectionError": 1}
    assert by_type["topic"].to_dict() == {"TypeError": "t", "ValueError": "t", "ConnectionError": "lost"}
    assert by_type.loc[["TypeError", "ValueError"], "subscription"].tolist() == ["one", "one"]
    assert pd.isna(by_type.loc["ConnectionError", "subscription"])
    assert by_type.loc["ValueError", "error"] == "first value 2"
    assert (failures["first"] <= failures["last"]).all()
    ids = log.events.set_index("body")["message_id"]
    assert by_type.loc["TypeError", "message_ids"] == [ids[b"type 1"].iloc[0], ids[b"type 2"].iloc[0]]
