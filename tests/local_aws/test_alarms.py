"""Alarms: the evaluation that CloudWatch documents, and what the server makes of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from local_aws import LocalAWS
from local_aws.alarms import COMPARISONS, LOOK_BACK, Point, evaluate, series, statistic
from local_aws.metric_math import MathError
from local_aws.metric_math import evaluate as calculate
from tests.local_aws.lambda_requests import Parts
from tests.local_aws.waiting import wait_for

KEPT = None  # the state that the alarm has


def alarm(**more: Any) -> dict[str, Any]:
    return {
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 0.5,
        "EvaluationPeriods": 3,
        "TreatMissingData": "missing",
    } | more


def values(text: str) -> list[float | None]:
    """Datapoints as AWS's tables write them, oldest first: X breaches, 0 does not, - is missing."""
    return [{"X": 1.0, "0": 0.0, "-": None}[each] for each in text.split()]


# The two tables of "Configuring how CloudWatch alarms treat missing data".
TABLES = [
    (3, "0 - X - X", "OK", "OK", "OK", "OK"),
    (3, "- - - - 0", "OK", "OK", "OK", "OK"),
    (3, "0 - - - -", "OK", "OK", "OK", "OK"),
    (3, "- - - - -", "INSUFFICIENT_DATA", KEPT, "ALARM", "OK"),
    (3, "0 X X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
    (3, "- - X - -", "ALARM", KEPT, "ALARM", "OK"),
    (2, "0 - X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
    (2, "0 0 X 0 X", "ALARM", "ALARM", "ALARM", "ALARM"),
    (2, "0 - X - -", "OK", "OK", "ALARM", "OK"),
    (2, "- - - - 0", "OK", "OK", "ALARM", "OK"),
    (2, "- - - X -", "ALARM", KEPT, "ALARM", "OK"),
]


@pytest.mark.parametrize(("needed", "data", "missing", "ignore", "breaching", "not_breaching"), TABLES)
def test_missing_data_is_treated_as_in_awss_tables(needed, data, missing, ignore, breaching, not_breaching):
    def state(treatment: str) -> str | None:
        return evaluate(alarm(DatapointsToAlarm=needed, TreatMissingData=treatment), values(data)).state

    assert state("missing") == missing
    assert state("ignore") == ignore
    assert state("breaching") == breaching
    assert state("notBreaching") == not_breaching


@pytest.mark.parametrize(
    ("operator", "value", "breaches"),
    [
        ("GreaterThanThreshold", 0.5, False),
        ("GreaterThanOrEqualToThreshold", 0.5, True),
        ("LessThanThreshold", 0.5, False),
        ("LessThanOrEqualToThreshold", 0.5, True),
        ("LessThanThreshold", 0.4, True),
    ],
)
def test_the_threshold_itself_breaches_where_it_is_equal_to(operator, value, breaches):
    verdict = evaluate(alarm(ComparisonOperator=operator, EvaluationPeriods=1), [None, None, value])

    assert verdict.state == ("ALARM" if breaches else "OK")


def test_the_reason_names_datapoints_and_threshold():
    fires = evaluate(alarm(EvaluationPeriods=2), [0.1, None, 0.6, 0.7])
    rests = evaluate(alarm(EvaluationPeriods=1), [None, None, 0.25])

    assert fires.reason == "Threshold Crossed: 2 datapoints [0.6, 0.7] were greater than the threshold (0.5)."
    assert rests.reason == "Threshold Crossed: 1 datapoint [0.25] was not greater than the threshold (0.5)."


alarms = st.integers(1, 5).flatmap(
    lambda periods: st.fixed_dictionaries(
        {
            "ComparisonOperator": st.sampled_from(sorted(COMPARISONS)),
            "Threshold": st.sampled_from([0.0, 0.5, 1.0]),
            "EvaluationPeriods": st.just(periods),
            "DatapointsToAlarm": st.integers(1, periods),
            "TreatMissingData": st.sampled_from(["missing", "ignore", "breaching", "notBreaching"]),
        }
    )
)
data = st.lists(st.one_of(st.none(), st.floats(-2, 2)), min_size=5 + LOOK_BACK, max_size=5 + LOOK_BACK)


def in_range(settings: dict[str, Any], points: list[float | None]) -> list[float | None]:
    return points[-(settings["EvaluationPeriods"] + LOOK_BACK) :]


@given(alarms, data)
def test_complete_data_decides_alone_and_older_data_does_not_matter(settings, points):
    periods = settings["EvaluationPeriods"]
    complete = [0.25 if each is None else each for each in points]
    compare, _ = COMPARISONS[settings["ComparisonOperator"]]
    breaching = sum(compare(each, settings["Threshold"]) for each in complete[-periods:])

    state = evaluate(settings, in_range(settings, complete)).state

    assert state == ("ALARM" if breaching >= settings["DatapointsToAlarm"] else "OK")


@given(alarms, data)
def test_a_treatment_only_matters_when_data_is_missing_and_orders_the_outcome(settings, points):
    points = in_range(settings, points)
    outcome = {
        treatment: evaluate(settings | {"TreatMissingData": treatment}, points).state
        for treatment in ("missing", "ignore", "breaching", "notBreaching")
    }

    if sum(each is not None for each in points) >= settings["EvaluationPeriods"]:
        assert len(set(outcome.values())) == 1
    # What is bad enough with missing data taken as good is bad enough however it is taken.
    if outcome["notBreaching"] == "ALARM":
        assert set(outcome.values()) == {"ALARM"}
    if outcome["breaching"] == "OK":
        assert outcome["notBreaching"] == "OK"
    assert (outcome["missing"] == "INSUFFICIENT_DATA") == all(each is None for each in points)
    assert outcome["breaching"] in ("OK", "ALARM")
    assert outcome["notBreaching"] in ("OK", "ALARM")


# --- statistics


def point(at: float, value: float, count: float = 1) -> Point:
    return Point(at, count, value * count, value, value)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 5)), min_size=1, max_size=30), st.sampled_from([50, 90, 99])
)
def test_statistics_are_those_of_the_samples(counted, percent):
    points = [point(0, value, count) for value, count in counted]
    samples = np.array([value for value, count in counted for _ in range(count)])

    assert statistic(points, "SampleCount") == len(samples)
    assert statistic(points, "Sum") == pytest.approx(samples.sum())
    assert statistic(points, "Average") == pytest.approx(samples.mean())
    assert statistic(points, "Minimum") == samples.min()
    assert statistic(points, "Maximum") == samples.max()
    assert statistic(points, f"p{percent}") == pytest.approx(np.percentile(samples, percent))


