"""What calls of the generic services ask IAM, where MiniStack would ask about something else. Pure functions.

MiniStack's own questions are right for what is not named here. Actions, resources and condition keys:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.permissions.questions import Context, tags_in_request
from local_aws.store import Scope

Request = Mapping[str, Any]

# Operations that have no action of their own.
ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sns:PublishBatch": "sns:Publish",
    "lambda:Invoke": "lambda:InvokeFunction",
    "lambda:InvokeWithResponseStream": "lambda:InvokeFunction",
}
# What is asked besides of a request that has tags, as each operation's API reference says.
TAGGING = {
    "cloudwatch:PutCompositeAlarm": "cloudwatch:TagResource",
    "cloudwatch:PutMetricAlarm": "cloudwatch:TagResource",
    "dynamodb:CreateTable": "dynamodb:TagResource",
    "events:PutRule": "events:TagResource",
    "iam:CreatePolicy": "iam:TagPolicy",
    "iam:CreateRole": "iam:TagRole",
    "iam:CreateUser": "iam:TagUser",
    "kms:CreateKey": "kms:TagResource",
    "lambda:CreateFunction": "lambda:TagResource",
    "logs:CreateLogGroup": "logs:TagResource",
    "scheduler:CreateScheduleGroup": "scheduler:TagResource",
    "secretsmanager:CreateSecret": "secretsmanager:TagResource",
    "sns:CreateTopic": "sns:TagResource",
    "sqs:CreateQueue": "sqs:TagQueue",
    "ssm:PutParameter": "ssm:AddTagsToResource",
}
_RULES = ("PutRule", "DeleteRule", "DescribeRule", "EnableRule", "DisableRule")
_TARGETS = ("PutTargets", "RemoveTargets", "ListTargetsByRule")
_LOG_STREAMS = ("CreateLogStream", "DeleteLogStream", "PutLogEvents", "GetLogEvents")
_DASHBOARDS = ("PutDashboard", "GetDashboard", "DeleteDashboards")
# By which member each goes.
_ALARMS = {
    "DeleteAlarms": "AlarmNames",
    "DescribeAlarmHistory": "AlarmName",
    "DescribeAlarms": "AlarmNames",
    "DisableAlarmActions": "AlarmNames",
    "EnableAlarmActions": "AlarmNames",
    "PutCompositeAlarm": "AlarmName",
    "PutMetricAlarm": "AlarmName",
    "SetAlarmState": "AlarmName",
}
_IAM_KINDS = {"InstanceProfile": "instance-profile", "Group": "group", "Role": "role", "User": "user"}


@dataclass(frozen=True)
class Sent:
    """A request to one of MiniStack's services.

    Args:
        action: as MiniStack or ACTIONS calls it, such as "cloudwatch:DeleteAlarms".
        request: its members, of the body or of the query string.
        path: of the URL, decoded.
        scope: the caller's.
    """

    action: str
    request: Request
    path: str
    scope: Scope

    @property
    def name(self) -> str:
        return self.action.partition(":")[2]

    def arn(self, resource: str, region: str | None = None) -> str:
        service = self.action.partition(":")[0]
        where = self.scope.region if region is None else region
        return f"arn:aws:{service}:{where}:{self.scope.account}:{resource}"


def members(body: bytes, parameters: Request) -> dict[str, Any]:
    """A request's members, of its JSON body or its form; a form's lists ("Names.member.1") as lists."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        first = value[0] if isinstance(value, list) and value else value
        head, _, place = name.partition(".member.")
        if place.isdigit():
            found.setdefault(head, []).append(first)
        else:
            found[name] = first
    if body:
        with contextlib.suppress(ValueError, RecursionError):  # the service refuses it
            content = json.loads(body)
            found |= content if isinstance(content, dict) else {}
    return found


# (kind, name) -> ARN of what has that name; None when there is none. Kinds are those of IAM such as "role", "key" (by
# id, alias or ARN) and "change set's stack".
Find = Callable[[str, str], str | None]


def resources(sent: Sent, find: Find) -> list[str] | None:
    """The ARNs that a request is about, each of which is asked; None: as MiniStack says."""
    rule = _RESOURCES.get(sent.action.partition(":")[0])
    return None if rule is None else rule(sent, find)


def further_actions(sent: Sent) -> list[str]:
    """Actions that are asked besides, on the same resources in the same context: who gives it tags, tags it."""
    tagged = any(name.partition(".")[0] in ("Tags", "tags") and value for name, value in sent.request.items())
    return [TAGGING[sent.action]] if tagged and sent.action in TAGGING else []


def s3_further_actions(method: str, key: str, headers: Mapping[str, str]) -> list[str]:
    """Actions that putting an object asks besides, on the object: its tags and its access control list.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html, "Permissions".

    Args:
        key: empty of a request that is about a bucket.
        headers: names in lower case.
    """
    if not key or method not in ("PUT", "POST"):
        return []
    listed = any(name == "x-amz-acl" or name.startswith("x-amz-grant-") for name in headers)
    tagged = bool(headers.get("x-amz-tagging"))
    return ["s3:PutObjectTagging"] * tagged + ["s3:PutObjectAcl"] * listed


