"""MessageTable, used as a person uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from .lab import Lab, Notebook

SETUP = """
import asyncio
import msgviz as mv

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
orders = backend.topic("orders")
"""
SERVE = """
async def charge(message: mv.Message) -> None:
    if message.json()["amount"] < 0:
        raise ValueError("negative amount")

billing = backend.server("orders", subscription="billing", max_attempts=2)
billing.start(charge)
"""
SHOW = "table = mv.MessageTable(log)\ntable"
FLOW = """
for amount in (12, -1, 7):
    await orders.publish(json={"amount": amount}, attributes={"Source": "web"})
await log.settled()
"""
FILL = """
for number in range(%d):
    await orders.publish(json={"number": number})
"""


def rows(book: Notebook) -> Locator:
    return book.widget("table").get_by_test_id("row")


def test_a_published_message_appears(lab: Lab) -> None:
    book = lab.run([SETUP, SHOW])
    table = book.widget("table")
    expect(table.get_by_test_id("empty")).to_contain_text("No events yet")
    book.execute("await orders.publish(b'hello', attributes={'Source': 'web'})")
    expect(rows(book)).to_have_count(1)
    expect(rows(book)).to_contain_text("publish")
    expect(rows(book)).to_contain_text("orders")
    expect(rows(book)).to_contain_text("hello")
    expect(rows(book)).to_contain_text("5 B")


def test_attempts_and_errors_appear(lab: Lab) -> None:
    book = lab.run([SETUP + SERVE, SHOW, FLOW])
    expect(rows(book)).to_have_count(7)  # three publishes, two received well, one received twice
    failed = rows(book).filter(has_text="ValueError: negative amount")
    expect(failed).to_have_count(2)
    expect(failed.last.locator(".mv-c-attempt")).to_have_text("2")
    expect(failed.last).to_contain_text("orders → billing")
    lab.screenshot(book.widget("table"), "table-light")


def test_facets_say_how_many_and_choose(lab: Lab) -> None:
    book = lab.run([SETUP + SERVE, FLOW, SHOW])
    table = book.widget("table")
    errors = table.get_by_test_id("facet-outcome").locator("[data-value=error]")
    expect(errors).to_have_text("error2")
    errors.click()
    expect(rows(book)).to_have_count(2)
    expect(table.get_by_test_id("summary")).to_contain_text("2 of 7 events")
    expect(table.get_by_test_id("facet-operation").locator("[data-value=receive]")).to_have_text("receive2")
    book.expect("table.facets", {"outcome": ["error"]})
    table.get_by_test_id("clear").click()
    expect(rows(book)).to_have_count(7)


def test_search_looks_into_everything(lab: Lab) -> None:
    book = lab.run([SETUP, SHOW])
    book.execute("""
for word in ("Needle", "é"):
    await orders.publish(json={"deep": [f"a {word} in it"]})
    await orders.publish(b"in an attribute", attributes={"Source": f"the {word}"})
    await backend.topic(f"{word}s").publish(b"in the topic")
