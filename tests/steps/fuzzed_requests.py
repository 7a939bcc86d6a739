"""Requests to an endpoint, right ones and spoilt ones in every content type, and what they must be answered.

The expected answer is found without the code under test's own reader: the body is read by Python's csv and json or by
pyarrow into a table of texts, and training's own transformation makes the features of it.
"""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transform import ColumnError, Transform

CONTENT_TYPES = ("text/csv", "application/json", "application/x-ndjson", "application/x-parquet")
FORMS = {
    "text/csv": ("header", "no header"),
    "application/json": ("instances", "records", "columns", "lists", "one"),
    "application/x-ndjson": ("objects", "lists"),
    "application/x-parquet": ("table",),
}
NUMBERS: list[Any] = [42, 0, -3.5, 1e9, 0.1, "17", "-999", "unknown", None, "NaN", "1e-3", 10**18]
CATEGORIES: list[Any] = [
    "Ulm",
    "Köln",
    "5",
    "true",
    "never seen",
    "New York, NY",
    'say "hi"',
    "",
    None,
    "unknown",
    "=1",
]
BOOLEANS: list[Any] = [True, False, "true", "0", 1, None, ""]
DATES: list[Any] = ["2026-11-21", "2026-11-20T08:30:00Z", "1999-12-31T23:59:59+02:00", None, ""]
DAYS: list[Any] = ["31/12/2025", "01/01/1970", None, ""]
VALUES = {"number": NUMBERS, "category": CATEGORIES, "boolean": BOOLEANS, "empty": [None, ""]}
# Bytes and pieces that readers stumble over.
PIECES = [
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b'"',
        b"'",
        b",",
        b";",
        b"\n",
        b"\r",
        b"\t",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(b":", b"\\", b"\\u0000", b"1e999", b"-", b"NaN", b"null", b"true", b"../../etc/passwd", b"{{7*7}}", b"${HOME}"),
    *(b"<script>", b"%s%n", b"\xf0\x9f\x92\xa9", b"\xed\xa0\x80", b"9" * 400, b" " * 100, b"PAR1", b"age"),
]


@dataclass(frozen=True)
class Request:
    """A body in one of the content types.

    Args:
        content_type: with parameters.
        kind: how it was made, such as "right" or "bytes flipped".
    """

    body: bytes
    content_type: str
    kind: str


class Unreadable(ValueError):
    """The body holds no rows that a careful reader would take."""


def make(transform: Transform, chance: random.Random) -> Request:
    """One request: every third is right, the others are spoilt in one of several ways."""
    content_type = chance.choice(CONTENT_TYPES)
    form = chance.choice(FORMS[content_type])
    names = list(transform.column_names)
    rows = [_row(transform, chance) for _ in range(chance.choice([1, 1, 2, 3, 7, 40]))]
    spoil = chance.choice([None, None, None, *_SPOILS])
    if spoil == "a short row" and content_type == "application/x-parquet":
        spoil = None  # a table has none
    if spoil in _OF_NAMES:
        form = FORMS[content_type][0]  # one in which columns have names
        names = _OF_NAMES[spoil](names, chance)
        rows = [[*row, "more"][: len(names)] for row in rows]
    elif spoil in _OF_ROWS:
        rows = _OF_ROWS[spoil](rows, chance)
    elif spoil is None or spoil == "columns in another order":
        order = list(range(len(names)))
        if form in ("header", "instances", "records", "columns", "one", "objects", "table"):
            chance.shuffle(order)
        names, rows = [names[at] for at in order], [[row[at] for at in order] for row in rows]
    body, content_type = _written(names, rows, content_type, form)
    if spoil in _OF_BYTES:
        body = _OF_BYTES[spoil](body, chance)
    if spoil == "another content type":
        content_type = chance.choice(
            [*CONTENT_TYPES, "image/png", "text/csv; header=present", "application/json; charset=latin-1"]
        )
    return Request(body, content_type, spoil or "right")


def rows_of(request: Request, transform: Transform) -> pa.Table:
    """The request's rows as a table of texts, in the model's order of columns.

    Raises:
        Unreadable: there are none, or not all columns, or a value that is none.
    """
    names = list(transform.column_names)
    try:
        given, rows = _read(request, names)
    except (ValueError, csv.Error, pa.ArrowException, OSError, RecursionError) as error:
        raise Unreadable(str(error)) from error
    if not rows or not set(names) <= set(given):
        raise Unreadable("no rows, or columns are missing")
    columns = [[row[given.index(name)] for row in rows] for name in names]
    if any(isinstance(value, list | dict | bytes) for column in columns for value in column):
        raise Unreadable("a value that is none")
    texts = [pa.array([None if value is None else str(value) for value in column], pa.string()) for column in columns]
    return pa.table(texts, names)


def expected(request: Request, transform: Transform) -> np.ndarray | None:
    """The features of the request's rows, shape (rows, features); None when it must be refused."""
    try:
        return transform.features(rows_of(request, transform))
    except (Unreadable, ColumnError, UnicodeError):
        return None


def _row(transform: Transform, chance: random.Random) -> list[Any]:
    return [
        chance.choice(VALUES.get(column.kind) or (DAYS if column.format else DATES)) for column in transform.columns
    ]


