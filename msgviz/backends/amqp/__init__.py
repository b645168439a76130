"""amqp://: RabbitMQ, with quorum queues.

A topic is a durable fanout exchange of its name, a subscription the durable quorum queue
`<topic>.<subscription>` bound to it. Publishes are confirmed, and one that no queue would get is an error.
A message waits, for a delay or a retry, in a queue for that length of time, from which RabbitMQ moves it on.
"""

from msgviz.backends.amqp.backend import AmqpBackend, AmqpTopic
from msgviz.backends.amqp.server import AmqpServer

__all__ = ["AmqpBackend", "AmqpServer", "AmqpTopic"]
