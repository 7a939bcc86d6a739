"""What AWS still knows of endpoints whose ledger was lost: groups, versions and their stamps, models, what serves.

Reads, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import names, observe
from lifecycle_lambdas.approvals import DEPLOYMENT_STAMPS, Package
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.declared import AdministratorsFault, StageFileError, read_stage_file, stage_file_place
from lifecycle_lambdas.events import STAGES
from lifecycle_lambdas.tags import tags_of

NUMBER, *_ = DEPLOYMENT_STAMPS
PAGES = {"PageSize": 100}  # the most that SageMaker's lists give at once


@dataclass(frozen=True)
class Model:
    """A deployment's model: of which version, and since when."""

    package_arn: str
    created: datetime


@dataclass(frozen=True)
class Remains:
    """What AWS has of one endpoint.

    Args:
        packages: DescribeModelPackage's answers, in the order of their versions.
        models: those of the endpoint's deployments by number, with the endpoint's tags and a version of its group.
        numbers: every number that a model or an endpoint config of this name has, whosever it is.
        serving: the number of the deployment whose endpoint config the endpoint answers with, or that a batch stage's
            schedule starts; None: nothing serves.
        pending: the number of the deployment that the endpoint is on its way to, or failed to be created with.
        instance_count: how many instances serve; None where that is not known, or there are none.
        modified: when the endpoint changed last; None without one.
        stage_files: by version, in the JSON form of stage_schema.StageFile; of versions that were deployed.
        faults: what could not be read, in words.
    """

    project: str
    stage: str
    packages: tuple[Package, ...]
    models: dict[int, Model]
    numbers: frozenset[int]
    serving: int | None
    pending: int | None
    instance_count: int | None
    modified: datetime | None
    stage_files: dict[str, dict[str, Any]]
    faults: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        """Its model package group, too."""
        return f"{self.project}-{self.stage}"


@dataclass(frozen=True)
class Names:
    """By endpoint, the models and endpoint configs that have a deployment's name of it.

    Args:
        stage_files: those that were read, by stage and SHA-256: most versions of a project have the same.
    """

    models: dict[str, dict[int, dict[str, Any]]]
    configs: dict[str, frozenset[int]]
    stage_files: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


def groups(context: Context, project: str | None) -> Iterator[tuple[str, str]]:
    """Name and ARN of the model package groups that can be an endpoint's by their name."""
    for page in context.client("sagemaker").get_paginator("list_model_package_groups").paginate(PaginationConfig=PAGES):
        for group in page["ModelPackageGroupSummaryList"]:
            name = group["ModelPackageGroupName"]
            of, _, stage = name.rpartition("-")
            if of and stage in STAGES and project in (None, of):
                yield name, group["ModelPackageGroupArn"]


def deployment_names(context: Context) -> Names:
    """Of the whole account: two lists, however many endpoints there are."""
    sagemaker = context.client("sagemaker")
    models: dict[str, dict[int, dict[str, Any]]] = {}
    for page in sagemaker.get_paginator("list_models").paginate(PaginationConfig=PAGES):
        for model in page["Models"]:
            endpoint = model["ModelName"].rpartition("-")[0]
            if (number := names.number_of(endpoint, model["ModelName"])) is not None:
                models.setdefault(endpoint, {})[number] = model
    configs: dict[str, set[int]] = {}
    for page in sagemaker.get_paginator("list_endpoint_configs").paginate(PaginationConfig=PAGES):
        for config in page["EndpointConfigs"]:
            endpoint = config["EndpointConfigName"].rpartition("-")[0]
            if (number := names.number_of(endpoint, config["EndpointConfigName"])) is not None:
                configs.setdefault(endpoint, set()).add(number)
    return Names(models, {endpoint: frozenset(numbers) for endpoint, numbers in configs.items()})


