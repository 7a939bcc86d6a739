"""Posts to a chat's webhook what the topic is told: the platform's own messages, and CloudWatch's alarms.

Without a secret that holds the webhook's URL there is nothing to do. The URL is as good as a password, and is never
written to a log: errors say what the chat answered, and no more.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import cache
from typing import Any

from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.log import log

TRIES = 3
PAUSE = 1.0  # seconds before the second try; twice as many before the third
TIMEOUT = 8.0  # seconds that the chat has to answer
URL_LIFETIME = 300.0  # seconds after which the secret is read again, so that another webhook is soon used


class NotPosted(Exception):
    """The chat did not take the message; Lambda tries again later, and then puts it aside."""


class Webhook:
    """The URL in a Secrets Manager secret: its text, or its member "url" when the text is a JSON object.

    Args:
        secrets: a boto3 client of Secrets Manager.
        arn: the secret's.
    """

    def __init__(self, secrets: Any, arn: str) -> None:
        self._secrets = secrets
        self._arn = arn
        self._url = ""
        self._read_at = 0.0

    def url(self) -> str:
        """Raises NotPosted when the secret holds no web address."""
        if not self._url or time.monotonic() - self._read_at > URL_LIFETIME:
            url = _web_address(self._secrets.get_secret_value(SecretId=self._arn).get("SecretString", ""))
            if url is None:
                raise NotPosted(f"the secret {self._arn} holds no web address: put the webhook's URL into it")
            self._url, self._read_at = url, time.monotonic()
        return self._url

    def forget(self) -> None:
        """Read the secret again next time."""
        self._url = ""


def _web_address(secret: str) -> str | None:
    """The URL in a secret's text; None when there is none that could be called."""
    text = secret.strip()
    try:
        url = json.loads(text).get("url") if text.startswith("{") else text
        parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return None
    return url if parts and parts.scheme in ("https", "http") and parts.hostname else None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: what follows it is a GET without the message, whose answer would count as the chat's."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


@cache
def _webhook(arn: str) -> Webhook | None:
    if not arn:
        log("no chat is told: the platform was installed without WebhookSecretArn")
        return None
    return Webhook(Clients()("secretsmanager"), arn)


def handler(event: dict[str, Any], lambda_context: Any) -> None:
    webhook = _webhook(os.environ.get("WEBHOOK_SECRET_ARN", ""))
    if webhook is not None:
        for record in event["Records"]:
            content = payload(record["Sns"])
            if content:
                post(webhook, content)


def payload(notification: dict[str, Any]) -> dict[str, Any]:
    """Slack's, from an SNS notification: our own message comes in that form already, an alarm is put into it.

    Empty for a new alarm that finds all well: deployments make some, and nobody is to be told of each.
    """
    text = notification["Message"]
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if isinstance(message, dict) and "blocks" in message:
        return message
    if isinstance(message, dict) and "AlarmName" in message:
        if (message["OldStateValue"], message["NewStateValue"]) == ("INSUFFICIENT_DATA", "OK"):
            return {}
        mark = ":rotating_light:" if message["NewStateValue"] == "ALARM" else ":information_source:"
        name, state, why = message["AlarmName"], message["NewStateValue"], message["NewStateReason"]
        return {"text": _escaped(f"{mark} {name} is {state}: {why}")}
    subject = notification.get("Subject")
    return {"text": _escaped(f"{subject}\n{text}" if subject else text)}


def post(webhook: Webhook, content: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> None:
    """Raises NotPosted when the chat refuses it, or still has not taken it after three tries."""
    body = json.dumps(content).encode()
    for attempt in range(1, TRIES + 1):
        request = urllib.request.Request(  # noqa: S310  Webhook.url lets only web addresses through
            webhook.url(), body, {"Content-Type": "application/json; charset=utf-8"}
        )
        try:
            with _opener.open(request, timeout=TIMEOUT) as answer:
                log("posted", status=answer.status, attempt=attempt)
                return
        except urllib.error.HTTPError as error:
            with error:
                problem = f"the chat answered {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                webhook.forget()
                # from None: the cause would carry the URL
                raise NotPosted(f"{problem}; is the webhook in the secret still the right one?") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            # URLError, time-outs; an answer that is no HTTP; a header that cannot be read
            problem = f"the chat could not be reached ({type(error).__name__})"
        log("not posted", level="WARNING", problem=problem, attempt=attempt)
        if attempt < TRIES:
            sleep(PAUSE * 2 ** (attempt - 1))
    raise NotPosted(f"{problem}, {TRIES} times")


def _escaped(text: str) -> str:
    """Slack's three characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
