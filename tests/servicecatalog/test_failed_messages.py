"""Two queues for what nobody could answer: modelyard-failed, of which `replay` does what its messages say, takes none
from a project; what projects' schedules could not start lies in modelyard-retraining-failed, by which nothing is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.ministack_host import policies_allow
from local_aws.permissions.decisions import Decision, frozen_context
from servicecatalog import account
from tests.local_aws.clients import refused
from tests.local_aws.people import role_session
from tests.local_aws.waiting import wait_for
from tests.servicecatalog import template
from tests.servicecatalog.permitted import allowed

FOLDER = Path(account.__file__).parent
VALUES = {"CodeBucket": "code", "CodeKey": "code.zip", "SeedCodeKey": "seed.zip"}
PLATFORM = template.resolved(template.load(account.TEMPLATE), VALUES)
PROJECT = {"SageMakerProjectName": "churn", "SageMakerProjectId": "p-123456789012"}
PRODUCT = template.load(FOLDER / "product.yaml")
HOSTS = ("codecommit", "github")
PLACE = "eu-west-1:111122223333"
ROLE = "arn:aws:iam::111122223333:role/modelyard/"
SEND = "sqs:SendMessage"
RETRAINING = "modelyard-retraining-failed"
QUEUES = [one["Properties"]["QueueName"] for one in PLATFORM.values() if one["Type"] == "AWS::SQS::Queue"]
OPERATOR = [PLATFORM["OperatorPolicy"]["Properties"]["PolicyDocument"]]


def product(host: str) -> dict[str, Any]:
    return template.resolved(PRODUCT, PROJECT | {"GitHost": host, "GitOwner": "acme"})


def roles(resources: dict[str, Any]) -> list[str]:
    found = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::IAM::Role"]
    return [f"arn:aws:iam::111122223333:role{one['Path']}{one['RoleName']}" for one in found]


def queue(name: str) -> str:
    return f"arn:aws:sqs:{PLACE}:{name}"


def policy_of(name: str) -> dict[str, Any]:
    (found,) = (
        one["Properties"]["PolicyDocument"]
        for one in PLATFORM.values()
        if one["Type"] == "AWS::SQS::QueuePolicy"
        and one["Properties"]["PolicyDocument"]["Statement"][0]["Resource"] == queue(name)
    )
    return dict(found)


def takes(name: str, principal: str) -> bool:
    """Whether a queue's policy lets a principal send that may do everything by its own."""
    anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}]}
    asked = Decision(principal, SEND, queue(name), "eu-west-1", frozen_context({}), True)
    return policies_allow([anything, policy_of(name)])(asked)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", QUEUES)
def test_nobody_of_a_project_sends_to_a_queue_by_which_the_platform_does_something(host: str, name: str) -> None:
    policies = template.policies(product(host))  # every one that the product gives to anybody
    sends = [who for who, document in policies.items() if allowed([document], SEND, queue(name))]
    assert sends == (["RetrainRole/retrain"] if name == RETRAINING else [])


@pytest.mark.parametrize("name", QUEUES)
def test_nor_would_a_boundary_let_him(name: str) -> None:
    documents = {
        each: PLATFORM[each]["Properties"]["PolicyDocument"] for each in ("ProjectBoundary", "DeliveryBoundary")
    }
    lets = [each for each, document in documents.items() if allowed([document], SEND, queue(name))]
    assert lets == (["DeliveryBoundary"] if name == RETRAINING else [])


@pytest.mark.parametrize("host", HOSTS)
def test_what_replay_reads_refuses_every_role_of_a_project_and_none_of_the_platforms(host: str) -> None:
    """Whatever their own policies allow: those of a product's older version may send there."""
    theirs, ours = roles(product(host)), roles(PLATFORM)
    assert f"{ROLE}ci/churn-ci-retrain" in theirs
    assert f"{ROLE}modelyard-batch-eu-west-1" in ours
    assert [role for role in theirs if takes("modelyard-failed", role)] == []
    models = f"{ROLE}models/modelyard-model-eu-west-1"  # of whatever a project serves that has no role of its own
    assert [role for role in ours if not takes("modelyard-failed", role)] == [models]


def test_the_retraining_schedule_names_the_queue_that_there_is() -> None:
    source = (FOLDER.parent / "{{cookiecutter.project}}" / "pipeline" / "retraining.py").read_text(encoding="utf-8")
    assert f'GROUP, FAILED = "modelyard", "{RETRAINING}"' in source
    own, same = (PLATFORM[name]["Properties"] for name in ("RetrainingFailedQueue", "FailedQueue"))
    assert own == same | {"QueueName": RETRAINING}


