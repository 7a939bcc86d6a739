"""The ledger's records as DynamoDB's items, and back. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from lifecycle_lambdas.records import (
    Attempt,
    Deployment,
    Entry,
    PolicyRecord,
    State,
    SuiteRecord,
    TestRun,
    TestSchedule,
)

Item = dict[str, dict[str, str]]
_MEASURED = ("seconds", "p50_ms", "p99_ms", "error_share", "requests_per_second")


def key(endpoint: str, item: str) -> Item:
    return strings(endpoint=endpoint, item=item)


def deployment_key(number: int) -> str:
    return f"DEPLOYMENT#{number:06d}"


def suite_key(number: int) -> str:
    return f"SUITE#{number:06d}"


def numbers(**values: float | None) -> Item:
    """DynamoDB's numbers; what is None is left out."""
    return {name: {"N": repr(value)} for name, value in values.items() if value is not None}


def strings(**values: str | None) -> Item:
    """DynamoDB's strings; what is None is left out."""
    return {name: {"S": value} for name, value in values.items() if value is not None}


def _text(item: Item, name: str) -> str | None:
    return item[name]["S"] if name in item else None


def time_text(moment: datetime | None) -> str | None:
    """ISO 8601, UTC, to the microsecond where there are any."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(item: Item, name: str) -> datetime | None:
    text = _text(item, name)
    return None if text is None else datetime.fromisoformat(text)


def entry_item(entry: Entry) -> Item:
    return key(entry.endpoint, entry.key) | strings(
        kind=entry.kind,
        at=time_text(entry.at),
        package_arn=entry.package_arn,
        by=entry.by,
        why=entry.why,
        source=entry.source,
        until=time_text(entry.until),
        leaves=entry.leaves,
        cause=entry.cause or None,
    )


def read_entry(item: Item) -> Entry:
    return Entry(
        endpoint=item["endpoint"]["S"],
        kind=item["kind"]["S"],  # type: ignore[arg-type]  # written by entry_item
        at=datetime.fromisoformat(item["at"]["S"]),
        package_arn=_text(item, "package_arn"),
        by=item["by"]["S"],
        why=item["why"]["S"],
        source=item["source"]["S"],
        until=_time(item, "until"),
        leaves=_text(item, "leaves"),
        cause=_text(item, "cause") or "",
    )


def state_item(state: State) -> Item:
    return (
        key(state.endpoint, "STATE")
        | strings(project=state.project, stage=state.stage, group=state.group, status=state.status)
        | {"last_number": {"N": str(state.last_number)}, "asked": {"N": str(state.asked)}}
        | {"removed_number": {"N": str(state.removed_number)}}
    )


def read_state(item: Item) -> State:
    return State(
        endpoint=item["endpoint"]["S"],
        project=item["project"]["S"],
        stage=item["stage"]["S"],
        group=item["group"]["S"],
        status=item["status"]["S"],  # type: ignore[arg-type]  # written from a State
        last_number=int(item["last_number"]["N"]),
        asked=int(item["asked"]["N"]),
        # a STATE from before there were removals has none
        removed_number=int(item.get("removed_number", {"N": "0"})["N"]),
    )


def policy_item(record: PolicyRecord) -> Item:
    return key(record.endpoint, f"POLICY#{record.section}") | strings(
        sha256=record.sha256,
        announced=time_text(record.announced),
        removed=time_text(record.removed),
        pending=json.dumps(record.pending),
        earlier=json.dumps({sha256: time_text(announced) for sha256, announced in record.earlier.items()}),
    )


def read_policy(item: Item) -> PolicyRecord:
    return PolicyRecord(
        endpoint=item["endpoint"]["S"],
        section=item["item"]["S"].removeprefix("POLICY#"),  # type: ignore[arg-type]  # written by policy_item
        sha256=item["sha256"]["S"],
        announced=datetime.fromisoformat(item["announced"]["S"]),
        removed=_time(item, "removed"),
        pending=tuple(json.loads(item["pending"]["S"])),
        # a record from before branches took turns has none
        earlier={
            sha256: datetime.fromisoformat(announced)
            for sha256, announced in json.loads(_text(item, "earlier") or "{}").items()
        },
    )


def deployment_item(deployment: Deployment) -> Item:
    attempts = [asdict(attempt) | {"at": time_text(attempt.at)} for attempt in deployment.attempts]
    previous = {} if deployment.previous is None else {"previous": {"N": str(deployment.previous)}}
    return (
        key(deployment.endpoint, deployment_key(deployment.number))
        | strings(
            entry_key=deployment.entry_key,
            package_arn=deployment.package_arn,
            # as text: DynamoDB's numbers would come back as decimals, and nobody queries inside
            stage_file=json.dumps(deployment.stage_file, sort_keys=True),
            stage_file_sha256=deployment.stage_file_sha256,
            deployment_status=deployment.status,  # not "status": the index by-status holds STATE items alone
            started=time_text(deployment.started),
            requested=time_text(deployment.requested),
            ended=time_text(deployment.ended),
            reason=deployment.reason,
            attempts=json.dumps(attempts),
        )
        | {"number": {"N": str(deployment.number)}}
        | previous
    )


def read_deployment(item: Item) -> Deployment:
    return Deployment(
        endpoint=item["endpoint"]["S"],
        number=int(item["number"]["N"]),
        entry_key=item["entry_key"]["S"],
        package_arn=item["package_arn"]["S"],
        stage_file=json.loads(item["stage_file"]["S"]),
        stage_file_sha256=item["stage_file_sha256"]["S"],
        status=item["deployment_status"]["S"],  # type: ignore[arg-type]  # written by deployment_item
        started=datetime.fromisoformat(item["started"]["S"]),
        previous=int(item["previous"]["N"]) if "previous" in item else None,
        requested=_time(item, "requested"),
        ended=_time(item, "ended"),
        reason=item["reason"]["S"],
        attempts=tuple(
            Attempt(**attempt | {"at": datetime.fromisoformat(attempt["at"])})
            for attempt in json.loads(item["attempts"]["S"])
        ),
    )


def suite_item(suite: SuiteRecord) -> Item:
    texts = strings(sha256=suite.sha256, text=suite.text, evaluated=suite.evaluated, bucket=suite.bucket)
    return key(suite.endpoint, suite_key(suite.number)) | texts | numbers(number=suite.number)


def read_suite(item: Item) -> SuiteRecord:
    return SuiteRecord(
        endpoint=item["endpoint"]["S"],
        number=int(item["number"]["N"]),
        sha256=item["sha256"]["S"],
        text=item["text"]["S"],
        evaluated=item["evaluated"]["S"],
        bucket=item["bucket"]["S"],
    )


def test_run_item(run: TestRun) -> Item:
    return (
        key(run.endpoint, run.key)
        | strings(
            package_arn=run.package_arn,
            reason=run.reason,
            test_status=run.status,  # not "status": the index by-status
            means=run.means,
            at=time_text(run.at),
            ended=time_text(run.ended),
            failures=json.dumps(run.failures),
            failed_names=json.dumps(run.failed_names),
            skipped=json.dumps(run.skipped),
            results=run.results,
            claimed=run.claimed,
            job=run.job,
            sent_at=time_text(run.sent_at),
        )
        | numbers(number=run.number, cases=run.cases, failed=run.failed, sent=run.sent, revision=run.revision)
        | numbers(**{name: getattr(run, name) for name in _MEASURED})
    )


def read_test_run(item: Item) -> TestRun:
    return TestRun(
        endpoint=item["endpoint"]["S"],
        number=int(item["number"]["N"]),
        package_arn=item["package_arn"]["S"],
        reason=item["reason"]["S"],  # type: ignore[arg-type]  # written by test_run_item
        status=item["test_status"]["S"],  # type: ignore[arg-type]
        means=item["means"]["S"],  # type: ignore[arg-type]
        at=datetime.fromisoformat(item["at"]["S"]),
        ended=_time(item, "ended"),
        cases=int(item["cases"]["N"]),
        failed=int(item["failed"]["N"]),
        failures=tuple(json.loads(item["failures"]["S"])),
        # a run from before they were kept has none
        failed_names=tuple(json.loads(_text(item, "failed_names") or "[]")),
        skipped=tuple(json.loads(item["skipped"]["S"])),
        results=item["results"]["S"],
        claimed=item["claimed"]["S"],
        job=item["job"]["S"],
        sent_at=_time(item, "sent_at"),
        sent=int(item["sent"]["N"]),
        revision=int(item["revision"]["N"]),
        **{name: float(item[name]["N"]) for name in _MEASURED if name in item},
    )


def test_schedule_item(schedule: TestSchedule, status: str | None) -> Item:
    """status: of the index in which those are that are on; None: it is off."""
    return (
        key(schedule.endpoint, "TESTING")
        | strings(status=status, next=time_text(schedule.next))
        | numbers(number=schedule.number, every_minutes=schedule.every_minutes)
    )


def read_test_schedule(item: Item) -> TestSchedule:
    return TestSchedule(
        endpoint=item["endpoint"]["S"],
        number=int(item["number"]["N"]),
        every_minutes=int(item["every_minutes"]["N"]),
        next=datetime.fromisoformat(item["next"]["S"]),
    )
