"""gcp://: Google Cloud Pub/Sub, through google-cloud-pubsub."""

from msgviz.backends.gcp.backend import GcpBackend
from msgviz.backends.gcp.server import GcpServer
from msgviz.backends.gcp.topic import GcpTopic

__all__ = ["GcpBackend", "GcpServer", "GcpTopic"]
