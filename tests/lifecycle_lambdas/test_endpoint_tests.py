"""Endpoint tests are begun once for each deployment, run once, and end in one verdict, whatever is cut off."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from lifecycle_lambdas import batch_testing, endpoint_runs, endpoint_suite, endpoint_testing, endpoint_tests, metrics
from lifecycle_lambdas.commands import test as command
from lifecycle_lambdas.commands.common import InputError
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.endpoint_testing import BrokenMessage, JobEnded, Scheduled, Wanted
from lifecycle_lambdas.handlers import endpoint_tests as handler
from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.records import Deployment, State, TestRun, TestSchedule
from lifecycle_lambdas.settings import Settings
from local_aws.request_checks import check_request, service_model
from tests.faulty_calls import Killed
from tests.lifecycle_lambdas.simulated_table import SimulatedTable
from tests.simulated_clients import Client, Request

ENDPOINT, BUCKET = "churn-dev", "artifacts"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{ENDPOINT}/7"
START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
REPORT = f"s3://{BUCKET}/churn/dev/main/run-1/evaluate/evaluation/report.html"
ROWS = {
    "columns": ["age"],
    "kinds": {"age": "number"},
    "classes": [],
    "rows": [{"age": 20}, {"age": 40}],
    "answers": [{"score": 2.0}, {"score": 4.0}],
}
CASES = [
    {"name": "as evaluated", "rows": "evaluated", "formats": ["text/csv"], "expect": {"as_evaluated": {}}},
    {"name": "a number", "row": {"age": 30}, "expect": {"score": {"type": "number", "between": [0, 100]}}},
]


def canonical(**suite: Any) -> bytes:
    return endpoint_suite.canonical(endpoint_suite.parse({"cases": CASES, **suite}))


def refusal(operation: str, code: str, message: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


@dataclass
class AWS(SimulatedTable):
    """What the controller and the function call. The model answers a tenth of the age times `factor`.

    Args:
        fail: called with the number of each call and its operation, before the call is made.
    """

    factor: float = 1.0
    files: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    config: str | None = f"{ENDPOINT}-3"
    asked: list[str] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    schedule_number: int = 3
    calls: list[str] = field(default_factory=list)
    fail: Callable[[int, str], None] = lambda number, operation: None

    def __call__(self, service: str) -> Any:
        return Client(self._call, service)

    def _call(self, service: str, operation: str, request: Request) -> Any:
        if service != "sagemaker-runtime":  # whose patterns no other API of ours has
            check_request(service_model(service).operation_model(operation), request)
        self.calls.append(operation)
        self.fail(len(self.calls), operation)
        return getattr(self, xform_name(operation))(**request) or {}

    def get_object(self, Bucket: str, Key: str) -> Any:
        if (content := self.files.get(f"s3://{Bucket}/{Key}")) is None:
            raise refusal("GetObject", "NoSuchKey", "The specified key does not exist.", 404)
        return {"Body": io.BytesIO(content)}

    def put_object(self, Bucket: str, Key: str, Body: bytes, **_: Any) -> None:
        self.files[f"s3://{Bucket}/{Key}"] = Body

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:
        self.sent.append({"queue": QueueUrl, **json.loads(MessageBody)})

    def change_message_visibility(self, **_: Any) -> None:
        pass

    def publish(self, Subject: str, **_: Any) -> None:
        self.told.append(Subject)

    def update_model_package(self, ModelPackageArn: str, CustomerMetadataProperties: dict[str, str]) -> None:
        self.metadata |= CustomerMetadataProperties

    def describe_endpoint(self, EndpointName: str) -> Any:
        if self.config is None:
            raise refusal("DescribeEndpoint", "ValidationException", f'Could not find endpoint "{EndpointName}".')
        return {"EndpointConfigName": self.config}

    def invoke_endpoint(self, Body: bytes, ContentType: str, Accept: str, **_: Any) -> Any:
        self.asked.append(ContentType)
        if ContentType.startswith("text/csv"):
            ages = [float(line) for line in Body.decode().split()[1:]]
            text = "score\n" + "".join(f"{self.factor * age / 10}\n" for age in ages)
        else:
            ages = [row["age"] for row in json.loads(Body)["instances"]]
            text = json.dumps({"predictions": [{"score": self.factor * age / 10} for age in ages]})
        return {"Body": io.BytesIO(text.encode()), "ContentType": Accept.partition(";")[0]}

    def put_metric_data(self, Namespace: str, MetricData: list[Any]) -> None:
        assert Namespace == "Modelyard"
        self.measured = {one["MetricName"]: one["Value"] for one in MetricData}

    def get_schedule(self, Name: str, GroupName: str) -> Any:
        transform = {
            "ModelName": f"{ENDPOINT}-3",
            "BatchStrategy": "SingleRecord",
            "MaxPayloadInMB": 6,
            "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}},
            "TransformOutput": {"S3OutputPath": "s3://data/out/", "KmsKeyId": "key"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 4},
            "DataProcessing": {"JoinSource": "Input"},
            "Tags": [{"Key": "modelyard:project", "Value": "churn"}],
        }
        return {"Target": {"Arn": "a", "Input": json.dumps({"number": self.schedule_number, "transform": transform})}}

    def create_transform_job(self, TransformJobName: str, **request: Any) -> None:
        self.jobs[TransformJobName] = {
            "TransformJobName": TransformJobName,
            "TransformJobStatus": "InProgress",
            **request,
        }

    def describe_transform_job(self, TransformJobName: str) -> Any:
        if TransformJobName not in self.jobs:
            raise refusal("DescribeTransformJob", "ValidationException", f"Could not find job {TransformJobName}")
        return self.jobs[TransformJobName]


@dataclass
class Platform:
    """The endpoint's deployment 3, and what the controller and the function make of it."""

    aws: AWS
    ledger: Ledger
    stage_file: dict[str, Any]
    now: datetime = START
    message: int = 0

    @classmethod
    def of(cls, suite: bytes, **stage_file: Any) -> Platform:
        aws = AWS()
        platform = cls(aws, Ledger(aws("dynamodb"), "ledger"), {"kind": "real_time", **stage_file})
        platform.ledger.put_state_if_new(State(ENDPOINT, "churn", "dev", ENDPOINT, "settled", last_number=2))
        lease = platform.ledger.lease(ENDPOINT, "test", 30)
        assert lease is not None
        platform.ledger.start_deployment(lease, platform.deployment)
        lease.release()
        folder = f"s3://{BUCKET}/churn/dev/main/deployment/"
        aws.metadata |= {
            "deployment.prefix": folder,
            "deployment.sha256.dev": "0" * 64,
            "tests.sha256": hashlib.sha256(suite).hexdigest(),
            "report": REPORT,
        }
        aws.files[f"{folder}endpoint-tests.json"] = suite
        aws.files[REPORT.replace("report.html", "endpoint-rows.json")] = json.dumps(ROWS).encode()
        aws.calls.clear()
        return platform

    @property
    def deployment(self) -> Deployment:
        ended = START - timedelta(seconds=3)
        begun = ended - timedelta(minutes=6)
        return Deployment(ENDPOINT, 3, "ENTRY#1", ARN, self.stage_file, "0" * 64, "succeeded", begun, ended=ended)

    def context(self, seconds: float = 300) -> Context:
        settings = Settings(
            ledger_table="ledger",
            queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/modelyard-events",
            topic_arn="arn:aws:sns:us-east-1:123456789012:modelyard-deployments",
            model_role_path="/modelyard/models/",
            default_model_role="default",
            batch_function_arn="arn:aws:lambda:us-east-1:123456789012:function:modelyard-batch",
            schedule_role_arn="arn:aws:iam::123456789012:role/schedules",
            schedule_group="modelyard",
            tests_queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/modelyard-tests",
        )
        clients: Any = self.aws
        return Context(settings, clients, self.ledger, "test", time.monotonic() + seconds, lambda: self.now)

    def look(self) -> None:
        """As the controller does when the deployment is done, and every ten minutes."""
        package = {"ModelPackageArn": ARN, "CustomerMetadataProperties": dict(self.aws.metadata)}
        endpoint_tests.due(self.context(), self.deployment, package)

    def messages(self) -> list[dict[str, Any]]:
        """What waits in the function's queue, taken out of it."""
        mine = [one for one in self.aws.sent if one["queue"].endswith("modelyard-tests")]
        self.aws.sent = [one for one in self.aws.sent if one not in mine]
        return [{name: value for name, value in one.items() if name != "queue"} for one in mine]

    def run(self, *messages: dict[str, Any], seconds: float = 300) -> list[dict[str, Any]]:
        """The function takes what waits, or these messages; those that failed."""
        failed = []
        for body in messages or self.messages():
            self.message += 1
            record = {
                "messageId": f"m{self.message}",
                "body": json.dumps(body),
                "receiptHandle": "r",
                "attributes": {"ApproximateReceiveCount": "1"},
            }
            if handler.respond(self.context(seconds), {"Records": [record]})["batchItemFailures"]:
                failed.append(body)
        return failed

    def ask(self) -> TestRun:
        """As somebody does with the command."""
        return endpoint_runs.ask(self.context(), endpoint_runs.last(self.context(), self.deployment))

    @property
    def runs(self) -> list[TestRun]:
        """The newest first."""
        return list(self.ledger.test_runs(ENDPOINT))

    def looks_asked_for(self) -> int:
        return sum(one.get("look") == "endpoint" for one in self.aws.sent)


