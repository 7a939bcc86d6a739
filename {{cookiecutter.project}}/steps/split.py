"""Which rows train, which validate, which test: by a hash, or by time.

By a hash, a row's side depends on that row alone, never on the rows around it: adding, removing or reordering rows
moves no other row to another side, and equal rows are always together. So no row is once trained on and once tested on.
By time, newer rows push older ones from the test part into training, as they do in life.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from tables import DataError


def split_by_hash(table: pd.DataFrame, columns: list[str], validation: float, test: float) -> np.ndarray:
    """The side of every row, by a hash of its values in `columns`.

    validation, test: the wanted shares of rows, 0..1. Returns "train", "validation" or "test" per row, shape (rows,).
    """
    position = row_positions(table, columns)
    # test first: changing the share of validation moves no row into or out of test
    return np.select([position < test, position < test + validation], ["test", "validation"], default="train")


def row_positions(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """A number in [0, 1) per row, shape (rows,), float64: the sha256 of the row's values in `columns`.

    The order of columns and of rows does not matter, nor the type which a column happened to be read with:
    5, 5.0 and "5" are one value.
    """
    tokens = np.column_stack([_tokens(table[name]) for name in sorted(columns)])
    words = (int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big") >> 11 for row in tokens)
    return np.fromiter(words, dtype=np.uint64, count=len(tokens)) / float(1 << 53)


def split_by_time(times: pd.Series, validation: float, test: float) -> np.ndarray:
    """The side of every row by its time: the newest share is "test", the next older "validation", the rest "train".

    times: numbers, timestamps, or ISO 8601 text. Rows of one instant stay together, on the newer side.
    Raises DataError when a row has no time or text that is not a time.
    """
    instants = _instants(times)
    oldest_first = instants.sort_values(kind="stable").to_numpy()
    rows = len(instants)
    test_from = oldest_first[min(int(rows * (1 - test)), rows - 1)]
    validation_from = oldest_first[min(int(rows * (1 - test - validation)), rows - 1)]
    values = instants.to_numpy()
    return np.select([values >= test_from, values >= validation_from], ["test", "validation"], default="train")


def _instants(times: pd.Series) -> pd.Series:
    if times.isna().any():
        raise DataError(
            f"{int(times.isna().sum())} rows have no value in the time column {times.name!r}: fill it, or drop them"
        )
    if pd.api.types.is_numeric_dtype(times) or pd.api.types.is_datetime64_any_dtype(times):
        return times
    instants = pd.to_datetime(times, utc=True, errors="coerce", format="ISO8601")
    if instants.isna().any():
        example = times[instants.isna()].iloc[0]
        raise DataError(
            f"the time column {times.name!r} holds {example!r}, which is no time: "
            "write ISO 8601 (2026-11-21 or 2026-11-21T08:30:00Z) or numbers"
        )
    return instants


def _tokens(column: pd.Series) -> np.ndarray:
    """Eight bytes per value that say what it is, whatever the column's type: numbers by value, text by its hash."""
    if pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
        return column.map({True: _text_token("true"), False: _text_token("false")}).to_numpy(np.uint64)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return _number_tokens(column.to_numpy(np.float64, na_value=np.nan))
    codes, values = pd.factorize(column, use_na_sentinel=False)
    return np.fromiter((_value_token(value) for value in values), np.uint64, len(values))[codes]


def _number_tokens(numbers: np.ndarray) -> np.ndarray:
    one_kind = np.where(np.isnan(numbers), np.nan, numbers + 0.0)  # one NaN of the many; -0.0 becomes 0.0
    return np.ascontiguousarray(one_kind, dtype=np.float64).view(np.uint64)


def _value_token(value: object) -> int:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return int(_number_tokens(np.array([np.nan]))[0])
    text = str(value).strip()
    if isinstance(value, (bool, np.bool_)) or text.lower() in ("true", "false"):
        return _text_token(text.lower())
    try:
        return int(_number_tokens(np.array([float(text)]))[0])
    except ValueError:
        return _text_token(text)


def _text_token(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
