"""The schedule of a batch stage: it calls the function that starts a transform job. Pure."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from lifecycle_lambdas import names
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared

# EventBridge Scheduler puts the time at which the schedule was due in its place.
SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
# What is compared of a schedule; the rest of GetSchedule's answer is dates.
MEMBERS = ("ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "State")


def put_right(declared: Declared, schedule: dict[str, Any] | None) -> AwsCall | None:
    """The call that makes the schedule as declared; None when it is."""
    request: dict[str, Any] = {
        "Name": declared.endpoint,
        "GroupName": declared.schedule_group,
        "Description": f"Starts the transform jobs of deployment {declared.number}."[:512],
        "ScheduleExpression": declared.stage_file.schedule,
        "ScheduleExpressionTimezone": declared.stage_file.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": {
            "Arn": declared.function_arn,
            "RoleArn": declared.schedule_role_arn,
            "Input": json.dumps(batch_input(declared), sort_keys=True),
            # a run that is a day late is the next run's business
            "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 5},
        },
    }
    if schedule is None:
        # the same request twice is one
        return AwsCall("scheduler", "create_schedule", {**request, "ClientToken": declared.name})
    if _compared(schedule) == _compared(request):
        return None
    return AwsCall("scheduler", "update_schedule", request)


def remove(schedule: dict[str, Any]) -> AwsCall:
    return AwsCall("scheduler", "delete_schedule", {"Name": schedule["Name"], "GroupName": schedule["GroupName"]})


def batch_input(declared: Declared) -> dict[str, Any]:
    """What the function is called with: all of CreateTransformJob's request but the job's name, and whose it is."""
    stage_file = declared.stage_file
    source: dict[str, Any] = {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": stage_file.input}},
        "ContentType": stage_file.content_type,
        "SplitType": stage_file.split_type,
    }
    output: dict[str, Any] = {
        "S3OutputPath": stage_file.output,
        "Accept": stage_file.answer_type,
        "AssembleWith": stage_file.assemble_with,
    }
    resources: dict[str, Any] = {
        "InstanceType": stage_file.instance_type,
        "InstanceCount": stage_file.instance_count,
    }
    if stage_file.kms_key is not None:
        output["KmsKeyId"] = stage_file.kms_key
        resources["VolumeKmsKeyId"] = stage_file.kms_key
    transform: dict[str, Any] = {
        "ModelName": declared.name,
        "BatchStrategy": "MultiRecord" if stage_file.split == "line" else "SingleRecord",
        "MaxPayloadInMB": stage_file.max_payload_mb,
        "TransformInput": source,
        "TransformOutput": output,
        "TransformResources": resources,
        "Tags": names.tag_list(declared.deployment_tags),
    }
    if stage_file.join_input:
        transform["DataProcessing"] = {"JoinSource": "Input"}
    return {
        "endpoint": declared.endpoint,
        "number": declared.number,
        "package_arn": declared.package_arn,
        "scheduled_time": SCHEDULED_TIME,
        "transform": transform,
    }


def _compared(schedule: dict[str, Any]) -> dict[str, Any]:
    target = {member: schedule["Target"].get(member) for member in ("Arn", "RoleArn", "RetryPolicy", "Input")}
    with contextlib.suppress(ValueError, TypeError):  # somebody else's input may be anything
        target["Input"] = json.loads(target["Input"])
    return {**{member: schedule.get(member) for member in MEMBERS}, "Target": target}
