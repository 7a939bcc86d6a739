"""The metrics that evaluate.py computes, under the names of SageMaker Model Monitor.

Source of the names: Amazon SageMaker developer guide, "Model quality metrics and Amazon CloudWatch monitoring".
"""

from __future__ import annotations

import math

import numpy as np


def binary_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """labels: 0 or 1, shape (rows,). probabilities: of class 1, shape (rows,). A class is predicted from 0.5 on.

    auc is the area under the ROC curve by ranks (Hanley and McNeil, 1982), ties counted half; NaN with one class only.
    precision is 0 when nothing was predicted positive, recall and f1 are 0 likewise.
    """
    predicted = probabilities >= 0.5
    positive = labels == 1
    hits = float((predicted & positive).sum())
    precision = _ratio(hits, float(predicted.sum()))
    recall = _ratio(hits, float(positive.sum()))
    return {
        "auc": _auc(positive, probabilities),
        "accuracy": float((predicted == positive).mean()),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
    }


def multiclass_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """labels: positions of classes, shape (rows,). probabilities: shape (rows, classes). Weights: each class's rows."""
    predicted = probabilities.argmax(axis=1)
    weighted = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    for label in range(probabilities.shape[1]):
        actual = labels == label
        hits = float((actual & (predicted == label)).sum())
        precision = _ratio(hits, float((predicted == label).sum()))
        recall = _ratio(hits, float(actual.sum()))
        f1 = _ratio(2 * precision * recall, precision + recall)
        share = float(actual.mean())
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            weighted[name] += share * value
    return {"accuracy": float((predicted == labels).mean())} | {f"weighted_{k}": v for k, v in weighted.items()}


def regression_metrics(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """labels, predictions: shape (rows,), in the target's unit. r2 is NaN when all labels are equal."""
    errors = predictions - labels
    mse = float(np.mean(errors**2))
    spread = float(np.mean((labels - labels.mean()) ** 2))
    return {
        "rmse": math.sqrt(mse),
        "mse": mse,
        "mae": float(np.mean(np.abs(errors))),
        "r2": 1 - mse / spread if spread else math.nan,
    }


COMPUTE = {
    "binary_classification": binary_metrics,
    "multiclass_classification": multiclass_metrics,
    "regression": regression_metrics,
}


def _auc(positive: np.ndarray, scores: np.ndarray) -> float:
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return math.nan
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]  # the mean rank of equal scores
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
