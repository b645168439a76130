"""The picture of a flow: nodes in columns from left to right, each where it was first placed."""

from __future__ import annotations

from collections.abc import Sequence

from msgviz.drawing import svg
from msgviz.drawing.flow import APPLICATION, Edge, Graph, Key, Node
from msgviz.drawing.tally import WINDOW

MARGIN = 14.0
ROW = 70.0
LANE = 52.0
NODE_WIDTH, NODE_HEIGHT, FIRST_WIDTH = 184.0, 44.0, 108.0
FAN, LABEL, ARRIVAL = 30.0, 132.0, 14.0
"""Of the room between two columns: where lines part, where their numbers stand, where they meet again."""
GAP = FAN + LABEL + ARRIVAL

_FACTS = 23  # letters of a line of facts
_CAPTIONS = {
    "application": "publishes",
    "topic": "topic",
    "subscription": "subscription",
    "dead": "dead letters",
    "direct": "called directly",
}

Pair = tuple[Key, Key]


class Layout:
    """Where each node and each edge is. What has a place keeps it; what is new gets one beside it."""

    def __init__(self) -> None:
        self.nodes: dict[Key, tuple[int, int]] = {}
        """Column and row."""
        self.rows: dict[Pair, int] = {}
        """Of an edge to the next column: the row in which its numbers stand."""
        self.lanes: dict[Pair, int] = {}
        """Of every other edge: the lane below all rows in which it runs."""
        self.numbers: dict[Key | Pair, int] = {}
        """Nodes and edges in the order they came."""
        self._taken: set[tuple[str, int, int]] = set()

    def place(self, graph: Graph) -> None:
        """Give a place to what has none yet."""
        for node in graph.nodes:
            if node.key not in self.nodes:
                follows = graph.follows[node.key]
                default = 0 if node.key == APPLICATION else 1
                column, row = (default, 0) if follows is None else self.nodes[follows]
                column += follows is not None
                self.nodes[node.key] = (column, self._free("node", column, row))
                self.numbers[node.key] = len(self.numbers)
        for edge in graph.edges:
            pair = (edge.source, edge.target)
            if pair in self.numbers:
                continue
            self.numbers[pair] = len(self.numbers)
            (column, _), (target, row) = self.nodes[edge.source], self.nodes[edge.target]
            if target == column + 1:
                self.rows[pair] = self._free("label", column, row)
            else:
                self.lanes[pair] = len(self.lanes)

    def _free(self, what: str, column: int, row: int) -> int:
        while (what, column, row) in self._taken:
            row += 1
        self._taken.add((what, column, row))
        return row

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return max((column for column, _ in self.nodes.values()), default=0) + 1

    @property
    def bottom(self) -> float:
        """Where the rows end and the lanes begin."""
        rows = [row for _, row in self.nodes.values()]
        return MARGIN + ROW * (max([*rows, *self.rows.values()], default=0) + 1)

    def left(self, key: Key) -> float:
        """Where a node begins."""
        column = self.nodes[key][0]
        return MARGIN + (FIRST_WIDTH + GAP + (column - 1) * (NODE_WIDTH + GAP) if column else 0)

    def right(self, key: Key) -> float:
        """Where a node ends."""
        return self.left(key) + (NODE_WIDTH if self.nodes[key][0] else FIRST_WIDTH)

    def middle(self, key: Key) -> float:
        """The height at which edges meet a node."""
        return _line(self.nodes[key][1])

    def identity(self, thing: Key | Pair) -> str:
        """The name of a node or an edge in the picture."""
        return f"{'e' if isinstance(thing[0], tuple) else 'n'}{self.numbers[thing]}"


def _line(row: int) -> float:
    return MARGIN + ROW * row + NODE_HEIGHT / 2


def draw(graph: Graph, layout: Layout) -> svg.Svg:
    """The picture of a flow. What it shows is a group, named by `Layout.identity` in its `data-key`."""
    layout.place(graph)
    notes = _notes(graph)
    width = 2 * MARGIN + FIRST_WIDTH + (layout.columns - 1) * (NODE_WIDTH + GAP) + 12 * bool(layout.lanes)
    lanes_end = layout.bottom + LANE * len(layout.lanes)
    picture = svg.Svg(width, lanes_end + 20 * len(notes), f"flow of {_nouns(graph)}")
    # Not squeezed where there is little room: what is around it scrolls.
    picture.root.set(
        "style", picture.root.attrib["style"].replace("max-width:100%", "display:block;max-width:none")
    )
    picture.rect(0, 0, picture.width, picture.height, radius=0)
    names = {node.key: _name(node) for node in graph.nodes}
    edges = picture.group({"key": "edges"})
    for edge in sorted(graph.edges, key=lambda e: layout.numbers[e.source, e.target]):
        _draw_edge(edges, edge, layout, names)
    nodes = picture.group({"key": "nodes"})
    for node in graph.nodes:
        _draw_node(nodes, node, layout)
    for number, note in enumerate(notes):
        picture.text(MARGIN, lanes_end + 8 + 20 * number, note, fill=svg.QUIET)
    return picture


