"""Every combination of a stage file's settings, from whatever serves now: a way that ends, of calls that AWS takes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name

from lifecycle_lambdas import stage_schema
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.forecast import apply, forecast, settle
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.plan import Do, Done, GiveUp, Wait
from local_aws.request_checks import check_request, service_model
from tests.lifecycle_lambdas.plans import (
    ALARMS,
    BATCH,
    CANARY,
    ENDPOINT,
    NOW,
    REAL_TIME,
    SCALING,
    SERVERLESS,
    alarm,
    declared,
    endpoint,
    observed,
    target,
    variant,
)

CUSTOM = {
    "namespace": "Shop",
    "metric": "Orders",
    "threshold": 1,
    "comparison": "LessThanThreshold",
    "statistic": "p10",
}
AROUND: dict[str, Any] = {
    "environment": {"LEVEL": "2"},
    "vpc": {"subnets": ["subnet-01234567", "subnet-89abcdef"], "security_groups": ["sg-01234567"]},
    "kms_key": "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d",
    "network_isolation": True,
}
OPTIONS: dict[str, list[dict[str, list[Any]]]] = {
    "real_time": [
        {
            "instance_count": [1, 2, 5],
            "scaling": [None, SCALING, {**SCALING, "min": 1, "max": 10}],
            "rollout": [
                "all_at_once",
                {"type": "all_at_once", "finish_bake_minutes": 5},
                CANARY,
                {"type": "canary", "size": 1},
                "linear",
                {"type": "linear", "step": 1},
            ],
            "alarms": [
                None,
                ALARMS,
                {"custom": CUSTOM},
                {**ALARMS, "custom": {**CUSTOM, "dimensions": {"Shop": "one"}}},
            ],
        },
        {
            "data_capture": [None, {}, {"capture": ["output"], "content_types": ["application/json"]}],
            "around": [{}, AROUND],
        },
    ],
    "serverless": [
        {
            "memory_mb": [1024, 6144],
            "provisioned_concurrency": [None, 2],
            "scaling": [None, {"min": 1, "max": 5, "target": {"utilization": 0.7}}],
            "alarms": [None, ALARMS, {"custom": CUSTOM}],
            "environment": [{}, {"LEVEL": "2"}],
        },
    ],
    "batch": [
        {
            "schedule": ["rate(1 day)", "cron(0 6 ? * MON-FRI *)"],
            "split": ["line", "none"],
            "join_input": [False, True],
            "instance_count": [1, 3],
            "around": [{}, AROUND],
        },
    ],
}
BASES = {"real_time": REAL_TIME, "serverless": SERVERLESS, "batch": BATCH}


def stage_files(kind: str) -> Iterator[dict[str, Any]]:
    """Every combination within a group of settings that the schema accepts, with and without dashboard and replace."""
    for group in OPTIONS[kind]:
        for values in itertools.product(*group.values()):
            content = dict(zip(group, values, strict=True))
            content |= content.pop("around", {})
            for replace in (False, True):
                more = {"replace": replace} if kind == "batch" else {"replace": replace, "dashboard": replace}
                whole = {**BASES[kind], **content, **more}
                try:
                    stage_schema.parse(whole, "prod")
                except stage_schema.StageFileError:
                    continue
                yield whole


def situations() -> dict[str, Observed]:
    serverless = variant(serverless=True, count=None, instance_type=None)
    return {
        "nothing": observed(),
        "an endpoint": observed(endpoint()),
        "one that was scaled": observed(endpoint(variants=(variant(count=3),)), targets=(target(),)),
        "one of one instance": observed(
            endpoint(variants=(variant(count=1, instance_type="ml.c5.large"),)), targets=(target(),)
        ),
        "other variants": observed(endpoint(config="by-hand", variants=(variant(name="a"), variant(name="b")))),
        "a canary": observed(
            endpoint("Updating", config="churn-prod-10", pending="churn-prod-11"), alarms=alarm("churn-prod-11-abort")
        ),
        "a failed one": observed(endpoint("Failed", variants=())),
        "a serverless one": observed(endpoint(variants=(serverless,))),
        "a schedule": observed(
            schedule={
                "Name": ENDPOINT,
                "GroupName": "modelyard",
                "ScheduleExpression": "rate(1 day)",
                "Target": {"Input": "{}"},
            }
        ),
    }


METHODS = {
    service: {xform_name(name): name for name in service_model(service).operation_names}
    for service in ("sagemaker", "cloudwatch", "application-autoscaling", "scheduler")
}
CHECKED: set[str] = set()


def check(call: AwsCall) -> None:
    """Raises what AWS would answer to a request that its model forbids."""
    # most requests are in many ways: each is checked once
    key = json.dumps([call.service, call.operation, call.request], sort_keys=True)
    if key not in CHECKED:
        check_request(service_model(call.service).operation_model(METHODS[call.service][call.operation]), call.request)
        assert call.resource
        CHECKED.add(key)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("now", situations())
def test_every_stage_file_has_a_way_from_whatever_serves_of_calls_that_aws_takes(kind: str, now: str) -> None:
    ways = 0
    for content in stage_files(kind):
        wanted = declared(content)
        steps = forecast(wanted, situations()[now], NOW)
        for step in steps:
            if isinstance(step, Do):
                check(step.call)
        if isinstance(steps[-1], GiveUp):
            assert "replace: true" in steps[-1].reason
            assert not content["replace"]
        else:
            assert steps[-1] == Done()
        ways += 1

    assert ways >= 20


def operations(wanted: Declared | None, there: Observed) -> list[str]:
    return [step.call.operation if isinstance(step, Do) else "wait" for step in forecast(wanted, there, NOW)[:-1]]


def test_the_way_to_a_new_endpoint() -> None:
    wanted = declared(scaling=SCALING, alarms={"error_share": 0.1}, dashboard=True, rollout=CANARY)

    assert operations(wanted, observed()) == [
        "create_model",
        "create_endpoint_config",
        "create_endpoint",
        "wait",
        "register_scalable_target",
        "put_scaling_policy",
        "put_metric_alarm",
        "put_dashboard",
    ]


def test_the_way_from_a_canary_that_is_wanted_no_more() -> None:
    assert operations(declared(), situations()["a canary"]) == [
        "set_alarm_state",
        "wait",
        "create_model",
        "create_endpoint_config",
        "update_endpoint",
        "wait",
    ]


def test_the_way_through_an_outage() -> None:
    assert operations(declared(SERVERLESS, replace=True), observed(endpoint(), targets=(target(),))) == [
        "deregister_scalable_target",
        "delete_endpoint",
        "wait",
        "create_model",
        "create_endpoint_config",
        "create_endpoint",
        "wait",
    ]


def test_the_way_to_nothing() -> None:
    assert operations(None, observed(endpoint(), targets=(target(),))) == [
        "deregister_scalable_target",
        "delete_endpoint",
        "wait",
    ]


def test_what_is_as_declared_has_no_way_to_go() -> None:
    wanted = declared(scaling=SCALING, alarms=ALARMS, dashboard=True)
    there = observed()
    for step in forecast(wanted, there, NOW):
        if isinstance(step, Do):
            there = apply(there, step.call, NOW)
        elif isinstance(step, Wait):
            there = settle(there, NOW)

    assert forecast(wanted, there, NOW) == [Done()]
