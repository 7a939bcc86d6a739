"""The schedule by which dev's pipeline trains again, as settings.yaml asks (`retrain`): Amazon EventBridge Scheduler.

It starts the pipeline itself, with no function between (a universal target):
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
"""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError
from pipeline.aws import error_code
from pipeline.names import pipeline_name
from pipeline.parameters import FINGERPRINT
from pipeline.settings import Retrain, Settings

# The platform's: a group of schedules, and the queue for what they could not start, which has an alarm.
GROUP, FAILED = "modelyard", "modelyard-retraining-failed"
BY_THE_SCHEDULE = "retrain"
# Scheduler writes the time of the invocation here:
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
TIME = "<aws.scheduler.scheduled-time>"


def schedule_name(project: str) -> str:
    """At most 32 + 8 of the 64 characters that a schedule's name may have."""
    return f"{project}-retrain"


def wanted(project: str, retrain: Retrain, pipeline_arn: str) -> dict[str, Any]:
    """CreateSchedule's and UpdateSchedule's request.

    Args:
        pipeline_arn: of dev's pipeline, or of one of its executions; partition, Region and account are the schedule's.
    """
    _, partition, _, region, account, _ = pipeline_arn.split(":", 5)
    request = {
        "PipelineName": pipeline_name(project, "dev", "dev"),
        "PipelineExecutionDisplayName": BY_THE_SCHEDULE,
        # another value than ever before: Preprocess reads the data again, instead of taking its result from the cache
        "PipelineParameters": [{"Name": FINGERPRINT, "Value": TIME}],
        # Scheduler may invoke twice. SageMaker takes tokens of 32 to 128 characters, and the time has 20.
        "ClientRequestToken": f"{project}-{BY_THE_SCHEDULE}-scheduled-{TIME}",
    }
    return {
        "Name": schedule_name(project),
        "GroupName": GROUP,
        "Description": f"Trains {project} again on dev, as its settings.yaml asks",
        "ScheduleExpression": retrain.schedule,
        "ScheduleExpressionTimezone": retrain.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": {
            "Arn": f"arn:{partition}:scheduler:::aws-sdk:sagemaker:startPipelineExecution",
            "RoleArn": f"arn:{partition}:iam::{account}:role/modelyard/ci/{project}-ci-retrain",
            "Input": json.dumps(request),
            "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 10},
            # What could not be started is told by the alarm of this queue, else nobody would hear of it:
            # https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
            "DeadLetterConfig": {"Arn": f"arn:{partition}:sqs:{region}:{account}:{FAILED}"},
        },
    }


def bring_about(connection: boto3.Session, settings: Settings, pipeline_arn: str) -> str | None:
    """Makes, changes or removes the schedule; returns what was done, None when it was so already. Twice is as once.

    pipeline_arn: as for `wanted`.

    Raises:
        InputError: the platform's schedule group is not there.
    """
    scheduler, name = connection.client("scheduler"), schedule_name(settings.project)
    there = _find(scheduler, name)
    if settings.retrain is None:
        if there is None or not _delete(scheduler, name):
            return None
        return f"the schedule {name} is removed: settings.yaml asks for no retraining"
    request = wanted(settings.project, settings.retrain, pipeline_arn)
    said = f"dev trains again by {settings.retrain.schedule} ({settings.retrain.timezone})"
    if there is None:
        return f"{said}: the schedule {name} is made" if _create(scheduler, request) else None
    if all(there.get(key) == value for key, value in request.items()):
        return None
    scheduler.update_schedule(**request)
    return f"{said}: the schedule {name} is changed"


def _find(scheduler: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(scheduler.get_schedule(Name=name, GroupName=GROUP))
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return None


def _create(scheduler: Any, request: dict[str, Any]) -> bool:
    """False when another job has just made it."""
    try:
        scheduler.create_schedule(**request)
    except ClientError as error:
        if error_code(error) == "ConflictException":
            scheduler.update_schedule(**request)
            return False
        if error_code(error) != "ResourceNotFoundException":
            raise
        raise InputError(
            f"settings.yaml: retrain: there is no schedule group {GROUP}: retraining needs Modelyard's platform, which "
            "an administrator installs (docs/install.md); until then set retrain to null"
        ) from None
    return True


def _delete(scheduler: Any, name: str) -> bool:
    """False when another job has just removed it."""
    try:
        scheduler.delete_schedule(Name=name, GroupName=GROUP)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return False
    return True
