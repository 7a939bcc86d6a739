"""GitHub's REST API as far as Modelyard calls it: one method for each operation of `github_calls.ROUTES`.

Answers have GitHub's fields, of the large ones (a repository has some ninety) those that say something here.
https://docs.github.com/rest
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_aws.git.github_calls import API, PREFIX
from local_aws.git.github_errors import ApiError, invalid, malformed, not_built, not_found
from local_aws.git.github_rulesets import read_ruleset
from local_aws.git.github_state import ORGANIZATION, USER, Account, GitHubState, Repository, Token, now
from local_aws.git.repositories import Repositories

LONGEST_NAME = 100
LONGEST_DESCRIPTION = 350
LONGEST_HOMEPAGE = 255
LONGEST_VALUE = 48 * 1024  # bytes: https://docs.github.com/actions/reference/workflows-and-actions/variables
MOST_VARIABLES = 500
FIRST_BRANCH = "main"  # what HEAD names until something is pushed
NOT_CREATED = "Repository creation failed."
UPGRADE = "Upgrade to GitHub Pro or make this repository public to enable this feature."
CREATE_FIELDS = {
    "name": str,
    "description": str,
    "homepage": str,
    "private": bool,
    "visibility": str,
    "auto_init": bool,
}
UPDATE_FIELDS = {"name": str, "description": str, "homepage": str, "default_branch": str}
NOT_NULL = frozenset({"name", "private", "visibility", "auto_init", "default_branch"})
VARIABLE_FIELDS = {"name": str, "value": str}
JSON_NAMES = {str: "a string", bool: "a boolean"}


@dataclass(frozen=True)
class RestCall:
    """One call.

    Args:
        token: of whoever calls; None of nobody in particular.
        labels: the parameters in the path.
    """

    token: Token | None
    labels: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class RestAnswer:
    """
    Args:
        content: JSON, or None for an empty body.
    """

    status: int = 200
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Rest:
    """The operations. They run in threads.

    Args:
        address: the server's own, such as "http://127.0.0.1:4566".
    """

    def __init__(self, state: GitHubState, repositories: Repositories, address: str) -> None:
        self._state, self._repositories = state, repositories
        self._site, self._api = address + PREFIX.rstrip("/"), address + API
        self.operations: dict[str, Callable[[RestCall], RestAnswer]] = {
            "GetUser": self.get_user,
            "GetOrganization": self.get_organization,
            "CreateRepository": self.create_repository,
            "GetRepository": self.get_repository,
            "UpdateRepository": self.update_repository,
            "DeleteRepository": self.delete_repository,
            "ListBranches": self.list_branches,
            "GetRef": self.get_ref,
            "GetCommit": self.get_commit,
            "ListVariables": self.list_variables,
            "CreateVariable": self.create_variable,
            "GetVariable": self.get_variable,
            "UpdateVariable": self.update_variable,
            "DeleteVariable": self.delete_variable,
            "ListRulesets": self.list_rulesets,
            "CreateRuleset": self.create_ruleset,
            "GetRuleset": self.get_ruleset,
            "UpdateRuleset": self.update_ruleset,
            "DeleteRuleset": self.delete_ruleset,
            "GetOidcSubject": self.get_oidc_subject,
        }

    # Accounts

    def get_user(self, call: RestCall) -> RestAnswer:
        return RestAnswer(content=self.account(self.owner(token_of_call(call).login)))

    def get_organization(self, call: RestCall) -> RestAnswer:
        return RestAnswer(content=self.account(self._organization(call.labels["org"])))

    def _organization(self, login: str) -> Account:
        account = self._state.account(login)
        if account is None or account.kind != ORGANIZATION:
            raise not_found()
        return account

    def owner(self, login: str) -> Account:
        account = self._state.account(login)
        assert account is not None  # accounts are never deleted
        return account

    def person(self, login: str) -> dict[str, Any]:
        """Whoever has done something: a user, or what a job of a workflow does it as."""
        account = self._state.account(login)
        return self.account(account) if account else {"login": login, "type": "Bot"}

    def account(self, account: Account) -> dict[str, Any]:
        kind = "users" if account.kind == USER else "orgs"
        return {
            "login": account.login,
            "id": account.id,
            "type": account.kind,
            "url": f"{self._api}/{kind}/{account.login}",
            "html_url": f"{self._site}/{account.login}",
        }

    # Repositories

    def create_repository(self, call: RestCall) -> RestAnswer:
        """Of an organization, or of the token's own user."""
        org = call.labels.get("org")
        owner = self._organization(org) if org is not None else self.owner(token_of_call(call).login)
        given = fields(call.body, CREATE_FIELDS, required=("name",))
        if given.get("auto_init"):
            raise not_built("auto_init", "false: push the first commit")
        private = _private(given)
        name = repository_name(given["name"])
        description = line("description", given.get("description"), LONGEST_DESCRIPTION, NOT_CREATED)
        homepage = line("homepage", given.get("homepage"), LONGEST_HOMEPAGE, NOT_CREATED)
        time = now()
        with self._state.lock:
            if self._state.repository(owner.login, name):
                raise invalid("name", "name already exists on this account", what=NOT_CREATED)
            repository = Repository(
                self._state.next_id("repository"),
                owner.login,
                name,
                description,
                homepage,
                private,
                self._state.immutable_subjects,
                time,
                time,
                time,
            )
            # Whoever finds the repository finds what Git keeps of it.
            self._repositories.create(repository.key, head=FIRST_BRANCH)
            self._state.put_repository(repository)
        content = self.describe(repository)
        return RestAnswer(201, content, {"Location": content["url"]})

    def get_repository(self, call: RestCall) -> RestAnswer:
        return RestAnswer(content=self.describe(self.find(call)))

    def update_repository(self, call: RestCall) -> RestAnswer:
        given = fields(call.body, UPDATE_FIELDS)
        with self._state.lock:
            repository = self.find(call)
            if given.get("name", repository.name) != repository.name:
                raise not_built("renaming a repository", "the name that it has")
            for name, longest in (("description", LONGEST_DESCRIPTION), ("homepage", LONGEST_HOMEPAGE)):
                if name in given:
                    setattr(repository, name, line(name, given[name], longest))
            if "default_branch" in given:
                self._set_default_branch(repository, given["default_branch"])
            repository.updated_at = now()
            self._state.put_repository(repository)
        return RestAnswer(content=self.describe(repository))

    def _set_default_branch(self, repository: Repository, branch: str) -> None:
        branches = self._repositories.branches(repository.key)
        if not branches:
            message = "Cannot update default branch for an empty repository. Please init the repository and push first."
            raise invalid("default_branch", message, code="invalid")
        if branch not in branches:
            message = (
                f"The branch {branch} was not found. Please push that ref first or create it via the Git Data API."
            )
            raise invalid("default_branch", message, code="invalid")
        self._repositories.set_head(repository.key, branch)

    def delete_repository(self, call: RestCall) -> RestAnswer:
        token = token_of_call(call)
        if token.classic and "delete_repo" not in token.scopes:
            raise ApiError(403, "Must have admin rights to Repository.")
        with self._state.lock:
            repository = self.find(call)
            self._state.delete_repository(repository)
        self._repositories.delete(repository.key)
        return RestAnswer(204)

    def find(self, call: RestCall) -> Repository:
        """The repository that a path names; one that is private is there for those alone who have a token."""
        repository = self._state.repository(call.labels["owner"], call.labels["repo"])
        if repository is None or (repository.private and call.token is None):
            raise not_found()
        return repository

    def describe(self, repository: Repository) -> dict[str, Any]:
        """A repository as it is answered."""
        owner = self.account(self.owner(repository.owner))
        page = f"{self._site}/{repository.full_name}"
        return {
            "id": repository.id,
            "name": repository.name,
            "full_name": repository.full_name,
            "owner": owner,
            "private": repository.private,
            "visibility": "private" if repository.private else "public",
            "html_url": page,
            "url": self.url(repository),
            "clone_url": f"{page}.git",
            "description": repository.description,
            "homepage": repository.homepage,
            "default_branch": self._repositories.head(repository.key),
            "created_at": repository.created_at,
            "updated_at": repository.updated_at,
            "pushed_at": repository.pushed_at,
            "size": self._size(repository),
        } | ({"organization": owner} if owner["type"] == ORGANIZATION else {})

    def page_of(self, repository: Repository) -> str:
        """The address of its page."""
        return f"{self._site}/{repository.full_name}"

    def url(self, repository: Repository) -> str:
        return f"{self._api}/repos/{repository.full_name}"

    def _size(self, repository: Repository) -> int:
        """In KiB. GitHub reckons it now and then; here it is what Git says now."""
        lines = self._repositories.git(repository.key, "count-objects", "-v").decode().splitlines()
        sizes = dict(line.split(": ") for line in lines)
        return int(sizes["size"]) + int(sizes["size-pack"])

    # What Git keeps

    def list_branches(self, call: RestCall) -> RestAnswer:
        repository = self.find(call)
        branches = [
            {"name": name, "commit": {"sha": commit, "url": f"{self.url(repository)}/commits/{commit}"}}
            for name, commit in self._repositories.branches(repository.key).items()
        ]
        return self.page(call, f"{self.url(repository)}/branches", branches)

    def get_ref(self, call: RestCall) -> RestAnswer:
        repository = self.find(call)
        self.check_not_empty(repository)
        ref = f"refs/{call.labels['ref']}"
        if ref not in self._repositories.refs(repository.key):
            raise not_found()
        return RestAnswer(content=self.ref_content(repository, ref))

    def ref_content(self, repository: Repository, ref: str) -> dict[str, Any]:
        """A reference that is there, as it is answered."""
        sha = self._repositories.refs(repository.key)[ref]
        kind = self._repositories.git(repository.key, "cat-file", "-t", sha).decode().strip()
        url = self.url(repository)
        target = {"sha": sha, "type": kind, "url": f"{url}/git/{kind}s/{sha}"}
        return {"ref": ref, "url": f"{url}/git/{ref}", "object": target}

    def get_commit(self, call: RestCall) -> RestAnswer:
        repository = self.find(call)
        self.check_not_empty(repository)
        wanted = call.labels["ref"]
        commit = self.commit_id(repository, wanted)
        if commit is None:
            raise ApiError(422, f"No commit found for SHA: {wanted}")
        form = "%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"
        shown = self._repositories.git(repository.key, "show", "--no-patch", f"--format={form}", commit).decode()
        tree, parents, *people, message = shown.split("\0")
        author, committer = (
            dict(zip(("name", "email", "date"), each, strict=True)) for each in (people[:3], people[3:])
        )
        url = self.url(repository)
        content = {
            "sha": commit,
            "url": f"{url}/commits/{commit}",
            "html_url": f"{self._site}/{repository.full_name}/commit/{commit}",
            "commit": {
                "author": author,
                "committer": committer,
                "message": message.rstrip("\n"),
                "tree": {"sha": tree, "url": f"{url}/git/trees/{tree}"},
            },
            "parents": [{"sha": parent, "url": f"{url}/commits/{parent}"} for parent in parents.split()],
        }
        return RestAnswer(content=content)

    def commit_id(self, repository: Repository, wanted: str) -> str | None:
        """Of a commit's id (also shortened), a branch, a tag, heads/<branch> or tags/<tag>."""
        if re.fullmatch(r"[0-9a-f]{7,40}", wanted):
            found = self._repositories.resolve(repository.key, wanted)
            if found:
                return found
        refs = self._repositories.refs(repository.key)
        names = (f"refs/heads/{wanted}", f"refs/tags/{wanted}", f"refs/{wanted}")
        ref = next((name for name in names if name in refs), None)
        return self._repositories.resolve(repository.key, ref) if ref else None

    def check_not_empty(self, repository: Repository) -> None:
        if not self._repositories.refs(repository.key):
            raise ApiError(409, "Git Repository is empty.")

    # Variables of Actions

    def list_variables(self, call: RestCall) -> RestAnswer:
        repository = self.find(call)
        variables = [_variable(name, each) for name, each in sorted(repository.variables.items())]
        return self.page(call, f"{self.url(repository)}/actions/variables", variables, "variables", 10, 30)

    def get_variable(self, call: RestCall) -> RestAnswer:
        variables = self.find(call).variables
        name = call.labels["name"].upper()
        if name not in variables:
            raise not_found()
        return RestAnswer(content=_variable(name, variables[name]))

    def create_variable(self, call: RestCall) -> RestAnswer:
        given = fields(call.body, VARIABLE_FIELDS, required=("name", "value"))
        name, value, time = _variable_name(given["name"]), _variable_value(given["value"]), now()
        with self._state.lock:
            repository = self.find(call)
            if name in repository.variables:
                raise ApiError(409, "Already exists - Variable already exists")
            if len(repository.variables) >= MOST_VARIABLES:
                raise ApiError(422, f"A repository has at most {MOST_VARIABLES} variables.")
            repository.variables[name] = {"value": value, "created_at": time, "updated_at": time}
            self._state.put_repository(repository)
        return RestAnswer(201, {})

    def update_variable(self, call: RestCall) -> RestAnswer:
        given = fields(call.body, VARIABLE_FIELDS)
        name = call.labels["name"].upper()
        with self._state.lock:
            repository = self.find(call)
            if name not in repository.variables:
                raise not_found()
            if given.get("name", name).upper() != name:
                raise not_built("renaming a variable", "the name that it has")
            if "value" in given:
                changed = {"value": _variable_value(given["value"]), "updated_at": now()}
                repository.variables[name] = repository.variables[name] | changed
                self._state.put_repository(repository)
        return RestAnswer(204)

    def delete_variable(self, call: RestCall) -> RestAnswer:
        with self._state.lock:
            repository = self.find(call)
            if repository.variables.pop(call.labels["name"].upper(), None) is None:
                raise not_found()
            self._state.put_repository(repository)
        return RestAnswer(204)

    # Rulesets

    def list_rulesets(self, call: RestCall) -> RestAnswer:
        repository = self._with_rulesets(call)
        rulesets = [self._ruleset(repository, each) for each in repository.rulesets.values()]
        short = [
            {name: value for name, value in each.items() if name not in ("conditions", "rules", "bypass_actors")}
            for each in rulesets
        ]
        return self.page(call, f"{self.url(repository)}/rulesets", short)

    def get_ruleset(self, call: RestCall) -> RestAnswer:
        repository = self._with_rulesets(call)
        return RestAnswer(content=self._ruleset(repository, _known(repository, call)))

    def create_ruleset(self, call: RestCall) -> RestAnswer:
        with self._state.lock:
            repository = self._with_rulesets(call)
            names = {each["name"] for each in repository.rulesets.values()}
            ruleset = read_ruleset(call.body, None, names)
            number, time = self._state.next_id("ruleset"), now()
            repository.rulesets[str(number)] = {"id": number, **ruleset, "created_at": time, "updated_at": time}
            self._state.put_repository(repository)
            return RestAnswer(201, self._ruleset(repository, repository.rulesets[str(number)]))

    def update_ruleset(self, call: RestCall) -> RestAnswer:
        with self._state.lock:
            repository = self._with_rulesets(call)
            known = _known(repository, call)
            names = {each["name"] for each in repository.rulesets.values() if each["id"] != known["id"]}
            changed = read_ruleset(call.body, known, names) | {"updated_at": now()}
            repository.rulesets[str(known["id"])] = changed
            self._state.put_repository(repository)
            return RestAnswer(content=self._ruleset(repository, changed))

    def delete_ruleset(self, call: RestCall) -> RestAnswer:
        with self._state.lock:
            repository = self._with_rulesets(call)
            del repository.rulesets[str(_known(repository, call)["id"])]
            self._state.put_repository(repository)
        return RestAnswer(204)

    def _with_rulesets(self, call: RestCall) -> Repository:
        """The repository, if its owner's plan has rulesets for it.

        https://docs.github.com/repositories/configuring-branches-and-merges-in-your-repository/managing-rulesets
        """
        repository = self.find(call)
        if repository.private and self.owner(repository.owner).plan == "free":
            raise ApiError(403, UPGRADE)
        return repository

    def _ruleset(self, repository: Repository, ruleset: dict[str, Any]) -> dict[str, Any]:
        return {**ruleset, "source_type": "Repository", "source": repository.full_name}

    # OpenID Connect

    def get_oidc_subject(self, call: RestCall) -> RestAnswer:
        repository = self.find(call)
        content = {
            "use_default": True,
            "use_immutable_subject": repository.immutable_subject,
            "sub_claim_prefix": subject_prefix(repository, self.owner(repository.owner)),
        }
        return RestAnswer(content=content)

    def page(
        self, call: RestCall, url: str, every: list[Any], name: str | None = None, usual: int = 30, most: int = 100
    ) -> RestAnswer:
        """One page of a list, as per_page and page ask; with a name, an object of that name and total_count.

        https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api
        """
        size = min(_number(call.query.get("per_page"), usual), most)
        page, last = _number(call.query.get("page"), 1), max(1, -(-len(every) // size))
        places = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        wanted = (["prev", "first"] if page > 1 else []) + (["next", "last"] if page < last else [])
        links = ", ".join(f'<{url}?per_page={size}&page={places[each]}>; rel="{each}"' for each in wanted)
        shown = every[(page - 1) * size : page * size]
        content = {"total_count": len(every), name: shown} if name else shown
        return RestAnswer(content=content, headers={"Link": links} if links else {})


def subject_prefix(repository: Repository, owner: Account) -> str:
    """What the subjects of its jobs' OIDC tokens begin with.

    https://docs.github.com/en/actions/reference/security/oidc
    """
    if repository.immutable_subject:
        return f"repo:{owner.login}@{owner.id}/{repository.name}@{repository.id}"
    return f"repo:{owner.login}/{repository.name}"


def repository_name(wanted: str) -> str:
    """The name that GitHub gives a repository: what may not be in one becomes a hyphen.

    Raises:
        ApiError: 422, nothing is left of it, it is too long or reserved.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).removesuffix(".git")
    if not name:
        raise invalid("name", "name is too short (minimum is 1 character)", what=NOT_CREATED)
    if len(name) > LONGEST_NAME:
        raise invalid("name", f"name is too long (maximum is {LONGEST_NAME} characters)", what=NOT_CREATED)
    if name in (".", ".."):
        raise invalid("name", "name is reserved", what=NOT_CREATED)
    return name


def token_of_call(call: RestCall) -> Token:
    if call.token is None:
        raise ApiError(401, "Requires authentication")
    return call.token


def fields(body: dict[str, Any], known: Mapping[str, type], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The body, of which every field is known and of its type; null is what is not given."""
    for name in required:
        if name not in body:
            raise malformed(f'"{name}" wasn\'t supplied.')
    if unknown := sorted(body.keys() - known.keys()):
        raise not_built(", ".join(unknown), ", ".join(known))
    for name, value in body.items():
        if type(value) is not known[name] and (value is not None or name in NOT_NULL):
            shown = "nil" if value is None else repr(value)
            raise malformed(f"For 'properties/{name}', {shown} is not {JSON_NAMES[known[name]]}.")
    return body


def _private(given: Mapping[str, Any]) -> bool:
    visibility = given.get("visibility")
    if visibility is None:
        return given.get("private", False)  # GitHub's default is a public repository
    if visibility not in ("public", "private"):
        raise not_built(f"the visibility {visibility!r}", "public or private")
    return visibility == "private"


def line(name: str, value: str | None, longest: int, what: str = "Validation Failed") -> str | None:
    if value is not None and len(value) > longest:
        raise invalid(name, f"{name} is too long (maximum is {longest} characters)", what=what)
    if value is not None and re.search(r"[\x00-\x1f\x7f]", value):
        raise invalid(name, f"{name} control characters are not allowed", what=what)
    return value


def _variable_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ApiError(
            422,
            "Variable name can only contain alphanumeric characters ([a-z], [A-Z], [0-9]) or underscores (_). Spaces"
            " are not allowed. Must start with a letter ([a-z], [A-Z]) or underscores (_).",
        )
    if name.upper().startswith("GITHUB_"):
        raise ApiError(422, "Variable name must not start with GITHUB_.")
    return name.upper()


def _variable_value(value: str | None) -> str:
    if value is None or len(value.encode("utf-8", "surrogatepass")) > LONGEST_VALUE:
        raise ApiError(422, "Variable value must be text of at most 48 KB.")
    return value


def _variable(name: str, variable: Mapping[str, str]) -> dict[str, str]:
    return {"name": name, **variable}


def _known(repository: Repository, call: RestCall) -> dict[str, Any]:
    ruleset = repository.rulesets.get(call.labels["id"])
    if ruleset is None:
        raise not_found()
    return ruleset


def _number(text: str | None, usual: int) -> int:
    return int(text) if text and re.fullmatch(r"[1-9][0-9]{0,8}", text) else usual
