"""What CodePipeline keeps of pipelines, their executions and actions, and the events that tell of them.

Documents, with all times in seconds since 1970:

- a pipeline: name, versions (its declarations, the oldest first), created, updated, number (of executions so far),
  latest (by stage, the execution that entered it last), latest_actions (by "stage/action", the action execution).
- an execution: id, pipeline, version, number, status, started, updated, trigger, attempt, stage (the number of the one
  that it is in or waits for), inside, stages (status by name), actions (by stage and action, the action execution),
  variables (of the pipeline), asked (source revisions that were asked for, by action), revisions, artifacts (where each
  is, by name), outputs (variables by namespace); stop and summary when somebody has stopped it.
- an action's execution: id, pipeline, execution, version, stage, action, status, started, updated, begun (whether it
  was set going), declaration, and what it has come to (actions.Outcome).

https://docs.aws.amazon.com/codepipeline/latest/userguide/detect-state-changes-cloudwatch-events.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from local_aws.calls import ServiceError
from local_aws.codepipeline.stages import LIVE
from local_aws.codepipeline.structure import Declaration, completed
from local_aws.events import Events
from local_aws.sagemaker.times import now
from local_aws.store import Document, Scope, Store

EVENTS = "aws.codepipeline"


def pipeline_arn(scope: Scope, name: str) -> str:
    return f"arn:aws:codepipeline:{scope.region}:{scope.account}:{name}"


class Records:
    """
    Args:
        store: its lock is held by whoever changes something.
        events: hear of every change of a state.
    """

    def __init__(self, store: Store, events: Events) -> None:
        self.lock = store.lock
        self._events = events
        self._pipelines = store.table("codepipeline_pipelines")
        self._executions = store.table("codepipeline_executions")
        self._actions = store.table("codepipeline_actions")
        self._tags = store.table("tags")  # by ARN, where those who ask IAM look
        self._live = {(scope, key) for scope, key, found in self._executions.items() if found["status"] in LIVE}

    # Pipelines

    def pipelines(self, scope: Scope) -> list[Document]:
        return self._pipelines.values(scope)

    def find(self, scope: Scope, name: str) -> Document | None:
        return self._pipelines.get(scope, name)

    def pipeline(self, scope: Scope, name: str) -> Document:
        """
        Raises:
            ServiceError: PipelineNotFoundException.
        """
        found = self.find(scope, name)
        if found is None:
            raise ServiceError(
                "PipelineNotFoundException",
                f"Account '{scope.account}' does not have a pipeline with name '{name}'",
            )
        return found

    def create(self, scope: Scope, declaration: Declaration, tags: dict[str, str]) -> Document:
        """Keep a new pipeline; with the lock held.

        Raises:
            ServiceError: PipelineNameInUseException.
        """
        name = declaration["name"]
        if self.find(scope, name) is not None:
            raise ServiceError("PipelineNameInUseException", f"A pipeline with the name '{name}' already exists")
        document = {
            "name": name,
            "versions": [completed(declaration, 1)],
            "created": now(),
            "updated": now(),
            "number": 0,
            "latest": {},
            "latest_actions": {},
        }
        self.set_tags(scope, name, tags)
        self.put_pipeline(scope, document)
        return document

    def put_pipeline(self, scope: Scope, document: Document) -> None:
        self._pipelines.put(scope, document["name"], document)

    def delete(self, scope: Scope, name: str) -> None:
        """Forget a pipeline and everything about it; with the lock held. Without one nothing happens."""
        if self.find(scope, name) is None:
            return
        for action in self.actions(scope, name):
            self._actions.delete(scope, action["id"])
        for execution in self.executions(scope, name):
            self._live.discard((scope, execution["id"]))
            self._executions.delete(scope, execution["id"])
        self._tags.delete(scope, pipeline_arn(scope, name))
        self._pipelines.delete(scope, name)

    def tags(self, scope: Scope, name: str) -> dict[str, str]:
        return dict(self._tags.get(scope, pipeline_arn(scope, name)) or {})

    def set_tags(self, scope: Scope, name: str, tags: dict[str, str]) -> None:
        self._tags.put(scope, pipeline_arn(scope, name), tags)

    # Executions

    def executions(self, scope: Scope, pipeline: str) -> list[Document]:
        """The oldest first."""
        return [each for each in self._executions.values(scope) if each["pipeline"] == pipeline]

    def execution(self, scope: Scope, pipeline: str, execution: str) -> Document:
        """
        Raises:
            ServiceError: PipelineNotFoundException, PipelineExecutionNotFoundException.
        """
        self.pipeline(scope, pipeline)
        found = self._executions.get(scope, execution)
        if found is None or found["pipeline"] != pipeline:
            raise ServiceError(
                "PipelineExecutionNotFoundException",
                f"Pipeline '{pipeline}' does not have an execution with id '{execution}'",
            )
        return found

    def live(self) -> Iterator[tuple[Scope, Document]]:
        """Executions that have not ended, the oldest first; with the lock held."""
        found = [(scope, self._executions.get(scope, key)) for scope, key in self._live]
        yield from sorted(
            ((scope, each) for scope, each in found if each is not None),
            key=lambda pair: (pair[0], pair[1]["pipeline"], pair[1]["number"]),
        )

    def begin(
        self,
        scope: Scope,
        pipeline: Document,
        trigger: dict[str, str],
        variables: dict[str, str],
        asked: dict[str, str],
    ) -> Document:
        """Keep a new execution, which waits for the first stage; with the lock held.

        Args:
            trigger: triggerType, triggerDetail.
            variables: the pipeline's, resolved.
            asked: source revisions by action.
        """
        pipeline["number"] += 1
        self.put_pipeline(scope, pipeline)
        execution = {
            "id": str(uuid.uuid4()),
            "pipeline": pipeline["name"],
            "version": len(pipeline["versions"]),
            "number": pipeline["number"],
            "status": "InProgress",
            "started": now(),
            "updated": now(),
            "trigger": trigger,
            "attempt": 1,
            "stage": 0,
            "inside": False,
            "stages": {},
            "actions": {},
            "variables": variables,
            "asked": asked,
            "revisions": [],
            "artifacts": {},
            "outputs": {},
        }
        self.put_execution(scope, execution)
        self.tell_execution(scope, execution, "STARTED")
        return execution

    def put_execution(self, scope: Scope, execution: Document) -> None:
        execution["updated"] = now()
        (self._live.add if execution["status"] in LIVE else self._live.discard)((scope, execution["id"]))
        self._executions.put(scope, execution["id"], execution)

    # Actions

    def actions(self, scope: Scope, pipeline: str) -> list[Document]:
        """The oldest first."""
        return [each for each in self._actions.values(scope) if each["pipeline"] == pipeline]

    def action(self, scope: Scope, action: str) -> Document | None:
        return self._actions.get(scope, action)

    def actions_of(self, scope: Scope, execution: Document, stage: str) -> dict[str, Document]:
        """Of a stage as an execution has it, by name."""
        found = {name: self.action(scope, key) for name, key in execution["actions"].get(stage, {}).items()}
        return {name: each for name, each in found.items() if each is not None}

    def put_action(self, scope: Scope, action: Document) -> None:
        action["updated"] = now()
        self._actions.put(scope, action["id"], action)

    # Events

    def tell_execution(self, scope: Scope, execution: Document, state: str) -> None:
        trigger = execution["trigger"]
        detail = {
            "start-time": _milliseconds(execution["started"]),
            "execution-trigger": {
                "trigger-type": trigger["triggerType"],
                "trigger-detail": trigger["triggerDetail"],
            },
        }
        self._tell(scope, "Pipeline", execution, state, detail)

    def tell_stage(self, scope: Scope, execution: Document, stage: str, state: str) -> None:
        self._tell(scope, "Stage", execution, state, {"stage": stage, "start-time": _milliseconds(now())})

    def tell_action(self, scope: Scope, execution: Document, action: Document, state: str) -> None:
        result = {
            "external-execution-id": action.get("external_id"),
            "external-execution-url": action.get("external_url"),
            "external-execution-summary": (action.get("error") or {}).get("message") or action.get("summary"),
            "error-code": (action.get("error") or {}).get("code"),
        }
        result = {name: value for name, value in result.items() if value}
        category, owner, provider, version = action["type"]
        detail = {
            "stage": action["stage"],
            "action": action["action"],
            "action-execution-id": action["id"],
            "start-time": _milliseconds(action["started"]),
            "region": scope.region,
            "type": {"owner": owner, "provider": provider, "category": category, "version": version},
            "input-artifacts": _located(execution, action["declaration"]["inputArtifacts"]),
            "output-artifacts": _located(execution, action["declaration"]["outputArtifacts"]),
        }
        self._tell(
            scope, "Action", execution, state, detail | ({"execution-result": result} if state != "STARTED" else {})
        )

    def _tell(self, scope: Scope, what: str, execution: Document, state: str, more: dict[str, Any]) -> None:
        detail = {
            "pipeline": execution["pipeline"],
            "execution-id": execution["id"],
            "state": state,
            "version": float(execution["version"]),
            "pipeline-execution-attempt": float(execution["attempt"]),
            **more,
        }
        arn = pipeline_arn(scope, execution["pipeline"])
        self._events.emit(scope, f"CodePipeline {what} Execution State Change", [arn], detail, EVENTS)


def _located(execution: Document, artifacts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = execution["artifacts"]
    return [{"name": each["name"], "s3location": found[each["name"]]} for each in artifacts if each["name"] in found]


def _milliseconds(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
