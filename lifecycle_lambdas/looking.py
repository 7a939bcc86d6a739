"""Which endpoints to look at; and looking at one: first what was missed is written down, then it is seen to."""

from __future__ import annotations

import re
from typing import Any

from lifecycle_lambdas import converge, metrics
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.converge import Outcome
from lifecycle_lambdas.events import STAGES, LookAt, LookAtMany
from lifecycle_lambdas.log import log
from lifecycle_lambdas.recording import endpoint_of_group, record_missed, tell_entry, tell_missed
from lifecycle_lambdas.records import Entry

# Groups whose name cannot be ours are not asked for their tags: there may be 250, and this is every ten minutes.
_OURS = re.compile(rf".+-({'|'.join(STAGES)})")


def endpoints(context: Context, many: LookAtMany) -> list[LookAt]:
    """The looks that a look at many is.

    At everything: new model package groups are found first, and each look is also one for missed approvals.
    """
    if many.which == "under-way":
        return [LookAt(state.endpoint, asking=False) for state in context.ledger.states("under-way")]
    known = {state.endpoint for state in context.ledger.states()}
    for page in context.client("sagemaker").get_paginator("list_model_package_groups").paginate():
        for group in page["ModelPackageGroupSummaryList"]:
            name = group["ModelPackageGroupName"]
            if name not in known and _OURS.fullmatch(name):
                state = endpoint_of_group(context, name, group["ModelPackageGroupArn"])
                known |= {state.endpoint} if state is not None else set()
    return [LookAt(endpoint, missed=True) for endpoint in sorted(known)]


def look(context: Context, at: LookAt, entries: list[Entry]) -> Outcome | None:
    """Look at one endpoint; None for one that the ledger does not know.

    Args:
        entries: those that were written just now, of which nobody was told yet. They are told after the look: what
            serves does not wait for a message.
    """
    state = context.ledger.state(at.endpoint)
    if state is None:
        log("not an endpoint of ours", endpoint=at.endpoint)
        return None
    if at.missed:
        record_missed(context, state)
    outcome = converge.look(at.endpoint, context, at.asking)
    log("looked", endpoint=at.endpoint, busy=outcome.busy, summary=outcome.summary, **_unfinished(outcome, context))
    for entry in entries:
        tell_entry(context, entry)
    if at.missed:
        tell_missed(context, at.endpoint)
    return outcome


def _unfinished(outcome: Outcome, context: Context) -> dict[str, Any]:
    """What is under way is looked at every minute: the greatest of these values is the age of the oldest of it."""
    if outcome.settled or outcome.began is None:
        return {}
    now = context.now()
    age = (now - outcome.began).total_seconds()
    return metrics.embedded(metrics.UNFINISHED, age, "Seconds", now, **{metrics.FUNCTION: "deploy"})
