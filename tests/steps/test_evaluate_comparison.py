"""Which version serves now: AWS's answers, written down, through botocore's Stubber."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from comparison import ComparisonError, NotThere, Serving, download, find_serving

ARN = "arn:aws:sagemaker:eu-central-1:123456789012"
DAY = datetime(2026, 11, 1, tzinfo=UTC)
CREDENTIALS: dict[str, Any] = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-central-1"}


def package(number: int, group: str = "demo-prod", **more: Any) -> dict[str, Any]:
    container = {"Image": "image", "ModelDataUrl": f"s3://bucket/{group}/{number}/model.tar.gz"}
    return {
        "ModelPackageName": group,
        "ModelPackageGroupName": group,
        "ModelPackageArn": f"{ARN}:model-package/{group}/{number}",
        "CreationTime": DAY,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "InferenceSpecification": {"Containers": [container], "SupportedContentTypes": ["text/csv"]},
    } | more


class Answers:
    """What SageMaker answers, in order."""

    def __init__(self) -> None:
        self.client = boto3.client("sagemaker", **CREDENTIALS)
        self.stub = Stubber(self.client)

    def endpoint(self, status: str = "InService", name: str = "demo-prod") -> Answers:
        answer = {"EndpointName": name, "EndpointArn": f"{ARN}:endpoint/{name}", "EndpointConfigName": f"{name}-7"}
        times = {"CreationTime": DAY, "LastModifiedTime": DAY}
        self.stub.add_response(
            "describe_endpoint", {**answer, "EndpointStatus": status, **times}, {"EndpointName": name}
        )
        return self

    def config(self, *variants: tuple[str, float], name: str = "demo-prod") -> Answers:
        listed = [
            {"VariantName": model, "ModelName": model, "InitialVariantWeight": weight} for model, weight in variants
        ]
        arn = f"{ARN}:endpoint-config/{name}-7"
        answer = {"EndpointConfigName": f"{name}-7", "EndpointConfigArn": arn, "ProductionVariants": listed}
        self.stub.add_response(
            "describe_endpoint_config", {**answer, "CreationTime": DAY}, {"EndpointConfigName": f"{name}-7"}
        )
        return self

    def model(self, name: str, **fields: Any) -> Answers:
        answer = {"ModelName": name, "ModelArn": f"{ARN}:model/{name}", "CreationTime": DAY, **fields}
        self.stub.add_response("describe_model", answer, {"ModelName": name})
        return self

    def described(self, number: int, **more: Any) -> Answers:
        answer = package(number, **more)
        self.stub.add_response("describe_model_package", answer, {"ModelPackageName": answer["ModelPackageArn"]})
        return self

    def listed(self, *numbers: int, group: str = "demo-prod", token: str | None = None, last: bool = True) -> Answers:
        fields = ("ModelPackageName", "ModelPackageGroupName", "ModelPackageArn", "CreationTime", "ModelPackageStatus")
        summaries = [{name: package(number, group)[name] for name in fields} for number in numbers]
        request = {"ModelPackageGroupName": group, "ModelApprovalStatus": "Approved", "MaxResults": 100}
        self.stub.add_response(
            "list_model_packages",
            {"ModelPackageSummaryList": summaries} | ({} if last else {"NextToken": "more"}),
            request | ({"NextToken": token} if token else {}),
        )
        return self

    def error(self, operation: str, code: str, message: str) -> Answers:
        self.stub.add_client_error(operation, code, message)
        return self

    def no_endpoint(self) -> Answers:
        return self.error("describe_endpoint", "ValidationException", 'Could not find endpoint "arn:aws:..."')


@pytest.fixture
def aws() -> Iterator[Answers]:
    answers = Answers()
    with answers.stub:
        yield answers
    answers.stub.assert_no_pending_responses()


def test_the_version_that_the_endpoint_runs(aws: Answers) -> None:
    model = {"PrimaryContainer": {"ModelPackageName": f"{ARN}:model-package/demo-prod/3"}}
    aws.endpoint().config(("m", 1.0)).model("m", **model).described(3)
    assert find_serving(aws.client, "demo", ["prod", "dev"]) == Serving(
        "prod", f"{ARN}:model-package/demo-prod/3", "endpoint demo-prod", "s3://bucket/demo-prod/3/model.tar.gz"
    )


def test_the_variant_with_the_most_traffic_counts(aws: Answers) -> None:
    model = {"Containers": [{"ModelPackageName": f"{ARN}:model-package/demo-prod/2"}]}
    aws.endpoint("Updating").config(("small", 0.1), ("large", 0.9)).model("large", **model).described(2)
    serving = find_serving(aws.client, "demo", ["prod"])
    assert serving is not None
    assert serving.version.endswith("/2")


def test_without_an_endpoint_the_version_approved_last_counts_over_all_pages(aws: Answers) -> None:
    later, latest = DAY.replace(day=5), DAY.replace(day=9)
    aws.no_endpoint().listed(4, 3, last=False)
    aws.described(4, LastModifiedTime=later).described(3, LastModifiedTime=latest)
    aws.listed(1, token="more").described(1).described(3)
    serving = find_serving(aws.client, "demo", ["prod"])
    assert serving is not None
    assert serving.version.endswith("demo-prod/3")
    assert serving.found == "approved last in group demo-prod"


@pytest.mark.parametrize("status", ["Creating", "Failed", "OutOfService", "Deleting"])
def test_an_endpoint_that_does_not_serve_does_not_count(aws: Answers, status: str) -> None:
    aws.endpoint(status).listed()
    assert find_serving(aws.client, "demo", ["prod"]) is None


def test_the_next_stage_counts_when_the_first_has_none(aws: Answers) -> None:
    aws.no_endpoint().error("list_model_packages", "ValidationException", "Model Package Group does not exist.")
    aws.no_endpoint().listed(1, group="demo-dev").described(1, group="demo-dev").described(1, group="demo-dev")
    serving = find_serving(aws.client, "demo", ["prod", "dev"])
    assert serving is not None
    assert (serving.stage, serving.version) == ("dev", f"{ARN}:model-package/demo-dev/1")


def test_nothing_serves(aws: Answers) -> None:
    aws.no_endpoint().listed().no_endpoint().listed(group="demo-dev")
    assert find_serving(aws.client, "demo", ["prod", "dev"]) is None


@pytest.mark.parametrize("code", ["AccessDeniedException", "AccessDenied"])
def test_a_missing_permission_never_passes_for_nothing(aws: Answers, code: str) -> None:
    aws.error("describe_endpoint", code, "User is not authorized")
    with pytest.raises(
        ComparisonError, match=r"may not sagemaker:DescribeEndpoint on demo-prod.*give it the permission"
    ):
        find_serving(aws.client, "demo", ["prod", "dev"])


def test_a_missing_permission_to_list_is_said(aws: Answers) -> None:
    aws.no_endpoint().error("list_model_packages", "AccessDeniedException", "no")
    with pytest.raises(ComparisonError, match=r"may not sagemaker:ListModelPackages on demo-prod"):
        find_serving(aws.client, "demo", ["prod"])


def test_a_failing_service_never_passes_for_nothing(aws: Answers) -> None:
    aws.error("describe_endpoint", "ThrottlingException", "Rate exceeded")
    with pytest.raises(ComparisonError, match="DescribeEndpoint on demo-prod failed"):
        find_serving(aws.client, "demo", ["prod"])


def test_a_model_that_comes_from_no_model_package(aws: Answers) -> None:
    aws.endpoint().config(("m", 1.0)).model("m", PrimaryContainer={"ModelDataUrl": "s3://bucket/own/model.tar.gz"})
    serving = find_serving(aws.client, "demo", ["prod"])
    assert serving == Serving("prod", f"{ARN}:model/m", "endpoint demo-prod", "s3://bucket/own/model.tar.gz")


def test_model_data_in_the_newer_field(aws: Answers) -> None:
    source = {"S3Uri": "s3://b/m.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"}
    specification = {"Containers": [{"Image": "image", "ModelDataSource": {"S3DataSource": source}}]}
    changed = {"InferenceSpecification": specification}
    aws.no_endpoint().listed(1).described(1, **changed).described(1, **changed)
    serving = find_serving(aws.client, "demo", ["prod"])
    assert serving is not None
    assert serving.model_data == "s3://b/m.tar.gz"


def test_what_serves_but_is_gone_is_said(aws: Answers) -> None:
    model = {"PrimaryContainer": {"ModelPackageName": f"{ARN}:model-package/demo-prod/3"}}
    aws.endpoint().config(("m", 1.0)).model("m", **model)
    aws.error("describe_model_package", "ValidationException", "ModelPackage arn:... does not exist.")
    serving = find_serving(aws.client, "demo", ["prod"])
    assert serving is not None
    assert serving.model_data is None
    assert serving.reason is not None
    assert "demo-prod/3 is there no more" in serving.reason


def test_the_archive_comes_from_s3(tmp_path: Path) -> None:
    client = boto3.client("s3", **CREDENTIALS)
    with Stubber(client) as stub:
        stub.add_client_error("head_object", "404", "Not Found")
        with pytest.raises(NotThere, match=r"s3://bucket/a/model.tar.gz is not there"):
            download(client, "s3://bucket/a/model.tar.gz", tmp_path / "m")
    with Stubber(client) as stub:
        stub.add_client_error("head_object", "403", "Forbidden", expected_params={"Bucket": "bucket", "Key": ANY})
        with pytest.raises(ComparisonError, match=r"may not s3:GetObject on s3://bucket/a/model.tar.gz"):
            download(client, "s3://bucket/a/model.tar.gz", tmp_path / "m")
