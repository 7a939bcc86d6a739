"""settings.yaml: its fields, their limits, and messages for whoever wrote it.

The comments in settings.yaml say what each field is for; here is what is allowed.
"""

from __future__ import annotations

import codecs
import math
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.metrics import METRICS, Metric, check_condition
from pipeline.yaml_file import fault_text, load_yaml

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_FILE = ROOT / "settings.yaml"

ProblemType = Literal["binary_classification", "multiclass_classification", "regression"]
InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
Text = Annotated[str, Field(min_length=1)]
# The S3 URI travels in the model package's metadata too, which takes only these characters and 256 of them
# (SageMaker API reference, CustomerMetadataValue).
S3_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9 _.:/=+@-]+$"
# cron has six fields, rate a number and its unit.
SCHEDULE = r"^(cron\(\S+( \S+){5}\)|rate\([1-9]\d* (minute|hour|day)s?\))$"
ROLE = r"^(arn:aws[a-z-]*:iam::\d{12}:role/)?([\w+=,.@/-]|\{stage\})+$"


class Section(BaseModel):
    """Fields that are not known are refused: a misspelt one would otherwise do nothing, silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Csv(Section):
    """How the CSV files are written; "auto" is found from the data."""

    delimiter: Annotated[str, Field(pattern=r"^(auto|[^\s\w\"'.-]|\t)$")] = "auto"
    encoding: Text = "auto"
    quote: Annotated[str, Field(max_length=1)] = '"'
    decimal: Literal[".", ","] = "."

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        if name != "auto":
            try:
                codecs.lookup(name)
            except LookupError:
                raise ValueError(
                    f"there is no encoding {name!r}: write one that Python knows (utf-8, cp1252, utf-16), or auto"
                ) from None
        return name


class Column(Section):
    """What a column is, where that cannot be seen from its values. format: of dates, as strptime takes it."""

    kind: Literal["number", "boolean", "category", "date"]
    format: Text | None = None

    @model_validator(mode="after")
    def _format_is_of_dates(self) -> Column:
        if self.format is not None and self.kind != "date":
            raise ValueError(f"format is for dates, and this column is a {self.kind}: remove one of them")
        if self.format is not None and "%" not in self.format:
            raise ValueError(f"format {self.format!r} has no % in it: write it as in %d/%m/%Y")
        return self


class Data(Section):
    uri: Annotated[str, Field(pattern=S3_URI, max_length=256)]
    format: Literal["auto", "csv", "parquet"] = "auto"
    csv: Csv = Csv()
    target: Text
    ignore: list[Text] = []
    key: Text | None = None
    time: Text | None = None
    missing: list[Text] = []
    columns: dict[Text, Column] = {}

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Data:
        if self.key and self.time:
            raise ValueError("key and time both decide which rows are tested on: set one of them to null")
        for role, name in (("ignore", None), ("key", self.key), ("time", self.time)):
            if self.target == name or (role == "ignore" and self.target in self.ignore):
                raise ValueError(f"{self.target!r} is the target and cannot be {role} too: correct one of them")
        others = [name for name in (self.target, self.key, *self.ignore) if name in self.columns]
        if others:
            raise ValueError(f"columns describes features and time, and {others[0]!r} is neither: remove it there")
        if self.time and self.time in self.columns and self.columns[self.time].kind != "date":
            raise ValueError(f"columns: {self.time!r} orders the rows in time: make its kind date, or remove it there")
        return self


class SplitFiles(Section):
    """Which files hold which part: patterns of paths below the data's prefix. All other rows train."""

    test: Text
    validation: Text | None = None


class Split(Section):
    validation: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    column: Text | None = None
    files: SplitFiles | None = None

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Split:
        if self.column and self.files:
            raise ValueError("column and files both say which rows are tested on: set one of them to null")
        return self

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


# What ends a training or makes it repeatable is not searched for.
FIXED_WHEN_TUNING = ("num_round", "early_stopping_rounds", "seed")


