"""The template's archives in the code bucket, and where it is published for `cruft update`."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from botocore.exceptions import ClientError

from seed_lambda.context import Context
from seed_lambda.errors import SeedError
from seed_lambda.hosts import File, Mode, Tree, host_for
from seed_lambda.properties import LATEST

PREFIX = "modelyard/template/"  # of the archives' keys
PARAMETERS = {
    "version": "/modelyard/template/version",
    "url": "/modelyard/template/url",
    "commit": "/modelyard/template/commit",
}
PUBLISHED_BRANCH = "main"
_LARGEST = 50 * 1024 * 1024  # bytes, unpacked
_MOST_FILES = 2000


@dataclass(frozen=True)
class Published:
    """A version of the template as a Git repository has it.

    Args:
        version: of its archive.
        url: to clone it from.
        commit: in which it is.
    """

    version: str
    url: str
    commit: str


def version_branch(version: str) -> str:
    """The branch of the published repository that stays at a version."""
    return f"version-{version}"


def published(context: Context, version: str) -> Published:
    """Where a version is published.

    Args:
        version: "latest", or a version.

    Raises:
        SeedError: the platform has no published template, or not this version.
    """
    answer = context.client("ssm").get_parameters(Names=list(PARAMETERS.values()))
    found = {parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]}
    if missing := [name for name in PARAMETERS.values() if name not in found]:
        raise SeedError(
            f"this platform has no published template: the SSM parameters {', '.join(missing)} are not there. An "
            "administrator brings the platform up to date with make install-platform"
        )
    latest = Published(*(found[PARAMETERS[member]] for member in ("version", "url", "commit")))
    if version in (LATEST, latest.version):
        return latest
    repository = latest.url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
    commit = (
        host_for(context, context.settings.git_host)
        .heads(repository, (version_branch(version),))
        .get(version_branch(version))
    )
    if commit is None:
        raise _unknown(version, f"the published template ({latest.url}) has no branch {version_branch(version)}")
    return Published(version, latest.url, commit)


def unpacked(context: Context, version: str) -> Path:
    """The folder of a version's files; fetched once for the process's machine.

    Raises:
        SeedError: there is no such version, or its archive is no good.
    """
    folder = Path(tempfile.gettempdir()) / f"modelyard-template-{version}"
    if folder.is_dir():
        return folder
    archive = _archive(context, version)
    made = Path(tempfile.mkdtemp(prefix="modelyard-unpacking-"))
    try:
        _unpack(archive, made)
        if not (made / "cookiecutter.json").is_file():
            raise SeedError(
                f"the template's archive {version} has no cookiecutter.json: make install-platform makes it"
            )
        try:
            made.rename(folder)  # there at once, whole
        except OSError:
            if not folder.is_dir():  # else another one was faster
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def files(folder: Path) -> Tree:
    """All files below a folder, as Git would take them."""
    found: dict[str, File] = {}
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent) / name
            found[path.relative_to(folder).as_posix()] = _file(path)
    return dict(sorted(found.items()))


def _file(path: Path) -> File:
    if path.is_symlink():
        return File(os.fsencode(path.readlink()), "120000")
    mode: Mode = "100755" if path.stat().st_mode & stat.S_IXUSR else "100644"
    return File(path.read_bytes(), mode)


def _archive(context: Context, version: str) -> bytes:
    key = f"{PREFIX}{version}.zip"
    bucket = context.settings.code_bucket
    try:
        return context.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404", "AccessDenied"):
            raise _unknown(version, f"s3://{bucket}/{key} is not there or may not be read") from error
        raise


def _unknown(version: str, why: str) -> SeedError:
    return SeedError(
        f"TemplateVersion {version!r}: this platform does not have that version of the template ({why}). Write "
        f"{LATEST!r}, or take a version of the product that this platform offers"
    )


def _unpack(archive: bytes, folder: Path) -> None:
    """Files and links of the archive, with git's modes; nothing that would lie outside of the folder.

    Raises:
        SeedError: the archive holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _LARGEST:
                raise SeedError(f"the template's archive has more than {_MOST_FILES} files or {_LARGEST:,} bytes")
            for entry in entries:
                _put(folder, entry, opened.read(entry))
    except zipfile.BadZipFile as error:
        raise SeedError(
            f"the template's archive cannot be read ({error}): make install-platform makes it anew"
        ) from error


def _put(folder: Path, entry: zipfile.ZipInfo, content: bytes) -> None:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not _is_inside(folder, folder / path):
        raise SeedError(f"the template's archive holds {entry.filename!r}, which is outside of its folder")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        link = os.fsdecode(content)
        if Path(link).is_absolute() or not _is_inside(folder, target.parent / link):
            raise SeedError(f"the template's archive holds {entry.filename!r}, a link to outside of its folder")
        target.symlink_to(link)
        return
    target.write_bytes(content)
    target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def _is_inside(folder: Path, path: Path) -> bool:
    """Also when a link that was unpacked before is on the way."""
    return path.resolve().is_relative_to(folder.resolve())
