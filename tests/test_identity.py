"""Identity: which message an observer says it saw, whatever the message says of itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE
from tests.flows import Backwards, Kept, accept, columns, observed, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_without_propagation_messages_stay_untouched_and_are_linked_all_the_same():
    log, backend = mv.MessageLog(), mv.connect("memory://")
    quiet = mv.observe(backend, log, propagate=False)
    seen = []

    async def receiver(message: mv.Message) -> None:
        seen.append(message.attributes.to_dict())
        raise ValueError

    server = quiet.server("t", max_attempts=3, backoff=0, decorators=[Backwards])
    topic = quiet.topic("t", decorators=[Backwards])
    server.start(receiver)
    await topic.publish(b"x", attributes={"A": ["1", "2"]})
    await topic.publish(b"y")
    await until(lambda: len(seen) == 6)
    await server.shutdown()
    assert sorted(seen, key=str) == sorted([{"A": ["1", "2"]}] * 3 + [{}] * 3, key=str)
    assert [a for a in log.events["attributes"] if ID_ATTRIBUTE in a] == []
    assert (
        sorted(log.events.groupby("message_id")["operation"].agg(list).tolist())
        == [["publish", "receive", "receive", "receive"]] * 2
    )
    assert log.messages["state"].tolist() == ["dead", "dead"]


async def test_without_propagation_an_identity_that_came_along_names_no_other_message():
    log, backend = mv.MessageLog(), mv.connect("memory://")
    quiet = mv.observe(backend, log, propagate=False)
    server = quiet.server("t")
    async with server.running(accept):
        await quiet.topic("t").publish(b"x", attributes={ID_ATTRIBUTE: "some.other.message"})
        await until(lambda: len(log) == 2)
    [published, received] = log.events["message_id"]
    assert published == received != "other"


async def test_publishing_the_attributes_of_a_received_message_makes_a_new_message():
    log, backend = observed()

    async def forward(message: mv.Message) -> None:
        await backend.topic("next").publish(message.body, attributes=message.attributes)

    async with backend.server("t").running(forward), backend.server("next").running(accept):
        await backend.topic("t").publish(b"x")
        await log.settled(5)
    first, second = log.messages.index
    assert first != second
    assert log.messages.loc[second, "parent_id"] == first
    assert log.messages["state"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize("decorators", [(), (Backwards,)], ids=["bare", "decorated"])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"Other": "x"},
        {ID_ATTRIBUTE: ""},
        {ID_ATTRIBUTE: "only"},
        {ID_ATTRIBUTE: "a.b"},
        {ID_ATTRIBUTE: "a.b.c.d"},
        {ID_ATTRIBUTE: ".b.c"},
        {ID_ATTRIBUTE: "a..c"},
        {ID_ATTRIBUTE: ["x", "y"]},
        {ID_ATTRIBUTE: ["", "a.b.c"]},
        {ID_ATTRIBUTE: "a." + "b" * 100_000 + ".c"},
        {ID_ATTRIBUTE: "a" + "." * 100_000},
        {ID_ATTRIBUTE: "a.b\x00\x1b[31m.c"},
        {ID_ATTRIBUTE: "a.b\n.c"},
        {ID_ATTRIBUTE: "a.\ud800.c"},
        {ID_ATTRIBUTE: "\udcff.b.c"},
    ],
    ids=lambda a: repr(a)[:30],
)
async def test_a_foreign_message_gets_an_identity_that_it_keeps(attributes: Any, decorators: Any):
    log, bare = mv.MessageLog(), mv.connect("memory://")
    server = mv.observe(bare, log).server("t", max_attempts=3, backoff=0, decorators=decorators)
    bodies = []

    async def receiver(message: mv.Message) -> None:
        bodies.append(message.body)
        raise ValueError

    async with server.running(receiver):
        for body in (b"1", b"2"):
            await bare.topic("t", decorators=decorators).publish(body, attributes=attributes)
        await until(lambda: len(bodies) == 6)
    events = log.events
    assert len(events) == 6
    groups = events.groupby("message_id")
    assert groups["attempt"].agg(list).tolist() == [[1, 2, 3]] * 2
    assert groups["body"].nunique().tolist() == [1, 1]
    for name in ("message_id", "conversation_id"):
        assert all(i.isprintable() and 0 < len(i) < 1000 for i in events[name])
    assert log.messages["state"].tolist() == ["dead", "dead"]
    assert log.messages["topic"].tolist() == ["t", "t"]


@pytest.mark.parametrize("value", ["story.me.mother", ["story.me.mother", "a.b.c"]])
async def test_a_message_that_carries_an_identity_keeps_it(value: Any):
    log = mv.MessageLog()
    await mv.observe(accept, log)(mv.Message(b"", {ID_ATTRIBUTE: value}))
    assert columns(log, "conversation_id", "message_id", "parent_id") == [("story", "me", "mother")]


async def test_the_trace_id_is_the_conversation():
    log, backend = observed()
    topic = backend.topic("t")

    async def answer(message: mv.Message) -> None:
        await backend.topic("answers").publish(b"yes")

    async with backend.server("t").running(answer), backend.server("answers").running(accept):
        await topic.publish(b"x", attributes={"traceparent": TRACEPARENT})
        await log.settled(5)
    assert set(log.events["conversation_id"]) == {TRACE}
    assert log.events["message_id"].nunique() == 2


async def test_the_trace_id_of_a_foreign_message_is_its_conversation():
    log = mv.MessageLog()
    await mv.observe(accept, log)(mv.Message(b"", {"Traceparent": TRACEPARENT}))
    assert columns(log, "conversation_id") == [(TRACE,)]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        TRACEPARENT.replace("-", "_"),
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace(TRACE, "z" * 32),
        TRACEPARENT.replace(TRACE, "." * 32),
        TRACEPARENT.replace(TRACE, "é" * 32),
        TRACEPARENT[:40],
        [TRACEPARENT, TRACEPARENT],
    ],
)
async def test_a_traceparent_that_is_none_names_no_conversation(value: Any):
    log = mv.MessageLog()
    await mv.observe(Kept(), log).publish(b"", attributes={"Traceparent": value})
    [(conversation, message_id)] = columns(log, "conversation_id", "message_id")
    assert conversation == message_id


async def test_ids_are_unique():
    log, backend = observed()
    topic = backend.topic("t")
    await asyncio.gather(*(topic.publish(b"") for _ in range(200)))
    assert log.events["message_id"].is_unique


async def test_observing_changes_neither_the_message_that_was_handed_in_nor_what_a_receiver_gets():
    log, backend = observed()
    attributes = mv.Attributes({"A": "1"})
    got = []

    async def receiver(message: mv.Message) -> None:
        message.attributes["A"] = "changed by the receiver"
        message.body = b"changed"
        got.append(message)

    async with backend.server("t").running(receiver):
        await backend.topic("t").publish(b"x", attributes=attributes)
        await log.settled(5)
    assert attributes.to_dict() == {"A": ["1"]}
    assert log.events["body"].tolist() == [b"x", b"x"]
    assert [a["A"] for a in log.events["attributes"]] == [["1"], ["1"]]
    assert len(got) == 1
