"""gcp:// does what every backend must, on the vendor's emulator, by pull and by streaming pull."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

import msgviz as mv
from msgviz import testing
from tests.backends.conformance import conformance
from tests.systems import free_port, system_fixture
from tests.systems.pubsub import PubSubSystem

pubsub = system_fixture(PubSubSystem)


class PubSubHarness(testing.Harness):
    """The emulator, which keeps nothing over a restart, and lets in everybody."""

    name = "Google Cloud Pub/Sub"
    tested_on = "the vendor's emulator, by pull"
    added_attributes = ("_ps_message_id", "_ps_message_publishtime")
    short_lease: Mapping[str, Any] | None = MappingProxyType({"ack_deadline": 10})
    lease: float | None = 10.0

    def __init__(self, system: PubSubSystem, **options: Any) -> None:
        self.system = system
        self.options = options

    async def connect(self, **options: Any) -> mv.Backend:
        return mv.connect(self.system.url, **self.options, **options)

    def unreachable(self) -> str:
        return f"gcp://nobody?emulator=127.0.0.1:{free_port()}"


class StreamingHarness(PubSubHarness):
    """The same by streaming pull, on which the emulator ignores flow control."""

    name = "Google Cloud Pub/Sub, streaming"
    tested_on = "the vendor's emulator, by streaming pull"
    shares_work = False  # the first stream is sent all there is
    short_lease = None
    lease = None


@pytest.fixture
def on_pubsub(pubsub: PubSubSystem) -> testing.Harness:
    return PubSubHarness(pubsub)


@pytest.fixture
def streaming(pubsub: PubSubSystem) -> testing.Harness:
    return StreamingHarness(pubsub, streaming=True)


test_pubsub = conformance("on_pubsub", at_once=8)
test_pubsub_streaming = conformance("streaming", at_once=8)
