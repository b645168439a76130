"""Checks of what is in a message: its body and attributes arrive as they were sent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from msgviz.attributes import Attributes
from msgviz.errors import Unsupported, WriterClosed
from msgviz.message import Message
from msgviz.testing.check import BINARY, SEVERAL_VALUES, Need, check
from msgviz.testing.harness import bare
from msgviz.testing.scene import Scene, clipped, numbered, shown

_LIMITED_BODY = Need(lambda h, f: f.max_body is not None, "a body may have any size")
_LIMITED_ATTRIBUTES = Need(
    lambda h, f: f.max_attributes is not None, "a message may have any number of attributes"
)
_TEXT_ONLY = Need(lambda h, f: not f.binary_body, "a body may be any bytes")
_ONE_VALUE = Need(lambda h, f: not f.multi_valued_attributes, "an attribute may have several values")

_PLENTY = 16 * 1024 * 1024  # bytes: to encode more of them takes longer than the check is worth


async def _round_trip(
    scene: Scene, messages: Sequence[tuple[str, bytes, Mapping[str, str | Sequence[str]]]]
) -> None:
    """Send messages one after the other, each when the one before was received; compare."""
    name = scene.name_of()
    topic, inbox = scene.backend.topic(name), scene.inbox()
    scene.start(name, inbox)
    for number, (what, body, attributes) in enumerate(messages):
        await topic.publish(body, attributes=attributes)
        await scene.until(lambda n=number: len(inbox.got) > n, f"{what} never came")  # type: ignore[misc]
        scene.same(inbox.got[number], body, Attributes(attributes).to_dict(), what)
    scene.expect(
        len(inbox.got) == len(messages),
        f"{len(messages)} messages came as {len(inbox.got)}: {shown(inbox.bodies)}",
    )


@check("text bodies")
async def _text_bodies(scene: Scene) -> None:
    """A body of text arrives byte for byte, whatever characters and line ends are in it."""
    texts = [
        "hello",
        " ",
        "\n",
        "a\r\nb\r\n",
        '{"amount": 12}',
        "ünï¢öde 測試 🚀",
        "%s %d {} \\n $HOME <b>&amp;",
    ]
    texts += ["x" * scene.size(70_000), "null", "0", '"']
    await _round_trip(scene, [(f"the body {clipped(text, 30)}", text.encode(), {}) for text in texts])


@check("empty body")
async def _empty_body(scene: Scene) -> None:
    """An empty body is a message like any other, with and without attributes."""
    await _round_trip(
        scene,
        [
            ("an empty body with an attribute", b"", {"Kind": "empty"}),
            ("an empty body without attributes", b"", {}),
            ("a body after an empty one", b"full", {}),
        ],
    )


@check("binary bodies", BINARY)
async def _binary_bodies(scene: Scene) -> None:
    """A body of any bytes arrives byte for byte: zeros, every byte there is, no valid UTF-8."""
    bodies = [b"\0", b"\0\0\0\0", bytes(range(256)), b"\xff\xfe\xfd", b"\xc3(", b"\x80abc", b"caf\xe9"]
    bodies += [b"\x1f\x8b\x08\0", b'\x04"M\x18', os.urandom(scene.size(10_000)), b"\xed\xa0\x80", b"end\0"]
    await _round_trip(scene, [(f"the body {clipped(body, 30)}", body, {}) for body in bodies])


@check("binary bodies are refused", _TEXT_ONLY)
async def _binary_refused(scene: Scene) -> None:
    """Where a body is text only, other bytes raise Unsupported or ValueError, and nothing is sent."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    await scene.raises(
        (Unsupported, ValueError), lambda: topic.publish(b"\xff\xfe"), "publishing a body that is no text"
    )
    await topic.publish(b"text")
    await inbox.passes([b"text"])


@check("largest body")
async def _largest_body(scene: Scene) -> None:
    """The largest body that `features` and the harness name arrives byte for byte, with an attribute."""
    body = largest(scene)
    await _round_trip(scene, [(f"a body of {len(body)} bytes", body, {"Kind": "large"})])


