"""What the training part looks like, column by column: for the summary, and as Model Monitor's data-quality baseline.

statistics.json and constraints.json have the shapes that SageMaker Model Monitor publishes (developer guide,
"Schema for Statistics" and "Schema for Constraints"), so that any tool that reads those can use them: numbers with ten
buckets of equal width and exact counts, and a KLL sketch; texts with their most frequent values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from columns import Decoded
from transform import DATE_PARTS, LARGEST, MAX_CATEGORIES, Column

BUCKETS = 10
MAX_DISTINCT_KEPT = 1024
MAX_TEXTS_COUNTED = 100_000
MAX_DOMAIN = 100  # a column with more distinct texts gets no constraint on its domain
SKETCH_SIZE, SKETCH_SHRINK = 512, 0.64
_DAY = 86_400_000_000


@dataclass
class Distinct:
    """How many distinct values there are: the least hashes of all (KMV; Bar-Yossef et al., RANDOM 2002), each once.

    Exact up to MAX_DISTINCT_KEPT values; beyond, off by about 3 %.
    """

    least: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))

    @property
    def is_exact(self) -> bool:
        return len(self.least) < MAX_DISTINCT_KEPT

    @property
    def estimate(self) -> int:
        return len(self.least) if self.is_exact else round((len(self.least) - 1) / (float(self.least[-1]) / 2.0**64))

    def add(self, hashes: np.ndarray) -> None:
        if not self.is_exact:
            hashes = hashes[hashes < self.least[-1]]
        self.least = np.unique(np.concatenate([self.least, hashes]))[:MAX_DISTINCT_KEPT]


@dataclass
class Sketch:
    """A KLL sketch (Karnin, Lang and Liberty, FOCS 2016): values of level h stand for 2^h values each."""

    levels: list[np.ndarray] = field(default_factory=lambda: [np.empty(0)])
    odd: bool = False

    def add(self, values: np.ndarray) -> None:
        self.merge([values])

    def merge(self, levels: list[np.ndarray]) -> None:
        self.levels += [np.empty(0)] * (len(levels) - len(self.levels))
        for level, values in enumerate(levels):
            self.levels[level] = np.concatenate([self.levels[level], values])
        level = 0
        while level < len(self.levels):
            if len(self.levels[level]) > self._capacity(level):
                self._compact(level)
            level += 1

    def _capacity(self, level: int) -> int:
        return max(2, math.ceil(SKETCH_SIZE * SKETCH_SHRINK ** (len(self.levels) - 1 - level)))

    def _compact(self, level: int) -> None:
        """Every second of the sorted values goes up a level; the other half is dropped."""
        values = np.sort(self.levels[level])
        stays = len(values) % 2
        if level + 1 == len(self.levels):
            self.levels.append(np.empty(0))
        self.odd = not self.odd
        self.levels[level] = values[len(values) - stays :]
        promoted = values[: len(values) - stays][int(self.odd) :: 2]
        self.levels[level + 1] = np.concatenate([self.levels[level + 1], promoted])


@dataclass
class Statistics:
    """What is known about one column of the training part.

    least, greatest: numbers, or instants in microseconds. whole: whether all numbers are whole (instants: days).
    texts: how often each occurs; exact unless `cut`.
    """

    kind: str
    present: int = 0
    missing: int = 0
    distinct: Distinct = field(default_factory=Distinct)
    least: float = math.inf
    greatest: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0
    whole: bool = True
    sketch: Sketch = field(default_factory=Sketch)
    texts: dict[str, int] = field(default_factory=dict)
    cut: bool = False
    buckets: np.ndarray = field(default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64))

    @property
    def standard_deviation(self) -> float:
        return math.sqrt(self.squares / self.present) if self.present else 0.0

    def merge(self, other: Statistics) -> None:
        """Takes in what was found in further rows."""
        rows = self.present + other.present
        if other.present:
            change = other.mean - self.mean
            self.mean += change * (other.present / rows)
            self.squares += other.squares + change * change * (self.present * (other.present / rows))
        self.present, self.missing = rows, self.missing + other.missing
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        self.whole = self.whole and other.whole
        self.distinct.add(other.distinct.least)
        self.sketch.merge(other.sketch.levels)
        for text, rows in other.texts.items():
            self.texts[text] = self.texts.get(text, 0) + rows
        if len(self.texts) > MAX_TEXTS_COUNTED:
            self.cut = True
            self.texts = dict(self.most_frequent(MAX_TEXTS_COUNTED // 2))

    def most_frequent(self, limit: int) -> list[tuple[str, int]]:
        return sorted(self.texts.items(), key=lambda item: (-item[1], item[0]))[:limit]

    @property
    def edges(self) -> np.ndarray:
        """The bounds of the ten buckets, shape (11,)."""
        steps = np.arange(BUCKETS + 1) / BUCKETS
        # written so, two ends of 1e38 do not lose the lesser one
        edges = self.least * (1 - steps) + self.greatest * steps
        edges[0], edges[-1] = self.least, self.greatest
        return np.clip(edges, self.least, self.greatest)

    def count_in_buckets(self, numbers: np.ndarray) -> np.ndarray:
        """How many numbers (without NaN) lie in each bucket: lower bound included, upper excluded but for the last."""
        if self.least == self.greatest:
            return np.array([len(numbers)] + [0] * (BUCKETS - 1))
        positions = np.searchsorted(self.edges[1:-1], np.clip(numbers, -LARGEST, LARGEST), side="right")
        return np.bincount(positions, minlength=BUCKETS)


def statistics_of(decoded: Decoded, hashes: np.ndarray, rows: np.ndarray) -> Statistics:
    """The statistics of some rows. hashes: those of all rows (Decoded.hashes). rows: a mask, shape (rows,), bool."""
    chosen = rows & decoded.present
    present = int(np.count_nonzero(chosen))
    found = Statistics(decoded.kind, present, int(np.count_nonzero(rows)) - present)
    if not present:
        return found
    found.distinct.add(hashes[chosen])
    if decoded.numbers is not None:
        numbers = np.clip(decoded.numbers[chosen], -LARGEST, LARGEST)
        found.least, found.greatest = float(numbers.min()), float(numbers.max())
        found.mean = float(numbers.mean())
        found.squares = float(np.square(numbers - found.mean).sum())
        found.whole = bool((numbers == np.rint(numbers)).all())
        found.sketch.add(numbers)
    elif decoded.instants is not None:
        instants = decoded.instants[chosen]
        found.least, found.greatest = int(instants.min()), int(instants.max())
        found.whole = not (instants % _DAY).any()
    elif decoded.texts is not None and decoded.codes is not None:
        counts = np.bincount(decoded.codes[chosen], minlength=len(decoded.texts))
        seen = np.flatnonzero(counts)
        for text, count in zip(decoded.texts.take(pa.array(seen)).to_pylist(), counts[seen].tolist(), strict=True):
            found.texts[text] = found.texts.get(text, 0) + count
    return found


def fit_column(name: str, found: Statistics, format: str | None) -> Column:
    """The column's transformation, from what the training part holds."""
    if not found.present:
        return Column(name, "empty")
    if found.kind == "category":
        categories = [text for text, _ in found.most_frequent(MAX_CATEGORIES)]
        return Column(name, "category", sorted(categories), other=found.cut or len(found.texts) > MAX_CATEGORIES)
    if found.kind == "date":
        parts = [part for part in DATE_PARTS if part != "hour" or not found.whole]
        return Column(name, "date", format=format, parts=parts, reference=instant_text(int(found.greatest)))
    return Column(name, found.kind)


