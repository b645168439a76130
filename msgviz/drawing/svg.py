"""SVG, built as a tree of elements: whatever came in a message is escaped by the library that writes it."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import Any
from unicodedata import east_asian_width
from xml.etree import ElementTree

from msgviz import html

NAMESPACE = "http://www.w3.org/2000/svg"

INK = "var(--jp-ui-font-color1,#212121)"
QUIET = "var(--jp-ui-font-color2,#616161)"
FAINT = "var(--jp-border-color2,#cfcfcf)"
LINE = "var(--jp-border-color1,#9e9e9e)"
PAPER = "var(--jp-layout-color1,#ffffff)"
BRAND = "var(--jp-brand-color1,#1976d2)"
OTHER = "var(--jp-ui-font-color3,#757575)"

SIZE = 12.0
"""Pixels of the letters."""
_WIDE = 0.6 * SIZE
"""Pixels that a letter takes at most on average: text is cut to fit, never squeezed."""

# XML has no way to write these at all.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def colour(state: str) -> str:
    """The colour of a state; a state is always named in words beside it."""
    return html.STATE_COLOURS.get(state, OTHER)


def clean(value: object) -> str:
    """A value as one line of text that can be written."""
    return " ".join(_UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", str(value)).split())


def fit(value: object, width: float) -> str:
    """As much of a text as has room in so many pixels."""
    text = clean(value)
    if text_width(text) <= width:
        return text
    ends = [*accumulate(map(_letter_width, text))]
    return text[: bisect_right(ends, width - _WIDE)] + "…"


def text_width(value: object) -> float:
    """Pixels that a text takes at most."""
    return sum(map(_letter_width, clean(value)))


def _letter_width(letter: str) -> float:
    return 2 * _WIDE if east_asian_width(letter) in "WF" else _WIDE


class Svg:
    """One drawing. `data` of an element says what it stands for, for a widget to act on."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width = width
        self.height = height
        self.root = ElementTree.Element(
            "svg",
            {
                "xmlns": NAMESPACE,
                "viewBox": f"0 0 {_number(width)} {_number(height)}",
                "width": _number(width),
                "height": _number(height),
                "role": "img",
                "style": f"max-width:100%;font:{SIZE:g}px var(--jp-ui-font-family,system-ui,sans-serif)",
            },
        )
        name = ElementTree.SubElement(self.root, "title")
        name.text = clean(title)
        self._into = self.root

    def group(self, data: dict[str, str] | None = None, title: str | None = None) -> Svg:
        """A drawing inside this one: what is added to it is one thing, with a title to hover over."""
        inside = object.__new__(Svg)
        inside.width, inside.height, inside.root = self.width, self.height, self.root
        inside._into = self._add("g", {}, data)
        if title:
            name = ElementTree.SubElement(inside._into, "title")
            name.text = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", title)
        return inside

    def text(
        self,
        x: float,
        y: float,
        value: object,
        *,
        width: float | None = None,
        fill: str = INK,
        anchor: str = "start",
        bold: bool = False,
        code: bool = False,
    ) -> None:
        """One line of text whose base line is at `y`, cut to `width` pixels, whole in its title."""
        attributes = {"x": x, "y": y, "fill": fill, "text-anchor": anchor}
        if bold:
            attributes["font-weight"] = "600"
        if code:
            attributes["font-family"] = "var(--jp-code-font-family,ui-monospace,monospace)"
        element = self._add("text", attributes)
        shown = clean(value) if width is None else fit(value, width)
        element.text = shown
        if shown != clean(value):
            whole = ElementTree.SubElement(element, "title")
            whole.text = clean(value)[:1000]

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, stroke: str = LINE, dashed: bool = False
    ) -> None:
        """A straight line."""
        attributes = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "stroke": stroke}
        if dashed:
            attributes["stroke-dasharray"] = "3 3"
        self._add("line", attributes)

    def path(
        self, d: str, *, stroke: str = LINE, fill: str = "none", width: float = 1, dashed: bool = False
    ) -> None:
        """A path, in SVG's own commands, made of numbers alone."""
        attributes = {"d": d, "stroke": stroke, "fill": fill, "stroke-width": width}
        if dashed:
            attributes["stroke-dasharray"] = "3 3"
        self._add("path", attributes)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = PAPER,
        stroke: str = "none",
        radius: float = 3,
        opacity: float = 1,
    ) -> None:
        """A rectangle with round corners."""
        attributes: dict[str, Any] = {"x": x, "y": y, "width": max(width, 0), "height": height, "rx": radius}
        attributes |= {"fill": fill, "stroke": stroke}
        if opacity != 1:
            attributes["opacity"] = opacity
        self._add("rect", attributes)

    def dot(self, x: float, y: float, radius: float, *, fill: str) -> None:
        """A filled circle."""
        self._add("circle", {"cx": x, "cy": y, "r": radius, "fill": fill})

    def _add(
        self, tag: str, attributes: dict[str, Any], data: dict[str, str] | None = None
    ) -> ElementTree.Element:
        written = {k: v if isinstance(v, str) else _number(v) for k, v in attributes.items()}
        written |= {f"data-{k}": clean(v) for k, v in (data or {}).items()}
        return ElementTree.SubElement(self._into, tag, written)

    def to_text(self) -> str:
        """The drawing, to show on a page or to write into a file."""
        return ElementTree.tostring(self.root, encoding="unicode")


def _number(value: float) -> str:
    return f"{round(value, 2):g}"
