"""The Publisher, used in a real notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, expect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.lab import Lab, Notebook

SETUP = """
import msgviz as mv
log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
orders = backend.topic("orders")
"""
BODIES = "[b.decode() for b in log.events['body']]"


def open_form(lab: Lab, made: str = "mv.Publisher(orders)", setup: str = "") -> tuple[Notebook, Locator]:
    book = lab.run([SETUP + setup, f"publisher = {made}\npublisher"])
    form = book.widget("publisher")
    expect(form).to_be_visible()
    return book, form


def write_attributes(form: Locator, *rows: tuple[str, str]) -> None:
    for key, value in rows:
        form.get_by_test_id("attribute-add").click()
        form.get_by_test_id("attribute-key").last.fill(key)
        form.get_by_test_id("attribute-value").last.fill(value)


def test_what_is_written_is_published_and_its_id_shown(lab: Lab) -> None:
    book, form = open_form(lab)
    lab.screenshot(form, "publisher-empty")
    form.get_by_test_id("text").fill('{"amount": 12}')
    write_attributes(form, ("source", "web"), ("X-TAG", "a"), ("x-tag", "b"))
    form.get_by_test_id("publish").click()

    message_id = form.get_by_test_id("message-id")
    expect(message_id).to_be_visible()
    expect(message_id).to_have_text(book.evaluate("publisher.message_id"))
    event = book.evaluate(
        "[[e.topic, e.message_id, e.body.decode(), e.attributes] for e in log.events.itertuples()]"
    )
    topic, published_id, body, attributes = event.pop()
    attributes.pop("Msgviz-Id")
    assert event == []
    assert (topic, published_id, body) == ("orders", message_id.inner_text(), '{"amount": 12}')
    assert attributes == {"Source": ["web"], "X-Tag": ["a", "b"]}
    expect(form.get_by_test_id("result")).to_contain_text("published")
    lab.screenshot(form, "publisher-published")


@pytest.mark.looks
def test_a_key_gets_its_canonical_form_when_it_is_left(lab: Lab) -> None:
    _, form = open_form(lab)
    write_attributes(form, ("content-ENCODING", "lz4"))
    expect(form.get_by_test_id("attribute-key")).to_have_value("Content-Encoding")
    write_attributes(form, ("key with space", "1"))
    expect(form.get_by_test_id("attribute-key").last).to_have_value("key with space")
    form.get_by_test_id("attribute-remove").first.click()
    expect(form.get_by_test_id("attribute-key")).to_have_count(1)
    expect(form.get_by_test_id("attribute-value")).to_have_value("1")


@pytest.mark.looks
def test_a_mistake_in_json_is_shown_at_its_place_and_not_published(lab: Lab) -> None:
    book, form = open_form(lab)
    text, mistake = form.get_by_test_id("text"), form.get_by_test_id("json-mistake")
    expect(mistake).to_have_count(0)
    text.fill('{\n  "amount": 12,\n  "é": tru\n}')
    expect(mistake).to_contain_text("Line 3, column 8")
    expect(text).to_have_attribute("aria-invalid", "true")
    expect(form.get_by_test_id("format")).to_be_disabled()
    text.press("Control+Enter")
    form.get_by_test_id("json-place").click()
    assert text.evaluate("field => field.selectionStart") == 25
    lab.screenshot(form, "publisher-json-mistake")

    text.fill('{"amount":12345678901234567890,"é":[true]}')
    expect(mistake).to_have_count(0)
    form.get_by_test_id("format").click()
    expect(text).to_have_value('{\n  "amount": 12345678901234567890,\n  "é": [\n    true\n  ]\n}')
    assert book.evaluate("len(log)") == 0


@pytest.mark.looks
def test_an_empty_form_says_what_is_missing_when_it_is_published(lab: Lab) -> None:
    book, form = open_form(lab)
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("json-mistake")).to_contain_text("Write the JSON here")
    expect(form.get_by_test_id("text")).to_be_focused()
    form.get_by_test_id("kind-file").click()
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("file-error")).to_contain_text("Choose a file")
    form.get_by_test_id("kind-text").click()
    form.get_by_test_id("count").fill("many")
    form.get_by_test_id("delay").fill("-1")
    write_attributes(form, ("", "lonely"))
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("count-error")).to_be_visible()
    expect(form.get_by_test_id("delay-error")).to_be_visible()
    expect(form.get_by_test_id("attribute-error")).to_contain_text("needs a key")
    lab.screenshot(form, "publisher-mistakes")
    assert book.evaluate("len(log)") == 0


@pytest.mark.looks
def test_ctrl_enter_publishes_and_leaves_the_notebook_alone(lab: Lab) -> None:
    book, form = open_form(lab)
    form.get_by_test_id("kind-text").click()
    text = form.get_by_test_id("text")
    text.fill("1st")
    text.press("Control+Enter")
    expect(form.get_by_test_id("result")).to_contain_text("3 B")
    text.fill("dd")  # "d d" would delete the cell
    text.press("Enter")
    text.press_sequentially("dd")
    text.press("Control+z")
    expect(text).not_to_have_value("dd\ndd")
    text.fill("dd\ndd")
    text.press("Control+Enter")
    expect(form.get_by_test_id("result")).to_contain_text("5 B")
    assert book.evaluate(BODIES) == ["1st", "dd\ndd"]


def test_a_failed_publish_says_why_and_keeps_the_form(lab: Lab) -> None:
    book, form = open_form(lab)
    form.get_by_test_id("text").fill('{"amount": 1}')
    write_attributes(form, ("Source", "web"))
    book.execute("await backend.close()")
    form.get_by_test_id("publish").click()
    error = form.get_by_test_id("publish-error")
    expect(error).to_contain_text("BackendClosed")
    expect(error).to_contain_text("connect again")
    expect(form.get_by_test_id("text")).to_have_value('{"amount": 1}')
    expect(form.get_by_test_id("attribute-value")).to_have_value("web")
    lab.screenshot(form, "publisher-failed")
    assert book.evaluate("log.events['outcome'].tolist()") == ["error"]


def test_the_form_is_still_there_in_another_view(lab: Lab) -> None:
    book, form = open_form(lab)
    form.get_by_test_id("kind-text").click()
    form.get_by_test_id("text").fill("as I left it")
    write_attributes(form, ("Source", "web"))
    lab.command("notebook:create-output-view")
    expect(lab.page.get_by_test_id("mv-publisher")).to_have_count(2)
    for view in lab.page.get_by_test_id("mv-publisher").all():
        expect(view.get_by_test_id("text")).to_have_value("as I left it")
        expect(view.get_by_test_id("attribute-value")).to_have_value("web")
    form.get_by_test_id("text").fill("changed")
    for view in lab.page.get_by_test_id("mv-publisher").all():
        expect(view.get_by_test_id("text")).to_have_value("changed")
    lab.page.get_by_test_id("mv-publisher").last.get_by_test_id("publish").click()
    expect(form.get_by_test_id("message-id")).to_be_visible()
    assert book.evaluate(BODIES) == ["changed"]


def test_a_file_becomes_the_body_as_it_is(lab: Lab, tmp_path: Path) -> None:
    book, form = open_form(lab)
    content = bytes(range(256)) * 4000
    (tmp_path / "photo <b>.bin").write_bytes(content)
    form.get_by_test_id("kind-file").click()
    form.get_by_test_id("file").set_input_files(tmp_path / "photo <b>.bin")
    expect(form.get_by_test_id("file-name")).to_contain_text("photo <b>.bin")
    expect(form.get_by_test_id("file-name")).to_contain_text("1.02 MB")
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("message-id")).to_be_visible()
    assert book.evaluate("log.events['body'].iloc[0] == bytes(range(256)) * 4000")
    lab.screenshot(form, "publisher-file")

    (tmp_path / "empty").write_bytes(b"")
    form.get_by_test_id("file").set_input_files(tmp_path / "empty")
    expect(form.get_by_test_id("file-name")).to_contain_text("empty")
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("result")).to_contain_text("0 B")


def test_a_file_that_is_too_large_is_refused_with_the_limit(lab: Lab, tmp_path: Path) -> None:
    book, form = open_form(lab)
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(65 * 1024 * 1024)
    form.get_by_test_id("kind-file").click()
    form.get_by_test_id("file").set_input_files(tmp_path / "disk.img")
    expect(form.get_by_test_id("file-error")).to_contain_text("67.1 MB at most")
    assert book.evaluate("publisher._form['file']") is None


def test_many_are_published_with_progress_and_can_be_stopped(lab: Lab) -> None:
    book, form = open_form(lab)
    form.get_by_test_id("kind-text").click()
    form.get_by_test_id("text").fill("x")
    form.get_by_test_id("count").fill("3")
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("result")).to_contain_text("3 messages to orders")
    assert book.evaluate("len(log)") == 3

    form.get_by_test_id("count").fill("99999999")
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("progress")).to_contain_text("of 99,999,999")
    assert book.evaluate("1 + 1") == 2  # the loop is free
    lab.screenshot(form, "publisher-progress")
    form.get_by_test_id("stop").click()
    expect(form.get_by_test_id("result")).to_contain_text("stopped")
    published = book.evaluate("len(log)")
    assert published > 3
    expect(form.get_by_test_id("publish")).to_be_enabled()
    assert book.evaluate("len(log)") == published


def test_a_message_is_copied_into_the_form_and_that_can_be_undone(lab: Lab) -> None:
    book, form = open_form(lab, "mv.Publisher(log=log)", 'audit = backend.topic("audit")')
    form.get_by_test_id("kind-text").click()
    form.get_by_test_id("text").fill("half a thought")
    book.execute(
        "await audit.publish(json={'a': '<img src=x>'}, attributes={'K': ['1', '2'], 'Long': 'x\\ny'})\n"
        "import time; time.sleep(1)  # so that what was typed is on its way when the form is filled\n"
        "publisher.fill(log.detail(log.messages.index[0]))"
    )
    book.expect("publisher._form['filled']", 1)
    expect(form.get_by_test_id("text")).to_have_value('{"a":"<img src=x>"}')
    expect(form.get_by_test_id("topic")).to_have_value("audit")
    rows = form.get_by_test_id("attribute-row")
    expect(rows).to_have_count(3)
    assert [key.input_value() for key in form.get_by_test_id("attribute-key").all()] == ["K", "K", "Long"]
    assert [v.input_value() for v in form.get_by_test_id("attribute-value").all()] == ["1", "2", "x\ny"]
    expect(form.get_by_test_id("filled")).to_contain_text(book.evaluate("log.messages.index[0]"))
    lab.screenshot(form, "publisher-filled")

    form.get_by_test_id("undo").click()
    expect(form.get_by_test_id("text")).to_have_value("half a thought")
    expect(rows).to_have_count(0)

    book.execute("publisher.fill(mv.Message(bytes(range(200)), {'Kind': 'binary'}))")
    expect(form.get_by_test_id("file-name")).to_contain_text("200 B")
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("message-id")).to_be_visible()
    assert book.evaluate("log.events['body'].iloc[-1] == bytes(range(200))")
    assert book.evaluate("log.events['attributes'].iloc[-1]['Kind']") == ["binary"]


def test_topics_can_be_chosen_and_new_ones_appear(lab: Lab) -> None:
    book, form = open_form(
        lab,
        "mv.Publisher(log=later)",
        "later = mv.MessageLog()\nsecond = mv.observe(mv.connect('memory://'), later)",
    )
    expect(form.get_by_test_id("empty")).to_contain_text("no topic")
    lab.screenshot(form, "publisher-no-topic")
    book.execute("second.topic('one')")
    expect(form.get_by_test_id("topic")).to_have_text("one")
    book.execute("second.topic('two')")
    expect(form.locator("option")).to_have_text(["one", "two"])
    form.get_by_test_id("topic").select_option("two")
    form.get_by_test_id("kind-text").click()
    form.get_by_test_id("text").fill("x")
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("result")).to_contain_text("to two")
    assert book.evaluate("later.events['topic'].tolist()") == ["two"]


@pytest.mark.looks
def test_an_error_that_holds_html_is_shown_as_text(lab: Lab) -> None:
    attack = "<img src=x onerror=window.hacked=1>"
    _, form = open_form(
        lab,
        "mv.Publisher(Broken())",
        "class Broken(mv.Topic):\n"
        f"    name = '{attack}'\n"
        "    async def send(self, message, delay):\n"
        f"        raise mv.Unsupported('{attack}', 'cannot {attack}')\n",
    )
    expect(form.get_by_test_id("topic")).to_have_text(attack)
    form.get_by_test_id("kind-text").click()
    write_attributes(form, (attack, attack))
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("publish-error")).to_contain_text(f"Unsupported: {attack}: cannot {attack}")
    expect(form.locator("img")).to_have_count(0)
    assert lab.page.evaluate("() => window.hacked") is None


@pytest.mark.looks
def test_pictures(lab: Lab) -> None:
    _, form = open_form(lab, "mv.Publisher([orders, audit])", 'audit = backend.topic("audit")')
    form.get_by_test_id("text").fill('{\n  "amount": 12,\n  "customer": "' + "long " * 40 + '"\n}')
    write_attributes(form, ("Source", "web"), ("Traceparent", "00-" + "ab" * 40))
    form.get_by_test_id("publish").click()
    expect(form.get_by_test_id("message-id")).to_be_visible()
    for theme in ("light", "dark"):
        lab.theme(theme)
        for width in (None, 360):
            lab.width(width)
            expect(form.get_by_test_id("publish")).to_be_in_viewport()
            overflow = form.evaluate("e => e.scrollWidth - e.clientWidth")
            assert overflow <= 0
            lab.screenshot(form, f"publisher-{theme}-{width or 'wide'}")
