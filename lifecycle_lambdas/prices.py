"""What a stage may cost a month at most, from AWS's price list; what is not known there is said, never invented.

A ceiling of the instances alone: storage, metrics, traffic and the second fleet of an update (minutes) come on top.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from lifecycle_lambdas.stage_schema import StageFile

# 365 days of 24 hours by 12: what AWS's own calculator takes for a month.
HOURS_A_MONTH = 730
Component = Literal["Hosting", "BatchTransform"]


@dataclass(frozen=True)
class Price:
    """US dollars for one instance's hour; None where that is not known, and `why` says why."""

    usd: Decimal | None
    why: str


@dataclass(frozen=True)
class Ceiling:
    """The most of a month: instance-hours and US dollars, None where it is not known; `why`: how, or why not."""

    hours: float | None
    usd: float | None
    why: str


class PriceList:
    """The price list of one Region.

    Args:
        pricing: boto3's client `pricing`, made for us-east-1: that API is not in every Region.
        region: whose prices, as in eu-central-1.
    """

    def __init__(self, pricing: Any, region: str) -> None:
        self._pricing = pricing
        self._region = region
        self._known: dict[tuple[str, Component], Price] = {}
        self._storage: Price | None = None

    def instance_hour(self, instance_type: str, component: Component = "Hosting") -> Price:
        """On-demand price of an hour of the instance type; where the list gives several, the highest. Never raises."""
        key = (instance_type, component)
        if key not in self._known:
            self._known[key] = self._ask(instance_type, component)
        return self._known[key]

    def gigabyte_month(self) -> Price:
        """Of S3's standard storage: the highest of its steps, which is the first. Never raises."""
        if self._storage is None:
            self._storage = self._list_price(
                "AmazonS3", {"volumeType": "Standard"}, ("gb-mo", "gb-month"), "S3 storage", "a GB and month"
            )
        return self._storage

    def _ask(self, instance_type: str, component: Component) -> Price:
        wanted = {"instanceName": instance_type, "component": component}
        named = f"{component} price of {instance_type}"
        found = self._list_price("AmazonSageMaker", wanted, ("hrs", "hours", "hour"), named, "an hour")
        return Price(found.usd, found.why if found.usd is None else f"{instance_type} at {found.why}")

    def _list_price(self, service: str, wanted: dict[str, str], units: tuple[str, ...], named: str, per: str) -> Price:
        fields = {"regionCode": self._region, **wanted}
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
        try:
            pages = self._pricing.get_paginator("get_products").paginate(ServiceCode=service, Filters=filters)
            products = [json.loads(product) for page in pages for product in page["PriceList"]]
            found = [price for product in products for price in _on_demand(product, units)]
        except ClientError as error:
            said = error.response["Error"]
            return Price(None, f"AWS's price list refused to answer: {said.get('Message') or said.get('Code')}")
        except BotoCoreError as error:
            return Price(None, f"AWS's price list cannot be reached: {error}")
        if not found:
            return Price(None, f"AWS's price list has no {named} in {self._region}")
        return Price(max(found), f"{max(found).normalize():f} USD {per}")


def ceiling(stage_file: StageFile, price_list: PriceList) -> Ceiling:
    """The most that the stage can cost in a month of 730 hours, while all its instances run all the time."""
    if stage_file.kind == "batch":
        price = price_list.instance_hour(stage_file.instance_type, "BatchTransform")
        paid = price.why if price.usd is None else f"{stage_file.instance_count} x {price.why}"
        return Ceiling(None, None, f"paid while a run lasts, which is not known before: {paid}")
    if stage_file.kind == "serverless":
        if stage_file.provisioned_concurrency is None:
            return Ceiling(None, None, "pay per use: nothing while nobody asks")
        most = stage_file.scaling.max if stage_file.scaling else stage_file.provisioned_concurrency
        return Ceiling(
            None,
            None,
            f"provisioned concurrency of up to {most} is paid for all the time, at a price not looked up here",
        )
    fleet = stage_file.largest_fleet
    hours = float(HOURS_A_MONTH * fleet)
    price = price_list.instance_hour(stage_file.instance_type)
    if price.usd is None:
        return Ceiling(hours, None, price.why)
    return Ceiling(hours, float(price.usd * HOURS_A_MONTH * fleet), f"{HOURS_A_MONTH} h x {fleet} x {price.why}")


def answer(found: Ceiling) -> dict[str, Any]:
    """The ceiling as the plan function answers it."""
    return {"hours": found.hours, "monthly": {"usd": found.usd, "why": found.why}}


def _on_demand(product: dict[str, Any], units: tuple[str, ...]) -> Iterator[Decimal]:
    """The on-demand prices of one product that are in US dollars for one of these units."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("unit", "").lower() not in units:
                continue
            try:
                price = Decimal(dimension.get("pricePerUnit", {}).get("USD", "unknown"))
            except InvalidOperation:
                continue
            if price > 0:  # what is free is so for a while, or up to an amount
                yield price
