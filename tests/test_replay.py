"""MessageLog.replay: what is chosen, where it goes, as what, and what the report and the log say of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pandas as pd
import pytest

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE
from tests.flows import Backwards, Kept, accept, observed, refuse, states


class Flow:
    """Topic t of an observed backend; receivers refuse what begins with "bad" until `mended`."""

    def __init__(self, *subscriptions: str, **limits: Any) -> None:
        self.log, self.backend = observed(**limits)
        self.topic = self.backend.topic("t")
        self.subscriptions = subscriptions or ("default",)
        self.mended: set[str] = set()
        self.got: list[tuple[str, bytes]] = []
        self.messages: list[mv.Message] = []

    async def __aenter__(self) -> Flow:
        self.stack = AsyncExitStack()
        for name in self.subscriptions:
            server = self.backend.server("t", subscription=name, max_attempts=1)
            await self.stack.enter_async_context(server.running(self.receiver(name)))
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.stack.aclose()

    def receiver(self, name: str) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            self.got.append((name, message.body))
            self.messages.append(message)
            if message.body.startswith(b"bad") and name not in self.mended:
                raise ValueError("bad")

        return receive

    async def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            await self.topic.publish(body, attributes={"A": ["1", "2"], "Of": body.decode()})
        await self.log.settled(5)
        self.got.clear()
        self.messages.clear()

    async def replay(self, *selection: Any, **options: Any) -> Any:
        report = await self.log.replay(*selection, **options)
        await self.log.settled(5)
        return report

    def id_of(self, body: bytes) -> str:
        return next(i for i in self.log.messages.index if self.log.detail(i).body == body)


def statuses(report: Any) -> list[str]:
    return [entry.status for entry in report]


# -- what is chosen ----------------------------------------------------------------------------------

BAD = [b"bad 1", b"bad 2"]

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


# -- where it goes, and as what ----------------------------------------------------------------------


async def test_a_replay_is_a_new_message_of_the_same_story():
    log, backend = observed()
    received = asyncio.Queue()

    async def parent(message: mv.Message) -> None:
        await backend.topic("t").publish(b"child", attributes={"A": ["1", "2"]})

    async with backend.server("parents").running(parent):
        server = backend.server("t", max_attempts=1)
        server.start(refuse)
        await backend.topic("parents").publish(b"parent")
        await log.settled(5)
        first, child = log.messages.index
        server.start(received.put)
        [entry] = await log.replay()
        await log.settled(5)
        await server.shutdown()
    assert entry.status == "sent"
    assert entry.message_id == child
    replay = log.detail(entry.replay_id)
    assert replay.message_id not in (first, child)
    assert replay.replay_of == child
    assert (replay.parent_id, replay.conversation_id) == (first, first)
    assert (replay.topic, replay.body, replay.state) == ("t", b"child", "ok")
    assert log.detail(child).replays == [entry.replay_id]
    assert log.detail(child).state == "resolved"
    message = received.get_nowait()
    assert message.body == b"child"
    assert message.attempt == 1
    assert {k: message.attributes.get_all(k) for k in message.attributes} == {
        "A": ["1", "2"],
        ID_ATTRIBUTE: [f"{first}.{entry.replay_id}.{first}"],
    }
    own = log.events["message_id"] == entry.replay_id
    assert log.events.loc[own, "replay_of"].tolist() == [child, child]
    assert log.events.loc[~own, "replay_of"].isna().all()


async def test_a_replay_goes_through_the_same_chain():
    wire, log = Kept("t"), mv.MessageLog()
    topic = mv.observe(Backwards.encoder(wire), log)
    await topic.publish(b"abc", attributes={"A": "1"})
    [entry] = await log.replay(log.messages, to=topic)
    first, second = wire.sent
    assert first.body == second.body == b"cba"
    assert first.attributes.get_all("Direction") == second.attributes.get_all("Direction") == ["backwards"]
    assert second.attributes["A"] == "1"
    assert second.attributes[ID_ATTRIBUTE].split(".")[1] == entry.replay_id


async def test_a_replay_through_a_decorated_backend_arrives_decoded():
    log, backend = observed()
    got = asyncio.Queue()
    chain = [Backwards, Backwards, Backwards]
    server = backend.server("t", max_attempts=1, decorators=chain)
    server.start(refuse)
    await backend.topic("t", decorators=chain).publish(b"abc")
    await log.settled(5)
    server.start(got.put)
    await log.replay()
    await log.settled(5)
    await server.shutdown()
    message = got.get_nowait()
    assert message.body == b"abc"
    assert "Direction" not in message.attributes
    assert set(log.events["body"]) == {b"abc"}


async def test_only_the_subscription_that_failed_gets_it_again():
    async with Flow("healthy", "ill") as flow:
        flow.mended.add("healthy")
        await flow.publish(b"bad", b"good")
        report = await flow.replay()
        assert flow.got == [("ill", b"bad")]
        assert [(entry.subscription, entry.status) for entry in report] == [("ill", "sent")]
        flow.mended.add("ill")
        flow.got.clear()
        await flow.replay()  # the replay, which is dead too
        assert flow.got == [("ill", b"bad")]
        assert flow.log.messages["state"].tolist() == ["resolved", "ok", "resolved", "ok"]


async def test_each_subscription_that_failed_gets_it_again():
    async with Flow("one", "two", "three") as flow:
        flow.mended.add("two")
        await flow.publish(b"bad")
        report = await flow.replay()
        assert sorted(flow.got) == [("one", b"bad"), ("three", b"bad")]
        assert sorted(entry.subscription for entry in report.sent) == ["one", "three"]
        assert len({entry.replay_id for entry in report}) == 2


async def test_a_message_that_went_well_goes_to_all_subscriptions_again():
    async with Flow("one", "two") as flow:
        await flow.publish(b"good")
        report = await flow.replay(flow.id_of(b"good"))
        assert sorted(flow.got) == [("one", b"good"), ("two", b"good")]
        assert [entry.subscription for entry in report] == [None]
        assert set(flow.log.messages["state"]) == {"ok"}


async def test_an_event_of_one_subscription_is_replayed_to_that_one():
    async with Flow("one", "two") as flow:
        await flow.publish(b"bad")
        events = flow.log.events
        await flow.replay(events[events["subscription"] == "two"])
        assert flow.got == [("two", b"bad")]
        flow.got.clear()
        await flow.replay(events[events["subscription"] == "one"].index[0])
        assert flow.got == [("one", b"bad")]


async def test_a_message_chosen_as_a_whole_is_not_chosen_again_by_its_events():
    async with Flow("one", "two") as flow:
        await flow.publish(b"bad")
        await flow.replay([*flow.log.events.index, flow.id_of(b"bad")])
        assert sorted(flow.got) == [("one", b"bad"), ("two", b"bad")]


async def test_an_event_of_a_dead_letter_is_replayed_to_where_its_message_failed():
    log, backend = observed()
    got: list[str] = []

    def receiver(name: str) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            got.append(name)
            raise ValueError(name)

        return receive

    async with (
        backend.server("t", subscription="default", max_attempts=1).running(receiver("t/default")),
        backend.server("t", subscription="billing", max_attempts=1).running(receiver("t/billing")),
        backend.server("t.billing.dead", max_attempts=1).running(receiver("dead")),
    ):
        await backend.topic("t").publish(b"x")
        await log.settled(5)
        while got.count("dead") < 1:
            await asyncio.sleep(0)
        await log.settled(5)
        events = log.events
        letter = events.index[events["topic"] == "t.billing.dead"]
        got.clear()
        report = await log.replay(letter)
        await log.settled(5)
    assert sorted(entry.subscription for entry in report) == ["billing", "default"]
    assert sorted(got)[-2:] == ["t/billing", "t/default"]


class OneTopicOnly(mv.TopicDecorator):
    """A system that cannot address one subscription."""

    async def send(self, message: mv.Message, delay: float) -> None:
        await self.next.send(message, delay)

    def to_subscription(self, subscription: str) -> mv.Topic:
        raise mv.Unsupported("this system", f"cannot send to {subscription} alone")


async def test_where_no_subscription_can_be_addressed_the_whole_topic_gets_it_and_once():
    async with Flow("one", "two", "healthy") as flow:
        flow.mended.add("healthy")
        flow.topic = mv.observe(OneTopicOnly(flow.backend.next.topic("t")), flow.log)
        await flow.publish(b"bad")
        for selection in (None, flow.log.failures, flow.log.events.query("outcome == 'error'")):
            flow.got.clear()
            report = await flow.replay(flow.id_of(b"bad") if selection is None else selection.head(2))
            assert [(entry.subscription, entry.status) for entry in report] == [(None, "sent")]
            assert sorted(flow.got) == [("healthy", b"bad"), ("one", b"bad"), ("two", b"bad")]


async def test_a_replay_can_go_to_another_topic():
    async with Flow() as flow:
        await flow.publish(*BAD)
        other = Kept("other")
        report = await flow.log.replay(to=other)
        assert [message.body for message in other.sent] == BAD
        assert [entry.subscription for entry in report] == [None, None]
        assert other.sent[0].attributes.get_all("A") == ["1", "2"]
        assert flow.got == []
        published = flow.log.events.query("topic == 'other'")
        assert published["message_id"].tolist() == [entry.replay_id for entry in report]
        assert published["replay_of"].tolist() == [entry.message_id for entry in report]
        receiver = mv.observe(accept, flow.log)
        for message in other.sent:
            await receiver(message)
        assert flow.log.messages["state"].tolist() == ["resolved", "resolved", "ok", "ok"]


async def test_sending_to_a_topic_of_the_same_name_does_not_take_its_place():
    async with Flow() as flow:
        await flow.publish(b"bad")
        await flow.log.replay(to=Kept("t"))
        assert flow.log.topics["t"] is flow.topic


async def test_a_replay_to_an_observed_topic_is_recorded_once():
    async with Flow() as flow:
        await flow.publish(b"bad")
        before = len(flow.log)
        wire = Kept("other")
        await flow.log.replay(to=mv.observe(wire, flow.log))
        assert len(flow.log) == before + 1
        assert len(wire.sent) == 1


async def test_a_replay_can_go_to_a_receiver():
    async with Flow() as flow:
        await flow.publish(*BAD)
        got = []

        async def receiver(message: mv.Message) -> None:
            got.append(message)

        report = await flow.log.replay(to=receiver)
        assert statuses(report) == ["sent", "sent"]
        assert [message.body for message in got] == BAD
        assert got[0].attributes.get_all("A") == ["1", "2"]
        assert flow.got == []
        assert flow.log.messages["state"].tolist() == ["resolved", "resolved", "ok", "ok"]
        events = flow.log.events.tail(2)
        assert events["operation"].tolist() == ["receive"] * 2
        assert events["message_id"].tolist() == [entry.replay_id for entry in report]


async def test_a_replay_can_go_to_a_plain_function_and_may_fail_there():
    async with Flow() as flow:
        await flow.publish(*BAD)

        def receiver(message: mv.Message) -> None:
            if message.body == b"bad 2":
                raise LookupError("still bad")

        report = await flow.log.replay(to=receiver)
        assert statuses(report) == ["sent", "failed"]
        [failed] = report.failed
        assert failed.reason == "LookupError: still bad"
        assert flow.log.messages.loc[failed.replay_id, "state"] == "dead"
        assert flow.log.messages["state"].tolist()[:2] == ["resolved", "replayed"]


async def test_a_receiver_that_is_observed_already_is_recorded_once():
    async with Flow() as flow:
        await flow.publish(b"bad")
        before = len(flow.log)
        await flow.log.replay(to=mv.observe(accept, flow.log))
        assert len(flow.log) == before + 1
        assert flow.log.messages["attempts"].tolist() == [1, 1]


async def test_a_receiver_called_once_by_a_replay_is_not_waited_for_ever_after():
    async with Flow() as flow:
        await flow.publish(b"good")
        report = await flow.log.replay(flow.id_of(b"good"), to=accept)
        assert statuses(report) == ["sent"]
        await flow.publish(b"another")
        assert set(flow.log.messages["state"]) == {"ok"}


async def test_an_edited_message_is_sent_and_the_original_is_kept():
    async with Flow() as flow:
        await flow.publish(b"bad")
        original = flow.id_of(b"bad")
        seen = []

        def edit(message: mv.Message) -> mv.Message:
            seen.append(message.attributes.to_dict())
            message.attributes["B"] = "new"
            del message.attributes["A"]
            return message.with_body(b"good now")

        [entry] = await flow.replay(edit=edit)
        assert seen == [{"A": ["1", "2"], "Of": ["bad"]}]  # an identity is no business of an edit
        [message] = flow.messages
        assert message.body == b"good now"
        attributes = message.attributes.to_dict()
        assert attributes.pop(ID_ATTRIBUTE)[0].split(".")[1] == entry.replay_id
        assert attributes == {"B": ["new"], "Of": ["bad"]}
        detail = flow.log.detail(original)
        assert detail.body == b"bad"
        assert detail.attributes["A"] == ["1", "2"]
        assert detail.state == "resolved"


async def test_an_edit_may_give_back_another_message_but_not_another_identity():
    async with Flow() as flow:
        await flow.publish(*BAD)
        ours = mv.Message(b"good", {ID_ATTRIBUTE: "a.b.c"})
        report = await flow.replay(edit=lambda message: ours)
        assert [body for _, body in flow.got] == [b"good", b"good"]
        assert len({entry.replay_id for entry in report}) == 2
        assert "b" not in flow.log.messages.index


def raising(message: mv.Message) -> mv.Message:
    raise KeyError("amount")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (raising, "edit raised KeyError: 'amount'"),
        (lambda message: None, "edit raised TypeError: it gave back NoneType, not a Message"),
        (lambda message: message.body, "edit raised TypeError: it gave back bytes, not a Message"),
        (lambda message: message.with_body("text"), "edit raised TypeError: a body is bytes, not str"),
    ],
)
async def test_an_edit_that_fails_sends_nothing_and_is_told(edit: Any, reason: str):
    async with Flow() as flow:
        await flow.publish(b"bad")
        before = len(flow.log)
        [entry] = await flow.replay(edit=edit)
        assert entry.status == "failed"
        assert entry.reason.startswith(reason)
        assert entry.replay_id is None
        assert (len(flow.log), flow.got) == (before, [])
        assert flow.log.messages["state"].tolist() == ["dead"]


async def test_the_order_of_the_selection_is_kept_with_a_rate_and_without():
    bodies = [b"bad %d" % number for number in range(12)]
    async with Flow() as flow:
        await flow.publish(*bodies)
        ids = [flow.id_of(body) for body in bodies]
        for options in ({}, {"rate": 100_000}, {"rate": float("inf")}):
            flow.got.clear()
            report = await flow.replay(ids[::-1], **options)
            assert [body for _, body in flow.got] == bodies[::-1]
            assert [entry.message_id for entry in report] == ids[::-1]


# -- what cannot be replayed -------------------------------------------------------------------------


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
        while not len(log):
            await asyncio.sleep(0)
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
            assert flow.log.messages.loc[chain, "state"].tolist() == ["replayed"] * (len(chain) - 1) + ["dead"]
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