def _draw_node(picture: svg.Svg, node: Node, layout: Layout) -> None:
    caption = _CAPTIONS[node.kind]
    layers = " → ".join(node.layers)
    title = f"{caption} {node.name}"
    if node.kind == "application":
        title = "application: what was published outside receivers"
    group = picture.group(
        {"key": layout.identity(node.key), "kind": node.kind, "name": _name(node)},
        f"{title}\n{layers}" if layers else title,
    )
    x, y = layout.left(node.key), layout.middle(node.key) - NODE_HEIGHT / 2
    width = layout.right(node.key) - x
    bad = node.kind == "dead"
    is_topic = node.kind in ("topic", "dead")
    pad = 14.0 if is_topic else 16.0 if node.kind != "application" else 10.0
    room = width - 2 * pad + 4
    stroke = svg.colour("dead") if bad else svg.LINE
    group.rect(x, y, width, NODE_HEIGHT, stroke=stroke, radius=3 if node.kind != "subscription" else 16)
    if is_topic:
        group.rect(x, y, 4, NODE_HEIGHT, fill=svg.colour("dead") if bad else svg.BRAND, radius=1.5)
    group.text(x + pad, y + 18, node.name, width=0.93 * room, bold=True)
    if layers:
        # The last of a subscription's is its receiver: it has room before the decorators have.
        shown = layers if is_topic else _last(node.layers, room)
        group.text(x + pad, y + 34, shown, width=room, fill=svg.QUIET, code=True)
    else:
        group.text(x + pad, y + 34, caption, fill=svg.QUIET)


def _last(layers: Sequence[str], room: float) -> str:
    """As many of the last layers as there is room for."""
    for first in range(len(layers)):
        text = " → ".join([*(["…"] if first else []), *layers[first:]])
        if svg.text_width(text) <= room:
            return text
    return layers[-1]


def _draw_edge(picture: svg.Svg, edge: Edge, layout: Layout, names: dict[Key, str]) -> None:
    pair = (edge.source, edge.target)
    name = f"{names[edge.source]} → {names[edge.target]}"
    group = picture.group(
        {"key": layout.identity(pair), "kind": edge.kind, "name": name}, f"{name}\n{', '.join(_told(edge))}"
    )
    path, x, y = _route(pair, layout)
    bad = edge.kind == "dead"
    stroke = svg.colour("dead") if bad else svg.BRAND if edge.rate else svg.LINE
    group.path(path, stroke="transparent", width=14)
    group.path(path, stroke=stroke, width=1.5, dashed=not edge.count)
    tip, at = layout.left(edge.target), layout.middle(edge.target)
    group.path(f"M{tip:g} {at:g} l-8 -4 v8 z", stroke="none", fill=stroke)
    group.text(x, y - 6, _amount(edge), bold=edge.count > 0, fill=svg.INK if edge.most else svg.QUIET)
    below = y + 14
    for line, fill in _facts(edge):
        group.text(x, below, line, fill=fill)
        below += 14


