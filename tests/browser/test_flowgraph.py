"""The FlowGraph in a real notebook: it follows the flow, stands still, and filters a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Locator, expect

if TYPE_CHECKING:
    from tests.browser.lab import Lab, Notebook

SETUP = """
import msgviz as mv
from msgviz.decorators import base64, lz4

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
"""
FLOW = """
chain = (lz4, base64)
orders, invoices = backend.topic("orders", decorators=chain), backend.topic("invoices")
parcels = backend.topic("parcels")

async def charge(message):
    if message.json()["amount"] < 0:
        raise ValueError("negative amount")
    await invoices.publish(json={"amount": message.json()["amount"]})

async def ship(message):
    pass

async def send(message):
    pass

billing = backend.server("orders", subscription="billing", max_attempts=3, backoff=0, decorators=chain)
shipping = backend.server("orders", subscription="shipping", decorators=chain)
mailer = backend.server("invoices", subscription="mailer")
billing.start(charge), shipping.start(ship), mailer.start(send)
"""
MESSAGES = """
for amount in (12, -1, 7):
    await orders.publish(json={"amount": amount})
await log.settled()
"""
SHOW = "graph = mv.FlowGraph(log)\ngraph"
WITH_TABLE = "table = mv.MessageTable(log)\ngraph = mv.FlowGraph(log, table=table)\ngraph"


def part(graph: Locator, name: str) -> Locator:
    """A node or an edge of the picture."""
    return graph.locator(f'g[data-name="{name}"]')


def text(graph: Locator, name: str) -> Locator:
    return part(graph, name).locator("text")


def test_it_says_what_to_do_first_and_then_follows(lab: Lab) -> None:
    book = lab.run([SETUP, FLOW, SHOW])
    graph = book.widget("flowgraph")
    expect(graph.get_by_test_id("empty")).to_contain_text("mv.observe(backend, log)")
    expect(graph.get_by_test_id("download")).to_have_count(0)
    lab.screenshot(graph, "flowgraph-empty")
    book.execute(MESSAGES)
    expect(graph.get_by_test_id("empty")).to_have_count(0)
    expect(text(graph, "application → orders").first).to_have_text(re.compile(r"^3 · 0\.6/s$"))
    expect(text(graph, "orders → orders/billing")).to_have_text(
        [re.compile(r"^5 · 1\.0/s$"), "3 failed · 1 died", "2 retries"]
    )
    expect(text(graph, "orders/billing → invoices").first).to_have_text(re.compile("^2 · "))
    expect(text(graph, "orders/billing → orders.billing.dead")).to_have_text(["1", "died"])
    expect(text(graph, "orders/billing")).to_have_text(["billing", "base64 → lz4 → charge"])
    lab.screenshot(graph, "flowgraph-live")
    # While nothing happens the rates sink, and the numbers stay.
    expect(text(graph, "application → orders").first).to_have_text("3")
    expect(text(graph, "orders → orders/billing").first).to_have_text("5")


@pytest.mark.looks
def test_nothing_jumps_while_it_grows(lab: Lab) -> None:
    book = lab.run([SETUP, FLOW, MESSAGES, SHOW])
    graph = book.widget("flowgraph")
    expect(part(graph, "invoices/mailer")).to_be_visible()
    part(graph, "orders").focus()
    marked = "els => els.map(e => [e.dataset.name, (e.mark ??= Math.random()), e.getBBox().x, e.getBBox().y])"
    nodes = graph.locator('g[data-key="nodes"] > g')
    before = nodes.evaluate_all(marked)
    edge = part(graph, "application → orders").evaluate("e => (e.mark ??= Math.random())")
    book.execute("""
again = backend.topic("a new one")
async def send(message):
    await again.publish(b"")
    if message.json()["amount"] > 50:
        await orders.publish(json={"amount": 1}, attributes={"Loop": "yes"})
