"""What happened to an endpoint that went back, or that alarms rolled back: one Markdown page for each time, in S3.

The page is written when the controller begins to go back, and once more when that has ended: then with how it ended.
Of a deployment that alarms rolled back it is written when it has failed. What it says is gathered from the ledger, the
registry and CloudWatch; `markdown` makes the page of it and is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import messages, names
from lifecycle_lambdas.aws_errors import not_allowed
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.declared import StageFileError, stage_file_place
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.records import Deployment, Entry, State, TestRun, package_version

Package = dict[str, Any]

BEFORE = timedelta(hours=1)  # of which the metrics are shown
LONGEST = timedelta(hours=6)  # of metrics in all: a page, not an archive
MINUTE = 60
MOST_ENTRIES = 50
MOST_DEPLOYMENTS = 20
# What is asked of CloudWatch, by the id in GetMetricData's request: metric and statistic (SageMaker developer guide,
# "Monitor SageMaker with CloudWatch": latencies are in microseconds).
_METRICS = {
    "requests": ("Invocations", "Sum"),
    "bad_requests": ("Invocation4XXErrors", "Sum"),
    "errors": ("Invocation5XXErrors", "Sum"),
    "p50": ("ModelLatency", "p50"),
    "p99": ("ModelLatency", "p99"),
}
_ROLLED_BACK = "alarms raised"  # as plan.py says it of a deployment that failed


@dataclass(frozen=True)
class Place:
    """Of an object in S3."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Minute:
    """What an endpoint did in one minute; latencies in milliseconds, None where nothing was measured."""

    at: datetime
    requests: float = 0
    bad_requests: float = 0
    errors: float = 0
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class Incident:
    """
    Args:
        deployment: the one that goes back, or that was rolled back.
        at_fault: the deployment that it goes back from; of one that was rolled back itself. None: not known.
        began: when it was decided, or of one that was rolled back when it had failed.
        cause: why, in words.
        by: who decided it.
        entries: of the ledger, the newest first.
        deployments: from the one at fault on, the newest first.
        packages: DescribeModelPackage's answers by ARN, of those that are there.
        minutes: of the metrics, in the order of time; empty when nothing was measured.
        unmeasured: why there are no metrics; "" when they could be read.
        look_at: what to look at, a sentence each.
    """

    deployment: Deployment
    at_fault: Deployment | None
    back_to: str | None
    began: datetime
    cause: str
    by: str
    entries: tuple[Entry, ...]
    deployments: tuple[Deployment, ...]
    packages: dict[str, Package]
    minutes: tuple[Minute, ...]
    unmeasured: str
    look_at: tuple[str, ...]


def is_one(deployment: Deployment) -> bool:
    """Whether the deployment is an incident: it goes back, or alarms rolled it back."""
    return deployment.goes_back or (deployment.status == "failed" and _ROLLED_BACK in deployment.reason.lower())


def write(
    context: Context, state: State, deployment: Deployment, package: Callable[[str], Package | None]
) -> Message | None:
    """Write the incident's page, unless it stands there as it is to be.

    Args:
        package: DescribeModelPackage's answer for a version's ARN, None when there is no such version.

    Returns:
        What a person has to put right, when it may not be written; going back does not wait for it.

    Raises:
        ClientError: AWS cannot do it now; the same again does no harm.
    """
    began = began_at(deployment)
    where = place(state, began, package(deployment.package_arn))
    if where is None or context.ledger.was_told(state.endpoint, mark(deployment)):
        return None
    page = markdown(gather(context, state, deployment, package, where))
    try:
        context.client("s3").put_object(
            Bucket=where.bucket, Key=where.key, Body=page.encode(), ContentType="text/markdown; charset=utf-8"
        )
    except ClientError as error:
        if not not_allowed(error) and error.response["Error"]["Code"] != "NoSuchBucket":
            raise
        reason = f"the record of an incident cannot be written to {where.uri}: {error.response['Error'].get('Message')}"
        log("no record", level="ERROR", endpoint=state.endpoint, reason=reason)
        remedy = "Name the bucket in the platform's parameter ArtifactBuckets, and its key in ProjectKmsKeyArns."
        return messages.of_endpoint("stuck", state.endpoint, f"incident#{deployment.number}", reason, remedy)
    context.ledger.record_told(state.endpoint, mark(deployment))
    log("an incident's record", endpoint=state.endpoint, place=where.uri)
    return None


