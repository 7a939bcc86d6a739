"""CodeCommit's API on bare repositories of this machine: repositories, branches, commits, files, tags.

Pull requests, merges and comments are in modules of their own.

Names and rules are the API reference's; messages are AWS's where they are known.
https://docs.aws.amazon.com/codecommit/latest/APIReference/
"""

from __future__ import annotations

import base64
import re
from typing import Any

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.front_door import JsonService
from local_aws.git.codecommit_comments import Comments
from local_aws.git.codecommit_commits import (
    LARGEST_FILE,
    SUBMODULE,
    Files,
    author_of,
    check_message,
    check_path,
    decide,
    mode_name,
    read_files,
    write_commit,
)
from local_aws.git.codecommit_merges import Merges
from local_aws.git.codecommit_pull_requests import PullRequests
from local_aws.git.codecommit_revisions import branch_ref, branch_tip, check_commit_id, commit_of
from local_aws.git.codecommit_state import State, caller_of, key_of, page_of
from local_aws.git.credentials import PREFIX
from local_aws.git.push_rules import NOTHING, RefUpdate
from local_aws.git.repositories import GitError, Key, RefMoved
from local_aws.permissions.authorization import Authorization
from local_aws.store import Document, Scope

MOST_NAMES = 100  # of BatchGetRepositories
MOST_TAGS = 50
PAGE = 1000
# AWS's name of the fault, by the member that the service's model forbids.
INVALID = {
    "repositoryName": "RepositoryName",
    "repositoryDescription": "RepositoryDescription",
    "branchName": "BranchName",
    "defaultBranchName": "BranchName",
    "targetBranch": "TargetBranch",
    "pullRequestId": "PullRequestId",
    "pullRequestStatus": "PullRequestStatus",
    "title": "Title",
    "description": "Description",
    "targets": "Targets",
    "sourceReference": "ReferenceName",
    "destinationReference": "ReferenceName",
    "mergeOption": "MergeOption",
    "conflictDetailLevel": "ConflictDetailLevel",
    "conflictResolutionStrategy": "ConflictResolutionStrategy",
    "sourceCommitSpecifier": "Commit",
    "destinationCommitSpecifier": "Commit",
    "afterCommitSpecifier": "Commit",
    "afterCommitId": "CommitId",
    "content": "CommentContent",
    "maxResults": "MaxResults",
    "MaxResults": "MaxResults",
}


