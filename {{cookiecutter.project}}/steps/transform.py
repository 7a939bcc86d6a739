"""The transformation from raw columns to what XGBoost takes, and of the target: plain data, stored as JSON.

Preprocess fits it on the training part, train.py puts it into model.tar.gz, inference.py applies it to every request.

| kind     | raw values                   | what XGBoost gets                                                         |
|----------|------------------------------|---------------------------------------------------------------------------|
| number   | numbers, or text that is one | the number, within +-1e38 (an infinite one too); missing is NaN           |
| boolean  | true, false, 1, 0            | 1, 0; missing is NaN                                                      |
| category | text (other values as text)  | its position in `categories`; a rarer or unseen one: the position after   |
|          |                              | the last if training saw rarer ones, else NaN; missing is NaN             |
| date     | ISO 8601, or text in `format`| <name>.year .month .day .weekday (Monday is 0) .hour and .age_days, which |
|          |                              | counts back from `reference`, the newest of the training part; all in UTC |
| empty    | anything                     | NaN: training saw no value                                                |

Values are the same whether they come as text or as what they are, in columns (`features`) or row by row
(`features_of_rows`). Blanks around a text never count.

Number   [+-] digits [. digits] [e [+-] digits], or inf, infinity, nan in any case: what pyarrow's parser takes. No
         thousands separators, no decimal comma.
Missing  null, NaN, an empty text, a word of MISSING or of `missing`; in a column of numbers also any number that
         equals one of `missing`. XGBoost learns in every split which way missing values go: it needs no imputation.
Text     true, True and TRUE are one value, so are 5, 5.0 and "5"; "05" and "1.50" stay as they are written.
Date     2026-11-21, or with a time 2026-11-21T08:30[:00[.123]][Z|+01:00]; without a zone it is UTC.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# XGBoost splits by sets of categories; a column with more distinct values is usually an identifier.
MAX_CATEGORIES = 255
# XGBoost computes with float32, where what is beyond 3.4e38 would be infinite, and refuses infinite values.
LARGEST = 1e38
# The words that pandas.read_csv takes for a missing value by default, in data files and in requests alike.
MISSING = frozenset(
    [
        *("", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "<NA>", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    ]
)
BLANKS = " \t\n\r\v\f\u00a0"
NUMBER = r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf(?:inity)?|nan(?:\([a-z0-9_]*\))?))"
DATE = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
WHOLE_NUMBER = r"([+-]?[0-9]+)\.0*"
DATE_PARTS = ("year", "month", "day", "weekday", "hour", "age_days")
XGBOOST_TYPES = {"number": "q", "boolean": "i", "category": "c", "date": "q", "empty": "q"}

Value = str | int | float | bool | None
Values: TypeAlias = pa.Array | pa.ChunkedArray

_NUMBER, _DATE, _WHOLE_NUMBER = re.compile(NUMBER), re.compile(DATE), re.compile(WHOLE_NUMBER)
_BOOLEANS = {"false": 0.0, "true": 1.0, "0": 0.0, "1": 1.0}
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_DAY = 86_400_000_000  # microseconds
_FIRST_INSTANT, _LAST_INSTANT = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 to 9999
NO_INSTANT = np.iinfo(np.int64).min  # numpy's own mark of a missing time (NaT)


class ColumnError(ValueError):
    """A column or a value that the transformation cannot take.

    fault: what is wrong, without the place. column: its name. row: the row's number, from 0, when one row is at fault.
    """

    def __init__(self, fault: str, column: str | None = None, row: int | None = None) -> None:
        super().__init__(fault if column is None else f"column {column!r}: {fault}")
        self.fault, self.column, self.row = fault, column, row


class ValueFault(ValueError):
    """A single value's fault, before its column is known. row: its number, from 0, or None for the whole column."""

    def __init__(self, fault: str, row: int | None = None) -> None:
        super().__init__(fault)
        self.fault, self.row = fault, row


