"""MessageLog.replay: what is chosen, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import msgviz as mv
from tests.flows import BAD, Flow, statuses

# -- what is chosen ----------------------------------------------------------------------------------

SELECTIONS: dict[str, tuple[Any, list[bytes]]] = {
    "nothing": (lambda f: None, BAD),
    "a message id": (lambda f: f.id_of(b"bad 2"), [b"bad 2"]),
    "message ids": (lambda f: [f.id_of(b"bad 2"), f.id_of(b"good")], [b"bad 2", b"good"]),
    "a tuple of ids": (lambda f: (f.id_of(b"bad 1"),), [b"bad 1"]),
    "a generator": (lambda f: (i for i in [f.id_of(b"bad 1")]), [b"bad 1"]),
    "one id twice": (lambda f: [f.id_of(b"bad 1")] * 2, [b"bad 1"]),
    "an event id": (lambda f: 1, None),
    "a numpy event id": (lambda f: f.log.events.index[1], None),
    "event ids": (lambda f: [0, 1, 2, 3, 4, 5], [b"good", *BAD]),
    "a range": (lambda f: range(6), [b"good", *BAD]),
    "an array": (lambda f: np.arange(6), [b"good", *BAD]),
    "both kinds of ids": (lambda f: [0, f.id_of(b"bad 2")], None),
    "all events": (lambda f: f.log.events, [b"good", *BAD]),
    "failed events": (lambda f: f.log.events.query("outcome == 'error'"), BAD),
    "no events": (lambda f: f.log.events.iloc[:0], []),
    "some messages": (lambda f: f.log.messages.query("state == 'dead'"), BAD),
    "columns of messages": (lambda f: f.log.messages[["state", "size"]].tail(1), [b"bad 2"]),
    "joined messages": (lambda f: f.log.messages.assign(x=1).sort_index(ascending=False).iloc[:1], None),
    "a failures frame": (lambda f: f.log.failures, BAD),
    "its ids": (lambda f: f.log.failures["message_ids"].iloc[0], BAD),
    "an index of messages": (lambda f: f.log.messages.index[1:], BAD),
    "an index of events": (lambda f: f.log.events.index[:0], []),
    "a column of events": (lambda f: f.log.events.query("outcome == 'error'")["error"], BAD),
    "the ids of events": (lambda f: f.log.events.query("outcome == 'error'")["message_id"], BAD),
    "a column of messages": (lambda f: f.log.messages.query("state == 'dead'")["last_error"], BAD),
    "unique ids": (lambda f: f.log.events["message_id"].unique(), [b"good", *BAD]),
    "a frame without its index": (
        lambda f: f.log.events.query("outcome == 'error'").reset_index(drop=True),
        BAD,
    ),
    "an empty list": (lambda f: [], []),
}


@pytest.mark.parametrize("name", SELECTIONS)
async def test_a_selection_may_be(name: str):
    choose, expected = SELECTIONS[name]
    async with Flow() as flow:
        await flow.publish(b"good", *BAD)
        if expected is None:
            chosen = choose(flow)
            of = flow.log.events["message_id"]
            ids = chosen if isinstance(chosen, list) else [chosen]
            ids = chosen.index.tolist() if isinstance(chosen, pd.DataFrame) else ids
            expected = [flow.log.detail(i if isinstance(i, str) else of[i]).body for i in ids]
            expected = list(dict.fromkeys(expected))
        report = await flow.replay(choose(flow))
        assert [body for _, body in flow.got] == expected
        assert statuses(report) == ["sent"] * len(expected)


async def test_a_report_of_a_replay_can_be_replayed():
    async with Flow() as flow:
        await flow.publish(*BAD)
        dry = await flow.replay(dry_run=True)
        report = await flow.replay(dry)
        assert [body for _, body in flow.got] == BAD
        assert len(report) == 2


@pytest.mark.parametrize(
    ("choose", "words"),
    [
        (lambda f: f.log.messages["state"] == "dead", "mask"),
        (lambda f: f.log.events["outcome"] == "error", "mask"),
        (lambda f: (f.log.messages["state"] == "dead").to_numpy(), "not bool"),
        (lambda f: [True, False, False], "not bool"),
        (lambda f: True, "not bool"),
        (lambda f: 1.5, "not float"),
        (lambda f: [1.5], "not float"),
        (lambda f: object(), "not object"),
        (lambda f: [None], "not NoneType"),
        (lambda f: pd.DataFrame({"a": [1]}), "no event_id and no message_id"),
        (lambda f: f.log.failures[["error_type"]], "no event_id and no message_id"),
        (lambda f: f.log, "not MessageLog"),
    ],
)
async def test_what_is_no_selection_is_a_type_error(choose: Any, words: str):
    async with Flow() as flow:
        await flow.publish(b"good", *BAD)
        before = len(flow.log)
        with pytest.raises(TypeError, match=words):
            await flow.replay(choose(flow))
        assert len(flow.log) == before
        assert flow.got == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rate": 0}, ValueError, "above 0"),
        ({"rate": -1}, ValueError, "above 0"),
        ({"rate": float("nan")}, ValueError, "above 0"),
        ({"rate": "fast"}, TypeError, "str"),
        ({"edit": 3}, TypeError, "not int"),
        ({"to": 3}, TypeError, "not int"),
        ({"to": "other topic"}, TypeError, "not str"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
async def test_a_wrong_option_is_an_error_before_anything_is_sent(options: Any, error: Any, words: str):
    async with Flow() as flow:
        await flow.publish(*BAD)
        with pytest.raises(error, match=words):
            await flow.replay(**options)
        assert flow.got == []


async def test_a_dry_run_sends_nothing_and_says_what_would_be_sent():
    async with Flow() as flow:
        await flow.publish(b"good", *BAD)
        before = len(flow.log)
        edits: list[mv.Message] = []
        report = await flow.replay([flow.id_of(b"bad 1"), "nobody"], dry_run=True, edit=edits.append)
        assert statuses(report) == ["ready", "skipped"]
        assert report.dry_run
        assert [entry.message_id for entry in report.ready] == [flow.id_of(b"bad 1")]
        assert report.ready[0].subscription == "default"
        assert report.ready[0].replay_id is None
        assert (len(flow.log), flow.got, edits) == (before, [], [])
        assert set(flow.log.messages["state"]) == {"ok", "dead"}
