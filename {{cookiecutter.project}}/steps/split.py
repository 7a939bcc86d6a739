"""Which rows train, which validate, which test.

By a hash: a row's side depends on that row alone (or on its key alone), and on split.seed. Adding, removing or
reordering rows or columns moves no row to another side, nor does the type that a column was read with, nor whether it
came as CSV or Parquet; equal rows are always together. So no row is once trained on and once tested on.
By time: newer rows push older ones from the test part into training, as they do in life.
By files or a column: as the data's owner says.
"""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from files import DataError
from transform import DATE, MISSING, NUMBER, Missing, ValueFault, instants, numbers, texts, to_float32

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, DROPPED = 0, 1, 2, 255
LONG_TEXT = 1024  # bytes from which on a text is hashed alone
NOTHING_MISSING = Missing(frozenset(), frozenset(), ())
_NUMBER_SPACE, _DATE_SPACE = np.uint64(0x4E554D0000000000), np.uint64(0x4441544500000000)
_TEXT_SPACE = np.uint64(0x5445585400000000)


@dataclass(frozen=True)
class Split:
    """How the rows are split. by: files, column, time, key or hash.

    column: the one that decides (column, time or key). sides: of each file, by its name (files). bounds: the times from
    which on rows validate and test (time). format: of times that are not ISO 8601, as datetime.strptime takes it.
    """

    by: str
    validation: float
    test: float
    seed: int
    column: str | None = None
    sides: dict[str, int] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    format: str | None = None

    def description(self, features: list[str]) -> dict[str, Any]:
        """What decides on a row's side, as plain data: two versions that have the same split the same rows alike."""
        shares = {"validation": self.validation, "test": self.test}
        if self.by == "hash":
            return {"by": "hash", **shares, "seed": self.seed, "columns": sorted(features)}
        if self.by == "key":
            return {"by": "key", **shares, "seed": self.seed, "columns": [self.column]}
        if self.by == "time":
            return {"by": "time", **shares, "columns": [self.column], "from": list(self.bounds or ())}
        if self.by == "column":
            return {"by": "column", "columns": [self.column]}
        return {"by": "files", "files": {name: PARTS[side] for name, side in sorted(self.sides.items())}}


def choose_split(settings: dict[str, Any], file_names: list[str]) -> Split:
    """How to split. settings: the sections data and split.

    Raises DataError when a pattern of split.files matches no file, or two match one.
    """
    data, split = settings["data"], settings["split"]
    shares = {"validation": split["validation"], "test": split["test"], "seed": split["seed"]}
    if split["files"]:
        return Split("files", **shares, sides=_file_sides(split["files"], file_names))
    if split["column"]:
        return Split("column", **shares, column=split["column"])
    if data["time"]:
        described = data["columns"].get(data["time"])
        return Split("time", **shares, column=data["time"], format=described["format"] if described else None)
    if data["key"]:
        return Split("key", **shares, column=data["key"])
    return Split("hash", **shares)


def _file_sides(patterns: dict[str, Any], names: list[str]) -> dict[str, int]:
    sides = dict.fromkeys(names, TRAIN)
    for part, side in (("test", TEST), ("validation", VALIDATION)):
        pattern = patterns[part]
        if pattern is None:
            continue
        matched = fnmatch.filter(names, pattern)
        if not matched:
            raise DataError(
                f"no file matches split.files.{part} ({pattern}) in settings.yaml; there are: {', '.join(names[:10])}"
            )
        for name in matched:
            if sides[name] != TRAIN:
                raise DataError(f"{name} matches split.files.test and .validation both: correct the patterns")
            sides[name] = side
    return sides


