"""What a ChainView tells of a message's way through its chain, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgviz import html
from msgviz.message import preview
from msgviz.observing.failure import DROPPED
from msgviz.observing.ledger import DIRECTIONS, IN, OUT, difference, problem, time_alone
from msgviz.observing.probes import layer_name

if TYPE_CHECKING:
    from msgviz.observing.ledger import Crossing, Passage

MOST_STEPS = 200
"""Steps of one way that are told; a layer that sends again and again makes many."""

MOST_ATTRIBUTES = 50
_NAME = 200  # characters of the name of a layer
_VALUE = 1000  # characters of an attribute's key or value
_VALUES = 10  # values of one attribute
_PROBLEM = 2000  # characters of what went wrong

WentOut = Mapping[int, "Crossing"]
"""The crossings of a message on its way out, by depth; the last one, where there are several."""


def went_out(passages: Iterable[Passage]) -> WentOut:
    """What an encoder was given and made, at each depth: what its decoder is compared with."""
    return {c.depth: c for p in passages if p.direction == OUT for c in p.crossings()}


def version(passage: Passage) -> int:
    """A number that changes whenever the message gets further on this way."""
    return sum(1 + (crossing.ended is not None) for crossing in passage.crossings())


def outcome(crossing: Crossing | None) -> str:
    """How a crossing ended: ok, error, cancelled, dropped (by a person), or running."""
    if crossing is None or crossing.ended is None:
        return "running"
    if crossing.failure is None:
        return "ok"
    return "dropped" if crossing.failure.error_type == DROPPED else crossing.failure.outcome


def told_problem(crossing: Crossing, out: WentOut) -> str | None:
    """What went wrong in this layer, in words."""
    if outcome(crossing) == "dropped":
        return None  # a person's doing and not the layer's
    return problem(crossing, out.get(crossing.depth))


def first_problem(passage: Passage, out: WentOut) -> str | None:
    """The layer in which something first went wrong; None where nothing did."""
    wrong = [c for c in passage.crossings() if told_problem(c, out) is not None]
    if not wrong:
        return None
    # What was not undone makes trouble further in; an error may become another one further out.
    not_undone = [c for c in wrong if c.failure is None or not c.raised_here]
    return _cut((not_undone or wrong[-1:])[0].layer, _NAME)


def describe_way(number: int, passage: Passage, out: WentOut) -> dict[str, Any]:
    """One way out or in, without its steps."""
    first = passage.first
    return {
        "number": number,
        "direction": DIRECTIONS[passage.direction],
        "topic": passage.topic,
        "subscription": passage.subscription,
        "attempt": passage.attempt,
        "time": None if first is None else passage.time / 1e6,
        "outcome": outcome(first),
        "problem": first_problem(passage, out),
        "arrived": _arrived(passage, out),
        "unreached": [{"depth": depth, "layer": _cut(layer, _NAME)} for depth, layer in unreached(passage)],
        "size": None if first is None else len(first.body),
        "version": version(passage),
    }


def _arrived(passage: Passage, out: WentOut) -> bool | None:
    """Whether the system delivered the bytes that it was given; None where one of both is not known."""
    wire = out.get(max(out)) if out else None
    if passage.direction == OUT or passage.first is None or wire is None or not is_end(wire):
        return None
    return passage.first.body == wire.body


def unreached(passage: Passage) -> list[tuple[int, str]]:
    """The layers of the chain that the message was not seen in, by depth, in the order it would meet them."""
    seen = {crossing.depth for crossing in passage.crossings()}
    if not seen:
        return []
    # What comes before the first is not missing: the message was sent on from there.
    first = min(seen) if passage.direction == OUT else max(seen)
    behind = [
        (depth, layer_name(layer))
        for depth, layer in sorted(passage.chain.behind.items(), reverse=passage.direction == IN)
        if depth not in seen and (depth > first) == (passage.direction == OUT)
    ]
    return behind[:MOST_STEPS]


def is_end(crossing: Crossing) -> bool:
    """Whether a message goes no further than this: the system, or the receiver."""
    if crossing.passage.direction == IN:
        return crossing.depth == 0
    return crossing.depth >= max(crossing.passage.chain.behind, default=0)


def walk(passage: Passage) -> Iterator[tuple[str, Crossing]]:
    """The steps of a way with the path to each: that of a crossing stays while others are added."""
    if passage.first is not None:
        yield from _walk("0", passage.first)


def _walk(path: str, crossing: Crossing) -> Iterator[tuple[str, Crossing]]:
    yield path, crossing
    for index, inner in enumerate(crossing.inner):
        yield from _walk(f"{path}.{index}", inner)


def find(passage: Passage, path: str) -> Crossing:
    """The crossing at a path; `LookupError` where there is none."""
    crossing = passage.first
    for index in path.split(".")[1:]:
        crossing = None if crossing is None else crossing.inner[int(index)]
    if crossing is None:
        raise LookupError(f"there is no step {path}")
    return crossing


def describe_steps(passage: Passage, out: WentOut) -> list[dict[str, Any]]:
    """The steps of one way, in the order the message went them."""
    return [_describe(path, crossing, out) for path, crossing in islice(walk(passage), MOST_STEPS)]


def _describe(path: str, crossing: Crossing, out: WentOut) -> dict[str, Any]:
    after = crossing.inner[-1] if crossing.inner else None
    added, removed, changed = difference(crossing.values, crossing.values if after is None else after.values)
    lines = [
        *(
            {"how": "changed", "key": _cut(k), "before": _values(old), "after": _values(new)}
            for k, (old, new) in changed.items()
        ),
        *({"how": "removed", "key": _cut(k), "before": _values(v)} for k, v in removed.items()),
        *({"how": "added", "key": _cut(k), "after": _values(v)} for k, v in added.items()),
    ]
    wrong = told_problem(crossing, out)
    return {
        "path": path,
        "depth": crossing.depth,
        "layer": _cut(crossing.layer, _NAME),
        "end": is_end(crossing),
        "before": len(crossing.body),
        "after": None if after is None else len(after.body),
        "same": after is None or after.body == crossing.body,
        "seconds": None if crossing.ended is None else time_alone(crossing) / 1e9,
        "outcome": outcome(crossing),
        "attributes": lines[:MOST_ATTRIBUTES],
        "more": max(0, len(lines) - MOST_ATTRIBUTES),
        "passes": len(crossing.inner),
        "problem": None if wrong is None else _cut(wrong, _PROBLEM),
        "notes": notes(crossing),
    }


def notes(crossing: Crossing) -> list[str]:
    """What else is to be said of a step, that is no fault of the layer."""
    said = []
    how, inner, layer = outcome(crossing), crossing.inner, _cut(crossing.layer, _NAME)
    if how == "running":
        further = bool(inner) and any(c.ended is None for c in inner)
        if crossing.passage.chain.loaded:
            said.append(f"The message was {'further on' if further else 'here'} when the log was saved.")
        else:
            said.append("The message is further on." if further else "The message is here now.")
    if how == "dropped" and crossing.raised_here:
        said.append(f"A person dropped the message at a breakpoint behind {layer}.")
    elif how == "cancelled":
        said.append("It was cancelled before it ended.")
    elif how == "error" and not crossing.raised_here and crossing.failure is not None:
        said.append(f"Passed on {crossing.failure.error_type}, which was raised further on.")
    if len(inner) > 1:
        said.append(f"Handed the message on {len(inner)} times; what follows “after” is the last.")
    if how == "ok" and not inner and not is_end(crossing):
        said.append("Handed nothing on: the message ended here, or went on later.")
    if crossing.paused:
        lasted = _seconds(crossing.paused)
        said.append(f"Held for {lasted} at a breakpoint behind {layer}, which is not counted.")
    if crossing.edited:
        said.append(f"A person edited the message at a breakpoint behind {layer}: “after” is as edited.")
    return said


def _cut(text: str, most: int = _VALUE) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _values(values: list[str]) -> list[str]:
    some = [_cut(value) for value in values[:_VALUES]]
    return [*some, f"… and {len(values) - _VALUES} more"] if len(values) > _VALUES else some


def _seconds(nanoseconds: int) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds / 1e3:.3g} µs"


SIGNS = {"added": "+", "removed": "\N{MINUS SIGN}", "changed": "±"}


def table(passage: Passage, out: WentOut) -> html.Html:
    """One way on a page without a kernel."""
    rows: list[tuple[object, ...]] = [
        (
            html.code(step["layer"]),
            _sizes(step),
            "" if step["seconds"] is None else _seconds(int(step["seconds"] * 1e9)),
            _lines(_line(line) for line in step["attributes"]),
            html.state(step["outcome"]),
            _lines(_said(step)),
            html.code(preview(crossing.body, 60)),
        )
        for step, (_, crossing) in zip(describe_steps(passage, out), walk(passage), strict=False)
    ]
    rows += [
        (html.code(layer), *[""] * 3, html.quiet("not reached"), "", "") for _, layer in unreached(passage)
    ]
    head = ("layer", "size", "time in it", "attributes", "outcome", "what went wrong", "body that came to it")
    return html.table(head, rows)


def _sizes(step: Mapping[str, Any]) -> str:
    before, after = step["before"], step["after"]
    if after is None:
        return html.size(before)
    if step["same"]:
        return f"{html.size(before)}, not changed"
    ratio = f", \N{MULTIPLICATION SIGN}{after / before:.3g}" if before else ""
    return f"{html.size(before)} → {html.size(after)}{ratio}"


def _lines(lines: Iterable[str]) -> html.Html:
    return html.Html("".join(f"<div>{html.text(line)}</div>" for line in lines))


def _line(line: Mapping[str, Any]) -> html.Html:
    values = [", ".join(line[side]) for side in ("before", "after") if side in line]
    said = f"{SIGNS[line['how']]} {line['how']} {line['key']}: {' → '.join(values)}"
    return html.code(_cut(said, 300))


def _said(step: Mapping[str, Any]) -> list[str]:
    return [*([f"✕ {step['layer']} {step['problem']}"] if step["problem"] else []), *step["notes"]]
