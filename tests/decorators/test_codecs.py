"""gzip and zstd: mirrored pairs; any order of codecs gives back what was published."""

from __future__ import annotations

import asyncio
import gzip as standard
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, gzip, lz4, with_options, zstd
from tests.decorators import laws
from tests.flows import Kept, accept, until
from tests.wires import received_through, sent_through

CODECS: dict[str, Any] = {"base64": base64, "gzip": gzip, "lz4": lz4, "zstd": zstd}
OURS = ["gzip", "zstd"]
STANDARD = {"gzip": standard.compress, "zstd": zstandard.ZstdCompressor().compress}
READ = {"gzip": standard.decompress, "zstd": lambda body: zstandard.ZstdDecompressor().decompress(body)}

bodies = st.binary(max_size=300) | st.binary(max_size=4).map(lambda part: part * 5000)
codings = st.lists(st.sampled_from(["lz4", "base64", "gzip", "zstd", "", "GZIP"]), max_size=3)
attribute_sets = st.fixed_dictionaries(
    {},
    optional={
        "Content-Encoding": codings,
        "content-transfer-encoding": codings,
        "Msgviz-Id": st.just("c.m.p"),
        "k": st.lists(st.text(max_size=3), min_size=1, max_size=3),
    },
)


def encoded(names: list[str], topic: mv.Topic) -> mv.Topic:
    for name in reversed(names):
        topic = CODECS[name].encoder(topic)
    return topic


def decoded(names: list[str], receiver: mv.Receiver) -> mv.Receiver:
    for name in names:
        receiver = CODECS[name].decoder(receiver)
    return receiver


@given(st.lists(st.sampled_from(sorted(CODECS)), max_size=6), bodies, attribute_sets)
@settings(max_examples=200)
def test_any_order_of_codecs_gives_back_what_was_published(
    names: list[str], body: bytes, attributes: dict[str, Any]
) -> None:
    message = mv.Message(body, attributes)
    wire = sent_through(lambda topic: encoded(names, topic), message)
    before = mv.Message(wire.body, wire.attributes)
    wire.attempt, wire.source, wire.tag = 3, mv.Source("t", "s", 5), "c.tag."
    got = received_through(lambda receiver: decoded(names, receiver), wire)
    assert got == message
    assert (got.attempt, got.source, got.tag) == (3, wire.source, "c.tag.")
    assert wire == before  # decoding changes nothing of what came
    assert message == mv.Message(body, attributes)  # nor encoding of what was published
    codes = wire.attributes.get_all("Content-Encoding")
    assert codes == [
        *reversed([name for name in names if name != "base64"]),
        *message.attributes.get_all("Content-Encoding"),
    ]


@given(st.permutations(sorted(CODECS)), bodies)
@settings(max_examples=25)
def test_any_order_of_codecs_through_a_server(names: list[str], body: bytes) -> None:
    async def run() -> mv.Message:
        got: list[mv.Message] = []

        async def receive(message: mv.Message) -> None:
            got.append(message)

        chain = [CODECS[name] for name in names]
        async with mv.connect("memory://") as backend:
            server = backend.server("t", decorators=chain, max_attempts=1)
            await backend.topic("t", decorators=chain).publish(body, attributes={"A": ["1", "2"]})
            async with server.running(receive):
                await until(lambda: got)
        return got[0]

    assert asyncio.run(run()) == mv.Message(body, {"A": ["1", "2"]})


@pytest.mark.parametrize("name", OURS)
async def test_laws(name: str) -> None:
    codec = CODECS[name]
    await laws.forwards_the_delay(codec)
    await laws.raises_what_the_topic_raises(codec)
    await laws.lets_a_publish_be_cancelled(codec)
    for message in (laws.delivered(b"plain"), laws.delivered(b"plain", **{"Content-Encoding": "br"})):
        await laws.hands_on_what_came(codec, message)
        await laws.raises_what_the_receiver_raises(codec, message)
        await laws.lets_cancellation_through(codec, message)
        await laws.leaves_the_receivers_own_timeout_alone(codec, message)
    await laws.takes_many_at_once(codec)
    await laws.decorates_plain_functions(codec)
    laws.shows_its_layer(codec, name)


@pytest.mark.parametrize("name", OURS)
@given(body=bodies)
@settings(max_examples=50)
def test_others_read_what_is_written_and_write_what_is_read(name: str, body: bytes) -> None:
    wire = sent_through(CODECS[name].encoder, mv.Message(body, {"k": "v"}))
    assert wire.attributes == {"Content-Encoding": name, "k": "v"}
    assert READ[name](wire.body) == body
    assert CODECS[name].decode(STANDARD[name](body)) == body


def test_gzip_is_the_same_bytes_every_time_and_everywhere() -> None:
    # Header of RFC 1952: magic, deflate, no flags, no time, XFL by level, unknown system.
    for level, effort in ((1, 4), (6, 0), (9, 2)):
        body = gzip.encode(b"x" * 1000, level)
        assert body[:10] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, effort, 255])
        assert body == gzip.encode(b"x" * 1000, level)
    assert gzip.encode(b"").hex() == "1f8b08000000000000ff03000000000000000000"


