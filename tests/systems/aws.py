"""SNS and SQS on loopback: moto's server, and ministack as a second opinion. Third-party emulations, not AWS.

Neither keeps anything when it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiobotocore.session import AioSession

import msgviz as mv
from msgviz.backends.aws import AwsBackend
from tests.systems import end, free_port, wait_for_port


class MotoSystem:
    """moto's server of the AWS services."""

    package = "moto"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be started on this machine; None where it can."""
        if find_spec(cls.package) is None:
            return f"{cls.package} is not installed"
        return None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"aws://test:secret@us-east-1?endpoint={self.endpoint}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What to run, and the variables it needs."""
        # Its threads change lists of messages without a lock: they are not to be interrupted meanwhile, or
        # a message that is sent while another is deleted gets lost.
        start = "import sys; sys.setswitchinterval(10); from moto.server import main; main()"
        return [
            *(sys.executable, "-c", start),
            *("-H", "127.0.0.1", "-p", str(self.port)),
        ], {}

    def start(self) -> None:
        command, variables = self.command()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.port, self._process, said=self.folder / "log")

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)

    def kill(self) -> None:
        if self._process is not None:
            end(self._process, kill=True)

    def restart(self) -> None:
        self.kill()
        self.start()


class StrictMotoSystem(MotoSystem):
    """moto's server that knows nobody, and so refuses everybody."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        return super().command()[0], {"INITIAL_NO_AUTH_ACTION_COUNT": "0"}


class MinistackSystem(MotoSystem):
    """ministack."""

    package = "ministack"

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "ministack"], {
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "sns,sqs,sts",
            "STATE_DIR": str(self.folder / "state"),
            "LOG_LEVEL": "WARNING",
        }


class Inbox:
    """A receiver that keeps what it received, after `act` let it pass."""

    def __init__(self, act: Callable[[mv.Message], Awaitable[None]] | None = None) -> None:
        self.messages: list[mv.Message] = []
        self._act = act
        self._news = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        if self._act is not None:
            await self._act(message)
        self.messages.append(message)
        self._news.set()

    async def wait(self, count: int = 1) -> list[mv.Message]:
        """The messages, when there are `count`."""
        async with asyncio.timeout(15):
            while len(self.messages) < count:
                self._news.clear()
                await self._news.wait()
        return self.messages


@contextlib.asynccontextmanager
async def bare_client(service: str, system: MotoSystem) -> AsyncIterator[Any]:
    """The client library's own client, as another program would use it."""
    session = AioSession()
    session.set_credentials("test", "secret")
    async with session.create_client(
        service, region_name="us-east-1", endpoint_url=system.endpoint
    ) as client:
        yield client


async def received(sqs: Any, queue: str, count: int = 1) -> list[dict[str, Any]]:
    """The next messages of the queue of this name, as the client library gives them; they are deleted."""
    url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(15):
        while len(found) < count:
            answer = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MessageAttributeNames=["All"])
            for message in answer.get("Messages", ()):
                found.append(message)
                await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


async def fail(message: mv.Message) -> None:
    """A receiver that fails."""
    raise ValueError("no such customer")


def calls_of(backend: AwsBackend, operation: str) -> list[dict[str, Any]]:
    """The parameters of the requests that follow; the list grows."""
    calls: list[dict[str, Any]] = []
    backend.connection.sqs.meta.events.register(
        f"provide-client-params.sqs.{operation}", lambda params, **_: calls.append(params)
    )
    return calls
