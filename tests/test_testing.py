"""The conformance suite: a sound backend passes, and every fault is caught by the checks that name it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import msgviz as mv
from msgviz import testing
from msgviz.testing.__main__ import main
from tests.backends.conformance import conformance
from tests.broker import Broker, BrokerBackend, BrokerHarness, BrokerTopic
from tests.mutants import Mutant
from tests.mutants_of_life import MUTANTS

CHECKS = {check.name: check for check in testing.checks()}
LITTLE = {
    "max_body": 4000,
    "max_attributes": 12,
    "max_delay": 1.0,
    "binary_body": False,
    "multi_valued_attributes": False,
    "addressable_subscriptions": False,
}


@pytest.fixture
def able() -> testing.Harness:
    return BrokerHarness()


@pytest.fixture
def limited() -> testing.Harness:
    return BrokerHarness(features=LITTLE)


test_a_system_that_can_do_all = conformance("able")
test_all_checks_at_once = conformance("able", at_once=20)
test_a_system_that_can_do_little = conformance("limited")


async def test_a_system_with_little_room() -> None:
    harness = BrokerHarness(features={"max_body": 4000, "max_attributes": 12})
    chosen = [check for check in CHECKS.values() if re.search("limits|too|whole|largest|bodies", check.name)]
    for variant in testing.VARIANTS:
        report = await testing.run(harness, variant=variant, only=chosen)
        assert report.failed == [], str(report)
        assert len(report.passed) >= 8, str(report)


async def test_every_check_applies_somewhere() -> None:
    for check in CHECKS.values():
        able, limited = BrokerHarness(), BrokerHarness(features=LITTLE)
        why = [check.why_not(h, (await h.connect()).features) for h in (able, limited)]
        assert None in why, (check.name, why)


@pytest.mark.parametrize(
    ("mutant", "name"), [(mutant, name) for mutant in MUTANTS for name in mutant.checks], ids=str
)
async def test_a_fault_is_caught(mutant: Mutant, name: str) -> None:
    for timeout in (0.4, 4.0):  # the second on a busy machine, where a fault may look like another
        harness = BrokerHarness(mutant.part, **{"timeout": timeout, "quiet": timeout / 4, **mutant.harness})
        report = await testing.run(harness, only=[CHECKS[name]])
        assert [result.check.name for result in report.failed] == [name], f"{name} did not catch: {mutant}"
        text = report.failed[0].text
        if re.search(mutant.says, text, re.DOTALL):
            return
    raise AssertionError(text)


def test_every_check_catches_a_fault() -> None:
    caught = {name for mutant in MUTANTS for name in mutant.checks}
    assert caught <= CHECKS.keys()
    assert [name for name in CHECKS if name not in caught] == []


def test_every_check_says_what_it_proves() -> None:
    assert [check.name for check in CHECKS.values() if not re.fullmatch(r"[A-Z`].*\.", check.proves)] == []


def test_topics_have_plain_names_of_their_own() -> None:
    names = [BrokerHarness().topic("Ünusual: a/b. " * 9) for _ in range(50)]
    assert len(set(names)) == 50
    assert all(re.fullmatch(r"conformance-[0-9a-f]{8}-[a-z0-9-]{1,20}", name) for name in names), names[0]


async def test_a_failure_says_what_was_wrong() -> None:
    class Drops(BrokerTopic):
        async def put(self, message: mv.Message, delay: float) -> None:
            if self.backend.broker.tick("put") not in (3, 5):
                await super().put(message, delay)

    with pytest.raises(testing.CheckFailed) as told:
        await CHECKS["publish and receive"].run(BrokerHarness(Drops, timeout=0.3))
    assert str(told.value) == (
        "publish and receive on broker: after 0.3 s: the receiver: 2 of 40 messages never came: m-2, m-4"
    )


async def test_a_check_that_does_not_apply_is_told_by_name() -> None:
    told: list[tuple[str, object]] = []
    check = CHECKS["order"]
    harness = BrokerHarness(features={"ordered": False})
    why = await check.run(harness, lambda name, value: told.append((name, value)))
    assert why == "the order of messages is not kept"
    assert told == [("not applicable", "broker: order: the order of messages is not kept")]
    assert await check.run(BrokerHarness(), lambda name, value: told.append((name, value))) is None
    assert len(told) == 1


async def test_a_harness_exempts_checks_by_name() -> None:
    harness = BrokerHarness(_SwallowsDelay, exempt={"delay": "this emulator has no clock"})
    report = await testing.run(harness, only=[CHECKS["delay"]])
    assert [str(result) for result in report] == ["not applicable  delay: this emulator has no clock"]
    harness = BrokerHarness(exempt={"dealy": "a slip"})
    with pytest.raises(ValueError, match="exempts checks that there are not: dealy"):
        await CHECKS["fan-out"].run(harness)


async def test_a_backend_that_hangs_fails_its_check() -> None:
    class Hangs(BrokerTopic):
        async def send(self, message: mv.Message, delay: float) -> None:
            await asyncio.Event().wait()

    with pytest.raises(testing.CheckFailed, match=r"did not end within 0\.4 s"):
        await CHECKS["fan-out"].run(BrokerHarness(Hangs, timeout=0.1))


async def test_a_backend_that_cannot_be_closed_fails_every_check() -> None:
    class Stays(BrokerBackend):
        async def disconnect(self) -> None:
            raise RuntimeError("it stays")

    with pytest.raises(testing.CheckFailed, match=r"closing the backend failed: .*it stays"):
        await CHECKS["fan-out"].run(BrokerHarness(Stays))


async def test_a_server_that_ends_is_told_at_once() -> None:
    class Ends(Broker):
        def lend(self, *arguments: Any) -> Any:
            raise KeyError("the queue is gone")

    with pytest.raises(testing.CheckFailed, match=r"ended by itself: .*the queue is gone"):
        await CHECKS["fan-out"].run(BrokerHarness(Ends, timeout=60.0))


async def test_a_report_has_every_check_in_one_place() -> None:
    chosen = [CHECKS[name] for name in ("text bodies", "order", "delay")]
    seen: list[testing.Result] = []
    harness = BrokerHarness(_SwallowsDelay, features={"ordered": False})
    report = await testing.run(harness, only=chosen, progress=seen.append)
    assert list(report) == seen
    assert [
        [r.check.name for r in part] for part in (report.passed, report.failed, report.not_applicable)
    ] == [
        ["text bodies"],
        ["delay"],
        ["order"],
    ]
    first, second, third = str(report).splitlines()
    assert first.startswith("broker (this process): 1 of 3 checks passed, 1 failed, 1 do not apply, in ")
    assert re.fullmatch(r"  failed +delay: a message delayed by 0\.4 s came after 0\.\d+ s", second)
    assert re.fullmatch(r"  not applicable  order: the order of messages is not kept", third)


class _SwallowsDelay(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        await super().put(message, 0.0)


async def test_a_run_that_is_cancelled_ends() -> None:
    running = asyncio.create_task(testing.run(BrokerHarness()))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_variants_put_everything_around_a_backend() -> None:
    harness = testing.VARIANTS["observed and decorated"](BrokerHarness())
    backend = harness.wrap(await harness.connect())
    topic = backend.topic("t")
    assert [layer for layer in str(mv.chain(topic)).split() if layer in ("observe", "lz4", "base64")] == [
        "observe",
        "lz4",
        "base64",
    ]
    assert str(harness) == "broker, observed and decorated"
    await backend.close()
    assert backend.closed


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory://", "--check", "fan-out", "--check", "no server", "--variant", "all"]) == 0
    out = capsys.readouterr().out
    assert out.count("passed          fan-out\n") == 2
    assert "memory (memory://): 1 of 2 checks passed, 0 failed, 1 do not apply" in out
    assert "not applicable  no server: there is no server to reach" in out


def test_the_command_line_tells_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    host = BrokerHarness(_SwallowsDelay)
    monkeypatch.setattr(
        "msgviz.testing.__main__.connect",
        lambda url, **options: host.backend.from_url(f"broker://me:right@{broker.host}", **options),
    )
    assert main(["broker://me:right@there", "--check", "delay"]) == 1
    out = capsys.readouterr().out
    assert "failed          delay: a message delayed by 0.4 s came after" in out
    assert "right" not in out


@pytest.mark.parametrize(
    ("url", "says"),
    [("nowhere://x:secret@y", "no backend answers to nowhere://"), ("memory://x", "names no place")],
)
def test_the_command_line_with_a_wrong_url(capsys: pytest.CaptureFixture[str], url: str, says: str) -> None:
    assert main([url]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "secret" not in told


AUTHOR = """
import pytest
import msgviz as mv
from msgviz import testing

class MyHarness(testing.Harness):
    name = "mine"
    shared = creates = False

    async def connect(self, **options):
        return mv.connect("memory://", **options)

@pytest.mark.parametrize("check", testing.checks(), ids=str)
@pytest.mark.parametrize("variant", testing.VARIANTS)
async def test_conformance(check, variant, record_property):
    await check.run(testing.VARIANTS[variant](MyHarness()), record_property)
"""


def test_an_author_runs_it_with_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(AUTHOR)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["msgviz.testing.summary"]')
    options = (
        "asyncio_mode = auto",
        "asyncio_default_fixture_loop_scope = function",
        "filterwarnings = error",
    )
    (tmp_path / "pytest.ini").write_text("\n".join(("[pytest]", *options)))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "fan or server"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "mine, observed and decorated: no server: there is no server to reach" in run.stdout
    assert "skipped" not in run.stdout


def test_importing_it_imports_nothing_third_party() -> None:
    code = (
        "import sys; before = set(sys.modules); import msgviz.testing; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["msgviz"]
