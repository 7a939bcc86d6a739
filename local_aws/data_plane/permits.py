"""Who may invoke which endpoint, while IAM is enforced."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from local_aws.data_plane import signature
from local_aws.data_plane.http1 import Head
from local_aws.data_plane.invocations import ACCOUNT, Refusal, credential

FOR_SECONDS = 3.0  # an answer holds; a permission that was taken away is felt after that
MOST = 10000  # answers kept

Name = tuple[str, str, str]  # access key, Region, endpoint


class Permit(NamedTuple):
    """What the server answered.

    Args:
        until: when it is to be asked again (time.monotonic()).
        secret, token: of the access key; no secret: its signatures are not verified (the account's own).
        refusal: (code, message) when the answer is no.
    """

    until: float
    secret: str | None
    token: str | None
    refusal: tuple[str, str] | None


class Permits:
    """The server is asked once in a few seconds for each access key and endpoint; signatures are verified here.

    Args:
        say: sends local_aws.hosting a message.
    """

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._permits: dict[Name, Permit] = {}
        self._waiting: dict[Name, list[Callable[[], None]]] = {}

    def check(self, head: Head, body: bytes, endpoint: str, again: Callable[[], None]) -> bool:
        """Whether a request may go on; if not yet, `again` is called when the server has answered.

        Raises:
            Refusal: it may not.
        """
        key, region = credential(head.headers)
        if ACCOUNT.fullmatch(key):  # the account's own; the server does not verify those either
            return True
        name = (key, region, endpoint)
        permit = self._permits.get(name)
        if permit is None or permit.until < time.monotonic():
            waiting = self._waiting.setdefault(name, [])
            waiting.append(again)
            if len(waiting) == 1:
                self._say("permit", access_key=key, region=region, endpoint=endpoint)
            return False
        if permit.secret is not None:
            signature.check(head, body, permit.secret, permit.token, time.time())
        if permit.refusal is not None:
            raise Refusal(permit.refusal[0], 403, permit.refusal[1])
        return True

    def know(self, message: dict[str, Any]) -> None:
        """The server's answer."""
        now = time.monotonic()
        if len(self._permits) >= MOST:
            self._permits = {name: permit for name, permit in self._permits.items() if permit.until >= now}
        name = (message["access_key"], message["region"], message["endpoint"])
        refusal = message["refusal"] and (message["refusal"][0], message["refusal"][1])
        self._permits[name] = Permit(now + FOR_SECONDS, message["secret"], message["token"], refusal)
        for again in self._waiting.pop(name, ()):
            again()