# --- the controller's part


def test_a_version_without_cases_costs_no_call() -> None:
    platform = Platform.of(canonical())
    del platform.aws.metadata["tests.sha256"]

    platform.look()

    assert platform.aws.calls == []


def test_a_deployment_that_is_done_has_its_tests_begun_once_however_often_it_is_looked_at() -> None:
    platform = Platform.of(canonical())

    platform.look()
    platform.look()

    (run,) = platform.runs
    assert (run.status, run.means, run.reason) == ("due", "block", "deployed")
    assert platform.messages() == [{"test": ENDPOINT, "number": 3, "run": run.key, "reason": "deployed"}]
    suite = platform.ledger.suite(ENDPOINT, 3)
    assert suite is not None
    assert suite.evaluated == REPORT.replace("report.html", "endpoint-rows.json")


def test_a_run_that_was_lost_is_sent_again_after_ten_minutes_and_given_up_after_an_hour() -> None:
    platform = Platform.of(canonical())
    platform.look()
    platform.messages()

    platform.now += timedelta(minutes=9)
    platform.look()
    assert platform.messages() == []
    for _ in range(endpoint_runs.MOST_SENT - 1):
        platform.now += timedelta(minutes=10)
        platform.look()
        assert len(platform.messages()) == 1
    platform.now += timedelta(minutes=10)
    platform.look()

    assert platform.runs[0].status == "broken"
    assert "never ended" in platform.runs[0].failures[0]
    assert platform.aws.told == [f"{ENDPOINT}: the endpoint tests of version 7 could not be run"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read (NoSuchKey)"),
        (b"{}", "is not the file that was registered"),
    ],
)
def test_cases_that_cannot_be_read_are_told_once_and_run_when_they_are_put_right(
    content: bytes | None, fault: str
) -> None:
    platform = Platform.of(canonical())
    place = next(name for name in platform.aws.files if name.endswith("endpoint-tests.json"))
    right = platform.aws.files.pop(place)
    if content is not None:
        platform.aws.files[place] = content

    platform.look()
    platform.look()
    assert fault in platform.runs[0].failures[0]
    assert (platform.runs[0].status, len(platform.aws.told)) == ("broken", 1)
    platform.aws.files[place] = right
    platform.look()
    platform.run()
    platform.look()

    assert platform.runs[0].status == "passed"
    assert platform.aws.metadata["tests.status"] == "passed"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"on_failure": {"dev": null}}', "on_failure.dev is None, and must be one of report, block, go-back"),
        (b'{"on_failure": {"dev": ["block"]}}', "on_failure.dev is ['block']"),
        (b'{"on_failure": ["block"]}', "TypeError"),
        (b"[" * 100_000, "RecursionError"),
        (canonical().decode().encode("utf-16"), "UnicodeDecodeError"),
        (canonical() + b" " * endpoint_tests.LARGEST, "at most 262,144 are read"),
    ],
    ids=["null", "list", "no meanings", "deep", "UTF-16", "large"],
)
def test_a_file_that_was_registered_by_hand_holds_nothing_up(content: bytes, fault: str) -> None:
    platform = Platform.of(content)

    for _ in range(3):
        platform.look()

    (run,) = platform.runs
    assert (run.status, len(platform.aws.told)) == ("broken", 1)
    assert fault in run.failures[0]
    assert platform.aws.metadata["tests.status"] == "broken"


