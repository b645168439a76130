"""Expressions over events, as pandas' `query` takes them, with errors meant for the person who wrote one."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from tokenize import TokenError

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.errors import UndefinedVariableError


class QueryError(ValueError):
    """An expression that does not say for each event whether it is meant; the text is meant for a person."""


def evaluate(expression: str, events: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each of the events is meant; `QueryError` for an expression that does not say so."""
    try:
        result = events.eval(expression, engine="python", local_dict={}, global_dict={})
    except UndefinedVariableError as error:
        raise QueryError(f"{error}. Columns: {', '.join(events.columns)}.") from error
    except SyntaxError as error:
        raise QueryError(f"Not an expression: {error.msg}. Write one such as size > 100.") from error
    except TokenError as error:
        raise QueryError("The expression has no end: a bracket or a quote is not closed.") from error
    except Exception as error:  # what a person writes can fail in any way
        raise QueryError(f"{type(error).__name__}: {error}") from error
    if not isinstance(result, pd.Series) or result.dtype.kind != "b" or len(result) != len(events):
        raise QueryError("This is not true or false for each event. Write a comparison, such as size > 100.")
    return result.fillna(value=False).to_numpy(np.bool_, copy=True)


def required_texts(expression: str, fields: Container[str]) -> list[tuple[str, str, frozenset[str]]]:
    """What an expression asks at least: texts, one of which a field must be for the whole to be true.

    ``topic == 'a' and size > 3`` asks for the topic to be 'a', whatever the size. Each is the field, a key
    ("Source" in ``attributes.str['Source']``, otherwise nothing) and the texts.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):  # DataFrame.eval reads more than Python does
        return []
    return [found for part in _all_of(tree) if (found := _texts(part)) is not None and found[0] in fields]


def _all_of(tree: ast.expr) -> Iterator[ast.expr]:
    match tree:
        case ast.BoolOp(op=ast.And(), values=parts):
            for part in parts:
                yield from _all_of(part)
        case ast.BinOp(op=ast.BitAnd(), left=left, right=right):
            yield from _all_of(left)
            yield from _all_of(right)
        case _:
            yield tree


def _texts(tree: ast.expr) -> tuple[str, str, frozenset[str]] | None:
    """The field, its key and the texts of ``field == 'text'`` or ``field in ['text', …]``."""
    match tree:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=str(text))]):
            texts = frozenset([text])
        case ast.Compare(
            left=left, ops=[ast.In()], comparators=[ast.List(elts=parts) | ast.Tuple(elts=parts)]
        ):
            known = [part.value for part in parts if isinstance(part, ast.Constant)]
            texts = frozenset(text for text in known if isinstance(text, str))
            if len(texts) < len(parts):
                return None
        case _:
            return None
    match left:
        case ast.Name(id=name):
            return name, "", texts
        case ast.Subscript(
            value=ast.Attribute(value=ast.Name(id=name), attr="str"), slice=ast.Constant(value=str(key))
        ):
            return name, key, texts
    return None
