"""What the stand-in for GitHub remembers: accounts, tokens, repositories with their variables and rulesets.

Everything is in the server's store, so that it survives a restart with a state folder. A token is kept as its hash:
nothing that is written down or shown gives it away.
"""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from local_aws.git.push_rules import RefUpdate
from local_aws.git.repositories import Key
from local_aws.store import Scope, Store, Table

ANYWHERE = Scope("", "")  # GitHub is of no account and no Region
ORGANIZATION, USER = "Organization", "User"
RIGHTS = (
    "administration",
    "contents",
    "workflows",
    "variables",
    "actions",
    "statuses",
    "pull_requests",
    "issues",
    "deletion",  # of classic tokens: the scope delete_repo
)
# The first ids that are given out; GitHub's are of this size.
FIRST = {
    "account": 1_000_001,
    "repository": 900_000_001,
    "ruleset": 5_000_001,
    "run": 7_000_000_001,
    "job": 20_000_000_001,
    "status": 30_000_000_001,
    "comment": 2_000_000_001,
}


@dataclass
class Account:
    """A user or an organization.

    Args:
        kind: "Organization" or "User".
        plan: "free", "pro" (of a user), "team" or "enterprise" (of an organization).
    """

    login: str
    id: int
    kind: str
    plan: str


@dataclass
class Token:
    """A personal access token.

    Args:
        login: whose it is.
        rights: which permissions it has, of RIGHTS, each for reading and writing.
        expires: seconds since the epoch, or None.
        ending: its last four characters, which is all that is ever shown of it.
        classic: whether it is one of the older kind (ghp_), which has scopes.
        repository, permissions: of a job's token (GITHUB_TOKEN): the id of the repository that it is for, and "read"
            or "write" by the permission's name, such as "contents" or "pull-requests"; `rights` are then none.
    """

    login: str
    rights: list[str]
    expires: float | None
    ending: str
    classic: bool
    repository: int | None = None
    permissions: dict[str, str] | None = None

    def permits(self, permission: str, level: str) -> bool:
        """Whether a job's token has a permission.

        Args:
            permission: as GitHub's header X-Accepted-GitHub-Permissions has it, such as "pull_requests".
            level: "read" or "write".
        """
        given = (self.permissions or {}).get(permission.replace("_", "-"))
        return given == "write" or given == level

    @property
    def expired(self) -> bool:
        return self.expires is not None and self.expires <= time.time()

    @property
    def scopes(self) -> list[str]:
        """The scopes of a classic token that has these rights."""
        repo = ["repo"] if set(self.rights) - {"workflows", "deletion"} else []
        others = {"workflow": "workflows", "delete_repo": "deletion"}
        return repo + [scope for scope, right in others.items() if right in self.rights]


@dataclass
class Repository:
    """One repository, without what Git keeps.

    Args:
        variables: by name (in capitals): {"value", "created_at", "updated_at"}.
        rulesets: by id (as text): as GitHub answers them, without what is derived.
        created_at, updated_at, pushed_at: as GitHub writes times.
    """

    id: int
    owner: str
    name: str
    description: str | None
    homepage: str | None
    private: bool
    immutable_subject: bool
    created_at: str
    updated_at: str
    pushed_at: str
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    rulesets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def key(self) -> Key:
        """What its bare repository is found by: never by a name that somebody chose."""
        return _key(self.id)


