"""Checks of delivery: every subscription gets every message, once while nothing fails."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from msgviz.errors import Unsupported
from msgviz.message import Message
from msgviz.testing.check import ADDRESSABLE, DELAYS, ORDERED, PERSISTENT, SHARED, Need, check
from msgviz.testing.scene import Scene, numbered, shown

_KEEPS = Need(lambda h, f: f.keeps_unsubscribed, "a message without a subscription is not kept")
_NOT_ADDRESSABLE = Need(lambda h, f: not f.addressable_subscriptions, "a subscription can be addressed")
_LIMITED_DELAY = Need(lambda h, f: f.max_delay < float("inf"), "a delay may have any length")
_SHARES = Need(lambda h, f: h.shares_work, "its messages wait behind a busy server")


@check("publish and receive")
async def _publish_and_receive(scene: Scene) -> None:
    """All messages arrive, each once, and nothing else comes."""
    name, inbox = scene.name_of(), scene.inbox()
    scene.start(name, inbox, concurrency=2)
    bodies = numbered(40)
    await scene.publish(name, *bodies)
    await inbox.passes(bodies)
    attempts = {got.attempt for got in inbox.got}
    scene.expect(attempts == {1}, f"first deliveries came as the attempts {sorted(attempts)}")
    await inbox.nothing_more()


@check("publish before serving")
async def _publish_before_serving(scene: Scene) -> None:
    """A subscription exists as soon as its server was made: messages published before it serves wait."""
    name, inbox = scene.name_of(), scene.inbox()
    server = scene.server(name)
    bodies = numbered(20)
    await scene.publish(name, *bodies)
    server.start(inbox)
    await inbox.passes(bodies)


@check("publish before subscribing", _KEEPS)
async def _publish_before_subscribing(scene: Scene) -> None:
    """Messages published before their topic has a subscription wait for the first one."""
    name, inbox = scene.name_of(), scene.inbox()
    bodies = numbered(20)
    await scene.publish(name, *bodies)
    scene.start(name, inbox)
    await inbox.passes(bodies)


@check("nobody subscribed")
async def _nobody_subscribed(scene: Scene) -> None:
    """Publishing to a topic that has no subscription is no error, and one made later gets what follows."""
    name, inbox = scene.name_of(), scene.inbox()
    await scene.publish(name, b"early")
    await scene.backend.declare(name, "default")
    await scene.publish(name, b"late")
    scene.start(name, inbox)
    await scene.until(lambda: b"late" in inbox.passed, "what was published after it was made never came")
    others = [body for body in inbox.bodies if body not in (b"early", b"late")]
    scene.expect(not others, f"what nobody sent was received: {shown(others)}")


@check("declare")
async def _declare(scene: Scene) -> None:
    """Subscriptions that were declared get what is published from then on; declaring again is no error."""
    name = scene.name_of()
    bodies = numbered(5)
    await scene.backend.declare(name, "first", "second")
    await scene.backend.declare(name, "first")
    await scene.publish(name, *bodies)
    for subscription in ("first", "second"):
        inbox = scene.inbox(f"the subscription {subscription}")
        scene.start(name, inbox, subscription=subscription)
        await inbox.passes(bodies)


@check("fan-out")
async def _fan_out(scene: Scene) -> None:
    """Each subscription of a topic gets every message, each once."""
    name = scene.name_of()
    inboxes = {which: scene.inbox(f"the subscription {which}") for which in ("a", "b", "c")}
    for which, inbox in inboxes.items():
        scene.start(name, inbox, subscription=which)
    bodies = numbered(20)
    await scene.publish(name, *bodies)
    for inbox in inboxes.values():
        await inbox.passes(bodies)
    await scene.moment()
    for inbox in inboxes.values():
        inbox.exactly(bodies)


@check("competing consumers")
async def _competing(scene: Scene) -> None:
    """Servers of one subscription, on one connection or two, get each message once between them."""
    name, inbox = scene.name_of(), scene.inbox("the three servers together")
    other = await scene.connect()
    scene.start(name, inbox)
    scene.start(name, inbox)
    scene.start(name, inbox, backend=other, concurrency=2)
    bodies = numbered(60)
    await scene.publish(name, *bodies)
    await inbox.passes(bodies)
    await inbox.nothing_more()
    inbox.exactly(bodies)


@check("a busy server holds up nobody", _SHARES)
async def _busy(scene: Scene) -> None:
    """While one server's receiver is busy, the other messages of its subscription go to another server."""
    name = scene.name_of()
    free = asyncio.Event()

    async def hold(message: Message) -> None:
        await free.wait()

    busy, idle = scene.inbox("the busy server", hold), scene.inbox("the idle server")
    scene.start(name, busy)
    bodies = numbered(12)
    await scene.publish(name, *bodies)
    await busy.count(1)
    scene.start(name, idle, backend=await scene.connect())
    await scene.until(
        lambda: len(idle.passed) >= len(bodies) - 1,
        lambda: (
            f"of {len(bodies) - 1} messages the idle server got {shown(idle.passed)}; "
            f"the busy one holds {shown(busy.bodies)}"
        ),
    )
    scene.expect(busy.most == 1, f"the busy server received {busy.most} messages at a time, not 1")
    free.set()
    await scene.until(lambda: len(busy.passed) == 1, "the busy receiver did not end")
    await idle.nothing_more()
    wrong = sorted(busy.passed + idle.passed) != sorted(bodies)
    scene.expect(not wrong, f"the servers got {shown(busy.passed)} and {shown(idle.passed)}")


