"""Waiting for what happens beside the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0  # seconds until a test gives up
STACK_PAUSE = 0.03  # seconds: to ask for a stack more often would slow down what makes it


def wait_for(
    condition: Callable[[], Any],
    seconds: float = PATIENCE,
    otherwise: Callable[[], str] = lambda: "it never was so",
    pause: float = 0.005,
) -> Any:
    """What the condition answers once it is something.

    Args:
        seconds: until the test gives up.
        otherwise: what it says then.
        pause: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(pause)
    return answer


def settled(cloudformation: Any, stack: str) -> dict[str, Any]:
    """DescribeStacks' answer about a stack once nothing of it is under way.

    Args:
        stack: name or ARN; a deleted stack is known by its ARN alone.
    """

    def now() -> dict[str, Any]:
        return dict(cloudformation.describe_stacks(StackName=stack)["Stacks"][0])

    wait_for(
        lambda: not now()["StackStatus"].endswith("_IN_PROGRESS"),
        otherwise=lambda: f"{stack} is still {now()['StackStatus']}",
        pause=STACK_PAUSE,
    )
    return now()