def context(sent: Sent, find: Find) -> Context:
    """Condition keys that MiniStack leaves out."""
    request = sent.request
    own: dict[str, dict[str, Any]] = {
        "cloudwatch:PutMetricData": {"cloudwatch:namespace": request.get("Namespace")},
        "lambda:CreateEventSourceMapping": {"lambda:FunctionArn": _function_arn(sent)},
        "sns:Subscribe": {"sns:Protocol": request.get("Protocol"), "sns:Endpoint": request.get("Endpoint")},
        "ssm:GetParametersByPath": {"ssm:Recursive": str(bool(request.get("Recursive"))).lower()},
        "iam:CreateServiceLinkedRole": {"iam:AWSServiceName": request.get("AWSServiceName")},
    }
    keys: dict[str, Any] = own.get(sent.action, {})
    service, _, name = sent.action.partition(":")
    if service == "cloudwatch" and isinstance(tags := request.get("Tags"), list):
        keys = tags_in_request([tag for tag in tags if isinstance(tag, Mapping) and {"Key", "Value"} <= tag.keys()])
    if service == "cloudwatch" and request.get("TagKeys"):
        keys = {"aws:TagKeys": _names(sent, "TagKeys")}
    if service == "cloudformation":
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html
        keys = {
            "cloudformation:TemplateUrl": request.get("TemplateURL"),
            "cloudformation:RoleArn": request.get("RoleARN"),
        }
    if service == "iam":
        if name in [f"{verb}{kind}Policy" for verb in ("Attach", "Detach") for kind in ("Group", "Role", "User")]:
            keys = {"iam:PolicyARN": request.get("PolicyArn")}
        kind = "role" if "RoleName" in request else "user"
        entity = request.get("RoleName") or request.get("UserName")
        boundary = request.get("PermissionsBoundary") or (find(f"{kind} boundary", str(entity)) if entity else None)
        keys = keys | {"iam:PermissionsBoundary": boundary}
    if service == "kms":
        encryption = request.get("EncryptionContext")
        found = encryption if isinstance(encryption, Mapping) else {}
        _, alias, name = str(request.get("KeyId", "")).rpartition("alias/")
        keys = {
            **{f"kms:EncryptionContext:{key}": str(value) for key, value in found.items()},
            "kms:EncryptionContextKeys": list(found) or None,
            "kms:RequestAlias": alias + name if alias else None,
        }
    return {key: value for key, value in keys.items() if value is not None}


def _function_arn(sent: Sent) -> str:
    """Of the function that a request names by its name, or by its ARN, whole or from the account on."""
    name = str(sent.request.get("FunctionName", "*"))
    return name if name.startswith("arn:") else sent.arn(f"function:{name.rpartition('function:')[2]}")


def _cloudformation(sent: Sent, find: Find) -> list[str] | None:
    """A change set that is named by its ARN is its own stack's, whichever stack the request names."""
    name = str(sent.request.get("ChangeSetName", ""))
    stack = find("change set's stack", name) if name.startswith("arn:") and sent.name != "CreateChangeSet" else None
    return [stack] if stack else None


def _cloudwatch(sent: Sent, find: Find) -> list[str] | None:
    if sent.name in _DASHBOARDS:
        member = "DashboardNames" if sent.name == "DeleteDashboards" else "DashboardName"
        return [sent.arn(f"dashboard/{name}", region="") for name in _names(sent, member)]
    if sent.name in _ALARMS:
        return [sent.arn(f"alarm:{name}") for name in _names(sent, _ALARMS[sent.name])]
    return _tagged(sent, "ResourceARN") or ["*"]


def _names(sent: Sent, member: str) -> list[str]:
    """What the member that the operation goes by says; another one, which it does not look at, says nothing."""
    given = sent.request.get(member)
    names = given if isinstance(given, list) else [given]
    return [str(name) for name in names if name] or ["*"]


def _tagged(sent: Sent, member: str) -> list[str]:
    """Of TagResource and its like."""
    return [str(sent.request[member])] if "Tag" in sent.name and sent.request.get(member) else []


def _events(sent: Sent, find: Find) -> list[str] | None:
    request = sent.request
    if sent.name in (*_RULES, *_TARGETS):
        name = str(request.get("Rule" if sent.name in _TARGETS else "Name", "*"))
        bus = str(request.get("EventBusName") or "default").rpartition("event-bus/")[2]
        return [sent.arn(f"rule/{name}" if bus == "default" else f"rule/{bus}/{name}")]
    return _tagged(sent, "ResourceARN") or None


def _scheduler(sent: Sent, find: Find) -> list[str] | None:
    kind, _, name = sent.path.strip("/").partition("/")
    if kind == "tags":
        return [name]
    if not name:
        return ["*"]
    if kind == "schedule-groups":
        return [sent.arn(f"schedule-group/{name}")]
    member = "GroupName" if sent.name in ("CreateSchedule", "UpdateSchedule") else "groupName"  # of body, of query
    return [sent.arn(f"schedule/{sent.request.get(member) or 'default'}/{name}")]


