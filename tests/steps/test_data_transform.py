"""The transformation: columns and rows, texts and natural types, all give the same; what cannot be taken is named."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform import BLANKS, MISSING, Column, ColumnError, Missing, Transform, as_text, numbers

REFERENCE = "2026-11-21T12:00:00Z"
DAY = Column("day", "date", parts=["year", "month", "day", "weekday", "hour", "age_days"], reference=REFERENCE)
GERMAN = Column("german", "date", format="%d/%m/%Y", parts=["year", "month", "age_days"], reference=REFERENCE)
COLUMNS = [
    Column("number", "number"),
    Column("flag", "boolean"),
    Column("city", "category", ["1.50", "05", "5", "Ulm", "é", "true"]),
    Column("rare", "category", ["a", "b"], other=True),
    DAY,
    GERMAN,
    Column("nothing", "empty"),
]
FITTED = Transform("regression", "y", [], COLUMNS, missing=["?", "-999", "5.0"])


def one(column: Column, *values: Any, type: pa.DataType | None = None, missing: tuple[str, ...] = ()) -> list[Any]:
    """The column's features for the values; None for NaN; a list per row when the column has several features."""
    fitted = Transform("regression", "y", [], [column], missing=list(missing))
    found = fitted.features(pa.table({column.name: pa.array(values, type)})).tolist()
    rows = [[None if math.isnan(value) else value for value in row] for row in found]
    return [row[0] for row in rows] if len(column.feature_names) == 1 else rows


number_texts = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        ["+1", "1.", ".5", "1e400", "-1E400", "1e-400", "INF", "-infinity", "NAN", "00123", "5.0", "-999.0"]
    ),
)
missing_words = st.sampled_from([*sorted(MISSING), "?", "-999", "5"])
dates = st.one_of(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(datetime.isoformat),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(
        lambda moment: moment.isoformat(" ", "minutes") + "+0530"
    ),
    st.dates().map(date.isoformat),
    st.sampled_from(["2026-01-05T08:30:00.1234567Z", "1969-12-31T23:59:59.999999999Z", "2026-01-05 08:30-11"]),
)
# What no parser may take in another way than the others.
anything = st.one_of(
    st.text(alphabet="+-.e019nafi_(x) \t\u00a0é\x1c１:TZtrueTRUE", max_size=8),
    st.sampled_from(
        ["2026-02-30", "0000-01-01", "2026-01-05T24:00", "2026-01-05T00:00+99", "1_000", "0x10", "true", "1e5"]
    ),
)


def padded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    blanks = st.text(alphabet=BLANKS, max_size=2)
    return st.tuples(blanks, texts, blanks).map("".join)


def texts_of(column: Column) -> st.SearchStrategy[str | None]:
    own = {
        "number": number_texts,
        "boolean": st.sampled_from(["true", "False", "TRUE", "0", "1.0", "1.", "-0"]),
        "category": st.one_of(number_texts, anything, st.sampled_from([*COLUMNS[2].categories, "a", "b", "c", "5.0"])),
        "date": dates
        if column.format is None
        else st.dates(date(1900, 1, 1)).map(lambda day: day.strftime("%d/%m/%Y")),
        "empty": anything,
    }
    return st.one_of(st.none(), missing_words, padded(own[column.kind]))


tables = st.lists(st.tuples(*(texts_of(column) for column in COLUMNS)), max_size=6)


@settings(max_examples=300, deadline=None)
@given(tables)
def test_columns_and_rows_give_the_same(rows: list[tuple[str | None, ...]]) -> None:
    names = FITTED.column_names
    table = pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)})
    by_columns = FITTED.features(table)
    by_rows = FITTED.features_of_rows([list(row) for row in rows], names)
    assert by_columns.dtype == by_rows.dtype == np.float32
    assert by_columns.shape == by_rows.shape == (len(rows), len(FITTED.feature_names))
    np.testing.assert_array_equal(by_columns, by_rows)
    assert np.isfinite(by_columns[~np.isnan(by_columns)]).all()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(COLUMNS), st.one_of(padded(anything), padded(number_texts), padded(dates)))
