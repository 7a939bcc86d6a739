"""What an update of an endpoint does, as data: the variants that it leads to, and the timed stages on the way.

Every update is a blue/green deployment (https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html):
a new fleet is started beside the old one, takes over the traffic in one step or several, is watched while it bakes, and
then the old fleet is terminated. `local_aws.sagemaker.endpoints` drives the stages; nothing here waits or calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from local_aws.calls import Request, ServiceError, validation_error
from local_aws.store import Document

# How long AWS takes, in its seconds. Real endpoints take some minutes, of which our users wait for all; these are the
# short end of what is seen, so that whoever polls sees each state.
CREATING_SECONDS = 120  # instances are provisioned, images pulled, containers started
SHIFTING_SECONDS = 10  # traffic goes elsewhere
RESCALING_SECONDS = 60  # instances are added or removed
TERMINATING_SECONDS = 20  # the old fleet, and an endpoint that is deleted
DEFAULT_MAXIMUM_SECONDS = 14400  # of a deployment whose configuration does not say it; AWS's own is not documented

ALL_AT_ONCE: Document = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
RETAINED = ("DesiredInstanceCount", "DesiredWeight")


@dataclass(frozen=True)
class Variant:
    """One production variant as it is served: the configuration's, with what a running endpoint adds.

    Args:
        weight, count: of the traffic and of instances, that are in effect; count is 0 of a serverless variant.
        desired_weight, desired_count: those that a change under way leads to.
        serverless, desired_serverless: ServerlessConfig in effect, and that a change leads to.
        resolved: when the image was resolved, in seconds since the epoch.
        startup_seconds: ContainerStartupHealthCheckTimeoutInSeconds, when it is given.
        network_isolation: the model's EnableNetworkIsolation.
        role: ARN of the model's ExecutionRoleArn.
        vpc: the model's VpcConfig.
    """

    name: str
    model: str
    image: str
    model_data_url: str | None
    environment: dict[str, str]
    weight: float
    desired_weight: float
    count: int
    desired_count: int
    instance_type: str | None
    serverless: dict[str, int] | None
    desired_serverless: dict[str, int] | None
    resolved: float
    startup_seconds: int | None = None
    network_isolation: bool = False
    role: str | None = None
    vpc: dict[str, Any] | None = None

    def settled(self) -> Self:
        """The variant once its change is done."""
        return replace(self, weight=self.desired_weight, count=self.desired_count, serverless=self.desired_serverless)


@dataclass(frozen=True)
class Deployed:
    """An endpoint configuration as an endpoint serves it; it stays whole when the configuration is deleted."""

    config: str
    variants: tuple[Variant, ...]
    data_capture: dict[str, Any] | None = None

    @classmethod
    def load(cls, document: Document) -> Self:
        return cls(document["config"], tuple(Variant(**one) for one in document["variants"]), document["data_capture"])

    def dump(self) -> Document:
        return asdict(self) | {"variants": [asdict(variant) for variant in self.variants]}

    @property
    def serverless(self) -> bool:
        return self.variants[0].serverless is not None

    @property
    def instances(self) -> int:
        return sum(variant.desired_count for variant in self.variants)

    def variant(self, name: str) -> Variant | None:
        return next((variant for variant in self.variants if variant.name == name), None)

    def settled(self) -> Self:
        return replace(self, variants=tuple(variant.settled() for variant in self.variants))


@dataclass(frozen=True)
class Turned:
    """How far one variant's new fleet is turned on.

    Args:
        share: of the variant's traffic, 0 to 1.
        instances: with traffic on.
    """

    share: float
    instances: int


@dataclass(frozen=True)
class Stage:
    """One stage of a deployment.

    Args:
        status: as VariantStatus says it: Creating, ActivatingTraffic, Baking or Deleting.
        seconds: how long it lasts, in AWS's seconds.
        on: of each variant's new fleet, from the stage's beginning.
        what: of StatusMessage; "{capacity}" stands for the capacity with traffic on.
    """

    status: str
    seconds: float
    on: Mapping[str, Turned]
    what: str

    def message(self, variant: str) -> str:
        turned = self.on[variant]
        kind = "full capacity" if turned.share == 1 else "canary capacity"
        return self.what.format(capacity=f"{kind} of {turned.instances} instance(s)")


def deployment_stages(policy: Document | None, counts: Mapping[str, int]) -> list[Stage]:
    """The stages of a blue/green deployment, in their order.

    Args:
        policy: BlueGreenUpdatePolicy, or None for what AWS does by default: all at once, without a bake.
        counts: of the new fleet's instances, by variant; 0 of a serverless one.

    A part of the capacity is counted in instances, rounded up; of the traffic it gets exactly the share that was asked
    for, with CAPACITY_PERCENT the percentage (AWS does not say what it does between two whole instances).
    """
    policy = policy or ALL_AT_ONCE
    routing = policy["TrafficRoutingConfiguration"]
    wait, last = routing.get("WaitIntervalInSeconds", 0), policy.get("TerminationWaitInSeconds", 0)
    full = {name: Turned(1.0, count) for name, count in counts.items()}
    steps = [*_partial_steps(routing, counts), full]
    off = {name: Turned(0.0, 0) for name in counts}
    stages = [Stage("Creating", CREATING_SECONDS, off, "Creating the new fleet.")]
    for step in steps:
        seconds, member = (last, "TerminationWaitInSeconds") if step is full else (wait, "WaitIntervalInSeconds")
        stages.append(Stage("ActivatingTraffic", SHIFTING_SECONDS, step, "Activating traffic on {capacity}."))
        if seconds:
            baking = f"Baking for {seconds} seconds ({member}) with traffic enabled on {{capacity}}."
            stages.append(Stage("Baking", seconds, step, baking))
    stages.append(Stage("Deleting", TERMINATING_SECONDS, full, "Deleting the old fleet."))
    return stages


def _partial_steps(routing: Document, counts: Mapping[str, int]) -> list[dict[str, Turned]]:
    """The steps before the last one, which turns everything on."""
    kind = routing["Type"]
    if kind == "ALL_AT_ONCE":
        return []
    size = routing["CanarySize" if kind == "CANARY" else "LinearStepSize"]
    most = 1 if kind == "CANARY" else max(math.ceil(round(1 / _share(size, count), 9)) - 1 for count in counts.values())
    return [{name: _turned(size, count, number) for name, count in counts.items()} for number in range(1, most + 1)]


def _turned(size: Document, count: int, steps: int) -> Turned:
    share = min(1.0, steps * _share(size, count))
    return Turned(share, min(count, math.ceil(round(share * count, 9))))


def _share(size: Document, count: int) -> float:
    return size["Value"] / 100 if size["Type"] == "CAPACITY_PERCENT" else min(1.0, size["Value"] / max(count, 1))


def maximum_seconds(config: Document | None) -> float:
    """How long a deployment may take, in AWS's seconds, before it is rolled back."""
    policy = (config or {}).get("BlueGreenUpdatePolicy", {})
    return policy.get("MaximumExecutionTimeoutInSeconds", DEFAULT_MAXIMUM_SECONDS)


