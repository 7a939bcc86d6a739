"""The endpoint tests of a batch stage: a transform job over the evaluated rows, and what it answered.

The job is as the stage's schedule starts them, but for its input and output. Its name follows from the run, so that
asking for it twice is asking for it once, and its end says which run it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.endpoint_answers import CSV, Answer
from lifecycle_lambdas.endpoint_runs import FOLDER, Superseded
from lifecycle_lambdas.log import log
from lifecycle_lambdas.names import numbered
from lifecycle_lambdas.records import TestRun
from lifecycle_lambdas.s3_objects import read, uri, write

OVER = ("Completed", "Failed", "Stopped")
INPUT = "rows.csv"
# handlers/batch.py takes the jobs of schedules alone, whose names end in a time
_NAME = re.compile(r"(?P<endpoint>.+)-(?P<number>[1-9][0-9]{0,5})-(?P<at>[0-9a-f]{8})test")
# How FailureReason begins where the container did not answer as it should; the rest is SageMaker's or a permission's.
_VERSIONS_FAULT = ("AlgorithmError", "ClientError")
_NOT_ALLOWED = re.compile(r"(?i)denied|not authorized|permission|could not access")


class JobBroken(Exception):
    """The job did not come to an end, for a reason that is not the version's."""


@dataclass(frozen=True)
class Job:
    """
    Args:
        status: TransformJobStatus.
        reason: FailureReason.
        output: S3 URI of the folder of its answers.
        seconds: from start to end.
    """

    name: str
    status: str
    reason: str
    output: str
    seconds: float


def name_of(run: TestRun) -> str:
    """At most 43 + 1 + 6 + 1 + 12 = 63 characters, as many as CreateTransformJob takes."""
    return f"{numbered(run.endpoint, run.number)}-{int(run.at.timestamp()):08x}test"


def run_of(name: str) -> tuple[str, str] | None:
    """Endpoint and key of the run that a transform job answers; None of any other job."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    at = datetime.fromtimestamp(int(found["at"], 16), UTC)
    run = TestRun(found["endpoint"], int(found["number"]), "", "asked", "due", "report", at)
    return run.endpoint, run.key


def find(context: Context, run: TestRun) -> Job | None:
    """The run's job as it is now; None when there is none yet."""
    try:
        found = context.client("sagemaker").describe_transform_job(TransformJobName=name_of(run))
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    begun, ended = found.get("TransformStartTime"), found.get("TransformEndTime")
    return Job(
        name=found["TransformJobName"],
        status=found["TransformJobStatus"],
        reason=found.get("FailureReason", ""),
        output=found["TransformOutput"]["S3OutputPath"],
        seconds=(ended - begun).total_seconds() if begun and ended else 0.0,
    )


def start(context: Context, run: TestRun, bucket: str, rows: bytes) -> None:
    """Start the run's job; the same twice is one.

    Args:
        bucket: where input and output lie, below the project's own folder.
        rows: endpoint_checks.batch_body's.

    Raises:
        Superseded: the stage's schedule is another deployment's, or gone.
    """
    transform = _scheduled(context, run)
    project, _, stage = run.endpoint.rpartition("-")
    folder = f"{FOLDER}/{run.number}/{run.at:%Y%m%dT%H%M%SZ}"
    source = f"{project}/{stage}/{folder}/{INPUT}"
    write(context, bucket, source, rows, CSV)
    # models may write below captured/: what they were asked and what they answered
    request = request_of(run, transform, uri(bucket, source), uri(bucket, f"{project}/captured/{stage}/{folder}/"))
    try:
        context.client("sagemaker").create_transform_job(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUse":
            raise
    log("a transform job answers the tests", endpoint=run.endpoint, job=name_of(run))


def request_of(run: TestRun, transform: dict[str, Any], source: str, output: str) -> dict[str, Any]:
    """CreateTransformJob's. Pure.

    Args:
        transform: the request of the stage's schedule, without a name.
    """
    kept = {name: value for name, value in transform.items() if name != "DataProcessing"}
    key = {name: value for name, value in transform["TransformOutput"].items() if name == "KmsKeyId"}
    return kept | {
        "TransformJobName": name_of(run),
        "BatchStrategy": "MultiRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            "ContentType": CSV,
            "SplitType": "Line",
        },
        "TransformOutput": {"S3OutputPath": output, "Accept": CSV, "AssembleWith": "Line", **key},
        "TransformResources": transform["TransformResources"] | {"InstanceCount": 1},
    }


def answer(context: Context, job: Job) -> Answer:
    """What the job answered, or that the container failed.

    Raises:
        JobBroken: it failed for a reason that is not the version's.
        Unreadable: its output is not there.
    """
    if job.status == "Completed":
        return Answer(200, read(context, f"{job.output.rstrip('/')}/{INPUT}.out"), CSV, job.seconds)
    if job.status == "Failed" and job.reason.startswith(_VERSIONS_FAULT) and not _NOT_ALLOWED.search(job.reason):
        return Answer(0, b"", "", job.seconds, f"the transform job {job.name} failed: {job.reason}")
    raise JobBroken(
        f"the transform job {job.name} was {job.status.lower()}: {job.reason or 'SageMaker does not say why'}. Its log "
        "is in the log group /aws/sagemaker/TransformJobs"
    )


def _scheduled(context: Context, run: TestRun) -> dict[str, Any]:
    """CreateTransformJob's request of the stage's schedule, which is the deployment's as long as it serves."""
    try:
        schedule = context.client("scheduler").get_schedule(
            Name=run.endpoint, GroupName=context.settings.schedule_group
        )
    except ClientError as error:
        if not is_missing(error):
            raise
        raise Superseded(f"the schedule of {run.endpoint} is not there any more") from error
    found = json.loads(schedule["Target"]["Input"])
    if found.get("number") != run.number:
        raise Superseded(f"the schedule of {run.endpoint} is that of deployment {found.get('number')}")
    transform: dict[str, Any] = found["transform"]
    return transform
