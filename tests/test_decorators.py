"""base64 and lz4: mirrored pairs that undo each other, and speak go-msg's wire formats."""

from __future__ import annotations

import asyncio
import base64 as standard
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lz4 import frame

import msgviz as mv
from msgviz.decorators import base64, lz4
from tests.flows import Backwards, Kept, accept, until
from tests.queues import drained
from tests.wires import FALLBACK, received_through, sent_through

VECTORS = json.loads(Path(__file__).with_name("data").joinpath("go-msg-vectors.json").read_text("utf-8"))
PAIRS: dict[str, Any] = {"base64": base64, "lz4": lz4, "backwards": Backwards}


codings = st.lists(st.sampled_from(["lz4", "base64", "gzip", "", "LZ4"]), max_size=3)
own_attributes = st.fixed_dictionaries(
    {},
    optional={
        "Content-Encoding": codings,
        "content-transfer-encoding": codings,
        "Direction": st.just(["left"]),
        "k": st.lists(st.text(max_size=3), min_size=1, max_size=3),
    },
)


@given(
    st.lists(st.sampled_from(["base64", "lz4"]), max_size=5),
    st.binary(max_size=300) | st.binary(max_size=4).map(lambda part: part * 5000),
    own_attributes,
)
@settings(max_examples=150)
def test_any_chain_gives_back_what_was_published(
    names: list[str], body: bytes, attributes: dict[str, list[str]]
) -> None:
    layers = [PAIRS[name] for name in names]
    message = mv.Message(body, attributes)

    def encoded(topic: mv.Topic) -> mv.Topic:
        for layer in reversed(layers):
            topic = layer.encoder(topic)
        return topic

    def decoded(receiver: mv.Receiver) -> mv.Receiver:
        for layer in layers:
            receiver = layer.decoder(receiver)
        return receiver

    wire = sent_through(encoded, message)
    before = mv.Message(wire.body, wire.attributes)
    assert received_through(decoded, wire) == message
    assert wire == before  # decoding changes nothing of what came
    if names:
        assert wire.attributes != message.attributes
    # decorators= composes the same
    backend = mv.connect("memory://")

    async def run() -> mv.Message:
        kept: list[mv.Message] = []

        async def receive(message: mv.Message) -> None:
            kept.append(message)

        server = backend.server("t", decorators=layers, max_attempts=1)
        await backend.topic("t", decorators=layers).publish(body, attributes=attributes)
        server.start(receive)
        await until(lambda: kept)
        await server.shutdown()
        await encoded(backend.topic("t")).publish(body, attributes=attributes)
        await backend.topic("t", decorators=layers).publish(body, attributes=attributes)
        assert await drained(backend, "t") == [before, before]
        return kept[0]

    assert asyncio.run(run()) == message


@pytest.mark.parametrize(
    "vector", VECTORS["vectors"], ids=lambda v: "-".join([*v["chain"], str(v["repeat"])])
)
@pytest.mark.parametrize("library", [base64, FALLBACK], ids=["pybase64", "standard"])
def test_what_go_msg_wrote_is_read(vector: dict[str, Any], library: Any) -> None:
    pairs = PAIRS | {"base64": library}
    plain = vector["plain_text"].encode() * vector["repeat"]
    wire = mv.Message(bytes.fromhex(vector["wire_body_hex"]), vector["wire_attributes"])

    def decoded(receiver: mv.Receiver) -> mv.Receiver:
        for name in vector["chain"]:
            receiver = pairs[name].decoder(receiver)
        return receiver

    assert received_through(decoded, wire) == mv.Message(plain, {"Sample-Name": "vector"})

    # And what is written here has the same attributes; base64 is the same byte for byte.
    def encoded(topic: mv.Topic) -> mv.Topic:
        for name in reversed(vector["chain"]):
            topic = pairs[name].encoder(topic)
        return topic

    ours = sent_through(encoded, mv.Message(plain, {"sample-name": "vector"}))
    assert ours.attributes == vector["wire_attributes"]
    if vector["chain"] == ["base64"]:
        assert ours.body == wire.body
    body = standard.b64decode(ours.body, validate=True) if "base64" in vector["chain"] else ours.body
    if "lz4" in vector["chain"]:
        assert body[:4] == bytes.fromhex("04224d18")  # the magic number of the LZ4 frame format
        body = frame.decompress(body)
    assert body == plain


