"""CloudWatch alarms: evaluated each of AWS's minutes as CloudWatch documents it, and told to topics and EventBridge.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
"""

from __future__ import annotations

import functools
import json
import logging
import operator
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from local_aws import metric_math
from local_aws.clock import Clock
from local_aws.events import Events
from local_aws.metric_math import MathError, Series
from local_aws.store import Scope

# How many periods an evaluation may look back beyond EvaluationPeriods for data that is not missing. AWS gives 5
# periods for EvaluationPeriods of 3 and no rule.
LOOK_BACK = 2
EVERY = 60.0  # AWS's seconds between two evaluations of an alarm
# A period is evaluated this share of a minute after its end, so that what is measured in it has been published.
LAG = 0.25
STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
PERCENTILE = re.compile(r"p(\d{1,2}(\.\d+)?|100)")
COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """What one PutMetricData datum says: `count` samples, of which sum and bounds are known.

    Args:
        at: seconds since the epoch.
    """

    at: float
    count: float
    total: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """An evaluation's result; `state` None keeps the state that the alarm has."""

    state: State | None
    reason: str


def statistic(points: Sequence[Point], name: str) -> float | None:
    """A statistic, or a percentile such as "p99", of one period's points; None when there is none.

    As on AWS there is no percentile of statistic sets with different values, nor of negative values.
    """
    points = [point for point in points if point.count > 0]
    if not points:
        return None
    if name == "SampleCount":
        return sum(point.count for point in points)
    if name == "Sum":
        return sum(point.total for point in points)
    if name == "Average":
        return sum(point.total for point in points) / sum(point.count for point in points)
    if name == "Minimum":
        return min(point.low for point in points)
    if name == "Maximum":
        return max(point.high for point in points)
    if any(point.low != point.high or point.low < 0 for point in points):
        return None
    return _percentile([(point.low, point.count) for point in points], float(name[1:]) / 100)


def _percentile(samples: list[tuple[float, float]], share: float) -> float:
    """By linear interpolation between the nearest ranks of samples (value, how often)."""
    samples.sort()
    rank = share * (sum(count for _, count in samples) - 1)
    if rank <= 0:
        return samples[0][0]

    def at(index: int) -> float:
        seen = 0.0
        for value, count in samples:
            seen += count
            if index < seen:
                return value
        return samples[-1][0]

    low = at(int(rank))
    return low + (at(int(rank) + 1) - low) * (rank - int(rank))


