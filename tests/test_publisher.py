"""What the Publisher does in the kernel: publishing what the form holds, and filling it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import msgviz as mv

pytest.importorskip("anywidget")

import traitlets

from msgviz.decorators import base64 as base64_pair
from msgviz.observing import ID_ATTRIBUTE
from tests.pages import Page, Refused

log: mv.MessageLog
backend: mv.Backend
made: list[mv.Publisher] = []


@pytest.fixture(autouse=True)
async def _flow() -> AsyncIterator[None]:
    global log, backend  # noqa: PLW0603
    log = mv.MessageLog()
    backend = mv.observe(mv.connect("memory://"), log)
    yield
    while made:
        made.pop().close()
    await backend.close()


def publisher(*args: Any, **options: Any) -> tuple[mv.Publisher, Page]:
    widget = mv.Publisher(*args, **options)
    made.append(widget)
    return widget, Page(widget)


async def publish(widget: mv.Publisher, page: Page, text: str = "x", **form: Any) -> dict[str, Any]:
    await page.ask("publish", form={**widget._form, "count": "1", "kind": "text", "text": text, **form})
    result: dict[str, Any] = widget._result
    return result


async def test_several_values_of_a_key_arrive_in_their_order() -> None:
    widget, page = publisher(backend.topic("orders"))
    rows = [["tag", "a"], ["", ""], ["Source", "web"], ["TAG", "b"]]
    result = await publish(widget, page, "é", attributes=rows)
    (event,) = log.events.itertuples()
    assert event.body == "é".encode()
    assert {k: v for k, v in event.attributes.items() if k != ID_ATTRIBUTE} == {
        "Tag": ["a", "b"],
        "Source": ["web"],
    }
    assert result["status"] == "ok"
    assert result["size"] == 2
    assert result["message_id"] == event.message_id == widget.message_id


async def test_the_id_is_that_of_the_message_through_decorators_and_two_logs() -> None:
    inner = mv.MessageLog()
    topic = mv.observe(mv.connect("memory://").topic("t"), inner)
    widget, page = publisher(mv.observe(base64_pair.encoder(topic), log))
    result = await publish(widget, page)
    assert [*log.messages.index] == [*inner.messages.index] == [result["message_id"]]
    assert inner.detail(result["message_id"]).body == b"eA=="


async def test_the_trace_of_a_message_is_its_conversation() -> None:
    widget, page = publisher(backend.topic("orders"))
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    result = await publish(widget, page, attributes=[["traceparent", trace]])
    assert log.detail(result["message_id"]).conversation_id == "ab" * 16


async def test_an_id_that_no_log_knows_is_not_shown() -> None:
    class Renamed(mv.TopicDecorator):
        async def send(self, message: mv.Message, delay: float) -> None:
            await self.next.send(mv.Message(message.body + b"!"), delay)

    widget, page = publisher(Renamed(backend.topic("orders")))
    result = await publish(widget, page)
    assert log.events["body"].tolist() == [b"x!"]
    assert result["message_id"] is None

    widget, page = publisher(mv.connect("memory://").topic("unseen"))
    assert (await publish(widget, page))["message_id"] is None
    assert len(log) == 1


async def test_with_a_log_what_is_published_is_recorded_in_it() -> None:
    widget, page = publisher(mv.connect("memory://").topic("unseen"), log)
    for _ in range(2):
        result = await publish(widget, page)
    assert [*log.messages.index][1] == result["message_id"]
    assert [*log.topics] == ["unseen"]

    orders = backend.topic("orders")
    widget, page = publisher(orders, log=log)
    await publish(widget, page)
    assert len(log) == 3
    assert log.topics["orders"] is orders


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"kind": "json", "text": "{"}, "JSONDecodeError"),
        ({"kind": "json", "text": "[NaN]"}, "NaN is no JSON"),
        ({"kind": "file"}, "choose a file first"),
        ({"attributes": [["", "v"]]}, "'v' has no key"),
        ({"attributes": [["msgviz-id", "a.b.c"]]}, "set by the log"),
        ({"delay": "soon"}, "a delay is a number of seconds"),
        ({"delay": "nan"}, "a delay is a number of seconds"),
        ({"count": "0"}, "a whole number from 1 on"),
        ({"count": "1.5"}, "a whole number from 1 on"),
    ],
)
async def test_a_form_with_a_mistake_publishes_nothing(form: dict[str, Any], error: str) -> None:
    widget, page = publisher(backend.topic("orders"))
    with pytest.raises(Refused, match=error):
        await publish(widget, page, **form)
    assert len(log) == 0
    assert widget._form | form == widget._form  # what was typed is still there


async def test_a_delay_is_kept_or_its_refusal_shown() -> None:
    class Prompt(mv.Topic):
        name = "prompt"

        async def send(self, message: mv.Message, delay: float) -> None:
            if delay:
                raise mv.Unsupported("prompt", f"cannot delay by {delay} s")

    widget, page = publisher(Prompt())
    assert (await publish(widget, page))["status"] == "ok"
    result = await publish(widget, page, delay=" 1.5 ")
    assert result["status"] == "failed"
    assert result["error"] == {"type": "Unsupported", "text": "prompt: cannot delay by 1.5 s"}
    assert widget._form["text"] == "x"


async def test_a_failure_on_the_way_says_how_many_were_published() -> None:
    class Third(mv.TopicDecorator):
        sent = 0

        async def send(self, message: mv.Message, delay: float) -> None:
            if self.sent == 2:
                raise mv.WriterClosed
            self.sent += 1
            await self.next.send(message, delay)

    widget, page = publisher(Third(backend.topic("orders")))
    result = await publish(widget, page, count="5")
    assert (result["status"], result["done"], result["total"]) == ("failed", 2, 5)
    assert result["error"]["type"] == "WriterClosed"
    assert len(log) == 2


async def test_many_are_published_while_the_loop_stays_free_until_they_are_stopped() -> None:
    widget, page = publisher(backend.topic("orders"))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    publishing = asyncio.create_task(publish(widget, page, count="100000000"))
    async with asyncio.timeout(10):
        while not widget._result or widget._result["done"] == 0:
            await asyncio.sleep(0.01)
    assert widget._result["status"] == "publishing"
    with pytest.raises(Refused, match="still publishing"):
        await publish(widget, page)
    assert turns > 5
    await page.ask("stop")
    result = await publishing
    counting.cancel()
    assert result["status"] == "stopped"
    assert 0 < result["done"] == len(log)
    assert (await publish(widget, page))["status"] == "ok"


async def test_a_publish_that_hangs_can_be_stopped() -> None:
    class Stuck(mv.Topic):
        name = "stuck"

        async def send(self, message: mv.Message, delay: float) -> None:
            await asyncio.Event().wait()

    widget, page = publisher(Stuck())
    publishing = asyncio.create_task(publish(widget, page))
    async with asyncio.timeout(10):
        while not widget._result:
            await asyncio.sleep(0.01)
    await page.ask("stop")
    assert (await publishing)["status"] == "stopped"


# -- filling the form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": 1}', "json"),
        (b" [1,\r\n 12345678901234567890]", "json"),
        (b"12", "text"),
        (b"{", "text"),
        (b"[NaN]", "text"),
        (b"[" * 100_000, "text"),
        (b"", "text"),
        ("é\n".encode(), "text"),
        (b"a\r\nb\r\n", "text"),
        (b"a\r\nb\n", "file"),
        (b"a\rb", "file"),
        (b"a\0b", "file"),
        (b"\xff", "file"),
        (b"x" * (256 * 1024 + 1), "file"),
        ("\ufeff{}".encode(), "text"),
    ],
)
async def test_a_copied_message_is_published_as_it_was(body: bytes, kind: str) -> None:
    orders = backend.topic("orders")
    await orders.publish(body, attributes={"Tag": ["a", "b"], "Source": "web"})
    original = log.detail(log.messages.index[0])
    widget, page = publisher(orders)
    widget.fill(original)
    assert widget._form["kind"] == kind
    assert widget._form["source"] == original.message_id
    await page.ask("publish", form=widget._form)
    copy = log.detail(widget.message_id or "")
    assert copy.body == body
    ids = (original.attributes.pop(ID_ATTRIBUTE), copy.attributes.pop(ID_ATTRIBUTE))
    assert ids[0] != ids[1]
    assert copy.attributes == original.attributes
    assert copy.conversation_id != original.conversation_id


async def test_fill_chooses_the_topic_of_the_message_where_it_is_offered() -> None:
    one, two, other = (backend.topic(name) for name in ("one", "two", "other"))
    widget, _ = publisher([one, two])
    for topic in (two, other):
        await topic.publish(b"x")
    first, second = log.messages.index
    widget.fill(log.detail(first))
    assert widget.topic == "two"
    widget.fill(log.detail(second))
    assert widget.topic == "two"
    widget.fill(mv.Message(b"y", {"K": "v"}))
    assert widget._form["attributes"] == [["K", "v"]]


async def test_what_was_typed_before_the_form_was_filled_does_not_undo_that() -> None:
    widget, _ = publisher(backend.topic("one"))
    typed = {**widget._form, "text": "half a thought"}
    widget.fill(mv.Message(b"y", {"K": "v"}))
    filled = widget._form
    widget.set_state({"_form": typed})  # as the browser sends it
    assert widget._form == filled
    widget.set_state({"_form": {**filled, "text": "another"}})
    assert widget._form["text"] == "another"


async def test_a_message_without_a_body_cannot_be_copied() -> None:
    small = mv.MessageLog(max_body=2)
    topic = mv.observe(mv.connect("memory://").topic("t"), small)
    await topic.publish(b"long")
    widget, _ = publisher(topic)
    with pytest.raises(LookupError, match="did not keep the body"):
        widget.fill(small.detail(small.messages.index[0]))


async def test_a_file_comes_in_pieces() -> None:
    widget, page = publisher(backend.topic("orders"))
    content = bytes(range(256)) * 10

    def piece(at: int) -> dict[str, Any]:
        data = base64.b64encode(content[at : at + 1000]).decode()
        return {"name": "a.bin", "size": len(content), "at": at, "data": data}

    assert await page.ask("upload", **piece(0)) is None
    assert await page.ask("upload", **piece(1000)) is None
    file = await page.ask("upload", **piece(2000))
    await publish(widget, page, kind="file", file=file)
    assert log.events["body"].tolist() == [content]
    with pytest.raises(Refused, match="choose it once more"):
        await page.ask("upload", **piece(1000))
    with pytest.raises(Refused, match=r"larger than 67\.1 MB"):
        await page.ask("upload", **{**piece(0), "size": 1 << 40})


# -- topics ------------------------------------------------------------------------------------------------


async def test_topics_may_be_one_several_a_mapping_a_function_or_those_of_a_log() -> None:
    one, two = backend.topic("one"), backend.topic("two")

    def later() -> Iterator[mv.Topic]:
        yield two

    for given, names in (
        (one, ["one"]),
        ([one, two], ["one", "two"]),
        ({"x": two}, ["two"]),
        (later, ["two"]),
        ([one, mv.connect("memory://").topic("one")], ["one", "one (2)"]),
        ([], []),
    ):
        widget, _ = publisher(given)
        assert widget.topics == names
        assert widget.topic == (names[0] if names else "")
    widget, page = publisher(log=log)
    assert widget.topics == ["one", "two"]
    backend.topic("three")
    async with asyncio.timeout(10):
        while widget.topics != ["one", "two", "three"]:
            await asyncio.sleep(0.01)
    widget.topic = "three"
    await publish(widget, page)
    assert log.events["topic"].tolist() == ["three"]
    with pytest.raises(traitlets.TraitError, match="'one', 'two', 'three'"):
        widget.topic = "four"


@pytest.mark.parametrize("wrong", [7, "orders", [7]])
async def test_what_is_no_topic_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="Publisher takes"):
        mv.Publisher(wrong)
    with pytest.raises(TypeError, match="Publisher takes"):
        mv.Publisher()


async def test_without_a_topic_it_says_so() -> None:
    widget, page = publisher([])
    with pytest.raises(Refused, match="no topic to publish to yet"):
        await publish(widget, page)


async def test_the_static_form_shows_what_is_written_escaped() -> None:
    widget, _ = publisher(mv.connect("memory://").topic("<b>t"))
    assert "Nothing is written yet" in widget._repr_html_()
    widget.fill(mv.Message(b"<img src=x>", {"<i>": "<script>"}))
    shown = widget._repr_html_()
    assert "&lt;img src=x&gt;" in shown
    assert not any(tag in shown for tag in ("<img", "<script", "<i>", "<b>"))
