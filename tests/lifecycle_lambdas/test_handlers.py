"""The function behind the queue: from messages to entries, stamps, looks and news.

What a look does then is converge's, and is replaced here by one that is written down.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifecycle_lambdas import looking, metrics, recording
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.converge import Outcome
from lifecycle_lambdas.handlers import deploy
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.records import Entry, State
from tests.lifecycle_lambdas.conftest import IMAGE, LocalClients, make_group

TRUST = json.dumps(
    {
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]
    }
)
ROOT = "arn:aws:iam::123456789012:root"  # who calls, in local_aws


@dataclass
class Looks:
    """Stands for converge.look: writes down what it was asked to look at."""

    endpoints: list[str] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    asking: set[bool] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def look(self, endpoint: str, context: Context, asking: bool = True) -> Outcome:
        self.endpoints.append(endpoint)
        self.asking.add(asking)
        if endpoint in self.broken:
            raise RuntimeError(f"{endpoint} is broken")
        return Outcome(endpoint, busy=endpoint in self.busy, summary="looked")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    stand_in = Looks()
    monkeypatch.setattr(looking.converge, "look", stand_in.look)
    return stand_in


@pytest.fixture
def sagemaker(clients: LocalClients) -> Any:
    return clients("sagemaker")


def changed(sagemaker: Any, arn: str, *fields: str, **changes: Any) -> str:
    """The event that AWS sends of the version as it is now; without fields, one that does not say what was changed."""
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    detail = {
        "ModelPackageGroupName": package["ModelPackageGroupName"],
        "ModelPackageArn": arn,
        "CreationTime": f"{package['CreationTime'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "ModelApprovalStatus": package["ModelApprovalStatus"],
    }
    if "LastModifiedTime" in package:
        detail["LastModifiedTime"] = f"{package['LastModifiedTime'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if fields:
        detail["UpdatedModelPackageFields"] = fields
    event = {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Model Package State Change",
        "detail": detail | changes,
    }
    return json.dumps(event)


def decide(sagemaker: Any, arn: str, approval: str, why: str = "") -> str:
    """What people do, and the event that comes of it."""
    sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus=approval, **({"ApprovalDescription": why} if why else {})
    )
    return changed(sagemaker, arn, "ModelApprovalStatus")


def messages(*bodies: str) -> list[dict[str, Any]]:
    return [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]


def queued(context: Context) -> list[dict[str, Any]]:
    """What the controller asks itself, without delays."""
    sqs, bodies = context.client("sqs"), []
    while found := sqs.receive_message(QueueUrl=context.settings.queue_url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in found]
    return bodies


def stamps(sagemaker: Any, arn: str) -> dict[str, str]:
    return sagemaker.describe_model_package(ModelPackageName=arn).get("CustomerMetadataProperties", {})


def entries(context: Context, endpoint: str) -> list[Entry]:
    return list(context.ledger.entries(endpoint))


def counted(lines: list[dict[str, Any]]) -> list[float]:
    """Of the log's lines, the failures that the platform's alarm sees."""
    return [line[metrics.FAILING] for line in lines if metrics.FAILING in line]


# --- approvals


def test_an_approval_is_written_down_stamped_looked_at_and_told(context, looks, register, sagemaker, group, told):
    told()  # subscribes
    arn = register(git__commit="0a1b2c3")
    event = decide(sagemaker, arn, "Approved", "better")
    assert deploy.handle(context, messages(event)) == []

    (entry,) = entries(context, group)
    at = json.loads(event)["detail"]["LastModifiedTime"]
    assert (entry.kind, entry.package_arn, entry.by, entry.why) == ("approve", arn, ROOT, "better")
    assert (f"{entry.at:%Y-%m-%dT%H:%M:%SZ}", entry.source) == (at, "event")
    assert stamps(sagemaker, arn) == {"git.commit": "0a1b2c3", "approval.by": ROOT, "approval.at": at}
    assert looks.endpoints == [group]
    (text,) = told()
    assert text.startswith(f"{group}: version 1 approved by {ROOT}")
    assert "Commit: 0a1b2c3" in text


def test_the_endpoint_is_recorded_with_the_first_event_and_its_tags_are_read_once(
    context, looks, register, sagemaker, group, project, calls
):
    for _ in range(3):
        deploy.handle(context, messages(decide(sagemaker, register(), "Approved")))
    assert context.ledger.state(group) == State(group, project, "dev", group, "under-way", asked=3)
    assert calls.count("ListTags") == 1


def test_the_same_event_again_changes_nothing_and_tells_nothing_but_looks_again(
    context, looks, register, sagemaker, group, told
):
    told()
    arn = register()
    event = decide(sagemaker, arn, "Approved")
    deploy.handle(context, messages(event, event))
    before = sagemaker.describe_model_package(ModelPackageName=arn)["LastModifiedTime"]
    deploy.handle(context, messages(event))
    assert sagemaker.describe_model_package(ModelPackageName=arn)["LastModifiedTime"] == before
    assert len(entries(context, group)) == 1
    assert looks.endpoints == [group, group]
    assert len(told()) == 1


def test_the_event_of_our_own_stamp_is_nothing(context, looks, register, sagemaker, group):
    arn = register()
    deploy.handle(context, messages(decide(sagemaker, arn, "Approved")))
    looks.endpoints.clear()
    time.sleep(1.1)  # another second, as the stamp may be
    sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties={"a": "b"})
    for event in (changed(sagemaker, arn, "CustomerMetadataProperties"), changed(sagemaker, arn)):
        assert deploy.handle(context, messages(event)) == []
    assert len(entries(context, group)) == 1
    assert looks.endpoints == []


def test_approved_rejected_and_approved_again(context, looks, register, sagemaker, group):
    arn = register()
    for approval in ("Approved", "Rejected", "Approved"):
        deploy.handle(context, messages(decide(sagemaker, arn, approval)))
    assert {entry.kind for entry in entries(context, group)} == {"approve", "reject"}
    assert looks.endpoints == [group] * 3


def test_a_decision_without_a_reason_does_not_take_the_one_before_it(
    context, looks, register, sagemaker, endpoint, group
):
    """SageMaker keeps the description of an approval when the version is rejected without another one."""
    arn = register()
    decide(sagemaker, arn, "Approved", "better")
    hour_ago = whole_seconds(datetime.now(UTC) - timedelta(hours=1))
    context.ledger.append(Entry(group, "approve", hour_ago, arn, ROOT, "better", "event"))
    deploy.handle(context, messages(decide(sagemaker, arn, "Rejected")))
    assert [(entry.kind, entry.why) for entry in entries(context, group)] == [("reject", ""), ("approve", "better")]


def test_a_version_registered_as_approved_is_an_approval(context, looks, register, sagemaker, group):
    deploy.handle(context, messages(changed(sagemaker, register("Approved"))))
    assert [entry.kind for entry in entries(context, group)] == ["approve"]


def test_a_version_that_waits_is_nothing_yet(context, looks, register, sagemaker, group):
    deploy.handle(context, messages(changed(sagemaker, register())))
    assert (entries(context, group), looks.endpoints) == ([], [])


def test_a_version_gone_since_is_nothing(context, looks, register, sagemaker, group):
    arn = register()
    event = decide(sagemaker, arn, "Approved")
    sagemaker.delete_model_package(ModelPackageName=arn)
    assert deploy.handle(context, messages(event)) == []
    assert entries(context, group) == []


def test_an_approval_is_not_lost_when_the_version_has_no_room_for_the_stamp(
    context, looks, register, sagemaker, group, capsys
):
    arn = register(**{f"key-{number}": "x" for number in range(50)})
    assert deploy.handle(context, messages(decide(sagemaker, arn, "Approved"))) == []
    assert (len(entries(context, group)), looks.endpoints) == (1, [group])
    assert "could not be stamped" in capsys.readouterr().err


def test_the_controllers_own_rejection_is_written_down_but_not_told(context, looks, register, sagemaker, group, told):
    told()
    arn = register()
    sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Rejected",
        ApprovalDescription="Deployment 1 failed: ...",
        CustomerMetadataProperties={"deployment.status": "failed"},
    )
    deploy.handle(context, messages(changed(sagemaker, arn, "ModelApprovalStatus", "ApprovalDescription")))
    assert [(entry.kind, entry.source) for entry in entries(context, group)] == [("reject", "controller")]
    assert told() == []


def test_the_calls_of_an_approval_do_not_grow_with_the_versions(context, looks, register, sagemaker, group, calls):
    def approve_one() -> list[str]:
        event = decide(sagemaker, register(), "Approved")
        calls.clear()
        deploy.handle(context, messages(event))
        return sorted(calls)

    approve_one()  # this one also finds the endpoint
    second = approve_one()
    for number in range(25):
        arn = register("Approved")
        entry = Entry(group, "approve", datetime.now(UTC) - timedelta(hours=number), arn, ROOT, "", "event")
        context.ledger.append(entry)
    assert approve_one() == second
    assert len(second) < 15


def test_a_new_version_costs_the_same_however_long_the_ledger_is(context, looks, register, sagemaker, group, calls):
    deploy.handle(context, messages(changed(sagemaker, register("Approved"))))
    long_ago = datetime(2025, 1, 1, tzinfo=UTC)
    for number in range(30):
        at = long_ago + timedelta(hours=number)
        context.ledger.append(Entry(group, "park", at, None, ROOT, "", "command", until=at))
    arn = register("Approved")
    calls.clear()
    deploy.handle(context, messages(changed(sagemaker, arn)))
    # the newest entries are those of this test, and then come those from before it was registered
    assert calls.count("Query") <= 2


# --- whose groups


def test_an_event_with_names_in_lower_case_is_of_the_version_as_it_is_called(
    context, looks, register, sagemaker, clients, monkeypatch
):
    group = make_group(clients, f"Churn-{uuid.uuid4().hex[:6]}", "dev")
    arn = register("Approved", group=group)
    event = changed(sagemaker, arn, "ModelApprovalStatus", ModelPackageArn=arn.lower())
    # AWS finds it by either name
    real = sagemaker.describe_model_package
    monkeypatch.setattr(
        sagemaker,
        "describe_model_package",
        lambda ModelPackageName: real(ModelPackageName=arn if ModelPackageName == arn.lower() else ModelPackageName),
    )
    real_tags = sagemaker.list_tags(ResourceArn=f"{arn.partition(':model-package/')[0]}:model-package-group/{group}")
    monkeypatch.setattr(recording, "group_tags", lambda context, arn: {t["Key"]: t["Value"] for t in real_tags["Tags"]})

    assert deploy.handle(context, messages(event)) == []

    assert [entry.package_arn for entry in entries(context, group)] == [arn]
    assert looks.endpoints == [group]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"modelyard:project": "another", "modelyard:stage": "prod"},
        {"modelyard:project": "{project}", "modelyard:stage": "attic"},  # would fit, but there is no such stage
        {"modelyard:project": "{project}"},
    ],
)
def test_a_group_that_is_not_named_as_its_tags_say_takes_over_no_endpoint(context, looks, sagemaker, project, tags):
    own_group = f"{project}-attic"
    tag_list = [{"Key": key, "Value": value.format(project=project)} for key, value in tags.items()]
    sagemaker.create_model_package_group(ModelPackageGroupName=own_group, Tags=tag_list)
    arn = sagemaker.create_model_package(ModelPackageGroupName=own_group)["ModelPackageArn"]
    assert deploy.handle(context, messages(decide(sagemaker, arn, "Approved"))) == []
    assert looks.endpoints == []
    assert list(context.ledger.states()) == []
    assert stamps(sagemaker, arn) == {}


# --- other messages


def test_endpoints_and_alarms_of_ours_are_looked_at_and_others_are_not(context, looks, project):
    endpoint = f"{project}-prod"
    context.ledger.put_state_if_new(State(endpoint, project, "prod", endpoint, "settled"))

    def event(source: str, kind: str, **detail: str) -> str:
        return json.dumps({"source": source, "detail-type": kind, "detail": detail})

    bodies = [
        event("aws.sagemaker", "SageMaker Endpoint State Change", EndpointName=endpoint),
        event("aws.sagemaker", "SageMaker Endpoint Deployment State Change", EndpointName="somebody-elses"),
        event("aws.cloudwatch", "CloudWatch Alarm State Change", alarmName=f"{endpoint}-3-rollback-errors"),
        event("aws.cloudwatch", "CloudWatch Alarm State Change", alarmName="somebody-elses-prod-errors"),
        event("aws.cloudwatch", "CloudWatch Alarm State Change", alarmName="cpu"),
        event("aws.ec2", "EC2 Instance State-change Notification"),
    ]
    assert deploy.handle(context, messages(*bodies)) == []
    assert looks.endpoints == [endpoint]  # once, for two messages


def test_a_broken_message_fails_alone(context, looks, register, sagemaker, group, capsys):
    good = decide(sagemaker, register(), "Approved")
    broken = json.dumps({"source": "aws.sagemaker", "detail-type": "SageMaker Endpoint State Change", "detail": {}})
    assert deploy.handle(context, messages("{", good, broken)) == ["0", "2"]
    assert looks.endpoints == [group]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message_id"] for line in lines if line["level"] == "ERROR"] == ["0", "2"]
    assert counted(lines) == [0.0, 0.0]


def test_a_look_that_fails_fails_its_messages_and_no_others(context, looks, clients, sagemaker, register, group):
    make_group(clients, group, "prod")  # of a project whose name begins alike
    other = sagemaker.create_model_package(ModelPackageGroupName=f"{group}-prod")["ModelPackageArn"]
    looks.broken = {group}
    first, second = decide(sagemaker, register(), "Approved"), decide(sagemaker, other, "Approved")
    look = json.dumps({"look": "endpoint", "endpoint": group})
    assert deploy.handle(context, messages(first, second, look)) == ["0", "2"]
    assert looks.endpoints == [group, f"{group}-prod"]


def test_a_look_that_fails_is_counted_with_the_time_since_its_oldest_message_was_tried_first(
    context, looks, endpoint, capsys
):
    looks.broken = {endpoint}
    good, *bad = messages(*(json.dumps({"look": "endpoint", "endpoint": name}) for name in ("x-dev", *[endpoint] * 2)))
    now = datetime.now(UTC)
    for record, seconds in ((good, 2000), (bad[0], 0), (bad[1], 700)):
        first = int(now.timestamp() - seconds) * 1000
        record["attributes"] = {"ApproximateFirstReceiveTimestamp": str(first)}
    assert deploy.handle(replace(context, now=lambda: now), [good, *bad]) == ["1", "2"]
    (failing,) = counted([json.loads(line) for line in capsys.readouterr().err.splitlines()])
    assert 700 <= failing < 702


def test_the_news_is_told_when_the_message_comes_again(context, looks, register, sagemaker, group, told):
    told()
    looks.broken = {group}
    event = decide(sagemaker, register(), "Approved")
    assert deploy.handle(context, messages(event)) == ["0"]
    assert told() == []
    looks.broken = set()
    assert deploy.handle(context, messages(event)) == []
    assert len(told()) == 1


def test_a_version_registered_as_approved_is_looked_at_and_told_when_its_message_comes_again(
    context, looks, register, sagemaker, group, told
):
    told()
    looks.broken = {group}
    event = changed(sagemaker, register("Approved"))
    assert deploy.handle(context, messages(event)) == ["0"]
    looks.broken = set()
    assert deploy.handle(context, messages(event)) == []
    assert (looks.endpoints, len(told())) == ([group, group], 1)


def test_while_another_one_looks_the_message_is_done_with(context, looks, register, sagemaker, group, told):
    told()
    looks.busy = {group}
    assert deploy.handle(context, messages(decide(sagemaker, register(), "Approved"))) == []
    assert len(told()) == 1
    assert queued(context) == []
    attributes = context.client("sqs").get_queue_attributes(
        QueueUrl=context.settings.queue_url, AttributeNames=["ApproximateNumberOfMessagesDelayed"]
    )["Attributes"]
    assert attributes == {"ApproximateNumberOfMessagesDelayed": "0"}


def test_without_time_left_messages_come_again_and_nothing_is_begun(context, looks, register, sagemaker, group, capsys):
    late = replace(context, deadline=time.monotonic() + deploy.ENOUGH - 1)
    assert deploy.handle(late, messages(decide(sagemaker, register(), "Approved"))) == ["0"]
    assert looks.endpoints == []
    assert len(entries(context, group)) == 1  # it is written down all the same
    assert counted([json.loads(line) for line in capsys.readouterr().err.splitlines()]) == []  # that is no failure


# --- looking at many


def test_what_is_under_way_is_looked_at_and_what_is_settled_is_not(context, looks):
    context.ledger.put_state_if_new(State("b-dev", "b", "dev", "b-dev", "settled"))
    for endpoint in ("a-dev", "c-dev"):
        context.ledger.put_state_if_new(State(endpoint, endpoint[0], "dev", endpoint, "under-way"))
    deploy.handle(context, messages('{"look": "under-way"}'))
    assert sorted(looks.endpoints) == ["a-dev", "c-dev"]
    # it comes again by itself, and would never find an end
    assert looks.asking == {False}


def test_many_endpoints_are_a_message_each(context, looks):
    names = [f"p{number}-dev" for number in range(12)]
    for endpoint in names:
        context.ledger.put_state_if_new(State(endpoint, endpoint[:-4], "dev", endpoint, "under-way"))
    assert deploy.handle(context, messages('{"look": "under-way"}')) == []
    assert looks.endpoints == []
    asked = queued(context)
    assert sorted(body["endpoint"] for body in asked) == sorted(names)
    deploy.handle(context, messages(json.dumps(asked[0])))
    assert looks.endpoints == [asked[0]["endpoint"]]


MISSED = '{{"look": "endpoint", "endpoint": "{}", "missed": true}}'


@pytest.fixture
def endpoint(context: Context, group: str, project: str) -> str:
    """The group's endpoint, known to the ledger."""
    context.ledger.put_state_if_new(State(group, project, "dev", group, "settled"))
    return group


