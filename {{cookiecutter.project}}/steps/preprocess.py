"""Preprocess: splits the raw data, fits the transformation on the training part and applies it.

The data is read twice, in pieces, on all cores: survey.py finds out what it holds, this module writes. Memory does not
grow with the data, but for one byte per row (and up to eight where rows are compared or split by time).

Outputs, one folder each:
  train, validation   part-00000.parquet ...: the transformed columns, the target first (float32; missing is NaN);
                      at least as many files of equal size as there are training instances
  test                part-00000.parquet: the raw rows, all columns: evaluate.py scores them as the endpoint would
  transform           transform.json: see transform.py
  summary             summary.json: rows, columns, classes, warnings, content hash of the data
  baseline            statistics.json, constraints.json: the training part's raw columns, see baseline.py
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baseline import constraints_json, describe, fit_column, statistics_json
from columns import other_look, plain_label
from files import DataError, content_sha256
from job import read_settings, run_step
from split import DROPPED, PARTS, TEST, TRAIN, VALIDATION, choose_split, closest_seed
from survey import Plan, Survey, survey, with_progress
from tables import Data, DataFile, Piece, in_parallel, open_data
from transform import ColumnError, Missing, Transform, as_text, numbers

GROUP_VALUES = 1 << 22  # values of all row groups that wait to be written: 16 MB
MIN_GROUP, MAX_GROUP = 1024, 1 << 17  # rows of a row group
RAREST = 50  # classes that a better seed is sought for; where they are divided well, the others are too
THIN = 10  # rows; a class with fewer in a part says little there
THIN_SHOWN = 12  # warnings of such classes; of a thousand classes nobody reads more
LARGEST_LABEL = 2**53  # from here on, whole numbers are not exact as float64


def preprocess(settings: dict[str, Any], folder: Path, outputs: dict[str, Path]) -> dict[str, Any]:
    """Does the whole step; returns the summary.

    settings: what this step reads: problem_type, data, split, shards. folder: of the data. outputs: the folders named
    in the module's text; they exist. Raises DataError or ColumnError with a text for the owner of the data.
    """
    data = open_data(folder, settings["data"])
    _check_columns(data.names, settings)
    files = [file.path for file in data.files]
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(content_sha256, files, folder)
        plan = first_plan(data.names, settings)
        split = choose_split(settings, [file.name for file in data.files])
        found = survey(data, plan, split, settings["data"]["key"])
        classes = find_classes(found, settings["problem_type"])
        _check_parts(found)
        transform = fit(found, classes, settings)
        _write_parts(data, found, transform, outputs, settings["shards"])
        transform.save(outputs["transform"] / "transform.json")
        rows = found.rows_on(TRAIN)
        _write_json(outputs["baseline"] / "statistics.json", statistics_json(rows, found.statistics))
        _write_json(outputs["baseline"] / "constraints.json", constraints_json(found.statistics))
        summary = summarise(found, classes, data, digest.result())
    _write_json(outputs["summary"] / "summary.json", summary)
    return summary


def first_plan(names: list[str], settings: dict[str, Any]) -> Plan:
    """What settings.yaml says about the columns; what the others are, the data shows."""
    data, target = settings["data"], settings["data"]["target"]
    others = {target, data["key"], data["time"], settings["split"]["column"], *data["ignore"]}
    features = [name for name in names if name not in others]
    if not features:
        raise DataError("no column is left to predict from: shorten data.ignore in settings.yaml")
    fixed = {name: (column["kind"], column["format"]) for name, column in data["columns"].items()}
    if settings["problem_type"] == "regression":
        fixed[target] = ("number", None)
    kinds = {name: fixed[name][0] if name in fixed else "empty" for name in [target, *features]}
    return Plan(features, target, kinds, fixed)


def find_classes(found: Survey, problem_type: str) -> list[Any]:
    """The labels in order (numbers by value, text by alphabet); empty for regression. Of two, the second is "positive".

    Raises DataError when their number does not suit the problem, or when training never sees one of them.
    """
    target = found.plan.target
    if not sum(int(np.count_nonzero(sides != DROPPED)) for sides in found.sides):
        empty = found.rows == 0
        raise DataError(
            "there is a header but no row: upload the data again"
            if empty
            else f"no row has a value in the target column {target!r}: give the data its labels"
        )
    if problem_type == "regression":
        return []
    kind = found.plan.kinds[target]
    classes = sorted(plain_label(text, kind) for text in found.classes)
    for label in classes if kind == "number" else ():
        if not abs(label) < LARGEST_LABEL:
            raise DataError(
                f"the target {target!r} holds the class {label}, which is too large to be told from its neighbours: "
                "write such labels as text, for example with a letter before them"
            )
    shown = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
    if len(classes) < 2:
        raise DataError(f"the target {target!r} has one class only ({shown}): there is nothing to learn")
    if problem_type == "binary_classification" and len(classes) > 2:
        raise DataError(
            f"the target {target!r} has {len(classes)} classes ({shown}): set problem_type in settings.yaml to "
            "multiclass_classification or regression, or correct the data"
        )
    for label in classes:
        rows = found.classes[as_text(label)]
        if not rows[TRAIN]:
            raise DataError(
                f"the class {label!r} of {target!r} has {rows.sum()} rows, none of them in the training part: "
                f"add rows of it, or remove the class{_seed_hint(found)}"
            )
    return classes


def fit(found: Survey, classes: list[Any], settings: dict[str, Any]) -> Transform:
    """The transformation, from the training part."""
    formats = {name: format for name, (_, format) in found.plan.fixed.items()}
    columns = [fit_column(name, found.statistics[name], formats.get(name)) for name in found.plan.features]
    transform = Transform(
        problem_type=settings["problem_type"],
        target=found.plan.target,
        classes=classes,
        columns=columns,
        class_rows=[int(found.classes[as_text(label)][TRAIN]) for label in classes],
        missing=settings["data"]["missing"],
        split=found.split.description(found.plan.features),
    )
    names = [transform.target, *transform.feature_names]
    for name in {name for name in names if names.count(name) > 1}:
        raise DataError(f"a part of a date is named {name!r}, and so is another column: rename the latter")
    return transform


def summarise(found: Survey, classes: list[Any], data: Data, digest: str) -> dict[str, Any]:
    """What summary.json holds; statistics are those of the training part."""
    used = {part: found.rows_on(side) for side, part in enumerate(PARTS)}
    rows = {"read": found.rows, "without_target": found.rows - sum(used.values()), **used}
    target = found.target
    return {
        "rows": rows | {"duplicates": found.duplicates},
        "columns": {name: describe(statistics) for name, statistics in found.statistics.items()},
        "target": describe(target) if target else {"kind": found.plan.kinds[found.plan.target]},
        "classes": [
            {"label": label, "rows": int(counts.sum())}
            | {part: int(counts[side]) for side, part in enumerate(PARTS)}
            | {f"{part}_share": float(counts[side] / max(1, used[part])) for side, part in enumerate(PARTS)}
            for label in classes
            for counts in [found.classes[as_text(label)]]
        ],
        "split": found.split.description(found.plan.features),
        "warnings": data.notes + _warnings(found, classes),
        "data_sha256": digest,
        "files": [file.name for file in data.files],
    }


def _warnings(found: Survey, classes: list[Any]) -> list[str]:
    warnings = []
    without_target = sum(int(np.count_nonzero(sides == DROPPED)) for sides in found.sides)
    if without_target:
        warnings.append(
            f"{without_target:,} of {found.rows:,} rows have no value in the target column {found.plan.target!r} and "
            "are left out (empty, or a word that means a missing value, such as NA or None)"
        )
    for name, statistics in found.statistics.items():
        if not statistics.present:
            warnings.append(f"the column {name!r} has no value in the training part")
        elif statistics.distinct.estimate == 1 and not statistics.missing:
            warnings.append(f"the column {name!r} has the same value in all training rows")
        elif name not in found.plan.fixed and statistics.kind == "category" and (look := other_look(statistics.texts)):
            warnings.append(f"the column {name!r} is taken for categories, but looks like {look}")
        elif statistics.kind == "category" and statistics.distinct.estimate > 0.9 * statistics.present > 100:
            warnings.append(
                f"the column {name!r} has another text in nearly every row: an identifier belongs into data.ignore"
            )
    thin = [
        f"the class {label!r} has {rows} rows in the {part} part"
        for label in classes
        for part, rows in zip(PARTS, found.classes[as_text(label)].tolist(), strict=True)
        if rows < THIN
    ]
    warnings += thin[:THIN_SHOWN]
    if len(thin) > THIN_SHOWN:
        warnings.append(f"and so for {len(thin) - THIN_SHOWN} more: the summary has the rows of all classes")
    if thin and (hint := _seed_hint(found)):
        warnings.append(f"of so few rows a hash divides some classes unevenly{hint}")
    if found.duplicates:
        where = (
            "equal rows are on one side"
            if found.split.by == "hash"
            else f"split by {found.split.by}, equal rows can be on different sides, which flatters the model"
        )
        warnings.append(f"{found.duplicates:,} rows equal an earlier row; {where}")
    return warnings


def _seed_hint(found: Survey) -> str:
    """Which seed would split the classes most evenly: a suggestion, never chosen by itself."""
    if found.split.by not in ("hash", "key") or not found.hashes:
        return ""
    rarest = sorted(found.hashes.values(), key=len)[:RAREST]
    seed = closest_seed(rarest, found.split.validation, found.split.test)
    if seed is None or seed == found.split.seed:
        return ""
    return f" (split.seed: {seed} in settings.yaml comes closest to the wanted shares, of the first 200 seeds)"


def _check_columns(names: list[str], settings: dict[str, Any]) -> None:
    data = settings["data"]
    named = [("data.target", data["target"]), ("data.key", data["key"]), ("data.time", data["time"])]
    named += [("split.column", settings["split"]["column"])]
    named += [("data.ignore", name) for name in data["ignore"]]
    named += [("data.columns", name) for name in data["columns"]]
    for setting, name in named:
        if name is not None and name not in names:
            raise DataError(f"the data has no column {name!r} ({setting} in settings.yaml); it has: {', '.join(names)}")


def _check_parts(found: Survey) -> None:
    for side, part in enumerate(PARTS):
        if not found.rows_on(side):
            rows = sum(int(np.count_nonzero(sides != DROPPED)) for sides in found.sides)
            raise DataError(
                f"the {part} part is empty ({rows} rows in all): provide more data, or change what is set under split "
                f"or as data.key or data.time in settings.yaml{_seed_hint(found)}"
            )


# ---- writing ----


@dataclass(frozen=True)
class _Rows:
    """A piece's rows, ready to be written, and how many numbers lie in each bucket of the baseline."""

    train: list[np.ndarray]
    validation: list[np.ndarray]
    test: pa.RecordBatch
    buckets: dict[str, np.ndarray]


