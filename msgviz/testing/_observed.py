"""Checks of a backend that is observed: what the log says of it, and replay."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from typing import Any

from msgviz.backend import Backend
from msgviz.testing._dead_letters import Mendable
from msgviz.testing._failures import Failing
from msgviz.testing.check import DEAD_LETTERS, Need, check
from msgviz.testing.scene import Scene, numbered, shown

_LOG = Need(lambda h, f: all(map(find_spec, ("pandas", "pyarrow", "tqdm"))), "msgviz[log] is not installed")


def _observed(scene: Scene) -> tuple[Backend, Any]:
    from msgviz.log import MessageLog  # noqa: PLC0415  a log needs pandas, the suite does not
    from msgviz.observing import observe  # noqa: PLC0415

    log = MessageLog()
    return observe(scene.backend, log), log


@check("observed", _LOG)
async def _log(scene: Scene) -> None:
    """The log of an observed backend has every publish and every receive, with its outcome, and settles."""
    backend, log = _observed(scene)
    name = scene.name_of()
    first, second = scene.inbox("first", Failing(1)), scene.inbox("second")
    scene.start(name, first, subscription="first", backend=backend)
    scene.start(name, second, subscription="second", backend=backend)
    bodies = numbered(5)
    await scene.publish(backend.topic(name), *bodies)
    await first.passes(bodies)
    await second.passes(bodies)
    await log.settled(scene.harness.timeout)
    rows = Counter(
        (e.operation, "" if e.operation == "publish" else e.subscription, e.attempt, e.outcome)
        for e in log.events.itertuples()
    )
    again = 2 if scene.features.counts_attempts else 1
    wanted = Counter({("publish", "", 1, "ok"): 5, ("receive", "second", 1, "ok"): 5})
    wanted += Counter({("receive", "first", 1, "error"): 5, ("receive", "first", again, "ok"): 5})
    scene.expect(rows == wanted, f"the log has {dict(rows)}, not {dict(wanted)}")
    states = Counter(log.messages["state"])
    scene.expect(states == {"ok": 5}, f"the five messages are {dict(states)}, not ok")
    wrong = [str(event) for event in log.events.itertuples() if event.body not in bodies]
    scene.expect(not wrong, f"the log shows what the application did not send: {wrong[:1]}")


@check("replay", _LOG, DEAD_LETTERS)
async def _replay(scene: Scene) -> None:
    """A replay sends what died to the subscription that failed, alone where it can be addressed."""
    backend, log = _observed(scene)
    name, mendable = scene.name_of(), Mendable()
    failing, fine = scene.inbox("the failing subscription", mendable), scene.inbox("the other subscription")
    scene.start(name, failing, subscription="billing", max_attempts=2, backend=backend)
    scene.start(name, fine, subscription="fine", backend=backend)
    topic = backend.topic(name)
    bodies = numbered(4)
    for body in bodies:
        await topic.publish(body, attributes={"Source": "web"})
    await fine.passes(bodies)
    await log.settled(scene.harness.timeout)
    states = Counter(log.messages["state"])
    scene.expect(states == {"dead": 4}, f"four messages died, and the log says {dict(states)}")
    mendable.mended = True
    report = await log.replay(log.messages.query("state == 'dead'"), progress=lambda done, total: None)
    scene.expect(
        len(report.sent) == 4, f"of 4 dead messages {len(report.sent)} were replayed: {list(report)}"
    )
    await failing.passes(bodies)
    if scene.features.addressable_subscriptions:
        await fine.nothing_more("that was replayed to another subscription")
        fine.exactly(bodies)
    else:
        await scene.until(lambda: len(fine.passed) == 8, lambda: shown(fine.passed))
    added = {"msgviz-id", *(key.lower() for key in scene.harness.added_attributes)}
    for got in failing.got:
        attributes = {key: values for key, values in got.attributes.items() if key.lower() not in added}
        scene.expect(attributes == {"Source": ["web"]}, f"the attributes arrived as {attributes}")
    await log.settled(scene.harness.timeout)
    left = Counter(log.messages["state"])
    scene.expect("dead" not in left, f"after the replay the log still says {dict(left)}")
