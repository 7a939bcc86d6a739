"""Where training stands, on disk: after an interruption (spot) it goes on from there and ends with the same model.

SageMaker copies the folder to S3 while the job runs, and back to every host before the job runs again. The place in S3
is shared by all executions of a pipeline, so each training has a folder of its own, named by a fingerprint of all that
makes its model. In it are two files, written in turns: whatever happens while one is written, the other is whole.

A file: a line with the sha256 of all that follows, a line of JSON (Progress), the booster (UBJSON).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILES = ("0.checkpoint", "1.checkpoint")


@dataclass(frozen=True)
class Progress:
    """rounds: those that are done. best_round: the one with the best value of the deciding metric, from 0.

    best: the metrics of that round, in the order in which XGBoost writes them ("validation-logloss"). history: the
    deciding metric on each part ("train", "validation") after every round; on the training part it is measured in some
    rounds alone (boosting.py, TRAIN_CURVE), and repeated until the next.
    """

    rounds: int = 0
    best_round: int = 0
    best: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)

    def ended(self, num_round: int, patience: int) -> bool:
        """Whether training is over: all rounds are done, or `patience` rounds since the best one."""
        return self.rounds >= num_round or self.rounds - 1 - self.best_round >= patience


@dataclass
class Checkpoints:
    """The checkpoints of one training in `folder`, written every `seconds`."""

    folder: Path
    seconds: float = 30.0

    def __post_init__(self) -> None:
        self.next_file = 0
        self.written = time.monotonic()

    def load(self) -> tuple[Progress, bytes] | None:
        """The newest whole checkpoint: the progress, and the booster as raw UBJSON. Damaged ones are passed over."""
        newest = None
        for number, name in enumerate(FILES):
            found = _read(self.folder / name)
            if found is not None and (newest is None or found[0].rounds > newest[0].rounds):
                newest, self.next_file = found, 1 - number
        return newest

    def is_due(self) -> bool:
        return time.monotonic() - self.written >= self.seconds

    def write(self, progress: Progress, booster: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(asdict(progress)).encode() + b"\n" + booster
        path = self.folder / FILES[self.next_file]
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as stream:
            stream.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
        self.next_file = 1 - self.next_file
        self.written = time.monotonic()

    def remove(self) -> None:
        """Called when the model is written. What S3 keeps does no harm: the same training would end the same."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(*made_of: Any) -> str:
    """The name of the folder: a sha256 of all that makes the model, given as what JSON can hold."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> tuple[Progress, bytes] | None:
    if not path.is_file():
        return None
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        print(f"checkpoint {path.name} is damaged, probably by the interruption: passed over", flush=True)
        return None
    state, _, booster = content.partition(b"\n")
    return Progress(**json.loads(state)), booster
