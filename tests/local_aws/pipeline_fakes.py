"""Pipelines in this process: the real parts, but jobs that do as they are told, and S3 and IAM in a dict."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

from botocore.exceptions import ClientError

from local_aws.calls import Call, ServiceError
from local_aws.events import Events
from local_aws.request_checks import check_request, service_model
from local_aws.sagemaker.executions import Executions
from local_aws.sagemaker.pipelines import Pipelines
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.store import Scope, Store
from tests.local_aws.waiting import wait_for

SCOPE = Scope("123456789012", "eu-central-1")
CALL = Call(SCOPE, "123456789012")
ROLE = "arn:aws:iam::123456789012:role/pipeline"
TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}}]}
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
MEMBERS = {
    "Processing": ("ProcessingJobName", "ProcessingJobArn", "ProcessingJobStatus", "processing-job"),
    "Training": ("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "training-job"),
    "Tuning": (
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobArn",
        "HyperParameterTuningJobStatus",
        "hyper-parameter-tuning-job",
    ),
}


class FakeJobs:
    """Jobs by the interface that executions use. A job completes at once unless its step's script says otherwise.

    Attributes:
        script: step name to what its jobs do, one after the other: "Completed", "Stopped", a FailureReason, a
            ServiceError that its Create call raises, or a threading.Event to wait for before it completes.
        requests: every Create request that was accepted, in order.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = defaultdict(list)
        self.requests: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, threading.Event] = {}
        self.lock = threading.Lock()
        self.most_at_once = 0
        for kind in MEMBERS:
            for verb in ("create", "describe", "stop"):
                setattr(self, f"{verb}_{kind.lower()}_job", self._operation(verb, kind))

    def _operation(self, verb: str, kind: str) -> Callable[[Call, dict[str, Any]], dict[str, Any]]:
        return lambda call, request: getattr(self, verb)(call, kind, request)

    def create(self, call: Call, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name_member, arn_member, status_member, resource = MEMBERS[kind]
        name = request[name_member]
        step = _step_of(name)
        with self.lock:
            action = self.script[step].pop(0) if self.script[step] else "Completed"
        if isinstance(action, ServiceError):
            raise action
        job = {arn_member: call.arn(f"{resource}/{name}"), status_member: "InProgress", "CreationTime": time.time()}
        if kind == "Training":
            path = request["OutputDataConfig"]["S3OutputPath"]
            job["ModelArtifacts"] = {"S3ModelArtifacts": f"{path}/{name}/output/model.tar.gz"}
            job["FinalMetricDataList"] = [{"MetricName": "validation:auc", "Value": 0.9}]
        if kind == "Tuning":
            job["BestTrainingJob"] = {"TrainingJobName": f"{name}-002-abc", "TunedHyperParameters": {"eta": "0.2"}}
        with self.lock:
            self.requests.append(request)
            self.jobs[name] = job | request
            self.ended[name] = threading.Event()
            running = [job for job in self.jobs.values() if "InProgress" in job.values()]
            self.most_at_once = max(self.most_at_once, len(running))
        if isinstance(action, threading.Event):
            threading.Thread(target=self._end_after, args=(action, kind, name), daemon=True).start()
        else:
            self.end(kind, name, action)
        return {arn_member: job[arn_member]}

    def _end_after(self, released: threading.Event, kind: str, name: str) -> None:
        released.wait()
        self.end(kind, name, "Completed")

    def end(self, kind: str, name: str, action: str) -> None:
        with self.lock:
            job, status = self.jobs[name], MEMBERS[kind][2]
            if job[status] == "InProgress":
                job[status] = action if action in ("Completed", "Stopped") else "Failed"
                if job[status] == "Failed":
                    job["FailureReason"] = action
            self.ended[name].set()

    def describe(self, call: Call, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        return self.jobs[request[MEMBERS[kind][0]]]

    def stop(self, call: Call, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        if self.ended[request[MEMBERS[kind][0]]].is_set():
            raise ServiceError("ValidationException", "The job has ended.")
        self.end(kind, request[MEMBERS[kind][0]], "Stopped")
        return {}

    def wait(self, scope: Scope, kind: str, name: str, timeout: float | None = None) -> bool:
        return self.ended[name].wait(timeout)

    def wait_for_tuning_job(self, scope: Scope, name: str) -> None:
        self.ended[name].wait()

    def ranked_training_jobs(self, call: Call, name: str) -> list[dict[str, Any]]:
        return [{"TrainingJobName": f"{name}-{number}-abc"} for number in ("002", "001")]

    def steps_run(self) -> list[str]:
        """The steps of the jobs, in the order in which they were created."""
        members = [name for name, *_ in MEMBERS.values()]
        return [_step_of(next(request[name] for name in members if name in request)) for request in self.requests]


def _step_of(job: str) -> str:
    """The step's name in its job's name."""
    return job.removeprefix("pipelines-").partition("-")[2].rpartition("-")[0]


class FakeLoopback:
    """S3 with the objects of a dict (URI to text), IAM with the roles of a set."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}
        self.roles = {ROLE}

    def client(self, service: str, scope: Scope, role: str | None = None) -> FakeLoopback:
        return self

    def credentials(self, role: str | None) -> dict[str, str]:
        return {}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if (uri := f"s3://{Bucket}/{Key}") not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "no"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[uri].encode())}

    def get_role(self, RoleName: str) -> dict[str, Any]:
        for arn in self.roles:
            if arn.rpartition("/")[2] == RoleName:
                return {"Role": {"Arn": arn, "AssumeRolePolicyDocument": TRUST}}
        raise ClientError({"Error": {"Code": "NoSuchEntity", "Message": "no"}}, "GetRole")


class Service:
    """The operations on pipelines, called as the front door calls them."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.loopback = FakeLoopback()
        self.jobs = FakeJobs()
        self.tags = Tags(self.store)
        self.events: list[dict[str, Any]] = []
        self.denied: set[str] = set()
        events = Events(lambda _scope, event: self.events.append(event))
        self.registry = Registry(self.store, self.tags, events)
        jobs = cast(Any, self.jobs)
        self.executions = Executions(
            self.store, cast(Any, self.loopback), jobs, jobs, self.registry, events, self._authorize
        )
        self.pipelines = Pipelines(self.store, self.tags, cast(Any, self.loopback), self.executions)
        parts = (self.tags, self.registry, self.executions, self.pipelines)
        self.operations = {name: do for part in parts for name, do in part.operations().items()}

    def _authorize(self, call: Call, operation: str, request: dict[str, Any]) -> None:
        """IAM lets steps do everything but what is in `denied`."""
        if operation in self.denied:
            raise ServiceError("AccessDeniedException", f"User: {ROLE} is not authorized to perform: {operation}")

    def call(self, operation: str, call: Call = CALL, **request: Any) -> dict[str, Any]:
        """Answer a request, with a ClientRequestToken of its own when it needs one and has none."""
        model = service_model("sagemaker").operation_model(operation)
        if "ClientRequestToken" in model.input_shape.required_members:
            request.setdefault("ClientRequestToken", uuid.uuid4().hex)
        check_request(model, request)
        return self.operations[operation](call, request)

    def create(self, definition: dict[str, Any], name: str = "churn", **more: Any) -> None:
        self.call("CreatePipeline", PipelineName=name, RoleArn=ROLE, PipelineDefinition=json.dumps(definition), **more)

    def start(self, name: str = "churn", values: dict[str, str] | None = None, **more: Any) -> str:
        if values:
            more["PipelineParameters"] = [{"Name": key, "Value": value} for key, value in values.items()]
        return self.call("StartPipelineExecution", PipelineName=name, **more)["PipelineExecutionArn"]

    def run(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Create, start, wait: the execution's description when it has ended, with "Steps" by name."""
        self.create(definition)
        return self.ended(self.start())

    def ended(self, arn: str) -> dict[str, Any]:
        wait_for(lambda: self.describe(arn)["PipelineExecutionStatus"] not in ("Executing", "Stopping"))
        wait_for(lambda: not self.executions.busy)
        return self.describe(arn) | {"Steps": self.steps(arn)}

    def describe(self, arn: str) -> dict[str, Any]:
        return self.call("DescribePipelineExecution", PipelineExecutionArn=arn)

    def steps(self, arn: str) -> dict[str, dict[str, Any]]:
        answer = self.call(
            "ListPipelineExecutionSteps", PipelineExecutionArn=arn, SortOrder="Ascending", MaxResults=100
        )
        return {step["StepName"]: step for step in answer["PipelineExecutionSteps"]}


def definition(*steps: dict[str, Any], parameters: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {"Version": "2020-12-01", "Parameters": parameters or [], "Steps": list(steps), **more}


def get(reference: str) -> dict[str, str]:
    return {"Get": reference}


def join(on: str, *values: Any) -> dict[str, Any]:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(path: str, step: str = "Evaluate", file: str = "Report") -> dict[str, Any]:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def processing(name: str, outputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A Processing step. Members of `more` that are the request's go into the Arguments, the others beside them."""
    arguments = {
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", f"{name}.py"]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30}
        },
    }
    if outputs:
        arguments["ProcessingOutputConfig"] = {
            "Outputs": [
                {
                    "OutputName": output,
                    "S3Output": {"S3Uri": uri, "LocalPath": f"/opt/ml/processing/{output}", "S3UploadMode": "EndOfJob"},
                }
                for output, uri in outputs.items()
            ]
        }
    return _step(name, "Processing", arguments, "CreateProcessingJob", more)


def training(name: str, **more: Any) -> dict[str, Any]:
    arguments = {
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    return _step(name, "Training", arguments, "CreateTrainingJob", more)


def tuning(name: str, **more: Any) -> dict[str, Any]:
    job = training(name)["Arguments"]
    job["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "auc", "Regex": "auc=([0-9.]+)"}]
    arguments = {
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "auc"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.01", "MaxValue": "0.3"}]},
            "RandomSeed": 1,
        },
        "TrainingJobDefinition": job,
    }
    return _step(name, "Tuning", arguments, "CreateHyperParameterTuningJob", more)


def register(name: str, group: str = "churn-dev", **more: Any) -> dict[str, Any]:
    return _step(name, "RegisterModel", {"ModelPackageGroupName": group}, "CreateModelPackage", more)


def condition(
    name: str,
    *conditions: dict[str, Any],
    then: list[Any] | None = None,
    otherwise: list[Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    arguments = {"Conditions": list(conditions), "IfSteps": then or [], "ElseSteps": otherwise or []}
    return {"Name": name, "Type": "Condition", "Arguments": arguments, **more}


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    return {"Type": kind, "LeftValue": left, "RightValue": right}


def fail(name: str, message: Any = "no") -> dict[str, Any]:
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}


def _step(name: str, kind: str, arguments: dict[str, Any], operation: str, more: dict[str, Any]) -> dict[str, Any]:
    members = service_model("sagemaker").operation_model(operation).input_shape.members
    given = {key: value for key, value in more.items() if key in members}
    rest = {key: value for key, value in more.items() if key not in members}
    return {"Name": name, "Type": kind, "Arguments": arguments | given, **rest}
