"""Events: what SageMaker tells EventBridge, and what happens to it on the way to queues and functions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from local_aws import LocalAWS
from local_aws.events import HELD_FOR_REORDERING, Events, event_time
from local_aws.store import Scope
from tests.local_aws.lambda_requests import SPECIFICATION, Parts
from tests.local_aws.waiting import wait_for

SCOPE = Scope("123456789012", "us-east-1")


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with LocalAWS(clock_speed=120) as aws:
        yield Parts(aws)


@pytest.fixture
def faults(parts: Parts) -> Iterator[LocalAWS]:
    yield parts.aws
    parts.aws.configure("events", {})


# --- what is told


def test_a_version_is_told_when_it_is_created_approved_and_deleted(parts):
    url, arn = parts.queue("told")
    parts.rule("told", parts.group("told"), arn)

    package = parts.version("told")
    parts.approve(package)
    parts.sagemaker.delete_model_package(ModelPackageName=package)
    created, approved, deleted = parts.received(url, 3)

    assert created["detail-type"] == "SageMaker Model Package State Change"
    assert created["resources"] == [package]
    assert created["detail"]["ModelApprovalStatus"] == "PendingManualApproval"
    assert "UpdatedModelPackageFields" not in created["detail"]
    described = {"ModelPackageGroupName": "told", "ModelPackageVersion": 1, "ModelPackageArn": package}
    assert approved["detail"].items() >= described.items()
    assert approved["detail"]["ModelApprovalStatus"] == "Approved"
    assert approved["detail"]["UpdatedModelPackageFields"] == ["ModelApprovalStatus"]
    assert time.strptime(approved["detail"]["LastModifiedTime"], "%Y-%m-%dT%H:%M:%SZ")
    assert deleted["detail"]["ModelPackageStatus"] == "Deleting"


def test_a_stamp_is_an_event_that_names_other_fields_and_still_says_approved(parts):
    url, arn = parts.queue("stamped")
    pattern = parts.group("stamped")
    package = parts.version("stamped")
    parts.approve(package)
    parts.rule("stamped", pattern, arn)

    parts.sagemaker.update_model_package(ModelPackageArn=package, CustomerMetadataProperties={"approval.by": "me"})
    (event,) = parts.received(url)

    assert event["detail"]["UpdatedModelPackageFields"] == ["CustomerMetadataProperties"]
    assert event["detail"]["ModelApprovalStatus"] == "Approved"
    # Who approved and the stamps themselves are only in DescribeModelPackage.
    assert not {"CustomerMetadataProperties", "LastModifiedBy", "ApprovalDescription"} & set(event["detail"])


def test_an_approval_that_a_version_has_already_is_no_event(parts):
    url, arn = parts.queue("again")
    pattern = parts.group("again")
    package = parts.version("again")
    parts.approve(package)
    parts.rule("again", pattern, arn)

    parts.approve(package)
    approved = {"ModelPackageArn": package, "ModelApprovalStatus": "Approved"}
    parts.sagemaker.update_model_package(**approved, ApprovalDescription="once more")
    parts.sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Rejected")
    parts.approve(package)
    events = parts.received(url, 3)

    fields = [event["detail"]["UpdatedModelPackageFields"] for event in events]
    assert fields == [["ApprovalDescription"], ["ModelApprovalStatus"], ["ModelApprovalStatus"]]


def test_an_execution_and_its_steps_are_told_as_they_change(parts):
    url, arn = parts.queue("executed")
    types = [
        "SageMaker Model Building Pipeline Execution Status Change",
        "SageMaker Model Building Pipeline Execution Step Status Change",
    ]
    parts.rule("executed", {"source": ["aws.sagemaker"], "detail-type": types}, arn)
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}}]}
    iam = parts.aws.client("iam")
    role = iam.create_role(RoleName="pipeline", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    steps = [{"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "worse than before"}}]
    definition = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": steps})
    parts.sagemaker.create_pipeline(PipelineName="told", RoleArn=role, PipelineDefinition=definition)

    execution = parts.sagemaker.start_pipeline_execution(PipelineName="told")["PipelineExecutionArn"]
    events = parts.received(url, 5)

    statuses = [event["detail"].get("currentPipelineExecutionStatus") for event in events]
    assert [status for status in statuses if status] == ["Executing", "Failed"]
    told = [event["detail"] for event in events if event["detail-type"] == types[1]]
    assert [step["currentStepStatus"] for step in told] == ["Starting", "Executing", "Failed"]
    assert told[2]["failureReason"] == "worse than before"
    assert told[2]["metadata"] == {"fail": {"errorMessage": "worse than before"}}
    assert told[2]["stepType"] == "Fail"
    assert all(event["resources"] == [execution.partition("/execution/")[0], execution] for event in events)


# --- faults on request


def test_each_event_can_come_twice_with_ids_of_its_own(parts, faults):
    url, arn = parts.queue("doubled")
    parts.rule("doubled", parts.group("doubled"), arn)
    faults.configure("events", {"double": 1.0})

    parts.version("doubled")
    first, second = parts.received(url, 2)

    assert first["detail"] == second["detail"]
    assert first["id"] != second["id"]


def test_events_can_be_lost(parts, faults):
    url, arn = parts.queue("lost")
    parts.rule("lost", parts.group("lost"), arn)
    faults.configure("events", {"lose": 1.0})
    package = parts.version("lost")
    faults.configure("events", {"lose": 0.0})

    parts.approve(package)

    assert [event["detail"]["ModelApprovalStatus"] for event in parts.received(url)] == ["Approved"]
    assert parts.is_empty(url)


def test_events_can_be_late(parts, faults):
    url, arn = parts.queue("late")
    parts.rule("late", parts.group("late"), arn)
    faults.configure("events", {"delay_seconds": 1.5})

    started = time.monotonic()
    parts.version("late")
    parts.received(url)

    assert time.monotonic() - started > 1.5


def test_events_can_come_in_another_order(parts, faults):
    url, arn = parts.queue("reordered")
    pattern = parts.group("reordered")
    package = parts.version("reordered")
    parts.rule("reordered", pattern, arn)
    faults.configure("events", {"reorder": True})

    parts.approve(package)
    parts.approve(package, "Rejected")
    events = parts.received(url, 2)

    assert [event["detail"]["ModelApprovalStatus"] for event in events] == ["Rejected", "Approved"]


def test_an_event_that_none_follows_is_not_held_for_ever():
    taken: list[str] = []
    events = Events(lambda _scope, entry: taken.append(entry["DetailType"]))
    events.configure({"reorder": True})

    started = time.monotonic()
    events.emit(SCOPE, "alone", [], {})
    wait_for(lambda: taken)
    waited = time.monotonic() - started
    events.emit(SCOPE, "next", [], {})
    events.emit(SCOPE, "last", [], {})
    wait_for(lambda: len(taken) == 3)
    events.stop()

    assert HELD_FOR_REORDERING * 0.9 < waited < HELD_FOR_REORDERING + 5
    assert taken == ["alone", "last", "next"]


def test_alarms_events_are_never_lost():
    taken: list[str] = []
    events = Events(lambda _scope, entry: taken.append(entry["Source"]))
    events.configure({"lose": 1.0})

    events.emit(SCOPE, "any", [], {})
    events.emit(SCOPE, "any", [], {}, source="aws.cloudwatch")
    wait_for(lambda: taken)
    events.stop()

    assert taken == ["aws.cloudwatch"]


def test_an_event_says_what_was_so_when_it_was_sent():
    taken: list[str] = []
    events = Events(lambda _scope, entry: taken.append(entry["Detail"]))
    events.configure({"delay_seconds": 0.05})
    detail = {"Status": "before"}

    events.emit(SCOPE, "any", [], detail)
    detail["Status"] = "after"
    wait_for(lambda: taken)
    events.stop()

    assert json.loads(taken[0]) == {"Status": "before"}


def test_one_event_that_eventbridge_refuses_does_not_stop_the_next():
    taken: list[str] = []

    def put(_scope: Scope, entry: dict[str, str]) -> None:
        if entry["DetailType"] == "bad":
            raise ValueError("refused")
        taken.append(entry["DetailType"])

    events = Events(put)
    events.emit(SCOPE, "bad", [], {})
    events.emit(SCOPE, "good", [], {})
    wait_for(lambda: taken)
    events.stop()

    assert taken == ["good"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"doubel": 1}, "there is no setting doubel"),
        ({"double": 2}, "give the share of the events, 0 to 1"),
        ({"lose": True}, "give the share of the events, 0 to 1"),
        ({"delay_seconds": -1}, "give seconds, 0 or more"),
        ({"reorder": "yes"}, "give true or false"),
        ({"serverless": "all"}, "give 'none' or 'some'"),
    ],
)
def test_a_fault_that_is_none_is_refused(parts, settings, said):
    with pytest.raises(ValueError, match=said):
        parts.aws.configure("events", settings)


def test_serverless_endpoints_tell_nothing_or_every_second_change():
    events = Events(lambda _scope, _entry: None)
    silent = [events.for_serverless() for _ in range(4)]
    events.configure({"serverless": "some"})
    some = [events.for_serverless() for _ in range(4)]
    events.stop()

    assert silent == [False] * 4
    assert sorted(some) == [False, False, True, True]


def test_times_in_events_are_utc_in_whole_seconds():
    assert event_time(1614186014.9) == "2021-02-24T17:00:14Z"


# --- to queues and functions


def _is_longer(path: Path, length: int) -> bool:
    return len(path.read_text()) > length


def test_every_approval_by_any_client_reaches_the_function_once(parts, tmp_path):
    seen = tmp_path / "seen"
    seen.touch()
    source = f"def handler(event, context):\n    open({str(seen)!r}, 'a').write('.')"
    url, arn = parts.queue("heard", VisibilityTimeout="360")
    parts.rule("heard", parts.group("heard"), arn)
    parts.function("heard", source)
    parts.functions.create_event_source_mapping(FunctionName="heard", EventSourceArn=arn, BatchSize=1)
    package = parts.version("heard")
    wait_for(lambda: seen.read_text() == ".")

    for status in ("Approved", "Rejected") * 5:
        before = len(seen.read_text())
        parts.approve(package, status)
        wait_for(partial(_is_longer, seen, before))

    assert parts.is_empty(url)
    assert seen.read_text() == "." * 11


def test_the_command_line_approves_too(parts):
    url, arn = parts.queue("aws-cli")
    pattern = parts.group("aws-cli")
    package = parts.version("aws-cli")
    parts.rule("aws-cli", pattern, arn)

    command = [str(Path(sys.executable).with_name("aws")), "sagemaker", "update-model-package"]
    command += ["--model-package-arn", package, "--model-approval-status", "Approved"]
    subprocess.run(command, env=parts.aws.environment | {"PATH": "/usr/bin:/bin"}, check=True, capture_output=True)

    assert parts.received(url)[0]["detail"]["ModelApprovalStatus"] == "Approved"


def test_a_message_that_a_function_fails_goes_to_the_dead_letters_after_its_receives(parts):
    dead, dead_arn = parts.queue("failing-dead")
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 3})
    url, arn = parts.queue("failing", VisibilityTimeout="30", RedrivePolicy=policy)
    parts.function("failing", "def handler(event, context): raise ValueError('no')")
    parts.functions.create_event_source_mapping(FunctionName="failing", EventSourceArn=arn)

    started = time.monotonic()
    parts.queues.send_message(QueueUrl=url, MessageBody=json.dumps({"look": "everything"}))
    (message,) = parts.received(dead)
    took = time.monotonic() - started

    assert message == {"look": "everything"}
    # Three times invisible for 30 of AWS's seconds, 120 of which pass in one here.
    assert 0.75 <= took < 45  # thrice 30 s of the machine's would be 90


def test_only_the_messages_that_a_function_names_come_again(parts, tmp_path):
    seen = tmp_path / "seen"
    seen.touch()
    source = f"""
