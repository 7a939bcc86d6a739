"""CodeBuild's builds, as BatchGetBuilds answers them: kept, changed phase by phase, told to EventBridge."""

from __future__ import annotations

import copy
import time
from typing import Any

from local_aws.builds import build_events
from local_aws.events import Events
from local_aws.store import Document, Scope, Store

IN_PROGRESS, SUCCEEDED, FAILED, FAULT = "IN_PROGRESS", "SUCCEEDED", "FAILED", "FAULT"
STOPPED, TIMED_OUT = "STOPPED", "TIMED_OUT"

Contexts = list[dict[str, str]]


class Records:
    """Safe to share between threads. What is answered is a copy.

    Args:
        store: what survives a restart.
        events: hear of every phase's end and every change of a state.
    """

    def __init__(self, store: Store, events: Events) -> None:
        self._store, self._events = store, events
        self._table = store.table("codebuild/builds")

    def all(self, scope: Scope) -> list[Document]:
        """Oldest first."""
        with self._store.lock:
            return copy.deepcopy(self._table.values(scope))

    def everywhere(self) -> list[tuple[Scope, Document]]:
        with self._store.lock:
            return [(scope, copy.deepcopy(build)) for scope, _, build in self._table.items()]

    def get(self, scope: Scope, build_id: str) -> Document | None:
        with self._store.lock:
            return copy.deepcopy(self._table.get(scope, build_id))

    def add(self, scope: Scope, build: Document) -> None:
        with self._store.lock:
            self._put(scope, build)
            self._tell(scope, build, build_events.STATE_CHANGE, build_events.state_change(build))

    def change(self, scope: Scope, build_id: str, **members: Any) -> None:
        """Change members of a build that is under way."""
        with self._store.lock:
            build = self._table.get(scope, build_id)
            if build is not None and not build["buildComplete"]:
                self._put(scope, build | members)

    def begin(self, scope: Scope, build_id: str, phase: str) -> None:
        """A phase begins; nothing happens when the build is over, because it was stopped."""
        with self._store.lock:
            build = self._table.get(scope, build_id)
            if build is None or build["buildComplete"]:
                return
            phases = [*build["phases"], {"phaseType": phase, "startTime": round(time.time(), 3)}]
            self._put(scope, build | {"currentPhase": phase, "phases": phases})

    def end(self, scope: Scope, build_id: str, status: str, contexts: Contexts | None = None) -> None:
        """The phase that is under way ends.

        Args:
            contexts: statusCode and message of what went wrong.
        """
        with self._store.lock:
            build = self._table.get(scope, build_id)
            if build is None or build["buildComplete"]:
                return
            build = build | {"phases": [*build["phases"][:-1], _ended(build["phases"][-1], status, contexts)]}
            self._put(scope, build)
            detail = build_events.phase_change(build, build["phases"][-1])
            self._tell(scope, build, build_events.PHASE_CHANGE, detail)

    def finish(self, scope: Scope, build_id: str, status: str, contexts: Contexts | None = None) -> None:
        """The build is over, and stays as it is then; a second ending changes nothing.

        Args:
            contexts: of the phase that was under way, which ends in the same way.
        """
        with self._store.lock:
            build = self._table.get(scope, build_id)
            if build is None or build["buildComplete"]:
                return
            now = round(time.time(), 3)
            phases = build["phases"]
            if phases and "endTime" not in phases[-1]:
                phases = [*phases[:-1], _ended(phases[-1], status, contexts)]
            phases = [*phases, {"phaseType": "COMPLETED", "startTime": now}]
            build = build | {
                "buildStatus": status,
                "buildComplete": True,
                "currentPhase": "COMPLETED",
                "endTime": now,
                "phases": phases,
            }
            self._put(scope, build)
            self._tell(scope, build, build_events.STATE_CHANGE, build_events.state_change(build))

    def delete(self, scope: Scope, build_id: str) -> None:
        with self._store.lock:
            self._table.delete(scope, build_id)

    def _put(self, scope: Scope, build: Document) -> None:
        self._table.put(scope, build["id"], build)

    def _tell(self, scope: Scope, build: Document, detail_type: str, detail: dict[str, Any]) -> None:
        self._events.emit(scope, detail_type, [build["arn"]], detail, build_events.SOURCE)


def _ended(phase: dict[str, Any], status: str, contexts: Contexts | None) -> dict[str, Any]:
    now = round(time.time(), 3)
    found = {"statusCode": "", "message": ""}
    return {
        **phase,
        "phaseStatus": status,
        "endTime": now,
        "durationInSeconds": int(now - phase["startTime"]),
        "contexts": contexts or [found],
    }
