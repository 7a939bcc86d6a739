"""What a step does: its request made of its arguments, its job or model package, its properties afterwards."""

from __future__ import annotations

import logging
import secrets
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.loopback import Loopback
from local_aws.request_checks import check_request, service_model, without_nulls
from local_aws.sagemaker.definition import STEP_TYPES, Definition, Step
from local_aws.sagemaker.expressions import ExpressionError, evaluate, follow, parse_path, read_json
from local_aws.sagemaker.jobs import Jobs
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.roles import Authorize, RoleCall
from local_aws.sagemaker.tuning import Tuning
from local_aws.store import Document, Scope

logger = logging.getLogger(__name__)

_ALPHANUMERICS = string.ascii_lowercase + string.digits
# Words of a failure's text by which a retry policy's exception type is told.
_JOB_FAILURES = {
    "InternalServerError": "SageMaker.JOB_INTERNAL_ERROR",
    "CapacityError": "SageMaker.CAPACITY_ERROR",
    "InsufficientCapacity": "SageMaker.CAPACITY_ERROR",
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
}


class StepFailure(Exception):
    """A step, or one attempt of it, failed.

    Args:
        reason: the step's FailureReason.
        exception_type: under which of a retry policy's exception types it falls, if any.
    """

    def __init__(self, reason: str, exception_type: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exception_type = exception_type


class JobOperations(NamedTuple):
    """The operations of one kind of job, and the members that carry its name, ARN and status."""

    create: Callable[[Call, Request], Response]
    describe: Callable[[Call, Request], Response]
    stop: Callable[[Call, Request], Response]
    wait: Callable[[Scope, str], object]
    name: str
    arn: str
    status: str


def random_id(length: int) -> str:
    """Lower-case letters and digits."""
    return "".join(secrets.choice(_ALPHANUMERICS) for _ in range(length))


def job_name(step_type: str, execution_id: str, step_name: str) -> str:
    """pipelines-<execution id>-<first 20 characters of the step's name>-<10 random characters>.

    A tuning job's name has 32 characters at most: <execution id>-<first 7 characters>-<10 random characters>.
    """
    if step_type == "Tuning":
        return f"{execution_id}-{step_name[:7].replace('_', '-')}-{random_id(10)}"
    return f"pipelines-{execution_id}-{step_name[:20].replace('_', '-')}-{random_id(10)}"


class StepActions:
    """What steps do to jobs and to the model registry, each call authorised as a client's is."""

    def __init__(
        self, loopback: Loopback, jobs: Jobs, tuning: Tuning, registry: Registry, authorize: Authorize
    ) -> None:
        self._loopback, self._authorize = loopback, authorize
        self._tuning = tuning
        self._registry = registry
        self._operations = {
            "Processing": JobOperations(
                jobs.create_processing_job,
                jobs.describe_processing_job,
                jobs.stop_processing_job,
                lambda scope, name: jobs.wait(scope, "Processing", name),
                "ProcessingJobName",
                "ProcessingJobArn",
                "ProcessingJobStatus",
            ),
            "Training": JobOperations(
                jobs.create_training_job,
                jobs.describe_training_job,
                jobs.stop_training_job,
                lambda scope, name: jobs.wait(scope, "Training", name),
                "TrainingJobName",
                "TrainingJobArn",
                "TrainingJobStatus",
            ),
            "Tuning": JobOperations(
                tuning.create_tuning_job,
                tuning.describe_tuning_job,
                tuning.stop_tuning_job,
                tuning.wait_for_tuning_job,
                "HyperParameterTuningJobName",
                "HyperParameterTuningJobArn",
                "HyperParameterTuningJobStatus",
            ),
        }

    def arguments(self, step: Step, values: ExecutionValues) -> Request:
        """The step's request, without the job's name.

        Raises:
            ExpressionError: an expression has no value.
        """
        return without_nulls(evaluate(step.arguments, values))

    def create_job(self, call: Call, step: Step, name: str, arguments: Request) -> str:
        """Start the step's job and return its ARN.

        Raises:
            StepFailure: the request is refused.
        """
        operations = self._operations[step.type]
        request = arguments | {operations.name: name}
        return self._invoke(STEP_TYPES[step.type].operation, operations.create, call, request)[operations.arn]

    def register_model(self, call: Call, step: Step, arguments: Request, execution_arn: str) -> str:
        """Create the step's model package and return its ARN.

        Raises:
            StepFailure: the request is refused.
        """
        metadata = {"GeneratedBy": execution_arn} | arguments.get("MetadataProperties", {})
        request = arguments | {"MetadataProperties": metadata}
        create = self._registry.create_model_package
        return self._invoke(STEP_TYPES[step.type].operation, create, call, request)["ModelPackageArn"]

    def wait_for_job(self, call: Call, step: Step, name: str) -> bool:
        """Wait until the job has ended, and say whether it completed; False when it was stopped.

        Raises:
            StepFailure: the job failed, or may not be looked at.
        """
        operations = self._operations[step.type]
        self._invoke(STEP_TYPES[step.type].describe, operations.describe, call, {operations.name: name})
        operations.wait(call.scope, name)
        job = self.describe_job(call, step.type, name)
        status = job[operations.status]
        reason = job.get("FailureReason")
        if job.get("SecondaryStatus") == "MaxRuntimeExceeded":
            seconds = job["StoppingCondition"]["MaxRuntimeInSeconds"]
            reason = f"The job ran longer than its MaxRuntimeInSeconds ({seconds}). Raise it."
        if reason is None:
            return status == "Completed"
        kind = next((kind for word, kind in _JOB_FAILURES.items() if word in reason), None)
        raise StepFailure(f"ClientError: {reason}", kind)

    def describe_job(self, call: Call, step_type: str, name: str) -> Response:
        operations = self._operations[step_type]
        return operations.describe(call, {operations.name: name})

    def job_properties(self, call: Call, step_type: str, name: str) -> Response:
        """What a job's Describe call answers; of a tuning job also its training jobs, the best first."""
        properties = self.describe_job(call, step_type, name)
        if step_type == "Tuning":
            properties = properties | {"TrainingJobSummaries": self._tuning.ranked_training_jobs(call, name)}
        return properties

    def stop_job(self, call: Call, step_type: str, name: str) -> None:
        operations = self._operations[step_type]
        request = {operations.name: name}
        try:
            self._authorize(call, f"Stop{operations.name.removesuffix('Name')}", request)
            operations.stop(call, request)
        except ServiceError as error:
            if error.code == "AccessDeniedException":
                logger.warning("job %s is not stopped with its execution: %s", name, error.message)
            # It ended by itself in the meantime, which is as good.
            elif error.code != "ValidationException":
                raise

    def describe_model_package(self, call: Call, arn: str) -> Response:
        describe = self._registry.describe_model_package
        return self._invoke("DescribeModelPackage", describe, call, {"ModelPackageName": arn})

    def read_json(self, call: RoleCall, uri: str, what: str) -> Any:
        """A JSON document from S3.

        Args:
            what: what it is, for the message.

        Raises:
            ExpressionError: it is not there, or not JSON.
            StepFailure: S3 did not answer.
        """
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket or not key:
            raise ExpressionError(f"{what}: {uri!r} is not the S3 URI of an object")
        try:
            s3 = self._loopback.client("s3", call.scope, call.role)
            return read_json(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            code = error.response["Error"]["Code"]
            cause = "may the pipeline's role read it?" if code == "AccessDenied" else "does the step write it?"
            raise ExpressionError(f"{what} cannot be read from {uri} ({code}): {cause}") from error
        except BotoCoreError as error:
            raise StepFailure(f"InternalServerError: S3 did not answer: {error}", "Step.SERVICE_FAULT") from error
        except ValueError as error:
            raise ExpressionError(f"{what} at {uri} is not JSON: {error}") from error

    def _invoke(
        self, name: str | None, operation: Callable[[Call, Request], Response], call: Call, request: Request
    ) -> Response:
        assert name is not None
        try:
            check_request(service_model("sagemaker").operation_model(name), request)
            self._authorize(call, name, request)
            return operation(call, request)
        except ServiceError as error:
            reason = f"ClientError: Failed to invoke sagemaker:{name}. Error Details: {error.message}"
            raise StepFailure(reason, _exception_type(error)) from error


class ExecutionValues:
    """What references stand for in one step of one execution (expressions.Values).

    Args:
        execution: the execution's document.
        job: the name of the step's own job, or None when it has none.
    """

    def __init__(
        self, call: RoleCall, definition: Definition, execution: Document, actions: StepActions, job: str | None = None
    ) -> None:
        self._call = call
        self._definition = definition
        self._execution = execution
        self._actions = actions
        self._job = job
        self._files: dict[str, Any] = {}

    def parameter(self, name: str) -> Any:
        return self._execution["Parameters"][name]

    def execution_variable(self, name: str) -> str:
        arn = self._execution["PipelineExecutionArn"]
        variables = {
            "StartDateTime": _iso_time(self._execution["CreationTime"]),
            "CurrentDateTime": _iso_time(datetime.now(UTC).timestamp()),
            "PipelineName": self._execution["PipelineName"],
            "PipelineArn": self._execution["PipelineArn"],
            "PipelineExecutionId": arn.rpartition("/")[2],
            "PipelineExecutionArn": arn,
            "TrainingJobName": self._job,
            "ProcessingJobName": self._job,
        }
        value = variables.get(name)
        if value is None:
            raise ExpressionError(f"'Execution.{name}' has no value here")
        return value

    def step_property(self, step: str, path: str) -> Any:
        return follow(self._properties(step), parse_path(path), f"step '{step}'", by_element_name=True)

    def property_file(self, step: str, name: str) -> Any:
        file = self._definition.steps[step].property_files[name]
        path = f"ProcessingOutputConfig.Outputs['{file.output}'].S3Output.S3Uri"
        uri = f"{self.step_property(step, path).rstrip('/')}/{file.path}"
        return self._read(uri, f"property file '{name}' of step '{step}'")

    def json_object(self, s3_uri: str) -> Any:
        return self._read(s3_uri, "the JSON object of Std:JsonGet")

    def _read(self, uri: str, what: str) -> Any:
        if uri not in self._files:
            self._files[uri] = self._actions.read_json(self._call, uri, what)
        return self._files[uri]

    def _properties(self, step: str) -> Response:
        """The document that the step's references lead into."""
        kind = self._definition.steps[step].type
        record = self._execution["Steps"][step]
        if kind == "Condition":
            return record["Metadata"]["Condition"]
        if kind == "RegisterModel":
            return self._actions.describe_model_package(self._call, record["Metadata"]["RegisterModel"]["Arn"])
        name = record["Metadata"][f"{kind}Job"]["Arn"].rpartition("/")[2]
        return self._actions.job_properties(self._call, kind, name)


def _exception_type(error: ServiceError) -> str | None:
    """Under which of a retry policy's exception types an operation's error falls."""
    if "Throttling" in error.code or error.status == 429:
        return "Step.THROTTLING"
    if error.code == "ResourceLimitExceeded":
        return "SageMaker.RESOURCE_LIMIT"
    return "Step.SERVICE_FAULT" if error.status >= 500 else None


def _iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
