"""Connections to RabbitMQ: plain ones, which end when they break, and their errors in our words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aio_pika
from aio_pika.connection import make_url
from aiormq import exceptions

from msgviz.errors import ConnectionFailed, MsgvizError, NotFound
from msgviz.urls import Url

for _library in ("aio_pika", "aiormq"):
    # What they report with a traceback of their own is raised here as well. Who wants to read it there
    # sets up logging; to one who does not, it is noise.
    logging.getLogger(_library).addHandler(logging.NullHandler())


async def dial(url: Url, *, name: str, heartbeat: int) -> aio_pika.Connection:
    """A new connection to the first of the hosts that answers; raises what the last one said."""
    secure = url.scheme == "amqps"
    failure: Exception | None = None
    for host, port in url.hosts or (("localhost", None),):
        target = make_url(
            host=host or "localhost",
            port=port or (5671 if secure else 5672),
            login=url.user or "guest",
            password=url.password if url.password is not None else "" if url.user else "guest",
            virtualhost=url.path[1:] or "/",
            ssl=secure,
            heartbeat=heartbeat,
        )
        connection = aio_pika.Connection(target, client_properties={"connection_name": name})
        try:
            with unless_cancelled(url.safe):
                await connection.connect()
        except BaseException as error:
            await hang_up(connection)
            if not isinstance(error, Exception):
                raise
            failure = error
        else:
            return connection
    if failure is None:
        raise ConnectionFailed(f"{url.safe} names no host")
    raise failure


def alive(connection: aio_pika.Connection | None) -> bool:
    """Whether a connection can still be used."""
    return (
        connection is not None
        and connection.transport is not None
        and connection.transport.connection.is_opened
    )


async def hang_up(connection: aio_pika.Connection | None) -> None:
    """Close a connection, whatever state it is in."""
    if connection is not None:
        with suppress(Exception):
            await connection.close()


@contextmanager
def unless_cancelled(safe_url: str) -> Iterator[None]:
    """Tell a task's own cancellation from the one by which aiormq says that a connection broke."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionFailed(f"the connection to {safe_url} broke") from error


def explain(error: BaseException, safe_url: str) -> MsgvizError | ValueError | None:
    """A library's error in our words; None for one that is not the library's."""
    match error:
        case TimeoutError():
            return None
        case exceptions.ProbableAuthenticationError() | exceptions.AuthenticationError():
            return ConnectionFailed(f"{safe_url} refused the user or the password: {_said(error)}")
        case exceptions.ChannelNotFoundEntity():
            return NotFound(f"{safe_url}: {_said(error)}")
        case exceptions.ChannelAccessRefused() | exceptions.ConnectionNotAllowed():
            return ConnectionFailed(f"{safe_url} turned us away: {_said(error)}")
        case exceptions.ChannelPreconditionFailed() if "message size" in _said(error):
            return ValueError(f"{safe_url}: {_said(error)}")
        case exceptions.ChannelPreconditionFailed() | exceptions.ChannelLockedResource():
            return MsgvizError(f"{safe_url}: {_said(error)}")
        case exceptions.DeliveryError():
            return ConnectionFailed(f"{safe_url} did not store the message: {_said(error)}")
        case exceptions.AMQPError() | exceptions.ChannelInvalidStateError() | OSError() | EOFError():
            return ConnectionFailed(f"{safe_url}: {_said(error) or type(error).__name__}")
    return None


def _said(error: BaseException) -> str:
    return ", ".join(str(argument) for argument in error.args if argument not in (None, ""))
