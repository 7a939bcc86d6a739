"""Endpoint configurations: what is kept of them and which AWS refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_aws.endpoint_fakes import Stand

INSTANCES: dict[str, Any] = {"VariantName": "AllTraffic", "ModelName": "churn", "InstanceType": "ml.m5.large"}
INSTANCES |= {"InitialInstanceCount": 2}
SERVERLESS: dict[str, Any] = {"VariantName": "AllTraffic", "ModelName": "churn"}
SERVERLESS |= {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}
CAPTURE = {
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://b/",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    stand.model("churn")
    stand.model("in-vpc", VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]})
    stand.model("isolated", EnableNetworkIsolation=True)
    yield stand
    stand.close()


def create(stand: Stand, *variants: dict[str, Any], name: str = "churn-1", **members: Any) -> None:
    stand.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=list(variants), **members)


def refused(stand: Stand, *variants: dict[str, Any], **members: Any) -> str:
    request = {"EndpointConfigName": "churn-1", "ProductionVariants": list(variants), **members}
    return stand.refused("CreateEndpointConfig", **request)


def changed(variant: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {name: value for name, value in (variant | members).items() if value is not None}


def serverless(**members: Any) -> dict[str, Any]:
    return changed(SERVERLESS, ServerlessConfig=SERVERLESS["ServerlessConfig"] | members)


def test_a_configuration_is_described_as_it_was_asked_for(stand):
    create(stand, INSTANCES, DataCaptureConfig=CAPTURE, KmsKeyId="key")

    described = stand.call("DescribeEndpointConfig", EndpointConfigName="Churn-1")
    assert described.pop("CreationTime") > 0
    assert described == {
        "EndpointConfigName": "churn-1",
        "EndpointConfigArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/churn-1",
        "ProductionVariants": [INSTANCES | {"InitialVariantWeight": 1.0}],
        "DataCaptureConfig": CAPTURE,
        "KmsKeyId": "key",
    }


@pytest.mark.parametrize("variant", [INSTANCES, SERVERLESS, serverless(ProvisionedConcurrency=5)])
def test_configurations_that_can_be(stand, variant):
    create(stand, variant)


@pytest.mark.parametrize(
    ("variants", "members", "message"),
    [
        ([changed(INSTANCES, VariantName=f"v{number}") for number in range(11)], {}, "has 11; .* 1 to 10"),
        ([INSTANCES, INSTANCES], {}, "VariantName 'AllTraffic' is given twice"),
        ([changed(INSTANCES, ModelName="other")], {}, 'Could not find model "arn:.*:model/other".'),
        ([changed(INSTANCES, ModelName=None)], {}, "inference components are not built"),
        ([changed(INSTANCES, InstanceType=None)], {}, "Specify exactly one of InstanceType and ServerlessConfig"),
        ([INSTANCES | SERVERLESS], {}, "Specify exactly one of InstanceType and ServerlessConfig"),
        ([changed(INSTANCES, InitialInstanceCount=None)], {}, "InitialInstanceCount is missing"),
        ([changed(SERVERLESS, InitialInstanceCount=1)], {}, "InitialInstanceCount cannot be given with Serverless"),
        ([serverless(MemorySizeInMB=1500)], {}, "MemorySizeInMB 1500 .* 1024, 2048, 3072, 4096, 5120, 6144"),
        ([serverless(ProvisionedConcurrency=6)], {}, "ProvisionedConcurrency 6 .* at most its MaxConcurrency, 5"),
        ([SERVERLESS, changed(INSTANCES, VariantName="b")], {}, "cannot mix ServerlessConfig and InstanceType"),
        ([SERVERLESS, changed(SERVERLESS, VariantName="b")], {}, "one production variant only"),
        ([SERVERLESS], {"DataCaptureConfig": CAPTURE}, "do not support DataCaptureConfig"),
        ([changed(SERVERLESS, ModelName="in-vpc")], {}, "do not support VpcConfig; model in-vpc has it"),
        ([changed(SERVERLESS, ModelName="isolated")], {}, "do not support EnableNetworkIsolation; model isolated"),
        (
            [INSTANCES],
            {"DataCaptureConfig": CAPTURE | {"CaptureOptions": [{"CaptureMode": "Input"}] * 2}},
            "a CaptureMode is given twice",
        ),
        (
            [changed(INSTANCES, InstanceType="ml.g4dn.xlarge")],
            {"KmsKeyId": "key"},
            "KmsKeyId cannot be given with ml.g4dn.xlarge: it has local storage",
        ),
        ([INSTANCES], {"AsyncInferenceConfig": {"OutputConfig": {}}}, "AsyncInferenceConfig .* are not built"),
        ([INSTANCES], {"ShadowProductionVariants": [INSTANCES]}, "ShadowProductionVariants .* are not built"),
        (
            [changed(INSTANCES, ManagedInstanceScaling={"Status": "ENABLED"})],
            {},
            "ManagedInstanceScaling .* use Application Auto Scaling",
        ),
    ],
)
def test_configurations_that_cannot_be(stand, variants, members, message):
    fault = refused(stand, *variants, **members)

    assert re.search(message, fault), fault
    assert stand.call("ListEndpointConfigs")["EndpointConfigs"] == []


def test_a_configuration_is_never_replaced(stand):
    create(stand, INSTANCES)

    assert refused(stand, SERVERLESS) == (
        'ValidationException: Cannot create already existing endpoint configuration "arn:aws:sagemaker:us-east-1'
        ':123456789012:endpoint-config/churn-1".'
    )


def test_a_deleted_configuration_is_gone_with_its_tags(stand):
    create(stand, INSTANCES, Tags=[{"Key": "modelyard:project", "Value": "churn"}])
    arn = stand.call("DescribeEndpointConfig", EndpointConfigName="churn-1")["EndpointConfigArn"]
    assert stand.call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "modelyard:project", "Value": "churn"}]

    stand.call("DeleteEndpointConfig", EndpointConfigName="churn-1")

    for operation in ("DescribeEndpointConfig", "DeleteEndpointConfig"):
        fault = stand.refused(operation, EndpointConfigName="churn-1")
        assert fault == f'ValidationException: Could not find endpoint configuration "{arn}".'
    assert "ResourceNotFound" in stand.refused("ListTags", ResourceArn=arn)


def test_configurations_are_listed_by_part_of_their_name(stand):
    for name in ("churn-prod-1", "churn-prod-10", "churn-dev-1"):
        create(stand, INSTANCES, name=name)

    found = stand.call("ListEndpointConfigs", NameContains="churn-prod", SortBy="Name", SortOrder="Ascending")

    assert [one["EndpointConfigName"] for one in found["EndpointConfigs"]] == ["churn-prod-1", "churn-prod-10"]
