"""The project's model package groups, and the versions in them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline import InputError
from pipeline.aws import is_missing
from pipeline.names import group_name, tags

# Who may deploy without a person is decided when the group is made (deployment/README.md, approval).
AUTOMATIC_APPROVAL = {"Key": "modelyard:approval", "Value": "automatic"}
# A list of versions has no metadata: each is described, so many at a time. Where SageMaker throttles, botocore waits.
AT_ONCE = 8
PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 10}, max_pool_connections=AT_ONCE)


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
    is made gets it, so that nobody can slip it onto one later.

    Raises InputError when such a group is there without; and, before any is made, when one is not this project's, or
    the platform's to look after.
    """
    sagemaker = aws.client("sagemaker")
    there = {stage: _own_group(sagemaker, project, stage) for stage in stages}
    made = {}
    for stage, group in there.items():
        name = group_name(project, stage)
        tag_list = [{"Key": key, "Value": value} for key, value in tags(project, project_id, stage).items()]
        allowed = [AUTOMATIC_APPROVAL] if stage in (automatic or []) else []
        if group is None:
            try:
                sagemaker.create_model_package_group(
                    ModelPackageGroupName=name, ModelPackageGroupDescription=description, Tags=tag_list + allowed
                )
            except ClientError as error:
                if "already exist" not in str(error).lower():
                    raise
                group = _own_group(sagemaker, project, stage)  # made by somebody since
                if group is None:
                    raise
        if group is not None:
            if allowed and AUTOMATIC_APPROVAL not in group.tags:
                raise InputError(
                    f"--automatic-approval {stage}: the group {name} is there already, and only a group that is made "
                    "can be given that: approve by hand, or have an administrator delete the group with its versions"
                )
            sagemaker.add_tags(ResourceArn=group.arn, Tags=tag_list)
        made[name] = group is None
    return made


@dataclass(frozen=True)
class _Group:
    arn: str
    tags: list[dict[str, str]]


def _own_group(sagemaker: Any, project: str, stage: str) -> _Group | None:
    """A stage's group, None when it is not there. Raises InputError when it is not for us to tag.

    The platform finds and deletes what it made by the tags; and a stranger's group would become this project's.
    """
    name = group_name(project, stage)
    try:
        arn = str(sagemaker.describe_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupArn"])
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    tags_there = sagemaker.list_tags(ResourceArn=arn)["Tags"]
    found = {tag["Key"]: tag["Value"] for tag in tags_there}
    if "modelyard:stack" in found:
        raise InputError(
            f"the group {name} is a project's that Modelyard's platform made, which looks after it (its tag "
            "modelyard:stack): run register-project without --groups-only"
        )
    if found.get("modelyard:project") != project:
        raise InputError(
            f"the group {name} is there already, and is not this project's (it has no tag modelyard:project with the "
            f"value {project}): choose another name for the project. If the group is yours, say so:\n"
            f"  aws sagemaker add-tags --resource-arn {arn} --tags Key=modelyard:project,Value={project}"
        )
    return _Group(arn, tags_there)


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
    found = describe_package(aws.client("sagemaker"), arn)
    if found is None:
        raise InputError(f"{group} has no version {version}: python -m pipeline versions lists what is there")
    return found


def describe_package(sagemaker: Any, arn: str) -> dict[str, Any] | None:
    """DescribeModelPackage's answer, None when there is no such version (any more)."""
    try:
        return dict(sagemaker.describe_model_package(ModelPackageName=arn))
    except ClientError as error:
        if not is_missing(error):
            raise
        return None


def packages(aws: boto3.Session, group: str, limit: int | None = None, **filters: Any) -> list[dict[str, Any]]:
    """DescribeModelPackage's answers of the group's versions, the newest first.

    Args:
        limit: so many of the newest at most.
        filters: of ListModelPackages, such as ModelApprovalStatus.

    A version that is deleted meanwhile is left out. Raises InputError when there is no such group.
    """
    group_arn(aws, group)
    sagemaker = aws.client("sagemaker", config=PATIENT)
    arns = list(_arns(sagemaker, group, limit, filters))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(lambda arn: describe_package(sagemaker, arn), arns))
    return [package for package in found if package is not None]


