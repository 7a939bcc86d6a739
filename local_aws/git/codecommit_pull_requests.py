"""CodeCommit's pull requests: made, changed, closed, merged. Approval rules are not built.

https://docs.aws.amazon.com/codecommit/latest/userguide/pull-requests.html
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.git.codecommit_comments import check_token, mismatch
from local_aws.git.codecommit_merges import FAST_FORWARD, SQUASH, THREE_WAY, about_merge, merge_into
from local_aws.git.codecommit_revisions import check_commit_id, source_branch
from local_aws.git.codecommit_state import SOURCE, State, caller_of, page_of
from local_aws.git.merging import merge_base
from local_aws.git.push_rules import NOTHING, RefUpdate
from local_aws.git.repositories import Key, RefMoved
from local_aws.store import Document, Scope

CHANGED = "CodeCommit Pull Request State Change"
OPEN, CLOSED = "OPEN", "CLOSED"
MOST_OPEN = 1000  # of a repository: https://docs.aws.amazon.com/codecommit/latest/userguide/limits.html
PAGE = 100
EVENT_TIME = "%a %b %d %H:%M:%S UTC %Y"

# What the notification of an event says has happened.
WORDS = {
    "pullRequestCreated": "Event: Created. The pull request was created with the following information:",
    "pullRequestSourceBranchUpdated": "Event: Updated. The source branch was updated with one or more commits:",
    "pullRequestStatusChanged": "The pull request status has been updated. The status is closed.",
    "pullRequestMergeStatusUpdated": "The pull request merge status has been updated. The status is merged.",
}


class PullRequests:
    """The operations on pull requests. What is remembered of one:

    id, repository, repository_id, title, description, author, token, created, active (times in seconds), source,
    destination (full names of refs), source_commit, destination_commit (where they were last seen), status, merge.
    """

    def __init__(self, state: State) -> None:
        self._state, self._git, self._table = state, state.git, state.pull_requests
        self._lock = threading.RLock()
        state.listeners.append(self._source_updated)
        self.operations: dict[str, Callable[[Call, Request], Response]] = {
            "CreatePullRequest": self.create,
            "GetPullRequest": self.get,
            "ListPullRequests": self.list_ids,
            "UpdatePullRequestTitle": self.update_title,
            "UpdatePullRequestDescription": self.update_description,
            "UpdatePullRequestStatus": self.update_status,
            "MergePullRequestByFastForward": lambda call, request: self._merge(call, request, FAST_FORWARD),
            "MergePullRequestBySquash": lambda call, request: self._merge(call, request, SQUASH),
            "MergePullRequestByThreeWay": lambda call, request: self._merge(call, request, THREE_WAY),
        }

    def create(self, call: Call, request: Request) -> Response:
        """Make a pull request; a token that was used for the same one answers that one.

        Raises:
            ServiceError: by the names of the API reference.
        """
        if len(request["targets"]) != 1:
            raise ServiceError("InvalidTargetsException", "Give one target: a pull request has one repository.")
        target, token = request["targets"][0], request.get("clientRequestToken")
        check_token(token)
        repository = self._state.get(call.scope, target["repositoryName"])
        key = self._state.key(call.scope, repository["name"])
        asked = hashlib.sha256(json.dumps([request["title"], request.get("description"), target]).encode()).hexdigest()
        with self._lock:
            known = next((each for each in self._table.values(call.scope) if token and each["token"] == token), None)
            if known is not None:
                if known["asked"] != asked:
                    raise mismatch()
                return self._answer(call.scope, known)
            source, destination = self._references(call.scope, key, target)
            if sum(each["status"] == OPEN for each in self._of(call.scope, repository)) >= MOST_OPEN:
                message = f"The repository has {MOST_OPEN} open pull requests, which is the most. Close or merge some."
                raise ServiceError("MaximumOpenPullRequestsExceededException", message)
            now = time.time()
            made = {
                "id": self._next_id(call.scope),
                "repository": repository["name"],
                "repository_id": repository["id"],
                "title": request["title"],
                "description": request.get("description"),
                "author": caller_of(call),
                "token": token,
                "asked": asked,
                "created": now,
                "active": now,
                "source": source[0],
                "source_commit": source[1],
                "destination": destination[0],
                "destination_commit": destination[1],
                "status": OPEN,
                "merge": None,
            }
            self._table.put(call.scope, made["id"], made)
        self._tell(call.scope, made, "pullRequestCreated", caller_of(call))
        return self._answer(call.scope, made)

    def get(self, call: Call, request: Request) -> Response:
        return self._answer(call.scope, self._find(call.scope, request))

    def list_ids(self, call: Call, request: Request) -> Response:
        """Ids, the newest first."""
        repository = self._state.get(call.scope, request["repositoryName"])
        wanted = {"status": request.get("pullRequestStatus"), "author": request.get("authorArn")}
        found = [
            each
            for each in self._of(call.scope, repository)
            if all(value in (None, each[name]) for name, value in wanted.items())
        ]
        found.sort(key=lambda each: -int(each["id"]))
        shown, more = page_of(found, request, PAGE, lambda each: int(each["id"]))
        return {"pullRequestIds": [each["id"] for each in shown], **more}

    def update_title(self, call: Call, request: Request) -> Response:
        return self._update(call, request, {"title": request["title"]})

    def update_description(self, call: Call, request: Request) -> Response:
        return self._update(call, request, {"description": request["description"]})

    def _update(self, call: Call, request: Request, change: dict[str, str]) -> Response:
        with self._lock:
            document = self._open(call.scope, request)
            changed = document | change | {"active": time.time()}
            self._table.put(call.scope, changed["id"], changed)
        return self._answer(call.scope, changed)

    def update_status(self, call: Call, request: Request) -> Response:
        """Close a pull request; nothing else can be done to its status.

        Raises:
            ServiceError: InvalidPullRequestStatusUpdateException.
        """
        with self._lock:
            document = self._find(call.scope, request)
            if document["status"] == CLOSED or request["pullRequestStatus"] != CLOSED:
                raise ServiceError(
                    "InvalidPullRequestStatusUpdateException",
                    "The pull request status update is not valid. The only valid update is from OPEN to CLOSED.",
                )
            closed = self._seen(call.scope, document) | {"status": CLOSED, "active": time.time()}
            self._table.put(call.scope, closed["id"], closed)
        self._tell(call.scope, closed, "pullRequestStatusChanged", caller_of(call))
        return self._answer(call.scope, closed)

    def _merge(self, call: Call, request: Request, option: str) -> Response:
        """Merge a pull request's source into its destination, and close it.

        Raises:
            ServiceError: by the names of the API reference.
        """
        scope, caller = call.scope, caller_of(call)
        with self._lock:
            document = self._open(scope, request)
            if self._state.get(scope, request["repositoryName"])["id"] != document["repository_id"]:
                raise ServiceError(
                    "RepositoryNotAssociatedWithPullRequestException",
                    f"Pull request {document['id']} is of the repository {document['repository']}.",
                )
            key = self._state.key(scope, document["repository"])
            _, source = source_branch(self._git, key, document["source"])
            ref, destination = source_branch(self._git, key, document["destination"])
            self._check_tip(request, source)
            words = f"Merge {_short(document['source'])} into {_short(ref)}"
            merged = merge_into(self._git, key, destination, source, option, request, caller, words)
            try:
                self._git.update_ref(key, ref, merged.commit, destination)
            except RefMoved as error:
                message = f"{ref} is being changed by another client. Try again."
                raise ServiceError("ConcurrentReferenceUpdateException", message) from error
            merge = {"mergedBy": caller, "mergeCommitId": merged.commit, "mergeOption": option, "base": merged.base}
            closed = document | {"status": CLOSED, "merge": merge, "active": time.time()}
            closed |= {"source_commit": source, "destination_commit": destination}
            self._table.put(scope, closed["id"], closed)
        update = RefUpdate(ref, destination, merged.commit)
        about = about_merge(merged, option, destination, source)
        self._state.changed(scope, document["repository"], caller, [update], about)
        self._tell(scope, closed, "pullRequestMergeStatusUpdated", caller)
        return self._answer(scope, closed)

    def _check_tip(self, request: Request, source: str) -> None:
        if wanted := request.get("sourceCommitId"):
            check_commit_id(wanted)
            if wanted != source:
                raise ServiceError(
                    "TipOfSourceReferenceIsDifferentException",
                    "The tip of the source branch in the destination repository does not match the tip of the source"
                    f" branch specified in your request: it is {source}. Look at what has changed.",
                )

    def _references(self, scope: Scope, key: Key, target: dict[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
        """Source and destination: full name and commit of each."""
        source = source_branch(self._git, key, target["sourceReference"])
        wanted = target.get("destinationReference") or self._state.default_branch(scope, target["repositoryName"])
        destination = source_branch(self._git, key, wanted or "")
        if source[0] == destination[0]:
            raise ServiceError(
                "SourceAndDestinationAreSameException",
                "The source branch and destination branch for the pull request are the same. You must specify different"
                " branches for the source and destination.",
            )
        return source, destination

    def _source_updated(self, scope: Scope, name: str, caller: str, updates: Sequence[RefUpdate]) -> None:
        """Tell of pull requests whose source has moved."""
        moved = {each.ref: each.after for each in updates if NOTHING not in (each.before, each.after)}
        repository = self._state.find(scope, name)
        if repository is None or not moved:
            return
        with self._lock:
            found = [
                each | {"source_commit": moved[each["source"]], "active": time.time()}
                for each in self._of(scope, repository)
                if each["status"] == OPEN and each["source"] in moved
            ]
            for each in found:
                self._table.put(scope, each["id"], each)
        for each in found:
            self._tell(scope, each, "pullRequestSourceBranchUpdated", caller)

    def _of(self, scope: Scope, repository: Document) -> list[Document]:
        return [each for each in self._table.values(scope) if each["repository_id"] == repository["id"]]

    def _find(self, scope: Scope, request: Request) -> Document:
        found = self._table.get(scope, request["pullRequestId"])
        if found is None:
            message = f"Pull request {request['pullRequestId'][:80]} does not exist. ListPullRequests has their ids."
            raise ServiceError("PullRequestDoesNotExistException", message)
        return found

    def _open(self, scope: Scope, request: Request) -> Document:
        document = self._find(scope, request)
        if document["status"] == CLOSED:
            raise ServiceError("PullRequestAlreadyClosedException", f"Pull request {document['id']} is closed.")
        return document

    def _next_id(self, scope: Scope) -> str:
        """Numbers of the account and Region, none of them twice."""
        number = (self._state.counters.get(scope, "pull-request") or {"next": 1})["next"]
        self._state.counters.put(scope, "pull-request", {"next": number + 1})
        return str(number)

    def _seen(self, scope: Scope, document: Document) -> Document:
        """A pull request with its branches' commits as they are now; as they were last, once it is closed."""
        if document["status"] == CLOSED:
            return document
        branches = self._git.refs(self._state.key(scope, document["repository"]), "refs/heads/")
        found = {side: branches.get(document[side]) for side in ("source", "destination")}
        return document | {f"{side}_commit": commit for side, commit in found.items() if commit}

    def _answer(self, scope: Scope, document: Document) -> Response:
        document = self._seen(scope, document)
        key = self._state.key(scope, document["repository"])
        merge = document["merge"]
        source, destination = document["source_commit"], document["destination_commit"]
        done = {"isMerged": merge is not None}
        done |= {name: merge[name] for name in ("mergedBy", "mergeCommitId", "mergeOption")} if merge else {}
        target: dict[str, Any] = {
            "repositoryName": document["repository"],
            "sourceReference": document["source"],
            "destinationReference": document["destination"],
            "sourceCommit": source,
            "destinationCommit": destination,
            "mergeMetadata": done,
        }
        base = merge["base"] if merge else merge_base(self._git, key, destination, source)
        target |= {"mergeBase": base} if base else {}
        answer = {
            "pullRequestId": document["id"],
            "title": document["title"],
            "lastActivityDate": document["active"],
            "creationDate": document["created"],
            "pullRequestStatus": document["status"],
            "authorArn": document["author"],
            "pullRequestTargets": [target],
            "revisionId": _revision(document),
            "approvalRules": [],
        }
        optional = {"description": document["description"], "clientRequestToken": document["token"]}
        return {"pullRequest": answer | {name: value for name, value in optional.items() if value is not None}}

    def _tell(self, scope: Scope, document: Document, event: str, caller: str) -> None:
        """https://docs.aws.amazon.com/codecommit/latest/userguide/monitoring-events.html#pullRequestCreated"""
        name, number = document["repository"], document["id"]
        detail = {
            "event": event,
            "repositoryNames": [name],
            "pullRequestId": number,
            "title": document["title"],
            "author": document["author"],
            "callerUserArn": caller,
            "creationDate": _event_time(document["created"]),
            "lastModifiedDate": _event_time(document["active"]),
            "sourceReference": document["source"],
            "sourceCommit": document["source_commit"],
            "destinationReference": document["destination"],
            "destinationCommit": document["destination_commit"],
            "pullRequestStatus": document["status"].capitalize(),
            "isMerged": str(document["merge"] is not None),
            "revisionId": _revision(document),
            "notificationBody": f"A pull request event occurred in the following AWS CodeCommit repository: {name}."
            f" User: {caller}. Pull request: {number} ({document['title']}). {WORDS[event]}".rstrip(":"),
        }
        detail |= {"description": document["description"]} if document["description"] is not None else {}
        detail |= {"mergeOption": document["merge"]["mergeOption"]} if document["merge"] else {}
        self._state.events.emit(scope, CHANGED, [self._state.arn(scope, name)], detail, SOURCE)


def _revision(document: Document) -> str:
    """It changes with the source branch."""
    return hashlib.sha256(f"{document['id']} {document['source_commit']}".encode()).hexdigest()


def _event_time(seconds: float) -> str:
    return time.strftime(EVENT_TIME, time.gmtime(seconds))


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")
