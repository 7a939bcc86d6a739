"""What is asked about is what is done: requests that say two things are refused, and nobody is root by being nobody."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local_aws import LocalAWS
from local_aws.permissions.clear_requests import UnclearRequest, Way, named_operation, s3_path, what_is_asked
from tests.local_aws.people import Person, allow, root

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
JSON = {"Content-Type": "application/x-amz-json-1.1"}
ROLE = "arn:aws:iam::123456789012:role/power"
TRUST = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
QUEUE = "http://127.0.0.1/123456789012/"

Send = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        for name in ("mine", "theirs"):
            root(server, "s3").create_bucket(Bucket=f"{name}-bucket")
            root(server, "s3").put_object(Bucket=f"{name}-bucket", Key="data", Body=b"what only its owner may read")
            root(server, "sqs").create_queue(QueueName=name)
            root(server, "secretsmanager").create_secret(Name=name, SecretString="what only its owner may read")
            root(server, "logs").create_log_group(logGroupName=name)
            root(server, "dynamodb").create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        document = json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
        root(server, "iam").create_role(RoleName="power", AssumeRolePolicyDocument=document)
        yield server


@pytest.fixture(scope="module")
def lister(aws: LocalAWS) -> dict[str, str]:
    """Who may list, and nothing else."""
    lists = ["dynamodb:ListTables", "s3:ListAllMyBuckets", "s3:GetBucketLocation", "s3:PutBucketCORS", "iam:ListUsers"]
    lists += ["sqs:ListQueues", "secretsmanager:ListSecrets", "cloudwatch:ListMetrics", "scheduler:ListSchedules"]
    return Person(aws, allow(*lists, "kms:ListKeys", "logs:DescribeLogGroups", "sns:ListTopics")).credentials


@pytest.fixture(scope="module")
def owner(aws: LocalAWS) -> dict[str, str]:
    """Who may do everything with what is called "mine"."""
    names = {"sqs": "mine", "secretsmanager": "secret:mine*", "logs": "log-group:mine:*", "dynamodb": "table/mine"}
    arns = [f"arn:aws:{service}:us-east-1:123456789012:{name}" for service, name in names.items()]
    arns += ["arn:aws:cloudformation:us-east-1:123456789012:stack/mine/*", "arn:aws:iam::123456789012:role/mine"]
    return Person(aws, allow("*", on=arns)).credentials


@pytest.fixture
def send(aws: LocalAWS) -> Send:
    """Sends a request that botocore would not make: (status, text of the answer)."""

    def send(
        credentials: dict[str, str] | None,
        service: str,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: str | bytes = b"",
    ) -> tuple[int, str]:
        data = body.encode() if isinstance(body, str) else body
        request = AWSRequest(method, aws.endpoint + path, headers=headers or {}, data=data)
        if credentials is not None:
            signer = S3SigV4Auth if service == "s3" else SigV4Auth
            key = Credentials(credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"])
            signer(key, service, "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection(urlsplit(aws.endpoint).netloc, timeout=30)
        try:
            connection.request(method, path, data, dict(request.headers.items()))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return send


def target(name: str) -> dict[str, str]:
    return {**JSON, "X-Amz-Target": name}


# What the lister may not do, said beside something that he may.
ASSUME = urlencode({"Action": "AssumeRole", "RoleArn": ROLE, "RoleSessionName": "taken"})
DISGUISED: dict[str, tuple[Any, ...]] = {
    "JSON with Action": (
        "dynamodb",
        "POST",
        "/?Action=ListTables",
        target("DynamoDB_20120810.Scan"),
        '{"TableName": "theirs"}',
    ),
    "a secret": (
        "secretsmanager",
        "POST",
        "/?Action=ListSecrets",
        target("secretsmanager.GetSecretValue"),
        '{"SecretId": "theirs"}',
    ),
    "a key": ("kms", "POST", "/?Action=ListKeys", target("TrentService.CreateKey"), "{}"),
    "a log group": (
        "logs",
        "POST",
        "/?Action=DescribeLogGroups",
        target("Logs_20140328.CreateLogGroup"),
        '{"logGroupName": "new"}',
    ),
    "JSON of a service of two protocols": (
        "sqs",
        "POST",
        "/?Action=ListQueues",
        target("AmazonSQS.PurgeQueue"),
        json.dumps({"QueueUrl": f"{QUEUE}theirs"}),
    ),
    "a form with Action": (
        "sqs",
        "POST",
        "/?Action=ListQueues",
        FORM,
        urlencode({"Action": "PurgeQueue", "QueueUrl": f"{QUEUE}theirs"}),
    ),
    "a prefix like the service's": (
        "sqs",
        "POST",
        "/",
        {**FORM, "X-Amz-Target": "AmazonSQSx.ListQueues"},
        urlencode({"Action": "PurgeQueue", "QueueUrl": f"{QUEUE}theirs"}),
    ),
    "a metric's path": (
        "monitoring",
        "POST",
        "/service/GraniteServiceVersion20100801/operation/ListMetrics",
        target("GraniteServiceVersion20100801.DeleteAlarms"),
        '{"AlarmNames": ["a"]}',
    ),
    "a form and the query string": ("iam", "POST", "/?Action=ListUsers", FORM, "Action=CreateUser&UserName=new"),
    "a form that is none": ("iam", "POST", "/", {"Content-Type": "text/plain"}, "Action=CreateUser&UserName=new"),
    "a form without a type": ("iam", "POST", "/", {}, "Action=CreateUser&UserName=new"),
    "an empty Action first": ("iam", "POST", "/", FORM, "Action=&Action=CreateUser&UserName=new"),
    "two Actions": ("iam", "POST", "/", FORM, "Action=ListUsers&Action=CreateUser&UserName=new"),
    "JSON where there is none": ("iam", "POST", "/", target("x.CreateUser"), '{"UserName": "new"}'),
    "what everybody may": ("sts", "POST", "/?Action=GetCallerIdentity", FORM, ASSUME),
    "an object": ("s3", "GET", "/theirs-bucket/data?Action=ListAllMyBuckets"),
    "a target on S3": ("s3", "PUT", "/theirs-bucket/new", {"X-Amz-Target": "x.ListAllMyBuckets"}, "x"),
    "an object's location": ("s3", "GET", "/theirs-bucket/data?location"),
    "an object's CORS": ("s3", "DELETE", "/theirs-bucket/data?cors"),
    "two sub-resources": ("s3", "PUT", "/theirs-bucket?cors=&policy=", {}, '{"Statement": []}'),
    "a schedule group": ("scheduler", "POST", "/schedule-groups/new", {"X-Amz-Target": "x.ListSchedules"}, "{}"),
    "a path that Lambda has not": ("lambda", "POST", "/1999-01-01/functions/f/invocations", {}, "{}"),
    "a path that is quoted twice": ("lambda", "POST", "/2015-03-31/functions/f%252Finvocations", {}, "{}"),
}


@pytest.mark.parametrize("request_", DISGUISED.values(), ids=DISGUISED)
def test_a_request_is_not_taken_for_another_one(send, lister, request_):
    status, text = send(lister, *request_)
    assert status in (400, 403)
    assert "is not authorized to perform" in text or "InvalidParameterCombination" in text or "InvalidArgument" in text


def test_nobody_is_told_or_given_anything(send):
    """Without a signature, or with one that is not AWS's: MiniStack takes who names no key for the account's root."""
    for headers in ({}, {"Authorization": "Bearer token"}, {"Authorization": "aws4-hmac-sha256 Credential=A/b/c/d/e"}):
        for service, method, path, more, body in (
            ("dynamodb", "POST", "/", target("DynamoDB_20120810.ListTables"), "{}"),
            ("sagemaker", "POST", "/", target("SageMaker.ListModels"), "{}"),
            ("iam", "POST", "/", FORM, "Action=ListUsers"),
            ("s3", "GET", "/", {}, ""),
            ("s3", "PUT", "/nobodys-bucket", {}, ""),
            ("s3", "GET", "/theirs-bucket/data", {}, ""),
            ("sts", "POST", "/?Action=AssumeRoleWithWebIdentity", FORM, ASSUME),
            ("sns", "POST", "/?Action=Unsubscribe", FORM, "Action=CreateTopic&Name=nobodys"),
        ):
            assert send(None, service, method, path, {**more, **headers}, body)[0] in (400, 403), (path, headers)


def test_whose_key_stands_in_another_header_than_the_signed_one_is_not_who_asks(send, lister, aws):
    admin = Person(aws, allow("sagemaker:*")).credentials["AWS_ACCESS_KEY_ID"]
    headers = {**target("SageMaker.ListModels"), "Authorization": f"None Credential={admin}/day/us-east-1/sagemaker/x"}
    status, text = send(None, "sagemaker", "POST", "/", headers, "{}")
    assert status == 400
    assert "MissingAuthenticationToken" in text


MISLEADING: dict[str, tuple[Any, ...]] = {
    "items of several tables": (
        "dynamodb",
        target("DynamoDB_20120810.BatchWriteItem"),
        {"TableName": "mine", "RequestItems": {"mine": [], "theirs": [{"PutRequest": {"Item": {"id": {"S": "1"}}}}]}},
    ),
    "a table's name where it is not read": ("dynamodb", target("DynamoDB_20120810.ListTables"), {"TableName": "mine"}),
    "a secret's name": ("secretsmanager", target("secretsmanager.ListSecrets"), {"SecretId": "mine"}),
    "log groups": (
        "logs",
        target("Logs_20140328.StartQuery"),
        {"logGroupName": "mine", "logGroupNames": ["theirs"], "startTime": 0, "endTime": 1, "queryString": "x"},
    ),
}


@pytest.mark.parametrize("request_", MISLEADING.values(), ids=MISLEADING)
def test_a_member_that_is_not_read_changes_no_question(send, owner, request_):
    service, headers, content = request_
    for body in (json.dumps(content), " " + json.dumps(content), json.dumps(content).encode("utf-16")):
        status, text = send(owner, service, "POST", "/", headers, body)
        assert (status in (400, 403), "AccessDeniedException" in text) == (True, True)


def test_a_queue_is_asked_about_by_the_name_that_the_queue_goes_by(send, owner):
    path = f"/123456789012/theirs?QueueUrl={quote(QUEUE + 'mine', safe='')}"
    status, text = send(owner, "sqs", "POST", path, target("AmazonSQS.PurgeQueue"))
    assert status == 403
    assert "sqs:PurgeQueue" in text


def test_a_policy_is_not_asked_about_as_the_role_that_is_named_beside_it(send, owner, aws):
    statement = json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:GetObject")]})
    made = root(aws, "iam").create_policy(PolicyName="theirs", PolicyDocument=statement)["Policy"]["Arn"]
    more = {"PolicyArn": made, "PolicyDocument": statement, "SetAsDefault": "true"}
    form = urlencode({"Action": "CreatePolicyVersion", "RoleName": "mine", **more})
    assert send(owner, "iam", "POST", "/", FORM, form)[0] == 403


def test_a_change_set_is_its_own_stacks_whichever_stack_is_named(send, owner, aws):
    cloudformation = root(aws, "cloudformation")
    template = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})
    change_set = cloudformation.create_change_set(
        StackName="theirs", ChangeSetName="theirs", ChangeSetType="CREATE", TemplateBody=template
    )["Id"]
    for action in ("DescribeChangeSet", "ExecuteChangeSet", "DeleteChangeSet"):
        form = urlencode({"Action": action, "StackName": "mine", "ChangeSetName": change_set})
        assert send(owner, "cloudformation", "POST", "/", FORM, form)[0] == 403


def test_clients_of_aws_are_understood(aws):
    """By all protocols: forms, JSON, paths, with names in the query string and in the path."""
    everything = Person(aws, allow("*"))
    assert everything.client("iam").list_users()["Users"]
    assert everything.client("sqs").get_queue_url(QueueName="mine")["QueueUrl"].endswith("/mine")
    assert everything.client("cloudwatch").list_metrics(Namespace="None")["Metrics"] == []
    assert everything.client("sns").create_topic(Name="topic", Tags=[{"Key": "a", "Value": "b"}])["TopicArn"]
    assert everything.client("scheduler").list_schedules(GroupName="default")["Schedules"] == []
    s3 = everything.client("s3")
    s3.put_object(Bucket="mine-bucket", Key="a//b/", Body=b"x", Tagging="a=b")
    assert s3.list_multipart_uploads(Bucket="mine-bucket").get("Uploads", []) == []
    upload = s3.create_multipart_upload(Bucket="mine-bucket", Key="large")["UploadId"]
    s3.abort_multipart_upload(Bucket="mine-bucket", Key="large", UploadId=upload)
    s3.put_object_tagging(Bucket="mine-bucket", Key="data", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_bucket_location(Bucket="mine-bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200
    s3.delete_objects(Bucket="mine-bucket", Delete={"Objects": [{"Key": "a//b/"}]})


def test_an_operation_is_named_once():
    json_body = b'{"Message": "a&Action=DeleteTopic"}'
    either: tuple[Way, ...] = ("target", "form")
    headers = {"x-amz-target": "AmazonSQS.SendMessage"}
    named = named_operation(either, "sqs", "POST", "/", headers, json_body, {})
    assert named == ("SendMessage", "target")
    form = {"content-type": FORM["Content-Type"]}
    parameters = {"Action": ["Publish"], "TopicArn": ["a"]}
    body = b"Action=Publish&TopicArn=a"
    assert named_operation(("form",), "sns", "POST", "/", form, body, parameters) == ("Publish", "form")
    assert named_operation(("form",), "sns", "GET", "/", {}, b"", parameters) == ("Publish", "form")
    for method, headers, sent, given in (
        ("POST", form, b"Action=Publish&TopicArn=b", parameters),  # the query string says another topic
        ("GET", form, body, parameters),
        ("POST", {}, body, parameters),
        ("GET", {}, b"", {"Action": ["Publish", "Subscribe"]}),
        ("GET", {}, b"", {}),
    ):
        with pytest.raises(UnclearRequest):
            named_operation(("form",), "sns", method, "/", headers, sent, given)


def test_sub_resources_are_those_of_what_the_path_names():
    bucket = {"cors": {"PUT": "PutBucketCORS"}, "policy": {"PUT": "PutBucketPolicy"}}
    of_object = {"tagging": {"PUT": "PutObjectTagging"}}
    assert s3_path("GET", "/bucket//", {"versionId": ["1"]}, bucket, of_object) == "/bucket/key"
    assert s3_path("PUT", "/bucket", {"cors": [""]}, bucket, of_object) == "/bucket"
    assert s3_path("PUT", "/bucket/a/b", {"tagging": [""]}, bucket, of_object) == "/bucket/key"
    for method, path, names in (
        ("PUT", "/bucket", ("cors", "policy")),
        ("PUT", "/bucket/key", ("cors",)),
        ("GET", "/bucket", ("cors",)),
        ("GET", "//bucket/key", ()),
    ):
        with pytest.raises(UnclearRequest):
            s3_path(method, path, {name: [""] for name in names}, bucket, of_object)


def test_members_are_read_where_the_service_reads_them():
    body, parameters = what_is_asked("path", "scheduler", "GetSchedule", b'{"groupName": "mine"}', {"groupName": ["a"]})
    assert (json.loads(body), parameters) == ({}, {"groupName": ["a"]})
    encoded = base64.b64encode(b"not JSON")
    assert what_is_asked("target", "kms", "Decrypt", encoded, {"KeyId": ["mine"]}) == (b"{}", {})
    assert what_is_asked("target", "kms", "NotAnOperation", encoded, {}) == (encoded, {})
    form = {"Action": ["Publish"], "TopicArn": ["a"], "QueueUrl": ["b"]}
    assert what_is_asked("form", "sns", "Publish", b"", form) == (b"", {"Action": ["Publish"], "TopicArn": ["a"]})
