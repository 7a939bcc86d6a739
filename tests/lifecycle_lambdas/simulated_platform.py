"""The installed platform in memory: the functions behind their queue and schedules, AWS below them, and a clock.

Time passes only here, from one thing that is due to the next: a message that becomes visible, the schedules, an
endpoint that has come to the end of what it is at. The functions are lifecycle_lambdas' own, the ledger included; a
call to AWS can be made to fail in every way that a call fails (`Fault`). What a function that was killed would have
done in a `finally` does not happen either: it makes no call any more.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, cast
from unittest.mock import patch

import yaml
from botocore import xform_name
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from lifecycle_lambdas import log, names
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.handlers import batch, deploy
from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.records import Deployment, Entry, State
from lifecycle_lambdas.settings import Settings
from local_aws.request_checks import check_request, service_model
from tests.faulty_calls import Call, Fault, Killed
from tests.lifecycle_lambdas.simulated_aws import (
    BUSY,
    Answer,
    Request,
    SimulatedAWS,
    arn,
    on_the_wire,
    refusal,
    validation,
)
from tests.lifecycle_lambdas.simulated_table import SimulatedTable

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC).timestamp()
# As servicecatalog/platform.yaml has them (test_fault_matrix.py compares).
FUNCTION_SECONDS, VISIBILITY_SECONDS, MOST_RECEIVES, BATCH_SIZE = 120, 720, 20, 10
BATCH_FUNCTION_SECONDS, BATCH_RETRIES = 60, (60, 120)
CALL_SECONDS = 0.02
# How long an endpoint is at something, unless the test holds it there.
ENDPOINT_SECONDS = 45
# What botocore's four tries take, of a server that cannot be reached and of one that does not answer (clients.py).
UNREACHABLE_SECONDS, SILENT_SECONDS, ONE_TRY_SECONDS = 22, 84, 21
PRICING_SECONDS = 7
# How late an answer comes, or how long a function is paused: longer than its lease lasts (converge.LEASE_SECONDS).
LATE_SECONDS = 45
# Stamps on versions that say when.
TIMES = ("approval.at", "deployment.ended")
# What a run takes at most, in things that were due.
MOST_EVENTS = 3000

# Each service's own words for "too many calls" and for a fault of its own.
THROTTLED = {
    "application-autoscaling": ("ThrottlingException", 400),
    "cloudwatch": ("Throttling", 400),
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "pricing": ("ThrottlingException", 400),
    "s3": ("SlowDown", 503),
    "sagemaker": ("ThrottlingException", 400),
    "scheduler": ("ThrottlingException", 429),
    "secretsmanager": ("ThrottlingException", 400),
    "sns": ("Throttled", 429),
    "sqs": ("RequestThrottled", 403),
}
BROKEN = {
    "application-autoscaling": "InternalServiceException",
    "cloudwatch": "InternalServiceFault",
    "dynamodb": "InternalServerError",
    "pricing": "InternalErrorException",
    "s3": "InternalError",
    "sagemaker": "InternalFailure",
    "scheduler": "InternalServerException",
    "secretsmanager": "InternalServiceError",
    "sns": "InternalError",
    "sqs": "InternalError",
}
# What can happen to a call that only reads, and to one that changes something; in the words of `_AWS._fail`.
READ_KINDS = ("error", "throttled", "not sent", "not answered", "late", "killed before")
WRITE_KINDS = (*READ_KINDS, "closed", "asked twice", "killed after")


@dataclass
class Clock:
    """In place of the module `time`, and of datetime.now."""

    seconds: float = START

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


@dataclass
class Invocation:
    """One run of a function; `ends`: when Lambda ends it."""

    ends: float
    dead: bool = False


@dataclass
class Message:
    """In the queue."""

    id: int
    body: str
    visible_at: float
    sent: float
    received: int = 0


@dataclass
class PlatformAWS(SimulatedAWS, SimulatedTable):
    """AWS as the functions call it, with a fault at one call, or standing ones.

    Args:
        standing: answers with an error to whatever call it wants to, as long as it is set.
        emit: takes an event's body.
        waiting: lets so many seconds pass, in which others work.
        at_fault: called when the fault happens, before the call is made.
        after_change: called when something was changed.
        seen: takes service, operation and answer of every call.
    """

    clock: Clock = field(default_factory=Clock)
    fault: Fault | None = None
    counting: bool = False
    made: list[Call] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    hit: bool = False
    standing: Callable[[str, str, Request], Exception | None] = lambda service, operation, request: None
    emit: Callable[[dict[str, Any]], None] = lambda event: None
    waiting: Callable[[float], None] = lambda seconds: None
    at_fault: Callable[[], None] = lambda: None
    after_change: Callable[[], None] = lambda: None
    seen: Callable[[str, str, Answer], None] = lambda service, operation, answer: None
    in_flight: dict[str, Message] = field(default_factory=dict)
    jobs: dict[str, Answer] = field(default_factory=dict)
    invocation: Invocation | None = None

    def _now(self) -> datetime:
        return self.clock.now()

    def call(self, service: str, operation: str, request: Request) -> Answer:
        self._go_on()
        self.clock.seconds += CALL_SECONDS
        if service != "dynamodb" or self.fault is None:  # half the time, and the ledger's forms are always the same
            check_request(service_model(service).operation_model(operation), on_the_wire(request))
        self.calls.append(operation)
        kind = ""
        if self.counting:
            self.counts[service, operation] += 1
            call = Call(service, operation, self.counts[service, operation])
            self.made.append(call)
            if self.fault is not None and self.fault.call == call:
                kind, self.hit = self.fault.kind, True
                self.at_fault()
        if operation in self.missing:
            raise refusal(operation, "AccessDeniedException", f"not authorized to perform {operation}")
        if (error := self.standing(service, operation, request)) is not None:
            raise error
        try:
            answer = self._fail(kind, service, operation, request) if kind else self._do(operation, request)
        except ClientError as refused_with:
            self.seen(service, operation, dict(refused_with.response))
            raise
        self.seen(service, operation, answer)
        self._go_on()
        return dict(answer)

    def _go_on(self) -> None:
        """A function that is out of time, or dead, makes no call and gets no answer."""
        invocation = self.invocation
        assert invocation is not None, "nobody but a function calls AWS here"
        if invocation.dead or self.clock.seconds > invocation.ends:
            invocation.dead = True
            raise Killed

    def _do(self, operation: str, request: Request) -> Answer:
        if operation == "UpdateModelPackage":
            package, changes = request["ModelPackageArn"], {**request}
            del changes["ModelPackageArn"]
            self.change_version(package, "role/deploy", **changes)
            answer: Answer = {}
        else:
            answer = getattr(self, xform_name(operation))(**request) or {}
        if operation in ("CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint"):
            self.tell_of_endpoint(request["EndpointName"])
        if not operation.startswith(("Describe", "Get", "List", "Query")):
            self.after_change()
        return dict(answer)

    def _fail(self, kind: str, service: str, operation: str, request: Request) -> Answer:
        address = f"https://{service}.{self.region}.amazonaws.com/"
        if kind == "error":
            raise refused(operation, BROKEN[service], 500)
        if kind == "throttled":
            raise throttled(service, operation)
        if kind == "not sent":
            self.waiting(PRICING_SECONDS if service == "pricing" else UNREACHABLE_SECONDS)
            raise EndpointConnectionError(endpoint_url=address)
        if kind == "killed before":
            self._die()
        try:
            answer = self._do(operation, request)
        except ClientError:
            if kind in ("late", "asked twice"):
                raise  # AWS refused it, so nothing is asked again
            answer = {}
        if kind == "killed after":
            self._die()
        if kind == "not answered":
            self.waiting(PRICING_SECONDS if service == "pricing" else SILENT_SECONDS)
            raise ReadTimeoutError(endpoint_url=address)
        if kind == "late":
            self.waiting(LATE_SECONDS)
            return answer
        if kind == "closed":
            raise ConnectionClosedError(endpoint_url=address)
        assert kind == "asked twice", kind
        self.waiting(ONE_TRY_SECONDS)
        # botocore gives a transaction a token of its own, by which DynamoDB knows it again
        return answer if operation == "TransactWriteItems" else self._do(operation, request)

    def _die(self) -> None:
        assert self.invocation is not None
        self.invocation.dead = True
        raise Killed

    # --- what tells of itself

    def change_version(self, package_arn: str, by: str, **changes: Any) -> None:
        """UpdateModelPackage by somebody. An approval that the version has already is no event (docs/unverified.md)."""
        before = self.packages[package_arn]["ModelApprovalStatus"]
        self.update_model_package(package_arn, **changes)
        self.packages[package_arn]["LastModifiedBy"] = {"IamIdentity": {"Arn": f"arn:aws:iam::123456789012:{by}"}}
        if fields := sorted(name for name in changes if name != "ModelApprovalStatus" or changes[name] != before):
            self.tell_of_version(package_arn, fields)

    def tell_of_version(self, package_arn: str, fields: list[str] | None) -> None:
        package = self.packages[package_arn]
        detail = {
            "ModelPackageGroupName": package_arn.split("/")[1],
            "ModelPackageArn": package_arn,
            "ModelApprovalStatus": package["ModelApprovalStatus"],
            "LastModifiedTime": f"{package['LastModifiedTime']:%Y-%m-%dT%H:%M:%SZ}",
        }
        if fields is not None:
            detail["UpdatedModelPackageFields"] = fields
        self._emit("aws.sagemaker", "SageMaker Model Package State Change", detail)

    def tell_of_endpoint(self, name: str) -> None:
        self._emit("aws.sagemaker", "SageMaker Endpoint State Change", {"EndpointName": name})

    def set_alarm_state(self, AlarmName: str, StateValue: str, StateReason: str) -> None:
        super().set_alarm_state(AlarmName, StateValue, StateReason)
        self._emit("aws.cloudwatch", "CloudWatch Alarm State Change", {"alarmName": AlarmName})

    def _emit(self, source: str, kind: str, detail: dict[str, Any]) -> None:
        self.emit({"source": source, "detail-type": kind, "detail": detail})

    # --- what only the handlers call

    def list_model_package_groups(self) -> Answer:
        found = sorted({name.split("/")[1]: None for name in self.tags if ":model-package-group/" in name})
        return {
            "ModelPackageGroupSummaryList": [
                {"ModelPackageGroupName": name, "ModelPackageGroupArn": arn("sagemaker", f"model-package-group/{name}")}
                for name in found
            ]
        }

    def describe_model_package_group(self, ModelPackageGroupName: str) -> Answer:
        for group in self.list_model_package_groups()["ModelPackageGroupSummaryList"]:
            if group["ModelPackageGroupName"] == ModelPackageGroupName:
                return dict(group)
        raise validation(f"ModelPackageGroup {ModelPackageGroupName} does not exist.")

    def list_model_packages(
        self,
        ModelPackageGroupName: str,
        ModelApprovalStatus: str | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Ascending",
        MaxResults: int = 100,
    ) -> Answer:
        found = [
            package
            for name, package in self.packages.items()
            if f"/{ModelPackageGroupName}/" in name and ModelApprovalStatus in (None, package["ModelApprovalStatus"])
        ]
        found.sort(key=lambda one: one["CreationTime"], reverse=SortOrder == "Descending")
        return {"ModelPackageSummaryList": found[:MaxResults]}

    def send_message_batch(self, QueueUrl: str, Entries: list[Answer]) -> Answer:
        for entry in Entries:
            self.emit(json.loads(entry["MessageBody"]))
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:
        self.in_flight[ReceiptHandle].visible_at = self.clock.seconds + VisibilityTimeout

    def create_transform_job(self, TransformJobName: str, **request: Any) -> Answer:
        if TransformJobName in self.jobs:
            raise refusal("CreateTransformJob", "ResourceInUse", "Job name must be unique")
        job_arn = arn("sagemaker", f"transform-job/{TransformJobName}")
        self.tags[job_arn] = request["Tags"]
        self.jobs[TransformJobName] = {
            "TransformJobName": TransformJobName,
            "TransformJobArn": job_arn,
            "TransformJobStatus": "InProgress",
            "CreationTime": self._now(),
            **request,
        }
        return {"TransformJobArn": job_arn}

    def describe_transform_job(self, TransformJobName: str) -> Answer:
        return self._get(self.jobs, TransformJobName, "transform job")

    def get_products(self, ServiceCode: str, Filters: list[Answer]) -> Answer:
        price = {"unit": "Hrs", "pricePerUnit": {"USD": "0.125"}}
        product = {"terms": {"OnDemand": {"term": {"priceDimensions": {"dimension": price}}}}}
        return {"PriceList": [json.dumps(product)]}

    def get_secret_value(self, SecretId: str) -> Answer:
        return {"SecretString": "https://chat.example/hook"}

    def stop_transform_job(self, TransformJobName: str) -> None:
        job = self._get(self.jobs, TransformJobName, "transform job")
        if job["TransformJobStatus"] != "InProgress":
            raise refusal("StopTransformJob", "ValidationException", "The request was rejected because the job is over")
        self.jobs[TransformJobName] = {**job, "TransformJobStatus": "Stopping", "over": self.clock.seconds + 90}

    def list_transform_jobs(self, NameContains: str, StatusEquals: str, MaxResults: int = 10, **order: str) -> Answer:
        for job in self.jobs.values():
            if job["TransformJobStatus"] == "Stopping" and self.clock.seconds >= job["over"]:
                job["TransformJobStatus"] = "Stopped"
        found = [job for name, job in self.jobs.items() if NameContains in name]
        return {
            "TransformJobSummaries": [job for job in found if job["TransformJobStatus"] == StatusEquals][:MaxResults]
        }


class Platform:
    """The project's stage dev on an installed platform: what people do there, and what the functions make of it."""

    stage = "dev"
    endpoint = "churn-dev"
    aws_type = PlatformAWS

    def __init__(self, fault: Fault | None = None, tags: dict[str, str] | None = None) -> None:
        self.clock = Clock()
        self.aws = self.aws_type(clock=self.clock, fault=fault)
        self.aws.emit, self.aws.waiting, self.aws.after_change = self.send_event, self.pass_time, self.guard
        self.settings = Settings(
            ledger_table="modelyard",
            queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/modelyard-events",
            topic_arn=arn("sns", "modelyard-deployments"),
            model_role_path="/modelyard/models/",
            default_model_role="default",
            batch_function_arn=arn("lambda", "function:modelyard-batch"),
            schedule_role_arn="arn:aws:iam::123456789012:role/modelyard-schedules",
            schedule_group="modelyard",
        )
        self.queue: list[Message] = []
        self.dead_letters: list[str] = []
        self.batch_calls: list[tuple[float, int, dict[str, Any]]] = []  # due, tries before, event
        self.held = False
        self.served = False
        self.outage_allowed = False
        self.faults: list[str] = []
        self.messages = 0
        self.versions = 0
        self.next_minute, self.next_ten = START + 60, START + 600
        self.add_group("churn", tags)

    @contextmanager
    def installed(self) -> Iterator[Platform]:
        """The functions read this clock, and log nothing: thousands of runs are expected to fail somewhere."""
        with (
            patch("lifecycle_lambdas.ledger.time", self.clock),
            patch("lifecycle_lambdas.converge.time", self.clock),
            patch("lifecycle_lambdas.context.time", self.clock),
            patch.object(log, "_hidden", {"INFO", "WARNING", "ERROR"}),
            patch.object(deploy, "_log_failure", self._note),
        ):
            yield self

    def _note(self, message: str, error: Exception, **fields: Any) -> None:
        """A message comes again for what AWS answered, and for nothing else."""
        if not isinstance(error, ClientError | BotoCoreError):
            self.faults.append(f"{message}: {type(error).__name__}: {error}")

    # --- what people and pipelines do

    def add_group(self, project: str, tags: dict[str, str] | None = None) -> None:
        """The model package group of a project's stage."""
        all_tags = {"modelyard:project": project, "modelyard:stage": self.stage, "sagemaker:project-id": "p-1"}
        self.aws.tags[arn("sagemaker", f"model-package-group/{project}-{self.stage}")] = [
            {"Key": key, "Value": value} for key, value in {**all_tags, **(tags or {})}.items()
        ]

    def register(self, stage_file: dict[str, Any] | str) -> str:
        """A version to be served by this stage file; its ARN."""
        text = stage_file if isinstance(stage_file, str) else yaml.safe_dump(stage_file)
        self.clock.seconds += 2
        self.versions += 1
        package, prefix = arn("sagemaker", f"model-package/{self.endpoint}/{self.versions}"), f"x/{self.versions}/"
        self.aws.objects["artifacts", f"{prefix}{self.stage}.yaml"] = text.encode()
        self.aws.packages[package] = {
            "ModelPackageArn": package,
            "ModelPackageVersion": self.versions,
            "ModelApprovalStatus": "PendingManualApproval",
            "CreationTime": self.clock.now(),
            "LastModifiedTime": self.clock.now(),
            "CustomerMetadataProperties": {
                "deployment.prefix": f"s3://artifacts/{prefix}",
                f"deployment.sha256.{self.stage}": hashlib.sha256(text.encode()).hexdigest(),
            },
        }
        self.aws.tell_of_version(package, None)
        return package

    def decide(self, package: str, status: str) -> None:
        self.clock.seconds += 2
        self.aws.change_version(package, "user/ada", ModelApprovalStatus=status)

    def approve(self, package: str) -> None:
        self.decide(package, "Approved")

    def reject(self, package: str) -> None:
        self.decide(package, "Rejected")

    def command(self, kind: Any, package: str | None, until: datetime | None = None) -> None:
        """`go-back` or `park` of the command line: the entry, and the message to look."""
        self.clock.seconds += 2
        at = self.clock.now().replace(microsecond=0)
        self.write(
            Entry(self.endpoint, kind, at, package, "arn:aws:iam::123456789012:user/ada", "why", "command", until)
        )

    def write(self, entry: Entry) -> None:
        """The entry, and the message to look."""
        with self._working(FUNCTION_SECONDS, counting=False):
            assert self.context().ledger.append(entry)
        self.send_event({"look": "endpoint", "endpoint": self.endpoint, "missed": False})

    def remove(self) -> None:
        """The project is being deleted: what the seed function sends."""
        self.clock.seconds += 2
        stack = "arn:aws:cloudformation:us-east-1:123456789012:stack/SC-churn/1b2c"
        event = {"look": "remove", "endpoint": self.endpoint, "by": stack, "why": "project churn is being deleted"}
        self.send_event(event)

    def delete_group(self) -> None:
        """The model package group and its versions: gone, with their tags."""
        del self.aws.tags[arn("sagemaker", f"model-package-group/{self.endpoint}")]
        self.aws.packages.clear()
        self.versions = 0

    def raise_alarm(self, name: str) -> None:
        self.aws.set_alarm_state(f"{self.endpoint}-{name}", "ALARM", "0.3 was greater than 0.05")

    def scheduled(self) -> None:
        """The batch stage's schedule is due."""
        schedule = self.aws.schedules[self.endpoint]
        event = {**json.loads(schedule["Target"]["Input"]), "scheduled_time": f"{self.clock.now():%Y-%m-%dT%H:%M:00Z}"}
        self.batch_calls.append((self.clock.seconds, 0, event))

    def end_jobs(self, status: str) -> None:
        """The transform jobs that run end so."""
        for name, job in self.aws.jobs.items():
            if job["TransformJobStatus"] == "InProgress":
                self.aws.jobs[name] = {**job, "TransformJobStatus": status, "FailureReason": "a column is missing"}
                detail = {"TransformJobName": name, "TransformJobArn": job["TransformJobArn"]}
                event = {"detail-type": "SageMaker Transform Job State Change", "detail": detail}
                self.batch_calls.append((self.clock.seconds + 1, 0, event))

    def begin(self) -> None:
        """From here on calls are counted, and the fault may happen."""
        self.aws.counting = True
        self.aws.published.clear()

    # --- time

    def send_event(self, event: dict[str, Any]) -> None:
        self.messages += 1
        now = self.clock.seconds
        self.queue.append(Message(self.messages, json.dumps(event), now + 1, now))

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Until all is quiet, or until it is so as the test waits for."""
        for _ in range(MOST_EVENTS):
            if (until or self.is_quiet)():
                return
            if until is not None and self.is_quiet():
                raise AssertionError("all is quiet, and what was waited for never came")
            self._next(self._due())
        raise AssertionError(f"never quiet: {[message.body for message in self.queue]}, {self.state}")

    def pass_time(self, seconds: float) -> None:
        """Somebody waits so long, and everybody else works."""
        until, waits = self.clock.seconds + seconds, self.aws.invocation
        while (due := self._due()) <= until:
            self._next(due)
        self.clock.seconds = max(self.clock.seconds, until)
        self.aws.invocation = waits

    def is_quiet(self) -> bool:
        busy = [one for one in self.aws.endpoints.values() if one["EndpointStatus"] in BUSY]
        under_way = self.state is not None and self.state.status == "under-way"
        return not (self.queue or self.batch_calls or busy or under_way)

    def _due(self) -> float:
        dues = [self.next_minute, self.next_ten]
        dues += [message.visible_at for message in self.queue]
        dues += [due for due, _, _ in self.batch_calls]
        if not self.held:
            dues += [
                endpoint["LastModifiedTime"].timestamp() + ENDPOINT_SECONDS
                for endpoint in self.aws.endpoints.values()
                if endpoint["EndpointStatus"] in BUSY
            ]
        return min(dues)

    def _next(self, due: float) -> None:
        self.clock.seconds = max(self.clock.seconds, due)
        now = self.clock.seconds
        if now >= self.next_minute:
            self.next_minute += 60
            self.send_event({"look": "under-way"})
        if now >= self.next_ten:
            self.next_ten += 600
            self.send_event({"look": "everything"})
        if not self.held:
            self._endpoints_go_on(now)
        for call in [one for one in self.batch_calls if one[0] <= now]:
            self.batch_calls.remove(call)
            self._call_batch(*call[1:])
        visible = [message for message in self.queue if message.visible_at <= now][:BATCH_SIZE]
        if visible:
            self._call_deploy(visible)

    def _endpoints_go_on(self, now: float) -> None:
        for name, endpoint in list(self.aws.endpoints.items()):
            if (
                endpoint["EndpointStatus"] in BUSY
                and endpoint["LastModifiedTime"].timestamp() + ENDPOINT_SECONDS <= now
            ):
                self.aws.settle()
                if endpoint["EndpointStatus"] in BUSY:  # a roll-back begins
                    endpoint["LastModifiedTime"] = self.clock.now()
                self.aws.tell_of_endpoint(name)
                self.guard()

    # --- the functions

    def call_function(self, function: Callable[[Context], Any], tries: int = 1) -> Any:
        """Of a function that is called directly: its answer, or the error of the last try."""
        for left in reversed(range(tries)):
            try:
                with self._working(BATCH_FUNCTION_SECONDS):
                    return function(self.context())
            except (Killed, ClientError, BotoCoreError):
                if not left:
                    raise
        raise ValueError("at least one try")

    def context(self) -> Context:
        invocation = self.aws.invocation
        assert invocation is not None
        clients = cast("Clients", self.aws)
        ledger = Ledger(clients("dynamodb"), self.settings.ledger_table)
        owner = f"request-{self.clock.seconds}"
        return Context(self.settings, clients, ledger, owner, invocation.ends, now=self.clock.now)

    @contextmanager
    def _working(self, seconds: float, counting: bool = True) -> Iterator[Invocation]:
        """In a function of its own; one that is waiting meanwhile goes on afterwards."""
        before, counted = self.aws.invocation, self.aws.counting
        self.aws.invocation, self.aws.counting = Invocation(self.clock.seconds + seconds), counted and counting
        try:
            yield self.aws.invocation
        finally:
            self.aws.invocation, self.aws.counting = before, counted

    def _call_deploy(self, messages: list[Message]) -> None:
        """As the event source mapping does: what is not among the failures is deleted."""
        records = []
        for message in messages:
            message.received += 1
            message.visible_at = self.clock.seconds + VISIBILITY_SECONDS
            if message.received > MOST_RECEIVES:
                self.queue.remove(message)
                self.dead_letters.append(message.body)
                continue
            self.aws.in_flight[str(message.id)] = message
            records.append(
                {
                    "messageId": str(message.id),
                    "receiptHandle": str(message.id),
                    "body": message.body,
                    "attributes": {
                        "ApproximateReceiveCount": str(message.received),
                        "SentTimestamp": str(int(message.sent * 1000)),
                    },
                }
            )
        try:
            with self._working(FUNCTION_SECONDS):
                answer = deploy.respond(self.context(), {"Records": records})
        except (Killed, ClientError, BotoCoreError):  # Lambda says that the batch failed
            return
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        done = {message.id for message in messages if str(message.id) not in failed}
        self.queue = [message for message in self.queue if message.id not in done]

    def _call_batch(self, tries: int, event: dict[str, Any]) -> None:
        """As Lambda does of asynchronous calls."""
        try:
            with self._working(BATCH_FUNCTION_SECONDS):
                batch.handle(self.context(), event)
        except (Killed, ClientError, BotoCoreError):
            if tries == len(BATCH_RETRIES):
                self.dead_letters.append(json.dumps(event))
            else:
                self.batch_calls.append((self.clock.seconds + BATCH_RETRIES[tries], tries + 1, event))

    # --- what is there

    def guard(self) -> None:
        """What served before serves on: an endpoint that answers has its model and its config, and does not go."""
        endpoint = self.aws.endpoints.get(self.endpoint)
        answers = endpoint is not None and endpoint["EndpointStatus"] in ("InService", "Updating", "RollingBack")
        if not answers:
            if self.served and not self.outage_allowed:
                status = "gone" if endpoint is None else endpoint["EndpointStatus"]
                self.faults.append(f"nothing answers: the endpoint is {status}")
            return
        self.served = True
        assert endpoint is not None
        pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        for config in filter(None, (endpoint["EndpointConfigName"], pending)):
            if config not in self.aws.configs:
                self.faults.append(f"{config} serves, and its config is deleted")
            elif (model := self.aws.configs[config]["ProductionVariants"][0]["ModelName"]) not in self.aws.models:
                self.faults.append(f"{config} serves, and its model {model} is deleted")

    @property
    def status(self) -> str | None:
        endpoint = self.aws.endpoints.get(self.endpoint)
        return None if endpoint is None else str(endpoint["EndpointStatus"])

    @property
    def serves(self) -> str | None:
        """The ARN of the version that answers, or whose batch jobs are scheduled."""
        endpoint = self.aws.endpoints.get(self.endpoint)
        if endpoint is not None:
            return str(self.aws.configs[endpoint["EndpointConfigName"]]["ProductionVariants"][0]["package"])
        for schedule in self.aws.schedules.values():
            return str(json.loads(schedule["Target"]["Input"])["package_arn"])
        return None

    @property
    def serving_number(self) -> int | None:
        """Of the deployment that answers, or whose batch jobs are scheduled."""
        for endpoint in self.aws.endpoints.values():
            return names.number_of(self.endpoint, endpoint["EndpointConfigName"])
        for schedule in self.aws.schedules.values():
            return int(json.loads(schedule["Target"]["Input"])["number"])
        return None

    def _read(self, read: Callable[[Ledger], Any]) -> Any:
        """Of the ledger, as the test sees it: no call of a function's."""
        return read(Ledger(_Reader(self.aws), self.settings.ledger_table))

    @property
    def state(self) -> State | None:
        return cast("State | None", self._read(lambda ledger: ledger.state(self.endpoint)))

    @property
    def entries(self) -> list[Entry]:
        return cast("list[Entry]", self._read(lambda ledger: list(ledger.entries(self.endpoint))))

    @property
    def deployments(self) -> list[Deployment]:
        """The newest first."""
        return cast("list[Deployment]", self._read(lambda ledger: list(ledger.deployments(self.endpoint))))

    def told(self) -> Counter[str]:
        """The subjects of the messages since the test began to count, without the endpoint's name."""
        return Counter(message["Subject"].removeprefix(f"{self.endpoint}: ") for message in self.aws.published)

    def end_state(self) -> dict[str, Any]:
        """All that must be the same however it came about; times, and how somebody was found out, left out."""
        aws = self.aws
        state = self.state
        return {
            "serves": self.serves,
            "endpoints": {
                name: (
                    one["EndpointStatus"],
                    one["EndpointConfigName"],
                    one.get("FailureReason", ""),
                    [variant.get("DesiredInstanceCount") for variant in one["ProductionVariants"]],
                )
                for name, one in aws.endpoints.items()
            },
            "models": sorted(aws.models),
            "configs": sorted(aws.configs),
            "alarms": {name: one["StateValue"] for name, one in sorted(aws.alarms.items())},
            "targets": aws.targets,
            "policies": sorted(aws.policies),
            "dashboards": sorted(aws.dashboards),
            "schedules": {name: one["Target"]["Input"] for name, one in aws.schedules.items()},
            "jobs": [(name.rpartition("-")[0], one["TransformJobStatus"]) for name, one in sorted(aws.jobs.items())],
            "versions": {
                name: (
                    one["ModelApprovalStatus"],
                    one.get("ApprovalDescription", ""),
                    _stamps(one),
                )
                for name, one in aws.packages.items()
            },
            # a change of a version that AWS was asked for twice is two events
            "entries": [
                same for same, _ in groupby((one.kind, one.package_arn, one.by, one.why) for one in self.entries)
            ],
            "deployments": [(one.number, one.package_arn, one.status, one.reason) for one in self.deployments],
            "status": None if state is None else (state.status, state.last_number),
        }


def _stamps(package: Answer) -> dict[str, str]:
    """The version's metadata without times; who approved what is rejected now was perhaps never written on it."""
    left_out = TIMES if package["ModelApprovalStatus"] == "Approved" else (*TIMES, "approval.by")
    return {name: value for name, value in package["CustomerMetadataProperties"].items() if name not in left_out}


@dataclass(frozen=True)
class _Reader:
    """A DynamoDB client for the test's own looks."""

    aws: PlatformAWS

    def __getattr__(self, operation: str) -> Any:
        return getattr(self.aws, operation)


def refused(operation: str, code: str, status: int, message: str = "try again") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},
        operation,
    )


def throttled(service: str, operation: str) -> ClientError:
    code, status = THROTTLED[service]
    error = refused(operation, code, status, "Rate exceeded")
    if operation == "TransactWriteItems":
        error.response["Error"]["Code"] = "TransactionCanceledException"
        error.response["CancellationReasons"] = [{"Code": "ThrottlingError"}, {"Code": "None"}]
    return error
