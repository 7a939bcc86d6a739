"""Times as SageMaker tells them."""

from __future__ import annotations

import time
from typing import Any


def now() -> float:
    """Seconds since 1970, to the millisecond as on AWS."""
    return round(time.time(), 3)


def in_milliseconds(description: Any, member: str = "") -> Any:
    """A description as events have it, whose times are milliseconds.

    Args:
        member: the description's name in the one that it is part of.
    """
    if isinstance(description, dict):
        return {name: in_milliseconds(each, name) for name, each in description.items()}
    if isinstance(description, list):
        return [in_milliseconds(each) for each in description]
    return round(description * 1000) if member.endswith("Time") and isinstance(description, float) else description
