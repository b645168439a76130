"""Checks of dead letters: what a subscription gives up on, and the way back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from msgviz.attributes import Attributes
from msgviz.dead_letters import LETTER_ATTRIBUTES, REDRIVEN
from msgviz.errors import Unsupported
from msgviz.message import Message
from msgviz.testing._bodies import largest
from msgviz.testing.check import ADDRESSABLE, DEAD_LETTERS, Need, check
from msgviz.testing.scene import Got, Inbox, Scene, numbered, shown

_NOT_ADDRESSABLE = Need(lambda h, f: not f.addressable_subscriptions, "a subscription can be addressed")


class Mendable:
    """What a receiver does that fails until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    async def __call__(self, message: Message) -> None:
        """Fail, or not any more."""
        if not self.mended:
            raise ValueError("no such customer")


async def _die(scene: Scene, name: str, bodies: list[bytes], *, subscription: str = "billing") -> None:
    """Publish messages to a topic and have them die at one subscription, whose server is then gone."""
    inbox = scene.inbox(f"the failing server of {subscription}", Mendable())
    server = scene.start(name, inbox, subscription=subscription, max_attempts=2, concurrency=2, backoff=0.001)
    await scene.publish(name, *bodies)
    await inbox.count(2 * len(bodies))
    await scene.within(scene.harness.timeout, server.shutdown(), "the shutdown of the failing server")
    scene.expect(
        len(inbox.got) == 2 * len(bodies),
        f"{len(bodies)} messages of two attempts each were delivered {len(inbox.got)} times",
    )


async def _live(scene: Scene, name: str, *, subscription: str = "billing") -> Inbox:
    """A mended server of a subscription."""
    inbox = scene.inbox(f"the mended server of {subscription}")
    scene.start(name, inbox, subscription=subscription, max_attempts=2)
    return inbox


@check("dead letters", DEAD_LETTERS)
async def _dead_letters(scene: Scene) -> None:
    """What used up its attempts is a dead letter, as it was sent, that says why; it comes no more."""
    name = scene.name_of()
    inbox = scene.inbox(act=Mendable())
    scene.start(name, inbox, subscription="billing", max_attempts=3)
    await scene.backend.topic(name).publish(b"bad", attributes={"Source": "web"})
    await inbox.count(3)
    letters = scene.letters(name, "billing")
    await letters.passes([b"bad"])
    letter = letters.got[0]
    reason = letter.attributes.pop("Dead-Letter-Reason", [""])[0]
    scene.expect("no such customer" in reason, f"Dead-Letter-Reason does not say why: {reason!r}")
    said = {
        "Dead-Letter-Topic": [name],
        "Dead-Letter-Subscription": ["billing"],
        "Dead-Letter-Attempts": ["3"],
        "Source": ["web"],
    }
    scene.same(letter, b"bad", said, "the dead letter")
    scene.expect(letter.attempt == 1, f"a dead letter is delivered first as attempt {letter.attempt}, not 1")
    await inbox.nothing_more("after it was given up on")
    scene.expect(len(inbox.got) == 3, f"with max_attempts=3 it was delivered {len(inbox.got)} times")
    scene.expect(len(letters.got) == 1, f"there are {len(letters.got)} dead letters of one message")


@check("one attempt", DEAD_LETTERS)
async def _one_attempt(scene: Scene) -> None:
    """With ``max_attempts=1`` the first failure makes a dead letter."""
    name, inbox = scene.name_of(), scene.inbox(act=Mendable())
    scene.start(name, inbox, max_attempts=1)
    await scene.publish(name, b"bad")
    await scene.letters(name).passes([b"bad"])
    scene.expect(len(inbox.got) == 1, f"with max_attempts=1 it was delivered {len(inbox.got)} times")


@check("dead letters are whole", DEAD_LETTERS)
async def _whole(scene: Scene) -> None:
    """Dead letters keep their bodies and attributes, whatever they are, and whatever their error says."""
    features = scene.features
    several: dict[str, list[str]] = {
        "Color": ["red", "green"] if features.multi_valued_attributes else ["red"]
    }
    cases: dict[bytes, tuple[bytes, dict[str, Any]]] = {
        b"empty": (b"", {"Kind": "empty"}),
        b"attributes": (b"attributes", several),
        b"large": (b"x" * scene.size(60_000), {}),
    }
    if features.binary_body:
        cases[b"binary"] = (bytes(range(256)) + os.urandom(50), {})
    name = scene.name_of()
    awkward = "line\nend \x00 ünï🚀 " + "long " * 20_000

    async def fail(message: Message) -> None:
        raise ValueError(awkward)

    scene.start(name, scene.inbox(act=fail), max_attempts=1)
    topic = scene.backend.topic(name)
    for body, attributes in cases.values():
        await topic.publish(body, attributes=attributes)
    letters = scene.letters(name)
    await letters.passes([body for body, _ in cases.values()])
    for body, attributes in cases.values():
        letter = _without(letters.of(body)[0], *LETTER_ATTRIBUTES)
        what = "the dead letter of " + shown([body])
        scene.same(letter, body, Attributes(attributes).to_dict(), what)


