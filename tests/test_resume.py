"""A recorded message is sent on from a layer of its chain."""

from __future__ import annotations

import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4
from tests.flows import accept, columns, refuse
from tests.queues import Taking

CHAIN = (lz4, base64)


class Flow:
    """One message through a chain whose layers are observed."""

    def __init__(self) -> None:
        self.log = mv.MessageLog()
        self.backend = mv.observe(mv.connect("memory://"), self.log, layers=True)

    async def __aenter__(self) -> Flow:
        self.server = self.backend.server("t", subscription="s", decorators=CHAIN, max_attempts=1)
        self.server.start(refuse)
        topic = self.backend.topic("t", decorators=CHAIN)
        await topic.publish(b"hello", attributes={"A": "1"})
        await self.log.settled(5)
        self.id = self.log.messages.index[0]
        self.taking = Taking()
        self.server.start(self.taking)
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.backend.close()


@pytest.mark.parametrize("layer", [None, 1, 2, 3, "lz4", "base64", "memory t"])
async def test_whichever_the_layer_it_arrives_as_it_was(layer: int | str | None) -> None:
    async with Flow() as flow:
        again = await flow.log.resume(flow.id, layer=layer)
        await flow.log.settled(5)
        (message,) = flow.taking.messages
        assert message.body == b"hello"
        assert message.attributes["A"] == "1"
        assert flow.log.messages["state"].to_dict() == {flow.id: "resolved", again: "ok"}
        assert flow.log.detail(again).replay_of == flow.id
        assert flow.log.detail(again).conversation_id == flow.log.detail(flow.id).conversation_id


async def test_only_the_layers_from_there_on_see_it() -> None:
    async with Flow() as flow:
        again = await flow.log.resume(flow.id, layer="base64")
        await flow.log.settled(5)
        walk = flow.log.layers[flow.log.layers["message_id"] == again].query("direction == 'out'")
        assert list(walk["layer"]) == ["base64", "memory t"]


async def test_it_is_edited_as_it_is_at_that_layer() -> None:
    async with Flow() as flow:
        await flow.log.resume(flow.id, layer=1, edit=lambda m: m.with_body(m.body + b"!"))
        await flow.log.settled(5)
        assert flow.taking.bodies == [b"hello!"]

        def mark(message: mv.Message) -> None:
            message.attributes["B"] = "2"

        await flow.log.resume(flow.id, layer="memory t", edit=mark)
        await flow.log.settled(5)
        assert flow.taking.messages[-1].attributes["B"] == "2"


async def test_on_the_way_in_it_calls_the_layer() -> None:
    async with Flow() as flow:
        again = await flow.log.resume(flow.id, layer="lz4", side="receive")
        (message,) = flow.taking.messages
        assert message.body == b"hello"
        assert message.source is not None
        assert message.source.subscription == "s"
        assert columns(flow.log, "operation", "message_id", "outcome", "replay_of")[-1] == (
            "receive", again, "ok", flow.id,
        )  # fmt: skip
        assert flow.log.messages["state"].to_dict() == {flow.id: "resolved", again: "ok"}


async def test_on_the_way_in_it_raises_what_the_receiver_raises() -> None:
    async with Flow() as flow:
        flow.server.start(refuse)
        with pytest.raises(ValueError, match="not hello"):
            await flow.log.resume(flow.id, side="receive")


async def test_what_cannot_be_resumed() -> None:
    async with Flow() as flow:
        with pytest.raises(KeyError, match="nobody"):
            await flow.log.resume("nobody")
        with pytest.raises(LookupError, match=r"no.* layer 'gzip'; it came to 1 lz4, 2 base64, 3 memory t"):
            await flow.log.resume(flow.id, layer="gzip")
        with pytest.raises(ValueError, match="side is"):
            await flow.log.resume(flow.id, side="both")
        with pytest.raises(TypeError, match="edit returns a Message"):
            await flow.log.resume(flow.id, edit=lambda m: m.body)  # type: ignore[arg-type,return-value]
    log = mv.MessageLog()
    async with mv.observe(mv.connect("memory://"), log) as backend:
        backend.server("t").start(accept)
        await backend.topic("t").publish(b"x")
        await log.settled(5)
        with pytest.raises(LookupError, match="observe its chain with layers=True"):
            await log.resume(log.messages.index[0])