def test_there_are_vectors() -> None:
    assert [vector["chain"] for vector in VECTORS["vectors"]] == [
        ["base64"], ["lz4"], ["lz4"], ["lz4", "base64"],
    ]  # fmt: skip


def test_the_fallback_is_one() -> None:
    assert vars(FALLBACK)["b64decode"] is standard.b64decode
    if importlib.util.find_spec("pybase64"):
        assert vars(base64)["b64decode"] is not standard.b64decode


@given(st.binary(max_size=100))
def test_both_libraries_write_the_same(body: bytes) -> None:
    wires = [sent_through(one.encoder, mv.Message(body)) for one in (base64, FALLBACK)]
    assert wires[0] == wires[1]
    assert wires[0].body == standard.b64encode(body)


def test_levels() -> None:
    plain = b"".join(b"%d," % (number * number) for number in range(3000))
    bodies = {}
    for level in (0, 9, 16):
        wire = sent_through(lambda topic, level=level: lz4.encoder(topic, level=level), mv.Message(plain))
        assert received_through(lz4.decoder, wire).body == plain
        bodies[level] = len(wire.body)
    assert bodies[0] > bodies[9] >= bodies[16]
    for level in (-1, 17):
        with pytest.raises(ValueError, match="level"):
            lz4.encoder(Kept(), level=level)


@pytest.mark.parametrize("name", ["base64", "lz4"])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"Content-Encoding": "gzip", "Content-Transfer-Encoding": "8bit"},
        {
            "Content-Encoding": ["gzip", "lz4"],
            "Content-Transfer-Encoding": ["8bit", "base64"],
        },  # not outermost
        {"Content-Encoding": "", "Content-Transfer-Encoding": ""},
    ],
)
def test_what_does_not_say_it_is_encoded_passes_untouched(name: str, attributes: dict[str, str]) -> None:
    wire = mv.Message(b"\x00no code", attributes)
    assert received_through(PAIRS[name].decoder, wire) is wire
    assert wire == mv.Message(b"\x00no code", attributes)


@pytest.mark.parametrize("name", PAIRS)
async def test_delays_pass_through(name: str) -> None:
    kept = Kept()
    topic = PAIRS[name].encoder(PAIRS[name].encoder(kept))
    async with topic.new_writer() as writer:
        writer.set_delay(7)
        writer.write(b"x")
    await topic.publish(b"x", delay=8)
    assert kept.delays == [7.0, 8.0]


