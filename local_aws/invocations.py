"""Asynchronous invocations of functions: attempted again after a failure, and told to where failures go.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

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
        event: what it is invoked with; JSON.
        role: ARN of the function's role: as it destinations are told.
        run: attempts it once; answers whether that failed, and what the function answered.
        retries: how many attempts may follow the first, 0 to 2.
        oldest: AWS's seconds after which no further attempt is made.
        on_success, on_failure: ARNs of the destinations, None for nowhere.
        dead_letters: ARN of the function's own dead-letter queue or topic, None for none.
    """

    arn: str
    version: str
    role: str
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
        kept: remembers, by a key for each, the invocations that have not ended: `resume` goes on with them after the
            server's end. An attempt that was under way then is made again.
    """

    def __init__(self, loopback: Loopback, clock: Clock, kept: MutableMapping[str, Any] | None = None) -> None:
        self._loopback = loopback
        self._clock = clock
        self._kept = {} if kept is None else kept
        self._stopping = threading.Event()

    def start(self, invocation: Invocation) -> None:
        """Invoke the function; when this returns, the invocation is kept."""
        key, began = str(uuid.uuid4()), self._clock.now()
        self._keep(key, invocation, began, 0, began)
        self._start(key, invocation, began, 0, began)

    def resume(self, find: Callable[[str, str, Any], Invocation | None]) -> None:
        """Go on with what the last server had not ended.

        Args:
            find: the invocation of a function (its ARN, a version, the event); None when there is none any more.
        """
        for key, left in list(self._kept.items()):
            invocation = find(left["arn"], left["version"], left["event"])
            if invocation is None:
                logger.warning("There is no function %s any more: an event for it is lost", left["arn"])
                del self._kept[key]
            else:
                self._start(key, invocation, left["began"], left["attempts"], left["next"])

    def stop(self) -> None:
        """Attempt nothing more."""
        self._stopping.set()

    def _keep(self, key: str, invocation: Invocation, began: float, attempts: int, following: float) -> None:
        arn, version, event = invocation.arn, invocation.version, invocation.event
        times = {"began": began, "attempts": attempts, "next": following}
        self._kept[key] = {"arn": arn, "version": version, "event": event, **times}

    def _start(self, key: str, invocation: Invocation, began: float, attempts: int, following: float) -> None:
        arguments = (key, invocation, began, attempts, following)
        threading.Thread(target=self._run, args=arguments, daemon=True, name=f"async {invocation.arn}").start()

    def _run(self, key: str, invocation: Invocation, began: float, attempts: int, following: float) -> None:
        try:
            attempts, condition, failed, answer = self._attempt(key, invocation, began, attempts, following)
            if condition == "Stopped":
                return
            self._tell(invocation, attempts, condition, failed, answer)
        except Exception:
            if self._stopping.is_set():
                return
            logger.exception("The asynchronous invocation of %s ended unexpectedly", invocation.arn)
        del self._kept[key]

    def _attempt(
        self, key: str, invocation: Invocation, began: float, attempts: int, following: float
    ) -> tuple[int, str, bool, Any]:
        """Returns how many attempts there were, why there were no more, and how the last one ended.

        Args:
            began: when the first one was, by the clock.
            attempts: that there were already.
            following: when the next one is due.
        """
        while True:
            if self._clock.sleep(following - self._clock.now(), self._stopping):
                return attempts, "Stopped", True, None
            failed, answer = invocation.run()
            if self._stopping.is_set() and failed:  # because the server goes, not by itself
                return attempts, "Stopped", failed, answer
            attempts += 1
            if not failed:
                return attempts, "Success", failed, answer
            if attempts > invocation.retries:
                return attempts, "RetriesExhausted", failed, answer
            delay = RETRY_DELAYS[attempts - 1]
            if self._clock.now() + delay - began > invocation.oldest:
                return attempts, "EventAgeExceeded", failed, answer
            following = self._clock.now() + delay
            self._keep(key, invocation, began, attempts, following)

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
        try:
            send(self._loopback, invocation.scope, destination, body, attributes or {}, invocation.role)
        except ClientError as error:
            logger.warning("%s could not tell %s how an event ended: %s", invocation.arn, destination, error)


def send(
    loopback: Loopback, scope: Scope, destination: str, body: Any, attributes: dict[str, str], role: str | None = None
) -> None:
    """Send JSON to a queue, topic, function or event bus by its ARN, as AWS's services send to destinations.

    Args:
        attributes: message attributes, for a queue or topic.
        role: ARN of the role that sends.

    Raises:
        ClientError: it is not there, or the role may not.
        ValueError: it is none of these.
    """
    service, name = destination.split(":")[2], destination.rpartition(":")[2]
    text = json.dumps(body)
    message_attributes = {key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()}
    if service not in ("sqs", "sns", "lambda", "events"):
        raise ValueError(f"{destination} is no destination: give the ARN of a queue, topic, function or event bus")
    client = loopback.client(service, scope, role)
    if service == "sqs":
        # Its URL is not asked for: that would take a right more.
        url = f"{loopback.endpoint}/{destination.split(':')[4]}/{name}"
        client.send_message(QueueUrl=url, MessageBody=text, MessageAttributes=message_attributes)
    elif service == "sns":
        client.publish(TopicArn=destination, Message=text, MessageAttributes=message_attributes)
    elif service == "lambda":
        client.invoke(FunctionName=destination, InvocationType="Event", Payload=text)
    else:
        # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        entry = {"Source": "lambda", "DetailType": "Lambda Function Invocation Result", "Detail": text}
        client.put_events(Entries=[{**entry, "EventBusName": destination}])


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
