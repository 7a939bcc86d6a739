"""A build's role: credentials at an address that the build's AWS clients ask, and ask again before they expire.

As a container's role is given: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html.
On AWS the address is 169.254.170.2, which clients take a path for; here it is the server's own.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

PREFIX = "/_builds/credentials/"
LASTS = 3600  # seconds

RoleCredentials = Callable[[str, str], Mapping[str, str]]


@dataclass
class _Holder:
    """Args:
    given, until: the credentials that it has, and until when (seconds since the epoch) it is given the same again.
    """

    role: str
    session: str
    token: str
    given: dict[str, str] = field(default_factory=dict)
    until: float = 0.0


class BuildCredentials:
    """Gives each build that runs its role's credentials.

    Args:
        endpoint: the server's own address.
        role_credentials: a session of a role, as variables (ministack_host.role_credentials).
    """

    def __init__(self, endpoint: str, role_credentials: RoleCredentials) -> None:
        self._endpoint, self._role_credentials = endpoint, role_credentials
        self._holders: dict[str, _Holder] = {}
        self._lock = threading.Lock()

    @contextmanager
    def given(self, role: str, session: str) -> Iterator[dict[str, str]]:
        """The variables by which AWS clients find the role's credentials, for the length of a block.

        Args:
            role: ARN.
            session: the session's name.
        """
        name, token = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
        with self._lock:
            self._holders[name] = _Holder(role, session, token)
        try:
            yield {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._endpoint}{PREFIX}{name}",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
            }
        finally:
            with self._lock:
                del self._holders[name]

    def answer(self, name: str, token: str) -> dict[str, str] | None:
        """Credentials for who knows the name and the token, new ones after half of their time; None for nobody else."""
        with self._lock:
            holder = self._holders.get(name)
            if holder is None or not hmac.compare_digest(holder.token.encode(), token.encode("utf-8", "replace")):
                return None
            now = time.time()
            if now >= holder.until:
                holder.given, holder.until = self._new(holder, now + LASTS), now + LASTS / 2
            return holder.given

    def _new(self, holder: _Holder, expires: float) -> dict[str, str]:
        found = self._role_credentials(holder.role, holder.session)
        return {
            "RoleArn": holder.role,
            "AccessKeyId": found["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": found["AWS_SECRET_ACCESS_KEY"],
            "Token": found["AWS_SESSION_TOKEN"],
            "Expiration": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


class CredentialsDoor:
    """An ASGI application that answers builds that ask for their role, and hands everything else on."""

    def __init__(self, application: Any, credentials: BuildCredentials) -> None:
        self._application, self._credentials = application, credentials

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._application(scope, receive, send)
            return
        token = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")
        found = self._credentials.answer(scope["path"].removeprefix(PREFIX), token)
        status, content = (200, found) if found else (403, {"code": "Forbidden", "message": "No build of this token."})
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})
