"""What the Interceptor tells the browser of what is held, and what it does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import msgviz as mv
from msgviz.decorators import base64, lz4

pytest.importorskip("anywidget")

from tests.flows import until
from tests.pages import Page, Refused
from tests.queues import Taking

CHAIN = (lz4, base64)
EVIL = "<script>alert(1)</script>"


class Bench:
    """Topic t of an observed backend, its server, and an Interceptor with a view."""

    def __init__(self) -> None:
        self.log = mv.MessageLog()
        self.backend = mv.observe(mv.connect("memory://"), self.log, layers=True)
        self.topic = self.backend.topic("t", decorators=CHAIN)
        self.taking = Taking()
        self.server = self.backend.server("t", decorators=CHAIN, concurrency=4, backoff=0)
        self.server.start(self.taking)
        self.widget = mv.Interceptor(self.log)
        self.page = Page(self.widget)
        self.publishing: list[asyncio.Task[None]] = []

    async def set(self, condition: str = "", **options: Any) -> Any:
        wish = {"side": "publish", "layer": None, "timeout": 60, **options}
        return await self.page.ask("set", condition=condition, **wish)

    async def hold(self, *bodies: bytes, **attributes: str) -> list[int]:
        """Publish these, and give the numbers under which they are held then."""
        for body in bodies:
            self.publishing.append(asyncio.create_task(self.topic.publish(body, attributes=attributes)))
        await until(lambda: len(self.log.stops.held) >= len(bodies))
        return [held.number for held in self.log.stops.held]

    async def act(self, number: int, action: str, **more: Any) -> Any:
        return await self.page.ask("act", number=number, action=action, **more)

    async def published(self) -> list[Any]:
        """How the publishes ended: None, or the error."""
        return await asyncio.wait_for(asyncio.gather(*self.publishing, return_exceptions=True), 10)

    async def state(self) -> Any:
        return await self.page.ask("state")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.widget.close()
    await bench.backend.close()


async def test_a_breakpoint_is_set_listed_and_removed(bench: Bench) -> None:
    elsewhere = bench.log.breakpoint("size > 3", side="receive", layer="lz4", timeout=5)
    told = await bench.set(" topic == 't' ", side=None)
    number = told["number"]
    assert bench.widget.breakpoints == [bench.log.stops.breakpoints[1]]
    first, second = (await bench.state())["breakpoints"]
    assert (first["condition"], first["side"], first["layer"], first["timeout"], first["own"]) == (
        "size > 3", "receive", "lz4", 5, False,
    )  # fmt: skip
    assert (second["number"], second["condition"], second["side"], second["own"]) == (
        number, "topic == 't'", None, True,
    )  # fmt: skip
    await bench.page.ask("remove", number=number)
    await bench.page.ask("remove", number=number)
    assert bench.log.stops.breakpoints == (elsewhere,)
    assert bench.widget.breakpoints == []


async def test_the_layers_are_offered_with_their_sides(bench: Bench) -> None:
    await bench.topic.publish(b"x")
    await bench.log.settled(5)
    layers = {layer["name"]: sorted(layer["sides"]) for layer in (await bench.state())["layers"]}
    assert layers["lz4"] == layers["base64"] == ["publish", "receive"]
    assert layers["memory t"] == ["publish"]
    for name, sides in layers.items():
        for side in sides:
            assert "number" in await bench.set(layer=name, side=side)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("topik == 't'", "There is no topik. Did you mean topic? There are operation, topic,"),
        ("topic == orders", "There is no orders. A text has quotes around it: 'orders'."),
        ("x" * 5000, f"There is no {'x' * 39}…."),
        ("topic = 't'", "Compare with ==, not with =."),
        ("topic == 'a' && size > 3", "Write and, not &&."),
        ("topic == 'a' || size > 3", "Write or, not ||."),
        ("text.contains('x')", "write text.str.contains(…)"),
        ("attributes.Source == 'web'", "Write attributes.str['Source'] for the first value"),
        ("attributes['Source'] == 'web'", "Write attributes.str['Source'] for the first value"),
        ("size > '3'", "A number and a text cannot be compared"),
        ("text == 'a' or 'b'", "Each side of and, or is a whole comparison"),
        ("size > 100 or", "something is missing"),
        ("size", "not true or false for a message"),
        ("(topic == 't'", "not closed"),
        ("import os", "not"),
    ],
)
async def test_what_is_wrong_with_a_condition_is_said_at_its_field(
    bench: Bench, condition: str, words: str
) -> None:
    told = await bench.set(condition)
    assert told["field"] == "condition"
    assert words in told["problem"]
    assert len(told["problem"]) < 400
    assert not bench.log.stops


@pytest.mark.parametrize("condition", ["text == 'a = b'", "size >= 3", 'text == "it\'s && = that"', "", "  "])
async def test_what_only_looks_wrong_is_set(bench: Bench, condition: str) -> None:
    assert "number" in await bench.set(condition)


async def test_a_wrong_layer_or_time_is_said_at_its_field(bench: Bench) -> None:
    assert (await bench.set(layer="gzip"))["field"] == "layer"
    assert (await bench.set(timeout=0))["field"] == "timeout"


async def test_it_tells_all_of_a_held_message(bench: Bench) -> None:
    await bench.set()
    (number,) = await bench.hold(b'{"a": 1}', Source="web")
    (row,) = (await bench.state())["held"]
    assert (row["number"], row["side"], row["topic"], row["subscription"], row["layer"]) == (
        number, "publish", "t", None, "lz4",
    )  # fmt: skip
    assert row["preview"] == '{"a": 1}'
    assert 0 < row["left"] <= row["timeout"] == 60
    detail = await bench.page.ask("detail", number=number)
    assert (detail["text"], detail["attributes"], detail["next"]) == (
        '{"a": 1}',
        {"Source": ["web"]},
        "base64",
    )
    assert await bench.page.ask("detail", number=999) is None
    await bench.act(number, "continue")
    assert await bench.page.ask("detail", number=number) is None
    assert await bench.published() == [None]


async def test_continue_edited_and_as_it_was(bench: Bench) -> None:
    await bench.set()
    first, second = await bench.hold(b"one", b"two", A="1")
    edit = {"body": {"text": "1"}, "attributes": {"b": ["2", "3"]}}
    assert await bench.act(first, "continue", edit=edit) == {"next": None}
    await bench.act(second, "continue")
    assert await bench.published() == [None, None]
    await bench.log.settled(5)
    edited, same = bench.taking.messages
    assert (edited.body, edited.attributes.get_all("B"), "A" in edited.attributes) == (
        b"1",
        ["2", "3"],
        False,
    )
    assert (same.body, same.attributes["A"]) == (b"two", "1")
    assert [past["ended"] for past in (await bench.state())["lately"]] == ["resumed", "edited"]


async def test_an_edit_that_makes_no_sense_leaves_the_message_held_as_it_was(bench: Bench) -> None:
    await bench.set()
    (number,) = await bench.hold(b"x", A="1")
    with pytest.raises(Refused, match="no hex"):
        await bench.act(number, "continue", edit={"body": {"hex": "0"}, "attributes": {}})
    with pytest.raises(Refused, match="no action"):
        await bench.act(number, "explode")
    (held,) = bench.log.stops.held
    assert (held.message.body, held.message.attributes["A"]) == (b"x", "1")
    await bench.act(number, "continue")


async def test_drop_and_fail(bench: Bench) -> None:
    await bench.set()
    first, second = await bench.hold(b"one", b"two")
    await bench.act(first, "drop")
    await bench.act(second, "fail", error="by hand")
    none, error = await bench.published()
    assert none is None
    assert (type(error), str(error)) == (RuntimeError, "by hand")
    assert bench.taking.bodies == []


async def test_steps_give_the_number_of_the_next_stop(bench: Bench) -> None:
    await bench.set(side="receive", layer="base64")
    (number,) = await bench.hold(b"hello")
    seen = []
    while number is not None:
        detail = await bench.page.ask("detail", number=number)
        seen.append((detail["layer"], detail["next"], "hex" in detail))
        number = (await bench.act(number, "step"))["next"]
    assert [(layer, after) for layer, after, _ in seen] == [
        ("base64", "lz4"), ("lz4", "Taking"), ("Taking", None),
    ]  # fmt: skip
    assert [is_binary for *_, is_binary in seen] == [False, True, False]
    await bench.log.settled(5)
    assert bench.taking.bodies == [b"hello"]


async def test_a_step_into_a_layer_that_fails_does_not_wait_for_ever(bench: Bench) -> None:
    await bench.set(side="receive", layer="base64")
    (number,) = await bench.hold(b"hello")
    assert await bench.act(number, "step", edit={"body": {"text": "no base64 at all!"}}) == {"next": None}
    bench.log.stops.release()


async def test_what_has_gone_on_is_told(bench: Bench) -> None:
    await bench.set(timeout=0.05)
    (number,) = await bench.hold(b"x")
    await bench.published()
    assert await bench.act(number, "drop") == {"gone": "timed out"}
    assert await bench.act(12345, "drop") == {"gone": None}
    (past,) = (await bench.state())["lately"]
    assert (past["number"], past["ended"]) == (number, "timed out")
    assert past["lasted"] >= 0.04


async def test_a_long_body_comes_in_pieces_and_keeps_itself(bench: Bench) -> None:
    await bench.set()
    (number,) = await bench.hold(b"y" * 300_000)
    detail = await bench.page.ask("detail", number=number)
    assert "text" not in detail
    assert detail["locked"]
    assert detail["body"]["size"] == 300_000
    rest = await bench.page.ask("body", number=number, at=299_997)
    assert rest["base64"] == "eXl5"
    await bench.act(number, "continue", edit={"attributes": {"A": ["1"]}})
    await bench.published()
    await bench.log.settled(5)
    assert bench.taking.bodies == [b"y" * 300_000]
    with pytest.raises(Refused, match="not held any more"):
        await bench.page.ask("body", number=number, at=0)


async def test_all_go_on_at_once_and_in_the_order_they_are_shown(bench: Bench) -> None:
    await bench.set()
    numbers = await bench.hold(*(b"%d" % number for number in range(250)))
    state = await bench.state()
    assert [row["number"] for row in state["held"]] == numbers[:200]
    assert state["numbers"] == numbers
    bench.widget.newest_first = True
    assert [row["number"] for row in (await bench.state())["held"]] == numbers[:49:-1]
    await bench.page.ask("continue_all")
    assert await bench.published() == [None] * 250
    assert (await bench.state())["held"] == []


async def test_the_browser_is_told_of_what_is_held_and_goes_on(bench: Bench) -> None:
    await bench.page.show()
    bench.log.breakpoint("attributes.str['N'].astype('int') > 3", side="publish")
    await bench.topic.publish(b"x", attributes={"N": "four"})
    state = await bench.page.until(lambda state: state["breakpoints"] and state["breakpoints"][0]["error"])
    assert "four" in state["breakpoints"][0]["error"]
    await bench.hold(b"x", N="4")
    await bench.page.until(lambda state: state["held"] and state["breakpoints"][0]["hits"] == 1)
    bench.log.stops.release()
    await bench.page.until(lambda state: not state["held"] and state["lately"])


async def test_closing_it_takes_its_own_breakpoints_away(bench: Bench) -> None:
    elsewhere = bench.log.breakpoint("text == 'other'", side="publish")
    await bench.set("text == 'own'")
    await bench.hold(b"own", b"other")
    bench.widget.close()
    bench.widget.close()
    assert bench.log.stops.breakpoints == (elsewhere,)
    await until(lambda: len(bench.log.stops.held) == 1)
    assert [held.breakpoint for held in bench.log.stops.held] == [elsewhere]


async def test_shutting_down_lets_go_what_it_shows(bench: Bench) -> None:
    await bench.set(side="receive")
    (number,) = await bench.hold(b"x")
    await asyncio.wait_for(bench.server.shutdown(), 5)
    assert bench.taking.bodies == [b"x"]
    assert await bench.act(number, "drop") == {"gone": "released"}


async def test_lone_surrogates_do_not_keep_a_message_from_being_shown(bench: Bench) -> None:
    await bench.set()
    (number,) = await bench.hold(b"x", A="\ud800")
    detail = await bench.page.ask("detail", number=number)
    assert detail["attributes"] == {"A": ["\\ud800"]}
    await bench.act(number, "continue", edit={"body": {"text": "y"}})
    await bench.published()
    await bench.log.settled(5)
    assert bench.taking.messages[0].attributes["A"] == "\ud800"


async def test_without_a_kernel(bench: Bench) -> None:
    assert "Set a breakpoint" in bench.widget._repr_html_()
    bench.log.breakpoint(f"text != '{EVIL}'", side="publish")
    await bench.hold(EVIL.encode() + b"!", A=EVIL)
    page = bench.widget._repr_html_()
    assert "1 message held" in page.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "&lt;script&gt;alert(1)" in page
    assert EVIL not in page
    assert bench.widget._repr_mimebundle_()[0]["text/html"] == page


def test_what_it_is_made_from() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        mv.Interceptor(mv.MessageLog(), height=3)  # type: ignore[call-arg]
    assert "Set a breakpoint" in mv.Interceptor(mv.MessageLog())._repr_html_()  # no loop runs here
