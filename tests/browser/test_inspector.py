"""The Inspector, used in a real notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, expect

if TYPE_CHECKING:
    from tests.browser.lab import Lab, Notebook

SETUP = """
import asyncio
import msgviz as mv
log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
orders, audit = backend.topic("orders"), backend.topic("audit")
billing = backend.server("orders", subscription="billing", max_attempts=3)
keeper = backend.server("audit", subscription="keeper")

async def charge(message):
    if message.json()["amount"] < 0:
        raise ValueError("negative amount")
    await audit.publish(json={"done": True})
    await audit.publish(json={"done": True})

async def keep(message):
    pass

billing.start(charge)
keeper.start(keep)
await orders.publish(json={"amount": -1}, attributes={"Source": "web", "Tag": ["a", "b"]})
await orders.publish(json={"amount": 12})
await log.settled()
bad, good = log.messages.index[log.messages["topic"] == "orders"]
inspector = mv.Inspector(log)
"""


def open_inspector(lab: Lab, *cells: str) -> tuple[Notebook, Locator]:
    book = lab.run([SETUP, *cells, "inspector"])
    inspector = book.widget("inspector")
    expect(inspector).to_be_visible()
    return book, inspector


def expect_shown(inspector: Locator, message_id: str) -> None:
    expect(inspector.get_by_test_id("message")).to_have_attribute("data-message-id", message_id)


@pytest.mark.looks
def test_it_says_what_to_do_first(lab: Lab) -> None:
    book, inspector = open_inspector(lab)
    expect(inspector.get_by_test_id("empty")).to_contain_text("Select a message in the table")
    lab.screenshot(inspector, "inspector-empty")
    book.execute("inspector.message_id = bad")
    expect_shown(inspector, book.evaluate("bad"))
    book.execute("inspector.message_id = None")
    expect(inspector.get_by_test_id("empty")).to_be_visible()


def test_a_failed_message_shows_each_attempt_with_its_traceback(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = bad")
    expect_shown(inspector, book.evaluate("bad"))
    expect(inspector.locator("header [data-state=dead]")).to_have_text("dead")
    expect(inspector.get_by_test_id("topic")).to_have_text("orders")
    expect(inspector.get_by_test_id("facts")).to_contain_text("13 B")

    attempts = inspector.get_by_test_id("attempt")
    expect(attempts).to_have_count(4)
    expect(attempts.first).to_contain_text("published")
    for number in (1, 2, 3):
        expect(attempts.nth(number)).to_contain_text("billing")
        expect(attempts.nth(number)).to_contain_text(f"attempt {number}")
        expect(attempts.nth(number).get_by_test_id("attempt-error")).to_have_text(
            "ValueError: negative amount"
        )
    expect(inspector.get_by_test_id("traceback")).to_have_count(0)
    attempts.nth(2).get_by_test_id("traceback-toggle").click()
    traceback = attempts.nth(2).get_by_test_id("traceback")
    expect(traceback).to_contain_text('raise ValueError("negative amount")')
    lab.screenshot(inspector, "inspector-dead")
    attempts.nth(2).get_by_test_id("traceback-toggle").click()
    expect(traceback).to_have_count(0)

    attributes = inspector.get_by_test_id("attributes")
    expect(attributes.locator('[data-attribute="Tag"] dd span')).to_have_text(["a", "b"])
    expect(attributes.locator(".mv-dim dt")).to_have_text("Msgviz-Id")


def test_links_lead_to_what_it_caused_and_back(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = good")
    good = book.evaluate("good")
    children = inspector.get_by_test_id("children").get_by_test_id("link")
    expect(children).to_have_count(2)
    expect(inspector.get_by_test_id("back")).to_have_count(0)
    child = children.last.inner_text()
    children.last.click()
    expect_shown(inspector, child)
    assert book.evaluate("inspector.message_id") == child
    expect(inspector.get_by_test_id("back")).to_be_focused()

    inspector.get_by_test_id("parent").get_by_test_id("link").click()
    expect_shown(inspector, good)
    inspector.get_by_test_id("back").click()
    expect_shown(inspector, child)
    inspector.get_by_test_id("back").click()
    expect_shown(inspector, good)
    expect(inspector.get_by_test_id("back")).to_have_count(0)


def test_a_message_selected_elsewhere_starts_a_new_way_back(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = good")
    inspector.get_by_test_id("children").get_by_test_id("link").first.click()
    expect(inspector.get_by_test_id("back")).to_be_visible()
    book.execute("inspector.message_id = bad")
    expect_shown(inspector, book.evaluate("bad"))
    expect(inspector.get_by_test_id("back")).to_have_count(0)


def test_replay_sends_it_again_and_shows_what_became_of_it(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = bad")
    book.execute("async def charge(message):\n    pass\nbilling.start(charge)")
    inspector.get_by_test_id("replay").click()
    outcome = inspector.get_by_test_id("replay-outcome")
    expect(outcome).to_contain_text("sent to billing as")
    expect(inspector.locator("header [data-state=resolved]")).to_be_visible()
    lab.screenshot(inspector, "inspector-replayed")
    replay = book.evaluate("log.detail(bad).replays[0]")
    assert book.evaluate(f"log.detail({replay!r}).state") == "ok"
    expect(inspector.get_by_test_id("replays").get_by_test_id("link")).to_have_text(replay)
    outcome.get_by_test_id("link").click()
    expect_shown(inspector, replay)
    expect(inspector.get_by_test_id("replay-of").get_by_test_id("link")).to_have_text(book.evaluate("bad"))


def test_it_follows_a_message_that_is_being_retried(lab: Lab) -> None:
    book, inspector = open_inspector(
        lab,
        "gate = asyncio.Event()\n"
        "async def slow(message):\n"
        "    await gate.wait()\n"
        "    gate.clear()\n"
        "    raise RuntimeError('not yet')\n"
        "billing.start(slow)\n"
        "await orders.publish(json={'amount': 3})\n"
        "inspector.message_id = log.messages.index[-1]",
    )
    expect(inspector.locator("header [data-state=in_flight]")).to_be_visible()
    expect(inspector.get_by_test_id("next")).to_contain_text("Being received now")
    expect(inspector.get_by_test_id("replay")).to_be_disabled()
    for attempt in (1, 2, 3):
        book.execute("gate.set()")
        expect(inspector.get_by_test_id("attempt")).to_have_count(1 + attempt)
    expect(inspector.locator("header [data-state=dead]")).to_be_visible()
    expect(inspector.get_by_test_id("next")).to_have_count(0)
    expect(inspector.get_by_test_id("replay")).to_be_enabled()


def test_an_unknown_message_is_said_to_be_unknown_until_it_comes(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = 'nobody <b>'")
    expect(inspector.get_by_test_id("missing")).to_contain_text("The log has no message nobody <b>.")
    lab.screenshot(inspector, "inspector-missing")
    book.execute(
        "small = mv.MessageLog(max_events=8)\n"
        "topic = mv.observe(mv.connect('memory://').topic('t'), small)\n"
        "for _ in range(40):\n"
        "    await topic.publish(b'x')\n"
        "other = mv.Inspector(small, 'gone')\n"
    )
    assert "older events that were dropped" in book.evaluate("other._repr_html_()")


@pytest.mark.looks
def test_a_body_is_shown_as_json_text_or_hex(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = bad")
    body = inspector.get_by_test_id("body")
    expect(body).to_have_attribute("data-form", "json")
    expect(body).to_contain_text("amount: -1")
    inspector.get_by_test_id("body-text").click()
    expect(body).to_contain_text('{"amount":-1}')
    inspector.get_by_test_id("body-hex").click()
    expect(body).to_contain_text("7b 22 61 6d")
    book.execute("await audit.publish(bytes(range(256)))\ninspector.message_id = log.messages.index[-1]")
    expect(body).to_have_attribute("data-form", "hex")
    expect(inspector.get_by_test_id("body-text")).to_have_count(0)
    lab.screenshot(inspector, "inspector-hex")


def test_a_long_body_comes_in_pieces(lab: Lab) -> None:
    _, inspector = open_inspector(
        lab,
        "await audit.publish(json=[{'number': n, 'text': 'x' * 100} for n in range(25_000)])\n"
        "inspector.message_id = log.messages.index[-1]",
    )
    body, cut = inspector.get_by_test_id("body"), inspector.get_by_test_id("body-cut")
    expect(body).to_have_attribute("data-form", "text")
    expect(body).to_contain_text("first 197 kB of")
    expect(cut).to_contain_text("are not shown")
    lab.screenshot(inspector, "inspector-long-body")
    inspector.get_by_test_id("body-more").click()
    expect(body).to_contain_text("first 1.38 MB of")
    inspector.get_by_test_id("body-all").click()
    expect(cut).to_have_count(0)
    inspector.get_by_test_id("body-json").click()
    expect(body).to_contain_text("24900 more")
    inspector.get_by_test_id("body-text").click()
    assert inspector.locator(".mv-body-content").evaluate("e => e.textContent.length") > 2_900_000


@pytest.mark.looks
def test_one_very_long_string_is_still_json(lab: Lab) -> None:
    _, inspector = open_inspector(
        lab, "await audit.publish(json={'a': 'x' * 3_500_000})\ninspector.message_id = log.messages.index[-1]"
    )
    inspector.get_by_test_id("body-all").click()
    expect(inspector.get_by_test_id("body")).to_have_attribute("data-form", "json")
    expect(inspector.get_by_test_id("body")).to_contain_text("3,498,000 characters more")


@pytest.mark.looks
def test_a_body_that_was_not_kept_says_so(lab: Lab) -> None:
    _, inspector = open_inspector(
        lab,
        "log = mv.MessageLog(max_body=3)\n"
        "await mv.observe(mv.connect('memory://'), log).topic('t').publish(b'long')\n"
        "inspector = mv.Inspector(log, log.messages.index[0])\ninspector.on_copy(print)",
    )
    expect(inspector).to_contain_text("did not keep this body")
    expect(inspector.get_by_test_id("copy")).to_be_disabled()
    expect(inspector.get_by_test_id("replay")).to_have_count(1)
    expect(inspector.get_by_test_id("replay")).to_be_disabled()


def test_a_message_is_copied_to_whoever_asked_for_it(lab: Lab) -> None:
    book, inspector = open_inspector(lab, "inspector.message_id = bad")
    expect(inspector.get_by_test_id("message")).to_be_visible()
    expect(inspector.get_by_test_id("copy")).to_have_count(0)
    book.execute("publisher = mv.Publisher(log=log)\ninspector.on_copy(publisher.fill)")
    inspector.get_by_test_id("copy").click()
    expect(inspector.get_by_test_id("copy")).to_have_text("Copied")
    assert book.evaluate("[publisher.topic, publisher._form['text']]") == ["orders", '{"amount":-1}']
    assert book.evaluate("publisher._form['attributes']") == [["Source", "web"], ["Tag", "a"], ["Tag", "b"]]
    book.execute("def refuse(detail): raise RuntimeError('no room')\ninspector.on_copy(refuse)")
    inspector.get_by_test_id("copy").click()
    expect(inspector.get_by_test_id("action-error")).to_contain_text("no room")


def test_html_in_a_message_is_shown_as_text(lab: Lab) -> None:
    attack = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    book, inspector = open_inspector(
        lab,
        f"attack = '{attack}'\n"
        "async def fail(message):\n"
        "    raise type('E' + attack, (Exception,), {})(attack)\n"
        "server = backend.server(attack, subscription=attack, max_attempts=1)\n"
        "server.start(fail)\n"
        "await backend.topic(attack).publish(json={attack: [attack]}, attributes={attack: attack})\n"
        "await log.settled()\n"
        "inspector.message_id = log.messages.index[-1]",
    )
    expect(inspector.get_by_test_id("topic")).to_have_text(attack)
    expect(inspector.get_by_test_id("attempt-error")).to_contain_text(f"E{attack}: {attack}")
    inspector.get_by_test_id("traceback-toggle").click()
    expect(inspector.get_by_test_id("traceback")).to_contain_text(attack)
    expect(inspector.get_by_test_id("attributes")).to_contain_text(attack)
    for form in ("json", "text", "hex"):
        inspector.get_by_test_id(f"body-{form}").click()
        expect(inspector.get_by_test_id("body")).to_have_attribute("data-form", form)
        if form != "hex":
            expect(inspector.get_by_test_id("body")).to_contain_text(attack)
    expect(inspector.locator("img, script, b")).to_have_count(0)
    lab.screenshot(inspector, "inspector-hostile")
    static = book.evaluate("inspector._repr_html_()")
    assert "<img" not in static
    assert "<script" not in static
    assert lab.page.evaluate("() => window.hacked") is None


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    _, inspector = open_inspector(
        lab,
        "long = 'a-rather-long-name-' * 6\n"
        "async def fail(message):\n"
        "    raise RuntimeError('a long story of what went wrong, ' * 12)\n"
        "server = backend.server(long, subscription=long, max_attempts=2)\n"
        "server.start(fail)\n"
        "await backend.topic(long).publish(\n"
        "    json={'amount': 12, 'lines': [{'sku': 'x' * 90, 'count': 3}] * 2},\n"
        "    attributes={'Source': 'web', 'Traceparent': 'ab' * 90, 'Tag': ['red', 'green', '']})\n"
        "await log.settled()\n"
        "inspector.message_id = log.messages.index[-1]\n"
        "inspector.on_copy(print)",
    )
    expect(inspector.get_by_test_id("message")).to_be_visible()
    lab.page.set_viewport_size({"width": 1400, "height": 2000})
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 360):
            lab.width(width)
            assert inspector.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
            lab.screenshot(inspector, f"inspector-{theme}-{width or 'wide'}")
