"""Preprocess on data with text, booleans, dates and missing values; and what it says about data that does not do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Run, mixed_table, new_run, step_settings

from files import DataError
from transform import Transform

PARTS = ("train", "validation", "test")


def read(run: Run, part: str) -> pd.DataFrame:
    return pd.read_parquet(run.folder / part)


def test_training_sees_the_transformed_parts_and_evaluate_the_raw_one(finished_run: Run) -> None:
    target = finished_run.settings["data"]["target"]
    training = read(finished_run, "train")
    assert list(training.columns) == [target, "age", "city", "member", "visits"]
    assert set(training.dtypes.map(str)) == {"float32"}
    test = read(finished_run, "test")
    assert list(test.columns) == list(mixed_table().columns)
    assert set(test["city"]) == {"Ulm", "Köln", "New York, NY", 'say "hi"', ""}


def test_the_summary_counts_every_row_and_hashes_the_content(finished_run: Run) -> None:
    rows = finished_run.summary["rows"]
    assert rows["read"] == 600
    assert sum(rows[part] for part in PARTS) + rows["without_target"] == 600
    assert {name: column["kind"] for name, column in finished_run.summary["columns"].items()} == {
        "age": "number", "city": "category", "member": "boolean", "visits": "number",
    }  # fmt: skip
    digest = hashlib.sha256((finished_run.folder / "data" / "table.csv").read_bytes()).hexdigest()
    assert finished_run.summary["data_sha256"] == hashlib.sha256(f"{digest}  table.csv\n".encode()).hexdigest()


def test_the_baseline_describes_the_training_part(finished_run: Run) -> None:
    statistics = json.loads((finished_run.folder / "baseline" / "statistics.json").read_text())
    assert statistics["dataset"]["item_count"] == finished_run.summary["rows"]["train"]
    visits = next(feature for feature in statistics["features"] if feature["name"] == "visits")["numerical_statistics"]
    assert visits["mean"] == pytest.approx(read(finished_run, "train")["visits"].mean(), rel=1e-5)
    constraints = json.loads((finished_run.folder / "baseline" / "constraints.json").read_text())
    member = next(feature for feature in constraints["features"] if feature["name"] == "member")
    assert member["string_constraints"] == {"domains": ["false", "true"]}


def test_what_trains_is_what_requests_would_give(finished_run: Run) -> None:
    transform = Transform.load(finished_run.folder / "transform" / "transform.json")
    raw = pa.Table.from_pandas(mixed_table(), preserve_index=False)
    served = np.nan_to_num(transform.features(raw), nan=-1).tolist()
    trained = np.nan_to_num(read(finished_run, "train")[transform.feature_names].to_numpy(), nan=-1).tolist()
    assert all(row in served for row in trained)


def test_a_row_keeps_its_side_whatever_is_added_or_reordered(tmp_path: Path) -> None:
    table = mixed_table(300)
    more = pd.concat([mixed_table(200, seed=8), table]).sample(frac=1, random_state=1)
    tested = []
    for name, rows in {"some": table, "more": more[reversed(more.columns)]}.items():
        run = new_run(tmp_path / name, step_settings("regression"), rows)
        run.preprocess()
        tested.append(set(read(run, "test")["spent"]))
    assert tested[0] == tested[1] & set(table["spent"])


def test_rows_of_one_key_are_together(tmp_path: Path) -> None:
    table = mixed_table(400).assign(shop=lambda rows: rows.index % 40)
    run = new_run(tmp_path / "run", step_settings("regression", key="shop"), table)
    run.preprocess()
    shop_of = dict(zip(table["spent"].astype("float32"), table["shop"], strict=True))
    shops = [{shop_of[spent] for spent in read(run, part)["spent"].astype("float32")} for part in PARTS]
    assert len(set.union(*shops)) == sum(map(len, shops))


def test_the_newest_rows_test_and_training_knows_nothing_of_them(tmp_path: Path) -> None:
    table = mixed_table(300).assign(day=np.arange(300))
    table.loc[table["day"] >= 240, "city"] = "Nowhere"
    run = new_run(tmp_path / "run", step_settings("regression", time="day"), table)
    run.preprocess()
    assert sorted(read(run, "test")["day"].astype(int)) == list(range(240, 300))
    transform = Transform.load(tmp_path / "run" / "transform" / "transform.json")
    assert "Nowhere" not in next(column.categories for column in transform.columns if column.name == "city")
    assert "day" not in transform.column_names


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([1, 2.5], "number"),
        ([True, None], "boolean"),
        (["2026-01-05", "2026-01-06T08:30:00Z"], "date"),
        (["00123", "456"], "category"),
        ([None, None], "empty"),
    ],
)
def test_what_a_column_is_shows_from_its_values(column: list[object], kind: str, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", step_settings("regression"), mixed_table(100).assign(x=column * 50))
    assert run.preprocess()["columns"]["x"]["kind"] == kind


def _table(**columns: object) -> pd.DataFrame:
    return mixed_table(100).assign(**columns)


@pytest.mark.parametrize(
    ("problem_type", "table", "data", "message"),
    [
        ("regression", _table().iloc[:0], {}, "header but no row"),
        ("regression", _table().drop(columns="spent"), {}, r"no column 'spent' \(data.target"),
        ("regression", _table(spent=None), {}, "no row has a value in the target"),
        ("regression", _table(spent="much"), {}, "table.csv, line 2: column 'spent' must be a number, but is 'much'"),
        ("regression", _table(), {"ignore": ["nothing"]}, r"no column 'nothing' \(data.ignore"),
        ("regression", _table(), {"key": "city"}, "no value in the key column 'city'"),
        ("regression", _table(day="soon"), {"time": "day"}, "the time column 'day' must be a date .* but is 'soon'"),
        ("regression", _table().iloc[:2], {}, "part is empty"),
        ("binary_classification", _table(churned="no"), {}, "one class only"),
        ("binary_classification", _table(churned=mixed_table(100)["plan"]), {}, "3 classes .*multiclass"),
    ],
)
def test_data_that_does_not_do_is_refused_with_what_to_do(
    problem_type: str, table: pd.DataFrame, data: dict[str, object], message: str, tmp_path: Path
) -> None:
    run = new_run(tmp_path / "run", step_settings(problem_type, **data), table)
    with pytest.raises(DataError, match=message):
        run.preprocess()