def _route(pair: Pair, layout: Layout) -> tuple[str, float, float]:
    """The path of an edge, and where on it its numbers begin."""
    source, target = pair
    x1, y1, x2, y2 = layout.right(source), layout.middle(source), layout.left(target), layout.middle(target)
    if pair in layout.rows:
        line = _line(layout.rows[pair])
        parts, meet = x1 + FAN, x2 - ARRIVAL
        path = f"M{x1:g} {y1:g}{_curve(x1, y1, parts, line)} H{meet:g}{_curve(meet, line, x2 - 6, y2)}"
        return path, parts + 4, line
    lane = layout.lanes[pair]
    line = layout.bottom + LANE * lane + 8
    down, up, r = x1 + 8 + 4 * (lane % 4), x2 - 16 - 4 * (lane % 4), 5.0
    y1, turn = y1 + 8, 1 if up > down else -1
    path = (
        f"M{x1:g} {y1:g} H{down - r:g} q{r:g} 0 {r:g} {r:g} V{line - r:g} q0 {r:g} {turn * r:g} {r:g} "
        f"H{up - turn * r:g} q{turn * r:g} 0 {turn * r:g} {-r:g} "
        f"V{y2 + r:g} q0 {-r:g} {r:g} {-r:g} H{x2 - 6:g}"
    )
    return path, (down + up) / 2 - LABEL / 2, line


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    if y1 == y2:
        return f" H{x2:g}"
    half = (x1 + x2) / 2
    return f" C{half:g} {y1:g} {half:g} {y2:g} {x2:g} {y2:g}"


def _amount(edge: Edge) -> str:
    if not edge.most:
        return "none yet"
    if edge.count == edge.most:
        said = _short(edge.count)
    else:
        said = f"{_short(edge.count)} to {_short(edge.most)}" if edge.count else f"up to {_short(edge.most)}"
    return f"{said} · {_rate(edge.rate)}" if edge.rate else said


def _facts(edge: Edge) -> list[tuple[str, str]]:
    """What is to be said of an edge beside how many, in lines: what went wrong first."""
    if edge.kind == "dead":
        return [("died", svg.colour("dead"))]
    wrong = [f"{_short(n)} {word}" for n, word in ((edge.failed, "failed"), (edge.died, "died")) if n]
    other = [
        f"{_short(n)} {word}"
        for n, word in (
            (edge.retries, "retry" if edge.retries == 1 else "retries"),
            (edge.in_flight, "in flight"),
            (edge.cancelled, "cancelled"),
        )
        if n
    ]
    lines = [(line, svg.colour("failed")) for line in _pack(wrong)]
    return (lines + [(line, svg.QUIET) for line in _pack(other)])[:3]


def _pack(words: Sequence[str]) -> list[str]:
    """Words in as few lines as have room for them."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= _FACTS:
            lines[-1] += f" · {word}"
        else:
            lines.append(word)
    return lines


def _told(edge: Edge) -> list[str]:
    """All that is known of an edge, in full."""
    if edge.kind == "dead":
        return [f"{_whole(edge.count)} died and became dead letters"]
    verb = "received" if edge.kind == "receive" else "published"
    if not edge.most:
        return ["none yet"]
    told = [f"{_whole(edge.count)} {verb}"]
    if edge.most > edge.count:
        more = _whole(edge.most - edge.count)
        told.append(f"and up to {more} more, while several receivers had the message that caused them")
    if edge.rate:
        told.append(f"{_rate(edge.rate)} over the last {WINDOW:g} seconds")
    counts = (
        (edge.retries, "retries" if edge.retries != 1 else "retry"),
        (edge.failed, "failed"),
        (edge.died, "died"),
        (edge.cancelled, "cancelled"),
        (edge.in_flight, "in flight"),
    )
    return told + [f"{_whole(n)} {word}" for n, word in counts if n]


def _notes(graph: Graph) -> list[str]:
    notes = []
    if graph.hidden:
        notes.append(f"and {_whole(graph.hidden)} more topics and subscriptions, not drawn")
    if graph.missed:
        notes.append(f"{_whole(graph.missed)} older events are not counted: the log dropped them before")
    return notes


def _nouns(graph: Graph) -> str:
    topics = sum(node.kind in ("topic", "dead") for node in graph.nodes)
    subscriptions = sum(node.kind == "subscription" for node in graph.nodes)
    return (
        f"{topics} topic{'' if topics == 1 else 's'} and "
        f"{subscriptions} subscription{'' if subscriptions == 1 else 's'}"
    )


def _name(node: Node) -> str:
    return f"{node.key[1]}/{node.name}" if node.kind == "subscription" else node.name


def _whole(count: int) -> str:
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _short(count: int) -> str:
    """A number that has room on an edge: 12 345, 123 k, 1.23 M."""
    if count < 100_000:
        return _whole(count)
    if count < 999_500:
        return f"{count / 1e3:.0f}\N{NARROW NO-BREAK SPACE}k"
    return f"{count / 1e6:.3g}\N{NARROW NO-BREAK SPACE}M"


def _rate(rate: float) -> str:
    return f"{rate:.0f}/s" if rate >= 9.95 else f"{rate:.1f}/s"