def rollback_alarms(config: Document | None) -> list[str]:
    """The names of the alarms that roll a deployment back."""
    alarms = (config or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
    return [alarm["AlarmName"] for alarm in alarms if "AlarmName" in alarm]


def check_deployment_config(config: Document, new: Deployed, old: Deployed | None) -> None:
    """What is wrong with a deployment configuration, for a change from one deployed configuration to another.

    Sizes: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_TrafficRoutingConfig.html; variants:
    https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html.

    Raises:
        ServiceError: ValidationException.
    """
    if "RollingUpdatePolicy" in config:
        raise validation_error(
            "local_aws does not support RollingUpdatePolicy: rolling deployments are not built."
            " Use BlueGreenUpdatePolicy."
        )
    if new.serverless or (old is not None and old.serverless):
        raise validation_error("DeploymentConfig is not supported for serverless endpoints. Leave it out.")
    if "BlueGreenUpdatePolicy" not in config:
        return
    routing = config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    kind = routing["Type"]
    sizes = {"ALL_AT_ONCE": None, "CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
    needed = sizes[kind]
    for member in ("CanarySize", "LinearStepSize"):
        if (member in routing) != (member == needed):
            fault = "is missing" if member == needed else "cannot be given"
            raise validation_error(f"TrafficRoutingConfiguration.{member} {fault} with Type {kind}.")
    if needed is None:
        return
    if old is not None and (before := sorted(_names(old))) != (after := sorted(_names(new))):
        raise validation_error(
            f"Type {kind} needs the same variant names in both endpoint configurations: {old.config} has"
            f" {', '.join(before)}, {new.config} has {', '.join(after)}. Use ALL_AT_ONCE."
        )
    for variant in new.variants:
        _check_size(needed, routing[needed], variant)


def _check_size(member: str, size: Document, variant: Variant) -> None:
    least, most = (0.1 if member == "LinearStepSize" else 0.0), 0.5
    share = size["Value"] / (100 if size["Type"] == "CAPACITY_PERCENT" else variant.desired_count)
    if not least <= share <= most:
        unit = "%" if size["Type"] == "CAPACITY_PERCENT" else f" of {variant.desired_count} instance(s)"
        raise validation_error(
            f"{member} {size['Value']}{unit} of variant {variant.name} is not allowed: it must be"
            f" {'10 % to ' if least else 'at most '}50 % of the variant's instances."
        )


def _names(deployed: Deployed) -> Iterable[str]:
    return (variant.name for variant in deployed.variants)


def with_retained(new: Deployed, old: Deployed, request: Request) -> Deployed:
    """The variants of an update, with what its RetainAllVariantProperties keeps of those that serve.

    Without it AWS takes count and weight from the new configuration, whatever scaling has made of them meanwhile.

    Raises:
        ServiceError: ValidationException for properties to exclude when none is retained, or that AWS cannot exclude.
    """
    excluded = {item["VariantPropertyType"] for item in request.get("ExcludeRetainedVariantProperties", [])}
    if unsupported := sorted(excluded - set(RETAINED)):
        raise validation_error(f"ExcludeRetainedVariantProperties {unsupported[0]} is not supported. Leave it out.")
    if not request.get("RetainAllVariantProperties"):
        if excluded:
            raise validation_error(
                "ExcludeRetainedVariantProperties needs RetainAllVariantProperties true: else nothing is retained."
            )
        return new
    variants = []
    for variant in new.variants:
        before = old.variant(variant.name)
        if before is not None and "DesiredWeight" not in excluded:
            variant = replace(variant, desired_weight=before.desired_weight)
        if before is not None and "DesiredInstanceCount" not in excluded and variant.count and before.count:
            variant = replace(variant, desired_count=before.desired_count)
        variants.append(variant.settled())
    return replace(new, variants=tuple(variants))


def rescaled(deployed: Deployed, wanted: Sequence[Document]) -> Deployed:
    """What UpdateEndpointWeightsAndCapacities leads to: the same variants with other desired values.

    Args:
        wanted: DesiredWeightsAndCapacities.

    Raises:
        ServiceError: ValidationException: no such variant, one twice, or a capacity that its kind does not have.
    """
    by_name = {variant.name: variant for variant in deployed.variants}
    names = [item["VariantName"] for item in wanted]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise validation_error(f"DesiredWeightsAndCapacities: VariantName {duplicates[0]!r} is given twice.")
    for item in wanted:
        name = item["VariantName"]
        if name not in by_name:
            raise validation_error(f'Could not find variant "{name}"; the endpoint has {", ".join(by_name)}.')
        by_name[name] = _rescaled(by_name[name], item)
    return replace(deployed, variants=tuple(by_name.values()))


def _rescaled(variant: Variant, item: Document) -> Variant:
    if "DesiredWeight" in item:
        variant = replace(variant, desired_weight=item["DesiredWeight"])
    if "DesiredInstanceCount" in item:
        if variant.serverless is not None:
            raise validation_error(f"Variant {variant.name} is serverless: it has no DesiredInstanceCount.")
        if item["DesiredInstanceCount"] < 1:
            raise validation_error(f"DesiredInstanceCount of variant {variant.name} must be at least 1.")
        variant = replace(variant, desired_count=item["DesiredInstanceCount"])
    if "ServerlessUpdateConfig" in item:
        if variant.serverless is None:
            raise validation_error(f"Variant {variant.name} has instances: it has no ServerlessUpdateConfig.")
        serverless = variant.serverless | item["ServerlessUpdateConfig"]
        if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
            raise validation_error(
                f"ProvisionedConcurrency of variant {variant.name} must be at most its MaxConcurrency,"
                f" {serverless['MaxConcurrency']}."
            )
        variant = replace(variant, desired_serverless=serverless)
    return variant


def variants_to_deregister(new: Deployed, old: Deployed) -> list[str]:
    """The variants that an update takes away or gives another instance type: Application Auto Scaling must let go of
    them before (https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-scaling-update.html)."""
    names = []
    for variant in old.variants:
        after = new.variant(variant.name)
        if after is None or after.instance_type != variant.instance_type:
            names.append(variant.name)
    return names


def check_quota(new: Deployed, old: Deployed | None, quota: int) -> None:
    """The quota of instances per endpoint; a blue/green deployment needs both fleets at once.

    Raises:
        ServiceError: ResourceLimitExceeded.
    """
    current = old.instances if old is not None else 0
    if new.instances and current + new.instances > quota:
        raise ServiceError(
            "ResourceLimitExceeded",
            f"The account-level service limit 'Maximum number of instances per endpoint' is {quota} Instances, with"
            f" current utilization of {current} Instances and a request delta of {new.instances} Instances. Please use"
            " AWS Service Quotas to request an increase for this quota.",
        )
