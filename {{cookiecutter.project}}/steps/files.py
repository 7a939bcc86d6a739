"""The data's files: which there are, what they are, and their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

FORMATS = {"csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"), "parquet": (".parquet", ".pq")}


class DataError(ValueError):
    """Something is wrong with the data, not with the program: its text is for the owner of the data."""


def data_files(folder: Path, file_format: str) -> list[Path]:
    """The data files below `folder`, sorted by their path.

    file_format: "csv" or "parquet" (every file is read as that) or "auto" (each file's ending decides).
    Names that begin with "." or "_" are skipped, as SageMaker, Spark and Hive do (_SUCCESS, _temporary, .crc).
    Raises DataError when there is none, when one is empty, or when an ending says nothing.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise DataError("there is no file under data.uri: upload the data, or correct data.uri in settings.yaml")
    for path in files:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty: upload it again, or delete it")
        if file_format == "auto" and format_of(path) is None:
            endings = ", ".join(ending for known in FORMATS.values() for ending in known)
            raise DataError(
                f"{path.name}: its ending does not say what it is (known: {endings}): "
                "rename it, or set data.format in settings.yaml to csv or parquet"
            )
    return files


def format_of(path: Path) -> str | None:
    """What the file's ending says: "csv", "parquet", or None when it says neither."""
    name = path.name.lower()
    return next((known for known, endings in FORMATS.items() if name.endswith(endings)), None)


def content_sha256(files: list[Path], folder: Path) -> str:
    """One sha256 over the files' contents and names: that of what `sha256sum FILE...` prints in `folder`."""
    lines = []
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        lines.append(f"{digest.hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
