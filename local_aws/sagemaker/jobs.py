"""Jobs: created, really run, described, listed, stopped. Processing and training jobs, and what all kinds share."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from botocore.exceptions import ClientError

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.events import Events
from local_aws.images import Image, Images
from local_aws.jobs.host import JobFailure, nothing_found
from local_aws.jobs.log import JobLog, Metrics
from local_aws.jobs.opt_ml import OptMl, choose
from local_aws.jobs.plan import DEFAULT_SECONDS, Plan, output_location, processing_plans, training_plans
from local_aws.jobs.runner import Outcome, Run, internal_failure
from local_aws.jobs.staging import S3Object, Transfers, list_objects, s3_location
from local_aws.loopback import Loopback
from local_aws.permissions.containers import ContainerDenied, ask_for_container
from local_aws.processes import Process
from local_aws.sagemaker import times
from local_aws.sagemaker.job_checks import check_processing_job, check_training_job
from local_aws.sagemaker.roles import check_role
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store, Table

ENDED = ("Completed", "Failed", "Stopped")
SERVER_STOPPED = "InternalServerError: local_aws was stopped while the job was under way. Start the job again."
STATUS_MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Resource released due to training job runtime exceeding MaxRuntimeInSeconds",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """What differs between the kinds of job."""

    name: str  # "Processing", "Training" or "Transform"
    noun: str
    log_group: str

    def member(self, suffix: str) -> str:
        """A member's name, such as "TrainingJobName"."""
        return f"{self.name}{suffix}"


PROCESSING = Kind("Processing", "processing-job", "/aws/sagemaker/ProcessingJobs")
TRAINING = Kind("Training", "training-job", "/aws/sagemaker/TrainingJobs")
TRANSFORM = Kind("Transform", "transform-job", "/aws/sagemaker/TransformJobs")
KINDS = {kind.name: kind for kind in (PROCESSING, TRAINING, TRANSFORM)}


class Runnable(Protocol):
    """A job's work (jobs.runner.Run)."""

    @property
    def pids(self) -> list[int]: ...

    def run(self) -> Outcome: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class Prepared(NamedTuple):
    """A job about to run, and its logs; the outcome names the one that is told why it failed."""

    run: Runnable
    logs: list[JobLog]


class Acting(NamedTuple):
    """As whom a job acts, and what that role must be allowed before its containers start.

    Args:
        role: ARN.
        image: its registry address.
        vpc: VpcConfig.
    """

    scope: Scope
    role: str
    image: str
    vpc: dict[str, Any] | None = None


# Prepares a job's work, given its description and who is to be told of its phases.
Prepare = Callable[[Document, Callable[[str], None]], Prepared]


@dataclass
class _Active:
    """A job under way."""

    ended: threading.Event = field(default_factory=threading.Event)
    run: Runnable | None = None
    thread: threading.Thread | None = None
    stop_wanted: bool = False


