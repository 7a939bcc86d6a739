"""Launches and projects that are under way: what nobody can do meanwhile, and what a server's end leaves of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.catalog_stand import Catalog, make_catalog, pairs, record_end
from tests.local_aws.clients import refused
from tests.local_aws.people import root
from tests.local_aws.waiting import STACK_PAUSE, wait_for

# Its stack is under way until somebody signals, which nobody does.
WAITING_TEMPLATE = json.dumps(
    {
        "Parameters": {name: {"Type": "String"} for name in ("SageMakerProjectName", "SageMakerProjectId")},
        "Resources": {
            "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            "Wait": {
                "Type": "AWS::CloudFormation::WaitCondition",
                "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "3600"},
            },
        },
    }
)


@dataclass(frozen=True)
class Interrupted:
    """
    Args:
        record: of a launch that was under way, as that of the project "churn".
        refusals: what was answered to changes meanwhile.
    """

    aws: LocalAWS
    record: str
    refusals: list[tuple[str, str]]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    with LocalAWS(state=tmp_path_factory.mktemp("state")) as aws:
        done, waiting = make_catalog(aws), make_catalog(aws, template=WAITING_TEMPLATE)
        client, sagemaker = root(aws, "servicecatalog"), root(aws, "sagemaker")
        done.ended(done.launch(client, "done"))
        record = _begun(waiting, "waiting")
        sagemaker.create_project(
            ProjectName="churn",
            ServiceCatalogProvisioningDetails={
                "ProductId": waiting.product,
                "ProvisioningArtifactId": waiting.version,
            },
        )
        refusals = [
            refused(lambda: client.terminate_provisioned_product(ProvisionedProductName="waiting")),
            refused(lambda: client.update_provisioned_product(ProvisionedProductName="waiting")),
            refused(lambda: sagemaker.delete_project(ProjectName="churn")),
        ]
        aws.restart(kill=True)
        yield Interrupted(aws, record, refusals)


def _begun(catalog: Catalog, name: str) -> str:
    """The record of a launch whose stack waits."""
    record = catalog.launch(root(catalog.aws, "servicecatalog"), name)
    cloudformation, stack = root(catalog.aws, "cloudformation"), f"SC-123456789012-{record['ProvisionedProductId']}"

    def waits() -> bool:
        if stack not in [each["StackName"] for each in cloudformation.describe_stacks()["Stacks"]]:
            return False
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        return any(event["LogicalResourceId"] == "Wait" for event in events)

    wait_for(waits)
    return str(record["RecordId"])


def project(aws: LocalAWS, status: str) -> dict[str, Any]:
    def found() -> Any:
        answer = root(aws, "sagemaker").describe_project(ProjectName="churn")
        return answer if answer["ProjectStatus"] == status else None

    described: dict[str, Any] = wait_for(found, pause=STACK_PAUSE)
    return described


def test_nothing_else_is_done_with_what_is_under_way(interrupted):
    codes = [code for code, _ in interrupted.refusals]
    messages = [message for _, message in interrupted.refusals]

    assert codes == ["InvalidParametersException", "InvalidParametersException", "ConflictException"]
    assert all("Provisioned product waiting is UNDER_CHANGE" in message for message in messages[:2])
    assert "Project churn is CreateInProgress" in messages[2]


def test_a_launch_that_the_servers_end_interrupts_has_failed_and_can_be_terminated(interrupted):
    client = root(interrupted.aws, "servicecatalog")

    ended = record_end(client, interrupted.record)["RecordDetail"]
    removal = client.terminate_provisioned_product(ProvisionedProductName="waiting")["RecordDetail"]["RecordId"]

    assert ended["Status"] == "FAILED"
    assert "local_aws was stopped while the stack was CREATE_IN_PROGRESS" in ended["RecordErrors"][0]["Description"]
    assert record_end(client, removal)["RecordDetail"]["Status"] == "SUCCEEDED"


def test_a_project_that_the_servers_end_interrupts_has_failed_and_can_be_deleted(interrupted):
    described = project(interrupted.aws, "CreateFailed")

    root(interrupted.aws, "sagemaker").delete_project(ProjectName="churn")

    message = described["ServiceCatalogProvisionedProductDetails"]["ProvisionedProductStatusMessage"]
    assert "local_aws was stopped" in message
    project(interrupted.aws, "DeleteCompleted")
    stack = f"SC-123456789012-{described['ServiceCatalogProvisionedProductDetails']['ProvisionedProductId']}"
    assert stack not in [
        each["StackName"] for each in root(interrupted.aws, "cloudformation").describe_stacks()["Stacks"]
    ]


def test_what_was_launched_before_survives_and_can_be_updated(interrupted):
    client = root(interrupted.aws, "servicecatalog")

    update = client.update_provisioned_product(
        ProvisionedProductName="done", ProvisioningParameters=pairs({"Scenario": "advanced"})
    )

    assert record_end(client, update["RecordDetail"]["RecordId"])["RecordDetail"]["Status"] == "SUCCEEDED"
