"""What objects show on a page without a kernel: it is complete, and nothing in it comes alive."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from tests.flows import Backwards, Kept, accept, observed, refuse

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b style='color:red'>&amp;&lt;"
TAGS = {"div", "span", "strong", "table", "thead", "tbody", "tr", "th", "td", "pre"}
ATTRIBUTES = {"class", "style", "scope", "aria-hidden", "title"}


class Page(HTMLParser):
    """What a browser would make of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.parts: list[str] = []
        source.encode("utf-8")  # a notebook is saved as UTF-8
        self.feed(source)
        self.close()
        self.text = "".join(self.parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


def page(thing: Any) -> Page:
    """What an object shows, once it is known to be harmless."""
    shown = Page(thing._repr_html_())
    assert set(shown.tags) <= TAGS
    assert set(shown.attributes) <= ATTRIBUTES
    assert shown.open == []
    assert shown.attributes["class"] == ["msgviz"]
    for style in shown.attributes["style"]:
        # Its own colours only as a fallback, nothing from elsewhere.
        assert re.fullmatch(r"[\w\s:;,.()#%-]*", style), style
        assert "url" not in style
        for name in re.findall(r"(?<![\w-])color:(?!var)", style):
            raise AssertionError(f"a colour of no theme: {name} in {style}")
    return shown


async def test_a_message_shows_its_attributes_and_its_body():
    shown = page(mv.Message(b'{"amount": 12}', {"Source": ["web", "app"], "Kind": "order"}))
    assert "14 B" in shown.text
    for word in ("Source", "web, app", "Kind", "order", '"amount": 12'):
        assert word in shown.text
    assert "no attributes" in page(mv.Message(b"")).text
    assert "attempt 1" in page(mv.Message(b"")).text


async def test_nothing_in_a_message_comes_alive():
    shown = page(mv.Message(HOSTILE.encode(), {HOSTILE: HOSTILE, "A": [HOSTILE, "\ud800"]}))
    assert shown.text.count(HOSTILE) == 4
    assert "\\ud800" in shown.text


@pytest.mark.parametrize(
    "body", [b"\x00\xff" * 10, "é".encode(), b"x" * 100_000, b"[" * 100_000, b"\x1b[31m"]
)
async def test_any_body_can_be_shown_and_a_long_one_is_cut(body: bytes):
    message = mv.Message(body)
    assert page(message)
    assert len(message._repr_html_()) < 40_000


@settings(max_examples=40)
@given(
    body=st.binary(max_size=40) | st.text(max_size=20).map(lambda t: t.encode("utf-8", "surrogatepass")),
    attributes=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_whatever_is_in_a_message_is_only_text(body: bytes, attributes: dict[str, str]):
    message = mv.Message(body, attributes)
    page(message)
    log = mv.MessageLog()

    async def flow() -> None:
        await mv.observe(Kept("t"), log).publish(body, attributes=attributes)

    asyncio.run(flow())
    page(log)


async def test_an_empty_log_says_what_to_do_first():
    shown = page(mv.MessageLog())
    assert "no events yet" in shown.text
    assert "mv.observe(backend, log)" in shown.text
    assert "table" not in shown.tags


async def test_a_log_shows_its_states_and_its_last_events():
    log, backend = observed()
    async with backend.server("orders", subscription="billing", max_attempts=1).running(refuse):
        await backend.topic("orders").publish(b'{"amount": 12}')
        await log.settled(5)
    shown = page(log)
    assert "2 events" in shown.text
    for word in (
        "dead 1",
        "publish",
        "receive",
        "orders/billing",
        "ValueError",
        '"amount": 12',
        "ok",
        "error",
    ):
        assert word in shown.text.replace("\xa0", " ")
    assert log.messages.index[0] in shown.text
    assert shown.tags.count("tr") == 1 + 2
    assert "dropped" not in shown.text
    assert "●" in shown.text


async def test_a_long_log_shows_its_end_and_says_so():
    log = mv.MessageLog(max_events=50, max_body=5)
    topic = mv.observe(Kept(), log)
    for number in range(60):
        await topic.publish(b"%d" % number)
    await topic.publish(b"too long to keep")
    shown = page(log)
    assert shown.tags.count("tr") == 1 + 10
    assert "the last 10" in shown.text
    assert re.search(r"\d+ older events dropped", shown.text)
    assert "not kept" in shown.text
    assert "59" in shown.text


async def test_nothing_in_a_log_comes_alive():
    class Odd(Exception):
        pass

    Odd.__qualname__ = HOSTILE
    log = mv.MessageLog()
    topic = mv.observe(Kept(HOSTILE, Odd(HOSTILE + "\ud800")), log)
    with pytest.raises(Odd):
        await topic.publish(HOSTILE.encode(), attributes={"A": HOSTILE})
    receiver = mv.observe(accept, log)
    await receiver(mv.Message(HOSTILE.encode(), {"Msgviz-Id": "a.<b>bold</b>.c"}))
    shown = page(log)
    assert shown.text.count("<script>alert(1)</script>") >= 3
    assert "<b>bold</b>" in shown.text


async def test_a_log_shows_a_server_that_has_failed():
    log, backend = observed()

    def backoff(attempt: int) -> float:
        raise ValueError(HOSTILE)

    server = backend.server("t", backoff=backoff)
    server.start(refuse)
    await backend.topic("t").publish(b"x")
    with pytest.raises(mv.MsgvizError):
        await log.settled(5)
    assert f"t/default: ValueError: {HOSTILE}" in page(log).text
    with pytest.raises(ValueError, match="script"):
        await server.shutdown()


async def test_a_log_of_odd_names_and_bodies_can_be_shown():
    log = mv.MessageLog()
    for name in ("\ud800", "a\x00b", "", "é"):
        await mv.observe(Kept(name), log).publish(b"\xff\x00")
    assert page(log)


async def test_a_replay_report_shows_what_became_of_each_and_nothing_in_it_comes_alive():
    log, wire = mv.MessageLog(), Kept("t")
    topic = mv.observe(wire, log)
    for _ in range(3):
        await topic.publish(b"x")
        await mv.observe(accept, log)(wire.sent[-1])
    sent, edited, failed = log.messages.index

    class Picky(mv.TopicDecorator):
        async def send(self, message: mv.Message, delay: float) -> None:
            if message.body == b"fail":
                raise ValueError(HOSTILE)

    bodies = iter([b"send", b"edit", b"fail"])

    def edit(message: mv.Message) -> mv.Message:
        body = next(bodies)
        if body == b"edit":
            raise KeyError(HOSTILE)
        return message.with_body(body)

    report = await log.replay([sent, edited, failed, HOSTILE, "\ud800"], to=Picky(wire), edit=edit)
    assert [entry.status for entry in report] == ["sent", "failed", "failed", "skipped", "skipped"]
    shown = page(report)
    assert "1 sent, 2 skipped, 2 failed" in shown.text
    assert shown.tags.count("tr") == 1 + 5
    assert shown.text.count(HOSTILE) == 2  # the reason of one, the id of another
    assert "KeyError" in shown.text
    assert report[0].replay_id in shown.text


async def test_a_long_report_shows_the_failures_first():
    log, wire = mv.MessageLog(), Kept("t")
    await mv.observe(wire, log).publish(b"x")
    await mv.observe(accept, log)(wire.sent[0])
    [known] = log.messages.index
    report = await log.replay([f"nobody {n}" for n in range(70)] + [known], to=Kept(error=OSError("down")))
    shown = page(report)
    assert shown.tags.count("tr") == 1 + 50
    assert shown.text.index("OSError: down") < shown.text.index("nobody 0")
    assert "21 more" in shown.text
    assert "nothing to replay" in page(await log.replay([])).text
    assert "dry run" in page(await log.replay([known], dry_run=True, to=wire)).text


async def test_a_chain_shows_its_layers_in_order_and_nothing_in_it_comes_alive():
    topic = mv.observe(Backwards.encoder(Kept(HOSTILE)), mv.MessageLog())
    shown = page(mv.chain(topic))
    places = [shown.text.index(word) for word in ("publish", "observe", "backwards", HOSTILE)]
    assert places == sorted(places)
    assert shown.text.count("→") == 3
    assert any("<script>" in title for title in shown.attributes["title"])

    async def receiver(message: mv.Message) -> None:
        """Does nothing."""

    receiver.__qualname__ = HOSTILE
    assert HOSTILE in page(mv.chain(Backwards.decoder(receiver))).text
    assert page(mv.chain(Kept("\ud800")))
