"""batch: how a batch is taken apart, what fails in it, and what is none."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import batch
from tests.decorators import laws
from tests.decorators.batches import enveloped, together, unpacked
from tests.flows import until
from tests.queues import Taking, drained, letters, numbered


async def test_laws_of_a_batch_of_one() -> None:
    await laws.raises_what_the_receiver_raises(batch, await enveloped(b"x"))
    await laws.lets_cancellation_through(batch, await enveloped(b"x"))
    await laws.leaves_the_receivers_own_timeout_alone(batch, await enveloped(b"x"))


# -- how a receive ends


class Choosy(Taking):
    """Refuses the bodies it is told to."""

    def __init__(self, *refused: bytes) -> None:
        super().__init__()
        self.refused = set(refused)

    async def __call__(self, message: mv.Message) -> None:
        await super().__call__(message)
        if message.body in self.refused:
            raise ValueError(f"not {message.body.decode()}")


async def test_all_are_tried_and_the_errors_told() -> None:
    for refused, expected in ((b"1",), "not 1"), ((b"1", b"3"), "2 of the 4 messages of a batch failed"):
        choosy = Choosy(*refused)
        receiver: Any = batch.decoder(choosy)
        with pytest.raises((ValueError, ExceptionGroup), match=expected) as raised:
            await receiver(await enveloped(*numbered(4)))
        assert choosy.bodies == numbered(4)
        if len(refused) > 1:
            assert isinstance(raised.value, ExceptionGroup)
            assert [str(error) for error in raised.value.exceptions] == ["not 1", "not 3"]


async def test_a_batch_comes_again_whole_until_all_have_succeeded() -> None:
    async with mv.connect("memory://") as backend:
        choosy = Choosy(b"1")
        topic = backend.topic("t", decorators=[batch])
        async with backend.server("t", decorators=[batch]).running(choosy):
            await together(topic, *numbered(3))
            await until(lambda: len(choosy.messages) == 3)
            choosy.refused.clear()
            await until(lambda: len(choosy.messages) == 6)
        assert choosy.bodies == numbered(3) * 2
        assert [message.attempt for message in choosy.messages] == [1] * 3 + [2] * 3
        assert await drained(backend, "t") == []


async def test_a_dead_batch_is_kept_whole() -> None:
    async with mv.connect("memory://") as backend:
        choosy = Choosy(b"1", b"2")
        topic = backend.topic("t", decorators=[batch])
        async with backend.server("t", decorators=[batch], max_attempts=2, backoff=0).running(choosy):
            await together(topic, *numbered(3))
            await until(lambda: len(choosy.messages) == 6)
        (letter,) = await letters(backend)
        assert [one.body for one in unpacked(letter)] == numbered(3)
        assert "2 of the 3 messages" in letter.attributes["Dead-Letter-Reason"]


async def test_cancelled_it_stops_where_it_is() -> None:
    entered = asyncio.Event()
    got: list[bytes] = []

    async def receive(message: mv.Message) -> None:
        got.append(message.body)
        if message.body == b"1":
            entered.set()
            await asyncio.Event().wait()

    receiver: Any = batch.decoder(receive)
    task = asyncio.create_task(receiver(await enveloped(*numbered(3))))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert got == numbered(2)


class Told(BaseException):
    """No error, and nothing that ends the process."""


async def test_what_is_no_error_does_not_keep_the_others_from_being_tried() -> None:
    got: list[bytes] = []

    async def receive(message: mv.Message) -> None:
        got.append(message.body)
        if message.body == b"0":
            raise Told

    receiver: Any = batch.decoder(receive)
    with pytest.raises(Told):
        await receiver(await enveloped(*numbered(3)))
    assert got == numbered(3)


# -- observed


@pytest.mark.parametrize("propagate", [True, False])
async def test_a_log_knows_each_message_through_all_its_attempts(propagate: bool) -> None:
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://"), log, propagate=propagate)
    choosy = Choosy(b"1", b"2")
    topic = backend.topic("t", decorators=[batch])
    async with backend.server("t", decorators=[batch], max_attempts=2, backoff=0).running(choosy):
        await together(topic, *numbered(4))
        await until(lambda: len(choosy.messages) == 8)
        await log.settled(5)
    received = log.events.query("operation == 'receive'")
    received = received[received["body"].isin(numbered(4))]  # there may be one of the batch itself
    assert received.groupby("message_id").size().tolist() == [2] * 4
    by_body = {body: group["outcome"].tolist() for body, group in received.groupby("body")}
    assert by_body == {b"0": ["ok"] * 2, b"1": ["error"] * 2, b"2": ["error"] * 2, b"3": ["ok"] * 2}
    states = log.messages.loc[received["message_id"].unique(), "state"]
    assert sorted(states) == ["dead", "dead", "ok", "ok"]
    await backend.close()


# -- hostile batches


def refusal(body: bytes, count: str = "1") -> str:
    async def run() -> str:
        got = Taking()
        receiver: Any = batch.decoder(got)
        with pytest.raises(mv.DecodeError) as raised:
            await receiver(mv.Message(body, {"Msgviz-Batch": count}))
        assert not got.messages
        assert raised.value.layer == "batch"
        return str(raised.value)

    return asyncio.run(run())


def test_every_cut_is_noticed() -> None:
    whole = asyncio.run(enveloped(b"one", b"two")).body
    for end in range(len(whole)):
        refusal(whole[:end], "2")


@given(st.binary(max_size=60), st.text(max_size=3))
@settings(max_examples=100)
def test_what_is_no_batch_is_refused(body: bytes, count: str) -> None:
    if not body.startswith(b"MVB\x01"):
        assert "is no batch" in refusal(body, count) or body.startswith(b"MVB")
    # Nothing that is in one does more than be refused.
    with suppress(mv.DecodeError):
        batch.unpack(b"MVB\x01" + body, count)


def test_counts_versions_and_attributes_that_are_wrong() -> None:
    def one(attributes: bytes) -> bytes:
        return b"MVB\x01" + struct.pack(">I", len(attributes)) + attributes + b"\0\0\0\x01x"

    assert batch.unpack(one(b'{"a":["1"]}'), "1") == [mv.Message(b"x", {"A": "1"})]
    for count in ("", "0", "2", "one", "9" * 5000):
        assert "1 messages says it has" in refusal(one(b"{}"), count)
    assert "0 messages" in refusal(b"MVB\x01", "0")
    assert "a version this msgviz does not know" in refusal(b"MVB\x02" + one(b"{}")[4:])
    no_attributes = (b"", b"[]", b"3", b"{", b'{"a":1}', b'{"a":[1]}', b'{"a":null}', b"\xff")
    for attributes in (*no_attributes, b"[" * 100_000, b"1" * 5000):
        assert "attributes of a message" in refusal(one(attributes))
    assert "cut short" in refusal(b"MVB\x01" + b"\xff" * 8)
