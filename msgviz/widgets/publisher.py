"""Publisher: a form that publishes messages."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import traitlets

from msgviz import html
from msgviz.message import Message, preview
from msgviz.observing import observe
from msgviz.observing.identity import ID_ATTRIBUTE, conversation_of, new_id, publishing
from msgviz.topic import Topic
from msgviz.widgets._base import STATIC, Widget

if TYPE_CHECKING:
    from msgviz.log import MessageLog
    from msgviz.observing.detail import Attempt, MessageDetail
    from msgviz.observing.recorder import Recorder

Topics: TypeAlias = "Topic | Iterable[Topic] | Mapping[str, Topic] | Callable[[], Iterable[Topic]]"

MAX_FILE = 64 * 1024 * 1024
"""Bytes of the largest file that can be chosen as a body."""

MAX_TEXT = 256 * 1024
"""Bytes of the largest body that is put into the form as text; larger ones are kept as a file is."""

_TURN = 0.005  # seconds of publishing after which others get their turn on the loop
_PATIENCE = 1.0  # seconds that a publish gets to end when the person stops it
_SHOW = 0.15  # seconds after which, and then between which, progress is shown


class Publisher(Widget):
    """A form to write a message in, and to publish it, once or many times.

    `topic`: a topic, several to choose from, or a function that gives them anew whenever it is called;
    nothing for all that `log` can publish to. With a `log`, what is published is recorded in it, also
    where the topic is not observed. `message_id` is the id of the last message published, where a log
    observes the topic.
    """

    _esm = STATIC / "publisher.js"
    _css = STATIC / "publisher.css"

    topics = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """The names of the topics to choose from."""
    topic = traitlets.Unicode("").tag(sync=True)
    """The name of the chosen topic; empty where there is none."""
    message_id = traitlets.Unicode(None, allow_none=True)
    """The id of the last message published; None where no log observes the topic."""
    _form = traitlets.Dict().tag(sync=True)
    _result = traitlets.Any(None).tag(sync=True)
    _max_file = traitlets.Int(MAX_FILE).tag(sync=True)

    def __init__(self, topic: Topics | None = None, log: MessageLog | None = None) -> None:
        if topic is None:
            if log is None:
                raise TypeError("Publisher takes a topic, several topics, or a log whose topics it offers")
            topic = lambda: list(log.topics.values())  # noqa: E731
        self._log = log
        self._source = _source(topic)
        self._observed: dict[int, Topic] = {}
        self._files: dict[int, bytes] = {}
        self._upload = bytearray()
        self._newest: dict[str, Any] = {}  # form: a trait that the browser sets is set before it is validated
        self._running: asyncio.Task[object] | None = None
        self._run: _Run | None = None
        names = list(self._offered())
        super().__init__(topics=names, topic=names[0] if names else "", _form=_blank())
        self.handle("publish", self._publish)
        self.handle("stop", self._stop)
        self.handle("upload", self._receive_file)
        if callable(topic):
            self.bridge.on_change(lambda: list(self._offered()), self._refresh)

    @traitlets.validate("_form")
    def _keep_newer(self, proposal: Mapping[str, Any]) -> dict[str, Any]:
        """What was typed before the form was filled may get here after it, and is no news."""
        form: dict[str, Any] = proposal["value"]
        if form.get("filled", 0) >= self._newest.get("filled", 0):
            self._newest = form
        return self._newest

    @traitlets.validate("topic")
    def _check_topic(self, proposal: Mapping[str, Any]) -> str:
        name: str = proposal["value"]
        if name and name not in self._offered():
            offered = ", ".join(map(repr, self._offered())) or "none yet"
            raise traitlets.TraitError(f"there is no topic {name!r} to choose: {offered}")
        return name

    def fill(self, message: Message | MessageDetail | Attempt) -> None:
        """Copy a message, as the log has it or any other, into the form, and choose its topic if offered.

        The identity a log has given it (`Msgviz-Id`) stays behind. A body that is no text, or a long one,
        is kept as the content of a file is. `LookupError` where the log did not keep the body.
        """
        if message.body is None:
            raise LookupError("the log did not keep the body of this message: there is nothing to copy")
        attributes = message.attributes
        rows = [
            [key, value]
            for key in attributes
            if key != ID_ATTRIBUTE
            for value in (attributes[key] if isinstance(attributes, dict) else attributes.get_all(key))
        ]
        source = getattr(message, "message_id", None)
        kind, text, crlf = _as_text(message.body)
        file = None
        if kind == "file":
            file = self._keep_file(message.body, f"body of {source}" if source else "body")
        topic = getattr(message, "topic", None)
        if topic in self._offered():
            self._refresh()
            self.topic = topic
        self._form = {
            **_blank(),
            "filled": self._form["filled"] + 1,
            "kind": kind,
            "text": text,
            "crlf": crlf,
            "file": file,
            "attributes": rows,
            "source": source or "a message",
        }

    def _offered(self) -> dict[str, Topic]:
        """The topics to choose from by name; a name that comes again gets a number."""
        offered: dict[str, Topic] = {}
        for topic in self._source():
            name, number = topic.name, 1
            while name in offered:
                number += 1
                name = f"{topic.name} ({number})"
            offered[name] = topic
        return offered

    def _refresh(self) -> None:
        names = list(self._offered())
        with self.hold_sync():
            self.topics = names
            if self.topic not in names:
                self.topic = names[0] if names else ""

    def _chosen(self) -> Topic:
        topic = self._offered().get(self.topic)
        if topic is None:
            raise LookupError("there is no topic to publish to yet: make one with backend.topic(...)")
        if self._log is None or _observer(topic, self._log) is not None:
            return topic
        if id(topic) not in self._observed:
            self._observed[id(topic)] = observe(topic, self._log)
        return self._observed[id(topic)]

    # -- publishing ------------------------------------------------------------------------------------

    async def _publish(self, *, form: dict[str, Any]) -> None:
        if self._running is not None and not self._running.done():
            raise RuntimeError("still publishing: wait for it, or stop it")
        self._form = {**form, "source": None}
        topic = self._chosen()
        body, attributes = self._body(form), _attributes(form["attributes"])
        delay, count = _delay(form["delay"]), _count(form["count"])
        self._run = _Run(self, topic, len(body), count)
        self._running = self.bridge.spawn(self._publish_copies(self._run, body, attributes, delay))
        await asyncio.wait([self._running])

    def _body(self, form: Mapping[str, Any]) -> bytes:
        if form["kind"] == "file":
            body = self._files.get(form["file"]["id"]) if form["file"] else None
            if body is None:
                raise LookupError("choose a file first")
            return body
        text: str = form["text"]
        if form["kind"] == "json":
            json.loads(text, parse_constant=_refuse_constant)
        return (text.replace("\n", "\r\n") if form["crlf"] else text).encode()

    async def _publish_copies(
        self, run: _Run, body: bytes, attributes: dict[str, list[str]], delay: float
    ) -> None:
        recorder = _observer(run.topic)
        message_id = None
        turn = time.monotonic()
        try:
            while run.done < run.total and not run.stopping:
                message = Message(body, attributes)
                if recorder is None:
                    await run.topic.send(message, delay)
                else:
                    message_id = new_id()
                    await _send_as(run.topic, message, delay, message_id)
                run.done += 1
                if time.monotonic() - turn > _TURN:
                    await asyncio.sleep(0)
                    turn = time.monotonic()
        except asyncio.CancelledError:
            run.end("stopped", _known(recorder, message_id))
            raise
        except Exception as error:  # noqa: BLE001  whatever a backend raises is shown to the person
            run.end("failed", _known(recorder, message_id), error)
        else:
            known = _known(recorder, message_id)
            run.end("ok" if run.done == run.total else "stopped", known)
            self.message_id = known

    async def _stop(self) -> None:
        """Publish no further copy; one that hangs is cancelled, and may or may not have been published."""
        task, run = self._running, self._run
        if task is not None and run is not None:
            run.stopping = True
            await asyncio.wait([task], timeout=_PATIENCE)
            task.cancel()

    # -- files -----------------------------------------------------------------------------------------

    def _receive_file(self, *, name: str, size: int, at: int, data: str) -> dict[str, Any] | None:
        """Take one piece of a file, `at` this many bytes from its start; the last one gives its number."""
        if size > MAX_FILE:
            raise ValueError(f"{name} is larger than {html.size(MAX_FILE)}")
        if at == 0:
            self._upload = bytearray()
        if at != len(self._upload):
            raise RuntimeError(f"{name} did not arrive whole: choose it once more")
        self._upload += base64.b64decode(data)
        if len(self._upload) < size:
            return None
        content, self._upload = bytes(self._upload), bytearray()
        return self._keep_file(content, name)

    def _keep_file(self, content: bytes, name: str) -> dict[str, Any]:
        number = max(self._files, default=0) + 1
        # Two are kept, so that what `fill` replaced can be had back.
        self._files = {k: v for k, v in self._files.items() if k == number - 1}
        self._files[number] = content
        return {"id": number, "name": name, "size": len(content)}

    def _repr_html_(self) -> str:
        form = self._form
        where = ", ".join(self.topics) or "no topic yet"
        file = self._files.get(form["file"]["id"]) if form["file"] else None
        body = file if form["kind"] == "file" else form["text"].encode("utf-8", "replace")
        rows = [(key, html.code(value)) for key, value in form["attributes"] if key or value]
        return html.card(
            f"Publisher: {where}",
            html.block(preview(body, 4000)) if body else html.quiet("Nothing is written yet."),
            html.table(("attribute", "value"), rows) if rows else "",
            html.quiet("Run this notebook to publish."),
        )


class _Run:
    """One click of Publish: how far it is, shown while it takes long, and how it ended."""

    def __init__(self, widget: Publisher, topic: Topic, size: int, total: int) -> None:
        self.topic = topic
        self.total = total
        self.done = 0
        self.stopping = False
        self._widget = widget
        self._size = size
        self._began = time.monotonic()
        self._at = time.time()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_SHOW, self._show)

    def _tell(self, status: str, **more: Any) -> None:
        self._widget._result = {
            "status": status,
            "topic": self.topic.name,
            "done": self.done,
            "total": self.total,
            "size": self._size,
            "time": self._at * 1000,
            "seconds": time.monotonic() - self._began,
            "message_id": None,
            "error": None,
            **more,
        }

    def _show(self) -> None:
        self._tell("publishing")
        self._timer = self._loop.call_later(_SHOW, self._show)

    def end(self, status: str, message_id: str | None, error: Exception | None = None) -> None:
        """Show how it ended."""
        self._timer.cancel()
        said = None if error is None else {"type": type(error).__name__, "text": str(error)}
        self._tell(status, message_id=message_id, error=said)


async def _send_as(topic: Topic, message: Message, delay: float, message_id: str) -> None:
    """Send a message to an observed topic under an id of our own, so that it can be found in the log."""
    message.tag = f"{conversation_of(message.freeze(), message_id)}.{message_id}."
    token = publishing.set(message.tag)
    try:
        await topic.send(message, delay)
    finally:
        publishing.reset(token)


def _known(recorder: Recorder | None, message_id: str | None) -> str | None:
    """The id, if the log has it: a layer further out may have sent another message instead."""
    if recorder is None or message_id is None:
        return None
    try:
        recorder.states([message_id])
    except KeyError:
        return None
    return message_id


def _observer(topic: Topic, log: Recorder | None = None) -> Recorder | None:
    """The log that observes a topic at some layer, or None; with `log`, whether it is that one."""
    layer: Any = topic
    while layer is not None:
        recorder: Recorder | None = getattr(layer, "observed_by", None)
        if recorder is not None and (log is None or recorder is log):
            return recorder
        layer = getattr(layer, "next", None)
    return None


def _source(topic: Topics) -> Callable[[], Iterator[Topic]]:
    """A function that gives the topics, each checked."""
    if isinstance(topic, Topic):
        fixed: Any = [topic]
    elif callable(topic):
        fixed = None
    elif isinstance(topic, Iterable) and not isinstance(topic, str):
        fixed = topic if isinstance(topic, Mapping) else list(topic)
    else:
        raise TypeError(f"Publisher takes a topic or several, not {type(topic).__name__}: {topic!r}")

    def topics() -> Iterator[Topic]:
        given = topic() if fixed is None else fixed  # type: ignore[operator]
        for one in given.values() if isinstance(given, Mapping) else given:
            if not isinstance(one, Topic):
                raise TypeError(f"Publisher takes topics, not {type(one).__name__}: {one!r}")
            yield one

    return topics


def _blank() -> dict[str, Any]:
    return {
        "kind": "json",
        "text": "",
        "crlf": False,
        "file": None,
        "attributes": [],
        "delay": "0",
        "count": "1",
        "source": None,
        "filled": 0,  # how often `fill` did, by which what was typed before it is known
    }


def _as_text(body: bytes) -> tuple[str, str, bool]:
    """How a body goes into the form unchanged: as `json`, `text` or `file`; its text; if lines end CRLF."""
    if len(body) > MAX_TEXT:
        return "file", "", False
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "file", "", False
    # A text field knows one kind of line end. One that holds another is kept beside it; a mixture cannot be.
    plain = text.replace("\r\n", "\n")
    crlf = plain != text
    if "\r" in plain or "\0" in plain or plain.replace("\n", "\r\n" if crlf else "\n") != text:
        return "file", "", False
    if plain.lstrip()[:1] in ("{", "["):
        try:
            json.loads(plain, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return "text", plain, crlf
        return "json", plain, crlf
    return "text", plain, crlf


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _attributes(rows: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    attributes: dict[str, list[str]] = {}
    for key, value in rows:
        if not key and not value:
            continue
        if not key.strip():
            raise ValueError(f"the attribute of value {value!r} has no key")
        if key.lower() == ID_ATTRIBUTE.lower():
            raise ValueError(f"{ID_ATTRIBUTE} is set by the log that observes the topic: remove it")
        attributes.setdefault(key, []).append(value)
    return attributes


def _delay(text: str) -> float:
    try:
        seconds = float(text.strip() or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a delay is a number of seconds from 0 on, not {text!r}")
    return seconds


def _count(text: str) -> int:
    text = text.strip() or "1"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"how many is a whole number from 1 on, not {text!r}")
    return int(text)
