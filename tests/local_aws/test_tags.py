"""Tags on resources."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.job_requests import Workshop


@pytest.fixture
def sagemaker(aws) -> Any:
    return aws.client("sagemaker")


@pytest.fixture
def arn(sagemaker) -> str:
    """A resource without tags."""
    name = f"tagged-{uuid.uuid4().hex[:12]}"
    return sagemaker.create_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupArn"]


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(sagemaker: Any, arn: str) -> dict[str, str]:
    pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


def test_a_job_s_tags_are_those_of_its_own_arn_only(aws, sagemaker):
    request = Workshop(aws).processing_request("")
    arn = sagemaker.create_processing_job(**request)["ProcessingJobArn"]

    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []
    for other in (arn.replace(":123456789012:", ":210987654321:"), arn.replace("us-east-1", "eu-west-1")):
        with pytest.raises(ClientError, match="ResourceNotFound"):
            sagemaker.add_tags(ResourceArn=other, Tags=pairs({"a": "b"}))


def test_added_tags_join_those_there_and_replace_values(sagemaker, arn):
    sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"team": "churn", "stage": "dev"}))
    answer = sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"stage": "prod", "empty": ""}))

    assert answer["Tags"] == pairs({"team": "churn", "stage": "prod", "empty": ""})
    assert tags_of(sagemaker, arn) == {"team": "churn", "stage": "prod", "empty": ""}


def test_keys_differ_by_case(sagemaker, arn):
    sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"Team": "a", "team": "b"}))

    assert tags_of(sagemaker, arn) == {"Team": "a", "team": "b"}


def test_deleted_tags_are_gone_and_absent_keys_do_not_matter(sagemaker, arn):
    sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"a": "1", "b": "2"}))
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "absent"])

    assert tags_of(sagemaker, arn) == {"b": "2"}


def test_tags_added_at_once_are_all_there(sagemaker, arn):
    def add(number: int) -> None:
        sagemaker.add_tags(ResourceArn=arn, Tags=pairs({f"key-{number}": "v"}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(tags_of(sagemaker, arn)) == {f"key-{number}" for number in range(20)}


def test_a_model_package_version_has_tags_of_its_own_once_added(sagemaker, arn):
    version = sagemaker.create_model_package(ModelPackageGroupName=arn)["ModelPackageArn"]
    sagemaker.add_tags(ResourceArn=version, Tags=pairs({"a": "1"}))

    assert tags_of(sagemaker, version) == {"a": "1"}
    assert tags_of(sagemaker, arn) == {}


ABSENT = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/absent"
FIFTY = {f"key-{number}": "v" for number in range(50)}


@pytest.mark.parametrize(
    ("operation", "request_", "code", "message"),
    [
        ("add_tags", {"ResourceArn": ABSENT, "Tags": pairs({"a": "1"})}, "ResourceNotFound", f"Resource {ABSENT} does"),
        ("list_tags", {"ResourceArn": ABSENT}, "ResourceNotFound", "does not exist in this account and Region"),
        ("delete_tags", {"ResourceArn": ABSENT, "TagKeys": ["a"]}, "ResourceNotFound", "does not exist"),
        ("add_tags", {"Tags": pairs({"aws:mine": "1"})}, "ValidationException", "the prefix aws: is AWS's own"),
        ("add_tags", {"Tags": pairs({"AWS:mine": "1"})}, "ValidationException", "the prefix aws: is AWS's own"),
        ("add_tags", {"Tags": pairs({"a": "1"}) * 2}, "ValidationException", "Duplicate tag keys: a."),
        ("add_tags", {"Tags": pairs({"a" * 129: "1"})}, "ValidationException", "less than or equal to 128"),
        ("add_tags", {"Tags": pairs({"a": "b" * 257})}, "ValidationException", "less than or equal to 256"),
        ("add_tags", {"Tags": pairs({"a": "{b}"})}, "ValidationException", "'tags.1.member.value' failed to satisfy"),
        ("add_tags", {"Tags": pairs(FIFTY | {"more": "v"})}, "ValidationException", "less than or equal to 50"),
        ("list_tags", {"NextToken": "bm8="}, "ValidationException", "Invalid NextToken"),
    ],
)
def test_a_bad_request_is_refused_and_changes_nothing(sagemaker, arn, operation, request_, code, message):
    with pytest.raises(ClientError) as error:
        getattr(sagemaker, operation)(**{"ResourceArn": arn} | request_)

    assert error.value.response["Error"]["Code"] == code
    assert message in error.value.response["Error"]["Message"]
    assert tags_of(sagemaker, arn) == {}


def test_a_resource_has_at_most_fifty_tags(sagemaker, arn):
    sagemaker.add_tags(ResourceArn=arn, Tags=pairs(FIFTY))

    with pytest.raises(ClientError, match="would have 51 tags; at most 50 are allowed"):
        sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"one-more": "v"}))
    sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"key-0": "changed"}))

    assert tags_of(sagemaker, arn) == FIFTY | {"key-0": "changed"}