mailer.start(send)
for amount in (60, 61): await orders.publish(json={"amount": amount})
""")
    expect(part(graph, "invoices/mailer → orders")).to_be_attached()
    expect(text(graph, "application → orders").first).to_have_text(re.compile("^5"))
    # The same elements, at the same places, and the focus stays.
    assert [x for x in nodes.evaluate_all(marked) if x[0] in {n[0] for n in before}] == before
    assert part(graph, "application → orders").evaluate("e => e.mark") == edge
    expect(part(graph, "orders")).to_be_focused()
    lab.screenshot(graph, "flowgraph-cycle")


def test_a_click_filters_the_table_and_a_second_one_clears(lab: Lab) -> None:
    book = lab.run([SETUP, FLOW, MESSAGES, WITH_TABLE, "table"])
    graph, table = book.widget("flowgraph"), book.widget("table")
    summary = table.get_by_test_id("summary")
    expect(summary).to_contain_text("15 events")
    text(graph, "orders → orders/billing").first.click()
    expect(summary).to_contain_text("5 of 15 events")
    expect(part(graph, "orders → orders/billing")).to_have_attribute("aria-pressed", "true")
    expect(graph.get_by_test_id("selected")).to_have_text("orders → orders/billing")
    book.expect("graph.selection", {"topic": "orders", "subscription": "billing", "operation": "receive"})
    lab.screenshot(graph, "flowgraph-selected")
    text(graph, "orders → orders/billing").first.click()
    expect(summary).to_have_text("15 events")
    book.expect("graph.selection", None)

    # With the keyboard: one stop, arrows to go on, Enter to select.
    part(graph, "application").focus()
    lab.page.keyboard.press("ArrowRight")
    expect(part(graph, "application → orders")).to_be_focused()
    lab.page.keyboard.press("Enter")
    expect(summary).to_contain_text("3 of 15 events")
    expect(graph.locator('g[tabindex="0"]')).to_have_count(1)
    lab.screenshot(graph, "flowgraph-focus")
    graph.get_by_test_id("clear").click()
    expect(summary).to_have_text("15 events")
    expect(graph.get_by_test_id("clear")).to_be_disabled()


@pytest.mark.looks
def test_the_picture_is_saved_from_the_browser(lab: Lab, tmp_path: Path) -> None:
    book = lab.run([SETUP, FLOW, MESSAGES, SHOW])
    graph = book.widget("flowgraph")
    expect(part(graph, "orders")).to_be_visible()
    with lab.page.expect_download() as waiting:
        graph.get_by_test_id("download").click()
    assert waiting.value.suggested_filename == "flow.svg"
    waiting.value.save_as(tmp_path / "flow.svg")
    root = ElementTree.parse(tmp_path / "flow.svg").getroot()
    names = {e.get("data-name") for e in root.iter()} - {None}
    assert {"orders", "orders/billing", "orders/billing → invoices"} <= names


@pytest.mark.looks
def test_names_from_messages_stay_text_and_long_ones_are_cut(lab: Lab) -> None:
    name = "<img src=x onerror=document.title='owned'>"
    book = lab.run([SETUP, f"name = {name!r}", SHOW])
    graph = book.widget("flowgraph")
    book.execute("""
async def receive(message): raise ValueError(name)
for topic in (name, "long-" * 40, "長い名前" * 20, "a]]> <![CDATA[ &amp;"):
    backend.server(topic, subscription=name, max_attempts=2, backoff=0).start(receive)
    await backend.topic(topic).publish(b"")
await log.settled()
""")
    expect(graph.locator("g[data-key=nodes] > g")).to_have_count(13)
    expect(graph.locator("img")).to_have_count(0)
    expect(graph.locator("title", has_text=f"topic {name}")).to_have_count(1)
    assert lab.page.title() != "owned"
    for node in graph.locator("g[data-key=nodes] > g").all():
        assert node.evaluate(
            "g => [...g.querySelectorAll('text')].every(t => t.getBBox().width < g.getBBox().width - 8)"
        )
    lab.screenshot(graph, "flowgraph-hostile")


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    """Light and dark, wide and narrow: what has no room scrolls inside, and the page does not grow."""
    book = lab.run([SETUP, FLOW, MESSAGES, WITH_TABLE])
    graph = book.widget("flowgraph")
    expect(part(graph, "orders")).to_be_visible()
    graph.get_by_test_id("legend-toggle").click()
    expect(graph.get_by_test_id("legend")).to_contain_text("used up their attempts")
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 360):
            lab.width(width)
            assert graph.evaluate("e => e.scrollWidth <= e.clientWidth")
            lab.screenshot(graph, f"flowgraph-{theme}-{width or 'wide'}")
    graph.get_by_test_id("legend-toggle").click()
    expect(graph.get_by_test_id("legend")).to_have_count(0)
    picture = graph.get_by_test_id("picture")
    assert picture.evaluate("e => e.scrollWidth > e.clientWidth")


@pytest.mark.looks
def test_without_a_kernel(lab: Lab) -> None:
    book: Notebook = lab.run(
        [SETUP, FLOW, MESSAGES, "from IPython.display import HTML\nHTML(mv.FlowGraph(log)._repr_html_())"]
    )
    picture = book.output.locator(".msgviz svg")
    expect(picture.locator('g[data-name="orders → orders/billing"] text').first).to_have_text("5")
    lab.screenshot(picture, "flowgraph-static")
