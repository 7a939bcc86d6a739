"""What calls of the generic services ask IAM, seen at the server: MiniStack's questions, some of them corrected."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.permissions.generic import Sent, resources
from local_aws.store import Scope
from tests.local_aws.people import Person, allow, root
from tests.local_aws.test_authorization import pattern, privilege
from tests.local_aws.test_authorization_live import denied

ARN = "arn:aws:{}:us-east-1:123456789012:"
CLOUDWATCH, EVENTS, LOGS = ARN.format("cloudwatch"), ARN.format("events"), ARN.format("logs")
SSM, SQS, SNS, KMS = ARN.format("ssm"), ARN.format("sqs"), ARN.format("sns"), ARN.format("kms")
SCHEDULER, DYNAMODB, LAMBDA = ARN.format("scheduler"), ARN.format("dynamodb"), ARN.format("lambda")
IAM, DASHBOARD = "arn:aws:iam::123456789012:", "arn:aws:cloudwatch::123456789012:dashboard/"
TAGS = [{"Key": "modelyard:project", "Value": "churn"}]
ALARM = {
    "AlarmName": "churn-dev-errors",
    "ComparisonOperator": "GreaterThanThreshold",
    "EvaluationPeriods": 1,
    "Threshold": 1.0,
    "MetricName": "m",
    "Namespace": "n",
    "Period": 60,
    "Statistic": "Sum",
}
SCHEDULE = {
    "Name": "nightly",
    "GroupName": "modelyard",
    "ScheduleExpression": "rate(1 hour)",
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": {"Arn": f"{LAMBDA}function:batch", "RoleArn": f"{IAM}role/schedule"},
}
MAPPING = "12345678-1234-1234-1234-123456789012"
QUEUE = "http://127.0.0.1/123456789012/events"
ITEM = {"endpoint": {"S": "churn-dev"}, "item": {"S": "1"}}

# (service, operation, request, what is asked: action -> resources)
CALLS: list[tuple[str, str, dict[str, Any], dict[str, list[str]]]] = [
    ("cloudwatch", "put_metric_alarm", ALARM, {"cloudwatch:PutMetricAlarm": [f"{CLOUDWATCH}alarm:churn-dev-errors"]}),
    (
        "cloudwatch",
        "put_metric_alarm",
        {**ALARM, "Tags": TAGS},
        {
            action: [f"{CLOUDWATCH}alarm:churn-dev-errors"]
            for action in ("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource")
        },
    ),
    (
        "cloudwatch",
        "delete_alarms",
        {"AlarmNames": ["a", "b"]},
        {"cloudwatch:DeleteAlarms": [f"{CLOUDWATCH}alarm:a", f"{CLOUDWATCH}alarm:b"]},
    ),
    ("cloudwatch", "describe_alarms", {"AlarmNames": ["a"]}, {"cloudwatch:DescribeAlarms": [f"{CLOUDWATCH}alarm:a"]}),
    ("cloudwatch", "describe_alarms", {}, {"cloudwatch:DescribeAlarms": [f"{CLOUDWATCH}alarm:*"]}),
    (
        "cloudwatch",
        "set_alarm_state",
        {"AlarmName": "a", "StateValue": "OK", "StateReason": "r"},
        {"cloudwatch:SetAlarmState": [f"{CLOUDWATCH}alarm:a"]},
    ),
    (
        "cloudwatch",
        "list_tags_for_resource",
        {"ResourceARN": f"{CLOUDWATCH}alarm:a"},
        {"cloudwatch:ListTagsForResource": [f"{CLOUDWATCH}alarm:a"]},
    ),
    (
        "cloudwatch",
        "put_dashboard",
        {"DashboardName": "churn-dev", "DashboardBody": "{}"},
        {"cloudwatch:PutDashboard": [f"{DASHBOARD}churn-dev"]},
    ),
    ("cloudwatch", "get_dashboard", {"DashboardName": "d"}, {"cloudwatch:GetDashboard": [f"{DASHBOARD}d"]}),
    (
        "cloudwatch",
        "delete_dashboards",
        {"DashboardNames": ["d", "e"]},
        {"cloudwatch:DeleteDashboards": [f"{DASHBOARD}d", f"{DASHBOARD}e"]},
    ),
    (
        "cloudwatch",
        "put_metric_data",
        {"Namespace": "AWS/SageMaker", "MetricData": [{"MetricName": "m", "Value": 1.0}]},
        {"cloudwatch:PutMetricData": ["*"]},
    ),
    ("events", "describe_rule", {"Name": "r"}, {"events:DescribeRule": [f"{EVENTS}rule/r"]}),
    (
        "events",
        "put_rule",
        {"Name": "r", "EventBusName": "own", "ScheduleExpression": "rate(1 hour)"},
        {"events:PutRule": [f"{EVENTS}rule/own/r"]},
    ),
    (
        "events",
        "put_targets",
        {"Rule": "r", "Targets": [{"Id": "1", "Arn": f"{SQS}events"}]},
        {"events:PutTargets": [f"{EVENTS}rule/r"]},
    ),
    ("events", "list_targets_by_rule", {"Rule": "r"}, {"events:ListTargetsByRule": [f"{EVENTS}rule/r"]}),
    (
        "events",
        "put_events",
        {"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}"}]},
        {"events:PutEvents": [f"{EVENTS}event-bus/default"]},
    ),
    (
        "scheduler",
        "create_schedule",
        SCHEDULE,
        {"scheduler:CreateSchedule": [f"{SCHEDULER}schedule/modelyard/nightly"]},
    ),
    (
        "scheduler",
        "get_schedule",
        {"Name": "nightly", "GroupName": "modelyard"},
        {"scheduler:GetSchedule": [f"{SCHEDULER}schedule/modelyard/nightly"]},
    ),
    ("scheduler", "get_schedule", {"Name": "n"}, {"scheduler:GetSchedule": [f"{SCHEDULER}schedule/default/n"]}),
    (
        "scheduler",
        "delete_schedule",
        {"Name": "nightly", "GroupName": "modelyard"},
        {"scheduler:DeleteSchedule": [f"{SCHEDULER}schedule/modelyard/nightly"]},
    ),
    (
        "scheduler",
        "create_schedule_group",
        {"Name": "modelyard"},
        {"scheduler:CreateScheduleGroup": [f"{SCHEDULER}schedule-group/modelyard"]},
    ),
    ("scheduler", "list_schedules", {}, {"scheduler:ListSchedules": ["*"]}),
    (
        "logs",
        "create_log_stream",
        {"logGroupName": "/aws/lambda/f", "logStreamName": "s"},
        {"logs:CreateLogStream": [f"{LOGS}log-group:/aws/lambda/f:log-stream:s"]},
    ),
    (
        "logs",
        "put_log_events",
        {"logGroupName": "/g", "logStreamName": "s", "logEvents": [{"timestamp": 1, "message": "m"}]},
        {"logs:PutLogEvents": [f"{LOGS}log-group:/g:log-stream:s"]},
    ),
    (
        "logs",
        "filter_log_events",
        {"logGroupName": "/g"},
        {"logs:FilterLogEvents": [f"{LOGS}log-group:/g:log-stream:"]},
    ),
    ("logs", "create_log_group", {"logGroupName": "/g"}, {"logs:CreateLogGroup": [f"{LOGS}log-group:/g:log-stream:"]}),
    ("ssm", "get_parameter", {"Name": "/modelyard/a"}, {"ssm:GetParameter": [f"{SSM}parameter/modelyard/a"]}),
    (
        "ssm",
        "get_parameters",
        {"Names": ["/modelyard/a", "b"]},
        {"ssm:GetParameters": [f"{SSM}parameter/modelyard/a", f"{SSM}parameter/b"]},
    ),
    (
        "ssm",
        "get_parameters_by_path",
        {"Path": "/modelyard", "Recursive": True},
        {"ssm:GetParametersByPath": [f"{SSM}parameter/modelyard"]},
    ),
    ("sqs", "send_message", {"QueueUrl": QUEUE, "MessageBody": "m"}, {"sqs:SendMessage": [f"{SQS}events"]}),
    (
        "sqs",
        "send_message_batch",
        {"QueueUrl": QUEUE, "Entries": [{"Id": "1", "MessageBody": "m"}]},
        {"sqs:SendMessage": [f"{SQS}events"]},
    ),
    (
        "sqs",
        "start_message_move_task",
        {"SourceArn": f"{SQS}failed"},
        {"sqs:StartMessageMoveTask": [f"{SQS}failed"]},
    ),
    ("sns", "publish", {"TopicArn": f"{SNS}topic", "Message": "m"}, {"sns:Publish": [f"{SNS}topic"]}),
    (
        "sns",
        "publish_batch",
        {"TopicArn": f"{SNS}topic", "PublishBatchRequestEntries": [{"Id": "1", "Message": "m"}]},
        {"sns:Publish": [f"{SNS}topic"]},
    ),
    ("sns", "list_tags_for_resource", {"ResourceArn": f"{SNS}t"}, {"sns:ListTagsForResource": [f"{SNS}t"]}),
    ("dynamodb", "get_item", {"TableName": "ledger", "Key": ITEM}, {"dynamodb:GetItem": [f"{DYNAMODB}table/ledger"]}),
    (
        "dynamodb",
        "query",
        {"TableName": "ledger", "IndexName": "by-status", "KeyConditionExpression": "#s = :s"},
        {"dynamodb:Query": [f"{DYNAMODB}table/ledger/index/by-status"]},
    ),
    (
        "dynamodb",
        "transact_write_items",
        {
            "TransactItems": [
                {"Put": {"TableName": "ledger", "Item": ITEM}},
                {
                    "ConditionCheck": {
                        "TableName": "ledger",
                        "Key": ITEM,
                        "ConditionExpression": "attribute_exists(item)",
                    }
                },
            ]
        },
        {"dynamodb:PutItem": [f"{DYNAMODB}table/ledger"], "dynamodb:ConditionCheckItem": [f"{DYNAMODB}table/ledger"]},
    ),
    (
        "dynamodb",
        "list_tags_of_resource",
        {"ResourceArn": f"{DYNAMODB}table/ledger"},
        {"dynamodb:ListTagsOfResource": [f"{DYNAMODB}table/ledger"]},
    ),
    ("lambda", "invoke", {"FunctionName": "plan"}, {"lambda:InvokeFunction": [f"{LAMBDA}function:plan"]}),
    (
        "lambda",
        "invoke",
        {"FunctionName": "plan", "Qualifier": "live"},
        {"lambda:InvokeFunction": [f"{LAMBDA}function:plan:live"]},
    ),
    (
        "lambda",
        "get_function_configuration",
        {"FunctionName": "plan"},
        {"lambda:GetFunctionConfiguration": [f"{LAMBDA}function:plan"]},
    ),
    (
        "lambda",
        "put_function_event_invoke_config",
        {"FunctionName": "plan", "MaximumRetryAttempts": 1},
        {"lambda:PutFunctionEventInvokeConfig": [f"{LAMBDA}function:plan"]},
    ),
    (
        "lambda",
        "delete_event_source_mapping",
        {"UUID": MAPPING},
        {"lambda:DeleteEventSourceMapping": [f"{LAMBDA}event-source-mapping:{MAPPING}"]},
    ),
    ("s3", "list_objects_v2", {"Bucket": "bucket", "Prefix": "churn/"}, {"s3:ListBucket": ["arn:aws:s3:::bucket"]}),
    ("s3", "get_object", {"Bucket": "bucket", "Key": "a//b/"}, {"s3:GetObject": ["arn:aws:s3:::bucket/a//b/"]}),
    ("s3", "head_object", {"Bucket": "bucket", "Key": "k"}, {"s3:GetObject": ["arn:aws:s3:::bucket/k"]}),
    ("s3", "put_object", {"Bucket": "bucket", "Key": "k", "Body": b""}, {"s3:PutObject": ["arn:aws:s3:::bucket/k"]}),
    (
        "s3",
        "put_object",
        {"Bucket": "bucket", "Key": "k", "Body": b"", "Tagging": "a=b", "ACL": "private"},
        {f"s3:{action}": ["arn:aws:s3:::bucket/k"] for action in ("PutObject", "PutObjectTagging", "PutObjectAcl")},
    ),
    (
        "sqs",
        "create_queue",
        {"QueueName": "tagged", "tags": {"a": "b"}},
        {action: [f"{SQS}tagged"] for action in ("sqs:CreateQueue", "sqs:TagQueue")},
    ),
    (
        "sns",
        "create_topic",
        {"Name": "tagged", "Tags": [{"Key": "a", "Value": "b"}]},
        {action: [f"{SNS}tagged"] for action in ("sns:CreateTopic", "sns:TagResource")},
    ),
    (
        "dynamodb",
        "batch_write_item",
        {"RequestItems": {table: [{"DeleteRequest": {"Key": ITEM}}] for table in ("one", "two")}},
        {"dynamodb:BatchWriteItem": [f"{DYNAMODB}table/one", f"{DYNAMODB}table/two"]},
    ),
    (
        "sts",
        "assume_role",
        {"RoleArn": f"{IAM}role/r", "RoleSessionName": "session"},
        {"sts:AssumeRole": [f"{IAM}role/r"]},
    ),
    (
        "cloudformation",
        "delete_stack",
        {"StackName": "modelyard"},
        {"cloudformation:DeleteStack": [f"{ARN.format('cloudformation')}stack/modelyard/*"]},
    ),
    (
        "secretsmanager",
        "get_secret_value",
        {"SecretId": f"{ARN.format('secretsmanager')}secret:webhook-abcdef"},
        {"secretsmanager:GetSecretValue": [f"{ARN.format('secretsmanager')}secret:webhook-abcdef"]},
    ),
    ("iam", "get_role", {"RoleName": "with-path"}, {"iam:GetRole": [f"{IAM}role/modelyard/with-path"]}),
    (
        "iam",
        "create_role",
        {"RoleName": "new", "Path": "/modelyard/", "AssumeRolePolicyDocument": "{}"},
        {"iam:CreateRole": [f"{IAM}role/modelyard/new"]},
    ),
    (
        "iam",
        "create_service_linked_role",
        {"AWSServiceName": "x.amazonaws.com"},
        {"iam:CreateServiceLinkedRole": [f"{IAM}role/aws-service-role/x.amazonaws.com/*"]},
    ),
]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
        }
        document = json.dumps(trust)
        root(server, "iam").create_role(RoleName="with-path", Path="/modelyard/", AssumeRolePolicyDocument=document)
        root(server, "s3").create_bucket(Bucket="bucket")
        yield server


@pytest.fixture(scope="module")
def asked(aws: LocalAWS) -> list[dict[str, list[str]]]:
    """What each of the calls asked, in their order; by somebody who may do everything."""
    person = Person(aws, allow("*"))
    clients = {service: person.client(service) for service in {service for service, *_ in CALLS}}
    found = []
    for service, operation, request, _ in CALLS:
        aws.configure("permissions", {"clear": True})
        with contextlib.suppress(ClientError):  # hardly anything of this is there
            getattr(clients[service], operation)(**request)
        questions: dict[str, list[str]] = {}
        for decision in aws.settings("permissions")["decisions"]:
            if decision["principal"].endswith(person.name) and not decision["because"]:
                questions.setdefault(decision["action"], []).append(decision["resource"])
        found.append(questions)
    return found


@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda number: f"{CALLS[number][0]}-{CALLS[number][1]}")
def test_calls_ask_what_aws_asks(asked, number):
    assert asked[number] == CALLS[number][3]


def test_what_is_asked_is_in_the_service_authorization_reference():
    for action, arns in itertools.chain.from_iterable(expected.items() for *_, expected in CALLS):
        types = set(privilege(action)) - {""}
        for arn in arns:
            plain = arn.removesuffix("*") if action != "cloudwatch:PutMetricData" else arn
            service = action.split(":")[0]
            # Log groups are named with what follows in denials: their own ARN ends before, and so does a function's.
            named = [plain, plain.partition(":log-stream:")[0], plain.removesuffix(":live")]
            assert (arn == "*" and not types) or any(
                pattern(service, kind).fullmatch(each) for kind in types for each in named
            ), (action, arn)


def test_an_alarm_is_put_by_its_tags_and_changed_by_its_own(aws):
    alarms = f"{CLOUDWATCH}alarm:*-dev-*"
    person = Person(
        aws,
        allow(
            "cloudwatch:PutMetricAlarm",
            "cloudwatch:TagResource",
            on=alarms,
            StringLike={"aws:RequestTag/modelyard:project": "?*"},
        ),
        allow(
            "cloudwatch:DeleteAlarms",
            on=f"{CLOUDWATCH}alarm:*",
            StringEquals={"aws:ResourceTag/modelyard:project": "churn"},
        ),
    )
    cloudwatch, alarm = person.client("cloudwatch"), ALARM | {"AlarmName": "fraud-dev-errors"}
    assert denied(cloudwatch.put_metric_alarm, **alarm).startswith("cloudwatch:PutMetricAlarm")
    cloudwatch.put_metric_alarm(**alarm, Tags=TAGS)
    root(aws, "cloudwatch").put_metric_alarm(**ALARM | {"AlarmName": "somebody-elses"})
    both = ["fraud-dev-errors", "somebody-elses"]
    assert denied(cloudwatch.delete_alarms, AlarmNames=both).startswith("cloudwatch:DeleteAlarms")
    cloudwatch.delete_alarms(AlarmNames=both[:1])


def test_metrics_are_put_into_the_namespaces_that_a_policy_names(aws):
    person = Person(aws, allow("cloudwatch:PutMetricData", StringLike={"cloudwatch:namespace": ["AWS/SageMaker"]}))
    put = person.client("cloudwatch").put_metric_data
    put(Namespace="AWS/SageMaker", MetricData=[{"MetricName": "m", "Value": 1.0}])
    other = {"Namespace": "Other", "MetricData": [{"MetricName": "m", "Value": 1.0}]}
    assert denied(put, **other).startswith("cloudwatch:PutMetricData")


def test_a_stack_is_made_from_the_templates_that_a_policy_names(aws):
    template = b'{"Resources": {"Wait": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}}'
    root(aws, "s3").create_bucket(Bucket="named")
    for name in ("ours", "theirs"):
        root(aws, "s3").put_object(Bucket="named", Key=f"{name}/t.json", Body=template)
    url = "https://s3.us-east-1.amazonaws.com/named"
    person = Person(
        aws,
        allow("cloudformation:CreateStack", StringLike={"cloudformation:TemplateUrl": f"{url}/ours/*"}),
        allow("s3:GetObject"),
    )
    create = person.client("cloudformation").create_stack
    create(StackName="from-ours", TemplateURL=f"{url}/ours/t.json")
    for other in ({"TemplateURL": f"{url}/theirs/t.json"}, {"TemplateBody": template.decode()}):
        with pytest.raises(ClientError, match="not authorized to perform: cloudformation:CreateStack"):
            create(StackName="from-theirs", **other)


def test_a_bucket_is_listed_under_the_prefix_that_a_policy_names(aws):
    root(aws, "s3").create_bucket(Bucket="listed")
    person = Person(aws, allow("s3:ListBucket", on="arn:aws:s3:::listed", StringLike={"s3:prefix": "churn/*"}))
    s3 = person.client("s3")
    s3.list_objects_v2(Bucket="listed", Prefix="churn/dev")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket="listed", Prefix="fraud/")


def test_a_key_is_asked_about_by_whatever_name_it_is_called(aws):
    kms = root(aws, "kms")
    key = kms.create_key(Tags=[{"TagKey": "modelyard:project", "TagValue": "churn"}])["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/churn", TargetKeyId=key)
    person = Person(aws, allow("kms:Encrypt", on=key, StringEquals={"kms:EncryptionContext:project": "churn"}))
    encrypt = person.client("kms").encrypt
    context = {"project": "churn"}
    encrypt(KeyId="alias/churn", Plaintext=b"x", EncryptionContext=context)
    encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)
    assert denied(encrypt, KeyId="alias/churn", Plaintext=b"x").startswith("kms:Encrypt")


def test_a_denial_names_what_is_missing_when_that_is_asked_besides(aws):
    maker = Person(aws, allow("ssm:PutParameter")).client("ssm")
    tags = [{"Key": "a", "Value": "b"}]
    refusal = denied(maker.put_parameter, Name="/new", Value="x", Type="String", Tags=tags)
    assert refusal.startswith(f"ssm:AddTagsToResource on resource: {SSM}parameter/new")


def test_a_member_that_the_operation_does_not_look_at_changes_no_question():
    scope = Scope("123456789012", "us-east-1")

    def about(action: str, **request: Any) -> list[str] | None:
        return resources(Sent(action, request, "/schedules/nightly", scope), lambda kind, name: None)

    assert about("cloudwatch:PutMetricAlarm", AlarmName="theirs", AlarmNames=["mine"]) == [f"{CLOUDWATCH}alarm:theirs"]
    assert about("cloudwatch:DeleteAlarms", AlarmName="mine", AlarmNames=["theirs"]) == [f"{CLOUDWATCH}alarm:theirs"]
    assert about("iam:DeleteUser", RoleName="mine", UserName="theirs") == [f"{IAM}user/theirs"]
    assert about("sqs:SendMessage", SourceArn="mine", QueueUrl=QUEUE) is None
    group = {"GroupName": "theirs", "groupName": "mine"}
    assert about("scheduler:UpdateSchedule", **group) == [f"{SCHEDULER}schedule/theirs/nightly"]
    assert about("scheduler:GetSchedule", **group) == [f"{SCHEDULER}schedule/mine/nightly"]
    both = about("logs:FilterLogEvents", logGroupName="/mine", logGroupIdentifier="/theirs")
    assert both == [f"{LOGS}log-group:/mine:log-stream:", f"{LOGS}log-group:/theirs:log-stream:"]


def test_requests_that_are_malformed_ask_about_everything():
    scope = Scope("123456789012", "us-east-1")
    nothing: list[Any] = [None, [], "", {}]
    for action in ("cloudwatch:DeleteAlarms", "ssm:GetParameters"):
        for names in nothing:
            sent = Sent(action, {"AlarmNames": names, "Names": names}, "/", scope)
            assert resources(sent, lambda kind, name: None) in ([f"{CLOUDWATCH}alarm:*"], [f"{SSM}parameter/*"])
    assert resources(Sent("glue:GetJob", {}, "/", scope), lambda kind, name: None) is None
