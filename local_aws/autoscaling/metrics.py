"""What a target-tracking policy looks at: its metric, the alarms that AWS makes on it, and values from CloudWatch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_aws.autoscaling.target_tracking import HIGH, LOW, LOW_SHARE, MINUTES_HIGH, MINUTES_LOW

# By predefined metric: its name in AWS/SageMaker, its statistic, and the scalable dimension that it is for.
# AWS names no statistic for the second one; Average is that of Lambda's metric of the same name (an inference).
PREDEFINED = {
    "SageMakerVariantInvocationsPerInstance": (
        "InvocationsPerInstance",
        "Sum",
        "sagemaker:variant:DesiredInstanceCount",
    ),
    "SageMakerVariantProvisionedConcurrencyUtilization": (
        "ServerlessProvisionedConcurrencyUtilization",
        "Average",
        "sagemaker:variant:DesiredProvisionedConcurrency",
    ),
}
ALL_TIME = 86_400 * 365 * 1000  # seconds: a period that no time of ours begins anew


@dataclass(frozen=True)
class Metric:
    """One metric of CloudWatch.

    Args:
        dimensions: as CloudWatch takes them: {"Name", "Value"} each.
        statistic: Average, Minimum, Maximum, SampleCount or Sum.
    """

    namespace: str
    name: str
    dimensions: tuple[dict[str, str], ...]
    statistic: str
    unit: str | None = None


def metric_of(configuration: dict[str, Any], endpoint: str, variant: str) -> Metric:
    """The metric of a TargetTrackingScalingPolicyConfiguration that was checked before."""
    if predefined := configuration.get("PredefinedMetricSpecification"):
        name, statistic, _ = PREDEFINED[predefined["PredefinedMetricType"]]
        dimensions = ({"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant})
        return Metric("AWS/SageMaker", name, dimensions, statistic)
    custom = configuration["CustomizedMetricSpecification"]
    dimensions = tuple(custom.get("Dimensions", []))
    return Metric(custom["Namespace"], custom["MetricName"], dimensions, custom["Statistic"], custom.get("Unit"))


def alarm_request(metric: Metric, target: float, which: str, name: str, policy_arn: str) -> dict[str, Any]:
    """PutMetricAlarm's request for one of a policy's two alarms.

    Their numbers are those of the alarms that AWS makes; the policy itself is evaluated apart (`target_tracking`), from
    the same metric.
    """
    comparison, threshold, periods = {
        HIGH: ("GreaterThanThreshold", target, MINUTES_HIGH),
        LOW: ("LessThanThreshold", LOW_SHARE * target, MINUTES_LOW),
    }[which]
    return {
        "AlarmName": name,
        "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}.",
        "ActionsEnabled": True,
        "AlarmActions": [policy_arn],
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": list(metric.dimensions),
        "Statistic": metric.statistic,
        "Period": 60,
        "EvaluationPeriods": periods,
        "Threshold": threshold,
        "ComparisonOperator": comparison,
        **({"Unit": metric.unit} if metric.unit else {}),
    }


def value_between(cloudwatch: Any, metric: Metric, begin: float, end: float) -> float | None:
    """The metric's statistic over a span of time, in seconds since the epoch; None without data."""
    answer = cloudwatch.get_metric_statistics(
        Namespace=metric.namespace,
        MetricName=metric.name,
        Dimensions=list(metric.dimensions),
        StartTime=datetime.fromtimestamp(begin, UTC),
        EndTime=datetime.fromtimestamp(end, UTC),
        Period=ALL_TIME,  # the span is shorter than a minute when the clock is fast: the times alone bound it
        Statistics=[metric.statistic],
        **({"Unit": metric.unit} if metric.unit else {}),
    )
    (*_, point) = answer["Datapoints"] or [{}]
    return point.get(metric.statistic)
