"""mv.chain: the layers of a topic, a receiver or a server."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4
from tests.flows import Backwards, Kept, accept

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def plain(message: mv.Message) -> None:
    """A receiver that runs in a thread."""


def test_of_a_topic_outermost_first() -> None:
    orders = mv.connect("memory://").topic("orders")
    encoded = base64.encoder(orders)
    topic = lz4.encoder(encoded)
    chain = mv.chain(topic)
    assert chain.names == ["lz4", "base64", "memory orders"]
    assert [layer.thing for layer in chain] == [topic, encoded, orders]
    assert (len(chain), chain[0].name, chain[-1].thing) == (3, "lz4", orders)
    assert repr(chain) == "publish → lz4 → base64 → memory orders"
    assert mv.chain(orders).names == ["memory orders"]


def test_as_decorators_name_it() -> None:
    backend = mv.connect("memory://")
    chain = (lz4, Backwards, base64)
    assert mv.chain(backend.topic("t", decorators=chain)).names == ["lz4", "backwards", "base64", "memory t"]


@pytest.mark.parametrize("receiver", [accept, plain])
def test_of_a_receiver_outermost_first(receiver: Any) -> None:
    name = receiver.__name__
    inner = lz4.decoder(receiver)
    chain = mv.chain(base64.decoder(inner))
    assert chain.names == ["base64", "lz4", name]
    assert chain[1].thing is inner
    assert chain[2].thing is receiver
    assert repr(chain) == f"server → base64 → lz4 → {name}"
    assert mv.chain(receiver).names == [name]


@pytest.mark.parametrize("receiver", [accept, plain])
async def test_of_a_server(receiver: Any) -> None:
    server = mv.connect("memory://").server("t", decorators=(lz4, Backwards, base64))
    with pytest.raises(ValueError, match="no receiver yet"):
        mv.chain(server)
    async with server.running(receiver):
        assert mv.chain(server).names == ["base64", "backwards", "lz4", receiver.__name__]
        server.start(accept)
        assert mv.chain(server).names == ["base64", "backwards", "lz4", "accept"]
        assert mv.chain(server)[-1].thing is accept


class Recorder:
    async def __call__(self, message: mv.Message) -> None: ...

    async def method(self, message: mv.Message) -> None: ...


async def test_names_of_all_sorts_of_receivers() -> None:
    async def charge(message: mv.Message) -> None: ...

    for receiver, name in (
        (charge, "charge"),
        (Recorder(), "Recorder"),
        (Recorder().method, "Recorder.method"),
        (lambda message: None, "<lambda>"),
        (functools.partial(charge), "partial"),
    ):
        assert mv.chain(receiver).names == [name]
        assert mv.chain(lz4.decoder(receiver)).names == ["lz4", name]


class Nameless(mv.TopicDecorator):
    async def send(self, message: mv.Message, delay: float) -> None:
        await self.next.send(message, delay)


def test_a_decorator_without_a_layer_name() -> None:
    assert mv.chain(Nameless(Kept("orders"))).names == ["nameless orders", "kept orders"]


class Hostile(mv.TopicDecorator):
    layer = HOSTILE

    async def send(self, message: mv.Message, delay: float) -> None: ...

    def __repr__(self) -> str:
        return HOSTILE


def test_html_escapes_names() -> None:
    def receiver(message: mv.Message) -> None: ...

    receiver.__qualname__ = HOSTILE
    for thing, count in ((Hostile(Hostile(Kept(HOSTILE))), 3), (lz4.decoder(receiver), 1)):
        page = mv.chain(thing)._repr_html_()
        assert "<img" not in page
        assert page.count("&lt;img") >= count
        # Within an attribute, nothing may end it.
        assert page.count('"') % 2 == 0
        assert "alert(1)>" not in page


def test_html_shows_the_names_in_order() -> None:
    page = mv.chain(lz4.encoder(base64.encoder(Kept("orders"))))._repr_html_()
    places = [page.index(f">{name}<") for name in ("publish", "lz4", "base64", "kept orders")]
    assert places == sorted(places)
    assert page.count("→") == 3


@pytest.mark.parametrize("wrong", [None, 1, "t", b"t", mv.connect("memory://"), Kept, mv.Message(b"")])
def test_what_has_no_chain(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a chain is that of"):
        mv.chain(wrong)
