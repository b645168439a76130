"""The Timeline in a real notebook: it is chosen, follows without jumping, and selects a message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Locator, expect

if TYPE_CHECKING:
    from tests.browser.lab import Lab

SETUP = """
import asyncio
import msgviz as mv

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
orders, invoices = backend.topic("orders"), backend.topic("invoices")
gate = asyncio.Event()
good = False

async def charge(message):
    if message.text == "wait":
        await gate.wait()
    elif not good:
        raise ValueError("negative amount")
    await invoices.publish(message.body)
    await asyncio.sleep(0.005)

async def accept(message):
    await asyncio.sleep(0.001)

billing = backend.server("orders", subscription="billing", max_attempts=2, backoff=0)
billing.start(charge)
backend.server("orders", subscription="shipping").start(accept)
backend.server("invoices", subscription="mailer").start(accept)
"""
SHOW = "timeline = mv.Timeline(log)\ntimeline"
FAILED = """
await orders.publish(b"12")
await log.settled()
good = True
await log.replay()
await log.settled()
failed = log.messages.index[0]
"""


def step(timeline: Locator, name: str) -> Locator:
    """An arrow, with the box at its end."""
    return timeline.locator(f'g[data-name="{name}"]')


def test_a_conversation_is_chosen_and_its_messages_are_inspected(lab: Lab) -> None:
    book = lab.run(
        [
            SETUP,
            "inspector = mv.Inspector(log)\ntimeline = mv.Timeline(log, inspector=inspector)\ntimeline",
            "inspector",
        ]
    )
    timeline = book.widget("timeline")
    expect(timeline.get_by_test_id("empty")).to_contain_text("mv.observe(backend, log)")
    lab.screenshot(timeline, "timeline-empty")
    book.execute(FAILED)
    book.execute("await orders.publish(b'later')\nawait log.settled()")
    found = timeline.get_by_test_id("conversation")
    expect(found).to_have_count(2)
    expect(found.nth(0)).not_to_contain_text("failed")
    expect(found.nth(1)).to_contain_text("2 failed")
    lab.screenshot(timeline, "timeline-picker")
    found.nth(1).click()
    expect(step(timeline, "#1 received by billing, attempt 2").locator("text")).to_have_text(
        ["#1 retry, attempt 2", "✕ dead: ValueError"]
    )
    expect(step(timeline, "#2 published to orders by application").locator("text")).to_have_text(
        "#2 replay of #1"
    )
    expect(timeline.locator('g[data-of="1"][aria-pressed="true"]')).to_have_count(4)
    expect(timeline.locator('g[aria-pressed="true"]')).to_have_count(4)

    # By a click, and with the keyboard: one stop, arrows to go on, Enter to select.
    replayed = "log.messages.index[log.messages['conversation_id'].eq(failed)].tolist()"
    step(timeline, "#2 published to orders by application").locator("text").click()
    book.expect("timeline.message_id", book.evaluate(f"{replayed}[1]"))
    book.expect("inspector.message_id", book.evaluate(f"{replayed}[1]"))
    expect(timeline.locator('g[data-of="2"][aria-pressed="true"]')).to_have_count(2)
    step(timeline, "#1 published to orders by application").focus()
    lab.page.keyboard.press("ArrowDown")
    lab.page.keyboard.press("Enter")
    book.expect("inspector.message_id", book.evaluate("failed"))
    expect(timeline.locator('g[tabindex="0"]')).to_have_count(1)
    expect(step(timeline, "#1 received by billing")).to_be_focused()
    lab.screenshot(timeline, "timeline-selected")


@pytest.mark.looks
def test_it_follows_and_nothing_jumps(lab: Lab) -> None:
    book = lab.run([SETUP, SHOW])
    timeline = book.widget("timeline")
    book.execute("await orders.publish(b'wait')\nawait asyncio.sleep(0.01)")
    book.execute("timeline.message_id = log.messages.index[0]")
    expect(step(timeline, "#1 received by billing").locator("text").last).to_have_text("in flight")
    marked = (
        "els => els.map(e => [e.dataset.name, (e.mark ??= Math.random()), "
        "e.querySelector('path').getBBox().y, e.querySelector('text').getBBox().x])"
    )
    steps = timeline.locator('g[data-key="steps"] > g')
    expect(steps).to_have_count(3)
    before = steps.evaluate_all(marked)
    step(timeline, "#1 received by billing").focus()
    lab.screenshot(timeline, "timeline-in-flight")
    book.execute("gate.set()\nawait log.settled()")
    expect(steps).to_have_count(5)
    expect(step(timeline, "#2 published to invoices by billing")).to_be_visible()
    expect(step(timeline, "#1 received by billing").locator("text").last).not_to_have_text("in flight")
    assert steps.evaluate_all(marked)[:3] == before
    expect(step(timeline, "#1 received by billing")).to_be_focused()


def test_the_waterfall_and_the_picture_as_a_file(lab: Lab, tmp_path: Path) -> None:
    book = lab.run([SETUP, FAILED, "timeline = mv.Timeline(log, failed)\ntimeline"])
    timeline = book.widget("timeline")
    expect(step(timeline, "#1 received by shipping")).to_be_visible()
    with lab.page.expect_download() as waiting:
        timeline.get_by_test_id("download").click()
    assert waiting.value.suggested_filename == "conversation.svg"
    waiting.value.save_as(tmp_path / "conversation.svg")
    names = {e.get("data-name") for e in ElementTree.parse(tmp_path / "conversation.svg").getroot().iter()}
    assert {"#1 published to orders by application", "#1 received by shipping"} <= names
    timeline.get_by_test_id("waterfall").click()
    expect(timeline.locator("svg g[data-name]")).to_have_count(book.evaluate("len(log.lineage(failed))"))
    book.expect("timeline.waterfall", True)
    timeline.locator("svg g[data-name]").nth(1).locator("text").first.click()
    book.expect("timeline.message_id", book.evaluate("log.lineage(failed).index[1]"))
    expect(timeline.locator('g[aria-pressed="true"]')).to_have_count(1)
    lab.screenshot(timeline, "timeline-waterfall")
    timeline.get_by_test_id("waterfall").click()
    expect(step(timeline, "#1 received by shipping")).to_be_visible()
    book.execute("timeline.message_id = 'nothing'")
    expect(timeline.get_by_test_id("missing")).to_have_text("The log has no message nothing.")
    lab.screenshot(timeline, "timeline-missing")


@pytest.mark.looks
def test_names_from_messages_stay_text(lab: Lab) -> None:
    name = "<img src=x onerror=document.title='owned'>"
    book = lab.run([SETUP, f"name = {name!r}", SHOW])
    timeline = book.widget("timeline")
    book.execute("""
