"""fail_randomly, latency, corrupt and duplicate: what goes wrong, on purpose and reproducibly."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import corrupt, duplicate, fail_randomly, latency, lz4, with_options
from msgviz.decorators.fail_randomly import RandomFailure
from tests.decorators import clock, laws
from tests.flows import Kept, accept, observed, until
from tests.queues import Taking, numbered, publish

SEEDED: dict[str, Any] = {"fail_randomly": fail_randomly, "corrupt": corrupt, "duplicate": duplicate}
ALL = SEEDED | {"latency": latency}
never = {name: with_options(module, rate=0) for name, module in SEEDED.items()} | {
    "latency": with_options(latency, seconds=0)
}


@pytest.mark.parametrize("name", ALL)
@given(message=laws.deliveries(st.binary(max_size=20)))
@settings(max_examples=20)
def test_at_a_rate_of_nothing_nothing_happens(name: str, message: mv.Message) -> None:
    async def run() -> None:
        await laws.hands_on_what_came(never[name], message)
        await laws.sends_what_was_published(never[name], message, 2.0)

    asyncio.run(run())


@pytest.mark.parametrize("name", ALL)
async def test_laws(name: str) -> None:
    decorator = never[name]
    await laws.forwards_the_delay(decorator)
    await laws.raises_what_the_topic_raises(decorator)
    await laws.lets_a_publish_be_cancelled(decorator)
    await laws.raises_what_the_receiver_raises(decorator, laws.delivered())
    await laws.lets_cancellation_through(decorator, laws.delivered())
    await laws.leaves_the_receivers_own_timeout_alone(decorator, laws.delivered())
    await laws.takes_many_at_once(decorator)
    await laws.decorates_plain_functions(decorator)


def test_layers() -> None:
    laws.shows_its_layer(with_options(fail_randomly, rate=0.25), "fail 25%")
    laws.shows_its_layer(corrupt, "corrupt 10%")
    laws.shows_its_layer(with_options(duplicate, rate=1), "duplicate 100%")
    laws.shows_its_layer(latency, "latency 0.1 s")
    laws.shows_its_layer(with_options(latency, seconds=(0.5, timedelta(minutes=1))), "latency 0.5 to 60 s")


def outcomes(decorator: Any, side: str, count: int = 400) -> list[Any]:
    """What becomes of so many messages at one side: the bodies that come through, or the error."""

    async def run() -> list[Any]:
        kept, taking = Kept(), Taking()
        made = decorator.encoder(kept) if side == "publish" else decorator.decoder(taking)
        act = made.send if side == "publish" else lambda message, delay: made(message)
        result: list[Any] = []
        for number in range(count):
            kept.sent, taking.messages = [], []
            try:
                await act(mv.Message(b"body %d" % number), 0.0)
            except RandomFailure as error:
                result.append(repr(error))
            else:
                result.append([message.body for message in kept.sent + taking.messages])
        return result

    return asyncio.run(run())


@pytest.mark.parametrize("side", ["publish", "receive"])
@pytest.mark.parametrize("name", SEEDED)
def test_the_same_seed_does_the_same(name: str, side: str) -> None:
    module = SEEDED[name]
    plain = [[b"body %d" % number] for number in range(400)]
    seen = [outcomes(with_options(module, rate=0.25, seed=seed), side) for seed in (0, 0, 1)]
    assert seen[0] == seen[1] != seen[2]
    assert outcomes(with_options(module, rate=0.25), side) == seen[0]  # the default
    struck = sum(got != bare for got, bare in zip(seen[0], plain, strict=True))
    assert 70 <= struck <= 130  # of 400 at 25 %: within three and a half standard deviations
    everything = outcomes(with_options(module, rate=1), side)
    assert all(got != bare for got, bare in zip(everything, plain, strict=True))
    drawn = [outcomes(with_options(module, rate=0.25, seed=None), side) for _ in range(2)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("name", SEEDED)
def test_the_sides_draw_for_themselves(name: str) -> None:
    chain = with_options(SEEDED[name], rate=0.25)
    struck = [
        [number for number, got in enumerate(outcomes(chain, side)) if got != [b"body %d" % number]]
        for side in ("publish", "receive")
    ]
    assert struck[0] != struck[1]


@pytest.mark.parametrize("name", SEEDED)
def test_wrong_options(name: str) -> None:
    for make, what in ((SEEDED[name].encoder, Kept()), (SEEDED[name].decoder, accept)):
        for rate in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match=r"rate is .* not"):
                make(what, rate=rate)
        with pytest.raises(TypeError, match="rate"):
            make(what, rate="1")
        for seed in ("0", 1.5, True):
            with pytest.raises(TypeError, match="seed"):
                make(what, seed=seed)


# -- fail_randomly


async def test_what_fails_is_not_sent_and_not_received() -> None:
    kept, taking = Kept(), Taking()
    with pytest.raises(RandomFailure, match="fail_randomly failed this publish"):
        await fail_randomly.encoder(kept, rate=1).publish(b"x")
    with pytest.raises(RandomFailure, match="fail_randomly failed this receive"):
        await fail_randomly.decoder(taking, rate=1)(mv.Message(b"x"))
    assert (kept.sent, taking.messages) == ([], [])


async def test_any_error() -> None:
    def make(text: str) -> Exception:
        return OSError(5, text)

    with pytest.raises(ConnectionResetError, match="failed this publish"):
        await fail_randomly.encoder(Kept(), rate=1, error=ConnectionResetError).publish(b"x")
    with pytest.raises(OSError, match="failed this receive"):
        await fail_randomly.decoder(accept, rate=1, error=make)(mv.Message(b"x"))
    for module in (fail_randomly.encoder, fail_randomly.decoder):
        with pytest.raises(TypeError, match="error is an exception class"):
            module(Kept() if module is fail_randomly.encoder else accept, error=ValueError("x"))


async def test_a_server_brings_every_message_through_all_the_same() -> None:
    log, backend = observed()
    chain = [with_options(fail_randomly, rate=0.5)]
    got = Taking()
    server = backend.server("t", decorators=chain, max_attempts=None, backoff=0)
    topic = backend.topic("t", decorators=chain)
    refused = 0
    for body in numbered(20):
        while True:
            try:
                await topic.publish(body)
            except RandomFailure:
                refused += 1
            else:
                break
    async with server.running(got):
        await until(lambda: len(got.messages) == 20)
        await log.settled(5)
    assert sorted(got.bodies, key=int) == numbered(20)
    failed = log.events.query("outcome == 'error'").groupby("operation", observed=True).size()
    assert failed["publish"] == refused > 3
    assert failed["receive"] > 3


# -- latency


@pytest.mark.parametrize("side", ["publish", "receive"])
def test_it_takes_as_long_as_it_says(side: str) -> None:
    async def times(**options: Any) -> list[float]:
        act: Any = latency.decoder(accept, **options)
        if side == "publish":
            act = partial(latency.encoder(Kept(), **options).send, delay=0.0)
        took = []
        for _ in range(20):
            began = clock.now()
            await act(mv.Message(b"x"))
            took.append(clock.now() - began)
        return took

    assert clock.run(times(seconds=timedelta(hours=1))) == pytest.approx([3600.0] * 20)
    drawn = clock.run(times(seconds=(5, 10)))
    assert all(5 <= one <= 10 for one in drawn)
    assert len(set(drawn)) == 20
    assert clock.run(times(seconds=(5, 10), seed=0)) == drawn
    assert clock.run(times(seconds=(5, 10), seed=1)) != drawn


def test_many_wait_at_the_same_time() -> None:
    async def run() -> float:
        receiver = latency.decoder(accept, seconds=1)
        began = clock.now()
        await asyncio.gather(*(receiver(mv.Message(b"x")) for _ in range(100)))
        return clock.now() - began

    assert clock.run(run()) == pytest.approx(1.0)


async def test_what_waits_can_be_cancelled_and_was_not_sent() -> None:
    kept, taking = Kept(), Taking()
    for waiting in (
        latency.encoder(kept, seconds=60).publish(b"x"),
        latency.decoder(taking, seconds=60)(mv.Message(b"x")),
    ):
        task = asyncio.ensure_future(waiting)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (kept.sent, taking.messages) == ([], [])


@pytest.mark.parametrize("wrong", [-1, (2, 1), (1,), (1, 2, 3), (0, -1), float("inf"), (0, float("nan"))])
def test_what_is_no_latency(wrong: Any) -> None:
    for make, what in ((latency.encoder, Kept()), (latency.decoder, accept)):
        with pytest.raises(ValueError, match="seconds"):
            make(what, seconds=wrong)


@pytest.mark.parametrize("wrong", ["1", None, [1, 2], ("1", 2)])
def test_what_is_no_number_of_seconds(wrong: Any) -> None:
    for make, what in ((latency.encoder, Kept()), (latency.decoder, accept)):
        with pytest.raises(TypeError, match="seconds"):
            make(what, seconds=wrong)


# -- corrupt


@given(laws.deliveries(st.binary(max_size=50)), st.integers())
@settings(max_examples=100)
def test_one_byte_is_wrong_and_nothing_else(message: mv.Message, seed: int) -> None:
    before = laws.told(message)

    async def run() -> list[mv.Message]:
        kept, taking = Kept(), Taking()
        await corrupt.encoder(kept, rate=1, seed=seed).send(message, 0)
        await corrupt.decoder(taking, rate=1, seed=seed)(message)
        return kept.sent + taking.messages

    for damaged in asyncio.run(run()):
        assert laws.told(damaged)[1:] == before[1:]
        assert len(damaged.body) == len(message.body)
        wrong = sum(a != b for a, b in zip(damaged.body, message.body, strict=True))
        assert wrong == (1 if message.body else 0)
    assert laws.told(message) == before


async def test_a_checksum_notices() -> None:
    async with mv.connect("memory://") as backend:
        got = Taking()
        server = backend.server("t", decorators=[lz4, with_options(corrupt, rate=0.5)], max_attempts=None,
                                backoff=0)  # fmt: skip
        topic = backend.topic("t", decorators=[lz4])
        bodies = [b"%d and some more" % number for number in range(50)]
        await publish(topic, *bodies)
        async with server.running(got):
            await until(lambda: len(got.messages) >= 50)
    assert sorted(got.bodies) == sorted(bodies)
    assert max(message.attempt for message in got.messages) > 1


# -- duplicate


@given(laws.deliveries(st.binary(max_size=10)))
@settings(max_examples=50)
def test_both_are_the_same_message_whatever_is_done_to_the_first(message: mv.Message) -> None:
    before = laws.told(message)
    seen: list[tuple[Any, ...]] = []

    class Spoiling(mv.Topic):
        name = "spoiling"

        async def send(self, message: mv.Message, delay: float) -> None:
            seen.append((*laws.told(message), delay))
            spoil(message)

    def spoil(message: mv.Message) -> None:
        message.attributes["Spoilt"] = "1"
        message.body = b"spoilt"

    async def receive(message: mv.Message) -> None:
        seen.append((*laws.told(message), 7.0))
        spoil(message)

    async def run() -> None:
        same = message.with_body(message.body)
        await duplicate.encoder(Spoiling(), rate=1).send(message.with_body(message.body), 7.0)
        await duplicate.decoder(receive, rate=1)(same)

    asyncio.run(run())
    assert seen == [(*before, 7.0)] * 4


async def test_a_log_sees_one_message_twice() -> None:
    for propagate in (True, False):
        log = mv.MessageLog()
        backend = mv.observe(mv.connect("memory://"), log, propagate=propagate)
        for side in ("publish", "receive"):
            decorators = [with_options(duplicate, rate=1)]
            topic = backend.topic(side, decorators=decorators if side == "publish" else ())
            got = Taking()
            server = backend.server(side, decorators=decorators if side == "receive" else ())
            async with server.running(got):
                await topic.publish(b"x")
                await until(lambda got=got: len(got.messages) == 2)
                await log.settled(5)
            events = log.events.query("topic == @side and operation == 'receive'")
            assert events["outcome"].tolist() == ["ok", "ok"]
            assert events["message_id"].nunique() == 1
        await backend.close()


class Failing(mv.Topic):
    """Fails the call of this number; a topic, and a receiver."""

    name = "failing"

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    async def send(self, message: mv.Message, delay: float) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise ConnectionError("gone")

    async def receive(self, message: mv.Message) -> None:
        await self.send(message, 0.0)


@pytest.mark.parametrize("at", [1, 2])
async def test_what_fails_once_has_failed(at: int) -> None:
    failing = Failing(at)
    with pytest.raises(ConnectionError, match="gone"):
        await duplicate.encoder(failing, rate=1).publish(b"x")
    assert failing.calls == at
    failing = Failing(at)
    receiver: Any = duplicate.decoder(failing.receive, rate=1)
    with pytest.raises(ConnectionError, match="gone"):
        await receiver(mv.Message(b"x"))
    assert failing.calls == at
