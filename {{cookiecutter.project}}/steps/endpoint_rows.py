"""endpoint-rows.json: rows of the test part with what this model answers to them, for the tests of its endpoint.

    {"columns": [...], "kinds": {column: kind}, "classes": [...], "rows": [{column: value}], "answers": [{...}],
     "fault": null, or why there are no answers}

The values are what callers send in JSON; only columns that the model asks for. pipeline/endpoint_checks.py reads it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from scoring import JSON, Model, ScoringError
from transform import Transform, is_text

MOST_ROWS = 20
# Of wide data fewer rows are kept: they travel in one request, and serverless endpoints take 4 MB.
LARGEST = 1_000_000  # bytes of JSON
HUGE = 1e38  # what transform.py cuts numbers to; JSON has no infinite ones


def endpoint_rows(model: Model, transform: Transform, asked: pa.Table) -> dict[str, Any]:
    """The file's content, from at most MOST_ROWS of the rows. asked: raw test rows, with the model's columns alone."""
    picked = np.unique(np.linspace(0, len(asked) - 1, min(MOST_ROWS, len(asked))).astype(np.intp))
    kinds = {column.name: column.kind for column in transform.columns}
    rows = _small_enough(as_json_rows(asked.take(picked), kinds))
    answers, fault = _answers(model, rows)
    return {
        "columns": transform.column_names,
        "kinds": kinds,
        "classes": transform.classes,
        "rows": rows,
        "answers": answers,
        "fault": fault,
    }


def as_json_rows(rows: pa.Table, kinds: dict[str, str]) -> list[dict[str, Any]]:
    """The rows with values that JSON has: numbers, true and false, text, null."""
    columns = [_values(rows.column(name), kinds[name]) for name in rows.column_names]
    return [dict(zip(rows.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray, kind: str) -> list[Any]:
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_decimal(column.type) and kind == "number":
        column = column.cast(pa.float64())
    if types.is_floating(column.type):
        return [_finite(value) for value in column.cast(pa.float64()).to_pylist()]
    if not (types.is_integer(column.type) or types.is_boolean(column.type) or is_text(column.type)):
        column = column.cast(pa.string())  # times, as they are written to CSV
    return column.to_pylist()


def _finite(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(np.clip(value, -HUGE, HUGE))


def _small_enough(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size, kept = 0, 0
    while kept < len(rows) and (size := size + len(json.dumps(rows[kept]))) <= LARGEST:
        kept += 1
    return rows[: max(1, kept)]


def _answers(model: Model, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """This model's answer to each row; none when its code, which may be the user's own, gives no such JSON."""
    try:
        body = model.ask(json.dumps({"instances": rows}).encode(), JSON, JSON)
        said = json.loads(body, parse_constant=_no_number)["predictions"]
        answers = [dict(answer) for answer in said]
    except (ScoringError, ValueError, KeyError, TypeError) as error:
        return [], f"the model gives no answer in JSON: {error}"
    if len(answers) != len(rows):
        return [], f"the model gives {len(answers)} answers in JSON to {len(rows)} rows"
    return answers, None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
