"""Which hyperparameters a tuning job tries: inside their ranges, on their scales, and better where it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.sagemaker.tuning_search import Point, Range, grid_size, hyperparameters, propose, read_ranges


def number(kind: str, low: str, high: str, scaling: str = "Linear") -> Range:
    item = {"Name": "x", "MinValue": low, "MaxValue": high, "ScalingType": scaling}
    (found,) = read_ranges({f"{kind}ParameterRanges": [item]})
    return found


@given(st.floats(0, 1), st.integers(-1000, 1000), st.integers(1, 1000))
def test_whole_numbers_stay_whole_and_in_their_range(place, low, span):
    assert low <= int(number("Integer", str(low), str(low + span)).text(place)) <= low + span


@given(st.floats(0, 1), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_numbers_stay_in_their_range(place, low, span):
    assert low <= float(number("Continuous", repr(low), repr(low + span)).text(place)) <= low + span


@pytest.mark.parametrize(
    ("each", "places"),
    [
        (number("Continuous", "0", "10"), {0: 0, 0.25: 2.5, 0.5: 5, 1: 10}),
        (number("Continuous", "0.001", "10", "Logarithmic"), {0: 0.001, 0.25: 0.01, 0.5: 0.1, 1: 10}),
        (number("Continuous", "0.9", "0.9999", "ReverseLogarithmic"), {0: 0.9, 1 / 3: 0.99, 2 / 3: 0.999, 1: 0.9999}),
        (number("Integer", "1", "3"), {0: 1, 0.3: 1, 0.34: 2, 0.66: 2, 0.67: 3, 1: 3}),
        (number("Integer", "1", "100", "Logarithmic"), {0: 1, 0.5: 10, 1: 100}),
        (number("Continuous", "0.001", "1", "Auto"), {2 / 3: 0.1}),
        (number("Continuous", "0.1", "0.9", "Auto"), {0.5: 0.5}),
        (number("Continuous", "-1", "1", "Auto"), {0.5: 0}),
    ],
)
def test_a_scale_is_the_one_that_was_asked_for(each, places):
    for place, value in places.items():
        assert float(each.text(place)) == pytest.approx(value, abs=1e-9)


RANGE: dict[str, Any] = {"Name": "x", "MinValue": "1", "MaxValue": "2"}


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({}, "there is no range, and so nothing to tune"),
        ({"IntegerParameterRanges": [RANGE | {"MaxValue": "2.5"}]}, "must be numbers without a fraction"),
        ({"ContinuousParameterRanges": [RANGE | {"MinValue": "a"}]}, "MinValue 'a' and MaxValue '2' must be numbers."),
        ({"ContinuousParameterRanges": [RANGE | {"MinValue": "2"}]}, "MinValue 2.0 must be smaller than MaxValue 2.0"),
        ({"ContinuousParameterRanges": [RANGE | {"MaxValue": "inf"}]}, "both finite"),
        ({"ContinuousParameterRanges": [RANGE | {"MaxValue": "nan"}]}, "both finite"),
        (
            {"ContinuousParameterRanges": [RANGE | {"MinValue": "0", "ScalingType": "Logarithmic"}]},
            "'x': ScalingType Logarithmic needs values greater than 0",
        ),
        (
            {"ContinuousParameterRanges": [RANGE | {"ScalingType": "ReverseLogarithmic"}]},
            "is for continuous values from 0 to less than 1",
        ),
        ({"IntegerParameterRanges": [RANGE], "ContinuousParameterRanges": [RANGE]}, "x has more than one range"),
    ],
)
def test_a_range_that_cannot_be_searched_is_named(ranges, said):
    with pytest.raises(ValueError) as fault:
        read_ranges(ranges)
    assert said in str(fault.value)


MIXED = read_ranges(
    {
        "ContinuousParameterRanges": [
            {"Name": "eta", "MinValue": "0.001", "MaxValue": "1"},
            {"Name": "subsample", "MinValue": "0.3", "MaxValue": "1"},
        ],
        "IntegerParameterRanges": [{"Name": "depth", "MinValue": "2", "MaxValue": "10"}],
        "CategoricalParameterRanges": [{"Name": "policy", "Values": ["a", "b", "c"]}],
    }
)


def goodness(values: dict[str, str]) -> float:
    """Best at eta 0.063, subsample 0.7, depth 6, policy b."""
    wrong_policy = 0.3 * (values["policy"] != "b")
    return -(
        (math.log10(float(values["eta"])) + 1.2) ** 2
        + (float(values["subsample"]) - 0.7) ** 2
        + ((int(values["depth"]) - 6) / 8) ** 2
        + wrong_policy
    )


def best_of(strategy: str, jobs: int, seed: int) -> float:
    tried: list[Point] = []
    scores: list[tuple[Point, float]] = []
    for _ in range(jobs):
        point = propose(strategy, MIXED, seed, tried, scores)
        tried.append(point)
        scores.append((point, goodness(hyperparameters(MIXED, point))))
    return max(score for _, score in scores)


def test_bayesian_learns_where_random_does_not():
    seeds = range(20)
    random = sum(best_of("Random", 40, seed) for seed in seeds) / len(seeds)
    bayesian = sum(best_of("Bayesian", 40, seed) for seed in seeds) / len(seeds)

    assert bayesian > 0.75 * random  # both are negative: a quarter of the distance to the best is gone, on average


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_the_same_seed_and_the_same_observations_give_the_same_jobs(strategy):
    assert best_of(strategy, 12, 7) == best_of(strategy, 12, 7)
    assert best_of(strategy, 12, 7) != best_of(strategy, 12, 8)


def test_random_does_not_depend_on_what_was_observed():
    first = propose("Random", MIXED, 3, [], [])
    assert propose("Random", MIXED, 3, [first], []) == propose("Random", MIXED, 3, [first], [(first, 1.0)])


def test_grid_is_every_combination_once():
    ranges = read_ranges(
        {
            "CategoricalParameterRanges": [
                {"Name": "a", "Values": ["1", "2"]},
                {"Name": "b", "Values": ["x", "y", "z"]},
            ]
        }
    )
    tried: list[Point] = []
    for _ in range(grid_size(ranges)):
        tried.append(propose("Grid", ranges, 0, tried, []))

    assert grid_size(ranges) == 6
    assert [tuple(hyperparameters(ranges, point).values()) for point in tried] == [(a, b) for a in "12" for b in "xyz"]


def test_few_combinations_are_tried_once_each_before_one_comes_again():
    ranges = read_ranges({"CategoricalParameterRanges": [{"Name": "a", "Values": ["1", "2", "3"]}]})
    tried: list[Point] = []
    for _ in range(4):
        tried.append(propose("Random", ranges, 5, tried, []))

    assert sorted(tried[:3]) == [(0,), (1,), (2,)]
    assert tried[3] in tried[:3]
