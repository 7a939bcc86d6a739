"""`test`: runs an endpoint's tests now, and says what came of them."""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from itertools import islice
from typing import Any

from lifecycle_lambdas import endpoint_runs
from lifecycle_lambdas.commands.common import (
    NOT_SETTLED,
    OK,
    InputError,
    ask,
    context_of_operator,
    indented,
    moment,
    positive,
    state_of,
    table,
    version_text,
)
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.endpoint_runs import NoTests
from lifecycle_lambdas.records import Deployment, State, TestRun

PAUSE = 1.0  # seconds between two looks at what came of it
HISTORY = 20  # deployments among which the one that serves is looked for
# A run is begun again when it was lost; a batch stage's waits for a transform job.
LONGEST = timedelta(minutes=30)
TEXT = (
    "run the endpoint tests of the version that serves (its tests/endpoint/) now, in the platform's function, and say "
    "what came of them; a failure means what their on_failure says, and the version before may serve again for it"
)


def add(commands: Any) -> None:
    command = commands.add_parser("test", help=TEXT, description=TEXT)
    command.add_argument("endpoint", help="<project>-<stage>")
    command.add_argument("--last", type=positive, metavar="N", help="run nothing, show the last N runs")
    command.add_argument("--no-wait", action="store_true", help="ask for it alone")
    command.add_argument("--yes", action="store_true", help="do not ask, where a failure means going back")
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    context = context_of_operator()
    state = state_of(context, options.endpoint)
    if options.last is not None:
        found = list(context.ledger.test_runs(state.endpoint, limit=options.last))
        print(runs_text(found) if found else f"the endpoint tests of {state.endpoint} were never run")
        return OK
    try:
        newest = endpoint_runs.last(context, serving(context, state))
    except NoTests as error:
        raise InputError(str(error)) from error
    if newest.is_over and newest.means == "go-back":
        ask(options, consequence(newest))
    asked = endpoint_runs.ask(context, newest)
    print(f"the tests of deployment {asked.number} of {asked.endpoint} are {asked.status}")
    if options.no_wait:
        return OK
    ended = _wait(context, asked)
    print(run_text(ended))
    return OK if ended.status == "passed" else NOT_SETTLED


def consequence(run: TestRun) -> str:
    """What somebody who asks for a run again has to know, where a failure takes the version away. Pure."""
    version = version_text(run.package_arn)
    return (
        f"{run.endpoint} goes back to the version before, where there is one, when version {version} fails its tests "
        "(twice: they are asked once more, where they take less than a minute): on_failure of its tests/endpoint/ says "
        "go-back. They are sent to the endpoint that users are served by, the load as well."
    )


def serving(context: Context, state: State) -> Deployment:
    """The deployment that was done last. Raises InputError when there is none."""
    for deployment in islice(context.ledger.deployments(state.endpoint, HISTORY), HISTORY):
        if deployment.status == "succeeded" and deployment.number > state.removed_number:
            return deployment
    raise InputError(f"nothing of {state.endpoint} was deployed: approve a version first")


def run_text(run: TestRun) -> str:
    """What came of a run, as people read it."""
    told = {
        "passed": "the only case passes" if run.cases == 1 else f"all {run.cases} cases pass",
        "failed": f"{run.failed} of {run.cases} cases fail",
        "broken": "they could not be run",
        "superseded": "the deployment does not serve any more",
    }
    lines = [f"{run.endpoint}, version {version_text(run.package_arn)}: {told.get(run.status, run.status)}"]
    if run.p50_ms is not None and run.p99_ms is not None and run.error_share is not None:
        rate = "" if run.requests_per_second is None else f", {run.requests_per_second:.1f} requests/s"
        lines.append(f"load: p50 {run.p50_ms:.0f} ms, p99 {run.p99_ms:.0f} ms, errors {run.error_share:.2%}{rate}")
    for failure in run.failures:
        first, *more = failure.splitlines() or [""]
        lines += [f"- {first}", *indented(more)]
    lines += [f"not asked: {skipped}" for skipped in run.skipped]
    lines += [f"all results: {run.results}"] if run.results else []
    return "\n".join(lines)


def runs_text(runs: list[TestRun]) -> str:
    """A table, the newest first."""
    rows = [
        (
            moment(run.at),
            str(run.number),
            version_text(run.package_arn),
            run.reason,
            run.verdict,
            f"{run.cases - run.failed}/{run.cases}" if run.is_over else "",
            "" if run.p99_ms is None else f"{run.p99_ms:.0f}",
            run.failures[0].partition("\n")[0] if run.failures else "",
        )
        for run in runs
    ]
    return "\n".join(
        table(("when (UTC)", "deployment", "version", "why", "verdict", "passed", "p99 ms", "first"), rows)
    )


def _wait(context: Context, asked: TestRun) -> TestRun:
    end = time.monotonic() + LONGEST.total_seconds()
    while time.monotonic() < end:
        run = context.ledger.test_run(asked.endpoint, asked.key)
        if run is not None and run.is_over:
            return run
        time.sleep(PAUSE)
    raise InputError(
        f"the tests have not ended after {LONGEST.total_seconds() / 60:.0f} minutes: look at the log of the function "
        f"modelyard-endpoint-tests, and at python -m lifecycle_lambdas test {asked.endpoint} --last 5"
    )
