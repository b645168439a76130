"""The variants in which the suite is run: the bare backend, and the same one observed and decorated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from msgviz.backend import Backend, BackendDecorator
from msgviz.server import Server
from msgviz.testing.harness import Harness
from msgviz.topic import Topic

_ADDED = 3  # attributes: the identity, and one for each of the two encodings


class DecoratedBackend(BackendDecorator):
    """A backend on whose every topic and server there are these decorators."""

    def __init__(self, next: Backend, decorators: Iterable[Any]) -> None:
        super().__init__(next)
        self.decorators = tuple(decorators)
        most, room = next.features.max_attributes, next.features.max_body
        self.features = replace(
            next.features,
            binary_body=True,  # base64 makes it text
            max_attributes=None if most is None else most - _ADDED,
            # base64 makes four bytes of three, and lz4 adds some to what cannot be compressed
            max_body=None if room is None else room // 4 * 3 - room // 64 - 256,
        )

    def topic(self, name: str, *, decorators: Iterable[Any] = ()) -> Topic:
        """A decorated topic."""
        return self.next.topic(name, decorators=(*decorators, *self.decorators))

    def server(self, topic: str, *, decorators: Iterable[Any] = (), **options: Any) -> Server:
        """A decorated server."""
        return self.next.server(topic, decorators=(*decorators, *self.decorators), **options)


class _Decorated(Harness):
    """A system, seen through observers and through lz4 and base64."""

    def __init__(self, inner: Harness) -> None:
        from msgviz.decorators import base64, lz4  # noqa: PLC0415  only this variant needs their libraries
        from msgviz.log import MessageLog  # noqa: PLC0415
        from msgviz.observing import ID_ATTRIBUTE  # noqa: PLC0415

        self.inner = inner
        self.decorators = (lz4, base64)
        self.log = MessageLog()
        self.name = f"{inner}, observed and decorated"
        self.tested_on = inner.tested_on
        self.shared = inner.shared
        self.creates = inner.creates
        self.odd_attributes = inner.odd_attributes
        self.shares_work = inner.shares_work
        self.added_attributes = {*inner.added_attributes, ID_ATTRIBUTE}
        self.exempt = inner.exempt
        self.short_lease = inner.short_lease
        self.lease = inner.lease
        self.largest_body = inner.largest_body
        self.timeout = inner.timeout
        self.quiet = inner.quiet

    async def connect(self, **options: Any) -> Backend:
        return await self.inner.connect(**options)

    def wrap(self, backend: Backend) -> Backend:
        from msgviz.observing import observe  # noqa: PLC0415

        return DecoratedBackend(observe(self.inner.wrap(backend), self.log), self.decorators)

    def restart(self) -> Awaitable[None] | None:
        return self.inner.restart()

    @property
    def can_restart(self) -> bool:
        return self.inner.can_restart

    def unreachable(self) -> str | None:
        return self.inner.unreachable()

    def refused(self) -> str | None:
        return self.inner.refused()


def bare(harness: Harness) -> Harness:
    """The backend as it is."""
    return harness


def observed_and_decorated(harness: Harness) -> Harness:
    """The same system with every topic and server observed, and lz4 and base64 on all of them."""
    return _Decorated(harness)


VARIANTS: dict[str, Callable[[Harness], Harness]] = {
    "bare": bare,
    "observed and decorated": observed_and_decorated,
}
"""All variants by name: each gives the harness to run the checks on."""
