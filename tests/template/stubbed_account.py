"""An AWS account whose every answer a test gives beforehand."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.stub import Stubber


class Account:
    """Stands in for a boto3 session: one stubbed client for each service."""

    region_name = "us-east-1"

    def __init__(self) -> None:
        self.stubs: dict[str, Stubber] = {}

    def stub(self, service: str) -> Stubber:
        if service not in self.stubs:
            client = boto3.client(
                service, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
            )
            self.stubs[service] = Stubber(client)
            self.stubs[service].activate()
        return self.stubs[service]

    def client(self, service: str, config: Config | None = None) -> Any:
        return self.stub(service).client
