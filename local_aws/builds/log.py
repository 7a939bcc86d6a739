"""What a build prints: in a file that can be followed, and for CodeBuild in CloudWatch Logs as well."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from local_aws.jobs.log import JobLog

SHORTEST_SECRET = 3  # characters; hiding shorter ones would hide half of the log
HIDDEN = "***"


class BuildLog:
    """Args:
    file: is made, with its folder.
    stream: where every line goes as well.
    secrets: texts that are not shown.
    """

    def __init__(self, file: Path, stream: JobLog | None = None, secrets: Collection[str] = ()) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._stream, self._lock, self._rest = stream, threading.Lock(), b""
        self._secrets: list[bytes] = []
        for each in secrets:
            self.hide(each)
        self._opened = file.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Take what a program printed; a line is shown when it is complete, for a secret may be cut in two."""
        with self._lock:
            lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
            self._show(lines + newline)

    def line(self, text: str) -> None:
        """Add a line of the service's own."""
        with self._lock:
            ended = self._rest + b"\n" if self._rest else b""
            self._rest = b""
            self._show(ended + text.encode("utf-8", "replace") + b"\n")

    def hide(self, secret: str) -> None:
        """Show a text no more, nor any of its lines."""
        lines = [each.encode("utf-8", "replace") for each in (secret, *secret.splitlines())]
        new = {each.strip() for each in lines if len(each.strip()) >= SHORTEST_SECRET}
        self._secrets = sorted({*self._secrets, *new}, key=len, reverse=True)

    def complete(self) -> None:
        """A program has ended: what it has printed last is a line."""
        with self._lock:
            if self._rest:
                rest, self._rest = self._rest, b""
                self._show(rest + b"\n")

    def close(self, deliver: bool = True) -> None:
        """Show what is left.

        Args:
            deliver: False when the server is going down and CloudWatch Logs answers nobody any more.
        """
        with self._lock:
            self._show(self._rest)
            self._rest = b""
            self._opened.close()
        if self._stream is not None:
            self._stream.close(deliver)

    def shaped(self, line: bytes) -> bytes:
        """What is shown of a line, which has its newline; for those to change whose logs have a form of their own."""
        return line

    def _show(self, data: bytes) -> None:
        data = b"".join(self.shaped(line) for line in re.findall(rb"[^\n]*\n|[^\n]+", data))
        for secret in self._secrets:
            data = data.replace(secret, HIDDEN.encode())
        if data:
            self._opened.write(data)
            if self._stream is not None:
                self._stream.write(data)


def container_line(text: str) -> str:
    """A line as CodeBuild's own are: "[Container] 2026/11/21 17:40:00.123456 Entering phase BUILD"."""
    return f"[Container] {datetime.now(UTC).strftime('%Y/%m/%d %H:%M:%S.%f')} {text}"
