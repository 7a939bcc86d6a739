"""CSV files as they come: how one is written is found from its content or taken from the settings, and it is cut into
pieces of whole rows, which can be parsed on several cores."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from files import DataError

BLOCK = 8 << 20  # bytes of a piece: 40,000 rows of 20 columns
CACHED = 1 << 17  # bytes that numpy works on at a time, so that they stay in the processor's cache
SAMPLE = 1 << 20  # characters from which delimiter and decimal mark are found
DELIMITERS = (",", ";", "\t", "|")
BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
FIRST_ROWS = 1 << 18  # bytes
MAX_ROW = 1 << 28  # bytes; a longer row is a quote that nobody closed
COMMA_NUMBER = r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?"
END_MARK = "\x1e\x1fend"
# csv's own limit, 128 KB, is less than a long text may have
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class CsvForm:
    """How one file is written. quote: "" for none. header_bytes, header_lines: of what lies before the rows, in UTF-8.

    notes: what was guessed, in words.
    """

    names: list[str]
    encoding: str
    delimiter: str
    quote: str
    decimal: str
    header_bytes: int
    header_lines: int
    notes: list[str]


def find_form(path: Path, settings: dict[str, Any]) -> CsvForm:
    """How the file is written; notes say in words what was guessed.

    settings: data.csv of settings.yaml. Raises DataError when the file cannot be read, or its header is no header.
    """
    notes: list[str] = []
    try:
        encoding = _find_encoding(path, settings["encoding"], notes)
        with _open_text(path, encoding) as stream:
            sample = stream.read(SAMPLE)
            complete = not stream.read(1)
    except (UnicodeError, OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path.name} is not a readable CSV file ({error}): upload it again") from error
    sample = sample.removeprefix("\ufeff")
    quote = settings["quote"]
    delimiter = settings["delimiter"]
    if delimiter == "auto":
        delimiter = max(DELIMITERS, key=lambda mark: _suitability(_records(sample, mark, quote, complete)))
    if not (delimiter + quote).isascii():
        raise DataError("data.csv.delimiter and data.csv.quote in settings.yaml must be ASCII characters")
    records = _records(sample, delimiter, quote, complete)
    if not records:
        raise DataError(f"{path.name} has no header line: put the columns' names into its first line")
    decimal = settings["decimal"]
    if decimal == "." and delimiter != "," and _has_decimal_commas(records):
        decimal = ","
        notes.append(f"{path.name}: its numbers are read with a decimal comma")
    names = [name.strip() for name in records[0]]
    check_names(names, path.name)
    header, lines = _header(sample, delimiter, quote)
    return CsvForm(names, encoding, delimiter, quote, decimal, len(header.encode()), lines, notes)


def check_names(names: list[str], file: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise DataError(f"{file}: the column {repeated[0]!r} occurs more than once: rename one")
    if any(not name.strip() for name in names):
        raise DataError(f"{file}: a column has no name: name every column in the header line")


@dataclass(frozen=True)
class CsvBlock:
    """Whole rows of a file. first_line: the line number, from 1, of its first character."""

    content: bytes
    first_line: int


def read_blocks(path: Path, form: CsvForm) -> Iterator[CsvBlock]:
    """The rows of the file in blocks of about BLOCK bytes, as UTF-8, without the header."""
    rest, line, skip = b"", 1 + form.header_lines, form.header_bytes
    with _open_bytes(path) as stream:
        decoder = None if form.encoding == "utf-8" else codecs.getincrementaldecoder(form.encoding)()
        ended, first = False, True
        while not ended:
            try:
                chunk = stream.read(BLOCK)
                ended = not chunk
                if decoder:
                    chunk = decoder.decode(chunk, final=ended).encode()
            except (UnicodeError, OSError, EOFError, zlib.error) as error:
                raise DataError(f"{path.name} is not a readable CSV file ({error}): upload it again") from error
            if first and chunk:
                first, chunk = False, chunk.removeprefix(codecs.BOM_UTF8)
            skipped = min(skip, len(chunk))
            skip -= skipped
            rest += chunk[skipped:]
            end = _rows_end(rest, form, ended)
            if end is None or len(rest) - end > MAX_ROW:
                raise DataError(
                    f"{path.name}: in line {line} or later a text in quotes ({form.quote}) begins that never ends: "
                    "correct it, or set data.csv.quote in settings.yaml"
                )
            if end:
                block = CsvBlock(rest[:end], line)
                rest = rest[end:]
                line += block.content.count(b"\n") or block.content.count(b"\r")
                yield block


def parse_block(
    block: CsvBlock, form: CsvForm, file: str, number_columns: frozenset[str], missing: list[str]
) -> pa.RecordBatch:
    """The block's rows: `number_columns` as float64 where all of their values in it allow that, all others as text.

    missing: the words that are null in a column of numbers. In text every value stays as it is written, but for a
    decimal comma, which becomes a point. Raises DataError when a row has another number of fields than the header.
    """
    try:
        return _parse(block, form, number_columns, missing)
    except pa.ArrowInvalid:
        pass  # some column is not what it seemed to be, or a row has another length
    try:
        batch = _parse(block, form, frozenset(), missing)
    except pa.ArrowInvalid as error:
        check_rows(block, form, file)
        raise DataError(f"{file}: the rows from line {block.first_line} on are not readable ({error})") from error
    words = pa.array(missing, pa.string())
    columns = []
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        if name in number_columns:
            try:
                columns.append(pc.if_else(pc.is_in(values, words), None, values).cast(pa.float64()))
                continue
            except pa.ArrowInvalid:
                pass
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def check_rows(block: CsvBlock, form: CsvForm, file: str) -> None:
    """Raises DataError naming the line when a row has more or fewer fields than the header."""
    for line, fields in _numbered(block, form):
        if len(fields) != len(form.names):
            raise DataError(
                f"{file}: the row in line {line} has {len(fields)} fields, the header line has {len(form.names)}: "
                "correct it (a text that holds the delimiter stands in quotes)"
            )


def line_of(block: CsvBlock, form: CsvForm, row: int) -> int:
    """The line in which the block's row, counted from 0, ends."""
    return next(line for number, (line, _) in enumerate(_numbered(block, form)) if number == row)


