"""The gate: what it says agrees with what the pipeline's conditions will find in gate.json."""

from __future__ import annotations

import math
from typing import Any

import gate
import pytest
from gate import Compared, GateError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.steps.template import pipeline_metrics

VERSION = "arn:aws:sagemaker:eu-central-1:123456789012:model-package/demo-prod/3"


def conditions_hold(
    written: dict[str, Any], rules: dict[str, Any], threshold: float, tolerance: float
) -> bool:  # as pipeline/quality.py compiles them
    holds = [
        written["metric"] >= threshold if rules["higher_is_better"] else written["metric"] <= threshold,
        written["worse_by"]["serving"] <= tolerance,
    ]
    if rules["incomparable"] == "fail":
        holds.append(written["comparable"] == 1)
    for number, condition in enumerate(rules["conditions"]):
        value = written["conditions"][f"c{number}"]
        floor = condition["at_least"]
        holds.append(value >= floor if floor is not None else value <= condition["at_most"])
    return all(holds)


def rules(metric: str = "auc", **changes: Any) -> dict[str, Any]:
    start = {"metric": metric, "higher_is_better": True, "incomparable": "fail", "conditions": []}
    return start | changes


def compared(ours: float, theirs: float, higher_is_better: bool = True, reason: str | None = None) -> Compared:
    if reason:
        return Compared(VERSION, "prod", None, 0.0, reason)
    return Compared(VERSION, "prod", theirs, gate.margin(ours, theirs, higher_is_better))


numbers = st.floats(-10, 10).map(lambda number: round(number, 2))


