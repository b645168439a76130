"""What the Replayer and the Dashboard compute in the kernel: cases, runs, edits, history, static HTML."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import msgviz as mv
from tests.flows import Kept, observed, until

pytest.importorskip("anywidget")

from msgviz.widgets import Dashboard, Replayer
from msgviz.widgets._cases import Case, Cases
from msgviz.widgets._history import case_content, difference
from msgviz.widgets._run import BUSY, Run, check, choose, make_edit


class Flow:
    """Topic `orders` with the subscriptions `billing` and `stock`; each raises what it is told to."""

    def __init__(self, **limits: Any) -> None:
        self.log, self.backend = observed(**limits)
        self.orders = self.backend.topic("orders")
        self.errors: dict[str, Exception | None] = {"billing": ValueError("negative"), "stock": None}
        self.servers = {}
        for name in self.errors:
            server = self.backend.server("orders", subscription=name, max_attempts=2, backoff=0)
            server.start(self.receiver(name))
            self.servers[name] = server
        self.cases = Cases(self.log)

    def receiver(self, name: str) -> mv.Receiver:
        async def receive(message: mv.Message) -> None:
            error = self.errors[name]
            if error is not None and message.body.startswith(b"bad"):
                raise error

        return receive

    async def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            await self.orders.publish(body, attributes={"Source": "web"})
        await self.settle()

    async def settle(self) -> None:
        await self.log.settled(5)
        await self.cases.update()

    async def replay(self, *cases: Case, edit: dict[str, Any] | None = None) -> Run:
        chosen = choose(self.cases, [case.key for case in cases])
        run = Run(self.log, self.cases, chosen, make_edit(edit or {}), None)
        await run.go()
        await self.settle()
        run.follow()
        return run

    def tell(self) -> list[tuple[str, str | None, str, int]]:
        return [(c.error_type, c.subscription, c.status, len(c.tries)) for c in self.cases.all.values()]

    async def close(self) -> None:
        for server in self.servers.values():
            await server.shutdown(5)
        await self.backend.close()


@pytest.fixture
async def flow() -> Any:
    flow = Flow()
    yield flow
    await flow.close()


async def test_a_message_is_a_case_at_each_place_where_it_failed(flow: Flow) -> None:
    flow.errors["stock"] = KeyError("gone")
    await flow.publish(b"good", b"bad 1", b"bad 2")
    assert sorted(flow.tell(), key=str) == [
        ("KeyError", "stock", "dead", 1),
        ("KeyError", "stock", "dead", 1),
        ("ValueError", "billing", "dead", 1),
        ("ValueError", "billing", "dead", 1),
    ]
    groups = {group["errorType"]: group for group in flow.cases.to_groups()}
    assert groups["ValueError"]["failures"] == 4
    assert groups["ValueError"]["open"] == 2
    assert groups["ValueError"]["error"] == "negative"

    # A replay of one case leaves the other place alone.
    flow.errors.update(billing=None, stock=None)
    billing = next(c for c in flow.cases.all.values() if c.subscription == "billing")
    await flow.replay(billing)
    states = {c.key: c.status for c in flow.cases.of(billing.root)}
    assert states.pop(billing.key) == "resolved"
    assert set(states.values()) == {"dead"}
    received = flow.log.events.query("operation == 'receive' and replay_of.notna()")
    assert received["subscription"].tolist() == ["billing"]


async def test_what_goes_well_on_a_later_attempt_has_recovered(flow: Flow) -> None:
    async def second_time(message: mv.Message) -> None:
        if message.attempt == 1:
            raise TimeoutError("slow")

    flow.servers["billing"].start(second_time)
    await flow.publish(b"x")
    assert flow.tell() == [("TimeoutError", "billing", "ok", 1)]
    assert choose(flow.cases, groups=[{"group": 0}]) == []


async def test_a_replay_that_fails_with_another_error_moves_the_case(flow: Flow) -> None:
    await flow.publish(b"bad")
    [case] = flow.cases.all.values()
    flow.errors["billing"] = LookupError("unknown")
    run = await flow.replay(case, edit={"body": {"text": "bad too"}})
    assert flow.tell() == [("LookupError", "billing", "dead", 2)]
    assert [group["errorType"] for group in flow.cases.to_groups()] == ["LookupError"]
    [row] = run.content()["rows"]
    assert (row["outcome"], row["reason"]) == ("dead", "LookupError: unknown")
    assert flow.log.message(case.root).body == b"bad"
    assert case.latest == row["replayId"]

    # What is sent next stems from what was sent last, and resolves them all.
    await flow.replay(case, edit={"body": {"text": "good"}})
    assert case.status == "resolved"
    assert flow.log.count_states()["resolved"] == 2
    assert flow.log.detail(case.latest).replay_of == row["replayId"]


async def test_two_replays_of_one_case_are_never_under_way_together(flow: Flow) -> None:
    await flow.publish(b"bad")
    [case] = flow.cases.all.values()
    gate = asyncio.Event()

    async def wait(message: mv.Message) -> None:
        await gate.wait()

    flow.servers["billing"].start(wait)
    chosen = choose(flow.cases, [case.key])
    await Run(flow.log, flow.cases, chosen, None, None).go()
    await flow.cases.update()
    assert case.status == "replayed"
    assert await check(flow.log, chosen) == {
        "ready": 0,
        "skipped": 1,
        "reasons": [{"reason": BUSY, "count": 1}],
    }
    second = Run(flow.log, flow.cases, chosen, None, None)
    await second.go()
    assert second.content()["counts"] == {"skipped": 1}
    gate.set()
    await flow.settle()
    assert case.status == "resolved"
    assert len(case.tries) == 2


async def test_replays_made_in_a_cell_are_followed_too(flow: Flow) -> None:
    await flow.publish(b"bad 1", b"bad 2")
    first, second = flow.cases.all.values()

    async def elsewhere(message: mv.Message) -> None:
        """A receiver that is no server's."""

    await flow.log.replay(first.root, to=elsewhere)
    await flow.log.replay(second.root, to=flow.backend.topic("other"))
    await flow.cases.update()
    assert [first.status, second.status] == ["resolved", "replayed"]
    flow.backend.server("other").start(elsewhere)
    await flow.settle()
    assert second.status == "resolved"