def test_the_platform_reads_as_much_as_a_project_sends() -> None:
    assert endpoint_tests.LARGEST == endpoint_suite.LARGEST


@pytest.mark.parametrize("every", [None, {"every_minutes": 5}])
def test_a_deployment_that_serves_on_after_another_one_came_and_went_is_tested_all_the_same(every: Any) -> None:
    platform = Platform.of(canonical(), tests=every)
    platform.look()
    platform.aws.config = f"{ENDPOINT}-4"
    platform.run()
    assert (platform.runs[0].status, platform.aws.asked) == ("superseded", [])

    platform.aws.config = f"{ENDPOINT}-3"
    platform.now += timedelta(minutes=10)
    platform.look()
    platform.look()
    assert len(platform.messages()) == 1
    platform.run({"test": ENDPOINT, "run": platform.runs[0].key})
    platform.look()

    assert [(run.status, run.reason) for run in platform.runs] == [("passed", "deployed"), ("superseded", "deployed")]
    assert platform.aws.metadata["tests.status"] == "passed"
    assert [one.every_minutes for one in platform.ledger.test_schedules()] == ([5] if every else [])


@pytest.mark.parametrize(
    ("report", "found"),
    [
        (REPORT, REPORT.replace("report.html", "endpoint-rows.json")),
        ("s3://artifacts/other/dev/evaluate/report.html", ""),
        ("s3://another/churn/dev/evaluate/report.html", ""),
        ("s3://artifacts/churn/../other/evaluate/report.html", ""),
        ("s3://artifacts/churn-2/dev/evaluate/report.html", ""),
        ("", ""),
    ],
)
def test_evaluated_rows_are_read_from_the_projects_own_folder_alone(report: str, found: str) -> None:
    assert endpoint_tests.evaluated_rows(report, BUCKET, "churn") == found


