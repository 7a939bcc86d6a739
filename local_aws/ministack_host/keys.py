"""The KMS keys that a call uses through the service that it calls.

Touches: where DynamoDB, SNS, SQS, S3, Secrets Manager and Parameter Store keep which key a resource is encrypted with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from local_aws.api_calls import ApiCall, HttpRequest, parsed_request
from local_aws.permissions.forwarded import KEY_ACTIONS, KeyUse
from local_aws.store import Scope


def some_key_is_off() -> bool:
    """Whether there is a key that is not enabled."""
    from ministack.services import kms

    return any(key["KeyState"] != "Enabled" for key in kms._keys.all_values())


def request_of(call: ApiCall, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> dict[str, Any]:
    """A call's parameters, as boto3 takes them, without what is in S3's headers and bodies.

    Raises:
        ValueError: the body is none.
    """
    if call.service == "s3":
        return {"UploadId": query.get("uploadId", [""])[0], **call.labels}
    if call.protocol == "query":
        return dict(parsed_request(call, HttpRequest("POST", "/", query, headers, body)))
    found = json.loads(body or b"{}")
    return (found if isinstance(found, dict) else {}) | dict(call.labels)


def key_uses(call: ApiCall, scope: Scope, request: dict[str, Any], headers: dict[str, str]) -> list[KeyUse]:
    """The keys that a call uses through its service, by what the resource says that it is encrypted with."""
    actions = KEY_ACTIONS.get(call.name)
    if actions is None:
        return []
    find = {
        "dynamodb": _table_keys,
        "sns": _topic_keys,
        "sqs": _queue_keys,
        "s3": _object_keys,
        "secretsmanager": _secret_keys,
        "ssm": _parameter_keys,
    }[call.service]
    return [
        KeyUse(key, only or actions, context)
        for key, context, only in find(call.operation.name, scope, request, headers)
        if key
    ]


# Of a call: each key, the encryption context, and what is asked of it when that is not what the call asks.
FoundKeys = list[tuple[str | None, dict[str, str], tuple[str, ...]]]


def _table_keys(operation: str, scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import dynamodb

    def context(name: str) -> dict[str, str]:
        return {"aws:dynamodb:tableName": name, "aws:dynamodb:subscriberId": scope.account}

    if operation == "CreateTable":
        key = (request.get("SSESpecification") or {}).get("KMSMasterKeyId")
        return [(key, context(str(request.get("TableName"))), ())]
    items = [one for each in request.get("TransactItems") or [] for one in each.values()]
    named = [request.get("TableName"), *(request.get("RequestItems") or {}), *(one.get("TableName") for one in items)]
    found: FoundKeys = []
    for name in dict.fromkeys(str(one).rpartition("/")[2] for one in named if one):
        description = (dynamodb._tables.get(name) or {}).get("SSEDescription") or {}
        found.append((description.get("KMSMasterKeyArn"), context(name), ()))
    return found


def _topic_keys(_operation: str, _scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import sns

    arn = request.get("TopicArn") or request.get("TargetArn") or ""
    attributes = (sns._topic_by_arn_any_scope(arn) or {}).get("attributes") or {}
    return [(attributes.get("KmsMasterKeyId"), {"aws:sns:topicArn": arn}, ())]


def _queue_keys(_operation: str, scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import sqs

    account, name = (["", *str(request.get("QueueUrl", "")).split("/")])[-2:]
    arn = f"arn:aws:sqs:{scope.region}:{account}:{name}"
    attributes = (sqs._queue_by_arn(arn) or {}).get("attributes") or {}
    return [(attributes.get("KmsMasterKeyId"), {"aws:sqs:arn": arn}, ())]


def _object_keys(operation: str, _: Scope, request: dict[str, Any], headers: dict[str, str]) -> FoundKeys:
    from ministack.services import s3

    def key_of(sse: Mapping[str, str] | None) -> str | None:
        return (sse or {}).get("x-amz-server-side-encryption-aws-kms-key-id")

    def kept(bucket: str, key: str) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
        objects = (s3._ensure_bucket(bucket) or {}).get("objects") or {}
        found = s3._stored_sse_headers(objects.get(key) or {})
        return key_of(found), {"aws:s3:arn": f"arn:aws:s3:::{bucket}/{key}"}, ("kms:Decrypt",)

    bucket, name = request["Bucket"], request["Key"]
    if operation == "GetObject":
        return [kept(bucket, name)]
    context = {"aws:s3:arn": f"arn:aws:s3:::{bucket}/{name}"}
    found: FoundKeys = []
    if source := headers.get("x-amz-copy-source"):
        found.append(kept(*unquote(source).lstrip("/").partition("?")[0].partition("/")[::2]))
    if operation == "UploadPart":
        upload = s3._multipart_uploads.get(request["UploadId"]) or {}
        return [*found, (key_of(s3._stored_sse_headers(upload)), context, ())]
    sse, fault = s3._resolve_sse_write_headers(headers, bucket)
    return found if fault else [*found, (key_of(sse), context, ())]


def _secret_keys(_operation: str, _scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import secretsmanager

    secret = secretsmanager._resolve(request.get("SecretId"))[1] or {}
    key = request.get("KmsKeyId") or secret.get("KmsKeyId")
    return [(key, {"SecretARN": secret["ARN"]} if secret else {}, ())]


def _parameter_keys(operation: str, scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import ssm

    if operation == "PutParameter":
        name = str(request.get("Name", "")).lstrip("/")
        context = {"PARAMETER_ARN": f"arn:aws:ssm:{scope.region}:{scope.account}:parameter/{name}"}
        return [(request.get("KeyId") if request.get("Type") == "SecureString" else None, context, ())]
    if not request.get("WithDecryption"):
        return []
    if operation == "GetParametersByPath":
        below = str(request.get("Path", "")).rstrip("/") + "/"
        parameters = [one for name, one in ssm._parameters.items() if name.startswith(below)]
    else:
        names = request.get("Names") or [request.get("Name")]
        parameters = [found for name in names if (found := ssm._select_parameter(name)[0])]
    secure = [one for one in parameters if one["Type"] == "SecureString"]
    return [(one["KeyId"], {"PARAMETER_ARN": one["ARN"]}, ()) for one in secure]
