"""validate: a schema on both sides."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import base64, validate, with_options
from msgviz.decorators.validate import ValidationFailed
from tests.decorators import clock, laws
from tests.decorators.laws import Taken, delivered
from tests.flows import Kept, accept
from tests.queues import letters

ORDER = {
    "type": "object",
    "properties": {
        "amount": {"type": "integer", "minimum": 0},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "required": ["amount"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"sku id": {"type": "string", "maxLength": 5}}}},
}


async def problem(body: bytes, schema: Any = ORDER) -> ValidationFailed | None:
    """What is wrong with a body; the same on both sides, and nothing passes."""
    kept, taken = Kept(), Taken()
    found = []
    for attempt in (
        validate.encoder(kept, schema=schema).publish(body),
        validate.decoder(taken, schema=schema)(delivered(body)),
    ):
        try:
            await attempt
        except ValidationFailed as error:
            found.append(error)
    if not found:
        assert [m.body for m in kept.sent] == taken.bodies == [body]
        return None
    one, other = found
    assert str(one) == str(other)
    assert kept.sent == taken.messages == []
    return one


@pytest.mark.parametrize(
    ("document", "path", "told"),
    [
        ({"amount": -1}, "$.amount", "-1 is less than the minimum of 0"),
        ({"amount": "1"}, "$.amount", "'1' is not of type 'integer'"),
        ({}, "$", "'amount' is a required property"),
        ([], "$", "[] is not of type 'object'"),
        ({"amount": 1, "lines": [{}, {"sku id": 3}]}, '$.lines[1]["sku id"]', "3 is not of type 'string'"),
        ({"amount": 1, "x": 1}, "$", "('x' was unexpected)"),
    ],
)
async def test_names_the_path_and_what_is_wrong(document: Any, path: str, told: str) -> None:
    error = await problem(json.dumps(document).encode())
    assert error is not None
    assert error.path == path
    assert told in error.problem
    assert str(error) == f"the body is not valid at {path}: {error.problem}"
    assert isinstance(error, mv.MsgvizError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b"{} {}", b'{"amount": NaN}', b"[Infinity]", b"-Infinity",
        b"9" * 5000,
    ],
)  # fmt: skip
async def test_what_is_no_json(body: bytes) -> None:
    error = await problem(body, True)
    assert error is not None
    assert error.path == "$"
    assert error.problem.startswith("it is not JSON: ")


@given(st.binary(max_size=30) | laws.json_bodies.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200)
def test_whatever_the_body_is(body: bytes) -> None:
    """It is valid, or a `ValidationFailed` says why; never another error."""
    error = clock.run(problem(body, {"type": ["object", "string"], "maxProperties": 1}))
    try:
        document = json.loads(body, parse_constant=lambda name: [])
    except ValueError:
        assert error is not None
    else:
        assert (error is None) == (
            isinstance(document, str) or (isinstance(document, dict) and len(document) < 2)
        )


DEEP = sys.getrecursionlimit() * 9 // 10


@pytest.mark.parametrize(
    ("body", "schema"),
    [
        (json.dumps("x" * 1_000_000).encode(), {"type": "integer"}),
        (json.dumps("\ud800\u202e\x1b[2J" * 100).encode(), {"const": "x"}),
        (json.dumps([3] * 100_000).encode(), {"items": {"type": "string"}}),
        (json.dumps({"k" * 100_000: 1}).encode(), {"additionalProperties": {"type": "string"}}),
        (json.dumps({"k" * 100_000: 1}).encode(), {"additionalProperties": False}),
        (json.dumps({f"k{n}": 1 for n in range(10_000)}).encode(), {"additionalProperties": False}),
        (b"[" * 100_000, True),
        (b'{"c":' * DEEP + b"1" + b"}" * DEEP, {"properties": {"c": {"$ref": "#"}}, "type": "object"}),
        (b"[" * 300 + b"1" + b"]" * 300, {"items": {"$ref": "#"}, "type": "array"}),
        (b"1" * 4000, {"multipleOf": 0.1}),
        (b"1" * 4000, {"maximum": 1}),
        (b"1e999", {"type": "string"}),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_what_is_huge_or_hostile_is_told_in_few_words(body: bytes, schema: Any) -> None:
    error = await problem(body, schema)
    assert error is not None
    whole = "".join(traceback.format_exception(error))
    assert len(error.path) <= 200
    assert len(error.problem) <= 300
    assert len(whole) < 3000  # what it was raised from prints no more either
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "schema", [True, {"items": {"$ref": "#"}, "properties": {"c": {"$ref": "#"}}}], ids=str
)
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"c":', b"}")])
async def test_how_deep_a_body_may_be(schema: Any, begin: bytes, end: bytes) -> None:
    assert await problem(begin * 100 + b"1" + end * 100, schema) is None
    for error in (
        await problem(begin * 101 + b"1" + end * 101, schema),
        await problem(begin * 100 + b"[]" + end * 100, schema),
    ):
        assert error is not None
        assert error.problem == "it is nested too deeply"
    assert await problem(b"[" + b"[]," * 200 + b'"' + b"[{" * 200 + b'"]', schema) is None
    assert await problem(b'"' + b"[{" * 200 + b'"', schema) is None


async def test_a_schema_that_goes_round_in_circles() -> None:
    error = await problem(b"1", {"$ref": "#"})
    assert error is not None
    assert error.problem == "it is nested too deeply"


async def test_not_every_problem_of_a_hopeless_body_is_looked_at() -> None:
    schema = {"items": {"type": "string"}, "maxItems": 5}  # the items are looked at first
    for count, at_the_top in ((10, True), (10_000, False)):
        error = await problem(json.dumps([1] * count).encode(), schema)
        assert error is not None
        assert (error.path == "$") == at_the_top


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "strin"}, r"wrong at \$\.type: 'strin' is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, r"wrong at \$\.properties\.a\.minimum: '1' is not of type"),
        ({"pattern": "("}, "'regex'"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "'#/\\$defs/none' leads nowhere"),
        ({"$ref": "https://example.com/schema.json"}, "leads nowhere"),
        ({"allOf": [{"$dynamicRef": "#none"}]}, "leads nowhere"),
        ({"$ref": "#/shapes/a", "shapes": {"a": {"$ref": "https://example.com/x"}}}, "leads nowhere"),
        ({"$schema": "https://example.com/draft"}, "no draft that is known"),
        ({"$schema": 7}, "no draft that is known"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "required": True}, r"\$\.required"),
        ({"const": {1, 2}}, "no JSON"),
        ({"const": float("nan")}, "no JSON"),
    ],
)
def test_a_schema_that_is_wrong_is_refused_at_once(schema: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        validate.encoder(Kept(), schema=schema)
    with pytest.raises(ValueError, match=told):
        validate.decoder(accept, schema=schema)


@pytest.mark.parametrize("wrong", [None, "{}", b"{}", [], 3])
def test_what_is_no_schema_at_all(wrong: Any) -> None:
    with pytest.raises(TypeError, match="schema is a JSON Schema, a dict or a bool, not"):
        validate.decoder(accept, schema=wrong)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3,
          "exclusiveMaximum": True}, 2, 3),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/n",
          "definitions": {"n": {"type": "integer"}}}, 3, "3"),
        ({"$id": "https://example.com/a", "$ref": "b",
          "$defs": {"b": {"$id": "https://example.com/b", "type": "null"}}}, None, 0),
        ({"$ref": "#here", "$defs": {"b": {"$anchor": "here", "type": "null"}}}, None, 0),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {"type": "null"}, {"type": "nul"}),
        ({"properties": {"next": {"$ref": "#"}}, "type": "object"}, {"next": {}}, {"next": {"next": 1}}),
        (True, 1, ...),
        (False, ..., 1),
    ],
)  # fmt: skip
async def test_drafts_and_references(schema: Any, good: Any, bad: Any) -> None:
    if good is not ...:
        assert await problem(json.dumps(good).encode(), schema) is None
    if bad is not ...:
        assert await problem(json.dumps(bad).encode(), schema) is not None


async def test_a_schema_that_is_changed_later() -> None:
    schema: dict[str, Any] = {"properties": {"a": {"type": "integer"}}}
    kept = Kept()
    topic = validate.encoder(kept, schema=schema)
    schema["properties"]["a"]["type"] = "string"
    await topic.publish(json={"a": 1})
    with pytest.raises(ValidationFailed):
        await topic.publish(json={"a": "1"})


def test_on_a_server() -> None:
    async def run() -> None:
        async with mv.connect("memory://") as backend:
            chain = (with_options(validate, schema=ORDER), base64)
            taken = Taken()
            server = backend.server("t", decorators=chain, max_attempts=2, backoff=0)
            topic = backend.topic("t", decorators=chain)
            async with server.running(taken):
                await topic.publish(json={"amount": 1})
                with pytest.raises(ValidationFailed):
                    await topic.publish(json={"amount": -1})
                await backend.topic("t").publish(json={"amount": -2})  # around the chain
                await topic.publish(json={"amount": 3})
                await taken.count(2)
            assert [message.json() for message in taken.messages] == [{"amount": 1}, {"amount": 3}]
            (letter,) = await letters(backend)
            assert letter.json() == {"amount": -2}
            assert letter.attributes["Dead-Letter-Reason"] == (
                "ValidationFailed: the body is not valid at $.amount: -2 is less than the minimum of 0"
            )

    clock.run(run())
