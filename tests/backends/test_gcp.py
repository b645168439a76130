"""What is particular to Google Cloud Pub/Sub, on the vendor's emulator."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import DeadlineExceeded

import msgviz as mv
from msgviz.backends.gcp.server import GcpServer
from tests.backends.closing import closed_meanwhile
from tests.conftest import require
from tests.systems import system_fixture
from tests.systems.pubsub import PubSubSystem

pubsub = system_fixture(PubSubSystem)


def unique(what: str = "orders") -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def backend(pubsub: PubSubSystem) -> AsyncIterator[Any]:
    async with mv.connect(pubsub.url) as backend:
        yield backend


def topic_path(backend: Any, topic: str) -> str:
    return f"projects/{backend.project}/topics/{topic}"


async def bare_publish(
    backend: Any, topic: str, body: bytes, ordering_key: str = "", **attributes: str
) -> str:
    """Publish as any other program would; gives the message's id."""
    message = {"data": body, "attributes": attributes, "ordering_key": ordering_key}
    answer = await backend.publisher.publish(topic=topic_path(backend, topic), messages=[message])
    (message_id,) = answer.message_ids
    return str(message_id)


async def bare_subscribe(backend: Any, topic: str, name: str) -> str:
    path = f"projects/{backend.project}/subscriptions/{name}"
    await backend.subscriber.create_subscription(name=path, topic=topic_path(backend, topic))
    return path


async def bare_pull(backend: Any, path: str) -> Any:
    answer = await backend.subscriber.pull(subscription=path, max_messages=1, timeout=15)
    await backend.subscriber.acknowledge(
        subscription=path, ack_ids=[one.ack_id for one in answer.received_messages]
    )
    return answer.received_messages[0].message


class Got(list[mv.Message]):
    """A receiver that keeps what it got; fails the first `failures` attempts at each body in `bad`."""

    def __init__(self, *bad: bytes, failures: int = 1000) -> None:
        self.bad = bad
        self.failures = failures
        self.changed = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        self.append(message)
        self.changed.set()
        if message.body in self.bad and message.attempt <= self.failures:
            raise ValueError("ü" * 900)

    async def count(self, count: int) -> None:
        async with asyncio.timeout(15):
            while len(self) < count:
                self.changed.clear()
                await self.changed.wait()


async def test_a_message_of_another_program_arrives_with_its_id_and_time(backend: Any) -> None:
    topic, got = unique(), Got()
    async with backend.server(topic).running(got):
        await backend.declare(topic)
        message_id = await bare_publish(backend, topic, b"\xff\0", source="web", Tab="a\tb")
        await got.count(1)
    (message,) = got
    assert message.body == b"\xff\0"
    assert message.attributes["Source"] == "web"
    assert message.attributes["Tab"] == "a\tb"
    # The names and the form that go-msg-pubsub gives them.
    assert message.attributes["_ps_message_id"] == message_id
    published = time.strptime(message.attributes["_ps_message_publishtime"], "%Y-%m-%dT%H:%M:%SZ")
    assert abs(time.mktime(published) - time.mktime(time.gmtime())) < 3600


async def test_another_program_reads_our_attributes(backend: Any) -> None:
    topic = unique()
    await backend.declare(topic)
    path = await bare_subscribe(backend, topic, f"{topic}-theirs")
    attributes = {"source": "web", "Empty": "", "Color": ["red", "green"], "googly": "eyes", "": "none"}
    await backend.topic(topic).publish(b"body", attributes=attributes)
    message = await bare_pull(backend, path)
    assert message.data == b"body"
    assert {"Source": "web", "Empty": ""}.items() <= dict(message.attributes).items()
    assert set(message.attributes) == {"Source", "Empty", "Msgviz-Attributes"}