def _written(names: list[str], rows: list[list[Any]], content_type: str, form: str) -> tuple[bytes, str]:
    records = [dict(zip(names, row, strict=False)) for row in rows]
    if content_type == "text/csv":
        stream = io.StringIO()
        lines = [names, *rows] if form == "header" else rows
        csv.writer(stream).writerows([["" if value is None else value for value in line] for line in lines])
        said = f"text/csv; header={'present' if form == 'header' else 'absent'}"
        return stream.getvalue().encode(), said
    if content_type == "application/x-parquet":
        texts = [[None if value is None else str(value) for value in column] for column in zip(*rows, strict=True)]
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_arrays([pa.array(column, pa.string()) for column in texts], names), buffer)
        return buffer.getvalue().to_pybytes(), content_type
    if content_type == "application/x-ndjson":
        return "\n".join(json.dumps(row) for row in (records if form == "objects" else rows)).encode(), content_type
    shapes: dict[str, Any] = {
        "instances": {"instances": records},
        "records": records,
        "columns": {"columns": names, "data": rows},
        "lists": [{"features": row} for row in rows],
        "one": records[0],
    }
    return json.dumps(shapes[form]).encode(), content_type


def _read(request: Request, names: list[str]) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns that are given, and the rows' values."""
    kind, _, parameter = request.content_type.partition("; ")
    if kind == "application/x-parquet":
        table = pq.read_table(pa.BufferReader(request.body))
        return _distinct(table.column_names, names), [list(row.values()) for row in table.to_pylist()]
    if kind == "text/csv":
        return _read_csv(request.body, parameter, names)
    if kind == "application/json" and not parameter:
        return _read_json(json.loads(_utf8(request.body), object_pairs_hook=_once), names)
    if kind == "application/x-ndjson":
        lines = _utf8(request.body).rstrip("\r\n \t").split("\n")
        return _read_json([json.loads(line, object_pairs_hook=_once) for line in lines], names)
    raise Unreadable(request.content_type)


def _distinct(given: list[str], names: list[str]) -> list[str]:
    if any(given.count(name) > 1 for name in names):
        raise Unreadable("a column twice")
    return given


def _utf8(body: bytes) -> str:
    return body.decode("utf-8").removeprefix("\ufeff")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Unreadable("a name twice in an object")
    return dict(pairs)


def _read_csv(body: bytes, parameter: str, names: list[str]) -> tuple[list[str], list[list[Any]]]:
    text = _utf8(body).rstrip("\r\n")
    rows: list[list[Any]] = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not rows or any(not row for row in rows):
        raise Unreadable("an empty line")
    known = len({name.strip().casefold() for name in names} & {value.strip().casefold() for value in rows[0]})
    if not parameter and (known > 1 or 2 * known == len(names)) and 2 * known <= len(names):
        raise Unreadable("a header line or not?")
    has_header = parameter == "header=present" or (not parameter and 2 * known > len(names))
    given = rows.pop(0) if has_header else names
    if not rows:
        raise Unreadable("a header line alone")
    if any(len(row) != len(given) for row in rows):
        raise Unreadable("rows of several lengths")
    return _distinct(given, names), rows


def _read_json(parsed: Any, names: list[str]) -> tuple[list[str], list[list[Any]]]:
    if isinstance(parsed, dict) and isinstance(parsed.get("instances"), list):
        parsed = parsed["instances"]
    elif isinstance(parsed, dict) and isinstance(parsed.get("data"), list) and "columns" in parsed:
        given, rows = parsed["columns"], parsed["data"]
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise Unreadable("columns")
        return _lists(rows, given, names)
    elif isinstance(parsed, dict):
        parsed = [parsed]
    if not isinstance(parsed, list) or not parsed:
        raise Unreadable("no rows")
    if all(isinstance(row, dict) and list(row) == ["features"] and isinstance(row["features"], list) for row in parsed):
        parsed = [row["features"] for row in parsed]
    if all(isinstance(row, dict) for row in parsed):
        if any(not set(names) <= set(row) for row in parsed):
            raise Unreadable("a column is missing in a row")
        return names, [[row[name] for name in names] for row in parsed]
    return _lists(parsed, names, names)


def _lists(rows: list[Any], given: list[str], names: list[str]) -> tuple[list[str], list[list[Any]]]:
    if any(not isinstance(row, list) or len(row) != len(given) for row in rows):
        raise Unreadable("rows of several lengths")
    return _distinct(given, names), rows


def _misspelt(names: list[str], chance: random.Random) -> list[str]:
    misspelt = list(names)
    misspelt[chance.randrange(len(names))] += "x"
    return misspelt


def _twice(names: list[str], chance: random.Random) -> list[str]:
    doubled = list(names)
    doubled[chance.randrange(len(names))] = doubled[0]
    return doubled


def _bad_value(rows: list[list[Any]], chance: random.Random) -> list[list[Any]]:
    rows = [list(row) for row in rows]
    rows[chance.randrange(len(rows))][0] = chance.choice(["old", "4 2", "1,5", "0x10", "١٢", "--1", "1_000"])
    return rows


def _short_row(rows: list[list[Any]], chance: random.Random) -> list[list[Any]]:
    if len(rows) == 1:
        return [rows[0][:-1]]
    at = chance.randrange(len(rows))
    return [row[:-1] if number == at else row for number, row in enumerate(rows)]


def _flip(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _put_in(body: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(PIECES) + body[at:]


def _cut(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _noise(_body: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 10, 1000]))


def _nested(_body: bytes, chance: random.Random) -> bytes:
    depth = chance.choice([50, 5_000])
    return chance.choice([b"[", b'{"instances":']) * depth


_OF_NAMES = {
    "a name misspelt": _misspelt,
    "a name twice": _twice,
    "a column too many": lambda names, _chance: [*names, "further"],
}
_OF_ROWS = {"a value that is none": _bad_value, "a short row": _short_row}
_OF_BYTES = {"bytes flipped": _flip, "a piece put in": _put_in, "cut": _cut, "noise": _noise, "nested": _nested}
_SPOILS = (*_OF_NAMES, *_OF_ROWS, *_OF_BYTES, "another content type", "columns in another order")
