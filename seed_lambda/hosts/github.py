"""GitHub and GitHub Enterprise Server: everything by REST but the push, which is Git's own.

The mark of a repository is its homepage: the CloudFormation console's page of the stack, whose address holds the ARN.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from seed_lambda.context import Context
from seed_lambda.errors import HostUnreachable, NameTaken, SeedError, repository_taken
from seed_lambda.hosts import Repository, Tree, git_push
from seed_lambda.hosts.git_push import EMAIL, Commitment
from seed_lambda.hosts.github_api import GitHubApi, Reply
from seed_lambda.hosts.token import read_token
from seed_lambda.settings import GITHUB

DESCRIPTION = 350  # characters that GitHub takes
HOMEPAGE = 255
RULESET = "Modelyard"  # its name, to which the branch is added
_SCOPES = ("repo", "workflow", "delete_repo")  # of a classic token; the last for taking a creation back
_CONSOLES = {"aws-us-gov": "console.amazonaws-us-gov.com", "aws-cn": "console.amazonaws.cn"}
_MARK = "stackId="
_TRIES = 3  # of a call that must not be repeated blindly: what it did is looked at in between


class GitHub:
    """One owner's repositories, with the platform's token.

    Args:
        owner: organization or user; "": the platform's, or else the token's own user.
    """

    def __init__(self, context: Context, owner: str = "") -> None:
        self._context = context
        self._base_url = context.settings.git_base_url
        self._token = read_token(context)
        self._api = GitHubApi(context, self._base_url, self._token, context.settings.git_token_secret_arn)
        self._asked_owner = owner or context.settings.git_owner
        self._known_user: str | None = None
        self._early: tuple[int, ...] = ()  # refusals that pass, of calls about a repository that was just made

    def check(self) -> None:
        self._user()
        if self._asked_owner and not self._is_user():
            reply = self._api.call("GET", f"/orgs/{quote(self._asked_owner)}", allowed=(404,))
            if reply.status == 404:
                raise SeedError(
                    f"GitOwner {self._asked_owner!r}: {self._base_url} knows no organization of that name, or the "
                    "platform's token may not see it. Write the organization's name as its page's address has it, or "
                    "the token's own user"
                )

    def check_tree(self, tree: Tree) -> None:
        """Nothing: the template's archive is smaller than what GitHub takes."""

    def find(self, name: str) -> Repository | None:
        """A repository that was renamed or moved since is none of this name; but a new one may not take its name."""
        return self._look(name, renamed_is_taken=self._context.request.request_type == "Create")

    def create(self, name: str, description: str, tags: Mapping[str, str]) -> Repository:
        """The tags are not kept: GitHub has none."""
        body = {
            "name": name,
            "description": _short(description),
            "homepage": homepage(self._context.mark),
            "private": True,
        }
        where = "/user/repos" if self._is_user() else f"/orgs/{quote(self._owner())}/repos"
        for tries in range(1, _TRIES + 1):
            found = self._look(name, renamed_is_taken=True)
            if found is not None:
                if found.stack == self._context.mark:
                    self._early = (404,)  # it may have been made a moment ago, by a call whose answer was lost
                    return found
                raise NameTaken(repository_taken(f"GitHub repository {self._owner()}/{name}"))
            self._context.still_current()
            try:
                reply = self._api.call("POST", where, body, allowed=(422,))
            except HostUnreachable:
                if tries == _TRIES or self._context.patience() <= 1.0:
                    raise
                self._context.pause_for_host(1.0)  # it may have been made: the mark tells
                continue
            if reply.status == 422:
                if "already exists" in reply.words.lower():
                    if tries < _TRIES and self._context.patience() > tries:
                        self._context.pause_for_host(tries)  # it may be there, and not be shown yet
                    continue
                raise SeedError(f"GitHub does not make the repository {name}: {reply.words}")
            self._early = (404,)
            self._context.log("made a repository", repository=f"{self._owner()}/{name}")
            return self._repository(reply.body)
        raise NameTaken(
            f"GitHub has a repository {self._owner()}/{name} already, which the platform's token may not see: choose "
            "another name for the project or its repository, or an administrator lets the token see all repositories "
            "of that owner"
        )

    def describe_anew(self, name: str, description: str, tags: Mapping[str, str]) -> None:
        """The tags are not kept: GitHub has none."""
        self._context.still_current()
        self._api.call("PATCH", self._path(name), {"description": _short(description)})

    def set_variables(self, name: str, variables: Mapping[str, str], old: Mapping[str, str]) -> None:
        if not variables and not old:
            return
        path = f"{self._path(name)}/actions/variables"
        there = {entry["name"]: entry["value"] for entry in self._api.pages(path, "variables", self._early)}
        for variable, value in variables.items():
            if there.get(variable) == value:
                continue
            self._context.still_current()
            body = {"name": variable, "value": value}
            if variable not in there:
                # 409: made by a call whose answer was lost
                if self._post_again(path, body, allowed=(409,)).status != 409:
                    continue
                self._context.still_current()
            self._api.call("PATCH", f"{path}/{quote(variable)}", body)
        for variable in sorted(set(old) - set(variables)):
            if variable in there:
                self._context.still_current()
                self._api.call("DELETE", f"{path}/{quote(variable)}", allowed=(404,))

    def heads(self, name: str, branches: Sequence[str]) -> dict[str, str]:
        found = {}
        for branch in branches:
            # 409: the repository is empty
            reply = self._api.call("GET", f"{self._path(name)}/git/ref/heads/{quote(branch)}", allowed=(404, 409))
            if reply.status == 200:
                found[branch] = reply.body["object"]["sha"]
        return found

    def push(self, name: str, tree: Tree, branches: tuple[str, ...], message: str) -> str:
        there = self.heads(name, branches)
        first, *others = branches
        parent = there.get(first)
        made = git_push.commit_of(tree, message, int(time.time()), parent)
        commit, objects = made.commit, made.objects
        if parent is not None and self._tree(name, parent) == made.tree:
            commit, objects = parent, []
        wanted = {branch: commit for branch in (first, *others) if branch == first or branch not in there}
        if wanted == {first: there.get(first)}:
            return commit
        self._push(name, wanted, Commitment(commit, made.tree, objects))
        self._context.log("pushed", repository=f"{self._owner()}/{name}", branches=sorted(wanted), commit=commit)
        return commit

    def set_default_branch(self, name: str, branch: str) -> None:
        self._context.still_current()
        # 422: it does not know the branch yet
        self._api.call("PATCH", self._path(name), {"default_branch": branch}, early=(404, 422))

    def protect(self, name: str, branch: str) -> None:
        path, ruleset = f"{self._path(name)}/rulesets", f"{RULESET}: {branch}"
        reply = self._api.call("GET", path, allowed=(403, 404), early=self._early)
        if reply.status == 200 and any(rule["name"] == ruleset for rule in reply.body):
            return
        if reply.status == 200:
            self._context.still_current()
            reply = self._post_again(path, _ruleset(ruleset, branch), allowed=(403, 404, 422))
        if reply.status >= 400 and not (reply.status == 422 and "unique" in reply.words.lower()):
            self._context.log(
                "GitHub did not protect the branch: anybody who may push can change it. Rulesets of private "
                "repositories need a paid plan, and the token the right Administration",
                level="WARNING",
                repository=f"{self._owner()}/{name}",
                branch=branch,
                answer=reply.words,
            )

    def how_to_mark(self) -> str:
        return f'let the field Website (beside "About" on its page on GitHub) be {homepage(self._context.mark)}'

    def holds_seed_alone(self, name: str) -> bool:
        reply = self._api.call("GET", f"{self._path(name)}/branches?per_page=100")
        commits = {branch["commit"]["sha"] for branch in reply.body}  # of a first page: a second has others, too
        if not commits:
            return True
        if len(commits) > 1:
            return False
        commit = self._api.call("GET", f"{self._path(name)}/commits/{commits.pop()}").body
        return not commit["parents"] and commit["commit"]["author"]["email"] == EMAIL

    def delete(self, name: str) -> None:
        self._context.still_current()
        reply = self._api.call("DELETE", self._path(name), allowed=(403, 404))
        if reply.status == 403:
            raise SeedError(
                f"GitHub does not let the platform's token delete the repository {self._owner()}/{name}: "
                f"{reply.words}. A fine-grained token needs the permission Administration (read and write), a classic "
                "one the scope delete_repo; and an organization may keep its members from deleting repositories (its "
                "settings, Member privileges). An administrator changes that, or deletes the repository by hand; then "
                "delete again"
            )
        self._context.log("deleted a repository", repository=f"{self._owner()}/{name}")

    # --- owner

    def _user(self) -> str:
        """The token's user; "" for a token of a GitHub App, which has none. Raises SeedError for a useless token."""
        if self._known_user is None:
            reply = self._api.call("GET", "/user", allowed=(403, 404))
            known = reply.body if isinstance(reply.body, dict) else {}
            if reply.status == 404 or (reply.status == 200 and "login" not in known):
                raise self._api.not_github("GET", "/user", reply)
            scopes = reply.headers.get("x-oauth-scopes")
            if scopes and (missing := set(_SCOPES) - {scope.strip() for scope in scopes.split(",")}):
                raise SeedError(
                    f"the platform's GitHub token lacks the scope {' and '.join(sorted(missing))}: an administrator "
                    f"adds it to the token in the secret {self._context.settings.git_token_secret_arn}"
                )
            self._known_user = known["login"] if reply.status == 200 else ""
        return self._known_user

    def _owner(self) -> str:
        owner = self._asked_owner or self._user()
        if not owner:
            raise SeedError("GitOwner is missing: the platform's token has no user of its own; name the organization")
        return owner

    def _is_user(self) -> bool:
        return self._owner().lower() == self._user().lower()

    def _path(self, name: str) -> str:
        return f"/repos/{quote(self._owner())}/{quote(name)}"

    # --- repository

    def _look(self, name: str, renamed_is_taken: bool) -> Repository | None:
        reply = self._api.call("GET", self._path(name), allowed=(404, 301))
        if reply.status == 301 and renamed_is_taken:
            raise NameTaken(
                f"the GitHub repository {self._owner()}/{name} was renamed or moved, and its old address still leads "
                "there, which a new one of that name would end: choose another name for the project or its repository"
            )
        return self._repository(reply.body) if reply.status == 200 else None

    def _repository(self, body: Mapping[str, Any]) -> Repository:
        return Repository(
            name=body["name"],
            stack=stack_of(body.get("homepage") or ""),
            url=body["html_url"],
            clone_url=body["clone_url"],
            clone_command=f"git clone {body['clone_url']}",
            oidc_subject=self._oidc_subject(body),
        )

    def _oidc_subject(self, body: Mapping[str, Any]) -> str:
        """How the subject of the repository's CI tokens begins."""
        reply = self._api.call("GET", f"{self._path(body['name'])}/actions/oidc/customization/sub", allowed=(403, 404))
        said = reply.body if reply.status == 200 and isinstance(reply.body, dict) else {}
        return oidc_subject(body, said, new_have_ids=self._base_url == GITHUB)

    def _post_again(self, path: str, body: Any, allowed: tuple[int, ...]) -> Reply:
        """A POST that does no harm twice, since the second is refused."""
        for tries in range(1, _TRIES + 1):
            try:
                return self._api.call("POST", path, body, allowed, self._early)
            except HostUnreachable:
                if tries == _TRIES or self._context.patience() <= 1.0:
                    raise
                self._context.pause_for_host(1.0)
                self._context.still_current()
        raise AssertionError("the last try returns or raises")

    # --- push

    def _tree(self, name: str, commit: str) -> str:
        return self._api.call("GET", f"{self._path(name)}/commits/{commit}").body["commit"]["tree"]["sha"]

    def _push(self, name: str, branches: Mapping[str, str], made: Commitment) -> None:
        url = f"{self._base_url}/{quote(self._owner())}/{quote(name)}.git"
        refs = {f"refs/heads/{branch}": commit for branch, commit in branches.items()}
        tries = 0
        while True:
            self._context.still_current()
            began, fault = self._context.monotonic(), None
            try:
                git_push.push(url, "x-access-token", self._token, refs, made.objects, self._api.seconds())
                return
            except git_push.Refused as error:
                words = str(error)
            except git_push.Failed as error:
                words, fault = str(error), error
                self._context.waited_for_host(self._context.monotonic() - began)
            words = self._context.log.clean(words)
            there = self.heads(name, tuple(branches))  # its answer may have been lost
            if all(there.get(branch) == commit for branch, commit in branches.items()):
                return
            if fault is None:
                raise self._push_refused(name, words)
            if self._api.waited_for_rate("GET", Reply(fault.status, {"message": words}, fault.headers)):
                continue  # the next round asks whether the request still counts
            tries += 1
            if fault.status == 401 or tries == _TRIES or self._context.patience() <= 1.0:
                raise self._push_failed(name, fault.status, words)
            self._context.log("the push failed: trying again", level="WARNING", fault=words)
            self._context.pause_for_host(1.0)

    def _push_refused(self, name: str, words: str) -> SeedError:
        """The words for Git's own refusal, of which GitHub says why."""
        if "refusing to allow" in words and "workflow" in words:
            return SeedError(
                "GitHub does not let the platform's token push workflow files: an administrator gives it the "
                "permission Workflows (read and write), or a classic one the scope workflow; the token is in the "
                f"secret {self._context.settings.git_token_secret_arn}. GitHub says: {words[:600]}"
            )
        return SeedError(f"GitHub refused the push to {self._owner()}/{name}: {words[:600]}")

    def _push_failed(self, name: str, status: int, words: str) -> SeedError:
        """The words for a push that Git did not answer."""
        what = f"the push to {self._owner()}/{name}"
        if status not in (401, 403, 404):
            return self._api.unreachable(what, words[:600])
        return SeedError(
            f"GitHub does not let the platform's token do {what}: {words[:600]}. The token needs the permission "
            "Contents (read and write), a classic one the scope repo, and the repository's owner must let it in; it is "
            f"in the secret {self._context.settings.git_token_secret_arn}"
        )


