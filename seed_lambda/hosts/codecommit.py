"""AWS CodeCommit: a commit by one call, a mark by tags. It has no branch protection and no CI variables of its own.

https://docs.aws.amazon.com/codecommit/latest/APIReference/Welcome.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from seed_lambda.aws_calls import is_gone
from seed_lambda.context import Context
from seed_lambda.errors import NameTaken, SeedError, repository_taken
from seed_lambda.groups import STACK_TAG
from seed_lambda.hosts import File, Mode, Repository, Tree
from seed_lambda.hosts.git_push import AUTHOR, EMAIL, blob_id

# Of one commit: https://docs.aws.amazon.com/codecommit/latest/APIReference/API_CreateCommit.html. The texts say 7 MB
# and 6 MB, which is read as the smaller of what it may mean.
MOST_FILES = 100
MOST_BYTES = 7 * 1000 * 1000
LARGEST = 6 * 1000 * 1000  # a file, and what a folder holds itself
MOST_PARTS = 10  # commits that the seed's first push is made of at most, one for each MOST_FILES
MOST_BRANCHES = 10  # more than the seed makes, so that somebody else has
DESCRIPTION = 1000  # characters, CreateRepository
_MODES: Mapping[Mode, str] = {"100644": "NORMAL", "100755": "EXECUTABLE", "120000": "SYMLINK"}


class CodeCommit:
    """CodeCommit in the function's own account and Region."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self) -> None:
        """Nothing: AWS's refusals say by themselves what is missing."""

    def check_tree(self, tree: Tree) -> None:
        folders: dict[str, int] = {}
        for path, file in tree.items():
            size, folder = len(file.content), path.rpartition("/")[0]
            if size > LARGEST:
                raise _too_large(f"the file {path} has {size:,} bytes", "in a file")
            folders[folder] = folders.get(folder, 0) + size
        for folder, size in folders.items():
            if size > LARGEST:
                raise _too_large(f"the files in the folder {folder or '/'} have {size:,} bytes", "in one folder")

    def find(self, name: str) -> Repository | None:
        metadata = self._metadata(name)
        return None if metadata is None else self._repository(metadata)

    def create(self, name: str, description: str, tags: Mapping[str, str]) -> Repository:
        if self._metadata(name) is None:
            self._context.still_current()
            try:
                answer = self._client.create_repository(
                    repositoryName=name, repositoryDescription=_short(description), tags=dict(tags)
                )
                self._context.log("made a repository", repository=name)
                return self._repository(answer["repositoryMetadata"], self._context.mark)
            except ClientError as error:
                _explain(error, name)
        found = self.find(name)
        if found is None or found.stack != self._context.mark:
            raise NameTaken(repository_taken(f"CodeCommit repository {name}"))
        return found

    def describe_anew(self, name: str, description: str, tags: Mapping[str, str]) -> None:
        metadata = self._metadata(name)
        if metadata is None:
            return
        self._context.still_current()
        self._client.update_repository_description(repositoryName=name, repositoryDescription=_short(description))
        self._context.still_current()
        self._client.tag_resource(resourceArn=metadata["Arn"], tags=dict(tags))

    def set_variables(self, name: str, variables: Mapping[str, str], old: Mapping[str, str]) -> None:
        """Nothing: the project's builds are CodeBuild's, which CloudFormation gives their variables."""

    def heads(self, name: str, branches: Sequence[str]) -> dict[str, str]:
        found = {}
        for branch in branches:
            try:
                answer = self._client.get_branch(repositoryName=name, branchName=branch)
            except ClientError as error:
                if error.response["Error"]["Code"] == "BranchDoesNotExistException":
                    continue
                raise
            found[branch] = answer["branch"]["commitId"]
        return found

    def push(self, name: str, tree: Tree, branches: tuple[str, ...], message: str) -> str:
        first, *others = branches
        there = self.heads(name, branches)
        commit = self._commit(name, tree, first, message, there.get(first))
        for branch in others:
            if branch in there:
                continue
            self._context.still_current()
            try:
                self._client.create_branch(repositoryName=name, branchName=branch, commitId=commit)
            except ClientError as error:
                if error.response["Error"]["Code"] != "BranchNameExistsException":  # an answer that was lost
                    raise
        return commit

    def set_default_branch(self, name: str, branch: str) -> None:
        self._context.still_current()
        self._client.update_default_branch(repositoryName=name, defaultBranchName=branch)

    def protect(self, name: str, branch: str) -> None:
        self._context.log(
            "CodeCommit has no branch protection: the project's developer policy denies pushes to the branch",
            repository=name,
            branch=branch,
        )

    def how_to_mark(self) -> str:
        return f"let its tag {STACK_TAG} be {self._context.mark}"

    def holds_seed_alone(self, name: str) -> bool:
        pages = self._client.get_paginator("list_branches").paginate(repositoryName=name)
        names = [branch for page in pages for branch in page["branches"]]
        if len(names) > MOST_BRANCHES:
            return False
        commits = set(self.heads(name, names).values())
        if not commits:
            return True
        if len(commits) > 1:
            return False
        before = [commits.pop()]
        for _ in range(MOST_PARTS):
            commit = self._client.get_commit(repositoryName=name, commitId=before[0])["commit"]
            before = commit.get("parents", [])
            if commit["author"].get("email") != EMAIL or len(before) > 1:
                return False
            if not before:
                return True
        return False

    def delete(self, name: str) -> None:
        self._context.still_current()
        try:
            self._client.delete_repository(repositoryName=name)  # of one that is gone it answers without an id
        except ClientError as error:
            if not is_gone(error, lambda: self._metadata(name) is not None):
                raise
        self._context.log("deleted a repository", repository=name)

    @property
    def _client(self) -> Any:
        return self._context.client("codecommit")

    def _metadata(self, name: str) -> dict[str, Any] | None:
        try:
            return self._client.get_repository(repositoryName=name)["repositoryMetadata"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "RepositoryDoesNotExistException":
                return None
            raise

    def _repository(self, metadata: Mapping[str, Any], stack: str | None = None) -> Repository:
        name, arn, region = metadata["repositoryName"], metadata["Arn"], self._context.settings.region
        if stack is None:
            stack = self._client.list_tags_for_resource(resourceArn=arn)["tags"].get(STACK_TAG, "")
        clone_url = metadata["cloneUrlHttp"]
        return Repository(
            name=name,
            stack=stack,
            url=f"https://{region}.console.aws.amazon.com/codesuite/codecommit/repositories/{name}/browse?region={region}",
            clone_url=clone_url,
            # the empty helper takes out the person's own: a keychain would keep a password that is good for minutes
            clone_command="git clone -c credential.helper= -c credential.helper='!aws codecommit credential-helper $@' "
            f"-c credential.UseHttpPath=true {clone_url}",
            arn=arn,
        )

    def _commit(self, name: str, tree: Tree, branch: str, message: str, parent: str | None) -> str:
        """Id of the branch's commit with exactly these files; a new one only when its parent has other files.

        More files than CodeCommit takes at once come in several commits, one after another.
        """
        there = {} if parent is None else self._files(name, parent, "/")
        wanted = {path: (blob_id(file.content), _MODES[file.mode]) for path, file in tree.items()}
        changed = {path: file for path, file in tree.items() if there.get(path) != wanted[path]}
        gone = [path for path in there if path not in tree]
        if parent is not None and not changed and not gone:
            return parent
        # Half of them may be there from a try that was interrupted: what is missing follows.
        parts = _parts(changed, gone)
        after = dict(there)
        for number, (put, taken) in enumerate(parts, start=1):
            after |= {path: wanted[path] for path in put}
            after = {path: content for path, content in after.items() if path not in taken}
            text = message if len(parts) == 1 else f"{message} ({number} of {len(parts)})"
            parent = self._commit_part(name, branch, text, parent, put, taken, after)
        assert parent is not None
        self._context.log("committed", repository=name, branch=branch, commit=parent, files=len(tree))
        return parent

    def _commit_part(
        self,
        name: str,
        branch: str,
        message: str,
        parent: str | None,
        put: Mapping[str, File],
        taken: Sequence[str],
        after: Mapping[str, tuple[str, str]],
    ) -> str:
        """The id of a new commit.

        Args:
            after: what `_files` says of it.
        """
        self._context.still_current()
        request: dict[str, Any] = {
            "repositoryName": name,
            "branchName": branch,
            "authorName": AUTHOR,
            "email": EMAIL,
            "commitMessage": message + "\n",
            "putFiles": [
                {"filePath": path, "fileMode": _MODES[file.mode], "fileContent": file.content}
                for path, file in put.items()
            ],
        }
        if parent is not None:
            request |= {"parentCommitId": parent, "deleteFiles": [{"filePath": path} for path in taken]}
        try:
            return str(self._client.create_commit(**request)["commitId"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in _COMMITTED:
                raise
            # boto3 asked again after an answer that was lost
            commit = self.heads(name, (branch,)).get(branch)
            if commit is None or self._files(name, commit, "/") != after:
                raise
            return commit

    def _files(self, name: str, commit: str, folder: str) -> dict[str, tuple[str, str]]:
        """Path of every file to its content's id and its mode."""
        answer = self._client.get_folder(repositoryName=name, commitSpecifier=commit, folderPath=folder)
        found = {file["absolutePath"]: (file["blobId"], file["fileMode"]) for file in answer.get("files", [])}
        found |= {link["absolutePath"]: (link["blobId"], link["fileMode"]) for link in answer.get("symbolicLinks", [])}
        for below in answer.get("subFolders", []):
            found |= self._files(name, commit, below["absolutePath"])
        return found


# How CreateCommit refuses what was done already by a call whose answer was lost.
_COMMITTED = (
    "ParentCommitIdRequiredException",
    "ParentCommitIdOutdatedException",
    "NoChangeException",
    "ConcurrentReferenceUpdateException",
)


def _parts(changed: Mapping[str, File], gone: Sequence[str]) -> list[tuple[dict[str, File], list[str]]]:
    """What each commit puts and takes away, as few as CodeCommit's limits allow; nearly always one."""
    parts: list[tuple[dict[str, File], list[str]]] = [({}, [])]
    size = 0
    entries: list[tuple[str, File | None]] = [*changed.items(), *((path, None) for path in gone)]
    for path, file in entries:
        more = 0 if file is None else len(file.content)
        put, taken = parts[-1]
        if len(put) + len(taken) == MOST_FILES or size + more > MOST_BYTES:
            put, taken, size = {}, [], 0
            parts.append((put, taken))
        size += more
        if file is None:
            taken.append(path)
        else:
            put[path] = file
    return parts


def _too_large(what: str, where: str) -> SeedError:
    return SeedError(
        f"{what}, and CodeCommit takes at most {LARGEST:,} {where}: the platform's template is too large for "
        "CodeCommit; make it smaller, or use another Git host"
    )


def _explain(error: ClientError, name: str) -> None:
    """Raises the error in words, unless it says that the repository is there."""
    details = error.response["Error"]
    if details["Code"] == "RepositoryLimitExceededException":
        raise SeedError(
            f"the CodeCommit repository {name} cannot be made: this account's quota of repositories is reached. Delete "
            "some that are not needed, or ask for more under Service Quotas, AWS CodeCommit"
        ) from error
    if details["Code"] == "OperationNotAllowedException":
        raise SeedError(
            f"the CodeCommit repository {name} cannot be made: AWS does not let this account make repositories. Take "
            f"another Git host (GitHost). AWS says: {details['Message']}"
        ) from error
    if details["Code"] != "RepositoryNameExistsException":
        raise error


def _short(description: str) -> str:
    return description[:DESCRIPTION]
