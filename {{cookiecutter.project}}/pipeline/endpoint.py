"""What a stage serves with, read from what AWS says: its endpoint, or the schedule of its transform jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError, registry
from pipeline.aws import error_code, is_denied, is_missing
from pipeline.names import group_name

NONE, SCHEDULED = "none", "scheduled"
# States in which an endpoint stays unless somebody acts.
SETTLED = ("InService", "OutOfService", "Failed", "UpdateRollbackFailed", NONE, SCHEDULED)
# The platform's group of EventBridge schedules; a batch stage's is named as an endpoint would be.
SCHEDULE_GROUP = "modelyard"
PAUSE_SECONDS = 2
# An approval may find its version serving already: then nothing is deployed, and nothing is written on the version.
# Otherwise the platform writes on it within seconds after the endpoint is there. Nor is anything deployed where another
# version was approved just after it.
STEADY_LOOKS = 30


def endpoint_name(project: str, stage: str) -> str:
    """At most 32 + 1 + 10 of the 63 characters that an endpoint's name may have."""
    return f"{project}-{stage}"


def read(aws: boto3.Session, name: str) -> dict[str, Any]:
    """endpoint; status (AWS's, or scheduled, or none); reason (of a failure); config; package_arn (the version that
    serves); variants (name, instances or concurrency, wanted ones, share of the traffic); next_config (being rolled
    out); schedule (of a batch stage).
    """
    sagemaker = aws.client("sagemaker")
    try:
        found = sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if not is_missing(error):
            raise
        return _read_schedule(aws, name)
    config = found.get("EndpointConfigName")
    pending = (found.get("PendingDeploymentSummary") or {}).get("EndpointConfigName")
    return {
        "endpoint": name,
        "status": found["EndpointStatus"],
        "reason": found.get("FailureReason"),
        "config": config,
        "package_arn": _package_arn(sagemaker, config) if config else None,
        "variants": [_variant(variant) for variant in found.get("ProductionVariants", [])],
        "next_config": None if pending == config else pending,
        "schedule": None,
    }


def _read_schedule(aws: boto3.Session, name: str) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("reason", "config", "package_arn", "next_config", "schedule"))
    nothing = {**nothing, "endpoint": name, "status": NONE, "variants": []}
    try:
        found = aws.client("scheduler").get_schedule(Name=name, GroupName=SCHEDULE_GROUP)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return nothing
    package_arn = json.loads(found["Target"]["Input"])["package_arn"]
    schedule = f"{found['ScheduleExpression']} {found['ScheduleExpressionTimezone']}"
    return {**nothing, "status": SCHEDULED, "package_arn": package_arn, "schedule": schedule}


def how_it_comes_back(aws: boto3.Session, project: str, stage: str) -> str | None:
    """For people, of a stage where nothing serves though a version is approved; None where none is, or nobody may look.

    Approving is refused for what is approved already: whoever's endpoint was parked has to know the way around.
    """
    try:
        approved = registry.packages(aws, group_name(project, stage), ModelApprovalStatus="Approved")
    except InputError:
        return None  # there is no such group, and so no version
    except ClientError as error:
        if not is_denied(error):
            raise
        return None  # what serves was told; this is further advice
    if not approved:
        return None
    version = registry.approved_last(approved)["ModelPackageVersion"]
    again = " and ".join(f"python -m pipeline {what} {version} --stage {stage}" for what in ("reject", "approve"))
    return (
        f"version {version} is approved: its deployment is on its way, or the endpoint may have been parked. To have a "
        f"parked one back, reject and approve it again: {again}"
    )


