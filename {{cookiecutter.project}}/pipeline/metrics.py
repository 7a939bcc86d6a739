"""The numbers that the gate may use; steps/metrics.py and steps/evaluate.py compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Metric:
    """higher_is_better: the gate's direction. lowest, highest: the range a threshold can lie in."""

    higher_is_better: bool
    lowest: float
    highest: float


SHARE = Metric(True, 0.0, 1.0)
ERROR = Metric(False, 0.0, math.inf)
METRICS: dict[str, dict[str, Metric]] = {
    "binary_classification": {
        **dict.fromkeys(("auc", "au_prc", "accuracy", "balanced_accuracy", "precision", "recall"), SHARE),
        **dict.fromkeys(("true_negative_rate", "f0_5", "f1", "f2"), SHARE),
        "logloss": ERROR,
        "brier": Metric(False, 0.0, 1.0),
    },
    "multiclass_classification": {
        **dict.fromkeys(("accuracy", "balanced_accuracy", "weighted_precision", "weighted_recall"), SHARE),
        **dict.fromkeys(("weighted_f0_5", "weighted_f1", "weighted_f2", "macro_f1"), SHARE),
        "logloss": ERROR,
        "brier": Metric(False, 0.0, 2.0),
    },
    "regression": {
        **dict.fromkeys(("rmse", "mse", "mae", "median_absolute_error"), ERROR),
        "r2": Metric(True, -math.inf, 1.0),
    },
}
# What conditions can name besides: whatever the problem type, and what needs a setting below `evaluate`.
ALWAYS = ("test.rows", "model.size_mb", "latency.one_row_ms", "latency.thousand_rows_ms", "format.valid")
COSTS = ("cost.per_row", "cost.best_per_row", "cost.best_threshold")
FAIRNESS = ("fairness.selection_rate_ratio", "fairness.equal_opportunity_difference")


def check_condition(name: str, problem_type: str) -> None:
    """Raises ValueError when Evaluate could not compute a number of that name, whatever the data.

    Slices (slice.<column>.<value>.<metric>, slice.<column>.worst.<metric>) and groups (fairness.<value>.selection_rate
    or .true_positive_rate) are known once the data is: of them only the end is checked here, by Evaluate the rest.
    """
    metrics = tuple(METRICS[problem_type])
    if name.startswith("slice.") and name.count(".") >= 3:
        if any(name.endswith(f".{known}") for known in (*metrics, "rows")):
            return
        metric = name.rpartition(".")[2]
        raise ValueError(
            f"gate.conditions: {name!r} ends with no metric of {problem_type}: end it with "
            f"{_choices(metric, metrics)}, as in slice.<column>.worst.{metrics[0]}"
        )
    group = name.startswith("fairness.") and name.endswith((".selection_rate", ".true_positive_rate"))
    if group and problem_type == "binary_classification":
        return
    known = (*metrics, *ALWAYS)
    known += COSTS if problem_type == "binary_classification" else ()
    known += FAIRNESS if problem_type != "regression" else ()
    if name not in known:
        raise ValueError(
            f"gate.conditions: {name!r} is not computed for {problem_type}: choose {_choices(name, known)}, "
            "or slice.<column>.<value>.<metric>, or slice.<column>.worst.<metric>"
        )


def _choices(name: str, known: tuple[str, ...]) -> str:
    """The names that are near, else all."""
    return " or ".join(get_close_matches(name, known)) or ", ".join(known)
