"""Runs the endpoint tests that are due, against the real endpoint, and writes down what came of them.

A message says which run; everything else is in the ledger. Whoever runs it claims it first, so that a message that
comes twice, or two at once, is one run. What is not the version's fault (a permission, rows that are gone) makes a run
"broken"; what passes by itself is raised, and the message comes again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas import batch_testing, endpoint_checks, endpoint_runs, events
from lifecycle_lambdas.aws_errors import is_missing, not_allowed
from lifecycle_lambdas.batch_testing import JobBroken
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.endpoint_answers import Answer, EvaluatedRows, Request, RowsError
from lifecycle_lambdas.endpoint_checks import Results
from lifecycle_lambdas.endpoint_runs import Superseded
from lifecycle_lambdas.events import LookAt
from lifecycle_lambdas.log import log
from lifecycle_lambdas.names import numbered
from lifecycle_lambdas.records import Deployment, SuiteRecord, TestRun, TestSchedule
from lifecycle_lambdas.s3_objects import Unreadable, read, uri, write

NAMESPACE = "Modelyard"
WORKERS = 8  # requests at a time
CLAIMS = 5  # tries; whoever sends a message writes that down once
# Of InvokeEndpoint: a request that is too large, for one. The same again would be refused again.
REFUSED = ("ValidationError", "ValidationException", "RequestEntityTooLargeException")
AT_ITS_END = timedelta(minutes=5)  # a run that begins within it is the one that follows the deployment
SPARE = 20.0  # seconds that are kept for writing down what came
LONGEST_FAILURE, MOST_FAILURES = 2_000, 5
RECENT = 10  # runs among which the verdict before is looked for


class BrokenMessage(ValueError):
    """A message that says nothing that can be run; names what it lacks."""


class CannotRun(Exception):
    """The tests cannot be run, which says nothing of the version. Names the remedy."""


@dataclass(frozen=True)
class Wanted:
    """Run the tests that are due.

    Args:
        key: TestRun.key.
    """

    endpoint: str
    key: str


@dataclass(frozen=True)
class Scheduled:
    """Look which endpoints' schedules are due.

    Args:
        at: the time that the platform's rule fired for, UTC.
    """

    at: datetime


@dataclass(frozen=True)
class JobEnded:
    """A transform job of a batch stage's tests ended."""

    endpoint: str
    key: str


