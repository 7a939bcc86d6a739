"""CloudFormation acts as a stack's role, else as its caller, and IAM is asked before each operation on a resource."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.people import sign_in
from tests.local_aws.waiting import settled

CLOUDFORMATION = "cloudformation.amazonaws.com"
QUEUE_ACTIONS = ("sqs:CreateQueue", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ListQueueTags")
ON_QUEUES = [*QUEUE_ACTIONS, "sqs:DeleteQueue", "sqs:SetQueueAttributes"]
Statement = tuple[str | list[str], str]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@functools.cache
def client(aws: LocalAWS, service: str) -> Any:
    """The account's own user's: making one takes longer than most calls."""
    return aws.client(service)


def new_name() -> str:
    return f"s{uuid.uuid4().hex[:10]}"


def policy(*statements: Statement) -> str:
    allowed = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": allowed})


def trust(service: str = CLOUDFORMATION) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def a_queue(**properties: Any) -> dict[str, Any]:
    return {"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": properties}}}


@dataclass(frozen=True)
class Person:
    """A user, or the account's own, who works with CloudFormation."""

    aws: LocalAWS
    name: str
    cloudformation: Any

    def may(self, *statements: Statement) -> None:
        client(self.aws, "iam").put_user_policy(
            UserName=self.name, PolicyName="rights", PolicyDocument=policy(*statements)
        )

    def create(self, name: str, template: dict[str, Any], **options: Any) -> dict[str, Any]:
        self.cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template), **options)
        return self.settled(name)

    def update(self, name: str, template: dict[str, Any], **options: Any) -> dict[str, Any]:
        self.cloudformation.update_stack(StackName=name, TemplateBody=json.dumps(template), **options)
        return self.settled(name)

    def delete(self, stack: dict[str, Any], **options: Any) -> dict[str, Any]:
        self.cloudformation.delete_stack(StackName=stack["StackName"], **options)
        return self.settled(stack["StackId"])

    def settled(self, name: str) -> dict[str, Any]:
        """What the stack is when nothing is under way, as the account's own user sees it."""
        return settled(client(self.aws, "cloudformation"), name)

    def why(self, stack: dict[str, Any], status: str = "CREATE_FAILED") -> str:
        """Why the first resource failed."""
        events = client(self.aws, "cloudformation").describe_stack_events(StackName=stack["StackId"])["StackEvents"]
        reasons = [event["ResourceStatusReason"] for event in events[::-1] if event["ResourceStatus"] == status]
        return str(reasons[0])


@pytest.fixture
def root(aws: LocalAWS) -> Person:
    return Person(aws, "root", client(aws, "cloudformation"))


@pytest.fixture
def user(aws: LocalAWS) -> Person:
    """Who may do with stacks what he likes, and nothing else."""
    name, iam = new_name(), client(aws, "iam")
    iam.create_user(UserName=name)
    person = Person(aws, name, aws.client("cloudformation", credentials=sign_in(aws, name)))
    person.may(("cloudformation:*", "*"))
    return person


@dataclass(frozen=True)
class Role:
    aws: LocalAWS
    arn: str

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    def may(self, *statements: Statement) -> None:
        client(self.aws, "iam").put_role_policy(
            RoleName=self.name, PolicyName="rights", PolicyDocument=policy(*statements)
        )


def make_role(aws: LocalAWS, service: str = CLOUDFORMATION) -> Role:
    role = client(aws, "iam").create_role(RoleName=new_name(), AssumeRolePolicyDocument=trust(service))["Role"]
    return Role(aws, role["Arn"])


@pytest.fixture
def role(aws: LocalAWS) -> Role:
    """That CloudFormation can assume, and that may do nothing."""
    return make_role(aws)


# --- the proofs that it bites