@dataclass(frozen=True)
class Missing:
    """What counts as a missing value: texts as they are written, texts as `as_text` writes them, and numbers."""

    words: frozenset[str]
    texts: frozenset[str]
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, further: list[str]) -> Missing:
        """MISSING and the `further` words of settings.yaml."""
        texts = MISSING | {as_text(word) for word in further}
        words = texts | {word.strip(BLANKS) for word in further}
        words |= {form for word in texts if word in ("true", "false") for form in (word.title(), word.upper())}
        numbers = {_parse_number(word.strip(BLANKS)) for word in further if _NUMBER.fullmatch(word.strip(BLANKS))}
        return cls(frozenset(words), frozenset(texts), tuple(sorted(number for number in numbers if number == number)))


@dataclass(frozen=True)
class Column:
    """One raw column, as training saw it; the module's text says what each kind becomes.

    categories: sorted, at most MAX_CATEGORIES. other: whether training saw rarer ones. format: of dates that are not
    ISO 8601, as datetime.strptime takes it. parts: those of DATE_PARTS that become features. reference: the instant
    that age_days counts back from, ISO 8601 in UTC.
    """

    name: str
    kind: str
    categories: list[str] = field(default_factory=list)
    other: bool = False
    format: str | None = None
    parts: list[str] = field(default_factory=list)
    reference: str | None = None

    @property
    def feature_names(self) -> list[str]:
        return [f"{self.name}.{part}" for part in self.parts] if self.kind == "date" else [self.name]

    @cached_property
    def codes(self) -> dict[str, float]:
        return {category: float(code) for code, category in enumerate(self.categories)}

    @cached_property
    def reference_instant(self) -> int:
        return parse_date(self.reference or "", None)


@dataclass(frozen=True)
class Transform:
    """classes: the labels in the order of the model's outputs; empty for regression. class_rows: training rows of each.

    missing: words that mean a missing value, besides MISSING. split: how the rows were split, to compare versions.
    """

    problem_type: str
    target: str
    classes: list[Any]
    columns: list[Column]
    class_rows: list[int] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    split: dict[str, Any] = field(default_factory=dict)

    def features(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """The columns of `table` as XGBoost takes them: shape (rows, features), float32, missing as NaN.

        Further columns of `table` are left alone. Raises ColumnError naming the column that is missing, or the column
        and the row that are wrong.
        """
        encoded = np.empty((table.num_rows, len(self.feature_names)), dtype=np.float32)
        for position, values in enumerate(self.feature_columns(table)):
            encoded[:, position] = values
        return encoded

    def feature_columns(self, table: pa.Table | pa.RecordBatch) -> list[np.ndarray]:
        """As `features`, one array of shape (rows,) for each feature."""
        self._check_names(table.schema.names)
        encoded: list[np.ndarray] = []
        for column in self.columns:
            try:
                encoded += _ENCODERS[column.kind](table.column(column.name), column, self._missing)
            except ValueFault as fault:
                raise ColumnError(fault.fault, column.name, fault.row) from None
        return [to_float32(values) for values in encoded]

    def features_of_rows(self, rows: list[list[Value]], names: list[str]) -> np.ndarray:
        """The same as `features` in plain Python, for a few rows, where Arrow costs more than it saves.

        rows: the values of each row in the order of `names`. Raises ColumnError as `features` does.
        """
        self._check_names(names)
        positions = {name: position for position, name in enumerate(names)}
        encoded: list[list[float]] = []
        for column in self.columns:
            position, parse = positions[column.name], _PARSERS[column.kind]
            values: list[Any] = []
            for number, row in enumerate(rows):
                try:
                    values.append(parse(row[position], column, self._missing))
                except ValueFault as fault:
                    raise ColumnError(fault.fault, column.name, number) from None
            if column.kind == "date":
                encoded += [part.tolist() for part in _date_parts(np.array(values, dtype=np.int64), column)]
            else:
                encoded.append(values)
        if not rows:
            return np.empty((0, len(self.feature_names)), dtype=np.float32)
        return np.ascontiguousarray(to_float32(np.array(encoded, dtype=np.float64)).T)

    def labels(self, column: Values) -> np.ndarray:
        """The target as XGBoost takes it: shape (rows,), float32; for classification the positions in `classes`.

        Raises ColumnError when a row has no label, its label is none of the classes, or its number is beyond +-1e38.
        """
        try:
            return self._regression_labels(column) if not self.classes else self._class_labels(column)
        except ValueFault as fault:
            raise ColumnError(fault.fault, self.target, fault.row) from None

    @property
    def column_names(self) -> list[str]:
        """The raw columns that a request must hold, in the order in which values without names are taken."""
        return [column.name for column in self.columns]

    @cached_property
    def feature_names(self) -> list[str]:
        return [name for column in self.columns for name in column.feature_names]

    @property
    def feature_types(self) -> list[str]:
        """What each feature is to XGBoost: "q" a quantity, "i" an indicator, "c" a category."""
        return [XGBOOST_TYPES[column.kind] for column in self.columns for _ in column.feature_names]

    @property
    def sources(self) -> list[str]:
        """The name of the raw column of each feature."""
        return [column.name for column in self.columns for _ in column.feature_names]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Transform:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**stored, "columns": [Column(**column) for column in stored["columns"]]})

    @cached_property
    def _missing(self) -> Missing:
        return Missing.of(self.missing)

    def _check_names(self, names: list[str]) -> None:
        given = set(names)
        missing = [column.name for column in self.columns if column.name not in given]
        if missing:
            raise ColumnError(f"columns are missing: {', '.join(missing)}")
        for name in self.column_names if len(given) < len(names) else ():
            if names.count(name) > 1:
                raise ColumnError("is there more than once", name)

    def _regression_labels(self, column: Values) -> np.ndarray:
        labels = numbers(column, self._missing)
        beyond = ~(np.abs(labels) <= LARGEST)
        if beyond.any():
            row = int(beyond.argmax())
            missing = np.isnan(labels[row])
            raise ValueFault(
                "has no value" if missing else f"holds {labels[row]:g}: it must lie within +-{LARGEST:g}", row
            )
        return labels.astype(np.float32)

    def _class_labels(self, column: Values) -> np.ndarray:
        if all(isinstance(label, bool) for label in self.classes):
            values: list[Any] = self.classes
            found = booleans(column, self._missing)
        elif all(isinstance(label, int | float) for label in self.classes):
            values, found = self.classes, numbers(column, self._missing)
        else:
            values, found = list(range(len(self.classes))), _positions(column, self.classes, self._missing)
        order = np.argsort(np.array(values, dtype=np.float64))
        known = np.array(values, dtype=np.float64)[order]
        nearest = np.minimum(np.searchsorted(known, found), len(known) - 1)
        wrong = known[nearest] != found
        if wrong.any():
            row = int(wrong.argmax())
            value = column[row].as_py()
            shown = ", ".join(map(str, self.classes[:10])) + (", ..." if len(self.classes) > 10 else "")
            raise ValueFault(f"holds {value!r:.80}, which is none of the classes {shown}", row)
        return order[nearest].astype(np.float32)