def test_there_is_no_percentile_of_statistic_sets():
    assert statistic([Point(0, count=2, total=3, low=1, high=2)], "p99") is None
    assert statistic([Point(0, count=2, total=3, low=1, high=2)], "Maximum") == 2


def test_periods_begin_with_their_first_second_and_end_before_their_last():
    points = [point(9.9, 1), point(10, 2), point(19.9, 3), point(20, 4), point(30, 5)]

    assert series(points, end=30, period=10, count=3, name="Sum") == [1, 5, 4]


# --- metric math


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("m1 / m2", [0.5, None, None]),
        ("100 * (m1 + 1)", [200, 300, None]),
        ("IF(m2 > 0, m1 / m2, 0)", [0.5, 0, None]),
        ("IF(m2 > 0 && m1 > 5, 1, -1)", [-1, -1, None]),
        ("FILL(m1, 0)", [1, 2, 0]),
        ("FILL(m1, REPEAT)", [1, 2, 2]),
        ("MAX([m1, m2])", [2, 2, 4]),
        ("SUM([m1, m2])", [3, 2, 4]),
        ("AVG([m1, m2]) >= 1.5", [1, 0, 1]),
    ],
)
def test_metric_math_is_reckoned_for_each_period(expression, expected):
    assert calculate(expression, {"m1": [1.0, 2.0, None], "m2": [2.0, 0.0, 4.0]}) == expected


@pytest.mark.parametrize("expression", ["m3 / m1", "m1 /", "ANOMALY_DETECTION_BAND(m1)", "__import__('os')", "m1.x"])
def test_what_metric_math_does_not_know_is_refused(expression):
    with pytest.raises(MathError, match="Expression"):
        calculate(expression, {"m1": [1.0]})


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1), st.sampled_from("+-*/"))
def test_metric_math_never_gives_a_number_that_is_none(points, operation):
    result = calculate(f"m1 {operation} m1", {"m1": points})

    assert len(result) == len(points)
    assert all(each is None or math.isfinite(each) for each in result)


# --- the server


DIMENSIONS = [{"Name": "EndpointName", "Value": "churn-prod"}, {"Name": "EndpointConfigName", "Value": "churn-prod-2"}]
ERRORS = {
    "Namespace": "AWS/SageMaker",
    "MetricName": "Invocation5XXErrors",
    "Dimensions": DIMENSIONS,
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 0.05,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
}