def watch_approved(
    aws: boto3.Session,
    package: dict[str, Any],
    name: str,
    on_change: Callable[[dict[str, Any]], None],
    wait: Callable[[float], bool],
) -> dict[str, str | None] | None:
    """Reports every change of the endpoint until the deployment that an approval caused has ended.

    package: the version as it was before the approval. Returns the deployment's number, status and ended, and
    description (what happened, when it failed or was superseded); None when `wait` says to stop. Number and ended are
    None where the approval was overtaken before a deployment began, or the version was rejected meanwhile.
    """
    ended_before = _end(registry.deployment_of(package))
    before: dict[str, Any] = {}
    steady = 0
    while True:
        now = aws.client("sagemaker").describe_model_package(ModelPackageName=package["ModelPackageArn"])
        deployment = registry.deployment_of(now)
        found = _report(aws, name, before, on_change)
        before, steady = found, steady + 1 if found == before else 0
        is_steady = steady >= STEADY_LOOKS and found["status"] in SETTLED
        serves = is_steady and _serves(found, package["ModelPackageArn"])
        if deployment["ended"] and (_end(deployment) != ended_before or serves):
            if deployment["status"] != "superseded":
                return {**deployment, "description": now.get("ApprovalDescription")}
            why = _overtaken(aws, package, now) or "another decision came before it had ended"
            return {**deployment, "description": why}
        if is_steady and not serves:
            if overtaken := _overtaken(aws, package, now):
                return {"number": None, "status": "superseded", "ended": None, "description": overtaken}
            steady = 0  # asked once a minute: every version that is approved is read
        if wait(PAUSE_SECONDS):
            return None


def watch_rejected(
    aws: boto3.Session,
    package_arn: str,
    name: str,
    on_change: Callable[[dict[str, Any]], None],
    wait: Callable[[float], bool],
) -> bool:
    """Reports every change of the endpoint until it serves another version, or is gone; False when `wait` stops it."""
    before: dict[str, Any] = {}
    while True:
        before = _report(aws, name, before, on_change)
        if before["status"] in SETTLED and before["package_arn"] != package_arn:
            return True
        if wait(PAUSE_SECONDS):
            return False


def _overtaken(aws: boto3.Session, before: dict[str, Any], package: dict[str, Any]) -> str | None:
    """Which decision came after a version's approval; None where the registry knows of none.

    before: the version as it was then. The stamp of an earlier approval says nothing about this one.
    """
    status = package["ModelApprovalStatus"]
    if status != "Approved":
        why = package.get("ApprovalDescription")
        return f"the version is {status} by now{f': {why}' if why else ''}"
    if (stamp := registry.approval_stamp(package)) and stamp == registry.approval_stamp(before):
        return None  # the platform has not heard of it yet
    later = registry.approved_later(aws, package["ModelPackageGroupName"], package)
    return f"approved after it: version {', '.join(map(str, later))}" if later else None


def _end(deployment: dict[str, str | None]) -> tuple[str | None, str | None]:
    return deployment["number"], deployment["ended"]


def _serves(found: dict[str, Any], package_arn: str) -> bool:
    steady = found["status"] in ("InService", SCHEDULED) and found["next_config"] is None
    return steady and bool(found["package_arn"] == package_arn)


def _report(
    aws: boto3.Session, name: str, before: dict[str, Any], on_change: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    found = read(aws, name)
    if found != before:
        on_change(found)
    return found


def _variant(variant: dict[str, Any]) -> dict[str, Any]:
    serverless = variant.get("CurrentServerlessConfig")
    return {
        "name": variant["VariantName"],
        "instances": variant.get("CurrentInstanceCount"),
        "wanted_instances": variant.get("DesiredInstanceCount"),
        "max_concurrency": serverless["MaxConcurrency"] if serverless else None,
        "weight": variant.get("CurrentWeight"),
    }


def _package_arn(sagemaker: Any, config: str) -> str | None:
    """The version behind an endpoint config; None when it serves a model that is none, or they were deleted."""
    try:
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
        model = sagemaker.describe_model(ModelName=variants[0]["ModelName"])
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    containers = [model.get("PrimaryContainer", {}), *model.get("Containers", [])]
    return next((one["ModelPackageName"] for one in containers if "ModelPackageName" in one), None)
