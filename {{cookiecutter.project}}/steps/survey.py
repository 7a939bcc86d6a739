"""The first reading of the data: what every column is, which row is on which side, what the training part looks like.

Pieces of rows are looked at on all cores and merged in their order. What a column is shows only at the end; where a
later piece refutes what earlier ones showed, the data is read once more with what all of it has shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baseline import Statistics, statistics_of
from columns import LEADING_ZEROS, Decoded, decode, decode_as, join
from csv_files import CsvBlock, may_have_leading_zeros
from files import DataError
from split import (
    DROPPED,
    TRAIN,
    VALIDATION,
    Split,
    hash_texts,
    positions,
    sides_of_positions,
    sides_of_times,
    sides_of_words,
    time_bounds,
)
from tables import Data, Piece, in_parallel
from transform import LARGEST, ValueFault, as_text, texts

MAX_CLASSES = 1000
MAX_ROWS_COMPARED = 20_000_000  # eight bytes each; duplicates are not counted in more rows
HASHES_KEPT = 1000  # rows of each class that a better seed is sought with
PROGRESS_SECONDS = 10.0
Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """How columns are read. kinds: of features and target, as far as seen. as_text: numbers that only read as text.

    fixed: kind and date format of what settings.yaml says. features: in the data's order.
    """

    features: list[str]
    target: str
    kinds: dict[str, str]
    fixed: dict[str, tuple[str, str | None]]
    as_text: frozenset[str] = frozenset()

    @property
    def number_columns(self) -> frozenset[str]:
        """What CSV is parsed as numbers at once."""
        return frozenset(name for name, kind in self.kinds.items() if kind in ("number", "empty")) - self.as_text

    def decode(self, name: str, values: pa.Array, data: Data) -> Decoded:
        if name in self.fixed:
            return decode_as(values, data.missing, *self.fixed[name])
        return decode(values, data.missing, self.kinds[name])


@dataclass
class Survey:
    """What the first reading found. sides: per piece, uint8. classes: per label (as text) the rows on each side.

    hashes: per label, of its first rows, for other seeds; "" for regression. duplicates: rows that equal an earlier
    one, None when too many to compare. target: the statistics of a regression's target.
    """

    plan: Plan
    split: Split
    rows: int = 0
    sides: list[np.ndarray] = field(default_factory=list)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    classes: dict[str, np.ndarray] = field(default_factory=dict)
    hashes: dict[str, np.ndarray] = field(default_factory=dict)
    duplicates: int | None = 0
    target: Statistics | None = None

    def rows_on(self, side: int) -> int:
        return sum(int(np.count_nonzero(sides == side)) for sides in self.sides)


@dataclass(frozen=True)
class _Labels:
    """A piece's labels and each row's position among them; or the statistics of a regression's target."""

    labels: Sequence[str | None] = field(default_factory=list)
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    statistics: Statistics | None = None


@dataclass(frozen=True)
class _Found:
    """What one piece shows. kinds: of columns that are not what the plan says; then nothing else is filled in."""

    rows: int
    kinds: dict[str, str]
    as_text: frozenset[str]
    sides: np.ndarray
    statistics: dict[str, Statistics] = field(default_factory=dict)
    labels: _Labels = field(default_factory=lambda: _Labels())
    split_hashes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    row_hashes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))


def survey(data: Data, plan: Plan, split: Split, key: str | None) -> Survey:
    """Reads all rows. key: the column whose rows must stay together, or None.

    Raises DataError naming file, line, column and value that cannot be.
    """
    if split.by == "time":
        split = replace(split, bounds=_time_bounds(data, plan.target, split))
    plan = _first_plan(data, plan, split, key)
    while True:
        found = _read_all(data, plan, split, key)
        if found.plan == plan:
            return found
        plan = found.plan


def at_place(piece: Piece, name: str, fault: ValueFault, is_feature: bool) -> DataError:
    place = piece.file.name if fault.row is None else piece.place(fault.row)
    other = ", or list the column under data.ignore" if is_feature else ""
    return DataError(f"{place}: column {name!r} {fault.fault}: correct the data{other}")