def remains(context: Context, group: str, arn: str, known: Names) -> Remains | None:
    """What is left of the group's endpoint; None for a group that is not Modelyard's, or whose name does not fit its
    tags (recording.endpoint_of_group)."""
    tags = tags_of(context.client("sagemaker"), arn)
    project, stage = tags.get("modelyard:project", ""), tags.get("modelyard:stage", "")
    if group != f"{project}-{stage}" or stage not in STAGES:
        return None
    packages, faults = tuple(_packages(context, group)), []
    there = {package["ModelPackageArn"]: package for package in packages}
    ours = names.project_tags(project, "", stage)
    models = _models(context, known.models.get(group, {}), ours, there)
    endpoint = _endpoint(context, group)
    if endpoint is not None and not _is_ours(context, endpoint["EndpointArn"], ours):
        faults.append(f"the endpoint {group} has not its group's tags: it is somebody else's, and does not count")
        endpoint = None
    serving, pending = (_scheduled(context, group), None) if endpoint is None else _numbers(group, endpoint)
    stage_files: dict[str, dict[str, Any]] = {}
    for package in packages:
        if NUMBER in _metadata(package) or package["ModelPackageArn"] in {
            model.package_arn for model in models.values()
        }:
            try:
                stage_files[package["ModelPackageArn"]] = _stage_file(context, package, stage, known)
            except (StageFileError, AdministratorsFault) as error:
                faults.append(f"version {package['ModelPackageVersion']}: its stage file cannot be used: {error}")
    return Remains(
        project=project,
        stage=stage,
        packages=packages,
        models=models,
        numbers=frozenset(known.models.get(group, {})) | known.configs.get(group, frozenset()),
        serving=serving,
        pending=pending,
        instance_count=None if endpoint is None else _instance_count(endpoint),
        modified=None if endpoint is None else endpoint["LastModifiedTime"],
        stage_files=stage_files,
        faults=tuple(faults),
    )


def _packages(context: Context, group: str) -> Iterator[Package]:
    """Each is described: the list has no metadata. One that is deleted meanwhile is left out."""
    sagemaker = context.client("sagemaker")
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group,
        SortBy="CreationTime",
        SortOrder="Ascending",
        PaginationConfig=PAGES,
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            arn = summary["ModelPackageArn"]
            if (package := _found(partial(sagemaker.describe_model_package, ModelPackageName=arn))) is not None:
                yield package


def _models(
    context: Context, listed: dict[int, dict[str, Any]], ours: dict[str, str], there: dict[str, Package]
) -> dict[int, Model]:
    """Those that Modelyard made, of a version that is still there: known by the version's stamp, or by their tags."""
    sagemaker, found = context.client("sagemaker"), {}
    stamped = {_metadata(package).get(NUMBER): arn for arn, package in there.items()}
    for number, summary in sorted(listed.items()):
        if (arn := stamped.get(str(number))) is not None:
            found[number] = Model(arn, summary["CreationTime"])
            continue
        model = _found(partial(sagemaker.describe_model, ModelName=summary["ModelName"]))
        arn = None if model is None else observe.model_package(model)
        if arn in there and _is_ours(context, summary["ModelArn"], ours):
            found[number] = Model(str(arn), summary["CreationTime"])
    return found


def _endpoint(context: Context, name: str) -> dict[str, Any] | None:
    return _found(partial(context.client("sagemaker").describe_endpoint, EndpointName=name))


def _numbers(name: str, endpoint: dict[str, Any]) -> tuple[int | None, int | None]:
    """Of the deployment that serves, and of the one that the endpoint is on its way to."""
    config = names.number_of(name, endpoint["EndpointConfigName"])
    if endpoint["EndpointStatus"] in ("Creating", "Failed"):
        return None, config
    pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    return config, None if pending is None else names.number_of(name, pending)


def _scheduled(context: Context, endpoint: str) -> int | None:
    """The number of the deployment that a batch stage's schedule starts."""
    scheduler, group = context.client("scheduler"), context.settings.schedule_group
    schedule = _found(partial(scheduler.get_schedule, Name=endpoint, GroupName=group))
    return None if schedule is None else observe.scheduled_number(schedule)


def _instance_count(endpoint: dict[str, Any]) -> int | None:
    variants = endpoint.get("ProductionVariants", ())
    return variants[0].get("DesiredInstanceCount") if len(variants) == 1 else None


def _stage_file(context: Context, package: Package, stage: str, known: Names) -> dict[str, Any]:
    from lifecycle_lambdas import stage_schema

    _, _, sha256 = stage_file_place(package, stage)
    if (stage, sha256) not in known.stage_files:
        known.stage_files[stage, sha256] = stage_schema.dump(read_stage_file(context, package, stage))
    return known.stage_files[stage, sha256]


def _is_ours(context: Context, arn: str, ours: dict[str, str]) -> bool:
    tags = tags_of(context.client("sagemaker"), arn)
    return all(tags.get(key) == ours[key] for key in ("modelyard:project", "modelyard:stage"))


def _found(call: Any) -> dict[str, Any] | None:
    """The call's answer; None of what is not there."""
    try:
        answer: dict[str, Any] = call()
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    return answer


def _metadata(package: Package) -> dict[str, str]:
    found: dict[str, str] = package.get("CustomerMetadataProperties", {})
    return found
