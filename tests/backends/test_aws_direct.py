"""SNS topics by ARN and SQS queues by URL, without a backend. On moto: a third-party emulation, not AWS."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

import msgviz as mv
from msgviz.backends import aws
from tests.systems import system_fixture
from tests.systems.aws import Inbox, MotoSystem, bare_client, fail, received

moto = system_fixture(MotoSystem)


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


async def make_queue(sqs: Any, name: str, **attributes: str) -> tuple[str, str]:
    """The URL and the ARN of a new queue."""
    url = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
    said = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, said["Attributes"]["QueueArn"]


async def test_a_topic_a_queue_and_its_server(moto: MotoSystem, name: str) -> None:
    inbox = Inbox()
    async with bare_client("sns", moto) as sns, bare_client("sqs", moto) as sqs:
        url, queue = await make_queue(sqs, name)
        arn = (await sns.create_topic(Name=name))["TopicArn"]
        await sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"}
        )
        server = aws.SQSServer(url, concurrency=2)
        async with (
            server.running(inbox),
            aws.SNSTopic(arn, endpoint=moto.endpoint) as topic,
            aws.SQSTopic(url) as direct,
        ):
            await topic.publish(b"\xff\x00", attributes={"A": ["1", "2"]})
            [first] = await inbox.wait()
            await direct.publish(b"later", delay=1)
            with pytest.raises(mv.Unsupported, match="cannot delay"):
                await topic.publish(b"never", delay=1)
            with pytest.raises(mv.Unsupported):
                topic.to_subscription("s")
            with pytest.raises(mv.Unsupported):
                direct.to_subscription("s")
            second = (await inbox.wait(2))[1]
        with pytest.raises(mv.BackendClosed):
            await topic.publish(b"closed")
    assert (first.body, first.attributes) == (b"\xff\x00", mv.Attributes({"A": ["1", "2"]}))
    assert (second.body, second.source) == (b"later", mv.message.Source(name, "default"))
    assert topic.name == direct.name == server.topic == name


async def test_without_base64_as_in_go_aws_msg(moto: MotoSystem, name: str) -> None:
    async with bare_client("sqs", moto) as sqs:
        url, _ = await make_queue(sqs, name)
        async with aws.SQSTopic(url, base64=False, name="orders") as topic:
            assert topic.name == "orders"
            await topic.publish(b"plain", attributes={"A": ["1", "2"]})
        [raw] = await received(sqs, name)
    assert raw["Body"] == "plain"
    assert raw["MessageAttributes"]["A"]["StringValue"] == "1,2"


@pytest.mark.parametrize("given", [True, False])
async def test_dead_letters(moto: MotoSystem, name: str, given: bool) -> None:
    """To the queue that is given, else to the one of the queue's own policy."""
    async with bare_client("sqs", moto) as sqs:
        dead, arn = await make_queue(sqs, f"{name}-dead")
        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": 9}
        attributes = {} if given else {"RedrivePolicy": json.dumps(policy)}
        url, _ = await make_queue(sqs, name, **attributes)
        server = aws.SQSServer(url, max_attempts=2, dead_letters=dead if given else None)
        letters = Inbox()
        async with (
            aws.SQSTopic(url) as topic,
            server.running(fail),
            aws.SQSServer(dead).running(letters),
        ):
            await topic.publish(b"x")
            [letter] = await letters.wait()
    assert letter.body == b"x"
    assert letter.attributes["Dead-Letter-Topic"] == name
    assert letter.attributes["Dead-Letter-Attempts"] == "2"


async def test_no_queue_for_dead_letters(moto: MotoSystem, name: str) -> None:
    async with bare_client("sqs", moto) as sqs:
        url, _ = await make_queue(sqs, name)
        server = aws.SQSServer(url, max_attempts=2)
        with pytest.raises(mv.NotFound, match="dead_letters"):
            await server.serve(fail)
        await server.shutdown()


async def test_what_is_not_there(moto: MotoSystem, name: str) -> None:
    async with aws.SQSTopic(f"{moto.endpoint}/123456789012/{name}") as queue:
        with pytest.raises(mv.NotFound, match=name):
            await queue.publish(b"x")
    async with aws.SNSTopic(f"arn:aws:sns:us-east-1:123456789012:{name}", endpoint=moto.endpoint) as topic:
        with pytest.raises(mv.NotFound, match=name):
            await topic.publish(b"x")
    server = aws.SQSServer(f"{moto.endpoint}/123456789012/{name}")
    with pytest.raises(mv.NotFound, match=name):
        await server.serve(fail)
    await server.shutdown()
    await server.shutdown()


def test_the_region_is_that_of_the_address() -> None:
    topic = aws.SNSTopic("arn:aws:sns:eu-west-1:123456789012:orders")
    assert (topic.backend.connection.region, topic.name) == ("eu-west-1", "orders")
    queue = aws.SQSTopic("https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
    assert (queue.backend.connection.region, queue.name) == ("eu-west-1", "orders")
    server = aws.SQSServer("https://sqs.eu-west-1.amazonaws.com/123456789012/orders--billing")
    assert (server.topic, server.subscription) == ("orders", "billing")
    assert aws.SQSTopic("http://127.0.0.1:1/1/q", region="us-west-2").backend.connection.region == "us-west-2"


@pytest.mark.parametrize(
    "arn", ["orders", "arn:aws:sqs:us-east-1:1:orders", "arn:aws:sns::1:orders", "a:b:c:d:e:f"]
)
def test_arns_that_cannot_be(arn: str) -> None:
    with pytest.raises(ValueError, match="no ARN of an SNS topic"):
        aws.SNSTopic(arn)


@pytest.mark.parametrize(
    "url", ["orders", "https://sqs.us-east-1.amazonaws.com/", "ftp://a/1/q", "https:///1/q"]
)
@pytest.mark.parametrize("make", [aws.SQSTopic, aws.SQSServer])
def test_urls_that_cannot_be(make: Any, url: str) -> None:
    with pytest.raises(ValueError, match="no URL of an SQS queue"):
        make(url)


def test_fifo_is_not_supported() -> None:
    with pytest.raises(mv.Unsupported, match="FIFO"):
        aws.SQSServer("https://sqs.us-east-1.amazonaws.com/1/orders.fifo")
    with pytest.raises(mv.Unsupported, match="FIFO"):
        aws.SNSTopic("arn:aws:sns:us-east-1:1:orders.fifo")


@pytest.mark.parametrize("attempts", [0, True, 1.5])
def test_attempts_that_cannot_be(attempts: Any) -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        aws.SQSServer("http://127.0.0.1:1/1/q", max_attempts=attempts)
