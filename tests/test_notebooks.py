"""Every notebook runs from top to bottom, in a kernel of its own that reaches no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))

OFFLINE = """
import socket

def connect(self, address, connect=socket.socket.connect):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"this notebook is to run offline, but connects to {address}")
    return connect(self, address)

socket.socket.connect = connect
"""

# What holds when the notebook is done, as an expression that is evaluated in its kernel, and what it gives.
OUTCOMES: dict[str, tuple[str, Any]] = {
    "01_quickstart.ipynb": (
        """{
            "states": {state: int(n) for state, n in log.messages["state"].value_counts().items() if n},
            "errors": log.failures[["error_type", "messages", "dead"]].values.tolist(),
            "board": len(board),
            "midnight": str(board["B6", 1109]),
            "not landed": sorted(flight for (_, flight), landed in board.items() if landed == "did not land"),
        }""",
        {
            "states": {"ok": 842, "resolved": 6},
            "errors": [["TypeError", 5, 0], ["ValueError", 1, 0]],
            "board": 842,
            "midnight": "00:00:00",
            "not landed": [125, 791, 1925, 4204, 4308],
        },
    ),
    "02_backends.ipynb": (
        """{
            "pictures": len({mv.FlowGraph(log).to_svg() for log in (memory, sqlite, nats)}),
            "same": bool(
                numbers.drop(columns="typical_ms")
                .groupby(level=[1, 2], observed=True).nunique().eq(1).all(axis=None)
            ),
            "attempts": numbers.loc["NATS", "attempts"].tolist(),
            "dead": [log.count_states()["dead"] for log in (memory, sqlite, nats)],
            "mended": mended,
            "ended": server.returncode is not None,
        }""",
        {
            "pictures": 1,
            "same": True,
            "attempts": [15, 12, 11],
            "dead": [1, 1, 1],
            "mended": [{"number": 7, "amount": -5}],
            "ended": True,
        },
    ),
    "03_inside_a_chain.ipynb": (
        """{
            "blamed": sorted(set(log.layers.dropna(subset="problem")["layer"])),
            "held": before.decode().startswith("BCJNGG"),
            "lab": lab["outcome"].tolist(),
            "printed": sorted(printed),
            "states": {s: int(n) for s, n in log.messages["state"].value_counts().items() if n},
            "mended": log.layers.query("message_id == @last")["problem"].isna().all().item(),
        }""",
        {
            "blamed": ["lz4"],
            "held": True,
            "lab": ["ok", "ok", "error", "error"],
            "printed": [1, 2, 3, 4, 5, 6],
            "states": {"ok": 6, "resolved": 6},
            "mended": True,
        },
    ),
}


@pytest.fixture
def kernel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels write to a temporary folder, and keep them off the network."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-offline.py").write_text(OFFLINE)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))


def read(name: str) -> nbformat.NotebookNode:
    """Return a notebook of the repository."""
    notebook: nbformat.NotebookNode = nbformat.read(FOLDER / name, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def code_cell(source: str) -> nbformat.NotebookNode:
    """Return a new cell of code."""
    cell: nbformat.NotebookNode = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
    return cell


def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells, and raise `CellExecutionError` on the first that fails."""
    NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


def test_every_notebook_has_an_outcome_to_check() -> None:
    assert sorted(OUTCOMES) == NOTEBOOKS != []


@pytest.mark.usefixtures("kernel_folder")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_reaches_its_end(name: str, tmp_path: Path) -> None:
    notebook = read(name)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    expression, expected = OUTCOMES[name]
    check = code_cell(f"import json\nprint(json.dumps({expression}))")
    notebook.cells.append(check)
    (tmp_path / "work").mkdir()
    run(notebook, tmp_path / "work")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"] == []
    (output,) = check.outputs
    assert json.loads(output.text) == expected
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.usefixtures("kernel_folder")
def test_the_kernel_of_a_notebook_is_offline(tmp_path: Path) -> None:
    code = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)"
    notebook = nbformat.v4.new_notebook(cells=[code_cell(code)])  # type: ignore[no-untyped-call]
    with pytest.raises(CellExecutionError, match="this notebook is to run offline"):
        run(notebook, tmp_path)


def test_the_quickstart_is_short() -> None:
    cells = read("01_quickstart.ipynb").cells
    assert 0 < sum(cell.cell_type == "code" for cell in cells) < 10
