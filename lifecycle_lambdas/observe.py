"""What is: the endpoint and what it points to, scaling, alarms, dashboard and schedule. Reads, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import names

Clients = Callable[[str], Any]
# What an alarm is compared by; the rest of DescribeAlarms' answer is its state.
ALARM_MEMBERS = (
    "AlarmName",
    "AlarmDescription",
    "AlarmActions",
    "OKActions",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
)


@dataclass(frozen=True)
class Variant:
    """A variant as an endpoint config declares it, or (count) as an endpoint runs it.

    Args:
        count: instances; of a running endpoint the desired ones. None: serverless, or not known.
    """

    name: str
    serverless: bool
    count: int | None
    model: str | None = None
    instance_type: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """DescribeEndpoint's answer, reduced.

    Args:
        config: EndpointConfigName: what serves; during an update the old one.
        pending: what an update under way leads to; None when there is none.
        modified: LastModifiedTime.
        watched_by: the alarms of the deployment that SageMaker was asked for last, wherever it ended.
        arn: EndpointArn.
    """

    status: str
    config: str
    pending: str | None
    modified: datetime
    variants: tuple[Variant, ...] = ()
    failure: str = ""
    watched_by: tuple[str, ...] = ()
    arn: str = ""

    @property
    def kind(self) -> str | None:
        """None while SageMaker does not list its variants."""
        if not self.variants:
            return None
        return "serverless" if any(variant.serverless for variant in self.variants) else "real_time"

    def variant(self, name: str) -> Variant | None:
        return next((variant for variant in self.variants if variant.name == name), None)


@dataclass(frozen=True)
class Alarm:
    """An alarm's state ("OK", "ALARM", "INSUFFICIENT_DATA"), since when it is in it, and its definition, as
    PutMetricAlarm takes it."""

    state: str
    definition: dict[str, Any]
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class ScalableTarget:
    """A variant's target in Application Auto Scaling; policies: their configurations by name."""

    resource_id: str
    dimension: str
    lowest: int
    highest: int
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """
    Args:
        models: the models that matter, by name, each with the ARN of its model package (None: it has none).
        configs: the endpoint configs that matter, by name: the endpoint's own and the deployment's.
        alarms: the deployment's, the standing ones, and the abort alarm of an update under way, by name.
        dashboard: its body, as JSON text.
        schedule: GetSchedule's answer.
        tagged: whether the endpoint is known to be the project's by its tags; asked only when everything goes.
    """

    name: str
    endpoint: Endpoint | None = None
    models: Mapping[str, str | None] = field(default_factory=dict)
    configs: Mapping[str, tuple[Variant, ...]] = field(default_factory=dict)
    alarms: Mapping[str, Alarm] = field(default_factory=dict)
    targets: tuple[ScalableTarget, ...] = ()
    dashboard: str | None = None
    schedule: dict[str, Any] | None = None
    tagged: bool = False

    @property
    def serving(self) -> int | None:
        """The number of the deployment whose config the endpoint is on, or whose model the schedule runs."""
        if self.endpoint is not None:
            return names.number_of(self.name, self.endpoint.config)
        if self.schedule is not None:
            return scheduled_number(self.schedule)
        return None

    @property
    def raised(self) -> list[str]:
        """The alarms in ALARM, by name."""
        return sorted(name for name, alarm in self.alarms.items() if alarm.state == "ALARM")


def scheduled_number(schedule: dict[str, Any]) -> int | None:
    """The deployment that a schedule belongs to; None when somebody else wrote its input."""
    try:
        number = json.loads(schedule["Target"]["Input"])["number"]
    except (KeyError, TypeError, ValueError):
        return None
    return number if isinstance(number, int) else None


def observe(clients: Clients, endpoint: str, number: int | None, group: str) -> Observed:
    """What there is of the endpoint and, when given, of the deployment with this number; of a schedule its model.

    Args:
        clients: boto3 clients by the service's name.
        group: EventBridge Scheduler's group with the batch stages' schedules.

    Raises:
        ClientError: any answer except that something is not there.
    """
    sagemaker = clients("sagemaker")
    answer = _found(partial(sagemaker.describe_endpoint, EndpointName=endpoint))
    configs: dict[str, tuple[Variant, ...]] = {}
    models: dict[str, str | None] = {}
    name = None if number is None else names.numbered(endpoint, number)
    current = None if answer is None else answer["EndpointConfigName"]
    for wanted in dict.fromkeys(one for one in (current, name) if one is not None):
        config = _found(partial(sagemaker.describe_endpoint_config, EndpointConfigName=wanted))
        if config is not None:
            configs[wanted] = config_variants(config)
    schedule = _found(partial(clients("scheduler").get_schedule, Name=endpoint, GroupName=group))
    scheduled = None if schedule is None else scheduled_number(schedule)
    for wanted in dict.fromkeys(names.numbered(endpoint, one) for one in (number, scheduled) if one is not None):
        model = _found(partial(sagemaker.describe_model, ModelName=wanted))
        if model is not None:
            models[wanted] = model_package(model)
    seen = None if answer is None else _endpoint(answer, configs)
    return Observed(
        name=endpoint,
        endpoint=seen,
        models=models,
        configs=configs,
        alarms=_alarms(clients("cloudwatch"), endpoint, number, seen),
        targets=() if seen is None else targets(clients("application-autoscaling"), endpoint, seen.variants),
        dashboard=_dashboard(clients("cloudwatch"), endpoint),
        schedule=schedule,
    )


