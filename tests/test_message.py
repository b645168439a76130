"""Message: a body of bytes, its attributes, and what a person sees of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgviz as mv
from msgviz.message import preview
from tests.flows import until

HOSTILE = "<img src=x onerror=alert(1)>\"'&</pre><script>"


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXcX")[::2]])
def test_bodies_are_bytes(body: Any) -> None:
    message = mv.Message(body)
    assert message.body == b"abc"
    assert type(message.body) is bytes
    assert message.with_body(body).body == b"abc"
    assert type(message.with_body(body).body) is bytes


def test_a_body_is_its_own() -> None:
    buffer: Any = bytearray(b"abc")
    message = mv.Message(buffer)
    buffer[:] = b"xyz"
    assert message.body == b"abc"


@pytest.mark.parametrize("body", ["text", None, 3, [1], {"a": 1}])
def test_what_is_no_body(body: Any) -> None:
    with pytest.raises(TypeError, match=type(body).__name__):
        mv.Message(body)
    with pytest.raises(TypeError, match=type(body).__name__):
        mv.Message(b"").with_body(body)


def test_text_is_told_how_to_be_a_body() -> None:
    with pytest.raises(TypeError, match="encode"):
        mv.Message("text")  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text(text: str) -> None:
    message = mv.Message(text.encode())
    assert message.text == text
    assert message.text == text  # reading never drains


def test_text_that_is_none() -> None:
    with pytest.raises(UnicodeDecodeError):
        mv.Message(b"\xff").text  # noqa: B018


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_json(value: Any) -> None:
    message = mv.Message(json.dumps(value).encode())
    assert message.json() == value
    assert message.json() == value


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\xfd", b"nope", b"{'a': 1}"])
def test_json_that_is_none(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the json module's own words
        mv.Message(body).json()


def test_attributes_are_the_messages_own() -> None:
    source = mv.Attributes({"k": "v"})
    message = mv.Message(b"", source)
    source["k"] = "changed"
    source["more"] = "1"
    assert message.attributes == {"K": "v"}
    message.attributes["other"] = "2"
    assert "Other" not in source


def test_attributes_can_be_assigned() -> None:
    message = mv.Message(b"", {"old": "1"})
    given = {"k": ["v", "w"]}
    message.attributes = given
    given["k"].append("x")
    assert message.attributes.get_all("K") == ["v", "w"]
    assert "Old" not in message.attributes
    assert message.with_body(b"x").attributes == {"K": ["v", "w"]}
    with pytest.raises(TypeError):
        message.attributes = {"k": 1}  # type: ignore[dict-item]


def test_with_body_has_its_own_attributes() -> None:
    message = mv.Message(b"one", {"k": ["v", "w"]})
    message.attributes["before"] = "1"
    other = message.with_body(b"two")
    message.attributes["after"] = "1"
    other.attributes.add("k", "x")
    assert message.body == b"one"
    assert message.attributes == {"K": ["v", "w"], "Before": "1", "After": "1"}
    assert other.body == b"two"
    assert other.attributes == {"K": ["v", "w", "x"], "Before": "1"}


async def test_with_body_stays_the_same_delivery() -> None:
    backend = mv.connect("memory://")
    server = backend.server("orders", subscription="billing", max_attempts=7, backoff=0)
    seen: list[tuple[int, int, mv.Source | None, mv.Source | None]] = []

    async def receive(message: mv.Message) -> None:
        other = message.with_body(b"other")
        seen.append((message.attempt, other.attempt, message.source, other.source))
        if message.attempt == 1:
            raise ValueError("once")

    async with server.running(receive):
        await backend.topic("orders").publish(b"x")
        await until(lambda: len(seen) == 2)
    source = mv.Source("orders", "billing", 7)
    assert seen == [(1, 1, source, source), (2, 2, source, source)]
    assert str(source) == "orders/billing"


def test_a_message_that_was_not_delivered() -> None:
    message = mv.Message(b"x")
    assert (message.attempt, message.source, message.tag) == (1, None, None)
    assert message.attributes == {}


def test_equality() -> None:
    assert mv.Message(b"a", {"k": "v"}) == mv.Message(b"a", {"K": ["v"]})
    assert mv.Message(b"a", {"k": "v"}) != mv.Message(b"b", {"k": "v"})
    assert mv.Message(b"a", {"k": "v"}) != mv.Message(b"a", {"k": "w"})
    assert mv.Message(b"a") != b"a"
    with pytest.raises(TypeError):
        hash(mv.Message(b"a"))


def test_repr() -> None:
    assert repr(mv.Message(b"abc", {"k": "v"})) == "Message(b'abc', Attributes({'K': 'v'}))"
    message = mv.Message(b"x" * 61)
    message.attempt = 3
    assert repr(message) == f"Message({b'x' * 60!r}… (61 bytes), Attributes({{}}), attempt=3)"


@pytest.mark.parametrize(
    "body", [HOSTILE.encode(), json.dumps({HOSTILE: HOSTILE}).encode(), b"\xff" + HOSTILE.encode()]
)
def test_html_escapes_all_that_came(body: bytes) -> None:
    page = mv.Message(body, {HOSTILE: HOSTILE, "k": [HOSTILE, "\ud800"]})._repr_html_()
    for tag in ("<img", "<script", "</pre><script"):
        assert tag not in page
    assert page.count("<pre") == page.count("</pre") == 1
    assert "onerror" in page  # it is shown, as text
    page.encode()


@given(st.binary(max_size=300), st.integers(1, 64))
def test_a_preview_is_text_a_page_can_show(body: bytes, limit: int) -> None:
    shown = preview(body, limit)
    shown.encode()
    assert all(c.isprintable() or c in "\t\r\n" for c in shown)
    if len(body) > limit:
        assert f"{len(body) - limit} bytes more" in shown


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"b":1,"a":[]}', '{\n  "b": 1,\n  "a": []\n}'),
        (' [ "★" ]'.encode(), '[\n  "★"\n]'),
        (b"{not json", "{not json"),
        ("zwölf\n★".encode(), "zwölf\n★"),
        (b"", ""),
        (b"\x00\x01A", "000000  00 01 41" + " " * 41 + "..A"),
        # What turns the direction of text, or is half a character, is spelled out.
        (b'["\\u202e"]', '[\n  "\\u202e"\n]'),
        (b'["\\ud800"]', '[\n  "\\ud800"\n]'),
        ("\u202e".encode(), "000000  e2 80 ae" + " " * 41 + "..."),
    ],
)
def test_previews(body: bytes, shown: str) -> None:
    assert preview(body) == shown


def test_a_preview_is_cut_between_characters() -> None:
    assert preview("★★★".encode(), 4) == "★… 5 bytes more"


@pytest.mark.parametrize(
    "body", [b"[" * 900 + b"]" * 900, b"[" * 1990 + b"]" * 1990, b"[" + b"9" * 5000 + b"]"]
)
def test_hostile_json_is_shown_in_a_bounded_space(body: bytes) -> None:
    assert preview(body, 8000) == body.decode()


def test_the_core_imports_no_third_party_package() -> None:
    code = (
        "import sys; before = set(sys.modules); import msgviz; msgviz.connect('memory://');"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['msgviz']"


def test_names() -> None:
    for name in mv.__all__:
        assert name in dir(mv)
    with pytest.raises(AttributeError, match="nonsense"):
        mv.nonsense  # noqa: B018


def test_errors_are_one_tree() -> None:
    for error in (
        mv.WriterClosed, mv.ServerClosed, mv.BackendClosed, mv.Unsupported, mv.UnknownBackend,
        mv.MissingExtra, mv.ConnectionFailed, mv.DecodeError, mv.LogFileError,
    ):  # fmt: skip
        assert issubclass(error, mv.MsgvizError)
    assert issubclass(mv.MissingExtra, ImportError)
    assert issubclass(mv.DecodeError, ValueError)
    assert issubclass(mv.UnknownBackend, ValueError)
    assert issubclass(mv.ConnectionFailed, ConnectionError)
    assert not issubclass(mv.MsgvizError, asyncio.CancelledError)
