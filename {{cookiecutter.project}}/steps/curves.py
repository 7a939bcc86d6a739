"""What the report draws, and the curves of evaluation.json: binned or thinned, so that their size is bounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from estimates import defined, wilson
from metrics import Ranking, Scored, class_counts, rank

POINTS = 201
BINS = 40
OTHER = "(other)"
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def binary_curves(scored: Scored, costs: dict[str, float] | None) -> dict[str, Any]:
    """Everything drawn of a binary classifier. costs: false_positive and false_negative, or None."""
    actual, probability = scored["actual"], scored["probability"]
    ranking = rank(actual, probability)
    edges = np.linspace(0, 1, 21)
    thresholds = _thresholds(ranking, len(actual), costs)
    return {
        "roc": roc(ranking),
        "precision_recall": precision_recall(ranking),
        **calibration(actual == 1, probability),
        "confusion": confusion(scored, len(scored.classes)),
        "thresholds": thresholds,
        "scores": {
            "edges": edges.tolist(),
            "counts": {
                label: np.histogram(probability[actual == position], edges)[0].tolist()
                for position, label in enumerate(scored.classes)
            },
        },
        "costs": {**costs, **cost_of(scored, costs)} if costs else None,
    }


def roc(ranking: Ranking) -> dict[str, list[float | None]] | None:
    """The ROC curve from (0, 0) to (1, 1), the threshold falling; None with one class only."""
    positives, negatives = ranking.positives.sum(), ranking.negatives.sum()
    if not positives or not negatives:
        return None
    false_positives = np.concatenate([[0.0], np.cumsum(ranking.negatives[::-1]) / negatives])
    true_positives = np.concatenate([[0.0], np.cumsum(ranking.positives[::-1]) / positives])
    kept = _evenly(false_positives + true_positives)
    thresholds = [None, *(float(score) for score in ranking.scores[::-1])]
    return {
        "false_positive_rate": false_positives[kept].tolist(),
        "true_positive_rate": true_positives[kept].tolist(),
        "threshold": [thresholds[position] for position in kept],
    }


def precision_recall(ranking: Ranking) -> dict[str, Any] | None:
    """The precision-recall curve, the threshold falling; None with one class only."""
    positives, negatives = ranking.positives.sum(), ranking.negatives.sum()
    if not positives or not negatives:
        return None
    hits = np.cumsum(ranking.positives[::-1])
    selected = hits + np.cumsum(ranking.negatives[::-1])
    recall, precision = hits / positives, hits / selected
    kept = _evenly(recall + selected / (positives + negatives))
    return {
        "recall": recall[kept].tolist(),
        "precision": precision[kept].tolist(),
        "threshold": ranking.scores[::-1][kept].astype(float).tolist(),
        "positive_share": float(positives / (positives + negatives)),
    }


def calibration(happened: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    """Predicted against observed frequency in ten bins of equal width; the error is the bins' mean gap, by rows.

    happened: shape (rows,), bool. probability: that it happens, shape (rows,).
    """
    place = np.minimum((probability.astype(np.float64) * 10).astype(np.int64), 9)
    rows = np.bincount(place, minlength=10)
    predicted = np.bincount(place, weights=probability, minlength=10) / np.maximum(rows, 1)
    observed = np.bincount(place, weights=happened, minlength=10) / np.maximum(rows, 1)
    bins = []
    for position in np.flatnonzero(rows):
        lower, upper = wilson(float(observed[position]), int(rows[position]))
        bins.append(
            {
                "lower": position / 10,
                "upper": (position + 1) / 10,
                "rows": int(rows[position]),
                "predicted": float(predicted[position]),
                "observed": float(observed[position]),
                "observed_lower": lower,
                "observed_upper": upper,
            }
        )
    return {"calibration": bins, "calibration_error": float(rows @ np.abs(predicted - observed) / rows.sum())}


def confusion(scored: Scored, limit: int) -> dict[str, Any]:
    """Counts by actual (rows) and predicted class. Beyond `limit` classes the rarer ones are one, "(other)"."""
    counts = class_counts(scored)
    names = list(scored.classes)
    if len(names) > limit:
        kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: limit - 1])
        place = np.full(len(names), limit - 1)
        place[kept] = np.arange(limit - 1)
        folded = np.zeros((limit, limit), dtype=np.int64)
        np.add.at(folded, (place[:, None], place[None, :]), counts)
        counts, names = folded, [*(names[position] for position in kept), OTHER]
    return {"classes": names, "counts": counts.tolist()}


def cost_of(scored: Scored, costs: dict[str, float]) -> dict[str, float]:
    """Cost per row at the threshold 0.5, and at the cheapest one (1.01: nothing is positive)."""
    ranking, rows = rank(scored["actual"], scored["probability"]), len(scored)
    scores = np.concatenate([ranking.scores.astype(np.float64), [1.01]])
    spent = _cost(ranking, rows, costs)
    cheapest = int(spent.argmin())
    return {
        "per_row": float(spent[np.searchsorted(ranking.scores, np.float32(0.5))]),
        "best_threshold": float(scores[cheapest]),
        "best_per_row": float(spent[cheapest]),
    }


def multiclass_curves(scored: Scored) -> dict[str, Any]:
    """Everything drawn of a classifier of several classes."""
    counts = class_counts(scored)
    rows, predicted_rows, hits = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    per_class = []
    for position in np.argsort(-rows, kind="stable")[:100]:
        total = int(rows[position] + predicted_rows[position])
        recall = hits[position] / rows[position] if rows[position] else None
        lower, upper = wilson(recall, int(rows[position])) if recall is not None else (None, None)
        per_class.append(
            {
                "class": scored.classes[position],
                "rows": int(rows[position]),
                "predicted_rows": int(predicted_rows[position]),
                "precision": defined(hits[position] / predicted_rows[position]) if predicted_rows[position] else None,
                "recall": defined(recall),
                "recall_lower": defined(lower),
                "recall_upper": defined(upper),
                "f1": float(2 * hits[position] / total) if total else None,
            }
        )
    right = scored["actual"] == scored["predicted"]
    return {"confusion": confusion(scored, 30), "per_class": per_class, **calibration(right, scored["probability"])}


def regression_curves(scored: Scored) -> dict[str, Any]:
    """Everything drawn of a regression; errors are predicted minus actual, in the target's unit."""
    actual, predicted = (scored[name].astype(np.float64) for name in ("actual", "predicted"))
    errors = predicted - actual
    both = np.concatenate([actual, predicted])
    axis, error_axis = _edges(both), _edges(errors)
    density = np.histogram2d(np.clip(actual, axis[0], axis[-1]), np.clip(predicted, axis[0], axis[-1]), [axis, axis])[0]
    limits = np.unique(np.quantile(predicted, np.linspace(0, 1, 21)))
    place = np.clip(np.searchsorted(limits, predicted, side="right") - 1, 0, max(0, len(limits) - 2))
    by_prediction = []
    for position in np.unique(place):
        chosen = errors[place == position]
        shares = np.quantile(chosen, (0.05, 0.25, 0.5, 0.75, 0.95))
        by_prediction.append(
            {
                "lower": float(limits[position]),
                "upper": float(limits[min(position + 1, len(limits) - 1)]),
                "rows": len(chosen),
                "mean": float(chosen.mean()),
                **dict(zip(("p05", "p25", "p50", "p75", "p95"), shares.tolist(), strict=True)),
            }
        )
    quantiles = zip(QUANTILES, np.quantile(errors, QUANTILES), np.quantile(np.abs(errors), QUANTILES), strict=True)
    return {
        "predicted_actual": {"edges": axis.tolist(), "counts": density.astype(int).tolist()},
        "residuals": {
            "edges": error_axis.tolist(),
            "counts": np.histogram(np.clip(errors, error_axis[0], error_axis[-1]), error_axis)[0].tolist(),
        },
        "by_prediction": by_prediction,
        "error_quantiles": [
            {"quantile": share, "error": float(error), "absolute_error": float(absolute)}
            for share, error, absolute in quantiles
        ],
        "actual": _summary(actual),
        "predicted": _summary(predicted),
    }


