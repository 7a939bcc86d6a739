"""What lies in the dead letter queue: what each letter was, why it lies there, and where it goes back to. Pure, but for
reading, sending and deleting.

Four services put something there, each in its own form:

- SQS a queue's message that was received too often: as it was, with DeadLetterQueueSourceArn;
- EventBridge an event that it could not deliver: as it was, with RULE_ARN, TARGET_ARN, ERROR_CODE and ERROR_MESSAGE
  (EventBridge user guide, "Using dead-letter queues to process undelivered events");
- Lambda the event of a function that failed: {"requestContext", "requestPayload", "responsePayload", ...} (Lambda
  developer guide, "Capturing records of Lambda asynchronous invocations");
- SNS a notification that the function `notify` did not take: {"Type": "Notification", ...} (SNS developer guide,
  "Amazon SNS dead-letter queues").

Whoever writes into the queue says in a letter what is done, so that it takes none from a project's roles
(servicecatalog/platform.yaml, FailedQueuePolicy). What projects' schedules could not start lies in another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import events
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt, LookAtMany, Removal, VersionChanged
from lifecycle_lambdas.records import Entry

OURS = "modelyard-"  # what the names of the platform's queues and functions begin with
MOST = 1000  # letters that are read at once
HIDDEN = 300  # seconds that a letter is hidden from others, while somebody thinks about it
AT_ONCE = 10  # SQS API reference, ReceiveMessage
NOTIFY_PARAMETER = "/modelyard/functions/notify"


@dataclass(frozen=True)
class Letter:
    """
    Args:
        receipt: with which it is deleted, or shown to others again.
        sent: when it was sent first, UTC.
        to: the ARN of the queue or the function that it goes back to; "" where nobody knows.
        content: what is sent there: a message's body, or a function's event as JSON.
        what: in words.
        why: it lies here; as far as the letter itself says.
        removal: of a message that an endpoint be removed.
        sender: who put it into its first queue. Of a role its unique id and the session's name, which is a function's
            own (SQS API reference, ReceiveMessage: SenderId).
    """

    receipt: str
    sent: datetime
    to: str
    content: str
    what: str
    why: str
    removal: Removal | None = None
    sender: str = ""

    @property
    def acts(self) -> bool:
        """Whether more than a look comes of it: it takes an endpoint away, or is a function's event as it stands."""
        return self.removal is not None or ":lambda:" in self.to

    @property
    def is_known(self) -> bool:
        return bool(self.to)

    @property
    def target(self) -> str:
        """The name of the queue or the function."""
        return self.to.rpartition(":")[2]


def read(message: dict[str, Any], queue_arn: str, notify_arn: str) -> Letter:
    """A letter from ReceiveMessage's answer. Pure.

    Args:
        message: with all its attributes.
        queue_arn: of the dead letter queue: nothing goes to another account or Region, whatever the letter says.
        notify_arn: of the function that the topic's messages go to.
    """
    body, attributes = message["Body"], message.get("Attributes", {})
    told = {name: one.get("StringValue", "") for name, one in message.get("MessageAttributes", {}).items()}
    content = _object(body)
    to, sent_on, why = "", body, "it does not say why"
    if source := attributes.get("DeadLetterQueueSourceArn"):
        to, why = source, "it failed every time that it was received; the function's log says why"
    elif "TARGET_ARN" in told or "ERROR_CODE" in told:
        to = told.get("TARGET_ARN", "")
        why = ": ".join(told[name] for name in ("ERROR_CODE", "ERROR_MESSAGE") if told.get(name)) or why
    elif "requestPayload" in content:
        context = _known(content.get("requestContext"))
        # with the function's version or alias at its end
        to, sent_on = (
            ":".join(str(context.get("functionArn", "")).split(":")[:7]),
            json.dumps(content["requestPayload"]),
        )
        answer = content.get("responsePayload")
        why = str(answer.get("errorMessage")) if isinstance(answer, dict) else str(context.get("condition"))
    elif content.get("Type") == "Notification" and "TopicArn" in content:
        to, sent_on = notify_arn, json.dumps({"Records": [{"EventSource": "aws:sns", "Sns": content}]})
        why = "the function that posts to the chat could not be called"
    what, removal = _what(sent_on if "requestPayload" in content else body)
    return Letter(
        receipt=message["ReceiptHandle"],
        sent=datetime.fromtimestamp(int(attributes.get("SentTimestamp", 0)) / 1000, UTC),
        to=to if _is_ours(to, queue_arn) else "",
        content=sent_on,
        what=what,
        why=why,
        removal=removal,
        sender=str(attributes.get("SenderId", "")),
    )


