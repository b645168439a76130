"""sqlite:///flow.db: topics and subscriptions in a file, with nothing but the standard library.

Three parts, from the outside in: the backend speaks asyncio and waits; the committer is the one thread
that uses the file, and commits together what waits together; the queue file knows SQL, and nothing of
either.
"""

from msgviz.backends.sqlite.backend import SqliteBackend, SqliteServer, SqliteTopic

__all__ = ["SqliteBackend", "SqliteServer", "SqliteTopic"]
