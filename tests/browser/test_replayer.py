"""The Replayer in a real JupyterLab: look at what failed, edit it, send it again."""

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
from msgviz.widgets import Replayer

log = mv.MessageLog(max_body=5000)
backend = mv.observe(mv.connect("memory://"), log)
orders = backend.topic("orders")
billing = backend.server("orders", subscription="billing", concurrency=4, max_attempts=2, backoff=0)
shipping = backend.server("orders", subscription="shipping")
shipped = []

async def charge(message):
    order = message.json()
    if order["amount"] < 0:
        raise ValueError(f"negative amount: {order['amount']}")
    if order["amount"] == 13:
        raise KeyError("unlucky")

async def ship(message):
    shipped.append(message.json()["amount"])

billing.start(charge)
shipping.start(ship)
"""

SHOW = "replayer = Replayer(log)\nreplayer"


def publish(*amounts: int) -> str:
    lines = [
        f"await orders.publish(json={{'amount': {amount}}}, attributes={{'Source': 'web'}})"
        for amount in amounts
    ]
    return "\n".join([*lines, "await log.settled()"])


def group(replayer: Locator, error: str) -> Locator:
    return replayer.locator(f'[data-testid="group"][data-error="{error}"]')


def states(book: Notebook) -> dict[str, int]:
    counts: dict[str, int] = book.evaluate("{k: v for k, v in log.count_states().items() if v}")
    return counts


@pytest.mark.looks
def test_nothing_has_failed(lab: Lab) -> None:
    book = lab.run([FLOW, publish(1), SHOW])
    replayer = book.widget("replayer")
    expect(replayer.get_by_test_id("empty")).to_have_text(
        "Nothing has failed. Messages that fail show up here, grouped by error."
    )
    lab.screenshot(replayer, "replayer-empty")
    book.execute(publish(-1))  # and what fails later appears by itself
    expect(replayer.get_by_test_id("case")).to_have_count(1)
    expect(group(replayer, "ValueError")).to_contain_text("negative amount: -1")


def test_edit_and_replay(lab: Lab) -> None:
    book = lab.run([FLOW, publish(5, -7), SHOW])
    original = book.evaluate("log.messages.query('state == \"dead\"').index[0]")
    replayer = book.widget("replayer")
    replayer.get_by_test_id("open").click()
    expect(replayer.get_by_test_id("error-text")).to_have_text("ValueError: negative amount: -7")
    expect(replayer.get_by_test_id("detail")).to_contain_text("Goes to orders/billing alone.")
    replayer.get_by_test_id("edit").click()
    body = replayer.get_by_test_id("edit-body")
    expect(body).to_have_value('{"amount":-7}')
    body.fill('{"amount": 7')
    expect(replayer.get_by_test_id("not-json")).to_contain_text("Not JSON any more")
    lab.screenshot(replayer, "replayer-not-json")
    body.fill('{"amount": 13}')
    expect(replayer.get_by_test_id("not-json")).to_have_count(0)
    replayer.get_by_test_id("attribute-value").fill("a person")
    replayer.get_by_test_id("attribute-add").click()
    replayer.get_by_test_id("attribute-key").last.fill("reason")
    replayer.get_by_test_id("attribute-value").last.fill("typing error")
    lab.screenshot(replayer, "replayer-edit")
    replayer.get_by_test_id("send-edit").click()

    # It fails again, with another error, and says so; it now stands below that error.
    result = replayer.get_by_test_id("result")
    expect(result).to_have_attribute("data-outcome", "dead")
    expect(result).to_contain_text("KeyError: 'unlucky'")
    expect(group(replayer, "ValueError")).to_have_count(0)
    case = group(replayer, "KeyError").get_by_test_id("case")
    expect(case).to_have_attribute("data-message", original)
    difference = case.get_by_test_id("difference")
    expect(difference.first.locator('[data-sign="-"]')).to_have_text(re.compile(r'-\s*"amount": -7'))
    expect(difference.first.locator('[data-sign="+"]')).to_have_text(re.compile(r'\+\s*"amount": 13'))
    expect(difference.last).to_contain_text("Reason: typing error")
    lab.screenshot(replayer, "replayer-history")

    # The second edit starts from what was sent last, and mends it.
    case.get_by_test_id("edit").click()
    expect(replayer.get_by_test_id("edit-body")).to_have_value('{"amount": 13}')
    replayer.get_by_test_id("edit-body").fill('{"amount": 8}')
    replayer.get_by_test_id("send-edit").click()
    expect(result).to_have_attribute("data-outcome", "ok")
    expect(replayer.get_by_test_id("summary")).to_have_text("Everything that failed has gone well since.")
    replayer.get_by_test_id("filter-resolved").click()
    expect(replayer.get_by_test_id("case").locator('[data-state="resolved"]').first).to_be_visible()
    expect(replayer.get_by_test_id("step")).to_have_count(3)

    # The original is as it was, and the other subscription got the message once.
    assert book.evaluate(f"log.message({original!r}).text") == '{"amount":-7}'
    assert book.evaluate(f"log.message({original!r}).attributes['Source']") == "web"
    assert book.evaluate(f"log.detail({original!r}).state") == "resolved"
    assert book.evaluate("sorted(shipped)") == [-7, 5]
    assert states(book) == {"ok": 2, "resolved": 2}


def test_replay_a_group_after_mending(lab: Lab) -> None:
    book = lab.run([FLOW, publish(*range(-30, 2), 13), SHOW])
    replayer = book.widget("replayer")
    failed = group(replayer, "ValueError")
    box = failed.get_by_test_id("group-select")
    expect(failed.get_by_test_id("case")).to_have_count(20)
    failed.get_by_test_id("more").click()
    expect(failed.get_by_test_id("case")).to_have_count(30)

    failed.get_by_test_id("select").first.check()
    assert box.evaluate("box => box.indeterminate") is True
    box.click()
    expect(box).to_be_checked()
    failed.get_by_test_id("select").nth(1).uncheck()
    assert box.evaluate("box => box.indeterminate") is True
    expect(replayer.get_by_test_id("replay")).to_have_text("Replay 29 messages")
    failed.get_by_test_id("select").nth(1).check()
    expect(box).to_be_checked()
    expect(replayer.get_by_test_id("replay")).to_have_text("Replay 30 messages")
    expect(replayer.get_by_test_id("places")).to_have_text("Only to orders/billing, where they failed.")
    replayer.get_by_test_id("wish-add").click()
    replayer.get_by_test_id("wish-key").fill("Mended")
    replayer.get_by_test_id("wish-value").fill("yes")
    lab.screenshot(replayer, "replayer-selected")

    book.execute("seen = []\nasync def charge(m): seen.append(m.attributes['Mended'])\nbilling.start(charge)")
    replayer.get_by_test_id("replay").click()
    expect(replayer.get_by_test_id("outcomes")).to_have_text("resolved30")
    expect(failed).to_have_count(0)
    expect(group(replayer, "KeyError").get_by_test_id("case")).to_have_count(1)
    expect(replayer.get_by_test_id("filter-resolved")).to_contain_text("30")
    assert book.evaluate("seen") == ["yes"] * 30
    assert book.evaluate("len(shipped)") == 33
    lab.screenshot(replayer, "replayer-resolved")


def test_stop_and_rate(lab: Lab) -> None:
    book = lab.run([FLOW, publish(*range(-10, 0)), SHOW])
    replayer = book.widget("replayer")
    replayer.get_by_test_id("group-select").click()
    replayer.get_by_test_id("rate").fill("-3")
    expect(replayer.get_by_test_id("replay")).to_be_disabled()
    replayer.get_by_test_id("rate").fill("0.05")
    replayer.get_by_test_id("replay").click()
    run = replayer.get_by_test_id("run")
    expect(run).to_contain_text("Replaying 1 of 10")
    expect(run.get_by_test_id("result")).to_have_attribute("data-outcome", "dead")
    lab.screenshot(replayer, "replayer-running")
    run.get_by_test_id("stop").click()
    expect(run).to_contain_text("Stopped after 1 of 10")
    expect(replayer.get_by_test_id("case")).to_have_count(10)
    assert states(book) == {"dead": 10, "replayed": 1}
    run.get_by_test_id("forget").click()
    expect(run).to_have_count(0)


def test_what_cannot_be_replayed_says_why(lab: Lab) -> None:
    large = "await orders.publish(json={'amount': -1, 'note': 'x' * 6000})"
    book = lab.run([FLOW, publish(-2), large + "\nawait log.settled()", SHOW])
    replayer = book.widget("replayer")
    replayer.get_by_test_id("group-select").click()
    expect(replayer.get_by_test_id("cannot")).to_contain_text("1 of 2 cannot be replayed")
    expect(replayer.get_by_test_id("cannot")).to_contain_text("was not kept")
    expect(replayer.get_by_test_id("replay")).to_have_text("Replay 1 message")
    replayer.get_by_test_id("open").last.click()
    expect(replayer.get_by_test_id("refused")).to_contain_text("was not kept")
    expect(replayer.get_by_test_id("replay-one")).to_be_disabled()
    expect(replayer.get_by_test_id("edit")).to_be_disabled()
    lab.screenshot(replayer, "replayer-refused")
    replayer.get_by_test_id("replay").click()
    expect(replayer.locator('[data-outcome="skipped"]')).to_contain_text("was not kept")
    expect(replayer.locator('[data-outcome="dead"]')).to_contain_text("negative amount: -2")


def test_bytes_are_edited_as_hex(lab: Lab) -> None:
    flow = (
        FLOW
        + """
