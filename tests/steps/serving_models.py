"""Model archives to ask: trained on random features in a moment, of whatever columns a test needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from transform import Column, Transform

CLASSES: dict[str, list[Any]] = {
    "binary_classification": ["no", "yes"],
    "multiclass_classification": ["basic", "plus", "premium, the best"],
    "regression": [],
}
OBJECTIVES = {
    "binary_classification": "binary:logistic",
    "multiclass_classification": "multi:softprob",
    "regression": "reg:squarederror",
}
# Every kind of column, with awkward names and values.
COLUMNS = [
    Column("age", "number"),
    Column("city", "category", ["5", "Köln", "New York, NY", "Ulm", "true"], other=True),
    Column("member", "boolean"),
    Column("joined", "date", parts=["year", "month", "weekday", "hour", "age_days"], reference="2026-11-21T00:00:00Z"),
    Column("plan, old", "category", ["1.50", "A", "B", "null and void"]),
    Column("left", "date", format="%d/%m/%Y", parts=["day", "age_days"], reference="2026-01-01T00:00:00Z"),
    Column("nothing", "empty"),
]


def make_transform(problem_type: str = "binary_classification", columns: list[Column] | None = None) -> Transform:
    return Transform(problem_type, "target", CLASSES[problem_type], columns or COLUMNS, missing=["unknown", "-999"])


def train_booster(transform: Transform, rows: int = 3_000, rounds: int = 12) -> xgboost.Booster:
    """Trees that split at every feature, at values and at what is missing."""
    random = np.random.default_rng(0)
    features = random.normal(0, 30, (rows, len(transform.feature_names))).astype(np.float32)
    columns = {column.name: column for column in transform.columns}
    for position, (source, kind) in enumerate(zip(transform.sources, transform.feature_types, strict=True)):
        if kind == "c":
            column = columns[source]
            features[:, position] = random.integers(0, len(column.categories) + column.other, rows)
        elif kind == "i":
            features[:, position] = random.random(rows) < 0.5
    features[random.random(features.shape) < 0.1] = np.nan
    weights = random.normal(size=features.shape[1])
    signal = np.nan_to_num(features / 30) @ weights + random.normal(0, 0.1, rows)
    for position, kind in enumerate(transform.feature_types):
        if kind == "c":
            signal += random.normal(0, 2, 300)[np.nan_to_num(features[:, position], nan=299).astype(int)]
    count = len(transform.classes)
    labels = signal if not count else np.searchsorted(np.quantile(signal, np.arange(1, count) / count), signal)
    matrix = xgboost.DMatrix(features, labels, feature_types=transform.feature_types, enable_categorical=True)
    parameters: dict[str, Any] = {
        "objective": OBJECTIVES[transform.problem_type],
        "max_depth": 5,
        "nthread": 1,
        "seed": 1,
    }
    if transform.problem_type == "multiclass_classification":
        parameters["num_class"] = count
    return xgboost.train(parameters, matrix, rounds)


def write_archive(folder: Path, transform: Transform, booster: xgboost.Booster) -> Path:
    """The files of model.tar.gz, but for the code."""
    (folder / "code").mkdir(parents=True)
    (folder / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    transform.save(folder / "code" / "transform.json")
    versions = {"python": "3.12.0", "xgboost": xgboost.__version__, "numpy": "2.1.0"}
    (folder / "code" / "versions.json").write_text(json.dumps(versions))
    return folder
