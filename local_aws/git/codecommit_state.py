"""What CodeCommit knows of its repositories: what is in Git, and beside it description, tags and times."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local_aws.calls import Call, Request, ServiceError, page
from local_aws.events import Events
from local_aws.git.push_rules import NOTHING, RefUpdate
from local_aws.git.repositories import Key, Repositories
from local_aws.store import Document, Scope, Store

SOURCE = "aws.codecommit"
CHANGED = "CodeCommit Repository State Change"
# The name that HEAD of a repository without commits has; the first branch that is made replaces it.
UNBORN = "main"


class State:
    """The repositories of all accounts and Regions.

    Args:
        store: for what is not in Git.
        repositories: for what is.
        events: hear of every ref that changes.
    """

    def __init__(self, store: Store, repositories: Repositories, events: Events) -> None:
        self.git, self.events = repositories, events
        self.pull_requests = store.table("codecommit-pull-requests")  # by id
        self.comments = store.table("codecommit-comments")  # by id
        self.counters = store.table("codecommit-counters")
        # Called with scope, repository's name, caller and updates when refs have changed.
        self.listeners: list[Callable[[Scope, str, str, Sequence[RefUpdate]], None]] = []
        self._documents = store.table("codecommit-repositories")
        self._tags = store.table("tags")  # by ARN, where those who ask IAM look
        self._lock = threading.RLock()
        # By account and name; a Git client's address names no Region.
        self._regions: dict[tuple[str, str], list[str]] = {}
        for scope, name, _ in self._documents.items():
            self._regions.setdefault((scope.account, name), []).append(scope.region)

    def key(self, scope: Scope, name: str) -> Key:
        return ("codecommit", scope.account, scope.region, name)

    def arn(self, scope: Scope, name: str) -> str:
        return f"arn:aws:codecommit:{scope.region}:{scope.account}:{name}"

    def regions(self, account: str, name: str) -> list[str]:
        """The Regions in which an account has a repository of this name."""
        return list(self._regions.get((account, name), ()))

    def all(self, scope: Scope) -> list[Document]:
        return self._documents.values(scope)

    def find(self, scope: Scope, name: str) -> Document | None:
        return self._documents.get(scope, name)

    def get(self, scope: Scope, name: str) -> Document:
        """A repository's document.

        Raises:
            ServiceError: RepositoryDoesNotExistException.
        """
        found = self.find(scope, name)
        if found is None:
            raise ServiceError("RepositoryDoesNotExistException", f"{name} does not exist")
        return found

    def create(self, scope: Scope, name: str, description: str | None, key: str | None, tags: dict[str, str]) -> None:
        """Make an empty repository.

        Raises:
            ServiceError: RepositoryNameExistsException.
        """
        with self._lock:
            if self.find(scope, name) is not None:
                raise ServiceError("RepositoryNameExistsException", f"Repository named {name} already exists")
            self.git.delete(self.key(scope, name))  # of a server that was killed before it had written this down
            self.git.create(self.key(scope, name), UNBORN)
            now = time.time()
            document = {"name": name, "id": str(uuid.uuid4()), "created": now, "modified": now}
            document |= {"description": description} if description is not None else {}
            document |= {"kms_key": key} if key is not None else {}
            self._tags.put(scope, self.arn(scope, name), tags)
            self._documents.put(scope, name, document)
            self._regions.setdefault((scope.account, name), []).append(scope.region)

    def delete(self, scope: Scope, name: str) -> str | None:
        """Delete a repository; returns its id, or None when there was none."""
        with self._lock:
            document = self.find(scope, name)
            if document is None:
                return None
            self._documents.delete(scope, name)
            self._regions[scope.account, name].remove(scope.region)
            if self._tags.get(scope, self.arn(scope, name)) is not None:
                self._tags.delete(scope, self.arn(scope, name))
            for table in (self.pull_requests, self.comments):
                for left in [each for each in table.values(scope) if each["repository_id"] == document["id"]]:
                    table.delete(scope, left["id"])
            self.git.delete(self.key(scope, name))
            return document["id"]

    def describe(self, scope: Scope, name: str, description: str) -> None:
        with self._lock:
            document = self.get(scope, name)
            self._documents.put(scope, name, document | {"description": description, "modified": time.time()})

    def tags(self, scope: Scope, name: str) -> dict[str, str]:
        return dict(self._tags.get(scope, self.arn(scope, name)) or {})

    def change_tags(self, scope: Scope, name: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        """Give a repository the tags that `change` makes of those that it has; what that raises changes nothing."""
        with self._lock:
            self.get(scope, name)
            self._tags.put(scope, self.arn(scope, name), change(self.tags(scope, name)))

    def default_branch(self, scope: Scope, name: str) -> str | None:
        """The default branch; None while there is no branch."""
        key = self.key(scope, name)
        head = self.git.head(key)
        return head if head in self.git.branches(key) else None

    def set_default_branch(self, scope: Scope, name: str, branch: str) -> None:
        with self._lock:
            document = self.get(scope, name)
            self.git.set_head(self.key(scope, name), branch)
            self._documents.put(scope, name, document | {"modified": time.time()})

    def changed(
        self,
        scope: Scope,
        name: str,
        caller: str,
        updates: Sequence[RefUpdate],
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Refs of a repository have changed: the first branch becomes the default one, and events tell of it.

        Args:
            caller: ARN.
            about: what the events say besides, of a merge.
        """
        with self._lock:
            document = self.find(scope, name)
            if document is None:  # deleted meanwhile
                return
            self._documents.put(scope, name, document | {"modified": time.time()})
            made = [update.ref for update in updates if update.after != NOTHING]
            branches = [ref.removeprefix("refs/heads/") for ref in made if ref.startswith("refs/heads/")]
            if branches and self.default_branch(scope, name) is None:
                self.git.set_head(self.key(scope, name), branches[0])
        for update in updates:
            if detail := state_change(document, caller, update):
                self.events.emit(scope, CHANGED, [self.arn(scope, name)], detail | dict(about or {}), SOURCE)
        for listener in self.listeners:
            listener(scope, name, caller, updates)


