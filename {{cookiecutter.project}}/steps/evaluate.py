"""Evaluate: scores the raw test rows through the model's own code, compares with what serves, and says all in numbers.

Outputs in one folder:
  evaluation.json    Model Monitor's model-quality statistics, with a confidence_interval beside each standard_deviation
  constraints.json   Model Monitor's constraints: the gate's threshold, as what a later monitor must find violated
  gate.json          what the pipeline's conditions compare (gate.py), and the decision in words
  report.html        for people; report.py renders it from `findings`, the plain dict that this module makes
  model_card.json    {"content": text}: SageMaker's model card (model_card.py)
  explanations.json  SHAP values in SageMaker Clarify's shape
  endpoint-rows.json some test rows with this model's answers, for the tests of its endpoint (probes.py)
"""

from __future__ import annotations

import argparse
import json
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3

import report
from comparison import ComparisonError, NotThere, Serving, download, find_serving
from findings import Run, Scores, assemble
from gate import GateError
from job import read_settings, run_step
from metrics import measure
from model_card import model_card
from probes import endpoint_rows, explanations, format_faults, latency
from quality_files import clarify_shape, constraints, evaluation
from scoring import Answers, Described, Model, ScoringError, describe, load_transform, score, training_record, unpack
from slices import FairnessError
from transform import ColumnError, Transform


class EvaluationError(ValueError):
    """The model, the test rows or the settings do not allow an evaluation."""


@dataclass(frozen=True)
class Rival:
    """The version that serves. archive: its model.tar.gz; None when there is none, and then `reason` says why."""

    serving: Serving
    archive: Path | None = None
    reason: str | None = None


def evaluate(
    settings: dict[str, Any],
    archive: Path,
    test: Path,
    summary: dict[str, Any],
    output: Path,
    run: Run,
    rival: Rival | None = None,
) -> dict[str, float]:
    """Does the whole step; returns every number by the name that the gate's conditions use (findings.py).

    settings: project, description, problem_type, target, split, gate (metric, higher_is_better, incomparable,
    conditions), evaluate (slices, fairness, costs), model_card. archive: model.tar.gz. test: the folder of raw rows.
    summary: Preprocess's summary.json. rival: what the model is compared with.
    Raises EvaluationError when the archive is no model or cannot score the test rows, the main metric or a condition's
    number is undefined on them, or a condition names no number.
    """
    try:
        with TemporaryDirectory() as folder:
            unpack(archive, Path(folder))
            transform, training = load_transform(Path(folder)), training_record(Path(folder))
            scores = _ask_models(settings, transform, Path(folder), archive, sorted(test.glob("*.parquet")), rival)
        estimates = measure(scores.candidate)
        main = settings["gate"]["metric"]
        if math.isnan(estimates[main].value):
            raise EvaluationError(
                f"{main} is undefined on the {len(scores.candidate)} test rows (they hold one class or one value "
                "only): provide more data, or raise split.test in settings.yaml"
            )
        serving = rival.serving if rival else None
        findings, gate_file = assemble(settings, transform, training, scores, estimates, summary, run, serving)
    except (ScoringError, ColumnError, GateError, FairnessError) as error:
        raise EvaluationError(str(error)) from error
    _write_json(output / "evaluation.json", evaluation(scores.candidate, estimates))
    _write_json(output / "constraints.json", constraints(settings["problem_type"], settings["gate"], run.threshold))
    _write_json(output / "gate.json", gate_file)
    _write_json(output / "model_card.json", {"content": model_card(findings)})
    _write_json(output / "explanations.json", clarify_shape(findings["explanations"]))
    _write_json(output / "endpoint-rows.json", scores.endpoint_rows)
    (output / "report.html").write_text(report.render(findings), encoding="utf-8")
    print(gate_file["decision"], flush=True)
    return {name: math.nan if value is None else value for name, value in findings["values"].items()}


def mismatch(ours: Described, theirs: Described) -> str | None:
    """Why two models do not answer the same question, or None when they do."""
    if ours.problem_type != theirs.problem_type:
        return f"it is a {theirs.problem_type}, this one a {ours.problem_type}"
    if ours.target != theirs.target:
        return f"it predicts {theirs.target!r}, this one {ours.target!r}"
    if set(ours.classes) != set(theirs.classes):
        return f"its classes are {_some(theirs.classes)}, this one's {_some(ours.classes)}"
    if ours.problem_type == "binary_classification" and ours.classes != theirs.classes:
        return f"its positive class is {theirs.classes[-1]!r}, this one's {ours.classes[-1]!r}"
    return None


