"""CodeBuild: its projects are MiniStack's, its builds our own (local_aws.builds).

Touches: the projects of `codebuild` and how it describes them, and how EventBridge invokes targets.
"""

from __future__ import annotations

import functools
import json
import logging
from typing import TYPE_CHECKING, Any

from local_aws.calls import ServiceError
from local_aws.ministack_host.app import before_first_request, request_scope
from local_aws.request_checks import check_request, service_model
from local_aws.store import Document, Scope

if TYPE_CHECKING:
    from local_aws.builds.codebuild import CodeBuild

logger = logging.getLogger(__name__)


def find_build_project(scope: Scope, name: str) -> Document | None:
    """A project as CodeBuild knows it; None when there is none of this name."""
    from ministack.services import codebuild

    found: Document | None = codebuild._projects.get_scoped(scope.account, scope.region, name)
    return found


def run_builds(builds: CodeBuild) -> None:
    """Let our own service answer what is asked of builds, and let rules start them, as their targets' roles.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html
    """
    import ministack.app
    from ministack.services import eventbridge

    invoke = eventbridge._invoke_target

    def invoke_or_build(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        if target["Arn"].split(":")[2:3] != ["codebuild"]:
            invoke(target, event, rule, view)
        elif not target.get("RoleArn"):
            logger.warning("An event of %s for %s is lost: the target has no RoleArn", rule["Arn"], target["Arn"])
        else:
            _start_build(builds, target, event, rule, view)

    eventbridge._invoke_target = invoke_or_build
    handle_project = ministack.app.SERVICE_HANDLERS["codebuild"]

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        operation = headers.get("x-amz-target", "").removeprefix(builds.target_prefix)
        handler = builds.handle if operation in builds.operations else handle_project
        return await handler(method, path, headers, body, query)

    ministack.app.SERVICE_HANDLERS["codebuild"] = handle
    before_first_request("codebuild", _complete)


@functools.cache
def _complete() -> None:
    """Once, when CodeBuild is first needed."""
    from ministack.services import codebuild

    shape = codebuild._project_shape

    def shape_completely(project: dict[str, Any]) -> dict[str, Any]:
        more = {key: project[key] for key in ("logsConfig", "cache") if key in project}
        return {**shape(project), **more}

    codebuild._project_shape = shape_completely


def _start_build(builds: CodeBuild, target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any) -> None:
    """What the target's input says overrides the project's own settings, as a call of StartBuild does.

    https://docs.aws.amazon.com/codebuild/latest/APIReference/API_StartBuild.html
    """
    from ministack.services import eventbridge

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
    request = {**request, "projectName": target["Arn"].rpartition("/")[2]}
    try:
        check_request(service_model("codebuild").operation_model("StartBuild"), request)
        builds.begin(request_scope(), request, f"rule/{rule['Arn'].rpartition('/')[2]}")
    except ServiceError as error:
        logger.warning("An event of %s for %s is lost: %s", rule["Arn"], target["Arn"], error)
