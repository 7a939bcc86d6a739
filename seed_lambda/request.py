"""CloudFormation's request to a custom resource, read from the function's event.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

RequestType = Literal["Create", "Update", "Delete"]


@dataclass(frozen=True)
class Request:
    """One request. Only its ids may be logged: the response URL is a credential, and properties are the user's.

    Args:
        request_type: what CloudFormation asks for.
        stack_id: the stack's ARN; it marks what is made for the stack.
        request_id: of this request; the answer carries it back.
        logical_id: the resource's name in its template.
        resource_type: "Custom::ModelyardProject" or "Custom::ModelyardTemplate".
        response_url: where the answer is put.
        physical_id: what the Create answered; "" in a Create.
        properties: scalars arrive as text, lists and maps as they are.
        old_properties: those before an Update; else empty.
    """

    request_type: RequestType
    stack_id: str
    request_id: str
    logical_id: str
    resource_type: str
    response_url: str = field(repr=False)
    physical_id: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    old_properties: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ids(self) -> dict[str, str]:
        """What log lines about the request carry."""
        return {
            "request_type": self.request_type,
            "resource_type": self.resource_type,
            "stack_id": self.stack_id,
            "request_id": self.request_id,
            "logical_id": self.logical_id,
        }


def parse(event: Mapping[str, Any]) -> Request:
    """The event as a request.

    Raises:
        ValueError: it is no request of CloudFormation's: a member is missing or of another type. The message names
            the member and never its value.
    """
    texts = {member: event.get(member) for member in _TEXTS}
    if missing := [member for member, value in texts.items() if not isinstance(value, str) or not value]:
        raise ValueError(
            f"the event is no request of CloudFormation's: {', '.join(missing)} missing; only CloudFormation calls "
            "this function, for the custom resources of product.yaml and portfolio.yaml"
        )
    if event["RequestType"] not in get_args(RequestType):
        raise ValueError(f"the event's RequestType is none of {', '.join(get_args(RequestType))}")
    return Request(
        request_type=event["RequestType"],
        stack_id=event["StackId"],
        request_id=event["RequestId"],
        logical_id=event["LogicalResourceId"],
        resource_type=event["ResourceType"],
        response_url=event["ResponseURL"],
        physical_id=str(event.get("PhysicalResourceId") or ""),
        properties=_map(event, "ResourceProperties"),
        old_properties=_map(event, "OldResourceProperties"),
    )


_TEXTS = ("RequestType", "StackId", "RequestId", "LogicalResourceId", "ResourceType", "ResponseURL")


def _map(event: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    value = event.get(member) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"the event's {member} is no map")  # noqa: TRY004  as for every other fault of the event
    return value