def largest(scene: Scene) -> bytes:
    """A body as large as the system and the harness allow."""
    room, wanted = scene.features.max_body, scene.harness.largest_body
    size = wanted if room is None else min(room, wanted)
    return os.urandom(size) if scene.features.binary_body else b"0" * size


@check("too large a body", _LIMITED_BODY)
async def _too_large(scene: Scene) -> None:
    """A body past the limit raises ValueError, nothing is sent, and the next message goes through."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    inner = bare(scene.backend)
    most = inner.features.max_body or 0
    size = most + 1
    if size > _PLENTY:
        target, body = inner.topic(topic.name), bytes(size)
    else:  # no decorator makes it smaller
        target, body = topic, os.urandom(size) if scene.features.binary_body else b"x" * size
    error = await scene.raises(ValueError, lambda: target.publish(body), f"publishing a body of {size} bytes")
    scene.expect(str(most) in str(error), f"the error does not name the limit of {most} bytes: {error}")
    await topic.publish(b"small")
    await inbox.passes([b"small"])


@check("attributes")
async def _attributes(scene: Scene) -> None:
    """Attributes arrive as they were sent, under canonical keys, and none is lost or made up."""
    await _round_trip(
        scene,
        [
            ("a message with attributes", b"1", {"source": "web", "X-Request-ID": "17", "priority": "high"}),
            ("a message without attributes", b"2", {}),
            ("other attributes", b"3", {"Source": "shop"}),
        ],
    )


@check("several values", SEVERAL_VALUES)
async def _several_values(scene: Scene) -> None:
    """All values of an attribute arrive, in their order."""
    await _round_trip(
        scene,
        [
            ("an attribute of two values", b"1", {"Color": ["red", "green"]}),
            ("values that are alike", b"2", {"Color": ["red", "red", ""], "Size": "L"}),
            ("values like those of other formats", b"3", {"A": ["a,b", "c;d", '["x"]'], "B": ["", ""]}),
            ("one value after several", b"4", {"Color": "blue"}),
            ("many values", b"5", {"Number": [str(number) for number in range(20)]}),
        ],
    )


@check("several values are refused", _ONE_VALUE)
async def _several_refused(scene: Scene) -> None:
    """Where an attribute has one value, several raise Unsupported or ValueError, and nothing is sent."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    await scene.raises(
        (Unsupported, ValueError),
        lambda: topic.publish(b"two", attributes={"Color": ["red", "green"]}),
        "publishing an attribute of two values",
    )
    await topic.publish(b"one", attributes={"Color": "red"})
    await inbox.passes([b"one"])


_ODD_VALUES = {
    "empty": "",
    "a space": " ",
    "spaces around": "  x  ",
    "line ends": "a\r\nb\n",
    "a tab": "a\tb",
    "quotes": "\"'`",
    "other scripts": "ünï¢öde 測試 🚀",
    "JSON": '{"a": [1, null]}',
    "a JSON list": '["a", "b"]',
    "separators": "a=b;c,d:e|f&g",
    "percent": "%00%20",
    "no number": "NaN",
    "a long one": "v" * 1000,
    "control characters": "\x01\x1f\x7f",
    "looks encoded": "=?UTF-8?B?eA==?=",
}
_ODD_KEYS = [
    "a", "with space", "With Space", " ", "key:colon", "key=equals", "line\nend", "quote\"'", "ключ", "键",
    "🚀",     "dotted.key", "under_score", "--", "$dollar", "0", "a/b", "[x]", "k" * 100, "tab\tkey",
]  # fmt: skip
_TAKEN_KEYS = ["Id", "Message-Id", "Subject", "Reply-To", "Content-Type", "Delay", "Attempt", "Body", "Key",
               "Topic", "Timestamp", "Message", "Attributes", "Error", "Data", "Headers"]  # fmt: skip


