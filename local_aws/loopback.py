"""AWS clients for local_aws's own use: they talk to the server over HTTP like any other client.

What is done for a user's job (reading its input from S3, writing its logs) is thereby seen, and authorised, as the call
of the job's role. What the service does for itself is done as the account's root.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config

from local_aws.environment import OWN_USER_AGENT, client_environment
from local_aws.permissions import Permissions
from local_aws.permissions.invocation import Credential
from local_aws.store import Scope

SERVICE = "sagemaker.amazonaws.com"  # whose sessions roles have unless another one is named
SESSION = "SageMaker"  # the name of its sessions, as AWS's messages show it


class Loopback:
    """Clients of this server, made once for each service, scope and role; safe to share between threads.

    Args:
        endpoint: the server's own address.
        runtime_endpoint: where InvokeEndpoint is answered.
        permissions: asked for what a role does and no service here answers. Without them, or when IAM is not enforced,
            everything is done as the account's root.
        role_credentials: a session of a role, given the role's ARN and the session's name, as the variables that AWS
            clients read (ministack_host.role_credentials).
        credential_of: what belongs to a caller's access key (ministack_host.credential_of), for what is done with the
            caller's own rights.
    """

    def __init__(
        self,
        endpoint: str,
        runtime_endpoint: str,
        permissions: Permissions | None = None,
        role_credentials: Callable[[str, str], Mapping[str, str]] | None = None,
        credential_of: Callable[[str], Credential] | None = None,
    ) -> None:
        self.endpoint, self.runtime_endpoint = endpoint, runtime_endpoint
        self._permissions, self._role_credentials = permissions, role_credentials
        self._credential_of = credential_of
        self._session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        self._clients: dict[tuple[str, Scope, str | None, str], Any] = {}
        self._sessions: dict[tuple[str, str], Mapping[str, str]] = {}
        self._lock = threading.Lock()

    @property
    def enforced(self) -> bool:
        """Whether roles act as themselves."""
        return self._permissions is not None and self._permissions.enforced

    def client(self, service: str, scope: Scope, role: str | None = None, session: str = SESSION) -> Any:
        """A client of the account's root, or of a role's session.

        Args:
            role: the role's ARN; it counts only while IAM is enforced.
            session: the name of its session.
        """
        credentials = self.credentials(role, session)
        key = (service, scope, role if credentials else None, session)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._new_client(service, scope, credentials)
            return self._clients[key]

    def callers_client(self, service: str, scope: Scope, access_key: str) -> Any:
        """A client of whoever an access key belongs to; while IAM is not enforced, of the account's root.

        What a service does on behalf of its caller (https://docs.aws.amazon.com/IAM/latest/UserGuide/access_forward_access_sessions.html)
        is thereby authorised as the caller's own call.
        """
        credential = self._credential_of(access_key) if self.enforced and self._credential_of else None
        if credential is None or credential.secret is None:
            return self.client(service, scope)
        credentials = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": credential.secret}
        if credential.token:
            credentials["AWS_SESSION_TOKEN"] = credential.token
        with self._lock:
            return self._new_client(service, scope, credentials)

    def _new_client(self, service: str, scope: Scope, credentials: Mapping[str, str]) -> Any:
        """With the lock held: making clients of one session is not safe between threads."""
        return self._session.client(
            service,
            endpoint_url=self.runtime_endpoint if service == "sagemaker-runtime" else self.endpoint,
            region_name=scope.region,
            aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID", scope.account),
            aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY", "local"),
            aws_session_token=credentials.get("AWS_SESSION_TOKEN"),
            config=Config(
                retries={"max_attempts": 1},
                max_pool_connections=32,
                proxies={},
                user_agent_extra=OWN_USER_AGENT,
            ),
        )

    def credentials(self, role: str | None, session: str = SESSION) -> Mapping[str, str]:
        """A session of the role, as variables; none without a role, or while IAM is not enforced."""
        if role is None or self._role_credentials is None or not self.enforced:
            return {}
        with self._lock:
            if (role, session) not in self._sessions:
                self._sessions[role, session] = self._role_credentials(role, session)
            return self._sessions[role, session]

    def ask(
        self, scope: Scope, role: str | None, action: str, resource: str = "*", context: Mapping[str, Any] | None = None
    ) -> None:
        """Ask IAM whether a role may do what SageMaker does as that role and nothing here answers (pull an image).

        Raises:
            Denied: it may not.
        """
        credentials = self.credentials(role)
        if credentials and self._permissions is not None:
            self._permissions.check(scope, credentials["AWS_ACCESS_KEY_ID"], action, resource, context, SERVICE)

    def environment(self, scope: Scope, role: str | None = None) -> dict[str, str]:
        """The variables that point a job's AWS clients at this server, as the job's role while IAM is enforced.

        As on AWS the Region is in AWS_REGION alone, which boto3 does not look at: what would fail there for want of a
        Region fails here.
        """
        variables = client_environment(self.endpoint, self.runtime_endpoint, scope.account, scope.region)
        del variables["AWS_DEFAULT_REGION"]
        return variables | dict(self.credentials(role))
