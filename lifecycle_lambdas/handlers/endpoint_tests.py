"""The function that asks endpoints what their versions' cases say.

Its answer names the messages that failed, which come again (ReportBatchItemFailures).
"""

from __future__ import annotations

import traceback
from functools import cache
from typing import Any

from lifecycle_lambdas import endpoint_testing
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.log import log
from lifecycle_lambdas.retries import come_again, counted, seconds_until
from lifecycle_lambdas.settings import Settings

FUNCTION = "endpoint-tests"  # in metrics
FIRST_RETRY, LAST_RETRY = 5, 300  # seconds until a failed message comes again: twice as long every time, to a limit


@cache
def _clients() -> Clients:
    return Clients()


def handler(event: dict[str, Any], lambda_context: Any) -> dict[str, Any]:
    seconds = lambda_context.get_remaining_time_in_millis() / 1000
    return respond(Context.of(Settings.from_environment(), _clients(), lambda_context.aws_request_id, seconds), event)


def respond(context: Context, event: dict[str, Any]) -> dict[str, Any]:
    """The function's answer to a batch of the queue's messages."""
    failed = []
    for record in event["Records"]:
        message = record["messageId"]
        try:
            endpoint_testing.handle(context, record["body"])
        except Exception as error:  # noqa: BLE001  whatever it is, it is this message's alone
            trace = "".join(traceback.format_exception(error))
            said = {"message_id": message, "error": str(error), "traceback": trace}
            log("a message failed: comes again", level="ERROR", **said, **counted(FUNCTION, context.now(), record))
            wait = seconds_until(record, FIRST_RETRY, LAST_RETRY)
            come_again(context.client("sqs"), context.settings.tests_queue_url, record, wait)
            failed.append({"itemIdentifier": message})
    return {"batchItemFailures": failed}
