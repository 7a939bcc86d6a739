"""A stack is brought to its template from whatever state it was left in, and a failure says why."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from servicecatalog.errors import InstallError
from servicecatalog.stack import FIRST_PAUSE, Stack, change_lines
from tests.local_aws.lambda_requests import TRUST, archive
from tests.servicecatalog.conftest import Administrator

Upload = Callable[[dict[str, Any]], str]
TOPIC = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "news"}}}
PARAMETER: dict[str, Any] = {
    "Type": "AWS::SSM::Parameter",
    "Properties": {"Name": "/news/arn", "Type": "String", "Value": "x"},
}
# A custom resource that can be made and deleted.
REFUSES_UPDATES = """
import json, urllib.request

def handler(event, context):
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    status = "FAILED" if event["RequestType"] == "Update" else "SUCCESS"
    answer |= {"Status": status, "Reason": "it is broken", "PhysicalResourceId": "thing"}
    body = json.dumps(answer).encode()
    put = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    urllib.request.urlopen(put).read()
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def stack(administrator: Administrator, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr("servicecatalog.stack.FIRST_PAUSE", FIRST_PAUSE / 10)
    return Stack(administrator.client("cloudformation"), "news", said.append)


@pytest.fixture
def upload(administrator: Administrator) -> Upload:
    """Puts a template of these resources into S3; answers its address."""
    s3 = administrator.client("s3")
    s3.create_bucket(Bucket=f"templates-{administrator.account}")

    def put(resources: dict[str, Any]) -> str:
        key = f"{uuid.uuid4().hex}.yaml"
        s3.put_object(Bucket=f"templates-{administrator.account}", Key=key, Body=json.dumps({"Resources": resources}))
        return f"{s3.meta.endpoint_url}/templates-{administrator.account}/{key}"

    return put


def test_a_stack_is_made_changed_and_left_alone(stack: Stack, upload: Upload, said: list[str]) -> None:
    assert stack.deploy(upload(TOPIC), [], {}) is True
    assert stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {}) is True
    assert any(line.endswith(" Parameter") and "_COMPLETE" in line for line in said)
    assert set(stack.resources()) == {"Topic", "Parameter"}
    assert stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {}) is False
    assert stack.settle() == "UPDATE_COMPLETE"


def test_what_was_deleted_by_hand_is_made_again_where_that_is_asked_for(
    administrator: Administrator, stack: Stack, upload: Upload, said: list[str]
) -> None:
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "letters"}}
    policy = {
        "Type": "AWS::SQS::QueuePolicy",
        "Properties": {
            "Queues": [{"Ref": "Queue"}],
            "PolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "events.amazonaws.com"},
                        "Action": "sqs:SendMessage",
                        "Resource": {"Fn::GetAtt": ["Queue", "Arn"]},
                    }
                ],
            },
        },
    }
    rule = {"Type": "AWS::Events::Rule", "Properties": {"Name": "hourly", "ScheduleExpression": "rate(1 hour)"}}
    alarm = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmName": "letters",
            "Namespace": "AWS/SQS",
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "Statistic": "Maximum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 0,
            "ComparisonOperator": "GreaterThanThreshold",
        },
    }
    address = upload(TOPIC | {"Queue": queue, "QueuePolicy": policy, "Rule": rule, "Alarm": alarm})
    stack.deploy(address, [], {})
    sqs, cloudwatch, events = (administrator.client(name) for name in ("sqs", "cloudwatch", "events"))
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName="letters")["QueueUrl"])
    cloudwatch.delete_alarms(AlarmNames=["letters"])
    events.delete_rule(Name="hourly")

    assert stack.deploy(address, [], {}) is False
    assert stack.deploy(address, [], {}, revert_drift=lambda: False) is False
    assert "4 changes:" in said
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []
    assert stack.deploy(address, [], {}, revert_drift=lambda: True) is True
    made = sqs.get_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName="letters")["QueueUrl"], AttributeNames=["Policy"]
    )
    assert "events.amazonaws.com" in made["Attributes"]["Policy"]
    assert [one["AlarmName"] for one in cloudwatch.describe_alarms()["MetricAlarms"]] == ["letters"]
    assert events.describe_rule(Name="hourly")["State"] == "ENABLED"
    assert set(stack.resources()) == {"Topic", "Queue", "QueuePolicy", "Rule", "Alarm"}
    assert stack.deploy(address, [], {}, revert_drift=lambda: True) is False


