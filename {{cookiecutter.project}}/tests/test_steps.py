"""The steps on data with text, booleans and missing values; and what they say about data that does not do."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MAIN_METRICS, Run, mixed_table, new_run, step_settings

import evaluate
import metrics
import preprocess
import split
import tables
from pipeline.metrics import METRICS
from tables import DataError
from transform import MISSING, Column, ColumnError, Transform, kind_of


def test_the_model_learns_from_mixed_columns(finished_run: Run) -> None:
    better_than = {"auc": 0.85, "accuracy": 0.65, "r2": 0.75}
    metric = MAIN_METRICS[finished_run.settings["problem_type"]]
    assert finished_run.metrics[metric] > better_than[metric]


def test_training_sees_the_transformed_parts_and_evaluate_the_raw_one(finished_run: Run) -> None:
    target = finished_run.settings["data"]["target"]
    training = pd.read_parquet(finished_run.folder / "train" / "data.parquet")
    assert list(training.columns) == [target, "age", "city", "member", "visits"]
    assert set(training.dtypes.map(str)) == {"float32"}
    test = pd.read_parquet(finished_run.folder / "test" / "data.parquet")
    assert list(test.columns) == list(mixed_table().columns)
    assert set(test["city"].dropna()) == {"Ulm", "Köln", "New York, NY", 'say "hi"'}


def test_the_summary_counts_every_row_and_hashes_the_content(finished_run: Run) -> None:
    rows = finished_run.summary["rows"]
    assert rows["read"] == 600
    assert rows["train"] + rows["validation"] + rows["test"] + rows["without_target"] == 600
    assert finished_run.summary["columns"] == {
        "age": "number", "city": "category", "member": "boolean", "visits": "number",
    }  # fmt: skip
    digest = hashlib.sha256((finished_run.folder / "data" / "table.csv").read_bytes()).hexdigest()
    assert finished_run.summary["data_sha256"] == hashlib.sha256(f"{digest}  table.csv\n".encode()).hexdigest()


def test_the_archive_has_the_booster_alone_in_its_root(finished_run: Run) -> None:
    # the image takes every file in the root for a model
    with tarfile.open(finished_run.folder / "model.tar.gz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == {"xgboost-model", "code/inference.py", "code/transform.py", "code/transform.json"}


def test_the_evaluation_has_model_monitors_shape(finished_run: Run) -> None:
    problem_type = finished_run.settings["problem_type"]
    evaluation = json.loads((finished_run.folder / "evaluation" / "evaluation.json").read_text())
    written = evaluation[f"{problem_type}_metrics"]
    assert set(written) == set(METRICS[problem_type])
    for name, value in finished_run.metrics.items():
        assert written[name] == {"value": value, "standard_deviation": "NaN"}
    constraints = json.loads((finished_run.folder / "evaluation" / "constraints.json").read_text())
    assert constraints[f"{problem_type}_constraints"] == {
        MAIN_METRICS[problem_type]: {"threshold": 0.5, "comparison_operator": "LessThanThreshold"}
    }


def test_a_metric_where_less_is_better_is_violated_from_above() -> None:
    gate = {"metric": "rmse", "higher_is_better": False}
    written = evaluate.constraints("regression", gate, 12.0)["regression_constraints"]
    assert written == {"rmse": {"threshold": 12.0, "comparison_operator": "GreaterThanThreshold"}}


def test_nothing_in_an_archive_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "escaped").write_text("x")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "escaped", arcname="../../escaped")
    with pytest.raises(evaluate.EvaluationError, match="which lies outside of it"):
        evaluate.unpack(tmp_path / "model.tar.gz", tmp_path / "a" / "folder")


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn import metrics as reference

    random = np.random.default_rng(3)
    labels, scores = random.integers(0, 2, 300), random.random(300).round(1)  # rounded: many ties
    ours = metrics.binary_metrics(labels, scores)
    assert ours["auc"] == pytest.approx(reference.roc_auc_score(labels, scores))
    assert ours["f1"] == pytest.approx(reference.f1_score(labels, scores >= 0.5))
    assert ours["precision"] == pytest.approx(reference.precision_score(labels, scores >= 0.5))
    classes, shares = random.integers(0, 3, 300), random.random((300, 3))
    several = metrics.multiclass_metrics(classes, shares)
    for name, score in (("precision", reference.precision_score), ("f1", reference.f1_score)):
        expected = score(classes, shares.argmax(axis=1), average="weighted")
        assert several[f"weighted_{name}"] == pytest.approx(expected)
    values, guesses = random.normal(size=300), random.normal(size=300)
    numbers = metrics.regression_metrics(values, guesses)
    assert numbers["r2"] == pytest.approx(reference.r2_score(values, guesses))
    assert numbers["rmse"] == pytest.approx(reference.root_mean_squared_error(values, guesses))


def test_a_row_keeps_its_side_whatever_is_added_or_reordered() -> None:
    table = mixed_table(400).drop(columns="customer")
    sides = pd.Series(split.split_by_hash(table, list(table.columns), 0.2, 0.2), index=table.index)
    more = pd.concat([mixed_table(300, seed=8).drop(columns="customer"), table.sample(frac=1, random_state=1)])
    more = more[reversed(more.columns)]
    again = split.split_by_hash(more, list(table.columns), 0.2, 0.2)[300:]
    assert (sides[more.index[300:]].to_numpy() == again).all()
    assert {"train", "validation", "test"} == set(sides)


def test_a_row_keeps_its_side_when_a_columns_type_changes() -> None:
    numbers = pd.DataFrame({"a": [1, 2, 30], "b": [True, False, True]})
    retyped = pd.DataFrame({"a": ["1", "2.0", "30"], "b": ["True", "false", True]})
    with_missing = pd.DataFrame({"a": [1.0, 2.0, 30.0, None], "b": [True, False, True, None]})
    expected = split.row_positions(numbers, ["a", "b"])
    assert (split.row_positions(retyped, ["b", "a"]) == expected).all()
    assert (split.row_positions(with_missing, ["a", "b"])[:3] == expected).all()


def test_rows_of_one_key_are_together() -> None:
    table = pd.DataFrame({"key": np.arange(500) % 50, "x": np.arange(500)})
    sides = pd.Series(split.split_by_hash(table, ["key"], 0.3, 0.3))
    assert (sides.groupby(table["key"]).nunique() == 1).all()


def test_the_newest_rows_test() -> None:
    days = pd.Series(pd.date_range("2026-01-01", periods=100).strftime("%Y-%m-%d"), name="day").sample(
        frac=1, random_state=2
    )
    sides = split.split_by_time(days, 0.2, 0.1)
    newest_first = days[sides == "test"].min(), days[sides == "validation"].max()
    assert newest_first[0] > newest_first[1]
    assert days[sides == "validation"].min() > days[sides == "train"].max()
    assert [int((sides == part).sum()) for part in ("train", "validation", "test")] == [70, 20, 10]


def test_the_transformation_is_fitted_on_the_training_part_only(tmp_path: Path) -> None:
    table = mixed_table(300).assign(day=np.arange(300))
    table.loc[table["day"] >= 240, "city"] = "Nowhere"  # only in the test part
    run = new_run(tmp_path / "run", step_settings("regression", time="day"), table)
    run.preprocess()
    transform = Transform.load(tmp_path / "run" / "transform" / "transform.json")
    cities = next(column.categories for column in transform.columns if column.name == "city")
    assert "Nowhere" not in cities
    assert "day" not in transform.feature_names


def test_the_transformation_survives_being_stored(tmp_path: Path) -> None:
    stored = Transform("binary_classification", "y", [0, 1], [Column("a", "number"), Column("b", "category", ["é"])])
    stored.save(tmp_path / "transform.json")
    assert Transform.load(tmp_path / "transform.json") == stored


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "number"),
        (["1", "2.5", None], "number"),
        (["1", "", "NA"], "number"),
        ([None, None], "number"),
        ([True, False], "boolean"),
        (["True", None, "false"], "boolean"),
        ([True, None], "boolean"),
        (["a", "1"], "category"),
        (pd.Series(["a", "b"], dtype="category"), "category"),
    ],
)
def test_the_kind_of_a_column_is_seen_from_its_values(values: list[object] | pd.Series, kind: str) -> None:
    assert kind_of(pd.Series(values, name="column")) == kind


def test_dates_and_nested_values_are_refused_by_name() -> None:
    with pytest.raises(ColumnError, match=r"'when' is of type datetime64.*data\.ignore"):
        kind_of(pd.Series(pd.to_datetime(["2026-01-01"]), name="when"))
    with pytest.raises(ColumnError, match="'list' holds nested values"):
        kind_of(pd.Series([[1], [2]], name="list"))


def _table(**columns: object) -> pd.DataFrame:
    return mixed_table(100).assign(**columns)


@pytest.mark.parametrize(
    ("problem_type", "table", "data", "message"),
    [
        ("regression", _table().iloc[:0], {}, "header but no row"),
        ("regression", _table().drop(columns="spent"), {}, r"no column 'spent' \(data.target"),
        ("regression", _table(spent=None), {}, "no row has a value in the target"),
        ("regression", _table(spent="much"), {}, "'spent' must be numbers, but holds 'much'"),
        ("regression", _table(age=np.inf), {}, "'age' holds inf: numbers must lie within"),
        ("regression", _table(spent=1e39), {}, r"'spent' holds 1e\+39"),
        ("regression", _table(), {"ignore": ["nothing"]}, r"no column 'nothing' \(data.ignore"),
        ("regression", _table()[["spent"]], {"ignore": []}, "no column is left"),
        ("regression", _table(), {"key": "city"}, "no value in the key column 'city'"),
        ("regression", _table(day="soon"), {"time": "day"}, "'soon', which is no time"),
        ("regression", _table(day=1), {"time": "day"}, "the train part is empty"),
        ("regression", _table().iloc[:2], {}, "part is empty"),
        ("binary_classification", _table(churned="no"), {}, "one class only"),
        ("binary_classification", _table(churned=mixed_table(100)["plan"]), {}, "3 classes .*multiclass"),
    ],
)
def test_data_that_does_not_do_is_refused_with_what_to_do(
    problem_type: str, table: pd.DataFrame, data: dict[str, object], message: str, tmp_path: Path
) -> None:
    run = new_run(tmp_path / "run", step_settings(problem_type, **data), table)
    with pytest.raises((DataError, ColumnError), match=message):
        run.preprocess()


def test_a_class_that_never_trains_is_refused(tmp_path: Path) -> None:
    table = _table(day=np.arange(100), plan=["plus", "basic"] * 45 + ["rare"] * 10)
    run = new_run(tmp_path / "run", step_settings("multiclass_classification", time="day"), table)
    with pytest.raises(DataError, match="'rare' of 'plan' has 10 rows, none of them in the training part"):
        run.preprocess()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file under data.uri"),
        ({"_SUCCESS": b"x", ".hidden.csv": b"x"}, "no file under data.uri"),
        ({"a.csv": b""}, "a.csv is empty"),
        ({"a.txt": b"a,b\n1,2\n"}, "a.txt: its ending does not say"),
        ({"a.csv": b"a,a\n1,2\n"}, "'a' occurs more than once"),
        ({"a.csv": b"a,\n1,2\n"}, "a column has no name"),
        ({"a.csv": b"a,b\n1,2,\n3,4,\n"}, "line 2 has 3 fields, the header line has 2"),
        ({"a.csv": b"a,b\n1,2\n3\n"}, "line 3 has 1 fields"),
        ({"a.csv": b"a;b\n1,5;2\n"}, "separated by semicolons: save it again with commas"),
        ({"a.csv": b"a\tb\n1\t2\n"}, "separated by tabs"),
        ({"a.csv.gz": gzip.compress(b"a,b\n1,2\n")[:-9]}, "not a readable CSV"),
        ({"a.csv": "a,b\nä,1\n".encode("latin-1")}, "not a readable CSV"),
        ({"a.parquet": b"PAR1 nonsense"}, "not a readable Parquet"),
        ({"a.csv": b"a,b\n1,2\n", "b.csv": b"a,c\n1,2\n"}, r"different columns \(b, c\)"),
    ],
)
def test_unreadable_files_are_refused_by_name(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        tables.read_tables(tables.data_files(tmp_path, "auto"), "auto")


def test_many_files_are_one_table(tmp_path: Path) -> None:
    table = mixed_table(90)
    table[:30].to_csv(tmp_path / "1.csv", index=False)
    table[30:60][list(reversed(table.columns))].to_parquet(tmp_path / "2.parquet")
    table[60:].to_csv(tmp_path / "3.csv.gz", index=False)
    files = tables.data_files(tmp_path, "auto")
    read = tables.read_tables(files, "auto")
    assert list(read.columns) == list(table.columns)
    assert read["customer"].tolist() == table["customer"].tolist()


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,x\r\n")
    long = "y\n" + 200_000 * "z"  # more than the csv module takes by default
    (tmp_path / "2.CSV.GZ").write_bytes(gzip.compress(f'\na,b\n2,"{long}"\n'.encode()))
    pd.DataFrame({"a": [3], "b": ["w"]}).set_index("b").to_parquet(tmp_path / "3.parquet")
    table = tables.read_tables(tables.data_files(tmp_path, "auto"), "auto")
    assert table.to_dict("list") == {"a": [1, 2, 3], "b": ["x", long, "w"]}


def test_missing_values_are_written_as_pandas_knows_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("word,number\n" + "".join(f'"{word}",1\n' for word in sorted(MISSING)))
    assert tables.read_tables([tmp_path / "a.csv"], "csv").equals(pd.read_csv(tmp_path / "a.csv"))
    assert tables.read_tables([tmp_path / "a.csv"], "csv")["word"].isna().all()


def test_one_label_in_two_types_is_one_class() -> None:
    labels = pd.Series(["1", 1, 0, "0", "true", "True"], dtype=object, name="y")
    assert preprocess.find_classes(labels, np.array(["train"] * 6), "multiclass_classification") == ["0", "1", "true"]


def test_a_category_is_the_same_text_in_training_and_test() -> None:
    mixed = pd.DataFrame({"code": pd.Series(["x", 5.0, None], dtype=object)})
    assert preprocess.raw(mixed, {"code": "category"})["code"].tolist() == ["x", "5", pd.NA]


def test_evaluating_what_is_no_model_says_so(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"no archive")
    with pytest.raises(evaluate.EvaluationError, match="not a model archive"):
        evaluate.evaluate(
            finished_run.settings, tmp_path / "model.tar.gz", finished_run.folder / "test", tmp_path, threshold=0.5
        )
