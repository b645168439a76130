"""dead_letter: what fails goes to a topic of its own, or is not processed."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, dead_letter, with_options
from tests.decorators import clock, laws
from tests.decorators.laws import Taken, delivered
from tests.flows import Kept, accept, observed
from tests.queues import drained, letters


async def spoil(message: mv.Message) -> None:
    message.body = b"spoilt"
    message.attributes["Spoilt"] = "1"
    message.attempt, message.source = 99, None
    raise ValueError("no good")


@given(message=laws.deliveries(st.binary(max_size=20)), after=st.none() | st.integers(1, 9))
@settings(max_examples=80)
def test_a_letter_is_what_came_and_why_it_failed(message: mv.Message, after: int | None) -> None:
    async def run() -> None:
        kept = Kept()
        decorated = dead_letter.decoder(spoil, topic=kept, after=after)
        body, attributes, attempt, tag = (
            message.body,
            message.attributes.to_dict(),
            message.attempt,
            message.tag,
        )
        if after is not None and attempt < after:
            with pytest.raises(ValueError, match="no good"):
                await decorated(message)
            assert kept.sent == []
            return
        await decorated(message)
        (letter,) = kept.sent
        assert (letter.body, letter.attempt, letter.source, letter.tag) == (body, 1, None, tag)
        assert letter.attributes.to_dict() == attributes | {
            "Dead-Letter-Reason": ["ValueError: no good"],
            "Dead-Letter-Topic": ["t"],
            "Dead-Letter-Subscription": ["s"],
            "Dead-Letter-Attempts": [str(attempt)],
        }
        assert kept.delays == [0.0]

    clock.run(run())


async def test_what_goes_well_is_no_letter() -> None:
    kept = Kept()
    await dead_letter.decoder(accept, topic=kept)(delivered())
    assert kept.sent == []


async def test_of_a_message_that_no_server_delivered() -> None:
    kept = Kept()
    await dead_letter.decoder(spoil, topic=kept)(mv.Message(b"x"))
    assert kept.sent[0].attributes == {
        "Dead-Letter-Reason": "ValueError: no good",
        "Dead-Letter-Attempts": "1",
    }


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("problem", [ConnectionError("gone"), Unspeakable()])
async def test_a_letter_that_cannot_be_published(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    error = KeyError("original")
    error.__context__ = cause = OSError("why")

    async def refuse(message: mv.Message) -> None:
        raise error

    with caplog.at_level(logging.WARNING, "msgviz"), pytest.raises(KeyError) as raised:
        await dead_letter.decoder(refuse, topic=Kept("morgue", problem))(delivered())
    assert raised.value is error
    assert error.__context__ is cause
    (note,) = error.__notes__
    assert note.startswith(f"its dead letter could not be published to 'morgue': {type(problem).__name__}")
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is problem


def test_cancelled_while_the_letter_is_published() -> None:
    class Stuck(Kept):
        async def send(self, message: mv.Message, delay: float) -> None:
            await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(dead_letter.decoder(spoil, topic=Stuck())(delivered()))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(run())


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:

            def act(message: mv.Message) -> None:
                if message.body != b"good":
                    raise ValueError("bad")

            taken = Taken(act)
            chain = [base64, with_options(dead_letter, topic=backend.topic("morgue"), after=2)]
            server = backend.server("t", decorators=chain, max_attempts=3, backoff=0)
            async with server.running(taken):
                for body in (b"bad", b"good", b"bad too"):
                    await backend.topic("t", decorators=[base64]).publish(body)
                await taken.count(5)
            assert [m.attempt for m in taken.messages if m.body == b"bad"] == [1, 2]
            found = await drained(backend, "morgue")
            # It stands outside base64: a letter is as it was on the wire.
            assert [letter.body for letter in found] == [b"YmFk", b"YmFkIHRvbw=="]
            assert {letter.attributes["Dead-Letter-Attempts"] for letter in found} == {"2"}
            assert await letters(backend) == []

    clock.run(run())


def test_where_no_letter_can_be_published_the_server_keeps_the_message() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:

            def act(message: mv.Message) -> None:
                raise ValueError("bad")

            taken = Taken(act)
            chain = [with_options(dead_letter, topic=Kept(error=ConnectionError("gone")))]
            server = backend.server("t", decorators=chain, max_attempts=2, backoff=0)
            async with server.running(taken):
                await backend.topic("t").publish(b"x")
                await taken.count(2)
            (letter,) = await letters(backend)
            assert (letter.body, letter.attributes["Dead-Letter-Reason"]) == (b"x", "ValueError: bad")

    clock.run(run())


async def test_a_letter_keeps_its_identity() -> None:
    log, backend = observed()
    bare = backend.next
    chain = [with_options(dead_letter, topic=bare.topic("morgue"))]
    taken = Taken(lambda message: int("x"))
    async with backend.server("t", decorators=chain, max_attempts=1).running(taken):
        await backend.topic("t").publish(b"x")
        await taken.count(1)
    (letter,) = await drained(bare, "morgue")
    assert letter.attributes["Msgviz-Id"].split(".")[1] == log.messages.index[0]