@given(
    value=numbers,
    threshold=numbers,
    tolerance=numbers.map(abs),
    serving=st.none() | numbers,
    reason=st.none() | st.just("a column is gone"),
    higher=st.booleans(),
    incomparable=st.sampled_from(["fail", "pass"]),
    bounds=st.lists(st.tuples(numbers, numbers, st.booleans()), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_what_is_said_is_what_the_pipeline_s_conditions_find(
    value: float,
    threshold: float,
    tolerance: float,
    serving: float | None,
    reason: str | None,
    higher: bool,
    incomparable: str,
    bounds: list[tuple[float, float, bool]],
) -> None:
    values = {"auc": value} | {f"n{place}": number for place, (number, _, _) in enumerate(bounds)}
    conditions = [
        {"metric": f"n{place}", "at_least": bound if floor else None, "at_most": None if floor else bound}
        for place, (_, bound, floor) in enumerate(bounds)
    ]
    wanted = rules(higher_is_better=higher, incomparable=incomparable, conditions=conditions)
    other = None if serving is None else compared(value, serving, higher, reason)
    decided = gate.decide(wanted, values, threshold, tolerance, other)
    written = decided["file"]
    assert bool(written["passed"]) == conditions_hold(written, wanted, threshold, tolerance)
    assert bool(written["passed"]) == all(check["passed"] for check in decided["checks"])
    assert written["decision"].startswith("the model passes" if written["passed"] else "the model fails")
    assert ("No model version was registered" in written["decision"]) == (not written["passed"])


@pytest.mark.parametrize(
    ("ours", "theirs", "higher", "passes"),
    [
        (0.90, 0.85, True, True),  # better
        (0.85, 0.90, True, False),  # worse
        (0.89, 0.90, True, True),  # exactly by the tolerance, although 0.90 - 0.89 is a little more in binary
        (0.889, 0.90, True, False),
        (10.01, 10.0, False, True),
        (10.02, 10.0, False, False),
        (9.0, 10.0, False, True),
    ],
)
def test_against_what_serves(ours: float, theirs: float, higher: bool, passes: bool) -> None:
    wanted, threshold = rules(higher_is_better=higher), 0.5 if higher else 50.0
    decided = gate.decide(wanted, {"auc": ours}, threshold, 0.01, compared(ours, theirs, higher))
    assert bool(decided["file"]["passed"]) == passes
    assert VERSION in decided["file"]["decision"]
    assert f"{theirs:.6g}" in decided["file"]["decision"]


def test_without_a_version_that_serves_the_threshold_decides() -> None:
    decided = gate.decide(rules(), {"auc": 0.9}, 0.8, 0.0, None)
    assert decided["file"]["worse_by"] == {"serving": 0.0}
    assert decided["file"]["comparable"] == 1
    assert decided["file"]["serving_version"] == "none"
    assert decided["file"]["passed"] == 1
    assert "no version serves" in decided["file"]["decision"]


@pytest.mark.parametrize(("incomparable", "passes"), [("fail", False), ("pass", True)])
def test_a_version_that_cannot_be_compared(incomparable: str, passes: bool) -> None:
    other = compared(0.9, 0.8, reason="it predicts 'old', this one 'y'")
    decided = gate.decide(rules(incomparable=incomparable), {"auc": 0.9}, 0.8, 0.0, other)
    assert decided["file"]["comparable"] == 0
    assert bool(decided["file"]["passed"]) == passes
    assert "it predicts 'old', this one 'y'" in decided["file"]["decision"]


def test_a_failed_gate_says_every_number_that_decided() -> None:
    conditions = [
        {"metric": "latency.one_row_ms", "at_least": None, "at_most": 5.0},
        {"metric": "recall", "at_least": 0.7, "at_most": None},
    ]
    values = {"auc": 0.81, "latency.one_row_ms": 7.25, "recall": 0.75}
    decided = gate.decide(rules(conditions=conditions), values, 0.85, 0.005, compared(0.81, 0.83))
    text = decided["file"]["decision"]
    for part in ("0.81", "0.85", "0.83", "worse by 0.02", "0.005", VERSION, "prod", "7.25", "at most 5", "0.75", "0.7"):
        assert part in text
    assert "fails 3 of 4 (auc, worse_by.serving, latency.one_row_ms)" in text


def test_the_text_fits_into_a_fail_step() -> None:
    conditions = [{"metric": f"slice.{'x' * 300}.{n}", "at_least": 1.0, "at_most": None} for n in range(20)]
    values = {"auc": 0.9} | {condition["metric"]: 0.5 for condition in conditions}
    assert len(gate.decide(rules(conditions=conditions), values, 0.8, 0.0, None)["file"]["decision"]) <= 3072


def test_a_number_that_there_is_not_is_refused_with_its_neighbours() -> None:
    values = {"auc": 0.9, "slice.city.Ulm.auc": 0.8, "latency.one_row_ms": 1.0}
    with pytest.raises(GateError, match=r"'slice.city.Ulmm.auc'.*choose among slice\.city\.Ulm\.auc"):
        gate.number(values, "slice.city.Ulmm.auc")
    with pytest.raises(GateError, match=r"choose among auc, latency\.one_row_ms"):
        gate.number(values, "zzz")


def test_an_undefined_number_is_refused() -> None:
    with pytest.raises(GateError, match="'recall', which is undefined on these test rows"):
        gate.number({"recall": math.nan}, "recall")


@pytest.mark.parametrize(
    ("name", "problem_type"),
    [
        ("auc", "binary_classification"),
        ("latency.one_row_ms", "regression"),
        ("slice.city.worst.auc", "binary_classification"),
        ("slice.a.b.c.mae", "regression"),
        ("slice.city.Ulm.rows", "multiclass_classification"),
        ("cost.per_row", "binary_classification"),
        ("fairness.selection_rate_ratio", "multiclass_classification"),
        ("fairness.male.true_positive_rate", "binary_classification"),
    ],
)
def test_the_settings_take_what_evaluate_may_compute(name: str, problem_type: str) -> None:
    pipeline_metrics().check_condition(name, problem_type)


@pytest.mark.parametrize(
    ("name", "problem_type", "message"),
    [
        ("aucc", "binary_classification", "choose auc"),
        ("auc", "regression", "not computed for regression"),
        ("latency.one_row", "regression", "latency.one_row_ms"),
        ("slice.city.worst.auc", "regression", "ends with no metric of regression"),
        ("slice.city.auc", "binary_classification", "slice.<column>"),
        ("cost.per_row", "multiclass_classification", "not computed"),
        ("fairness.selection_rate_ratio", "regression", "not computed"),
    ],
)
def test_the_settings_refuse_what_evaluate_cannot_compute(name: str, problem_type: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline_metrics().check_condition(name, problem_type)
