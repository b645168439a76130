"""Amazon SNS and SQS: ``msgviz.connect("aws://region")``, or a topic or queue by its own name.

Needs the extra ``aws``. Messages are go-aws-msg's on the wire.
"""

from msgviz.backends.aws.backend import AwsBackend
from msgviz.backends.aws.direct import SNSTopic, SQSServer, SQSTopic
from msgviz.backends.aws.server import AwsServer, Throttle
from msgviz.backends.aws.topics import AwsQueue, AwsTopic

__all__ = ["AwsBackend", "AwsQueue", "AwsServer", "AwsTopic", "SNSTopic", "SQSServer", "SQSTopic", "Throttle"]