async def receive(message): raise type(name, (Exception,), {})(name)
for topic in (name, "long-" * 40, "長い名前" * 20):
    backend.server(topic, subscription=topic, max_attempts=2, backoff=0).start(receive)
await backend.topic(name).publish(b"")
await log.settled()
timeline.message_id = log.messages.index[-1]
for topic in ("long-" * 40, "長い名前" * 20):
    async def on(message, topic=topic): await backend.topic(topic).publish(b"")
    await mv.observe(on, log)(log.message(timeline.message_id))
await log.settled()
""")
    expect(timeline.locator("img")).to_have_count(0)
    expect(timeline.locator("g[data-key=heads] > g title", has_text=name)).not_to_have_count(0)
    assert lab.page.title() != "owned"
    for head in timeline.locator("g[data-key=heads] > g").all():
        assert head.evaluate(
            "g => [...g.querySelectorAll('text')].every(t => t.getBBox().width < g.getBBox().width - 16)"
        )
    lab.screenshot(timeline, "timeline-hostile")


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    """Light and dark, wide and narrow: what has no room scrolls inside, and the heads stay in sight."""
    book = lab.run([SETUP, FAILED, "timeline = mv.Timeline(log, failed)\ntimeline"])
    timeline = book.widget("timeline")
    expect(step(timeline, "#1 received by shipping")).to_be_visible()
    picture = timeline.get_by_test_id("picture")
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 360):
            lab.width(width)
            assert timeline.evaluate("e => e.scrollWidth <= e.clientWidth")
            lab.screenshot(timeline, f"timeline-{theme}-{width or 'wide'}")
    assert picture.evaluate("e => e.scrollWidth > e.clientWidth")
    book.execute("good = False\nfor _ in range(5): await log.replay(failed); await log.settled()")
    expect(step(timeline, "#8 published to orders by application")).to_be_attached()
    picture.evaluate("e => { e.scrollTop = e.scrollHeight }")
    top = picture.evaluate("e => e.getBoundingClientRect().top")
    head = timeline.locator('g[data-key="heads"] rect').first
    expect(head).to_be_in_viewport()
    assert abs(head.evaluate("e => e.getBoundingClientRect().top") - top) < 2
    timeline.get_by_test_id("choose").click()
    expect(timeline.get_by_test_id("conversation")).to_have_count(1)
    lab.screenshot(timeline, "timeline-scrolled")
