"""Whatever the rows: each form of a request gives the features that training gives, in a batch and one by one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import inference
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import request_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_types import RequestError

from tests.steps.serving_models import COLUMNS, make_transform, train_booster, write_archive

NAMES = [column.name for column in COLUMNS]
FORMS = ("csv", "csv with header", "records", "instances", "lists", "columns", "lines", "lists in lines", "parquet")

# What a request can hold besides what training knows. Text that is no UTF-8 is another test's.
number = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(width=64, allow_nan=False),
    st.sampled_from(
        ["12", " 7 ", "-1e400", "1e-400", "+.5", "5.", "inf", "-Infinity", "NaN", "NA", "", "unknown", "-999"]
    ),
    st.sampled_from([-999, 1e39, None]),
)
category = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=6),
    st.sampled_from(
        ["Ulm", " Ulm", "Köln", "New York, NY", "5", "5.0", "TRUE", "null and void", 'say "hi"', "two\nlines"]
    ),
    st.sampled_from([5, 5.0, True, None, 1.5, "1.50", "1.5", 2**70, "unknown", "null"]),
)
boolean = st.sampled_from([True, False, 1, 0, 1.0, "true", "FALSE", "0", "", None, "NA", " true"])
iso = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.dates().map(str),
    st.sampled_from(["2026-11-21T08:30+05:30", "2026-11-21 08:30:00.123456789Z", "", None, "NaT"[:0], "unknown"]),
)
day = st.one_of(
    st.dates().filter(lambda date: date.year > 999).map(lambda date: date.strftime("%d/%m/%Y")),
    st.sampled_from(["", None]),
)
ROW = st.tuples(number, category, boolean, iso, category, day, category).map(list)
ROWS = st.lists(ROW, min_size=1, max_size=8)
FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> inference.Model:
    transform = make_transform()
    folder = write_archive(tmp_path_factory.mktemp("model") / "model", transform, train_booster(transform))
    return inference.model_fn(str(folder))


def as_written(value: Any) -> str:
    """As a program would write the value into CSV."""
    return "" if value is None else str(value)


def as_csv(rows: list[list[Any]], header: list[str] | None = None) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(([header] if header else []) + [[as_written(value) for value in row] for row in rows])
    return stream.getvalue()


def as_parquet(rows: list[list[Any]], names: list[str]) -> bytes:
    """A column of values of one type in that type, others as text."""
    columns = []
    for column in zip(*rows, strict=True):
        try:
            columns.append(pa.array(column))
        except (pa.ArrowException, OverflowError):
            columns.append(pa.array([None if value is None else str(value) for value in column], pa.string()))
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, names), stream)
    return stream.getvalue().to_pybytes()


def request(form: str, rows: list[list[Any]], order: list[int]) -> tuple[str | bytes, str]:
    """The rows in one of the forms; the columns in `order` where they are named."""
    names = [NAMES[position] for position in order]
    shuffled = [[row[position] for position in order] for row in rows]
    records = [dict(zip(names, row, strict=True)) for row in shuffled]
    bodies: dict[str, tuple[str | bytes, str]] = {
        "csv": (as_csv(rows), "text/csv; header=absent"),
        "csv with header": (as_csv([[*row, 1] for row in shuffled], [*names, "extra"]), "text/csv"),
        "records": (json.dumps(records), "application/json"),
        "instances": (json.dumps({"instances": records}, ensure_ascii=False), "application/json"),
        "lists": (json.dumps([{"features": row} for row in rows]), "application/json"),
        "columns": (json.dumps({"columns": names, "data": shuffled, "index": [0]}), "application/json"),
        "lines": ("".join(json.dumps(record) + "\n" for record in records), "application/x-ndjson"),
        "lists in lines": ("\n".join(map(json.dumps, rows)), "application/jsonlines"),
        "parquet": (as_parquet(shuffled, names), "application/x-parquet"),
    }
    return bodies[form]


@contextmanager
def by_arrow() -> Iterator[None]:
    """As if every request had many rows."""
    with patch.object(request_rows, "FEW_CHARACTERS", 0), patch.object(request_rows, "FEW_VALUES", 0):
        yield


@FUZZ
@given(rows=ROWS, form=st.sampled_from(FORMS), order=st.permutations(range(len(NAMES))))
def test_serving_gives_what_training_gives(
    model: inference.Model, rows: list[list[Any]], form: str, order: list[int]
) -> None:
    table = pa.table(
        [pa.array([None if v is None else str(v) for v in column]) for column in zip(*rows, strict=True)], NAMES
    )
    trained = model.transform.features(table)
    body, content_type = request(form, rows, order)
    np.testing.assert_array_equal(model.reader.features(body, content_type), trained)
    if isinstance(body, str):
        np.testing.assert_array_equal(model.reader.features(body.encode(), content_type), trained)
    with by_arrow():
        np.testing.assert_array_equal(model.reader.features(body, content_type), trained)
    for position, row in enumerate(rows):
        alone, content_type = request(form, [row], order)
        np.testing.assert_array_equal(model.reader.features(alone, content_type), trained[position : position + 1])


@FUZZ
@given(rows=ROWS, form=st.sampled_from(FORMS))
def test_answers_in_a_batch_are_the_answers_one_by_one(
    model: inference.Model, rows: list[list[Any]], form: str
) -> None:
    order = list(range(len(NAMES)))
    whole = inference.transform_fn(model, *request(form, rows, order), "text/csv")[0].splitlines()
    alone = [inference.transform_fn(model, *request(form, [row], order), "text/csv")[0].strip() for row in rows]
    assert whole == alone


# Lines of CSV that are right, nearly right and wrong, since random bytes hardly ever are the first two.
field = st.one_of(
    st.text('0123456789.,;"\n\r -+eENaNinf\t\u00a0x_', max_size=6), number.map(as_written), category.map(as_written)
)
nearly_csv = st.lists(st.lists(field, min_size=6, max_size=8).map(",".join), max_size=4).map("\n".join)
# A right body with a piece put in or taken out somewhere.
plain = "42,Ulm,true,2026-11-20T08:30:00Z,A,31/12/2025,\n"
pieces = st.sampled_from(
    ["\n", "\r", "\r\n", '"', '""', ",", " ", "\ufeff", "\0", "_", "x", "\u00a0", "\x1c", "\u0663", "\u2028", "-", "NA"]
)
spoilt_csv = st.builds(
    lambda count, place, piece, less: (text := plain * count)[:place] + piece + text[place + less :],
    st.integers(1, 3),
    st.integers(0, 3 * len(plain)),
    pieces,
    st.integers(0, 3),
)
scalar = st.one_of(st.none(), st.booleans(), number, st.text(max_size=4), st.integers(), st.floats())
nearly_json = st.recursive(
    scalar,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.sampled_from([*NAMES, "instances", "columns", "data", "features"]), inner, max_size=8),
        st.fixed_dictionaries(dict.fromkeys(NAMES, inner)),
    ),
    max_leaves=30,
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60),
    nearly_csv,
    spoilt_csv,
    nearly_csv.map(lambda text: ",".join(NAMES[:4]) + text),
    nearly_json.map(json.dumps),
    nearly_json.map(lambda value: json.dumps(value)[:-1]),
    st.binary(max_size=20).map(
        lambda content: as_parquet([[1, "x", True, None, "A", None, None]], NAMES)[:-5] + content
    ),
)
content_types = st.sampled_from(
    [
        "text/csv",
        "text/csv; header=present",
        "text/csv;header=absent",
        "application/json",
        "application/x-ndjson",
        "application/x-parquet",
        "image/png",
        "",
    ]
)
accepts = st.sampled_from(
    ["*/*", "text/csv", "application/json; contributions=true", "application/x-parquet", "a/b;q=x"]
)


def answer_or_refusal(
    model: inference.Model, body: bytes | str, content_type: str, accept: str, arrow: bool = False
) -> tuple[str | bytes, str] | RequestError:
    """Any other exception would be the caller's mistake answered with a 500."""
    try:
        with by_arrow() if arrow else nullcontext():
            return inference.transform_fn(model, body, content_type, accept)
    except RequestError as error:
        return error


