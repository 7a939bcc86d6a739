"""What calls of AWS's services ask of IAM besides themselves: to pass a role, to use a key. Pure functions.

The calls are those of MiniStack's services that check neither. Our own services' are in
local_aws.permissions.authorization, CloudFormation's in local_aws.permissions.cloudformation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.store import Scope

EVENTS, SCHEDULER, LAMBDA = "events.amazonaws.com", "scheduler.amazonaws.com", "lambda.amazonaws.com"
# A Lambda function's role must allow these before a mapping is made, and for as long as it is to be polled:
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions
POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
# What a rule or a schedule does with a target, by the service in the target's ARN.
TARGET_ACTIONS = {
    "sqs": "sqs:SendMessage",
    "sns": "sns:Publish",
    "lambda": "lambda:InvokeFunction",
    "events": "events:PutEvents",
    "states": "states:StartExecution",
    "sagemaker": "sagemaker:StartPipelineExecution",
    "codebuild": "codebuild:StartBuild",
    "codepipeline": "codepipeline:StartPipelineExecution",
}


@dataclass(frozen=True)
class PassedRole:
    """A role that a call hands to a service.

    Args:
        role: its ARN.
        service: who will assume it, such as "lambda.amazonaws.com".
        source: the ARN that the service names as aws:SourceArn when it does.
        code, message: what the service answers when the role does not trust it.
    """

    role: str
    service: str
    source: str
    code: str
    message: str


def passed_roles(operation: str, request: Mapping[str, Any], scope: Scope) -> list[PassedRole]:
    """The roles that a call passes; each asks for iam:PassRole.

    Args:
        operation: such as "lambda:CreateFunction" (boto3's name of the service).
        request: as boto3 takes it.
    """
    if operation in ("lambda:CreateFunction", "lambda:UpdateFunctionConfiguration"):
        source = f"arn:aws:lambda:{scope.region}:{scope.account}:function:{request.get('FunctionName', '')}"
        code, message = (
            "InvalidParameterValueException",
            "The role defined for the function cannot be assumed by Lambda.",
        )
        return _passed(request.get("Role"), LAMBDA, source, code, message)
    if operation in ("events:PutRule", "events:PutTargets"):
        bus, rule = request.get("EventBusName", "default"), request.get("Rule", request.get("Name", ""))
        path = rule if bus == "default" else f"{bus}/{rule}"
        source = f"arn:aws:events:{scope.region}:{scope.account}:rule/{path}"
        owners = [request] if operation == "events:PutRule" else request.get("Targets", [])
        return [
            passed
            for role in dict.fromkeys(owner.get("RoleArn") for owner in owners)
            for passed in _passed(
                role,
                EVENTS,
                source,
                "ValidationException",
                f"Provided role '{role}' cannot be assumed by principal '{EVENTS}'.",
            )
        ]
    if operation in ("scheduler:CreateSchedule", "scheduler:UpdateSchedule"):
        # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
        source = schedule_group_arn(scope, request.get("GroupName") or "default")
        message = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
        role = (request.get("Target") or {}).get("RoleArn")
        return _passed(role, SCHEDULER, source, "ValidationException", message)
    if operation == "logs:PutSubscriptionFilter":
        source = f"arn:aws:logs:{scope.region}:{scope.account}:*"
        message = "Could not deliver test message to specified destination. Check if the destination is valid."
        return _passed(request.get("roleArn"), "logs.amazonaws.com", source, "InvalidParameterException", message)
    return []


def _passed(role: str | None, service: str, source: str, code: str, message: str) -> list[PassedRole]:
    return [PassedRole(role, service, source, code, message)] if role else []


def schedule_group_arn(scope: Scope, group: str) -> str:
    """What EventBridge Scheduler names as aws:SourceArn: the schedule's group."""
    return f"arn:aws:scheduler:{scope.region}:{scope.account}:schedule-group/{group}"


def iam_name(operation: str) -> str:
    """The action that IAM knows an operation by; a question about a role or a key is asked because of it."""
    names = {
        "s3:CopyObject": "s3:PutObject",
        "s3:CreateMultipartUpload": "s3:PutObject",
        "s3:UploadPart": "s3:PutObject",
    }
    return names.get(operation, operation)


# Keys.

_READ, _WRITE, _BOTH = ("kms:Decrypt",), ("kms:GenerateDataKey",), ("kms:GenerateDataKey", "kms:Decrypt")
_ITEM_OPERATIONS = (
    *("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"),
    *("BatchGetItem", "BatchWriteItem", "TransactGetItems", "TransactWriteItems"),
)
# What a call asks about the key of the resource that it is about. Sources:
# DynamoDB: the table's own key is decrypted by whoever uses the table, to read and to write alike, and kept for up to
#   five minutes (developer guide, "Encryption at rest: How it works"); here it is asked each time.
# SNS, SQS: developer guides, "Key management".  S3: user guide, "Using server-side encryption with KMS keys".
# Secrets Manager: user guide, "Secret encryption and decryption". Systems Manager: "How Parameter Store uses KMS".
KEY_ACTIONS: Mapping[str, tuple[str, ...]] = {
    **{f"dynamodb:{name}": _READ for name in _ITEM_OPERATIONS},
    "dynamodb:CreateTable": ("kms:DescribeKey", "kms:CreateGrant"),
    "sns:Publish": _BOTH,
    "sns:PublishBatch": _BOTH,
    "sqs:SendMessage": _BOTH,
    "sqs:SendMessageBatch": _BOTH,
    "sqs:ReceiveMessage": _READ,
    "s3:GetObject": _READ,
    "s3:PutObject": _WRITE,
    "s3:CopyObject": _WRITE,
    "s3:CreateMultipartUpload": _WRITE,
    "s3:UploadPart": _BOTH,
    "secretsmanager:GetSecretValue": _READ,
    "secretsmanager:CreateSecret": _BOTH,
    "secretsmanager:PutSecretValue": _BOTH,
    "secretsmanager:UpdateSecret": _BOTH,
    "ssm:GetParameter": _READ,
    "ssm:GetParameters": _READ,
    "ssm:GetParametersByPath": _READ,
    "ssm:PutParameter": ("kms:Encrypt",),
}


@dataclass(frozen=True)
class KeyUse:
    """A key that a call uses through the service that is called.

    Args:
        key: ARN, id or alias, as the resource has it.
        actions: what is asked about it.
        context: the encryption context that the service gives.
    """

    key: str
    actions: tuple[str, ...]
    context: Mapping[str, str]


def key_context(scope: Scope, service: str, encryption: Mapping[str, str]) -> dict[str, Any]:
    """The condition keys of a question about a key.

    Args:
        service: which uses the key for its caller, such as "dynamodb".
        encryption: the encryption context.
    """
    return {
        "kms:ViaService": f"{service}.{scope.region}.amazonaws.com",
        "kms:CallerAccount": scope.account,
        "kms:EncryptionContextKeys": list(encryption),
        **{f"kms:EncryptionContext:{name}": value for name, value in encryption.items()},
    }


@dataclass(frozen=True)
class Refusal:
    """An error that a service answers.

    Args:
        status: the HTTP status.
    """

    code: str
    message: str
    status: int


# How each service says that a key cannot be used: by the key's state, "Denied" for a caller who may not.
_KEY_CODES: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "dynamodb": {
        "Disabled": ("AccessDeniedException", 400),
        "Unusable": ("AccessDeniedException", 400),
        "Denied": ("AccessDeniedException", 400),
    },
    "sns": {"Disabled": ("KMSDisabled", 400), "Unusable": ("KMSInvalidState", 400), "Denied": ("KMSAccessDenied", 400)},
    "sqs": {"Disabled": ("KmsDisabled", 400), "Unusable": ("KmsInvalidState", 400), "Denied": ("KmsAccessDenied", 400)},
    "s3": {
        "Disabled": ("KMS.DisabledException", 400),
        "Unusable": ("KMS.KMSInvalidStateException", 400),
        "Denied": ("AccessDenied", 403),
    },
    "secretsmanager": {
        "Disabled": ("DecryptionFailure", 400),
        "Unusable": ("DecryptionFailure", 400),
        "Denied": ("AccessDeniedException", 400),
    },
    "ssm": {
        "Disabled": ("InvalidKeyId", 400),
        "Unusable": ("InvalidKeyId", 400),
        "Denied": ("AccessDeniedException", 400),
    },
}
_STATES = {"Disabled": "is disabled.", "PendingDeletion": "is pending deletion.", "PendingImport": "is pending import."}


