"""MessageLog.replay: what cannot be replayed, and what the report and the log say afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import msgviz as mv
from tests.flows import BAD, Flow, Kept, accept, observed, refuse, states, statuses, until


async def test_a_body_that_was_not_kept_is_a_reason():
    async with Flow(max_body=3) as flow:
        await flow.publish(b"bad", b"bad and long")
        report = await flow.replay()
        assert statuses(report) == ["sent", "skipped"]
        assert "12 bytes" in report.skipped[0].reason
        assert "max_body" in report.skipped[0].reason


async def test_a_topic_that_is_not_known_is_a_reason():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    server = mv.observe(bare, log).server("elsewhere", max_attempts=1)
    async with server.running(refuse):
        await bare.topic("elsewhere").publish(b"x")
        await until(lambda: len(log) == 1)
        [entry] = await log.replay()
        assert entry.status == "skipped"
        assert "'elsewhere'" in entry.reason
        assert "to=" in entry.reason
        mv.observe(bare, log).topic("elsewhere")
        [entry] = await log.replay()
        assert entry.status == "sent"


async def test_what_was_dropped_is_a_reason():
    async with Flow(max_events=8) as flow:
        await flow.publish(b"good 0")
        first = flow.log.messages.index[0]
        await flow.publish(*(b"good %d" % n for n in range(1, 20)))
        report = await flow.replay([first, 0, 10**6, -1])
        assert statuses(report) == ["skipped"] * 4
        assert all("was dropped, or never was" in entry.reason for entry in report)
        assert flow.got == []


@pytest.mark.parametrize("state", ["pending", "retrying", "in flight"])
async def test_a_message_that_is_still_under_way_is_a_reason(state: str):
    log, backend = observed()
    begun, forever = asyncio.Event(), asyncio.Event()

    async def receiver(message: mv.Message) -> None:
        begun.set()
        if state == "in flight":
            await forever.wait()
        raise ValueError

    server = backend.server("t", backoff=3600)
    await backend.topic("t").publish(b"x")
    if state != "pending":
        server.start(receiver)
        await begun.wait()
        await asyncio.sleep(0)
    [entry] = await log.replay(log.messages)
    assert entry.status == "skipped"
    assert state in entry.reason
    wire = Kept("elsewhere")
    assert statuses(await log.replay(log.messages, to=wire)) == ["sent"]  # nobody there has it
    forever.set()
    await server.shutdown()


async def test_a_loaded_log_can_be_replayed_once_it_knows_the_topic(tmp_path: Any):
    async with Flow() as flow:
        await flow.publish(*BAD)
        flow.log.save(tmp_path / "log.parquet")
        log = mv.MessageLog.load(tmp_path / "log.parquet")
        report = await log.replay()
        assert statuses(report) == ["skipped", "skipped"]
        assert "cannot publish to the topic 't'" in report[0].reason
        flow.mended.add("default")
        backend = mv.observe(flow.backend.next, log)
        backend.topic("t")
        report = await log.replay()
        assert statuses(report) == ["sent", "sent"]
        await flow.log.settled(5)
        assert [body for _, body in flow.got] == BAD
        assert [log.detail(entry.replay_id).replay_of for entry in report] == log.messages.index[:2].tolist()


async def test_a_publish_that_fails_is_told_and_the_rest_is_sent():
    log, wire = mv.MessageLog(), Kept("t")
    topic = mv.observe(wire, log)
    for body in (b"1", b"2", b"3"):
        await topic.publish(body)
        await mv.observe(accept, log)(wire.sent[-1])
    refused = []

    class Choosy(mv.TopicDecorator):
        async def send(self, message: mv.Message, delay: float) -> None:
            if message.body == b"2":
                refused.append(message)
                raise ConnectionError("not this one")
            await self.next.send(message, delay)

    report = await log.replay(log.messages, to=Choosy(wire))
    assert statuses(report) == ["sent", "failed", "sent"]
    [failed] = report.failed
    assert failed.reason == "ConnectionError: not this one"
    assert log.messages.loc[failed.replay_id, "state"] == "dead"
    assert len(refused) == 1


# -- what the log says afterwards --------------------------------------------------------------------


async def test_a_message_is_replayed_until_a_replay_of_it_or_of_a_replay_goes_well():
    async with Flow() as flow:
        await flow.publish(b"bad")
        chain = [flow.id_of(b"bad")]
        for _ in range(3):
            [entry] = await flow.replay()  # only the last one is dead: the others were replayed
            assert entry.message_id == chain[-1]
            chain.append(entry.replay_id)
            assert flow.log.messages.loc[chain, "state"].tolist() == ["replayed"] * (len(chain) - 1) + [
                "dead"
            ]
        flow.mended.add("default")
        [entry] = await flow.replay()
        assert flow.log.messages.loc[chain, "state"].tolist() == ["resolved"] * 4
        assert flow.log.messages.loc[entry.replay_id, "state"] == "ok"
        assert len(await flow.replay()) == 0
        assert {flow.log.detail(i).conversation_id for i in chain} == {chain[0]}


async def test_a_very_long_chain_of_replays_of_replays():
    log = mv.MessageLog()

    async def receiver(message: mv.Message) -> None:
        if not mended:
            raise ValueError("no")

    mended = False
    with pytest.raises(ValueError, match="no"):
        await mv.observe(receiver, log)(mv.Message(b"x"))
    [last] = log.messages.index
    for _ in range(1200):
        [entry] = await log.replay(last, to=receiver)
        last = entry.replay_id
    assert log.count_states()["dead"] == 1
    mended = True
    await log.replay(last, to=receiver)
    assert log.count_states()["resolved"] == 1201


async def test_where_two_subscriptions_failed_and_one_is_mended_it_is_not_resolved():
    async with Flow("one", "two") as flow:
        await flow.publish(b"bad")
        flow.mended.add("one")
        events = flow.log.events
        await flow.replay(events[events["subscription"] == "one"])
        assert states(flow.log)  # all of them can be looked at
        assert flow.log.messages["state"].tolist() == ["replayed", "ok"]
        flow.mended.add("two")
        await flow.replay(events[events["subscription"] == "two"])
        assert flow.log.messages["state"].tolist() == ["resolved", "ok", "ok"]


async def test_a_replay_that_is_under_way_leaves_the_original_replayed():
    async with Flow() as flow:
        await flow.publish(b"bad")
    # Its server has gone: the replay waits.
    [entry] = await flow.log.replay()
    assert flow.log.messages["state"].tolist() == ["replayed", "pending"]
    assert entry.status == "sent"


async def test_a_replay_of_what_went_well_changes_nothing_of_the_original():
    async with Flow() as flow:
        await flow.publish(b"good")
        await flow.replay(flow.id_of(b"good"))
        assert flow.log.messages["state"].tolist() == ["ok", "ok"]


async def test_replaying_inside_a_receiver_does_not_make_the_replay_its_child():
    async with Flow() as flow:
        await flow.publish(b"bad")
        flow.mended.add("default")

        async def receiver(message: mv.Message) -> None:
            await flow.log.replay()

        async with flow.backend.server("commands").running(receiver):
            await flow.backend.topic("commands").publish(b"replay!")
            await flow.log.settled(5)
        replay = flow.log.messages.index[-1]
        detail = flow.log.detail(flow.id_of(b"bad"))
        assert replay in detail.replays
        assert flow.log.detail(replay).parent_id is None


# -- progress and report -----------------------------------------------------------------------------


async def test_progress_is_told_message_by_message():
    async with Flow() as flow:
        await flow.publish(*BAD)
        told = []
        await flow.replay([*flow.log.messages.index, "nobody"], progress=lambda *now: told.append(now))
        assert told == [(1, 3), (2, 3), (3, 3)]
        told.clear()
        await flow.replay([], progress=lambda *now: told.append(now))
        assert told == []


async def test_the_report_is_a_sequence_with_a_frame_and_a_summary():
    async with Flow() as flow:
        await flow.publish(*BAD)
        report = await flow.replay([flow.id_of(b"bad 1"), "nobody"])
        assert len(report) == 2
        assert report[0] in report.sent
        assert list(report) == [*report.sent, *report.skipped]
        assert (report.ready, report.failed) == ([], [])
        frame = report.to_frame()
        assert list(frame.columns) == ["message_id", "subscription", "status", "reason", "replay_id"]
        assert frame["status"].tolist() == ["sent", "skipped"]
        assert frame["message_id"].tolist() == [flow.id_of(b"bad 1"), "nobody"]
        assert frame["replay_id"].tolist()[0] == report[0].replay_id
        assert repr(report) == "<ReplayReport 1 sent, 1 skipped>"
        empty = await flow.replay([])
        assert repr(empty) == "<ReplayReport nothing to replay>"
        assert list(empty.to_frame().columns) == list(frame.columns)
        dry = await flow.replay(flow.id_of(b"bad 2"), dry_run=True)
        assert repr(dry) == "<ReplayReport dry run: 1 ready>"