def test_looking_at_everything_finds_new_groups_and_asks_for_a_look_at_each_endpoint(
    context, looks, register, sagemaker, group
):
    for endpoint in ("a-dev", "b-dev", "c-dev"):
        context.ledger.put_state_if_new(State(endpoint, endpoint[0], "dev", endpoint, "settled"))
    arn = register("Approved")
    assert deploy.handle(context, messages('{"look": "everything"}')) == []
    asked = queued(context)
    assert {"look": "endpoint", "endpoint": group, "missed": True} in asked
    assert {"a-dev", "b-dev", "c-dev"} < {body["endpoint"] for body in asked}
    assert deploy.handle(context, messages(MISSED.format(group))) == []
    assert [(entry.package_arn, entry.source) for entry in entries(context, group)] == [(arn, "found")]
    assert looks.endpoints == [group]


def test_approvals_whose_events_were_lost_are_found_in_their_order_and_the_newest_is_told(
    context, looks, register, sagemaker, endpoint, told, calls
):
    told()
    first, second, waiting = register(), register(), register()
    for arn in (second, first):
        sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
        time.sleep(1.0)  # so that the order is known
    assert deploy.handle(context, messages(MISSED.format(endpoint))) == []
    assert [(entry.package_arn, entry.source) for entry in entries(context, endpoint)] == [
        (first, "found"),
        (second, "found"),
    ]
    assert looks.endpoints == [endpoint]
    assert [text.splitlines()[0] for text in told()] == [f"{endpoint}: version 1 approved by {ROOT}"]
    assert stamps(sagemaker, waiting).keys() == {"git.commit"}
    # again: nothing new, and no version is described
    before = entries(context, endpoint)
    calls.clear()
    deploy.handle(context, messages(MISSED.format(endpoint)))
    assert "DescribeModelPackage" not in calls
    assert (entries(context, endpoint), told()) == (before, [])


