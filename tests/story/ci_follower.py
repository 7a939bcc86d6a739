"""What CI does with a push, followed to its end: CodeBuild for feature branches, CodePipeline for dev and prod."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

BETWEEN_LOOKS = 0.25  # seconds
LOG_LINES = 40
BUILD_ENDED = ("SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT")
PIPELINE_ENDED = ("Succeeded", "Failed", "Stopped", "Superseded", "Cancelled")
APPROVAL = "Approval"


class CiFailed(Exception):
    """CI ended otherwise than well; the message has the end of its log."""


@dataclass(frozen=True)
class Progress:
    """A part of CI's work that began or ended.

    Attributes:
        name: of the phase of a build, or of the action of a pipeline.
        status: in AWS's words.
        seconds: what it took; None while it is under way.
    """

    name: str
    status: str
    seconds: float | None


class CiFollower:
    """CI of one project.

    Args:
        client: makes a boto3 client of a service.
        project, project_id: of the SageMaker project; CodePipeline's pipelines are called by its id.
        report: is told of everything that begins or ends.
        seconds: how long is waited for a push's CI at most.
    """

    def __init__(
        self,
        client: Callable[[str], Any],
        project: str,
        project_id: str,
        report: Callable[[Progress], None],
        seconds: float = 1800,
    ) -> None:
        self._client, self._project, self._id = client, project, project_id
        self._report, self._seconds = report, seconds
        self._reported: set[tuple[str, str]] = set()

    def follow_build(self, commit: str) -> None:
        """The build of a commit of a feature branch.

        Raises:
            CiFailed: it failed, or none came.
        """
        codebuild = self._client("codebuild")
        name = f"modelyard-{self._project}-feature"
        self._reported.clear()
        for _ in self._looks(f"the build {name} of {commit[:12]}"):
            ids = codebuild.list_builds_for_project(projectName=name)["ids"]
            builds = codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
            build = next((one for one in builds if one.get("sourceVersion") == commit), None)
            if build is None:
                continue
            for phase in build.get("phases", []):
                if "phaseStatus" in phase and phase["phaseType"] in ("INSTALL", "BUILD"):
                    self._tell(phase["phaseType"], phase["phaseStatus"], phase.get("durationInSeconds"))
            if build["buildStatus"] in BUILD_ENDED:
                if build["buildStatus"] != "SUCCEEDED":
                    raise CiFailed(self._build_failed(build))
                return

    def follow_pipeline(self, branch: str, commit: str, approve: Callable[[str, str], None] | None = None) -> None:
        """The execution of dev's or prod's pipeline for a commit.

        Args:
            approve: is called once with the name of the pipeline and the token, when a person's approval is waited for.

        Raises:
            CiFailed: it failed, or none came, or it waits for an approval that nobody gives.
        """
        name, asked = f"{self._id}-{branch}", False
        self._reported.clear()
        execution = None
        for _ in self._looks(f"an execution of {name} for {commit[:12]}"):
            execution = execution or self._execution(name, commit)
            if execution is None:
                continue
            actions = self._actions(name, execution)
            for action in actions:
                took = None
                if action["status"] != "InProgress":
                    took = (action["lastUpdateTime"] - action["startTime"]).total_seconds()
                self._tell(action["actionName"], action["status"], took)
                waits = action["input"]["actionTypeId"]["category"] == APPROVAL and action["status"] == "InProgress"
                if waits and not asked:
                    if approve is None:
                        raise CiFailed(f"{name} waits for an approval, and nobody gives it")
                    token = self._token(name, action["stageName"], action["actionName"])
                    if token is not None:
                        asked = True
                        approve(name, token)
            status = self._client("codepipeline").get_pipeline_execution(
                pipelineName=name, pipelineExecutionId=execution
            )["pipelineExecution"]["status"]
            if status in PIPELINE_ENDED:
                if status != "Succeeded":
                    raise CiFailed(self._pipeline_failed(name, status, actions))
                return

    def _execution(self, name: str, commit: str) -> str | None:
        pages = self._client("codepipeline").get_paginator("list_pipeline_executions").paginate(pipelineName=name)
        for summary in (one for page in pages for one in page["pipelineExecutionSummaries"]):
            if any(revision.get("revisionId") == commit for revision in summary.get("sourceRevisions", [])):
                return str(summary["pipelineExecutionId"])
        return None

    def _actions(self, name: str, execution: str) -> list[dict[str, Any]]:
        found = self._client("codepipeline").list_action_executions(
            pipelineName=name, filter={"pipelineExecutionId": execution}
        )["actionExecutionDetails"]
        return sorted(found, key=lambda action: action["startTime"])

    def _token(self, name: str, stage: str, action: str) -> str | None:
        """None where the approval does not wait yet."""
        for one in self._client("codepipeline").get_pipeline_state(name=name)["stageStates"]:
            for state in one["actionStates"]:
                if (one["stageName"], state["actionName"]) == (stage, action):
                    token = state.get("latestExecution", {}).get("token")
                    return None if token is None else str(token)
        return None

    def _build_failed(self, build: dict[str, Any]) -> str:
        said = [context["message"] for phase in build["phases"] for context in phase.get("contexts", [])]
        lines = [f"build {build['id']} {build['buildStatus']}", *said, *self._log(build.get("logs") or {})]
        return "\n".join(line for line in lines if line)

    def _pipeline_failed(self, name: str, status: str, actions: list[dict[str, Any]]) -> str:
        lines = [f"{name} {status}"]
        codebuild = self._client("codebuild")
        for action in actions:
            result = action.get("output", {}).get("executionResult", {})
            if action["status"] == "Failed":
                lines.append(f"{action['actionName']}: {result.get('externalExecutionSummary', '')}")
                if result.get("externalExecutionId", "").startswith("modelyard-"):
                    (build,) = codebuild.batch_get_builds(ids=[result["externalExecutionId"]])["builds"]
                    lines.append(self._build_failed(build))
        return "\n".join(lines)

    def _log(self, logs: dict[str, Any]) -> list[str]:
        try:
            events = self._client("logs").get_log_events(
                logGroupName=logs["groupName"], logStreamName=logs["streamName"], limit=LOG_LINES, startFromHead=False
            )["events"]
        except (ClientError, KeyError) as error:
            return [f"its log cannot be read: {error!r}"]
        return [f"  | {event['message'].rstrip()}" for event in events]

    def _tell(self, name: str, status: str, seconds: float | None) -> None:
        if (name, status) not in self._reported:
            self._reported.add((name, status))
            self._report(Progress(name, status, seconds))

    def _looks(self, what: str) -> Iterator[None]:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            yield
            time.sleep(BETWEEN_LOOKS)
        raise CiFailed(f"waited {self._seconds:g} s for {what}")