def state_change(document: Document, caller: str, update: RefUpdate) -> dict[str, Any] | None:
    """The detail of the event that tells of a change; None for what is neither a branch nor a tag.

    https://docs.aws.amazon.com/codecommit/latest/userguide/monitoring-events.html
    """
    kinds = {"refs/heads/": "branch", "refs/tags/": "tag"}
    prefix = next((prefix for prefix in kinds if update.ref.startswith(prefix)), None)
    if prefix is None:
        return None
    detail = {
        "event": "referenceUpdated",
        "repositoryName": document["name"],
        "repositoryId": document["id"],
        "referenceType": kinds[prefix],
        "referenceName": update.ref.removeprefix(prefix),
        "referenceFullName": update.ref,
        "callerUserArn": caller,
    }
    if update.after == NOTHING:
        return detail | {"event": "referenceDeleted", "oldCommitId": update.before}
    if update.before == NOTHING:
        return detail | {"event": "referenceCreated", "commitId": update.after}
    return detail | {"commitId": update.after, "oldCommitId": update.before}


def caller_of(call: Call) -> str:
    """The ARN of whoever calls."""
    return call.user_context["IamIdentity"]["Arn"]


def key_of(state: State, call: Call, request: Request) -> Key:
    """Where the repository that a request names is in Git.

    Raises:
        ServiceError: RepositoryDoesNotExistException.
    """
    return state.key(call.scope, state.get(call.scope, request["repositoryName"])["name"])


def page_of(
    items: Sequence[Any], request: Request, size: int, position: Callable[[Any], Any] | None = None
) -> tuple[list[Any], dict[str, str]]:
    """One page of a list, as the request's nextToken and maxResults ask, and {"nextToken": ...} while there are more.

    Args:
        size: without maxResults.
        position: as that of local_aws.calls.page.

    Raises:
        ServiceError: InvalidContinuationTokenException.
    """
    asked = {"NextToken": request.get("nextToken"), "MaxResults": request.get("maxResults", size)}
    try:
        found, more = page(items, asked, size, position)
    except ServiceError as error:
        raise ServiceError("InvalidContinuationTokenException", error.message) from error
    return found, {"nextToken": more["NextToken"]} if more else {}
