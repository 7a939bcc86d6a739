"""CodeCommit's merges: whether two commits can be merged, what conflicts, and the commit that comes of it.

CodeCommit looks at files before lines: unless asked otherwise (LINE_LEVEL), a file that both sides have changed is a
conflict. https://docs.aws.amazon.com/codecommit/latest/userguide/how-to-resolve-conflict-pull-request.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.git.codecommit_commits import (
    SUBMODULE,
    File,
    Files,
    author_of,
    check_message,
    mode_name,
    read_files,
    utf8,
)
from local_aws.git.codecommit_revisions import branch_ref, branch_tip, commit_of
from local_aws.git.codecommit_state import State, caller_of, key_of, page_of
from local_aws.git.merging import changed_paths, commit_tree, contains, merge, merge_base, tree_of
from local_aws.git.push_rules import RefUpdate
from local_aws.git.repositories import Key, RefMoved, Repositories

FAST_FORWARD, SQUASH, THREE_WAY = "FAST_FORWARD_MERGE", "SQUASH_MERGE", "THREE_WAY_MERGE"
LINES = "LINE_LEVEL"
AUTOMERGE = "AUTOMERGE"
MANUAL = (
    "The pull request cannot be merged automatically into the destination branch. You must manually merge the branches"
    " and resolve any conflicts."
)
PAGE = 1000


@dataclass(frozen=True)
class Merged:
    """What a merge leaves a branch with.

    Args:
        base: the commit that both sides come from.
        by_lines: whether changes to one file were merged line by line.
    """

    commit: str
    base: str
    by_lines: bool = False


def by_lines(request: Request) -> bool:
    """Whether a request wants files that both sides have changed merged line by line.

    Raises:
        ServiceError: NotImplementedException, for ways to resolve conflicts that are not built.
    """
    strategy = request.get("conflictResolutionStrategy", "NONE")
    for member in ("conflictResolution", "keepEmptyFolders"):
        if request.get(member):
            raise _not_built(member)
    if strategy not in ("NONE", AUTOMERGE):
        raise _not_built(f"conflictResolutionStrategy {strategy}")
    return strategy == AUTOMERGE or request.get("conflictDetailLevel") == LINES


def conflicts(git: Repositories, key: Key, destination: str, source: str, lines: bool) -> tuple[str, list[str]]:
    """The tree of a merge, and the paths that keep it from being one.

    Raises:
        ServiceError: ManualMergeRequiredException, of histories that have nothing in common.
    """
    merged = merge(git, key, destination, source, renames=False)
    if merged.base is None:
        raise ServiceError("ManualMergeRequiredException", MANUAL)
    paths = set(merged.conflicts)
    if not lines:
        both = changed_paths(git, key, merged.base, destination) & changed_paths(git, key, merged.base, source)
        paths |= both & changed_paths(git, key, destination, source)  # the same change on both sides is none
    return merged.tree, sorted(paths)


def merge_into(
    git: Repositories, key: Key, destination: str, source: str, option: str, request: Request, caller: str, message: str
) -> Merged:
    """The commit that merging makes; no branch has it yet.

    Args:
        request: its authorName, email and commitMessage are the commit's; how conflicts are looked at.
        caller: ARN.
        message: without one of the request's.

    Raises:
        ServiceError: ManualMergeRequiredException, and those of names and messages.
    """
    base = merge_base(git, key, destination, source)
    if option == FAST_FORWARD:
        if base != destination:
            raise ServiceError("ManualMergeRequiredException", MANUAL)
        return Merged(source, destination)
    lines = by_lines(request)
    check_message(request.get("commitMessage", ""))
    author = author_of(request, caller)
    tree, paths = conflicts(git, key, destination, source, lines)
    if paths or base is None:
        named = f" In conflict: {', '.join(paths[:10])}." if paths else ""
        raise ServiceError("ManualMergeRequiredException", MANUAL + named)
    parents = [destination] if option == SQUASH else [destination, source]
    text = utf8(request.get("commitMessage") or message)
    return Merged(commit_tree(git, key, tree, parents, author, text), base, lines)


def about_merge(merged: Merged, option: str, destination: str, source: str) -> dict[str, str]:
    """What the event of a branch that a merge has moved says of the merge.

    https://docs.aws.amazon.com/codecommit/latest/userguide/monitoring-events.html#referenceUpdated
    """
    return {
        "baseCommitId": merged.base,
        "sourceCommitId": source,
        "destinationCommitId": destination,
        "mergeOption": option,
        "conflictDetailsLevel": LINES if merged.by_lines else "FILE_LEVEL",
        "conflictResolutionStrategy": "NONE",
    }


class Merges:
    """The operations that merge branches, and those that ask what a merge would do and how commits differ."""

    def __init__(self, state: State) -> None:
        self._state, self._git = state, state.git
        self.operations: dict[str, Callable[[Call, Request], Response]] = {
            "MergeBranchesByFastForward": lambda call, request: self._merge_branches(call, request, FAST_FORWARD),
            "MergeBranchesBySquash": lambda call, request: self._merge_branches(call, request, SQUASH),
            "MergeBranchesByThreeWay": lambda call, request: self._merge_branches(call, request, THREE_WAY),
            "GetMergeConflicts": self.get_merge_conflicts,
            "GetMergeOptions": self.get_merge_options,
            "GetDifferences": self.get_differences,
        }

    def _merge_branches(self, call: Call, request: Request, option: str) -> Response:
        key = key_of(self._state, call, request)
        source, destination = self._sides(key, request)
        branch = request.get("targetBranch") or request["destinationCommitSpecifier"].removeprefix("refs/heads/")
        ref = branch_ref(self._git, branch)
        if branch_tip(self._git, key, branch) != destination:
            raise _moved(branch)
        words = f"Merge {request['sourceCommitSpecifier']} into {branch}"
        merged = merge_into(self._git, key, destination, source, option, request, caller_of(call), words)
        try:
            self._git.update_ref(key, ref, merged.commit, destination)
        except RefMoved as error:
            raise _moved(branch) from error
        update = RefUpdate(ref, destination, merged.commit)
        about = about_merge(merged, option, destination, source)
        self._state.changed(call.scope, request["repositoryName"], caller_of(call), [update], about)
        return {"commitId": merged.commit, "treeId": tree_of(self._git, key, merged.commit)}

    def get_merge_conflicts(self, call: Call, request: Request) -> Response:
        """Which files keep a merge from being made, and how each side has changed them.

        Raises:
            ServiceError: CommitDoesNotExistException; NotImplementedException, for ways to resolve conflicts that are
                not built.
        """
        key = key_of(self._state, call, request)
        source, destination = self._sides(key, request)
        base = merge_base(self._git, key, destination, source)
        lines = by_lines(request)
        paths: list[str] = []
        if request["mergeOption"] == FAST_FORWARD:
            mergeable = base == destination
        else:
            paths = conflicts(self._git, key, destination, source, lines)[1]
            mergeable = not paths
        shown, more = page_of(paths, request, request.get("maxConflictFiles", PAGE), lambda path: path)
        sides = {"source": source, "destination": destination} | ({"base": base} if base else {})
        files = {side: read_files(self._git, key, commit) for side, commit in sides.items()}
        answer: Response = {
            "mergeable": mergeable,
            "destinationCommitId": destination,
            "sourceCommitId": source,
            "conflictMetadataList": [self._conflict(key, path, files) for path in shown],
        }
        answer |= {"baseCommitId": base} if base else {}
        return answer | more

    def get_merge_options(self, call: Call, request: Request) -> Response:
        """The ways in which two commits can be merged.

        Raises:
            ServiceError: CommitDoesNotExistException; TipsDivergenceExceededException, of histories that have nothing
                in common; NotImplementedException, for ways to resolve conflicts that are not built.
        """
        key = key_of(self._state, call, request)
        source, destination = self._sides(key, request)
        base = merge_base(self._git, key, destination, source)
        if base is None:
            raise ServiceError("TipsDivergenceExceededException", "The two commits have no history in common.")
        paths = conflicts(self._git, key, destination, source, by_lines(request))[1]
        options = [FAST_FORWARD] if contains(self._git, key, source, destination) else []
        options += [] if paths else [SQUASH, THREE_WAY]
        return {
            "mergeOptions": options,
            "sourceCommitId": source,
            "destinationCommitId": destination,
            "baseCommitId": base,
        }

    def get_differences(self, call: Call, request: Request) -> Response:
        """Which files differ between two commits; without the first one, all that the second one has.

        Raises:
            ServiceError: CommitDoesNotExistException, PathDoesNotExistException.
        """
        key = key_of(self._state, call, request)
        before: Files = {}
        if request.get("beforeCommitSpecifier"):
            before = read_files(self._git, key, commit_of(self._git, key, request["beforeCommitSpecifier"]))
        after = read_files(self._git, key, commit_of(self._git, key, request["afterCommitSpecifier"]))
        before = _below(before, request.get("beforePath"))
        after = _below(after, request.get("afterPath"))
        paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        asked = {"nextToken": request.get("NextToken"), "maxResults": request.get("MaxResults", PAGE)}
        shown, more = page_of(paths, asked, PAGE, lambda path: path)
        answer: Response = {"differences": [_difference(path, before, after) for path in shown]}
        return answer | ({"NextToken": more["nextToken"]} if more else {})

    def _sides(self, key: Key, request: Request) -> tuple[str, str]:
        """The commits of source and destination."""
        source = commit_of(self._git, key, request["sourceCommitSpecifier"])
        return source, commit_of(self._git, key, request["destinationCommitSpecifier"])

    def _conflict(self, key: Key, path: str, files: dict[str, Files]) -> dict[str, Any]:
        found = {side: each[path] for side, each in files.items() if path in each}
        contents = {side: self._content(key, file) for side, file in found.items()}
        modes = {side: mode_name(file.mode) for side, file in found.items()}
        kinds = {side: _kind(file) for side, file in found.items()}
        both = [side for side in ("source", "destination") if side in found]
        return {
            "filePath": path,
            "fileSizes": {side: len(content) for side, content in contents.items()},
            "fileModes": modes,
            "objectTypes": kinds,
            "isBinaryFile": {side: b"\0" in content for side, content in contents.items()},
            "contentConflict": len({contents[side] for side in both}) > 1 or len(both) < 2,
            "fileModeConflict": len({modes[side] for side in both}) > 1,
            "objectTypeConflict": len({kinds[side] for side in both}) > 1,
            "mergeOperations": {side: _operation(path, files, side) for side in ("source", "destination")},
        }

    def _content(self, key: Key, file: File) -> bytes:
        return b"" if file.mode == SUBMODULE else self._git.git(key, "cat-file", "blob", file.blob)


def _operation(path: str, files: dict[str, Files], side: str) -> str:
    """What a side has done to a file: "A" added, "M" modified, "D" deleted."""
    if path not in files[side]:
        return "D"
    return "M" if path in files.get("base", {}) else "A"


def _kind(file: File) -> str:
    return {SUBMODULE: "GIT_LINK", "120000": "SYMBOLIC_LINK"}.get(file.mode, "FILE")


def _below(files: Files, path: str | None) -> Files:
    """The file of a path, or those of a folder."""
    if not path or not (wanted := path.strip("/")):
        return files
    found = {each: file for each, file in files.items() if each == wanted or each.startswith(f"{wanted}/")}
    if not found:
        raise ServiceError("PathDoesNotExistException", f"There is no {wanted} in the commit.")
    return found


def _difference(path: str, before: Files, after: Files) -> dict[str, Any]:
    kind = "A" if path not in before else "D" if path not in after else "M"
    blobs = {
        name: {"blobId": files[path].blob, "path": path, "mode": files[path].mode}
        for name, files in (("beforeBlob", before), ("afterBlob", after))
        if path in files
    }
    return {**blobs, "changeType": kind}


def _moved(branch: str) -> ServiceError:
    return ServiceError(
        "ConcurrentReferenceUpdateException", f"Branch {branch} is not, or not any more, at the destination. Try again."
    )


def _not_built(what: str) -> ServiceError:
    return ServiceError(
        "NotImplementedException",
        f"local_aws does not build {what}: nothing of Modelyard's uses it. Resolve conflicts on the source branch.",
        501,
    )