@pytest.mark.parametrize("name", PAIRS)
async def test_a_writer_of_an_encoder_is_a_writer(name: str) -> None:
    kept = Kept()
    topic = PAIRS[name].encoder(kept)
    async with topic.new_writer():
        pass
    writer = topic.new_writer()

    async def raise_inside() -> None:
        async with writer:
            writer.write(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        await raise_inside()
    with pytest.raises(mv.WriterClosed):
        writer.close()
    assert kept.sent == []
    kept.error = ConnectionError("gone")
    with pytest.raises(ConnectionError, match="gone"):
        await topic.publish(b"x")


@pytest.mark.parametrize("name", PAIRS)
async def test_an_encoder_leaves_the_publishers_attributes_alone(name: str) -> None:
    attributes = mv.Attributes({"k": "v"})
    kept = Kept()
    for _ in range(2):
        async with PAIRS[name].encoder(kept).new_writer() as writer:
            writer.attributes = attributes
            writer.write(b"x")
    await PAIRS[name].encoder(kept).publish(b"x", attributes=attributes)
    assert attributes == {"k": "v"}
    assert kept.sent[0] == kept.sent[1] == kept.sent[2]


async def test_the_outermost_coding_comes_first() -> None:
    kept = Kept()
    await lz4.encoder(base64.encoder(lz4.encoder(kept))).publish(
        b"x", attributes={"content-encoding": ["br", "gzip"]}
    )
    (wire,) = kept.sent
    assert wire.attributes.get_all("Content-Encoding") == ["lz4", "lz4", "br", "gzip"]
    assert wire.attributes.get_all("Content-Transfer-Encoding") == ["base64"]


class OnlyOut:
    """A one-sided decorator: stamps what is published."""

    def encoder(self, topic: mv.Topic) -> mv.Topic:
        class Stamp(mv.TopicDecorator):
            async def send(self, message: mv.Message, delay: float) -> None:
                message.attributes["Stamp"] = "1"
                await self.next.send(message, delay)

        return Stamp(topic)


class OnlyIn:
    """A one-sided decorator: counts what is received."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def decoder(self, receiver: mv.Receiver) -> mv.Receiver:
        counted = self

        class Count(mv.ReceiverDecorator):
            async def __call__(self, message: mv.Message) -> None:
                counted.bodies.append(message.body)
                await self.receive(message)

        return Count(receiver)


async def test_one_sided_decorators_stand_where_they_are_named() -> None:
    outer, inner = OnlyIn(), OnlyIn()
    chain = (inner, base64, OnlyOut(), outer)  # in the order a body meets them on its way out
    backend = mv.connect("memory://")
    kept: list[mv.Message] = []
    async with backend.server("t", decorators=iter(chain)).running(kept.append):
        await backend.topic("t", decorators=iter(chain)).publish(b"x")
        await until(lambda: kept)
    assert (outer.bodies, inner.bodies) == ([b"eA=="], [b"x"])
    assert kept == [mv.Message(b"x", {"Stamp": "1"})]


@pytest.mark.parametrize("wrong", [[object()], [None], ["lz4"], [lz4, 3]])
def test_what_is_no_decorator(wrong: Any) -> None:
    backend = mv.connect("memory://")
    for make in (backend.topic, backend.server):
        with pytest.raises(TypeError, match="no decorator"):
            make("t", decorators=wrong)


@pytest.mark.parametrize("wrong", [lz4, base64, OnlyIn(), 3, None])
def test_decorators_are_a_list(wrong: Any) -> None:
    backend = mv.connect("memory://")
    for make in (backend.topic, backend.server):
        with pytest.raises(TypeError):
            make("t", decorators=wrong)
    with pytest.raises(TypeError, match=r"decorators=\(lz4,\)"):
        backend.topic("t", decorators=lz4)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_refuses_the_other_sides_thing(name: str) -> None:
    with pytest.raises(TypeError, match="wraps a Topic"):
        PAIRS[name].encoder(accept)
    with pytest.raises(TypeError, match="callable"):
        PAIRS[name].decoder(Kept())


async def test_receivers_in_decorators_may_be_plain() -> None:
    backend = mv.connect("memory://")
    seen: list[bytes] = []

    def receive(message: mv.Message) -> None:
        seen.append(message.body)

    async with backend.server("t", decorators=(lz4, base64)).running(receive):
        await backend.topic("t", decorators=(lz4, base64)).publish(b"x" * 1000)
        await until(lambda: seen)
    assert seen == [b"x" * 1000]


def printed_without_libraries(code: str) -> str:
    """What a Python prints that has neither lz4 nor pybase64."""
    block = "import sys; sys.modules['lz4'] = sys.modules['pybase64'] = None\n"
    done = subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_lz4_without_its_library_says_which_extra_brings_it() -> None:
    code = """
import msgviz
try:
    from msgviz.decorators import lz4
except msgviz.MissingExtra as error:
    print(isinstance(error, ImportError), error.extra, error)
"""
    assert printed_without_libraries(code) == (
        'True lz4 the lz4 decorator needs an extra: pip install "msgviz[lz4]"'
    )


def test_base64_without_its_library_is_the_standard_one() -> None:
    code = """
from msgviz.decorators import base64
print(base64.decode(b'QUJD'), base64.b64encode.__module__)
"""
    assert printed_without_libraries(code) == "b'ABC' base64"
