"""From a request's body to the model's features. inference.py says what a request may look like.

Few rows are parsed in plain Python, where Arrow would cost more than it saves; many by Arrow. Both take the same texts
for the same values: where Arrow's quick way does not take a value, the exact way decides, and names row and column.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from media_types import CSV, JSON, JSON_LINES, PARQUET, SUPPORTED, RequestError, parse_media_type
from transform import ColumnError, Missing, Transform

# Up to here plain Python is the quicker one (measured with 30 columns of numbers: the two meet at 25 rows).
FEW_CHARACTERS, FEW_VALUES = 8_000, 1_000
# A Parquet file of a few kilobytes can hold any number of equal rows.
MOST_ROWS = 1_000_000
SCALARS = {str, int, float, bool, type(None)}
REPLACEMENT = "\ufffd"  # what a decoder leaves where bytes were no UTF-8


class RequestReader:
    """Reads requests to one model: made once, when the model is loaded."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._names = transform.column_names
        # What a header line is known by; a name that is a number could be a value as well.
        self._telling = {_plain(name) for name in self._names if not _is_number(name)}
        self._missing = sorted(Missing.of(transform.missing).words)
        self._texts = {name: pa.string() for name in self._names}
        self._types = {
            column.name: pa.float64() if column.kind == "number" else pa.string() for column in transform.columns
        }

    def features(self, body: bytes | bytearray | str, content_type: str) -> np.ndarray:
        """The request's rows as XGBoost takes them: shape (rows, features), float32. Raises RequestError."""
        kind, parameters = parse_media_type(content_type or "")
        if kind in PARQUET:
            features = self._of_parquet(body)
        elif kind == CSV:
            features = self._of_csv(_text(body, parameters), parameters.get("header"))
        elif kind == JSON:
            features = self._of_json(_parse_json(_text(body, parameters)))
        elif kind in JSON_LINES:
            features = self._of_json_lines(_text(body, parameters))
        else:
            raise RequestError(f"content type {content_type!r} is not supported: send {SUPPORTED}", 415)
        return features

    def _of_parquet(self, body: bytes | bytearray | str) -> np.ndarray:
        if isinstance(body, str):
            raise RequestError("the body is not Parquet, but text")
        try:
            file = pq.ParquetFile(pa.BufferReader(bytes(body)))
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            if rows > MOST_ROWS:
                raise RequestError(f"the body has {rows:,} rows: send at most {MOST_ROWS:,} at once", 413)
            self._check_names(names)
            table = file.read(columns=self._names, use_threads=False)
            table.validate(full=True)  # text that is no UTF-8 would fail much later
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise RequestError(f"the body is not Parquet that can be read: {_first_line(error)}") from error
        if not rows:
            raise RequestError("the body has no row")
        return self._of_table(table)

    def _of_csv(self, text: str, header: str | None) -> np.ndarray:
        if header not in (None, "present", "absent"):
            raise RequestError(f"the header of {CSV} is present or absent, not {header!r}", 415)
        if not text or text.isspace():
            raise RequestError("the body has no row")
        if len(text) > FEW_CHARACTERS and _is_plain_csv(text):
            features = self._of_plain_csv(text, header)
            if features is not None:
                return features
        lines = _csv_lines(text.rstrip("\r\n"))
        names = lines.pop(0) if self._is_header(lines[0], header) else None
        if names is not None:
            self._check_names(names)
        if not lines:
            raise RequestError("the body has a header line but no row")
        self._check_widths(lines, names)
        if len(text) <= FEW_CHARACTERS:
            return self._of_rows(lines, self._names if names is None else names)
        columns = self._listed_values(lines, names)
        return self._of_table(pa.table([pa.array(column, pa.string()) for column in columns], self._names))

    def _of_plain_csv(self, text: str, header: str | None) -> np.ndarray | None:
        """CSV without quotes by Arrow; None when it does not take it, so that the exact way says why."""
        encoded = text.encode()
        length = len(encoded)
        while encoded[length - 1] in b"\r\n":
            length -= 1
        lines = encoded.count(b"\n", 0, length) + 1
        end = text.find("\n")
        first = text[: length if end < 0 else end].rstrip("\r").split(",")
        named = self._is_header(first, header)
        distinct = set(first)
        if first == [""] or (named and (len(distinct) < len(first) or not distinct.issuperset(self._names))):
            return None
        if not named and len(first) != len(self._names):
            return None
        for types in (self._types, self._texts):
            try:
                table = pa_csv.read_csv(
                    pa.BufferReader(pa.py_buffer(encoded).slice(0, length)),
                    pa_csv.ReadOptions(
                        use_threads=False,
                        block_size=length,
                        skip_rows=int(named),
                        column_names=first if named else self._names,
                    ),
                    pa_csv.ParseOptions(quote_char=False),
                    pa_csv.ConvertOptions(
                        column_types=types,
                        include_columns=self._names,
                        null_values=self._missing,
                        strings_can_be_null=False,
                    ),
                )
            except pa.ArrowInvalid:
                continue
            # Arrow leaves empty lines out
            return self._of_table(table) if table.num_rows == lines - named > 0 else None
        return None

    def _of_json(self, parsed: Any) -> np.ndarray:
        names = None
        if isinstance(parsed, dict) and isinstance(parsed.get("instances"), list):
            parsed = parsed["instances"]
        elif isinstance(parsed, dict) and isinstance(parsed.get("data"), list) and "columns" in parsed:
            names, parsed = parsed["columns"], parsed["data"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise RequestError('"columns" must be a list of names')
        elif isinstance(parsed, dict):
            parsed = [parsed]
        if not isinstance(parsed, list) or not parsed:
            raise RequestError('the body has no row: send {"instances": [{"column": value, ...}, ...]}')
        return self._of_values(parsed, names)

    def _of_json_lines(self, text: str) -> np.ndarray:
        rows = []
        for number, line in enumerate(text.rstrip("\r\n \t").split("\n")):
            try:
                rows.append(_parse_json(line))
            except RequestError as error:
                where = "is empty" if not line.strip() else f"is not one: {error}"
                raise RequestError(f"each line must be a JSON object or list, but line {number + 1} {where}") from error
        return self._of_values(rows, None)

    def _of_values(self, rows: list[Any], names: list[str] | None) -> np.ndarray:
        """names: of the values of each row, when the request says them once for all rows."""
        if all(type(row) is dict and len(row) == 1 and type(row.get("features")) is list for row in rows):
            rows = [row["features"] for row in rows]  # SageMaker's own form of a row without names
        if names is None and all(type(row) is dict for row in rows):
            columns = [self._named_values(rows, name) for name in self._names]
        elif all(type(row) is list for row in rows):
            if names is not None:
                self._check_names(names)
            self._check_widths(rows, names)
            columns = self._listed_values(rows, names)
        else:
            raise RequestError("every row must be an object, or every row a list of values")
        for name, column in zip(self._names, columns, strict=True):
            if not set(map(type, column)) <= SCALARS:
                row = next(row for row, value in enumerate(column) if type(value) not in SCALARS)
                raise _fault(f"must be a number, a text, true, false or null, but is {column[row]!r:.80}", name, row)
        if len(rows) * len(columns) > FEW_VALUES:
            try:
                return self._of_table(pa.table([pa.array(column) for column in columns], self._names))
            except (pa.ArrowException, OverflowError, UnicodeError):
                pass  # values of several types in a column, integers of more than 64 bits, half a character
        return self._of_rows(list(zip(*columns, strict=True)), self._names)

    def _named_values(self, rows: list[dict[str, Any]], name: str) -> list[Any]:
        try:
            return [row[name] for row in rows]
        except KeyError:
            row = next(row for row, values in enumerate(rows) if name not in values)
            raise self._missing_columns(list(rows[row]), row) from None

    def _listed_values(self, rows: list[list[Any]], names: list[str] | None) -> list[Any]:
        columns = list(zip(*rows, strict=True))
        return columns if names is None else [columns[names.index(name)] for name in self._names]

    def _of_table(self, table: pa.Table) -> np.ndarray:
        try:
            return self._transform.features(table)
        except ColumnError as error:
            raise _fault(error.fault, error.column, error.row) from error

    def _of_rows(self, rows: list[Any], names: list[str]) -> np.ndarray:
        try:
            return self._transform.features_of_rows(rows, names)
        except ColumnError as error:
            raise _fault(error.fault, error.column, error.row) from error

    def _is_header(self, first: list[str], header: str | None) -> bool:
        if header is not None:
            return header == "present"
        found = self._telling & {_plain(value) for value in first}
        if 2 * len(found) > len(self._telling):
            return True
        if len(found) > 1 or 2 * len(found) == len(self._telling) > 0:
            shown = ", ".join(map(repr, sorted(found)[:5]))
            raise RequestError(
                f"the first line holds some of the columns' names ({shown}): if it is a header line, correct the other "
                f"names; if it is a row, send {CSV}; header=absent"
            )
        return False

    def _check_names(self, names: list[str]) -> None:
        if not set(self._names) <= set(names):
            raise self._missing_columns(names)
        if len(set(names)) < len(names):
            for name in self._names:
                if names.count(name) > 1:
                    raise _fault("is named twice", name)

    def _missing_columns(self, names: list[str], row: int | None = None) -> RequestError:
        missing = [name for name in self._names if name not in names]
        given = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        fault = f"columns are missing: {', '.join(missing)} (there are {given or 'none'})"
        return RequestError(fault if row is None else f"row {row + 1}: {fault}", column=missing[0], row=row)

    def _check_widths(self, rows: list[Any], names: list[str] | None) -> None:
        width = len(self._names if names is None else names)
        row = next((row for row, values in enumerate(rows) if len(values) != width), None)
        if row is not None:
            wanted = f"the model takes {width}: {', '.join(self._names)} (in this order)"
            wanted = wanted if names is None else f"{width} columns are named"
            raise RequestError(f"row {row + 1} has {len(rows[row])} values, but {wanted}", row=row)


def _text(body: bytes | bytearray | str, parameters: dict[str, str]) -> str:
    """The body as text, without a byte order mark."""
    if parameters.get("charset", "utf-8") not in ("utf-8", "utf8", "us-ascii"):
        raise RequestError(f"the charset {parameters['charset']!r} is not supported: send UTF-8", 415)
    if isinstance(body, str) and body.isascii():
        return body
    # half of a character (a lone surrogate) in a str fails below as any other bad byte
    content = body.encode("utf-8", errors="surrogatepass") if isinstance(body, str) else bytes(body)
    text = content.decode("utf-8", errors="replace")
    position = text.find(REPLACEMENT)
    if position >= 0:  # from us or, in the container, from whoever decoded it before us
        line = text.count("\n", 0, position) + 1
        raise RequestError(f"the body is not UTF-8: line {line} holds bytes that are no character")
    return text.removeprefix("\ufeff")


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RequestError:
        raise
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of more than 4,300 digits
        raise RequestError(f"the body is not JSON that can be read: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a name come twice; one of the two values would be lost silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise _fault("is named twice in an object", name)
    return found


def _csv_lines(text: str) -> list[list[str]]:
    """The lines' values; quoting as in RFC 4180."""
    lines: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for line in reader:
            if not line:
                raise RequestError(
                    f'line {reader.line_num} is empty: write a missing value of a single column as ""', row=len(lines)
                )
            lines.append(line)
    except csv.Error as error:
        raise RequestError(f"line {reader.line_num} is not CSV: {error}") from error
    return lines


def _is_plain_csv(text: str) -> bool:
    """Whether splitting at commas and line ends is all there is to it."""
    if '"' in text or "\0" in text or "," not in text:
        return False
    return "\r" not in text or text.count("\r") == text.count("\r\n")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    return name.strip().casefold()


def _fault(fault: str, column: str | None, row: int | None = None) -> RequestError:
    place = [] if row is None else [f"row {row + 1}"]
    place += [] if column is None else [f"column {column!r}"]
    return RequestError(f"{', '.join(place)}: {fault}" if place else fault, column=column, row=row)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