def homepage(stack: str) -> str:
    """The CloudFormation console's page of the stack, which is the repository's mark.

    Raises:
        SeedError: the stack's name is too long for it.
    """
    _, partition, _, region, *_ = stack.split(":")
    console = _CONSOLES.get(partition, "console.aws.amazon.com")
    url = f"https://{console}/cloudformation/home?region={region}#/stacks/stackinfo?{_MARK}{stack}"
    if len(url) > HOMEPAGE:
        raise SeedError(
            f"the stack's name is {len(url) - HOMEPAGE} characters too long: its console address must fit into the "
            f"{HOMEPAGE} characters of a GitHub repository's homepage; give the stack a shorter name"
        )
    return url


def stack_of(homepage: str) -> str:
    """ARN of the stack whose page a homepage is; "" for any other homepage."""
    _, found, stack = homepage.partition(f"#/stacks/stackinfo?{_MARK}")
    return unquote(stack) if found else ""


def _short(description: str) -> str:
    return description[:DESCRIPTION]


def _ruleset(name: str, branch: str) -> dict[str, Any]:
    """https://docs.github.com/en/rest/repos/rules#create-a-repository-ruleset"""
    review = {
        "required_approving_review_count": 0,
        "dismiss_stale_reviews_on_push": False,
        "require_code_owner_review": False,
        "require_last_push_approval": False,
        "required_review_thread_resolution": False,
    }
    return {
        "name": name,
        "target": "branch",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": [f"refs/heads/{branch}"], "exclude": []}},
        "rules": [
            {"type": "deletion"},
            {"type": "non_fast_forward"},
            {"type": "pull_request", "parameters": review},
        ],
    }


def oidc_subject(repository: Mapping[str, Any], said: Mapping[str, Any], new_have_ids: bool) -> str:
    """How the subject of a repository's CI tokens begins; a role trusts nothing else, so it is one of two forms.

    https://docs.github.com/en/actions/reference/security/oidc

    Args:
        repository: as GitHub describes it.
        said: GitHub's answer about the subject's form, empty where the token may not ask. Its prefix counts before its
            flag, since a public repository's notes show an answer in which the two disagree.
        new_have_ids: whether new repositories of this host have the form with ids; github.com's have since 2026-07-15.
    """
    owner, name = repository["owner"]["login"], repository["name"]
    plain = f"repo:{owner}/{name}"
    with_ids = f"repo:{owner}@{repository['owner']['id']}/{name}@{repository['id']}"
    if said.get("sub_claim_prefix") in (plain, with_ids):
        return str(said["sub_claim_prefix"])
    flag = said.get("use_immutable_subject")
    return with_ids if (new_have_ids if flag is None else flag) else plain
