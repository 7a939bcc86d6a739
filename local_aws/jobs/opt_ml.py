"""How a job gets `/opt/ml`, which this machine need not have: by a mount namespace, or by writing another path instead.

A mount namespace is as good as a container: the program sees its own folder at /opt/ml. It takes Linux and a system
that lets this user have one. Everywhere else "/opt/ml" is replaced by the folder's path in the arguments, the
environment, the configuration files and the job's own code (.py and .sh files, in .tar.gz and .zip archives too). What
puts the path together by itself, such as `Path("/opt") / "ml"`, works in a namespace only.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import sys
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.jobs.process import JobProcess, Namespace

# Not in the middle of a longer path or name, such as s3://bucket/opt/ml or {prefix}/opt/ml.
OPT_ML = re.compile(r"(?<![\w.})-])/opt/ml(?![\w.-])")
CODE_SUFFIXES = (".py", ".sh")
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".zip")
LARGEST_CODE_ARCHIVE = 100_000_000  # bytes; a larger one is data, and reading it would take long


@dataclass(frozen=True)
class OptMl:
    """The way chosen, and why; `why` goes into every job's log."""

    namespace: bool
    why: str

    def path(self, path: str, ml: Path) -> str:
        """The path on this machine of a path below /opt/ml."""
        return str(ml) + path.removeprefix("/opt/ml")

    def text(self, text: str, ml: Path) -> str:
        """A text as the program must be given it."""
        return text if self.namespace else substitute(text, ml)

    def value(self, value: Any, ml: Path) -> Any:
        """A JSON value, its strings as the program must be given them."""
        if isinstance(value, dict):
            return {key: self.value(item, ml) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, ml) for item in value]
        return self.text(value, ml) if isinstance(value, str) else value

    def code(self, folder: Path, ml: Path) -> None:
        """Prepare fetched code (and data that might be code) in a folder."""
        if not self.namespace:
            substitute_in_code(folder, ml)


def choose(setting: str) -> OptMl:
    """The way for this server.

    Args:
        setting: "namespace" or "rewrite" to force one, "auto" to take a namespace where the system allows it.

    Raises:
        RuntimeError: "namespace" is forced and the system does not allow it.
    """
    if setting == "rewrite":
        return OptMl(False, "/opt/ml is rewritten to the job's folder in arguments, environment and code, as was asked")
    fault = _namespace_fault()
    if fault is None:
        return OptMl(True, "/opt/ml is this job's own by a mount namespace")
    if setting == "namespace":
        raise RuntimeError(f"--opt-ml namespace is not possible here: {fault}. Use --opt-ml auto or rewrite.")
    return OptMl(False, f"/opt/ml is rewritten to the job's folder in arguments, environment and code ({fault})")


def _namespace_fault() -> str | None:
    """Why no mount namespace can be had, found out by trying; None when one can."""
    if sys.platform != "linux":
        return "mount namespaces are Linux's"
    with tempfile.TemporaryDirectory(prefix="local_aws-probe-") as folder:
        for name in ("probe", "hosts"):
            (Path(folder) / name).touch()
        ending = JobProcess().run(
            ["test", "-e", "/opt/ml/probe"],
            {"PATH": "/usr/bin:/bin"},
            Path(folder),
            Namespace(opt_ml=Path(folder), hosts=Path(folder) / "hosts"),
            seconds=10.0,
            on_output=lambda data: None,
        )
    return None if ending.succeeded else ending.error or "the mounted folder is not seen at /opt/ml"


def substitute(text: str, ml: Path) -> str:
    """The text with another folder in the place of /opt/ml."""
    return OPT_ML.sub(str(ml).replace("\\", r"\\"), text)


def substitute_in_code(folder: Path, ml: Path) -> None:
    """Replace /opt/ml in the .py and .sh files below a folder, and in those inside its archives."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        if path.name.endswith(CODE_SUFFIXES):
            before = path.read_bytes()
            after = _substituted(before, ml)
            if after != before:
                path.write_bytes(after)
        elif path.name.endswith(ARCHIVE_SUFFIXES) and path.stat().st_size <= LARGEST_CODE_ARCHIVE:
            _substitute_in_archive(path, ml)


def _substituted(data: bytes, ml: Path) -> bytes:
    # latin-1 keeps every byte as it is, whatever the file's encoding.
    return substitute(data.decode("latin-1"), Path(str(ml).encode().decode("latin-1"))).encode("latin-1")


def _substitute_in_archive(path: Path, ml: Path) -> None:
    fresh = path.with_name(path.name + ".rewritten")
    # What only looks like an archive is for the job to find out.
    with contextlib.suppress(tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError):
        if _copy_zip(path, fresh, ml) if path.suffix == ".zip" else _copy_tar(path, fresh, ml):
            fresh.replace(path)
    fresh.unlink(missing_ok=True)


def _copy_zip(source: Path, target: Path, ml: Path) -> bool:
    changed = False
    with zipfile.ZipFile(source) as reading, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as writing:
        for member in reading.infolist():
            data = before = reading.read(member)
            if member.filename.endswith(CODE_SUFFIXES):
                data = _substituted(before, ml)
            changed |= data != before
            writing.writestr(member, data)
    return changed


def _copy_tar(source: Path, target: Path, ml: Path) -> bool:
    changed = False
    with tarfile.open(source) as reading, tarfile.open(target, "w:gz", compresslevel=1) as writing:
        for member in reading:
            stream = reading.extractfile(member) if member.isfile() else None
            if stream is not None and member.name.endswith(CODE_SUFFIXES):
                before = stream.read()
                data = _substituted(before, ml)
                changed |= data != before
                member.size = len(data)
                stream = io.BytesIO(data)
            writing.addfile(member, stream)
    return changed
