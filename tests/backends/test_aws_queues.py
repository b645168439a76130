"""Queues that aws:// makes and finds, and how it connects. On moto: a third-party emulation, not AWS."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

import msgviz as mv
from msgviz.backends import aws
from tests.systems import free_port, system_fixture
from tests.systems.aws import Inbox, MotoSystem, bare_client, calls_of

moto = system_fixture(MotoSystem)


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def backend(moto: MotoSystem) -> AsyncIterator[aws.AwsBackend]:
    async with aws.AwsBackend.from_url(moto.url) as connected:
        yield connected


# Queues


async def policy_of(sqs: Any, queue: str) -> dict[str, Any]:
    url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
    said = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    policy: dict[str, Any] = json.loads(said.get("RedrivePolicy", "{}"))
    return policy


async def test_sqs_buries_what_nobody_came_to_bury(moto: MotoSystem, name: str) -> None:
    async with bare_client("sqs", moto) as sqs:
        for attempts, receives in ((None, None), (3, 8), (2, 8), (5, 10), (None, 1000)):
            inbox = Inbox()
            async with (
                mv.connect(moto.url) as backend,
                backend.server(name, max_attempts=attempts).running(inbox),
            ):
                await backend.topic(name).publish(b"x")
                await inbox.wait()
                await backend.topic(name).to_subscription("default").publish(b"y")
                await backend.declare(name, "default")
            policy = await policy_of(sqs, f"{name}--default")
            assert policy.get("maxReceiveCount") == receives
        assert policy["deadLetterTargetArn"].endswith(f":{name}_2Edefault_2Edead")


async def test_what_sqs_buried_is_a_letter(backend: aws.AwsBackend, moto: MotoSystem, name: str) -> None:
    """Where it counts on from the queue it comes from, a letter still gets its attempts."""
    letters = Inbox()
    backend.server(name, max_attempts=1)
    await backend.declare(name)
    await backend.topic(name).publish(b"poison", attributes={"A": "a"})
    async with bare_client("sqs", moto) as sqs:
        url = (await sqs.get_queue_url(QueueName=f"{name}--default"))["QueueUrl"]
        for _ in range(7):
            await sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    async with backend.server(f"{name}.default.dead", max_attempts=2).running(letters):
        [letter] = await letters.wait()
    assert (letter.body, letter.attempt, letter.attributes["A"]) == (b"poison", 2, "a")


async def test_a_letter_of_sqs_says_where_it_comes_from(backend: aws.AwsBackend, name: str) -> None:
    """As AWS answers; no emulation does."""
    letters = Inbox()
    server = backend.server(f"{name}.s.dead", max_attempts=None)
    await backend.declare(f"{name}.s.dead", "default")
    source = f"arn:aws:sqs:us-east-1:123456789012:{name}--s"
    with Stubber(backend.connection.sqs) as stub:
        message = {
            "Body": "x",
            "ReceiptHandle": "r",
            "Attributes": {"ApproximateReceiveCount": "9", "DeadLetterQueueSourceArn": source},
        }
        stub.add_response("receive_message", {"Messages": [message]})
        stub.add_response("get_queue_url", {"QueueUrl": "http://q"}, {"QueueName": f"{name}--s",
                          "QueueOwnerAWSAccountId": "123456789012"})  # fmt: skip
        policy = json.dumps({"deadLetterTargetArn": "arn:x", "maxReceiveCount": 8})
        stub.add_response(
            "get_queue_attributes", {"Attributes": {"QueueArn": source, "RedrivePolicy": policy}}
        )
        stub.add_response("delete_message", {}, {"QueueUrl": ANY, "ReceiptHandle": "r"})
        for _ in range(50):
            stub.add_response("receive_message", {})
        async with server.running(letters):
            [letter] = await letters.wait()
    assert letter.attempt == 1
    assert letter.attributes == mv.Attributes(
        {
            "Dead-Letter-Reason": "SQS: it was received 8 times, and never deleted",
            "Dead-Letter-Topic": name,
            "Dead-Letter-Subscription": "s",
            "Dead-Letter-Attempts": "8",
        }
    )


async def test_sqs_itself_can_redrive(backend: aws.AwsBackend, name: str) -> None:
    """As AWS answers; no emulation knows this request."""
    backend.server(name)
    await backend.declare(name)
    arn = "arn:aws:sqs:us-east-1:123456789012:"
    with Stubber(backend.connection.sqs) as stub:
        stub.add_response(
            "start_message_move_task",
            {"TaskHandle": "t1"},
            {
                "SourceArn": f"{arn}{name}_2Edefault_2Edead",
                "DestinationArn": f"{arn}{name}--default",
                "MaxNumberOfMessagesPerSecond": 5,
            },
        )
        assert await backend.start_redrive(name, rate=5) == "t1"


async def test_the_dead_letters_of_a_subscription_are_one_queue(backend: aws.AwsBackend, name: str) -> None:
    with pytest.raises(mv.Unsupported, match="are one queue"):
        backend.server(f"{name}.s.dead", subscription="other")
    with pytest.raises(mv.Unsupported, match="are one queue"):
        backend.topic(f"{name}.s.dead").to_subscription("other")
    with pytest.raises(mv.Unsupported, match="are one queue"):
        await backend.declare(f"{name}.s.dead", "other")


async def test_a_queue_that_exists_keeps_its_policy(
    backend: aws.AwsBackend, moto: MotoSystem, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*"}]}
    async with bare_client("sqs", moto) as sqs:
        made = await sqs.create_queue(
            QueueName=f"{name}--s", Attributes={"Policy": json.dumps(policy), "DelaySeconds": "0"}
        )
        await backend.declare(name, "s")
        said = await sqs.get_queue_attributes(QueueUrl=made["QueueUrl"], AttributeNames=["Policy"])
    assert json.loads(said["Attributes"]["Policy"]) == policy
    assert "may not send" in caplog.text


async def test_what_a_cancelled_request_was_given_comes_back_at_once(
    backend: aws.AwsBackend, moto: MotoSystem, name: str
) -> None:
    """A request that waits on the server is given messages whoever has stopped listening."""
    await backend.declare(name, "default")
    for _ in range(3):
        server = backend.server(name)
        polls = calls_of(backend, "ReceiveMessage")
        server.start(Inbox())
        async with asyncio.timeout(15):
            while not polls:
                await asyncio.sleep(0.01)
        ending = asyncio.create_task(server.shutdown())
        await asyncio.sleep(0)
        await backend.topic(name).publish(b"x")
        await ending
        inbox = Inbox()
        began = time.monotonic()
        async with backend.server(name).running(inbox):
            assert [message.body for message in await inbox.wait()] == [b"x"]
        assert time.monotonic() - began < 15  # its lease is 30 s


# Connecting


async def test_the_environment_is_that_of_go_aws_msg(
    moto: MotoSystem, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "SNS_ENDPOINT": moto.endpoint,
        "SQS_ENDPOINT": moto.endpoint,
    }.items():
        monkeypatch.setenv(key, value)
    inbox = Inbox()
    async with aws.AwsBackend.from_url("aws://") as backend, backend.server(name).running(inbox):
        await backend.topic(name).publish(b"x")
        await inbox.wait()
        assert (await backend.topic_arn(name)).startswith("arn:aws:sns:eu-west-1:")
        assert aws.AwsBackend.from_url("aws://us-west-1").connection.region == "us-west-1"


@pytest.fixture
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No credentials and no region to be found, and nobody outside to be asked for them."""
    for key in (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, str(tmp_path / "none"))


