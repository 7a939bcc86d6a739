"""MiniStack's web application: how it is configured, what is mounted beside its services, whose request is answered.

Touches: the environment variables that MiniStack reads, `ministack.app.app` and `SERVICE_HANDLERS`,
`router.SERVICE_PATTERNS`, and the account and Region of a request in `ministack.core.responses`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from local_aws.store import Scope

# (method, path, headers, body, query parameters) -> (HTTP status, headers, body)
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[tuple[int, dict[str, str], bytes]]]


def configure(port: int, account: str, region: str, data: Path, state: Path | None, enforce_iam: bool = False) -> None:
    """Set MiniStack's environment variables; it reads them when it is imported, so call this first.

    Args:
        port: where the server will listen, on loopback.
        account, region: of callers that name none.
        data: a folder for the bodies of S3 objects (they are kept on disk, so that memory stays small).
        state: a folder for what should survive a restart, or None.
        enforce_iam: whether MiniStack asks IAM before it answers, and verifies signatures.
    """
    os.environ.update(
        AUTH="true" if enforce_iam else "false",
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_ACCOUNT_ID=account,
        MINISTACK_REGION=region,
        S3_PERSIST="1",
        S3_DATA_DIR=str(data),
        IOT_MTLS_ENABLED="0",  # else it opens port 8883
        SFTP_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent/docker.sock",  # never look for a Docker daemon, never reap its containers
    )
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    if state is not None:
        os.environ.update(PERSIST_STATE="1", STATE_DIR=str(state))


def application() -> Any:
    """MiniStack's ASGI application. It loads and saves its state in the ASGI lifespan."""
    from ministack.app import app

    return app


def mount(service: str, target_prefix: str, handler: Handler) -> None:
    """Let `handler` answer every request whose X-Amz-Target begins with the prefix, such as "SageMaker."."""
    import ministack.app
    from ministack.core import router

    router.SERVICE_PATTERNS[service] = {"host_patterns": [], "target_prefixes": [target_prefix]}
    ministack.app.SERVICE_HANDLERS[service] = handler


def before_first_request(service: str, prepare: Callable[[], None]) -> None:
    """Call `prepare` once, before the first request to one of MiniStack's services, which is when it is imported."""
    import ministack.app

    handler = ministack.app.SERVICE_HANDLERS[service]
    prepared = False

    async def prepare_and_handle(*request: Any) -> Any:
        nonlocal prepared
        if not prepared:
            prepared = True
            prepare()
        return await handler(*request)

    ministack.app.SERVICE_HANDLERS[service] = prepare_and_handle


def request_scope() -> Scope:
    """The account and Region of the request that is being answered (a context variable: valid in its threads too)."""
    from ministack.core.responses import get_account_id, get_region

    return Scope(get_account_id(), get_region())


@contextlib.contextmanager
def requested_from(scope: Scope) -> Iterator[None]:
    """Let MiniStack's functions act as in the answer to a request of this account and Region."""
    from ministack.core import responses

    with responses.request_scope(scope.account, scope.region):
        yield