def key_state_fault(arn: str, state: str) -> str | None:
    """What KMS says of a key that is not enabled, None of one that is."""
    return f"{arn} {_STATES.get(state, f'is in the state {state}.')}" if state != "Enabled" else None


def key_refusal(service: str, operation: str, state: str, message: str) -> Refusal:
    """What a service answers when its caller's key cannot be used.

    Args:
        state: the key's, "Denied" when the caller may not use it.
        message: KMS's.
    """
    code, status = _KEY_CODES[service][state if state in ("Disabled", "Denied") else "Unusable"]
    if service == "dynamodb" and state != "Denied":
        message = f"KMS key {'disabled' if state == 'Disabled' else 'not usable'} error: {message}"
    if service == "secretsmanager" and state == "Denied":
        # AWS does not say more; what it does not say is in the log of decisions.
        message = "Access to KMS is not allowed"
    if code == "DecryptionFailure" and operation != "GetSecretValue":
        code = "EncryptionFailure"
    return Refusal(code, message, status)


def denial(service: str, message: str) -> Refusal:
    """What a service answers when its caller may not pass a role."""
    return Refusal("AccessDeniedException", message, 403 if service in ("lambda", "scheduler") else 400)


def log_questions(scope: Scope, group: str, stream: str, exists: bool) -> list[tuple[str, str]]:
    """The actions and resources that a function's role needs for its log.

    Args:
        exists: whether the group does.
    """
    arn = f"arn:aws:logs:{scope.region}:{scope.account}:log-group:{group}:log-stream:"
    create = [] if exists else [("logs:CreateLogGroup", arn)]
    return [*create, ("logs:CreateLogStream", f"{arn}{stream}"), ("logs:PutLogEvents", f"{arn}{stream}")]