def test_everything_in_it_has_the_stacks_tags(administrator: Administrator, stack: Stack, upload: Upload) -> None:
    stack.deploy(upload(TOPIC), [], {"modelyard:part": "platform"})
    tags = administrator.client("sns").list_tags_for_resource(ResourceArn=stack.resources()["Topic"])["Tags"]
    assert {"Key": "modelyard:part", "Value": "platform"} in tags


def test_a_failed_creation_says_what_failed_and_is_made_anew(
    administrator: Administrator, stack: Stack, upload: Upload, said: list[str]
) -> None:
    ssm = administrator.client("ssm")
    ssm.put_parameter(Name="/news/arn", Value="somebody's", Type="String")
    with pytest.raises(
        InstallError, match=r"(?s)ROLLBACK_COMPLETE.*Parameter \(AWS::SSM::Parameter\): .*already exists"
    ):
        stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {})

    ssm.delete_parameter(Name="/news/arn")
    assert stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {}) is True
    assert any("ROLLBACK_COMPLETE: an earlier attempt failed" in line for line in said)
    assert stack.settle() == "CREATE_COMPLETE"


def test_a_failed_update_leaves_the_stack_as_it_was_and_can_be_tried_again(
    administrator: Administrator, stack: Stack, upload: Upload
) -> None:
    stack.deploy(upload(TOPIC), [], {})
    ssm = administrator.client("ssm")
    ssm.put_parameter(Name="/news/arn", Value="somebody's", Type="String")
    with pytest.raises(InstallError, match="UPDATE_ROLLBACK_COMPLETE"):
        stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {})
    assert set(stack.resources()) == {"Topic"}

    ssm.delete_parameter(Name="/news/arn")
    assert stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {}) is True


