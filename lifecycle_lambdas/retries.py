"""When a queue's message that a function failed at comes again: soon, not at the queue's long visibility time-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas.log import log


def seconds_until(record: Mapping[str, Any], first: int, last: int) -> int:
    """Twice as long every time, to a limit.

    Args:
        record: of the event that SQS gives to a function.
        first, last: seconds after the first try, and at most.
    """
    tries = int(record["attributes"]["ApproximateReceiveCount"])
    return min(first * 2 ** (tries - 1), last)


def come_again(sqs: Any, queue_url: str, record: Mapping[str, Any], seconds: int) -> None:
    """Let the message come again then. That it cannot be asked for is logged, and no failure."""
    try:
        sqs.change_message_visibility(
            QueueUrl=queue_url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds
        )
    except (ClientError, BotoCoreError) as error:
        # it comes again all the same, at the queue's own time
        text = "a failed message's visibility could not be shortened"
        log(text, level="WARNING", message_id=record["messageId"], error=f"{type(error).__name__}: {error}")
