"""The model registry, as its clients see it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local_aws import LocalAWS
from local_aws.calls import Call
from local_aws.events import Events
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.store import Scope, Store
from tests.local_aws.clients import refused

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
SPECIFICATION = {
    "Containers": [
        {
            "Image": IMAGE,
            "ModelDataUrl": "s3://models/model.tar.gz",
            "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
        }
    ],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}
ACCOUNT_ARN = "arn:aws:sagemaker:us-east-1:123456789012"


@pytest.fixture(scope="module")
def sagemaker(aws: LocalAWS) -> Any:
    return aws.client("sagemaker")


@pytest.fixture
def group(sagemaker: Any) -> str:
    """The name of a new, empty group."""
    name = f"churn-{uuid.uuid4().hex[:12]}"
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    return name


@pytest.fixture
def register(sagemaker: Any, group: str) -> Callable[..., str]:
    """Register a version in the group; answers its ARN."""

    def register(**members: Any) -> str:
        request = {"ModelPackageGroupName": group, "InferenceSpecification": SPECIFICATION} | members
        return sagemaker.create_model_package(**request)["ModelPackageArn"]

    return register


def metric(name: str) -> dict[str, str]:
    return {"ContentType": "application/json", "S3Uri": f"s3://models/{name}.json"}


def versions(response: dict[str, Any]) -> list[int]:
    return [summary["ModelPackageVersion"] for summary in response["ModelPackageSummaryList"]]


# --- groups


def test_a_group_is_described_as_it_was_created(sagemaker):
    name = f"group-{uuid.uuid4().hex[:8]}"
    arn = sagemaker.create_model_package_group(
        ModelPackageGroupName=name,
        ModelPackageGroupDescription="Churn, version für Tests",
        Tags=[{"Key": "modelyard:project", "Value": "churn"}],
    )["ModelPackageGroupArn"]

    group = sagemaker.describe_model_package_group(ModelPackageGroupName=name)

    assert arn == group["ModelPackageGroupArn"] == f"{ACCOUNT_ARN}:model-package-group/{name}"
    assert group["ModelPackageGroupName"] == name
    assert group["ModelPackageGroupDescription"] == "Churn, version für Tests"
    assert group["ModelPackageGroupStatus"] == "Completed"
    assert datetime.now(UTC) - group["CreationTime"] < timedelta(minutes=1)
    assert group["CreatedBy"]["IamIdentity"]["Arn"].startswith("arn:aws:iam::123456789012:")
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "modelyard:project", "Value": "churn"}]
    assert set(group) - {"ResponseMetadata"} == {
        "ModelPackageGroupName",
        "ModelPackageGroupArn",
        "ModelPackageGroupDescription",
        "CreationTime",
        "CreatedBy",
        "ModelPackageGroupStatus",
    }


def test_a_group_is_found_by_its_arn(sagemaker, group):
    arn = f"{ACCOUNT_ARN}:model-package-group/{group}"

    assert sagemaker.describe_model_package_group(ModelPackageGroupName=arn)["ModelPackageGroupName"] == group


def test_a_group_with_bad_tags_is_not_created(sagemaker):
    name = f"group-{uuid.uuid4().hex[:8]}"
    twice = [{"Key": "team", "Value": "a"}, {"Key": "team", "Value": "b"}]

    code, message = refused(
        lambda: sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=twice),
    )

    assert (code, message) == ("ValidationException", "Duplicate tag keys: team. Give each key once.")
    assert "does not exist" in refused(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=name))[1]


def test_groups_are_listed_oldest_first_and_filtered_by_name(sagemaker):
    stem = uuid.uuid4().hex[:8]
    for letter in "bca":
        sagemaker.create_model_package_group(ModelPackageGroupName=f"{letter}-{stem}")

    def listed(**members: Any) -> list[str]:
        pages = sagemaker.get_paginator("list_model_package_groups").paginate(NameContains=stem, **members)
        return [group["ModelPackageGroupName"][0] for page in pages for group in page["ModelPackageGroupSummaryList"]]

    assert listed() == ["b", "c", "a"]
    assert listed(SortBy="Name", SortOrder="Descending") == ["c", "b", "a"]
    assert listed(SortBy="Name", PaginationConfig={"PageSize": 2}) == ["a", "b", "c"]
    assert listed(CreationTimeBefore=datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert listed(CreationTimeAfter=datetime(2020, 1, 1, tzinfo=UTC)) == ["b", "c", "a"]
    assert listed(CrossAccountFilterOption="CrossAccount") == []


def test_a_group_can_be_deleted_once_its_versions_are(sagemaker, group, register):
    arn = register()

    code, message = refused(lambda: sagemaker.delete_model_package_group(ModelPackageGroupName=group))
    assert code == "ConflictException"
    assert "contains 1 model package(s)" in message
    sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)

    assert "does not exist" in refused(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=group))[1]


def test_a_deleted_group_leaves_no_tags_behind(sagemaker):
    name = f"group-{uuid.uuid4().hex[:8]}"
    tags = [{"Key": "team", "Value": "a"}]
    arn = sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=tags)["ModelPackageGroupArn"]
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    sagemaker.create_model_package_group(ModelPackageGroupName=name)

    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []


# --- versions


def test_a_version_is_described_with_everything_it_was_registered_with(sagemaker, group, register):
    given = {
        "ModelPackageDescription": "Trained by a test",
        "ModelPackageRegistrationType": "Registered",
        "InferenceSpecification": SPECIFICATION,
        "MetadataProperties": {"CommitId": "0" * 40, "Repository": "r", "GeneratedBy": "g", "ProjectId": "p-1"},
        "ModelMetrics": {
            "ModelQuality": {"Statistics": metric("quality")},
            "ModelDataQuality": {"Statistics": metric("s"), "Constraints": metric("c")},
            "Bias": {"Report": metric("bias")},
            "Explainability": {"Report": metric("shap")},
        },
        "DriftCheckBaselines": {"ModelDataQuality": {"Statistics": metric("s"), "Constraints": metric("c")}},
        "CustomerMetadataProperties": {"modelyard:tree": "abc-dirty", "Größe": "s3://models/a_b=c+d@e.csv"},
        "Domain": "MACHINE_LEARNING",
        "Task": "CLASSIFICATION",
        "SamplePayloadUrl": "s3://models/payload.tar.gz",
        "AdditionalInferenceSpecifications": [{"Name": "fast", "Containers": [{"Image": IMAGE}]}],
        "SkipModelValidation": "All",
        "SecurityConfig": {"KmsKeyId": "alias/models"},
        "ModelCard": {"ModelCardContent": "{}", "ModelCardStatus": "Draft"},
        "ModelLifeCycle": {"Stage": "Development", "StageStatus": "PendingApproval", "StageDescription": "first"},
    }
    arn = register(**given)

    package = sagemaker.describe_model_package(ModelPackageName=arn)

    created = package.pop("CreationTime")
    creator = package.pop("CreatedBy")
    del package["ResponseMetadata"]
    assert package == given | {
        "ModelPackageGroupName": group,
        "ModelPackageVersion": 1,
        "ModelPackageArn": f"{ACCOUNT_ARN}:model-package/{group}/1",
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": "PendingManualApproval",
    }
    assert datetime.now(UTC) - created < timedelta(minutes=1)
    assert creator["IamIdentity"]["PrincipalId"]


def test_a_version_may_be_registered_as_approved(sagemaker, register):
    arn = register(ModelApprovalStatus="Approved")

    assert sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Approved"


def test_a_version_may_be_registered_by_the_groups_arn(register, group):
    arn = register(ModelPackageGroupName=f"{ACCOUNT_ARN}:model-package-group/{group}")

    assert arn == f"{ACCOUNT_ARN}:model-package/{group}/1"


def test_a_version_number_is_never_given_twice(sagemaker, register):
    first, second = register(), register()
    sagemaker.delete_model_package(ModelPackageName=second)

    third = register()

    assert [arn.rpartition("/")[2] for arn in (first, second, third)] == ["1", "2", "3"]


def test_versions_registered_at_once_get_numbers_of_their_own(register):
    arns: list[str] = []
    threads = [threading.Thread(target=lambda: arns.append(register())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(int(arn.rpartition("/")[2]) for arn in arns) == list(range(1, 21))


def test_the_same_client_token_registers_once(sagemaker, group, register):
    token = uuid.uuid4().hex

    assert register(ClientToken=token) == register(ClientToken=token)
    assert versions(sagemaker.list_model_packages(ModelPackageGroupName=group)) == [1]
    code, message = refused(lambda: register(ClientToken=token, ModelPackageDescription="another"))
    assert code == "ConflictException"
    assert token in message


def test_a_version_cloned_by_source_uri_has_the_sources_inference_specification(sagemaker, group, register):
    source = register(ModelApprovalStatus="Approved")
    clone = sagemaker.create_model_package(ModelPackageGroupName=group, SourceUri=source)["ModelPackageArn"]

    package = sagemaker.describe_model_package(ModelPackageName=clone)

    assert package["InferenceSpecification"] == SPECIFICATION
    assert package["SourceUri"] == source
    assert package["ModelApprovalStatus"] == "PendingManualApproval"


def test_versions_are_batch_described_and_each_failure_is_said_beside(sagemaker, group, register):
    found = register(ModelPackageDescription="first")
    missing = f"{ACCOUNT_ARN}:model-package/{group}/7"

    answer = sagemaker.batch_describe_model_package(ModelPackageArnList=[found, missing])

    summary = answer["ModelPackageSummaries"].pop(found)
    assert summary.pop("CreationTime")
    assert summary == {
        "ModelPackageGroupName": group,
        "ModelPackageVersion": 1,
        "ModelPackageArn": found,
        "ModelPackageDescription": "first",
        "InferenceSpecification": SPECIFICATION,
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": "PendingManualApproval",
    }
    assert answer["ModelPackageSummaries"] == {}
    assert answer["BatchDescribeModelPackageErrorMap"] == {
        missing: {"ErrorCode": "ValidationException", "ErrorResponse": f"ModelPackage {missing} does not exist."}
    }


# --- lists


def test_a_group_lists_its_versions_oldest_first_ten_at_a_time(sagemaker, group, register):
    for _ in range(12):
        register()

    first = sagemaker.list_model_packages(ModelPackageGroupName=group)
    second = sagemaker.list_model_packages(ModelPackageGroupName=group, NextToken=first["NextToken"])

    assert versions(first) == list(range(1, 11))
    assert versions(second) == [11, 12]
    assert "NextToken" not in second


def test_a_summary_says_what_aws_says_of_a_version(sagemaker, group, register):
    life_cycle = {"Stage": "Development", "StageStatus": "PendingApproval"}
    arn = register(ModelPackageDescription="d", ModelLifeCycle=life_cycle, ModelPackageRegistrationType="Logged")

    (summary,) = sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]

    assert summary.pop("CreationTime")
    assert summary == {
        "ModelPackageGroupName": group,
        "ModelPackageVersion": 1,
        "ModelPackageArn": arn,
        "ModelPackageDescription": "d",
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": "PendingManualApproval",
        "ModelLifeCycle": life_cycle,
        "ModelPackageRegistrationType": "Logged",
    }


def test_the_newest_approved_version_is_found_with_one_call(sagemaker, group, register):
    for status in ("Approved", "Approved", "Rejected", "PendingManualApproval"):
        register(ModelApprovalStatus=status)

    answer = sagemaker.list_model_packages(
        ModelPackageGroupName=group,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=1,
    )

    assert versions(answer) == [2]


@pytest.mark.parametrize("sort_by", ["CreationTime", "Name"])
def test_version_ten_comes_after_version_nine(sagemaker, group, register, sort_by):
    for _ in range(11):
        register()

    answer = sagemaker.list_model_packages(
        ModelPackageGroupName=group, SortBy=sort_by, SortOrder="Descending", MaxResults=3
    )

    assert versions(answer) == [11, 10, 9]


def test_versions_are_filtered_by_creation_time(sagemaker, group, register):
    arn = register()
    created = sagemaker.describe_model_package(ModelPackageName=arn)["CreationTime"]
    second = timedelta(seconds=1)  # clients send whole seconds

    def listed(**members: Any) -> list[int]:
        return versions(sagemaker.list_model_packages(ModelPackageGroupName=group, **members))

    assert listed(CreationTimeAfter=created - second, CreationTimeBefore=created + second) == [1]
    assert listed(CreationTimeAfter=created + second) == []
    assert listed(CreationTimeBefore=created - second) == []


def test_without_a_group_only_unversioned_packages_are_listed_unless_asked_for(aws):
    client = aws.client("sagemaker", account="111111111111")
    client.create_model_package_group(ModelPackageGroupName="group")
    version = client.create_model_package(ModelPackageGroupName="group", InferenceSpecification=SPECIFICATION)
    alone = client.create_model_package(ModelPackageName="alone", InferenceSpecification=SPECIFICATION)

    def listed(**members: Any) -> list[str]:
        answer = client.list_model_packages(**members)
        return [summary["ModelPackageArn"] for summary in answer["ModelPackageSummaryList"]]

    assert listed() == listed(ModelPackageType="Unversioned") == [alone["ModelPackageArn"]]
    assert listed(ModelPackageType="Versioned") == [version["ModelPackageArn"]]
    assert listed(ModelPackageType="Both") == [version["ModelPackageArn"], alone["ModelPackageArn"]]
    assert listed(ModelPackageType="Both", NameContains="lon") == [alone["ModelPackageArn"]]
    assert listed(ModelPackageGroupName="group") == [version["ModelPackageArn"]]
    assert listed(ModelPackageGroupName="group", ModelPackageType="Unversioned") == []


def test_deleting_what_a_page_answered_does_not_make_the_next_page_skip(sagemaker, group, register):
    for _ in range(7):
        register()

    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, PaginationConfig={"PageSize": 2}
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            sagemaker.delete_model_package(ModelPackageName=summary["ModelPackageArn"])

    assert versions(sagemaker.list_model_packages(ModelPackageGroupName=group)) == []


def test_a_version_registered_between_two_pages_repeats_none(sagemaker, group, register):
    for _ in range(4):
        register()
    newest_first = {"ModelPackageGroupName": group, "SortOrder": "Descending", "MaxResults": 2}

    first = sagemaker.list_model_packages(**newest_first)
    register()
    second = sagemaker.list_model_packages(**newest_first, NextToken=first["NextToken"])

    assert versions(first) + versions(second) == [4, 3, 2, 1]


def test_the_newest_of_ten_thousand_versions_is_listed_at_once():
    store = Store()
    registry = Registry(store, Tags(store), Events(lambda _scope, _event: None))
    call = Call(Scope("123456789012", "us-east-1"), "key")
    registry.create_model_package_group(call, {"ModelPackageGroupName": "many"})
    request = {"ModelPackageGroupName": "many", "InferenceSpecification": SPECIFICATION}
    for _ in range(10_000):
        registry.create_model_package(call, dict(request))

    newest = {"ModelPackageGroupName": "many", "SortOrder": "Descending", "MaxResults": 1}
    seconds = []  # of this thread's processor, whatever else the machine does
    for _ in range(5):
        started = time.thread_time()
        answer = registry.list_model_packages(call, newest)
        seconds.append(time.thread_time() - started)

    assert versions(answer) == [10_000]
    assert min(seconds) < 0.05


# --- updates


def test_an_update_changes_what_it_gives_and_nothing_else(sagemaker, register):
    arn = register(
        CustomerMetadataProperties={"commit": "abc"},
        ModelMetrics={"ModelQuality": {"Statistics": metric("quality")}},
    )
    before = sagemaker.describe_model_package(ModelPackageName=arn)

    sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="better than version 1"
    )

    after = sagemaker.describe_model_package(ModelPackageName=arn)
    assert after.pop("LastModifiedTime") >= before["CreationTime"]
    assert after.pop("LastModifiedBy") == before["CreatedBy"]
    del before["ResponseMetadata"], after["ResponseMetadata"]
    assert after == before | {
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "better than version 1",
    }


def test_metadata_properties_are_merged_and_removed_by_key(sagemaker, register):
    arn = register(CustomerMetadataProperties={"a": "1", "b": "2"}, ModelApprovalStatus="Approved")

    def properties(**members: Any) -> dict[str, str] | None:
        sagemaker.update_model_package(ModelPackageArn=arn, **members)
        package = sagemaker.describe_model_package(ModelPackageName=arn)
        assert package["ModelApprovalStatus"] == "Approved"
        return package.get("CustomerMetadataProperties")

    assert properties(CustomerMetadataProperties={"b": "3", "c": "4"}) == {"a": "1", "b": "3", "c": "4"}
    assert properties(CustomerMetadataPropertiesToRemove=["a", "absent"]) == {"b": "3", "c": "4"}
    assert properties(CustomerMetadataPropertiesToRemove=["b", "c"]) is None


def test_a_version_has_at_most_fifty_metadata_properties(sagemaker, register):
    arn = register(CustomerMetadataProperties={f"key-{number}": "v" for number in range(50)})

    code, message = refused(
        lambda: sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties={"one-more": "v"})
    )

    assert code == "ValidationException"
    assert "would have 51 CustomerMetadataProperties" in message
    sagemaker.update_model_package(
        ModelPackageArn=arn,
        CustomerMetadataProperties={"one-more": "v"},
        CustomerMetadataPropertiesToRemove=["key-0"],
    )


def test_additional_specifications_are_added_to_those_there(sagemaker, register):
    def specification(name: str) -> dict[str, Any]:
        return {"Name": name, "Containers": [{"Image": IMAGE}]}

    arn = register(AdditionalInferenceSpecifications=[specification("first")])
    sagemaker.update_model_package(
        ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=[specification("second")]
    )

    package = sagemaker.describe_model_package(ModelPackageName=arn)
    assert [each["Name"] for each in package["AdditionalInferenceSpecifications"]] == ["first", "second"]
    assert (
        "unique names"
        in refused(
            lambda: sagemaker.update_model_package(
                ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=[specification("first")]
            )
        )[1]
    )
    fourteen = [specification(f"more-{number}") for number in range(14)]
    assert (
        "would have 16"
        in refused(
            lambda: sagemaker.update_model_package(ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=fourteen)
        )[1]
    )


def test_source_uri_life_cycle_card_and_specification_can_be_given_later(sagemaker, group):
    arn = sagemaker.create_model_package(
        ModelPackageGroupName=group, ModelCard={"ModelCardContent": "{}", "ModelCardStatus": "Draft"}
    )["ModelPackageArn"]
    life_cycle = {"Stage": "Production", "StageStatus": "Approved"}

    sagemaker.update_model_package(ModelPackageArn=arn, InferenceSpecification=SPECIFICATION)
    sagemaker.update_model_package(ModelPackageArn=arn, SourceUri="https://example.org/model")
    sagemaker.update_model_package(ModelPackageArn=arn, ModelLifeCycle=life_cycle)
    sagemaker.update_model_package(ModelPackageArn=arn, ModelCard={"ModelCardStatus": "Approved"})

    package = sagemaker.describe_model_package(ModelPackageName=arn)
    assert package["InferenceSpecification"] == SPECIFICATION
    assert package["SourceUri"] == "https://example.org/model"
    assert package["ModelLifeCycle"] == life_cycle
    assert package["ModelCard"] == {"ModelCardContent": "{}", "ModelCardStatus": "Approved"}


CARD: dict[str, Any] = {
    "model_overview": {"model_creator": "ada", "model_artifact": ["s3://models/model.tar.gz"]},
    "intended_uses": {"purpose_of_model": "churn", "risk_rating": "Low"},
    "training_details": {
        "objective_function": {"function": {"function": "Maximize"}},
        "training_job_details": {
            "training_metrics": [{"name": "auc", "value": 0.9}],
            "hyper_parameters": [{"name": "eta", "value": "0.3"}],
        },
    },
    "evaluation_details": [
        {
            "name": "test",
            "metric_groups": [
                {"name": "all", "metric_data": [{"name": "auc", "type": "number", "value": 0.9, "notes": "high"}]}
            ],
        }
    ],
    "additional_information": {"caveats_and_recommendations": "none", "custom_details": {"commit": "0" * 40}},
}


def with_card(card: Any, status: str = "Draft") -> dict[str, Any]:
    text = card if isinstance(card, str) else json.dumps(card)
    return {"ModelCardContent": text, "ModelCardStatus": status}


def test_a_model_card_is_kept_as_it_was_given(sagemaker, register):
    long = CARD | {"evaluation_details": CARD["evaluation_details"] * 700}
    assert 90_000 < len(json.dumps(long)) < 100_000
    for card in (CARD, long):
        arn = register(ModelCard=with_card(card))
        described = sagemaker.describe_model_package(ModelPackageName=arn)["ModelCard"]
        assert described == with_card(card)


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("{", "ModelCard.ModelCardContent is not JSON"),
        ("[]", "the content must be an object"),
        ({"model_package_details": {}}, "the content may not have 'model_package_details'; it may have model_overview"),
        ({"model_overview": {"model_description": "x"}}, "model_overview may not have 'model_description'"),
        ({"intended_uses": {"risk_rating": "low"}}, "intended_uses.risk_rating must be one of High, Medium, Low"),
        ({"intended_uses": {"purpose_of_model": "x" * 2049}}, "has 2049 characters, 2048 are allowed"),
        ({"business_details": {"business_problem": 1}}, "business_details.business_problem must be a text"),
        ({"evaluation_details": {}}, "evaluation_details must be a list"),
        ({"evaluation_details": [{"name": "a"}, {}]}, "evaluation_details[1] lacks 'name'"),
        (
            {"evaluation_details": [{"name": "a", "metric_groups": [{"name": "b", "metric_data": [{"name": "c"}]}]}]},
            "evaluation_details[0].metric_groups[0].metric_data[0] lacks 'type'",
        ),
        (
            {"training_details": {"training_job_details": {"training_metrics": [{"name": "a", "value": "1"}]}}},
            "training_details.training_job_details.training_metrics[0].value must be a number",
        ),
    ],
)
def test_what_is_no_model_card_is_refused_at_creation_and_update(sagemaker, register, card, said):
    code, message = refused(lambda: register(ModelCard=with_card(card)))
    assert (code, said in message) == ("ValidationException", True), message

    arn = register()
    code, message = refused(lambda: sagemaker.update_model_package(ModelPackageArn=arn, ModelCard=with_card(card)))
    assert (code, said in message) == ("ValidationException", True), message


def test_the_content_of_an_archived_card_does_not_change_any_more(sagemaker, register):
    arn = register(ModelCard=with_card(CARD, "Archived"))

    code, message = refused(lambda: sagemaker.update_model_package(ModelPackageArn=arn, ModelCard=with_card("{}")))

    assert (code, message) == ("ValidationException", "Model Card is in Archived state")
    sagemaker.update_model_package(ModelPackageArn=arn, ModelCard={"ModelCardStatus": "Draft"})
    sagemaker.update_model_package(ModelPackageArn=arn, ModelCard=with_card("{}"))


def test_an_update_sent_twice_does_not_undo_what_came_between(sagemaker, register):
    arn = register()
    approve = {"ModelPackageArn": arn, "ModelApprovalStatus": "Approved", "ClientToken": uuid.uuid4().hex}

    sagemaker.update_model_package(**approve)
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")
    assert sagemaker.update_model_package(**approve)["ModelPackageArn"] == arn

    assert sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Rejected"


def test_updates_at_once_lose_none_of_each_other(sagemaker, register):
    arn = register()

    def update(number: int) -> None:
        sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties={f"key-{number}": "v"})

    threads = [threading.Thread(target=update, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    package = sagemaker.describe_model_package(ModelPackageName=arn)
    assert set(package["CustomerMetadataProperties"]) == {f"key-{number}" for number in range(20)}


# --- packages without a group


def test_an_unversioned_package_has_a_name_and_tags_and_no_approval(sagemaker):
    name = f"alone-{uuid.uuid4().hex[:8]}"
    tags = [{"Key": "team", "Value": "a"}]
    arn = sagemaker.create_model_package(
        ModelPackageName=name, InferenceSpecification=SPECIFICATION, Tags=tags, CertifyForMarketplace=False
    )["ModelPackageArn"]

    package = sagemaker.describe_model_package(ModelPackageName=name)

    assert arn == package["ModelPackageArn"] == f"{ACCOUNT_ARN}:model-package/{name}"
    assert package["ModelPackageName"] == name
    assert not {"ModelApprovalStatus", "ModelPackageGroupName", "ModelPackageVersion"} & set(package)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    sagemaker.delete_model_package(ModelPackageName=arn)
    assert "does not exist" in refused(lambda: sagemaker.describe_model_package(ModelPackageName=name))[1]


# --- errors

# (operation, request, error code, a part of the message); {group} is an empty group, {version} the ARN of a version in
# another, {alone} the ARN of an unversioned package.
ERRORS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "create_model_package_group",
        {"ModelPackageGroupName": "{group}"},
        "ValidationException",
        "Model Package Group already exists: {arn}:model-package-group/{group}",
    ),
    (
        "create_model_package_group",
        {"ModelPackageGroupName": "ends-with-"},
        "ValidationException",
        "'modelPackageGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern",
    ),
    (
        "create_model_package_group",
        {"ModelPackageGroupName": "a" * 64},
        "ValidationException",
        "Member must have length less than or equal to 63",
    ),
    (
        "create_model_package_group",
        {"ModelPackageGroupName": "restricted", "ManagedConfiguration": {"ManagedStorageType": "Restricted"}},
        "ValidationException",
        "does not support ManagedConfiguration",
    ),
    (
        "describe_model_package_group",
        {"ModelPackageGroupName": "absent"},
        "ValidationException",
        "ModelPackageGroup {arn}:model-package-group/absent does not exist.",
    ),
    (
        "describe_model_package_group",
        {"ModelPackageGroupName": "arn:aws:sagemaker:us-east-1:210987654321:model-package-group/{group}"},
        "ValidationException",
        "ModelPackageGroup arn:aws:sagemaker:us-east-1:210987654321:model-package-group/{group} does not exist.",
    ),
    (
        "describe_model_package_group",
        {"ModelPackageGroupName": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/{group}"},
        "ValidationException",
        "Invalid ARN",
    ),
    (
        "list_model_package_groups",
        {"MaxResults": 101},
        "ValidationException",
        "'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100",
    ),
    ("list_model_package_groups", {"NextToken": "no token"}, "ValidationException", "Invalid NextToken"),
    (
        "delete_model_package_group",
        {"ModelPackageGroupName": "absent"},
        "ValidationException",
        "does not exist.",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "absent", "InferenceSpecification": SPECIFICATION},
        "ValidationException",
        "ModelPackageGroup {arn}:model-package-group/absent does not exist.",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "ModelPackageName": "both", "InferenceSpecification": SPECIFICATION},
        "ValidationException",
        "Both ModelPackageName and ModelPackageGroupName are provided in the input.",
    ),
    ("create_model_package", {"InferenceSpecification": SPECIFICATION}, "ValidationException", "Missing ARN."),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "Tags": [{"Key": "a", "Value": "b"}]},
        "ValidationException",
        "Tags cannot be given with ModelPackageGroupName",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "CertifyForMarketplace": True},
        "ValidationException",
        "CertifyForMarketplace does not apply to versioned model packages",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "SourceUri": "s3://a/b", "InferenceSpecification": SPECIFICATION},
        "ValidationException",
        "SourceUri and InferenceSpecification cannot be given together",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "SourceUri": "arn:aws:sagemaker:us-east-1:123456789012:model/absent"},
        "ValidationException",
        "Model arn:aws:sagemaker:us-east-1:123456789012:model/absent does not exist.",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "SourceUri": "{arn}:model-package/absent/1"},
        "ValidationException",
        "ModelPackage {arn}:model-package/absent/1 does not exist.",
    ),
    (
        "create_model_package",
        {
            "ModelPackageGroupName": "{group}",
            "InferenceSpecification": {
                "Containers": [
                    {
                        "Image": IMAGE,
                        "AdditionalS3DataSource": {"S3DataType": "S3Object", "S3Uri": "s3://a/b"},
                    }
                ]
            },
        },
        "ValidationException",
        "AdditionalS3DataSource is not allowed in InferenceSpecification",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "CustomerMetadataProperties": {"metrics": '{"auc": 0.9}'}},
        "ValidationException",
        "'customerMetadataProperties.metrics' failed to satisfy constraint: Member must satisfy regular expression",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "CustomerMetadataProperties": {"a,b": "c"}},
        "ValidationException",
        "'customerMetadataProperties (key)' failed to satisfy constraint: Member must satisfy regular expression",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "CustomerMetadataProperties": {"a": "b" * 257}},
        "ValidationException",
        "Member must have length less than or equal to 256",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "CustomerMetadataProperties": {str(key): "v" for key in range(51)}},
        "ValidationException",
        "'customerMetadataProperties' failed to satisfy constraint: Member must have length less than or equal to 50",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "ModelApprovalStatus": "Perhaps"},
        "ValidationException",
        "Member must satisfy enum value set: [Approved, Rejected, PendingManualApproval]",
    ),
    (
        "create_model_package",
        {
            "ModelPackageGroupName": "{group}",
            "SourceAlgorithmSpecification": {"SourceAlgorithms": [{"AlgorithmName": "algorithm"}]},
        },
        "ValidationException",
        "does not support SourceAlgorithmSpecification",
    ),
    (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "ManagedStorageType": "Restricted"},
        "ValidationException",
        "does not support ManagedStorageType",
    ),
    (
        "create_model_package",
        {
            "ModelPackageGroupName": "{group}",
            "ValidationSpecification": {
                "ValidationRole": "arn:aws:iam::123456789012:role/validate",
                "ValidationProfiles": [],
            },
        },
        "ValidationException",
        "does not support ValidationSpecification",
    ),
    (
        "create_model_package",
        {
            "ModelPackageGroupName": "{group}",
            "AdditionalInferenceSpecifications": [{"Name": "same", "Containers": [{"Image": IMAGE}]}] * 2,
        },
        "ValidationException",
        "unique names; same is there twice",
    ),
    (
        "create_model_package",
        {"ModelPackageName": "alone", "InferenceSpecification": SPECIFICATION, "ModelApprovalStatus": "Approved"},
        "ValidationException",
        "ModelApprovalStatus does not apply to unversioned model packages",
    ),
    (
        "create_model_package",
        {"ModelPackageName": "alone"},
        "ValidationException",
        "An unversioned model package needs InferenceSpecification.",
    ),
    (
        "create_model_package",
        {"ModelPackageName": "{alone_name}", "InferenceSpecification": SPECIFICATION},
        "ConflictException",
        "Model Package already exists: {alone_name}",
    ),
    (
        "describe_model_package",
        {"ModelPackageName": "{group}"},
        "ValidationException",
        "ModelPackage {arn}:model-package/{group} does not exist.",
    ),
    (
        "describe_model_package",
        {"ModelPackageName": "{arn}:model-package/{group}/1"},
        "ValidationException",
        "ModelPackage {arn}:model-package/{group}/1 does not exist.",
    ),
    (
        "describe_model_package",
        {"ModelPackageName": "{arn}:model-package-group/{group}"},
        "ValidationException",
        "Invalid ARN {arn}:model-package-group/{group}: give one of the form {arn}:model-package/NAME.",
    ),
    (
        "describe_model_package",
        {"ModelPackageName": "{version}", "IncludedData": "MetadataOnly"},
        "ValidationException",
        "does not support IncludedData MetadataOnly",
    ),
    (
        "batch_describe_model_package",
        {"ModelPackageArnList": ["no-arn"]},
        "ValidationException",
        "'modelPackageArnList.1.member' failed to satisfy constraint",
    ),
    (
        "list_model_packages",
        {"ModelPackageGroupName": "absent"},
        "ValidationException",
        "ModelPackageGroup {arn}:model-package-group/absent does not exist.",
    ),
    (
        "list_model_packages",
        {"ModelPackageType": "Neither"},
        "ValidationException",
        "Member must satisfy enum value set: [Versioned, Unversioned, Both]",
    ),
    ("list_model_packages", {"NextToken": "e30="}, "ValidationException", "Invalid NextToken"),
    (
        "update_model_package",
        {"ModelPackageArn": "{arn}:model-package/{group}/1", "ModelApprovalStatus": "Approved"},
        "ValidationException",
        "ModelPackage {arn}:model-package/{group}/1 does not exist.",
    ),
    (
        "update_model_package",
        {"ModelPackageArn": "{alone}", "ApprovalDescription": "good"},
        "ValidationException",
        "ModelPackage {alone} is unversioned; give the ARN of a version of a group.",
    ),
    (
        "update_model_package",
        {"ModelPackageArn": "{version}", "SourceUri": "s3://a/b", "InferenceSpecification": SPECIFICATION},
        "ValidationException",
        "SourceUri and InferenceSpecification cannot be given together",
    ),
    (
        "update_model_package",
        {"ModelPackageArn": "{version}", "ApprovalDescription": "two\nlines"},
        "ValidationException",
        "'approvalDescription' failed to satisfy constraint",
    ),
    (
        "delete_model_package",
        {"ModelPackageName": "{group}"},
        "ValidationException",
        "ModelPackage {arn}:model-package/{group} does not exist.",
    ),
    (
        "delete_model_package",
        {"ModelPackageName": "{arn}:model-package/{group}/1"},
        "ValidationException",
        "ModelPackage {arn}:model-package/{group}/1 does not exist.",
    ),
]


def fill(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in value.items()}
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
    return value


@pytest.fixture(scope="module")
def unchecked(aws: LocalAWS) -> Any:
    """A client that sends what boto3's own checks would refuse, as clients in other languages do."""
    return boto3.client(
        "sagemaker",
        endpoint_url=aws.endpoint,
        region_name="us-east-1",
        aws_access_key_id="123456789012",
        aws_secret_access_key="local",
        config=Config(parameter_validation=False, retries={"max_attempts": 1}, proxies={}),
    )


