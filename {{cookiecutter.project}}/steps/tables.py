"""The raw data as one stream of pieces, whatever its files are: read again and again, never held as a whole."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

import csv_files
from csv_files import CsvBlock, CsvForm
from files import DataError, data_files, format_of
from transform import Missing

PIECE_VALUES = 1 << 20  # values of a piece of a Parquet file
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class DataFile:
    """One file: a CSV file has a form, a Parquet file a schema. name: its path below the data's prefix."""

    path: Path
    name: str
    names: list[str]
    form: CsvForm | None
    schema: pa.Schema | None


@dataclass(frozen=True)
class Piece:
    """Some rows of a file that follow each other. number: counts all pieces. first_row: of a Parquet file, from 0."""

    file: DataFile
    number: int
    content: CsvBlock | pa.RecordBatch
    first_row: int = 0

    def first_rows(self) -> Piece:
        """A few of the piece's rows."""
        if isinstance(self.content, CsvBlock) and self.file.form:
            return replace(self, content=csv_files.first_rows(self.content, self.file.form))
        return self

    def place(self, row: int) -> str:
        """Where the piece's row is, in words."""
        if isinstance(self.content, CsvBlock) and self.file.form:
            return f"{self.file.name}, line {csv_files.line_of(self.content, self.file.form, row)}"
        return f"{self.file.name}, row {self.first_row + row + 1}"


@dataclass(frozen=True)
class Data:
    """All files. names: the columns, in the first file's order. missing: the words that mean a missing value."""

    files: list[DataFile]
    names: list[str]
    missing: Missing
    notes: list[str]

    def pieces(self) -> Iterator[Piece]:
        """All rows in the files' order, cut in the same way at every call; CSV is not parsed yet."""
        number = 0
        for file in self.files:
            for content, first_row in _contents(file):
                yield Piece(file, number, content, first_row)
                number += 1

    def parse(self, piece: Piece, number_columns: frozenset[str]) -> pa.RecordBatch:
        """The piece's rows. Of CSV, `number_columns` come as float64 where that is possible, all others as text."""
        if isinstance(piece.content, pa.RecordBatch) or piece.file.form is None:
            return piece.content
        words = sorted(self.missing.words)
        return csv_files.parse_block(piece.content, piece.file.form, piece.file.name, number_columns, words)


def open_data(folder: Path, settings: dict[str, Any]) -> Data:
    """The data below `folder`. settings: the section data of settings.yaml.

    Raises DataError when a file cannot be read, repeats a column or does not name one, or when two files have
    different columns.
    """
    files: list[DataFile] = []
    notes: list[str] = []
    for path in data_files(folder, settings["format"]):
        name = path.relative_to(folder).as_posix()
        if (settings["format"] if settings["format"] != "auto" else format_of(path)) == "csv":
            form = csv_files.find_form(path, settings["csv"])
            notes += form.notes
            file = DataFile(path, name, form.names, form, None)
        else:
            schema = _parquet_schema(path, name)
            file = DataFile(path, name, schema.names, None, schema)
        if files and set(file.names) != set(files[0].names):
            different = ", ".join(sorted(set(file.names) ^ set(files[0].names)))
            raise DataError(f"{file.name} and {files[0].name} have different columns ({different}): make them alike")
        files.append(file)
    return Data(files, files[0].names, Missing.of(settings["missing"]), notes)


def in_parallel(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """The function's results in the items' order, computed by one thread per core.

    Arrow and numpy leave Python's lock while they compute. Few results wait at a time, so that memory stays bounded.
    """
    workers = max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _contents(file: DataFile) -> Iterator[tuple[CsvBlock | pa.RecordBatch, int]]:
    if file.form:
        for block in csv_files.read_blocks(file.path, file.form):
            yield block, 0
        return
    first_row = 0
    try:
        with pq.ParquetFile(file.path, buffer_size=1 << 20) as parquet:
            rows = max(1024, min(1 << 16, PIECE_VALUES // max(1, len(file.names))))
            for batch in parquet.iter_batches(batch_size=rows, columns=file.names):
                yield batch, first_row
                first_row += batch.num_rows
    except (OSError, ValueError) as error:
        raise DataError(f"{file.name} is not a readable Parquet file ({error}): write it again") from error


def _parquet_schema(path: Path, name: str) -> pa.Schema:
    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise DataError(f"{name} is not a readable Parquet file ({error}): write it again") from error
    # pandas writes an index without a name under such a name
    schema = pa.schema([field for field in schema if not re.fullmatch(r"__index_level_\d+__", field.name)])
    csv_files.check_names(schema.names, name)
    return schema
