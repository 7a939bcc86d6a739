"""Models: which containers they stand for, and what CreateModel refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.hosting import ContainerSpec
from tests.local_aws.endpoint_fakes import IMAGE, ROLE, SCOPE, Stand
from tests.local_aws.job_requests import Workshop

CONTAINER = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz"}


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    yield stand
    stand.close()


def refused(stand: Stand, **members: Any) -> str:
    request = {"ModelName": "churn", "ExecutionRoleArn": ROLE, "PrimaryContainer": CONTAINER} | members
    return stand.refused("CreateModel", **{name: value for name, value in request.items() if value is not None})


def register(stand: Stand, container: dict[str, Any] | None = None) -> str:
    """A version in the registry; its ARN."""
    stand.call("CreateModelPackageGroup", ModelPackageGroupName="churn-prod")
    specification = {
        "Containers": [container or CONTAINER],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    package = {"ModelPackageGroupName": "churn-prod", "InferenceSpecification": specification}
    return stand.call("CreateModelPackage", **package)["ModelPackageArn"]


def test_a_model_is_described_as_it_was_asked_for(stand):
    stand.call(
        "CreateModel",
        ModelName="Churn-1",
        PrimaryContainer=CONTAINER | {"Environment": {"A": "1"}},
        ExecutionRoleArn=ROLE,
        VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    )

    described = stand.call("DescribeModel", ModelName="churn-1")
    assert described.pop("CreationTime") > 0
    assert described == {
        "ModelName": "Churn-1",
        "ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/churn-1",
        "PrimaryContainer": CONTAINER | {"Environment": {"A": "1"}},
        "ExecutionRoleArn": ROLE,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": False,
    }


@pytest.mark.parametrize(
    "container",
    [
        {"ModelDataUrl": "s3://bucket/model.tar.gz"},
        {
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": "s3://bucket/model.tar.gz",
                    "S3DataType": "S3Object",
                    "CompressionType": "Gzip",
                }
            }
        },
    ],
)
def test_an_archive_can_be_given_in_two_ways(stand, container):
    model = {"Containers": [{"Image": IMAGE, "Environment": {"A": "1"}} | container]}
    stand.call("CreateModel", ModelName="churn", ExecutionRoleArn=ROLE, **model)

    wanted = ContainerSpec(IMAGE, "s3://bucket/model.tar.gz", {"A": "1"}, role=ROLE)
    assert stand.models.containers(SCOPE, "churn") == [wanted]


def test_a_model_package_says_image_archive_and_environment_which_the_model_can_add_to(stand):
    arn = register(stand, CONTAINER | {"Environment": {"SAGEMAKER_PROGRAM": "inference.py", "LEVEL": "INFO"}})
    container = {"ModelPackageName": arn, "Environment": {"LEVEL": "DEBUG"}}
    stand.call("CreateModel", ModelName="churn", Containers=[container], ExecutionRoleArn=ROLE)

    environment = {"SAGEMAKER_PROGRAM": "inference.py", "LEVEL": "DEBUG"}
    wanted = ContainerSpec(IMAGE, "s3://bucket/model.tar.gz", environment, role=ROLE)
    assert stand.models.containers(SCOPE, "churn") == [wanted]
    assert stand.call("DescribeModel", ModelName="churn")["Containers"] == [container]
    stand.call("DeleteModelPackage", ModelPackageName=arn)
    assert stand.models.containers(SCOPE, "churn") == [wanted]  # the model has what it needs


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"PrimaryContainer": None}, "You must provide a container"),
        ({"Containers": [CONTAINER]}, "PrimaryContainer and Containers cannot be given together"),
        ({"PrimaryContainer": None, "Containers": [CONTAINER] * 2}, "serves one container per model"),
        ({"ExecutionRoleArn": None}, "ExecutionRoleArn is missing"),
        ({"ExecutionRoleArn": f"{ROLE}-other"}, "Could not assume role"),
        ({"PrimaryContainer": {"ModelDataUrl": "s3://bucket/a"}}, "needs Image, or ModelPackageName"),
        (
            {"PrimaryContainer": CONTAINER | {"ModelDataUrl": "s3://bucket/missing.tar.gz"}},
            "Could not find model data at s3://bucket/missing.tar.gz.",
        ),
        ({"PrimaryContainer": CONTAINER | {"Mode": "MultiModel"}}, "multi-model endpoints are not built"),
        (
            {"PrimaryContainer": CONTAINER | {"ModelPackageName": "churn"}},
            "Image, ModelDataUrl cannot be given with ModelPackageName",
        ),
        ({"PrimaryContainer": {"ModelPackageName": "churn"}}, "model-package/churn does not exist"),
        ({"PrimaryContainer": CONTAINER | {"ImageConfig": {"RepositoryAccessMode": "Vpc"}}}, "ImageConfig"),
        ({"PrimaryContainer": CONTAINER | {"ModelDataSource": {}}}, "ModelDataUrl and ModelDataSource cannot"),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataSource": {}}}, "S3DataType S3Object"),
        ({"InferenceExecutionConfig": {"Mode": "Serial"}}, "InferenceExecutionConfig"),
    ],
)
def test_a_model_that_cannot_be(stand, members, message):
    assert message in refused(stand, **members)
    assert stand.call("ListModels")["Models"] == []


def test_names_differ_by_more_than_case(stand):
    stand.model("churn")

    assert refused(stand, ModelName="Churn") == (
        'ValidationException: Cannot create already existing model "arn:aws:sagemaker:us-east-1:123456789012'
        ':model/churn".'
    )


def test_what_is_not_there_is_said_in_aws_s_words(stand):
    for operation in ("DescribeModel", "DeleteModel"):
        assert stand.refused(operation, ModelName="churn") == (
            'ValidationException: Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/churn".'
        )


def test_a_deleted_model_is_gone_with_its_tags(stand):
    stand.model("churn", Tags=[{"Key": "modelyard:project", "Value": "churn"}])
    arn = stand.call("DescribeModel", ModelName="churn")["ModelArn"]
    assert stand.call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "modelyard:project", "Value": "churn"}]

    stand.call("DeleteModel", ModelName="churn")

    assert "Could not find model" in stand.refused("DescribeModel", ModelName="churn")
    assert "ResourceNotFound" in stand.refused("ListTags", ResourceArn=arn)


def test_models_are_listed_newest_first_by_part_of_their_name(stand):
    for name in ("churn-1", "other", "churn-2"):
        stand.model(name)
        time.sleep(0.002)  # time stamps are in milliseconds

    def names(**request: Any) -> list[str]:
        return [model["ModelName"] for model in stand.call("ListModels", **request)["Models"]]

    assert names() == ["churn-2", "other", "churn-1"]
    assert names(NameContains="churn", SortBy="Name", SortOrder="Ascending") == ["churn-1", "churn-2"]
    newest = stand.call("DescribeModel", ModelName="churn-2")["CreationTime"]
    assert names(CreationTimeAfter=newest) == []


def test_the_role_and_the_archive_are_looked_up_for_any_client(aws):
    workshop = Workshop(aws)
    container = {"Image": IMAGE, "ModelDataUrl": workshop.put("model.tar.gz", b"an archive")}
    name = workshop.bucket
    create: dict[str, Any] = {"ModelName": name, "PrimaryContainer": container, "ExecutionRoleArn": workshop.role}

    workshop.sagemaker.create_model(**create)

    assert workshop.sagemaker.describe_model(ModelName=name)["PrimaryContainer"] == container
    faults: list[tuple[dict[str, Any], str]] = [
        ({"ExecutionRoleArn": "arn:aws:iam::123456789012:role/nobody"}, "Could not assume role"),
        ({"PrimaryContainer": container | {"ModelDataUrl": workshop.uri("other.tar.gz")}}, "Could not find model data"),
        ({"PrimaryContainer": container | {"ModelDataUrl": "s3://no-such-bucket/a"}}, "Could not find model data"),
    ]
    for fault, message in faults:
        with pytest.raises(ClientError, match=message):
            workshop.sagemaker.create_model(**create | {"ModelName": f"{name}-2"} | fault)
    workshop.sagemaker.delete_model(ModelName=name)


def test_a_model_is_not_registered_by_its_arn_and_that_is_said(stand):
    stand.model("churn-1")
    arn = stand.call("DescribeModel", ModelName="churn-1")["ModelArn"]
    stand.call("CreateModelPackageGroup", ModelPackageGroupName="churn-prod")

    said = stand.refused("CreateModelPackage", ModelPackageGroupName="churn-prod", SourceUri=arn)
    assert "local_aws does not register a model by its ARN. Give InferenceSpecification" in said
    absent = stand.refused("CreateModelPackage", ModelPackageGroupName="churn-prod", SourceUri=f"{arn}-absent")
    assert f"Model {arn}-absent does not exist." in absent
