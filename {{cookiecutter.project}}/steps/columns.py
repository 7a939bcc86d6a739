"""What a raw column is, decided from all of its values, and its values decoded as that.

number    every value is a number, none with leading zeros (00123 is a postal code or the like, not a number)
boolean   every value is true or false
date      every value is an ISO 8601 date or time
category  everything else: text, and mixed values
empty     no value so far

data.columns in settings.yaml overrides it; then every value must be of that kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import transform
from split import hash_instants, hash_numbers, hash_values, mix, salt_of
from transform import DATE, NUMBER, Missing, ValueFault, is_nested, is_text

LEADING_ZEROS = r"^0[0-9]"
MAX_STRANGERS = 10  # distinct texts among numbers; where there are more, the numbers are codes like the texts
# What texts that are no numbers may look like, and what to do then.
LOOKS = (
    (
        r"[+-]?(?:[0-9]{1,3}(?:[., '\u2019][0-9]{3})+(?:[.,][0-9]+)?|[0-9]+[.,][0-9]+)",
        "numbers with a decimal comma or thousands separators: set data.csv.decimal, or write them as 1234.5",
    ),
    (
        r"(?:[0-9]{4}([./-])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([./-])[0-9]{1,2}\2(?:[0-9]{4}|[0-9]{2}))(?:[T ].*)?",
        "dates: set kind date and their format for it under data.columns",
    ),
)


@dataclass(frozen=True)
class Decoded:
    """The values of one column in one piece. present: which rows have a value, shape (rows,), bool.

    numbers: float64 (kind number). instants: int64 microseconds (kind date). texts, codes: the distinct values and
    each row's position among them (kinds boolean and category).
    """

    kind: str
    present: np.ndarray
    numbers: np.ndarray | None = None
    instants: np.ndarray | None = None
    texts: pa.Array | None = None
    codes: np.ndarray | None = None

    def hashes(self, name: str) -> np.ndarray:
        """A number per row that says what its value in the column `name` is; 0 where it is missing. uint64."""
        if self.numbers is not None:
            hashes = hash_numbers(self.numbers)
        elif self.instants is not None:
            hashes = hash_instants(self.instants)
        elif self.texts is not None and len(self.texts):
            hashes = hash_values(pc.fill_null(self.texts, ""))[self.codes]
        else:
            return np.zeros(len(self.present), dtype=np.uint64)
        return np.where(self.present, mix(hashes ^ salt_of(name)), np.uint64(0))


def join(one: str, other: str) -> str:
    """The kind of a column whose parts are of these kinds."""
    if one == other or other == "empty":
        return one
    return other if one == "empty" else "category"


def decode(values: pa.Array, missing: Missing, expected: str) -> Decoded:
    """The values as what they are together with what was seen before (`expected`, "empty" for nothing).

    When that is another kind than `expected`, only the kind is told. Raises ValueFault for a type that is none of them.
    """
    found = expected if expected == "category" else _kind_found(values, missing)
    kind = join(expected, found)
    if is_nested(values.type) or _kind_of_type(values.type) is None:
        raise ValueFault(f"is of type {values.type}: turn it into text or numbers, or list it under data.ignore")
    if kind != expected:
        return Decoded(kind, np.zeros(len(values), dtype=bool))
    return decode_as(values, missing, kind, None)


def decode_as(values: pa.Array, missing: Missing, kind: str, format: str | None) -> Decoded:
    """The values as a given kind. Raises ValueFault, with the row, for a value that is not of that kind."""
    if kind == "number":
        numbers = transform.numbers(values, missing)
        return Decoded(kind, ~np.isnan(numbers), numbers=numbers)
    if kind == "date":
        instants = transform.instants(values, missing, format)
        return Decoded(kind, instants != transform.NO_INSTANT, instants=instants)
    if kind == "empty":
        return Decoded(kind, np.zeros(len(values), dtype=bool))
    if kind == "boolean":
        transform.booleans(values, missing)
    encoded = transform.distinct(values)
    texts = transform.texts_of_distinct(encoded.dictionary, missing)
    known = np.append(texts.is_valid().to_numpy(zero_copy_only=False), False)
    codes = pc.fill_null(encoded.indices, len(texts)).to_numpy()
    present = known[codes]
    return Decoded(kind, present, texts=texts, codes=np.where(present, codes, 0))


def _kind_of_type(kind: pa.DataType) -> str | None:
    if pa.types.is_dictionary(kind):
        return _kind_of_type(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "date"
    if pa.types.is_null(kind):
        return "empty"
    return "text" if is_text(kind) else None


def _kind_found(values: pa.Array, missing: Missing) -> str:
    kind = _kind_of_type(values.type)
    if kind != "text":
        absent = values.null_count == len(values)
        if kind == "number" and not absent:
            absent = bool(np.isnan(transform.numbers(values, missing)).all())
        return "empty" if absent or kind is None else kind
    texts = pc.drop_null(transform.texts_of_distinct(transform.distinct(values).dictionary, missing))
    if not len(texts):
        return "empty"
    if pc.all(pc.is_in(texts, pa.array(["true", "false"]))).as_py():
        return "boolean"
    if _all_match(texts, NUMBER):
        return "category" if pc.any(pc.match_substring_regex(texts, LEADING_ZEROS)).as_py() else "number"
    if _all_match(texts, DATE):
        try:
            transform.instants(texts, missing, None)
            return "date"
        except ValueFault:
            return "category"
    return "category"


def _all_match(texts: pa.Array, pattern: str) -> bool:
    # the first value alone tells for most columns
    first = texts[:1]
    return all(bool(pc.all(pc.match_substring_regex(part, f"^(?:{pattern})$")).as_py()) for part in (first, texts))


def other_look(texts: dict[str, int]) -> str | None:
    """What a column of categories may be instead, and what to do then, in words; None when nothing speaks for it.

    texts: how many rows hold each of its values.
    """
    number = re.compile(NUMBER)
    strangers = {text: rows for text, rows in texts.items() if not number.fullmatch(text)}
    rows_of_strangers = sum(strangers.values())
    for look, remedy in LOOKS:
        if sum(rows for text, rows in strangers.items() if re.fullmatch(look, text)) > rows_of_strangers / 2:
            return remedy
    are_few = 0 < len(strangers) <= MAX_STRANGERS and rows_of_strangers < sum(texts.values()) / 2
    if not are_few or any(re.match(LEADING_ZEROS, text) for text in texts):
        return None
    shown = ", ".join(map(repr, sorted(strangers)))
    return f"numbers, but for {shown:.200}: if such a text means a missing value, add it to data.missing"


def plain_label(text: str, kind: str) -> Any:
    """A class's label as JSON can write it. kind: of the target column."""
    if kind == "boolean":
        return text == "true"
    if kind == "number":
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 1e16 else number
    return text
