"""Widgets bring what the browser calls, on whatever thread, to the loop of the cell that made them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import traitlets

from msgviz.log import MessageLog
from msgviz.widgets._base import Widget, body_content
from msgviz.widgets._bridge import Bridge
from msgviz.widgets.table import MessageTable

if TYPE_CHECKING:
    from collections.abc import Callable


def in_another_thread(call: Callable[..., object], *args: object) -> None:
    """Call as a kernel subshell does: in a thread with an event loop of its own."""

    async def called() -> None:
        call(*args)

    thread = threading.Thread(target=asyncio.run, args=(called(),))
    thread.start()
    thread.join()


class Errors(list[BaseException]):
    """What a bridge reported, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    def report(self, error: BaseException) -> None:
        self.append(error)
        self.came.set()


@pytest.fixture
async def errors() -> Errors:
    return Errors()


@pytest.fixture
async def bridge(errors: Errors) -> Any:
    bridge = Bridge(errors.report)
    yield bridge
    bridge.close()


async def test_a_handler_runs_on_the_loop_of_the_bridge(bridge: Bridge) -> None:
    where: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    in_another_thread(
        bridge.run, lambda: where.set_result((asyncio.get_running_loop(), threading.get_ident()))
    )
    assert await where == (asyncio.get_running_loop(), threading.get_ident())


async def test_a_coroutine_handler_is_awaited_on_the_loop(bridge: Bridge) -> None:
    done: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(value: str) -> None:
        await asyncio.sleep(0)
        done.put_nowait((value, asyncio.get_running_loop()))

    in_another_thread(bridge.run, handler, "x")
    assert await done.get() == ("x", asyncio.get_running_loop())


async def test_handlers_start_in_the_order_they_were_called(bridge: Bridge) -> None:
    order: asyncio.Queue[int] = asyncio.Queue()
    for number in range(10):
        in_another_thread(bridge.run, order.put_nowait, number)
    assert [await order.get() for _ in range(10)] == list(range(10))


async def test_errors_are_reported(bridge: Bridge, errors: Errors) -> None:
    def fail() -> None:
        raise ValueError("plain")

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise ValueError("later")

    for handler, text in ((fail, "plain"), (fail_later, "later")):
        errors.came.clear()
        in_another_thread(bridge.run, handler)
        await errors.came.wait()
        assert str(errors.pop()) == text


async def test_closing_cancels_tasks_without_a_report(bridge: Bridge, errors: Errors) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    bridge.run(wait)
    await started.wait()
    in_another_thread(bridge.close)
    await ended.wait()
    assert errors == []


async def test_a_closed_bridge_runs_nothing(bridge: Bridge) -> None:
    called: list[str] = []
    bridge.run(called.append, "under way when it closed")
    bridge.close()
    bridge.run(called.append, "after it closed")
    await asyncio.sleep(0.05)
    assert called == []


async def test_it_flushes_once_for_each_change_it_sees(bridge: Bridge) -> None:
    revision, looks, flushed = 0, asyncio.Queue[None](), asyncio.Queue[int]()

    def look() -> int:
        looks.put_nowait(None)
        return revision

    bridge.on_change(look, lambda: flushed.put_nowait(revision))
    assert await flushed.get() == 0
    revision = 1
    assert await flushed.get() == 1
    for _ in range(looks.qsize() + 3):
        await looks.get()
    assert flushed.empty()


async def test_a_flush_that_fails_is_reported_and_the_next_one_comes(bridge: Bridge, errors: Errors) -> None:
    revision, flushed = 0, asyncio.Event()

    def flush() -> None:
        if revision == 0:
            raise ValueError("first")
        flushed.set()

    bridge.on_change(lambda: revision, flush)
    await errors.came.wait()
    revision = 1
    await flushed.wait()
    assert [str(error) for error in errors] == ["first"]


async def test_a_slow_flush_is_not_started_twice(bridge: Bridge) -> None:
    revision, running, most = 0, 0, 0
    ended = asyncio.Queue[int]()

    def look() -> int:
        nonlocal revision
        revision += 1
        return revision

    async def flush() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.15)
        running -= 1
        ended.put_nowait(revision)

    bridge.on_change(look, flush)
    await ended.get()
    await ended.get()
    assert most == 1


