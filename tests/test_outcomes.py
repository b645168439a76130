"""What the server is told is what the log says, whatever a decorator makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import msgviz as mv
from msgviz.decorators import (
    base64,
    batch,
    dead_letter,
    deduplicate,
    ignore_errors,
    retry,
    transactional,
    with_options,
)
from tests.flows import accept, columns, observed, refuse, states


async def flow(
    *decorators: Any, receiver: Any = refuse, bodies: tuple[bytes, ...] = (b"x",)
) -> mv.MessageLog:
    log, backend = observed()
    async with backend, asyncio.timeout(10):
        backend.server("t", decorators=decorators, max_attempts=3, backoff=0).start(receiver)
        for body in bodies:
            await backend.topic("t").publish(body)
        await log.settled(5)
    return log


async def test_an_ignored_error_is_settled() -> None:
    log = await flow(ignore_errors)
    assert states(log) == {b"x": "ok"}
    assert columns(log, "operation", "attempt", "outcome") == [
        ("publish", 1, "ok"),
        ("receive", 1, "error"),
        ("receive", 1, "ok"),
    ]


async def test_a_letter_of_ones_own_is_settled() -> None:
    aside = mv.connect("memory://").topic("aside")
    log = await flow(with_options(dead_letter, topic=aside))
    assert states(log) == {b"x": "ok"}


async def test_a_duplicate_that_is_skipped_is_settled() -> None:
    key = with_options(deduplicate, key=lambda message: message.body)
    log = await flow(key, receiver=accept, bodies=(b"x", b"x"))
    assert list(log.messages["state"]) == ["ok", "ok"]


async def test_a_retry_in_place_that_works_is_one_attempt() -> None:
    tries = 0

    async def second(message: mv.Message) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("not yet")

    log = await flow(with_options(retry, attempts=2, first=0), receiver=second)
    assert states(log) == {b"x": "ok"}
    assert list(log.messages["attempts"]) == [2]  # the receiver was called twice


async def test_a_commit_that_fails_is_a_failure() -> None:
    log, backend = observed()
    async with backend, asyncio.timeout(10):
        closed = mv.connect("memory://")
        out = transactional.encoder(closed.topic("out"))
        await closed.close()

        async def publish(message: mv.Message) -> None:
            await out.publish(b"y")

        server = backend.server("t", decorators=[transactional], max_attempts=1)
        server.start(publish)
        await backend.topic("t").publish(b"x")
        await log.settled(5)
    assert states(log) == {b"x": "dead"}
    assert columns(log, "operation", "outcome", "error_type")[-1] == (
        "receive", "error", "msgviz.errors.BackendClosed",
    )  # fmt: skip


async def test_what_was_rolled_back_was_not_published() -> None:
    log, backend = observed()
    async with backend, asyncio.timeout(10):
        out = backend.topic("out", decorators=[transactional])

        async def publish(message: mv.Message) -> None:
            await out.publish(b"y")
            if message.body == b"bad":
                raise ValueError("no")

        backend.server("t", decorators=[transactional], max_attempts=1).start(publish)
        backend.server("out").start(accept)
        await backend.topic("t").publish(b"bad")
        await log.settled(5)
        assert list(log.messages["state"]) == ["dead", "dead"]
        assert "rolled back" in log.messages["last_error"].iloc[1]
        await backend.topic("t").publish(b"good")
        await log.settled(5)
        assert list(log.messages["state"]) == ["dead", "dead", "ok", "ok"]


async def test_a_batch_that_fails_in_part_is_no_message_of_its_own() -> None:
    async def receive(message: mv.Message) -> None:
        if message.body == b"bad":
            raise ValueError("no")

    log, backend = observed()
    async with backend, asyncio.timeout(10):
        backend.server("t", decorators=[batch], max_attempts=2, backoff=0).start(receive)
        topic = backend.topic("t", decorators=[batch])
        await asyncio.gather(topic.publish(b"bad"), topic.publish(b"good"))
        await log.settled(5)
        assert states(log) == {b"bad": "dead", b"good": "ok"}
        assert len(log.messages) == 2


@pytest.mark.parametrize("propagate", [True, False])
async def test_nothing_is_told_twice(propagate: bool) -> None:
    log = mv.MessageLog()
    async with mv.observe(mv.connect("memory://"), log, propagate=propagate) as backend:
        backend.server("t", decorators=[base64], max_attempts=2, backoff=0).start(refuse)
        await backend.topic("t", decorators=[base64]).publish(b"x")
        await log.settled(5)
        while len(log) < 3:
            await asyncio.sleep(0)
    assert columns(log, "operation", "attempt") == [("publish", 1), ("receive", 1), ("receive", 2)]


async def test_two_logs_each_have_their_own() -> None:
    first, second = mv.MessageLog(), mv.MessageLog()
    backend = mv.observe(mv.observe(mv.connect("memory://"), first), second)
    async with backend, asyncio.timeout(10):
        backend.server("t", decorators=[ignore_errors]).start(refuse)
        await backend.topic("t").publish(b"x")
        await first.settled(5)
        await second.settled(5)
    for log in (first, second):
        assert columns(log, "operation", "outcome")[1:] == [("receive", "error"), ("receive", "ok")]