""")
    table = book.widget("table")
    for word in ("needle", "NEEDLE", "é"):
        table.get_by_test_id("search").fill("nowhere at all")
        expect(table.get_by_test_id("no-match")).to_contain_text("None of 6 events matches")
        table.get_by_test_id("search").fill(word)
        expect(rows(book)).to_have_count(3)
    table.get_by_test_id("search").fill("nowhere at all")
    table.get_by_test_id("clear-all").click()
    expect(rows(book)).to_have_count(6)


def test_search_finds_ids_and_errors(lab: Lab) -> None:
    book = lab.run([SETUP + SERVE, FLOW, SHOW])
    search = book.widget("table").get_by_test_id("search")
    search.fill("negative")
    expect(rows(book)).to_have_count(2)
    search.fill(book.evaluate("log.messages.query(\"state == 'dead'\").index[0]"))
    expect(rows(book)).to_have_count(3)


def test_a_query_chooses_and_its_mistakes_are_shown_in_place(lab: Lab) -> None:
    book = lab.run([SETUP + SERVE, FLOW, SHOW])
    table = book.widget("table")
    query = table.get_by_test_id("query")
    query.fill("attempt > 1 and topic == 'orders'")
    expect(rows(book)).to_have_count(1)
    query.fill("atempt > 1")
    expect(table.get_by_test_id("query-error")).to_contain_text("name 'atempt' is not defined")
    expect(rows(book)).to_have_count(1)  # as before the mistake
    query.fill("attempt >")
    expect(table.get_by_test_id("query-error")).to_contain_text("Not an expression")
    query.fill("size > 'a'")
    expect(table.get_by_test_id("query-error")).to_contain_text("Invalid comparison")
    query.fill("")
    expect(table.get_by_test_id("query-error")).to_have_count(0)
    expect(rows(book)).to_have_count(7)


def test_selection_reaches_python(lab: Lab) -> None:
    book = lab.run([SETUP, "for n in range(5): await orders.publish(json={'n': n})", SHOW])
    expect(rows(book)).to_have_count(5)
    keys = book.page.keyboard
    selected = "table.selected.index.tolist()"
    focused = "log.events['message_id'].tolist().index(table.message_id)"
    rows(book).nth(1).click()
    expect(rows(book).nth(1)).to_have_attribute("aria-selected", "true")
    book.expect("table.selected['body'].map(bytes.decode).tolist()", ['{"n":1}'])
    book.expect(focused, 1)
    rows(book).nth(3).click(modifiers=["Control"])
    book.expect(selected, [1, 3])
    rows(book).nth(4).click(modifiers=["Shift"])
    book.expect(selected, [3, 4])
    expect(book.widget("table").get_by_test_id("summary")).to_contain_text("2 selected")
    keys.press("ArrowUp")
    keys.press("ArrowUp")
    keys.press("Shift+ArrowUp")
    book.expect(selected, [1, 2])
    book.expect(focused, 1)
    keys.press("Control+a")
    book.expect(selected, [0, 1, 2, 3, 4])
    keys.press("Escape")
    book.expect(selected, [])
    book.expect("table.message_id", None)


@pytest.mark.looks
def test_keys_in_the_table_are_no_commands_of_the_notebook(lab: Lab) -> None:
    book = lab.run([SETUP, "await orders.publish(b'x')", SHOW])
    rows(book).first.click()
    for _ in range(2):
        book.page.keyboard.press("d")  # twice deletes a cell
    book.page.keyboard.press("ArrowUp")
    expect(rows(book)).to_have_count(1)
    expect(book.panel.locator(".jp-Cell")).to_have_count(3)


def test_it_follows_the_newest_until_scrolled_away(lab: Lab) -> None:
    book = lab.run([SETUP, SHOW, FILL % 1000])
    table = book.widget("table")
    expect(rows(book).last).to_contain_text('{"number":999}')
    table.locator(".mv-table-scroll").evaluate("element => { element.scrollTop = 24 * 100 }")
    expect(rows(book).first).to_contain_text('{"number":100}')
    book.execute(FILL % 30)
    expect(table.get_by_test_id("latest")).to_contain_text("30 new events")
    expect(rows(book).first).to_contain_text('{"number":100}')
    table.get_by_test_id("latest").click()
    expect(rows(book).last).to_contain_text('{"number":29}')
    table.get_by_test_id("rows").focus()
    book.page.keyboard.press("Home")
    expect(rows(book).first).to_contain_text('{"number":0}')
    expect(rows(book).first).to_have_attribute("aria-selected", "true")


def test_pausing_holds_the_rows_while_a_thousand_a_second_arrive(lab: Lab) -> None:
    book = lab.run(
        [
            SETUP,
            SHOW,
            """
async def stream():
    number = 0
    while True:
        for _ in range(10):
            await orders.publish(json={"number": number})
            number += 1
        await asyncio.sleep(0.01)
