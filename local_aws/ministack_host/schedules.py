"""Schedules of EventBridge's rules and of EventBridge Scheduler.

Touches: where `eventbridge` and `scheduler` keep them, and their own schedulers, which are switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from local_aws.loopback import Loopback
from local_aws.ministack_host.app import requested_from
from local_aws.ministack_host.forwarded import Forwarded
from local_aws.permissions.forwarded import SCHEDULER, schedule_group_arn
from local_aws.schedules import ExpressionError, Schedule, next_time, send_scheduled
from local_aws.store import Scope

logger = logging.getLogger(__name__)


class SchedulesOfMiniStack:
    """Schedules of EventBridge's rules and of EventBridge Scheduler, as local_aws.schedules wants them (its Source)."""

    def __init__(self, loopback: Loopback, loop: asyncio.AbstractEventLoop, forwarded: Forwarded) -> None:
        from ministack.services import eventbridge, scheduler

        self._forwarded = forwarded
        self._eventbridge = eventbridge
        self._scheduler = scheduler
        self._loopback = loopback
        self._loop = loop

    def schedules(self) -> list[Schedule]:
        found = []
        for (account, region, name), rule in self._eventbridge._rules.all_items():
            if rule.get("State") == "ENABLED" and rule.get("ScheduleExpression"):
                scope, key = Scope(account, region), ("rule", account, region, name)
                fire = functools.partial(self._fire_rule, scope, name, rule)
                found.append(Schedule(key, rule["ScheduleExpression"], "UTC", None, None, fire))
        for (account, region, name), schedule in self._scheduler._schedules.all_items():
            if schedule.get("State") == "ENABLED":
                begin, end = (self._scheduler._to_epoch(schedule.get(bound)) for bound in ("StartDate", "EndDate"))
                scope, key = Scope(account, region), ("schedule", account, region, name)
                fire = functools.partial(self._fire_schedule, scope, name, schedule)
                zone = schedule.get("ScheduleExpressionTimezone") or "UTC"
                found.append(Schedule(key, schedule["ScheduleExpression"], zone, begin, end, fire))
        return found

    def next_cron(self, expression: str, after: datetime) -> datetime | None:
        fields = self._eventbridge._parse_cron_fields(expression)
        if fields is None:
            raise ValueError(f"{expression} is no cron expression")
        return self._eventbridge._cron_next_fire(fields, after)

    def take_over(self) -> None:
        """Let MiniStack fire nothing itself, and refuse schedules of EventBridge Scheduler that could never fire."""
        scheduler = self._scheduler
        create, update = scheduler._create_schedule, scheduler._update_schedule

        def checked(change: Callable[..., Any]) -> Callable[..., Any]:
            def check_and_change(name: str, body: dict[str, Any]) -> Any:
                zone = body.get("ScheduleExpressionTimezone") or "UTC"
                try:
                    next_time(body.get("ScheduleExpression", ""), zone, 0.0, 0.0, self.next_cron)
                except ExpressionError as error:
                    return scheduler._error(400, "ValidationException", str(error))
                return change(name, body)

            return check_and_change

        self._eventbridge.start_scheduler = scheduler.start_scheduler = lambda: None
        scheduler._create_schedule, scheduler._update_schedule = checked(create), checked(update)

    def _fire_rule(
        self, scope: Scope, name: str, rule: dict[str, Any], at: float, delivered: Callable[[], None]
    ) -> None:
        def send() -> None:
            self._send_to_targets(scope, name, rule, at)
            delivered()

        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(send)

    def _send_to_targets(self, scope: Scope, name: str, rule: dict[str, Any], at: float) -> None:
        event = {
            "EventId": str(uuid.uuid4()),
            "Source": "aws.events",
            "DetailType": "Scheduled Event",
            "Detail": "{}",
            "EventBusName": "default",
            "Time": int(at),
            "Resources": [rule["Arn"]],
            "Account": scope.account,
            "Region": scope.region,
        }
        with requested_from(scope):
            for target in self._eventbridge._targets.get(name) or []:
                self._eventbridge._invoke_target(target, event, rule)

    def _fire_schedule(
        self, scope: Scope, name: str, schedule: dict[str, Any], at: float, delivered: Callable[[], None]
    ) -> None:
        def send() -> None:
            source = schedule_group_arn(scope, schedule["GroupName"])
            if self._forwarded.trusts(scope, schedule["Target"]["RoleArn"], SCHEDULER, source):
                send_scheduled(self._loopback, scope, schedule["Arn"], schedule["Target"], at)
            else:  # its dead letters, too, are sent as that role
                logger.warning("Schedule %s sends nothing: its role does not let %s assume it", name, SCHEDULER)
            # Now and not before: should the server end meanwhile, it fires again.
            if schedule["ScheduleExpression"].startswith("at(") and schedule.get("ActionAfterCompletion") == "DELETE":
                self._scheduler._schedules.pop_scoped(scope.account, scope.region, name, None)
            delivered()

        # Not in the thread that reckons the times: a target may be slow to take it.
        threading.Thread(target=send, daemon=True, name=f"schedule {name}").start()