def with_progress(items: Iterable[Result], rows_of: Callable[[Result], int], what: str) -> Iterable[Result]:
    """The items; says once in a while how many rows they had."""
    rows, said = 0, time.monotonic()
    for item in items:
        yield item
        rows += rows_of(item)
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            print(f"{what}: {rows:,} rows so far", flush=True)


def _read_all(data: Data, plan: Plan, split: Split, key: str | None) -> Survey:
    """One reading. The returned survey's plan is `plan` only when all pieces agree with it: else read again."""
    result = Survey(plan, split)
    current = plan
    row_hashes: list[np.ndarray] = []
    keys: list[list[np.ndarray]] = [[], [], []]
    pieces = in_parallel(lambda piece: _look(piece, data, current, split, key), data.pieces())
    for found in with_progress(pieces, lambda found: found.rows, "read"):
        result.rows += found.rows
        current = _widened(current, found)
        if current != plan:
            result = Survey(current, split, rows=result.rows)
            continue
        _merge(result, found)
        if result.duplicates is not None:
            row_hashes.append(found.row_hashes)
        if result.rows > MAX_ROWS_COMPARED:
            result.duplicates, row_hashes = None, []
        for side, of_side in enumerate(keys if key and split.by in ("files", "column") else []):
            of_side[:] = [np.unique(np.concatenate([*of_side, found.keys[found.sides == side]]))]
    if current == plan and result.duplicates is not None and row_hashes:
        hashes = np.concatenate(row_hashes)
        hashes.sort()
        result.duplicates = int(np.count_nonzero(hashes[1:] == hashes[:-1]))
    if any(np.intersect1d(*pair).size for pair in _pairs(keys)):
        raise DataError(
            f"rows of one {key!r} (data.key in settings.yaml) are in more than one part, as split.{split.by} says: "
            "put all rows of a key into one part, or set data.key to null"
        )
    return result


