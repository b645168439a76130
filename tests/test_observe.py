"""Observers: what they record, where they stand, and which message they say it is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE
from tests.flows import Backwards, Kept, accept, columns, observed, refuse, until

# -- each kind of thing ------------------------------------------------------------------------------


async def test_an_observed_topic_records_the_publish_and_sends_it_on():
    log, wire = mv.MessageLog(), Kept("orders")
    topic = mv.observe(wire, log)
    await topic.publish(b"hello", attributes={"source": ["web", "app"]}, delay=3)
    [event] = log.events.to_dict("records")
    assert (event["operation"], event["topic"], event["outcome"]) == ("publish", "orders", "ok")
    assert (event["body"], event["size"], event["attempt"]) == (b"hello", 5, 1)
    assert event["attributes"]["Source"] == ["web", "app"]
    [sent] = wire.sent
    assert sent.body == b"hello"
    assert sent.attributes.get_all("Source") == ["web", "app"]
    assert sent.attributes[ID_ATTRIBUTE] == f"{event['conversation_id']}.{event['message_id']}."
    assert wire.delays == [3.0]


async def test_an_observed_topic_records_a_refused_publish_and_raises_it():
    log, error = mv.MessageLog(), ConnectionResetError("gone")
    topic = mv.observe(Kept(error=error), log)
    with pytest.raises(ConnectionResetError) as caught:
        await topic.publish(b"x")
    assert caught.value is error
    assert columns(log, "outcome", "error_type", "error") == [("error", "ConnectionResetError", "gone")]


async def test_a_cancelled_publish_is_recorded_as_cancelled():
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://?capacity=1"), log)
    await backend.declare("t", "s")
    topic = backend.topic("t")
    await topic.publish(b"fills it")
    task = asyncio.create_task(topic.publish(b"waits"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert columns(log, "body", "outcome") == [(b"fills it", "ok"), (b"waits", "cancelled")]


async def test_a_writer_records_one_event_for_one_message_and_none_for_nothing():
    log, wire = mv.MessageLog(), Kept()
    topic = mv.observe(wire, log)
    async with topic.new_writer() as writer:
        writer.attributes["a"] = "1"
        writer.write(b"one ")
        writer.write(b"body")
    async with topic.new_writer():
        pass
    with contextlib.suppress(KeyError):
        async with topic.new_writer() as writer:
            writer.write(b"never")
            raise KeyError
    assert columns(log, "body") == [(b"one body",)]
    assert [message.body for message in wire.sent] == [b"one body"]


async def test_an_observed_async_receiver_records_how_it_went_and_raises_what_it_raised():
    log, error = mv.MessageLog(), LookupError("who?")

    async def receiver(message: mv.Message) -> None:
        if message.body == b"bad":
            raise error

    observer = mv.observe(receiver, log)
    await observer(mv.Message(b"good", {"k": "v"}))
    with pytest.raises(LookupError) as caught:
        await observer(mv.Message(b"bad"))
    assert caught.value is error
    assert columns(log, "operation", "body", "outcome", "error_type", "error") == [
        ("receive", b"good", "ok", pytest.approx(float("nan"), nan_ok=True),
         pytest.approx(float("nan"), nan_ok=True)),
        ("receive", b"bad", "error", "LookupError", "who?"),
    ]  # fmt: skip
    first = log.events.iloc[0]
    assert first["attributes"] == {"K": ["v"]}
    assert log.events[["topic", "subscription"]].isna().all(axis=None)  # it was not delivered by a server


async def test_an_observed_plain_function_still_runs_in_a_thread_of_its_own():
    log, threads = mv.MessageLog(), []

    def receiver(message: mv.Message) -> None:
        threads.append(threading.get_ident())
        if message.body == b"bad":
            raise ValueError("bad")

    observer = mv.observe(receiver, log)
    await observer(mv.Message(b"good"))
    with pytest.raises(ValueError, match="bad"):
        await observer(mv.Message(b"bad"))
    assert threading.get_ident() not in threads
    assert columns(log, "body", "outcome") == [(b"good", "ok"), (b"bad", "error")]


async def test_an_observed_server_records_what_its_receivers_get_and_nothing_that_is_published():
    log, backend = mv.MessageLog(), mv.connect("memory://")
    inner = backend.server("t", subscription="s", concurrency=3, decorators=[Backwards])
    server = mv.observe(inner, log)
    assert (server.topic, server.subscription, server.concurrency) == ("t", "s", 3)
    assert server.decorators == (Backwards,)
    assert not server.serving
    assert server.receiver is None
    got = asyncio.Queue()
    async with server.running(got.put):
        assert server.serving
        await backend.topic("t", decorators=[Backwards]).publish(b"abc")
        assert (await got.get()).body == b"abc"
    assert server.stopping
    assert not server.serving
    assert columns(log, "operation", "topic", "subscription", "body") == [("receive", "t", "s", b"abc")]
    with pytest.raises(mv.ServerClosed):
        await server.serve(accept)


async def test_an_observed_server_swaps_its_receiver_and_observes_the_new_one_too():
    log, backend = observed()
    server, topic = backend.server("t"), backend.topic("t")
    calls = []

    async def first(message: mv.Message) -> None:
        calls.append(("first", message.body))

    async def second(message: mv.Message) -> None:
        calls.append(("second", message.body))

    server.start(first)
    await topic.publish(b"1")
    await log.settled(5)
    server.start(second)
    await topic.publish(b"2")
    await log.settled(5)
    server.set_receiver(first)
    await topic.publish(b"3")
    await log.settled(5)
    await server.shutdown()
    assert calls == [("first", b"1"), ("second", b"2"), ("first", b"3")]
    assert (log.events["operation"] == "receive").sum() == 3


async def test_an_observed_server_serves_until_its_shutdown():
    log, backend = observed()
    server = backend.server("t")
    serving = asyncio.create_task(server.serve(accept))
    await backend.topic("t").publish(b"x")
    await log.settled(5)
    await server.shutdown()
    await serving
    assert columns(log, "operation") == [("publish",), ("receive",)]


async def test_the_log_is_told_of_a_server_that_fails():
    log, backend = observed()
    heard = []
    for how in ("start", "serve"):
        server = backend.server(how, backoff=lambda attempt: attempt / 0)
        await backend.topic(how).publish(b"x")
        if how == "start":
            server.start(refuse)
            ended = asyncio.Event()

            def note(error: BaseException | None, ended: asyncio.Event = ended) -> None:
                heard.append(error)
                ended.set()

            server.on_end(note)
            await ended.wait()
            assert isinstance(server.failed, ZeroDivisionError)
            with pytest.raises(ZeroDivisionError):
                await server.shutdown()
        else:
            with pytest.raises(ZeroDivisionError):
                await server.serve(refuse)
    assert [type(error) for error in heard] == [ZeroDivisionError]
    assert [(str(source), failure.error_type) for source, failure in log.server_failures.items()] == [
        ("start/default", "ZeroDivisionError"),
        ("serve/default", "ZeroDivisionError"),
    ]


async def test_everything_made_from_an_observed_backend_is_observed():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    async with mv.observe(bare, log) as backend:
        assert backend.name == bare.name
        assert backend.features is bare.features
        await backend.declare("t", "one", "two")
        topic = backend.topic("t")
        for subscription in ("one", "two"):
            backend.server("t", subscription=subscription, max_attempts=1, concurrency=2).start(accept)
        await topic.publish(b"x")
        await log.settled(5)
    assert bare.closed
    assert backend.closed
    assert sorted(columns(log, "operation", "subscription"), key=str) == [
        ("publish", pytest.approx(float("nan"), nan_ok=True)),
        ("receive", "one"),
        ("receive", "two"),
    ]
    assert set(log.topics) == {"t"}


async def test_an_observed_backend_refuses_what_the_backend_refuses():
    log, backend = observed()
    with pytest.raises(ValueError, match="max_attempts"):
        backend.server("t", max_attempts=0)
    with pytest.raises(TypeError, match="decorators"):
        backend.topic("t", decorators=Backwards)
    with pytest.raises(mv.MsgvizError, match="connect a backend first"):
        type(backend).from_url("memory://")
    await backend.close()
    with pytest.raises(mv.BackendClosed):
        backend.topic("t")
    assert len(log) == 0


@pytest.mark.parametrize("thing", [None, 3, "orders", b"orders", mv.Message(b""), object()])
def test_what_cannot_be_observed_is_a_type_error(thing: Any):
    with pytest.raises(TypeError, match=f"not {type(thing).__name__}"):
        mv.observe(thing, mv.MessageLog())


@pytest.mark.parametrize("log", [None, [], mv.connect("memory://"), mv.MessageLog])
def test_what_is_no_log_is_a_type_error(log: Any):
    with pytest.raises(TypeError, match="MessageLog"):
        mv.observe(Kept(), log)


async def test_observing_twice_with_the_same_log_records_once():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    backend = mv.observe(mv.observe(bare, log), log)
    topic = mv.observe(mv.observe(backend.topic("t"), log), log)
    server = mv.observe(mv.observe(backend.server("t"), log), log)
    server.start(mv.observe(mv.observe(accept, log), log))
    await topic.publish(b"x")
    await log.settled(5)
    await server.shutdown()
    assert columns(log, "operation") == [("publish",), ("receive",)]
    assert log.messages["attempts"].tolist() == [1]


# -- where an observer stands ------------------------------------------------------------------------


async def test_an_observer_records_the_bytes_that_pass_where_it_stands():
    outside, inside, backend = mv.MessageLog(), mv.MessageLog(), mv.connect("memory://")
    topic = mv.observe(Backwards.encoder(mv.observe(backend.topic("t"), inside)), outside)
    got = asyncio.Queue()
    receiver = mv.observe(Backwards.decoder(mv.observe(got.put, outside)), inside)
    server = backend.server("t")
    server.start(receiver)
    await topic.publish(b"abc")
    assert (await got.get()).body == b"abc"
    await server.shutdown()
    assert columns(outside, "operation", "body") == [("publish", b"abc"), ("receive", b"abc")]
    assert columns(inside, "operation", "body") == [("publish", b"cba"), ("receive", b"cba")]
    assert [sorted(a) for a in inside.events["attributes"]] == [["Direction", ID_ATTRIBUTE]] * 2
    assert [sorted(a) for a in outside.events["attributes"]] == [[ID_ATTRIBUTE]] * 2
    assert outside.events["message_id"].nunique() == 1
    assert outside.events["message_id"].tolist() == inside.events["message_id"].tolist()


async def test_an_observed_backend_stands_outside_its_decorators():
    log, backend = observed()
    wire = mv.connect("memory://")
    backend = mv.observe(wire, log)
    server = backend.server("t", decorators=[Backwards])
    async with server.running(accept):
        await backend.topic("t", decorators=[Backwards]).publish(b"abc")
        await log.settled(5)
    assert columns(log, "body") == [(b"abc",), (b"abc",)]
    assert all("Direction" not in attributes for attributes in log.events["attributes"])


@pytest.mark.parametrize("propagate", [True, False])
async def test_nested_observers_of_one_log_keep_one_identity(propagate: bool):
    log, backend = mv.MessageLog(), mv.connect("memory://")
    topic = backend.topic("t")
    for _ in range(3):
        topic = Backwards.encoder(mv.observe(topic, log, propagate=propagate))
    topic = mv.observe(topic, log, propagate=propagate)
    receiver: mv.Receiver = mv.observe(refuse, log)
    for _ in range(3):
        receiver = mv.observe(Backwards.decoder(receiver), log)
    server = backend.server("t", max_attempts=1)
    server.start(receiver)
    await topic.publish(b"abc")
    await topic.publish(b"xyz")
    await until(lambda: (log.events["operation"] == "receive").sum() == 8)
    await server.shutdown()
    events = log.events
    assert events["message_id"].nunique() == 2
    assert events.groupby("message_id").size().tolist() == [8, 8]
    assert (events["conversation_id"] == events["message_id"]).all()
    assert events["parent_id"].isna().all()
    assert log.messages["state"].tolist() == ["dead", "dead"]


async def test_what_the_application_published_is_what_the_outermost_observer_saw():
    log, backend = mv.MessageLog(), mv.connect("memory://")
    topic = mv.observe(Backwards.encoder(mv.observe(backend.topic("t"), log)), log)
    bodies = []

    async def receiver(message: mv.Message) -> None:
        bodies.append(message.body)
        if len(bodies) == 1:
            raise ValueError

    server = backend.server("t", max_attempts=1)
    server.start(Backwards.decoder(mv.observe(receiver, log)))
    await topic.publish(b"abc")
    await log.settled(5)
    [message_id] = log.messages.index
    assert log.detail(message_id).body == b"abc"
    assert log.message(message_id).body == b"abc"
    report = await log.replay()
    await log.settled(5)
    await server.shutdown()
    assert [entry.status for entry in report] == ["sent"]
    assert bodies == [b"abc", b"abc"]


async def test_two_logs_on_one_flow_tell_the_same_story():
    one, two, backend = mv.MessageLog(), mv.MessageLog(), mv.connect("memory://")
    both = mv.observe(mv.observe(backend, one), two)
    topic, server = both.topic("t"), both.server("t", max_attempts=2, backoff=0)
    server.start(refuse)
    await topic.publish(b"x")
    await one.settled(5)
    await two.settled(5)
    await server.shutdown()
    names = ["operation", "message_id", "parent_id", "conversation_id", "attempt", "outcome", "error"]
    assert columns(one, *names) == columns(two, *names)
    assert one.messages["state"].tolist() == two.messages["state"].tolist() == ["dead"]
    assert columns(one, "operation", "attempt") == [("publish", 1), ("receive", 1), ("receive", 2)]


async def test_an_observed_topic_for_one_subscription_is_observed_and_reaches_it_alone():
    log, backend = observed()
    got: dict[str, list[bytes]] = {"one": [], "two": []}
    servers = []
    for name, bodies in got.items():

        async def receiver(message: mv.Message, bodies: list[bytes] = bodies) -> None:
            bodies.append(message.body)

        server = backend.server("t", subscription=name)
        server.start(receiver)
        servers.append(server)
    topic = backend.topic("t")
    await topic.to_subscription("two").publish(b"x")
    await log.settled(5)
    for server in servers:
        await server.shutdown()
    assert got == {"one": [], "two": [b"x"]}
    assert columns(log, "operation", "topic") == [("publish", "t"), ("receive", "t")]
    assert log.topics["t"] is topic
