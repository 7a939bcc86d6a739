"""How CodeCommit's operations name what is in a repository: branches, references, commits."""

from __future__ import annotations

import re

from local_aws.calls import ServiceError
from local_aws.git.repositories import Key, Repositories

COMMIT_ID = re.compile(r"[0-9a-f]{40}")
BRANCHES = "refs/heads/"


def check_commit_id(commit: str, code: str = "InvalidCommitIdException") -> None:
    """Raises ServiceError by this code when a text is no full commit id."""
    if not COMMIT_ID.fullmatch(commit):
        raise ServiceError(code, f"{commit[:80]!r} is no commit ID: give all 40 digits of it.")


def known_commit(git: Repositories, key: Key, commit: str) -> str:
    """A commit by its full id.

    Raises:
        ServiceError: InvalidCommitIdException, CommitDoesNotExistException.
    """
    check_commit_id(commit)
    if git.resolve(key, commit) != commit:
        raise ServiceError("CommitDoesNotExistException", f"There is no commit {commit} in the repository.")
    return commit


def branch_ref(git: Repositories, branch: str) -> str:
    """The full name of a branch's ref.

    Raises:
        ServiceError: InvalidBranchNameException.
    """
    ref = f"{BRANCHES}{branch}"
    if not git.is_ref_name(ref):
        raise ServiceError("InvalidBranchNameException", f"{branch!r} is no name that Git allows for a branch.")
    return ref


def branch_tip(git: Repositories, key: Key, branch: str) -> str:
    """The commit of a branch.

    Raises:
        ServiceError: BranchDoesNotExistException.
    """
    tip = git.branches(key).get(branch)
    if tip is None:
        raise ServiceError("BranchDoesNotExistException", f"Branch {branch} does not exist.")
    return tip


def commit_of(git: Repositories, key: Key, specifier: str | None) -> str:
    """The commit that a branch, a tag, a full reference or an id names; without one the default branch's.

    Raises:
        ServiceError: CommitDoesNotExistException.
    """
    given = specifier or "HEAD"
    names = [f"{BRANCHES}{given}", f"refs/tags/{given}"]
    if given == "HEAD" or given.startswith("refs/") or COMMIT_ID.fullmatch(given):
        names.append(given)
    for name in names:
        if found := git.resolve(key, name):
            return found
    raise ServiceError("CommitDoesNotExistException", f"There is no commit {given!r} in the repository.")


def source_branch(git: Repositories, key: Key, reference: str) -> tuple[str, str]:
    """A branch that a pull request names, as "dev" or "refs/heads/dev": its full name and its commit.

    Raises:
        ServiceError: ReferenceDoesNotExistException, ReferenceTypeNotSupportedException (a tag).
    """
    refs = git.refs(key)
    ref = reference if reference.startswith("refs/") else f"{BRANCHES}{reference}"
    if ref in refs and ref.startswith(BRANCHES):
        return ref, refs[ref]
    if ref in refs or f"refs/tags/{reference}" in refs:
        raise ServiceError("ReferenceTypeNotSupportedException", f"{reference} is no branch. Give a branch.")
    raise ServiceError("ReferenceDoesNotExistException", f"The reference {reference} does not exist. Give a branch.")