def a_run(status: Any = "passed", minutes: int = 0, **changes: Any) -> TestRun:
    at = START + timedelta(minutes=minutes)
    found = TestRun(ENDPOINT, 3, ARN, "deployed", status, "block", at, ended=at + timedelta(seconds=4))
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("newest_first", "status"),
    [
        ([], None),
        (["due", "passed"], "passed"),
        (["failed", "passed"], "failed"),
        (["superseded", "failed"], "failed"),
        (["broken", "passed"], "passed"),
        (["running", "broken"], "broken"),
    ],
)
def test_the_newest_run_that_says_something_is_the_verdict(newest_first: list[str], status: str | None) -> None:
    found = endpoint_tests.verdict([a_run(one) for one in newest_first])
    assert (None if found is None else found.status) == status


def test_the_version_is_stamped_when_the_verdict_changes_and_not_by_every_schedule() -> None:
    stands = {"tests.status": "passed", "tests.at": "2026-11-21T08:00:04Z"}
    later = a_run(minutes=5, reason="schedule")

    assert endpoint_tests.stamps(a_run(), {}) == stands
    assert endpoint_tests.stamps(a_run(), stands) == {}
    assert endpoint_tests.stamps(later, stands) == {}
    assert endpoint_tests.stamps(replace(later, status="failed"), stands)["tests.status"] == "failed"
    assert endpoint_tests.stamps(replace(later, status="failed", means="report"), stands)["tests.status"] == "reported"
    assert endpoint_tests.stamps(replace(later, reason="deployed"), stands)["tests.at"] == "2026-11-21T08:05:04Z"


# --- the function's part


def test_every_case_is_asked_and_what_came_is_kept_measured_told_and_looked_at() -> None:
    platform = Platform.of(canonical())
    platform.look()

    assert platform.run() == []

    (run,) = platform.runs
    assert (run.status, run.cases, run.failed) == ("passed", 2, 0)
    kept = json.loads(platform.aws.files[run.results])
    assert run.results == f"s3://{BUCKET}/churn/dev/endpoint-tests/3/20261121T075957Z.json"
    assert [case["name"] for case in kept["cases"]] == ["as evaluated", "a number"]
    assert platform.aws.measured == {"EndpointTestCases": 2, "EndpointTestFailures": 0}
    assert platform.aws.told == [f"{ENDPOINT}: the endpoint tests of version 7 pass"]
    assert platform.looks_asked_for() == 1
    state = platform.ledger.state(ENDPOINT)
    assert state is not None
    assert state.status == "under-way"


def test_failures_are_told_in_full_with_what_follows() -> None:
    platform = Platform.of(canonical())
    platform.aws.factor = 3.0
    platform.look()

    platform.run()
    platform.look()

    (run,) = platform.runs
    assert (run.status, run.failed) == ("failed", 1)
    assert run.failures[0].startswith("as evaluated: asked as text/csv")
    assert run.failed_names == ("as evaluated",)
    text = endpoint_runs.message(run).as_text()
    assert run.failures[0] in text
    assert "not promoted before they pass" in text
    assert platform.aws.metadata["tests.status"] == "failed"


def test_a_message_that_comes_twice_is_one_run() -> None:
    platform = Platform.of(canonical())
    platform.look()
    (message,) = platform.messages()

    platform.run(message)
    asked = len(platform.aws.asked)
    platform.run(message)

    assert len(platform.aws.asked) == asked
    assert len(platform.aws.told) == 1


def test_two_functions_with_the_same_message_do_not_both_ask() -> None:
    platform = Platform.of(canonical())
    platform.look()
    (message,) = platform.messages()
    answer = platform.aws.invoke_endpoint
    other: list[int] = []

    def and_meanwhile(**request: Any) -> Any:
        if not other:
            other.append(1)
            platform.run(message)
        return answer(**request)

    with patch.object(platform.aws, "invoke_endpoint", and_meanwhile):
        platform.run(message)

    assert len(platform.aws.asked) == 2
    assert [run.status for run in platform.runs] == ["passed"]


def test_a_message_that_arrives_before_its_sender_has_written_down_that_it_was_sent_is_run() -> None:
    platform = Platform.of(canonical())
    send, read = platform.aws.send_message, platform.ledger.test_run
    written: list[TestRun | None] = []

    def and_the_sender_writes(endpoint: str, key: str) -> TestRun | None:
        run = read(endpoint, key)
        if run is not None and not written:
            written.append(platform.ledger.put_test_run(replace(run, sent_at=platform.now, sent=1)))
        return run

    def and_run_at_once(**request: Any) -> None:
        send(**request)
        with patch.object(platform.ledger, "test_run", and_the_sender_writes):
            platform.run(*platform.messages())

    with patch.object(platform.aws, "send_message", and_run_at_once):
        platform.look()

    assert [run.status for run in platform.runs] == ["passed"]