def series(points: Iterable[Point], end: float, period: float, count: int, name: str) -> Series:
    """A metric's values in the `count` periods that end at `end`, oldest first.

    Args:
        end, period: seconds; the newest period is [end - period, end).
    """
    periods: list[list[Point]] = [[] for _ in range(count)]
    begin = end - period * count
    for point in points:
        index = int((point.at - begin) // period)
        if 0 <= index < count:
            periods[index].append(point)
    return [statistic(each, name) for each in periods]


def evaluate(alarm: Mapping[str, Any], values: Series) -> Verdict:
    """What an alarm makes of its values.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html

    Args:
        alarm: ComparisonOperator, Threshold, EvaluationPeriods, DatapointsToAlarm, TreatMissingData as in
            PutMetricAlarm.
        values: of the evaluation range (EvaluationPeriods + LOOK_BACK), oldest first, None where data is missing.
    """
    compare, words = COMPARISONS[alarm["ComparisonOperator"]]
    threshold, periods = alarm["Threshold"], alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm") or periods
    missing = alarm.get("TreatMissingData") or "missing"
    known = [value for value in values if value is not None][-periods:]
    breaching = [value for value in known if compare(value, threshold)]
    filled = periods - len(known)
    if not known and missing == "missing":
        return Verdict(
            "INSUFFICIENT_DATA", f"Insufficient Data: {_count(periods, 'datapoint')} {_were(periods)} unknown."
        )
    if not known and missing == "ignore":
        return Verdict(None, "")
    if not known:
        treated = "Breaching" if missing == "breaching" else "NonBreaching"
        return Verdict(
            "ALARM" if missing == "breaching" else "OK",
            f"Threshold Crossed: no datapoints were received for {_count(periods, 'period')} and"
            f" {_count(periods, 'missing datapoint')} {_were(periods)} treated as [{treated}].",
        )
    shown = f"{_count(len(known), 'datapoint')} [{', '.join(f'{value:g}' for value in known)}] {_were(len(known))}"
    bound = f"{words} the threshold ({threshold:g})."
    if len(breaching) + (filled if missing == "breaching" else 0) >= needed:
        return Verdict("ALARM", f"Threshold Crossed: {shown} {bound}")
    if filled and missing in ("missing", "ignore") and len(breaching) == len(known):
        # Too few to say, and all of them breach: in alarm only when the oldest is as old as DatapointsToAlarm.
        oldest = next(age for age, value in zip(range(len(values), 0, -1), values, strict=True) if value is not None)
        if missing == "missing" and oldest >= needed:
            return Verdict("ALARM", f"Threshold Crossed: {shown} {bound}")
        return Verdict(None, "")
    return Verdict("OK", f"Threshold Crossed: {shown} not {bound}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def metrics_of(alarm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an alarm watches, in the form of PutMetricAlarm's Metrics."""
    if alarm.get("Metrics"):
        return list(alarm["Metrics"])
    metric = {"Namespace": alarm["Namespace"], "MetricName": alarm["MetricName"], "Dimensions": alarm["Dimensions"]}
    statistic_name = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    stat = {"Metric": metric, "Period": alarm["Period"], "Stat": statistic_name, "Unit": alarm.get("Unit")}
    return [{"Id": "m1", "MetricStat": stat, "ReturnData": True}]


def fault(alarm: Mapping[str, Any]) -> str | None:
    """What in an alarm cannot be evaluated here, in words; None when all can."""
    if alarm.get("ComparisonOperator") not in COMPARISONS:
        return f"ComparisonOperator {alarm.get('ComparisonOperator')} is not built: use {', '.join(COMPARISONS)}."
    metrics = alarm.get("Metrics") or []
    if bool(metrics) == bool(alarm.get("MetricName")):
        return "Give either MetricName, Namespace, Period and Statistic, or Metrics."
    names = [alarm.get("ExtendedStatistic") or alarm.get("Statistic")] if not metrics else []
    names += [metric["MetricStat"]["Stat"] for metric in metrics if "MetricStat" in metric]
    for name in names:
        if name not in STATISTICS and not PERCENTILE.fullmatch(name or ""):
            return f"Statistic {name} is not built: use {', '.join(STATISTICS)} or a percentile such as p99."
    if not metrics:
        return None
    if sum(metric.get("ReturnData", True) for metric in metrics) != 1:
        return "Exactly one of Metrics has ReturnData true: the one that is compared with the threshold."
    if len({metric["MetricStat"]["Period"] for metric in metrics if "MetricStat" in metric}) != 1:
        return "All of Metrics have the same Period."
    for metric in metrics:
        try:
            if "Expression" in metric:
                metric_math.check(metric["Expression"], [each["Id"] for each in metrics if each is not metric])
        except MathError as error:
            return str(error)
    return None


class CloudWatch(Protocol):
    """What is asked of the service that keeps metrics and alarms (local_aws.ministack_host)."""

    def alarms(self) -> list[tuple[Scope, dict[str, Any]]]: ...

    def points(self, scope: Scope, metric: Mapping[str, Any], unit: str | None, since: float) -> list[Point]: ...

    def measure(self) -> None:
        """Put the metrics that AWS's services put each minute and nothing else here does: those of queues."""

    def set_state(self, scope: Scope, alarm: dict[str, Any], state: State, reason: str) -> None: ...

    def publish(self, scope: Scope, alarm: str, topic: str, subject: str, message: str) -> None: ...


class Alarms:
    """Evaluates every alarm once in each of AWS's minutes, and tells about changes.

    A state set with SetAlarmState holds until the next evaluation.
    """

    def __init__(self, cloudwatch: CloudWatch, clock: Clock, events: Events) -> None:
        self._cloudwatch = cloudwatch
        self._clock = clock
        self._events = events
        self._told: dict[tuple[Scope, str], dict[str, Any]] = {}  # each alarm's state as it was told last
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="alarms")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        minute = self._clock.seconds(EVERY)
        while True:
            now = time.time()
            boundary = ((now - LAG * minute) // minute + 1 + LAG) * minute
            if self._stopping.wait(max(0.0, boundary - now)):
                return
            self._cloudwatch.measure()
            for scope, alarm in self._cloudwatch.alarms():
                try:
                    self._evaluate(scope, alarm, boundary - LAG * minute)
                except Exception:
                    logger.exception("Alarm %s could not be evaluated", alarm.get("AlarmName"))

    def _evaluate(self, scope: Scope, alarm: dict[str, Any], now: float) -> None:
        """One evaluation, of the periods that have ended at `now`."""
        metrics = metrics_of(alarm)
        aws_period = next(metric["MetricStat"]["Period"] for metric in metrics if "MetricStat" in metric)
        period = self._clock.seconds(aws_period)
        end = now // period * period if aws_period > EVERY else now
        count = alarm["EvaluationPeriods"] + LOOK_BACK
        values: dict[str, Series] = {}
        for metric in metrics:
            if stat := metric.get("MetricStat"):
                points = self._cloudwatch.points(scope, stat["Metric"], stat.get("Unit"), end - period * count)
                values[metric["Id"]] = series(points, end, period, count, stat["Stat"])
        pending = [metric for metric in metrics if "Expression" in metric]
        while pending:  # an expression may use another's id
            ready = [each for each in pending if not _uses(each["Expression"], pending, each)] or pending
            for metric in ready:
                values[metric["Id"]] = metric_math.evaluate(metric["Expression"], values)
            pending = [each for each in pending if each not in ready]
        watched = next(metric["Id"] for metric in metrics if metric.get("ReturnData", True))
        verdict = evaluate(alarm, values[watched])
        if verdict.state is not None and verdict.state != alarm["StateValue"]:
            self._cloudwatch.set_state(scope, alarm, verdict.state, verdict.reason)

    def tell(self, scope: Scope, alarm: dict[str, Any], before: State, state: State, reason: str) -> None:
        """Send a change of state to EventBridge and, when the alarm's actions are enabled, to its topics."""
        now = time.time()
        new = {"reason": reason, "reasonData": json.dumps({"version": "1.0"}), "timestamp": _time(now), "value": state}
        first = {"reason": "Unchecked: Initial alarm creation", "timestamp": _time(now)}
        old = {**self._told.get((scope, alarm["AlarmName"]), first), "value": before}
        self._told[scope, alarm["AlarmName"]] = new
        detail = {
            "alarmName": alarm["AlarmName"],
            "configuration": _configuration(alarm),
            "previousState": old,
            "state": new,
        }
        self._events.emit(scope, "CloudWatch Alarm State Change", [alarm["AlarmArn"]], detail, "aws.cloudwatch")
        if not alarm.get("ActionsEnabled", True):
            return
        actions = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}[state]
        region = _region_name(scope.region)
        message = json.dumps(_message(scope, alarm, before, state, reason, now, region))
        for action in alarm.get(actions) or []:
            if action.split(":")[2] == "sns":
                subject = f'{state}: "{alarm["AlarmName"]}" in {region}'[:100]
                self._cloudwatch.publish(scope, alarm["AlarmArn"], action, subject, message)


def _uses(expression: str, others: list[dict[str, Any]], own: dict[str, Any]) -> bool:
    return any(re.search(rf"\b{re.escape(each['Id'])}\b", expression) for each in others if each is not own)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")


@functools.cache  # botocore reads half a megabyte for it
def _region_name(region: str) -> str:
    """A Region's display name, such as "US East (N. Virginia)"."""
    from botocore.loaders import Loader

    for partition in Loader().load_data("endpoints")["partitions"]:
        if region in partition["regions"]:
            return partition["regions"][region]["description"]
    return region


def _configuration(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm as its events have it."""
    if alarm.get("AlarmRule"):
        return {"alarmRule": alarm["AlarmRule"], "description": alarm.get("AlarmDescription", "")}
    metrics = []
    for metric in metrics_of(alarm):
        item: dict[str, Any] = {"id": metric["Id"], "returnData": metric.get("ReturnData", True)}
        if stat := metric.get("MetricStat"):
            dimensions = {each["Name"]: each["Value"] for each in stat["Metric"].get("Dimensions", [])}
            name = {"namespace": stat["Metric"]["Namespace"], "name": stat["Metric"]["MetricName"]}
            item["metricStat"] = {"metric": name | {"dimensions": dimensions}, "period": stat["Period"]}
            item["metricStat"]["stat"] = stat["Stat"]
        else:
            item["expression"] = metric["Expression"]
        metrics.append(item)
    return {"description": alarm.get("AlarmDescription", ""), "metrics": metrics}


def _message(
    scope: Scope, alarm: Mapping[str, Any], before: State, state: State, reason: str, now: float, region: str
) -> dict[str, Any]:
    """What a topic is told: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html"""
    message: dict[str, Any] = {
        "AlarmName": alarm["AlarmName"],
        "AlarmDescription": alarm.get("AlarmDescription") or None,
        "AWSAccountId": scope.account,
        "AlarmConfigurationUpdatedTimestamp": _time(alarm.get("AlarmConfigurationUpdatedTimestamp", now)),
        "NewStateValue": state,
        "NewStateReason": reason,
        "StateChangeTime": _time(now),
        "Region": region,
        "AlarmArn": alarm["AlarmArn"],
        "OldStateValue": before,
        "OKActions": alarm.get("OKActions") or [],
        "AlarmActions": alarm.get("AlarmActions") or [],
        "InsufficientDataActions": alarm.get("InsufficientDataActions") or [],
    }
    if alarm.get("AlarmRule"):
        return message | {"AlarmRule": alarm["AlarmRule"]}
    trigger: dict[str, Any] = {
        "Period": alarm.get("Period"),
        "EvaluationPeriods": alarm["EvaluationPeriods"],
        "DatapointsToAlarm": alarm.get("DatapointsToAlarm") or alarm["EvaluationPeriods"],
        "ComparisonOperator": alarm["ComparisonOperator"],
        "Threshold": alarm["Threshold"],
        "TreatMissingData": alarm.get("TreatMissingData") or "missing",
        "EvaluateLowSampleCountPercentile": alarm.get("EvaluateLowSampleCountPercentile") or "",
    }
    if alarm.get("Metrics"):
        return message | {"Trigger": trigger | {"Metrics": alarm["Metrics"]}}
    percentile = alarm.get("ExtendedStatistic")
    trigger |= {
        "MetricName": alarm["MetricName"],
        "Namespace": alarm["Namespace"],
        "StatisticType": "ExtendedStatistic" if percentile else "Statistic",
        **({"ExtendedStatistic": percentile} if percentile else {"Statistic": alarm["Statistic"].upper()}),
        "Unit": alarm.get("Unit"),
        "Dimensions": [{"value": each["Value"], "name": each["Name"]} for each in alarm.get("Dimensions") or []],
    }
    return message | {"Trigger": trigger}
