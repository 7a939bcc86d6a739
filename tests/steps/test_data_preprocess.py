"""Awkward data of every kind, from files to the parts that training and evaluation read."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import csv_files
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files import DataError
from preprocess import main
from transform import MISSING, as_text

from tests.steps.data_runs import Done, run, step_settings

ROWS = 400


def numbers(rows: int = ROWS, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=rows), random.integers(0, 1000, rows)
    return pd.DataFrame({"a": a, "b": b, "y": a * 3 + b / 100})


def with_column(values: Any, name: str = "x") -> pd.DataFrame:
    """The table of numbers with one more column, whose values repeat over all rows."""
    values = list(values)
    return numbers().assign(**{name: pd.Series((values * ROWS)[:ROWS], dtype=object)})


def train_column(done: Done, name: str = "x") -> np.ndarray:
    return done.read("train")[name].to_numpy()


# ---- files ----


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.csv", lambda text: text.encode()),
        ("a.csv", lambda text: b"\xef\xbb\xbf" + text.encode()),
        ("a.csv", lambda text: text.encode("utf-16")),
        ("a.csv", lambda text: text.encode("utf-16-le")),
        ("a.csv", lambda text: text.encode("utf-16-be")),
        ("a.csv", lambda text: text.encode("utf-32")),
        ("a.csv", lambda text: text.encode("cp1252")),
        ("a.csv", lambda text: text.replace("\n", "\r\n").encode()),
        ("a.csv", lambda text: text.replace("\n", "\r").encode()),
        ("a.csv", lambda text: ("\n\n" + text.replace("\n", "\n\n")).encode()),
        ("a.csv", lambda text: text.rstrip("\n").encode()),
        ("A.CSV.GZ", lambda text: gzip.compress(text.encode())),
        ("a.tsv", lambda text: text.replace(",", "\t").encode()),
        ("a.csv.gz", lambda text: gzip.compress(text[:500].encode()) + gzip.compress(text[500:].encode())),
        ("a.csv.gz", lambda text: gzip.compress(text.encode("cp1252"))),
        ("a.csv", lambda text: text.replace(",", ";").encode()),
        ("a.csv", lambda text: text.replace(",", "\t").encode()),
        ("a.csv", lambda text: text.replace(",", "|").encode()),
        ("a.csv", lambda text: text.replace(",", ";").replace(".", ",").encode()),
        ("a.csv", lambda text: text.replace(",", " , ").encode()),
    ],
)
def test_a_csv_file_is_read_as_it_is_written(name: str, encode: Any, tmp_path: Path) -> None:
    table = numbers().round(6).assign(stadt=["Köln", "Ulm", "Zürich", "Ärzte"] * (ROWS // 4))
    expected = run(tmp_path / "plain", {"a.parquet": table})
    found = run(tmp_path / "given", {name: encode(table.to_csv(index=False))})
    assert found.kinds == {"a": "number", "b": "number", "stadt": "category"}
    for part in ("train", "validation"):
        assert found.read(part).equals(expected.read(part))
    raw, same = (done.frame("test").astype({"b": float}) for done in (found, expected))
    assert raw.assign(stadt=raw["stadt"].str.strip()).equals(same)


def test_what_was_guessed_is_said(tmp_path: Path) -> None:
    text = "a;stadt;y\n" + "".join(f"{i},5;Köln;{i}\n" for i in range(100))
    warnings = run(tmp_path, {"a.csv": text.encode("cp1252")}).summary["warnings"]
    assert any("a.csv is not UTF-8: it is read as Windows-1252" in warning for warning in warnings)
    assert any("a.csv: its numbers are read with a decimal comma" in warning for warning in warnings)


def test_delimiter_quote_encoding_and_decimal_mark_are_taken_from_the_settings(tmp_path: Path) -> None:
    text = "a~w~y\n" + "".join(f"{i},5~'it''s ~ {i % 3}\n{'é' * (i % 2)}'~{i}\n" for i in range(100))
    settings = step_settings(delimiter="~", quote="'", encoding="latin-1", decimal=",")
    done = run(tmp_path, {"a.csv": text.encode("latin-1")}, settings)
    assert done.kinds == {"a": "number", "w": "category"}
    assert set(done.transform.columns[1].categories) == {
        f"it's ~ {i}\n{e}".strip() for i in range(3) for e in ("", "é")
    }
    assert sorted(done.frame("test")["a"] % 1) == [0.5] * len(done.frame("test"))
    plain = run(
        tmp_path / "none",
        {"a.csv": "a,w,y\n" + "".join(f'{i},"{"xy"[i % 2]},{i}\n' for i in range(50))},
        step_settings(quote=""),
    )
    assert set(plain.transform.columns[1].categories) <= {'"x', '"y'}


def test_quotes_are_understood_wherever_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["plain", "a,b", 'say "hi"', "two\nlines", "two\r\nlines", 'end"', '"', "", "x" * 300]
    table = with_column(words, "w").assign(number=range(ROWS))
    expected = run(tmp_path / "whole", {"a.csv": table})
    for size in (50, 333, 4096):
        monkeypatch.setattr(csv_files, "BLOCK", size)
        found = run(tmp_path / str(size), {"a.csv": table})
        for part in ("train", "validation", "test"):
            assert found.frame(part).equals(expected.frame(part))
    assert set(expected.frame("test")["w"].dropna().str.strip()) == {word.strip() for word in words}


def test_a_quote_within_a_text_is_a_character_wherever_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f'{i},{i % 7}" pipe,"line\n{i % 5}",{i}\n' for i in range(300))
    for size in (64, 1 << 20):
        monkeypatch.setattr(csv_files, "BLOCK", size)
        done = run(tmp_path / str(size), {"a.csv": "a,w,v,y\n" + rows})
        assert done.summary["rows"]["read"] == 300
        assert set(done.frame("test")["w"]) <= {f'{i}" pipe' for i in range(7)}
        assert set(done.frame("test")["v"]) <= {f"line\n{i}" for i in range(5)}


def test_a_text_may_be_long(tmp_path: Path) -> None:
    long = "y\n" + 200_000 * "z"  # more than the csv module takes by default
    done = run(tmp_path, {"a.csv": numbers().assign(w=[long, "b"] * 200)})
    assert set(done.transform.columns[2].categories) == {long, "b"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file under data.uri"),
        ({"_SUCCESS": b"x", ".hidden.csv": b"x"}, "no file under data.uri"),
        ({"a.csv": b""}, "a.csv is empty"),
        ({"a.csv": b"\n\n"}, "a.csv has no header line"),
        ({"a.txt": b"a,y\n1,2\n"}, "a.txt: its ending does not say"),
        ({"a.csv": b"a,a,y\n1,2,3\n"}, "a.csv: the column 'a' occurs more than once"),
        ({"a.csv": b"a,,y\n1,2,3\n"}, "a.csv: a column has no name"),
        ({"a.csv": b"a,y\n1,2,\n3,4,\n"}, "a.csv: the row in line 2 has 3 fields, the header line has 2"),
        ({"a.csv": b"a,y\n\n1,2\n3\n"}, "a.csv: the row in line 4 has 1 fields"),
        ({"a.csv": b'a,y\n"1\n1",2\n3\n'}, "a.csv: the row in line 4 has 1 fields"),
        ({"a.csv": b'a,y\n1,2\n"3,4\n5,6\n'}, "a.csv: in line 3 or later a text in quotes .* never ends"),
        ({"a.csv": b'y,a\n1,2" x\n3,"4\n5,6\n'}, "a.csv: in line 3 or later a text in quotes .* never ends"),
        ({"a.csv.gz": gzip.compress(b"a,y\n1,2\n")[:-9]}, "a.csv.gz is not a readable CSV"),
        ({"a.csv": b"a,y\n\x81,1\n"}, "neither UTF-8 nor Windows-1252"),
        ({"a.parquet": b"PAR1 nonsense"}, "a.parquet is not a readable Parquet"),
        ({"a.csv": b"a,y\n1,2\n", "b.csv": b"a,c\n1,2\n"}, r"b.csv and a.csv have different columns \(c, y\)"),
        ({"a.csv": b"a,y\n"}, "header but no row"),
        ({"a.csv": b"a,y\n1,\n2,NA\n"}, "no row has a value in the target"),
        ({"a.csv": b"a,z\n1,2\n"}, r"no column 'y' \(data.target in settings.yaml\); it has: a, z"),
        ({"a.csv": b"y\n1\n"}, "no column is left"),
        ({"a.csv": b"a,y\n1,2\n2,much\n"}, r"line 3: column 'y' must be a number, but is 'much': correct the data$"),
        ({"a.csv": b"a,y\n1,2\n2,inf\n"}, r"a.csv, line 3: column 'y' holds inf"),
        ({"a.csv": b"a,y\n1,2\n2,1e39\n"}, r"a.csv, line 3: column 'y' holds 1e\+39"),
        ({"a.csv": b"a,y\n1,2\n2,3\n"}, "part is empty"),
    ],
)  # fmt: skip
def test_data_that_does_not_do_is_refused_with_what_to_do(
    files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=message):
        run(tmp_path, files)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ignore": ["nothing"]}, r"no column 'nothing' \(data.ignore"),
        ({"columns": {"nothing": {"kind": "number", "format": None}}}, r"no column 'nothing' \(data.columns"),
        ({"key": "w"}, "a.csv, line 4: no value in the key column 'w'"),
        ({"time": "w"}, "a.csv, line 2: the time column 'w' must be a date"),
        ({"time": "b", "ignore": ["w"], "validation": 0.001, "test": 0.999}, "part is empty"),
        ({"column": "w"}, "a.csv, line 2: column 'w' must be train, validation or test, but is 'x': correct the data$"),
        ({"files": {"test": "*.parquet", "validation": None}}, r"no file matches split.files.test \(\*.parquet\)"),
        ({"files": {"test": "a*", "validation": "*.csv"}}, "matches split.files.test and .validation both"),
        ({"columns": {"w": {"kind": "number", "format": None}}}, "line 2: column 'w' must be a number, but is 'x'"),
        ({"columns": {"a": {"kind": "boolean", "format": None}}}, "line 2: column 'a' must be true or false"),
        ({"columns": {"w": {"kind": "date", "format": "%d.%m.%Y"}}}, "line 2: column 'w' must be a date like %d.%m.%Y"),
        ({"encoding": "ascii"}, "a.csv is not a readable CSV"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_data_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, {"a.csv": with_column(["x", "é", None], "w")}, step_settings(**changes))


def test_many_files_of_any_kind_are_one_table(tmp_path: Path) -> None:
    table = with_column(["x", None, "5"], "w")
    backwards = table[list(reversed(table.columns))]
    whole = run(tmp_path / "whole", {"a.csv": table})
    files = {
        "1.csv": table[:100],
        "deep/2.parquet": backwards[100:200],
        "deep/er/3.csv": backwards[200:250],
        "4.csv.gz": gzip.compress(table[250:].to_csv(index=False, sep=";").encode()),
        "_SUCCESS": "",
    }
    parts = run(tmp_path / "parts", files)
    assert parts.summary["files"] == ["1.csv", "4.csv.gz", "deep/2.parquet", "deep/er/3.csv"]
    for part in ("train", "validation", "test"):
        # the files come in the order of their names
        order = ["a", "b"]
        frames = (done.frame(part).replace({"w": ""}, None) for done in (parts, whole))
        found, expected = (frame.sort_values(order, ignore_index=True) for frame in frames)
        pd.testing.assert_frame_equal(found, expected)


def test_the_content_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    done = run(tmp_path, {"b/x.csv": numbers()[:200], "a.csv": numbers()[200:]})
    lines = [
        f"{hashlib.sha256((tmp_path / 'data' / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("a.csv", "b/x.csv")
    ]
    assert done.summary["data_sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_every_common_type_of_parquet_is_read(tmp_path: Path) -> None:
    moments = [datetime(2026, 1, 1) + timedelta(hours=7 * i) for i in range(ROWS)]
    columns = {
        "int8": pa.array([i % 100 for i in range(ROWS)], pa.int8()),
        "uint64": pa.array([2**63 + i for i in range(ROWS)], pa.uint64()),
        "float32": pa.array([i / 3 for i in range(ROWS)], pa.float32()),
        "decimal": pa.array([Decimal(i) / 4 for i in range(ROWS)], pa.decimal128(20, 2)),
        "bool": pa.array([i % 3 == 0 if i % 5 else None for i in range(ROWS)]),
        "string": pa.array([f"w{i % 4}" for i in range(ROWS)]),
        "large_string": pa.array([f"w{i % 4}" for i in range(ROWS)], pa.large_string()),
        "dictionary": pa.array([f"w{i % 4}" for i in range(ROWS)]).dictionary_encode(),
        "date32": pa.array([moment.date() for moment in moments]),
        "date64": pa.array([moment.date() for moment in moments], pa.date64()),
        "timestamp": pa.array(moments, pa.timestamp("ns")),
        "zoned": pa.array(moments, pa.timestamp("us", "Europe/Berlin")),
        "null": pa.nulls(ROWS),
        "list": pa.array([[i] for i in range(ROWS)]),
        "dotted.name": pa.array([float(i) for i in range(ROWS)]),
        "y": pa.array([float(i) for i in range(ROWS)]),
    }
    done = run(tmp_path, {"a.parquet": pa.table(columns)}, step_settings(ignore=["list"]))
    kinds = ["number"] * 4 + ["boolean"] + ["category"] * 3 + ["date"] * 4 + ["empty", "number"]
    assert list(done.kinds.values()) == kinds
    assert [column.kind for column in done.transform.columns] == kinds
    # of a date alone there is no hour
    assert [name for name in done.transform.feature_names if name.endswith(".hour")] == ["timestamp.hour", "zoned.hour"]
    train, test = done.read("train"), done.read("test")
    assert set(train.schema.types) == {pa.float32()}
    assert test.column_names == list(columns)
    assert test.schema.field("decimal").type == pa.decimal128(20, 2)
    assert test.schema.field("list").type == pa.list_(pa.int64())
    np.testing.assert_array_equal(
        done.transform.features(test).shape, (test.num_rows, len(done.transform.feature_names))
    )


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (pa.array([[1]] * 50), "list<"),
        (pa.array([{"a": 1}] * 50), "struct<"),
        (pa.array([b"\xff"] * 50), "binary"),
        (pa.array([timedelta(1)] * 50), "duration"),
    ],
)
def test_other_types_of_parquet_are_refused_by_name(values: pa.Array, type: str, tmp_path: Path) -> None:
    table = pa.table({"x": values, "a": list(range(50)), "y": [float(i) for i in range(50)]})
    with pytest.raises(DataError, match=rf"a.parquet: column 'x' is of type {type}.*data.ignore"):
        run(tmp_path, {"a.parquet": table})


def test_the_index_of_a_pandas_file_is_a_column_when_it_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(parents=True)
    shuffled = numbers().sample(frac=1, random_state=1)
    shuffled.to_parquet(tmp_path / "data" / "1.parquet")  # the index has no name
    numbers().set_index("a").to_parquet(tmp_path / "data" / "2.parquet")
    assert list(run(tmp_path, {}).kinds) == ["a", "b"]


# ---- columns ----


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", ""], "number"),
        (["1", "NA", "-1e5", " 7 ", "+3", "inf"], "number"),
        ([True, None, False], "boolean"),
        (["TRUE", "false", ""], "boolean"),
        (["00123", "456"], "category"),
        (["-007", "8"], "number"),
        (["1", "2", "x"], "category"),
        (["true", "1"], "category"),
        (["1,5", "2,5"], "category"),
        (["2026-01-05", "2026-01-06T08:30:00Z", None], "date"),
        (["2026-01-05", "2026-02-30"], "category"),
        (["05.01.2026", "06.01.2026"], "category"),
        (["1_000", "0x10"], "category"),
        ([None], "empty"),
        (["", "NA", "nan"], "empty"),
        (["x"], "category"),
        ([7], "number"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sorted_", [False, True])
def test_what_a_column_is_shows_from_all_rows(
    values: list[Any], kind: str, sorted_: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # when sorted, the first pieces show something else than the last ones
    monkeypatch.setattr(csv_files, "BLOCK", 1500)
    table = with_column(values)
    if sorted_:
        table = table.sort_values("x", key=lambda column: column.map(str), ignore_index=True)
    done = run(tmp_path, {"a.csv": table})
    assert done.kinds["x"] == kind
    assert [column.kind for column in done.transform.columns if column.name == "x"] == [kind]
    by_row = done.transform.features(done.read("test"))[:, 2]
    raw = done.frame("test").merge(table, on=["a", "b"], suffixes=("", "_given"))["x_given"]
    texts = [None if value is None or value != value else as_text(value) for value in raw]
    by_hand = done.transform.features_of_rows([[text, 0, 0] for text in texts], ["x", "a", "b"])[:, 2]
    np.testing.assert_array_equal(by_row, by_hand)


def test_mixed_types_across_files_are_one_column(tmp_path: Path) -> None:
    table = numbers().drop(columns="b")
    files = {
        "1.parquet": table[:100].assign(x=5, z=1.5, d=pd.Timestamp("2026-01-05")),
        "2.parquet": table[100:200].assign(x="5", z="2.5", d="2026-01-05"),
        "3.parquet": table[200:300].assign(x=5.0, z=2, d=date(2026, 1, 5)),
        "4.csv": table[300:].assign(x=["5", "abc"] * 50, z="7", d="2026-01-05 00:00"),
    }
    done = run(tmp_path, files)
    assert done.kinds == {"a": "number", "x": "category", "z": "number", "d": "date"}
    assert done.transform.columns[1].categories == ["5", "abc"]
    assert set(train_column(done, "x")) == {0.0, 1.0}
    assert set(done.frame("test")["x"]) == {"5", "abc"}
    assert set(done.read("train")["d.day"].to_pylist()) == {5.0}
    features = done.transform.features(done.read("test"))
    assert not np.isnan(features).any()


def test_infinite_huge_and_tiny_numbers_are_kept_in_order(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.csv": with_column(["-inf", "-1e400", "1e-400", "1e-300", "1e300", "inf", "1e400"])})
    largest = float(np.float32(1e38))
    assert set(train_column(done).tolist()) == {-largest, 0.0, largest}
    assert done.summary["columns"]["x"]["max"] == 1e38


def test_constants_and_empty_columns_are_said_and_do_no_harm(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.csv": with_column([""]).assign(c=7, d="k")})
    assert "the column 'x' has no value in the training part" in done.summary["warnings"]
    assert "the column 'c' has the same value in all training rows" in done.summary["warnings"]
    assert "the column 'd' has the same value in all training rows" in done.summary["warnings"]
    assert np.isnan(train_column(done)).all()


def test_every_column_may_miss_values_everywhere(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    table = numbers().assign(w="x", t=True, d="2026-01-05").astype(object)
    for name in table.columns:
        table[name] = table[name].mask(random.random(ROWS) < 0.3)
    done = run(tmp_path, {"a.csv": table})
    rows = done.summary["rows"]
    assert rows["without_target"] == int(table["y"].isna().sum())
    assert rows["train"] + rows["validation"] + rows["test"] == int(table["y"].notna().sum())
    assert list(done.kinds.values()) == ["number", "number", "category", "boolean", "date"]
    train = done.frame("train")
    assert train["y"].notna().all()
    missing = done.summary["columns"]["w"]["missing"]
    assert missing == int(train["w"].isna().sum()) > 0


def test_words_for_missing_values_are_missing_in_every_column(tmp_path: Path) -> None:
    words = [*sorted(MISSING - {""}), "?", "-999"]
    table = numbers().assign(n=(["1", *words] * ROWS)[:ROWS], w=(["x", *words] * ROWS)[:ROWS])
    table.loc[5, "y"] = -999
    done = run(tmp_path, {"a.csv": table}, step_settings(missing=["?", "-999"]))
    assert done.kinds == {"a": "number", "b": "number", "n": "number", "w": "category"}
    assert done.summary["rows"]["without_target"] == 1
    assert set(train_column(done, "n")[~np.isnan(train_column(done, "n"))]) == {1.0}
    assert done.transform.columns[3].categories == ["x"]


def test_rare_categories_share_a_code(tmp_path: Path) -> None:
    table = numbers(3000).assign(w=[f"often {i % 200}" if i % 2 else f"once {i}" for i in range(3000)])
    done = run(tmp_path, {"a.csv": table})
    column = done.transform.columns[2]
    assert len(column.categories) == 255
    assert column.other
    assert {f"often {i}" for i in range(1, 200, 2)} <= set(column.categories)
    assert column.categories == sorted(column.categories)
    assert train_column(done, "w").max() == 255
    assert not np.isnan(train_column(done, "w")).any()


def test_identifiers_are_warned_of(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.csv": numbers().assign(id=[f"C{i:05d}" for i in range(ROWS)])})
    assert any("'id' has another text in nearly every row" in warning for warning in done.summary["warnings"])


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ([*range(50), "?", "unknown"], "looks like numbers, but for '\\?', 'unknown': .* add it to data.missing"),
        ([f"{i % 28 + 1:02d}.12.{2000 + i}" for i in range(200)], "looks like dates: .* under data.columns"),
        ([f"{i}/1/26" for i in range(1, 29)], "looks like dates"),
        ([0, 0, 0, "0,5"], "looks like numbers with a decimal comma"),
        ([f"{1000 + i},5" for i in range(200)], "looks like numbers with a decimal comma"),
        ([f"{i} 234" for i in range(1, 200)], "looks like numbers with a decimal comma or thousands"),
        ([f"{i},234.5" for i in range(200)], "looks like numbers with a decimal comma or thousands"),
        ([f"C{i:05d}" for i in range(ROWS)], "has another text in nearly every row: an identifier"),
        (["10115", "01067", "abc"], None),
        (["1", *(f"A{i}" for i in range(40))], None),
        (["1.2.3", "10.0.0.1", "x", "5"], None),
        (["a", "b"], None),
    ],
)
def test_categories_that_look_like_something_else_are_warned_of(
    values: list[Any], warning: str | None, tmp_path: Path
) -> None:
    done = run(tmp_path, {"a.csv": with_column(values)})
    assert done.kinds["x"] == "category"
    said = [text for text in done.summary["warnings"] if "'x'" in text]
    assert len(said) == (warning is not None)
    if warning is not None:
        assert re.search(warning, said[0])


def test_what_the_settings_say_of_a_column_is_not_doubted(tmp_path: Path) -> None:
    settings = step_settings(columns={"x": {"kind": "category", "format": None}})
    done = run(tmp_path, {"a.csv": with_column([1, 2, "?"])}, settings)
    assert done.summary["warnings"] == []


def test_columns_can_be_said_to_be_something_else(tmp_path: Path) -> None:
    table = numbers().assign(
        zip=[10115 + i % 5 for i in range(ROWS)],
        code=["007", "12"] * (ROWS // 2),
        day=[f"{1 + i % 28:02d}/12/2026" for i in range(ROWS)],
        flag=[i % 2 for i in range(ROWS)],
    )
    columns = {
        "zip": {"kind": "category", "format": None},
        "code": {"kind": "number", "format": None},
        "day": {"kind": "date", "format": "%d/%m/%Y"},
        "flag": {"kind": "boolean", "format": None},
    }
    for name in ("a.csv", "a.parquet"):
        done = run(tmp_path / name, {name: table}, step_settings(columns=columns))
        assert list(done.kinds.values()) == ["number", "number", "category", "number", "date", "boolean"]
        assert done.transform.columns[2].categories == [str(10115 + i) for i in range(5)]
        assert set(train_column(done, "code")) == {7.0, 12.0}
        assert set(train_column(done, "day.month")) == {12.0}
        assert done.transform.columns[4].format == "%d/%m/%Y"
        assert done.transform.columns[4].reference == "2026-12-28T00:00:00Z"


def test_a_date_part_named_as_another_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'day.year', and so is another column"):
        run(tmp_path, {"a.csv": with_column(["2026-01-05"], "day").assign(**{"day.year": 1})})


# ---- target ----


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["no", "yes"], ["no", "yes"]),
        (["1", "0"], [0, 1]),
        ([1.0, 0.0], [0, 1]),
        ([-1, 0.5], [-1, 0.5]),
        (["True", "False"], [False, True]),
        ([10, 9], [9, 10]),
        (["007", "7"], ["007", "7"]),
        (["2026-01-05", "2026-01-06"], ["2026-01-05", "2026-01-06"]),
        (["1", "b"], ["1", "b"]),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_target_may_be_anything_anywhere(
    labels: list[Any], classes: list[Any], position: int, tmp_path: Path
) -> None:
    table = numbers().drop(columns="y")
    table.insert(min(position, 2), "label", [labels[i % 2] for i in range(ROWS)])
    done = run(tmp_path, {"a.csv": table}, step_settings("binary_classification", "label"))
    assert done.transform.classes == classes
    assert [type(label) for label in done.transform.classes] == [type(label) for label in classes]
    assert done.read("train").column_names[0] == "label"
    counts = np.bincount(done.read("train")["label"].to_numpy().astype(int)).tolist()
    assert counts == done.transform.class_rows == [entry["train"] for entry in done.summary["classes"]]
    test = done.read("test")
    assert set(done.transform.labels(test["label"])) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        ("binary_classification", ["no"], "one class only"),
        ("binary_classification", ["a", "b", "c"], "3 classes .*multiclass"),
        ("multiclass_classification", range(ROWS), None),
    ],
)
def test_targets_that_do_not_suit_the_problem_are_refused(
    problem_type: str, labels: Any, message: str | None, tmp_path: Path
) -> None:
    if message is None:
        table, message = numbers(1500).assign(x=range(1500)), "more than 1,000 classes"
    else:
        table = with_column(labels)
    with pytest.raises(DataError, match=message):
        run(tmp_path, {"a.csv": table}, step_settings(problem_type, "x"))


@pytest.mark.parametrize("label", ["inf", "1e300", 2**53, -(2**53) - 1])
def test_a_number_that_cannot_be_told_from_its_neighbours_is_no_class(label: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the target 'x' holds the class .*too large .* write such labels as text"):
        run(tmp_path, {"a.csv": with_column([0, 1, label])}, step_settings("multiclass_classification", "x"))


def test_rows_without_a_target_are_said_to_be_left_out(tmp_path: Path) -> None:
    # pandas and others write the word None for a missing value; here it is somebody's class
    table = with_column(["None", "mild", "severe", "mild"])
    done = run(tmp_path, {"a.csv": table}, step_settings("binary_classification", "x"))
    assert any(
        warning.startswith("100 of 400 rows have no value in the target") for warning in done.summary["warnings"]
    )


def test_thin_classes_are_listed_up_to_a_number(tmp_path: Path) -> None:
    table = numbers(6000).assign(x=[f"c{i % 150}" for i in range(6000)])
    done = run(tmp_path, {"a.csv": table}, step_settings("multiclass_classification", "x"))
    thin = sum(entry[part] < 10 for entry in done.summary["classes"] for part in ("train", "validation", "test"))
    said = [warning for warning in done.summary["warnings"] if warning.startswith("the class")]
    assert thin > len(said) == 12
    assert f"and so for {thin - 12} more: the summary has the rows of all classes" in done.summary["warnings"]


def test_one_label_in_two_types_is_one_class(tmp_path: Path) -> None:
    files = {"1.parquet": with_column([1, 0])[:200], "2.parquet": with_column(["1", "0"])[200:]}
    done = run(tmp_path, files, step_settings("binary_classification", "x"))
    assert done.transform.classes == [0, 1]
    mixed = run(
        tmp_path / "mixed", {"a.csv": with_column(["1", "1.0", "x"])}, step_settings("binary_classification", "x")
    )
    assert mixed.transform.classes == ["1", "x"]


# ---- outputs ----


def test_each_instance_gets_files_of_about_equal_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "BLOCK", 5000)
    table = numbers().sort_values("y", ignore_index=True)
    whole = run(tmp_path / "one", {"a.csv": table})
    shards = run(tmp_path / "three", {"a.csv": table}, step_settings(shards=3))
    for part in ("train", "validation"):
        files = sorted((tmp_path / "three" / part).iterdir())
        assert [file.name for file in files] == [f"part-{number:05d}.parquet" for number in range(3)]
        rows = [pq.read_metadata(file).num_rows for file in files]
        assert max(rows) - min(rows) <= 1
        # sorted data is dealt out too: no instance gets one end of it
        means = [pq.read_table(file)["y"].to_numpy().mean() for file in files]
        assert max(means) - min(means) < 1
        order = ["y", "a", "b"]
        found, expected = (done.frame(part).sort_values(order, ignore_index=True) for done in (shards, whole))
        assert found.equals(expected)


def test_the_test_part_holds_the_raw_rows(tmp_path: Path) -> None:
    table = numbers().assign(
        zip=["00123", "x 5"] * (ROWS // 2), t=True, d="2026-01-05", left="  out ", rate=["1.50", None] * (ROWS // 2)
    )
    done = run(tmp_path, {"a.csv": table}, step_settings(ignore=["left"]))
    test = done.frame("test")
    assert list(test.columns) == list(table.columns)
    assert set(test["zip"]) == {"00123", "x 5"}
    assert set(test["left"]) == {"  out "}
    merged = test.merge(table, on=["a", "b", "y"])
    assert len(merged) == len(test)


def test_training_and_serving_see_the_same_row(tmp_path: Path) -> None:
    table = with_column(["x", "y", None, "z"], "w").assign(
        d=["2026-01-05T08:30", None] * (ROWS // 2), t=[True, None] * 200
    )
    done = run(tmp_path, {"a.csv": table})
    whole = done.transform.features(pa.table({n: pa.array(table[n], from_pandas=True) for n in table.columns}))
    served = {tuple(np.nan_to_num(row, nan=-1)) for row in whole}
    for part in ("train", "validation"):
        trained = done.frame(part)[done.transform.feature_names].to_numpy()
        assert {tuple(np.nan_to_num(row, nan=-1)) for row in trained} <= served


def test_duplicates_are_kept_counted_and_on_one_side(tmp_path: Path) -> None:
    table = pd.concat([numbers(200), numbers(200), numbers(200)[:100]])
    done = run(tmp_path, {"a.csv": table})
    assert done.summary["rows"]["duplicates"] == 300
    assert "300 rows equal an earlier row; equal rows are on one side" in done.summary["warnings"]
    sides = [set(done.frame(part)["a"].astype("float32")) for part in ("train", "validation", "test")]
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert sum(done.summary["rows"][part] for part in ("train", "validation", "test")) == 500


def test_equal_rows_on_different_sides_are_warned_of(tmp_path: Path) -> None:
    table = pd.concat([numbers(200), numbers(200)]).assign(day=range(400))
    done = run(tmp_path, {"a.csv": table}, step_settings(time="day"))
    assert any(
        warning.startswith("200 rows equal an earlier row; split by time, equal rows can be on different sides")
        for warning in done.summary["warnings"]
    )


def test_the_summary_says_what_the_report_shows(tmp_path: Path) -> None:
    table = with_column(["x", "y", None], "w").assign(label=["no", "yes", "no", "no"] * 100)
    done = run(tmp_path, {"a.csv": table}, step_settings("binary_classification", "label"))
    summary = json.loads((tmp_path / "summary" / "summary.json").read_text())
    assert summary == done.summary
    for entry in summary["classes"]:
        assert entry["rows"] == entry["train"] + entry["validation"] + entry["test"]
        assert entry["train_share"] == pytest.approx({"no": 0.75, "yes": 0.25}[entry["label"]], abs=0.08)
    train = done.frame("train")
    described = summary["columns"]["a"]
    assert described["min"] == pytest.approx(train["a"].min())
    assert described["mean"] == pytest.approx(train["a"].mean(), abs=1e-6)
    assert described["standard_deviation"] == pytest.approx(train["a"].std(ddof=0), rel=1e-5)
    assert summary["columns"]["w"]["distinct"] == 2
    assert summary["columns"]["w"]["missing"] == int(train["w"].isna().sum())


def test_long_readings_say_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("survey.PROGRESS_SECONDS", 0.0)
    run(tmp_path, {"a.csv": numbers()[:200], "b.csv": numbers()[200:]})
    said = capsys.readouterr().out
    assert "read: 200 rows so far" in said
    assert "read: 400 rows so far" in said
    assert "written: " in said


def test_the_step_runs_as_a_program_and_says_why_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.read_settings", lambda name: step_settings())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a,y\n1,x\n")
    arguments = ["--data", str(tmp_path / "data"), "--data-fingerprint", "f", "--message", str(tmp_path / "message")]
    for output in ("train", "validation", "test", "transform", "summary", "baseline"):
        (tmp_path / output).mkdir()
        arguments += [f"--{output}", str(tmp_path / output)]
    assert main(arguments) == 1
    assert "a.csv, line 2: column 'y' must be a number, but is 'x'" in (tmp_path / "message").read_text()
    numbers().to_csv(tmp_path / "data" / "a.csv", index=False)
    assert main(arguments) == 0
    assert math.isclose(json.loads((tmp_path / "summary" / "summary.json").read_text())["rows"]["read"], ROWS)
