"""What is measured by asking the model besides its predictions: latency, the forms of its answers, its reasons.

And endpoint-rows.json: rows of the test part with what this model answers to them, for the tests of its endpoint.

    {"columns": [...], "kinds": {column: kind}, "classes": [...], "rows": [{column: value}], "answers": [{...}],
     "fault": null, or why there are no answers}

The values are what callers send in JSON; only columns that the model asks for. pipeline/endpoint_checks.py reads it.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from estimates import defined
from scoring import CSV, JSON, PARQUET, Model, ScoringError, as_parquet
from transform import ColumnError, Transform, as_text, is_text

THOUSAND = 1_000
FORMAT_ROWS = 100
TOP_COLUMNS, MOST_COLUMNS, POINTS = 20, 1_000, 500
MOST_ROWS = 20
# Of wide data fewer rows are kept: they travel in one request, where a column is varied each of them once with every
# value of it, of which there are at most as many as rows; and serverless endpoints take 4 MB.
LARGEST = 3_000_000  # bytes of JSON
HUGE = 1e38  # what transform.py cuts numbers to; JSON has no infinite ones


def latency(model: Model, sample: pa.Table) -> dict[str, float]:
    """Milliseconds inside of transform_fn for CSV requests, medians; the network and SageMaker come on top.

    sample: raw rows without the target; repeated when they are fewer than a thousand.
    """
    thousand = sample.take(np.arange(THOUSAND) % len(sample))
    found = {}
    for name, rows, repeat in (("one_row", sample.slice(0, 1), 60), ("thousand_rows", thousand, 12)):
        seconds = model.seconds(as_csv(rows), CSV, CSV, repeat)
        found[f"latency.{name}_ms"] = statistics.median(seconds[repeat // 6 :]) * 1000  # the first ones warm up
    return found


def format_faults(model: Model, sample: pa.Table) -> list[str]:
    """What is wrong with the answers in CSV and JSON to some of the rows, compared with those in Parquet."""
    rows = sample.slice(0, FORMAT_ROWS)
    described = model.described
    try:
        expected = pq.read_table(pa.BufferReader(model.ask(as_parquet(rows), PARQUET, PARQUET))).to_pylist()
    except (ScoringError, pa.ArrowInvalid) as error:
        return [f"there is no answer in Parquet: {error}"]
    faults = []
    for form, read in ((CSV, _read_csv), (JSON, _read_json)):
        try:
            answers = read(model.ask(as_csv(rows), CSV, form).decode(), described.classes)
        except (ScoringError, ValueError, KeyError, IndexError, TypeError) as error:
            faults.append(f"{form}: no answer that can be read: {error!r}")
            continue
        if len(answers) != len(expected):
            faults.append(f"{form}: {len(answers)} answers to {len(expected)} rows")
            continue
        for position, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
            fault = _fault(answer, wanted, described.classes)
            if fault:
                faults.append(f"{form}: row {position}: {fault}")
                break
    return faults


def explanations(model: Model, transform: Transform, sample: pa.Table) -> dict[str, Any]:
    """The report's `explanations`: SHAP contributions by raw column, in the margin's unit, of the sampled rows.

    Raises ScoringError when the model's code gives none.
    """
    answer = pq.read_table(pa.BufferReader(model.ask(as_parquet(sample), PARQUET, f"{PARQUET}; contributions=true")))
    names = transform.column_names
    several = transform.problem_type == "multiclass_classification"
    heads = [f"contribution.{label}." for label in model.described.classes] if several else ["contribution."]
    try:
        found = np.stack(
            [
                np.stack([answer.column(head + name).to_numpy().astype(np.float64) for name in names], axis=1)
                for head in heads
            ]
        )  # (outputs, rows, columns)
    except KeyError as error:
        raise ScoringError(f"the answer has no contributions of a column: {error}") from error
    sizes = np.abs(found).mean(axis=(0, 1))
    gains = _gains(model, transform)
    order = np.argsort(-sizes, kind="stable")
    points = []
    for position in order[:TOP_COLUMNS] if not several else ():
        points.append(
            {
                "name": names[position],
                "contributions": found[0, :POINTS, position].tolist(),
                "values": _ranks(sample, names[position], transform)[:POINTS],
            }
        )
    if several:
        unit = "log-odds (mean over the classes of the absolute value)"
    elif transform.problem_type == "regression":
        unit = "target's unit"
    else:
        unit = f"log-odds of {model.described.classes[1]}"
    return {
        "rows": len(sample),
        "unit": unit,
        "columns": [
            {"name": names[position], "mean_absolute": float(sizes[position]), "gain": gains.get(names[position], 0.0)}
            for position in order[:MOST_COLUMNS]
        ],
        "points": points,
    }


def as_csv(rows: pa.Table) -> bytes:
    """The rows as a CSV request with a header line."""
    alone = rows.num_columns == 1  # then a missing value would be an empty line, which is no row
    columns = [column.cast(pa.string()) if alone or is_text(column.type) else column for column in rows.columns]
    columns = [column.fill_null("") if alone else column for column in columns]
    stream = io.BytesIO()
    pa_csv.write_csv(pa.table(columns, rows.column_names), stream)
    return stream.getvalue()


def _gains(model: Model, transform: Transform) -> dict[str, float]:
    """Each raw column's share of the trees' total gain. XGBoost calls features f0, f1, ... when they have no names."""
    columns: dict[str, float] = {}
    by_feature = model.importance()
    for position, (name, source) in enumerate(zip(transform.feature_names, transform.sources, strict=True)):
        gain = by_feature.get(name, by_feature.get(f"f{position}", 0.0))
        columns[source] = columns.get(source, 0.0) + gain
    return columns


def _ranks(sample: pa.Table, name: str, transform: Transform) -> list[float | None]:
    """Where each row's value of a numeric column lies among the sample's, 0 to 1; None: missing, or not a number."""
    column = next(column for column in transform.columns if column.name == name)
    if column.kind in ("category", "empty"):
        return [None] * len(sample)
    alone = Transform(transform.problem_type, transform.target, [], [column], missing=transform.missing)
    try:
        values = alone.features(sample.select([name]))[:, -1].astype(np.float64)  # of a date: its age in days
    except ColumnError:
        return [None] * len(sample)
    if column.kind == "date":
        values = -values
    distinct, place = np.unique(values, return_inverse=True)
    largest = max(1, int((~np.isnan(distinct)).sum()) - 1)
    return [None if np.isnan(value) else float(rank / largest) for value, rank in zip(values, place, strict=True)]


def _read_csv(text: str, classes: list[str]) -> list[dict[str, Any]]:
    found = []
    for line in csv.reader(io.StringIO(text)):
        if not classes:
            found.append({"score": float(line[0])})
            continue
        answer: dict[str, Any] = {"predicted_label": line[0], "probability": float(line[1])}
        if len(classes) > 2:
            answer["probabilities"] = {label: float(value) for label, value in zip(classes, line[2:], strict=True)}
        found.append(answer)
    return found


def _read_json(text: str, classes: list[str]) -> list[dict[str, Any]]:
    return json.loads(text)["predictions"]


def _fault(answer: dict[str, Any], wanted: dict[str, Any], classes: list[str]) -> str | None:
    """What one row's answer lacks, or says otherwise than Parquet."""
    given = {f"probability.{label}": value for label, value in answer.pop("probabilities", {}).items()} | answer
    shares = [value for name, value in given.items() if name.startswith("probability.")]
    if shares and abs(sum(shares) - 1) > 1e-3:
        return f"the probabilities sum to {sum(shares):g}"
    for name, value in given.items():
        expected = wanted[name]
        if name == "predicted_label":
            if as_text(value) != expected:
                return f"the label is {value!r}, in Parquet {expected!r}"
        elif defined(value) is None or abs(value - expected) > 1e-5 * max(1.0, abs(expected)):
            return f"{name} is {value!r}, in Parquet {expected!r}"
    return None if len(given) >= (2 if classes else 1) else f"it holds {', '.join(given) or 'nothing'} only"


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
    while kept < len(rows) and (size := size + len(json.dumps(rows[kept]))) * (kept + 1) <= LARGEST:
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