class Jobs:
    """All kinds of job.

    Args:
        store: where they are kept.
        tags: of their ARNs.
        loopback: clients for S3, CloudWatch Logs and IAM.
        images: the environments they run in.
        work: a folder for the jobs' own folders.
        opt_ml: how they get /opt/ml: "auto", "namespace" or "rewrite".
        events: where changes of their status are told.

    Raises:
        RuntimeError: `opt_ml` is "namespace" and the system does not allow one.
    """

    def __init__(
        self,
        store: Store,
        tags: Tags,
        loopback: Loopback,
        images: Images,
        work: Path,
        opt_ml: str,
        events: Events,
    ) -> None:
        self._store, self._tags, self._loopback, self._images = store, tags, loopback, images
        self._events = events
        self._work, self._opt_ml_setting = work.absolute(), opt_ml
        self._tables: dict[Kind, Table] = {kind: store.table(kind.noun) for kind in KINDS.values()}
        self._active: dict[tuple[Scope, Kind, str], _Active] = {}
        self._transfers = Transfers()
        self._opt_ml_lock = threading.Lock()
        self._stopped = False
        tags.know(self._knows)
        if opt_ml == "namespace":
            choose(opt_ml)  # fails now, not with the first job
        if opt_ml != "namespace" and re.search(r"[^\w/.+@-]", str(self._work)) and not self.opt_ml.namespace:
            raise RuntimeError(
                f"The jobs' folder {self._work} has characters that a shell script would misread once it is written"
                " in the place of /opt/ml. Set TMPDIR to a folder of letters, digits and -_.+@ only."
            )

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateProcessingJob": self.create_processing_job,
            "DescribeProcessingJob": self.describe_processing_job,
            "ListProcessingJobs": self.list_processing_jobs,
            "StopProcessingJob": self.stop_processing_job,
            "CreateTrainingJob": self.create_training_job,
            "DescribeTrainingJob": self.describe_training_job,
            "ListTrainingJobs": self.list_training_jobs,
            "StopTrainingJob": self.stop_training_job,
        }

    # Create

    def create_processing_job(self, call: Call, request: Request) -> Response:
        """Start a processing job.

        Raises:
            ServiceError: ValidationException for what cannot run; ResourceInUse when the name is taken.
        """
        check_processing_job(request)
        name = request["ProcessingJobName"]
        arn = call.arn(f"{PROCESSING.noun}/{name.lower()}")
        uri = request["AppSpecification"]["ImageUri"]
        image = self._images.find(uri)
        check_role(self._loopback, call.scope, request["RoleArn"], arn)
        described = {key: value for key, value in request.items() if key != "Tags"}
        described.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": DEFAULT_SECONDS})
        document = described | self.new_document(PROCESSING, arn)
        plans = processing_plans(described, arn)
        metrics = Metrics()
        vpc = request.get("NetworkConfig", {}).get("VpcConfig")
        acting = Acting(call.scope, request["RoleArn"], uri, vpc)
        prepare = self._prepare(acting, PROCESSING, plans, image, metrics)
        self.start(call, PROCESSING, name, document, request, prepare, metrics)
        return {"ProcessingJobArn": arn}

    def check_training_job(self, call: Call, request: Request) -> tuple[Image, dict[str, list[S3Object]]]:
        """Its image, and what each channel's source holds.

        Raises:
            ServiceError: ValidationException for what cannot run, an input without objects included (as on AWS).
        """
        check_training_job(request)
        image, role = self._images.find(request["AlgorithmSpecification"]["TrainingImage"]), request["RoleArn"]
        listings = {
            channel["ChannelName"]: self._transfers.start(
                list_objects,
                self._loopback.client("s3", call.scope, role),
                s3_location(channel["DataSource"]["S3DataSource"]["S3Uri"]),
            )
            for channel in request.get("InputDataConfig", [])
        }
        arn = call.arn(f"{TRAINING.noun}/{request['TrainingJobName'].lower()}")
        check_role(self._loopback, call.scope, role, arn)
        objects = {
            channel["ChannelName"]: _found(listings[channel["ChannelName"]], channel)
            for channel in request.get("InputDataConfig", [])
        }
        return image, objects

    def create_training_job(self, call: Call, request: Request, tuning_job_arn: str | None = None) -> Response:
        """Start a training job.

        Args:
            tuning_job_arn: of the hyperparameter tuning job whose it is.

        Raises:
            ServiceError: ValidationException, as `check_training_job` says; ResourceInUse when the name is taken.
        """
        image, objects = self.check_training_job(call, request)
        name = request["TrainingJobName"]
        arn = call.arn(f"{TRAINING.noun}/{name.lower()}")
        document = _described_training_job(request) | self.new_document(TRAINING, arn)
        document["ModelArtifacts"] = {"S3ModelArtifacts": str(output_location(request) / "model.tar.gz")}
        if tuning_job_arn is not None:
            document["TuningJobArn"] = tuning_job_arn
        document = _secondary_status(document, "Starting")
        plans = training_plans(request, arn, call.scope.region, objects)
        definitions = request["AlgorithmSpecification"].get("MetricDefinitions", [])
        metrics = Metrics({item["Name"]: re.compile(item["Regex"]) for item in definitions})
        uri = request["AlgorithmSpecification"]["TrainingImage"]
        acting = Acting(call.scope, request["RoleArn"], uri, request.get("VpcConfig"))
        prepare = self._prepare(acting, TRAINING, plans, image, metrics)
        self.start(call, TRAINING, name, document, request, prepare, metrics)
        return {"TrainingJobArn": arn}

    def new_document(self, kind: Kind, arn: str) -> Document:
        """The members that every job begins with."""
        now = times.now()
        return {
            kind.member("JobArn"): arn,
            kind.member("JobStatus"): "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
        }

    def start(
        self,
        call: Call,
        kind: Kind,
        name: str,
        document: Document,
        request: Request,
        prepare: Prepare,
        metrics: Metrics,
    ) -> None:
        """Keep a job's document and run it in a thread.

        Raises:
            ServiceError: ResourceInUse when the name is taken; ValidationException for bad tags.
        """
        scope, key, table = call.scope, name.lower(), self._tables[kind]
        arn = document[kind.member("JobArn")]
        active = _Active()
        with self._store.lock:
            if table.get(scope, key) is not None:
                raise ServiceError(
                    "ResourceInUse",
                    f"{kind.name} job names must be unique within an AWS account and region, and a job with this name"
                    f" already exists ({arn}).",
                )
            if self._stopped:
                raise ServiceError("InternalFailure", "local_aws is going down and starts no job any more.", 500)
            table.put(scope, key, document)
            self._active[scope, kind, key] = active
            try:
                self._tags.set_on_create(call, arn, request.get("Tags"))
            except ServiceError:
                table.delete(scope, key)
                del self._active[scope, kind, key]
                raise
            self._tell(scope, kind, document)
        arguments = (scope, kind, key, active, prepare, metrics)
        active.thread = threading.Thread(target=self._run, args=arguments, name=f"{kind.noun} {name}", daemon=True)
        active.thread.start()

    # Run

    def _prepare(self, acting: Acting, kind: Kind, plans: list[Plan], image: Image, metrics: Metrics) -> Prepare:
        """How a processing or training job is prepared."""
        scope, role, loopback = acting.scope, acting.role, self._loopback

        def pull() -> None:
            try:
                ask_for_container(loopback, scope, role, acting.image, kind.log_group, acting.vpc)
            except ContainerDenied as denied:
                raise JobFailure(f"ClientError: {denied}") from denied

        def prepare(document: Document, on_phase: Callable[[str], None]) -> Prepared:
            client, name = loopback.client("logs", scope, role), document[kind.member("JobName")]
            streams = [f"{name}/{plan.host}-{int(document['CreationTime'])}" for plan in plans]
            agent = loopback.enforced
            logs = [JobLog(client, kind.log_group, stream, metrics, as_agent=agent) for stream in streams]
            run = Run(
                plans,
                image,
                self.opt_ml,
                self._work,
                loopback.client("s3", scope, role),
                loopback.client("s3", scope),
                pull,
                self._transfers,
                logs,
                loopback.environment(scope, role),
                on_phase=on_phase,
            )
            return Prepared(run, logs)

        return prepare

    def _run(self, scope: Scope, kind: Kind, key: str, active: _Active, prepare: Prepare, metrics: Metrics) -> None:
        """In a thread of its own: from InProgress to its end."""
        logs: list[JobLog] = []
        try:
            run, logs = prepare(self.get(scope, kind, key), lambda phase: self._on_phase(scope, kind, key, phase))
            with self._store.lock:
                active.run = run
                if self._stopped:
                    run.kill()
                elif active.stop_wanted:
                    run.stop()
            outcome = run.run()
        except Exception:  # noqa: BLE001 (whoever waits for the job must hear of its end)
            outcome = internal_failure()
        try:
            if outcome.status == "Failed" and logs:
                logs[outcome.host].line(f"[local_aws] {outcome.reason}")
            for log in logs:
                log.close(deliver=not self._stopped)
        finally:
            self._end(scope, kind, key, active, outcome, metrics)

    def _end(self, scope: Scope, kind: Kind, key: str, active: _Active, outcome: Outcome, metrics: Metrics) -> None:
        with self._store.lock:
            if self._stopped and outcome.status == "Stopped" and not active.stop_wanted:
                outcome = Outcome("Failed", SERVER_STOPPED)
            try:
                self._change(scope, kind, key, lambda document: _ended(kind, document, outcome, metrics))
            finally:  # also when the end cannot be written down: whoever waits for the job must hear of it
                del self._active[scope, kind, key]
                active.ended.set()

    @cached_property
    def _opt_ml_found(self) -> OptMl:
        found = choose(self._opt_ml_setting)
        logger.info("jobs: %s", found.why)
        return found

    @property
    def opt_ml(self) -> OptMl:
        """The way to /opt/ml on this machine, found out once."""
        with self._opt_ml_lock:
            return self._opt_ml_found

    def _on_phase(self, scope: Scope, kind: Kind, key: str, phase: str) -> None:
        def change(document: Document) -> Document:
            started = kind.member("StartTime")
            if phase == "Training" and started not in document:
                document = document | {started: times.now()}
            if kind is TRAINING and document["TrainingJobStatus"] == "InProgress":
                document = _secondary_status(document, phase)
            return document

        self._change(scope, kind, key, change)

    def _change(self, scope: Scope, kind: Kind, key: str, change: Callable[[Document], Document]) -> None:
        """Put a changed copy in the document's place: whoever reads the old one reads it whole."""
        with self._store.lock:
            before = self.get(scope, kind, key)
            document = change(before) | {"LastModifiedTime": times.now()}
            self._tables[kind].put(scope, key, document)
            names = (kind.member("JobStatus"), "SecondaryStatus")
            if any(document.get(name) != before.get(name) for name in names):
                self._tell(scope, kind, document)

    def _tell(self, scope: Scope, kind: Kind, document: Document) -> None:
        """Send the event of a state change: what Describe answers, times in milliseconds, tags as a map.

        The EventBridge event reference's samples differ in the form of times; milliseconds are what was captured
        (docs/unverified.md).
        """
        arn = document[kind.member("JobArn")]
        detail = times.in_milliseconds(document) | {"Tags": self._tags.of(scope, arn)}
        self._events.emit(scope, f"SageMaker {kind.name} Job State Change", [arn], detail)

    # Describe, list, stop

    def describe_processing_job(self, call: Call, request: Request) -> Response:
        return self.get(call.scope, PROCESSING, request["ProcessingJobName"].lower())

    def describe_training_job(self, call: Call, request: Request) -> Response:
        return self.get(call.scope, TRAINING, request["TrainingJobName"].lower())

    def get(self, scope: Scope, kind: Kind, key: str) -> Document:
        """What a job's Describe call answers; `key` is its name in lower case.

        Raises:
            ServiceError: ValidationException when there is none.
        """
        document = self._tables[kind].get(scope, key)
        if document is None:
            # DescribeTrainingJob of AWS answers so too, although its model names ResourceNotFound.
            raise validation_error(f"Requested resource not found: no {kind.noun} {key!r} in this account and Region.")
        return document

    def list_processing_jobs(self, call: Call, request: Request) -> Response:
        found, more = self.page(call.scope, PROCESSING, request)
        return {"ProcessingJobSummaries": found, **more}

    def list_training_jobs(self, call: Call, request: Request) -> Response:
        for name in ("WarmPoolStatusEquals", "TrainingPlanArnEquals"):
            if name in request:
                raise validation_error(f"{name} is not supported by local_aws, which has none of these.")
        found, more = self.page(call.scope, TRAINING, request)
        return {"TrainingJobSummaries": found, **more}

    def page(self, scope: Scope, kind: Kind, request: Request) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """What matches the filters, in the order asked for (default: by CreationTime, Ascending, as documented)."""
        name, status = kind.member("JobName"), kind.member("JobStatus")
        found = [
            document
            for document in self._tables[kind].values(scope)
            if request.get("NameContains", "").lower() in document[name].lower()
            and request.get("StatusEquals", document[status]) == document[status]
            and all(
                float(request.get(f"{time_}After", -math.inf)) < document[time_]
                and document[time_] < float(request.get(f"{time_}Before", math.inf))
                for time_ in ("CreationTime", "LastModifiedTime")
            )
        ]
        member = {"Name": name, "Status": status}.get(request.get("SortBy", ""), "CreationTime")

        def position(document: Document) -> list[Any]:
            return [document[member], document["CreationTime"], document[name]]

        found.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        found, more = page(found, request, position=position)
        return [_summary(kind, document) for document in found], more

    def stop_processing_job(self, call: Call, request: Request) -> Response:
        return self.stop(call, PROCESSING, request["ProcessingJobName"])

    def stop_training_job(self, call: Call, request: Request) -> Response:
        return self.stop(call, TRAINING, request["TrainingJobName"])

    def stop(self, call: Call, kind: Kind, name: str) -> Response:
        """Ask a job to end; it is Stopping, and Stopped when its program has gone.

        Raises:
            ServiceError: ValidationException when it has ended already.
        """
        scope, key = call.scope, name.lower()
        member = kind.member("JobStatus")
        with self._store.lock:
            status = self.get(scope, kind, key)[member]
            if status in ENDED:
                raise validation_error(
                    f"The request was rejected because the {kind.name.lower()} job is in status {status}."
                )
            active = self._active[scope, kind, key]
            active.stop_wanted = True
            if status == "InProgress":
                self._change(scope, kind, key, lambda document: _stopping(kind, document))
            if active.run is not None:
                active.run.stop()
        return {}

    # For the other parts

    def wait(self, scope: Scope, kind: str, name: str, timeout: float | None = None) -> bool:
        """Wait until a job has ended.

        Args:
            kind: "Processing", "Training" or "Transform".
            timeout: seconds, or None to wait for ever.

        Returns:
            Whether it has ended.

        Raises:
            ServiceError: ValidationException when there is no such job.
        """
        with self._store.lock:
            self.get(scope, KINDS[kind], name.lower())
            active = self._active.get((scope, KINDS[kind], name.lower()))
        return active is None or active.ended.wait(timeout)

    @property
    def busy(self) -> bool:
        return bool(self._active)

    def processes(self) -> list[Process]:
        """Those of the jobs' programs."""
        with self._store.lock:
            runs = [
                (kind, self.get(scope, kind, key)[kind.member("JobName")], active.run)
                for (scope, kind, key), active in self._active.items()
                if active.run is not None
            ]
        return [Process(kind.noun, name, pid) for kind, name, run in runs for pid in run.pids]

    def resume(self) -> None:
        """Fail what was under way when the last process ended."""
        for kind, table in self._tables.items():
            for scope, key, document in table.items():
                if document[kind.member("JobStatus")] not in ENDED:
                    failed = _ended(kind, document, Outcome("Failed", SERVER_STOPPED), Metrics())
                    failed |= {"LastModifiedTime": times.now()}
                    with self._store.lock:
                        table.put(scope, key, failed)
                        self._tell(scope, kind, failed)

    def kill(self) -> None:
        """Start no further job, and kill every job's processes."""
        with self._store.lock:
            self._stopped = True
            runs = [job.run for job in self._active.values() if job.run is not None]
        for run in runs:
            run.kill()

    def join(self) -> None:
        """Wait, after `kill`, for the threads that watch the jobs."""
        with self._store.lock:
            threads = [job.thread for job in self._active.values() if job.thread is not None]
        for thread in threads:
            thread.join()
        self._transfers.close()

    def _knows(self, scope: Scope, arn: str) -> bool:
        key = arn.rpartition("/")[2]
        return any(
            (document := table.get(scope, key)) is not None and document[kind.member("JobArn")] == arn
            for kind, table in self._tables.items()
        )


