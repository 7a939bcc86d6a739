"""Puts together what the evaluation found: one plain dict, from which the report, the gate and the model card are made.

Its numbers are JSON's: None stands for what is undefined, and `notes` says why. What is drawn is binned or sampled, so
that the dict stays small whatever the number of rows.

project, description, problem_type, target, classes, created (UTC), rows (of the test part), notes
gate         passed, decision (the text), checks: [{name, kind, value, relation, bound, passed}]
metrics      the main one first: [{name, value, standard_deviation, lower, upper, higher_is_better, main}]
values       every number by the name that gate.conditions use:
             <metric>, test.rows, model.size_mb, latency.one_row_ms, latency.thousand_rows_ms, format.valid (1 or 0),
             slice.<column>.<value>.<metric or rows>, slice.<column>.worst.<metric> (of slices of 30 rows or more),
             fairness.selection_rate_ratio, fairness.equal_opportunity_difference,
             fairness.<value>.selection_rate, fairness.<value>.true_positive_rate (of two classes),
             cost.per_row (at the threshold 0.5), cost.best_per_row, cost.best_threshold
format_faults  sentences
serving      None, or stage, version, found, comparable, reason, note, metrics, differences (paired), worse_by,
             tolerance
binary | multiclass | regression   what curves.py makes; binary also serving_roc and serving_precision_recall
explanations   probes.explanations, or None
slices       [{column, values: [{value, rows, metrics}]}]
fairness     slices.fairness, or None
summary      Preprocess's summary.json
training     the training curve: metric, train, validation, rounds, best_round; or None
settings, lineage   for the record
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import curves
from comparison import Serving
from estimates import Estimate, defined, difference
from gate import Compared, decide, margin
from metrics import Scored, measure, rank
from scoring import Rows
from slices import fairness, fairness_values, group_rows, slice_metrics, worst
from transform import Transform, as_text

CURVES = {"binary_classification": "binary", "multiclass_classification": "multiclass", "regression": "regression"}


@dataclass(frozen=True)
class Run:
    """What belongs to one execution: the pipeline's parameters, and where the model comes from."""

    threshold: float
    tolerance: float = 0.0
    commit: str | None = None
    branch: str | None = None
    execution: str | None = None
    data_uri: str | None = None


@dataclass(frozen=True)
class Scores:
    """What the models answered.

    values: numbers that are no metrics: size, latency, format. rival, rival_split: of the version that serves, when it
    is comparable; otherwise not_comparable says why not. endpoint_rows: the file's content (probes.py).
    """

    candidate: Scored
    rows: Rows
    values: dict[str, float]
    format_faults: list[str]
    explanations: dict[str, Any] | None
    no_explanations: str | None
    rival: Scored | None = None
    rival_split: dict[str, Any] | None = None
    not_comparable: str | None = None
    endpoint_rows: dict[str, Any] = field(default_factory=dict)


