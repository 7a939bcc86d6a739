"""A pipeline's definition: its parameters and its steps, as they are after reading (`definition_reader.py`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

LONGEST_DELAY = 864_000.0  # seconds: ten days, the longest that a retry policy may last


@dataclass(frozen=True)
class StepType:
    """What a step of the type does.

    Attributes:
        operation: the SageMaker operation whose request the step's Arguments are; None for control flow.
        describe: the operation whose response the step's properties are.
        lists: a further operation whose response is among them.
        job_name: the request's member that names the job: the execution fills it in.
    """

    operation: str | None = None
    describe: str | None = None
    job_name: str | None = None
    lists: str | None = None


STEP_TYPES = {
    "Processing": StepType("CreateProcessingJob", "DescribeProcessingJob", "ProcessingJobName"),
    "Training": StepType("CreateTrainingJob", "DescribeTrainingJob", "TrainingJobName"),
    "Tuning": StepType(
        "CreateHyperParameterTuningJob",
        "DescribeHyperParameterTuningJob",
        "HyperParameterTuningJobName",
        "ListTrainingJobsForHyperParameterTuningJob",
    ),
    "RegisterModel": StepType("CreateModelPackage", "DescribeModelPackage"),
    "Condition": StepType(),
    "Fail": StepType(),
}


@dataclass(frozen=True)
class Parameter:
    """A pipeline parameter; `default` is None when a value must be given at the start."""

    name: str
    type: str
    default: str | int | float | bool | None = None
    enum: tuple[Any, ...] | None = None

    def parse(self, text: str) -> str | int | float | bool:
        """The value of an API call's string.

        Raises:
            ValueError: it is not of the parameter's type, or not among its EnumValues.
        """
        value: str | int | float | bool | None = None
        if not text:
            # AWS: [string "" is too short (length: 0, required minimum: 1)]
            raise ValueError(f"Parameter '{self.name}': the value is empty; it needs at least 1 character.")
        if self.type == "String":
            value = text
        elif self.type == "Integer" and re.fullmatch(r"[+-]?\d+", text):
            value = int(text)
        elif self.type == "Float" and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
            value = float(text)
        elif self.type == "Boolean" and text.lower() in ("true", "false"):
            value = text.lower() == "true"
        if value is None:
            raise ValueError(f"Parameter '{self.name}': the value {text!r} is not of the parameter's type {self.type}.")
        if self.enum is not None and value not in self.enum:
            raise ValueError(
                f"Parameter '{self.name}': the value {text!r} is not one of its EnumValues:"
                f" {', '.join(map(str, self.enum))}."
            )
        return value


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed step is tried again. https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html

    Attributes:
        interval: seconds before the first retry.
        backoff: by which the interval grows at each further retry.
        attempts: the most retries, or None when `expire_minutes` limits them.
        expire_minutes: after the step's start.
    """

    exceptions: frozenset[str]
    interval: float = 1.0
    backoff: float = 2.0
    attempts: int | None = 5
    expire_minutes: int | None = None

    def delay(self, retries: int, elapsed: float) -> float | None:
        """Seconds to wait before the next retry, or None when there is to be none.

        Args:
            retries: how many there were under this policy.
            elapsed: seconds since the step started.
        """
        if self.attempts is not None and retries >= self.attempts:
            return None
        if self.expire_minutes is not None and elapsed >= self.expire_minutes * 60:
            return None
        return min(self.interval * min(self.backoff, 1e9) ** retries, LONGEST_DELAY)


@dataclass(frozen=True)
class PropertyFile:
    name: str
    output: str
    path: str


@dataclass(frozen=True)
class Step:
    """One step, taken out of the branches it stood in.

    Attributes:
        needs: the steps that must have succeeded before: DependsOn, and what the arguments refer to.
        branch: the Condition step and the outcome ("True" or "False") of which this step is, or None.
        expire_after: how long a result may be reused; None without caching, timedelta.max without limit.
    """

    name: str
    type: str
    arguments: dict[str, Any]
    needs: frozenset[str]
    branch: tuple[str, str] | None = None
    display_name: str | None = None
    description: str | None = None
    expire_after: timedelta | None = None
    retry_policies: tuple[RetryPolicy, ...] = ()
    property_files: dict[str, PropertyFile] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A checked definition. `steps` are in the definition's order, a Condition before the steps of its branches."""

    parameters: dict[str, Parameter]
    steps: dict[str, Step]
    experiment: dict[str, Any] | None = None

    def parameter_values(self, given: list[dict[str, str]]) -> dict[str, str | int | float | bool]:
        """Every parameter's value: the API call's, else the default.

        Args:
            given: StartPipelineExecution's PipelineParameters, [{"Name": ..., "Value": ...}].

        Raises:
            ValueError: an unknown or repeated name, a value that does not fit, or none where there is no default.
        """
        values = {name: parameter.default for name, parameter in self.parameters.items()}
        seen: set[str] = set()
        for item in given:
            name = item["Name"]
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"Parameter '{name}' is not in the pipeline definition; its parameters are: {known}.")
            if name in seen:
                raise ValueError(f"Parameter '{name}' is given more than once.")
            seen.add(name)
            values[name] = self.parameters[name].parse(item["Value"])
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise ValueError(f"Parameters without default need a value: {', '.join(missing)}.")
        return {name: value for name, value in values.items() if value is not None}
