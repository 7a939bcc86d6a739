"""train.py: what it learns, what it takes from hyperparameters and settings, what it writes and what it refuses."""

from __future__ import annotations

import importlib
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import booster_parameters
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import train
import xgboost
from booster_parameters import TrainingError
from files import DataError
from transform import Transform

from tests.steps.training_rows import (
    CLASSES,
    HYPERPARAMETERS,
    RANDOM,
    SETTINGS,
    matrix,
    run_job,
    start_job,
    write_channels,
)

BEST_ROUND = r"best round: (\d+) of (\d+)\t(.+)"


@pytest.fixture(scope="module", params=list(CLASSES))
def channels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_channels(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_channels(tmp_path_factory.mktemp("binary"), "binary_classification")


def fitted_of(channels: dict[str, Path]) -> Transform:
    return Transform.load(channels["transform"] / "transform.json")


def predictions(booster: xgboost.Booster, features: np.ndarray, fitted: Transform) -> np.ndarray:
    rows = xgboost.DMatrix(features, feature_types=fitted.feature_types, enable_categorical=True)
    return booster.predict(rows)


def trained(
    channels: dict[str, Path], folder: Path, hyperparameters: dict[str, Any] | None = None, **settings: Any
) -> xgboost.Booster:
    return train.train({**SETTINGS, **settings}, {**HYPERPARAMETERS, **(hyperparameters or {})}, channels, folder)


def test_the_model_learns(channels: dict[str, Path], tmp_path: Path) -> None:
    fitted = fitted_of(channels)
    features, labels = matrix(channels["validation"], fitted)
    answers = predictions(trained(channels, tmp_path), features, fitted)
    if fitted.problem_type == "regression":
        assert 1 - ((answers - labels) ** 2).mean() / labels.var() > 0.6
    else:
        guesses = answers.argmax(axis=1) if answers.ndim == 2 else answers >= 0.5
        assert (guesses == labels).mean() > (0.65 if answers.ndim == 2 else 0.8)


def test_the_same_training_writes_the_same_bytes_and_another_seed_others(
    channels: dict[str, Path], tmp_path: Path
) -> None:
    written = []
    for number, seed in enumerate((3, 3, 4)):
        trained(channels, tmp_path / str(number), {**RANDOM, "seed": seed, "nthread": 2})
        written.append((tmp_path / str(number) / "xgboost-model").read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_the_last_metric_ends_training_and_the_best_round_is_the_models_last(
    channels: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    booster = trained(channels, tmp_path, {"num_round": 300, "eta": 0.6, "early_stopping_rounds": 5})
    log = capsys.readouterr().out
    metric = booster_parameters.EVAL_METRICS[fitted_of(channels).problem_type][-1]
    values = [float(value) for value in re.findall(rf"^\[\d+\].*\tvalidation-{metric}:([-+.\w]+)$", log, re.M)]
    best, of, metrics = re.findall(BEST_ROUND, log)[0]
    assert int(best) == int(np.argmin(values))
    assert int(of) == 300
    assert len(values) == int(best) + 1 + 5
    assert booster.num_boosted_rounds() == int(best) + 1
    assert float(metrics.rpartition(":")[2]) == min(values)


def test_early_stopping_is_that_of_xgboost_itself(channels: dict[str, Path], tmp_path: Path) -> None:
    fitted = fitted_of(channels)
    hyperparameters = {"num_round": 200, "eta": 0.6, "early_stopping_rounds": 6}
    ours = trained(channels, tmp_path, hyperparameters)
    parts: dict[str, xgboost.DMatrix] = {}
    for part in ("train", "validation"):
        features, labels = matrix(channels[part], fitted)
        options = {"feature_types": fitted.feature_types, "enable_categorical": True, "ref": parts.get("train")}
        parts[part] = xgboost.QuantileDMatrix(features, labels, **options)
    own = ("num_round", "early_stopping_rounds")
    given = {name: value for name, value in {**HYPERPARAMETERS, **hyperparameters}.items() if name not in own}
    parameters = booster_parameters.booster_parameters(given, SETTINGS, fitted, "cpu")
    theirs = xgboost.train(
        parameters,
        parts["train"],
        num_boost_round=200,
        evals=[(matrix_, part) for part, matrix_ in parts.items()],
        early_stopping_rounds=6,
        verbose_eval=False,
    )
    assert ours.num_boosted_rounds() == theirs.best_iteration + 1
    features, _ = matrix(channels["validation"], fitted)
    expected = predictions(theirs[: theirs.best_iteration + 1], features, fitted)
    assert predictions(ours, features, fitted) == pytest.approx(expected, abs=1e-5)


def test_the_archive_loads_and_answers_by_itself(
    channels: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(channels, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["xgboost-model"]
    code = tmp_path / "code"
    assert (code / "transform.json").read_bytes() == (channels["transform"] / "transform.json").read_bytes()
    versions = json.loads((code / "versions.json").read_text())
    assert list(versions) == ["python", "xgboost", "numpy", "pyarrow", "pandas"]
    assert versions["xgboost"] == xgboost.__version__
    assert versions["python"] == platform.python_version()
    # with nothing of steps/ to be imported
    names = [path.stem for path in code.glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(code), *(path for path in sys.path if not path.endswith("/steps"))])
    inference = importlib.import_module("inference")
    try:
        model = inference.model_fn(str(tmp_path))
        rows = [{"size": 1.0, "price[€]": -2, "city": "city 3", "member": True, "joined": "2024-02-03"}]
        body, content_type = inference.transform_fn(model, json.dumps(rows), "application/json", "application/json")
        assert content_type == "application/json"
        assert len(json.loads(body)["predictions"]) == 1
        assert Path(str(sys.modules["transform"].__file__)).parent == code
    finally:
        for name in names:
            sys.modules.pop(name, None)


def test_the_record_of_the_training_says_how_it_went(
    channels: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hyperparameters = {"num_round": 300, "eta": 0.6, "early_stopping_rounds": 5}
    booster = trained(channels, tmp_path, {**hyperparameters, "_tuning_objective_metric": "x"})
    record = json.loads((tmp_path / "code" / "training.json").read_text())
    assert record["hyperparameters"] == {**HYPERPARAMETERS, **hyperparameters}
    assert record["metric"] == booster_parameters.EVAL_METRICS[fitted_of(channels).problem_type][-1]
    assert record["best_round"] == booster.num_boosted_rounds() - 1 == int(np.argmin(record["validation"]))
    logged = re.findall(rf"validation-{record['metric']}:([-+.\w]+)$", capsys.readouterr().out, re.M)[:-1]
    assert [f"{value:.6g}" for value in record["validation"]] == logged
    assert len(record["train"]) == len(record["validation"]) == record["best_round"] + 1 + 5
    assert record["train"][10] == record["train"][10 + 3] < record["train"][9], "measured every tenth round"


def test_every_module_that_inference_imports_is_found(tmp_path: Path) -> None:
    (tmp_path / "entry.py").write_text("import os\nimport one\nfrom two import x\n\ndef f():\n    import three\n")
    (tmp_path / "one.py").write_text("import entry\n")
    (tmp_path / "two.py").write_text("from __future__ import annotations\nimport one, four\n")
    for name in ("three", "four", "unused"):
        (tmp_path / f"{name}.py").write_text("")
    found = [path.stem for path in train.local_modules(tmp_path / "entry.py")]
    assert found == ["entry", "four", "one", "three", "two"]


def test_balanced_classes_weigh_the_same(binary: dict[str, Path]) -> None:
    fitted = fitted_of(binary)
    weights = booster_parameters.class_weights("balanced", fitted)
    assert weights is not None
    _, labels = matrix(binary["train"], fitted)
    sums = [weights[label] * (labels == label).sum() for label in (0, 1)]
    assert sums[0] == pytest.approx(sums[1])
    assert sum(sums) == pytest.approx(len(labels))


def test_a_heavier_class_is_predicted_more_often(binary: dict[str, Path], tmp_path: Path) -> None:
    fitted = fitted_of(binary)
    features, _ = matrix(binary["validation"], fitted)
    shares = []
    for number, weights in enumerate(({"no": 10}, None, {"yes": 10})):
        booster = trained(binary, tmp_path / str(number), class_weights=weights)
        shares.append((predictions(booster, features, fitted) >= 0.5).mean())
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize(
    ("classes", "setting", "expected"),
    [
        ([0, 1], {"1": 5}, [1.0, 5.0]),  # settings.json has texts for keys, whatever settings.yaml had
        ([False, True], {"true": 3, "false": 2}, [2.0, 3.0]),
        (["a", "b", "c"], {"b": 0.5}, [1.0, 0.5, 1.0]),
        (["a", "b"], None, None),
    ],
)
def test_weights_are_found_by_label(classes: list[Any], setting: Any, expected: list[float] | None) -> None:
    weights = booster_parameters.class_weights(setting, Transform("binary_classification", "y", classes, [], [5, 5]))
    assert (None if weights is None else weights.tolist()) == expected


@pytest.mark.parametrize("direction", ["increasing", "decreasing"])
def test_a_monotone_column_moves_the_prediction_one_way(
    binary: dict[str, Path], tmp_path: Path, direction: str
) -> None:
    fitted = fitted_of(binary)
    # against the data: price acts by its absolute value, time by the age of the date
    booster = trained(binary, tmp_path, monotone={"price[€]": direction, "joined": direction, "member": direction})
    sign = 1 if direction == "increasing" else -1
    features, _ = matrix(binary["validation"], fitted)
    names = fitted.feature_names
    changed = {
        "price[€]": np.linspace(-3, 3, 30),
        "member": np.array([0, 1]),
        "joined.year": np.arange(2018, 2027),
        "joined.age_days": np.linspace(3000, 0, 30),
    }
    for name, values in changed.items():
        several = np.repeat(features[:50, np.newaxis, :], len(values), axis=1)
        several[:, :, names.index(name)] = values
        moved = np.diff(predictions(booster, several.reshape(-1, len(names)), fitted).reshape(50, len(values)))
        assert (sign * moved >= 0).all(), name


def test_without_a_constraint_the_same_columns_go_both_ways(binary: dict[str, Path], tmp_path: Path) -> None:
    fitted = fitted_of(binary)
    features, _ = matrix(binary["validation"], fitted)
    several = np.repeat(features[:50, np.newaxis, :], 30, axis=1)
    several[:, :, fitted.feature_names.index("price[€]")] = np.linspace(-3, 3, 30)
    moved = np.diff(predictions(trained(binary, tmp_path), several.reshape(-1, 7), fitted).reshape(50, 30))
    assert (moved > 0).any()
    assert (moved < 0).any()


def test_only_columns_of_one_group_share_a_branch(binary: dict[str, Path], tmp_path: Path) -> None:
    fitted = fitted_of(binary)
    booster = trained(binary, tmp_path, {"max_depth": 6}, interactions=[["size", "joined"], ["city", "member"]])
    allowed = [{"size", "joined"}, {"city", "member"}, {"price[€]"}]
    together = set()
    for tree in booster.get_dump(dump_format="json"):
        for path in branches(json.loads(tree)):
            columns = {fitted.sources[int(feature.removeprefix("f"))] for feature in path}
            assert any(columns <= group for group in allowed), columns
            together |= {frozenset(columns)} if len(columns) > 1 else set()
    assert frozenset({"size", "joined"}) in together


def branches(node: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The features on each way from the root to a leaf."""
    if "leaf" in node:
        return [above]
    return [path for child in node["children"] for path in branches(child, (*above, node["split"]))]


@pytest.mark.parametrize(
    ("settings", "hyperparameters", "message"),
    [
        ({"monotone": {"prise": "increasing"}}, {}, r"train.monotone: 'prise' is no column .*size, price\[€\], city"),
        ({"monotone": {"city": "increasing"}}, {}, "train.monotone: 'city' holds categories, which have no order"),
        ({"interactions": [["size", "sise"]]}, {}, "train.interactions: 'sise' is no column that the model sees"),
        (
            {"class_weights": {"maybe": 2}},
            {},
            "train.class_weights: 'maybe' is none of the classes no, yes: correct it$",
        ),
        ({"class_weights": {"true": 2}}, {}, "'true' is none of the classes no, yes: .*YAML takes yes.*in quotes"),
        ({}, {"num_round": 0}, "num_round must be a whole number from 1, but is 0"),
        ({}, {"early_stopping_rounds": "few"}, "early_stopping_rounds must be a whole number from 1, but is 'few'"),
        ({}, {"num_round": 2.5}, "num_round must be a whole number from 1, but is 2.5"),
        ({}, {"subsample": 2}, "XGBoost refused to train: value 2 for Parameter subsample"),
        ({}, {"eta": "fast"}, "XGBoost refused to train: .* could not be parsed.*eta fast"),
        ({}, {"max_dept": 3}, "XGBoost does not know the hyperparameter max_dept"),
        ({}, {"objective": "rank:pairwise"}, "'objective' is set by steps/booster_parameters.py: remove it"),
        ({}, {"booster": "dart"}, "'booster' is set by steps"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(
    settings: dict[str, Any], hyperparameters: dict[str, Any], message: str, binary: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        trained(binary, tmp_path, hyperparameters, **settings)
    assert list(tmp_path.iterdir()) == []


def test_class_weights_are_refused_where_there_is_no_class() -> None:
    with pytest.raises(TrainingError, match="for classification alone"):
        booster_parameters.class_weights("balanced", Transform("regression", "y", [], []))


def test_a_missing_hyperparameter_is_named(binary: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="num_round must be a whole number from 1, but is None"):
        train.train(SETTINGS, {"early_stopping_rounds": 3}, binary, tmp_path)


def test_targets_too_large_for_xgboost_are_said(tmp_path: Path) -> None:
    channels = write_channels(tmp_path, "regression", rows=200)
    for part in ("train", "validation"):
        for file in channels[part].iterdir():
            table = pq.read_table(file)
            labels = pa.array(table.column("y").to_numpy() * np.float32(1e34))
            pq.write_table(table.set_column(0, "y", labels), file)
    with pytest.raises(
        TrainingError, match=r"validation-rmse is (inf|nan) in round 0: the target's values are too large"
    ):
        trained(channels, tmp_path / "model")


def test_files_of_another_run_are_refused(binary: dict[str, Path], tmp_path: Path) -> None:
    table = pq.read_table(next(binary["train"].iterdir()))
    (tmp_path / "train").mkdir()
    pq.write_table(table.drop_columns(["size"]), tmp_path / "train" / "part-00000.parquet")
    with pytest.raises(DataError, match=r"train/part-00000.parquet does not hold the target and the features"):
        trained({**binary, "train": tmp_path / "train"}, tmp_path / "model")


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_without_rows_is_refused(binary: dict[str, Path], tmp_path: Path, part: str) -> None:
    with pytest.raises(DataError, match=f"the channel {part} has no row"):
        trained({**binary, part: tmp_path / "nothing"}, tmp_path / "model")


def test_the_script_runs_as_sagemaker_starts_it(channels: dict[str, Path], tmp_path: Path) -> None:
    # a tuning job adds a hyperparameter of its own
    given = {**HYPERPARAMETERS, "num_round": 12, "_tuning_objective_metric": "validation:best_logloss"}
    log = run_job(tmp_path, channels, given)
    assert re.findall(r"^\[(\d+)\]\t.*validation-", log, re.M) == [str(number) for number in range(12)]
    assert re.findall(r"^\[(\d+)\]\ttrain-", log, re.M) == ["0", "10"], "the training part's curve has fewer points"
    assert re.search(BEST_ROUND, log)
    assert "Warning" not in log
    assert (tmp_path / "model" / "xgboost-model").is_file()
    assert not (tmp_path / "output" / "failure").exists()
    assert {path.name for path in channels["train"].parent.iterdir()} == {"train", "validation", "transform"}


def test_the_script_says_in_one_line_why_it_failed(binary: dict[str, Path], tmp_path: Path) -> None:
    with start_job(tmp_path, binary, {**HYPERPARAMETERS, "max_depth": -1}) as job:
        log, _ = job.communicate(timeout=60)
    assert job.returncode == 1
    assert log.splitlines()[-1].startswith("ERROR: XGBoost refused to train: value -1 for Parameter max_depth")
    assert (tmp_path / "output" / "failure").read_text() == log.splitlines()[-1].removeprefix("ERROR: ")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("arguments", [["--eta"], ["eta", "0.1"]])
def test_arguments_that_are_no_pairs_are_refused(arguments: list[str]) -> None:
    with pytest.raises(TrainingError, match="pairs of --name value"):
        train.read_hyperparameters(arguments)


def test_a_gpu_is_used_only_by_a_build_that_can(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for can, gpus, device, said in [
        (True, "1", "cuda", ""),
        (True, "4", "cuda", "3 of 4 GPUs stay unused"),
        (False, "1", "cpu", "without CUDA"),
        (True, "0", "cpu", ""),
    ]:
        monkeypatch.setattr(xgboost, "build_info", lambda can=can: {"USE_CUDA": can})
        assert train.find_device({"SM_NUM_GPUS": gpus}) == device
        out = capsys.readouterr().out
        assert said in out
        assert bool(out) == bool(said)
    assert train.find_device({}) == "cpu"
