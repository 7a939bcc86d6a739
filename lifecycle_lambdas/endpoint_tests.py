"""The endpoint tests of what serves, as the controller sees to them: begun once, found when lost, stamped.

`due` is called in every look at a deployment that is done. What it does follows from the ledger alone, so that a look
that was killed, or that comes twice, ends as one. The function modelyard-endpoint-tests runs them
(endpoint_testing.py); it has no right on the registry, so the next look writes the verdict on the version.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

from botocore.exceptions import ClientError

from lifecycle_lambdas import endpoint_runs
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.declared import StageFileError, stage_file_place
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.log import log
from lifecycle_lambdas.records import Deployment, Meaning, SuiteRecord, TestRun, TestSchedule
from lifecycle_lambdas.s3_objects import Unreadable, read, uri

# Metadata of a version: the hash of its cases, and the stamps that say how they went where it serves.
SHA256, STATUS, AT, REPORT = "tests.sha256", "tests.status", "tests.at", "report"
FILE, EVALUATED_ROWS = "endpoint-tests.json", "endpoint-rows.json"
RECENT = 10  # runs among which the verdict is looked for
# As endpoint_suite.LARGEST, whose import takes longer than a look: what is larger does not fit into the ledger.
LARGEST = 256 * 1024  # bytes


class SuiteError(Exception):
    """The cases that a version names cannot be used; the message says why and what to do."""


def due(context: Context, deployment: Deployment, package: Mapping[str, Any]) -> None:
    """See to the tests of a deployment that is done.

    A version that was registered without cases is not tested, and costs no call.

    Args:
        package: DescribeModelPackage's answer.

    Raises:
        ClientError: of AWS; the next look goes on where this one ended.
    """
    if SHA256 not in package.get("CustomerMetadataProperties", {}):
        return
    runs = list(context.ledger.test_runs(deployment.endpoint, deployment.number, RECENT))
    if not runs or _is_unread(runs[0]):
        newest = _begin(context, deployment, package, runs[0] if runs else None)
    elif runs[0].status == "superseded":
        # another version was on its way, and did not stay: this one serves on, and would be tested never
        run = endpoint_runs.again(runs[0], "deployed", context.now())
        _begin_schedule(context, deployment, run)
        newest = endpoint_runs.begin(context, run)
    else:
        newest = endpoint_runs.send_if_lost(context, runs[0])
    if newest.status == "broken":
        context.tell(endpoint_runs.message(newest))
    _stamp(context, verdict([newest, *runs[1:]]), package)


def verdict(runs: Iterable[TestRun]) -> TestRun | None:
    """The newest run that says something of the version; where none could be run, one that says so. Pure.

    Args:
        runs: of one deployment, the newest first.
    """
    over = [run for run in runs if run.is_over]
    said = [run for run in over if run.status in ("passed", "failed")]
    return next(iter([*said, *(run for run in over if run.status == "broken")]), None)


def stamps(run: TestRun | None, metadata: Mapping[str, str]) -> dict[str, str]:
    """What is to be written on the version; empty where it stands there. Pure.

    A schedule's run that says what the one before it said writes nothing: every stamp is an event.
    """
    if run is None or run.ended is None:
        return {}
    at = f"{run.ended:%Y-%m-%dT%H:%M:%SZ}"
    if metadata.get(STATUS) == run.verdict and (run.reason == "schedule" or metadata.get(AT, "") >= at):
        return {}
    return {STATUS: run.verdict, AT: at}


def evaluated_rows(report: str, bucket: str, project: str) -> str:
    """S3 URI of the evaluated rows, beside the version's report; "" where that is not the project's.

    Whoever registers a version could name another project's folder, and what the function reads is told.
    """
    found = re.fullmatch(rf"s3://{re.escape(bucket)}/({re.escape(project)}/.+)/[^/]+", report)
    if found is None or ".." in found[1].split("/"):
        return ""
    return f"s3://{bucket}/{found[1]}/{EVALUATED_ROWS}"


def _is_unread(run: TestRun) -> bool:
    """Whether the cases could not be read so far: that may be put right by now."""
    return run.status == "broken" and not run.sent


def _begin(context: Context, deployment: Deployment, package: Mapping[str, Any], unread: TestRun | None) -> TestRun:
    """Keep the version's cases in the ledger, and have them run.

    Args:
        unread: the run of an earlier look, which could not read them.
    """
    try:
        suite, means = _suite(context, deployment, package)
    except (SuiteError, StageFileError, Unreadable) as error:
        log("endpoint tests cannot be used", level="ERROR", endpoint=deployment.endpoint, error=str(error))
        broken = replace(_first(context, deployment), status="broken", ended=context.now(), failures=(str(error),))
        if unread is None:
            context.ledger.begin_test_run(broken)
        return unread or broken
    context.ledger.put_suite(suite)
    run = replace(_first(context, deployment), means=means)
    _begin_schedule(context, deployment, run)
    if unread is not None:
        due_now = context.ledger.put_test_run(replace(unread, status="due", means=means, ended=None, failures=()))
        return endpoint_runs.send_if_lost(context, due_now or unread)
    return endpoint_runs.begin(context, run)


def _begin_schedule(context: Context, deployment: Deployment, run: TestRun) -> None:
    """Have the deployment tested again and again, counted from this run, where its stage file says so."""
    if every := (deployment.stage_file.get("tests") or {}).get("every_minutes"):
        following = run.at + timedelta(minutes=every)
        context.ledger.schedule_tests(TestSchedule(deployment.endpoint, deployment.number, every, following))


def _first(context: Context, deployment: Deployment) -> TestRun:
    """The run that follows the deployment: by its time the same in every look."""
    return TestRun(
        endpoint=deployment.endpoint,
        number=deployment.number,
        package_arn=deployment.package_arn,
        reason="deployed",
        status="due",
        means="report",
        at=whole_seconds(deployment.ended or context.now()),
    )


def _suite(context: Context, deployment: Deployment, package: Mapping[str, Any]) -> tuple[SuiteRecord, Meaning]:
    """The version's cases as they were registered, and what a failure means in this stage."""
    project, _, stage = deployment.endpoint.rpartition("-")
    metadata = package["CustomerMetadataProperties"]
    bucket, stage_file, _ = stage_file_place(dict(package), stage)
    key = f"{stage_file.rpartition('/')[0]}/{FILE}"
    content = read(context, uri(bucket, key))
    found = hashlib.sha256(content).hexdigest()
    if found != metadata[SHA256]:
        raise SuiteError(
            f"s3://{bucket}/{key} is not the file that was registered: its SHA-256 is {found}, and the version says "
            f"{metadata[SHA256]}. Find out who changed it, and run the pipeline again"
        )
    try:
        text, means = _read(content, stage)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SuiteError(f"s3://{bucket}/{key} holds no endpoint tests ({error!r}): run the pipeline again") from error
    evaluated = evaluated_rows(metadata.get(REPORT, ""), bucket, project)
    return SuiteRecord(deployment.endpoint, deployment.number, found, text, evaluated, bucket), means


def _read(content: bytes, stage: str) -> tuple[str, Meaning]:
    """The cases' text, and what a failure means in the stage. What is within is looked at by who runs them. Pure.

    Raises ValueError, LookupError, TypeError, RecursionError: somebody wrote the file by hand.
    """
    if len(content) > LARGEST:
        raise ValueError(f"{len(content):,} bytes, and at most {LARGEST:,} are read")
    text = content.decode()
    means: Meaning = json.loads(text)["on_failure"][stage]
    if means not in get_args(Meaning):
        raise ValueError(f"on_failure.{stage} is {means!r}, and must be one of {', '.join(get_args(Meaning))}")
    return text, means


def _stamp(context: Context, run: TestRun | None, package: Mapping[str, Any]) -> None:
    """Write the verdict on the version, unless it stands there."""
    written = stamps(run, package.get("CustomerMetadataProperties", {}))
    if not written:
        return
    arn = package["ModelPackageArn"]
    try:
        context.client("sagemaker").update_model_package(ModelPackageArn=arn, CustomerMetadataProperties=written)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException":
            raise
        # it has 50 properties, or is gone: the verdict stays in the ledger
        log("the version could not be stamped with its tests", level="ERROR", package=arn, error=str(error))
