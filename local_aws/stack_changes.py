"""A stack, followed through an operation until it has come to its end, and what then became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import ClientError

NO_UPDATES = "No updates are to be performed."
SUCCEEDED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE", "IMPORT_COMPLETE")
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGER = 0.03, 0.5, 1.4  # seconds between two looks
LONGEST_REASON = 4000  # characters: what SageMaker's StatusMessage may have


Found = TypeVar("Found")


class Interrupted(Exception):
    """The server goes; the operation goes on, or is looked at again when the server is back."""


@dataclass(frozen=True)
class StackEnd:
    """
    Args:
        status: such as "ROLLBACK_COMPLETE"; "DELETE_COMPLETE" also of a stack that is not there.
        reason: of a failure: the stack's own words, and those of each resource that failed.
        outputs: as DescribeStacks answers them.
        events: of a failure: the operation's that have a ResourceStatusReason, the newest first.
    """

    stack_id: str
    status: str
    reason: str = ""
    outputs: list[Mapping[str, str]] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return self.status in SUCCEEDED


def create_stack(cloudformation: Any, name: str, **request: Any) -> str:
    """Make a stack whose name nobody else can have chosen; its id.

    A call that is sent again because its answer was lost finds the stack that the first one made.

    Args:
        request: CreateStack's other members.

    Raises:
        ClientError: CloudFormation refuses.
    """
    try:
        return str(cloudformation.create_stack(StackName=name, **request)["StackId"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "AlreadyExistsException":
            raise
        return str(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"])


def wait_for(look: Callable[[], Found | None], stopping: threading.Event) -> Found:
    """Look, ever more seldom, until there is something.

    Args:
        stopping: set when the server goes.

    Raises:
        Interrupted: the server goes.
    """
    pause = _FIRST_PAUSE
    while (found := look()) is None:
        if stopping.wait(pause):
            raise Interrupted
        pause = min(pause * _LONGER, _LONGEST_PAUSE)
    return found


def follow(cloudformation: Any, stack: str, stopping: threading.Event) -> StackEnd:
    """Wait until nothing is under way with a stack.

    Args:
        cloudformation: a client that may describe stacks and their events.
        stack: its id; a name finds no stack that is deleted.
        stopping: set when the server goes.

    Raises:
        Interrupted: the server goes.
        ClientError: the client may not look.
    """

    def settled() -> Mapping[str, Any] | None:
        found: Mapping[str, Any] = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        return None if found["StackStatus"].endswith("_IN_PROGRESS") else found

    try:
        found = wait_for(settled, stopping)
    except ClientError as error:
        if not is_missing(error):
            raise
        return StackEnd(stack, "DELETE_COMPLETE")
    end = StackEnd(found["StackId"], found["StackStatus"], outputs=found.get("Outputs", []))
    if end.succeeded:
        return end
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=end.stack_id)
    events = list(_of_last_operation(event for page in pages for event in page["StackEvents"]))
    told = [event for event in events if event.get("ResourceStatusReason")]
    why = found.get("StackStatusReason")
    if why and why not in [event["ResourceStatusReason"] for event in told]:  # a server that ended wrote no event
        of_stack = {"StackId": end.stack_id, "PhysicalResourceId": end.stack_id, "ResourceStatus": end.status}
        of_stack |= {"LogicalResourceId": found["StackName"], "ResourceType": "AWS::CloudFormation::Stack"}
        told.insert(0, of_stack | {"ResourceStatusReason": why})
    return StackEnd(end.stack_id, end.status, _reason(found, told), end.outputs, told)


def is_missing(error: ClientError) -> bool:
    """Whether CloudFormation says that there is no such stack."""
    said = error.response["Error"]
    return said["Code"] == "ValidationError" and "does not exist" in said["Message"]


def _reason(stack: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str:
    said = [stack.get("StackStatusReason") or "", *failures_of_last_operation(events)]
    text = " ".join(dict.fromkeys(one for one in said if one))
    return (text or f"The stack is {stack['StackStatus']}.")[:LONGEST_REASON]


def failures_of_last_operation(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why resources failed since somebody last began something with the stack, oldest first.

    Args:
        events: the newest first, as CloudFormation answers them. Those before are not looked at.
    """
    found: list[str] = []
    for event in _of_last_operation(events):
        reason = event.get("ResourceStatusReason", "")
        if event["ResourceStatus"].endswith("_FAILED") and not _is_of_stack(event) and "cancelled" not in reason:
            found.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
    return found[::-1]


def _of_last_operation(events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Those since somebody last began something with the stack, that event the last one."""
    for event in events:
        yield event
        if _is_of_stack(event) and event.get("ResourceStatusReason") == "User Initiated":
            return


def _is_of_stack(event: Mapping[str, Any]) -> bool:
    return bool(event.get("PhysicalResourceId") == event["StackId"])
