"""CloudFormation's custom resources: what a function is asked, and what counts as its answer.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
"""

from __future__ import annotations

import json
import secrets
import string
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from local_aws.clock import Clock

LONGEST_ANSWER = 4096  # bytes
LONGEST_ID = 1024  # characters
LONGEST_WAIT = 3600  # AWS's seconds; as long as nothing is said, too
# One look at whether the clock was moved; an answer does not wait for it.
GLANCE = 0.05


@dataclass(frozen=True)
class Request:
    """What CloudFormation asks of the function behind a custom resource.

    Args:
        kind: of request.
        stack: the stack's ARN.
        logical_id: in the template.
        type: such as "Custom::Thing".
        properties: as the template gives them, resolved; scalars go out as strings.
        physical_id: of an update or a deletion.
        old_properties: of an update.
        id: the request's.
    """

    kind: Literal["Create", "Update", "Delete"]
    stack: str
    logical_id: str
    type: str
    properties: Mapping[str, Any]
    physical_id: str | None = None
    old_properties: Mapping[str, Any] | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def timeout(self) -> int:
        """For how many of AWS's seconds an answer is awaited.

        Raises:
            RequestFailed: ServiceTimeout is no number from 1 to 3600.
        """
        given = self.properties.get("ServiceTimeout", LONGEST_WAIT)
        text = str(given).strip()
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LONGEST_WAIT:
            raise RequestFailed(f"ServiceTimeout {given}: give a number of seconds from 1 to {LONGEST_WAIT}", None)
        return int(text)

    def event(self, url: str) -> dict[str, Any]:
        """What the function is invoked with.

        Args:
            url: where its answer is awaited.
        """
        event = {
            "RequestType": self.kind,
            "ResponseURL": url,
            "StackId": self.stack,
            "RequestId": self.id,
            "ResourceType": self.type,
            "LogicalResourceId": self.logical_id,
            "ResourceProperties": as_sent(self.properties),
        }
        if self.physical_id is not None:
            event["PhysicalResourceId"] = self.physical_id
        if self.old_properties is not None:
            event["OldResourceProperties"] = as_sent(self.old_properties)
        return event


@dataclass(frozen=True)
class Answer:
    """A success: the resource's id, and what Fn::GetAtt finds."""

    physical_id: str
    data: Mapping[str, Any]


class RequestFailed(Exception):
    """The message is the reason in the stack's event.

    Args:
        physical_id: what a deletion will be sent for; None: the function was not asked, so there is nothing to delete.
    """

    def __init__(self, reason: str, physical_id: str | None) -> None:
        super().__init__(reason)
        self.physical_id = physical_id


