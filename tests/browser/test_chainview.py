"""The ChainView, used in a real notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, expect

if TYPE_CHECKING:
    from tests.browser.lab import Lab, Notebook

SETUP = """
import asyncio
import msgviz as mv
from msgviz.decorators import base64, lz4

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log, layers=True)
chain = (lz4, base64)
orders = backend.topic("orders", decorators=chain)
billing = backend.server("orders", subscription="billing", decorators=chain, max_attempts=3, backoff=0)

async def charge(message):
    if message.json()["amount"] < 0:
        raise ValueError("negative amount")

billing.start(charge)
view = mv.ChainView(log)
"""
PUBLISH = """
attributes = {"Source": "web", "Trace": "abc"}
await orders.publish(json={"amount": -1, "items": ["tea", "milk"] * 40}, attributes=attributes)
await orders.publish(json={"amount": 12, "items": ["tea", "milk"] * 40}, attributes=attributes)
await log.settled(10)
bad, good = log.messages.index
"""


def open_view(lab: Lab, *cells: str) -> tuple[Notebook, Locator]:
    book = lab.run([SETUP, *cells, "view"])
    view = book.widget("chainview")
    expect(view.first).to_be_visible()
    return book, view


def step(view: Locator, side: str, layer: str) -> Locator:
    return view.locator(f'[data-testid=step][data-side={side}][data-layer="{layer}"]')


def bodies(view: Locator, side: str, layer: str) -> Locator:
    return view.locator(f'[data-testid=bodies][data-side={side}][data-layer="{layer}"]')


def test_a_message_is_chosen_among_those_whose_layers_were_observed(lab: Lab) -> None:
    book, view = open_view(lab)
    expect(view.get_by_test_id("empty")).to_contain_text("Observe a chain with layers=True")
    lab.screenshot(view, "chainview-empty")
    book.execute(PUBLISH)
    items = view.get_by_test_id("recent-message")
    expect(items).to_have_count(2)
    bad, good = book.evaluate("[bad, good]")
    expect(items.first).to_have_attribute("data-message-id", good)  # the newest first
    expect(items.first.get_by_test_id("recent-problem")).to_be_empty()
    expect(items.last).to_contain_text("dead")
    expect(items.last.get_by_test_id("recent-problem")).to_have_text("✕ problem in charge")
    lab.screenshot(view, "chainview-picker")

    items.first.focus()
    book.page.keyboard.press("ArrowDown")
    book.page.keyboard.press("Enter")
    expect(view.get_by_test_id("message")).to_have_attribute("data-message-id", bad)
    assert book.evaluate("view.message_id") == bad
    expect(view.get_by_test_id("picker")).to_have_count(0)

    view.get_by_test_id("choose").click()
    view.get_by_test_id("search").fill(good)
    expect(items).to_have_count(1)
    view.get_by_test_id("search").press("Enter")
    expect(view.get_by_test_id("message")).to_have_attribute("data-message-id", good)
    book.execute("view.message_id = None")
    expect(items).to_have_count(2)
    items.first.hover()  # nothing moves away from under the pointer
    book.execute("await orders.publish(json={'amount': 3})\nawait log.settled(10)")
    expect(view.get_by_test_id("said")).to_contain_text("when the pointer leaves the list")
    expect(items).to_have_count(2)
    book.page.mouse.move(0, 0)
    expect(items).to_have_count(3)
    items.first.focus()  # nor from under the keyboard
    book.execute("await orders.publish(json={'amount': 4})\nawait log.settled(10)")
    view.get_by_test_id("newer").click()
    expect(items).to_have_count(4)

    book.execute("other = mv.observe(mv.connect('memory://').topic('t'), log)\nawait other.publish(b'x')")
    book.execute("view.message_id = log.messages.index[-1]")
    expect(view.get_by_test_id("missing")).to_contain_text("were not observed")
    lab.screenshot(view, "chainview-missing")


def test_each_layer_tells_what_it_did(lab: Lab) -> None:
    _, view = open_view(lab, PUBLISH, "view.message_id = good")
    steps = view.get_by_test_id("step")
    expect(steps).to_have_count(6)
    assert [s.get_attribute("data-layer") for s in steps.all()] == [
        *("lz4", "base64", "memory orders"),
        *("base64", "lz4", "charge"),
    ]
    lz4 = step(view, "out", "lz4")
    expect(lz4.get_by_test_id("sizes")).to_contain_text("543 B → ")
    expect(lz4.get_by_test_id("sizes")).to_contain_text("\N{MULTIPLICATION SIGN}0.1")
    expect(lz4.get_by_test_id("changes").locator("li")).to_have_text("+ added Content-Encoding lz4")
    expect(step(view, "in", "lz4").get_by_test_id("changes").locator("li")).to_have_text(
        "\N{MINUS SIGN} removed Content-Encoding lz4"
    )
    expect(view.get_by_test_id("application")).to_contain_text("published 543 B")
    expect(view.get_by_test_id("delivered")).to_contain_text("the same bytes as went out")
    expect(view.get_by_test_id("step-problem")).to_have_count(0)
    # Side by side: what a layer made of it on the way out, and on the way in.
    for layer in ("lz4", "base64"):
        out, back = step(view, "out", layer).bounding_box(), step(view, "in", layer).bounding_box()
        assert out is not None
        assert back is not None
        assert out["y"] == back["y"]
        assert out["x"] < back["x"]
    lab.screenshot(view, "chainview-good")


def test_bodies_before_and_after_are_asked_for_when_a_step_is_opened(lab: Lab) -> None:
    book, view = open_view(lab, PUBLISH, "view.message_id = good")
    toggle = step(view, "out", "lz4").get_by_test_id("step-toggle")
    toggle.focus()
    book.page.keyboard.press("Enter")
    both = bodies(view, "out", "lz4")
    before, after = both.get_by_test_id("body-before"), both.get_by_test_id("body-after")
    expect(before.get_by_test_id("body")).to_have_attribute("data-form", "json")
    expect(before.get_by_test_id("body")).to_contain_text("amount: 12")
    expect(after.get_by_test_id("body")).to_have_attribute("data-form", "hex")
    expect(after.get_by_test_id("body")).to_contain_text("04 22 4d 18")
    before.get_by_test_id("body-text").click()
    expect(before.get_by_test_id("body")).to_contain_text('{"amount":12')
    step(view, "in", "lz4").get_by_test_id("step-toggle").click()
    expect(bodies(view, "in", "lz4").get_by_test_id("body-after")).to_contain_text("amount: 12")
    lab.screenshot(view, "chainview-bodies")
    step(view, "in", "charge").get_by_test_id("step-toggle").click()
    expect(bodies(view, "in", "charge").get_by_test_id("body")).to_have_count(1)
    toggle.click()
    expect(both).to_have_count(0)

    # A long one comes in pieces.
    book.execute("await orders.publish(json={'amount': 1, 'long': 'x' * 700_000})\nawait log.settled(10)")
    book.execute("view.message_id = log.messages.index[-1]")
    step(view, "in", "lz4").get_by_test_id("step-toggle").click()
    long = bodies(view, "in", "lz4").get_by_test_id("body-after")
    expect(long).to_contain_text("first 197 kB of 700 kB")
    long.get_by_test_id("body-all").click()
    expect(long.get_by_test_id("body-cut")).to_have_count(0)


def test_what_went_wrong_is_marked_in_words(lab: Lab) -> None:
    book, view = open_view(
        lab,
        PUBLISH,
        """
