"""Whatever table hypothesis draws: what trains is what a request with the same row would give."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import csv_files
import numpy as np
import pyarrow as pa
from files import DataError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.steps.data_runs import run, step_settings

PARTS = ("train", "validation", "test")
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
values = st.one_of(
    st.just(""),
    st.sampled_from(
        ["NA", "true", "False", "0", "007", "5", "5.0", "1e400", "-inf", "2026-01-05", "2026-01-05T08:30Z", '"']
    ),
    st.floats().map(repr),
    st.integers().map(str),
    words,
)
# a column is often of one kind, and then has a few others in it
columns = st.one_of(
    st.just(values),
    st.just(st.floats().map(repr)),
    st.just(st.dates().map(lambda day: day.isoformat())),
    st.just(st.sampled_from(["true", "false", ""])),
    st.just(st.sampled_from(["a", "b", "c", "NA"])),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], list[str]]:
    """Rows of three columns, and the part of each."""
    kinds = [draw(columns) for _ in range(3)]
    rows = draw(st.lists(st.tuples(*kinds).map(list), min_size=3, max_size=12))
    parts = [*PARTS, *draw(st.lists(st.sampled_from(PARTS), min_size=len(rows) - 3, max_size=len(rows) - 3))]
    return rows, parts


def csv_text(rows: list[list[Any]], delimiter: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL)
    writer.writerows([["a", "b", "c", "part", "y"], *rows])
    return stream.getvalue()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.sampled_from([",", ";", "\t"]), st.sampled_from([40, 1 << 20]))
def test_what_trains_is_what_a_request_gives(
    drawn: tuple[list[list[str]], list[str]], delimiter: str, block: int
) -> None:
    rows, parts = drawn
    # the parser cannot know a lone carriage return within a text that nothing quotes from a line's end
    assume(not any("\r" in value for row in rows for value in row))
    whole = [[*row, part, str(number)] for number, (row, part) in enumerate(zip(rows, parts, strict=True))]
    cut = csv_files.BLOCK
    csv_files.BLOCK = block
    try:
        with tempfile.TemporaryDirectory() as folder:
            changes: dict[str, Any] = {"column": "part", "delimiter": delimiter}
            done = run(Path(folder), {"a.csv": csv_text(whole, delimiter)}, step_settings(**changes))
            transform, test = done.transform, done.read("test")
            read = {part: done.read(part) for part in PARTS}
    finally:
        csv_files.BLOCK = cut
    assert [done.summary["rows"][part] for part in PARTS] == [parts.count(part) for part in PARTS]
    by_row = {number: transform.features_of_rows([row], ["a", "b", "c"])[0] for number, row in enumerate(rows)}
    for part in ("train", "validation"):
        table = read[part]
        trained = np.column_stack([table[name].to_numpy() for name in transform.feature_names])
        for number, features in zip(table["y"].to_pylist(), trained, strict=True):
            np.testing.assert_array_equal(features, by_row[int(number)])
    # what Evaluate sends to the model are the raw test rows
    for number, features in zip(test["y"].to_pylist(), transform.features(test), strict=True):
        np.testing.assert_array_equal(features, by_row[int(number)])
    as_text = pa.table({name: [row[place] for row in rows] for place, name in enumerate("abc")})
    np.testing.assert_array_equal(transform.features(as_text), np.stack(list(by_row.values())))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.csv.gz", "a.parquet"]), st.sampled_from([20, 1 << 20]))
def test_any_bytes_are_read_or_refused_by_name(content: bytes, name: str, block: int) -> None:
    cut = csv_files.BLOCK
    csv_files.BLOCK = block
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(DataError):
            run(Path(folder), {name: b"a,y\n" + content if name == "a.csv" else content})
    finally:
        csv_files.BLOCK = cut