def test_columns_and_rows_refuse_the_same_and_take_the_same(column: Column, text: str) -> None:
    fitted = Transform("regression", "y", [], [column])
    results = []
    for encode in (
        lambda: fitted.features(pa.table({column.name: ["", text]})),
        lambda: fitted.features(pa.table({column.name: pa.array(["", text]).dictionary_encode()})),
        lambda: fitted.features_of_rows([[""], [text]], [column.name]),
    ):
        try:
            results.append(encode().tolist())
        except ColumnError as error:
            results.append((error.fault, error.column, error.row))
    assert repr(results[0]) == repr(results[1]) == repr(results[2])
    assert isinstance(results[0], list) or results[0][1:] == (column.name, 1)


@pytest.mark.parametrize("text", ["1" * 300_000 + "x", "1." + "0" * 300_000 + "x", "0" * 300_000 + "e"])
def test_a_long_text_of_digits_is_refused_at_once(text: str) -> None:
    fitted = Transform("regression", "y", [], [Column("size", "number")])
    begun = time.process_time()
    for encode in (
        lambda: fitted.features(pa.table({"size": [text]})),
        lambda: fitted.features_of_rows([[text]], ["size"]),
    ):
        with pytest.raises(ColumnError, match="must be a number"):
            encode()
    # a pattern that tries every way to divide the digits needs minutes
    assert time.process_time() - begun < 2


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63 - 1).map(float))))
def test_numbers_as_numbers_and_as_text_give_the_same(values: list[float | None]) -> None:
    column = Column("x", "number")
    natural = one(column, *values, type=pa.float64(), missing=("-1",))
    assert one(column, *(None if v is None else repr(v) for v in values), type=pa.string(), missing=("-1",)) == natural
    fitted = Transform("regression", "y", [], [column], missing=["-1"])
    by_rows = fitted.features_of_rows([[value] for value in values], ["x"])[:, 0].tolist()
    assert [None if math.isnan(value) else value for value in by_rows] == natural


@pytest.mark.parametrize(
    "type",
    [pa.int8(), pa.uint8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(5, 1),
     pa.decimal256(40, 2), pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
     pa.dictionary(pa.int32(), pa.int64())],
)  # fmt: skip
def test_every_type_of_number_is_taken(type: pa.DataType) -> None:
    value_type = type.value_type if pa.types.is_dictionary(type) else type
    kind = Decimal if pa.types.is_decimal(type) else str if "string" in str(value_type) else np.float16 if (
        type == pa.float16()
    ) else float if pa.types.is_floating(type) else int  # fmt: skip
    values = pa.array([kind(7), None, kind(3)], value_type)
    array = values.dictionary_encode() if pa.types.is_dictionary(type) else values
    for given_as in (array, pa.chunked_array([array, array])):
        found = Transform("regression", "y", [], [Column("x", "number")]).features(pa.table({"x": given_as}))
        np.testing.assert_array_equal(found[:3, 0], np.array([7, np.nan, 3], np.float32))
    codes = Transform("regression", "y", [], [Column("x", "category", ["3", "7"])]).features(pa.table({"x": array}))
    np.testing.assert_array_equal(codes[:, 0], np.array([1, np.nan, 0], np.float32))


def test_huge_and_infinite_numbers_stay_finite_and_in_order() -> None:
    found = one(Column("x", "number"), "-1e400", "-inf", "-1e39", "-1e38", "0", "1e-400", "1e38", "1e300", "inf")
    largest = float(np.float32(1e38))
    assert found == [-largest] * 4 + [0, 0] + [largest] * 3
    assert one(Column("x", "number"), -math.inf, 1e300, 5e-324) == [-largest, largest, 0]
    rows = Transform("regression", "y", [], [Column("x", "number")]).features_of_rows([[10**400], [-(10**400)]], ["x"])
    assert rows[:, 0].tolist() == [largest, -largest]


def test_one_value_has_one_text() -> None:
    same = [5, 5.0, np.float32(5), np.int8(5), Decimal("5.00"), "5", " 5.0 ", "5."]
    assert {as_text(value) for value in same} == {"5"}
    assert {as_text(value) for value in (True, np.True_, "true", "True", "TRUE ")} == {"true"}
    given_as = ("05", "1.50", "v1.0", 0.1, np.float32(0.1), "", "-0.0", -0.0, date(2026, 1, 5))
    assert [as_text(value) for value in given_as] == ["05", "1.50", "v1.0", "0.1", "0.1", "", "0", "0", "2026-01-05"]


@settings(deadline=None)
@given(st.one_of(st.floats(), st.integers(), st.booleans(), padded(anything), padded(number_texts)))
def test_writing_a_text_again_changes_nothing(value: Any) -> None:
    assert as_text(as_text(value)) == as_text(value)


