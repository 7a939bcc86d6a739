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

GRAPH_WIDTH, GRAPH_HEIGHT, GRAPHS_A_ROW = 8, 6, 3  # a dashboard is 24 wide
ERROR_SHARE, LATENCY = "Share of requests with a server error", "Latency (microseconds)"
Graph = tuple[str, str, list[list[Any]]]
"""Title, statistic, metrics."""


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
    """The endpoint's dashboard: traffic, errors, latency, instances, endpoint tests, alarms.

    Shape: CloudWatch API reference, "Dashboard Body Structure and Syntax".
    """
    own = ["EndpointName", declared.endpoint, "VariantName", names.VARIANT]
    graphs = [*_traffic(own), _capacity(declared, own), *_tests(declared.endpoint)]
    thresholds = _thresholds(declared)
    widgets: list[dict[str, Any]] = [
        {
            "type": "metric",
            "x": GRAPH_WIDTH * (index % GRAPHS_A_ROW),
            "y": GRAPH_HEIGHT * (index // GRAPHS_A_ROW),
            "width": GRAPH_WIDTH,
            "height": GRAPH_HEIGHT,
            "properties": {
                "title": title,
                "region": declared.region,
                "view": "timeSeries",
                "stat": statistic,
                "period": 60,
                "metrics": metrics,
                **({"annotations": {"horizontal": [thresholds[title]]}} if title in thresholds else {}),
            },
        }
        for index, (title, statistic, metrics) in enumerate(graphs)
    ]
    if standing := standing_alarms(declared):
        _, partition, _, region, account, _ = declared.package_arn.split(":", 5)
        beginning = f"arn:{partition}:cloudwatch:{region}:{account}:alarm:"
        arns = [f"{beginning}{call.request['AlarmName']}" for call in standing]
        place = {"x": 0, "y": GRAPH_HEIGHT * (len(graphs) // GRAPHS_A_ROW), "width": 24, "height": 2}
        widgets.append({"type": "alarm", **place, "properties": {"title": "Alarms", "alarms": arns}})
    body = json.dumps({"widgets": widgets})
    return AwsCall("cloudwatch", "put_dashboard", {"DashboardName": declared.endpoint, "DashboardBody": body})


def _traffic(own: list[str]) -> list[Graph]:
    requests = ["Invocations", "Invocation4XXErrors", "Invocation5XXErrors"]
    latency = [
        ["AWS/SageMaker", "ModelLatency", *own, {"label": "p99"}],
        ["AWS/SageMaker", "ModelLatency", *own, {"stat": "p50", "label": "p50"}],
        ["AWS/SageMaker", "OverheadLatency", *own, {"stat": "Average", "label": "SageMaker's own, average"}],
    ]
    # 0 or 1 for each request, so that the average is the share
    share = [["AWS/SageMaker", "Invocation5XXErrors", *own, {"label": "5xx"}]]
    return [
        ("Requests and errors", "Sum", [["AWS/SageMaker", name, *own] for name in requests]),
        (ERROR_SHARE, "Average", share),
        (LATENCY, "p99", latency),
    ]


def _capacity(declared: Declared, own: list[str]) -> Graph:
    if declared.kind == "serverless":
        return "Cold starts (microseconds)", "Maximum", [["AWS/SageMaker", "ModelSetupTime", *own]]
    of_instances = "/aws/sagemaker/Endpoints"
    metrics: list[list[Any]] = [[of_instances, f"{what}Utilization", *own] for what in ("CPU", "Memory", "Disk")]
    # each instance sends one value a minute
    number = {"stat": "SampleCount", "label": "instances", "yAxis": "right"}
    return (
        "Instances (percent; CPU: of one core)",
        "Average",
        [*metrics, [of_instances, "CPUUtilization", *own, number]],
    )


def _tests(endpoint: str) -> list[Graph]:
    """As the function modelyard-endpoint-tests publishes them."""

    def published(what: str, label: str, **more: str) -> list[Any]:
        return ["Modelyard", f"EndpointTest{what}", "EndpointName", endpoint, {"label": label, **more}]

    cases = [published("Cases", "cases"), published("Failures", "failed")]
    load = [published("P99", "p99"), published("ErrorShare", "error share", yAxis="right")]
    return [("Endpoint tests", "Maximum", cases), ("Endpoint tests under load (milliseconds)", "Maximum", load)]


def _thresholds(declared: Declared) -> dict[str, dict[str, Any]]:
    """By graph, the line above which its alarm is raised."""
    alarms = getattr(declared.stage_file, "alarms", None)
    titles = {"errors": ERROR_SHARE, "latency": LATENCY}
    specs = [] if alarms is None else alarms.specs
    return {titles[spec.kind]: {"label": "alarm", "value": spec.threshold} for spec in specs if spec.kind in titles}


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
