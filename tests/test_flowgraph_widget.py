"""The FlowGraph without a browser: what it sends, and what a click on it chooses."""

from __future__ import annotations

import pytest

import msgviz as mv

pytest.importorskip("anywidget")

from msgviz.drawing.flow import Flow
from msgviz.drawing.flow_picture import Layout
from msgviz.observing.expression import evaluate
from msgviz.widgets.flowgraph import FlowGraph, filters
from tests.flows import accept, observed, refuse, until
from tests.pages import Page
from tests.test_flowgraph import HOSTILE, _closed, elements, kept, shop, words  # noqa: F401


async def test_the_picture_follows_the_log_and_is_sent_when_it_changed() -> None:
    log, backend = observed()
    widget = kept(FlowGraph(log))
    page = Page(widget)
    await page.show()
    assert await page.ask("show") == ""
    await backend.topic("t").publish(b"")
    picture = await page.until(lambda value: "t" in elements(value))
    assert words(elements(picture)["application → t"])[0].startswith("1 · 0.2/s")
    assert words(elements(widget.to_svg())["application → t"]) == ["1"]
    for _ in range(3):
        await backend.topic("t").publish(b"")
    after = await page.until(lambda value: words(elements(value)["application → t"])[0].startswith("4 "))
    keys = {name: e.attrib["data-key"] for name, e in elements(picture).items()}
    assert {name: e.attrib["data-key"] for name, e in elements(after).items()} == keys


async def test_each_element_selects_the_events_that_it_counts() -> None:
    log, backend = observed()
    flow = Flow(log)
    for topic in ("t", HOSTILE):
        sink = backend.topic(f"{topic} sink")

        async def forward(message: mv.Message, sink: mv.Topic = sink) -> None:
            await sink.publish(message.body)

        async with (
            backend.server(topic, subscription=HOSTILE).running(forward),
            backend.server(topic, subscription="refuses", max_attempts=1).running(refuse),
            backend.server(sink.name).running(accept),
        ):
            await backend.topic(topic).publish(b"")
            await backend.topic(topic).publish(b"")
            await log.settled(5)
            await log.replay(log.messages.index[log.messages["topic"] == topic][:2])
            await log.settled(5)
    table = mv.MessageTable(log)
    widget = kept(FlowGraph(log, table=table))
    page = Page(widget)
    await page.ask("show")
    flow.update()
    graph = flow.graph()
    layout = Layout()
    layout.place(graph)
    events = log.events
    assert len(graph.edges) > 10
    for edge in graph.edges:
        await page.ask("select", key=layout.identity((edge.source, edge.target)))
        await until(lambda: table.facets)
        chosen = events[evaluate(table.query, events)] if table.query else events
        for name, values in table.facets.items():
            chosen = chosen[chosen[name].isin(values)]
        assert len(chosen) == edge.count, (edge, table.facets, table.query)
        await page.ask("select", key="")
        await until(lambda: not table.facets)
    table.close()


async def test_a_second_click_clears_and_so_does_another_filter() -> None:
    log, backend = observed()
    await shop(log, backend)
    table = kept(mv.MessageTable(log))
    widget = kept(FlowGraph(log, table=table))
    page = Page(widget)
    found = elements(await page.ask("show"))
    key = found["orders → orders/billing"].attrib["data-key"]
    await page.ask("select", key=key)
    place = {"topic": "orders", "subscription": "billing", "operation": "receive"}
    await until(lambda: table.query)
    assert widget.selection == place
    assert table.facets == {"topic": ["orders"], "operation": ["receive"]}
    assert table.query == "subscription == 'billing'"
    await page.ask("select", key=key)
    await until(lambda: not table.query)
    assert (widget.selection, table.facets) == (None, {})

    widget.selection = place
    await until(lambda: table.query)
    assert widget._selected == key
    table.query = "size > 3"
    await until(lambda: widget.selection is None)
    assert (table.query, table.facets["topic"]) == ("size > 3", ["orders"])
    widget.selection = {"topic": "elsewhere"}
    await until(lambda: table.facets == {"topic": ["elsewhere"]})
    assert (widget._selected, table.query) == ("", "")


async def test_a_click_without_a_table_only_selects() -> None:
    log, backend = observed()
    await backend.topic("t").publish(b"")
    widget = kept(FlowGraph(log))
    page = Page(widget)
    await page.ask("select", key=elements(await page.ask("show"))["t"].attrib["data-key"])
    assert widget.selection == {"topic": "t"}
    await page.ask("select", key="e99")
    assert widget.selection is None


async def test_mistakes_are_told() -> None:
    log, _ = observed()
    table = kept(mv.MessageTable(mv.MessageLog()))
    with pytest.raises(ValueError, match="another log"):
        FlowGraph(log, table=table)
    with pytest.raises(TypeError, match="MessageTable"):
        FlowGraph(log, table=log)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="colour"):
        FlowGraph(log, colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="'size'"):
        filters({"size": "3"})
