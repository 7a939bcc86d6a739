"""Schedules: when they fire by the server's clock, and what their targets get."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from local_aws import LocalAWS
from local_aws.clock import Clock
from local_aws.schedules import ExpressionError, Schedule, Schedules, next_time
from tests.local_aws.lambda_requests import Parts
from tests.local_aws.waiting import wait_for

SPEED = 600  # a minute in a tenth of a second


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with LocalAWS(clock_speed=SPEED) as aws:
        yield Parts(aws)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def no_cron(expression: str, after: datetime) -> datetime | None:
    raise ValueError(expression)


# --- times


def test_a_rate_counts_from_its_anchor():
    anchor = seconds("2026-11-21T08:00:10")

    first = next_time("rate(5 minutes)", "UTC", anchor, anchor, no_cron)
    later = next_time("rate(5 minutes)", "UTC", anchor, anchor + 301, no_cron)

    assert (first, later) == (anchor + 300, anchor + 600)


@given(st.integers(1, 100), st.sampled_from(["minute", "hours", "days"]), st.floats(0, 1e8))
def test_a_rates_next_time_is_after_now_and_no_further_than_its_interval(count, unit, elapsed):
    interval = count * {"minute": 60, "hours": 3600, "days": 86400}[unit]

    found = next_time(f"rate({count} {unit})", "UTC", 1e9, 1e9 + elapsed, no_cron)

    assert found is not None
    assert 1e9 + elapsed < found <= 1e9 + elapsed + interval
    assert (found - 1e9) % interval == 0


def test_a_cron_expression_is_read_in_its_time_zone():
    asked: list[datetime] = []

    def cron(_expression: str, after: datetime) -> datetime:
        asked.append(after)
        return after.replace(hour=12, minute=0)

    found = next_time("cron(0 12 * * ? *)", "Europe/Berlin", 0, seconds("2026-07-01T08:30:00"), cron)

    assert (asked[0].hour, asked[0].minute) == (10, 30)
    assert found == seconds("2026-07-01T10:00:00")


def test_a_one_time_schedule_has_one_time():
    at = seconds("2026-12-24T17:00:00")

    assert next_time("at(2026-12-24T18:00:00)", "Europe/Berlin", 0, at - 1, no_cron) == at
    assert next_time("at(2026-12-24T18:00:00)", "Europe/Berlin", 0, at, no_cron) is None


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("rate(1 minut)", "UTC"),
        ("rate(0 minutes)", "UTC"),
        ("daily", "UTC"),
        ("cron(bad)", "UTC"),
        ("rate(1 minute)", "Mars/Olympus"),
        ("rate(1 minute)", "/etc/passwd"),
    ],
)
def test_an_expression_or_time_zone_that_is_none_is_refused(expression, zone):
    with pytest.raises(ExpressionError, match="Invalid Schedule Expression"):
        next_time(expression, zone, 0, 0, no_cron)


# --- firing


class One:
    """A source with one schedule, which notes the times that it is fired for."""

    def __init__(self, expression: str, begin: float | None = None, end: float | None = None) -> None:
        self.fired: list[float] = []
        self.schedule = Schedule(("one",), expression, "UTC", begin, end, self.fire)

    def fire(self, at: float, delivered: Callable[[], None]) -> None:
        self.fired.append(at)
        delivered()

    def schedules(self) -> list[Schedule]:
        return [self.schedule]

    def next_cron(self, expression: str, after: datetime) -> datetime | None:
        return no_cron(expression, after)


def run(source: Any, clock: Clock, done: Callable[[], Any]) -> None:
    schedules = Schedules(source, clock)
    schedules.start()
    try:
        wait_for(done)
    finally:
        schedules.stop()


def test_a_schedule_fires_every_interval_of_the_clock():
    one, clock = One("rate(1 minute)"), Clock(240)
    lateness: list[float] = []

    def fire(at: float, delivered: Callable[[], None]) -> None:
        lateness.append(clock.seconds(clock.now() - at))
        one.fired.append(at)

    one.schedule = dataclasses.replace(one.schedule, fire=fire)

    run(one, clock, lambda: len(one.fired) >= 5)

    assert {round(later - earlier) for earlier, later in zip(one.fired, one.fired[1:], strict=False)} == {60}
    assert min(lateness) >= 0
    assert sorted(lateness)[2] < 0.05  # seconds; the median, since this machine may be busy


def test_moving_the_clock_over_several_times_fires_once_for_the_last():
    clock = Clock(1)
    one = One("rate(1 hour)")
    begun = clock.now()
    schedules = Schedules(one, clock)
    schedules.start()
    time.sleep(0.1)

    clock.advance(5.5 * 3600)
    wait_for(lambda: one.fired)
    time.sleep(0.1)
    schedules.stop()

    assert len(one.fired) == 1
    assert one.fired[0] - begun == pytest.approx(5 * 3600, abs=1)


def test_what_was_due_when_the_server_ended_and_what_became_due_since_fires_once_after_a_restart():
    clock = Clock(1)
    kept: dict[str, Any] = {}
    one = One("rate(1 hour)")
    one.schedule = dataclasses.replace(one.schedule, fire=lambda at, _: one.fired.append(at))  # it is never delivered
    begun = clock.now()
    first = Schedules(one, clock, kept)
    first.start()
    time.sleep(0.1)
    clock.advance(1.5 * 3600)
    wait_for(lambda: one.fired)
    first.stop()
    clock.advance(3600)

    again = One("rate(1 hour)")
    second = Schedules(again, clock, kept)
    second.start()
    wait_for(lambda: again.fired)
    time.sleep(0.1)
    second.stop()

    assert [round(at - begun) for at in again.fired] == [2 * 3600]


def test_what_was_delivered_does_not_fire_again_after_a_restart():
    clock = Clock(1)
    kept: dict[str, Any] = {}
    one = One("rate(1 hour)")
    for _ in range(2):
        schedules = Schedules(one, clock, kept)
        schedules.start()
        time.sleep(0.1)
        clock.advance(1.1 * 3600)
        time.sleep(0.2)
        schedules.stop()

    assert len(one.fired) == 2
    assert round(one.fired[1] - one.fired[0]) == 3600


def test_a_schedule_fires_only_between_its_bounds():
    clock = Clock(240)
    begin = clock.now() + 60
    one = One("rate(1 minute)", begin, begin + 200)

    schedules = Schedules(one, clock)
    schedules.start()
    time.sleep(1.6)
    schedules.stop()

    assert [round(at - begin) for at in one.fired] == [60, 120, 180]


def test_a_schedule_that_fails_is_tried_at_its_next_time():
    one = One("rate(1 minute)")

    def fail(at: float, _: Callable[[], None]) -> None:
        one.fired.append(at)
        raise RuntimeError("no")

    one.schedule = Schedule(("one",), "rate(1 minute)", "UTC", None, None, fail)

    run(one, Clock(600), lambda: len(one.fired) >= 3)


# --- the server


def test_a_rule_with_a_rate_sends_its_input_every_interval(parts):
    url, arn = parts.queue("every")
    parts.events.put_rule(Name="every", ScheduleExpression="rate(5 minutes)")
    parts.events.put_targets(Rule="every", Targets=[{"Id": "q", "Arn": arn, "Input": '{"look": "everything"}'}])

    times = []
    for _ in range(4):
        assert parts.received(url) == [{"look": "everything"}]
        times.append(time.monotonic())
    parts.events.disable_rule(Name="every")

    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    assert gaps[1] == pytest.approx(300 / SPEED, abs=0.2)


def test_a_disabled_rule_sends_nothing_more(parts):
    url, arn = parts.queue("disabled")
    parts.events.put_rule(Name="disabled", ScheduleExpression="rate(1 minute)")
    parts.events.put_targets(Rule="disabled", Targets=[{"Id": "q", "Arn": arn}])
    event = parts.received(url)[0]
    parts.events.disable_rule(Name="disabled")
    time.sleep(0.3)
    while not parts.is_empty(url):
        parts.queues.purge_queue(QueueUrl=url)

    time.sleep(0.4)

    assert parts.is_empty(url)
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})


def create(parts: Parts, name: str, expression: str, target: dict[str, Any], **more: Any) -> None:
    parts.aws.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target | {"RoleArn": parts.role},
        **more,
    )


def test_a_schedule_invokes_its_function_and_names_the_time_that_it_is_for(parts, tmp_path):
    seen = tmp_path / "seen"
    seen.touch()
    source = f"def handler(event, context): open({str(seen)!r}, 'a').write(event['at'] + ' ')"
    function = parts.function("batch", source)
    text = json.dumps({"at": "<aws.scheduler.scheduled-time>", "by": "<aws.scheduler.schedule-arn>"})
    create(parts, "batch", "cron(0/15 * * * ? *)", {"Arn": function, "Input": text})

    wait_for(lambda: len(seen.read_text().split()) >= 3)
    parts.aws.client("scheduler").delete_schedule(Name="batch")
    times = [datetime.strptime(each, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for each in seen.read_text().split()]

    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {timedelta(minutes=15)}
    assert {(each.minute % 15, each.second) for each in times} == {(0, 0)}


def test_what_a_schedule_cannot_deliver_goes_to_its_dead_letters(parts):
    url, arn = parts.queue("undelivered")
    gone = f"arn:aws:lambda:us-east-1:{parts.aws.server.account}:function:gone"
    target = {"Arn": gone, "Input": '{"a": 1}', "DeadLetterConfig": {"Arn": arn}}
    create(parts, "undelivered", "rate(1 minute)", target)

    message = wait_for(
        lambda: parts.queues.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages")
    )[0]
    parts.aws.client("scheduler").delete_schedule(Name="undelivered")

    attributes = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
    assert json.loads(message["Body"]) == {"a": 1}
    assert attributes["TARGET_ARN"] == gone
    assert attributes["ERROR_CODE"] == "ResourceNotFoundException"
    assert attributes["SCHEDULE_ARN"].endswith(":schedule/default/undelivered")


def test_a_one_time_schedule_deletes_itself_when_asked_to(parts):
    url, arn = parts.queue("once")
    now = parts.aws.configure("clock", {"advance": 0})["now"]
    at = datetime.fromtimestamp(now + 600, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    create(parts, "once", f"at({at})", {"Arn": arn, "Input": '"now"'}, ActionAfterCompletion="DELETE")

    assert parts.received(url) == ["now"]
    names = [each["Name"] for each in parts.aws.client("scheduler").list_schedules()["Schedules"]]
    assert "once" not in names


def test_moving_the_clock_lets_a_daily_schedule_fire(parts):
    url, arn = parts.queue("daily")
    create(parts, "daily", "rate(30 days)", {"Arn": arn, "Input": '"daily"'})
    time.sleep(0.2)

    parts.aws.configure("clock", {"advance": 30 * 86400})

    assert parts.received(url) == ["daily"]


@pytest.mark.parametrize(("expression", "zone"), [("rate(1 minut)", "UTC"), ("cron(0 3 * * ? *)", "Mars/Olympus")])
def test_a_schedule_that_could_never_fire_is_refused(parts, expression, zone):
    with pytest.raises(ClientError, match=r"ValidationException.*Invalid Schedule Expression"):
        create(parts, "never", expression, {"Arn": "arn:aws:sqs:us-east-1:1:q"}, ScheduleExpressionTimezone=zone)