def test_a_broken_function_does_not_keep_a_stack_from_taking_its_next_update(
    administrator: Administrator, stack: Stack, upload: Upload, said: list[str]
) -> None:
    iam, functions = administrator.client("iam"), administrator.client("lambda")
    role = iam.create_role(RoleName="news", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    code = {"Runtime": "python3.11", "Handler": "app.handler", "Code": {"ZipFile": archive(app=REFUSES_UPDATES)}}
    function = functions.create_function(FunctionName="news", Role=role, **code)["FunctionArn"]

    def template(version: str) -> str:
        properties = {"ServiceToken": function, "Version": version}
        return upload(TOPIC | {"Thing": {"Type": "Custom::Thing", "Properties": properties}})

    stack.deploy(template("1"), [], {})
    with pytest.raises(InstallError, match=r"(?s)UPDATE_ROLLBACK_FAILED.*broken"):
        stack.deploy(template("2"), [], {})
    mended = archive(app=REFUSES_UPDATES.replace('"FAILED"', '"SUCCESS"'))
    assert stack.settle() == "UPDATE_ROLLBACK_COMPLETE"
    assert "It goes on without Thing, which the next update makes again ..." in said
    functions.update_function_code(FunctionName="news", ZipFile=mended)
    assert stack.deploy(template("2"), [], {}) is True


def test_a_function_that_is_gone_does_not_keep_a_stack_from_being_deleted(
    administrator: Administrator, stack: Stack, upload: Upload, said: list[str]
) -> None:
    iam, functions = administrator.client("iam"), administrator.client("lambda")
    role = iam.create_role(RoleName="news", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    code = {"Runtime": "python3.11", "Handler": "app.handler", "Code": {"ZipFile": archive(app=REFUSES_UPDATES)}}
    function = functions.create_function(FunctionName="news", Role=role, **code)["FunctionArn"]
    thing = {"Type": "Custom::Thing", "DependsOn": "Topic", "Properties": {"ServiceToken": function}}
    stack.deploy(upload(TOPIC | {"Thing": thing}), [], {})
    functions.delete_function(FunctionName="news")

    stack.delete()

    assert "It goes on without Thing, whose function did not answer or refused ..." in said
    assert stack.settle() is None
    assert administrator.client("sns").list_topics()["Topics"] == []


def test_what_has_to_be_repaired_is_said_and_left_until_it_is_agreed_to(
    administrator: Administrator, stack: Stack, upload: Upload
) -> None:
    assert stack.repair() is None
    administrator.client("ssm").put_parameter(Name="/news/arn", Value="somebody's", Type="String")
    with pytest.raises(InstallError, match="ROLLBACK_COMPLETE"):
        stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {})

    assert stack.repair() == (
        "Stack news is ROLLBACK_COMPLETE: an earlier attempt failed. What is left of it is removed first."
    )
    assert stack.at_rest() == "ROLLBACK_COMPLETE"
    stack.deploy(upload(TOPIC), [], {})
    assert stack.repair() is None


def test_a_stack_that_was_planned_and_never_made_is_made(stack: Stack, upload: Upload) -> None:
    """An interrupted run leaves a change set that nobody executed."""
    stack.cloudformation.create_change_set(
        StackName=stack.name, ChangeSetName="interrupted", ChangeSetType="CREATE", TemplateURL=upload(TOPIC)
    )
    assert stack.settle() == "REVIEW_IN_PROGRESS"
    assert stack.deploy(upload(TOPIC), [], {}) is True
    assert stack.settle() == "CREATE_COMPLETE"


def test_a_deleted_stack_is_gone(administrator: Administrator, stack: Stack, upload: Upload) -> None:
    stack.deploy(upload(TOPIC), [], {})
    stack.delete()
    assert stack.settle() is None
    assert administrator.client("sns").list_topics()["Topics"] == []


def test_a_template_with_many_resources_is_told_in_few_lines(stack: Stack, upload: Upload, said: list[str]) -> None:
    parameters = {
        f"Parameter{letter}": {**PARAMETER, "Properties": {**PARAMETER["Properties"], "Name": f"/news/{letter}"}}
        for letter in "ABCDEFGHIJKLMNOPQRST"
    }
    stack.deploy(upload(TOPIC | parameters), [], {})
    assert said[:3] == ["21 changes:", "  Add  1 AWS::SNS::Topic", "  Add 20 AWS::SSM::Parameter"]
    assert len(said) < 15, said
    assert said[-1].endswith("CREATE_COMPLETE news")


def test_a_failure_is_told_when_it_happens(
    administrator: Administrator, stack: Stack, upload: Upload, said: list[str]
) -> None:
    administrator.client("ssm").put_parameter(Name="/news/arn", Value="somebody's", Type="String")
    with pytest.raises(InstallError):
        stack.deploy(upload(TOPIC | {"Parameter": PARAMETER}), [], {})
    assert any("CREATE_FAILED" in line and "Parameter: " in line and "already exists" in line for line in said), said


def test_what_changes_or_goes_is_named() -> None:
    assert change_lines(
        [
            {
                "Action": "Modify",
                "ResourceType": "AWS::SQS::Queue",
                "LogicalResourceId": "Queue",
                "Replacement": "True",
            },
            {"Action": "Remove", "ResourceType": "AWS::SNS::Topic", "LogicalResourceId": "Topic"},
        ]
    ) == ["2 changes:", "  Modify AWS::SQS::Queue Queue, replaced by a new one", "  Remove AWS::SNS::Topic Topic"]
