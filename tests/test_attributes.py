"""Attributes: several values a key, and the key rules of Go's net/textproto."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

import msgviz as mv

_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def go_canonical(key: str) -> str:
    """The documented rule of textproto.CanonicalMIMEHeaderKey, byte by byte.

    "converts the first letter and any letter following a hyphen to upper case; the rest are converted
    to lowercase. If s contains a space or invalid header field bytes, it is returned without
    modifications."
    """
    raw = key.encode("utf-8", "surrogatepass")
    if any(byte not in _TOKEN_BYTES for byte in raw):
        return key
    out = bytearray()
    upper = True
    for byte in raw:
        if upper and ord("a") <= byte <= ord("z"):
            byte -= 32  # noqa: PLW2901  Go's own loop
        elif not upper and ord("A") <= byte <= ord("Z"):
            byte += 32  # noqa: PLW2901
        out.append(byte)
        upper = byte == ord("-")
    return out.decode("ascii")


tokens = st.text(st.sampled_from(_TOKEN_BYTES.decode()), max_size=12)
dashed = st.text(st.sampled_from("-aAzZ1_"), max_size=8)
any_keys = st.one_of(tokens, dashed, st.text(st.characters(), max_size=8))
values = st.text(max_size=6)
# Few keys, in several spellings, so that the steps of a history meet.
few_keys = st.sampled_from(
    [
        "a",
        "A",
        "content-type",
        "Content-TYPE",
        "",
        "-",
        "a b",
        "A b",
        "é",
        "É",
        "\u017f",
        "K",
        "k",
        "k:",
        "K:",
    ]
)


@given(any_keys)
@settings(max_examples=200)
def test_keys_are_spelled_as_go_spells_them(key: str) -> None:
    assert mv.canonical_key(key) == go_canonical(key)
    assert mv.canonical_key(mv.canonical_key(key)) == mv.canonical_key(key)
    assert list(mv.Attributes({key: "v"})) == [go_canonical(key)]


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("content-encoding", "Content-Encoding"),
        ("CONTENT-md5", "Content-Md5"),
        ("--x--", "--X--"),
        ("x_y.z", "X_y.z"),
        ("1a-2B", "1a-2b"),
        ("has space", "has space"),
        ("colon:", "colon:"),
        ("tab\t", "tab\t"),
        ("nul\0", "nul\0"),
        ("naïve", "naïve"),
        ("ǆ", "ǆ"),  # a character whose title case is another: Python would change it, Go does not
        ("straße", "straße"),
        ("\ud800", "\ud800"),
        ("", ""),
        ('say"what', 'say"what'),
    ],
)
def test_spellings(key: str, form: str) -> None:
    assert mv.canonical_key(key) == form == go_canonical(key)


class History(RuleBasedStateMachine):
    """Any history of calls leaves an Attributes and its copies as a dict of lists would be."""

    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[mv.Attributes, dict[str, list[str]]]] = []

    def _keep(self, attributes: mv.Attributes, model: dict[str, list[str]]) -> int:
        self.pairs.append((attributes, model))
        return len(self.pairs) - 1

    @rule(target=made, source=st.dictionaries(few_keys, st.lists(values, max_size=3), max_size=4))
    def make(self, source: dict[str, list[str]]) -> int:
        model: dict[str, list[str]] = {}
        for key, several in source.items():
            for value in several:
                model.setdefault(go_canonical(key), []).append(value)
        return self._keep(mv.Attributes(source), model)

    @rule(target=made, of=made, how=st.sampled_from(["copy", "make", "message", "copy.copy", "deepcopy"]))
    def copy(self, of: int, how: str) -> int:
        attributes, model = self.pairs[of]
        ways: dict[str, Any] = {
            "copy": attributes.copy,
            "make": lambda: mv.Attributes(attributes),
            "message": lambda: mv.Message(b"", attributes).with_body(b"x").attributes,
            "copy.copy": lambda: copy.copy(attributes),
            "deepcopy": lambda: copy.deepcopy(attributes),
        }
        return self._keep(ways[how](), {key: list(several) for key, several in model.items()})

    @rule(of=made, key=few_keys, value=values)
    def set(self, of: int, key: str, value: str) -> None:
        attributes, model = self.pairs[of]
        attributes[key] = value
        model[go_canonical(key)] = [value]

    @rule(of=made, key=few_keys, value=values)
    def add(self, of: int, key: str, value: str) -> None:
        attributes, model = self.pairs[of]
        attributes.add(key, value)
        model.setdefault(go_canonical(key), []).append(value)

    @rule(of=made, key=few_keys, several=st.lists(values, max_size=3))
    def set_all(self, of: int, key: str, several: list[str]) -> None:
        attributes, model = self.pairs[of]
        attributes.set_all(key, iter(several))
        model.pop(go_canonical(key), None)
        if several:
            model[go_canonical(key)] = list(several)

    @rule(of=made, key=few_keys)
    def delete(self, of: int, key: str) -> None:
        attributes, model = self.pairs[of]
        if go_canonical(key) in model:
            del attributes[key]
            del model[go_canonical(key)]
        else:
            with pytest.raises(KeyError):
                del attributes[key]

    @rule(of=made, key=few_keys)
    def pop(self, of: int, key: str) -> None:
        attributes, model = self.pairs[of]
        assert attributes.pop(key, None) == model.pop(go_canonical(key), [None])[0]

    @rule(of=made, what=st.dictionaries(few_keys, values, max_size=3))
    def update(self, of: int, what: dict[str, str]) -> None:
        attributes, model = self.pairs[of]
        attributes.update(what)
        model.update({go_canonical(key): [value] for key, value in what.items()})

    @rule(of=made, key=few_keys, value=values)
    def setdefault(self, of: int, key: str, value: str) -> None:
        attributes, model = self.pairs[of]
        assert attributes.setdefault(key, value) == model.setdefault(go_canonical(key), [value])[0]

    @rule(of=made)
    def clear(self, of: int) -> None:
        attributes, model = self.pairs[of]
        attributes.clear()
        model.clear()

    @rule(of=made)
    def lists_given_are_not_the_ones_kept(self, of: int) -> None:
        attributes, _ = self.pairs[of]
        for key, several in attributes.to_dict().items():
            several.append("more")
            attributes.get_all(key).append("more")

    @invariant()
    def all_are_as_their_models(self) -> None:
        for attributes, model in self.pairs:
            assert attributes.to_dict() == model
            assert len(attributes) == len(model)
            assert set(attributes) == set(model)
            assert dict(attributes.items()) == {key: several[0] for key, several in model.items()}
            for key in ("a", "Content-TYPE", "k:", ""):
                assert attributes.get_all(key) == model.get(go_canonical(key), [])
                assert attributes.get(key) == model.get(go_canonical(key), [None])[0]
                assert (key in attributes) == (go_canonical(key) in model)
        for attributes, model in self.pairs[-3:]:
            for other, other_model in self.pairs[-3:]:
                assert (attributes == other) == (model == other_model)


History.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
test_any_history = History.TestCase


def test_it_is_a_mutable_mapping() -> None:
    attributes = mv.Attributes({"b": "2", "a": ["1", "x"]})
    assert isinstance(attributes, MutableMapping)
    assert list(attributes) == ["B", "A"]
    assert list(attributes.keys()) == ["B", "A"]
    assert list(attributes.values()) == ["2", "1"]
    assert attributes["A"] == "1"
    with pytest.raises(KeyError):
        attributes["none"]
    assert attributes.popitem()[0] in {"A", "B"}
    assert len(attributes) == 1
    with pytest.raises(TypeError):
        hash(attributes)


def test_equality() -> None:
    attributes = mv.Attributes({"a": ["1", "2"], "b": "3"})
    assert attributes == mv.Attributes({"B": ["3"], "A": ["1", "2"]})
    assert attributes == {"A": ["1", "2"], "b": "3"}
    assert attributes != {"a": "1", "b": "3"}
    assert attributes != {"a": ["2", "1"], "b": "3"}
    assert attributes != {"a": ["1", "2"], "b": 3}
    assert attributes != "a"
    assert attributes != [("a", "1")]
    assert mv.Attributes() == {}


@pytest.mark.parametrize("value", [1, None, b"x", 1.5, {"x": "y"}, {"x"}, object()])
def test_a_value_is_text(value: Any) -> None:
    attributes = mv.Attributes({"k": "v"})
    with pytest.raises(TypeError, match="'bad'"):
        mv.Attributes({"bad": value})
    with pytest.raises(TypeError, match="'bad'"):
        mv.Attributes({"bad": ["fine", value]})
    with pytest.raises(TypeError, match="'bad'"):
        attributes["bad"] = value
    with pytest.raises(TypeError, match="'bad'"):
        attributes.add("bad", value)
    with pytest.raises(TypeError, match="'bad'"):
        attributes.set_all("bad", ["fine", value])
    assert attributes.to_dict() == {"K": ["v"]}


@pytest.mark.parametrize("key", [1, None, b"k", ("k",)])
def test_a_key_is_text(key: Any) -> None:
    attributes = mv.Attributes({"k": "v"})
    for use in (
        lambda: mv.Attributes({key: "v"}),
        lambda: attributes.__setitem__(key, "v"),
        lambda: attributes[key],
        lambda: attributes.add(key, "v"),
        lambda: attributes.get_all(key),
        lambda: mv.canonical_key(key),
    ):
        with pytest.raises(TypeError, match="key is a str"):
            use()
    assert key not in attributes
    assert attributes.to_dict() == {"K": ["v"]}


@pytest.mark.parametrize("source", ["text", ["list"], [("k", "v")], 1, b"x"])
def test_made_from_mappings_only(source: Any) -> None:
    with pytest.raises(TypeError, match="mapping"):
        mv.Attributes(source)


def test_made_from_any_mapping() -> None:
    class Own(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"x": ("1", "2"), "X": "3", "none": []}[key]

        def __iter__(self) -> Any:
            return iter(["x", "X", "none"])

        def __len__(self) -> int:
            return 3

    assert mv.Attributes(Own()).to_dict() == {"X": ["1", "2", "3"]}


def test_values_of_a_subclass_of_str_stay_whole() -> None:
    class Colour(StrEnum):
        RED = "red"

    attributes = mv.Attributes({"c": Colour.RED})
    attributes.add("d", Colour.RED)
    assert attributes.to_dict() == {"C": ["red"], "D": ["red"]}
    assert attributes.get_all("c") == ["red"]
    assert attributes == {"C": "red", "D": "red"}


def test_hostile_keys_cost_a_bounded_memory() -> None:
    mv.Attributes({f"warm-{n}": "v" for n in range(5000)})
    tracemalloc.start()
    try:
        for number in range(20_000):
            mv.canonical_key(f"{number:0500d}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8_000_000  # all of them would be 11 MB of text and their places


def test_repr_says_all() -> None:
    attributes = mv.Attributes({"a": ["1", "2"], "b": "3"})
    assert repr(attributes) == "Attributes({'A': ['1', '2'], 'B': '3'})"
    assert eval(repr(attributes), {"Attributes": mv.Attributes}) == attributes


def test_html_escapes_keys_and_values() -> None:
    hostile = "<script>alert('1')</script>&"
    page = mv.Attributes({hostile: hostile, "k": [hostile, "\ud800"]})._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3
    page.encode()  # a notebook is UTF-8


def test_update_takes_all_that_attributes_are_made_from() -> None:
    attributes = mv.Attributes({"Tag": ["old", "older"], "Kept": "yes"})
    attributes.update({"tag": ["a", "b"]}, source="web")
    assert attributes.to_dict() == {"Tag": ["a", "b"], "Kept": ["yes"], "Source": ["web"]}
    attributes.update(mv.Attributes({"Source": ["x", "y"]}))
    assert attributes.get_all("source") == ["x", "y"]
    with pytest.raises(TypeError, match="a value is a str or a list of str, not int"):
        attributes.update({"tag": 1})
