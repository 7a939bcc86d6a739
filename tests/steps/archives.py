"""Model archives with code of their own that answer by arithmetic, so that a test knows every prediction beforehand."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BINARY, MULTICLASS, REGRESSION = "binary_classification", "multiclass_classification", "regression"

# The probability of the second class, or the score, is the column `signal` plus SHIFT; of several classes each one's
# probability is its own column. The module `arithmetic` is one that our steps do not have.
INFERENCE = """
import csv, io, json
from pathlib import Path
import arithmetic
import pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq

def model_fn(folder):
    print("the archive's own words")
    return json.loads((Path(folder) / "code" / "transform.json").read_text())

def transform_fn(model, body, content_type, accept):
    parquet = "parquet" in content_type
    rows = pq.read_table(pa.BufferReader(body)) if parquet else pa.csv.read_csv(io.BytesIO(body.encode()))
    classes = [str(label) for label in model["classes"]]
    if "contributions" in accept:
        raise ValueError("no contributions here")
    if len(classes) > 2:
        shares = [rows.column("p_" + label).cast(pa.float64()).to_pylist() for label in classes]
        answers = []
        for values in zip(*shares):
            best = max(range(len(classes)), key=lambda k: values[k])
            answers.append({"predicted_label": classes[best], "probability": values[best],
                            "probabilities": dict(zip(classes, values))})
    else:
        values = arithmetic.shifted(rows.column("signal").cast(pa.float64()).to_pylist())
        if classes:
            answers = [{"predicted_label": classes[int(value >= 0.5)], "probability": value} for value in values]
        else:
            answers = [{"score": value} for value in values]
    if "json" in accept:
        return json.dumps({"predictions": answers}), "application/json"
    flat = [dict(answer) for answer in answers]
    for answer in flat:
        for label, value in answer.pop("probabilities", {}).items():
            answer["probability." + label] = value
    if "parquet" in accept:
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(flat), out)
        return out.getvalue(), accept
    lines = io.StringIO()
    csv.writer(lines).writerows(answer.values() for answer in flat)
    return lines.getvalue(), "text/csv"
"""
ARITHMETIC = "def shifted(values):\n    return [value + {shift} for value in values]\n"


def archive(
    path: Path,
    problem_type: str = BINARY,
    classes: list[Any] | None = None,
    shift: float = 0.0,
    target: str = "y",
    inference: str = INFERENCE,
    files: dict[str, str] | None = None,
    **transform: Any,
) -> Path:
    """Writes a model.tar.gz. files: further files, or others in the place of those that are there."""
    if classes is None:
        classes = [] if problem_type == REGRESSION else ["no", "yes"]
    taken = [f"p_{label}" for label in classes] if len(classes) > 2 else ["signal"]
    columns = [{"name": name, "kind": "number"} for name in taken]
    described = {"problem_type": problem_type, "target": target, "classes": classes, "columns": columns, "split": {}}
    contents = {
        "code/inference.py": inference,
        "code/arithmetic.py": ARITHMETIC.format(shift=shift),
        "code/transform.json": json.dumps(described | transform),
        **(files or {}),
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, text in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def write_test_part(folder: Path, table: pd.DataFrame, files: int = 1) -> Path:
    """Writes the test part as Preprocess does."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, piece in enumerate(np.array_split(np.arange(len(table)), files)):
        table.iloc[piece].to_parquet(folder / f"part-{number:05d}.parquet", index=False)
    return folder


def settings(problem_type: str = BINARY, metric: str | None = None, **changes: Any) -> dict[str, Any]:
    """What Evaluate reads from settings.json. changes: slices, fairness, costs, conditions, incomparable."""
    metric = metric or {BINARY: "auc", MULTICLASS: "accuracy", REGRESSION: "rmse"}[problem_type]
    gate = {"metric": metric, "higher_is_better": metric not in LOWER, "incomparable": "fail", "conditions": []}
    return {
        "project": "demo",
        "description": "Who leaves?",
        "problem_type": problem_type,
        "target": "y",
        "split": {"validation": 0.2, "test": 0.2},
        "gate": gate | {name: changes.pop(name) for name in ("incomparable", "conditions") if name in changes},
        "evaluate": {"slices": [], "fairness": None, "costs": None} | changes,
        "model_card": {"owner": "", "intended_uses": "", "caveats": "", "risk_rating": "Unknown"},
    }


LOWER = ("rmse", "mse", "mae", "median_absolute_error", "logloss", "brier")


def binary_table(rows: int = 400, seed: int = 3) -> pd.DataFrame:
    """A signal that says much about y, and columns to slice by."""
    random = np.random.default_rng(seed)
    signal = random.random(rows).round(3)
    return pd.DataFrame(
        {
            "signal": signal,
            "y": np.where(random.random(rows) < signal, "yes", "no"),
            "city": random.choice(["Ulm", "Köln", "<b>"], rows, p=[0.6, 0.3, 0.1]),
            "age": random.integers(18, 80, rows),
        }
    )