def config_variants(config: dict[str, Any]) -> tuple[Variant, ...]:
    """The variants of DescribeEndpointConfig's answer, or of CreateEndpointConfig's request."""
    return tuple(
        Variant(
            name=variant["VariantName"],
            serverless="ServerlessConfig" in variant,
            count=variant.get("InitialInstanceCount"),
            model=variant.get("ModelName"),
            instance_type=variant.get("InstanceType"),
        )
        for variant in config["ProductionVariants"]
    )


def model_package(model: dict[str, Any]) -> str | None:
    """The model package of DescribeModel's answer, or of CreateModel's request; None when it was made of none."""
    containers = model.get("Containers") or [model.get("PrimaryContainer") or {}]
    return containers[0].get("ModelPackageName")


def _endpoint(answer: dict[str, Any], configs: dict[str, tuple[Variant, ...]]) -> Endpoint:
    declared = {variant.name: variant for variant in configs.get(answer["EndpointConfigName"], ())}
    variants = []
    for variant in answer.get("ProductionVariants", ()):
        known = declared.get(variant["VariantName"])
        serverless = "CurrentServerlessConfig" in variant or "DesiredServerlessConfig" in variant
        variants.append(
            Variant(
                name=variant["VariantName"],
                serverless=serverless or (known is not None and known.serverless),
                count=variant.get("DesiredInstanceCount", variant.get("CurrentInstanceCount")),
                model=None if known is None else known.model,
                instance_type=None if known is None else known.instance_type,
            )
        )
    return Endpoint(
        status=answer["EndpointStatus"],
        config=answer["EndpointConfigName"],
        pending=answer.get("PendingDeploymentSummary", {}).get("EndpointConfigName"),
        modified=answer["LastModifiedTime"],
        # while it is created SageMaker lists none: what it will have is in its config
        variants=tuple(variants) or tuple(declared.values()),
        failure=answer.get("FailureReason", ""),
        watched_by=tuple(alarm["AlarmName"] for alarm in _rollback(answer).get("Alarms", ())),
        arn=answer["EndpointArn"],
    )


def _rollback(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer.get("LastDeploymentConfig", {}).get("AutoRollbackConfiguration", {})
    return found


def _alarms(cloudwatch: Any, endpoint: str, number: int | None, seen: Endpoint | None) -> dict[str, Alarm]:
    wanted = [*names.standing_alarms(endpoint)]
    if number is not None:
        wanted += [names.rollback_alarm(endpoint, number, kind) for kind in names.ALARM_KINDS]
        wanted.append(names.abort_alarm(names.numbered(endpoint, number)))
    if seen is not None and seen.pending is not None:
        wanted.append(names.abort_alarm(seen.pending))
    answer = cloudwatch.describe_alarms(AlarmNames=list(dict.fromkeys(wanted)), AlarmTypes=["MetricAlarm"])
    return {
        alarm["AlarmName"]: Alarm(
            state=alarm["StateValue"],
            definition={member: alarm[member] for member in ALARM_MEMBERS if alarm.get(member) is not None},
            reason=alarm.get("StateReason", ""),
            # the other one changes with every new reason, too
            since=alarm.get("StateTransitionedTimestamp", alarm.get("StateUpdatedTimestamp")),
        )
        for alarm in answer["MetricAlarms"]
    }


def targets(autoscaling: Any, endpoint: str, seen: tuple[Variant, ...]) -> tuple[ScalableTarget, ...]:
    """Of these variants and of ours. Deleting an endpoint by hand leaves its targets behind."""
    variants = dict.fromkeys([*(variant.name for variant in seen), names.VARIANT])
    answer = autoscaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[names.resource_id(endpoint, variant) for variant in variants]
    )
    return tuple(
        ScalableTarget(
            resource_id=target["ResourceId"],
            dimension=target["ScalableDimension"],
            lowest=target["MinCapacity"],
            highest=target["MaxCapacity"],
            policies=_policies(autoscaling, target["ResourceId"], target["ScalableDimension"]),
        )
        for target in answer["ScalableTargets"]
    )


def _policies(autoscaling: Any, resource_id: str, dimension: str) -> dict[str, dict[str, Any]]:
    answer = autoscaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=resource_id, ScalableDimension=dimension
    )
    return {
        policy["PolicyName"]: policy.get("TargetTrackingScalingPolicyConfiguration", {})
        for policy in answer["ScalingPolicies"]
    }


def _dashboard(cloudwatch: Any, endpoint: str) -> str | None:
    answer = _found(partial(cloudwatch.get_dashboard, DashboardName=endpoint))
    return None if answer is None else answer["DashboardBody"]


def _found(call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """The call's answer, or None when what it asks for is not there."""
    try:
        return call()
    except ClientError as error:
        if not_there(error):
            return None
        raise


def not_there(error: ClientError) -> bool:
    """Whether AWS says that something does not exist: each service has its own way."""
    code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "").lower()
    if code in ("ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException", "DashboardNotFoundError"):
        return True
    return code == "ValidationException" and any(part in text for part in _NOT_THERE)


_NOT_THERE = ("could not find", "does not exist", "cannot find", "not found")