def assemble(
    settings: dict[str, Any],
    transform: Transform,
    training: dict[str, Any],
    scores: Scores,
    estimates: dict[str, Estimate],
    summary: dict[str, Any],
    run: Run,
    serving: Serving | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the findings, and the content of gate.json. training: scoring.training_record. estimates:
    metrics.measure(scores.candidate).

    Raises GateError when a condition's number is unknown or undefined, FairnessError when the reference is no value.
    """
    candidate, wanted = scores.candidate, settings["evaluate"]
    main, higher = settings["gate"]["metric"], settings["gate"]["higher_is_better"]
    values: dict[str, float] = {name: estimate.value for name, estimate in estimates.items()} | scores.values
    notes = {}
    if scores.no_explanations:
        notes["explanations"] = scores.no_explanations
    drawn = _drawn(candidate, wanted["costs"])
    if candidate.problem_type == "binary_classification":
        if drawn["roc"] is None:
            notes["binary"] = "the test rows hold one class only: there is no curve"
        if drawn["costs"]:
            values |= {f"cost.{name}": drawn["costs"][name] for name in ("per_row", "best_per_row", "best_threshold")}
    sliced, slice_values = _slices(settings, transform, scores)
    values |= slice_values
    fair = None
    if wanted["fairness"]:
        column, reference = wanted["fairness"]["column"], wanted["fairness"]["reference"]
        groups = group_rows(scores.rows.kept[column], column, transform)
        fair = fairness(candidate, groups, column, None if reference is None else as_text(reference))
        values |= fairness_values(fair)
    compared, comparison = _compare(scores, estimates, serving, main, higher, run.tolerance, transform.split)
    if serving is None:
        notes["serving"] = "no version serves yet"
    if scores.rival is not None and candidate.problem_type == "binary_classification":
        ranking = rank(scores.rival["actual"], scores.rival["probability"])
        drawn |= {"serving_roc": curves.roc(ranking), "serving_precision_recall": curves.precision_recall(ranking)}
    decided = decide(settings["gate"], values, run.threshold, run.tolerance, compared)
    findings = {
        **{name: settings[name] for name in ("project", "description", "problem_type", "target")},
        "classes": candidate.classes,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rows": len(candidate),
        "notes": notes,
        "gate": {
            "passed": bool(decided["file"]["passed"]),
            "decision": decided["file"]["decision"],
            "checks": decided["checks"],
        },
        "metrics": _metric_list(estimates, main),
        "values": {name: defined(value) for name, value in values.items()},
        "format_faults": scores.format_faults,
        "serving": comparison,
        **{name: drawn if name == CURVES[candidate.problem_type] else None for name in CURVES.values()},
        "explanations": scores.explanations,
        "slices": sliced,
        "fairness": fair,
        "summary": summary,
        "training": _training_curve(training),
        "settings": {
            "split": settings["split"],
            "gate": {**settings["gate"], "threshold": run.threshold, "tolerance": run.tolerance},
            "evaluate": wanted,
            "model_card": settings["model_card"],
            "hyperparameters": training.get("hyperparameters", {}),
        },
        "lineage": {
            **{name: getattr(run, name) for name in ("commit", "branch", "execution", "data_uri")},
            "data_sha256": summary.get("data_sha256"),
        },
    }
    return findings, decided["file"]


def _drawn(scored: Scored, costs: dict[str, float] | None) -> dict[str, Any]:
    if scored.problem_type == "binary_classification":
        return {**curves.binary_curves(scored, costs), "serving_roc": None, "serving_precision_recall": None}
    if scored.problem_type == "multiclass_classification":
        return curves.multiclass_curves(scored)
    return curves.regression_curves(scored)


def _training_curve(training: dict[str, Any]) -> dict[str, Any] | None:
    if not training.get("validation"):
        return None
    rounds = curves.thinned(len(training["validation"]))
    return {
        "metric": training["metric"],
        "rounds": rounds,
        **{part: [defined(training[part][number]) for number in rounds] for part in ("train", "validation")},
        "best_round": training["best_round"],
    }


def _slices(
    settings: dict[str, Any], transform: Transform, scores: Scores
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    found, values = [], {}
    for column in dict.fromkeys(settings["evaluate"]["slices"]):
        parts = slice_metrics(scores.candidate, group_rows(scores.rows.kept[column], column, transform))
        for part in parts:
            start = f"slice.{column}.{part['value']}"
            values[f"{start}.rows"] = part["rows"]
            values |= {f"{start}.{metric}": estimate.value for metric, estimate in part["metrics"].items()}
        for metric in parts[0]["metrics"]:  # last: "worst" may be one of the column's values too
            values[f"slice.{column}.worst.{metric}"] = worst(parts, metric)
        shown = [
            {**part, "metrics": {metric: estimate.numbers() for metric, estimate in part["metrics"].items()}}
            for part in parts
        ]
        found.append({"column": column, "values": shown})
    return found, values


def _compare(
    scores: Scores,
    estimates: dict[str, Estimate],
    serving: Serving | None,
    main: str,
    higher: bool,
    tolerance: float,
    split: dict[str, Any],
) -> tuple[Compared | None, dict[str, Any] | None]:
    if serving is None:
        return None, None
    head = {"stage": serving.stage, "version": serving.version, "found": serving.found}
    others = measure(scores.rival) if scores.rival is not None else {}
    reason = scores.not_comparable
    if others and math.isnan(others[main].value):
        reason, others = f"its {main} is undefined on these rows", {}
    if not others:
        compared = Compared(serving.version, serving.stage, None, 0.0, reason)
        rest: dict[str, Any] = {
            "comparable": False,
            "reason": reason,
            "note": None,
            "metrics": [],
            "differences": [],
            "worse_by": None,
        }
        return compared, {**head, **rest, "tolerance": tolerance}
    worse_by = margin(estimates[main].value, others[main].value, higher)
    note = None
    if scores.rival_split != split:
        note = "this version was split differently: some of these test rows may have trained it, which flatters it"
    differences = [_difference(name, estimates[name], others[name]) for name in _ordered(estimates, main)]
    return Compared(serving.version, serving.stage, others[main].value, worse_by), {
        **head,
        "comparable": True,
        "reason": None,
        "note": note,
        "metrics": _metric_list(others, main),
        "differences": differences,
        "worse_by": worse_by,
        "tolerance": tolerance,
    }


def _difference(name: str, ours: Estimate, theirs: Estimate) -> dict[str, Any]:
    """better: None while the interval contains 0."""
    value, lower, upper = difference(ours, theirs)
    better = None
    if lower > 0 or upper < 0:
        better = (value > 0) == ours.higher_is_better
    return {"name": name, "value": defined(value), "lower": defined(lower), "upper": defined(upper), "better": better}


def _metric_list(estimates: dict[str, Estimate], main: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            **estimates[name].numbers(),
            "higher_is_better": estimates[name].higher_is_better,
            "main": name == main,
        }
        for name in _ordered(estimates, main)
    ]


def _ordered(estimates: dict[str, Estimate], main: str) -> list[str]:
    return [main, *(name for name in estimates if name != main)]