def _arns(sagemaker: Any, group: str, limit: int | None, filters: dict[str, Any]) -> Iterator[str]:
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group,
        SortBy="CreationTime",
        SortOrder="Descending",
        PaginationConfig={"MaxItems": limit, "PageSize": min(limit or 100, 100)},
        **filters,
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            yield summary["ModelPackageArn"]


def set_approval(aws: boto3.Session, package: dict[str, Any], status: str, reason: str | None) -> str:
    """Sets a version's (DescribeModelPackage's answer) ModelApprovalStatus; returns its ARN.

    Raises InputError when it has that status already: setting it once more is no event, and nothing would happen.
    """
    arn = str(package["ModelPackageArn"])
    if package["ModelApprovalStatus"] == status:
        away = "another one was approved after it, or it was parked"
        again = f". Where it does not serve ({away}): reject it, then approve it" if status == "Approved" else ""
        raise InputError(f"{arn} is {status} already: nothing has to be done{again}")
    description = {} if reason is None else {"ApprovalDescription": reason}
    aws.client("sagemaker").update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, **description)
    return arn


def deployment_of(package: dict[str, Any]) -> dict[str, str | None]:
    """What the platform wrote onto a version: number, status, ended (ISO 8601) of its last deployment."""
    metadata = package.get("CustomerMetadataProperties", {})
    return {name: metadata.get(f"deployment.{name}") for name in ("number", "status", "ended")}


def approval_stamp(package: dict[str, Any]) -> str:
    """When the platform heard of a version's approval, as it wrote that onto the version; "" before."""
    return str(package.get("CustomerMetadataProperties", {}).get("approval.at", ""))


def approved_at(package: dict[str, Any]) -> datetime:
    """When a version was approved: by the platform's stamp, else when it was changed last."""
    try:
        return datetime.strptime(approval_stamp(package), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        found: datetime = package.get("LastModifiedTime") or package["CreationTime"]
        return found


def approved_last(versions: list[dict[str, Any]]) -> dict[str, Any]:
    """Of versions that are approved the one that was approved last; at least one is given."""
    return max(versions, key=lambda package: (approved_at(package), package["ModelPackageVersion"]))


def approved_later(aws: boto3.Session, group: str, package: dict[str, Any]) -> list[int]:
    """The numbers of the versions that were approved after this one, and are still; none when it is not approved."""
    if package["ModelApprovalStatus"] != "Approved":
        return []
    approved = packages(aws, group, ModelApprovalStatus="Approved")
    return sorted(one["ModelPackageVersion"] for one in approved if approved_at(one) > approved_at(package))


def versions(aws: boto3.Session, group: str, limit: int) -> list[dict[str, Any]]:
    """The newest versions in the group, the newest first. Raises InputError when there is no such group.

    Each as version, arn, created (ISO 8601, UTC), approval, commit, tree (ends with -dirty when the
    commit is not all), branch, metrics (by name), data_sha256, execution, promoted_from (the version that it
    is a copy of); and what became of it: approved_by, approval_description, deployment (number, status, ended, as the
    platform wrote them), tests (of its endpoint: status, at).
    """
    return [_version(package) for package in packages(aws, group, limit)]


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
        "execution": package.get("MetadataProperties", {}).get("GeneratedBy"),
        "promoted_from": metadata.get("promoted.from"),
        "approved_by": metadata.get("approval.by"),
        "approval_description": package.get("ApprovalDescription"),
        "deployment": deployment_of(package),
        "tests": {name: metadata.get(f"tests.{name}") for name in ("status", "at")},
    }


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