@pytest.mark.parametrize(("name", "levels"), [("gzip", (0, 1, 9)), ("zstd", (-7, 1, 22))])
def test_levels(name: str, levels: tuple[int, ...]) -> None:
    plain = b"".join(b"%d," % (number * number) for number in range(3000))
    sizes = []
    for level in levels:
        wire = sent_through(
            lambda topic, level=level: CODECS[name].encoder(topic, level=level), mv.Message(plain)
        )
        assert CODECS[name].decode(wire.body) == plain
        sizes.append(len(wire.body))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    for wrong in (levels[0] - 1, levels[-1] + 1):
        with pytest.raises(ValueError, match=f"{name}: a level is .* not {wrong}"):
            CODECS[name].encoder(Kept(), level=wrong)
    for no_level in ("1", 1.5, True, None):
        with pytest.raises(TypeError, match="level is a whole number"):
            CODECS[name].encoder(Kept(), level=no_level)


@pytest.mark.parametrize("name", OURS)
def test_a_largest_size_is_a_whole_number(name: str) -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_size"):
            CODECS[name].decoder(accept, max_size=wrong)
    for no_size in ("1", 1.5, None, True):
        with pytest.raises(TypeError, match="max_size"):
            CODECS[name].decoder(accept, max_size=no_size)
    chain = with_options(CODECS[name], level=1, max_size=10)
    assert chain.encoder(Kept()).level == 1
    assert chain.decoder(accept).max_size == 10


def refusal(name: str, body: bytes, **options: Any) -> str:
    with pytest.raises(mv.DecodeError) as raised:
        CODECS[name].decode(body, **options)
    assert raised.value.layer == name
    return str(raised.value)


@pytest.mark.parametrize("name", OURS)
def test_every_cut_is_noticed(name: str) -> None:
    whole = STANDARD[name](b"some body, and some more of that body" * 3)
    for end in range(len(whole)):
        assert "cut short" in refusal(name, whole[:end])


@pytest.mark.parametrize("name", OURS)
@given(data=st.data())
@settings(max_examples=100)
def test_damage_is_noticed_or_harmless(name: str, data: st.DataObject) -> None:
    plain = b"some body, and some more of that body" * 3
    body = bytearray(sent_through(CODECS[name].encoder, mv.Message(plain)).body)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with suppress(mv.DecodeError):
        assert CODECS[name].decode(bytes(body)) == plain  # a byte of the header that says nothing


@pytest.mark.parametrize("name", OURS)
@given(body=st.binary(max_size=60))
@settings(max_examples=100)
def test_what_is_no_code_is_refused(name: str, body: bytes) -> None:
    refusal(name, b"\x00" + body)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("garbage", [b"\0", b"\0" * 20, b"garbage at the end", b"\x1f", b"\x28"])
def test_garbage_at_the_end_is_refused(name: str, garbage: bytes) -> None:
    refusal(name, STANDARD[name](b"body") + garbage)


@pytest.mark.parametrize("name", OURS)
def test_several_members_are_one_body(name: str) -> None:
    first, second = STANDARD[name](b"one" * 100), STANDARD[name](b"two" * 100)
    assert CODECS[name].decode(first + second + first) == b"one" * 100 + b"two" * 100 + b"one" * 100
    assert "unfold" in refusal(name, first + second, max_size=599)
    assert CODECS[name].decode(first + second, max_size=600) == b"one" * 100 + b"two" * 100


@pytest.mark.parametrize("name", OURS)
def test_a_bomb_is_not_unfolded(name: str) -> None:
    zeros = b"\0" * 100_000_000
    bomb = (
        gzip.encode(zeros, 9)
        if name == "gzip"
        else zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    )
    tracemalloc.start()
    try:
        assert "unfold to more than 100000 bytes" in refusal(name, bomb, max_size=100_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", OURS)
async def test_an_undecodable_message_is_given_back(name: str) -> None:
    async with mv.connect("memory://") as backend:
        server = backend.server("t", decorators=[CODECS[name]], max_attempts=1)
        letters: list[mv.Message] = []

        async def keep(message: mv.Message) -> None:
            letters.append(message)

        dead = backend.server("t.default.dead")
        await backend.topic("t").publish(b"no code", attributes={"Content-Encoding": name})
        async with server.running(accept), dead.running(keep):
            await until(lambda: letters)
    assert letters[0].body == b"no code"
    assert letters[0].attributes["Dead-Letter-Reason"].startswith(f"DecodeError: {name}: the body says it is")


def test_zstd_without_its_library_says_which_extra_brings_it() -> None:
    code = """
import sys; sys.modules["zstandard"] = None
import msgviz
try:
    from msgviz.decorators import zstd
except msgviz.MissingExtra as error:
    print(isinstance(error, ImportError), error.extra, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'True zstd the zstd decorator needs an extra: pip install "msgviz[zstd]"'
