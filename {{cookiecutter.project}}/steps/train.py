"""Train: XGBoost with early stopping on the validation part; writes the model as the XGBoost image serves it.

model.tar.gz: xgboost-model          the booster, cut at its best round (UBJSON)
              code/inference.py      how requests become predictions
              code/transform.py, code/transform.json   from raw columns to what the booster takes

Hyperparameters come as arguments (`--eta 0.1`), as SageMaker's script mode hands them over; num_round and
early_stopping_rounds are this script's, all others go to XGBoost as they are. Paths come from SM_* variables.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import xgboost

import inference
import transform
from job import run_step
from transform import Transform

# The last metric decides when to stop early. The names appear in the log, from where SageMaker reads them.
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


class TrainingError(ValueError):
    """A hyperparameter or an input that training cannot work with."""


def train(hyperparameters: dict[str, Any], channels: dict[str, Path], model_dir: Path) -> xgboost.Booster:
    """Trains, saves to `model_dir`, returns the booster.

    channels: folders train and validation (data.parquet, target first) and transform (transform.json).
    """
    fitted = Transform.load(channels["transform"] / "transform.json")
    parts = {part: load_part(channels[part], fitted) for part in ("train", "validation")}
    parameters = dict(hyperparameters)
    rounds, patience = int(parameters.pop("num_round")), int(parameters.pop("early_stopping_rounds"))
    parameters |= {
        "objective": OBJECTIVES[fitted.problem_type],
        "eval_metric": EVAL_METRICS[fitted.problem_type],
    }
    if fitted.problem_type == "multiclass_classification":
        parameters["num_class"] = len(fitted.classes)
    try:
        booster = xgboost.train(
            parameters,
            parts["train"],
            num_boost_round=rounds,
            evals=[(parts["train"], "train"), (parts["validation"], "validation")],
            early_stopping_rounds=patience,
            verbose_eval=True,
        )
    except xgboost.core.XGBoostError as error:
        raise TrainingError(f"XGBoost refused to train: {str(error).splitlines()[0]}") from error
    print(f"best round: {booster.best_iteration} of {rounds}", flush=True)
    save(booster[: booster.best_iteration + 1], channels["transform"] / "transform.json", model_dir)
    return booster


def load_part(folder: Path, fitted: Transform) -> xgboost.DMatrix:
    table = pd.read_parquet(folder / "data.parquet")
    return xgboost.DMatrix(
        table[fitted.feature_names].to_numpy(),
        label=table[fitted.target].to_numpy(),
        feature_types=fitted.feature_types,
        enable_categorical=True,
    )


def save(booster: xgboost.Booster, transform_file: Path, model_dir: Path) -> None:
    """Writes the model. Its root holds the booster alone: the image takes every file there for a model."""
    code = model_dir / "code"
    code.mkdir(parents=True, exist_ok=True)
    (model_dir / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    for module in (inference, transform):
        source = Path(str(module.__file__))
        shutil.copyfile(source, code / source.name)
    shutil.copyfile(transform_file, code / "transform.json")


def read_hyperparameters(arguments: list[str]) -> dict[str, Any]:
    """`--name value` pairs as a dict, numbers as numbers. Raises TrainingError when they are not pairs."""
    names, values = arguments[::2], arguments[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise TrainingError(f"hyperparameters must be pairs of --name value, not {' '.join(arguments)!r}")
    return {name.removeprefix("--"): _number_or_text(value) for name, value in zip(names, values, strict=True)}


def _number_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the model", allow_abbrev=False)
    for channel in ("train", "validation", "transform"):
        default = os.environ.get(f"SM_CHANNEL_{channel.upper()}", f"/opt/ml/input/data/{channel}")
        parser.add_argument(f"--{channel}", type=Path, default=Path(default), help=f"folder of the channel {channel}")
    parser.add_argument("--model-dir", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "/opt/ml/model")))
    output_dir = Path(os.environ.get("SM_OUTPUT_DIR", "/opt/ml/output"))
    options, rest = parser.parse_known_args(arguments)
    channels = {channel: getattr(options, channel) for channel in ("train", "validation", "transform")}

    def step() -> None:
        train(read_hyperparameters(rest), channels, options.model_dir)

    return run_step(step, expected=(TrainingError,), message_file=output_dir / "failure")


if __name__ == "__main__":
    raise SystemExit(main())
