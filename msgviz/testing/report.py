"""Report: what became of every check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgviz.testing.check import Check, checks
from msgviz.testing.harness import Harness
from msgviz.testing.scene import CheckFailed
from msgviz.testing.variants import VARIANTS


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check. `text` says why it failed, or does not apply."""

    check: Check
    status: Literal["passed", "failed", "not applicable"]
    text: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.status:<14}  {self.check.name}" + (f": {self.text}" if self.text else "")


class Report(Sequence[Result]):
    """What became of the checks of one system, in one variant; `str` of it is for a person to read."""

    def __init__(self, harness: Harness, results: Sequence[Result], seconds: float) -> None:
        self.harness = harness
        self.seconds = seconds
        self._results = tuple(results)

    def __getitem__(self, index: Any) -> Any:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def _with(self, status: str) -> list[Result]:
        return [result for result in self._results if result.status == status]

    @property
    def passed(self) -> list[Result]:
        """Those that passed."""
        return self._with("passed")

    @property
    def failed(self) -> list[Result]:
        """Those that failed."""
        return self._with("failed")

    @property
    def not_applicable(self) -> list[Result]:
        """Those that do not apply to the system."""
        return self._with("not applicable")

    def __str__(self) -> str:
        on = f" ({self.harness.tested_on})" if self.harness.tested_on else ""
        counts = (
            f"{len(self.passed)} of {len(self)} checks passed, {len(self.failed)} failed, "
            f"{len(self.not_applicable)} do not apply, in {self.seconds:.1f} s"
        )
        lines = [f"{self.harness}{on}: {counts}"]
        lines += [f"  {result}" for result in (*self.failed, *self.not_applicable)]
        return "\n".join(lines)


async def run(
    harness: Harness,
    *,
    variant: str = "bare",
    only: Iterable[Check] | None = None,
    at_once: int = 1,
    progress: Callable[[Result], None] | None = None,
) -> Report:
    """Run all checks, or `only` some, on a system; no failure ends it.

    `variant` is one of `VARIANTS`. As many checks as `at_once` run at the same time, which helps where a
    system is slow to begin, and not where it is busy. Calls `progress` with each result.
    """
    varied = VARIANTS[variant](harness)
    chosen = tuple(checks() if only is None else only)
    results: dict[str, Result] = {}
    began = time.monotonic()
    places = asyncio.Semaphore(at_once)

    async def one(check: Check) -> None:
        async with places:
            result = results[check.name] = await _result(check, varied)
        if progress is not None:
            progress(result)

    async with asyncio.TaskGroup() as running:
        for check in chosen:
            if not check.alone:
                running.create_task(one(check))
    for check in chosen:
        if check.alone:
            await one(check)
    return Report(varied, [results[check.name] for check in chosen], time.monotonic() - began)


async def _result(check: Check, harness: Harness) -> Result:
    began = time.monotonic()
    try:
        why = await check.run(harness)
    except CheckFailed as error:
        # The line has the names of both already.
        text = str(error).removeprefix(f"{check} on {harness}: ")
        return Result(check, "failed", text, time.monotonic() - began)
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return Result(check, "failed", f"it raised {error!r}", time.monotonic() - began)
    if why is not None:
        return Result(check, "not applicable", why)
    return Result(check, "passed", seconds=time.monotonic() - began)
