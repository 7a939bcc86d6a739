"""The project's model package groups, one for each stage; a group's tag modelyard:stack says whose it is.

Its tag modelyard:repository says where the platform tells how a commit's pipeline has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from botocore.exceptions import ClientError

from seed_lambda.aws_calls import found, is_gone, is_passing, tags
from seed_lambda.context import Context
from seed_lambda.errors import NameTaken, SeedError
from seed_lambda.hosts import Repository
from seed_lambda.properties import ProjectProperties, group_name
from seed_lambda.settings import NOTHING

STACK_TAG, REPOSITORY_TAG = "modelyard:stack", "modelyard:repository"


@dataclass(frozen=True)
class Group:
    """
    Args:
        stack: whose mark it carries; "" without one.
        repository: as `repository_tag` has it; "" without one.
    """

    name: str
    arn: str
    stack: str
    repository: str


def find_group(context: Context, name: str) -> Group | None:
    """The group of that name, whosever it is."""
    answer = found(context.client("sagemaker").describe_model_package_group, ModelPackageGroupName=name)
    if answer is None:
        return None
    arn = answer["ModelPackageGroupArn"]
    known = tags(context, arn)
    return Group(name, arn, known.get(STACK_TAG, ""), known.get(REPOSITORY_TAG, ""))


def repository_tag(repository: Repository | None) -> dict[str, str]:
    """The tag of the repository, as its host is told of it: CodeCommit's by its ARN, another by its page's address."""
    if repository is None:
        return {}
    return {REPOSITORY_TAG: repository.url if repository.arn == NOTHING else repository.arn}


def taken(context: Context, properties: ProjectProperties) -> list[str]:
    """Of the project's groups those that are there and not this stack's, as one text; nothing when all are free."""
    others = []
    for name in properties.groups:
        group = find_group(context, name)
        if group is not None and group.stack != context.mark:
            others.append(name)
    return [_taken(others)] if others else []


def make(context: Context, properties: ProjectProperties, repository: Repository | None) -> None:
    """Make the groups that are not there, and tag those that do not name the repository.

    Args:
        repository: None when it is gone.

    Raises:
        NameTaken: somebody else has made one meanwhile.
        SeedError: the account's quota is reached.
    """
    sagemaker, where = context.client("sagemaker"), repository_tag(repository)
    for name, stage in properties.groups.items():
        group = find_group(context, name)
        if group is None:
            context.still_current()
            try:
                sagemaker.create_model_package_group(
                    ModelPackageGroupName=name,
                    ModelPackageGroupDescription=properties.description,
                    Tags=tag_list(properties.tags(context.mark, stage) | where),
                )
                context.log("made a model package group", group=name)
                continue
            except ClientError as error:
                _explain(error, name)
            group = find_group(
                context, name
            )  # made at this very moment: by an earlier try of ours, or by somebody else
        if group is None or group.stack != context.mark:
            raise NameTaken(_taken([name]))
        if where and group.repository != where[REPOSITORY_TAG]:  # made by a platform that did not know this tag
            context.still_current()
            sagemaker.add_tags(ResourceArn=group.arn, Tags=tag_list(where))


def tag_anew(context: Context, properties: ProjectProperties) -> None:
    """Set the tags of the groups that are this stack's."""
    for name, stage in properties.groups.items():
        group = find_group(context, name)
        if group is None or group.stack != context.mark:
            continue
        context.still_current()
        context.client("sagemaker").add_tags(ResourceArn=group.arn, Tags=tag_list(properties.tags(context.mark, stage)))


def take_back(context: Context, project: str, stages: tuple[str, ...]) -> None:
    """Delete the groups that an update had added and that are empty; one with versions stays, and the log says so.

    Raises:
        ClientError: AWS refused for another reason.
    """
    for stage in stages:
        group = find_group(context, group_name(project, stage))
        if group is not None and group.stack == context.mark:
            _delete_empty(context, group.name)


def _delete_empty(context: Context, name: str) -> None:
    sagemaker = context.client("sagemaker")
    context.still_current()
    try:
        sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    except ClientError as error:
        if not is_gone(error, lambda: find_group(context, name) is not None):
            # which code says that a version is there AWS does not document: so it is looked
            there = found(sagemaker.list_model_packages, ModelPackageGroupName=name, MaxResults=1)
            if is_passing(error) or there is None or not there["ModelPackageSummaryList"]:
                raise
            context.log("a model package group with versions stays", level="WARNING", group=name, error=str(error))
            return
    context.log("took back a model package group", group=name)


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as SageMaker takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _explain(error: ClientError, name: str) -> None:
    """Raises the error in words, unless it says that the group is there."""
    details = error.response["Error"]
    if details["Code"] in ("ResourceLimitExceeded", "ResourceLimitExceededException"):
        raise SeedError(
            f"the model package group {name} cannot be made: this account's quota of model package groups in this "
            "Region is reached (AWS's default is 250). Delete projects that are not needed, or ask for more under "
            f"Service Quotas, Amazon SageMaker. AWS says: {details['Message']}"
        ) from error
    if "already exist" not in details["Message"].lower():
        raise error


def _taken(names: list[str]) -> str:
    return (
        f"these model package groups are there already and not this project's: {', '.join(names)}. Choose another name "
        "for the project, or have whoever owns them delete them"
    )
