"""Removes what no deployment needs any more: models, endpoint configs, alarms, and a dashboard that is not declared.

What is kept: what the endpoint is on or on its way to, what the deployment that serves is made of, and model and config
of the one that it would go back to (going_back.way_back). SageMaker itself goes back to what the endpoint is on, and
only until an update is over. Names are matched whole and tags are read before anything is deleted: one project's name
can be the beginning of another's, and people make things of such names, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from lifecycle_lambdas import names
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.observe import Observed

Clients = Callable[[str], Any]


@dataclass(frozen=True)
class Present:
    """What there is by name, and of models, configs and alarms the ARN."""

    models: dict[str, str]
    configs: dict[str, str]
    alarms: dict[str, str]
    dashboard: bool


@dataclass(frozen=True)
class Needed:
    """
    Args:
        numbers: the deployments whose model and config stay.
        watching: the deployments under way, whose alarms stay.
        alarms: the standing alarms that are declared, by name.
    """

    numbers: frozenset[int]
    watching: frozenset[int]
    alarms: frozenset[str]
    dashboard: bool


def needed(
    observed: Observed, current: int | None, way_back: int | None, alarms: Collection[str], dashboard: bool
) -> Needed:
    """What stays.

    Args:
        current: the deployment that serves or is under way; None: nothing should serve.
        way_back: the one that it would go back to; None: there is none.
    """
    endpoint = observed.endpoint
    pending = None if endpoint is None or endpoint.pending is None else endpoint.pending
    on_the_way = None if pending is None else names.number_of(observed.name, pending)
    kept = {number for number in (current, way_back, observed.serving, on_the_way) if number is not None}
    return Needed(
        numbers=frozenset(kept),
        watching=frozenset(() if on_the_way is None else (on_the_way,)),
        alarms=frozenset(alarms),
        dashboard=dashboard,
    )


def stale(endpoint: str, present: Present, need: Needed) -> list[tuple[AwsCall, str | None]]:
    """The calls that remove what is not needed, each with the ARN whose tags must be the endpoint's. Pure.

    Configs go before the models that they name.
    """
    found: list[tuple[AwsCall, str | None]] = []
    for name, arn in sorted(present.configs.items()):
        if (number := names.number_of(endpoint, name)) is not None and number not in need.numbers:
            found.append((AwsCall("sagemaker", "delete_endpoint_config", {"EndpointConfigName": name}), arn))
    for name, arn in sorted(present.models.items()):
        if (number := names.number_of(endpoint, name)) is not None and number not in need.numbers:
            found.append((AwsCall("sagemaker", "delete_model", {"ModelName": name}), arn))
    for name, arn in sorted(present.alarms.items()):
        number = names.alarm_number(endpoint, name)
        standing = name in names.standing_alarms(endpoint) and name not in need.alarms
        if standing or (number is not None and number not in need.watching):
            found.append((AwsCall("cloudwatch", "delete_alarms", {"AlarmNames": [name]}), arn))
    if present.dashboard and not need.dashboard:
        # dashboards had no tags for long: the name is the endpoint's own
        found.append((AwsCall("cloudwatch", "delete_dashboards", {"DashboardNames": [endpoint]}), None))
    return found


def present(clients: Clients, endpoint: str, dashboard: bool) -> Present:
    """What there is with the endpoint's name at its beginning; the dashboard is known from observing."""
    sagemaker, cloudwatch = clients("sagemaker"), clients("cloudwatch")
    models = sagemaker.get_paginator("list_models").paginate(NameContains=f"{endpoint}-")
    configs = sagemaker.get_paginator("list_endpoint_configs").paginate(NameContains=f"{endpoint}-")
    alarms = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=f"{endpoint}-", AlarmTypes=["MetricAlarm"]
    )
    return Present(
        models={one["ModelName"]: one["ModelArn"] for page in models for one in page["Models"]},
        configs={
            one["EndpointConfigName"]: one["EndpointConfigArn"] for page in configs for one in page["EndpointConfigs"]
        },
        alarms={one["AlarmName"]: one["AlarmArn"] for page in alarms for one in page["MetricAlarms"]},
        dashboard=dashboard,
    )


def is_ours(clients: Clients, service: str, arn: str, tags: dict[str, str]) -> bool:
    """Whether the resource is the project's and the stage's, by its tags."""
    if service == "cloudwatch":
        found = clients("cloudwatch").list_tags_for_resource(ResourceARN=arn)["Tags"]
    else:
        found = clients("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    has = {tag["Key"]: tag["Value"] for tag in found}
    return all(has.get(key) == tags[key] for key in ("modelyard:project", "modelyard:stage"))
