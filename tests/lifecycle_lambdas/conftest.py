"""A ledger's table, and a context that points at local_aws, for each test its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.ledger import INDEX, Ledger
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS

LINEAGE = {"git.commit": "0a1b2c3d"}
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"


@pytest.fixture
def dynamodb(clients: LocalClients) -> Any:
    return clients("dynamodb")


def create_table(dynamodb: Any) -> str:
    """A new table, with the keys and the index of servicecatalog/platform.yaml; its name."""
    name = f"ledger-{uuid.uuid4().hex[:12]}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=_keys("endpoint", "item"),
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("endpoint", "item", "status")],
        GlobalSecondaryIndexes=[
            {"IndexName": INDEX, "KeySchema": _keys("status", "endpoint"), "Projection": {"ProjectionType": "ALL"}}
        ],
    )
    return name


@pytest.fixture
def table(dynamodb: Any) -> str:
    return create_table(dynamodb)


@pytest.fixture
def ledger(dynamodb: Any, table: str) -> Ledger:
    return Ledger(dynamodb, table)


class LocalClients(Clients):
    """Of the tests' server. Kept for a module's tests: reading SageMaker's service model takes a second."""

    def __init__(self, aws: LocalAWS) -> None:
        super().__init__()
        self._aws = aws

    def __call__(self, service: str, region: str | None = None) -> Any:
        key = service if region is None else f"{service}/{region}"
        if key not in self._made:
            self._made[key] = self._aws.client(service, region=region)
        return self._made[key]


@pytest.fixture(scope="module")
def clients(aws: LocalAWS) -> LocalClients:
    return LocalClients(aws)


@pytest.fixture
def calls(clients: LocalClients) -> Iterator[list[str]]:
    """The operations that the test has called so far, by AWS's names."""
    called: list[str] = []

    def note(model: Any, **_: Any) -> None:
        called.append(model.name)

    watched = [clients(service).meta.events for service in ("sagemaker", "dynamodb", "sns", "sqs", "s3")]
    for events in watched:
        events.register("before-call", note)
    yield called
    for events in watched:
        events.unregister("before-call", note)


@pytest.fixture
def context(aws: LocalAWS, clients: LocalClients, ledger: Ledger, table: str) -> Context:
    """With a queue and a topic of its own, and a minute left."""
    unique = uuid.uuid4().hex[:12]
    settings = Settings(
        ledger_table=table,
        queue_url=clients("sqs").create_queue(QueueName=f"deploy-{unique}")["QueueUrl"],
        tests_queue_url=clients("sqs").create_queue(QueueName=f"tests-{unique}")["QueueUrl"],
        topic_arn=clients("sns").create_topic(Name=f"news-{unique}")["TopicArn"],
        model_role_path="/modelyard/models/",
        default_model_role="default",
        batch_function_arn=f"arn:aws:lambda:{aws.server.region}:{aws.server.account}:function:batch",
        schedule_role_arn=f"arn:aws:iam::{aws.server.account}:role/schedules",
        schedule_group="modelyard",
    )
    return Context(settings, clients, ledger, owner="test", deadline=time.monotonic() + 60)


@pytest.fixture
def told(clients: LocalClients, context: Context) -> Callable[[], list[str]]:
    """Reads the texts of the messages that were told since it was asked last."""
    sqs, unique = clients("sqs"), uuid.uuid4().hex[:12]
    queue = sqs.create_queue(QueueName=f"watcher-{unique}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients("sns").subscribe(
        TopicArn=context.settings.topic_arn, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )

    def read() -> list[str]:
        texts: list[str] = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                texts.append(message["Body"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return texts

    return read


@pytest.fixture
def project() -> str:
    """A name that no other test has."""
    return f"churn-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def group(clients: LocalClients, project: str) -> str:
    """The model package group of the project's stage dev."""
    return make_group(clients, project, "dev")


def make_group(clients: LocalClients, project: str, stage: str, **tags: str) -> str:
    """Further tags as `modelyard:<name>`."""
    all_tags = {
        "sagemaker:project-name": project,
        "sagemaker:project-id": "p-123456789012",
        "modelyard:project": project,
        "modelyard:stage": stage,
    } | {f"modelyard:{name}": value for name, value in tags.items()}
    name = f"{project}-{stage}"
    clients("sagemaker").create_model_package_group(
        ModelPackageGroupName=name, Tags=[{"Key": key, "Value": value} for key, value in all_tags.items()]
    )
    return name


@pytest.fixture
def register(clients: LocalClients, group: str) -> Callable[..., str]:
    """Registers a version in the group; answers its ARN. Metadata have __ for a dot; without any, LINEAGE is taken."""

    def register(approval: str = "PendingManualApproval", group: str = group, **metadata: str) -> str:
        return clients("sagemaker").create_model_package(
            ModelPackageGroupName=group,
            ModelApprovalStatus=approval,
            InferenceSpecification={
                "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://models/model.tar.gz"}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
            CustomerMetadataProperties={name.replace("__", "."): value for name, value in metadata.items()} or LINEAGE,
        )["ModelPackageArn"]

    return register


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
