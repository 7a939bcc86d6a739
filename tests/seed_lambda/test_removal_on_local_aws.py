"""A project is deleted through CloudFormation in local_aws, and the controller takes its endpoints away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from lifecycle_lambdas.context import Context as ControllersContext
from lifecycle_lambdas.handlers import deploy
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from tests.lifecycle_lambdas.conftest import IMAGE, LocalClients, create_table
from tests.seed_lambda.platform import Platform
from tests.seed_lambda.requests import VERSION
from tests.seed_lambda.small_template import ARCHIVE

ROLE_TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}
DEFINITION = {
    "Version": "2020-12-01",
    "Steps": [{"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "nothing to do"}}],
}


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with LocalAWS() as aws:
        made = Platform(aws, "codecommit", ARCHIVE, VERSION)
        made.s3.create_bucket(Bucket="models")
        made.s3.put_object(Bucket="models", Key="model.tar.gz", Body=b"")
        made.announce(made.publish(VERSION))
        yield made


@pytest.fixture(scope="module")
def clients(platform: Platform) -> LocalClients:
    return LocalClients(platform.aws)


@contextmanager
def controller(clients: LocalClients) -> Iterator[None]:
    """The deploy function behind its queue, in a thread."""
    sqs = clients("sqs")
    queue = sqs.get_queue_url(QueueName="events-codecommit")["QueueUrl"]
    settings = Settings(
        ledger_table=create_table(clients("dynamodb")),
        queue_url=queue,
        topic_arn=clients("sns").create_topic(Name="news")["TopicArn"],
        model_role_path="/modelyard/models/",
        default_model_role="default",
        batch_function_arn="arn:aws:lambda:us-east-1:123456789012:function:batch",
        schedule_role_arn="arn:aws:iam::123456789012:role/schedules",
        schedule_group="modelyard",
    )
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            found = sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"]
            ).get("Messages", [])
            records = [
                {
                    "messageId": one["MessageId"],
                    "receiptHandle": one["ReceiptHandle"],
                    "body": one["Body"],
                    "attributes": one["Attributes"],
                }
                for one in found
            ]
            if not records:
                continue
            deploy.respond(ControllersContext.of(settings, clients, "test", 60), {"Records": records})
            for one in found:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def register(sagemaker: Any, group: str, versions: int) -> None:
    def one(_: int) -> None:
        sagemaker.create_model_package(
            ModelPackageGroupName=group,
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={
                "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://models/model.tar.gz"}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
        )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, range(versions)))


def tag_list(project: str, stage: str) -> list[dict[str, str]]:
    tags = {"modelyard:project": project, "modelyard:stage": stage}
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def leave_behind(clients: LocalClients, project: str, stage: str) -> None:
    """What a deployment leaves when somebody deletes its endpoint by hand."""
    sagemaker, name = clients("sagemaker"), f"{project}-{stage}"
    role = clients("iam").create_role(RoleName=f"{name}-model", AssumeRolePolicyDocument=json.dumps(ROLE_TRUST))
    sagemaker.create_model(
        ModelName=f"{name}-1",
        ExecutionRoleArn=role["Role"]["Arn"],
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": "s3://models/model.tar.gz"},
        Tags=tag_list(project, stage),
    )
    variant = {"VariantName": "AllTraffic", "ModelName": f"{name}-1"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-1",
        ProductionVariants=[{**variant, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}],
        Tags=tag_list(project, stage),
    )
    clients("cloudwatch").put_metric_alarm(
        AlarmName=f"{name}-errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.1,
        ComparisonOperator="GreaterThanThreshold",
        Tags=tag_list(project, stage),
    )
    clients("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=json.dumps({"widgets": []}))


def delete(platform: Platform, name: str, deadline: float) -> str:
    """Delete the project's stack; its last status."""
    stack = platform.stacks.describe_stacks(StackName=f"project-{name}")["Stacks"][0]["StackId"]
    platform.stacks.delete_stack(StackName=stack)
    while time.monotonic() < deadline:
        status = str(platform.stacks.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])
        if not status.endswith("IN_PROGRESS"):
            return status
        time.sleep(1)
    raise AssertionError(f"{name} is still being deleted")


