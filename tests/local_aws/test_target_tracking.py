"""Which capacity target tracking asks for: the decision alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.autoscaling.target_tracking import HIGH, LOW, Change, Past, Tracking, alarm, decide

NEVER = Past()
BUSY = (30.0,) * 3  # minutes above a target of 10, three times as much
QUIET = (2.0,) * 15  # a fifth of it


def tracking(*minutes: float | None, **members: Any) -> Tracking:
    given: dict[str, Any] = {"target": 10.0, "minutes": minutes} | members
    return Tracking(**given)


@pytest.mark.parametrize(
    ("minutes", "state"),
    [
        ([11, 11, 11], HIGH),
        ([11, 11], None),
        ([11, 10, 11], None),
        ([11, 11, None, 11], HIGH),
        ([11, None, None, 11, 11], HIGH),
        ([11, None, None, None, 11, 11], None),
        ([8.9] * 15, LOW),
        ([8.9] * 14, None),
        ([8.9] * 14 + [9], None),
        ([20] + [8.9] * 15, LOW),
        ([None] * 17, None),
        ([8.9] * 7 + [None, None] + [8.9] * 8, LOW),
        ([8.9] * 15 + [None] * 3, None),
    ],
)
def test_the_alarms_need_3_minutes_above_the_target_or_15_below_90_percent_of_it(minutes, state):
    assert alarm(tracking(*minutes)) == state


def test_capacity_is_added_in_proportion_to_the_last_minute():
    assert decide([tracking(99, 99, 25)], 2, 1, 10, NEVER) == Change(5, 0, HIGH)


def test_capacity_is_removed_in_proportion_to_the_busiest_of_the_15_minutes():
    assert decide([tracking(8, *[2] * 14)], 10, 1, 10, NEVER) == Change(8, 0, LOW)


def test_without_data_nothing_changes_though_nothing_comes_in():
    assert decide([tracking(*[None] * 17)], 4, 1, 10, NEVER) is None


def test_capacity_stays_inside_the_bounds():
    assert decide([tracking(*BUSY)], 2, 1, 4, NEVER) == Change(4, 0, HIGH)
    assert decide([tracking(*BUSY)], 4, 1, 4, NEVER) is None
    assert decide([tracking(*QUIET)], 10, 3, 10, NEVER) == Change(3, 0, LOW)
    assert decide([tracking(*QUIET)], 3, 3, 10, NEVER) is None
    assert decide([tracking(11, 11, 11)], 1, 3, 10, NEVER) == Change(3, 0, HIGH)
    assert decide([tracking(*QUIET)], 40, 1, 4, NEVER) == Change(4, 0, LOW)


def test_a_policy_that_may_not_scale_in_does_not():
    assert decide([tracking(*QUIET, scale_in=False)], 10, 1, 10, NEVER) is None


def test_during_the_cooldown_after_scaling_out_only_more_than_was_added_is_set():
    # From 2 to 6 just now: three times the target was asked of 2 instances.
    since = Past(since_out=30, before_out=2)
    assert decide([tracking(*BUSY)], 6, 1, 20, since) is None
    assert decide([tracking(30, 30, 50)], 6, 1, 20, since) == Change(10, 0, HIGH)
    over = dataclasses.replace(since, since_out=300)
    assert decide([tracking(*BUSY)], 6, 1, 20, over) == Change(18, 0, HIGH)


def test_during_the_cooldown_after_scaling_in_nothing_is_removed_but_capacity_is_added():
    since = Past(since_in=299)
    assert decide([tracking(*QUIET)], 5, 1, 10, since) is None
    assert decide([tracking(*BUSY)], 3, 1, 10, since) == Change(9, 0, HIGH)
    assert decide([tracking(*QUIET)], 5, 1, 10, Past(since_in=300)) == Change(1, 0, LOW)


def test_of_several_policies_the_one_with_the_largest_capacity_wins():
    assert decide([tracking(11, 11, 11), tracking(*BUSY)], 2, 1, 10, NEVER) == Change(6, 1, HIGH)
    assert decide([tracking(*QUIET), tracking(*[8] * 15)], 10, 1, 10, NEVER) == Change(8, 1, LOW)


def test_capacity_is_removed_only_when_every_policy_that_may_remove_it_wants_to():
    assert decide([tracking(*QUIET), tracking(*[10] * 15)], 10, 1, 10, NEVER) is None
    assert decide([tracking(*QUIET), tracking(*[10] * 15, scale_in=False)], 10, 1, 10, NEVER) == Change(2, 0, LOW)


MINUTES = st.lists(st.none() | st.floats(0, 1e6), max_size=17)
TARGETS = st.floats(0.01, 1e5)
CAPACITIES = st.integers(1, 50)


@given(MINUTES, TARGETS, CAPACITIES, CAPACITIES, CAPACITIES)
def test_whatever_is_decided_is_a_change_inside_the_bounds_and_in_the_alarms_direction(minutes, target, now, low, high):
    low, high = sorted((low, high))
    change = decide([tracking(*minutes, target=target)], now, low, high, NEVER)
    if change is not None:
        assert low <= change.capacity <= high
        assert change.capacity > now if change.alarm == HIGH else change.capacity < now


@given(st.floats(0, 1e6), TARGETS, CAPACITIES)
def test_a_steady_load_is_brought_to_the_target_with_the_least_capacity_and_then_left_alone(load, target, now):
    """The load is that of all instances together; each has its share of it."""

    def minutes(capacity: int) -> tuple[float, ...]:
        return (load / capacity,) * 15

    change = decide([tracking(*minutes(now), target=target)], now, 1, 10**9, NEVER)
    if change is None:  # near enough: between 90 % of the target and the target, or the next step would be over it
        assert load / now <= target
        assert load / now >= 0.9 * target or now == 1 or load / (now - 1) > target * (1 - 1e-6)
        return
    assert load / change.capacity <= target * (1 + 1e-6)
    assert change.capacity == 1 or load / (change.capacity - 1) > target * (1 - 1e-6)
    after = decide([tracking(*minutes(change.capacity), target=target * (1 + 1e-6))], change.capacity, 1, 10**9, NEVER)
    assert after is None or after.alarm == LOW


@given(st.lists(st.tuples(MINUTES, TARGETS), min_size=1, max_size=4), CAPACITIES)
def test_a_further_policy_never_lessens_what_is_decided(policies, now):
    trackings = [tracking(*minutes, target=target) for minutes, target in policies]

    def capacity(count: int) -> int:
        change = decide(trackings[:count], now, 1, 10**12, NEVER)
        return change.capacity if change else now

    for count in range(1, len(trackings)):
        assert capacity(count + 1) >= min(capacity(count), now)
        if capacity(count) > now:
            assert capacity(count + 1) >= capacity(count)
