"""Metrics in log lines, as CloudWatch's embedded metric format has them; and which the controller writes when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock, patch

import pytest

from lifecycle_lambdas import context, converge, log, looking, metrics, retries
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.handlers import commit_status, deploy, endpoint_tests
from lifecycle_lambdas.records import Entry
from servicecatalog import account
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE
from tests.lifecycle_lambdas.simulated_aws import refusal
from tests.lifecycle_lambdas.simulated_platform import Platform
from tests.servicecatalog import template

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def directives(line: dict[str, Any]) -> list[tuple[str, tuple[str, ...], float]]:
    """Name, dimensions' values and value of every metric that CloudWatch reads in the line.

    CloudWatch user guide, "Specification: Embedded metric format": each name and dimension is a member of the root.
    """
    found = []
    for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
        assert directive["Namespace"] == metrics.NAMESPACE
        assert isinstance(line["_aws"]["Timestamp"], int)
        for dimensions in directive["Dimensions"]:
            assert all(isinstance(line[name], str) for name in dimensions)
            values = tuple(line[name] for name in dimensions)
            for metric in directive["Metrics"]:
                assert metric["Unit"] in ("Count", "Seconds")
                found.append((metric["Name"], values, line[metric["Name"]]))
    return found


def ages(lines: list[dict[str, Any]]) -> list[float]:
    return [value for line in lines for name, _, value in directives(line) if name == metrics.UNFINISHED]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The controller's log lines, as JSON."""
    written: list[dict[str, Any]] = []

    def note(message: str, level: str = "INFO", **fields: Any) -> None:
        written.append(json.loads(json.dumps({"message": message, **fields}, default=str)))

    with ExitStack() as patched:
        for module in (context, converge, looking):
            patched.enter_context(patch.object(module, "log", note))
        yield written


def test_a_value_is_a_member_of_the_line_with_its_time_in_milliseconds() -> None:
    line = metrics.embedded("Messages", 1, "Count", AT, Kind="deployed")
    assert directives(line) == [("Messages", ("deployed",), 1)]
    assert line["_aws"]["Timestamp"] == 1795248000000


def test_every_message_is_counted_by_its_kind_once(lines: list[dict[str, Any]]) -> None:
    platform = Platform()
    with platform.installed():
        version = platform.register(ALL_AT_ONCE)
        platform.approve(version)
        platform.run()
        platform.pass_time(1300)
    counted = [one for line in lines for one in directives(line) if one[0] == metrics.MESSAGES]
    assert counted == [(metrics.MESSAGES, ("approved",), 1), (metrics.MESSAGES, ("deployed",), 1)]


def test_every_deployment_that_begins_is_counted_and_whether_it_goes_back(lines: list[dict[str, Any]]) -> None:
    platform = Platform()
    with platform.installed():
        first, second = platform.register(ALL_AT_ONCE), platform.register(ALL_AT_ONCE)
        for version in (first, second):
            platform.approve(version)
            platform.run()
        platform.command("go-back", first)
        platform.run()
    counted = [one[1] for line in lines for one in directives(line) if one[0] == metrics.DEPLOYMENTS]
    assert counted == [("approve",), ("approve",), ("go-back",)]


def test_while_a_deployment_is_under_way_its_age_is_written_every_minute_and_not_after_it(
    lines: list[dict[str, Any]],
) -> None:
    platform = Platform()
    with platform.installed():
        platform.held = True
        platform.approve(platform.register(ALL_AT_ONCE))
        platform.pass_time(310)
        found = ages(lines)
        assert found == sorted(found)
        assert len(found) >= 5
        assert 240 <= found[-1] <= 310
        platform.held = False
        platform.run()
        lines.clear()
        platform.pass_time(1300)
    assert ages(lines) == []


@pytest.mark.parametrize("kind", ["park", "remove"])
def test_so_is_the_age_of_what_cannot_be_taken_away(lines: list[dict[str, Any]], kind: str) -> None:
    platform = Platform()
    with platform.installed():
        platform.approve(platform.register(ALL_AT_ONCE))
        platform.run()
        platform.outage_allowed = True
        denied = refusal("DeleteEndpoint", "AccessDeniedException", "not authorized to perform this")
        platform.aws.standing = lambda service, operation, request: denied if operation == "DeleteEndpoint" else None
        lines.clear()
        platform.command(kind, None)
        platform.pass_time(310)
    assert 240 <= max(ages(lines)) <= 310