@check("dead letters at the limits", DEAD_LETTERS)
async def _at_the_limits(scene: Scene) -> None:
    """A message as large as can be, or with as many attributes, is a whole letter when it dies."""
    name, attributes = scene.name_of(), _as_many(scene)
    body = largest(scene)
    inbox = scene.inbox("the failing server", Mendable())
    server = scene.start(name, inbox, max_attempts=1)
    await scene.backend.topic(name).publish(body, attributes={"Kind": "large"})
    await scene.backend.topic(name).publish(b"many", attributes=attributes)
    await inbox.count(2)
    await scene.within(scene.harness.timeout, server.shutdown(), "the shutdown of the failing server")
    letters = scene.letters(name)
    await letters.passes([body, b"many"])
    many = _without(letters.of(b"many")[0], *LETTER_ATTRIBUTES)
    scene.same(many, b"many", Attributes(attributes).to_dict(), "the dead letter of many attributes")


@check("redrive at the limits", DEAD_LETTERS, ADDRESSABLE)
async def _redrive_at_the_limits(scene: Scene) -> None:
    """A redrive moves letters as large as can be, or with as many attributes, and each of them once."""
    name, attributes = scene.name_of(), _as_many(scene)
    body = largest(scene)
    mendable = Mendable()
    inbox = scene.inbox("the failing server", mendable)
    server = scene.start(name, inbox, max_attempts=1)
    await scene.backend.topic(name).publish(body, attributes={"Kind": "large"})
    await scene.backend.topic(name).publish(b"many", attributes=attributes)
    await inbox.count(2)
    await scene.within(scene.harness.timeout, server.shutdown(), "the shutdown of the failing server")
    scene.start(name, inbox, max_attempts=1)
    moved = await _ends(scene, scene.backend.redrive(name, rate=20))
    scene.expect(moved == 2, f"of 2 letters a redrive moved {moved}, while they died again")
    await inbox.count(4)
    await inbox.nothing_more("of what was redriven once")
    scene.expect(
        sorted(inbox.bodies[2:]) == sorted([body, b"many"]),
        f"the letters were redriven as {shown(inbox.bodies[2:])}",
    )
    again = _without(inbox.of(b"many")[-1], REDRIVEN)
    scene.same(again, b"many", Attributes(attributes).to_dict(), "the redriven message of many attributes")


def _as_many(scene: Scene) -> dict[str, str]:
    most = scene.features.max_attributes
    return {f"Key-{n}": f"value {n}" for n in range(40 if most is None else min(most, 40))}


def _without(got: Got, *keys: str) -> Got:
    return replace(got, attributes={k: v for k, v in got.attributes.items() if k not in keys})


@check("many dead letters", DEAD_LETTERS)
async def _many(scene: Scene) -> None:
    """When many messages die among many that do not, each is a letter once, and only those are."""
    name = scene.name_of()
    bodies = numbered(40)
    bad = bodies[::2]

    async def act(message: Message) -> None:
        if message.body in bad:
            raise ValueError("bad")

    inbox = scene.inbox(act=act)
    scene.start(name, inbox, max_attempts=2, concurrency=4, backoff=0.001)
    await scene.publish(name, *bodies)
    await inbox.passes(bodies[1::2])
    letters = scene.letters(name)
    await letters.passes(bad)
    await letters.nothing_more()
    scene.expect(len(inbox.got) == 60, f"20 passed and 20 had two attempts, in {len(inbox.got)} deliveries")


@check("dead for one subscription", DEAD_LETTERS)
async def _for_one(scene: Scene) -> None:
    """What is dead for one subscription is received by the others, and is a letter of that one alone."""
    name = scene.name_of()
    await scene.backend.declare(name, "fine")
    await _die(scene, name, numbered(3))
    await scene.letters(name, "billing").passes(numbered(3))
    fine = scene.inbox("the other subscription")
    scene.start(name, fine, subscription="fine")
    await fine.passes(numbered(3))
    others = scene.letters(name, "fine")
    await others.nothing_more("though nothing died there")
    scene.expect(not others.got, f"dead letters of a subscription where nothing died: {shown(others.bodies)}")


@check("redrive", DEAD_LETTERS, ADDRESSABLE)
async def _redrive(scene: Scene) -> None:
    """A redrive moves all dead letters of a subscription back to it alone, as they were first sent."""
    name = scene.name_of()
    fine = scene.inbox("the other subscription")
    scene.start(name, fine, subscription="fine")
    bodies = numbered(5)
    await _die(scene, name, bodies)
    await fine.passes(bodies)
    moved = await scene.backend.redrive(name, subscription="billing")
    scene.expect(moved == 5, f"of 5 dead letters a redrive moved {moved}")
    mended = await _live(scene, name)
    await mended.passes(bodies)
    for got in mended.got:
        scene.same(_without(got, REDRIVEN), got.body, {}, f"the redriven message {shown([got.body])}")
    if scene.features.counts_attempts:
        attempts = {got.attempt for got in mended.got}
        scene.expect(attempts == {1}, f"redriven messages began as attempt {sorted(attempts)}, not 1")
    again = await scene.backend.redrive(name, subscription="billing")
    scene.expect(again == 0, f"when all letters had been moved, another redrive moved {again}")
    await mended.nothing_more()
    await fine.nothing_more("that was redriven to another subscription")
    fine.exactly(bodies)


