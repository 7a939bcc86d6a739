"""The one archive that all functions run from: lifecycle_lambdas, the packages of requirements/lambda.txt, byte code.

boto3 is not in it: Lambda's runtime has it. The same sources and packages give the same bytes, so that the archive's
hash can name it and a function is only touched when its code changed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from servicecatalog.errors import InstallError

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "lifecycle_lambdas"
PACKAGES = ROOT / ".envs" / "lambda"
PYTHON = (3, 11)  # the functions' Runtime in platform.yaml; other versions do not read its byte code
LARGEST = 10 * 1024 * 1024  # bytes, zipped
# What installers write about the machine and the moment.
_LEFT_OUT = (
    "__pycache__",
    "bin",
    "RECORD",
    "INSTALLER",
    "REQUESTED",
    "direct_url.json",
    "uv_cache.json",
    ".*",
    "*.pyc",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def build(sources: Path = SOURCES, packages: Path = PACKAGES) -> bytes:
    """The archive's bytes.

    Args:
        sources: the functions' own package; what it links to is put in as a file.
        packages: a folder with the installed packages, made by `make install`.

    Raises:
        InstallError: the packages are missing, this is another Python, or the archive is larger than it may be.
    """
    if not (packages / ".installed").exists():
        raise InstallError(f"{packages} has no packages for the functions; make them with: make install")
    if sys.version_info[:2] != PYTHON:
        raise InstallError(
            f"the functions run on Python {PYTHON[0]}.{PYTHON[1]} and take byte code of no other version, but this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}; use .envs/main/bin/python, or make install-platform"
        )
    with tempfile.TemporaryDirectory(prefix="modelyard-archive-") as name:
        folder = Path(name)
        shutil.copytree(packages, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)
        shutil.copytree(sources, folder / sources.name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        _compile(folder)
        archive = _zipped(folder)
    if len(archive) > LARGEST:
        raise InstallError(
            f"the functions' archive has {len(archive):,} bytes and may have {LARGEST:,}: a larger one starts slower; "
            "take a package out of requirements/lambda.in"
        )
    return archive


def key(archive: bytes) -> str:
    """Where the archive lies in its bucket: named by its contents."""
    return f"modelyard/functions/{hashlib.sha256(archive).hexdigest()[:16]}.zip"


def _compile(folder: Path) -> None:
    """Byte code beside the sources: in Lambda nothing can be written there, so each cold start would compile anew.

    Of the kind that is taken without a look at the source (PEP 552), and made by an interpreter that has imported
    nothing else and hashes alike each time, since both find their way into the bytes.
    """
    command = [sys.executable, "-S", "-s", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*command, "-s", str(folder), "-p", "/var/task", str(folder)],
        env=environment | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InstallError(f"the functions' code does not compile:\n{done.stdout}{done.stderr}")


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16  # Lambda's user must be able to read it
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()
