"""What the Inspector tells the browser of a message."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

import msgviz as mv

pytest.importorskip("anywidget")

from tests.pages import Page, Refused

log: mv.MessageLog
backend: mv.Backend
made: list[mv.Inspector] = []


@pytest.fixture(autouse=True)
async def _flow() -> AsyncIterator[None]:
    global log, backend  # noqa: PLW0603
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://"), log)
    yield
    while made:
        made.pop().close()
    await backend.close()


def inspector(*args: Any) -> tuple[mv.Inspector, Page]:
    widget = mv.Inspector(*args)
    made.append(widget)
    return widget, Page(widget)


async def fail(message: mv.Message) -> None:
    raise ValueError(message.text)


async def dead_message(body: bytes = b"x", subscription: str = "billing") -> str:
    server = backend.server("orders", subscription=subscription, max_attempts=3, backoff=0)
    server.start(fail)
    await backend.topic("orders").publish(body, attributes={"Source": ["web", "app"]})
    await log.settled(5)
    return str(log.messages.index[-1])


async def test_it_tells_all_of_a_message() -> None:
    message_id = await dead_message()
    widget, page = inspector(log, message_id)
    told = await page.ask("show")
    assert (told["message_id"], told["topic"], told["state"], told["size"]) == (
        message_id, "orders", "dead", 1,
    )  # fmt: skip
    assert told["attributes"]["Source"] == ["web", "app"]
    assert base64.b64decode(told["body"]["base64"]) == b"x"
    assert [(a["operation"], a["subscription"], a["attempt"], a["outcome"]) for a in told["attempts"]] == [
        ("publish", None, 1, "ok"),
        ("receive", "billing", 1, "error"),
        ("receive", "billing", 2, "error"),
        ("receive", "billing", 3, "error"),
    ]
    last = told["attempts"][-1]
    assert (last["error_type"], last["error"], last["folded"]) == ("ValueError", "x", True)
    whole = await page.ask("error", message_id=message_id, event_id=last["event_id"])
    assert "in fail" in whole["traceback"]
    assert told["replay"] == {"ready": True, "reason": None}
    widget.message_id = None
    assert await page.ask("show") == {"message_id": None}


async def test_a_long_error_is_told_in_full_only_when_asked_for() -> None:
    message_id = await dead_message(b"y" * 5000)
    _, page = inspector(log, message_id)
    last = (await page.ask("show"))["attempts"][-1]
    assert len(last["error"]) == 300
    whole = await page.ask("error", message_id=message_id, event_id=last["event_id"])
    assert whole["error"] == "y" * 5000


async def test_a_long_body_comes_in_pieces_that_can_be_joined() -> None:
    body = bytes(range(256)) * 2000
    message_id = await dead_message(base64.b64encode(body))
    _, page = inspector(log, message_id)
    piece = (await page.ask("show"))["body"]
    joined = ""
    while True:
        joined += piece["base64"]
        have = len(base64.b64decode(joined))
        assert have <= piece["size"]
        if have == piece["size"]:
            break
        piece = await page.ask("body", message_id=message_id, at=have)
    assert base64.b64decode(base64.b64decode(joined)) == body


async def test_it_follows_the_message_and_those_around_it_and_sends_the_body_once() -> None:
    gate = asyncio.Event()
    audit = backend.topic("audit")
    keeper = backend.server("audit")

    async def keep(message: mv.Message) -> None:
        await asyncio.wait_for(gate.wait(), 5)

    async def charge(message: mv.Message) -> None:
        await audit.publish(b"done")

    keeper.start(keep)
    await backend.topic("orders").publish(b"x")
    message_id = log.messages.index[0]
    widget, page = inspector(log)
    await page.show()
    widget.message_id = message_id
    first = await page.until(lambda told: told["message_id"] == message_id)
    assert first["body"]["size"] == 1
    assert first["state"] == "pending"
    backend.server("orders").start(charge)
    child = await page.until(lambda told: told["children"] and told["children"][0]["state"] == "in_flight")
    assert "body" not in child
    gate.set()
    done = await page.until(lambda told: told["state"] == told["children"][0]["state"] == "ok")
    assert done["latency"] > 0

    await backend.topic("other").publish(b"of no concern")
    await asyncio.sleep(0.2)
    assert page.told.empty()


async def test_a_message_that_is_not_there_yet_is_told_when_it_comes() -> None:
    _, page = inspector(log, "later")
    await page.show()
    assert (await page.ask("show"))["missing"] == "The log has no message later."
    # Received here, published by a process of its own that observes too.
    backend.server("orders", max_attempts=1).start(fail)
    elsewhere = backend.open_topic("orders")
    await elsewhere.publish(b"x", attributes={"Msgviz-Id": "later.later."})
    told = await page.until(lambda told: "missing" not in told)
    assert told["state"] == "dead"
    assert told["published"] is None
    assert [attempt["operation"] for attempt in told["attempts"]] == ["receive"]
    assert base64.b64decode(told["body"]["base64"]) == b"x"


async def test_a_message_that_was_dropped_says_that_it_may_have_been() -> None:
    small = mv.MessageLog(max_events=8)
    topic = mv.observe(mv.connect("memory://").topic("t"), small)
    await topic.publish(b"x")
    message_id = small.messages.index[0]
    widget, page = inspector(small, message_id)
    await page.show()
    assert "missing" not in await page.ask("show")
    for _ in range(40):
        await topic.publish(b"x")
    told = await page.until(lambda told: "missing" in told)
    assert "older events that were dropped" in told["missing"]
    with pytest.raises(Refused, match="has no message"):
        await page.ask("body", message_id=message_id, at=0)
    assert "older events" in widget._repr_html_()


async def test_a_replay_tells_what_became_of_it() -> None:
    message_id = await dead_message()
    _, page = inspector(log, message_id)
    (entry,) = await page.ask("replay", message_id=message_id)
    assert (entry["subscription"], entry["status"]) == ("billing", "sent")
    assert log.detail(entry["replay_id"]).replay_of == message_id
    told = await page.ask("show")
    assert [link["id"] for link in told["replays"]] == [entry["replay_id"]]
    (again,) = await page.ask("replay", message_id="nobody")
    assert again["status"] == "skipped"
    assert again["reason"]


async def test_what_cannot_be_replayed_says_why() -> None:
    await backend.topic("orders").publish(b"x")
    _, page = inspector(log, log.messages.index[0])
    told = await page.ask("show")
    assert told["replay"]["ready"] is False
    assert "pending" in told["replay"]["reason"]


async def test_copy_calls_whoever_asked_for_it() -> None:
    message_id = await dead_message()
    widget, page = inspector(log, message_id)
    copied: list[mv.Message | Any] = []

    async def later(detail: Any) -> None:
        await asyncio.sleep(0)
        copied.append(detail)

    assert not widget._copies
    for callback in (copied.append, later):
        widget.on_copy(callback)
        assert widget._copies
        await page.ask("copy", message_id=message_id)
    assert [detail.message_id for detail in copied] == [message_id] * 2
    widget.on_copy(None)
    assert not widget._copies


async def test_the_static_form_shows_all_of_it_escaped() -> None:
    message_id = await dead_message(b"<script>", "<b>sub")
    widget, _ = inspector(log)
    assert "No message is selected" in widget._repr_html_()
    widget.message_id = message_id
    shown = widget._repr_html_()
    for part in (
        message_id,
        "dead",
        "&lt;script&gt;",
        "ValueError: &lt;script&gt;",
        "&lt;b&gt;sub",
        "web, app",
    ):
        assert part in shown
    assert "<script" not in shown
    assert "<b>" not in shown
    assert widget._repr_mimebundle_()[0]["text/html"] == shown