def began_at(deployment: Deployment) -> datetime:
    """When it was decided to go back; of a deployment that was rolled back when it had failed. UTC, whole seconds."""
    if deployment.goes_back:
        return _decided_at(deployment)
    return whole_seconds(deployment.ended or deployment.started)


def _decided_at(deployment: Deployment) -> datetime:
    """The time of its entry, which the entry's key has."""
    return datetime.fromisoformat(deployment.entry_key.split("#")[1])


def place(state: State, began: datetime, package: Package | None) -> Place | None:
    """Where the page lies: in the bucket of the version's stage files; None for one that does not say which that is."""
    if package is None:
        return None
    try:
        bucket, _, _ = stage_file_place(package, state.stage)
    except StageFileError:
        return None
    return Place(bucket, f"{state.project}/{state.stage}/incidents/{began:%Y%m%dT%H%M%SZ}-{state.endpoint}.md")


def uri(state: State, deployment: Deployment, package: Package | None) -> str:
    """S3 URI of the deployment's page; "" where none is written."""
    found = place(state, began_at(deployment), package) if is_one(deployment) else None
    return "" if found is None else found.uri


def look_at(state: State, arn: str, cause: str, tests: TestRun | None, where: Place | None) -> tuple[str, ...]:
    """The three things to look at, by the cause: a sentence each, with the command or the address.

    Args:
        arn: of a version of the stage's.
        cause: a going_back.Cause's key; "" when a person went back.
        tests: the run that failed, when that is the cause.
    """
    endpoint = state.endpoint
    record = (
        f"the record of the incident: python -m lifecycle_lambdas show {endpoint}"
        if where is None
        else f"the record of the incident, with the metrics around it: aws s3 cp {where.uri} -"
    )
    if cause.startswith("TESTS#"):
        uri = "" if tests is None else tests.results
        results = f"aws s3 cp {uri} -" if uri else f"python -m lifecycle_lambdas show {endpoint}"
        return (
            f"the results of all cases, with what was asked, expected and answered: {results}",
            f"the same cases against what serves now, from the repository: python -m pipeline test-endpoint --stage "
            f"{state.stage}, or against any other endpoint with --endpoint",
            record,
        )
    console = messages.console(arn, "cloudwatch")
    dashboard = (
        f"the dashboard of the endpoint, requests, errors and latency: {console}#dashboards/dashboard/{endpoint}"
    )
    if "-custom#" in cause:
        name = names.standing_alarm(endpoint, "custom")
        return (
            f"the alarm's history and its metric: aws cloudwatch describe-alarm-history --alarm-name {name}",
            dashboard,
            record,
        )
    return (
        dashboard,
        f"what the containers wrote: aws logs tail /aws/sagemaker/Endpoints/{endpoint} --since 2h",
        record,
    )


# --- gathering


def gather(
    context: Context, state: State, deployment: Deployment, package: Callable[[str], Package | None], where: Place
) -> Incident:
    """What is known of the incident now."""
    ledger, endpoint = context.ledger, state.endpoint
    before = None if deployment.previous is None else ledger.deployment(endpoint, deployment.previous)
    at_fault = before if deployment.goes_back else deployment
    back_to = deployment.package_arn if deployment.goes_back else (None if before is None else before.package_arn)
    began = began_at(deployment)
    since = min(began, _decided_at(deployment if at_fault is None else at_fault))
    entries = tuple(islice(takewhile(lambda entry: entry.at >= since, ledger.entries(endpoint)), MOST_ENTRIES))
    first = deployment.number if at_fault is None else at_fault.number
    deployments = tuple(
        takewhile(lambda one: one.number >= first, ledger.deployments(endpoint, limit=MOST_DEPLOYMENTS))
    )
    decided = next((entry for entry in entries if entry.key == deployment.entry_key), None)
    cause = deployment.reason if not deployment.goes_back else ("" if decided is None else decided.why)
    key = "" if decided is None else decided.cause
    arns = [arn for arn in (None if at_fault is None else at_fault.package_arn, back_to) if arn is not None]
    minutes, unmeasured = _measured(context, endpoint, began)
    tests = failed_tests(context, endpoint, key)
    return Incident(
        deployment=deployment,
        at_fault=at_fault,
        back_to=back_to,
        began=began,
        cause=cause,
        by="SageMaker, at its alarms" if decided is None or not deployment.goes_back else decided.by,
        entries=entries,
        deployments=deployments,
        packages={arn: found for arn in dict.fromkeys(arns) if (found := package(arn)) is not None},
        minutes=minutes,
        unmeasured=unmeasured,
        look_at=look_at(state, deployment.package_arn, key, tests, where),
    )


