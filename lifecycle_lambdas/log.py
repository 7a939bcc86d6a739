"""Structured log lines: one JSON object each, as CloudWatch Logs Insights finds its fields."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

_hidden: set[str] = set()


def hide_info() -> None:
    """Warnings and errors alone from now on: on the command line, which says itself what it does."""
    _hidden.add("INFO")


def log(message: str, level: str = "INFO", **fields: Any) -> None:
    """One line on standard error, since standard output is the command line's.

    What is not JSON is written as text; None is left out.
    """
    if level in _hidden:
        return
    line = {"level": level, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "message": message}
    line |= {name: value for name, value in fields.items() if value is not None}
    sys.stderr.write(json.dumps(line, default=str) + "\n")
    sys.stderr.flush()
