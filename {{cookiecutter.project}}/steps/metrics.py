"""How good predictions are: the metrics that evaluate.py computes, most under the names of SageMaker Model Monitor.

Source of the names: Amazon SageMaker developer guide, "Model quality metrics and Amazon CloudWatch monitoring".
Besides: balanced_accuracy (the mean recall of the classes), macro_f1, logloss, brier and median_absolute_error, as
scikit-learn defines them (brier of several classes: the sum over the classes, Brier, 1950).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estimates import UNDEFINED, Z95, Estimate, mean, ratio

BETAS = {"f0_5": 0.5, "f1": 1.0, "f2": 2.0}
SMALLEST = float(np.finfo(np.float32).eps)  # a probability of 0 counts as this in logloss, as in scikit-learn


@dataclass(frozen=True)
class Scored:
    """Rows with what is true and what a model predicts, as arrays of shape (rows,).

    binary_classification      actual (0 or 1), probability (of class 1)
    multiclass_classification  actual, predicted (positions in `classes`), probability (of the predicted class),
                               probability_of_actual, squares (the sum of the squared probabilities)
    regression                 actual, predicted (in the target's unit)
    """

    problem_type: str
    classes: list[str]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["actual"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def rows(self, chosen: np.ndarray) -> Scored:
        """Some of the rows. chosen: a mask of shape (rows,), or positions."""
        return Scored(self.problem_type, self.classes, {name: values[chosen] for name, values in self.columns.items()})

    @property
    def predicted(self) -> np.ndarray:
        """The predicted class or number; of two classes the second is predicted from a probability of 0.5 on."""
        if self.problem_type == "binary_classification":
            return (self["probability"] >= 0.5).astype(np.int8)
        return self["predicted"]


def measure(scored: Scored) -> dict[str, Estimate]:
    """Every metric of the problem type by name; none without rows. One that these rows do not allow is NaN."""
    if not len(scored):
        return {}
    return _MEASURE[scored.problem_type](scored)


def constant_classifier(scored: Scored) -> dict[str, Estimate]:
    """What the best prediction that is the same for every row would reach, under Model Monitor's names."""
    if scored.problem_type == "binary_classification":
        actual = scored["actual"] == 1
        both = [_decisions(actual, np.full(len(actual), always)) for always in (True, False)]
        names = ("accuracy", "precision", "recall", *BETAS)
        best = {name: max((found[name] for found in both), key=lambda it: it.value) for name in names}
    else:
        frequent = np.bincount(scored["actual"], minlength=len(scored.classes)).argmax()
        best = _class_decisions(scored["actual"], np.full(len(scored), frequent), len(scored.classes))
        best = {name: found for name, found in best.items() if name == "accuracy" or name.startswith("weighted_")}
    return {f"{name}_best_constant_classifier": found for name, found in best.items()}


def class_counts(scored: Scored) -> np.ndarray:
    """The confusion matrix: rows by actual and predicted class, shape (classes, classes)."""
    size = len(scored.classes)
    cells = scored["actual"].astype(np.int64) * size + scored.predicted.astype(np.int64)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


@dataclass(frozen=True)
class Ranking:
    """Binary predictions grouped by equal probability, in rising order. scores, positives, negatives: shape (groups,).

    group: the group of each row.
    """

    scores: np.ndarray
    group: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def rank(actual: np.ndarray, scores: np.ndarray) -> Ranking:
    """actual: 0 or 1, scores: shape (rows,)."""
    distinct, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    positives = np.bincount(group, weights=actual, minlength=len(distinct))
    return Ranking(distinct, group, positives, sizes - positives)


def area_under_roc(ranking: Ranking, actual: np.ndarray) -> Estimate:
    """By ranks, ties counted half (Hanley and McNeil, 1982); its influences are DeLong's structural components."""
    positives, negatives = ranking.positives.sum(), ranking.negatives.sum()
    if not positives or not negatives:
        return UNDEFINED
    lower_negatives = (np.cumsum(ranking.negatives) - ranking.negatives / 2) / negatives
    higher_positives = 1 - (np.cumsum(ranking.positives) - ranking.positives / 2) / positives
    value = float(ranking.positives @ lower_negatives / positives)
    components = np.where(
        actual == 1,
        (lower_negatives[ranking.group] - value) * (len(actual) / positives),
        (higher_positives[ranking.group] - value) * (len(actual) / negatives),
    )
    return Estimate(value, components, min(positives, negatives))


def average_precision(ranking: Ranking, actual: np.ndarray) -> Estimate:
    """The area under the precision-recall curve as the mean precision at each positive row (no interpolation)."""
    positives, rows = ranking.positives.sum(), len(actual)
    if not positives or positives == rows:
        return UNDEFINED
    selected = np.cumsum((ranking.positives + ranking.negatives)[::-1])[::-1]
    precision = np.cumsum(ranking.positives[::-1])[::-1] / selected
    value = float(ranking.positives @ precision / positives)
    # a row counts by its own precision, and changes that of all thresholds at or below its score
    gained = np.cumsum(ranking.positives / selected)
    diluted = np.cumsum(ranking.positives * precision / selected)
    influence = (actual * (precision + gained - value)[ranking.group] - diluted[ranking.group]) * (rows / positives)
    return Estimate(value, influence, positives)


def _binary(scored: Scored) -> dict[str, Estimate]:
    actual, probability = scored["actual"], scored["probability"].astype(np.float64)
    ranking = rank(actual, scored["probability"])
    decisions = _decisions(actual == 1, scored["probability"] >= 0.5)
    of_actual = np.where(actual == 1, probability, 1 - probability)
    return {
        "auc": area_under_roc(ranking, actual),
        "au_prc": average_precision(ranking, actual),
        **decisions,
        "logloss": mean(-np.log(np.clip(of_actual, SMALLEST, 1))),
        "brier": mean(np.square(1 - of_actual)),
    }


def _decisions(actual: np.ndarray, predicted: np.ndarray) -> dict[str, Estimate]:
    """actual, predicted: shape (rows,), bool. Precision is 0 when nothing is predicted positive."""
    hits = actual & predicted
    recall, true_negative_rate = ratio(hits, actual), ratio(~actual & ~predicted, ~actual)
    return {
        "accuracy": ratio(actual == predicted, np.ones(len(actual))),
        "balanced_accuracy": _mean_of([recall, true_negative_rate]),
        "precision": ratio(hits, predicted, when_empty=0.0),
        "recall": recall,
        "true_negative_rate": true_negative_rate,
        **{
            name: ratio((1 + beta**2) * hits, beta**2 * actual + 1.0 * predicted, when_empty=0.0)
            for name, beta in BETAS.items()
        },
    }


def _multiclass(scored: Scored) -> dict[str, Estimate]:
    of_actual = scored["probability_of_actual"].astype(np.float64)
    return {
        **_class_decisions(scored["actual"], scored["predicted"], len(scored.classes)),
        "logloss": mean(-np.log(np.clip(of_actual, SMALLEST, 1))),
        "brier": mean(scored["squares"] - 2 * of_actual + 1),
    }


def _class_decisions(actual: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Estimate]:
    """The metrics of decisions among several classes; weighted: by each class's share of the rows.

    A class that is never predicted has precision 0; balanced_accuracy leaves out classes without rows, macro_f1 those
    that are neither there nor predicted.
    """
    rows = len(actual)
    right = actual == predicted
    share = np.bincount(actual, minlength=classes) / rows
    predicted_share = np.bincount(predicted, minlength=classes) / rows
    hit_share = np.bincount(actual[right], minlength=classes) / rows
    precision, recall = _divide(hit_share, predicted_share), _divide(hit_share, share)
    accuracy = ratio(right, np.ones(rows))
    weighted_precision = float(share @ precision)
    occurring = int((share > 0).sum())
    found = {
        "accuracy": accuracy,
        "balanced_accuracy": Estimate(
            float(recall.sum() / occurring), (right - recall[actual]) / share[actual] / occurring, rows
        ),
        "weighted_precision": Estimate(
            weighted_precision,
            precision[actual]
            - weighted_precision
            + ((share / np.maximum(predicted_share, 1 / rows))[predicted] * (right - precision[predicted])),
            rows,
        ),
        "weighted_recall": accuracy,
    }
    for name, beta in BETAS.items():
        denominator = beta**2 * share + predicted_share
        f_beta = _divide((1 + beta**2) * hit_share, denominator)
        weighted = float(share @ f_beta)
        moves = _f_influence(actual, predicted, beta, f_beta, denominator, share)
        found[f"weighted_{name}"] = Estimate(weighted, f_beta[actual] - weighted + moves, rows)
        if name == "f1":
            counted = denominator > 0
            equal = counted / counted.sum()
            moves = _f_influence(actual, predicted, beta, f_beta, denominator, equal)
            found["macro_f1"] = Estimate(float(equal @ f_beta), moves, rows)
    return found


def _f_influence(
    actual: np.ndarray,
    predicted: np.ndarray,
    beta: float,
    f_beta: np.ndarray,
    denominator: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """How each row moves the sum of the classes' F values, weighed by fixed weights; shape (rows,)."""
    unit = _divide(weights, denominator)
    hit = np.where(actual == predicted, (1 + beta**2) * unit[actual], 0.0)
    return hit - beta**2 * (unit * f_beta)[actual] - (unit * f_beta)[predicted]


def _regression(scored: Scored) -> dict[str, Estimate]:
    actual = scored["actual"].astype(np.float64)
    errors = scored["predicted"].astype(np.float64) - actual
    mse = mean(np.square(errors))
    rmse = math.sqrt(mse.value)
    deviations = np.square(actual - actual.mean())
    spread = float(deviations.mean())
    unexplained = mse.value / spread if spread else math.nan
    return {
        "rmse": Estimate(rmse, mse.influence / (2 * rmse) if rmse else mse.influence, len(errors), "error"),
        "mse": mse,
        "mae": mean(np.abs(errors)),
        "median_absolute_error": _median(np.abs(errors)),
        "r2": Estimate(
            1 - unexplained, -(np.square(errors) - unexplained * deviations) / spread, len(errors), "at_most_one"
        )
        if spread
        else UNDEFINED,
    }


def _median(values: np.ndarray) -> Estimate:
    """Its influence needs the density at the median, here from the ranks that bound the median's 95 % interval."""
    rows = len(values)
    margin = Z95 * math.sqrt(rows) / 2
    ranks = sorted({max(0, math.floor(rows / 2 - margin)), min(rows - 1, math.ceil(rows / 2 + margin))})
    value = float(np.median(values))
    bounds = np.partition(values, ranks)[ranks]
    slope = float(bounds[-1] - bounds[0]) * rows / max(1, ranks[-1] - ranks[0])  # 1 / density
    return Estimate(value, np.where(values > value, 0.5, -0.5) * slope, rows, "error")


def _mean_of(parts: list[Estimate]) -> Estimate:
    if any(math.isnan(part.value) for part in parts):
        return UNDEFINED
    value = sum(part.value for part in parts) / len(parts)
    influence = sum(part.influence for part in parts) / len(parts)
    return Estimate(value, np.asarray(influence), min(part.support for part in parts))


def _divide(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Element by element; 0 where there is no whole."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)


_MEASURE = {
    "binary_classification": _binary,
    "multiclass_classification": _multiclass,
    "regression": _regression,
}
