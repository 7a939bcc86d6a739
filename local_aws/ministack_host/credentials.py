"""Access keys, the sessions of roles, and whom a role trusts.

Touches: `sts.register_session`, IAM's roles, and how `iam_evaluator` finds what belongs to an access key.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import secrets

from local_aws.calls import ServiceError
from local_aws.permissions.invocation import Credential
from local_aws.permissions.trust import trusts_service
from local_aws.store import Scope


def account_of(access_key: str) -> str:
    """The account that an access key belongs to: itself when it is one, a role session's, else the default account."""
    from ministack.core.responses import get_account_id, set_request_account_id

    def resolve() -> str:
        set_request_account_id(access_key)
        return get_account_id()

    return contextvars.copy_context().run(resolve)


def caller_of(access_key: str) -> tuple[str, str] | None:
    """ARN and id of the user or role session that an access key is of; None when it is of no known one."""
    from ministack.core.iam_evaluator import resolve_caller_identity

    identity = resolve_caller_identity(access_key)
    return (identity["userArn"], identity["userId"]) if identity else None


def credential_of(access_key: str) -> Credential:
    """What belongs to an access key.

    Raises:
        ServiceError: as AWS answers to a key that there is not, or not any more.
    """
    from ministack.core import iam_actions, iam_evaluator

    account = iam_evaluator.find_iam_access_key_account(access_key) or account_of(access_key)
    found = iam_evaluator.resolve_credential(access_key, account)
    if isinstance(found, iam_evaluator.CredentialResolutionError):
        raise ServiceError(iam_actions._AUTH_FAILURES[found.code][2], found.message, 403)
    if found.principal_type == "Root":
        return Credential(account, None, None)
    return Credential(account, found.secret_access_key, found.session_token)


def role_credentials(role: str, session: str) -> dict[str, str]:
    """Credentials of a role's session, as the variables that AWS clients read.

    Args:
        role: the role's ARN.
        session: the session's name.
    """
    from ministack.services import sts

    account, name = role.split(":")[4], role.rpartition("/")[2]
    key = f"ASIA{secrets.token_hex(8).upper()}"
    secret, token = secrets.token_urlsafe(30), secrets.token_urlsafe(60)
    sts.register_session(
        key,
        {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
            "UserId": f"AROA{name.upper()[:17]}:{session}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "AccountId": account,
            "PrincipalType": "AssumedRole",
        },
    )
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


def role_trusts(scope: Scope, role: str, service: str, source: str | None = None) -> bool:
    """Whether a role is there, is the account's own, and lets a service assume it.

    Args:
        role: ARN.
        service: such as "lambda.amazonaws.com".
        source: ARN of what the service acts for, when it names that (aws:SourceArn).
    """
    from ministack.services import iam

    found = iam._roles.get_scoped(scope.account, None, role.rpartition("/")[2])
    if found is None or found["Arn"] != role:
        return False
    policy = found["AssumeRolePolicyDocument"]
    with contextlib.suppress(ValueError):  # what is no JSON trusts nobody
        policy = json.loads(policy) if isinstance(policy, str) else policy
    context = {"aws:SourceAccount": scope.account} | ({"aws:SourceArn": source} if source else {})
    return trusts_service(policy, service, context)
