"""Drift-aware change sets: what somebody deleted of a stack by hand is made again.

AWS compares every property with what is there. Here only what is gone is noticed, of the types below; what was changed
by hand stays as it is.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html

Touches: `cloudformation`'s handlers of change sets, its stacks, and how it looks whether a resource is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from local_aws.ministack_host.app import before_first_request

REVERT_DRIFT = "REVERT_DRIFT"
# What lies in another resource and goes with it, by the property that names that one.
PART_OF = {
    "AWS::IAM::Policy": "Roles",
    "AWS::Lambda::EventInvokeConfig": "FunctionName",
    "AWS::Lambda::Permission": "FunctionName",
    "AWS::SNS::TopicPolicy": "Topics",
    "AWS::SQS::QueuePolicy": "Queues",
}


def revert_drift() -> None:
    """Let CreateChangeSet take DeploymentMode."""
    before_first_request("cloudformation", _revert_drift)


def _revert_drift() -> None:
    from ministack.services import cloudformation
    from ministack.services.cloudformation import changesets, handlers, helpers

    actions = cloudformation._ACTION_HANDLERS
    create, execute = actions["CreateChangeSet"], actions["ExecuteChangeSet"]

    def create_with_mode(params: dict[str, Any]) -> Any:
        name = helpers._p(params, "StackName")
        stack = handlers._resolve_stack(name)
        if helpers._p(params, "DeploymentMode") != REVERT_DRIFT or stack is None:
            return create(params)
        gone = _gone(stack)
        kept = {key: stack[key] for key in ("_template", "_resources")}
        stack.update(_without(stack, gone))
        try:
            answer = create(params)
        finally:
            stack.update(kept)
        change_set = changesets._find_change_set(helpers._p(params, "ChangeSetName"), name)[1]
        if answer[0] == 200 and change_set is not None:
            change_set["_gone"] = sorted(gone)
        return answer

    def execute_with_mode(params: dict[str, Any]) -> Any:
        where = helpers._p(params, "ChangeSetName"), helpers._p(params, "StackName")
        change_set = changesets._find_change_set(*where)[1] or {}
        stack = handlers._resolve_stack(change_set.get("StackName", ""))
        if stack is not None and change_set.get("_gone"):
            stack.update(_without(stack, set(change_set["_gone"])))
        return execute(params)

    actions.update({"CreateChangeSet": create_with_mode, "ExecuteChangeSet": execute_with_mode})


def _gone(stack: dict[str, Any]) -> set[str]:
    """The logical ids of what is not there any more."""
    resources, written = stack["_resources"], stack["_template"].get("Resources", {})
    gone = {
        logical_id
        for logical_id, resource in resources.items()
        if _is_gone(resource["ResourceType"], str(resource.get("PhysicalResourceId")))
    }
    parts = {
        logical_id
        for logical_id, resource in resources.items()
        if (whole := PART_OF.get(resource["ResourceType"]))
        and gone & set(_referred(written.get(logical_id, {}).get("Properties", {}).get(whole)))
    }
    return gone | parts


def _is_gone(kind: str, physical_id: str) -> bool:
    from ministack.services import cloudwatch, eventbridge
    from ministack.services.cloudformation import changesets

    if kind == "AWS::CloudWatch::Alarm":
        return physical_id not in cloudwatch._alarms
    if kind == "AWS::Events::Rule":
        return all(rule["Name"] != physical_id for rule in eventbridge._rules.values())
    keys, problem = changesets._IMPORT_LOOKUPS.get(kind, ((), None))
    look: Callable[[str], str | None] | None = problem
    return look is not None and len(keys) == 1 and look(physical_id) is not None


def _referred(value: Any) -> Iterator[str]:
    """The logical ids that a property names by Ref and Fn::GetAtt."""
    if isinstance(value, dict):
        for name, argument in value.items():
            if name == "Ref":
                yield str(argument)
            elif name == "Fn::GetAtt":
                yield str(argument[0] if isinstance(argument, list) else argument).partition(".")[0]
            else:
                yield from _referred(argument)
    elif isinstance(value, list):
        for each in value:
            yield from _referred(each)


def _without(stack: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    """The stack's template and resources as if these had never been made."""
    template = stack["_template"]
    written = {name: one for name, one in template.get("Resources", {}).items() if name not in gone}
    left = {name: one for name, one in stack["_resources"].items() if name not in gone}
    return {"_template": {**template, "Resources": written}, "_resources": left}
