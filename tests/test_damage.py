"""Bodies that are not what they say: refused by the layer that finds it, and never lost or changed."""

from __future__ import annotations

import contextlib
import importlib.util
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lz4 import frame

import msgviz as mv
from msgviz.decorators import base64, lz4
from tests.conftest import require
from tests.flows import accept, until
from tests.queues import letters
from tests.wires import FALLBACK, received_through, sent_through

LAYERS: dict[str, Any] = {"base64": base64, "lz4": lz4}


@pytest.fixture(params=["pybase64", "standard library"])
def coding(request: pytest.FixtureRequest) -> Any:
    """The base64 decorator, with either library beneath it."""
    if request.param == "pybase64":
        require(importlib.util.find_spec("pybase64"), "pybase64 is not installed")
        return base64
    return FALLBACK


GOOD = frame.compress(b"0123456789" * 1000, content_checksum=True)


DAMAGED = {
    "base64": [
        *(b"!", b"QUJD!", b"QUI", b"QUI=x", b"=", b"QUJD=", b"QUI==", b"QQ", b"Q Q=", b"_-_-"),
        *(b"\xff\xfe", "é".encode()),
    ],
    "lz4": [
        *(b"x", b"no lz4 at all", GOOD + b"more", GOOD[:20] + b"\xff" + GOOD[21:]),
        *(GOOD[:1], GOOD[:10], GOOD[:-1], GOOD[:-4], GOOD[:-1] + b"\0", GOOD + GOOD[:9]),
    ],
}


@pytest.mark.parametrize(
    ("layer", "body"), [(layer, body) for layer, bodies in DAMAGED.items() for body in bodies]
)
async def test_a_damaged_body_comes_again_as_it_was_and_dies_as_it_was(layer: str, body: bytes) -> None:
    key = {"base64": "Content-Transfer-Encoding", "lz4": "Content-Encoding"}[layer]
    backend = mv.connect("memory://")
    errors: list[Exception] = []

    class Seen(mv.ReceiverDecorator):
        async def __call__(self, message: mv.Message) -> None:
            assert message.body == body
            try:
                await self.receive(message)
            except Exception as error:
                errors.append(error)
                raise

    server = backend.server("t", max_attempts=3, backoff=0)
    async with server.running(Seen(LAYERS[layer].decoder(accept))):
        await backend.topic("t").publish(body, attributes={key: [layer, "own"]})
        await until(lambda: len(errors) == 3)
    for error in errors:
        assert isinstance(error, mv.DecodeError)
        assert error.layer == layer
        assert str(error).startswith(f"{layer}: ")
    (letter,) = await letters(backend)
    assert letter.body == body
    assert letter.attributes.get_all(key) == [layer, "own"]
    assert letter.attributes["Dead-Letter-Reason"].startswith(f"DecodeError: {layer}: ")


@pytest.mark.parametrize("body", DAMAGED["base64"])
def test_a_damaged_base64(coding: Any, body: bytes) -> None:
    wire = mv.Message(body, {"Content-Transfer-Encoding": "base64"})
    with pytest.raises(mv.DecodeError) as caught:
        received_through(coding.decoder, wire)
    assert caught.value.layer == "base64"


@given(st.binary(min_size=1, max_size=60), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=150)
def test_no_damage_is_passed_on(content: bytes, place: int, byte: int) -> None:
    body = bytearray(sent_through(lz4.encoder, mv.Message(content * 20)).body)
    body[place % len(body)] = byte
    with contextlib.suppress(mv.DecodeError):
        assert lz4.decode(bytes(body)) == content * 20


@pytest.mark.parametrize("max_size", [1, 100, 9_999, 10_000, 10_001])
def test_no_more_is_unfolded_than_allowed(max_size: int) -> None:
    wire = sent_through(lz4.encoder, mv.Message(b"x" * 10_000))

    def decoded(receiver: mv.Receiver) -> mv.Receiver:
        return lz4.decoder(receiver, max_size=max_size)

    if max_size < 10_000:
        with pytest.raises(mv.DecodeError, match=f"more than {max_size} bytes"):
            received_through(decoded, wire)
    else:
        assert received_through(decoded, wire).body == b"x" * 10_000


def test_many_frames_count_together() -> None:
    body = frame.compress(b"x" * 100) * 10
    assert lz4.decode(body, 1000) == b"x" * 1000
    with pytest.raises(mv.DecodeError, match="more than 999"):
        lz4.decode(body, 999)
    assert lz4.decode(frame.compress(b"") * 1000) == b""


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    bomb = frame.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(mv.DecodeError):
            lz4.decode(bomb, 1_000_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10_000_000


VARIED = b"".join(number.to_bytes(4, "big") for number in (n * 2654435761 % 2**32 for n in range(80_000)))


@pytest.mark.parametrize(
    "kwargs", [{"store_size": False}, {"block_size": 7}, {"block_linked": False}, {"block_checksum": True}]
)
@pytest.mark.parametrize("size", [0, 1, 65_536, 300_001])
def test_lz4_frames_of_all_kinds_are_read(kwargs: dict[str, Any], size: int) -> None:
    for plain in (bytes(size), VARIED[:size]):
        assert lz4.decode(frame.compress(plain, **kwargs)) == plain
        assert lz4.decode(frame.compress(plain, **kwargs), max_size=size) == plain


nearly_base64 = st.text(st.sampled_from("AQgw/+-_= \r\n\t*\0é"), max_size=12).map(str.encode)


@given(nearly_base64 | nearly_base64.map(lambda body: body + b"=" * (-len(body) % 4)))
@settings(max_examples=400)
def test_both_libraries_read_the_same(body: bytes) -> None:
    results: list[bytes | str] = []
    for one in (base64, FALLBACK):
        try:
            results.append(one.decode(body))
        except mv.DecodeError:
            results.append("no base64")
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("body", "plain"),
    [(b"", b""), (b"QUJD\r\nRA==\n", b"ABCD"), (b"\nQ\nQ\n=\n=", b"A"), (b"+/8=", b"\xfb\xff")],
)
def test_base64_that_is_read(coding: Any, body: bytes, plain: bytes) -> None:
    wire = mv.Message(body, {"Content-Transfer-Encoding": "base64"})
    assert received_through(coding.decoder, wire) == mv.Message(plain)