def left(clients: LocalClients, project: str) -> dict[str, list[str]]:
    """What carries the project's name, whosever it is."""
    sagemaker, cloudwatch = clients("sagemaker"), clients("cloudwatch")
    found = {
        "groups": [
            one["ModelPackageGroupName"]
            for one in sagemaker.list_model_package_groups(NameContains=project)["ModelPackageGroupSummaryList"]
        ],
        "models": [one["ModelName"] for one in sagemaker.list_models(NameContains=project)["Models"]],
        "configs": [
            one["EndpointConfigName"]
            for one in sagemaker.list_endpoint_configs(NameContains=project)["EndpointConfigs"]
        ],
        "pipelines": [
            one["PipelineName"] for one in sagemaker.list_pipelines(PipelineNamePrefix=project)["PipelineSummaries"]
        ],
        "alarms": [one["AlarmName"] for one in cloudwatch.describe_alarms(AlarmNamePrefix=project)["MetricAlarms"]],
        "dashboards": [
            one["DashboardName"] for one in cloudwatch.list_dashboards(DashboardNamePrefix=project)["DashboardEntries"]
        ],
    }
    return {kind: sorted(names) for kind, names in found.items() if names}


@pytest.mark.parametrize("on_delete", ["keep", "delete"])
def test_what_a_project_owned_is_gone_and_its_neighbours_things_are_not(
    platform: Platform, clients: LocalClients, on_delete: str
) -> None:
    name, neighbour = f"churn-{on_delete}", f"churn-{on_delete}-2"
    for project in (name, neighbour):
        made = platform.create(project, OnDelete=on_delete)
        assert made.status == "CREATE_COMPLETE", made.reasons
        register(platform.sagemaker, f"{project}-dev", 30)
        leave_behind(clients, project, "dev")
        role = clients("iam").create_role(
            RoleName=f"{project}-pipeline", AssumeRolePolicyDocument=json.dumps(ROLE_TRUST)
        )
        for pipeline in (f"{project}-dev", f"{project}-feature-x-1a2b3c"):
            platform.sagemaker.create_pipeline(
                PipelineName=pipeline,
                PipelineDefinition=json.dumps(DEFINITION),
                RoleArn=role["Role"]["Arn"],
                ClientRequestToken=f"{pipeline}-{'0' * 32}",
                Tags=tag_list(project, "dev"),
            )
    platform.sagemaker.start_pipeline_execution(PipelineName=f"{name}-dev")
    of_neighbour = left(clients, neighbour)
    assert set(of_neighbour) == {"groups", "models", "configs", "pipelines", "alarms", "dashboards"}
    with controller(clients):
        deleted = platform.delete(name)
    assert deleted.status == "DELETE_COMPLETE", deleted.reasons
    assert left(clients, name) == of_neighbour
    assert platform.has_repository(name) == (on_delete == "keep")
    assert platform.has_repository(neighbour)


def test_what_a_roll_back_that_failed_has_left_goes_with_the_stack(platform: Platform, clients: LocalClients) -> None:
    """The repository too: nobody but the function has filled it."""
    full = {"operation": "CreateModelPackageGroup", "nth": 3, "code": "ResourceLimitExceeded"}
    denied = {"operation": "DeleteModelPackageGroup", "times": None, "code": "AccessDeniedException"}
    rules = [{"service": "sagemaker", "kind": "error", "status": 400, **rule} for rule in (full, denied)]
    platform.aws.configure("faults", {"rules": rules})
    try:
        made = platform.create("half")
    finally:
        platform.aws.configure("faults", {"rules": []})
    assert made.status == "ROLLBACK_FAILED"
    assert set(left(clients, "half")["groups"]) == {"half-feature", "half-dev"}
    assert platform.has_repository("half")

    with controller(clients):
        deleted = platform.delete("half")
    assert deleted.status == "DELETE_COMPLETE", deleted.reasons
    assert left(clients, "half") == {}
    assert not platform.has_repository("half")


@pytest.mark.slow
def test_three_thousand_versions_are_deleted(platform: Platform, clients: LocalClients) -> None:
    assert platform.create("many").status == "CREATE_COMPLETE"
    register(platform.sagemaker, "many-dev", 3000)
    with controller(clients):
        status = delete(platform, "many", time.monotonic() + 1500)
    assert status == "DELETE_COMPLETE"
    assert left(clients, "many") == {}
