"""This repository's remote: added, with what git needs to sign in there, and pushed to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline import InputError
from pipeline.lineage import without_credentials
from pipeline.settings import ROOT

REMOTE = "origin"
BRANCHES = ("prod", "dev")
# https://docs.aws.amazon.com/codecommit/latest/userguide/setting-up-https-unixes.html. It is set for one address alone,
# and so need not look at what the host is called.
CODECOMMIT_HELPER = '!f() { aws codecommit credential-helper "$@" --ignore-host-check; }; f'


def check(root: Path = ROOT) -> None:
    """Raises InputError when this repository cannot be pushed: a Git host would say so after everything was made."""
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise InputError(
            "this is a shallow clone, which lacks its older commits, and Git hosts take no push of it: fetch them from "
            "where you cloned it (git fetch --unshallow)"
        )
    if _git(root, "rev-parse", "--show-object-format") == "sha256":  # a git that is too old to know says neither
        raise InputError(
            "this repository's object format is sha256, which the Git hosts do not take: make one with sha1 of it and "
            "go on there:\n  git init --object-format=sha1 ../FOLDER\n"
            "  git fast-export --all | git -C ../FOLDER fast-import\n  git -C ../FOLDER checkout dev"
        )
    branches = _git(root, "branch", "--format", "%(refname:short)").split()
    if missing := [branch for branch in BRANCHES if branch not in branches]:
        raise InputError(
            f"there is no branch {' and no branch '.join(missing)} here: make it with git branch {missing[0]}"
        )


def check_sign_in(host: str) -> None:
    """Raises InputError when git could not sign in there: to CodeCommit it does with the AWS CLI."""
    if host == "codecommit" and shutil.which("aws") is None:
        raise InputError(
            "the AWS CLI is not on the PATH, and git signs in to CodeCommit with it: install it "
            "(https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html)"
        )


def check_unused(root: Path = ROOT) -> None:
    """Raises InputError when origin leads somewhere: a repository that is still to be made is to have that name."""
    if there := url(root):
        raise InputError(
            f"the remote {REMOTE} is {without_credentials(there)}, and the project's repository, which is made now, is "
            f"to be {REMOTE}: rename yours (git remote rename {REMOTE} old), then run register-project again"
        )


def url(root: Path = ROOT) -> str | None:
    """Where origin leads, None without one: as this repository has it, before what git makes of it (insteadOf)."""
    done = _run(root, "config", "--get-all", f"remote.{REMOTE}.url")
    return None if done.returncode else done.stdout.splitlines()[0]


def leads_to(clone_url: str, root: Path = ROOT) -> bool:
    """Whether origin is this repository, over HTTPS or SSH."""
    there = url(root)
    return there is not None and _place(there) == _place(clone_url)


def connect(clone_url: str, host: str, root: Path = ROOT) -> None:
    """Makes origin lead there. Raises InputError when it leads elsewhere."""
    there = url(root)
    if there is None:
        _git(root, "remote", "add", REMOTE, clone_url)
    elif not leads_to(clone_url, root):
        raise InputError(
            f"the remote {REMOTE} is {without_credentials(there)}, and the project's repository is {clone_url}: rename "
            f"yours (git remote rename {REMOTE} old), then run register-project again"
        )
    if host == "codecommit":
        section = f"credential.{clone_url}"
        # An empty one takes out those of other files, which git would ask before: a keychain (macOS, Git for Windows)
        # keeps what it was told once, and CodeCommit's passwords are good for minutes.
        _git(root, "config", "--replace-all", f"{section}.helper", "")
        _git(root, "config", "--add", f"{section}.helper", CODECOMMIT_HELPER)
        _git(root, "config", f"{section}.useHttpPath", "true")


def push(root: Path = ROOT) -> None:
    """Sends prod and dev. Raises InputError when git cannot; its own words are on the terminal."""
    command = ["git", "push", "--set-upstream", REMOTE, *BRANCHES]
    if subprocess.run(command, cwd=root, check=False).returncode:
        raise InputError("git push failed; put right what it says, then run register-project again: it goes on here")


def head(branch: str, environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> str | None:
    """The commit that the branch has at origin now; None when there is no such branch there.

    environment: git's, with what it needs to sign in there. Raises InputError when origin cannot be asked.
    """
    ref = f"refs/heads/{branch}"
    # without a terminal git would ask for a password, and wait
    asking = {**environment, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "ls-remote", REMOTE, ref], cwd=root, env=asking, capture_output=True, text=True, timeout=120
        )
        said = done.stderr.strip()
    except subprocess.TimeoutExpired:
        done, said = None, "it did not answer within two minutes"
    if done is None or done.returncode:
        there = url(root)
        if there is None:
            raise InputError(
                f"there is no remote {REMOTE} here, and its branch {branch} says whether this commit is the newest: "
                f"add it (git remote add {REMOTE} ADDRESS, or python -m pipeline register-project), and push"
            )
        words = "".join(f"\n  | {line}" for line in without_credentials(said).splitlines())
        raise InputError(
            f"{REMOTE} ({without_credentials(there)}) cannot be asked for the branch {branch}: see to it that git can "
            f"read it, then run this again. git says:{words}"
        )
    # git lists every ref that ends so
    for line in done.stdout.splitlines():
        commit, _, name = line.partition("\t")
        if name == ref:
            return commit
    return None


def _place(address: str) -> tuple[str, str]:
    """Host and path, which a repository's addresses have in common: https://host/path.git, user@host:path."""
    scheme, _, rest = address.rpartition("://")
    host, _, path = rest.partition("/")
    if not scheme and ":" in host:  # as SSH has it, without a scheme
        host, _, path = rest.partition(":")
    host = host.rpartition("@")[2].lower()
    if scheme == "ssh":
        host = host.partition(":")[0]  # its port is none of HTTPS's
    return host, path.strip("/").removesuffix(".git")


def _git(root: Path, *arguments: str) -> str:
    done = _run(root, *arguments)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError("git is not installed: install it") from None
