"""MessageLog.replay: where a replayed message goes, and as what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE
from tests.flows import BAD, Backwards, Flow, Kept, accept, observed, refuse, statuses, until


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


@pytest.mark.parametrize("letters", ["refused", "accepted"])
async def test_an_event_of_a_dead_letter_is_replayed_to_where_its_message_failed(letters: str):
    log, backend = observed()
    got: list[str] = []

    def receiver(name: str) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            got.append(name)
            if name != "dead" or letters == "refused":
                raise ValueError(name)

        return receive

    async with (
        backend.server("t", subscription="default", max_attempts=1).running(receiver("t/default")),
        backend.server("t", subscription="billing", max_attempts=1).running(receiver("t/billing")),
        backend.server("t.billing.dead", max_attempts=1).running(receiver("dead")),
    ):
        await backend.topic("t").publish(b"x")
        await log.settled(5)
        await until(lambda: got.count("dead") == 1)
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


async def test_an_edit_cannot_smuggle_an_identity_into_a_topic_that_is_left_untouched():
    log, wire = mv.MessageLog(), Kept("t")
    topic = mv.observe(wire, log, propagate=False)
    await topic.publish(b"x")
    await mv.observe(accept, log)(wire.sent[0])
    await log.replay(
        log.messages, edit=lambda message: mv.Message(b"y", {ID_ATTRIBUTE: "a.b.c", "B": "1"}), to=topic
    )
    assert wire.sent[1].attributes.to_dict() == {"B": ["1"]}


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