def parse(body: str) -> Wanted | Scheduled | JobEnded | None:
    """What a message's body asks for; None when it is nothing of ours. Raises BrokenMessage."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenMessage(f"a message that is not JSON ({error}): {body[:200]}") from error
    if not isinstance(message, dict):
        raise BrokenMessage(f"a message that is not a JSON object: {body[:200]}")
    if message.get("detail-type") == "Scheduled Event":
        return _scheduled(message)
    if "test" in message:
        if not all(isinstance(message.get(name), str) and message[name] for name in ("test", "run")):
            raise BrokenMessage(f'{message}: "test" is an endpoint\'s name, with "run": the key of a run')
        return Wanted(message["test"], message["run"])
    name = (message.get("detail") or {}).get("TransformJobName")
    found = batch_testing.run_of(name) if isinstance(name, str) else None
    return None if found is None else JobEnded(*found)


def _scheduled(event: dict[str, Any]) -> Scheduled:
    try:
        return Scheduled(events.moment(event["time"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenMessage(f"{event}: a scheduled event needs its time ({error!r})") from error


def handle(context: Context, body: str) -> None:
    """Do what a message asks for.

    Raises:
        BrokenMessage: it cannot be read.
        ClientError: AWS cannot do it now.
    """
    wanted = parse(body)
    if wanted is None:
        log("not for us", body=body[:300])
    elif isinstance(wanted, Scheduled):
        begin_scheduled(context, wanted.at)
    else:
        run_one(context, wanted.endpoint, wanted.key)


def begin_scheduled(context: Context, at: datetime) -> None:
    """Begin a run wherever one is due by its schedule.

    One query finds them all; only those that are due cost more. The one before must be over: slow tests are not piled
    up.
    """
    for schedule in context.ledger.test_schedules():
        if schedule.next > at:
            continue
        newest = next(context.ledger.test_runs(schedule.endpoint, schedule.number, 1), None)
        if newest is not None and newest.reason == "schedule" and newest.at >= schedule.next:
            endpoint_runs.send_if_lost(context, newest)  # begun by a message that was cut off before the next line
        elif newest is not None and newest.is_over:
            endpoint_runs.begin(context, endpoint_runs.again(newest, "schedule", schedule.next))
        context.ledger.reschedule_tests(schedule, following(schedule, at))


def following(schedule: TestSchedule, now: datetime) -> datetime:
    """The first time of the schedule that is still to come: what was missed is not made up for. Pure."""
    step = timedelta(minutes=schedule.every_minutes)
    missed = max((now - schedule.next) // step, 0)
    return schedule.next + (missed + 1) * step


def run_one(context: Context, endpoint: str, key: str) -> TestRun | None:
    """Run the tests, or go on with them; None when there is nothing to do."""
    run = _claimed(context, endpoint, key)
    if run is None:
        return None
    if not run.is_over:
        written = context.ledger.put_test_run(_gone_on_or_left(context, run))
        if written is None:
            log("another one has ended this run", endpoint=endpoint, run=key)
            return None
        if not written.is_over:
            return written  # a transform job answers later
        run = written
    # what follows may have been cut off before, and does no harm twice
    _follow(context, run)
    return run


def _claimed(context: Context, endpoint: str, key: str) -> TestRun | None:
    """The run as ours, or as it ended; None while another one is at it. A transform job's run is anybody's.

    Raises RuntimeError when somebody changes it all the time; the message comes again.
    """
    for _ in range(CLAIMS):
        run = context.ledger.test_run(endpoint, key)
        if run is None:
            log("a run that the ledger does not know", endpoint=endpoint, run=key)
            return None
        if run.is_over:
            return run
        now = context.now()
        held = run.status == "running" and not run.job
        if held and run.sent_at is not None and now - run.sent_at < endpoint_runs.SEND_AGAIN:
            log("another one runs these tests", endpoint=endpoint, run=key)
            return None
        ours = replace(run, status="running", claimed=context.owner, sent_at=now, sent=max(run.sent, 1))
        # whoever sent the message may be writing that down at this moment
        if (claimed := context.ledger.put_test_run(ours)) is not None:
            return claimed
    raise RuntimeError(f"{endpoint}: the run {key} could not be claimed")


def _gone_on_or_left(context: Context, run: TestRun) -> TestRun:
    """As _gone_on; what cannot be gone on with now is given back, so that the message, come again, can claim it."""
    try:
        return _gone_on(context, run)
    except Exception:
        with contextlib.suppress(ClientError, BotoCoreError):
            context.ledger.put_test_run(replace(run, status="due"))
        raise


def _gone_on(context: Context, run: TestRun) -> TestRun:
    """The run as it ended, or (of a batch stage) with the job that answers."""
    try:
        suite = _suite(context, run)
        results = _results(context, run, suite)
    except Superseded as reason:
        log("endpoint tests without a verdict", endpoint=run.endpoint, number=run.number, reason=str(reason))
        return replace(run, status="superseded", ended=context.now(), failures=(str(reason),))
    except (CannotRun, JobBroken, Unreadable) as error:
        log("endpoint tests cannot be run", level="ERROR", endpoint=run.endpoint, number=run.number, error=str(error))
        return replace(run, status="broken", ended=context.now(), failures=(str(error)[:LONGEST_FAILURE],))
    if results is None:
        # it is under way: of those that are lost, which are given up after a while, it is none
        return replace(run, job=batch_testing.name_of(run), sent=1)
    place = endpoint_runs.results_place(run, suite.bucket)
    over = summary(run, results, uri(*place), context.now())
    write(context, *place, json.dumps(_in_full(over, results), indent=2).encode(), "application/json")
    _measure(context, over)
    return over


def _suite(context: Context, run: TestRun) -> SuiteRecord:
    found = context.ledger.suite(run.endpoint, run.number)
    if found is None:
        raise CannotRun(f"the ledger has no cases of deployment {run.number} of {run.endpoint}: approve it once more")
    return found


def _results(context: Context, run: TestRun, suite: SuiteRecord) -> Results | None:
    """None while a transform job runs."""
    deployment = context.ledger.deployment(run.endpoint, run.number)
    if deployment is None:
        raise CannotRun(f"the ledger has no deployment {run.number} of {run.endpoint}: approve its version once more")
    if deployment.stage_file.get("kind") == "batch":
        return _of_batch(context, run, suite)
    return _of_endpoint(context, run, deployment, suite)


def summary(run: TestRun, results: Results, place: str, now: datetime) -> TestRun:
    """The run as it ended. Pure."""
    failed, load = results.failed, results.load
    return replace(
        run,
        status="failed" if failed else "passed",
        ended=now,
        cases=sum(not case.skipped for case in results.cases) + (load is not None),
        failed=len(failed),
        failures=tuple(f"{case.name}: {case.fault}"[:LONGEST_FAILURE] for case in failed[:MOST_FAILURES]),
        failed_names=tuple(case.name for case in failed[:MOST_FAILURES]),
        skipped=_skipped(results),
        results=place,
        seconds=round(results.seconds, 3),
        p50_ms=None if load is None else load.p50_ms,
        p99_ms=None if load is None else load.p99_ms,
        error_share=None if load is None else load.error_share,
        requests_per_second=None if load is None else load.requests_per_second,
    )


def _skipped(results: Results) -> tuple[str, ...]:
    """How many cases were not asked, by why: a batch stage may skip hundreds."""
    reasons = [case.skipped for case in results.cases if case.skipped]
    counts = {reason: reasons.count(reason) for reason in reasons}
    return tuple(f"{count} case{'' if count == 1 else 's'}: {reason}"[:500] for reason, count in counts.items())


def _in_full(run: TestRun, results: Results) -> dict[str, Any]:
    """What is kept in S3."""
    names = ("endpoint", "number", "package_arn", "reason", "status", "means")
    return {
        **{name: getattr(run, name) for name in names},
        "at": run.at.isoformat(),
        "ended": None if run.ended is None else run.ended.isoformat(),
        **results.as_json(),
    }


# --- an endpoint ----------------------------------------------------------------------------------------------------


def _of_endpoint(context: Context, run: TestRun, deployment: Deployment, record: SuiteRecord) -> Results:
    _check_serves(context, run)
    suite, evaluated = cases(context, record)
    workers = min(WORKERS, deployment.stage_file.get("max_concurrency") or WORKERS)
    endpoint = endpoint_checks.endpoint(context.client("sagemaker-runtime"), run.endpoint)
    without_answer: list[str] = []

    def left() -> float:
        return context.remaining() - SPARE

    def ask(request: Request) -> Answer:
        answer = endpoint(request)
        if not answer.body and answer.error:
            without_answer.append(answer.error)
        return answer

    def once() -> Results:
        return endpoint_checks.run(suite, evaluated, ask, workers, left)

    given = left() - endpoint_checks.LONGEST_ANSWER
    try:
        results = once()
        # what SageMaker or the network did once is nobody's fault; nor is a single failure of what serves since long,
        # whose first run was superseded, or lost with the ledger
        at_its_end = run.reason == "deployed" and context.now() - (deployment.ended or run.at) < AT_ITS_END
        doubtful = not at_its_end or bool(without_answer)
        # in half of what is left, or the second answers may not come in time, and would say less than the first
        if not results.passed and doubtful and left() - endpoint_checks.LONGEST_ANSWER > 2 * results.seconds:
            failed = [case.name for case in results.failed]
            log("failed, asked once more", endpoint=run.endpoint, failed=failed, without_answer=without_answer[:3])
            results = once()
    except ClientError as error:
        # who may ask by tags alone is told of an endpoint that is gone that it may not
        _check_serves(context, run)
        if error.response["Error"]["Code"] in REFUSED and not _is_gone(error):
            raise CannotRun(f"SageMaker does not take what a case asks: {error}. Correct tests/endpoint/") from error
        raise _meaning(error, run) from error
    if not results.passed:
        # what failed may have been another deployment's answers by then
        _check_serves(context, run)
    if results.out_of_time:
        raise CannotRun(
            f"{len(results.failed)} of the cases could not be asked, and the others pass: with the load they take more "
            f"than the {given:.0f} s that the platform has for them. In tests/endpoint/, write fewer cases, vary fewer "
            "values, or send a shorter load; or find out why the endpoint is so slow"
        )
    return results


def cases(context: Context, record: SuiteRecord) -> tuple[Any, EvaluatedRows | None]:
    """The suite, and the evaluated rows where it needs them. Raises CannotRun, Unreadable."""
    # pydantic takes longer to import than all the rest: a message that is not for us does not wait for it
    from lifecycle_lambdas import endpoint_suite

    try:
        suite = endpoint_suite.read(record.text.encode(), record.sha256)
    except endpoint_suite.SuiteError as error:
        raise CannotRun(f"the cases of {record.endpoint} cannot be read by this platform: {error}") from error
    if not suite.needs_evaluated_rows:
        return suite, None
    if not record.evaluated:
        raise CannotRun(
            "the version does not say where its evaluated rows are (metadata report), which the cases need: train it "
            "with the project's pipeline"
        )
    try:
        return suite, EvaluatedRows.read(read(context, record.evaluated))
    except RowsError as error:
        raise CannotRun(f"{record.evaluated}: {error}: train the version again") from error


def _check_serves(context: Context, run: TestRun) -> None:
    """Raises Superseded unless the endpoint answers with this deployment alone."""
    try:
        found = context.client("sagemaker").describe_endpoint(EndpointName=run.endpoint)
    except ClientError as error:
        raise _meaning(error, run) from error
    config, wanted = found["EndpointConfigName"], numbered(run.endpoint, run.number)
    pending = found.get("PendingDeploymentSummary", {}).get("EndpointConfigName", config)
    if (config, pending) != (wanted, wanted):
        raise Superseded(f"{run.endpoint} is on {config}, or on its way to {pending}, and not on {wanted} alone")


def _is_gone(error: ClientError) -> bool:
    """InvokeEndpoint says ValidationError: "Endpoint ... of account ... not found."."""
    found = error.response["Error"]
    return is_missing(error) or (found["Code"] == "ValidationError" and "not found" in found.get("Message", ""))


def _meaning(error: ClientError, run: TestRun) -> Exception:
    """What AWS's refusal says of the run: the error itself is for trying again."""
    if _is_gone(error):
        return Superseded(f"{run.endpoint} is not there any more: {error}")
    if not_allowed(error):
        return CannotRun(
            f"{error}. Whoever administers the platform: install it again, which gives its role back what it lacks"
        )
    return error


