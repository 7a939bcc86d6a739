"""statistics.json and constraints.json against a plain computation, and in Model Monitor's published shapes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import baseline
import csv_files
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform import as_text

from tests.steps.data_runs import Done, run, step_settings

ROWS = 3000


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "count": random.integers(0, 50, ROWS),
            "amount": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(5, 20, ROWS)),
            "huge": random.choice([1e300, -1e39, 1.0], ROWS),
            "constant": 7,
            "city": pd.Series(random.choice(["Ulm", "Köln", "Bonn"], ROWS, p=[0.7, 0.2, 0.1])).mask(
                random.random(ROWS) < 0.2
            ),
            "street": [f"street {number}" for number in random.integers(0, 500, ROWS)],
            "member": random.random(ROWS) < 0.4,
            "since": "2026-01-05",
            "nothing": None,
            "part": ["train", "train", "validation", "test"] * (ROWS // 4),
            "y": random.normal(size=ROWS),
        }
    )


@pytest.fixture(scope="module")
def done(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Done:
    patch = pytest.MonkeyPatch()
    patch.setattr(csv_files, "BLOCK", 20_000)  # several pieces, whose statistics are joined
    settings = step_settings(column="part", ignore=["id"])
    finished = run(tmp_path_factory.mktemp("baseline"), {"a.csv": table}, settings)
    patch.undo()
    return finished


@pytest.fixture(scope="module")
def training(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["part"] == "train"]


def written(done: Done, name: str) -> dict[str, Any]:
    content = json.loads((done.folder / "baseline" / name).read_text(), parse_constant=pytest.fail)
    return {feature["name"]: feature for feature in content["features"]}


def test_the_statistics_are_those_of_the_training_part(done: Done, training: pd.DataFrame) -> None:
    content = json.loads((done.folder / "baseline" / "statistics.json").read_text())
    assert content["version"] == 0
    assert content["dataset"] == {"item_count": len(training)}
    assert [feature["name"] for feature in content["features"]] == done.transform.column_names
    types = {name: feature["inferred_type"] for name, feature in written(done, "statistics.json").items()}
    assert types == {
        "count": "Integral", "amount": "Fractional", "huge": "Integral", "constant": "Integral", "city": "String",
        "street": "String", "member": "String", "since": "String", "nothing": "Unknown",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["count", "amount", "huge", "constant"])
def test_numbers_have_their_moments_and_ten_exact_buckets(name: str, done: Done, training: pd.DataFrame) -> None:
    found = written(done, "statistics.json")[name]["numerical_statistics"]
    values = training[name].dropna().clip(-1e38, 1e38).astype(float)
    assert found["common"] == {"num_present": len(values), "num_missing": len(training) - len(values)}
    moments = {"mean": values.mean(), "sum": values.sum(), "std_dev": values.std(ddof=0)}
    for key, expected in (moments | {"min": values.min(), "max": values.max()}).items():
        assert found[key] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    buckets = found["distribution"]["kll"]["buckets"]
    assert len(buckets) == 10
    assert (buckets[0]["lower_bound"], buckets[-1]["upper_bound"]) == (values.min(), values.max())
    for number, bucket in enumerate(buckets):
        low, high, last = bucket["lower_bound"], bucket["upper_bound"], number == 9
        if low == high:
            expected = len(values) if number == 0 else 0
        else:
            expected = int(((values >= low) & ((values <= high) if last else (values < high))).sum())
        assert bucket["count"] == expected
    for one, other in itertools.pairwise(buckets):
        assert one["upper_bound"] == other["lower_bound"]


@pytest.mark.parametrize("name", ["count", "amount", "huge", "constant"])
def test_the_sketch_is_a_valid_state_and_near_the_truth(name: str, done: Done, training: pd.DataFrame) -> None:
    found = written(done, "statistics.json")[name]["numerical_statistics"]
    sketch = found["distribution"]["kll"]["sketch"]
    assert set(sketch["parameters"]) == {"c", "k"}
    weights = np.concatenate([np.full(len(level), 2**height) for height, level in enumerate(sketch["data"])])
    assert weights.sum() == found["common"]["num_present"]
    values = np.concatenate([np.array(level) for level in sketch["data"]])
    truth = np.sort(training[name].dropna().clip(-1e38, 1e38).to_numpy(dtype=float))
    for quantile in np.quantile(truth, [0.05, 0.25, 0.5, 0.75, 0.95]):
        share = weights[values <= quantile].sum() / weights.sum()
        assert share == pytest.approx((truth <= quantile).mean(), abs=0.02)


def test_texts_have_their_most_frequent_values(done: Done, training: pd.DataFrame) -> None:
    found = written(done, "statistics.json")
    for name in ("city", "street", "member"):
        counts = training[name].dropna().map(as_text).value_counts()
        described = found[name]["string_statistics"]
        assert described["common"] == {"num_present": counts.sum(), "num_missing": len(training) - counts.sum()}
        assert described["distinct_count"] == len(counts)
        buckets = described["distribution"]["categorical"]["buckets"]
        assert {bucket["value"]: bucket["count"] for bucket in buckets}.items() <= dict(counts).items()
        assert sum(bucket["count"] for bucket in buckets) == counts.iloc[:100].sum()
    assert found["nothing"]["string_statistics"] == {"common": {"num_present": 0, "num_missing": len(training)}}


def test_the_constraints_are_what_the_training_part_keeps(done: Done, training: pd.DataFrame) -> None:
    found = written(done, "constraints.json")
    assert found["count"] == {
        "name": "count", "inferred_type": "Integral", "completeness": 1.0, "num_constraints": {"is_non_negative": True},
    }  # fmt: skip
    assert found["amount"]["num_constraints"] == {"is_non_negative": False}
    assert found["amount"]["completeness"] == pytest.approx(training["amount"].notna().mean())
    assert found["city"]["string_constraints"] == {"domains": ["Bonn", "Köln", "Ulm"]}
    assert found["member"]["string_constraints"] == {"domains": ["false", "true"]}
    assert "string_constraints" not in found["street"]
    assert found["nothing"] == {"name": "nothing", "inferred_type": "Unknown", "completeness": 0.0}
    content = json.loads((done.folder / "baseline" / "constraints.json").read_text())
    assert content["monitoring_config"]["distribution_constraints"]["comparison_method"] == "Robust"
    assert content["monitoring_config"]["evaluate_constraints"] == "Enabled"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=5), st.integers(0, 100))
def test_a_sketch_of_any_pieces_stands_for_all_values(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    sketch = baseline.Sketch()
    for size in sizes:
        piece = baseline.Sketch()
        piece.add(random.normal(size=size))
        sketch.merge(piece.levels)
    assert sum(len(level) * 2**height for height, level in enumerate(sketch.levels)) == sum(sizes)
    assert sum(len(level) for level in sketch.levels) < 2500


def test_distinct_values_are_exact_when_few_and_near_when_many() -> None:
    few, many = baseline.Distinct(), baseline.Distinct()
    random = np.random.default_rng(1)
    values = random.integers(0, 2**64, 200_000, dtype=np.uint64)
    for start in range(0, len(values), 10_000):
        few.add(values[:500])
        many.add(values[start : start + 10_000])
        many.add(values[start : start + 5_000])
    assert (few.estimate, few.is_exact) == (500, True)
    assert many.estimate == pytest.approx(200_000, rel=0.1)
    assert not many.is_exact


def test_many_distinct_texts_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_TEXTS_COUNTED", 100)
    found = baseline.Statistics("category")
    for number in range(50):
        texts = {"often": 10} | {f"once {number} {i}": 1 for i in range(30)}
        found.merge(baseline.Statistics("category", present=40, texts=texts))
    assert found.cut
    assert len(found.texts) <= 130
    assert found.most_frequent(1) == [("often", 500)]
    assert baseline.fit_column("x", found, None).other