import json
def handler(event, context):
    failures = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        first = record["attributes"]["ApproximateReceiveCount"] == "1"
        open({str(seen)!r}, "a").write(body["name"] + " ")
        if body["name"] == "bad" and first:
            failures.append({{"itemIdentifier": record["messageId"]}})
    return {{"batchItemFailures": failures}}
"""
    url, arn = parts.queue("partial", VisibilityTimeout="60")
    parts.function("partial", source)
    for name in ("good", "bad"):
        parts.queues.send_message(QueueUrl=url, MessageBody=json.dumps({"name": name}))
    parts.functions.create_event_source_mapping(
        FunctionName="partial", EventSourceArn=arn, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"]
    )

    wait_for(lambda: len(seen.read_text().split()) >= 3)
    time.sleep(0.7)

    assert sorted(seen.read_text().split()) == ["bad", "bad", "good"]
    assert parts.is_empty(url)


def test_a_message_stays_invisible_while_its_function_runs_however_fast_the_clock(parts, tmp_path):
    seen = tmp_path / "seen"
    source = f"import time\ndef handler(event, context):\n    open({str(seen)!r}, 'a').write('x')\n    time.sleep(1)"
    url, arn = parts.queue("slow", VisibilityTimeout="12")  # 0.1 s here
    parts.function("slow", source)
    parts.functions.create_event_source_mapping(FunctionName="slow", EventSourceArn=arn)

    parts.queues.send_message(QueueUrl=url, MessageBody="{}")
    time.sleep(1.6)

    assert seen.read_text() == "x"


def test_visibility_and_delay_pass_with_the_clock(parts):
    url, _ = parts.queue("clocked", VisibilityTimeout="60")
    parts.queues.send_message(QueueUrl=url, MessageBody="{}", DelaySeconds=60)
    delayed = parts.is_empty(url)
    (message,) = wait_for(lambda: parts.queues.receive_message(QueueUrl=url).get("Messages"))
    parts.queues.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=120)
    changed = time.monotonic()
    wait_for(lambda: parts.queues.receive_message(QueueUrl=url).get("Messages"))
    invisible = time.monotonic() - changed

    assert delayed
    assert 0.9 < invisible < 60  # not 120 s of the machine's


def test_a_rules_function_is_tried_three_times_and_then_its_failure_is_told(parts, tmp_path):
    tries, (url, arn) = tmp_path / "tries", parts.queue("told-failures")
    source = f"""
