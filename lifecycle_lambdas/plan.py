"""What to do next about an endpoint, from what should be and what is: one call, waiting, done, or giving up. Pure.

The table below is the whole of it: the endpoint's state by how what should be relates to it. docs/lifecycle.md shows
the same table, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from lifecycle_lambdas import alarms, batch_schedule, hosting, names, scaling
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import Endpoint, Observed


@dataclass(frozen=True)
class Do:
    """The next call; `why` is for people."""

    call: AwsCall
    why: str


@dataclass(frozen=True)
class Wait:
    """Nothing to do until SageMaker is ready.

    Args:
        look_again_in: seconds; events may come earlier.
        overdue: it takes longer than it can: a person should look.
    """

    reason: str
    look_again_in: float
    overdue: bool = False


@dataclass(frozen=True)
class Done:
    """What should be is."""


@dataclass(frozen=True)
class GiveUp:
    """It cannot be brought about.

    Args:
        reject: it is the version's fault, or its stage file's, and will not be tried again; else a person has to put
            something right, and it goes on by itself then.
    """

    reason: str
    reject: bool


Step = Do | Wait | Done | GiveUp

# How what should be relates to the endpoint:
#   nothing   nothing should serve
#   wanted    the endpoint is on the deployment's config, or on the way to it
#   other     it is on another config, or not there, and SageMaker was not asked for the deployment's yet
#   returned  it is on another config although SageMaker was asked for the deployment's: it was rolled back
#   kind      it is of another kind than the deployment
Relation = Literal["nothing", "wanted", "other", "returned", "kind"]
Action = Literal["finish", "create", "update", "replace", "delete", "wait", "abort", "give up", "leave"]
RELATIONS: tuple[Relation, ...] = ("nothing", "wanted", "other", "returned", "kind")

# State of the endpoint ("none": there is none) -> relation -> action. What an action is, its function below says.
TABLE: dict[str, dict[Relation, Action]] = {
    "none": {"nothing": "leave", "wanted": "create", "other": "create", "returned": "create", "kind": "create"},
    "Creating": {"nothing": "wait", "wanted": "wait", "other": "wait", "returned": "wait", "kind": "wait"},
    "InService": {
        "nothing": "delete",
        "wanted": "finish",
        "other": "update",
        "returned": "give up",
        "kind": "replace",
    },
    "Updating": {"nothing": "abort", "wanted": "wait", "other": "abort", "returned": "abort", "kind": "abort"},
    "SystemUpdating": {"nothing": "wait", "wanted": "wait", "other": "wait", "returned": "wait", "kind": "wait"},
    "RollingBack": {"nothing": "wait", "wanted": "wait", "other": "wait", "returned": "wait", "kind": "wait"},
    "OutOfService": {
        "nothing": "delete",
        "wanted": "wait",
        "other": "update",
        "returned": "give up",
        "kind": "replace",
    },
    "Failed": {
        "nothing": "delete",
        "wanted": "give up",
        "other": "delete",
        "returned": "give up",
        "kind": "delete",
    },
    "UpdateRollbackFailed": {
        "nothing": "delete",
        "wanted": "give up",
        "other": "update",
        "returned": "give up",
        "kind": "replace",
    },
    "Deleting": {"nothing": "wait", "wanted": "wait", "other": "wait", "returned": "wait", "kind": "wait"},
}

# Seconds after which a state that should pass by itself is a person's business. Starting instances and loading a model
# have their own time-outs of up to an hour each (ModelDataDownloadTimeoutInSeconds and the one of the health check).
PATIENCE = 2 * 3600
# What starting and stopping instances may add to MaximumExecutionTimeoutInSeconds, including a roll-back's.
ROLLBACK_SECONDS = 1800
LOOK_AGAIN = 60.0


def plan(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """The next step; None declared: nothing should serve."""
    state = "none" if observed.endpoint is None else observed.endpoint.status
    if state not in TABLE:
        return GiveUp(f"the endpoint is {state}, which this version of Modelyard does not know: update it", False)
    if declared is not None and (fault := foreign(declared, observed)) is not None:
        return GiveUp(fault, False)
    action = TABLE[state][relation(declared, observed)]
    return ACTIONS[action](declared, observed, now)


def relation(declared: Declared | None, observed: Observed) -> Relation:
    """How what should be relates to the endpoint; see above."""
    if declared is None:
        return "nothing"
    endpoint = observed.endpoint
    if endpoint is None:
        return "other"
    # an update leads to its pending config, unless it is being rolled back
    leads_to = endpoint.pending if endpoint.status == "Updating" and endpoint.pending is not None else endpoint.config
    if leads_to == declared.name:
        return "wanted"
    if declared.kind == "batch" or endpoint.kind not in (declared.kind, None):
        return "kind"
    return "other" if declared.requested is None else "returned"


def foreign(declared: Declared, observed: Observed) -> str | None:
    """What stands in the way: something that has the name of the deployment's own and was made by somebody else."""
    name = declared.name
    if name in observed.models and observed.models[name] != declared.package_arn:
        found = observed.models[name] or "no model package"
        return f"there is a model {name} of {found}, which Modelyard did not make: delete or rename it"
    models = [variant.model for variant in observed.configs.get(name, ())]
    if models and models != [name]:
        shown = ", ".join(model or "no model" for model in models)
        return f"there is an endpoint config {name} of {shown}, which Modelyard did not make: delete it"
    return None


