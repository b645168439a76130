"""SNS + SQS: nothing acknowledged is lost when a consumer is killed, or the network fails. On moto."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.backends.crash import broker_restarted, consumer_killed
from tests.systems import record_crash, system_fixture
from tests.systems.aws import MotoSystem
from tests.systems.cut import Cut

moto = system_fixture(MotoSystem)
Record = Callable[[str, object], None]


@pytest.fixture
def cut(moto: MotoSystem) -> Iterator[Cut]:
    with Cut(moto.port) as between:
        yield between


async def test_consumer_killed(moto: MotoSystem, record_property: Record) -> None:
    crash = await consumer_killed(moto.url, "SNS + SQS (moto)", count=200, visibility_timeout=2)
    record_crash(record_property, crash)
    assert crash.acknowledged == 200
    assert crash.lost == 0


async def test_network_cut_and_mended(cut: Cut, record_property: Record) -> None:
    """moto forgets all when it is killed: what can be cut is the way to it."""

    def fail() -> None:
        cut.close()
        time.sleep(1)
        cut.open()

    url = f"aws://test:secret@us-east-1?endpoint=http://127.0.0.1:{cut.port}"
    crash = await broker_restarted(
        url, "SNS + SQS (moto)", fail, what="network cut for a second", count=200, visibility_timeout=2
    )
    record_crash(record_property, crash)
    assert crash.acknowledged == 200
    assert crash.lost == 0
