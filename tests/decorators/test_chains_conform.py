"""Whatever the chain, a backend behind it does what every backend must."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz import testing
from msgviz.decorators import (
    base64,
    corrupt,
    duplicate,
    fail_randomly,
    gzip,
    latency,
    lz4,
    throttle,
    timeout,
    tracing,
    with_options,
    zstd,
)
from msgviz.testing.variants import DecoratedBackend

LAYERS = [
    base64,
    gzip,
    lz4,
    zstd,
    tracing,
    timeout,
    with_options(throttle, rate=1e6),
    with_options(latency, seconds=0),
    with_options(corrupt, rate=0),
    with_options(duplicate, rate=0),
    with_options(fail_randomly, rate=0),
]


class Chained(testing.Harness):
    """memory:// behind a chain."""

    tested_on = "this process"
    shared = False
    creates = False

    def __init__(self, chain: list[Any]) -> None:
        self.chain = chain
        self.name = f"memory behind {chain}"

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect("memory://", **options)

    def wrap(self, backend: mv.Backend) -> mv.Backend:
        return DecoratedBackend(backend, self.chain)


@settings(max_examples=6)
@given(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=5))
async def test_any_chain_passes_the_conformance_suite(chain: list[Any]) -> None:
    report = await testing.run(Chained(chain), at_once=20)
    assert not report.failed, str(report)
    assert len(report.passed) > 60
