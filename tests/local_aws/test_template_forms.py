"""What a template asks, where its object lies, and what is said of a stack that failed: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.s3_urls import object_address
from local_aws.stack_changes import failures_of_last_operation
from local_aws.template_forms import Parameter, read_template, value_faults
from tests.local_aws.catalog_stand import SMALL_TEMPLATE


def test_parameters_stand_in_their_groups_and_the_rest_behind():
    form = read_template(SMALL_TEMPLATE)

    assert [(group.label, [one.name for one in group.parameters]) for group in form.groups] == [
        ("What it does", ["Scenario"]),
        ("", ["SageMakerProjectName", "SageMakerProjectId", "Owner"]),
    ]
    scenario = form.parameters["Scenario"]
    assert (scenario.label, scenario.default, scenario.allowed_values) == (
        "Scenario of deployment",
        "baseline",
        ("baseline", "advanced"),
    )
    assert (form.description, form.outputs) == ("A topic.", {"TopicArn": "The topic"})


def test_values_are_text_whatever_yaml_makes_of_them():
    form = read_template(
        "Parameters:\n"
        "  Flag: {Type: String, Default: true, AllowedValues: [true, false]}\n"
        "  Port: {Type: Number, Default: 80}\n"
        "Resources: {T: {Type: 'AWS::SNS::Topic'}}"
    )

    assert form.parameters["Flag"].allowed_values == ("true", "false")
    assert [one.default for one in form.parameters.values()] == ["true", "80"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Resources: [", "YAML not well-formed"),
        ("just text", "unsupported structure"),
        ("Parameters: {}", "At least one Resources member must be defined"),
        ("Resources: {T: {Type: X}}\nParameters: {Name: text}", "must be a mapping: Name"),
        ("[" * 400, "Template format error"),
    ],
)
def test_what_is_no_template_is_told_as_cloudformation_does(text, said):
    with pytest.raises(ValueError, match=r"^Template format error") as error:
        read_template(text)

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("parameter", "value", "fault"),
    [
        (Parameter("P", allowed_values=("a", "b")), "c", "Parameter 'P' must be one of AllowedValues: a, b"),
        (Parameter("P", allowed_pattern="[a-z]+"), "a1", "Parameter 'P' must match pattern [a-z]+"),
        (Parameter("P", allowed_pattern="[a-z]+", rule="is lower case"), "A", "Parameter 'P' is lower case"),
        (Parameter("P", shortest="2"), "a", "Parameter 'P' must contain at least 2 characters"),
        (Parameter("P", longest="2"), "abc", "Parameter 'P' must contain at most 2 characters"),
        (Parameter("P", "Number", minimum="1"), "0", "Parameter 'P' must be a number not less than 1"),
        (Parameter("P", "Number", maximum="9"), "10", "Parameter 'P' must be a number not greater than 9"),
        (Parameter("P", "Number"), "many", "Parameter 'P' must be a number, not 'many'"),
        (Parameter("P", "AWS::SSM::Parameter::Value<String>", allowed_values=("a",)), "/name", None),
        (Parameter("P", allowed_pattern=r"^(?!.*-feature(-|$))[a-z](-*[a-z0-9]){0,31}$"), "churn", None),
        (
            Parameter("P", allowed_pattern=r"^(?!.*-feature(-|$))[a-z](-*[a-z0-9]){0,31}$", rule="has feature in it"),
            "churn-feature",
            "Parameter 'P' has feature in it",
        ),
    ],
)
def test_a_value_is_judged_by_its_parameters_constraints(parameter, value, fault):
    assert parameter.fault(value) == fault


def test_values_that_are_missing_unknown_and_wrong_are_told_together():
    faults = value_faults(read_template(SMALL_TEMPLATE), {"SageMakerProjectId": "p", "Scenario": "x", "Colour": "red"})

    assert faults == [
        "Parameters: [Colour] do not exist in the template",
        "Parameters: [SageMakerProjectName] must have values",
        "Parameter 'Scenario' must be one of AllowedValues: baseline, advanced",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.s3.eu-west-1.amazonaws.com/a/b.yaml",
        "https://bucket.s3.amazonaws.com/a/b.yaml",
        "https://bucket.s3-eu-west-1.amazonaws.com/a/b.yaml",
        "https://s3.us-gov-west-1.amazonaws.com/bucket/a/b.yaml",
        "https://s3.amazonaws.com/bucket/a/b.yaml?versionId=1",
        "http://127.0.0.1:4566/bucket/a/b.yaml",
        "https://bucket.s3.dualstack.us-east-1.amazonaws.com/a%2Fb.yaml",
    ],
)
def test_an_object_is_found_by_each_form_of_its_address(url):
    assert object_address(url) == ("bucket", "a/b.yaml")


def test_a_bucket_with_dots_is_found():
    assert object_address("https://my.bucket.s3.us-east-1.amazonaws.com/k") == ("my.bucket", "k")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/bucket/key",
        "s3://bucket/key",
        "https://bucket.s3.amazonaws.com/",
        "https://s3.amazonaws.com/bucket",
        "https://s3.amazonaws.com.example.org/bucket/key",
    ],
)
def test_what_is_no_objects_address_is_refused(url):
    with pytest.raises(ValueError, match="is no S3 object's address"):
        object_address(url)


def event(name: str, status: str, reason: str = "", stack: bool = False) -> dict[str, Any]:
    return {
        "StackId": "stack-1",
        "LogicalResourceId": name,
        "PhysicalResourceId": "stack-1" if stack else name,
        "ResourceType": "AWS::SNS::Topic",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def test_only_failures_of_the_last_operation_are_told_oldest_first():
    newest_first = [
        event("S", "ROLLBACK_COMPLETE", stack=True),
        event("B", "CREATE_FAILED", "Resource creation cancelled"),
        event("C", "UPDATE_FAILED", "second"),
        event("A", "UPDATE_FAILED", "first"),
        event("S", "UPDATE_IN_PROGRESS", "User Initiated", stack=True),
        event("A", "CREATE_FAILED", "long ago"),
    ]

    assert failures_of_last_operation(newest_first) == ["A (AWS::SNS::Topic): first", "C (AWS::SNS::Topic): second"]
