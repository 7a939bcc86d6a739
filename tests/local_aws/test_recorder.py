"""The recorder: which calls were made, by whom, with what answer, and nothing that is secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from local_aws import LocalAWS
from local_aws.api_calls import ApiCall, HttpRequest
from local_aws.environment import OWN_USER_AGENT
from local_aws.recorder import Recorder
from local_aws.request_checks import service_model
from tests.local_aws.clients import trying_once
from tests.local_aws.lambda_requests import Parts


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with LocalAWS() as aws:
        yield Parts(aws)


@pytest.fixture(autouse=True)
def recording(parts: Parts) -> Iterator[None]:
    parts.aws.configure("recorder", {"on": True})
    yield
    parts.aws.configure("recorder", {"on": False})


def calls(parts: Parts) -> list[dict[str, Any]]:
    return parts.aws.settings("recorder")["calls"]


def test_calls_are_kept_in_their_order_with_parameters_answer_and_caller(parts):
    client = parts.aws.client("sagemaker", region="eu-west-1")

    arn = client.create_model_package_group(ModelPackageGroupName="churn", Tags=[{"Key": "a", "Value": "b"}])
    client.describe_model_package_group(ModelPackageGroupName="churn")

    first, second = calls(parts)
    assert first == {
        "service": "sagemaker",
        "operation": "CreateModelPackageGroup",
        "caller": "arn:aws:iam::123456789012:root",
        "region": "eu-west-1",
        "request": {"ModelPackageGroupName": "churn", "Tags": [{"Key": "a", "Value": "b"}]},
        "status": 200,
        "answer": {"ModelPackageGroupArn": arn["ModelPackageGroupArn"]},
    }
    assert second["operation"] == "DescribeModelPackageGroup"
    assert second["answer"]["CreationTime"].startswith("20"), "times are ISO 8601"


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("sqs", "create_queue", {"QueueName": "q", "Attributes": {"VisibilityTimeout": "7"}}),
        ("sns", "create_topic", {"Name": "t", "Attributes": {"DisplayName": "x"}, "Tags": [{"Key": "a", "Value": ""}]}),
        ("iam", "list_roles", {"PathPrefix": "/a/", "MaxItems": 5}),
        ("scheduler", "list_schedules", {"GroupName": "g", "MaxResults": 3}),
        ("lambda", "list_functions", {"MaxItems": 3}),
        ("cloudwatch", "put_metric_data", {"Namespace": "N", "MetricData": [{"MetricName": "m", "Value": 1.5}]}),
        ("dynamodb", "list_tables", {"Limit": 4}),
    ],
)
def test_parameters_are_those_that_boto3_was_given(parts, service, method, request_):
    answer = getattr(parts.aws.client(service), method)(**request_)

    (call,) = calls(parts)
    answer.pop("ResponseMetadata")
    assert (call["service"], call["request"], call["status"]) == (service, request_, 200)
    assert call["answer"] == answer


def test_objects_are_kept_by_length_and_digest(parts):
    s3, body = parts.aws.client("s3"), b"\xff\xfe" * 1000
    s3.create_bucket(Bucket="recorded")

    s3.put_object(Bucket="recorded", Key="é/a b", Body=body, Metadata={"a": "b"})
    s3.get_object(Bucket="recorded", Key="é/a b")["Body"].read()

    _, put, got = calls(parts)
    digest = {"length": 2000, "sha256": hashlib.sha256(body).hexdigest()}
    assert (put["request"]["Key"], put["request"]["Body"], put["request"]["Metadata"]) == ("é/a b", digest, {"a": "b"})
    assert (got["answer"]["Body"], got["answer"]["ContentLength"]) == (digest, 2000)


def test_errors_are_kept_as_the_client_gets_them(parts):
    with pytest.raises(ClientError):
        parts.sagemaker.describe_endpoint(EndpointName="nobody")

    (call,) = calls(parts)
    assert (call["status"], call["answer"]["Error"]["Code"]) == (400, "ValidationException")


def test_a_function_s_calls_are_kept_with_its_session(parts):
    parts.function("asking", "import boto3\ndef handler(event, context):\n    boto3.client('sqs').list_queues()\n")
    parts.invoke("asking")

    (call,) = [each for each in calls(parts) if each["operation"] == "ListQueues"]
    assert call["caller"] == "arn:aws:sts::123456789012:assumed-role/functions/asking"


def test_no_secret_is_kept(parts):
    secrets = parts.aws.client("secretsmanager")
    secrets.create_secret(Name="token", SecretString="hush-1")
    secrets.get_secret_value(SecretId="token")
    parameters = parts.aws.client("ssm")
    parameters.put_parameter(Name="/token", Value="hush-2", Type="SecureString")
    parameters.get_parameter(Name="/token", WithDecryption=True)
    session = parts.aws.client("sts").assume_role(RoleArn=parts.role, RoleSessionName="session")["Credentials"]
    parts.aws.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    parts.aws.client("cloudformation").create_stack(
        StackName="with-a-secret",
        TemplateBody=json.dumps(
            {
                "Parameters": {"Token": {"Type": "String", "NoEcho": True}},
                "Resources": {"Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"}},
            }
        ),
        Parameters=[{"ParameterKey": "Token", "ParameterValue": "hush-3"}],
    )

    text = json.dumps(calls(parts))

    assert len(calls(parts)) == 6
    for secret in ("hush-1", "hush-2", "hush-3", session["SecretAccessKey"], session["SessionToken"], "AWS4-HMAC"):
        assert secret not in text


def test_what_a_fault_hit_is_kept_with_the_rule(parts):
    rule = {"service": "sqs", "operation": "ListQueues", "kind": "drop", "nth": 1, "times": 1}
    parts.aws.configure("faults", {"rules": [rule]})

    client = trying_once(parts.aws, "sqs")
    with pytest.raises(ConnectionClosedError):
        client.list_queues()
    client.list_queues()
    parts.aws.configure("faults", {"rules": []})

    lost, answered = calls(parts)
    assert (lost["status"], lost["answer"], lost["fault"]["kind"]) == (None, None, "drop")
    assert (answered["status"], "fault" in answered) == (200, False)


def test_what_the_server_asks_itself_is_left_out(parts):
    trying_once(parts.aws, "sqs", user_agent_extra=OWN_USER_AGENT).list_queues()

    assert calls(parts) == []


def test_turned_off_it_keeps_what_it_has_and_takes_no_more_and_turned_on_it_begins_anew(parts):
    parts.queues.list_queues()
    parts.aws.configure("recorder", {"on": False})
    parts.queues.list_queues()
    assert len(calls(parts)) == 1

    parts.aws.configure("recorder", {"on": True})

    assert parts.aws.settings("recorder") == {"on": True, "file": None, "dropped": 0, "calls": []}


def test_a_file_gets_every_call_as_a_line(parts, tmp_path):
    file = tmp_path / "calls.jsonl"
    parts.aws.configure("recorder", {"on": True, "file": str(file)})

    parts.queues.list_queues()
    parts.sagemaker.list_models()

    assert file.stat().st_mode & 0o777 == 0o600  # texts may be secrets
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == calls(parts)
    assert [line["operation"] for line in lines] == ["ListQueues", "ListModels"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "the settings are"),
        ({"on": 1}, "the settings are"),
        ({"on": True, "more": 1}, "the settings are"),
        ({"on": False, "file": "/tmp/x"}, "means nothing"),
        ({"on": True, "file": "calls.jsonl"}, "is no absolute path"),
        ({"on": True, "file": "/nonexistent/calls.jsonl"}, "cannot be written: No such file or directory"),
    ],
)
def test_wrong_settings_are_refused(parts, settings, said):
    with pytest.raises(ValueError, match=said):
        parts.aws.configure("recorder", settings)


def keep(recorder: Recorder, number: int) -> None:
    call = ApiCall("sqs", service_model("sqs").operation_model("ListQueues"), "json", "us-east-1", "123456789012")
    request = HttpRequest("POST", "/", {}, {}, json.dumps({"QueueNamePrefix": str(number)}).encode())
    recorder.keep(call, request, "arn", None, (200, {}, b"{}"))


def test_memory_is_bounded_and_the_oldest_calls_go_first():
    by_count, by_size = Recorder(most_calls=2), Recorder(most_bytes=400)
    for recorder in (by_count, by_size):
        recorder.configure({"on": True})
        for number in range(5):
            keep(recorder, number)

        settings = recorder.settings()
        kept = [call["request"]["QueueNamePrefix"] for call in settings["calls"]]
        assert kept == ["0", "1", "2", "3", "4"][settings["dropped"] :]
        assert 3 <= settings["dropped"] < 5


def test_a_request_that_does_not_follow_its_model_is_kept_without_its_parameters(tmp_path: Path):
    recorder = Recorder()
    recorder.configure({"on": True})
    call = ApiCall("sqs", service_model("sqs").operation_model("ListQueues"), "json", "us-east-1", "123456789012")

    recorder.keep(call, HttpRequest("POST", "/", {}, {}, b"[1]"), "arn", None, (400, {}, b'{"__type": "Bad"}'))

    (kept,) = recorder.settings()["calls"]
    assert (kept["request"], kept["status"], kept["answer"]["Error"]["Code"]) == (None, 400, "Bad")