def _ask_models(
    settings: dict[str, Any], transform: Transform, folder: Path, archive: Path, files: list[Path], rival: Rival | None
) -> Scores:
    wanted = settings["evaluate"]
    protected = [wanted["fairness"]["column"]] if wanted["fairness"] else []
    keep = list(dict.fromkeys([*wanted["slices"], *protected]))
    if not files:
        raise ScoringError("the test part has no file")
    with ExitStack() as stack:
        model = stack.enter_context(Model(folder))
        answers = [Answers(model, model.described.classes)]
        reason, other = None, None
        if rival is not None:
            try:
                other = _rival_model(stack, rival, model.described)
                other.wait_until_loaded()
                answers.append(Answers(other, model.described.classes))
            except ScoringError as error:
                reason, other = str(error), None
        model.wait_until_loaded()
        rows = score(files, transform, keep, answers)
        asked = rows.sample.select(transform.column_names)  # as callers do; others may not even fit into CSV
        values: dict[str, float] = {
            "test.rows": rows.rows,
            "model.size_mb": archive.stat().st_size / 1e6,
            **latency(model, asked),
        }
        faults = format_faults(model, asked)
        explained = no_explanations = None
        try:
            explained = explanations(model, transform, rows.sample)
        except ScoringError as error:
            no_explanations = str(error)
        second = answers[1] if other is not None else None
        if second is not None and second.error is not None:
            reason, second = f"it cannot score these test rows: {second.error}", None
        return Scores(
            candidate=answers[0].scored(),
            rows=rows,
            values={**values, "format.valid": float(not faults)},
            format_faults=faults,
            explanations=explained,
            no_explanations=no_explanations,
            rival=second.scored() if second else None,
            rival_split=second.model.described.split if second else None,
            not_comparable=reason,
            endpoint_rows=endpoint_rows(model, transform, asked),
        )


def _rival_model(stack: ExitStack, rival: Rival, ours: Described) -> Model:
    """The serving version's archive in its process. Raises ScoringError when it cannot be compared."""
    if rival.archive is None:
        raise ScoringError(rival.reason or "its model is not there")
    folder = Path(stack.enter_context(TemporaryDirectory()))
    unpack(rival.archive, folder)
    different = mismatch(ours, describe(folder))
    if different:
        raise ScoringError(different)
    return stack.enter_context(Model(folder))


def _some(labels: list[str]) -> str:
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")


def fetch_rival(region: str, project: str, stages: list[str], folder: Path) -> Rival | None:
    """What serves now, with its archive in `folder`; None when nothing does."""
    if not stages:
        return None
    serving = find_serving(boto3.client("sagemaker", region_name=region), project, stages)
    if serving is None or serving.model_data is None:
        return Rival(serving, reason=serving.reason) if serving else None
    archive = folder / "serving.tar.gz"
    try:
        download(boto3.client("s3", region_name=region), serving.model_data, archive)
    except NotThere as error:
        return Rival(serving, reason=str(error))
    return Rival(serving, archive)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Evaluate the model on the test rows")
    parser.add_argument("--model", type=Path, required=True, help="folder that holds model.tar.gz")
    parser.add_argument("--test", type=Path, required=True, help="folder of the raw test rows")
    parser.add_argument("--summary", type=Path, required=True, help="folder that holds Preprocess's summary.json")
    parser.add_argument("--evaluation", type=Path, required=True, help="output folder")
    parser.add_argument("--threshold", type=float, required=True, help="what the main metric must reach")
    parser.add_argument("--tolerance", type=float, required=True, help="how much worse than what serves it may be")
    parser.add_argument("--region", required=True, help="where to look for what serves")
    parser.add_argument("--compare-stages", default="", help="stages whose version is looked for, in order: prod,dev")
    parser.add_argument("--data-uri", help="where the data lies")
    parser.add_argument("--commit", help="the commit that trains")
    parser.add_argument("--branch", help="its branch")
    parser.add_argument("--execution", help="ARN of the pipeline execution")
    parser.add_argument("--message", type=Path, required=True, help="file for the reason of a failure")
    options = parser.parse_args(arguments)
    named = ("threshold", "tolerance", "commit", "branch", "execution", "data_uri")
    run = Run(**{name: getattr(options, name) for name in named})

    def step() -> None:
        settings = read_settings(__name__)
        summary = json.loads((options.summary / "summary.json").read_text(encoding="utf-8"))
        stages = [stage for stage in options.compare_stages.split(",") if stage]
        with TemporaryDirectory() as folder:
            rival = fetch_rival(options.region, settings["project"], stages, Path(folder))
            print(f"compared with: {rival.serving if rival else 'nothing, no version serves'}", flush=True)
            archive = options.model / "model.tar.gz"
            values = evaluate(settings, archive, options.test, summary, options.evaluation, run, rival)
        for name, value in values.items():
            print(f"{name}={value:.6g}", flush=True)

    return run_step(step, expected=(EvaluationError, ComparisonError), message_file=options.message)
