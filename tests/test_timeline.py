"""The timeline of a conversation: what is in it, where it stands, and what the widget says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv

pytest.importorskip("anywidget")

from msgviz.drawing.timeline import APPLICATION, Conversation, Event, Timeline
from msgviz.drawing.timeline_picture import draw, offset
from tests.flows import BAD, Flow, Gate, accept, observed, refuse, until
from tests.pages import Page, Refused

HOSTILE = "<script>alert(1)</script> & \"'`#@\\ \n  two"
made: list[Any] = []


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    while made:
        made.pop().close()


def kept(widget: Any) -> Any:
    made.append(widget)
    return widget


def of(log: mv.MessageLog, message_id: str | None = None) -> Timeline:
    """The timeline of a conversation, by default of the first."""
    conversation = Conversation(log, log.messages.index[0] if message_id is None else message_id)
    conversation.update()
    return conversation.timeline


def arrows(timeline: Timeline) -> list[str]:
    """The steps in words: from where to where, and in which rows."""
    names = ["app" if key == APPLICATION else "/".join(map(str, key[1:])) for key in timeline.lifelines]
    return [
        f"#{s.message} {names[s.source]} > {names[s.target]} {s.row}-{s.last_row}" for s in timeline.steps
    ]


def groups(picture: str) -> dict[str, ElementTree.Element]:
    """The steps of a picture, by their names."""
    root = ElementTree.fromstring(picture)
    return {e.attrib["data-name"]: e for e in root.iter() if "data-name" in e.attrib}


def words(element: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in element.iter("{http://www.w3.org/2000/svg}text")]


async def test_a_conversation_is_drawn_in_the_order_of_time() -> None:
    log, backend = observed()
    orders, invoices = backend.topic("orders"), backend.topic("invoices")
    let_on = asyncio.Event()

    async def charge(message: mv.Message) -> None:
        await invoices.publish(message.body)
        await let_on.wait()

    async def mail(message: mv.Message) -> None:
        let_on.set()

    async with (
        backend.server("orders", subscription="billing").running(charge),
        backend.server("invoices", subscription="mailer").running(mail),
    ):
        await orders.publish(b"1")
        await log.settled(5)
        await backend.topic("other").publish(b"of another conversation")
    timeline = of(log)
    assert arrows(timeline) == [
        "#1 app > orders 0-0",
        "#1 orders > orders/billing 1-4",
        "#2 orders/billing > invoices 2-2",
        "#2 invoices > invoices/mailer 3-3",
    ]
    assert timeline.rows == sorted(timeline.rows)
    assert timeline.messages == {i: n for n, i in enumerate(log.messages.index[:2], 1)}


async def test_retries_deaths_and_replays_are_marked() -> None:
    log, backend = observed()
    for receiver in (refuse, accept):
        server = backend.server("orders", subscription="billing", max_attempts=2, backoff=0)
        async with server.running(receiver):
            await (backend.topic("orders").publish(b"12") if receiver is refuse else log.replay())
            await log.settled(5)
    drawn = groups(draw(of(log)).to_text())
    assert [words(group) for group in drawn.values()][:5] == [
        ["#1 publish"],
        ["#1", "✕ ValueError"],
        ["#1 retry, attempt 2", "✕ dead: ValueError"],
        ["#2 replay of #1"],
        ["#2", words(drawn["#2 received by billing"])[1]],
    ]
    dashed = [n for n, g in drawn.items() if any("stroke-dasharray" in e.attrib for e in g.iter())]
    assert dashed == ["#1 received by billing, attempt 2"]
    told = drawn["#1 received by billing, attempt 2"].find("{http://www.w3.org/2000/svg}title")
    assert told is not None
    lines = str(told.text).split("\n")
    assert lines[1].startswith("failed after ")
    assert lines[1].endswith(": ValueError: not 12")
    assert lines[2] == "dead: it has used up its attempts"


async def test_what_is_in_flight_is_drawn_and_keeps_its_place_when_it_ends() -> None:
    log, backend = observed()
    gate = Gate()
    async with backend.server("t", subscription="s").running(gate):
        await backend.topic("t").publish(b"1")
        await until(gate.begun.is_set)
        conversation = Conversation(log, log.messages.index[0])
        conversation.update()
        timeline = conversation.timeline
        placed, before = arrows(timeline), list(timeline.rows)
        picture = draw(timeline).to_text()
        gate.orders.put_nowait(None)
        await log.settled(5)
        conversation.update()
    assert placed == arrows(timeline) == ["#1 app > t 0-0", "#1 t > t/s 1-1"]
    assert words(groups(picture)["#1 received by s"]) == ["#1", "in flight"]
    assert timeline.rows == before
    assert timeline.events == len(log.events)
    assert timeline.steps[1].event.outcome == "ok"


async def test_who_published_is_said_to_be_open_where_it_is() -> None:
    log, backend = observed()
    began = [asyncio.Event(), asyncio.Event()]
    done = asyncio.Event()

    async def one(message: mv.Message) -> None:
        began[0].set()
        await began[1].wait()
        await backend.topic("next").publish(b"2")
        done.set()

    async def other(message: mv.Message) -> None:
        began[1].set()
        await done.wait()

    async with (
        backend.server("t", subscription="one").running(one),
        backend.server("t", subscription="other").running(other),
    ):
        await backend.topic("t").publish(b"1")
        await asyncio.wait_for(done.wait(), 5)
        await until(lambda: not log.places.in_flight())
    timeline = of(log)
    step = next(s for s in timeline.steps if s.event.topic == "next")
    assert {timeline.lifelines[n][-1] for n in (step.source, *step.perhaps)} == {"one", "other"}
    assert words([*groups(draw(timeline).to_text()).values()][step.number]) == ["#2 publish ?"]


IDS = st.sampled_from(["a", "b", "c", HOSTILE])
NAMES = st.sampled_from(["t", "u", HOSTILE, "x" * 300, "\ud800\x00"])


@st.composite
def events(draw_: Any) -> Event:
    publish = draw_(st.booleans())
    began = draw_(st.integers(0, 50)) * 10**6
    outcome = draw_(st.sampled_from(["ok", "error", "cancelled"]))
    return Event(
        "publish" if publish else "receive",
        draw_(NAMES if publish else st.none() | NAMES),
        None if publish else draw_(st.none() | NAMES),
        draw_(IDS),
        draw_(st.none() | IDS),
        draw_(st.integers(1, 3)),
        outcome,
        "" if outcome == "ok" else HOSTILE,
        "" if outcome == "ok" else draw_(NAMES),
        began,
        began + draw_(st.integers(0, 20)) * 10**6,
        1,
        draw_(st.none() | IDS),
    )


@settings(max_examples=150)
@given(st.lists(st.lists(events(), max_size=8), max_size=5), st.integers(1, 12), st.data())
def test_each_event_is_there_once_and_what_is_placed_stays(
    batches: list[list[Event]], most: int, data: st.DataObject
) -> None:
    timeline = Timeline(most)
    given_ = 0
    for batch in batches:
        # Some receives are seen before they end.
        for event in batch:
            known = any(s.event.place == event.place and s.event.ended is None for s in timeline.open)
            if event.operation == "receive" and not known and data.draw(st.booleans()):
                timeline.add([], [Event("receive", *event.place[1:], event.message_id, began=event.began)])
        placed = [(s.number, s.source, s.target, s.row, s.message) for s in timeline.steps]
        lifelines, rows = list(timeline.lifelines), list(timeline.rows)
        timeline.add(batch)
        given_ += len(batch)
        assert [(s.number, s.source, s.target, s.row, s.message) for s in timeline.steps][
            : len(placed)
        ] == placed
        assert timeline.lifelines[: len(lifelines)] == lifelines
        assert timeline.rows[: len(rows)] == rows
        ended = [s.event for s in timeline.steps if s.event.ended is not None]
        assert len(set(map(id, ended))) == len(ended)
        assert len(ended) + timeline.hidden == given_ == timeline.events
        assert len(timeline.steps) <= most
        assert not [s for s in timeline.open if s.event.ended is not None]
        assert len(set(timeline.lifelines)) == len(timeline.lifelines)
        for step in timeline.steps:
            assert step.source != step.target
            assert {step.source, step.target} <= set(range(len(timeline.lifelines)))
            assert step.row <= step.last_row < len(timeline.rows)
    root = ElementTree.fromstring(draw(timeline).to_text())
    steps = [e for e in root.iter() if "data-of" in e.attrib]
    assert len(steps) == len({e.attrib["data-key"] for e in steps}) == len(timeline.steps)
    assert {e.tag.rpartition("}")[2] for e in root.iter()} <= {
        "svg", "title", "g", "rect", "line", "path", "text",
    }  # fmt: skip


async def test_of_a_long_conversation_the_first_events_are_drawn() -> None:
    log, backend = observed()
    topic = backend.topic("t")

    async def start(message: mv.Message) -> None:
        for _ in range(20):
            await topic.publish(b"")

    await mv.observe(start, log)(mv.Message(b"first"))
    conversation = Conversation(log, log.messages.index[0], 5)
    conversation.update()
    assert len(conversation.timeline.steps) == 5
    assert conversation.timeline.hidden == len(log.events) - 5 == 16
    assert "and 16 more events, not drawn" in draw(conversation.timeline).to_text()


async def test_who_takes_part_is_told_and_dead_letters_are_known() -> None:
    log, backend = observed()
    async with (
        backend.server("t", subscription="s", max_attempts=1).running(refuse),
        backend.server("t.s.dead", subscription="keeper").running(accept),
    ):
        await backend.topic("t").publish(b"12")
        await until(lambda: "t.s.dead" in set(log.events["topic"]))
    root = ElementTree.fromstring(draw(of(log)).to_text())
    heads = [
        words(e)
        for e in root.iter()
        if e.attrib.get("data-key", "").startswith("l") and "data-kind" in e.attrib
    ]
    assert heads == [
        ["application", "publishes"],
        ["t", "topic"],
        ["s", "receives t"],
        ["t.s.dead", "dead letters"],
        ["keeper", "receives t.s.dead"],
    ]


def test_causes_come_first_though_clocks_disagree() -> None:
    timeline = Timeline()
    publish = Event("publish", "t", None, "a", outcome="ok", began=30, ended=40)
    receive = Event("receive", "t", "s", "a", outcome="ok", began=20, ended=50)
    caused = Event("publish", "u", None, "b", "a", outcome="ok", began=10, ended=11)
    timeline.add([caused, receive, publish])
    assert arrows(timeline) == ["#1 app > t 0-0", "#1 t > t/s 1-3", "#2 t/s > u 2-2"]
    assert timeline.rows == [30, 31, 32, 50]


@pytest.mark.parametrize(
    ("nanoseconds", "said"),
    [
        (0, "0"), (999, "+1 µs"), (12_345_678, "+12.35 ms"), (378_123_456, "+378.1 ms"),
        (2_983_120_000, "+2.9831 s"), (245_120_000_000, "+4:05.120"), (3_725_120_000_000, "+1:02:05.120"),
        (-1_500_000, "-1.50 ms"),
    ],
)  # fmt: skip
def test_offsets_are_fine_enough_to_tell_rows_apart(nanoseconds: int, said: str) -> None:
    assert offset(nanoseconds) == said


# -- the widget ----------------------------------------------------------------------------------------


async def test_conversations_are_offered_and_messages_selected() -> None:
    async with Flow() as flow:
        await flow.publish(b"good", BAD[0])
        widget = kept(mv.Timeline(flow.log, inspector=(inspector := kept(mv.Inspector(flow.log)))))
        page = Page(widget)
        await page.show()
        assert await page.ask("show") == {"message_id": None}
        recent = (await page.ask("recent"))["items"]
        assert [(r["id"], r["state"], r["failed"], r["messages"]) for r in recent] == [
            (flow.id_of(BAD[0]), "dead", 1, 1),
            (flow.id_of(b"good"), "ok", 0, 1),
        ]
        widget.message_id = recent[0]["id"]
        content = await page.until(lambda value: isinstance(value, dict) and "picture" in value)
        assert (content["selected"], content["messages"], content["events"]) == ("1", 1, 2)
        assert inspector.message_id == recent[0]["id"]

        # A replay comes into the picture by itself, and can be selected.
        await flow.replay()
        content = await page.until(lambda value: isinstance(value, dict) and value.get("events") == 4)
        assert "#2 received by default" in groups(content["picture"])
        await page.ask("select", of="2")
        await until(lambda: inspector.message_id == flow.log.messages.index[-1])
        assert widget.message_id == flow.log.messages.index[-1]
        await page.ask("select", of="no such number")
        assert widget.message_id == flow.log.messages.index[-1]
        with pytest.raises(Refused):
            await page.ask("select", nothing=1)


async def test_the_picture_is_kept_in_a_file_and_shown_without_a_kernel(tmp_path: Path) -> None:
    log, backend = observed()
    widget = kept(mv.Timeline(log))
    assert "mv.observe(backend, log)" in widget._repr_html_()
    assert "No conversation is chosen" in widget.to_svg()
    async with backend.server(HOSTILE, subscription=HOSTILE, max_attempts=1).running(refuse):
        await backend.topic(HOSTILE).publish(b"1")
        await log.settled(5)
    assert "<script" not in widget._repr_html_()
    assert log.messages.index[0] in widget._repr_html_()
    widget.message_id = log.messages.index[0]
    picture = widget.to_svg()
    assert picture in widget._repr_html_()
    assert "<script" not in picture
    widget.save(tmp_path / "conversation.svg")
    assert (tmp_path / "conversation.svg").read_text("utf-8") == picture
    widget.waterfall = True
    assert list(groups(widget.to_svg())) == [log.messages.index[0]]
    widget.message_id = "<b>"
    assert "The log has no message &lt;b&gt;." in widget._repr_html_()
    assert "The log has no message &lt;b&gt;." in widget.to_svg()


async def test_a_message_may_be_chosen_before_it_comes() -> None:
    log = mv.MessageLog()
    receive = mv.observe(accept, log)
    widget = kept(mv.Timeline(log, "second"))
    page = Page(widget)
    await page.show()
    assert await page.ask("show") == {"message_id": "second", "missing": "The log has no message second."}
    await receive(mv.Message(b"", {"Msgviz-Id": "talk.first."}))
    await receive(mv.Message(b"", {"Msgviz-Id": "talk.second.first"}))
    content = await page.until(lambda value: isinstance(value, dict) and "picture" in value)
    # The rest of its conversation comes with it.
    assert list(groups(content["picture"])) == ["#1 received by receiver", "#2 received by receiver"]
    assert (content["conversation"], content["selected"]) == ("talk", "2")
    # What is not of the conversation leaves the picture as it is.
    await receive(mv.Message(b"", {"Msgviz-Id": "other.third."}))
    assert await page.ask("show") == content
    assert widget.to_svg() == content["picture"]


async def test_wrong_arguments_are_refused() -> None:
    log = mv.MessageLog()
    inspector = kept(mv.Inspector(mv.MessageLog()))
    with pytest.raises(ValueError, match="another log"):
        mv.Timeline(log, inspector=inspector)
    with pytest.raises(TypeError, match="Inspector"):
        mv.Timeline(log, inspector=log)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        mv.Timeline(log, colour="red")  # type: ignore[call-arg]


async def test_of_a_long_conversation_the_live_picture_stays_while_more_comes() -> None:
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://"), log)
    steps = backend.topic("steps")

    async def follow(message: mv.Message) -> None:
        if message.json() > 0:
            await steps.publish(json=message.json() - 1)

    backend.server("steps", subscription="worker").start(follow)
    await steps.publish(json=8)
    await log.settled()
    first = log.events["message_id"].iloc[0]
    conversation = Conversation(log, first, most=5)
    conversation.update()
    live = draw(conversation.timeline, live=True).to_text()
    counted = draw(conversation.timeline).to_text()
    assert "only the first 5 events are drawn" in live
    changes, hidden = conversation.timeline.changes, conversation.timeline.hidden
    await log.replay([first])
    await log.settled()
    conversation.update()
    assert conversation.timeline.hidden > hidden
    assert conversation.timeline.changes == changes
    assert draw(conversation.timeline, live=True).to_text() == live
    assert draw(conversation.timeline).to_text() != counted
    await backend.close()