# --- a batch stage --------------------------------------------------------------------------------------------------


def _of_batch(context: Context, run: TestRun, record: SuiteRecord) -> Results | None:
    """What a transform job answers; None while it runs."""
    suite, evaluated = cases(context, record)
    if evaluated is None:
        raise CannotRun(
            "none of the cases asks the evaluated rows (rows: evaluated), and a batch stage can be asked nothing else: "
            "add one, or remove tests/endpoint/"
        )
    try:
        job = batch_testing.find(context, run)
        if job is None:
            batch_testing.start(context, run, record.bucket, endpoint_checks.batch_body(evaluated))
            return None
    except ClientError as error:
        raise _meaning(error, run) from error
    if job.status not in batch_testing.OVER:
        return None
    return endpoint_checks.check_batch(suite, evaluated, batch_testing.answer(context, job))


# --- who hears of it ------------------------------------------------------------------------------------------------


def _measure(context: Context, run: TestRun) -> None:
    dimensions = [{"Name": "EndpointName", "Value": run.endpoint}]
    values = {
        "EndpointTestCases": (float(run.cases), "Count"),
        "EndpointTestFailures": (float(run.failed), "Count"),
        "EndpointTestP99": (run.p99_ms, "Milliseconds"),
        "EndpointTestErrorShare": (run.error_share, "None"),
    }
    data = [
        {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": unit}
        for name, (value, unit) in values.items()
        if value is not None
    ]
    context.client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=data)


