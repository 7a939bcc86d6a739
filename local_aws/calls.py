"""What every operation of a local_aws service is given and may raise."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from local_aws.store import Scope

Request = dict[str, Any]
Response = dict[str, Any]


class ServiceError(Exception):
    """An error that the client gets as AWS would send it.

    Args:
        code: the error code, such as "ValidationException" or "ResourceNotFound".
        message: names the input, what is wrong with it and what to do.
        status: the HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def validation_error(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


@dataclass(frozen=True)
class Call:
    """Who calls, and where.

    Args:
        caller: ARN and id of the calling user or role session; None for the account itself.
    """

    scope: Scope
    access_key: str
    caller: tuple[str, str] | None = None

    def arn(self, resource: str) -> str:
        """The ARN of one of SageMaker's resources, such as "pipeline/churn-dev", in the caller's account and Region."""
        return f"arn:aws:sagemaker:{self.scope.region}:{self.scope.account}:{resource}"

    @property
    def user_context(self) -> dict[str, Any]:
        """CreatedBy and LastModifiedBy, as Describe calls answer them outside a Studio domain."""
        arn, principal = self.caller or (f"arn:aws:iam::{self.scope.account}:root", self.scope.account)
        return {"IamIdentity": {"Arn": arn, "PrincipalId": principal}}


Operation = Callable[[Call, Request], Response]


def page(
    items: Sequence[Any], request: Request, default: int = 10, position: Callable[[Any], Any] | None = None
) -> tuple[list[Any], dict[str, str]]:
    """One page of a list operation: the items, and {"NextToken": ...} while there are more.

    Args:
        items: everything that matches, in the order asked for.
        request: its MaxResults and NextToken are obeyed.
        default: the page's length without MaxResults, as AWS documents it for the operation.
        position: what the items are sorted by (ascending or descending), different for each: a number, a string or a
            list of them. A page then begins after the last item of the page before, so that deleting what a page
            answered, or creating something meanwhile, makes the next page neither skip nor repeat anything. Without
            it pages are counted, which does for lists that do not change.

    Raises:
        ServiceError: ValidationException for a token that no list call gave out.
    """
    start = 0
    if token := request.get("NextToken"):
        try:
            last_mark = json.loads(base64.urlsafe_b64decode(token))
            start = int(last_mark["start"]) if position is None else _index_after(items, position, last_mark)
        except (ValueError, KeyError, TypeError) as error:  # binascii.Error is a ValueError
            raise validation_error("Invalid NextToken: use the one that the previous page answered.") from error
    end = start + request.get("MaxResults", default)
    if end >= len(items):
        return list(items[start:]), {}
    mark: dict[str, Any] = {"start": end}
    if position is not None:
        mark = {"after": position(items[end - 1]), "descending": position(items[end - 1]) > position(items[end])}
    return list(items[start:end]), {"NextToken": base64.urlsafe_b64encode(json.dumps(mark).encode()).decode()}


def _index_after(items: Sequence[Any], position: Callable[[Any], Any], mark: dict[str, Any]) -> int:
    """Where the items begin that come after the mark of the page before."""
    after, descending = mark["after"], mark["descending"]
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        here = position(items[middle])
        if here < after if descending else here > after:
            high = middle
        else:
            low = middle + 1
    return low
