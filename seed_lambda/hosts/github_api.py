"""Calls of GitHub's REST API: tried again where that is safe, waited for where that is short, refused in words.

https://docs.github.com/en/rest, https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from seed_lambda.addresses import is_private
from seed_lambda.context import Context
from seed_lambda.errors import HostUnreachable, RateLimited, SeedError

_CONNECT, _READ = 5.0, 12.0  # seconds; GitHub itself ends a call after 10
_LEAST = 2.0  # seconds that a call has, however little patience is left
_PAUSES = (0.5, 1.0, 2.0)  # seconds before the second, third and fourth try
_LONGEST_WAIT = 20.0  # seconds, for a rate limit
_REPEATABLE = ("GET", "PUT", "PATCH", "DELETE")
_VERSION = "2022-11-28"  # of the API, which each request names


@dataclass(frozen=True)
class Reply:
    """An answer of GitHub's.

    Args:
        status: of HTTP.
        body: its JSON; None when there is none.
        headers: names in lower case.
        foreign: whether the body is something else than JSON, as no answer of GitHub's API is.
    """

    status: int
    body: Any
    headers: Mapping[str, str]
    foreign: bool = False

    @property
    def words(self) -> str:
        """GitHub's own words about a refusal, short enough for a message."""
        body = self.body if isinstance(self.body, dict) else {}
        details = [
            str(error.get("message") or error.get("code") or error) if isinstance(error, dict) else str(error)
            for error in body.get("errors") or []
        ]
        return ("; ".join([str(body.get("message") or f"HTTP status {self.status}"), *details]))[:300]


class GitHubApi:
    """
    Args:
        base_url: of the host, such as https://github.com or a GitHub Enterprise Server's.
        token: never shown.
        secret: where the token lies, for messages.
    """

    def __init__(self, context: Context, base_url: str, token: str, secret: str) -> None:
        self._context = context
        self._base_url = base_url
        self._url = api_url(base_url)
        self._token = token
        self._secret = secret
        self._pool = PoolManager(retries=False, maxsize=1)

    def call(
        self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = (), early: tuple[int, ...] = ()
    ) -> Reply:
        """One call.

        Args:
            path: begins with a slash.
            allowed: statuses of refusals that are answered like a success.
            early: statuses of refusals that pass, since what was made a moment ago is not known everywhere yet.

        Raises:
            HostUnreachable: it did not answer, or with 5xx; a POST may have been done all the same.
            SeedError: it refused, or it is not GitHub that answers, in words.
            Superseded: the stack stopped waiting for the request while the host was waited for.
        """
        tries = 0
        while True:
            reply = self._once(method, path, body)
            if isinstance(reply, Reply) and reply.status < 500:
                if self.waited_for_rate(method, reply):
                    continue
                if reply.foreign or (300 <= reply.status < 400 and reply.status not in allowed):
                    raise self.not_github(method, path, reply)
                if reply.status in early and tries < len(_PAUSES) and self._context.patience() > _PAUSES[tries]:
                    self._pause(method, _PAUSES[tries])
                    tries += 1
                    continue
                if reply.status < 400 or reply.status in allowed:
                    return reply
                raise self._refusal(method, path, reply)
            fault = reply if isinstance(reply, str) else f"it answers {reply.words} (HTTP status {reply.status})"
            if method not in _REPEATABLE or tries == len(_PAUSES) or self._context.patience() <= _PAUSES[tries]:
                raise self.unreachable(f"{method} {path}", fault)
            self._context.log("GitHub failed: trying again", level="WARNING", call=f"{method} {path}", fault=fault)
            self._pause(method, _PAUSES[tries])
            tries += 1

    def pages(self, path: str, member: str, early: tuple[int, ...] = ()) -> list[Any]:
        """All of a list that comes in pages.

        Args:
            member: of each page's object that holds the list.
            early: as of call().
        """
        found: list[Any] = []
        number = 1
        while True:
            page = self.call("GET", f"{path}?per_page=100&page={number}", early=early).body
            found += page[member]
            # not by the page's length: of some lists GitHub gives fewer at once than it was asked for
            if not page[member] or len(found) >= page["total_count"]:
                return found
            number += 1

    def waited_for_rate(self, method: str, reply: Reply) -> bool:
        """Whether a reply was about the rate limit, which is over then: the call may be made again.

        Raises RateLimited, with the time, when that would take too long, and Superseded as call() does.
        """
        seconds = _rate_limit(reply)
        if seconds is None:
            return False
        if seconds > min(_LONGEST_WAIT, self._context.patience()):
            at = datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%H:%M:%S UTC")
            raise RateLimited(
                f"GitHub's rate limit is reached: {reply.words}. It takes calls again in {seconds:,.0f} s (at {at}): "
                "try again then",
                seconds,
            )
        self._context.log("GitHub's rate limit: waiting", level="WARNING", seconds=seconds)
        self._pause(method, seconds)
        return True

    def seconds(self) -> float:
        """What the next call may take."""
        return max(self._context.patience(), _LEAST)

    def unreachable(self, what: str, fault: str) -> HostUnreachable:
        """The words for what the host did not answer, or failed to do."""
        return HostUnreachable(
            f"GitHub ({self._url}) did not do {what}: {fault}. Try again later; if it stays so, an administrator "
            "checks the platform's GitBaseUrl and the network of the seed function"
        )

    def not_github(self, method: str, path: str, reply: Reply) -> SeedError:
        """The words for an answer that is none of GitHub's API."""
        to = reply.headers.get("location", "").partition("?")[0][:200]
        answer = f"HTTP status {reply.status}" + (", to " + to if to else ", and no JSON" if reply.foreign else "")
        return SeedError(
            f"GitBaseUrl {self._base_url!r}: {self._url} does not answer as GitHub's API does: {method} {path} gives "
            f"{answer}. An administrator sets the address of GitHub, or of the GitHub Enterprise Server, with make "
            "install-platform (--git-base-url), or looks for a proxy that answers in its place"
        )

    def _pause(self, method: str, seconds: float) -> None:
        self._context.pause_for_host(seconds)
        if method != "GET":
            self._context.still_current()  # the stack may have stopped waiting meanwhile

    def _once(self, method: str, path: str, body: Any) -> Reply | str:
        """The answer, or why there was none."""
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "User-Agent": "modelyard",
            "X-GitHub-Api-Version": _VERSION,
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        timeout, began = Timeout(self.seconds(), _CONNECT, _READ), self._context.monotonic()
        try:
            answer = self._pool.request(
                method, self._url + path, body=data, headers=headers, redirect=False, timeout=timeout
            )
        except (HTTPError, OSError) as error:
            self._context.waited_for_host(self._context.monotonic() - began)
            return _connection_fault(error)
        if answer.status >= 500:
            self._context.waited_for_host(self._context.monotonic() - began)
        sent = {name.lower(): value for name, value in answer.headers.items()}
        try:
            return Reply(answer.status, json.loads(answer.data) if answer.data else None, sent)
        except ValueError:
            return Reply(answer.status, None, sent, foreign=True)

    def _refusal(self, method: str, path: str, reply: Reply) -> SeedError:
        if reply.status == 401:
            return SeedError(
                f"GitHub does not take the platform's token ({reply.words}): it has expired or was revoked. An "
                f"administrator makes a new one and puts it into the secret {self._secret}"
            )
        if reply.status in (403, 404):
            accepted = reply.headers.get("x-accepted-github-permissions")
            needed = f" (it needs {accepted})" if accepted else ""
            return SeedError(
                f"GitHub does not let the platform's token do {method} {path}{needed}: {reply.words}. An administrator "
                "gives the token the repository permissions Administration, Contents, Workflows and Variables (read "
                "and write), or a classic one the scopes repo, workflow and delete_repo; the token is in the secret "
                f"{self._secret}"
            )
        return SeedError(f"GitHub refused {method} {path}: {reply.words}")