@pytest.fixture(scope="module")
def names(aws: LocalAWS) -> dict[str, str]:
    client = aws.client("sagemaker")
    suffix = uuid.uuid4().hex[:8]
    names = {"arn": ACCOUNT_ARN, "group": f"empty-{suffix}", "alone_name": f"alone-{suffix}"}
    for group in (names["group"], f"other-{suffix}"):
        client.create_model_package_group(ModelPackageGroupName=group)
    names["version"] = client.create_model_package(ModelPackageGroupName=f"other-{suffix}")["ModelPackageArn"]
    names["alone"] = client.create_model_package(
        ModelPackageName=names["alone_name"], InferenceSpecification=SPECIFICATION
    )["ModelPackageArn"]
    return names


@pytest.mark.parametrize(
    ("operation", "request_", "code", "message"),
    ERRORS,
    ids=[f"{operation}-{message[:50]}" for operation, _, _, message in ERRORS],
)
def test_a_bad_request_is_refused_with_its_reason(unchecked, names, operation, request_, code, message):
    answered_code, answered_message = refused(lambda: getattr(unchecked, operation)(**fill(request_, names)))

    assert answered_code == code
    assert fill(message, names) in answered_message


def test_no_refused_request_left_a_version_behind(unchecked, names):
    assert versions(unchecked.list_model_packages(ModelPackageGroupName=names["group"])) == []
