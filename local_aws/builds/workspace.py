"""A build's folder, and what its programs find in their environment: nothing of the server's own but its packages.

The Python environment is one of the build's own, so that what the build installs stays in it; it sees the packages of
the server's environment besides, so that what is pinned there need not be fetched from anywhere.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
import threading
from collections.abc import Mapping
from pathlib import Path

from local_aws.git.repositories import GitError, git_program
from local_aws.jobs.host import remove_folder

LARGEST_SCRIPT = 65536  # bytes; what is larger in the server's bin folder is a program and no script
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# pip finds everything in the server's environment: it asks no index and builds with the setuptools that is there.
PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # as pip reads it, 0 is to build without
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


class Toolbox:
    """The console programs of the server's environment, run by whichever Python comes first in PATH.

    Args:
        folder: for them; they are made when the first build needs them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock, self._made = folder, threading.Lock(), False

    @property
    def folder(self) -> Path:
        with self._lock:
            if not self._made:
                self._make()
                self._made = True
        return self._folder

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        bin_folder = Path(sys.executable).parent
        for program in sorted(bin_folder.iterdir()):
            if program.name.startswith(("python", "activate")) or not os.access(program, os.X_OK) or program.is_dir():
                continue
            content = program.read_bytes() if program.stat().st_size <= LARGEST_SCRIPT else b""
            first, _, rest = content.partition(b"\n")
            target = self._folder / program.name
            if first.startswith(b"#!") and b"python" in first:
                target.write_bytes(b"#!/usr/bin/env python3\n" + rest)
                target.chmod(0o755)
            else:
                target.symlink_to(program.resolve())


class Workspace:
    """One build's folder.

    Args:
        folder: is made; nothing is in it yet.
        toolbox: the programs that it finds.
    """

    def __init__(self, folder: Path, toolbox: Toolbox) -> None:
        self.folder, self._toolbox = folder, toolbox
        self.source, self.home, self.temporary = folder / "src", folder / "home", folder / "tmp"
        self._state, self._number = folder / "state", 0
        for each in (self.home, self.temporary, self._state):
            each.mkdir(parents=True)
        self._make_python(folder / "python")

    def remove(self) -> None:
        remove_folder(self.folder)

    def environment(self, endpoint: str, runtime_endpoint: str) -> dict[str, str]:
        """The variables that every program of a build has, whichever system runs it; no credentials.

        Args:
            endpoint, runtime_endpoint: where AWS's calls are answered.
        """
        folders = [self.folder / "python" / "bin", self._toolbox.folder, *_git_folder(), *SYSTEM_PATH]
        return {
            "PATH": os.pathsep.join(dict.fromkeys(map(str, folders))),
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "LANG": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",  # the machine's own
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": runtime_endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            **PIP,
        }

    def script(self, command: str) -> Path:
        """A file with a shell command, which leaves its variables and its folder to the next one (`after`)."""
        self._number += 1
        path = self._state / f"script-{self._number}.sh"
        variables, folder = shlex.quote(str(self._state / "variables")), shlex.quote(str(self._state / "folder"))
        keep = f"status=$?; env -0 > {variables}; pwd > {folder}; exit $status"
        # Exported, what a command sets is there for the next one, as in one shell.
        path.write_text(f"trap {shlex.quote(keep)} EXIT\nset -a\n{command}\n")
        return path

    def after(self, environment: Mapping[str, str], folder: Path) -> tuple[dict[str, str], Path]:
        """Variables and folder as the last script left them; as they were when it left none."""
        variables, changed = self._state / "variables", self._state / "folder"
        if not (variables.is_file() and changed.is_file()):
            return dict(environment), folder
        pairs = [each.partition("=") for each in variables.read_text(errors="surrogateescape").split("\0") if each]
        found = {name: value for name, _, value in pairs if name not in ("_", "SHLVL", "PWD", "OLDPWD", "status")}
        left = Path(changed.read_text(errors="surrogateescape").rstrip("\n"))
        for each in (variables, changed):
            each.unlink()
        return found, left if left.is_dir() else folder

    def _make_python(self, folder: Path) -> None:
        """What `python -m venv` makes, without copying anything (it takes 2 s, of which pip is most)."""
        base = Path(sys.base_prefix) / "bin" / PYTHON
        packages = folder / "lib" / PYTHON / "site-packages"
        (folder / "bin").mkdir(parents=True)
        packages.mkdir(parents=True)
        for name in ("python", "python3", PYTHON):
            (folder / "bin" / name).symlink_to(base)
        (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        paths = sysconfig.get_paths()
        servers = "\n".join(dict.fromkeys((paths["purelib"], paths["platlib"])))
        (packages / "local_aws.pth").write_text(f"{servers}\n")


def _git_folder() -> list[Path]:
    """Where the server found git, which need not be one of the system's folders."""
    try:
        return [Path(git_program()).parent]
    except GitError:
        return []
