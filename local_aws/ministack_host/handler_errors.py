"""How CloudFormation tells what a resource type's handler was told."""

from __future__ import annotations

import uuid


def handler_message(message: str, code: str) -> str:
    """A resource event's ResourceStatusReason.

    Args:
        message: the service's.
        code: such as "NotFound": https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-test-contract-errors.html
    """
    return f'Resource handler returned message: "{message}" (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})'
