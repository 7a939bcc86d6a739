"""The function behind the queue: approvals and rejections, endpoints' and alarms' changes, and the schedules.

Its answer names the messages that failed, which come again (ReportBatchItemFailures). A message that is of no use to
us is done with; one that cannot be read fails alone, and ends in the dead letter queue.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from lifecycle_lambdas import events, looking
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt, LookAtMany, Removal, VersionChanged
from lifecycle_lambdas.log import log
from lifecycle_lambdas.recording import endpoint_of_group, record_change
from lifecycle_lambdas.records import Entry
from lifecycle_lambdas.removal import record_removal
from lifecycle_lambdas.retries import come_again, counted, seconds_until
from lifecycle_lambdas.settings import Settings

FUNCTION = "deploy"  # in metrics
FEW = 3  # endpoints that one call looks at itself; more of them each get a message, so that their times do not add up
ENOUGH = 10.0  # seconds that must be left to begin with another endpoint
FIRST_RETRY, LAST_RETRY = 2, 300  # seconds until a failed message comes again: twice as long every time, to a limit
MOST_PER_BATCH = 10  # SQS API reference, SendMessageBatch


@cache
def _clients() -> Clients:
    return Clients()


def handler(event: dict[str, Any], lambda_context: Any) -> dict[str, Any]:
    seconds = lambda_context.get_remaining_time_in_millis() / 1000
    return respond(Context.of(Settings.from_environment(), _clients(), lambda_context.aws_request_id, seconds), event)


def respond(context: Context, event: dict[str, Any]) -> dict[str, Any]:
    """The function's answer to a batch of the queue's messages."""
    failed = handle(context, event["Records"])
    for record in event["Records"]:
        if record["messageId"] in failed:
            wait = seconds_until(record, FIRST_RETRY, LAST_RETRY)
            come_again(context.client("sqs"), context.settings.queue_url, record, wait)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failed]}


@dataclass
class _Wanted:
    """A look that messages ask for, and the entries that were written from them."""

    messages: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    missed: bool = False
    asking: bool = False


def handle(context: Context, records: list[dict[str, Any]]) -> list[str]:
    """Does what the messages ask for, each endpoint once; answers the ids of those that must come again."""
    failed: dict[str, None] = {}
    wanted: dict[str, _Wanted] = {}
    for record in records:
        message = record["messageId"]
        try:
            for look, entry in _read(context, record):
                at = wanted.setdefault(look.endpoint, _Wanted())
                at.messages.append(message)
                at.missed |= look.missed
                at.asking |= look.asking
                at.entries += [] if entry is None else [entry]
        except Exception as error:  # noqa: BLE001  whatever it is, it is this message's alone
            count = counted(FUNCTION, context.now(), record)
            _log_failure("a message failed: comes again", error, message_id=message, **count)
            failed[message] = None
    for endpoint, at in wanted.items():
        if context.remaining() < ENOUGH:
            log("no time left: comes again", endpoint=endpoint)
            failed |= dict.fromkeys(at.messages)
            continue
        try:
            looking.look(context, LookAt(endpoint, at.missed, at.asking), at.entries)
        except Exception as error:  # noqa: BLE001  the other endpoints are looked at all the same
            its_records = [record for record in records if record["messageId"] in at.messages]
            count = counted(FUNCTION, context.now(), *its_records)
            _log_failure("looking failed: comes again", error, endpoint=endpoint, **count)
            failed |= dict.fromkeys(at.messages)
    return list(failed)


def _read(context: Context, record: dict[str, Any]) -> list[tuple[LookAt, Entry | None]]:
    """The looks that a message asks for here and now, with the entry that was written from it."""
    event = events.parse(record["body"])
    if event is None:
        log("not for us", body=record["body"][:300])
        return []
    if isinstance(event, LookAt):
        return [(event, None)]
    if isinstance(event, LookAtMany):
        looks = looking.endpoints(context, event)
        if len(looks) > FEW:
            _send(context, looks)
            return []
        return [(look, None) for look in looks]
    if isinstance(event, Removal):
        # Lambda developer guide, "Using Lambda with Amazon SQS": when it was sent, in milliseconds since 1970
        sent = datetime.fromtimestamp(int(record["attributes"]["SentTimestamp"]) / 1000, UTC)
        state = record_removal(context, event, sent)
        return [] if state is None else [(LookAt(state.endpoint), None)]
    return _version_changed(context, event)


def _version_changed(context: Context, change: VersionChanged) -> list[tuple[LookAt, Entry | None]]:
    if change.approval_changed is False:
        return []
    state = endpoint_of_group(context, change.group, change.package_arn)
    if state is None:
        log("not a group of ours", group=change.group)
        return []
    entry = record_change(context, state, change)
    return [] if entry is None else [(LookAt(state.endpoint), entry)]


def _send(context: Context, looks: list[LookAt]) -> None:
    """Raises RuntimeError when SQS did not take all of them."""
    for start in range(0, len(looks), MOST_PER_BATCH):
        batch = [
            {"Id": str(index), "MessageBody": events.message(look)}
            for index, look in enumerate(looks[start : start + MOST_PER_BATCH])
        ]
        answer = context.client("sqs").send_message_batch(QueueUrl=context.settings.queue_url, Entries=batch)
        if answer.get("Failed"):
            raise RuntimeError(
                f"SQS did not take {len(answer['Failed'])} messages: {answer['Failed'][0].get('Message')}"
            )


def _log_failure(message: str, error: Exception, **fields: Any) -> None:
    trace = "".join(traceback.format_exception(error))
    log(message, level="ERROR", error=f"{type(error).__name__}: {error}", traceback=trace, **fields)
