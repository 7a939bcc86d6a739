"""The alarms of an endpoint and of its deployments, and the dashboard. Pure.

Roll-back alarms watch one deployment's instances alone: while SageMaker updates an endpoint, its metrics carry the
endpoint config's name as a third dimension. No requests are no fault: missing data is not breaching. Standing alarms
watch whatever serves, and tell people.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lifecycle_lambdas import names
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import ALARM_MEMBERS, Alarm

if TYPE_CHECKING:
    from lifecycle_lambdas.stage_schema import Alarms, AlarmSpec


def rollback_alarms(declared: Declared) -> list[AwsCall]:
    """The alarms that make SageMaker roll this deployment back; at most three, and SageMaker takes ten."""
    alarms = declared.stage_file.alarms
    if alarms is None:
        return []
    return [
        _put(
            names.rollback_alarm(declared.endpoint, declared.number, spec.kind),
            f"Rolls deployment {declared.number} of {declared.endpoint} back.",
            _watched(alarms, spec, {"EndpointConfigName": declared.name}, declared.endpoint),
            declared.deployment_tags,
        )
        for spec in alarms.specs
    ]


def sees_one_deployment(call: AwsCall) -> bool:
    """Whether the alarm that PutMetricAlarm's request makes sees the instances of one deployment alone."""
    return any(dimension["Name"] == "EndpointConfigName" for dimension in call.request["Dimensions"])


def abort_alarm(declared: Declared) -> AwsCall:
    """The alarm by which a deployment that is wanted no more is rolled back: nothing reports its metric.

    The controller sets it; missing data leaves it as it was set. That SageMaker takes a set state for a raised alarm
    is in docs/unverified.md.
    """
    return _put(
        names.abort_alarm(declared.name),
        f"Set by Modelyard when deployment {declared.number} of {declared.endpoint} is wanted no more.",
        {
            "Namespace": "Modelyard",
            "MetricName": "DeploymentAborted",
            "Dimensions": [{"Name": "EndpointConfigName", "Value": declared.name}],
            "Statistic": "Maximum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "DatapointsToAlarm": 1,
            "Threshold": 0.0,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "ignore",
        },
        declared.deployment_tags,
    )


def abort(config: str, reason: str) -> AwsCall:
    """Set the abort alarm of the deployment of this endpoint config."""
    request = {"AlarmName": names.abort_alarm(config), "StateValue": "ALARM", "StateReason": reason[:1023]}
    return AwsCall("cloudwatch", "set_alarm_state", request)


def standing_alarms(declared: Declared) -> list[AwsCall]:
    alarms = getattr(declared.stage_file, "alarms", None)
    if alarms is None:
        return []
    return [
        _put(
            names.standing_alarm(declared.endpoint, spec.kind),
            f"The endpoint {declared.endpoint}, whatever it serves.",
            _watched(alarms, spec, {}, declared.endpoint)
            | {"AlarmActions": [declared.topic_arn], "OKActions": [declared.topic_arn]},
            declared.tags,
        )
        for spec in alarms.specs
    ]


def as_declared(alarm: Alarm | None, call: AwsCall) -> bool:
    """Whether the alarm is what PutMetricAlarm's request would make of it."""
    return alarm is not None and definition(alarm.definition) == definition(call.request)


def definition(request: dict[str, Any]) -> dict[str, Any]:
    """What is compared of PutMetricAlarm's request, or of DescribeAlarms' answer."""
    found = {member: request[member] for member in ALARM_MEMBERS if request.get(member)}
    if "Dimensions" in found:
        found["Dimensions"] = sorted((one["Name"], one["Value"]) for one in found["Dimensions"])
    return found


def dashboard(declared: Declared) -> AwsCall:
    """The endpoint's dashboard: requests and errors, latency, instances."""
    endpoint, region = declared.endpoint, declared.region
    own = ["EndpointName", endpoint, "VariantName", names.VARIANT]
    widgets = [
        _widget(
            "Requests and errors",
            region,
            "Sum",
            [
                ["AWS/SageMaker", "Invocations", *own],
                ["AWS/SageMaker", "Invocation4XXErrors", *own],
                ["AWS/SageMaker", "Invocation5XXErrors", *own],
            ],
        ),
        _widget(
            "Latency (microseconds)",
            region,
            "p99",
            [
                ["AWS/SageMaker", "ModelLatency", *own],
                ["AWS/SageMaker", "ModelLatency", *own, {"stat": "p50"}],
                ["AWS/SageMaker", "OverheadLatency", *own, {"stat": "Average"}],
            ],
        ),
    ]
    if declared.kind == "serverless":
        metrics: list[list[Any]] = [["AWS/SageMaker", "ModelSetupTime", *own]]
        widgets.append(_widget("Cold starts (microseconds)", region, "Maximum", metrics))
    else:
        metrics = [["/aws/sagemaker/Endpoints", f"{what}Utilization", *own] for what in ("CPU", "Memory", "Disk")]
        widgets.append(_widget("Instances (percent; CPU: of one core)", region, "Average", metrics))
    body = {"widgets": [{**widget, "x": 8 * index, "y": 0} for index, widget in enumerate(widgets)]}
    return AwsCall("cloudwatch", "put_dashboard", {"DashboardName": endpoint, "DashboardBody": json.dumps(body)})


def same_dashboard(body: str | None, call: AwsCall) -> bool:
    """Whether the dashboard shows what the call would make it show, however its JSON is written."""
    if body is None:
        return False
    try:
        return bool(json.loads(body) == json.loads(call.request["DashboardBody"]))
    except ValueError:
        return False


def _put(name: str, description: str, watched: dict[str, Any], tags: dict[str, str]) -> AwsCall:
    request = {"AlarmName": name, "AlarmDescription": description, **watched, "Tags": names.tag_list(tags)}
    return AwsCall("cloudwatch", "put_metric_alarm", request)


def _watched(alarms: Alarms, spec: AlarmSpec, more: dict[str, str], endpoint: str) -> dict[str, Any]:
    dimensions = spec.dimensions
    if dimensions is None:
        dimensions = {"EndpointName": endpoint, "VariantName": names.VARIANT, **more}
    return {
        "Namespace": spec.namespace,
        "MetricName": spec.metric,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        **spec.statistic_argument,
        "Period": alarms.period_seconds,
        "EvaluationPeriods": alarms.periods,
        "DatapointsToAlarm": alarms.periods,
        "Threshold": spec.threshold,
        "ComparisonOperator": spec.comparison,
        "TreatMissingData": "notBreaching",
    }


def _widget(title: str, region: str, statistic: str, metrics: list[list[Any]]) -> dict[str, Any]:
    return {
        "type": "metric",
        "width": 8,
        "height": 6,
        "properties": {
            "title": title,
            "region": region,
            "view": "timeSeries",
            "stat": statistic,
            "period": 60,
            "metrics": metrics,
        },
    }
