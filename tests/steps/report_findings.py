"""Findings as Evaluate hands them to the report, made here without a model: full ones and degenerate ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Findings = dict[str, Any]
HIGHER = {"logloss": False, "brier": False, "rmse": False, "mse": False, "mae": False, "median_absolute_error": False}
NAMES = {
    "binary_classification": [
        *("auc", "au_prc", "accuracy", "balanced_accuracy", "precision", "recall", "true_negative_rate"),
        *("f1", "f0_5", "f2", "logloss", "brier"),
    ],
    "multiclass_classification": ["accuracy", "balanced_accuracy", "weighted_recall", "macro_f1", "logloss", "brier"],
    "regression": ["rmse", "mse", "mae", "median_absolute_error", "r2"],
}
PARTS = {"binary_classification": "binary", "multiclass_classification": "multiclass", "regression": "regression"}


def findings(problem_type: str, columns: Sequence[str] = (), classes: Sequence[str] = ()) -> Findings:
    """Findings in which every part is there."""
    columns = list(columns) or [
        "tenure_months",
        "monthly_charge",
        "country",
        "support_calls",
        "joined.age_days",
        "plan",
    ]
    if problem_type != "regression":
        classes = list(classes) or (
            ["no", "yes"] if problem_type.startswith("binary") else ["basic", "plus", "premium"]
        )
    metrics = [_metric(name, 0.86 - 0.013 * place, place == 0) for place, name in enumerate(NAMES[problem_type])]
    worse = [
        _metric(each["name"], each["value"] - (0.008 if each["higher_is_better"] else -0.008), each["main"])
        for each in metrics
    ]
    main = metrics[0]["name"]
    relation, bound = ("at least", 0.8) if metrics[0]["higher_is_better"] else ("at most", 0.9)
    found: Findings = {
        "project": "churn",
        "description": "Which customers leave within three months?",
        "problem_type": problem_type,
        "target": "churned",
        "classes": list(classes),
        "created": "2026-11-21T05:10:00+00:00",
        "rows": 20000,
        "notes": {},
        "gate": {
            "passed": True,
            "decision": f"{main} is 0.86, 0.008 better than the version serving in prod (tolerance 0.005).",
            "checks": [
                _check(main, "threshold", 0.86, relation, bound),
                _check("worse_by.serving", "comparison", -0.008, "at most", 0.005),
                _check("comparable", "comparison", 1, "at least", 1),
                _check("latency.one_row_ms", "condition", 0.7, "at most", 20),
                _check(f"slice.country.worst.{main}", "condition", 0.8541, relation, bound),
            ],
        },
        "metrics": metrics,
        "values": {main: 0.86, "model.size_mb": 1.234, "latency.one_row_ms": 0.71, "latency.thousand_rows_ms": 8.1234}
        | {"format.valid": 1, f"slice.country.worst.{main}": 0.8541, f"slice.country.DE.{main}": 0.87},
        "format_faults": [],
        "serving": {
            "stage": "prod",
            "version": "arn:aws:sagemaker:eu-central-1:123456789012:model-package/churn-prod/3",
            "found": "endpoint churn-prod",
            "comparable": True,
            "reason": None,
            "note": "this version was split differently: some of these test rows may have trained it",
            "metrics": worse,
            "differences": [
                _difference(name, gain, better)
                for name, gain, better in zip(
                    NAMES[problem_type], [0.008, -0.01, 0.002] * 4, [True, False, None] * 4, strict=False
                )
            ],
            "worse_by": -0.008,
            "tolerance": 0.005,
        },
        "binary": None,
        "multiclass": None,
        "regression": None,
        "explanations": explanations(columns, signed=not problem_type.startswith("multi")),
        "slices": [slice_of("country", ["DE", "FR", "(missing)", "(other)"], NAMES[problem_type])],
        "fairness": None if problem_type == "regression" else fairness(classes[-1]),
        "summary": summary(columns, classes),
        "training": {
            "metric": "logloss",
            "train": [0.6 * 0.97**each + 0.05 for each in range(100)],
            "validation": [0.6 * 0.96**each + 0.15 + 0.0006 * each for each in range(100)],
            "rounds": list(range(100)),
            "best_round": 71,
        },
        "settings": {
            "split": {"validation": 0.2, "test": 0.2, "seed": 0, "column": None},
            "gate": {"metric": main, "conditions": []},
            "model_card": {"owner": "", "risk_rating": "Unknown"},
            "hyperparameters": {"eta": 0.1, "max_depth": 4},
        },
        "lineage": {
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "branch": "dev",
            "execution": "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn-dev/execution/abcdefghijkl",
            "data_uri": "s3://artifacts/churn/data/",
            "data_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
    }
    detail = {"binary_classification": binary, "multiclass_classification": multiclass}
    part = PARTS[problem_type]
    found[part] = regression() if part == "regression" else detail[problem_type](list(classes))
    return found


def summary(columns: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Preprocess's summary.json."""
    counted = {"present": 59997, "missing": 3, "distinct": 97, "distinct_is_exact": True}
    number = {"kind": "number", **counted, "min": -1.5, "max": 1e6, "mean": 12.25, "standard_deviation": 3.0}
    category = {"kind": "category", **counted, "most_frequent": [{"value": "DE", "rows": 900}]}
    date = {"kind": "date", **counted, "distinct_is_exact": False, "min": "2020-01-01T00:00:00Z"}
    date["max"] = "2026-11-20T10:30:00Z"
    empty = {"kind": "empty", "present": 0, "missing": 60000, "distinct": 0, "distinct_is_exact": True}
    kinds = [number, category, date, empty]
    return {
        "rows": {
            "read": 100000,
            "without_target": 12,
            "train": 60000,
            "validation": 20000,
            "test": 20000,
            "duplicates": 2,
        },
        "columns": {name: kinds[place % 4] for place, name in enumerate(columns)},
        "target": category if classes else number,
        "classes": [
            {"label": label, "rows": 500, "train": 300, "validation": 100, "test": 100}
            | dict.fromkeys(("train_share", "validation_share", "test_share"), 1 / len(classes))
            for label in classes
        ],
        "split": {"by": "hash", "seed": 0, "columns": list(columns)},
        "warnings": ["file a.csv was read as cp1252"] * 14,
        "data_sha256": "0" * 64,
        "files": [f"part-{place}.csv" for place in range(20)],
    }