def to_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as XGBoost takes them: what is beyond +-LARGEST is cut to it, so the order is kept."""
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def as_text(value: Any) -> str:
    """One way to write a value: true and True, 5 and 5.0 are the same label or category."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating):
        whole = abs(float(value)) < 1e16 and float(value).is_integer()
        return str(int(value)) if whole else str(value)
    if not isinstance(value, str):
        return value.isoformat() if isinstance(value, date) else as_text(str(value))
    text = value.strip(BLANKS)
    if text in ("True", "False", "TRUE", "FALSE"):
        return text.lower()
    match = _WHOLE_NUMBER.fullmatch(text)
    text = match.group(1) if match else text
    return "0" if text == "-0" else text


def numbers(values: Values, missing: Missing) -> np.ndarray:
    """The values as float64, shape (rows,); missing is NaN. Raises ValueError for what is no number."""
    values = _plain(values)
    kind = values.type
    if values.null_count == len(values):
        return np.full(len(values), np.nan)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        # float64 holds NaN where Arrow holds null
        found = values.to_numpy(zero_copy_only=False).astype(np.float64)
    elif pa.types.is_decimal(kind):
        found = values.cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    elif is_text(kind):
        found = _numbers_of_texts(values, missing)
    else:
        raise _fault_of_type(values, "a number")
    if missing.numbers:
        found = np.where(np.isin(found, missing.numbers), np.nan, found)
    return found