async def test_a_publish_that_failed_is_a_case_without_a_subscription() -> None:
    log = mv.MessageLog()
    kept = Kept("orders", error=OSError("no route"))
    topic = mv.observe(kept, log)
    with pytest.raises(OSError, match="no route"):
        await topic.publish(b"lost")
    cases = Cases(log)
    await cases.update()
    [case] = cases.all.values()
    assert (case.topic, case.subscription, case.status) == ("orders", None, "dead")
    kept.error = None
    run = Run(log, cases, choose(cases, [case.key]), None, None)
    await run.go()
    await cases.update()
    assert [message.body for message in kept.sent] == [b"lost"]


async def test_what_the_log_drops_is_no_case_any_more() -> None:
    flow = Flow(max_events=64)
    await flow.publish(b"bad")
    [case] = flow.cases.all.values()
    assert len(flow.cases.to_groups()) == 1
    flow.errors["billing"] = None
    await flow.replay(case)  # only what has gone well is dropped before the rest
    for number in range(200):
        await flow.publish(b"%d" % number)
    assert flow.log.dropped
    assert flow.cases.all == {}
    assert flow.cases.to_groups() == []
    assert flow.cases.of(case.root) == []
    await flow.close()


async def test_a_group_is_chosen_but_for_some(flow: Flow) -> None:
    await flow.publish(*(b"bad %d" % number for number in range(5)))
    keys = list(flow.cases.all)
    chosen = choose(flow.cases, groups=[{"group": 0, "except": keys[1:3]}])
    assert [case.key for case, _ in chosen if case] == [keys[0], *keys[3:]]
    flow.errors["billing"] = None
    await flow.replay(flow.cases.all[keys[0]])
    # What was selected and is resolved by now is not sent again, unless a person asks for just that.
    assert len(choose(flow.cases, marked=keys)) == 4
    assert len(choose(flow.cases, keys[:1])) == 1
    assert choose(flow.cases, [999], marked=[998], groups=[{"group": 997}]) == []


