"""Which call a request is, and what it asks, told from what botocore itself sends."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.awsrequest import HeadersDict
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.retries.standard import ThrottledRetryableChecker
from botocore.serialize import create_serializer

from local_aws.api_calls import (
    CBOR,
    NOT_KEPT,
    ApiCall,
    HttpRequest,
    error_answer,
    find_call,
    parsed_answer,
    parsed_request,
    throttling,
)
from local_aws.request_checks import service_model

SERVICES = (
    "application-autoscaling",
    "cloudformation",
    "cloudwatch",
    "codecommit",
    "codepipeline",
    "dynamodb",
    "events",
    "iam",
    "kms",
    "lambda",
    "logs",
    "s3",
    "sagemaker",
    "scheduler",
    "secretsmanager",
    "sns",
    "sqs",
    "ssm",
    "stepfunctions",
    "sts",
)
# The same request as the other one: nothing can tell them apart.
ALIKE = {
    ("s3", "GetBucketLifecycle"): "GetBucketLifecycleConfiguration",
    ("s3", "PutBucketLifecycle"): "PutBucketLifecycleConfiguration",
    ("s3", "GetBucketNotification"): "GetBucketNotificationConfiguration",
    ("s3", "PutBucketNotification"): "PutBucketNotificationConfiguration",
    ("s3", "ListDirectoryBuckets"): "ListBuckets",
}
CREDENTIAL = (
    "AWS4-HMAC-SHA256 Credential=123456789012/20261121/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=0"
)


def example(shape: Shape, depth: int = 0) -> Any:
    """A value of a shape with its required members, and of those that are not in the body all."""
    kind = shape.type_name
    if kind == "structure":
        members, required = shape.members, shape.required_members
        names = [name for name in members if name in required or (members[name].type_name == "string" and depth < 2)]
        if shape.is_tagged_union:
            names = list(members)[:1]
        elif depth and not names:
            names = [name for name in members if members[name].type_name in ("boolean", "string")][:1]
        return {name: example(members[name], depth + 1) for name in names}
    if kind == "list":
        return [example(shape.member, depth + 1)]
    if kind == "map":
        return {"k": example(shape.value, depth + 1)}
    if kind == "string":
        plain = shape.serialization.get("location") in ("header", "headers") or shape.serialization.get("hostLabel")
        return shape.enum[0] if shape.enum else "plain" if plain else "a b/é+"
    return {"blob": b"\xff\x00", "boolean": True, "timestamp": "2026-11-21T00:00:00+00:00"}.get(kind, 7)


def sent(operation: OperationModel, parameters: dict[str, Any], protocol: str | None = None) -> HttpRequest:
    """What botocore sends for a call."""
    model = operation.service_model
    request = create_serializer(protocol or model.resolved_protocol, False).serialize_to_request(parameters, operation)
    body, headers = request["body"], {name.lower(): str(value) for name, value in request["headers"].items()}
    if isinstance(body, dict):
        body = urlencode(body).encode()
        headers["content-type"] = "application/x-www-form-urlencoded"
    path, _, query = request["url_path"].partition("?")
    pairs = list(dict(request["query_string"]).items()) if request["query_string"] else []
    text = "&".join([query] * bool(query) + [urlencode(pairs, doseq=True)] * bool(pairs))
    headers["authorization"] = CREDENTIAL.format(model.signing_name)
    scope = {
        "method": request["method"],
        "raw_path": path.encode(),
        "query_string": text.encode(),
        "headers": [(name.encode(), value.encode("utf-8")) for name, value in headers.items()],
    }
    return HttpRequest.of(scope, body.encode() if isinstance(body, str) else body)


def kept(shape: Shape, value: Any) -> Any:
    """What is kept of a value: as JSON has it, blobs by their digest, secrets not."""
    if shape.metadata.get("sensitive") or shape.name in ("SecretStringType",):
        return NOT_KEPT
    if shape.type_name == "structure":
        return {name: kept(shape.members[name], each) for name, each in value.items()}
    if shape.type_name == "list":
        return [kept(shape.member, each) for each in value]
    if shape.type_name == "map":
        return {key: kept(shape.value, each) for key, each in value.items()}
    if shape.type_name == "blob":
        return {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return value


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_known_by_its_request(service):
    model = service_model(service)
    wrong = {}
    for name in model.operation_names:
        operation = model.operation_model(name)
        parameters = example(operation.input_shape) if operation.input_shape else {}
        call = find_call(sent(operation, parameters))
        found = call.operation.name if call else None
        if found != ALIKE.get((service, name), name):
            wrong[name] = found
    assert wrong == {}


@pytest.mark.parametrize("service", SERVICES)
def test_parameters_are_read_as_they_were_given(service):
    model = service_model(service)
    wrong = {}
    for name in model.operation_names:
        operation = model.operation_model(name)
        shape = operation.input_shape
        parameters = example(shape) if shape else {}
        request = sent(operation, parameters)
        call = find_call(request)
        assert call is not None
        # An empty structure may be sent like one that is not there.
        read = {key: value for key, value in parsed_request(call, request).items() if value != {}}
        expected = {key: value for key, value in kept(shape, parameters).items() if value != {}} if shape else {}
        if (service, name) not in ALIKE and read != expected:
            wrong[name] = read, expected
    assert wrong == {}


def request_of(service: str, operation: str, protocol: str | None = None, **parameters: Any) -> HttpRequest:
    return sent(service_model(service).operation_model(operation), parameters, protocol)


def call_of(service: str, operation: str, protocol: str | None = None, **parameters: Any) -> ApiCall:
    call = find_call(request_of(service, operation, protocol, **parameters))
    assert call is not None
    return call


@pytest.mark.parametrize("protocol", ["json", "query", CBOR])
def test_cloudwatch_is_understood_in_each_of_its_protocols(protocol):
    data = [{"MetricName": "m", "Value": 1.5, "Dimensions": [{"Name": "a", "Value": "b"}]}]
    request = request_of("cloudwatch", "PutMetricData", protocol, Namespace="N", MetricData=data)

    call = find_call(request)

    assert call is not None
    assert (call.name, call.protocol) == ("cloudwatch:PutMetricData", protocol)
    assert parsed_request(call, request) == {"Namespace": "N", "MetricData": data}


def test_region_and_access_key_are_those_of_the_signature_in_the_header_or_of_a_presigned_address():
    signed = request_of("s3", "GetObject", Bucket="bucket", Key="a/b")
    query = {"X-Amz-Credential": ["AKIAEXAMPLE/20261121/us-east-1/s3/aws4_request"]}
    presigned = HttpRequest("GET", "/bucket/a/b", query, {}, b"")
    unsigned = HttpRequest("GET", "/bucket/a/b", {}, {}, b"")

    calls = find_call(signed), find_call(presigned)

    found = [(call.name, call.region, call.access_key, dict(call.labels)) for call in calls if call]
    labels = {"Bucket": "bucket", "Key": "a/b"}
    assert found == [
        ("s3:GetObject", "eu-west-1", "123456789012", labels),
        ("s3:GetObject", "us-east-1", "AKIAEXAMPLE", labels),
    ]
    assert find_call(unsigned) is None


def test_requests_that_no_model_knows_are_no_calls():
    signed = {"authorization": CREDENTIAL.format("sagemaker")}
    other = {"authorization": CREDENTIAL.format("no-such-service")}

    assert find_call(HttpRequest("POST", "/", {}, signed | {"x-amz-target": "SageMaker.NoSuchThing"}, b"{}")) is None
    assert find_call(HttpRequest("POST", "/", {}, signed | {"x-amz-target": "Other.ListModels"}, b"{}")) is None
    assert find_call(HttpRequest("GET", "/", {}, other, b"")) is None
    assert find_call(HttpRequest("GET", "/", {}, {"authorization": "Bearer token"}, b"")) is None


def test_a_body_in_signed_chunks_is_read_without_its_signatures():
    call = call_of("s3", "PutObject", Bucket="bucket", Key="k", Body=b"")
    body = b"3;chunk-signature=0\r\nabc\r\n2;chunk-signature=0\r\nde\r\n0;chunk-signature=0\r\n\r\n"
    request = HttpRequest("PUT", "/bucket/k", {}, {"content-encoding": "aws-chunked"}, body)

    assert parsed_request(call, request)["Body"] == {"length": 5, "sha256": hashlib.sha256(b"abcde").hexdigest()}


def test_secrets_are_not_kept():
    token = b'{"SecretString": "hush", "SecretBinary": "aHVzaA==", "Name": "token"}'
    parameter = b'{"Parameter": {"Name": "/token", "Value": "hush", "Type": "SecureString"}}'
    key = b'{"Plaintext": "aHVzaA==", "KeyId": "k"}'
    session = (
        b"<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>"
        b"<SecretAccessKey>hush</SecretAccessKey><SessionToken>hush</SessionToken></Credentials></AssumeRoleResult>"
        b"</AssumeRoleResponse>"
    )
    answers = [
        parsed_answer(call_of("secretsmanager", "GetSecretValue", SecretId="token"), 200, {}, token),
        parsed_answer(call_of("ssm", "GetParameter", Name="/token"), 200, {}, parameter),
        parsed_answer(call_of("kms", "Decrypt", CiphertextBlob=b"x"), 200, {}, key),
        parsed_answer(call_of("sts", "AssumeRole", RoleArn="r", RoleSessionName="s"), 200, {}, session),
    ]

    text = str(answers)
    assert "hush" not in text
    assert base64.b64encode(b"hush").decode() not in text
    assert text.count(NOT_KEPT) == 6
    assert answers[0]["Name"] == "token"


@pytest.mark.parametrize(
    ("service", "operation", "protocol"),
    [
        ("sagemaker", "ListModels", None),
        ("sqs", "ListQueues", None),
        ("iam", "ListRoles", None),
        ("scheduler", "ListSchedules", None),
        ("s3", "ListBuckets", None),
        ("cloudwatch", "ListMetrics", "json"),
        ("cloudwatch", "ListMetrics", "query"),
        ("cloudwatch", "ListMetrics", CBOR),
    ],
)
def test_errors_are_in_the_request_s_own_protocol(service, operation, protocol):
    call = call_of(service, operation, protocol)

    status, headers, body = error_answer(call, "SomethingWrong", "<a> & é " + "long " * 100, 503)

    response = {"status_code": status, "headers": HeadersDict(headers), "body": body}
    parsed = create_parser(call.protocol).parse(response, call.operation.output_shape)
    error = parsed["Error"]
    assert (error["Code"], error["Message"]) == ("SomethingWrong", "<a> & é " + "long " * 100)
    assert parsed["ResponseMetadata"]["HTTPStatusCode"] == 503


def test_a_throttle_is_said_as_each_service_says_it():
    said = {
        (service, operation): throttling(service, service_model(service).operation_model(operation))
        for service, operation in [
            ("cloudwatch", "PutMetricData"),
            ("dynamodb", "PutItem"),
            ("iam", "ListRoles"),
            ("lambda", "Invoke"),
            ("s3", "PutObject"),
            ("sagemaker", "UpdateEndpoint"),
            ("scheduler", "CreateSchedule"),
            ("sqs", "SendMessage"),
        ]
    }

    assert said == {
        ("cloudwatch", "PutMetricData"): ("Throttling", 400),
        ("dynamodb", "PutItem"): ("ProvisionedThroughputExceededException", 400),
        ("iam", "ListRoles"): ("Throttling", 400),
        ("lambda", "Invoke"): ("TooManyRequestsException", 429),
        ("s3", "PutObject"): ("SlowDown", 503),
        ("sagemaker", "UpdateEndpoint"): ("ThrottlingException", 400),
        ("scheduler", "CreateSchedule"): ("ThrottlingException", 429),
        ("sqs", "SendMessage"): ("RequestThrottled", 400),
    }


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "sns"])
def test_boto3_knows_every_throttle_for_what_it_is(service):
    model = service_model(service)

    codes = {throttling(service, model.operation_model(name))[0] for name in model.operation_names}

    assert codes <= set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)
