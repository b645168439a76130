"""Lineage: a conversation as a tree: who caused whom, when, how long it took, and how it ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from msgviz import html
from msgviz.drawing import svg
from msgviz.observing.columns import STR

if TYPE_CHECKING:
    from msgviz.observing.recorder import Recorder

COLUMNS = (
    "depth", "parent_id", "topic", "state", "published", "ended", "attempts", "receiving", "replay_of",
    "last_error",
)  # fmt: skip
_MOST_DRAWN = 200
_ROW, _INDENT, _TREE, _BARS = 24.0, 18.0, 380.0, 420.0


class Lineage(pd.DataFrame):
    """One row per message of a conversation, in the order of the tree; it draws itself.

    Index `message_id`; `depth` (0 for the first), `parent_id`, `topic`, `state`, `published` and `ended`
    (when its last receive ended), `attempts`, `receiving` (time in receivers, all attempts together),
    `replay_of`, `last_error`.
    """

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame  # a slice of it is no tree

    def to_svg(self) -> str:
        """The tree, with a bar for the time of each message, as an SVG document."""
        return draw(self).to_text()

    def _repr_html_(self) -> str:
        left = len(self) - _MOST_DRAWN
        note = html.quiet(f"and {html.plural(left, 'message')} more") if left > 0 else ""
        return f'<div class="msgviz" style="overflow-x:auto">{self.to_svg()}{note}</div>'


def lineage(log: Recorder, message_id: str) -> Lineage:
    """See `MessageLog.lineage`."""
    messages = log.messages
    if message_id not in messages.index:
        raise KeyError(message_id)
    conversation = messages.at[message_id, "conversation_id"]
    messages = messages[messages["conversation_id"] == conversation]
    events = log.events
    events = events[events["conversation_id"] == conversation]
    received = events[events["operation"] == "receive"]
    by_message = received.groupby("message_id", sort=False)
    ends = (received["time"] + received["duration"]).groupby(received["message_id"], sort=False).max()
    frame = pd.DataFrame(
        {
            "parent_id": messages["parent_id"],
            "topic": messages["topic"],
            "state": messages["state"],
            "published": messages["published"],
            "ended": ends.reindex(messages.index),
            "attempts": messages["attempts"],
            "receiving": by_message["duration"].sum().reindex(messages.index),
            "replay_of": events.drop_duplicates("message_id")
            .set_index("message_id")["replay_of"]
            .reindex(messages.index),
            "last_error": messages["last_error"],
        }
    )
    order = dict(_walk(frame))
    frame.insert(0, "depth", pd.Series(order))
    made = Lineage(frame.loc[list(order)].astype({"depth": "int64", "replay_of": STR}))
    made.index.name = "message_id"
    return made


def _walk(frame: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """The messages in the order of the tree, with their depths; each once, whatever a message claims."""
    children: dict[str | None, list[str]] = defaultdict(list)
    known = set(frame.index)
    for message_id, parent, original in zip(frame.index, frame["parent_id"], frame["replay_of"], strict=True):
        above = original if original in known else parent if parent in known else None
        children[above if above != message_id else None].append(message_id)
    left = dict.fromkeys(frame.index)
    for first in [*children[None], *frame.index]:  # the rest: those that claim to cause each other
        stack = [(first, 0)]
        while stack:
            message_id, depth = stack.pop()
            if message_id in left:
                del left[message_id]
                yield message_id, depth
                stack += [(child, depth + 1) for child in reversed(children[message_id])]


def draw(tree: pd.DataFrame) -> svg.Svg:
    """The picture of a lineage: the tree at the left, the time at the right."""
    rows = tree.head(_MOST_DRAWN)
    began = rows["published"].min()
    until = pd.concat([rows["ended"], rows["published"]]).max()
    span = max((until - began).total_seconds(), 1e-6) if pd.notna(began) else 1.0
    height = _ROW * (len(rows) + 1) + 8
    picture = svg.Svg(_TREE + _BARS + 90, height, f"conversation of {len(tree)} messages")
    picture.text(0, 14, "message", fill=svg.QUIET)
    picture.text(_TREE, 14, "0", fill=svg.QUIET)
    picture.text(_TREE + _BARS, 14, _span(span), fill=svg.QUIET, anchor="end")
    picture.line(0, 20.5, _TREE + _BARS + 90, 20.5, stroke=svg.FAINT)
    parents: list[float] = []
    for number, (message_id, row) in enumerate(rows.iterrows()):
        y = _ROW * (number + 1) + 16
        depth = min(int(row["depth"]), 12)
        x = 6 + depth * _INDENT
        parents[depth:] = [y]
        if depth:
            picture.path(
                f"M{x - _INDENT:g} {parents[depth - 1] + 6:g} V{y - 4:g} H{x - 6:g}", stroke=svg.LINE
            )
        _draw_row(picture, str(message_id), row, x, y, began, span)
    return picture


def _draw_row(
    picture: svg.Svg, message_id: str, row: pd.Series[Any], x: float, y: float, began: Any, span: float
) -> None:
    state = str(row["state"])
    error = row["last_error"] if isinstance(row["last_error"], str) else ""
    line = picture.group({"message": message_id}, f"{message_id}: {state.replace('_', ' ')}\n{error}".strip())
    line.dot(x, y - 4, 5, fill=svg.colour(state))
    marks = [state.replace("_", " ")]
    if row["attempts"] > 1:
        marks.append(f"{row['attempts']} attempts")
    if isinstance(row["replay_of"], str):
        marks.append("replay")
    said = ", ".join(marks)
    topic = row["topic"] if isinstance(row["topic"], str) else "?"
    room = _TREE - x - 24
    line.text(x + 12, y, topic, width=room / 2, bold=True)
    at = x + 16 + min(1.1 * svg.text_width(topic), room / 2)
    line.text(at, y, said, width=_TREE - at - 8, fill=svg.QUIET)
    if pd.isna(row["published"]):
        return
    start = _TREE + (row["published"] - began).total_seconds() / span * _BARS
    end = start
    if pd.notna(row["ended"]):
        end = max(_TREE + (row["ended"] - began).total_seconds() / span * _BARS, start)
    line.rect(start, y - 9, max(end - start, 2), 10, fill=svg.colour(state), opacity=0.75)
    if pd.notna(row["ended"]):
        took = (row["ended"] - row["published"]).total_seconds()
        line.text(end + 6, y, _span(took), fill=svg.QUIET)


def _span(seconds: float) -> str:
    """A time span for a person."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min"
