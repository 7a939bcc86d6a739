"""Which of GitHub's calls a request is: the table of what is answered, and how faults and the recorder see a call.

Pure functions. Faults (local_aws.faults) and the recorder (local_aws.recorder) know the calls as service "github" and
the operations' names here.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from local_aws.api_calls import Answer, HttpRequest

SERVICE = "github"
PREFIX = "/_github/"  # of every path, as a GitHub Enterprise Server of its own host would have none
API = "/_github/api/v3"  # where a GitHub Enterprise Server answers REST
DOCUMENTATION = "https://docs.github.com/rest"

PRIMARY, SECONDARY = "PrimaryRateLimit", "SecondaryRateLimit"  # codes of a fault rule of kind "throttle"
LIMITS = (SECONDARY, PRIMARY)
SERVER_ERROR = "Server Error"
SECONDARY_MESSAGE = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to"
    " GitHub Support for help, please include the request ID {request}."
)
PRIMARY_MESSAGE = (
    "API rate limit exceeded for user ID {user}. If you reach out to GitHub Support for help, please include the"
    " request ID {request}."
)
RATE_LIMITS = f"{DOCUMENTATION}/using-the-rest-api/rate-limits-for-the-rest-api"


@dataclass(frozen=True)
class Route:
    """One of GitHub's REST calls.

    Args:
        operation: its name in rules and records.
        path: below `API`; {parts} are parameters, and {+parts} may have slashes.
        permission: of a fine-grained token, as GitHub's header X-Accepted-GitHub-Permissions has it, several of which
            one is enough with ";" between them; None: any token.
        page: where GitHub documents it, below `DOCUMENTATION`.
    """

    operation: str
    method: str
    path: str
    permission: str | None
    page: str


_REPOSITORY = "/repos/{owner}/{repo}"
_VARIABLES = f"{_REPOSITORY}/actions/variables"
_RULESETS = f"{_REPOSITORY}/rulesets"
_ACTIONS = f"{_REPOSITORY}/actions"
_PULLS, _ISSUES = f"{_REPOSITORY}/pulls", f"{_REPOSITORY}/issues"
_STATUSES, _COMMENTS = "commits/statuses", "issues/comments"  # pages

ROUTES = (
    Route("ListWorkflowRuns", "GET", f"{_ACTIONS}/runs", "actions=read", "actions/workflow-runs"),
    Route("GetWorkflowRun", "GET", f"{_ACTIONS}/runs/{{run}}", "actions=read", "actions/workflow-runs"),
    Route("CancelWorkflowRun", "POST", f"{_ACTIONS}/runs/{{run}}/cancel", "actions=write", "actions/workflow-runs"),
    Route("ListWorkflowJobs", "GET", f"{_ACTIONS}/runs/{{run}}/jobs", "actions=read", "actions/workflow-jobs"),
    Route("GetWorkflowJob", "GET", f"{_ACTIONS}/jobs/{{job}}", "actions=read", "actions/workflow-jobs"),
    Route("DownloadJobLogs", "GET", f"{_ACTIONS}/jobs/{{job}}/logs", "actions=read", "actions/workflow-jobs"),
    Route(
        "DispatchWorkflow",
        "POST",
        f"{_ACTIONS}/workflows/{{workflow}}/dispatches",
        "actions=write",
        "actions/workflows#create-a-workflow-dispatch-event",
    ),
    Route("GetUser", "GET", "/user", None, "users/users#get-the-authenticated-user"),
    Route("GetOrganization", "GET", "/orgs/{org}", None, "orgs/orgs#get-an-organization"),
    Route(
        "CreateRepository",
        "POST",
        "/orgs/{org}/repos",
        "administration=write",
        "repos/repos#create-an-organization-repository",
    ),
    Route(
        "CreateRepository",
        "POST",
        "/user/repos",
        "administration=write",
        "repos/repos#create-a-repository-for-the-authenticated-user",
    ),
    Route("GetRepository", "GET", _REPOSITORY, "metadata=read", "repos/repos#get-a-repository"),
    Route("UpdateRepository", "PATCH", _REPOSITORY, "administration=write", "repos/repos#update-a-repository"),
    Route("DeleteRepository", "DELETE", _REPOSITORY, "administration=write", "repos/repos#delete-a-repository"),
    Route("ListBranches", "GET", f"{_REPOSITORY}/branches", "contents=read", "branches/branches#list-branches"),
    Route("GetRef", "GET", f"{_REPOSITORY}/git/ref/{{+ref}}", "contents=read", "git/refs#get-a-reference"),
    # Before GetCommit, whose references have slashes.
    Route("GetCombinedStatus", "GET", f"{_REPOSITORY}/commits/{{+ref}}/status", "statuses=read", _STATUSES),
    Route("ListStatuses", "GET", f"{_REPOSITORY}/commits/{{+ref}}/statuses", "statuses=read", _STATUSES),
    Route("CreateStatus", "POST", f"{_REPOSITORY}/statuses/{{sha}}", "statuses=write", _STATUSES),
    Route("GetCommit", "GET", f"{_REPOSITORY}/commits/{{+ref}}", "contents=read", "commits/commits#get-a-commit"),
    Route("CreateRef", "POST", f"{_REPOSITORY}/git/refs", "contents=write", "git/refs#create-a-reference"),
    Route("UpdateRef", "PATCH", f"{_REPOSITORY}/git/refs/{{+ref}}", "contents=write", "git/refs#update-a-reference"),
    Route("DeleteRef", "DELETE", f"{_REPOSITORY}/git/refs/{{+ref}}", "contents=write", "git/refs#delete-a-reference"),
    Route("CreatePull", "POST", _PULLS, "pull_requests=write", "pulls/pulls#create-a-pull-request"),
    Route("ListPulls", "GET", _PULLS, "pull_requests=read", "pulls/pulls#list-pull-requests"),
    Route("GetPull", "GET", f"{_PULLS}/{{number}}", "pull_requests=read", "pulls/pulls#get-a-pull-request"),
    Route("UpdatePull", "PATCH", f"{_PULLS}/{{number}}", "pull_requests=write", "pulls/pulls#update-a-pull-request"),
    Route("MergePull", "PUT", f"{_PULLS}/{{number}}/merge", "contents=write", "pulls/pulls#merge-a-pull-request"),
    Route("ListComments", "GET", f"{_ISSUES}/{{number}}/comments", "issues=read; pull_requests=read", _COMMENTS),
    Route("CreateComment", "POST", f"{_ISSUES}/{{number}}/comments", "issues=write; pull_requests=write", _COMMENTS),
    Route("UpdateComment", "PATCH", f"{_ISSUES}/comments/{{id}}", "issues=write; pull_requests=write", _COMMENTS),
    Route("DeleteComment", "DELETE", f"{_ISSUES}/comments/{{id}}", "issues=write; pull_requests=write", _COMMENTS),
    Route("ListVariables", "GET", _VARIABLES, "actions_variables=read", "actions/variables#list-repository-variables"),
    Route(
        "CreateVariable",
        "POST",
        _VARIABLES,
        "actions_variables=write",
        "actions/variables#create-a-repository-variable",
    ),
    Route(
        "GetVariable",
        "GET",
        f"{_VARIABLES}/{{name}}",
        "actions_variables=read",
        "actions/variables#get-a-repository-variable",
    ),
    Route(
        "UpdateVariable",
        "PATCH",
        f"{_VARIABLES}/{{name}}",
        "actions_variables=write",
        "actions/variables#update-a-repository-variable",
    ),
    Route(
        "DeleteVariable",
        "DELETE",
        f"{_VARIABLES}/{{name}}",
        "actions_variables=write",
        "actions/variables#delete-a-repository-variable",
    ),
    Route("ListRulesets", "GET", _RULESETS, "metadata=read", "repos/rules#get-all-repository-rulesets"),
    Route("CreateRuleset", "POST", _RULESETS, "administration=write", "repos/rules#create-a-repository-ruleset"),
    Route("GetRuleset", "GET", f"{_RULESETS}/{{id}}", "metadata=read", "repos/rules#get-a-repository-ruleset"),
    Route(
        "UpdateRuleset", "PUT", f"{_RULESETS}/{{id}}", "administration=write", "repos/rules#update-a-repository-ruleset"
    ),
    Route(
        "DeleteRuleset",
        "DELETE",
        f"{_RULESETS}/{{id}}",
        "administration=write",
        "repos/rules#delete-a-repository-ruleset",
    ),
    Route(
        "GetOidcSubject",
        "GET",
        f"{_REPOSITORY}/actions/oidc/customization/sub",
        "actions=read",
        "actions/oidc#get-the-customization-template-for-an-oidc-subject-claim-for-a-repository",
    ),
)
# Of Git's own protocol: what refs there are (before each of the others), what a clone gets, what a push sends.
GIT_CALLS = {"/info/refs": "DiscoverRefs", "/git-upload-pack": "Fetch", "/git-receive-pack": "Push"}
OPERATIONS = frozenset({route.operation for route in ROUTES} | set(GIT_CALLS.values()))


@dataclass(frozen=True)
class GitHubCall:
    """One call, as faults and the recorder see it (local_aws.api_calls.WatchedCall).

    Args:
        labels: the parameters in its path.
        page: where GitHub documents it.
        git: whether it is of Git's protocol, not of the REST API.
    """

    operation_name: str
    labels: Mapping[str, str]
    page: str = ""
    git: bool = False
    service: str = SERVICE
    region: str = ""
    access_key: str = ""

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation_name}"

    def parsed_request(self, request: HttpRequest) -> Any:
        """The parameters of path, query and body; of Git's protocol, how long the body is."""
        query = {name: values[0] for name, values in request.query.items()}
        if self.git:
            return {**self.labels, **query, "length": len(request.body)}
        return {**self.labels, **query, **(json.loads(request.body) if request.body else {})}

    def parsed_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """The JSON of the answer; of Git's protocol, how long it is and its hash."""
        if self.git:
            return {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        return json.loads(body) if body else None

    def error_answer(self, code: str, message: str, status: int) -> Answer:
        """An error as GitHub sends it; the codes PRIMARY and SECONDARY are those of its rate limits."""
        headers = {"Retry-After": "1"} if code == SECONDARY else {}
        if code == PRIMARY:
            headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 1)}
        status, own, body = error_answer(status, message, self.page, limit=code, plain=self.git)
        return status, own | headers, body

    def throttling(self, code: str | None = None) -> tuple[str, str, int]:
        """Code, message and HTTP status of "too many calls"; the one of both limits that is wanted."""
        words = PRIMARY_MESSAGE if code == PRIMARY else SECONDARY_MESSAGE
        return code or SECONDARY, words.format(request=uuid.uuid4().hex, user=0), 403

    def failing(self) -> tuple[str, str, int]:
        """Code, message and HTTP status of a fault of the service's own."""
        return "", SERVER_ERROR, 500