got = []
def take(message):
    got.append(message.body.hex())
    if message.body[0] == 0xff:
        raise OSError("bad magic number")
billing.start(take)
shipping.start(lambda message: None)
await orders.publish(b"\\xff\\x00\\x01")
await log.settled()
"""
    )
    book = lab.run([flow, SHOW])
    replayer = book.widget("replayer")
    replayer.get_by_test_id("open").click()
    replayer.get_by_test_id("edit").click()
    body = replayer.get_by_test_id("edit-body")
    expect(body).to_have_value("ff 00 01")
    body.fill("0f 00 0")
    expect(replayer.get_by_test_id("edit-body-error")).to_contain_text("A digit is missing")
    expect(replayer.get_by_test_id("send-edit")).to_be_disabled()
    body.fill("0f 00 02")
    replayer.get_by_test_id("send-edit").click()
    expect(replayer.get_by_test_id("result")).to_have_attribute("data-outcome", "ok")
    assert book.evaluate("got[-1]") == "0f0002"


HOSTILE = '<img src=x onerror=\\"window.hacked=1\\"><script>window.hacked=1</script>'


@pytest.mark.looks
def test_hostile_text_is_shown_as_text(lab: Lab) -> None:
    flow = f"""
evil = "{HOSTILE}"
async def charge(message):
    raise type("Evil" + evil, (Exception,), {{}})(evil)
