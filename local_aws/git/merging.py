"""Merging one commit into another in a bare repository: by Git, without a working tree, and without moving a branch.

https://git-scm.com/docs/git-merge-tree
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from local_aws.git.repositories import GitError, Key, Repositories

CLEAN, CONFLICTS = 0, 1  # what git merge-tree returns


class Person(NamedTuple):
    """Who writes a commit."""

    name: str
    email: str


@dataclass(frozen=True)
class Merge:
    """What comes of merging a source into a destination.

    Args:
        base: the best commit that both come from; None of histories that have nothing in common: they cannot be merged.
        tree: of the merge; with conflicts one that has their markers in it; "" without a base.
        conflicts: paths that Git cannot merge, in their order.
    """

    base: str | None
    tree: str
    conflicts: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return self.base is not None and not self.conflicts


def merge_base(repositories: Repositories, key: Key, one: str, other: str) -> str | None:
    """The best commit that two commits come from, or None."""
    code, printed = repositories.tried(key, "merge-base", one, other)
    return printed.decode().strip() if code == 0 else None


def contains(repositories: Repositories, key: Key, commit: str, ancestor: str) -> bool:
    """Whether a commit's history has the other one, or it is the same."""
    return repositories.tried(key, "merge-base", "--is-ancestor", ancestor, commit)[0] == 0


def merge(repositories: Repositories, key: Key, destination: str, source: str, *, renames: bool = True) -> Merge:
    """Merge two commits' files line by line.

    Args:
        renames: whether a change follows a file that the other side has renamed.

    Raises:
        GitError: the git program does not know how (it must be 2.38 or later).
    """
    base = merge_base(repositories, key, destination, source)
    if base is None:
        return Merge(None, "", ())
    command = ("-c", f"merge.renames={str(renames).lower()}", "merge-tree", "--write-tree", "-z", "--name-only")
    code, printed = repositories.tried(key, *command, "--no-messages", destination, source)
    if code not in (CLEAN, CONFLICTS):
        raise GitError(f"git merge-tree --write-tree returned {code}: merging here needs Git 2.38 or later.")
    tree, *paths = printed.decode("utf-8", "replace").rstrip("\0").split("\0")
    return Merge(base, tree, tuple(dict.fromkeys(paths)))


def changed_paths(repositories: Repositories, key: Key, before: str, after: str) -> set[str]:
    """Paths of the files that differ between two commits (or trees)."""
    printed = repositories.git(key, "diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after)
    return set(filter(None, printed.decode("utf-8", "replace").split("\0")))


def commit_tree(
    repositories: Repositories,
    key: Key,
    tree: str,
    parents: Sequence[str],
    author: Person,
    message: bytes,
    committer: Person | None = None,
    authored: str | None = None,
) -> str:
    """Write a commit, which no branch has yet; its id.

    Args:
        committer: the author unless given.
        authored: when, as Git writes times ("@1763000000 +0000"); now unless given.
    """
    now = f"@{int(time.time())} +0000"
    people = {"AUTHOR": (author, authored or now), "COMMITTER": (committer or author, now)}
    environment = {
        f"GIT_{role}_{part}": value
        for role, (person, date) in people.items()
        for part, value in (("NAME", person.name), ("EMAIL", person.email), ("DATE", date))
    }
    named = [word for parent in parents for word in ("-p", parent)]
    written = repositories.git(key, "commit-tree", tree, *named, data=message, environment=environment)
    return written.decode().strip()


def tree_of(repositories: Repositories, key: Key, commit: str) -> str:
    return repositories.git(key, "rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()