class CustomResources:
    """Asks functions and waits for what they answer.

    Args:
        clock: how long an answer is awaited goes by it.
        url: where answers are put; a token of the request's own follows.
    """

    def __init__(self, clock: Clock, url: str) -> None:
        self._clock = clock
        self._url = url
        self._lock = threading.Lock()
        self._awaited: dict[str, _Awaited] = {}  # by token; for ever, since a URL takes what is put there twice
        self._stopping = threading.Event()

    def ask(
        self,
        request: Request,
        invoke: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Invoke the function and wait for its answer, in the thread that calls.

        Args:
            invoke: starts the function with an event and waits for nothing; raises LookupError when there is none.
            cancelled: whether the answer has become of no interest.

        Raises:
            RequestFailed: the function said so, answered what is no answer, or nothing in time; or the server stops.
        """
        timeout, token = request.timeout, secrets.token_urlsafe(32)
        awaited = _Awaited()
        with self._lock:
            self._awaited[token] = awaited
        unnamed = request.physical_id or generated_id(request)
        until = self._clock.now() + timeout
        try:
            invoke(request.event(self._url + token))
        except LookupError as error:
            raise RequestFailed(str(error.args[0]), None) from error
        while (left := until - self._clock.now()) > 0 and not self._stopping.is_set() and not cancelled():
            if awaited.came.wait(min(self._clock.seconds(left), GLANCE)):
                break
        body = awaited.close()
        if body is not None:
            return read_answer(body, request, unnamed)
        if self._stopping.is_set():
            raise RequestFailed("local_aws was stopped while the response was awaited", unnamed)
        if cancelled():
            raise RequestFailed("Resource creation cancelled", unnamed)
        raise RequestFailed(
            "CloudFormation did not receive a response from your Custom Resource. Please check your logs for"
            f" requestId [{request.id}]. If you are using the Python cfn-response module, you may need to update your"
            " Lambda function code so that CloudFormation can attach the updated version.",
            unnamed,
        )

    def put(self, token: str, content_type: str, body: bytes) -> int:
        """What was put to a URL of ours; the HTTP status that S3 answers.

        The first that comes in time counts. The URL is signed for no content type: S3 refuses a request with one.
        """
        with self._lock:
            awaited = self._awaited.get(token)
        if awaited is None or content_type:
            return 403
        awaited.take(body)
        return 200

    @property
    def stopping(self) -> bool:
        """Whether the server stops, so that nothing is to be begun any more."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Wait for nothing more."""
        self._stopping.set()


class _Awaited:
    """The place of one answer."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self._lock = threading.Lock()
        self._open = True
        self._body: bytes | None = None

    def take(self, body: bytes) -> None:
        with self._lock:
            if self._open and self._body is None:
                self._body = body[: LONGEST_ANSWER + 1]
                self.came.set()

    def close(self) -> bytes | None:
        """What came; whatever comes now is too late."""
        with self._lock:
            self._open = False
            body, self._body = self._body, None
            return body


def read_answer(body: bytes, request: Request, unnamed: str) -> Answer:
    """What a function has put, checked against what it was asked.

    Args:
        unnamed: the physical id of a resource whose answer names none.

    Raises:
        RequestFailed: it is a failure, or no answer.
    """
    if len(body) > LONGEST_ANSWER:
        raise RequestFailed("Response object is too long.", unnamed)
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise RequestFailed("Invalid response object: it is not JSON", unnamed) from error
    if not isinstance(answer, dict):
        raise RequestFailed("Invalid response object: it is not a JSON object", unnamed)
    physical_id = answer.get("PhysicalResourceId")
    if not isinstance(physical_id, str) or not physical_id.strip() or len(physical_id) > LONGEST_ID:
        raise RequestFailed("Invalid PhysicalResourceId", unnamed)
    for name, expected in (
        ("StackId", request.stack),
        ("RequestId", request.id),
        ("LogicalResourceId", request.logical_id),
    ):
        if answer.get(name) != expected:
            raise RequestFailed(f"Invalid {name}", unnamed)
    if answer.get("Status") not in ("SUCCESS", "FAILED"):
        raise RequestFailed("Invalid Status: it is neither SUCCESS nor FAILED", physical_id)
    if answer["Status"] == "FAILED":
        # The one wording for all that a provider itself calls a failure.
        reason = answer.get("Reason") or "no reason was given"
        raise RequestFailed(
            "Received response status [FAILED] from custom resource."
            f" Message returned: {reason} (RequestId: {request.id})",
            physical_id,
        )
    data = answer.get("Data")
    if data is not None and not isinstance(data, dict):
        raise RequestFailed("Invalid response object: Data is not a JSON object", physical_id)
    return Answer(physical_id, as_sent(data or {}))


def as_sent(value: Any) -> Any:
    """Properties as they go out, and data as they come in: maps and lists as they are, every scalar as a string."""
    if isinstance(value, Mapping):
        return {key: as_sent(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_sent(each) for each in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def generated_id(request: Request) -> str:
    """The id that CloudFormation itself gives a resource whose creation told it none."""
    suffix = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(12))
    return f"{request.stack.split('/')[1]}-{request.logical_id}-{suffix}"
