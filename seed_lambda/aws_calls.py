"""What is common to calls of AWS: what is not there, what passes by itself, tags, pauses between looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from seed_lambda.context import Context

_NOT_THERE = ("not exist", "not find", "not found", "cannot find")
# Each service has its own word for it. As botocore has them for itself (ThrottledRetryableChecker in
# retries/standard.py): tests/seed_lambda/test_aws_calls.py compares the two.
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
# Seconds of the time that are kept for the calls of one round.
FOR_A_ROUND = 10.0


def is_missing(error: ClientError) -> bool:
    """Whether AWS says that something does not exist; each service has its own way."""
    code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "").lower()
    if code in ("ResourceNotFound", "ResourceNotFoundException", "DashboardNotFoundError"):
        return True
    return code == "ValidationException" and any(part in text for part in _NOT_THERE)


def is_gone(error: ClientError, is_there: Callable[[], bool]) -> bool:
    """Whether what was to be deleted is not there.

    The function's permissions ask for the tags of what it deletes. What is gone has none, so a deletion whose first
    answer was lost can be denied when boto3 asks again.

    Args:
        is_there: looks; asked only when the error alone does not say it.
    """
    return is_missing(error) or (error.response["Error"]["Code"] == "AccessDeniedException" and not is_there())


def is_throttled(error: ClientError) -> bool:
    """Whether AWS still says "too many calls" after boto3's own tries."""
    return error.response["Error"]["Code"] in _THROTTLED


def is_passing(error: ClientError) -> bool:
    """Whether AWS cannot do it now, and can in a moment."""
    return is_throttled(error) or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500


def found(call: Callable[..., dict[str, Any]], **request: Any) -> dict[str, Any] | None:
    """The call's answer, or None when what it asks for is not there."""
    try:
        return call(**request)
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def tags(context: Context, arn: str) -> dict[str, str]:
    """Tags of a resource of SageMaker's; empty for one that is not there any more."""
    pages = context.client("sagemaker").get_paginator("list_tags").paginate(ResourceArn=arn)
    try:
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    except ClientError as error:
        if is_missing(error):
            return {}
        raise


class Pauses:
    """Pauses that become longer, as long as the time suffices.

    Args:
        seconds: of the pauses; the last one again and again.
    """

    def __init__(self, context: Context, seconds: Sequence[float]) -> None:
        self._context = context
        self._seconds = seconds
        self._next = 0

    def fits(self) -> bool:
        """Whether there is time for the next pause and a round of calls after it."""
        return self._context.remaining() > self._seconds[self._next] + FOR_A_ROUND

    def wait(self) -> None:
        """Raises OutOfTime when there is no time for it."""
        self._context.pause(self._seconds[self._next])
        self._next = min(self._next + 1, len(self._seconds) - 1)

    def begin_anew(self) -> None:
        """The next pause is the shortest again."""
        self._next = 0
