"""Studio domains, which are data here; their tags say where project templates lie."""

from __future__ import annotations

import pytest

from local_aws import LocalAWS
from tests.local_aws.clients import refused

SETTINGS = {"AuthMode": "IAM", "DefaultUserSettings": {}, "VpcId": "vpc-1", "SubnetIds": ["subnet-1"]}
TAG = {"Key": "sagemaker:projectS3TemplatesLocation", "Value": "s3://templates/projects/"}


def test_a_domain_is_kept_with_its_tags_until_it_is_deleted(aws: LocalAWS) -> None:
    sagemaker = aws.client("sagemaker")

    made = sagemaker.create_domain(DomainName="kept", Tags=[TAG], **SETTINGS)

    described = sagemaker.describe_domain(DomainId=made["DomainId"])
    assert (described["DomainName"], described["Status"], described["VpcId"]) == ("kept", "InService", "vpc-1")
    assert made["DomainArn"] in [each["DomainArn"] for each in sagemaker.list_domains()["Domains"]]
    assert sagemaker.list_tags(ResourceArn=made["DomainArn"])["Tags"] == [TAG]
    sagemaker.delete_domain(DomainId=made["DomainId"])
    assert refused(lambda: sagemaker.describe_domain(DomainId=made["DomainId"]))[0] == "ResourceNotFound"
    assert refused(lambda: sagemaker.list_tags(ResourceArn=made["DomainArn"]))[0] == "ResourceNotFound"


def test_a_name_that_is_taken_is_refused(aws: LocalAWS) -> None:
    sagemaker = aws.client("sagemaker")
    sagemaker.create_domain(DomainName="taken", **SETTINGS)

    code, message = refused(lambda: sagemaker.create_domain(DomainName="taken", **SETTINGS))

    assert (code, message) == ("ResourceInUse", "Domain taken already exists. Choose another name.")


def test_an_execution_role_that_is_not_there_is_refused(aws: LocalAWS) -> None:
    role = "arn:aws:iam::123456789012:role/nobody"
    settings = {**SETTINGS, "DefaultUserSettings": {"ExecutionRole": role}}

    code, message = refused(lambda: aws.client("sagemaker").create_domain(DomainName="roleless", **settings))

    assert (code, f"Could not assume role {role}" in message) == ("ValidationException", True)


@pytest.mark.parametrize("operation", ["describe_domain", "delete_domain"])
def test_a_domain_that_is_not_there_is_not_found(aws: LocalAWS, operation: str) -> None:
    call = getattr(aws.client("sagemaker"), operation)

    assert refused(lambda: call(DomainId="d-nowhere"))[0] == "ResourceNotFound"
