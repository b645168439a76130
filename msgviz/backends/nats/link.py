"""Link: the connection to NATS, and requests to JetStream."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from nats import errors
from nats.js.errors import APIError

from msgviz.backends.nats.headers import Client
from msgviz.errors import ConnectionFailed
from msgviz.server import Backoff
from msgviz.urls import Url

logger = logging.getLogger("msgviz")

_IN_PROCESS = 10158  # err_code: the same message id is being stored now
_PAUSE = Backoff(first=0.02, maximum=0.5)


def is_passing(error: BaseException) -> bool:
    """Whether to try again may help: no answer, no leader yet, or too much to do."""
    if isinstance(error, APIError):
        return error.code in (408, 429, 503) or error.err_code == _IN_PROCESS
    return isinstance(
        error,
        (
            TimeoutError,
            OSError,
            errors.NoRespondersError,
            errors.ConnectionClosedError,
            errors.ConnectionReconnectingError,
            errors.OutboundBufferLimitError,
            errors.StaleConnectionError,
        ),
    )


def is_refusal(error: Exception) -> bool:
    """Whether the server does not want this user, or this password."""
    text = str(error).lower()
    return isinstance(error, errors.Error) and ("authorization" in text or "authentication" in text)


class Link:
    """A connection that comes back by itself: broken, it is made again for as long as it takes."""

    RECONNECT = 0.25  # seconds between two attempts at one server
    ANSWER = 2.0  # seconds for one answer, before the question is asked again

    def __init__(self, url: Url, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._opening = asyncio.Lock()
        self._closed = False
        self._denials: deque[Exception] = deque(maxlen=20)
        self.broken: set[Callable[[], None]] = set()
        """Called when the connection broke."""

    async def open(self) -> Client:
        """Connect: to the first server that has us; the error of the last where none has."""
        url = self._url
        servers = [
            f"nats://[{host}]:{port or 4222}" if ":" in host else f"nats://{host}:{port or 4222}"
            for host, port in url.hosts
        ]
        client = Client()
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failures: list[Exception] = []

        async def on_error(error: Exception) -> None:
            if connecting.done():
                if "permissions violation" in str(error).lower():
                    self._denials.append(error)
                quiet = isinstance(error, (OSError, errors.UnexpectedEOF))  # told as a broken connection
                logger.log(logging.DEBUG if quiet else logging.WARNING, "%s: %s", url.safe, error)
                return
            failures.append(error)
            if not refused.done() and (is_refusal(error) or len(failures) >= len(servers)):
                refused.set_exception(error)

        async def on_disconnect() -> None:
            if self._client is client:
                self._up.clear()
                if not client.is_closed:
                    logger.warning("%s: the connection broke; connecting again", url.safe)
                for broken in tuple(self.broken):
                    broken()

        async def on_reconnect() -> None:
            logger.info("%s: connected again", url.safe)
            self._up.set()

        times: dict[str, Any] = {  # nats-py says that they are int, and takes any number
            "connect_timeout": self._timeout / len(servers),
            "reconnect_time_wait": self.RECONNECT,
            "ping_interval": 10,
        }
        connecting = asyncio.create_task(
            client.connect(
                servers,
                name="msgviz",
                user=url.user if url.password is not None else None,
                password=url.password,
                token=url.user if url.password is None else None,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
                max_reconnect_attempts=-1,
                **times,
            )
        )
        try:
            await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                refused.result()
            await connecting
        except BaseException:
            connecting.cancel()
            with suppress(BaseException):
                await connecting
            with suppress(Exception):
                await client.close()
            raise
        finally:
            if refused.done():
                refused.exception()
        self._client = client
        self._up.set()
        return client

    async def live(self, seconds: float = 0.0) -> Client:
        """The connected client; waits `seconds` for it where the connection is broken."""
        client = self._client
        if client is not None and client.is_connected:
            return client
        if client is None or client.is_closed:  # the server had us out for good
            async with self._opening:
                if self._closed:
                    raise errors.ConnectionClosedError
                if self._client is client:
                    return await self.open()
                return await self.live(seconds)
        self._up.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._up.wait()
        except TimeoutError:
            raise errors.ConnectionReconnectingError from None
        return client

    async def request(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        seconds: float,
        nobody: Callable[[], Awaitable[bool]] | None = None,
    ) -> dict[str, Any]:
        """Ask JetStream, again and again for `seconds` where that may help; its answer.

        Where nobody listens, awaits `nobody`, until that has found out why. Raises nats-py's `APIError` where
        the answer is no. What is published carries an id, so that asking again doubles nothing.
        """
        until = time.monotonic() + seconds
        tries = 0
        while True:
            try:
                client = await self.live(max(0.0, until - time.monotonic()))
                left = max(0.1, min(self.ANSWER, until - time.monotonic()))
                reply = await client.request(
                    subject, body, timeout=left, headers=dict(headers) if headers else None
                )
                return _read(subject, reply.data)
            except Exception as error:
                if isinstance(error, TimeoutError):
                    self.check_allowed(subject)
                tries += 1
                if not is_passing(error) or until - time.monotonic() < _PAUSE(tries):
                    raise
                if nobody is not None and isinstance(error, errors.NoRespondersError) and await nobody():
                    nobody = None
            await asyncio.sleep(_PAUSE(tries))

    async def ask(
        self, what: str, body: Mapping[str, Any] | None = None, *, seconds: float | None = None
    ) -> dict[str, Any]:
        """Ask the API of JetStream, such as ``STREAM.INFO.orders``."""
        sent = b"" if body is None else json.dumps(body).encode()
        limit = 0.9 * self._timeout if seconds is None else seconds
        return await self.request(f"$JS.API.{what}", sent, None, limit)

    def check_allowed(self, subject: str) -> None:
        """Raise what the server said where it does not let this user publish to a subject."""
        for error in self._denials:
            if f'"{subject.lower()}"' in str(error).lower():
                raise error

    async def publish(self, subject: str, body: bytes) -> None:
        """Say something to which there is no answer; said later where the connection is broken."""
        if self._client is None or self._client.is_closed:
            raise errors.ConnectionClosedError
        await self._client.publish(subject, body)

    async def close(self) -> None:
        """Send what is left to send, and let go."""
        self._closed = True
        if self._client is not None:
            client, self._client = self._client, None
            if client.is_connected:
                with suppress(errors.Error, OSError, TimeoutError):
                    await client.flush(1)
            await client.close()


def _read(subject: str, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
        error = answer.get("error")
    except (ValueError, AttributeError) as cause:
        raise ConnectionFailed(f"{subject} was answered by somebody who is no stream") from cause
    if error is not None:
        raise APIError(
            code=error.get("code"), err_code=error.get("err_code"), description=error.get("description")
        )
    assert isinstance(answer, dict)  # noqa: S101  it has .get
    return answer
