"""Does one planned call, and says in few words how AWS answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from botocore.exceptions import ClientError

from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.observe import not_there

# "was there": somebody made or removed it before, perhaps ourselves, and were stopped before it was recorded
Outcome = Literal["done", "was there", "was gone"]

# A request that AWS will never take, whoever sends it: the stage file's or the version's fault.
_REQUESTS_FAULT = ("ValidationException", "ValidationError", "InvalidParameterValue", "InvalidParameterCombination")
# How SageMaker says that the model's role is not right: it cannot be assumed, or may not read the model's data.
_ROLES = ("assume", "could not access model data")
# What passes by itself: whoever looks again does it again.
_PASSING = ("Throttling", "ThrottlingException", "TooManyRequestsException", "ConcurrentUpdateException")
# How SageMaker says that somebody else, such as auto scaling, is changing the endpoint at this moment.
_CHANGING = ("in-progress", "in progress")
# How the services say that something of the name exists.
_EXISTS = ("already exist", "already been created", "cannot create already existing")


class Refused(Exception):
    """AWS does not do it.

    Args:
        code: AWS's error code.
        message: in AWS's words.
    """

    def __init__(self, call: AwsCall, code: str, message: str) -> None:
        shown = re.sub(r"(enum value set: )\[[^\]]*\]", r"\1[...]", message)  # hundreds of instance types, for one
        super().__init__(f"{call.operation} of {call.resource}: {code}: {shown}")
        self.code = code

    @property
    def of_the_request(self) -> bool:
        """Whether it is the request's fault, and not that of permissions, quotas or of a role that is not right."""
        return self.code in _REQUESTS_FAULT and not any(part in str(self).lower() for part in _ROLES)

    @property
    def of_the_moment(self) -> bool:
        """Whether something else is under way, after which the same request is taken."""
        return self.code in _REQUESTS_FAULT and any(part in str(self).lower() for part in _CHANGING)


def passing(error: ClientError) -> bool:
    """Whether AWS cannot do it now: too many calls, or a fault of its own."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in _PASSING or status >= 500


def execute(call: AwsCall, clients: Callable[[str], Any]) -> Outcome:
    """Do it.

    Args:
        clients: boto3 clients by the service's name.

    Raises:
        Refused: AWS does not do it.
        ClientError: AWS cannot do it now: too many calls, or a fault of its own.
    """
    try:
        getattr(clients(call.service), call.operation)(**call.request)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        exists = code == "ConflictException" or any(part in message.lower() for part in _EXISTS)
        if call.operation.startswith("create_") and exists:
            return "was there"
        if call.operation.startswith(("delete_", "deregister_")) and not_there(error):
            return "was gone"
        if passing(error):
            raise
        raise Refused(call, code, message) from error
    return "done"
