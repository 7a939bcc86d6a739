"""GitHub as far as the seed function calls it, in memory: REST, and pushes that dulwich's own server takes.

It stands where urllib3's PoolManager does, so that all of the function's code runs, its Git client too. That it
answers as local_aws's stand-in does where the function looks: test_simulated_services.py.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from dulwich.repo import MemoryRepo
from dulwich.server import DictBackend
from dulwich.web import HTTPGitApplication
from urllib3 import HTTPResponse, Timeout

from tests.seed_lambda.requests import TOKEN

OWNER, OWNER_ID = "acme", 1234
BASE_URL = "https://git.example.com"  # a GitHub Enterprise Server
API = f"{BASE_URL}/api/v3"
Body = Any
Reply = tuple[int, Body]


@dataclass
class Stored:
    """A repository."""

    number: int
    description: str
    homepage: str
    git: MemoryRepo
    default_branch: str = "main"
    variables: dict[str, str] = field(default_factory=dict)
    rulesets: list[dict[str, Any]] = field(default_factory=list)

    @property
    def branches(self) -> dict[str, str]:
        found = self.git.refs.as_dict(b"refs/heads")
        return {name.decode(): commit.decode() for name, commit in found.items()}

    def files(self, branch: str) -> dict[str, tuple[str, int]]:
        """Path to blob and mode."""
        tree = self.git[self.git[self.branches[branch].encode()].tree].id
        found = self.git.object_store.iter_tree_contents(tree)
        return {one.path.decode(): (one.sha.decode(), one.mode) for one in found}


@dataclass
class SimulatedGitHub:
    """
    Args:
        around: what happens to a call: it is given what makes it, and answers or raises. Operations are "GET
            /repos/{repo}" and so on; a push is "GET refs" and "POST git-receive-pack".
        patience: seconds for which whoever makes the present call waits for its answer.
    """

    around: Callable[[str, str, Callable[[], HTTPResponse]], HTTPResponse] = lambda service, operation, call: call()
    token: str = TOKEN
    repositories: dict[str, Stored] = field(default_factory=dict)
    made: int = 0
    patience: float = 0.0

    @contextmanager
    def reachable(self) -> Iterator[SimulatedGitHub]:
        """Every connection of urllib3's ends here."""
        with (
            patch("urllib3.PoolManager", lambda **options: Pool(self, options["timeout"])),
            patch("seed_lambda.hosts.github_api.PoolManager", lambda **_: Pool(self)),
        ):
            yield self

    # --- REST

    def api(self, method: str, path: str, body: Body) -> Reply:
        """Status and JSON of a call."""
        for pattern, method_name in _PATHS:
            if found := re.fullmatch(pattern, path):
                if found.groupdict().get("repo", "") in ("", *self.repositories):
                    return getattr(self, method_name)(method, body, **found.groupdict())
                return 404, {"message": "Not Found"}
        raise AssertionError(f"the function calls {method} {path}, which is not simulated")

    def user(self, method: str, body: Body) -> Reply:
        return 200, {"login": "modelyard-bot", "id": 7}

    def organization(self, method: str, body: Body, owner: str) -> Reply:
        return (200, {"login": OWNER, "id": OWNER_ID}) if owner == OWNER else (404, {"message": "Not Found"})

    def make(self, method: str, body: Body, owner: str) -> Reply:
        assert method == "POST"
        if body["name"] in self.repositories:
            errors = [{"resource": "Repository", "field": "name", "message": "name already exists on this account"}]
            return 422, {"message": "Repository creation failed.", "errors": errors}
        self.made += 1
        stored = Stored(100 + self.made, body["description"], body["homepage"], MemoryRepo())
        stored.git.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")
        self.repositories[body["name"]] = stored
        return 201, self._shown(body["name"])

    def repository(self, method: str, body: Body, repo: str) -> Reply:
        if method == "DELETE":
            del self.repositories[repo]
            return 204, None
        if method == "PATCH":
            stored = self.repositories[repo]
            if "default_branch" in body and body["default_branch"] not in stored.branches:
                return 422, {"message": "Validation Failed", "errors": [{"message": "The branch was not found."}]}
            for name, value in body.items():
                setattr(stored, name, value)
        return 200, self._shown(repo)

    def ref(self, method: str, body: Body, repo: str, branch: str) -> Reply:
        branches = self.repositories[repo].branches
        if not branches:
            return 409, {"message": "Git Repository is empty."}
        if branch not in branches:
            return 404, {"message": "Not Found"}
        return 200, {"ref": f"refs/heads/{branch}", "object": {"sha": branches[branch], "type": "commit"}}

    def list_branches(self, method: str, body: Body, repo: str) -> Reply:
        branches = self.repositories[repo].branches
        return 200, [{"name": name, "commit": {"sha": commit}} for name, commit in sorted(branches.items())]

    def commit(self, method: str, body: Body, repo: str, commit: str) -> Reply:
        found: Any = self.repositories[repo].git[commit.encode()]
        email = found.author.decode().partition("<")[2].rstrip(">")
        return 200, {
            "sha": commit,
            "parents": [{"sha": parent.decode()} for parent in found.parents],
            "commit": {"tree": {"sha": found.tree.decode()}, "author": {"email": email}},
        }

    def variables(self, method: str, body: Body, repo: str) -> Reply:
        there = self.repositories[repo].variables
        if method == "POST":
            if body["name"] in there:
                return 409, {"message": "Already exists - Variable already exists"}
            there[body["name"]] = body["value"]
            return 201, {}
        shown = [{"name": name, "value": value} for name, value in sorted(there.items())]
        return 200, {"total_count": len(shown), "variables": shown}

    def variable(self, method: str, body: Body, repo: str, name: str) -> Reply:
        there = self.repositories[repo].variables
        if name not in there:
            return 404, {"message": "Not Found"}
        if method == "DELETE":
            del there[name]
        else:
            assert method == "PATCH"
            there[name] = body["value"]
        return 204, None

    def rulesets(self, method: str, body: Body, repo: str) -> Reply:
        there = self.repositories[repo].rulesets
        if method == "POST":
            if body["name"] in [one["name"] for one in there]:
                return 422, {"message": "Validation Failed", "errors": ["Name must be unique"]}
            there.append({"id": len(there) + 1, **body})
            return 201, there[-1]
        return 200, [{"id": one["id"], "name": one["name"]} for one in there]

    def oidc(self, method: str, body: Body, repo: str) -> Reply:
        return 200, {"use_default": True, "use_immutable_subject": True}

    def _shown(self, name: str) -> Body:
        stored = self.repositories[name]
        return {
            "id": stored.number,
            "name": name,
            "owner": {"login": OWNER, "id": OWNER_ID},
            "homepage": stored.homepage,
            "description": stored.description,
            "default_branch": stored.default_branch,
            "private": True,
            "html_url": f"{BASE_URL}/{OWNER}/{name}",
            "clone_url": f"{BASE_URL}/{OWNER}/{name}.git",
        }


