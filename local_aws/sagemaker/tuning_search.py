"""Which hyperparameters a tuning job tries next: pure, from its ranges and from what was observed.

Ranges and their scaling are SageMaker's ("Define Hyperparameter Ranges" in the developer guide). So are the strategies
Random and Grid. Bayesian is a tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter
Optimization", NeurIPS 2011), where AWS has Gaussian processes: it learns from earlier jobs as AWS's does, and asks for
other values.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Of a point: for a number its place on the range's scale, from 0 to 1; for a category its index.
Point = tuple[float, ...]

RANDOM_FIRST = 5  # so many jobs are observed before Bayesian draws conclusions
CANDIDATES = 8
BEST_SHARE = 0.25
LOGARITHMIC_FROM = 100.0  # ScalingType Auto: a range whose ends are so far apart is searched by its logarithm
REDRAWS = 20  # tries to find a point that was not tried before


@dataclass(frozen=True)
class Range:
    """A hyperparameter's range.

    Args:
        kind: "Integer", "Continuous" or "Categorical".
        low, high: of numbers.
        scaling: of numbers: "Linear", "Logarithmic" or "ReverseLogarithmic".
        values: of categories.
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    scaling: str = "Linear"
    values: tuple[str, ...] = ()

    def draw(self, generator: random.Random) -> float:
        return generator.randrange(len(self.values)) if self.values else generator.random()

    def text(self, place: float) -> str:
        """The hyperparameter's value at a place, as a training job gets it."""
        if self.values:
            return self.values[int(place)]
        if self.kind == "Integer" and self.scaling == "Linear":  # every number has the same share of the scale
            return str(min(math.floor(self.low + place * (self.high - self.low + 1)), int(self.high)))
        low, high = self._scaled(self.low), self._scaled(self.high)
        scaled = low + place * (high - low)
        value = {
            "Linear": lambda: scaled,
            "Logarithmic": lambda: math.exp(scaled),
            "ReverseLogarithmic": lambda: 1 - math.exp(-scaled),
        }[self.scaling]()
        value = min(max(value, self.low), self.high)
        return str(round(value)) if self.kind == "Integer" else repr(value)

    def _scaled(self, value: float) -> float:
        if self.scaling == "Logarithmic":
            return math.log(value)
        return -math.log(1 - value) if self.scaling == "ReverseLogarithmic" else value


def read_ranges(ranges: dict[str, Any]) -> list[Range]:
    """The ranges of a ParameterRanges structure.

    Raises:
        ValueError: a range that cannot be searched, by name.
    """
    found = [_number_range("Integer", item) for item in ranges.get("IntegerParameterRanges", [])]
    found += [_number_range("Continuous", item) for item in ranges.get("ContinuousParameterRanges", [])]
    found += [
        Range(item["Name"], "Categorical", values=tuple(item["Values"]))
        for item in ranges.get("CategoricalParameterRanges", [])
    ]
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"ParameterRanges: {', '.join(twice)} has more than one range; give one.")
    if not found:
        raise ValueError("ParameterRanges: there is no range, and so nothing to tune; give at least one.")
    return found


def _number_range(kind: str, item: dict[str, Any]) -> Range:
    where = f"{kind}ParameterRanges {item['Name']!r}"
    convert = int if kind == "Integer" else float
    try:
        low, high = convert(item["MinValue"]), convert(item["MaxValue"])
    except ValueError as error:
        raise ValueError(
            f"{where}: MinValue {item['MinValue']!r} and MaxValue {item['MaxValue']!r} must be numbers"
            f"{' without a fraction' if kind == 'Integer' else ''}."
        ) from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{where}: MinValue {low} must be smaller than MaxValue {high}, and both finite.")
    scaling = item.get("ScalingType", "Auto")
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= LOGARITHMIC_FROM else "Linear"
    if scaling == "Logarithmic" and low <= 0:
        raise ValueError(f"{where}: ScalingType Logarithmic needs values greater than 0; MinValue is {low}.")
    if scaling == "ReverseLogarithmic" and (kind == "Integer" or low < 0 or high >= 1):
        raise ValueError(f"{where}: ScalingType ReverseLogarithmic is for continuous values from 0 to less than 1.")
    return Range(item["Name"], kind, low, high, scaling)


