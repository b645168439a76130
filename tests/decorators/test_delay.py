"""delay: adds to the delay a message is sent with."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, delay, with_options
from tests.decorators import laws
from tests.flows import Kept, until


@given(st.lists(st.integers(0, 1000), max_size=4), st.integers(0, 1000), laws.deliveries(st.binary()))
@settings(max_examples=50)
def test_delays_add_up(seconds: list[int], asked: int, message: mv.Message) -> None:
    kept = Kept()
    topic: mv.Topic = kept
    for one in seconds:
        topic = delay.encoder(topic, seconds=one)
    before = laws.told(message)
    asyncio.run(topic.send(message, asked))
    assert kept.delays == [sum(seconds) + asked]
    assert [laws.told(one) for one in kept.sent] == [before]


async def test_laws() -> None:
    none = with_options(delay, seconds=0)
    await laws.forwards_the_delay(none)
    await laws.sends_what_was_published(none, laws.delivered(), 3.0)
    chain = with_options(delay, seconds=timedelta(minutes=1))
    await laws.raises_what_the_topic_raises(chain)
    await laws.lets_a_publish_be_cancelled(chain)
    laws.shows_its_layer(chain, "delay 60 s")
    assert not hasattr(chain, "decoder")


async def test_a_message_comes_later_and_not_before() -> None:
    async with mv.connect("memory://") as backend:
        loop = asyncio.get_running_loop()
        came: dict[bytes, float] = {}

        async def receive(message: mv.Message) -> None:
            came[message.body] = loop.time()

        topic = backend.topic("t", decorators=[with_options(delay, seconds=0.05)])
        async with backend.server("t").running(receive):
            began = loop.time()
            await topic.publish(b"later")
            await topic.publish(b"latest", delay=0.05)
            await until(lambda: len(came) == 2)
    assert came[b"later"] - began >= 0.05
    assert came[b"latest"] - began >= 0.1


class Prompt(mv.Topic):
    """A system that cannot delay."""

    name = "prompt"

    async def send(self, message: mv.Message, delay: float) -> None:
        if delay:
            raise mv.Unsupported("prompt", "cannot delay a message")


async def test_a_system_that_cannot_delay_says_so() -> None:
    topic = base64.encoder(delay.encoder(Prompt(), seconds=1))
    with pytest.raises(mv.Unsupported, match="prompt: cannot delay"):
        await topic.publish(b"x")


async def test_for_one_subscription_too() -> None:
    async with mv.connect("memory://") as backend:
        got: list[bytes] = []

        def receive(message: mv.Message) -> None:
            got.append(message.body)

        topic = delay.encoder(backend.topic("t"), seconds=0.01).to_subscription("s")
        assert mv.chain(topic).names == ["delay 0.01 s", "memory t"]
        async with backend.server("t", subscription="s").running(receive):
            await topic.publish(b"x")
            assert not got
            await until(lambda: got)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_what_is_no_delay(wrong: Any) -> None:
    with pytest.raises(ValueError, match="seconds"):
        delay.encoder(Kept(), seconds=wrong)


@pytest.mark.parametrize("wrong", ["1", None, True])
def test_what_is_no_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match="seconds"):
        delay.encoder(Kept(), seconds=wrong)
