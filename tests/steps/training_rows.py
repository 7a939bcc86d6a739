"""What the tests of training share: transformed rows as Preprocess leaves them, and train.py as a job runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transform import Column, Transform

from tests.steps.conftest import STEPS

SETTINGS: dict[str, Any] = {"class_weights": None, "monotone": {}, "interactions": [], "external_memory": "auto"}
HYPERPARAMETERS: dict[str, Any] = {
    "num_round": 30, "early_stopping_rounds": 8, "seed": 3, "eta": 0.3, "max_depth": 4, "nthread": 1
}  # fmt: skip
RANDOM = {"subsample": 0.7, "colsample_bytree": 0.7, "colsample_bylevel": 0.8, "colsample_bynode": 0.8}
CLASSES: dict[str, list[Any]] = {
    "binary_classification": ["no", "yes"],
    "multiclass_classification": ["a", "b", "c"],
    "regression": [],
}
COLUMNS = [
    Column("size", "number"),
    Column("price[€]", "number"),  # XGBoost itself would refuse this name
    Column("city", "category", [f"city {number}" for number in range(12)]),
    Column("member", "boolean"),
    Column("joined", "date", parts=["year", "month", "age_days"], reference="2026-01-01T00:00:00"),
]


def write_channels(
    folder: Path, problem_type: str, rows: int = 3000, files: int = 2, seed: int = 1, missing: float = 0.05
) -> dict[str, Path]:
    """The channels train (four fifths of the rows), validation and transform, with row groups of 400 rows."""
    random = np.random.default_rng(seed)
    size, price = random.normal(size=rows), random.normal(size=rows)
    city, member = random.integers(0, 12, rows), random.integers(0, 2, rows)
    age = random.uniform(0, 3000, rows)
    signal = size + np.abs(price) + np.where(city % 3 == 0, 1.5, -0.5) + 0.5 * member - age / 1500
    noisy = signal + random.normal(0, 0.7, rows)
    classes = CLASSES[problem_type]
    cuts = {2: [0.7], 3: [0.0, 1.2]}.get(len(classes), [])
    target = np.digitize(noisy, cuts) if classes else 100 * noisy
    features = np.stack([size, price, city, member, 2026 - age // 365, age // 30 % 12, age]).T.astype(np.float32)
    features[random.random(features.shape) < missing] = np.nan
    train = int(rows * 0.8)
    counts = [int((target[:train] == number).sum()) for number in range(len(classes))]
    fitted = Transform(problem_type, "y", classes, COLUMNS, counts)
    channels = {name: folder / name for name in ("train", "validation", "transform")}
    for name, part in (("train", slice(0, train)), ("validation", slice(train, rows))):
        channels[name].mkdir(parents=True)
        for number, piece in enumerate(np.array_split(np.arange(rows)[part], files)):
            columns = {"y": target[piece].astype(np.float32)}
            columns |= {name: features[piece, index] for index, name in enumerate(fitted.feature_names)}
            pq.write_table(pa.table(columns), channels[name] / f"part-{number:05d}.parquet", row_group_size=400)
    channels["transform"].mkdir()
    fitted.save(channels["transform"] / "transform.json")
    return channels


def matrix(folder: Path, fitted: Transform) -> tuple[np.ndarray, np.ndarray]:
    """The features and labels of a channel."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted(folder.iterdir())])
    return np.stack([table.column(name).to_numpy() for name in fitted.feature_names]).T, table.column("y").to_numpy()


def start_job(
    folder: Path,
    channels: dict[str, Path],
    hyperparameters: dict[str, Any],
    settings: dict[str, Any] | None = None,
    arguments: tuple[str, ...] = (),
    hosts: tuple[list[str], str] = (["algo-1"], "algo-1"),
) -> subprocess.Popen[str]:
    """train.py in a process, as SageMaker's script mode starts it; its model goes to `folder`/model."""
    folder.mkdir(parents=True, exist_ok=True)
    code = folder / "code"
    if not code.is_dir():
        shutil.copytree(STEPS, code, ignore=shutil.ignore_patterns("__pycache__"))
    (code / "settings.json").write_text(json.dumps(settings or SETTINGS))
    names, current = hosts
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    environment |= {
        **{f"SM_CHANNEL_{name.upper()}": str(path) for name, path in channels.items()},
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_OUTPUT_DIR": str(folder / "output"),
        "SM_HOSTS": json.dumps(names),
        "SM_CURRENT_HOST": current,
        "SM_NUM_GPUS": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = [text for name, value in sorted(hyperparameters.items()) for text in (f"--{name}", str(value))]
    command = [sys.executable, str(code / "train.py"), *options, *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    )


def run_job(*arguments: Any, **options: Any) -> str:
    """As `start_job`, until its end. Returns the log; the job must succeed."""
    with start_job(*arguments, **options) as job:
        log, _ = job.communicate(timeout=60)
    assert job.returncode == 0, log
    return log
