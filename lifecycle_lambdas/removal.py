"""An endpoint is to be removed, since its project is being deleted: writing that down. converge.py does it."""

from __future__ import annotations

from datetime import datetime

from botocore.exceptions import ClientError

from lifecycle_lambdas import approvals, sweep
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import STAGES, Removal
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.log import log
from lifecycle_lambdas.names import project_tags
from lifecycle_lambdas.observe import not_there
from lifecycle_lambdas.recording import endpoint_of_group, last_number
from lifecycle_lambdas.records import Entry, State


def record_removal(context: Context, removal: Removal, at: datetime) -> State | None:
    """Write down that the endpoint goes; None: there is nothing of it, and the ledger does not know it.

    The same removal twice is one, as long as nothing was approved in between; but it is looked at once more, since
    somebody may have made something of its name meanwhile.

    Args:
        at: when it was asked for, not when it is read: a message that comes again when a project of the same name
            has been made and serves is older than that one's approvals, and changes nothing.

    Raises:
        ClientError: AWS cannot do it now; the same again does no harm.
    """
    state = context.ledger.state(removal.endpoint) or _begun_now(context, removal.endpoint)
    if state is None:
        log("not an endpoint of ours, so it is removed already", endpoint=removal.endpoint)
        return None
    if approvals.is_removed(context.ledger.entries(removal.endpoint)):
        context.ledger.ask(removal.endpoint)
        return state
    entry = Entry(removal.endpoint, "remove", whole_seconds(at), None, removal.by, removal.why, "event")
    new = context.ledger.append(entry)
    log("entry" if new else "entry was there", endpoint=entry.endpoint, entry=entry.key, by=entry.by)
    return state


def _begun_now(context: Context, endpoint: str) -> State | None:
    """Of an endpoint that the ledger does not know (it may have been lost), when something of it is there."""
    try:
        found = context.client("sagemaker").describe_model_package_group(ModelPackageGroupName=endpoint)
    except ClientError as error:
        if not is_missing(error):
            raise
    else:
        if (state := endpoint_of_group(context, endpoint, found["ModelPackageGroupArn"])) is not None:
            return state
    project, _, stage = endpoint.rpartition("-")
    if stage not in STAGES or not _something_left(context, endpoint, project, stage):
        return None
    state = State(endpoint, project, stage, endpoint, "settled", last_number(context, endpoint))
    context.ledger.put_state_if_new(state)
    return state


def _something_left(context: Context, endpoint: str, project: str, stage: str) -> bool:
    """Whether the platform's group has a schedule of its name, or anything carries the project's and stage's tags."""
    group = context.settings.schedule_group
    try:
        context.client("scheduler").get_schedule(Name=endpoint, GroupName=group)
    except ClientError as error:
        if not not_there(error):
            raise
    else:
        return True
    tags = project_tags(project, "", stage)
    present = sweep.present(context.clients, endpoint, dashboard=False)
    arns = [("sagemaker", arn) for arn in (*present.configs.values(), *present.models.values())]
    arns += [("cloudwatch", arn) for arn in present.alarms.values()]
    try:
        arns.append(("sagemaker", context.client("sagemaker").describe_endpoint(EndpointName=endpoint)["EndpointArn"]))
    except ClientError as error:
        if not not_there(error):
            raise
    return any(sweep.is_ours(context.clients, service, arn, tags) for service, arn in arns)