streaming = asyncio.create_task(stream())
""",
        ]
    )
    table = book.widget("table")
    pause = table.get_by_test_id("pause")
    expect(rows(book).nth(3)).to_be_visible()
    pause.click()
    expect(pause).to_contain_text("new)")
    held = rows(book).last.inner_text()
    waiting = pause.inner_text()
    expect(pause).not_to_have_text(waiting)  # they go on arriving
    assert rows(book).last.inner_text() == held
    rows(book).last.click()
    book.expect("len(table.selected)", 1)
    book.execute("streaming.cancel()")
    pause.click()
    expect(pause).to_have_text("Pause")
    last = book.evaluate("bytes(log.events['body'].iloc[-1]).decode()")
    expect(rows(book).last).to_contain_text(last)


def test_what_is_in_a_message_is_text(lab: Lab) -> None:
    hostile = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    book = lab.run(
        [
            SETUP,
            f"""
hostile = {hostile!r}
class Hostile(Exception): pass
Hostile.__name__ = Hostile.__qualname__ = hostile
async def fail(message): raise Hostile(hostile)
topic = backend.topic(hostile)
server = backend.server(hostile, subscription=hostile, max_attempts=1)
server.start(fail)
await topic.publish(hostile.encode(), attributes={{"Source": hostile, hostile: hostile}})
await log.settled()
table = mv.MessageTable(log)
table
""",
        ]
    )
    table = book.widget("table")
    expect(rows(book)).to_have_count(2)
    expect(rows(book).first.locator(".mv-c-body")).to_have_text(hostile)
    expect(rows(book).last.locator(".mv-c-error")).to_contain_text(hostile)
    table.get_by_test_id("query").fill(hostile)
    expect(table.get_by_test_id("query-error")).to_be_visible()
    table.get_by_test_id("search").fill(hostile)
    expect(rows(book)).to_have_count(2)
    assert table.locator("img, script").count() == 0
    assert book.page.evaluate("window.hacked") is None
    static = book.evaluate("table._repr_html_()")
    assert "<script" not in static
    assert "<img" not in static


@pytest.mark.looks
def test_what_python_sets_shows(lab: Lab) -> None:
    book = lab.run([SETUP + SERVE, FLOW, SHOW])
    book.execute("table.query = 'attempt > 1'")
    expect(rows(book)).to_have_count(1)
    book.execute("table.query = ''; table.facets = {'operation': ['publish']}")
    expect(rows(book)).to_have_count(3)
    book.execute("table.facets = {}; table.search = 'negative'")
    expect(book.widget("table").get_by_test_id("search")).to_have_value("negative")
    expect(rows(book)).to_have_count(2)


def test_events_that_the_log_drops_leave_the_table(lab: Lab) -> None:
    book = lab.run([SETUP.replace("MessageLog()", "MessageLog(max_events=200)"), SHOW, FILL % 1000])
    summary = book.widget("table").get_by_test_id("summary")
    kept = book.evaluate("len(log)")
    expect(summary).to_contain_text(f"{kept} events")
    expect(summary).to_contain_text("dropped")
    expect(rows(book).last).to_contain_text('{"number":999}')
    book.widget("table").get_by_test_id("rows").focus()
    book.page.keyboard.press("Home")
    expect(rows(book).first).to_contain_text(book.evaluate("bytes(log.events['body'].iloc[0]).decode()"))


@pytest.mark.looks
def test_it_fits_the_width_it_has(lab: Lab) -> None:
    book = lab.run([SETUP + SERVE, FLOW, SHOW])
    table = book.widget("table")
    expect(rows(book)).to_have_count(7)
    for width in (360, 640, 900):
        lab.width(width)
        expect(table).to_have_js_property("offsetWidth", width)
        assert not table.evaluate("element => element.scrollWidth > element.clientWidth")
        expect(rows(book).last).to_contain_text("error")
        lab.screenshot(table, f"table-{width}-light")
    for width in (360, 900):
        lab.width(width)
        lab.theme("dark")
        lab.screenshot(table, f"table-{width}-dark")
