"""Check: one thing that every backend must do, and when it applies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from msgviz.backend import Features
from msgviz.testing.harness import Harness
from msgviz.testing.scene import CheckFailed, Scene


class Need(NamedTuple):
    """A condition of a check, and the words for why it does not apply where that does not hold."""

    holds: Callable[[Harness, Features], object]
    otherwise: str


Steps: TypeAlias = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `proves` says in a sentence what a backend that passes it does."""

    name: str
    proves: str
    steps: Steps
    needs: tuple[Need, ...] = ()
    patience: float = 4.0
    """How many times the harness's `timeout` it may take at most."""
    alone: bool = False
    """Nothing else may run meanwhile: it restarts the server."""

    def why_not(self, harness: Harness, features: Features) -> str | None:
        """Why it does not apply to a system; None where it does."""
        if unknown := sorted(harness.exempt.keys() - _checks.keys()):
            raise ValueError(f"{harness} exempts checks that there are not: {', '.join(unknown)}")
        if self.name in harness.exempt:
            return harness.exempt[self.name]
        for need in self.needs:
            if not need.holds(harness, features):
                return need.otherwise
        return None

    async def run(
        self, harness: Harness, record_property: Callable[[str, object], None] | None = None
    ) -> str | None:
        """Run it on connections of its own; returns why it does not apply, None where it passed.

        Raises `CheckFailed`, an AssertionError, which says what was wrong. pytest's `record_property` is
        told of a check that does not apply, as "not applicable".
        """
        limit = self.patience * harness.timeout
        bound = asyncio.timeout(limit)
        try:
            async with bound:
                why = await self._run(harness)
        except TimeoutError as error:
            if bound.expired():
                raise CheckFailed(f"{self.name} on {harness}: did not end within {limit:g} s") from error
            raise
        if why is not None and record_property is not None:
            record_property("not applicable", f"{harness}: {self.name}: {why}")
        return why

    async def _run(self, harness: Harness) -> str | None:
        try:
            async with Scene(harness, self.name) as scene:
                why = self.why_not(harness, scene.features)
                if why is None:
                    await self.steps(scene)
                return why
        except CheckFailed as error:
            error.args = (f"{self.name} on {harness}: {error}",)  # itself, for its traceback
            raise

    def __str__(self) -> str:
        return self.name


_checks: dict[str, Check] = {}
_ORDER = [  # what is simple comes first
    f"msgviz.testing.{name}"
    for name in ("_bodies", "_delivery", "_failures", "_dead_letters", "_servers", "_backends", "_observed")
]


def check(name: str, *needs: Need, patience: float = 4.0, alone: bool = False) -> Callable[[Steps], Steps]:
    """Register the steps of a check; their docstring is what it proves."""

    def register(steps: Steps) -> Steps:
        if name in _checks:
            raise ValueError(f"there are two checks named {name!r}")
        proves = " ".join((steps.__doc__ or "").split())
        _checks[name] = Check(name, proves, steps, needs, patience, alone)
        return steps

    return register


def checks() -> tuple[Check, ...]:
    """All checks there are, in the order in which to run them."""
    return tuple(sorted(_checks.values(), key=lambda check: _ORDER.index(check.steps.__module__)))


BINARY = Need(lambda h, f: f.binary_body, "a body is text")
SEVERAL_VALUES = Need(lambda h, f: f.multi_valued_attributes, "an attribute has one value")
ORDERED = Need(lambda h, f: f.ordered, "the order of messages is not kept")
PERSISTENT = Need(lambda h, f: f.persistent, "messages do not outlive their publisher")
DELAYS = Need(lambda h, f: f.max_delay > 0, "a message cannot be delayed")
COUNTS = Need(lambda h, f: f.counts_attempts, "attempts are not counted")
DEAD_LETTERS = Need(lambda h, f: f.dead_letter, "there are no dead letters")
ADDRESSABLE = Need(lambda h, f: f.addressable_subscriptions, "a subscription cannot be addressed")
SHARED = Need(lambda h, f: h.shared, "each connection is a system of its own")