async def test_a_run_is_stopped_between_two_messages(flow: Flow) -> None:
    await flow.publish(*(b"bad %d" % number for number in range(4)))
    run = Run(flow.log, flow.cases, choose(flow.cases, list(flow.cases.all)), None, 1e-3)
    going = asyncio.ensure_future(run.go())
    await until(lambda: run.done)
    run.stop()
    await asyncio.wait_for(going, 5)
    content = run.content()
    assert (content["done"], content["total"], content["running"], content["stopped"]) == (1, 4, False, True)
    assert flow.log.events["replay_of"].dropna().nunique() == 1


async def test_what_was_not_kept_is_skipped_with_its_reason() -> None:
    flow = Flow(max_body=10)
    await flow.publish(b"bad", b"bad" * 10)
    chosen = choose(flow.cases, list(flow.cases.all))
    found = await check(flow.log, chosen)
    assert (found["ready"], found["skipped"]) == (1, 1)
    assert "30 bytes was not kept" in found["reasons"][0]["reason"]
    run = await flow.replay(*flow.cases.all.values())
    assert run.content()["counts"] == {"dead": 1, "skipped": 1}
    await flow.close()


MESSAGE = mv.Message(b'{"a": 1}', {"Source": "web", "Kind": ["x", "y"]})


@pytest.mark.parametrize(
    ("wish", "body", "attributes"),
    [
        ({"body": {"text": "é\n"}}, "é\n".encode(), {"Source": ["web"], "Kind": ["x", "y"]}),
        ({"body": {"text": "a\nb", "crlf": True}}, b"a\r\nb", {"Source": ["web"], "Kind": ["x", "y"]}),
        ({"body": {"hex": "00 fF\n10"}}, b"\x00\xff\x10", {"Source": ["web"], "Kind": ["x", "y"]}),
        ({"attributes": {"a": ["1", "2"]}}, MESSAGE.body, {"A": ["1", "2"]}),
        ({"attributes": {}}, MESSAGE.body, {}),
        ({"set": [["kind", "z"]], "remove": ["source", "absent"]}, MESSAGE.body, {"Kind": ["z"]}),
    ],
)
def test_edits(wish: dict[str, Any], body: bytes, attributes: dict[str, list[str]]) -> None:
    edit = make_edit(wish)
    assert edit is not None
    edited = edit(mv.Message(MESSAGE.body, MESSAGE.attributes))
    assert edited.body == body
    assert edited.attributes.to_dict() == attributes


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"body": {"hex": "0g"}}, "no hex"),
        ({"body": {"hex": "0"}}, "no hex"),
        ({"set": [["", "x"]]}, "needs a name"),
        ({"remove": ["msgviz-ID"]}, "msgviz's own"),
        ({"attributes": {"Msgviz-Id": ["a.b.c"]}}, "msgviz's own"),
    ],
)
def test_edits_that_make_no_sense(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_edit(wish)


def test_no_edit() -> None:
    assert make_edit({}) is None
    assert make_edit({"set": [], "remove": []}) is None


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b'{"a": 1}', {"text": '{"a": 1}'}),
        (b"a\r\nb\r\n", {"text": "a\nb\n", "crlf": True}),
        (b"a\r\nb\n", {"hex": "61 0d 0a 62 0a"}),
        ("\u00a0\u2028".encode(), {"text": "\u00a0\u2028"}),
        (b"\x00\xff", {"hex": "00 ff"}),
        (b"", {"text": ""}),
    ],
)
async def test_a_body_can_be_edited_as_what_gives_it_back(
    flow: Flow, body: bytes, form: dict[str, Any]
) -> None:
    async def fail(message: mv.Message) -> None:
        raise ValueError

    flow.servers["billing"].start(fail)
    await flow.publish(body)
    [case] = flow.cases.all.values()
    content = case_content(flow.log, case)
    assert {name: content[name] for name in ("text", "hex", "crlf") if name in content} == form
    edit = make_edit({"body": form})
    assert edit is not None
    assert edit(mv.Message(b"")).body == body


async def test_a_long_body_is_not_edited(flow: Flow) -> None:
    await flow.publish(b"bad" * 30_000)
    [case] = flow.cases.all.values()
    content = case_content(flow.log, case)
    assert "too long to edit" in content["locked"]
    assert "text" not in content


