"""An SNS topic by its ARN and an SQS queue by its URL, without a backend: as go-aws-msg has them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from msgviz.backend import check_name
from msgviz.backends.aws.backend import AwsBackend
from msgviz.backends.aws.names import read_queue_name
from msgviz.backends.aws.server import AwsServer
from msgviz.backends.aws.topics import AwsQueue, AwsTopic
from msgviz.dead_letters import dead_letter_topic
from msgviz.decorator import check_decorators
from msgviz.errors import NotFound, Unsupported
from msgviz.message import Source
from msgviz.server import Backoff, BackoffLike
from msgviz.topic import Topic


class _Direct(AwsBackend):
    """A connection to topics and queues that exist and have names of their own."""

    def __init__(self, where: str, region: str | None, **options: Any) -> None:
        super().__init__(region, where=where, create=False, **options)
        self.urls: dict[tuple[str, str], str] = {}

    def know_topic(self, topic: str, arn: str) -> None:
        self._arns[topic] = arn
        self._made.add(topic)

    def know_queue(self, source: Source, url: str) -> None:
        self.urls[source.topic, source.subscription] = url
        self._made.add(source.topic)

    async def make(self, topic: str, sources: list[Source]) -> None:
        """Find the queues; nothing is made."""
        for source in sources:
            await self.call(self.queue(source))

    def open_topic(self, name: str) -> Topic:
        """The queue of dead letters; there is no other topic."""
        return AwsQueue(self, name, "default")

    async def _queue_url(self, source: Source) -> str:
        key = (source.topic, source.subscription)
        if key not in self.urls:
            ((topic, subscription), _) = next(iter(self.urls.items()))
            served = await self.queue(Source(topic, subscription))
            if served.dead_letters is None:
                raise NotFound(
                    f"{self.safe_url} has no dead-letter queue: give one's URL as dead_letters, "
                    "or leave max_attempts out"
                )
            *_, account, name = served.dead_letters.split(":")
            found = await self.connection.sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
            self.urls[key] = str(found["QueueUrl"])
        return self.urls[key]


class _Alone:
    """A topic with a connection of its own, to close when done: ``async with SNSTopic(arn) as topic``."""

    backend: Any

    async def close(self) -> None:
        """Let go of AWS. Closing twice is no error."""
        await self.backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class SNSTopic(_Alone, AwsTopic):
    """An SNS topic by its ARN. Options are those of `AwsBackend`; `close` it when done.

    As go-aws-msg's ``sns.NewTopic``, and with ``base64=False`` as its ``NewUnencodedTopic``.
    """

    def __init__(self, arn: str, *, name: str | None = None, **options: Any) -> None:
        parts = arn.split(":")
        if len(parts) != 6 or parts[0] != "arn" or parts[2] != "sns" or not parts[3] or not parts[5]:
            raise ValueError(
                f"{arn!r} is no ARN of an SNS topic, such as arn:aws:sns:us-east-1:123456789012:orders"
            )
        _check_standard(arn)
        backend = _Direct(arn, options.pop("region", parts[3]), **options)
        topic = check_name(parts[5] if name is None else name, "topic")
        backend.know_topic(topic, arn)
        super().__init__(backend, topic)
        self.arn = arn

    def to_subscription(self, subscription: str) -> Topic:
        """Unsupported: of a topic alone nobody knows the queues."""
        raise Unsupported(
            self.backend.name, "an SNSTopic sends to all subscriptions: use an SQSTopic for one"
        )


class SQSTopic(_Alone, AwsQueue):
    """An SQS queue by its URL, to send to; delays up to 900 s. Options are those of `AwsBackend`.

    go-aws-msg's ``sqs.NewTopic`` sends bodies as they are: so does this with ``base64=False``.
    """

    def __init__(self, url: str, *, name: str | None = None, **options: Any) -> None:
        backend, queue = _read_queue_url(url, options)
        source = Source(check_name(queue if name is None else name, "topic"), "default")
        backend.know_queue(source, url)
        super().__init__(backend, source.topic, source.subscription)
        self.url = url

    def to_subscription(self, subscription: str) -> Topic:
        """A queue is its only subscription."""
        raise Unsupported(self.backend.name, "an SQSTopic is one queue: it has no other subscriptions")


class SQSServer(AwsServer):
    """A server of an SQS queue by its URL. Options are those of `AwsBackend`; `shutdown` disconnects.

    As go-aws-msg's ``sqs.NewServer``, a message that fails comes again until the queue's own redrive policy
    buries it. With `max_attempts` the server buries it, with the reason, in the queue whose URL is
    `dead_letters`, else in the one of that policy.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 1,
        max_attempts: int | None = None,
        dead_letters: str | None = None,
        backoff: BackoffLike = Backoff(),  # noqa: B008  frozen
        decorators: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        if max_attempts is not None and (
            isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1
        ):
            raise ValueError(f"max_attempts is a whole number from 1 on, or None, not {max_attempts!r}")
        backend, queue = _read_queue_url(url, options)
        source = Source(*read_queue_name(queue), max_attempts)
        backend.know_queue(source, url)
        if dead_letters is not None:
            backend.know_queue(Source(dead_letter_topic(source), "default"), dead_letters)
        super().__init__(
            backend,
            source,
            concurrency=concurrency,
            backoff=backoff,
            decorators=check_decorators(decorators),
        )
        self.url = url
        backend.add(self)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Take no more messages, let those in flight finish, end, and disconnect; see `Server.shutdown`."""
        try:
            await super().shutdown(timeout)
        finally:
            await self.backend.close()


def _read_queue_url(url: str, options: dict[str, Any]) -> tuple[_Direct, str]:
    """A connection for a queue, in the region and to the host that its URL names, and the queue's name."""
    parts = urlsplit(url)
    path = parts.path.strip("/").split("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or len(path) < 2 or not path[-1]:
        raise ValueError(
            f"{url!r} is no URL of an SQS queue, such as https://sqs.us-east-1.amazonaws.com/123456789012/orders"
        )
    _check_standard(url)
    host = parts.hostname.split(".")
    region = None
    if "amazonaws" in host:
        region = host[1] if host[0] == "sqs" else host[0]
    elif "endpoint" not in options:
        options["endpoint"] = f"{parts.scheme}://{parts.netloc}"
    return _Direct(url, options.pop("region", region), **options), path[-1]


def _check_standard(address: str) -> None:
    if address.endswith(".fifo"):
        raise Unsupported("aws", f"{address} is FIFO, which is not supported: its messages need groups")
