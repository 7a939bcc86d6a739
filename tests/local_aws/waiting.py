"""Waiting for what happens beside the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0  # seconds until a test gives up


def wait_for(
    condition: Callable[[], Any],
    seconds: float = PATIENCE,
    otherwise: Callable[[], str] = lambda: "it never was so",
) -> Any:
    """What the condition answers once it is something.

    Args:
        seconds: until the test gives up.
        otherwise: what it says then.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.005)
    return answer
