"""The quickstart as a person goes through it: its cells, and what it says can be done with the mouse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.lab import Lab

QUICKSTART = Path(__file__).resolve().parents[2] / "notebooks" / "01_quickstart.ipynb"


def test_the_failures_are_found_mended_and_replayed_with_the_mouse(lab: Lab) -> None:
    notebook = nbformat.read(QUICKSTART, as_version=4)  # type: ignore[no-untyped-call]
    cells = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    mend = cells.pop("mend")
    replay = cells.pop("replay")
    book = lab.run([*cells.values()])

    inspector = book.widget("inspector").last
    expect(inspector).to_contain_text("dead")
    expect(inspector).to_contain_text("TypeError: unsupported operand type(s) for //: 'NoneType' and 'int'")

    failures = book.widget("replayer")
    groups = failures.get_by_test_id("group")
    expect(groups).to_have_count(2)
    midnight = groups.filter(has_text="ValueError")
    midnight.get_by_test_id("open").click()
    midnight.get_by_test_id("traceback").click()
    expect(midnight).to_contain_text("time(landed // 100, landed % 100)")

    book.execute(mend)
    for group in groups.all():
        group.get_by_test_id("group-select").check()
    failures.get_by_role("button", name="Replay 6 messages").click()
    expect(failures.get_by_test_id("outcomes")).to_contain_text("resolved 6", use_inner_text=True)
    expect(groups).to_have_count(0)
    expect(inspector).to_contain_text("resolved")

    # The cell that does it in code finds nothing left to send.
    book.execute(replay)
    counts = "{state: int(n) for state, n in log.messages['state'].value_counts().items() if n}"
    assert book.evaluate(counts) == {"ok": 842, "resolved": 6}
