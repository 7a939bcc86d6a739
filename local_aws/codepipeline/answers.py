"""What the API tells of pipelines, executions and actions."""

from __future__ import annotations

import copy
from typing import Any

from local_aws.codepipeline.records import Records, pipeline_arn
from local_aws.codepipeline.stages import IN_PROGRESS, LIVE
from local_aws.codepipeline.structure import Declaration
from local_aws.store import Document, Scope

Answer = dict[str, Any]


def declaration(pipeline: Document, version: int | None = None) -> Declaration:
    """A copy of a pipeline's declaration, the newest without a version."""
    found: Declaration = copy.deepcopy(pipeline["versions"][(version or 0) - 1])
    return found


def pipeline_summary(pipeline: Document) -> Answer:
    newest = pipeline["versions"][-1]
    return {
        "name": pipeline["name"],
        "version": newest["version"],
        "pipelineType": newest["pipelineType"],
        "executionMode": newest["executionMode"],
        "created": pipeline["created"],
        "updated": pipeline["updated"],
    }


def pipeline_metadata(scope: Scope, pipeline: Document) -> Answer:
    return {
        "pipelineArn": pipeline_arn(scope, pipeline["name"]),
        "created": pipeline["created"],
        "updated": pipeline["updated"],
    }


def execution_summary(execution: Document) -> Answer:
    answer = {
        "pipelineExecutionId": execution["id"],
        "status": execution["status"],
        "startTime": execution["started"],
        "lastUpdateTime": execution["updated"],
        "sourceRevisions": [
            {
                "actionName": each["action"],
                "revisionId": each["id"],
                "revisionSummary": each["summary"],
                "revisionUrl": each["url"],
            }
            for each in execution["revisions"]
        ],
        "trigger": execution["trigger"],
        "executionMode": "SUPERSEDED",
        "executionType": "STANDARD",
    }
    if "stop" in execution:
        answer["stopTrigger"] = {"reason": execution["stop"]}
    return answer


def execution_detail(execution: Document, pipeline: Declaration) -> Answer:
    """
    Args:
        pipeline: the declaration that the execution has.
    """
    made = {action["name"]: action["outputArtifacts"] for action in pipeline["stages"][0]["actions"]}
    return {
        "pipelineName": execution["pipeline"],
        "pipelineVersion": execution["version"],
        "pipelineExecutionId": execution["id"],
        "status": execution["status"],
        "artifactRevisions": [
            {
                "name": made[each["action"]][0]["name"],
                "revisionId": each["id"],
                "revisionSummary": each["summary"],
                "revisionUrl": each["url"],
                "created": each["created"],
            }
            for each in execution["revisions"]
        ],
        "variables": [{"name": name, "resolvedValue": value} for name, value in execution["variables"].items()],
        "trigger": execution["trigger"],
        "executionMode": "SUPERSEDED",
        "executionType": "STANDARD",
    }


def action_detail(action: Document, execution: Document) -> Answer:
    """An action's execution as ListActionExecutions tells it."""
    made = action["declaration"]
    category, owner, provider, version = action["type"]
    given: Answer = {
        "actionTypeId": {"category": category, "owner": owner, "provider": provider, "version": version},
        "configuration": made["configuration"],
        "resolvedConfiguration": action.get("configuration", {}),
        "inputArtifacts": _located(execution, made["inputArtifacts"]),
    }
    if "namespace" in made:
        given["namespace"] = made["namespace"]
    result = {
        "externalExecutionId": action.get("external_id"),
        "externalExecutionUrl": action.get("external_url"),
        "externalExecutionSummary": action.get("summary"),
        "errorDetails": action.get("error"),
    }
    answer = {
        "pipelineExecutionId": action["execution"],
        "actionExecutionId": action["id"],
        "pipelineVersion": action["version"],
        "stageName": action["stage"],
        "actionName": action["action"],
        "startTime": action["started"],
        "lastUpdateTime": action["updated"],
        "status": action["status"],
        "input": given,
        "output": {
            "outputArtifacts": _located(execution, made["outputArtifacts"]),
            "executionResult": {name: value for name, value in result.items() if value},
            "outputVariables": action.get("variables", {}),
        },
    }
    if "by" in action:
        answer["updatedBy"] = action["by"]
    return answer


def pipeline_state(scope: Scope, pipeline: Document, records: Records) -> Answer:
    """What is in each stage and before it."""
    newest = pipeline["versions"][-1]
    live = [each for each in records.executions(scope, pipeline["name"]) if each["status"] in LIVE]
    stages = []
    for number, stage in enumerate(newest["stages"]):
        waiting = [each for each in live if each["stage"] == number and not each["inside"]]
        state: Answer = {
            "stageName": stage["name"],
            "inboundExecutions": [_in_stage(each, each["status"]) for each in waiting],
            "inboundTransitionState": {"enabled": True},
            "actionStates": [
                _action_state(scope, pipeline, stage["name"], action, records) for action in stage["actions"]
            ],
        }
        if waiting:
            state["inboundExecution"] = _in_stage(waiting[-1], waiting[-1]["status"])
        if key := pipeline["latest"].get(stage["name"]):
            latest = records.execution(scope, pipeline["name"], key)
            stopping = latest["inside"] and latest["stage"] == number and latest["status"] != IN_PROGRESS
            status = latest["status"] if stopping else latest["stages"][stage["name"]]
            state["latestExecution"] = _in_stage(latest, status)
        stages.append(state)
    return {
        "pipelineName": pipeline["name"],
        "pipelineVersion": newest["version"],
        "stageStates": stages,
        "created": pipeline["created"],
        "updated": pipeline["updated"],
    }


def _in_stage(execution: Document, status: str) -> Answer:
    return {"pipelineExecutionId": execution["id"], "status": status, "type": "STANDARD"}


def _action_state(scope: Scope, pipeline: Document, stage: str, declared: Declaration, records: Records) -> Answer:
    state: Answer = {"actionName": declared["name"]}
    key = pipeline["latest_actions"].get(f"{stage}/{declared['name']}")
    action = records.action(scope, key) if key else None
    if action is None:
        return state
    latest = {
        "actionExecutionId": action["id"],
        "status": action["status"],
        "summary": action.get("summary"),
        "lastStatusChange": action["updated"],
        "lastUpdatedBy": action.get("by"),
        "externalExecutionId": action.get("external_id"),
        "externalExecutionUrl": action.get("external_url"),
        "errorDetails": action.get("error"),
        # Of an approval that waits: what PutApprovalResult wants.
        "token": action.get("token") if action["status"] == IN_PROGRESS else None,
    }
    state["latestExecution"] = {name: value for name, value in latest.items() if value}
    if revision := action.get("revision"):
        state["currentRevision"] = {
            "revisionId": revision["id"],
            "revisionChangeId": revision["id"],
            "created": revision["created"],
        }
        state["revisionUrl"] = revision["url"]
    return state


def _located(execution: Document, artifacts: list[Answer]) -> list[Answer]:
    found = execution["artifacts"]
    return [{"name": each["name"], "s3location": found[each["name"]]} for each in artifacts if each["name"] in found]
