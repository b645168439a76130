"""sqlite://: what is particular to a file. What every backend does is in test_sqlite_conformance."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import msgviz as mv
from tests.flows import refuse, until
from tests.queues import Taking, bodies_left


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


def files(folder: Path) -> list[str]:
    """All files in a folder and those below."""
    return sorted(str(found.relative_to(folder)) for found in folder.rglob("*") if found.is_file())


def move(path: Path, to: Path) -> None:
    """Rename a file under whoever uses it."""
    path.rename(to)


async def publish_once(path: Path, **options: Any) -> None:
    """Connect, publish, and close."""
    async with mv.connect(f"sqlite:///{path}", **options) as backend:
        await backend.topic("t").publish(b"x")


# Where it is


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("flow.db", "flow.db"),
        ("a%20b%23c%3Fd.db", "a b#c?d.db"),
        ("deeper/é.db", "deeper/é.db"),
        ("file:odd", "file:odd"),
    ],
)
def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str) -> None:
    async def flow() -> list[bytes]:
        backend = mv.connect(f"sqlite:///{name}")
        monkeypatch.chdir("deeper")  # where it was connected from is what counts
        async with backend:
            await backend.topic("t").publish(b"x")
        async with mv.connect(f"sqlite:///{tmp_path}/{name}") as again:
            return await bodies_left(again)

    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(flow()) == [b"x"]
    assert files(tmp_path) == [file]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://:memory:",
        "sqlite://flow.db",
        "sqlite:///a#b.db",
        "sqlite://user:secret@/flow.db",
    ],
)
def test_what_names_no_file(url: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)sqlite:///flow\.db|no host and port") as raised:
        mv.connect(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lease": 0}, ValueError),
        ({"lease": float("inf")}, ValueError),
        ({"lease": float("nan")}, ValueError),
        ({"synchronous": "off"}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"fast": True}, TypeError),
    ],
)
def test_what_is_no_option(path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=name):
        mv.connect(f"sqlite:///{path}", **options)


def test_options_of_a_url(path: Path) -> None:
    backend: Any = mv.connect(f"sqlite:///{path}?lease=2.5&synchronous=normal&create=no&timeout=1")
    assert (backend.lease, backend.create, backend.timeout, backend.path) == (2.5, False, 1.0, path)
    with pytest.raises(ValueError, match="lease"):
        mv.connect(f"sqlite:///{path}?lease=soon")


# What it may not be


def foreign(path: Path) -> None:
    with bare(path) as connection:
        connection.execute("CREATE TABLE accounts (balance)")


def newer(path: Path) -> None:
    asyncio.run(publish_once(path))
    with bare(path) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_text("dear diary,\n" * 100), "no SQLite database"),
        (lambda path: path.write_text("short"), "no SQLite database"),
        (foreign, "a database of something else"),
        (newer, "a newer msgviz: its tables are of version 99, this one knows 1"),
    ],
    ids=["text", "short", "foreign", "newer"],
)
def test_a_file_of_something_else_is_left_as_it_is(path: Path, write: Any, told: str) -> None:
    write(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError, match=told) as raised:
            asyncio.run(publish_once(path))
        assert str(path) in str(raised.value)
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


def test_a_damaged_file(path: Path) -> None:
    asyncio.run(publish_once(path))
    whole = bytearray(path.read_bytes())
    whole[4096:] = b"\xaa" * (len(whole) - 4096)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"flow\.db: it is damaged"):
        asyncio.run(publish_once(path))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(mv.ConnectionFailed, match=r"there is no folder .*/missing$"):
        asyncio.run(publish_once(tmp_path / "missing" / "flow.db"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(mv.ConnectionFailed, match="cannot be opened"):
        asyncio.run(publish_once(tmp_path))


def test_a_missing_file_that_is_not_to_be_made(path: Path) -> None:
    with pytest.raises(mv.NotFound, match=r"flow\.db"):
        asyncio.run(publish_once(path, create=False))
    assert not path.exists()


async def test_what_is_missing_and_not_to_be_made(path: Path, backend: mv.Backend) -> None:
    await backend.declare("t", "a")
    async with mv.connect(f"sqlite:///{path}", create=False) as other:
        await other.declare("t", "a")
        with pytest.raises(mv.NotFound, match="topic 'u'"):
            await other.topic("u").publish(b"x")
        with pytest.raises(mv.NotFound, match="subscription 'b' of the topic 't'"):
            await other.declare("t", "a", "b")
        with pytest.raises(mv.NotFound, match="subscription 'b' of the topic 't'"):
            await other.topic("t").to_subscription("b").publish(b"x")


def test_a_file_that_may_only_be_read() -> None:
    folder = Path(tempfile.mkdtemp())  # where another user may look, which tmp_path is not
    try:
        path = folder / "flow.db"
        asyncio.run(publish_once(path))
        path.chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:  # who may write to anything
                os.seteuid(65534)
            with pytest.raises(mv.ConnectionFailed, match=r"flow\.db: it cannot be (written to|opened)"):
                asyncio.run(publish_once(path))
        finally:
            os.seteuid(user)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# What may happen to it


async def test_connections_that_make_the_same_file_at_once(tmp_path: Path) -> None:
    for round_ in range(20):
        url = f"sqlite:///{tmp_path}/{round_}.db"
        backends = [mv.connect(url) for _ in range(6)]
        await asyncio.gather(*(backend.topic("t").publish(b"x") for backend in backends))
        assert len(await bodies_left(backends[0])) == 6
        for backend in backends:
            await backend.close()


async def test_a_disk_without_room(path: Path, backend: mv.Backend) -> None:
    topic = backend.topic("t")
    await topic.publish(b"first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(mv.ConnectionFailed, match=r"flow\.db"):
            await topic.publish(bytes(2**21))
        await topic.publish(b"small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await topic.publish(b"last")
    assert await bodies_left(backend) == [b"first", b"small", b"last"]


async def test_a_full_database_ends_the_transaction_of_all_who_share_it(
    path: Path, backend: mv.Backend
) -> None:
    topic = backend.topic("t")
    await topic.publish(b"first")
    committer: Any = backend.committer  # type: ignore[attr-defined]
    await committer.run(lambda file: file._execute("PRAGMA max_page_count = 50"))
    with bare(path) as other:
        other.execute("BEGIN IMMEDIATE")
        publishing = [asyncio.create_task(topic.publish(body)) for body in (b"1", bytes(2**20), b"2")]
        await asyncio.sleep(0.05)  # they wait for the lock, and for each other
        other.execute("ROLLBACK")
    results = await asyncio.gather(*publishing, return_exceptions=True)
    failed = [r for r in results if r is not None]
    assert failed
    assert all(isinstance(r, mv.ConnectionFailed) and "no room" in str(r) for r in failed)
    stored = [body for body, result in zip((b"1", b"", b"2"), results, strict=True) if result is None]
    await topic.publish(b"last")
    assert await bodies_left(backend) == [b"first", *stored, b"last"]


async def test_a_lock_that_somebody_holds(path: Path, backend: mv.Backend) -> None:
    topic = backend.topic("t")
    await topic.publish(b"1")
    async with mv.connect(f"sqlite:///{path}", timeout=2) as impatient:
        await impatient.declare("t")
        with bare(path) as other:
            other.execute("BEGIN IMMEDIATE")
            publishing = asyncio.create_task(topic.publish(b"2"))
            with pytest.raises(mv.ConnectionFailed, match=r"flow\.db: another process kept it locked"):
                await impatient.topic("t").publish(b"3")
            assert not publishing.done()
            other.execute("COMMIT")
            await publishing
    assert await bodies_left(backend) == [b"1", b"2"]


async def test_a_server_waits_for_a_lock(path: Path, backend: mv.Backend) -> None:
    taken = Taking()
    async with mv.connect(f"sqlite:///{path}", timeout=2) as impatient:
        server = impatient.server("t")
        await impatient.declare("t")
        with bare(path) as other:
            async with server.running(taken):
                await backend.topic("t").publish(b"1")
                await until(lambda: taken.messages)
                other.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(2.5)
                assert server.failed is None
                other.execute("COMMIT")
                await backend.topic("t").publish(b"2")
                await until(lambda: len(taken.messages) == 2)


@pytest.mark.parametrize("what", ["removed", "replaced"])
async def test_a_file_that_goes_away(path: Path, what: str) -> None:
    backend = mv.connect(f"sqlite:///{path}")
    await backend.topic("t").publish(b"1")
    aside = path.with_name("aside.db")
    move(path, aside)
    if what == "replaced":
        shutil.copy(aside, path)
    with pytest.raises(mv.ConnectionFailed, match="removed or replaced"):
        await backend.topic("t").publish(b"2")
    move(aside, path)
    await backend.topic("t").publish(b"3")
    assert await bodies_left(backend) == [b"1", b"3"]
    await backend.close()


async def test_closing_leaves_one_file_and_no_thread(path: Path) -> None:
    threads = threading.active_count()
    for _ in range(3):
        backend = mv.connect(f"sqlite:///{path}")
        await backend.topic("t").publish(b"x")
        assert threading.active_count() == threads + 1
        await backend.close()
        assert threading.active_count() == threads
        assert files(path.parent) == ["flow.db"]


def test_the_thread_ends_with_its_loop(path: Path) -> None:
    async def forgotten() -> None:
        backend = mv.connect(f"sqlite:///{path}")
        backend.server("t").start(refuse)
        await backend.topic("t").publish(b"x")

    before = set(threading.enumerate())
    asyncio.run(forgotten())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
