"""A consumer of Pub/Sub killed in mid-stream. The emulator keeps nothing, so it is not killed itself."""

from __future__ import annotations

from collections.abc import Callable

from tests.backends.crash import consumer_killed
from tests.systems import record_crash, system_fixture
from tests.systems.pubsub import PubSubSystem

pubsub = system_fixture(PubSubSystem)


async def test_what_was_acknowledged_survives_a_killed_consumer(
    pubsub: PubSubSystem, record_property: Callable[[str, object], None]
) -> None:
    # By pull: the emulator goes on lending messages to the stream of a dead consumer for some while.
    crash = await consumer_killed(
        pubsub.url,
        "Google Cloud Pub/Sub (the vendor's emulator)",
        count=300,
        ack_deadline=10,
    )
    record_crash(record_property, crash)
    assert crash.acknowledged == 300
    assert crash.lost == 0
