"""``python -m msgviz.testing URL``: run the conformance suite on a system that somebody set up."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from msgviz.backend import Backend
from msgviz.connect import connect
from msgviz.errors import MsgvizError
from msgviz.testing import VARIANTS, Harness, Report, Result, checks, run
from msgviz.urls import without_password


class UrlHarness(Harness):
    """The system behind a URL, about which nothing else is known."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.name = url.partition("://")[0]
        self.tested_on = without_password(url)
        self.timeout = timeout
        self.shared = self.creates = self.name != "memory"

    async def connect(self, **options: Any) -> Backend:
        """A new connection."""
        return connect(self.url, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 where all passed, 1 where one failed, 2 for a wrong URL."""
    parser = argparse.ArgumentParser(
        prog="python -m msgviz.testing",
        description="Run the conformance suite of msgviz on a system. It makes topics of its own there, "
        "named conformance-…, and leaves them behind.",
    )
    parser.add_argument("url", help="the system, such as memory:// or nats://127.0.0.1:4222")
    parser.add_argument("--variant", choices=[*VARIANTS, "all"], default="bare")
    parser.add_argument("--check", action="append", choices=[c.name for c in checks()], help="only this one")
    parser.add_argument("--at-once", type=int, default=1, help="how many checks run at the same time")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds to wait for what must come")
    asked = parser.parse_args(arguments)
    chosen = [check for check in checks() if not asked.check or check.name in asked.check]
    variants = list(VARIANTS) if asked.variant == "all" else [asked.variant]
    harness = UrlHarness(asked.url, asked.timeout)

    async def go() -> list[Report]:
        return [
            await run(harness, variant=name, only=chosen, at_once=asked.at_once, progress=_tell)
            for name in variants
        ]

    try:
        connect(asked.url)
        reports = asyncio.run(go())
    except (MsgvizError, ValueError, TypeError) as error:
        sys.stderr.write(f"{without_password(asked.url)}: {error}\n")
        return 2
    for report in reports:
        sys.stdout.write(f"\n{report}\n")
    return 1 if any(report.failed for report in reports) else 0


def _tell(result: Result) -> None:
    sys.stdout.write(f"{result}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
