"""How many builds run at once, and one build's programs."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_aws.jobs.process import Ending, JobProcess
from local_aws.processes import Process

AT_ONCE = 2  # the others wait; AWS's quota of an account is larger, a machine is smaller
STOPPED, OUT_OF_TIME, SERVER = "stop", "time", "server"  # why a build ended before its end, as Ending.ended_by

logger = logging.getLogger(__name__)


class Programs:
    """The programs of one build, which run one after another; other threads may stop them.

    Args:
        name: of the project or repository, by which the switch "processes" finds it.
        seconds: how long they may run together, counted from `begin`.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.ended_by: str | None = None  # STOPPED, OUT_OF_TIME or SERVER: nothing runs any more
        self._seconds, self._deadline = seconds, 0.0
        self._lock = threading.Lock()
        self._process: JobProcess | None = None

    def begin(self) -> None:
        """The time that the programs may take begins."""
        self._deadline = time.monotonic() + self._seconds

    def run(
        self,
        argv: list[str],
        environment: dict[str, str],
        folder: Path,
        on_output: Callable[[bytes], None],
        seconds: float = float("inf"),
    ) -> Ending:
        """Run one program to its end.

        Args:
            seconds: the longest that this one may take; without it only the build's own limit counts.
        """
        with self._lock:
            if self.ended_by is not None:
                return Ending(ended_by=self.ended_by)
            left = self._deadline - time.monotonic()
            process = self._process = JobProcess()
        try:
            ending = process.run(argv, environment, folder, None, max(0.0, min(left, seconds)), on_output)
        finally:
            with self._lock:
                self._process = None
        if ending.ended_by == OUT_OF_TIME and left <= seconds:
            self.ended_by = self.ended_by or OUT_OF_TIME
        return ending

    def stop(self) -> None:
        """End what runs (SIGTERM, then SIGKILL); nothing more is begun."""
        with self._lock:
            self.ended_by = self.ended_by or STOPPED
            if self._process is not None:
                self._process.stop()

    def kill(self) -> None:
        """End what runs at once: the server is going down."""
        with self._lock:
            self.ended_by = SERVER
            if self._process is not None:
                self._process.kill()

    @property
    def pid(self) -> int | None:
        """The process of the program that runs."""
        with self._lock:
            return self._process.pid if self._process else None


class Runner:
    """Runs builds in threads, in the order in which they came. The switch "builds".

    Args:
        runs: whether builds are run at all, or only recorded.
    """

    def __init__(self, runs: bool) -> None:
        self.runs, self._at_once = runs, AT_ONCE
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Programs, Callable[[], None]]] = deque()
        self._running: dict[Programs, threading.Thread] = {}
        self._killed = False
        self._sources: list[Callable[[], list[dict[str, Any]]]] = []

    def submit(self, programs: Programs, work: Callable[[], None]) -> None:
        """Let `work`, which runs the programs, be called in a thread when it is its turn; returns at once."""
        with self._lock:
            self._waiting.append((programs, work))
            self._start_next()

    def stop(self, programs: Programs) -> None:
        """Stop a build; one that waits is begun at once, and finds that nothing may run any more."""
        programs.stop()
        with self._lock:
            for entry in self._waiting:
                if entry[0] is programs:
                    self._waiting.remove(entry)
                    self._start(*entry)
                    return

    def show(self, builds: Callable[[], list[dict[str, Any]]]) -> None:
        """Add what answers which builds there are, for `settings`."""
        self._sources.append(builds)

    def settings(self) -> dict[str, Any]:
        found = sorted((build for source in self._sources for build in source()), key=lambda build: build["begun"])
        return {"run": self.runs, "at_once": self._at_once, "builds": found}

    def configure(self, settings: dict[str, Any]) -> None:
        """{"run": true | false} whether builds are run; {"at_once": 2} how many at the same time.

        Raises:
            ValueError: another setting or value.
        """
        if not settings or settings.keys() - {"run", "at_once"}:
            raise ValueError('builds: give {"run": true} or false, {"at_once": <number>}, or both.')
        runs, at_once = settings.get("run", self.runs), settings.get("at_once", self._at_once)
        if runs not in (True, False):
            raise ValueError(f"builds: run is {runs!r}; give true or false.")
        if type(at_once) is not int or at_once < 1:
            raise ValueError(f"builds: at_once is {at_once!r}; give how many builds run at the same time, 1 or more.")
        with self._lock:
            self.runs, self._at_once = runs, at_once
            self._start_next()

    @property
    def busy(self) -> bool:
        """Whether any build runs or waits."""
        return bool(self._running or self._waiting)

    def processes(self) -> list[Process]:
        with self._lock:
            running = list(self._running)
        return [Process("build", each.name, pid) for each in running if (pid := each.pid) is not None]

    def kill(self) -> None:
        """Begin no more, and end what runs: the server is going down."""
        with self._lock:
            self._killed = True
            self._waiting.clear()
            running = list(self._running)
        for programs in running:
            programs.kill()

    def join(self) -> None:
        """Wait for the threads."""
        with self._lock:
            threads = list(self._running.values())
        for thread in threads:
            thread.join()

    def _start_next(self) -> None:
        """With the lock held."""
        while self._waiting and len(self._running) < self._at_once and not self._killed:
            self._start(*self._waiting.popleft())

    def _start(self, programs: Programs, work: Callable[[], None]) -> None:
        """With the lock held."""
        thread = threading.Thread(target=self._run, args=(programs, work), name=f"build-{programs.name}", daemon=True)
        self._running[programs] = thread
        thread.start()

    def _run(self, programs: Programs, work: Callable[[], None]) -> None:
        programs.begin()
        try:
            work()
        except Exception:
            logger.exception("A build of %s failed here", programs.name)
        finally:
            with self._lock, contextlib.suppress(KeyError):
                del self._running[programs]
                self._start_next()