async def test_the_history_shows_what_was_changed(flow: Flow) -> None:
    await flow.publish(b'bad {"a": 1}')
    [case] = flow.cases.all.values()
    await flow.replay(case)
    await flow.replay(case, edit={"body": {"text": '{"a": 2}'}, "set": [["Mended", "yes"]]})
    original, same, edited = case_content(flow.log, case)["history"]
    assert (original["original"], original["error"]) == (True, "ValueError: negative")
    assert same["changes"] == []
    assert [part["name"] for part in edited["changes"]] == ["Body", "Attributes"]
    assert ["-", 'bad {"a": 1}'] in edited["changes"][0]["lines"]
    assert ["+", '  "a": 2'] in edited["changes"][0]["lines"]
    assert edited["changes"][1]["lines"] == [["+", "Mended: yes"], [" ", "Source: web"]]
    assert edited["state"] == "ok"


@pytest.mark.parametrize(
    ("before", "after", "sign_and_text"),
    [
        (b"\x00\x01", b"\x00\x02", ["+", "000000  00 02"]),
        (b"--- a\n+++ b", b"--- a\n+++ c", ["-", "+++ b"]),
        (b'{"a":1}', b'{"a": 1}', [" ", "They differ in line breaks"]),
        (b"x" * 30_000 + b"1", b"x" * 30_000 + b"2", [" ", "They differ in line breaks"]),
        (b"\n" * 500, b"y\n" * 500, [" ", "… 800 more lines"]),
    ],
)
async def test_differences(before: bytes, after: bytes, sign_and_text: list[str]) -> None:
    log = mv.MessageLog()
    topic = mv.observe(Kept(), log)
    await topic.publish(before)
    await topic.publish(after)
    one, two = (log.detail(message_id) for message_id in log.messages.index)
    [part] = difference(one, two)
    sign, text = sign_and_text
    assert any(line[0] == sign and line[1].startswith(text) for line in part["lines"])


async def test_the_replayer_replays_from_python_too(flow: Flow) -> None:
    await flow.publish(b"bad")
    replayer = Replayer(flow.log)
    flow.errors["billing"] = None
    replayer.replay(list(flow.log.messages.query("state == 'dead'").index))
    with pytest.raises(RuntimeError, match="a replay is running"):
        replayer.replay([])
    await until(lambda: replayer.run is not None and not replayer.run.running)
    await flow.log.settled(5)
    assert flow.log.count_states()["resolved"] == 1
    replayer.close()


EVIL = "<script>alert(1)</script>"


async def test_without_a_kernel(flow: Flow) -> None:
    assert "Nothing has failed" in Replayer(flow.log)._repr_html_()
    flow.errors["billing"] = ValueError(EVIL)
    await flow.publish(b"bad" + EVIL.encode())
    replayer, dashboard = Replayer(flow.log), Dashboard(flow.log, flow.backend)
    for page in (replayer._repr_html_(), dashboard._repr_html_()):
        assert "orders/billing" in page
        assert "&lt;script&gt;alert(1)" in page
        assert EVIL not in page
    assert dashboard._repr_mimebundle_()["text/html"] == dashboard._repr_html_()
    assert "application/vnd.jupyter.widget-view+json" in dashboard._repr_mimebundle_()
    dashboard.close()
    assert dashboard.table.bridge.closed


async def test_what_a_dashboard_is_made_from(flow: Flow) -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        Replayer(flow.log, height=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword"):
        Dashboard(flow.log, color="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"mv\.observe\(backend, log\)"):
        Dashboard(flow.log, mv.connect("memory://"))
    with pytest.raises(ValueError, match=r"mv\.observe\(backend, log\)"):
        Dashboard(mv.MessageLog(), flow.backend)


async def test_a_click_in_the_table_moves_the_inspector(flow: Flow) -> None:
    await flow.publish(b"good")
    dashboard = Dashboard(flow.log)
    dashboard.table.message_id = "a-1"
    assert dashboard.inspector.message_id == "a-1"
    dashboard.table.message_id = None  # nothing is selected any more: what is shown stays
    assert dashboard.inspector.message_id == "a-1"
    dashboard.publisher.message_id = "a-2"
    assert dashboard.inspector.message_id == "a-2"
    dashboard.close()
