"""What there is of a project, as cleaning.py needs it. Reads, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Literal

from botocore.exceptions import ClientError

from lifecycle_lambdas import cleaning, names
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.branches import Hosts
from lifecycle_lambdas.cleaning import Facts, Parking, Pipeline, Policy, Serving, Version
from lifecycle_lambdas.commit_status import origin_of
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.declared import StageFileError, read_stage_file
from lifecycle_lambdas.events import STAGES
from lifecycle_lambdas.log import log
from lifecycle_lambdas.records import Deployment, PolicyRecord, State
from lifecycle_lambdas.tags import tags_of

UNDER_WAY = ("Executing", "Stopping")
Package = Mapping[str, Any]
"""DescribeModelPackage's answer."""


@dataclass(frozen=True)
class Parked:
    """An endpoint that serves and may be parked.

    Args:
        deployment: what serves; its stage file says when to park it.
        instances: how many run.
    """

    serving: Serving
    deployment: Deployment
    instances: int


def newest_version(context: Context, group: str) -> Package | None:
    """The version of the group that was registered last; None where there is none."""
    found = list(_summaries(context, group, SortBy="CreationTime", SortOrder="Descending", MaxResults=1))
    return described(context, found[0]["ModelPackageArn"]) if found else None


def policy(context: Context, newest: Package) -> Policy | None:
    """What the project's newest version of the stage feature says of cleaning up; None: nothing.

    Raises:
        AdministratorsFault: its stage file may not be read.
    """
    try:
        section = read_stage_file(context, dict(newest), cleaning.STAGE).clean
    except StageFileError as error:
        log("no cleaning up: the stage file cannot be used", level="WARNING", error=str(error))
        return None
    return None if section is None else cleaning.policy_of(section.model_dump(mode="json"))


def described(context: Context, arn: str) -> Package | None:
    """None when there is no such version (any more)."""
    try:
        found: Package = context.client("sagemaker").describe_model_package(ModelPackageName=arn)
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    return found


def facts(context: Context, hosts: Hosts, state: State, policy: Policy, now: datetime) -> Facts:
    """Of the project whose endpoint of the stage feature this is.

    Args:
        now: UTC; what is younger than the policy asks is not looked at any closer.
    """
    pipelines = tuple(_pipelines(context, state.project, policy, now))
    wanted = any(one.branch is not None and not one.running for one in pipelines)
    branches, unsure = _branches(context, hosts, state) if wanted else (None, "")
    summaries = list(_summaries(context, state.group))
    oldest = min((summary["CreationTime"] for summary in summaries), default=now)
    if policy.versions_after_days is None or now - oldest <= timedelta(days=policy.versions_after_days):
        return Facts(pipelines=pipelines, branches=branches, unsure=unsure)
    return Facts(tuple(versions(context, state.project)), needed(context, state), pipelines, branches, unsure)


def versions(context: Context, project: str, since: datetime | None = None) -> Iterator[Version]:
    """The project's versions of every stage.

    Args:
        since: those that were registered after it alone.
    """
    after = {} if since is None else {"CreationTimeAfter": since}
    for stage in STAGES:
        for summary in _summaries(context, f"{project}-{stage}", **after):
            package = described(context, summary["ModelPackageArn"])
            if package is not None:
                yield version_of(project, stage, package)


def version_of(project: str, stage: str, package: Package) -> Version:
    metadata = package.get("CustomerMetadataProperties", {})
    models = frozenset(_models(package))
    report = re.fullmatch(r"(s3://.+/)[^/]+", metadata.get("report", ""))
    own = [*sorted(models), *([report[1]] if report else [])]
    bucket = "/".join(metadata.get("deployment.prefix", "").split("/")[:3])  # s3://<the project's>
    return Version(
        arn=package["ModelPackageArn"],
        stage=stage,
        created=package["CreationTime"],
        changed=package.get("LastModifiedTime") or package["CreationTime"],
        approved=package.get("ModelApprovalStatus") == "Approved",
        tree=metadata.get("git.tree", ""),
        promoted_from=metadata.get("promoted.from", ""),
        models=models,
        uris=frozenset(_uris(package)),
        own=tuple(uri for uri in own if uri.startswith(f"{bucket}/") and is_its_own(project, uri)),
    )


