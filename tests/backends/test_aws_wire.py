"""Messages on the wire of SNS and SQS, and names there; without a server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgviz import Unsupported
from msgviz.attributes import Attributes
from msgviz.backends.aws import names, wire

WIRE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
XML = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")

any_text = st.text(st.characters(codec=None), max_size=20)
attributes = st.dictionaries(
    st.one_of(
        st.sampled_from(
            ["Content-Transfer-Encoding", "Msgviz-Attributes", "Msgviz-Body", "AWS.x", "a..b", ".a"]
        ),
        st.text("abAB-_.", max_size=5),
        any_text,
    ),
    st.lists(any_text | st.sampled_from(["base64", "empty", "{}"]), min_size=1, max_size=3),
    max_size=10,
)


def sent(body: bytes, values: dict[str, list[str]], **options: Any) -> dict[str, Any]:
    """A message as SQS would give it."""
    options = {"base64": True, "limit": wire.SQS_LIMIT, **options}
    packed = wire.pack("aws", body, Attributes(values).freeze(), **options)
    return {"Body": packed.body, "MessageAttributes": packed.attributes}


def check_allowed(raw: dict[str, Any]) -> None:
    """What AWS documents of a message."""
    assert XML.fullmatch(raw["Body"])
    assert len(raw["MessageAttributes"]) <= 10
    for name, value in raw["MessageAttributes"].items():
        assert WIRE_NAME.fullmatch(name)
        assert not name.lower().startswith(("aws.", "amazon."))
        assert all(name.split("."))
        assert value["DataType"] == "String"
        assert XML.fullmatch(value["StringValue"])


@given(st.binary(max_size=50), attributes)
def test_whatever_is_sent_is_allowed_and_arrives(body: bytes, values: dict[str, list[str]]) -> None:
    raw = sent(body, values)
    check_allowed(raw)
    assert wire.unpack(raw, base64=True) == (body, Attributes(values))


@given(st.text(max_size=50), attributes)
def test_without_base64_text_is_sent_as_it_is(body: str, values: dict[str, list[str]]) -> None:
    try:
        raw = sent(body.encode("utf-8"), values, base64=False)
    except Unsupported:
        assert XML.fullmatch(body) is None
    else:
        check_allowed(raw)
        assert raw["Body"] == (body or "-")
        assert wire.unpack(raw, base64=False) == (body.encode(), Attributes(values))


@given(st.binary(max_size=50), attributes, st.integers(60, 400))
def test_a_limit_is_kept(body: bytes, values: dict[str, list[str]], limit: int) -> None:
    try:
        raw = sent(body, values, limit=limit)
    except wire.TooLarge as error:
        assert str(limit) in str(error)  # noqa: PT017  either may happen
    else:
        size = len(raw["Body"].encode()) + sum(
            len(name) + len(value["DataType"]) + len(value["StringValue"].encode())
            for name, value in raw["MessageAttributes"].items()
        )
        assert size <= limit
        assert wire.unpack(raw, base64=True) == (body, Attributes(values))


def test_the_wire_format_is_that_of_go_aws_msg() -> None:
    raw = sent(b"hello\xff", {"source": ["web"], "Color": ["red", "green"]})
    assert raw["Body"] == "aGVsbG//"
    text = {name: value["StringValue"] for name, value in raw["MessageAttributes"].items()}
    assert text == {
        "Content-Transfer-Encoding": "base64",
        "Source": "web",
        "Color": "red,green",
        "Msgviz-Attributes": '{"Color":["red","green"]}',
    }


@pytest.mark.parametrize(
    ("raw", "body", "values"),
    [
        ({}, b"", {}),
        ({"Body": "plain"}, b"plain", {}),
        ({"Body": "\ud800"}, b"\xed\xa0\x80", {}),
        ({"Body": "a", "MessageAttributes": {"color": {"DataType": "String", "StringValue": "red"}}}, b"a",
         {"Color": ["red"]}),
        ({"Body": "a", "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "1"}}}, b"a",
         {"N": ["1"]}),
        ({"Body": "a", "MessageAttributes": {"B": {"DataType": "Binary", "BinaryValue": b"ok"}}}, b"a",
         {"B": ["ok"]}),
        ({"Body": "a", "MessageAttributes": {"B": {"DataType": "Binary", "BinaryValue": b"\xff"}}}, b"a",
         {"B": ["/w=="]}),
        ({"Body": "!", "MessageAttributes": {"Content-Transfer-Encoding": {"StringValue": "base64"}}}, b"!",
         {"Content-Transfer-Encoding": ["base64"]}),
        ({"Body": "YQ==", "MessageAttributes": {"content-transfer-encoding": {"StringValue": "base64"}}},
         b"a", {}),
        ({"Body": "YQ==", "MessageAttributes": {"Content-Transfer-Encoding": {"StringValue": "base64,x"}}},
         b"YQ==", {"Content-Transfer-Encoding": ["base64,x"]}),
    ],
)  # fmt: skip
def test_messages_of_others(raw: dict[str, Any], body: bytes, values: dict[str, list[str]]) -> None:
    assert wire.unpack(raw, base64=True) == (body, Attributes(values))


@pytest.mark.parametrize("extra", ["", "{", "[]", '{"a":1}', '{"a":[1]}', "[" * 5000, "null"])
def test_a_spoilt_attribute_of_ours_is_one_like_others(extra: str) -> None:
    raw = {"Body": "x", "MessageAttributes": {"Msgviz-Attributes": {"StringValue": extra}}}
    assert wire.unpack(raw, base64=True) == (b"x", Attributes({"Msgviz-Attributes": extra}))


ENVELOPE = {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:r:1:t"}


def test_an_sns_envelope_is_opened() -> None:
    coded = {"Type": "String", "Value": "base64"}
    notice = {
        **ENVELOPE,
        "Message": "YQ==",
        "MessageAttributes": {
            "Content-Transfer-Encoding": coded,
            "color": {"Type": "String", "Value": "red"},
            "odd": 3,
        },
    }
    raw = {"Body": json.dumps(notice)}
    assert wire.unpack(raw, base64=True) == (b"a", Attributes({"Color": "red"}))
    assert wire.unpack({"Body": json.dumps({**ENVELOPE, "Message": "plain"})}, base64=True)[0] == b"plain"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ENVELOPE),
        json.dumps({**ENVELOPE, "Message": {"not": "text"}}),
        json.dumps({**ENVELOPE, "Message": "x", "MessageAttributes": [1]}),
        json.dumps({"Type": "Notification", "Message": "x"}),
        '{"Notification"',
        '"Notification"',
        '{"Notification": ' + "[" * 5000,
    ],
)
def test_what_only_looks_like_an_envelope_is_a_body(text: str) -> None:
    assert wire.unpack({"Body": text}, base64=True)[0] == text.encode()


def test_a_body_that_is_an_envelope_arrives_as_it_was_sent() -> None:
    body = json.dumps({**ENVELOPE, "Message": "x"}).encode()
    assert wire.unpack(sent(body, {}), base64=True) == (body, Attributes())
    assert wire.unpack(sent(body, {}, base64=False), base64=False) == (body, Attributes())


def test_text_that_only_fits_as_text_is_sent_as_text() -> None:
    values = {"Content-Transfer-Encoding": ["base64"]}
    raw = sent(b"x" * 1000, values, limit=1200)
    assert raw["Body"] == "x" * 1000
    assert wire.unpack(raw, base64=True) == (b"x" * 1000, Attributes(values))
    with pytest.raises(wire.TooLarge):
        sent(b"\xff" * 1000, values, limit=1200)


# Names


@pytest.mark.parametrize(
    ("topic", "subscription", "queue"),
    [
        ("orders", "billing", "orders--billing"),
        ("order_items", "default", "order_items--default"),
        ("orders.billing.dead", "default", "orders_2Ebilling_2Edead"),
        ("a.b", "c", "a_2Eb--c"),
        ("a-", "-b", "a_2D--_2Db"),
        ("a--b", "c", "a-_2Db--c"),
        ("a_2E", "c", "a_5F2E--c"),
        ("測", "c", "_E6_B8_AC--c"),
    ],
)
def test_names_of_queues(topic: str, subscription: str, queue: str) -> None:
    assert names.queue_name(topic, subscription) == queue
    assert names.read_queue_name(queue) == (topic, subscription)


parts = st.text("ab-_.2EDF\n", min_size=1, max_size=8) | st.text(min_size=1)


@given(parts, parts, parts, parts)
def test_names_never_meet(topic: str, subscription: str, other: str, another: str) -> None:
    name = names.queue_name(topic, subscription)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,256}", names.topic_name(topic))
    if names.is_dead_letter_topic(topic):
        subscription = "default"
    if "---" not in name:
        assert names.read_queue_name(name) == (topic, subscription)
    if names.is_dead_letter_topic(other):
        another = "default"
    if (topic, subscription) != (other, another):
        assert names.queue_name(other, another) != name
    if topic != other:
        assert names.topic_name(topic) != names.topic_name(other)


def test_long_names_are_cut() -> None:
    first, second = ("x" * 300 + end for end in "ab")
    queues = {names.queue_name(topic, "s") for topic in (first, second)}
    topics = {names.topic_name(topic) for topic in (first, second)}
    assert {len(name) for name in queues} == {80}
    assert {len(name) for name in topics} == {256}
    assert len(queues) == len(topics) == 2


@pytest.mark.parametrize("name", ["orders", "MyQueue_1", "a--b--c", "x_2e", "dead", "_2Edead"])
def test_a_queue_of_others_is_a_topic_of_its_own_name(name: str) -> None:
    assert names.read_queue_name(name) == (name, "default")
