"""A training that was interrupted goes on from its last checkpoint, and ends with the model that it would have had."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoint
import pytest
import train
import xgboost
from checkpoint import Checkpoints, Progress

from tests.steps.training_rows import CLASSES, HYPERPARAMETERS, RANDOM, SETTINGS, run_job, start_job, write_channels

pytestmark = pytest.mark.slow  # make test has fifteen minutes

EVERY_ROUND = ("--checkpoint-seconds", "0")


class Interruption(Exception):
    """Stands for the end of a spot instance."""


@pytest.fixture(scope="module", params=list(CLASSES))
def channels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_channels(tmp_path_factory.mktemp(request.param), request.param, rows=1500)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_channels(tmp_path_factory.mktemp("binary"), "binary_classification", rows=1500)


def training(
    channels: dict[str, Path], folder: Path, checkpoints: Path | None, hyperparameters: dict[str, Any], **settings: Any
) -> bytes:
    """The bytes of the model, written below `folder`."""
    place = train.Place(checkpoints=checkpoints, checkpoint_seconds=0)
    train.train({**SETTINGS, **settings}, {**HYPERPARAMETERS, **hyperparameters}, channels, folder, place)
    return (folder / "xgboost-model").read_bytes()


def interrupted_training(
    rounds: int,
    channels: dict[str, Path],
    folder: Path,
    checkpoints: Path,
    hyperparameters: dict[str, Any],
    **settings: Any,
) -> None:
    """A training that ends right after its checkpoint of so many rounds."""
    write = Checkpoints.write

    def write_and_end(self: Checkpoints, progress: Progress, booster: bytes) -> None:
        write(self, progress, booster)
        if progress.rounds == rounds:
            raise Interruption

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_end)
        with pytest.raises(Interruption):
            training(channels, folder, checkpoints, hyperparameters, **settings)


def rounds_in(log: str) -> list[int]:
    return [int(line.partition("]")[0][1:]) for line in log.splitlines() if line.startswith("[")]


# the traceback of the interruption keeps the matrices until their files are gone
@pytest.mark.filterwarnings("ignore:.*External memory cache file:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Couldn't remove external memory cache:UserWarning")
@pytest.mark.parametrize(
    ("hyperparameters", "settings"),
    [
        ({}, {}),
        ({"subsample": 0.6}, {}),
        ({"colsample_bytree": 0.6}, {}),
        ({"colsample_bylevel": 0.6}, {}),
        ({"colsample_bynode": 0.6}, {}),
        ({**RANDOM, "nthread": 2, "grow_policy": "lossguide", "max_leaves": 12}, {}),
        (RANDOM, {"external_memory": True}),
        ({**RANDOM, "num_parallel_tree": 3}, {"monotone": {"size": "increasing"}}),
    ],
)
def test_the_resumed_model_is_the_uninterrupted_one(
    hyperparameters: dict[str, Any],
    settings: dict[str, Any],
    channels: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = training(channels, tmp_path / "whole", None, hyperparameters, **settings)
    for rounds in (1, 11):  # twice: a training that went on can go on again
        interrupted_training(
            rounds, channels, tmp_path / "model", tmp_path / "checkpoints", hyperparameters, **settings
        )
    capsys.readouterr()
    assert training(channels, tmp_path / "model", tmp_path / "checkpoints", hyperparameters, **settings) == expected
    log = capsys.readouterr().out
    assert "going on after 11 rounds, from a checkpoint" in log
    assert rounds_in(log)[0] == 11


@pytest.mark.parametrize("weights", ["balanced", {"yes": 4}])
def test_weighted_rows_resume_too(weights: Any, binary: dict[str, Path], tmp_path: Path) -> None:
    expected = training(binary, tmp_path / "whole", None, RANDOM, class_weights=weights)
    interrupted_training(7, binary, tmp_path / "model", tmp_path / "checkpoints", RANDOM, class_weights=weights)
    assert training(binary, tmp_path / "model", tmp_path / "checkpoints", RANDOM, class_weights=weights) == expected


def test_a_killed_job_that_runs_again_writes_the_same_model(channels: dict[str, Path], tmp_path: Path) -> None:
    hyperparameters = {**HYPERPARAMETERS, **RANDOM, "num_round": 200, "early_stopping_rounds": 15}
    run_job(tmp_path / "whole", channels, hyperparameters)
    arguments = ("--checkpoints", str(tmp_path / "checkpoints"), *EVERY_ROUND)
    last = random.randint(1, 20)
    with start_job(tmp_path / "killed", channels, hyperparameters, arguments=arguments) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if line.startswith(f"[{last}]"):
                job.kill()
                break
    assert not (tmp_path / "killed" / "model").exists()
    log = run_job(tmp_path / "killed", channels, hyperparameters, arguments=arguments)
    # the round in the log may not have come as far as its checkpoint
    assert rounds_in(log)[0] >= last
    models = [(tmp_path / folder / "model" / "xgboost-model").read_bytes() for folder in ("whole", "killed")]
    assert models[0] == models[1], f"killed after round {last}"


def test_a_training_that_early_stopping_ended_does_not_go_on(
    binary: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hyperparameters = {"num_round": 200, "early_stopping_rounds": 5, "eta": 0.6}
    expected = training(binary, tmp_path / "whole", None, hyperparameters)
    interrupted_training(
        len(rounds_in(capsys.readouterr().out)), binary, tmp_path / "model", tmp_path / "checkpoints", hyperparameters
    )
    capsys.readouterr()
    assert training(binary, tmp_path / "model", tmp_path / "checkpoints", hyperparameters) == expected
    assert rounds_in(capsys.readouterr().out) == []


def test_a_finished_training_leaves_no_checkpoint(binary: dict[str, Path], tmp_path: Path) -> None:
    training(binary, tmp_path / "model", tmp_path / "checkpoints", {})
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_another_training_takes_nothing_from_the_same_place(
    binary: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted_training(10, binary, tmp_path / "model", tmp_path / "checkpoints", {})
    other_rows = write_channels(tmp_path / "rows", "binary_classification", rows=1500, seed=2)
    other_rows["transform"] = binary["transform"]
    others: list[tuple[dict[str, Path], dict[str, Any], dict[str, Any]]] = [
        (binary, {"eta": 0.2}, {}),
        (binary, {"num_round": 31}, {}),
        (binary, {"early_stopping_rounds": 9}, {}),
        (binary, {}, {"class_weights": "balanced"}),
        (binary, {}, {"monotone": {"size": "increasing"}}),
        (other_rows, {}, {}),
    ]
    for channels, hyperparameters, settings in others:
        capsys.readouterr()
        training(channels, tmp_path / "model", tmp_path / "checkpoints", hyperparameters, **settings)
        assert "going on" not in capsys.readouterr().out
        assert len(list((tmp_path / "checkpoints").iterdir())) == 1, "the interrupted training's are left alone"
    training(binary, tmp_path / "model", tmp_path / "checkpoints", {})
    assert "going on after 10 rounds" in capsys.readouterr().out


def stored(folder: Path) -> Checkpoints:
    """Two checkpoints, after 4 and 5 rounds."""
    checkpoints = Checkpoints(folder, 0)
    for rounds in (4, 5):
        checkpoints.write(Progress(rounds, 2, {"validation-rmse": 0.5}), bytes([rounds]) * 2000)
    return checkpoints


def test_the_newest_checkpoint_is_loaded_and_the_oldest_replaced(tmp_path: Path) -> None:
    stored(tmp_path)
    again = Checkpoints(tmp_path)
    assert again.load() == (Progress(5, 2, {"validation-rmse": 0.5}), bytes([5]) * 2000)
    again.write(Progress(6, 2), b"six")
    kept = [checkpoint._read(tmp_path / name) for name in checkpoint.FILES]
    assert {found[0].rounds for found in kept if found} == {5, 6}
    assert {path.name for path in tmp_path.iterdir()} == set(checkpoint.FILES)


@pytest.mark.parametrize("damage", ["torn", "changed", "empty", "unfinished"])
def test_a_damaged_checkpoint_is_passed_over(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path)
    newest = tmp_path / checkpoint.FILES[1]
    content = newest.read_bytes()
    if damage == "torn":
        newest.write_bytes(content[:-100])
    elif damage == "changed":
        newest.write_bytes(content.replace(b'"rounds": 5', b'"rounds": 9'))
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        newest.rename(newest.with_suffix(".unfinished"))
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[0].rounds == 4
    assert ("1.checkpoint is damaged" in capsys.readouterr().out) == (damage != "unfinished")


def test_without_a_whole_checkpoint_training_starts_anew(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing").load() is None
    stored(tmp_path)
    for name in checkpoint.FILES:
        (tmp_path / name).write_bytes(b"x")
    assert Checkpoints(tmp_path).load() is None


def test_checkpoints_come_at_their_time(
    binary: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    written: list[int] = []

    def tick() -> float:
        nonlocal now
        now += 1
        return now

    monkeypatch.setattr(checkpoint.time, "monotonic", tick)
    monkeypatch.setattr(Checkpoints, "write", _noting(written, Checkpoints.write))
    place = train.Place(checkpoints=tmp_path / "checkpoints", checkpoint_seconds=10)
    train.train(SETTINGS, HYPERPARAMETERS, binary, tmp_path / "model", place)
    assert written[-1] == HYPERPARAMETERS["num_round"], "the last one says that training is over"
    assert 2 <= len(written) <= 4


def _noting(written: list[int], write: Any) -> Any:
    def note(self: Checkpoints, progress: Progress, booster: bytes) -> None:
        written.append(progress.rounds)
        write(self, progress, booster)

    return note


def test_progress_ends_by_rounds_or_patience() -> None:
    progress = Progress(rounds=10, best_round=6)
    assert not progress.ended(num_round=11, patience=4)
    assert progress.ended(num_round=10, patience=4)
    assert progress.ended(num_round=11, patience=3)
    assert not replace(progress, rounds=0, best_round=0).ended(num_round=1, patience=1)


def test_a_checkpoint_is_what_anyone_can_read(binary: dict[str, Path], tmp_path: Path) -> None:
    interrupted_training(2, binary, tmp_path / "model", tmp_path / "checkpoints", {})
    (folder,) = (tmp_path / "checkpoints").iterdir()
    _, state, booster = (folder / "1.checkpoint").read_bytes().split(b"\n", 2)
    assert json.loads(state)["rounds"] == 2
    assert xgboost.Booster(model_file=bytearray(booster)).num_boosted_rounds() == 2
