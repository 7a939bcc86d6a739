"""The role that SageMaker is given: it must be there, be the caller's own, and let SageMaker assume it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from local_aws.calls import validation_error
from local_aws.loopback import Loopback
from local_aws.store import Scope


def check_role(loopback: Loopback, scope: Scope, arn: str) -> None:
    """Look the role up in IAM.

    Raises:
        ServiceError: ValidationException when SageMaker cannot take the role.
    """
    account, resource = arn.split(":", 5)[4:]
    if account != scope.account:
        raise validation_error(f"RoleArn {arn}: Cross-account pass role is not allowed.")
    try:
        role = loopback.client("iam", scope).get_role(RoleName=resource.rpartition("/")[2])["Role"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
        role = {}
    if role.get("Arn") != arn or not _trusts_sagemaker(role.get("AssumeRolePolicyDocument")):
        raise validation_error(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal"
            " 'sagemaker.amazonaws.com' to assume the role."
        )


def _trusts_sagemaker(policy: Any) -> bool:
    """Whether a role's trust policy lets SageMaker assume it."""
    if not isinstance(policy, dict):  # MiniStack takes any text for a policy; AWS refuses what is not JSON
        return False
    for statement in _as_list(policy.get("Statement", [])):
        if not isinstance(statement, dict):
            continue
        principal, allows = statement.get("Principal"), statement.get("Effect") == "Allow"
        services = _as_list(principal.get("Service", [])) if isinstance(principal, dict) else []
        if allows and (principal == "*" or "*" in services or "sagemaker.amazonaws.com" in services):
            return True
    return False


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