def _metric(name: str, value: float | None, main: bool) -> dict[str, Any]:
    bounds = (None, None, None) if value is None else (0.003, value - 0.006, value + 0.006)
    return {
        "name": name,
        "value": value,
        "standard_deviation": bounds[0],
        "lower": bounds[1],
        "upper": bounds[2],
        "higher_is_better": HIGHER.get(name, True),
        "main": main,
    }


def _difference(name: str, gain: float, better: bool | None) -> dict[str, Any]:
    value = gain if HIGHER.get(name, True) else -gain
    return {"name": name, "value": value, "lower": value - 0.006, "upper": value + 0.006, "better": better}


def _check(name: str, kind: str, value: float | None, relation: str, bound: float) -> dict[str, Any]:
    return {"name": name, "kind": kind, "value": value, "relation": relation, "bound": bound, "passed": True}


def calibration() -> list[dict[str, Any]]:
    return [
        {
            "lower": each / 10,
            "upper": (each + 1) / 10,
            "rows": 4000 - 380 * each,
            "predicted": each / 10 + 0.05,
            "observed": min(0.98, (each / 10 + 0.05) ** 1.1),
            "observed_lower": max(0.0, (each / 10 + 0.05) ** 1.1 - 0.02 - 0.004 * each),
            "observed_upper": min(1.0, (each / 10 + 0.05) ** 1.1 + 0.02 + 0.004 * each),
        }
        for each in range(10)
    ]


