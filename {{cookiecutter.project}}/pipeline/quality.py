"""The steps Evaluate and CheckQuality: the numbers, and the conditions that they must meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import sdk  # noqa: F401  before any sagemaker module

# isort: split
from sagemaker.core.workflow.conditions import (
    ConditionEquals,
    ConditionGreaterThanOrEqualTo,
    ConditionLessThanOrEqualTo,
)
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.steps import ProcessingStep

from pipeline.frame import Frame, output_of
from pipeline.stage_file import SERVED_FIRST
from pipeline.training import Training

EVALUATION = PropertyFile(name="Evaluation", output_name="evaluation", path="evaluation.json")
GATE = PropertyFile(name="Gate", output_name="evaluation", path="gate.json")
MODEL_CARD = PropertyFile(name="ModelCard", output_name="evaluation", path="model_card.json")


@dataclass(frozen=True)
class Evaluation:
    """The step Evaluate, and how others refer to what it found."""

    step: ProcessingStep
    problem_type: str

    @property
    def folder(self) -> Any:
        return output_of(self.step, "evaluation")

    def metric(self, name: str) -> JsonGet:
        return self._get(EVALUATION, f"{self.problem_type}_metrics.{name}.value")

    def gate(self, path: str) -> JsonGet:
        return self._get(GATE, path)

    @property
    def worse_by(self) -> JsonGet:
        return self.gate("worse_by.serving")

    @property
    def compared_version(self) -> JsonGet:
        return self.gate("serving_version")

    @property
    def model_card(self) -> JsonGet:
        return self._get(MODEL_CARD, "content")

    def _get(self, file: PropertyFile, path: str) -> JsonGet:
        return JsonGet(step_name=self.step.name, property_file=file, json_path=path)


def evaluation(frame: Frame, preprocess: ProcessingStep, trained: Training) -> Evaluation:
    """Never cached: what serves now changes without any change of code or data."""
    settings, commit = frame.settings, frame.commit
    serving = [stage for stage in SERVED_FIRST if stage in commit.stage_files.contents]
    step = frame.processing_step(
        "evaluate",
        settings.evaluate,
        inputs={
            "code": frame.s3(commit.archives.evaluate.key),
            "model": trained.model,
            "test": output_of(preprocess, "test"),
            "summary": output_of(preprocess, "summary"),
        },
        outputs=("evaluation",),
        arguments=[
            *("--threshold", frame.threshold.to_string()),
            *("--tolerance", frame.tolerance.to_string()),
            *("--region", settings.aws.region),
            *("--compare-stages", ",".join(serving)),
            *("--data-uri", frame.data_uri),
            *("--commit", commit.lineage.commit),
            *("--branch", commit.names.branch[:256]),
            *("--execution", ExecutionVariables.PIPELINE_EXECUTION_ARN),
        ],
        property_files=[EVALUATION, GATE, MODEL_CARD],
        cached=False,
    )
    return Evaluation(step, settings.problem_type)


def check_step(frame: Frame, quality: Evaluation, register: Any) -> ConditionStep:
    gate = frame.settings.gate
    at_least, at_most = ConditionGreaterThanOrEqualTo, ConditionLessThanOrEqualTo
    threshold = at_least if frame.settings.metric.higher_is_better else at_most
    conditions: list[Any] = [
        threshold(left=quality.metric(gate.metric), right=frame.threshold),
        at_most(left=quality.worse_by, right=frame.tolerance),
    ]
    if gate.incomparable == "fail":
        conditions.append(ConditionEquals(left=quality.gate("comparable"), right=1))
    for number, condition in enumerate(gate.conditions):
        value = quality.gate(f"conditions.c{number}")
        conditions.append(
            at_least(left=value, right=condition.at_least)
            if condition.at_least is not None
            else at_most(left=value, right=condition.at_most)
        )
    failed = FailStep(name="QualityNotMet", error_message=Join(on="", values=[quality.gate("decision")]))
    return ConditionStep(name="CheckQuality", conditions=conditions, if_steps=[register], else_steps=[failed])
