"""The Git hosts that a commit's status is told: GitHub takes statuses, CodeCommit has none and takes a comment.

Which repository it is a tag of the stage's model package group says; what the tag holds decides about the host.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from lifecycle_lambdas.commit_status import FINAL, Status

TIMEOUT = 10.0  # seconds that GitHub has to answer
TOKEN_LIFETIME = 300.0  # seconds after which the secret is read again, so that another token is soon used
A_MINUTE = 60.0  # what GitHub asks for where it does not say until when a limit holds
LONGEST_ANSWER = 1024**2  # bytes that are read of one; a status has about two thousand, a hundred branches 40,000
LONGEST_COMMENT = 10240  # characters: https://docs.aws.amazon.com/codecommit/latest/userguide/limits.html
_VERSION = "2022-11-28"  # of GitHub's API, which each request names
CODECOMMIT = re.compile(r"arn:[a-z-]+:codecommit:(?P<region>[a-z0-9-]+):\d{12}:(?P<name>[\w.-]{1,100})", re.ASCII)
_PATH = re.compile(r"/(?P<owner>(?!\.)[\w.-]+)/(?P<name>(?!\.\.?$)[\w.-]+)", re.ASCII)
# Of a repository or a commit that is not there (any more): nothing could be told, now or later.
_GONE = ("RepositoryDoesNotExistException", "CommitDoesNotExistException", "CommitIdDoesNotExistException")


class NotTold(Exception):
    """The host did not take it; the message says what the host answered and what to do."""


class Later(NotTold):
    """The host takes nothing before a time.

    Args:
        seconds: until then.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class CodeCommit:
    """Comments on commits: on what the commit has changed, when the execution has ended.

    Args:
        client: boto3's.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def tell(self, repository: str, commit: str, status: Status) -> str:
        """Comment once for each execution and end; answers what came of it.

        Args:
            repository: ARN.
        """
        found = CODECOMMIT.fullmatch(repository)
        if found is None or found["region"] != self._client.meta.region_name:
            raise NotTold(
                f"the repository {repository!r} is none of CodeCommit's in this Region: correct the group's tag"
            )
        if status.state not in FINAL:
            return "CodeCommit is told how it ends"
        name = found["name"]
        try:
            parents = self._client.get_commit(repositoryName=name, commitId=commit)["commit"].get("parents", [])
            self._client.post_comment_for_compared_commit(
                repositoryName=name,
                afterCommitId=commit,
                **({"beforeCommitId": parents[0]} if parents else {}),
                content=status.markdown[:LONGEST_COMMENT],
                # 64 characters at most
                clientRequestToken=hashlib.sha256(f"{status.execution} {status.state}".encode()).hexdigest(),
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            # The second: told before in other words, when its numbers could not be read.
            if code not in (*_GONE, "IdempotencyParameterMismatchException"):
                raise
            return f"not told: {code}"
        return "commented"


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    words: str
    content: Any = None


class GitHub:
    """Statuses of commits: https://docs.github.com/rest/commits/statuses

    Args:
        base_url: of the platform's host, such as https://github.com or a GitHub Enterprise Server's.
        secrets: a boto3 client of Secrets Manager.
        secret: ARN of the secret that holds the token, as text or as {"token": "..."}.
    """

    def __init__(self, base_url: str, secrets: Any, secret: str) -> None:
        self._base_url, self._secrets, self._secret = base_url.rstrip("/"), secrets, secret
        self._token, self._read_at = "", 0.0

    def tell(self, repository: str, commit: str, status: Status) -> str:
        """Set the commit's status; answers what came of it.

        Args:
            repository: the address of its page.

        Raises:
            Later: a rate limit holds.
            NotTold: GitHub did not answer, or refused.
        """
        body = {"state": status.state, "context": status.context, "description": status.description}
        body |= {"target_url": status.url} if status.url else {}
        answer = self._ask(f"{self._repository_url(repository)}/statuses/{commit}", body)
        if answer.status == 201:
            return "set"
        if answer.status == 422 and "no commit found" in answer.words.lower():
            return "not told: the commit was never pushed"
        # A thousand of one commit and context, as of a commit that is trained again every hour; none can be deleted.
        if answer.status == 422 and "maximum number of statuses" in answer.words.lower():
            return "not told: GitHub keeps no more statuses of this commit"
        if (wait := rate_limit(answer.status, answer.headers, answer.words)) is not None:
            raise Later(f"GitHub's rate limit is reached ({answer.words}); it takes calls again in {wait:.0f} s", wait)
        raise self._refusal(repository, answer)

    def get(self, repository: str, path: str) -> Any:
        """What GitHub says of a repository, from JSON.

        Args:
            repository: the address of its page.
            path: below the repository's address in the API, with a slash at its beginning.

        Raises:
            NotTold: GitHub did not answer, or refused.
        """
        answer = self._ask(f"{self._repository_url(repository)}{path}")
        if answer.status != 200:
            raise NotTold(f"GitHub answered {answer.status} for {path} of {repository}: {answer.words}")
        return answer.content

    def _repository_url(self, repository: str) -> str:
        """Its address in the API. Raises NotTold for one of another host."""
        path = _PATH.fullmatch(repository.removeprefix(self._base_url)) if self._base_url else None
        # The token goes to the platform's own host, and to no other that a tag names.
        if path is None or not repository.startswith(f"{self._base_url}/"):
            raise NotTold(
                f"the repository {repository!r} is not on the platform's Git host {self._base_url or '(none)'}"
            )
        return f"{api_url(self._base_url)}/repos/{path['owner']}/{path['name']}"

    def _ask(self, url: str, body: dict[str, str] | None = None) -> _Answer:
        """With a body it is a POST."""
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._known_token()}",
            "Content-Type": "application/json",
            "User-Agent": "modelyard",
            "X-GitHub-Api-Version": _VERSION,
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)  # noqa: S310  api_url lets only HTTPS pass
        try:
            with _opener.open(request, timeout=TIMEOUT) as answer:
                return _answered(answer.status, answer.headers, answer.read(LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            with error:
                return _answered(error.code, error.headers, error.read(LONGEST_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            raise NotTold(f"GitHub could not be reached ({type(error).__name__})") from None

    def _known_token(self) -> str:
        if not self._token or time.monotonic() - self._read_at > TOKEN_LIFETIME:
            if not self._secret:
                raise NotTold(
                    "the platform has no token for GitHub: an administrator names its secret in the installation"
                )
            text = self._secrets.get_secret_value(SecretId=self._secret).get("SecretString") or ""
            token = _token_of(text)
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise NotTold(f"the secret {self._secret} holds no token: put it there as text")
            self._token, self._read_at = token, time.monotonic()
        return self._token

    def _refusal(self, repository: str, answer: _Answer) -> NotTold:
        said = f"GitHub answered {answer.status} for {repository}: {answer.words}"
        if answer.status == 401:
            self._token = ""  # read again next time
            return NotTold(
                f"{said}. The token in the secret {self._secret} has expired or was revoked: put another there"
            )
        if answer.status in (403, 404):
            return NotTold(
                f"{said}. Give the token in the secret {self._secret} the repository permission Commit statuses (read "
                "and write), or a classic one the scope repo"
            )
        if 300 <= answer.status < 400:
            return NotTold(f"{said}. The repository was renamed: correct the tag modelyard:repository of its groups")
        return NotTold(said)


def api_url(base_url: str) -> str:
    """Where a host's REST API is.

    Raises:
        NotTold: the address is neither HTTPS nor this machine's; each call carries the token.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        raise NotTold(f"the platform's GitBaseUrl {base_url!r} is no HTTPS address: install the platform with one")
    if host == "github.com" or host.endswith(".ghe.com"):  # GitHub itself, and with data residency
        return f"https://api.{host}"
    return f"{base_url}/api/v3"


