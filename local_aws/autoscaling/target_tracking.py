"""Target tracking: which capacity a policy's metric asks for. Pure: numbers in, a capacity out.

Application Auto Scaling user guide, "How target tracking scaling works", and PutScalingPolicy's reference say: capacity
is added in proportion to the metric, as fast as it can be; it is removed more gradually; of several policies the one
with the largest capacity wins, and capacity is removed only when all that may remove it want to; missing data changes
nothing. The alarms that AWS makes say the rest: out after 3 minutes above the target, in after 15 minutes below 90 % of
it. AWS does not say which value the proportion is taken from. Here it is the last minute's for scaling out and the
highest of the 15 for scaling in, which is the cautious one of each (an inference).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUTES_HIGH = 3
MINUTES_LOW = 15
LOW_SHARE = 0.9  # of the target
# CloudWatch looks further back than the periods it needs, so that a minute without data does not hide an alarm.
SPARE_MINUTES = 2
MINUTES_KEPT = MINUTES_LOW + SPARE_MINUTES
HIGH, LOW = "AlarmHigh", "AlarmLow"


@dataclass(frozen=True)
class Tracking:
    """One policy, and what its metric was.

    Args:
        target: the value to keep the metric at; greater than 0.
        minutes: the metric of each minute, the oldest first; None for a minute without data.
        scale_in: whether it may remove capacity.
        scale_out_cooldown, scale_in_cooldown: seconds of AWS's time.
    """

    target: float
    minutes: Sequence[float | None]
    scale_in: bool = True
    scale_out_cooldown: float = 300
    scale_in_cooldown: float = 300


@dataclass(frozen=True)
class Past:
    """What scaling did last, in seconds of AWS's time since its end; None when it never did.

    Args:
        since_out: since capacity was added.
        before_out: the capacity before that.
        since_in: since capacity was removed.
    """

    since_out: float | None = None
    before_out: int | None = None
    since_in: float | None = None


@dataclass(frozen=True)
class Change:
    """A capacity to set, and which policy (its index) and which of its alarms wants it."""

    capacity: int
    policy: int
    alarm: str


def alarm(tracking: Tracking) -> str | None:
    """Which of the policy's alarms is in state ALARM: HIGH, LOW or None."""
    high = _last(tracking.minutes, MINUTES_HIGH)
    if high and all(value > tracking.target for value in high):
        return HIGH
    low = _last(tracking.minutes, MINUTES_LOW)
    if low and all(value < LOW_SHARE * tracking.target for value in low):
        return LOW
    return None


def wanted_capacity(tracking: Tracking, capacity: int, past: Past) -> int | None:
    """The capacity that one policy asks for, bounds apart; None when it asks for no change.

    During the cooldown after scaling out, the capacity that was added counts as part of what is asked for next: the
    proportion is taken from the capacity before, whose metric it still is, and only more than there is now is set.
    """
    state = alarm(tracking)
    if state == HIGH:
        base = capacity
        if past.since_out is not None and past.since_out < tracking.scale_out_cooldown:
            base = past.before_out or capacity
        value = _last(tracking.minutes, 1)[-1]
        wanted = _proportional(base, value, tracking.target)
        return wanted if wanted > capacity else None
    if state == LOW and tracking.scale_in:
        if past.since_in is not None and past.since_in < tracking.scale_in_cooldown:
            return None
        wanted = _proportional(capacity, max(_last(tracking.minutes, MINUTES_LOW)), tracking.target)
        return wanted if wanted < capacity else None
    return None


def decide(trackings: Sequence[Tracking], capacity: int, low: int, high: int, past: Past) -> Change | None:
    """What to change for a scalable target.

    Args:
        trackings: its policies, whose scaling is not suspended.
        capacity: as it is now.
        low, high: MinCapacity and MaxCapacity.

    Returns:
        None when there is nothing to change.
    """
    wanted = {index: wanted_capacity(tracking, capacity, past) for index, tracking in enumerate(trackings)}
    # Both bounds for both directions: an operator can set a capacity outside of them.
    bounded = {index: max(low, min(high, value)) for index, value in wanted.items() if value is not None}
    out = {index: value for index, value in bounded.items() if alarm(trackings[index]) == HIGH}
    into = {index: value for index, value in bounded.items() if index not in out}
    if out:
        policy = max(out, key=lambda index: out[index])
        return Change(out[policy], policy, HIGH) if out[policy] > capacity else None
    if into and len(into) == sum(tracking.scale_in for tracking in trackings):
        policy = max(into, key=lambda index: into[index])
        return Change(into[policy], policy, LOW) if into[policy] < capacity else None
    return None


def _proportional(capacity: int, value: float, target: float) -> int:
    # Not to be one too many when the division ends a hair above a whole number.
    return math.ceil(capacity * value / target - 1e-9)


def _last(minutes: Sequence[float | None], count: int) -> list[float]:
    """The last values, when there are enough of them not too long ago; else nothing."""
    recent = [value for value in minutes[-(count + SPARE_MINUTES) :] if value is not None]
    return recent[-count:] if len(recent) >= count else []
