"""CodeBuild: its projects' builds are begun and recorded, but not run.

Touches: how `codebuild` describes projects and begins builds, and how EventBridge invokes targets.
"""

from __future__ import annotations

import functools
import json
import logging
from typing import Any

from local_aws.ministack_host.app import before_first_request

NOT_RUN = "local_aws runs no builds: this one was recorded only. Run the repository's buildspec.yml on this machine."

logger = logging.getLogger(__name__)


def record_builds() -> None:
    """Let rules start builds, as their targets' roles, and let no build that nobody ran be called a success.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html
    """
    from ministack.services import eventbridge

    invoke = eventbridge._invoke_target

    def invoke_or_build(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        if target["Arn"].split(":")[2:3] != ["codebuild"]:
            invoke(target, event, rule, view)
        elif not target.get("RoleArn"):
            logger.warning("An event of %s for %s is lost: the target has no RoleArn", rule["Arn"], target["Arn"])
        else:
            _start_build(target, event, rule, view)

    eventbridge._invoke_target = invoke_or_build
    before_first_request("codebuild", _complete)


@functools.cache
def _complete() -> None:
    """Once, when CodeBuild is first needed."""
    from ministack.services import codebuild

    make, shape = codebuild._make_build_record, codebuild._project_shape

    def make_record(project: dict[str, Any], build_id: str, source_version: str | None = None) -> dict[str, Any]:
        record: dict[str, Any] = make(project, build_id, source_version)
        begun = {"startTime": record["startTime"], "endTime": record["endTime"]}
        logs = (project.get("logsConfig") or {}).get("cloudWatchLogs") or {}
        return {
            **record,
            "buildStatus": "FAULT",
            "phases": [
                {"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED", **begun},
                {
                    "phaseType": "PROVISIONING",
                    "phaseStatus": "FAULT",
                    "contexts": [{"statusCode": "INTERNAL_SERVICE_ERROR", "message": NOT_RUN}],
                    **begun,
                },
                {"phaseType": "COMPLETED", "startTime": record["startTime"]},
            ],
            "logs": {**record["logs"], **({"groupName": logs["groupName"]} if logs.get("groupName") else {})},
            "serviceRole": project.get("serviceRole", ""),
            "encryptionKey": project.get("encryptionKey", ""),
        }

    def shape_completely(project: dict[str, Any]) -> dict[str, Any]:
        more = {key: project[key] for key in ("logsConfig", "cache") if key in project}
        return {**shape(project), **more}

    codebuild._make_build_record, codebuild._project_shape = make_record, shape_completely


def _start_build(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any) -> None:
    """What the target's input says overrides the project's own settings, as a call of StartBuild does.

    https://docs.aws.amazon.com/codebuild/latest/APIReference/API_StartBuild.html
    """
    from ministack.services import codebuild, eventbridge

    _complete()
    given: Any = {}
    if "InputTransformer" in target:
        view = view or eventbridge._pattern_event_view(event)
        given = eventbridge._apply_input_transformer(target["InputTransformer"], rule, view)
    elif "Input" in target:
        given = target["Input"]
    try:
        request = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        request = None
    if not isinstance(request, dict):
        logger.warning("An event of %s for %s is lost: its input is not a JSON object", rule["Arn"], target["Arn"])
        return
    name = target["Arn"].rpartition("/")[2]
    status, _, body = codebuild._start_build({**request, "projectName": name})
    if status >= 400:
        logger.warning("An event of %s for %s is lost: %s", rule["Arn"], target["Arn"], body)
        return
    build = codebuild._builds[json.loads(body)["build"]["id"]]
    build["initiator"] = f"rule/{rule['Arn'].rpartition('/')[2]}"
    overrides = request.get("environmentVariablesOverride") or []
    if overrides:
        environment = build["environment"]
        own = {each["name"]: each for each in environment.get("environmentVariables") or []}
        variables = [*{**own, **{each["name"]: each for each in overrides}}.values()]
        build["environment"] = {**environment, "environmentVariables": variables}
