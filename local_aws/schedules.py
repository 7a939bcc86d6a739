"""Schedules of EventBridge rules and of EventBridge Scheduler, by the server's clock.

Times are the clock's: an hourly schedule fires each minute at speed 60, and the time that it fires for is an hour later
each time. When the clock is moved over several of a schedule's times at once, it fires once, for the last of them.
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import functools
import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.clock import Clock
from local_aws.invocations import send
from local_aws.loopback import Loopback
from local_aws.store import Scope

LOOK_EVERY = 0.05  # seconds of the wall clock between two looks for schedules that were made or changed
UNITS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
UNIVERSAL = re.compile(r"arn:aws[\w-]*:scheduler:::aws-sdk:(?P<service>[\w-]+):(?P<action>\w+)")
AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")

logger = logging.getLogger(__name__)

# The first time after a given one that a cron(...) expression names, in its own time zone; None when there is none.
NextCron = Callable[[str, datetime], datetime | None]


# What a schedule's times depend on, when its counting began, and its next time.
Times = tuple[tuple[Any, ...], float, float | None]


class ExpressionError(ValueError):
    """A schedule expression or time zone that AWS would refuse."""


@dataclass(frozen=True)
class Schedule:
    """One schedule, as far as its times go.

    Args:
        key: apart from every other schedule's.
        begin, end: the clock's seconds since the epoch between which it fires, None for no bound.
        fire: is called with the time that it fires for, in seconds since the epoch, and with what it calls in turn
            when that is delivered.
    """

    key: tuple[str, ...]
    expression: str
    timezone: str
    begin: float | None
    end: float | None
    fire: Callable[[float, Callable[[], None]], None]


class Source(Protocol):
    """Where schedules are kept (local_aws.ministack_host)."""

    def schedules(self) -> list[Schedule]: ...

    def next_cron(self, expression: str, after: datetime) -> datetime | None: ...


def next_time(expression: str, timezone: str, anchor: float, after: float, next_cron: NextCron) -> float | None:
    """The first time of a schedule after `after`, in seconds since the epoch; None when there is none.

    Args:
        expression: rate(5 minutes), cron(0 12 * * ? *) or at(2026-12-24T18:00:00).
        timezone: of cron and at expressions, such as "Europe/Berlin".
        anchor: when a rate's counting began.

    Raises:
        ExpressionError: the expression or the time zone is none.
    """
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:  # which of them depends on what is wrong with the name
        raise ExpressionError(f"Invalid Schedule Expression Timezone {timezone}.") from error
    if match := RATE.fullmatch(expression):
        interval = int(match[1]) * UNITS[match[2]]
        if not interval:
            raise ExpressionError(f"Invalid Schedule Expression {expression}.")
        return anchor + (max(0.0, after - anchor) // interval + 1) * interval
    if match := AT.fullmatch(expression):
        at = datetime.fromisoformat(match[1]).replace(tzinfo=zone).timestamp()
        return at if at > after else None
    # The parser reckons in UTC: it is given the zone's wall clock, and what it answers is read as that again.
    local = datetime.fromtimestamp(after, zone).replace(tzinfo=UTC)
    try:
        found = next_cron(expression, local)
    except ValueError as error:
        raise ExpressionError(f"Invalid Schedule Expression {expression}.") from error
    return None if found is None else found.replace(tzinfo=zone).timestamp()


class Schedules:
    """Fires schedules at their times.

    Args:
        source: the schedules.
        clock: the time that they go by.
        kept: remembers up to where each was delivered: what was due when the server ended, and what has become due
            until it started again, fires then, once for each schedule.
    """

    def __init__(self, source: Source, clock: Clock, kept: MutableMapping[str, Any] | None = None) -> None:
        self._source = source
        self._clock = clock
        self._kept = {} if kept is None else kept
        self._known: dict[tuple[str, ...], Times] = {
            tuple(json.loads(key)): (tuple(settings), anchor, due)
            for key, (settings, anchor, due) in self._kept.items()
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="schedules")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = min(LOOK_EVERY, self._clock.seconds(self._look(self._clock.now())))
            except Exception:
                logger.exception("Schedules could not be looked at")
                wait = LOOK_EVERY

    def _look(self, now: float) -> float:
        """Fire what is due; returns the clock's seconds until the next is."""
        schedules = self._source.schedules()
        before, self._known = self._known, {each.key: self._times(each, now) for each in schedules}
        for schedule in schedules:
            if before.get(schedule.key) != self._known[schedule.key]:
                self._keep(schedule.key, self._known[schedule.key])
        for key in before.keys() - self._known.keys():
            self._kept.pop(json.dumps(key), None)
        left = float("inf")
        for schedule in schedules:
            settings, anchor, due = self._known[schedule.key]
            if due is not None and due <= now:
                last = due
                # Moved over several: the last of them.
                while (following := self._next(schedule, anchor, last)) is not None and following <= now:
                    last = following
                due = following
                self._known[schedule.key] = (settings, anchor, due)
                if _within(last, schedule.begin, schedule.end):
                    self._fire(schedule, last)
                else:
                    self._keep(schedule.key, self._known[schedule.key])
            if due is not None:
                left = min(left, due - now)
        return max(0.0, left)

    def _keep(self, key: tuple[str, ...], times: Times) -> None:
        self._kept[json.dumps(key)] = times

    def _times(self, schedule: Schedule, now: float) -> Times:
        settings = (schedule.expression, schedule.timezone, schedule.begin, schedule.end)
        known = self._known.get(schedule.key)
        if known is not None and known[0] == settings:
            return known
        anchor = now if schedule.begin is None else max(now, schedule.begin)
        return settings, anchor, self._next(schedule, anchor, now)

    def _next(self, schedule: Schedule, anchor: float, after: float) -> float | None:
        try:
            return next_time(schedule.expression, schedule.timezone, anchor, after, self._source.next_cron)
        except ExpressionError as error:
            logger.warning("Schedule %s never fires: %s", schedule.key, error)
            return None

    def _fire(self, schedule: Schedule, at: float) -> None:
        try:
            schedule.fire(at, functools.partial(self._delivered, schedule.key, self._known[schedule.key]))
        except Exception:
            logger.exception("Schedule %s failed", schedule.key)

    def _delivered(self, key: tuple[str, ...], times: Times) -> None:
        known = self._known.get(key)
        if known is not None and known[:2] == times[:2]:  # it is still there, and the same
            self._keep(key, times)


