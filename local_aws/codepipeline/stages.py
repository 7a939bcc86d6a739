"""Which execution enters a stage and which is superseded, and what an execution does next within its stage.

A stage has one execution at a time, and one waits before it; a newer one takes the place of one that waits. What is
within a stage is never superseded, a stage with an open approval included: it is left when somebody decides, or time
does. https://docs.aws.amazon.com/codepipeline/latest/userguide/concepts-how-it-works.html
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

IN_PROGRESS, SUCCEEDED, FAILED, ABANDONED = "InProgress", "Succeeded", "Failed", "Abandoned"
STOPPED, STOPPING, SUPERSEDED, CANCELLED = "Stopped", "Stopping", "Superseded", "Cancelled"
LIVE = (IN_PROGRESS, STOPPING)


@dataclass(frozen=True)
class Place:
    """Where a live execution is.

    Args:
        number: executions are numbered in the order in which they began.
        stage: the number of the stage that it is in or waits for.
        inside: whether it is in.
    """

    execution: str
    number: int
    stage: int
    inside: bool


@dataclass(frozen=True)
class Move:
    execution: str
    kind: Literal["enter", "superseded"]


def moves(places: Iterable[Place]) -> list[Move]:
    """What becomes of those that wait for their stages."""
    found: list[Move] = []
    by_stage = sorted(places, key=lambda place: (place.stage, place.number))
    for _, group in itertools.groupby(by_stage, key=lambda place: place.stage):
        here = list(group)
        waiting = [place.execution for place in here if not place.inside]
        found += [Move(execution, "superseded") for execution in waiting[:-1]]
        if waiting and not any(place.inside for place in here):
            found.append(Move(waiting[-1], "enter"))
    return found


@dataclass(frozen=True)
class Step:
    """What an execution does next in its stage.

    Args:
        start: names of the actions that are to begin.
        end: how the stage ends; None: not yet.
    """

    start: tuple[str, ...] = ()
    end: str | None = None


def step(stage: Mapping[str, Any], statuses: Mapping[str, str], stopping: bool) -> Step:
    """
    Args:
        stage: its declaration.
        statuses: of the actions that have begun, by name.
        stopping: whether somebody has asked to stop the execution: what is under way ends, nothing more begins.
    """
    if IN_PROGRESS in statuses.values():
        return Step()
    failed = any(statuses.get(action["name"]) in (FAILED, ABANDONED) for action in stage["actions"])
    if stopping:
        return Step(end=STOPPED)
    if failed:
        return Step(end=FAILED)
    in_order = sorted(stage["actions"], key=lambda action: action["runOrder"])
    for _, group in itertools.groupby(in_order, key=lambda action: action["runOrder"]):
        due = tuple(action["name"] for action in group if action["name"] not in statuses)
        if due:
            return Step(start=due)
    return Step(end=SUCCEEDED)