@check("odd attributes")
async def _odd_attributes(scene: Scene) -> None:
    """Any text is an attribute's key or value: empty, spaces, line ends, other scripts, names in use."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    cases = [(f"the value with {what}", {"Odd": value}) for what, value in _ODD_VALUES.items()]
    cases += [(f"the key {clipped(key, 30)}", {key: "value"}) for key in (*_ODD_KEYS, *_TAKEN_KEYS)]
    sent = []
    for number, (what, attributes) in enumerate(cases):
        body = f"odd-{number}".encode()
        try:
            await topic.publish(body, attributes=attributes)
        except ValueError:
            if scene.harness.odd_attributes:
                raise
        else:
            sent.append((what, body, attributes))
    await inbox.passes([body for _, body, _ in sent])
    for what, body, attributes in sent:
        scene.same(inbox.of(body)[0], body, Attributes(attributes).to_dict(), what)


@check("many attributes")
async def _many_attributes(scene: Scene) -> None:
    """As many attributes as `features` allows, or forty, arrive together."""
    most = scene.features.max_attributes
    count = 40 if most is None else min(most, 40)
    await _round_trip(
        scene, [(f"{count} attributes", b"many", {f"Key-{n}": f"value {n}" for n in range(count)})]
    )


@check("too many attributes", _LIMITED_ATTRIBUTES)
async def _too_many(scene: Scene) -> None:
    """More attributes than the limit raise ValueError, nothing is sent, and the next message goes through."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    most = bare(scene.backend).features.max_attributes or 0
    error = await scene.raises(
        ValueError,
        lambda: topic.publish(b"many", attributes={f"Key-{n}": "v" for n in range(most + 1)}),
        f"publishing {most + 1} attributes",
    )
    scene.expect(str(most) in str(error), f"the error does not name the limit of {most}: {error}")
    await topic.publish(b"few")
    await inbox.passes([b"few"])


@check("messages are apart")
async def _apart(scene: Scene) -> None:
    """What a publisher or a receiver does to a message shows nowhere else: not in another subscription,
    not when it is delivered again."""
    name = scene.name_of()
    attributes = Attributes({"Color": "red"})
    tried = set()

    async def spoil(message: Message) -> None:
        message.attributes["Color"] = "black"
        message.attributes.add("Extra", "1")
        message.body = b"spoilt"
        if message.source is not None and message.source.subscription not in tried:
            tried.add(message.source.subscription)
            raise ValueError("once")

    first, second = (
        scene.inbox("the first subscription", spoil),
        scene.inbox("the second subscription", spoil),
    )
    scene.start(name, first, subscription="first")
    scene.start(name, second, subscription="second")
    message = Message(b"shared", attributes)
    await scene.backend.topic(name).publish(message.body, attributes=attributes)
    attributes["Color"] = "white"
    for inbox in (first, second):
        await inbox.count(2)
        for number, got in enumerate(inbox.got[:2]):
            scene.same(got, b"shared", {"Color": ["red"]}, f"{inbox.name}, delivery {number + 1}")


@check("writer")
async def _writer(scene: Scene) -> None:
    """A writer publishes what was written in pieces, once; nothing where none was, or an error left it."""
    topic = scene.backend.topic(scene.name_of())
    inbox = scene.inbox()
    scene.start(topic.name, inbox)
    await topic.new_writer().close()
    try:
        async with topic.new_writer() as writer:
            writer.write(b"never")
            raise KeyError("on purpose")
    except KeyError:
        pass
    writer = topic.new_writer()
    writer.attributes["Pieces"] = "3"
    for piece in (b"Don't ", b"call me ", b"junior!"):
        writer.write(piece)
    await writer.close()
    await scene.raises(WriterClosed, writer.close, "closing a writer twice")
    await inbox.passes([b"Don't call me junior!"])
    scene.same(inbox.got[0], b"Don't call me junior!", {"Pieces": ["3"]}, "the message written")
    await scene.publish(topic, *numbered(1))
    await inbox.passes([b"Don't call me junior!", *numbered(1)])