def test_a_stack_with_a_powerless_role_fails_and_names_the_action(root: Person, role: Role) -> None:
    """Whatever the caller himself may do."""
    stack = root.create(new_name(), a_queue(), RoleARN=role.arn)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    reason = root.why(stack)
    assert f"assumed-role/{role.name}/AWSCloudFormation is not authorized to perform: sqs:CreateQueue on" in reason
    assert reason.startswith('Resource handler returned message: "User: ')
    assert reason.endswith("HandlerErrorCode: AccessDenied)")
    role.may((ON_QUEUES, "*"))
    assert root.create(new_name(), a_queue(), RoleARN=role.arn)["StackStatus"] == "CREATE_COMPLETE"


@pytest.mark.parametrize("missing", QUEUE_ACTIONS)
def test_each_action_that_the_schema_lists_is_needed(root: Person, role: Role, missing: str) -> None:
    role.may(([action for action in ON_QUEUES if action != missing], "*"))
    stack = root.create(new_name(), a_queue(), RoleARN=role.arn)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert f"perform: {missing} on" in root.why(stack)


def test_a_user_makes_no_queue_through_cloudformation_without_the_right(user: Person) -> None:
    stack = user.create(new_name(), a_queue())
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert f"user/{user.name} is not authorized to perform: sqs:CreateQueue" in user.why(stack)
    user.may(("cloudformation:*", "*"), (ON_QUEUES, "arn:aws:sqs:*:*:mine-*"))
    assert user.create(new_name(), a_queue(QueueName="theirs-1"))["StackStatus"] == "ROLLBACK_COMPLETE"
    assert user.create(new_name(), a_queue(QueueName="mine-1"))["StackStatus"] == "CREATE_COMPLETE"


def test_a_user_passes_no_role_to_a_stack_without_the_right(user: Person, role: Role) -> None:
    role.may((ON_QUEUES, "*"))
    with pytest.raises(ClientError, match="iam:PassRole") as refused:
        user.create(new_name(), a_queue(), RoleARN=role.arn)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    user.may(("cloudformation:*", "*"), ("iam:PassRole", role.arn))
    assert user.create(new_name(), a_queue(), RoleARN=role.arn)["StackStatus"] == "CREATE_COMPLETE"