def test_nothing_is_done_by_what_lies_there_and_operators_read_and_empty_it() -> None:
    arn = queue(RETRAINING)
    readers = [
        name for name, document in template.policies(PLATFORM).items() if allowed([document], "sqs:ReceiveMessage", arn)
    ]
    assert readers == ["OperatorPolicy"]
    sources = [one["Properties"] for one in PLATFORM.values() if one["Type"] == "AWS::Lambda::EventSourceMapping"]
    assert arn not in [one["EventSourceArn"] for one in sources]
    for action in ("GetQueueUrl", "GetQueueAttributes", "ReceiveMessage", "PurgeQueue"):
        assert allowed(OPERATOR, f"sqs:{action}", arn)
    for action in ("SendMessage", "StartMessageMoveTask"):
        assert not allowed(OPERATOR, f"sqs:{action}", arn)


def test_an_alarm_tells_of_what_lies_there() -> None:
    (alarm,) = (
        one["Properties"]
        for one in PLATFORM.values()
        if {"Name": "QueueName", "Value": RETRAINING} in one.get("Properties", {}).get("Dimensions", [])
    )
    same = PLATFORM["FailedMessagesAlarm"]["Properties"]
    own = ("AlarmName", "AlarmDescription", "Dimensions")
    assert {key: value for key, value in alarm.items() if key not in own} == {
        key: value for key, value in same.items() if key not in own
    }


# ------------------------------------------------------------------------------------------------ tried


class Scene:
    """Both queues with the platform's policies, where IAM is enforced."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws, self.sqs, self.iam = aws, aws.client("sqs"), aws.client("iam")
        self.scheduler = aws.client("scheduler")
        self.here = f"{aws.server.region}:{aws.server.account}"
        self.urls = {}
        for name in ("modelyard-failed", RETRAINING):
            text = json.dumps(policy_of(name)).replace(PLACE, self.here).replace("111122223333", aws.server.account)
            made = self.sqs.create_queue(QueueName=name, Attributes={"Policy": text})
            self.urls[name] = made["QueueUrl"]
        self.scheduler.create_schedule_group(Name="modelyard")

    def arn(self, name: str) -> str:
        return f"arn:aws:sqs:{self.here}:{name}"

    def role(self, path: str, name: str, service: str) -> str:
        """A role that may send to both queues, as far as its own policy goes."""
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        trusting = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        made = self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=trusting)["Role"]["Arn"]
        may = {"Effect": "Allow", "Action": SEND, "Resource": [self.arn(each) for each in self.urls]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [may]})
        self.iam.put_role_policy(RoleName=name, PolicyName="send", PolicyDocument=document)
        return str(made)

    def messages(self, name: str) -> list[dict[str, Any]]:
        asked = {"QueueUrl": self.urls[name], "MessageAttributeNames": ["All"]}
        return list(self.sqs.receive_message(**asked).get("Messages", []))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with LocalAWS(enforce_iam=True, clock_speed=600) as aws:
        yield Scene(aws)


def test_a_project_cannot_have_its_schedule_ask_for_the_removal_of_anothers_endpoint(scene: Scene) -> None:
    """With the role of a product's older version, which may send to modelyard-failed."""
    retrain = scene.role("/modelyard/ci/", "churn-ci-retrain", "scheduler.amazonaws.com")
    removal = json.dumps({"look": "remove", "endpoint": "victim-prod", "by": "arn:stack", "why": "it is being deleted"})
    events = {"TARGET_ARN": {"DataType": "String", "StringValue": scene.arn("modelyard-events")}}
    forged = {"QueueUrl": scene.urls["modelyard-failed"], "MessageBody": removal, "MessageAttributes": events}
    scene.scheduler.create_schedule(
        Name="churn-retrain",
        GroupName="modelyard",
        ScheduleExpression="rate(1 minute)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage",
            "RoleArn": retrain,
            "Input": json.dumps(forged),
            "DeadLetterConfig": {"Arn": scene.arn(RETRAINING)},
        },
    )
    (letter,) = wait_for(lambda: scene.messages(RETRAINING))[:1]
    scene.scheduler.delete_schedule(Name="churn-retrain", GroupName="modelyard")
    assert "explicit deny" in letter["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]
    assert json.loads(letter["Body"]) == forged
    assert scene.messages("modelyard-failed") == []


def test_a_function_of_the_platforms_still_leaves_there_what_it_could_not_answer(scene: Scene) -> None:
    for path, name, denied in (
        ("/modelyard/", "modelyard-batch-us-east-1", False),
        ("/modelyard/pipelines/", "churn-pipeline-dev", True),
        ("/modelyard/models/", "churn-model", True),
    ):
        session = role_session(scene.aws, scene.role(path, name, "lambda.amazonaws.com"))
        client = scene.aws.client("sqs", credentials=session)
        request = {"QueueUrl": scene.urls["modelyard-failed"], "MessageBody": name}
        if denied:
            assert "explicit deny" in refused(partial(client.send_message, **request))[1]
        else:
            client.send_message(**request)
    assert [one["Body"] for one in scene.messages("modelyard-failed")] == ["modelyard-batch-us-east-1"]
