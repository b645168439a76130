"""MessageLog.messages, count_states, detail and settled: what became of each message."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pandas as pd
import pytest

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE
from tests.flows import Gate, Kept, accept, observed, refuse, until

DTYPES = {
    "topic": "category",
    "published": "datetime64[ns, UTC]",
    "state": "category",
    "attempts": "int32",
    "latency": "timedelta64[ns]",
    "last_error": "str",
    "parent_id": "str",
    "conversation_id": "str",
    "size": "int64",
}
STATES = ("pending", "in_flight", "ok", "retrying", "dead", "replayed", "resolved")


def state(log: mv.MessageLog) -> str:
    """The state of the one message there is, as all three ways of asking tell it."""
    [(message_id, found)] = log.messages["state"].items()
    counts = {name: n for name, n in log.count_states().items() if n}
    assert counts == {found: 1}
    assert log.detail(message_id).state == found
    assert log.states([message_id]) == {message_id: found}
    return found


def test_an_empty_log_has_the_columns_and_types_too():
    messages = mv.MessageLog().messages
    assert {name: str(dtype) for name, dtype in messages.dtypes.items()} == DTYPES
    assert messages.index.name == "message_id"
    assert tuple(messages["state"].cat.categories) == STATES


async def test_one_row_per_message_with_exactly_these_columns():
    log, backend = observed()
    async with backend.server("t").running(accept):
        for body in (b"", b"four", b"seven77"):
            await backend.topic("t").publish(body)
        await log.settled(5)
    messages = log.messages
    assert {name: str(dtype) for name, dtype in messages.dtypes.items()} == DTYPES
    assert str(messages.index.dtype) == "str"
    assert messages["size"].tolist() == [0, 4, 7]
    published = log.events.query("operation == 'publish'").set_index("message_id")["time"]
    assert (messages["published"] == published.loc[messages.index]).all()
    assert messages["attempts"].tolist() == [1, 1, 1]
    assert messages["last_error"].isna().all()
    assert set(messages["topic"]) == {"t"}


async def test_the_life_of_a_message_that_goes_well():
    log, backend = observed()
    gate = Gate()
    server = backend.server("t")
    await backend.topic("t").publish(b"x")
    assert state(log) == "pending"
    server.start(gate)
    await gate.begun.wait()
    assert state(log) == "in_flight"
    gate.orders.put_nowait(None)
    await log.settled(5)
    assert state(log) == "ok"
    await server.shutdown()


async def test_the_life_of_a_message_that_fails_is_replayed_and_ends_well():
    log, backend = observed()
    gate = Gate()
    server = backend.server("t", max_attempts=2, backoff=0)
    server.start(gate)
    await backend.topic("t").publish(b"x")
    await gate.begun.wait()
    assert state(log) == "in_flight"
    gate.begun.clear()
    gate.orders.put_nowait(ValueError("once"))
    # The next attempt may begin at any time; once it has begun, the message is in flight again.
    await gate.begun.wait()
    assert state(log) == "in_flight"
    gate.orders.put_nowait(ValueError("twice"))
    await log.settled(5)
    assert state(log) == "dead"
    assert log.messages["last_error"].tolist() == ["ValueError: twice"]
    assert log.messages["attempts"].tolist() == [2]
    await log.replay()
    await gate.begun.wait()
    original, replay = log.messages.index
    assert log.messages["state"].to_dict() == {original: "replayed", replay: "in_flight"}
    gate.orders.put_nowait(None)
    await log.settled(5)
    assert log.messages["state"].to_dict() == {original: "resolved", replay: "ok"}
    assert log.count_states() == dict.fromkeys(STATES, 0) | {"resolved": 1, "ok": 1}
    await server.shutdown()


async def test_between_two_attempts_a_message_is_retrying():
    log, backend = observed()
    failed = asyncio.Event()

    async def receiver(message: mv.Message) -> None:
        failed.set()
        raise ValueError("later")

    server = backend.server("t", max_attempts=2, backoff=3600)
    server.start(receiver)
    await backend.topic("t").publish(b"x")
    await failed.wait()
    await until(lambda: len(log) == 2)
    assert state(log) == "retrying"
    assert log.messages["last_error"].tolist() == ["ValueError: later"]
    with pytest.raises(TimeoutError, match="1 retrying"):
        await log.settled(0.01)
    await server.shutdown()


async def test_without_a_limit_a_message_that_fails_is_never_dead():
    log, backend = observed()
    attempts = []

    async def receiver(message: mv.Message) -> None:
        attempts.append(message.attempt)
        if message.attempt < 30:
            raise ValueError

    async with backend.server("t", max_attempts=None, backoff=0).running(receiver):
        await backend.topic("t").publish(b"x")
        await until(lambda: len(attempts) > 10)
        assert state(log) in ("retrying", "in_flight", "ok")
        await log.settled(5)
    assert attempts == list(range(1, 31))
    assert state(log) == "ok"
    assert log.messages["attempts"].tolist() == [30]
    assert log.failures["dead"].tolist() == [0]


async def test_a_failed_attempt_that_is_made_good_leaves_its_error_and_the_latency_of_the_success():
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        if message.attempt < 3:
            raise ValueError(message.attempt)

    async with backend.server("t", backoff=0).running(receiver):
        await backend.topic("t").publish(b"x")
        await log.settled(5)
    [row] = log.messages.to_dict("records")
    assert (row["state"], row["attempts"], row["last_error"]) == ("ok", 3, "ValueError: 2")
    events = log.events
    success = events[(events["operation"] == "receive") & (events["outcome"] == "ok")].iloc[0]
    assert row["latency"] == success["time"] + success["duration"] - row["published"]


async def test_latency_is_that_of_the_first_success_and_null_before():
    log, backend = observed()
    gate = Gate()
    async with (
        backend.server("t", subscription="quick").running(accept),
        backend.server("t", subscription="slow").running(gate),
    ):
        await backend.topic("t").publish(b"x")
        await gate.begun.wait()
        await until(lambda: len(log) == 2)
        first = log.messages["latency"].iloc[0]
        assert first > pd.Timedelta(0)
        gate.orders.put_nowait(None)
        await log.settled(5)
    assert log.messages["latency"].iloc[0] == first
    await backend.topic("nobody").publish(b"x")
    assert pd.isna(log.messages["latency"].iloc[-1])


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("ok", "ok", "ok"),
        ("ok", "dead", "dead"),
        ("dead", "ok", "dead"),
        ("dead", "dead", "dead"),
        ("ok", "pending", "pending"),
        ("dead", "pending", "pending"),
        ("retrying", "ok", "retrying"),
        ("retrying", "dead", "retrying"),
        ("retrying", "pending", "retrying"),
        ("in_flight", "ok", "in_flight"),
        ("in_flight", "dead", "in_flight"),
        ("in_flight", "retrying", "in_flight"),
    ],
)
async def test_with_two_subscriptions_the_one_that_is_worst_off_counts(one: str, two: str, expected: str):
    log, backend = observed()
    topic = backend.topic("t")
    ended = {name: asyncio.Event() for name in ("one", "two")}
    servers = []
    for name, wanted in (("one", one), ("two", two)):
        limit = 5 if wanted == "retrying" else 1
        server = backend.server("t", subscription=name, max_attempts=limit, backoff=3600)
        servers.append(server)

        async def receiver(message: mv.Message, name: str = name, wanted: str = wanted) -> None:
            ended[name].set()
            if wanted == "in_flight":
                await asyncio.Event().wait()
            if wanted in ("dead", "retrying"):
                raise ValueError(wanted)

        if wanted != "pending":
            server.start(receiver)
        else:
            ended[name].set()
    await topic.publish(b"x")
    for event in ended.values():
        await event.wait()
    await until(lambda: len(log) == 1 + sum(wanted not in ("pending", "in_flight") for wanted in (one, two)))
    assert state(log) == expected
    for server in servers:
        if server.serving:
            with contextlib.suppress(TimeoutError):
                await server.shutdown(timeout=0)


async def test_a_publish_that_fails_leaves_a_dead_message_that_can_be_replayed():
    log, wire = mv.MessageLog(), Kept("t", ConnectionError("down"))
    topic = mv.observe(wire, log)
    with pytest.raises(ConnectionError):
        await topic.publish(b"x", attributes={"A": "1"})
    assert state(log) == "dead"
    assert log.messages["last_error"].tolist() == ["ConnectionError: down"]
    assert log.messages["attempts"].tolist() == [0]
    await log.settled(5)
    wire.error = None
    report = await log.replay()
    assert [entry.status for entry in report] == ["sent"]
    [sent] = wire.sent
    assert (sent.body, sent.attributes["A"]) == (b"x", "1")
    original, replay = log.messages.index
    assert log.messages["state"].to_dict() == {original: "replayed", replay: "pending"}
    await mv.observe(accept, log)(sent)
    assert log.messages["state"].to_dict() == {original: "resolved", replay: "ok"}


async def test_a_message_that_was_received_is_not_dead_though_its_publish_failed():
    log, backend = observed()

    class Unsure(mv.TopicDecorator):
        """Sends, and does not hear that it went well: a lost acknowledgement."""

        async def send(self, message: mv.Message, delay: float) -> None:
            await self.next.send(message, delay)
            raise TimeoutError("no answer")

    topic = mv.observe(Unsure(backend.next.topic("t")), log)
    async with backend.server("t").running(accept):
        with pytest.raises(TimeoutError):
            await topic.publish(b"x")
        await until(lambda: len(log) == 2)
    assert state(log) == "ok"
    assert log.messages["last_error"].tolist() == ["TimeoutError: no answer"]
    assert len(await log.replay()) == 0


async def test_a_receive_that_a_shutdown_cancels_is_given_back_and_received_again():
    log, backend = observed()
    gate = Gate()
    server = backend.server("t", max_attempts=1)
    server.start(gate)
    await backend.topic("t").publish(b"x")
    await gate.begun.wait()
    with pytest.raises(TimeoutError):
        await server.shutdown(timeout=0)
    assert log.events["outcome"].tolist() == ["ok", "cancelled"]
    assert state(log) == "retrying"  # not dead: it was not the message that failed
    again = backend.server("t", max_attempts=1)
    async with again.running(accept):
        await log.settled(5)
    assert state(log) == "ok"
    assert log.events["attempt"].tolist() == [1, 1, 1]


async def test_a_receiver_that_is_cancelled_from_within_has_failed_like_any_other():
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        raise asyncio.CancelledError

    async with backend.server("t", max_attempts=2, backoff=0).running(receiver):
        await backend.topic("t").publish(b"x")
        await log.settled(5)
    assert log.events["outcome"].tolist() == ["ok", "cancelled", "cancelled"]
    assert state(log) == "dead"


async def test_a_receiver_called_without_a_server_fails_once_and_for_all():
    log = mv.MessageLog()
    with pytest.raises(ValueError, match="not x"):
        await mv.observe(refuse, log)(mv.Message(b"x"))
    assert state(log) == "dead"
    assert log.messages["published"].isna().all()
    assert log.messages["latency"].isna().all()
    assert log.messages["size"].tolist() == [1]


async def test_a_foreign_message_has_a_row_from_its_receives():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    async with mv.observe(bare, log).server("t").running(accept):
        await bare.topic("t").publish(b"four")
        await until(lambda: len(log) == 1)
    [row] = log.messages.to_dict("records")
    assert (row["topic"], row["state"], row["attempts"], row["size"]) == ("t", "ok", 1, 4)
    assert pd.isna(row["published"])
    detail = log.detail(log.messages.index[0])
    assert (detail.published, detail.latency, detail.body) == (None, None, b"four")


async def test_a_message_that_is_received_before_its_publish_has_ended_is_of_the_topic_it_was_sent_to():
    log = mv.MessageLog()
    receiver = mv.observe(accept, log)

    class Direct(mv.Topic):
        name = "direct"

        async def send(self, message: mv.Message, delay: float) -> None:
            await receiver(message)

    await mv.observe(Direct(), log).publish(b"x")
    assert log.events["operation"].tolist() == ["receive", "publish"]
    assert log.messages["topic"].tolist() == ["direct"]
    assert state(log) == "ok"
    assert log.messages["latency"].iloc[0] >= pd.Timedelta(0)


async def test_a_dead_letter_that_is_read_does_not_bring_its_message_back_to_life():
    log, backend = observed()
    got = asyncio.Queue()
    async with (
        backend.server("t", max_attempts=1).running(refuse),
        backend.server("t.default.dead").running(got.put),
    ):
        await backend.topic("t").publish(b"x")
        letter = await got.get()
        await log.settled(5)
    assert letter.attributes["Dead-Letter-Topic"] == "t"
    assert state(log) == "dead"
    assert log.detail(log.messages.index[0]).topic == "t"
    assert log.events["topic"].tolist() == ["t", "t", "t.default.dead"]


async def test_two_servers_on_one_subscription_share_its_messages():
    log, backend = observed()
    one, two = backend.server("t"), backend.server("t")
    async with one.running(accept), two.running(accept):
        for _ in range(50):
            await backend.topic("t").publish(b"x")
        await log.settled(5)
    assert log.messages["attempts"].tolist() == [1] * 50
    assert set(log.messages["state"]) == {"ok"}


# -- detail ------------------------------------------------------------------------------------------


async def test_detail_tells_all_of_one_message():
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        if message.body == b"parent":
            await backend.topic("children").publish(b"one")
            await backend.topic("children").publish(b"two")
            if message.attempt == 1:
                raise ValueError("again")

    async with (
        backend.server("t", backoff=0).running(receiver),
        backend.server("children").running(accept),
    ):
        await backend.topic("t").publish(b"parent", attributes={"A": ["1", "2"]})
        await log.settled(5)
    ids = list(log.messages.index)
    parent = log.detail(log.events["message_id"].iloc[0])
    assert parent.children == [i for i in ids if i != parent.message_id]
    assert len(parent.children) == 4
    assert (parent.topic, parent.state, parent.size, parent.body) == ("t", "ok", 6, b"parent")
    assert parent.attributes["A"] == ["1", "2"]
    assert parent.attributes[ID_ATTRIBUTE] == [f"{parent.conversation_id}.{parent.message_id}."]
    assert (parent.parent_id, parent.conversation_id) == (None, parent.message_id)
    assert (parent.replay_of, parent.replays) == (None, [])
    row = log.messages.loc[parent.message_id]
    assert parent.published == row["published"].to_pydatetime(warn=False)
    assert abs(parent.latency - row["latency"].to_pytimedelta()).total_seconds() < 5e-6  # microseconds
    assert [(a.operation, a.attempt, a.outcome, a.subscription) for a in parent.attempts] == [
        ("publish", 1, "ok", None),
        ("receive", 1, "error", "default"),
        ("receive", 2, "ok", "default"),
    ]
    failed = parent.attempts[1]
    assert (failed.error_type, failed.error) == ("ValueError", "again")
    assert "raise ValueError" in failed.traceback
    assert parent.attempts[2].traceback is None
    assert [log.events.loc[a.event_id, "message_id"] for a in parent.attempts] == [parent.message_id] * 3
    child = log.detail(parent.children[0])
    assert (child.parent_id, child.conversation_id) == (parent.message_id, parent.message_id)
    with pytest.raises(dataclasses.FrozenInstanceError):
        child.state = "dead"


async def test_the_children_of_a_foreign_message_are_found_though_they_were_seen_before_it():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    backend = mv.observe(bare, log)

    async def receiver(message: mv.Message) -> None:
        for _ in range(3):
            await backend.topic("children").publish(b"child")

    async with backend.server("t").running(receiver):
        await bare.topic("t").publish(b"parent")
        await until(lambda: len(log) == 4)
    *children, parent = log.messages.index
    assert log.detail(parent).children == children


@pytest.mark.parametrize("message_id", ["", "nobody", "\ud800"])
def test_an_unknown_message_is_a_key_error(message_id: str):
    log = mv.MessageLog()
    for ask in (log.detail, log.message, lambda i: log.states([i])):
        with pytest.raises(KeyError):
            ask(message_id)
