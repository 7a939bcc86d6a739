"""Scaling of an endpoint's variant by Application Auto Scaling: what is declared, and what brings it about. Pure."""

from __future__ import annotations

from typing import Any

from lifecycle_lambdas import names
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import Observed, ScalableTarget

DIMENSIONS = {
    "real_time": "sagemaker:variant:DesiredInstanceCount",
    "serverless": "sagemaker:variant:DesiredProvisionedConcurrency",
}


def put_right(declared: Declared, observed: Observed) -> AwsCall | None:
    """The next call towards the declared scaling; None when it is as declared.

    Policies that somebody added to the target stay: only the declared one is looked after.
    """
    scaling = declared.stage_file.scaling
    resource, dimension = names.resource_id(declared.endpoint, names.VARIANT), DIMENSIONS[declared.kind]
    for target in observed.targets:
        if scaling is None or (target.resource_id, target.dimension) != (resource, dimension):
            return deregister(target)
    if scaling is None:
        return None
    place = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": dimension}
    found = next(iter(observed.targets), None)
    if found is None or (found.lowest, found.highest) != (scaling.min, scaling.max):
        bounds: dict[str, Any] = {"MinCapacity": scaling.min, "MaxCapacity": scaling.max}
        # tags can be given to a new target only
        tags = {"Tags": declared.tags} if found is None else {}
        return AwsCall("application-autoscaling", "register_scalable_target", {**place, **bounds, **tags})
    policy = {
        "TargetValue": scaling.target.value,
        "PredefinedMetricSpecification": {"PredefinedMetricType": scaling.target.metric},
        "ScaleInCooldown": scaling.scale_in_cooldown_seconds,
        "ScaleOutCooldown": scaling.scale_out_cooldown_seconds,
    }
    name = names.scaling_policy(declared.endpoint)
    known = found.policies.get(name, {})
    if {member: known.get(member) for member in policy} == policy:
        return None
    request = {
        "PolicyName": name,
        **place,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": policy,
    }
    return AwsCall("application-autoscaling", "put_scaling_policy", request)


def deregister(target: ScalableTarget) -> AwsCall:
    """Its policies go with it."""
    return AwsCall(
        "application-autoscaling",
        "deregister_scalable_target",
        {
            "ServiceNamespace": "sagemaker",
            "ResourceId": target.resource_id,
            "ScalableDimension": target.dimension,
        },
    )