def instant_text(instant: int) -> str:
    """ISO 8601 in UTC."""
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=instant)
    return moment.isoformat().replace("+00:00", "Z")


def describe(found: Statistics) -> dict[str, Any]:
    """The column in summary.json."""
    described: dict[str, Any] = {
        "kind": found.kind if found.present else "empty",
        "present": found.present,
        "missing": found.missing,
        "distinct": found.distinct.estimate,
        "distinct_is_exact": found.distinct.is_exact,
    }
    if found.present and found.kind == "number":
        described |= {"min": found.least, "max": found.greatest, "mean": found.mean}
        described["standard_deviation"] = found.standard_deviation
    elif found.present and found.kind == "date":
        described |= {"min": instant_text(int(found.least)), "max": instant_text(int(found.greatest))}
    elif found.present:
        described["most_frequent"] = [{"value": text, "rows": rows} for text, rows in found.most_frequent(10)]
    return described


def statistics_json(rows: int, columns: dict[str, Statistics]) -> dict[str, Any]:
    """statistics.json of the training part. rows: of the training part."""
    return {
        "version": 0,
        "dataset": {"item_count": rows},
        "features": [_feature_statistics(name, found) for name, found in columns.items()],
    }


def constraints_json(columns: dict[str, Statistics]) -> dict[str, Any]:
    """constraints.json of the training part: later data should have these types and domains, and be as complete."""
    return {
        "version": 0,
        "features": [_feature_constraints(name, found) for name, found in columns.items()],
        "monitoring_config": {
            "evaluate_constraints": "Enabled",
            "emit_metrics": "Enabled",
            "datatype_check_threshold": 1.0,
            "domain_content_threshold": 1.0,
            "distribution_constraints": {
                "perform_comparison": "Enabled",
                "comparison_threshold": 0.1,
                "comparison_method": "Robust",
                "categorical_comparison_threshold": 0.1,
                "categorical_drift_method": "LInfinity",
            },
        },
    }


