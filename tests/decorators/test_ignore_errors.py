"""ignore_errors: listed ones are logged and forgotten; others are not."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import ignore_errors, with_options
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered
from tests.queues import letters

ERRORS: list[type[Exception]] = [ValueError, KeyError, LookupError, OSError, TimeoutError, Exception]


@given(st.lists(st.sampled_from(ERRORS), min_size=1, max_size=3), st.sampled_from(ERRORS))
def test_those_listed_and_no_others(types: list[type[Exception]], kind: type[Exception]) -> None:
    async def refuse(message: mv.Message) -> None:
        raise kind("of mine")

    decorated = ignore_errors.decoder(refuse, types=types)
    if issubclass(kind, tuple(types)):
        clock.run(decorated(delivered()))
    else:
        with pytest.raises(kind, match="of mine"):
            clock.run(decorated(delivered()))


async def test_what_is_ignored_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def refuse(message: mv.Message) -> None:
        raise Unspeakable

    with caplog.at_level(logging.WARNING, "msgviz"):
        await ignore_errors.decoder(refuse, types=Unspeakable)(delivered())
    (record,) = caplog.records
    assert record.name == "msgviz"
    assert record.getMessage() == "ignored Unspeakable of a message of t/s, attempt 2"
    assert record.exc_info
    assert record.exc_info[0] is Unspeakable


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:

            def act(message: mv.Message) -> None:
                raise ValueError if message.body == b"ignored" else KeyError

            taken = Taken(act)
            chain = [with_options(ignore_errors, types=(ValueError,))]
            server = backend.server("t", decorators=chain, max_attempts=2, backoff=0)
            async with server.running(taken):
                await backend.topic("t").publish(b"ignored")
                await backend.topic("t").publish(b"not ignored")
                await taken.count(3)
            assert taken.bodies == [b"ignored", b"not ignored", b"not ignored"]
            assert [letter.body for letter in await letters(backend)] == [b"not ignored"]

    clock.run(run())