@pytest.mark.parametrize("config", [None, f"{ENDPOINT}-4"])
def test_of_what_serves_no_more_there_is_no_verdict_and_no_schedule(config: str | None) -> None:
    platform = Platform.of(canonical(), tests={"every_minutes": 5})
    platform.look()
    assert [one.every_minutes for one in platform.ledger.test_schedules()] == [5]
    platform.aws.config = config

    platform.run()

    assert platform.runs[0].status == "superseded"
    assert platform.aws.asked == []
    assert platform.aws.told == []
    assert list(platform.ledger.test_schedules()) == []


def test_what_failed_while_another_version_came_says_nothing_of_this_one() -> None:
    platform = Platform.of(canonical())
    platform.aws.factor = 3.0
    platform.look()
    platform.aws.fail = lambda number, operation: (
        setattr(platform.aws, "config", f"{ENDPOINT}-4") if operation == "InvokeEndpoint" else None
    )

    platform.run()

    assert platform.runs[0].status == "superseded"


def test_a_missing_permission_is_told_and_nothing_is_held_against_the_version() -> None:
    platform = Platform.of(canonical())
    platform.look()

    def refuse(number: int, operation: str) -> None:
        if operation == "InvokeEndpoint":
            raise refusal(
                operation, "AccessDeniedException", "not authorized to perform: sagemaker:InvokeEndpoint", 403
            )

    platform.aws.fail = refuse
    platform.run()
    platform.look()

    assert platform.runs[0].status == "broken"
    assert platform.aws.told == [f"{ENDPOINT}: the endpoint tests of version 7 could not be run"]
    assert platform.aws.metadata["tests.status"] == "broken"


def test_what_the_function_fails_at_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    platform = Platform.of(canonical())
    platform.look()

    def refuse(number: int, operation: str) -> None:
        if operation == "GetItem":
            raise refusal(operation, "AccessDeniedException", "not authorized to perform: dynamodb:GetItem")

    platform.aws.fail = refuse
    assert len(platform.run()) == 1
    assert counted(capsys) == 1


def counted(capsys: pytest.CaptureFixture[str]) -> int:
    """How many failures the platform's alarm has seen in the log."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return sum(metrics.FAILING in line for line in lines)


def test_a_request_that_sagemaker_does_not_take_is_told_and_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    """It would be refused for ever, and the function's alarm is for faults of the platform."""
    platform = Platform.of(canonical())
    platform.look()

    def refuse(number: int, operation: str) -> None:
        if operation == "InvokeEndpoint":
            raise refusal(operation, "ValidationError", "'body' must have length less than or equal to 6291456")

    platform.aws.fail = refuse
    assert platform.run() == []
    assert counted(capsys) == 0
    assert platform.runs[0].status == "broken"
    assert "does not take what a case asks" in platform.runs[0].failures[0]


@pytest.mark.parametrize("reason", ["schedule", "asked"])
def test_one_failure_of_what_serves_since_long_is_asked_once_more_at_once(reason: str) -> None:
    platform = Platform.of(canonical(), tests={"every_minutes": 5})
    platform.look()
    platform.run()
    platform.aws.factor, platform.aws.asked = 3.0, []
    platform.aws.fail = lambda number, operation: (
        setattr(platform.aws, "factor", 1.0) if len(platform.aws.asked) == 2 else None
    )

    if reason == "schedule":
        platform.run(scheduled(minutes=5))
    else:
        platform.ask()
    platform.run()

    assert [(run.status, run.reason) for run in platform.runs] == [("passed", reason), ("passed", "deployed")]
    assert len(platform.aws.asked) == 4
    assert len(platform.aws.told) == (1 if reason == "schedule" else 2)


def test_one_failure_of_what_serves_on_after_another_one_came_and_went_is_asked_once_more() -> None:
    """Its run is called after its deployment, as its first one, and comes long after it."""
    platform = Platform.of(canonical())
    platform.look()
    platform.aws.config = f"{ENDPOINT}-4"
    platform.run()
    platform.aws.config = f"{ENDPOINT}-3"
    platform.now += timedelta(minutes=10)
    platform.look()
    platform.aws.factor, platform.aws.asked = 3.0, []
    platform.aws.fail = lambda number, operation: (
        setattr(platform.aws, "factor", 1.0) if len(platform.aws.asked) == 2 else None
    )
    platform.run({"test": ENDPOINT, "run": platform.runs[0].key})
    assert [run.status for run in platform.runs] == ["passed", "superseded"]


