"""The installed platform's parts reach each other: rules, queue, functions, ledger, schedules, topic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lifecycle_lambdas.ledger import Ledger
from local_aws import LocalAWS
from tests.servicecatalog.conftest import Administrator, new_administrator

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
SPECIFICATION = {
    "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://my-artifacts/model.tar.gz"}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}
PATIENCE = 60.0  # seconds; it takes about two


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    """The functions' roles may do what they say, and no more."""
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def installed(aws: LocalAWS) -> Administrator:
    """Of an account with the platform and a model archive that is none."""
    administrator = new_administrator(aws)
    administrator.run("install", "--yes", "--artifact-buckets", "my-artifacts", "--batch-buckets", "data")
    s3 = administrator.client("s3")
    for bucket, key, body in (("my-artifacts", "model.tar.gz", b"no archive"), ("data", "in/rows.csv", b"1,2\n")):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    return administrator


@pytest.fixture
def told(installed: Administrator) -> Iterator[str]:
    """The address of a queue that gets what the topic is told."""
    sqs = installed.client("sqs")
    queue = sqs.create_queue(QueueName="watching")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": installed.settings.topic_arn}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    subscription = installed.client("sns").subscribe(
        TopicArn=installed.settings.topic_arn,
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"RawMessageDelivery": "true"},
        ReturnSubscriptionArn=True,
    )
    yield queue
    installed.client("sns").unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    sqs.delete_queue(QueueUrl=queue)


def tags(project: str) -> list[dict[str, str]]:
    values = {"sagemaker:project-name": project, "sagemaker:project-id": "p-123456789012"}
    values |= {"modelyard:project": project, "modelyard:stage": "dev"}
    return [{"Key": key, "Value": value} for key, value in values.items()]


def message_with(installed: Administrator, queue: str, phrase: str) -> str:
    """The first message that has the phrase."""
    end = time.monotonic() + PATIENCE
    seen = []
    while time.monotonic() < end:
        for message in installed.client("sqs").receive_message(QueueUrl=queue).get("Messages", []):
            seen.append(message["Body"])
            if phrase in message["Body"]:
                return str(message["Body"])
        time.sleep(0.05)
    raise AssertionError(f"nobody told of {phrase!r}; told was {seen}")


@pytest.mark.slow
def test_an_approval_reaches_the_controller_and_its_end_whoever_watches(installed: Administrator, told: str) -> None:
    """Of a version without a stage file: it cannot be deployed, and so is rejected with that reason."""
    sagemaker = installed.client("sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName="churn-dev", Tags=tags("churn"))
    version = sagemaker.create_model_package(
        ModelPackageGroupName="churn-dev",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification=SPECIFICATION,
    )["ModelPackageArn"]
    sagemaker.update_model_package(ModelPackageArn=version, ModelApprovalStatus="Approved")

    assert "deployment.prefix" in message_with(installed, told, "could not be deployed")
    described = sagemaker.describe_model_package(ModelPackageName=version)
    assert described["ModelApprovalStatus"] == "Rejected"
    assert "deployment.prefix" in described["ApprovalDescription"]
    ledger = Ledger(installed.client("dynamodb"), installed.settings.ledger_table)
    assert "approve" in {entry.kind for entry in ledger.entries("churn-dev")}


@pytest.mark.slow
def test_a_schedule_starts_a_transform_job_and_its_failure_is_told(installed: Administrator, told: str) -> None:
    sagemaker, settings = installed.client("sagemaker"), installed.settings
    sagemaker.create_model_package_group(ModelPackageGroupName="somebodys")
    version = sagemaker.create_model_package(
        ModelPackageGroupName="somebodys", ModelApprovalStatus="Approved", InferenceSpecification=SPECIFICATION
    )["ModelPackageArn"]
    role = installed.client("iam").get_role(RoleName=settings.default_model_role)["Role"]["Arn"]
    sagemaker.create_model(
        ModelName="batch-dev-1", ExecutionRoleArn=role, Containers=[{"ModelPackageName": version}], Tags=tags("batch")
    )
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}
    call: dict[str, Any] = {
        "endpoint": "batch-dev",
        "number": 1,
        "package_arn": version,
        "scheduled_time": "<aws.scheduler.scheduled-time>",
        "transform": {
            "ModelName": "batch-dev-1",
            "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/csv", "SplitType": "Line"},
            "TransformOutput": {"S3OutputPath": "s3://data/out"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            "Tags": tags("batch"),
        },
    }
    at = datetime.now(UTC) + timedelta(seconds=2)
    installed.client("scheduler").create_schedule(
        Name="batch-dev",
        GroupName=settings.schedule_group,
        ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": settings.batch_function_arn,
            "RoleArn": settings.schedule_role_arn,
            "Input": json.dumps(call),
        },
    )
    message = message_with(installed, told, "batch transform job failed")
    assert "valid tar.gz archive" in message
    (job,) = sagemaker.list_transform_jobs()["TransformJobSummaries"]
    assert job["TransformJobName"] == f"batch-dev-1-{at:%Y%m%dT%H%M}"
