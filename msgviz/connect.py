"""connect: from a URL to a backend."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from msgviz.backend import Backend
from msgviz.errors import MissingExtra, UnknownBackend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "msgviz.backends"
"""The entry-point group in which a package names its backends: scheme = "package.module:Class"."""


class _Own(NamedTuple):
    module: str
    name: str
    extra: str | None


_OWN = {
    "memory": _Own("msgviz.backends.memory", "MemoryBackend", None),
    "sqlite": _Own("msgviz.backends.sqlite", "SqliteBackend", None),
    "nats": _Own("msgviz.backends.nats", "NatsBackend", "nats"),
    "amqp": _Own("msgviz.backends.amqp", "AmqpBackend", "amqp"),
    "redis": _Own("msgviz.backends.redis", "RedisBackend", "redis"),
    "rediss": _Own("msgviz.backends.redis", "RedisBackend", "redis"),
    "aws": _Own("msgviz.backends.aws", "AwsBackend", "aws"),
    "gcp": _Own("msgviz.backends.gcp", "GcpBackend", "gcp"),
    "kafka": _Own("msgviz.backends.kafka", "KafkaBackend", "kafka"),
}


def connect(url: str, **options: Any) -> Backend:
    """The backend that a URL names, such as ``memory://``. Options are the backend's own.

    Raises `UnknownBackend` for a scheme nobody answers to, `MissingExtra` where a client library is not
    installed, and `ValueError` for a URL or an option that the backend cannot read.
    """
    if not isinstance(url, str):
        raise TypeError(f"connect takes a URL, such as 'memory://', not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(f"{url!r} is no URL: it has no scheme, such as memory://")
    own = _OWN.get(scheme)
    if own is not None:
        try:
            backend = getattr(import_module(own.module), own.name)
        except ModuleNotFoundError as error:
            if own.extra is None:
                raise
            raise MissingExtra(f"{scheme}://", own.extra) from error
    else:
        others = _others()
        if scheme not in others:
            raise UnknownBackend(_unknown(scheme, others))
        backend = others[scheme].load()
        if not (isinstance(backend, type) and issubclass(backend, Backend)):
            raise UnknownBackend(
                f"{scheme}:// is claimed by {others[scheme].value}, which is no Backend class"
            )
    made: Backend = backend.from_url(url, **options)
    return made


def _others() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415  a sixth of the time to import msgviz

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _unknown(scheme: str, others: dict[str, EntryPoint]) -> str:
    there = [
        f'{name}:// (pip install "msgviz[{own.extra}]")' if own.extra else f"{name}://"
        for name, own in _OWN.items()
    ]
    there += [f"{name}:// (of {point.module.partition('.')[0]})" for name, point in sorted(others.items())]
    return (
        f"no backend answers to {scheme}://. There are: {', '.join(there)}. "
        f"A package adds one with an entry point in the group {ENTRY_POINTS!r}"
    )