def _logs(sent: Sent, find: Find) -> list[str] | None:
    """A log group's ARN is followed by ":log-stream:", and the stream's name when the action is about one: policies
    name a group's ARN with ":*" at its end."""
    request = sent.request
    groups = [str(request[member]) for member in ("logGroupName", "logGroupIdentifier") if request.get(member)]
    for member in ("logGroupNames", "logGroupIdentifiers"):
        groups += [str(group) for group in request[member]] if isinstance(request.get(member), list) else []
    arns = [
        group.removesuffix(":*") if group.startswith("arn:") else sent.arn(f"log-group:{group}") for group in groups
    ]
    stream = request.get("logStreamName", "") if sent.name in _LOG_STREAMS else ""
    return [f"{arn}:log-stream:{stream}" for arn in arns] or None


def _ssm(sent: Sent, find: Find) -> list[str] | None:
    member = {"GetParameters": "Names", "DeleteParameters": "Names", "GetParametersByPath": "Path"}.get(sent.name)
    if member is None:
        return None
    return [
        name if name.startswith("arn:") else sent.arn(f"parameter/{name.partition(':')[0].lstrip('/')}")
        for name in _names(sent, member)
    ]


def _sqs(sent: Sent, find: Find) -> list[str] | None:
    return _names(sent, "SourceArn") if sent.name in ("StartMessageMoveTask", "ListMessageMoveTasks") else None


def _sns(sent: Sent, find: Find) -> list[str] | None:
    return _tagged(sent, "ResourceArn") or None


def _dynamodb(sent: Sent, find: Find) -> list[str] | None:
    if sent.name in ("BatchGetItem", "BatchWriteItem"):
        tables = sent.request.get("RequestItems")
        named = [str(name) for name in tables] if isinstance(tables, Mapping) else []
        return [name if name.startswith("arn:") else sent.arn(f"table/{name}") for name in named] or ["*"]
    return _tagged(sent, "ResourceArn") or None


def _kms(sent: Sent, find: Find) -> list[str] | None:
    """An alias is asked about as its key; those who change an alias about both."""
    request = sent.request
    if sent.name in ("CreateAlias", "UpdateAlias", "DeleteAlias"):
        alias = str(request.get("AliasName", "*"))
        key = find("key", str(request.get("TargetKeyId") or alias))
        return [sent.arn(alias), *([key] if key else [])]
    key_id = str(request.get("KeyId", ""))
    return [found] if "alias/" in key_id and (found := find("key", key_id)) else None


def _iam(sent: Sent, find: Find) -> list[str] | None:
    """With the path that the resource has, or is to have."""
    request = sent.request
    if sent.name == "CreateServiceLinkedRole":
        return [sent.arn(f"role/aws-service-role/{request.get('AWSServiceName', '*')}/*", region="")]
    if sent.name == "CreatePolicy":
        return [sent.arn(f"policy{request.get('Path') or '/'}{request.get('PolicyName', '*')}", region="")]
    for noun, kind in _IAM_KINDS.items():
        name = str(request.get(f"{noun}Name") or "")
        if noun in sent.name and name:
            if sent.name == f"Create{noun}":
                return [sent.arn(f"{kind}{request.get('Path') or '/'}{name}", region="")]
            return [find(kind, name) or sent.arn(f"{kind}/{name}", region="")]
    return None


def _lambda(sent: Sent, find: Find) -> list[str] | None:
    """Who invokes a version or an alias is asked about that one:
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-api-permissions-ref.html."""
    name = sent.path.partition("/functions/")[2].partition("/")[0]
    qualifier = sent.request.get("Qualifier")
    if sent.name != "InvokeFunction" or not qualifier or ":" in name:
        return None
    return [sent.arn(f"function:{name}:{qualifier}")]


def _s3(sent: Sent, find: Find) -> list[str] | None:
    """A key may begin or end with "/" or have several in a row."""
    bucket, slash, key = sent.path.removeprefix("/").partition("/")
    return [f"arn:aws:s3:::{bucket}/{key}"] if slash and key else None


def _codebuild(sent: Sent, find: Find) -> list[str] | None:
    """Builds are asked about as their projects, which their ids and ARNs name."""
    member = {"BatchGetBuilds": "ids", "BatchDeleteBuilds": "ids", "StopBuild": "id", "BatchGetProjects": "names"}
    if sent.name not in member:
        return None
    names = [name.rpartition("/")[2].partition(":")[0] for name in _names(sent, member[sent.name])]
    return [sent.arn(f"project/{name}") for name in dict.fromkeys(names)]


_RESOURCES: dict[str, Callable[[Sent, Find], list[str] | None]] = {
    "cloudformation": _cloudformation,
    "cloudwatch": _cloudwatch,
    "codebuild": _codebuild,
    "dynamodb": _dynamodb,
    "events": _events,
    "iam": _iam,
    "kms": _kms,
    "lambda": _lambda,
    "logs": _logs,
    "s3": _s3,
    "scheduler": _scheduler,
    "sns": _sns,
    "sqs": _sqs,
    "ssm": _ssm,
}
