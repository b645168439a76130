"""What holds for every decorator, as functions to call with one.

A decorator is a module with an ``encoder``, a ``decoder`` or both, or what `with_options` makes of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

import msgviz as mv
from msgviz.message import wrap
from tests.flows import Kept

ID = "Msgviz-Id"

texts = st.text(max_size=5)
attribute_sets = st.dictionaries(
    st.text(min_size=1, max_size=5), texts | st.lists(texts, min_size=1, max_size=3), max_size=4
)
json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def deliveries(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> mv.Message:
    """A message as a server delivers one: with attempt, source, tag and identity."""
    message = mv.Message(draw(bodies), draw(attribute_sets))
    if draw(st.booleans()):
        message.attributes[ID] = f"c.{draw(st.integers(0, 99))}."
    message.attempt = draw(st.integers(1, 9))
    message.source = mv.Source("t", "s", draw(st.none() | st.integers(1, 9)))
    message.tag = draw(st.none() | st.just("c.tag."))
    return message


def told(message: mv.Message) -> tuple[Any, ...]:
    """All that a message tells."""
    return (message.body, message.attributes.to_dict(), message.attempt, message.source, message.tag)


def delivered(body: bytes = b"{}", **attributes: str) -> mv.Message:
    """A message as a server delivers one."""
    message = mv.Message(body, attributes)
    message.attempt, message.source, message.tag = 2, mv.Source("t", "s", 5), "c.tag."
    return message


# -- receivers


async def hands_on_what_came(decorator: Any, message: mv.Message) -> None:
    """The receiver gets the message once, whole, and what came is not changed."""
    before = told(message)
    got: list[tuple[Any, ...]] = []

    async def receive(inner: mv.Message) -> None:
        got.append(told(inner))

    assert await decorator.decoder(receive)(message) is None
    assert got == [before]
    assert told(message) == before


async def raises_what_the_receiver_raises(decorator: Any, message: mv.Message) -> None:
    """An error passes as it is, with its cause, and what is no `Exception` above all."""
    for error in (ValueError("of mine"), TimeoutError("of mine"), KeyboardInterrupt(), _Own()):
        error.__cause__ = OSError("the cause")

        async def refuse(inner: mv.Message, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as raised:
            await decorator.decoder(refuse)(wrap(message.body, message.freeze()))
        assert raised.value is error
        assert isinstance(error.__cause__, OSError)


class _Own(BaseException):
    """No error that anybody is to handle."""


async def lets_cancellation_through(decorator: Any, message: mv.Message) -> None:
    """Cancelled in its receiver, it ends at once with `CancelledError`; the receiver was called once."""
    calls: list[str] = []
    entered = asyncio.Event()

    async def receive(inner: mv.Message) -> None:
        calls.append("begun")
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            calls.append("cancelled")
            raise

    task = asyncio.create_task(decorator.decoder(receive)(message))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == ["begun", "cancelled"]


async def leaves_the_receivers_own_timeout_alone(decorator: Any, message: mv.Message) -> None:
    """A receiver cancelled by its own `asyncio.timeout` has failed with `TimeoutError`, and no more."""
    raised: list[TimeoutError] = []

    async def receive(inner: mv.Message) -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError as error:
            raised.append(error)
            raise

    with pytest.raises(TimeoutError) as seen:
        await decorator.decoder(receive)(message)
    assert seen.value is raised[-1]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def takes_many_at_once(decorator: Any, count: int = 50) -> None:
    """As many messages as there are may be in the receiver at one time, each once."""
    inside: list[bytes] = []
    all_inside = asyncio.Event()

    async def receive(inner: mv.Message) -> None:
        inside.append(inner.body)
        if len(inside) == count:
            all_inside.set()
        await all_inside.wait()

    receiver = decorator.decoder(receive)
    bodies = [b"%d" % number for number in range(count)]
    await asyncio.gather(*(receiver(delivered(body)) for body in bodies))
    assert sorted(inside) == sorted(bodies)


async def decorates_plain_functions(decorator: Any) -> None:
    """A plain ``def`` is a receiver, too. Runs threads."""
    got: list[bytes] = []

    def receive(message: mv.Message) -> None:
        got.append(message.body)

    await decorator.decoder(receive)(delivered(b"{}"))
    assert got == [b"{}"]


def shows_its_layer(decorator: Any, layer: str) -> None:
    """A chain shows the decorator by this name, around what it is around."""
    if hasattr(decorator, "decoder"):

        async def charge(message: mv.Message) -> None: ...

        assert mv.chain(decorator.decoder(charge)).names == [layer, "charge"]
    if hasattr(decorator, "encoder"):
        assert mv.chain(decorator.encoder(Kept())).names == [layer, "kept kept"]


# -- topics


async def sends_what_was_published(decorator: Any, message: mv.Message, delay: float) -> None:
    """The message goes on once, whole, with its delay. For encoders that change nothing."""
    kept = Kept()
    before = told(message)
    await decorator.encoder(kept).send(message, delay)
    assert [told(one) for one in kept.sent] == [before]
    assert kept.delays == [delay]


async def forwards_the_delay(decorator: Any, body: bytes = b"{}") -> None:
    """A delay reaches the topic inside, however it was asked for."""
    kept = Kept()
    topic = decorator.encoder(kept)
    async with topic.new_writer() as writer:
        writer.set_delay(7)
        writer.write(body)
    await topic.publish(body, delay=8)
    await topic.publish(body)
    assert kept.delays == [7.0, 8.0, 0.0]


async def raises_what_the_topic_raises(decorator: Any, body: bytes = b"{}") -> None:
    """A publish that fails inside fails outside, as it is."""
    for error in (ConnectionError("gone"), _Own()):
        with pytest.raises(type(error)) as raised:
            await decorator.encoder(Kept(error=error)).publish(body)
        assert raised.value is error


async def lets_a_publish_be_cancelled(decorator: Any, body: bytes = b"{}") -> None:
    """A publish that waits inside ends at once when it is cancelled."""
    topic = _Stuck()
    task = asyncio.create_task(decorator.encoder(topic).publish(body))
    await topic.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert topic.calls == 1


class _Stuck(mv.Topic):
    name = "stuck"

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.calls = 0

    async def send(self, message: mv.Message, delay: float) -> None:
        self.calls += 1
        self.entered.set()
        await asyncio.Event().wait()


class Taken:
    """A receiver that keeps what it gets, and whom one can ask to wait for so many."""

    def __init__(self, act: Callable[[mv.Message], object] = lambda message: None) -> None:
        self.messages: list[mv.Message] = []
        self.act = act
        self._more = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        self.messages.append(wrap(message.body, message.freeze()))
        self.messages[-1].attempt = message.attempt
        self._more.set()
        self.act(message)

    @property
    def bodies(self) -> list[bytes]:
        """The bodies, in order."""
        return [message.body for message in self.messages]

    async def count(self, number: int) -> None:
        """Wait until it has been called so often."""
        async with asyncio.timeout(10):
            while len(self.messages) < number:
                self._more.clear()
                await self._more.wait()
