"""Which row is on which side, and that nothing of the other sides reaches training."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import columns
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import split
import xgboost
from files import DataError
from hypothesis import given, settings
from hypothesis import strategies as st
from transform import ColumnError, Missing

from tests.steps.data_runs import Done, run, step_settings

PARTS = ("train", "validation", "test")
NONE = Missing.of([])


def table_of(rows: int = 400, seed: int = 5) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "a": random.normal(size=rows).round(4),
            "w": random.choice(["x", "Ünï", "5", ""], rows),
            "t": random.random(rows) < 0.5,
            "d": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 300, rows), unit="D"),
            "y": random.normal(size=rows),
        }
    )


def sides(done: Done, table: pd.DataFrame, name: str = "y") -> dict[float, str]:
    """The side of each row of the table, by the value of the target, which is another in every row."""
    found: dict[float, str] = {}
    for part in PARTS:
        found |= dict.fromkeys(np.float32(done.frame(part)[name].astype(float)).tolist(), part)
    return found


def split_settings(**changes: Any) -> dict[str, Any]:
    return step_settings(**{"ignore": ["id"], **changes})


def test_a_row_keeps_its_side_whatever_is_added_reordered_or_retyped(tmp_path: Path) -> None:
    table = table_of()
    expected = sides(run(tmp_path / "csv", {"a.csv": table}, split_settings()), table)
    assert set(expected.values()) == set(PARTS)
    more = pd.concat([table_of(150, seed=6), table]).sample(frac=1, random_state=1)
    files = {
        "more.csv": more,
        "reversed.csv": table[list(reversed(table.columns))],
        "typed.parquet": table,
        "float32.parquet": table.astype({"a": "float32"}),
        "text.parquet": table.astype({"a": str, "t": str, "d": str}),
        "semicolons.csv": table.to_csv(index=False, sep=";", decimal=","),
        "emptier.csv": table.assign(nothing=None),
    }
    for name, content in files.items():
        found = sides(run(tmp_path / name, {name: content}, split_settings()), table)
        assert {y: found[y] for y in expected} == expected, name


def test_a_row_keeps_its_side_when_other_rows_make_a_column_another_kind(tmp_path: Path) -> None:
    table = table_of().assign(n=lambda t: t["a"] * 2, m="2026-01-05")
    before = sides(run(tmp_path / "before", {"a.csv": table}, split_settings()), table)
    word = table_of(1, seed=9).assign(n="a word", m="no date", a="n/a ", t="maybe")
    after = sides(run(tmp_path / "after", {"a.csv": table, "b.csv": word}, split_settings()), table)
    assert {y: after[y] for y in before} == before


def test_changing_one_share_moves_no_row_in_or_out_of_test(tmp_path: Path) -> None:
    table = table_of()
    one = sides(run(tmp_path / "1", {"a.csv": table}, split_settings()), table)
    other = sides(run(tmp_path / "2", {"a.csv": table}, split_settings(validation=0.4)), table)
    assert {y for y, part in one.items() if part == "test"} == {y for y, part in other.items() if part == "test"}
    seeded = sides(run(tmp_path / "3", {"a.csv": table}, split_settings(seed=1)), table)
    assert seeded != one


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_shares_are_as_wanted(seed: int) -> None:
    hashes = split.hash_numbers(np.arange(100_000, dtype=np.float64))
    found = split.sides_of_positions(split.positions(hashes, seed), 0.15, 0.25)
    assert np.bincount(found) / len(found) == pytest.approx([0.6, 0.15, 0.25], abs=0.01)


def test_rows_of_one_key_are_together_whatever_its_type(tmp_path: Path) -> None:
    big = 2**60  # neighbours that are one float64
    table = table_of().assign(customer=lambda t: big + t["id"] % 60)
    settings = split_settings(key="customer")
    done = run(tmp_path / "csv", {"a.csv": table}, settings)
    found = table.assign(side=[sides(done, table)[float(np.float32(y))] for y in table["y"]])
    assert (found.groupby("customer")["side"].nunique() == 1).all()
    assert set(found["side"]) == set(PARTS)
    assert "customer" not in done.transform.column_names
    for name, content in {"a.parquet": table, "b.parquet": table.astype({"customer": str})}.items():
        assert sides(run(tmp_path / name, {name: content}, settings), table) == sides(done, table)
    # what else is in the rows does not matter
    changed = run(tmp_path / "changed", {"a.csv": table.assign(a=1, w="z")}, settings)
    assert sides(changed, table) == sides(done, table)


@pytest.mark.parametrize(
    "write", [lambda day: day, lambda day: day.strftime("%Y-%m-%d"), lambda day: day.strftime("%Y-%m-%dT%H:%M:%SZ"),
              lambda day: int(day.timestamp())]
)  # fmt: skip
def test_the_newest_rows_test(write: Any, tmp_path: Path) -> None:
    days = pd.date_range("2026-01-01", periods=100, tz=UTC)
    table = table_of(100).assign(day=[write(day) for day in days], order=range(100)).sample(frac=1, random_state=2)
    table.loc[table.index[:4], "y"] = np.nan  # rows that nothing is learnt from do not count
    done = run(tmp_path, {"a.csv": table}, split_settings(time="day", ignore=["id", "order"]))
    test, rest = done.frame("test"), table.dropna(subset="y")
    assert sorted(test["order"].astype(int)) == sorted(rest["order"])[-len(test) :]
    assert [done.summary["rows"][part] for part in PARTS] == [57, 19, 20]
    assert "day" not in done.transform.column_names
    found = sides(done, table)
    newest = {part: rest[[found[float(np.float32(y))] == part for y in rest["y"]]]["order"] for part in PARTS}
    assert newest["train"].max() < newest["validation"].min() <= newest["validation"].max() < newest["test"].min()


def test_times_may_have_a_format_of_their_own(tmp_path: Path) -> None:
    days = pd.date_range("2025-12-01", periods=100)
    table = table_of(100).assign(day=days.strftime("%d/%m/%Y"), order=range(100)).sample(frac=1, random_state=2)
    settings = split_settings(
        time="day", ignore=["id", "order"], columns={"day": {"kind": "date", "format": "%d/%m/%Y"}}
    )
    done = run(tmp_path, {"a.csv": table[:60], "b.parquet": table[60:].assign(day=days[table["order"][60:]])}, settings)
    assert sorted(done.frame("test")["order"].astype(int)) == list(range(80, 100))
    settings["data"]["columns"]["day"]["format"] = "%d.%m.%Y"
    with pytest.raises(DataError, match=r"'day' must be a date like %d.%m.%Y, but is '\d\d/"):
        run(tmp_path / "wrong", {"a.csv": table}, settings)


def test_rows_of_one_instant_are_together() -> None:
    times = np.repeat(np.arange(10.0), 10)
    bounds = split.time_bounds(times, 0.15, 0.15)
    found = split.sides_of_times(times, bounds)
    assert all(len(set(found[times == time].tolist())) == 1 for time in range(10))
    assert np.bincount(found).tolist() == [70, 10, 20]


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (
            ["2026-01-05", "soon"],
            "a.csv, line 3: the time column 'day' must be a date .*'soon': write such .*data.columns",
        ),
        (["2026-01-05", ""], "a.csv, line 3: no value in the time column 'day'"),
    ],
)
def test_rows_without_a_time_are_refused(days: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, {"a.csv": table_of().assign(day=days * 200)}, split_settings(time="day"))


def test_a_time_that_is_a_date_in_one_file_and_a_number_in_another_is_refused(tmp_path: Path) -> None:
    files = {"1.csv": table_of().assign(day="2026-01-05"), "2.csv": table_of().assign(day=7)}
    with pytest.raises(DataError, match="the time column 'day' holds numbers and dates"):
        run(tmp_path, files, split_settings(time="day"))


def test_a_column_can_say_the_side(tmp_path: Path) -> None:
    words = ["train", "Validation", " test", "TRAIN"]
    table = table_of().assign(part=words * 100)
    done = run(tmp_path, {"a.csv": table}, split_settings(column="part"))
    found = sides(done, table)
    assert [found[float(np.float32(y))] for y in table["y"]] == [word.strip().lower() for word in words] * 100
    assert "part" not in done.transform.column_names


def test_files_can_say_the_side(tmp_path: Path) -> None:
    table = table_of()
    files = {"2024/a.csv": table[:200], "2025/a.csv": table[200:300], "2026/a.csv": table[300:]}
    patterns = {"test": "2026/*", "validation": "2025/*"}
    done = run(tmp_path / "both", files, split_settings(files=patterns))
    assert [done.summary["rows"][part] for part in PARTS] == [200, 100, 100]
    assert set(done.frame("test")["id"].astype(int)) == set(range(300, 400))
    shared = run(tmp_path / "one", files, split_settings(files={"test": "2026/*", "validation": None}))
    assert shared.summary["rows"]["test"] == 100
    assert 30 < shared.summary["rows"]["validation"] < 90


@pytest.mark.parametrize("by", ["column", "files"])
def test_a_key_on_two_sides_is_refused(by: str, tmp_path: Path) -> None:
    table = table_of().assign(customer=lambda t: t["id"] // 150, part=["train"] * 200 + ["validation", "test"] * 100)
    files = {"a.csv": table[:200], "b.csv": table[200:300], "c.csv": table[300:]}
    given_by: dict[str, Any] = {"column": "part"} if by == "column" else {"files": {"test": "c*", "validation": "b*"}}
    with pytest.raises(DataError, match=rf"rows of one 'customer' .* more than one part, as split.{by} says"):
        run(tmp_path, files, split_settings(key="customer", **given_by))


def test_the_description_of_a_split_tells_whether_another_splits_the_same(tmp_path: Path) -> None:
    table = table_of()
    all_changes: list[dict[str, Any]] = [
        {}, {"seed": 1}, {"ignore": ["id", "a"]}, {"time": "d"}, {"key": "id", "ignore": []},
    ]  # fmt: skip
    described = [
        run(tmp_path / str(number), {"a.csv": table}, split_settings(**changes)).transform.split
        for number, changes in enumerate(all_changes)
    ]
    assert all(described.count(one) == 1 for one in described)
    assert run(tmp_path / "same", {"a.csv": table.sample(frac=1)}, split_settings()).transform.split == described[0]


def test_a_column_that_equals_the_target_in_the_test_part_alone_does_not_help(tmp_path: Path) -> None:
    """The leak test: in training the column is noise, in the test part it is the answer."""
    random = np.random.default_rng(2)
    rows = 3000
    table = pd.DataFrame({"customer": np.arange(rows), "a": random.normal(size=rows)})
    table["leak"] = [f"v{value}" for value in random.integers(0, 20, rows)]
    table["number"] = random.normal(size=rows)
    table["y"] = np.where(table["a"] + random.normal(size=rows) > 0, "yes", "no")
    settings = step_settings(
        "binary_classification", key="customer", columns={"leak": {"kind": "category", "format": None}}
    )
    clean = run(tmp_path / "clean", {"a.csv": table}, settings)
    tested = set(clean.frame("test")["customer"].astype(int))
    leaking = table.copy()
    rows_tested = leaking["customer"].isin(tested)
    leaking.loc[rows_tested, "leak"] = "label " + leaking["y"]
    leaking.loc[rows_tested, "number"] = np.where(leaking["y"] == "yes", 1e6, -1e6)[rows_tested]
    leaked = run(tmp_path / "leaked", {"a.csv": leaking}, settings)
    assert set(leaked.frame("test")["customer"].astype(int)) == tested
    # nothing that training reads, and nothing of the baseline, knows of the test part
    for part in ("train", "validation"):
        assert leaked.read(part).equals(clean.read(part))
    assert leaked.transform == clean.transform
    for name in ("statistics.json", "constraints.json"):
        written = [(tmp_path / which / "baseline" / name).read_text() for which in ("clean", "leaked")]
        assert written[0] == written[1]
    assert leaked.summary["columns"] == clean.summary["columns"]

    def quality(done: Done) -> float:
        fitted, train, test = done.transform, done.read("train"), done.read("test")
        options = {"feature_types": fitted.feature_types, "enable_categorical": True}
        matrix = xgboost.DMatrix(
            train.select(fitted.feature_names).to_pandas().to_numpy(), train["y"].to_numpy(), **options
        )
        booster = xgboost.train({"objective": "binary:logistic", "max_depth": 4, "nthread": 1}, matrix, 30)
        scores = booster.predict(xgboost.DMatrix(fitted.features(test), **options))
        return float(((scores > 0.5) == fitted.labels(test["y"])).mean())

    assert quality(leaked) <= quality(clean) + 0.03


def test_values_that_only_the_test_part_has_are_unknown_to_the_transformation(tmp_path: Path) -> None:
    table = table_of().assign(day=range(400))
    table.loc[table["day"] >= 320, ["w", "a"]] = ["Nowhere", 1e9]
    done = run(tmp_path, {"a.csv": table}, split_settings(time="day"))
    assert "Nowhere" not in done.transform.columns[1].categories
    assert done.summary["columns"]["a"]["max"] < 1e6
    assert done.transform.columns[3].reference is not None
    newest_day = pd.Timestamp(done.transform.columns[3].reference)
    assert newest_day == table["d"][table["day"] < 240].max().tz_localize(UTC)


def test_a_class_that_never_trains_is_refused(tmp_path: Path) -> None:
    table = table_of().assign(day=range(400), plan=["plus", "basic"] * 195 + ["rare"] * 10)
    settings = step_settings("multiclass_classification", "plan", time="day")
    with pytest.raises(DataError, match="'rare' of 'plan' has 10 rows, none of them in the training part"):
        run(tmp_path, {"a.csv": table}, settings)


def test_a_seed_that_gives_every_part_every_class_is_suggested_and_works(tmp_path: Path) -> None:
    table = table_of().assign(plan=lambda t: np.where(t["id"] < 4, "rare", "often"))
    for seed in range(40):
        settings = split_settings(problem_type="binary_classification", target="plan", seed=seed, ignore=["id"])
        try:
            done = run(tmp_path / str(seed), {"a.csv": table}, settings)
        except DataError as error:
            text = str(error)
        else:
            text = " ".join(done.summary["warnings"])
            rare = next(entry for entry in done.summary["classes"] if entry["label"] == "rare")
            if rare["validation"] and rare["test"]:
                continue
            assert "the class 'rare' has 0 rows in the" in text
        break
    suggested = int(text.partition("split.seed: ")[2].split()[0])
    settings["split"]["seed"] = suggested
    done = run(tmp_path / "suggested", {"a.csv": table}, settings)
    rare = next(entry for entry in done.summary["classes"] if entry["label"] == "rare")
    assert min(rare[part] for part in PARTS) >= 1


@settings(deadline=None)
@given(st.lists(st.text()))
def test_the_hash_of_a_text_is_that_of_its_bytes_alone(words: list[str]) -> None:
    together = split.hash_texts(pa.array(["x", *words, "y"], pa.string())[1:-1]).tolist()
    alone = [split.hash_texts(pa.array([word], pa.string()))[0] for word in words]
    assert together == alone
    assert len(set(together)) == len(set(words))


def test_long_texts_are_hashed_by_all_of_their_bytes() -> None:
    words = [character * length for length in (7, 8, 9, 16, 1023, 1024, 1025, 5000) for character in "ab"]
    words += ["a" * 5000 + "b", "b" + "a" * 5000]
    assert len(set(split.hash_texts(pa.array(words)).tolist())) == len(words)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.floats(), st.integers(-(2**62), 2**62), st.booleans(), st.datetimes(datetime(1, 1, 2)), st.text()))
def test_the_hash_of_a_value_is_the_same_as_text_and_as_what_it_is(value: Any) -> None:
    written = value.isoformat() if isinstance(value, datetime) else str(value)
    arrays = [pa.array([value]), pa.array([written])]
    kinds = [columns.decode(array, NONE, "empty").kind for array in arrays]
    hashes = set()
    for array, kind in zip(arrays, kinds, strict=True):
        for as_kind in {kind, "category"}:
            try:
                hashes.add(columns.decode_as(array, NONE, as_kind, None).hashes("x")[0])
            except ColumnError:
                continue
    assert len(hashes) == 1