def test_rare_and_unseen_categories_share_a_code_when_training_saw_rare_ones() -> None:
    assert one(Column("x", "category", ["a", "b"], other=True), "b", "z", None, "NA") == [1, 2, None, None]
    assert one(Column("x", "category", ["a", "b"]), "b", "z", None, "NA") == [1, None, None, None]


def test_a_date_becomes_its_parts_and_its_age() -> None:
    expected = [
        2026,
        1,
        5,
        0,
        8,
        pytest.approx((datetime(2026, 11, 21, 12) - datetime(2026, 1, 5, 8, 30)).total_seconds() / 86400),
    ]
    moment = datetime(2026, 1, 5, 8, 30)
    for text in ("2026-01-05T08:30", "2026-01-05 08:30:00.000Z", "2026-01-05T10:30+02:00", "2026-01-05T03:00-0530"):
        assert one(DAY, text) == [expected]
    for unit in ("s", "ms", "us", "ns"):
        assert one(DAY, moment, type=pa.timestamp(unit)) == [expected]
        zoned = (moment + timedelta(hours=1)).replace(tzinfo=UTC) - timedelta(hours=1)
        assert one(DAY, zoned, type=pa.timestamp(unit, "Europe/Berlin")) == [expected]
    midnight = [2026, 1, 5, 0, 0]
    for value, kind in ((date(2026, 1, 5), pa.date32()), (date(2026, 1, 5), pa.date64()), ("2026-01-05", pa.string())):
        assert one(DAY, value, type=kind)[0][:5] == midnight
    assert one(GERMAN, "05/01/2026", "", None) == [[2026, 1, pytest.approx(320.5)], [None] * 3, [None] * 3]
    assert one(DAY, datetime(1960, 2, 29, 23), type=pa.timestamp("ns"))[0][:5] == [1960, 2, 29, 0, 23]
    assert one(DAY, None, type=pa.int64()) == [[None] * 6]


def test_a_date_in_another_zone_counts_in_utc() -> None:
    column = Column("day", "date", format="%Y-%m-%d %H:%M %z", parts=["day", "hour"], reference=REFERENCE)
    assert one(column, "2026-01-05 23:30 -0100") == [[6, 0]]


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        (COLUMNS[0], ["1", "abc"], "must be a number, but is 'abc'"),
        (COLUMNS[0], ["1", "1,5"], "must be a number, but is '1,5'"),
        (COLUMNS[1], ["true", "yes"], "must be true or false, but is 'yes'"),
        (COLUMNS[1], [1.0, 0.5], "must be true or false, but is 0.5"),
        (DAY, ["2026-01-05", "5.1."], "must be a date in ISO 8601 (2026-11-21 or 2026-11-21T08:30:00Z), but is '5.1.'"),
        (GERMAN, ["05/01/2026", "2026-01-05"], "must be a date like %d/%m/%Y, but is '2026-01-05'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_column_and_row(column: Column, values: list[Any], fault: str) -> None:
    fitted = Transform("regression", "y", [], [column])
    for encode in (
        lambda: fitted.features(pa.table({column.name: values})),
        lambda: fitted.features_of_rows([[value] for value in values], [column.name]),
    ):
        with pytest.raises(ColumnError) as caught:
            encode()
        assert (caught.value.fault, caught.value.column, caught.value.row) == (fault, column.name, 1)
        assert str(caught.value) == f"column {column.name!r}: {fault}"


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        (COLUMNS[0], pa.array([[1]]), "must be a number, but is of type list"),
        (COLUMNS[0], pa.array([True]), "must be a number, but is of type bool"),
        (COLUMNS[0], pa.array([date(2026, 1, 1)]), "must be a number, but is of type date32"),
        (DAY, pa.array([5]), "must be a date in ISO 8601 .* but is of type int64"),
        (COLUMNS[2], pa.array([{"a": 1}]), "must be a text, but is of type struct"),
        (COLUMNS[2], pa.array([b"a"]), "must be a text, but is of type binary"),
        (DAY, pa.array([2**60], pa.timestamp("s")), "must lie within the years 1 to 9999"),
    ],
)
def test_a_column_of_another_type_is_refused(column: Column, values: pa.Array, fault: str) -> None:
    with pytest.raises(ColumnError, match=fault) as caught:
        Transform("regression", "y", [], [column]).features(pa.table({column.name: values}))
    assert caught.value.column == column.name


