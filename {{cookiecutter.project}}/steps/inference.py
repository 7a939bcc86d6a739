"""How the endpoint answers: raw columns in, predictions out, with the transformation that training stored.

The XGBoost image calls model_fn once, then input_fn, predict_fn and output_fn for every request.

Requests   text/csv          rows of raw columns, with or without a header line; without one, the columns in the
                             order of transform.json's `columns`. A first line with more than half of the columns'
                             names in it is a header; names that are numbers (0, 1, 2) do not count, being values too.
           application/json  {"instances": [{"age": 42, "city": "Ulm"}, ...]}, the same list alone, one such object,
                             lists instead of objects in the columns' order, or {"columns": [...], "data": [[...]]}.
           Missing values are null, an empty field, and the words that are missing values in training too
           (transform.py, MISSING). A category that training never saw counts as missing.
Answers    application/json  {"predictions": [{"predicted_label": "yes", "probability": 0.93}, ...]}: the probability of
                             the second class (binary); {"predicted_label", "probability", "probabilities": {class: p}}
                             for several classes, the probability of the predicted one first; {"score": 151.2} for
                             regression
           text/csv          the same as lines: label,probability | label,probability,p1,p2,... | score
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost

from transform import Transform

CSV, JSON = "text/csv", "application/json"


class RequestError(ValueError):
    """The request cannot be answered: the text is for the caller."""


@dataclass(frozen=True)
class Model:
    booster: xgboost.Booster
    transform: Transform


def model_fn(model_dir: str) -> Model:
    """Loads what train.py saved: the booster and the transformation."""
    booster = xgboost.Booster()
    booster.load_model(bytearray((Path(model_dir) / "xgboost-model").read_bytes()))
    return Model(booster, Transform.load(Path(model_dir) / "code" / "transform.json"))


def input_fn(body: bytes | str, content_type: str) -> pd.DataFrame:
    """The request's rows as a table of raw columns; columns without a name get the names 0, 1, 2 ...

    Raises RequestError when the body is not what the content type says.
    """
    kind = content_type.partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes | bytearray) else body
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: {error}") from error
    if kind == CSV:
        return _read_csv(text)
    if kind == JSON:
        return _read_json(text)
    raise RequestError(f"content type {content_type!r} is not supported: send {CSV} or {JSON}")


def predict_fn(table: pd.DataFrame, model: Model) -> dict[str, Any]:
    """The predictions for a table of raw columns, named or in the order of the transformation's columns.

    Returns {"classes": labels or [], "values": ...}, values of shape (rows,) (the second class's probability, or the
    score) or (rows, classes). Raises RequestError naming the column that is missing or wrong.
    """
    rows = _name_columns(table, model.transform.feature_names)
    try:
        features = model.transform.features(rows)
    except ValueError as error:
        raise RequestError(str(error)) from error
    matrix = xgboost.DMatrix(features, feature_types=model.transform.feature_types, enable_categorical=True)
    return {"classes": model.transform.classes, "values": model.booster.predict(matrix)}


def output_fn(prediction: dict[str, Any], accept: str) -> tuple[str, str]:
    """The answer's body and its content type. Raises RequestError when `accept` asks for another one."""
    wanted = [part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    answers = _answers(prediction["classes"], prediction["values"])
    if any(kind in (JSON, "application/*", "*/*") for kind in wanted):
        return json.dumps({"predictions": answers}), JSON
    if any(kind in (CSV, "text/*") for kind in wanted):
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(_flat(answer) for answer in answers)
        return lines.getvalue(), CSV
    raise RequestError(f"accept {accept!r} is not supported: ask for {CSV} or {JSON}")


def _answers(classes: list[Any], values: np.ndarray) -> list[dict[str, Any]]:
    if not classes:
        return [{"score": float(value)} for value in values]
    if values.ndim == 1:
        return [{"predicted_label": classes[int(value >= 0.5)], "probability": float(value)} for value in values]
    return [
        {
            "predicted_label": classes[int(row.argmax())],
            "probability": float(row.max()),
            "probabilities": {str(label): float(value) for label, value in zip(classes, row, strict=True)},
        }
        for row in values
    ]


def _flat(answer: dict[str, Any]) -> list[Any]:
    first = [value for name, value in answer.items() if name != "probabilities"]
    return first + list(answer.get("probabilities", {}).values())


def _read_csv(text: str) -> pd.DataFrame:
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise RequestError(f"the body is not CSV: {error}") from error
    if not lines:
        raise RequestError("the body has no row")
    widths = {len(line) for line in lines}
    if len(widths) > 1:
        raise RequestError(f"the rows have different numbers of fields: {', '.join(map(str, sorted(widths)))}")
    return pd.DataFrame(lines, dtype=object)


def _read_json(text: str) -> pd.DataFrame:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    columns = None
    if isinstance(body, dict) and "instances" in body:
        body = body["instances"]
    elif isinstance(body, dict) and set(body) == {"columns", "data"}:
        columns, body = body["columns"], body["data"]
    elif isinstance(body, dict):
        body = [body]
    if not isinstance(body, list) or not body:
        raise RequestError('the body has no row: send {"instances": [{"column": value, ...}, ...]}')
    if all(isinstance(row, dict) for row in body):
        different = {name for row in body for name in row.keys() ^ body[0].keys()}
        if different:
            raise RequestError(
                f"the rows name different columns ({', '.join(sorted(different))}): give every row the same, "
                "with null where a value is missing"
            )
        return _table(body)
    if not all(isinstance(row, list) for row in body) or len({len(row) for row in body}) != 1:
        raise RequestError("every row must be an object, or every row a list of the same length")
    if columns is None:
        return _table(body)
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise RequestError('"columns" must be a list of names')
    if len(columns) != len(body[0]):
        raise RequestError(f"{len(columns)} columns are named, but the rows have {len(body[0])} values")
    return _table(body).set_axis(columns, axis=1)


def _table(rows: list[Any]) -> pd.DataFrame:
    for row in rows:
        for value in row.values() if isinstance(row, dict) else row:
            if isinstance(value, (list, dict)):
                raise RequestError(f"a value must be a number, a text, true, false or null, not {value!r:.80}")
    return pd.DataFrame(rows, dtype=object)


def _name_columns(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The table with its columns named: from its own first row when that is a header, else by their order."""
    if list(table.columns) == list(range(table.shape[1])) and _is_header(list(table.iloc[0]), names):
        if table.shape[0] == 1:
            raise RequestError("the body has a header line but no row")
        table = table.iloc[1:].set_axis(list(table.iloc[0]), axis=1).reset_index(drop=True)
    if list(table.columns) != list(range(table.shape[1])):
        if table.columns.has_duplicates:
            raise RequestError(f"the column {table.columns[table.columns.duplicated()][0]!r} is named twice")
        return table
    if table.shape[1] != len(names):
        raise RequestError(
            f"the rows have {table.shape[1]} values, the model takes {len(names)}: {', '.join(names)} (in this order)"
        )
    return table.set_axis(names, axis=1)


def _is_header(first: list[Any], names: list[str]) -> bool:
    """Whether a first line holds more than half of the columns' names; a single name can be a value as well."""
    telling = {name for name in names if not _is_number(name)}
    return 2 * len(telling & {value for value in first if isinstance(value, str)}) > len(telling)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