async def test_what_pubsub_cannot_carry_arrives_all_the_same(backend: Any) -> None:
    topic, got = unique(), Got()
    sent = {
        "Color": ["red", "", "red"], "googly": "eyes", "": "no key", "Half": "\ud83d",
        "Msgviz-Attributes": "mine", "Msgviz-To": "somebody", "Msgviz-Attempts": "7",
        "Many": [f"{n}-" + "ä" * 500 for n in range(9)],
    }  # fmt: skip
    async with backend.server(topic).running(got):
        await backend.topic(topic).publish(b"", attributes=sent)
        await backend.topic(topic).publish(b"", attributes={})
        await got.count(2)
    arrived = sorted((message.attributes for message in got), key=len)
    assert set(arrived[0]) == {"_ps_message_id", "_ps_message_publishtime"}
    for key, value in sent.items():
        assert arrived[1].get_all(key) == ([value] if isinstance(value, str) else value)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": "b"}', '{"a": [1]}', "[" * 1000, "null", '"', '{"Odd": ["fine"]}']
)
async def test_odd_attributes_of_others_stop_nothing(backend: Any, text: str) -> None:
    topic, got = unique(), Got()
    async with backend.server(topic).running(got):
        await backend.declare(topic)
        odd = {"Msgviz-Attributes": text, "Msgviz-Attempts": "many", "Dead-Letter-Attempts": "x"}
        await bare_publish(backend, topic, b"odd", **odd)
        await got.count(1)
    attributes = got[0].attributes
    assert attributes["Odd"] == "fine" if "fine" in text else attributes["Msgviz-Attributes"] == text
    assert got[0].attempt == 1


@pytest.mark.parametrize(
    ("attributes", "limit"),
    [
        ({"Value": "ü" * 513}, "1024"),
        ({"Value": ["short", "x" * 1025]}, "1024"),
        ({"k" * 257: "x"}, "256"),
        ({"ü" * 129: "x"}, "256"),
        ({f"Key-{n}": "v" for n in range(101)}, "100"),
        ({"Many": ["x" * 1000] * 200}, "100"),
    ],
    ids=[
        "value",
        "one of several values",
        "key",
        "key in UTF-8",
        "attributes",
        "attributes of several values",
    ],
)
async def test_a_limit_is_named_and_nothing_sent(
    backend: Any, attributes: dict[str, str | list[str]], limit: str
) -> None:
    topic, got = unique(), Got()
    async with backend.server(topic).running(got):
        with pytest.raises(ValueError, match=limit):
            await backend.topic(topic).publish(b"too much", attributes=attributes)
        await backend.topic(topic).publish(b"next", attributes={"Value": "ü" * 512, "k" * 256: "x"})
        await got.count(1)
    assert [message.body for message in got] == [b"next"]


async def test_a_message_is_too_large_with_its_attributes(backend: Any) -> None:
    body = bytes(backend.features.max_body)
    topic, got = unique(), Got()
    async with backend.server(topic).running(got):
        with pytest.raises(ValueError, match="at most 9994000 bytes"):
            await backend.topic(topic).publish(body, attributes={f"Key-{n}": "v" * 1000 for n in range(9)})
        await backend.topic(topic).publish(body, attributes={"Kind": "large"})
        await got.count(1)
    assert got[0].body == body


@pytest.mark.parametrize("name", ["t", "a", "google", "9 lives", "ünï/cöde", ".", "msgviz.t", "a.b", "%41"])
async def test_any_sensible_name_works(backend: Any, name: str) -> None:
    got = Got()
    async with backend.server(name, subscription=name).running(got):
        await backend.topic(name).publish(name.encode())
        await got.count(1)
    assert [message.text for message in got] == [name]


async def test_a_name_that_cannot_be_is_refused(backend: Any) -> None:
    with pytest.raises(ValueError, match="3 to 255"):
        backend.topic("x" * 256)
    with pytest.raises(ValueError, match="3 to 255"):
        backend.server("x" * 200, subscription="y" * 100)
    with pytest.raises(ValueError, match="characters"):
        await backend.declare("orders", "y" * 200)


@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "streaming pull"])
async def test_messages_of_one_ordering_key_stay_in_order(pubsub: PubSubSystem, streaming: bool) -> None:
    topic, done = unique(), []
    got = Got(b"a3", b"b1", failures=2)

    async def receive(message: mv.Message) -> None:
        await asyncio.sleep(0.02 if message.body.endswith(b"0") else 0)
        await got(message)
        done.append(message.text)

    options: dict[str, Any] = {"ordering_key": "ordering-key", "streaming": streaming}
    async with mv.connect(pubsub.url, **options) as backend:
        server = backend.server(topic, subscription="billing", concurrency=4, backoff=0.05)
        orders = backend.topic(topic)
        await asyncio.gather(
            *(
                orders.publish(f"{key}{n}".encode(), attributes={"Ordering-Key": key})
                for key in "ab"
                for n in range(6)
            )
        )
        await orders.publish(b"none")
        async with server.running(receive):
            await got.count(13 + 2 + 2)
        found = await backend.subscriber.get_subscription(  # type: ignore[attr-defined]
            subscription=f"projects/msgviz-tests/subscriptions/{topic}.billing"
        )
    assert found.enable_message_ordering
    for key in "ab":
        assert [text for text in done if text.startswith(key)] == [f"{key}{n}" for n in range(6)]
    assert [m.attempt for m in got if m.body == b"a3"] == [1, 2, 3]


