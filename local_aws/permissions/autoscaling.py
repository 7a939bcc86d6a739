"""What each of Application Auto Scaling's operations asks IAM.

Besides its own actions those that it does with its caller's rights:
https://docs.aws.amazon.com/autoscaling/application/userguide/security_iam_id-based-policy-examples.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_aws.permissions.questions import (
    Ask,
    Context,
    Known,
    Question,
    Request,
    nothing_in_particular,
    resource_tags,
    tags_in_request,
)

SERVICE = "sagemaker.application-autoscaling.amazonaws.com"
LINKED_ROLE = f"role/aws-service-role/{SERVICE}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def target_of(request: Mapping[str, Any], known: Known) -> tuple[str, Context]:
    """ARN and condition keys of the scalable target that a request is about; any one's ARN when there is none yet."""
    context: Context = {
        "application-autoscaling:service-namespace": request["ServiceNamespace"],
        "application-autoscaling:scalable-dimension": request["ScalableDimension"],
    }
    for target in known.scalable_targets(request["ResourceId"], request["ScalableDimension"]):
        if target["answer"]["ResourceId"] == request["ResourceId"]:
            return target["answer"]["ScalableTargetARN"], context | resource_tags(target["tags"])
    return known.arn("application-autoscaling", "scalable-target/*"), context


def register(action: str, request: Request, known: Known) -> list[Question]:
    arn, context = target_of(request, known)
    tags = tags_in_request(request.get("Tags"))
    questions = [Question(action, arn, context | tags)]
    if tags:
        context = {key: value for key, value in context.items() if key.startswith("aws:ResourceTag/")}
        questions.append(Question("application-autoscaling:TagResource", arn, context | tags, action))
    if not known.linked_role():
        role = f"arn:aws:iam::{known.scope.account}:{LINKED_ROLE}"
        questions.append(Question("iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": SERVICE}, action))
    return questions


def deregister(action: str, request: Mapping[str, Any], known: Known, because: str = "") -> list[Question]:
    """DeregisterScalableTarget, called itself or by DeleteEndpoint (`because`)."""
    arn, context = target_of(request, known)
    names = [alarm for policy in known.scaling_policies(request) for alarm in _alarms(policy)]
    return [Question(action, arn, context, because), *_delete_alarms(names, known, because or action)]


def put_policy(action: str, request: Request, known: Known) -> list[Question]:
    """The alarms' names end in ids that are made when the alarms are."""
    arn, context = target_of(request, known)
    names = [f"TargetTracking-{request['ResourceId']}-{which}-*" for which in ("AlarmHigh", "AlarmLow")]
    alarms = [known.arn("cloudwatch", f"alarm:{name}") for name in names]
    return [
        Question(action, arn, context),
        *[Question("cloudwatch:PutMetricAlarm", alarm, {}, action) for alarm in alarms],
        *_delete_alarms(_alarms_of_policy(request, known), known, action),
    ]


def delete_policy(action: str, request: Request, known: Known) -> list[Question]:
    arn, context = target_of(request, known)
    return [Question(action, arn, context), *_delete_alarms(_alarms_of_policy(request, known), known, action)]


def list_tags(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["ResourceARN"]
    found = [target for target in known.scalable_targets("") if target["answer"]["ScalableTargetARN"] == arn]
    return [Question(action, arn, resource_tags(found[0]["tags"]) if found else {})]


def _alarms_of_policy(request: Request, known: Known) -> list[str]:
    policies = known.scaling_policies(request)
    return [
        alarm
        for policy in policies
        if policy["answer"]["PolicyName"] == request["PolicyName"]
        for alarm in _alarms(policy)
    ]


def _alarms(policy: Mapping[str, Any]) -> list[str]:
    return [alarm["AlarmName"] for alarm in policy["answer"]["Alarms"]]


def _delete_alarms(names: list[str], known: Known, because: str) -> list[Question]:
    return [
        Question("cloudwatch:DeleteAlarms", known.arn("cloudwatch", f"alarm:{name}"), {}, because) for name in names
    ]


TABLE: dict[str, Ask] = {
    "RegisterScalableTarget": register,
    "DeregisterScalableTarget": lambda action, request, known: deregister(action, request, known),
    "DescribeScalableTargets": nothing_in_particular,
    "PutScalingPolicy": put_policy,
    "DeleteScalingPolicy": delete_policy,
    "DescribeScalingPolicies": nothing_in_particular,
    "DescribeScalingActivities": nothing_in_particular,
    "ListTagsForResource": list_tags,
}
