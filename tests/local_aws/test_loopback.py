"""The server's own clients: as the account's root, or as a role while IAM is enforced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from local_aws.loopback import Loopback
from local_aws.permissions import DecisionLog, Permissions
from local_aws.store import Scope

SCOPE = Scope("123456789012", "eu-west-1")
ROLE, OTHER = (f"arn:aws:iam::123456789012:role/{name}" for name in ("job", "model"))


class Iam:
    """Sessions by role, and what was asked."""

    def __init__(self, enforced: bool) -> None:
        self.sessions: list[tuple[str, str]] = []
        self.asked: list[tuple[Any, ...]] = []
        permissions = Permissions(enforced, lambda *question: self.asked.append(question), DecisionLog())
        self.loopback = Loopback("http://127.0.0.1:1", "http://127.0.0.1:2", permissions, self.credentials)

    def credentials(self, role: str, session: str) -> Mapping[str, str]:
        self.sessions.append((role, session))
        number = str(len(self.sessions))
        return {"AWS_ACCESS_KEY_ID": number, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}


def key_of(client: Any) -> str:
    return str(client._request_signer._credentials.access_key)


def test_each_role_has_one_session_and_its_own_clients() -> None:
    iam = Iam(enforced=True)
    clients = [iam.loopback.client("s3", SCOPE, role) for role in (ROLE, OTHER, ROLE, None)]
    assert [key_of(client) for client in clients] == ["1", "2", "1", SCOPE.account]
    assert clients[0] is clients[2]
    assert iam.sessions == [(ROLE, "SageMaker"), (OTHER, "SageMaker")]


def test_a_roles_programs_find_its_credentials() -> None:
    iam = Iam(enforced=True)
    variables = iam.loopback.environment(SCOPE, ROLE)
    assert (variables["AWS_ACCESS_KEY_ID"], variables["AWS_SESSION_TOKEN"]) == ("1", "token")
    assert variables["AWS_REGION"] == SCOPE.region


def test_a_role_is_asked_about_by_its_session() -> None:
    iam = Iam(enforced=True)
    iam.loopback.ask(SCOPE, ROLE, "ecr:BatchGetImage", "arn")
    iam.loopback.ask(SCOPE, None, "ecr:BatchGetImage", "arn")
    assert iam.asked == [(SCOPE, "1", "ecr:BatchGetImage", "arn", {}, "sagemaker.amazonaws.com")]


@pytest.mark.parametrize("role", [ROLE, None])
def test_while_iam_is_not_enforced_everything_is_done_as_root(role: str | None) -> None:
    iam = Iam(enforced=False)
    assert iam.loopback.client("s3", SCOPE, role) is iam.loopback.client("s3", SCOPE)
    assert iam.loopback.environment(SCOPE, role) == iam.loopback.environment(SCOPE)
    iam.loopback.ask(SCOPE, role, "ecr:BatchGetImage")
    assert (iam.sessions, iam.asked) == ([], [])
