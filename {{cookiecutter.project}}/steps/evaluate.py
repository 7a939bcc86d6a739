"""Evaluate: scores the raw test rows through the model's own inference code and writes its quality.

Outputs in one folder, both in the shape of SageMaker Model Monitor's model-quality files:
  evaluation.json    {"<problem>_metrics": {"auc": {"value": 0.98, "standard_deviation": "NaN"}, ...}}
  constraints.json   {"<problem>_constraints": {"auc": {"threshold": 0.9, "comparison_operator": "LessThanThreshold"}}}:
                     what a later monitor must find violated
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pandas as pd

from job import read_settings, run_step
from metrics import COMPUTE


class EvaluationError(ValueError):
    """The model or the test rows do not allow an evaluation."""


def evaluate(
    settings: dict[str, Any], model_archive: Path, test: Path, output: Path, threshold: float
) -> dict[str, float]:
    """Does the whole step; returns the metrics by name.

    settings: what this step reads: problem_type, and the gate's metric and whether higher_is_better.
    Raises EvaluationError when the archive is no model, or the main metric is undefined on these test rows.
    """
    problem_type, gate = settings["problem_type"], settings["gate"]
    main_metric = gate["metric"]
    rows = pd.read_parquet(test / "data.parquet")
    with TemporaryDirectory() as folder:
        unpack(model_archive, Path(folder))
        inference = load_inference(Path(folder) / "code")
        model = inference.model_fn(folder)
        predictions = inference.predict_fn(rows, model)["values"]
        labels = model.transform.labels(rows[model.transform.target])
    values = COMPUTE[problem_type](labels, predictions)
    if math.isnan(values[main_metric]):
        raise EvaluationError(
            f"{main_metric} is undefined on the {len(rows)} test rows (they hold one class or one value only): "
            "provide more data, or raise split.test in settings.yaml"
        )
    _write_json(output / "evaluation.json", evaluation(problem_type, len(rows), values))
    _write_json(output / "constraints.json", constraints(problem_type, gate, threshold))
    return values


def evaluation(problem_type: str, rows: int, values: dict[str, float]) -> dict[str, Any]:
    """Model Monitor's model-quality statistics. An undefined value is "NaN", as Model Monitor writes it."""
    return {
        "version": 0,
        "dataset": {"item_count": rows},
        f"{problem_type}_metrics": {
            name: {"value": "NaN" if math.isnan(value) else value, "standard_deviation": "NaN"}
            for name, value in values.items()
        },
    }


def constraints(problem_type: str, gate: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Model Monitor's model-quality constraints: the gate's threshold, as what must not be passed."""
    operator = "LessThanThreshold" if gate["higher_is_better"] else "GreaterThanThreshold"
    return {
        "version": 0,
        f"{problem_type}_constraints": {gate["metric"]: {"threshold": threshold, "comparison_operator": operator}},
    }


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks model.tar.gz: its files, none of which can leave the folder."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                target = (folder / member.name).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise EvaluationError(f"{archive} holds {member.name!r}, which lies outside of it")
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read())
    except (tarfile.TarError, OSError) as error:
        raise EvaluationError(f"{archive} is not a model archive: {error}") from error


def load_inference(code: Path) -> ModuleType:
    """The archive's own inference module, with its own transform beside it: not those of this step's code."""
    ours = {name: sys.modules.pop(name, None) for name in ("inference", "transform")}
    sys.path.insert(0, str(code))
    try:
        importlib.invalidate_caches()
        return importlib.import_module("inference")
    except ImportError as error:
        raise EvaluationError(f"the model archive's code/inference.py cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(code))
        for name, module in ours.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Evaluate the model on the test rows")
    parser.add_argument("--model", type=Path, required=True, help="folder that holds model.tar.gz")
    parser.add_argument("--test", type=Path, required=True, help="folder of the raw test rows")
    parser.add_argument("--evaluation", type=Path, required=True, help="output folder")
    parser.add_argument("--threshold", type=float, required=True, help="what the main metric must reach")
    parser.add_argument("--message", type=Path, required=True, help="file for the reason of a failure")
    options = parser.parse_args(arguments)

    def step() -> None:
        archive = options.model / "model.tar.gz"
        values = evaluate(read_settings(__name__), archive, options.test, options.evaluation, options.threshold)
        for name, value in values.items():
            print(f"{name}={value:.6g}", flush=True)

    return run_step(step, expected=(EvaluationError,), message_file=options.message)