def handler(event, context):
    open({str(tries)!r}, "a").write("x")
    raise RuntimeError("out of order")
"""
    function = parts.function("retried", source)
    parts.functions.put_function_event_invoke_config(
        FunctionName="retried", DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    parts.rule("retried", parts.group("retried"), function)

    started = time.monotonic()
    package = parts.version("retried")
    (told,) = parts.received(url)
    took = time.monotonic() - started

    assert tries.read_text() == "xxx"
    assert 1.5 <= took < 10  # one minute and two minutes, at 120
    assert told["requestContext"].items() >= {"condition": "RetriesExhausted", "approximateInvokeCount": 3}.items()
    assert told["requestPayload"]["resources"] == [package]
    assert told["responsePayload"]["errorMessage"] == "out of order"
    assert told["responseContext"]["functionError"] == "Unhandled"


def test_a_function_without_retries_sends_the_event_itself_to_its_dead_letters(parts):
    url, arn = parts.queue("dead-letters")
    parts.function("once", "def handler(event, context): raise ValueError('no')", DeadLetterConfig={"TargetArn": arn})
    parts.functions.put_function_event_invoke_config(FunctionName="once", MaximumRetryAttempts=0)

    parts.functions.invoke(FunctionName="once", InvocationType="Event", Payload=json.dumps({"a": 1}))

    assert parts.received(url) == [{"a": 1}]


def test_a_topics_function_is_tried_again_too(parts, tmp_path):
    tries = tmp_path / "tries"
    source = f"""