class sloppy:
    class encoder(mv.TopicDecorator):
        layer = "sloppy"
        async def send(self, message, delay):
            changed = message.with_body(message.body + b"!!")
            changed.attributes["Source"] = "changed"
            await self.next.send(changed, delay)

    class decoder(mv.ReceiverDecorator):
        layer = "sloppy"
        async def __call__(self, message):
            await self.receive(message.with_body(message.body[:-1]))

async def accept(message): pass
backend.server("s", decorators=[sloppy]).start(accept)
await backend.topic("s", decorators=[sloppy]).publish(b"abc", attributes={"Source": "web"})
backend.server("wrong", decorators=[base64, lz4], max_attempts=1).start(accept)
await backend.topic("wrong", decorators=[lz4, base64]).publish(b"abc" * 50)
await log.settled(10)
_, _, spoiled, wrong = log.messages.index
""",
        "view.message_id = bad",
    )
    problem = view.get_by_test_id("step-problem")
    expect(problem).to_have_text("✕ charge raised ValueError: negative amount")
    expect(step(view, "in", "charge").get_by_test_id("step-problem")).to_have_count(1)
    expect(step(view, "in", "lz4").get_by_test_id("note")).to_contain_text("raised further on")
    assert problem.evaluate("e => getComputedStyle(e).borderTopStyle") == "solid"
    lab.screenshot(view, "chainview-raised")

    book.execute("view.message_id = spoiled")
    expect(problem).to_contain_text("✕ sloppy did not undo what sloppy did on the way out")
    expect(step(view, "out", "sloppy").get_by_test_id("changes")).to_have_text(
        "± changed Source web → changed"
    )
    lab.screenshot(view, "chainview-not-undone")
    book.execute("view.message_id = wrong")
    expect(problem).to_contain_text("on the way out base64 stood in its place")
    expect(view.get_by_test_id("unreached")).to_have_text(
        ["base64 was not reached", "accept was not reached"]
    )
    lab.screenshot(view, "chainview-wrong-order")


def test_each_attempt_is_a_way_in_and_new_ones_appear(lab: Lab) -> None:
    book, view = open_view(
        lab,
        """
orders_of_the_day = asyncio.Queue()
async def told(message):
    if (error := await orders_of_the_day.get()) is not None:
        raise error
billing.start(told)
await orders.publish(json={"amount": 1})
while not log.ledger.since(0)[1][1:]:
    await asyncio.sleep(0.01)
