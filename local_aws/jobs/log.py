"""What a job prints, line by line, to CloudWatch Logs, in batches; its last lines and its metrics on the way."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

FLUSH_INTERVAL = 0.2  # seconds
# PutLogEvents: 256 KB an event (26 bytes of it overhead), 1 MB and 10,000 events a call.
LARGEST_MESSAGE = 256 * 1024 - 26
LARGEST_BATCH = 1_048_576
MOST_EVENTS = 10_000
OVERHEAD = 26
MOST_WAITING = 4 * MOST_EVENTS  # a program that prints faster than its lines are taken waits, as with a full pipe
TAIL_LINES = 20

logger = logging.getLogger(__name__)


@dataclass
class Metrics:
    """The values that metric definitions' regular expressions find: of each the last one stays."""

    patterns: dict[str, re.Pattern[str]] = field(default_factory=dict)
    last: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self, line: str, at: float) -> None:
        for name, pattern in self.patterns.items():
            match = pattern.search(line)
            if match is None:
                continue
            try:
                value = float(match[1] if pattern.groups else match[0])
            except (TypeError, ValueError):
                continue  # a group that took no part, or no number: not a value of this metric
            self.last[name] = {"MetricName": name, "Value": value, "Timestamp": at}


class JobLog:
    """One job's log stream.

    Args:
        client: of CloudWatch Logs.
        group, stream: their names; both are made when the first line comes.
        metrics: is shown every line.
        as_agent: makes every call that AWS's log agent makes, where IAM may refuse any of them.
    """

    def __init__(
        self, client: Any, group: str, stream: str, metrics: Metrics | None = None, *, as_agent: bool = False
    ) -> None:
        self._client, self._group, self._stream = client, group, stream
        self._metrics, self._as_agent = metrics or Metrics(), as_agent
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._events: list[tuple[int, str]] = []
        self._rest = b""
        self._closed = threading.Event()
        self._flusher: threading.Thread | None = None
        self._made = False
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def make(self) -> None:
        """Make the stream before the first line comes.

        Raises:
            ClientError: it cannot be made, such as by a role that may not.
        """
        with self._sending:
            self._make_stream()

    def write(self, data: bytes) -> None:
        """Take what the program printed; a line goes out when it is complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LARGEST_MESSAGE:
            lines.append(self._rest[:LARGEST_MESSAGE])
            self._rest = self._rest[LARGEST_MESSAGE:]
        if lines:
            self._add([line.decode("utf-8", "replace") for line in lines])

    def line(self, text: str) -> None:
        """Add a line of local_aws's own."""
        self._add([text])

    def close(self, deliver: bool = True) -> None:
        """Send what is left; when this returns, every line is there.

        Args:
            deliver: False when the server is going down and answers nobody any more.
        """
        if self._rest:
            rest, self._rest = self._rest, b""
            self._add([rest.decode("utf-8", "replace")])
        self._closed.set()
        if self._flusher is not None:
            self._flusher.join()
        if deliver:
            self._flush()

    def _add(self, lines: list[str]) -> None:
        now = time.time()
        with self._lock:
            for line in lines:
                text = line.rstrip("\r")
                if not text.strip():
                    continue  # CloudWatch Logs refuses empty messages
                self._metrics.read(text, round(now, 3))
                self.tail.append(text)
                self._events += [(int(now * 1000), piece) for piece in _pieces(text)]
            if self._flusher is None and self._events and not self._closed.is_set():
                self._flusher = threading.Thread(target=self._flush_regularly, name="job-log", daemon=True)
                self._flusher.start()
            too_many = len(self._events) > MOST_WAITING
        if too_many:
            self._flush()

    def _flush_regularly(self) -> None:
        while not self._closed.is_set():
            self._flush()
            self._closed.wait(FLUSH_INTERVAL)

    def _flush(self) -> None:
        with self._sending:  # one at a time, so that the lines keep their order
            with self._lock:
                events, self._events = self._events, []
            self._send(events)

    def _send(self, events: list[tuple[int, str]]) -> None:
        try:
            for batch in _batches(events):
                if not self._made:
                    self._make_stream()
                self._client.put_log_events(
                    logGroupName=self._group,
                    logStreamName=self._stream,
                    logEvents=[{"timestamp": at, "message": message} for at, message in batch],
                )
        except (ClientError, BotoCoreError) as error:
            # As on AWS, where a role without logs:PutLogEvents loses the log and not the job.
            logger.warning("The log of %s lost %d lines: %s", self._stream, len(events), error)

    def _make_stream(self) -> None:
        names = {"logGroupName": self._group, "logStreamName": self._stream}
        if self._as_agent:
            with contextlib.suppress(self._client.exceptions.ResourceAlreadyExistsException):
                self._client.create_log_group(logGroupName=self._group)
            self._client.describe_log_streams(logGroupName=self._group, logStreamNamePrefix=self._stream, limit=1)
        try:
            self._client.create_log_stream(**names)
        except self._client.exceptions.ResourceNotFoundException:
            # Another job may make it in between.
            with contextlib.suppress(self._client.exceptions.ResourceAlreadyExistsException):
                self._client.create_log_group(logGroupName=self._group)
            self._client.create_log_stream(**names)
        self._made = True


def _pieces(text: str) -> list[str]:
    """A long line as messages of the size that PutLogEvents takes."""
    if len(text) * 4 <= LARGEST_MESSAGE:
        return [text]
    data = text.encode()
    return [data[i : i + LARGEST_MESSAGE].decode("utf-8", "ignore") for i in range(0, len(data), LARGEST_MESSAGE)]


def _batches(events: list[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    batches: list[list[tuple[int, str]]] = []
    size = 0
    for at, message in events:
        weight = len(message.encode()) + OVERHEAD
        if not batches or size + weight > LARGEST_BATCH or len(batches[-1]) == MOST_EVENTS:
            batches.append([])
            size = 0
        batches[-1].append((at, message))
        size += weight
    return batches
