"""Harness: what the author of a backend tells the conformance suite about a system."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from msgviz.backend import Backend


class Harness:
    """One system to test a backend on. To write one, define `name`, `tested_on` and `connect`.

    The rest says what the suite cannot find out by itself; what is left as it is here makes the checks
    that want it not applicable, with that reason.
    """

    name: str = ""
    """The system, as in ``NATS``."""
    tested_on: str = ""
    """What stands behind it: ``NATS JetStream 2.15, real broker``, or an emulator and whose."""
    shared: bool = True
    """Several connections see the same topics. False where each connection is a system of its own."""
    creates: bool = True
    """`connect` takes ``create=False``: nothing is made, and what is missing raises `NotFound`."""
    odd_attributes: bool = True
    """Attribute keys and values may be any text; where False, an odd one may be refused by `ValueError`."""
    shares_work: bool = True
    """While one server of a subscription is busy, another receives its next messages."""
    added_attributes: Collection[str] = ()
    """Attributes that the system adds to a message on its way."""
    short_lease: Mapping[str, Any] | None = None
    """Options of `connect` with which a taken message is lent for only `lease` seconds."""
    lease: float | None = None
    """Seconds for which a message is lent after ``connect(**short_lease)``; None where for ever."""
    largest_body: int = 1024 * 1024
    """The largest body to send, in bytes, where the system allows a larger one."""
    exempt: Mapping[str, str] = MappingProxyType({})
    """Checks that cannot pass on what stands behind it, by name: for each the reason, which is reported."""
    timeout: float = 15.0
    """Seconds to wait for what must come. A working system never takes them."""
    quiet: float = 0.2
    """Seconds to wait to see that nothing comes."""

    async def connect(self, **options: Any) -> Backend:
        """A new connection to the system; the suite closes it."""
        raise NotImplementedError(f"{type(self).__name__} defines no connect()")

    def restart(self) -> Awaitable[None] | None:
        """Kill the server behind the system and start it again, its data kept; may be ``async``.

        A plain function runs in a thread, so that it may wait. Returns when the server answers.
        """
        raise NotImplementedError

    @property
    def can_restart(self) -> bool:
        """Whether `restart` is defined."""
        return type(self).restart is not Harness.restart

    def unreachable(self) -> str | None:
        """A URL of this system where nobody listens, with a password in it if it may have one."""
        return None

    def refused(self) -> str | None:
        """A URL of this system with wrong credentials."""
        return None

    def wrap(self, backend: Backend) -> Backend:
        """What checks see of a backend; a variant puts observers and decorators around it."""
        return backend

    def topic(self, what: str) -> str:
        """A topic's name that nobody has used: letters, digits and dashes."""
        words = re.sub(r"[^A-Za-z0-9]+", "-", what).strip("-").lower()[:20].rstrip("-")
        return f"conformance-{uuid.uuid4().hex[:8]}-{words or 'topic'}"

    def __str__(self) -> str:
        return self.name or type(self).__name__


def bare(backend: Backend) -> Backend:
    """The backend inside its observers and decorators."""
    while isinstance(inner := getattr(backend, "next", None), Backend):
        backend = inner
    return backend
