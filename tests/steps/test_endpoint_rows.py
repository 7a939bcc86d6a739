"""The rows that Evaluate keeps for the tests of the endpoint: as callers send them, with what the model answers."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import inference
import numpy as np
import pandas as pd
import probes
import pyarrow as pa
import pytest
import yaml
from scoring import ScoringError
from transform import Column, Transform

from lifecycle_lambdas import endpoint_checks
from lifecycle_lambdas.endpoint_answers import Answer, EvaluatedRows, Request
from lifecycle_lambdas.endpoint_suite import parse
from tests.steps.archives import BINARY, MULTICLASS, REGRESSION
from tests.steps.serving_models import write_archive
from tests.steps.trained import train

CASES = """
cases:
  - name: as it was evaluated
    rows: evaluated
    formats: [text/csv, application/json, application/x-ndjson]
    expect: {as_evaluated: {tolerance: 0.0001}}
"""
FORMATS = ["text/csv", "application/json", "application/x-ndjson"]
TEXTS = [
    "Ulm",
    "Köln",
    'say "hi", <b>',
    "New York, NY",
    "日本",
    "two\nlines",
    "  spaced  ",
    "",
    "null",
    "-",
    "O'Neil; x",
]


def texts(random: np.random.Generator, rows: int) -> list[str | None]:
    return [None if random.random() < 0.1 else str(random.choice(TEXTS)) for _ in range(rows)]


def awkward(problem_type: str, rows: int = 400) -> tuple[pd.DataFrame, list[Column], list[Any]]:
    """Columns whose names and values are hard to write in CSV, or to read in JSON."""
    random = np.random.default_rng(5)
    days = pd.Timestamp("2024-02-29") + pd.to_timedelta(random.integers(0, 900, rows), unit="D")
    table = pd.DataFrame(
        {
            "age, in years": np.where(random.random(rows) < 0.2, np.nan, random.integers(18, 80, rows)),
            'the "city"': pd.Series(texts(random, rows), dtype=object),
            "zip": random.integers(10_000, 10_010, rows),
            "plan": random.choice(["007", "7", "1.50", "true"], rows),
            "member": pd.Series(random.random(rows) < 0.5, dtype="boolean").mask(random.random(rows) < 0.2),
            "joined": days.strftime("%Y-%m-%d"),
            "seen": days.tz_localize("UTC") + pd.to_timedelta(random.integers(0, 86_400_000_000, rows), unit="us"),
            "größe": random.normal(0, 1e12, rows),
            "tiny": random.random(rows) * 1e-9,
        }
    )
    signal = (table["zip"] - 10_005) + table["größe"] / 1e12 + table["member"].fillna(False).astype(int)
    table["y"] = {
        BINARY: np.where(signal > 0, "ja, sicher", "nein"),
        MULTICLASS: np.select([signal < -2, signal < 2], [1, 2], 3),
        REGRESSION: signal * 1e6,
    }[problem_type]
    date_parts = {"parts": ["year", "month", "weekday", "hour", "age_days"], "reference": "2020-01-01T00:00:00Z"}
    columns = [
        Column("age, in years", "number"),
        Column(
            'the "city"', "category", sorted({"Ulm", "Köln", 'say "hi", <b>', "New York, NY", "日本", "two\nlines"})
        ),
        Column("zip", "category", [str(code) for code in range(10_000, 10_010)]),
        Column("plan", "category", ["007", "1.50", "7", "true"]),
        Column("member", "boolean"),
        Column("joined", "date", **date_parts),
        Column("seen", "date", **date_parts),
        Column("größe", "number"),
        Column("tiny", "number"),
    ]
    classes: dict[str, list[Any]] = {BINARY: ["ja, sicher", "nein"], MULTICLASS: [1, 2, 3], REGRESSION: []}
    return table, columns, classes[problem_type]


class Serving:
    """A model in this process, asked as Evaluate asks it and as an endpoint is asked."""

    def __init__(self, folder: Path) -> None:
        self.model = inference.model_fn(str(folder))

    def ask(self, body: bytes, content_type: str, accept: str) -> bytes:
        found, _ = inference.respond(self.model, body, content_type, accept)
        return found.encode() if isinstance(found, str) else found

    def answer(self, request: Request) -> Answer:
        found, kind = inference.respond(self.model, request.body, request.content_type, request.accept)
        return Answer(200, found.encode() if isinstance(found, str) else found, kind, 0.0)


@pytest.mark.parametrize("problem_type", [BINARY, MULTICLASS, REGRESSION])
def test_an_endpoint_answers_as_it_was_evaluated_in_every_format(problem_type: str, tmp_path: Path) -> None:
    table, columns, classes = awkward(problem_type)
    booster, transform = train(problem_type, table, columns, classes)
    serving = Serving(write_archive(tmp_path, transform, booster))
    asked = pa.Table.from_pandas(table, preserve_index=False).select(transform.column_names)
    content: Any = probes.endpoint_rows(serving, transform, asked)
    rows = EvaluatedRows.read(json.dumps(content, allow_nan=False).encode())
    assert (len(rows.rows), len(rows.answers), rows.fault) == (20, 20, "")
    assert (rows.columns, rows.classes) == (tuple(transform.column_names), tuple(classes))
    results = endpoint_checks.run(parse(yaml.safe_load(CASES)), rows, serving.answer)
    assert results.passed, results.failed[0].fault


VALUES = [
    (pa.array([1, None]), "number", [1, None]),
    (pa.array([1.5, np.nan, np.inf, -np.inf]), "number", [1.5, None, 1e38, -1e38]),
    (pa.array([1.5], pa.float16()) if hasattr(pa, "float16") else pa.array([1.5]), "number", [1.5]),
    (pa.array([Decimal("1.10")]), "number", [1.1]),
    (pa.array([Decimal("1.10")]), "category", ["1.10"]),
    (pa.array([True, None]), "boolean", [True, None]),
    (pa.array(["Köln", None]), "category", ["Köln", None]),
    (pa.array(["a", "b", "a"]).dictionary_encode(), "category", ["a", "b", "a"]),
    (pa.array([date(2024, 2, 29)]), "date", ["2024-02-29"]),
    (pa.array([datetime(2024, 2, 29, 12, 30, 1, 5)]), "date", ["2024-02-29 12:30:01.000005"]),
    (pa.array([datetime(2024, 2, 29, tzinfo=UTC)]), "date", ["2024-02-29 00:00:00.000000Z"]),
]


@pytest.mark.parametrize(
    ("column", "kind", "wanted"), VALUES, ids=[f"{column.type} {kind}" for column, kind, _ in VALUES]
)
def test_a_value_is_what_json_has_for_it(column: Any, kind: str, wanted: list[Any]) -> None:
    found = probes.as_json_rows(pa.table({"a": column}), {"a": kind})
    assert [row["a"] for row in found] == wanted
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def file_of(table: dict[str, Any], ask: Any) -> dict[str, Any]:
    transform = Transform(REGRESSION, "y", [], [Column(name, "number") for name in table])
    return probes.endpoint_rows(SimpleNamespace(ask=ask), transform, pa.table(table))


def score_each(body: bytes, content_type: str, accept: str) -> bytes:
    return json.dumps({"predictions": [{"score": 1.0} for _ in json.loads(body)["instances"]]}).encode()


def test_rows_are_taken_from_the_first_to_the_last() -> None:
    rows = file_of({"a": list(range(1_000))}, score_each)["rows"]
    assert len(rows) == 20
    assert (rows[0], rows[-1]) == ({"a": 0}, {"a": 999})


def test_of_few_rows_each_is_taken_once() -> None:
    assert file_of({"a": [1, 2, 3]}, score_each)["rows"] == [{"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize(("largest", "kept"), [(5 * 105, 5), (6 * 126 - 1, 5), (1, 1)])
def test_of_wide_rows_fewer_are_kept_but_one_at_least(monkeypatch: pytest.MonkeyPatch, largest: int, kept: int) -> None:
    monkeypatch.setattr(probes, "LARGEST", largest)
    found = file_of({"a": [1.5] * 20, "b": [12.5] * 20}, score_each)  # 21 bytes each
    assert (len(found["rows"]), len(found["answers"])) == (kept, kept)


def test_of_wide_rows_so_many_are_kept_that_a_serverless_endpoint_takes_them_with_every_value_of_a_column() -> None:
    random = np.random.default_rng(7)
    table = {f"a_rather_long_name_{column}": random.random(20).tolist() for column in range(500)}
    rows = EvaluatedRows.read(json.dumps(file_of(table, score_each)).encode())
    case = {"name": "one", "rows": "evaluated", "formats": FORMATS, "vary": {"a_rather_long_name_7": "evaluated"}}
    sizes = []

    def ask(request: Request) -> Answer:
        sizes.append(len(request.body))
        return Answer(503, b"", "", 0.0, "enough")

    endpoint_checks.run(parse({"cases": [{**case, "expect": {"score": "increasing"}}]}), rows, ask)
    assert 5 < len(rows.rows) < 20
    assert len(sizes) == len(FORMATS)
    assert max(sizes) < 4_000_000


def refuses(*_: Any) -> bytes:
    raise ScoringError("406: no such answer")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (refuses, "the model gives no answer in JSON: 406: no such answer"),
        (lambda *_: b"1.0\n", "the model gives no answer in JSON"),
        (lambda *_: b'{"predictions": [{"score": NaN}]}', "NaN is no number of JSON"),
        (lambda *_: b'{"predictions": []}', "the model gives 0 answers in JSON to 1 rows"),
    ],
)
def test_a_model_that_gives_no_such_json_has_rows_and_a_fault(ask: Any, said: str) -> None:
    found = file_of({"a": [1]}, ask)
    assert (found["rows"], found["answers"]) == ([{"a": 1}], [])
    assert said in found["fault"]
