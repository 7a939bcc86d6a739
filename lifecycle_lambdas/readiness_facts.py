"""Reads what the readiness checklist is about. What may not be read is Unread; nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from lifecycle_lambdas import going_back, names, remains, watching
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.dead_letters import DeadLetters
from lifecycle_lambdas.readiness import (
    PLATFORM_ALARMS,
    QUEUES,
    RULES,
    SCHEDULES,
    SERVING_STAGES,
    BucketFacts,
    EndpointFacts,
    PlatformFacts,
    Unread,
)
from lifecycle_lambdas.recording import approval_of, describe
from lifecycle_lambdas.records import Deployment
from lifecycle_lambdas.settings import PARAMETER_PATH
from lifecycle_lambdas.tags import tags_of

T = TypeVar("T")
EVENT_SOURCE_PARAMETER = f"{PARAMETER_PATH}deploy-event-source"
BUCKET_PARAMETER = f"{PARAMETER_PATH}artifact-bucket"
FUNCTIONS_LOGS = "/aws/lambda/modelyard-"
ENDPOINTS_LOGS = "/aws/sagemaker/Endpoints/"
# "is not there", in the words of S3, Lambda, Logs and EventBridge.
_ABSENT = (
    "NoSuchBucketPolicy",
    "NoSuchPublicAccessBlockConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
    "ResourceNotFoundException",
)


def platform(context: Context) -> PlatformFacts:
    settings, client = context.settings, context.client
    parameters = _need(partial(_parameters, context))
    source = parameters if isinstance(parameters, Unread) else parameters.get(EVENT_SOURCE_PARAMETER, "")
    return PlatformFacts(
        topic_arn=settings.topic_arn,
        has_chat=bool(settings.webhook_secret_arn),
        subscriptions=_need(
            lambda: _pages(client("sns"), "list_subscriptions_by_topic", "Subscriptions", TopicArn=settings.topic_arn)
        ),
        topic=_need(lambda: client("sns").get_topic_attributes(TopicArn=settings.topic_arn)["Attributes"]),
        table=_need(lambda: client("dynamodb").describe_table(TableName=settings.ledger_table)["Table"]),
        backups=_need(
            lambda: client("dynamodb").describe_continuous_backups(TableName=settings.ledger_table)[
                "ContinuousBackupsDescription"
            ]
        ),
        dead_letters=_need(lambda: DeadLetters(context).count()),
        alarms=_need(partial(_alarms, context, PLATFORM_ALARMS)),
        queues=_need(partial(_queues, context)),
        logs=_need(partial(_log_groups, context, FUNCTIONS_LOGS)),
        event_source=source if isinstance(source, Unread) else _need(partial(_event_source, context, source)),
        rules=_need(partial(_rules, context)),
    )


def endpoints(context: Context, project: str) -> list[EndpointFacts]:
    """Of the project's stages of production that there are."""
    groups = dict(remains.groups(context, project))
    return [
        _endpoint(context, name, groups[name]) for stage in SERVING_STAGES if (name := f"{project}-{stage}") in groups
    ]


def buckets(context: Context, found: Iterable[EndpointFacts]) -> list[BucketFacts]:
    """The platform's own, and those that hold what the endpoints' versions are made of."""
    parameters = _need(partial(_parameters, context))
    own = "" if isinstance(parameters, Unread) else parameters.get(BUCKET_PARAMETER, "")
    packages = [facts.package for facts in found if isinstance(facts.package, dict)]
    prefixes = [package.get("CustomerMetadataProperties", {}).get("deployment.prefix", "") for package in packages]
    theirs = [match[1] for prefix in prefixes if (match := re.match(r"s3://([^/]+)/", prefix))]
    return [_bucket(context, name) for name in dict.fromkeys([own, *theirs]) if name]


