"""A job's data between S3 and its folder, many objects at a time, never whole in memory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tarfile
import threading
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from boto3.s3.transfer import TransferConfig

CHUNK = 1024 * 1024  # bytes
BUCKET_NAME = re.compile(r"[a-zA-Z0-9.\-_]{1,255}")  # botocore's, which allows the oldest buckets' names too
SINGLE_PUT = 8 * CHUNK  # up to this size one request; above it, a multipart upload
MULTIPART = TransferConfig(multipart_threshold=SINGLE_PUT, multipart_chunksize=4 * SINGLE_PUT, max_concurrency=4)


class S3Object(NamedTuple):
    key: str
    size: int  # bytes


@dataclass(frozen=True)
class S3Location:
    bucket: str
    key: str  # or a prefix; "" for the whole bucket

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> S3Location:
        return S3Location(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))


def s3_location(uri: str) -> S3Location:
    """Read an s3:// address.

    Raises:
        ValueError: it is none, or its bucket's name is one that no bucket has.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise ValueError(f"{uri!r} is no S3 address: write s3://bucket/prefix")
    if not BUCKET_NAME.fullmatch(bucket):
        raise ValueError(f"{uri!r} is no S3 address: bucket names have letters, digits, '.', '-' and '_' only")
    return S3Location(bucket, key)


def list_objects(client: Any, location: S3Location) -> list[S3Object]:
    """Every object whose key begins with the location's key (S3Prefix); those that only mark folders are left out."""
    found = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.key):
        found += [S3Object(item["Key"], item["Size"]) for item in page.get("Contents", [])]
    return [item for item in found if not item.key.endswith("/")]


def relative_path(prefix: str, key: str) -> str:
    """Where an object goes below the folder of its input.

    A prefix that is an object's whole key gives the object's name; a prefix that ends within a name ("data/tr" for
    "data/train.csv") gives the name whole.

    Raises:
        ValueError: the key would lead out of the folder.
    """
    rest = key[len(prefix) :]
    if not rest or (prefix and not prefix.endswith("/") and not rest.startswith("/")):
        rest = key[prefix.rfind("/") + 1 :]
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in rest:
        raise ValueError(f"object key {key!r} leads out of its folder")
    return "/".join(parts)


class Transfers:
    """Downloads and uploads of all jobs, in a few threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="transfer")

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def start(self, function: Any, *arguments: Any) -> Future[Any]:
        """Run something in one of the threads."""
        return self._threads.submit(function, *arguments)

    def download(
        self, client: Any, location: S3Location, objects: Iterable[S3Object], folder: Path, stopped: threading.Event
    ) -> list[Future[None]]:
        """Begin to fetch objects into a folder.

        Args:
            stopped: once it is set the rest is not fetched any more.

        Raises:
            ValueError: an object's key would lead out of the folder, or name a file that another one names as a file
                or as a folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        targets: dict[Path, str] = {}
        for item in objects:
            target = folder / relative_path(location.key, item.key)
            if target in targets:
                raise ValueError(f"objects {targets[target]!r} and {item.key!r} would be the same file")
            targets[target] = item.key
        for target, key in targets.items():
            if clash := next(
                (parent for parent in target.relative_to(folder).parents if folder / parent in targets), None
            ):
                raise ValueError(f"object {key!r} needs a folder where object {targets[folder / clash]!r} is a file")
            target.parent.mkdir(parents=True, exist_ok=True)
        return [
            self.start(_download_one, client, location.bucket, key, target, stopped) for target, key in targets.items()
        ]

    def upload_folders(
        self, client: Any, folders: list[Path], location: S3Location, kms_key: str | None
    ) -> list[Future[None]]:
        """Begin to write every file below the folders under a prefix; what several have is taken from the first."""
        files = {
            str(PurePosixPath(path.relative_to(folder))): path
            for folder in reversed(folders)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return [self.start(upload_file, client, path, location / name, kms_key) for name, path in sorted(files.items())]


def finish(transfers: Iterable[Future[Any]]) -> None:
    """Wait for all of them; raise what the first faulty one raised, after all have ended."""
    faults = [fault for transfer in list(transfers) if (fault := transfer.exception()) is not None]
    if faults:
        raise faults[0]


def _download_one(client: Any, bucket: str, key: str, target: Path, stopped: threading.Event) -> None:
    if stopped.is_set():
        return
    with contextlib.closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body, target.open("wb") as stream:
        for chunk in body.iter_chunks(CHUNK):
            if stopped.is_set():
                return
            stream.write(chunk)


def upload_file(client: Any, path: Path, location: S3Location, kms_key: str | None) -> None:
    """Write one file: a single request when it is small, a multipart upload when it is large."""
    options = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    if path.stat().st_size <= SINGLE_PUT:
        with path.open("rb") as stream:
            client.put_object(Bucket=location.bucket, Key=location.key, Body=stream, **options)
    else:
        client.upload_file(str(path), location.bucket, location.key, ExtraArgs=options, Config=MULTIPART)


def pack(folders: list[Path], archive: Path) -> bool:
    """Write the folders' contents as one .tar.gz; what several have is taken from the first that has it.

    Returns:
        False, and nothing is written, when all are empty.
    """
    members: dict[str, Path] = {}
    for folder in folders:
        for path in _below(folder):
            members.setdefault(str(PurePosixPath(path.relative_to(folder))), path)
    if not members:
        return False
    with tarfile.open(archive, "w:gz", compresslevel=6) as writing:
        for name, path in sorted(members.items()):
            writing.add(path, arcname=name, recursive=False)
    return True


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder; links to folders are not followed. A folder that cannot be read is an OSError."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))


def unpack(archive: Path, folder: Path, largest: int | None = None) -> None:
    """Extract an archive; members that lead out of the folder, devices included, are refused, links become copies.

    Not tarfile's own "data" filter: Python 3.11 before 3.11.4 (Debian 12's) has none.

    Args:
        largest: how many bytes all files together may have; the first one that would exceed it is not written.

    Raises:
        tarfile.TarError: it is no archive, a damaged or a hostile one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as reading:
            left = largest
            for member in reading:
                written = _extract(reading, member, folder, left)
                left = None if left is None else left - written
    except (EOFError, zlib.error, FileExistsError, NotADirectoryError, IsADirectoryError, RecursionError) as error:
        raise tarfile.ReadError(str(error)) from error


def _extract(reading: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, left: int | None) -> int:
    """Extract one member of `left` bytes at most; how many it had."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise tarfile.ReadError(f"member {member.name!r} leads out of the archive")
    target = folder / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    try:
        stream = reading.extractfile(member)  # of a link: what it leads to inside the archive
    except KeyError as error:
        raise tarfile.ReadError(f"member {member.name!r} is a link to what is not in the archive") from error
    if stream is None:
        raise tarfile.ReadError(f"member {member.name!r} is no file, no folder and no link to a file")
    with stream:
        size = stream.seek(0, os.SEEK_END)
        if left is not None and size > left:
            raise tarfile.ReadError(f"with member {member.name!r} it holds more bytes than are allowed")
        stream.seek(0)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writing:
            shutil.copyfileobj(stream, writing, CHUNK)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
    return size
