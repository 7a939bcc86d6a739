"""The pull request from template-update to dev, at each Git host: found, opened and changed (template_update.py)."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from pipeline.ci_systems import call

if TYPE_CHECKING:
    import boto3

BASE, BRANCH = "dev", "template-update"
TOKEN = "MODELYARD_TEMPLATE_TOKEN"
# CodeCommit takes the shortest description of the three: API reference, CreatePullRequest.
LONGEST_TEXT = 10_000


@dataclass(frozen=True)
class Proposal:
    """An open pull request from BRANCH to BASE. url: where people see it."""

    id: str
    title: str
    text: str
    url: str


class PullRequests(Protocol):
    """Those from BRANCH to BASE, at one Git host."""

    def find(self) -> Proposal | None:
        """The one that is open."""

    def was_closed(self, commit: str) -> bool:
        """Whether one for this commit of BRANCH was closed."""

    def create(self, title: str, text: str, commit: str) -> str:
        """Its URL. commit: that BRANCH has."""

    def change(self, proposal: Proposal, title: str, text: str) -> None: ...


@dataclass(frozen=True)
class Rest:
    """A host's REST API. headers: with a secret, which is in no error."""

    base: str
    headers: Mapping[str, str]

    def __call__(self, method: str, path: str, **body: Any) -> Any:
        """The answer's JSON. Raises InputError."""
        request = urllib.request.Request(
            f"{self.base}{path}",
            data=json.dumps(body).encode() if body else None,
            method=method,
            headers={**self.headers, "Accept": "application/json", "Content-Type": "application/json"},
        )
        return call(
            request,
            f"{TOKEN} must let this job open pull requests (README.md, CI). {BRANCH} is pushed; run this job again",
        )


@dataclass(frozen=True)
class GitHubPulls:
    """https://docs.github.com/en/rest/pulls/pulls. repository: owner/name."""

    rest: Rest
    repository: str

    def find(self) -> Proposal | None:
        for one in self._listed("open"):
            return Proposal(str(one["number"]), one["title"], one["body"] or "", one["html_url"])
        return None

    def was_closed(self, commit: str) -> bool:
        return any(one["head"]["sha"] == commit for one in self._listed("closed"))

    def create(self, title: str, text: str, commit: str) -> str:
        return str(self.rest("POST", self._path(), title=title, body=text, head=BRANCH, base=BASE)["html_url"])

    def change(self, proposal: Proposal, title: str, text: str) -> None:
        self.rest("PATCH", f"{self._path()}/{proposal.id}", title=title, body=text)

    def _listed(self, state: str) -> list[dict[str, Any]]:
        """The newest first; at most 100."""
        owner = self.repository.partition("/")[0]
        asked = {"state": state, "head": f"{owner}:{BRANCH}", "base": BASE, "per_page": 100}
        return list(self.rest("GET", f"{self._path()}?{urlencode(asked)}"))

    def _path(self) -> str:
        return f"/repos/{quote(self.repository)}/pulls"


@dataclass(frozen=True)
class GitLabRequests:
    """https://docs.gitlab.com/api/merge_requests/. project: its number."""

    rest: Rest
    project: str

    def find(self) -> Proposal | None:
        for one in self._listed("opened"):
            return Proposal(str(one["iid"]), one["title"], one["description"] or "", one["web_url"])
        return None

    def was_closed(self, commit: str) -> bool:
        return any(one["sha"] == commit for one in self._listed("closed"))

    def create(self, title: str, text: str, commit: str) -> str:
        made = self.rest("POST", self._path(), title=title, description=text, source_branch=BRANCH, target_branch=BASE)
        return str(made["web_url"])

    def change(self, proposal: Proposal, title: str, text: str) -> None:
        self.rest("PUT", f"{self._path()}/{proposal.id}", title=title, description=text)

    def _listed(self, state: str) -> list[dict[str, Any]]:
        asked = {"state": state, "source_branch": BRANCH, "target_branch": BASE, "per_page": 100}
        return list(self.rest("GET", f"{self._path()}?{urlencode(asked)}"))

    def _path(self) -> str:
        return f"/projects/{quote(self.project, safe='')}/merge_requests"


@dataclass(frozen=True)
class CodeCommitPulls:
    """https://docs.aws.amazon.com/codecommit/latest/APIReference/API_CreatePullRequest.html."""

    connection: boto3.Session
    repository: str

    def find(self) -> Proposal | None:
        for one in self._listed("OPEN"):
            number = one["pullRequestId"]
            return Proposal(number, one["title"], one.get("description", ""), self._url(number))
        return None

    def was_closed(self, commit: str) -> bool:
        return any(one["pullRequestTargets"][0]["sourceCommit"] == commit for one in self._listed("CLOSED"))

    def create(self, title: str, text: str, commit: str) -> str:
        target = {"repositoryName": self.repository, "sourceReference": BRANCH, "destinationReference": BASE}
        made = self._client().create_pull_request(
            title=title, description=text, targets=[target], clientRequestToken=commit
        )
        return self._url(made["pullRequest"]["pullRequestId"])

    def change(self, proposal: Proposal, title: str, text: str) -> None:
        client = self._client()
        if proposal.title != title:
            client.update_pull_request_title(pullRequestId=proposal.id, title=title)
        if proposal.text != text:
            client.update_pull_request_description(pullRequestId=proposal.id, description=text)

    def _listed(self, status: str) -> list[dict[str, Any]]:
        client = self._client()
        pages = client.get_paginator("list_pull_requests").paginate(
            repositoryName=self.repository, pullRequestStatus=status
        )
        found = []
        for page in pages:
            for number in page["pullRequestIds"]:
                one = client.get_pull_request(pullRequestId=number)["pullRequest"]
                target = one["pullRequestTargets"][0]
                if (target["sourceReference"], target["destinationReference"]) == (_ref(BRANCH), _ref(BASE)):
                    found.append(one)
        return found

    def _url(self, number: str) -> str:
        region = self.connection.region_name
        place = f"codesuite/codecommit/repositories/{self.repository}/pull-requests/{number}/details"
        return f"https://{region}.console.aws.amazon.com/{place}?region={region}"

    def _client(self) -> Any:
        return self.connection.client("codecommit")


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"
