"""Commands: what is sent to one Redis server, on a few connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from redis import asyncio as client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

Argument = bytes | str | int | float


class _Abrupt:
    """A connection that is gone once it is closed: what the server did not read by then is not sent any more.

    The library's own would stay, and go on sending, for as long as that takes.
    """

    _writer: asyncio.StreamWriter | None

    def abort(self) -> None:
        """Break it, for whoever uses it."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        """Close it."""
        self.abort()
        await super().disconnect(*arguments, **options)  # type: ignore[misc]


class _Plain(_Abrupt, client.Connection):
    """Over TCP."""


class _Secure(_Abrupt, client.SSLConnection):
    """Over TLS."""


class _Pool(client.BlockingConnectionPool):
    """A pool that stays closed: the library's own connects again for whoever still asks."""

    closed = False

    async def ensure_connection(self, connection: Any) -> None:
        """Connect, unless it is closed, also meanwhile."""
        if not self.closed:
            await super().ensure_connection(connection)
        self.check_open()

    async def release(self, connection: Any) -> None:
        """Take a connection back; closed, close that too, which may have been made since."""
        if self.closed:
            await connection.disconnect(nowait=True)
        await super().release(connection)

    async def end(self) -> None:
        """Close what is idle, and break what is in use: whoever uses it then closes it."""
        in_use: set[Any] = self._in_use_connections
        for connection in in_use:
            connection.abort()
        await self.disconnect(inuse_connections=False)

    def check_open(self) -> None:
        """Raise what the library does where a connection is gone."""
        if self.closed:
            raise ConnectionLost("the connection was closed")


class Commands:
    """The connections of one backend.

    `batched` is for the many small commands: what is asked for while a batch is under way makes up the
    next one, so that any number of publishers share one connection. No command is ever sent twice.
    """

    CONNECTIONS = 16
    BATCH = 256  # commands
    BATCH_BYTES = 1 << 20

    def __init__(self, *, timeout: float, **connection: Any) -> None:
        kind = _Secure if connection.pop("tls") else _Plain
        self._pool = _Pool(
            max_connections=self.CONNECTIONS,
            timeout=timeout,
            connection_class=kind,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            **connection,
        )
        self._client = client.Redis.from_pool(self._pool)
        self._scripts: dict[str, Any] = {}
        self._waiting: deque[tuple[Sequence[Argument], asyncio.Future[Any]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def command(self, *arguments: Argument) -> Any:
        """One command, on a connection of its own for as long as it takes."""
        return await self._client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    async def script(self, source: str, keys: Sequence[bytes], arguments: Iterable[Argument] = ()) -> Any:
        """Run a script, which the server is shown once."""
        known = self._scripts.get(source)
        if known is None:
            known = self._scripts[source] = self._client.register_script(source)
        return await known(keys=keys, args=tuple(arguments))

    async def batched(self, *arguments: Argument) -> Any:
        """One command, sent together with others that were asked for meanwhile, in their order."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((arguments, reply))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await reply

    async def _send(self) -> None:
        batch: list[asyncio.Future[Any]] = []
        try:
            while self._waiting:
                pipeline = self._client.pipeline(transaction=False)
                batch = []
                size = 0
                while self._waiting and len(batch) < self.BATCH and size < self.BATCH_BYTES:
                    arguments, reply = self._waiting.popleft()
                    if reply.done():  # nobody waits for it any more: it was not sent
                        continue
                    pipeline.execute_command(*arguments)
                    size += sum(len(part) for part in arguments if isinstance(part, bytes))
                    batch.append(reply)
                if not batch:
                    continue
                try:
                    results = await pipeline.execute(raise_on_error=False)
                except (RedisError, OSError) as error:
                    results = [error] * len(batch)
                for reply, result in zip(batch, results, strict=True):
                    if reply.done():
                        continue
                    if isinstance(result, Exception):
                        reply.set_exception(result)
                    else:
                        reply.set_result(result)
        finally:
            self._sender = None
            for reply in (*batch, *(reply for _, reply in self._waiting)):
                if not reply.done():
                    reply.set_exception(ConnectionLost("the connection was closed"))
            self._waiting.clear()

    def connection(self) -> Any:
        """A connection for somebody alone, to be closed by them: one that may wait for its replies."""
        self._pool.check_open()
        return self._pool.make_connection()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close all connections but those given away, for good; who still waits for a reply is told so."""
        self._pool.closed = True
        if self._sender is not None:
            self._sender.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._sender])
        await self._pool.end()