def api_url(base_url: str) -> str:
    """Where a host's REST API is.

    Raises:
        SeedError: the address is no HTTPS address; HTTP is for this machine only, since each call carries the token.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if not host or parts.query or parts.fragment or parts.username or not is_private(base_url):
        raise SeedError(
            f"GitBaseUrl {base_url!r}: write an HTTPS address such as https://github.com or "
            "https://github.example.com; an administrator changes it with make install-platform"
        )
    if host == "github.com" or host.endswith(".ghe.com"):  # GitHub itself, and with data residency
        return f"https://api.{host}"
    return f"{base_url.rstrip('/')}/api/v3"


def _rate_limit(reply: Reply) -> float | None:
    """Seconds until calls are taken again; None when the reply is about no rate limit."""
    if reply.status not in (403, 429):
        return None
    if (after := reply.headers.get("retry-after", "")).isdigit():
        return max(float(after), 1.0)
    if reply.headers.get("x-ratelimit-remaining") == "0":
        reset = reply.headers.get("x-ratelimit-reset", "")
        return max(float(reset) - time.time(), 0.0) + 1 if reset.isdigit() else 60.0
    # a secondary limit without a time: GitHub asks for a minute
    return 60.0 if reply.status == 429 or "secondary rate limit" in reply.words.lower() else None


def _connection_fault(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate cannot be verified ({cause.verify_message})"
        cause = cause.__cause__ or cause.__context__ or _reason(cause)
    return f"no connection ({type(error).__name__})"


def _reason(error: BaseException) -> BaseException | None:
    """What urllib3 wraps: an exception of its own often carries the first one as an argument."""
    return next((argument for argument in error.args if isinstance(argument, BaseException)), None)