def texts(values: Values, missing: Missing) -> pa.Array:
    """The values as `as_text` writes them, in a string array; missing is null."""
    encoded = distinct(values)
    return texts_of_distinct(encoded.dictionary, missing).take(encoded.indices)


def texts_of_distinct(values: pa.Array, missing: Missing) -> pa.Array:
    """As `texts`, for an array in which hardly any value repeats."""
    if is_text(values.type):
        written = pc.utf8_trim(values.cast(pa.string()), characters=BLANKS)
        written = pc.replace_substring_regex(written, f"^{WHOLE_NUMBER}$", r"\1")
        for form, text in (("True", "true"), ("TRUE", "true"), ("False", "false"), ("FALSE", "false"), ("-0", "0")):
            written = pc.if_else(pc.equal(written, form), text, written)
    else:
        plain = values.to_numpy(zero_copy_only=False) if pa.types.is_floating(values.type) else values.to_pylist()
        absent = (value is None or value != value for value in plain)
        known = [None if is_absent else as_text(value) for value, is_absent in zip(plain, absent, strict=True)]
        written = pa.array(known, pa.string())
    return pc.if_else(pc.is_in(written, pa.array(sorted(missing.texts), pa.string())), None, written)


def booleans(values: Values, missing: Missing) -> np.ndarray:
    """1.0 for true, 0.0 for false, NaN for missing; shape (rows,). Raises ValueError for anything else."""
    written = texts(values, missing)
    positions = pc.index_in(written, pa.array(list(_BOOLEANS)))
    wrong = pc.and_(pc.is_null(positions), pc.is_valid(written))
    if pc.any(wrong).as_py():
        raise _fault_of_value(values, wrong, "true or false")
    return np.append(list(_BOOLEANS.values()), np.nan)[pc.fill_null(positions, len(_BOOLEANS)).to_numpy()]


def instants(values: Values, missing: Missing, format: str | None) -> np.ndarray:
    """The values as microseconds since 1970 in UTC, int64, shape (rows,); missing is NaT's number (int64's least).

    format: as datetime.strptime takes it, or None for ISO 8601. Raises ValueError for what is no such date, or lies
    outside of the years 1 to 9999.
    """
    values = _plain(values)
    if values.null_count == len(values) or (pa.types.is_floating(values.type) and pc.all(pc.is_nan(values)).as_py()):
        return np.full(len(values), NO_INSTANT)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s" if pa.types.is_date32(values.type) else "ms"))
    if pa.types.is_timestamp(values.type):
        return _instants_of_times(values)
    if is_text(values.type):
        return _instants_of_texts(values, missing, format)
    raise _fault_of_type(values, _date_wanted(format))