def check_hyperparameter(name: str, value: float) -> None:
    """Raises ValueError when XGBoost would not take the value."""
    needed = {"num_round": 1, "early_stopping_rounds": 1, "seed": 0}
    try:
        Hyperparameters.model_validate({**needed, name: value})
    except ValidationError as error:
        raise ValueError(f"{name}: {fault_text(Hyperparameters, error.errors()[0])}") from None


def is_whole_number(name: str) -> bool:
    """Whether the hyperparameter of that name takes whole numbers alone."""
    schema = Hyperparameters.model_json_schema()["properties"][name]
    return "integer" in [kind.get("type") for kind in (schema, *schema.get("anyOf", []))]


Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class Tune(Section):
    """A search for better hyperparameters; SageMaker's own limits (CreateHyperParameterTuningJob)."""

    max_jobs: Annotated[int, Field(ge=2, le=750)]
    parallel_jobs: Annotated[int, Field(ge=1, le=100)]
    strategy: Literal["Bayesian", "Random"] = "Bayesian"
    ranges: Annotated[dict[str, Range], Field(min_length=1, max_length=30)]

    @model_validator(mode="after")
    def _ranges_suit(self) -> Tune:
        for name, (lowest, highest) in self.ranges.items():
            known = [field for field in Hyperparameters.model_fields if field not in FIXED_WHEN_TUNING]
            if name not in known:
                raise ValueError(f"ranges: {name!r} cannot be tuned: choose among {', '.join(known)}")
            if not lowest < highest:
                raise ValueError(f"ranges: {name} goes from {lowest:g} to {highest:g}: write the lower number first")
            for bound in (lowest, highest):
                check_hyperparameter(name, bound)
        if self.parallel_jobs > self.max_jobs:
            raise ValueError(f"parallel_jobs ({self.parallel_jobs}) is more than max_jobs ({self.max_jobs}): lower it")
        return self


class Train(Job):
    instance_count: Annotated[int, Field(ge=1, le=100)] = 1
    spot: bool = False
    max_wait_seconds: Annotated[int, Field(ge=1, le=432000)] | None = None
    class_weights: Literal["balanced"] | dict[str | int | bool, Annotated[float, Field(gt=0)]] | None = None
    monotone: dict[Text, Literal["increasing", "decreasing"]] = {}
    interactions: list[Annotated[list[Text], Field(min_length=1)]] = []
    external_memory: Literal["auto"] | bool = "auto"
    hyperparameters: Hyperparameters
    tune: Tune | None = None

    @model_validator(mode="after")
    def _spot_has_time_to_wait(self) -> Train:
        if self.spot and (self.max_wait_seconds or 0) < self.max_runtime_seconds:
            raise ValueError(
                "with spot: true, max_wait_seconds (waiting for capacity and running) must be set, to at least "
                f"max_runtime_seconds ({self.max_runtime_seconds})"
            )
        return self


class Fairness(Section):
    """column: the protected one. reference: its value that the others are compared with; null: the most favoured."""

    column: Text
    reference: str | int | bool | None = None


class Costs(Section):
    """What a wrong answer costs, in any unit."""

    false_positive: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    false_negative: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Evaluate(Job):
    slices: list[Text] = []
    fairness: Fairness | None = None
    costs: Costs | None = None


class Condition(Section):
    """One more number that decides: exactly one of at_least and at_most."""

    metric: Text
    at_least: Annotated[float, Field(allow_inf_nan=False)] | None = None
    at_most: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> Condition:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"the condition on {self.metric} needs exactly one of at_least and at_most")
        return self


class Gate(Section):
    metric: Text
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    incomparable: Literal["fail", "pass"] = "fail"
    conditions: Annotated[list[Condition], Field(max_length=20)] = []


class ModelCard(Section):
    """What people say about the model; SageMaker's model card carries it with what was measured."""

    owner: Annotated[str, Field(max_length=1024)] = ""
    intended_uses: Annotated[str, Field(max_length=2048)] = ""
    caveats: Annotated[str, Field(max_length=2048)] = ""
    risk_rating: Literal["Unknown", "Low", "Medium", "High"] = "Unknown"


