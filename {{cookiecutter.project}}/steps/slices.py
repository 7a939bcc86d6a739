"""The metrics on parts of the test rows, and how a classifier treats the groups of a protected column."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from estimates import Estimate, defined, ratio
from metrics import Scored, measure
from transform import NO_INSTANT, Missing, Transform, instants, numbers, texts

LARGEST_GROUPS = 20
NUMBER_BINS = 5
MISSING_VALUE, OTHER = "(missing)", "(other)"
# With fewer rows a group's share says little: it is shown, but no ratio and no worst value rests on it.
ENOUGH_ROWS = 30
MOST_CLASSES = 20
_ENDS = (("", "value"), ("_lower", "lower"), ("_upper", "upper"))


class FairnessError(ValueError):
    """The protected column is not what the settings say."""


@dataclass(frozen=True)
class Groups:
    """names: the groups' names. codes: the group of each row, shape (rows,)."""

    names: list[str]
    codes: np.ndarray

    def rows_of(self) -> list[np.ndarray]:
        """The positions of each group's rows."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self.names)))
        return np.split(order, ends[:-1])


def group_rows(column: pa.ChunkedArray, name: str, transform: Transform) -> Groups:
    """The rows by the column's values: the most frequent ones as text; of more values, numbers and dates in bins.

    A number or a date is what the model takes for one, or, in a column that it does not see, what is nothing else.
    """
    missing = Missing.of(transform.missing)
    column_of_model = next((known for known in transform.columns if known.name == name), None)
    kind, form = (column_of_model.kind, column_of_model.format) if column_of_model else (None, None)
    # the distinct values, so that a column of text is parsed once per value
    encoded = column.combine_chunks()
    encoded = encoded if pa.types.is_dictionary(encoded.type) else encoded.dictionary_encode()
    values = encoded.dictionary
    place = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    if len(values) > LARGEST_GROUPS:
        for other, read, show in (("number", numbers, _shown_numbers), ("date", _instants(form), _shown_dates)):
            if kind not in (None, other):
                continue
            try:
                found = np.append(read(values, missing), np.nan)[place]
            except ValueError:
                continue  # not a column of these
            if not np.isnan(found).all():
                return _bins(found, show)
    written = texts(values, missing).to_pylist()
    return _most_frequent([MISSING_VALUE if text is None else text for text in [*written, None]], place)


def slice_metrics(scored: Scored, groups: Groups) -> list[dict[str, Any]]:
    """Of each group: value, rows, metrics (by name: value, lower, upper, standard_deviation; None: undefined)."""
    found = []
    for name, rows in zip(groups.names, groups.rows_of(), strict=True):
        if len(rows):
            found.append({"value": name, "rows": len(rows), "metrics": measure(scored.rows(rows))})
    return found


def worst(slices: list[dict[str, Any]], metric: str) -> float:
    """The metric's worst value among the slices of enough rows; NaN when it is defined in none of them."""
    large = [part["metrics"][metric] for part in slices if part["rows"] >= ENOUGH_ROWS]
    known: list[Estimate] = [estimate for estimate in large if not math.isnan(estimate.value)]
    if not known:
        return math.nan
    return (min if known[0].higher_is_better else max)(estimate.value for estimate in known)


def fairness(scored: Scored, groups: Groups, column: str, reference: str | None) -> dict[str, Any]:
    """How often each group of a protected column is chosen, and how often it is when it should be.

    For the positive class, or each of several classes: the selection rate is the share of a group's rows that are
    predicted to be of the class, its ratio is to the reference group's (the four-fifths rule of the EEOC's Uniform
    Guidelines, 29 CFR 1607.4 D, asks for 0.8); equal opportunity compares the true positive rates (Hardt, Price and
    Srebro, 2016). Without a reference it is the group chosen most often. Returns the report's `fairness`.
    Raises FairnessError when the reference is no value of the column.
    """
    if reference is not None and reference not in groups.names:
        known = ", ".join(map(repr, groups.names))
        raise FairnessError(
            f"evaluate.fairness.reference {reference!r} is no value of {column!r} in the test rows: "
            f"choose among {known}"
        )
    binary = scored.problem_type == "binary_classification"
    frequent = np.argsort(-np.bincount(scored["actual"].astype(np.int64), minlength=len(scored.classes)), kind="stable")
    chosen_classes = [1] if binary else frequent[:MOST_CLASSES].tolist()
    entries = []
    for position in chosen_classes:
        qualified, selected = scored["actual"] == position, scored.predicted == position
        entries.append(_fairness_of_class(scored.classes[position], qualified, selected, groups, reference))
    return {
        "column": column,
        "reference": entries[0]["reference"],
        "reference_chosen": reference is None,
        "classes": entries,
    }


