"""Starts an endpoint's batch transform jobs by their schedule, each named by its time, and watches how they end.

EventBridge Scheduler calls with the input that batch_schedule.py writes; "SageMaker Transform Job State Change" events
come from a rule. Both come at least once, and a job's event may never come: a job is named so that starting it twice is
starting it once, and every start looks at the jobs before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.settings import Settings

MINUTE = "%Y%m%dT%H%M"
JOB_NAME = re.compile(r"(?P<endpoint>[a-zA-Z0-9](?:-*[a-zA-Z0-9])*)-(?P<number>[1-9][0-9]{0,5})-[0-9]{8}T[0-9]{4}")
RECENT_FAILURES = 10  # as many as one start looks back at; those that were told are not told again
# A run that is later than this is the next run's business: its version may not be the schedule's any more.
LATEST = timedelta(days=1)
ENDED_BADLY = ("Failed", "Stopped")


@cache
def _clients() -> Clients:
    return Clients()


def handler(event: dict[str, Any], lambda_context: Any) -> dict[str, str]:
    seconds = lambda_context.get_remaining_time_in_millis() / 1000
    return handle(Context.of(Settings.from_environment(), _clients(), lambda_context.aws_request_id, seconds), event)


def handle(context: Context, event: dict[str, Any]) -> dict[str, str]:
    """Answer a schedule's call or a transform job's event.

    Args:
        event: {"endpoint", "number", "package_arn", "scheduled_time", "transform"}, or an EventBridge event.

    Returns:
        {"job": the job's name, "outcome": what was done}.

    Raises:
        ClientError: of AWS; Lambda calls again, twice, and then puts the event aside where an alarm sees it.
    """
    if "detail-type" in event:
        return _ended(event["detail"]["TransformJobName"], event["detail"]["TransformJobArn"], context)
    run = Run.of(event)
    outcome = _start(run, context)
    _look_back(run.endpoint, context)
    return outcome


@dataclass(frozen=True)
class Run:
    """One time of a schedule.

    Args:
        at: the scheduled time, UTC.
        transform: CreateTransformJob's request without a name.
    """

    endpoint: str
    number: int
    package_arn: str
    at: datetime
    transform: dict[str, Any]

    @classmethod
    def of(cls, event: dict[str, Any]) -> Run:
        """Raises KeyError or ValueError, naming what is missing or wrong in a schedule that is not ours."""
        at = datetime.fromisoformat(event["scheduled_time"]).astimezone(UTC)
        return cls(event["endpoint"], int(event["number"]), event["package_arn"], at, event["transform"])

    @property
    def job_name(self) -> str:
        """Of its time to the minute, the finest that a schedule knows: a second call asks for the same job."""
        return f"{self.endpoint}-{self.number}-{self.at:{MINUTE}}"

    @property
    def request(self) -> dict[str, Any]:
        """CreateTransformJob's. Each run writes to a folder of its own, since a transform job overwrites."""
        output = self.transform["TransformOutput"]
        path = f"{output['S3OutputPath'].rstrip('/')}/{self.at:{MINUTE}}"
        return (
            {"TransformJobName": self.job_name} | self.transform | {"TransformOutput": output | {"S3OutputPath": path}}
        )


def _start(run: Run, context: Context) -> dict[str, str]:
    """Start the run's job, unless its version is not approved now, the job is there, or it is too late for it."""
    if context.now() > run.at + LATEST:  # a dead letter that was sent again
        return _log("too late", run.job_name, endpoint=run.endpoint)
    sagemaker = context.client("sagemaker")
    # The schedule goes when its version is rejected, but not in the same moment.
    package = sagemaker.describe_model_package(ModelPackageName=run.package_arn)
    if (status := package["ModelApprovalStatus"]) != "Approved":
        return _log("not started", run.job_name, endpoint=run.endpoint, package=run.package_arn, approval=status)
    try:
        sagemaker.create_transform_job(**run.request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUse":
            raise
        return _log("already started", run.job_name, endpoint=run.endpoint)
    return _log("started", run.job_name, endpoint=run.endpoint, package=run.package_arn)


def _ended(name: str, arn: str, context: Context) -> dict[str, str]:
    """Write down how a job ended, and tell whoever watches when it ended badly."""
    match = JOB_NAME.fullmatch(name)
    sagemaker = context.client("sagemaker")
    if match is None or not _is_ours(sagemaker, arn):
        return _log("not ours", name)
    # What the event says may be late, so the job is asked.
    job = sagemaker.describe_transform_job(TransformJobName=name)
    status = job["TransformJobStatus"]
    if status in ENDED_BADLY:
        context.tell(_message(match["endpoint"], job))
    output = job["TransformOutput"]["S3OutputPath"]
    return _log(status.lower(), name, endpoint=match["endpoint"], output=output, reason=job.get("FailureReason"))


def _look_back(endpoint: str, context: Context) -> None:
    """Tell of failed jobs whose event never came."""
    sagemaker = context.client("sagemaker")
    answer = sagemaker.list_transform_jobs(
        NameContains=f"{endpoint}-",
        StatusEquals="Failed",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=RECENT_FAILURES,
    )
    for summary in answer["TransformJobSummaries"]:
        name = summary["TransformJobName"]
        match = JOB_NAME.fullmatch(name)
        if match is None or match["endpoint"] != endpoint or context.ledger.was_told(endpoint, _message_id(name)):
            continue
        _ended(name, summary["TransformJobArn"], context)


def _is_ours(sagemaker: Any, arn: str) -> bool:
    tags = sagemaker.list_tags(ResourceArn=arn)["Tags"]
    return any(tag["Key"] == "modelyard:project" for tag in tags)


def _message_id(job_name: str) -> str:
    return f"batch#{job_name}"


def _message(endpoint: str, job: dict[str, Any]) -> Message:
    name, status = job["TransformJobName"], job["TransformJobStatus"]
    remedy = (
        f"The log group /aws/sagemaker/TransformJobs has its log. The next run is not affected; to run this one again, "
        f"start a transform job with its settings: aws sagemaker describe-transform-job --transform-job-name {name}"
    )
    return Message(
        kind="failed",
        endpoint=endpoint,
        id=_message_id(name),
        title=f"{endpoint}: batch transform job {status.lower()}",
        text="\n".join(part for part in (job.get("FailureReason", ""), remedy) if part),
        facts=(
            ("Job", name),
            ("Model", job["ModelName"]),
            ("Input", job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]),
        ),
    )


def _log(outcome: str, job: str, **fields: Any) -> dict[str, str]:
    log(f"batch transform job {outcome}", job=job, **fields)
    return {"job": job, "outcome": outcome}
