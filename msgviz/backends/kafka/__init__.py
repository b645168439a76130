"""kafka://: Apache Kafka and what speaks its protocol, through aiokafka."""

import logging

from msgviz.backends.kafka.backend import KafkaBackend, KafkaTopic
from msgviz.backends.kafka.server import KafkaServer

__all__ = ["KafkaBackend", "KafkaServer", "KafkaTopic"]

# aiokafka logs each of its attempts to connect, ten in a second. Where nobody has set up logging, they are
# not to fill a notebook: what went wrong is raised, too.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())
