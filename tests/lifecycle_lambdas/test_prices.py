"""Costs come from AWS's price list as they stand there; what is not there is said to be unknown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from lifecycle_lambdas import prices, stage_schema
from lifecycle_lambdas.clients import Clients

REGION = "eu-central-1"


def product(usd: str | None, unit: str = "Hrs", component: str = "Hosting", name: str = "ml.m5.large") -> str:
    """One product of the price list, in the shape of the AWS Price List API (FormatVersion aws_v1)."""
    dimension = {
        "unit": unit,
        "endRange": "Inf",
        "description": f"${usd} per {component} {name} {unit} in EU (Frankfurt)",
        "appliesTo": [],
        "rateCode": "3H8WR8FBAE4DWNRB.JRTCKXETXF.6YS6EN2CT7",
        "beginRange": "0",
        "pricePerUnit": {"CNY": "1.0"} if usd is None else {"USD": usd},
    }
    term = {
        "priceDimensions": {"3H8WR8FBAE4DWNRB.JRTCKXETXF.6YS6EN2CT7": dimension},
        "sku": "3H8WR8FBAE4DWNRB",
        "effectiveDate": "2026-07-01T00:00:00Z",
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    attributes = {
        "regionCode": REGION,
        "servicecode": "AmazonSageMaker",
        "instanceName": name,
        "instanceType": f"{name}-{component}",
        "component": component,
        "operation": "RunInstance",
        "usagetype": f"EUC1-Host:{name}",
    }
    return json.dumps(
        {
            "product": {"productFamily": "ML Instance", "attributes": attributes, "sku": "3H8WR8FBAE4DWNRB"},
            "serviceCode": "AmazonSageMaker",
            "terms": {"OnDemand": {"3H8WR8FBAE4DWNRB.JRTCKXETXF": term}, "Reserved": {}},
            "version": "20260721163448",
            "publicationDate": "2026-07-21T16:34:48Z",
        }
    )


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client("pricing", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    with Stubber(client) as made:
        yield made
        made.assert_no_pending_responses()


def wanted(component: str = "Hosting", name: str = "ml.m5.large", **token: str) -> dict[str, Any]:
    fields = {"regionCode": REGION, "instanceName": name, "component": component}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
    return {"ServiceCode": "AmazonSageMaker", "Filters": filters, **token}


def ceiling(stub: Stubber, **fields: Any) -> prices.Ceiling:
    stage_file = stage_schema.parse(fields, "dev")
    return prices.ceiling(stage_file, prices.PriceList(stub.client, REGION))


def test_an_endpoint_costs_at_most_its_instances_for_730_hours(stub: Stubber) -> None:
    stub.add_response("get_products", {"PriceList": [product("0.1380000000")]}, wanted())
    found = ceiling(stub, kind="real_time", instance_type="ml.m5.large", instance_count=2)
    assert found.hours == 1460
    assert found.usd == pytest.approx(2 * 730 * 0.138)
    assert found.why == "730 h x 2 x ml.m5.large at 0.138 USD an hour"
    assert prices.answer(found) == {"hours": found.hours, "monthly": {"usd": found.usd, "why": found.why}}


def test_an_endpoint_that_scales_costs_at_most_its_largest_fleet(stub: Stubber) -> None:
    stub.add_response("get_products", {"PriceList": [product("0.1")]}, wanted())
    scaling = {"min": 1, "max": 4, "target": {"invocations_per_instance": 100}}
    found = ceiling(stub, kind="real_time", instance_type="ml.m5.large", scaling=scaling)
    assert (found.hours, found.usd) == (2920, pytest.approx(292))


def test_every_page_is_read_and_of_several_prices_the_highest_is_the_ceiling(stub: Stubber) -> None:
    first = {"PriceList": [product("0.0000000000"), product("0.5")], "NextToken": "more"}
    stub.add_response("get_products", first, wanted())
    stub.add_response("get_products", {"PriceList": [product("0.25")]}, wanted(NextToken="more"))
    assert ceiling(stub, kind="real_time", instance_type="ml.m5.large").usd == pytest.approx(365)


@pytest.mark.parametrize(
    "listed", [[], [product(None)], [product("1.0", unit="Quantity")], [product("n/a")], [product("0.0")]]
)
def test_a_price_that_is_not_in_the_list_is_unknown(stub: Stubber, listed: list[str]) -> None:
    stub.add_response("get_products", {"PriceList": listed}, wanted())
    found = ceiling(stub, kind="real_time", instance_type="ml.m5.large")
    assert (found.hours, found.usd) == (730, None)
    assert found.why == "AWS's price list has no Hosting price of ml.m5.large in eu-central-1"


def test_a_refusal_and_a_missing_network_leave_the_price_unknown_and_are_said(
    stub: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.add_client_error("get_products", "AccessDeniedException", "not authorized to perform pricing:GetProducts")
    found = ceiling(stub, kind="real_time", instance_type="ml.m5.large")
    assert (found.usd, "refused to answer: not authorized" in found.why) == (None, True)

    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://api.pricing.us-east-1.amazonaws.com")

    monkeypatch.setattr(stub.client, "get_products", fail)
    found = ceiling(stub, kind="real_time", instance_type="ml.m5.large")
    assert (found.usd, "cannot be reached" in found.why) == (None, True)


def test_the_list_is_asked_once_for_an_instance_type(stub: Stubber) -> None:
    stub.add_response("get_products", {"PriceList": [product("0.2")]}, wanted())
    price_list = prices.PriceList(stub.client, REGION)
    assert price_list.instance_hour("ml.m5.large") is price_list.instance_hour("ml.m5.large")


def test_a_gigabyte_of_s3_costs_what_its_first_step_does_and_is_asked_once(stub: Stubber) -> None:
    fields = {"regionCode": REGION, "volumeType": "Standard"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
    listed = [product("0.0235", "GB-Mo"), product("0.0245", "GB-Mo"), product("9.0", "Objects")]
    stub.add_response("get_products", {"PriceList": listed}, {"ServiceCode": "AmazonS3", "Filters": filters})
    price_list = prices.PriceList(stub.client, REGION)
    assert price_list.gigabyte_month().usd == price_list.gigabyte_month().usd == Decimal("0.0245")


def test_a_serverless_endpoint_has_no_ceiling_and_the_list_is_not_asked(stub: Stubber) -> None:
    found = ceiling(stub, kind="serverless")
    assert (found.hours, found.usd, found.why) == (None, None, "pay per use: nothing while nobody asks")
    scaling = {"min": 1, "max": 4, "target": {"utilization": 0.7}}
    found = ceiling(stub, kind="serverless", provisioned_concurrency=2, scaling=scaling)
    assert (found.usd, "up to 4 is paid for all the time" in found.why) == (None, True)


def test_a_batch_stage_is_paid_by_the_run(stub: Stubber) -> None:
    stub.add_response("get_products", {"PriceList": [product("0.2")]}, wanted("BatchTransform", "ml.c5.xlarge"))
    batch = {"schedule": "rate(1 day)", "input": "s3://bucket/in/", "output": "s3://bucket/out/"}
    found = ceiling(stub, kind="batch", instance_type="ml.c5.xlarge", instance_count=3, **batch)
    assert (found.hours, found.usd) == (None, None)
    assert found.why == "paid while a run lasts, which is not known before: 3 x ml.c5.xlarge at 0.2 USD an hour"


def test_a_price_list_that_does_not_answer_holds_no_plan_up_for_long():
    """Reads time out, twice at most; a call that a deployment needs is waited for longer."""
    config = Clients()("pricing", "us-east-1").meta.config
    assert config.retries["total_max_attempts"] * (config.connect_timeout + config.read_timeout) <= 10