class Aws(Section):
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    role: Annotated[str, Field(pattern=ROLE, max_length=2048)]

    def role_of(self, stage: str) -> str:
        """The role of that stage's pipelines, by its name or ARN. stage: dev or feature."""
        return self.role.replace("{stage}", stage)


class Ci(Section):
    """What a push does besides starting the pipeline."""

    watch: bool = False


class Retrain(Section):
    """When dev's pipeline trains again without a push: an expression of EventBridge Scheduler.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
    """

    schedule: Annotated[str, Field(pattern=SCHEDULE, max_length=256)]
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown; no name; a folder of names
            raise ValueError(f"there is no time zone {name!r}: write one like Europe/Berlin, or UTC") from None
        return name


class Settings(Section):
    project: Annotated[str, Field(pattern=r"^[a-zA-Z](-*[a-zA-Z0-9])*$", max_length=32)]
    description: Annotated[str, Field(max_length=1024, pattern=r"^[^\n\r]*$")]
    problem_type: ProblemType
    data: Data
    split: Split
    preprocess: Job
    train: Train
    evaluate: Evaluate
    gate: Gate
    model_card: ModelCard = ModelCard()
    aws: Aws
    ci: Ci = Ci()
    retrain: Retrain | None = None

    @model_validator(mode="after")
    def _split_suits_the_data(self) -> Settings:
        by = "split.column" if self.split.column else "split.files" if self.split.files else None
        if by and self.data.time:
            raise ValueError(f"data.time and {by} both say which rows are tested on: set one of them to null")
        if self.split.column and self.split.column in (self.data.target, *self.data.columns):
            raise ValueError(
                f"split.column {self.split.column!r} says which rows are tested on, and is neither target nor feature: "
                "correct it, or remove it from data.columns"
            )
        return self

    @model_validator(mode="after")
    def _gate_suits_the_problem(self) -> Settings:
        known = METRICS[self.problem_type]
        if self.gate.metric not in known:
            raise ValueError(
                f"gate.metric {self.gate.metric!r} is not computed for {self.problem_type}: "
                f"choose one of {', '.join(known)}"
            )
        check_threshold(self.gate.threshold, self.gate.metric, self.metric)
        for condition in self.gate.conditions:
            check_condition(condition.metric, self.problem_type)
            self._check_that_it_is_asked_for(condition.metric)
        if self.evaluate.costs and self.problem_type != "binary_classification":
            raise ValueError("evaluate.costs is for binary_classification alone: set it to null")
        if self.evaluate.fairness and self.problem_type == "regression":
            raise ValueError(
                "evaluate.fairness compares who is chosen, and a regression chooses nobody: set it to null"
            )
        if self.train.class_weights and self.problem_type == "regression":
            raise ValueError("train.class_weights is for classification alone: set it to null")
        if self.train.class_weights and self.train.hyperparameters.scale_pos_weight is not None:
            raise ValueError("train.class_weights and scale_pos_weight both weigh the classes: remove one of them")
        if self.problem_type != "binary_classification" and self.train.hyperparameters.scale_pos_weight is not None:
            raise ValueError("train.hyperparameters.scale_pos_weight is for binary_classification alone: remove it")
        return self

    def _check_that_it_is_asked_for(self, name: str) -> None:
        """Raises ValueError when Evaluate computes the number only if a setting below `evaluate` asks for it."""
        wanted = self.evaluate
        for start, there, setting in (
            ("cost.", wanted.costs is not None, "evaluate.costs"),
            ("fairness.", wanted.fairness is not None, "evaluate.fairness"),
            ("slice.", name.startswith(tuple(f"slice.{column}." for column in wanted.slices)), "evaluate.slices"),
        ):
            if name.startswith(start) and not there:
                raise ValueError(f"gate.conditions: {name!r} is computed when {setting} asks for it: set that too")

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