def _pairs(keys: list[list[np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    known = [of_side[0] for of_side in keys if of_side]
    return [(one, other) for number, one in enumerate(known) for other in known[:number]]


def _merge(result: Survey, found: _Found) -> None:
    result.sides.append(found.sides)
    for name, statistics in found.statistics.items():
        result.statistics.setdefault(name, Statistics(statistics.kind)).merge(statistics)
    if found.labels.statistics:
        result.target = result.target or Statistics("number")
        result.target.merge(found.labels.statistics)
    used = found.sides != DROPPED
    labels, codes = found.labels.labels, found.labels.codes
    if not labels:
        _keep_hashes(result, "", found.split_hashes, used)
        return
    counts = np.bincount(codes[used] * 3 + found.sides[used], minlength=3 * len(labels)).reshape(-1, 3)
    for code in np.flatnonzero(counts.any(axis=1)).tolist():
        label = str(labels[code])
        result.classes[label] = result.classes.get(label, 0) + counts[code]
        if len(result.hashes.get(label, ())) < HASHES_KEPT:
            _keep_hashes(result, label, found.split_hashes, used & (codes == code))
    if len(result.classes) > MAX_CLASSES:
        raise DataError(
            f"the target {result.plan.target!r} has more than {MAX_CLASSES:,} classes: set problem_type in "
            "settings.yaml to regression, or correct data.target, or join classes"
        )


def _keep_hashes(result: Survey, label: str, hashes: np.ndarray, rows: np.ndarray) -> None:
    kept = result.hashes.get(label, np.empty(0, dtype=np.uint64))
    if len(hashes) and len(kept) < HASHES_KEPT:
        result.hashes[label] = np.concatenate([kept, hashes[rows][: HASHES_KEPT - len(kept)]])


def _look(piece: Piece, data: Data, plan: Plan, split: Split, key: str | None) -> _Found:
    batch = data.parse(piece, plan.number_columns)
    as_text = _read_as_text(piece, batch, plan)
    if zeros := _with_leading_zeros(piece, data, plan):
        return _Found(batch.num_rows, dict.fromkeys(zeros, "category"), as_text, np.empty(0, dtype=np.uint8))
    decoded: dict[str, Decoded] = {}
    for name in [plan.target, *plan.features]:
        try:
            decoded[name] = plan.decode(name, batch.column(name), data)
        except ValueFault as fault:
            raise at_place(piece, name, fault, name != plan.target) from None
    kinds = {name: of.kind for name, of in decoded.items() if of.kind != plan.kinds[name]}
    if kinds or as_text:
        return _Found(batch.num_rows, kinds, as_text, np.empty(0, dtype=np.uint8))

    if plan.kinds[plan.target] == "date":  # as a label, a date is a text
        decoded[plan.target] = decode_as(batch.column(plan.target), data.missing, "category", None)
    hashes = {name: decoded[name].hashes(name) for name in plan.features}
    features = np.zeros(batch.num_rows, dtype=np.uint64)
    for of_column in hashes.values():
        features += of_column
    has_target = decoded[plan.target].present
    keys = _key_hashes(piece, batch, key, data) if key else np.empty(0, dtype=np.uint64)
    split_hashes = keys if key else features
    sides = _sides(piece, batch, split, split_hashes, data, has_target)
    training = sides == TRAIN
    whole_rows = features + np.uint64(3) * decoded[plan.target].hashes(plan.target)
    return _Found(
        batch.num_rows,
        {},
        as_text,
        sides,
        statistics={name: statistics_of(decoded[name], hashes[name], training) for name in plan.features},
        labels=_labels(piece, plan, decoded[plan.target], sides),
        split_hashes=split_hashes if split.by in ("hash", "key") else np.empty(0, dtype=np.uint64),
        row_hashes=whole_rows[has_target],
        keys=keys,
    )


def _read_as_text(piece: Piece, batch: pa.RecordBatch, plan: Plan) -> frozenset[str]:
    """What should have been parsed as numbers, and was not: of an empty column that says nothing yet."""
    if not isinstance(piece.content, CsvBlock):
        return frozenset()
    return frozenset(name for name in plan.number_columns if pa.types.is_string(batch.schema.field(name).type))


def _with_leading_zeros(piece: Piece, data: Data, plan: Plan) -> list[str]:
    """The columns that were parsed as numbers, but are texts such as 00123."""
    form = piece.file.form
    names = plan.number_columns - plan.fixed.keys()
    if not names or form is None or not isinstance(piece.content, CsvBlock):
        return []
    if not may_have_leading_zeros(piece.content, form):
        return []
    batch = data.parse(piece, frozenset())
    return [
        name
        for name in sorted(names)
        if pc.any(pc.match_substring_regex(pc.ascii_trim_whitespace(batch.column(name)), LEADING_ZEROS)).as_py()
    ]


def _key_hashes(piece: Piece, batch: pa.RecordBatch, key: str, data: Data) -> np.ndarray:
    keys = texts(batch.column(key), data.missing)
    if keys.null_count:
        row = pc.index(pc.is_null(keys), True).as_py()
        raise DataError(f"{piece.place(row)}: no value in the key column {key!r}: fill it, or drop the row")
    return hash_texts(keys)


def _sides(
    piece: Piece, batch: pa.RecordBatch, split: Split, hashes: np.ndarray, data: Data, has_target: np.ndarray
) -> np.ndarray:
    if split.by == "time" and split.bounds:
        sides = sides_of_times(_times(piece, batch, split, data)[0], split.bounds)
    elif split.by == "column":
        try:
            sides = sides_of_words(batch.column(split.column))
        except ValueFault as fault:
            raise at_place(piece, split.column or "", fault, False) from None
    else:
        sides = sides_of_positions(positions(hashes, split.seed), split.validation, split.test)
        if split.by == "files":
            side = split.sides[piece.file.name]
            # without files for validation, a share of the rows that would train validates
            keeps_share = side == TRAIN and VALIDATION not in split.sides.values()
            shared = sides_of_positions(positions(hashes, split.seed), split.validation, 0.0)
            sides = shared if keeps_share else np.full(len(sides), side, dtype=np.uint8)
    return np.where(has_target, sides, np.uint8(DROPPED))


def _times(piece: Piece, batch: pa.RecordBatch, split: Split, data: Data) -> tuple[np.ndarray, str]:
    """The rows' times, and whether they are "number" or "date". Raises DataError for a row without a time."""
    column = split.column or ""
    values = batch.column(column)
    try:
        kind = "date" if split.format else decode(values, data.missing, "empty").kind
        decoded = decode_as(values, data.missing, kind if kind in ("number", "empty") else "date", split.format)
    except ValueFault as fault:
        place = piece.file.name if fault.row is None else piece.place(fault.row)
        raise DataError(
            f"{place}: the time column {column!r} {fault.fault}: write such dates (or numbers) in every row, or set "
            "their format under data.columns"
        ) from None
    if not decoded.present.all():
        row = int((~decoded.present).argmax())
        raise DataError(f"{piece.place(row)}: no value in the time column {column!r}: fill it, or drop the row")
    found = decoded.numbers if decoded.numbers is not None else decoded.instants
    return (np.empty(0) if found is None else found), decoded.kind


def _time_bounds(data: Data, target: str, split: Split) -> tuple[float, float]:
    """From where on rows validate and test: of all rows that have a target."""

    def times_of(piece: Piece) -> tuple[np.ndarray, str]:
        batch = data.parse(piece, frozenset())
        labelled = texts(batch.column(target), data.missing).is_valid().to_numpy(zero_copy_only=False)
        times, kind = _times(piece, batch, split, data)
        return times[labelled], kind

    found = list(in_parallel(times_of, data.pieces()))
    kinds = {kind for _, kind in found}
    if len(kinds) > 1:
        raise DataError(
            f"the time column {split.column!r} holds numbers and dates: write ISO 8601 (2026-11-21 or "
            "2026-11-21T08:30:00Z) or numbers everywhere"
        )
    times = np.concatenate([times for times, _ in found]) if found else np.empty(0)
    return time_bounds(times, split.validation, split.test) if len(times) else (0.0, 0.0)


def _labels(piece: Piece, plan: Plan, decoded: Decoded, sides: np.ndarray) -> _Labels:
    if plan.kinds[plan.target] == "number" and decoded.numbers is not None:
        if plan.target in plan.fixed:
            beyond = decoded.present & ~(np.abs(decoded.numbers) <= LARGEST)
            if beyond.any():
                row = int(beyond.argmax())
                fault = ValueFault(f"holds {decoded.numbers[row]:g}: a target must lie within +-{LARGEST:g}", row)
                raise at_place(piece, plan.target, fault, False)
            used = sides != DROPPED
            return _Labels(statistics=statistics_of(decoded, decoded.hashes(plan.target), used))
        values, codes = np.unique(np.where(decoded.present, decoded.numbers, 0.0), return_inverse=True)
        labels = [as_text(value) for value in values.tolist()]
    elif decoded.texts is not None and decoded.codes is not None:  # dates too, see _look
        labels, codes = decoded.texts.to_pylist(), decoded.codes
    else:
        return _Labels()
    return _Labels(labels, codes)


def _first_plan(data: Data, plan: Plan, split: Split, key: str | None) -> Plan:
    """What the first rows show: mostly what all rows will, so that one reading is enough."""
    piece = next(data.pieces(), None)
    first = piece.first_rows() if piece else None
    while first is not None:
        found = _look(first, data, plan, split, key)
        wider = _widened(plan, found)
        if wider == plan:
            break
        plan = wider
    return plan


def _widened(plan: Plan, found: _Found) -> Plan:
    kinds = {name: join(kind, found.kinds.get(name, kind)) for name, kind in plan.kinds.items()}
    return replace(plan, kinds=kinds, as_text=plan.as_text | found.as_text)
