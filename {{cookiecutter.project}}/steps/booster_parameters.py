"""What XGBoost is told: parameters and constraints from hyperparameters and settings, and the weights of the classes.

Constraints name raw columns; XGBoost knows features by their position (its own names forbid [, ] and <).
Source of all parameters: https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transform import Transform, as_text

# The last metric decides when to stop early: less of it is better, in all three. The names appear in the log, from
# where SageMaker reads them (pipeline/training.py).
EVAL_METRICS = {
    "binary_classification": ["auc", "logloss"],
    "multiclass_classification": ["merror", "mlogloss"],
    "regression": ["mae", "rmse"],
}
OBJECTIVES = {
    "binary_classification": "binary:logistic",
    "multiclass_classification": "multi:softprob",
    "regression": "reg:squarederror",
}
# Another value of these would break what the other modules rest on: probabilities as answers, rounds that can be cut
# off, a training that can go on from a checkpoint.
FIXED = {
    "booster": "gbtree",
    "tree_method": "hist",
    "process_type": "default",
    "seed_per_iteration": True,
}
DECIDED_HERE = (
    *FIXED,
    *("objective", "num_class", "eval_metric", "disable_default_eval_metric", "device", "updater"),
    *("monotone_constraints", "interaction_constraints"),
)
# In a date, what only grows with it; month, day, weekday and hour come again and cannot be held to a direction.
GROWING_DATE_PARTS = {"year": 1, "age_days": -1}
DIRECTIONS = {"increasing": 1, "decreasing": -1}


class TrainingError(ValueError):
    """A hyperparameter, a setting or an input that training cannot work with."""


def booster_parameters(
    hyperparameters: dict[str, Any], settings: dict[str, Any], fitted: Transform, device: str
) -> dict[str, Any]:
    """All parameters of the booster.

    hyperparameters: XGBoost's own, by name. settings: {monotone, interactions}. device: cpu or cuda.
    Raises TrainingError for a hyperparameter that is decided here, or a column that cannot be constrained.
    """
    taken = [name for name in hyperparameters if name in DECIDED_HERE]
    if taken:
        raise TrainingError(
            f"the hyperparameter {taken[0]!r} is set by steps/booster_parameters.py: remove it from settings.yaml"
        )
    parameters = {
        **hyperparameters,
        **FIXED,
        "device": device,
        "objective": OBJECTIVES[fitted.problem_type],
        "eval_metric": EVAL_METRICS[fitted.problem_type],
    }
    if fitted.problem_type == "multiclass_classification":
        parameters["num_class"] = len(fitted.classes)
    if settings["monotone"]:
        directions = monotone_directions(settings["monotone"], fitted)
        parameters["monotone_constraints"] = f"({','.join(map(str, directions))})"
    if settings["interactions"]:
        parameters["interaction_constraints"] = str(interaction_groups(settings["interactions"], fitted))
    return parameters


def monotone_directions(monotone: dict[str, str], fitted: Transform) -> list[int]:
    """For each feature 1 (the prediction may only rise with it), -1 (only fall) or 0. Raises TrainingError."""
    _check_columns("train.monotone", list(monotone), fitted)
    directions = [0] * len(fitted.feature_names)
    for column in fitted.columns:
        if column.name not in monotone:
            continue
        if column.kind == "category":
            raise TrainingError(
                f"train.monotone: {column.name!r} holds categories, which have no order: remove it there, or "
                "turn its values into numbers"
            )
        for position in _positions(column.name, fitted):
            # features of a date are named <column>.<part>
            part = fitted.feature_names[position].removeprefix(f"{column.name}.")
            sign = GROWING_DATE_PARTS.get(part, 0) if column.kind == "date" else 1
            directions[position] = sign * DIRECTIONS[monotone[column.name]]
    return directions


def interaction_groups(interactions: list[list[str]], fitted: Transform) -> list[list[int]]:
    """The positions of the features that may act together; the features of one column always may."""
    for group in interactions:
        _check_columns("train.interactions", group, fitted)
    named = {name for group in interactions for name in group}
    groups = [*interactions, *([name] for name in fitted.column_names if name not in named)]
    return [[position for name in group for position in _positions(name, fitted)] for group in groups]


def class_weights(setting: str | dict[str, float] | None, fitted: Transform) -> np.ndarray | None:
    """The weight of each class's rows, in the order of `classes`; None: all rows count the same.

    setting: "balanced" (rows / (classes * rows of the class), so that every class weighs the same in all), or weights
    by label, where a label that is not named weighs 1. Raises TrainingError for a label that is no class.
    """
    if setting is None:
        return None
    if not fitted.classes:
        raise TrainingError("train.class_weights is for classification alone: set it to null")
    if isinstance(setting, str):  # balanced
        rows = np.array(fitted.class_rows, dtype=np.float64)
        return rows.sum() / (len(rows) * rows)
    labels = [as_text(label) for label in fitted.classes]
    given = {as_text(label): float(weight) for label, weight in setting.items()}
    for label in given:
        if label not in labels:
            quoted = " (YAML takes yes, no, on and off for true and false: put them in quotes)"
            raise TrainingError(
                f"train.class_weights: {label!r} is none of the classes {_listed(labels)}: correct it"
                f"{quoted if label in ('true', 'false') else ''}"
            )
    return np.array([given.get(label, 1.0) for label in labels])


def _positions(column: str, fitted: Transform) -> list[int]:
    return [position for position, source in enumerate(fitted.sources) if source == column]


def _check_columns(setting: str, names: list[str], fitted: Transform) -> None:
    for name in names:
        if name not in fitted.column_names:
            raise TrainingError(
                f"{setting}: {name!r} is no column that the model sees (those are {_listed(fitted.column_names)}): "
                "correct the name, or remove it"
            )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
