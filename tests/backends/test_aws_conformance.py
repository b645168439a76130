"""aws:// does what every backend must, on moto: a third-party emulation of AWS, not AWS."""

from __future__ import annotations

from typing import Any

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance
from tests.systems import free_port, system_fixture
from tests.systems.aws import MotoSystem, StrictMotoSystem

moto = system_fixture(MotoSystem)
strict = system_fixture(StrictMotoSystem)


class AwsHarness(testing.Harness):
    """It forgets all when it is stopped, so that nothing can be said about a restart."""

    name = "SNS + SQS"
    tested_on = "moto 5, third-party emulation"
    lease = 2.0

    def __init__(self, moto: MotoSystem, strict: StrictMotoSystem) -> None:
        self.short_lease = {"visibility_timeout": 2}
        self.moto = moto
        self.strict = strict

    async def connect(self, **options: Any) -> mv.Backend:
        # moto answers four checks at once, on a machine with other work: it may take a while.
        return mv.connect(self.moto.url, **{"timeout": 30, **options})

    def unreachable(self) -> str:
        return f"aws://someone:secret@us-east-1?endpoint=http://127.0.0.1:{free_port()}"

    def refused(self) -> str:
        return self.strict.url


@pytest.fixture
def harness(moto: MotoSystem, strict: StrictMotoSystem) -> testing.Harness:
    return AwsHarness(moto, strict)


test_conformance = conformance("harness", at_once=4)
