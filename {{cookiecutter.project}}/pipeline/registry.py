"""The project's model package groups, and the versions in them."""

from __future__ import annotations

from datetime import timezone
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline.aws import is_missing
from pipeline.errors import InputError
from pipeline.names import group_name, tags

# Who may deploy without a person is decided when the group is made (deployment/README.md, approval).
AUTOMATIC_APPROVAL = {"Key": "modelyard:approval", "Value": "automatic"}


def register_project(
    aws: boto3.Session,
    project: str,
    project_id: str,
    description: str,
    stages: list[str],
    automatic: list[str] | None = None,
) -> dict[str, bool]:
    """Makes the model package group of every stage, with its tags; returns by name whether it had to be made.

    Can run again at any time, and twice at once: a group that is there keeps its versions and gets the tags, but for
    the one that lets versions of the stages in `automatic` be deployed without a person's approval: only a group that
    is made gets it, so that nobody can slip it onto one later. Raises InputError when such a group is there without.
    """
    sagemaker = aws.client("sagemaker")
    made = {}
    for stage in stages:
        name = group_name(project, stage)
        tag_list = [{"Key": key, "Value": value} for key, value in tags(project, project_id, stage).items()]
        allowed = [AUTOMATIC_APPROVAL] if stage in (automatic or []) else []
        try:
            sagemaker.create_model_package_group(
                ModelPackageGroupName=name, ModelPackageGroupDescription=description, Tags=tag_list + allowed
            )
            made[name] = True
        except ClientError as error:
            if "already exist" not in str(error).lower():
                raise
            arn = sagemaker.describe_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupArn"]
            if allowed and AUTOMATIC_APPROVAL not in sagemaker.list_tags(ResourceArn=arn)["Tags"]:
                raise InputError(
                    f"--automatic-approval {stage}: the group {name} is there already, and only a group that is made "
                    "can be given that: approve by hand, or have an administrator delete the group with its versions"
                ) from None
            sagemaker.add_tags(ResourceArn=arn, Tags=tag_list)
            made[name] = False
    return made


def group_arn(aws: boto3.Session, name: str) -> str:
    """Raises InputError when the group is not there: an execution would train and then have nowhere to register."""
    try:
        found = aws.client("sagemaker").describe_model_package_group(ModelPackageGroupName=name)
    except ClientError as error:
        if not is_missing(error):
            raise
        raise InputError(
            f"there is no model package group {name}: make the project's groups with "
            "python -m pipeline register-project"
        ) from None
    return str(found["ModelPackageGroupArn"])


def project_id(aws: boto3.Session, arn: str) -> str | None:
    """The SageMaker project's id that a group's tags say, None where they say none. arn: of the group."""
    tags_there = aws.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    return next((tag["Value"] for tag in tags_there if tag["Key"] == "sagemaker:project-id"), None)


def describe_version(aws: boto3.Session, group: str, version: int) -> dict[str, Any]:
    """DescribeModelPackage's answer. Raises InputError when there is no such group or version."""
    arn = group_arn(aws, group).replace(":model-package-group/", ":model-package/") + f"/{version}"
    try:
        return dict(aws.client("sagemaker").describe_model_package(ModelPackageName=arn))
    except ClientError as error:
        if not is_missing(error):
            raise
        raise InputError(f"{group} has no version {version}: python -m pipeline versions lists what is there") from None


def set_approval(aws: boto3.Session, package: dict[str, Any], status: str, reason: str | None) -> str:
    """Sets a version's (DescribeModelPackage's answer) ModelApprovalStatus; returns its ARN.

    Raises InputError when it has that status already: setting it once more is no event, and nothing would happen.
    """
    arn = str(package["ModelPackageArn"])
    if package["ModelApprovalStatus"] == status:
        again = "; to bring it back, reject what was approved after it" if status == "Approved" else ""
        raise InputError(f"{arn} is {status} already: nothing has to be done{again}")
    description = {} if reason is None else {"ApprovalDescription": reason}
    aws.client("sagemaker").update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, **description)
    return arn


def deployment_of(package: dict[str, Any]) -> dict[str, str | None]:
    """What the platform wrote onto a version: number, status, ended (ISO 8601) of its last deployment."""
    metadata = package.get("CustomerMetadataProperties", {})
    return {name: metadata.get(f"deployment.{name}") for name in ("number", "status", "ended")}


def versions(aws: boto3.Session, group: str, limit: int) -> list[dict[str, Any]]:
    """The newest versions in the group, the newest first. Raises InputError when there is no such group.

    Each as version, arn, created (ISO 8601, UTC), approval, commit, tree (ends with -dirty when the
    commit is not all), branch, metrics (by name), data_sha256, execution; and what became of it: approved_by,
    approval_description, deployment (number, status, ended, as the platform wrote them).
    """
    group_arn(aws, group)
    sagemaker = aws.client("sagemaker")
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group,
        SortBy="CreationTime",
        SortOrder="Descending",
        PaginationConfig={"MaxItems": limit, "PageSize": min(limit, 100)},
    )
    return [
        _version(sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"]))
        for page in pages
        for summary in page["ModelPackageSummaryList"]
    ]


def report_uri(aws: boto3.Session, group: str, version: int) -> str:
    """Where the version's evaluation report lies. Raises InputError when there is no such version, or no report."""
    uri = describe_version(aws, group, version).get("CustomerMetadataProperties", {}).get("report")
    if uri is None:
        raise InputError(f"version {version} of {group} was registered without a report")
    return str(uri)


def _version(package: dict[str, Any]) -> dict[str, Any]:
    metadata = package.get("CustomerMetadataProperties", {})
    metrics = {key.removeprefix("metric."): value for key, value in metadata.items() if key.startswith("metric.")}
    main = metrics.pop("main", None)
    return {
        "version": package["ModelPackageVersion"],
        "arn": package["ModelPackageArn"],
        "created": package["CreationTime"].astimezone(timezone.utc).isoformat(timespec="seconds"),
        "approval": package["ModelApprovalStatus"],
        "commit": metadata.get("git.commit"),
        "tree": metadata.get("git.tree"),
        "branch": metadata.get("git.branch"),
        "main_metric": main,
        "metrics": {name: _number(value) for name, value in metrics.items()},
        "data_sha256": metadata.get("data.sha256"),
        "execution": metadata.get("pipeline.execution"),
        "approved_by": metadata.get("approval.by"),
        "approval_description": package.get("ApprovalDescription"),
        "deployment": deployment_of(package),
    }


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