@check("redrive in parts", DEAD_LETTERS, ADDRESSABLE)
async def _in_parts(scene: Scene) -> None:
    """A redrive keeps to its `limit` and its `rate`, tells its `progress`, and loses no letter."""
    name = scene.name_of()
    bodies = numbered(6)
    await _die(scene, name, bodies)
    told: list[int] = []
    moved = await scene.backend.redrive(name, subscription="billing", limit=0)
    scene.expect(moved == 0, f"with limit=0 a redrive moved {moved}")
    moved = await scene.backend.redrive(name, subscription="billing", limit=2, progress=told.append)
    scene.expect(moved == 2, f"with limit=2 a redrive moved {moved}")
    scene.expect(told == [1, 2], f"for two letters it told the progress {told}")
    began = time.monotonic()
    moved = await scene.backend.redrive(name, subscription="billing", rate=20)
    took = time.monotonic() - began
    scene.expect(moved == 4, f"of the 4 letters that were left a redrive moved {moved}")
    scene.expect(took >= 3 / 20 - 0.01, f"with rate=20 it moved 4 letters in {took:.3f} s")
    await (await _live(scene, name)).passes(bodies)


@check("redrive what dies again", DEAD_LETTERS, ADDRESSABLE)
async def _dies_again(scene: Scene) -> None:
    """A redrive while the fault is still there ends, and moves each letter once."""
    name = scene.name_of()
    bodies = numbered(4)
    await _die(scene, name, bodies)
    inbox = scene.inbox("the server with the fault", Mendable())
    scene.start(name, inbox, subscription="billing", max_attempts=1)
    moved = await _ends(scene, scene.backend.redrive(name, subscription="billing", rate=20))
    scene.expect(moved == 4, f"of 4 letters a redrive moved {moved}, while they died again")
    await inbox.count(4)
    await inbox.nothing_more("of what was redriven once")
    await scene.letters(name, "billing").passes(bodies)


async def _ends(scene: Scene, redriving: Awaitable[int]) -> int:
    moved: int = await scene.within(
        2 * scene.harness.timeout, redriving, "a redrive of letters that die again"
    )
    return moved


@check("redrive to the topic", DEAD_LETTERS)
async def _to_topic(scene: Scene) -> None:
    """With ``to_topic=True`` the letters go to all subscriptions of their topic."""
    name = scene.name_of()
    fine = scene.inbox("the other subscription")
    scene.start(name, fine, subscription="fine")
    bodies = numbered(3)
    await _die(scene, name, bodies)
    await fine.passes(bodies)
    moved = await scene.backend.redrive(name, subscription="billing", to_topic=True)
    scene.expect(moved == 3, f"of 3 dead letters a redrive moved {moved}")
    await (await _live(scene, name)).passes(bodies)
    await fine.count(6)
    await scene.until(lambda: sorted(fine.passed) == sorted(bodies * 2), lambda: shown(fine.passed))


@check("redrive is refused", DEAD_LETTERS, _NOT_ADDRESSABLE)
async def _refused(scene: Scene) -> None:
    """Where a subscription cannot be addressed a redrive to it raises Unsupported, and moves nothing."""
    name = scene.name_of()
    await _die(scene, name, numbered(2))
    await scene.raises(
        Unsupported,
        lambda: scene.backend.redrive(name, subscription="billing"),
        "a redrive to one subscription",
    )
    await scene.letters(name, "billing").passes(numbered(2))


@check("redrive is cancelled", DEAD_LETTERS, ADDRESSABLE)
async def _cancelled(scene: Scene) -> None:
    """A redrive that is cancelled half-way loses no letter: each was moved, or is still a letter."""
    name = scene.name_of()
    bodies = numbered(6)
    await _die(scene, name, bodies)
    told: list[int] = []
    moving = asyncio.create_task(
        scene.backend.redrive(name, subscription="billing", rate=20, progress=told.append)
    )
    await scene.until(lambda: told or moving.done(), "the redrive moved nothing")
    moving.cancel()
    await asyncio.wait([moving], timeout=scene.harness.timeout)
    scene.expect(moving.done(), "a cancelled redrive did not end")
    mended = await _live(scene, name)
    moved = await scene.backend.redrive(name, subscription="billing")
    await mended.arrive(bodies)
    scene.expect(moved >= 1, f"it was cancelled after {len(told)} of 6, and none was left to move")
