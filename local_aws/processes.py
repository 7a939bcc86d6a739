"""What runs here for others, by name, to be killed on demand."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple


class Process(NamedTuple):
    """One process.

    Args:
        kind: "function", "endpoint", "training-job", "processing-job", "transform-job", "build" or "data-plane".
        name: the function's, endpoint's or job's.
    """

    kind: str
    name: str
    pid: int


class Processes:
    """The switch "processes".

    Args:
        sources: each answers what runs now.
    """

    def __init__(self, *sources: Callable[[], list[Process]]) -> None:
        self._sources = sources

    def settings(self) -> dict[str, Any]:
        return {"processes": [each._asdict() for each in self._running()]}

    def configure(self, settings: dict[str, Any]) -> None:
        """{"kill": name} ends (SIGKILL) every process that runs for the function, endpoint or job of that name.

        Raises:
            ValueError: nothing runs for it, or it is not what is asked here.
        """
        name = settings.get("kill")
        if settings.keys() != {"kill"} or not isinstance(name, str):
            raise ValueError('processes: give {"kill": "<name of a function, endpoint or job>"}.')
        found = [each for each in self._running() if each.name == name]
        if not found:
            names = ", ".join(sorted({each.name for each in self._running()})) or "nothing"
            raise ValueError(f"processes: nothing runs for {name!r}; there runs {names}.")
        for each in found:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(each.pid, signal.SIGKILL)

    def _running(self) -> list[Process]:
        return [each for source in self._sources for each in source()]