def _found(listing: Future[list[S3Object]], channel: dict[str, Any]) -> list[S3Object]:
    """A channel's objects; AWS refuses a training job with an empty channel when it is created."""
    source = s3_location(channel["DataSource"]["S3DataSource"]["S3Uri"])
    try:
        objects = listing.result()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "AccessDenied":
            fault = f"{nothing_found(source)} Error message from S3: {error.response['Error'].get('Message')}"
            raise validation_error(f"InputDataConfig {channel['ChannelName']!r}: {fault}") from error
        if code != "NoSuchBucket":
            fault = f"InputDataConfig {channel['ChannelName']!r}: {source} cannot be listed: {code}."
            raise validation_error(fault) from error
        objects = []
    if not objects:
        raise validation_error(f"InputDataConfig {channel['ChannelName']!r}: {nothing_found(source)}")
    return objects


def _described_training_job(request: Request) -> Document:
    """The request as Describe answers it, with AWS's defaults."""
    document = {key: value for key, value in request.items() if key not in ("Tags", "SessionChainingConfig")}
    for name in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        document.setdefault(name, False)
    document["StoppingCondition"] = {"MaxRuntimeInSeconds": DEFAULT_SECONDS} | document["StoppingCondition"]
    document["OutputDataConfig"] = {"KmsKeyId": "", "CompressionType": "GZIP"} | document["OutputDataConfig"]
    if "InputDataConfig" in document:
        defaults = {"CompressionType": "None", "RecordWrapperType": "None"}
        document["InputDataConfig"] = [defaults | channel for channel in document["InputDataConfig"]]
    return document