def test_rejections_and_deletions_whose_events_were_lost_are_found(context, looks, register, sagemaker, endpoint):
    rejected, deleted, kept = register(), register(), register()
    for arn in (rejected, deleted, kept):
        deploy.handle(context, messages(decide(sagemaker, arn, "Approved")))
    sagemaker.update_model_package(ModelPackageArn=rejected, ModelApprovalStatus="Rejected", ApprovalDescription="no")
    sagemaker.delete_model_package(ModelPackageName=deleted)
    deploy.handle(context, messages(MISSED.format(endpoint)))
    found = {entry.package_arn: entry.why for entry in entries(context, endpoint) if entry.source == "found"}
    assert found == {rejected: "no", deleted: "the version was deleted"}


def test_what_was_approved_and_rejected_in_one_second_is_not_missed_again_and_again(
    context, looks, register, sagemaker, endpoint, calls
):
    arn, at = register("Rejected"), datetime(2026, 1, 1, tzinfo=UTC)
    for kind in ("approve", "reject"):
        context.ledger.append(Entry(endpoint, kind, at, arn, ROOT, "", "event"))
    calls.clear()
    assert deploy.handle(context, messages(MISSED.format(endpoint))) == []
    assert "DescribeModelPackage" not in calls


def test_a_lost_ledger_comes_back_from_the_stamps_in_its_order(context, looks, register, sagemaker, endpoint, dynamodb):
    older, newer = register(), register()
    for arn in (newer, older):  # the older version was approved last
        deploy.handle(context, messages(decide(sagemaker, arn, "Approved")))
        time.sleep(1.0)
    before = [(entry.key, entry.by) for entry in entries(context, endpoint)]
    # changed again by somebody, in the other order
    for arn in (older, newer):
        sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties={"seen": "yes"})
    for key, _ in before:
        place = {"endpoint": {"S": endpoint}, "item": {"S": key}}
        dynamodb.delete_item(TableName=context.settings.ledger_table, Key=place)
    deploy.handle(context, messages(MISSED.format(endpoint)))
    assert [(entry.key, entry.by) for entry in entries(context, endpoint)] == before


