"""Evaluate as a whole: archives with code of their own, raw rows in, numbers, report and model card out."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pandas as pd
import pytest
from comparison import Serving
from evaluate import EvaluationError, Rival
from findings import Run
from sagemaker.core.model_card import ModelCardContent
from scoring import Model, ScoringError, unpack
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

from tests.steps.archives import (
    INFERENCE,
    MULTICLASS,
    REGRESSION,
    archive,
    binary_table,
    settings,
    write_test_part,
)
from tests.steps.conftest import STEPS

pytestmark = pytest.mark.slow  # make test has fifteen minutes

FILES = {
    "evaluation.json",
    "constraints.json",
    "gate.json",
    "report.html",
    "model_card.json",
    "explanations.json",
    "endpoint-rows.json",
}
SERVING = Serving(
    "prod", "arn:aws:sagemaker:eu-central-1:1:model-package/demo-prod/3", "endpoint demo-prod", "s3://b/m"
)


class Evaluated:
    """One evaluation in a folder."""

    def __init__(self, folder: Path, table: pd.DataFrame, wanted: dict[str, Any], model: Path, **more: Any) -> None:
        self.output = folder / "evaluation"
        self.output.mkdir()
        rival = Rival(SERVING, more.pop("old")) if "old" in more else more.pop("rival", None)
        test = write_test_part(folder / "test", table, more.pop("files", 1))
        run = Run(more.pop("threshold", 0.0), more.pop("tolerance", 0.0), **more)
        self.values = evaluate.evaluate(wanted, model, test, {"data_sha256": "ab"}, self.output, run, rival)

    def read(self, name: str) -> dict[str, Any]:
        return json.loads((self.output / name).read_text(encoding="utf-8"))


def refused(folder: Path, table: pd.DataFrame, wanted: dict[str, Any], model: Path, **more: Any) -> str:
    with pytest.raises(EvaluationError) as raised:
        Evaluated(folder, table, wanted, model, **more)
    assert not (folder / "evaluation" / "gate.json").exists()
    return str(raised.value)


def multiclass_table(rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    shares = random.dirichlet([2, 1, 1], rows)
    labels = [random.choice(3, p=share) for share in shares]
    table = pd.DataFrame(shares, columns=["p_1", "p_2", "p_3"])
    return table.assign(y=np.array([1, 2, 3])[labels], city=random.choice(["a", "b"], rows))


def test_binary(tmp_path: Path) -> None:
    table = binary_table()
    found = Evaluated(tmp_path, table, settings(), archive(tmp_path / "model.tar.gz"), files=3)
    assert found.values["auc"] == pytest.approx(roc_auc_score(table["y"] == "yes", table["signal"]))
    assert {path.name for path in found.output.iterdir()} == FILES
    assert found.values["test.rows"] == 400
    assert found.values["format.valid"] == 1
    assert found.values["model.size_mb"] == pytest.approx((tmp_path / "model.tar.gz").stat().st_size / 1e6)
    assert 0 < found.values["latency.one_row_ms"] < found.values["latency.thousand_rows_ms"]


def test_several_classes_as_numbers(tmp_path: Path) -> None:
    table = multiclass_table()
    model = archive(tmp_path / "model.tar.gz", MULTICLASS, [1, 2, 3])
    found = Evaluated(tmp_path, table, settings(MULTICLASS), model, files=2)
    predicted = table[["p_1", "p_2", "p_3"]].to_numpy().argmax(axis=1) + 1
    assert found.values["accuracy"] == pytest.approx(accuracy_score(table["y"], predicted))
    matrix = found.read("evaluation.json")["multiclass_classification_metrics"]["confusion_matrix"]
    assert matrix["1"]["2"] == ((table["y"] == 1) & (predicted == 2)).sum()
    assert found.values["format.valid"] == 1


def test_regression(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"signal": random.normal(size=300)})
    table["y"] = table["signal"] + random.normal(0, 0.5, 300)
    found = Evaluated(tmp_path, table, settings(REGRESSION), archive(tmp_path / "m.tar.gz", REGRESSION), threshold=9.0)
    assert found.values["r2"] == pytest.approx(r2_score(table["y"], table["signal"]), abs=1e-5)
    assert set(found.read("evaluation.json")["regression_metrics"]) == {
        *("rmse", "mse", "mae", "median_absolute_error", "r2")
    }
    assert found.read("gate.json")["passed"] == 1


def test_statistics_are_in_model_monitor_s_shape(tmp_path: Path) -> None:
    found = Evaluated(tmp_path, binary_table(), settings(), archive(tmp_path / "model.tar.gz"), threshold=0.7)
    statistics = found.read("evaluation.json")
    assert statistics["dataset"] == {"item_count": 400}
    metrics = statistics["binary_classification_metrics"]
    auc = metrics["auc"]
    assert auc["confidence_interval"]["lower"] < auc["value"] < auc["confidence_interval"]["upper"]
    assert auc["confidence_interval"]["level"] == 0.95
    assert 0 < auc["standard_deviation"] < 0.1
    assert set(metrics["confusion_matrix"]) == {"no", "yes"}
    assert metrics["true_positive_rate"]["value"] == metrics["recall"]["value"]
    assert metrics["false_positive_rate"]["value"] == pytest.approx(1 - metrics["true_negative_rate"]["value"])
    for curve, names in (
        ("receiver_operating_characteristic_curve", {"false_positive_rates", "true_positive_rates"}),
        ("precision_recall_curve", {"precisions", "recalls"}),
    ):
        assert set(metrics[curve]) == names
        assert len({len(points) for points in metrics[curve].values()}) == 1
    assert {"f0_5", "f1", "f2", "accuracy_best_constant_classifier", "f2_best_constant_classifier"} <= set(metrics)
    constraints = found.read("constraints.json")["binary_classification_constraints"]
    assert constraints == {"auc": {"threshold": 0.7, "comparison_operator": "LessThanThreshold"}}


def test_few_rows_have_no_standard_deviation_but_an_interval(tmp_path: Path) -> None:
    found = Evaluated(tmp_path, binary_table(199), settings(), archive(tmp_path / "model.tar.gz"))
    accuracy = found.read("evaluation.json")["binary_classification_metrics"]["accuracy"]
    assert accuracy["standard_deviation"] == "NaN"
    assert accuracy["confidence_interval"]["upper"] > accuracy["value"]


@pytest.mark.parametrize(("shift", "passes"), [(-0.3, 1), (0.0, 1), (0.3, 0)])
def test_the_version_that_serves_scores_the_same_rows(tmp_path: Path, shift: float, passes: int) -> None:
    """The candidate's probabilities are off by `shift`; what serves is the reverse of it."""
    table, wanted = binary_table(), settings(metric="logloss")
    model, old = (
        archive(tmp_path / "m.tar.gz", shift=max(shift, 0)),
        archive(tmp_path / "o.tar.gz", shift=-min(shift, 0)),
    )
    found = Evaluated(tmp_path, table, wanted, model, old=old, threshold=99.0)
    gate = found.read("gate.json")
    assert gate["comparable"] == 1
    assert gate["passed"] == passes
    assert gate["serving_version"] == SERVING.version
    assert math.copysign(1, gate["worse_by"]["serving"]) == math.copysign(1, shift) or shift == 0
    if shift == 0:
        assert gate["worse_by"]["serving"] == 0