def binary(classes: list[str]) -> dict[str, Any]:
    grid = [each / 200 for each in range(201)]
    thresholds = [None, *(1 - each for each in grid[1:])]

    def roc(power: float) -> dict[str, Any]:
        return {
            "false_positive_rate": grid,
            "true_positive_rate": [each**power for each in grid],
            "threshold": thresholds,
        }

    def precision_recall(drop: float) -> dict[str, Any]:
        precision = [1 - drop * each**3 for each in grid]
        return {"recall": grid, "precision": precision, "threshold": thresholds, "positive_share": 0.2}

    return {
        "roc": roc(0.18),
        "precision_recall": precision_recall(0.8),
        "serving_roc": roc(0.25),
        "serving_precision_recall": precision_recall(0.9),
        "calibration": calibration(),
        "calibration_error": 0.0123,
        "confusion": {"classes": classes, "counts": [[15210, 790], [1203, 2797]]},
        "thresholds": [
            {
                "threshold": each / 100,
                "precision": None if each == 100 else 0.2 + 0.75 * each / 100,
                "recall": 1 - (each / 100) ** 2,
                "f1": None if each == 100 else 0.33 + 0.5 * (each / 100) * (1 - each / 100) * 2,
                "selected": 1 - (each / 100) ** 0.5,
                "cost_per_row": 0.22 + 0.8 * (each / 100 - 0.07) ** 2,
            }
            for each in range(101)
        ],
        "scores": {
            "edges": [each / 20 for each in range(21)],
            "counts": {
                classes[0]: [int(4000 * 0.75**each) for each in range(20)],
                classes[1]: [int(800 * 0.8 ** (19 - each)) for each in range(20)],
            },
        },
        "costs": {
            "false_positive": 1,
            "false_negative": 20,
            "per_row": 0.31,
            "best_threshold": 0.07,
            "best_per_row": 0.22,
        },
    }


def multiclass(classes: list[str]) -> dict[str, Any]:
    shown = classes if len(classes) <= 30 else [*classes[:29], "(other)"]
    return {
        "confusion": {
            "classes": shown,
            "counts": [
                [900 - 13 * i if i == j else max(0, 40 - 7 * abs(i - j)) for j in range(len(shown))]
                for i in range(len(shown))
            ],
        },
        "per_class": [
            {
                "class": name,
                "rows": 1000 - place,
                "predicted_rows": 990,
                "precision": 0.9,
                "recall": 0.88 - place / 300,
                "f1": 0.89,
                "recall_lower": 0.8 - place / 300,
                "recall_upper": 0.93 - place / 300,
            }
            for place, name in enumerate(classes[:100])
        ],
        "calibration": calibration()[3:],
        "calibration_error": 0.02,
    }


def regression() -> dict[str, Any]:
    random = np.random.default_rng(0)
    actual = random.normal(150, 40, 20000)
    predicted = 150 + 0.8 * (actual - 150) + random.normal(0, 15, actual.size)
    residuals = predicted - actual
    edges = np.linspace(*np.quantile(actual, [0.005, 0.995]), 41)
    clip = (edges[0], np.nextafter(edges[-1], 0))
    joint, _, _ = np.histogram2d(np.clip(actual, *clip), np.clip(predicted, *clip), bins=[edges, edges])
    own = np.linspace(*np.quantile(residuals, [0.005, 0.995]), 41)
    bins = np.array_split(np.argsort(predicted), 20)
    quantiles = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]

    def spread(rows: np.ndarray) -> dict[str, Any]:
        values = residuals[rows]
        ends = {"lower": float(predicted[rows].min()), "upper": float(predicted[rows].max()), "rows": len(rows)}
        parts = {f"p{each:02d}": float(np.quantile(values, each / 100)) for each in (5, 25, 50, 75, 95)}
        return {**ends, "mean": float(values.mean()), **parts}

    def summary(values: np.ndarray) -> dict[str, float]:
        return {name: float(getattr(values, name)()) for name in ("min", "max", "mean", "std")}

    return {
        "predicted_actual": {"edges": edges.tolist(), "counts": joint.astype(int).tolist()},
        "residuals": {
            "edges": own.tolist(),
            "counts": np.histogram(np.clip(residuals, own[0], own[-1]), own)[0].tolist(),
        },
        "by_prediction": [spread(rows) for rows in bins],
        "error_quantiles": [
            {
                "quantile": each,
                "error": float(np.quantile(residuals, each)),
                "absolute_error": float(np.quantile(np.abs(residuals), each)),
            }
            for each in quantiles
        ],
        "actual": summary(actual),
        "predicted": summary(predicted),
    }


