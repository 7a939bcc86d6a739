"""CodePipeline's pipelines as resources of CloudFormation's stacks and as targets of EventBridge's rules.

Touches: the table of resource types' handlers, which of them run in a thread, which properties replace a resource and
which have tags; how resources' tags are looked up, and how EventBridge invokes targets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import ServiceError
from local_aws.codepipeline.records import pipeline_arn
from local_aws.loopback import Loopback
from local_aws.ministack_host.app import before_first_request, request_scope
from local_aws.ministack_host.handler_errors import handler_message

if TYPE_CHECKING:
    from local_aws.codepipeline.service import CodePipeline

Properties = dict[str, Any]
# (physical id, what Fn::GetAtt answers)
Made = tuple[str, dict[str, Any]]

PIPELINE = "AWS::CodePipeline::Pipeline"
_UNMAPPED = ("Name", "Tags", "RestartExecutionOnUpdate", "DisableInboundStageTransitions", "ArtifactStores")
_HANDLER_CODES = {"PipelineNotFoundException": "NotFound", "PipelineNameInUseException": "AlreadyExists"}

logger = logging.getLogger(__name__)


def offer_pipelines(service: CodePipeline, loopback: Loopback) -> None:
    """Let templates have AWS::CodePipeline::Pipeline, and rules start pipelines.

    To be called before `authorize_stacks` and `Forwarded.take_over`, which ask IAM before what is done here.
    """
    before_first_request("cloudformation", lambda: _offer_type(service, loopback))
    _start_by_rules(service)


def _offer_type(service: CodePipeline, loopback: Loopback) -> None:
    from ministack.services import tagging
    from ministack.services.cloudformation import provisioners, stacks

    made = _Pipelines(loopback, provisioners._physical_name)
    provisioners._RESOURCE_HANDLERS[PIPELINE] = {"create": made.create, "update": made.update, "delete": made.delete}
    provisioners._STACK_TAG_PROPERTY[PIPELINE] = ("Tags", "list")
    provisioners._REPLACING_PROPERTIES[PIPELINE] = ("Name",)
    in_thread = stacks._runs_on_worker_thread
    # Its handlers call this server.
    stacks._runs_on_worker_thread = lambda kind: kind == PIPELINE or in_thread(kind)
    tags_of = tagging.resource_tags

    def tags(arn: str) -> dict[str, str] | None:
        """Also those of pipelines, for IAM is asked with them when CloudFormation changes one."""
        found: dict[str, str] | None = service.tags(arn) if arn.startswith("arn:aws:codepipeline:") else tags_of(arn)
        return found

    tagging.resource_tags = tags


def _start_by_rules(service: CodePipeline) -> None:
    """https://docs.aws.amazon.com/codepipeline/latest/userguide/triggering.html"""
    from ministack.services import eventbridge

    invoke = eventbridge._invoke_target

    def invoke_or_start(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        if target["Arn"].split(":")[2:3] != ["codepipeline"]:
            invoke(target, event, rule, view)
            return
        given = target.get("Input")
        if "InputTransformer" in target:
            view = view or eventbridge._pattern_event_view(event)
            given = eventbridge._apply_input_transformer(target["InputTransformer"], rule, view)
        if not target.get("RoleArn"):
            logger.warning("An event of %s for %s is lost: the target has no RoleArn", rule["Arn"], target["Arn"])
            return
        try:
            service.start_by_event(target["Arn"], rule["Arn"], given)
        except ServiceError as error:
            if letters := (target.get("DeadLetterConfig") or {}).get("Arn"):
                eventbridge._invoke_target({"Id": target["Id"], "Arn": letters}, event, rule, view)
                return
            logger.warning("An event of %s for %s is lost: %s", rule["Arn"], target["Arn"], error.message)

    eventbridge._invoke_target = invoke_or_start


class _Pipelines:
    """The type's handlers. IAM was asked before (ministack_host.cloudformation), so they act as the account's root.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-codepipeline-pipeline.html

    Args:
        new_name: makes a name of a stack's and a resource's.
    """

    def __init__(self, loopback: Loopback, new_name: Callable[..., str]) -> None:
        self._loopback, self._new_name = loopback, new_name

    def create(self, logical_id: str, properties: Properties, stack: str) -> Made:
        name = properties.get("Name") or self._new_name(stack, logical_id, max_len=100)
        tags = _tags(properties)
        answer = self._call(
            "create_pipeline",
            pipeline=declaration(name, properties),
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )
        return name, _attributes(name, answer["pipeline"]["version"])

    def update(self, name: str, before: Properties, properties: Properties, stack: str) -> Made:
        if before.get("Name") != properties.get("Name"):
            return self.create(name, properties, stack)  # the one that was goes when the stack is updated
        wanted = declaration(name, properties)
        known = self._call("get_pipeline", name=name)
        version = known["pipeline"]["version"]
        if wanted != declaration(name, before):
            version = self._call("update_pipeline", pipeline=wanted)["pipeline"]["version"]
        arn, old, new = known["metadata"]["pipelineArn"], _tags(before), _tags(properties)
        if gone := sorted(set(old) - set(new)):
            self._call("untag_resource", resourceArn=arn, tagKeys=gone)
        if new != old and new:
            self._call("tag_resource", resourceArn=arn, tags=[{"key": key, "value": new[key]} for key in new])
        if _is_true(properties.get("RestartExecutionOnUpdate")):
            self._call("start_pipeline_execution", name=name)
        return name, _attributes(name, version)

    def delete(self, name: str, _properties: Properties) -> None:
        self._call("delete_pipeline", name=name)  # what is gone already is gone

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        client = self._loopback.client("codepipeline", request_scope())
        try:
            answer: dict[str, Any] = getattr(client, operation)(**request)
        except ClientError as error:
            said = error.response["Error"]
            code = _HANDLER_CODES.get(said["Code"], "InvalidRequest")
            raise ValueError(handler_message(said["Message"], code)) from error
        except BotoCoreError as error:  # what is no request of CodePipeline's
            raise ValueError(handler_message(str(error), "InvalidRequest")) from error
        return answer


def declaration(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A template's properties as CreatePipeline takes them.

    Raises:
        ValueError: DisableInboundStageTransitions, which is not built.
    """
    if properties.get("DisableInboundStageTransitions"):
        message = "DisableInboundStageTransitions is not built by local_aws. Leave it out."
        raise ValueError(handler_message(message, "InvalidRequest"))
    found: dict[str, Any] = _api({key: value for key, value in properties.items() if key not in _UNMAPPED})
    if stores := properties.get("ArtifactStores"):
        found["artifactStores"] = {each["Region"]: _api(each["ArtifactStore"]) for each in stores}
    return found | {"name": name}


def _api(value: Any, key: str = "") -> Any:
    """Properties with their names as the API has them; its numbers may be texts in templates."""
    if key == "configuration":
        return {name: _text(each) for name, each in value.items()}
    if isinstance(value, Mapping):
        names = {name: name[:1].lower() + name[1:] for name in value}
        return {names[name]: _api(each, names[name]) for name, each in value.items()}
    if isinstance(value, list):
        return [_api(each) for each in value]
    if key in ("runOrder", "timeoutInMinutes") and str(value).isdigit():
        return int(value)
    return _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _attributes(name: str, version: int) -> dict[str, Any]:
    return {"Version": str(version), "Arn": pipeline_arn(request_scope(), name)}


def _is_true(value: Any) -> bool:
    return _text(value).lower() == "true"


def _tags(properties: Properties) -> dict[str, str]:
    """Without CloudFormation's own, which only it may give."""
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in properties.get("Tags") or []}
    return {key: value for key, value in tags.items() if not key.startswith("aws:")}
