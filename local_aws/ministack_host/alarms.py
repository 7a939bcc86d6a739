"""CloudWatch's metrics and alarms.

Touches: where `cloudwatch` keeps alarms and points, and its own evaluation, which is switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from local_aws.alarms import Point, State, fault
from local_aws.clock import Clock
from local_aws.ministack_host.app import before_first_request, request_scope, requested_from
from local_aws.ministack_host.forwarded import Forwarded
from local_aws.store import Scope

logger = logging.getLogger(__name__)


class AlarmsOfMiniStack:
    """CloudWatch's metrics and alarms, as local_aws.alarms wants them (its CloudWatch)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, forwarded: Forwarded) -> None:
        from ministack.services import cloudwatch

        self._cloudwatch = cloudwatch
        self._forwarded = forwarded
        self._loop = loop
        self._speed = clock.speed

    def alarms(self) -> list[tuple[Scope, dict[str, Any]]]:
        items = self._cloudwatch._alarms.all_items()
        return [(Scope(account, region), alarm) for (account, region, _), alarm in items]

    def points(self, scope: Scope, metric: Mapping[str, Any], unit: str | None, since: float) -> list[Point]:
        dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions") or []}
        key = (metric["Namespace"], metric["MetricName"], self._cloudwatch._dims_key(dimensions))
        kept = self._cloudwatch._metrics.get_scoped(scope.account, scope.region, key) or []
        return [
            Point(point["Timestamp"], *self._cloudwatch._point_stats(point))
            for point in list(kept)
            if point["Timestamp"] >= since and unit in (None, point["Unit"])
        ]

    def measure(self) -> None:
        self._on_loop(self._measure_queues)

    def set_state(self, scope: Scope, alarm: dict[str, Any], state: State, reason: str) -> None:
        self._on_loop(self._set_state, scope, alarm, state, reason)

    def publish(self, scope: Scope, alarm: str, topic: str, subject: str, message: str) -> None:
        # At once, on the event loop already: the alarm's new state and its notification are then written together.
        self._publish(scope, alarm, topic, subject, message)

    def tell_changes(self, tell: Callable[[Scope, dict[str, Any], State, State, str], None]) -> None:
        """Let `tell` be called for each change of an alarm's state; nothing is evaluated by MiniStack any more."""
        cloudwatch = self._cloudwatch
        put, evict = cloudwatch._put_metric_alarm, cloudwatch._evict_old_metrics
        last_eviction = 0.0

        def dispatch(alarm: dict[str, Any], before: State, state: State, reason: str) -> None:
            tell(request_scope(), alarm, before, state, reason)

        def put_alarm(query: Any, request: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
            if is_cbor or is_json:
                message = fault({"Statistic": None, **request})
            else:
                message = "local_aws takes alarms in the JSON and CBOR protocols only, which boto3 and the CLI speak."
            if message:
                return cloudwatch._error("ValidationError", message, 400, use_json=is_json, use_cbor=is_cbor)
            answer = put(query, request, is_cbor, is_json)
            if answer[0] == 200:
                complete(cloudwatch._alarms[request["AlarmName"]], request)
            return answer

        def check_in_templates() -> None:
            from ministack.services.cloudformation import provisioners

            record = provisioners._cw_metric_alarm_record

            def record_from_template(name: str, properties: dict[str, Any]) -> Any:
                if message := fault({"Statistic": None, **properties}):
                    raise ValueError(message)
                alarm = record(name, properties)
                complete(alarm, properties)
                return alarm

            provisioners._cw_metric_alarm_record = record_from_template

        def complete(alarm: dict[str, Any], request: dict[str, Any]) -> None:
            if request.get("Metrics"):
                alarm["Metrics"] = request["Metrics"]
                for name in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period"):
                    alarm[name] = None
            elif alarm.get("ExtendedStatistic"):
                alarm["Statistic"] = None

        def evict_sometimes() -> None:
            nonlocal last_eviction
            if time.monotonic() - last_eviction > 60:  # it goes through every point, at each request
                last_eviction = time.monotonic()
                evict()

        cloudwatch._evaluate_alarm = lambda _alarm: None
        cloudwatch._evaluate_all_alarms = lambda: None
        cloudwatch._dispatch_alarm_actions = dispatch
        cloudwatch._put_metric_alarm = put_alarm
        cloudwatch._evict_old_metrics = evict_sometimes
        before_first_request("cloudformation", check_in_templates)

    def _set_state(self, scope: Scope, alarm: dict[str, Any], state: State, reason: str) -> None:
        cloudwatch = self._cloudwatch
        with requested_from(scope):
            before = alarm["StateValue"]
            if cloudwatch._alarms.get(alarm["AlarmName"]) is not alarm or before == state:
                return  # deleted, replaced or set meanwhile
            now = int(time.time())
            alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=now)
            alarm["StateTransitionedTimestamp"] = now
            cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
            cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
            cloudwatch._evaluate_parent_alarms(alarm)

    def _measure_queues(self) -> None:
        from ministack.services import sqs

        now = time.time()
        for (account, region, _), queue in sqs._queues.all_items():
            messages = queue["messages"]
            visible = [message for message in messages if message["visible_at"] <= now]
            oldest = max((now - message["sent_at"] for message in messages), default=0.0)
            measured = {
                "ApproximateNumberOfMessagesVisible": (len(visible), "Count"),
                "ApproximateNumberOfMessagesNotVisible": (len(messages) - len(visible), "Count"),
                "ApproximateAgeOfOldestMessage": (oldest * self._speed, "Seconds"),
            }
            with requested_from(Scope(account, region)):
                for metric, (value, unit) in measured.items():
                    dimensions = {"QueueName": queue["name"]}
                    self._cloudwatch.record_metric("AWS/SQS", metric, value, unit, dimensions)

    def _publish(self, scope: Scope, alarm: str, topic: str, subject: str, message: str) -> None:
        from ministack.services import sns

        with requested_from(scope):
            if refusal := self._forwarded.delivery_fault(scope, "cloudwatch.amazonaws.com", topic, alarm):
                logger.warning("The notification of %s is lost: %s", alarm, refusal)
            elif sns.publish_internal(topic, message, subject) is None:
                logger.warning("There is no topic %s: an alarm's notification is lost", topic)

    def _on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(function, *arguments)
