"""Pipeline executions: one coordinating thread each, and one for each step under way; nothing polls."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.events import Events, event_time
from local_aws.loopback import Loopback
from local_aws.sagemaker.cache import KEY_ATTRIBUTES, cache_key
from local_aws.sagemaker.client_tokens import ClientTokens
from local_aws.sagemaker.definition import Definition, RetryPolicy, Step
from local_aws.sagemaker.definition_reader import parse_definition
from local_aws.sagemaker.expressions import ExpressionError, as_text, evaluate, holds
from local_aws.sagemaker.jobs import Jobs
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.roles import Authorize, RoleCall, call_as
from local_aws.sagemaker.schedule import SUCCEEDED, startable
from local_aws.sagemaker.steps import ExecutionValues, StepActions, StepFailure, job_name, random_id
from local_aws.sagemaker.tuning import Tuning
from local_aws.store import Document, Scope, Store

EXECUTING, STOPPING, STOPPED, FAILED, STARTING = "Executing", "Stopping", "Stopped", "Failed", "Starting"
ENDED = (SUCCEEDED, FAILED, STOPPED)
STEP_FAILURE = "Step failure: One or multiple steps failed."
LONGEST_REASON = 1024  # characters of a step's FailureReason
LONGEST_MESSAGE = 3072  # of a Fail step's ErrorMessage, and of an execution's FailureReason
_DESCRIBED = (
    "PipelineArn",
    "PipelineExecutionArn",
    "PipelineExecutionDisplayName",
    "PipelineExecutionStatus",
    "PipelineExecutionDescription",
    "PipelineExperimentConfig",
    "FailureReason",
    "CreationTime",
    "LastModifiedTime",
    "CreatedBy",
    "LastModifiedBy",
    "ParallelismConfiguration",
    "PipelineVersionId",
)

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """An execution that is under way.

    Attributes:
        call: whose the execution is: who started it.
        acting: as whom its steps call: the pipeline's role, or who started it while IAM is not enforced.
        document: the execution's document.
        stopping: set when no further step is to start and running ones are to stop.
        active: the steps whose threads run.
        ended: each of them says here that it has ended; None wakes the coordinator when the server stops.
    """

    call: Call
    acting: RoleCall
    definition: Definition
    document: Document
    stopping: threading.Event = field(default_factory=threading.Event)
    active: set[str] = field(default_factory=set)
    ended: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)

    @property
    def arn(self) -> str:
        return self.document["PipelineExecutionArn"]

    def steps(self, *statuses: str) -> list[Document]:
        return [step for step in self.document["Steps"].values() if step["StepStatus"] in statuses]

    def outcomes(self) -> dict[str, str]:
        """Of the steps that succeeded, as `startable` wants them."""
        return {
            step["StepName"]: step["Metadata"]["Condition"]["Outcome"]
            if "Condition" in step.get("Metadata", {})
            else SUCCEEDED
            for step in self.steps(SUCCEEDED)
        }


class Executions:
    """Starts, runs, stops and describes executions.

    An execution's document has the members of its Describe call and, beside them, PipelineName, Parameters (name to
    typed value) and Steps (name to the members of ListPipelineExecutionSteps, in the order of their start).
    """

    def __init__(
        self,
        store: Store,
        loopback: Loopback,
        jobs: Jobs,
        tuning: Tuning,
        registry: Registry,
        events: Events,
        authorize: Authorize,
    ) -> None:
        self._store = store
        self._events = events
        self._executions = store.table("pipeline-executions")
        self._versions = store.table("pipeline-versions")
        self._cached = store.table("pipeline-step-cache")
        self._tokens = ClientTokens(store)
        self._loopback = loopback
        self._actions = StepActions(loopback, jobs, tuning, registry, authorize)
        self._runs: dict[tuple[Scope, str], Run] = {}
        self._closing = threading.Event()

    def operations(self) -> dict[str, Operation]:
        return {
            "DescribePipelineExecution": self.describe_pipeline_execution,
            "ListPipelineExecutionSteps": self.list_pipeline_execution_steps,
            "ListPipelineParametersForExecution": self.list_pipeline_parameters_for_execution,
            "DescribePipelineDefinitionForExecution": self.describe_pipeline_definition_for_execution,
            "StopPipelineExecution": self.stop_pipeline_execution,
            "RetryPipelineExecution": self.retry_pipeline_execution,
        }

    @property
    def busy(self) -> bool:
        return bool(self._runs)

    def resume(self) -> None:
        """Fail the executions that were under way when the last process ended."""
        reason = "local_aws ended while this was under way; RetryPipelineExecution continues the execution."
        for scope, arn, execution in self._executions.items():
            if execution["PipelineExecutionStatus"] in (EXECUTING, STOPPING):
                now = time.time()
                for step in execution["Steps"].values():
                    if step["StepStatus"] in (STARTING, EXECUTING, STOPPING):
                        step.update(StepStatus=FAILED, EndTime=now, FailureReason=f"InternalServerError: {reason}")
                before = execution["PipelineExecutionStatus"]
                execution.update(PipelineExecutionStatus=FAILED, FailureReason=reason, LastModifiedTime=now)
                with self._store.lock:
                    self._executions.put(scope, arn, execution)
                    self._tell_execution(scope, execution, before)

    def stop(self) -> None:
        """Start nothing more. Steps under way are left as they are, for `resume` to fail them."""
        with self._store.lock:
            self._closing.set()
            runs = list(self._runs.values())
            for run in runs:
                run.stopping.set()
                run.ended.put(None)

    # For Pipelines.

    def start(self, call: Call, pipeline: Document, version: Document, request: Request) -> str:
        """Begin an execution of a version of a pipeline and return its ARN. Call it under the store's lock.

        Args:
            pipeline, version: the documents.
            request: StartPipelineExecution's.

        Raises:
            ServiceError: ValidationException, for parameters that the definition does not have or allow.
        """
        definition = parse_definition(version["PipelineDefinition"])
        try:
            parameters = definition.parameter_values(request.get("PipelineParameters", []))
        except ValueError as error:
            raise validation_error(str(error)) from error
        now = time.time()
        arn = f"{pipeline['PipelineArn']}/execution/{random_id(12)}"
        execution: Document = {
            "PipelineArn": pipeline["PipelineArn"],
            "PipelineName": pipeline["PipelineName"],
            "PipelineExecutionArn": arn,
            "PipelineExecutionDisplayName": f"execution-{int(now * 1000)}",
            "PipelineExecutionStatus": EXECUTING,
            "CreationTime": now,
            "LastModifiedTime": now,
            "CreatedBy": call.user_context,
            "LastModifiedBy": call.user_context,
            "PipelineVersionId": version["PipelineVersionId"],
            "Parameters": parameters,
            "Steps": {},
        }
        parallelism = request.get("ParallelismConfiguration", version.get("ParallelismConfiguration"))
        given = {"ParallelismConfiguration": parallelism}
        given |= {key: request.get(key) for key in ("PipelineExecutionDisplayName", "PipelineExecutionDescription")}
        execution.update({key: value for key, value in given.items() if value is not None})
        if definition.experiment:
            values = ExecutionValues(self._acting(call, version), definition, execution, self._actions)
            execution["PipelineExperimentConfig"] = evaluate(definition.experiment, values)
        self._executions.put(call.scope, arn, execution)
        run = Run(call, self._acting(call, version), definition, execution)
        self._tell_execution(call.scope, execution, None)
        self._begin(run)
        return arn

    def of_pipeline(self, scope: Scope, pipeline_name: str) -> list[Document]:
        """The executions of a pipeline, oldest first."""
        return [item for item in self._executions.values(scope) if item["PipelineName"] == pipeline_name]

    def forget(self, scope: Scope, pipeline_name: str) -> None:
        """The pipeline is deleted, and with it its executions and what could be reused of them."""
        for execution in self.of_pipeline(scope, pipeline_name):
            self._executions.delete(scope, execution["PipelineExecutionArn"])
        for record in self._cached.values(scope):
            if record["PipelineName"] == pipeline_name:
                self._cached.delete(scope, record["Key"])

    # Operations.

    def describe_pipeline_execution(self, call: Call, request: Request) -> Response:
        execution = self._require(call, request["PipelineExecutionArn"])
        with self._store.lock:
            return {key: execution[key] for key in _DESCRIBED if key in execution}

    def list_pipeline_execution_steps(self, call: Call, request: Request) -> Response:
        """The steps that were started, the latest first unless SortOrder says otherwise."""
        if "PipelineExecutionArn" not in request:
            raise validation_error("PipelineExecutionArn is required: name the execution whose steps to list.")
        execution = self._require(call, request["PipelineExecutionArn"])
        with self._store.lock:
            steps = [dict(step) for step in execution["Steps"].values()]
        if request.get("SortOrder", "Descending") == "Descending":
            steps.reverse()
        found, more = page(steps, request)
        return {"PipelineExecutionSteps": found, **more}

    def list_pipeline_parameters_for_execution(self, call: Call, request: Request) -> Response:
        """The values in force, defaults included, in the definition's order."""
        execution = self._require(call, request["PipelineExecutionArn"])
        items = [{"Name": name, "Value": as_text(value)} for name, value in execution["Parameters"].items()]
        found, more = page(items, request)
        return {"PipelineParameters": found, **more}

    def describe_pipeline_definition_for_execution(self, call: Call, request: Request) -> Response:
        version = self._version(call.scope, self._require(call, request["PipelineExecutionArn"]))
        return {"PipelineDefinition": version["PipelineDefinition"], "CreationTime": version["CreationTime"]}

    def stop_pipeline_execution(self, call: Call, request: Request) -> Response:
        """Start no further step and stop the running jobs; the execution is Stopped when they have ended."""
        arn = request["PipelineExecutionArn"]
        jobs: list[tuple[Call, str, str]] = []

        def stop() -> Response:
            execution = self._require(call, arn)
            if execution["PipelineExecutionStatus"] != EXECUTING:
                raise ServiceError(
                    "ConflictException",
                    f"Pipeline execution {arn} is {execution['PipelineExecutionStatus']}:"
                    " only an execution that is Executing can be stopped.",
                )
            run = self._runs[call.scope, arn]
            run.stopping.set()
            self._change(run, PipelineExecutionStatus=STOPPING, LastModifiedBy=call.user_context)
            for step in run.steps(STARTING, EXECUTING):
                self._change_step(run, step["StepName"], StepStatus=STOPPING)
                if job := _job_of(step):
                    jobs.append((run.acting, run.definition.steps[step["StepName"]].type, job))
            return {"PipelineExecutionArn": arn}

        response = self._tokens.once(call, "StopPipelineExecution", request, stop)
        for acting, step_type, job in jobs:
            self._actions.stop_job(acting, step_type, job)
        return response

    def retry_pipeline_execution(self, call: Call, request: Request) -> Response:
        """Continue a failed or stopped execution: what succeeded is kept, everything else runs again."""
        arn = request["PipelineExecutionArn"]

        def retry() -> Response:
            execution = self._require(call, arn)
            if execution["PipelineExecutionStatus"] not in (FAILED, STOPPED):
                raise ServiceError(
                    "ConflictException",
                    f"Pipeline execution {arn} is {execution['PipelineExecutionStatus']}:"
                    " only an execution that is Failed or Stopped can be retried.",
                )
            version = self._version(call.scope, execution)
            run = Run(call, self._acting(call, version), parse_definition(version["PipelineDefinition"]), execution)
            kept = {step["StepName"]: step for step in run.steps(SUCCEEDED)}
            execution.pop("FailureReason", None)
            changes: dict[str, Any] = {"Steps": kept, "LastModifiedBy": call.user_context}
            if parallelism := request.get("ParallelismConfiguration"):
                changes["ParallelismConfiguration"] = parallelism
            self._change(run, PipelineExecutionStatus=EXECUTING, **changes)
            self._begin(run)
            return {"PipelineExecutionArn": arn}

        return self._tokens.once(call, "RetryPipelineExecution", request, retry)

    def _require(self, call: Call, arn: str) -> Document:
        execution = self._executions.get(call.scope, arn)
        if execution is None:
            raise ServiceError(
                "ResourceNotFound", f"Pipeline execution '{arn}' does not exist in this account and Region."
            )
        return execution

    def _version(self, scope: Scope, execution: Document) -> Document:
        version = self._versions.get(scope, f"{execution['PipelineName']}/{execution['PipelineVersionId']}")
        assert version is not None  # a pipeline's versions and executions are deleted together
        return version

    def _acting(self, call: Call, version: Document) -> RoleCall:
        return call_as(self._loopback, call, version["RoleArn"])

    # Running. Documents are changed under the store's lock and only through _change and _change_step.

    def _begin(self, run: Run) -> None:
        self._runs[run.call.scope, run.arn] = run
        threading.Thread(target=self._coordinate, args=(run,), name=f"execution {run.arn}", daemon=True).start()

    def _coordinate(self, run: Run) -> None:
        limit = run.document.get("ParallelismConfiguration", {}).get("MaxParallelExecutionSteps")
        while not self._closing.is_set():
            with self._store.lock:
                if not run.stopping.is_set() and not run.steps(FAILED):
                    for name in startable(run.definition, run.outcomes(), run.document["Steps"]):
                        if limit is None or len(run.active) < limit:
                            self._start_step(run, run.definition.steps[name])
                if not run.active:
                    self._finish(run)
                    return
            ended = run.ended.get()
            if ended is not None:
                run.active.discard(ended)

    def _finish(self, run: Run) -> None:
        failed = run.steps(FAILED)
        messages = [step["Metadata"]["Fail"]["ErrorMessage"] for step in failed if "Fail" in step.get("Metadata", {})]
        if run.document["PipelineExecutionStatus"] == STOPPING:
            self._change(run, PipelineExecutionStatus=STOPPED)
        elif failed:
            self._change(run, PipelineExecutionStatus=FAILED, FailureReason=messages[0] if messages else STEP_FAILURE)
        else:
            self._change(run, PipelineExecutionStatus=SUCCEEDED)
        del self._runs[run.call.scope, run.arn]

    def _start_step(self, run: Run, step: Step) -> None:
        shown = {"StepDisplayName": step.display_name, "StepDescription": step.description}
        record = {"StepName": step.name} | {key: value for key, value in shown.items() if value is not None}
        run.document["Steps"][step.name] = record
        self._change_step(run, step.name, StepStatus=STARTING, StartTime=time.time(), AttemptCount=1)
        run.active.add(step.name)
        threading.Thread(target=self._run_step, args=(run, step), name=f"step {step.name}", daemon=True).start()

    def _run_step(self, run: Run, step: Step) -> None:
        try:
            self._attempt_until_done(run, step)
        except Exception:
            reference = uuid.uuid4().hex[:8]
            logger.exception("step %s of %s failed (reference %s)", step.name, run.arn, reference)
            reason = f"InternalServerError: local_aws failed in this step; its log has the reason ({reference})."
            self._end_step(run, step, FAILED, FailureReason=reason)
        finally:
            run.ended.put(step.name)

    def _attempt_until_done(self, run: Run, step: Step) -> None:
        started = time.monotonic()
        retries: dict[RetryPolicy, int] = {}
        while True:
            try:
                self._attempt(run, step)
                return
            except StepFailure as failure:
                policy = next((each for each in step.retry_policies if failure.exception_type in each.exceptions), None)
                done = retries.get(policy, 0) if policy else 0
                delay = policy.delay(done, time.monotonic() - started) if policy else None
                if policy is None or delay is None:
                    self._end_step(run, step, FAILED, FailureReason=failure.reason[:LONGEST_REASON])
                    return
                retries[policy] = done + 1
            if run.stopping.wait(delay):
                self._end_step(run, step, STOPPED)
                return
            self._change_step(run, step.name, AttemptCount=1 + sum(retries.values()))

    def _attempt(self, run: Run, step: Step) -> None:
        try:
            if run.stopping.is_set():
                self._end_step(run, step, STOPPED)
            elif step.type in KEY_ATTRIBUTES:
                self._attempt_job(run, step)
            else:
                self._attempt_at_once(run, step)
        except ExpressionError as error:
            raise StepFailure(f"ClientError: {error}") from error

    def _attempt_at_once(self, run: Run, step: Step) -> None:
        self._change_step(run, step.name, StepStatus=EXECUTING)
        values = ExecutionValues(run.acting, run.definition, run.document, self._actions)
        if step.type == "Condition":
            outcome = all(holds(condition, values) for condition in step.arguments["Conditions"])
            self._end_step(run, step, SUCCEEDED, Metadata={"Condition": {"Outcome": str(outcome)}})
            return
        arguments = self._actions.arguments(step, values)
        if step.type == "Fail":
            message = as_text(arguments.get("ErrorMessage", ""))
            metadata = {"Fail": {"ErrorMessage": message[:LONGEST_MESSAGE]}}
            self._end_step(run, step, FAILED, Metadata=metadata, FailureReason=message[:LONGEST_REASON])
        else:
            with self._store.lock:  # a stop comes before both or after both: nothing is registered that no step tells
                if run.stopping.is_set():
                    self._end_step(run, step, STOPPED)
                    return
                arn = self._actions.register_model(run.acting, step, arguments, run.arn)
                self._end_step(run, step, SUCCEEDED, Metadata={"RegisterModel": {"Arn": arn}})

    def _attempt_job(self, run: Run, step: Step) -> None:
        name = job_name(step.type, run.arn.rpartition("/")[2], step.name)
        arguments = self._actions.arguments(
            step, ExecutionValues(run.acting, run.definition, run.document, self._actions, name)
        )
        record_key = f"{run.document['PipelineName']}/{step.name}/{step.type}/{cache_key(step.type, arguments)}"
        record = self._cached.get(run.call.scope, record_key)
        if record is not None and step.expire_after is not None and _age(record) < step.expire_after.total_seconds():
            hit = {"SourcePipelineExecutionArn": record["PipelineExecutionArn"]}
            self._end_step(run, step, SUCCEEDED, Metadata=record["Metadata"], CacheHitResult=hit)
            return
        arn = self._actions.create_job(run.acting, step, name, arguments)
        metadata = {f"{step.type}Job": {"Arn": arn}}
        with self._store.lock:
            stopping = run.stopping.is_set()
            self._change_step(run, step.name, StepStatus=STOPPING if stopping else EXECUTING, Metadata=metadata)
        if stopping:  # StopPipelineExecution came while the job was being created and could not know of it
            self._actions.stop_job(run.acting, step.type, name)
        if self._actions.wait_for_job(run.acting, step, name):
            record = {
                "Key": record_key,
                "PipelineName": run.document["PipelineName"],
                "PipelineExecutionArn": run.arn,
                "Metadata": metadata,
                "EndTime": time.time(),
            }
            self._end_step(run, step, SUCCEEDED)
            self._cached.put(run.call.scope, record_key, record)
        elif run.stopping.is_set():
            self._end_step(run, step, STOPPED)
        else:
            raise StepFailure(f"ClientError: {step.type} job {name} was stopped.")

    def _end_step(self, run: Run, step: Step, status: str, **changes: Any) -> None:
        self._change_step(run, step.name, StepStatus=status, EndTime=time.time(), **changes)

    def _change_step(self, run: Run, name: str, **changes: Any) -> None:
        with self._store.lock:
            if not self._closing.is_set():
                step = run.document["Steps"][name]
                before = step.get("StepStatus")
                step.update(changes)
                self._change(run)
                if step["StepStatus"] != before:
                    self._tell_step(run, step, before)

    def _change(self, run: Run, **changes: Any) -> None:
        with self._store.lock:
            if not self._closing.is_set():
                before = run.document["PipelineExecutionStatus"]
                run.document.update(changes, LastModifiedTime=time.time())
                self._executions.put(run.call.scope, run.arn, run.document)
                if run.document["PipelineExecutionStatus"] != before:
                    self._tell_execution(run.call.scope, run.document, before)

    # Events: https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html

    def _tell_execution(self, scope: Scope, execution: Document, before: str | None) -> None:
        status = execution["PipelineExecutionStatus"]
        detail = {
            "pipelineExecutionDisplayName": execution.get("PipelineExecutionDisplayName"),
            "pipelineExecutionDescription": execution.get("PipelineExecutionDescription"),
            "currentPipelineExecutionStatus": status,
            "previousPipelineExecutionStatus": before,
            "executionStartTime": event_time(execution["CreationTime"]),
            "executionEndTime": event_time(execution["LastModifiedTime"]) if status in ENDED else None,
        }
        self._tell(scope, execution, "SageMaker Model Building Pipeline Execution Status Change", detail)

    def _tell_step(self, run: Run, step: Document, before: str | None) -> None:
        detail = {
            "stepName": step["StepName"],
            "stepType": run.definition.steps[step["StepName"]].type,
            "currentStepStatus": step["StepStatus"],
            "previousStepStatus": before,
            "stepStartTime": event_time(step["StartTime"]),
            "stepEndTime": event_time(step["EndTime"]) if "EndTime" in step else None,
            "metadata": lower_camel_case(step.get("Metadata", {})),
            "cacheHitResult": lower_camel_case(step["CacheHitResult"]) if "CacheHitResult" in step else None,
            "failureReason": step.get("FailureReason"),
        }
        execution_step = "SageMaker Model Building Pipeline Execution Step Status Change"
        self._tell(run.call.scope, run.document, execution_step, detail)

    def _tell(self, scope: Scope, execution: Document, detail_type: str, detail: dict[str, Any]) -> None:
        arns = {name[0].lower() + name[1:]: execution[name] for name in ("PipelineArn", "PipelineExecutionArn")}
        known = {name: value for name, value in detail.items() if value is not None}
        self._events.emit(scope, detail_type, list(arns.values()), known | arns)


def _job_of(step: Document) -> str | None:
    """The name of a step's job, once it has one."""
    for kind in KEY_ATTRIBUTES:
        if job := step.get("Metadata", {}).get(f"{kind}Job"):
            return job["Arn"].rpartition("/")[2]
    return None


def lower_camel_case(value: Any) -> Any:
    """JSON with its names as the events of pipelines have them: ProcessingJob becomes processingJob."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: lower_camel_case(item) for name, item in value.items()}
    return value


def _age(record: Document) -> float:
    """Seconds since a reusable step ended."""
    return time.time() - record["EndTime"]