def may_have_leading_zeros(block: CsvBlock, form: CsvForm) -> bool:
    """Whether any field may begin as 00123 does: fast, and True at times when none does."""
    content = np.frombuffer(b"\n" + block.content + b"\n", np.uint8)
    for start in range(0, len(content) - 2, CACHED):
        text = content[start : start + CACHED + 2]
        zeros = (text[1:-1] == ord("0")) & (text[2:] - ord("0") < 10)
        # blanks, line ends and the quote " (all up to 34), the delimiter, another quote
        edges = (text[:-2] <= ord('"')) | (text[:-2] == ord(form.delimiter))
        if form.quote not in ("", '"'):
            edges |= text[:-2] == ord(form.quote)
        if (zeros & edges).any():
            return True
    return False


def first_rows(block: CsvBlock, form: CsvForm) -> CsvBlock:
    """A few of the block's rows."""
    end = _rows_end(block.content[:FIRST_ROWS], form, ended=False)
    return replace(block, content=block.content[:end]) if end else block


def _parse(block: CsvBlock, form: CsvForm, number_columns: frozenset[str], missing: list[str]) -> pa.RecordBatch:
    types = {name: pa.float64() if name in number_columns else pa.string() for name in form.names}
    table = pyarrow.csv.read_csv(
        pa.BufferReader(block.content),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, column_names=form.names, block_size=len(block.content) + 1
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=form.delimiter,
            quote_char=form.quote or False,
            newlines_in_values=bool(form.quote) and form.quote.encode() in block.content,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, null_values=missing, strings_can_be_null=False, decimal_point=form.decimal
        ),
    )
    columns = [column.combine_chunks() for column in table.columns]
    if form.decimal == ",":
        columns = [_with_points(values) if pa.types.is_string(values.type) else values for values in columns]
    return pa.RecordBatch.from_arrays(columns, names=form.names)


def _with_points(values: pa.Array) -> pa.Array:
    commas = pc.match_substring_regex(values, rf"^\s*{COMMA_NUMBER}\s*$")
    return pc.if_else(commas, pc.replace_substring(values, ",", "."), values)


def _numbered(block: CsvBlock, form: CsvForm) -> Iterator[tuple[int, list[str]]]:
    """The rows' fields, and the line in which each row ends."""
    lines = _reader(block.content.decode("utf-8"), form.delimiter, form.quote)
    for fields in lines:
        if fields:
            yield block.first_line + lines.line_num - 1, fields


def _rows_end(content: bytes, form: CsvForm, ended: bool) -> int | None:
    """How many bytes of `content` are whole rows. None when the file ends within quotes."""
    quote = form.quote.encode()
    newline = b"\n" if b"\n" in content else b"\r"
    if not quote or quote not in content:
        return len(content) if ended else content.rfind(newline) + 1
    quotes = np.flatnonzero(np.frombuffer(content, np.uint8) == quote[0])
    if not _quotes_are_paired(content, quotes, form):
        return _rows_end_by_parsing(content, form, ended)
    if ended:
        return len(content) if len(quotes) % 2 == 0 else None
    end = content.rfind(newline)
    while end >= 0 and (before := int(np.searchsorted(quotes, end))) % 2:
        end = content.rfind(newline, 0, int(quotes[before - 1]))
    return end + 1


