"""With a real booster behind the template's own serving code: predictions, reasons, latency."""

from __future__ import annotations

import json
import re
from pathlib import Path

import evaluate
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from findings import Run
from probes import as_csv, explanations
from scoring import Model, unpack
from transform import Transform

from tests.steps import trained
from tests.steps.archives import BINARY, MULTICLASS, REGRESSION, settings, write_test_part

pytestmark = pytest.mark.slow  # make test has fifteen minutes


@pytest.fixture(scope="module", params=[BINARY, MULTICLASS, REGRESSION])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp(request.param)
    table, columns, classes = trained.mixed(request.param)
    booster, transform = trained.train(request.param, table, columns, classes)
    trained.save(folder / "model.tar.gz", booster, transform, folder)
    return folder, table


def problem_type(folder: Path) -> str:
    return Transform.load(folder / "transform.json").problem_type


def test_the_whole_step(model: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, table = model
    wanted = settings(problem_type(folder), slices=["city", "joined", "age"])
    test = write_test_part(tmp_path / "test", table[:700].assign(note="never seen"), files=2)
    (tmp_path / "out").mkdir()
    better = 0.6 if wanted["gate"]["higher_is_better"] else 1.0
    rival = evaluate.Rival(evaluate.Serving("prod", "v1", "endpoint"), folder / "model.tar.gz")
    values = evaluate.evaluate(wanted, folder / "model.tar.gz", test, {}, tmp_path / "out", Run(better), rival)
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert (gate["passed"], gate["comparable"], gate["worse_by"]["serving"]) == (1, 1, 0)
    assert values["format.valid"] == 1, (tmp_path / "out" / "report.html").read_text()[-2000:]
    shap = json.loads((tmp_path / "out" / "explanations.json").read_text())["explanations"]["kernel_shap"]
    sizes = shap["label0"]["global_shap_values"]
    assert set(sizes) == {"age", "city", "joined", "noise"}
    assert sizes["age"] > sizes["city"] > sizes["noise"]


def test_contributions_are_xgboost_s_own_summed_by_raw_column(model: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, table = model
    unpack(folder / "model.tar.gz", tmp_path)
    transform = Transform.load(folder / "transform.json")
    sample = pa.Table.from_pandas(table[:300].drop(columns="y"), preserve_index=False)
    with Model(tmp_path) as asked:
        asked.wait_until_loaded()
        found = explanations(asked, transform, sample)
    booster = xgboost.Booster(model_file=bytearray((tmp_path / "xgboost-model").read_bytes()))
    matrix = xgboost.DMatrix(transform.features(sample), feature_types=transform.feature_types, enable_categorical=True)
    exact = booster.predict(matrix, pred_contribs=True, strict_shape=True)[..., :-1]
    by_column = {
        name: exact[..., [place for place, source in enumerate(transform.sources) if source == name]].sum(axis=-1)
        for name in transform.column_names
    }
    assert {column["name"]: column["mean_absolute"] for column in found["columns"]} == pytest.approx(
        {name: float(np.abs(values).mean()) for name, values in by_column.items()}, rel=1e-4, abs=1e-6
    )
    assert sum(column["gain"] for column in found["columns"]) == pytest.approx(1)
    assert found["columns"][0]["name"] == "age"
    for part in found["points"]:
        assert part["contributions"] == pytest.approx(by_column[part["name"]][:, 0].tolist(), abs=1e-4)
    if transform.problem_type == MULTICLASS:
        assert found["points"] == []
        return
    points = {part["name"]: part["values"] for part in found["points"]}
    assert set(points["city"]) == {None}  # a category has no order
    age = table["age"][:300]
    assert [rank is None for rank in points["age"]] == age.isna().tolist()
    assert points["age"][int(age.argmax())] == 1.0
    assert points["age"][int(age.argmin())] == 0.0
    assert points["joined"][int(table["joined"][:300].argmax())] == 1.0


def test_the_report_names_the_columns_with_the_most_influence(model: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, table = model
    wanted = settings(problem_type(folder))
    test, output = write_test_part(tmp_path / "test", table[:200]), tmp_path / "out"
    output.mkdir()
    evaluate.evaluate(wanted, folder / "model.tar.gz", test, {}, output, Run(0.0))
    report = (output / "report.html").read_text()
    assert "joined" in report
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r"<style>.*?</style>", "", report, flags=re.DOTALL))


def test_a_single_column_is_asked_with_its_missing_values(tmp_path: Path) -> None:
    """An empty line of CSV is no row: the missing value must be written otherwise."""
    table, columns, classes = trained.mixed(BINARY)
    alone = table[["age", "y"]]
    trained.save(tmp_path / "model.tar.gz", *trained.train(BINARY, alone, columns[:1], classes), tmp_path)
    test = write_test_part(tmp_path / "test", alone[:200])
    assert alone["age"][:200].isna().any()
    (tmp_path / "out").mkdir()
    values = evaluate.evaluate(settings(), tmp_path / "model.tar.gz", test, {}, tmp_path / "out", Run(0.0))
    assert values["format.valid"] == 1
    assert values["latency.thousand_rows_ms"] > 0


def test_any_type_of_text_can_be_asked_as_csv() -> None:
    texts = ["Ulm", 'say "hi"', None]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        rows = pa.table({"city": pa.array(texts, kind), "age": [1, 2, 3]})
        assert as_csv(rows) == b'"city","age"\n"Ulm",1\n"say ""hi""",2\n,3\n'