def positions(hashes: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each hash, shape (rows,), float64; another seed gives independent ones."""
    salt = np.uint64(int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "big"))
    return (mix(hashes ^ salt) >> np.uint64(11)) / float(1 << 53)


def sides_of_positions(position: np.ndarray, validation: float, test: float) -> np.ndarray:
    """TRAIN, VALIDATION or TEST per row, uint8. validation, test: the wanted shares of rows."""
    # test first: changing the share of validation moves no row into or out of test
    sides = np.full(len(position), TRAIN, dtype=np.uint8)
    sides[position < test + validation] = VALIDATION
    sides[position < test] = TEST
    return sides


def sides_of_times(times: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Rows of one instant are together, on the newer side. bounds: from where on rows validate, and test."""
    sides = np.full(len(times), TRAIN, dtype=np.uint8)
    sides[times >= bounds[0]] = VALIDATION
    sides[times >= bounds[1]] = TEST
    return sides


def time_bounds(times: np.ndarray, validation: float, test: float) -> tuple[float, float]:
    """The times from which on rows validate, and test: the newest share of rows tests, the next older validates."""
    times = np.sort(times)
    rows = len(times)
    validation_from = times[min(int(rows * (1 - test - validation)), rows - 1)]
    return validation_from.item(), times[min(int(rows * (1 - test)), rows - 1)].item()


def sides_of_words(values: pa.Array) -> np.ndarray:
    """The sides that a column names. Raises ValueError for a row with another word."""
    words = pc.utf8_lower(texts(values, Missing(MISSING, MISSING, ())))
    found = pc.index_in(words, pa.array(PARTS))
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        raise ValueFault(f"must be train, validation or test, but is {values[row].as_py()!r:.80}", row)
    return found.to_numpy().astype(np.uint8)


def closest_seed(
    hashes_of_classes: list[np.ndarray], validation: float, test: float, seeds: range = range(200)
) -> int | None:
    """The seed under which every class's shares come closest to the wanted ones; None when none gives all classes to
    all parts. hashes_of_classes: the rows' hashes (or a sample of them), class by class."""
    wanted = np.array([1 - validation - test, validation, test])
    best: tuple[float, int] | None = None
    for seed in seeds:
        deviation = 0.0
        for hashes in hashes_of_classes:
            rows = np.bincount(sides_of_positions(positions(hashes, seed), validation, test), minlength=3)
            deviation = max(deviation, float(np.abs(rows / len(hashes) - wanted).max()) if rows.all() else np.inf)
        if deviation < (best[0] if best else np.inf):
            best = deviation, seed
    return best[1] if best else None


# ---- what a value is, as 64 bits ----


def mix(values: np.ndarray) -> np.ndarray:
    """Spreads 64 bits evenly: the last step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def salt_of(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def hash_numbers(values: np.ndarray) -> np.ndarray:
    """Of float64 numbers, NaN too. Numbers that are one float32 are one value: the model cannot tell them apart."""
    return mix((to_float32(values) + np.float32(0)).view(np.uint32).astype(np.uint64) | _NUMBER_SPACE)


def hash_instants(values: np.ndarray) -> np.ndarray:
    """Of microseconds, int64."""
    return mix(values.view(np.uint64) ^ _DATE_SPACE)


def hash_values(values: pa.Array) -> np.ndarray:
    """Of strings without nulls, by what they are: a number or ISO date as text has the number's or date's hash."""
    hashes = hash_texts(values)
    for pattern, hash_typed in ((NUMBER, _hash_number_texts), (DATE, _hash_date_texts)):
        typed = np.flatnonzero(pc.match_substring_regex(values, f"^(?:{pattern})$").to_numpy(zero_copy_only=False))
        if len(typed):
            hashes[typed] = hash_typed(values.take(pa.array(typed)), hashes[typed])
    return hashes


def _hash_number_texts(values: pa.Array, hashes: np.ndarray) -> np.ndarray:
    return hash_numbers(numbers(values, NOTHING_MISSING))


def _hash_date_texts(values: pa.Array, hashes: np.ndarray) -> np.ndarray:
    try:
        return hash_instants(instants(values, NOTHING_MISSING, None))
    except ValueFault:  # one of them looks like a date and is none (2026-02-30): each by itself then
        if len(values) == 1:
            return hashes
        half = len(values) // 2
        parts = (slice(None, half), slice(half, None))
        return np.concatenate([_hash_date_texts(values[part], hashes[part]) for part in parts])


def hash_texts(values: pa.Array) -> np.ndarray:
    """Of the texts' UTF-8 bytes, shape (rows,), uint64. values: strings without nulls."""
    _, offsets_buffer, data_buffer = values.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32, len(values) + values.offset + 1)[values.offset :].astype(np.int64)
    data = np.frombuffer((data_buffer.to_pybytes() if data_buffer else b"") + bytes(8), np.uint8)
    # the eight bytes from every byte on, as one number
    words = np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))
    starts, lengths = offsets[:-1], np.diff(offsets)
    # mixed, or a length would undo a first character: "" and "\x01" would be one text
    hashes = mix(lengths.astype(np.uint64) + _TEXT_SPACE)
    long = lengths > LONG_TEXT
    rows = np.flatnonzero(~long)
    done = 0
    while True:
        left = lengths[rows] - done
        word = words[starts[rows] + done]
        kept = np.minimum(left, 8).astype(np.uint64) * np.uint64(8)
        word = np.where(kept == 64, word, word & ((np.uint64(1) << (kept & np.uint64(63))) - np.uint64(1)))
        hashes[rows] = mix(hashes[rows] ^ word)
        done += 8
        rows = rows[left > 8]
        if not len(rows):
            break
    for row in np.flatnonzero(long):
        digest = hashlib.sha256(data[starts[row] : starts[row] + lengths[row]].tobytes()).digest()
        hashes[row] = int.from_bytes(digest[:8], "big")
    return hashes
