"""Batch transform jobs start once for each time of their schedule, never with a rejected model, and are watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber

from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.handlers import batch

ENDPOINT = "churn-prod"
PACKAGE = "arn:aws:sagemaker:eu-west-1:111122223333:model-package/churn-prod/7"
JOB = "churn-prod-12-20261121T0800"
JOB_ARN = f"arn:aws:sagemaker:eu-west-1:111122223333:transform-job/{JOB}"
TAGS = [{"Key": "modelyard:project", "Value": "churn"}]
SOURCE = {
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}},
    "ContentType": "text/csv",
}
TRANSFORM = {
    "ModelName": "churn-prod-12",
    "TransformInput": SOURCE,
    "TransformOutput": {"S3OutputPath": "s3://data/out/", "Accept": "text/csv", "AssembleWith": "Line"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    "Tags": TAGS,
}
SCHEDULED = {
    "endpoint": ENDPOINT,
    "number": 12,
    "package_arn": PACKAGE,
    "scheduled_time": "2026-11-21T08:00:00Z",
    "transform": TRANSFORM,
}
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


class StubbedSageMaker(Clients):
    """The test's server, and a SageMaker that answers what the test says."""

    def __init__(self, others: Clients, sagemaker: Any) -> None:
        super().__init__()
        self._others = others
        self._sagemaker = sagemaker

    def __call__(self, service: str, region: str | None = None) -> Any:
        return self._sagemaker if service == "sagemaker" else self._others(service, region)


