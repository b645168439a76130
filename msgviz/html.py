"""Static HTML: what an object shows on a page without a kernel. Everything put into it is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;"
    "color:var(--jp-ui-font-color1,inherit)"
)
_CODE = "font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px"
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;border:0"
_RULE = "border-bottom:1px solid var(--jp-border-color2,#ccc)"

STATE_COLOURS = {
    "ok": "var(--jp-success-color1,#388e3c)",
    "resolved": "var(--jp-success-color1,#388e3c)",
    "sent": "var(--jp-success-color1,#388e3c)",
    "ready": "var(--jp-brand-color1,#1976d2)",
    "error": "var(--jp-error-color1,#d32f2f)",
    "failed": "var(--jp-error-color1,#d32f2f)",
    "dead": "var(--jp-error-color1,#d32f2f)",
    "retrying": "var(--jp-warn-color1,#f57c00)",
    "cancelled": "var(--jp-warn-color1,#f57c00)",
    "replayed": "var(--jp-brand-color1,#1976d2)",
    "in_flight": "var(--jp-brand-color1,#1976d2)",
}
_QUIET = "var(--jp-ui-font-color3,#888)"


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def text(value: object) -> Html:
    """A value as text."""
    if isinstance(value, Html):
        return value
    # A lone surrogate is no text that a notebook could be sent or saved with.
    return Html(escape(str(value).encode("utf-8", "backslashreplace").decode()))


def code(value: object) -> Html:
    """A value in the font of code; long ones break anywhere."""
    return Html(f'<span style="{_CODE};overflow-wrap:anywhere">{text(value)}</span>')


def state(name: str) -> Html:
    """A state as a dot and a word, never as a colour alone."""
    colour = STATE_COLOURS.get(name, _QUIET)
    return Html(
        f'<span style="white-space:nowrap"><span aria-hidden="true" style="color:{colour}">●</span> '
        f"{escape(name.replace('_', ' '))}</span>"
    )


def quiet(value: object) -> Html:
    """A value that is only a note."""
    return Html(f'<span style="color:{_QUIET}">{text(value)}</span>')


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table with a head."""
    head = "".join(f'<th scope="col" style="{_CELL};{_RULE}">{escape(c)}</th>' for c in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{text(value)}</td>' for value in row) + "</tr>" for row in rows
    )
    return Html(
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:4px 0;font-size:inherit">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def block(value: object) -> Html:
    """Several lines of code."""
    return Html(
        f'<pre style="{_CODE};white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;'
        f'max-height:24em;overflow:auto">{text(value)}</pre>'
    )


def card(title: object, *parts: object) -> Html:
    """The whole of what an object shows: a title, and what stands below it."""
    inside = "".join(f"<div>{text(part)}</div>" for part in parts if part)
    return Html(f'<div class="msgviz" style="{_STYLE}"><strong>{text(title)}</strong>{inside}</div>')


def size(count: int) -> str:
    """A number of bytes for a person: 12 B, 3.4 kB, 5.6 MB."""
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        count_in = count / 1000 ** (("kB", "MB", "GB").index(unit) + 1)
        if count_in < 999.5 or unit == "GB":
            return f"{count_in:.3g} {unit}"
    raise AssertionError


def plural(count: int, noun: str) -> str:
    """A count and its noun: 1 message, 2 messages."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")
