"""NATS JetStream: ``nats://[user:password@]host[:port][,host[:port]…]``. Needs nats-py."""

from msgviz.backends.nats.backend import NatsBackend, NatsTopic
from msgviz.backends.nats.server import NatsServer

__all__ = ["NatsBackend", "NatsServer", "NatsTopic"]
