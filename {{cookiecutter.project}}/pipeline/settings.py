"""settings.yaml: its fields, their limits, and messages for whoever wrote it.

The comments in settings.yaml say what each field is for; here is what is allowed.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import InputError
from pipeline.metrics import METRICS, Metric

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_FILE = ROOT / "settings.yaml"

ProblemType = Literal["binary_classification", "multiclass_classification", "regression"]
InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
Text = Annotated[str, Field(min_length=1)]
# The S3 URI travels in the model package's metadata too, which takes only these characters and 256 of them
# (SageMaker API reference, CustomerMetadataValue).
S3_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9 _.:/=+@-]+$"
ROLE = r"^(arn:aws[a-z-]*:iam::\d{12}:role/)?[\w+=,.@/-]+$"


class Section(BaseModel):
    """Fields that are not known are refused: a misspelt one would otherwise do nothing, silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    uri: Annotated[str, Field(pattern=S3_URI, max_length=256)]
    format: Literal["auto", "csv", "parquet"] = "auto"
    target: Text
    ignore: list[Text] = []
    key: Text | None = None
    time: Text | None = None

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Data:
        if self.key and self.time:
            raise ValueError("key and time both decide which rows are tested on: set one of them to null")
        for role, name in (("ignore", None), ("key", self.key), ("time", self.time)):
            if self.target == name or (role == "ignore" and self.target in self.ignore):
                raise ValueError(f"{self.target!r} is the target and cannot be {role} too: correct one of them")
        return self


class Split(Section):
    validation: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to train on: make their sum less than 1")
        return self


class Job(Section):
    instance_type: InstanceType
    volume_gb: Annotated[int, Field(ge=1, le=16384)]
    max_runtime_seconds: Annotated[int, Field(ge=1, le=432000)]  # SageMaker's own limit: five days


class Hyperparameters(Section):
    """XGBoost's parameters with its own names, meanings and ranges; None leaves XGBoost's default.

    Source: https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html. To set another one, add a line here.
    """

    num_round: Annotated[int, Field(ge=1, le=100000)]
    early_stopping_rounds: Annotated[int, Field(ge=1, le=10000)]
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)]
    eta: Annotated[float, Field(gt=0, le=1)] | None = None
    max_depth: Annotated[int, Field(ge=0, le=100)] | None = None
    min_child_weight: Annotated[float, Field(ge=0)] | None = None
    gamma: Annotated[float, Field(ge=0)] | None = None
    subsample: Annotated[float, Field(gt=0, le=1)] | None = None
    colsample_bytree: Annotated[float, Field(gt=0, le=1)] | None = None
    reg_lambda: Annotated[float, Field(ge=0)] | None = None
    reg_alpha: Annotated[float, Field(ge=0)] | None = None
    max_bin: Annotated[int, Field(ge=2, le=65536)] | None = None
    scale_pos_weight: Annotated[float, Field(gt=0)] | None = None


class Train(Job):
    spot: bool = False
    max_wait_seconds: Annotated[int, Field(ge=1, le=432000)] | None = None
    hyperparameters: Hyperparameters

    @model_validator(mode="after")
    def _spot_has_time_to_wait(self) -> Train:
        if self.spot and (self.max_wait_seconds or 0) < self.max_runtime_seconds:
            raise ValueError(
                "with spot: true, max_wait_seconds (waiting for capacity and running) must be set, to at least "
                f"max_runtime_seconds ({self.max_runtime_seconds})"
            )
        return self


class Gate(Section):
    metric: Text
    threshold: Annotated[float, Field(allow_inf_nan=False)]


class Aws(Section):
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    role: Annotated[str, Field(pattern=ROLE, max_length=2048)]
    sagemaker_project_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$", max_length=20)] | None = None


class Settings(Section):
    project: Annotated[str, Field(pattern=r"^[a-zA-Z](-*[a-zA-Z0-9])*$", max_length=32)]
    description: Annotated[str, Field(max_length=1024, pattern=r"^[^\n\r]*$")]
    problem_type: ProblemType
    data: Data
    split: Split
    preprocess: Job
    train: Train
    evaluate: Job
    gate: Gate
    aws: Aws

    @model_validator(mode="after")
    def _gate_suits_the_problem(self) -> Settings:
        known = METRICS[self.problem_type]
        if self.gate.metric not in known:
            raise ValueError(
                f"gate.metric {self.gate.metric!r} is not computed for {self.problem_type}: "
                f"choose one of {', '.join(known)}"
            )
        check_threshold(self.gate.threshold, self.gate.metric, self.metric)
        if self.problem_type != "binary_classification" and self.train.hyperparameters.scale_pos_weight is not None:
            raise ValueError("train.hyperparameters.scale_pos_weight is for binary_classification alone: remove it")
        return self

    @property
    def metric(self) -> Metric:
        """The main metric's direction and range."""
        return METRICS[self.problem_type][self.gate.metric]


def check_threshold(threshold: float, name: str, metric: Metric) -> None:
    """Raises ValueError when no value of the metric could ever, or could ever not, pass the threshold."""
    if not metric.lowest <= threshold <= metric.highest or math.isnan(threshold):
        raise ValueError(
            f"gate.threshold {threshold:g} is out of range: "
            f"{name} lies between {metric.lowest:g} and {metric.highest:g}"
        )


def load_settings(path: Path = SETTINGS_FILE) -> Settings:
    """Reads and checks the file. Raises InputError with one line per fault."""
    return load_yaml(path, Settings)


def load_yaml(path: Path, model: type[Any]) -> Any:
    """A YAML file as a `model` (pydantic). Raises InputError with one line per fault: file, field, fault, remedy."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing: restore it (git checkout -- {path.name})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not readable YAML: {' '.join(str(error).split())}: correct it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold fields (name: value), but is {type(content).__name__}: restore it")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_fault(path, model, fault) for fault in error.errors())) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is specified: a field that occurs twice is an error. PyYAML would silently take the later one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"{repeated[0]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def fault_text(model: type[BaseModel], fault: Any) -> str:
    """One of pydantic's errors as: the fault, and what to do."""
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_fields(model, fault["loc"][:-1]))
        return f"there is no such field: remove it, or correct its name (known here: {known})"
    if fault["type"] == "missing":
        return "the field is missing: add it"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    message = re.sub(r"^(Input|String|Value) should", "must", fault["msg"])
    return f"{fault['input']!r} is not allowed: it {message}"


def _fault(path: Path, model: type[BaseModel], fault: Any) -> str:
    place = ".".join(map(str, fault["loc"]))
    return f"{path.name}: {place}: {fault_text(model, fault)}" if place else f"{path.name}: {fault_text(model, fault)}"


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        model = model.model_fields[str(part)].annotation  # type: ignore[assignment]
    return list(model.model_fields)
