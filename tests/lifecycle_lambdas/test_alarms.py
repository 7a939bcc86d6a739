"""Alarms in CloudWatch's units and dimensions, and when they are as declared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lifecycle_lambdas import alarms
from lifecycle_lambdas.observe import Alarm
from tests import dashboards
from tests.lifecycle_lambdas.plans import ALARMS, SERVERLESS, declared

OWN = {"EndpointName": "churn-prod", "VariantName": "AllTraffic"}
NEW = {**OWN, "EndpointConfigName": "churn-prod-12"}


def dimensions(request: dict[str, Any]) -> dict[str, str]:
    return {one["Name"]: one["Value"] for one in request["Dimensions"]}


def test_milliseconds_are_cloudwatchs_microseconds_and_percentiles_are_extended_statistics() -> None:
    latency = alarms.rollback_alarms(declared(alarms={"p99_latency_ms": 250}))[0].request

    assert latency["MetricName"] == "ModelLatency"
    assert latency["Threshold"] == 250_000
    assert latency["ExtendedStatistic"] == "p99"
    assert "Statistic" not in latency


def test_the_share_of_errors_is_the_average_of_a_metric_that_is_0_or_1() -> None:
    errors = alarms.rollback_alarms(declared(alarms={"error_share": 0.02, "period_seconds": 120, "periods": 3}))[
        0
    ].request

    assert (errors["MetricName"], errors["Statistic"], errors["Threshold"]) == ("Invocation5XXErrors", "Average", 0.02)
    assert (errors["Period"], errors["EvaluationPeriods"], errors["DatapointsToAlarm"]) == (120, 3, 3)


def test_roll_back_alarms_see_the_new_instances_alone_and_no_requests_are_no_fault() -> None:
    for call in alarms.rollback_alarms(declared(alarms=ALARMS)):
        assert dimensions(call.request) == NEW
        assert call.request["TreatMissingData"] == "notBreaching"
        assert "AlarmActions" not in call.request


def test_standing_alarms_see_whatever_serves_and_tell_people() -> None:
    calls = alarms.standing_alarms(declared(alarms=ALARMS))

    assert [call.request["AlarmName"] for call in calls] == ["churn-prod-errors", "churn-prod-latency"]
    for call in calls:
        assert dimensions(call.request) == OWN
        assert call.request["AlarmActions"] == ["arn:aws:sns:eu-west-1:111122223333:modelyard"]
        # they outlive the deployment
        assert "modelyard:deployment" not in {tag["Key"] for tag in call.request["Tags"]}


@pytest.mark.parametrize(("given", "expected"), [(None, NEW), ({"Shop": "one"}, {"Shop": "one"})])
def test_a_custom_metric_has_its_own_dimensions_or_the_endpoints(given: Any, expected: dict[str, str]) -> None:
    custom = {
        "namespace": "Shop",
        "metric": "Orders",
        "threshold": 5,
        "dimensions": given,
        "comparison": "LessThanThreshold",
    }

    request = alarms.rollback_alarms(declared(alarms={"custom": custom}))[0].request

    assert request["AlarmName"] == "churn-prod-12-rollback-custom"
    assert dimensions(request) == expected
    assert request["ComparisonOperator"] == "LessThanThreshold"


def test_the_abort_alarm_stays_as_it_was_set() -> None:
    request = alarms.abort_alarm(declared()).request

    assert request["AlarmName"] == "churn-prod-12-abort"
    assert request["TreatMissingData"] == "ignore"


def test_an_alarm_is_as_declared_whatever_else_cloudwatch_says_of_it() -> None:
    call = alarms.standing_alarms(declared(alarms=ALARMS))[0]
    answered = {
        **call.request,
        "Dimensions": call.request["Dimensions"][::-1],
        "InsufficientDataActions": [],
        "Threshold": 0.05,
    }

    assert alarms.as_declared(Alarm("OK", answered), call)
    assert not alarms.as_declared(Alarm("OK", {**answered, "Threshold": 0.06}), call)
    assert not alarms.as_declared(Alarm("OK", {**answered, "AlarmActions": []}), call)
    assert not alarms.as_declared(None, call)


def test_a_dashboard_is_the_same_however_its_json_is_written() -> None:
    call = alarms.dashboard(declared())
    body = json.loads(call.request["DashboardBody"])

    assert alarms.same_dashboard(json.dumps(body, indent=4), call)
    assert not alarms.same_dashboard(json.dumps({"widgets": []}), call)
    assert not alarms.same_dashboard("not JSON", call)
    assert not alarms.same_dashboard(None, call)


def test_the_dashboard_shows_what_the_kind_has() -> None:
    shown = {
        kind: alarms.dashboard(declared(content)).request["DashboardBody"]
        for kind, content in (("instances", None), ("serverless", SERVERLESS))
    }

    assert "CPUUtilization" in shown["instances"]
    assert "CPUUtilization" not in shown["serverless"]
    assert "ModelSetupTime" in shown["serverless"]


@pytest.mark.parametrize(
    ("content", "settings"),
    [(None, {}), (None, {"alarms": ALARMS}), (None, {"alarms": {"p99_latency_ms": 250}}), (SERVERLESS, {})],
)
def test_a_dashboard_is_one_that_cloudwatch_takes(content: Any, settings: dict[str, Any]) -> None:
    assert dashboards.faults(alarms.dashboard(declared(content, **settings)).request["DashboardBody"]) == []


def test_the_dashboard_shows_traffic_errors_latency_instances_tests_and_the_alarms_with_their_lines() -> None:
    wanted = declared(alarms={"error_share": 0.02, "p99_latency_ms": 250})
    widgets = json.loads(alarms.dashboard(wanted).request["DashboardBody"])["widgets"]
    graphs = {one["properties"]["title"]: one["properties"] for one in widgets if one["type"] == "metric"}

    shown = {metric[1] for graph in graphs.values() for metric in graph["metrics"]}
    assert {"Invocations", "Invocation5XXErrors", "ModelLatency", "CPUUtilization", "EndpointTestFailures"} <= shown
    lines = {
        title: graph["annotations"]["horizontal"][0]["value"]
        for title, graph in graphs.items()
        if "annotations" in graph
    }
    assert sorted(lines.values()) == [0.02, 250_000]
    (status,) = [one["properties"] for one in widgets if one["type"] == "alarm"]
    assert status["alarms"] == [
        f"arn:aws:cloudwatch:eu-west-1:111122223333:alarm:{wanted.endpoint}-{kind}" for kind in ("errors", "latency")
    ]
