"""The readiness checklist: what is as it should be is ok, every lack is named with what to do, and what may not be read
is never ok."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lifecycle_lambdas import readiness
from lifecycle_lambdas.readiness import (
    BUCKET,
    HOSTED,
    PLATFORM,
    PLATFORM_ALARMS,
    QUEUES,
    RULES,
    SCHEDULED,
    SCHEDULES,
    BucketFacts,
    EndpointFacts,
    Item,
    PlatformFacts,
    Unread,
    checklist,
)
from lifecycle_lambdas.readiness_facts import newest_run
from lifecycle_lambdas.records import Deployment

TOPIC = "arn:aws:sns:us-east-1:123456789012:modelyard-deployments"
VERSION = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-prod/{}"
ADA = "arn:aws:sagemaker:us-east-1:123456789012:user-profile/d-1/ada"
TLS_ONLY = json.dumps(
    {
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": "*",
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ]
    }
)


def alarm(**changes: Any) -> dict[str, Any]:
    return {"AlarmActions": [TOPIC], "ActionsEnabled": True, "StateValue": "OK", **changes}


def deployment(number: int, kind: str = "real_time") -> Deployment:
    return Deployment(
        endpoint="churn-prod",
        number=number,
        entry_key="",
        package_arn=VERSION.format(number),
        stage_file={"kind": kind},
        stage_file_sha256="",
        status="succeeded",
        started=datetime(2026, 11, 21, tzinfo=UTC),
    )


READY_PLATFORM = PlatformFacts(
    topic_arn=TOPIC,
    has_chat=False,
    subscriptions=[{"Protocol": "email", "SubscriptionArn": f"{TOPIC}:1"}],
    topic={"KmsMasterKeyId": "key", "Policy": TLS_ONLY},
    table={"SSEDescription": {"Status": "ENABLED", "SSEType": "KMS"}, "DeletionProtectionEnabled": True},
    backups={"PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"}},
    dead_letters=0,
    alarms={name: alarm() for name in PLATFORM_ALARMS},
    queues={name: {"SqsManagedSseEnabled": "true"} for name in QUEUES},
    logs={"/aws/lambda/modelyard-deploy": {"retentionInDays": 90, "kmsKeyId": "key"}},
    event_source="Enabled",
    rules=dict.fromkeys((*SCHEDULES, *RULES), "ENABLED"),
)
READY_BUCKET = BucketFacts(
    name="artifacts",
    encryption={"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
    versioning="Enabled",
    policy=TLS_ONLY,
    public_access={
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    },
)
STAMPS = {"approval.by": ADA, "tests.sha256": "0a", "tests.status": "passed", "tests.at": "2026-11-21T08:00:00Z"}
READY_ENDPOINT = EndpointFacts(
    name="churn-prod",
    topic_arn=TOPIC,
    endpoint={
        "EndpointStatus": "InService",
        "EndpointConfigName": "churn-prod-2",
        "ProductionVariants": [{"DesiredInstanceCount": 2}],
    },
    config={"KmsKeyId": "key", "ProductionVariants": [{"InstanceType": "ml.m5.large"}]},
    schedule={"State": "ENABLED", "ScheduleExpression": "rate(1 day)"},
    last_job={"TransformJobName": "churn-prod-2-20261121T0800", "TransformJobStatus": "Completed"},
    tags={
        "sagemaker:project-name": "churn",
        "sagemaker:project-id": "p-1",
        "modelyard:project": "churn",
        "modelyard:stage": "prod",
    },
    group_tags={"modelyard:project": "churn"},
    targets=[],
    alarms={f"churn-prod-{kind}": alarm() for kind in ("errors", "latency")},
    logs=90,
    deployment=deployment(2),
    package={"CustomerMetadataProperties": STAMPS},
    way_back=deployment(1),
    way_back_model=True,
)


def lacks(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.name, item.status) for item in items if item.status != "ok"]


def test_what_is_as_it_should_be_is_ready() -> None:
    items = checklist(READY_PLATFORM, [READY_BUCKET], [READY_ENDPOINT])
    assert lacks(items) == []
    assert len(items) == len(PLATFORM) + len(BUCKET) + len(HOSTED)


def test_every_item_is_unknown_where_nothing_may_be_read() -> None:
    def unread(facts: Any, kept: tuple[str, ...]) -> Any:
        names = [one.name for one in fields(facts) if one.name not in kept]
        return replace(facts, **dict.fromkeys(names, Unread("AccessDenied: not you")))

    items = checklist(
        unread(READY_PLATFORM, ("topic_arn", "has_chat")),
        [unread(READY_BUCKET, ("name",))],
        [unread(READY_ENDPOINT, ("name", "topic_arn"))],
    )
    assert {item.status for item in items} == {"unknown"}
    assert all(item.found == "AccessDenied: not you" and item.remedy for item in items)


@pytest.mark.parametrize("half", ["targets", "group_tags", "way_back_model"])
def test_an_item_of_two_facts_is_unknown_where_one_of_them_may_not_be_read(half: str) -> None:
    unread: dict[str, Any] = {half: Unread("no")}
    items = checklist(READY_PLATFORM, [], [replace(READY_ENDPOINT, **unread)])
    assert [status for _, status in lacks(items)] == ["unknown"]


def metadata(**changes: str) -> dict[str, Any]:
    return {
        "package": {"CustomerMetadataProperties": {**STAMPS, **{k.replace("__", "."): v for k, v in changes.items()}}}
    }


CI = "arn:aws:sts::123456789012:assumed-role/churn-ci-prod/build"
PIPELINE = "arn:aws:sts::123456789012:assumed-role/churn-pipeline-dev/SageMaker"
CONTROLLER = "arn:aws:sts::123456789012:assumed-role/modelyard-deploy-us-east-1/modelyard-deploy"
ONE = {
    "EndpointStatus": "InService",
    "EndpointConfigName": "churn-prod-2",
    "ProductionVariants": [{"DesiredInstanceCount": 1}],
}


@pytest.mark.parametrize(
    ("check", "facts", "found"),
    [
        (readiness.somebody_is_told, {"subscriptions": []}, "nobody"),
        (
            readiness.somebody_is_told,
            {"subscriptions": [{"Protocol": "email", "SubscriptionArn": "PendingConfirmation"}]},
            "wait for their confirmation",
        ),
        (
            readiness.somebody_is_told,
            {"subscriptions": [{"Protocol": "lambda", "SubscriptionArn": f"{TOPIC}:2"}]},
            "nobody",
        ),
        (readiness.topic_is_encrypted, {"topic": {"Policy": TLS_ONLY}}, "no key"),
        (readiness.topic_is_encrypted, {"topic": {"KmsMasterKeyId": "key"}}, "without TLS"),
        (readiness.ledger_is_encrypted, {"table": {}}, "own key"),
        (readiness.ledger_can_be_restored, {"backups": {}}, "disabled"),
        (readiness.ledger_cannot_be_deleted, {"table": {}}, "off"),
        (readiness.no_dead_letters, {"dead_letters": 3}, "3 messages"),
        (readiness.platform_is_watched, {"alarms": {}}, "modelyard-deploy-failing"),
        (
            readiness.platform_is_watched,
            {"alarms": {**READY_PLATFORM.alarms, "modelyard-event-age": alarm(AlarmActions=[])}},  # type: ignore[dict-item]
            "nobody is told by modelyard-event-age",
        ),
        (
            readiness.platform_is_watched,
            {"alarms": {**READY_PLATFORM.alarms, "modelyard-event-age": alarm(StateValue="ALARM")}},  # type: ignore[dict-item]
            "raised now: modelyard-event-age",
        ),
        (readiness.logs_end, {"logs": {"/aws/lambda/modelyard-plan": {}}}, "/aws/lambda/modelyard-plan"),
        (readiness.logs_end, {"logs": {}}, "there are none"),
        (readiness.logs_are_encrypted, {"logs": {"/aws/lambda/modelyard-plan": {}}}, "/aws/lambda/modelyard-plan"),
        (readiness.logs_are_encrypted, {"logs": {}}, "there are none"),
        (readiness.queues_are_encrypted, {"queues": {}}, QUEUES[0]),
        (
            readiness.queues_are_encrypted,
            {
                "queues": {
                    **{name: {"KmsMasterKeyId": "key"} for name in QUEUES},
                    QUEUES[1]: {"SqsManagedSseEnabled": "false"},
                }
            },
            f"in plain text: {QUEUES[1]}",
        ),
        (readiness.controller_is_on, {"event_source": "Disabled"}, "Disabled"),
        (readiness.controller_looks_again, {"rules": {SCHEDULES[0]: "ENABLED"}}, f"there is no {SCHEDULES[1]}"),
        (readiness.controller_looks_again, {"rules": dict.fromkeys(SCHEDULES, "DISABLED")}, f"off: {SCHEDULES[0]}"),
        (readiness.rules_are_on, {"rules": {**dict.fromkeys(RULES, "ENABLED"), RULES[1]: None}}, RULES[1]),
        (readiness.rules_are_on, {"rules": {**dict.fromkeys(RULES, "ENABLED"), RULES[2]: "DISABLED"}}, RULES[2]),
    ],
)
def test_what_the_platform_lacks_is_named_with_what_to_do(
    check: Callable[[PlatformFacts], Item], facts: dict[str, Any], found: str
) -> None:
    item = check(replace(READY_PLATFORM, **facts))
    assert item.status == "missing"
    assert found in item.found
    assert item.remedy


@pytest.mark.parametrize(
    ("check", "facts", "found"),
    [
        (readiness.bucket_is_encrypted, {"encryption": None}, "no default encryption"),
        (readiness.bucket_takes_tls_only, {"policy": None}, "without TLS"),
        (readiness.bucket_takes_tls_only, {"policy": TLS_ONLY.replace("Deny", "Allow")}, "without TLS"),
        (
            readiness.bucket_takes_tls_only,
            {"policy": TLS_ONLY.replace('"*", "Action"', '"me", "Action"')},
            "without TLS",
        ),
        (readiness.bucket_keeps_versions, {"versioning": "Suspended"}, "lost"),
        (readiness.bucket_is_private, {"public_access": {"BlockPublicAcls": True}}, "BlockPublicPolicy"),
        (readiness.bucket_is_private, {"public_access": None}, "BlockPublicAcls"),
    ],
)
def test_what_a_bucket_lacks_is_named_with_what_to_do(
    check: Callable[[BucketFacts], Item], facts: dict[str, Any], found: str
) -> None:
    item = check(replace(READY_BUCKET, **facts))
    assert item.status == "missing"
    assert found in item.found
    assert item.remedy


@pytest.mark.parametrize(
    ("check", "facts", "found"),
    [
        (readiness.it_serves, {"endpoint": None}, "no endpoint"),
        (
            readiness.it_serves,
            {"endpoint": {"EndpointStatus": "Failed", "EndpointConfigName": "churn-prod-2"}},
            "Failed",
        ),
        (readiness.it_serves, {"deployment": deployment(3)}, "churn-prod-2, which is not the last"),
        (readiness.its_schedule_is_on, {"schedule": {"State": "DISABLED"}}, "no schedule"),
        (readiness.its_last_run_succeeded, {"last_job": None}, "no run yet"),
        (
            readiness.its_last_run_succeeded,
            {"last_job": {"TransformJobName": "x", "TransformJobStatus": "Failed", "FailureReason": "no column"}},
            "x is Failed: no column",
        ),
        (readiness.it_is_watched, {"alarms": {"churn-prod-errors": alarm()}}, "churn-prod-latency"),
        (readiness.it_has_two_instances, {"endpoint": ONE}, "1 instances"),
        (readiness.it_has_two_instances, {"targets": [{"MinCapacity": 1}]}, "1 at least"),
        (
            readiness.its_volumes_are_encrypted,
            {"config": {"ProductionVariants": [{"InstanceType": "ml.m5.large"}]}},
            "a key of AWS's",
        ),
        (readiness.a_person_approves, {"group_tags": {"modelyard:approval": "automatic"}}, "approve themselves"),
        (readiness.a_person_approves, metadata(approval__by="unknown"), "not known"),
        (readiness.a_person_approves, metadata(approval__by=CI), CI),
        (readiness.a_person_approves, metadata(approval__by=PIPELINE), PIPELINE),
        (readiness.a_person_approves, metadata(approval__by=CONTROLLER), CONTROLLER),
        (readiness.it_is_tested, {"package": {}}, "no endpoint tests"),
        (readiness.it_is_tested, metadata(tests__status="failed"), "failed"),
        (readiness.it_is_tested, metadata(tests__status=""), "not run yet"),
        (readiness.it_can_go_back, {"way_back": None}, "no other version"),
        (readiness.it_is_tagged, {"tags": {"modelyard:project": "churn"}}, "modelyard:stage"),
        (readiness.its_log_ends, {"logs": None}, "for ever"),
    ],
)
def test_what_an_endpoint_lacks_is_named_with_what_to_do(
    check: Callable[[EndpointFacts], Item], facts: dict[str, Any], found: str
) -> None:
    item = check(replace(READY_ENDPOINT, **facts))
    assert item.status == "missing"
    assert found in item.found
    assert item.remedy


@pytest.mark.parametrize("by", [ADA, "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_science-ci-team_1/ada"])
def test_a_persons_role_is_not_taken_for_a_machines(by: str) -> None:
    assert readiness.a_person_approves(replace(READY_ENDPOINT, **metadata(approval__by=by))).status == "ok"


def test_a_chat_is_somebody_too() -> None:
    notify = [{"Protocol": "lambda", "SubscriptionArn": f"{TOPIC}:2"}]
    item = readiness.somebody_is_told(replace(READY_PLATFORM, has_chat=True, subscriptions=notify))
    assert (item.status, item.found) == ("ok", "chat")


def test_a_serverless_endpoint_needs_no_second_instance_and_no_key() -> None:
    facts = replace(
        READY_ENDPOINT,
        deployment=deployment(2, "serverless"),
        config={"ProductionVariants": [{"ServerlessConfig": {}}]},
        endpoint={**ONE, "ProductionVariants": [{}]},
    )
    assert lacks(checklist(READY_PLATFORM, [], [facts])) == []


def test_a_batch_stage_is_asked_for_its_schedule_and_not_for_an_endpoint() -> None:
    facts = replace(READY_ENDPOINT, deployment=deployment(2, "batch"), endpoint=None, config=None, alarms={}, tags={})
    items = checklist(READY_PLATFORM, [], [facts])
    assert lacks(items) == []
    assert len(items) == len(PLATFORM) + len(SCHEDULED)


def test_the_last_run_of_a_batch_stage_is_none_of_its_tests_and_of_no_other_stage() -> None:
    found = ["new-churn-prod-9-20261121T0900", "churn-prod-2-69200000test", "churn-prod-2-20261121T0800"]
    jobs = [{"TransformJobName": name} for name in found]
    assert newest_run("churn-prod", jobs) == jobs[2]
    assert newest_run("churn-prod", jobs[:2]) is None
