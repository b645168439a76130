"""The Python blocks of the README run as they stand there, one after the other, as notebook cells do."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from msgviz import testing
from tests import capabilities

README = Path(__file__).parent.parent / "README.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


async def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell with top-level await; give the value of its last expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    value = None
    for part, mode in ((tree, "exec"), (last, "eval")):
        if part is not None:
            code: CodeType = compile(part, "<README>", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            value = FunctionType(code, namespace)()
            if inspect.iscoroutine(value):
                value = await value
    return value


async def test_the_blocks_run_and_show_what_the_text_says(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "readme"}
    shown = [await run_cell(block, namespace) for block in blocks()]
    log, report = namespace["log"], namespace["report"]
    assert [entry.status for entry in report] == ["sent"]
    assert sorted(log.messages["state"].iloc[:3]) == ["ok", "ok", "resolved"]
    assert "publish → observe → lz4 → base64 → memory parcels" in map(repr, shown)
    assert (tmp_path / "flow.parquet").exists()

    mv, received = namespace["mv"], []
    for topic, server in (("parcels", "depot"), ("letters", "reader")):
        async with namespace[server].running(received.append):
            await namespace[topic].publish(b"same as before", attributes={"Kept": "yes"})
            await log.settled(timeout=10)
    assert [message.body for message in received] == [b"same as before"] * 2
    assert all(message.attributes["Kept"] == "yes" for message in received)
    await namespace["backend"].close()

    await the_folder_backend_serves(mv, namespace["FolderBackend"](tmp_path / "folder"))
    await the_folder_backend_conforms(lambda: namespace["FolderBackend"](tmp_path / "conformance"))


async def the_folder_backend_conforms(connect: Callable[[], Any]) -> None:
    class FolderHarness(testing.Harness):
        name = "folder"
        tested_on = "a folder of this machine"
        creates = False

        async def connect(self, **options: Any) -> Any:
            return connect(**options)

    for variant in testing.VARIANTS:
        report = await testing.run(FolderHarness(), variant=variant, at_once=4)
        assert not report.failed, report


async def the_folder_backend_serves(mv: Any, folder: Any) -> None:
    log = mv.MessageLog()
    backend = mv.observe(folder, log)
    topic, seen = backend.topic("news"), []
    server = backend.server("news", subscription="paper", max_attempts=2)

    async def print_it(message: Any) -> None:
        seen.append((message.body, message.attempt))
        if message.body == b"false":
            raise ValueError("not printed")

    async with server.running(print_it):
        await topic.publish(b"true", attributes={"Tag": ["a", "b"]})
        await topic.publish(b"false")
        await log.settled(timeout=10)
    await backend.close()
    assert sorted(seen) == [(b"false", 1), (b"false", 2), (b"true", 1)]
    assert sorted(log.messages["state"]) == ["dead", "ok"]


def test_the_tables_of_systems_are_what_the_backends_say() -> None:
    assert capabilities.told() == capabilities.table(), "run: python -m tests.capabilities"
