"""A server that is killed (SIGKILL) while clients use it: nothing is lost that any of them was told."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import signal
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from local_aws import LocalAWS
from tests import proof
from tests.local_aws.job_requests import Workshop
from tests.local_aws.model_programs import IMAGE, SCRIPT_MODE, named
from tests.local_aws.waiting import wait_for

SPEED = 600.0
KILLS = 30
ACCOUNT = "123456789012"


class Clients:
    """What each of several clients was told, and whether it is still so.

    Args:
        aws: the server; it is at the same address after each kill.
    """

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        self.workshop = Workshop(aws)
        services = ("sagemaker", "sagemaker-runtime", "s3", "dynamodb", "sqs", "ssm", "events", "iam")
        self.clients = {service: aws.client(service) for service in services}
        sqs, events = self.clients["sqs"], self.clients["events"]
        self.queues = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("approvals", "messages")}
        pattern = {"detail-type": ["SageMaker Model Package State Change"]}
        events.put_rule(Name="approvals", EventPattern=json.dumps(pattern))
        target = {"Id": "queue", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:approvals"}
        events.put_targets(Rule="approvals", Targets=[target])
        self.clients["sagemaker"].create_model_package_group(ModelPackageGroupName="churn")
        self.clients["dynamodb"].create_table(
            TableName="ledger",
            KeySchema=[{"AttributeName": "project", "KeyType": "HASH"}, {"AttributeName": "entry", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "project", "AttributeType": "S"},
                {"AttributeName": "entry", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        self.told: dict[str, list[str]] = {name: [] for name in self.deeds}
        self.endpoints: dict[str, str] = {}  # the newest configuration that each was told to have
        self.events: set[str] = set()  # versions of whose approval an event has come
        self.messages: set[str] = set()

    @property
    def deeds(self) -> dict[str, Callable[[str], str]]:
        return {
            "version": self._register,
            "approval": self.approve,
            "object": self._put_object,
            "entry": self._put_entry,
            "message": self._send,
            "parameter": self._put_parameter,
            "role": self._create_role,
            "endpoint": self._deploy,
        }

    def load(self, stop: threading.Event, number: int) -> list[threading.Thread]:
        """Everybody does what they do, until the server is gone."""

        def run(kind: str, deed: Callable[[str], str]) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                try:
                    self.told[kind].append(deed(f"{number}-{count}"))
                except (BotoCoreError, ClientError):  # the server has gone, or the endpoint is still changing
                    stop.wait(0.02)

        threads = [threading.Thread(target=run, args=item, name=item[0]) for item in self.deeds.items()]
        for thread in threads:
            thread.start()
        return threads

    def check(self, since: Mapping[str, int]) -> None:
        """Everything that somebody was told is so.

        Args:
            since: how many of each kind were looked at before.
        """
        told = {kind: found[since.get(kind, 0) :] for kind, found in self.told.items()}
        sagemaker, s3 = self.clients["sagemaker"], self.clients["s3"]
        for arn in told["version"]:
            assert sagemaker.describe_model_package(ModelPackageName=arn)["ModelPackageArn"] == arn
        for arn in told["approval"]:
            assert sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Approved"
        for key in told["object"]:
            assert s3.get_object(Bucket=self.workshop.bucket, Key=key)["Body"].read() == key.encode() * 1000
        for name in told["parameter"]:
            assert self.clients["ssm"].get_parameter(Name=name)["Parameter"]["Value"] == name
        pages = self.clients["dynamodb"].get_paginator("scan").paginate(TableName="ledger", ConsistentRead=True)
        assert set(self.told["entry"]) <= {item["entry"]["S"] for page in pages for item in page["Items"]}
        pages = self.clients["iam"].get_paginator("list_roles").paginate()
        assert set(self.told["role"]) <= {role["RoleName"] for page in pages for role in page["Roles"]}

    def check_queues(self) -> None:
        """Every message and the event of every approval has come, at least once."""

        def lost() -> set[str]:
            while self._receive():
                pass
            return (set(self.told["approval"]) - self.events) | (set(self.told["message"]) - self.messages)

        wait_for(lambda: not lost(), otherwise=lambda: f"lost: {lost()}")

    def check_endpoints(self) -> None:
        """Every endpoint is in service at last, and answers by the model that it was told to have or a later one."""
        for name, config in self.endpoints.items():
            described = wait_for(functools.partial(self.settled, name))
            assert described["EndpointStatus"] == "InService", described
            served = described["EndpointConfigName"]
            assert int(served.rpartition("-")[2]) >= int(config.rpartition("-")[2])
            assert self.ask(name) == served

    def ask(self, endpoint: str) -> str:
        answer = self.clients["sagemaker-runtime"].invoke_endpoint(
            EndpointName=endpoint, Body=b"?", ContentType="text/csv"
        )
        return answer["Body"].read().decode().partition(":")[0]

    def answers(self, endpoint: str) -> str | None:
        """The model that answers, None while none does."""
        with contextlib.suppress(BotoCoreError, ClientError):
            return self.ask(endpoint)
        return None

    def settled(self, name: str) -> dict[str, Any] | None:
        described = self.clients["sagemaker"].describe_endpoint(EndpointName=name)
        return described if described["EndpointStatus"] in ("InService", "Failed") else None

    def _receive(self) -> bool:
        """Take what is in the queues; False when there is nothing."""
        found = False
        for name, url in self.queues.items():
            messages = self.clients["sqs"].receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for message in messages:
                if name == "messages":
                    self.messages.add(message["MessageId"])
                else:
                    detail = json.loads(message["Body"])["detail"]
                    if detail["ModelApprovalStatus"] == "Approved":
                        self.events.add(detail["ModelPackageArn"])
                self.clients["sqs"].delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found = found or bool(messages)
        return found

    def _register(self, number: str) -> str:
        return self.clients["sagemaker"].create_model_package(
            ModelPackageGroupName="churn", ModelApprovalStatus="PendingManualApproval"
        )["ModelPackageArn"]

    def approve(self, number: str) -> str:
        arn = self._register(number)
        self.clients["sagemaker"].update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
        return arn

    def _put_object(self, number: str) -> str:
        key = f"objects/{number}"
        self.clients["s3"].put_object(Bucket=self.workshop.bucket, Key=key, Body=key.encode() * 1000)
        return key

    def _put_entry(self, number: str) -> str:
        item = {"project": {"S": "churn"}, "entry": {"S": number}}
        self.clients["dynamodb"].put_item(
            TableName="ledger", Item=item, ConditionExpression="attribute_not_exists(entry)"
        )
        return number

    def _send(self, number: str) -> str:
        return self.clients["sqs"].send_message(QueueUrl=self.queues["messages"], MessageBody=number)["MessageId"]

    def _put_parameter(self, number: str) -> str:
        self.clients["ssm"].put_parameter(Name=f"/{number}", Value=f"/{number}", Type="String")
        return f"/{number}"

    def _create_role(self, number: str) -> str:
        policy = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
        document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
        self.clients["iam"].create_role(RoleName=f"role-{number}", AssumeRolePolicyDocument=document)
        return f"role-{number}"

    def _deploy(self, number: str) -> str:
        """Create the endpoint "churn" when there is none, else update it."""
        sagemaker = self.clients["sagemaker"]
        wait = threading.Event()
        wait.wait(0.2)  # a container is a process: few of them
        config = f"churn-{time.time_ns()}"
        self.model(config)
        if "churn" not in self.endpoints:
            with contextlib.suppress(ClientError):  # there is one: its creation was not acknowledged
                sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName=config)
                self.endpoints["churn"] = config
                return config
        sagemaker.update_endpoint(EndpointName="churn", EndpointConfigName=config)
        self.endpoints["churn"] = config
        return config

    def model(self, name: str) -> None:
        """A model that answers with its name, and a configuration of the same name."""
        container = {
            "Image": IMAGE,
            "ModelDataUrl": self.workshop.put(f"{name}.tar.gz", named(name)),
            "Environment": SCRIPT_MODE,
        }
        sagemaker = self.clients["sagemaker"]
        sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=self.workshop.role)
        variant = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant | {"ModelName": name}])


def kill_under_load(state: Path, kills: int, seed: int) -> Clients:
    """Kill the server at random points of its clients' work, and look each time whether anything is lost."""
    chance = random.Random(seed)
    with LocalAWS(state=state, clock_speed=SPEED) as aws:
        clients = Clients(aws)
        for number in range(kills):
            before = {kind: len(told) for kind, told in clients.told.items()}
            stop = threading.Event()
            threads = clients.load(stop, number)
            time.sleep(chance.uniform(0.2, 1.2))
            aws.kill()
            stop.set()
            for thread in threads:
                thread.join()
            aws.restart(kill=True)
            clients.check(before)
        clients.check({})
        clients.check_queues()
        clients.check_endpoints()
    return clients


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Of a server with a state folder, which the tests below kill one after the other."""
    with LocalAWS(state=tmp_path_factory.mktemp("state"), clock_speed=SPEED) as aws:
        yield Clients(aws)


def kill(aws: LocalAWS, kind: str, name: str) -> None:
    """End a process that runs for the server."""
    processes = aws.settings("processes")["processes"]
    (pid,) = [each["pid"] for each in processes if (each["kind"], each["name"]) == (kind, name)]
    os.kill(pid, signal.SIGKILL)


def role(clients: Clients, name: str, service: str) -> str:
    """A role that a service may assume; its ARN."""
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": f"{service}.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return clients.clients["iam"].create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]


def function(clients: Clients, name: str, code: str) -> str:
    """A function with this program; its ARN."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("main.py", textwrap.dedent(code))
    return clients.aws.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=role(clients, name, "lambda"),
        Handler="main.handle",
        Timeout=30,
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"QUEUE": clients.queues["messages"]}},
    )["FunctionArn"]


