"""Runs of endpoint tests, whoever has to do with them: how they are begun, told to the function, and told to people."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

from lifecycle_lambdas.context import Context
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.records import Deployment, Meaning, TestReason, TestRun, package_version

FOLDER = "endpoint-tests"
# Twice as long as the function may take: what is not over by then was lost, or its function was killed.
SEND_AGAIN = timedelta(minutes=10)
MOST_SENT = 6  # times, in an hour; then a person is told
_REASONS = {"deployed": "after its deployment", "schedule": "on its schedule", "asked": "somebody asked"}


class NoTests(Exception):
    """A deployment that has no endpoint tests; the message says why."""


class Superseded(Exception):
    """The deployment does not serve any more, and nobody asks how it answers."""


def again(run: TestRun, reason: TestReason, at: datetime) -> TestRun:
    """A new run of the same deployment, which comes after it, whatever the clocks say: the newest one is believed.

    Args:
        run: the newest.
        at: from when it is due.
    """
    return TestRun(
        endpoint=run.endpoint,
        number=run.number,
        package_arn=run.package_arn,
        reason=reason,
        status="due",
        means=run.means,
        at=max(whole_seconds(at), run.at + timedelta(seconds=1)),
    )


def last(context: Context, deployment: Deployment) -> TestRun:
    """The deployment's newest run. Raises NoTests when it has no cases that could be asked."""
    newest = next(context.ledger.test_runs(deployment.endpoint, deployment.number, 1), None)
    if newest is None or context.ledger.suite(deployment.endpoint, deployment.number) is None:
        raise NoTests(
            f"deployment {deployment.number} of {deployment.endpoint} has no endpoint tests: its version was "
            "registered without tests/endpoint/, or they could not be read so far, which every look tries again: "
            f"python -m lifecycle_lambdas look {deployment.endpoint}"
        )
    return newest


def ask(context: Context, newest: TestRun) -> TestRun:
    """Begin a run that somebody asks for; or the one that is under way.

    Args:
        newest: of the deployment's runs, as last() finds it.
    """
    return newest if not newest.is_over else begin(context, again(newest, "asked", context.now()))


def begin(context: Context, run: TestRun) -> TestRun:
    """Record a run that is due, and tell the function of it; the same twice is one."""
    if not context.ledger.begin_test_run(run):
        run = context.ledger.test_run(run.endpoint, run.key) or run
    return send_if_lost(context, run)


def send_if_lost(context: Context, run: TestRun) -> TestRun:
    """Tell the function of a run that it was never told of, or that has not ended in time."""
    now = context.now()
    if run.is_over or (run.sent_at is not None and now - run.sent_at < SEND_AGAIN):
        return run
    if run.sent >= MOST_SENT:
        why = f"it was begun {run.sent} times and never ended: look at the log of the function modelyard-endpoint-tests"
        ended = context.ledger.put_test_run(replace(run, status="broken", ended=now, failures=(why,)))
        return ended or run
    body = {"test": run.endpoint, "number": run.number, "run": run.key, "reason": run.reason}
    context.client("sqs").send_message(QueueUrl=context.settings.tests_queue_url, MessageBody=json.dumps(body))
    log("endpoint tests are due", endpoint=run.endpoint, number=run.number, reason=run.reason, sent=run.sent + 1)
    # anybody's again; where the function has it already its revision is another one, and nothing is changed
    return context.ledger.put_test_run(replace(run, status="due", sent_at=now, sent=run.sent + 1)) or run


def results_place(run: TestRun, bucket: str) -> tuple[str, str]:
    """Bucket and key of the run's results."""
    project, _, stage = run.endpoint.rpartition("-")
    return bucket, f"{project}/{stage}/{FOLDER}/{run.number}/{run.at:%Y%m%dT%H%M%SZ}.json"


def message(run: TestRun) -> Message:
    """What people are told of a run that is over. Pure."""
    version = f"version {package_version(run.package_arn)}"
    load = run.p50_ms is not None and run.p99_ms is not None
    facts = (
        ("Deployment", str(run.number)),
        ("When", _REASONS[run.reason]),
        ("Cases", str(run.cases) if run.cases else ""),
        ("p50, p99", f"{run.p50_ms:.0f} ms, {run.p99_ms:.0f} ms" if load else ""),
        ("Error share", f"{run.error_share:.2%}" if run.error_share is not None else ""),
        ("Not asked", "; ".join(run.skipped)),
    )
    given = tuple((name, value) for name, value in facts if value)
    links = (("Results", run.results),) if run.results else ()
    about = run.key.partition("#")[2]
    if run.status == "passed":
        title = f"{run.endpoint}: the endpoint tests of {version} pass"
        return Message("tests-passed", run.endpoint, f"tests-passed#{about}", title, "", given, links)
    if run.status == "broken":
        title = f"{run.endpoint}: the endpoint tests of {version} could not be run"
        text = "\n".join([*run.failures, f"Nothing goes back for it. When it is put right: {_command(run)}"])
        return Message("tests-broken", run.endpoint, f"tests-broken#{about}", title, text, given, links)
    title = f"{run.endpoint}: {version} fails {run.failed} of {run.cases} endpoint tests"
    more = run.failed - len(run.failures)
    rest = [f"... and {more} more"] if more > 0 else []
    text = "\n\n".join([*run.failures, *rest, _consequence(run)])
    return Message("tests-failed", run.endpoint, f"tests-failed#{about}", title, text, given, links)


def _consequence(run: TestRun) -> str:
    means: dict[Meaning, str] = {
        "report": "on_failure says report: it serves on.",
        "block": f"on_failure says block: it serves on, and is not promoted before they pass. Again: {_command(run)}",
        "go-back": "on_failure says go-back: what served before it comes back, where there is something.",
    }
    return means[run.means]


def _command(run: TestRun) -> str:
    return f"python -m lifecycle_lambdas test {run.endpoint}"
