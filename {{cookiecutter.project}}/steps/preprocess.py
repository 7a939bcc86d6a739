"""Preprocess: reads the raw data, splits it, fits the transformation on the training part and applies it.

Outputs, one folder each:
  train, validation   data.parquet: the transformed columns, the target first (float32; missing is NaN)
  test                data.parquet: the raw rows, all columns: evaluate.py scores them as the endpoint would
  transform           transform.json: see transform.py
  summary             summary.json: rows, columns, classes, content hash of the data
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from job import read_settings, run_step
from split import split_by_hash, split_by_time
from tables import DataError, content_sha256, data_files, read_tables
from transform import ColumnError, Transform, as_text, fit_column, kind_of, texts

PARTS = ("train", "validation", "test")
MAX_CLASSES = 1000


def preprocess(settings: dict[str, Any], data: Path, outputs: dict[str, Path]) -> dict[str, Any]:
    """Does the whole step; returns the summary.

    settings: the parts of settings.yaml that this step reads: problem_type, data, split.
    outputs: the folders named in the module's text; they exist.
    Raises DataError or ColumnError with a text for the owner of the data.
    """
    files = data_files(data, settings["data"]["format"])
    table = read_tables(files, settings["data"]["format"])
    _check_columns(table, settings["data"])
    target = settings["data"]["target"]
    rows_read = len(table)
    table = table[texts(table[target]).notna()].reset_index(drop=True)
    if table.empty:
        raise DataError(f"no row has a value in the target column {target!r}: give the data its labels")

    features = feature_columns(table, settings["data"])
    # what a column is, number or text, is seen from all rows; what its values mean, from the training part alone
    kinds = {name: kind_of(table[name]) for name in features}
    side = split_rows(table, features, settings)
    _check_parts(side)
    training = table[side == "train"]
    classes = find_classes(table[target], side, settings["problem_type"])
    transform = Transform(
        problem_type=settings["problem_type"],
        target=target,
        classes=classes,
        columns=[fit_column(name, kinds[name], training[name]) for name in features],
    )
    labels = transform.labels(table[target])
    for part in ("train", "validation"):
        _write_parquet(transformed(table[side == part], transform), outputs[part])
    _write_parquet(raw(table[side == "test"], kinds), outputs["test"])
    transform.save(outputs["transform"] / "transform.json")

    summary = {
        "rows": {"read": rows_read, "without_target": rows_read - len(table)}
        | {part: int((side == part).sum()) for part in PARTS},
        "columns": kinds,
        "classes": [{"label": label, "rows": int((labels == index).sum())} for index, label in enumerate(classes)],
        "data_sha256": content_sha256(files, data),
        "files": [path.relative_to(data).as_posix() for path in files],
    }
    (outputs["summary"] / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def feature_columns(table: pd.DataFrame, data: dict[str, Any]) -> list[str]:
    """Every column that is not the target, ignored, the key or the time, in the table's order."""
    others = {data["target"], data["key"], data["time"], *data["ignore"]}
    features = [name for name in table.columns if name not in others]
    if not features:
        raise DataError("no column is left to predict from: shorten data.ignore in settings.yaml")
    return features


def split_rows(table: pd.DataFrame, features: list[str], settings: dict[str, Any]) -> np.ndarray:
    """The side of every row, shape (rows,): by time, by key, or else by the values of all features."""
    data, share = settings["data"], settings["split"]
    if data["time"]:
        return split_by_time(table[data["time"]], share["validation"], share["test"])
    if data["key"] and table[data["key"]].isna().any():
        raise DataError(
            f"{int(table[data['key']].isna().sum())} rows have no value in the key column {data['key']!r}: fill it"
        )
    return split_by_hash(table, [data["key"]] if data["key"] else features, share["validation"], share["test"])


