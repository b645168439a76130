"""A conversation as a tree: who caused whom, and a picture of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgviz as mv
from msgviz.drawing.svg import clean, fit
from msgviz.lineage import _walk
from tests.flows import accept, observed

SVG = "{http://www.w3.org/2000/svg}"


async def shop() -> tuple[mv.MessageLog, dict[str, str]]:
    """An order that causes an invoice, which fails and is replayed, and a mail. Gives the ids by topic."""
    log, backend = observed()
    topics = {name: backend.topic(name) for name in ("orders", "invoices", "mails")}
    mended = False

    async def charge(message: mv.Message) -> None:
        if message.attempt == 1:
            raise ConnectionError("no bank")
        await topics["invoices"].publish(b"invoice")
        await topics["mails"].publish(b"mail")

    async def invoice(message: mv.Message) -> None:
        if not mended:
            raise ValueError("no printer")

    backend.server("orders", backoff=0).start(charge)
    backend.server("invoices", max_attempts=2, backoff=0).start(invoice)
    backend.server("mails").start(accept)
    await topics["orders"].publish(b"order")
    await log.settled(5)
    ids = {topic: i for i, topic in log.messages["topic"].items()}
    mended = True
    report = await log.replay()
    await log.settled(5)
    ids["replay"] = str(report[0].replay_id)
    await topics["orders"].publish(b"another story")
    await log.settled(5)
    await backend.close()
    return log, ids


async def test_the_tree() -> None:
    log, ids = await shop()
    for asked in ids.values():  # any message of it tells the same
        tree = log.lineage(asked)
        assert list(tree.index) == [ids["orders"], ids["invoices"], ids["replay"], ids["mails"]]
    assert list(tree["depth"]) == [0, 1, 2, 1]
    assert list(tree["state"]) == ["ok", "resolved", "ok", "ok"]
    assert list(tree["attempts"]) == [2, 2, 1, 1]
    assert list(tree["replay_of"].dropna()) == [ids["invoices"]]
    assert tree.loc[ids["orders"], "last_error"] == "ConnectionError: no bank"
    assert (tree["ended"] >= tree["published"]).all()
    assert (tree["receiving"] >= pd.Timedelta(0)).all()


async def test_it_draws_itself() -> None:
    log, ids = await shop()
    tree = log.lineage(ids["mails"])
    picture = ElementTree.fromstring(tree.to_svg())
    rows = [g.get("data-message") for g in picture.iter(f"{SVG}g")]
    assert rows == list(tree.index)
    words = " ".join(t.text or "" for t in picture.iter(f"{SVG}text"))
    for word in ("orders", "resolved, 2 attempts", "ok, replay"):
        assert word in words
    assert "<svg" in tree._repr_html_()
    assert "<svg" not in (tree.query("depth > 0")._repr_html_() or "")  # a part is a plain table again


async def test_what_came_in_a_message_is_only_text(tmp_path: Path) -> None:
    log, backend = observed()
    name = "</text><script>alert(1)</script>\x00\x1b\ud800 " + "long " * 100
    backend.server(name, max_attempts=1).start(lambda _: 1 / 0)
    await backend.topic(name).publish(b"x")
    await log.settled(5)
    await backend.close()
    picture = log.lineage(log.messages.index[0]).to_svg()
    assert "<script" not in picture
    (tmp_path / "tree.svg").write_text(picture)
    tags = {element.tag for element in ElementTree.parse(tmp_path / "tree.svg").iter()}
    assert f"{SVG}script" not in tags


def test_an_unknown_message() -> None:
    with pytest.raises(KeyError, match="nobody"):
        mv.MessageLog().lineage("nobody")


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)),
        unique_by=lambda t: t[0],
    )
)
def test_whatever_messages_claim_each_is_in_the_tree_once(
    claims: list[tuple[int, int | None, int | None]],
) -> None:
    names = [str(i) for i, _, _ in claims]
    frame = pd.DataFrame(
        {
            "parent_id": [None if p is None else str(p) for _, p, _ in claims],
            "replay_of": [None if r is None else str(r) for _, _, r in claims],
        },
        index=names,
        dtype=object,
    )
    walked = list(_walk(frame))
    assert sorted(i for i, _ in walked) == sorted(names)
    assert all(depth >= 0 for _, depth in walked)


@given(st.text(), st.floats(10, 500))
def test_text_is_cut_to_its_room(text: str, width: float) -> None:
    assert len(fit(text, width)) <= max(width / 7.2, 1)
    element = ElementTree.Element("text")
    element.text = clean(text)
    assert ElementTree.fromstring(ElementTree.tostring(element, "unicode")).text in (clean(text), None)