def now() -> str:
    """The time as GitHub writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class GitHubState:
    """Safe to share between threads; whoever reads, changes and puts back holds `lock` meanwhile.

    What `account`, `repository` and their like answer are copies: a change counts when it is put.
    """

    def __init__(self, store: Store) -> None:
        self.lock = threading.RLock()
        # Hear of changes: of branches and tags (whose, who did it), of pull requests (whose, as GitHub answers it, what
        # has happened, who did it).
        self.ref_listeners: list[Callable[[Repository, str, Sequence[RefUpdate]], None]] = []
        self.pull_listeners: list[Callable[[Repository, dict[str, Any], str, str], None]] = []
        self._accounts = store.table("github/accounts")
        self._tokens = store.table("github/tokens")
        self._repositories = store.table("github/repositories")
        self._statuses = store.table("github/statuses")  # by repository's id and commit: the newest first
        self._pulls = store.table("github/pulls")  # by repository's id and number
        self._comments = store.table("github/comments")  # by repository's id and its own
        self._rest = store.table("github")
        # Logins and names are the same whatever their case: https://docs.github.com/rest/repos/repos
        self._by_name = {_name(doc["owner"], doc["name"]): key for _, key, doc in self._repositories.items()}

    # Accounts and tokens

    def account(self, login: str) -> Account | None:
        document = self._accounts.get(ANYWHERE, login.lower())
        return Account(**document) if document else None

    def accounts(self, kind: str) -> list[Account]:
        return [Account(**each) for each in self._accounts.values(ANYWHERE) if each["kind"] == kind]

    def put_account(self, login: str, kind: str, plan: str) -> Account:
        """Make an account, or give one another plan."""
        with self.lock:
            known = self.account(login)
            account = Account(login, known.id if known else self.next_id("account"), kind, plan)
            self._accounts.put(ANYWHERE, login.lower(), asdict(account))
            return account

    def token(self, text: str | None) -> Token | None:
        """The token of this text, also when it has expired."""
        document = self._tokens.get(ANYWHERE, _digest(text)) if text else None
        return Token(**document) if document else None

    def tokens(self) -> list[Token]:
        return [Token(**each) for each in self._tokens.values(ANYWHERE)]

    def put_token(self, text: str, token: Token) -> None:
        self._tokens.put(ANYWHERE, _digest(text), asdict(token))

    def revoke_token(self, text: str) -> None:
        """Forget a token; nothing happens when there is none."""
        with self.lock:
            if self._tokens.get(ANYWHERE, _digest(text)):
                self._tokens.delete(ANYWHERE, _digest(text))

    # Repositories

    def repository(self, owner: str, name: str) -> Repository | None:
        key = self._by_name.get(_name(owner, name))
        document = self._repositories.get(ANYWHERE, key) if key else None
        return Repository(**copy.deepcopy(document)) if document else None

    def repositories(self) -> Iterator[Repository]:
        for document in self._repositories.values(ANYWHERE):
            yield Repository(**copy.deepcopy(document))

    def put_repository(self, repository: Repository) -> None:
        with self.lock:
            self._repositories.put(ANYWHERE, str(repository.id), asdict(repository))
            self._by_name[_name(repository.owner, repository.name)] = str(repository.id)

    def delete_repository(self, repository: Repository) -> None:
        with self.lock:
            self._repositories.delete(ANYWHERE, str(repository.id))
            for table in (self._statuses, self._pulls, self._comments):
                for key in [key for _, key, _ in table.items() if key.startswith(f"{repository.id}/")]:
                    table.delete(ANYWHERE, key)
            del self._by_name[_name(repository.owner, repository.name)]

    def forgotten_keys(self) -> list[Key]:
        """What bare repositories were, or would have been, found by that are none of these."""
        given = range(FIRST["repository"], (self._rest.get(ANYWHERE, "ids") or {}).get("repository", 0))
        known = {each.id for each in self.repositories()}
        return [_key(number) for number in given if number not in known]

    def refs_changed(self, repository: Repository, login: str, updates: Sequence[RefUpdate]) -> None:
        """Tell of refs that have changed: by a push, or by a REST call."""
        for listener in self.ref_listeners:
            listener(repository, login, updates)

    # Statuses, pull requests, comments

    def statuses(self, repository: Repository, commit: str) -> list[dict[str, Any]]:
        """The newest first."""
        found = self._statuses.get(ANYWHERE, f"{repository.id}/{commit}") or {"all": []}
        return copy.deepcopy(found["all"])

    def put_statuses(self, repository: Repository, commit: str, statuses: list[dict[str, Any]]) -> None:
        self._statuses.put(ANYWHERE, f"{repository.id}/{commit}", {"all": statuses})

    def pulls(self, repository: Repository) -> list[dict[str, Any]]:
        return self._of(self._pulls, repository)

    def pull(self, repository: Repository, number: int) -> dict[str, Any] | None:
        found = self._pulls.get(ANYWHERE, f"{repository.id}/{number}")
        return dict(found) if found else None

    def put_pull(self, repository: Repository, pull: dict[str, Any]) -> None:
        self._pulls.put(ANYWHERE, f"{repository.id}/{pull['number']}", dict(pull))

    def next_number(self, repository: Repository) -> int:
        """Of a repository's next pull request: they are never deleted."""
        return max((pull["number"] for pull in self.pulls(repository)), default=0) + 1

    def comments(self, repository: Repository, number: int) -> list[dict[str, Any]]:
        """Those of a pull request, the oldest first."""
        found = [each for each in self._of(self._comments, repository) if each["number"] == number]
        return sorted(found, key=lambda each: each["id"])

    def comment(self, repository: Repository, number: int) -> dict[str, Any] | None:
        found = self._comments.get(ANYWHERE, f"{repository.id}/{number}")
        return dict(found) if found else None

    def put_comment(self, repository: Repository, comment: dict[str, Any]) -> None:
        self._comments.put(ANYWHERE, f"{repository.id}/{comment['id']}", comment)

    def delete_comment(self, repository: Repository, number: int) -> None:
        self._comments.delete(ANYWHERE, f"{repository.id}/{number}")

    def _of(self, table: Table, repository: Repository) -> list[dict[str, Any]]:
        return [dict(document) for _, key, document in table.items() if key.startswith(f"{repository.id}/")]

    # What else there is

    def next_id(self, kind: str) -> int:
        """An id that was never given out before, also not to what is deleted.

        Args:
            kind: one of FIRST.
        """
        with self.lock:
            ids = self._rest.get(ANYWHERE, "ids") or {}
            number = ids.get(kind, FIRST[kind])
            self._rest.put(ANYWHERE, "ids", {**ids, kind: number + 1})
            return number

    @property
    def immutable_subjects(self) -> bool:
        """Whether new repositories' OIDC subjects have the ids of owner and repository."""
        return (self._rest.get(ANYWHERE, "settings") or {}).get("immutable_subjects", True)

    @immutable_subjects.setter
    def immutable_subjects(self, value: bool) -> None:
        self._rest.put(ANYWHERE, "settings", {"immutable_subjects": value})


def _key(number: int) -> Key:
    return ("github", str(number))


def _name(owner: str, name: str) -> tuple[str, str]:
    return owner.lower(), name.lower()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