def _thresholds(ranking: Ranking, rows: int, costs: dict[str, float] | None) -> list[dict[str, Any]]:
    """What each threshold from 0.00 to 1.00 gives: a row is positive from the threshold on."""
    hits, selected = _at_or_above(ranking.positives), _at_or_above(ranking.positives + ranking.negatives)
    spent = _cost(ranking, rows, costs) if costs else None
    positives = hits[0]
    found = []
    for threshold in (number / 100 for number in range(101)):
        place = int(np.searchsorted(ranking.scores, np.float32(threshold)))
        found.append(
            {
                "threshold": threshold,
                "precision": float(hits[place] / selected[place]) if selected[place] else None,
                "recall": float(hits[place] / positives) if positives else None,
                "f1": float(2 * hits[place] / (selected[place] + positives)) if selected[place] + positives else None,
                "selected": float(selected[place] / rows),
                "cost_per_row": None if spent is None else float(spent[place]),
            }
        )
    return found


def _at_or_above(counts: np.ndarray) -> np.ndarray:
    """How many rows lie in each group or a higher one; 0 after the last. Shape (groups + 1,)."""
    return np.concatenate([np.cumsum(counts[::-1])[::-1], [0.0]])


def _cost(ranking: Ranking, rows: int, costs: dict[str, float]) -> np.ndarray:
    """Cost per row when each group and the higher ones are positive, and when none is. Shape (groups + 1,)."""
    missed = ranking.positives.sum() - _at_or_above(ranking.positives)
    return (missed * costs["false_negative"] + _at_or_above(ranking.negatives) * costs["false_positive"]) / rows


def thinned(length: int) -> list[int]:
    """At most POINTS of the positions 0 to length - 1, first and last among them."""
    return np.unique(np.linspace(0, length - 1, POINTS).round().astype(int)).tolist()


def _evenly(travelled: np.ndarray) -> np.ndarray:
    """At most POINTS positions, first and last among them, about evenly along a rising measure of the way."""
    if len(travelled) <= POINTS:
        return np.arange(len(travelled))
    wanted = np.linspace(travelled[0], travelled[-1], POINTS)
    return np.unique(np.minimum(np.searchsorted(travelled, wanted), len(travelled) - 1))


def _edges(values: np.ndarray) -> np.ndarray:
    """The edges of BINS equal bins over all but the outer percent of the values."""
    lower, upper = np.quantile(values, (0.005, 0.995))
    if not lower < upper:
        margin = max(abs(lower), 1.0) / 2
        lower, upper = lower - margin, upper + margin
    return np.linspace(lower, upper, BINS + 1)


def _summary(values: np.ndarray) -> dict[str, float]:
    found = {"min": values.min(), "max": values.max(), "mean": values.mean(), "std": values.std()}
    return {name: float(value) for name, value in found.items()}