@pytest.mark.parametrize(("late", "status"), [(timedelta(seconds=0), "failed"), (timedelta(days=30), "passed")])
def test_one_failure_of_a_first_run_that_comes_long_after_its_deployment_is_asked_once_more(
    late: timedelta, status: str
) -> None:
    """Its runs were lost with the ledger, or its cases could not be read until now: as its first run it has the time of
    the deployment's end."""
    platform = Platform.of(canonical())
    platform.now += late
    platform.look()
    platform.aws.factor = 3.0
    platform.aws.fail = lambda number, operation: (
        setattr(platform.aws, "factor", 1.0) if len(platform.aws.asked) == 2 else None
    )
    platform.run()
    assert [run.status for run in platform.runs] == [status]


@pytest.mark.parametrize("wrong", [False, True])
def test_a_suite_that_takes_too_long_is_not_held_against_the_version(wrong: bool) -> None:
    load = {"seconds": 5, "row": {"age": 30}, "objectives": {"error_share": 0}}
    platform = Platform.of(canonical(load=load))
    platform.aws.factor = 3.0 if wrong else 1.0
    platform.look()

    # of these, 20 are for writing down what came, and 60 for the longest answer
    platform.run(seconds=83)

    (run,) = platform.runs
    if wrong:
        assert (run.status, run.failed_names) == ("failed", ("as evaluated", "load"))
        return
    assert run.status == "broken"
    assert "1 of the cases could not be asked, and the others pass" in run.failures[0]


def scheduled(minutes: float) -> dict[str, Any]:
    """The event of the platform's rule."""
    return {"detail-type": "Scheduled Event", "time": (START + timedelta(minutes=minutes)).isoformat()}


def test_the_schedule_begins_what_is_due_and_does_not_make_up_for_what_was_missed() -> None:
    platform = Platform.of(canonical(), tests={"every_minutes": 10})
    platform.look()
    platform.run()

    platform.run(scheduled(minutes=5))
    assert len(platform.runs) == 1
    platform.run(scheduled(minutes=35))
    platform.run(scheduled(minutes=36))

    assert [run.reason for run in platform.runs] == ["schedule", "deployed"]
    platform.run(scheduled(minutes=45))
    assert len(platform.runs) == 2  # the one before is not over yet
    platform.run()
    platform.run(scheduled(minutes=50))
    assert len(platform.runs) == 3


def test_a_scheduled_run_comes_after_one_that_somebody_asked_for_though_it_was_due_before() -> None:
    platform = Platform.of(canonical(), tests={"every_minutes": 30})
    platform.look()
    platform.run()
    platform.now = START + timedelta(minutes=30)
    platform.ask()
    platform.run()
    platform.aws.factor = 3.0
    (schedule,) = platform.ledger.test_schedules()
    assert schedule.next < platform.runs[0].at

    platform.run(scheduled(minutes=34))
    platform.ledger.schedule_tests(schedule)
    platform.run(scheduled(minutes=34))  # as where the first was cut off before it wrote down the next time
    platform.run()
    platform.look()

    found = [(run.reason, run.status) for run in platform.runs]
    assert found == [("schedule", "failed"), ("asked", "passed"), ("deployed", "passed")]
    assert platform.aws.metadata["tests.status"] == "failed"
    verdict = endpoint_tests.verdict(platform.runs)
    assert verdict is not None
    assert verdict.status == "failed"


@pytest.mark.parametrize("change", ["reschedule", "unschedule"])
def test_a_schedule_of_another_deployment_that_came_meanwhile_stays(change: str) -> None:
    platform = Platform.of(canonical(), tests={"every_minutes": 5})
    platform.look()
    (before,) = platform.ledger.test_schedules()
    following = replace(before, number=4, next=before.next + timedelta(minutes=3))
    # another deployment was done after the function had read the schedules
    platform.ledger.schedule_tests(following)

    with patch.object(platform.ledger, "test_schedules", lambda: iter([before])):
        if change == "reschedule":
            platform.run(scheduled(minutes=5))
        else:
            platform.aws.config = f"{ENDPOINT}-4"
            platform.run()

    assert list(platform.ledger.test_schedules()) == [following]


@pytest.mark.parametrize(
    ("now", "minutes"), [(0, 10), (9, 10), (10, 20), (34, 40), (-3, 10)], ids=lambda value: str(value)
)
def test_the_next_time_of_a_schedule_is_the_first_to_come(now: int, minutes: int) -> None:
    schedule = TestSchedule(ENDPOINT, 3, 10, START)
    found = endpoint_testing.following(schedule, START + timedelta(minutes=now))
    assert found == START + timedelta(minutes=minutes)