def test_a_park_of_the_controllers_has_its_age_since_it_was_decided_and_not_since_the_endpoint_was_idle(
    lines: list[dict[str, Any]],
) -> None:
    platform = Platform()
    with platform.installed():
        platform.approve(platform.register(ALL_AT_ONCE))
        platform.run()
        idle_since = platform.clock.now().replace(microsecond=0)
        platform.pass_time(7200)
        platform.outage_allowed = True
        denied = refusal("DeleteEndpoint", "AccessDeniedException", "not authorized to perform this")
        platform.aws.standing = lambda service, operation, request: denied if operation == "DeleteEndpoint" else None
        lines.clear()
        platform.write(Entry(platform.endpoint, "park", idle_since, None, "modelyard", "idle", "controller"))
        platform.pass_time(310)
    assert 240 <= max(ages(lines)) <= 310


def test_so_is_the_age_of_an_approval_whose_stage_file_may_not_be_read(lines: list[dict[str, Any]]) -> None:
    platform = Platform()
    with platform.installed():
        denied = refusal("GetObject", "AccessDenied", "not authorized to perform s3:GetObject")
        platform.aws.standing = lambda service, operation, request: denied if operation == "GetObject" else None
        platform.approve(platform.register(ALL_AT_ONCE))
        platform.pass_time(310)
    assert 240 <= max(ages(lines)) <= 312


def failing(seconds: float, now: datetime = AT) -> dict[str, Any]:
    """A record of a message that was tried first so long before."""
    first = str(int((now.timestamp() - seconds) * 1000))
    return {"attributes": {"ApproximateReceiveCount": "3", "ApproximateFirstReceiveTimestamp": first}}


@pytest.mark.parametrize(
    ("records", "seconds"),
    [
        ([failing(0)], 0),
        ([failing(250.5)], 250.5),
        ([failing(20), failing(900), failing(0)], 900),
        ([failing(-3)], 0),  # SQS's clock is ahead of the function's
        ([{"attributes": {"ApproximateFirstReceiveTimestamp": "today"}}], 0),
        ([{"attributes": {"ApproximateReceiveCount": "1"}}], 0),
        ([{}], 0),
        ([], 0),
    ],
)
def test_a_failure_is_counted_with_the_time_since_its_messages_were_tried_first(
    records: list[dict[str, Any]], seconds: float
) -> None:
    assert directives(retries.counted("deploy", AT, *records)) == [(metrics.FAILING, ("deploy",), seconds)]


RETRYING = {
    alarm["AlarmName"]: alarm
    for alarm in (one["Properties"] for one in template.load(account.TEMPLATE)["Resources"].values())
    if str(alarm.get("AlarmName", "")).endswith("-retrying")
}


@pytest.mark.parametrize("handler", [deploy, endpoint_tests, commit_status])
def test_the_platforms_alarm_watches_what_a_function_writes_of_a_message_that_it_fails_at(
    handler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    records = [{"messageId": "m1", "receiptHandle": "r1", "body": "{", **failing(700, now)}]
    if handler is commit_status:
        given = commit_status.Surroundings(MagicMock(), "queue", MagicMock(), MagicMock())
        answer = commit_status.respond(given, records)
    else:
        context_ = Context(MagicMock(), MagicMock(), MagicMock(), "request-1", float("inf"), lambda: now)
        answer = handler.respond(context_, {"Records": records})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}

    (line,) = (json.loads(text) for text in capsys.readouterr().err.splitlines())
    (found,) = directives(line)
    alarm = RETRYING[f"modelyard-{handler.FUNCTION}-retrying"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (metrics.NAMESPACE, found[0])
    (dimensions,) = line["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    assert alarm["Dimensions"] == [{"Name": name, "Value": line[name]} for name in dimensions]
    assert found[2] > alarm["Threshold"]
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Maximum", "GreaterThanThreshold")


def test_a_message_is_not_shown_as_a_metric_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line what is only news to a log is hidden."""
    with patch.object(log, "_hidden", {"INFO"}):
        log.log("told", **metrics.embedded("Messages", 1, "Count", AT, Kind="deployed"))
    assert capsys.readouterr().err == ""