def test_missing_and_repeated_columns_are_named_and_others_left_alone() -> None:
    fitted = Transform("regression", "y", [], [Column("a", "number"), Column("b", "number")])
    with pytest.raises(ColumnError, match="columns are missing: b"):
        fitted.features(pa.table({"a": [1], "c": [2]}))
    with pytest.raises(ColumnError, match="columns are missing: a"):
        fitted.features_of_rows([[1]], ["b"])
    with pytest.raises(ColumnError, match="column 'a': is there more than once"):
        fitted.features_of_rows([[1, 2, 3]], ["a", "a", "b"])
    assert fitted.features(pa.table({"c": [[9]], "b": [2], "a": [1]})).tolist() == [[1, 2]]
    assert fitted.features(pa.record_batch({"b": [2], "a": [1]})).tolist() == [[1, 2]]


def test_words_for_missing_values_are_missing_everywhere() -> None:
    words = ("-999", "?", "true")
    assert one(Column("x", "number"), "-999", "-999.0", " ? ", "true", "TRUE", "1", missing=words) == [None] * 5 + [1]
    assert one(Column("x", "number"), -999, 1, type=pa.int64(), missing=words) == [None, 1]
    assert one(Column("x", "category", ["a"]), "-999.0", "?", "TRUE", "a", missing=words) == [None] * 3 + [0]
    assert one(Column("x", "boolean"), True, False, missing=words) == [None, 0]
    assert one(DAY, "?", "nan", missing=words) == [[None] * 6] * 2
    assert np.isnan(numbers(pa.array(sorted(MISSING)), Missing.of([]))).all()


@pytest.mark.parametrize(
    ("classes", "values", "positions"),
    [
        ([0, 1], ["1", "0.0", "1e0"], [1, 0, 1]),
        ([0, 1], pa.array([1, 0]), [1, 0]),
        ([-1, 0.5, 7], pa.array([7.0, 0.5, -1.0]), [2, 1, 0]),
        ([False, True], pa.array([True, False]), [1, 0]),
        ([False, True], ["TRUE", "false"], [1, 0]),
        (["no", "yes"], ["yes", " no"], [1, 0]),
        (["05", "5"], ["5.0", "05"], [1, 0]),
        (["1", "a"], pa.array([1, 1]), [0, 0]),
    ],
)
def test_a_label_is_its_position_among_the_classes(classes: list[Any], values: Any, positions: list[int]) -> None:
    fitted = Transform("multiclass_classification", "y", classes, [])
    found = fitted.labels(pa.array(values) if isinstance(values, list) else values)
    assert found.dtype == np.float32
    assert found.tolist() == positions


@pytest.mark.parametrize(
    ("classes", "values", "fault"),
    [
        ([0, 1], [0, 2], "holds 2, which is none of the classes 0, 1"),
        (["a", "b"], ["a", "c"], "holds 'c', which is none of the classes a, b"),
        (["a", "b"], ["a", None], "holds None, which is none"),
        ([False, True], [True, None], "holds None"),
        ([], [1.0, None], "has no value"),
        ([], [1.0, math.inf], r"holds inf: it must lie within \+-1e\+38"),
        ([], ["1", "x"], "must be a number, but is 'x'"),
    ],
)
def test_what_is_no_label_is_named(classes: list[Any], values: list[Any], fault: str) -> None:
    with pytest.raises(ColumnError, match=fault) as caught:
        Transform("regression", "y", classes, []).labels(pa.array(values))
    assert (caught.value.column, caught.value.row) == ("y", 1)


def test_it_survives_being_stored(tmp_path: Path) -> None:
    fitted = Transform("binary_classification", "y", [False, True], COLUMNS, [3, 4], ["?"], {"seed": 0})
    fitted.save(tmp_path / "transform.json")
    assert Transform.load(tmp_path / "transform.json") == fitted
    json.loads((tmp_path / "transform.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def test_features_say_what_they_are_and_where_from() -> None:
    assert FITTED.feature_names[:6] == ["number", "flag", "city", "rare", "day.year", "day.month"]
    assert FITTED.sources[4:] == ["day"] * 6 + ["german"] * 3 + ["nothing"]
    assert FITTED.feature_types == ["q", "i", "c", "c"] + ["q"] * 10
    assert FITTED.column_names == [column.name for column in COLUMNS]
