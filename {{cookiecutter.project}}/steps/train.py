"""Train: XGBoost with early stopping on the validation part; writes the model as the XGBoost image serves it.

model.tar.gz: xgboost-model          the booster, cut at its best round (UBJSON)
              code/inference.py      how requests become predictions, with the modules that it imports
              code/transform.json    from raw columns to what the booster takes
              code/versions.json     what it was trained with: {python, xgboost, numpy, pyarrow, pandas}
              code/training.json     {hyperparameters, metric: the one that decides when to stop, train and validation:
                                     its values after each round (checkpoint.py, Progress), best_round}

Hyperparameters come as arguments (`--eta 0.1`), as SageMaker's script mode hands them over; num_round and
early_stopping_rounds are this script's, all others go to XGBoost as they are. Paths, hosts and GPUs come from SM_*
variables. The same data, settings and hyperparameters give the same bytes of xgboost-model, interrupted or not.

boosting.py            the rounds
batches.py             the rows, in memory or on disk
booster_parameters.py  objective, constraints, weights of the classes
checkpoint.py          going on after an interruption
cluster.py             several hosts
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import shutil
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost
from xgboost import collective

import inference
from batches import Batch, build_matrices, part_files, plan_batches, training_bytes, usable_memory
from booster_parameters import TrainingError, booster_parameters, class_weights
from boosting import boost, own_words
from checkpoint import Checkpoints, fingerprint
from cluster import HostError, Hosts, joined, leave
from files import DataError, content_sha256
from job import read_settings, run_step
from transform import Transform

CHECKPOINTS = Path("/opt/ml/checkpoints")  # where SageMaker keeps them; it exists when the job has a place for them
CHANNELS = ("train", "validation", "transform")


@dataclass(frozen=True)
class Place:
    """Where training happens. checkpoints: the folder of all trainings' checkpoints, or None: there are none."""

    hosts: Hosts = field(default_factory=lambda: Hosts.of_job({}))
    device: str = "cpu"
    checkpoints: Path | None = None
    checkpoint_seconds: float = 30.0


def train(
    settings: dict[str, Any],
    hyperparameters: dict[str, Any],
    channels: dict[str, Path],
    model_dir: Path,
    place: Place | None = None,
) -> xgboost.Booster:
    """Trains, saves to `model_dir` (on the first host), returns the booster.

    settings: {class_weights, monotone, interactions, external_memory}. channels: folders train and validation
    (part-*.parquet: target first, float32) and transform (transform.json). Raises TrainingError for what cannot be
    trained so, DataError for files that do not fit together, HostError when another host is lost.
    """
    place = place or Place()
    fitted = Transform.load(channels["transform"] / "transform.json")
    # SageMaker adds some of its own to a tuning job's: _tuning_objective_metric
    own = {name: value for name, value in hyperparameters.items() if not name.startswith("_")}
    rounds, patience = (_whole_number(own, name) for name in ("num_round", "early_stopping_rounds"))
    parameters = booster_parameters(own, settings, fitted, place.device)
    weights = class_weights(settings["class_weights"], fitted)
    with ExitStack() as stack:
        stack.enter_context(joined(place.hosts))
        parts = {part: plan_batches(part_files(channels[part]), fitted) for part in ("train", "validation")}
        on_disk = _rows_go_to_disk(settings["external_memory"], parts, fitted)
        cache = None
        if on_disk:
            # beside the data: the volume that holds it is the one whose size the settings give
            cache = Path(stack.enter_context(TemporaryDirectory(prefix=".bins-", dir=channels["train"].parent)))
        checkpoints = None
        if place.checkpoints is not None:
            made_of = [parameters, rounds, patience, settings["class_weights"], on_disk, xgboost.__version__]
            name = _shared_fingerprint(made_of, channels)
            checkpoints = Checkpoints(place.checkpoints / name, place.checkpoint_seconds)
        try:
            # no name for the matrices: their files in the cache go with the last reference to them
            booster, progress = boost(
                parameters, rounds, patience, build_matrices(parts, fitted, weights, parameters, cache), checkpoints
            )
        except xgboost.core.XGBoostError as error:
            if len(place.hosts.names) > 1 and "/collective/" in str(error):
                raise  # another host is the cause: joined() says so
            given = ", ".join(f"{name} {value}" for name, value in own.items())
            raise TrainingError(f"XGBoost refused to train: {own_words(error)} (given: {given})") from error
        if place.hosts.is_first:
            metrics = "".join(f"\t{name}:{value:.6g}" for name, value in progress.best.items())
            print(f"best round: {progress.best_round} of {rounds}{metrics}", flush=True)
            record = {
                "hyperparameters": own | {"num_round": rounds, "early_stopping_rounds": patience},
                "metric": list(progress.best)[-1].rpartition("-")[2],
                **progress.history,
                "best_round": progress.best_round,
            }
            save(booster, channels["transform"] / "transform.json", record, model_dir)
            if checkpoints is not None:
                checkpoints.remove()
    return booster