def bodies(clients: Clients, queue: str) -> list[str]:
    """The messages that are in a queue now; they are taken."""
    url, sqs = clients.queues[queue], clients.clients["sqs"]
    found = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        for message in messages:
            found.append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_what_serves_comes_back_when_the_data_plane_or_a_container_is_killed(clients):
    clients.model("sturdy-1")
    clients.clients["sagemaker"].create_endpoint(EndpointName="sturdy", EndpointConfigName="sturdy-1")
    assert wait_for(lambda: clients.settled("sturdy"))["EndpointStatus"] == "InService"

    kill(clients.aws, "data-plane", "data-plane")
    assert wait_for(lambda: clients.answers("sturdy")) == "sturdy-1"

    kill(clients.aws, "endpoint", "sturdy")
    assert wait_for(lambda: clients.answers("sturdy")) == "sturdy-1"


@pytest.mark.slow
def test_an_event_that_was_on_its_way_comes_after_the_restart(clients):
    clients.aws.configure("events", {"delay_seconds": 600})
    arn = clients.approve("1")
    clients.aws.restart(kill=True)

    wait_for(lambda: any(arn in body and "Approved" in body for body in bodies(clients, "approvals")))


@pytest.mark.slow
def test_an_asynchronous_invocation_that_was_under_way_is_made_again_after_the_restart(clients):
    code = """
        import boto3, os, time
        def handle(event, context):
            time.sleep(1)
            boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=event)
    """
    name = function(clients, "slow", code)
    clients.aws.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload='"it ran"')
    clients.aws.restart(kill=True)

    wait_for(lambda: "it ran" in bodies(clients, "messages"))


