"""A job's log as GitHub shows it: each line with its time, and the workflow commands in it obeyed.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from local_aws.builds.log import BuildLog

COMMAND = re.compile(rb"::([A-Za-z-]+)(?: [^:]*)?::(.*)", re.DOTALL)
SHOWN = (b"group", b"endgroup", b"error", b"warning", b"notice")


class WorkflowLog(BuildLog):
    """A text that a program prints after "::add-mask::" is shown no more; "::group::" and its like are GitHub's marks.

    Between "::stop-commands::<token>" and "::<token>::" nothing that is printed is a command.
    """

    _stopped_until: bytes | None = None

    def shaped(self, line: bytes) -> bytes:
        """See BuildLog."""
        shown = self._obeyed(line)
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z ").encode() + shown if shown else b""

    def _obeyed(self, line: bytes) -> bytes:
        if self._stopped_until is not None:
            if line.strip() == self._stopped_until:
                self._stopped_until = None
                return b""
            return line
        match = COMMAND.fullmatch(line)
        name, value = (match[1].lower(), match[2].strip()) if match else (b"", b"")
        if name == b"stop-commands":
            self._stopped_until = b"::" + value + b"::"
            return b""
        if name == b"add-mask":
            self.hide(value.decode(errors="replace"))
            return b""
        if name == b"debug":
            return b""
        return b"##[%s]%s\n" % (name, value) if name in SHOWN else line