def parse_date(text: str, format: str | None) -> int:
    """One date as `instants` gives it. Raises ValueError when it is none."""
    if format is not None:
        moment = datetime.strptime(text, format)
        return _checked_instant(_microseconds(moment, moment.utcoffset() or timezone.utc.utcoffset(None)))
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction, zone = int(((match[7] or ".") + "000000")[1:7]), match[8] or "Z"
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2] or 0), int(digits[2:] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(text)
    offset = (hours * 60 + minutes) * 60_000_000 * (-1 if zone[0] == "-" else 1)
    moment = datetime(year, month, day, hour, minute, second, fraction)
    return _checked_instant(_microseconds(moment, None) - offset)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_nested(kind: pa.DataType) -> bool:
    """Whether values of the type are no single numbers, texts or times."""
    types = pa.types
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return types.is_nested(kind) or any(is_binary(kind) for is_binary in binary)


def _plain(values: Values) -> pa.Array:
    """One array, dictionaries resolved, of a type that Arrow's functions know."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_float16(values.type):
        return values.cast(pa.float32())
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


def distinct(values: Values) -> pa.DictionaryArray:
    """The values as positions among the distinct ones."""
    values = _plain(values)
    if is_nested(values.type):
        raise _fault_of_type(values, "a text")
    return values.dictionary_encode()


def _fault_of_type(values: Values, wanted: str) -> ValueFault:
    return ValueFault(f"must be {wanted}, but is of type {values.type}")


def _fault_of_value(values: Values, wrong: pa.Array, wanted: str) -> ValueFault:
    row = pc.index(wrong, True).as_py()
    return ValueFault(f"must be {wanted}, but is {_shown(_plain(values)[row].as_py())}", row)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!r:.80}"


def _date_wanted(format: str | None) -> str:
    return "a date in ISO 8601 (2026-11-21 or 2026-11-21T08:30:00Z)" if format is None else f"a date like {format}"


def _numbers_of_texts(values: pa.Array, missing: Missing) -> np.ndarray:
    trimmed = pc.utf8_trim(values.cast(pa.string()), characters=BLANKS)
    trimmed = pc.if_else(pc.is_in(trimmed, pa.array(sorted(missing.words), pa.string())), None, trimmed)
    try:
        return trimmed.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        wrong = pc.invert(pc.match_substring_regex(trimmed, f"^(?:{NUMBER})$"))
        raise _fault_of_value(values, wrong, "a number") from None


def _positions(values: Values, known: list[Any], missing: Missing) -> np.ndarray:
    """Where each value's text is among the known ones' texts; NaN when it is not. Shape (rows,), float64."""
    found = pc.index_in(texts(values, missing), pa.array([as_text(value) for value in known], pa.string()))
    return found.to_numpy(zero_copy_only=False).astype(np.float64)


def _instants_of_times(values: pa.Array) -> np.ndarray:
    microseconds = _MICROSECONDS[values.type.unit]
    present = values.is_valid().to_numpy(zero_copy_only=False)
    found = pc.fill_null(values.cast(pa.int64()), 0).to_numpy()
    beyond = present & ((found < _FIRST_INSTANT / microseconds) | (found > _LAST_INSTANT / microseconds))
    if beyond.any():
        raise ValueFault("must lie within the years 1 to 9999", int(beyond.argmax()))
    found = found // 1000 if values.type.unit == "ns" else found * int(microseconds)
    return np.where(present, found, NO_INSTANT)


def _instants_of_texts(values: pa.Array, missing: Missing, format: str | None) -> np.ndarray:
    trimmed = pc.utf8_trim(values.cast(pa.string()), characters=BLANKS)
    trimmed = pc.if_else(pc.is_in(trimmed, pa.array(sorted(missing.words), pa.string())), None, trimmed)
    if format is None:
        found = _iso_instants(trimmed)
        if found is not None:
            return found
    encoded = trimmed.dictionary_encode()
    parsed = np.full(len(encoded.dictionary) + 1, NO_INSTANT)
    for position, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            parsed[position] = parse_date(text, format)
        except ValueError:
            raise _fault_of_value(values, pc.equal(trimmed, text), _date_wanted(format)) from None
    return parsed[pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy()]


def _iso_instants(trimmed: pa.Array) -> np.ndarray | None:
    """As parse_date, by Arrow; None when a text is no date, or Arrow does not take one that may be."""
    whole = pc.match_substring_regex(trimmed, f"^(?:{DATE})$")
    if not pc.all(whole, min_count=0).as_py() or pc.any(pc.starts_with(trimmed, "0000")).as_py():
        return None
    days_only = pc.equal(pc.utf8_length(trimmed), 10)
    zoned = pc.match_substring_regex(trimmed, r"(?:Z|[T ].*[+-][0-9:]+)$")
    suffix = pc.if_else(days_only, "T00:00Z", pc.if_else(zoned, "", "Z"))
    complete = pc.binary_join_element_wise(trimmed, suffix, "")
    complete = pc.replace_substring_regex(complete, r"(\.[0-9]{6})[0-9]+", r"\1")
    try:
        found = complete.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    found = pc.fill_null(found, NO_INSTANT).to_numpy()
    present = found != NO_INSTANT
    if (present & ((found < _FIRST_INSTANT) | (found > _LAST_INSTANT))).any():
        return None
    return found


def _microseconds(moment: datetime, offset: Any) -> int:
    days = moment.toordinal() - 719_163  # the ordinal of 1970-01-01
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    within = seconds * 1_000_000 + moment.microsecond
    ahead = 0 if offset is None else round(offset.total_seconds() * 1e6)
    return days * _DAY + within - ahead


def _checked_instant(instant: int) -> int:
    if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
        raise ValueError("outside of the years 1 to 9999")
    return instant


def _date_parts(found: np.ndarray, column: Column) -> list[np.ndarray]:
    """The instants' `parts`, each of shape (rows,), float64."""
    absent = found == NO_INSTANT
    found = np.where(absent, 0, found)
    days = found // _DAY
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    parts = {
        "year": dates.astype("datetime64[Y]").astype(np.int64) + 1970,
        "month": months.astype(np.int64) % 12 + 1,
        "day": (dates - months).astype(np.int64) + 1,
        "weekday": (days + 3) % 7,  # 1970-01-01 was a Thursday
        "hour": found % _DAY // 3_600_000_000,
        "age_days": (column.reference_instant - found) / _DAY,
    }
    return [np.where(absent, np.nan, parts[part]) for part in column.parts]


def _encode_number(values: Values, column: Column, missing: Missing) -> list[np.ndarray]:
    return [numbers(values, missing)]


def _encode_boolean(values: Values, column: Column, missing: Missing) -> list[np.ndarray]:
    return [booleans(values, missing)]


def _encode_category(values: Values, column: Column, missing: Missing) -> list[np.ndarray]:
    encoded = distinct(values)
    written = texts_of_distinct(encoded.dictionary, missing)
    codes = _positions(written, column.categories, missing)
    if column.other:
        unknown = np.isnan(codes) & written.is_valid().to_numpy(zero_copy_only=False)
        codes[unknown] = len(column.categories)
    return [np.append(codes, np.nan)[pc.fill_null(encoded.indices, len(codes)).to_numpy()]]


def _encode_date(values: Values, column: Column, missing: Missing) -> list[np.ndarray]:
    return _date_parts(instants(values, missing, column.format), column)


def _encode_empty(values: Values, column: Column, missing: Missing) -> list[np.ndarray]:
    return [np.full(len(values), np.nan)]


def _parse_number(text: str) -> float:
    """A text that NUMBER matches."""
    return math.nan if "nan" in text.lower() else float(text)


def _number_of(value: Value, column: Column, missing: Missing) -> float:
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if _NUMBER.fullmatch(text):
            number = _parse_number(text)
        elif text in missing.words:
            return math.nan
        else:
            raise ValueFault(f"must be a number, but is {_shown(value)}")
    elif value is None:
        return math.nan
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueFault(f"must be a number, but is {_shown(value)}")
    else:
        try:
            number = float(value)
        except OverflowError:  # an int of more than 308 digits
            number = math.inf if value > 0 else -math.inf
    return math.nan if number in missing.numbers else number


def _text_of(value: Value, missing: Missing) -> str | None:
    """As `texts`, for one value."""
    if value is None or value != value:
        return None
    text = as_text(value)
    return None if text in missing.texts else text


def _boolean_of(value: Value, column: Column, missing: Missing) -> float:
    text = _text_of(value, missing)
    if text is None:
        return math.nan
    if text not in _BOOLEANS:
        raise ValueFault(f"must be true or false, but is {_shown(value)}")
    return _BOOLEANS[text]


def _category_of(value: Value, column: Column, missing: Missing) -> float:
    text = _text_of(value, missing)
    if text is None:
        return math.nan
    return column.codes.get(text, len(column.categories) if column.other else math.nan)


def _instant_of(value: Value, column: Column, missing: Missing) -> int:
    if value is None or value != value:
        return NO_INSTANT
    text = value.strip(BLANKS) if isinstance(value, str) else ""
    try:
        return NO_INSTANT if isinstance(value, str) and text in missing.words else parse_date(text, column.format)
    except ValueError:
        raise ValueFault(f"must be {_date_wanted(column.format)}, but is {_shown(value)}") from None


def _nothing_of(value: Value, column: Column, missing: Missing) -> float:
    return math.nan


_ENCODERS: dict[str, Callable[[Values, Column, Missing], list[np.ndarray]]] = {
    "number": _encode_number,
    "boolean": _encode_boolean,
    "category": _encode_category,
    "date": _encode_date,
    "empty": _encode_empty,
}
_PARSERS: dict[str, Callable[[Value, Column, Missing], Any]] = {
    "number": _number_of,
    "boolean": _boolean_of,
    "category": _category_of,
    "date": _instant_of,
    "empty": _nothing_of,
}