topic = backend.topic("t" + evil)
server = backend.server("t" + evil, subscription="s" + evil, max_attempts=1)
server.start(charge)
await topic.publish(evil.encode(), attributes={{"K": evil, evil: "v"}})
await log.settled()
"""
    book = lab.run([FLOW, flow, SHOW])
    replayer = book.widget("replayer")
    evil = HOSTILE.replace("\\", "")
    replayer.get_by_test_id("open").click()
    expect(replayer.get_by_test_id("error-text")).to_contain_text(evil)
    expect(replayer.get_by_test_id("body")).to_contain_text(evil)
    expect(replayer.get_by_test_id("attributes")).to_contain_text(evil)
    expect(replayer.get_by_test_id("group-open")).to_contain_text(f"t{evil}/s{evil}")
    replayer.get_by_test_id("edit").click()
    replayer.get_by_test_id("attribute-value").first.fill(evil + "!")
    replayer.get_by_test_id("send-edit").click()
    expect(replayer.get_by_test_id("result")).to_contain_text(evil)
    expect(replayer.get_by_test_id("difference")).to_contain_text(evil + "!")
    lab.screenshot(replayer, "replayer-hostile")
    assert replayer.locator("img, script").count() == 0
    assert lab.page.evaluate("window.hacked") is None


@pytest.mark.looks
def test_keyboard(lab: Lab) -> None:
    book = lab.run([FLOW, publish(-1, -2), SHOW])
    replayer = book.widget("replayer")
    expect(replayer.get_by_test_id("open")).to_have_count(2)
    replayer.get_by_test_id("group-open").focus()
    lab.page.keyboard.press("ArrowDown")
    lab.page.keyboard.press("ArrowDown")
    expect(replayer.get_by_test_id("open").nth(1)).to_be_focused()
    lab.page.keyboard.press("Enter")
    expect(replayer.get_by_test_id("error-text")).to_have_text("ValueError: negative amount: -2")


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    """Dark, narrow, and with long values: nothing may be wider than the widget."""
    flow = """
async def charge(message):
    raise RuntimeError("a very long error text " * 40)
billing.start(charge)
async def ship(message):
    raise ConnectionRefusedError("[Errno 111] Connect call failed ('10.0.0.7', 5432)")
shipping.start(ship)
await orders.publish(json={"customer": "x" * 500, "amount": 3}, attributes={"Long-Key-" * 12: "v" * 300})
await log.settled()
"""
    book = lab.run([FLOW, publish(-3, -4, 13), flow, SHOW])
    replayer = book.widget("replayer")
    expect(replayer.get_by_test_id("group")).to_have_count(4)
    group(replayer, "RuntimeError").get_by_test_id("group-open").click()
    group(replayer, "RuntimeError").get_by_test_id("open").click()
    expect(replayer.get_by_test_id("detail")).to_be_visible()
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 400):
            lab.width(width)
            assert replayer.evaluate("e => e.scrollWidth <= e.clientWidth")
            lab.screenshot(replayer, f"replayer-{theme}-{width or 'wide'}")