def test_without_its_ledger_an_endpoints_numbers_go_on_after_the_highest_of_its_models(
    context, looks, register, sagemaker, group, clients
):
    role = "arn:aws:iam::123456789012:role/modelyard/models/default"
    with contextlib.suppress(clients("iam").exceptions.EntityAlreadyExistsException):
        clients("iam").create_role(Path="/modelyard/models/", RoleName="default", AssumeRolePolicyDocument=TRUST)
    clients("s3").create_bucket(Bucket=group)
    clients("s3").put_object(Bucket=group, Key="model.tar.gz", Body=b"")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{group}/model.tar.gz"}
    for name in (f"{group}-9", f"{group}-12", f"{group}-x-40", f"a-{group}-50"):
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    deploy.handle(context, messages(decide(sagemaker, register(), "Approved")))
    assert context.ledger.state(group).last_number == 12


def test_what_is_too_much_for_one_call_goes_on_in_the_next_and_nothing_is_deployed_meanwhile(
    context, looks, register, endpoint, monkeypatch
):
    for _ in range(5):
        register("Approved")
    left = iter([60.0, 60.0, 60.0, 9.0])
    monkeypatch.setattr(Context, "remaining", lambda _: next(left, 60.0))
    assert deploy.handle(context, messages(MISSED.format(endpoint))) == ["0"]
    assert (len(entries(context, endpoint)), looks.endpoints) == (2, [])
    assert deploy.handle(context, messages(MISSED.format(endpoint))) == []
    assert (len(entries(context, endpoint)), looks.endpoints) == (5, [endpoint])