def newest_run(endpoint: str, jobs: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The first job that the stage's schedule started, which is called <deployment>-<time>; a job of endpoint tests is
    called <deployment>-<time>test. Pure.

    Args:
        jobs: ListTransformJobs' summaries, the newest first; other stages' may be among them.
    """
    for job in jobs:
        deployment, _, end = job["TransformJobName"].rpartition("-")
        if names.number_of(endpoint, deployment) is not None and not end.endswith("test"):
            return job
    return None


def _endpoint(context: Context, name: str, group_arn: str) -> EndpointFacts:
    sagemaker, logs = context.client("sagemaker"), f"{ENDPOINTS_LOGS}{name}"
    endpoint = _read(lambda: sagemaker.describe_endpoint(EndpointName=name))
    config: dict[str, Any] | None | Unread = endpoint
    tags: dict[str, str] | Unread = endpoint if isinstance(endpoint, Unread) else {}
    if isinstance(endpoint, dict):
        config = _read(lambda: sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"]))
        tags = _read(lambda: tags_of(sagemaker, endpoint["EndpointArn"]))
    deployment = _read(lambda: next(_succeeded(context, name), None))
    package: dict[str, Any] | None | Unread = deployment if isinstance(deployment, Unread) else None
    before: Deployment | None | Unread = deployment if isinstance(deployment, Unread) else None
    if isinstance(deployment, Deployment):
        package = _read(lambda: describe(context, deployment.package_arn))
        before = _read(lambda: _way_back(context, name, deployment))
    model: bool | Unread = False
    if isinstance(before, Deployment):
        answer = _read(lambda: sagemaker.describe_model(ModelName=before.name))
        model = answer if isinstance(answer, Unread) else answer is not None
    group = context.settings.schedule_group
    kept = _need(partial(_log_groups, context, logs))
    return EndpointFacts(
        name=name,
        topic_arn=context.settings.topic_arn,
        endpoint=endpoint,
        config=config,
        schedule=_read(lambda: context.client("scheduler").get_schedule(Name=name, GroupName=group)),
        last_job=_read(partial(_last_job, context, name)),
        tags=tags,
        group_tags=_need(lambda: tags_of(sagemaker, group_arn)),
        targets=_need(partial(_targets, context, name)),
        alarms=_need(partial(_alarms, context, names.standing_alarms(name))),
        logs=kept if isinstance(kept, Unread) else kept[logs].get("retentionInDays") if logs in kept else 0,
        deployment=deployment,
        package=package,
        way_back=before,
        way_back_model=model,
    )


def _bucket(context: Context, name: str) -> BucketFacts:
    s3 = context.client("s3")
    return BucketFacts(
        name=name,
        encryption=_read(lambda: s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]),
        versioning=_need(lambda: s3.get_bucket_versioning(Bucket=name).get("Status", "Disabled")),
        policy=_read(lambda: s3.get_bucket_policy(Bucket=name)["Policy"]),
        public_access=_read(lambda: s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]),
    )


def _read(call: Callable[[], T]) -> Any:
    """The call's answer; None of what is not there; Unread of what AWS refuses to tell."""
    try:
        return call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _ABSENT or is_missing(error):
            return None
        return Unread(f"{error.operation_name}: {code}: {error.response['Error'].get('Message', '')}")


def _need(call: Callable[[], T]) -> Any:
    """As _read, of what an installed platform has."""
    found = _read(call)
    return Unread("AWS says that it is not there") if found is None else found


def _pages(client: Any, operation: str, member: str, **request: str) -> list[dict[str, Any]]:
    return [one for page in client.get_paginator(operation).paginate(**request) for one in page[member]]


def _parameters(context: Context) -> dict[str, str]:
    found = _pages(context.client("ssm"), "get_parameters_by_path", "Parameters", Path=PARAMETER_PATH)
    return {one["Name"]: one["Value"] for one in found}


def _alarms(context: Context, wanted: Iterable[str]) -> dict[str, dict[str, Any]]:
    answer = context.client("cloudwatch").describe_alarms(AlarmNames=list(wanted), AlarmTypes=["MetricAlarm"])
    return {alarm["AlarmName"]: alarm for alarm in answer["MetricAlarms"]}


def _log_groups(context: Context, prefix: str) -> dict[str, dict[str, Any]]:
    found = _pages(context.client("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
    return {one["logGroupName"]: one for one in found}


def _queues(context: Context) -> dict[str, dict[str, str] | None]:
    return {name: _queue(context.client("sqs"), name) for name in QUEUES}


def _queue(sqs: Any, name: str) -> dict[str, str] | None:
    wanted = ["SqsManagedSseEnabled", "KmsMasterKeyId"]
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted).get("Attributes", {})
    except sqs.exceptions.QueueDoesNotExist:
        return None
    return found


def _last_job(context: Context, endpoint: str) -> dict[str, Any] | None:
    answer = context.client("sagemaker").list_transform_jobs(
        NameContains=f"{endpoint}-", SortBy="CreationTime", SortOrder="Descending", MaxResults=100
    )
    return newest_run(endpoint, answer["TransformJobSummaries"])


def _event_source(context: Context, uuid: str) -> str:
    if not uuid:
        return f"unknown to the SSM parameter {EVENT_SOURCE_PARAMETER}"
    return str(context.client("lambda").get_event_source_mapping(UUID=uuid)["State"])


def _rules(context: Context) -> dict[str, str | None]:
    return {name: _rule(context, name) for name in (*SCHEDULES, *RULES)}


def _rule(context: Context, name: str) -> str | None:
    try:
        return str(context.client("events").describe_rule(Name=name)["State"])
    except ClientError as error:
        if not is_missing(error):
            raise
        return None


def _targets(context: Context, endpoint: str) -> list[dict[str, Any]]:
    resource = names.resource_id(endpoint, names.VARIANT)
    answer = context.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource]
    )
    targets: list[dict[str, Any]] = answer["ScalableTargets"]
    return targets


def _succeeded(context: Context, endpoint: str) -> Iterator[Deployment]:
    """Since the last removal, the newest first."""
    state = context.ledger.state(endpoint)
    history = iter(()) if state is None else watching.history(context, state)
    return (deployment for deployment in history if deployment.status == "succeeded")


def _way_back(context: Context, endpoint: str, serving: Deployment) -> Deployment | None:
    return going_back.way_back(serving, _succeeded(context, endpoint), partial(approval_of, context))
