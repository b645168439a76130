"""A body that a decorator of the server cannot decode: the log tells it, and the message is not lost."""

from __future__ import annotations

import asyncio

import msgviz as mv
from msgviz.decorators import base64, lz4


async def test_a_body_that_does_not_decode_is_a_failure_in_the_log_and_a_dead_letter() -> None:
    log, bare = mv.MessageLog(), mv.connect("memory://")
    backend = mv.observe(bare, log)
    received: list[mv.Message] = []
    server = backend.server("t", max_attempts=2, backoff=0, decorators=(lz4, base64))
    broken = {"Content-Transfer-Encoding": "base64"}
    async with server.running(received.append):
        await backend.topic("t").publish(b"!!", attributes=broken)
        await log.settled(timeout=10)
    assert received == []
    failed = log.events.query("operation == 'receive'")
    assert failed["error_type"].tolist() == ["msgviz.errors.DecodeError"] * 2
    assert failed["error"].str.startswith("base64: ").all()
    assert failed["attempt"].tolist() == [1, 2]
    assert failed["body"].tolist() == [b"!!"] * 2
    assert log.messages["state"].tolist() == ["dead"]
    letters: list[mv.Message] = []
    async with bare.server("t.default.dead").running(letters.append):
        while not letters:
            await asyncio.sleep(0.001)
    assert letters[0].body == b"!!"
    await backend.close()


async def test_what_the_receiver_itself_raises_is_recorded_once() -> None:
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://"), log)
    server = backend.server("t", max_attempts=1, decorators=(lz4, base64))

    async def refuse(message: mv.Message) -> None:
        raise ValueError("no")

    async with server.running(refuse):
        await backend.topic("t", decorators=(lz4, base64)).publish(b"x")
        await log.settled(timeout=10)
        assert mv.chain(server).names == ["base64", "lz4", "observe", "refuse"]
    assert log.events["operation"].tolist() == ["publish", "receive"]
    assert log.events["error_type"].tolist()[1] == "ValueError"
    await backend.close()


async def test_a_replay_that_died_is_resolved_by_one_that_went_well() -> None:
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://"), log)
    topic = backend.topic("t")
    good = False

    async def receive(message: mv.Message) -> None:
        if not good:
            raise ValueError("no")

    async with backend.server("t", max_attempts=1).running(receive):
        await topic.publish(b"x")
        await log.settled(timeout=10)
        first = log.messages.index[0]
        await log.replay(first)
        await log.settled(timeout=10)
        assert log.messages["state"].tolist() == ["replayed", "dead"]
        good = True
        await log.replay(first)
        await log.settled(timeout=10)
        assert log.messages["state"].tolist() == ["resolved", "resolved", "ok"]
        assert log.count_states()["resolved"] == 2
        assert len(await log.replay()) == 0
    await backend.close()
