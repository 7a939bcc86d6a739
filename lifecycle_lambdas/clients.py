"""boto3's clients, each made once for the process and only when it is needed: making one takes tens of milliseconds."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

# A call that hangs must not take the function's whole time; what is refused for its rate comes again.
_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 4})

# A plan says that a price is unknown; it does not wait for it.
_PRICING = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})

# A model has 60 seconds for an answer, and one that fails is not asked again: what comes is what callers see.
_ASKING = Config(connect_timeout=5, read_timeout=65, max_pool_connections=64, retries={"total_max_attempts": 1})
_CONFIGS = {"pricing": _PRICING, "sagemaker-runtime": _ASKING}


def default_session() -> boto3.Session:
    """AWS's default credentials, and AWS_REGION as the AWS CLI takes it: boto3 itself does not read that one."""
    return boto3.Session(region_name=os.environ.get("AWS_REGION") or None)


class Clients:
    """Clients of one account and Region.

    Args:
        session: the credentials; None takes AWS's default ones.
    """

    def __init__(self, session: boto3.Session | None = None) -> None:
        self._session = session
        self._made: dict[str, Any] = {}

    def __call__(self, service: str, region: str | None = None) -> Any:
        """The client of a service by boto3's name, in the session's Region unless another one is given."""
        key = service if region is None else f"{service}/{region}"
        if key not in self._made:
            if self._session is None:
                self._session = default_session()
            config = _CONFIGS.get(service, _CONFIG)
            self._made[key] = self._session.client(service, region_name=region, config=config)
        return self._made[key]

    @property
    def region(self) -> str:
        return self("dynamodb").meta.region_name