def hyperparameters(ranges: Sequence[Range], point: Point) -> dict[str, str]:
    """The values at a point, by hyperparameter."""
    return {each.name: each.text(place) for each, place in zip(ranges, point, strict=True)}


def grid(ranges: Sequence[Range]) -> Iterator[Point]:
    """Every combination of categories."""
    return itertools.product(*(map(float, range(len(each.values))) for each in ranges))


def grid_size(ranges: Sequence[Range]) -> int:
    return math.prod(len(each.values) for each in ranges)


def propose(
    strategy: str, ranges: Sequence[Range], seed: int, tried: Sequence[Point], scores: Sequence[tuple[Point, float]]
) -> Point:
    """The point of the next job.

    Args:
        strategy: "Random", "Grid" or "Bayesian".
        seed: the same seed, and the same that was observed, give the same point.
        tried: of every job started so far, in their order.
        scores: of the jobs that have ended with an objective; the greater the better.
    """
    if strategy == "Grid":
        return next(itertools.islice(grid(ranges), len(tried), None))
    generator = random.Random(f"{seed}/{len(tried)}")  # noqa: S311 (no secret)
    values = [hyperparameters(ranges, point) for point in tried]
    point: Point = ()
    for _ in range(REDRAWS):
        if strategy == "Bayesian" and len(scores) >= RANDOM_FIRST:
            point = _promising(ranges, generator, scores)
        else:
            point = tuple(each.draw(generator) for each in ranges)
        if hyperparameters(ranges, point) not in values:
            break
    return point


def _promising(ranges: Sequence[Range], generator: random.Random, scores: Sequence[tuple[Point, float]]) -> Point:
    """Of some points near the best ones, the one that most resembles the best and least the others."""
    ordered = [point for point, _ in sorted(scores, key=lambda item: item[1], reverse=True)]
    split = max(2, math.ceil(BEST_SHARE * len(ordered)))
    best, others = ordered[:split], ordered[split:]
    width = {id(points): _width(len(points), len(ranges)) for points in (best, others)}
    candidates = [_near(ranges, generator, best, width[id(best)]) for _ in range(CANDIDATES)]

    def worth(point: Point) -> float:
        return _density(ranges, best, point, width[id(best)]) / _density(ranges, others, point, width[id(others)])

    return max(candidates, key=worth)


def _width(points: int, dimensions: int) -> float:
    """The standard deviation of the kernels on the scale from 0 to 1: narrower, the more points there are (Scott)."""
    return 0.25 * max(points, 1) ** (-1 / (dimensions + 4))


def _near(ranges: Sequence[Range], generator: random.Random, points: list[Point], width: float) -> Point:
    """A draw from the density of the points: near one of them, or, as likely as near a certain one, anywhere."""
    number = generator.randrange(len(points) + 1)
    if number == len(points):
        return tuple(each.draw(generator) for each in ranges)
    return tuple(_near_place(each, generator, place, width) for each, place in zip(ranges, points[number], strict=True))


def _near_place(each: Range, generator: random.Random, place: float, width: float) -> float:
    if each.values:
        return each.draw(generator) if generator.random() < width else place
    while not 0 <= (drawn := generator.gauss(place, width)) <= 1:
        pass
    return drawn


def _density(ranges: Sequence[Range], points: list[Point], at: Point, width: float) -> float:
    """A mixture of one kernel for each point and of the uniform density."""
    total = 1.0
    for point in points:
        kernel = 1.0
        for each, centre, place in zip(ranges, point, at, strict=True):
            if each.values:
                kernel *= width + (1 - width) * len(each.values) * (place == centre)
            else:
                inside = _normal((1 - centre) / width) - _normal(-centre / width)
                kernel *= math.exp(-(((place - centre) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi) * inside)
        total += kernel
    return total / (len(points) + 1)


def _normal(deviations: float) -> float:
    return (1 + math.erf(deviations / math.sqrt(2))) / 2
