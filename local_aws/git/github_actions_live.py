"""Runs of workflows and their jobs while they are not over, and whom they wait for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from local_aws.builds.runner import Programs
from local_aws.git.github_actions_events import Event
from local_aws.git.github_actions_workflows import Job, Workflow
from local_aws.git.github_state import Repository
from local_aws.store import Document


class Conductor(Protocol):
    """Who lets runs and jobs go on, and stops them."""

    def advance(self, run: LiveRun) -> None: ...

    def cancel_live(self, run: LiveRun) -> None: ...

    def submit(self, live: LiveJob) -> None: ...

    def cancel_job(self, live: LiveJob) -> None: ...


@dataclass(eq=False)
class LiveJob:
    """A job that is not over. What it holds of its concurrency group is given back at its end."""

    run: LiveRun
    job: Job
    number: int  # its id
    document: Document
    programs: Programs | None = None
    group: tuple[int, str] | None = None
    conclusion: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    waits: bool = True  # for the jobs before it

    def cancel(self) -> None:
        self.run.actions.cancel_job(self)

    def resume(self) -> None:
        self.run.actions.submit(self)


@dataclass(eq=False)
class LiveRun:
    """A run that is not over.

    Args:
        contexts: github, vars, secrets, inputs.
    """

    actions: Conductor
    id: int
    repository: Repository
    workflow: Workflow
    event: Event
    contexts: dict[str, Any]
    jobs: dict[str, LiveJob] = field(default_factory=dict)
    group: tuple[int, str] | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        self.actions.cancel_live(self)

    def resume(self) -> None:
        self.actions.advance(self)


class Groups:
    """Concurrency groups: of each one holder runs and one waits; a third takes the place of the one that waits.

    https://docs.github.com/en/actions/how-tos/write-workflows/choose-when-workflows-run/control-workflow-concurrency
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[int, str], LiveRun | LiveJob] = {}
        self._waits: dict[tuple[int, str], LiveRun | LiveJob] = {}

    def enter(self, key: tuple[int, str], holder: LiveRun | LiveJob, cancels: bool) -> bool:
        """Whether the holder may run now; else its `resume` is called when it may.

        Args:
            cancels: whether who runs is cancelled.
        """
        if key not in self._runs:
            self._runs[key] = holder
            return True
        before = self._waits.pop(key, None)
        self._waits[key] = holder
        if before is not None:
            before.cancel()
        if cancels:
            self._runs[key].cancel()
        return self._runs.get(key) is holder

    def leave(self, key: tuple[int, str], holder: LiveRun | LiveJob) -> None:
        if self._waits.get(key) is holder:
            del self._waits[key]
        if self._runs.get(key) is holder:
            del self._runs[key]
            if (following := self._waits.pop(key, None)) is not None:
                self._runs[key] = following
                following.resume()