def test_a_user_passes_no_role_to_a_function_in_a_template_without_the_right(aws: LocalAWS, user: Person) -> None:
    function_role = make_role(aws, "lambda.amazonaws.com")
    properties = {
        "Role": function_role.arn,
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Code": {"ZipFile": "def handler(event, context): pass"},
    }
    template = {"Resources": {"Function": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
    rights: list[Statement] = [("cloudformation:*", "*"), ("lambda:*", "*")]
    user.may(*rights)
    stack = user.create(new_name(), template)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert f"perform: iam:PassRole on resource: {function_role.arn}" in user.why(stack)
    user.may(*rights, ("iam:PassRole", function_role.arn))
    assert user.create(new_name(), template)["StackStatus"] == "CREATE_COMPLETE"


# --- whom CloudFormation acts as


def test_a_stack_is_deleted_as_the_role_that_it_was_made_with(root: Person, user: Person, role: Role) -> None:
    role.may((ON_QUEUES, "*"))
    stack = root.create(new_name(), a_queue(), RoleARN=role.arn)
    assert stack["RoleARN"] == role.arn
    role.may((list(QUEUE_ACTIONS), "*"))
    failed = root.delete(stack)
    assert failed["StackStatus"] == "DELETE_FAILED"
    assert "perform: sqs:DeleteQueue" in root.why(failed, "DELETE_FAILED")
    role.may((ON_QUEUES, "*"))
    assert user.delete(stack)["StackStatus"] == "DELETE_COMPLETE"


def test_a_stack_takes_the_role_that_it_was_given_last(root: Person, role: Role) -> None:
    other = make_role(role.aws)
    role.may((ON_QUEUES, "*"))
    other.may((ON_QUEUES, "*"))
    stack = root.create(new_name(), a_queue(), RoleARN=role.arn)
    assert root.update(stack["StackName"], a_queue(DelaySeconds=1), RoleARN=other.arn)["RoleARN"] == other.arn
    other.may(("sqs:GetQueueUrl", "*"))
    assert root.update(stack["StackName"], a_queue(DelaySeconds=2))["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert f"assumed-role/{other.name}/" in root.why(stack, "UPDATE_FAILED")


def test_a_change_set_is_executed_as_its_role(root: Person, user: Person, role: Role) -> None:
    role.may((ON_QUEUES, "*"))
    name = new_name()
    template = json.dumps(a_queue())
    root.cloudformation.create_change_set(
        StackName=name, ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=template, RoleARN=role.arn
    )
    user.cloudformation.execute_change_set(StackName=name, ChangeSetName="first")
    stack = user.settled(name)
    assert (stack["StackStatus"], stack["RoleARN"]) == ("CREATE_COMPLETE", role.arn)


def test_a_role_that_cloudformation_cannot_assume_is_refused(aws: LocalAWS, root: Person) -> None:
    stranger = make_role(aws, "lambda.amazonaws.com")
    with pytest.raises(ClientError, match=f"Role {stranger.arn} is invalid or cannot be assumed"):
        root.create(new_name(), a_queue(), RoleARN=stranger.arn)


def test_what_a_stack_asks_for_its_caller_says_so(user: Person) -> None:
    """Forward access sessions: a policy can allow what comes by CloudFormation alone."""
    name = f"made-{user.name}"
    statement = {
        "Effect": "Allow",
        "Action": "sqs:*",
        "Resource": "*",
        "Condition": {"ForAnyValue:StringEquals": {"aws:CalledVia": CLOUDFORMATION}},
    }
    document = json.loads(policy(("cloudformation:*", "*")))
    document["Statement"].append(statement)
    client(user.aws, "iam").put_user_policy(
        UserName=user.name, PolicyName="rights", PolicyDocument=json.dumps(document)
    )
    assert user.create(new_name(), a_queue(QueueName=name))["StackStatus"] == "CREATE_COMPLETE"


def test_decisions_name_the_resource_type(aws: LocalAWS, root: Person, role: Role) -> None:
    role.may((ON_QUEUES, "*"))
    root.create(new_name(), a_queue(), RoleARN=role.arn)
    decisions = [one for one in aws.settings("permissions")["decisions"] if one["principal"] == role.arn]
    assert {one["because"] for one in decisions} == {"cloudformation:AWS::SQS::Queue"}
    assert {one["action"] for one in decisions} == set(QUEUE_ACTIONS)


@pytest.mark.slow
def test_a_stack_remembers_its_role_over_a_restart(tmp_path: Path) -> None:
    name = new_name()
    with LocalAWS(state=tmp_path) as aws:
        role = make_role(aws)
        Person(aws, "root", client(aws, "cloudformation")).create(name, a_queue(), RoleARN=role.arn)
    with LocalAWS(state=tmp_path) as aws:
        stack = client(aws, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    assert stack["RoleARN"] == role.arn


# --- updates


def attribute(aws: LocalAWS, queue: str, name: str) -> str:
    sqs = client(aws, "sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def test_a_denied_update_leaves_everything_as_it_was(aws: LocalAWS, root: Person, role: Role) -> None:
    """The topic, which the update makes first, goes again."""
    name = new_name()
    role.may((ON_QUEUES, "*"), ("sns:*", "*"))
    stack = root.create(name, a_queue(QueueName=name, DelaySeconds=1), RoleARN=role.arn)
    role.may((list(QUEUE_ACTIONS), "*"), ("sns:*", "*"))
    template = a_queue(QueueName=name, DelaySeconds=5)
    template["Resources"]["Topic"] = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": name}}
    template["Resources"]["Queue"]["DependsOn"] = "Topic"
    updated = root.update(name, template)
    assert updated["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "perform: sqs:SetQueueAttributes" in root.why(stack, "UPDATE_FAILED")
    assert attribute(aws, name, "DelaySeconds") == "1"
    assert name not in json.dumps(client(aws, "sns").list_topics()["Topics"])
    assert '"DelaySeconds": 1' in json.dumps(root.cloudformation.get_template(StackName=name)["TemplateBody"])
    role.may((ON_QUEUES, "*"), ("sns:*", "*"))
    assert root.update(name, template)["StackStatus"] == "UPDATE_COMPLETE"
    assert attribute(aws, name, "DelaySeconds") == "5"


def test_a_rollback_is_asked_about_too(root: Person, role: Role) -> None:
    """What the stack has made stays when the role may not delete it."""
    template = a_queue()
    template["Resources"]["Topic"] = {"Type": "AWS::SNS::Topic"}
    template["Resources"]["Queue"]["DependsOn"] = "Topic"
    role.may((["sns:CreateTopic", "sns:GetTopicAttributes"], "*"))
    stack = root.create(new_name(), template, RoleARN=role.arn)
    assert stack["StackStatus"] == "ROLLBACK_FAILED"
    assert "perform: sqs:CreateQueue" in root.why(stack)
    assert "perform: sns:DeleteTopic" in root.why(stack, "DELETE_FAILED")


def test_what_an_update_replaces_is_created_and_deleted(root: Person, role: Role) -> None:
    """No right to change a queue is needed when its name changes."""
    before, after = new_name(), new_name()
    role.may(([*QUEUE_ACTIONS, "sqs:DeleteQueue"], "*"))
    stack = root.create(new_name(), a_queue(QueueName=before), RoleARN=role.arn)
    updated = root.update(stack["StackName"], a_queue(QueueName=after))
    assert updated["StackStatus"] == "UPDATE_COMPLETE"
    decisions = role.aws.settings("permissions")["decisions"]
    asked = {(one["action"], one["resource"].rpartition(":")[2]) for one in decisions if one["principal"] == role.arn}
    assert {("sqs:CreateQueue", after), ("sqs:DeleteQueue", before)} <= asked


# --- what a template refers to


def test_a_template_in_s3_is_read_with_the_callers_rights(aws: LocalAWS, user: Person, role: Role) -> None:
    s3, bucket = client(aws, "s3"), new_name()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="template.json", Body=json.dumps(a_queue()).encode())
    url = f"{s3.meta.endpoint_url}/{bucket}/template.json"
    role.may((ON_QUEUES, "*"), ("s3:*", "*"))
    rights: list[Statement] = [("cloudformation:*", "*"), ("iam:PassRole", role.arn)]
    user.may(*rights)
    name = new_name()
    with pytest.raises(ClientError, match="S3 error: Access Denied"):
        user.cloudformation.create_stack(StackName=name, TemplateURL=url, RoleARN=role.arn)
    user.may(*rights, ("s3:GetObject", f"arn:aws:s3:::{bucket}/template.json"))
    user.cloudformation.create_stack(StackName=name, TemplateURL=url, RoleARN=role.arn)
    assert user.settled(name)["StackStatus"] == "CREATE_COMPLETE"


def test_parameters_in_systems_manager_are_read_as_the_role(aws: LocalAWS, root: Person, role: Role) -> None:
    parameter = f"/{new_name()}/delay"
    client(aws, "ssm").put_parameter(Name=parameter, Value="3", Type="String")
    by_reference = a_queue(DelaySeconds=f"{{{{resolve:ssm:{parameter}}}}}")
    by_parameter = a_queue(DelaySeconds={"Ref": "Delay"}) | {
        "Parameters": {"Delay": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": parameter}}
    }
    role.may((ON_QUEUES, "*"))
    assert "perform: ssm:GetParameters" in root.why(root.create(new_name(), by_reference, RoleARN=role.arn))
    with pytest.raises(ClientError, match="perform: ssm:GetParameters"):
        root.create(new_name(), by_parameter, RoleARN=role.arn)
    role.may((ON_QUEUES, "*"), ("ssm:GetParameters", f"arn:aws:ssm:*:*:parameter{parameter}"))
    for template in (by_reference, by_parameter):
        assert root.create(new_name(), template, RoleARN=role.arn)["StackStatus"] == "CREATE_COMPLETE"


def test_a_secret_in_a_template_is_read_as_the_role(aws: LocalAWS, root: Person, role: Role) -> None:
    secret = client(aws, "secretsmanager").create_secret(Name=new_name(), SecretString="4")
    template = a_queue(DelaySeconds=f"{{{{resolve:secretsmanager:{secret['Name']}}}}}")
    role.may((ON_QUEUES, "*"))
    assert "perform: secretsmanager:GetSecretValue" in root.why(root.create(new_name(), template, RoleARN=role.arn))
    role.may((ON_QUEUES, "*"), ("secretsmanager:GetSecretValue", secret["ARN"]))
    assert root.create(new_name(), template, RoleARN=role.arn)["StackStatus"] == "CREATE_COMPLETE"


def test_a_functions_code_is_read_as_the_role(aws: LocalAWS, root: Person, role: Role) -> None:
    function_role = make_role(aws, "lambda.amazonaws.com")
    properties = {
        "Role": function_role.arn,
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Code": {"S3Bucket": "code", "S3Key": "function.zip"},
    }
    template = {"Resources": {"Function": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
    role.may(("lambda:*", "*"), ("iam:PassRole", "*"))
    reason = root.why(root.create(new_name(), template, RoleARN=role.arn))
    assert "perform: s3:GetObject on resource: arn:aws:s3:::code/function.zip" in reason


def test_a_custom_resource_invokes_its_function_as_the_role(root: Person, role: Role) -> None:
    token = f"arn:aws:lambda:us-east-1:123456789012:function:{new_name()}"
    template = {"Resources": {"Thing": {"Type": "Custom::Thing", "Properties": {"ServiceToken": token}}}}
    denied = root.why(root.create(new_name(), template, RoleARN=role.arn))
    assert f"perform: lambda:InvokeFunction on resource: {token}" in denied
    role.may(("lambda:InvokeFunction", token))
    assert "not found" in root.why(root.create(new_name(), template, RoleARN=role.arn))


def test_a_nested_stack_acts_as_its_parents_role(aws: LocalAWS, root: Person, role: Role) -> None:
    s3, bucket = client(aws, "s3"), new_name()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="child.json", Body=json.dumps(a_queue()).encode())
    properties = {"TemplateURL": f"{s3.meta.endpoint_url}/{bucket}/child.json"}
    template = {"Resources": {"Child": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}}}
    role.may(("cloudformation:*", "*"), ("s3:GetObject", "*"))
    assert "perform: sqs:CreateQueue" in root.why(root.create(new_name(), template, RoleARN=role.arn))
    role.may(("cloudformation:*", "*"), ("s3:GetObject", "*"), (ON_QUEUES, "*"))
    assert root.create(new_name(), template, RoleARN=role.arn)["StackStatus"] == "CREATE_COMPLETE"


# --- tags and unknown types


def test_tags_of_the_stack_need_the_right_to_tag(root: Person, role: Role) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    role.may((ON_QUEUES, "*"))
    denied = root.create(new_name(), a_queue(), RoleARN=role.arn, Tags=tags)
    assert "perform: sqs:TagQueue" in root.why(denied)
    document = json.loads(policy((ON_QUEUES, "*"), ("sqs:TagQueue", "*")))
    document["Statement"][1]["Condition"] = {"StringEquals": {"aws:RequestTag/team": "a"}}
    iam = client(role.aws, "iam")
    iam.put_role_policy(RoleName=role.name, PolicyName="rights", PolicyDocument=json.dumps(document))
    assert root.create(new_name(), a_queue(), RoleARN=role.arn, Tags=tags)["StackStatus"] == "CREATE_COMPLETE"


def test_a_type_without_rules_needs_all_that_its_schema_lists(root: Person, role: Role) -> None:
    template = {"Resources": {"Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": new_name()}}}}
    role.may(("events:CreateEventBus", "*"))
    reason = root.why(root.create(new_name(), template, RoleARN=role.arn))
    assert "asks for every action listed for create" in reason
    role.may(("events:*", "*"), ("kms:*", "*"))
    assert root.create(new_name(), template, RoleARN=role.arn)["StackStatus"] == "CREATE_COMPLETE"
