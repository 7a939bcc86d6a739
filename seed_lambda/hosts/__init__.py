"""Git hosts behind one interface: what the seed asks of one, and which one a project has.

A host is CodeCommit or GitHub; another one is a module here with the same methods and a line in `host_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from seed_lambda.context import Context
from seed_lambda.errors import SeedError
from seed_lambda.settings import NOTHING

Mode = Literal["100644", "100755", "120000"]


@dataclass(frozen=True)
class File:
    """A file of a commit.

    Args:
        content: its bytes; of a symbolic link what it points to.
        mode: as Git has it: plain, executable, symbolic link.
    """

    content: bytes
    mode: Mode = "100644"


Tree = Mapping[str, File]  # path, with slashes, to file


@dataclass(frozen=True)
class Repository:
    """A repository as its host describes it.

    Args:
        name: without its owner.
        stack: ARN of the stack that it was made for; "" when it carries no such mark.
        url: for a browser.
        clone_url: for git, over HTTPS.
        clone_command: what a person types.
        arn: of CodeCommit; else "none".
        oidc_subject: what the host's CI tokens begin their subject with, such as repo:acme@12/churn@34; else "none".
    """

    name: str
    stack: str
    url: str
    clone_url: str
    clone_command: str
    arn: str = NOTHING
    oidc_subject: str = NOTHING


class Host(Protocol):
    """One Git host with the credentials of one platform.

    Each method that changes something asks `Context.still_current` before its call, can be repeated, and raises
    SeedError in words for whoever creates a project; of AWS's calls botocore's ClientError may come too.
    """

    def check(self) -> None:
        """Whether it can be worked with: credentials, owner. Changes nothing."""

    def check_tree(self, tree: Tree) -> None:
        """Whether it takes these files in a push. Changes nothing."""

    def find(self, name: str) -> Repository | None:
        """The repository of that name, whosever it is; None when the name is free."""

    def create(self, name: str, description: str, tags: Mapping[str, str]) -> Repository:
        """Make a private, empty repository that carries the stack's mark, or find the one that does.

        Args:
            tags: ProjectProperties.tags; a host without tags keeps the mark alone.

        Raises:
            NameTaken: there is one without this stack's mark.
        """

    def describe_anew(self, name: str, description: str, tags: Mapping[str, str]) -> None:
        """Set the description and the tags."""

    def set_variables(self, name: str, variables: Mapping[str, str], old: Mapping[str, str]) -> None:
        """Set the CI's variables, and remove those of `old` that are not among them; nothing where it has none."""

    def heads(self, name: str, branches: Sequence[str]) -> dict[str, str]:
        """Of these branches, those that are there: name to commit id."""

    def push(self, name: str, tree: Tree, branches: tuple[str, ...], message: str) -> str:
        """A commit that holds exactly these files; the first branch gets it, the others point to the same. It is one
        commit, where the host takes so many files at once.

        A first branch that is there is its parent; when that holds the very same files already, no commit is made.
        Answers the commit's id.
        """

    def set_default_branch(self, name: str, branch: str) -> None:
        """What a clone checks out."""

    def protect(self, name: str, branch: str) -> None:
        """Let pull requests alone change the branch; where the host or its plan cannot do that, the log says so."""

    def how_to_mark(self) -> str:
        """How a person gives a repository this stack's mark back, as "let ... be ..."."""

    def holds_seed_alone(self, name: str) -> bool:
        """Whether it is empty, or all its branches are at the seed's own first commit."""

    def delete(self, name: str) -> None:
        """Delete the repository; one that is gone is no error. The caller has looked at its mark."""


def host_for(context: Context, git_host: str, owner: str = "") -> Host:
    """The host of a project or of the template.

    Args:
        git_host: codecommit or github.
        owner: GitHub organization or user; "": the platform's.

    Raises:
        SeedError: the platform has no credentials for that host.
    """
    if git_host not in _HOSTS:
        raise SeedError(f"GitHost {git_host!r}: this platform knows {', '.join(_HOSTS)}")
    return _HOSTS[git_host](context, owner)


def _codecommit(context: Context, owner: str) -> Host:
    from seed_lambda.hosts.codecommit import CodeCommit  # only the host that is needed: imports are the cold start

    return CodeCommit(context)


def _github(context: Context, owner: str) -> Host:
    from seed_lambda.hosts.github import GitHub

    return GitHub(context, owner)


_HOSTS: Mapping[str, Callable[[Context, str], Host]] = {"codecommit": _codecommit, "github": _github}