@pytest.mark.slow
def test_a_message_that_a_function_was_handling_comes_again_after_its_timeout(clients):
    sqs = clients.clients["sqs"]
    attributes = {"VisibilityTimeout": "600"}  # a second at this clock
    url = sqs.create_queue(QueueName="work", Attributes=attributes)["QueueUrl"]
    code = """
        import boto3, os, time
        def handle(event, context):
            if event["Records"][0]["attributes"]["ApproximateReceiveCount"] == "1":
                time.sleep(20)
            boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody="handled")
    """
    name = function(clients, "worker", code)
    source = f"arn:aws:sqs:us-east-1:{ACCOUNT}:work"
    clients.aws.client("lambda").create_event_source_mapping(FunctionName=name, EventSourceArn=source, BatchSize=1)
    sqs.send_message(QueueUrl=url, MessageBody="work")
    wait_for(lambda: [each for each in clients.aws.settings("processes")["processes"] if each["name"] == "worker"])
    time.sleep(1.0)  # what no request does is written within half a second
    clients.aws.restart(kill=True)

    wait_for(lambda: "handled" in bodies(clients, "messages"))


@pytest.mark.slow
def test_a_stack_that_was_being_created_has_failed_after_the_restart_and_can_be_deleted(clients):
    cloudformation, sns = clients.aws.client("cloudformation"), clients.aws.client("sns")

    def topics() -> list[str]:
        return [each["TopicArn"] for each in sns.list_topics()["Topics"] if each["TopicArn"].endswith(":of-the-stack")]

    # A custom resource whose creation is never answered.
    arn = function(
        clients,
        "silent",
        """
        import json
        import urllib.request

        def handle(event, context):
            if event["RequestType"] == "Create":
                return
            answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId", "PhysicalResourceId")}
            body = json.dumps(answer | {"Status": "SUCCESS"}).encode()
            put = urllib.request.Request(event["ResponseURL"], body, {"Content-Type": ""}, method="PUT")
            urllib.request.urlopen(put).read()
        """,
    )
    resources = {
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-the-stack"}},
        "Silent": {"Type": "Custom::Silent", "DependsOn": "Topic", "Properties": {"ServiceToken": arn}},
    }
    cloudformation.create_stack(StackName="halfway", TemplateBody=json.dumps({"Resources": resources}))
    wait_for(topics)
    time.sleep(1.0)
    clients.aws.restart(kill=True)

    stack = cloudformation.describe_stacks(StackName="halfway")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_FAILED"
    assert "local_aws was stopped" in stack["StackStatusReason"]
    cloudformation.delete_stack(StackName="halfway")
    wait_for(lambda: not topics())