def error_answer(
    status: int,
    message: str,
    page: str = "",
    errors: list[Any] | None = None,
    *,
    limit: str = "",
    plain: bool = False,
) -> Answer:
    """An error of GitHub's: status, headers, body.

    https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api

    Args:
        page: where the call is documented.
        errors: what exactly is wrong with the input.
        limit: PRIMARY or SECONDARY when it is one of the rate limits.
        plain: as Git's protocol has it: text.
    """
    headers = {"X-GitHub-Request-Id": uuid.uuid4().hex}
    if plain:
        return status, headers | {"Content-Type": "text/plain; charset=utf-8"}, f"{message}\n".encode()
    body: dict[str, Any] = {"message": message}
    if errors is not None:
        body["errors"] = errors
    body |= {
        "documentation_url": RATE_LIMITS if limit else f"{DOCUMENTATION}/{page}".rstrip("/"),
        "status": str(status),
    }
    return status, headers | {"Content-Type": "application/json; charset=utf-8"}, json.dumps(body).encode()


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Which REST call a request is, and the parameters in its path (decoded); None when it is not answered here.

    Args:
        path: as it was sent, quoted.
    """
    for route, pattern in _patterns():
        match = pattern.fullmatch(path) if route.method == method else None
        if match:
            return route, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


@functools.cache
def _patterns() -> list[tuple[Route, re.Pattern[str]]]:
    found = []
    for route in ROUTES:
        pattern = re.escape(API + route.path).replace(r"\{", "{").replace(r"\}", "}").replace(r"\+", "+")
        pattern = re.sub(r"\{\+(\w+)\}", r"(?P<\1>.+)", pattern)
        found.append((route, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern))))
    return found


def find_rest_call(request: HttpRequest) -> GitHubCall | None:
    """The REST call that a request is."""
    found = find_route(request.method, request.path)
    if found is None:
        return None
    route, labels = found
    return GitHubCall(route.operation, labels, route.page)


def find_git_call(request: HttpRequest) -> GitHubCall | None:
    """The call of Git's protocol that a request is."""
    match = re.fullmatch(
        rf"{PREFIX}([^/]+)/([^/]+?)(?:\.git)?(/info/refs|/git-upload-pack|/git-receive-pack)", request.path
    )
    if match is None:
        return None
    labels = {"owner": unquote(match[1]), "repo": unquote(match[2])}
    return GitHubCall(GIT_CALLS[match[3]], labels, git=True)


def token_of(headers: Mapping[str, str]) -> str | None:
    """The token that a request was sent with: "Bearer ...", "token ..." or the password of Basic authentication."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    return _password(value.strip())


def _password(encoded: str) -> str | None:
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if password not in ("", "x-oauth-basic") else user or None


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The query's parameters, the first of each."""
    text = scope["query_string"].decode("latin-1")
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