def test_a_group_that_is_deleted_leaves_an_endpoint_to_look_at(context, looks, register, sagemaker, endpoint):
    arn = register()
    deploy.handle(context, messages(decide(sagemaker, arn, "Approved")))
    sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName=endpoint)
    looks.endpoints.clear()
    assert deploy.handle(context, messages(MISSED.format(endpoint))) == []
    assert looks.endpoints == [endpoint]
    assert entries(context, endpoint)[0].kind == "reject"


# --- the function itself


@dataclass
class Function:
    """Lambda's context object."""

    aws_request_id: str = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def test_the_function_answers_what_failed_and_lets_it_come_again_soon(context, looks, aws, monkeypatch):
    for name, value in (
        aws.environment | {name.upper(): value for name, value in vars(context.settings).items()}
    ).items():
        monkeypatch.setenv(name, value)
    deploy._clients.cache_clear()
    sqs, queue = context.client("sqs"), context.settings.queue_url
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "720"})
    sqs.send_message(QueueUrl=queue, MessageBody="broken")
    (message,) = sqs.receive_message(QueueUrl=queue, AttributeNames=["All"])["Messages"]
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
    }
    answer = deploy.handler({"Records": [record]}, Function())
    assert answer == {"batchItemFailures": [{"itemIdentifier": message["MessageId"]}]}
    deadline = time.monotonic() + 60
    while not (again := sqs.receive_message(QueueUrl=queue).get("Messages")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert again


def test_settings_that_are_missing_are_named(monkeypatch):
    for name in ("LEDGER_TABLE", "QUEUE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Exception, match="LEDGER_TABLE, QUEUE_URL"):
        deploy.handler({"Records": []}, Function())


def test_an_error_of_aws_is_not_taken_for_a_missing_version(context, looks, register, sagemaker, group):
    broken = replace(context, ledger=type(context.ledger)(context.client("dynamodb"), "no-such-table"))
    event = decide(sagemaker, register(), "Approved")
    assert deploy.handle(broken, messages(event)) == ["0"]
    with pytest.raises(ClientError):
        broken.ledger.state(group)


# --- automatic approval

STAGE_FILE = "kind: real_time\ninstance_type: ml.m5.large\napproval: {}\n"


@pytest.fixture
def stage_file(clients: LocalClients, project: str) -> Callable[[str], dict[str, str]]:
    """Uploads a stage file for the stage dev; answers what a version says of it."""

    def upload(content: str, sha256: str | None = None) -> dict[str, str]:
        clients("s3").create_bucket(Bucket=project)
        clients("s3").put_object(Bucket=project, Key="deployment/dev.yaml", Body=content.encode())
        digest = sha256 or hashlib.sha256(content.encode()).hexdigest()
        return {"deployment__prefix": f"s3://{project}/deployment/", "deployment__sha256__dev": digest}

    return upload


def approval(sagemaker: Any, arn: str) -> tuple[str, str]:
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    return package["ModelApprovalStatus"], package.get("ApprovalDescription", "")


@pytest.fixture
def automatic(sagemaker: Any, group: str) -> None:
    """The group allows automatic approval."""
    group_arn = sagemaker.describe_model_package_group(ModelPackageGroupName=group)["ModelPackageGroupArn"]
    sagemaker.add_tags(ResourceArn=group_arn, Tags=[{"Key": "modelyard:approval", "Value": "automatic"}])


def test_a_new_version_is_approved_where_group_and_stage_file_ask_for_it(
    context, looks, register, sagemaker, group, automatic, stage_file
):
    arn = register(**stage_file(STAGE_FILE.format("automatic")))
    assert deploy.handle(context, messages(changed(sagemaker, arn))) == []
    assert approval(sagemaker, arn) == ("Approved", recording.AUTOMATIC_REASON)
    deploy.handle(context, messages(changed(sagemaker, arn, "ModelApprovalStatus", "ApprovalDescription")))
    assert [(entry.kind, entry.why) for entry in entries(context, group)] == [("approve", recording.AUTOMATIC_REASON)]


def test_a_new_version_whose_event_was_lost_is_approved_as_well_but_not_one_set_back_by_somebody(
    context, looks, register, sagemaker, endpoint, automatic, stage_file
):
    arn = register(**stage_file(STAGE_FILE.format("automatic")))
    deploy.handle(context, messages(MISSED.format(endpoint)))
    assert approval(sagemaker, arn)[0] == "Approved"
    deploy.handle(context, messages(MISSED.format(endpoint), decide(sagemaker, arn, "PendingManualApproval")))
    deploy.handle(context, messages(MISSED.format(endpoint)))
    assert approval(sagemaker, arn)[0] == "PendingManualApproval"


@pytest.mark.parametrize(
    ("content", "sha256"),
    [
        (STAGE_FILE.format("manual"), None),
        (STAGE_FILE.format("automatic"), "0" * 64),  # another file than was registered
        ("kind: real_time\n", None),
    ],
)
def test_the_groups_tag_alone_approves_nothing(
    context, looks, register, sagemaker, group, automatic, stage_file, content, sha256
):
    arn = register(**stage_file(content, sha256))
    assert deploy.handle(context, messages(changed(sagemaker, arn))) == []
    assert approval(sagemaker, arn)[0] == "PendingManualApproval"


def test_the_stage_file_alone_approves_nothing(context, looks, register, sagemaker, group, stage_file):
    arn = register(**stage_file(STAGE_FILE.format("automatic")))
    deploy.handle(context, messages(changed(sagemaker, arn)))
    assert approval(sagemaker, arn)[0] == "PendingManualApproval"
