"""QueueFile: the database behind sqlite://, and all that is said to it. Used by one thread at a time.

A message is stored once, however many subscriptions get it, and has one delivery for each. A delivery
that is ready stands in line by its id. One that has to wait (it is delayed, or being received, or failed)
has a time at which it is due, and then goes to the end of the line under a new id: so a message that is
taken again is no longer known to the one that took it before. With its last delivery a message is gone.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgviz.attributes import Attributes, Values
from msgviz.errors import ConnectionFailed, NotFound
from msgviz.message import Message, wrap

_MARK = int.from_bytes(b"msgv")
"""The application_id of a queue file, by which it is told from any other database."""
_VERSION = 1
"""The version of these tables, kept as user_version."""

_AT_ONCE = 1000
"""How many messages go to the end of the line in one transaction: others want the file too."""

_TABLES = (
    f"PRAGMA application_id = {_MARK}",
    f"PRAGMA user_version = {_VERSION}",
    # The one without a name keeps what is published before a topic has a subscription; the first one
    # that is made becomes it.
    """CREATE TABLE subscription (
        id INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        name TEXT,
        UNIQUE (topic, name)
    )""",
    """CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        body BLOB NOT NULL,
        attributes TEXT NOT NULL  -- JSON: a value, or a list of several, for each key
    )""",
    """CREATE TABLE delivery (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- its place in line, never used again
        subscription INTEGER NOT NULL REFERENCES subscription,
        message INTEGER NOT NULL REFERENCES message,
        attempt INTEGER NOT NULL DEFAULT 0,  -- how often it was taken
        due REAL,  -- the time (Unix, in seconds) until which it waits; NULL: it is ready
        tag TEXT
    )""",
    "CREATE INDEX delivery_ready ON delivery (subscription) WHERE due IS NULL",
    "CREATE INDEX delivery_later ON delivery (subscription, due) WHERE due IS NOT NULL",
    "CREATE INDEX delivery_message ON delivery (message)",
    """CREATE TRIGGER delivered AFTER DELETE ON delivery
    WHEN NOT EXISTS (SELECT 1 FROM delivery WHERE message = old.message)
    BEGIN
        DELETE FROM message WHERE id = old.message;
    END""",
)


class QueueFile:
    """A file of topics, subscriptions and messages; missing ones are made where `create` is true.

    Every method but `open`, `close` and `changed` belongs in a `transaction`. Raises `ValueError` for a
    file that is something else, which is left as it is.
    """

    def __init__(self, path: Path, *, create: bool, synchronous: str, patience: float) -> None:
        self.name = f"sqlite:///{path}"  # in what is told to a person
        self._path = path
        self._create = create
        self._durable = synchronous == "full"
        self._patience = patience  # seconds to wait for a lock
        self._connection: sqlite3.Connection
        self._opened_as: os.stat_result
        self._synchronous = ""  # the level that is set now
        self._seen = -1  # the data_version at the last look

    # The file itself

    def open(self) -> None:
        """Open the file, and make its tables where it is new."""
        if not self._create and not self._path.exists():
            raise NotFound(f"there is no file {self.name}")
        mode = "rwc" if self._create else "rw"
        self._connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=0
        )
        try:
            self._connection.text_factory = lambda raw: raw.decode(errors="replace")
            self._execute("BEGIN")  # for one look at all of it: somebody else may be making it
            self._check()  # before all else: what is not ours must not change
            self._execute("COMMIT")
            if self._value("PRAGMA journal_mode = WAL") != "wal":
                raise ConnectionFailed(f"{self.name}: its file system cannot hold a write-ahead log")
            self._execute(f"PRAGMA fullfsync = {self._durable:d}")  # macOS does not flush to disk without
            self._opened_as = self._path.stat()
            with self.transaction(durable=True):
                if not self._check():
                    for statement in _TABLES:
                        self._execute(statement)
        except BaseException:
            self._connection.close()
            raise

    def _check(self) -> bool:
        """Whether the tables are there; `ValueError` for those of somebody else, or of a later version."""
        mark, version = self._value("PRAGMA application_id"), self._value("PRAGMA user_version")
        if mark == _MARK:
            if version > _VERSION:
                raise ValueError(
                    f"{self.name} was written by a newer msgviz: its tables are of version {version}, "
                    f"this one knows {_VERSION}"
                )
            return True
        if mark or version or self._value("SELECT count(*) FROM sqlite_master"):
            raise ValueError(f"{self.name} is a database of something else, and was left as it is")
        return False

    def close(self) -> None:
        """Close the file; whoever closes it last moves the write-ahead log into it."""
        self._connection.close()

    def changed(self) -> bool:
        """Whether another connection has committed something since the last look."""
        before = self._seen
        try:
            self._seen = self._value("PRAGMA data_version")
        except sqlite3.OperationalError:  # whoever uses the file next is told why
            return False
        return self._seen != before

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[None]:
        """A transaction around what is done in it; `durable`: once committed, it outlives a power cut."""
        level = "FULL" if durable and self._durable else "NORMAL"
        if level != self._synchronous:
            self._execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level
        self._check_place()
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of a transaction, undone by itself where it raises."""
        self._execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # else SQLite gave up on all of it
                self._execute("ROLLBACK TO part")
                self._execute("RELEASE part")
            raise
        self._execute("RELEASE part")

    @property
    def in_transaction(self) -> bool:
        """Whether the transaction is still there: a full disk ends it."""
        return self._connection.in_transaction

    def _check_place(self) -> None:
        """What is written to a file that was removed would be lost with it."""
        try:
            there = os.path.samestat(self._path.stat(), self._opened_as)
        except OSError:
            there = False
        if not there:
            raise ConnectionFailed(f"{self.name} was removed or replaced while in use: connect again")

    def _execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Execute a statement, and wait for its lock where another process holds it.

        SQLite itself would wait longer and longer between two looks, and starve beside a busy writer.
        """
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.0005, 0.003))  # noqa: S311  no secret: only not in step

    def _value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        row = self._execute(statement, values).fetchone()
        return None if row is None else row[0]

    # Topics and subscriptions

    def declare(self, topic: str, subscriptions: Iterable[str]) -> None:
        """Make a topic and its subscriptions where they are missing; `NotFound` where they must not be."""
        names = {name for (name,) in self._execute("SELECT name FROM subscription WHERE topic = ?", (topic,))}
        if not names:
            self._may_create(f"topic {topic!r}")
            self._execute("INSERT INTO subscription (topic) VALUES (?)", (topic,))
        for name in subscriptions:
            if name in names:
                continue
            self._may_create(f"subscription {name!r} of the topic {topic!r}")
            first = self._execute(
                "UPDATE subscription SET name = ? WHERE topic = ? AND name IS NULL", (name, topic)
            )
            if not first.rowcount:
                self._execute("INSERT INTO subscription (topic, name) VALUES (?, ?)", (topic, name))

    def _may_create(self, what: str) -> None:
        if not self._create:
            raise NotFound(f"there is no {what} in {self.name}")

    # Messages

    def publish(
        self, topic: str, subscription: str | None, message: Message, attributes: bytes, delay: float
    ) -> None:
        """Store a message for every subscription of a topic, or for the one."""
        if subscription is not None:
            self.declare(topic, [subscription])
        stored = self._execute(
            "INSERT INTO message (body, attributes) VALUES (?, CAST(? AS TEXT))", (message.body, attributes)
        )
        delivered = self._execute(
            "INSERT INTO delivery (subscription, message, due, tag) "
            "SELECT id, :message, :due, :tag FROM subscription "
            "WHERE topic = :topic AND (:name IS NULL OR name = :name)",
            {
                "message": stored.lastrowid,
                "due": time.time() + delay if delay > 0 else None,
                "tag": message.tag,
                "topic": topic,
                "name": subscription,
            },
        )
        if not delivered.rowcount:
            raise NotFound(f"the topic {topic!r} is no longer in {self.name}")

    def claim(
        self, topic: str, subscription: str, count: int, lease: float
    ) -> tuple[list[tuple[int, Message]], float | None]:
        """Take up to `count` messages of a subscription for `lease` seconds, each with its delivery's id.

        Also gives the time at which the next one is due, where none is ready.
        """
        where = self._value("SELECT id FROM subscription WHERE topic = ? AND name = ?", (topic, subscription))
        if where is None:
            raise NotFound(f"the subscription {subscription!r} of {topic!r} is no longer in {self.name}")
        now = time.time()
        due = self._value(
            "SELECT min(due) FROM delivery WHERE subscription = ? AND due IS NOT NULL", (where,)
        )
        if due is not None and due <= now:
            self._promote(where, now)
        rows = self._execute(
            "SELECT delivery.id, attempt + 1, CAST(body AS BLOB), CAST(attributes AS BLOB), tag "
            "FROM delivery JOIN message ON message.id = delivery.message "
            "WHERE subscription = ? AND due IS NULL ORDER BY delivery.id LIMIT ?",
            (where, count),
        ).fetchall()
        self._connection.executemany(
            "UPDATE delivery SET attempt = ?, due = ? WHERE id = ?",
            [(attempt, now + lease, delivery) for delivery, attempt, *_ in rows],
        )
        taken = []
        for delivery, attempt, body, attributes, tag in rows:
            message = wrap(body, decode(attributes))
            message.attempt, message.tag = attempt, tag
            taken.append((delivery, message))
        return taken, due

    def _promote(self, subscription: int, now: float) -> None:
        """Send what has become due to the end of the line."""
        moved = self._execute(
            "SELECT id, subscription, message, attempt, tag FROM delivery "
            "WHERE subscription = ? AND due <= ? ORDER BY due, id LIMIT ?",
            (subscription, now, _AT_ONCE),
        ).fetchall()
        self._connection.executemany(  # before the others go: a message without a delivery is gone
            "INSERT INTO delivery (subscription, message, attempt, tag) VALUES (?, ?, ?, ?)",
            [rest for _, *rest in moved],
        )
        self._connection.executemany(
            "DELETE FROM delivery WHERE id = ?", [(delivery,) for delivery, *_ in moved]
        )

    def ack(self, delivery: int) -> None:
        """It was processed: it is gone."""
        self._execute("DELETE FROM delivery WHERE id = ?", (delivery,))

    def retry(self, delivery: int, delay: float, tag: str | None) -> None:
        """It comes again after `delay` seconds."""
        self._execute(
            "UPDATE delivery SET due = ?, tag = ? WHERE id = ?", (time.time() + delay, tag, delivery)
        )

    def release(self, delivery: int, tag: str | None) -> None:
        """It comes again at once, from where it stood in line, and was not tried."""
        self._execute(
            "UPDATE delivery SET due = NULL, attempt = attempt - 1, tag = ? WHERE id = ?", (tag, delivery)
        )

    def extend(self, deliveries: Iterable[int], lease: float) -> None:
        """They are taken for another `lease` seconds."""
        until = time.time() + lease
        self._connection.executemany(
            "UPDATE delivery SET due = ? WHERE id = ?", [(until, delivery) for delivery in deliveries]
        )


def encode(values: Values) -> bytes:
    """Attributes as JSON. A str may hold half a character, which no UTF-8 has: it is kept all the same."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode(attributes: bytes) -> Values:
    """Attributes from JSON; none where somebody else wrote something else."""
    try:
        return Attributes(json.loads(attributes.decode("utf-8", "surrogatepass"))).freeze()
    except (TypeError, ValueError, RecursionError):
        return {}
