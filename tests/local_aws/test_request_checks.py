"""Requests are held against botocore's model before an operation sees them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from local_aws.calls import ServiceError
from local_aws.request_checks import check_request, check_shape, python_pattern, service_model


def refusal(operation: str, request: Any) -> tuple[str, str]:
    with pytest.raises(ServiceError) as error:
        check_request(service_model("sagemaker").operation_model(operation), request)
    return error.value.code, error.value.message


PREFIX = "1 validation error detected: "

REFUSED: list[tuple[str, Any, str, str]] = [
    (
        "DescribePipeline",
        {},
        "ValidationException",
        PREFIX + "Value null at 'pipelineName' failed to satisfy constraint: Member must not be null",
    ),
    (
        "DescribePipeline",
        {"PipelineName": None},
        "ValidationException",
        PREFIX + "Value null at 'pipelineName' failed to satisfy constraint: Member must not be null",
    ),
    (
        "DescribePipeline",
        {"PipelineName": "p", "Colour": "red"},
        "ValidationException",
        PREFIX + "Unknown member 'colour': not in botocore's model of this request"
        " (members: PipelineName, PipelineVersionId)",
    ),
    (
        "ListPipelines",
        {"MaxResults": 0},
        "ValidationException",
        PREFIX + "Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal"
        " to 1",
    ),
    (
        "ListPipelines",
        {"SortOrder": "Sideways"},
        "ValidationException",
        PREFIX + "Value 'Sideways' at 'sortOrder' failed to satisfy constraint: Member must satisfy enum value set:"
        " [Ascending, Descending]",
    ),
    (
        "AddTags",
        {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/p", "Tags": [{"Key": "a{b}", "Value": ""}]},
        "ValidationException",
        PREFIX + "Value 'a{b}' at 'tags.1.member.key' failed to satisfy constraint: Member must satisfy regular"
        r" expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
    ),
    (
        "AddTags",
        {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/p", "Tags": [{"Key": "", "Value": "v"}]},
        "ValidationException",
        PREFIX + "Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or"
        " equal to 1",
    ),
    ("ListPipelines", {"MaxResults": "5"}, "SerializationException", "'maxResults' must be an integer, not str"),
    ("ListPipelines", {"MaxResults": True}, "SerializationException", "'maxResults' must be an integer, not bool"),
    (
        "ListPipelines",
        {"PipelineNamePrefix": 5},
        "SerializationException",
        "'pipelineNamePrefix' must be a string, not",
    ),
    (
        "ListPipelines",
        {"CreatedAfter": "2026-01-01"},
        "SerializationException",
        "'createdAfter' must be a time stamp in seconds since 1970, not str",
    ),
    ("AddTags", {"ResourceArn": "a", "Tags": {"a": "b"}}, "SerializationException", "'tags' must be a list, not dict"),
    ("CreateTrainingJob", {"HyperParameters": []}, "SerializationException", "'hyperParameters' must be a map, not"),
    (
        "CreateTrainingJob",
        {"StoppingCondition": 5},
        "SerializationException",
        "'stoppingCondition' must be a structure",
    ),
    (
        "CreateTrainingJob",
        {"EnableManagedSpotTraining": "yes"},
        "SerializationException",
        "'enableManagedSpotTraining' must be true or false, not str",
    ),
    ("ListPipelines", [], "SerializationException", "'the request' must be a structure, not list"),
]


@pytest.mark.parametrize(
    ("operation", "request_", "code", "message"), REFUSED, ids=[f"{row[0]}-{row[3][-40:]}" for row in REFUSED]
)
def test_a_request_that_the_model_forbids_is_refused_as_aws_does(operation, request_, code, message):
    answered = refusal(operation, request_)

    assert answered[0] == code
    assert answered[1].startswith(message)


def test_every_fault_of_a_request_is_named_at_once():
    _, message = refusal("CreateModelPackageGroup", {"ModelPackageGroupName": "-" * 64})

    assert message.startswith("2 validation errors detected: Value '----")
    assert "length less than or equal to 63; Value" in message


def test_a_long_value_is_cut_in_the_message():
    _, message = refusal("DescribePipeline", {"PipelineName": "x" * 10_000})

    assert len(message) < 1000


def test_a_right_request_passes():
    request = {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/p",
        "Tags": [{"Key": "k", "Value": ""}],
    }

    check_request(service_model("sagemaker").operation_model("AddTags"), request)


def test_a_null_member_counts_as_absent():
    check_request(service_model("sagemaker").operation_model("ListPipelines"), {"MaxResults": None, "SortBy": None})


def test_every_pattern_of_the_model_is_understood():
    model = service_model("sagemaker")
    patterns = {
        pattern for name in model.shape_names if (pattern := model.shape_for(name).metadata.get("pattern")) is not None
    }

    assert len(patterns) > 100
    for pattern in patterns:
        assert isinstance(python_pattern(pattern), re.Pattern)


METADATA = r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,256}"  # of customer metadata: "$" with a quantifier
DESCRIPTION = r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}]*"


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (METADATA, "s3://bucket/a_b-c=1+2@3.4", True),
        (METADATA, "Größe 日本 ٣", True),
        (METADATA, '{"a": 1}', False),
        (METADATA, "a,b", False),
        (METADATA, "tab\there", False),
        (METADATA, "☃", False),
        (DESCRIPTION, "Snow ☃, 100 % “sure” 🎉", True),
        (DESCRIPTION, "two\nlines", False),
        ("[a-z]+", "abc\n", False),
        (r"arn:[\p{Alnum}\-]+", "arn:aws-cn", True),
        (r"arn:[\p{Alnum}\-]+", "arn:äws", False),
        (r"\p{Print}+", "scale out ~ 1", True),
        (r"\p{Print}+", "scale\nout", False),
        (r"\p{Print}+", "größer", False),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a\t🎉", True),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a\x00", False),
    ],
)
def test_patterns_mean_what_they_mean_in_java(pattern, text, matches):
    assert (python_pattern(pattern).fullmatch(text) is not None) is matches


def test_a_shape_is_checked_by_its_name():
    assert check_shape("sagemaker", "PipelineName", "churn-dev") == []
    assert check_shape("sagemaker", "PipelineName", "churn_dev") == [
        "Value 'churn_dev' at '' failed to satisfy constraint: Member must satisfy regular expression pattern:"
        " [a-zA-Z0-9](-*[a-zA-Z0-9]){0,255}"
    ]
