"""The thread that moves executions: into stages, through their actions, to their end.

It sleeps while nothing is under way. While an action is, it looks at it every POLL_SECONDS. Everything that is decided
is written down under the store's lock; what actions do happens outside of it, for they call the server itself.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import Any

from local_aws.codepipeline.actions import Actions, Outcome, Unreachable, Work
from local_aws.codepipeline.records import Records
from local_aws.codepipeline.stages import (
    ABANDONED,
    CANCELLED,
    FAILED,
    IN_PROGRESS,
    STOPPED,
    STOPPING,
    SUCCEEDED,
    SUPERSEDED,
    Place,
    moves,
    step,
)
from local_aws.codepipeline.structure import APPROVAL, Declaration, action_type
from local_aws.sagemaker.times import now
from local_aws.store import Document, Scope

POLL_SECONDS = 0.25

logger = logging.getLogger(__name__)


class Engine:
    def __init__(self, records: Records, actions: Actions) -> None:
        self._records, self._actions = records, actions
        self._changed = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """When the server answers: what a server before this one has left is gone on with."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="codepipeline")
        self._thread.start()
        self.notify()

    def kill(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._changed.set()

    def stop(self) -> None:
        """The same, and wait for the thread."""
        self.kill()
        if self._thread is not None:
            self._thread.join()

    def notify(self) -> None:
        """Something has changed."""
        self._changed.set()

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            self._changed.clear()
            try:
                under_way = self._pass()
            except Unreachable:
                under_way = True
            except Exception:
                logger.exception("CodePipeline's engine failed")
                under_way = True
            self._changed.wait(POLL_SECONDS if under_way else None)

    def _pass(self) -> bool:
        """Move everything as far as it goes; whether actions are under way."""
        under_way = False
        with self._records.lock:
            self._advance()
            works = self._works()
        for work in works:
            if self._stopping:
                return False
            outcome = self._outcome(work)
            if outcome is None:
                continue
            with self._records.lock:
                self._record(work, outcome)
            if outcome.status == IN_PROGRESS:
                under_way = True
            else:
                self._changed.set()  # others may go on now
        return under_way

    def _works(self) -> list[Work]:
        """The actions that are to be set going or looked at; the lock is held."""
        found = []
        for scope, execution in self._records.live():
            if execution["inside"]:
                pipeline = self._declaration(scope, execution)
                stage = pipeline["stages"][execution["stage"]]["name"]
                found += [
                    Work(scope, pipeline, dict(execution), dict(action))
                    for action in self._records.actions_of(scope, execution, stage).values()
                    if action["status"] == IN_PROGRESS
                ]
        return found

    def _outcome(self, work: Work) -> Outcome | None:
        """What became of an action; None when the server ends."""
        try:
            return self._actions.look(work) if work.action["begun"] else self._actions.begin(work)
        except Unreachable:
            if self._stopping:
                return None
            raise
        except Exception as error:
            if self._stopping:  # what it needed is gone already
                return None
            logger.exception("CodePipeline failed in action %s", work.action["id"])
            return Outcome(FAILED, error=("InternalError", f"local_aws failed ({error}); its log has the reason."))

    # With the lock held

    def _advance(self) -> None:
        """Begin what can begin and end what has ended, until nothing changes."""
        moved = True
        while moved:
            moved = False
            by_pipeline: dict[tuple[Scope, str], dict[str, Document]] = {}
            for scope, execution in self._records.live():
                by_pipeline.setdefault((scope, execution["pipeline"]), {})[execution["id"]] = execution
            for (scope, _), executions in by_pipeline.items():
                for execution in executions.values():
                    if execution["inside"]:
                        moved = self._step(scope, execution) or moved
                places = [
                    Place(each["id"], each["number"], each["stage"], each["inside"])
                    for each in executions.values()
                    if each["status"] in (IN_PROGRESS, STOPPING)
                ]
                for move in moves(places):
                    moved = True
                    execution = executions[move.execution]
                    if move.kind == "enter":
                        self._enter(scope, execution)
                    else:
                        self.end(scope, execution, SUPERSEDED)

    def _enter(self, scope: Scope, execution: Document) -> None:
        stage = self._stage(scope, execution)["name"]
        execution["inside"] = True
        execution["stages"][stage] = IN_PROGRESS
        pipeline = self._records.pipeline(scope, execution["pipeline"])
        pipeline["latest"][stage] = execution["id"]
        self._records.put_pipeline(scope, pipeline)
        self._records.put_execution(scope, execution)
        self._records.tell_stage(scope, execution, stage, "STARTED")

    def _step(self, scope: Scope, execution: Document) -> bool:
        """Whether anything has changed."""
        stage = self._stage(scope, execution)
        name = stage["name"]
        statuses = {action: each["status"] for action, each in self._records.actions_of(scope, execution, name).items()}
        found = step(stage, statuses, execution["status"] == STOPPING)
        for action in stage["actions"]:
            if action["name"] in found.start:
                self._begin_action(scope, execution, name, action)
        if found.end is not None:
            self._leave(scope, execution, name, found.end)
        return bool(found.start) or found.end is not None

    def _begin_action(self, scope: Scope, execution: Document, stage: str, declaration: Declaration) -> None:
        action: Document = {
            "id": str(uuid.uuid4()),
            "pipeline": execution["pipeline"],
            "execution": execution["id"],
            "version": execution["version"],
            "stage": stage,
            "action": declaration["name"],
            "type": list(action_type(declaration)),
            "declaration": declaration,
            "status": IN_PROGRESS,
            "started": now(),
            "begun": False,
        }
        if action["type"][0] == APPROVAL:
            action |= {"token": str(uuid.uuid4()), "expires": self._actions.expiry(declaration)}
        execution["actions"].setdefault(stage, {})[declaration["name"]] = action["id"]
        pipeline = self._records.pipeline(scope, execution["pipeline"])
        pipeline["latest_actions"][f"{stage}/{declaration['name']}"] = action["id"]
        self._records.put_pipeline(scope, pipeline)
        self._records.put_action(scope, action)
        self._records.put_execution(scope, execution)
        self._records.tell_action(scope, execution, action, "STARTED")

    def _record(self, work: Work, outcome: Outcome) -> None:
        """Write down what became of an action, unless somebody has ended it meanwhile."""
        action = self._records.action(work.scope, work.action["id"])
        if action is None or action["status"] != IN_PROGRESS:
            return
        if outcome.status == IN_PROGRESS and action["begun"]:
            return
        action["begun"] = True
        for member in ("configuration", "external_id", "external_url"):
            if (value := getattr(outcome, member)) is not None:
                action[member] = value
        if outcome.status == IN_PROGRESS:
            self._records.put_action(work.scope, action)
            return
        action["variables"] = outcome.variables
        if outcome.error is not None:
            action["error"] = dict(zip(("code", "message"), outcome.error, strict=True))
        execution = self._records.execution(work.scope, action["pipeline"], action["execution"])
        execution["artifacts"] |= outcome.artifacts
        if outcome.revision is not None:
            execution["revisions"].append({"action": action["action"], **outcome.revision})
            action["revision"] = outcome.revision
        if namespace := action["declaration"].get("namespace"):
            execution["outputs"][namespace] = outcome.variables
        self.end_action(work.scope, execution, action, outcome.status)

    def end_action(self, scope: Scope, execution: Document, action: Document, status: str, state: str = "") -> None:
        """
        Args:
            status: Succeeded, Failed or Abandoned.
            state: as the event has it, when that is another word.
        """
        action["status"] = status
        self._records.put_action(scope, action)
        self._records.put_execution(scope, execution)
        self._records.tell_action(scope, execution, action, state or status.upper())

    def _leave(self, scope: Scope, execution: Document, stage: str, status: str) -> None:
        execution["stages"][stage] = status
        execution["inside"] = False
        self._records.put_execution(scope, execution)
        self._records.tell_stage(scope, execution, stage, status.upper())
        stages = self._declaration(scope, execution)["stages"]
        if status != SUCCEEDED or execution["stage"] + 1 == len(stages):
            self.end(scope, execution, status)
        else:
            execution["stage"] += 1
            self._records.put_execution(scope, execution)

    def end(self, scope: Scope, execution: Document, status: str) -> None:
        """Let an execution end, wherever it is."""
        abandoned = {CANCELLED: "CANCELED", STOPPED: "ABANDONED"}
        if execution["inside"]:
            stage = self._stage(scope, execution)["name"]
            for action in self._records.actions_of(scope, execution, stage).values():
                if action["status"] == IN_PROGRESS:
                    self.end_action(scope, execution, action, ABANDONED, abandoned.get(status, "ABANDONED"))
            execution["stages"][stage] = status
            execution["inside"] = False
            self._records.tell_stage(scope, execution, stage, _state(status))
        execution["status"] = status
        self._records.put_execution(scope, execution)
        self._records.tell_execution(scope, execution, _state(status))

    def _stage(self, scope: Scope, execution: Document) -> Declaration:
        found: Declaration = self._declaration(scope, execution)["stages"][execution["stage"]]
        return found

    def _declaration(self, scope: Scope, execution: Document) -> Declaration:
        """The pipeline as it was when the execution began."""
        versions: list[Any] = self._records.pipeline(scope, execution["pipeline"])["versions"]
        found: Declaration = versions[execution["version"] - 1]
        return found


def _state(status: str) -> str:
    """A status as events have it."""
    return {CANCELLED: "CANCELED"}.get(status, status.upper())
