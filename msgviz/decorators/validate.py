"""validate: a body is JSON, and of the shape that a JSON Schema says; on both sides.

jsonschema does the work: drafts 3 to 2020-12, by the schema's ``$schema``. Nothing is fetched: a ``$ref``
leads to somewhere in the schema itself, or to the drafts' own. ``format`` is not checked. A body
that is nested more than 100 deep is refused: the library calls itself for each level, some times over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn

from msgviz.errors import MissingExtra, MsgvizError
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

try:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with
except ImportError as error:
    raise MissingExtra("the validate decorator", "validate") from error

Schema = Mapping[str, Any] | bool

_LATEST = "https://json-schema.org/draft/2020-12/schema"
_LONGEST = 200  # characters of a path, and of what is wrong
_DEEPEST = 100
_TOO_DEEP = "it is nested too deeply"
_MOST = 100  # problems among which the best is looked for: a body may have millions


class ValidationFailed(MsgvizError, ValueError):
    """A body is not what its schema says: `problem`, at `path` in the document (``$`` is all of it)."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"the body is not valid at {path}: {problem}")


def encoder(topic: Topic, *, schema: Schema) -> Topic:
    """A topic that takes only bodies of this schema; `ValidationFailed` before anything is sent.

    `ValueError` for a schema that is itself wrong.
    """
    return Encoder(topic, schema=schema)


def decoder(receiver: Receiver, *, schema: Schema) -> Receiver:
    """A receiver that is given only bodies of this schema.

    `ValidationFailed` for others, so that the server does with them what it does with what fails;
    `ValueError` for a schema that is itself wrong.
    """
    return Decoder(receiver, schema=schema)


class Encoder(TopicDecorator):
    """Checks on the way out."""

    layer = "validate"

    def __init__(self, next: Topic, *, schema: Schema) -> None:
        super().__init__(next)
        self._validator = _Validator(schema)

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on, if it is valid."""
        self._validator.check(message.body)
        await self.next.send(message, delay)


class Decoder(ReceiverDecorator):
    """Checks on the way in."""

    layer = "validate"

    def __init__(self, next: Receiver, *, schema: Schema) -> None:
        super().__init__(next)
        self._validator = _Validator(schema)

    async def __call__(self, message: Message) -> None:
        """Hand the message on, if it is valid."""
        self._validator.check(message.body)
        await self.receive(message)


class _Validator:
    """A schema, checked and ready."""

    def __init__(self, schema: Schema) -> None:
        if not isinstance(schema, (Mapping, bool)):
            raise TypeError(f"schema is a JSON Schema, a dict or a bool, not {type(schema).__name__}")
        try:  # a copy, too: what becomes of the caller's own changes nothing here
            schema = json.loads(
                json.dumps(schema if isinstance(schema, bool) else {**schema}, allow_nan=False)
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"schema is no JSON: {_short(str(error))}") from None
        kind = _kind(schema)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            raise ValueError(
                f"schema is wrong at {_path(error.absolute_path)}: {_short(error.message)}"
            ) from None
        dialect = kind.META_SCHEMA.get("$id") or kind.META_SCHEMA.get("id") or _LATEST
        specification = specification_with(dialect)
        resolver = REGISTRY.resolver_with_root(specification.create_resource(schema))
        _check_references(resolver, schema, specification, set())
        self._validator = kind(schema, registry=REGISTRY)

    def check(self, body: bytes) -> None:
        """Do nothing for a body that is valid; `ValidationFailed` for others."""
        path, problem = self._look(body)
        if problem:
            # Outside of all handlers: the errors of the library carry the whole body, and would print it.
            raise ValidationFailed(path, problem)

    def _look(self, body: bytes) -> tuple[str, str]:
        try:
            document = json.loads(body, parse_constant=_no_constant)
        except RecursionError:
            return "$", _TOO_DEEP
        except ValueError as error:  # no JSON, no Unicode, or a number of thousands of digits
            return "$", f"it is not JSON: {_short(str(error))}"
        if body.count(b"[") + body.count(b"{") > _DEEPEST and _is_too_deep(document):
            return "$", _TOO_DEEP
        try:
            found = best_match(islice(self._validator.iter_errors(document), _MOST))
            return ("", "") if found is None else (_path(found.absolute_path), _short(found.message))
        except RecursionError:
            return "$", _TOO_DEEP
        except ArithmeticError as error:
            return "$", f"it cannot be checked: {_short(str(error))}"
        except BaseException as error:
            if type(error).__module__ != "pyo3_runtime":
                raise
            return "$", _TOO_DEEP  # what a RecursionError becomes inside a library written in Rust


def _kind(schema: Any) -> Any:
    """The class of validators for a schema's draft."""
    if isinstance(schema, dict) and "$schema" in schema:
        draft = schema["$schema"]
        kind = validator_for(schema, default=None) if isinstance(draft, str) else None
        if kind is None:
            raise ValueError(f"schema: {_short(repr(draft))} is no draft that is known")
        return kind
    return Draft202012Validator


def _is_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(_DEEPEST):
        level = [inner for value in level for inner in _inside(value) if isinstance(inner, (dict, list))]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_references(resolver: Any, schema: Any, specification: Any, seen: set[int]) -> None:
    """Follow every reference of a schema, and what it leads to; `ValueError` for one that leads nowhere."""
    if id(schema) in seen or not isinstance(schema, Mapping):
        return
    seen.add(id(schema))
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        reference = schema.get(keyword)
        if isinstance(reference, str):
            try:
                found = resolver.lookup(reference)
            except Unresolvable:
                raise ValueError(
                    f"schema: the {keyword} {_short(repr(reference))} leads nowhere in it"
                ) from None
            _check_references(found.resolver, found.contents, specification, seen)
    for inner in specification.create_resource(schema).subresources():
        _check_references(resolver.in_subresource(inner), inner.contents, specification, seen)


def _path(steps: Iterable[str | int]) -> str:
    return _short("$" + "".join(_steps(steps)))


def _steps(steps: Iterable[str | int]) -> Iterator[str]:
    for step in steps:
        if isinstance(step, int):
            yield f"[{step}]"
        elif step.isascii() and step.isidentifier():
            yield f".{_short(step)}"
        else:
            yield f"[{_short(json.dumps(step))}]"


def _short(text: str) -> str:
    """Text of bounded length: its beginning and its end."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 61]}…{text[-60:]}"