def _follow(context: Context, run: TestRun) -> None:
    """Tell people of what is news, and have the controller look where something follows."""
    log("endpoint tests", endpoint=run.endpoint, number=run.number, status=run.status, failed=run.failed)
    if run.status == "superseded":
        _unschedule(context, run)
        return
    before = next(_verdicts_before(context, run), None)
    if is_news(run, before):
        context.tell(endpoint_runs.message(run))
    if run.reason == "schedule" and before is not None and before.verdict == run.verdict == "passed":
        return
    # who is at the endpoint looks once more, and should this message be lost, the schedule of every minute does
    context.ledger.ask(run.endpoint)
    body = events.message(LookAt(run.endpoint))
    context.client("sqs").send_message(QueueUrl=context.settings.queue_url, MessageBody=body)


def is_news(run: TestRun, before: TestRun | None) -> bool:
    """Whether people are told: passing once for each deployment and after a failure, failing when it is another. Pure.

    A failure is another one when other cases failed: what is measured is never the same twice.

    Args:
        before: the deployment's verdict before this one.
    """
    if before is None or run.reason == "asked" or run.status != before.status:
        return True
    if run.status == "failed":
        return (run.failed, run.failed_names) != (before.failed, before.failed_names)
    return run.status == "broken" and run.failures != before.failures


def _verdicts_before(context: Context, run: TestRun) -> Iterator[TestRun]:
    runs = context.ledger.test_runs(run.endpoint, run.number, RECENT)
    return (one for one in runs if one.key < run.key and one.is_over and one.status != "superseded")


def _unschedule(context: Context, run: TestRun) -> None:
    """Nobody asks what is gone again and again; a deployment that is done begins its own schedule."""
    for schedule in context.ledger.test_schedules():
        if (schedule.endpoint, schedule.number) == (run.endpoint, run.number) and not _serves(context, run):
            context.ledger.unschedule_tests(schedule)


def _serves(context: Context, run: TestRun) -> bool:
    """Whether the endpoint is on the deployment's config, perhaps with another one on its way."""
    try:
        found = context.client("sagemaker").describe_endpoint(EndpointName=run.endpoint)
    except ClientError as error:
        if not _is_gone(error):
            raise
        return False
    return bool(found["EndpointConfigName"] == numbered(run.endpoint, run.number))
