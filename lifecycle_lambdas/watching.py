"""What a look does with what it watches: is what serves at fault, what follows, and who is told what to look at.

Deciding is going_back's; here is what it is asked with, and the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice, takewhile
from typing import Any

from lifecycle_lambdas import endpoint_tests, going_back, incidents, messages
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.going_back import GoBack, Hold, NoWayBack
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.records import Deployment, Entry, State, TestRun

# Entries in which the controller's last going back is looked for: one page of the ledger.
RECENT = 50
_GOES_ON = (
    "It is looked at again every ten minutes, and goes back then if the cause is still there and a way back is: or go "
    "back now yourself (python -m lifecycle_lambdas go-back {endpoint} --why ...)"
)


def judged(
    context: Context,
    state: State,
    serving: Deployment,
    observed: Observed,
    package: Callable[[str], dict[str, Any] | None],
) -> GoBack | Hold | NoWayBack | None:
    """What is to be done about what serves; None: nothing. Reads no more than it needs: nearly always nothing is wrong.

    Args:
        package: DescribeModelPackage's answer for a version's ARN, None when there is no such version.
    """
    now = context.now()
    raised = going_back.raised_alarms(serving, observed, now)
    tests = _verdict(context, serving, package(serving.package_arn))
    if not going_back.causes(serving, raised, tests):
        return None
    hold = going_back.hold_of(serving)

    def approval_of(arn: str) -> str | None:
        found = package(arn)
        return None if found is None else str(found["ModelApprovalStatus"])

    since = min(serving.started, now - hold - timedelta(seconds=1))
    entries = takewhile(
        lambda entry: entry.kind != "remove" and entry.at >= since, context.ledger.entries(state.endpoint)
    )
    previous = going_back.way_back(serving, history(context, state), approval_of)
    return going_back.decide(serving, previous, raised, tests, list(entries), approval_of, hold, now)


def history(context: Context, state: State) -> Iterator[Deployment]:
    """The endpoint's deployments since its last removal, the newest first; read as far as they are asked for."""
    deployments = context.ledger.deployments(state.endpoint)
    return takewhile(lambda deployment: deployment.number > state.removed_number, deployments)


def _verdict(context: Context, serving: Deployment, package: dict[str, Any] | None) -> TestRun | None:
    """Of the deployment's endpoint tests; None where its version has none, or none has come to one."""
    if package is None or endpoint_tests.SHA256 not in package.get("CustomerMetadataProperties", {}):
        return None
    return endpoint_tests.verdict(
        context.ledger.test_runs(serving.endpoint, serving.number, limit=endpoint_tests.RECENT)
    )


def stays(endpoint: str, decision: Hold | NoWayBack) -> Message:
    """That what serves is at fault, and serves on; of endpoint tests once for the deployment, not for every run."""
    what = "hold" if isinstance(decision, Hold) else "no-way-back"
    cause = decision.cause
    about = f"{what}#{cause.key.rpartition('#')[0] if cause.kind == 'tests' else cause.key}"
    return messages.of_endpoint("stuck", endpoint, about, decision.reason + ".", _GOES_ON.format(endpoint=endpoint))


def left_behind(context: Context, endpoint: str) -> Entry | None:
    """The controller's last going back, when nobody decided since about the version that it left."""
    return going_back.left_behind(islice(context.ledger.entries(endpoint), RECENT))


def went_back(context: Context, state: State, entry: Entry, package: Callable[[str], dict[str, Any] | None]) -> Message:
    """What whoever watches is told of the controller's own going back, with the three things to look at."""
    target = None if entry.package_arn is None else package(entry.package_arn)
    before = None if entry.leaves is None else package(entry.leaves)
    where = incidents.place(state, entry.at, target or before)
    tests = incidents.failed_tests(context, state.endpoint, entry.cause)
    look_at = incidents.look_at(state, entry.package_arn or "", entry.cause, tests, where)
    links = (("Incident", where.uri),) if where is not None else ()
    if tests is not None and tests.results:
        links = (("Results", tests.results), *links)
    return messages.of_going_back(entry, look_at, target, before, links)