class _Part:
    """The files of one part: rows are dealt out in turn, and written when a row group has come together."""

    def __init__(self, folder: Path, schema: pa.Schema, files: int) -> None:
        self.schema = schema
        # a dictionary of numbers with many digits costs time and saves nothing
        repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]
        self.writers = [
            pq.ParquetWriter(
                folder / f"part-{number:05d}.parquet", schema, use_dictionary=repeating, write_statistics=False
            )
            for number in range(files)
        ]
        self.waiting: list[list[pa.RecordBatch]] = [[] for _ in range(files)]
        self.group = max(MIN_GROUP, min(MAX_GROUP, GROUP_VALUES // (files * len(schema))))
        self.next = 0

    def write(self, batch: pa.RecordBatch) -> None:
        files = len(self.writers)
        for number in range(files):
            # the row after the last one of the piece before goes to the next file, so that all are of one size
            rows = np.arange((number - self.next) % files, batch.num_rows, files)
            part = batch if files == 1 else batch.take(pa.array(rows))
            self.waiting[number].append(part)
            if sum(waiting.num_rows for waiting in self.waiting[number]) >= self.group:
                self._flush(number)
        self.next = (self.next + batch.num_rows) % files

    def close(self) -> None:
        for number, writer in enumerate(self.writers):
            self._flush(number)
            writer.close()

    def _flush(self, number: int) -> None:
        batches = [batch for batch in self.waiting[number] if batch.num_rows]
        self.waiting[number] = []
        if batches:
            table = pa.Table.from_batches(batches, self.schema)
            self.writers[number].write_table(table, row_group_size=table.num_rows)


def _write_parts(data: Data, found: Survey, transform: Transform, outputs: dict[str, Path], shards: int) -> None:
    features = pa.schema([(name, pa.float32()) for name in [transform.target, *transform.feature_names]])
    raw = _raw_schema(data, found.plan)
    parts = {
        "train": _Part(outputs["train"], features, shards),
        "validation": _Part(outputs["validation"], features, shards),
        "test": _Part(outputs["test"], raw, 1),
    }
    rows = in_parallel(lambda piece: _rows(piece, data, found, transform, raw), data.pieces())
    for written in with_progress(rows, lambda rows: len(rows.train[0]) + rows.test.num_rows, "written"):
        for part, columns in (("train", written.train), ("validation", written.validation)):
            parts[part].write(pa.RecordBatch.from_arrays([pa.array(values) for values in columns], schema=features))
        parts["test"].write(written.test)
        for name, counts in written.buckets.items():
            found.statistics[name].buckets += counts
    for finished in parts.values():
        finished.close()


def _rows(piece: Piece, data: Data, found: Survey, transform: Transform, raw: pa.Schema) -> _Rows:
    batch = data.parse(piece, found.plan.number_columns)
    sides = found.sides[piece.number]
    parts = [batch.filter(pa.array(sides == side)) for side in (TRAIN, VALIDATION, TEST)]
    columns = [
        [transform.labels(part.column(transform.target)), *transform.feature_columns(part)] for part in parts[:2]
    ]
    buckets = {}
    for name, statistics in found.statistics.items():
        if statistics.kind == "number" and statistics.present:
            values = numbers(parts[0].column(name), data.missing)
            buckets[name] = statistics.count_in_buckets(values[~np.isnan(values)])
    test = [_as_type(parts[2].column(field.name), field.type, data.missing) for field in raw]
    return _Rows(columns[0], columns[1], pa.RecordBatch.from_arrays(test, schema=raw), buckets)


def _as_type(values: pa.Array, kind: pa.DataType, missing: Missing) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type == kind:
        return values
    if pa.types.is_floating(kind):
        return pa.array(numbers(values, missing), kind, from_pandas=True)
    return pa.array([None if value is None else as_text(value) for value in values.to_pylist()], kind)


def _raw_schema(data: Data, plan: Plan) -> pa.Schema:
    return pa.schema([(name, _raw_type(name, data.files, plan)) for name in data.names])


def _raw_type(name: str, files: list[DataFile], plan: Plan) -> pa.DataType:
    """The type that the column's raw values have in all files; where those differ, float64 or text."""
    in_csv = pa.float64() if plan.kinds.get(name) in ("number", "empty") else pa.string()
    types = {in_csv if file.schema is None else _plain_type(file.schema.field(name).type) for file in files}
    if len(types) == 1:
        return types.pop()
    return pa.float64() if plan.kinds.get(name) == "number" else pa.string()


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) or pa.types.is_null(kind) else kind


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Split and transform the data")
    parser.add_argument("--data", type=Path, required=True, help="folder with the raw data")
    parser.add_argument("--data-fingerprint", required=True, help="what the data was when the execution started")
    names = (*PARTS, "transform", "summary", "baseline")
    for output in names:
        parser.add_argument(f"--{output}", type=Path, required=True, help=f"output folder: {output}")
    parser.add_argument("--message", type=Path, required=True, help="file for the reason of a failure")
    options = parser.parse_args(arguments)
    outputs = {output: getattr(options, output) for output in names}

    def step() -> None:
        print(f"data fingerprint: {options.data_fingerprint}", flush=True)
        summary = preprocess(read_settings(__name__), options.data, outputs)
        kinds = {name: column["kind"] for name, column in summary["columns"].items()}
        print(f"rows: {json.dumps(summary['rows'])}\ncolumns: {json.dumps(kinds)}", flush=True)
        for warning in summary["warnings"]:
            print(f"WARNING: {warning}", flush=True)

    return run_step(step, expected=(DataError, ColumnError), message_file=options.message)
