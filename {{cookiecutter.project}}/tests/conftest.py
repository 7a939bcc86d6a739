"""What the tests share: a table of mixed types, and the steps run on it in a temporary folder."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import evaluate
import findings
import preprocess
import scoring
import train
from pipeline.settings import load_settings

HYPERPARAMETERS = {"num_round": 60, "early_stopping_rounds": 10, "seed": 1, "eta": 0.2, "max_depth": 3, "nthread": 1}
TARGETS = {
    "binary_classification": "churned",
    "multiclass_classification": "plan",
    "regression": "spent",
}
MAIN_METRICS = {"binary_classification": "auc", "multiclass_classification": "accuracy", "regression": "r2"}


def mixed_table(rows: int = 600, seed: int = 7) -> pd.DataFrame:
    """Numbers, text, booleans and identifiers, with values missing, and three targets that depend on them."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 80, rows).astype(float)
    city = random.choice(["Ulm", "Köln", "New York, NY", 'say "hi"'], rows)
    member = random.random(rows) < 0.4
    signal = (age - 50) / 10 + np.where(city == "Ulm", 2.0, -1.0) + member
    noise = random.normal(0, 0.5, rows)
    table = pd.DataFrame(
        {
            "customer": [f"C{number:05d}" for number in range(rows)],
            "age": np.where(random.random(rows) < 0.1, np.nan, age),
            "city": pd.Series(city).mask(random.random(rows) < 0.1),
            "member": pd.Series(member, dtype=object).mask(random.random(rows) < 0.1),
            "visits": random.integers(0, 30, rows),
            "churned": np.where(signal + noise > 0, "yes", "no"),
            "plan": np.select([signal + noise < -1.5, signal + noise < 1.5], ["basic", "plus"], "premium"),
            "spent": 100 + 20 * signal + noise,
        }
    )
    return table


def step_settings(problem_type: str, **data: Any) -> dict[str, Any]:
    """The settings that the steps read, for the mixed table."""
    target = TARGETS[problem_type]
    ignore = ["customer", *(other for other in TARGETS.values() if other != target)]
    csv = {"delimiter": "auto", "encoding": "auto", "quote": '"', "decimal": "."}
    columns = {"format": "auto", "csv": csv, "target": target, "ignore": ignore, "key": None, "time": None}
    return {
        "problem_type": problem_type,
        "data": {**columns, "missing": [], "columns": {}, **data},
        "split": {"validation": 0.2, "test": 0.2, "seed": 0, "column": None, "files": None},
        "shards": 1,
        **{"class_weights": None, "monotone": {}, "interactions": [], "external_memory": "auto"},
        "project": "demo",
        "description": "",
        "target": target,
        "gate": {
            "metric": MAIN_METRICS[problem_type],
            "higher_is_better": True,
            "incomparable": "fail",
            "conditions": [{"metric": "format.valid", "at_least": 1, "at_most": None}],
        },
        "evaluate": {"slices": ["city"], "fairness": None, "costs": None},
        "model_card": {"owner": "", "intended_uses": "", "caveats": "", "risk_rating": "Unknown"},
    }


@dataclass
class Run:
    """The steps run one after the other in a folder."""

    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def preprocess(self) -> dict[str, Any]:
        names = ("train", "validation", "test", "transform", "summary", "baseline")
        outputs = {name: self.folder / name for name in names}
        for path in outputs.values():
            path.mkdir()
        self.summary = preprocess.preprocess(self.settings, self.folder / "data", outputs)
        return self.summary

    def train(self) -> None:
        channels = {name: self.folder / name for name in ("train", "validation", "transform")}
        train.train(self.settings, HYPERPARAMETERS, channels, self.model_dir)
        with tarfile.open(self.folder / "model.tar.gz", "w:gz") as archive:
            for path in self.model_dir.iterdir():
                archive.add(path, path.name)

    def evaluate(self, threshold: float = 0.5) -> dict[str, float]:
        output = self.folder / "evaluation"
        output.mkdir()
        archive = self.folder / "model.tar.gz"
        run = findings.Run(threshold)
        self.metrics = evaluate.evaluate(self.settings, archive, self.folder / "test", self.summary, output, run)
        return self.metrics

    @property
    def model_dir(self) -> Path:
        return self.folder / "model"


def new_run(folder: Path, settings: dict[str, Any], table: pd.DataFrame) -> Run:
    (folder / "data").mkdir(parents=True)
    table.to_csv(folder / "data" / "table.csv", index=False)
    return Run(folder, settings)


class KeptModel(scoring.Model):
    """A model whose process lives on for the next test that asks the same archive: starting one takes seconds."""

    idle: ClassVar[dict[bytes, list[KeptModel]]] = {}

    @classmethod
    def of(cls, folder: Path) -> KeptModel:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        key = hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()
        free = cls.idle.setdefault(key, [])
        return free.pop() if free else cls(folder, free)

    def __init__(self, folder: Path, free: list[KeptModel]) -> None:
        super().__init__(folder)
        self._free = free

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._free.append(self)
        else:
            super().__exit__(kind, error, trace)

    @cached_property
    def _loaded(self) -> bool:
        super().wait_until_loaded()
        return True

    def wait_until_loaded(self) -> None:
        assert self._loaded

    @classmethod
    def end(cls) -> None:
        for model in (model for models in cls.idle.values() for model in models):
            scoring.Model.__exit__(model, None, None, None)


@pytest.fixture(scope="session", autouse=True)
def models_start_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "Model", KeptModel.of)
        yield
    KeptModel.end()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All three steps, for a model of this repository's problem type; tests only read what they left."""
    problem_type = load_settings().problem_type
    run = new_run(tmp_path_factory.mktemp(problem_type), step_settings(problem_type), mixed_table())
    run.preprocess()
    run.train()
    run.evaluate()
    return run
