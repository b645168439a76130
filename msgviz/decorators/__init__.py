"""Decorators: each a module with an ``encoder`` for topics, a ``decoder`` for receivers, or both."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from msgviz.decorator import check_decorators


def with_options(decorator: Any, **options: Any) -> Any:
    """A decorator with options of its own, for a list of decorators: ``with_options(lz4, level=9)``.

    Each option goes to the encoder, to the decoder, or to both: to whichever takes it. `TypeError` for one
    that neither does.
    """
    check_decorators([decorator])
    return _WithOptions(decorator, options)


class _WithOptions:
    """The encoder and the decoder of a decorator, with options given."""

    def __init__(self, decorator: Any, options: dict[str, Any]) -> None:
        self.decorator = decorator
        self.options = options
        left = set(options)
        known: set[str] = set()
        for side in ("encoder", "decoder"):
            make = getattr(decorator, side, None)
            if make is not None:
                takes = _options(make)
                known |= takes
                left -= takes
                setattr(self, side, partial(make, **{k: v for k, v in options.items() if k in takes}))
        if left:
            raise TypeError(
                f"{_name(decorator)} has no option {', '.join(sorted(left))}; "
                f"there are {', '.join(sorted(known)) or 'none'}"
            )

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"with_options({_name(self.decorator)}, {given})"


def _options(make: Any) -> set[str]:
    parameters = list(inspect.signature(make).parameters.values())
    return {p.name for p in parameters[1:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _name(decorator: Any) -> str:
    return str(getattr(decorator, "__name__", type(decorator).__name__)).rpartition(".")[2]
