"""Attributes: the headers of a message, with the key rules of Go's ``net/textproto``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from msgviz import html

Values: TypeAlias = dict[str, str | tuple[str, ...]]
"""How values are kept: one value as itself, any other number as a tuple. Only `str` and tuples of
`str`, so that the garbage collector has nothing to track in a log of a million messages."""

AttributesLike: TypeAlias = "Mapping[str, str | Sequence[str]] | Attributes"

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def canonical_key(key: str) -> str:
    """The canonical MIME form of a key: ``content-encoding`` -> ``Content-Encoding``.

    As Go's ``textproto.CanonicalMIMEHeaderKey``: a key that holds a character which is no RFC 7230
    token character (a space, a colon, anything beyond ASCII) is returned as it is.
    """
    return _canonical[key]


class _CanonicalKeys(dict[str, str]):
    """A memo of canonical keys: a key is seen many times, and spelling it out costs a microsecond."""

    LIMIT = 4096  # keys come in messages, and messages may be hostile

    def __missing__(self, key: str) -> str:
        if not isinstance(key, str):
            raise TypeError(f"an attribute key is a str, not {type(key).__name__}: {key!r}")
        form = key
        if _TOKEN.issuperset(key):
            form = "-".join(part.capitalize() for part in key.split("-"))
        if len(self) >= self.LIMIT:
            self.clear()
        self[key] = form
        return form


_canonical = _CanonicalKeys()


def _wrong_value(key: str, value: object) -> TypeError:
    return TypeError(
        f"attribute {key!r}: a value is a str or a list of str, not {type(value).__name__}: {value!r}"
    )


class Attributes(MutableMapping[str, str]):
    """Key-value metadata of a message: case-insensitive keys, several values per key.

    ``a["k"]`` is the first value; ``a["k"] = v`` replaces all of them; `add` appends; `get_all` lists.
    Keys are kept in canonical MIME form (see `canonical_key`). Made from a mapping of `str` to `str` or
    to a list of `str`; any other value is a `TypeError`. Source: go-msg's ``Attributes``.
    """

    __slots__ = ("_shared", "_values")

    def __init__(self, source: AttributesLike | None = None) -> None:
        self._values: Values = {}
        self._shared = False
        if source is not None:
            self._fill(source)

    def _fill(self, source: AttributesLike) -> None:
        if isinstance(source, Attributes):
            self._values = source.freeze()
            self._shared = True
        elif isinstance(source, Mapping):
            for key, value in source.items():
                if isinstance(value, str):
                    self.add(key, value)
                elif isinstance(value, (list, tuple)):
                    for one in value:
                        self.add(key, one)
                else:
                    raise _wrong_value(key, value)
        else:
            raise TypeError(
                f"attributes are a mapping of str to str or a list of str, not {type(source).__name__}"
            )

    @classmethod
    def from_frozen(cls, values: Values) -> Attributes:
        """Attributes on values that `freeze` gave; they are copied when first written to."""
        self = cls.__new__(cls)
        self._values = values
        self._shared = True
        return self

    def freeze(self) -> Values:
        """The values as they are now, which nobody may change any more: a later write makes a copy."""
        self._shared = True
        return self._values

    def _own(self) -> Values:
        values = self._values
        if self._shared:
            values = self._values = values.copy()
            self._shared = False
        return values

    def __getitem__(self, key: str) -> str:
        value = self._values[_canonical[key]]
        return value if isinstance(value, str) else value[0]

    def __setitem__(self, key: str, value: str) -> None:
        if value.__class__ is not str and not isinstance(value, str):
            raise _wrong_value(key, value)
        if self._shared:
            self._values = self._values.copy()
            self._shared = False
        self._values[_canonical[key]] = value

    def __delitem__(self, key: str) -> None:
        key = _canonical[key]
        if key not in self._values:
            raise KeyError(key)
        del self._own()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _canonical[key] in self._values

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Attributes):
            return self._values == other._values
        if isinstance(other, Mapping):
            try:
                return self._values == Attributes(other)._values
            except TypeError:
                return False
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def add(self, key: str, value: str) -> None:
        """Append a value to those of a key."""
        if not isinstance(value, str):
            raise _wrong_value(key, value)
        values = self._own()
        key = _canonical[key]
        old = values.get(key)
        if old is None:
            values[key] = value
        else:
            values[key] = (*((old,) if isinstance(old, str) else old), value)

    def get_all(self, key: str) -> list[str]:
        """All values of a key, in order; an empty list where there is none."""
        value = self._values.get(_canonical[key])
        if value is None:
            return []
        return [value] if isinstance(value, str) else list(value)

    def set_all(self, key: str, values: Iterable[str]) -> None:
        """Replace all values of a key; none at all removes it."""
        new = tuple(values)
        for value in new:
            if not isinstance(value, str):
                raise _wrong_value(key, value)
        key = _canonical[key]
        own = self._own()
        if not new:
            own.pop(key, None)
        else:
            own[key] = new[0] if len(new) == 1 else new

    def update(self, other: Any = (), /, **more: str | Sequence[str]) -> None:
        """Replace the values of these keys; takes what `Attributes` is made from, pairs, and keywords."""
        for source in (other, more):
            plain = source.to_dict() if isinstance(source, Attributes) else dict(source)
            for key, value in plain.items():
                if not isinstance(value, (str, list, tuple)):
                    raise _wrong_value(key, value)
                self.set_all(key, (value,) if isinstance(value, str) else value)

    def copy(self) -> Attributes:
        """A copy that shares nothing: a change of one never shows in the other."""
        return Attributes.from_frozen(self.freeze())

    __copy__ = copy

    def to_dict(self) -> dict[str, list[str]]:
        """A plain dict of key to list of values."""
        return {k: [v] if isinstance(v, str) else list(v) for k, v in self._values.items()}

    def __repr__(self) -> str:
        inside = {
            key: value if isinstance(value, str) else list(value) for key, value in self._values.items()
        }
        return f"Attributes({inside!r})"

    def _repr_html_(self) -> str:
        rows = [(key, html.code(", ".join(values))) for key, values in self.to_dict().items()]
        return html.card(
            "Attributes", html.table(("attribute", "value"), rows) if rows else html.quiet("none")
        )


class FrozenAttributes(dict[str, list[str]]):
    """Attributes as they passed: a read-only dict of key to list of values.

    Each value becomes a list when it is looked at. A million messages have some millions of values, and
    making all those lists beforehand takes longer than all else that makes a DataFrame of them.
    """

    __slots__ = ()

    def __getitem__(self, key: str) -> list[str]:
        value: str | list[str] = super().__getitem__(key)
        return [value] if isinstance(value, str) else list(value)

    def get(self, key: str, default: Any = None) -> Any:
        """The values of a key as it stands there, or the default."""
        return self[key] if key in self else default  # noqa: SIM401  this is that get

    def __iter__(self) -> Iterator[str]:  # dict(), ** and json look here whether it is a plain dict
        return super().__iter__()

    def values(self) -> Any:
        """The lists of values."""
        return [self[key] for key in self]

    def items(self) -> Any:
        """The keys with their lists of values."""
        return [(key, self[key]) for key in self]

    def copy(self) -> dict[str, list[str]]:
        """A plain dict, to change."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self.copy() == dict(other.items())

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> Any:
        return dict, (self.items(),)

    def __or__(self, other: Any) -> Any:
        return self.copy() | dict(other)

    def __ror__(self, other: Any) -> Any:
        return dict(other) | self.copy()

    def _refuse(self, *args: object, **kwargs: object) -> Any:
        raise TypeError("these are the attributes of a message that has passed: change a .copy() of them")

    __setitem__ = __delitem__ = __ior__ = _refuse
    setdefault = update = pop = popitem = clear = _refuse
