"""The conformance suite as tests of one backend: ``test_conformance = conformance("harness")``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import msgviz.observing  # noqa: F401  with pandas, which takes long: leases would end meanwhile
from msgviz import testing


def conformance(fixture: str, *, at_once: int = 1) -> Any:
    """A test function: every check in every variant, on the `testing.Harness` that a fixture gives.

    With `at_once`, the first test of a variant runs that many checks at the same time, and the others tell
    what became of theirs: for a system whose servers are slow to begin. The system must outlive the test.
    """
    reports: dict[str, dict[testing.Check, testing.Result]] = {}

    @pytest.mark.timeout(400)  # the first may be all of them
    @pytest.mark.parametrize("check", testing.checks(), ids=str)
    @pytest.mark.parametrize("variant", testing.VARIANTS)
    async def test_conformance(
        request: pytest.FixtureRequest,
        record_property: Callable[[str, object], None],
        variant: str,
        check: testing.Check,
    ) -> None:
        harness = request.getfixturevalue(fixture)
        if at_once == 1:
            await check.run(testing.VARIANTS[variant](harness), record_property)
            return
        if variant not in reports:
            chosen = _chosen(request, variant)
            report = await testing.run(harness, variant=variant, only=chosen, at_once=at_once)
            reports[variant] = {result.check: result for result in report}
        result = reports[variant][check]
        if result.status == "failed":
            pytest.fail(f"{check} on {harness}, {variant}: {result.text}", pytrace=False)
        if result.status == "not applicable":
            name = testing.VARIANTS[variant](harness)
            record_property("not applicable", f"{name}: {check}: {result.text}")

    return test_conformance


def _chosen(request: pytest.FixtureRequest, variant: str) -> list[testing.Check]:
    """The checks of a variant for which pytest will run the same test."""
    same = (request.module, request.node.originalname)
    chosen = []
    for item in request.session.items:
        if isinstance(item, pytest.Function) and (item.module, item.originalname) == same:
            parameters: Any = item
            if parameters.callspec.params["variant"] == variant:
                chosen.append(parameters.callspec.params["check"])
    return chosen
