"""What the ChainView tells the browser of a message's way through its chain."""

from __future__ import annotations

import asyncio
import base64 as b64
from collections.abc import AsyncIterator
from typing import Any

import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4

pytest.importorskip("anywidget")

from tests.flows import Backwards, Gate, accept, refuse, until
from tests.pages import Page, Refused
from tests.test_html import HOSTILE
from tests.test_html import page as harmless

CHAIN = (lz4, base64)
BODY = b"hello" * 100

log: mv.MessageLog
backend: mv.Backend
made: list[mv.ChainView] = []


@pytest.fixture(autouse=True)
async def _flow() -> AsyncIterator[None]:
    start()
    yield
    while made:
        made.pop().close()
    await backend.close()


def start(**limits: Any) -> None:
    global log, backend  # noqa: PLW0603
    log = mv.MessageLog(**limits)
    backend = mv.observe(mv.connect("memory://"), log, layers=True)


def view(*args: Any) -> tuple[mv.ChainView, Page]:
    widget = mv.ChainView(log, *args)
    made.append(widget)
    return widget, Page(widget)


async def publish(
    receiver: Any = accept, body: bytes = BODY, out: Any = CHAIN, back: Any = CHAIN, **attributes: str
) -> str:
    """Publish through this chain, wait until it has ended; gives the id."""
    topic = f"t{len(log.topics)}"
    backend.server(topic, decorators=back, max_attempts=2, backoff=0).start(receiver)
    await backend.topic(topic, decorators=out).publish(body, attributes=attributes)
    await log.settled(5)
    return str(log.messages.index[-1])


def walked(told: dict[str, Any], direction: str, *names: str) -> list[tuple[Any, ...]]:
    """These fields of the steps of the newest way of that direction."""
    way = [way for way in told["ways"] if way["direction"] == direction][-1]
    return [tuple(step[name] for name in names) for step in told["steps"][str(way["number"])]]


async def test_it_tells_the_way_out_and_the_way_in() -> None:
    message_id = await publish(A="1")
    _, page = view(message_id)
    told = await page.ask("show")
    assert (told["message_id"], told["state"], told["topic"], told["held"]) == (message_id, "ok", "t0", None)
    assert [(w["direction"], w["outcome"], w["problem"], w["arrived"]) for w in told["ways"]] == [
        ("out", "ok", None, None),
        ("in", "ok", None, True),
    ]
    assert all(way["unreached"] == [] for way in told["ways"])
    out = walked(told, "out", "layer", "depth", "before", "after", "end", "problem")
    back = walked(told, "in", "layer", "depth", "before", "after", "end", "problem")
    assert [(layer, depth, end) for layer, depth, _, _, end, _ in out] == [
        ("lz4", 1, False), ("base64", 2, False), ("memory t0", 3, True),
    ]  # fmt: skip
    assert [(layer, depth, end) for layer, depth, _, _, end, _ in back] == [
        ("base64", 2, False), ("lz4", 1, False), ("accept", 0, True),
    ]  # fmt: skip
    assert out[0][2] == 500 == back[-1][2]
    assert [step[3] for step in out[:-1]] == [step[2] for step in back[-2::-1]]
    assert {step[-1] for step in (*out, *back)} == {None}
    assert walked(told, "out", "attributes")[0] == (
        [{"how": "added", "key": "Content-Encoding", "after": ["lz4"]}],
    )
    assert all(seconds > 0 for (seconds,) in walked(told, "in", "seconds"))


async def test_every_attempt_is_a_way_and_the_steps_of_older_ones_are_asked_for() -> None:
    message_id = await publish(refuse)
    _, page = view(message_id)
    told = await page.ask("show")
    ins = [way for way in told["ways"] if way["direction"] == "in"]
    assert [(w["attempt"], w["outcome"], w["problem"]) for w in ins] == [
        (1, "error", "refuse"),
        (2, "error", "refuse"),
    ]
    assert str(ins[0]["number"]) not in told["steps"]
    steps = await page.ask("way", number=ins[0]["number"])
    assert [(step["layer"], step["problem"] is not None) for step in steps] == [
        ("base64", False),
        ("lz4", False),
        ("refuse", True),
    ]
    assert "raised ValueError: not hello" in steps[-1]["problem"]
    assert "raised further on" in steps[0]["notes"][0]


