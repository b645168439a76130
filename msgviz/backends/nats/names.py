"""Names: of the streams, consumers and subjects that stand for topics and subscriptions."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

PRIVATE = "_msgviz"
"""The first token of the subjects for what is not for every subscription, or not for now."""

_LONGEST = 255  # JSMaxNameLen of the server


def check_subject(name: str, what: str) -> str:
    """A topic's or subscription's name as part of a subject; `ValueError` for one that cannot be."""
    if any(c in "*>" or c.isspace() or not c.isprintable() for c in name):
        raise ValueError(
            f"NATS: the name of a {what} has no spaces, control characters, * or >, not {name!r}"
        )
    if not all(name.split(".")):
        raise ValueError(f"NATS: the name of a {what} has something before and after each dot, not {name!r}")
    if name.startswith(("$", f"{PRIVATE}.", "_INBOX.")):
        raise ValueError(f"NATS: names that begin with $, _INBOX. or {PRIVATE}. are taken, as is {name!r}")
    plain(name, what)
    return name


def plain(name: str, what: str) -> str:
    """The name of the stream of a topic, or of the consumer of a subscription.

    Dots become ``~``, and what a file's name may not have becomes ``%XX``: `orders.paid` -> `orders~paid`.
    """
    try:
        coded = quote(name, safe="").replace("~", "%7E").replace(".", "~")
    except UnicodeEncodeError as error:
        raise ValueError(f"NATS: the name of a {what} is text that UTF-8 can hold, not {name!r}") from error
    if len(coded) > _LONGEST:
        raise ValueError(
            f"NATS: the name of a {what} has at most {_LONGEST} characters (a letter beyond ASCII counts as "
            f"six or more), not {len(coded)}: {name[:40]!r}…"
        )
    return coded


def only_subject(topic: str, subscription: str) -> str:
    """The subject of what is for one subscription alone."""
    return f"{PRIVATE}.{plain(topic, 'topic')}.only.{plain(subscription, 'subscription')}"


def later_subject(topic: str, message_id: str) -> str:
    """The subject on which a delayed message waits; each has its own."""
    return f"{PRIVATE}.{plain(topic, 'topic')}.later.{message_id}"


def subjects_of(topic: str) -> list[str]:
    """The subjects of a topic's stream."""
    return [topic, f"{PRIVATE}.{plain(topic, 'topic')}.>"]


def covers(patterns: Iterable[str], subject: str) -> bool:
    """Whether one of these subjects, which may have wildcards, takes in another."""
    return any(_covers(pattern.split("."), subject.split(".")) for pattern in patterns)


def _covers(pattern: list[str], subject: list[str]) -> bool:
    for place, part in enumerate(pattern):
        if part == ">":
            return len(subject) > place
        if place >= len(subject) or part not in ("*", subject[place]):
            return False
    return len(pattern) == len(subject)
