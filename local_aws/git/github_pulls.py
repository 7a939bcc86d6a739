"""Pull requests and the comments on them: https://docs.github.com/rest/pulls/pulls, .../rest/issues/comments

A pull request is between two branches of one repository: there are no forks here. Reviews are not built. Its head is at
refs/pull/<number>/head, too; refs/pull/<number>/merge is made for the workflows that it starts (github_actions).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from local_aws.git.github_errors import ApiError, invalid, malformed, not_built, not_found
from local_aws.git.github_rest import Rest, RestAnswer, RestCall, fields, token_of_call
from local_aws.git.github_state import GitHubState, Repository, now
from local_aws.git.merging import Person, commit_tree, contains, merge, tree_of
from local_aws.git.push_rules import NOTHING, RefUpdate
from local_aws.git.repositories import RefMoved, Repositories

CREATE_FIELDS = {"title": str, "head": str, "base": str, "body": str, "maintainer_can_modify": bool, "draft": bool}
UPDATE_FIELDS = {"title": str, "body": str, "state": str, "base": str, "maintainer_can_modify": bool}
MERGE_FIELDS = {"commit_title": str, "commit_message": str, "sha": str, "merge_method": str}
METHODS = ("merge", "squash", "rebase")
LONGEST_TITLE, LONGEST_BODY = 256, 65536  # characters
OPEN, CLOSED = "open", "closed"
MERGED = "Pull Request successfully merged"
NOT_MERGEABLE = "Pull Request is not mergeable"
MODIFIED = "Head branch was modified. Review and try the merge again."
GITHUB = Person("GitHub", "noreply@github.com")  # who commits what GitHub makes
BRANCHES = "refs/heads/"

Pull = dict[str, Any]
"""number, title, body, author, head, base (branches), head_sha, base_sha, state, merged_by, merge_commit, and times
(created_at, updated_at, closed_at, merged_at) as GitHub writes them."""


class Pulls:
    """The operations on pull requests and their comments."""

    def __init__(self, rest: Rest, state: GitHubState, repositories: Repositories) -> None:
        self._rest, self._state, self._git = rest, state, repositories
        state.ref_listeners.insert(0, self._refs_changed)
        self.operations: dict[str, Callable[[RestCall], RestAnswer]] = {
            "CreatePull": self.create,
            "ListPulls": self.list_pulls,
            "GetPull": self.get,
            "UpdatePull": self.update,
            "MergePull": self.merge,
            "ListComments": self.list_comments,
            "CreateComment": self.create_comment,
            "UpdateComment": self.update_comment,
            "DeleteComment": self.delete_comment,
        }

    # Pull requests

    def create(self, call: RestCall) -> RestAnswer:
        given = fields(call.body, CREATE_FIELDS, required=("head", "base"))
        if given.get("draft"):
            raise not_built("draft", "false")
        title, body = _title(given.get("title")), _body(given.get("body"))
        login = token_of_call(call).login
        with self._state.lock:
            repository = self._rest.find(call)
            branches = self._git.branches(repository.key)
            owner, _, head = given["head"].rpartition(":")
            base = given["base"]
            for field, name in (("head", head), ("base", base)):
                if name not in branches or (field == "head" and owner.lower() not in ("", repository.owner.lower())):
                    raise invalid(field, f"{field} is invalid", code="invalid", resource="PullRequest")
            same = [each for each in self._open(repository) if (each["head"], each["base"]) == (head, base)]
            if same:
                raise _refused(f"A pull request already exists for {repository.owner}:{head}.")
            if head == base or contains(self._git, repository.key, branches[base], branches[head]):
                raise _refused(f"No commits between {base} and {head}")
            time = now()
            pull: Pull = {
                "number": self._state.next_number(repository),
                "title": title,
                "body": body,
                "author": login,
                "head": head,
                "base": base,
                "head_sha": branches[head],
                "base_sha": branches[base],
                "state": OPEN,
                "merged_by": None,
                "merge_commit": None,
                "created_at": time,
                "updated_at": time,
                "closed_at": None,
                "merged_at": None,
            }
            self._keep(repository, pull)
        self._tell(repository, pull, "opened", login)
        content = self._shown(repository, pull)
        return RestAnswer(201, content, {"Location": content["url"]})

    def list_pulls(self, call: RestCall) -> RestAnswer:
        """The newest first, those that are open unless the query says otherwise."""
        repository, query = self._rest.find(call), call.query
        if unknown := sorted(query.keys() - {"state", "head", "base", "per_page", "page"}):
            raise not_built(f"the query's {', '.join(unknown)}", "state, head, base, per_page, page")
        state = query.get("state", OPEN)
        if state not in (OPEN, CLOSED, "all"):
            raise invalid("state", f"state {state!r} is not one of open, closed, all", resource="PullRequest")
        found = [
            each
            for each in self._state.pulls(repository)
            if state in (each["state"], "all")
            and query.get("head", f"{repository.owner}:{each['head']}") == f"{repository.owner}:{each['head']}"
            and query.get("base", each["base"]) == each["base"]
        ]
        found.sort(key=lambda each: -each["number"])
        every = [self._shown(repository, each) for each in found]
        return self._rest.page(call, f"{self._rest.url(repository)}/pulls", every)

    def get(self, call: RestCall) -> RestAnswer:
        repository, pull = self._find(call)
        return RestAnswer(content=self._shown(repository, pull))

    def update(self, call: RestCall) -> RestAnswer:
        given = fields(call.body, UPDATE_FIELDS)
        state = given.get("state")
        if state not in (None, OPEN, CLOSED):
            raise invalid("state", f"state {state!r} is not one of open, closed", resource="PullRequest")
        with self._state.lock:
            repository, pull = self._find(call)
            if given.get("base", pull["base"]) != pull["base"]:
                raise not_built("another base", "the base that it has")
            pull |= {"title": _title(given["title"])} if "title" in given else {}
            pull |= {"body": _body(given["body"])} if "body" in given else {}
            pull |= {"updated_at": now()}
            changed = state not in (None, pull["state"])
            if changed and state == OPEN:
                self._check_can_reopen(repository, pull)
            if changed:
                pull |= {"state": state, "closed_at": now() if state == CLOSED else None}
            if changed and state == OPEN:
                branches = self._git.branches(repository.key)
                pull |= {f"{side}_sha": branches[pull[side]] for side in ("head", "base")}
            self._keep(repository, pull)
        action = ("closed" if state == CLOSED else "reopened") if changed else "edited"
        self._tell(repository, pull, action, token_of_call(call).login)
        return RestAnswer(content=self._shown(repository, pull))

    def _check_can_reopen(self, repository: Repository, pull: Pull) -> None:
        branches = self._git.branches(repository.key)
        if pull["merged_at"] or pull["head"] not in branches or pull["base"] not in branches:
            raise invalid(
                "state", "state cannot be changed. The pull request cannot be reopened.", resource="PullRequest"
            )

    def merge(self, call: RestCall) -> RestAnswer:
        """Merge an open pull request, with a commit that GitHub makes, or with several of them (rebase)."""
        given = fields(call.body, MERGE_FIELDS)
        method = given.get("merge_method", "merge")
        if method not in METHODS:
            raise malformed(f"For 'properties/merge_method', {method!r} is not one of {', '.join(METHODS)}.")
        login = token_of_call(call).login
        with self._state.lock:
            repository, pull = self._find(call)
            branches = self._git.branches(repository.key)
            head, base = branches.get(pull["head"]), branches.get(pull["base"])
            if pull["state"] == CLOSED or head is None or base is None:
                raise ApiError(405, NOT_MERGEABLE)
            if given.get("sha", head) != head:
                raise ApiError(409, MODIFIED)
            self._check_rules(repository, pull, method)
            commit = self._merged(repository, pull, method, given, login)
            try:
                self._git.update_ref(repository.key, f"{BRANCHES}{pull['base']}", commit, base)
            except RefMoved as error:
                raise ApiError(405, "Base branch was modified. Review and try the merge again.") from error
            time = now()
            pull |= {"state": CLOSED, "closed_at": time, "updated_at": time, "head_sha": head, "base_sha": base}
            pull |= {"merged_by": login, "merge_commit": commit, "merged_at": time}
            self._state.put_pull(repository, pull)
        self._state.refs_changed(repository, login, [RefUpdate(f"{BRANCHES}{pull['base']}", base, commit)])
        self._tell(repository, pull, "closed", login)
        return RestAnswer(content={"sha": commit, "merged": True, "message": MERGED})

    def _check_rules(self, repository: Repository, pull: Pull, method: str) -> None:
        """The rulesets about pull requests: nobody reviews here."""
        head, ref = self._git.head(repository.key), f"{BRANCHES}{pull['base']}"
        for ruleset in repository.rulesets.values():
            include = ruleset["conditions"].get("ref_name", {}).get("include", [])
            names = {"~ALL", ref, *(["~DEFAULT_BRANCH"] if pull["base"] == head else [])}
            if ruleset["enforcement"] != "active" or not names & set(include):
                continue
            for rule in ruleset["rules"]:
                parameters = rule.get("parameters", {})
                if reviews := parameters.get("required_approving_review_count"):
                    words = f"At least {reviews} approving review is required by reviewers with write access."
                    raise ApiError(405, f"Repository rule violations found\n\n{words}")
                if method not in parameters.get("allowed_merge_methods", METHODS):
                    words = f"The merge method {method} is not allowed."
                    raise ApiError(405, f"Repository rule violations found\n\n{words}")

    def _merged(self, repository: Repository, pull: Pull, method: str, given: dict[str, Any], login: str) -> str:
        """The commit that the base gets."""
        key, branches = repository.key, self._git.branches(repository.key)
        base, head = branches[pull["base"]], branches[pull["head"]]
        if method == "rebase":
            return self._rebased(repository, base, head)
        tree = self._clean(repository, base, head)
        if method == "merge":
            title = f"Merge pull request #{pull['number']} from {repository.owner}/{pull['head']}"
            text, parents, author = pull["title"], [base, head], _person(login)
        else:
            commits = self._commits(repository, base, head)
            said = [self._message(repository, commit) for commit in commits]
            first = said[0] if len(said) == 1 else pull["title"]
            title, _, rest = first.partition("\n")
            title = f"{title} (#{pull['number']})"
            text = rest.strip() if len(said) == 1 else "\n\n".join(f"* {each.strip()}" for each in said)
            parents, author = [base], _person(pull["author"])
        title = given["commit_title"] if given.get("commit_title") is not None else title
        text = given["commit_message"] if given.get("commit_message") is not None else text
        message = (f"{title}\n\n{text}" if text else title).encode("utf-8", "replace")
        return commit_tree(self._git, key, tree, parents, author, message, GITHUB)

    def _rebased(self, repository: Repository, base: str, head: str) -> str:
        """Each commit anew on the base, with its author and its time, committed by GitHub."""
        tip = base
        for commit in self._commits(repository, base, head):
            about = self._git.git(repository.key, "show", "--no-patch", "--format=%an%x00%ae%x00%at", commit).decode()
            name, email, seconds = about.strip("\n").split("\0")
            tree = self._picked(repository, commit, tip)
            message = self._message(repository, commit).encode("utf-8", "replace")
            when = f"@{seconds} +0000"
            tip = commit_tree(self._git, repository.key, tree, [tip], Person(name, email), message, GITHUB, when)
        return tip

    def _picked(self, repository: Repository, commit: str, onto: str) -> str:
        """The tree that a commit's change makes of another one's.

        git merge-tree finds the base by itself (2.39): three commits are made up that have it in common.
        """
        key = repository.key
        before = tree_of(self._git, key, f"{commit}^")
        shared = commit_tree(self._git, key, before, [], GITHUB, b"base")
        ours = commit_tree(self._git, key, tree_of(self._git, key, onto), [shared], GITHUB, b"ours")
        theirs = commit_tree(self._git, key, tree_of(self._git, key, commit), [shared], GITHUB, b"theirs")
        return self._clean(repository, ours, theirs)

    def _clean(self, repository: Repository, base: str, head: str) -> str:
        merged = merge(self._git, repository.key, base, head)
        if not merged.clean:
            raise ApiError(405, NOT_MERGEABLE)
        return merged.tree

    def _commits(self, repository: Repository, base: str, head: str) -> list[str]:
        """Those of the head that the base has not, the oldest first, without merges."""
        found = self._git.git(repository.key, "rev-list", "--reverse", "--no-merges", head, f"^{base}")
        return found.decode().split()

    def _message(self, repository: Repository, commit: str) -> str:
        return self._git.git(repository.key, "show", "--no-patch", "--format=%B", commit).decode("utf-8", "replace")

    def _refs_changed(self, repository: Repository, login: str, updates: Sequence[RefUpdate]) -> None:
        """A pull request moves with its head, is merged when its base has its head, closed when a branch of it goes."""
        moved = {each.ref.removeprefix(BRANCHES): each.after for each in updates if each.ref.startswith(BRANCHES)}
        told: list[tuple[Pull, str]] = []
        with self._state.lock:
            for pull in self._open(repository):
                change, action = self._followed(repository, pull, moved, login)
                changed = pull | change | {"updated_at": now()}
                if change:
                    self._keep(repository, changed)
                if action:
                    told.append((changed, action))
        for pull, action in told:
            self._tell(repository, pull, action, login)

    def _followed(
        self, repository: Repository, pull: Pull, moved: dict[str, str], login: str
    ) -> tuple[dict[str, Any], str]:
        """What branches that moved change of an open pull request, and what that is called; "" when nobody is told."""
        head, base, time = moved.get(pull["head"]), moved.get(pull["base"]), now()
        closed = {"state": CLOSED, "closed_at": time}
        if NOTHING in (head, base):
            return closed, "closed"
        if base and contains(self._git, repository.key, base, pull["head_sha"]):
            return closed | {"merged_by": login, "merge_commit": base, "merged_at": time}, "closed"
        if head:
            return {"head_sha": head}, "synchronize"
        return ({"base_sha": base}, "") if base else ({}, "")

    def _keep(self, repository: Repository, pull: Pull) -> None:
        """Keep a pull request, and of an open one where its head is."""
        if pull["state"] == OPEN:
            self._git.update_ref(repository.key, f"refs/pull/{pull['number']}/head", pull["head_sha"])
        self._state.put_pull(repository, pull)

    def _open(self, repository: Repository) -> list[Pull]:
        return [each for each in self._state.pulls(repository) if each["state"] == OPEN]

    def _find(self, call: RestCall) -> tuple[Repository, Pull]:
        repository, number = self._rest.find(call), call.labels["number"]
        found = self._state.pull(repository, int(number)) if re.fullmatch("[1-9][0-9]{0,8}", number) else None
        if found is None:
            raise not_found()
        return repository, found

    def _tell(self, repository: Repository, pull: Pull, action: str, login: str) -> None:
        content = self._shown(repository, pull)
        for listener in self._state.pull_listeners:
            listener(repository, content, action, login)

    def _shown(self, repository: Repository, pull: Pull) -> dict[str, Any]:
        address, number = self._rest.url(repository), pull["number"]
        opened = pull["state"] == OPEN
        mergeable = merge(self._git, repository.key, pull["base_sha"], pull["head_sha"]).clean if opened else None
        merged_by = self._rest.person(pull["merged_by"]) if pull["merged_by"] else None
        shown = {name: pull[name] for name in ("number", "title", "body", "state")}
        shown |= {name: pull[name] for name in ("created_at", "updated_at", "closed_at", "merged_at")}
        return {
            **shown,
            "url": f"{address}/pulls/{number}",
            "html_url": f"{self._rest.page_of(repository)}/pull/{number}",
            "issue_url": f"{address}/issues/{number}",
            "comments_url": f"{address}/issues/{number}/comments",
            "statuses_url": f"{address}/statuses/{pull['head_sha']}",
            "user": self._rest.person(pull["author"]),
            "draft": False,
            "head": self._side(repository, pull, "head"),
            "base": self._side(repository, pull, "base"),
            "merged": pull["merged_at"] is not None,
            "mergeable": mergeable,
            "mergeable_state": "unknown" if mergeable is None else "clean" if mergeable else "dirty",
            "merge_commit_sha": pull["merge_commit"] or self._git.resolve(repository.key, f"refs/pull/{number}/merge"),
            "merged_by": merged_by,
            "comments": len(self._state.comments(repository, number)),
        }

    def _side(self, repository: Repository, pull: Pull, side: str) -> dict[str, Any]:
        repo = {"id": repository.id, "name": repository.name, "full_name": repository.full_name}
        branch = pull[side]
        return {"label": f"{repository.owner}:{branch}", "ref": branch, "sha": pull[f"{side}_sha"], "repo": repo}

    # Comments

    def list_comments(self, call: RestCall) -> RestAnswer:
        """The oldest first."""
        repository, pull = self._find(call)
        every = [self._comment(repository, each) for each in self._state.comments(repository, pull["number"])]
        return self._rest.page(call, f"{self._rest.url(repository)}/issues/{pull['number']}/comments", every)

    def create_comment(self, call: RestCall) -> RestAnswer:
        body = _comment_body(fields(call.body, {"body": str}, required=("body",))["body"])
        with self._state.lock:
            repository, pull = self._find(call)
            time = now()
            made = {"id": self._state.next_id("comment"), "number": pull["number"], "body": body}
            made |= {"author": token_of_call(call).login, "created_at": time, "updated_at": time}
            self._state.put_comment(repository, made)
        content = self._comment(repository, made)
        return RestAnswer(201, content, {"Location": content["url"]})

    def update_comment(self, call: RestCall) -> RestAnswer:
        body = _comment_body(fields(call.body, {"body": str}, required=("body",))["body"])
        with self._state.lock:
            repository, known = self._known_comment(call)
            changed = known | {"body": body, "updated_at": now()}
            self._state.put_comment(repository, changed)
        return RestAnswer(content=self._comment(repository, changed))

    def delete_comment(self, call: RestCall) -> RestAnswer:
        with self._state.lock:
            repository, known = self._known_comment(call)
            self._state.delete_comment(repository, known["id"])
        return RestAnswer(204)

    def _known_comment(self, call: RestCall) -> tuple[Repository, dict[str, Any]]:
        repository, number = self._rest.find(call), call.labels["id"]
        found = self._state.comment(repository, int(number)) if re.fullmatch("[1-9][0-9]{0,11}", number) else None
        if found is None:
            raise not_found()
        return repository, found

    def _comment(self, repository: Repository, comment: dict[str, Any]) -> dict[str, Any]:
        address, page = self._rest.url(repository), self._rest.page_of(repository)
        return {
            "id": comment["id"],
            "url": f"{address}/issues/comments/{comment['id']}",
            "html_url": f"{page}/pull/{comment['number']}#issuecomment-{comment['id']}",
            "issue_url": f"{address}/issues/{comment['number']}",
            "body": comment["body"],
            "user": self._rest.person(comment["author"]),
            "created_at": comment["created_at"],
            "updated_at": comment["updated_at"],
        }


def _title(title: str | None) -> str:
    if not title or not title.strip():
        raise invalid("title", "title can't be blank", code="missing_field", resource="PullRequest")
    if len(title) > LONGEST_TITLE:
        raise invalid("title", f"title is too long (maximum is {LONGEST_TITLE} characters)", resource="PullRequest")
    return title


def _body(body: str | None) -> str | None:
    if len(body or "") > LONGEST_BODY:
        raise invalid("body", f"body is too long (maximum is {LONGEST_BODY} characters)", resource="PullRequest")
    return body


def _comment_body(body: str) -> str:
    if not body.strip():
        raise invalid("body", "Body can't be blank", code="missing_field", resource="IssueComment")
    if len(body) > LONGEST_BODY:
        raise invalid("body", f"body is too long (maximum is {LONGEST_BODY} characters)", resource="IssueComment")
    return body


def _refused(message: str) -> ApiError:
    return ApiError(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": message}])


def _person(login: str) -> Person:
    return Person(login, f"{login}@users.noreply.github.com")
