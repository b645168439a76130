"""What messages and names look like in Pub/Sub.

Plain attributes are Pub/Sub's own. What those cannot carry (several values, an empty key, one that begins
with `goog`) goes, as a JSON object of key to list of values, into `Msgviz-Attributes`, cut into as many
attributes of 1024 bytes as it takes. A message is never empty there: an empty object stands for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import count
from urllib.parse import quote

from google.pubsub_v1.types import PubsubMessage

from msgviz.attributes import Attributes, Values, canonical_key
from msgviz.message import Message, wrap

MAX_ATTRIBUTES = 100
MAX_KEY = 256
MAX_VALUE = 1024
MAX_MESSAGE = 10_000_000
ENVELOPE = 1_000
"""Bytes of a request that are kept free, for the name of the topic and the like."""
LETTER = 5_000
"""Bytes of a message that are kept free, for what it gets as a dead letter."""
MAX_BODY = MAX_MESSAGE - ENVELOPE - LETTER - 4_000
MAX_FILTER = 256

MESSAGE_ID = "_ps_message_id"
PUBLISH_TIME = "_ps_message_publishtime"
"""Attributes of every received message, named and written as go-msg-pubsub does."""
PACKED = "Msgviz-Attributes"
TO = "Msgviz-To"
ATTEMPTS = "Msgviz-Attempts"
"""The attempts of a message before it was published anew, because Pub/Sub would count no more."""
FORWARDED = "CloudPubSubDeadLetterSourceSubscription"
"""The attribute by which Pub/Sub marks what its own dead-letter policy moved."""

_SYSTEM = frozenset({MESSAGE_ID, PUBLISH_TIME})
_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")
_PLAIN = "-_.~+"  # beside letters and digits: what may stand in a resource's name
_PREFIX = "msgviz."


def topic_resource(name: str) -> str:
    """The name of a topic in Pub/Sub; `ValueError` for one that is too long.

    What may not stand in one is written as in a URL, ``%20``. A name that is too short, begins with no
    letter or with `goog` has `msgviz.` before it. No two topics have the same.
    """
    text = quote(name, safe=_PLAIN)
    if len(text) < 3 or not text[0].isalpha() or text.lower().startswith(("goog", _PREFIX)):
        text = _PREFIX + text
    return _checked(text, f"the topic {name!r}")


def subscription_resource(template: str, topic: str, subscription: str) -> str:
    """The name of a subscription in Pub/Sub, made from the template; `ValueError` for one it cannot have."""
    # A dot inside a subscription's name is encoded: orders.a of b and orders of a.b are two subscriptions.
    text = template.format(topic=topic_resource(topic), subscription=_address(subscription))
    return _checked(text, f"the subscription {subscription!r} of {topic!r}")


def _checked(text: str, what: str) -> str:
    if not _RESOURCE.fullmatch(text) or text.lower().startswith("goog"):
        raise ValueError(
            f"gcp: {what} would be {text!r} in Pub/Sub, where a name has 3 to 255 letters, digits and "
            "-_.~+%, begins with a letter and not with goog"
        )
    return text


def _address(subscription: str) -> str:
    return quote(subscription, safe=_PLAIN).replace(".", "%2E")


def subscription_filter(subscription: str) -> str:
    """The filter of a subscription: what is for all, for it alone, or a letter that Pub/Sub moved."""
    text = f'NOT attributes:{TO} OR attributes.{TO} = "{_address(subscription)}" OR attributes:{FORWARDED}'
    over = len(text) - MAX_FILTER
    if over > 0:
        size = len(_address(subscription))
        raise ValueError(
            f"gcp: a subscription's name has at most {size - over} characters, not {size}: {subscription!r}"
        )
    return text


def is_for(native: Mapping[str, str], subscription: str) -> bool:
    """Whether a subscription's filter lets this through; the vendor's emulator applies no filter."""
    to = native.get(TO)
    return to is None or to == _address(subscription) or FORWARDED in native


def encode(
    message: Message, *, to: str | None = None, ordering: str | None = None, letter: bool = False
) -> PubsubMessage:
    """A message as it is published; `ValueError`, naming the limit, for one that Pub/Sub cannot take."""
    native: dict[str, str] = {}
    rest: dict[str, list[str]] = {}
    values = message.freeze()
    for key, value in values.items():
        if key in _SYSTEM:
            continue  # told anew to whoever receives it
        several = [value] if isinstance(value, str) else list(value)
        _check(key, several)
        if isinstance(value, str) and _is_native(key, value):
            native[key] = value
        else:
            rest[key] = several
    if to is not None:
        native[TO] = _address(to)
    packed = _pack(rest) if rest or not (native or message.body) else {}
    spare = [key for key in native if key != TO]
    while len(native) + len(packed) > MAX_ATTRIBUTES and spare:  # a letter has some more than was sent
        for _ in range(min(8, len(spare))):
            key = spare.pop()
            rest[key] = [native.pop(key)]
        packed = _pack(rest)
    if len(native) + len(packed) > MAX_ATTRIBUTES:
        raise ValueError(
            f"gcp: attributes of several values fill at most {MAX_ATTRIBUTES} of {MAX_VALUE} bytes, "
            f"not {len(packed)}: send them in the body instead"
        )
    made = PubsubMessage(data=message.body, attributes={**native, **packed})
    if ordering is not None and ordering in values:
        first = values[ordering]
        made.ordering_key = first if isinstance(first, str) else first[0]
    limit = MAX_MESSAGE - ENVELOPE - (0 if letter else LETTER)
    if (size := PubsubMessage.pb(made).ByteSize()) > limit:
        raise ValueError(
            f"gcp: a message has at most {limit} bytes, its attributes included, not {size}: "
            "send a reference to where it is kept instead"
        )
    return made


def _check(key: str, values: list[str]) -> None:
    size = _size(key)
    if size > MAX_KEY:
        raise ValueError(f"gcp: an attribute's key has at most {MAX_KEY} bytes, not {size}: {key[:40]!r}…")
    for value in values:
        if (size := _size(value)) > MAX_VALUE:
            raise ValueError(f"gcp: an attribute's value has at most {MAX_VALUE} bytes, not {size}: {key!r}")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _is_native(key: str, value: str) -> bool:
    if not key or key.lower().startswith("goog") or key in (TO, ATTEMPTS) or key.startswith(PACKED):
        return False
    try:
        (key + value).encode()
    except UnicodeEncodeError:  # half a character, which only JSON can carry
        return False
    return True


def _pack(rest: Mapping[str, list[str]]) -> dict[str, str]:
    text = json.dumps(rest, separators=(",", ":"))
    pieces = [text[at : at + MAX_VALUE] for at in range(0, len(text), MAX_VALUE)]
    return {_piece(number): piece for number, piece in enumerate(pieces)}


def _piece(number: int) -> str:
    return f"{PACKED}-{number}" if number else PACKED


def decode(received: PubsubMessage) -> Message:
    """A message as it was sent, with its id and the time it was published."""
    return wrap(received.data, decode_attributes(received))


def decode_attributes(received: PubsubMessage) -> Values:
    """The attributes of what came, whoever sent it."""
    native = dict(received.attributes)
    native.pop(TO, None)
    native.pop(ATTEMPTS, None)
    attributes = Attributes()
    for key, values in _unpack(native).items():
        attributes.set_all(key, values)
    for key in sorted(native):
        attributes.add(key, native[key])
    attributes[MESSAGE_ID] = received.message_id
    published = received.publish_time
    if published is not None:
        attributes[PUBLISH_TIME] = published.strftime("%Y-%m-%dT%H:%M:%SZ")
    return attributes.freeze()


def _unpack(native: dict[str, str]) -> dict[str, list[str]]:
    """What was packed, taken out of `native`; what somebody else wrote there stays as it is."""
    if PACKED not in native:
        return {}
    keys = []
    for number in count():
        if (key := _piece(number)) not in native:
            break
        keys.append(key)
    try:
        rest = json.loads("".join(native[key] for key in keys))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(rest, dict) or not all(
        isinstance(values, list) and all(isinstance(value, str) for value in values)
        for values in rest.values()
    ):
        return {}
    for key in keys:
        del native[key]
    return rest


def attempts_before(received: PubsubMessage) -> int:
    """The attempts of a message before it was published anew."""
    text = received.attributes.get(ATTEMPTS, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def anew(received: PubsubMessage, attempts: int, subscription: str) -> PubsubMessage:
    """A message, for one subscription alone, whose attempts are counted from 1 on again."""
    return PubsubMessage(
        data=received.data,
        attributes={**received.attributes, TO: _address(subscription), ATTEMPTS: str(attempts)},
        ordering_key=received.ordering_key,
    )


def shortened(text: str) -> str:
    """A text that fits into one attribute."""
    if _size(text) <= MAX_VALUE:
        return text
    cut = text.encode("utf-8", "replace")[: MAX_VALUE - 3]
    return cut.decode("utf-8", "ignore") + "…"


def canonical(key: str | None) -> str | None:
    """The key of the attribute that holds ordering keys, as attributes have it."""
    return None if key is None else canonical_key(key)
