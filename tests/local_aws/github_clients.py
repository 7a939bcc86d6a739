"""The stand-in for GitHub, asked by tests as anybody would ask GitHub."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from local_aws import LocalAWS

TOKEN = "ghp_0123456789abcdef"  # classic, with every right
ORGANIZATION = "acme"
PARAMETERS = {
    "dismiss_stale_reviews_on_push": False,
    "require_code_owner_review": False,
    "require_last_push_approval": False,
    "required_approving_review_count": 0,
    "required_review_thread_resolution": False,
}
PULL_REQUEST: dict[str, Any] = {"type": "pull_request", "parameters": PARAMETERS}


@dataclass(frozen=True)
class Answer:
    status: int
    content: Any
    headers: Message


class GitHubClient:
    """One token's user.

    Args:
        endpoint: the server's address.
    """

    def __init__(self, endpoint: str, token: str | None = TOKEN) -> None:
        self.endpoint, self.token = endpoint, token

    def __call__(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One REST call; a body that is bytes is sent as it is."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        signed = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(
            f"{self.endpoint}/_github/api/v3{path}", data, {**signed, **(headers or {})}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return Answer(answer.status, _content(answer.read()), answer.headers)
        except urllib.error.HTTPError as error:
            return Answer(error.code, _content(error.read()), error.headers)

    def create(self, name: str, **more: Any) -> dict[str, Any]:
        """A private repository of the organization."""
        answer = self("POST", f"/orgs/{ORGANIZATION}/repos", {"name": name, "private": True, **more})
        assert answer.status == 201, answer
        return answer.content

    def protect(self, name: str, *rules: dict[str, Any], branch: str = "prod", **more: Any) -> dict[str, Any]:
        """A ruleset on a branch."""
        body = {
            "name": f"Protect {branch}",
            "target": "branch",
            "enforcement": "active",
            "conditions": {"ref_name": {"include": [f"refs/heads/{branch}"], "exclude": []}},
            "rules": list(rules),
            **more,
        }
        answer = self("POST", f"/repos/{ORGANIZATION}/{name}/rulesets", body)
        assert answer.status == 201, answer
        return answer.content

    def url(self, name: str, owner: str = ORGANIZATION) -> str:
        return f"{self.endpoint}/_github/{owner}/{name}.git"

    @property
    def git_environment(self) -> dict[str, str]:
        """Variables by which git sends the token with its first request already."""
        if self.token is None:
            return {}
        basic = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }


def configure(aws: LocalAWS, **more: Any) -> GitHubClient:
    """The organization and the token of these tests."""
    aws.configure("github", {"organizations": {ORGANIZATION: {}}, "tokens": {TOKEN: {}}} | more)
    return GitHubClient(aws.endpoint)


def _content(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode()
