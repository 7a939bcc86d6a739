"""The whole way from what is to what should be, before anything is done: each planned call with its effect. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lifecycle_lambdas import names
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import (
    ALARM_MEMBERS,
    Alarm,
    Endpoint,
    Observed,
    ScalableTarget,
    Variant,
    config_variants,
    model_package,
)
from lifecycle_lambdas.plan import Do, Done, GiveUp, Step, plan

# More steps than any way has: a longer one goes in circles.
MOST_STEPS = 60


def forecast(declared: Declared | None, observed: Observed, now: datetime) -> list[Step]:
    """The steps to come, ending in Done or GiveUp, if every call succeeds and no alarm is raised.

    Raises:
        RuntimeError: the plan goes in circles, which is a fault of it.
    """
    steps: list[Step] = []
    while len(steps) < MOST_STEPS:
        step = plan(declared, observed, now)
        steps.append(step)
        if isinstance(step, Done | GiveUp):
            return steps
        if isinstance(step, Do):
            observed = apply(observed, step.call, now)
            declared = asked(declared, step.call, now)
        else:
            observed = settle(observed, now)
    raise RuntimeError(f"{observed.name}: the plan goes in circles: {steps[-3:]}")


def asked(declared: Declared | None, call: AwsCall, now: datetime) -> Declared | None:
    """What is declared, once SageMaker was asked for it."""
    if declared is None or call.operation not in ("create_endpoint", "update_endpoint"):
        return declared
    return replace(declared, requested=now)


def apply(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    """What is there after the call has succeeded. Raises KeyError for a call that the plan does not make."""
    return _EFFECTS[call.operation](observed, call, now)


def settle(observed: Observed, now: datetime) -> Observed:
    """What is there when SageMaker has ended what it is at."""
    endpoint = observed.endpoint
    if endpoint is None or endpoint.status == "Deleting":
        return replace(observed, endpoint=None, targets=())
    if endpoint.status == "Updating" and endpoint.pending is not None:
        aborted = observed.alarms.get(names.abort_alarm(endpoint.pending))
        if aborted is None or aborted.state != "ALARM":
            variants = observed.configs.get(endpoint.pending, endpoint.variants)
            endpoint = replace(endpoint, config=endpoint.pending, variants=variants)
    return replace(observed, endpoint=replace(endpoint, status="InService", pending=None, modified=now))


def _create_model(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    models = {**observed.models, call.request["ModelName"]: model_package(call.request)}
    return replace(observed, models=models)


def _create_config(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    configs = {**observed.configs, call.request["EndpointConfigName"]: config_variants(call.request)}
    return replace(observed, configs=configs)


def _create_endpoint(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    config = call.request["EndpointConfigName"]
    variants: tuple[Variant, ...] = observed.configs[config]
    return replace(observed, endpoint=Endpoint("Creating", config, None, now, variants))


def _update_endpoint(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    if observed.endpoint is None:
        raise ValueError(f"{observed.name}: no endpoint to update")
    pending = call.request["EndpointConfigName"]
    return replace(observed, endpoint=replace(observed.endpoint, status="Updating", pending=pending, modified=now))


def _delete_endpoint(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    if observed.endpoint is None:
        return observed
    return replace(observed, endpoint=replace(observed.endpoint, status="Deleting", modified=now))


def _put_alarm(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    name = call.request["AlarmName"]
    definition = {member: call.request[member] for member in ALARM_MEMBERS if member in call.request}
    state = observed.alarms[name].state if name in observed.alarms else "INSUFFICIENT_DATA"
    return replace(observed, alarms={**observed.alarms, name: Alarm(state, definition)})


def _set_alarm(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    name = call.request["AlarmName"]
    changed = replace(observed.alarms[name], state=call.request["StateValue"], reason=call.request["StateReason"])
    return replace(observed, alarms={**observed.alarms, name: changed})


def _put_dashboard(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    return replace(observed, dashboard=call.request["DashboardBody"])


def _register(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    request = call.request
    place = (request["ResourceId"], request["ScalableDimension"])
    known = {(target.resource_id, target.dimension): target for target in observed.targets}
    policies = known[place].policies if place in known else {}
    known[place] = ScalableTarget(*place, request["MinCapacity"], request["MaxCapacity"], policies)
    return replace(observed, targets=tuple(known.values()))


def _deregister(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    gone = (call.request["ResourceId"], call.request["ScalableDimension"])
    return replace(observed, targets=tuple(one for one in observed.targets if (one.resource_id, one.dimension) != gone))


def _put_policy(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    request = call.request
    policy = {request["PolicyName"]: request["TargetTrackingScalingPolicyConfiguration"]}
    return replace(
        observed,
        targets=tuple(
            replace(one, policies={**one.policies, **policy}) if one.resource_id == request["ResourceId"] else one
            for one in observed.targets
        ),
    )


def _put_schedule(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    # what GetSchedule would answer
    return replace(observed, schedule=json.loads(json.dumps(call.request)))


def _delete_schedule(observed: Observed, call: AwsCall, now: datetime) -> Observed:
    return replace(observed, schedule=None)


_EFFECTS: dict[str, Callable[[Observed, AwsCall, datetime], Observed]] = {
    "create_model": _create_model,
    "create_endpoint_config": _create_config,
    "create_endpoint": _create_endpoint,
    "update_endpoint": _update_endpoint,
    "delete_endpoint": _delete_endpoint,
    "put_metric_alarm": _put_alarm,
    "set_alarm_state": _set_alarm,
    "put_dashboard": _put_dashboard,
    "register_scalable_target": _register,
    "deregister_scalable_target": _deregister,
    "put_scaling_policy": _put_policy,
    "create_schedule": _put_schedule,
    "update_schedule": _put_schedule,
    "delete_schedule": _delete_schedule,
}
