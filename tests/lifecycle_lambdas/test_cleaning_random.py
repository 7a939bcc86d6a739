"""Cleaning up after random histories takes away nothing that is wanted later.

Two projects live the same life, step by step; one of them is cleaned up, the other one is not. What serves then, what
serves when that is rejected, and what an alarm would go back to, is the same in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import pytest

from lifecycle_lambdas import going_back
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE
from tests.lifecycle_lambdas.test_cleaning_faults import DAY, HOUR, FeaturePlatform, approve

pytestmark = pytest.mark.slow  # what may go is decided over random states in test_cleaning.py
LIVES, STEPS = 100, 14
POLICY = {**ALL_AT_ONCE, "clean": {"versions_after_days": 30}}
ANOTHER = {**POLICY, "instance_count": 2}


def live(dice: Random) -> FeaturePlatform:
    """A project's life until now: so many things that people do, hours or weeks apart."""
    platform = FeaturePlatform()
    platform.outage_allowed = True
    versions: list[str] = []
    with platform.installed():
        for _ in range(STEPS):
            what = dice.choice(["register", "register", "approve", "approve", "approve", "reject", "go-back", "park"])
            if what == "register" or not versions:
                versions.append(platform.register(dice.choice([POLICY, ANOTHER])))
                if dice.random() < 0.15:
                    platform.aws.broken.add(versions[-1])
            elif what == "approve":
                approve(platform, dice.choice(versions))
            elif what == "reject":
                platform.reject(dice.choice(versions))
            elif what == "park":
                until = platform.clock.now() + timedelta(days=dice.choice([1, 60]))
                platform.command("park", None, dice.choice([None, until]))
            elif approved := [one for one in versions if is_approved(platform, one)]:
                platform.command("go-back", dice.choice(approved))
            platform.run()
            platform.away(dice.choice([HOUR, DAY, 10 * DAY, 40 * DAY]))
    return platform


def is_approved(platform: FeaturePlatform, version: str) -> bool:
    return approval(platform, version) == "Approved"


def approval(platform: FeaturePlatform, version: str) -> str | None:
    package = platform.aws.packages.get(version)
    return None if package is None else str(package["ModelApprovalStatus"])


def way_back(platform: FeaturePlatform) -> str | None:
    """What an alarm would go back to now."""
    serving = next((one for one in platform.deployments if one.number == platform.serving_number), None)
    if serving is None:
        return None
    found = going_back.way_back(serving, platform.deployments, lambda arn: approval(platform, arn))
    return None if found is None else found.package_arn


@contextmanager
def going_on(platform: FeaturePlatform) -> Iterator[None]:
    with platform.installed():
        yield
        platform.pass_time(1300)
        platform.run()


def clean_up_or_wait(platform: FeaturePlatform, cleaned: bool) -> None:
    """What people were told of goes a day later; the endpoint is looked at in between."""
    for pause in (25 * HOUR, 25 * HOUR):
        with going_on(platform):
            if cleaned:
                platform.clean()
        platform.away(pause)


def reject_what_serves(platform: FeaturePlatform) -> None:
    with going_on(platform):
        if platform.serves is not None:
            platform.reject(platform.serves)


def wait_for_the_end_of_parks(platform: FeaturePlatform) -> None:
    with going_on(platform):
        platform.away(61 * DAY)


def test_whatever_happened_before_cleaning_up_changes_nothing_that_comes_later() -> None:
    came_to: Counter[str] = Counter()
    for seed in range(LIVES):
        cleaned, untouched = live(Random(seed)), live(Random(seed))
        assert [one.key for one in cleaned.entries] == [one.key for one in untouched.entries]
        clean_up_or_wait(cleaned, cleaned=True)
        clean_up_or_wait(untouched, cleaned=False)

        gone = untouched.aws.packages.keys() - cleaned.aws.packages.keys()
        what = f"life {seed}: {sorted(gone)} went; {untouched.entries}"
        assert cleaned.faults == cleaned.dead_letters == [], what
        assert (cleaned.serves, way_back(cleaned)) == (untouched.serves, way_back(untouched)), what
        # what stays has its evaluation, what went has none
        numbers = {key.split("/")[3] for key in cleaned.evaluations()}
        assert numbers == {arn.rpartition("/")[2] for arn in cleaned.aws.packages}, what
        came_to["gone"] += len(gone)
        came_to["serves"] += cleaned.serves is not None
        came_to["way back"] += way_back(cleaned) is not None

        later = wait_for_the_end_of_parks if cleaned.serves is None else reject_what_serves
        for platform in (cleaned, untouched):
            later(platform)
        assert cleaned.serves == untouched.serves, what
        came_to["later"] += cleaned.serves is not None
    assert min(came_to[name] for name in ("gone", "serves", "way back", "later")) >= LIVES / 10, came_to
