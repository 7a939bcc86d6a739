"""CodeCommit's comments on commits: those on a comparison as a whole, not on lines of its files.

https://docs.aws.amazon.com/codecommit/latest/userguide/how-to-commit-comment.html
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.git.codecommit_revisions import known_commit
from local_aws.git.codecommit_state import SOURCE, State, caller_of, key_of, page_of
from local_aws.store import Document

COMMENTED = "CodeCommit Comment on Commit"
LONGEST_CONTENT = 10240  # characters: https://docs.aws.amazon.com/codecommit/latest/userguide/limits.html
LONGEST_TOKEN = 64
PAGE = 100


class Comments:
    """The operations on comments."""

    def __init__(self, state: State) -> None:
        self._state, self._lock = state, threading.Lock()
        self.operations: dict[str, Callable[[Call, Request], Response]] = {
            "PostCommentForComparedCommit": self.post,
            "GetCommentsForComparedCommit": self.get,
        }

    def post(self, call: Call, request: Request) -> Response:
        """Comment on what a commit changes; a token that was used for the same comment answers that comment.

        Raises:
            ServiceError: by the names of the API reference; NotImplementedException for a comment on a file's line.
        """
        key = key_of(self._state, call, request)
        before, after = request.get("beforeCommitId"), known_commit(self._state.git, key, request["afterCommitId"])
        if before is not None:
            known_commit(self._state.git, key, before)
        if before == after:
            raise ServiceError(
                "BeforeCommitIdAndAfterCommitIdAreSameException",
                "The before commit ID and the after commit ID are the same. Compare a commit with another one.",
            )
        if request.get("location"):
            raise ServiceError(
                "NotImplementedException", "local_aws does not build comments on lines: give no location.", 501
            )
        content, token = request["content"], request.get("clientRequestToken")
        check_content(content)
        check_token(token)
        repository = self._state.get(call.scope, request["repositoryName"])
        new = {"repository_id": repository["id"], "before": before, "after": after, "content": content, "token": token}
        with self._lock:
            known = next(
                (each for each in self._state.comments.values(call.scope) if token and each["token"] == token), None
            )
            if known is not None:
                if any(known[name] != value for name, value in new.items()):
                    raise mismatch()
                return self._compared(request, known) | {"comment": comment(known)}
            made = {**new, "id": str(uuid.uuid4()), "created": time.time(), "author": caller_of(call)}
            self._state.comments.put(call.scope, made["id"], made)
        self._tell(call, request["repositoryName"], made)
        return self._compared(request, made) | {"comment": comment(made)}

    def get(self, call: Call, request: Request) -> Response:
        """The comments on a comparison, the oldest first.

        Raises:
            ServiceError: by the names of the API reference.
        """
        key = key_of(self._state, call, request)
        before, after = request.get("beforeCommitId"), known_commit(self._state.git, key, request["afterCommitId"])
        repository = self._state.get(call.scope, request["repositoryName"])["id"]
        found = sorted(
            (
                each
                for each in self._state.comments.values(call.scope)
                if (each["repository_id"], each["after"]) == (repository, after) and before in (None, each["before"])
            ),
            key=lambda each: each["created"],
        )
        # Each comparison has one entry; without beforeCommitId all those with this commit.
        groups = {each["before"]: [one for one in found if one["before"] == each["before"]] for each in found}
        entries = [self._compared(request, each[0]) | {"comments": [*map(comment, each)]} for each in groups.values()]
        shown, more = page_of(entries, request, PAGE)
        return {"commentsForComparedCommitData": shown, **more}

    def _compared(self, request: Request, document: Document) -> dict[str, Any]:
        about = {"repositoryName": request["repositoryName"], "afterCommitId": document["after"]}
        return about | ({"beforeCommitId": document["before"]} if document["before"] else {})

    def _tell(self, call: Call, name: str, document: Document) -> None:
        """https://docs.aws.amazon.com/codecommit/latest/userguide/monitoring-events.html#commentOnCommitCreated"""
        detail = {
            "event": "commentOnCommitCreated",
            "repositoryName": name,
            "repositoryId": document["repository_id"],
            "afterCommitId": document["after"],
            "callerUserArn": document["author"],
            "commentId": document["id"],
            "notificationBody": f"A comment event occurred in the following AWS CodeCommit repository: {name}."
            f" The user {document['author']} made a comment. Its ID: {document['id']}.",
        }
        detail |= {"beforeCommitId": document["before"]} if document["before"] else {}
        self._state.events.emit(call.scope, COMMENTED, [self._state.arn(call.scope, name)], detail, SOURCE)


def comment(document: Document) -> dict[str, Any]:
    """A comment as CodeCommit answers it."""
    answer = {
        "commentId": document["id"],
        "content": document["content"],
        "creationDate": document["created"],
        "lastModifiedDate": document["created"],
        "authorArn": document["author"],
        "deleted": False,
        "callerReactions": [],
        "reactionCounts": {},
    }
    return answer | ({"clientRequestToken": document["token"]} if document["token"] else {})


def check_content(content: str) -> None:
    """Raises:
    ServiceError: CommentContentRequiredException, CommentContentSizeLimitExceededException.
    """
    if not content.strip():
        raise ServiceError("CommentContentRequiredException", "The comment is empty. Give its content.")
    if len(content) > LONGEST_CONTENT:
        raise ServiceError(
            "CommentContentSizeLimitExceededException",
            f"The comment has {len(content)} characters, of {LONGEST_CONTENT} allowed. Shorten it.",
        )


def check_token(token: str | None) -> None:
    """Raises:
    ServiceError: InvalidClientRequestTokenException.
    """
    if token is not None and (len(token) > LONGEST_TOKEN or not token.isprintable()):
        raise ServiceError(
            "InvalidClientRequestTokenException",
            f"The client request token is not valid: give at most {LONGEST_TOKEN} printable characters.",
        )


def mismatch() -> ServiceError:
    return ServiceError(
        "IdempotencyParameterMismatchException",
        "The client request token is not valid. Either the token is not in a valid format, or the token has been used"
        " in a previous request and cannot be reused.",
    )