async def test_a_wrong_order_names_the_layer_and_those_that_were_not_reached() -> None:
    message_id = await publish(back=(base64, lz4))
    _, page = view(message_id)
    told = await page.ask("show")
    assert told["ways"][-1]["problem"] == "lz4"
    assert told["ways"][-1]["unreached"] == [
        {"depth": 1, "layer": "base64"},
        {"depth": 0, "layer": "accept"},
    ]
    (problem,) = [problem for (problem,) in walked(told, "in", "problem") if problem]
    assert "on the way out base64 stood in its place" in problem


async def test_what_was_not_undone_is_the_cause_and_what_it_leads_to_is_not() -> None:
    class Spoiled(mv.ReceiverDecorator):
        layer = "spoiled"

        async def __call__(self, message: mv.Message) -> None:
            await self.receive(message.with_body(b"no lz4"))

    class spoils:  # noqa: N801
        encoder, decoder = base64.encoder, Spoiled

    message_id = await publish(out=(lz4, spoils), back=(lz4, spoils))
    _, page = view(message_id)
    told = await page.ask("show")
    assert told["ways"][-1]["problem"] == "spoiled"
    problems = walked(told, "in", "layer", "problem")
    assert "did not undo what base64 did" in problems[0][1]
    assert problems[1][1].startswith("raised msgviz.errors.DecodeError")
    recent = await page.ask("recent")
    assert recent["items"][0]["problem"] == "spoiled"


async def test_other_bytes_than_went_out_are_told() -> None:
    topic = mv.observe(Backwards.encoder(wire := Wire()), log, layers=True)
    await topic.publish(b"abc")
    sent = wire.sent[0]
    receiver = mv.observe(Backwards.decoder(accept), log, layers=True)
    await receiver(sent)
    spoiled = sent.with_body(b"other")
    await receiver(spoiled)
    _, page = view(log.messages.index[0])
    assert [way["arrived"] for way in (await page.ask("show"))["ways"]] == [None, True, False]


class Wire(mv.Topic):
    name = "wire"

    def __init__(self) -> None:
        self.sent: list[mv.Message] = []

    async def send(self, message: mv.Message, delay: float) -> None:
        self.sent.append(message)


async def test_bodies_come_in_pieces_when_they_are_asked_for() -> None:
    body = bytes(range(256)) * 2000
    message_id = await publish(body=body, out=(Backwards,), back=(Backwards,))
    _, page = view(message_id)
    told = await page.ask("show")
    out, back = (way["number"] for way in told["ways"])

    async def read(**step: Any) -> bytes:
        joined = b""
        while True:
            piece = await page.ask("body", at=len(joined), **step)
            joined += b64.b64decode(piece["base64"])
            if len(joined) == piece["size"]:
                return joined

    assert await read(number=out, path="0", side="before") == body
    assert await read(number=out, path="0", side="after") == body[::-1]
    assert await read(number=back, path="0.0", side="before") == body
    assert await page.ask("body", number=back, path="0.0", side="after", at=0) is None
    for wrong in ({"number": out, "path": "0.7"}, {"number": 77, "path": "0"}):
        with pytest.raises(Refused):
            await page.ask("body", side="before", at=0, **wrong)


async def test_it_follows_a_message_through_its_layers() -> None:
    gate = Gate()
    server = backend.server("t", decorators=CHAIN, max_attempts=3, backoff=0)
    widget, page = view()
    await page.show()
    await backend.topic("t", decorators=CHAIN).publish(BODY)
    widget.message_id = message_id = log.messages.index[0]
    told = await page_until(page, lambda told: "ways" in told)
    assert (told["state"], len(told["ways"])) == ("pending", 1)
    server.start(gate)
    told = await page_until(
        page, lambda told: len(told["ways"]) == 2 and len(walked(told, "in", "path")) == 3
    )
    assert told["ways"][-1]["outcome"] == "running"
    assert walked(told, "in", "seconds", "notes") == [
        (None, ["The message is further on."]),
        (None, ["The message is further on."]),
        (None, ["The message is here now."]),
    ]
    await gate.orders.put(ValueError("no"))
    told = await page_until(page, lambda told: len(told["ways"]) == 3)
    assert told["ways"][1]["outcome"] == "error"
    await gate.orders.put(None)
    told = await page_until(page, lambda told: told["state"] == "ok" and told["ways"][2]["outcome"] == "ok")
    await publish()
    await asyncio.sleep(0.2)
    while not page.told.empty():  # of others only that there are more
        assert (await page.told.get())["op"] == "begun"
    assert widget.message_id == message_id


async def page_until(page: Page, condition: Any) -> Any:
    async with asyncio.timeout(10):
        while True:
            told = await page.told.get()
            if told["op"] == "walk" and condition(told["value"]):
                return told["value"]


