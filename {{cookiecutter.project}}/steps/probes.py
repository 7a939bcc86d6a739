"""What is measured by asking the model besides its predictions: latency, the forms of its answers, its reasons."""

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
