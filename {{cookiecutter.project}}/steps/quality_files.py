"""The evaluation's files in the shapes of SageMaker Model Monitor and SageMaker Clarify, which other tools read.

Source: Amazon SageMaker developer guide, "Model quality metrics and Amazon CloudWatch monitoring", and "Analysis
results" of Clarify's processing jobs.
"""

from __future__ import annotations

import math
from typing import Any

import curves
from estimates import LEVEL, Estimate, defined
from metrics import Scored, constant_classifier, rank

# Model Monitor gives no standard deviation below this number of rows
ROWS_FOR_DEVIATION = 200
MOST_CLASSES = 100  # in the confusion matrix; the others are one


def evaluation(scored: Scored, estimates: dict[str, Estimate]) -> dict[str, Any]:
    """Model Monitor's model-quality statistics. An undefined value is "NaN", as Model Monitor writes it."""
    known = dict(estimates)
    found: dict[str, Any] = {}
    if scored.problem_type != "regression":
        counts = curves.confusion(scored, MOST_CLASSES)
        found["confusion_matrix"] = {
            actual: dict(zip(counts["classes"], row, strict=True))
            for actual, row in zip(counts["classes"], counts["counts"], strict=True)
        }
        known |= constant_classifier(scored)
    if scored.problem_type == "binary_classification":
        recall, specificity = estimates["recall"], estimates["true_negative_rate"]
        known |= {
            "true_positive_rate": recall,
            "false_positive_rate": Estimate(1 - specificity.value, specificity.influence, specificity.support),
            "false_negative_rate": Estimate(1 - recall.value, recall.influence, recall.support),
        }
        ranking = rank(scored["actual"], scored["probability"])
        roc, precision_recall = curves.roc(ranking), curves.precision_recall(ranking)
        if roc and precision_recall:
            found["receiver_operating_characteristic_curve"] = {
                "false_positive_rates": roc["false_positive_rate"],
                "true_positive_rates": roc["true_positive_rate"],
            }
            found["precision_recall_curve"] = {
                "precisions": precision_recall["precision"],
                "recalls": precision_recall["recall"],
            }
    return {
        "version": 0,
        "dataset": {"item_count": len(scored)},
        f"{scored.problem_type}_metrics": {
            **{name: _statistics(estimate) for name, estimate in known.items()},
            **found,
        },
    }


def constraints(problem_type: str, gate: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Model Monitor's model-quality constraints: the gate's threshold, as what must not be passed."""
    operator = "LessThanThreshold" if gate["higher_is_better"] else "GreaterThanThreshold"
    return {
        "version": 0,
        f"{problem_type}_constraints": {gate["metric"]: {"threshold": threshold, "comparison_operator": operator}},
    }


def clarify_shape(explained: dict[str, Any] | None) -> dict[str, Any]:
    """SageMaker Clarify's analysis.json: the mean absolute SHAP value of each column (over the classes, of several)."""
    values = {column["name"]: column["mean_absolute"] for column in explained["columns"]} if explained else {}
    shap = {"label0": {"global_shap_values": values}} if values else {}
    return {"version": "1.0", "explanations": {"kernel_shap": shap}}


def _statistics(estimate: Estimate) -> dict[str, Any]:
    """value and standard_deviation as Model Monitor writes them, and our own confidence_interval."""
    lower, upper = (defined(bound) for bound in estimate.interval)
    enough = len(estimate.influence) >= ROWS_FOR_DEVIATION
    deviation = defined(estimate.standard_deviation) if enough else None
    found: dict[str, Any] = {
        "value": "NaN" if math.isnan(estimate.value) else estimate.value,
        "standard_deviation": "NaN" if deviation is None else deviation,
    }
    if lower is not None and upper is not None:
        found["confidence_interval"] = {"lower": lower, "upper": upper, "level": LEVEL}
    return found