def _secondary_status(document: Document, status: str) -> Document:
    """The document with a further transition, the one before ended."""
    now = times.now()
    *before, last = document.get("SecondaryStatusTransitions", []) or [None]
    done = [*before, last | {"EndTime": now}] if last else []
    entry = {"Status": status, "StartTime": now, "StatusMessage": STATUS_MESSAGES[status]}
    if status in (*ENDED, "MaxRuntimeExceeded"):
        entry["EndTime"] = now
    return document | {"SecondaryStatus": status, "SecondaryStatusTransitions": [*done, entry]}


def _stopping(kind: Kind, document: Document) -> Document:
    document = document | {kind.member("JobStatus"): "Stopping"}
    return _secondary_status(document, "Stopping") if kind is TRAINING else document


def _ended(kind: Kind, document: Document, outcome: Outcome, metrics: Metrics) -> Document:
    """The document of a job that has ended."""
    now = times.now()
    changed = document | {kind.member("JobStatus"): outcome.status, kind.member("EndTime"): now}
    if outcome.reason:
        changed["FailureReason"] = outcome.reason
    if kind is PROCESSING:
        if outcome.message:
            changed["ExitMessage"] = outcome.message
        if outcome.out_of_time:  # there is no SecondaryStatus to say it
            seconds = document["StoppingCondition"]["MaxRuntimeInSeconds"]
            changed["FailureReason"] = f"The job ran longer than its MaxRuntimeInSeconds ({seconds}). Raise it."
    if kind is not TRAINING:
        return changed
    if metrics.last:
        changed["FinalMetricDataList"] = list(metrics.last.values())
    if "TrainingStartTime" in document:
        seconds = math.ceil(now - document["TrainingStartTime"])
        changed |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    return _secondary_status(changed, "MaxRuntimeExceeded" if outcome.out_of_time else outcome.status)


def _summary(kind: Kind, document: Document) -> dict[str, Any]:
    names = [kind.member(suffix) for suffix in ("JobName", "JobArn", "EndTime", "JobStatus")]
    names += ["CreationTime", "LastModifiedTime", "SecondaryStatus"]
    if kind is not TRAINING:
        names += ["FailureReason", "ExitMessage"]
    return {name: document[name] for name in names if name in document}
