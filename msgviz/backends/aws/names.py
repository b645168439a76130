"""How topics and subscriptions are called on AWS, where a name has only letters, digits, ``-`` and ``_``.

A topic `orders` is the SNS topic ``orders``; its subscription `billing` the SQS queue ``orders--billing``;
the dead letters of that, topic `orders.billing.dead`, the queue ``orders_2Ebilling_2Edead``. Each byte that
a name may not have is written ``_XX``, its value in hexadecimal, and so are a ``_`` that would be read as
such, a ``-`` after another, and one at either end: two different names never meet. A name that is still
too long is cut, and ends in ``---`` and 16 digits of its SHA-256.
"""

from __future__ import annotations

import hashlib
import re

TOPIC_LIMIT = 256
QUEUE_LIMIT = 80

_ESCAPED = re.compile(r"_(?=[0-9A-F]{2})|^-|(?<=-)-|-\Z|[^A-Za-z0-9_-]")
_ESCAPE = re.compile(rb"_([0-9A-F]{2})")
_DEAD = re.compile(r".+\..+\.dead", re.DOTALL)


def is_dead_letter_topic(topic: str) -> bool:
    """Whether a topic holds the dead letters of a subscription, and so is a queue."""
    return _DEAD.fullmatch(topic) is not None


def topic_name(topic: str) -> str:
    """The name of the SNS topic."""
    return _fit(_escape(topic), TOPIC_LIMIT)


def queue_name(topic: str, subscription: str) -> str:
    """The name of the SQS queue of a subscription."""
    if is_dead_letter_topic(topic):
        return _fit(_escape(topic), QUEUE_LIMIT)
    return _fit(f"{_escape(topic)}--{_escape(subscription)}", QUEUE_LIMIT)


def read_queue_name(name: str) -> tuple[str, str]:
    """The topic and subscription of a queue; one that is not named as here is a topic of its own."""
    topic, separator, subscription = name.partition("--")
    if separator and queue_name(_unescape(topic), _unescape(subscription)) == name:
        return _unescape(topic), _unescape(subscription)
    return _unescape(name) if is_dead_letter_topic(_unescape(name)) else name, "default"


def _escape(name: str) -> str:
    return _ESCAPED.sub(
        lambda found: "".join(f"_{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")), name
    )


def _unescape(name: str) -> str:
    plain = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), name.encode("utf-8", "surrogatepass"))
    return plain.decode("utf-8", "surrogateescape")


def _fit(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    return f"{name[: limit - 19]}---{hashlib.sha256(name.encode()).hexdigest()[:16]}"