def test_failures_on_a_schedule_are_told_when_they_are_news() -> None:
    named = ("load: 50 requests: p99_ms is 2103",)
    passed, failed = a_run(), a_run("failed", failed=1, failures=named, failed_names=("load",))
    again = replace(failed, reason="schedule")

    assert endpoint_testing.is_news(passed, None)
    assert not endpoint_testing.is_news(replace(passed, reason="schedule"), passed)
    assert endpoint_testing.is_news(again, passed)
    assert not endpoint_testing.is_news(again, failed)
    assert not endpoint_testing.is_news(replace(again, failures=("load: 50 requests: p99_ms is 2104",)), failed)
    assert endpoint_testing.is_news(replace(again, failed_names=("another",)), failed)
    assert endpoint_testing.is_news(replace(again, failed=2), failed)
    assert endpoint_testing.is_news(replace(passed, reason="schedule"), failed)
    assert endpoint_testing.is_news(replace(failed, reason="asked"), failed)
    broken = a_run("broken", failures=("no permission",))
    assert not endpoint_testing.is_news(replace(broken, reason="schedule"), broken)
    assert endpoint_testing.is_news(replace(broken, reason="schedule", failures=("no rows",)), broken)


# --- batch


def test_a_batch_stage_is_asked_by_a_job_as_its_schedule_starts_them() -> None:
    platform = Platform.of(canonical(), kind="batch")
    platform.look()
    (message,) = platform.messages()

    platform.run(message)
    platform.run(message)  # as the controller sends it again while the job runs
    (name,) = platform.aws.jobs
    job = platform.aws.jobs[name]
    assert job["TransformResources"] == {"InstanceType": "ml.m5.large", "InstanceCount": 1}
    assert job["TransformOutput"]["KmsKeyId"] == "key"
    assert "DataProcessing" not in job
    source = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    assert platform.aws.files[source].split() == [b"20", b"40"]

    job["TransformJobStatus"] = "Completed"
    platform.aws.files[f"{job['TransformOutput']['S3OutputPath']}rows.csv.out"] = b"2.0\n4.0\n"
    platform.run({"detail-type": "SageMaker Transform Job State Change", "detail": {"TransformJobName": name}})

    (run,) = platform.runs
    assert (run.status, run.cases, run.skipped) == (
        "passed",
        1,
        ("1 case: a transform job has no requests of its own",),
    )


@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        ("Failed", "AlgorithmError: See job logs for more information", "failed"),
        ("Failed", "ClientError: Bad HTTP status received from algorithm: 500", "failed"),
        ("Failed", "ClientError: Access denied to s3://data", "broken"),
        ("Failed", "InternalServerError: We encountered an internal error", "broken"),
        ("Stopped", "", "broken"),
    ],
)
def test_a_job_that_fails_is_the_versions_fault_only_where_its_container_failed(
    status: str, reason: str, verdict: str
) -> None:
    platform = Platform.of(canonical(), kind="batch")
    platform.look()
    (message,) = platform.messages()
    platform.run(message)
    (job,) = platform.aws.jobs.values()
    job |= {"TransformJobStatus": status, "FailureReason": reason}

    platform.run(message)

    assert platform.runs[0].status == verdict
    assert reason in platform.runs[0].failures[0]


def test_a_job_that_takes_hours_is_waited_for() -> None:
    platform = Platform.of(canonical(), kind="batch")
    for _ in range(3 * endpoint_runs.MOST_SENT):
        platform.look()
        platform.run(*platform.messages())
        platform.now += timedelta(minutes=10)
    (job,) = platform.aws.jobs.values()
    job["TransformJobStatus"] = "Completed"
    platform.aws.files[f"{job['TransformOutput']['S3OutputPath']}rows.csv.out"] = b"2.0\n4.0\n"

    platform.look()
    platform.run()

    assert [run.status for run in platform.runs] == ["passed"]


def test_a_batch_stage_whose_schedule_is_another_deployments_is_asked_nothing() -> None:
    platform = Platform.of(canonical(), kind="batch")
    platform.look()
    platform.aws.schedule_number = 4

    platform.run()

    assert platform.runs[0].status == "superseded"
    assert platform.aws.jobs == {}


def test_a_jobs_name_says_which_run_it_answers_and_is_no_schedules_job() -> None:
    run = a_run(endpoint="a" * 32 + "-challenger", number=999_999)
    name = batch_testing.name_of(run)

    assert len(name) == 63
    assert batch_testing.run_of(name) == (run.endpoint, run.key)
    assert batch_testing.run_of("churn-dev-3-20261121T0800") is None


# --- whatever is cut off


def killed() -> BaseException:
    return Killed()


def fault() -> BaseException:
    return refusal("Any", "InternalFailure", "a fault of AWS's", 500)


def cut_off(platform: Platform, number: int, error: Callable[[], BaseException]) -> bool:
    """An hour of looks every ten minutes and of what the queue has, whose `number`th call fails; whether one did."""
    before, happened = len(platform.aws.calls), []

    def fail(called: int, operation: str) -> None:
        if called - before == number:
            happened.append(operation)
            raise error()

    platform.aws.fail = fail
    waiting: list[dict[str, Any]] = []
    for _ in range(7):
        try:
            platform.look()
            waiting += platform.messages()
            # what a function was at that was killed comes again, too
            waiting = platform.run(*waiting) if waiting else []
        except (Killed, ClientError):
            pass
        for job in platform.aws.jobs.values():
            job["TransformJobStatus"] = "Completed"
            platform.aws.files[f"{job['TransformOutput']['S3OutputPath']}rows.csv.out"] = b"2.0\n4.0\n"
        platform.now += timedelta(minutes=10)
    platform.aws.fail = lambda called, operation: None
    return bool(happened)


