"""The connection to AWS: region, endpoints, credentials, and its errors in our words."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import exceptions as boto
from botocore.loaders import create_loader

from msgviz.errors import ConnectionFailed, MsgvizError, NotFound

MISSING = frozenset({"NonExistentQueue", "QueueDoesNotExist", "NotFound", "NotFoundException"})
"""Codes of errors that say that a topic or a queue is not there."""

GONE = frozenset(
    {
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MessageNotInflight",
        "ReceiptHandleIsInvalid",
    }
)
"""Codes of errors that say that a message is not ours any more."""

_DENIED = ("Denied", "Auth", "Signature", "Token", "Credential", "AccessKey", "UnrecognizedClient", "OptIn")
_BUSY = ("Throttl", "Unavailable", "InternalError", "InternalFailure", "RequestLimit", "ServiceError")


def code_of(error: Exception) -> str:
    """The code of an error that AWS answered with, without its prefix; empty for any other error."""
    if not isinstance(error, boto.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "")).rpartition(".")[2]


def explain(error: Exception, where: str) -> MsgvizError | ValueError | None:
    """An error of the client library in the words of `msgviz.errors`."""
    if isinstance(error, boto.ClientError):
        code = code_of(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
        if code in MISSING:
            return NotFound(f"{where}: {said}")
        if status in (401, 403) or any(part in code for part in _DENIED):
            return ConnectionFailed(f"{where} turned us away: {said}")
        if status >= 500 or any(part in code for part in _BUSY):
            return ConnectionFailed(f"{where} is not able to answer now: {said}")
        return ValueError(f"{where}: {said}")
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return ConnectionFailed(
            f"{where}: {error}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a profile"
        )
    if isinstance(
        error,
        (boto.NoRegionError, boto.InvalidRegionError, boto.ProfileNotFound, boto.ParamValidationError),
    ):
        return ValueError(f"{where}: {error}")
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{where} did not answer in time")
    if isinstance(error, (boto.BotoCoreError, boto.HTTPClientError, OSError)):
        return ConnectionFailed(f"{where} could not be reached: {error}")
    return None


@cache
def _loader(data_path: str | None) -> Any:
    """botocore's descriptions of the services; to read them is most of what a client costs."""
    return create_loader(data_path)


class Connection:
    """Clients of SNS and SQS, and what they are made with.

    The region is the one given, else ``AWS_REGION``, else what botocore finds; an endpoint the one given,
    else ``SNS_ENDPOINT`` or ``SQS_ENDPOINT``, as go-aws-msg reads them, else what botocore finds.
    """

    def __init__(
        self,
        region: str | None,
        *,
        endpoint: str | None,
        access_key: str | None,
        secret_key: str | None,
        profile: str | None,
        timeout: float,
        wait: int,
    ) -> None:
        self._session = AioSession(profile=profile)
        try:
            configured = self._session.get_config_variable("region")
        except boto.ProfileNotFound as error:
            raise ValueError(f"aws://: {error}") from error
        self._session.register_component(
            "data_loader", _loader(self._session.get_config_variable("data_path"))
        )
        found = region or os.environ.get("AWS_REGION") or configured
        if not found:
            raise ValueError("aws:// names no region: write aws://us-east-1, or set AWS_REGION")
        self.region = str(found)
        if access_key and secret_key:
            self._session.set_credentials(access_key, secret_key)
        self._endpoints = {
            "sns": endpoint or os.environ.get("SNS_ENDPOINT") or None,
            "sqs": endpoint or os.environ.get("SQS_ENDPOINT") or None,
        }
        self._endpoints["sts"] = self._endpoints["sns"]
        self._timeout = timeout
        self._read_timeouts = {"sqs": wait + timeout}
        self._open = AsyncExitStack()
        self._account: str | None = None
        self.sns: Any = None
        self.sqs: Any = None

    async def open(self) -> None:
        """Find credentials, and make the clients."""
        if await self._session.get_credentials() is None:
            raise boto.NoCredentialsError
        self.sns = await self._client("sns")
        self.sqs = await self._client("sqs")

    async def account(self) -> str:
        """The number of the account whose credentials these are."""
        if self._account is None:
            sts = await self._client("sts")
            self._account = str((await sts.get_caller_identity())["Account"])
        return self._account

    async def close(self) -> None:
        """Close the clients."""
        await self._open.aclose()

    async def _client(self, service: str) -> Any:
        return await self._open.enter_async_context(
            self._session.create_client(
                service,
                region_name=self.region,
                endpoint_url=self._endpoints[service],
                config=AioConfig(
                    connect_timeout=self._timeout,
                    read_timeout=self._read_timeouts.get(service, self._timeout),
                    max_pool_connections=50,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                ),
            )
        )