class Watched:
    """CloudWatch on a server where a minute takes a third of a second."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.metrics = parts.aws.client("cloudwatch")

    def put(self, share: float, metric: str = "Invocation5XXErrors", dimensions: Any = DIMENSIONS) -> None:
        datum = {"MetricName": metric, "Dimensions": dimensions, "Values": [0.0, 1.0]}
        datum["Counts"] = [100 - 100 * share, 100 * share]
        self.metrics.put_metric_data(Namespace="AWS/SageMaker", MetricData=[datum])

    def describe(self, name: str) -> dict[str, Any]:
        return self.metrics.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]

    def wait(self, name: str, state: str) -> dict[str, Any]:
        return wait_for(lambda: (found := self.describe(name))["StateValue"] == state and found)


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with LocalAWS(clock_speed=180) as aws:
        yield Watched(Parts(aws))


def test_an_alarm_fires_and_recovers_and_tells_topic_and_event_bus(watched):
    url, arn = watched.parts.queue("alarms")
    topics = watched.parts.aws.client("sns")
    topic = topics.create_topic(Name="alarms")["TopicArn"]
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    watched.parts.rule("alarms", {"source": ["aws.cloudwatch"], "detail": {"alarmName": ["fires"]}}, arn)
    watched.metrics.put_metric_alarm(AlarmName="fires", **ERRORS, AlarmActions=[topic])
    watched.wait("fires", "OK")
    watched.parts.received(url)

    watched.put(0.1)
    fired = watched.wait("fires", "ALARM")
    watched.wait("fires", "OK")
    messages = watched.parts.received(url, 3)
    (told,) = [each for each in messages if "AlarmName" in each]
    events = [each for each in messages if "detail" in each]

    expected = "Threshold Crossed: 1 datapoint [0.1] was greater than or equal to the threshold (0.05)."
    assert fired["StateReason"] == expected
    assert [event["detail"]["state"]["value"] for event in events] == ["ALARM", "OK"]
    assert [event["detail"]["previousState"]["value"] for event in events] == ["OK", "ALARM"]
    assert events[0]["detail-type"] == "CloudWatch Alarm State Change"
    assert events[0]["resources"] == [fired["AlarmArn"]]
    assert json.loads(events[0]["detail"]["state"]["reasonData"])["version"] == "1.0"
    (metric,) = events[0]["detail"]["configuration"]["metrics"]
    assert metric["metricStat"] == {
        "metric": {
            "namespace": "AWS/SageMaker",
            "name": "Invocation5XXErrors",
            "dimensions": {"EndpointName": "churn-prod", "EndpointConfigName": "churn-prod-2"},
        },
        "period": 60,
        "stat": "Average",
    }
    assert (told["OldStateValue"], told["NewStateValue"]) == ("OK", "ALARM")
    assert told["Region"] == "US East (N. Virginia)"
    assert told["AlarmArn"] == fired["AlarmArn"]
    trigger = told["Trigger"]
    assert (trigger["Statistic"], trigger["StatisticType"], trigger["DatapointsToAlarm"]) == ("AVERAGE", "Statistic", 1)
    assert trigger["Dimensions"][1] == {"value": "churn-prod-2", "name": "EndpointConfigName"}


def test_only_the_alarms_own_dimensions_count(watched):
    watched.metrics.put_metric_alarm(AlarmName="own", **ERRORS | {"TreatMissingData": "missing"})
    other = [DIMENSIONS[0], {"Name": "EndpointConfigName", "Value": "churn-prod-3"}]

    for _ in range(4):
        watched.put(1.0, dimensions=other)
        time.sleep(0.2)

    assert watched.describe("own")["StateValue"] == "INSUFFICIENT_DATA"


def test_a_percentile_alarm_is_in_microseconds_as_the_metric_is(watched):
    latency = ERRORS | {"MetricName": "ModelLatency", "Threshold": 500_000, "ExtendedStatistic": "p99"}
    del latency["Statistic"]
    watched.metrics.put_metric_alarm(AlarmName="p99", **latency)
    datum = {"MetricName": "ModelLatency", "Dimensions": DIMENSIONS, "Unit": "Microseconds"}

    watched.metrics.put_metric_data(
        Namespace="AWS/SageMaker", MetricData=[datum | {"Values": [20_000.0, 900_000.0], "Counts": [95.0, 5.0]}]
    )
    found = watched.wait("p99", "ALARM")

    assert found["ExtendedStatistic"] == "p99"
    assert "Statistic" not in found


def test_an_alarm_on_an_expression_fires(watched):
    def metric(identity: str, name: str) -> dict[str, Any]:
        stat = {"Metric": {"Namespace": "Modelyard", "MetricName": name}, "Period": 60, "Stat": "Sum"}
        return {"Id": identity, "MetricStat": stat, "ReturnData": False}

    expression = {"Id": "share", "Expression": "100 * x / y", "ReturnData": True}
    watched.metrics.put_metric_alarm(
        AlarmName="expression",
        Metrics=[expression, metric("x", "Bad"), metric("y", "All")],
        EvaluationPeriods=1,
        Threshold=20,
        ComparisonOperator="GreaterThanThreshold",
    )
    watched.metrics.put_metric_data(
        Namespace="Modelyard", MetricData=[{"MetricName": "Bad", "Value": 3}, {"MetricName": "All", "Value": 10}]
    )
    found = watched.wait("expression", "ALARM")

    assert [each["Id"] for each in found["Metrics"]] == ["share", "x", "y"]
    assert "[30]" in found["StateReason"]


def test_a_state_that_was_set_holds_until_the_next_evaluation_or_for_ever_when_missing_data_is_ignored(watched):
    watched.metrics.put_metric_alarm(AlarmName="set", **ERRORS | {"MetricName": "Never"})
    ignoring = ERRORS | {"MetricName": "Never", "TreatMissingData": "ignore"}
    watched.metrics.put_metric_alarm(AlarmName="abort", **ignoring)
    watched.wait("set", "OK")

    for name in ("set", "abort"):
        watched.metrics.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="rejected")
    at_once = watched.describe("set")["StateValue"], watched.describe("abort")["StateValue"]
    watched.wait("set", "OK")
    time.sleep(0.7)

    assert at_once[1] == "ALARM"
    assert watched.describe("abort")["StateValue"] == "ALARM"
    assert watched.describe("abort")["StateReason"] == "rejected"


def test_a_set_state_is_an_event_too(watched):
    url, arn = watched.parts.queue("set")
    watched.parts.rule("set", {"source": ["aws.cloudwatch"], "detail": {"alarmName": ["told"]}}, arn)
    quiet = ERRORS | {"MetricName": "Never", "TreatMissingData": "ignore", "ActionsEnabled": False}
    watched.metrics.put_metric_alarm(AlarmName="told", **quiet)

    watched.metrics.set_alarm_state(AlarmName="told", StateValue="ALARM", StateReason="rejected")
    (event,) = watched.parts.received(url)

    assert event["detail"]["state"]["reason"] == "rejected"
    assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"


def test_a_deleted_alarm_tells_nothing_more(watched):
    url, arn = watched.parts.queue("deleted")
    watched.parts.rule("deleted", {"source": ["aws.cloudwatch"], "detail": {"alarmName": ["deleted"]}}, arn)
    watched.metrics.put_metric_alarm(AlarmName="deleted", **ERRORS | {"MetricName": "Never"})
    watched.metrics.delete_alarms(AlarmNames=["deleted"])

    time.sleep(0.8)

    assert len(watched.parts.queues.receive_message(QueueUrl=url).get("Messages", [])) <= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"ComparisonOperator": "GreaterThanUpperThreshold"},
            "ComparisonOperator GreaterThanUpperThreshold is not built",
        ),
        ({"Statistic": None, "ExtendedStatistic": "tm99"}, "Statistic tm99 is not built"),
        ({"MetricName": None, "Metrics": []}, "Give either MetricName"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_when_the_alarm_is_put(watched, change, said):
    request = {name: value for name, value in (ERRORS | change).items() if value is not None}
    with pytest.raises(ClientError, match=said):
        watched.metrics.put_metric_alarm(AlarmName="refused", **request)


def test_an_expression_that_cannot_be_evaluated_is_refused_when_the_alarm_is_put(watched):
    metrics = [
        {"Id": "e1", "Expression": "SEARCH('x', 'Sum')", "ReturnData": True},
        {"Id": "m1", "ReturnData": False, "MetricStat": {"Metric": {}, "Period": 60, "Stat": "Sum"}},
    ]
    with pytest.raises(ClientError, match="SEARCH"):
        watched.metrics.put_metric_alarm(
            AlarmName="e", Metrics=metrics, EvaluationPeriods=1, ComparisonOperator="LessThanThreshold", Threshold=1
        )


def test_an_alarm_of_a_template_is_evaluated_too(watched):
    stacks = watched.parts.aws.client("cloudformation")
    properties = ERRORS | {"AlarmName": "templated", "MetricName": "Templated"}
    resources = {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}}
    stacks.create_stack(StackName="alarm", TemplateBody=json.dumps({"Resources": resources}))
    wait_for(lambda: watched.metrics.describe_alarms(AlarmNames=["templated"])["MetricAlarms"])

    watched.put(0.5, "Templated")

    assert watched.wait("templated", "ALARM")


def test_messages_that_lie_in_a_queue_raise_an_alarm(watched):
    url, _ = watched.parts.queue("failed")
    watched.metrics.put_metric_alarm(
        AlarmName="lying",
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": "failed"}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    watched.wait("lying", "OK")

    watched.parts.queues.send_message(QueueUrl=url, MessageBody="{}")

    assert watched.wait("lying", "ALARM")