def test_an_equal_version_within_tolerance(tmp_path: Path) -> None:
    model, old = archive(tmp_path / "m.tar.gz", shift=-0.05), archive(tmp_path / "o.tar.gz")
    found = Evaluated(tmp_path, binary_table(), settings(metric="brier"), model, old=old, threshold=1.0, tolerance=0.01)
    assert 0 < found.read("gate.json")["worse_by"]["serving"] <= 0.01
    assert found.read("gate.json")["passed"] == 1


CANNOT: list[tuple[dict[str, Any], str]] = [
    ({"target": "other"}, "it predicts 'other', this one 'y'"),
    ({"problem_type": REGRESSION}, "it is a regression"),
    ({"classes": ["no", "maybe"]}, "its classes are no, maybe"),
    ({"classes": ["yes", "no"]}, "its positive class is 'no', this one's 'yes'"),
    ({"inference": INFERENCE.replace('"signal"', '"gone"')}, "cannot score these test rows.*gone"),
    ({"inference": "def model_fn(folder):\n    return 1\n"}, "has no transform_fn"),
    ({"inference": INFERENCE.replace("print(", "raise RuntimeError('needs XGBoost 4') #")}, "needs XGBoost 4"),
    ({"inference": "import nowhere"}, "No module named 'nowhere'"),
    ({"inference": INFERENCE.replace("print(", "import os; os._exit(7) #")}, "its process ended with 7"),
    ({"files": {"code/transform.json": "{}"}}, "transform.json cannot be used"),
    (
        {"inference": INFERENCE.replace("flat = [dict(answer) for answer in answers]", "flat = [{'a': 1}]")},
        "answered 1",
    ),
    (
        {"inference": INFERENCE.replace('"probability": value} for', '"probability": "high"} for')},
        "not the promised Parquet: could not convert string to float: 'high'",
    ),
]