def fairness_values(found: dict[str, Any]) -> dict[str, float]:
    """The gate's numbers: the worst class's least ratio, and greatest difference; NaN when no group can be compared."""
    ratios = [entry["selection_rate_ratio"] for entry in found["classes"]]
    differences = [entry["equal_opportunity_difference"] for entry in found["classes"]]
    values = {
        "fairness.selection_rate_ratio": min((it for it in ratios if it is not None), default=math.nan),
        "fairness.equal_opportunity_difference": max((it for it in differences if it is not None), default=math.nan),
    }
    for entry in found["classes"] if len(found["classes"]) == 1 else ():
        for group in entry["groups"]:
            for name in ("selection_rate", "true_positive_rate"):
                value = group[name]
                values[f"fairness.{group['value']}.{name}"] = math.nan if value is None else value
    return values


def _fairness_of_class(
    label: str, qualified: np.ndarray, selected: np.ndarray, groups: Groups, reference: str | None
) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for name, rows in zip(groups.names, groups.rows_of(), strict=True):
        if not len(rows):
            continue
        rate = ratio(selected[rows], np.ones(len(rows))).numbers()
        hits = ratio(selected[rows] & qualified[rows], qualified[rows]).numbers()
        found.append(
            {
                "value": name,
                "rows": len(rows),
                "counted": len(rows) >= ENOUGH_ROWS and name != MISSING_VALUE,
                **{f"selection_rate{end}": rate[key] for end, key in _ENDS},
                "positives": int(qualified[rows].sum()),
                **{f"true_positive_rate{end}": hits[key] for end, key in _ENDS},
            }
        )
    counted = [group for group in found if group["counted"]]
    favoured = max(counted, key=lambda group: group["selection_rate"], default=None)
    base = next((group for group in found if group["value"] == reference), None) if reference is not None else favoured
    for group in found:
        group["ratio"] = None
        if base is not None and base["selection_rate"]:
            group["ratio"] = group["selection_rate"] / base["selection_rate"]
    others = [group for group in counted if base is not None and group is not base]
    ratios = [group["ratio"] for group in others if group["ratio"] is not None]
    gaps = [
        abs(group["true_positive_rate"] - base["true_positive_rate"])
        for group in others
        if base is not None and group["true_positive_rate"] is not None and base["true_positive_rate"] is not None
    ]
    return {
        "class": label,
        "selection_rate_ratio": min(ratios, default=None),
        "equal_opportunity_difference": defined(max(gaps, default=None)),
        "groups": found,
        "reference": None if base is None else base["value"],
    }


def _bins(found: np.ndarray, show: Callable[[np.ndarray], list[str]]) -> Groups:
    """Numbers in NUMBER_BINS bins of about equal rows, named by their bounds as `show` writes them; missing ones."""
    present = ~np.isnan(found)
    edges = np.unique(np.quantile(found[present], np.linspace(0, 1, NUMBER_BINS + 1), method="lower"))
    last = max(1, len(edges) - 1)
    codes = np.clip(np.searchsorted(edges, found, side="right") - 1, 0, last - 1)
    codes[~present] = last
    shown = show(edges)
    names = [f"[{low}, {high})" for low, high in pairwise(shown[:-1])]
    names.append(f"[{shown[max(0, len(shown) - 2)]}, {shown[-1]}]")
    return Groups([*names, MISSING_VALUE], codes)


def _instants(form: str | None) -> Callable[[pa.Array, Missing], np.ndarray]:
    """Reads dates as microseconds since 1970, float64, missing as NaN. form: the `format` of transform.instants."""

    def read(values: pa.Array, missing: Missing) -> np.ndarray:
        found = instants(values, missing, form)
        return np.where(found == NO_INSTANT, np.nan, found)

    return read


def _shown_dates(edges: np.ndarray) -> list[str]:
    """Microseconds since 1970 as ISO 8601, days alone where that is all there is to them."""
    exact = edges.astype(np.int64).astype("datetime64[us]")
    days = exact.astype("datetime64[D]")
    return [str(edge) for edge in (days if (days == exact).all() else exact)]


def _shown_numbers(edges: np.ndarray) -> list[str]:
    """Rising numbers as text: whole ones in full, others with as many digits as it takes to tell them apart."""
    for digits in range(6, 18):
        whole = (np.isfinite(edges) & (np.abs(edges) < 1e15) & (edges == np.rint(edges))).tolist()
        shown = [
            str(int(edge)) if is_whole else f"{edge:.{digits}g}" for edge, is_whole in zip(edges, whole, strict=True)
        ]
        if len(set(shown)) == len(shown):
            break
    return shown


def _most_frequent(written: list[str], place: np.ndarray) -> Groups:
    """written: the text of each distinct value; place: each row's distinct value."""
    names, folded = np.unique(np.array(written, dtype=object).astype(str), return_inverse=True)
    codes = folded[place]
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    kept = [position for position in order[:LARGEST_GROUPS] if counts[position]]
    new = np.full(len(names), len(kept))
    new[kept] = np.arange(len(kept))
    return Groups([*(str(names[position]) for position in kept), OTHER], new[codes])
