"""What a model is made from: this repository's commit, tree, branch and remote, asked from git."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import InputError
from pipeline.settings import ROOT

DIRTY = "-dirty"  # at the end of a tree's id: files were changed and not committed
# What the CI systems call the branch that they build; they check out a commit, not a branch. CodeBuild has no variable
# of its own for it: the rule that starts a build gives it ours.
CI_BRANCH_VARIABLES = ("GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "MODELYARD_BRANCH")


@dataclass(frozen=True)
class Lineage:
    """commit: the full id. tree: the id of the commit's files, with -dirty when the working tree differs from it.

    repository: the remote's URL without credentials, None without a remote.
    """

    commit: str
    tree: str
    repository: str | None

    @property
    def is_dirty(self) -> bool:
        return self.tree.endswith(DIRTY)


def read_lineage(root: Path = ROOT) -> Lineage:
    """Asks git. Raises InputError without git, without a repository, or without a commit."""
    commit = _git(root, "rev-parse", "--verify", "HEAD^{commit}")
    tree = _git(root, "rev-parse", "--verify", "HEAD^{tree}")
    dirty = DIRTY if _git(root, "status", "--porcelain") else ""
    remotes = _git(root, "remote").split()
    url = _git(root, "remote", "get-url", "origin" if "origin" in remotes else remotes[0]) if remotes else None
    return Lineage(commit=commit, tree=tree + dirty, repository=without_credentials(url) if url else None)


def current_branch(given: str | None = None, environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> str:
    """The branch: the given one, else the one checked out, else the one which the CI system says that it builds."""
    if given:
        return given
    checked_out = _git(root, "branch", "--show-current")
    if checked_out:
        return checked_out
    for variable in CI_BRANCH_VARIABLES:
        if environment.get(variable):
            return environment[variable]
    raise InputError(
        f"no branch is checked out and none of {', '.join(CI_BRANCH_VARIABLES)} is set: name it with --branch"
    )


def without_credentials(url: str) -> str:
    """https://user:token@host/path becomes https://host/path, also within a message."""
    return re.sub(r"\b(\w+://)[^/\s]*@", r"\1", url)


def _git(root: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise InputError(
            "git is not installed: install it; a model is registered with the commit it came from"
        ) from None
    except subprocess.CalledProcessError as error:
        raise InputError(
            f"git {' '.join(arguments)} failed in {root} ({error.stderr.strip()}): "
            "a model is registered with the commit it came from; make this folder a git repository with a commit"
        ) from None
    return answer.stdout.strip()
