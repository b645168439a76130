"""The first page of code that msgviz promises runs as it stands there, in a notebook's cells."""

from __future__ import annotations

import ast
import asyncio
import inspect
from types import FunctionType
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE

# Each block is one cell; comments as they stand on the page.
FIRST_PAGE = [
    """import msgviz as mv

log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)      # every topic and server made from it is observed

orders = backend.topic("orders")
billing = backend.server("orders", subscription="billing", concurrency=4)

async def charge(message: mv.Message) -> None:
    if message.json()["amount"] < 0:
        raise ValueError("negative amount")

billing.start(charge)                                    # serves in the background, across cells
await orders.publish(json={"amount": 12}, attributes={"Source": "web"})
await orders.publish(json={"amount": -1}, attributes={"Source": "web"})
await log.settled()                                      # every observed message has ended: ok or dead
""",
    "log.events        # pandas DataFrame: one row per publish and per receive",
    "log.messages      # one row per message: state, attempts, latency, cause",
    "mv.Dashboard(log, backend)                               # or watch it live",
    """async def charge(message: mv.Message) -> None: ...       # mended
billing.start(charge)                                    # running the cell again swaps the receiver
await log.replay(log.messages.query("state == 'dead'"))  # send the failures again
""",
    """await log.settled()
await billing.shutdown()
""",
]

DECORATORS = [
    "from msgviz.decorators import base64, lz4",
    """\
topic = lz4.encoder(base64.encoder(orders))        # the body meets lz4 first, then base64, then the backend
receiver = base64.decoder(lz4.decoder(charge))     # and comes back the other way
""",
    """chain = (lz4, base64)                              # in the order the body meets them on its way out
orders = backend.topic("orders", decorators=chain)
billing = backend.server("orders", subscription="billing", decorators=chain)
""",
]


async def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does, with top-level await; give the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    value = None
    for part in (tree, last and ast.Expression(last.value)):  # type: ignore[attr-defined]
        if part:
            mode = "eval" if isinstance(part, ast.Expression) else "exec"
            code = compile(part, "<cell>", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            value = FunctionType(code, names)()
            if inspect.iscoroutine(value):
                value = await value
    return value


def check_the_first_page(names: dict[str, Any], shown: list[Any]) -> None:
    events, messages, dashboard, report = shown[1], shown[2], shown[3], shown[4]
    assert isinstance(events, pd.DataFrame)
    assert (events["operation"] == "publish").sum() == 2
    assert (events["outcome"] == "error").sum() == 5  # the attempts that a subscription has
    assert set(events.loc[events["outcome"] == "error", "error"]) == {"negative amount"}
    assert all(attributes["Source"] == ["web"] for attributes in events["attributes"])
    assert messages["state"].tolist() == ["ok", "dead"]
    assert messages["attempts"].tolist() == [1, 5]
    assert dashboard is not None
    assert [entry.status for entry in report] == ["sent"]
    log = names["log"]
    assert log.messages["state"].tolist() == ["ok", "resolved", "ok"]
    assert log.messages["conversation_id"].iloc[2] == log.messages.index[1]
    assert log.events["replay_of"].dropna().unique().tolist() == [log.messages.index[1]]
    with pytest.raises(mv.ServerClosed):
        names["billing"].start(print)


async def test_the_first_page_runs():
    names: dict[str, Any] = {}
    shown = [await run_cell(cell, names) for cell in FIRST_PAGE]
    check_the_first_page(names, shown)
    names["mv"].Dashboard.close(shown[3])


def test_the_first_page_runs_in_ipython():
    shell = InteractiveShell.instance()
    shown = []

    async def notebook() -> None:
        for cell in FIRST_PAGE:
            transformed = shell.transform_cell(cell)
            result = await shell.run_cell_async(transformed, transformed_cell=transformed)
            result.raise_error()
            shown.append(result.result)

    try:
        asyncio.run(notebook())
        check_the_first_page(shell.user_ns, shown)
    finally:
        InteractiveShell.clear_instance()


async def test_a_hand_composed_chain_is_the_mirror_of_itself():
    names: dict[str, Any] = {}
    got = asyncio.Queue()
    await run_cell(FIRST_PAGE[0], names)
    await names["billing"].shutdown()
    names["charge"] = got.put
    await run_cell(DECORATORS[0], names)
    await run_cell(DECORATORS[1], names)
    topic, receiver = names["topic"], names["receiver"]
    bare, wire = names["backend"].next, asyncio.Queue()
    assert mv.chain(topic).names == ["lz4", "base64", "observe", "memory orders"]
    assert mv.chain(receiver).names[:2] == ["base64", "lz4"]
    both = (bare.server("orders", subscription="wire"), bare.server("orders", subscription="billing"))
    async with both[0].running(wire.put), both[1].running(receiver):
        await topic.publish(b"hello " * 100, attributes={"Kind": "test"})
        decoded, raw = await got.get(), await wire.get()
    assert decoded.body == b"hello " * 100
    assert sorted(decoded.attributes) == ["Kind", ID_ATTRIBUTE]
    assert raw.attributes["Content-Transfer-Encoding"] == "base64"
    assert raw.attributes["Content-Encoding"] == "lz4"
    assert raw.body.isascii()


async def test_a_chain_named_once_serves_both_sides():
    names: dict[str, Any] = {}
    got = asyncio.Queue()
    await run_cell(FIRST_PAGE[0], names)
    await names["billing"].shutdown()  # it would compete with the one below
    for cell in DECORATORS[::2]:
        await run_cell(cell, names)
    log, billing = names["log"], names["billing"]
    assert mv.chain(names["orders"]).names == ["observe", "lz4", "base64", "memory orders"]
    before = len(log)
    async with billing.running(got.put):
        assert mv.chain(billing).names[:3] == ["base64", "lz4", "observe"]
        await names["orders"].publish(b"hello", attributes={"Kind": "test"})
        message = await got.get()
    assert message.body == b"hello"
    assert "Content-Encoding" not in message.attributes
    assert set(log.events["body"].iloc[before:]) == {b"hello"}
    assert log.events["topic"].iloc[before:].tolist() == ["orders", "orders"]