_REPO = rf"/repos/{OWNER}/(?P<repo>[^/]+)"
_PATHS = (
    (r"/user", "user"),
    (r"/orgs/(?P<owner>[^/]+)", "organization"),
    (r"/orgs/(?P<owner>[^/]+)/repos", "make"),
    (_REPO, "repository"),
    (rf"{_REPO}/git/ref/heads/(?P<branch>.+)", "ref"),
    (rf"{_REPO}/branches", "list_branches"),
    (rf"{_REPO}/commits/(?P<commit>\w+)", "commit"),
    (rf"{_REPO}/actions/variables", "variables"),
    (rf"{_REPO}/actions/variables/(?P<name>\w+)", "variable"),
    (rf"{_REPO}/rulesets", "rulesets"),
    (rf"{_REPO}/actions/oidc/customization/sub", "oidc"),
)


class Pool:
    """urllib3.PoolManager, connected to the simulation."""

    def __init__(self, github: SimulatedGitHub, timeout: Timeout | None = None) -> None:
        self._github, self._timeout = github, timeout
        self.headers: dict[str, str] = {}

    def request(self, method: str, url: str, body: Any = None, **options: Any) -> HTTPResponse:
        if timeout := options.get("timeout", self._timeout):
            self._github.patience = min(timeout.total, timeout.read_timeout)
        if url.startswith(API):
            path = url.removeprefix(API).partition("?")[0]
            operation = f"{method} {re.sub(f'^/repos/{OWNER}/[^/]+', '/repos/{repo}', path)}"
            operation = re.sub(r"(commits|variables|heads)/[^/]+$", r"\1/{name}", operation)
            return self._github.around("github", operation, lambda: self._rest(method, path, body, options["headers"]))
        name = urlsplit(url).path.rpartition("/")[2]
        data = b"" if body is None else body if isinstance(body, bytes) else b"".join(body)
        return self._github.around("github", f"{method} {name}", lambda: self._git(method, url, data, options))

    def clear(self) -> None:
        """There are no connections."""

    def _rest(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> HTTPResponse:
        if headers["Authorization"] != f"Bearer {self._github.token}":
            return response(401, {"message": "Bad credentials"})
        return response(*self._github.api(method, path, None if body is None else json.loads(body)))

    def _git(self, method: str, url: str, body: bytes, options: dict[str, Any]) -> HTTPResponse:
        parts = urlsplit(url)
        repository = re.fullmatch(rf"/{OWNER}/(.+)\.git(/.+)", parts.path)
        assert repository, url
        assert options["headers"]["authorization"].startswith("Basic ")
        answered: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Callable[[bytes], object]:
            answered.update(status=int(status[:3]), headers=dict(headers), written=io.BytesIO())
            return answered["written"].write

        application = HTTPGitApplication(DictBackend({"/": self._github.repositories[repository[1]].git}))
        environment = {
            "REQUEST_METHOD": method,
            "PATH_INFO": repository[2],
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": options["headers"].get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        assert parse_qs(parts.query).get("service", ["git-receive-pack"]) == ["git-receive-pack"]
        written = b"".join(application(environment, start))
        content = answered["written"].getvalue() + written
        headers = {name: value for name, value in answered["headers"].items() if name.lower() != "content-length"}
        return HTTPResponse(io.BytesIO(content), headers, answered["status"], preload_content=False, request_url=url)


def response(status: int, body: Body, **headers: str) -> HTTPResponse:
    """A REST answer; header names with _ for -."""
    content = b"" if body is None else json.dumps(body).encode()
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPResponse(io.BytesIO(content), shown, status, preload_content=True)
