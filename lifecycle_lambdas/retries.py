"""A queue's message that a function failed at: when it comes again, and since when it fails.

It comes again soon, not at the queue's long visibility time-out. To Lambda such a call is a success (the function's
answer names the message), so that none of its own metrics tells of it: ours does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas import metrics
from lifecycle_lambdas.log import log


def seconds_until(record: Mapping[str, Any], first: int, last: int) -> int:
    """Twice as long every time, to a limit.

    Args:
        record: of the event that SQS gives to a function.
        first, last: seconds after the first try, and at most.
    """
    tries = int(record["attributes"]["ApproximateReceiveCount"])
    return min(first * 2 ** (tries - 1), last)


def counted(function: str, now: datetime, *records: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a failure's log line from which CloudWatch learns for how long its messages fail; the longest.

    What fails once and succeeds seconds later is a small value, so an alarm can wait for a cause that lasts.

    Args:
        function: its name without "modelyard-".
        records: of the event that SQS gives to a function.
    """
    seconds = max((_seconds_since_the_first_try(record, now) for record in records), default=0.0)
    return metrics.embedded(metrics.FAILING, seconds, "Seconds", now, **{metrics.FUNCTION: function})


def _seconds_since_the_first_try(record: Mapping[str, Any], now: datetime) -> float:
    """Not since it was sent: it may have waited for a function that was stopped. 0 where the record does not say it,
    since counting a failure must not fail.
    """
    first = record.get("attributes", {}).get("ApproximateFirstReceiveTimestamp", "")  # milliseconds since 1970
    return max(now.timestamp() - int(first) / 1000, 0.0) if first.isdecimal() else 0.0


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
