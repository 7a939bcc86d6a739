"""Boosting round by round: metrics in the log, early stopping, checkpoints from which the same model comes."""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

import numpy as np
import xgboost
from xgboost import collective

from booster_parameters import TrainingError
from checkpoint import Checkpoints, Progress

# Every so many rounds the metrics of the training part are measured too. They decide nothing, and of many rows they
# cost more than building the trees: AUC sorts all of them.
TRAIN_CURVE = 10


def boost(
    parameters: dict[str, Any],
    rounds: int,
    patience: int,
    matrices: dict[str, xgboost.DMatrix],
    checkpoints: Checkpoints | None,
) -> tuple[xgboost.Booster, Progress]:
    """The booster, cut at its best round, and how far training went. The first host logs and keeps checkpoints."""
    is_first = collective.get_rank() == 0
    progress, stored = Progress(), None
    if checkpoints is not None:
        # the first host's word counts, whatever the others have
        progress, stored = collective.broadcast((checkpoints.load() if is_first else None) or (progress, stored), 0)
    booster = _booster(parameters, list(matrices.values()), stored)
    if stored is not None and is_first:
        print(f"going on after {progress.rounds} rounds, from a checkpoint", flush=True)
    while not progress.ended(rounds, patience):
        current = progress.rounds
        _renew_samplers(booster, parameters)
        booster.update(matrices["train"], current)
        seen = [part for part in matrices if part != "train" or current % TRAIN_CURVE == 0]
        evaluation = booster.eval_set([(matrices[part], part) for part in seen], current)
        metrics = {name: float(value) for name, value in re.findall(r"\t([^\t]+):([^\t:]+)", evaluation)}
        deciding, value = list(metrics.items())[-1]
        if not np.isfinite(value):
            raise TrainingError(
                f"{deciding} is {value} in round {current}: the target's values are too large for XGBoost, or so is eta"
            )
        metric = deciding.rpartition("-")[2]
        history = progress.history  # goes on growing: a copy in every round would cost more than the round
        for part in matrices:
            curve = history.setdefault(part, [])
            curve.append(metrics[f"{part}-{metric}"] if part in seen else curve[-1])
        if current == 0 or value < progress.best[deciding]:
            progress = Progress(current + 1, current, metrics, history)
        else:
            progress = Progress(current + 1, progress.best_round, progress.best, history)
        if is_first:
            print(f"[{current}]" + "".join(f"\t{name}:{value:.6g}" for name, value in metrics.items()), flush=True)
            if checkpoints is not None and (checkpoints.is_due() or progress.ended(rounds, patience)):
                checkpoints.write(progress, bytes(booster.save_raw("ubj")))
    return booster[: progress.best_round + 1], progress


def _booster(parameters: dict[str, Any], matrices: list[xgboost.DMatrix], stored: bytes | None) -> xgboost.Booster:
    """A new booster, or the stored one. Raises TrainingError when XGBoost does not know a parameter."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        booster = xgboost.Booster(parameters, matrices, model_file=None if stored is None else bytearray(stored))
        booster.num_boosted_rounds()  # only now it looks at the parameters
    unused = [re.findall(r'"(\w+)"', str(warning.message)) for warning in said if "not used" in str(warning.message)]
    if unused:
        raise TrainingError(
            f"XGBoost does not know the hyperparameter {', '.join(unused[0])}: correct it in settings.yaml "
            "(https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html)"
        )
    for warning in said:
        print(f"XGBoost: {warning.message}", file=sys.stderr, flush=True)
    return booster


def _renew_samplers(booster: xgboost.Booster, parameters: dict[str, Any]) -> None:
    """Makes the coming round depend on the booster and the round's number alone, not on the rounds before it.

    With seed_per_iteration XGBoost seeds its random numbers in every round, but the tree builder draws the columns from
    a generator of its own, seeded when the builder is made. Naming another method and then the right one again makes
    XGBoost drop the builder; its predictions for the training rows, which are costly, stay.
    """
    booster.set_param("tree_method", "approx")
    booster.num_boosted_rounds()  # parameters take effect when XGBoost next needs them
    booster.set_param("tree_method", parameters["tree_method"])


def own_words(error: xgboost.core.XGBoostError) -> str:
    """XGBoost's message without its place in the code and the stack below it."""
    text = str(error).partition("Stack trace")[0]
    return " ".join(re.sub(r"^\[[\d:]+\] \S+: ", "", text).split())[:500]
