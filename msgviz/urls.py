"""URLs of messaging systems: read, checked, and shown without their password."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in its parts. `options` are those of its query and those given beside it."""

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    """Each host with its port; several, separated by commas, for the nodes of a cluster."""
    user: str | None
    password: str | None = field(repr=False)
    path: str
    options: dict[str, Any]
    text: str = field(repr=False)
    """As it was given, the query left out: with its password, so never to be shown."""
    safe: str
    """To show: the password and what stood in the query are hidden."""

    @property
    def host(self) -> str:
        """The first host; empty where the URL names none."""
        return self.hosts[0][0] if self.hosts else ""

    @property
    def port(self) -> int | None:
        """The port of the first host."""
        return self.hosts[0][1] if self.hosts else None


def read_url(url: str, known: Mapping[str, Callable[[str], Any]], options: Mapping[str, Any]) -> Url:
    """A URL in its parts; `known` are the options it may have, and how to read each from text.

    `options` given beside the URL win over those in its query. Raises `ValueError` for a port or an option
    that cannot be read, `TypeError` for an unknown keyword.
    """
    parts = urlsplit(url)
    safe = without_password(url)
    read: dict[str, Any] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known:
            raise ValueError(f"{safe}: there is no option {key!r}; there are {_names(known)}")
        try:
            read[key] = known[key](text)
        except ValueError as error:
            raise ValueError(f"{safe}: the option {key} cannot be {text!r}: {error}") from error
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise TypeError(f"{parts.scheme}:// has no option {', '.join(unknown)}; there are {_names(known)}")
    user, password, hosts = _authority(parts, safe)
    return Url(
        scheme=parts.scheme,
        hosts=hosts,
        user=user,
        password=password,
        path=unquote(parts.path),
        options={**read, **options},
        text=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        safe=safe,
    )


def _names(known: Mapping[str, Any]) -> str:
    return ", ".join(sorted(known)) or "none"


def _authority(
    parts: SplitResult, safe: str
) -> tuple[str | None, str | None, tuple[tuple[str, int | None], ...]]:
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts = []
    for place in filter(None, places.split(",")):
        try:
            one = urlsplit(f"//{place}")
            hosts.append((one.hostname or "", one.port))
        except ValueError as error:
            raise ValueError(f"{safe}: {place!r} is no host and port: {error}") from error
    return unquote(user) or None, unquote(password) or None, tuple(hosts)


def without_password(url: str) -> str:
    """A URL that can be shown: no password, and no query, which may hold one too."""
    parts = urlsplit(url)
    login, at, places = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user}:***@{places}" if colon else f"{login}{at}{places}"
    return f"{parts.scheme}://{shown}{parts.path}"


def switch(text: str) -> bool:
    """An option that is on or off, from its text."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("write true or false")