from pathlib import Path
def handler(event, context):
    with open({str(tries)!r}, "a") as file:
        file.write(event["Records"][0]["Sns"]["Message"] + " ")
    if Path({str(tries)!r}).read_text().count("hello") == 1:
        raise ValueError("not yet")
"""
    topics = parts.aws.client("sns")
    topic = topics.create_topic(Name="tried")["TopicArn"]
    function = parts.function("notified", source)
    topics.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)

    topics.publish(TopicArn=topic, Message="hello")
    wait_for(lambda: tries.exists() and tries.read_text() == "hello hello ")


def test_an_event_for_a_target_that_is_gone_goes_to_the_targets_dead_letters(parts):
    url, arn = parts.queue("targets-dead-letters")
    pattern = parts.group("gone")
    account = parts.aws.server.account
    parts.events.put_rule(Name="gone", EventPattern=json.dumps(pattern))
    gone = [f"arn:aws:lambda:us-east-1:{account}:function:gone", f"arn:aws:sqs:us-east-1:{account}:gone"]
    targets = [{"Id": f"{n}", "Arn": each, "DeadLetterConfig": {"Arn": arn}} for n, each in enumerate(gone)]
    parts.events.put_targets(Rule="gone", Targets=targets)

    package = parts.version("gone")

    assert [event["resources"] for event in parts.received(url, 2)] == [[package], [package]]


def test_events_stay_in_their_account_and_region(parts):
    here, arn = parts.queue("apart")
    parts.rule("apart", parts.group("apart"), arn)
    account, region = "210987654321", "eu-west-1"
    sagemaker, queues, events = (parts.aws.client(name, account, region) for name in ("sagemaker", "sqs", "events"))
    url = queues.create_queue(QueueName="apart")["QueueUrl"]
    target = f"arn:aws:sqs:{region}:{account}:apart"
    pattern = json.dumps({"source": ["aws.sagemaker"]})
    events.put_rule(Name="apart", EventPattern=pattern)
    events.put_targets(Rule="apart", Targets=[{"Id": "q", "Arn": target}])

    sagemaker.create_model_package_group(ModelPackageGroupName="apart")
    package = sagemaker.create_model_package(ModelPackageGroupName="apart", InferenceSpecification=SPECIFICATION)
    (message,) = wait_for(lambda: queues.receive_message(QueueUrl=url).get("Messages"))
    event = json.loads(message["Body"])

    assert (event["account"], event["region"]) == (account, region)
    assert event["resources"] == [package["ModelPackageArn"]]
    assert parts.is_empty(here)


def test_a_versions_event_has_the_members_of_awss_sample_and_no_others(parts):
    """https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html"""
    url, arn = parts.queue("sample")
    parts.rule("sample", parts.group("sample"), arn)
    source = {"ContentType": "application/json", "S3Uri": "s3://models/evaluation.json"}
    package = parts.sagemaker.create_model_package(
        ModelPackageGroupName="sample",
        InferenceSpecification=SPECIFICATION,
        ModelMetrics={"ModelQuality": {"Statistics": source}},
        MetadataProperties={"GeneratedBy": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/p/execution/e"},
        CustomerMetadataProperties={"commit": "abc"},
    )["ModelPackageArn"]
    lifecycle = {"Stage": "Development", "StageStatus": "Approved", "StageDescription": "looks good"}
    parts.sagemaker.update_model_package(ModelPackageArn=package, ModelLifeCycle=lifecycle)
    _, event = parts.received(url, 2)

    envelope = ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"]
    assert sorted(event) == sorted(envelope)
    assert set(event["detail"]) == {
        "ModelPackageGroupName",
        "ModelPackageVersion",
        "ModelPackageArn",
        "CreationTime",
        "InferenceSpecification",
        "ModelPackageStatus",
        "ModelPackageStatusDetails",
        "CertifyForMarketplace",
        "ModelApprovalStatus",
        "MetadataProperties",
        "ModelMetrics",
        "ModelLifeCycle",
        "UpdatedModelPackageFields",
        "LastModifiedTime",
    }
    assert event["detail"]["ModelLifeCycle"] == lifecycle
    assert event["detail"]["UpdatedModelPackageFields"] == ["ModelLifeCycle"]
