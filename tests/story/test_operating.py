"""Whoever is on call has what they need: a lost ledger comes back, dead letters are answered, the checklist reads the
account. By a user with the operators' policies alone, on the installed platform, IAM enforced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import boto3
import pytest

from local_aws import LocalAWS
from tests.story.platform import REAL_TIME, Project, as_operator, operators_credentials
from tests.story.story import CHECKOUT
from tests.story.traffic import Traffic

CLOCK_SPEED, STAGE = 60.0, "prod"
STAGE_FILE = REAL_TIME + "alarms: {error_share: 0.05, p99_latency_ms: 2000, go_back: false}\ndashboard: true\n"
Key = tuple[str, str]

pytestmark = pytest.mark.slow  # tests/lifecycle_lambdas has each part alone


def operator(aws: LocalAWS, *arguments: str, code: int = 0) -> str:
    """What a command printed, which must end with this exit code."""
    result = as_operator(aws, *arguments)
    assert result.returncode == code, f"{arguments}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def ledger_items(aws: LocalAWS) -> dict[Key, dict[str, Any]]:
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName="modelyard-ledger")
    return {(item["endpoint"]["S"], item["item"]["S"]): item for page in pages for item in page["Items"]}


def lose_ledger(aws: LocalAWS) -> None:
    for endpoint, item in ledger_items(aws):
        key = {"endpoint": {"S": endpoint}, "item": {"S": item}}
        aws.client("dynamodb").delete_item(TableName="modelyard-ledger", Key=key)


def controller(aws: LocalAWS, on: bool) -> None:
    """Stopped and started by an operator as docs/operate.md says."""
    key = operators_credentials(aws)
    session = boto3.Session(key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"], region_name=aws.server.region)

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=aws.environment["AWS_ENDPOINT_URL"])

    uuid = client("ssm").get_parameter(Name="/modelyard/deploy-event-source")["Parameter"]["Value"]
    client("lambda").update_event_source_mapping(UUID=uuid, Enabled=on)


def test_a_lost_ledger_comes_back_what_serves_serves_on_and_everything_works_as_before(
    platform: LocalAWS, project: Project
) -> None:
    first, second, third = (project.register(name, STAGE_FILE) for name in ("first", "second", "third"))
    for version in (first, second):
        project.approve(version)
        project.deployed(version)
    operator(platform, "go-back", project.endpoint, "--why", "a drill", "--yes")
    project.serves("first")
    project.until(
        lambda: project.package(first)["CustomerMetadataProperties"].get("deployment.number") == "3",
        "going back to be over",
        lambda: str(project.package(first)),
    )
    controller(platform, on=False)
    before = set(ledger_items(platform))
    with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
        lose_ledger(platform)
        said = operator(platform, "rebuild", "--yes")
        assert "somebody had gone back" in said
        assert "nothing is missing" in operator(platform, "rebuild", "--yes")
        controller(platform, on=True)
        operator(platform, "look", project.endpoint, "--wait")
        project.serves("first")
    assert traffic.failed == []
    assert {answer.answer[0]["version"] for answer in traffic.answered} == {"first"}
    # what is a decision or a deployment, in the places where they were; of going back the time is its model's
    kept = {key for key in before if key[1].startswith(("ENTRY#", "DEPLOYMENT#", "STATE")) and "#go-back" not in key[1]}
    # the first deployment's number stands on no version any more, and its model is swept
    kept -= {(project.endpoint, "DEPLOYMENT#000001")}
    assert kept <= set(ledger_items(platform))

    project.approve(third)
    project.deployed(third)
    project.serves("third")
    project.reject(third)
    project.serves("first")
    operator(platform, "go-back", project.endpoint, "2", "--why", "a drill", "--yes")
    project.serves("second")


def test_every_item_of_the_readiness_checklist_can_be_read_by_an_operator(platform: LocalAWS, project: Project) -> None:
    for name in ("first", "second"):
        version = project.register(name, STAGE_FILE)
        project.approve(version)
        project.deployed(version)
    items = json.loads(operator(platform, "ready", project.name, "--json", code=1))["items"]
    status = {item["name"]: (item["status"], item["found"]) for item in items}
    assert {name: found for name, found in status.items() if found[0] == "unknown"} == {}
    ready = (
        "the controller is on",
        "the ledger can be restored",
        "it serves what was deployed",
        "alarms on errors and latency",
        "two instances",
        "there is a way back",
    )
    assert [status[name][0] for name in ready] == ["ok"] * len(ready)
    assert status["endpoint tests are there and passed"][0] == "missing"
    platforms = ("events and schedules come", "queues are encrypted", "the functions' logs are encrypted")
    assert [status[name][0] for name in platforms] == ["ok"] * len(platforms)


def test_what_somebody_deleted_of_the_platform_is_put_back(platform: LocalAWS) -> None:
    functions, cloudwatch = platform.client("lambda"), platform.client("cloudwatch")
    permission = functions.get_policy(FunctionName="modelyard-clean")["Policy"]
    functions.delete_function(FunctionName="modelyard-clean")
    cloudwatch.delete_alarms(AlarmNames=["modelyard-event-age"])
    command = [sys.executable, "-m", "servicecatalog", "install", "--yes", "--revert-drift"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | platform.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads(functions.get_policy(FunctionName="modelyard-clean")["Policy"])
    assert [one["Principal"] for one in again["Statement"]] == [
        one["Principal"] for one in json.loads(permission)["Statement"]
    ]
    alarms = cloudwatch.describe_alarms(AlarmNames=["modelyard-event-age"])["MetricAlarms"]
    assert [alarm["AlarmActions"] for alarm in alarms] == [
        [f"arn:aws:sns:{platform.server.region}:{platform.server.account}:modelyard-deployments"]
    ]


def test_dead_letters_go_back_to_the_queue_and_to_the_function_that_they_came_from(platform: LocalAWS) -> None:
    sqs, function = platform.client("sqs"), platform.client("lambda").get_function(FunctionName="modelyard-notify")
    failed = sqs.get_queue_url(QueueName="modelyard-failed")["QueueUrl"]
    events = f"arn:aws:sqs:{platform.server.region}:{platform.server.account}:modelyard-events"
    sqs.send_message(
        QueueUrl=failed,
        MessageBody=json.dumps({"look": "everything"}),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value}
            for name, value in {"TARGET_ARN": events, "ERROR_CODE": "NO_PERMISSIONS"}.items()
        },
    )
    request = {"functionArn": f"{function['Configuration']['FunctionArn']}:$LATEST", "condition": "RetriesExhausted"}
    payload = {"Records": [{"Sns": {"Subject": "churn-prod: deployed", "Message": "hello"}}]}
    sqs.send_message(QueueUrl=failed, MessageBody=json.dumps({"requestContext": request, "requestPayload": payload}))

    shown = operator(platform, "replay", "--show")
    assert "look at everything" in shown
    assert "modelyard-events: NO_PERMISSIONS" in shown
    sent = operator(platform, "replay", "--yes")
    assert "sent to modelyard-events: look at everything" in sent
    assert "sent to modelyard-notify: message: churn-prod: deployed" in sent
    assert "there are no dead letters" in operator(platform, "replay")
