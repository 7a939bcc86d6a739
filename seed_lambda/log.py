"""Structured log lines, one JSON object each, from which secrets are taken out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

REPLACEMENT = "***"


class Log:
    """The lines of one request.

    Args:
        ids: what every line carries.
        write: takes a line; standard error by default, which Lambda sends to CloudWatch Logs.
    """

    def __init__(self, ids: dict[str, str], write: Callable[[str], Any] | None = None) -> None:
        self._ids = ids
        self._write = write
        self._secrets: set[str] = set()

    def conceal(self, secret: str) -> None:
        """Never show this text again, neither in a line nor in what `clean` answers."""
        if secret:
            self._secrets |= {secret, json.dumps(secret)[1:-1]}  # the second as it stands in a line

    def clean(self, text: str) -> str:
        """The text without any secret, also where an error of somebody else's carried one."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, REPLACEMENT)
        return text

    def __call__(self, message: str, level: str = "INFO", **fields: Any) -> None:
        """One line. What is not JSON is written as text; None is left out."""
        line: dict[str, Any] = {"level": level, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        line |= {"message": message} | {name: value for name, value in fields.items() if value is not None} | self._ids
        text = self.clean(json.dumps(line, default=str)) + "\n"
        if self._write is not None:
            self._write(text)
            return
        sys.stderr.write(text)
        sys.stderr.flush()