class CodeCommit(JsonService):
    """The service.

    Args:
        state: the repositories.
        endpoint: the server's address, which clone URLs begin with.
        authorization: who may do what; without it everybody may do everything.
    """

    def __init__(self, state: State, endpoint: str, authorization: Authorization | None = None) -> None:
        super().__init__("codecommit", "CodeCommit", "CodeCommit_20150413.", authorization)
        self._state, self._endpoint, self._git = state, endpoint, state.git
        self.operations |= {
            "CreateRepository": self.create_repository,
            "GetRepository": self.get_repository,
            "BatchGetRepositories": self.batch_get_repositories,
            "ListRepositories": self.list_repositories,
            "DeleteRepository": self.delete_repository,
            "UpdateRepositoryDescription": self.update_description,
            "UpdateDefaultBranch": self.update_default_branch,
            "CreateBranch": self.create_branch,
            "DeleteBranch": self.delete_branch,
            "GetBranch": self.get_branch,
            "ListBranches": self.list_branches,
            "CreateCommit": self.create_commit,
            "GetCommit": self.get_commit,
            "GetFolder": self.get_folder,
            "GetFile": self.get_file,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list_tags,
        }
        for more in (Merges(state), PullRequests(state), Comments(state)):
            self.operations |= more.operations

    def answer(self, operation_name: str, call: Call, body: bytes) -> dict:
        """See JsonService; what the model forbids has names of its own here."""
        try:
            return super().answer(operation_name, call, body)
        except ServiceError as error:
            if error.code != "ValidationException":
                raise
            found = re.search(r"Value (.*?) at '(\w+)' failed", error.message, re.DOTALL)
            noun = INVALID.get(found[2]) if found else None
            if found is None or noun is None:
                raise
            code = f"{noun}RequiredException" if found[1] == "null" else f"Invalid{noun}Exception"
            raise ServiceError(code, error.message) from error

    # Repositories

    def create_repository(self, call: Call, request: Request) -> Response:
        """Make an empty repository.

        Raises:
            ServiceError: RepositoryNameExistsException, InvalidRepositoryNameException, and those of tags.
        """
        name = request["repositoryName"]
        # https://docs.aws.amazon.com/codecommit/latest/userguide/limits.html; "." and ".." are no part of an address
        if not name.isascii() or name.endswith(".git") or name in (".", ".."):
            raise ServiceError(
                "InvalidRepositoryNameException",
                f"The repository name {name!r} is not valid: it has letters, digits, '.', '_' and '-' of ASCII, and"
                " does not end in .git.",
            )
        tags = request.get("tags", {})
        _check_tags(tags, len(tags))
        self._state.create(call.scope, name, request.get("repositoryDescription"), request.get("kmsKeyId"), tags)
        return {"repositoryMetadata": self._metadata(call.scope, self._state.get(call.scope, name))}

    def get_repository(self, call: Call, request: Request) -> Response:
        document = self._state.get(call.scope, request["repositoryName"])
        return {"repositoryMetadata": self._metadata(call.scope, document)}

    def batch_get_repositories(self, call: Call, request: Request) -> Response:
        names = list(dict.fromkeys(request["repositoryNames"]))
        if not names:
            raise ServiceError("RepositoryNamesRequiredException", "repositoryNames is empty: name at least one.")
        if len(names) > MOST_NAMES:
            message = (
                f"The maximum number of allowed repository names was exceeded. Currently, this number is {MOST_NAMES}."
            )
            raise ServiceError("MaximumRepositoryNamesExceededException", message)
        found = {name: self._state.find(call.scope, name) for name in names}
        return {
            "repositories": [self._metadata(call.scope, document) for document in found.values() if document],
            "repositoriesNotFound": [name for name, document in found.items() if document is None],
            "errors": [],
        }

    def list_repositories(self, call: Call, request: Request) -> Response:
        by_time = request.get("sortBy") == "lastModifiedDate"

        def position(document: Document) -> list[Any]:
            return [document["modified"], document["name"]] if by_time else [document["name"]]

        descending = request.get("order") == "descending"
        found = sorted(self._state.all(call.scope), key=position, reverse=descending)
        found, more = page_of(found, request, PAGE, position)
        pairs = [{"repositoryName": each["name"], "repositoryId": each["id"]} for each in found]
        return {"repositories": pairs, **more}

    def delete_repository(self, call: Call, request: Request) -> Response:
        """Delete a repository with all that is in it; the answer has no id when there was none."""
        found = self._state.delete(call.scope, request["repositoryName"])
        return {"repositoryId": found} if found else {}

    def update_description(self, call: Call, request: Request) -> Response:
        self._state.describe(call.scope, request["repositoryName"], request.get("repositoryDescription", ""))
        return {}

    def update_default_branch(self, call: Call, request: Request) -> Response:
        key = key_of(self._state, call, request)
        branch = request["defaultBranchName"]
        branch_tip(self._git, key, branch)
        self._state.set_default_branch(call.scope, request["repositoryName"], branch)
        return {}

    # Branches

    def create_branch(self, call: Call, request: Request) -> Response:
        """Make a branch at a commit.

        Raises:
            ServiceError: BranchNameExistsException, CommitDoesNotExistException, InvalidBranchNameException,
                InvalidCommitIdException.
        """
        key, branch, commit = key_of(self._state, call, request), request["branchName"], request["commitId"]
        ref = branch_ref(self._git, branch)
        check_commit_id(commit, "InvalidCommitIdException")
        if self._git.resolve(key, commit) != commit:
            raise ServiceError("CommitDoesNotExistException", f"There is no commit {commit} in the repository.")
        try:
            self._git.update_ref(key, ref, commit, NOTHING)
        except RefMoved as error:
            raise ServiceError("BranchNameExistsException", f"Branch {branch} already exists.") from error
        self._tell(call, request, RefUpdate(ref, NOTHING, commit))
        return {}

    def delete_branch(self, call: Call, request: Request) -> Response:
        """Delete a branch; the answer has none when there was none.

        Raises:
            ServiceError: DefaultBranchCannotBeDeletedException, ConcurrentReferenceUpdateException.
        """
        key, branch = key_of(self._state, call, request), request["branchName"]
        tip = self._git.branches(key).get(branch)
        if tip is None:
            return {}
        if self._state.default_branch(call.scope, request["repositoryName"]) == branch:
            raise ServiceError(
                "DefaultBranchCannotBeDeletedException",
                f"{branch} is the default branch, which cannot be deleted. Choose another default branch first.",
            )
        ref = branch_ref(self._git, branch)
        try:
            self._git.update_ref(key, ref, NOTHING, tip)
        except RefMoved as error:
            message = f"Branch {branch} is being changed by another client. Try again."
            raise ServiceError("ConcurrentReferenceUpdateException", message) from error
        self._tell(call, request, RefUpdate(ref, tip, NOTHING))
        return {"deletedBranch": {"branchName": branch, "commitId": tip}}

    def get_branch(self, call: Call, request: Request) -> Response:
        for member in ("repositoryName", "branchName"):
            if member not in request:  # the model does not require them
                raise ServiceError(f"{INVALID[member]}RequiredException", f"{member} is missing.")
        key, branch = key_of(self._state, call, request), request["branchName"]
        return {"branch": {"branchName": branch, "commitId": branch_tip(self._git, key, branch)}}

    def list_branches(self, call: Call, request: Request) -> Response:
        names = list(self._git.branches(key_of(self._state, call, request)))
        found, more = page_of(names, request, PAGE, lambda name: name)
        return {"branches": found, **more}

    # Commits and files

    def create_commit(self, call: Call, request: Request) -> Response:
        """Add one commit to a branch; the first commit of a repository makes its branch, and that the default one.

        Raises:
            ServiceError: by the names of the API reference.
        """
        key, branch = key_of(self._state, call, request), request["branchName"]
        ref = branch_ref(self._git, branch)
        check_message(request.get("commitMessage", ""))
        parent = self._parent(key, branch, request.get("parentCommitId"))
        before: Files = read_files(self._git, key, parent) if parent else {}
        change = decide(before, request)
        message = request.get("commitMessage") or f"Change {len(change.added + change.updated + change.deleted)} files"
        author = author_of(request, caller_of(call))
        commit, tree = write_commit(self._git, key, change, parent, author, message)
        try:
            self._git.update_ref(key, ref, commit, parent or NOTHING)
        except RefMoved as error:
            raise _outdated(branch) from error
        self._tell(call, request, RefUpdate(ref, parent or NOTHING, commit))
        return {"commitId": commit, "treeId": tree, **change.response(before)}

    def get_commit(self, call: Call, request: Request) -> Response:
        key, commit = key_of(self._state, call, request), request["commitId"]
        check_commit_id(commit, "InvalidCommitIdException")
        if self._git.resolve(key, commit) != commit:
            raise ServiceError("CommitIdDoesNotExistException", f"There is no commit {commit} in the repository.")
        return {"commit": parse_commit(commit, self._git.git(key, "cat-file", "commit", commit))}

    def get_folder(self, call: Call, request: Request) -> Response:
        """What lies in a folder of a commit.

        Raises:
            ServiceError: CommitDoesNotExistException, FolderDoesNotExistException, InvalidPathException.
        """
        key = key_of(self._state, call, request)
        commit = commit_of(self._git, key, request.get("commitSpecifier"))
        path = request["folderPath"].strip("/")
        if path:
            check_path(path)
        try:
            tree = self._git.git(key, "rev-parse", "--verify", "--quiet", f"{commit}:{path}").decode().strip()
            listed = self._git.git(key, "ls-tree", "-z", tree).decode("utf-8", "replace")
        except GitError as error:
            raise ServiceError("FolderDoesNotExistException", f"There is no folder {path} in {commit}.") from error
        answer: Response = {"commitId": commit, "folderPath": path, "treeId": tree}
        answer |= {kind: [] for kind in ("subFolders", "files", "symbolicLinks", "subModules")}
        for line in filter(None, listed.split("\0")):
            about, _, name = line.partition("\t")
            mode, kind, identifier = about.split(" ")
            paths = {"absolutePath": f"{path}/{name}" if path else name, "relativePath": name}
            if kind == "tree":
                answer["subFolders"].append({"treeId": identifier, **paths})
            elif mode == SUBMODULE:
                answer["subModules"].append({"commitId": identifier, **paths})
            else:
                which = "symbolicLinks" if mode_name(mode) == "SYMLINK" else "files"
                answer[which].append({"blobId": identifier, **paths, "fileMode": mode_name(mode)})
        return answer

    def get_file(self, call: Call, request: Request) -> Response:
        """A file of a commit.

        Raises:
            ServiceError: CommitDoesNotExistException, FileDoesNotExistException, FileTooLargeException.
        """
        key = key_of(self._state, call, request)
        commit = commit_of(self._git, key, request.get("commitSpecifier"))
        path = request["filePath"].strip("/")
        check_path(path)
        literal = {"GIT_LITERAL_PATHSPECS": "1"}
        listed = self._git.git(key, "ls-tree", "-z", "--long", commit, "--", path, environment=literal).decode()
        about = listed.partition("\t")[0].split()
        if not about or about[1] != "blob":
            raise ServiceError("FileDoesNotExistException", f"There is no file {path} in {commit}.")
        mode, _, blob, size = about
        if int(size) > LARGEST_FILE:
            raise ServiceError("FileTooLargeException", f"{path} has {size} bytes. Use a Git client.")
        content = self._git.git(key, "cat-file", "blob", blob)
        return {
            "commitId": commit,
            "blobId": blob,
            "filePath": path,
            "fileMode": mode_name(mode),
            "fileSize": int(size),
            "fileContent": base64.b64encode(content).decode(),
        }

    # Tags

    def tag(self, call: Call, request: Request) -> Response:
        """Add or replace tags.

        Raises:
            ServiceError: InvalidSystemTagUsageException, TooManyTagsException.
        """

        def merged(tags: dict[str, str]) -> dict[str, str]:
            _check_tags(request["tags"], len(tags | request["tags"]))
            return tags | request["tags"]

        self._state.change_tags(call.scope, _name_of(call, request), merged)
        return {}

    def untag(self, call: Call, request: Request) -> Response:
        def left(tags: dict[str, str]) -> dict[str, str]:
            return {key: value for key, value in tags.items() if key not in request["tagKeys"]}

        self._state.change_tags(call.scope, _name_of(call, request), left)
        return {}

    def list_tags(self, call: Call, request: Request) -> Response:
        name = _name_of(call, request)
        self._state.get(call.scope, name)
        return {"tags": self._state.tags(call.scope, name)}  # 50 at most: one page

    # Parts of the above

    def _metadata(self, scope: Scope, document: Document) -> dict[str, Any]:
        name = document["name"]
        optional = {
            "repositoryDescription": document.get("description"),
            "kmsKeyId": document.get("kms_key"),
            "defaultBranch": self._state.default_branch(scope, name),
        }
        return {
            "accountId": scope.account,
            "repositoryId": document["id"],
            "repositoryName": name,
            "Arn": self._state.arn(scope, name),
            "creationDate": document["created"],
            "lastModifiedDate": document["modified"],
            "cloneUrlHttp": f"{self._endpoint}{PREFIX}{name}",
            # AWS's own: there is no SSH here.
            "cloneUrlSsh": f"ssh://git-codecommit.{scope.region}.amazonaws.com{PREFIX}{name}",
        } | {member: value for member, value in optional.items() if value is not None}

    def _parent(self, key: Key, branch: str, given: str | None) -> str | None:
        """The commit that a new one follows: the branch's tip, which the request has to name."""
        branches = self._git.branches(key)
        if given is not None:
            check_commit_id(given, "InvalidParentCommitIdException")
            if self._git.resolve(key, given) != given:
                raise ServiceError("ParentCommitDoesNotExistException", f"There is no commit {given}.")
        if not branches:
            return None
        tip = branch_tip(self._git, key, branch)
        if given is None:
            raise ServiceError(
                "ParentCommitIdRequiredException",
                "A parent commit ID is required. To view the full commit ID of a branch in a repository, use GetBranch"
                " or a Git command (for example, git pull or git log).",
            )
        if given != tip:
            raise _outdated(branch)
        return tip

    def _tell(self, call: Call, request: Request, update: RefUpdate) -> None:
        self._state.changed(call.scope, request["repositoryName"], caller_of(call), [update])