def _rows_go_to_disk(setting: str | bool, parts: dict[str, list[Batch]], fitted: Transform) -> bool:
    """Whether the bins are kept on disk: as set, or for "auto" when they do not fit into memory. One answer for all."""
    rows = {part: sum(batch.rows for batch in batches) for part, batches in parts.items()}
    every = collective.allreduce(np.array(list(rows.values()), dtype=np.int64), collective.Op.SUM)
    for part, number in zip(rows, every, strict=True):
        if number == 0:
            raise DataError(f"the channel {part} has no row in a part-*.parquet: give it the output of Preprocess")
    needed, usable = training_bytes(sum(rows.values()), fitted), usable_memory()
    fits = collective.allreduce(np.array([needed <= usable], dtype=np.int32), collective.Op.MIN)[0]
    on_disk = not fits if setting == "auto" else bool(setting)
    print(
        f"{rows['train']:,} rows to train, {rows['validation']:,} to validate, {len(fitted.feature_names)} features: "
        f"up to {needed / 2**30:.1f} GiB of {usable / 2**30:.1f} usable; bins {'on disk' if on_disk else 'in memory'}",
        flush=True,
    )
    return on_disk


def _shared_fingerprint(made_of: list[Any], channels: dict[str, Path]) -> str:
    """What names this training's checkpoints: its parameters and all hosts' files."""
    hashes = [content_sha256(sorted(channels[name].glob("*")), channels[name]) for name in CHANNELS]
    own = bytes.fromhex(fingerprint(made_of, hashes, collective.get_rank(), collective.get_world_size()))
    every = collective.allreduce(np.frombuffer(own, dtype=np.uint64), collective.Op.BITWISE_XOR)
    return every.tobytes().hex()


def save(booster: xgboost.Booster, transform_file: Path, record: dict[str, Any], model_dir: Path) -> None:
    """Writes the model. Its root holds the booster alone: the image takes every file there for a model."""
    code = model_dir / "code"
    code.mkdir(parents=True, exist_ok=True)
    (model_dir / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    for module in local_modules(Path(inference.__file__)):
        shutil.copyfile(module, code / module.name)
    shutil.copyfile(transform_file, code / "transform.json")
    versions = {
        "python": platform.python_version(),
        "xgboost": xgboost.__version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "pandas": version("pandas"),
    }
    for name, content in (("versions.json", versions), ("training.json", record)):
        (code / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def local_modules(entry: Path) -> list[Path]:
    """The file and those beside it that it imports, directly or not, sorted."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            waiting += [path for name in names if (path := module.with_name(f"{name}.py")).is_file()]
    return sorted(found)


def read_hyperparameters(arguments: list[str]) -> dict[str, Any]:
    """`--name value` pairs as a dict, numbers as numbers. Raises TrainingError when they are not pairs."""
    names, values = arguments[::2], arguments[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise TrainingError(f"hyperparameters must be pairs of --name value, not {' '.join(arguments)!r}")
    return {name.removeprefix("--"): _number_or_text(value) for name, value in zip(names, values, strict=True)}


def _number_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _whole_number(hyperparameters: dict[str, Any], name: str) -> int:
    """Takes the hyperparameter out. Raises TrainingError when it is no whole number from 1."""
    value = hyperparameters.pop(name, None)
    if not isinstance(value, int | float) or value != int(value) or value < 1:
        raise TrainingError(f"the hyperparameter {name} must be a whole number from 1, but is {value!r}")
    return int(value)


def find_device(environment: dict[str, str]) -> str:
    """cuda when the machine has a GPU and this XGBoost can use it, else cpu."""
    gpus = int(environment.get("SM_NUM_GPUS", "0"))
    if gpus and not xgboost.build_info()["USE_CUDA"]:
        print(f"{gpus} GPUs stay unused: this build of XGBoost is without CUDA", flush=True)
        return "cpu"
    if gpus > 1:
        print(f"{gpus - 1} of {gpus} GPUs stay unused: each host trains on one", flush=True)
    return "cuda" if gpus else "cpu"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the model", allow_abbrev=False)
    for channel in CHANNELS:
        default = os.environ.get(f"SM_CHANNEL_{channel.upper()}", f"/opt/ml/input/data/{channel}")
        parser.add_argument(f"--{channel}", type=Path, default=Path(default), help=f"folder of the channel {channel}")
    parser.add_argument("--model-dir", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "/opt/ml/model")))
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=CHECKPOINTS if CHECKPOINTS.is_dir() else None,
        help=f"folder to keep checkpoints in; by default {CHECKPOINTS}, if there is one",
    )
    parser.add_argument("--checkpoint-seconds", type=float, default=30.0, help="time from one checkpoint to the next")
    output_dir = Path(os.environ.get("SM_OUTPUT_DIR", "/opt/ml/output"))
    options, rest = parser.parse_known_args(arguments)
    channels = {channel: getattr(options, channel) for channel in CHANNELS}

    def step() -> None:
        place = Place(Hosts.of_job(), find_device(dict(os.environ)), options.checkpoints, options.checkpoint_seconds)
        settings = read_settings(boost.__module__)  # beside this script, which is no module when it runs
        train(settings, read_hyperparameters(rest), channels, options.model_dir, place)

    several = len(Hosts.of_job().names) > 1
    try:
        code = run_step(step, expected=(TrainingError, DataError, HostError), message_file=output_dir / "failure")
    except BaseException:
        if not several:
            raise
        traceback.print_exc()
        code = 1
    if code and several:
        leave(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
