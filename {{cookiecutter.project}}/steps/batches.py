"""The transformed rows in pieces, from Parquet into XGBoost's binned matrices, in memory or on disk.

XGBoost reads every piece several times while it finds the bins, and keeps only the bins: at most 8 bytes per value,
mostly less. When even that does not fit into memory, the bins lie on disk and are read again in every round
(https://xgboost.readthedocs.io/en/release_3.2.0/tutorials/external_memory.html).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xgboost

from files import DataError
from transform import Transform

BATCH_BYTES = 64 << 20  # of float32 values: fewer pieces are binned faster, and a few of them always fit
# Measured with 120 million values, XGBoost 3.2: 4.4 bytes per value, 7.1 with missing ones; 42 per row while training.
BYTES_PER_VALUE = 8
BYTES_PER_ROW = 64
BYTES_PER_OUTPUT = 16  # a gradient (8) and a margin (4) of each row and class
MEMORY_SHARE = 0.7  # of the machine's memory: the rest is for Python, the batches and the system
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Batch:
    """Consecutive row groups of one file."""

    file: Path
    row_groups: list[int]
    rows: int


def part_files(folder: Path) -> list[Path]:
    """The channel's files, sorted. None when the data is sharded by S3 key and none of it fell to this host."""
    return sorted(folder.glob("part-*.parquet"))


def plan_batches(files: list[Path], fitted: Transform, batch_bytes: int = BATCH_BYTES) -> list[Batch]:
    """Divides the files' row groups into batches of about `batch_bytes`, in their order.

    Raises DataError when a file does not hold the target and then the features.
    """
    columns = [fitted.target, *fitted.feature_names]
    most = max(1, batch_bytes // (4 * len(columns)))
    batches = []
    for file in files:
        metadata = pq.read_metadata(file)
        if metadata.schema.to_arrow_schema().names != columns:
            raise DataError(
                f"{file.parent.name}/{file.name} does not hold the target and the features of transform.json: "
                "give the outputs of one run of Preprocess"
            )
        waiting = Batch(file, [], 0)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if waiting.rows and waiting.rows + rows > most:
                batches.append(waiting)
                waiting = Batch(file, [], 0)
            waiting = Batch(file, [*waiting.row_groups, group], waiting.rows + rows)
        if waiting.rows:
            batches.append(waiting)
    return batches


class BatchIterator(xgboost.DataIter):
    """Hands the batches to XGBoost, as often as it asks.

    weights: of each class, or None. cache: the prefix of XGBoost's files on disk, or None for a matrix in memory.
    """

    def __init__(
        self, batches: list[Batch], fitted: Transform, weights: np.ndarray | None, cache: Path | None = None
    ) -> None:
        self.batches, self.fitted, self.weights = batches, fitted, weights
        self.rest: Iterator[Batch] = iter(())
        self.only: tuple[np.ndarray, np.ndarray] | None = None
        super().__init__(cache_prefix=None if cache is None else str(cache))

    def reset(self) -> None:
        # a host without rows takes part too, with a matrix that has the features but no row
        self.rest = iter(self.batches or [Batch(Path(), [], 0)])

    def next(self, input_data: Callable[..., Any]) -> bool:
        batch = next(self.rest, None)
        if batch is None:
            return False
        features, labels = self._read(batch)
        weights = {} if self.weights is None else {"weight": self.weights[labels.astype(np.intp)]}
        input_data(data=features, label=labels, feature_types=self.fitted.feature_types, **weights)
        return True

    def _read(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The features, shape (rows, features), and the labels, shape (rows,), float32."""
        if self.only is not None:
            return self.only
        features = np.empty((batch.rows, len(self.fitted.feature_names)), dtype=np.float32)
        labels = np.empty(batch.rows, dtype=np.float32)
        if batch.rows:
            with pq.ParquetFile(batch.file) as file:
                table = file.read_row_groups(batch.row_groups)
            labels[:] = table.column(0)
            for position, column in enumerate(table.columns[1:]):
                features[:, position] = column
        if len(self.batches) <= 1:
            self.only = (features, labels)  # small enough to be kept from one pass to the next
        return features, labels


def build_matrices(
    parts: dict[str, list[Batch]],
    fitted: Transform,
    weights: np.ndarray | None,
    parameters: dict[str, Any],
    cache: Path | None,
) -> dict[str, xgboost.DMatrix]:
    """The parts' matrices, train first: its bins are those of the others. cache: a folder, to keep the bins on disk."""
    matrices: dict[str, xgboost.DMatrix] = {}
    for part, batches in parts.items():
        options = {
            "ref": matrices.get("train"),
            "max_bin": parameters.get("max_bin"),
            "nthread": parameters.get("nthread"),
            "enable_categorical": True,
        }
        if cache is None:
            matrices[part] = xgboost.QuantileDMatrix(BatchIterator(batches, fitted, weights), **options)
        else:
            iterator = BatchIterator(batches, fitted, weights, cache / part)
            matrices[part] = xgboost.ExtMemQuantileDMatrix(iterator, **options)
    return matrices


def training_bytes(rows: int, fitted: Transform) -> int:
    """The memory that training with so many rows (train and validation together) needs at most, in bytes."""
    outputs = max(1, len(fitted.classes) if fitted.problem_type == "multiclass_classification" else 1)
    return rows * (len(fitted.feature_names) * BYTES_PER_VALUE + BYTES_PER_ROW + outputs * BYTES_PER_OUTPUT)


def usable_memory(limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """The bytes of memory that training may fill: a share of the machine's, or of the container's limit.

    Not of what is free just now: the same training must decide the same when it goes on after an interruption.
    """
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in limits:
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():  # "max": no limit
            sizes.append(int(text))
    return int(min(sizes) * MEMORY_SHARE)