def outdated(letter: Letter, entries: Callable[[str], Iterator[Entry]]) -> str | None:
    """Why the letter must not be sent again; None: it may be. Pure.

    A message sent again has a new time. A removal counts by its time, so it would take away what was approved since.

    Args:
        entries: an endpoint's, the newest first.
    """
    if letter.removal is None:
        return None
    for entry in entries(letter.removal.endpoint):
        if entry.at <= letter.sent:
            return None
        if entry.kind in ("approve", "go-back"):
            return f"a version was approved since, at {entry.at:%Y-%m-%d %H:%M:%S} UTC"
    return None


class DeadLetters:
    """The queue modelyard-failed.

    Raises botocore's ClientError for what AWS refuses.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sqs = context.client("sqs")
        self.arn = _dead_letter_arn(self._sqs, context.settings.queue_url)
        self._url = self._url_of(self.arn)

    def all(self) -> Iterator[Letter]:
        """The letters, hidden from others until they are deleted or released, at most MOST of them."""
        notify, found = self._notify_arn(), 0
        while found < MOST:
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=AT_ONCE,
                VisibilityTimeout=HIDDEN,
                WaitTimeSeconds=1,  # long polling asks all of SQS's servers
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                return
            for message in answer["Messages"]:
                found += 1
                yield read(message, self.arn, notify)

    def count(self) -> int:
        """About how many there are, the hidden ones too."""
        wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=wanted)["Attributes"]
        return sum(int(number) for number in found.values())

    def replay(self, letter: Letter) -> None:
        """Send it where it came from, and delete it; in this order, so that it is there twice rather than not at all.

        Twice does no harm: what the functions do follows from what AWS says, not from how often they are told.
        """
        if ":lambda:" in letter.to:
            self._context.client("lambda").invoke(
                FunctionName=letter.to, InvocationType="Event", Payload=letter.content.encode()
            )
        else:
            self._sqs.send_message(QueueUrl=self._url_of(letter.to), MessageBody=letter.content)
        self.delete(letter)

    def delete(self, letter: Letter) -> None:
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=letter.receipt)

    def release(self, letter: Letter) -> None:
        """Let others see it again now, as far as that can be done: after HIDDEN seconds they do so by themselves, and
        SQS refuses what is hidden no more (SQS API reference, ChangeMessageVisibility: MessageNotInflight)."""
        with suppress(ClientError):
            self._sqs.change_message_visibility(QueueUrl=self._url, ReceiptHandle=letter.receipt, VisibilityTimeout=0)

    def _url_of(self, arn: str) -> str:
        return str(self._sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])

    def _notify_arn(self) -> str:
        pages = self._context.client("ssm").get_paginator("get_parameters_by_path")
        path = NOTIFY_PARAMETER.rpartition("/")[0]
        found = {one["Name"]: one["Value"] for page in pages.paginate(Path=path) for one in page["Parameters"]}
        return str(found.get(NOTIFY_PARAMETER, ""))


def _dead_letter_arn(sqs: Any, queue_url: str) -> str:
    """Of the queue that the platform's events end in."""
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"])
    return str(json.loads(answer["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"])


def _is_ours(arn: str, queue_arn: str) -> bool:
    """Whether it is a queue or a function of this platform, by its name, its account and its Region."""
    parts, own = arn.split(":"), queue_arn.split(":")
    named = len(parts) >= 6 and parts[2] in ("sqs", "lambda") and parts[-1].startswith(OURS)
    return named and parts[3:5] == own[3:5] and arn != queue_arn


def _what(body: str) -> tuple[str, Removal | None]:
    """What a message asks for, in words."""
    content = _object(body)
    if content.get("Type") == "Notification":
        return f"message: {content.get('Subject') or content.get('Message', '')}"[:200], None
    if isinstance(content.get("Records"), list):
        subjects = [_known(_known(record).get("Sns")).get("Subject") for record in content["Records"]]
        return f"message: {', '.join(map(str, filter(None, subjects))) or 'without a subject'}"[:200], None
    if "scheduled_time" in content:
        return f"batch run of {content.get('endpoint')} at {content['scheduled_time']}", None
    if "test" in content:
        return f"endpoint tests of {content['test']}, deployment {content.get('number')}", None
    try:
        event = events.parse(body)
    except events.BrokenEvent as error:
        return f"cannot be read: {error}"[:200], None
    if isinstance(event, VersionChanged):
        return f"{event.group}/{event.package_arn.rpartition('/')[2]} is {event.approval}", None
    if isinstance(event, LookAt):
        return f"look at {event.endpoint}", None
    if isinstance(event, LookAtMany):
        return f"look at what is {event.which}" if event.which == "under-way" else "look at everything", None
    if isinstance(event, Removal):
        return f"remove {event.endpoint}: {event.why}"[:200], event
    return f"{content.get('detail-type', 'unknown')}: {json.dumps(content.get('detail', {}))}"[:200], None


def _object(text: str) -> dict[str, Any]:
    """The JSON object; empty of anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return _known(found)


def _known(found: Any) -> dict[str, Any]:
    """A dictionary as it is; empty of anything else: who writes into the queue writes what he likes."""
    return found if isinstance(found, dict) else {}