def find_classes(target: pd.Series, side: np.ndarray, problem_type: str) -> list[Any]:
    """The labels in order (numbers by value, text by alphabet); empty for regression. Of two, the second is "positive".

    Raises DataError when their number does not suit the problem, or when training never sees one of them.
    """
    if problem_type == "regression":
        return []
    labels = target.map(as_text)
    # one class per text, since two files may hold the same label as 1 and as "1"; then it is text
    text_last = sorted(target.unique(), key=lambda value: (isinstance(value, str), str(value)))
    forms = {as_text(value): _plain(value) for value in text_last}
    classes = sorted(forms.values(), key=lambda label: (isinstance(label, str), label))
    shown = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
    if len(classes) < 2:
        raise DataError(f"the target {target.name!r} has one class only ({shown}): there is nothing to learn")
    if problem_type == "binary_classification" and len(classes) > 2:
        raise DataError(
            f"the target {target.name!r} has {len(classes)} classes ({shown}): set problem_type in settings.yaml to "
            "multiclass_classification or regression, or correct the data"
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"the target {target.name!r} has {len(classes)} classes ({shown}), more than {MAX_CLASSES}: "
            "set problem_type in settings.yaml to regression, or join classes"
        )
    trained = set(labels[side == "train"])
    for label in classes:
        if as_text(label) not in trained:
            rows = int((labels == as_text(label)).sum())
            raise DataError(
                f"the class {label!r} of {target.name!r} has {rows} rows, none of them in the training part: "
                "add rows of it, or remove the class"
            )
    return classes


def transformed(rows: pd.DataFrame, transform: Transform) -> pd.DataFrame:
    """The rows as XGBoost takes them: the target first, then the features, float32."""
    table = pd.DataFrame(transform.features(rows), columns=transform.feature_names)
    table.insert(0, transform.target, transform.labels(rows[transform.target]))
    return table


def raw(rows: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """The rows as they came, in types that Parquet can hold: a column of mixed values becomes text."""
    table = rows.copy()
    for name in table.columns:
        if pd.api.types.is_object_dtype(table[name].dtype) and kinds.get(name) != "number":
            table[name] = table[name].map(as_text, na_action="ignore").astype("string")
        elif kinds.get(name) == "number":
            table[name] = pd.to_numeric(table[name].astype(object), errors="coerce")
    return table


def _plain(label: Any) -> Any:
    """The label as JSON can write it: a whole number as an int (1.0 in a column that has missing values is 1)."""
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, str):
        return value.strip()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_columns(table: pd.DataFrame, data: dict[str, Any]) -> None:
    named = [("target", data["target"]), ("key", data["key"]), ("time", data["time"])]
    named += [("ignore", name) for name in data["ignore"]]
    for setting, name in named:
        if name is not None and name not in table.columns:
            raise DataError(
                f"the data has no column {name!r} (data.{setting} in settings.yaml); it has: {', '.join(table.columns)}"
            )


def _check_parts(side: np.ndarray) -> None:
    for part in PARTS:
        if not (side == part).any():
            raise DataError(
                f"the {part} part is empty ({len(side)} rows in all): provide more data, change the shares under split "
                "in settings.yaml, or choose another data.key or data.time"
            )


def _write_parquet(table: pd.DataFrame, folder: Path) -> None:
    table.to_parquet(folder / "data.parquet", index=False)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Split and transform the data")
    parser.add_argument("--data", type=Path, required=True, help="folder with the raw data")
    parser.add_argument("--data-fingerprint", required=True, help="what the data was when the execution started")
    for output in (*PARTS, "transform", "summary"):
        parser.add_argument(f"--{output}", type=Path, required=True, help=f"output folder: {output}")
    parser.add_argument("--message", type=Path, required=True, help="file for the reason of a failure")
    options = parser.parse_args(arguments)
    outputs = {output: getattr(options, output) for output in (*PARTS, "transform", "summary")}

    def step() -> None:
        print(f"data fingerprint: {options.data_fingerprint}", flush=True)
        summary = preprocess(read_settings(__name__), options.data, outputs)
        print(f"rows: {json.dumps(summary['rows'])}\ncolumns: {json.dumps(summary['columns'])}", flush=True)

    return run_step(step, expected=(DataError, ColumnError), message_file=options.message)