def _within(at: float, begin: float | None, end: float | None) -> bool:
    return (begin is None or at >= begin) and (end is None or at <= end)


def send_scheduled(loopback: Loopback, scope: Scope, arn: str, target: dict[str, Any], at: float) -> None:
    """Send what a schedule sends, as its role; what the target refuses goes to its dead-letter queue.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html

    Args:
        arn: the schedule's.
        target: its Target.
        at: the time that it fires for, in seconds since the epoch.
    """
    time_text, execution = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), str(uuid.uuid4())
    event = {
        "version": "0",
        "id": execution,
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": scope.account,
        "time": time_text,
        "region": scope.region,
        "resources": [arn],
        "detail": "{}",
    }
    text = target.get("Input") or json.dumps(event)
    context = {"schedule-arn": arn, "scheduled-time": time_text, "execution-id": execution, "attempt-number": "1"}
    for name, value in context.items():
        text = text.replace(f"<aws.scheduler.{name}>", value)
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    try:
        if target["Arn"].split(":")[2] == "sagemaker":
            _start_pipeline(loopback, scope, target)
        elif universal := UNIVERSAL.fullmatch(target["Arn"]):
            _call(loopback, scope, universal["service"], universal["action"], body, target["RoleArn"])
        else:
            send(loopback, scope, target["Arn"], body, {}, target["RoleArn"])
    except (ClientError, BotoCoreError, ValueError) as error:
        logger.warning("Schedule %s could not send to %s: %s", arn, target["Arn"], error)
        letters = (target.get("DeadLetterConfig") or {}).get("Arn")
        if letters:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            attributes = {
                "SCHEDULE_ARN": arn,
                "TARGET_ARN": target["Arn"],
                "SCHEDULED_TIME": time_text,
                "EXECUTION_ID": execution,
                "ERROR_CODE": code,
                "ERROR_MESSAGE": str(error)[:1024],
                "RETRY_ATTEMPTS": "0",
            }
            try:
                send(loopback, scope, letters, body, attributes, target["RoleArn"])
            except ClientError as lost:
                logger.warning("What schedule %s could not send is lost: %s", arn, lost)


def _call(loopback: Loopback, scope: Scope, service: str, action: str, request: Any, role: str) -> None:
    """https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html

    Raises:
        ValueError: there is no such action, or its request is no JSON object.
    """
    client = loopback.client(service, scope, role)
    method = getattr(client, xform_name(action), None)
    if method is None or not isinstance(request, dict):
        raise ValueError(f"{service}:{action} with {request!r} is no call of AWS's API.")
    method(**request)


def _start_pipeline(loopback: Loopback, scope: Scope, target: dict[str, Any]) -> None:
    """https://docs.aws.amazon.com/scheduler/latest/APIReference/API_SageMakerPipelineParameters.html"""
    parameters = (target.get("SageMakerPipelineParameters") or {}).get("PipelineParameterList") or []
    client = loopback.client("sagemaker", scope, target["RoleArn"])
    client.start_pipeline_execution(PipelineName=target["Arn"].rpartition("/")[2], PipelineParameters=parameters)
