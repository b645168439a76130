"""Redis Streams and Valkey: ``redis://[user:password@]host[:port][/db]``, ``rediss://`` for TLS."""

from msgviz.backends.redis.backend import RedisBackend, RedisTopic
from msgviz.backends.redis.server import RedisServer

__all__ = ["RedisBackend", "RedisServer", "RedisTopic"]
