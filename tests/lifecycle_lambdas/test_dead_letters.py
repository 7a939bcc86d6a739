"""Dead letters: each of the four forms is known by what it says, and goes to where it came from and nowhere else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lifecycle_lambdas.commands import replay
from lifecycle_lambdas.dead_letters import Letter, outdated, read
from lifecycle_lambdas.events import Removal
from lifecycle_lambdas.records import Entry

ACCOUNT = "us-east-1:123456789012"
FAILED = f"arn:aws:sqs:{ACCOUNT}:modelyard-failed"
EVENTS = f"arn:aws:sqs:{ACCOUNT}:modelyard-events"
NOTIFY = f"arn:aws:lambda:{ACCOUNT}:function:modelyard-notify"
BATCH = f"arn:aws:lambda:{ACCOUNT}:function:modelyard-batch"
VERSION = f"arn:aws:sagemaker:{ACCOUNT}:model-package/churn-dev/3"
SENDER = "AROA0123456789EXAMPLE:modelyard-seed"
SENT = datetime(2026, 11, 21, 8, tzinfo=UTC)
APPROVED = {
    "source": "aws.sagemaker",
    "detail-type": "SageMaker Model Package State Change",
    "detail": {
        "ModelPackageGroupName": "churn-dev",
        "ModelPackageArn": VERSION,
        "ModelApprovalStatus": "Approved",
        "LastModifiedTime": "2026-11-21T08:00:00Z",
    },
}


def letter(body: Any, source: str = "", **told: str) -> Letter:
    attributes = {"SentTimestamp": str(int(SENT.timestamp() * 1000)), "SenderId": SENDER}
    if source:
        attributes["DeadLetterQueueSourceArn"] = source
    message = {
        "ReceiptHandle": "receipt",
        "Body": body if isinstance(body, str) else json.dumps(body),
        "Attributes": attributes,
        "MessageAttributes": {name: {"StringValue": value, "DataType": "String"} for name, value in told.items()},
    }
    return read(message, FAILED, NOTIFY)


def test_a_queues_message_goes_back_to_its_queue_as_it_was() -> None:
    found = letter(APPROVED, EVENTS)
    assert (found.to, json.loads(found.content)) == (EVENTS, APPROVED)
    assert found.what == "churn-dev/3 is Approved"
    assert found.sent == SENT


def test_what_asks_for_endpoint_tests_goes_back_to_their_queue() -> None:
    tests = EVENTS.replace("-events", "-tests")
    asked = {"test": "churn-dev", "number": 3, "run": "TESTS#000003#2026-11-21T08:00:00Z", "reason": "deployed"}
    found = letter(asked, tests)
    assert (found.to, json.loads(found.content)) == (tests, asked)
    assert found.what == "endpoint tests of churn-dev, deployment 3"


def test_an_event_that_was_not_delivered_says_why_and_where_to() -> None:
    found = letter(APPROVED, TARGET_ARN=EVENTS, ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE="may not send")
    assert (found.to, json.loads(found.content)) == (EVENTS, APPROVED)
    assert found.why == "NO_PERMISSIONS: may not send"


def test_a_functions_event_goes_back_to_the_function() -> None:
    event = {"endpoint": "churn-dev", "number": 4, "scheduled_time": "2026-11-21T07:00:00Z", "transform": {}}
    found = letter(
        {
            "version": "1.0",
            "requestContext": {"functionArn": f"{BATCH}:$LATEST", "condition": "RetriesExhausted"},
            "requestPayload": event,
            "responsePayload": {"errorMessage": "AccessDenied", "errorType": "ClientError"},
        }
    )
    assert (found.to, json.loads(found.content)) == (BATCH, event)
    assert (found.what, found.why) == ("batch run of churn-dev at 2026-11-21T07:00:00Z", "AccessDenied")


def test_a_notification_goes_to_the_function_that_posts_it_in_the_form_that_it_reads() -> None:
    notification = {"Type": "Notification", "TopicArn": "arn", "Subject": "churn-dev: deployed", "Message": "hello"}
    found = letter(notification)
    assert found.to == NOTIFY
    assert json.loads(found.content)["Records"][0]["Sns"] == notification
    assert found.what == "message: churn-dev: deployed"


@pytest.mark.parametrize(
    "body",
    [
        "not JSON",
        "[1]",
        {"look": "somewhere"},
        {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {}},
        {"requestPayload": {}, "requestContext": None},
        {"requestPayload": 1, "requestContext": "x", "responsePayload": []},
        {"requestPayload": {"Records": [{"Sns": "x"}, 1]}, "requestContext": ["x"]},
        {"Records": 1},
        {"Records": [1, {"Sns": "x"}, {"Sns": {"Subject": 1}}]},
        {"Type": "Notification", "Subject": 1},
        {"look": {}},
        {"scheduled_time": []},
    ],
)
def test_what_does_not_say_where_it_came_from_is_shown_and_goes_nowhere(body: Any) -> None:
    found = letter(body)
    assert not found.is_known
    assert found.what


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sqs:us-east-1:999999999999:modelyard-events",
        "arn:aws:sqs:eu-west-1:123456789012:modelyard-events",
        f"arn:aws:sqs:{ACCOUNT}:somebodys",
        f"arn:aws:lambda:{ACCOUNT}:function:somebodys",
        f"arn:aws:states:{ACCOUNT}:modelyard-machine",
        FAILED,
        "",
    ],
)
def test_whatever_a_letter_says_it_goes_to_nothing_but_the_platforms_own(arn: str) -> None:
    assert not letter(APPROVED, TARGET_ARN=arn).is_known
    payload = {"requestPayload": {}, "requestContext": {"functionArn": arn}}
    assert not letter(payload).is_known


def entry(kind: Any, at: datetime) -> Entry:
    return Entry("churn-dev", kind, at, None if kind == "park" else VERSION, "somebody", "", "event")


REMOVAL = {"look": "remove", "endpoint": "churn-dev", "by": "arn:stack", "why": "the project is being deleted"}
LATER, EARLIER = SENT.replace(hour=9), SENT.replace(hour=7)


def test_a_removal_is_not_sent_again_where_a_version_was_approved_since() -> None:
    """It counts by the time of its message, which would be a new one."""
    found = letter(REMOVAL, EVENTS)
    assert found.removal == Removal("churn-dev", "arn:stack", "the project is being deleted")
    newest = [entry("reject", LATER.replace(minute=5)), entry("approve", LATER), entry("approve", EARLIER)]
    assert "09:00:00" in (outdated(found, lambda endpoint: iter(newest)) or "")
    assert outdated(found, lambda endpoint: iter(newest[2:])) is None
    assert outdated(found, lambda endpoint: iter([])) is None


def test_a_letter_of_which_more_than_a_look_comes_says_who_sent_it() -> None:
    payload = {"requestPayload": {"endpoint": "churn-dev"}, "requestContext": {"functionArn": BATCH}}
    acts = [letter(REMOVAL, EVENTS), letter(payload)]
    looks = [letter(APPROVED, EVENTS), letter("not JSON")]
    assert [one.acts for one in (*acts, *looks)] == [True, True, False, False]
    shown = "\n".join(replay.text([*acts, *looks]))
    (_, said) = shown.split("sent by (a role's unique id, and its session):")
    assert said.count(f": {SENDER}") == 2
    assert "sent by" not in "\n".join(replay.text(looks))


def test_any_other_letter_may_be_as_old_as_it_is() -> None:
    assert outdated(letter(APPROVED, EVENTS), lambda endpoint: iter([entry("approve", LATER)])) is None


def test_a_schedule_of_aws_own_operation_is_named_and_left() -> None:
    """As EventBridge Scheduler leaves it; nothing of ours takes it."""
    target = "arn:aws:scheduler:::aws-sdk:sagemaker:startPipelineExecution"
    found = letter({"PipelineName": "churn-dev"}, TARGET_ARN=target, ERROR_CODE="AccessDeniedException")
    assert (found.is_known, found.why) == (False, "AccessDeniedException")
    assert letter({"PipelineName": "churn-dev"}, ERROR_CODE="Throttled").why == "Throttled"
