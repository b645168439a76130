"""The Dashboard in a real JupyterLab: its parts work together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Lab, Notebook

FLOW = """
import msgviz as mv

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
orders = backend.topic("orders")
billing = backend.server("orders", subscription="billing", max_attempts=2, backoff=0)

async def charge(message):
    if message.json()["amount"] < 0:
        raise ValueError("negative amount")

billing.start(charge)
"""

MESSAGES = """
await orders.publish(json={"amount": 12}, attributes={"Source": "web"})
await orders.publish(json={"amount": -1}, attributes={"Source": "web"})
await log.settled()
"""

SHOW = "dashboard = mv.Dashboard(log, backend)\ndashboard"


def frame(book: Notebook) -> Locator:
    return book.output.locator(".mv-dashboard-frame")


@pytest.mark.looks
def test_empty(lab: Lab) -> None:
    book = lab.run([FLOW, SHOW])
    expect(book.widget("dashboard").get_by_test_id("messages")).to_have_text("0 messages")
    expect(book.widget("replayer").get_by_test_id("empty")).to_be_visible()
    lab.screenshot(frame(book), "dashboard-empty")


def test_look_edit_and_publish_a_copy(lab: Lab) -> None:
    book = lab.run([FLOW, MESSAGES, SHOW])
    table, inspector, publisher = (book.widget(name) for name in ("table", "inspector", "publisher"))
    header = book.widget("dashboard")
    expect(header.get_by_test_id("count-dead")).to_have_text("dead1")
    expect(header.get_by_test_id("count-ok")).to_have_text("ok1")

    table.get_by_role("row").filter(has_text='{"amount":-1}').first.click()
    failed = book.evaluate("log.messages.query('state == \"dead\"').index[0]")
    expect(inspector).to_contain_text(failed)
    assert book.evaluate("dashboard.inspector.message_id") == failed

    inspector.get_by_test_id("copy").click()
    body = publisher.get_by_test_id("text")
    expect(body).to_have_value(re.compile("-1"))
    body.fill('{"amount": 77}')
    publisher.get_by_test_id("publish").click()
    expect(header.get_by_test_id("count-ok")).to_have_text("ok2")
    expect(table.get_by_role("row").filter(has_text='"amount": 77')).not_to_have_count(0)
    assert book.evaluate("log.message(log.messages.index[-1]).attributes['Source']") == "web"
    expect(inspector).to_contain_text(
        book.evaluate("log.messages.index[-1]")
    )  # it follows what was published


def test_replay(lab: Lab) -> None:
    book = lab.run([FLOW, MESSAGES, SHOW])
    book.execute("async def charge(message): pass\nbilling.start(charge)")
    replayer = book.widget("replayer")
    replayer.get_by_test_id("group-select").click()
    replayer.get_by_test_id("replay").click()
    expect(book.widget("dashboard").get_by_test_id("count-resolved")).to_have_text("resolved1")
    expect(book.widget("dashboard").get_by_test_id("count-dead")).to_have_count(0)


def test_new_topics_and_a_server_that_ended(lab: Lab) -> None:
    book = lab.run([FLOW, SHOW])
    publisher = book.widget("publisher")
    book.execute("backend.topic('returns')")
    expect(publisher.locator("option", has_text="returns")).to_have_count(1)
    book.execute("log.note_server_failure(billing.source, OSError('<b>gone</b>'))")
    ended = book.widget("dashboard").get_by_test_id("ended")
    expect(ended).to_contain_text("The server of orders/billing has ended: OSError: <b>gone</b>.")


@pytest.mark.looks
def test_dropped_events(lab: Lab) -> None:
    flow = FLOW.replace("MessageLog()", "MessageLog(max_events=80)")
    book = lab.run(
        [flow, "for i in range(90): await orders.publish(json={'amount': i})\nawait log.settled()", SHOW]
    )
    dropped = book.evaluate("log.dropped")
    assert dropped > 0
    expect(book.widget("dashboard").get_by_test_id("dropped")).to_have_text(f"{dropped} older events dropped")


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    """Wide and narrow, light and dark: nothing may be wider than the page."""
    book = lab.run([FLOW, MESSAGES, SHOW])
    book.widget("table").get_by_role("row").filter(has_text='{"amount":-1}').first.click()
    expect(book.widget("inspector")).to_contain_text("negative amount")
    lab.page.set_viewport_size({"width": 1400, "height": 2200})
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 400):
            lab.width(width)
            assert frame(book).evaluate("e => e.scrollWidth <= e.clientWidth")
            lab.screenshot(frame(book), f"dashboard-{theme}-{width or 'wide'}")


def test_closing_closes_the_parts(lab: Lab) -> None:
    book = lab.run([FLOW, MESSAGES, SHOW])
    expect(book.widget("table")).to_be_visible()
    book.execute("dashboard.close()")
    for name in ("dashboard", "publisher", "table", "inspector", "replayer"):
        expect(book.widget(name)).to_have_count(0)
    assert book.evaluate("dashboard.table.bridge.closed") is True