async def test_closing_ends_the_flushing(bridge: Bridge) -> None:
    looks = 0

    def look() -> int:
        nonlocal looks
        looks += 1
        return looks

    flushed = asyncio.Queue[None]()
    bridge.on_change(look, lambda: flushed.put_nowait(None))
    await flushed.get()
    bridge.close()
    seen = looks
    await asyncio.sleep(0.2)
    assert looks == seen


def test_without_a_loop_it_says_where_to_make_widgets() -> None:
    bridge = Bridge(lambda _error: None)
    assert not bridge.has_loop
    bridge.on_change(lambda: 0, lambda: None)
    with pytest.raises(RuntimeError, match="in a notebook cell"):
        bridge.run(lambda: None)
    bridge.close()


# -- widgets on the bridge ---------------------------------------------------------------------------------


class Greeter(Widget):
    """Says what it is told."""

    _esm = "export default {}"
    name = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: object) -> None:
        super().__init__(**traits)
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.named: asyncio.Queue[Any] = asyncio.Queue()
        self.handle("greet", self.greet)
        self.handle_trait("name", lambda name: self.named.put_nowait((name, threading.get_ident())))

    async def greet(self, *, text: str) -> dict[str, object]:
        if not text:
            raise ValueError("say <something>")
        return {"text": text, "thread": threading.get_ident()}

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.put_nowait(content)

    def browser_sends(self, content: dict[str, object]) -> None:
        in_another_thread(self._handle_custom_msg, content, [])


@pytest.fixture
async def greeter() -> Any:
    greeter = Greeter()
    yield greeter
    greeter.close()


async def test_a_request_is_answered(greeter: Greeter) -> None:
    greeter.browser_sends({"op": "greet", "id": "1", "text": "ada"})
    value = {"text": "ada", "thread": threading.get_ident()}
    assert await greeter.sent.get() == {"op": "reply", "id": "1", "value": value}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"op": "greet", "text": ""}, "ValueError: say <something>"),
        ({"op": "unknown"}, "KeyError: 'unknown'"),
        ({"op": "greet"}, "missing 1 required keyword-only argument: 'text'"),
    ],
)
async def test_an_error_goes_back_to_the_request_or_on_top(
    greeter: Greeter, message: dict[str, object], error: str
) -> None:
    greeter.browser_sends({**message, "id": "2"})
    reply = await greeter.sent.get()
    assert reply["id"] == "2"
    assert error in reply["error"]
    assert greeter._problem == ""
    shown: asyncio.Queue[str] = asyncio.Queue()
    greeter.observe(lambda change: shown.put_nowait(change["new"]), "_problem")
    greeter.browser_sends(message)
    assert error in await shown.get()


async def test_a_change_of_a_trait_comes_on_the_loop(greeter: Greeter) -> None:
    in_another_thread(setattr, greeter, "name", "ada")
    assert await greeter.named.get() == ("ada", threading.get_ident())


async def test_it_knows_whether_a_browser_shows_it(greeter: Greeter) -> None:
    assert not greeter.shown
    for view, shown, expected in (
        ("a", True, True),
        ("b", True, True),
        ("a", False, True),
        ("b", False, False),
    ):
        greeter.browser_sends({"op": "view", "id": "", "view": view, "shown": shown})
        await greeter.sent.get()
        assert greeter.shown is expected


async def test_an_unknown_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="'nmae'"):
        Greeter(nmae="ada")
    with pytest.raises(TypeError, match="'qeury'"):
        MessageTable(MessageLog(), qeury="size > 1")  # type: ignore[call-arg]


async def test_it_has_a_form_without_a_kernel(greeter: Greeter) -> None:
    data, _ = greeter._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "Greeter" in data["text/html"]


def test_bodies_for_the_browser() -> None:
    assert body_content(None) is None
    assert body_content(b"abc") == {"base64": "YWJj", "size": 3}
    assert body_content(b"abcdef", limit=3) == {"base64": "YWJj", "size": 6}