def failed_tests(context: Context, endpoint: str, cause: str) -> TestRun | None:
    """The run of endpoint tests that is a going_back.Cause's key; None when it is another cause, or not there."""
    return context.ledger.test_run(endpoint, cause) if cause.startswith("TESTS#") else None


def _measured(context: Context, endpoint: str, began: datetime) -> tuple[tuple[Minute, ...], str]:
    """The metrics from an hour before to what is there, by minutes; why there are none."""
    start = began.replace(second=0) - BEFORE
    end = min(context.now(), began + LONGEST - BEFORE) + timedelta(seconds=1)
    queries = [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/SageMaker",
                    "MetricName": metric,
                    "Dimensions": [
                        {"Name": "EndpointName", "Value": endpoint},
                        {"Name": "VariantName", "Value": names.VARIANT},
                    ],
                },
                "Period": MINUTE,
                "Stat": statistic,
            },
        }
        for name, (metric, statistic) in _METRICS.items()
    ]
    try:
        answer = context.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries, StartTime=start, EndTime=end, ScanBy="TimestampAscending"
        )
    except ClientError as error:
        return (), f"CloudWatch did not answer: {error.response['Error'].get('Message')}"
    return _minutes(answer["MetricDataResults"]), ""


def _minutes(results: Sequence[dict[str, Any]]) -> tuple[Minute, ...]:
    """GetMetricData's results, by time; those minutes alone in which something was asked."""
    found: dict[datetime, dict[str, float]] = {}
    for result in results:
        for at, value in zip(result["Timestamps"], result["Values"], strict=True):
            found.setdefault(at.astimezone(UTC), {})[result["Id"]] = value
    return tuple(
        Minute(
            at=at,
            requests=values.get("requests", 0),
            bad_requests=values.get("bad_requests", 0),
            errors=values.get("errors", 0),
            p50=_milliseconds(values.get("p50")),
            p99=_milliseconds(values.get("p99")),
        )
        for at, values in sorted(found.items())
        if values.get("requests")
    )


def _milliseconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


# --- the page


def mark(deployment: Deployment) -> str:
    """By which the ledger knows that the page was written: as of its beginning, or of its end."""
    return f"incident#{deployment.number}#{'begun' if deployment.ended is None else 'ended'}"


def markdown(incident: Incident) -> str:
    """The page. Pure."""
    deployment = incident.deployment
    facts = [
        ("Endpoint", deployment.endpoint),
        ("Began", _moment(incident.began)),
        ("Decided by", incident.by),
        ("Cause", incident.cause),
        ("Status", _status(incident)),
    ]
    if deployment.ended is not None:
        facts += [("Ended", _moment(deployment.ended)), ("Took", messages.duration(deployment.ended - incident.began))]
    sections = [
        f"# {title(incident)}",
        _table(("what", ""), [(name, value) for name, value in facts if value]),
        "## What to look at",
        "\n".join(f"{number}. {what}" for number, what in enumerate(incident.look_at, 1)),
        "## Time line",
        _table(("when (UTC)", "what"), [(_moment(at), what) for at, what in timeline(incident)]),
        "## Versions",
        _versions(incident),
        "## Metrics",
        _metrics(incident),
    ]
    return "\n\n".join(sections) + "\n"


def title(incident: Incident) -> str:
    endpoint, bad = incident.deployment.endpoint, incident.at_fault
    old = "what served" if bad is None else f"version {package_version(bad.package_arn)}"
    new = "" if incident.back_to is None else f"version {package_version(incident.back_to)}"
    if incident.deployment.goes_back:
        return f"{endpoint}: back from {old} to {new}"
    return f"{endpoint}: {old} was rolled back by alarms" + (f", {new} serves on" if new else "")