def is_its_own(project: str, uri: str) -> bool:
    """Whether an S3 URI is a version's model archive, or its evaluation's folder, as pipelines of feature write them.

    Whoever registers a version chooses what it names, so that anything else stays: <project>/feature/ itself, for one.
    """
    begin = rf"s3://[a-z0-9.-]+/{re.escape(project)}/{cleaning.STAGE}/[\w-]+/"
    found = re.fullmatch(rf"{begin}(?:[\w.=-]+/)+[\w.-]+\.tar\.gz|{begin}[\w-]+/evaluate/(?:[\w.-]+/)*", uri, re.ASCII)
    return found is not None and ".." not in uri.split("/")


def needed(context: Context, state: State) -> dict[str, str]:
    """The versions that the endpoint of the stage feature needs, each with what for."""
    ledger = context.ledger
    history = takewhile(lambda one: one.number > state.removed_number, ledger.deployments(state.endpoint))
    approved = {
        summary["ModelPackageArn"] for summary in _summaries(context, state.group, ModelApprovalStatus="Approved")
    }
    return cleaning.needed(
        ledger.entries(state.endpoint), list(history), _packages_of_models(context, state.endpoint), approved
    )


def running(context: Context, pipeline: str) -> bool:
    """Whether an execution of the pipeline is under way."""
    pages = context.client("sagemaker").get_paginator("list_pipeline_executions").paginate(PipelineName=pipeline)
    return any(
        one["PipelineExecutionStatus"] in UNDER_WAY for page in pages for one in page["PipelineExecutionSummaries"]
    )


def parked(context: Context, state: State, now: datetime) -> Parked | Literal["never"] | None:
    """The endpoint as parking needs it; None when nothing serves or something is under way.

    Returns:
        "never" where the stage file of what serves asks for none.
    """
    if state.status != "settled":
        return None
    try:
        endpoint = context.client("sagemaker").describe_endpoint(EndpointName=state.endpoint)
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    number = names.number_of(state.endpoint, endpoint["EndpointConfigName"])
    deployment = None if number is None else context.ledger.deployment(state.endpoint, number)
    if endpoint["EndpointStatus"] != "InService" or deployment is None or deployment.ended is None:
        return None
    section = deployment.stage_file.get("park")
    newest = next((one for one in context.ledger.entries(state.endpoint) if one.kind != "reject"), None)
    if section is None:
        return "never"
    if newest is None or newest.kind not in ("approve", "go-back"):
        return None
    parking = cleaning.parking_of(section)
    record = context.ledger.policy(state.endpoint, "park")
    serving = Serving(
        endpoint=state.endpoint,
        parking=parking,
        since=deployment.ended,
        decided=newest.at,
        announced=announced(record, cleaning.fingerprint(parking)),
        requests=_requests(context, state.endpoint, parking, now),
    )
    instances = sum(variant.get("CurrentInstanceCount", 0) for variant in endpoint.get("ProductionVariants", ()))
    return Parked(serving, deployment, instances)


def announced(record: PolicyRecord | None, sha256: str) -> datetime | None:
    """When people were told of the section with this hash; None: of another one, or never."""
    return record.announced if record is not None and record.sha256 == sha256 else None


def _requests(context: Context, endpoint: str, parking: Parking, now: datetime) -> float | None:
    """In the last `idle_hours`. CloudWatch has no value of a time in which nobody asked.

    https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
    """
    if parking.idle_hours is None:
        return None
    found = context.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": names.VARIANT}],
        StartTime=now - timedelta(hours=parking.idle_hours),
        EndTime=now,
        Period=3600,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in found["Datapoints"]))


