"""NATS: nothing acknowledged is lost when a consumer, the server, or a stream's leader is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats

from tests.backends.crash import broker_restarted, consumer_killed
from tests.systems import record_crash, system_fixture
from tests.systems.nats import NatsCluster, NatsSystem

system = system_fixture(NatsSystem)
cluster = system_fixture(NatsCluster)
Record = Callable[[str, object], None]


async def test_consumer_killed(system: NatsSystem, record_property: Record) -> None:
    crash = await consumer_killed(system.url, "NATS", lease=2.0)
    record_crash(record_property, crash)
    assert crash.acknowledged == 500
    assert crash.lost == 0


async def test_server_killed(system: NatsSystem, record_property: Record) -> None:
    crash = await broker_restarted(system.url, "NATS", system.restart, lease=2.0)
    record_crash(record_property, crash)
    assert crash.acknowledged == 500
    assert crash.lost == 0


async def test_leader_of_the_stream_killed(cluster: NatsCluster, record_property: Record) -> None:
    killed: list[str] = []

    def kill_leader() -> None:
        killed.append(asyncio.run(leader(cluster.url)))
        cluster.nodes[killed[0]].kill()

    crash = await broker_restarted(
        cluster.url, "NATS, three nodes", kill_leader, what="stream's leader killed", replicas=3, lease=2.0
    )
    record_crash(record_property, crash)
    assert crash.acknowledged == 500
    assert crash.lost == 0
    await asyncio.to_thread(cluster.nodes[killed[0]].start)


async def leader(url: str) -> str:
    """The name of the node that leads the stream of the crash test."""
    client = await nats.connect(url.removeprefix("nats://").split(","))
    try:
        streams = await client.jetstream().streams_info()
        [name] = [
            stream.cluster.leader
            for stream in streams
            if str(stream.config.name).startswith("crash-") and not str(stream.config.name).endswith("dead")
        ]
        assert name is not None
        return name
    finally:
        await client.close()