view.message_id = log.messages.index[-1]
""",
    )
    last = step(view, "in", "told")
    expect(last.get_by_test_id("note")).to_have_text("The message is here now.")
    expect(last).to_have_attribute("data-outcome", "running")
    tabs = view.get_by_test_id("in-tab")
    expect(tabs).to_have_text("attempt 1 running")
    step(view, "in", "lz4").get_by_test_id("step-toggle").click()
    book.execute("orders_of_the_day.put_nowait(ValueError('not yet'))")
    expect(tabs).to_have_text(["attempt 1 error", "attempt 2 running"])
    expect(tabs.last).to_have_attribute("aria-pressed", "true")  # it follows
    expect(bodies(view, "in", "lz4").get_by_test_id("body-after")).to_contain_text("amount: 1")
    tabs.first.click()
    expect(last.get_by_test_id("step-problem")).to_have_text("✕ told raised ValueError: not yet")
    book.execute("orders_of_the_day.put_nowait(None)")
    expect(tabs).to_have_text(["attempt 1 error", "attempt 2 ok"])
    expect(tabs.first).to_have_attribute("aria-pressed", "true")  # a person chose it
    tabs.last.click()
    expect(view.get_by_test_id("step-problem")).to_have_count(0)
    lab.screenshot(view, "chainview-attempts")


@pytest.mark.looks
def test_html_in_a_message_is_shown_as_text(lab: Lab) -> None:
    attack = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    book, view = open_view(
        lab,
        f"attack = '{attack}'\n"
        "class evil:\n"
        "    class encoder(mv.TopicDecorator):\n"
        "        layer = attack\n"
        "        async def send(self, message, delay):\n"
        "            changed = message.with_body(message.body + attack.encode())\n"
        "            changed.attributes.set_all('More', [attack, ''])\n"
        "            changed.attributes[attack] = 'x' + attack\n"
        "            await self.next.send(changed, delay)\n"
        "async def fail(message):\n"
        "    raise type('E' + attack, (Exception,), {})(attack)\n"
        "for name in (attack, 'second' * 20):\n"
        "    options = dict(decorators=[evil], max_attempts=2, backoff=0)\n"
        "    server = backend.server(attack, subscription=name, **options)\n"
        "    server.start(fail)\n"
        "topic = backend.topic(attack, decorators=[evil])\n"
        "await topic.publish(json=[attack], attributes={attack: attack})\n"
        "await log.settled(10)\n"
        "view.message_id = log.messages.index[-1]",
    )
    hostile = view.get_by_test_id("step").first
    expect(hostile).to_contain_text(f"± changed {attack}", ignore_case=True)
    expect(hostile).to_contain_text("+ added More")
    expect(view.get_by_test_id("step-problem")).to_contain_text(f"{attack}: {attack}")
    expect(view.get_by_test_id("in-tab")).to_have_count(4)
    hostile.get_by_test_id("step-toggle").click()
    expect(view.get_by_test_id("body-after").get_by_test_id("body")).to_contain_text(attack)
    view.get_by_test_id("choose").click()
    expect(view.get_by_test_id("recent-message")).to_contain_text(attack)
    expect(view.locator("img, script")).to_have_count(0)
    lab.screenshot(view, "chainview-hostile")
    lab.width(360)
    assert view.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    lab.screenshot(view, "chainview-hostile-360")
    static = book.evaluate("view._repr_html_()")
    assert "<img" not in static
    assert "<script" not in static
    assert lab.page.evaluate("() => window.hacked") is None


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    _, view = open_view(
        lab,
        PUBLISH,
        """
async def fail(message):
    raise RuntimeError("a long story of what went wrong, " * 20)
backend.server("busy", decorators=chain, max_attempts=9, backoff=0).start(fail)
await backend.topic("busy", decorators=[lz4, base64]).publish(b"x" * 100, attributes={"Long": "y" * 3000})
await log.settled(10)
view.message_id = bad
busy = mv.ChainView(log, log.messages.index[-1])
""",
        "busy",
    )
    view, busy = view.last, view.first
    expect(busy.get_by_test_id("in-select")).to_have_value("15")
    busy.get_by_test_id("in-select").select_option(label="attempt 2: error")
    expect(busy.get_by_test_id("step-problem")).to_contain_text("raised RuntimeError: a long story")
    lab.screenshot(busy, "chainview-busy")
    step(view, "out", "lz4").get_by_test_id("step-toggle").click()
    step(view, "in", "charge").get_by_test_id("step-toggle").click()
    view.get_by_test_id("choose").click()
    expect(view.get_by_test_id("body")).to_have_count(3)
    expect(view.get_by_test_id("recent-message")).to_have_count(3)
    lab.page.set_viewport_size({"width": 1400, "height": 2600})
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 360):
            lab.width(width)
            assert view.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
            lab.screenshot(view, f"chainview-{theme}-{width or 'wide'}")
