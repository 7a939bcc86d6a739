"""The project's model package groups with all their versions, which may be thousands."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from seed_lambda.aws_calls import FOR_A_ROUND, Pauses, found, is_gone, is_throttled
from seed_lambda.context import Context
from seed_lambda.errors import OutOfTime
from seed_lambda.groups import Group, find_group

# How many versions are deleted between two questions whether the request is still the stack's current one: asked before
# each of thousands, CloudFormation would refuse to answer.
BATCH = 25
THREADS = 4
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds, when SageMaker refuses calls for their rate, or a version is still there


def delete_group(context: Context, group: Group) -> None:
    """Delete the group's versions, a page at a time, and the group.

    Raises:
        OutOfTime: versions are left; those that are deleted are.
        ClientError: AWS refused.
    """
    sagemaker, pauses, deleted, asked = context.client("sagemaker"), Pauses(context, PAUSES), 0, False
    while True:
        versions = _first_page(sagemaker, group.name)
        done, asked = 0, asked and not versions
        for start in range(0, len(versions), BATCH):
            _check_time(context, group, deleted)
            done += _delete_versions(context, group.name, versions[start : start + BATCH])
        deleted += done
        asked = asked or (not versions and _delete(context, group))
        # its status can be Deleting for a while (DescribeModelPackageGroup, ModelPackageGroupStatus)
        if asked and find_group(context, group.name) is None:
            context.log("deleted a model package group", group=group.name, versions=deleted)
            return
        if done:
            pauses.begin_anew()
            continue
        # refused for their rate, gone but still listed, or registered at this moment; or the group is being deleted
        if not pauses.fits():
            raise _being_deleted(group) if asked else _out_of_time(group, deleted)
        pauses.wait()


def _first_page(sagemaker: Any, name: str) -> list[str]:
    """ARNs of up to a hundred versions; none when the group is gone. What was deleted moves the others up."""
    answer = found(sagemaker.list_model_packages, ModelPackageGroupName=name, MaxResults=100)
    return [] if answer is None else [one["ModelPackageArn"] for one in answer["ModelPackageSummaryList"]]


def _delete_versions(context: Context, group: str, arns: Sequence[str]) -> int:
    """Delete these versions, a few at once; how many were deleted. The others were refused for their rate, or gone."""
    context.still_current()
    sagemaker = context.client("sagemaker")

    def delete(arn: str) -> bool:
        try:
            sagemaker.delete_model_package(ModelPackageName=arn)
        except ClientError as error:
            if not is_throttled(error) and not is_gone(error, lambda: arn in _first_page(sagemaker, group)):
                raise
            return False
        return True

    with ThreadPoolExecutor(min(THREADS, len(arns))) as threads:
        return sum(threads.map(delete, arns))


def _delete(context: Context, group: Group) -> bool:
    """Delete the empty group; False when a version was registered meanwhile."""
    context.still_current()
    try:
        context.client("sagemaker").delete_model_package_group(ModelPackageGroupName=group.name)
    except ClientError as error:
        if is_gone(error, lambda: find_group(context, group.name) is not None):
            return True
        # which code says that a version is there AWS does not document: so it is looked
        if is_throttled(error) or _first_page(context.client("sagemaker"), group.name):
            return False
        raise
    return True


def _check_time(context: Context, group: Group, deleted: int) -> None:
    if context.remaining() < FOR_A_ROUND:
        raise _out_of_time(group, deleted)


def _being_deleted(group: Group) -> OutOfTime:
    return OutOfTime(
        f"SageMaker was asked to delete the model package group {group.name}, which is still there "
        "(aws sagemaker describe-model-package-group says its status): delete again to continue"
    )


def _out_of_time(group: Group, deleted: int) -> OutOfTime:
    return OutOfTime(
        f"the model package group {group.name} has more versions than could be deleted in the function's time "
        f"({deleted} were): delete again to continue"
    )
