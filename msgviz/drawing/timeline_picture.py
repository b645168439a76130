"""The picture of a conversation as a sequence diagram."""

from __future__ import annotations

from datetime import UTC, datetime

from msgviz import html
from msgviz.dead_letters import dead_letter_topic
from msgviz.drawing import svg
from msgviz.drawing.timeline import APPLICATION, Event, Key, Step, Timeline
from msgviz.message import Source
from msgviz.observing.failure import DROPPED

TIMES, LANE, HEAD, ROW = 84.0, 172.0, 44.0, 36.0
MARGIN, BOX, NEST, MIN_BOX = 14.0, 10.0, 6.0, 18.0


def draw(timeline: Timeline, *, live: bool = False) -> svg.Svg:
    """The picture. A step is a group with its own `data-key`; `data-of` is the number of its message.

    A `live` one does not say how much is not drawn, so that it stays the same while what is drawn does.
    """
    said = f"{html.plural(len(timeline.messages), 'message')}, {html.plural(timeline.events, 'event')}"
    note = f"and {html.plural(timeline.hidden, 'more event')}, not drawn" if timeline.hidden else ""
    if note and live:
        said, note = "many events", f"only the first {timeline.most} events are drawn"
    bottom = _y(len(timeline.rows)) - 8
    width = MARGIN + TIMES + LANE * len(timeline.lifelines) + 40
    picture = svg.Svg(width, bottom + 14 + 20 * bool(note), f"conversation of {said}")
    # Not squeezed where there is little room: what is around it scrolls.
    picture.root.set(
        "style", picture.root.attrib["style"].replace("max-width:100%", "display:block;max-width:none")
    )
    picture.rect(0, 0, picture.width, picture.height, radius=0)
    lines = picture.group({"key": "lines"})
    for number in range(len(timeline.lifelines)):
        lines.line(_x(number), MARGIN + HEAD, _x(number), bottom, stroke=svg.FAINT)
    times = picture.group({"key": "times"})
    for row, at in enumerate(timeline.rows):
        times.text(TIMES, _y(row) + 4, offset(at - timeline.rows[0]), fill=svg.QUIET, anchor="end")
    steps = picture.group({"key": "steps"})
    for step in timeline.steps:
        _draw_step(steps, step, timeline)
    if note:
        picture.group({"key": "notes"}).text(MARGIN, bottom + 16, note, fill=svg.QUIET)
    _draw_heads(picture.group({"key": "heads"}), timeline)
    return picture


def _x(lifeline: int) -> float:
    return MARGIN + TIMES + LANE * lifeline + LANE / 2


def _y(row: int) -> float:
    return MARGIN + HEAD + 32 + ROW * row


def _draw_heads(picture: svg.Svg, timeline: Timeline) -> None:
    picture.rect(0, 0, picture.width, MARGIN + HEAD, radius=0)
    if timeline.rows:
        began = datetime.fromtimestamp(timeline.rows[0] / 1e9, UTC)
        picture.text(TIMES, MARGIN + 18, began.strftime("%H:%M:%S"), fill=svg.QUIET, anchor="end")
        picture.text(TIMES, MARGIN + 34, "UTC", fill=svg.QUIET, anchor="end")
    receivers = [key[1:] for key in timeline.lifelines if key[0] == "receiver"]
    letters = {dead_letter_topic(Source(t, s)) for t, s in receivers if t is not None and s is not None}
    for number, key in enumerate(timeline.lifelines):
        kind, name = key[0], _name(key)
        dead = kind == "topic" and name in letters
        caption = "dead letters" if dead else _caption(key)
        group = picture.group({"key": f"l{number}", "kind": str(kind)}, f"{name}\n{caption}")
        x = _x(number) - LANE / 2 + 8
        width = LANE - 16
        stroke = svg.colour("dead") if dead else svg.LINE
        group.rect(x, MARGIN, width, HEAD, stroke=stroke, radius=16 if kind == "receiver" else 3)
        if kind == "topic":
            group.rect(x, MARGIN, 4, HEAD, fill=stroke if dead else svg.BRAND, radius=1.5)
        group.text(x + 14, MARGIN + 18, name, width=width - 26, bold=True)
        group.text(x + 14, MARGIN + 34, caption, width=width - 26, fill=svg.QUIET)


def _name(key: Key) -> str:
    if key == APPLICATION:
        return "application"
    return str(key[-1]) if key[-1] is not None else "receiver" if key[0] == "receiver" else "no topic"


def _caption(key: Key) -> str:
    if key[0] == "receiver":
        return "called directly" if key[1] is None else f"receives {key[1]}"
    return "publishes" if key == APPLICATION else "topic"


