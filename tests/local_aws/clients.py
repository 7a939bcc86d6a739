"""Clients for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws import LocalAWS

SESSION = boto3.Session()  # one for all: it reads each service's model once


def trying_once(aws: LocalAWS, service: str, **config: Any) -> Any:
    """A boto3 client that sends each call once, so that what happens to it is what is seen.

    Args:
        config: of botocore.config.Config.
    """
    return SESSION.client(
        service,
        endpoint_url=aws.endpoint,
        region_name="us-east-1",
        aws_access_key_id="123456789012",
        aws_secret_access_key="local",
        config=Config(**{"retries": {"total_max_attempts": 1}, "proxies": {}, **config}),
    )


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """The code and the message of the error that a call must end with."""
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]
