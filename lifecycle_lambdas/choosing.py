"""Which deployment an endpoint's newest decision leads to, as what, and when it began and ended. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from lifecycle_lambdas import declared, names
from lifecycle_lambdas.calls import REQUESTS
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.records import Deployment, Entry, package_version

if TYPE_CHECKING:
    from lifecycle_lambdas.stage_schema import StageFile

# States of an endpoint in which it is, or comes back to, what its config says.
ON_ITS_WAY = ("InService", "Updating", "SystemUpdating", "RollingBack", "Creating")


def chosen(
    entry: Entry, history: list[Deployment], serving: Deployment | None, observed: Observed
) -> Deployment | None:
    """The deployment that goes on for this entry; None: a new one begins.

    What serves already is not deployed again: neither after a newer version failed, nor when it is approved once more.
    """
    endpoint = observed.endpoint
    stays = endpoint is None or endpoint.status in ON_ITS_WAY
    serves_it = serving is not None and stays and serving.package_arn == entry.package_arn
    if serves_it and serving is not None and serving.status in ("succeeded", "superseded"):
        return serving
    mine = [deployment for deployment in history if deployment.entry_key == entry.key]
    if mine and mine[0].status in ("under-way", "failed"):
        return mine[0]
    return going_on(entry, history)


def going_on(entry: Entry, history: list[Deployment]) -> Deployment | None:
    """The deployment under way that the entry asks for: its own, or that of the same decision made before.

    Who approves twice, or whose approval AWS was asked for twice, does not begin anew.
    """
    return next(
        (
            one
            for one in history
            if one.status == "under-way" and one.package_arn == entry.package_arn and one.kind == entry.kind
        ),
        None,
    )


def goes_back(entry: Entry, serving: Deployment | None) -> bool:
    """Whether the entry's version is older than the one that serves."""
    if serving is None or entry.package_arn is None:
        return False
    older = package_version(entry.package_arn) < package_version(serving.package_arn)
    return older or (entry.kind == "go-back" and serving.package_arn != entry.package_arn)


def applied(
    stage_file: StageFile, entry: Entry, serving: Deployment | None, observed: Observed, stage: str
) -> StageFile:
    """The version's stage file as it applies: who goes back changes the model, not the capacity."""
    from lifecycle_lambdas import stage_schema

    if serving is None or not serving.stage_file or not goes_back(entry, serving):
        return stage_file
    return declared.effective(stage_file, stage_schema.parse(serving.stage_file, stage), instances(observed))


def instances(observed: Observed) -> int | None:
    """How many serve; None where that is not known, or is no number of instances."""
    variants = () if observed.endpoint is None else observed.endpoint.variants
    return variants[0].count if len(variants) == 1 else None


def requested(deployment: Deployment, observed: Observed) -> datetime | None:
    """When SageMaker was asked for the deployment, were its answer never recorded: then what is there tells.

    An endpoint that was changed since may have been changed by auto scaling. So what was rolled back is known by the
    alarms that it was watched by; of an update without any nobody knows, and SageMaker is asked once more.
    """
    if deployment.requested is not None or not deployment.attempts:
        return deployment.requested
    last, endpoint = deployment.attempts[-1], observed.endpoint
    if last.outcome or last.operation not in REQUESTS or endpoint is None:
        return None
    leads_here = deployment.name in (endpoint.config, endpoint.pending)
    watched = {names.alarm_number(deployment.endpoint, alarm) for alarm in endpoint.watched_by}
    return last.at if leads_here or deployment.number in watched else None


def ended_at(deployment: Deployment, observed: Observed, now: datetime) -> datetime:
    """When the deployment ended: as SageMaker says, since the event of it may come late or never.

    An alarm that is raised between the two is of what serves then. What was changed since, such as by auto scaling,
    says nothing about it, and a schedule ends nothing: then it is now.
    """
    endpoint, requested = observed.endpoint, deployment.requested
    if endpoint is None or requested is None or endpoint.status != "InService":
        return now
    return endpoint.modified if requested < endpoint.modified < now else now
