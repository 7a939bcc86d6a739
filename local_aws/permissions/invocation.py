"""Who may invoke an endpoint: what the data plane (local_aws.data_plane.permits) is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from local_aws.calls import ServiceError
from local_aws.permissions.authorization import Authorization
from local_aws.store import Scope


class Credential(NamedTuple):
    """What belongs to an access key.

    Args:
        secret: None when signatures with it are not verified (the account's own).
        token: of a session.
    """

    account: str
    secret: str | None
    token: str | None


# Raises ServiceError for a key that there is not, or not any more.
CredentialOf = Callable[[str], Credential]


def permits(authorization: Authorization, credential_of: CredentialOf) -> Callable[[str, str, str], dict[str, Any]]:
    """(access key, Region, endpoint) -> {"secret", "token", "refusal": [code, message] or None}."""

    def permit(access_key: str, region: str, endpoint: str) -> dict[str, Any]:
        answer: dict[str, Any] = {"secret": None, "token": None, "refusal": None}
        try:
            credential = credential_of(access_key)
            answer |= {"secret": credential.secret, "token": credential.token}
            scope = Scope(credential.account, region)
            authorization.check(scope, access_key, "sagemaker", "InvokeEndpoint", {"EndpointName": endpoint})
        except ServiceError as error:
            answer["refusal"] = [error.code, error.message]
        return answer

    return permit
