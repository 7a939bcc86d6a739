"""Hyperparameter tuning jobs: training jobs with other hyperparameters each, and the best of them.

Developer guide, "Automatic model tuning with SageMaker AI"; names, counters and messages as the API reference has them.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.loopback import Loopback
from local_aws.request_checks import check_request, service_model
from local_aws.sagemaker import times
from local_aws.sagemaker.job_checks import refuse
from local_aws.sagemaker.jobs import Jobs
from local_aws.sagemaker.roles import Authorize, call_as
from local_aws.sagemaker.tags import Tags
from local_aws.sagemaker.tuning_search import Point, Range, grid_size, hyperparameters, propose, read_ranges
from local_aws.store import Document, Scope, Store

OBJECTIVE_VARIABLE = "_tuning_objective_metric"
ENDED = ("Completed", "Failed", "Stopped")
MOST_WITHOUT_OBJECTIVE = 5  # training jobs; AWS gives up after as many
MOST_RANKED = 50  # training jobs that a Tuning step's properties list
SERVER_STOPPED = "InternalServerError: local_aws was stopped while the tuning job was under way. Start it again."
NO_OBJECTIVE = (
    "No objective metrics found after running {} training jobs. Please ensure that the custom algorithm is emitting"
    " the objective metric as defined by the regular expression provided."
)

logger = logging.getLogger(__name__)


@dataclass
class _Active:
    """A tuning job under way.

    Args:
        lock: held while the next training job is chosen and created.
        tried: the point of each training job started, in their order.
        scores: of those that ended with an objective; the greater the better.
        without_objective: how many ended without one.
        fault: why the tuning job fails.
        stop_wanted: no further training job is to start.
        ended: set when the tuning job has ended.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    tried: list[Point] = field(default_factory=list)
    scores: list[tuple[Point, float]] = field(default_factory=list)
    without_objective: int = 0
    fault: str | None = None
    stop_wanted: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Tuning:
    """Hyperparameter tuning jobs.

    A job's document has the members of its request and of its Describe call and, beside them, TrainingJobs: of each
    training job its TrainingJobName and TunedHyperParameters, in the order of their start.
    """

    def __init__(self, store: Store, tags: Tags, jobs: Jobs, loopback: Loopback, authorize: Authorize) -> None:
        self._store, self._tags, self._jobs = store, tags, jobs
        self._loopback, self._authorize = loopback, authorize
        self._table = store.table("hyper-parameter-tuning-job")
        self._active: dict[tuple[Scope, str], _Active] = {}
        self._closing = False
        tags.know(self._knows)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateHyperParameterTuningJob": self.create_tuning_job,
            "DescribeHyperParameterTuningJob": self.describe_tuning_job,
            "ListHyperParameterTuningJobs": self.list_tuning_jobs,
            "StopHyperParameterTuningJob": self.stop_tuning_job,
            "ListTrainingJobsForHyperParameterTuningJob": self.list_training_jobs,
        }

    # Create

    def create_tuning_job(self, call: Call, request: Request) -> Response:
        """Start a tuning job.

        Raises:
            ServiceError: ValidationException for what cannot run, of its training jobs included; ResourceInUse when the
                name is taken.
        """
        _check(request)
        ranges = _ranges(request)
        middle = hyperparameters(ranges, tuple(0.0 if each.values else 0.5 for each in ranges))
        name = request["HyperParameterTuningJobName"]
        trial = _training_request(request, f"{name}-001-00000000", middle)
        check_request(service_model("sagemaker").operation_model("CreateTrainingJob"), trial)
        self._jobs.check_training_job(call, trial)
        arn = call.arn(f"hyper-parameter-tuning-job/{name.lower()}")
        now = times.now()
        document = {key: value for key, value in request.items() if key != "Tags"} | {
            "HyperParameterTuningJobArn": arn,
            "HyperParameterTuningJobStatus": "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
            "TrainingJobs": [],
        }
        active = _Active()
        with self._store.lock:
            if self._table.get(call.scope, name.lower()) is not None:
                raise ServiceError(
                    "ResourceInUse",
                    "Hyperparameter tuning job names must be unique within an AWS account and region, and a job with"
                    f" this name already exists ({arn}).",
                )
            if self._closing:
                raise ServiceError("InternalFailure", "local_aws is going down and starts no job any more.", 500)
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._table.put(call.scope, name.lower(), document)
            self._active[call.scope, name.lower()] = active
        active.thread = threading.Thread(
            target=self._run, args=(call, request, ranges, active), name=f"tuning {name}", daemon=True
        )
        active.thread.start()
        return {"HyperParameterTuningJobArn": arn}

    # Run

    def _run(self, call: Call, request: Request, ranges: list[Range], active: _Active) -> None:
        """In a thread of its own: from InProgress to its end."""
        config = request["HyperParameterTuningJobConfig"]
        limits = config["ResourceLimits"]
        # More at once than the machine has cores would only make each slower.
        parallel = min(limits["MaxParallelTrainingJobs"], _total(config, ranges), os.cpu_count() or 1)
        seed = config.get("RandomSeed", secrets.randbits(32))
        arguments = (call, request, ranges, seed, active)
        workers = [threading.Thread(target=self._work, args=arguments, daemon=True) for _ in range(parallel)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self._end(call, request["HyperParameterTuningJobName"].lower(), active)

    def _work(self, call: Call, request: Request, ranges: list[Range], seed: int, active: _Active) -> None:
        """Run one training job after the other, until there are enough."""
        try:
            while (started := self._start_next(call, request, ranges, seed, active)) is not None:
                name, point = started
                if active.stop_wanted.is_set():
                    self._stop_training_job(call, name)
                self._jobs.wait(call.scope, "Training", name)
                self._observe(call, request, name, point, active)
        except ServiceError as error:
            self._give_up(call, request, active, f"ClientError: {error.message}")
        except Exception:
            reference = uuid.uuid4().hex[:8]
            logger.exception("a tuning job failed unforeseen (reference %s)", reference)
            reason = f"InternalServerError: local_aws failed; its log has the reason ({reference})."
            self._give_up(call, request, active, reason)

    def _start_next(
        self, call: Call, request: Request, ranges: list[Range], seed: int, active: _Active
    ) -> tuple[str, Point] | None:
        """Create the next training job: its name and its point, or None when there is to be no further one."""
        config, key = request["HyperParameterTuningJobConfig"], request["HyperParameterTuningJobName"].lower()
        with active.lock:
            number = len(active.tried) + 1
            if active.stop_wanted.is_set() or self._closing or number > _total(config, ranges):
                return None
            point = propose(config["Strategy"], ranges, seed, active.tried, active.scores)
            tuned = hyperparameters(ranges, point)
            # AWS's names end in eight hexadecimal digits too, and do not say of what.
            digest = hashlib.sha256(f"{key}{time.time_ns()}{number}".encode()).hexdigest()[:8]
            name = f"{request['HyperParameterTuningJobName']}-{number:03}-{digest}"
            document = self._get(call.scope, key)
            training = _training_request(request, name, tuned)
            acting = call_as(self._loopback, call, training["RoleArn"])
            self._authorize(acting, "CreateTrainingJob", training)
            self._jobs.create_training_job(acting, training, tuning_job_arn=document["HyperParameterTuningJobArn"])
            active.tried.append(point)
            started = {"TrainingJobName": name, "TunedHyperParameters": tuned}
            self._change(call.scope, key, lambda now: {"TrainingJobs": [*now["TrainingJobs"], started]})
        return name, point

    def _observe(self, call: Call, request: Request, name: str, point: Point, active: _Active) -> None:
        objective = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        value = _objective_value(self._jobs.describe_training_job(call, {"TrainingJobName": name}), objective)
        with active.lock:
            if value is not None:
                active.scores.append((point, _score(value, objective)))
                return
            active.without_objective += 1
            count = active.without_objective
        if count >= MOST_WITHOUT_OBJECTIVE and not active.scores and not active.stop_wanted.is_set():
            self._give_up(call, request, active, NO_OBJECTIVE.format(count))

    def _give_up(self, call: Call, request: Request, active: _Active, fault: str) -> None:
        """Fail the tuning job: start nothing more and stop what runs."""
        with active.lock:
            active.fault = active.fault or fault
        self._stop_all(call, request["HyperParameterTuningJobName"].lower(), active)

    def _stop_all(self, call: Call, key: str, active: _Active) -> None:
        active.stop_wanted.set()
        for job in self._get(call.scope, key)["TrainingJobs"]:
            self._stop_training_job(call, job["TrainingJobName"])

    def _stop_training_job(self, call: Call, name: str) -> None:
        try:
            self._jobs.stop_training_job(call, {"TrainingJobName": name})
        except ServiceError as error:
            if error.code != "ValidationException":  # it has ended by itself, which is as good
                raise

    def _end(self, call: Call, key: str, active: _Active) -> None:
        with self._store.lock:
            try:
                if not self._closing:  # otherwise `resume` fails it, after the restart
                    self._change(call.scope, key, lambda document: self._ending(call, document, active))
            finally:  # also when the end cannot be written down: whoever waits must hear of it
                del self._active[call.scope, key]
                active.ended.set()

    def _ending(self, call: Call, document: Document, active: _Active) -> Document:
        """What changes of a tuning job's document when it has ended."""
        ending = {"HyperParameterTuningEndTime": times.now()}
        fault = active.fault
        if fault is None and document["HyperParameterTuningJobStatus"] == "Stopping":
            return ending | {"HyperParameterTuningJobStatus": "Stopped"}
        if fault is None and not active.scores:
            reasons = [job.get("FailureReason") for job in self._summaries(call, document)]
            last = next((f" The last one failed: {reason}" for reason in reversed(reasons) if reason), "")
            fault = NO_OBJECTIVE.format(len(active.tried)) + last
        if fault is not None:
            return ending | {"HyperParameterTuningJobStatus": "Failed", "FailureReason": fault[:1024]}
        return ending | {"HyperParameterTuningJobStatus": "Completed"}

    def _change(self, scope: Scope, key: str, change: Callable[[Document], Document]) -> None:
        """Put a changed copy in the document's place: whoever reads the old one reads it whole."""
        with self._store.lock:
            document = self._get(scope, key)
            self._table.put(scope, key, document | change(document) | {"LastModifiedTime": times.now()})

    # Describe, list, stop

    def describe_tuning_job(self, call: Call, request: Request) -> Response:
        document = self._get(call.scope, request["HyperParameterTuningJobName"].lower())
        summaries = self._summaries(call, document)
        answer = {key: value for key, value in document.items() if key != "TrainingJobs"} | _counters(summaries)
        if best := _ranked(summaries)[:1]:
            answer["BestTrainingJob"] = best[0]
        return answer

    def ranked_training_jobs(self, call: Call, name: str) -> list[dict[str, Any]]:
        """The summaries of the training jobs that have an objective, the best first."""
        return _ranked(self._summaries(call, self._get(call.scope, name.lower())))[:MOST_RANKED]

    def _summaries(self, call: Call, document: Document) -> list[dict[str, Any]]:
        objective = document["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        summaries = []
        for started in document["TrainingJobs"]:
            job = self._jobs.describe_training_job(call, {"TrainingJobName": started["TrainingJobName"]})
            summaries.append(_summary(job, started, objective))
        return summaries

    def _get(self, scope: Scope, key: str) -> Document:
        document = self._table.get(scope, key)
        if document is None:
            raise ServiceError(
                "ResourceNotFound", f"Requested resource not found: no hyperparameter tuning job {key!r} here."
            )
        return document

    def list_tuning_jobs(self, call: Call, request: Request) -> Response:
        """What matches the filters, in the order asked for (default: by Name, Ascending, as documented)."""
        found = [
            document
            for document in self._table.values(call.scope)
            if request.get("NameContains", "").lower() in document["HyperParameterTuningJobName"].lower()
            and request.get("StatusEquals", document["HyperParameterTuningJobStatus"])
            == document["HyperParameterTuningJobStatus"]
            and all(
                float(request.get(f"{time_}After", -math.inf)) < document[time_]
                and document[time_] < float(request.get(f"{time_}Before", math.inf))
                for time_ in ("CreationTime", "LastModifiedTime")
            )
        ]
        members = {"Status": "HyperParameterTuningJobStatus", "CreationTime": "CreationTime"}
        member = members.get(request.get("SortBy", ""), "HyperParameterTuningJobName")

        def position(document: Document) -> list[Any]:
            return [document[member], document["CreationTime"], document["HyperParameterTuningJobName"]]

        found.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        found, more = page(found, request, position=position)
        return {"HyperParameterTuningJobSummaries": [self._job_summary(call, each) for each in found], **more}

    def _job_summary(self, call: Call, document: Document) -> dict[str, Any]:
        names = [f"HyperParameterTuning{suffix}" for suffix in ("JobName", "JobArn", "JobStatus", "EndTime")]
        summary = {key: document[key] for key in (*names, "CreationTime", "LastModifiedTime") if key in document}
        config = document["HyperParameterTuningJobConfig"]
        summary |= {"Strategy": config["Strategy"], "ResourceLimits": config["ResourceLimits"]}
        return summary | _counters(self._summaries(call, document))

    def list_training_jobs(self, call: Call, request: Request) -> Response:
        """A tuning job's training jobs (default: by Name, Ascending, as documented).

        By FinalObjectiveMetricValue only those are listed that have one.
        """
        document = self._get(call.scope, request["HyperParameterTuningJobName"].lower())
        by = request.get("SortBy", "Name")
        found = [
            job
            for job in self._summaries(call, document)
            if request.get("StatusEquals", job["TrainingJobStatus"]) == job["TrainingJobStatus"]
            and (by != "FinalObjectiveMetricValue" or _value(job) is not None)
        ]

        def position(job: dict[str, Any]) -> list[Any]:
            first = {
                "CreationTime": job["CreationTime"],
                "Status": job["TrainingJobStatus"],
                "FinalObjectiveMetricValue": _value(job),
            }
            return [*([first[by]] if by in first else []), job["TrainingJobName"]]

        found.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        found, more = page(found, request, position=position)
        return {"TrainingJobSummaries": found, **more}

    def stop_tuning_job(self, call: Call, request: Request) -> Response:
        """Start no further training job and stop the running ones.

        Raises:
            ServiceError: ValidationException when the tuning job has ended already.
        """
        key = request["HyperParameterTuningJobName"].lower()
        with self._store.lock:
            status = self._get(call.scope, key)["HyperParameterTuningJobStatus"]
            if status in ENDED:
                raise validation_error(
                    f"The request was rejected because the hyperparameter tuning job is in status {status}."
                )
            active = self._active[call.scope, key]
            self._change(call.scope, key, lambda document: {"HyperParameterTuningJobStatus": "Stopping"})
        self._stop_all(call, key, active)
        return {}

    # For the other parts

    def wait_for_tuning_job(self, scope: Scope, name: str) -> None:
        """Wait until a tuning job has ended."""
        with self._store.lock:
            self._get(scope, name.lower())
            active = self._active.get((scope, name.lower()))
        if active is not None:
            active.ended.wait()

    @property
    def busy(self) -> bool:
        return bool(self._active)

    def resume(self) -> None:
        """Fail what was under way when the last process ended."""
        for scope, key, document in self._table.items():
            if document["HyperParameterTuningJobStatus"] not in ENDED:
                self._table.put(
                    scope,
                    key,
                    document
                    | {"HyperParameterTuningJobStatus": "Failed", "FailureReason": SERVER_STOPPED}
                    | {"HyperParameterTuningEndTime": times.now(), "LastModifiedTime": times.now()},
                )

    def kill(self) -> None:
        """Start no further training job. Those under way are for `Jobs` to kill."""
        with self._store.lock:
            self._closing = True

    def join(self) -> None:
        """Wait, after `kill` and after the training jobs were killed, for the threads that watch them."""
        with self._store.lock:
            threads = [job.thread for job in self._active.values() if job.thread is not None]
        for thread in threads:
            thread.join()

    def _knows(self, scope: Scope, arn: str) -> bool:
        document = self._table.get(scope, arn.rpartition("/")[2])
        return document is not None and document["HyperParameterTuningJobArn"] == arn


def _check(request: Request) -> None:
    """What CreateHyperParameterTuningJob refuses of itself; what its training jobs may not be is theirs to say."""
    config = request["HyperParameterTuningJobConfig"]
    refuse("CreateHyperParameterTuningJob", request, "TrainingJobDefinitions", "WarmStartConfig", "Autotune")
    refuse("HyperParameterTuningJobConfig", config, "StrategyConfig", "TuningJobCompletionCriteria")
    refuse("ResourceLimits", config["ResourceLimits"], "MaxRuntimeInSeconds")
    if config["Strategy"] == "Hyperband":
        raise validation_error("Strategy Hyperband is not supported by local_aws; Bayesian, Random and Grid are.")
    if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        raise validation_error("TrainingJobEarlyStoppingType Auto is not supported by local_aws; Off is.")
    if "TrainingJobDefinition" not in request:
        raise validation_error("TrainingJobDefinition is missing.")
    definition = request["TrainingJobDefinition"]
    refuse(
        "TrainingJobDefinition",
        definition,
        "DefinitionName",
        "TuningObjective",
        "HyperParameterRanges",
        "HyperParameterTuningResourceConfig",
        "RetryStrategy",
    )
    refuse("ParameterRanges", config.get("ParameterRanges", {}), "AutoParameters")
    if "HyperParameterTuningJobObjective" not in config:
        raise validation_error("HyperParameterTuningJobConfig.HyperParameterTuningJobObjective is missing.")
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    metrics = [item["Name"] for item in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if metric not in metrics:
        raise validation_error(
            f"The objective metric {metric!r} is not among the MetricDefinitions of the AlgorithmSpecification"
            f" ({', '.join(metrics) or 'none'}). Add a definition, whose expression finds it in the job's log."
        )


def _ranges(request: Request) -> list[Range]:
    """The ranges to search, checked together with the strategy and the static hyperparameters."""
    config = request["HyperParameterTuningJobConfig"]
    try:
        ranges = read_ranges(config.get("ParameterRanges", {}))
    except ValueError as error:
        raise validation_error(str(error)) from error
    static = request["TrainingJobDefinition"].get("StaticHyperParameters", {})
    if both := sorted({each.name for each in ranges} & set(static)):
        raise validation_error(f"{', '.join(both)} is in StaticHyperParameters and in ParameterRanges; give it once.")
    wanted = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if config["Strategy"] == "Grid":
        if numbers := [each.name for each in ranges if not each.values]:
            raise validation_error(
                f"Strategy Grid takes CategoricalParameterRanges only; {', '.join(numbers)} is a range of numbers."
            )
        if wanted is not None and wanted != grid_size(ranges):
            raise validation_error(
                f"Strategy Grid: MaxNumberOfTrainingJobs is {wanted}, and there are {grid_size(ranges)} combinations."
                " Give their number, or leave it out."
            )
    elif wanted is None:
        raise validation_error(f"ResourceLimits.MaxNumberOfTrainingJobs is missing; {config['Strategy']} needs it.")
    return ranges


def _total(config: dict[str, Any], ranges: list[Range]) -> int:
    """How many training jobs there are to be."""
    return grid_size(ranges) if config["Strategy"] == "Grid" else config["ResourceLimits"]["MaxNumberOfTrainingJobs"]


def _training_request(request: Request, name: str, tuned: dict[str, str]) -> Request:
    """CreateTrainingJob's request for one of the training jobs."""
    definition = request["TrainingJobDefinition"]
    objective = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    static = definition.get("StaticHyperParameters", {})
    training = {key: value for key, value in definition.items() if key != "StaticHyperParameters"} | {
        "TrainingJobName": name,
        "HyperParameters": {OBJECTIVE_VARIABLE: objective["MetricName"]} | static | tuned,
    }
    return training | ({"Tags": request["Tags"]} if "Tags" in request else {})


def _summary(job: Document, started: dict[str, Any], objective: dict[str, str]) -> dict[str, Any]:
    """A HyperParameterTrainingJobSummary."""
    names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime", "TrainingEndTime")
    summary = {name: job[name] for name in (*names, "TrainingJobStatus", "FailureReason") if name in job}
    summary["TunedHyperParameters"] = started["TunedHyperParameters"]
    value = _objective_value(job, objective)
    if value is not None:
        summary["FinalHyperParameterTuningJobObjectiveMetric"] = {**objective, "Value": value}
        summary["ObjectiveStatus"] = "Succeeded"
    else:
        summary["ObjectiveStatus"] = "Failed" if job["TrainingJobStatus"] in ENDED else "Pending"
    return summary


def _objective_value(job: Document, objective: dict[str, str]) -> float | None:
    """The last value of the objective that a training job printed; None while it runs, when it failed or printed none.

    A value that is no number cannot be compared, and counts as none.
    """
    if job["TrainingJobStatus"] not in ("Completed", "Stopped"):
        return None
    values = {item["MetricName"]: item["Value"] for item in job.get("FinalMetricDataList", [])}
    value = values.get(objective["MetricName"])
    return value if value is not None and math.isfinite(value) else None


def _value(summary: dict[str, Any]) -> float | None:
    return summary.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")


def _score(value: float, objective: dict[str, str]) -> float:
    return value if objective["Type"] == "Maximize" else -value


def _ranked(summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with an objective, the best first, of equals the earlier first."""
    metric = "FinalHyperParameterTuningJobObjectiveMetric"
    found = [job for job in summaries if metric in job]
    return sorted(found, key=lambda job: -_score(job[metric]["Value"], job[metric]))


def _counters(summaries: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """TrainingJobStatusCounters and ObjectiveStatusCounters."""
    statuses = [job["TrainingJobStatus"] for job in summaries]
    objectives = [job["ObjectiveStatus"] for job in summaries]
    return {
        "TrainingJobStatusCounters": {
            "Completed": statuses.count("Completed"),
            "InProgress": statuses.count("InProgress") + statuses.count("Stopping"),
            "RetryableError": 0,
            "NonRetryableError": statuses.count("Failed"),
            "Stopped": statuses.count("Stopped"),
        },
        "ObjectiveStatusCounters": {name: objectives.count(name) for name in ("Succeeded", "Pending", "Failed")},
    }
