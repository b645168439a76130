"""SNS topics with SQS queues behind them, through aiobotocore."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from msgviz.backend import Features, check_name
from msgviz.backends.aws import wire
from msgviz.backends.aws.connection import MISSING, Connection, code_of, explain
from msgviz.backends.aws.names import is_dead_letter_topic, queue_name, topic_name
from msgviz.client import ClientBackend
from msgviz.dead_letters import dead_letter_topic
from msgviz.errors import MsgvizError, NotFound, Unsupported
from msgviz.message import Source
from msgviz.server import BackoffLike, Server
from msgviz.topic import Topic
from msgviz.urls import read_url, switch

logger = logging.getLogger("msgviz")

RETENTION = "1209600"  # seconds: the longest SQS keeps a message, 14 days
MAX_RECEIVES = 1000  # the most SQS allows in a redrive policy
SPARE_RECEIVES = 5  # given-back messages count as received


def features(*, base64: bool) -> Features:
    """What SNS and SQS can do together."""
    return Features(
        ordered=False,
        persistent=True,
        max_delay=0.0,
        multi_valued_attributes=True,
        max_attributes=wire.MAX_ATTRIBUTES,
        max_body=wire.largest_body(wire.SNS_LIMIT, base64=base64),
        binary_body=base64,
        counts_attempts=True,
        dead_letter=True,
        addressable_subscriptions=True,
        keeps_unsubscribed=False,
    )


@dataclass(slots=True)
class Queue:
    """A queue that was found or made."""

    url: str
    arn: str
    max_size: int
    receives: int | None
    """After so many receives SQS itself makes a message a dead letter; None where it never does."""
    dead_letters: str | None
    """The ARN of the queue it then goes to."""
    policy: str


class AwsBackend(ClientBackend):
    """A topic is an SNS topic, a subscription an SQS queue, so are its dead letters: ``aws://us-east-1``.

    Credentials are found as by every AWS client, or are those of ``aws://KEY:SECRET@us-east-1``. Options:

    - `endpoint`: where something else than AWS answers; as are ``SNS_ENDPOINT`` and ``SQS_ENDPOINT``
    - `profile`: of the AWS configuration files
    - `base64` (true): bodies travel in base64, as go-aws-msg has it. Without, a body is text
    - `visibility_timeout` (30): seconds until a message whose consumer died comes again
    - `wait` (1): seconds a server waits for a message in one request, up to 20. An idle server asks once a
      second, 2.6 million requests a month; with 20, a twentieth of that, but `shutdown` may take up to
      `timeout` seconds
    - `jitter` (0.1): the part of a retry's delay that is added to it at random
    - `timeout` (5), `create` (true): see `ClientBackend`

    SNS cannot delay a message, and drops one whose topic has no subscription. A queue takes 900 s of delay
    through `to_subscription`. FIFO queues are not supported. Of 10 attributes base64 takes one:
    what finds no place travels in ``Msgviz-Attributes``. A message that was given back counts as received.
    What exists keeps its attributes, but for a missing policy that lets the topic send to the queue, and a
    redrive policy that would bury too soon. SQS keeps messages for at most 14 days.
    """

    name = "aws"
    features = features(base64=True)
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **ClientBackend.OPTIONS,
        "base64": switch,
        "endpoint": str,
        "jitter": float,
        "profile": str,
        "visibility_timeout": int,
        "wait": int,
    }

    def __init__(
        self,
        region: str | None = None,
        *,
        where: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        profile: str | None = None,
        endpoint: str | None = None,
        base64: bool = True,
        visibility_timeout: int = 30,
        wait: int = 1,
        jitter: float = 0.1,
        timeout: float = 5.0,
        create: bool = True,
    ) -> None:
        super().__init__(where or f"aws://{region or ''}", timeout=timeout, create=create)
        _check_whole("visibility_timeout", visibility_timeout, 1, 43_200)
        _check_whole("wait", wait, 1, 20)
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter is a number from 0 to 1, not {jitter!r}")
        self.connection = Connection(
            region,
            endpoint=endpoint,
            access_key=access_key,
            secret_key=secret_key,
            profile=profile,
            timeout=timeout,
            wait=wait,
        )
        self.base64 = base64
        self.visibility_timeout = visibility_timeout
        self.wait = wait
        self.jitter = jitter
        self.features = features(base64=base64)
        self._arns: dict[str, str] = {}  # topic -> ARN
        self._queues: dict[tuple[str, str], Queue] = {}

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``aws://region``, ``aws://`` for the region of ``AWS_REGION``, and options in its query."""
        read = read_url(url, cls.OPTIONS, options)
        if len(read.hosts) > 1 or read.port is not None or read.path.strip("/"):
            raise ValueError(
                f"{read.safe}: write aws://region, such as aws://us-east-1; "
                "the option endpoint is for another address"
            )
        if (read.user is None) != (read.password is None):
            raise ValueError(f"{read.safe}: write aws://KEY:SECRET@region, or neither of the two")
        return cls(
            read.host or None,
            where=read.safe,
            access_key=read.user,
            secret_key=read.password,
            **read.options,
        )

    async def open(self) -> None:
        """Make the clients; AWS has no connection that lasts."""
        await self.connection.open()

    async def disconnect(self) -> None:
        """Close the clients."""
        await self.connection.close()

    def explain(self, error: Exception) -> MsgvizError | ValueError | None:
        """An error of the client library in the words of `msgviz.errors`."""
        return explain(error, self.safe_url)

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Make a topic with its queues where they are missing."""
        if not is_dead_letter_topic(topic):
            await self.call(self.topic_arn(topic))
        for source in sources:
            self.check_subscription(source.topic, source.subscription)
            if source.max_attempts is not None:
                dead = dead_letter_topic(source)
                await self.call(self.queue(Source(dead, "default")))
            await self.call(self.queue(source))

    def open_topic(self, name: str) -> Topic:
        """The bare topic of this name."""
        from msgviz.backends.aws.topics import AwsQueue, AwsTopic  # noqa: PLC0415  they know this module

        return AwsQueue(self, name, "default") if is_dead_letter_topic(name) else AwsTopic(self, name)

    def open_server(
        self, source: Source, *, concurrency: int, backoff: BackoffLike, decorators: tuple[Any, ...]
    ) -> Server:
        """A server of one queue."""
        from msgviz.backends.aws.server import AwsServer  # noqa: PLC0415  it knows this module

        self.check_subscription(source.topic, source.subscription)
        return self.add(
            AwsServer(self, source, concurrency=concurrency, backoff=backoff, decorators=decorators)
        )

    def check_subscription(self, topic: str, subscription: str) -> None:
        """Refuse a subscription that cannot be: dead letters are one queue."""
        check_name(subscription, "subscription")
        if is_dead_letter_topic(topic) and subscription != "default":
            raise Unsupported(
                self.name,
                f"the dead letters of {topic} are one queue: subscription 'default', not {subscription!r}",
            )

    async def start_redrive(
        self, topic: str, *, subscription: str = "default", rate: int | None = None
    ) -> str:
        """Have SQS itself move all dead letters of a subscription back to it; gives the task's handle.

        It returns at once, and no letter passes through here. They keep their ``Dead-Letter-`` attributes;
        `rate` is the most messages a second. `redrive` does it letter by letter.
        """
        self.check_open()
        source = Source(check_name(topic, "topic"), check_name(subscription, "subscription"))
        await self.connected()
        dead = await self.call(self.queue(Source(dead_letter_topic(source), "default")))
        target = await self.call(self.queue(source))
        limit = {} if rate is None else {"MaxNumberOfMessagesPerSecond": rate}
        started = await self.call(
            self.connection.sqs.start_message_move_task(
                SourceArn=dead.arn, DestinationArn=target.arn, **limit
            )
        )
        return str(started["TaskHandle"])

    async def topic_arn(self, topic: str) -> str:
        """The ARN of an SNS topic, made where it is missing."""
        arn = self._arns.get(topic)
        if arn is None:
            if self.create:
                arn = (await self.connection.sns.create_topic(Name=topic_name(topic)))["TopicArn"]
            else:
                arn = await self._existing_topic(topic)
            self._arns[topic] = arn
        return str(arn)

    async def _existing_topic(self, topic: str) -> str:
        account = await self.connection.account()
        partition = "aws-cn" if self.connection.region.startswith("cn-") else "aws"
        if self.connection.region.startswith("us-gov-"):
            partition = "aws-us-gov"
        arn = f"arn:{partition}:sns:{self.connection.region}:{account}:{topic_name(topic)}"
        try:
            await self.connection.sns.get_topic_attributes(TopicArn=arn)
        except Exception as error:
            if code_of(error) in MISSING:
                raise NotFound(f"{self.safe_url}: there is no topic {topic!r} ({arn})") from error
            raise
        return arn

    async def queue(self, source: Source) -> Queue:
        """The queue of a subscription, or of dead letters; made where it is missing."""
        key = (source.topic, source.subscription)
        queue = self._queues.get(key)
        if queue is None:
            url = await self._queue_url(source)
            queue = await self.look_at(url)
            if self.create and not is_dead_letter_topic(source.topic):
                await self._subscribe(source, queue)
            self._queues[key] = queue
        if self.create and source.max_attempts is not None:
            await self.bury_after(source, queue, min(source.max_attempts + SPARE_RECEIVES, MAX_RECEIVES))
        return queue

    async def look_at(self, url: str) -> Queue:
        """A queue, from what SQS says of it."""
        found = await self.connection.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["QueueArn", "RedrivePolicy", "MaximumMessageSize", "Policy"]
        )
        said = found.get("Attributes", {})
        redrive = json.loads(said.get("RedrivePolicy") or "{}")
        return Queue(
            url,
            arn=said["QueueArn"],
            max_size=int(said.get("MaximumMessageSize", wire.SQS_LIMIT)),
            receives=int(redrive["maxReceiveCount"]) if redrive else None,
            dead_letters=redrive.get("deadLetterTargetArn"),
            policy=said.get("Policy") or "",
        )

    async def _queue_url(self, source: Source) -> str:
        sqs, name = self.connection.sqs, queue_name(source.topic, source.subscription)
        try:
            return str((await sqs.get_queue_url(QueueName=name))["QueueUrl"])
        except Exception as error:
            if code_of(error) not in MISSING:
                raise
            if not self.create:
                raise NotFound(f"{self.safe_url}: there is no queue {name!r} for {source}") from error
        try:
            made = await sqs.create_queue(
                QueueName=name,
                Attributes={
                    "MessageRetentionPeriod": RETENTION,
                    "VisibilityTimeout": str(self.visibility_timeout),
                },
            )
        except Exception as error:
            if code_of(error) not in ("QueueNameExists", "QueueAlreadyExists"):
                raise
            made = await sqs.get_queue_url(QueueName=name)  # somebody made it just now, in another way
        return str(made["QueueUrl"])

    async def _subscribe(self, source: Source, queue: Queue) -> None:
        arn = await self.topic_arn(source.topic)
        if not queue.policy:
            queue.policy = json.dumps(_policy(arn, queue.arn))
            await self.connection.sqs.set_queue_attributes(
                QueueUrl=queue.url, Attributes={"Policy": queue.policy}
            )
        elif arn not in queue.policy:
            logger.warning("%s: the policy of its queue does not name %s, which may not send", source, arn)
        try:
            await self.connection.sns.subscribe(
                TopicArn=arn,
                Protocol="sqs",
                Endpoint=queue.arn,
                Attributes={"RawMessageDelivery": "true"},
                ReturnSubscriptionArn=True,
            )
        except Exception as error:
            # It is subscribed, with other attributes: both forms of delivery are understood.
            if code_of(error) not in ("InvalidParameter", "InvalidParameterException"):
                raise
            logger.info("%s: %s", source, error)

    async def bury_after(self, source: Source, queue: Queue, receives: int) -> None:
        """Have SQS itself bury what was received so often, and not sooner: see `SPARE_RECEIVES`."""
        if queue.receives is not None and queue.receives >= receives:
            return
        if queue.dead_letters is None:
            queue.dead_letters = (await self.queue(Source(dead_letter_topic(source), "default"))).arn
        policy = {"deadLetterTargetArn": queue.dead_letters, "maxReceiveCount": receives}
        await self.connection.sqs.set_queue_attributes(
            QueueUrl=queue.url, Attributes={"RedrivePolicy": json.dumps(policy)}
        )
        queue.receives = receives


def _policy(topic_arn: str, queue_arn: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "msgviz",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
            }
        ],
    }


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is a whole number of seconds from {least} to {most}, not {value!r}")