async def test_a_dead_letter_policy_takes_what_nobody_buries(backend: Any) -> None:
    topic, letters = unique(), Got()
    server = backend.server(topic, subscription="billing", max_attempts=2)
    await backend.declare(topic)
    path = f"projects/msgviz-tests/subscriptions/{topic}.billing"
    found = await backend.subscriber.get_subscription(subscription=path)
    assert found.dead_letter_policy.dead_letter_topic == topic_path(backend, f"{topic}.billing.dead")
    assert found.dead_letter_policy.max_delivery_attempts == 7
    await backend.topic(topic).to_subscription("billing").publish(b"poison")
    for _ in range(7):
        answer = await backend.subscriber.pull(subscription=path, max_messages=1, timeout=15)
        await backend.subscriber.modify_ack_deadline(
            subscription=path,
            ack_ids=[one.ack_id for one in answer.received_messages],
            ack_deadline_seconds=0,
        )
    with contextlib.suppress(DeadlineExceeded):  # the emulator moves it when it is next asked for
        await backend.subscriber.pull(subscription=path, max_messages=1, timeout=0.5)
    async with backend.server(f"{topic}.billing.dead").running(letters):
        await letters.count(1)
    assert letters[0].body == b"poison"
    assert letters[0].attributes["CloudPubSubDeadLetterSourceSubscription"] == f"{topic}.billing"
    await server.shutdown()


async def test_a_full_message_of_another_program_can_die_and_come_back(backend: Any) -> None:
    topic, got, letters = unique(), Got(b"full", failures=2), Got()
    full = {f"key-{n}": f"value {n}" for n in range(100)}
    server = backend.server(topic, subscription="billing", max_attempts=2)
    async with server.running(got):
        await backend.declare(topic)
        await bare_publish(backend, topic, b"full", **full)
        await got.count(2)
        other = backend.server(f"{topic}.billing.dead", subscription="other")
        await backend.declare(f"{topic}.billing.dead")
        async with other.running(letters):
            assert await redriven(backend, topic) == 1
            await got.count(3)
    for key, value in full.items():
        assert got[2].attributes[key] == value


async def redriven(backend: Any, topic: str) -> int:
    """Redrive until there was something: a letter may be on its way yet."""
    async with asyncio.timeout(15):
        while not (moved := await backend.redrive(topic, subscription="billing")):
            pass
    return int(moved)


async def test_a_long_reason_fits_into_a_letter(backend: Any) -> None:
    topic, letters = unique(), Got()
    async with (
        backend.server(topic, max_attempts=1).running(Got(b"bad")),
        backend.server(f"{topic}.default.dead").running(letters),
    ):
        await backend.topic(topic).publish(b"bad")
        await letters.count(1)
    reason = letters[0].attributes["Dead-Letter-Reason"]
    assert reason.startswith("ValueError: üüü")
    assert 1000 < len(reason.encode()) <= 1024


async def test_without_a_limit_a_message_is_tried_more_often_than_pubsub_counts(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GcpServer, "RENEW", 3)
    topic, got, fine = unique(), Got(b"stubborn", failures=8), Got()
    server = backend.server(topic, subscription="billing", max_attempts=None)
    other = backend.server(topic, subscription="other")
    async with server.running(got), other.running(fine):
        await backend.topic(topic).publish(b"stubborn", attributes={"Color": ["red", "green"]})
        await got.count(9)
        await fine.count(1)
    assert [message.attempt for message in got] == list(range(1, 10))
    assert {tuple(message.attributes.get_all("Color")) for message in got} == {("red", "green")}
    assert len(fine) == 1


async def test_more_attempts_than_pubsub_counts_are_refused(backend: Any) -> None:
    with pytest.raises(mv.Unsupported, match="at most 100 attempts"):
        backend.server("orders", max_attempts=101)