def _leave(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """Nothing should serve and no endpoint is there: a schedule for batch jobs goes as well.

    Targets without an endpoint are looked for, and go, only when everything is removed.
    """
    for target in observed.targets:
        return Do(scaling.deregister(target), "what is scaled is gone")
    if observed.schedule is not None:
        return Do(batch_schedule.remove(observed.schedule), "no version should run any more")
    return Done()


def _create(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """Model, config, endpoint; of a batch stage model and schedule."""
    declared = _given(declared)
    if declared.name not in observed.models:
        return Do(hosting.create_model(declared), "the version as a model")
    if declared.kind == "batch":
        call = batch_schedule.put_right(declared, observed.schedule)
        return Done() if call is None else Do(call, "when the transform jobs run")
    if declared.name not in observed.configs:
        return Do(hosting.create_config(declared), "how the model is served")
    return Do(hosting.create_endpoint(declared), "there is no endpoint yet")


def _update(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """Model, config, alarms, then the update.

    The scalable target goes first where the instance type or the variant changes, since Application Auto Scaling
    would refuse it (developer guide, "Update a scaled endpoint"); when the endpoint serves, it is put back.
    """
    declared, endpoint = _given(declared), _there(observed)
    if declared.name not in observed.models:
        return Do(hosting.create_model(declared), "the version as a model")
    if declared.name not in observed.configs:
        return Do(hosting.create_config(declared), "how the model is served")
    for call in hosting.watching(declared, endpoint, observed.raised):
        if call.request["AlarmName"] not in observed.alarms:
            return Do(call, "what the update is watched by")
    for target in observed.targets:
        if _changes_under(declared, endpoint):
            return Do(scaling.deregister(target), "the instances that it scales are replaced by others")
    return Do(hosting.update_endpoint(declared, endpoint, observed.raised), _way(declared, endpoint))


def _finish(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """The endpoint serves it: scaling, standing alarms and dashboard as declared; a batch stage's schedule goes."""
    declared = _given(declared)
    if (call := scaling.put_right(declared, observed)) is not None:
        return Do(call, "scaling as declared")
    for call in alarms.standing_alarms(declared):
        if not alarms.as_declared(observed.alarms.get(call.request["AlarmName"]), call):
            return Do(call, "whoever watches is told when the endpoint is at fault")
    if declared.stage_file.dashboard:
        call = alarms.dashboard(declared)
        if not alarms.same_dashboard(observed.dashboard, call):
            return Do(call, "the endpoint's dashboard")
    if observed.schedule is not None:
        return Do(batch_schedule.remove(observed.schedule), "an endpoint serves now, and no batch job")
    return Done()


def _delete(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """Scalable targets, then the endpoint. One that Modelyard never deployed to is left where nothing should serve."""
    endpoint = _there(observed)
    if declared is None and observed.serving is None and not observed.tagged:
        return Done()
    for target in observed.targets:
        return Do(scaling.deregister(target), "what is scaled goes")
    why = "no version should serve any more" if declared is None else f"it is {endpoint.status}, and is made anew"
    return Do(hosting.delete_endpoint(observed.name), why)


def _replace(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """SageMaker cannot change an endpoint's kind: it is deleted, if the stage file allows it, and made anew."""
    declared, endpoint = _given(declared), _there(observed)
    if not declared.stage_file.replace:
        return GiveUp(
            f"the endpoint is {endpoint.kind} and the stage file says kind: {declared.kind}. SageMaker cannot change "
            "an endpoint's kind: set replace: true in the stage file, and it is deleted and made anew, with an outage "
            "of some minutes; or keep the kind",
            reject=True,
        )
    for target in observed.targets:
        return Do(scaling.deregister(target), "what is scaled goes")
    return Do(
        hosting.delete_endpoint(observed.name),
        f"replace: true: from {endpoint.kind} to {declared.kind}; nothing answers "
        + ("any more" if declared.kind == "batch" else "until it is made anew"),
    )


def _wait(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """SageMaker is at work, or an endpoint is out of service: it has a limit."""
    endpoint = _there(observed)
    since, limit = endpoint.modified, timedelta(seconds=PATIENCE)
    if endpoint.status == "Updating" and declared is not None and declared.requested is not None:
        since = declared.requested
        rollout = getattr(declared.stage_file, "rollout", None)
        seconds = 0 if rollout is None else rollout.maximum_execution_seconds + ROLLBACK_SECONDS
        limit = timedelta(seconds=max(PATIENCE, seconds))
    reason = f"the endpoint is {endpoint.status}"
    if endpoint.pending is not None:
        reason += f" to {endpoint.pending}"
    if endpoint.status == "RollingBack" and (raised := _raised(declared, observed)):
        reason += f" (alarms raised: {raised})"
    if now - since > limit:
        hours = limit.total_seconds() / 3600
        return Wait(
            f"{reason} for more than {hours:g} hours, which is longer than SageMaker should need. "
            f"{endpoint.failure}".strip()
            + " Look at the endpoint's events and logs, and ask AWS's support",
            LOOK_AGAIN,
            overdue=True,
        )
    return Wait(reason, LOOK_AGAIN)


def _abort(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """An update that is wanted no more: the abort alarm is set; all at once has none, and ends by itself."""
    endpoint = _there(observed)
    alarm = None if endpoint.pending is None else observed.alarms.get(names.abort_alarm(endpoint.pending))
    if endpoint.pending is None or alarm is None or alarm.state == "ALARM":
        return _wait(declared, observed, now)
    wanted = "nothing should serve" if declared is None else f"{declared.name} should serve"
    return Do(alarms.abort(endpoint.pending, f"{wanted} instead"), f"{endpoint.pending} is wanted no more")


def _give_up(declared: Declared | None, observed: Observed, now: datetime) -> Step:
    """SageMaker was asked for the deployment, and could not, or an alarm made it go back."""
    declared, endpoint = _given(declared), _there(observed)
    if endpoint.config == declared.name:
        happened = f"the endpoint is {endpoint.status}."
    else:
        happened = f"SageMaker rolled it back: the endpoint is {endpoint.status} on {endpoint.config} again."
    raised = _raised(declared, observed)
    parts = [happened, endpoint.failure, f"Alarms raised: {raised}." if raised else declared.noted]
    return GiveUp(" ".join(part for part in parts if part), reject=True)


ACTIONS: dict[Action, Callable[[Declared | None, Observed, datetime], Step]] = {
    "leave": _leave,
    "create": _create,
    "update": _update,
    "finish": _finish,
    "delete": _delete,
    "replace": _replace,
    "wait": _wait,
    "abort": _abort,
    "give up": _give_up,
}


def _raised(declared: Declared | None, observed: Observed) -> str:
    """The raised alarms of this very deployment, with what CloudWatch says of them."""
    if declared is None:
        return ""
    return "; ".join(
        f"{name} ({observed.alarms[name].reason})"
        for name in observed.raised
        if names.alarm_number(observed.name, name) == declared.number
    )


def _changes_under(declared: Declared, endpoint: Endpoint) -> bool:
    """Whether the update changes the instance type or the variant that is scaled."""
    if not hosting.same_variants(endpoint):
        return True
    running = endpoint.variants[0]
    return declared.kind == "real_time" and running.instance_type != declared.stage_file.instance_type


def _way(declared: Declared, endpoint: Endpoint) -> str:
    """How the traffic moves, in words."""
    if declared.kind == "serverless":
        return "all at once: serverless endpoints have no guardrails"
    if not hosting.same_variants(endpoint):
        return f"all at once: the endpoint's variants are other than {names.VARIANT}"
    asked, routing = declared.stage_file.rollout.type, hosting.traffic(declared, endpoint)["Type"].lower()
    if asked != routing:
        return f"all at once instead of {asked}: a fleet of one instance cannot be parted"
    return routing.replace("_", " ")


def _given(declared: Declared | None) -> Declared:
    if declared is None:
        raise ValueError("this action is of a deployment, and none is declared")
    return declared


def _there(observed: Observed) -> Endpoint:
    if observed.endpoint is None:
        raise ValueError(f"this action is of an endpoint, and {observed.name} is not there")
    return observed.endpoint