async def test_breakpoints_show_in_words() -> None:
    backend.server("t", decorators=CHAIN).start(accept)
    topic = backend.topic("t", decorators=CHAIN)
    widget, page = view()
    await page.show()
    with log.breakpoint(side="publish", layer="base64") as bp:
        publishing = asyncio.create_task(topic.publish(BODY))
        held = await bp.next()
        widget.message_id = held.message_id
        told = await page_until(page, lambda told: told.get("held"))
        assert told["held"] == "Held at a breakpoint on its way out, in front of base64."
        assert (told["state"], walked(told, "out", "layer", "outcome")) == (None, [("lz4", "running")])
        held.resume(held.message.with_body(b"edited"))
        await publishing
        await until(lambda: len(log.ledger) == 2)
        told = await page.ask("show")
        assert told["held"] is None
        notes = walked(told, "out", "notes")[0][0]
        assert notes[0].startswith("Held for ")
        assert "edited the message at a breakpoint behind lz4" in notes[1]

        publishing = asyncio.create_task(topic.publish(BODY))
        held = await bp.next()
        held.drop()
        await publishing
    widget.message_id = held.message_id
    told = await page.ask("show")
    assert walked(told, "out", "outcome", "problem") == [("dropped", None)]
    assert "A person dropped the message" in walked(told, "out", "notes")[0][0][0]


async def test_layers_that_hand_on_more_or_less_than_once_say_so() -> None:
    class Twice(mv.TopicDecorator):
        layer = "twice"

        async def send(self, message: mv.Message, delay: float) -> None:
            for _ in range(2):
                await self.next.send(message.with_body(message.body), delay)

    class Never(mv.ReceiverDecorator):
        layer = "never"

        async def __call__(self, message: mv.Message) -> None:
            pass

    class pair:  # noqa: N801
        encoder, decoder = Twice, Never

    backend.server("t", decorators=(pair, lz4)).start(accept)
    await backend.topic("t", decorators=(pair, lz4)).publish(BODY)
    ways = log.ledger.passages
    await until(
        lambda: [way.first is not None and way.first.ended is not None for way in ways()] == [True] * 3
    )
    _, page = view(log.messages.index[0])
    told = await page.ask("show")
    assert walked(told, "out", "path", "layer", "passes") == [
        ("0", "twice", 2),
        ("0.0", "lz4", 1),
        ("0.0.0", "memory t", 0),
        ("0.1", "lz4", 1),
        ("0.1.0", "memory t", 0),
    ]
    assert "2 times" in walked(told, "out", "notes")[0][0][0]
    assert walked(told, "in", "layer", "notes")[-1] == (
        "never",
        ["Handed nothing on: the message ended here, or went on later."],
    )
    assert told["ways"][-1]["unreached"] == [{"depth": 0, "layer": "accept"}]


async def test_attributes_that_came_went_or_changed_stand_with_their_values_cut() -> None:
    class Change(mv.TopicDecorator):
        layer = "change"

        async def send(self, message: mv.Message, delay: float) -> None:
            changed = message.with_body(message.body)
            changed.attributes["A"] = "x" * 5000
            changed.attributes.set_all("Many", [str(n) for n in range(30)])
            del changed.attributes["B"]
            for n in range(60):
                changed.attributes[f"Z{n}"] = "1"
            await self.next.send(changed, delay)

    class change:  # noqa: N801
        encoder = Change

    message_id = await publish(out=(change,), back=(), A="1", B="2")
    _, page = view(message_id)
    told = await page.ask("show")
    ((lines, more),) = walked(told, "out", "attributes", "more")[:1]
    assert len(lines) + more == 63
    changed, removed, added = lines[:3]
    assert (changed["how"], changed["key"], changed["before"]) == ("changed", "A", ["1"])
    assert changed["after"] == ["x" * 999 + "…"]
    assert removed == {"how": "removed", "key": "B", "before": ["2"]}
    assert added["how"] == "added"
    assert added["after"][-1] == "… and 20 more"


