"""The metrics that the gate may use; steps/metrics.py computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """higher_is_better: the gate's direction. lowest, highest: the range a threshold can lie in."""

    higher_is_better: bool
    lowest: float
    highest: float


SHARE = Metric(True, 0.0, 1.0)
ERROR = Metric(False, 0.0, math.inf)
METRICS: dict[str, dict[str, Metric]] = {
    "binary_classification": dict.fromkeys(("auc", "accuracy", "precision", "recall", "f1"), SHARE),
    "multiclass_classification": dict.fromkeys(
        ("accuracy", "weighted_precision", "weighted_recall", "weighted_f1"), SHARE
    ),
    "regression": {"rmse": ERROR, "mse": ERROR, "mae": ERROR, "r2": Metric(True, -math.inf, 1.0)},
}
