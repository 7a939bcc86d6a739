"""AWS clients for local_aws's own use: they talk to the server over HTTP like any other client.

What is done for a user's job (reading its input from S3, writing its logs) is thereby seen, and later authorised, as
that user's call.
"""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config

from local_aws.environment import OWN_USER_AGENT, client_environment
from local_aws.store import Scope


class Loopback:
    """Clients of this server, made once for each service and scope; safe to share between threads.

    Args:
        endpoint: the server's own address.
        runtime_endpoint: where InvokeEndpoint is answered.
    """

    def __init__(self, endpoint: str, runtime_endpoint: str) -> None:
        self.endpoint, self.runtime_endpoint = endpoint, runtime_endpoint
        self._session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        self._clients: dict[tuple[str, Scope], Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str, scope: Scope) -> Any:
        with self._lock:
            if (service, scope) not in self._clients:
                self._clients[service, scope] = self._session.client(
                    service,
                    endpoint_url=self.runtime_endpoint if service == "sagemaker-runtime" else self.endpoint,
                    region_name=scope.region,
                    aws_access_key_id=scope.account,
                    aws_secret_access_key="local",
                    config=Config(
                        retries={"max_attempts": 1},
                        max_pool_connections=32,
                        proxies={},
                        user_agent_extra=OWN_USER_AGENT,
                    ),
                )
            return self._clients[service, scope]

    def environment(self, scope: Scope) -> dict[str, str]:
        """The variables that point a job's AWS clients at this server.

        As on AWS the Region is in AWS_REGION alone, which boto3 does not look at: what would fail there for want of a
        Region fails here.
        """
        variables = client_environment(self.endpoint, self.runtime_endpoint, scope.account, scope.region)
        del variables["AWS_DEFAULT_REGION"]
        return variables