def _pipelines(context: Context, project: str, policy: Policy, now: datetime) -> Iterator[Pipeline]:
    """The project's pipelines of the stage feature. The branch is read of those alone that are old enough to go."""
    sagemaker = context.client("sagemaker")
    # SageMaker takes no prefix that ends with a hyphen
    pages = sagemaker.get_paginator("list_pipelines").paginate(PipelineNamePrefix=f"{project}-{cleaning.STAGE}")
    for summary in (one for page in pages for one in page["PipelineSummaries"]):
        name = summary["PipelineName"]
        if not name.startswith(f"{project}-{cleaning.STAGE}-"):
            continue
        tags = tags_of(sagemaker, summary["PipelineArn"])
        if (tags.get("modelyard:project"), tags.get("modelyard:stage")) != (project, cleaning.STAGE):
            continue
        times = [summary.get(member) for member in ("CreationTime", "LastModifiedTime", "LastExecutionTime")]
        used = max(time for time in times if time is not None)
        days = policy.pipelines_after_days
        old = days is not None and now - used > timedelta(days=days)
        yield Pipeline(name, _branch(sagemaker, name) if old else None, used, running(context, name))


def _branch(sagemaker: Any, pipeline: str) -> str | None:
    origin = origin_of(sagemaker.describe_pipeline(PipelineName=pipeline)["PipelineDefinition"])
    return origin.branch or None if origin is not None else None


def _branches(context: Context, hosts: Hosts, state: State) -> tuple[frozenset[str] | None, str]:
    """The names at the Git host, and why they say of none that it is gone ("": they do)."""
    repository = _repository(context, state)
    if repository is None:
        return None, f"{state.group} has no tag modelyard:repository"
    branches = hosts.branches(repository)
    if branches is None:
        return None, f"{repository} does not say; asked are CodeCommit in this Region, and the platform's GitHub"
    if not branches.intersection(cleaning.MAIN_BRANCHES):
        return branches, f"{repository} has none of {', '.join(cleaning.MAIN_BRANCHES)}"
    return branches, ""


def _repository(context: Context, state: State) -> str | None:
    """What the tag modelyard:repository of the stage's group says, which no role of a project may set."""
    sagemaker = context.client("sagemaker")
    try:
        group = sagemaker.describe_model_package_group(ModelPackageGroupName=state.group)
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    tags = tags_of(sagemaker, group["ModelPackageGroupArn"])
    return tags.get("modelyard:repository") if tags.get("modelyard:project") == state.project else None


def _packages_of_models(context: Context, endpoint: str) -> list[str]:
    """ARNs of the versions that the endpoint's models have, whatever the ledger says."""
    sagemaker = context.client("sagemaker")
    pages = sagemaker.get_paginator("list_models").paginate(NameContains=f"{endpoint}-")
    models = [model["ModelName"] for page in pages for model in page["Models"]]
    found = []
    for name in models:
        if names.number_of(endpoint, name) is None:
            continue
        try:
            model = sagemaker.describe_model(ModelName=name)
        except ClientError as error:
            if not is_missing(error):
                raise
            continue
        containers = [model.get("PrimaryContainer") or {}, *model.get("Containers", ())]
        found += [each["ModelPackageName"] for each in containers if "ModelPackageName" in each]
    return found


def _summaries(context: Context, group: str, **request: Any) -> Iterator[dict[str, Any]]:
    """ListModelPackages' summaries of a group; none when there is no such group."""
    limited = "MaxResults" in request
    listing = context.client("sagemaker").list_model_packages
    request = {"ModelPackageGroupName": group, "MaxResults": 100, **request}
    try:
        while True:
            page = listing(**request)
            yield from page["ModelPackageSummaryList"]
            if limited or "NextToken" not in page:
                return
            request["NextToken"] = page["NextToken"]
    except ClientError as error:
        if not is_missing(error):
            raise


def _models(package: Package) -> Iterator[str]:
    for container in package.get("InferenceSpecification", {}).get("Containers", ()):
        if "ModelDataUrl" in container:
            yield container["ModelDataUrl"]
        if uri := container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri"):
            yield uri


def _uris(value: Any) -> Iterator[str]:
    """Every S3 URI in a description, wherever it stands."""
    if isinstance(value, str) and value.startswith("s3://"):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _uris(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _uris(each)
