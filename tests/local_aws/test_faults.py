"""Faults on demand, as real clients without retries meet them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from local_aws import LocalAWS
from local_aws.environment import OWN_USER_AGENT
from tests.local_aws.clients import trying_once
from tests.local_aws.job_requests import Workshop
from tests.local_aws.lambda_requests import Parts
from tests.local_aws.model_programs import IMAGE, SCRIPT_MODE, named
from tests.local_aws.waiting import wait_for

SPEED = 600.0  # an invisible message comes again after a tenth of a second for each minute


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with LocalAWS(clock_speed=SPEED) as aws:
        yield Parts(aws)


@pytest.fixture(autouse=True)
def no_rules(parts: Parts) -> Iterator[None]:
    yield
    parts.aws.configure("faults", {"rules": []})


def set_rules(parts: Parts, *rules: dict[str, Any]) -> None:
    parts.aws.configure("faults", {"rules": list(rules)})


def rule(service: str, operation: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"service": service, "operation": operation, "kind": kind, **more}


def hits(parts: Parts) -> list[tuple[int, int]]:
    return [(each["matched"], each["hit"]) for each in parts.aws.settings("faults")["rules"]]


CALLS = {
    "json": ("sagemaker", "ListModels", "list_models", "ThrottlingException"),
    "json that was query": ("sqs", "ListQueues", "list_queues", "RequestThrottled"),
    "query": ("iam", "ListRoles", "list_roles", "Throttling"),
    "rest-json": ("scheduler", "ListSchedules", "list_schedules", "ThrottlingException"),
    "rest-xml": ("s3", "ListBuckets", "list_buckets", "SlowDown"),
    "of several": ("cloudwatch", "ListMetrics", "list_metrics", "Throttling"),
}


@pytest.mark.parametrize("protocol", CALLS)
def test_an_error_is_raised_with_its_code_message_and_status_once(parts, protocol):
    service, operation, method, _ = CALLS[protocol]
    call = getattr(trying_once(parts.aws, service), method)
    set_rules(parts, rule(service, operation, "error", code="OutOfOrder", status=503, message="come back <later>"))

    with pytest.raises(ClientError) as raised:
        call()

    assert raised.value.response["Error"]["Code"] == "OutOfOrder"
    assert raised.value.response["Error"]["Message"] == "come back <later>"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert call()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert hits(parts) == [(2, 1)]


@pytest.mark.parametrize("protocol", CALLS)
def test_a_throttle_is_the_service_s_own(parts, protocol):
    service, operation, method, code = CALLS[protocol]
    set_rules(parts, rule(service, operation, "throttle"))

    with pytest.raises(ClientError) as raised:
        getattr(trying_once(parts.aws, service), method)()

    assert raised.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("protocol", CALLS)
def test_a_dropped_call_gets_no_answer(parts, protocol):
    service, operation, method, _ = CALLS[protocol]
    call = getattr(trying_once(parts.aws, service), method)
    set_rules(parts, rule(service, operation, "drop"))

    with pytest.raises(ConnectionClosedError):
        call()

    assert call()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_boto3_s_own_retries_survive_a_throttle(parts):
    retrying = trying_once(parts.aws, "sqs", retries={"total_max_attempts": 2, "mode": "standard"})
    set_rules(parts, rule("sqs", "ListQueues", "throttle"))

    answer = retrying.list_queues()

    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert hits(parts) == [(2, 1)]


def exists(parts: Parts, queue: str) -> bool:
    return any(url.endswith(f"/{queue}") for url in parts.queues.list_queues().get("QueueUrls", []))


@pytest.mark.parametrize("kind", ["error", "throttle", "drop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_before_is_not_executed_and_after_is(parts, kind, when):
    name = f"{kind}-{when}"
    set_rules(parts, rule("sqs", "CreateQueue", kind, when=when))

    with pytest.raises((ClientError, ConnectionClosedError)):
        trying_once(parts.aws, "sqs").create_queue(QueueName=name)

    assert exists(parts, name) == (when == "after")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delayed_call_is_answered_late(parts, when):
    set_rules(parts, rule("sqs", "CreateQueue", "delay", when=when, seconds=0.2))
    began = time.monotonic()

    trying_once(parts.aws, "sqs").create_queue(QueueName=f"late-{when}")

    assert time.monotonic() - began >= 0.2
    assert exists(parts, f"late-{when}")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_whose_client_gives_up_waiting_is_executed_all_the_same(parts, when):
    set_rules(parts, rule("sqs", "CreateQueue", "delay", when=when, seconds=1))

    with pytest.raises(ReadTimeoutError):
        trying_once(parts.aws, "sqs", read_timeout=0.2).create_queue(QueueName=f"given-up-{when}")

    wait_for(lambda: exists(parts, f"given-up-{when}"))


def outcomes(call: Callable[[], Any], count: int) -> str:
    """ "." for each call that is answered, "x" for each that is not."""
    text = ""
    for _ in range(count):
        try:
            call()
        except ClientError:
            text += "x"
        else:
            text += "."
    return text


def test_the_nth_call_and_those_after_it_are_hit(parts):
    call = trying_once(parts.aws, "sqs").list_queues
    set_rules(parts, rule("sqs", "ListQueues", "error", nth=2, times=2))

    assert outcomes(call, 5) == ".xx.."
    assert hits(parts) == [(5, 2)]
    assert call()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_rule_without_end_holds_until_the_rules_are_ended(parts):
    call = trying_once(parts.aws, "sqs").list_queues
    set_rules(parts, rule("sqs", "ListQueues", "error", times=None))

    assert outcomes(call, 3) == "xxx"
    set_rules(parts)
    assert outcomes(call, 2) == ".."
    assert parts.aws.settings("faults") == {"rules": []}


def test_setting_rules_counts_anew(parts):
    call = trying_once(parts.aws, "sqs").list_queues
    for _ in range(2):
        set_rules(parts, rule("sqs", "ListQueues", "error"))
        assert outcomes(call, 2) == "x."


def test_only_the_named_caller_is_hit(parts):
    answer = parts.aws.client("sts").assume_role(RoleArn=parts.role, RoleSessionName="deploy")
    names = {"AccessKeyId": "aws_access_key_id", "SecretAccessKey": "aws_secret_access_key"}
    names["SessionToken"] = "aws_session_token"
    session = boto3.Session(**{names[key]: answer["Credentials"][key] for key in names})
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    other = session.client("sqs", endpoint_url=parts.aws.endpoint, region_name="us-east-1", config=config)
    set_rules(parts, rule("sqs", "ListQueues", "error", caller="functions/deploy", times=None))

    assert outcomes(trying_once(parts.aws, "sqs").list_queues, 2) == ".."
    assert outcomes(other.list_queues, 2) == "xx"
    assert hits(parts) == [(2, 2)]


def test_what_the_server_asks_itself_is_never_hit(parts):
    own = trying_once(parts.aws, "sqs", user_agent_extra=OWN_USER_AGENT)
    set_rules(parts, rule("sqs", "ListQueues", "error", times=None))

    assert outcomes(own.list_queues, 2) == ".."
    assert hits(parts) == [(0, 0)]


def test_other_operations_and_large_bodies_pass_unchanged(parts):
    s3, body = trying_once(parts.aws, "s3"), bytes(range(256)) * 40_000
    set_rules(parts, rule("s3", "DeleteObject", "error", times=None))
    s3.create_bucket(Bucket="large")

    s3.put_object(Bucket="large", Key="a/b c", Body=body)

    assert s3.get_object(Bucket="large", Key="a/b c")["Body"].read() == body
    assert hits(parts) == [(0, 0)]


CALLING = """
import boto3