def _draw_step(picture: svg.Svg, step: Step, timeline: Timeline) -> None:
    event = step.event
    told = _told(step, timeline)
    group = picture.group(
        {"key": f"s{step.number}", "of": str(step.message), "kind": event.operation, "name": told[0]},
        "\n".join(told),
    )
    right = step.target > step.source
    turn = 1 if right else -1
    x1, y = _x(step.source), _y(step.row)
    x2 = _x(step.target) + NEST * min(step.level, 4)
    if event.operation == "receive":
        x2 -= turn * BOX / 2
    elif timeline.lifelines[step.source] != APPLICATION:
        x1 += turn * BOX / 2
    bad = event.outcome == "error" and event.operation == "publish"
    stroke = svg.colour("error") if bad else svg.BRAND if event.replay_of else svg.QUIET
    path = f"M{x1:g} {y:g} H{x2 - turn * 6:g}"
    group.path(path, stroke="transparent", width=12)
    group.path(path, stroke=stroke, width=1.5, dashed=event.operation == "receive" and event.attempt > 1)
    group.path(f"M{x2:g} {y:g} l{-turn * 8} -4 v8 z", stroke="none", fill=stroke)
    label = _label(step, timeline)
    group.text(
        x1 + turn * 14, y - 6, label, width=LANE - 28, anchor="start" if right else "end",
        fill=svg.colour("error") if bad else svg.INK,
    )  # fmt: skip
    if event.operation == "receive":
        _draw_box(group, step, timeline)


def _draw_box(group: svg.Svg, step: Step, timeline: Timeline) -> None:
    event = step.event
    x = _x(step.target) + NEST * min(step.level, 4)
    y = _y(step.row)
    last = step.last_row if event.ended is not None else len(timeline.rows) - 1
    end = max(_y(last), y + MIN_BOX) if event.ended is not None else _y(last) + MIN_BOX
    state = event.outcome or "in_flight"
    fill = svg.colour(state) if event.outcome else svg.PAPER
    group.rect(x - BOX / 2, y, BOX, end - y, fill=fill, stroke=svg.colour(state), radius=2)
    words = svg.QUIET if event.outcome == "ok" else svg.colour(state)
    group.text(x + BOX / 2 + 5, end - 4, _mark(event), width=LANE - 36, fill=words)


def _mark(event: Event) -> str:
    """How a receive ended, in as few words as have room beside its box."""
    if event.outcome is None or event.ended is None:
        return "in flight"
    if event.outcome == "ok":
        return span(event.ended - event.began)
    why = event.error_type or event.outcome
    return f"✕ dead: {why}" if event.died else f"✕ {why}"


def _label(step: Step, timeline: Timeline) -> str:
    event, name = step.event, f"#{step.message}"
    if event.operation == "publish":
        if event.outcome != "ok":
            return f"{name} ✕ {event.error_type or event.outcome}"
        if event.replay_of is not None:
            return f"{name} replay of {_other(event.replay_of, timeline)}"
        return f"{name} publish{' ?' if step.perhaps else ''}"
    return f"{name} retry, attempt {event.attempt}" if event.attempt > 1 else name


def _other(message_id: str, timeline: Timeline) -> str:
    number = timeline.messages.get(message_id)
    return message_id if number is None else f"#{number}"


def _told(step: Step, timeline: Timeline) -> list[str]:
    """All that is to be said of a step, the most important first."""
    event = step.event
    names = [_name(key) for key in timeline.lifelines]
    if event.operation == "publish":
        told = [f"#{step.message} published to {names[step.target]} by {names[step.source]}"]
        if event.replay_of is not None:
            told.append(f"replay of {_other(event.replay_of, timeline)}, {event.replay_of}")
        if step.perhaps:
            others = ", ".join(names[one] for one in step.perhaps)
            told.append(f"or by {others}, which had the message that caused it at the same time")
        if event.parent_id is not None and event.replay_of is None:
            told.append(f"caused by {_other(event.parent_id, timeline)}")
    else:
        retry = f", attempt {event.attempt}" if event.attempt > 1 else ""
        told = [f"#{step.message} received by {names[step.target]}{retry}"]
    if event.outcome is None or event.ended is None:
        told.append("in flight")
    else:
        word = {"ok": "ok", "error": "failed"}.get(event.outcome, event.outcome)
        why = ": ".join(part for part in (event.error_type, event.error[:300]) if part)
        told.append(f"{word} after {span(event.ended - event.began)}{': ' if why else ''}{why}")
    if event.died:
        told.append("dropped" if event.error_type == DROPPED else "dead: it has used up its attempts")
    return [*told, event.message_id, html.size(event.size)]


def offset(nanoseconds: int) -> str:
    """The time since the first row, fine enough to tell rows apart: 0, +12.34 ms, +2.9831 s, +4:05.120."""
    if nanoseconds == 0:
        return "0"
    sign, size = "+" if nanoseconds > 0 else "-", abs(nanoseconds)
    if size < 1e9:
        digits = f"{size / 1e3:.0f} µs" if size < 1e6 else f"{size / 1e6:.{2 if size < 1e8 else 1}f} ms"
        return sign + digits
    if size < 60e9:
        return f"{sign}{size / 1e9:.4f} s"
    minutes, rest = divmod(size, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{sign}{clock}:{rest // 1_000_000 / 1e3:06.3f}"


def span(nanoseconds: int) -> str:
    """A time span for a person."""
    seconds = nanoseconds / 1e9
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} µs" if seconds < 99.95e-6 else f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    if seconds < 3599.5:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
