"""A stand-in for GitHub: the REST calls that Modelyard uses, and its repositories, which `git` clones and pushes to.

It answers below /_github of the server's port, as a GitHub Enterprise Server does on a host of its own: REST at
/_github/api/v3, repositories at /_github/<owner>/<name>.git. Who has which account, token and right is set by the
switch "github" (github_switch).

| module | what it is about |
|---|---|
| github_calls | the table of calls; how faults and the recorder see one |
| github_rest | what each REST call does |
| github_rulesets | rulesets, and what they let no push do |
| github_state | accounts, tokens, repositories |
| github_limits | rate limits, outage |
| github_jobs | what a job's identity token says |
| github_statuses, github_refs, github_pulls | commit statuses; references by REST; pull requests and their comments |
| github_actions | what runs of a repository's own workflows, and when |
| github_actions_workflows, github_actions_expressions | what a workflow says |
| github_actions_job, github_actions_log | the course of one job, and its log |
| github_actions_runs | runs as they are kept and answered |
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

from local_aws.api_calls import Answer
from local_aws.builds.machine import Machine
from local_aws.git.github_actions import Actions
from local_aws.git.github_calls import API, PREFIX, Route, error_answer, find_route, query_of, token_of
from local_aws.git.github_errors import ApiError, not_found
from local_aws.git.github_limits import Limits
from local_aws.git.github_pulls import Pulls
from local_aws.git.github_refs import Refs
from local_aws.git.github_rest import Rest, RestCall
from local_aws.git.github_rulesets import push_rules
from local_aws.git.github_state import GitHubState, Repository, Token, now
from local_aws.git.github_statuses import Statuses
from local_aws.git.github_switch import GitHubSwitch
from local_aws.git.push_rules import PathRule, PushRules, RefUpdate
from local_aws.git.repositories import GitError, Repositories
from local_aws.git.smart_http import GitRequest, Opened, Refused
from local_aws.oidc import OidcIssuer
from local_aws.store import Store
from local_aws.watched_calls import whole_body

ISSUER = "/_github/_services/token"  # where a GitHub Enterprise Server issues jobs' tokens
WORKFLOWS = ".github/workflows/"
NO_RIGHT = "Resource not accessible by personal access token"
NO_RIGHT_OF_JOB = "Resource not accessible by integration"
NO_SERVER = (
    "No server is currently available to service your request. Sorry about that. Please try resubmitting your request"
    " and contact us if the problem persists."
)
NO_PASSWORD = "Invalid username or token. Password authentication is not supported for Git operations."
NO_WORKFLOW = "refusing to allow a Personal Access Token to create or update workflow `{path}` without `workflow` scope"
# The right that a permission of a fine-grained token is; whoever sees a repository may read its metadata.
RIGHT_OF = {
    "administration": "administration",
    "contents": "contents",
    "actions_variables": "variables",
    "actions": "actions",
    "statuses": "statuses",
    "pull_requests": "pull_requests",
    "issues": "issues",
}
OPEN_TO_ALL = ("contents", "statuses", "pull_requests", "issues")  # what anybody reads of a public repository

logger = logging.getLogger(__name__)


class GitHub:
    """The stand-in: a host of Git repositories (local_aws.git.smart_http.GitHost), and what answers REST calls.

    Args:
        store: what survives a restart.
        repositories: where the bare repositories are.
        address: the server's own, such as "http://127.0.0.1:4566".
        machine: what jobs of workflows are run with; without it there are no Actions.
    """

    prefix = PREFIX

    def __init__(self, store: Store, repositories: Repositories, address: str, machine: Machine | None = None) -> None:
        self.oidc = OidcIssuer(address + ISSUER, store)
        self._state, self._repositories, self._limits = GitHubState(store), repositories, Limits()
        for key in self._state.forgotten_keys():  # of a server that was killed while it made or deleted one
            repositories.delete(key)
        self._site = address + PREFIX.rstrip("/")
        self._rest = Rest(self._state, repositories, address)
        self.actions: Actions | None = None
        if machine is not None:
            self.actions = Actions(store, self._state, repositories, self.oidc, machine, self._rest.describe)
            self._rest.operations |= self.actions.runs.operations
        for more in (
            Statuses(self._rest, self._state),
            Refs(self._rest, self._state, repositories),
            Pulls(self._rest, self._state, repositories),
        ):
            self._rest.operations |= more.operations
        switch = GitHubSwitch(self._state, self._limits, self.oidc, self.actions)
        self.settings, self.configure = switch.settings, switch.configure

    def resume(self) -> None:
        """After a restart with state: runs of workflows that were under way have failed."""
        if self.actions is not None:
            self.actions.resume()

    def stop(self) -> None:
        """Begin no more runs of workflows."""
        if self.actions is not None:
            self.actions.stop()

    # REST

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Answer a REST call.

        Args:
            path: as it was sent, quoted.
            headers: names in lower case.
        """
        if self.actions is not None and method == "GET" and (served := self.actions.served(path, query, headers)):
            return served
        request = uuid.uuid4().hex
        route, labels = find_route(method, path) or (None, {})
        sent: dict[str, str] = {}  # what the answer's headers say, whatever comes of it
        try:
            token = self._let_in(headers, request, sent)
            if route is None:
                raise _not_built(method, path)
            self._check_right(route, labels, token, sent)
            answer = self._rest.operations[route.operation](RestCall(token, labels, query, _json(body)))
        except ApiError as error:
            page = route.page if route else ""
            status, more, content = error_answer(error.status, error.message, page, error.errors, limit=error.limit)
            return status, {**more, **sent, **error.headers, "X-GitHub-Request-Id": request}, content
        content = b"" if answer.content is None else json.dumps(answer.content).encode()
        kind = {"Content-Type": "application/json; charset=utf-8"} if content else {}
        return answer.status, {**kind, **sent, **answer.headers, "X-GitHub-Request-Id": request}, content

    def _let_in(self, headers: Mapping[str, str], request: str, sent: dict[str, str]) -> Token | None:
        """The token of a call, which has been counted; None of a call without one.

        Raises:
            ApiError: GitHub is out of order, or lets nobody in who calls like this.
        """
        if self._limits.outage is not None:
            raise ApiError(self._limits.outage, NO_SERVER if self._limits.outage == 503 else "Server Error")
        if not headers.get("user-agent"):
            raise ApiError(
                403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header."
            )
        token = self._state.token(token_of(headers))
        if "authorization" in headers and (token is None or token.expired):
            raise ApiError(401, "Bad credentials")
        account = self._state.account(token.login) if token else None
        sent |= self._limits.take(account.id if account else 0, request)
        if token is not None and token.classic:
            sent["X-OAuth-Scopes"] = ", ".join(token.scopes)
        return token

    def _check_right(self, route: Route, labels: Mapping[str, str], token: Token | None, sent: dict[str, str]) -> None:
        """Raises ApiError when there is nothing of this name, or the token has not the right to it."""
        repository = self._state.repository(labels["owner"], labels["repo"]) if "repo" in labels else None
        hidden = repository is not None and repository.private and token is None
        if "repo" in labels and (repository is None or hidden):
            raise not_found()
        if "org" in labels and self._state.account(labels["org"]) is None:
            raise not_found()
        if route.permission is None:
            return
        sent["X-Accepted-GitHub-Permissions"] = route.permission
        wanted = [_level(each.strip()) for each in route.permission.split(";")]
        rights = {RIGHT_OF[name] for name, _ in wanted if name in RIGHT_OF}
        public = repository is not None and not repository.private
        if not rights or (public and all(level == "read" and name in OPEN_TO_ALL for name, level in wanted)):
            return
        if token is None:
            raise ApiError(401, "Requires authentication")
        if token.permissions is not None:
            of_this = repository is not None and token.repository == repository.id
            if not of_this or not any(token.permits(*each) for each in wanted):
                raise ApiError(403, NO_RIGHT_OF_JOB)
        elif not rights & set(token.rights):
            raise ApiError(403, NO_RIGHT)

    # Git

    def open(self, request: GitRequest) -> Opened:
        """Let a clone, fetch or push in, or not (GitHost)."""
        if self._limits.outage is not None:
            raise Refused(self._limits.outage, NO_SERVER)
        text = token_of(request.headers)
        token = self._state.token(text)
        if text is not None and (token is None or token.expired):
            raise Refused(401, NO_PASSWORD, {"www-authenticate": 'Basic realm="GitHub"'})
        repository = self._repository_at(request.path)
        if token is None and (repository is None or repository.private or request.writes):
            raise Refused(401, "", {"www-authenticate": 'Basic realm="GitHub"'})
        if repository is None:
            raise Refused(404, "Repository not found.")
        if token is not None and token.permissions is not None:
            level = "write" if request.writes else "read"
            of_this = token.repository == repository.id
            if not (of_this and token.permits("contents", level)) and (request.writes or repository.private):
                raise Refused(403, f"Permission to {repository.full_name}.git denied to {token.login}.")
        elif token is not None and "contents" not in token.rights and (request.writes or repository.private):
            if token.classic:
                raise Refused(403, f"Permission to {repository.full_name}.git denied to {token.login}.")
            raise Refused(403, "Write access to repository not granted.")
        rules = self._rules(repository, token) if token is not None and request.writes else PushRules()
        return Opened(self._repositories.path(repository.key), rules, token.login if token else "")

    def pushed(self, request: GitRequest, opened: Opened, updates: list[RefUpdate]) -> None:
        """A push has changed something (GitHost). The first branch that is pushed becomes the default one."""
        with self._state.lock:
            repository = self._repository_at(request.path)
            if repository is None or self._repositories.path(repository.key) != opened.repository:
                return  # deleted meanwhile
            repository.pushed_at = now()
            self._state.put_repository(repository)
            branches = self._repositories.branches(repository.key)
            pushed = [each.ref.removeprefix("refs/heads/") for each in updates]
            first = next((name for name in pushed if name in branches), None)
            if first is not None and self._repositories.head(repository.key) not in branches:
                self._repositories.set_head(repository.key, first)
        self._state.refs_changed(repository, opened.who, updates)

    def _repository_at(self, path: str) -> Repository | None:
        """The repository of a path "<owner>/<name>.git"; Git's users may leave the ending out."""
        match = re.fullmatch(r"([^/]+)/([^/]+?)(?:\.git)?", path)
        return self._state.repository(match[1], match[2]) if match else None

    def _rules(self, repository: Repository, token: Token) -> PushRules:
        paths = () if "workflows" in token.rights else (PathRule(WORKFLOWS, "", NO_WORKFLOW),)
        head = self._repositories.head(repository.key)
        page = f"{self._site}/{repository.full_name}"
        return PushRules(push_rules(repository.rulesets.values(), head, page), paths)


