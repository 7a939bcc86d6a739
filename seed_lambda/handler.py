"""The function behind the custom resources: reads the request, does it, and always answers."""

from __future__ import annotations

import os
import threading
import traceback
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from seed_lambda import answer, dispatch
from seed_lambda.answer import Answer
from seed_lambda.context import Clients, Context
from seed_lambda.errors import OutOfTime, SeedError
from seed_lambda.properties import NOTHING_MADE, physical_id
from seed_lambda.request import Request, parse

FOR_THE_ANSWER = 25.0  # seconds of the function's time in which nothing new is begun
FOR_THE_WATCH = 15.0  # seconds before its end at which it is answered even if a call hangs
_LATE = "could not be finished in the function's time"


@cache
def _clients() -> Clients:
    return Clients()


def handler(event: dict[str, Any], lambda_context: Any) -> None:
    """Raises ValueError for an event that is no request, and answer.NotDelivered; Lambda then calls again."""
    seconds = lambda_context.get_remaining_time_in_millis() / 1000
    respond(parse(event), seconds, _clients())


def respond(request: Request, seconds: float, client: Any) -> None:
    """Do what is requested and answer.

    Args:
        seconds: what is left of the function's time.
        client: answers boto3's client of a service by its name.

    Raises:
        answer.NotDelivered: CloudFormation did not take the answer.
    """
    context = Context.of(request, client, seconds - FOR_THE_ANSWER)
    context.log.conceal(request.response_url)
    context.log("began")
    answers = _Answers(context)
    watch = threading.Timer(max(seconds - FOR_THE_WATCH, 0), answers.late)
    watch.daemon = True
    watch.start()
    try:
        result = _result(context)
    finally:
        watch.cancel()
    answers.give(result, max(context.remaining() + FOR_THE_ANSWER - 5, 1))


class _Answers:
    """Gives one answer: the result, or that it came too late, whichever is first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._given = False

    def give(self, result: Answer, seconds: float) -> None:
        """Raises answer.NotDelivered."""
        with self._lock:
            if not self._given:
                answer.send(self._context, result, seconds)
                self._given = True

    def late(self) -> None:
        """A call hangs: without this, CloudFormation would wait until the resource's own time is over."""
        try:
            self.give(_failed(self._context, OutOfTime(_LATE)), FOR_THE_WATCH - 5)
        except answer.NotDelivered as error:
            self._context.log("not answered", level="ERROR", error=str(error))


def _result(context: Context) -> Answer:
    try:
        result = Answer("SUCCESS", _physical_id(context.request), data=dispatch.run(context))
        result.body(context.request)
    except Exception as error:  # noqa: BLE001  whatever it is: without an answer the stack would hang for an hour
        return _failed(context, error, NOTHING_MADE if _has_made_nothing(context) else "")
    return result


def _has_made_nothing(context: Context) -> bool:
    """Whether the Create that fails has certainly made nothing, neither now nor in an earlier try."""
    if context.request.request_type != "Create" or context.changes:
        return False
    try:
        return context.is_first_try()
    except (ClientError, BotoCoreError):
        return False  # then the Delete looks


def _failed(context: Context, error: Exception, marker: str = "") -> Answer:
    told = isinstance(error, SeedError)
    trace = None if told else "".join(traceback.format_exception(error))
    context.log("failed", level="ERROR", error=f"{type(error).__name__}: {error}", traceback=trace)
    reason = context.log.clean(f"{_words(context, error)} (log group {_log_group()})")
    return Answer("FAILED", _physical_id(context.request) + marker, reason)


def _log_group() -> str:
    return os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/modelyard-seed")


def _words(context: Context, error: Exception) -> str:
    """The error for whoever reads the stack's events."""
    if isinstance(error, OutOfTime) and context.request.request_type == "Delete":
        text = str(error)
        return text if "delete" in text.lower() else f"{text}: delete again to continue"
    if isinstance(error, SeedError):
        return str(error)
    if isinstance(error, ClientError):
        details = error.response["Error"]
        return f"AWS refused {error.operation_name}: {details.get('Code')}: {details.get('Message')}"
    if isinstance(error, BotoCoreError):
        return f"AWS could not be asked: {error}"
    return f"an error of the seed function itself, {type(error).__name__}: {error}; please report it"


def _physical_id(request: Request) -> str:
    """The same for all requests of a resource, since another id would let CloudFormation replace it; what was never
    made has one of its own (NOTHING_MADE)."""
    return request.physical_id or physical_id(request.resource_type, request.properties)
