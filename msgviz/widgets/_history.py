"""The history of a failed message: what it was, and what was sent again for it."""

from __future__ import annotations

import difflib
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgviz.message import preview
from msgviz.observing.identity import ID_ATTRIBUTE
from msgviz.widgets._base import MAX_BODY, body_content

if TYPE_CHECKING:
    from msgviz.log import MessageLog
    from msgviz.observing.detail import Attempt, MessageDetail
    from msgviz.widgets._cases import Case

MAX_TRIES = 20
"""The last replays of a message that are shown."""

MAX_LINES = 200
"""Lines of a difference that are shown."""

_COMPARED = 20_000  # bytes of a body that are compared line by line
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONE_BREAK = re.compile(r"\r(?!\n)|(?<!\r)\n")


def case_content(log: MessageLog, case: Case) -> dict[str, Any]:
    """What a browser shows of an opened case; `KeyError` where the log has dropped the message."""
    latest = log.detail(case.latest)
    original = latest if case.latest == case.root else _detail(log, case.root)
    failed = next((a for a in reversed(_here(case, latest)) if a.error_type), None)
    tries = [(i, _detail(log, i)) for i in case.tries[-MAX_TRIES:]]
    return {
        "key": case.key,
        "messageId": case.latest,
        "root": case.root,
        "status": case.status,
        "attempts": len(_here(case, latest)),
        "errorType": case.error_type,
        "error": case.error,
        "traceback": failed.traceback if failed else None,
        "attributes": latest.attributes,
        "body": body_content(latest.body),
        "size": latest.size,
        **editable(latest.body),
        "history": [_step(case, i, detail, original) for i, detail in tries],
        "earlier": max(0, len(case.tries) - MAX_TRIES),
    }


def editable(body: bytes | None) -> dict[str, Any]:
    """The body as a person can edit it, or why not."""
    if body is None:
        return {"locked": "The log did not keep this body, so it can neither be edited nor replayed."}
    if len(body) > MAX_BODY:
        return {"locked": "This body is too long to edit here; it is sent as it was."}
    text = _text(body)
    if text is not None and "\r" not in text:
        return {"text": text}
    # A text area has newlines only: what has them all as CRLF can be given them back.
    if text is not None and not _LONE_BREAK.search(text):
        return {"text": text.replace("\r\n", "\n"), "crlf": True}
    return {"hex": body.hex(" ")}


def _step(
    case: Case, message_id: str, detail: MessageDetail | None, original: MessageDetail | None
) -> dict[str, Any]:
    if detail is None:
        return {"messageId": message_id, "dropped": True}
    here = _here(case, detail)
    last = here[-1] if here else None
    time = detail.published or detail.attempts[0].time
    changes = [] if original is None or original is detail else difference(original, detail)
    return {
        "messageId": message_id,
        "original": message_id == case.root,
        "time": time.timestamp() * 1000,
        "state": detail.state,
        "outcome": last.outcome if last else None,
        "error": _error(last),
        "changes": changes,
    }


def _here(case: Case, detail: MessageDetail) -> list[Attempt]:
    """The attempts at the place of the case: of its receiver, or (without one) to publish it."""
    return [a for a in detail.attempts if (a.topic, a.subscription) == (case.topic, case.subscription)]


def _error(attempt: Attempt | None) -> str | None:
    if attempt is None or attempt.error_type is None:
        return None
    return f"{attempt.error_type}: {attempt.error}" if attempt.error else attempt.error_type


def difference(original: MessageDetail, sent: MessageDetail) -> list[dict[str, Any]]:
    """How what was sent differs from the original, part by part; empty where it does not.

    Each part is `{"name": …, "lines": [[sign, text], …]}` with a sign of ``-``, ``+`` or a space.
    """
    parts = []
    if original.body != sent.body and original.body is not None and sent.body is not None:
        parts.append(_part("Body", _lines(original.body), _lines(sent.body)))
    before, after = _attribute_lines(original), _attribute_lines(sent)
    if before != after:
        parts.append(_part("Attributes", before, after))
    return parts


def _part(name: str, before: list[str], after: list[str]) -> dict[str, Any]:
    lines: list[list[str]] = []
    for line in difflib.unified_diff(before, after, n=3, lineterm=""):
        if line.startswith("@@"):
            if lines:
                lines.append([" ", "…"])
        elif not line.startswith(("--- ", "+++ ")) or lines:
            lines.append([line[0], line[1:]])
    if not lines:
        lines.append([" ", "They differ in line breaks or spaces, or beyond what is compared here."])
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [[" ", f"… {len(lines) - MAX_LINES} more lines"]]
    return {"name": name, "lines": lines}


def _lines(body: bytes) -> list[str]:
    text = _text(body) if len(body) <= _COMPARED else _text(body[:_COMPARED], "ignore")
    if text is None:
        return preview(body, 4096).splitlines()
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return text.splitlines() or [""]


def _attribute_lines(detail: MessageDetail) -> list[str]:
    return [
        f"{key}: {value}"
        for key, values in sorted(detail.attributes.items())
        if key != ID_ATTRIBUTE
        for value in values
    ]


def _text(body: bytes, errors: str = "strict") -> str | None:
    """The text of a body; None where it is none that a person can edit as text."""
    try:
        text = body.decode(errors=errors)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _detail(log: MessageLog, message_id: str) -> MessageDetail | None:
    try:
        return log.detail(message_id)
    except KeyError:
        return None
