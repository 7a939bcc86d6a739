"""The role that SageMaker is given: it must be there, be the caller's own, and let SageMaker assume it.

What SageMaker then calls as the role is a call of its own, authorised as a client's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from local_aws.calls import Call, Request, validation_error
from local_aws.loopback import SERVICE, Loopback
from local_aws.ministack_host import caller_of
from local_aws.permissions.trust import trusts_service
from local_aws.store import Scope

# Asks IAM whether a call may do an operation, as the front door does (front_door.JsonService.authorize); raises
# ServiceError: AccessDeniedException.
Authorize = Callable[[Call, str, Request], None]


@dataclass(frozen=True)
class RoleCall(Call):
    """What SageMaker calls for a pipeline or a tuning job, as its role.

    Args:
        role: ARN.
    """

    role: str | None = None


def call_as(loopback: Loopback, call: Call, role: str) -> RoleCall:
    """The role's own call; while IAM is not enforced, that of whoever has called."""
    credentials = loopback.credentials(role)
    if not credentials:
        return RoleCall(call.scope, call.access_key, call.caller, role=role)
    key = credentials["AWS_ACCESS_KEY_ID"]
    return RoleCall(call.scope, key, caller_of(key), role=role)


def check_role(loopback: Loopback, scope: Scope, arn: str, source: str) -> None:
    """Look the role up in IAM.

    Args:
        arn: the role's.
        source: ARN of the resource that the role is for, as conditions on aws:SourceArn see it
            (https://docs.aws.amazon.com/sagemaker/latest/dg/security-confused-deputy-prevention.html).

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
    context = {"aws:SourceAccount": scope.account, "aws:SourceArn": source}
    if role.get("Arn") != arn or not trusts_service(role.get("AssumeRolePolicyDocument"), SERVICE, context):
        raise validation_error(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal"
            " 'sagemaker.amazonaws.com' to assume the role."
        )
