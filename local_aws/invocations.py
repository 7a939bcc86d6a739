"""Asynchronous invocations of functions: attempted again after a failure, and told to where failures go.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_aws.clock import Clock
from local_aws.loopback import Loopback
from local_aws.store import Scope

RETRY_DELAYS = (60.0, 120.0)  # AWS's seconds between the attempts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Invocation:
    """One event for a function.

    Args:
        arn: the function's, without a qualifier.
        version: the version that runs.
        run: attempts it once; answers whether that failed, and what the function answered.
        retries: how many attempts may follow the first, 0 to 2.
        oldest: AWS's seconds after which no further attempt is made.
        on_success, on_failure: ARNs of the destinations, None for nowhere.
        dead_letters: ARN of the function's own dead-letter queue or topic, None for none.
    """

    arn: str
    version: str
    event: Any
    run: Callable[[], tuple[bool, Any]]
    retries: int = 2
    oldest: float = 21600.0
    on_success: str | None = None
    on_failure: str | None = None
    dead_letters: str | None = None

    @property
    def scope(self) -> Scope:
        parts = self.arn.split(":")
        return Scope(account=parts[4], region=parts[3])


class AsynchronousInvocations:
    """Runs invocations that nobody waits for, each in a thread of its own.

    Args:
        loopback: clients that destinations are told with.
        clock: the delays between attempts go by it.
    """

    def __init__(self, loopback: Loopback, clock: Clock) -> None:
        self._loopback = loopback
        self._clock = clock
        self._stopping = threading.Event()

    def start(self, invocation: Invocation) -> None:
        threading.Thread(target=self._run, args=(invocation,), daemon=True, name=f"async {invocation.arn}").start()

    def stop(self) -> None:
        """Attempt nothing more."""
        self._stopping.set()

    def _run(self, invocation: Invocation) -> None:
        try:
            attempts, condition, failed, answer = self._attempt(invocation)
            if condition != "Stopped":
                self._tell(invocation, attempts, condition, failed, answer)
        except Exception:
            if not self._stopping.is_set():
                logger.exception("The asynchronous invocation of %s ended unexpectedly", invocation.arn)

    def _attempt(self, invocation: Invocation) -> tuple[int, str, bool, Any]:
        """Returns how many attempts there were, why there were no more, and how the last one ended."""
        began = self._clock.now()
        attempts = 0
        while True:
            failed, answer = invocation.run()
            attempts += 1
            if not failed:
                return attempts, "Success", failed, answer
            if attempts > invocation.retries:
                return attempts, "RetriesExhausted", failed, answer
            delay = RETRY_DELAYS[attempts - 1]
            if self._clock.now() + delay - began > invocation.oldest:
                return attempts, "EventAgeExceeded", failed, answer
            if self._clock.sleep(delay, self._stopping):
                return attempts, "Stopped", failed, answer

    def _tell(self, invocation: Invocation, attempts: int, condition: str, failed: bool, answer: Any) -> None:
        request_id = str(uuid.uuid4())
        if destination := invocation.on_failure if failed else invocation.on_success:
            record = _record(invocation, request_id, attempts, condition, failed, answer)
            self._send(invocation, destination, record)
        if failed and invocation.dead_letters:
            error = answer.get("errorMessage", "") if isinstance(answer, dict) else str(answer)
            attributes = {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": error[:1024] or "unknown"}
            self._send(invocation, invocation.dead_letters, invocation.event, attributes)

    def _send(
        self, invocation: Invocation, destination: str, body: Any, attributes: dict[str, str] | None = None
    ) -> None:
        send(self._loopback, invocation.scope, destination, body, attributes or {})


def send(loopback: Loopback, scope: Scope, destination: str, body: Any, attributes: dict[str, str]) -> None:
    """Send JSON to a queue, topic, function or event bus by its ARN, as AWS's services send to destinations.

    Args:
        attributes: message attributes, for a queue or topic.
    """
    service, name = destination.split(":")[2], destination.rpartition(":")[2]
    text = json.dumps(body)
    message_attributes = {key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()}
    client = loopback.client(service, scope)
    if service == "sqs":
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=text, MessageAttributes=message_attributes)
    elif service == "sns":
        client.publish(TopicArn=destination, Message=text, MessageAttributes=message_attributes)
    elif service == "lambda":
        client.invoke(FunctionName=destination, InvocationType="Event", Payload=text)
    else:
        raise ValueError(f"{destination} is no destination: give the ARN of an SQS queue, SNS topic or Lambda function")


def _record(
    invocation: Invocation, request_id: str, attempts: int, condition: str, failed: bool, answer: Any
) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""
    response: dict[str, Any] = {"statusCode": 200, "executedVersion": invocation.version}
    return {
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{invocation.arn}:{invocation.version}",
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": invocation.event,
        "responseContext": response | ({"functionError": "Unhandled"} if failed else {}),
        "responsePayload": answer,
    }
