"""Dead letters go back to the subscription they came from: all of them, some, or slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import msgviz as mv
from tests.flows import Kept, observed, refuse, states
from tests.queues import Taking, drained, letters, numbered


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[mv.Backend]:
    async with mv.connect("memory://") as backend:
        yield backend


class Refusing:
    """A receiver that refuses everything; `enough` is set when it has done so `count` times."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.enough = asyncio.Event()

    async def __call__(self, message: mv.Message) -> None:
        self.left -= 1
        if not self.left:
            self.enough.set()
        raise ValueError("no")


async def dead(backend: mv.Backend, *bodies: bytes, subscription: str = "default", **options: Any) -> None:
    """Leave these as dead letters of t and a subscription."""
    refusing = Refusing(len(bodies))
    server = backend.server("t", subscription=subscription, max_attempts=1)
    async with server.running(refusing):
        for body in bodies:
            await backend.topic("t").publish(body, **options)
        await refusing.enough.wait()
    assert server.looks_empty()


async def taken(backend: mv.Backend, subscription: str = "default") -> list[mv.Message]:
    """What waits in a subscription of t."""
    return await drained(backend, "t", subscription)


async def test_letters_come_back_as_they_were(backend: mv.Backend) -> None:
    await dead(backend, b"1", attributes={"A": ["x", "y"]})
    assert await backend.redrive("t") == 1
    (message,) = await taken(backend)
    assert message.attempt == 1
    assert message.attributes.get_all("A") == ["x", "y"]
    assert set(message.attributes) == {"A", "Dead-Letter-Redriven"}
    assert await letters(backend) == []


async def test_a_server_names_its_subscription(backend: mv.Backend) -> None:
    await backend.declare("t", "s", "other")
    await dead(backend, *numbered(3), subscription="s")
    assert await backend.redrive(backend.server("t", subscription="s")) == 3
    assert sorted(m.body for m in await taken(backend, "s")) == numbered(3)
    assert len(await taken(backend, "other")) == 3  # nothing more came to the one that had not failed


async def test_a_limit_leaves_the_rest(backend: mv.Backend) -> None:
    await dead(backend, *numbered(5))
    told: list[int] = []
    assert await backend.redrive("t", limit=2, progress=told.append) == 2
    assert told == [1, 2]
    assert await backend.redrive("t", limit=0) == 0
    assert sorted(m.body for m in await letters(backend)) == numbered(5)[2:]


async def test_a_rate_is_kept(backend: mv.Backend) -> None:
    await dead(backend, *numbered(4))
    times: list[float] = []
    loop = asyncio.get_running_loop()
    assert await backend.redrive("t", rate=50, progress=lambda _: times.append(loop.time())) == 4
    assert times[-1] - times[0] >= 3 / 50 * 0.9


async def test_what_dies_again_stays_dead_and_the_run_ends(backend: mv.Backend) -> None:
    await dead(backend, *numbered(3))
    async with backend.server("t", max_attempts=1).running(refuse):
        assert await backend.redrive("t", rate=100) == 3
        again = 0
        async with asyncio.timeout(10):
            while again < 3:  # another run moves them again
                again += await backend.redrive("t", rate=100)
                await asyncio.sleep(0.05)
    left: list[bytes] = []
    async with asyncio.timeout(10):
        while len(left) < 3:  # one that stayed is there again in a moment
            left += [message.body for message in await letters(backend)]
            await asyncio.sleep(0.05)
    assert sorted(left) == numbered(3)


async def test_a_source_that_refuses_keeps_the_letters_and_says_why(
    backend: mv.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dead(backend, *numbered(3))
    broken = Kept(error=mv.ConnectionFailed("away"))
    monkeypatch.setattr(broken, "to_subscription", lambda _: broken)
    with monkeypatch.context() as patch:
        patch.setattr(backend, "open_topic", lambda _: broken)
        with pytest.raises(mv.ConnectionFailed, match="away"):
            await backend.redrive("t")
    assert await backend.redrive("t") == 3


async def test_a_progress_that_fails_loses_and_doubles_nothing(backend: mv.Backend) -> None:
    await dead(backend, *numbered(3))

    def fail(moved: int) -> None:
        raise RuntimeError(f"at {moved}")

    with pytest.raises(RuntimeError, match="at 1"):
        await backend.redrive("t", progress=fail)
    assert await backend.redrive("t") == 2
    assert sorted(m.body for m in await taken(backend)) == numbered(3)


async def test_cancelled_it_stops_and_loses_nothing(backend: mv.Backend) -> None:
    await dead(backend, *numbered(3))
    moved = asyncio.Event()
    run = asyncio.create_task(backend.redrive("t", rate=0.1, progress=lambda _: moved.set()))
    await moved.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await backend.redrive("t") == 2


async def test_where_none_can_be_addressed_the_whole_topic_is_asked_for(
    backend: mv.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dead(backend, b"1")
    topic = backend.open_topic("t")
    monkeypatch.setattr(type(topic), "to_subscription", mv.Topic.to_subscription)
    with pytest.raises(mv.Unsupported, match="one subscription 'default'"):
        await backend.redrive("t")
    assert await backend.redrive("t", to_topic=True) == 1


async def test_an_observed_backend_sees_its_dead_resolved() -> None:
    log, backend = observed()
    server = backend.server("t", max_attempts=1)
    server.start(refuse)
    await backend.topic("t").publish(b"1")
    await log.settled(5)
    assert states(log) == {b"1": "dead"}
    taking = Taking()
    server.start(taking)
    assert await backend.redrive(server) == 1
    await log.settled(5)
    assert taking.bodies == [b"1"]
    assert states(log) == {b"1": "ok"}
    await backend.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": True}, "limit"),
        ({"rate": 0}, "rate"),
        ({"subscription": ""}, "name"),
    ],
)
async def test_wrong_arguments(backend: mv.Backend, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        await backend.redrive("t", **options)  # type: ignore[arg-type]


async def test_a_closed_backend(backend: mv.Backend) -> None:
    await backend.close()
    with pytest.raises(mv.BackendClosed):
        await backend.redrive("t")
