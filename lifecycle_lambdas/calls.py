"""A call to AWS as data: what the plan is made of, what is printed before it is done, and what is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AwsCall:
    """One call that changes something.

    Args:
        service: boto3's name of the service, "sagemaker", "cloudwatch", "application-autoscaling" or "scheduler".
        operation: boto3's name of the method, in snake case.
        request: its arguments.
    """

    service: str
    operation: str
    request: dict[str, Any]

    @property
    def resource(self) -> str:
        """What the call is about, for people: the name that the request gives it."""
        for member in _NAMED_BY[self.operation]:
            if member in self.request:
                named = self.request[member]
                return ", ".join(named) if isinstance(named, list) else str(named)
        raise KeyError(f"{self.operation}: the request has none of {', '.join(_NAMED_BY[self.operation])}")


# Which members of the request name what each call of ours changes.
_NAMED_BY: dict[str, tuple[str, ...]] = {
    "create_model": ("ModelName",),
    "create_endpoint_config": ("EndpointConfigName",),
    "create_endpoint": ("EndpointName",),
    "update_endpoint": ("EndpointName",),
    "delete_endpoint": ("EndpointName",),
    "delete_endpoint_config": ("EndpointConfigName",),
    "delete_model": ("ModelName",),
    "stop_transform_job": ("TransformJobName",),
    "put_metric_alarm": ("AlarmName",),
    "set_alarm_state": ("AlarmName",),
    "delete_alarms": ("AlarmNames",),
    "put_dashboard": ("DashboardName",),
    "delete_dashboards": ("DashboardNames",),
    "register_scalable_target": ("ResourceId",),
    "deregister_scalable_target": ("ResourceId",),
    "put_scaling_policy": ("PolicyName",),
    "create_schedule": ("Name",),
    "update_schedule": ("Name",),
    "delete_schedule": ("Name",),
}
# The calls that change what answers: a deployment counts as asked for once one of the first three was made.
REQUESTS = ("create_endpoint", "update_endpoint", "create_schedule", "update_schedule")