def _quotes_are_paired(content: bytes, quotes: np.ndarray, form: CsvForm) -> bool:
    """Whether quotes only open and close fields or stand doubled within: then counting them tells what is quoted.

    A quote in the middle of a field (12" pipe) is a character as any other, and such a content must be parsed.
    """
    characters = np.frombuffer(content, np.uint8)
    edges = np.frombuffer((form.delimiter + form.quote + "\n\r").encode(), np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before = characters[opening[opening > 0] - 1]
    after = characters[closing[closing < len(content) - 1] + 1]
    return bool(np.isin(before, edges).all() and np.isin(after, edges).all())


def _rows_end_by_parsing(content: bytes, form: CsvForm, ended: bool) -> int | None:
    if not ended:
        content = content[: max(content.rfind(b"\n"), content.rfind(b"\r")) + 1]
    text = io.StringIO(content.decode("latin-1"), newline="")  # one character per byte
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for line in text:
            read += len(line)
            yield line
        yield END_MARK  # a row of its own, unless a quote before it is still open

    before_last = last = 0
    closed = False
    for fields in csv.reader(lines(), delimiter=form.delimiter, quotechar=form.quote):
        before_last, last, closed = last, read, fields == [END_MARK]
    if closed:
        return last
    return None if ended else before_last


def _reader(text: str, delimiter: str, quote: str) -> Any:
    lines = io.StringIO(text, newline="")
    if not quote:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote)


def _records(sample: str, delimiter: str, quote: str, complete: bool) -> list[list[str]]:
    """The sample's rows with the header, without empty lines, without the last when it may be cut off."""
    records = [record for record in _reader(sample, delimiter, quote) if record]
    return records if complete or len(records) < 2 else records[:-1]


def _suitability(records: list[list[str]]) -> tuple[float, int]:
    """How well a delimiter suits: whether (nearly) all rows have as many fields as the header, and how many."""
    fields = len(records[0]) if records else 1
    alike = sum(len(record) == fields for record in records)
    return (0.0, 0) if fields < 2 else (1 + (alike >= 0.9 * len(records)), fields)


def _has_decimal_commas(records: list[list[str]]) -> bool:
    """Whether some column's numbers have decimal commas, and no column's have points."""
    number = re.compile(rf"[+-]?[0-9]+|{COMMA_NUMBER}")
    pointed = re.compile(r"[+-]?[0-9]*\.[0-9]+")
    found = False
    for position in range(len(records[0])):
        values = [record[position].strip() for record in records[1:] if position < len(record)]
        values = [value for value in values if value]
        if any(pointed.fullmatch(value) for value in values):
            return False
        found = found or (any("," in value for value in values) and all(number.fullmatch(value) for value in values))
    return found


def _header(sample: str, delimiter: str, quote: str) -> tuple[str, int]:
    """The text before the first row, and how many lines it has."""
    lines = _reader(sample, delimiter, quote)
    for record in lines:
        if record:
            break
    texts = io.StringIO(sample, newline="")
    return "".join(next(texts) for _ in range(lines.line_num)), lines.line_num


def _find_encoding(path: Path, wanted: str, notes: list[str]) -> str:
    """The encoding that the whole file can be decoded with: the wanted one; or that of its mark, UTF-8, or cp1252."""
    with _open_bytes(path) as stream:
        start = stream.read(4096)
    if wanted != "auto":
        encoding = codecs.lookup(wanted).name
        # the mark, if there is one, is taken off after decoding
        encoding = "utf-8" if encoding == "utf-8-sig" else encoding
        _decode_all(path, encoding)
        return encoding
    marked = next((encoding for mark, encoding in BOMS if start.startswith(mark)), None)
    if marked is None and b"\0" in start:
        marked = "utf-16-le" if start[1::2].count(0) > start[0::2].count(0) else "utf-16-be"
        notes.append(f"{path.name}: its encoding is taken to be {marked.upper()}")
    try:
        _decode_all(path, marked or "utf-8")
        return marked or "utf-8"
    except UnicodeError:
        if marked:
            raise
    try:
        _decode_all(path, "cp1252")
    except UnicodeError:
        raise DataError(
            f"{path.name} is neither UTF-8 nor Windows-1252: set data.csv.encoding in settings.yaml"
        ) from None
    notes.append(
        f"{path.name} is not UTF-8: it is read as Windows-1252 (cp1252); if that is wrong, set data.csv.encoding"
    )
    return "cp1252"


def _decode_all(path: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    with _open_bytes(path) as stream:
        while chunk := stream.read(1 << 20):
            if encoding != "utf-8" or decoder.getstate()[0] or not chunk.isascii():
                decoder.decode(chunk)
    decoder.decode(b"", final=True)


def _open_bytes(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _open_text(path: Path, encoding: str) -> IO[str]:
    return io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline="")