def _level(permission: str) -> tuple[str, str]:
    """Of "contents=read": the name and the level."""
    name, _, level = permission.partition("=")
    return name, level


class GitHubDoor:
    """An ASGI application that answers GitHub's REST calls, and hands everything else on.

    Args:
        application: what answers all other requests.
    """

    def __init__(self, application: Any, github: GitHub) -> None:
        self._application, self._github = application, github

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["raw_path"].decode("latin-1").partition("?")[0] if scope["type"] == "http" else ""
        if not path.startswith(PREFIX):
            await self._application(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return  # the client has gone before it had asked
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, answered, content = await asyncio.to_thread(
            self._answer, scope["method"], path, query_of(scope), headers, body
        )
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answered.items()]
        if status != 204:
            pairs.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": content})

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        try:
            return self._github.answer(method, path, query, headers, body)
        except GitError as error:
            # The likeliest: the repository was deleted while it was asked for.
            logger.warning("github: %s %s: %s", method, path, error)
            return error_answer(404, "Not Found")
        except Exception:
            reference = uuid.uuid4().hex[:8]
            logger.exception("github: %s %s failed (reference %s)", method, path, reference)
            message = f"local_aws failed in {method} {path}; its log has the reason (reference {reference})."
            return error_answer(500, message)


def _json(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds; an empty body holds an empty one."""
    if not body:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:  # the latter: nested too deeply
        raise ApiError(400, "Problems parsing JSON") from error
    if not isinstance(content, dict):
        raise ApiError(400, "Body should be a JSON object")
    return content


def _not_built(method: str, path: str) -> ApiError:
    if not path.startswith(f"{API}/"):
        return ApiError(404, f"local_aws has no page {path}: of GitHub it answers {API} and Git's protocol.")
    return ApiError(
        404, f"local_aws does not build {method} {path.removeprefix(API)}: nothing of Modelyard's calls it."
    )
