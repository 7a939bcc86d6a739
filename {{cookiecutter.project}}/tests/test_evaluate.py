"""Evaluate: its numbers, its files, and what the gate says."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MAIN_METRICS, Run

import evaluate
import findings
import metrics
import quality_files
from comparison import Serving
from pipeline.metrics import METRICS

FILES = {"evaluation.json", "constraints.json", "gate.json", "report.html", "model_card.json", "explanations.json"}
FILES |= {"endpoint-rows.json"}
SERVING = Serving("prod", "arn:aws:sagemaker:eu-central-1:123456789012:model-package/demo-prod/1", "endpoint demo-prod")


def read(run: Run, name: str) -> dict[str, Any]:
    return json.loads((run.folder / "evaluation" / name).read_text(encoding="utf-8"))


def evaluate_again(run: Run, folder: Path, threshold: float = 0.5, **more: Any) -> dict[str, Any]:
    """gate.json of another evaluation of the finished run."""
    archive = more.pop("archive", run.folder / "model.tar.gz")
    settings = run.settings | {"gate": run.settings["gate"] | more.pop("gate", {})}
    execution = findings.Run(threshold)
    evaluate.evaluate(settings, archive, run.folder / "test", run.summary, folder, execution, more.pop("rival", None))
    return json.loads((folder / "gate.json").read_text(encoding="utf-8"))


def test_the_model_learns_from_mixed_columns(finished_run: Run) -> None:
    better_than = {"auc": 0.85, "accuracy": 0.65, "r2": 0.75}
    metric = MAIN_METRICS[finished_run.settings["problem_type"]]
    assert finished_run.metrics[metric] > better_than[metric]


def test_every_file_is_there(finished_run: Run) -> None:
    assert {path.name for path in (finished_run.folder / "evaluation").iterdir()} == FILES
    report = (finished_run.folder / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert report.lower().startswith("<!doctype html>")


def test_the_evaluation_has_model_monitors_shape(finished_run: Run) -> None:
    problem_type = finished_run.settings["problem_type"]
    written = read(finished_run, "evaluation.json")[f"{problem_type}_metrics"]
    for name in METRICS[problem_type]:
        assert written[name]["value"] == finished_run.metrics[name]
        interval = written[name]["confidence_interval"]
        assert interval["lower"] <= written[name]["value"] <= interval["upper"]
    assert read(finished_run, "constraints.json")[f"{problem_type}_constraints"] == {
        MAIN_METRICS[problem_type]: {"threshold": 0.5, "comparison_operator": "LessThanThreshold"}
    }


def test_a_metric_where_less_is_better_is_violated_from_above() -> None:
    gate = {"metric": "rmse", "higher_is_better": False}
    written = quality_files.constraints("regression", gate, 12.0)["regression_constraints"]
    assert written == {"rmse": {"threshold": 12.0, "comparison_operator": "GreaterThanThreshold"}}


def test_better_than_the_threshold_passes_and_worse_fails(finished_run: Run, tmp_path: Path) -> None:
    metric = MAIN_METRICS[finished_run.settings["problem_type"]]
    assert read(finished_run, "gate.json")["passed"] == 1
    failed = evaluate_again(finished_run, tmp_path, threshold=0.9999)
    assert failed["passed"] == 0
    assert f"{metric} is {finished_run.metrics[metric]:.6g}, must be at least 0.9999: FAILED" in failed["decision"]


def test_the_same_model_is_as_good_as_the_one_that_serves(finished_run: Run, tmp_path: Path) -> None:
    rival = evaluate.Rival(SERVING, finished_run.folder / "model.tar.gz")
    gate = evaluate_again(finished_run, tmp_path, rival=rival)
    assert (gate["passed"], gate["comparable"], gate["worse_by"]) == (1, 1, {"serving": 0.0})
    assert SERVING.version in gate["decision"]


def test_what_serves_but_cannot_be_compared_fails_unless_it_may_pass(finished_run: Run, tmp_path: Path) -> None:
    rival = evaluate.Rival(replace(SERVING, reason="gone"), reason="its model is gone")
    for incomparable, passed in (("fail", 0), ("pass", 1)):
        gate = evaluate_again(finished_run, tmp_path, gate={"incomparable": incomparable}, rival=rival)
        assert (gate["passed"], gate["comparable"]) == (passed, 0)
        assert "its model is gone" in gate["decision"]


def test_a_condition_must_name_a_number(finished_run: Run, tmp_path: Path) -> None:
    conditions = [{"metric": "slice.city.Ulmm.rows", "at_least": 1, "at_most": None}]
    with pytest.raises(evaluate.EvaluationError, match=r"which there is not: choose among .*slice\.city\.Ulm\.rows"):
        evaluate_again(finished_run, tmp_path, gate={"conditions": conditions})


def test_evaluating_what_is_no_model_says_so(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"no archive")
    with pytest.raises(evaluate.EvaluationError, match="not a model archive"):
        evaluate_again(finished_run, tmp_path, archive=tmp_path / "model.tar.gz")


def test_nothing_in_an_archive_leaves_the_folder(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "escaped").write_text("x")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "escaped", arcname="../../escaped")
    with pytest.raises(evaluate.EvaluationError, match="which lies outside of it"):
        evaluate_again(finished_run, tmp_path, archive=tmp_path / "model.tar.gz")


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn import metrics as reference

    random = np.random.default_rng(3)
    labels, scores = random.integers(0, 2, 300), random.random(300).round(1)  # rounded: many ties
    scored = metrics.Scored("binary_classification", ["no", "yes"], {"actual": labels, "probability": scores})
    ours = {name: estimate.value for name, estimate in metrics.measure(scored).items()}
    assert ours["auc"] == pytest.approx(reference.roc_auc_score(labels, scores))
    assert ours["au_prc"] == pytest.approx(reference.average_precision_score(labels, scores))
    assert ours["f1"] == pytest.approx(reference.f1_score(labels, scores >= 0.5))
    assert ours["precision"] == pytest.approx(reference.precision_score(labels, scores >= 0.5))
    values, guesses = random.normal(size=300), random.normal(size=300)
    scored = metrics.Scored("regression", [], {"actual": values, "predicted": guesses})
    ours = {name: estimate.value for name, estimate in metrics.measure(scored).items()}
    assert ours["r2"] == pytest.approx(reference.r2_score(values, guesses))
    assert ours["rmse"] == pytest.approx(reference.root_mean_squared_error(values, guesses))
