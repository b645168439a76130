"""sqlite://: what is in a file, who is woken by what comes into it, and how it is written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.backends.sqlite import SqliteServer
from msgviz.backends.sqlite import file as queue_file
from msgviz.backends.sqlite.file import QueueFile
from tests.flows import refuse, until
from tests.queues import Holding, Taking, bodies_left, drained, numbered, publish


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flow.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[mv.Backend]:
    async with mv.connect(f"sqlite:///{path}") as connected:
        yield connected


@contextmanager
def bare(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, as anybody opens it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def asked(path: Path, question: str) -> Any:
    """The first value of what anybody may ask the file."""
    with bare(path) as connection:
        return connection.execute(question).fetchone()[0]


# What is in it


async def test_a_person_reads_it_with_sql(path: Path, backend: mv.Backend) -> None:
    await backend.declare("orders", "billing", "stock")
    await backend.topic("orders").publish(b"12", attributes={"Source": "web", "Tags": ["a", "ü"]})
    with bare(path) as connection:
        rows = connection.execute(
            "SELECT topic, name, body, json_extract(attributes, '$.Source', '$.Tags') FROM delivery "
            "JOIN message ON message.id = delivery.message "
            "JOIN subscription ON subscription.id = delivery.subscription"
        ).fetchall()
    assert rows == [("orders", name, b"12", '["web",["a","ü"]]') for name in ("billing", "stock")]


async def test_a_body_is_stored_once_and_goes_with_its_last_delivery(path: Path, backend: mv.Backend) -> None:
    await backend.declare("t", "a", "b")
    await backend.topic("t").publish(b"x", delay=1000)
    await publish(backend.topic("t"), *numbered(3))
    assert asked(path, "SELECT count(*) FROM message") == 4
    assert await bodies_left(backend, "t", "a") == numbered(3)
    assert asked(path, "SELECT count(*) FROM message") == 4
    assert await bodies_left(backend, "t", "b") == numbered(3)
    assert asked(path, "SELECT count(*) FROM message") == 1


@pytest.mark.parametrize(
    ("body", "attributes", "message"),
    [
        (b"x", '{"k": ["v", "w"]}', mv.Message(b"x", {"K": ["v", "w"]})),
        (b"x", '{"k": 1}', mv.Message(b"x")),
        (b"x", "no JSON", mv.Message(b"x")),
        (b"x", b"\xff", mv.Message(b"x")),
        (b"x", "[" * 100_000, mv.Message(b"x")),
        ("text ü", "{}", mv.Message("text ü".encode())),
        (7, 7, mv.Message(b"7")),
    ],
)
async def test_what_others_write_is_received_as_well_as_may_be(
    path: Path, backend: mv.Backend, body: Any, attributes: Any, message: mv.Message
) -> None:
    await backend.declare("t", "default")
    with bare(path) as connection:
        connection.execute("INSERT INTO message VALUES (1, ?, ?)", (body, attributes))
        connection.execute(
            "INSERT INTO delivery (subscription, message, tag) SELECT id, 1, CAST(x'ff' AS TEXT) "
            "FROM subscription WHERE topic = 't'"
        )
    assert await drained(backend, "t") == [message]


@pytest.mark.parametrize("name", ["'; DROP TABLE message; --", "a\0b", "ü\n 🦆", "%s ?", "default.dead"])
async def test_odd_names(backend: mv.Backend, name: str) -> None:
    server = backend.server(name, subscription=name, max_attempts=1)
    dead = Taking()
    async with server.running(refuse), backend.server(f"{name}.{name}.dead").running(dead):
        await backend.topic(name).publish(b"x")
        await until(lambda: dead.messages)
    assert dead.messages[0].attributes["Dead-Letter-Topic"] == name


async def test_names_that_no_file_can_hold(backend: mv.Backend) -> None:
    for use in (
        backend.topic,
        backend.server,
        lambda name: backend.server("t", subscription=name),
        backend.topic("t").to_subscription,
    ):
        with pytest.raises(ValueError, match="UTF-8"):
            use("\ud800")
    for declare in (backend.declare("\ud800"), backend.declare("t", "\ud800")):
        with pytest.raises(ValueError, match="UTF-8"):
            await declare


async def test_a_body_larger_than_a_row(backend: mv.Backend) -> None:
    limit = backend.features.max_body
    assert limit is not None
    for body, attributes in ((bytes(limit + 1), {}), (bytes(limit), {"K": "v"})):
        with pytest.raises(ValueError, match="at most 999000000 bytes"):
            await backend.topic("t").publish(body, attributes=attributes)


any_text = st.text() | st.text("k\0\n ü😀\ud83d\ude00", max_size=5)  # halves of characters too
values = st.one_of(any_text, st.lists(any_text, min_size=1, max_size=3))
messages = st.builds(mv.Message, st.binary(), st.dictionaries(any_text, values, max_size=5))


@given(st.lists(messages, min_size=1, max_size=5))
@settings(max_examples=60)
def test_what_is_published_is_received(sent: list[mv.Message]) -> None:
    async def flow(path: Path) -> list[mv.Message]:
        async with mv.connect(f"sqlite:///{path}") as backend:
            for message in sent:
                await backend.topic("t").publish(message.body, attributes=message.attributes)
        async with mv.connect(f"sqlite:///{path}") as backend:
            return await drained(backend, "t")

    with tempfile.TemporaryDirectory() as folder:
        received = asyncio.run(flow(Path(folder) / "flow.db"))
    assert [(m.body, m.attributes.to_dict()) for m in received] == [
        (m.body, m.attributes.to_dict()) for m in sent
    ]


# Who is woken


class Inbox:
    """A receiver that keeps what it gets; it fails the first attempts at what is to be retried."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[mv.Message] = asyncio.Queue()

    async def __call__(self, message: mv.Message) -> None:
        if message.body == b"retried" and message.attempt < 3:
            await asyncio.sleep(0.05)  # until whoever is idle has looked
            raise ValueError("not yet")
        self.messages.put_nowait(message)

    async def next(self) -> tuple[bytes, int]:
        async with asyncio.timeout(10):
            message = await self.messages.get()
        return message.body, message.attempt


