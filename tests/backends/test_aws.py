"""aws:// on moto, and the core of it on ministack too: third-party emulations of SNS and SQS, not AWS."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

import msgviz as mv
from msgviz.backends import aws
from tests.systems import system_fixture
from tests.systems.aws import Inbox, MinistackSystem, MotoSystem, bare_client, calls_of, fail, received

moto = system_fixture(MotoSystem)
ministack = system_fixture(MinistackSystem)


@pytest.fixture(params=["moto", "ministack"])
def either(request: pytest.FixtureRequest) -> MotoSystem:
    system: MotoSystem = request.getfixturevalue(request.param)
    return system


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def backend(moto: MotoSystem) -> AsyncIterator[aws.AwsBackend]:
    async with aws.AwsBackend.from_url(moto.url) as connected:
        yield connected


# The core path, on both emulations


async def test_attempts_dead_letter_and_redrive(either: MotoSystem, name: str) -> None:
    letters, again = Inbox(), Inbox()
    attempts: list[int] = []

    async def note(message: mv.Message) -> None:
        attempts.append(message.attempt)
        await fail(message)

    async with mv.connect(either.url) as backend:
        sent = {"A": ["1", "2"], "B": "b", "odd key": ""}
        server = backend.server(name, subscription="s", max_attempts=3, backoff=0.05)
        await backend.topic(name).publish(b"\xff\x00", attributes=sent)
        async with server.running(note), backend.server(f"{name}.s.dead").running(letters):
            [letter] = await letters.wait()
        assert attempts == [1, 2, 3]
        assert (letter.body, letter.attempt) == (b"\xff\x00", 1)
        expected = {
            **sent,
            "Dead-Letter-Reason": "ValueError: no such customer",
            "Dead-Letter-Topic": name,
            "Dead-Letter-Subscription": "s",
            "Dead-Letter-Attempts": "3",
        }
        assert letter.attributes == mv.Attributes(expected)
        await backend.topic(f"{name}.s.dead").publish(letter.body, attributes=letter.attributes)
        assert await backend.redrive(name, subscription="s") == 1
        async with backend.server(name, subscription="s").running(again):
            [redriven] = await again.wait()
        assert redriven.body == b"\xff\x00"
        assert redriven.attributes.pop("Dead-Letter-Redriven")
        assert redriven.attributes == mv.Attributes(sent)


# The wire


async def test_others_read_what_we_send(either: MotoSystem, name: str) -> None:
    async with mv.connect(either.url) as backend, bare_client("sqs", either) as sqs:
        await backend.declare(name, "s")
        await backend.topic(name).publish(b"hello\xff", attributes={"color": ["red", "green"], "Size": "L"})
        [raw] = await received(sqs, f"{name}--s")
    assert base64.b64decode(raw["Body"]) == b"hello\xff"
    said = {key: value["StringValue"] for key, value in raw["MessageAttributes"].items()}
    del said["Msgviz-Attributes"]
    assert said == {"Content-Transfer-Encoding": "base64", "Color": "red,green", "Size": "L"}


async def test_we_read_what_others_send(either: MotoSystem, name: str) -> None:
    inbox = Inbox()
    async with (
        mv.connect(either.url) as backend,
        bare_client("sns", either) as sns,
        backend.server(name).running(inbox),
    ):
        await backend.declare(name, "default")
        arn = (await sns.create_topic(Name=name))["TopicArn"]
        await sns.publish(
            TopicArn=arn,
            Message=base64.b64encode(b"a\xff").decode(),
            MessageAttributes={
                "content-transfer-encoding": {"DataType": "String", "StringValue": "base64"},
                "color": {"DataType": "String", "StringValue": "red,green"},
            },
        )
        [message] = await inbox.wait()
        assert (message.body, message.attributes) == (b"a\xff", mv.Attributes({"Color": "red,green"}))
        await sns.publish(TopicArn=arn, Message="as it is")
        assert (await inbox.wait(2))[1].body == b"as it is"


async def test_a_subscription_without_raw_delivery_is_understood(either: MotoSystem, name: str) -> None:
    inbox = Inbox()
    async with (
        mv.connect(either.url) as backend,
        bare_client("sns", either) as sns,
        bare_client("sqs", either) as sqs,
    ):
        url = (await sqs.create_queue(QueueName=f"{name}--default"))["QueueUrl"]
        said = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn = (await sns.create_topic(Name=name))["TopicArn"]
        await sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=said["Attributes"]["QueueArn"])
        existing = mv.connect(either.url, create=False)
        async with existing, existing.server(name, max_attempts=None).running(inbox):
            await backend.topic(name).publish(b"\xff\x00", attributes={"color": ["red", "green"], "e": ""})
            [message] = await inbox.wait()
    assert message.body == b"\xff\x00"
    assert message.attributes == mv.Attributes({"Color": ["red", "green"], "E": ""})


async def test_without_base64(moto: MotoSystem, name: str) -> None:
    async with mv.connect(moto.url, base64=False) as backend, bare_client("sqs", moto) as sqs:
        await backend.declare(name, "s")
        topic = backend.topic(name)
        assert not backend.features.binary_body
        with pytest.raises(mv.Unsupported, match="aws: a body is text"):
            await topic.publish(b"\xff")
        with pytest.raises(mv.Unsupported, match="aws: with base64=False"):
            await topic.publish(b"\0")
        await topic.publish("plain ünï".encode(), attributes={"A": "b"})
        [raw] = await received(sqs, f"{name}--s")
    assert raw["Body"] == "plain ünï"
    assert set(raw["MessageAttributes"]) == {"A"}


# Limits


async def test_ten_attributes_and_their_letter(backend: aws.AwsBackend, moto: MotoSystem, name: str) -> None:
    ten = {f"K{n}": str(n) for n in range(10)}
    topic, letters, again = backend.topic(name), Inbox(), Inbox()
    async with bare_client("sqs", moto) as sqs:
        await backend.declare(name, "bare")
        with pytest.raises(ValueError, match="at most 10 attributes, not 11"):
            await topic.publish(b"x", attributes={**ten, "K10": ""})
        server = backend.server(name, subscription="s", max_attempts=1)
        await topic.publish(b"x", attributes=ten)
        raw = await received(sqs, f"{name}--bare")
        assert len(raw) == 1
        assert len(raw[0]["MessageAttributes"]) == 10
        async with server.running(fail), backend.server(f"{name}.s.dead").running(letters):
            [letter] = await letters.wait()
        assert {key: letter.attributes[key] for key in ten} == ten
        assert letter.attributes["Dead-Letter-Reason"] == "ValueError: no such customer"
        await backend.topic(f"{name}.s.dead").publish(letter.body, attributes=letter.attributes)
        assert await backend.redrive(name, subscription="s") == 1
        async with backend.server(name, subscription="s").running(again):
            [redriven] = await again.wait()
    del redriven.attributes["Dead-Letter-Redriven"]
    assert redriven.attributes == mv.Attributes(ten)


async def test_the_largest_bodies(backend: aws.AwsBackend, name: str) -> None:
    inbox = Inbox()
    most = backend.features.max_body
    assert most is not None
    async with backend.server(name).running(inbox):
        topic = backend.topic(name)
        one = topic.to_subscription("default")
        await topic.publish(bytes(most), attributes={"A": "a" * 3000})
        with pytest.raises(ValueError, match=f"at most {most} bytes"):
            await topic.publish(bytes(most + 1))
        with pytest.raises(ValueError, match="at most 262144 bytes as they are sent"):
            await topic.publish(b"\xff" * most, attributes={"A": "a" * 6000})
        await one.publish(b"\xff" * 770_000)
        with pytest.raises(ValueError, match="at most"):
            await one.publish(b"\xff" * 790_000)
        sizes = sorted(len(message.body) for message in await inbox.wait(2))
    assert sizes == [most, 770_000]


@pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 - 120])
@pytest.mark.filterwarnings(
    "ignore:Sending a large body directly:ResourceWarning"
)  # of aiohttp, from 1 MiB on
async def test_a_letter_is_not_lost_for_its_size(
    backend: aws.AwsBackend, moto: MotoSystem, name: str, size: int
) -> None:
    """The largest message others can send leaves no room to say why it died."""
    letters = Inbox()
    server = backend.server(name, max_attempts=1)
    await backend.declare(name)
    async with bare_client("sqs", moto) as sqs:
        url = (await sqs.get_queue_url(QueueName=f"{name}--default"))["QueueUrl"]
        await sqs.send_message(QueueUrl=url, MessageBody="x" * size)
    async with server.running(fail), backend.server(f"{name}.default.dead").running(letters):
        [letter] = await letters.wait()
    assert letter.body == b"x" * size


# Delay, retry, throttle


async def test_a_topic_cannot_delay_a_queue_can(backend: aws.AwsBackend, name: str) -> None:
    inbox = Inbox()
    topic = backend.topic(name)
    async with backend.server(name).running(inbox):
        with pytest.raises(mv.Unsupported, match="aws: cannot delay a message"):
            await topic.publish(b"never", delay=1)
        with pytest.raises(mv.Unsupported, match="900 s, not 901 s"):
            await topic.to_subscription("default").publish(b"never", delay=901)
        began = time.monotonic()
        await topic.to_subscription("default").publish(b"later", delay=0.6)
        await topic.publish(b"now")
        bodies = [message.body for message in await inbox.wait(2)]
    assert time.monotonic() - began >= 0.6
    assert bodies == [b"now", b"later"]


async def test_a_retry_waits_for_a_visibility_timeout_with_jitter(moto: MotoSystem, name: str) -> None:
    async with aws.AwsBackend.from_url(moto.url, jitter=0.5) as backend:
        server = backend.server(name, backoff=100, concurrency=5)
        await backend.declare(name)
        calls = calls_of(backend, "ChangeMessageVisibility")
        async with server.running(fail):
            await asyncio.gather(*(backend.topic(name).publish(b"x") for _ in range(20)))
            async with asyncio.timeout(15):
                while len(calls) < 20:
                    await asyncio.sleep(0.02)
        waits = [call["VisibilityTimeout"] for call in calls[:20]]
    assert all(100 <= wait <= 150 for wait in waits)
    assert len(set(waits)) > 1


async def test_a_throttle_holds_up_the_server_and_is_no_failed_attempt(
    backend: aws.AwsBackend, name: str
) -> None:
    attempts: list[tuple[bytes, int, float]] = []

    async def receive(message: mv.Message) -> None:
        attempts.append((message.body, message.attempt, time.monotonic()))
        if len(attempts) == 1:
            message.attributes["Spoilt"] = "yes"
            await backend.topic(name).publish(b"second")
            raise aws.Throttle(1.5)

    inbox = Inbox(receive)
    async with backend.server(name, max_attempts=1, concurrency=2).running(inbox):
        await backend.topic(name).publish(b"first")
        messages = await inbox.wait(2)
    assert sorted(body for body, _, _ in attempts[1:]) == [b"first", b"second"]
    assert {attempt for _, attempt, _ in attempts} == {1}
    first = [moment for body, _, moment in attempts if body == b"first"]
    assert first[1] - first[0] >= 1.5
    assert all("Spoilt" not in message.attributes for message in messages)


async def test_a_shutdown_ends_a_throttle_and_gives_its_message_back(
    backend: aws.AwsBackend, name: str
) -> None:
    throttled = asyncio.Event()

    async def receive(message: mv.Message) -> None:
        throttled.set()
        raise aws.Throttle(1000)

    server = backend.server(name)
    server.start(receive)
    await backend.topic(name).publish(b"x")
    await asyncio.wait_for(throttled.wait(), 15)
    await asyncio.wait_for(server.shutdown(), 15)
    inbox = Inbox()
    async with backend.server(name).running(inbox):
        assert [message.body for message in await inbox.wait()] == [b"x"]


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1"])
def test_a_throttle_is_for_some_seconds(seconds: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="seconds of a Throttle"):
        aws.Throttle(seconds)


async def test_visibility_is_extended_while_a_receiver_works(moto: MotoSystem, name: str) -> None:
    async def work(message: mv.Message) -> None:
        await asyncio.sleep(2.5)

    inbox, other = Inbox(work), Inbox()
    async with (
        aws.AwsBackend.from_url(moto.url, visibility_timeout=1) as first,
        mv.connect(moto.url) as second,
    ):
        await first.declare(name, "default")
        await second.topic(name).publish(b"long")
        async with first.server(name).running(inbox):
            extended = calls_of(first, "ChangeMessageVisibilityBatch")
            async with asyncio.timeout(15):
                while not extended:
                    await asyncio.sleep(0.02)
            async with second.server(name).running(other):
                await inbox.wait()
                await second.topic(name).to_subscription("default").publish(b"last")
                async with asyncio.timeout(15):
                    while not {b"last"} & {m.body for m in (*inbox.messages, *other.messages)}:
                        await asyncio.sleep(0.02)
    assert [m.body for m in (*inbox.messages, *other.messages)].count(b"long") == 1


async def test_a_message_that_is_not_ours_any_more_ends_no_server(
    backend: aws.AwsBackend, moto: MotoSystem, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bare_client("sqs", moto) as sqs:

        async def purge(message: mv.Message) -> None:
            if message.body == b"first":
                await sqs.purge_queue(QueueUrl=(await sqs.get_queue_url(QueueName=queue))["QueueUrl"])

        queue, inbox = f"{name}--default", Inbox(purge)
        async with backend.server(name).running(inbox):
            await backend.topic(name).publish(b"first")
            await inbox.wait(1)
            await backend.topic(name).publish(b"second")
            await inbox.wait(2)
    assert "not ours any more" in caplog.text
