"""The graph of a flow: what is in it, how it is counted, where it stands, and what a click on it chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv

pytest.importorskip("anywidget")

from msgviz.drawing.flow import APPLICATION, Edge, Flow
from msgviz.drawing.flow_picture import Layout, draw
from msgviz.drawing.tally import Batch, Tally
from msgviz.widgets.flowgraph import FlowGraph
from tests.flows import Backwards, Gate, accept, observed, refuse, until
from tests.pages import Page

HOSTILE = "<script>alert(1)</script> & \"'`#@\\ \n  two"
NAMES = st.text(st.characters(exclude_categories=[]), min_size=1).filter(lambda name: name.strip())
made: list[Any] = []


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    while made:
        made.pop().close()


def kept(widget: Any) -> Any:
    made.append(widget)
    return widget


def edges(log: mv.MessageLog, *, live: bool = False) -> dict[str, Edge]:
    """The edges of a flow that is counted now, by what they join."""
    flow = Flow(log)
    flow.update()
    return named(flow, live=live)


def named(flow: Flow, *, live: bool = False) -> dict[str, Edge]:
    return {
        f"{'/'.join(map(str, e.source[1:]))} > {'/'.join(map(str, e.target[1:]))}": e
        for e in flow.graph(live=live).edges
    }


def counts(log: mv.MessageLog) -> dict[str, tuple[int, int]]:
    return {name: (edge.count, edge.most) for name, edge in edges(log).items()}


def elements(picture: str) -> dict[str, ElementTree.Element]:
    """The groups of a picture that stand for something, by their names."""
    root = ElementTree.fromstring(picture)
    return {e.attrib["data-name"]: e for e in root.iter() if "data-name" in e.attrib}


def words(element: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in element.iter("{http://www.w3.org/2000/svg}text")]


async def shop(log: mv.MessageLog, backend: mv.Backend, look: Callable[[], object] = lambda: None) -> None:
    """Orders, of which every third cannot be charged; what is charged is told to the audit."""
    orders, audit = backend.topic("orders", decorators=[Backwards]), backend.topic("audit")

    async def charge(message: mv.Message) -> None:
        look()
        if int(message.text) % 3 == 0:
            raise ValueError("cannot be charged")
        await audit.publish(message.body)

    servers = [
        backend.server("orders", subscription="billing", max_attempts=2, backoff=0, decorators=[Backwards]),
        backend.server("orders", subscription="shipping", decorators=[Backwards]),
        backend.server("audit", subscription="keeper"),
        backend.server("orders", subscription="unused"),
    ]
    for server, receiver in zip(servers, (charge, accept, accept), strict=False):
        server.start(receiver)
    for number in range(9):
        await orders.publish(str(number).encode())
        look()
    await until(lambda: len(log) == 42)
    for server in servers:
        await server.shutdown()
    look()


async def test_a_flow_is_found_and_counted() -> None:
    log, backend = observed()
    await shop(log, backend)
    flow = Flow(log)
    flow.update()
    graph = flow.graph(live=False)
    assert {n.key[1:]: (n.kind, n.layers) for n in graph.nodes} == {
        (): ("application", ()),
        ("orders",): ("topic", ("backwards",)),
        ("orders", "billing"): ("subscription", ("backwards", "charge")),
        ("orders", "shipping"): ("subscription", ("backwards", "accept")),
        ("orders", "unused"): ("subscription", ()),
        ("audit",): ("topic", ()),
        ("audit", "keeper"): ("subscription", ("accept",)),
        ("orders.billing.dead",): ("dead", ()),
    }
    assert graph.nodes[0].key == APPLICATION
    got = {name: (e.kind, e.count, e.retries, e.failed, e.died) for name, e in named(flow).items()}
    assert got == {
        " > orders": ("publish", 9, 0, 0, 0),
        "orders > orders/billing": ("receive", 12, 3, 6, 3),
        "orders > orders/shipping": ("receive", 9, 0, 0, 0),
        "orders > orders/unused": ("receive", 0, 0, 0, 0),
        "orders/billing > audit": ("publish", 6, 0, 0, 0),
        "orders/billing > orders.billing.dead": ("dead", 3, 0, 0, 0),
        "audit > audit/keeper": ("receive", 6, 0, 0, 0),
    }


async def test_what_is_counted_piece_by_piece_is_the_same_as_all_at_once() -> None:
    log, backend = observed()
    flow, layout = Flow(log), Layout()
    before: dict[Any, Any] = {}

    def look() -> None:
        flow.update()
        draw(flow.graph(), layout)
        assert before.items() <= layout.nodes.items()  # what has a place keeps it
        before.update(layout.nodes)

    await shop(log, backend, look)
    assert named(flow) == edges(log)
    whole, at_once = Flow(log), Layout()
    whole.update()
    draw(whole.graph(), at_once)
    assert layout.nodes == at_once.nodes


async def test_a_saved_log_shows_the_same_flow(tmp_path: Path) -> None:
    log, backend = observed()
    await shop(log, backend)
    log.save(tmp_path / "flow.parquet")
    assert edges(mv.MessageLog.load(tmp_path / "flow.parquet")) == edges(log)


async def test_the_receiver_that_had_the_message_at_that_time_published_it() -> None:
    log, backend = observed()
    results, gate = backend.topic("results"), asyncio.Event()

    async def quick(message: mv.Message) -> None:
        await results.publish(b"quick")

    async def slow(message: mv.Message) -> None:
        await gate.wait()
        await results.publish(b"slow")
        await results.publish(b"slow")

    flow = Flow(log)
    async with (
        backend.server("orders", subscription="quick").running(quick),
        backend.server("orders", subscription="slow").running(slow),
        backend.server("results", subscription="sink").running(accept),
    ):
        await backend.topic("orders").publish(b"")
        await until(lambda: "slow" in {p.subscription for p in log.places.all if p.in_flight})
        await until(lambda: len(log) == 4)  # orders, quick, its result, sink
        flow.update()
        assert named(flow, live=True)["orders > orders/slow"].in_flight == 1
        gate.set()
        await log.settled(5)
    # While the quick one published, the slow one had its message too, or not yet.
    assert counts(log)["orders/quick > results"][1] == 1
    assert counts(log)["orders/slow > results"][0] == 2
    flow.update()
    assert named(flow) == edges(log)


async def test_where_several_receivers_come_into_question_it_says_so() -> None:
    log, backend = observed()
    results = backend.topic("results")
    doors = {name: Gate() for name in ("one", "two")}

    def receiver(name: str) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            await doors[name](message)
            if name == "one":
                await results.publish(b"")

        return receive

    async def one_message(*, together: bool) -> None:
        await backend.topic("orders").publish(b"")
        for door in doors.values():
            await asyncio.wait_for(door.begun.wait(), 5)
        if not together:
            doors["two"].orders.put_nowait(None)
            await until(lambda: not any(p.in_flight for p in log.places.all if p.subscription == "two"))
        doors["one"].orders.put_nowait(None)
        await until(lambda: not any(p.in_flight for p in log.places.all if p.subscription == "one"))
        if together:
            doors["two"].orders.put_nowait(None)
        await log.settled(5)

    async with (
        backend.server("orders", subscription="one").running(receiver("one")),
        backend.server("orders", subscription="two").running(receiver("two")),
        backend.server("results").running(accept),
    ):
        await one_message(together=True)
        await one_message(together=True)
        assert counts(log)["orders/one > results"] == counts(log)["orders/two > results"] == (0, 2)
        picture = kept(FlowGraph(log)).to_svg()
        assert "up to 2" in words(elements(picture)["orders/two → results"])
        await one_message(together=False)
        assert counts(log)["orders/one > results"] == (1, 3)
        assert counts(log)["orders/two > results"] == (0, 2)
        assert "1 to 3" in words(elements(kept(FlowGraph(log)).to_svg())["orders/one → results"])


async def test_what_a_task_publishes_after_its_receive_has_ended() -> None:
    log, backend = observed()
    tasks = []

    async def later() -> None:
        await until(lambda: log.count_states()["ok"] == 1)
        await backend.topic("results").publish(b"")

    async def leave(message: mv.Message) -> None:
        tasks.append(asyncio.create_task(later()))

    async with (
        backend.server("orders", subscription="a").running(leave),
        backend.server("results").running(accept),
    ):
        await backend.topic("orders").publish(b"")
        await until(lambda: tasks)
        await tasks[0]
        await log.settled(5)
    assert counts(log)["orders/a > results"] == (1, 1)


async def test_a_cycle_is_drawn_below_and_a_replay_is_the_applications() -> None:
    log, backend = observed()

    async def again(message: mv.Message) -> None:
        if message.body == b"again":
            await backend.topic("t").publish(b"")

    async with backend.server("t", subscription="s").running(again):
        await backend.topic("t").publish(b"again")
        await log.settled(5)
        await log.replay(list(log.messages.index[1:]))
        await log.settled(5)
    assert counts(log) == {" > t": (2, 2), "t > t/s": (3, 3), "t/s > t": (1, 1)}
    flow, layout = Flow(log), Layout()
    flow.update()
    draw(flow.graph(), layout)
    assert [[k[-1] for k in pair] for pair in layout.lanes] == [["s", "t"]]


async def test_a_message_of_another_process_and_a_receiver_called_directly() -> None:
    log, backend = observed()
    await mv.observe(accept, log)(mv.Message(b""))
    await backend.topic("t").publish(b"", attributes={"Msgviz-Id": "a.b.c"})
    async with backend.server("t").running(accept):
        await mv.connect("memory://").topic("t").publish(b"")
        await backend.next.topic("t").publish(b"", attributes={"Msgviz-Id": "a.b.c"})
        await until(lambda: "receive" in set(log.events["operation"].iloc[1:]))
    assert counts(log)[" > None/None"] == (1, 1)
    assert counts(log)[" > t"] == (1, 1)


async def test_what_died_without_becoming_a_dead_letter() -> None:
    log, backend = observed()

    async def cancel(message: mv.Message) -> None:
        raise asyncio.CancelledError

    async with (
        backend.server("t", subscription="dropped", max_attempts=1).running(accept),
        backend.server("t", subscription="cancelled", max_attempts=1).running(cancel),
        backend.server("u", subscription="endless", max_attempts=None, backoff=0).running(refuse),
    ):
        await backend.topic("u").publish(b"")
        with log.breakpoint("subscription == 'dropped'") as point:
            await backend.topic("t").publish(b"")
            (await asyncio.wait_for(point.next(), 5)).drop()
        await until(lambda: edges(log)["u > u/endless"].retries > 2)
        await until(lambda: edges(log)["t > t/cancelled"].count)
    found = edges(log)
    assert (found["t > t/dropped"].died, found["t > t/cancelled"].died) == (1, 1)
    assert (found["u > u/endless"].died, "u/endless > u.endless.dead" in found) == (0, False)
    assert "t/dropped > t.dropped.dead" not in found
    assert found["t/cancelled > t.cancelled.dead"].count == 1


def test_a_rate_is_that_of_the_last_seconds() -> None:
    tally, second = Tally(), 1_000_000_000
    now = 1000 * second
    tally.add(Batch(20, 0, {(now - n * second) // (second // 2): 5 for n in range(4)}, 0))
    assert [tally.rate(now + n * second) for n in (0, 2, 3, 4, 9)] == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert tally.count == 20


async def test_events_that_were_dropped_are_told() -> None:
    log, backend = observed(max_events=50)
    for _ in range(90):
        await backend.topic("t").publish(b"")
    picture = kept(FlowGraph(log)).to_svg()
    assert f"{log.dropped} older events are not counted" in picture
    assert edges(log)[" > t"].count == len(log)


async def test_too_many_topics_are_counted_and_not_drawn() -> None:
    log, backend = observed()
    for number in range(200):
        await backend.topic(f"t{number}").publish(b"")
    picture = kept(FlowGraph(log)).to_svg()
    assert "and 121 more topics and subscriptions, not drawn" in picture
    assert len([name for name in elements(picture) if name.startswith("application →")]) == 79


@settings(max_examples=30)
@given(
    topics=st.lists(NAMES, min_size=1, max_size=4),
    subscription=NAMES,
)
def test_any_names_make_a_sound_picture(topics: list[str], subscription: str) -> None:
    log, backend = observed()

    async def flow() -> str:
        for topic in topics:
            async with backend.server(topic, subscription=subscription).running(accept):
                await backend.topic(topic).publish(b"")
                await log.settled(5)
        widget = FlowGraph(log)
        widget.close()
        return widget.to_svg()

    picture = asyncio.run(flow())
    picture.encode("utf-8")
    root = ElementTree.fromstring(picture)
    tags = {e.tag.removeprefix("{http://www.w3.org/2000/svg}") for e in root.iter()}
    assert tags <= {"svg", "title", "g", "rect", "text", "path"}
    assert sum("data-name" in e.attrib for e in root.iter()) >= 3
    assert edges(log) == edges(log)


async def test_long_and_wide_names_are_cut_and_whole_in_the_title(tmp_path: Path) -> None:
    log, backend = observed()
    for name in ("long" * 50, "長い" * 50, HOSTILE):
        await backend.topic(name).publish(b"")
    widget = kept(FlowGraph(log))
    widget.save(tmp_path / "flow.svg")
    assert (tmp_path / "flow.svg").read_text("utf-8") == widget.to_svg()
    found = elements(widget.to_svg())
    for name, letters in (("long" * 50, 23), ("長い" * 50, 12)):
        (shown,) = [text for text in words(found[name]) if text.endswith("…")]
        assert len(shown) <= letters
        assert any(e.text == f"topic {name}" for e in found[name].iter())
    assert "<script" not in widget.to_svg()
    assert "<script" not in widget._repr_html_()
    assert any(name.startswith("<script>alert(1)") for name in found)


async def test_an_empty_flow_says_what_to_do() -> None:
    log, _ = observed()
    widget = kept(FlowGraph(log))
    assert "mv.observe(backend, log)" in widget._repr_html_()
    assert await Page(widget).ask("show") == ""
    assert elements(widget.to_svg()) == {}