def handler(event, context):
    boto3.client("sqs").create_queue(QueueName=event)
    return "done"
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_function_that_calls_is_killed_before_or_after_its_call(parts, when):
    name = f"killed-{when}"
    parts.function(name, CALLING)
    set_rules(parts, rule("sqs", "CreateQueue", "kill", when=when, caller=f"/{name}"))

    answer, failed = parts.invoke(name, name)

    assert (answer["errorType"], failed) == ("Runtime.ExitError", "Unhandled")
    assert "signal: killed" in answer["errorMessage"]
    assert exists(parts, name) == (when == "after")
    assert parts.invoke(name, name) == ("done", None)


def test_a_kill_is_for_functions_alone(parts):
    set_rules(parts, rule("sqs", "CreateQueue", "kill"))

    trying_once(parts.aws, "sqs").create_queue(QueueName="not-killed")

    assert hits(parts) == [(0, 0)]


def test_an_event_whose_function_is_killed_comes_again_from_its_queue(parts):
    url, arn = parts.queue("work", VisibilityTimeout="60")
    parts.queue("done")
    name = "worker"
    source = """
import boto3

def handler(event, context):
    queues = boto3.client("sqs")
    url = queues.get_queue_url(QueueName="done")["QueueUrl"]
    queues.send_message(QueueUrl=url, MessageBody=event["Records"][0]["body"])
"""
    parts.function(name, source)
    set_rules(parts, rule("sqs", "SendMessage", "kill", caller=f"/{name}"))
    parts.functions.create_event_source_mapping(EventSourceArn=arn, FunctionName=name, BatchSize=1)

    parts.queues.send_message(QueueUrl=url, MessageBody=json.dumps({"number": 7}))

    assert parts.received(parts.queues.get_queue_url(QueueName="done")["QueueUrl"]) == [{"number": 7}]
    assert hits(parts) == [(2, 1)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"service": "sagemakr"}, "there is no service 'sagemakr'"),
        ({"operation": "ListModel"}, "sagemaker has no operation 'ListModel'; do you mean ListModels?"),
        ({"operation": "Nothing at all"}, "sagemaker has no operation 'Nothing at all'."),
        ({"kind": "explode"}, "there is no kind 'explode'; there are error, throttle, delay, drop, kill"),
        ({"when": "during"}, "when 'during' is neither before nor after"),
        ({"nth": 0}, "nth 0: calls are counted from 1"),
        ({"nth": "1"}, "nth '1' is of the wrong type"),
        ({"nth": True}, "nth True is of the wrong type"),
        ({"times": 0}, "times 0: give 1 or more, or null"),
        ({"status": 200}, "status 200 is no error's"),
        ({"seconds": 3}, "seconds means nothing to kind 'error'"),
        ({"kind": "drop", "code": "x"}, "code means nothing to kind 'drop'"),
        ({"kind": "delay"}, "a delay has more than 0"),
        ({"kind": "delay", "seconds": -1}, "a delay has more than 0"),
        ({"colour": "red"}, "a rule has no colour; it has service, operation"),
        (
            {"service": "sagemaker-runtime", "operation": "InvokeEndpoint"},
            "a process of its own, which no rule reaches",
        ),
        ({"service": "sesv2", "operation": "SendEmail"}, "does not tell calls of sesv2 from those of other services"),
    ],
)
def test_a_wrong_rule_is_refused_and_nothing_is_set(parts, changes, said):
    kept = rule("sqs", "ListQueues", "drop")
    set_rules(parts, kept)

    with pytest.raises(ValueError, match=r"faults: rule 2 \(.*\): ") as raised:
        set_rules(parts, rule("sqs", "ListQueues", "error"), rule("sagemaker", "ListModels", "error") | changes)

    assert said in str(raised.value)
    assert [each["kind"] for each in parts.aws.settings("faults")["rules"]] == ["drop"]