def rate_limit(status: int, headers: Mapping[str, str], words: str) -> float | None:
    """Seconds until calls are taken again; None when an answer is about no rate limit.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api

    Args:
        headers: names in lower case.
    """
    if status not in (403, 429):
        return None
    if (after := headers.get("retry-after", "")).isdigit():
        return max(float(after), 1.0)
    if headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        return max(float(reset) - time.time(), 0.0) + 1 if reset.isdigit() else A_MINUTE
    return A_MINUTE if status == 429 or "secondary rate limit" in words.lower() else None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: what follows it would be a GET, and carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _answered(status: int, headers: Any, body: bytes) -> _Answer:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    words = ": ".join(_words(found)) or "no message"
    return _Answer(status, {name.lower(): value for name, value in headers.items()}, words[:300], found)


def _words(found: Any) -> Iterator[str]:
    """What an error says, and then of each fault, which is a text or an object: "Validation Failed" alone says nothing.

    https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed
    """
    if not isinstance(found, dict) or "message" not in found:
        return
    yield str(found["message"])
    faults = found.get("errors")
    for fault in faults if isinstance(faults, list) else []:
        said = fault.get("message", fault.get("code")) if isinstance(fault, dict) else fault
        if isinstance(said, str):
            yield said


def _token_of(text: str) -> str:
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        value = json.loads(text)["token"]
    except (ValueError, KeyError):
        return ""
    return value.strip() if isinstance(value, str) else ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
