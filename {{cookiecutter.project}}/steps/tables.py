"""Reading tables, and saying what is wrong with them in the words of whoever provides them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from pathlib import Path
from typing import TextIO

import pandas as pd

from transform import MISSING

FORMATS = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet", ".pq")}
# csv's own limit, 128 KB, is less than a long text may have
csv.field_size_limit(1 << 30)


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


def read_tables(files: list[Path], file_format: str) -> pd.DataFrame:
    """All rows of all files, in the files' order.

    Raises DataError when a file cannot be read, has a row of another length than its header, repeats a column, or when
    two files have different columns.
    """
    frames: list[pd.DataFrame] = []
    for path in files:
        known_format = file_format if file_format != "auto" else format_of(path)
        frame = _read_csv(path) if known_format == "csv" else _read_parquet(path)
        if frames and set(frame.columns) != set(frames[0].columns):
            different = ", ".join(sorted(map(str, set(frame.columns) ^ set(frames[0].columns))))
            raise DataError(f"{path.name} and {files[0].name} have different columns ({different}): make them alike")
        frames.append(frame)
    table = frames[0] if len(frames) == 1 else pd.concat([f[frames[0].columns] for f in frames], ignore_index=True)
    if table.empty:
        raise DataError(f"{', '.join(path.name for path in files)}: there is a header but no row")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    zipped = path.name.lower().endswith(".gz")
    opener = gzip.open if zipped else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            _check_lines(stream, path)
        return pd.read_csv(
            path,
            encoding="utf-8-sig",
            compression="gzip" if zipped else None,
            low_memory=False,  # a column's type is decided over the whole file, not chunk by chunk
            keep_default_na=False,
            na_values=sorted(MISSING),
        )
    except (
        *(UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error),
        *(OSError, EOFError, zlib.error),
    ) as error:
        raise DataError(
            f"{path.name} is not a readable CSV file ({error}): it must be UTF-8, comma separated, with a header line"
        ) from error


def _check_lines(stream: TextIO, path: Path) -> None:
    """Raises DataError unless every row has as many fields as the header.

    pandas would fill a short row with missing values, and with one field more in every row it would shift the columns.
    """
    lines = csv.reader(stream)
    header = next((line for line in lines if line), [])
    separators = [name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in "".join(header)]
    if len(header) == 1 and separators:
        raise DataError(
            f"{path.name}: its columns are separated by {separators[0]}: save it again with commas between the columns "
            "(and points in decimal numbers)"
        )
    _check_columns(header, path)
    for line in lines:
        if line and len(line) != len(header):
            raise DataError(
                f"{path.name}: the row in line {lines.line_num} has {len(line)} fields, the header line has "
                f"{len(header)}: correct it (a text that holds a comma stands in double quotes)"
            )


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise DataError(f"{path.name} is not a readable Parquet file ({error}): write it again") from error
    # pandas writes a named index as a column, and reads it back as an index
    frame = frame.reset_index(level=[name for name in frame.index.names if name is not None])
    _check_columns([str(name) for name in frame.columns], path)
    frame.columns = frame.columns.map(str)
    return frame


def _check_columns(names: list[str], path: Path) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path.name}: the column {repeated[0]!r} occurs more than once: rename one")
    if any(not name.strip() for name in names):
        raise DataError(f"{path.name}: a column has no name: name every column in the header line")
