"""The project's model package groups, and the versions in them."""

from __future__ import annotations

from datetime import timezone
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline.aws import error_code
from pipeline.errors import InputError
from pipeline.names import group_name, tags


def register_project(
    aws: boto3.Session, project: str, project_id: str, description: str, stages: list[str]
) -> dict[str, bool]:
    """Makes the model package group of every stage, with its tags; returns by name whether it had to be made.

    Can run again at any time, and twice at once: a group that is there keeps its versions and gets the tags.
    """
    sagemaker = aws.client("sagemaker")
    made = {}
    for stage in stages:
        name = group_name(project, stage)
        tag_list = [{"Key": key, "Value": value} for key, value in tags(project, project_id, stage).items()]
        try:
            sagemaker.create_model_package_group(
                ModelPackageGroupName=name, ModelPackageGroupDescription=description, Tags=tag_list
            )
            made[name] = True
        except ClientError as error:
            if "already exist" not in str(error).lower():
                raise
            group = sagemaker.describe_model_package_group(ModelPackageGroupName=name)
            sagemaker.add_tags(ResourceArn=group["ModelPackageGroupArn"], Tags=tag_list)
            made[name] = False
    return made


def check_group(aws: boto3.Session, name: str) -> None:
    """Raises InputError when the group is not there: an execution would train and then have nowhere to register."""
    try:
        aws.client("sagemaker").describe_model_package_group(ModelPackageGroupName=name)
    except ClientError as error:
        if (
            error_code(error) not in ("ValidationException", "ResourceNotFound")
            or "not exist" not in str(error).lower()
        ):
            raise
        raise InputError(
            f"there is no model package group {name}: make the project's groups with "
            "python -m pipeline register-project"
        ) from None


def versions(aws: boto3.Session, group: str, limit: int) -> list[dict[str, Any]]:
    """The newest versions in the group, the newest first. Raises InputError when there is no such group.

    Each as version, arn, created (ISO 8601, UTC), approval, commit, tree (ends with -dirty when the
    commit is not all), branch, metrics (by name), data_sha256, execution.
    """
    check_group(aws, group)
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
    check_group(aws, group)
    sagemaker = aws.client("sagemaker")
    for page in sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group):
        for summary in page["ModelPackageSummaryList"]:
            if summary["ModelPackageVersion"] == version:
                package = sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
                uri = package.get("CustomerMetadataProperties", {}).get("report")
                if uri is None:
                    raise InputError(f"version {version} of {group} was registered without a report")
                return str(uri)
    raise InputError(f"{group} has no version {version}: python -m pipeline versions lists what is there")


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
    }


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