@settings(deadline=None, max_examples=400)
@given(body=bodies, content_type=content_types, accept=accepts, arrow=st.booleans())
def test_any_body_is_answered_or_refused_with_a_reason(
    model: inference.Model, body: bytes | str, content_type: str, accept: str, arrow: bool
) -> None:
    answer = answer_or_refusal(model, body, content_type, accept, arrow)
    if isinstance(answer, RequestError):
        assert answer.status_code in (400, 406, 413, 415)
        assert str(answer)
    else:
        assert answer[0]
        assert answer[1] in ("application/json", "text/csv", "application/x-parquet")


@settings(deadline=None, max_examples=400)
@given(body=st.one_of(nearly_csv, spoilt_csv, ROWS.map(as_csv)), header=st.sampled_from(["present", "absent"]))
def test_arrow_takes_the_same_csv_as_plain_python(model: inference.Model, body: str, header: str) -> None:
    """So that the number of rows in a request decides nothing but the time."""
    answers: list[Any] = []
    for arrow in (True, False):
        found = answer_or_refusal(model, body, f"text/csv; header={header}", "text/csv", arrow)
        answers.append((found.status_code, found.row, found.column) if isinstance(found, RequestError) else found)
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_(), pa.string(), pa.large_string(), pa.binary()),
        *(
            pa.date32(),
            pa.date64(),
            pa.timestamp("ns"),
            pa.timestamp("s", "Europe/Berlin"),
            pa.time32("s"),
            pa.time64("ns"),
        ),
        *(pa.duration("s"), pa.decimal128(20, 3), pa.decimal256(60, 3), pa.null(), pa.binary(4), pa.string_view()),
        *(pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64())),
        *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int8(), pa.int64())),
    ],
    ids=str,
)
def test_columns_of_any_type_are_answered_or_refused_with_a_reason(model: inference.Model, kind: pa.DataType) -> None:
    values: dict[str, Any] = {"int64": 1, "uint64": 2**63, "binary": b"\xff\xfe", "fixed_size_binary[4]": b"\xff\xfe00"}
    samples = [values.get(str(kind)), 1, 1.5, True, "x", b"x", "2026-11-21", [1], {"a": 1}, [("a", 1)]]
    columns = []
    for sample in samples:
        try:
            columns.append(pa.array([sample, None], kind))
        except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError):
            continue
    for column in columns or [pa.nulls(2, kind)]:
        for name in NAMES:
            arrays = [column if other == name else pa.nulls(2, pa.string()) for other in NAMES]
            stream = pa.BufferOutputStream()
            try:
                pq.write_table(pa.table(arrays, NAMES), stream)
            except pa.ArrowNotImplementedError:
                continue  # Parquet has no such type
            answer = answer_or_refusal(model, stream.getvalue().to_pybytes(), "application/x-parquet", "text/csv")
            if isinstance(answer, RequestError):
                assert answer.column == name
            else:
                assert len(answer[0].splitlines()) == 2
