"""CloudFormation's custom resources and what stacks say about resources while they are being worked on.

Touches: `cloudformation.custom_resource.invoke_custom_resource`, the route on which its answers come
(`ministack.app._handle_post_body_shortcuts`), stacks' records and events, how stacks are deployed, rolled back and
deleted, and the stack that the handlers describe.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from local_aws.clock import Clock
from local_aws.custom_resources import CustomResources, Request, RequestFailed, generated_id
from local_aws.ministack_host.app import before_first_request

ANSWERS = "/_ministack/cfn-response/"
DESCRIBED = ("DescribeStackResource", "DescribeStackResources", "ListStackResources")
# After an update has succeeded: what it replaced or removed goes.
CLEANING_UP = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"


def run_custom_resources(clock: Clock, endpoint: str) -> CustomResources:
    """Let CloudFormation invoke functions asynchronously for custom resources, and take what they answer as AWS does.

    Args:
        endpoint: the server's own address, where functions answer.
    """
    import ministack.app

    custom_resources = CustomResources(clock, endpoint + ANSWERS)
    handle = ministack.app._handle_post_body_shortcuts

    async def take_answers(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any], request_id: str
    ) -> Any:
        if method == "PUT" and path.startswith(ANSWERS):
            status = custom_resources.put(path.removeprefix(ANSWERS), headers.get("content-type", ""), body)
            return status, {}, b""
        return await handle(method, path, headers, body, query, request_id)

    ministack.app._handle_post_body_shortcuts = take_answers
    before_first_request("cloudformation", lambda: _prepare(custom_resources))
    return custom_resources


def _prepare(custom_resources: CustomResources) -> None:
    from ministack.services.cloudformation import custom_resource, engine

    operations = _Operations(custom_resources)

    def ask(
        kind: Any,
        logical_id: str,
        properties: dict[str, Any],
        stack_name: str,
        stack_id: str,
        resource_type: str,
        physical_id: str | None = None,
        old_props: dict[str, Any] | None = None,
    ) -> tuple[str, dict[str, Any]]:
        request = Request(kind, stack_id, logical_id, resource_type, properties, physical_id, old_props)
        work = _Work(stack_name, request)
        work.begin()
        try:
            answer = custom_resources.ask(
                request,
                _invoke(str(properties.get("ServiceToken") or "")),
                cancelled=lambda: kind == "Create" and stack_id in operations.deletions,
            )
        except RequestFailed as failure:
            work.fail(failure)
            raise
        work.end(answer.physical_id)
        return answer.physical_id, dict(answer.data)

    unknown = engine._unknown_attribute_message

    def unknown_data(record: dict[str, Any], logical_id: str, attribute: str) -> str:
        if not _is_custom(record.get("ResourceType", "")):
            return str(unknown(record, logical_id, attribute))
        return (
            f"CustomResource attribute error: Vendor response doesn't contain {attribute} attribute in object"
            f" {logical_id}"
        )

    engine._unknown_attribute_message = unknown_data
    custom_resource.invoke_custom_resource = ask
    operations.take_over()
    _show_work_in_progress()


def _invoke(function: str) -> Callable[[dict[str, Any]], None]:
    """What starts the function of a ServiceToken with an event; it raises LookupError when there is none."""
    from ministack.core.responses import get_region
    from ministack.services import lambda_svc

    def start(event: dict[str, Any]) -> None:
        parts = function.split(":")
        if parts[2:3] == ["sns"]:
            raise LookupError(f"ServiceToken {function}: local_aws asks functions only; give the ARN of a function")
        if parts[2:3] != ["lambda"]:
            raise LookupError(f"ServiceToken {function!r}: give the ARN of a function in the stack's Region")
        if parts[3] != get_region():
            raise LookupError(f"ServiceToken {function}: the function must be in the stack's Region, {get_region()}")
        record, config, _ = lambda_svc._get_func_record_for_ref(function)
        if record is None or config is None:
            raise LookupError(
                f"Lambda returned error message 'Function not found: {function}'."
                " Lambda function name is not valid or the function does not exist."
            )
        lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(record, config), event)

    return start


class _Work:
    """What a stack remembers and tells of a request while its function works.

    A resource is in its stack from the moment that its function may have begun to make something: whatever then happens
    (a failure, no answer, the server's end), the stack's roll-back or deletion asks the function to take it away.
    """

    def __init__(self, stack_name: str, request: Request) -> None:
        from ministack.services import cloudformation

        self._request = request
        self._stack: dict[str, Any] = cloudformation._stacks.get(stack_name) or {}
        self._cleaning_up = request.kind == "Delete" and self._stack.get("StackStatus") in (
            "UPDATE_IN_PROGRESS",
            CLEANING_UP,
        )

    def begin(self) -> None:
        from ministack.core.responses import now_iso

        request = self._request
        if request.kind == "Create" and self._stack:
            self._stack.setdefault("_resources", {})[request.logical_id] = {
                "PhysicalResourceId": generated_id(request),
                "ResourceType": request.type,
                "ResourceStatus": "CREATE_IN_PROGRESS",
                "LogicalResourceId": request.logical_id,
                "Properties": dict(request.properties),
                "Attributes": {},
                "Timestamp": now_iso(),
            }
        if self._cleaning_up:
            if self._stack["StackStatus"] != CLEANING_UP:
                self._stack["StackStatus"] = CLEANING_UP
                self._tell(CLEANING_UP, self._stack["StackName"], "AWS::CloudFormation::Stack", request.stack)
            self._tell_deletion("DELETE_IN_PROGRESS")

    def end(self, physical_id: str) -> None:
        """The function succeeded; CloudFormation itself keeps what it answered."""
        if self._cleaning_up:
            self._tell_deletion("DELETE_COMPLETE", physical_id)

    def fail(self, failure: RequestFailed) -> None:
        record = self._stack.get("_resources", {}).get(self._request.logical_id)
        if self._request.kind != "Create" or record is None:
            return
        if failure.physical_id is None:
            del self._stack["_resources"][self._request.logical_id]
            return
        record.update(
            PhysicalResourceId=failure.physical_id,
            ResourceStatus="CREATE_FAILED",
            ResourceStatusReason=str(failure),
        )

    def _tell_deletion(self, status: str, physical_id: str | None = None) -> None:
        request = self._request
        self._tell(status, request.logical_id, request.type, physical_id or request.physical_id or "")

    def _tell(self, status: str, logical_id: str, kind: str, physical_id: str) -> None:
        from ministack.services.cloudformation import stacks

        name = self._stack["StackName"]
        stacks._add_event(self._request.stack, name, logical_id, kind, status, physical_id=physical_id)


class _Operations:
    """One operation on a stack at a time, and what is left of resources whose creation failed.

    - A roll-back deletes the custom resource whose creation failed; what it could not delete goes with the stack.
    - A deletion cancels the creation that it comes upon, awaits another operation's end, and is one with a second one.
    - What cannot be deleted keeps what it depends on, which MiniStack would delete all the same.
    """

    def __init__(self, custom_resources: CustomResources) -> None:
        self._custom_resources = custom_resources
        self.deletions: set[str] = set()  # ids of stacks
        self._deployments: dict[str, asyncio.Event] = {}  # by the stack's id; set when it has ended
        self._kept: dict[str, dict[str, Any]] = {}  # by the stack's id: records of resources that cannot go yet

    def take_over(self) -> None:
        from ministack.services.cloudformation import changesets, handlers, stacks

        roll_back, deploy, delete = stacks._roll_back_operation, stacks._deploy_stack_async, stacks._delete_stack_async
        add_event = stacks._add_event

        def add_event_and_keep(
            stack_id: str, stack_name: str, logical_id: str, kind: str, status: str, *more: Any, **named: Any
        ) -> None:
            if status == "DELETE_FAILED" and stack_id in self.deletions and logical_id != stack_name:
                self._keep_dependencies(stack_name, stack_id, logical_id)
            add_event(stack_id, stack_name, logical_id, kind, status, *more, **named)

        async def roll_back_too(
            stack_name: str, stack_id: str, stack: dict[str, Any], operation: dict[str, Any], reason_override: str = ""
        ) -> None:
            if self._custom_resources.stopping:
                return  # the stack has failed when the server starts again
            if stack_id in self.deletions and not operation.get("is_update"):
                return  # the deletion takes it all away
            resources, created = stack.get("_resources", {}), operation.get("created", [])
            begun = [name for name, record in resources.items() if _is_begun(record) and name not in created]
            # Last, so that it goes first: whatever it refers to was there before it.
            operation = {**operation, "created": [*created, *begun]}
            left = {name: dict(resources[name]) for name in operation["created"] if name in resources}
            await roll_back(stack_name, stack_id, stack, operation, reason_override)
            if stack["StackStatus"] == "ROLLBACK_FAILED":
                stack["_resources"] |= {
                    name: {**left[name], "ResourceStatus": "DELETE_FAILED"}
                    for name in stack.get("_rollback_failed", {})
                    if name in left
                }

        async def deploy_alone(stack_name: str, stack_id: str, *more: Any, **named: Any) -> None:
            ended = self._deployments[stack_id] = asyncio.Event()
            try:
                await deploy(stack_name, stack_id, *more, **named)
            finally:
                del self._deployments[stack_id]
                ended.set()

        async def delete_once(stack_name: str, stack_id: str, *more: Any, **named: Any) -> None:
            if stack_id in self.deletions:
                return
            self.deletions.add(stack_id)
            try:
                if (ended := self._deployments.get(stack_id)) is not None:
                    await ended.wait()
                await delete(stack_name, stack_id, *more, **named)
            finally:
                self.deletions.discard(stack_id)
                self._put_back(stack_name, stack_id)

        for module in (handlers, stacks):
            module._roll_back_operation = roll_back_too
            module._delete_stack_async = delete_once
        for module in (changesets, handlers, stacks):
            module._deploy_stack_async = deploy_alone
        stacks._add_event = add_event_and_keep

    def _keep_dependencies(self, stack_name: str, stack_id: str, logical_id: str) -> None:
        """Take what a resource that could not be deleted depends on out of its stack, which is gone through now."""
        from ministack.services import cloudformation
        from ministack.services.cloudformation import stacks

        stack = cloudformation._stacks[stack_name]
        resources, template = stack["_resources"], stack.get("_template") or {}
        found = stacks._with_dependencies([logical_id], template.get("Resources", {}), set(resources))
        kept = {name: resources.pop(name) for name in found - {logical_id} if name in resources}
        self._kept.setdefault(stack_id, {}).update(kept)

    def _put_back(self, stack_name: str, stack_id: str) -> None:
        from ministack.services import cloudformation

        if kept := self._kept.pop(stack_id, None):
            cloudformation._stacks[stack_name]["_resources"] |= kept


def _is_custom(resource_type: str) -> bool:
    return resource_type.startswith("Custom::") or resource_type == "AWS::CloudFormation::CustomResource"


def _is_begun(record: dict[str, Any]) -> bool:
    return record.get("ResourceStatus") in ("CREATE_FAILED", "CREATE_IN_PROGRESS")


_describing: contextvars.ContextVar[bool] = contextvars.ContextVar("describing", default=False)


def _show_work_in_progress() -> None:
    """Let descriptions of a stack's resources say what is being done with them, as the stack's events do."""
    from ministack.services import cloudformation
    from ministack.services.cloudformation import handlers, stacks

    resolve_stack, add_event = handlers._resolve_stack, stacks._add_event

    def resolve_described(name: str) -> dict[str, Any] | None:
        stack = resolve_stack(name)
        if stack is None or not _describing.get():
            return stack
        events = cloudformation._stack_events.get(stack["StackId"], [])
        return {**stack, "_resources": _resources_now(stack, events)}

    def described(handle: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def describe(params: dict[str, Any]) -> Any:
            token = _describing.set(True)
            try:
                status, headers, body = handle(params)
            finally:
                _describing.reset(token)
            # What has no id yet says none.
            return status, headers, body.replace(b"<PhysicalResourceId></PhysicalResourceId>", b"")

        return describe

    def add_named_event(
        stack_id: str,
        stack_name: str,
        logical_id: str,
        resource_type: str,
        status: str,
        reason: str = "",
        physical_id: str = "",
        detailed_status: str = "",
    ) -> None:
        if not physical_id and status in ("CREATE_FAILED", "UPDATE_FAILED", "UPDATE_IN_PROGRESS"):
            stack = cloudformation._stacks.get(stack_name) or {}
            physical_id = (stack.get("_resources", {}).get(logical_id) or {}).get("PhysicalResourceId", "")
        add_event(stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, detailed_status)

    handlers._resolve_stack = resolve_described
    stacks._add_event = add_named_event
    for name in DESCRIBED:
        cloudformation._ACTION_HANDLERS[name] = described(cloudformation._ACTION_HANDLERS[name])


def _resources_now(stack: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The stack's resources with the status that its events gave each of them last.

    Events of a predecessor, which goes when an update has replaced it, say nothing of the resource that is there now.
    """
    last = {
        event["LogicalResourceId"]: event for event in events if event["ResourceType"] != "AWS::CloudFormation::Stack"
    }
    resources = {name: dict(record) for name, record in stack.get("_resources", {}).items()}
    for name, event in last.items():
        record, status = resources.get(name), event["ResourceStatus"]
        told = event["PhysicalResourceId"]
        if record is None and not status.endswith("_IN_PROGRESS"):
            continue
        if record is not None and status.startswith("DELETE_") and told != record["PhysicalResourceId"]:
            continue
        if status.endswith("_IN_PROGRESS") and not stack["StackStatus"].endswith("_IN_PROGRESS"):
            status = status.replace("_IN_PROGRESS", "_FAILED")  # the server ended meanwhile
        resources[name] = {
            **(record or {"LogicalResourceId": name, "ResourceType": event["ResourceType"]}),
            "PhysicalResourceId": told if status == "CREATE_IN_PROGRESS" else (record or event)["PhysicalResourceId"],
            "ResourceStatus": status,
            "ResourceStatusReason": event["ResourceStatusReason"],
            "Timestamp": event["Timestamp"],
        }
    return resources
