"""Parameters of templates: those that stand for values in Parameter Store, and what their constraints refuse."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.clients import refused
from tests.local_aws.people import sign_in
from tests.local_aws.waiting import settled

ACCOUNT, REGION = "123456789012", "us-east-1"
STORED = "AWS::SSM::Parameter::Value<String>"
PROJECT = r"^(?!.*-feature(-|$))[a-z](-*[a-z0-9]){0,31}$"


class Stacks:
    """A person who may make queues and read one part of Parameter Store, and what they make of templates."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        iam = aws.client("iam")
        iam.create_user(UserName="person")
        rights = [
            {"Effect": "Allow", "Action": ["cloudformation:*", "sqs:*"], "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "ssm:GetParameters",
                "Resource": f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/modelyard/*",
            },
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": rights})
        iam.put_user_policy(UserName="person", PolicyName="rights", PolicyDocument=policy)
        self.cloudformation = aws.client("cloudformation", credentials=sign_in(aws, "person"))
        self.parameters = aws.client("ssm")

    def store(self, name: str, value: str, kind: str = "String") -> None:
        self.parameters.put_parameter(Name=name, Value=value, Type=kind, Overwrite=True)

    def create(self, template: dict[str, Any], **given: str) -> str:
        """The stack's name, once it is there."""
        name = f"s{uuid.uuid4().hex[:8]}"
        self.cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template), Parameters=_listed(given))
        self.settled(name)
        return name

    def update(self, name: str, **options: Any) -> None:
        self.cloudformation.update_stack(StackName=name, UsePreviousTemplate=True, **options)
        self.settled(name)

    def settled(self, name: str) -> None:
        assert settled(self.cloudformation, name)["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")

    def now(self, name: str) -> dict[str, Any]:
        return dict(self.cloudformation.describe_stacks(StackName=name)["Stacks"][0])

    def outputs(self, name: str) -> dict[str, str]:
        return {each["OutputKey"]: each["OutputValue"] for each in self.now(name)["Outputs"]}


@pytest.fixture(scope="module")
def stacks() -> Iterator[Stacks]:
    with LocalAWS(enforce_iam=True) as aws:
        yield Stacks(aws)


def _listed(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]


def template(parameters: dict[str, Any], outputs: dict[str, Any], **conditions: Any) -> dict[str, Any]:
    return {
        "Parameters": parameters,
        "Conditions": conditions,
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }


HOST = template(
    {"GitHost": {"Type": STORED, "Default": "/modelyard/git/host"}},
    {"Host": {"Ref": "GitHost"}, "Where": {"Fn::If": ["OnGitHub", "there", "here"]}},
    OnGitHub={"Fn::Equals": [{"Ref": "GitHost"}, "github"]},
)


def test_a_stored_value_is_read_when_a_stack_is_made_and_whenever_it_is_updated(stacks: Stacks) -> None:
    stacks.store("/modelyard/git/host", "codecommit")
    name = stacks.create(HOST)
    assert stacks.outputs(name) == {"Host": "codecommit", "Where": "here"}
    assert stacks.now(name)["Parameters"] == [
        {"ParameterKey": "GitHost", "ParameterValue": "/modelyard/git/host", "ResolvedValue": "codecommit"}
    ]

    stacks.store("/modelyard/git/host", "github")
    stacks.update(name, Parameters=[{"ParameterKey": "GitHost", "UsePreviousValue": True}])
    assert stacks.outputs(name) == {"Host": "github", "Where": "there"}
    assert stacks.now(name)["Parameters"][0]["ResolvedValue"] == "github"


def test_another_name_may_be_given(stacks: Stacks) -> None:
    stacks.store("/modelyard/git/other", "github")
    assert stacks.outputs(stacks.create(HOST, GitHost="/modelyard/git/other"))["Host"] == "github"


def test_stacks_of_one_template_show_each_what_they_resolved(stacks: Stacks) -> None:
    stacks.store("/modelyard/git/host", "codecommit")
    first = stacks.create(HOST)
    stacks.store("/modelyard/git/host", "github")
    second = stacks.create(HOST)
    shown = {
        stack["StackName"]: stack["Parameters"][0].get("ResolvedValue")
        for stack in stacks.cloudformation.describe_stacks()["Stacks"]
    }
    assert (shown[first], shown[second]) == ("codecommit", "github")


def test_a_stored_list_is_a_list(stacks: Stacks) -> None:
    stacks.store("/modelyard/subnets", "subnet-1, subnet-2", "StringList")
    subnets = {"Type": "AWS::SSM::Parameter::Value<CommaDelimitedList>", "Default": "/modelyard/subnets"}
    name = stacks.create(
        template(
            {"Subnets": subnets},
            {"Second": {"Fn::Select": [1, {"Ref": "Subnets"}]}, "All": {"Fn::Join": ["|", {"Ref": "Subnets"}]}},
        )
    )
    assert stacks.outputs(name) == {"Second": "subnet-2", "All": "subnet-1|subnet-2"}


def test_a_dynamic_reference_is_read(stacks: Stacks) -> None:
    stacks.store("/modelyard/git/host", "codecommit")
    body = template({}, {"Url": {"Ref": "Queue"}})
    body["Resources"]["Queue"]["Properties"] = {"QueueName": "{{resolve:ssm:/modelyard/git/host}}-pushes"}
    assert stacks.outputs(stacks.create(body))["Url"].endswith("/codecommit-pushes")


def test_names_that_are_not_in_parameter_store_are_all_named(stacks: Stacks) -> None:
    missing = {name: {"Type": STORED, "Default": f"/modelyard/{name}"} for name in ("absent", "gone")}
    stacks.store("/modelyard/present", "here")
    body = template({"Present": {"Type": STORED, "Default": "/modelyard/present"}, **missing}, {"Url": "u"})
    assert refused(lambda: stacks.create(body)) == (
        "ValidationError",
        "Unable to fetch parameters [/modelyard/absent,/modelyard/gone] from parameter store for this account.",
    )


def test_who_may_not_read_a_stored_value_makes_nothing_of_it(stacks: Stacks) -> None:
    stacks.store("/secret/host", "github")
    code, message = refused(lambda: stacks.create(HOST, GitHost="/secret/host"))
    arn = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/secret/host"
    assert code == "ValidationError"
    assert f"is not authorized to perform: ssm:GetParameters on resource: {arn}" in message


def name_parameter(**more: str) -> dict[str, Any]:
    return template({"Project": {"Type": "String", "AllowedPattern": PROJECT, **more}}, {"Name": {"Ref": "Project"}})


@pytest.mark.parametrize("name", ["churn", "churn-2", "a--b", "features", "my-features", "feature-store"])
def test_a_pattern_may_look_ahead(stacks: Stacks, name: str) -> None:
    assert stacks.outputs(stacks.create(name_parameter(), Project=name))["Name"] == name


@pytest.mark.parametrize("name", ["churn-feature", "a-feature-b", "Churn", "-churn", "churn-", "x" * 33, ""])
def test_what_does_not_match_is_refused_in_the_templates_words(stacks: Stacks, name: str) -> None:
    said = "lower-case letters, digits and hyphens, at most 32, and no part `feature` after the first"
    assert refused(lambda: stacks.create(name_parameter(ConstraintDescription=said), Project=name)) == (
        "ValidationError",
        f"Parameter Project failed to satisfy constraint: {said}",
    )
    assert refused(lambda: stacks.create(name_parameter(), Project=name)) == (
        "ValidationError",
        f"Parameter 'Project' must match pattern {PROJECT}",
    )


def test_a_secret_is_no_value_for_a_parameter(stacks: Stacks) -> None:
    stacks.store("/modelyard/git/token", "not-to-be-seen", "SecureString")
    assert refused(lambda: stacks.create(HOST, GitHost="/modelyard/git/token")) == (
        "ValidationError",
        "Parameters [/modelyard/git/token] referenced by template have types not supported by CloudFormation.",
    )
