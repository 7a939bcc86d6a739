"""The archive of the project template, as it is tracked by Git, from which the seed function renders new repositories.

Its bytes depend on the files' names, contents and kinds alone (executable, link), so that its hash can name a version.
"""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from servicecatalog.errors import InstallError

ROOT = Path(__file__).resolve().parent.parent
PARTS = (".gitattributes", "cookiecutter.json", "hooks", "{{cookiecutter.project}}")
EXECUTABLE, PLAIN, LINK = 0o100755, 0o100644, 0o120000  # Git's modes of files: there are no others
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


@dataclass(frozen=True)
class TemplateFile:
    """One file of the template.

    Args:
        path: relative, with slashes.
        mode: EXECUTABLE, PLAIN or LINK.
        contents: of a link what it leads to.
    """

    path: str
    mode: int
    contents: bytes


def build(root: Path = ROOT) -> bytes:
    """The archive's bytes.

    Raises:
        InstallError: the template cannot be read, or a file that Git tracks is not there.
    """
    return zipped(files(root))


def files(root: Path = ROOT) -> list[TemplateFile]:
    """The template's files by path: those that Git tracks; without a repository, all that .gitignore lets in.

    Contents are the working tree's, so that what was changed and not committed is installed too.

    Raises:
        InstallError: as in build().
    """
    modes = _tracked(root) if (root / ".git").exists() else _not_ignored(root)
    if "cookiecutter.json" not in modes:
        raise InstallError(f"{root} has no cookiecutter.json: run this from a checkout of Modelyard")
    return [TemplateFile(path, mode, _contents(root / path, mode)) for path, mode in sorted(modes.items())]


def zipped(template_files: list[TemplateFile]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in template_files:
            entry = zipfile.ZipInfo(file.path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix: or else the mode counts for nothing
            entry.external_attr = file.mode << 16
            archive.writestr(entry, file.contents)
    return buffer.getvalue()


def release(root: Path = ROOT) -> str:
    """The newest version in CHANGELOG.md: "1.2.0"; "0" before the first.

    Raises:
        InstallError: there is no CHANGELOG.md.
    """
    path = root / "CHANGELOG.md"
    if not path.is_file():
        raise InstallError(f"{path} is missing: run this from a checkout of Modelyard")
    found = re.search(r"^## v?(\d+(?:\.\d+)*)\b", path.read_text(), re.MULTILINE)
    return found[1] if found else "0"


def _tracked(root: Path) -> dict[str, int]:
    """Modes by path, from Git's index."""
    listed = _git(root, "-C", str(root), "ls-files", "-z", "--stage", "--", *PARTS)
    entries = [line.split("\t", 1) for line in listed.split("\0") if line]
    return {path: int(head.split()[0], 8) for head, path in entries}


def _not_ignored(root: Path) -> dict[str, int]:
    """Modes by path, from the files, for a checkout that was unpacked from an archive. Git still reads .gitignore."""
    with tempfile.TemporaryDirectory(prefix="modelyard-template-") as empty:
        _git(root, "init", "--quiet", "--bare", empty)
        options = ("--others", "--exclude-per-directory=.gitignore", "-z")
        listed = _git(root, f"--git-dir={empty}", f"--work-tree={root}", "ls-files", *options, "--", *PARTS)
    return {path: _mode(root / path) for path in listed.split("\0") if path}


def _mode(path: Path) -> int:
    found = path.lstat().st_mode
    if stat.S_ISLNK(found):
        return LINK
    return EXECUTABLE if found & stat.S_IXUSR else PLAIN


def _contents(path: Path, mode: int) -> bytes:
    try:
        return os.fsencode(path.readlink()) if mode == LINK else path.read_bytes()
    except OSError as error:
        raise InstallError(
            f"{path} is the template's and cannot be read ({error.strerror}); restore it: git checkout -- '{path}'"
        ) from error


def _git(root: Path, *arguments: str) -> str:
    """What Git prints. Of this person's Git nothing counts but the repository itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise InstallError(
            "git is missing; it says which files are the template's. Install it, and try again"
        ) from error
    if done.returncode:
        raise InstallError(f"git cannot list the template's files in {root}: {done.stderr.strip()}")
    return done.stdout
