"""A recorder of AWS calls with their answers, for tests that are driven by what really was asked and answered.

What is kept: at most MOST_CALLS calls and MOST_BYTES of them as JSON, the oldest going first; a file gets all of them.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_aws.api_calls import Answer, HttpRequest, WatchedCall

MOST_CALLS = 20_000
MOST_BYTES = 64 * 2**20

logger = logging.getLogger(__name__)


class Recorder:
    """Off until the switch turns it on. On the server's event loop only."""

    def __init__(self, most_calls: int = MOST_CALLS, most_bytes: int = MOST_BYTES) -> None:
        self._most_calls, self._most_bytes = most_calls, most_bytes
        self._on = False
        self._file: Path | None = None
        self._lines: deque[str] = deque()
        self._size = self._dropped = 0

    @property
    def active(self) -> bool:
        return self._on

    def keep(
        self,
        call: WatchedCall,
        request: HttpRequest,
        caller: str,
        fault: dict[str, Any] | None,
        answer: Answer | None,
    ) -> None:
        """Keep one call.

        Args:
            caller: ARN of who called; empty when it is nobody that AWS knows.
            fault: the rule (local_aws.faults) that it was hit by.
            answer: status, headers and body, or None when the connection was closed without one.
        """
        record: dict[str, Any] = {
            "service": call.service,
            "operation": call.operation_name,
            "caller": caller,
            "region": call.region,
            "request": _parsed(call, "request", lambda: call.parsed_request(request)),
            "status": None,
            "answer": None,
        }
        if answer is not None:
            status, headers, body = answer
            record["status"] = status
            record["answer"] = _parsed(call, "answer", lambda: call.parsed_answer(status, headers, body))
        if fault is not None:
            record["fault"] = fault
        self._add(json.dumps(record))

    def _add(self, line: str) -> None:
        if self._file is not None:
            with self._file.open("a") as stream:
                stream.write(line + "\n")
        self._lines.append(line)
        self._size += len(line)
        while len(self._lines) > self._most_calls or self._size > self._most_bytes:
            self._size -= len(self._lines.popleft())
            self._dropped += 1

    def settings(self) -> dict[str, Any]:
        """For the switch: {"on", "file", "dropped", "calls"}, the oldest call first.

        A call is {"service", "operation", "caller", "region", "request", "status", "answer"}, and "fault" when a rule
        hit it; "status" and "answer" are null when the connection was closed without an answer.
        """
        calls = [json.loads(line) for line in self._lines]
        return {
            "on": self._on,
            "file": str(self._file) if self._file else None,
            "dropped": self._dropped,
            "calls": calls,
        }

    def configure(self, settings: dict[str, Any]) -> None:
        """{"on": true} begins anew, with nothing kept; with "file": a path, each call is also appended there as a line
        of JSON. {"on": false} ends it; what was kept can still be read.

        Raises:
            ValueError: what is wrong.
        """
        on, file = settings.get("on"), settings.get("file")
        if not isinstance(on, bool) or settings.keys() - {"on", "file"}:
            raise ValueError(
                'recorder: the settings are {"on": true}, with "file": an absolute path, or {"on": false}.'
            )
        if not on:
            if file is not None:
                raise ValueError('recorder: "file" means nothing to {"on": false}.')
            self._on, self._file = False, None
            return
        path = _writable(file) if file is not None else None
        self._on, self._file = True, path
        self._lines.clear()
        self._size = self._dropped = 0


def _writable(file: Any) -> Path:
    if not isinstance(file, str) or not Path(file).is_absolute():
        raise ValueError(f"recorder: file {file!r} is no absolute path.")
    try:
        Path(file).touch(0o600)  # for nobody else's eyes, when it is new
        with Path(file).open("a"):
            return Path(file)
    except OSError as error:
        raise ValueError(f"recorder: file {file} cannot be written: {error.strerror}.") from error


def _parsed(call: WatchedCall, what: str, parse: Callable[[], Any]) -> Any:
    """What was parsed; None of what does not follow the service's model: a malformed request has its answer all the
    same, and the recorder must not be what fails."""
    try:
        return parse()
    except Exception as error:  # noqa: BLE001
        logger.warning("The %s of a call of %s is recorded as null: it cannot be parsed: %s", what, call.name, error)
        return None