@pytest.mark.parametrize("settings", [{}, {"rules": {}}, {"rules": ["x"]}, {"rules": [], "more": 1}])
def test_settings_that_are_no_rules_are_refused(parts, settings):
    with pytest.raises(ValueError, match=r'the settings are \{"rules"'):
        parts.aws.configure("faults", settings)


def test_rules_are_read_with_their_defaults(parts):
    set_rules(parts, rule("sqs", "ListQueues", "throttle"))

    expected = rule("sqs", "ListQueues", "throttle", when="before", nth=1, times=1, matched=0, hit=0)
    assert parts.aws.settings("faults")["rules"] == [expected]


# Processes by name


def running(parts: Parts, kind: str) -> dict[str, int]:
    found = parts.aws.settings("processes")["processes"]
    return {each["name"]: each["pid"] for each in found if each["kind"] == kind}


def test_a_function_s_process_is_killed_by_name_and_another_takes_its_place(parts):
    parts.function("kept", "import os\ndef handler(event, context):\n    return os.getpid()\n")
    first, _ = parts.invoke("kept")
    assert running(parts, "function")["kept"] == first

    parts.aws.configure("processes", {"kill": "kept"})
    wait_for(lambda: "kept" not in running(parts, "function"))

    second, failed = parts.invoke("kept")
    assert (second != first, failed) == (True, None)


def test_a_job_whose_program_is_killed_fails(parts):
    workshop = Workshop(parts.aws)
    request = workshop.processing_request("import time\nprint('runs', flush=True)\ntime.sleep(60)\n")
    name = request["ProcessingJobName"]
    parts.sagemaker.create_processing_job(**request)
    wait_for(lambda: name in running(parts, "processing-job"))

    parts.aws.configure("processes", {"kill": name})

    def ended() -> str:
        status = parts.sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"]
        return "" if status == "InProgress" else status

    assert wait_for(ended) == "Failed"
    assert name not in running(parts, "processing-job")


def test_an_endpoint_whose_container_and_data_plane_are_killed_serves_again(parts):
    workshop = Workshop(parts.aws)
    name = "killed-endpoint"
    model = {"Image": IMAGE, "ModelDataUrl": workshop.put("m.tar.gz", named(name)), "Environment": SCRIPT_MODE}
    parts.sagemaker.create_model(ModelName=name, PrimaryContainer=model, ExecutionRoleArn=workshop.role)
    variant = {"VariantName": "one", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    parts.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    parts.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait_for(lambda: parts.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService", 30)
    before = running(parts, "endpoint")[name], running(parts, "data-plane")["data-plane"]

    parts.aws.configure("processes", {"kill": name})
    parts.aws.configure("processes", {"kill": "data-plane"})

    def pids() -> tuple[int | None, int]:
        return running(parts, "endpoint").get(name), running(parts, "data-plane")["data-plane"]

    after = wait_for(lambda: (now := pids()) and None not in now and not set(now) & set(before) and now, 30)
    assert set(after).isdisjoint(before)
    answer = wait_for(lambda: _asked(parts, name), 30)
    assert answer == f"{name}:1"
    parts.sagemaker.delete_endpoint(EndpointName=name)


def _asked(parts: Parts, endpoint: str) -> str | None:
    runtime = parts.aws.client("sagemaker-runtime")
    try:
        answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"1", ContentType="text/csv")
    except (ClientError, ConnectionClosedError):
        return None
    return answer["Body"].read().decode()


def test_what_does_not_run_cannot_be_killed(parts):
    with pytest.raises(ValueError, match=r"nothing runs for 'nobody'; there runs .*data-plane"):
        parts.aws.configure("processes", {"kill": "nobody"})
    with pytest.raises(ValueError, match=r'give \{"kill"'):
        parts.aws.configure("processes", {"end": "x"})