async def test_one_subscription_cannot_be_addressed_beside_one_made_elsewhere(backend: Any) -> None:
    topic = unique()
    await backend.declare(topic, "billing")
    await bare_subscribe(backend, topic, f"{topic}-theirs")
    with pytest.raises(mv.Unsupported, match=f"{topic}-theirs"):
        await backend.topic(topic).to_subscription("billing").publish(b"alone")


async def test_a_subscription_made_elsewhere_is_served_under_its_own_name(pubsub: PubSubSystem) -> None:
    topic, got = unique(), Got(b"bad", failures=1)
    async with mv.connect(pubsub.url, subscription_name="{subscription}", create=False) as backend:
        await backend.connected()  # type: ignore[attr-defined]
        with pytest.raises(mv.NotFound, match=topic):
            await backend.topic(topic).publish(b"nowhere")
        await backend.publisher.create_topic(name=topic_path(backend, topic))  # type: ignore[attr-defined]
        await bare_subscribe(backend, topic, f"{topic}-theirs")
        async with backend.server(topic, subscription=f"{topic}-theirs", max_attempts=None).running(got):
            await backend.topic(topic).publish(b"bad")
            await got.count(2)
    # No policy, so that Pub/Sub does not count: the server does, for as long as it lives.
    assert [message.attempt for message in got] == [1, 2]


async def test_a_subscription_of_another_topic_is_told(pubsub: PubSubSystem) -> None:
    topic, other = unique(), unique("other")
    async with mv.connect(pubsub.url, subscription_name="{subscription}") as backend:
        await backend.declare(other, f"{topic}-mine")
        with pytest.raises(mv.NotFound, match=other):
            await backend.declare(topic, f"{topic}-mine")


async def test_the_emulator_is_found_in_the_environment(
    pubsub: PubSubSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.emulator)
    got = Got()
    async with mv.connect("gcp://msgviz-tests") as backend:
        topic = unique()
        async with backend.server(topic).running(got):
            await backend.topic(topic).publish(b"found")
            await got.count(1)


async def test_a_delay_is_refused(backend: Any) -> None:
    with pytest.raises(mv.Unsupported, match="cannot delay"):
        await backend.topic("orders").publish(b"x", delay=1)


@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "streaming pull"])
async def test_all_is_made_anew_after_the_emulator_forgot_it(tmp_path: Path, streaming: bool) -> None:
    reason = PubSubSystem.missing()
    require(reason is None, reason or "")
    system, topic, got = PubSubSystem(tmp_path), unique(), Got(b"bad", failures=2)
    system.start()
    try:
        async with mv.connect(system.url, streaming=streaming) as backend:
            server = backend.server(topic, subscription="billing", max_attempts=2)
            waiting = backend.server(topic, subscription="waiting")
            async with server.running(got):
                await backend.topic(topic).publish(b"before")
                await got.count(1)
                await asyncio.to_thread(system.kill)
                with pytest.raises(mv.ConnectionFailed):
                    await backend.topic(topic).publish(b"away")
                await asyncio.to_thread(system.start)
                async with asyncio.timeout(15):
                    while len(got) < 3:
                        try:
                            await backend.topic(topic).publish(b"bad")
                        except mv.ConnectionFailed:
                            await asyncio.sleep(0.05)
                        else:
                            await got.count(3)
            late, letters = Got(), Got()
            async with waiting.running(late), backend.server(f"{topic}.billing.dead").running(letters):
                await late.count(1)
                await letters.count(1)
            assert (late[0].body, letters[0].body) == (b"bad", b"bad")
    finally:
        system.stop()


@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "streaming pull"])
async def test_close_leaves_no_thread_and_no_task(pubsub: PubSubSystem, streaming: bool) -> None:
    gc.collect()
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with mv.connect(pubsub.url, streaming=streaming) as backend:
        topic, got = unique(), Got(b"waits", failures=1)
        backend.server(topic, backoff=60).start(got)
        await backend.topic(topic).publish(b"waits")
        await got.count(1)
    assert asyncio.all_tasks() == tasks
    del backend
    gc.collect()
    async with asyncio.timeout(15):
        while not set(threading.enumerate()) <= threads:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("connected", [False, True])
async def test_a_backend_that_is_closed_meanwhile(pubsub: PubSubSystem, connected: bool) -> None:
    await closed_meanwhile(lambda: mv.connect(pubsub.url), unique(), connected=connected)