async def test_the_newest_messages_come_first_and_are_found_by_id() -> None:
    _, page = view()
    assert await page.ask("recent") == {"items": [], "more": False, "begun": 0}
    assert await page.ask("show") == {"message_id": None, "any": False}
    first = await publish(refuse)
    await publish()
    backend.server("many", concurrency=8).start(accept)
    for number in range(60):
        await backend.topic("many").publish(b"%d" % number)
    await log.settled(5)
    recent = await page.ask("recent")
    ids = [item["id"] for item in recent["items"]]
    assert ids == list(log.messages.index[:-51:-1])
    assert recent["more"]
    assert all(item["problem"] is None and item["state"] == "ok" for item in recent["items"])
    found = await page.ask("recent", search=f" {first.upper()} ")
    assert [item["id"] for item in found["items"] if item["id"] == first] == [first]
    item = found["items"][-1]
    assert (item["id"], item["state"], item["problem"], item["size"]) == (first, "dead", "refuse", 500)
    assert (await page.ask("recent", search="nobody"))["items"] == []


async def test_a_message_without_layers_says_why() -> None:
    plain = mv.observe(mv.connect("memory://").topic("plain"), log)
    await plain.publish(b"x")
    widget, page = view(log.messages.index[0])
    told = await page.ask("show")
    assert (told["state"], "ways" in told) == ("pending", False)
    assert "were not observed" in told["missing"]
    assert "layers=True" in told["missing"]
    assert "dropped" not in told["missing"]
    assert "were not observed" in widget._repr_html_()
    widget.message_id = "nobody <b>"
    assert (await page.ask("show"))["missing"] == "The log has no message nobody <b>."
    assert "nobody &lt;b&gt;" in widget._repr_html_()


async def test_what_was_dropped_is_said_to_be() -> None:
    await backend.close()
    start(max_bytes=50_000)
    backend.server("t", decorators=[Backwards]).start(accept)
    topic = backend.topic("t", decorators=[Backwards])
    await topic.publish(b"first")
    await log.settled(5)
    message_id = log.messages.index[0]
    widget, page = view(message_id)
    await page.show()
    told = await page.ask("show")
    numbers = [way["number"] for way in told["ways"]]
    assert numbers == [0, 1]
    for number in range(100):
        await topic.publish(b"%04d" % number * 250)
    await log.settled(5)
    assert log.ledger.dropped > 2
    told = await page_until(page, lambda told: "missing" in told)
    assert "dropped to stay within the log's bounds" in told["missing"]
    with pytest.raises(Refused, match="dropped"):
        await page.ask("body", number=0, path="0", side="before", at=0)
    newest = log.messages.index[-1]
    widget.message_id = newest
    told = await page_until(page, lambda told: told["message_id"] == newest and "ways" in told)
    number = told["ways"][0]["number"]
    assert number == log.ledger.since(number)[0]
    assert log.ledger.since(number)[1][0].message_id == newest
    piece = await page.ask("body", number=number, path="0", side="before", at=0)
    assert b64.b64decode(piece["base64"]) == b"9900" * 250
    assert told["dropped"]
    assert [way["direction"] for way in told["ways"]] == ["in"]  # all were published before any was received


async def test_many_attempts_are_told_from_the_newest_on() -> None:
    server = backend.server("t", max_attempts=230, backoff=0)
    server.start(refuse)
    await backend.topic("t").publish(b"x")
    await log.settled(20)
    _, page = view(log.messages.index[0])
    told = await page.ask("show")
    ins = [way["attempt"] for way in told["ways"] if way["direction"] == "in"]
    assert ins == list(range(31, 231))
    assert told["older"] == 30
    assert [way["direction"] for way in told["ways"]].count("out") == 1


async def test_the_static_form_is_a_table_of_the_steps() -> None:
    widget, _ = view()
    assert "Observe a chain with layers=True" in widget._repr_html_()

    class Evil(mv.TopicDecorator):
        layer = HOSTILE

        async def send(self, message: mv.Message, delay: float) -> None:
            changed = message.with_body(HOSTILE.encode())
            changed.attributes["A"] = HOSTILE
            await self.next.send(changed, delay)

    class evil:  # noqa: N801
        encoder = Evil

    async def fail(message: mv.Message) -> None:
        raise ValueError(HOSTILE)

    message_id = await publish(fail, out=(evil,), back=(), A="1")
    assert "No message is selected" in widget._repr_html_()
    widget.message_id = message_id
    shown = harmless(widget)
    assert shown.tags.count("table") == 3  # the way out and two attempts
    assert f"± changed A: 1 → {HOSTILE}" in shown.text
    assert f"raised ValueError: {HOSTILE}" in shown.text
    assert "500 B → " in shown.text
    assert widget._repr_mimebundle_()[0]["text/html"] == widget._repr_html_()


async def test_it_needs_no_more_than_a_log() -> None:
    with pytest.raises(TypeError):
        mv.ChainView()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nothing"):
        mv.ChainView(log, nothing=1)  # type: ignore[call-arg]