@pytest.mark.parametrize(("changes", "reason"), CANNOT)
def test_a_serving_version_that_cannot_be_compared(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    old = archive(tmp_path / "old.tar.gz", **changes)
    found = Evaluated(tmp_path, binary_table(), settings(), archive(tmp_path / "m.tar.gz"), old=old)
    gate = found.read("gate.json")
    assert (gate["comparable"], gate["worse_by"], gate["passed"]) == (0, {"serving": 0.0}, 0)
    assert re.search(reason, gate["decision"])


@pytest.mark.parametrize(("changes", "reason"), CANNOT[4:])
def test_a_candidate_that_cannot_score_is_refused_with_its_words(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    model = archive(tmp_path / "model.tar.gz", **changes)
    assert re.search(reason.replace("these", "the"), refused(tmp_path, binary_table(), settings(), model))


def test_a_serving_version_whose_archive_is_gone_or_broken(tmp_path: Path) -> None:
    rival = Rival(SERVING, None, "its model s3://b/m is not there any more")
    wanted = settings(incomparable="pass")
    found = Evaluated(tmp_path, binary_table(), wanted, archive(tmp_path / "m.tar.gz"), rival=rival)
    assert "not there any more" in found.read("gate.json")["decision"]
    assert (found.read("gate.json")["passed"], found.read("gate.json")["comparable"]) == (1, 0)
    (tmp_path / "again").mkdir()
    (tmp_path / "broken.tar.gz").write_bytes(b"nothing")
    broken = Rival(SERVING, tmp_path / "broken.tar.gz")
    found = Evaluated(tmp_path / "again", binary_table(), wanted, tmp_path / "m.tar.gz", rival=broken)
    assert "not a model archive" in found.read("gate.json")["decision"]


def test_an_archive_damaged_anywhere_is_no_model_archive(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(200_000).hex()
    whole = archive(tmp_path / "model.tar.gz", files={"noise": noise}).read_bytes()
    for place in range(100, len(whole), len(whole) // 20):
        (tmp_path / "damaged.tar.gz").write_bytes(whole[:place] + b"damaged!" * 8 + whole[place + 64 :])
        with pytest.raises(ScoringError, match=r"^damaged\.tar\.gz is not a model archive: [^\n]+$"):
            unpack(tmp_path / "damaged.tar.gz", tmp_path / "unpacked")


def test_old_and_new_version_have_modules_of_their_own(tmp_path: Path) -> None:
    """Both archives have a module `arithmetic`, with another shift in each."""
    old = archive(tmp_path / "o.tar.gz", shift=0.5)
    found = Evaluated(tmp_path, binary_table(), settings(metric="recall"), archive(tmp_path / "m.tar.gz"), old=old)
    assert found.values["recall"] < 1
    assert found.read("gate.json")["worse_by"]["serving"] == pytest.approx(1 - found.values["recall"])


def test_the_target_never_reaches_the_model(tmp_path: Path) -> None:
    inference = INFERENCE.replace("classes = [str", 'assert "y" not in rows.column_names; classes = [str')
    found = Evaluated(tmp_path, binary_table(), settings(), archive(tmp_path / "m.tar.gz", inference=inference))
    assert found.values["format.valid"] == 1


def test_columns_that_no_csv_can_hold_do_no_harm(tmp_path: Path) -> None:
    table = binary_table().assign(tags=[["a", "b"]] * 400, raw=[b"x"] * 400, day=pd.Timestamp("2026-11-21", tz="UTC"))
    found = Evaluated(tmp_path, table, settings(slices=["day"]), archive(tmp_path / "model.tar.gz"))
    assert found.values["format.valid"] == 1
    assert found.values["slice.day.2026-11-21T00:00:00+00:00.rows"] == 400


def test_a_model_s_process_ends_with_its_use(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "model.tar.gz"), tmp_path)
    with Model(tmp_path) as model:
        model.wait_until_loaded()
        process = model._process
        assert process.poll() is None
    assert process.poll() is not None


def test_slices_and_their_names(tmp_path: Path) -> None:
    table = binary_table(600)
    table.loc[:39, "city"] = None
    wanted = settings(slices=["city", "age"])
    found = Evaluated(tmp_path, table, wanted, archive(tmp_path / "model.tar.gz"))
    for city in ("Ulm", "Köln", "<b>"):
        part = table[table["city"] == city]
        assert found.values[f"slice.city.{city}.auc"] == pytest.approx(
            roc_auc_score(part["y"] == "yes", part["signal"])
        )
        assert found.values[f"slice.city.{city}.rows"] == len(part)
    assert found.values["slice.city.(missing).rows"] == 40
    sizes = {name: value for name, value in found.values.items() if re.match(r"slice\.city\..*\.rows", name)}
    large = [name.removesuffix("rows") for name, value in sizes.items() if value >= 30]
    assert found.values["slice.city.worst.auc"] == min(found.values[f"{name}auc"] for name in large)
    assert found.values["slice.city.worst.logloss"] == max(found.values[f"{name}logloss"] for name in large)
    ages = [value for name, value in found.values.items() if re.match(r"slice\.age\.\[\d+, \d+[)\]]\.rows", name)]
    assert len(ages) == 5
    assert sum(ages) == 600
    assert min(ages) > 90


def test_the_worst_slice_is_the_worst_one_even_where_a_value_is_called_so(tmp_path: Path) -> None:
    table = binary_table()
    table["grade"] = np.where((table["signal"] > 0.5) == (table["y"] == "yes"), "worst", "good")
    wanted = settings(slices=["grade"], conditions=[{"metric": "slice.grade.worst.accuracy", "at_least": 0.1}])
    found = Evaluated(tmp_path, table, wanted, archive(tmp_path / "model.tar.gz"))
    assert found.values["slice.grade.good.accuracy"] < 0.1
    assert found.read("gate.json")["conditions"]["c0"] == found.values["slice.grade.good.accuracy"]
    assert found.read("gate.json")["passed"] == 0


@pytest.mark.parametrize("step", [1, 1e-9])
def test_bins_of_near_numbers_keep_names_of_their_own(tmp_path: Path, step: float) -> None:
    table = binary_table(400).assign(day=20_260_101 + step * np.arange(400))
    found = Evaluated(tmp_path, table, settings(slices=["day"]), archive(tmp_path / "model.tar.gz"))
    rows = [value for name, value in found.values.items() if re.match(r"slice\.day\..*\.rows", name)]
    assert sum(rows) == 400
    if step == 1:
        assert found.values["slice.day.[20260101, 20260180).rows"] == 79


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%SZ", None])
def test_many_dates_are_sliced_by_time(tmp_path: Path, form: str | None) -> None:
    """Of single days hardly any has rows enough to say something. form: as text, None: as time stamps."""
    table = binary_table(400).assign(joined=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(400) % 100, "D"))
    table.loc[:39, "joined"] = None
    if form is not None:
        table["joined"] = table["joined"].dt.strftime(form)
    columns = [{"name": "signal", "kind": "number"}, {"name": "joined", "kind": "date", "format": form}]
    columns = columns[: 2 if form == "%d.%m.%Y" else 1]  # what the model does not see is recognised, if ISO 8601
    model = archive(tmp_path / "model.tar.gz", columns=columns)
    found = Evaluated(tmp_path, table, settings(slices=["joined"]), model)
    rows = {name: value for name, value in found.values.items() if re.match(r"slice\.joined\..*\.rows", name)}
    assert rows.pop("slice.joined.(missing).rows") == 40
    assert sum(rows.values()) == 360
    assert len(rows) == 5
    assert list(rows)[-1].endswith(", 2024-04-09].rows")


def test_a_column_named_twice_is_one_slice(tmp_path: Path) -> None:
    found = Evaluated(tmp_path, binary_table(), settings(slices=["city", "city"]), archive(tmp_path / "model.tar.gz"))
    assert sum(found.values[f"slice.city.{city}.rows"] for city in ("Ulm", "Köln", "<b>")) == 400


@pytest.mark.parametrize("text", [True, False])
def test_numbers_as_text_are_sliced_as_numbers(tmp_path: Path, text: bool) -> None:
    table = binary_table(300).assign(age=np.arange(300) % 60)
    if text:
        table["age"] = table["age"].astype(str)
    found = Evaluated(tmp_path, table, settings(slices=["age"]), archive(tmp_path / "model.tar.gz"))
    assert found.values["slice.age.[0, 11).rows"] == 55


def test_rare_values_are_one_slice(tmp_path: Path) -> None:
    table = binary_table(500).assign(city=[f"city {n % 50 if n < 450 else 0}" for n in range(500)])
    found = Evaluated(tmp_path, table, settings(slices=["city"]), archive(tmp_path / "model.tar.gz"))
    rows = [value for name, value in found.values.items() if re.match(r"slice\.city\..*\.rows", name)]
    assert len(rows) == 21
    assert sum(rows) == 500
    assert found.values["slice.city.(other).rows"] == sum(rows) - 59 - 19 * 9


def test_fairness_of_a_protected_column(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sex = np.repeat(["male", "female", "rare"], [500, 480, 20])
    signal = random.random(1000) * np.where(sex == "female", 0.8, 1.0)
    table = pd.DataFrame({"signal": signal, "sex": sex, "y": np.where(random.random(1000) < signal, "yes", "no")})
    chosen = table["signal"] >= 0.5
    rates = chosen.groupby(table["sex"]).mean()
    hits = chosen[table["y"] == "yes"].groupby(table["sex"]).mean()
    for reference in (None, "male"):
        folder = tmp_path / str(reference)
        folder.mkdir()
        wanted = settings(fairness={"column": "sex", "reference": reference})
        values = Evaluated(folder, table, wanted, archive(folder / "model.tar.gz")).values
        assert values["fairness.selection_rate_ratio"] == pytest.approx(rates["female"] / rates["male"])
        assert values["fairness.equal_opportunity_difference"] == pytest.approx(abs(hits["male"] - hits["female"]))
        assert values["fairness.rare.selection_rate"] == pytest.approx(rates["rare"])


def test_fairness_of_several_classes_is_that_of_the_worst(tmp_path: Path) -> None:
    wanted = settings(MULTICLASS, fairness={"column": "city", "reference": "a"})
    table = multiclass_table(900)
    values = Evaluated(tmp_path, table, wanted, archive(tmp_path / "model.tar.gz", MULTICLASS, [1, 2, 3])).values
    predicted = table[["p_1", "p_2", "p_3"]].to_numpy().argmax(axis=1)
    rates = [(predicted == label)[table["city"] == city].mean() for city in ("b", "a") for label in range(3)]
    assert values["fairness.selection_rate_ratio"] == pytest.approx(min(rates[k] / rates[k + 3] for k in range(3)))


def test_every_number_can_be_a_condition(tmp_path: Path) -> None:
    model = archive(tmp_path / "model.tar.gz")
    shape: dict[str, Any] = {
        "slices": ["city"],
        "fairness": {"column": "city", "reference": "Ulm"},
        "costs": {"false_positive": 1.0, "false_negative": 5.0},
    }
    (tmp_path / "first").mkdir()
    values = Evaluated(tmp_path / "first", binary_table(), settings(**shape), model).values
    conditions = [
        {"metric": name, "at_least": -1e9, "at_most": None} for name, value in values.items() if not math.isnan(value)
    ]
    assert {"cost.per_row", "fairness.Ulm.selection_rate", "slice.city.worst.f1", "latency.one_row_ms"} <= set(values)
    found = Evaluated(tmp_path, binary_table(), settings(conditions=conditions, **shape), model)
    assert len(found.read("gate.json")["conditions"]) == len(conditions)


def test_costs(tmp_path: Path) -> None:
    table, wanted = binary_table(), settings(costs={"false_positive": 1.0, "false_negative": 20.0})
    values = Evaluated(tmp_path, table, wanted, archive(tmp_path / "model.tar.gz")).values
    yes, chosen = table["y"] == "yes", table["signal"] >= 0.5
    assert values["cost.per_row"] == pytest.approx(((yes & ~chosen) * 20 + (~yes & chosen)).mean())
    assert values["cost.best_per_row"] < values["cost.per_row"]
    assert values["cost.best_threshold"] < 0.5


def test_a_condition_on_what_there_is_not(tmp_path: Path) -> None:
    wanted = settings(slices=["city"], conditions=[{"metric": "slice.city.Ulmm.auc", "at_least": 0.5, "at_most": None}])
    said = refused(tmp_path, binary_table(), wanted, archive(tmp_path / "model.tar.gz"))
    assert "'slice.city.Ulmm.auc', which there is not" in said
    assert "slice.city.Ulm.auc" in said


@pytest.mark.parametrize(
    ("wanted", "table", "message"),
    [
        (settings(), binary_table().assign(y="yes"), "auc is undefined on the 400 test rows"),
        (settings(), binary_table(0), "the test part has no rows"),
        (settings(), binary_table().drop(columns="y"), "no column 'y': there are signal, city, age"),
        (settings(slices=["town"]), binary_table(), "no column 'town'"),
        (settings(), binary_table().assign(y="maybe"), "'maybe', which is none of the classes no, yes"),
        (settings(fairness={"column": "city", "reference": "Rom"}), binary_table(), "'Rom' is no value of 'city'"),
        (settings(), binary_table().assign(signal=np.inf), "not all finite numbers"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    tmp_path: Path, wanted: dict[str, Any], table: pd.DataFrame, message: str
) -> None:
    assert re.search(message, refused(tmp_path, table, wanted, archive(tmp_path / "model.tar.gz")))


def test_a_file_that_would_leave_the_archive_s_folder(tmp_path: Path) -> None:
    model = archive(tmp_path / "model.tar.gz", files={"../evil.py": "x"})
    assert "'../evil.py', which lies outside" in refused(tmp_path, binary_table(), settings(), model)


def test_answers_that_differ_by_form_are_found(tmp_path: Path) -> None:
    inference = INFERENCE.replace(
        'if "json" in accept:', 'if "json" in accept:\n        answers[3]["probability"] = 0.123'
    )
    wanted = settings(conditions=[{"metric": "format.valid", "at_least": 1, "at_most": None}])
    found = Evaluated(tmp_path, binary_table(), wanted, archive(tmp_path / "m.tar.gz", inference=inference))
    assert found.values["format.valid"] == 0
    assert found.read("gate.json")["passed"] == 0
    assert "application/json: row 3: probability is 0.123" in (found.output / "report.html").read_text()


def test_a_version_that_was_split_differently_is_noted(tmp_path: Path) -> None:
    old = archive(tmp_path / "o.tar.gz", split={"seed": 1})
    found = Evaluated(tmp_path, binary_table(), settings(), archive(tmp_path / "m.tar.gz"), old=old)
    assert "some of these test rows may have trained it" in (found.output / "report.html").read_text()


def test_the_model_card_is_what_sagemaker_takes(tmp_path: Path) -> None:
    wanted = settings(slices=["city"], costs={"false_positive": 1.0, "false_negative": 5.0})
    wanted["model_card"] = {
        "owner": "Ada\nLovelace " * 200,
        "intended_uses": "Only for \x0b letters.\n\nNot for loans.",
        "caveats": "c" * 4000,
        "risk_rating": "High",
    }
    training = {
        "hyperparameters": {"eta": 0.1, "max_depth": 4},
        "metric": "logloss",
        "train": [0.6 - 0.001 * n for n in range(400)],
        "validation": [0.65 - 0.0005 * n for n in range(400)],
        "best_round": 399,
    }
    found = Evaluated(
        tmp_path,
        binary_table(),
        wanted,
        archive(tmp_path / "model.tar.gz", files={"code/training.json": json.dumps(training)}),
        data_uri="s3://bucket/data/",
        commit="abc",
    )
    text = found.read("model_card.json")["content"]
    assert re.fullmatch(r".*", text)  # the API's pattern: one line
    assert len(text) <= 100_000
    card = ModelCardContent.model_validate_json(text)
    assert set(json.loads(text)["model_overview"]) <= {"model_creator", "model_artifact"}  # of a model package's card
    assert card.intended_uses is not None
    assert card.intended_uses.risk_rating == "High"
    assert card.intended_uses.intended_uses == "Only for letters. Not for loans."
    assert card.training_details is not None
    assert card.training_details.training_job_details is not None
    listed = card.training_details.training_job_details.hyper_parameters or []
    assert {item.name: item.value for item in listed} == {"eta": "0.1", "max_depth": "4"}
    groups = {group.name: group.metric_data for group in (card.evaluation_details or [])[0].metric_groups or []}
    assert groups["Quality"][0].name == "auc"
    assert groups["Quality"][0].value == found.values["auc"]
    assert "95 % confidence interval" in (groups["Quality"][0].notes or "")
    assert {metric.name for metric in groups["By city"]} == {f"auc where city is {c}" for c in ("Ulm", "Köln", "<b>")}


def test_a_model_card_of_very_many_slices_stays_within_its_limit(tmp_path: Path) -> None:
    table = binary_table(400)
    columns = {f"column {n}": [f"{'long ' * 40}{k % 20}" for k in range(400)] for n in range(25)}
    table = pd.concat([table, pd.DataFrame(columns)], axis=1)
    found = Evaluated(tmp_path, table, settings(slices=list(columns)), archive(tmp_path / "model.tar.gz"))
    assert len(found.read("model_card.json")["content"]) <= 100_000


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_very_few_rows(tmp_path: Path, rows: int) -> None:
    table = binary_table(rows).assign(y=["no", "yes", "no", "yes", "no"][:rows])
    found = Evaluated(tmp_path, table, settings(metric="accuracy"), archive(tmp_path / "model.tar.gz"))
    assert found.read("gate.json")["passed"] == 1


def test_the_step_runs_from_its_zip_and_says_why_it_fails(tmp_path: Path) -> None:
    """As the job starts it: `python3 evaluate.zip`, where the worker's text must be found too."""
    step = tmp_path / "evaluate.zip"
    with zipfile.ZipFile(step, "w") as zipped:
        for module in STEPS.glob("*.py"):
            zipped.write(module, module.name)
        zipped.writestr("__main__.py", "from evaluate import main\n\nraise SystemExit(main())\n")
        zipped.writestr("settings.json", json.dumps(settings()))
    (tmp_path / "model").mkdir()
    archive(tmp_path / "model" / "model.tar.gz")
    write_test_part(tmp_path / "test", binary_table())
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / "summary.json").write_text("{}")
    (tmp_path / "evaluation").mkdir()
    command = [sys.executable, str(step), "--threshold", "0.99", "--tolerance", "0", "--region", "eu-central-1"]
    for name in ("model", "test", "summary", "evaluation"):
        command += [f"--{name}", str(tmp_path / name)]
    command += ["--compare-stages", "", "--message", str(tmp_path / "message")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr  # a missed threshold is for the pipeline's condition, not a failure
    assert "auc=0.8" in run.stdout
    assert json.loads((tmp_path / "evaluation" / "gate.json").read_text())["passed"] == 0
    (tmp_path / "model" / "model.tar.gz").write_bytes(b"no archive")
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert run.returncode == 1
    assert "not a model archive" in (tmp_path / "message").read_text()