@pytest.fixture
def sound_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that look only when they have a reason to."""
    monkeypatch.setattr(SqliteServer, "LOOK", 1000.0)


@pytest.mark.usefixtures("sound_sleep")
async def test_an_idle_server_is_woken(path: Path, backend: mv.Backend) -> None:
    inbox, topic = Inbox(), backend.topic("t")
    server = backend.server("t", concurrency=2)  # one of them fails while the other one sleeps
    async with mv.connect(f"sqlite:///{path}") as other, server.running(inbox):
        for publishing in (topic, other.topic("t"), topic.to_subscription("default")):
            await asyncio.sleep(0.1)  # asleep by then
            await publishing.publish(b"now")
            assert await inbox.next() == (b"now", 1)
            await publishing.publish(b"later", delay=0.1)
            assert await inbox.next() == (b"later", 1)
            await publishing.publish(b"retried")
            assert await inbox.next() == (b"retried", 3)
        for dying in (backend, other):
            dead = backend.server("u.default.dead")
            async with dying.server("u", max_attempts=1).running(refuse), dead.running(inbox):
                await asyncio.sleep(0.1)
                await dying.topic("u").publish(b"dead")
                assert await inbox.next() == (b"dead", 1)


@pytest.mark.usefixtures("sound_sleep")
async def test_an_idle_server_gets_what_another_one_gave_back(path: Path) -> None:
    inbox, held = Inbox(), Holding()
    async with mv.connect(f"sqlite:///{path}") as backend, mv.connect(f"sqlite:///{path}") as other:
        for idle in (backend, other):
            giving = backend.server("t")
            giving.start(held)
            await backend.topic("t").publish(b"x")
            await held.entered.wait()
            async with idle.server("t").running(inbox):
                await asyncio.sleep(0.1)
                with pytest.raises(TimeoutError):
                    await giving.shutdown(0)
                assert await inbox.next() == (b"x", 1)
            held.entered.clear()


@pytest.mark.usefixtures("sound_sleep")
async def test_an_idle_server_gets_what_a_dead_one_held(path: Path) -> None:
    inbox, held = Inbox(), Holding()
    async with mv.connect(f"sqlite:///{path}", lease=0.5) as backend:
        dying: Any = backend.server("t")
        dying.start(held)
        await backend.topic("t").publish(b"x")
        await held.entered.wait()
        async with backend.server("t").running(inbox):
            await asyncio.sleep(1)
            assert inbox.messages.empty()  # as long as it lives, the lease is prolonged
            dying._keeper.cancel()
            assert await inbox.next() == (b"x", 2)
            held.leave.set()
            await dying.shutdown()
        assert await bodies_left(backend) == []


async def test_what_comes_when_nobody_waits_for_it_any_more_is_given_back(
    path: Path, backend: mv.Backend
) -> None:
    await backend.declare("t", "default")
    await backend.topic("t").publish(b"x")
    for turns in range(30):
        async with mv.connect(f"sqlite:///{path}") as closing:
            await closing.declare("t")
            hasty, server = Inbox(), closing.server("t", max_attempts=None)
            server.start(hasty)
            for _ in range(turns):
                await asyncio.sleep(0)
        if not hasty.messages.empty():
            await backend.topic("t").publish(b"x")
    inbox = Inbox()
    async with backend.server("t").running(inbox):
        assert await inbox.next() == (b"x", 1)


async def test_much_that_comes_due_at_once_keeps_its_order(
    backend: mv.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_file, "_AT_ONCE", 7)
    await asyncio.gather(*(backend.topic("t").publish(body, delay=0.5) for body in numbered(30)))
    inbox = Inbox()
    async with backend.server("t").running(inbox):
        assert [(await inbox.next())[0] for _ in range(30)] == numbered(30)


# How it is written


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_what_is_published_is_synced(path: Path, synchronous: str, level: int) -> None:
    async with mv.connect(f"sqlite:///{path}", synchronous=synchronous) as backend:
        await backend.topic("t").publish(b"x")
        committer: Any = backend.committer  # type: ignore[attr-defined]

        def settings(file: QueueFile) -> tuple[Any, ...]:
            return file._value("PRAGMA journal_mode"), file._value("PRAGMA synchronous")

        assert await committer.run(settings, durable=True) == ("wal", level)
        assert await committer.run(settings) == ("wal", 1)  # what a power cut may undo without a loss


async def test_publishers_that_wait_together_share_a_transaction(
    path: Path, backend: mv.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = backend.topic("t")
    await backend.declare("t", "default")
    commits: list[bool] = []
    transaction = QueueFile.transaction

    def counted(self: QueueFile, *, durable: bool) -> Any:
        commits.append(durable)
        return transaction(self, durable=durable)

    monkeypatch.setattr(QueueFile, "transaction", counted)
    with bare(path) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(topic.publish(b"first"))
        while not commits:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(topic.publish(body)) for body in numbered(100)]
        cancelled = asyncio.create_task(topic.publish(b"cancelled"))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        other.execute("COMMIT")
        await asyncio.gather(first, *rest)
    assert commits == [True, True]
    assert await bodies_left(backend) == [b"first", *numbered(100)]


async def test_one_that_fails_does_not_take_others_along(path: Path, backend: mv.Backend) -> None:
    await backend.declare("t", "default")
    async with mv.connect(f"sqlite:///{path}", create=False) as other:
        topic = other.topic("t")
        nowhere = topic.to_subscription("missing")
        await topic.publish(b"0")
        results = await asyncio.gather(
            topic.publish(b"1"), nowhere.publish(b"lost"), topic.publish(b"2"), return_exceptions=True
        )
    assert [type(result) for result in results] == [type(None), mv.NotFound, type(None)]
    assert await bodies_left(backend) == [b"0", b"1", b"2"]
    assert asked(path, "SELECT count(*) FROM message") == 0


async def test_a_topic_that_somebody_took_out_of_the_file(path: Path, backend: mv.Backend) -> None:
    gone, topic = backend.topic("gone"), backend.topic("t")
    await publish(gone, b"1")
    await publish(topic, b"1")
    with bare(path) as other:
        other.execute("DELETE FROM subscription WHERE topic = 'gone'")
        other.execute("BEGIN IMMEDIATE")
        publishing = [asyncio.create_task(to.publish(b"2")) for to in (topic, gone, topic)]
        await asyncio.sleep(0.05)  # they wait for the lock, and for each other
        other.execute("ROLLBACK")
    results = await asyncio.gather(*publishing, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), mv.NotFound, type(None)]
    assert asked(path, "SELECT count(*) FROM message WHERE body = x'32'") == 2


async def test_a_clock_that_is_set_back_changes_no_order(
    backend: mv.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = backend.topic("t")
    await publish(topic, b"1", b"2")

    class SetBack:
        monotonic = staticmethod(queue_file.time.monotonic)

        @staticmethod
        def time() -> float:
            return 0.0

    monkeypatch.setattr(queue_file, "time", SetBack)
    await publish(topic, b"3")
    assert await bodies_left(backend) == [b"1", b"2", b"3"]


async def test_a_message_is_the_same_on_every_attempt_without_an_attribute(backend: mv.Backend) -> None:
    log = mv.MessageLog()
    observed = mv.observe(backend, log, propagate=False)
    dead = Taking()
    server = observed.server("t", max_attempts=3)
    async with server.running(refuse), backend.server("t.default.dead").running(dead):
        await observed.topic("t").publish(b"x")
        await until(lambda: dead.messages)
    (letter,) = dead.messages
    assert "Msgviz-Id" not in letter.attributes
    assert letter.tag is not None
    assert letter.tag.split(".")[1] in log.messages.index
    assert len(log.events) == 4
    assert log.messages[["state", "attempts"]].to_numpy().tolist() == [["dead", 3]]


def test_it_needs_no_more_than_the_standard_library(path: Path) -> None:
    code = (
        "import asyncio, sys; before = set(sys.modules); import msgviz as mv\n"
        "async def main():\n"
        f"    async with mv.connect({f'sqlite:///{path}'!r}) as backend:\n"
        "        await backend.topic('t').publish(b'x')\n"
        "asyncio.run(main())\n"
        "import json; print(json.dumps(sorted({n.partition('.')[0] for n in set(sys.modules) - before}"
        " - sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["msgviz"]
