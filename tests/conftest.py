"""What all tests share."""

from __future__ import annotations

import os

import pytest


def require(condition: object, reason: str) -> None:
    """Skip the test where something it needs is missing; with MSGVIZ_REQUIRE=all, as in CI, fail it.

    `reason` says what is missing.
    """
    if condition:
        return
    if os.environ.get("MSGVIZ_REQUIRE") == "all":
        pytest.fail(f"MSGVIZ_REQUIRE=all: {reason}", pytrace=False)
    pytest.skip(reason)