@check("many publishers and servers")
async def _many(scene: Scene) -> None:
    """Many publishers and servers at once lose nothing and deliver nothing twice."""
    name = scene.name_of()
    other = await scene.connect()
    inboxes = {which: scene.inbox(f"the subscription {which}") for which in ("a", "b")}
    for which, inbox in inboxes.items():
        scene.start(name, inbox, subscription=which, concurrency=4)
        scene.start(name, inbox, subscription=which, concurrency=2, backend=other)
    await scene.backend.declare(name, "a", "b")
    groups = [numbered(20, f"publisher-{n}") for n in range(5)]
    topics = scene.backend.topic(name), other.topic(name)
    await scene.together(*(scene.publish(topics[n % 2], *group) for n, group in enumerate(groups)))
    bodies = [body for group in groups for body in group]
    for inbox in inboxes.values():
        await inbox.passes(bodies)
    await scene.moment()
    for inbox in inboxes.values():
        inbox.exactly(bodies)


@check("publishing at once")
async def _publishing_at_once(scene: Scene) -> None:
    """One topic may be published to by any number of tasks at once, with no turn between them."""
    name, inbox = scene.name_of(), scene.inbox()
    scene.start(name, inbox, concurrency=8)
    bodies = numbered(50)
    topic = scene.backend.topic(name)
    await scene.together(*(topic.publish(body) for body in bodies))
    await inbox.passes(bodies)


@check("order", ORDERED)
async def _order(scene: Scene) -> None:
    """One worker receives what one publisher sent in the order it was sent."""
    name, inbox = scene.name_of(), scene.inbox()
    server = scene.server(name)
    bodies = numbered(60)
    await scene.publish(name, *bodies[:30])
    server.start(inbox)
    await scene.publish(name, *bodies[30:])
    await inbox.passes(bodies)
    wrong = [f"{got.decode()} where {sent.decode()} was due"
             for sent, got in zip(bodies, inbox.passed, strict=True) if sent != got]  # fmt: skip
    scene.expect(not wrong, f"messages came out of order: {'; '.join(wrong[:5])}")


@check("topics do not mix")
async def _topics_apart(scene: Scene) -> None:
    """A topic's messages reach its own subscriptions only, though others have the same names."""
    base = scene.name_of()
    names = [base + end for end in ("", "-a", ".a", "-A", "-a.a", "-a-a", "-default")]
    inboxes = [scene.inbox(f"the server of {name}") for name in names]
    for name, inbox in zip(names, inboxes, strict=True):
        scene.start(name, inbox)
    for name in names:
        await scene.publish(name, *numbered(3, name))
    for name, inbox in zip(names, inboxes, strict=True):
        await inbox.passes(numbered(3, name))
    await scene.moment()
    for name, inbox in zip(names, inboxes, strict=True):
        inbox.exactly(numbered(3, name))


@check("names")
async def _names(scene: Scene) -> None:
    """Topics and subscriptions may have letters, digits, dots and dashes in their names."""
    base = scene.name_of()
    for topic, subscription in (
        (f"{base}.eu-west.orders", "billing-2"),
        (f"{base}.v1.2", "billing.eu.west"),
        (f"{base}-Orders", "Billing"),
        (f"{base}-sub", "all-messages-2026"),
    ):
        inbox = scene.inbox(f"the server of {topic}/{subscription}")
        scene.start(topic, inbox, subscription=subscription)
        await scene.publish(topic, b"named")
        await inbox.passes([b"named"])


