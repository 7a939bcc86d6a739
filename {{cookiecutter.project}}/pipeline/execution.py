"""Pipelines and their executions: upsert, start, watch. Plain SageMaker API, no SDK."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError
from pipeline.aws import error_code
from pipeline.lineage import DIRTY, Lineage
from pipeline.names import stage_folder, stage_of_pipeline

# Where SageMaker jobs write their logs, by what a pipeline step's metadata call the job.
LOG_GROUPS = {"ProcessingJob": "/aws/sagemaker/ProcessingJobs", "TrainingJob": "/aws/sagemaker/TrainingJobs"}
FINAL = ("Succeeded", "Failed", "Stopped")
# Who started an execution: its name begins so. A newer push stops what pushes started, and nothing else.
BY_A_PERSON, BY_A_PUSH = "commit", "push"
# How many of a pipeline's executions are looked at, the newest. Each push stops those before it: older ones have ended.
NEWEST = 500
LOG_LINES = 20


@dataclass(frozen=True)
class Step:
    """One step of an execution. seconds: how long it took, or has taken so far; None before it starts."""

    name: str
    status: str
    seconds: float | None
    reason: str
    cached: bool
    job: tuple[str, str] | None  # a key of LOG_GROUPS, and the job's name


def upsert(
    aws: boto3.Session, name: str, description: str, definition: str, role_arn: str, tags: dict[str, str]
) -> int | None:
    """Creates the pipeline, or updates the one of this name; returns the version of exactly this definition.

    The update follows a creation too, since only UpdatePipeline says which version it made. Two at once are well:
    each gets its own version.
    """
    sagemaker = aws.client("sagemaker")
    common = {
        "PipelineName": name,
        "PipelineDescription": description,
        "PipelineDefinition": definition,
        "RoleArn": role_arn,
    }
    tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
    try:
        arn = sagemaker.create_pipeline(**common, ClientRequestToken=str(uuid.uuid4()), Tags=tag_list)["PipelineArn"]
    except ClientError as error:
        if not _is_taken(error):
            raise
        arn = sagemaker.describe_pipeline(PipelineName=name)["PipelineArn"]
        sagemaker.add_tags(ResourceArn=arn, Tags=tag_list)
    version = sagemaker.update_pipeline(**common).get("PipelineVersionId")
    return None if version is None else int(version)


@dataclass(frozen=True)
class Running:
    """An execution that is under way. name: as `display_name` makes it, or what somebody else called it."""

    arn: str
    name: str
    started: datetime
    stopping: bool = False

    def is_push_of(self, commit: str) -> bool:
        """Whether a push of this commit started it; its job may have changed files before."""
        return self.name.removesuffix(DIRTY) == f"{BY_A_PUSH}-{commit[:12]}"


def display_name(trigger: str, lineage: Lineage) -> str:
    """Such as push-0a1b2c3d4e5f; the platform takes an execution for one of the commit's when its name ends so.

    trigger: BY_A_PERSON or BY_A_PUSH.
    """
    return f"{trigger}-{lineage.commit[:12]}{DIRTY if lineage.is_dirty else ''}"


def start(aws: boto3.Session, name: str, parameters: dict[str, str], version: int | None, called: str) -> str:
    """Starts an execution of that version of the pipeline; returns its ARN. called: its display name."""
    options: dict[str, Any] = {} if version is None else {"PipelineVersionId": version}
    return str(
        aws.client("sagemaker").start_pipeline_execution(
            PipelineName=name,
            PipelineExecutionDisplayName=called,
            PipelineParameters=[{"Name": key, "Value": value} for key, value in parameters.items()],
            ClientRequestToken=str(uuid.uuid4()),
            **options,
        )["PipelineExecutionArn"]
    )


def running(aws: boto3.Session, name: str) -> list[Running]:
    """The pipeline's executions that are under way, of its newest ones, the newest first; none without a pipeline."""
    pages = (
        aws.client("sagemaker")
        .get_paginator("list_pipeline_executions")
        .paginate(
            PipelineName=name,
            SortBy="CreationTime",
            SortOrder="Descending",
            PaginationConfig={"MaxItems": NEWEST, "PageSize": 100},
        )
    )
    try:
        executions = [found for page in pages for found in page["PipelineExecutionSummaries"]]
    except ClientError as error:
        if error_code(error) != "ResourceNotFound":
            raise
        return []
    return [
        Running(
            arn=found["PipelineExecutionArn"],
            name=found.get("PipelineExecutionDisplayName", ""),
            started=found["StartTime"],
            stopping=found["PipelineExecutionStatus"] == "Stopping",
        )
        for found in executions
        if found["PipelineExecutionStatus"] in ("Executing", "Stopping")
    ]


def stop(aws: boto3.Session, execution_arn: str) -> None:
    """Asks SageMaker to stop the execution. One that has ended, or is being stopped, is left as it is."""
    sagemaker = aws.client("sagemaker")
    try:
        sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution_arn, ClientRequestToken=str(uuid.uuid4()))
    except ClientError as error:
        if error_code(error) not in ("ValidationException", "ConflictException"):
            raise
        found = sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution_arn)
        if found["PipelineExecutionStatus"] == "Executing":
            raise


