"""How msgviz's names, attributes and delays look in RabbitMQ."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from msgviz.attributes import Attributes, Values
from msgviz.dead_letters import dead_letter_attributes
from msgviz.errors import MsgvizError
from msgviz.message import Source
from msgviz.pull import UsedUp

ATTEMPTS = "x-msgviz-attempts"
"""The header that says how often a message that was sent again had been tried before."""
REST = "Msgviz-Attributes"
"""The header that carries, as JSON, the attributes that no header can: keys too long, or no Unicode."""
APP = "msgviz"
"""Our messages' app_id. The properties of other publishers' messages are given as attributes too."""

OF_THE_BROKER = frozenset(
    {"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC", ATTEMPTS}
    | {f"x-{when}-death-{what}" for when in ("first", "last") for what in ("exchange", "queue", "reason")}
)
"""Headers that are no attributes. No attribute of ours has such a key: it would be `X-Death`."""

PROPERTIES = {
    "Content-Type": "content_type",
    "Content-Encoding": "content_encoding",
    "Correlation-Id": "correlation_id",
}
"""Attributes that other programs look for in the properties of a message: they are there as well."""
FOREIGN = {**PROPERTIES, "Reply-To": "reply_to", "Message-Id": "message_id"}
"""Properties of other publishers' messages that are given as attributes."""

_SAFE = re.compile(r"[A-Za-z0-9_:@,/-]")
_LONGEST = 220  # bytes of a name: RabbitMQ takes 255, and the queues of delayed messages have longer ones


def _escaped(name: str, also: str) -> str:
    """A name in the characters that every client can write; others as #XX, one for each byte."""
    return "".join(
        c if c in also or _SAFE.match(c) else "".join(f"#{b:02X}" for b in c.encode("utf-8", "surrogatepass"))
        for c in name
    )


def _checked(name: str, whole: str) -> str:
    if len(name) > _LONGEST:
        raise ValueError(
            f"amqp: {whole!r} is too long: its name in RabbitMQ has at most {_LONGEST} characters"
        )
    return name


def exchange_name(topic: str) -> str:
    """The exchange of a topic: its own name; `ValueError` for one that is too long."""
    name = _escaped(topic, ".")
    if name.startswith("amq."):  # which RabbitMQ keeps to itself
        name = f"#61{name[1:]}"
    return _checked(name, topic)


def queue_name(topic: str, subscription: str) -> str:
    """The queue of a subscription, `topic.subscription`; the last dot is always the one between."""
    return _checked(f"{exchange_name(topic)}.{_escaped(subscription, '')}", f"{topic}.{subscription}")


def waiting_name(kind: str, destination: str, milliseconds: int, period: int) -> str:
    """The queue in which messages for a destination wait. No other name has `##` in it."""
    return f"{destination}##{kind}##{milliseconds}ms##{period}"


def unclaimed_name(exchange: str) -> str:
    """The exchange and queue that get what is published while a topic has no subscription."""
    return f"{exchange}##unclaimed"


_STEPS: tuple[int, ...] = (
    *range(1, 10),
    *(10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 25, 27, 30, 33, 36, 40, 44, 45),
    *(50, 55, 60, 66, 72, 75, 80, 88, 90, 100),
)


def as_step(seconds: float) -> int:
    """A delay in milliseconds, at most a ninth longer than asked (below 10 ms, one millisecond longer).

    There is one queue for each length of delay, so there are not to be too many lengths.
    """
    milliseconds = seconds * 1000
    scale: int = 1
    while milliseconds > 100 * scale:
        scale *= 10
    step = _STEPS[bisect_left(_STEPS, round(milliseconds / scale, 6))]
    return step * scale


def to_headers(values: Values) -> dict[str, Any]:
    """Attributes as headers: a value as a string, several as a list of strings."""
    headers: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in values.items():
        several = [value] if isinstance(value, str) else list(value)
        try:
            plain = 0 < len(key.encode()) <= 255 and key not in OF_THE_BROKER and key != REST
            for one in several:
                one.encode()
        except UnicodeEncodeError:
            plain = False
        (headers if plain else rest)[key] = value if isinstance(value, str) else several
    if rest:
        headers[REST] = json.dumps(rest)
    return headers


