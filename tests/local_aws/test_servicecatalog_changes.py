"""What becomes of a launched product: its tags, its termination and what stops that, and the records of it all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.catalog_stand import (
    LAUNCH_RIGHTS,
    SERVICES,
    STACK_ACTIONS,
    STUDIO_TAG,
    TOPIC_ACTIONS,
    Catalog,
    make_catalog,
    new_name,
    pairs,
)
from tests.local_aws.clients import refused
from tests.local_aws.people import root

ACCOUNT = {"Key": "Account", "Value": "self"}
# All that the launch role needs, but for deleting what it has made.
KEEPS_TOPICS = (
    (STACK_ACTIONS, "*"),
    ([one for one in TOPIC_ACTIONS if one != "sns:DeleteTopic"], "*"),
    (["s3:GetObject"], "*"),
)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture
def catalog(aws: LocalAWS) -> Catalog:
    return make_catalog(aws)


@pytest.fixture
def client(catalog: Catalog) -> Any:
    return catalog.member().client("servicecatalog")


@pytest.fixture
def launched(catalog: Catalog, client: Any) -> str:
    """The name of a product that is there, and of its topic."""
    name = new_name()
    catalog.ended(catalog.launch(client, name))
    return name


def update(catalog: Catalog, client: Any, name: str, **request: Any) -> dict[str, Any]:
    """The record of an update, when it has ended."""
    record = client.update_provisioned_product(ProvisionedProductName=name, **request)["RecordDetail"]
    detail: dict[str, Any] = catalog.ended(record)["RecordDetail"]
    return detail


def terminate(catalog: Catalog, client: Any, name: str, **request: Any) -> dict[str, Any]:
    record = client.terminate_provisioned_product(ProvisionedProductName=name, **request)["RecordDetail"]
    detail: dict[str, Any] = catalog.ended(record)["RecordDetail"]
    return detail


def status(client: Any, name: str) -> str:
    return str(client.describe_provisioned_product(Name=name)["ProvisionedProductDetail"]["Status"])


def topic_tags(aws: LocalAWS, name: str) -> dict[str, str]:
    arn = f"arn:aws:sns:us-east-1:123456789012:{name}"
    tags = root(aws, "sns").list_tags_for_resource(ResourceArn=arn)["Tags"]
    return {tag["Key"]: tag["Value"] for tag in tags if not tag["Key"].startswith("aws:")}


# --- tags


@pytest.mark.parametrize("constraint", [None, "NOT_ALLOWED"])
def test_without_a_constraint_that_allows_it_an_update_changes_no_tags(aws, catalog, client, launched, constraint):
    if constraint:
        catalog.let_updates_change_tags(constraint)
    before = topic_tags(aws, launched)

    code, message = refused(lambda: update(catalog, client, launched, Tags=pairs({"cost": "8"})))
    root(aws, "servicecatalog").update_portfolio(Id=catalog.portfolio, AddTags=pairs({"team": "other"}))
    done = update(catalog, client, launched, ProvisioningParameters=pairs({"Scenario": "advanced"}))

    assert (code, "Tag updates are not allowed" in message) == ("InvalidParametersException", True)
    assert done["Status"] == "SUCCEEDED"
    assert topic_tags(aws, launched) == before == {"team": "ml", STUDIO_TAG["Key"]: "true"}


def test_with_the_constraint_an_update_changes_tags_to_those_given_and_those_of_the_portfolio(
    aws, catalog, client, launched
):
    catalog.let_updates_change_tags()
    root(aws, "servicecatalog").update_portfolio(Id=catalog.portfolio, AddTags=pairs({"team": "other"}))

    done = update(catalog, client, launched, Tags=pairs({"cost": "8"}))

    assert done["Status"] == "SUCCEEDED"
    assert topic_tags(aws, launched) == {"team": "other", STUDIO_TAG["Key"]: "true", "cost": "8"}


def test_the_constraint_is_told_changed_and_deleted(aws, catalog, client):
    administration = root(aws, "servicecatalog")
    constraint = catalog.let_updates_change_tags()
    (path,) = client.list_launch_paths(ProductId=catalog.product)["LaunchPathSummaries"]
    assert [each["Type"] for each in path["ConstraintSummaries"]] == ["LAUNCH", "RESOURCE_UPDATE"]
    assert refused(catalog.let_updates_change_tags)[0] == "DuplicateResourceException"

    code, message = refused(lambda: administration.update_constraint(Id=constraint, Parameters='{"RoleArn": "x"}'))

    assert (code, "TagUpdateOnProvisionedProduct" in message) == ("InvalidParametersException", True)
    administration.delete_constraint(Id=constraint)
    (path,) = client.list_launch_paths(ProductId=catalog.product)["LaunchPathSummaries"]
    assert [each["Type"] for each in path["ConstraintSummaries"]] == ["LAUNCH"]


def test_another_type_of_constraint_is_refused(aws, catalog):
    code, message = refused(
        lambda: root(aws, "servicecatalog").create_constraint(
            PortfolioId=catalog.portfolio, ProductId=catalog.product, Type="TEMPLATE", Parameters="{}"
        )
    )

    assert (code, "LAUNCH and RESOURCE_UPDATE are" in message) == ("InvalidParametersException", True)


# --- termination


def test_a_token_counts_until_the_product_is_gone(catalog, client, launched):
    token = new_name()

    done = terminate(catalog, client, launched, TerminateToken=token)

    assert done["Status"] == "SUCCEEDED"
    again = refused(lambda: terminate(catalog, client, launched, TerminateToken=token))
    assert again == ("ResourceNotFoundException", f"Provisioned product {launched} not found.")


def test_a_launch_role_that_trusts_no_more_fails_the_termination_until_it_does_again(aws, catalog, client, launched):
    catalog.trust_role("cloudformation.amazonaws.com")

    done = terminate(catalog, client, launched)

    assert done["Status"] == "FAILED"
    assert f"Access denied while assuming the role {catalog.role}" in done["RecordErrors"][0]["Description"]
    assert (status(client, launched), topic_tags(aws, launched)["team"]) == ("TAINTED", "ml")
    catalog.trust_role(*SERVICES)
    assert terminate(catalog, client, launched)["Status"] == "SUCCEEDED"


def test_a_product_whose_stack_could_not_be_deleted_is_in_error_and_can_be_terminated_again(
    aws, catalog, client, launched
):
    catalog.give_role(*KEEPS_TOPICS)

    done = terminate(catalog, client, launched)

    reason = done["RecordErrors"][0]["Description"]
    assert (done["Status"], status(client, launched)) == ("FAILED", "ERROR")
    assert reason.startswith("Errors from CloudFormation: [{LogicalResourceId : ")
    assert "{LogicalResourceId : Topic, ResourceType : AWS::SNS::Topic, StatusReason : " in reason
    assert "is not authorized to perform: sns:DeleteTopic" in reason
    catalog.give_role(*LAUNCH_RIGHTS)
    assert terminate(catalog, client, launched)["Status"] == "SUCCEEDED"
    assert refused(lambda: topic_tags(aws, launched))[0] == "ResourceNotFoundException"


def test_a_termination_that_ignores_errors_takes_the_product_away_and_leaves_what_could_not_be_deleted(
    aws, catalog, client, launched
):
    catalog.give_role(*KEEPS_TOPICS)

    done = terminate(catalog, client, launched, IgnoreErrors=True)

    assert done["Status"] == "SUCCEEDED"
    assert refused(lambda: status(client, launched))[0] == "ResourceNotFoundException"
    assert topic_tags(aws, launched)["team"] == "ml"


# --- what is told


def test_the_records_of_a_product_are_listed_the_newest_first(catalog, client, launched):
    product = client.describe_provisioned_product(Name=launched)["ProvisionedProductDetail"]["Id"]
    update(catalog, client, launched, ProvisioningParameters=pairs({"Scenario": "advanced"}))
    terminate(catalog, client, launched)
    other = new_name()
    catalog.ended(catalog.launch(client, other))

    found = client.list_record_history(SearchFilter={"Key": "provisionedproduct", "Value": product})["RecordDetails"]

    kinds = ["TERMINATE_PROVISIONED_PRODUCT", "UPDATE_PROVISIONED_PRODUCT", "PROVISION_PRODUCT"]
    assert [each["RecordType"] for each in found] == kinds
    everything = client.list_record_history(PageSize=1)
    assert [each["ProvisionedProductName"] for each in everything["RecordDetails"]] == [other]
    assert "NextPageToken" in everything


def test_a_scan_shows_ones_own_products_and_with_the_level_all_of_the_account(catalog, client, launched):
    other, name = catalog.member().client("servicecatalog"), new_name()
    catalog.ended(catalog.launch(other, name))

    own = [each["Name"] for each in other.scan_provisioned_products()["ProvisionedProducts"]]
    pages: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = other.scan_provisioned_products(AccessLevelFilter=ACCOUNT, PageSize=1, **more)
        pages += [each["Name"] for each in page["ProvisionedProducts"]]
        if "NextPageToken" not in page:
            break
        more = {"PageToken": page["NextPageToken"]}

    assert own == [name]
    assert {launched, name} <= set(pages)
    assert len(pages) == len(set(pages))


def test_a_portfolio_is_updated_in_what_is_given(aws, catalog):
    administration = root(aws, "servicecatalog")

    updated = administration.update_portfolio(
        Id=catalog.portfolio, Description="for all", AddTags=pairs({"cost": "9"}), RemoveTags=["team"]
    )

    described = administration.describe_portfolio(Id=catalog.portfolio)
    assert updated["PortfolioDetail"] == described["PortfolioDetail"]
    detail = described["PortfolioDetail"]
    assert (detail["DisplayName"], detail["Description"], detail["ProviderName"]) == ("Small", "for all", "ML")
    assert updated["Tags"] == described["Tags"] == pairs({"cost": "9"})