@pytest.mark.parametrize("kind", ["real_time", "batch"])
@pytest.mark.parametrize("error", [killed, fault])
def test_it_ends_the_same_way_at_whichever_call_a_look_or_a_function_was_cut_off(
    kind: str, error: Callable[[], BaseException]
) -> None:
    for number in range(1, 100):
        platform = Platform.of(canonical(), kind=kind, tests={"every_minutes": 5} if kind == "real_time" else None)
        happened = cut_off(platform, number, error)
        where = f"cut off at call {number} of {platform.aws.calls}: {platform.runs}"
        assert [run.status for run in platform.runs] == ["passed"], where
        assert platform.aws.metadata["tests.status"] == "passed", where
        assert platform.looks_asked_for() >= 1, where
        assert len(platform.aws.told) in (1, 2), where
        if not happened:
            break
    assert 20 < number < 99


# --- messages and the command


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"test": ENDPOINT, "run": "TESTS#1"}, Wanted(ENDPOINT, "TESTS#1")),
        (scheduled(0), Scheduled(START)),
        (
            {"detail": {"TransformJobName": batch_testing.name_of(a_run())}},
            JobEnded(ENDPOINT, a_run().key),
        ),
        ({"detail": {"TransformJobName": "churn-pipeline-transform-test"}}, None),
        ({"look": "everything"}, None),
    ],
)
def test_a_message_says_what_is_asked_for(body: dict[str, Any], found: Any) -> None:
    assert endpoint_testing.parse(json.dumps(body)) == found


@pytest.mark.parametrize("body", ["{", "[]", '{"test": 1}', '{"test": "a"}', '{"detail-type": "Scheduled Event"}'])
def test_a_message_that_cannot_be_read_fails_alone(body: str) -> None:
    with pytest.raises(BrokenMessage):
        endpoint_testing.parse(body)


def test_a_run_is_shown_with_its_failures_and_its_load() -> None:
    run = a_run(
        "failed", cases=3, failed=1, failures=("a case: wrong\nand more",), p50_ms=12.2, p99_ms=80.0, error_share=0.5
    )

    assert command.run_text(run).splitlines() == [
        "churn-dev, version 7: 1 of 3 cases fail",
        "load: p50 12 ms, p99 80 ms, errors 50.00%",
        "- a case: wrong",
        "  and more",
    ]
    assert command.runs_text([run, a_run()]).splitlines()[1].split()[2:7] == ["3", "7", "deployed", "failed", "2/3"]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What somebody types after `python -m lifecycle_lambdas`; the exit code. Nobody is there to answer."""

    def typed(platform: Platform, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        command.add(parser.add_subparsers())
        monkeypatch.setattr(command, "context_of_operator", platform.context)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        options = parser.parse_args(arguments)
        return int(options.command(options))

    return typed


@pytest.mark.parametrize(
    ("means", "more", "asked"),
    [("block", [], True), ("report", [], True), ("go-back", [], False), ("go-back", ["--yes"], True)],
)
def test_whoever_may_take_a_version_away_by_asking_is_asked_first(
    typed: Callable[..., int], means: str, more: list[str], asked: bool
) -> None:
    platform = Platform.of(canonical(on_failure={"dev": means}))
    platform.look()
    platform.run()

    if asked:
        assert typed(platform, "test", ENDPOINT, "--no-wait", *more) == 0
    else:
        with pytest.raises(InputError, match=r"churn-dev goes back .* when version 7 fails .* say --yes"):
            typed(platform, "test", ENDPOINT, "--no-wait", *more)
    assert [run.reason for run in platform.runs] == (["asked", "deployed"] if asked else ["deployed"])


def test_a_run_that_is_under_way_anyway_is_nobodys_to_confirm(typed: Callable[..., int]) -> None:
    platform = Platform.of(canonical(on_failure={"dev": "go-back"}))
    platform.look()
    assert typed(platform, "test", ENDPOINT, "--no-wait") == 0
    assert [run.reason for run in platform.runs] == ["deployed"]


def test_somebody_who_asks_while_a_run_is_under_way_gets_that_one() -> None:
    platform = Platform.of(canonical())
    with pytest.raises(endpoint_runs.NoTests, match="look churn-dev"):
        endpoint_runs.last(platform.context(), platform.deployment)
    platform.look()
    (due,) = platform.runs

    assert platform.ask().key == due.key
    platform.run()
    asked = platform.ask()

    assert (asked.reason, asked.key > due.key) == ("asked", True)
    platform.run()
    assert [run.status for run in platform.runs] == ["passed", "passed"]
    assert len(platform.aws.told) == 2
