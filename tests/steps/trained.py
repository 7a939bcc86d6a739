"""Real model archives: a booster trained here, with the serving code of the template."""

from __future__ import annotations

import ast
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xgboost
from transform import Column, Transform

from tests.steps.archives import BINARY, MULTICLASS, REGRESSION
from tests.steps.conftest import STEPS

OBJECTIVES = {BINARY: "binary:logistic", MULTICLASS: "multi:softprob", REGRESSION: "reg:squarederror"}


def train(problem_type: str, table: pd.DataFrame, columns: list[Column], classes: list[Any]) -> tuple[Any, Transform]:
    """A small booster on all columns of the table but y."""
    transform = Transform(problem_type, "y", classes, columns)
    rows = pa.Table.from_pandas(table, preserve_index=False)
    matrix = xgboost.DMatrix(
        transform.features(rows),
        label=transform.labels(rows.column("y")),
        feature_types=transform.feature_types,
        enable_categorical=True,
    )
    parameters = {"objective": OBJECTIVES[problem_type], "max_depth": 3, "seed": 1, "nthread": 2}
    if problem_type == MULTICLASS:
        parameters["num_class"] = len(classes)
    return xgboost.train(parameters, matrix, num_boost_round=20), transform


def save(path: Path, booster: xgboost.Booster, transform: Transform, scratch: Path) -> Path:
    """Writes the model.tar.gz with inference.py and every module that it imports."""
    transform.save(scratch / "transform.json")
    contents = {
        "xgboost-model": bytes(booster.save_raw("ubj")),
        "code/transform.json": (scratch / "transform.json").read_bytes(),
        "code/versions.json": json.dumps({"xgboost": xgboost.__version__}).encode(),
        **{f"code/{name}.py": (STEPS / f"{name}.py").read_bytes() for name in _modules("inference")},
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def mixed(problem_type: str, rows: int = 1500, seed: int = 0) -> tuple[pd.DataFrame, list[Column], list[Any]]:
    """Numbers, a category, a date and a column that says nothing."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 80, rows).astype(float),
            "city": random.choice(["Ulm", "Köln", 'say "hi", <b>'], rows),
            "joined": [f"{2000 + year}-03-0{1 + year % 9}" for year in random.integers(0, 20, rows)],
            "noise": random.normal(size=rows),
        }
    )
    table.loc[::7, "age"] = np.nan
    signal = (table["age"].fillna(50) - 50) / 10 + 2 * (table["city"] == "Ulm") + random.normal(0, 0.5, rows)
    table["y"] = {
        BINARY: np.where(signal > 0.5, "yes", "no"),
        MULTICLASS: np.select([signal < -1, signal < 1.5], ["low", "middle"], "high"),
        REGRESSION: signal,
    }[problem_type]
    columns = [
        Column("age", "number"),
        Column("city", "category", sorted(set(table["city"]))),
        Column("joined", "date", parts=["year", "month", "age_days"], reference="2020-01-01T00:00:00Z"),
        Column("noise", "number"),
    ]
    return table, columns, [] if problem_type == REGRESSION else sorted(set(table["y"]))


def _modules(entry: str) -> set[str]:
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found or not (STEPS / f"{name}.py").is_file():
            continue
        found.add(name)
        for node in ast.walk(ast.parse((STEPS / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting.append(node.module)
    return found
