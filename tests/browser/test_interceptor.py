"""The Interceptor in a real JupyterLab: hold live messages, edit them, let them go on or not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Lab, Notebook

FLOW = """
import asyncio, json
import msgviz as mv
from msgviz.decorators import base64, lz4

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log, layers=True)
chain = (lz4, base64)
orders = backend.topic("orders", decorators=chain)
billing = backend.server("orders", subscription="billing", decorators=chain, concurrency=9, backoff=0)
got, results = [], []

async def charge(message):
    attributes = {k: v for k, v in message.attributes.items() if k != "Msgviz-Id"}
    got.append((message.body.decode("utf-8", "replace"), attributes))

billing.start(charge)

async def buy(body, **attributes):
    try:
        await orders.publish(body, attributes=attributes)
        results.append("ok")
    except Exception as error:
        results.append(repr(error))

def start(body, **attributes):
    return asyncio.get_running_loop().create_task(buy(body, **attributes))
"""

SHOW = "interceptor = mv.Interceptor(log)\ninterceptor"


def open_interceptor(lab: Lab, *cells: str) -> tuple[Notebook, Locator]:
    book = lab.run([FLOW, *cells, SHOW])
    interceptor = book.widget("interceptor")
    expect(interceptor.get_by_test_id("condition")).to_be_visible()
    return book, interceptor


def set_breakpoint(interceptor: Locator, condition: str = "", side: str = "publish", layer: str = "") -> None:
    interceptor.get_by_test_id("condition").fill(condition)
    interceptor.get_by_test_id("side").select_option(side)
    interceptor.get_by_test_id("layer").select_option(layer)
    interceptor.get_by_test_id("set").click()


def expect_held(interceptor: Locator, *previews: str) -> None:
    held = interceptor.get_by_test_id("held")
    expect(held).to_have_count(len(previews))
    for number, preview in enumerate(previews):
        expect(held.nth(number)).to_contain_text(preview)


def test_hold_edit_and_let_go(lab: Lab) -> None:
    book, interceptor = open_interceptor(lab)
    expect(interceptor.get_by_test_id("empty")).to_contain_text("Set a breakpoint to hold live messages")
    lab.screenshot(interceptor, "interceptor-empty")

    # What is wrong is said where it is wrong, and nothing is set.
    condition = interceptor.get_by_test_id("condition")
    set_breakpoint(interceptor, "topik == 'orders'")
    expect(interceptor.get_by_test_id("condition-error")).to_contain_text(
        "There is no topik. Did you mean topic?"
    )
    lab.screenshot(interceptor, "interceptor-wrong")
    condition.fill("topic == 'orders' and attributes.str['Source'] == 'web'")
    expect(interceptor.get_by_test_id("condition-error")).to_have_count(0)
    condition.press("Enter")
    point = interceptor.get_by_test_id("breakpoint")
    expect(point).to_contain_text(
        "topic == 'orders' and attributes.str['Source'] == 'web' on publish, for 60 s"
    )
    expect(interceptor.get_by_test_id("none-held")).to_be_visible()

    # Others pass; what matches is held, and the kernel goes on with other things.
    book.execute(
        "start(b'other'); start(b'{\"amount\": -1}', Source='web', Tag='a'); start(b'second', Source='web')"
    )
    expect_held(interceptor, '{"amount": -1}', "second")
    book.expect("[body for body, _ in got]", ["other"])
    expect(point.get_by_test_id("hits")).to_have_text("2 hits")
    expect(interceptor.get_by_test_id("detail")).to_contain_text("publish orders, in front of lz4")
    body = interceptor.get_by_test_id("edit-body")
    expect(body).to_have_value('{"amount": -1}')
    expect(interceptor.get_by_test_id("continue-edit")).to_be_disabled()
    lab.screenshot(interceptor, "interceptor-held")
    lab.theme("dark")
    lab.screenshot(interceptor, "interceptor-dark")
    lab.theme("light")

    body.fill('{"amount": 1')
    expect(interceptor.get_by_test_id("not-json")).to_contain_text("Not JSON any more")
    body.fill('{"amount": 1}')
    interceptor.get_by_test_id("attribute-remove").last.click()
    interceptor.get_by_test_id("attribute-add").click()
    interceptor.get_by_test_id("attribute-key").last.fill("mended")
    interceptor.get_by_test_id("attribute-value").last.fill("by hand")
    expect(interceptor.get_by_test_id("held").first).to_contain_text("edited")
    lab.screenshot(interceptor, "interceptor-edited")
    interceptor.get_by_test_id("continue-edit").dblclick()  # once is enough: the next one stays
    expect_held(interceptor, "second")
    expect(body).to_have_value("second")
    expect(interceptor.get_by_test_id("detail")).to_be_focused()
    book.expect("got[1:]", [['{"amount": 1}', {"Source": "web", "Mended": "by hand"}]])
    interceptor.get_by_test_id("continue").click()
    expect_held(interceptor)
    book.expect("got[2:]", [["second", {"Source": "web"}]])
    assert book.evaluate("results") == ["ok"] * 3
    assert book.evaluate("list(log.holds['ended'])") == ["edited", "resumed"]
    expect(interceptor.get_by_test_id("past")).to_have_count(2)
    expect(interceptor.get_by_test_id("past").last).to_contain_text("continued with an edit")
    interceptor.get_by_test_id("remove").click()
    expect(interceptor.get_by_test_id("empty")).to_be_visible()
    assert book.evaluate("len(log.stops.breakpoints)") == 0


def test_drop_fail_and_continue_all(lab: Lab) -> None:
    book, interceptor = open_interceptor(
        lab, "bp = log.breakpoint('size < 100', side='publish', timeout=300)"
    )
    expect(interceptor.get_by_test_id("breakpoint")).to_contain_text("set elsewhere")
    book.execute("for n in range(5): start(b'%d' % n, Number=str(n))")
    expect_held(interceptor, *"01234")
    interceptor.get_by_test_id("newest").click()
    expect_held(interceptor, *"43210")
    interceptor.get_by_test_id("oldest").click()
    expect_held(interceptor, *"01234")

    interceptor.get_by_test_id("drop").click()
    expect_held(interceptor, *"1234")
    book.expect("results", ["ok"])
    fail = interceptor.get_by_test_id("fail")
    fail.click()
    text = interceptor.get_by_test_id("fail-text")
    expect(text).to_be_focused()
    lab.screenshot(interceptor, "interceptor-fail")
    text.press("Escape")
    expect(text).to_have_count(0)
    fail.click()
    text.fill("no <b>money</b>")
    text.press("Enter")
    expect_held(interceptor, *"234")
    book.expect("results[1:]", ["RuntimeError('no <b>money</b>')"])
    expect(text).to_have_count(0)  # the next one is not about to fail

    # By keyboard alone: choose another one, and let it go on.
    interceptor.get_by_test_id("held").first.focus()
    lab.page.keyboard.press("ArrowDown")
    expect(interceptor.get_by_test_id("held").nth(1)).to_have_attribute("aria-current", "true")
    expect(interceptor.get_by_test_id("edit-body")).to_have_value("3")
    interceptor.get_by_test_id("continue").focus()
    lab.page.keyboard.press("Enter")
    expect_held(interceptor, *"24")
    interceptor.get_by_test_id("continue-all").click()
    expect_held(interceptor)
    expect(interceptor.get_by_test_id("detail")).to_have_count(0)
    book.expect("sorted(body for body, _ in got)", ["2", "3", "4"])
    assert book.evaluate("sorted(log.holds['ended'])") == ["dropped", "failed", *["resumed"] * 3]
    expect(interceptor.locator('[data-ended="failed"]')).to_contain_text("failed by hand")

    # What was set elsewhere stays when the widget goes; what was set here goes with it.
    set_breakpoint(interceptor, "", "receive")
    expect(interceptor.get_by_test_id("breakpoint")).to_have_count(2)
    book.execute("bp.remove(); start(b'last')")
    expect_held(interceptor, "last")
    book.execute("bp = log.breakpoint(); interceptor.close()")
    book.expect("[body for body, *_ in got[-1:]]", ["last"])
    assert book.evaluate("log.stops.breakpoints == (bp,)") is True


def test_step_through_the_layers(lab: Lab) -> None:
    book, interceptor = open_interceptor(lab)
    set_breakpoint(interceptor, "", "receive", "base64")
    book.execute("start(b'hello' * 9)")
    at = interceptor.get_by_test_id("in-front-of")
    step = interceptor.get_by_test_id("step")
    expect(at).to_have_text("base64")
    expect(step).to_have_text("Step to lz4")
    lab.screenshot(interceptor, "interceptor-layers")
    step.click()
    expect(at).to_have_text("lz4")
    expect(step).to_have_text("Step to charge")
    body = interceptor.get_by_test_id("edit-body")
    expect(body).to_have_value(
        book.evaluate("log.stops.held[0].message.body.hex(' ')")
    )  # bytes that are no text
    body.fill("00 1")
    expect(interceptor.get_by_test_id("edit-body-error")).to_contain_text("A digit is missing")
    expect(interceptor.get_by_test_id("continue-edit")).to_be_disabled()
    lab.screenshot(interceptor, "interceptor-hex")
    body.fill(book.evaluate("__import__('lz4.frame').frame.compress(b'changed').hex()"))
    expect(step).to_have_text("Step to charge with the edit")
    step.click()
    expect(at).to_have_text("charge")
    expect(body).to_have_value("changed")
    expect(step).to_be_disabled()
    expect(interceptor.get_by_test_id("hits")).to_have_text("1 hit")
    interceptor.get_by_test_id("continue").click()
    book.expect("[body for body, _ in got]", ["changed"])


def test_what_goes_on_by_itself_keeps_the_edit(lab: Lab) -> None:
    book, interceptor = open_interceptor(lab)
    set_breakpoint(interceptor)
    book.execute("start(b'one', Source='web'); start(b'two')")
    expect_held(interceptor, "one", "two")
    body = interceptor.get_by_test_id("edit-body")
    body.fill("one, edited")
    expect(interceptor.get_by_test_id("held").first).to_contain_text("edited")
    book.execute("log.stops.held[0].let_go('timed out')")
    gone = interceptor.get_by_test_id("gone")
    expect(gone).to_contain_text(
        "This message is not held any more: timed out, went on by itself after 60 s. It went without your"
    )
    expect(body).to_have_value("one, edited")
    expect(interceptor.get_by_test_id("continue")).to_have_count(0)  # a click meant for it hits no other
    expect(interceptor.get_by_test_id("gone-line")).to_contain_text("gone on")
    lab.screenshot(interceptor, "interceptor-gone")
    lab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    interceptor.get_by_test_id("copy-body").click()
    expect(gone).to_contain_text("copied")
    assert lab.page.evaluate("() => navigator.clipboard.readText()") == "one, edited"

    # It is still there after a look at another one.
    interceptor.get_by_test_id("held").click()
    expect(body).to_have_value("two")
    interceptor.get_by_test_id("gone-line").click()
    expect(body).to_have_value("one, edited")
    interceptor.get_by_test_id("close").click()
    expect(body).to_have_value("two")
    expect(interceptor.get_by_test_id("gone-line")).to_have_count(0)
    book.execute("log.stops.held[0].drop()")  # in a cell, and nothing was edited
    expect(gone).to_contain_text("This message is not held any more: dropped.")
    interceptor.get_by_test_id("close").click()
    expect(interceptor.get_by_test_id("none-held")).to_be_visible()
    book.expect("[body for body, _ in got]", ["one"])

    # It counts down, and really goes on by itself.
    interceptor.get_by_test_id("timeout").fill("0")
    expect(interceptor.get_by_test_id("set")).to_be_disabled()
    interceptor.get_by_test_id("remove").click()
    interceptor.get_by_test_id("timeout").fill("4")
    interceptor.get_by_test_id("set").click()
    expect(interceptor.get_by_test_id("breakpoint")).to_contain_text("every message on publish, for 4 s")
    book.execute("start(b'short')")
    expect(interceptor.get_by_test_id("detail").get_by_test_id("left")).to_have_text(
        re.compile("goes on in [12] s")
    )
    lab.screenshot(interceptor, "interceptor-soon")
    expect(interceptor.locator('[data-ended="timed out"]').first).to_contain_text(
        "timed out, went on by itself"
    )
    book.expect("[body for body, *_ in got[-1:]]", ["short"])


@pytest.mark.looks
def test_what_is_hostile_or_long_stays_text(lab: Lab) -> None:
    evil = "<img src=x onerror=document.title='evil'>"
    book, interceptor = open_interceptor(
        lab,
        f"evil = {evil!r}\n"
        "bad = backend.topic(evil)\n"
        "log.breakpoint(f'text != \"{evil}\"', side='publish', timeout=5000)\n"
        "log.breakpoint(\"attributes.str['N'].astype('int') > 3\", side='publish')\n"
        "async def send(body, **attributes):\n"
        "    await bad.publish(body, attributes=attributes)\n"
        "go = asyncio.get_running_loop().create_task\n"
        "tasks = [go(send((evil + '!').encode() * 3, **{'A': evil, 'Long' * 30: 'value ' * 200}))]\n"
        "tasks.append(go(send(b'x' * 300_000)))\n"
        "tasks.append(go(send(bytes(range(256)))))",
    )
    expect(interceptor.get_by_test_id("held")).to_have_count(3)
    expect(interceptor.get_by_test_id("edit-body")).to_have_value((evil + "!") * 3)
    lab.screenshot(interceptor, "interceptor-hostile")
    interceptor.get_by_test_id("held").nth(1).click()
    expect(interceptor.get_by_test_id("locked")).to_contain_text("too long to edit here")
    interceptor.get_by_test_id("body-all").click()
    expect(interceptor.get_by_test_id("body-cut")).to_have_count(0)
    lab.screenshot(interceptor, "interceptor-long")
    interceptor.get_by_test_id("attribute-add").click()
    interceptor.get_by_test_id("attribute-key").fill("Note")
    interceptor.get_by_test_id("attribute-value").fill("long")
    interceptor.get_by_test_id("continue-edit").click()
    book.expect(
        "[[a.get('Note'), s] for a, s in zip(log.events['attributes'], log.events['size'].tolist())][-1:]",
        [[["long"], 300_000]],
    )

    book.execute("tasks.append(go(send(evil.encode(), N='four')))")
    expect(interceptor.get_by_test_id("point-error")).to_contain_text("'four'")
    for width in (700, 360):
        lab.width(width)
        lab.screenshot(interceptor, f"interceptor-{width}")
        assert interceptor.evaluate("root => root.scrollWidth <= root.clientWidth")
    assert lab.page.title() != "evil"
    assert interceptor.locator("img").count() == 0
    static = book.evaluate("interceptor._repr_html_()")
    assert "&lt;img" in static
    assert "<img" not in static
    interceptor.get_by_test_id("continue-all").click()
    book.expect("all(task.done() for task in tasks)", True)
