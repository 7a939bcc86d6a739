"""Two accounts, and two Regions of one account, do not see each other's things; a restart keeps them apart."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS

OWNER: dict[str, Any] = {"account": "333333333333", "region": "us-east-1"}
OTHERS = [{"account": "444444444444", "region": "us-east-1"}, {"account": "333333333333", "region": "eu-central-1"}]
SPECIFICATION = {"Containers": [{"Image": "image", "ModelDataUrl": "s3://models/model.tar.gz"}]}


def group_arn(account: str, region: str) -> str:
    return f"arn:aws:sagemaker:{region}:{account}:model-package-group/apart"


@pytest.fixture(scope="module")
def version(aws: LocalAWS) -> str:
    """The ARN of the only version of the owner's only group, which has a tag."""
    client = aws.client("sagemaker", **OWNER)
    client.create_model_package_group(ModelPackageGroupName="apart", Tags=[{"Key": "owner", "Value": "1"}])
    return client.create_model_package(ModelPackageGroupName="apart", ClientToken="same-token")["ModelPackageArn"]


@pytest.fixture(params=OTHERS, ids=["another account", "another Region"])
def other(aws: LocalAWS, request: pytest.FixtureRequest) -> Any:
    return aws.client("sagemaker", **request.param)


def test_arns_name_the_callers_account_and_region(aws, version):
    assert version == "arn:aws:sagemaker:us-east-1:333333333333:model-package/apart/1"


def test_nothing_of_the_owner_is_listed(other, version):
    assert other.list_model_package_groups()["ModelPackageGroupSummaryList"] == []
    assert other.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"] == []


@pytest.mark.parametrize(
    ("operation", "member"),
    [
        ("describe_model_package_group", "ModelPackageGroupName"),
        ("delete_model_package_group", "ModelPackageGroupName"),
        ("create_model_package", "ModelPackageGroupName"),
        ("list_model_packages", "ModelPackageGroupName"),
    ],
)
@pytest.mark.parametrize("named", ["apart", group_arn(**OWNER)], ids=["name", "ARN"])
def test_the_owners_group_does_not_exist_for_others(other, version, operation, member, named):
    with pytest.raises(ClientError, match=r"ModelPackageGroup .* does not exist"):
        getattr(other, operation)(**{member: named})


@pytest.mark.parametrize("operation", ["describe_model_package", "delete_model_package"])
def test_the_owners_version_does_not_exist_for_others(other, version, operation):
    with pytest.raises(ClientError, match=r"ModelPackage .* does not exist"):
        getattr(other, operation)(ModelPackageName=version)


def test_others_cannot_update_or_tag_the_owners_things(aws, other, version):
    with pytest.raises(ClientError, match="does not exist"):
        other.update_model_package(ModelPackageArn=version, ModelApprovalStatus="Approved")
    for operation, members in (
        ("add_tags", {"Tags": [{"Key": "owner", "Value": "2"}]}),
        ("delete_tags", {"TagKeys": ["owner"]}),
        ("list_tags", {}),
    ):
        with pytest.raises(ClientError, match="does not exist"):
            getattr(other, operation)(ResourceArn=group_arn(**OWNER), **members)

    owner = aws.client("sagemaker", **OWNER)
    status = owner.describe_model_package(ModelPackageName=version)["ModelApprovalStatus"]
    assert status == "PendingManualApproval"
    assert owner.list_tags(ResourceArn=group_arn(**OWNER))["Tags"] == [{"Key": "owner", "Value": "1"}]


def test_the_same_names_and_tokens_may_be_used_in_both(other, version):
    other.create_model_package_group(ModelPackageGroupName="apart")
    arn = other.create_model_package(ModelPackageGroupName="apart", ClientToken="same-token")["ModelPackageArn"]

    assert arn.endswith(":model-package/apart/1")
    assert arn != version
    other.delete_model_package(ModelPackageName=arn)
    other.delete_model_package_group(ModelPackageGroupName="apart")


def test_a_registry_survives_a_killed_server_with_accounts_apart(tmp_path):
    with LocalAWS(state=tmp_path) as first:
        for client in (first.client("sagemaker"), first.client("sagemaker", **OWNER)):
            client.create_model_package_group(ModelPackageGroupName="kept", Tags=[{"Key": "a", "Value": "1"}])
        for _ in range(3):
            client.create_model_package(ModelPackageGroupName="kept", InferenceSpecification=SPECIFICATION)
        arn = "arn:aws:sagemaker:us-east-1:333333333333:model-package/kept"
        client.delete_model_package(ModelPackageName=f"{arn}/3")
        client.update_model_package(ModelPackageArn=f"{arn}/2", ModelApprovalStatus="Approved", ClientToken="update")
        before = client.describe_model_package(ModelPackageName=f"{arn}/2")
        first.kill()
    with LocalAWS(state=tmp_path) as second:
        client = second.client("sagemaker", **OWNER)
        after = client.describe_model_package(ModelPackageName=f"{arn}/2")
        tags = client.list_tags(ResourceArn=group_arn(**OWNER).replace("apart", "kept"))["Tags"]
        newest = client.list_model_packages(ModelPackageGroupName="kept", SortOrder="Descending")
        following = client.create_model_package(ModelPackageGroupName="kept")["ModelPackageArn"]
        others = second.client("sagemaker").list_model_packages(ModelPackageGroupName="kept")

    del before["ResponseMetadata"], after["ResponseMetadata"]
    assert after == before
    assert after["ModelApprovalStatus"] == "Approved"
    assert tags == [{"Key": "a", "Value": "1"}]
    assert [summary["ModelPackageVersion"] for summary in newest["ModelPackageSummaryList"]] == [2, 1]
    assert following == f"{arn}/4"
    assert others["ModelPackageSummaryList"] == []
