"""The rows reach XGBoost in pieces: in memory when they fit, else through files on disk, with the same model."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import batches
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import train
import xgboost
from boosting import boost
from transform import Column, Transform

from tests.steps.conftest import STEPS
from tests.steps.training_rows import CLASSES, HYPERPARAMETERS, RANDOM, SETTINGS, matrix, write_channels

pytestmark = pytest.mark.slow  # make test has fifteen minutes

ROW = 4 * 8  # bytes: seven features and the target, float32


@pytest.fixture(scope="module", params=list(CLASSES))
def channels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_channels(tmp_path_factory.mktemp(request.param), request.param, files=3)


def fitted_of(channels: dict[str, Path]) -> Transform:
    return Transform.load(channels["transform"] / "transform.json")


def test_batches_hold_every_row_once_and_keep_to_their_size(channels: dict[str, Path]) -> None:
    fitted = fitted_of(channels)
    files = batches.part_files(channels["train"])
    _, labels = matrix(channels["train"], fitted)
    for size in (1, 401 * ROW, 800 * ROW, 1 << 30):
        planned = batches.plan_batches(files, fitted, size)
        iterator = batches.BatchIterator(planned, fitted, None)
        read = [iterator._read(batch) for batch in planned]
        assert np.array_equal(np.concatenate([part for _, part in read]), labels)
        assert all(len(features) == batch.rows for (features, _), batch in zip(read, planned, strict=True))
        # a row group is never divided
        assert max(batch.rows for batch in planned) <= max(size // ROW, 400)
    assert len(planned) == len(files)


def test_other_files_and_empty_ones_are_no_batch(tmp_path: Path) -> None:
    fitted = Transform("regression", "y", [], [Column("x", "number")])
    empty = pa.table({"y": pa.array([], pa.float32()), "x": pa.array([], pa.float32())})
    pq.write_table(empty, tmp_path / "part-00000.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert batches.plan_batches(batches.part_files(tmp_path), fitted) == []
    assert batches.part_files(tmp_path / "nothing") == []


@pytest.mark.parametrize("batch_rows", [400, 1 << 20])
def test_on_disk_and_in_memory_the_model_is_the_same(
    channels: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(train, "plan_batches", partial(batches.plan_batches, batch_bytes=batch_rows * ROW))
    models, bytes_on_disk = [], []

    def note_and_boost(*arguments: Any) -> Any:
        bytes_on_disk.append(sum(file.stat().st_size for file in channels["train"].parent.glob(".bins-*/*")))
        return boost(*arguments)

    monkeypatch.setattr(train, "boost", note_and_boost)
    for on_disk in (False, True):
        folder = tmp_path / str(on_disk)
        train.train({**SETTINGS, "external_memory": on_disk}, {**HYPERPARAMETERS, **RANDOM}, channels, folder)
        models.append((folder / "xgboost-model").read_bytes())
    assert models[0] == models[1]
    assert bytes_on_disk[0] == 0
    assert bytes_on_disk[1] >= 3000 * 7, "a byte at least for each value"
    assert {path.name for path in channels["train"].parent.iterdir()} == {"train", "validation", "transform"}


def test_many_small_batches_give_nearly_the_model_of_one(
    channels: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fitted_of(channels)
    features, _ = matrix(channels["validation"], fitted)
    answers = []
    for rows in (400, 1 << 20):
        monkeypatch.setattr(train, "plan_batches", partial(batches.plan_batches, batch_bytes=rows * ROW))
        booster = train.train(SETTINGS, HYPERPARAMETERS, channels, tmp_path / str(rows))
        rows_ = xgboost.DMatrix(features, feature_types=fitted.feature_types, enable_categorical=True)
        answers.append(booster.predict(rows_))
    assert np.corrcoef(answers[0].ravel(), answers[1].ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("setting", "fits", "on_disk"),
    [("auto", True, False), ("auto", False, True), (True, True, True), (False, False, False)],
)
def test_the_settings_or_the_memory_decide(
    setting: Any,
    fits: bool,
    on_disk: bool,
    channels: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = batches.training_bytes(3000, fitted_of(channels))
    monkeypatch.setattr(train, "usable_memory", lambda: needed if fits else needed - 1)
    train.train({**SETTINGS, "external_memory": setting}, {**HYPERPARAMETERS, "num_round": 2}, channels, tmp_path)
    assert ("bins on disk" if on_disk else "bins in memory") in capsys.readouterr().out


def test_the_containers_limit_counts_when_it_is_lower_than_the_machines_memory(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    assert batches.usable_memory((limit,)) == int(machine * batches.MEMORY_SHARE)
    for text, expected in [("max\n", machine), ("1073741824\n", 1 << 30), (f"{machine * 8}\n", machine)]:
        limit.write_text(text)
        assert batches.usable_memory((limit,)) == int(expected * batches.MEMORY_SHARE)


# Prints the bytes by which the process's memory grew at most.
PEAK = """
import sys
from functools import partial
from pathlib import Path
import batches
import train

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

folder = Path(sys.argv[1])
channels = {name: folder / name for name in ("train", "validation", "transform")}
settings = {"class_weights": None, "monotone": {}, "interactions": [], "external_memory": False}
train.plan_batches = partial(batches.plan_batches, batch_bytes=2 << 20)
before = peak()
train.train(settings, {"num_round": 3, "early_stopping_rounds": 3, "nthread": 2}, channels, folder / "model")
print("grown", peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="measures as Linux does")
def test_training_needs_no_more_memory_than_estimated(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    names = [f"c{number}" for number in range(30)]
    fitted = Transform("regression", "y", [], [Column(name, "number") for name in names])
    rows = {"train": 300_000, "validation": 50_000}
    for part, number in rows.items():
        (tmp_path / part).mkdir()
        values = random.normal(size=(31, number)).astype(np.float32)
        values[1:][random.random((30, number)) < 0.2] = np.nan  # what is missing takes more memory than what is not
        table = pa.table(dict(zip(["y", *names], values, strict=True)))
        pq.write_table(table, tmp_path / part / "part-00000.parquet", row_group_size=10_000, use_dictionary=False)
    (tmp_path / "transform").mkdir()
    fitted.save(tmp_path / "transform" / "transform.json")
    process = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(STEPS), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    grown = int(process.stdout.rpartition("grown")[2])
    estimated = batches.training_bytes(sum(rows.values()), fitted)
    # XGBoost's threads and tables need some 30 MB, whatever the data
    assert 0.3 * estimated < grown < estimated + (30 << 20)