def newest_execution(aws: boto3.Session, name: str) -> str:
    """The ARN of the pipeline's newest execution. Raises InputError when it was never started."""
    try:
        executions = aws.client("sagemaker").list_pipeline_executions(
            PipelineName=name, SortBy="CreationTime", SortOrder="Descending", MaxResults=1
        )["PipelineExecutionSummaries"]
    except ClientError as error:
        if error_code(error) != "ResourceNotFound":
            raise
        executions = []
    if not executions:
        raise InputError(f"the pipeline {name} was never started: python -m pipeline start")
    return str(executions[0]["PipelineExecutionArn"])


def report_uri(aws: boto3.Session, arn: str, project: str, bucket: str) -> str:
    """Where the execution's step Evaluate puts its report (pipeline/frame.py, output_uri). arn: the execution's."""
    pipeline_arn, _, execution_id = arn.partition("/execution/")
    # not from the ARN, which SageMaker may write in lower case, while S3 tells the cases apart
    pipeline = aws.client("sagemaker").describe_pipeline(PipelineName=pipeline_arn)["PipelineName"]
    folder = stage_folder(project, stage_of_pipeline(project, pipeline))
    return f"s3://{bucket}/{folder}/{pipeline}/{execution_id}/evaluate/evaluation/report.html"


def watch(
    aws: boto3.Session, execution_arn: str, report: Callable[[Step], None], wait: Callable[[float], bool]
) -> dict[str, Any] | None:
    """Reports every change of every step until the execution ends; returns DescribePipelineExecution's answer.

    Asks twice a second while things change, more and more seldom (every 10 s at last) while nothing does.
    wait: lets so many seconds pass; returns whether to stop watching, and then None is returned.
    """
    sagemaker = aws.client("sagemaker")
    reported: dict[str, str] = {}
    pause = 0.5
    while True:
        # the execution before its steps: when it has ended, the steps read after it are final too
        execution = sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution_arn)
        changed = False
        for step in steps(aws, execution_arn):
            if reported.get(step.name) != step.status:
                reported[step.name] = step.status
                changed = True
                report(step)
        if execution["PipelineExecutionStatus"] in FINAL:
            return execution
        pause = 0.5 if changed else min(pause * 1.3, 10.0)
        if wait(pause):
            return None


def steps(aws: boto3.Session, execution_arn: str) -> Iterator[Step]:
    """The execution's steps that have begun, the first first."""
    pages = aws.client("sagemaker").get_paginator("list_pipeline_execution_steps")
    for page in pages.paginate(PipelineExecutionArn=execution_arn, SortOrder="Ascending"):
        for step in page["PipelineExecutionSteps"]:
            yield _step(step)


def last_log_lines(aws: boto3.Session, step: Step) -> list[str]:
    """The last lines of the step's job; none when the step has no job, or the job came to no log."""
    if step.job is None:
        return []
    logs, (kind, job) = aws.client("logs"), step.job
    lines: list[tuple[int, str]] = []
    try:
        for name in _log_streams(logs, LOG_GROUPS[kind], job):
            events = logs.get_log_events(
                logGroupName=LOG_GROUPS[kind],
                logStreamName=name,
                limit=LOG_LINES,
                startFromHead=False,
            )["events"]
            lines += [(event["timestamp"], event["message"]) for event in events]
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
    return [message for _, message in sorted(lines, key=lambda line: line[0])][-LOG_LINES:]


def _log_streams(logs: Any, group: str, job: str) -> list[str]:
    """The log streams of a job whose name comes from an ARN, where it is in lower case: compared without case."""
    prefix = "-".join(job.split("-")[:2])  # pipelines-<execution id>, lower case in either
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, logStreamNamePrefix=prefix)
    names = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    return [name for name in names if name.lower().startswith(f"{job.lower()}/")]


def _step(step: dict[str, Any]) -> Step:
    seconds = None
    if "StartTime" in step:
        seconds = (step.get("EndTime") or datetime.now(timezone.utc)).timestamp() - step["StartTime"].timestamp()
    job = next(
        (
            (kind, metadata["Arn"].rpartition("/")[2])
            for kind, metadata in step.get("Metadata", {}).items()
            if kind in LOG_GROUPS
        ),
        None,
    )
    return Step(
        name=step["StepName"],
        status=step["StepStatus"],
        seconds=seconds,
        reason=step.get("FailureReason", ""),
        cached="CacheHitResult" in step,
        job=job,
    )


def _is_taken(error: ClientError) -> bool:
    """Whether CreatePipeline failed because the name is taken, and not for another fault of the request."""
    code, message = error_code(error), str(error).lower()
    return code in ("ValidationException", "ConflictException", "ResourceInUse") and "already exist" in message