@pytest.fixture
def sagemaker() -> Iterator[Stubber]:
    """Answers in the order in which the test says so; all of it must be asked."""
    client = boto3.client("sagemaker", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test")
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def stubbed(context: Context, sagemaker: Stubber) -> Context:
    """Called twenty seconds after the scheduled time."""
    context = replace(context, now=lambda: AT + timedelta(seconds=20))
    return replace(context, clients=StubbedSageMaker(context.clients, sagemaker.client))


def add_package(stub: Stubber, approval: str) -> None:
    answer = {
        "ModelPackageName": "churn-prod/7",
        "ModelPackageArn": PACKAGE,
        "CreationTime": datetime(2026, 11, 20, tzinfo=UTC),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "ModelApprovalStatus": approval,
    }
    stub.add_response("describe_model_package", answer, {"ModelPackageName": PACKAGE})


def add_created(stub: Stubber, expected: Any = ANY) -> None:
    members = ("TransformJobName", "ModelName", "TransformInput", "TransformOutput", "TransformResources", "Tags")
    stub.add_response(
        "create_transform_job",
        {"TransformJobArn": JOB_ARN},
        dict.fromkeys(members, ANY) if expected is ANY else expected,
    )


def add_failed_jobs(stub: Stubber, *names: str) -> None:
    summaries = [
        {
            "TransformJobName": name,
            "TransformJobArn": JOB_ARN.replace(JOB, name),
            "CreationTime": datetime(2026, 11, 20, tzinfo=UTC),
            "TransformJobStatus": "Failed",
        }
        for name in names
    ]
    asked = {
        "NameContains": f"{ENDPOINT}-",
        "StatusEquals": "Failed",
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
        "MaxResults": 10,
    }
    stub.add_response("list_transform_jobs", {"TransformJobSummaries": summaries}, asked)


def add_job(stub: Stubber, status: str, reason: str = "", name: str = JOB, tags: list[dict[str, str]] = TAGS) -> None:
    stub.add_response("list_tags", {"Tags": tags}, {"ResourceArn": JOB_ARN.replace(JOB, name)})
    if not tags:
        return
    answer: dict[str, Any] = {
        "TransformJobName": name,
        "TransformJobArn": JOB_ARN.replace(JOB, name),
        "TransformJobStatus": status,
        "ModelName": "churn-prod-12",
        "TransformInput": SOURCE,
        "TransformOutput": {"S3OutputPath": "s3://data/out/20261121T0800"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "CreationTime": datetime(2026, 11, 21, 8, tzinfo=UTC),
    }
    stub.add_response(
        "describe_transform_job", answer | ({"FailureReason": reason} if reason else {}), {"TransformJobName": name}
    )


def ended(status: str, name: str = JOB) -> dict[str, Any]:
    """A "SageMaker Transform Job State Change" event, of which no more is read."""
    return {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Transform Job State Change",
        "resources": [JOB_ARN.replace(JOB, name)],
        "detail": {
            "TransformJobName": name,
            "TransformJobArn": JOB_ARN.replace(JOB, name),
            "TransformJobStatus": status,
            "Tags": {},
        },
    }


def test_a_job_is_named_by_its_scheduled_time_and_writes_to_a_folder_of_its_own(
    stubbed: Context, sagemaker: Stubber
) -> None:
    add_package(sagemaker, "Approved")
    output = TRANSFORM["TransformOutput"] | {"S3OutputPath": "s3://data/out/20261121T0800"}  # type: ignore[operator]
    add_created(sagemaker, TRANSFORM | {"TransformJobName": JOB, "TransformOutput": output})
    add_failed_jobs(sagemaker)
    assert batch.handle(stubbed, SCHEDULED) == {"job": JOB, "outcome": "started"}


@pytest.mark.parametrize("time", ["2026-11-21T08:00:00Z", "2026-11-21T08:00:37.500Z", "2026-11-21T09:00:00+01:00"])
def test_the_same_time_is_the_same_job_however_it_is_written(time: str) -> None:
    assert batch.Run.of(SCHEDULED | {"scheduled_time": time}).job_name == JOB


@pytest.mark.parametrize("hours", [23, 25])
def test_a_run_that_is_a_day_late_is_not_started(stubbed: Context, sagemaker: Stubber, hours: int) -> None:
    """A dead letter that is sent again: another version may be scheduled by now, and the data are today's."""
    stubbed = replace(stubbed, now=lambda: AT + timedelta(hours=hours))
    if hours == 23:
        add_package(sagemaker, "Approved")
        add_created(sagemaker)
    add_failed_jobs(sagemaker)
    outcome = "started" if hours == 23 else "too late"
    assert batch.handle(stubbed, SCHEDULED) == {"job": JOB, "outcome": outcome}


def test_starting_a_second_time_is_starting_once(stubbed: Context, sagemaker: Stubber) -> None:
    add_package(sagemaker, "Approved")
    sagemaker.add_client_error("create_transform_job", "ResourceInUse", "a job with this name already exists")
    add_failed_jobs(sagemaker)
    assert batch.handle(stubbed, SCHEDULED)["outcome"] == "already started"


def test_another_refusal_of_aws_is_an_error_so_that_lambda_tries_again(stubbed: Context, sagemaker: Stubber) -> None:
    add_package(sagemaker, "Approved")
    sagemaker.add_client_error("create_transform_job", "ResourceLimitExceeded", "too many jobs")
    with pytest.raises(ClientError, match="too many jobs"):
        batch.handle(stubbed, SCHEDULED)


@pytest.mark.parametrize("approval", ["Rejected", "PendingManualApproval"])
def test_a_version_that_is_not_approved_now_starts_nothing(stubbed: Context, sagemaker: Stubber, approval: str) -> None:
    add_package(sagemaker, approval)
    add_failed_jobs(sagemaker)
    assert batch.handle(stubbed, SCHEDULED)["outcome"] == "not started"


def test_a_failed_job_is_told_once_with_its_reason(
    stubbed: Context, sagemaker: Stubber, told: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        add_job(sagemaker, "Failed", "AlgorithmError: a column is missing")
        assert batch.handle(stubbed, ended("Failed"))["outcome"] == "failed"
    (text,) = told()
    assert "a column is missing" in text
    assert JOB in text
    assert "s3://data/in/" in text


def test_a_stopped_job_is_told(stubbed: Context, sagemaker: Stubber, told: Callable[[], list[str]]) -> None:
    add_job(sagemaker, "Stopped")
    batch.handle(stubbed, ended("Stopped"))
    assert "stopped" in told()[0]


def test_a_completed_job_is_written_down_and_nobody_is_disturbed(
    stubbed: Context, sagemaker: Stubber, told: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    add_job(sagemaker, "Completed")
    assert batch.handle(stubbed, ended("Completed")) == {"job": JOB, "outcome": "completed"}
    assert told() == []
    assert "s3://data/out/20261121T0800" in capfd.readouterr().err


def test_jobs_of_others_are_left_alone(stubbed: Context, sagemaker: Stubber, told: Callable[[], list[str]]) -> None:
    assert batch.handle(stubbed, ended("Failed", "their-job"))["outcome"] == "not ours"
    add_job(sagemaker, "Failed", tags=[])
    assert batch.handle(stubbed, ended("Failed"))["outcome"] == "not ours"
    assert told() == []


def test_a_failure_whose_event_never_came_is_told_at_the_next_start(
    stubbed: Context, sagemaker: Stubber, told: Callable[[], list[str]]
) -> None:
    yesterday = "churn-prod-12-20261120T0800"
    for _ in range(2):
        add_package(sagemaker, "Approved")
        add_created(sagemaker)
        add_failed_jobs(sagemaker, yesterday, "other-churn-prod-3-20261120T0800", "churn-prod-by-hand")
        if not stubbed.ledger.was_told(ENDPOINT, f"batch#{yesterday}"):
            add_job(sagemaker, "Failed", "AlgorithmError: out of memory", name=yesterday)
        batch.handle(stubbed, SCHEDULED)
    (text,) = told()
    assert yesterday in text


@pytest.mark.parametrize("missing", sorted(SCHEDULED))
def test_a_schedule_that_is_not_ours_fails_and_names_what_it_lacks(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        batch.Run.of({name: value for name, value in SCHEDULED.items() if name != missing})
