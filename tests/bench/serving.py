"""Answering CSV requests, against nothing but parsing the numbers and asking XGBoost, in the same process.

The bare way knows that there are 30 columns of numbers, no header, nothing missing and nothing wrong, and gives an
array. Ours finds all that out, and gives the answer's body.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from tests.bench.figures import Figure
from tests.story.story import CHECKOUT

ROUNDS, ROWS = 15, 1_000
COLUMNS = [f"c{number}" for number in range(30)]
CSV = "text/csv"


def serving() -> list[Figure]:
    sys.path.insert(0, str(CHECKOUT / "{{cookiecutter.project}}" / "steps"))
    import inference
    from transform import Column

    from tests.steps.serving_models import make_transform, train_booster, write_archive

    transform = make_transform(columns=[Column(name, "number") for name in COLUMNS])
    mixed = make_transform()
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as temporary:
        folder = write_archive(Path(temporary) / "numbers", transform, train_booster(transform, rounds=50))
        model = inference.model_fn(str(folder))
        folder = write_archive(Path(temporary) / "mixed", mixed, train_booster(mixed, rounds=50))
        mixed_model = inference.model_fn(str(folder))
    rows = np.random.default_rng(1).normal(0, 30, (ROWS, len(COLUMNS)))
    lines = [",".join(f"{value:.4f}" for value in row) + "\n" for row in rows]
    many, one = "".join(lines), lines[0]
    mixed_many = "42.5,Ulm,true,2026-11-20T08:30:00Z,A,31/12/2025,\n" * ROWS

    def ask(model: inference.Model, body: str, accept: str = "application/json") -> Callable[[], Any]:
        return lambda: inference.transform_fn(model, body, CSV, accept)

    def predict(features: np.ndarray) -> np.ndarray:
        return model.booster.inplace_predict(features)

    encoded_many, encoded_one = many.encode(), one.encode()
    bare = {
        "pyarrow": lambda: predict(_by_pyarrow(encoded_many)),
        "pandas": lambda: predict(_by_pandas(encoded_many)),
    }

    def bare_one() -> np.ndarray:
        return predict(np.array(encoded_one.split(b","), dtype=np.float32).reshape(1, -1))

    ways = {
        **bare,
        "csv": ask(model, many, CSV),
        "json": ask(model, many),
        "mixed": ask(mixed_model, mixed_many),
    }
    rounds = [_in_turn(ways, 15) for _ in range(ROUNDS)]
    ones = [_in_turn({"bare": bare_one, "ours": ask(model, one)}, 300) for _ in range(ROUNDS)]

    def kept(way: str) -> list[float]:
        return [min(seconds[name] for name in bare) / seconds[way] for seconds in rounds]

    def rates(way: str) -> list[float]:
        return [ROWS / seconds[way] for seconds in rounds]

    return [
        Figure(
            "1,000 CSV rows of 30 numbers, answered as CSV: the bare way's rows/s kept", kept("csv"), "x", at_least=0.6
        ),
        Figure("the same, answered as JSON", kept("json"), "x", at_least=0.6),
        Figure(
            "one CSV row against the bare way", [seconds["ours"] / seconds["bare"] for seconds in ones], "x", at_most=2
        ),
        Figure("one CSV row", [1000 * seconds["ours"] for seconds in ones], "ms"),
        Figure("1,000 rows answered as CSV", rates("csv"), "rows/s"),
        Figure("1,000 rows answered as JSON", rates("json"), "rows/s"),
        Figure("1,000 rows of 7 mixed columns (categories, dates) answered as JSON", rates("mixed"), "rows/s"),
    ]


def _by_pyarrow(body: bytes) -> np.ndarray:
    types = dict.fromkeys(COLUMNS, pa.float32())
    read = pa_csv.ReadOptions(column_names=COLUMNS, use_threads=False)
    table = pa_csv.read_csv(io.BytesIO(body), read, convert_options=pa_csv.ConvertOptions(column_types=types))
    return np.column_stack([column.to_numpy() for column in table.columns])


def _by_pandas(body: bytes) -> np.ndarray:
    return pd.read_csv(io.BytesIO(body), header=None, dtype=np.float32).to_numpy()


def _in_turn(ways: dict[str, Callable[[], Any]], calls: int) -> dict[str, float]:
    """The median seconds of a call of each, called in turn, so that a busy machine is so for all of them."""
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(calls):
        for name, call in ways.items():
            started = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in samples.items()}