@check("done is done")
async def _done_is_done(scene: Scene) -> None:
    """What was received is not delivered again: not to the next server, and not on another connection."""
    name, first = scene.name_of(), scene.inbox("the first server")
    bodies = numbered(10)
    connection = await scene.connect()
    server = scene.start(name, first, backend=connection)
    await connection.declare(name, "default")  # the publisher, on another one, cannot know of it
    await scene.publish(name, *bodies)
    await first.passes(bodies)
    await server.shutdown()
    if connection is not scene.backend:
        await connection.close()
    second = scene.inbox("the second server")
    scene.start(name, second, backend=await scene.connect())
    await scene.publish(name, b"new")
    await second.passes([b"new"])
    await second.nothing_more()


@check("continue after a close", SHARED, PERSISTENT)
async def _continue(scene: Scene) -> None:
    """Connections that take some messages each and are closed lose none and repeat none."""
    name = scene.name_of()
    await scene.backend.declare(name, "default")
    bodies = numbered(40)
    await scene.publish(name, *bodies)
    together = scene.inbox("the connections together")
    for number in range(1, 4):
        connection = await scene.connect()
        scene.start(name, together, backend=connection, concurrency=2)
        await together.count(number * 8)
        await connection.close()
    scene.start(name, together, backend=await scene.connect(), concurrency=4)
    await together.passes(bodies)
    await together.nothing_more()


@check("subscribing at once")
async def _subscribing_at_once(scene: Scene) -> None:
    """Connections that subscribe and close, all at once, leave the subscription whole."""
    name = scene.name_of()
    await scene.backend.declare(name, "default", "other")

    async def come_and_go() -> None:
        connection = await scene.connect()
        server = scene.start(name, scene.inbox(), backend=connection)
        await connection.declare(name, "default")
        await server.shutdown()
        if connection is not scene.backend:
            await connection.close()

    await scene.together(*(come_and_go() for _ in range(6)))
    bodies = numbered(20)
    await scene.publish(name, *bodies)
    inbox = scene.inbox()
    scene.start(name, inbox, backend=await scene.connect())
    await inbox.passes(bodies)


@check("to one subscription", ADDRESSABLE)
async def _to_one(scene: Scene) -> None:
    """A message sent to one subscription reaches it alone."""
    name = scene.name_of()
    one, other = scene.inbox("the one subscription"), scene.inbox("the other subscription")
    scene.start(name, one, subscription="one")
    scene.start(name, other, subscription="other")
    topic = scene.backend.topic(name)
    bodies = numbered(5)
    await scene.publish(topic.to_subscription("one"), *bodies)
    await scene.publish(topic, b"all")
    await one.passes([*bodies, b"all"])
    await other.passes([b"all"])
    await other.nothing_more("that was sent to another subscription")


@check("one subscription is refused", _NOT_ADDRESSABLE)
async def _to_one_refused(scene: Scene) -> None:
    """Where a subscription cannot be addressed, sending to one raises Unsupported, and nothing is sent."""
    name, inbox = scene.name_of(), scene.inbox()
    scene.start(name, inbox, subscription="one")
    topic = scene.backend.topic(name)
    await scene.raises(
        Unsupported, lambda: topic.to_subscription("one").publish(b"one"), "sending to one subscription"
    )
    await scene.publish(name, b"all")
    await inbox.passes([b"all"])


@check("delay", DELAYS)
async def _delay(scene: Scene) -> None:
    """A delayed message comes no sooner than asked, and holds up no other."""
    name, inbox = scene.name_of(), scene.inbox()
    scene.start(name, inbox)
    # On a system that is slow today, the second message must still be the first to come.
    delay = min(max(0.4, 6 * await scene.pace(name, inbox)), scene.features.max_delay)
    began = time.monotonic()
    await scene.backend.topic(name).publish(b"later", delay=delay)
    await scene.publish(name, b"now")
    await inbox.passes([b"now", b"later"])
    waited = inbox.of(b"later")[0].time - began
    scene.expect(waited >= delay - 0.01, f"a message delayed by {delay:g} s came after {waited:.3f} s")
    scene.expect(
        inbox.passed == [b"now", b"later"],
        "a delayed message came before one published after it without delay",
    )


@check("too long a delay", _LIMITED_DELAY)
async def _too_long_a_delay(scene: Scene) -> None:
    """A delay past the limit raises Unsupported, which names the backend, and nothing is sent."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    for delay in (scene.features.max_delay + 1, scene.features.max_delay * 2 + 3600):
        error = await scene.raises(
            Unsupported, partial(topic.publish, b"late", delay=delay), f"a delay of {delay:g} s"
        )
        scene.expect(
            scene.backend.name in str(error),
            f"the error does not name the backend {scene.backend.name}: {error}",
        )
    await topic.publish(b"now")
    await inbox.passes([b"now"])
    await inbox.nothing_more()