def size(headers: Mapping[str, Any]) -> int:
    """The bytes that headers made by `to_headers` take."""

    def one(value: object) -> int:
        return 5 + (sum(one(v) for v in value) if isinstance(value, list) else len(str(value).encode()))

    return sum(1 + len(key.encode()) + one(value) for key, value in headers.items())


def outgoing(
    body: bytes, values: Values, *, attempts: int = 0, like: AbstractIncomingMessage | None = None
) -> aio_pika.Message:
    """A message to publish, to be stored on disk; with the properties of the one it is `like`."""
    headers = to_headers(values)
    if attempts:
        headers[ATTEMPTS] = attempts
    properties: dict[str, Any] = {"app_id": APP}
    if like is None:
        for key, name in PROPERTIES.items():
            value = headers.get(key)
            if isinstance(value, str) and len(value.encode()) <= 255:
                properties[name] = value
    else:
        for name in ("app_id", "type", *FOREIGN.values()):
            properties[name] = getattr(like, name)
    return aio_pika.Message(
        body, headers=headers, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties
    )


def copy(message: AbstractIncomingMessage) -> aio_pika.Message:
    """The same message, to publish."""
    return outgoing(message.body, incoming(message), like=message)


def incoming(message: AbstractIncomingMessage) -> Values:
    """The attributes of a message, whoever published it."""
    attributes = Attributes()
    headers = message.headers or {}
    for key, value in headers.items():
        if key == REST and message.app_id == APP:
            _unpack(attributes, value)
        elif key not in OF_THE_BROKER:
            for one in value if isinstance(value, list) else [value]:
                attributes.add(key, as_text(one))
    if message.app_id != APP:
        for key, name in FOREIGN.items():
            value = getattr(message, name)
            if value and key not in attributes:
                attributes[key] = str(value)
    return attributes.freeze()


def _unpack(attributes: Attributes, packed: Any) -> None:
    try:
        rest = Attributes(json.loads(packed))
    except (ValueError, TypeError, RecursionError):  # somebody else's: it is shown as it is
        attributes.add(REST, as_text(packed))
    else:
        for key, values in rest.to_dict().items():
            for value in values:
                attributes.add(key, value)


def as_text(value: Any) -> str:
    """A header's value as text: other publishers have numbers, times, bytes and tables."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None:
        return ""
    if isinstance(value, (bool, dict, list)):
        try:
            return json.dumps(value, ensure_ascii=False, default=as_text)
        except (ValueError, RecursionError):
            return f"<{type(value).__name__}>"
    return str(value)


def attempt(message: AbstractIncomingMessage) -> int:
    """The number of this delivery: we count those up to a retry, the queue those since."""
    headers = message.headers or {}
    since = _count(headers.get("x-delivery-count"))
    if not since and message.redelivered:  # a classic queue does not count
        since = 1
    before = 0 if _killed(message) else _count(headers.get(ATTEMPTS))
    return 1 + before + since


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _killed(message: AbstractIncomingMessage) -> dict[str, Any] | None:
    """The last entry of its x-death header, where the broker made it a dead letter and nobody else did."""
    with suppress(LookupError, TypeError):  # whatever others write there
        death: Any = message.headers["x-death"][0]  # type: ignore[index]
        if death["reason"] in ("delivery_limit", "rejected"):
            return dict(death)
    return None


def broker_letter(message: AbstractIncomingMessage) -> dict[str, str]:
    """The attributes that a dead letter which RabbitMQ made by itself lacks; none for any other message."""
    death = _killed(message)
    if death is None or "Dead-Letter-Reason" in (message.headers or {}):
        return {}
    topic, _, subscription = str(death.get("queue")).rpartition(".")
    count = _count(death.get("count")) or 1
    if death["reason"] == "rejected":
        return dead_letter_attributes(Source(_plain(topic), _plain(subscription)), count, Rejected())
    why = UsedUp("so many consumers took it and ended without a word that RabbitMQ gave up on it")
    return dead_letter_attributes(Source(_plain(topic), _plain(subscription)), count, why)


class Rejected(MsgvizError):
    """Why a message is dead that a consumer rejected."""


def _plain(name: str) -> str:
    raw = re.sub(rb"#([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), name.encode())
    return raw.decode("utf-8", "surrogatepass")