def inferred_type(found: Statistics) -> str:
    if not found.present:
        return "Unknown"
    if found.kind == "number":
        return "Integral" if found.whole else "Fractional"
    return "String"


def _feature_statistics(name: str, found: Statistics) -> dict[str, Any]:
    feature: dict[str, Any] = {"name": name, "inferred_type": inferred_type(found)}
    write: Callable[[Statistics], dict[str, Any]] = _numbers if found.kind == "number" else _texts
    key = "numerical_statistics" if found.kind == "number" else "string_statistics"
    common = {"num_present": found.present, "num_missing": found.missing}
    feature[key] = {"common": common} | (write(found) if found.present else {})
    return feature


def _numbers(found: Statistics) -> dict[str, Any]:
    edges = found.edges.tolist()
    buckets = [
        {"lower_bound": edges[number], "upper_bound": edges[number + 1], "count": float(count)}
        for number, count in enumerate(found.buckets.tolist())
    ]
    sketch = {
        "parameters": {"c": SKETCH_SHRINK, "k": float(SKETCH_SIZE)},
        "data": [np.sort(values).tolist() for values in found.sketch.levels],
    }
    return {
        "mean": found.mean,
        "sum": found.mean * found.present,
        "std_dev": found.standard_deviation,
        "min": found.least,
        "max": found.greatest,
        "distribution": {"kll": {"buckets": buckets, "sketch": sketch}},
    }


def _texts(found: Statistics) -> dict[str, Any]:
    buckets = [{"value": text, "count": rows} for text, rows in found.most_frequent(MAX_DOMAIN)]
    return {
        "distinct_count": found.distinct.estimate,
        "distribution": {"categorical": {"buckets": buckets}},
    }


def _feature_constraints(name: str, found: Statistics) -> dict[str, Any]:
    rows = found.present + found.missing
    feature: dict[str, Any] = {
        "name": name,
        "inferred_type": inferred_type(found),
        "completeness": found.present / rows if rows else 0.0,
    }
    if found.present and found.kind == "number":
        feature["num_constraints"] = {"is_non_negative": found.least >= 0}
    elif found.texts and not found.cut and len(found.texts) <= MAX_DOMAIN:
        feature["string_constraints"] = {"domains": sorted(found.texts)}
    return feature
