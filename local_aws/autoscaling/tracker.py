"""The thread that scales: reads each policy's metric once in a minute of AWS's time, and sets capacities.

Minutes are those of the wall clock, as long as the clock's speed makes them, since metrics have its time stamps. Moving
the clock forward ends cooldowns, and lets no minutes pass.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from local_aws.autoscaling.metrics import metric_of, value_between
from local_aws.autoscaling.state import CONCURRENCY, NOUNS, State, Variant, now, variant_of
from local_aws.autoscaling.target_tracking import HIGH, MINUTES_KEPT, Past, Tracking, alarm, decide
from local_aws.clock import Clock
from local_aws.loopback import Loopback
from local_aws.store import Document, Scope

MINUTE = 60.0  # seconds of AWS's time
# A minute's metrics are looked at when the next one is over: by then they have reached CloudWatch.
DELAY = 1  # minutes

logger = logging.getLogger(__name__)


@dataclass
class _Readings:
    """What a policy's metric was.

    Args:
        alarms: the names of the policy's alarms, which are others when it changes.
        next: the number of the minute to read next.
        values: of the last minutes.
    """

    alarms: list[str]
    next: int
    values: deque[float | None] = field(default_factory=lambda: deque(maxlen=MINUTES_KEPT))


class Tracker:
    """Keeps the capacities of all scalable targets.

    Args:
        state: targets, policies, activities.
        loopback: clients for SageMaker and CloudWatch.
        clock: how fast AWS's time passes.
    """

    def __init__(self, state: State, loopback: Loopback, clock: Clock) -> None:
        self._state, self._loopback, self._clock = state, loopback, clock
        self._readings: dict[str, _Readings] = {}  # by policy ARN
        self._ended: dict[str, float] = {}  # by activity id: when it ended, in the clock's time
        self._awake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="auto-scaling")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now: a target or policy was changed."""
        self._awake.set()

    def kill(self) -> None:
        self._stopping = True
        self._awake.set()

    def stop(self) -> None:
        self.kill()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._awake.clear()
            targets = list(self._state.targets.items())
            for scope, _, document in targets:
                self._look(scope, document)
            minute = self._clock.seconds(MINUTE)
            self._awake.wait(minute - time.time() % minute if targets else None)

    def _look(self, scope: Scope, document: Document) -> None:
        variant = variant_of(document["answer"])
        try:
            self._read(scope, variant)
            self._scale(scope, variant, document)
        except Exception:  # one target's trouble is not the others'
            if not self._stopping:
                logger.exception("auto scaling of %s failed; tried again in a minute", variant.resource_id)

    def _read(self, scope: Scope, variant: Variant) -> None:
        """Read what the metrics of the target's policies were in the minutes since the last look."""
        minute = self._clock.seconds(MINUTE)
        end = math.floor(time.time() / minute) - DELAY
        for policy in self._state.policies_of(scope, variant):
            answer = policy["answer"]
            alarms = [each["AlarmName"] for each in answer["Alarms"]]
            readings = self._readings.get(answer["PolicyARN"])
            if readings is None or readings.alarms != alarms:
                readings = self._readings[answer["PolicyARN"]] = _Readings(alarms, end - MINUTES_KEPT)
            metric = metric_of(answer["TargetTrackingScalingPolicyConfiguration"], variant.endpoint, variant.name)
            cloudwatch = self._loopback.client("cloudwatch", scope)
            for number in range(max(readings.next, end - MINUTES_KEPT), end):
                value = value_between(cloudwatch, metric, number * minute, (number + 1) * minute)
                readings.values.append(value)
                readings.next = number + 1

    def _scale(self, scope: Scope, variant: Variant, document: Document) -> None:
        activities = self._state.activities_of(scope, variant)
        under_way = [each for each in activities if each["answer"]["StatusCode"] == "InProgress"]
        policies = self._state.policies_of(scope, variant)
        trackings = [self._tracking(policy, document["answer"]["SuspendedState"]) for policy in policies]
        if not under_way and not document["bounds_changed"] and not any(map(alarm, trackings)):
            return
        found = self._state.endpoint(scope, variant)
        for activity in under_way:
            self._follow(scope, variant, activity, found)
        if found is None or found[0] != "InService":
            return  # scaling pauses while the endpoint is updated
        capacity = found[1]
        if document["bounds_changed"]:
            self._keep_bounds(scope, variant, capacity)
            return
        answer = document["answer"]
        past = self._past(self._state.activities_of(scope, variant))
        change = decide(trackings, capacity, answer["MinCapacity"], answer["MaxCapacity"], past)
        if change is None or (change.alarm == HIGH and answer["SuspendedState"]["DynamicScalingOutSuspended"]):
            return
        policy = policies[change.policy]["answer"]
        (name,) = [each["AlarmName"] for each in policy["Alarms"] if f"-{change.alarm}-" in each["AlarmName"]]
        cause = f"monitor alarm {name} in state ALARM triggered policy {policy['PolicyName']}"
        self._set(scope, variant, capacity, change.capacity, cause)

    def _tracking(self, policy: Document, suspended: dict[str, bool]) -> Tracking:
        configuration = policy["answer"]["TargetTrackingScalingPolicyConfiguration"]
        readings = self._readings.get(policy["answer"]["PolicyARN"])
        return Tracking(
            target=configuration["TargetValue"],
            minutes=tuple(readings.values) if readings else (),
            scale_in=not (configuration["DisableScaleIn"] or suspended["DynamicScalingInSuspended"]),
            scale_out_cooldown=configuration["ScaleOutCooldown"],
            scale_in_cooldown=configuration["ScaleInCooldown"],
        )

    def _past(self, activities: list[Document]) -> Past:
        """What scaling did last. Cooldowns begin when a change is fulfilled; one that failed has none."""
        done = [each for each in activities if each["answer"]["StatusCode"] == "Successful"]
        out = next((each for each in reversed(done) if each["after"] > each["before"]), None)
        into = next((each for each in reversed(done) if each["after"] < each["before"]), None)
        return Past(
            since_out=self._since(out) if out else None,
            before_out=out["before"] if out else None,
            since_in=self._since(into) if into else None,
        )

    def _since(self, activity: Document) -> float:
        """Seconds of AWS's time since an activity ended."""
        answer = activity["answer"]
        ended = self._ended.get(answer["ActivityId"])
        if ended is not None:
            return self._clock.now() - ended
        return (time.time() - answer["EndTime"]) * self._clock.speed  # it was in an earlier run

    def _keep_bounds(self, scope: Scope, variant: Variant, capacity: int) -> None:
        """Bring the capacity inside bounds that were just registered."""
        with self._state.lock:
            document = self._state.targets.get(scope, variant.key)
            if document is None:
                return
            self._state.targets.put(scope, variant.key, document | {"bounds_changed": False})
        low, high = document["answer"]["MinCapacity"], document["answer"]["MaxCapacity"]
        if capacity < low:
            self._set(scope, variant, capacity, low, f"minimum capacity was set to {low}")
        elif capacity > high:
            self._set(scope, variant, capacity, high, f"maximum capacity was set to {high}")

    def _set(self, scope: Scope, variant: Variant, before: int, after: int, cause: str) -> None:
        """Begin an activity: ask SageMaker for another capacity."""
        noun = NOUNS[variant.dimension]
        activity = {
            "ActivityId": str(uuid.uuid4()),
            **variant.members,
            "Description": f"Setting desired {noun} to {after}.",
            "Cause": cause,
            "StartTime": now(),
            "StatusCode": "InProgress",
            "StatusMessage": f"Successfully set desired {noun} to {after}. Waiting for change to be fulfilled by"
            " sagemaker.",
        }
        wanted = (
            {"ServerlessUpdateConfig": {"ProvisionedConcurrency": after}}
            if variant.dimension == CONCURRENCY
            else {"DesiredInstanceCount": after}
        )
        self._state.add_activity(scope, variant, activity, before, after)
        try:
            self._loopback.client("sagemaker", scope).update_endpoint_weights_and_capacities(
                EndpointName=variant.endpoint,
                DesiredWeightsAndCapacities=[{"VariantName": variant.name, **wanted}],
            )
        except ClientError as error:
            reason = error.response["Error"]["Message"]
            document = {"answer": activity, "target": variant.key, "before": before, "after": after}
            message = f"Failed to set desired {noun} to {after}. Reason: {reason}"
            self._state.end_activity(scope, document, "Failed", message)

    def _follow(self, scope: Scope, variant: Variant, activity: Document, found: tuple[str, int] | None) -> None:
        """End an activity when its endpoint has ended what it does."""
        noun, after = NOUNS[variant.dimension], activity["after"]
        if found is not None and found[0] not in ("InService", "Failed", "OutOfService", "UpdateRollbackFailed"):
            return
        self._ended[activity["answer"]["ActivityId"]] = self._clock.now()
        if found == ("InService", after):
            message = f"Successfully set desired {noun} to {after}. Change successfully fulfilled by sagemaker."
            self._state.end_activity(scope, activity, "Successful", message)
        elif found is not None and found[0] == "InService":
            message = f"Desired {noun} was set to {found[1]} by someone else before {after} was reached."
            self._state.end_activity(scope, activity, "Overridden", message)
        else:
            what = "the variant is gone" if found is None else f"the endpoint is {found[0]}"
            message = f"Failed to set desired {noun} to {after}. Reason: {what}"
            self._state.end_activity(scope, activity, "Failed", message)