def timeline(incident: Incident) -> list[tuple[datetime, str]]:
    """What was decided, and what was asked of AWS for it, in the order of time."""
    return sorted(
        [
            *((entry.at, _decision(entry)) for entry in incident.entries),
            *(found for entry in incident.entries if (found := _found(entry)) is not None),
            *(event for deployment in incident.deployments for event in _events(deployment)),
        ],
        key=lambda event: event[0],
    )


def _decision(entry: Entry) -> str:
    version = "" if entry.package_arn is None else f" version {package_version(entry.package_arn)}"
    why = f": {entry.why}" if entry.why else ""
    return f"{entry.kind}{version}, by {messages.short_name(entry.by)}{why}"


def _found(entry: Entry) -> tuple[datetime, str] | None:
    """When the entry's cause (going_back.Cause.key) came: an alarm was raised, or endpoint tests began that failed."""
    kind, *rest = entry.cause.split("#")
    if kind == "ALARM":
        number, alarm, at = rest
        return datetime.fromisoformat(at), f"the alarm {alarm} is raised, of deployment {number}"
    if kind == "TESTS":
        number, at = rest
        return datetime.fromisoformat(at), f"endpoint tests of deployment {int(number)} begin, and fail"
    return None


def _events(deployment: Deployment) -> Iterator[tuple[datetime, str]]:
    name = f"deployment {deployment.number}"
    yield deployment.started, f"{name} of version {package_version(deployment.package_arn)} begins"
    for attempt in deployment.attempts:
        yield attempt.at, f"{name}: {attempt.operation} {attempt.resource}: {attempt.outcome or 'not known yet'}"
    if deployment.ended is not None:
        yield deployment.ended, f"{name} {deployment.status}" + (f": {deployment.reason}" if deployment.reason else "")


def _status(incident: Incident) -> str:
    deployment = incident.deployment
    if not deployment.goes_back:
        return "rolled back, and rejected"
    words = {
        "under-way": "going back",
        "succeeded": "went back",
        "failed": f"could not go back: {deployment.reason}",
        "superseded": f"another decision came before it had ended: {deployment.reason}",
    }
    return words[deployment.status]


def _versions(incident: Incident) -> str:
    bad = None if incident.at_fault is None else incident.at_fault.package_arn
    columns = [(arn, role) for arn, role in ((bad, "at fault"), (incident.back_to, "before")) if arn is not None]
    if not columns:
        return "Not known."
    properties = [incident.packages.get(arn, {}).get("CustomerMetadataProperties", {}) for arn, _ in columns]
    rows = [
        ("approval", *(incident.packages.get(arn, {}).get("ModelApprovalStatus", "deleted") for arn, _ in columns)),
        *((name, *(found.get(key, "") for found in properties)) for name, key in _LINEAGE),
    ]
    settings = ("metric.main", "metric.threshold", "metric.tolerance")
    metrics = dict.fromkeys(
        key for found in properties for key in sorted(found) if key.startswith("metric.") and key not in settings
    )
    rows += [(key.removeprefix("metric."), *(found.get(key, "") for found in properties)) for key in metrics]
    head = ("", *(f"version {package_version(arn)} ({role})" for arn, role in columns))
    return _table(head, [row for row in rows if any(row[1:])])


_LINEAGE = (
    ("approved by", "approval.by"),
    ("approved at", "approval.at"),
    ("commit", "git.commit"),
    ("branch", "git.branch"),
    ("repository", "git.repository"),
    ("promoted from", "promoted.from"),
    ("data", "data.uri"),
    ("data's SHA-256", "data.sha256"),
    ("report", "report"),
)


def _metrics(incident: Incident) -> str:
    if incident.unmeasured:
        return incident.unmeasured
    if not incident.minutes:
        return "Nobody asked the endpoint anything in this time."
    rows = [
        (
            f"{one.at:%H:%M}",
            f"{one.requests:g}",
            f"{one.bad_requests:g}",
            f"{one.errors:g}",
            "" if one.p50 is None else f"{one.p50:.1f}",
            "" if one.p99 is None else f"{one.p99:.1f}",
        )
        for one in incident.minutes
    ]
    head = ("minute (UTC)", "requests", "4xx", "5xx", "p50 (ms)", "p99 (ms)")
    return "Minutes without a request are left out.\n\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """On one line, and without what would end the cell."""
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|")


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