def parse_commit(commit: str, text: bytes) -> dict[str, Any]:
    """A commit as GetCommit answers it, from the object that Git keeps."""
    head, _, message = text.decode("utf-8", "replace").partition("\n\n")
    lines = [line.partition(" ") for line in head.split("\n")]
    values = {name: value for name, _, value in reversed(lines)}  # the first of each counts
    return {
        "commitId": commit,
        "treeId": values["tree"],
        "parents": [value for name, _, value in lines if name == "parent"],
        "message": message,
        "author": _user(values["author"]),
        "committer": _user(values["committer"]),
        "additionalData": "",
    }


def _user(text: str) -> dict[str, str]:
    """Name, email and date ("1763000000 +0000") of "Name <email> 1763000000 +0000"."""
    name, _, rest = text.partition(" <")
    email, _, date = rest.partition("> ")
    return {"name": name, "email": email, "date": date}


def _outdated(branch: str) -> ServiceError:
    return ServiceError(
        "ParentCommitIdOutdatedException",
        f"The provided parent commit ID is not the current tip of branch {branch}. To view the full commit ID of the"
        " current head of the branch, use GetBranch.",
    )


def _name_of(call: Call, request: Request) -> str:
    arn = request["resourceArn"]
    prefix = f"arn:aws:codecommit:{call.scope.region}:{call.scope.account}:"
    if not arn.startswith(prefix):
        raise ServiceError(
            "InvalidResourceArnException", f"{arn[:200]!r} is no ARN of a repository of this account and Region."
        )
    return arn.removeprefix(prefix)


def _check_tags(tags: dict[str, str], total: int) -> None:
    for key in tags:
        if key.lower().startswith("aws:"):
            message = f"Tag key {key!r}: the prefix aws: is AWS's own. Choose another key."
            raise ServiceError("InvalidSystemTagUsageException", message)
    if total > MOST_TAGS:
        message = (
            f"The maximum number of tags for an AWS CodeCommit resource has been exceeded: {total} are more than 50."
        )
        raise ServiceError("TooManyTagsException", message)
