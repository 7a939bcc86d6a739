"""The archives that the functions run from: our own package, the packages of its requirements, byte code.

The controller's functions run from one, with lifecycle_lambdas and requirements/lambda.txt; the seed function from the
other, with seed_lambda and requirements/seed_lambda.txt. boto3 is in neither: Lambda's runtime has it. The same sources
and packages give the same bytes, so that the archive's hash can name it and a function is only touched when its code
changed.
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
from collections.abc import Callable
from pathlib import Path

from servicecatalog.errors import InstallError

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "lifecycle_lambdas"
PACKAGES = ROOT / ".envs" / "lambda"
SEED_SOURCES = ROOT / "seed_lambda"
SEED_PACKAGES = ROOT / ".envs" / "seed_lambda"
BUILT = ROOT / "build" / "archives"  # those that were built last
PYTHON = (3, 11)  # the functions' Runtime in platform.yaml; other versions do not read its byte code
LARGEST = 10 * 1024 * 1024  # bytes, zipped
LARGEST_SEED = 12 * 1024 * 1024
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


def build(sources: Path = SOURCES, packages: Path = PACKAGES, largest: int | None = None) -> bytes:
    """The archive's bytes.

    Args:
        sources: the functions' own package; what it links to is put in as a file.
        packages: a folder with the installed packages, made by `make install`.
        largest: bytes that it may have; LARGEST when it is not given.

    Raises:
        InstallError: the packages are missing, this is another Python, or the archive is larger than it may be.
    """
    _check(packages)
    with tempfile.TemporaryDirectory(prefix="modelyard-archive-") as name:
        folder = Path(name)
        shutil.copytree(packages, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)
        shutil.copytree(sources, folder / sources.name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        _compile(folder)
        archive = _zipped(folder)
    largest = LARGEST if largest is None else largest
    if len(archive) > largest:
        raise InstallError(
            f"the archive of {sources.name} has {len(archive):,} bytes and may have {largest:,}: a larger one starts "
            "slower; take a package out of its requirements"
        )
    return archive


def build_seed() -> bytes:
    """The seed function's archive. Raises InstallError as build() does."""
    return build(SEED_SOURCES, SEED_PACKAGES, LARGEST_SEED)


def built(sources: Path, packages: Path, make: Callable[[], bytes], kept: Path = BUILT) -> bytes:
    """The archive that was built last from the same files by the same Python, or a new one, which then is kept.

    Args:
        make: build, for these sources and packages.
        kept: the folder of those that were built.

    Raises:
        InstallError: as build() does.
    """
    _check(packages)
    path = kept / f"{sources.name}-{_fingerprint(sources, packages)}.zip"
    if path.exists():
        return path.read_bytes()
    archive = make()
    kept.mkdir(parents=True, exist_ok=True)
    for older in kept.glob(f"{sources.name}-*.zip"):
        older.unlink(missing_ok=True)
    # Whole or not at all: others may be looking.
    with tempfile.NamedTemporaryFile(dir=kept, delete=False) as file:
        file.write(archive)
    Path(file.name).replace(path)
    return archive


def functions() -> bytes:
    """The controller's archive, built only when something in it changed. Raises InstallError as build() does."""
    return built(SOURCES, PACKAGES, build)


def seed() -> bytes:
    """The seed function's, likewise."""
    return built(SEED_SOURCES, SEED_PACKAGES, build_seed)


def key(archive: bytes) -> str:
    """Where the archive lies in its bucket: named by its contents."""
    return f"modelyard/functions/{hashlib.sha256(archive).hexdigest()[:16]}.zip"


def seed_key(archive: bytes) -> str:
    """The same, of the seed function's."""
    return f"modelyard/functions/seed-{hashlib.sha256(archive).hexdigest()[:16]}.zip"


def _check(packages: Path) -> None:
    """Raises InstallError where no archive can be built."""
    if not (packages / ".installed").exists():
        raise InstallError(f"{packages} has no packages for the functions; make them with: make install")
    if sys.version_info[:2] != PYTHON:
        raise InstallError(
            f"the functions run on Python {PYTHON[0]}.{PYTHON[1]} and take byte code of no other version, but this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}; use .envs/main/bin/python, or make install-platform"
        )


def _fingerprint(*folders: Path) -> str:
    """Of everything that an archive's bytes depend on: the files, this module, and the Python that compiles them."""
    digest = hashlib.sha256(sys.version.encode() + Path(__file__).read_bytes())
    left_out = shutil.ignore_patterns(*_LEFT_OUT)
    for root in folders:
        for folder, subfolders, names in os.walk(root):
            skipped = left_out(folder, [*subfolders, *names])
            subfolders[:] = sorted(set(subfolders) - skipped)
            for name in sorted(set(names) - skipped):
                path = Path(folder, name)
                digest.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


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