def explanations(columns: Sequence[str], signed: bool) -> dict[str, Any]:
    random = np.random.default_rng(0)
    strength = [0.9 / (1 + place) for place in range(len(columns))]
    points = []
    for place, name in enumerate(columns[:20] if signed else []):
        ranks = random.uniform(0, 1, 500)
        sign = (1, -1)[place % 2]
        contributions = strength[place] * (sign * (ranks - 0.5) * 2 + random.normal(0, 0.3, 500))
        values = [None if place == 2 or each < 0.03 else round(float(each), 3) for each in ranks]
        points.append({"name": name, "contributions": contributions.round(5).tolist(), "values": values})
    return {
        "rows": 2000,
        "unit": "log-odds of yes" if signed else "log-odds (mean over the classes of the absolute value)",
        "columns": [
            {"name": name, "mean_absolute": each, "gain": None if place == 1 else each / 3}
            for place, (name, each) in enumerate(zip(columns, strength, strict=True))
        ],
        "points": points,
    }


def slice_of(column: str, values: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    def estimate(value: float | None) -> dict[str, float | None]:
        if value is None:
            return {"value": None, "lower": None, "upper": None}
        return {"value": value, "lower": value - 0.03, "upper": value + 0.02}

    return {
        "column": column,
        "values": [
            {
                "value": value,
                "rows": 9000 // (place + 1),
                "metrics": {name: estimate(None if value == "(missing)" else 0.87 - place / 200) for name in metrics},
            }
            for place, value in enumerate(values)
        ],
    }


def fairness(positive: str) -> dict[str, Any]:
    def group(value: str, rows: int, rate: float, counted: bool) -> dict[str, Any]:
        rates = {"selection_rate": rate, "selection_rate_lower": rate - 0.04, "selection_rate_upper": rate + 0.04}
        found = {"true_positive_rate": 0.7, "true_positive_rate_lower": 0.6, "true_positive_rate_upper": 0.8}
        ratio = rate / 0.4 if counted else None
        return {
            "value": value,
            "rows": rows,
            "counted": counted,
            "ratio": ratio,
            "positives": rows // 5,
            **rates,
            **found,
        }

    return {
        "column": "sex",
        "reference": "male",
        "reference_chosen": False,
        "classes": [
            {
                "class": positive,
                "reference": "male",
                "selection_rate_ratio": 0.82,
                "equal_opportunity_difference": 0.05,
                "groups": [
                    group("male", 10000, 0.4, True),
                    group("female", 9980, 0.328, True),
                    group("(missing)", 20, 0.2, False),
                ],
            }
        ],
    }


def undefined(found: Findings) -> Findings:
    """The same findings where nothing that may be undefined is defined."""
    reason = "the test rows hold one class only"
    empty = {
        "notes": {"metrics": reason, "curves": reason, PARTS[found["problem_type"]]: reason},
        "metrics": [
            {**metric, "value": None, "standard_deviation": None, "lower": None, "upper": None}
            for metric in found["metrics"]
        ],
        "serving": None,
        "binary": None,
        "multiclass": None,
        "regression": None,
        "explanations": None,
        "slices": [],
        "fairness": None,
        "summary": {},
        "training": None,
        "lineage": dict.fromkeys(found["lineage"]),
    }
    checks = [{**found["gate"]["checks"][0], "value": None, "passed": False}]
    return found | empty | {"gate": {"passed": False, "decision": f"nothing is defined: {reason}", "checks": checks}}