@pytest.mark.usefixtures("_nowhere")
async def test_no_credentials(name: str) -> None:
    async with mv.connect(f"aws://us-east-1?endpoint=http://127.0.0.1:{free_port()}") as backend:
        with pytest.raises(mv.ConnectionFailed, match=r"aws://us-east-1: .*AWS_ACCESS_KEY_ID"):
            await backend.topic(name).publish(b"x")


@pytest.mark.usefixtures("_nowhere")
def test_no_region() -> None:
    with pytest.raises(ValueError, match="AWS_REGION"):
        mv.connect("aws://")
    with pytest.raises(ValueError, match="profile"):
        mv.connect("aws://us-east-1", profile="none")


async def test_a_region_that_cannot_be(name: str) -> None:
    async with mv.connect("aws://a:b@us_east_1") as backend:
        with pytest.raises(ValueError, match="us_east_1"):
            await backend.topic(name).publish(b"x")


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("aws://us-east-1:4566", "option endpoint"),
        ("aws://us-east-1/orders", "option endpoint"),
        ("aws://us-east-1,us-west-1", "option endpoint"),
        ("aws://key@us-east-1", "KEY:SECRET"),
        ("aws://us-east-1?wait=21", "wait is a whole number of seconds from 1 to 20"),
        ("aws://us-east-1?wait=0", "wait is"),
        ("aws://us-east-1?visibility_timeout=0", "visibility_timeout is"),
        ("aws://us-east-1?visibility_timeout=1.5", "visibility_timeout cannot be"),
        ("aws://us-east-1?jitter=2", "jitter is"),
        ("aws://us-east-1?fifo=true", "no option 'fifo'"),
    ],
)
def test_urls_that_cannot_be(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        mv.connect(url)


async def test_a_long_wait_is_not_slower(moto: MotoSystem, name: str) -> None:
    inbox = Inbox()
    async with mv.connect(moto.url, wait=3) as backend:
        server = backend.server(name)
        await backend.declare(name)
        async with server.running(inbox):
            async with asyncio.timeout(15):
                while server.looks_empty() is None:
                    await asyncio.sleep(0.02)
            await backend.topic(name).publish(b"x")
            await inbox.wait()
        assert await backend.redrive(name) == 0
