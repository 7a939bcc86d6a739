"""Endpoints: none can be made here, and so none is ever found. What asks for one is told so in AWS's words."""

from __future__ import annotations

from local_aws.calls import Call, Operation, Request, Response, validation_error


def operations() -> dict[str, Operation]:
    return {"DescribeEndpoint": describe_endpoint}


def describe_endpoint(call: Call, request: Request) -> Response:
    """Raise the ValidationException that AWS answers for an endpoint that is not there."""
    raise validation_error(f'Could not find endpoint "{call.arn("endpoint/" + request["EndpointName"].lower())}".')
