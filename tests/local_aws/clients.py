"""Clients for tests."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from local_aws import LocalAWS


def trying_once(aws: LocalAWS, service: str, **config: Any) -> Any:
    """A boto3 client that sends each call once, so that what happens to it is what is seen.

    Args:
        config: of botocore.config.Config.
    """
    return boto3.Session().client(
        service,
        endpoint_url=aws.endpoint,
        region_name="us-east-1",
        aws_access_key_id="123456789012",
        aws_secret_access_key="local",
        config=Config(**{"retries": {"total_max_attempts": 1}, "proxies": {}, **config}),
    )