@pytest.mark.slow
def test_a_schedule_that_became_due_while_the_server_was_gone_fires_after_the_restart(clients):
    at = datetime.fromtimestamp(clients.aws.settings("clock")["now"] + SPEED * 2, UTC)
    clients.aws.client("scheduler").create_schedule(
        Name="once",
        ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:messages",
            "RoleArn": role(clients, "scheduler", "scheduler"),
            "Input": '"it fired"',
        },
    )
    time.sleep(0.7)
    clients.aws.restart(kill=True)

    wait_for(lambda: '"it fired"' in bodies(clients, "messages"))


@pytest.mark.slow
def test_an_object_that_was_being_overwritten_is_the_old_one_or_the_new_one(tmp_path):
    with LocalAWS(state=tmp_path) as aws:
        s3 = aws.client("s3")
        for bucket in ("plain", "versioned"):
            s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket="plain", Key="folder/key", Body=b"before")
        version = s3.put_object(Bucket="versioned", Key="folder/key", Body=b"before")["VersionId"]
        aws.kill()
    # As a put leaves it that was killed between its files: the old version, when there are versions, then the body.
    kept = tmp_path / "s3" / ".versions" / ACCOUNT / "versioned" / version / "folder" / "key"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"before")
    time.sleep(0.02)
    for bucket in ("plain", "versioned"):
        (tmp_path / "s3" / ACCOUNT / bucket / "folder" / "key").write_bytes(b"never acknowledged")

    with LocalAWS(state=tmp_path) as aws:
        s3 = aws.client("s3")
        plain, versioned = (s3.get_object(Bucket=bucket, Key="folder/key") for bucket in ("plain", "versioned"))
        assert plain["Body"].read() == b"never acknowledged"
        assert plain["ETag"] == f'"{hashlib.md5(b"never acknowledged").hexdigest()}"'
        assert (versioned["Body"].read(), versioned["VersionId"]) == (b"before", version)


def test_nothing_is_lost_that_clients_were_told_when_the_server_is_killed_under_load(tmp_path):
    clients = kill_under_load(tmp_path / "state", kills=2, seed=5)

    assert all(clients.told.values()), {kind: len(told) for kind, told in clients.told.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_lost_in_many_kills(tmp_path):
    clients = kill_under_load(tmp_path / "state", kills=KILLS, seed=1)

    told = {f"{kind}: told and found": len(found) for kind, found in clients.told.items()}
    proof.keep("kill", {"kills": KILLS, **told})
