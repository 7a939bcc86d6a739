"""Bare Git repositories in a folder, each found by a key; everything is done by the git program.

The git program runs with an environment of its own: no configuration and no hooks of the machine or its user count.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from local_aws.git.push_rules import NOTHING

HOOKS = Path(__file__).with_name("hooks")
# Settings of every git process here; they count before those of the repository.
SETTINGS = {
    "core.hooksPath": str(HOOKS),
    "core.logAllRefUpdates": "false",
    "gc.auto": "0",  # a process in the background would outlive the server
    "receive.autogc": "false",
    "maintenance.auto": "false",
    "safe.directory": "*",  # a state folder may be another user's (a mounted volume)
    "receive.denyDeleteCurrent": "refuse",
    "http.getanyfile": "false",
}

# What a repository is found by, such as ("codecommit", account, region, name). Any text does, from clients too.
Key = tuple[str, ...]


class GitError(Exception):
    """A git command failed; the message is what it printed."""


class RefMoved(Exception):
    """A ref is not (any more) where the caller took it to be."""


class Repositories:
    """Bare repositories below a folder. Safe to share between threads; everything is on disk, nothing is remembered.

    Args:
        folder: made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".half-*"):  # of a server that was killed while it made or deleted one
            shutil.rmtree(left, ignore_errors=True)

    def path(self, key: Key) -> Path:
        """Where a repository is, or would be: below the folder, whatever the key's parts are."""
        return self._folder.joinpath(*[_folder_name(part) for part in key[:-1]], f"{_folder_name(key[-1])}.git")

    def exists(self, key: Key) -> bool:
        return (self.path(key) / "HEAD").is_file()

    def create(self, key: Key, head: str = "main") -> Path:
        """Make an empty repository.

        Args:
            head: the branch that HEAD names, without refs/heads/.

        Raises:
            FileExistsError: there is one with this key.
        """
        path, half = self.path(key), self._half()
        try:
            self._run("init", "--quiet", "--bare", "--template=", f"--initial-branch={head}", str(half))
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise FileExistsError(f"There is a repository {'/'.join(key)} already.")
            try:
                half.rename(path)  # whoever finds it finds all of it
            except OSError as error:  # made by somebody else in this moment: a folder replaces an empty one only
                raise FileExistsError(f"There is a repository {'/'.join(key)} already.") from error
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return path

    def delete(self, key: Key) -> None:
        """Delete a repository; nothing happens when there is none."""
        half = self._half()
        with contextlib.suppress(FileNotFoundError):
            self.path(key).rename(half)  # gone at once; its files after that
        shutil.rmtree(half, ignore_errors=True)

    def move(self, key: Key, to: Key) -> None:
        """Give a repository another key.

        Raises:
            FileExistsError: there is one with that key.
            FileNotFoundError: there is none with this one.
        """
        target = self.path(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise FileExistsError(f"There is a repository {'/'.join(to)} already.")
        self.path(key).rename(target)

    def refs(self, key: Key, prefix: str = "refs/") -> dict[str, str]:
        """Full names of refs ("refs/heads/dev") to the ids that they hold, in the order of their names.

        Args:
            prefix: only these; ends in a slash.
        """
        lines = self.git(key, "for-each-ref", "--format=%(objectname) %(refname)", prefix).decode().splitlines()
        return {name: value for value, _, name in (line.partition(" ") for line in lines)}

    def branches(self, key: Key) -> dict[str, str]:
        """Names of branches to their commits, in the order of the names."""
        return {name.removeprefix("refs/heads/"): value for name, value in self.refs(key, "refs/heads/").items()}

    def head(self, key: Key) -> str:
        """The branch that HEAD names (what a clone checks out), without refs/heads/; it need not exist."""
        return (self.path(key) / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")

    def set_head(self, key: Key, branch: str) -> None:
        """Let HEAD name another branch."""
        self.git(key, "symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def resolve(self, key: Key, revision: str) -> str | None:
        """The id of the commit that a revision ("refs/heads/dev", an id, "refs/tags/v1") stands for, or None."""
        try:
            found = self.git(key, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
        except (GitError, ValueError):  # ValueError: NUL in the name
            return None
        return found.decode().split()[-1]

    def update_ref(self, key: Key, ref: str, after: str, before: str | None = None) -> None:
        """Make, move or (with NOTHING) delete a ref.

        Args:
            ref: its full name.
            before: where it must be now (NOTHING: it must not be); None: anywhere.

        Raises:
            RefMoved: it is elsewhere, or another push holds it.
            GitError: a name that Git does not allow, or an object that there is not.
        """
        what = ["-d", ref] if after == NOTHING else [ref, after]
        try:
            self.git(key, "update-ref", *what, *([before] if before is not None else []))
        except GitError as error:
            if "cannot lock ref" in str(error) or "unable to lock" in str(error):
                raise RefMoved(str(error)) from error
            raise

    def is_ref_name(self, ref: str) -> bool:
        """Whether Git allows a full ref name: https://git-scm.com/docs/git-check-ref-format."""
        try:
            self._run("check-ref-format", ref)
        except (GitError, ValueError):
            return False
        return True

    def git(self, key: Key, *arguments: str, data: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """Run a git command in a repository and return what it printed.

        Args:
            data: its standard input.
            environment: further variables, such as GIT_INDEX_FILE.

        Raises:
            GitError: it failed.
        """
        return self._run(f"--git-dir={self.path(key)}", *arguments, data=data, environment=environment)

    def tried(self, key: Key, *arguments: str) -> tuple[int, bytes]:
        """Run a git command in a repository that answers by what it returns, too: that, and what it printed."""
        done = self._done(f"--git-dir={self.path(key)}", *arguments)
        return done.returncode, done.stdout

    def _run(self, *arguments: str, data: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        done = self._done(*arguments, data=data, environment=environment)
        if done.returncode:
            raise GitError(done.stderr.decode(errors="replace").strip() or f"git {arguments[0]}: {done.returncode}")
        return done.stdout

    def _done(
        self, *arguments: str, data: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [git_program(), *arguments],
            input=data,
            capture_output=True,
            env=git_environment() | dict(environment or {}),
            cwd=self._folder,
        )

    @contextlib.contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """A folder for the length of a block; one that is left by a killed server goes at the next start."""
        folder = self._half()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _half(self) -> Path:
        return self._folder / f".half-{uuid.uuid4().hex}"


def git_program() -> str:
    """The path of the git program.

    Raises:
        GitError: there is none on this machine.
    """
    found = shutil.which("git")
    if found is None:
        raise GitError("The git program is not on this machine (PATH has none); install it to use repositories here.")
    return found


def git_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a git process here.

    Args:
        settings: of Git's configuration, besides SETTINGS.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    } | settings_in_environment(list((SETTINGS | dict(settings or {})).items()))


def settings_in_environment(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Settings of Git's configuration as the variables GIT_CONFIG_*, which count before every file."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _folder_name(part: str) -> str:
    """A readable name for a folder, never ".", ".." or too long, another one for each text on every file system."""
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{quote(part, safe='', errors='replace')[:60]}-{digest}"
